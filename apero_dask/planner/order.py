"""Order of execution: the graph has no cycle, ids that must wait for each other, and the longest chain."""

from __future__ import annotations

from apero_dask.core.outcome import State
from apero_dask.core.plan import MISSING, STORED, Node, Plan, Task


def check_acyclic(plan: Plan) -> list[str]:
    """Keys of runs and nodes, every one after everything it may depend on; else in plan order.

    Depth-first: what a run needs is placed before it.  Nearly everything is there already, because plans list
    producers before consumers; so the work is one look per edge.

    Raises
    ------
    ValueError
        If the graph has a cycle or an edge to a run that does not exist: a defect of the planner.
    """
    # What is on disk or nowhere at all needs no place of its own.
    placed: set[str] = {STORED, MISSING}
    order: list[str] = []
    on_path: set[str] = set()
    # Runs of one night share their selections: their sources are looked at once.
    settled: set[int] = set()
    for first, entry in plan.by_key.items():
        if first in placed:
            continue
        if not _not_in(placed, entry, settled):
            placed.add(first)
            order.append(first)
            continue
        stack = [first]
        while stack:
            key = stack[-1]
            if key in placed:
                stack.pop()
                continue
            item = plan.by_key.get(key)
            if item is None:
                raise ValueError(f"the plan depends on runs it does not contain: {key}")
            missing = _not_in(placed, item, settled)
            if not missing:
                placed.add(key)
                order.append(key)
                on_path.discard(key)
                stack.pop()
            elif key in on_path:
                raise ValueError(f"the plan has a cycle through {', '.join(sorted(on_path)[:5])}")
            else:
                on_path.add(key)
                stack.extend(reversed(missing))
    return order


def _not_in(placed: set[str], item: Task | Node, settled: set[int]) -> list[str]:
    """Keys that must be placed before a run or node and are not; shared selections are settled once."""
    missing: list[str] = []
    if isinstance(item, Node):
        missing += [key for key in (*item.members, *item.fallback) if key not in placed]
        if item.after and item.after not in placed:
            missing.append(item.after)
        return missing
    for inputs in item.inputs:
        if not placed.issuperset(inputs.producers):
            missing += [key for key in inputs.producers if key not in placed]
    if not placed.issuperset(item.depends):
        missing += [key for key in item.depends if key not in placed]
    if item.gate and item.gate not in placed:
        missing.append(item.gate)
    if item.selections and id(item.selections) not in settled:
        sources = [
            c.source for s in item.selections for c in s.candidates if c.source and c.source not in placed
        ]
        if not sources:
            settled.add(id(item.selections))
        missing += sources
    return missing


def critical_path(plan: Plan, order: list[str]) -> tuple[float, list[str]]:
    """Longest chain in estimated seconds if every first candidate is taken; skipped runs cost nothing."""
    finish: dict[str, float] = {}
    came_from: dict[str, str] = {}
    for key in order:
        item = plan.by_key[key]
        before = optimistic_edges(item)
        best = max(before, key=lambda k: (finish.get(k, 0.0), k), default="")
        if best:
            came_from[key] = best
        cost = item.seconds() if isinstance(item, Task) and item.state is State.PLANNED else 0.0
        finish[key] = finish.get(best, 0.0) + cost
    if not finish:
        return 0.0, []
    last = max(order, key=lambda k: finish[k])
    chain = [last]
    while chain[-1] in came_from:
        chain.append(came_from[chain[-1]])
    return finish[last], [key for key in reversed(chain) if isinstance(plan.by_key[key], Task)]


def optimistic_edges(item: Task | Node) -> list[str]:
    """Keys a run or node waits for when nothing fails: every selection takes its first candidate."""
    if isinstance(item, Node):
        return [*item.members, *item.fallback, *([item.after] if item.after else [])]
    first = [s.candidates[0].source for s in item.selections if s.candidates and s.candidates[0].source]
    return [*item.producers(), *item.depends, *first, *([item.gate] if item.gate else [])]
