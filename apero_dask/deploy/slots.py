"""Processors and memory that this job may use, and what CORES makes of them."""

from __future__ import annotations

import os
from pathlib import Path

from apero_dask.core.errors import Findings

CGROUP = Path("/sys/fs/cgroup")


def available_processors() -> int:
    """Processors this process may use: affinity, container quota and batch allocation count."""
    count = len(os.sched_getaffinity(0))
    quota = _cgroup_quota()
    if quota is not None:
        count = min(count, quota)
    for name in ("SLURM_CPUS_PER_TASK", "SLURM_CPUS_ON_NODE", "NCPUS"):
        text = os.environ.get(name, "")
        if text.isdigit() and int(text) > 0:
            return max(1, min(count, int(text)))
    return max(1, count)


def _cgroup_quota() -> int | None:
    try:
        quota, period = (CGROUP / "cpu.max").read_text(encoding="ascii").split()
    except (OSError, ValueError):
        return None
    if quota == "max":
        return None
    return max(1, int(quota) // int(period))


def available_memory_mb() -> int:
    """Memory of the machine or of the container this process lives in, MB."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        text = (CGROUP / "memory.max").read_text(encoding="ascii").strip()
    except OSError:
        text = "max"
    if text.isdigit():
        total = min(total, int(text))
    return total // 1_000_000


def slots(cores: int, processors: int, findings: Findings, line: int = 0, local: bool = True) -> int:
    """Parallel slots for a value of CORES.

    Positive: that many.  0: all but one.  Negative: that many fewer than there are, at least one.

    >>> found = Findings()
    >>> [slots(n, 8, found) for n in (4, 1, 0, -2, -9)], found.codes()
    ([4, 1, 7, 6, 1], ['W-CORES-CLAMP'])
    """
    if cores > 0:
        if cores > processors and local:
            findings.add("W-CORES-OVER", line=line, value=cores, n=processors)
        return cores
    if cores == 0:
        return max(1, processors - 1)
    if processors + cores < 1:
        findings.add("W-CORES-CLAMP", line=line, value=cores, n=processors)
        return 1
    return processors + cores
