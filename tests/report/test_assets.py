"""assets show and assets detector through the command."""

from __future__ import annotations

from pathlib import Path

import pytest

from apero_dask.cli.tools import main as tools
from apero_dask.simulator.cli import main as simulate
from tests.report.reduction import Root, captured


def test_what_is_there_and_what_is_not(raw: Root) -> None:
    (raw.path / "assets" / "reject.csv").write_text(
        "IDENTIFIER,PP,TEL,RV\n2320031o,True,False,False\n2320032o,False,True,False\n", encoding="utf-8"
    )
    (raw.path / "assets" / "masks").mkdir(exist_ok=True)
    (raw.path / "assets" / "masks" / "Gl699_neg.mas").write_text("1000 1000 1\n", encoding="utf-8")
    answer = raw.ask("assets", "show")
    assert answer.status == 0, answer.err
    assert "rejected      2 frames (1 for PP, 2 for TEL, 1 for RV)" in answer.out
    assert "Gl699_neg.mas" in answer.out
    assert "SPIROU: none (spirou_detector.fits is not there)" in answer.out


def test_a_damaged_table_is_told(raw: Root) -> None:
    (raw.path / "assets" / "reject.csv").write_text("NAME,PP\n1,2\n", encoding="utf-8")
    answer = raw.ask("assets", "show")
    assert answer.status == 2 and "W-ASSET-FILE" in answer.err and "reject.csv" in answer.err


def test_a_damaged_detector_file_is_told(raw: Root) -> None:
    folder = raw.path / "assets" / "detector"
    folder.mkdir(parents=True)
    (folder / "spirou_detector.fits").write_bytes(b"half a file")
    answer = raw.ask("assets", "show")
    assert "SPIROU: cannot be used: " in answer.out and "spirou_detector.fits" in answer.out


def test_without_assets_the_answer_is_3(tmp_path: Path) -> None:
    answer = Root(tmp_path).ask("assets", "show")
    assert answer.status == 3 and "assets does not exist" in answer.err


@pytest.mark.parametrize(
    ("instrument", "status", "text"),
    [("SPIRU", 2, "E-INSTRUMENT"), ("SPIROU", 2, "No detector file was made: ")],
)
def test_what_cannot_be_made_leaves_nothing(raw: Root, instrument: str, status: int, text: str) -> None:
    answer = raw.ask("assets", "detector", instrument)
    assert answer.status == status and text in answer.err
    assert not list((raw.path / "assets").glob("detector/*"))


def test_an_archive_without_darks_is_told(raw: Root) -> None:
    for path in (raw.path / "raw").rglob("*d.fits"):
        path.unlink()
    answer = raw.ask("assets", "detector", "SPIROU")
    assert answer.status == 3 and "holds no dark" in answer.err


@pytest.mark.slow
def test_a_detector_file_is_made_from_simulated_darks(tmp_path: Path) -> None:
    arguments = ["--campaign", "demo", "--instrument", "SPIROU_MINI", "--nights", "1", "--frames", "1"]
    assert captured(simulate, [*arguments, "--out", str(tmp_path)]).status == 0
    answer = captured(tools, ["assets", "detector", "SPIROU_MINI", "--data", str(tmp_path)])
    assert answer.status == 0, answer.err
    assert "darks of 1 night(s)" in answer.out
    shown = Root(tmp_path).ask("assets", "show")
    (line,) = shown.lines("SPIROU_MINI")
    assert "hot pixels" in line and "bias structure" in line
    assert int(line.split(":")[1].split()[0]) > 0
