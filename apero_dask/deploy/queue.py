"""Questions to the batch system: which jobs of a name are there, and away with those of a dead driver."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from collections.abc import Sequence

ANSWER_S = 60.0
"""A batch system that does not answer for so long is asked again later."""
COMMANDS = {"slurm": ("sbatch", "squeue", "scancel"), "pbs": ("qsub", "qselect", "qdel")}
"""Programs that must be on the PATH."""


def missing_commands(kind: str) -> list[str]:
    """Programs of the batch system that are not on the PATH."""
    return [name for name in COMMANDS[kind] if shutil.which(name) is None]


def _listing(kind: str, name: str) -> list[str]:
    user = str(os.getuid())
    if kind == "slurm":
        return ["squeue", "--noheader", "--format=%i", f"--user={user}", f"--name={name}"]
    return ["qselect", "-N", name]


def _ids(text: str) -> list[str]:
    return text.split()


def number(job_id: str) -> str:
    """Number of a job without the name of its server.

    >>> number("123.head"), number("77")
    ('123', '77')
    """
    return job_id.partition(".")[0]


async def living(kind: str, name: str) -> set[str] | None:
    """Numbers of the jobs of this name that wait or run; None when the batch system does not answer."""
    try:
        process = await asyncio.create_subprocess_exec(
            *_listing(kind, name), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
        )
    except OSError:
        return None
    try:
        out, _ = await asyncio.wait_for(process.communicate(), ANSWER_S)
    except TimeoutError:
        process.kill()
        await process.wait()
        return None
    return {number(one) for one in _ids(out.decode())} if process.returncode == 0 else None


def sweep(kind: str, name: str) -> int:
    """Cancel jobs of this name: those that a killed driver left waiting.  Returns how many there were.

    A batch system that does not answer is left alone: the first submission will tell.
    """

    def ask(command: Sequence[str]) -> str:
        done = subprocess.run(command, capture_output=True, text=True, timeout=ANSWER_S, check=False)
        return done.stdout if done.returncode == 0 else ""

    try:
        found = _ids(ask(_listing(kind, name)))
        if found:
            ask([COMMANDS[kind][2], *found])
    except (OSError, subprocess.TimeoutExpired):
        return 0
    return len(found)
