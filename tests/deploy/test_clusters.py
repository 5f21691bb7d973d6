"""Kinds of cluster without jobs: this machine, and a scheduler that is already running."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from apero_dask.deploy.clusters import ClusterError, backend_for
from apero_dask.engine.dask_backend import DaskBackend
from apero_dask.engine.serial import SerialBackend
from tests.engine.contract import collect, runner, work

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def scheduler_file(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A scheduler and one worker, as a user starts them."""
    path = tmp_path_factory.mktemp("scheduler") / "scheduler.json"
    sources = os.pathsep.join([str(ROOT), str(ROOT / "kernels")])
    quiet = {"stderr": subprocess.DEVNULL, "env": {**os.environ, "PYTHONPATH": sources}}
    shared = ["--scheduler-file", str(path), "--host", "127.0.0.1", "--no-dashboard"]
    python = [sys.executable, "-m"]
    with (
        subprocess.Popen(
            [*python, "distributed.cli.dask_scheduler", *shared, "--port", "0"], **quiet
        ) as first,
        subprocess.Popen(
            [*python, "distributed.cli.dask_worker", *shared, "--nthreads", "1", "--no-nanny"], **quiet
        ) as second,
    ):
        try:
            deadline = time.monotonic() + 90
            while not path.exists() and time.monotonic() < deadline:
                time.sleep(0.1)
            yield path
        finally:
            for process in (second, first):
                process.kill()


@pytest.mark.parametrize("way", ["file", "address"])
def test_running_scheduler(scheduler_file: Path, way: str) -> None:
    """Its workers declare no memory, so runs ask for none."""
    place = str(scheduler_file)
    if way == "address":
        place = json.loads(scheduler_file.read_text(encoding="utf-8"))["address"]
        assert place.startswith("tcp://127.0.0.1:")
    with backend_for("existing", 1, place) as (backend, _):
        assert isinstance(backend, DaskBackend)
        backend._runner = runner
        backend.submit(work(f"k-{way}"), f"RUN-{way}", 1, ())
        assert [o.key for o in collect(backend, 1, 90.0)] == [f"k-{way}"]


def test_scheduler_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("apero_dask.deploy.clusters.ANSWER_S", 1)
    for place, said in (
        ("", "needs DASK_ADDRESS"),
        (str(tmp_path / "none.json"), "there is no scheduler file"),
        ("tcp://127.0.0.1:9", "no scheduler answers at tcp://127.0.0.1:9"),
    ):
        with pytest.raises(ClusterError, match=said), backend_for("existing", 1, place):
            pass


def test_one_slot_needs_no_process() -> None:
    with backend_for("local", 1) as (backend, dashboard):
        assert isinstance(backend, SerialBackend) and dashboard == ""


def test_unknown_kind() -> None:
    with pytest.raises(ClusterError, match="expected one of local, existing"), backend_for("slurm", 1):
        pass
