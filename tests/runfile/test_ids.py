"""Ids: order, uniqueness, sequences of all versions, unknown names."""

import pytest

from apero_dask.runfile.sequence_names import SEQUENCES
from tests.runfile.reading import one, only, read

SUPPORTED = {
    "full_seq": ["full_run"],
    "limited_seq": ["limited_run"],
    "pp_seq": ["pp_run"],
    "pp_seq_opt": ["pp_runo", "pp_run_opt"],
    "master_seq": ["master_run", "ref_seq"],
    "calib_seq": ["calib_run"],
    "tellu_seq": ["tellu_run", "telluric_run"],
    "science_seq": ["science_run"],
    "eng_seq": [],
    "blank_seq": [],
}


@pytest.mark.parametrize("name", SUPPORTED)
def test_sequence_names(name):
    runfile, findings = read(f"id00001 = {name.upper()}")
    assert [(r.number, r.sequence) for r in runfile.requests] == [(1, name)]
    assert findings.codes() == []


@pytest.mark.parametrize(("alias", "name"), [(a, n) for n, aliases in SUPPORTED.items() for a in aliases])
def test_other_sequence_names(alias, name):
    runfile, findings = read(f"ID1 = {alias}")
    assert runfile.requests[0].sequence == name
    assert only(findings, "I-ALIAS").text == f"{alias} is read as {name}."


def test_table_of_sequences_is_complete():
    assert {name: list(aliases) for name, aliases in SEQUENCES.items()} == SUPPORTED


@pytest.mark.parametrize("name", ["quick_seq", "lbl_seq", "hc_run", "dark_fp_run", "LBL_SEQ"])
def test_sequences_of_other_versions_are_refused(name):
    _, findings = read(f"id3 = {name}")
    assert name.lower() in only(findings, "E-SEQ-UNSUPPORTED").text


@pytest.mark.parametrize(
    ("name", "suggestion"), [("calib_sec", "calib_seq"), ("science", "science_seq"), ("everything", None)]
)
def test_unknown_sequence(name, suggestion):
    runfile, findings = read(f"id2 = {name}")
    text = only(findings, "E-SEQ-UNKNOWN").text
    assert text.startswith(f'id00002: "{name}" is not a sequence. Known sequences: full_seq, limited_seq, ')
    assert text.endswith(f"Did you mean {suggestion}?") if suggestion else "Did you mean" not in text
    assert runfile.requests == ()


def test_order_is_that_of_the_numbers():
    runfile, _ = read("id10 = tellu_seq\nid2 = calib_seq\nid00001 = master_seq\nid0 = pp_seq")
    assert [r.label for r in runfile.requests] == ["00000", "00001", "00002", "00010"]
    assert [r.line for r in runfile.requests] == [4, 3, 2, 1]


@pytest.mark.parametrize("second", ["calib_seq", "pp_seq"])
def test_number_used_twice_is_an_error(second):
    _, findings = read(f"id1 = pp_seq\nid2 = tellu_seq\nID00001 = {second}")
    found = one(findings, "E-ID-DUP")
    assert found.text == "id00001 is defined twice (lines 1 and 3); id numbers must be unique."
    assert found.line == 3


@pytest.mark.parametrize("value", ["", "None", "# pp_seq", "''"])
def test_empty_id(value):
    _, findings = read(f"id7 = {value}")
    assert only(findings, "E-ID-EMPTY").text == "id00007 has no sequence or command."


@pytest.mark.parametrize("text", ["", "# id1 = pp_seq", "CORES = 2", "RUN_PP = True\n[ids]"])
def test_file_without_id(text):
    _, findings = read(text)
    assert one(findings, "E-NO-ID").file == "test.ini"
    assert findings.exit_status() == 2


def test_repeated_sequence_is_noted():
    runfile, findings = read("id1 = calib_seq\nid4 = pp_seq\nid9 = calib_run")
    text = one(findings, "W-SEQ-REPEAT").text
    assert text == "id00009 repeats calib_seq of id00001; identical runs are planned once."
    assert len(runfile.requests) == 3


def test_sequence_with_further_words():
    _, findings = read("id1 = calib_seq --obs_dir 2018-09-25")
    text = only(findings, "E-ARG").text
    assert text.startswith("id00001: calib_seq: ") and "--obs_dir 2018-09-25" in text


@pytest.mark.parametrize("digits", ["9" * 19, "1" * 6000])
def test_absurd_number(digits):
    _, findings = read(f"id{digits} = pp_seq")
    assert "18 digits" in only(findings, "E-TYPE").text


def test_leading_zeros_without_end():
    runfile, findings = read(f"id{'0' * 6000}5 = pp_seq")
    assert runfile.requests[0].number == 5 and findings.codes() == []


def test_file_is_never_interpreted_by_line_order():
    one_way, _ = read("id1 = pp_seq\nid2 = calib_seq")
    other_way, _ = read("id2 = calib_seq\nid1 = pp_seq")
    assert [r.sequence for r in one_way.requests] == [r.sequence for r in other_way.requests]
