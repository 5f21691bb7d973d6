"""Text at the end of an invocation: what was done, what failed and why, where everything is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from apero_dask.assets.kinds import built_in
from apero_dask.core.errors import (
    EXIT_FAILED,
    EXIT_INTERRUPTED,
    EXIT_MASTER,
    EXIT_OK,
    EXIT_STOPPED,
    EXIT_TERMINATED,
    one_line,
)
from apero_dask.core.outcome import State
from apero_dask.core.plan import Node, Plan, Task
from apero_dask.core.products import MASTER
from apero_dask.io.trees import Trees
from apero_dask.planner.resolve import Resolver
from apero_dask.report.causes import Cause, fold, name_of
from apero_dask.report.fallbacks import calibration_messages

if TYPE_CHECKING:
    from apero_dask.engine.invocation import Named
    from apero_dask.engine.ledger import Result

MOST_LINES = 40
"""Causes or messages listed; the rest is counted."""
TEXTS_PER_CODE = 3
MOST_ALIKE = 3
"""Runs of one step that ended alike and are listed one by one; more are folded to one line."""

CONTINUES = "nothing finished is lost, the same command continues"
STATUS_WORDS: Mapping[int, str] = {
    EXIT_OK: "every planned run ended or was skipped",
    EXIT_FAILED: "at least one run failed or was blocked",
    EXIT_MASTER: "a master step failed",
    EXIT_STOPPED: f"the reduction could not be carried on; {CONTINUES}",
    EXIT_TERMINATED: f"stopped by TERM or before the end of the walltime; {CONTINUES}",
    EXIT_INTERRUPTED: f"interrupted by the keyboard; {CONTINUES}",
}
"""Exit statuses of an execution in words."""


def summary(
    plan: Plan, resolver: Resolver, result: Result, trees: Trees, named: Named, days: float = 7.0
) -> Iterator[str]:
    """Lines of the summary.

    Parameters
    ----------
    days : float
        Largest separation of a night and a nightly calibration, for messages.
    """
    yield ""
    yield from state_table(rows_of(plan, result.states))
    causes = fold(plan, resolver, errors_of(result), first_failure(result))
    if causes:
        yield ""
        yield f"Failures: {len(causes)} cause(s)"
        yield from most(cause_lines(plan, causes, result))
    failed_quality = [task for task in plan.tasks if result.states.get(task.key) is State.QC_FAILED]
    if failed_quality:
        yield ""
        yield f"Quality control failed: {len(failed_quality)} run(s); their products are flagged and not used"
        yield from most(quality_lines(failed_quality, errors_of(result)))
    messages = [*run_messages(result), *(str(m) for m in calibration_messages(plan, resolver, days))]
    if messages:
        yield ""
        yield "Messages of the runs"
        yield from most([f"  {text}" for text in messages])
    yield ""
    products = one_line([str(trees.tmp), str(trees.reduced)])
    yield f"Products       {products}"
    yield f"Calibrations   {trees.calibDB}"
    yield f"Telluric       {trees.telluDB}"
    lacking = built_in(trees.assets)
    if lacking:
        told = "for simulated frames only, see apero-dask assets show"
        yield f"Assets         built-in {', '.join(lacking)}: {told}"
    yield f"Logs           {trees.log / named.invocation}"
    yield f"Exit status {result.status}: {status_text(plan, result, causes)}."


def status_text(plan: Plan, result: Result, causes: Sequence[Cause] = ()) -> str:
    """Exit status in words; a failed master step and the reason of a stop are named."""
    words = STATUS_WORDS[result.status]
    if result.status == EXIT_MASTER:
        words = f"{words}: {one_line(failed_masters(plan, result.states, causes), most=3)}"
        if any(state is State.BLOCKED_MASTER for state in result.states.values()):
            words += "; no night step was started"
    elif result.status == EXIT_STOPPED:
        words = f"{result.stopped_by}; {words}"
    return words


def failed_masters(plan: Plan, states: Mapping[str, State], causes: Sequence[Cause] = ()) -> list[str]:
    """Master steps that failed by themselves, in words; those only blocked by another one are left out."""
    found = []
    for task in plan.tasks:
        state = states.get(task.key)
        if task.step.tier != MASTER or state is None:
            continue
        if state is State.QC_FAILED or state.failed:
            found.append((task.key, f"{name_of(task)} ended {state}"))
    roots = {cause.key for cause in causes}
    first = [text for key, text in found if key in roots]
    # A master run may be blocked by a preprocessing run: then no master step failed by itself.
    return (
        first
        or [text for _, text in found]
        or [
            f"{name_of(task)} ended {states[task.key]}"
            for task in plan.tasks
            if task.step.tier == MASTER and task.key in states and states[task.key].blocked
        ]
    )


def rows_of(plan: Plan, states: Mapping[str, State]) -> list[tuple[str, State | None]]:
    """(step, state) of every run, and of every model, in plan order; None = not ended."""
    rows: list[tuple[str, State | None]] = []
    for key, item in plan.by_key.items():
        if isinstance(item, Task):
            rows.append((item.step.short, states.get(key)))
        elif item.kind == "model":
            rows.append((key.partition("-")[0], states.get(key)))
    return rows


def state_table(rows: Sequence[tuple[str, State | None]]) -> list[str]:
    """Table of steps against states; only states that occur have a column."""
    counts: dict[str, Counter[str]] = {}
    for short, state in rows:
        counts.setdefault(short, Counter())[state.value if state else "not ended"] += 1
    present = {name for row in counts.values() for name in row}
    columns: list[str] = [s.value for s in State if s.value in present]
    columns += ["not ended"] if "not ended" in present else []
    total: Counter[str] = Counter()
    for row in counts.values():
        total.update(row)
    table = [["step", "runs", *columns]]
    listed = [*counts.items(), *([("all", total)] if len(counts) > 1 else [])]
    for short, row in listed:
        table.append(
            [short, str(sum(row.values())), *(str(row[name]) if row[name] else "-" for name in columns)]
        )
    widths = [max(len(line[i]) for line in table) for i in range(len(table[0]))]
    return [
        "  ".join(
            [line[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(line[1:], widths[1:], strict=True))]
        )
        for line in table
    ]


def cause_lines(plan: Plan, causes: Sequence[Cause], result: Result | None = None) -> list[str]:
    """One line per cause, with what it stopped, counted by step; causes alike share a line."""
    groups: dict[tuple[State, str, str], list[Cause]] = {}
    for cause in causes:
        item = plan.by_key[cause.key]
        groups.setdefault((cause.state, _short(item), unnamed(item, cause.error)), []).append(cause)
    lines = []
    for group in groups.values():
        for alike in [group] if len(group) > MOST_ALIKE else [[cause] for cause in group]:
            lines.append(_cause_line(plan, alike, result))
    return lines


def _cause_line(plan: Plan, alike: Sequence[Cause], result: Result | None) -> str:
    """Line of causes alike: the first of them, and what they stopped together."""
    first = alike[0]
    item = plan.by_key[first.key]
    more = f" and {len(alike) - 1} other {_short(item)} run(s) alike" if len(alike) > 1 else ""
    error = f": {first.error}" if first.error else ""
    log = result.outcomes[first.key].log if result and first.key in result.outcomes else ""
    where = f" (log {log})" if log else ""
    blocked = list(dict.fromkeys(key for cause in alike for key in cause.blocked))
    stopped = ""
    if blocked:
        steps = Counter(_short(plan.by_key[key]) for key in blocked)
        counted = ", ".join(f"{short} {number}" for short, number in steps.items())
        stopped = f"; stops {len(blocked)} run(s): {counted}"
    return f"  {first.state} {name_of(item)}{more}{error}{where}{stopped}"


def quality_lines(failed: Sequence[Task], errors: Mapping[str, str]) -> list[str]:
    """One line per run that failed quality control; runs of a step that failed alike share a line."""
    groups: dict[tuple[str, str], list[Task]] = {}
    for task in failed:
        error = unnamed(task, errors.get(task.key, ""))
        groups.setdefault((task.step.short, error), []).append(task)
    lines = []
    for group in groups.values():
        for alike in [group] if len(group) > MOST_ALIKE else [[task] for task in group]:
            more = f" and {len(alike) - 1} other run(s) alike" if len(alike) > 1 else ""
            lines.append(f"  {name_of(alike[0])}{more}: {errors.get(alike[0].key, '')}".rstrip(": "))
    return lines


def unnamed(item: Task | Node, error: str) -> str:
    """Error text without the names of the run itself, so that equal errors of several runs are equal."""
    if isinstance(item, Task):
        for name in (item.stem, item.obs_dir, item.object):
            error = error.replace(name, "...") if name else error
    return error


def _short(item: Task | Node) -> str:
    return item.step.short if isinstance(item, Task) else item.key.partition("-")[0]


def errors_of(result: Result) -> dict[str, str]:
    """Error text by run key."""
    return {key: outcome.error for key, outcome in result.outcomes.items() if outcome.error}


def first_failure(result: Result) -> str:
    """Key of the run that failed first; empty if none did."""
    return next((key for key, outcome in result.outcomes.items() if outcome.state.failed), "")


def run_messages(result: Result) -> list[str]:
    """Messages of the recipes, folded: equal texts once, a few texts per code."""
    counts: dict[str, Counter[str]] = {}
    for key in sorted(result.outcomes):
        for code, text in result.outcomes[key].messages:
            counts.setdefault(code, Counter())[text] += 1
    lines = []
    for code, texts in counts.items():
        for text, number in list(texts.items())[:TEXTS_PER_CODE]:
            lines.append(f"{code}: {text}" + (f" ({number} runs)" if number > 1 else ""))
        if len(texts) > TEXTS_PER_CODE:
            rest = sum(list(texts.values())[TEXTS_PER_CODE:])
            lines.append(f"{code}: {rest} further message(s) in the logs of the runs")
    return lines


def most(lines: Sequence[str], limit: int = MOST_LINES) -> Iterator[str]:
    """First lines of a long list, and how many more there are."""
    yield from lines[:limit]
    if len(lines) > limit:
        yield f"  ... and {len(lines) - limit} more"
