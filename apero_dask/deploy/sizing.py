"""How large a worker job must be, and how many there are: from the runs that a plan will execute."""

from __future__ import annotations

import math
from dataclasses import dataclass

from apero_dask.core.outcome import State
from apero_dask.core.plan import Plan
from apero_dask.deploy.site import ClusterSettings
from apero_dask.engine.needs import memory_mb

WORKER_MB = 700
"""Memory of a worker process beside its run: interpreter, numba and its compiler, dask, calibrations kept."""
DEFAULT_JOBS = 4
"""Worker jobs when neither settings nor CORES say how many."""
LEAST_WALLTIME_S = 3600
WALLTIME_RUNS = 4.0
"""Walltime of a job in units of the longest run: at its end a job throws away half a run on average."""


@dataclass(frozen=True, slots=True)
class JobSize:
    """What one worker job asks for."""

    jobs: int
    threads: int
    """Processors; runs ask for as many as their recipe declares, one run at a time."""
    memory_mb: int
    """Of the whole job."""
    runs_mb: int
    """Of it, for the run."""
    walltime_s: int
    longest_s: float
    """Estimated duration of the longest run."""

    def __str__(self) -> str:
        from apero_dask.deploy.amounts import clock

        each = f"{self.threads} processor(s), {self.memory_mb} MB, {clock(self.walltime_s)}"
        return f"{self.jobs} job(s) of {each}"


def job_size(plan: Plan, settings: ClusterSettings, scale: float, slots: int | None) -> JobSize:
    """Size of the worker jobs for the runs of a plan that are to be executed.

    Parameters
    ----------
    plan
        The plan.
    settings
        What the user or the site demands wins.
    scale
        Pixels of the instrument relative to full frames.
    slots
        Runs at the same time that CORES asks for; None when it does not say.
    """
    tasks = [task for task in plan.tasks if task.state is State.PLANNED]
    needed = max((memory_mb(task, scale) for task in tasks), default=memory_mb(None, scale))
    threads = max((task.step.recipe.resources.threads for task in tasks), default=1)
    longest = max((task.seconds() for task in tasks), default=0.0)
    whole = settings.memory or 100 * math.ceil((needed + WORKER_MB) / 100)
    hours = math.ceil(max(LEAST_WALLTIME_S, WALLTIME_RUNS * longest) / 3600)
    return JobSize(
        jobs=min(settings.workers or slots or DEFAULT_JOBS, max(1, len(tasks))),
        threads=settings.cores or threads,
        memory_mb=whole,
        # A job that the user made small gets the runs all the same: the estimates are generous.
        runs_mb=max(whole - WORKER_MB, needed if settings.memory else 0),
        walltime_s=settings.walltime or 3600 * hours,
        longest_s=longest,
    )
