"""The example run files that are shipped."""

import re
from pathlib import Path

import pytest

from apero_dask.runfile.merge import CommandLine, merge
from apero_dask.runfile.sequence_names import SEQUENCES
from tests.runfile.reading import read

FOLDER = Path(__file__).parents[2] / "runfiles"
EXAMPLES = sorted(FOLDER.glob("*.ini"))


def example(name):
    return read((FOLDER / name).read_bytes())


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_example_is_read_without_a_word(path):
    runfile, findings = read(path.read_bytes())
    settings = merge(runfile, CommandLine(), findings)
    assert findings.codes() == []
    assert settings.requests and settings.run_name != "Run Unknown"


@pytest.mark.parametrize("name", [name for name in SEQUENCES if name != "blank_seq"])
def test_every_sequence_has_an_example(name):
    runfile, _ = example(f"{name}.ini")
    assert [request.sequence for request in runfile.requests] == [name]


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_commented_keys_of_an_example_are_valid_too(path):
    found = re.findall(r"^# ([A-Z_]+|id[0-9]+) +?= (.*)$", path.read_text(), re.MULTILINE)
    text = "\n".join(f"{key} = {value}" for key, value in found)
    _, findings = read(text + "\nid99 = blank_seq")
    assert findings.errors(strict=True) == []


def test_four_velocity_lines():
    runfile, _ = example("ccf_lines.ini")
    assert [request.number for request in runfile.requests] == [1, 2, 4, 5]
    for request, odometer in zip(runfile.requests, range(2295651, 2295655), strict=True):
        command = request.command
        assert (command.recipe, command.obs_dir) == ("cal_ccf", "2018-08-05")
        assert command.files == (("files", (f"{odometer}o_pp_e2dsff_tcorr_AB.fits",)),)
        assert dict(command.options) == {
            "mask": "masque_Oct19_Vrp9_Berv33.mas",
            "rv": 11.9,
            "width": 20.0,
            "step": 0.05,
        }


def test_mini_run():
    runfile, _ = example("mini_run.ini")
    assert [r.sequence for r in runfile.requests] == [
        "pp_seq",
        "master_seq",
        "calib_seq",
        "tellu_seq",
        "science_seq",
    ]
    assert runfile.values == {
        "RUN_NAME": "Mini run",
        "MASTER_OBS_DIR": "2018-09-25",
        "SCIENCE_TARGETS": ("Gl699", "TOI-442"),
        "CORES": 8,
    }


def test_demo_belongs_to_the_demo_campaign():
    from apero_dask.simulator.programmes import PROGRAMMES

    runfile, _ = example("demo.ini")
    assert runfile.values["MASTER_OBS_DIR"] == PROGRAMMES["demo"].first_night
