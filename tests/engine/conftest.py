"""Fixtures of the engine tests: data roots in memory where the system has such a file system."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engine import bed

MEMORY_DISK = Path("/dev/shm")


@pytest.fixture(scope="session")
def disk() -> Iterator[Path]:
    """Folder for data roots; flushing thousands of small files to a real disk would only measure the disk."""
    place = MEMORY_DISK if MEMORY_DISK.is_dir() else None
    folder = Path(tempfile.mkdtemp(prefix="apero_dask_test_", dir=place))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def archive(disk: Path) -> Path:
    """Raw frames; to be cloned, not reduced."""
    return bed.make_archive(disk / "archive")


@pytest.fixture(scope="session")
def reference(disk: Path, archive: Path) -> bed.Reduced:
    """The undisturbed reduction by the serial backend; to be cloned, not touched."""
    return bed.reduce(bed.clone(archive, disk / "reference"))


@pytest.fixture
def root(archive: Path, disk: Path) -> Iterator[Path]:
    """A fresh data root with raw frames."""
    folder = Path(tempfile.mkdtemp(dir=disk))
    yield bed.clone(archive, folder / "data")
    shutil.rmtree(folder)


@pytest.fixture
def reduced(reference: bed.Reduced, disk: Path) -> Iterator[Path]:
    """A data root that has been reduced without disturbance."""
    folder = Path(tempfile.mkdtemp(dir=disk))
    yield bed.clone(reference.root, folder / "data")
    shutil.rmtree(folder)
