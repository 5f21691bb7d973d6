"""Runs one piece of work after the other in this process: the reference for every backend."""

from __future__ import annotations

import heapq
from collections.abc import Sequence

from apero_dask.core.work import TaskOutcome, Work
from apero_dask.engine.backend import Lost, Runner
from apero_dask.engine.freed_memory import keep_freed_memory
from apero_dask.engine.worker import run_task


class SerialBackend:
    """In-process backend with one slot; takes resolved work only."""

    look_ahead = False
    """Nothing is gained by queueing a run behind another one that this process has yet to execute."""
    in_process = True

    def __init__(self, runner: Runner = run_task) -> None:
        keep_freed_memory()
        self._runner = runner
        self._queue: list[tuple[int, str, Work]] = []

    @property
    def slots(self) -> int:
        """One."""
        return 1

    @property
    def memory_mb(self) -> int:
        """Not limited."""
        return 0

    def submit(self, work: Work, dask_key: str, priority: int, upstream: Sequence[str]) -> None:
        """Queue work."""
        if upstream:
            raise ValueError(f"{dask_key} was submitted before {upstream[0]} ended")
        heapq.heappush(self._queue, (priority, dask_key, work))

    def wait(self, timeout: float) -> list[TaskOutcome | Lost]:
        """Execute the first queued work."""
        if not self._queue:
            return []
        return [self._runner(heapq.heappop(self._queue)[2], ())]

    def cancel(self, dask_keys: Sequence[str]) -> None:
        """Forget queued work."""
        gone = set(dask_keys)
        self._queue = [entry for entry in self._queue if entry[1] not in gone]
        heapq.heapify(self._queue)

    def close(self) -> None:
        """Forget everything."""
        self._queue.clear()
