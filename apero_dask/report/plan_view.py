"""Listing of a plan for people."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from apero_dask.core.outcome import State
from apero_dask.core.plan import Plan, Task
from apero_dask.instruments.base import Instrument
from apero_dask.planner.order import check_acyclic, critical_path

LEAST_MEMORY_GB = 0.4
"""Interpreter with its libraries, before any pixel."""


@dataclass(frozen=True, slots=True)
class Cost:
    """Estimated cost of the runs that would be executed."""

    runs: int
    core_hours: float
    longest_s: float
    """Length of the critical path, s."""
    longest: tuple[str, ...]
    """Short names along the critical path."""
    memory_gb: float
    """Of the most demanding run."""
    memory_step: str


def estimate(plan: Plan, instrument: Instrument) -> Cost:
    """Cost of a plan from the declared resources, scaled from the full detector to this one."""
    scale = instrument.scale
    todo = [task for task in plan.tasks if task.state is State.PLANNED]
    seconds, path = critical_path(plan, check_acyclic(plan))
    largest = max(todo, key=lambda task: task.step.recipe.resources.memory_gb, default=None)
    shorts = [item.step.short for key in path if isinstance(item := plan.by_key[key], Task)]
    memory = largest.step.recipe.resources.memory_gb * scale if largest else 0.0
    return Cost(
        runs=len(todo),
        core_hours=sum(t.seconds() * t.step.recipe.resources.threads for t in todo) * scale / 3600.0,
        longest_s=seconds * scale,
        longest=tuple(shorts),
        memory_gb=max(memory, LEAST_MEMORY_GB) if largest else 0.0,
        memory_step=largest.step.short if largest else "",
    )


def duration(seconds: float) -> str:
    """Duration in words.

    >>> [duration(s) for s in (12.3, 754, 86400 * 2.5)]
    ['12 s', '12 min 34 s', '2 d 12 h']
    """
    whole = round(seconds)
    days, rest = divmod(whole, 86400)
    hours, rest = divmod(rest, 3600)
    minutes, left = divmod(rest, 60)
    if days:
        return f"{days} d {hours} h"
    if hours:
        return f"{hours} h {minutes} min"
    if minutes:
        return f"{minutes} min {left} s"
    return f"{left} s"


def run_line(task: Task) -> str:
    """One planned run in one line."""
    where = task.object or task.obs_dir
    name = task.stem if task.stem != where else ""
    note = "" if task.state is State.PLANNED else f" {task.state.value}"
    marker = f" ({task.marker})" if task.marker else ""
    return f"T {task.key} {task.step.short:<8} {where} {name}".rstrip() + note + marker


def table(plan: Plan) -> list[str]:
    """Every step with its number of runs, and the reason wherever there is none or frames were left out."""
    skipped: dict[tuple[int, str], int] = {}
    for task in plan.tasks:
        if task.state is not State.PLANNED:
            key = (task.step.request, task.step.label)
            skipped[key] = skipped.get(key, 0) + 1
    rows = [("id", "step", "short", "runs", "skipped", "recipe")]
    notes: list[list[str]] = [[]]
    for count in plan.counts:
        step = count.step
        left = skipped.get((step.request, step.label), 0)
        rows.append(
            (
                f"{step.request:05d}",
                step.label,
                step.short,
                str(count.runs),
                str(left) if left else "",
                step.text,
            )
        )
        notes.append(list(count.reasons))
    widths = [max(len(row[i]) for row in rows) for i in range(5)]
    lines = []
    for row, reasons in zip(rows, notes, strict=True):
        cells = [
            cell.rjust(width) if i in (3, 4) else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row[:5], widths, strict=True))
        ]
        lines.append("  ".join([*cells, row[5]]).rstrip())
        indent = " " * (sum(widths) + 10)
        lines += [f"{indent}- {reason}" for reason in reasons]
    return lines


def listing(plan: Plan, instrument: Instrument) -> Iterator[str]:
    """Lines of the complete listing: runs, table, cost."""
    for task in plan.tasks:
        yield run_line(task)
    if plan.tasks:
        yield ""
    yield from table(plan)
    cost = estimate(plan, instrument)
    yield ""
    skipped = len(plan.tasks) - cost.runs
    yield f"{len(plan.tasks)} runs planned, {cost.runs} to execute, {skipped} skipped."
    if cost.runs:
        yield (
            f"Estimated: {cost.core_hours:.1f} core-hours; longest chain {duration(cost.longest_s)} "
            f"({' > '.join(cost.longest)}); largest run {cost.memory_gb:.1f} GB ({cost.memory_step})."
        )
