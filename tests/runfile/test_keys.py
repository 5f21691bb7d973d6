"""Every key of the three vocabularies, with type, default, alias and duplicates."""

from dataclasses import fields

import pytest

from apero_dask.core.settings import Settings
from apero_dask.runfile.keys import KEYS
from tests.runfile.reading import one, only, settings

# (key, aliases, text, field, value, default): restated from the description of run files, not from keys.py.
TABLE = [
    ("RUN_NAME", (), "Mini run", "run_name", "Mini run", "Run Unknown"),
    ("NIGHT_NAME", ("NIGHTNAME", "OBS_DIR", "RUN_OBS_DIR"), "n1", "night_name", "n1", None),
    ("EXCLUDE_OBS_DIRS", ("BNIGHTNAMES", "EXCLUDE_LIST"), "n1,n2", "exclude_obs_dirs", ("n1", "n2"), None),
    (
        "INCLUDE_OBS_DIRS",
        ("WNIGHTNAMES", "INCLUDE_LIST", "INCULDE_OBS_DIRS"),
        "n1;n2",
        "include_obs_dirs",
        ("n1", "n2"),
        None,
    ),
    ("MASTER_OBS_DIR", ("MASTER_NIGHT", "REF_OBS_DIR", "REF_NIGHT"), "n1", "master_obs_dir", "n1", None),
    ("PI_NAMES", (), "PI One", "pi_names", ("PI One",), None),
    ("CORES", (), "-2", "cores", -2, 1),
    ("STOP_AT_EXCEPTION", (), "yes", "stop_at_exception", True, False),
    ("TEST_RUN", (), "1", "test_run", True, False),
    ("TRIGGER_RUN", (), "on", "trigger_run", True, False),
    ("USE_ENGINEERING", ("ENGINEERING",), "t", "use_engineering", True, False),
    ("USE_REJECTLIST", ("USE_ODO_REJECTLIST",), "off", "use_rejectlist", False, True),
    ("RECAL_TEMPLATES", (), "False", "recal_templates", False, None),
    ("UPDATE_OBJ_DATABASE", (), "True", "update_obj_database", True, False),
    ("UPDATE_REJECT_DATABASE", (), "0", "update_reject_database", False, True),
    ("UPDATE_FILEINDEX_DATABASE", (), "no", "update_fileindex_database", False, True),
    ("UPDATE_IDATABASE_NAMES", (), "raw, red", "update_idatabase_names", ("raw", "red"), None),
    ("TELLURIC_TARGETS", (), "59 Peg", "telluric_targets", ("59 Peg",), None),
    ("SCIENCE_TARGETS", (), "Gl 699, TOI-442", "science_targets", ("Gl 699", "TOI-442"), None),
    ("FILENAME", (), "2320031o.fits", "filename", ("2320031o.fits",), None),
    ("MAX_CALIB_DTIME", (), "3.5", "max_calib_dtime", 3.5, 7.0),
    ("DO_CALIB_DTIME_CHECK", (), "f", "do_calib_dtime_check", False, True),
    ("CALIB_DB_MATCH", (), "newer", "calib_db_match", "newer", "closest"),
    ("TELLU_DB_MATCH", (), "older", "tellu_db_match", "older", "closest"),
    ("CALIB_BIN_IN_TIME", (), "False", "calib_bin_in_time", False, True),
    ("CALIB_DB_DAYFRAC", (), "0.5", "calib_db_dayfrac", 0.5, 0.0),
    ("GROUP_FILE_LIMIT", (), "30", "group_file_limit", 30, None),
    ("DARK_MASTER_MAX_FILES", ("DARK_REF_MAX_FILES",), "50", "dark_master_max_files", 50, 100),
    ("SHAPE_MASTER_MAX_FILES", ("SHAPE_REF_MAX_FILES",), "60", "shape_master_max_files", 60, 100),
    ("DARK_MASTER_MIN_EXPTIME", ("DARK_REF_MIN_EXPTIME",), "300", "dark_master_min_exptime", 300.0, 10.0),
    ("DARK_MASTER_MATCH_TIME", ("DARK_REF_MATCH_TIME",), "4", "dark_master_match_time", 4.0, 2.0),
    ("FP_MASTER_MATCH_TIME", ("FP_REF_MATCH_TIME",), "1.5", "fp_master_match_time", 1.5, 2.0),
    ("CALIB_GROUPING", (), "exposure_sequence", "calib_grouping", "exposure_sequence", "night"),
    ("RUN_DEFAULT", (), "False", "run_default", False, True),
    ("DASK_SKIP_CHECK", (), "size", "skip_check", "size", "content"),
    ("DASK_STALE", (), "keep", "stale", "keep", None),
    ("DASK_KEEP_PASS1", (), "False", "keep_pass1", False, True),
]
CLUSTER = {
    "DASK_CLUSTER": ("kind", "slurm"),
    "DASK_SITE": ("site", "narval"),
    "DASK_ADDRESS": ("address", "tcp://127.0.0.1:8786"),
    "DASK_WORKERS": ("workers", "12"),
    "DASK_CORES": ("cores", "2"),
    "DASK_MEMORY": ("memory", "8GB"),
    "DASK_WALLTIME": ("walltime", "12:00:00"),
    "DASK_QUEUE": ("queue", "short"),
    "DASK_ACCOUNT": ("account", "rrg-x"),
    "DASK_INTERFACE": ("interface", "ib0"),
    "DASK_SCRATCH": ("scratch", "/scratch/x"),
    "DASK_PROLOGUE": ("prologue", "module load python"),
    "DASK_RETRIES": ("retries", "3"),
}
SPELLINGS = [(spelling, row) for row in TABLE for spelling in (row[0], *row[1])]


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row[0])
def test_default_of_a_missing_key(row):
    assert getattr(settings("")[0], row[3]) == row[5]


@pytest.mark.parametrize("letters", [str.upper, str.lower, str.title])
@pytest.mark.parametrize(
    ("spelling", "row"), SPELLINGS, ids=lambda value: value if isinstance(value, str) else ""
)
def test_every_spelling_of_a_key_is_read(spelling, row, letters):
    canonical, _, text, field, value, _ = row
    result, findings = settings(f"# c\n{letters(spelling)} = {text}")
    assert getattr(result, field) == value
    assert type(getattr(result, field)) is type(value)
    assert result.lines[canonical] == 2
    if spelling == canonical:
        assert findings.codes() == []
    else:
        assert only(findings, "I-ALIAS").text == f"{spelling} is read as {canonical}."


@pytest.mark.parametrize("key", CLUSTER)
def test_cluster_settings_are_collected(key):
    name, value = CLUSTER[key]
    result, findings = settings(f"{key} = {value}")
    assert result.cluster == ((name, value),)
    assert findings.codes() == []


def test_table_of_keys_is_complete_and_names_existing_fields():
    reported_only = {"SEND_EMAIL", "EMAIL_ADDRESS"} | {k.name for k in KEYS if k.name.startswith("RESET_")}
    assert {key.name for key in KEYS} == {row[0] for row in TABLE} | set(CLUSTER) | reported_only
    known = {field.name for field in fields(Settings)}
    assert all(key.field in known for key in KEYS if key.field)


def test_alias_is_reported_once():
    _, findings = settings("MASTER_NIGHT = n1\nMASTER_NIGHT = n1")
    assert only(findings, "I-ALIAS").line == 1


@pytest.mark.parametrize(
    ("key", "suggestion"),
    [
        ("CORE", "CORES"),
        ("MASTER_OBS_DIRS", "MASTER_OBS_DIR"),
        ("DASK_WORKRES", "DASK_WORKERS"),
        ("RUNN_PP", "RUN_PP"),
        ("ID_NAME", None),
        ("idx", None),
        ("id", None),
        ("DASK_FOO_BAR", None),
        ("QQ", None),
    ],
)
def test_unknown_key_is_ignored_with_a_suggestion(key, suggestion):
    result, findings = settings(f"{key} = 1")
    found = only(findings, "W-UNKNOWN-KEY")
    expected = f"Unknown key {key}; ignored." + (f" Did you mean {suggestion}?" if suggestion else "")
    assert found.text == expected
    assert len(result.requests) == 1


def test_same_value_twice_is_silent():
    result, findings = settings("TEST_RUN = True\ntest_run = 1\nCORES = 8\nCORES = 08")
    assert result.test_run and result.cores == 8
    assert findings.codes() == []


def test_last_of_two_different_values_wins_with_a_warning():
    result, findings = settings("CORES = 8\n\nCORES = 4")
    assert result.cores == 4 and result.lines["CORES"] == 3
    found = only(findings, "W-DUPKEY")
    assert found.text == 'CORES is set twice (lines 1 and 3); using "4" from line 3.'
    assert found.line == 3


def test_key_and_alias_with_different_values_conflict():
    _, findings = settings("MASTER_OBS_DIR = a\nMASTER_NIGHT = b")
    found = one(findings, "E-ALIAS-CONFLICT")
    assert found.text == "MASTER_OBS_DIR (line 1) and its alias MASTER_NIGHT (line 2) have different values."


def test_canonical_key_is_named_first_in_a_conflict():
    _, findings = settings("RUN_OBS_DIR = b\nNIGHT_NAME = a")
    text = one(findings, "E-ALIAS-CONFLICT").text
    assert text == "NIGHT_NAME (line 2) and its alias RUN_OBS_DIR (line 1) have different values."


def test_two_aliases_with_different_values_conflict():
    _, findings = settings("NIGHTNAME = a\nOBS_DIR = b")
    assert one(findings, "E-ALIAS-CONFLICT").line == 2


def test_key_and_alias_with_one_value_agree():
    result, findings = settings("MASTER_OBS_DIR = a\nREF_OBS_DIR = 'a'")
    assert result.master_obs_dir == "a"
    assert findings.errors(strict=True) == []


def test_all_faults_are_reported_together():
    _, findings = settings("CORES = x\nTEST_RUN = y\nFOO_BAR = 1\nnonsense")
    assert findings.codes() == ["E-TYPE", "E-TYPE", "W-UNKNOWN-KEY", "E-SYNTAX"]
    assert [f.line for f in findings] == [1, 2, 3, 4]


def test_mail_is_accepted_without_effect():
    _, findings = settings("SEND_EMAIL = True\nEMAIL_ADDRESS = someone@example.org")
    assert only(findings, "W-NOTIMPL").text == "SEND_EMAIL is accepted but has no effect."
    assert settings("SEND_EMAIL = False")[1].codes() == []


RESET = ["TMP", "REDUCED", "CALIB", "TELLU", "LOG", "PLOT", "RUN", "LOGFITS"]


def test_reset_keys_do_nothing_and_say_so_when_allowed():
    text = "\n".join(f"RESET_{what} = True" for what in RESET)
    assert settings(text)[1].codes() == []
    result, findings = settings(f"RESET_ALLOWED = True\n{text}")
    assert only(findings, "W-RESET-IGNORED").line == 1
    assert result == settings(f"RESET_ALLOWED = True\n{text}")[0]


def test_strict_turns_warnings_into_errors():
    _, findings = settings("CORE = 8")
    assert findings.exit_status() == 0
    assert findings.exit_status(strict=True) == 2
