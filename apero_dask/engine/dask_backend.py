"""Runs work on the workers of a dask cluster."""

from __future__ import annotations

import queue
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import dask
from distributed import Client, Future

from apero_dask.core.work import TaskOutcome, Work
from apero_dask.engine.backend import BackendLost, Lost, Runner
from apero_dask.engine.worker import run_task

MEMORY = "memory_mb"
THREADS = "threads"
LOOK_S = 2.0
"""Seconds between two looks at the workers; every look is a round trip to the scheduler."""
BATCH = 256
"""Runs that travel to the scheduler in one message; one message for each costs some milliseconds a run."""
GATHER_S = 0.01
"""Seconds to wait for more results after the first: they travel together, queued runs keep workers busy."""
SETTINGS = {
    # The engine counts losses itself and knows which run was really executing; dask cannot.
    "distributed.scheduler.allowed-failures": 0,
    # A run waits at the scheduler, where a free worker takes it, not in the queue of a busy worker.
    "distributed.scheduler.worker-saturation": 1.0,
    # A worker that is stopped for half a minute returns; it is not dead.
    "distributed.scheduler.worker-ttl": "5 minutes",
    "distributed.worker.preload": ["apero_dask.engine.worker_process"],
    # For every worker the scheduler keeps its last messages, with the runs in them: some MB for each worker.
    "distributed.admin.low-level-log-length": 10,
    # Recipes hold planes in memory on purpose; pausing or spilling tiny results helps nobody.
    "distributed.worker.memory.target": False,
    "distributed.worker.memory.spill": False,
    "distributed.worker.memory.pause": False,
}
"""dask settings the engine relies on; to be set before a scheduler or worker starts."""


@dataclass(frozen=True, slots=True)
class _Submission:
    """A run that has not travelled to the scheduler yet."""

    work: Work
    upstream: tuple[str, ...]
    priority: int
    level: int
    """Number of submissions in a chain before it that have not travelled either."""


class DaskBackend:
    """Backend over any ``Client``: one future per run, results consumed and released as they complete.

    Parameters
    ----------
    client : distributed.Client
        Connected client; closing it is left to whoever made it.
    runner : callable
        Function that executes work, importable on the workers.
    use_resources : bool
        Workers declare ``memory_mb`` and ``threads``, and runs ask for them.
    memory_mb : int
        Memory that every worker will have, where that is known before the first one comes up.
    trouble : callable
        Says why no worker can be had any more; empty while all is well.
    """

    look_ahead = True
    in_process = False

    def __init__(
        self,
        client: Client,
        runner: Runner = run_task,
        use_resources: bool = True,
        *,
        memory_mb: int = 0,
        trouble: Callable[[], str] = str,
    ) -> None:
        self._client = client
        self._runner = runner
        self._use_resources = use_resources
        self._futures: dict[str, Future] = {}
        self._keys: dict[str, str] = {}
        self._waiting: dict[str, _Submission] = {}
        self._ended: queue.SimpleQueue[Future] = queue.SimpleQueue()
        self._looked = float("-inf")
        self._slots = 0
        self._memory_mb = memory_mb
        self._trouble = trouble

    @property
    def slots(self) -> int:
        """Threads of all workers; at most :data:`LOOK_S` seconds old."""
        self._look()
        return self._slots

    @property
    def memory_mb(self) -> int:
        """Memory of the largest worker; as old as :data:`LOOK_S`; while there is none, the last known."""
        self._look()
        return self._memory_mb

    def _look(self) -> None:
        if time.monotonic() - self._looked < LOOK_S:
            return
        self._check()
        try:
            workers = self._client.scheduler_info(n_workers=-1)["workers"].values()
        except OSError as error:
            raise BackendLost(f"the scheduler does not answer: {error}") from error
        self._slots = sum(int(w["nthreads"]) for w in workers)
        self._memory_mb = max((int(w["resources"].get(MEMORY, 0)) for w in workers), default=self._memory_mb)
        self._looked = time.monotonic()

    def _check(self) -> None:
        trouble = self._trouble()
        if trouble:
            raise BackendLost(trouble)
        # A client that reconnects has lost all its futures.
        if self._client.status != "running":
            raise BackendLost("the connection to the scheduler was lost")

    def submit(self, work: Work, dask_key: str, priority: int, upstream: Sequence[str]) -> None:
        """Submit one run, at the latest with the next :meth:`wait`.

        Outcomes of ``upstream`` travel from worker to worker.
        """
        level = 1 + max((self._waiting[key].level for key in upstream if key in self._waiting), default=-1)
        self._waiting[dask_key] = _Submission(work, tuple(upstream), -priority, level)
        if len(self._waiting) >= BATCH:
            self._flush()

    def _flush(self) -> None:
        """Send what was submitted since the last time, in one message for all runs that ask for the same."""
        if not self._waiting:
            return
        self._check()
        waiting, self._waiting = self._waiting, {}
        alike: dict[tuple[int, int, int], list[str]] = {}
        for key, item in waiting.items():
            alike.setdefault((item.level, item.work.memory_mb, item.work.threads), []).append(key)
        for (_, memory_mb, threads), keys in sorted(alike.items(), key=lambda entry: entry[0][0]):
            priority = {key: waiting[key].priority for key in keys}
            with dask.annotate(priority=priority.__getitem__):
                futures = self._client.map(
                    self._runner,
                    [waiting[key].work for key in keys],
                    [[self._futures[k] for k in waiting[key].upstream if k in self._futures] for key in keys],
                    key=keys,
                    resources={MEMORY: memory_mb, THREADS: threads} if self._use_resources else {},
                    retries=0,
                    pure=False,
                )
            for key, future in zip(keys, futures, strict=True):
                self._futures[key] = future
                self._keys[key] = waiting[key].work.key
                future.add_done_callback(self._ended.put)

    def wait(self, timeout: float) -> list[TaskOutcome | Lost]:
        """Outcomes since the last call; waits for the first one at most ``timeout`` seconds."""
        self._flush()
        done: list[Future] = []
        try:
            done.append(self._ended.get(timeout=timeout))
            time.sleep(GATHER_S)
            while True:
                done.append(self._ended.get_nowait())
        except queue.Empty:
            pass
        self._check()
        current = [f for f in done if self._futures.get(f.key) is f]
        finished = [f for f in current if f.status == "finished"]
        results: list[TaskOutcome | Lost] = []
        if finished:
            try:
                results += self._client.gather(finished, errors="skip")
            except OSError as error:
                raise BackendLost(f"the connection to the scheduler was lost: {error}") from error
        answered = {o.key for o in results if isinstance(o, TaskOutcome)}
        for future in current:
            if self._keys[future.key] in answered:
                continue
            # Lost on its way here, or lost with its worker: the run has to be looked at again.
            text = (
                str(future.exception()) if future.status == "error" else f"result was lost ({future.status})"
            )
            results.append(Lost(future.key, self._keys[future.key], text))
        for future in current:
            del self._futures[future.key]
            del self._keys[future.key]
            future.release()
        return results

    def cancel(self, dask_keys: Sequence[str]) -> None:
        """Cancel runs that have not started."""
        for key in dask_keys:
            self._waiting.pop(key, None)
        futures = [self._futures.pop(key) for key in dask_keys if key in self._futures]
        for key in dask_keys:
            self._keys.pop(key, None)
        if futures:
            self._client.cancel(futures, force=True)

    def close(self) -> None:
        """Release all futures."""
        self.cancel([*self._waiting, *self._futures])
