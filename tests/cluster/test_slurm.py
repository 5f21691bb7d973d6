"""Run files through ``slurm/apero.sbatch`` on a real SLURM, with workers as jobs of their own.

Waiting times are generous: ten processes start on two processors, and nothing here measures time.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from apero_dask.simulator.cli import main as simulate
from tests.cluster.reductions import (
    REAL,
    ROOT,
    RUN_FILE,
    STANDINS,
    cluster_log,
    command,
    reduced_locally,
    until,
)
from tests.cluster.slurm import Slurm
from tests.engine import bed

pytestmark = pytest.mark.cluster
WRAPPER = ROOT / "slurm" / "apero.sbatch"
ENDS_S = 500.0
SITE = """\
workers = 2
memory = "2GB"
walltime = "00:30:00"
queue = "main"
interface = "lo"
prologue = "export APERO_TEST_PROLOGUE='a b'"
"""


class Submitted:
    """A reduction that runs as a job."""

    def __init__(
        self,
        slurm: Slurm,
        root: Path,
        instrument: str,
        module: str,
        text: str,
        *,
        asked: tuple[str, ...] = (),
        options: tuple[str, ...] = (),
        **more: str,
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
            **more,
        }
        done = subprocess.run(
            [
                *("sbatch", "--parsable", "--mem=1G", f"--output={self.output}", *asked, str(WRAPPER)),
                *(instrument, str(run_file), "--data", str(root), "--site", str(self.site), *options),
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

    def end(self, seconds: float = ENDS_S) -> str:
        """Exit status and signal (``status:signal``), once it has ended."""
        found = self.slurm.wait(self.job, seconds)
        return found["ExitCode"]

    def said(self) -> str:
        """What it printed."""
        return self.output.read_text(encoding="utf-8", errors="replace") if self.output.exists() else ""


def test_products_are_those_of_the_local_run(
    slurm: Slurm, headers: Path, local: Path, tmp_path: Path
) -> None:
    """All sequences with stand-in recipes; a worker job is cancelled in the middle, only the log shows it."""
    root = bed.clone(headers, tmp_path / "data root")
    bed.set_faults(root, {"*": {"kind": "jitter", "seconds": 0.4}})
    run = Submitted(slurm, root, "SPIROU", STANDINS, RUN_FILE)
    until(lambda: sum(bed.executions(root).values()) > 20, "work has begun")
    victim = run.workers()[0]
    slurm.run("scancel", victim)
    assert run.end() == "0:0", run.said()
    assert len(bed.contents(root)) > 300
    assert bed.contents(root) == bed.contents(local)
    assert f"job {victim} of worker" in cluster_log(root) and "is lost" in cluster_log(root)
    assert run.workers() == run.workers("PENDING") == []
    assert bed.temporaries(root) == []
    assert "Dashboard: http://127.0.0.1:" in run.said() and "tls://127.0.0.1:" in cluster_log(root)
    assert not list((root / "log").glob("*/tls"))


def test_reduction_stops_before_the_walltime_and_continues(
    slurm: Slurm, headers: Path, local: Path, tmp_path: Path
) -> None:
    """What runs comes to its end, all jobs go, the status is 75; the next job computes nothing twice."""
    root = bed.clone(headers, tmp_path / "data root")
    bed.set_faults(root, {"*": {"kind": "jitter", "seconds": 0.4}})
    first = Submitted(slurm, root, "SPIROU", STANDINS, RUN_FILE, APERO_MOST_RESTARTS="0")
    until(lambda: sum(bed.executions(root).values()) > 20, "work has begun")
    slurm.run("scancel", "--batch", "--signal=USR1", first.job)
    assert first.end() == "75:0", first.said()
    until(lambda: not slurm.jobs("apero-"), "the worker jobs go", 30.0)
    done = sum(bed.executions(root).values())
    assert done < len(bed.contents(local))
    bed.set_faults(root, {})
    second = Submitted(slurm, root, "SPIROU", STANDINS, RUN_FILE)
    assert second.end() == "0:0", second.said()
    assert bed.contents(root) == bed.contents(local)
    assert set(bed.executions(root).values()) == {1}


@pytest.mark.slow
def test_workers_inside_the_job_of_the_driver(
    slurm: Slurm, headers: Path, local: Path, tmp_path: Path
) -> None:
    """For sites where jobs may not submit jobs."""
    root = bed.clone(headers, tmp_path / "data root")
    run = Submitted(
        *(slurm, root, "SPIROU", STANDINS, RUN_FILE), asked=("--ntasks=2",), options=("--single-allocation",)
    )
    assert run.end() == "0:0", run.said()
    assert not slurm.jobs()
    assert "2 worker(s) in job" in cluster_log(root)
    assert bed.contents(root) == bed.contents(local)
    assert len(list((root / "log").glob("*/jobs/worker-*.log"))) == 2


ONE_NIGHT = f"""\
MASTER_OBS_DIR = {bed.MASTER_NIGHT}
TELLURIC_TARGETS = 59Peg, gamSct
SCIENCE_TARGETS = Gl699
CORES = 2
id1 = limited_seq
"""


@pytest.fixture(scope="module")
def night(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """First night of the demonstration with one science frame, with pixels; to be cloned."""
    root = tmp_path_factory.mktemp("night") / "data"
    asked = ["--campaign", "demo", "--nights", "1", "--frames", "1", "--no-truth-images"]
    assert simulate([*asked, "--out", str(root)]) == 0
    return root


@pytest.mark.timeout(1800)
def test_pixels_are_those_of_the_local_run(slurm: Slurm, night: Path, tmp_path: Path) -> None:
    """Raw frames to velocities, once here and once as jobs, one of which is cancelled at work."""
    here = reduced_locally(bed.clone(night, tmp_path / "local" / "data"), "SPIROU_MINI", REAL, ONE_NIGHT)
    root = bed.clone(night, tmp_path / "jobs" / "data")
    run = Submitted(slurm, root, "SPIROU_MINI", REAL, ONE_NIGHT)
    until(lambda: len(list((root / "log" / "markers").rglob("*.json"))) > 30, "work has begun", 900.0)
    victim = run.workers()[0]
    slurm.run("scancel", victim)
    assert run.end(900.0) == "0:0", run.said()
    assert f"job {victim} of worker" in cluster_log(root) and "is lost" in cluster_log(root)
    found = bed.contents(root)
    assert any(path.endswith("_AB.fits") and "_ccf_" in path for path in found)
    assert found == bed.contents(here)


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_demonstration_campaign(slurm: Slurm, kernels: Path, tmp_path: Path) -> None:
    """Raw frames to velocities of the demonstration, once here and once as jobs, one of them cancelled."""
    text = (ROOT / "runfiles" / "demo.ini").read_text(encoding="utf-8")
    raw = tmp_path / "raw" / "data"
    assert simulate(["--campaign", "demo", "--out", str(raw), "--workers", "2", "--no-truth-images"]) == 0
    here = reduced_locally(bed.clone(raw, tmp_path / "local" / "data"), "SPIROU_MINI", REAL, text)
    root = bed.clone(raw, tmp_path / "jobs" / "data")
    run = Submitted(slurm, root, "SPIROU_MINI", REAL, text, APERO_KERNEL_CACHE=str(kernels))
    until(lambda: len(list((root / "log" / "markers").rglob("*.json"))) > 60, "work has begun", 1800.0)
    victim = run.workers()[0]
    slurm.run("scancel", victim)
    assert run.end(7000.0) == "0:0", run.said()
    assert f"job {victim} of worker" in cluster_log(root)
    # Both jobs met an empty folder for compiled loops.
    assert any(path.suffix == ".nbc" for path in kernels.rglob("*"))
    assert bed.contents(root) == bed.contents(here)
