"""Worker jobs of SLURM and PBS through dask-jobqueue, with what it lacks: submission that is repeated.

One job is one worker process that executes one run at a time.
"""

from __future__ import annotations

import asyncio
import logging
import os
import shlex
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dask_jobqueue import PBSCluster, SLURMCluster
from dask_jobqueue.core import Job, JobQueueCluster
from dask_jobqueue.pbs import PBSJob
from dask_jobqueue.slurm import SLURMJob
from distributed.core import Status
from distributed.security import Security

from apero_dask.deploy.amounts import clock
from apero_dask.deploy.site import ClusterSettings
from apero_dask.deploy.sizing import JobSize
from apero_dask.engine.dask_backend import MEMORY, SETTINGS, THREADS
from apero_dask.engine.worker import THREAD_VARIABLES

LOGGER = logging.getLogger("apero_dask.deploy")
FIRST_DELAY_S = 1.0
LONGEST_DELAY_S = 60.0
DEATH_TIMEOUT_S = 300
"""A worker that finds no scheduler for so long ends its job."""
LOOPBACK = "127.0.0.1"
CACHE_VARIABLE = "APERO_KERNEL_CACHE"


@dataclass
class Submission:
    """How the jobs of one cluster are submitted; shared by all of them."""

    retries: int
    first_delay_s: float = FIRST_DELAY_S
    closing: bool = False
    trouble: str = ""
    """Why no job can be had any more; empty while all is well."""
    jobs: dict[str, str] = field(default_factory=dict)
    """Newest job of each worker name that is not known to have ended."""


class _Persistent(Job):
    """A job whose submission is repeated, and whose failure does not leave the cluster half dead."""

    def __init__(
        self, *args: Any, submission: Submission, security: Security | None = None, **kwargs: Any
    ) -> None:
        self._submission = submission
        kwargs.pop("protocol", None)
        kwargs["worker_extra_args"] = [*kwargs.get("worker_extra_args", ()), *_tls_options(security)]
        super().__init__(*args, **kwargs)

    async def _submit_job(self, script_filename: str) -> str:
        waiting, attempts = self._submission.first_delay_s, 0
        while True:
            try:
                return str(await super()._submit_job(script_filename))
            except (RuntimeError, OSError) as error:
                attempts += 1
                text = reason_of(error)
                if attempts > self._submission.retries or self._submission.closing:
                    raise
                LOGGER.warning("%s failed (%s); trying again in %.0f s", self.submit_command, text, waiting)
                await self._sleep(waiting)
                waiting = min(2.0 * waiting, LONGEST_DELAY_S)

    async def _sleep(self, seconds: float) -> None:
        while seconds > 0.0 and not self._submission.closing:
            await asyncio.sleep(min(0.2, seconds))
            seconds -= 0.2

    async def start(self) -> None:
        """Submit the job; when that is given up, say so in the record of the cluster."""
        try:
            await super().start()
            self._submission.jobs[str(self.name)] = str(self.job_id)
            LOGGER.info("%s submitted as job %s", self.name, self.job_id)
        except (RuntimeError, OSError, ValueError) as error:
            # An exception here would be lost in the event loop, and the entry would stay as if it ran.
            if not self._submission.closing:
                self._submission.trouble = (
                    f"jobs cannot be submitted: {self.submit_command} failed "
                    f"{self._submission.retries + 1} times, at last with: {reason_of(error)}"
                )
            self.status = Status.running

    async def close(self) -> None:
        """Take the job back."""
        await super().close()
        self.status = Status.closed


def _tls_options(security: Security | None) -> list[str]:
    """Options of a worker about certificates; dask-jobqueue does not quote the paths."""
    if security is None:
        return []
    files = security.get_tls_config_for_role("worker")
    return [f"--tls-{key.replace('_', '-')} {shlex.quote(files[key])}" for key in ("ca_file", "cert", "key")]


def reason_of(error: BaseException) -> str:
    """What the batch system said, in one line."""
    _, found, tail = str(error).partition("stderr:\n")
    lines = [line.strip() for line in (tail if found else str(error)).splitlines() if line.strip()]
    return "; ".join(lines) or type(error).__name__


class PersistentSLURMJob(_Persistent, SLURMJob):
    """Worker job of SLURM."""


class PersistentPBSJob(_Persistent, PBSJob):
    """Worker job of PBS."""


def quoted(text: str) -> str:
    """Text in double quotes for a shell that expands variables in it and nothing else.

    >>> print(quoted('$SCRATCH/a "b"'))
    "$SCRATCH/a \\"b\\""
    """
    for letter in ("\\", '"', "`"):
        text = text.replace(letter, f"\\{letter}")
    return f'"{text}"'


def prologue(kind: str, settings: ClusterSettings, size: JobSize, code: str) -> list[str]:
    """Shell lines of a worker job before the worker starts.

    PBS starts a job in the home folder with an environment of its own, SLURM carries both over.
    """
    lines = []
    if kind == "pbs":
        lines.append(f"cd {shlex.quote(str(Path.cwd()))}")
        if os.environ.get("PYTHONPATH"):
            lines.append(f"export PYTHONPATH={shlex.quote(os.environ['PYTHONPATH'])}")
    lines += settings.prologue
    lines += [f"export {name}={size.threads}" for name in THREAD_VARIABLES]
    for key, value in SETTINGS.items():
        if key.startswith("distributed.worker."):
            name = "DASK_" + key.upper().replace(".", "__").replace("-", "_")
            lines.append(f"export {name}={shlex.quote(str(value))}")
    if settings.kernel_cache:
        lines.append(f"export {CACHE_VARIABLE}={quoted(settings.kernel_cache)}")
    elif kind == "pbs" and os.environ.get(CACHE_VARIABLE):
        lines.append(f"export {CACHE_VARIABLE}={shlex.quote(os.environ[CACHE_VARIABLE])}")
    if settings.scratch:
        lines.append(f"mkdir -p {quoted(settings.scratch)}")
    if code:
        # A worker with other code would write products that look like those of this driver.
        lines.append(f"{interpreter(settings)} -m apero_dask.engine.worker_process {code} || exit 1")
    return lines


def worker_options(settings: ClusterSettings, size: JobSize) -> list[str]:
    """Options of a worker that dask-jobqueue does not set, as words for the shell."""
    place = ["--interface", settings.interface] if settings.interface else ["--host", LOOPBACK]
    declared = shlex.quote(f"{MEMORY}={size.runs_mb} {THREADS}={size.threads}")
    # Pages about a worker (health, metrics) have no password either.
    pages = ["--no-dashboard", "--dashboard-address", f"{LOOPBACK}:0"]
    return [*place, *pages, "--resources", declared]


def worker_command(
    scheduler: str, settings: ClusterSettings, size: JobSize, security: Security | None
) -> str:
    """Line of the shell that starts a worker without dask-jobqueue."""
    return " ".join(
        [
            f"{interpreter(settings)} -m distributed.cli.dask_worker {scheduler} --nthreads 1 --nanny",
            f"--memory-limit {size.memory_mb}MB --death-timeout {DEATH_TIMEOUT_S}",
            *([f"--local-directory {quoted(settings.scratch)}"] if settings.scratch else []),
            *worker_options(settings, size),
            *_tls_options(security),
        ]
    )


def interpreter(settings: ClusterSettings) -> str:
    """Python of the worker jobs, as a word for the shell."""
    return shlex.quote(settings.python or sys.executable)


def directives(kind: str, settings: ClusterSettings, logs: Path) -> list[str]:
    """Header lines of a worker job beside those of dask-jobqueue, without ``#SBATCH`` or ``#PBS``.

    A lost job is replaced by a new one: the batch system must not start it again as well.
    """
    if kind == "slurm":
        # In file names, a percent sign begins a pattern.
        own = ["--no-requeue", f'--output="{str(logs).replace("%", "%%")}/%x-%j.log"']
    else:
        own = ["-r n", "-j oe", f'-o "{logs}/"' if " " in str(logs) else f"-o {logs}/"]
    return [*own, *settings.directives]


def build_cluster(
    kind: str,
    settings: ClusterSettings,
    size: JobSize,
    *,
    name: str,
    logs: Path,
    code: str = "",
    security: Security | None = None,
    submission: Submission | None = None,
) -> JobQueueCluster:
    """Cluster with a scheduler in this process and no job yet.

    Parameters
    ----------
    kind
        ``slurm`` or ``pbs``.
    settings, size
        What the site wants, and what the plan needs.
    name
        Name of the jobs, unique to the invocation: leftovers are found by it.
    logs
        Folder for the output of the jobs, on a file system that the nodes share; it must exist.
    code
        Digest of the code; workers with another one refuse to start.
    security
        Certificates, as paths that the nodes can read.
    submission
        Record shared by the jobs.
    """
    options: dict[str, Any] = {
        # The page has no password: whoever wants to see it needs access to this machine.
        "dashboard_address": f"{LOOPBACK}:0",
        **({"interface": settings.interface} if settings.interface else {"host": LOOPBACK}),
    }
    values: dict[str, Any] = {
        "scheduler_options": options,
        "job_name": name,
        "name": name,
        "queue": settings.queue or None,
        "account": settings.account or None,
        "walltime": clock(size.walltime_s),
        # Processes are passed explicitly, else there would be several; cores are the threads of the worker.
        "processes": 1,
        "cores": 1,
        "memory": f"{size.memory_mb}MB",
        "python": interpreter(settings),
        "local_directory": quoted(settings.scratch) if settings.scratch else None,
        "death_timeout": DEATH_TIMEOUT_S,
        "nanny": True,
        "worker_extra_args": worker_options(settings, size),
        "job_script_prologue": prologue(kind, settings, size, code),
        "job_extra_directives": directives(kind, settings, logs),
        "job_directives_skip": settings.skip_directives,
        "security": security,
        "submission": submission or Submission(settings.retries),
    }
    if kind == "slurm":
        return SLURMCluster(job_cls=PersistentSLURMJob, job_cpu=size.threads, **values)
    spec = settings.resource_spec or f"select=1:ncpus={size.threads}:mem={size.memory_mb}mb"
    return PBSCluster(job_cls=PersistentPBSJob, resource_spec=spec, **values)
