"""The one entry point: run file, frame index and snapshot in, plan out.

Pure: the same arguments give the same plan, byte for byte, whatever the order of files, the hash seed or the host.
"""

from __future__ import annotations

from collections.abc import Mapping

from apero_dask.core.declare import registered
from apero_dask.core.errors import Findings
from apero_dask.core.frames import FrameIndex
from apero_dask.core.names import ObjectNames
from apero_dask.core.outcome import Marker
from apero_dask.core.plan import Node, Plan, Step, StepCount
from apero_dask.core.products import MASTER, NIGHT, Life
from apero_dask.core.settings import Settings
from apero_dask.core.snapshot import Snapshot
from apero_dask.instruments.base import Instrument
from apero_dask.planner.catalogue import Catalogue
from apero_dask.planner.expand import Expander, Request
from apero_dask.planner.explicit import ALWAYS_MASTER, plan_line
from apero_dask.planner.filters import Rejection, Targets, select, targets
from apero_dask.planner.order import check_acyclic
from apero_dask.planner.selection import local_midnight
from apero_dask.planner.sequences import SEQUENCES, Row, describe, labels
from apero_dask.planner.skip import mark_skipped
from apero_dask.planner.transmissions import add_model_nodes

MASTER_GATE = "GATE-MASTER_OK"


def is_active(row: Row, settings: Settings) -> bool:
    """Whether the switch of a row is on; a macro has one switch for all its rows."""
    return settings.runs(row.macro or row.short, row.part)


def _active_master(settings: Settings) -> dict[int, str]:
    """First active master step of every request that has one."""
    found: dict[int, str] = {}
    for request in settings.requests:
        for row in SEQUENCES.get(request.sequence, ()):
            if row.scope in ("archive", "master") and is_active(row, settings):
                found.setdefault(request.number, row.short)
        if request.command is not None:
            short = registered()[request.command.recipe].short
            if short in ALWAYS_MASTER and settings.runs(short):
                found.setdefault(request.number, short)
    return found if not settings.trigger_run else {}


def _master_night(
    settings: Settings, snapshot: Snapshot, needed: Mapping[int, str], findings: Findings
) -> str:
    """Configured master night, else the only one of the database."""
    if settings.master_obs_dir is not None:
        return settings.master_obs_dir
    named = {
        request.command.obs_dir
        for request in settings.requests
        if request.command is not None and request.number in needed and request.command.obs_dir
    }
    if needed and len(named) == 1 and not any(r.sequence and r.number in needed for r in settings.requests):
        return named.pop()
    if needed:
        findings.add("E-MASTER-UNSET", short=next(iter(needed.values())))
        return ""
    stored = sorted(
        {
            marker.obs_dir
            for marker in snapshot.calibrations()
            if marker.tier == MASTER and any(_is_reference(marker) for _ in (0,))
        }
    )
    if len(stored) > 1:
        short = next((row.short for r in settings.requests for row in SEQUENCES.get(r.sequence, ())), "cal")
        findings.add("E-MASTER-UNSET", short=short)
    return stored[0] if len(stored) == 1 else ""


def _is_reference(marker: Marker) -> bool:
    from apero_dask.core.products import KINDS

    return any(KINDS[output.kind].life is Life.REFERENCE for output in marker.outputs)


def build_plan(
    index: FrameIndex,
    settings: Settings,
    instrument: Instrument,
    *,
    snapshot: Snapshot | None = None,
    names: ObjectNames | None = None,
    rejections: Mapping[str, Rejection] | None = None,
    only_show: bool = True,
    resume: str = "",
) -> Plan:
    """Plan every run that ``settings`` asks for.

    Parameters
    ----------
    index : FrameIndex
        All usable frames of the archive.
    settings : Settings
        Merged run file and command line.
    instrument : Instrument
        Whose frames these are.
    snapshot : Snapshot, optional
        What earlier invocations left; default: nothing.
    names : ObjectNames, optional
        Alias table.
    rejections : mapping, optional
        Reject list by identifier.
    only_show : bool
        The plan will not be executed: archive steps take every frame, missing reference products are warnings.
    resume : str
        Interrupted invocation that is continued.

    Returns
    -------
    Plan
        With everything found in ``findings``; errors among them mean that it must not be executed.
    """
    import apero_dask.recipes  # noqa: F401  (registers the declarations)

    findings = Findings(settings.run_file)
    findings.extend(index.findings)
    snapshot = snapshot or Snapshot()
    names = names or ObjectNames()
    masters = _active_master(settings)
    master_night = _master_night(settings, snapshot, masters, findings)
    sequences = [r.sequence for r in settings.requests if r.sequence]
    if settings.trigger_run and settings.night_name is None:
        findings.add("E-TRIGGER-NIGHT", line=settings.lines.get("TRIGGER_RUN", 0))
    selected = select(
        index,
        settings,
        findings,
        rejections or {},
        master_night,
        bool(masters),
        snapshot.tree,
        any(SEQUENCES[name] for name in sequences),
    )
    midnights = {
        night: local_midnight(frames, instrument.longitude, settings.calib_db_dayfrac)
        for night, frames in selected.night_frames.items()
    }
    catalogue = Catalogue(settings, snapshot, findings, master_night, midnights, only_show)
    expander = Expander(
        settings, instrument, registered(), selected, snapshot, catalogue, findings, only_show, names=names
    )
    _expand_all(expander, index, masters)
    gate = _master_gate(expander, masters)
    nodes = [gate] if gate is not None else []
    plan = Plan.of(instrument.name, expander.tasks, [*nodes, *expander.nodes], expander.counts)
    order = check_acyclic(plan)
    mark_skipped(plan, order, settings, snapshot, findings, resume)
    return Plan(plan.instrument, plan.tasks, plan.nodes, plan.counts, tuple(findings), plan.by_key)


def _targets(expander: Expander, index: FrameIndex, findings: Findings) -> tuple[Targets, Targets]:
    """Targets of the run file, and those of a full reduction."""
    settings = expander.settings
    limited = any(
        row.targets in ("telluric", "science") and not row.macro
        for request in settings.requests
        if request.sequence != "full_seq"
        for row in SEQUENCES.get(request.sequence, ())
    )
    asked = targets(index, settings, findings, expander.names, limited)
    whole = targets(index, settings, findings, expander.names, False)
    if any(request.sequence == "full_seq" for request in settings.requests):
        for key, given in (
            ("TELLURIC_TARGETS", settings.telluric_targets),
            ("SCIENCE_TARGETS", settings.science_targets),
        ):
            if given is not None:
                findings.add("I-TARGETS-IGNORED", line=settings.lines.get(key, 0), key=key)
    return asked, whole


def _expand_all(expander: Expander, index: FrameIndex, masters: Mapping[int, str]) -> None:
    settings, findings = expander.settings, expander.findings
    asked, whole = _targets(expander, index, findings)
    has_master = False
    for wanted in settings.requests:
        has_master = has_master or wanted.number in masters
        full = wanted.sequence == "full_seq"
        request = Request(wanted.number, whole if full else asked, full, has_master)
        if wanted.command is not None:
            plan_line(expander, request, wanted, wanted.command)
        else:
            rows = SEQUENCES[wanted.sequence]
            expander.future_templates |= _coming_templates(expander, request, rows)
            for row, label in zip(rows, labels(rows), strict=True):
                _expand_row(expander, request, row, label)
        expander.catalogue.freeze()
        add_model_nodes(expander, request)
        for task in request.tasks:
            task.selections = expander.catalogue.selections(task)
        expander.catalogue.report_missing(request.tasks)


def _coming_templates(expander: Expander, request: Request, rows: tuple[Row, ...]) -> frozenset[str]:
    """Objects whose template the rows make anew."""
    return frozenset(
        frame.frame_class
        for row in rows
        if row.scope == "object" and is_active(row, expander.settings)
        for frame in expander.selected.frames
        if expander.takes(request, row, frame) and not expander.keeps_template(frame.frame_class)
    )


def _expand_row(expander: Expander, request: Request, row: Row, label: str) -> None:
    settings = expander.settings
    switch = row.macro or row.short
    step = Step(
        request=request.number,
        label=label,
        short=row.short,
        part=row.part,
        recipe=expander.recipes[row.recipe],
        tier=MASTER if row.scope in ("archive", "master") else NIGHT,
        variant=row.variant,
        skip=settings.skips(switch, row.part),
        text=describe(row),
    )
    if is_active(row, settings):
        expander.expand(request, row, step)
    elif row.short != "SCIPOST":
        expander.counts.append(StepCount(step, 0, (f"switched off: RUN_{switch} = False",)))


def _master_gate(expander: Expander, masters: Mapping[int, str]) -> Node | None:
    """Gate that every night run waits for; None without an active master step."""
    members = [key for key in expander.master_keys if int(key.partition(".")[0]) in masters]
    if not members:
        return None
    first = min(masters)
    for task in expander.tasks:
        if task.step.tier == NIGHT and task.step.request >= first and task.step.recipe.tree_in != "raw":
            task.gate = MASTER_GATE
    return Node(MASTER_GATE, "gate", tuple(members))
