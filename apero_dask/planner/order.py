"""Order of execution: the graph has no cycle, ids that must wait for each other, and the longest chain."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from apero_dask.core.outcome import State
from apero_dask.core.plan import Node, Plan, Selection, Task


def _edges(plan: Plan) -> Iterator[tuple[str | int, str | int]]:
    """(before, after) pairs; the shared selections of many runs are points of their own, by number."""
    numbers: dict[int, int] = {}
    sets: list[tuple[Selection, ...]] = []
    for task in plan.tasks:
        for key in task.producers():
            yield key, task.key
        for key in task.depends:
            yield key, task.key
        if task.gate:
            yield task.gate, task.key
        if task.selections:
            number = numbers.get(id(task.selections))
            if number is None:
                number = numbers[id(task.selections)] = len(sets)
                sets.append(task.selections)
            yield number, task.key
    for number, selections in enumerate(sets):
        for source in dict.fromkeys(c.source for s in selections for c in s.candidates if c.source):
            yield source, number
    for node in plan.nodes:
        for key in (*node.members, *node.fallback):
            yield key, node.key
        if node.after:
            yield node.after, node.key


def check_acyclic(plan: Plan) -> list[str]:
    """Keys of runs and nodes, every one after everything it may depend on; ties in plan order.

    Raises
    ------
    ValueError
        If the graph has a cycle or an edge to a run that does not exist: a defect of the planner.
    """
    after: dict[str | int, list[str | int]] = {}
    waiting: dict[str | int, int] = dict.fromkeys(plan.by_key, 0)
    for first, second in _edges(plan):
        after.setdefault(first, []).append(second)
        waiting[second] = waiting.get(second, 0) + 1
        waiting.setdefault(first, 0)
    unknown = [key for key in waiting if isinstance(key, str) and key not in plan.by_key]
    if unknown:
        raise ValueError(f"the plan depends on runs it does not contain: {', '.join(sorted(unknown)[:5])}")
    ready = deque(key for key, count in waiting.items() if count == 0)
    order: list[str] = []
    reached = 0
    while ready:
        key = ready.popleft()
        reached += 1
        if isinstance(key, str):
            order.append(key)
        for later in after.get(key, ()):
            waiting[later] -= 1
            if waiting[later] == 0:
                ready.append(later)
    if reached < len(waiting):
        stuck = sorted(str(key) for key, count in waiting.items() if count > 0 and isinstance(key, str))
        raise ValueError(f"the plan has a cycle through {', '.join(stuck[:5])}")
    return order


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
