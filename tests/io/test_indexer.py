"""The scan of a raw tree: everything bad is named, everything else is indexed."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apero_dask.core.errors import UserError
from apero_dask.core.frames import FrameIndex
from apero_dask.core.names import ObjectNames
from apero_dask.instruments import instrument
from apero_dask.io import indexer, primary, walk
from apero_dask.io.indexer import FOLD_REMARKS, scan
from tests.io.archive import NOW, frame, header, mode_bits_count, unit, write

SPIROU = instrument("SPIROU")
NIGHT = "2018-09-25"


def index_of(raw: Path, **options: object) -> FrameIndex:
    return scan(raw, SPIROU, now_mjd=NOW, **options)  # type: ignore[arg-type]


def texts(index: FrameIndex) -> list[str]:
    return [str(finding) for finding in index.findings]


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """Two good frames of two nights."""
    raw = tmp_path / "raw"
    frame(raw, NIGHT, "2320031o")
    frame(raw, "2018-09-26", "2320101d", OBSTYPE="DARK", SBCREF_P="pos_pk", MJDEND=58387.1)
    return raw


GOOD = ["2320031o", "2320101d"]


def identifiers(index: FrameIndex) -> list[str]:
    return [found.identifier for found in index]


def test_good_frames_give_no_message(raw: Path) -> None:
    index = index_of(raw)
    assert identifiers(index) == GOOD and texts(index) == []
    first = index.frames[0]
    path = raw / NIGHT / "2320031o.fits"
    assert (first.path, first.obs_dir, first.dprtype) == (f"{NIGHT}/2320031o.fits", NIGHT, "OBJ_FP")
    assert (first.size, first.digest) == (path.stat().st_size, primary.read_primary(path).digest)
    assert index.nights() == [NIGHT, "2018-09-26"]


def bad(raw: Path, what: str, name: str = "2320050o.fits") -> None:
    """Put one bad file into the night."""
    path = raw / NIGHT / name
    good = header(name[:8])
    match what:
        case "empty":
            write(path, b"")
        case "truncated":
            write(path, unit(good)[:500])
        case "text":
            write(path, b"this is a note of the observer\n")
        case "not UTF-8":
            write(path, unit(good | {"OBSERVER": "Jos\xe9"}))
        case "no END":
            write(path, unit(good).replace(b"END", b"   ").ljust(primary.LONGEST_HEADER))
        case "gzip":
            write(path, b"\x1f\x8b" + bytes(50))
        case "foreign":
            write(path, unit(good | {"INSTRUME": "NIRPS"}))
        case "other simulation":
            write(path, unit(good | {"SIMINST": "SPIROU_MINI"}))
        case "no time":
            write(path, unit({key: value for key, value in good.items() if key != "MJDEND"}))
        case "future":
            write(path, unit(good | {"MJDEND": NOW + 1.5}))
        case "folder":
            frame(path, "below", "2320051o")
        case "pipe":
            os.mkfifo(path)
        case "dead link":
            path.symlink_to("nowhere.fits")
        case "link in a circle":
            path.symlink_to(path.name)
        case "name":
            write(path, unit(good))


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("empty", "empty: {path}."),
        ("truncated", "unreadable header (truncated): {path} (500 bytes)."),
        ("text", "not FITS: {path}."),
        ("not UTF-8", "unreadable header (not ASCII text): {path} (byte 0xE9 in card OBSERVER)."),
        ("no END", "unreadable header (no END card): {path} (none in the first 14400 cards)."),
        ("gzip", "unreadable header (damaged gzip): {path} (Error -3 while decompressing data: "),
        ("foreign", 'other instrument: {path} (INSTRUME = "NIRPS").'),
        ("other simulation", 'other instrument: {path} (SIMINST = "SPIROU_MINI").'),
        ("no time", "no usable time: {path} (MJDEND is missing)."),
        ("future", "end time more than a day after the scan: {path} (MJDEND = 60001.50000)."),
        ("folder", "not a regular file: {path} (a folder)."),
        ("pipe", "not a regular file: {path}."),
        ("dead link", "unreadable header (link to nothing): {path}."),
        (
            "link in a circle",
            "unreadable header (link to nothing): {path} (Too many levels of symbolic links).",
        ),
    ],
)
def test_one_bad_file_is_named_and_the_rest_is_indexed(raw: Path, what: str, message: str) -> None:
    bad(raw, what)
    index = index_of(raw)
    assert identifiers(index) == GOOD
    expected = "W-BAD-FILE: 1 raw file(s) left out: " + message.format(path=f"{NIGHT}/2320050o.fits")
    assert len(texts(index)) == 1 and texts(index)[0].startswith(expected)


@pytest.mark.parametrize(
    "name", ["2320050x.fits", "232005o.fits", "2320050o.fit", "notes.txt", "2320050O.fits"]
)
def test_wrong_names_are_left_out(raw: Path, name: str) -> None:
    bad(raw, "name", name)
    index = index_of(raw)
    assert identifiers(index) == GOOD
    assert texts(index) == [
        f"W-BAD-FILE: 1 raw file(s) left out: name not odometer + letter: {NIGHT}/{name}."
    ]


def test_one_message_per_reason_whatever_the_number(raw: Path) -> None:
    for number in range(12):
        bad(raw, "empty", f"23200{50 + number}o.fits")
    bad(raw, "text", "2320099o.fits")
    index = index_of(raw)
    assert identifiers(index) == GOOD
    listed = ", ".join(f"{NIGHT}/23200{50 + number}o.fits" for number in range(8))
    assert texts(index) == [
        f"W-BAD-FILE: 12 raw file(s) left out: empty: {listed}, ... (12 in all).",
        f"W-BAD-FILE: 1 raw file(s) left out: not FITS: {NIGHT}/2320099o.fits.",
    ]


def test_hidden_files_and_known_other_products_are_passed_over_in_silence(raw: Path) -> None:
    for name in [f"2320050{letter}.fits" for letter in "rgestvp"] + ["2320050e.fits.gz", ".2320050o.fits"]:
        bad(raw, "text", name)
    frame(raw, ".trash", "2320060o")
    index = index_of(raw)
    assert identifiers(index) == GOOD and texts(index) == []


def test_file_outside_any_night(raw: Path) -> None:
    frame(raw, "", "2320050o")
    index = index_of(raw)
    assert identifiers(index) == GOOD
    assert texts(index) == ["W-BAD-FILE: 1 raw file(s) left out: not in a night folder: 2320050o.fits."]


def test_nested_nights_are_named_by_their_path(raw: Path) -> None:
    frame(raw, "2018/2018-09-25", "2320050o")
    frame(raw, "2018/part/deep", "2320051o", ending=".fits.gz")
    index = index_of(raw)
    assert index.nights() == [NIGHT, "2018-09-26", "2018/2018-09-25", "2018/part/deep"]
    assert [found.path for found in index][3] == "2018/part/deep/2320051o.fits.gz"
    assert texts(index) == []


def test_compressed_frame_is_the_same_frame(raw: Path) -> None:
    plain = index_of(raw).frames[0]
    (raw / plain.path).unlink()
    path = frame(raw, NIGHT, "2320031o", ending=".fits.gz")
    packed = index_of(raw).frames[0]
    assert packed.path == plain.path + ".gz" and packed.size == path.stat().st_size != plain.size
    assert (packed.identifier, packed.mjdmid, packed.digest) == (plain.identifier, plain.mjdmid, plain.digest)


def test_links_to_files_and_nights_are_followed(raw: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    frame(store, "2018-09-27", "2320201d", MJDEND=58388.1)
    (raw / "2018-09-27").symlink_to(store / "2018-09-27")
    target = frame(store, "single", "2320050o")
    (raw / NIGHT / "2320050o.fits").symlink_to(target)
    index = index_of(raw)
    assert sorted(identifiers(index)) == ["2320031o", "2320050o", "2320101d", "2320201d"]
    assert {found.size for found in index} == {target.stat().st_size}


def test_link_to_a_folder_above_ends(raw: Path) -> None:
    (raw / NIGHT / "again").symlink_to(raw / NIGHT)
    (raw / NIGHT / "top").symlink_to(raw)
    index = index_of(raw)
    assert identifiers(index) == GOOD
    assert texts(index) == [
        f"W-BAD-FILE: 2 raw file(s) left out: link to a folder above itself: {NIGHT}/again, {NIGHT}/top."
    ]


def test_duplicates_stay_in_the_index_for_the_filters(raw: Path) -> None:
    frame(raw, "copy", "2320031o")
    index = index_of(raw)
    assert [(found.identifier, found.obs_dir) for found in index] == [
        ("2320031o", NIGHT),
        ("2320101d", "2018-09-26"),
        ("2320031o", "copy"),
    ]
    assert texts(index) == []


def test_unidentified_frames_are_indexed_and_reported_once(raw: Path) -> None:
    frame(raw, NIGHT, "2320050f", OBSTYPE="FLAT", SBCCAS_P="pos_rs")
    frame(raw, NIGHT, "2320051o", SBRHB1_P="P7", SBCALI_P=None)
    index = index_of(raw)
    assert [f.dprtype for f in index if f.identifier in ("2320050f", "2320051o")] == ["UNKNOWN", "UNKNOWN"]
    assert texts(index) == [
        f"W-UNIDENTIFIED: 2 frame(s) could not be identified: {NIGHT}/2320050f.fits (OBSTYPE FLAT, "
        f"SBCCAS_P pos_rs, SBCREF_P pos_fp, SBCALI_P P5), {NIGHT}/2320051o.fits (OBSTYPE OBJECT, "
        "SBCCAS_P pos_pk, SBCREF_P pos_fp, SBCALI_P missing, TRG_TYPE TARGET, mode UNKNOWN)."
    ]


def test_odd_frames_are_kept_with_a_message_each(raw: Path) -> None:
    frame(raw, NIGHT, "2320050d", MJDEND=58386.30)
    frame(raw, NIGHT, "2320051o", FILENAME="2320052o", EXPTIME=310.0, MJDEND=58386.31)
    index = index_of(raw)
    assert identifiers(index) == ["2320031o", "2320050d", "2320052o", "2320101d"]
    assert sorted(texts(index)) == [
        "W-FRAME: Frame 2320050d: letter d, but the header says OBJ_FP (letter o); the header is used.",
        "W-FRAME: Frame 2320052o: EXPTIME = 310.000 s, but (NREADS - 1) x FRMTIME = 300.884 s; "
        "EXPTIME is used.",
        'W-FRAME: Frame 2320052o: FILENAME is "2320052o" in a file named 2320051o; FILENAME is used.',
    ]


def test_many_frames_with_one_oddity_share_a_message(raw: Path) -> None:
    for number in range(FOLD_REMARKS + 1):
        frame(raw, NIGHT, f"23200{50 + number}o", EXPTIME=310.0 + number, MJDEND=58386.3 + number / 100)
    index = index_of(raw)
    assert len(index) == len(GOOD) + FOLD_REMARKS + 1
    assert texts(index) == [
        "W-FRAME: Frame 2320050o, 2320051o, 2320052o, 2320053o, 2320054o, 2320055o, 2320056o, 2320057o, ... "
        "(11 in all): EXPTIME is not (NREADS - 1) x FRMTIME; EXPTIME is used."
    ]


def test_objects_go_through_the_alias_table(raw: Path) -> None:
    names = ObjectNames.from_rows([("Barnard", ["Gl699"])])
    assert index_of(raw, names=names).frames[0].frame_class == "BARNARD"


def test_frames_of_the_other_instrument(raw: Path) -> None:
    frame(raw, NIGHT, "2320050o", SIMINST="SPIROU_MINI")
    found = scan(raw, instrument("SPIROU_MINI"), now_mjd=NOW)
    assert identifiers(found) == ["2320050o"]
    assert texts(found)[0].startswith("W-BAD-FILE: 2 raw file(s) left out: other instrument: ")


def test_frame_that_disappears_during_the_scan(raw: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = frame(raw, NIGHT, "2320050o")

    def list_and_remove(*args: object) -> walk.Listing:
        listing = walk.list_raw(*args)  # type: ignore[arg-type]
        path.unlink()
        return listing

    monkeypatch.setattr(indexer, "list_raw", list_and_remove)
    index = index_of(raw)
    assert identifiers(index) == GOOD
    assert texts(index) == [
        "W-BAD-FILE: 1 raw file(s) left out: unreadable header (disappeared during the scan): "
        f"{NIGHT}/2320050o.fits."
    ]


def test_frame_and_folder_without_permission(raw: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frame(raw, NIGHT, "2320050o")
    frame(raw, "closed", "2320060o")
    real_open, real_scandir = os.open, os.scandir

    def guarded_open(path: str, *args: object) -> int:
        if str(path).endswith("2320050o.fits"):
            raise PermissionError(13, "Permission denied")
        return real_open(path, *args)  # type: ignore[arg-type]

    def guarded_scandir(path: str) -> object:
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied")
        return real_scandir(path)

    monkeypatch.setattr(os, "open", guarded_open)
    monkeypatch.setattr(os, "scandir", guarded_scandir)
    index = index_of(raw)
    assert identifiers(index) == GOOD
    assert texts(index) == [
        "W-BAD-FILE: 1 raw file(s) left out: folder cannot be listed: closed (Permission denied).",
        f"W-BAD-FILE: 1 raw file(s) left out: unreadable header (no read permission): {NIGHT}/2320050o.fits.",
    ]


@mode_bits_count
def test_permissions_of_a_user(raw: Path) -> None:
    frame(raw, NIGHT, "2320050o").chmod(0)
    (raw / "closed").mkdir(mode=0)
    index = index_of(raw)
    assert identifiers(index) == GOOD and len(texts(index)) == 2


def test_night_whose_name_is_not_text(raw: Path) -> None:
    (raw / os.fsdecode(b"night\xe9")).mkdir()
    index = index_of(raw)
    assert identifiers(index) == GOOD
    assert texts(index) == ["W-BAD-FILE: 1 raw file(s) left out: folder name not UTF-8 text: night\\udce9."]


def test_file_whose_name_is_not_text(raw: Path) -> None:
    (raw / NIGHT / os.fsdecode(b"2320050\xe9.fits")).touch()
    text = texts(index_of(raw))[0]
    assert text.encode() and text.endswith(f"name not odometer + letter: {NIGHT}/2320050\\udce9.fits.")


def test_raw_tree_that_cannot_be_listed(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"E-DATA-ROOT: Data folder .*raw \(raw tree\) cannot be listed"):
        index_of(tmp_path / "raw")


def test_empty_raw_tree(tmp_path: Path) -> None:
    index = index_of(tmp_path)
    assert len(index) == 0 and texts(index) == []


def build(raw: Path, order: list[int]) -> None:
    """An archive with every kind of frame, its files created in the given order."""
    makers = [
        *(
            lambda n=n: frame(raw, f"night{n % 3}", f"23200{n:02d}o", MJDEND=58386 + n % 7 / 7)
            for n in range(12)
        ),
        *(lambda n=n: frame(raw, f"deep/night{n}", f"23200{n:02d}o", ".fits.gz") for n in range(3)),
        lambda: frame(raw, "night0", "2320050d"),
        lambda: frame(raw, "night1", "2320051o", OBSTYPE=""),
        lambda: frame(raw, "night1", "2320052o", EXPTIME=-1),
        lambda: frame(raw, "night2", "2320053o", EXPTIME=-1.0, MJDEND="NaN"),
        lambda: frame(raw, "night2", "2320054o", INSTRUME="other"),
        *(lambda n=n: write(raw / "night0" / f"232006{n}o.fits", b"") for n in range(3)),
        lambda: write(raw / "night0" / "notes", b"x"),
        lambda: frame(raw, "night0", "2320050d", ".fits.gz"),
    ]
    assert len(makers) == MAKERS
    for place in order:
        makers[place]()


MAKERS = 25


@settings(max_examples=12, deadline=None)
@given(st.randoms(use_true_random=False), st.integers(1, 5))
def test_index_depends_on_the_files_alone(
    tmp_path_factory: pytest.TempPathFactory, shuffle: random.Random, workers: int
) -> None:
    ordered, shuffled = list(range(MAKERS)), list(range(MAKERS))
    shuffle.shuffle(shuffled)
    folder = tmp_path_factory.mktemp("archives")
    build(folder / "first", ordered)
    build(folder / "second", shuffled)
    first = index_of(folder / "first", workers=1)
    second = index_of(folder / "second", workers=workers)
    assert len(first) == 19 and len(texts(first)) == 7
    assert first == second


def test_folders_listed_by_threads_give_the_same_index(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for night in range(10):
        frame(tmp_path, f"night{night}", f"23200{night:02d}o")
        write(tmp_path / f"night{night}" / "notes", b"x")
    monkeypatch.setattr(walk, "WAITING", float("inf"))
    one_after_the_other = index_of(tmp_path)
    monkeypatch.setattr(walk, "WAITING", 0.0)
    assert index_of(tmp_path) == one_after_the_other
    assert len(one_after_the_other) == 10
