"""Where the data trees are, and what is said when they cannot be used."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from apero_dask.io.trees import OUTPUT_TREES, TREES, Trees, check_trees, find_trees, try_write
from tests.io.archive import mode_bits_count


def found(data: str | None, **environ: str) -> dict[str, tuple[str, str]]:
    return {tree: (str(path), origin) for tree, path, origin in find_trees(data, environ).items()}


def test_option_wins_over_variable_over_the_family() -> None:
    family = {"DRS_DATA_RAW": "/r"}
    assert found("/d", APERO_DATA="/a", **family) == {tree: (f"/d/{tree}", "--data") for tree in TREES}
    assert found(None, APERO_DATA="/a", **family) == {tree: (f"/a/{tree}", "APERO_DATA") for tree in TREES}
    assert found(None, **family)["raw"] == ("/r", "DRS_DATA_RAW")


def test_every_variable_of_the_family() -> None:
    family = {
        "DRS_DATA_RAW": ("raw", "/1"),
        "DRS_DATA_WORKING": ("tmp", "/2"),
        "DRS_DATA_REDUC": ("reduced", "/3"),
        "DRS_CALIB_DB": ("calibDB", "/4"),
        "DRS_TELLU_DB": ("telluDB", "/5"),
        "DRS_DATA_RUNS": ("runs", "/6"),
        "DRS_DATA_MSG": ("log", "/7"),
        "DRS_DATA_OUT": ("out", "/8"),
    }
    trees = found(None, **{name: path for name, (_, path) in family.items()})
    for name, (tree, path) in family.items():
        assert trees[tree] == (path, name)
    assert trees["assets"] == ("/assets", "beside raw")
    assert found(None, DRS_DATA_RUN="/9")["runs"] == ("/9", "DRS_DATA_RUN")
    assert found(None, DRS_DATA_RUN="/9", DRS_DATA_RUNS="/6")["runs"] == ("/6", "DRS_DATA_RUNS")


def test_documented_defaults_and_folders_beside_raw() -> None:
    trees = found(None)
    assert trees["raw"] == ("/data/raw", "default, DRS_DATA_RAW is not set")
    assert trees["runs"] == ("/data/runs", "default, DRS_DATA_RUNS is not set")
    assert trees["reduced"] == ("/data/reduced", "beside raw")
    beside = found(None, DRS_DATA_RAW="/archive/raw/")
    assert beside["telluDB"] == ("/archive/telluDB", "beside raw")


def test_blank_values_count_as_not_set_and_relative_ones_are_made_absolute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert found(" ", APERO_DATA="", DRS_DATA_RAW="  ")["raw"][0] == "/data/raw"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/observer")
    assert found("data/./x/..")["raw"][0] == str(tmp_path / "data" / "raw")
    assert found("~/data")["log"][0] == "/home/observer/data/log"


def test_environment_of_the_process_is_used_when_none_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APERO_DATA", "/from/environment")
    assert find_trees().raw == Path("/from/environment/raw")


def test_unknown_tree_is_a_key_error() -> None:
    with pytest.raises(KeyError):
        find_trees("/d").path("origins")


def everything_below(folder: Path) -> list[str]:
    return sorted(str(path) for path in folder.rglob("*"))


@pytest.fixture
def trees(tmp_path: Path) -> Trees:
    (tmp_path / "raw").mkdir()
    return find_trees(str(tmp_path))


def test_usable_trees_give_no_message_and_nothing_is_created(trees: Trees, tmp_path: Path) -> None:
    before = everything_below(tmp_path)
    assert check_trees(trees) == []
    assert check_trees(trees, write=OUTPUT_TREES) == []
    assert everything_below(tmp_path) == before


def test_missing_raw_tree(tmp_path: Path) -> None:
    findings = check_trees(find_trees(str(tmp_path / "nowhere")))
    assert [str(f) for f in findings] == [
        f"E-DATA-ROOT: Data folder {tmp_path}/nowhere/raw (--data) does not exist: check the path, "
        "or name the data root with --data or APERO_DATA."
    ]
    assert findings[0].severity == "E"
    assert not (tmp_path / "nowhere").exists()


def test_raw_tree_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "raw").write_text("no folder")
    assert "raw (--data) is not a folder: check" in check_trees(find_trees(str(tmp_path)))[0].text


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (PermissionError(errno.EACCES, "Permission denied"), "is not readable: ask its owner"),
        (OSError(errno.ESTALE, "Stale file handle"), "is not readable (Stale file handle): check the file"),
    ],
)
def test_raw_tree_that_cannot_be_listed(
    trees: Trees, monkeypatch: pytest.MonkeyPatch, error: OSError, text: str
) -> None:
    def fail(_: object) -> None:
        raise error

    monkeypatch.setattr(os, "scandir", fail)
    assert text in check_trees(trees)[0].text


@mode_bits_count
def test_permissions_of_a_user(trees: Trees) -> None:
    trees.raw.chmod(0)
    assert "is not readable" in check_trees(trees)[0].text
    trees.raw.chmod(0o700)
    trees.log.mkdir(mode=0o500)
    assert "is not writable" in check_trees(trees, write=["log"])[0].text


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (PermissionError(errno.EACCES, "Permission denied"), "is not writable: Permission denied: ask for"),
        (OSError(errno.EROFS, "Read-only file system"), "is on a read-only file system: mount it writable"),
        (OSError(errno.ENOSPC, "No space left"), "is on a full disk: free some space"),
        (OSError(errno.EDQUOT, "Quota exceeded"), "is over quota: free some space"),
    ],
)
def test_tree_that_cannot_be_written(trees: Trees, error: OSError, text: str) -> None:
    trees.tmp.mkdir()
    tried: list[Path] = []

    def probe(folder: Path) -> OSError:
        tried.append(folder)
        return error

    finding = check_trees(trees, write=["tmp"], probe=probe)[0]
    assert f"Data folder {trees.tmp} (--data) {text}" in finding.text and finding.severity == "E"
    assert tried == [trees.tmp]
    assert check_trees(trees, write=["tmp"], probe=probe, only_warn=True)[0].severity == "W"


def test_folder_not_there_yet_is_tried_in_its_nearest_parent(tmp_path: Path) -> None:
    trees = find_trees(None, {"DRS_DATA_RAW": str(tmp_path), "DRS_DATA_MSG": str(tmp_path / "a/b/log")})
    tried: list[Path] = []

    def probe(folder: Path) -> OSError | None:
        tried.append(folder)
        return PermissionError(errno.EACCES, "Permission denied")

    text = check_trees(trees, write=["log"], probe=probe)[0].text
    assert tried == [tmp_path]
    assert f"{tmp_path}/a/b/log (DRS_DATA_MSG) is not writable (tried in {tmp_path})" in text


def test_tree_at_or_below_a_regular_file(trees: Trees, tmp_path: Path) -> None:
    trees.log.write_text("a file where the log folder should be")
    below = find_trees(None, {"DRS_DATA_RAW": str(tmp_path / "raw"), "DRS_DATA_OUT": f"{trees.log}/out"})
    assert f"{trees.log} (--data) is not a folder: remove or rename" in (
        check_trees(trees, write=["log"])[0].text
    )
    assert f"{trees.log}/out (DRS_DATA_OUT) cannot be made: {trees.log} is not a folder" in (
        check_trees(below, write=["out"])[0].text
    )


def test_several_problems_are_found_together(tmp_path: Path) -> None:
    trees = find_trees(str(tmp_path / "nowhere"))
    denied = PermissionError(errno.EACCES, "Permission denied")
    assert len(check_trees(trees, write=OUTPUT_TREES, probe=lambda _: denied)) == 1 + len(OUTPUT_TREES)


def test_writing_is_tried_for_real(tmp_path: Path) -> None:
    assert try_write(tmp_path) is None
    assert everything_below(tmp_path) == []
    error = try_write(tmp_path / "absent")
    assert error is not None and error.errno == errno.ENOENT
