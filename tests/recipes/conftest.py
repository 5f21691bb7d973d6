"""The campaign of three nights with pixels, reduced once for all modules that start from copies of it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.recipes.worked import Answer, Archive, simulated


@pytest.fixture(scope="session")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Archive:
    """Raw frames, assets and truth; reduced by ``first``."""
    return simulated(tmp_path_factory.mktemp("worked") / "data", products=True)


@pytest.fixture(scope="session")
def first(archive: Archive) -> Answer:
    """The limited sequence on the untouched archive."""
    return archive.run_file("limited_seq")


@pytest.fixture(scope="session")
def reduced(archive: Archive, first: Answer) -> Archive:
    """The archive with all products of the limited sequence; not to be changed."""
    assert first.status == 0, first.output
    return archive


@pytest.fixture
def copied(reduced: Archive, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Archive]:
    """A copy of the reduced archive to spoil; it stays for inspection if the test fails."""
    failed = request.session.testsfailed
    yield reduced.copy(tmp_path / "copy")
    # What twenty tests make anew would fill 25 GB.
    if request.session.testsfailed == failed:
        shutil.rmtree(tmp_path / "copy")
