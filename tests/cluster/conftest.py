"""Fixtures of the tests with a batch system."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.reductions import RUN_FILE, STANDINS, reduced_locally
from tests.cluster.slurm import Slurm, missing
from tests.engine import bed


@pytest.fixture(scope="session")
def slurm() -> Iterator[Slurm]:
    """A SLURM of our own on the loopback interface, for the whole session."""
    absent = missing()
    if absent:
        text = f"not installed: {', '.join(absent)} (Debian packages slurm-wlm and munge)"
        if os.environ.get("APERO_TESTS_REQUIRE_PACKAGES") == "1":
            pytest.fail(text)
        pytest.skip(text)
    # Sockets live in it: their path must be short, whatever the name of the test folder is.
    folder = Path(tempfile.mkdtemp(prefix="apero_slurm_", dir="/tmp"))
    found = Slurm(folder)
    try:
        found.start()
        yield found
    finally:
        found.stop()
        shutil.rmtree(folder)


@pytest.fixture(scope="session")
def kernels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder for compiled kernels that all jobs share, cold at the beginning."""
    return tmp_path_factory.mktemp("kernels")


@pytest.fixture(scope="session")
def headers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Raw frames without pixels; to be cloned."""
    return bed.make_archive(tmp_path_factory.mktemp("archive") / "data root")


@pytest.fixture(scope="session")
def local(headers: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run file of these tests, reduced without a batch system."""
    root = bed.clone(headers, tmp_path_factory.mktemp("local") / "data root")
    # Stand-ins live in the process of the command, so it does without workers.
    return reduced_locally(root, "SPIROU", STANDINS, RUN_FILE.replace("CORES = 2", "CORES = 1"))
