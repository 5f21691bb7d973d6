"""Reductions shared by the tests; each test gets its own copy of the one it changes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.report.reduction import Answer, Root, archive

STAR = "2320031o"
"""Frame whose extraction fails."""
_MADE: dict[str, tuple[Root, Answer]] = {}
"""Reductions made once per test run; the fixtures below exist once for every folder that imports them."""


def once(name: str, make: Callable[[], tuple[Root, Answer]]) -> tuple[Root, Answer]:
    """Result of ``make``, called once per session."""
    if name not in _MADE:
        _MADE[name] = make()
    return _MADE[name]


@pytest.fixture(scope="session")
def raw_root(tmp_path_factory: pytest.TempPathFactory) -> Root:
    """Raw frames only."""
    place = tmp_path_factory.getbasetemp() / "small_archive"
    return once("raw", lambda: (archive(place), Answer(0, "", "")))[0]


@pytest.fixture(scope="session")
def good_once(raw_root: Root, tmp_path_factory: pytest.TempPathFactory) -> tuple[Root, Answer]:
    """Reduction in which everything passed; not to be changed."""

    def make() -> tuple[Root, Answer]:
        root = raw_root.copy(tmp_path_factory.mktemp("good") / "root")
        return root, root.reduce()

    return once("good", make)


@pytest.fixture(scope="session")
def failed_once(raw_root: Root, tmp_path_factory: pytest.TempPathFactory) -> tuple[Root, Answer]:
    """Reduction in which the extraction of one frame and the bad pixels of the night fail."""

    def make() -> tuple[Root, Answer]:
        root = raw_root.copy(tmp_path_factory.mktemp("failed") / "root")
        root.faults(**{f"EXTOBJ_2018__09__25_{STAR}": {"kind": "error"}, "BAD": {"kind": "qc"}})
        return root, root.reduce()

    return once("failed", make)


@pytest.fixture
def raw(raw_root: Root, tmp_path: Path) -> Root:
    """Raw frames, to be changed."""
    return raw_root.copy(tmp_path / "root")


@pytest.fixture
def good(good_once: tuple[Root, Answer], tmp_path: Path) -> Root:
    """Finished reduction, to be changed."""
    return good_once[0].copy(tmp_path / "root")


@pytest.fixture
def failed(failed_once: tuple[Root, Answer], tmp_path: Path) -> Root:
    """Reduction with failures, to be changed."""
    return failed_once[0].copy(tmp_path / "root")
