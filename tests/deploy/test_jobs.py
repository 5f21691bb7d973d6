"""Worker jobs: what their scripts say, how they are submitted, replaced and taken back."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from apero_dask.core.plan import Plan, Task
from apero_dask.deploy.allocation import leave_allocation
from apero_dask.deploy.batch import JobRequest, batch_backend
from apero_dask.deploy.certificates import make_certificates
from apero_dask.deploy.clusters import ClusterError
from apero_dask.deploy.inside import tasks_of
from apero_dask.deploy.jobs import Submission, build_cluster, reason_of
from apero_dask.deploy.keeper import Keeper
from apero_dask.deploy.site import ClusterSettings
from apero_dask.deploy.sizing import JobSize, job_size
from apero_dask.engine import worker_process
from apero_dask.engine.backend import BackendLost
from tests.deploy.fakepbs import FakePBS
from tests.engine.contract import collect, runner, work
from tests.planner.planning import plan

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = Path(__file__).parent / "golden"
SIZE = JobSize(jobs=2, threads=1, memory_mb=2000, runs_mb=1300, walltime_s=3600, longest_s=10.0)
FULL = {
    "slurm": ClusterSettings(
        kind="slurm",
        queue="short",
        account="rrg-x",
        scratch="$SLURM_TMPDIR/dask",
        kernel_cache="/var/tmp/kernels",
        python="/opt/my python/bin/python",
        prologue=("module load python", "ulimit -n 4096"),
        directives=("--qos=long",),
        tls=False,
    ),
    "pbs": ClusterSettings(
        kind="pbs",
        queue="short",
        account="rrg-x",
        scratch="$TMPDIR",
        python="/opt/my python/bin/python",
        prologue=("module load python",),
        directives=("-m n",),
        tls=False,
    ),
}


def until(condition: Callable[[], object], what: str, seconds: float = 120.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{what}: not within {seconds:.0f} s"
        time.sleep(0.1)


# -- scripts ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["slurm", "pbs"])
@pytest.mark.parametrize("settings", ["full", "bare"])
def test_job_script_is_the_golden_text(
    kind: str, settings: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every line of the scripts was judged when it was written down; a change has to be judged again."""
    here = tmp_path / "at work"
    here.mkdir()
    monkeypatch.chdir(here)
    monkeypatch.setenv("PYTHONPATH", "/sources:/more")
    monkeypatch.delenv("APERO_KERNEL_CACHE", raising=False)
    given = FULL[kind] if settings == "full" else ClusterSettings(kind=kind, python="/opt/python", tls=False)
    size = replace(SIZE, threads=4) if settings == "full" else SIZE
    with build_cluster(
        kind, given, size, name="apero-20260101T000000-1", logs=here / "jobs", code="c0de"
    ) as cluster:
        script = cluster.job_script().replace(str(here), "/at work")
    script = re.sub(r"tcp://127\.0\.0\.1:\d+", "tcp://127.0.0.1:PORT", script)
    assert script == (GOLDEN / f"{kind}-{settings}.sh").read_text(encoding="utf-8")


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*.sh")), ids=lambda path: path.stem)
def test_golden_scripts_are_shell(path: Path) -> None:
    """The shell understands them, quoted words stay together, variables of the node are left to it."""
    text = path.read_text(encoding="utf-8")
    command = next(line for line in text.splitlines() if "dask_worker" in line)
    assert "--lifetime" not in command and "--nworkers" not in command
    code = f'set -- {command}\nprintf "%s\\n" "$@"'
    values = {"PATH": "/usr/bin:/bin", "SLURM_TMPDIR": "/node local", "TMPDIR": "/node local"}
    done = subprocess.run(["bash", "-c", code], capture_output=True, text=True, check=True, env=values)
    words = done.stdout.splitlines()
    assert words[0] in ("/opt/python", "/opt/my python/bin/python")
    assert words[words.index("--nthreads") + 1] == "1"
    assert words[words.index("--resources") + 1] in ("memory_mb=1300 threads=1", "memory_mb=1300 threads=4")
    if "full" in path.stem:
        assert words[words.index("--local-directory") + 1].startswith("/node local")


def test_interface_binds_scheduler_and_workers() -> None:
    settings = ClusterSettings(kind="slurm", interface="lo", tls=False)
    with build_cluster("slurm", settings, SIZE, name="n", logs=Path("/l")) as cluster:
        assert "--interface lo" in cluster.job_script() and "--host" not in cluster.job_script()
        assert cluster.scheduler_address.startswith("tcp://127.0.0.1:")


def test_scheduler_and_dashboard_listen_on_loopback_only() -> None:
    with build_cluster("pbs", ClusterSettings(tls=False), SIZE, name="n", logs=Path("/l")) as cluster:
        port = int(cluster.scheduler_address.rpartition(":")[2])
        page = int(cluster.dashboard_link.split(":")[2].split("/")[0])
        listening = {
            (words[1][:8], int(words[1][9:], 16))
            for line in Path("/proc/net/tcp").read_text(encoding="ascii").splitlines()[1:]
            if (words := line.split())[3] == "0A"
        }
        for number in (port, page):
            assert {address for address, used in listening if used == number} == {"0100007F"}


# -- sizes --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def whole() -> Plan:
    """A plan of the three nights, with master steps."""
    return plan("id1 = limited_seq", only_show=False)


def test_jobs_hold_the_largest_run_of_the_plan(whole: Plan) -> None:
    size = job_size(whole, ClusterSettings(), 1.0, None)
    most = max(t.step.recipe.resources.memory_gb for t in whole.tasks if isinstance(t, Task))
    assert size.runs_mb >= 1000 * most
    assert size.memory_mb >= size.runs_mb + 700
    assert size.walltime_s >= 4 * size.longest_s and size.walltime_s % 3600 == 0
    assert (size.jobs, size.threads) == (4, 1)
    small = job_size(whole, ClusterSettings(), 0.06, None)
    assert small.memory_mb < size.memory_mb


def test_settings_win_over_the_plan(whole: Plan) -> None:
    given = ClusterSettings(workers=9, cores=3, memory=2500, walltime=60)
    size = job_size(whole, given, 1.0, 5)
    assert (size.jobs, size.threads, size.memory_mb, size.walltime_s) == (9, 3, 2500, 60)
    # Runs fit all the same: one that asked for more than any worker has would wait for ever.
    assert size.runs_mb >= 1000 * max(t.step.recipe.resources.memory_gb for t in whole.tasks)
    assert job_size(whole, ClusterSettings(), 1.0, 5).jobs == 5
    assert job_size(whole, ClusterSettings(workers=10_000), 1.0, 5).jobs == len(whole.tasks)


# -- surroundings -------------------------------------------------------------------------------


def test_variables_of_the_own_job_are_forgotten() -> None:
    variables = {
        "SLURM_JOB_ID": "12",
        "SLURM_MEM_PER_CPU": "100",
        "SBATCH_EXPORT": "NONE",
        "SRUN_CPUS_PER_TASK": "2",
        "SLURM_CONF": "/etc/slurm.conf",
        "SBATCH_ACCOUNT": "rrg-x",
        "HOME": "/h",
    }
    assert leave_allocation(variables) == "12"
    assert variables == {"SLURM_CONF": "/etc/slurm.conf", "SBATCH_ACCOUNT": "rrg-x", "HOME": "/h"}


@pytest.mark.parametrize(
    ("variables", "found"),
    [({}, "no job"), ({"SLURM_JOB_ID": "3"}, "SLURM_NTASKS = nothing"), ({"SLURM_NTASKS": "4"}, "no job")],
)
def test_single_allocation_without_one(variables: dict[str, str], found: str) -> None:
    with pytest.raises(ClusterError, match=f"--single-allocation needs a SLURM job .*{found}"):
        tasks_of(variables)


def test_key_is_for_the_owner_only(tmp_path: Path) -> None:
    security = make_certificates(tmp_path / "tls")
    assert security.require_encryption
    assert [p.stat().st_mode & 0o077 for p in (tmp_path / "tls").iterdir()] == [0, 0]
    assert (tmp_path / "tls").stat().st_mode & 0o077 == 0


def test_worker_with_other_code_does_not_start(capsys: pytest.CaptureFixture[str]) -> None:
    assert worker_process.check_code(worker_process.installed_code()) == 0
    assert worker_process.check_code("other") == 1
    assert "is not the code that the driver runs" in capsys.readouterr().err


def test_reason_is_what_the_batch_system_said() -> None:
    text = "Command exited with non-zero exit code.\nExit code: 1\nstdout:\n\nstderr:\nsbatch: error: no\n\n"
    assert reason_of(RuntimeError(text)) == "sbatch: error: no"
    assert reason_of(OSError()) == "OSError"


# -- a batch system -----------------------------------------------------------------------------


@pytest.fixture
def pbs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakePBS]:
    found = FakePBS(tmp_path / "pbs")
    monkeypatch.setenv("PATH", f"{found.folder}:{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), str(ROOT / "kernels")]))
    monkeypatch.chdir(ROOT)
    yield found
    found.close()


def request(tmp_path: Path, jobs: int = 1, **values: object) -> JobRequest:
    settings = ClusterSettings(kind="pbs", **values)  # type: ignore[arg-type]
    return JobRequest(settings, replace(SIZE, jobs=jobs), "apero-test", tmp_path / "log")


def test_runs_on_jobs_that_come_late_and_are_replaced(
    pbs: FakePBS, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Submission fails at first; a job is killed later; a third dies before its worker has come up."""
    monkeypatch.setattr("apero_dask.deploy.batch.LOST_S", 1)
    monkeypatch.setattr("apero_dask.deploy.keeper.QUEUE_S", 1.0)
    # Whoever edits a recipe while this test runs shall not be told that workers have other code.
    monkeypatch.setattr("apero_dask.deploy.batch.installed_code", str)
    pbs.refuse(2)
    with batch_backend(request(tmp_path), runner) as (backend, dashboard):
        assert dashboard.startswith("http://127.0.0.1:")
        assert backend.memory_mb == SIZE.runs_mb
        for number in range(3):
            backend.submit(work(f"k{number}"), f"RUN-{number}", number, ())
        assert {o.key for o in collect(backend, 3)} == {"k0", "k1", "k2"}
        assert pbs.submitted() == 1
        pbs.kill("1")
        until(lambda: "2" in pbs.pids(), "the lost job is replaced")
        pbs.kill("2")
        until(lambda: "3" in pbs.pids(), "a job that died at its start is replaced")
        backend.submit(work("k9"), "RUN-9", 9, ())
        assert [o.key for o in collect(backend, 1)] == ["k9"]
    until(lambda: not pbs.pids(), "all jobs are taken back")
    log = (tmp_path / "log" / "cluster.log").read_text(encoding="utf-8")
    assert log.count("cannot connect to server") == 2 and "trying again in" in log
    assert "job 1 of worker" in log and "is lost" in log
    assert "job 2 ended before its worker came up" in log
    assert not (tmp_path / "log" / "tls").exists()
    assert "only jobs on this machine" in capsys.readouterr().err


def test_worker_that_came_and_went_between_two_looks_is_reported(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    asked: list[int] = []
    cluster = SimpleNamespace(
        scheduler=SimpleNamespace(workers={}),
        workers={},
        worker_spec={"night-0": {}},
        scale=lambda jobs: asked.append(jobs),
    )

    async def nobody() -> set[str]:
        return set()

    submission = Submission(retries=0, jobs={"night-0": "7"})
    keeper = Keeper(cluster, submission, nobody, tmp_path)  # type: ignore[arg-type]
    with caplog.at_level(logging.WARNING, logger="apero_dask.deploy"):
        asyncio.run(keeper.look())
        asyncio.run(keeper.look())
    assert [record.message for record in caplog.records] == [
        "job 7 of worker night-0 is lost; submitting another"
    ]
    assert asked == [1, 1]


def test_submission_is_given_up_with_what_the_batch_system_said(pbs: FakePBS, tmp_path: Path) -> None:
    pbs.refuse(99)
    with (
        batch_backend(request(tmp_path, retries=1, tls=False), runner) as (backend, _),
        pytest.raises(BackendLost, match=r"qsub failed 2 times, at last with: qsub: cannot connect"),
    ):
        backend.submit(work("k"), "RUN-1", 1, ())
        collect(backend, 1)
    assert pbs.submitted() == 0


def test_jobs_that_never_come_up_are_not_submitted_for_ever(
    pbs: FakePBS, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker with other code than the driver refuses to start, and its reason is shown."""
    monkeypatch.setattr("apero_dask.deploy.keeper.QUEUE_S", 0.5)
    monkeypatch.setattr("apero_dask.deploy.batch.installed_code", lambda: "other")
    with (
        batch_backend(request(tmp_path, tls=False), runner) as (backend, _),
        pytest.raises(BackendLost, match="is not the code that the driver runs"),
    ):
        backend.submit(work("k"), "RUN-1", 1, ())
        collect(backend, 1)
    assert pbs.submitted() == 3


def test_jobs_of_a_dead_driver_are_swept_away(
    pbs: FakePBS, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    script = tmp_path / "left.sh"
    script.write_text("#PBS -N apero-test\nsleep 600\n", encoding="utf-8")
    subprocess.run(["qsub", str(script)], check=True, capture_output=True)
    assert list(pbs.pids()) == ["1"]
    asked = request(tmp_path, tls=False)
    with batch_backend(replace(asked, size=replace(SIZE, longest_s=7200.0)), runner):
        until(lambda: "1" not in pbs.pids(), "the leftover goes", 20.0)
    said = capsys.readouterr().err
    assert "1 job(s) apero-test of an earlier driver were taken back" in said
    assert "may take 02:00:00, longer than the walltime of a worker job (01:00:00)" in said


def test_cluster_that_cannot_be_had_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ClusterError, match="qsub, qselect, qdel"), batch_backend(request(tmp_path)):
        pass
    FakePBS(tmp_path / "pbs")
    monkeypatch.setenv("PATH", f"{tmp_path / 'pbs'}")
    asked = request(tmp_path, interface="nothing0")
    with (
        pytest.raises(ClusterError, match=r"interface = nothing0.* expected one of .*lo"),
        batch_backend(asked),
    ):
        pass
    with pytest.raises(ClusterError, match="openssl"), batch_backend(request(tmp_path)):
        pass
    assert not logging.getLogger("apero_dask.deploy").handlers
