"""Internal nodes that turn a set of telluric transmissions into one residual model."""

from __future__ import annotations

from apero_dask.core.plan import Inputs, Node
from apero_dask.planner.draft import Draft, Request
from apero_dask.planner.skip import MODEL

SETS = {"PCA1": ("MODEL1", "TRANS1", ""), "PCA2": ("MODEL2", "TRANS2", "TRANS1")}
"""Node -> product, transmissions, and those used instead when no transmission of the first kind passed."""


def _members(draft: Draft, request: Request, kind: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Planned members sorted by time, and stored transmissions that are not made again.

    Where a sequence makes transmissions, stored ones of stars that are telluric targets no more do not count.
    In trigger mode the database counts as it stands, without what tonight's runs are about to write.
    """
    if not kind:
        return (), ()
    planned = draft.transmissions.get(kind, [])
    again = {task.stem for task in planned}
    trigger = draft.settings.trigger_run
    by_sequence = not trigger and any(task.step.label != "00" for task in planned)
    stored = [
        output.path
        for marker, output in draft.stored(kind)
        if marker.stem not in again and (not by_sequence or marker.object in request.targets.telluric)
    ]
    ordered = [] if trigger else sorted(planned, key=lambda task: (task.time, task.stem))
    return tuple(task.key for task in ordered), tuple(stored)


def model_input(draft: Draft, request: Request, first: bool) -> Inputs:
    """Residual model of all transmissions made so far, as the input of a telluric fit.

    ``first``: of the first transmissions, for the hot stars themselves; else of those made with a template.
    """
    known = request.models.get(first)
    if known is not None:
        return known
    name = "PCA1" if first else "PCA2"
    key = f"{name}-{request.number:05d}"
    product, kind, instead = SETS[name]
    members, stored = _members(draft, request, kind)
    fallback, fallback_stored = _members(draft, request, instead)
    node = Node(
        key=key,
        kind="model",
        members=members,
        stored=stored,
        fallback=fallback,
        fallback_stored=fallback_stored,
        product=product,
    )
    same = next((n for n in draft.nodes if _set_of(n) == _set_of(node)), None)
    if same is not None:
        node = same
    else:
        draft.nodes.append(node)
    path = node.outputs()[0][2]
    found = request.models[first] = Inputs(MODEL, product, ("AB",), (), (node.key,), (path,))
    return found


def _set_of(node: Node) -> tuple[object, ...]:
    return (node.product, node.members, node.stored, node.fallback, node.fallback_stored)


def report_empty(draft: Draft, request: Request) -> None:
    """Report fits whose set of transmissions is empty."""
    empty = {
        node.key
        for node in draft.nodes
        if not (node.members or node.stored or node.fallback or node.fallback_stored)
    }
    for model in request.models.values():
        fits = [task for task in request.tasks if model in task.inputs] if model.producers[0] in empty else []
        if fits:
            draft.findings.add(
                "W-NO-CALIB",
                short=fits[0].step.short,
                key="TELLU_TRANS",
                n=len(fits),
                first=fits[0].stem,
                sequence="tellu_seq",
            )
