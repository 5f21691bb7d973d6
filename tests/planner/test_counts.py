"""Numbers of runs of the three-night archive, for every step, sequence and variant of the documents."""

from __future__ import annotations

import pytest

from apero_dask.core.plan import Task
from tests.planner.archive import worked_index
from tests.planner.markers import execute
from tests.planner.planning import NIGHTS, codes, counts, plan, runs, texts

PP = {"PP": 146}
MASTER = {
    "DARKM": 1,
    "BADM": 1,
    "LOCM": 2,
    "SHAPEM": 1,
    "SHAPELM": 1,
    "FLATM": 1,
    "LEAKM": 1,
    "THIM": 1,
    "THTM": 1,
    "WAVEM": 1,
}
CALIB = {"BAD": 3, "LOC": 6, "SHAPE": 3, "FF": 3, "THERMAL": 5, "WAVE": 3}
TELLU = {"EXTTELL": 5, "LEAKTELL": 3, "MKTELLU1": 5, "MKTELLU2": 5, "MKTELLU3": 3, "MKTELLU4": 5}
SCIENCE = {"EXTOBJ": 14, "LEAKOBJ": 12, "FTELLU1": 14, "FTELLU2": 2, "FTELLU3": 14, "CCF": 14}
DATABASE = {
    "MKTELLU1": 5,
    "MKTELLU2": 5,
    "MKTELLU3": 3,
    "MKTELLU4": 5,
    "FTELLU1": 14,
    "FTELLU2": 2,
    "FTELLU3": 14,
}

SEQUENCES = {
    "pp_seq": (PP, 146),
    "pp_seq_opt": ({"PP_CAL": 126, "PP_SCI": 14, "PP_TEL": 5}, 145),
    "master_seq": (MASTER, 11),
    "calib_seq": (CALIB, 23),
    "tellu_seq": (TELLU, 26),
    "science_seq": (SCIENCE, 70),
    "eng_seq": ({"EXTHC1": 10, "EXTFPFP": 25, "EXTDFP": 6}, 41),
    "limited_seq": (PP | MASTER | CALIB | TELLU | SCIENCE, 276),
    "full_seq": (PP | MASTER | CALIB | {"EXTALL": 19, "LEAKALL": 15} | DATABASE | {"CCF": 19}, 281),
    "blank_seq": ({}, 0),
}


def test_archive_has_the_frames_of_the_documents() -> None:
    index = worked_index()
    by_night = {night: sum(f.obs_dir == night for f in index) for night in NIGHTS}
    assert by_night == {"2018-09-25": 57, "2018-09-26": 35, "2018-09-27": 54}
    by_type: dict[str, int] = {}
    for frame in index:
        by_type[frame.dprtype] = by_type.get(frame.dprtype, 0) + 1
    assert by_type == {
        "DARK_DARK_INT": 6,
        "DARK_DARK_TEL": 4,
        "DARK_FLAT": 25,
        "FLAT_DARK": 25,
        "FLAT_FLAT": 25,
        "FP_FP": 25,
        "DARK_FP": 6,
        "HCONE_HCONE": 10,
        "OBJ_DARK": 4,
        "OBJ_FP": 11,
        "POLAR_FP": 4,
        "DARK_FP_SKY": 1,
    }
    names = {
        "2320001d": "DARK_DARK_INT",
        "2320029o": "OBJ_DARK",
        "2320035o": "DARK_FP_SKY",
        "2320036f": "DARK_FLAT",
        "2320057c": "HCONE_HCONE",
        "2320128c": "HCONE_HCONE",
        "2320135o": "OBJ_DARK",
        "2320203f": "DARK_FLAT",
        "2320228o": "OBJ_FP",
        "2320254c": "HCONE_HCONE",
    }
    found = {f.identifier: f.dprtype for f in index}
    assert {name: found[name] for name in names} == names


@pytest.mark.parametrize("sequence", SEQUENCES)
def test_sequence(sequence: str) -> None:
    by_short, total = SEQUENCES[sequence]
    made = plan(f"id1 = {sequence}")
    assert counts(made) == by_short
    assert len(made.tasks) == total == sum(by_short.values())


@pytest.mark.parametrize(
    ("night", "total", "telescope"), [("2018-09-25", 8, 1), ("2018-09-26", 8, 1), ("2018-09-27", 7, 0)]
)
def test_calibrations_of_one_night(night: str, total: int, telescope: int) -> None:
    made = plan("id1 = calib_seq")
    assert sum(task.obs_dir == night for task in made.tasks) == total
    thermal = [task.step.variant for task in runs(made, "THERMAL", night)]
    assert sorted(thermal) == ["DARK_DARK_INT"] + ["DARK_DARK_TEL"] * telescope


def test_night_without_telescope_darks_is_named() -> None:
    made = plan("id1 = limited_seq")
    assert texts(made, "W-NO-RUNS") == ["THERMAL: no run planned: no DARK_DARK_TEL frame on 2018-09-27."]


def test_inputs_of_the_master_steps() -> None:
    made = plan("id1 = master_seq")
    inputs = {
        task.step.short: [len(i.frames) for i in task.inputs]
        for task in made.tasks
        if task.step.short != "LOCM"
    }
    assert inputs["DARKM"] == [10]
    assert inputs["BADM"] == [10, 4]
    assert inputs["SHAPEM"] == [4, 25]
    assert inputs["LEAKM"] == [2]
    assert inputs["WAVEM"] == [4, 10]
    assert [task.step.variant for task in runs(made, "LOCM")] == ["DARK_FLAT", "FLAT_DARK"]


def test_bad_pixels_of_the_third_night_use_internal_darks_only() -> None:
    (task,) = runs(plan("id1 = calib_seq"), "BAD", "2018-09-27")
    assert [f.identifier for f in task.inputs[1].frames] == ["2320201d", "2320202d"]


def test_two_macros_are_46_runs_of_the_full_sequence() -> None:
    made = plan("id1 = full_seq")
    macro = [task for task in made.tasks if task.step.label[:2] in ("23", "24")]
    assert len(made.tasks) - len(macro) + 2 == 235
    assert sum(task.step.label.startswith("23") for task in macro) == 18
    assert sum(task.step.label.startswith("24") for task in macro) == 30


def split(made_counts: dict[str, int]) -> tuple[int, int, int, int, int]:
    """Runs of preprocessing, master, nightly, telluric and science steps."""
    return tuple(  # type: ignore[return-value]
        sum(made_counts.get(short, 0) for short in part) for part in (PP, MASTER, CALIB, TELLU, SCIENCE)
    )


@pytest.mark.parametrize(
    ("keys", "parts", "tellu", "science"),
    [
        ("EXCLUDE_OBS_DIRS = 2018-09-26", (111, 11, 15, 22, 41), (4, 3, 4, 4, 3, 4), (8, 8, 8, 1, 8, 8)),
        (
            "INCLUDE_OBS_DIRS = 2018-09-26, 2018-09-27",
            (139, 11, 15, 17, 50),
            (3, 2, 3, 3, 3, 3),
            (10, 8, 10, 2, 10, 10),
        ),
        ("NIGHT_NAME = 2018-09-26", (97, 11, 8, 5, 30), (1, 0, 1, 1, 1, 1), (6, 4, 6, 2, 6, 6)),
        ("USE_ENGINEERING = True", (146, 11, 23, 26, 70), (5, 3, 5, 5, 3, 5), (14, 12, 14, 2, 14, 14)),
        ("USE_ENGINEERING = False", (146, 11, 23, 26, 70), (5, 3, 5, 5, 3, 5), (14, 12, 14, 2, 14, 14)),
    ],
)
def test_night_filters(
    keys: str, parts: tuple[int, ...], tellu: tuple[int, ...], science: tuple[int, ...]
) -> None:
    found = counts(plan(f"{keys}\nid1 = limited_seq"))
    assert split(found) == parts
    assert tuple(found.get(short, 0) for short in TELLU) == tellu
    assert tuple(found.get(short, 0) for short in SCIENCE) == science
    assert sum(found.values()) == sum(parts)


def test_preprocessing_covers_the_same_when_the_master_steps_follow_under_another_id() -> None:
    whole = plan("NIGHT_NAME = 2018-09-26\nid1 = limited_seq")
    parts = plan("NIGHT_NAME = 2018-09-26\nid1 = pp_seq\nid2 = master_seq")
    assert counts(parts)["PP"] == counts(whole)["PP"] == 97


def test_exposure_sequences() -> None:
    made = plan("CALIB_GROUPING = exposure_sequence\nid1 = calib_seq")
    assert counts(made) == {"BAD": 5, "LOC": 10, "SHAPE": 5, "FF": 5, "THERMAL": 5, "WAVE": 5}
    assert len(made.tasks) == 35
    assert sorted(t.step.variant for t in runs(made, "THERMAL")).count("DARK_DARK_TEL") == 2


@pytest.mark.parametrize(
    ("keys", "code"),
    [
        ("EXCLUDE_OBS_DIRS = 2018-09-25\nMASTER_OBS_DIR = 2018-09-25", "E-MASTER-EXCLUDED"),
        ("MASTER_OBS_DIR = 2018-09-24", "E-MASTER-MISSING"),
    ],
)
def test_impossible_master_night(keys: str, code: str) -> None:
    assert code in codes(plan(f"{keys}\nid1 = limited_seq", base="SCIENCE_TARGETS = Gl699, TOI-442\n"))


def test_without_leak_steps() -> None:
    made = plan("RUN_LEAKTELL = False\nRUN_LEAKOBJ = False\nid1 = limited_seq")
    assert len(made.tasks) == 261
    for short in ("MKTELLU1", "MKTELLU2", "FTELLU1", "FTELLU3"):
        assert {task.inputs[0].kind for task in runs(made, short)} == {"E2DSFF"}


def test_corrected_spectra_feed_the_telluric_steps() -> None:
    made = plan("id1 = limited_seq")
    for task in runs(made, "FTELLU1"):
        expected = "LCORR" if task.reference == "fp" else "E2DSFF"
        assert task.inputs[0].kind == expected
        producer = made.by_key[task.inputs[0].producers[0]]
        assert isinstance(producer, Task)
        assert producer.step.short == ("LEAKOBJ" if expected == "LCORR" else "EXTOBJ")


def test_without_the_first_fit_of_the_hot_stars() -> None:
    made = plan("RUN_MKTELLU2 = False\nid1 = limited_seq")
    # 271 without the fits; no spectrum for the three templates (268); no template for MKTELLU4 (263).
    assert len(made.tasks) == 263
    found = counts(made)
    assert not {"MKTELLU2", "MKTELLU3", "MKTELLU4"} & set(found)
    silent = [text for text in texts(made, "W-NO-RUNS") if text.startswith("MKTELLU")]
    assert [text[:8] for text in silent] == ["MKTELLU3", "MKTELLU4"]
    (node,) = [n for n in made.nodes if n.key.startswith("PCA2")]
    assert not node.members
    assert {made.by_key[key].step.short for key in node.fallback} == {"MKTELLU1"}  # type: ignore[union-attr]
    done = execute(made)
    assert {done.states[task.key].value for task in runs(made, "FTELLU1")} == {"DONE"}


def test_without_second_transmissions_only() -> None:
    made = plan("RUN_MKTELLU4 = False\nid1 = limited_seq")
    assert len(made.tasks) == 271
    assert execute(made).tally(made) == {"DONE": 271}


def test_programme_filter() -> None:
    made = plan("PI_NAMES = PI One\nid1 = limited_seq")
    found = counts(made)
    assert {short: found[short] for short in CALIB} == CALIB
    assert {short: found[short] for short in MASTER} == MASTER
    assert not set(TELLU) & set(found)
    assert found["EXTOBJ"] == 12
    assert {task.object for task in made.tasks if task.object} == {"GL699"}
    # 126 calibrations and the 12 frames of the programme; hot stars, sky and other programmes drop out.
    assert found["PP"] == 138


def test_programme_filter_leaves_no_hot_star() -> None:
    made = plan("PI_NAMES = PI One\nid1 = tellu_seq")
    assert len(made.tasks) == 0
    assert {text.split(":")[0] for text in texts(made, "W-NO-RUNS")} == set(TELLU)


def test_packaging_is_asked_for() -> None:
    assert "SCIPOST" not in counts(plan("id1 = limited_seq"))
    made = plan("RUN_SCIPOST = True\nid1 = limited_seq")
    assert counts(made)["SCIPOST"] == 14
    assert len(made.tasks) == 290
    assert counts(plan("RUN_SCIPOST = True\nid1 = full_seq"))["SCIPOST"] == 19
