"""What the driver writes down while it works: events at once, outcomes in batches."""

from __future__ import annotations

import time
from dataclasses import replace

from apero_dask.core.outcome import State
from apero_dask.core.plan import Plan, Task
from apero_dask.core.work import TaskOutcome, Work
from apero_dask.engine.events import EventSink
from apero_dask.engine.worker import trees_of
from apero_dask.state.disk import looked_at
from apero_dask.state.store import Store

COMMIT_RUNS = 200
"""Outcomes are stored in batches of at most this many."""


class Journal:
    """Event stream and state database of one invocation.

    A full disk is remembered in :attr:`error`, not raised: the markers are what counts, and the driver still
    has to wind down.
    """

    def __init__(
        self, plan: Plan, common: Work, store: Store | None, events: EventSink, commit_s: float
    ) -> None:
        self._plan, self._common, self._store, self._events = plan, common, store, events
        self._trees = trees_of(common)
        self._commit_s = commit_s
        self._batch: list[tuple[TaskOutcome, str, str, str]] = []
        self._committed = time.monotonic()
        self._error = ""
        self.outcomes: dict[str, TaskOutcome] = {}
        """Outcomes with an error or messages, by run key."""

    @property
    def error(self) -> str:
        """Why records can no longer be written, empty while they can."""
        return self._error or self._events.error

    def event(self, name: str, **values: object) -> None:
        """Publish an event."""
        self._events.emit(name, **values)

    def keep(self, outcome: TaskOutcome) -> None:
        """Publish and store how a run ended."""
        key = outcome.key
        item = self._plan.by_key[key]
        if isinstance(item, Task):
            short, place, stem = item.step.short, item.object or item.obs_dir, item.stem
        else:
            short, place, stem = key.partition("-")[0], "", ""
        if outcome.error or outcome.messages or outcome.state is State.QC_FAILED:
            self.outcomes[key] = replace(outcome, qc=(), details="", outputs=())
        else:
            self.outcomes.pop(key, None)
        self._events.outcome(outcome, short, place, stem)
        self._batch.append((outcome, short, place, stem))

    def commit(self, force: bool = False) -> None:
        """Store the batch if it is large or old enough, or ``force``."""
        if not self._batch or self._error:
            return
        due = len(self._batch) >= COMMIT_RUNS or time.monotonic() - self._committed > self._commit_s or force
        if not due:
            return
        if self._store is not None:
            try:
                self._store.add_outcomes(self._common.invocation, self._batch)
                written = [(o.path, o.digest) for outcome, *_ in self._batch for o in outcome.outputs]
                self._store.set_verified(looked_at(written, self._trees))
            except OSError as error:
                # Nothing is lost: the next start reads the markers of these runs.
                self._error = f"state database: {error}"
                return
        self._batch.clear()
        self._committed = time.monotonic()
