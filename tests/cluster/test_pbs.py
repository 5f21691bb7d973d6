"""A run file through ``slurm/apero.pbs``: on stand-ins for the programs of PBS, and on PBS if it answers."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.reductions import ROOT, RUN_FILE, STANDINS, cluster_log, command, until
from tests.deploy.fakepbs import FakePBS
from tests.engine import bed

WRAPPER = ROOT / "slurm" / "apero.pbs"
SITE = 'workers = 2\nmemory = "2GB"\nwalltime = "00:30:00"\ninterface = "lo"\n'


def answers() -> bool:
    """Whether a server of PBS answers here."""
    if shutil.which("qsub") is None or shutil.which("qstat") is None:
        return False
    done = subprocess.run(["qstat", "-B"], capture_output=True, check=False, timeout=60)
    return done.returncode == 0


@pytest.fixture(params=["stand-in", pytest.param("PBS", marks=pytest.mark.cluster)])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """PATH on which the commands of PBS are found."""
    if request.param == "PBS":
        if not answers():
            # Debian has no package of it, so this is no failure anywhere.
            pytest.skip("no PBS here: qsub is not installed or its server does not answer")
        yield os.environ["PATH"]
        return
    fake = FakePBS(tmp_path / "pbs")
    yield f"{fake.folder}:{os.environ['PATH']}"
    fake.close()


def test_products_are_those_of_the_local_run(path: str, headers: Path, local: Path, tmp_path: Path) -> None:
    root = bed.clone(headers, tmp_path / "data root")
    run_file, site = tmp_path / "my run.ini", tmp_path / "our site.toml"
    run_file.write_text(RUN_FILE, encoding="utf-8")
    site.write_text(SITE, encoding="utf-8")
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("PBS_", "APERO_"))}
    environment = {**clean, "PATH": path, "APERO_PROCESSING": str(command(tmp_path, STANDINS))}

    def jobs() -> list[str]:
        words = ["qselect", "-N", "apero"]
        done = subprocess.run(words, env=environment, capture_output=True, text=True, check=True)
        return done.stdout.split()

    words = ["bash", str(WRAPPER), "SPIROU", str(run_file), "--data", str(root), "--site", str(site)]
    done = subprocess.run(words, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    until(lambda: not jobs(), "the reduction ends", 400.0)
    assert bed.contents(root) == bed.contents(local)
    log = cluster_log(root)
    assert log.count("has come up") == 2 and "tls://127.0.0.1:" in log and " in job " in log
    assert not list((root / "log").glob("*/tls"))
