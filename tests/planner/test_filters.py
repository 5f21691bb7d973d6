"""Night and frame filters, targets and reject list: what takes part, and what is said about the rest."""

from __future__ import annotations

from dataclasses import replace

import pytest

from apero_dask.core.frames import FrameIndex
from apero_dask.core.names import ObjectNames
from apero_dask.planner.filters import Rejection
from tests.planner.archive import night_frames, worked_index
from tests.planner.planning import codes, counts, plan, run, runs, texts

ONE, TWO, THREE = "2018-09-25", "2018-09-26", "2018-09-27"


def with_engineering() -> FrameIndex:
    """The three nights and one without any object frame."""
    frames = [f for f in night_frames("2018-10-08") if f.obstype != "OBJECT"]
    return FrameIndex.of([*worked_index(), *frames])


# -- nights ------------------------------------------------------------------------------------


def test_engineering_night_is_left_out() -> None:
    made = plan("id1 = calib_seq", with_engineering())
    assert {task.obs_dir for task in made.tasks} == {ONE, TWO, THREE}
    pp = plan("id1 = pp_seq", with_engineering())
    assert any("engineering nights without an object frame: 2018-10-08" in r for r in pp.counts[0].reasons)
    assert len(plan("USE_ENGINEERING = True\nid1 = calib_seq", with_engineering()).tasks) == 31


def test_master_night_is_never_an_engineering_night() -> None:
    base = "MASTER_OBS_DIR = 2018-10-08\n"
    made = plan("id1 = pp_seq\nid2 = master_seq", with_engineering(), base=base)
    assert {t.obs_dir for t in made.tasks if t.step.tier == "master"} == {"2018-10-08"}
    assert "E-MASTER-MISSING" not in codes(made)


def test_sky_makes_no_engineering_night_an_object_night_by_type_only() -> None:
    # OBSTYPE decides: one sky frame is enough.
    sky = next(f for f in worked_index() if f.dprtype == "DARK_FP_SKY")
    extra = replace(
        sky, identifier="2321299o", obs_dir="2018-10-08", path="2018-10-08/2321299o.fits", mjdmid=58399.3
    )
    made = plan("id1 = calib_seq", FrameIndex.of([*with_engineering(), extra]))
    assert "2018-10-08" in {task.obs_dir for task in made.tasks}


@pytest.mark.parametrize(
    ("keys", "code", "says"),
    [
        ("INCLUDE_OBS_DIRS = 2018-09-26, 2018-09-29", "W-NIGHT-UNKNOWN", '"2018-09-29" (INCLUDE_OBS_DIRS)'),
        ("EXCLUDE_OBS_DIRS = 2018-09-16", "W-NIGHT-UNKNOWN", "Closest: 2018-09-26"),
        ("NIGHT_NAME = 2018-09-28", "E-NO-NIGHT", "NIGHT_NAME"),
        ("INCLUDE_OBS_DIRS = 2019-01-01", "E-NO-NIGHT", "INCLUDE_OBS_DIRS"),
        (
            "INCLUDE_OBS_DIRS = 2018-09-26\nEXCLUDE_OBS_DIRS = 2018-09-26",
            "E-FILTER-CONFLICT",
            "2018-09-26 appear in both",
        ),
        (
            "NIGHT_NAME = 2018-09-26\nEXCLUDE_OBS_DIRS = 2018-09-26",
            "E-NIGHT-CONFLICT",
            "removed by EXCLUDE_OBS_DIRS",
        ),
        (
            "NIGHT_NAME = 2018-09-26\nINCLUDE_OBS_DIRS = 2018-09-27",
            "E-NIGHT-CONFLICT",
            "removed by INCLUDE_OBS_DIRS",
        ),
        ("NIGHT_NAME = 2018-10-08", "E-NIGHT-CONFLICT", "USE_ENGINEERING = False"),
    ],
)
def test_messages_of_night_filters(keys: str, code: str, says: str) -> None:
    made = plan(f"{keys}\nid1 = calib_seq", with_engineering())
    assert any(says in text for text in texts(made, code)), [str(f) for f in made.findings]


def test_unknown_excluded_night_excludes_nothing() -> None:
    assert len(plan("EXCLUDE_OBS_DIRS = 2018-09-16\nid1 = calib_seq").tasks) == 23


def test_excluding_the_master_night_matters_to_master_steps_only() -> None:
    made = plan("EXCLUDE_OBS_DIRS = 2018-09-25\nid1 = calib_seq")
    assert "E-MASTER-EXCLUDED" not in codes(made)
    assert len(made.tasks) == 15


@pytest.mark.parametrize(
    ("dprtype", "short"),
    [("DARK_FLAT", "LOCM"), ("FLAT_FLAT", "BADM"), ("HCONE_HCONE", "WAVEM"), ("DARK_DARK_TEL", "THTM")],
)
def test_incomplete_master_night(dprtype: str, short: str) -> None:
    index = FrameIndex.of(f for f in worked_index() if (f.obs_dir, f.dprtype) != (ONE, dprtype))
    said = texts(plan("id1 = master_seq", index), "E-MASTER-INCOMPLETE")
    assert any(dprtype in text and f"needed by {short}" in text for text in said)


def test_master_night_with_too_few_combs() -> None:
    few = {"2320020a", "2320021a", "2320051a", "2320052a"}
    index = FrameIndex.of(
        f for f in worked_index() if (f.obs_dir, f.dprtype) != (ONE, "FP_FP") or f.identifier in few
    )
    said = texts(plan("id1 = master_seq", index), "E-MASTER-INCOMPLETE")
    # Two sets of two frames: neither is large enough for the reference image.
    assert said == [
        'Master night "2018-09-25" lacks FP_FP frames needed by SHAPEM (found 4, need at least 3).'
    ]


def test_master_night_unset() -> None:
    made = plan("id1 = limited_seq", base="")
    assert texts(made, "E-MASTER-UNSET") == ["Step DARKM needs MASTER_OBS_DIR, which is not set."]
    off = "".join(f"RUN_{short} = False\n" for short in counts(plan("id1 = master_seq")))
    assert not texts(plan(off + "id1 = master_seq", base=""), "E-MASTER-UNSET")


# -- frames ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["2320031o.fits", "2320031o", "2320031", "2320031o.fits.gz"])
def test_filename(name: str) -> None:
    made = plan(f"FILENAME = {name}\nid1 = limited_seq")
    night = [t for t in made.tasks if t.step.tier == "night" and t.step.short != "PP"]
    assert {t.step.short for t in night} == {"EXTOBJ", "LEAKOBJ", "FTELLU1", "FTELLU2", "FTELLU3", "CCF"}
    assert {t.stem for t in night} == {"2320031o", "GL699"}
    # Master steps keep their frames, and preprocessing those that they need.
    assert sum(t.step.tier == "master" for t in made.tasks) == 11
    assert len(runs(made, "PP")) == 50 + (4 + 5) + (2 + 10) + 1


def test_filename_that_nothing_matches() -> None:
    made = plan("FILENAME = 9999999o.fits\nid1 = science_seq")
    assert texts(made, "E-NO-FILES") == ["No raw frame is left after FILENAME = 9999999o.fits (before: 146)."]


def test_filename_does_not_concern_lines() -> None:
    text = "FILENAME = 2320031o\nid1 = pp_seq\nid2 = cal_preprocessing 2018-09-26 2320130o.fits"
    assert [t.stem for t in plan(text).tasks] == ["2320031o", "2320130o"]
    only = plan("FILENAME = 9999999o\nid2 = cal_preprocessing 2018-09-26 2320130o.fits")
    assert not texts(only, "E-NO-FILES")
    assert len(only.tasks) == 1


def test_filename_leaves_a_step_without_runs() -> None:
    made = plan("FILENAME = 2320031o\nid1 = tellu_seq")
    assert len(made.tasks) == 0
    assert "E-NO-FILES" not in codes(made)
    assert len(texts(made, "W-NO-RUNS")) == 6


def test_rejected_everywhere() -> None:
    made = plan("id1 = limited_seq", rejections={"2320015f": Rejection(everywhere=True)})
    assert len(runs(made, "PP")) == 145
    assert run(made, "BADM").stem == "2320016f"
    assert "2320015f" not in {f.identifier for t in made.tasks for i in t.inputs for f in i.frames}


def test_rejected_for_tellurics() -> None:
    reject = {"2320029o": Rejection(telluric=True), "2320031o": Rejection(telluric=True)}
    made = plan("id1 = limited_seq", rejections=reject)
    found = counts(made)
    assert (found["EXTTELL"], found["MKTELLU1"], found["MKTELLU2"], found["MKTELLU4"]) == (5, 4, 5, 4)
    assert found["MKTELLU3"] == 3
    assert "2320029o" not in {f.identifier for f in run(made, "MKTELLU3", "59PEG").inputs[0].frames}
    assert len(run(made, "FTELLU2", "GL699").inputs[0].frames) == 11
    assert (found["FTELLU1"], found["FTELLU3"], found["CCF"]) == (14, 14, 14)


def test_object_whose_frames_are_all_rejected_for_tellurics() -> None:
    reject = {name: Rejection(telluric=True) for name in ("2320134o", "2320135o")}
    made = plan("id1 = limited_seq", rejections=reject)
    assert [t.object for t in runs(made, "FTELLU2")] == ["GL699"]
    # Without a template the first fit is the last one and feeds the velocities.
    fit = run(made, "FTELLU1", stem="2320134o")
    assert fit.step.variant == "p1_public"
    assert run(made, "CCF", stem="2320134o").inputs[0].producers == (fit.key,)
    assert len(runs(made, "FTELLU3")) == 12


def test_rejected_for_velocities() -> None:
    text = "RUN_SCIPOST = True\nid1 = limited_seq"
    made = plan(text, rejections={"2320031o": Rejection(velocity=True)})
    found = counts(made)
    assert (found["FTELLU3"], found["CCF"], found["SCIPOST"]) == (14, 13, 13)


@pytest.mark.parametrize("sequence", ["pp_seq", "calib_seq", "full_seq"])
def test_frames_left_out_are_named_once(sequence: str) -> None:
    made = plan(f"id1 = {sequence}", rejections={"2320015f": Rejection(everywhere=True)})
    named = [c.step.short for c in made.counts for reason in c.reasons if reason == "reject list: 2320015f"]
    assert named == [made.counts[0].step.short]


def test_reject_list_switched_off() -> None:
    reject = {"2320031o": Rejection(everywhere=True), "2320032o": Rejection(velocity=True)}
    assert len(plan("USE_REJECTLIST = False\nid1 = limited_seq", rejections=reject).tasks) == 276


def test_rejection_is_of_the_complete_identifier() -> None:
    assert len(plan("id1 = pp_seq", rejections={"232003": Rejection(everywhere=True)}).tasks) == 146


def test_programme_names_are_compared_without_case() -> None:
    assert counts(plan("PI_NAMES = pi two\nid1 = science_seq"))["EXTOBJ"] == 2


def test_copies_of_a_frame_in_two_nights() -> None:
    copied = next(f for f in worked_index() if f.identifier == "2320130o")
    double = FrameIndex.of([*worked_index(), replace(copied, obs_dir=THREE, path=f"{THREE}/2320130o.fits")])
    made = plan("id1 = pp_seq", double)
    assert run(made, "PP", stem="2320130o").obs_dir == TWO
    assert texts(made, "W-DUP-FRAME") == [
        "Frame 2320130o exists in 2018-09-26 and 2018-09-27; using the one of 2018-09-26."
    ]
    alone = plan(f"EXCLUDE_OBS_DIRS = {TWO}\nid1 = pp_seq", double)
    assert run(alone, "PP", stem="2320130o").obs_dir == THREE
    assert not texts(alone, "W-DUP-FRAME")


# -- targets -----------------------------------------------------------------------------------


def objects(text: str, short: str, **more: object) -> set[str]:
    made = plan(text, base="MASTER_OBS_DIR = 2018-09-25\n", **more)
    return {t.inputs[0].frames[0].frame_class for t in runs(made, short)}


def test_targets_unset() -> None:
    assert objects("id1 = tellu_seq", "EXTTELL") == {"59PEG", "GAMSCT", "ZETVIR"}
    assert objects("id1 = science_seq", "EXTOBJ") == {"GL699", "TOIM442"}


def test_telluric_targets_given() -> None:
    text = "TELLURIC_TARGETS = 59 Peg\nid1 = tellu_seq\nid2 = science_seq"
    names = ObjectNames.from_rows([("59Peg", ["59 Peg"])])
    assert objects(text, "EXTTELL", names=names) == {"59PEG"}
    assert objects(text, "EXTOBJ", names=names) == {"GAMSCT", "ZETVIR", "GL699", "TOIM442"}


def test_aliases() -> None:
    names = ObjectNames.from_rows([("GL699", ["Gl 699", "Barnard's star"])])
    assert objects("SCIENCE_TARGETS = Barnard's star\nid1 = science_seq", "EXTOBJ", names=names) == {"GL699"}


def test_sky_is_no_object() -> None:
    made = plan("id1 = full_seq")
    assert run(made, "PP", stem="2320035o")
    assert "2320035o" not in {t.stem for t in runs(made, "EXTALL")}
    assert "2320035o" not in {t.stem for t in plan("id1 = pp_seq_opt").tasks}


def test_names_nobody_observed() -> None:
    made = plan("SCIENCE_TARGETS = Gl699, Gl698\nid1 = science_seq", base="")
    assert texts(made, "W-OBJ-UNKNOWN") == [
        'SCIENCE_TARGETS: "Gl698" was not observed; ignored. Closest: GL699.'
    ]
    none = plan("SCIENCE_TARGETS = Gl698\nid1 = science_seq", base="")
    assert texts(none, "E-NO-OBJ") == ["SCIENCE_TARGETS: none of Gl698 is among the 5 observed objects."]
    assert "E-NO-OBJ" not in codes(plan("SCIENCE_TARGETS = Gl698\nid1 = calib_seq", base=""))


def test_star_that_is_not_known_to_be_hot() -> None:
    made = plan("TELLURIC_TARGETS = 59Peg, Gl699\nid1 = tellu_seq", base="MASTER_OBS_DIR = 2018-09-25\n")
    assert len(texts(made, "W-NOT-HOT")) == 1
    assert "Gl699" in texts(made, "W-NOT-HOT")[0] or "GL699" in texts(made, "W-NOT-HOT")[0]


def test_full_sequence_ignores_targets() -> None:
    made = plan("TELLURIC_TARGETS = 59Peg\nid1 = full_seq")
    assert len(made.tasks) == 281
    assert len(texts(made, "I-TARGETS-IGNORED")) == 2


def test_object_in_both_lists_is_processed_once_per_step() -> None:
    text = "TELLURIC_TARGETS = 59Peg, Gl699\nSCIENCE_TARGETS = Gl699\nid1 = limited_seq"
    made = plan(text, base="MASTER_OBS_DIR = 2018-09-25\n")
    paths = [path for task in made.tasks for _, _, path in task.outputs()]
    assert len(set(paths)) == len(paths)
    found = counts(made)
    assert found["EXTTELL"] == 14
    assert "EXTOBJ" not in found
    assert found["FTELLU3"] == found["CCF"] == 12
    assert run(made, "FTELLU3", stem="2320031o").inputs[1].producers == (run(made, "MKTELLU3", "GL699").key,)
    # Frames that only repeat an earlier step are no missing frames.
    assert not [t for t in texts(made, "W-NO-RUNS") if t.startswith(("EXTOBJ", "FTELLU"))]


def test_calibration_class_of_the_optional_preprocessing() -> None:
    made = plan("id1 = pp_seq_opt")
    assert {f.frame_class for t in runs(made, "PP_CAL") for f in t.inputs[0].frames} == {"CALIB"}
    marked = FrameIndex.of(
        replace(f, calibration_field=True) if f.identifier == "2320031o" else f for f in worked_index()
    )
    both = plan("id1 = pp_seq_opt", marked)
    # Marked as calibration: planned under the first of the two steps that want it, and once.
    assert [t.step.short for t in both.tasks if t.stem == "2320031o"] == ["PP_CAL"]
    assert len(both.tasks) == 145
