"""The batch wrapper hands arguments over, forwards the early signal and asks for another turn."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

WRAPPER = Path(__file__).resolve().parent.parent / "slurm" / "apero.sbatch"


def program(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(f"#!/bin/bash\n{text}\n", encoding="utf-8")
    path.chmod(0o755)
    return path


def environment(folder: Path, **values: str) -> dict[str, str]:
    program(folder, "scontrol", f'echo "$@" >> {folder}/scontrol.log')
    clean = {k: v for k, v in os.environ.items() if not k.startswith("SLURM_")}
    return {**clean, "PATH": f"{folder}:{os.environ['PATH']}", **values}


@pytest.mark.parametrize("status", [0, 1, 4])
def test_status_and_arguments_pass_through(tmp_path: Path, status: int) -> None:
    fake = program(tmp_path, "fake", f'echo "$#:$1:$2:$4"; exit {status}')
    done = subprocess.run(
        ["bash", str(WRAPPER), "SPIROU", "my run.ini", "--data", "/a b"],
        env=environment(tmp_path, APERO_PROCESSING=str(fake), SLURM_JOB_ID="7"),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == status
    assert done.stdout.strip() == "4:SPIROU:my run.ini:/a b"
    assert not (tmp_path / "scontrol.log").exists()


@pytest.mark.parametrize(("restarts", "requeued"), [("0", True), ("20", False)])
def test_early_signal_reaches_the_reduction_and_requeues(
    tmp_path: Path, restarts: str, requeued: bool
) -> None:
    fake = program(
        tmp_path, "fake", f"trap 'sleep 0.3; exit 75' TERM; touch {tmp_path}/up; while :; do sleep 0.05; done"
    )
    values = {"APERO_PROCESSING": str(fake), "SLURM_JOB_ID": "7", "SLURM_RESTART_COUNT": restarts}
    process = subprocess.Popen(
        ["bash", str(WRAPPER)], env=environment(tmp_path, **values), stderr=subprocess.PIPE
    )
    deadline = time.monotonic() + 30
    while not (tmp_path / "up").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 75
    assert (tmp_path / "scontrol.log").exists() == requeued
    assert (b"giving up" in errors) != requeued
