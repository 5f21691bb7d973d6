"""Rows of sequences times frames: planned runs, and why there are none where there are none."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from apero_dask.core.plan import MISSING, Step, StepCount, Task
from apero_dask.core.products import MASTER, NIGHT
from apero_dask.core.settings import Settings
from apero_dask.planner.draft import Draft, Request, made_keys
from apero_dask.planner.frames import plan_frames, plan_preprocessing
from apero_dask.planner.nights import plan_archive, plan_nights
from apero_dask.planner.sequences import Row, describe
from apero_dask.planner.templates import plan_objects

MADE_BY = {
    "PP": "pp_seq",
    "E2DSFF": "the extraction steps",
    "LCORR": "the leak steps",
    "TCORR1": "tellu_seq or science_seq",
    "TCORR": "science_seq",
    "TEMPLATE": "tellu_seq or science_seq",
}
"""What to run first, by kind of the missing input."""

NO_MASTER_NIGHT = frozenset({"E-MASTER-UNSET", "E-MASTER-MISSING", "E-MASTER-EXCLUDED"})
"""Errors that say why no master step has a run: saying so of each of them would only hide the cause."""

_SCOPES: dict[str, Callable[[Draft, Request, Row, Step], list[str]]] = {
    "frames": plan_preprocessing,
    "archive": plan_archive,
    "master": plan_nights,
    "night": plan_nights,
    "file": plan_frames,
    "object": plan_objects,
}


def is_active(row: Row, settings: Settings) -> bool:
    """Whether the switch of a row is on; a macro has one switch for all its rows."""
    return settings.runs(row.macro or row.short, row.part)


def step_of(draft: Draft, request: Request, row: Row, label: str) -> Step:
    """The row as a step of a request."""
    return Step(
        request=request.number,
        label=label,
        short=row.short,
        part=row.part,
        recipe=draft.recipes[row.recipe],
        tier=MASTER if row.scope in ("archive", "master") else NIGHT,
        variant=row.variant,
        skip=draft.settings.skips(row.macro or row.short, row.part),
        text=describe(row),
    )


def expand_row(draft: Draft, request: Request, row: Row, step: Step) -> None:
    """Plan all runs of one row and note their number, or the reason why there are none."""
    if not is_active(row, draft.settings):
        if row.short != "SCIPOST":
            reason = f"switched off: RUN_{row.macro or row.short} = False"
            draft.counts.append(StepCount(step, 0, (reason,)))
        return
    runs, reasons = plan_row(draft, request, row, step)
    draft.counts.append(StepCount(step, runs, tuple(reasons)))


def plan_row(draft: Draft, request: Request, row: Row, step: Step) -> tuple[int, list[str]]:
    """Plan all runs of one row and report nights without a run; number of runs, and reasons."""
    before, repeated, missing = len(draft.tasks), draft.repeated, draft.missing
    if draft.settings.trigger_run and step.tier == MASTER:
        return 0, ["not in trigger mode: reference products come from the database"]
    draft.notes.clear()
    reasons = _SCOPES[row.scope](draft, request, row, step)
    request.wanted.update(made_keys(step.recipe, step.variant, "fp"))
    tasks = draft.tasks[before:]
    repeated = draft.repeated - repeated
    if repeated:
        reasons.append(f"{repeated} run(s) are planned by an earlier step")
    if not tasks and not repeated:
        if not (step.tier == MASTER and NO_MASTER_NIGHT.intersection(draft.findings.codes())):
            draft.findings.add("W-NO-RUNS", short=step.short, reason="; ".join(reasons))
    elif row.scope == "night" and len(reasons) > bool(repeated):
        nights = [reason for reason in reasons if " run(s) are planned" not in reason]
        draft.findings.add("W-NO-RUNS", short=step.short, reason="; ".join(nights))
    refused = _report_inputs(draft, step, tasks) if draft.missing > missing else 0
    if refused:
        reasons.append(f"{refused} input(s) failed quality control earlier and are left out")
    reasons += draft.notes
    return len(tasks), reasons


def _report_inputs(draft: Draft, step: Step, tasks: Sequence[Task]) -> int:
    """Fold the inputs that are neither there nor planned into one message; number of refused ones."""
    total, missing, refused, first, kind = 0, 0, 0, "", ""
    for task in tasks:
        for inputs in task.inputs:
            total += len(inputs.producers)
            if MISSING not in inputs.producers or not inputs.required:
                continue
            if not first:
                bad = set(inputs.refused)
                for number, (producer, paths) in enumerate(inputs.by_producer()):
                    name = inputs.frames[number].identifier if number < len(inputs.frames) else ""
                    if producer == MISSING and name not in bad:
                        first, kind = paths[0], inputs.kind
                        break
            missing += inputs.producers.count(MISSING) - len(inputs.refused)
            refused += len(inputs.refused)
    if missing:
        draft.findings.add(
            "W-NOT-MADE",
            short=step.short,
            n=missing,
            m=total,
            path=first,
            sequence=MADE_BY.get(kind, "the steps before it"),
        )
    return refused
