"""Reductions by the real commands, with or without a batch system: what the tests of this folder share."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from tests.engine import bed

ROOT = Path(__file__).resolve().parents[2]
STANDINS, REAL = "tests.cluster.processing", "apero_dask"
"""What is run: the command with stand-in recipes, or as it is."""
RUN_FILE = f"""\
RUN_NAME = on a cluster
MASTER_OBS_DIR = {bed.MASTER_NIGHT}
INCLUDE_OBS_DIRS = {bed.MASTER_NIGHT}
SCIENCE_TARGETS = Gl699
CORES = 2
id1 = limited_seq
"""


def until(condition: Callable[[], object], what: str, seconds: float = 180.0) -> None:
    """Wait for something to become true."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{what}: not within {seconds:.0f} s"
        time.sleep(0.2)


def command(folder: Path, module: str) -> Path:
    """A program like the installed ``apero_processing``: this interpreter, these sources."""
    path = folder / "apero processing"
    sources = f"{ROOT}:{ROOT / 'kernels'}"
    path.write_text(
        f"#!/bin/bash\nexport PYTHONPATH={shlex.quote(sources)}\n"
        f'exec {shlex.quote(sys.executable)} -m {module} "$@"\n',
        encoding="utf-8",
    )
    path.chmod(0o755)
    return path


def reduced_locally(root: Path, instrument: str, module: str, text: str) -> Path:
    """Reduce on this machine with the local dask cluster; returns the data root."""
    run_file = root.parent / "run.ini"
    run_file.write_text(text, encoding="utf-8")
    program = str(command(root.parent, module))
    done = subprocess.run(
        [program, instrument, str(run_file), "--data", str(root), "--cluster", "local"],
        capture_output=True,
        text=True,
        check=False,
        env={k: v for k, v in os.environ.items() if not k.startswith("APERO_")},
    )
    assert done.returncode == 0, done.stderr
    return root


def cluster_log(root: Path) -> str:
    """What became of the jobs of all invocations."""
    return "".join(p.read_text(encoding="utf-8") for p in (root / "log").glob("*/cluster.log"))
