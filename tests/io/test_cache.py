"""The kept header values: used when nothing changed, never trusted when anything did, never fatal."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from apero_dask.core.frames import FrameIndex
from apero_dask.core.names import ObjectNames
from apero_dask.instruments import instrument
from apero_dask.io import cache as index_cache
from apero_dask.io import identify, indexer
from apero_dask.io.indexer import scan
from tests.io.archive import LONG_AGO_NS, NOW, frame, header, unit, write

SPIROU = instrument("SPIROU")


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    raw = tmp_path / "raw"
    for number in range(6):
        frame(raw, f"night{number % 2}", f"232003{number}o", CMPLTEXP=number, OBJECT="Gl 699")
    write(raw / "night0" / "2320040o.fits", b"")
    write(raw / "night0" / "2320041o.fits", unit(header("2320041o", INSTRUME="NIRPS")))
    frame(raw, "night1", "2320042o", TRG_TYPE=True, NREADS=False, MJDEND="1e999")
    return raw


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "log" / index_cache.CACHE_FILE


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Base names of the files whose header is read."""
    names: list[str] = []
    real = indexer.read_primary

    def counted(path: str, *args: object) -> object:
        names.append(Path(path).name)
        return real(path, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(indexer, "read_primary", counted)
    return names


def index_of(raw: Path, cache: Path | None = None, **options: object) -> FrameIndex:
    return scan(raw, SPIROU, now_mjd=NOW, cache=cache, **options)  # type: ignore[arg-type]


def notes(index: FrameIndex) -> list[str]:
    return [finding.text for finding in index.findings if finding.code == "I-INDEX"]


def test_unchanged_archive_is_not_read_again(raw: Path, cache: Path, reads: list[str]) -> None:
    plain = index_of(raw)
    assert len(plain) == 6 and len(plain.findings) == 3
    reads.clear()
    first = index_of(raw, cache)
    assert len(reads) == 9
    written = cache.stat()
    second = index_of(raw, cache)
    assert len(reads) == 9
    assert first == second == plain
    assert cache.stat().st_mtime_ns == written.st_mtime_ns  # nothing new, nothing written
    assert [path.name for path in cache.parent.iterdir()] == [cache.name]


def test_changed_new_and_removed_files(raw: Path, cache: Path, reads: list[str]) -> None:
    index_of(raw, cache)
    reads.clear()
    frame(raw, "night2", "2320050o")
    (raw / "night1" / "2320031o.fits").unlink()
    changed = write(raw / "night0" / "2320030o.fits", unit(header("2320030o", OBJECT="GJ 15")))
    os.utime(changed, ns=(LONG_AGO_NS, LONG_AGO_NS + 1))
    longer = raw / "night0" / "2320032o.fits"
    longer.write_bytes(longer.read_bytes() + bytes(2880))
    os.utime(longer, ns=(LONG_AGO_NS, LONG_AGO_NS))
    index = index_of(raw, cache)
    assert sorted(reads) == ["2320030o.fits", "2320032o.fits", "2320050o.fits"]
    assert index == index_of(raw)
    assert {f.identifier: f.frame_class for f in index}["2320030o"] == "GJ_15"
    reads.clear()
    assert index_of(raw, cache) == index and not reads


def test_rules_and_names_may_change_without_reading(
    raw: Path, cache: Path, reads: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    index_of(raw, cache)
    reads.clear()
    names = ObjectNames.from_rows([("Barnard", ["Gl 699"])])
    assert {found.frame_class for found in index_of(raw, cache, names=names)} == {"BARNARD"}
    monkeypatch.setattr(identify, "target_type", lambda *_: "SKY")
    assert {found.dprtype for found in index_of(raw, cache)} == {"DARK_FP_SKY"}
    assert not reads


def test_the_clock_is_not_kept(raw: Path, cache: Path, reads: list[str]) -> None:
    early = scan(raw, SPIROU, now_mjd=58000.0, cache=cache)
    assert len(early) == 0
    assert "6 raw file(s) left out: end time more than a day" in early.findings[1].text
    reads.clear()
    assert len(index_of(raw, cache)) == 6 and not reads


def test_file_modified_just_now_is_read_again(raw: Path, cache: Path, reads: list[str]) -> None:
    path = raw / "night0" / "2320030o.fits"
    os.utime(path, ns=(time.time_ns(), time.time_ns()))
    index_of(raw, cache)
    reads.clear()
    index_of(raw, cache)
    assert reads == ["2320030o.fits"]


def test_failures_that_may_pass_are_not_kept(
    raw: Path, cache: Path, reads: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.open

    def denied(path: object, *args: object) -> int:
        if str(path).endswith("2320030o.fits"):
            raise PermissionError(13, "Permission denied")
        return real(path, *args)  # type: ignore[arg-type,call-overload,no-any-return]

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", denied)
        assert len(index_of(raw, cache)) == 5
    assert "2320030o.fits" not in index_cache.load(cache, raw).records["night0"]
    reads.clear()
    assert len(index_of(raw, cache)) == 6
    assert reads == ["2320030o.fits"]


def damaged(path: Path, how: str) -> None:
    content = path.read_bytes()
    lines = content.splitlines(keepends=True)
    match how:
        case "one bit":
            place = content.index(b"58386")
            content = content[:place] + b"68386" + content[place + 5 :]
        case "truncated":
            content = content[: len(content) // 2]
        case "line lost":
            content = b"".join(lines[:1] + lines[2:])
        case "end lost":
            content = b"".join(lines[:-1])
        case "something behind":
            content += b"x"
        case "empty":
            content = b""
        case "not text":
            content = b"\xff\xfe" + bytes(500)
        case "no rows":
            content = lines[0] + b'["night0", [], [["2320030o.fits", 1, 2, "d", 0]]]\n'
        case "other shape":
            content = lines[0] + b"[1, 2]\n" + lines[-1]
    path.write_bytes(content)


@pytest.mark.parametrize(
    "how",
    [
        "one bit",
        "truncated",
        "line lost",
        "end lost",
        "something behind",
        "empty",
        "not text",
        "no rows",
        "other shape",
    ],
)
def test_damaged_cache_is_made_anew_with_a_note(raw: Path, cache: Path, how: str, reads: list[str]) -> None:
    good = index_of(raw, cache)
    content = cache.read_bytes()
    damaged(cache, how)
    assert cache.read_bytes() != content
    reads.clear()
    index = index_of(raw, cache)
    assert index.frames == good.frames and len(reads) == 9
    assert notes(index) == [f"Frame index {cache} is damaged; it is made anew."]
    assert cache.read_bytes() == content
    assert notes(index_of(raw, cache)) == []


def test_cache_of_another_tree_or_version_is_made_anew(
    raw: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index_of(raw, cache)
    moved = raw.rename(tmp_path / "moved")
    assert notes(index_of(moved, cache)) == [
        f"Frame index {cache} belongs to another raw tree or version; it is made anew."
    ]
    assert notes(index_of(moved, cache)) == []
    monkeypatch.setattr(index_cache, "FORMAT", -1)
    assert len(notes(index_of(moved, cache))) == 1


def test_cache_that_cannot_be_written_or_read_only_costs_time(raw: Path, tmp_path: Path) -> None:
    (tmp_path / "log").write_text("a file where the folder should be")
    index = index_of(raw, tmp_path / "log" / "raw_index.jsonl")
    assert len(index) == 6
    assert notes(index) == [
        f"Frame index {tmp_path}/log/raw_index.jsonl cannot be read (Not a directory); it is made anew.",
        f"Frame index {tmp_path}/log/raw_index.jsonl cannot be written (File exists); "
        "the next scan reads all headers again.",
    ]
    folder = tmp_path / "folder"
    folder.mkdir()
    index = index_of(raw, folder)
    assert len(index) == 6 and "cannot be read (Is a directory)" in notes(index)[0]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "log", "raw"]


def test_failed_writing_leaves_the_old_cache_and_nothing_else(
    raw: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index_of(raw, cache)
    content = cache.read_bytes()
    frame(raw, "night2", "2320050o")

    def full(self: Path, target: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    index = index_of(raw, cache)
    assert len(index) == 7
    assert "cannot be written (No space left on device)" in notes(index)[0]
    assert cache.read_bytes() == content
    assert [path.name for path in cache.parent.iterdir()] == [cache.name]


def test_without_rescan_the_raw_tree_is_not_touched(raw: Path, cache: Path, reads: list[str]) -> None:
    first = index_of(raw, cache)
    frame(raw, "night2", "2320050o")
    raw.rename(raw.with_name("away"))
    reads.clear()
    assert index_of(raw, cache, rescan=False).frames == first.frames
    assert not reads


@pytest.mark.parametrize("usable", ["missing", "damaged", "none"])
def test_without_rescan_and_without_a_usable_cache_the_tree_is_scanned(
    raw: Path, cache: Path, usable: str
) -> None:
    if usable == "damaged":
        index_of(raw, cache)
        damaged(cache, "truncated")
    index = index_of(raw, None if usable == "none" else cache, rescan=False)
    assert len(index) == 6
    assert notes(index)[-1].endswith("the raw tree is scanned although a scan was not wanted.")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
@given(st.data())
def test_any_damage_is_noticed(raw: Path, cache: Path, data: st.DataObject) -> None:
    if not cache.exists():
        index_of(raw, cache)
    content = cache.read_bytes()
    place = data.draw(st.integers(0, len(content) - 1))
    patch = data.draw(st.binary(min_size=1, max_size=8))
    hurt = content[:place] + patch + content[place + len(patch) :]
    cache.write_bytes(hurt)
    loaded = index_cache.load(cache, raw)
    cache.write_bytes(content)
    whole = index_cache.load(cache, raw)
    assert whole.exists and not whole.problem
    # A patch may leave the meaning of the first or last line as it is, for example a blank for a blank.
    assert bool(loaded.problem) != (loaded.records == whole.records and loaded.exists)
