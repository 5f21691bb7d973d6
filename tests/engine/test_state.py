"""What is known about earlier invocations: a lost database, and what is skipped or repeated."""

from __future__ import annotations

import sqlite3
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from apero_dask.core.outcome import State
from apero_dask.core.plan import Task
from apero_dask.core.settings import Settings
from apero_dask.engine import invocation
from apero_dask.io.markers import marker_path
from apero_dask.state.store import Store
from tests.engine import bed, standins


def everything_skipped(reference: bed.Reduced) -> Settings:
    return bed.with_skip(*bed.all_shorts(reference.plan))


def ran(done: bed.Reduced) -> Counter[str]:
    """Bodies executed, by step; internal nodes by the first part of their key."""
    counts: Counter[str] = Counter()
    for key, number in bed.executions(done.root).items():
        item = done.plan.by_key[key]
        counts[item.step.short if isinstance(item, Task) else key.partition("-")[0]] += number
    return counts


# -- the database -----------------------------------------------------------------------------


@pytest.mark.parametrize("damage", ["lost", "garbage", "truncated", "overwritten in the middle"])
def test_database_can_be_lost(damage: str, reduced: Path, reference: bed.Reduced) -> None:
    path = reduced / "log" / "state.sqlite"
    content = bytearray(path.read_bytes())
    if damage == "lost":
        path.unlink()
    elif damage == "garbage":
        path.write_bytes(b"no database at all" * 100)
    elif damage == "truncated":
        path.write_bytes(content[: len(content) // 2])
    else:
        content[4096 : len(content) // 2] = bytes(len(content) // 2 - 4096)
        path.write_bytes(content)
    done = bed.reduce(reduced, settings=everything_skipped(reference))
    assert done.counts() == {"SKIPPED_EXISTS": bed.RUNS}
    assert done.result.executed == 0
    assert done.result.status == 0
    assert bed.contents(reduced) == bed.contents(reference.root)


def test_database_of_a_killed_driver_is_completed_from_markers(reduced: Path, reference: bed.Reduced) -> None:
    """Between marker and commit: the runs are not in the database yet."""
    with sqlite3.connect(reduced / "log" / "state.sqlite") as db:
        db.execute("DELETE FROM markers WHERE identity < '8'")
        left = db.execute("SELECT COUNT(*) FROM markers").fetchone()[0]
    db.close()
    assert left < bed.RUNS
    store = Store(reduced / "log")
    assert store.reconcile() == bed.RUNS + bed.MODELS - left
    assert store.reconcile() == 0
    store.close()


def test_damaged_marker_is_no_marker(reduced: Path, reference: bed.Reduced) -> None:
    ccf = reference.of("CCF", stem="2320031o")
    path = marker_path(reduced / "log", ccf.identity())
    text = path.read_text(encoding="utf-8")
    path.unlink()
    path.write_text(text[: len(text) // 2], encoding="utf-8")
    (reduced / "log" / "state.sqlite").unlink()
    done = bed.reduce(reduced, settings=everything_skipped(reference))
    assert done.counts() == {"DONE": 1, "SKIPPED_EXISTS": bed.RUNS - 1}
    assert done.states[ccf.key] is State.DONE


# -- skipping ---------------------------------------------------------------------------------


def test_finished_runs_are_skipped(reduced: Path, reference: bed.Reduced) -> None:
    bed.forget_executions(reduced)
    done = bed.reduce(reduced, settings=everything_skipped(reference))
    assert done.result.executed == 0
    assert done.counts() == {"SKIPPED_EXISTS": bed.RUNS}
    assert not bed.executions(reduced)


def test_skip_is_not_resume(reduced: Path) -> None:
    """Another invocation of the same command repeats the steps whose switch is off, and only those."""
    bed.forget_executions(reduced)
    shorts = {"PP", "DARKM", "BADM", "LOCM", "SHAPEM", "SHAPELM", "FLATM", "LEAKM", "THIM", "THTM", "WAVEM"}
    done = bed.reduce(reduced, settings=bed.with_skip(*shorts))
    assert done.executed().keys() & shorts == set()
    assert done.counts() == {"SKIPPED_EXISTS": 146 + bed.MASTERS, "DONE": 119}


def test_changed_header_of_a_raw_frame(reduced: Path, reference: bed.Reduced) -> None:
    raw = reduced / "raw" / "2018-09-25" / "2320031o.fits"
    content = bytearray(raw.read_bytes())
    end_of_comment = content.index(b"FRMTIME =") + 79
    content[end_of_comment] = ord("x")
    raw.unlink()
    raw.write_bytes(content)
    bed.forget_executions(reduced)
    done = bed.reduce(reduced, settings=everything_skipped(reference))
    # The content of the pp file is the same to the last bit but for inherited cards, which count.
    found = ran(done)
    assert found["PP"] == found["EXTOBJ"] == found["LEAKOBJ"] == 1
    # Its template, and with it every frame of the star; nothing of other stars, no calibration.
    assert found["FTELLU2"] == 1
    assert found["FTELLU3"] == found["CCF"] == 12
    assert set(found) == {"PP", "EXTOBJ", "LEAKOBJ", "FTELLU1", "FTELLU2", "FTELLU3", "CCF"}


def test_changed_code_of_one_recipe(
    reduced: Path, reference: bed.Reduced, monkeypatch: pytest.MonkeyPatch
) -> None:
    with standins.standing_in():
        digests = invocation.code_digests()
    changed = reference.of("FTELLU2", "GL699").step.recipe.name
    monkeypatch.setattr(invocation, "code_digests", lambda *_: {**digests, changed: "another version"})
    bed.forget_executions(reduced)
    done = bed.reduce(reduced, settings=everything_skipped(reference))
    # Templates of both kinds of stars, and everything behind them; no first pass, no extraction.
    assert ran(done) == {
        "MKTELLU3": 3,
        "MKTELLU4": 5,
        "PCA2": 1,
        "FTELLU1": 14,
        "FTELLU2": 2,
        "FTELLU3": 14,
        "CCF": 14,
    }
    assert {m.code for m in bed.markers(reduced) if m.recipe == changed} == {"another version"}
    monkeypatch.undo()


def test_changed_mask(reduced: Path, reference: bed.Reduced) -> None:
    """A mask that comes, changes or goes repeats the cross-correlations, and nothing else."""
    path = reduced / "assets" / "masks" / "gl699.mas"
    path.parent.mkdir(parents=True, exist_ok=True)
    for content in ("first", "second", None):
        path.write_text(content) if content else path.unlink()
        bed.forget_executions(reduced)
        assert ran(bed.reduce(reduced, settings=everything_skipped(reference))) == {"CCF": 14}
    bed.forget_executions(reduced)
    assert not ran(bed.reduce(reduced, settings=everything_skipped(reference)))


def test_files_that_recipes_read(tmp_path: Path) -> None:
    """Only what a recipe declares to read counts: of this instrument, in any state."""
    readers = {"cal_preprocessing", "cal_badpix"}
    path = tmp_path / "detector" / "spirou_mini_detector.fits"
    path.parent.mkdir()
    seen = [invocation.code_digests(tmp_path, "SPIROU_MINI")]
    assert seen[0] == invocation.code_digests()
    for content in ("first", "second"):
        path.write_text(content)
        seen.append(invocation.code_digests(tmp_path, "SPIROU_MINI"))
        assert {name for name in seen[-1] if seen[-1][name] != seen[-2][name]} == readers
        assert all(seen[-1][name] != seen[0][name] for name in readers)
    assert invocation.code_digests(tmp_path, "SPIROU") == seen[0]
    path.unlink()
    assert invocation.code_digests(tmp_path, "SPIROU_MINI") == seen[0]


def test_given_mask_counts_for_the_recipe_that_takes_one(tmp_path: Path) -> None:
    mask = tmp_path / "own.mas"
    with standins.standing_in():
        seen = [invocation.code_digests()]
        for content in ("1 2 3", "1 2 4 5"):
            mask.write_text(content)
            seen.append(invocation.code_digests(given=[str(mask)]))
            assert [name for name in seen[0] if seen[-1][name] != seen[-2][name]] == ["cal_ccf"]


def test_changed_calibration(reduced: Path, reference: bed.Reduced) -> None:
    """The wavelength solution of one night is made again: extraction and all behind it, of that night."""
    wave = reference.of("WAVE", "2018-09-26")
    marker_path(reduced / "log", wave.identity()).unlink()
    bed.forget_executions(reduced)
    done = bed.reduce(reduced, settings=everything_skipped(reference))
    found = ran(done)
    assert found["WAVE"] == 1
    assert found["EXTOBJ"] == 6
    assert found["EXTTELL"] == 1
    assert not set(found) & {"PP", "BAD", "LOC", "SHAPE", "FF", "THERMAL", "DARKM", "WAVEM"}
    assert bed.contents(reduced) == bed.contents(reference.root)


def test_changed_option(reduced: Path, reference: bed.Reduced) -> None:
    """Another limit of the groups changes inputs, hence identities, of what it concerns."""
    settings = replace(everything_skipped(reference), group_file_limit=4)
    bed.forget_executions(reduced)
    done = bed.reduce(reduced, settings=settings)
    found = ran(done)
    assert found["LOC"] == 6
    assert found["BAD"] == 3
    assert "PP" not in found
    assert done.result.status == 0
    # Products of the same names were replaced and are made again; those of other names stay beside them.
    back = bed.reduce(reduced, settings=everything_skipped(reference))
    assert back.result.status == 0
    assert bed.contents(reference.root).items() <= bed.contents(reduced).items()


def test_failed_runs_are_tried_again_and_failed_quality_is_not(reduced: Path, reference: bed.Reduced) -> None:
    faults = {"CCF 2320031o": {"kind": "qc"}, "CCF 2320032o": {"kind": "error"}}
    bed.rerun(reduced, reference, faults)
    bed.set_faults(reduced, {})
    bed.forget_executions(reduced)
    done = bed.reduce(reduced, settings=everything_skipped(reference))
    assert done.state("CCF", stem="2320031o") is State.SKIPPED_EXISTS
    assert done.state("CCF", stem="2320032o") is State.DONE
    assert ran(done) == {"CCF": 1}


def test_twins_do_not_share_a_marker(reference: bed.Reduced) -> None:
    """Master and night tier, first and final pass: same recipe and inputs, other runs."""
    identities = [t.identity() for t in reference.plan.tasks]
    assert len(set(identities)) == bed.RUNS
    paths = [path for t in reference.plan.tasks for _, _, path in t.outputs()]
    assert len(set(paths)) == len(paths)
