"""What the listing of a plan says about frames and steps left out, and which messages come with it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from apero_dask.cli.processing import main

BASE = "MASTER_OBS_DIR = 2018-09-25\nSCIENCE_TARGETS = Gl699, TOI-442\n"


def listed(
    root: Path, tmp_path: Path, text: str, capsys: pytest.CaptureFixture[str], *args: str
) -> tuple[int, str, str]:
    """Exit status, listing and messages."""
    run_file = tmp_path / "run.ini"
    run_file.write_text(text, encoding="utf-8")
    status = main(["--data", str(root), "SPIROU", str(run_file), *(args or ("--test",))])
    said = capsys.readouterr()
    return status, said.out, said.err


def reasons(listing: str, short: str) -> list[str]:
    """Sentences below the row of a step in the table."""
    lines = listing.splitlines()
    at = next(n for n, line in enumerate(lines) if f"  {short} " in line and not line.startswith("T "))
    found = []
    for line in lines[at + 1 :]:
        if not line.strip().startswith("- "):
            break
        found.append(line.strip()[2:])
    return found


def test_frames_of_no_preprocessing_step_are_named(
    headers: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, listing, _ = listed(headers, tmp_path, BASE + "id1 = pp_seq_opt\n", capsys)
    assert status == 0
    assert reasons(listing, "PP_TEL") == ["1 frame(s) belong to no step of this sequence: DARK_FP_SKY 1"]
    assert not reasons(listing, "PP_CAL")
    # Stars that are no target are the others; a step that is switched off leaves none without a step.
    text = "MASTER_OBS_DIR = 2018-09-25\nSCIENCE_TARGETS = Gl699\nRUN_PP_TEL = False\nid1 = pp_seq_opt\n"
    _, listing, _ = listed(headers, tmp_path, text, capsys)
    assert reasons(listing, "PP_TEL") == [
        "switched off: RUN_PP_TEL = False",
        "3 frame(s) belong to no step of this sequence: DARK_FP_SKY 1, OBJ_DARK 2",
    ]
    _, listing, _ = listed(headers, tmp_path, BASE + "id1 = pp_seq\n", capsys)
    assert not reasons(listing, "PP")


def test_a_cut_group_shows_in_the_listing(
    headers: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = BASE + "GROUP_FILE_LIMIT = 7\nid1 = limited_seq\n"
    status, listing, said = listed(headers, tmp_path, text, capsys)
    assert status == 0
    # 2018-09-26 has no morning set: five flats of each type.
    cut = "GROUP_FILE_LIMIT: only the last 7 FLAT_FLAT frames of 2018-09-25, 2018-09-27"
    assert cut in reasons(listing, "FF")
    assert cut in reasons(listing, "BAD")
    assert not [text for text in reasons(listing, "THERMAL") if "GROUP_FILE_LIMIT" in text]
    assert "W-NO-RUNS: FF" not in said.replace(" run.ini", "")
    assert "W-NO-RUNS: BAD" not in said.replace(" run.ini", "")


@pytest.mark.parametrize(
    ("master", "code"), [("", "E-MASTER-UNSET"), ("MASTER_OBS_DIR = 2018-09-24\n", "E-MASTER-MISSING")]
)
def test_a_missing_master_night_is_said_once(
    master: str, code: str, headers: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, _, said = listed(headers, tmp_path, master + "id1 = limited_seq\n", capsys)
    assert status == 2
    assert said.count(code) == 1
    about = [line for line in said.splitlines() if "W-NO-RUNS" in line]
    # The telescope darks that 2018-09-27 lacks have nothing to do with it.
    assert len(about) == 1
    assert "THERMAL" in about[0]


def test_a_copy_under_another_name_is_left_out(
    archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def planned() -> bytes:
        target = tmp_path / "plan.jsonl"
        text = BASE + "id1 = limited_seq\n"
        assert listed(archive, tmp_path, text, capsys, "--plan", str(target))[0] == 0
        return target.read_bytes()

    first = planned()
    night = archive / "raw" / "2018-09-25"
    # Whether its name sorts before or behind: the file named like its FILENAME is the one.
    for name in ("2320000o.fits", "2320099o.fits"):
        shutil.copy(night / "2320031o.fits", night / name)
    assert planned() == first
    inputs = [json.loads(line).get("inputs", {}) for line in first.splitlines()]
    assert {"files": ["raw/2018-09-25/2320031o.fits"]} in inputs
    # Without it the first of the copies is.
    (night / "2320031o.fits").unlink()
    assert planned() == first.replace(b"raw/2018-09-25/2320031o.fits", b"raw/2018-09-25/2320000o.fits")
