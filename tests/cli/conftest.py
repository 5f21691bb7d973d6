"""A three-night archive of headers for tests of the command line."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from apero_dask.simulator.cli import main as simulate


@pytest.fixture(scope="session")
def headers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Archive written once; tests that change it take a copy."""
    root = tmp_path_factory.mktemp("archive")
    assert simulate(["--campaign", "worked", "--headers-only", "--out", str(root)]) == 0
    return root


@pytest.fixture
def archive(headers: Path, tmp_path: Path) -> Path:
    """Copy of the archive that a test may change; without what planning the original has left there."""
    root = tmp_path / "data"
    shutil.copytree(headers, root, ignore=shutil.ignore_patterns("log"))
    (root / "runs").mkdir(exist_ok=True)
    return root


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Data roots come from the test alone."""
    for name in list(os.environ):
        if name.startswith(("DRS_", "APERO_")) and name != "APERO_KERNEL_CACHE":
            monkeypatch.delenv(name)
    yield
