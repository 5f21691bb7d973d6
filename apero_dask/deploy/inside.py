"""Workers inside the allocation of the job that the driver runs in, for sites where jobs may not submit jobs.

All processors are there at once or not at all, and their number is fixed.  A lost worker is not replaced.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping

import dask
from distributed import Client, LocalCluster

from apero_dask.deploy.batch import JobRequest, keep_log
from apero_dask.deploy.certificates import CertificateError, make_certificates, remove_certificates
from apero_dask.deploy.clusters import ClusterError
from apero_dask.deploy.jobs import LOGGER, LOOPBACK, prologue, worker_command
from apero_dask.engine.backend import Runner
from apero_dask.engine.dask_backend import SETTINGS, DaskBackend
from apero_dask.engine.worker import run_task
from apero_dask.engine.worker_process import installed_code

STOPPED_S = 20.0
"""Seconds that the workers get to end."""


def tasks_of(environment: Mapping[str, str] = os.environ) -> int:
    """Tasks of the allocation of this process.

    Raises
    ------
    ClusterError
        This process is in no allocation of SLURM, or its size is not known.
    """
    text = environment.get("SLURM_NTASKS", "")
    if not environment.get("SLURM_JOB_ID") or not text.isdigit() or shutil.which("srun") is None:
        raise ClusterError(
            "--single-allocation needs a SLURM job with its number of tasks, such as "
            "sbatch --ntasks=16 --mem-per-cpu=4G slurm/apero.sbatch ...; found "
            + (f"SLURM_NTASKS = {text or 'nothing'}" if environment.get("SLURM_JOB_ID") else "no job")
        )
    return int(text)


@contextlib.contextmanager
def inside_backend(request: JobRequest, runner: Runner = run_task) -> Iterator[tuple[DaskBackend, str]]:
    """Backend over one worker for each task of the allocation, with the address of its dashboard.

    Raises
    ------
    ClusterError
        There is no allocation, or the workers cannot be started in it.
    """
    settings, count = request.settings, tasks_of()
    logs, secrets = request.folder / "jobs", request.folder / "tls"
    logs.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        stack.enter_context(keep_log(request.folder / "cluster.log"))
        LOGGER.info("driver and %d worker(s) in job %s", count, os.environ["SLURM_JOB_ID"])
        stack.enter_context(dask.config.set(SETTINGS))
        security = None
        if settings.tls:
            stack.callback(remove_certificates, secrets)
            try:
                security = make_certificates(secrets)
            except (CertificateError, OSError) as error:
                raise ClusterError(str(error)) from error
        place = {"interface": settings.interface} if settings.interface else {"host": LOOPBACK}
        try:
            cluster = LocalCluster(
                n_workers=0,
                protocol="tls://" if security else "tcp://",
                security=security,
                dashboard_address=f"{LOOPBACK}:0",
                silence_logs=40,
                **place,
            )
        except (RuntimeError, OSError, ValueError) as error:
            raise ClusterError(f"no scheduler can be started: {error}") from error
        stack.callback(cluster.close, 30)
        client = stack.enter_context(Client(cluster, timeout="30s"))
        script = "\n".join(
            [
                *prologue("slurm", settings, request.size, installed_code()),
                f"exec {worker_command(cluster.scheduler_address, settings, request.size, security)} "
                f'--name "{request.name}-$SLURM_PROCID"',
            ]
        )
        workers = subprocess.Popen(
            [
                *("srun", "--overlap", f"--ntasks={count}", "--kill-on-bad-exit=0", "--no-kill"),
                f"--output={str(logs).replace('%', '%%')}/worker-%t.log",
                *("bash", "-c", script),
            ],
            stderr=subprocess.DEVNULL,
        )
        stack.callback(_stop, workers)

        def trouble() -> str:
            status = workers.poll()
            return "" if status is None else f"all workers ended (status {status}); see {logs}"

        backend = DaskBackend(client, runner, memory_mb=request.size.runs_mb, trouble=trouble)
        stack.callback(backend.close)
        print(f"Workers: {count} in this job; output in {logs}", file=sys.stderr)
        yield backend, cluster.dashboard_link


def _stop(workers: subprocess.Popen[bytes]) -> None:
    """End the workers; srun passes the signal on."""
    if workers.poll() is None:
        workers.terminate()
    deadline = time.monotonic() + STOPPED_S
    while workers.poll() is None and time.monotonic() < deadline:
        time.sleep(0.1)
    if workers.poll() is None:
        workers.kill()
        workers.wait()
