"""Internal nodes that turn a set of telluric transmissions into one residual model."""

from __future__ import annotations

from apero_dask.core.outcome import State
from apero_dask.core.plan import Node
from apero_dask.planner.expand import Expander, Request

MODELS = {"telluric": ("PCA1", "TRANS1", ""), "science": ("PCA2", "TRANS2", "TRANS1")}
"""Node name, transmissions, and those used instead when no transmission of the first kind passed."""


def _set(expander: Expander, kind: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Planned members in canonical order, and stored transmissions of nights that are not made again.

    In trigger mode the databases count as they stand, tonight's transmissions do not.
    """
    if not kind:
        return (), ()
    planned = [] if expander.settings.trigger_run else expander.transmissions.get(kind, [])
    planned = [task for task in planned if task.state is not State.SKIPPED_USER]
    again = {task.stem for task in planned}
    nights = set(expander.selected.nights) if planned else set()
    stored = [
        output.path
        for marker, output in expander.snapshot.of_kind(kind)
        if marker.stem not in again and marker.obs_dir not in nights
    ]
    ordered = sorted(planned, key=lambda task: (task.time, task.stem))
    return tuple(task.key for task in ordered), tuple(stored)


def add_model_nodes(expander: Expander, request: Request) -> None:
    """Give every telluric fit of a request the node it depends on."""
    for which, (name, kind, instead) in MODELS.items():
        fits = [
            task
            for task in request.tasks
            if task.step.recipe.name == "obj_fit_tellu"
            and (task.step.short == "MKTELLU2") == (which == "telluric")
        ]
        if not fits:
            continue
        members, stored = _set(expander, kind)
        fallback, fallback_stored = _set(expander, instead)
        node = Node(
            key=f"{name}-{request.number:05d}",
            kind="model",
            members=members,
            stored=stored,
            fallback=fallback,
            fallback_stored=fallback_stored,
            product="MODEL1" if name == "PCA1" else "MODEL2",
        )
        same = [
            n
            for n in expander.nodes
            if (n.product, n.members, n.stored, n.fallback, n.fallback_stored)
            == (node.product, node.members, node.stored, node.fallback, node.fallback_stored)
        ]
        if same:
            node = same[0]
        else:
            expander.nodes.append(node)
        if not (members or stored or fallback or fallback_stored):
            expander.findings.add(
                "W-NO-CALIB",
                short=fits[0].step.short,
                key="TELLU_TRANS",
                n=len(fits),
                first=fits[0].stem,
                sequence="tellu_seq",
            )
        for task in fits:
            task.depends = (*task.depends, node.key)
