"""Types of values: which words are accepted and what is said about the others."""

import math

import pytest
from hypothesis import given
from hypothesis import settings as drawn
from hypothesis import strategies as st

from apero_dask.runfile.keys import BY_NAME
from apero_dask.runfile.suggest import closest, edit_distance
from apero_dask.runfile.values import WrongType, parse, parse_bool, parse_float, parse_int, split_list
from tests.runfile.reading import one, only, settings

TRUE_WORDS = ["True", "1", "yes", "on", "t", "TRUE", "Yes", "oN", "T"]
FALSE_WORDS = ["False", "0", "no", "off", "f", "FALSE", "No", "oFf", "F"]


@pytest.mark.parametrize(
    ("word", "truth"), [*((w, True) for w in TRUE_WORDS), *((w, False) for w in FALSE_WORDS)]
)
def test_boolean_words(word, truth):
    assert parse_bool(word) is truth


@pytest.mark.parametrize("word", ["", "None", "2", "-1", "ja", "True False", "1.0", "tru"])
def test_other_words_are_no_booleans(word):
    _, findings = settings(f"TEST_RUN = {word}")
    found = only(findings, "E-TYPE")
    assert found.line == 1 and "expected True or False" in found.text and f'"{word}"' in found.text


@pytest.mark.parametrize(("text", "number"), [("8", 8), ("-2", -2), ("+3", 3), ("007", 7)])
def test_integers(text, number):
    assert parse_int(text) == number


@pytest.mark.parametrize("text", ["", "8.0", "1e3", "0x10", "1_000", "eight", "\u0663", "9" * 5000, "None"])
def test_other_texts_are_no_integers(text):
    _, findings = settings(f"CORES = {text}")
    assert "expected an integer" in only(findings, "E-TYPE").text


@pytest.mark.parametrize("text", ["7", "7.", ".5", "1e-3", "-2.5E+2"])
def test_floats_equal_python(text):
    assert parse_float(text) == float(text)


@pytest.mark.parametrize("text", ["nan", "inf", "-inf", "1e999", "1,5", "1 000", "1_0.0", "", "3 d"])
def test_other_texts_are_no_floats(text):
    with pytest.raises(WrongType):
        parse_float(text)


@pytest.mark.parametrize(
    ("key", "text", "expected"),
    [
        ("MAX_CALIB_DTIME", "0", "above 0"),
        ("CALIB_DB_DAYFRAC", "1.01", "from 0 to 1"),
        ("CALIB_DB_DAYFRAC", "-0.1", "from 0 to 1"),
        ("GROUP_FILE_LIMIT", "0", "at least 1"),
        ("DARK_MASTER_MAX_FILES", "0", "at least 1"),
        ("DARK_MASTER_MIN_EXPTIME", "-1", "at least 0"),
        ("FP_MASTER_MATCH_TIME", "0", "above 0"),
        ("CALIB_DB_MATCH", "nearest", "closest, older or newer"),
        ("CALIB_GROUPING", "week", "night or exposure_sequence"),
        ("DASK_SKIP_CHECK", "hash", "content, size or exists"),
        ("DASK_STALE", "true", "rerun or keep"),
        ("DASK_CLUSTER", "sge", "local, slurm, pbs or existing"),
        ("DASK_MEMORY", "much", "8GB"),
        ("DASK_WALLTIME", "1 day", "12:00:00"),
        ("DASK_WORKERS", "0", "at least 1"),
        ("UPDATE_IDATABASE_NAMES", "raw, foo", "raw, tmp, red or out"),
        ("MASTER_OBS_DIR", "All", "one night"),
        ("SCIENCE_TARGETS", "Gl699, All", "All or None alone"),
        ("SCIENCE_TARGETS", "None, Gl699", "All or None alone"),
    ],
)
def test_value_outside_its_limits_is_a_type_error(key, text, expected):
    result, findings = settings(f"{key} = {text}")
    found = only(findings, "E-TYPE")
    assert found.text.startswith(f'{key} = "{text}": expected ')
    assert expected in found.text
    assert key not in result.lines


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("CALIB_DB_DAYFRAC", "0", 0.0),
        ("CALIB_DB_DAYFRAC", "1", 1.0),
        ("CALIB_DB_MATCH", "Older", "older"),
        ("DASK_MEMORY", "7.5 GiB", "7.5 GiB"),
        ("DASK_WALLTIME", "2-00:00:00", "2-00:00:00"),
        ("UPDATE_IDATABASE_NAMES", "RAW; tmp", ("raw", "tmp")),
    ],
)
def test_value_inside_its_limits(key, text, value):
    assert parse(BY_NAME[key], text).value == value


@pytest.mark.parametrize(
    ("text", "items"),
    [
        ("Gl 699", ["Gl 699"]),
        ("a,b", ["a", "b"]),
        (" a ,, b ,", ["a", "b"]),
        ("a, b; c", ["a, b", "c"]),
        ("'a', \"b c\"", ["a", "b c"]),
        ("'a; b', c", ["a; b", "c"]),
        ("", []),
        (";;", []),
        ("Barnard's star, Teegarden's star", ["Barnard's star", "Teegarden's star"]),
    ],
)
def test_list_items(text, items):
    assert split_list(text) == items


@drawn(deadline=None)
@given(st.lists(st.text(st.characters(exclude_characters="\"'"), max_size=6), max_size=6).map(",".join))
def test_list_without_quotes_equals_plain_splitting(text):
    separator = ";" if ";" in text else ","
    assert split_list(text) == [part.strip() for part in text.split(separator) if part.strip()]


def test_repeated_item_is_dropped_with_a_warning():
    result, findings = settings("SCIENCE_TARGETS = Gl699, TOI-442, Gl699, Gl699")
    assert result.science_targets == ("Gl699", "TOI-442")
    assert only(findings, "W-LISTDUP").text == 'SCIENCE_TARGETS: "Gl699" is listed twice.'


FILTERS = {
    "RUN_OBS_DIR": "night_name",
    "EXCLUDE_OBS_DIRS": "exclude_obs_dirs",
    "INCLUDE_OBS_DIRS": "include_obs_dirs",
    "PI_NAMES": "pi_names",
    "TELLURIC_TARGETS": "telluric_targets",
    "SCIENCE_TARGETS": "science_targets",
}


@pytest.mark.parametrize("word", ["None", "null", "All", "ALL", "", "''", '"All"'])
@pytest.mark.parametrize("key", FILTERS)
def test_filter_words_mean_no_restriction(key, word):
    result, findings = settings(f"{key} = {word}")
    assert getattr(result, FILTERS[key]) is None
    assert not findings.errors(strict=True)


def test_exclude_all_is_noted_once():
    _, findings = settings("EXCLUDE_OBS_DIRS = All")
    assert only(findings, "I-EXCLUDE-ALL").text == "EXCLUDE_OBS_DIRS = All means no restriction."
    _, findings = settings("EXCLUDE_OBS_DIRS = None")
    assert findings.codes() == []


def test_missing_closing_quote_is_a_type_error():
    _, findings = settings('RUN_NAME = "Mini run')
    assert "expected a closing quote" in one(findings, "E-TYPE").text


def test_null_name_keeps_the_default():
    assert settings("RUN_NAME = None")[0].run_name == "Run Unknown"
    assert settings("RUN_NAME = ' Mini  run '")[0].run_name == "Mini  run"


def naive_distance(a: str, b: str) -> int:
    """Levenshtein distance straight from its definition."""
    if not a or not b:
        return len(a) + len(b)
    return min(
        naive_distance(a[1:], b) + 1,
        naive_distance(a, b[1:]) + 1,
        naive_distance(a[1:], b[1:]) + (a[0] != b[0]),
    )


@drawn(deadline=None)
@given(st.text("ABC", max_size=5), st.text("ABC", max_size=5))
def test_edit_distance_equals_its_definition(a, b):
    assert edit_distance(a, b) == naive_distance(a, b)


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("CORE", "CORES"),
        ("CROES", "CORES"),
        ("MASTER_NIGHTS_LIST", "MASTER_OBS_DIR"),
        ("XYZ", None),
        ("", None),
        ("C" * 10_000, None),
    ],
)
def test_suggestion_needs_two_edits_or_six_shared_letters(name, found):
    assert closest(name, ["CORES", "MASTER_OBS_DIR", "PP"]) == found


def test_numbers_of_values_are_finite():
    assert math.isfinite(parse_float("1e308"))
