"""An archive is planned again from its cached index: as if from scratch, whatever changed in between."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from apero_dask.cli.processing import main
from apero_dask.io import indexer
from apero_dask.io.cache import CACHE_FILE
from tests.cli.test_messages import card

BASE = "MASTER_OBS_DIR = 2018-09-25\nSCIENCE_TARGETS = Gl699, TOI-442\nid1 = limited_seq\n"
LONG_AGO = 1_600_000_000


def settle(root: Path) -> None:
    """Give all raw frames a modification time long before the scan: younger files are always read again."""
    for path in (root / "raw").rglob("*.fits"):
        os.utime(path, (LONG_AGO, LONG_AGO))


def add(root: Path) -> str:
    target = root / "raw" / "2018-09-26" / "2320199o.fits"
    shutil.copy(target.with_name("2320130o.fits"), target)
    card(root, "2018-09-26/2320199o.fits", "FILENAME", "'2320199o'")
    os.utime(target, (LONG_AGO, LONG_AGO))
    return BASE


def remove(root: Path) -> str:
    (root / "raw" / "2018-09-25" / "2320031o.fits").unlink()
    return BASE


def change(root: Path) -> str:
    """Same name, same size, another star and another time of modification."""
    name = "2018-09-27/2320229o.fits"
    size = (root / "raw" / name).stat().st_size
    card(root, name, "OBJECT", "'59Peg'")
    assert (root / "raw" / name).stat().st_size == size
    os.utime(root / "raw" / name, (LONG_AGO + 60, LONG_AGO + 60))
    return BASE


def option(root: Path) -> str:
    return BASE + "RUN_LEAKOBJ = False\n"


def alias(root: Path) -> str:
    (root / "assets").mkdir(exist_ok=True)
    (root / "assets" / "objects.csv").write_text("OBJNAME,ALIASES\nTOIM442,Gl699\n", encoding="utf-8")
    return BASE


def reject(root: Path) -> str:
    (root / "assets").mkdir(exist_ok=True)
    text = "IDENTIFIER,PP,TEL,RV,COMMENT\n2320032o,1,1,1,trailed\n"
    (root / "assets" / "reject.csv").write_text(text, encoding="utf-8")
    return BASE


@pytest.mark.parametrize(
    ("step", "read"), [(add, 1), (remove, 0), (change, 1), (option, 0), (alias, 0), (reject, 0)]
)
def test_a_plan_from_the_cache_is_the_plan_from_scratch(
    step: Callable[[Path], str],
    read: int,
    archive: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    settle(archive)
    opened: list[str] = []
    read_primary = indexer.read_primary
    monkeypatch.setattr(
        indexer, "read_primary", lambda path, keys: opened.append(str(path)) or read_primary(path, keys)
    )

    def planned(text: str) -> tuple[bytes, str]:
        run_file, target = tmp_path / "run.ini", tmp_path / "plan.jsonl"
        run_file.write_text(text, encoding="utf-8")
        assert main(["--data", str(archive), "SPIROU", str(run_file), "--plan", str(target)]) == 0
        return target.read_bytes(), capsys.readouterr().err

    first = planned(BASE)
    frames = len(opened)
    assert frames == 146
    assert planned(BASE) == first
    assert len(opened) == frames, "an unchanged archive is not read again"
    text = step(archive)
    again = planned(text)
    assert len(opened) == frames + read
    assert again[0] != first[0]
    (archive / "log" / CACHE_FILE).unlink()
    assert planned(text) == again
    assert len(opened) > frames + 100, "without the cache every header is read"
