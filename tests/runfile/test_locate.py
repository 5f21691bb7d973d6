"""Finding a run file, and files that are none."""

import pytest

from apero_dask.core.errors import Findings, UserError
from apero_dask.runfile import reader
from apero_dask.runfile.reader import locate, read_file
from tests.runfile.reading import only


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A working folder and a runs folder beside it."""
    here = tmp_path / "here"
    runs = tmp_path / "runs"
    (here / "sub").mkdir(parents=True)
    runs.mkdir()
    monkeypatch.chdir(here)
    return here, runs


def not_found(name, runs):
    findings = Findings()
    with pytest.raises(UserError) as caught:
        locate(name, runs, findings)
    assert caught.value.status == 2
    assert caught.value.findings == findings.items
    return findings.items[0]


def test_path_as_given_wins(place):
    here, runs = place
    (here / "a.ini").write_text("id1 = pp_seq")
    (runs / "a.ini").write_text("id1 = pp_seq")
    assert locate("a.ini", runs, Findings()).resolve() == here / "a.ini"
    (here / "a.ini").unlink()
    assert locate("a.ini", runs, Findings()) == runs / "a.ini"


def test_absolute_and_relative_paths(place):
    here, runs = place
    (here / "sub" / "a.ini").write_text("")
    assert locate(str(here / "sub" / "a.ini"), runs, Findings()) == here / "sub" / "a.ini"
    assert locate("sub/a.ini", runs, Findings()).resolve() == here / "sub" / "a.ini"


def test_missing_file_names_both_folders(place):
    here, runs = place
    (runs / "a.ini").write_text("")
    found = not_found("a", runs)
    assert found.code == "E-NO-RUNFILE"
    assert found.text == f'Run file "a" not found (looked in {here} and {runs}).'


@pytest.mark.parametrize("name", ["", "x" * 5000, "a\x00b", "nowhere/a.ini"])
def test_impossible_names(place, name):
    assert not_found(name, place[1]).code in ("E-NO-RUNFILE", "E-RUNFILE")


def test_folder_is_no_run_file(place):
    runs = place[1]
    found = not_found("sub", runs)
    assert found.code == "E-RUNFILE" and "is a folder" in found.text
    (runs / "sub").write_text("id1 = pp_seq")
    assert locate("sub", runs, Findings()) == runs / "sub"


def test_file_is_read_and_left_as_it_is(place):
    path = place[0] / "a.ini"
    data = b"\xef\xbb\xbfid1 = cal_ccf_spirou.py n f --step=0.05\r\nCORES = 3"
    path.write_bytes(data)
    findings = Findings()
    runfile = read_file(path, findings)
    assert (runfile.name, runfile.values["CORES"]) == ("a.ini", 3)
    assert runfile.requests[0].command.options == (("step", 0.05),)
    assert path.read_bytes() == data and findings.codes() == []


def test_unreadable_file(place):
    path = place[0] / "a.ini"
    path.symlink_to(path)
    findings = Findings()
    read_file(path, findings)
    assert "cannot be read (Too many levels of symbolic links)" in only(findings, "E-RUNFILE").text


def test_file_that_vanished(place):
    findings = Findings()
    read_file(place[0] / "gone.ini", findings)
    assert "cannot be read (No such file or directory)" in only(findings, "E-RUNFILE").text


def test_far_too_large_file(place, monkeypatch):
    monkeypatch.setattr(reader, "LARGEST", 1024 * 1024)
    path = place[0] / "a.ini"
    path.write_bytes(b"# x\n" * 300_000)
    findings = Findings()
    read_file(path, findings)
    assert "larger than 1 MB" in only(findings, "E-RUNFILE").text


def test_empty_file(place):
    path = place[0] / "a.ini"
    path.touch()
    findings = Findings()
    read_file(path, findings)
    assert only(findings, "E-NO-ID").file == "a.ini"
