"""A backend whose workers are jobs of SLURM or PBS."""

from __future__ import annotations

import contextlib
import logging
import socket
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import dask
from dask_jobqueue.core import JobQueueCluster
from distributed import Client

from apero_dask.deploy.allocation import leave_allocation
from apero_dask.deploy.amounts import clock
from apero_dask.deploy.certificates import CertificateError, make_certificates, remove_certificates
from apero_dask.deploy.clusters import ClusterError
from apero_dask.deploy.jobs import Submission, build_cluster
from apero_dask.deploy.keeper import Keeper
from apero_dask.deploy.queue import living, missing_commands, sweep
from apero_dask.deploy.site import ClusterSettings
from apero_dask.deploy.sizing import JobSize
from apero_dask.engine.backend import Runner
from apero_dask.engine.dask_backend import SETTINGS, DaskBackend
from apero_dask.engine.worker import run_task
from apero_dask.engine.worker_process import installed_code

LOST_S = 5
"""Seconds until a worker that went away counts as lost; a process that its nanny restarts is back by then."""
LOGGER = logging.getLogger("apero_dask.deploy")


@dataclass(frozen=True, slots=True)
class JobRequest:
    """Worker jobs of one invocation."""

    settings: ClusterSettings
    size: JobSize
    name: str
    """Name of the jobs; an invocation that is continued has the same again."""
    folder: Path
    """Folder of the invocation on the shared file system, for the output of the jobs."""


@contextlib.contextmanager
def batch_backend(request: JobRequest, runner: Runner = run_task) -> Iterator[tuple[DaskBackend, str]]:
    """Backend over worker jobs, with the address of its dashboard.

    The scheduler lives in this process; when the block is left all jobs are taken back.

    Raises
    ------
    ClusterError
        No job can be submitted here, or no scheduler can be started as the settings say.
    """
    settings, kind = request.settings, request.settings.kind
    missing = missing_commands(kind)
    if missing:
        raise ClusterError(
            f"kind {kind} needs the command(s) {', '.join(missing)}, "
            f"which are not on the PATH of {socket.gethostname()}; "
            "start where jobs can be submitted, or use --cluster local"
        )
    interfaces = sorted(name for _, name in socket.if_nameindex())
    if settings.interface and settings.interface not in interfaces:
        raise ClusterError(
            f"interface = {settings.interface}: {socket.gethostname()} has no such network interface, "
            f"expected one of {', '.join(interfaces)}"
        )
    own_job = leave_allocation()
    logs, secrets = request.folder / "jobs", request.folder / "tls"
    logs.mkdir(parents=True, exist_ok=True)
    submission = Submission(settings.retries)
    with contextlib.ExitStack() as stack:
        stack.enter_context(keep_log(request.folder / "cluster.log"))
        LOGGER.info("driver on %s%s", socket.gethostname(), f" in job {own_job}" if own_job else "")
        swept = sweep(kind, request.name)
        if swept:
            LOGGER.warning("%d job(s) %s of an earlier driver were taken back", swept, request.name)
        stack.enter_context(
            dask.config.set({**SETTINGS, "distributed.deploy.lost-worker-timeout": f"{LOST_S}s"})
        )
        security = None
        if settings.tls:
            stack.callback(remove_certificates, secrets)
            try:
                security = make_certificates(secrets)
            except (CertificateError, OSError) as error:
                raise ClusterError(str(error)) from error
        try:
            cluster = build_cluster(
                kind,
                settings,
                request.size,
                name=request.name,
                logs=logs,
                code=installed_code(),
                security=security,
                submission=submission,
            )
        except (RuntimeError, OSError, ValueError) as error:
            raise ClusterError(f"no scheduler can be started: {error}") from error
        stack.callback(_close, cluster)
        client = stack.enter_context(Client(cluster, timeout="30s"))
        keeper = Keeper(cluster, submission, lambda: living(kind, request.name), logs)
        stack.callback(keeper.stop)
        keeper.start()
        cluster.scale(jobs=request.size.jobs)
        backend = DaskBackend(
            client, runner, memory_mb=request.size.runs_mb, trouble=lambda: submission.trouble
        )
        stack.callback(backend.close)
        _announce(request, cluster)
        yield backend, cluster.dashboard_link


def _announce(request: JobRequest, cluster: JobQueueCluster) -> None:
    """Say what was asked for, and where it will be seen."""
    LOGGER.info("scheduler %s, dashboard %s", cluster.scheduler_address, cluster.dashboard_link)
    text = f"Workers: {request.size} each from {request.settings.kind}, named {request.name}; output in "
    print(f"{text}{request.folder / 'jobs'}", file=sys.stderr)
    if request.size.walltime_s < request.size.longest_s:
        print(
            f"Note: the longest run may take {clock(round(request.size.longest_s))}, longer than the "
            f"walltime of a worker job ({clock(request.size.walltime_s)}); "
            "a run that was lost three times is given up.",
            file=sys.stderr,
        )
    if not request.settings.interface:
        print(
            "Note: no interface is set, so only jobs on this machine can reach the scheduler; "
            "set interface in the site profile (or DASK_INTERFACE) to use other nodes.",
            file=sys.stderr,
        )


def _close(cluster: JobQueueCluster) -> None:
    """Take all jobs back; a batch system that does not answer loses them by itself, without a scheduler."""
    try:
        cluster.close(timeout=60)
    except (TimeoutError, OSError, RuntimeError, AssertionError) as error:
        LOGGER.warning("the jobs could not all be taken back (%s); they end by themselves", error)


@contextlib.contextmanager
def keep_log(path: Path) -> Iterator[None]:
    """Everything in a file, warnings on the error stream as well."""
    to_file = logging.FileHandler(path, encoding="utf-8")
    to_file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    to_stream = logging.StreamHandler(sys.stderr)
    to_stream.setLevel(logging.WARNING)
    to_stream.setFormatter(logging.Formatter("Cluster: %(message)s"))
    level, propagate = LOGGER.level, LOGGER.propagate
    LOGGER.setLevel(logging.INFO)
    LOGGER.propagate = False
    LOGGER.addHandler(to_file)
    LOGGER.addHandler(to_stream)
    try:
        yield
    finally:
        LOGGER.removeHandler(to_stream)
        LOGGER.removeHandler(to_file)
        to_file.close()
        LOGGER.setLevel(level)
        LOGGER.propagate = propagate
