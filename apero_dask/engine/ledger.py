"""Records of the driver: how it goes about it, what it knows of a run in flight, what it returns."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from apero_dask.core.errors import (
    EXIT_FAILED,
    EXIT_INTERRUPTED,
    EXIT_MASTER,
    EXIT_OK,
    EXIT_STOPPED,
    EXIT_TERMINATED,
)
from apero_dask.core.outcome import State
from apero_dask.core.plan import Plan
from apero_dask.core.products import MASTER
from apero_dask.core.work import TaskOutcome
from apero_dask.engine.priority import ranks
from apero_dask.planner.resolve import Resolver

NO_WORKER_S = 600.0
"""Seconds without any worker after which the reduction cannot be carried on."""
COMMIT_S = 2.0
"""Outcomes are stored at least this often, s."""


@dataclass(slots=True)
class Account:
    """Attempts of one run."""

    attempt: int = 1
    losses: int = 0
    repairs: int = 0
    """How often its inputs had to be made again."""
    memory_mb: int = 0
    force: bool = False
    sent: int = 0
    """Number of the submission, over all runs."""


@dataclass(slots=True)
class Result:
    """How an invocation ended."""

    states: dict[str, State]
    outcomes: dict[str, TaskOutcome]
    """Outcomes that have something to say: an error or messages.  Products are in the markers."""
    status: int
    finished: bool
    """Every run ended; nothing is left to continue."""
    stopped_by: str = ""
    executed: int = 0


@dataclass(slots=True)
class Options:
    """How the driver goes about it; none of this may change a product."""

    window: int | None = None
    """Most runs resident in the backend; None = enough to keep every slot busy."""
    look_ahead: bool = True
    """Submit runs behind others that have not ended, where the backend can."""
    stop_at_exception: bool = False
    order: Callable[[Plan], Mapping[str, int]] = ranks
    no_worker_s: float = NO_WORKER_S
    most_concurrent: int | None = None
    """Most runs at the same time (CORES on a cluster with more slots)."""
    commit_s: float = COMMIT_S


def exit_status(plan: Plan, resolver: Resolver, stopped_by: str) -> int:
    """Exit status of an invocation; the first that applies of 130, 75, 5, 4, 1."""
    if stopped_by == "keyboard":
        return EXIT_INTERRUPTED
    if stopped_by == "TERM":
        return EXIT_TERMINATED
    if stopped_by:
        return EXIT_STOPPED
    ended = [(task, resolver.states[task.key]) for task in plan.tasks if task.key in resolver.states]
    bystanders = (State.BLOCKED_STOP, State.SKIPPED_USER)
    if any(
        task.step.tier == MASTER and state not in bystanders and not resolver.passed(task.key)
        for task, state in ended
    ):
        return EXIT_MASTER
    return EXIT_FAILED if any(state.failed or state.blocked for _, state in ended) else EXIT_OK
