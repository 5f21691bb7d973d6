"""Calibration and telluric databases: what is registered, where, and that it follows from the markers."""

from __future__ import annotations

import datetime
import errno
import hashlib
import json
import os
import shutil
import sqlite3
from pathlib import Path

import numpy as np
import pytest

from apero_dask.core.outcome import Marker, OutputRecord, State
from apero_dask.core.plan import Plan
from apero_dask.core.products import KINDS
from apero_dask.engine.invocation import Named
from apero_dask.io.cards import card_text
from apero_dask.io.fitswriter import Image, write_fits
from apero_dask.io.markers import read_markers, write_marker
from apero_dask.io.trees import Trees
from apero_dask.state import registry
from apero_dask.state.disk import current_markers
from apero_dask.state.registry import (
    COLUMNS,
    FILES,
    TREE,
    human_time,
    link_or_copy,
    read_rows,
    rebuild_databases,
    register_products,
    rows_of,
)
from tests.report.reduction import NIGHT, SKIPPING, Answer, Root

BOTH = ("calib", "tellu")


def database(root: Root, name: str) -> Path:
    return root.trees.path(TREE[name]) / FILES[name]


def rows(root: Root, name: str) -> list[tuple[object, ...]]:
    """Rows as another program reads them."""
    with sqlite3.connect(database(root, name)) as db:
        found = db.execute("SELECT * FROM MAIN").fetchall()
    db.close()
    return found


def folder(root: Root, name: str) -> dict[str, bytes]:
    """Registered files with their content."""
    place = root.trees.path(TREE[name])
    return {p.name: p.read_bytes() for p in sorted(place.iterdir()) if p.name != FILES[name]}


def state(root: Root) -> list[object]:
    return [(rows(root, name), folder(root, name)) for name in BOTH]


def test_columns_are_those_users_programs_read(good_once: tuple[Root, Answer]) -> None:
    root = good_once[0]
    for name, columns in (
        ("calib", "KEYNAME FIBER REFCAL FILENAME HUMANTIME UNIXTIME PID PDATE USED"),
        (
            "tellu",
            "KEYNAME FIBER REFCAL FILENAME HUMANTIME UNIXTIME "
            "OBJECT AIRMASS TAU_WATER TAU_OTHERS PID PDATE USED",
        ),
    ):
        with sqlite3.connect(database(root, name)) as db:
            found = [row[1] for row in db.execute("PRAGMA table_info(MAIN)")]
        db.close()
        assert found == columns.split() == list(COLUMNS[name])


@pytest.mark.parametrize("name", BOTH)
def test_every_passed_product_of_a_registered_kind_is_there_and_nothing_else(
    failed_once: tuple[Root, Answer], name: str
) -> None:
    root = failed_once[0]
    expected = set()
    for path in (root.path / "log" / "markers").rglob("*.json"):
        marker = json.loads(path.read_text(encoding="utf-8"))["marker"]
        if marker["state"] != "DONE":
            continue
        for output in marker["outputs"]:
            if KINDS[output["kind"]].database == name:
                base = output["path"].rpartition("/")[2]
                night = f"{marker['obs_dir']}_" if marker["obs_dir"] else ""
                tier = "master_" if marker["tier"] == "master" else ""
                expected.add((output["kind"], output["fibre"], f"{tier}{night}{base}"))
    found = {(row["KEYNAME"], row["FIBER"], row["FILENAME"]) for row in read_rows(name, root.trees)}
    assert found == expected and len(found) > 20
    assert set(folder(root, name)) == {name for _, _, name in expected}
    # The night's bad pixels failed quality control; those of the master tier have the same base name.
    if name == "calib":
        assert {f for k, _, f in found if k == "BADPIX"} == {f"master_{NIGHT}_2320015f_pp_badpixel.fits"}


def test_registered_files_are_the_products(good_once: tuple[Root, Answer]) -> None:
    root = good_once[0]
    product = root.path / "reduced" / "master" / NIGHT / "2320015f_pp_badpixel.fits"
    registered = root.path / "calibDB" / f"master_{NIGHT}_2320015f_pp_badpixel.fits"
    assert product.samefile(registered)
    assert not list(root.path.glob("*DB/.*")), "no temporary name is left"


def test_times_are_those_of_the_frames_and_reference_is_the_master_tier(
    good_once: tuple[Root, Answer],
) -> None:
    root = good_once[0]
    table = {(r["KEYNAME"], r["REFCAL"]): r for r in read_rows("calib", root.trees)}
    night, master = table["BADPIX", 0], table["BADPIX", 1]
    assert night["FILENAME"] == f"{NIGHT}_2320015f_pp_badpixel.fits"
    assert master["FILENAME"] == f"master_{NIGHT}_2320015f_pp_badpixel.fits"
    # Flats of the evening and of the morning: their mean lies in the day after the night's start.
    assert night["HUMANTIME"].startswith(NIGHT)  # type: ignore[attr-defined]
    moment = datetime.datetime.fromisoformat(f"{night['HUMANTIME']}+00:00")
    # The text has milliseconds.
    assert night["UNIXTIME"] == pytest.approx(moment.timestamp(), abs=1e-3)
    assert night["PID"] and night["PDATE"] and night["USED"] == 1


def test_human_time_of_a_known_date() -> None:
    # MJD 51544.5 is J2000.0 up to the difference of time scales; MJD 0 is 1858-11-17.
    assert human_time(51544.5) == "2000-01-01T12:00:00.000"
    assert human_time(0.0) == "1858-11-17T00:00:00.000"


def test_telluric_rows_have_object_and_exponents(tmp_path: Path, good_once: tuple[Root, Answer]) -> None:
    rows_found = read_rows("tellu", good_once[0].trees)
    objects = {r["OBJECT"] for r in rows_found if r["KEYNAME"] == "TRANS2"}
    assert objects == {"59PEG", "GAMSCT"}
    # Hot stars have templates too.
    templates = {r["OBJECT"] for r in rows_found if r["KEYNAME"] == "TEMPLATE"}
    assert templates == {"GL699", "59PEG", "GAMSCT"}
    trees = good_once[0].copy(tmp_path / "root").trees
    path = trees.reduced / "x.fits"
    cards = [card_text("AIRMASS", 1.25), card_text("TLPEH2O", 3.5), card_text("TLPEOTR", "NaN")]
    write_fits(path, cards, [Image("TRANS2", np.zeros((2, 2), np.float32))], ())
    marker = made("reduced/x.fits", "TRANS2", object="GL699")
    ((row, _),) = rows_of(marker, trees, "tellu")
    assert (row["AIRMASS"], row["TAU_WATER"], row["TAU_OTHERS"], row["OBJECT"]) == (1.25, 3.5, None, "GL699")


def made(path: str, kind: str, identity: str = "0" * 32, **changes: object) -> Marker:
    """Marker of a run with one product."""
    values: dict[str, object] = {
        "identity": identity,
        "short": "X",
        "recipe": "x",
        "tier": "night",
        "variant": "",
        "obs_dir": NIGHT,
        "object": "",
        "stem": "x",
        "time": 58386.5,
        "state": State.DONE,
        "inputs": (),
        "planned_inputs": (),
        "choices": (),
        "outputs": (OutputRecord(kind, "", path, 1, "d", "c"),),
        "code": "",
        "invocation": "20180925T000000-1",
        **changes,
    }
    return Marker(**values)  # type: ignore[arg-type]


# -- again and anew --------------------------------------------------------------------------


def test_registering_again_changes_nothing(good: Root) -> None:
    first = state(good)
    times = {p: p.stat().st_mtime_ns for p in good.path.glob("*DB/*")}
    answer = good.reduce(SKIPPING)
    assert answer.status == 0 and "SKIPPED_EXISTS" in answer.out
    assert state(good) == first
    assert {p: p.stat().st_mtime_ns for p in good.path.glob("*DB/*")} == times


def test_both_databases_come_back_from_markers_alone(good: Root) -> None:
    first = state(good)
    for tree in TREE.values():
        shutil.rmtree(good.trees.path(tree))
    for entry in (good.path / "log").iterdir():
        if entry.name != "markers":
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
    answer = good.ask("reset", "--from-markers")
    assert answer.status == 0, answer.err
    assert state(good) == first
    # Skipping works from the new state: nothing is computed twice.
    again = good.reduce(SKIPPING)
    assert again.status == 0 and " DONE" not in again.out


@pytest.mark.parametrize("name", BOTH)
def test_a_damaged_database_comes_back_with_the_next_reduction(good: Root, name: str) -> None:
    first = state(good)
    database(good, name).write_bytes(b"no database" * 99)
    assert good.reduce(SKIPPING).status == 0
    assert state(good) == first


def test_a_damaged_registered_file_is_linked_again(good: Root) -> None:
    first = state(good)
    name = f"{NIGHT}_2320015f_pp_badpixel.fits"
    path = good.path / "calibDB" / name
    path.unlink()
    path.write_bytes(b"half")
    assert "is not the product" in good.ask("verify").out
    assert good.reduce(SKIPPING).status == 0
    assert state(good) == first


def test_a_product_that_fails_now_is_taken_out(good: Root) -> None:
    good.faults(BAD={"kind": "qc"})
    answer = good.retry("--only", "BAD")
    assert answer.status == 0
    assert "BADPIX" in {r["KEYNAME"] for r in read_rows("calib", good.trees) if r["REFCAL"] == 1}
    assert "BADPIX" not in {r["KEYNAME"] for r in read_rows("calib", good.trees) if r["REFCAL"] == 0}
    assert not (good.path / "calibDB" / f"{NIGHT}_2320015f_pp_badpixel.fits").exists()
    assert good.ask("verify").status == 0


def test_a_product_made_again_replaces_the_registered_one(good: Root) -> None:
    before = (good.path / "calibDB" / f"{NIGHT}_2320015f_pp_badpixel.fits").stat().st_ino
    assert good.retry("--only", "BAD").status == 0
    registered = good.path / "calibDB" / f"{NIGHT}_2320015f_pp_badpixel.fits"
    assert registered.stat().st_ino != before
    assert registered.samefile(good.path / "reduced" / NIGHT / "2320015f_pp_badpixel.fits")


@pytest.mark.parametrize("number", sorted(registry.NO_LINK))
def test_without_hard_links_files_are_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    product = tmp_path / "a.fits"
    product.write_bytes(b"pixels")

    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(registry.os, "link", refuse)
    link_or_copy(product, tmp_path / "db" / "b.fits")
    copied = tmp_path / "db" / "b.fits"
    assert copied.read_bytes() == b"pixels" and not product.samefile(copied)
    assert registry.same_file(product, copied)


def test_a_full_disk_leaves_no_half_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    product, target = tmp_path / "a.fits", tmp_path / "db" / "b.fits"
    product.write_bytes(b"new")
    target.parent.mkdir()
    target.write_bytes(b"old")

    def no_link(*_: object, **__: object) -> None:
        raise OSError(errno.EXDEV, "other disk")

    def full(_: Path, place: Path) -> None:
        Path(place).write_bytes(b"n")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(registry.os, "link", no_link)
    monkeypatch.setattr(registry.shutil, "copy2", full)
    with pytest.raises(OSError, match="No space left"):
        link_or_copy(product, target)
    assert target.read_bytes() == b"old" and [p.name for p in target.parent.iterdir()] == ["b.fits"]


def test_a_folder_that_cannot_be_made_is_named_and_the_work_is_kept(good: Root) -> None:
    shutil.rmtree(good.path / "calibDB")
    (good.path / "calibDB").write_text("in the way", encoding="utf-8")
    with pytest.raises(OSError, match="calibDB"):
        rebuild_databases(read_markers(good.trees.log), good.trees)
    answer = good.ask("reset", "--from-markers")
    assert answer.status == 5 and "calibDB" in answer.err
    assert good.reduce(SKIPPING).status == 2, "the data root is refused before anything runs"


def test_a_product_that_vanished_is_reported_not_registered(good: Root) -> None:
    product = good.path / "reduced" / NIGHT / "2320015f_pp_badpixel.fits"
    product.unlink()
    (good.path / "calibDB" / f"{NIGHT}_2320015f_pp_badpixel.fits").unlink()
    report = rebuild_databases(read_markers(good.trees.log), good.trees)
    assert report.missing == [f"reduced/{NIGHT}/2320015f_pp_badpixel.fits"]
    assert f"{NIGHT}_2320015f_pp_badpixel.fits" not in {r["FILENAME"] for r in read_rows("calib", good.trees)}


def test_rows_are_the_same_in_whatever_order_markers_come(good: Root) -> None:
    markers = list(read_markers(good.trees.log))
    files = []
    for ordered in (markers, markers[::-1]):
        rebuild_databases(ordered, good.trees)
        files.append([database(good, name).read_bytes() for name in BOTH])
    assert files[0] == files[1], "byte for byte"


def test_a_marker_of_an_overwritten_file_does_not_count(tmp_path: Path) -> None:
    root = Root(tmp_path)
    trees: Trees = root.trees
    path = trees.reduced / "other" / "Template_GL699_tellu_obj_AB.fits"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"second")
    digest = hashlib.sha256(b"second").hexdigest()
    name = "reduced/other/Template_GL699_tellu_obj_AB.fits"
    first = made(name, "TEMPLATE", "a" * 32, obs_dir="", invocation="20180926T000000-1")
    second = made(
        name,
        "TEMPLATE",
        "b" * 32,
        obs_dir="",
        outputs=(OutputRecord("TEMPLATE", "AB", name, 6, digest, "c"),),
    )
    for marker in (first, second):
        write_marker(trees.log, marker)
    assert current_markers(read_markers(trees.log), trees) == [second]
    path.write_bytes(b"neither")
    assert current_markers(read_markers(trees.log), trees) == [first], "then the later one"


def test_runs_that_have_not_ended_are_left_alone(good: Root) -> None:
    plan = Plan.of("SPIROU", (), (), ())
    first = state(good)
    named = Named("20180925T000000-1", "2018-09-25T00:00:00", "")
    report = register_products(plan, {}, {}, good.trees, named)
    assert (report.added, report.removed, report.kept) == (0, 0, 0) and state(good) == first
