"""Recipes as commands of the shell: what a line of a run file does, no more and no less."""

from __future__ import annotations

import configparser
import json
from pathlib import Path

import pytest

from apero_dask.cli.processing import main as processing
from apero_dask.cli.recipe import main, split_tokens
from apero_dask.cli.tools import main as tools
from apero_dask.runfile.commands import declared_recipes, find_recipe
from tests.report.reduction import Answer, captured

ROOT = Path(__file__).resolve().parents[2]
NIGHT = "2018-09-25"
CCF = "cal_ccf_spirou.py"


def scripts() -> dict[str, str]:
    """Installed commands of recipes and what they call."""
    config = configparser.ConfigParser(delimiters=("=",))
    config.read(ROOT / "setup.cfg", encoding="utf-8")
    rows = [row.split("=") for row in config["options.entry_points"]["console_scripts"].split("\n") if row]
    table = {name.strip(): target.strip() for name, target in rows}
    return {name: target for name, target in table.items() if name.endswith("_spirou.py")}


def call(program: str, *arguments: object) -> Answer:
    return captured(lambda words: main(words, program), [str(argument) for argument in arguments])


def test_every_recipe_is_installed_once() -> None:
    recipes = declared_recipes()
    found = {name: find_recipe(name, recipes) for name in scripts()}
    assert None not in found.values()
    assert sorted(recipe.name for recipe in found.values() if recipe) == sorted(recipes)
    assert set(scripts().values()) == {"apero_dask.cli.recipe:main"}
    # Names of the run-file document.
    assert {"cal_preprocess_spirou.py", "cal_flat_spirou.py", CCF, "obj_mk_tellu_db_spirou.py"} <= set(found)


@pytest.mark.parametrize("program", sorted(scripts()))
def test_help_names_every_option(program: str) -> None:
    recipe = find_recipe(program, declared_recipes())
    assert recipe is not None
    answer = call(program, "--help")
    assert answer.status == 0 and answer.out.startswith(f"usage: {program}")
    for option in recipe.options:
        (line, *_) = answer.lines(f"  --{option.name}")
        assert option.help, option.name
        assert option.help in answer.out, line
    assert "--data DIR" in answer.out
    for argument in recipe.arguments:
        # What the planner finds by itself is not offered.
        offered = answer.lines(f"--{argument.name} FILE") and recipe.option(argument.name) is None
        assert not (argument.found and offered)


def test_the_plan_is_that_of_a_line_in_a_run_file(archive: Path, tmp_path: Path) -> None:
    run_file = tmp_path / "one.ini"
    run_file.write_text(f"id1 = cal_preprocess_spirou.py {NIGHT} 232003[12]o.fits\n", encoding="utf-8")
    plans = [tmp_path / "a.jsonl", tmp_path / "b.jsonl"]
    data = ["--data", str(archive)]
    assert processing([*data, "SPIROU", str(run_file), "--plan", str(plans[0])]) == 0
    assert main([NIGHT, "232003[12]o.fits", *data, "--plan", str(plans[1])], "cal_preprocess_spirou.py") == 0
    records = [[json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] for path in plans]
    assert len(records[0]) == 2 and records[0] == records[1]
    assert not (archive / "tmp").exists()


def test_the_general_command_is_the_same(archive: Path) -> None:
    arguments = [NIGHT, "2320031o.fits", "--data", str(archive), "--test"]
    answer = captured(tools, ["recipe", "cal_preprocess_spirou.py", *arguments])
    assert answer == call("cal_preprocess_spirou.py", *arguments)
    assert answer.status == 0 and "1 runs planned, 1 to execute" in answer.out


@pytest.mark.parametrize(
    ("program", "arguments", "words"),
    [
        (CCF, ["2018-08-05", "x.fits", "--msk", "a"], "unknown option --msk; did you mean --mask"),
        (CCF, ["2018-08-05"], "needs one or more files after the night"),
        (CCF, [NIGHT, "2320031o_pp_e2dsff_tcorr_AB.fits", "--mask", "none.mas"], "apero-dask assets import"),
        (CCF, [NIGHT, "a.fits", "--width", "1", "--step", "0.5"], "expected a ratio of at least 10"),
        (CCF, [NIGHT, "a.fits", "--data"], "--data needs a value"),
        (CCF, [NIGHT, "a\nid2 = full_seq"], "goes over several lines"),
        (CCF, [NIGHT, "a.fits", "--instrument", "NIRPS"], "NIRPS"),
        ("cal_cff_spirou.py", [], "Did you mean cal_ccf"),
        ("cal_extract_spirou.py", [NIGHT, "9999999o_pp.fits"], "9999999o has no identified raw frame"),
    ],
)
def test_wrong_calls_say_what_is_wrong(archive: Path, program: str, arguments: list[str], words: str) -> None:
    data = [] if arguments[-1:] == ["--data"] else ["--data", archive]
    answer = call(program, *arguments, *data) if data else call(program, *arguments)
    assert answer.status == 2
    assert words in answer.err, answer.err
    assert "id00001" not in answer.err


def test_negative_numbers_are_values() -> None:
    own, line = split_tokens(["n", "f", "--rv", "-110.5", "--data", "/d", "--strict"])
    assert own == {"--data": "/d", "--strict": "True"}
    assert line == ["n", "f", "--rv", "-110.5"]
