"""Where an invocation stands: runs by step and state, and how long the rest will take.

Fed by the events of the driver, in any order and more than once; knows nothing of terminals.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from apero_dask.core.outcome import State
from apero_dask.core.plan import Plan

PRIOR_RUNS = 3
"""Weight of the mean duration of earlier invocations, in runs of this one (chosen)."""


@dataclass(slots=True)
class StepTally:
    """Runs of one step."""

    short: str
    total: int = 0
    declared_s: float = 0.0
    """Sum of the declared durations of all its runs, s."""
    ended: dict[str, State] = field(default_factory=dict)
    """State by run key."""
    measured: int = 0
    """Runs that were computed in this invocation."""
    measured_s: float = 0.0

    def count(self, *states: State) -> int:
        """Runs that ended in one of the states."""
        return sum(state in states for state in self.ended.values())

    @property
    def left(self) -> int:
        """Runs that have not ended."""
        return max(0, self.total - len(self.ended))

    @property
    def failed(self) -> int:
        """Runs that ended without a product by their own fault."""
        return sum(state.failed for state in self.ended.values())

    @property
    def blocked(self) -> int:
        """Runs that never started because of another one."""
        return sum(state.blocked for state in self.ended.values())

    @property
    def skipped(self) -> int:
        """Runs that need not be executed."""
        return sum(state.skipped for state in self.ended.values())


@dataclass(slots=True)
class Tally:
    """All steps of an invocation, in plan order.

    Parameters
    ----------
    runs : iterable of (key, short, seconds, state)
        Planned runs: run key, step, declared duration and planned state.
    durations : mapping
        Mean duration by step in earlier invocations, s.
    slots : int
        Runs that can be executed at the same time; 0 = not known, then found from what is measured.
    """

    steps: dict[str, StepTally] = field(default_factory=dict)
    durations: Mapping[str, float] = field(default_factory=dict)
    slots: int = 0
    flying: dict[str, float] = field(default_factory=dict)
    """Time of submission by run key, of runs that were handed out and have not ended."""
    began: float = 0.0
    now: float = 0.0
    """Times of the first and of the last event, s."""
    _step_of: dict[str, str] = field(default_factory=dict)
    _skipped: dict[str, State] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        runs: Iterable[tuple[str, str, float, State]],
        durations: Mapping[str, float] | None = None,
        slots: int = 0,
    ) -> Tally:
        """Tally before the first event."""
        tally = cls(durations=dict(durations or {}), slots=slots)
        for key, short, seconds, state in runs:
            step = tally.steps.setdefault(short, StepTally(short))
            step.total += 1
            step.declared_s += seconds
            tally._step_of[key] = short
            if state is not State.PLANNED:
                step.ended[key] = tally._skipped[key] = state
        return tally

    @classmethod
    def of_plan(cls, plan: Plan, durations: Mapping[str, float] | None = None, slots: int = 0) -> Tally:
        """Tally of a plan; models count as runs, gates do not."""
        runs = [(task.key, task.step.short, task.seconds(), task.state) for task in plan.tasks]
        runs += [(n.key, step_of_node(n.key), 0.0, n.state) for n in plan.nodes if n.kind == "model"]
        return cls.of(runs, durations, slots)

    def take(self, event: Mapping[str, Any]) -> State | None:
        """Count one event; returns the state if a run of the plan ended that had not ended before."""
        self.now = max(self.now, float(event.get("time", self.now)))
        self.began = self.began or self.now
        key, kind = str(event.get("key", "")), event.get("event")
        if kind == "begin":
            self._restart()
        elif kind == "submitted" and key in self._step_of:
            self.flying[key] = float(event.get("time", self.now))
        elif kind in ("retry", "lost", "damaged", "deferred"):
            self.flying.pop(key, None)
        elif kind == "ended":
            self.flying.pop(key, None)
            return self._ended(key, event)
        return None

    def _restart(self) -> None:
        """An invocation begins or goes on: what it skips counts as it ended before, the rest is open."""
        self.began = self.now
        self.flying.clear()
        for step in self.steps.values():
            kept = {key: state for key, state in step.ended.items() if key in self._skipped}
            step.ended = kept

    def _ended(self, key: str, event: Mapping[str, Any]) -> State | None:
        short = self._step_of.get(key)
        if short is None:
            return None
        state = State(str(event.get("state")))
        step = self.steps[short]
        fresh = step.ended.get(key) is not state
        step.ended[key] = state
        wall = float(event.get("wall_s", 0.0))
        if fresh and state in (State.DONE, State.QC_FAILED) and wall > 0 and not event.get("reused"):
            step.measured += 1
            step.measured_s += wall
        return state if fresh else None

    @property
    def total(self) -> int:
        """All runs."""
        return sum(step.total for step in self.steps.values())

    @property
    def ended(self) -> int:
        """Runs that have ended."""
        return sum(len(step.ended) for step in self.steps.values())

    @property
    def failed(self) -> int:
        """Runs that failed."""
        return sum(step.failed for step in self.steps.values())

    def mean_s(self, short: str) -> float | None:
        """Expected duration of a run, s; None if it cannot be told.

        Measured here and earlier; else declared, scaled by how the other steps did.
        """
        step = self.steps[short]
        prior = self.durations.get(short)
        if step.measured or prior is not None:
            weight = PRIOR_RUNS if prior is not None else 0
            return (step.measured_s + weight * (prior or 0.0)) / (step.measured + weight)
        known = [s for s in self.steps.values() if s.measured and s.declared_s > 0]
        declared = sum(s.measured * s.declared_s / s.total for s in known)
        if not declared or not step.total:
            return None
        return step.declared_s / step.total * sum(s.measured_s for s in known) / declared

    def parallel(self) -> float:
        """Runs executed at the same time: the slots, or what the measured durations say about them."""
        if self.slots:
            return float(self.slots)
        elapsed = self.now - self.began
        work = sum(step.measured_s for step in self.steps.values())
        return max(1.0, work / elapsed) if elapsed > 0 else 1.0

    def left_s(self) -> float | None:
        """Estimated time to the end, s, if every slot stays busy; None while no duration is known."""
        work = 0.0
        for short, step in self.steps.items():
            if step.left:
                mean = self.mean_s(short)
                if mean is None:
                    return None
                work += step.left * mean
        return work / self.parallel()


def step_of_node(key: str) -> str:
    """Short name a node is listed under.

    >>> step_of_node("PCA1-00001")
    'PCA1'
    """
    return key.partition("-")[0]
