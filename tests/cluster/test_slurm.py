"""Run files through ``slurm/apero.sbatch`` on a real SLURM, with workers as jobs of their own.

Waiting times are generous: ten processes start on two processors, and nothing here measures time.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cluster.slurm import Slurm
from tests.engine import bed

pytestmark = pytest.mark.cluster
ROOT = Path(__file__).resolve().parents[2]
WRAPPER = ROOT / "slurm" / "apero.sbatch"
ENDS_S = 420.0
RUN_FILE = f"""\
RUN_NAME = on a cluster
MASTER_OBS_DIR = {bed.MASTER_NIGHT}
INCLUDE_OBS_DIRS = {bed.MASTER_NIGHT}
SCIENCE_TARGETS = Gl699
CORES = 2
id1 = limited_seq
"""
SITE = """\
workers = 2
memory = "2GB"
walltime = "00:30:00"
queue = "main"
interface = "lo"
prologue = "export APERO_TEST_PROLOGUE='a b'"
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


class Submitted:
    """A reduction that runs as a job."""

    def __init__(
        self, slurm: Slurm, root: Path, kernels: Path, instrument: str, module: str, text: str
    ) -> None:
        self.slurm, self.root = slurm, root
        folder = root.parent
        run_file, self.site = folder / "my run.ini", folder / "our site.toml"
        run_file.write_text(text, encoding="utf-8")
        self.site.write_text(SITE, encoding="utf-8")
        self.output = folder / "driver.log"
        environment = {
            **slurm.environment,
            "APERO_PROCESSING": str(command(folder, module)),
            "APERO_KERNEL_CACHE": str(kernels),
        }
        done = subprocess.run(
            [
                *("sbatch", "--parsable", "--mem=1G", f"--output={self.output}", str(WRAPPER)),
                *(instrument, str(run_file), "--data", str(root), "--site", str(self.site)),
            ],
            env=environment,
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
        self.job = done.stdout.strip()

    def workers(self, state: str = "RUNNING") -> list[str]:
        """Ids of its worker jobs."""
        return [job for job, _, found in self.slurm.jobs("apero-") if found == state]

    def end(self) -> str:
        """Exit status and signal (``status:signal``), once it has ended."""
        found = self.slurm.wait(self.job, ENDS_S)
        return found["ExitCode"]

    def said(self) -> str:
        """What it printed."""
        return self.output.read_text(encoding="utf-8", errors="replace") if self.output.exists() else ""

    def log(self) -> str:
        """What became of its jobs."""
        return "".join(p.read_text(encoding="utf-8") for p in (self.root / "log").glob("*/cluster.log"))


@pytest.fixture(scope="module")
def headers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Raw frames without pixels; to be cloned."""
    return bed.make_archive(tmp_path_factory.mktemp("archive") / "data root")


@pytest.fixture(scope="module")
def local(headers: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same run file, reduced by this machine's command in one process."""
    root = bed.clone(headers, tmp_path_factory.mktemp("local") / "data root")
    run_file = root.parent / "run.ini"
    run_file.write_text(RUN_FILE.replace("CORES = 2", "CORES = 1"), encoding="utf-8")
    done = subprocess.run(
        [str(command(root.parent, "tests.cluster.processing")), "SPIROU", str(run_file), "--data", str(root)],
        capture_output=True,
        text=True,
        check=False,
        env={k: v for k, v in os.environ.items() if not k.startswith("APERO_")},
    )
    assert done.returncode == 0, done.stderr
    assert len(bed.contents(root)) > 300
    return root


def test_products_are_those_of_the_local_run(
    slurm: Slurm, headers: Path, local: Path, kernels: Path, tmp_path: Path
) -> None:
    """And a worker job that is cancelled in the middle changes nothing but the log."""
    root = bed.clone(headers, tmp_path / "data root")
    bed.set_faults(root, {"*": {"kind": "jitter", "seconds": 0.6}})
    run = Submitted(slurm, root, kernels, "SPIROU", "tests.cluster.processing", RUN_FILE)
    until(lambda: sum(bed.executions(root).values()) > 20, "work has begun")
    victim = run.workers()[0]
    slurm.run("scancel", victim)
    assert run.end() == "0:0", run.said()
    assert bed.contents(root) == bed.contents(local)
    assert f"job {victim} of worker" in run.log() and "is lost" in run.log()
    assert run.workers() == run.workers("PENDING") == []
