"""The batch wrappers hand arguments over, forward signals and ask for another turn when the walltime ends."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parent.parent / "slurm"
WRAPPER = FOLDER / "apero.sbatch"
PBS = FOLDER / "apero.pbs"
ARGUMENTS = ["SPIROU", "my run.ini", "--data", "/a b", "--science_targets", "Gl699, 'TOI-442'; $HOME"]
"""What shells and batch systems like to take apart: blanks, commas, quotes, dollars."""
TELL = 'printf "%s\\n" "$PWD" "cluster=$APERO_CLUSTER" "$@"'
DRAINED = """\
trap 'echo USR1 >> {folder}/seen; sleep 0.3; exit 75' USR1
trap 'echo TERM >> {folder}/seen; exit 75' TERM
touch {folder}/up
while :; do sleep 0.05; done"""
STUBBORN = """\
trap 'echo USR1 >> {folder}/seen' USR1
trap 'echo TERM >> {folder}/seen; exit 75' TERM
touch {folder}/up
while :; do sleep 0.05; done"""
"""Stand-ins for a reduction that ends in time, and for one whose recipes take too long."""


def program(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(f"#!/bin/bash\n{text}\n", encoding="utf-8")
    path.chmod(0o755)
    return path


def environment(folder: Path, **values: str) -> dict[str, str]:
    program(folder, "scontrol", f'echo "$@" >> {folder}/scontrol.log')
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("SLURM_", "PBS_", "APERO_"))}
    return {**clean, "PATH": f"{folder}:{os.environ['PATH']}", **values}


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < deadline, f"no {path}"
        time.sleep(0.05)


def lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines() if path.exists() else []


@pytest.mark.parametrize("status", [0, 1, 4, 75])
def test_status_and_arguments_pass_through(tmp_path: Path, status: int) -> None:
    """Also status 75 without a signal from SLURM: another turn would end in the same way."""
    fake = program(tmp_path, "fake", f"{TELL}; exit {status}")
    done = subprocess.run(
        ["bash", str(WRAPPER), *ARGUMENTS],
        env=environment(tmp_path, APERO_PROCESSING=str(fake), SLURM_JOB_ID="7"),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == status
    assert done.stdout.splitlines() == [str(tmp_path), "cluster=slurm", *ARGUMENTS]
    assert not (tmp_path / "scontrol.log").exists()


def test_kind_of_cluster_can_be_preset(tmp_path: Path) -> None:
    fake = program(tmp_path, "fake", TELL)
    values = environment(tmp_path, APERO_PROCESSING=str(fake), APERO_CLUSTER="local")
    done = subprocess.run(["bash", str(WRAPPER)], env=values, capture_output=True, text=True, check=True)
    assert "cluster=local" in done.stdout


@pytest.mark.parametrize(
    ("number", "restarts", "requeued"),
    [(signal.SIGUSR1, "0", True), (signal.SIGUSR1, "20", False), (signal.SIGTERM, "0", False)],
    ids=["walltime", "walltime too often", "cancelled"],
)
def test_signal_reaches_the_reduction(
    tmp_path: Path, number: signal.Signals, restarts: str, requeued: bool
) -> None:
    """The signal before the walltime gives another turn; a cancelled job must not come back."""
    fake = program(tmp_path, "fake", DRAINED.format(folder=tmp_path))
    values = {"APERO_PROCESSING": str(fake), "SLURM_JOB_ID": "7", "SLURM_RESTART_COUNT": restarts}
    process = subprocess.Popen(
        ["bash", str(WRAPPER)], env=environment(tmp_path, **values), stderr=subprocess.PIPE
    )
    wait_for(tmp_path / "up")
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 75
    assert lines(tmp_path / "seen") == [number.name.removeprefix("SIG")]
    assert lines(tmp_path / "scontrol.log") == (["requeue 7"] if requeued else [])
    assert (b"giving up" in errors) == (restarts == "20")


def test_recipes_that_take_too_long_are_stopped_before_the_walltime(tmp_path: Path) -> None:
    fake = program(tmp_path, "fake", STUBBORN.format(folder=tmp_path))
    values = {"APERO_PROCESSING": str(fake), "SLURM_JOB_ID": "7", "APERO_DRAIN_S": "1"}
    process = subprocess.Popen(["bash", str(WRAPPER)], env=environment(tmp_path, **values))
    wait_for(tmp_path / "up")
    process.send_signal(signal.SIGUSR1)
    assert process.wait(timeout=60) == 75
    assert lines(tmp_path / "seen") == ["USR1", "TERM"]
    assert lines(tmp_path / "scontrol.log") == ["requeue 7"]


def test_sbatch_lines_ask_for_a_small_job_with_an_early_signal() -> None:
    asked = {line.split()[1] for line in lines(WRAPPER) if line.startswith("#SBATCH")}
    assert {"--cpus-per-task=1", "--signal=B:USR1@600", "--requeue", "--open-mode=append"} <= asked


QSUB = """\
n=$(ls "{folder}" | grep -c '^job')
printf '%s\\0' "$@" > "{folder}/job$n"
echo $n.server"""
QSTAT = "echo '    Resource_List.walltime = {walltime}'"


def pbs(folder: Path, *arguments: str, **values: str) -> subprocess.CompletedProcess[str]:
    """Call the script as a user does, with a stand-in for qsub that keeps what it is given."""
    program(folder, "qsub", QSUB.format(folder=folder))
    return subprocess.run(
        ["bash", str(PBS), *arguments],
        env=environment(folder, **values),
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )


def job(folder: Path, number: int) -> tuple[list[str], dict[str, str]]:
    """(words for qsub, variables for the job) of a submission."""
    words = (folder / f"job{number}").read_bytes().decode().split("\0")[:-1]
    given = words[words.index("-v") + 1]
    return words, dict(item.split("=", 1) for item in given.split(","))


def start(folder: Path, number: int, walltime: str) -> subprocess.Popen[str]:
    """Run a submitted job as PBS does: in the home folder, with an environment of its own."""
    program(folder, "qstat", QSTAT.format(walltime=walltime))
    words, variables = job(folder, number)
    home = folder / "home"
    home.mkdir(exist_ok=True)
    clean = {"PATH": f"{folder}:/usr/bin:/bin", "HOME": str(home), "PBS_JOBID": f"{number}.server"}
    return subprocess.Popen(
        ["bash", words[-1]],
        env={**clean, **variables},
        cwd=home,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("status", [0, 1, 75])
def test_pbs_job_gets_arguments_folder_and_variables(tmp_path: Path, status: int) -> None:
    folder = tmp_path / "at, work"
    folder.mkdir()
    program(folder, "apero_processing", f'{TELL}; echo "$APERO_DATA"; exit {status}')
    sent = pbs(folder, *ARGUMENTS, APERO_QSUB="-q long", APERO_DATA="/d, 'e' \"f\"", SECRET="no")
    assert (sent.returncode, sent.stdout.strip()) == (0, "0.server"), sent.stderr
    words, variables = job(folder, 0)
    assert words[:2] == ["-q", "long"] and words[-1] == str(PBS)
    assert set(variables) == {"APERO_JOB", "APERO_QSUB"}
    process = start(folder, 0, "48:00:00")
    out, errors = process.communicate(timeout=60)
    assert process.returncode == status, errors
    assert out.splitlines() == [str(folder), "cluster=pbs", *ARGUMENTS, "/d, 'e' \"f\""]
    assert errors == ""
    assert not (folder / "job1").exists(), "it was submitted again"


def test_pbs_job_stops_before_its_walltime_and_submits_itself_again(tmp_path: Path) -> None:
    program(tmp_path, "apero_processing", DRAINED.format(folder=tmp_path))
    assert pbs(tmp_path, *ARGUMENTS, APERO_QSUB="-q long", APERO_MOST_RESTARTS="1").returncode == 0
    first = start(tmp_path, 0, "00:00:02")
    first.communicate(timeout=60)
    assert first.returncode == 75
    assert lines(tmp_path / "seen") == ["USR1"]
    assert job(tmp_path, 1)[0][:2] == ["-q", "long"]
    second = start(tmp_path, 1, "00:00:02")
    _, errors = second.communicate(timeout=60)
    assert second.returncode == 75 and "giving up" in errors
    assert not (tmp_path / "job2").exists()


def test_deleted_pbs_job_does_not_come_back(tmp_path: Path) -> None:
    program(tmp_path, "apero_processing", DRAINED.format(folder=tmp_path))
    assert pbs(tmp_path, *ARGUMENTS).returncode == 0
    process = start(tmp_path, 0, "48:00:00")
    wait_for(tmp_path / "up")
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 75
    assert lines(tmp_path / "seen") == ["TERM"]
    assert not (tmp_path / "job1").exists()


def test_pbs_script_that_cannot_start_says_why(tmp_path: Path) -> None:
    bare = pbs(tmp_path)
    assert bare.returncode == 2 and "usage" in bare.stderr
    absent = pbs(tmp_path, *ARGUMENTS, APERO_PROCESSING="no_such_program")
    assert absent.returncode == 2 and "no_such_program is not on the PATH" in absent.stderr
    assert not (tmp_path / "job0").exists()
