"""The one entry point: run file, frame index and snapshot in, plan out.

Pure: the same arguments give the same plan, byte for byte, whatever the order of files, hash seed or host.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

import apero_dask.recipes  # noqa: F401  (registers the declarations)
from apero_dask.core.collector import collector_paused
from apero_dask.core.declare import Recipe, registered
from apero_dask.core.errors import Findings
from apero_dask.core.frames import FrameIndex
from apero_dask.core.names import ObjectNames
from apero_dask.core.plan import Node, Plan, Task
from apero_dask.core.products import KINDS, MASTER, NIGHT, Life
from apero_dask.core.settings import Request as RunFileRequest
from apero_dask.core.settings import Settings
from apero_dask.core.snapshot import Snapshot
from apero_dask.instruments.base import Instrument
from apero_dask.planner.catalogue import Catalogue
from apero_dask.planner.draft import Draft, Request
from apero_dask.planner.expand import expand_row, is_active, step_of
from apero_dask.planner.explicit import plan_line, tier_of
from apero_dask.planner.filters import Rejection, Targets, select, takes, targets
from apero_dask.planner.order import check_acyclic
from apero_dask.planner.selection import midnights
from apero_dask.planner.sequences import SEQUENCES, Row, labels
from apero_dask.planner.skip import mark_skipped
from apero_dask.planner.templates import coming_templates
from apero_dask.planner.transmissions import report_empty
from apero_dask.planner.waiting import add_order_nodes

MASTER_GATE = "GATE-MASTER_OK"


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
        The plan will not be executed: archive steps take every frame, missing reference products only warn.
    resume : str
        Interrupted invocation that is continued.

    Returns
    -------
    Plan
        With everything found in ``findings``; errors among them mean that it must not be executed.
    """
    with collector_paused():
        return _build(
            index,
            settings,
            instrument,
            snapshot or Snapshot(),
            names or ObjectNames(),
            rejections or {},
            only_show,
            resume,
        )


def _build(
    index: FrameIndex,
    settings: Settings,
    instrument: Instrument,
    snapshot: Snapshot,
    names: ObjectNames,
    rejections: Mapping[str, Rejection],
    only_show: bool,
    resume: str,
) -> Plan:
    findings = Findings(settings.run_file)
    findings.extend(index.findings)
    recipes = registered()
    masters = _active_master(settings, recipes)
    master_night = _master_night(settings, recipes, snapshot, masters, findings)
    if settings.trigger_run and settings.night_name is None:
        findings.add("E-TRIGGER-NIGHT", line=settings.lines.get("TRIGGER_RUN", 0))
    selected = select(
        index,
        settings,
        findings,
        rejections,
        master_night,
        bool(masters),
        snapshot.tree,
        any(SEQUENCES.get(request.sequence) for request in settings.requests),
    )
    times = midnights(selected.night_frames, snapshot, instrument.longitude, settings.calib_db_dayfrac)
    draft = Draft(
        settings=settings,
        instrument=instrument,
        recipes=recipes,
        selected=selected,
        snapshot=snapshot,
        catalogue=Catalogue(settings, snapshot, findings, master_night, times, only_show),
        findings=findings,
        only_show=only_show,
        names=names,
        has_master=bool(masters),
    )
    requests = _plan_requests(draft, index)
    nodes = _master_gates(draft, requests, masters)
    nodes += add_order_nodes(draft, settings.requests, requests)
    nodes += draft.nodes
    by_key: dict[str, Task | Node] = {**draft.by_key}
    by_key.update((node.key, node) for node in nodes)
    plan = Plan(instrument.name, tuple(draft.tasks), tuple(nodes), tuple(draft.counts), (), by_key)
    mark_skipped(plan, check_acyclic(plan), settings, snapshot, findings, resume)
    return replace(plan, findings=tuple(findings))


def _active_master(settings: Settings, recipes: Mapping[str, Recipe]) -> dict[int, str]:
    """First active master step of every request that has one; none in trigger mode."""
    found: dict[int, str] = {}
    if settings.trigger_run:
        return found
    for request in settings.requests:
        for row in SEQUENCES.get(request.sequence, ()):
            if row.scope in ("archive", "master") and is_active(row, settings):
                found.setdefault(request.number, row.short)
        if request.command is not None:
            recipe = recipes[request.command.recipe]
            if tier_of(recipe, request.command) == MASTER and settings.runs(recipe.short):
                found.setdefault(request.number, recipe.short)
    return found


def _master_night(
    settings: Settings,
    recipes: Mapping[str, Recipe],
    snapshot: Snapshot,
    masters: Mapping[int, str],
    findings: Findings,
) -> str:
    """Configured master night, else the one explicit master lines name, else the only one of the database."""
    if settings.master_obs_dir is not None:
        return settings.master_obs_dir
    commands = {r.number: r.command for r in settings.requests}
    named = {command.obs_dir for n in masters if (command := commands[n]) is not None and command.obs_dir}
    if masters and len(named) == 1 and all(commands[n] is not None for n in masters):
        return named.pop()
    if masters:
        findings.add("E-MASTER-UNSET", short=next(iter(masters.values())))
        return ""
    stored = sorted(
        {
            marker.obs_dir
            for marker in snapshot.calibrations()
            if marker.tier == MASTER and any(KINDS[o.kind].life is Life.REFERENCE for o in marker.outputs)
        }
    )
    if len(stored) > 1:
        short = next((s for r in settings.requests for s in _selecting(settings, recipes, r)), "")
        if short:
            findings.add("E-MASTER-UNSET", short=short)
        return ""
    return stored[0] if stored else ""


def _selecting(settings: Settings, recipes: Mapping[str, Recipe], request: RunFileRequest) -> list[str]:
    """Short names of the active steps of a request that use calibrations."""
    if request.command is not None:
        recipe = recipes[request.command.recipe]
        return [recipe.short] if recipe.selects or not recipe.arguments else []
    rows = SEQUENCES[request.sequence]
    return [row.short for row in rows if is_active(row, settings) and recipes[row.recipe].selects]


def _targets(draft: Draft, index: FrameIndex) -> tuple[Targets, Targets]:
    """Targets of the run file, and those of a full reduction."""
    settings, findings = draft.settings, draft.findings
    limited = any(
        row.targets in ("telluric", "science")
        for request in settings.requests
        if request.sequence != "full_seq"
        for row in SEQUENCES.get(request.sequence, ())
    )
    asked = targets(index, settings, findings, draft.names, limited)
    whole = targets(index, settings, findings, draft.names, False)
    if any(request.sequence == "full_seq" for request in settings.requests):
        for key, given in (
            ("TELLURIC_TARGETS", settings.telluric_targets),
            ("SCIENCE_TARGETS", settings.science_targets),
        ):
            if given is not None:
                findings.add("I-TARGETS-IGNORED", line=settings.lines.get(key, 0), key=key)
    return asked, whole


def _plan_requests(draft: Draft, index: FrameIndex) -> list[Request]:
    """Plan id after id; each sees what the earlier ones make, and nothing of the later ones."""
    asked, whole = _targets(draft, index)
    requests: list[Request] = []
    for wanted in draft.settings.requests:
        chosen = whole if wanted.sequence == "full_seq" else asked
        request = Request(wanted.number, chosen, wanted.command is not None, wanted.line)
        requests.append(request)
        if wanted.command is not None:
            plan_line(draft, request, wanted, wanted.command)
        else:
            rows = SEQUENCES[wanted.sequence]
            active = [is_active(row, draft.settings) for row in rows]
            draft.future_templates |= coming_templates(draft, request, rows, active)
            first = len(draft.counts)
            for row, label in zip(rows, labels(rows), strict=True):
                expand_row(draft, request, row, step_of(draft, request, row, label))
            _note_untaken(draft, request, rows)
            if draft.selected.left_out and not any(row.scope == "frames" for row in rows) and rows:
                # Preprocessing names the frames left out; without it the first step of the sequence does.
                count = draft.counts[first]
                draft.counts[first] = replace(count, reasons=(*draft.selected.left_out, *count.reasons))
        draft.catalogue.freeze()
        report_empty(draft, request)
        for task in request.tasks:
            task.selections = draft.catalogue.selections(task)
        draft.catalogue.report_missing(request.tasks)
        request.frames.clear()
    return requests


def _note_untaken(draft: Draft, request: Request, rows: Sequence[Row]) -> None:
    """Say at the last row of a preprocessing sequence which frames belong to none of its rows."""
    if not rows or any(row.scope != "frames" for row in rows):
        return
    left = [f for f in draft.selected.frames if not any(takes(request.targets, row, f) for row in rows)]
    if left:
        types = Counter(frame.dprtype for frame in left)
        counted = ", ".join(f"{name} {number}" for name, number in sorted(types.items()))
        reason = f"{len(left)} frame(s) belong to no step of this sequence: {counted}"
        draft.counts[-1] = replace(draft.counts[-1], reasons=(*draft.counts[-1].reasons, reason))


def _master_gates(draft: Draft, requests: Sequence[Request], masters: Mapping[int, str]) -> list[Node]:
    """Gates that night runs wait for: all master runs of their own and earlier ids."""
    gates: list[Node] = []
    members: list[str] = []
    for request in requests:
        mine = [task.key for task in request.tasks if task.step.tier == MASTER]
        if request.number in masters and mine:
            members += mine
            key = MASTER_GATE if not gates else f"{MASTER_GATE}-{request.number:05d}"
            gates.append(Node(key, "gate", tuple(members)))
        if gates:
            for task in request.tasks:
                if task.step.tier == NIGHT and task.step.recipe.tree_in != "raw":
                    task.gate = gates[-1].key
    return gates
