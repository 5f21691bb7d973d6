"""Near-real-time mode: one night, complete sets only, reference products from the database."""

from __future__ import annotations

import pytest

from apero_dask.core.frames import FrameIndex
from apero_dask.core.outcome import State
from apero_dask.core.snapshot import Snapshot
from tests.planner.archive import worked_index
from tests.planner.markers import execute
from tests.planner.planning import codes, counts, index_without, plan, run, runs, selection, texts
from tests.planner.test_skip import SKIP_ALL

THREE = "2018-09-27"
TRIGGER = f"TRIGGER_RUN = True\nNIGHT_NAME = {THREE}\n"


@pytest.fixture(scope="module")
def before() -> Snapshot:
    """The two nights before, completely reduced."""
    made = plan(f"EXCLUDE_OBS_DIRS = {THREE}\nid1 = limited_seq", only_show=False)
    return execute(made).snapshot


def test_calibrations(before: Snapshot) -> None:
    made = plan(TRIGGER + "id1 = calib_seq", snapshot=before)
    assert len(made.tasks) == 7
    assert [t.step.variant for t in runs(made, "THERMAL")] == ["DARK_DARK_INT"]
    assert counts(made)["WAVE"] == 1
    assert not [f for f in made.findings if f.code.startswith("E-")]


def test_reference_products_must_be_there() -> None:
    made = plan(TRIGGER + "id1 = calib_seq")
    assert texts(made, "E-TRIGGER-MASTER")[0] == (
        "TRIGGER_RUN: master product DARKM is missing; run master_seq first."
    )


def test_needs_one_night() -> None:
    assert "E-TRIGGER-NIGHT" in codes(plan("TRIGGER_RUN = True\nid1 = calib_seq"))


def test_plans_no_master_step(before: Snapshot) -> None:
    made = plan(TRIGGER + "id1 = limited_seq", snapshot=before)
    assert {t.step.tier for t in made.tasks} == {"night"}
    assert {t.obs_dir for t in made.tasks if t.obs_dir} == {THREE}
    assert counts(made)["PP"] == 54
    assert not [n for n in made.nodes if n.kind == "gate"]
    reasons = {c.step.short: c.reasons for c in made.counts}
    assert "trigger mode" in reasons["DARKM"][0]


def test_night_without_objects_yet(before: Snapshot) -> None:
    index = FrameIndex.of(f for f in worked_index() if not (f.obs_dir == THREE and f.obstype == "OBJECT"))
    made = plan(TRIGGER + "id1 = calib_seq", index, snapshot=before)
    assert len(made.tasks) == 7
    assert "E-NIGHT-CONFLICT" not in codes(made)


def evening(kind: str, keep: int) -> FrameIndex:
    """The third night with only the first frames of one type."""
    seen = 0
    frames = []
    for frame in worked_index():
        if frame.obs_dir == THREE and frame.dprtype == kind:
            seen += 1
            if seen > keep:
                continue
        frames.append(frame)
    return FrameIndex.of(frames)


@pytest.mark.parametrize(
    ("kind", "least", "short"),
    [
        ("FLAT_FLAT", 5, "BAD"),
        ("DARK_DARK_INT", 2, "BAD"),
        ("DARK_FLAT", 5, "LOC"),
        ("FP_FP", 5, "SHAPE"),
        ("FLAT_FLAT", 5, "FF"),
        ("DARK_DARK_INT", 2, "THERMAL"),
        ("FP_FP", 5, "WAVE"),
        ("HCONE_HCONE", 2, "WAVE"),
    ],
)
def test_minimum_numbers(before: Snapshot, kind: str, least: int, short: str) -> None:
    number = len(runs(plan(TRIGGER + "id1 = calib_seq", evening(kind, least), snapshot=before), short))
    made = plan(TRIGGER + "id1 = calib_seq", evening(kind, least - 1), snapshot=before)
    assert len(runs(made, short)) == number - 1
    assert any(f"only {least - 1} of {least}" in text for text in texts(made, "W-NO-RUNS"))
    # One frame is enough at any other time.
    usual = plan(f"NIGHT_NAME = {THREE}\nid1 = calib_seq", evening(kind, 1), snapshot=before)
    assert len(runs(usual, short)) == number


def test_empty_step_stops_its_descendants_only(before: Snapshot) -> None:
    made = plan(TRIGGER + "id1 = limited_seq", evening("FP_FP", 4), snapshot=before)
    found = counts(made)
    assert (found["BAD"], found["LOC"]) == (1, 2)
    assert not {"SHAPE", "FF", "THERMAL", "WAVE", "EXTOBJ", "LEAKOBJ", "FTELLU1", "CCF"} & set(found)
    assert any("no SHAPEL yet" in text for text in texts(made, "W-NO-RUNS"))


def test_one_half_of_the_localisation_is_not_enough(before: Snapshot) -> None:
    made = plan(TRIGGER + "id1 = limited_seq", evening("FLAT_DARK", 0), snapshot=before)
    found = counts(made)
    assert [t.step.variant for t in runs(made, "LOC")] == ["DARK_FLAT"]
    assert found["SHAPE"] == 1
    assert "FF" not in found


def test_wavelengths_of_the_night_are_not_indispensable(before: Snapshot) -> None:
    made = plan(TRIGGER + "id1 = limited_seq", evening("HCONE_HCONE", 1), snapshot=before)
    found = counts(made)
    assert "WAVE" not in found
    assert found["EXTOBJ"] == 4
    # The stored solutions of the nights before come first, then the reference.
    ranks = [c.rank for c in selection(runs(made, "EXTOBJ")[0], "WAVE").candidates]
    assert ranks == [2, 3, 0]


def test_thermal_of_lamps_holds_back_frames_with_the_comb_only(before: Snapshot) -> None:
    """Telescope darks are there, internal ones are not: stars with a dark reference fibre can go on."""
    index = index_without(worked_index(), ["2320101d", "2320102d"])
    night = "TRIGGER_RUN = True\nNIGHT_NAME = 2018-09-26\n"
    made = plan(night + "id1 = limited_seq", index, snapshot=before)
    assert [t.step.variant for t in runs(made, "THERMAL")] == ["DARK_DARK_TEL"]
    assert [t.stem for t in runs(made, "EXTOBJ")] == ["2320134o", "2320135o"]
    assert "WAVE" not in counts(made)


def test_transmissions_and_templates_come_from_the_database(before: Snapshot) -> None:
    made = plan(TRIGGER + "id1 = limited_seq", snapshot=before)
    models = {n.key: n for n in made.nodes}
    assert models["PCA1-00001"].members == ()
    assert len(models["PCA1-00001"].stored) == 3
    assert len(models["PCA2-00001"].stored) == 3
    # GL699 has a template: its first fit uses it and is its last.
    assert not runs(made, "FTELLU2")
    assert not runs(made, "FTELLU3")
    fits = runs(made, "FTELLU1")
    assert {t.step.variant for t in fits} == {"p1_public"}
    assert {t.inputs[1].argument for t in fits} == {"template"}
    assert counts(made)["CCF"] == 4
    # zetVir was never observed before and gets its template tonight.
    assert [t.object for t in runs(made, "MKTELLU3")] == ["ZETVIR"]
    assert execute(made, before).tally(made) == {"DONE": len(made.tasks)}


def test_templates_are_made_again_on_request(before: Snapshot) -> None:
    made = plan("RECAL_TEMPLATES = True\n" + TRIGGER + "id1 = limited_seq", snapshot=before)
    template = run(made, "FTELLU2", "GL699")
    assert len(template.inputs[0].frames) == 4
    # The stored spectra of the other nights belong to it.
    assert len(template.inputs[0].others) == 8


def test_frames_that_arrive_later(before: Snapshot) -> None:
    """A second call executes what is new; finished runs are kept."""
    first_call = plan(TRIGGER + "id1 = limited_seq", evening("OBJ_FP", 4), snapshot=before, only_show=False)
    done = execute(first_call, before)
    second_call = plan(TRIGGER + SKIP_ALL + "id1 = limited_seq", snapshot=done.snapshot, only_show=False)
    again = {t.key for t in second_call.tasks if t.state is State.PLANNED}
    stems = {second_call.by_key[key].stem for key in again}  # type: ignore[union-attr]
    # The new hot star has a template now, which its first transmission takes; the others had theirs.
    assert stems == {"2320228o", "2320231o", "2320232o"}
    assert counts(second_call)["EXTOBJ"] == 4
    # Finished fits are kept although the set of transmissions has grown by that of the new star.
    kept = [t.stem for t in runs(second_call, "FTELLU1") if t.state is State.SKIPPED_STALE]
    assert kept == ["2320229o", "2320230o"]
    rerun = plan(
        "DASK_STALE = rerun\n" + TRIGGER + SKIP_ALL + "id1 = limited_seq",
        snapshot=done.snapshot,
        only_show=False,
    )
    assert {t.state for t in runs(rerun, "FTELLU1")} == {State.PLANNED}
