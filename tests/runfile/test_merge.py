"""Precedence: command line before run file before default."""

import pytest

from apero_dask.runfile.keys import KEYS
from apero_dask.runfile.merge import CommandLine, Override
from tests.runfile.reading import one, only, settings

# option, text, field, value, run-file line that it replaces
OPTIONS = [
    ("--obs_dir", "n2", "night_name", "n2", "NIGHT_NAME = n1"),
    ("--exclude_obs_dirs", "n3", "exclude_obs_dirs", ("n3",), "EXCLUDE_OBS_DIRS = n1, n2"),
    ("--include_obs_dirs", "n3; n4", "include_obs_dirs", ("n3", "n4"), "INCLUDE_OBS_DIRS = n1"),
    ("--filename", "a.fits", "filename", ("a.fits",), "FILENAME = b.fits"),
    ("--science_targets", "Gl 699", "science_targets", ("Gl 699",), "SCIENCE_TARGETS = TOI-442"),
    ("--telluric_targets", "59Peg", "telluric_targets", ("59Peg",), "TELLURIC_TARGETS = gamSct"),
    ("--pi_names", "PI Two", "pi_names", ("PI Two",), "PI_NAMES = PI One"),
    ("--master_obs_dir", "n2", "master_obs_dir", "n2", "MASTER_OBS_DIR = n1"),
    ("--cores", "-1", "cores", -1, "CORES = 8"),
    ("--test", "1", "test_run", True, "TEST_RUN = False"),
    ("--trigger", "True", "trigger_run", True, "TRIGGER_RUN = False"),
    ("--stop_at_exception", "no", "stop_at_exception", False, "STOP_AT_EXCEPTION = True"),
    ("--update_objdb", "True", "update_obj_database", True, "UPDATE_OBJ_DATABASE = False"),
    ("--skip-check", "exists", "skip_check", "exists", "DASK_SKIP_CHECK = size"),
    ("--cluster", "slurm", "cluster", (("kind", "slurm"),), "DASK_CLUSTER = local"),
    ("--site", "narval", "cluster", (("site", "narval"),), "DASK_SITE = other"),
    ("--address", "tcp://h:1", "cluster", (("address", "tcp://h:1"),), "DASK_ADDRESS = tcp://i:2"),
    ("--workers", "12", "cluster", (("workers", "12"),), "DASK_WORKERS = 3"),
    ("--memory", "8GB", "cluster", (("memory", "8GB"),), "DASK_MEMORY = 4GB"),
    ("--walltime", "6:00:00", "cluster", (("walltime", "6:00:00"),), "DASK_WALLTIME = 1:00:00"),
    ("--queue", "long", "cluster", (("queue", "long"),), "DASK_QUEUE = short"),
    ("--account", "rrg-x", "cluster", (("account", "rrg-x"),), "DASK_ACCOUNT = def-y"),
    ("--interface", "ib0", "cluster", (("interface", "ib0"),), "DASK_INTERFACE = eth0"),
]
KEY_OF = {flag: key.name for key in KEYS for flag in key.options}


def cli(*pairs, **values):
    return CommandLine(overrides=tuple(Override(KEY_OF[flag], flag, text) for flag, text in pairs), **values)


@pytest.mark.parametrize(("flag", "text", "field", "value", "line"), OPTIONS, ids=[row[0] for row in OPTIONS])
def test_option_replaces_the_key(flag, text, field, value, line):
    before, _ = settings(line)
    assert getattr(before, field) != value
    result, findings = settings(line, cli((flag, text)))
    assert getattr(result, field) == value
    assert KEY_OF[flag] in before.lines and KEY_OF[flag] not in result.lines
    assert findings.codes() == []


def test_every_option_for_a_key_is_tested():
    assert {key.options[0] for key in KEYS if key.options} == {row[0] for row in OPTIONS}


@pytest.mark.parametrize("word", ["None", "none", "", "Null"])
@pytest.mark.parametrize(
    ("flag", "field", "line"), [(r[0], r[2], r[4]) for r in OPTIONS], ids=[r[0] for r in OPTIONS]
)
def test_none_on_the_command_line_keeps_the_key(flag, field, line, word):
    result, findings = settings(line, cli((flag, word)))
    assert result == settings(line)[0]
    assert findings.codes() == []


FILTERS = ["--obs_dir", "--exclude_obs_dirs", "--include_obs_dirs", "--pi_names"]


@pytest.mark.parametrize("flag", [*FILTERS, "--science_targets", "--telluric_targets", "--filename"])
def test_all_on_the_command_line_keeps_a_filter(flag):
    line = next(row[4] for row in OPTIONS if row[0] == flag)
    assert settings(line, cli((flag, "All")))[0] == settings(line)[0]


@pytest.mark.parametrize(
    ("alias", "canonical"),
    [
        ("--inculde_obs_dirs", "--include_obs_dirs"),
        ("--wnightnames", "--include_obs_dirs"),
        ("--bnightnames", "--exclude_obs_dirs"),
        ("--nightname", "--obs_dir"),
        ("--night_name", "--obs_dir"),
        ("--ref_obs_dir", "--master_obs_dir"),
    ],
)
def test_other_spellings_of_options_are_noted(alias, canonical):
    result, findings = settings("", cli((alias, "n1")))
    assert only(findings, "I-ALIAS").text == f"{alias} is read as {canonical}."
    assert result == settings("", cli((canonical, "n1")))[0]


@pytest.mark.parametrize(
    ("flag", "text", "expected"),
    [
        ("--cores", "many", "an integer"),
        ("--test", "maybe", "True or False"),
        ("--cluster", "sge", "local, slurm, pbs or existing"),
        ("--include_obs_dirs", "n1, All", "All or None alone"),
    ],
)
def test_option_of_wrong_type(flag, text, expected):
    _, findings = settings("", cli((flag, text)))
    assert (
        only(findings, "E-TYPE").text
        == f'{flag} = "{text}": expected ' + one(findings, "E-TYPE").text.split("expected ")[1]
    )
    assert expected in one(findings, "E-TYPE").text
    assert findings.exit_status() == 2


def test_repeated_item_of_an_option():
    _, findings = settings("", cli(("--include_obs_dirs", "n1, n1")))
    assert only(findings, "W-LISTDUP").text == '--include_obs_dirs: "n1" is listed twice.'


def test_exclude_list_is_replaced_not_extended():
    result, _ = settings("EXCLUDE_OBS_DIRS = a, b", cli(("--exclude_obs_dirs", "c")))
    assert result.exclude_obs_dirs == ("c",)


def test_package_switches_packaging_on_even_against_the_file():
    result, _ = settings("RUN_SCIPOST = False", cli(package=True))
    assert result.runs("SCIPOST") and result.package
    assert not settings("RUN_SCIPOST = False")[0].runs("SCIPOST")


def test_settings_of_the_command_line_alone():
    result, _ = settings("", cli(order="strict", strict=True, resume=False, single_allocation=True))
    assert (result.order, result.strict, result.resume) == ("strict", True, False)
    assert result.cluster == (("single_allocation", "True"),)
    defaults = settings("")[0]
    assert (defaults.order, defaults.strict, defaults.resume, defaults.cluster) == ("graph", False, True, ())


def test_skip_means_skip_when_true():
    result, _ = settings("SKIP_PP = True\nSKIP_LOC = False")
    assert result.skips("PP") and not result.skips("LOC")
