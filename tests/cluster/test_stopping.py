"""A signal that comes while the driver still prepares: jobs are taken back, the status says "continue"."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests.cluster.reductions import RUN_FILE, STANDINS, cluster_log, command, until
from tests.deploy.fakepbs import FakePBS
from tests.engine import bed


@pytest.mark.parametrize("moment", ["planning", "submitting"])
def test_signal_before_anything_runs(moment: str, headers: Path, tmp_path: Path) -> None:
    root = bed.clone(headers, tmp_path / "data")
    run_file = tmp_path / "run.ini"
    run_file.write_text(RUN_FILE, encoding="utf-8")
    pbs = FakePBS(tmp_path / "pbs")
    pbs.refuse(1)
    program = str(command(tmp_path, STANDINS))
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("PBS_", "APERO_"))}
    process = subprocess.Popen(
        [program, "SPIROU", str(run_file), "--data", str(root), "--cluster", "pbs"],
        env={**clean, "PATH": f"{pbs.folder}:{os.environ['PATH']}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        if moment == "planning":
            until((root / "log" / "driver.lock").exists, "the data root is locked")
        else:
            until(lambda: "submitted as job" in cluster_log(root), "a job was submitted")
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == 75, errors
    until(lambda: not pbs.pids(), "all jobs go", 30.0)
    assert not (root / "log" / "driver.lock").exists(), "the lock was left"
    assert not list((root / "log").glob("*/tls"))
    pbs.close()
