"""Keeps the number of worker jobs: what is lost is replaced, and what cannot be had is reported.

dask itself replaces no job, and does not notice one that ended before its worker came up.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from dask_jobqueue.core import JobQueueCluster
from distributed.core import Status

from apero_dask.deploy.jobs import Submission
from apero_dask.deploy.queue import number

LOGGER = logging.getLogger("apero_dask.deploy")
STEP_S = 1.0
"""Between two looks at the workers."""
QUEUE_S = 20.0
"""Between two questions to the batch system about jobs whose worker has not come up."""
FRUITLESS = 3
"""Generations of jobs in a row that may end before any worker came up."""
TAIL = 12
"""Lines of the output of a job that are shown."""

Living = Callable[[], Awaitable[set[str] | None]]
"""Numbers of the jobs in the batch system; None when it does not answer."""


class Keeper:
    """Coroutine on the event loop of a cluster.

    Parameters
    ----------
    cluster
        Cluster whose number of jobs is kept.
    submission
        Record of its jobs; ``trouble`` is set when going on makes no sense.
    living
        Asks the batch system.
    logs
        Folder with the output of the jobs.
    queue_s
        Seconds between two questions to the batch system.
    """

    def __init__(
        self,
        cluster: JobQueueCluster,
        submission: Submission,
        living: Living,
        logs: Path,
        queue_s: float | None = None,
    ) -> None:
        self._cluster = cluster
        self._submission = submission
        self._living = living
        self._logs = logs
        self._queue_s = QUEUE_S if queue_s is None else queue_s
        self._came: dict[str, str] = {}
        """Last job of each worker name that came up."""
        self._doubtful: set[str] = set()
        """Jobs that the batch system did not know when it was asked the last time."""
        self._fruitless = 0
        self._asked = time.monotonic()
        self._end = False

    def start(self) -> None:
        """Begin to keep."""
        self._cluster.loop.add_callback(self._run)

    def stop(self) -> None:
        """Replace nothing any more, and give up submissions that are being repeated."""
        self._end = True
        self._submission.closing = True

    async def _run(self) -> None:
        while not self._end:
            await asyncio.sleep(STEP_S)
            if self._end or self._cluster.status != Status.running:
                return
            try:
                await self.look()
            except Exception:
                # Whatever went wrong, the next look may succeed; without a keeper lost jobs stay lost.
                LOGGER.exception("the jobs could not be looked after")

    def _connected(self) -> set[str]:
        return {str(worker.name) for worker in self._cluster.scheduler.workers.values()}

    async def look(self) -> None:
        """One look: greet who came, replace what is lost."""
        connected = self._connected()
        for name in connected & set(self._cluster.workers):
            job = str(self._cluster.workers[name].job_id)
            if self._came.get(name) != job:
                self._came[name] = job
                self._fruitless = 0
                LOGGER.info("worker %s of job %s has come up", name, job)
        if time.monotonic() - self._asked >= self._queue_s:
            self._asked = time.monotonic()
            await self._look_for_dead(connected)
        missing = sorted(set(self._cluster.worker_spec) - set(self._cluster.workers))
        for name in missing:
            self._came.pop(name, None)
            # Not only what came up by the last look: a worker may come and go between two of them.
            job = self._submission.jobs.pop(name, "")
            if job:
                LOGGER.warning("job %s of worker %s is lost; submitting another", job, name)
        if missing and not self._submission.trouble:
            self._cluster.scale(jobs=len(self._cluster.worker_spec))

    async def _look_for_dead(self, connected: set[str]) -> None:
        """Drop jobs that ended although their worker never came up."""
        waiting = {
            name: str(job.job_id)
            for name, job in self._cluster.workers.items()
            if name not in connected and job.job_id and self._came.get(name) != str(job.job_id)
        }
        if not waiting:
            return
        there = await self._living()
        if there is None:
            return
        unknown = {job for job in waiting.values() if number(job) not in there}
        # Between start and answer a worker can be in neither list, so it takes two looks.
        dead, self._doubtful = unknown & self._doubtful, unknown
        if not dead or self._end:
            return
        self._fruitless += 1
        told = ""
        for name, job in sorted(waiting.items()):
            if job in dead and name in self._cluster.workers and name not in self._connected():
                told = job
                self._cluster.workers.pop(name).status = Status.closed
                self._submission.jobs.pop(name, None)
                LOGGER.warning("job %s ended before its worker came up; submitting another", job)
        if told and self._fruitless >= FRUITLESS:
            self._submission.trouble = (
                f"worker jobs end before their worker comes up ({self._fruitless} times in a row), "
                f"the last was job {told}{self._output_of(told)}"
            )

    def _output_of(self, job: str) -> str:
        """End of what a job printed."""
        found = sorted(p for p in self._logs.iterdir() if number(job) in p.name)
        if not found:
            return f", which left no output in {self._logs}"
        lines = found[-1].read_text(encoding="utf-8", errors="replace").strip().splitlines()
        return f"; the end of {found[-1]}:\n  " + "\n  ".join(lines[-TAIL:] or ["(empty)"])
