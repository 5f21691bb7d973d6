"""Runs that can be submitted behind others that have not ended."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from apero_dask.core.outcome import State
from apero_dask.core.plan import Plan, Task
from apero_dask.planner.resolve import Resolver


class LookAhead:
    """Goes through the runs of a plan once, in order of submission.

    Parameters
    ----------
    plan : Plan
        The plan.
    place : mapping
        Place in the order of submission by key.
    """

    def __init__(self, plan: Plan, place: Mapping[str, int]) -> None:
        self._plan = plan
        self._keys = sorted((task.key for task in plan.tasks), key=place.__getitem__)
        self._cursor = 0

    def next(
        self, resolver: Resolver, flight: Collection[str], queued: Collection[str]
    ) -> tuple[str, tuple[str, ...]] | None:
        """Next run that waits for nothing but runs in flight, and those; None at the end of the plan.

        A run that is passed over here is submitted when the resolver finds it ready.
        """
        while self._cursor < len(self._keys):
            key = self._keys[self._cursor]
            self._cursor += 1
            if key in resolver.states or key in flight or key in queued:
                continue
            upstream = self._upstream(key, resolver, flight)
            if upstream:
                return key, upstream
        return None

    def _upstream(self, key: str, resolver: Resolver, flight: Collection[str]) -> tuple[str, ...]:
        """Runs in flight that a run waits for; empty if it waits for anything else."""
        task = self._plan.by_key[key]
        assert isinstance(task, Task)
        states = resolver.states
        if task.gate and states.get(task.gate) is not State.DONE:
            return ()
        needs = [*task.producers(), *task.depends]
        for selection in task.selections:
            if selection.candidates and selection.candidates[0].source:
                needs.append(selection.candidates[0].source)
        flying = []
        for need in dict.fromkeys(needs):
            if need in states:
                if not resolver.passed(need):
                    return ()
            elif need in flight and isinstance(self._plan.by_key[need], Task):
                flying.append(need)
            else:
                return ()
        return tuple(flying)
