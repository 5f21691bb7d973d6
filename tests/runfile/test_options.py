"""The command line of apero_processing."""

import subprocess
import sys

import pytest

from apero_dask import __version__
from apero_dask.cli.options import build_parser, parse
from apero_dask.runfile.keys import KEYS


def given(*argv):
    line = parse(["SPIROU", "run.ini", *argv])
    return {override.key: override.text for override in line.overrides}


def refused(capsys, *argv):
    """Message of a command line that ends with status 2."""
    with pytest.raises(SystemExit) as caught:
        parse(list(argv))
    assert caught.value.code == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("apero_processing: ")
    return err


def test_instrument_and_run_file():
    line = parse(["spirou", "runs/mini run.ini"])
    assert (line.instrument, line.run_file, line.overrides) == ("spirou", "runs/mini run.ini", ())
    assert (line.data, line.plan, line.order, line.strict, line.resume) == (None, None, "graph", False, True)
    assert (line.package, line.single_allocation) == (False, False)


def test_options_may_stand_anywhere():
    first = parse(["--data", "d", "--cores", "2", "SPIROU", "run.ini"])
    last = parse(["SPIROU", "run.ini", "--cores=2", "--data=d"])
    middle = parse(["SPIROU", "--cores", "2", "run.ini", "--data", "d"])
    assert first == last == middle


@pytest.mark.parametrize("flag", [flag for key in KEYS for flag in key.options])
def test_every_option_takes_a_value(flag):
    key = next(key for key in KEYS if flag in key.options)
    assert given(flag, "True") == {key.name: "True"}
    assert given(f"{flag}=True") == {key.name: "True"}
    assert parse(["SPIROU", "r", flag, "True"]).overrides[0].option == flag


@pytest.mark.parametrize("word", ["True", "false", "1", "0", "None", "YES", "off"])
@pytest.mark.parametrize("flag", ["--test", "--trigger", "--stop_at_exception", "--update_objdb"])
def test_boolean_options_with_a_word(flag, word):
    assert list(given(flag, word).values()) == [word]


@pytest.mark.parametrize("flag", ["--test", "--trigger", "--stop_at_exception", "--update_objdb"])
def test_bare_boolean_option_means_true_and_swallows_nothing(flag):
    before = parse([flag, "SPIROU", "run.ini"])
    between = parse(["SPIROU", flag, "run.ini"])
    behind = parse(["SPIROU", "run.ini", flag])
    followed = parse(["SPIROU", "run.ini", flag, "--strict"])
    assert before == between == behind
    assert before.overrides[0].text == followed.overrides[0].text == "True"


def test_lists_are_one_word_and_lose_stray_quotes():
    assert given("--inculde_obs_dirs", "'2018-09-25, 2018-09-26'") == {
        "INCLUDE_OBS_DIRS": "2018-09-25, 2018-09-26"
    }
    assert given("--science_targets", '"Gl 699"') == {"SCIENCE_TARGETS": "Gl 699"}
    assert given("--science_targets", '"Gl 699", "TOI-442"') == {"SCIENCE_TARGETS": '"Gl 699", "TOI-442"'}


@pytest.mark.parametrize("place", ["tcp://127.0.0.1:8786", "tls://head:1", "runs/scheduler.json"])
def test_running_scheduler_behind_its_kind(place):
    wanted = {"DASK_CLUSTER": "existing", "DASK_ADDRESS": place}
    assert given("--cluster", "existing", place) == wanted
    assert given("--cluster=existing", "--address", place) == wanted
    line = parse(["--cluster", "existing", place, "SPIROU", "run.ini"])
    assert (line.instrument, line.run_file) == ("SPIROU", "run.ini")


@pytest.mark.parametrize("kind", ["existing", "local"])
def test_instrument_behind_a_kind_is_no_scheduler(kind):
    line = parse(["--cluster", kind, "SPIROU", "run.ini"])
    assert (line.instrument, line.run_file, [o.text for o in line.overrides]) == ("SPIROU", "run.ini", [kind])


def test_negative_number_is_a_value():
    assert given("--cores", "-2") == {"CORES": "-2"}


def test_switches():
    line = parse(
        ["S", "r", "--strict", "--no-resume", "--package", "--single-allocation", "--order", "STRICT"]
    )
    assert (line.strict, line.resume, line.package, line.single_allocation) == (True, False, True, True)
    assert line.order == "strict"
    assert parse(["S", "r", "--plan", "p.jsonl"]).plan == "p.jsonl"


def test_same_option_twice():
    assert given("--cores", "2", "--cores", "2") == {"CORES": "2"}


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        ((), "required: INSTRUMENT, RUN_FILE"),
        (("SPIROU",), "required: RUN_FILE"),
        (("SPIROU", "r", "--coresx", "2"), "unknown option --coresx; did you mean --cores?"),
        (("SPIROU", "r", "-obs_dir", "n"), "unknown option -obs_dir; did you mean --obs_dir?"),
        (("SPIROU", "r", "--no_resume"), "did you mean --no-resume?"),
        (("SPIROU", "r", "--zzz"), "unknown option --zzz\n"),
        (("SPIROU", "r", "--obs"), "unknown option --obs"),
        (("SPIROU", "r", "--"), "unknown option --"),
        (("SPIROU", "r", "--include_obs_dirs", "a", "b"), '"b" (behind --include_obs_dirs)'),
        (("SPIROU", "r", "--test", "maybe"), '"maybe" (behind --test)'),
        (("SPIROU", "r", "extra"), "found 3 words"),
        (("SPIROU", "r", "--obs_dir"), "--obs_dir needs a value"),
        (("SPIROU", "r", "--obs_dir", "--strict"), "--obs_dir needs a value"),
        (("SPIROU", "r", "--data", ""), "--data needs a value"),
        (("SPIROU", "r", "--plan="), "--plan needs a value"),
        (("SPIROU", "r", "--order", "random"), "expected graph or strict"),
        (("SPIROU", "r", "--strict=1"), "--strict"),
        (("SPIROU", "r", "--obs_dir", "a", "--nightname", "b"), '--obs_dir "a" and --nightname "b"'),
    ],
)
def test_refused_command_line(capsys, argv, expected):
    assert expected in refused(capsys, *argv)


@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help_names_every_option(capsys, flag):
    with pytest.raises(SystemExit) as caught:
        parse([flag])
    assert caught.value.code == 0
    text = capsys.readouterr().out
    flags = [f for action in build_parser()._actions for f in action.option_strings]
    assert flags and all(f in text for f in flags)


def test_version(capsys):
    with pytest.raises(SystemExit) as caught:
        parse(["--version"])
    assert caught.value.code == 0
    assert __version__ in capsys.readouterr().out


@pytest.mark.parametrize(
    "statement",
    [
        "from apero_dask.cli.options import build_parser; build_parser().format_help()",
        "from apero_dask.core.errors import Findings; from apero_dask.runfile.reader import read_text; "
        "read_text('a', b'id1 = cal_ccf n f', Findings())",
    ],
)
def test_nothing_heavy_is_imported(statement):
    check = (
        f"{statement}\nimport sys\n"
        "print(sorted({'numpy', 'numba', 'dask', 'distributed', 'astropy', 'scipy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
