"""The batch job that the driver itself runs in."""

from __future__ import annotations

import os
from collections.abc import MutableMapping

_KEPT = ("SLURM_CONF", "SBATCH_ACCOUNT", "SBATCH_PARTITION", "SBATCH_QOS", "SBATCH_RESERVATION")
"""Where SLURM is, and what users set for all their jobs."""


def leave_allocation(environment: MutableMapping[str, str] = os.environ) -> str:
    """Forget the job of the driver before it submits others; returns the id of that job, or nothing.

    SLURM hands its variables on to submitted jobs, where a memory per processor of this job would
    contradict the memory of the new one.
    """
    job = environment.get("SLURM_JOB_ID", "") or environment.get("PBS_JOBID", "")
    for name in list(environment):
        if name.startswith(("SLURM_", "SBATCH_", "SRUN_")) and name not in _KEPT:
            del environment[name]
    return job
