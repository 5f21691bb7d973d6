"""What is not executed again: repetition, changes upstream, interruption, growth, damage."""

from __future__ import annotations

from dataclasses import replace

import pytest

from apero_dask.core.frames import FrameIndex
from apero_dask.core.outcome import ChoiceRecord, Marker, State
from apero_dask.core.plan import Plan, Task
from apero_dask.core.snapshot import Snapshot
from apero_dask.planner.filters import Rejection
from apero_dask.planner.sequences import SEQUENCES
from tests.planner.archive import worked_index
from tests.planner.markers import Done, execute, failing
from tests.planner.planning import codes, counts, plan, run, runs, states, texts

SHORTS = sorted({row.short for rows in SEQUENCES.values() for row in rows})
SKIP_ALL = "".join(f"SKIP_{short} = True\n" for short in (*SHORTS, "MKTELLDB", "FTELLDB"))
LIMITED = SKIP_ALL + "id1 = limited_seq"


@pytest.fixture(scope="module")
def first() -> tuple[Plan, Done]:
    """A complete reduction of the three nights."""
    made = plan("id1 = limited_seq", only_show=False)
    done = execute(made)
    assert done.tally(made) == {"DONE": 276}
    return made, done


def planned_by_short(made: Plan) -> dict[str, int]:
    table: dict[str, int] = {}
    for task in made.tasks:
        if task.state is State.PLANNED:
            table[task.step.short] = table.get(task.step.short, 0) + 1
    return table


def test_repetition_executes_nothing(first: tuple[Plan, Done]) -> None:
    again = plan(LIMITED, snapshot=first[1].snapshot, only_show=False)
    assert states(again) == {"SKIPPED_EXISTS": 276}
    assert {node.state for node in again.nodes if node.kind == "model"} == {State.SKIPPED_EXISTS}
    done = execute(again, first[1].snapshot)
    assert done.executed == []
    assert done.resolver.finished
    assert all(task.marker == task.identity() for task in again.tasks)


def test_whole_reduction_after_the_limited_one_adds_the_velocities_of_hot_stars(
    first: tuple[Plan, Done],
) -> None:
    full = plan(SKIP_ALL + "id1 = full_seq", snapshot=first[1].snapshot, only_show=False)
    assert states(full) == {"SKIPPED_EXISTS": 276, "PLANNED": 5}
    assert planned_by_short(full) == {"CCF": 5}
    done = execute(full, first[1].snapshot)
    back = plan(LIMITED, snapshot=done.snapshot, only_show=False)
    assert states(back) == {"SKIPPED_EXISTS": 276}


def test_without_skip_everything_is_executed(first: tuple[Plan, Done]) -> None:
    again = plan("id1 = limited_seq", snapshot=first[1].snapshot, only_show=False)
    assert states(again) == {"PLANNED": 276}


def test_one_switch_skips_its_step_only(first: tuple[Plan, Done]) -> None:
    again = plan("SKIP_PP = True\nSKIP_CCF = True\nid1 = limited_seq", snapshot=first[1].snapshot)
    # Velocities stand behind runs that are executed.
    assert states(again) == {"PLANNED": 130, "SKIPPED_EXISTS": 146}


def test_execution_again_leaves_the_same_content(first: tuple[Plan, Done]) -> None:
    again = plan("id1 = limited_seq", snapshot=first[1].snapshot, only_show=False)
    second = execute(again, first[1].snapshot, invocation="second", seed=3)
    assert {p: o.content for p, (_, o) in second.snapshot.outputs.items()} == {
        p: o.content for p, (_, o) in first[1].snapshot.outputs.items()
    }


def test_rejected_frame_executes_what_contains_it(first: tuple[Plan, Done]) -> None:
    made = plan(
        LIMITED,
        snapshot=first[1].snapshot,
        rejections={"2320031o": Rejection(everywhere=True)},
        only_show=False,
    )
    assert len(made.tasks) == 270
    assert planned_by_short(made) == {"FTELLU2": 1, "FTELLU3": 11, "CCF": 11}
    assert states(made)["SKIPPED_EXISTS"] == 247
    assert run(made, "FTELLU2", "GL699").state is State.PLANNED
    assert len(run(made, "FTELLU2", "GL699").inputs[0].frames) == 11
    done = execute(made, first[1].snapshot)
    assert set(done.states.values()) <= {State.DONE, State.SKIPPED_EXISTS}


def test_fourth_night(first: tuple[Plan, Done]) -> None:
    made = plan(LIMITED, worked_index("2018-10-08"), snapshot=first[1].snapshot, only_show=False)
    assert len(made.tasks) == 336
    executed = planned_by_short(made)
    assert executed == {
        "PP": 32,
        "BAD": 1,
        "LOC": 2,
        "SHAPE": 1,
        "FF": 1,
        "THERMAL": 2,
        "WAVE": 1,
        "EXTOBJ": 4,
        "LEAKOBJ": 4,
        "FTELLU1": 4,
        "FTELLU2": 1,
        "FTELLU3": 16,
        "CCF": 16,
    }
    assert sum(executed.values()) == 85
    assert states(made)["SKIPPED_EXISTS"] == 251
    grown = texts(made, "I-ARCHIVE-GROWN")
    assert [text.split()[0] for text in grown] == ["DARKM", "SHAPEM"]
    assert "4 newer" in grown[0]
    assert "5 newer" in grown[1]


def test_fourth_night_without_skip_of_the_archive_steps(first: tuple[Plan, Done]) -> None:
    text = LIMITED.replace("SKIP_DARKM = True\n", "")
    made = plan(text, worked_index("2018-10-08"), snapshot=first[1].snapshot, only_show=False)
    assert len(run(made, "DARKM").inputs[0].frames) == 14
    executed = planned_by_short(made)
    assert executed["DARKM"] == 1
    # The reference dark is under everything but preprocessing and bad pixels.
    assert executed["PP"] == 32
    assert executed["BAD"] == 1
    assert "BADM" not in executed
    assert executed["LOCM"] == 2
    assert executed["CCF"] == 18


def test_grown_archive_is_taken_when_a_used_frame_changed(first: tuple[Plan, Done]) -> None:
    grown = worked_index("2018-10-08")
    changed = FrameIndex.of(
        replace(f, digest="other header") if f.identifier == "2320020a" else f for f in grown
    )
    made = plan(LIMITED, changed, snapshot=first[1].snapshot, only_show=False)
    assert [text.split()[0] for text in texts(made, "I-ARCHIVE-GROWN")] == ["DARKM"]
    assert len(run(made, "SHAPEM").inputs[1].frames) == 30
    assert run(made, "SHAPEM").state is State.PLANNED


def test_grown_archive_is_taken_when_a_used_frame_is_gone(first: tuple[Plan, Done]) -> None:
    made = plan(
        LIMITED,
        worked_index("2018-10-08"),
        snapshot=first[1].snapshot,
        rejections={"2320101d": Rejection(everywhere=True)},
        only_show=False,
    )
    assert [text.split()[0] for text in texts(made, "I-ARCHIVE-GROWN")] == ["SHAPEM"]
    assert len(run(made, "DARKM").inputs[0].frames) == 10 + 4 - 1
    assert run(made, "SHAPEM").state is State.PLANNED
    assert len(run(made, "SHAPEM").inputs[1].frames) == 25


def test_changed_raw_frame_is_followed_downstream(first: tuple[Plan, Done]) -> None:
    changed = FrameIndex.of(
        replace(f, size=f.size + 2880) if f.identifier == "2320134o" else f for f in worked_index()
    )
    made = plan(LIMITED, changed, snapshot=first[1].snapshot, only_show=False)
    assert planned_by_short(made) == {
        "PP": 1,
        "EXTOBJ": 1,
        "FTELLU1": 1,
        "FTELLU2": 1,
        "FTELLU3": 2,
        "CCF": 2,
    }


def test_new_hot_star_frame_executes_every_telluric_fit(first: tuple[Plan, Done]) -> None:
    index = worked_index()
    star = next(f for f in index if f.identifier == "2320129o")
    extra = replace(star, identifier="2320136o", path="2018-09-26/2320136o.fits", mjdmid=star.mjdmid + 0.1)
    made = plan(LIMITED, FrameIndex.of([*index, extra]), snapshot=first[1].snapshot, only_show=False)
    executed = planned_by_short(made)
    assert executed == {
        "PP": 1,
        "EXTTELL": 1,
        "MKTELLU1": 1,
        "MKTELLU2": 6,
        "MKTELLU3": 3,
        "MKTELLU4": 6,
        "FTELLU1": 14,
        "FTELLU2": 2,
        "FTELLU3": 14,
        "CCF": 14,
    }


def damage(snapshot: Snapshot, *paths: str) -> Snapshot:
    return Snapshot.of(snapshot.markers.values(), damaged=paths, code=snapshot.code)


def test_damaged_output_is_made_again_with_all_that_hangs_on_it(first: tuple[Plan, Done]) -> None:
    path = run(first[0], "SHAPE", "2018-09-26").path("SHAPEL")
    made = plan(LIMITED, snapshot=damage(first[1].snapshot, path), only_show=False)
    executed = planned_by_short(made)
    assert executed["SHAPE"] == executed["FF"] == executed["WAVE"] == 1
    assert executed["THERMAL"] == 2
    # The third night has no telescope darks of its own and takes THERMALT of this one.
    assert executed["EXTTELL"] == 1 + 2
    assert executed["EXTOBJ"] == 6 + 4
    assert "PP" not in executed
    assert "BAD" not in executed


def test_damaged_archive_product_is_made_again_from_the_same_frames(first: tuple[Plan, Done]) -> None:
    path = run(first[0], "DARKM").path("DARKM")
    made = plan(
        LIMITED, worked_index("2018-10-08"), snapshot=damage(first[1].snapshot, path), only_show=False
    )
    task = run(made, "DARKM")
    assert task.state is State.PLANNED
    assert len(task.inputs[0].frames) == 10


def test_other_code_executes_the_recipe_again(first: tuple[Plan, Done]) -> None:
    snapshot = first[1].snapshot
    coded = Snapshot.of(snapshot.markers.values(), code={"cal_ccf": "new"})
    assert planned_by_short(plan(LIMITED, snapshot=coded, only_show=False)) == {"CCF": 14}


def test_other_options_are_another_run(first: tuple[Plan, Done]) -> None:
    line = (
        "SKIP_CCF = True\nid1 = cal_ccf 2018-09-25 2320031o_pp_e2dsff_tcorr_AB.fits --width 20 --step {step}"
    )
    snapshot = first[1].snapshot
    made = plan(line.format(step=0.05), snapshot=snapshot, only_show=False)
    assert states(made) == {"PLANNED": 1}
    done = execute(made, snapshot)
    assert states(plan(line.format(step=0.05), snapshot=done.snapshot, only_show=False)) == {
        "SKIPPED_EXISTS": 1
    }
    assert states(plan(line.format(step=0.1), snapshot=done.snapshot, only_show=False)) == {"PLANNED": 1}


# -- failures and interruptions ----------------------------------------------------------------


def test_failed_quality_counts_as_finished_and_is_not_used() -> None:
    made = plan("id1 = limited_seq", only_show=False)
    done = execute(made, outcome=failing({("PP", "", "2320031o"): State.QC_FAILED}))
    again = plan(LIMITED, snapshot=done.snapshot, only_show=False)
    # The extraction of the frame had no input and is tried again; everything else stands.
    assert planned_by_short(again) == {
        "EXTOBJ": 1,
        "LEAKOBJ": 1,
        "FTELLU1": 1,
        "FTELLU2": 1,
        "FTELLU3": 12,
        "CCF": 12,
    }
    second = execute(again, done.snapshot)
    task = run(again, "EXTOBJ", stem="2320031o")
    assert second.states[task.key] is State.FAILED_INPUT
    assert second.tally(again) == {"SKIPPED_EXISTS": 248, "DONE": 23, "FAILED_INPUT": 1, "BLOCKED": 4}


def test_errors_are_executed_again() -> None:
    made = plan("id1 = limited_seq", only_show=False)
    done = execute(made, outcome=failing({("CCF", "2018-09-26", ""): State.FAILED_ERROR}))
    again = plan(LIMITED, snapshot=done.snapshot, only_show=False)
    assert planned_by_short(again) == {"CCF": 6}


def test_interrupted_invocation_is_continued_without_skip() -> None:
    made = plan("id1 = limited_seq", only_show=False)
    half = execute(made, stop_after=200, invocation="20260101", seed=5)
    again = plan("id1 = limited_seq", snapshot=half.snapshot, only_show=False, resume="20260101")
    finished = [key for key in half.executed if isinstance(made.by_key[key], Task)]
    assert {t.key for t in again.tasks if t.state is State.SKIPPED_EXISTS} == set(finished)
    rest = execute(again, half.snapshot, invocation="20260101")
    assert not set(rest.executed) & set(half.executed)
    whole = execute(made)
    assert {p: o.content for p, (_, o) in rest.snapshot.outputs.items()} == {
        p: o.content for p, (_, o) in whole.snapshot.outputs.items()
    }


def test_another_invocation_is_not_continued() -> None:
    made = plan("id1 = limited_seq", only_show=False)
    half = execute(made, stop_after=200, invocation="20260101")
    again = plan("id1 = limited_seq", snapshot=half.snapshot, only_show=False, resume="20260102")
    assert states(again) == {"PLANNED": 276}


def test_model_made_anew_without_its_fits_is_noticed(first: tuple[Plan, Done]) -> None:
    """A model was computed from a new set, then the machine went down: the old fits are out of date."""
    snapshot = first[1].snapshot
    markers = []
    for marker in snapshot.markers.values():
        if marker.outputs[0].kind == "MODEL2":
            outputs = tuple(replace(o, content="of another set") for o in marker.outputs)
            marker = replace(marker, outputs=outputs)
        markers.append(marker)
    made = plan(LIMITED, snapshot=Snapshot.of(markers), only_show=False)
    assert planned_by_short(made) == {"FTELLU1": 14, "FTELLU2": 2, "FTELLU3": 14, "CCF": 14}


def test_calibration_made_anew_without_its_users_is_noticed(first: tuple[Plan, Done]) -> None:
    """The same for a calibration: chosen as before, but its content is another."""
    markers = []
    for marker in first[1].snapshot.markers.values():
        if (marker.short, marker.obs_dir) == ("WAVE", "2018-09-26"):
            outputs = tuple(replace(o, content="of other lamps") for o in marker.outputs)
            marker = replace(marker, outputs=outputs)
        markers.append(marker)
    made = plan(LIMITED, snapshot=Snapshot.of(markers), only_show=False)
    executed = planned_by_short(made)
    assert executed["EXTOBJ"] == 6
    assert "WAVE" not in executed
    assert {t.obs_dir for t in made.tasks if t.state is State.PLANNED and t.step.short == "EXTOBJ"} == {
        "2018-09-26"
    }


def test_input_that_failed_since_is_noticed(first: tuple[Plan, Done]) -> None:
    """A preprocessed flat was made again and failed then; what used it is out of date."""
    markers = [
        replace(m, state=State.QC_FAILED) if (m.short, m.stem) == ("PP", "2320115f") else m
        for m in first[1].snapshot.markers.values()
    ]
    made = plan(LIMITED, snapshot=Snapshot.of(markers), only_show=False)
    executed = planned_by_short(made)
    assert (executed["BAD"], executed["FF"]) == (1, 1)
    assert {t.obs_dir for t in made.tasks if t.state is State.PLANNED and t.step.short in ("BAD", "FF")} == {
        "2018-09-26"
    }


# -- better calibrations -----------------------------------------------------------------------


@pytest.fixture
def neighbour() -> tuple[Plan, Done]:
    """The flat field of the second night failed, so that the night used that of a neighbour."""
    made = plan("id1 = limited_seq", only_show=False)
    return made, execute(made, outcome=failing({("FF", "2018-09-26", ""): State.FAILED_ERROR}))


def test_better_calibration_executes_again(neighbour: tuple[Plan, Done]) -> None:
    made, done = neighbour
    again = plan(LIMITED, snapshot=done.snapshot, only_show=False)
    executed = planned_by_short(again)
    assert executed["FF"] == 1
    assert executed["EXTOBJ"] == 6 + 4
    second = execute(again, done.snapshot)
    whole = execute(made)
    assert {p: o.content for p, (_, o) in second.snapshot.outputs.items()} == {
        p: o.content for p, (_, o) in whole.snapshot.outputs.items()
    }


def test_stale_runs_are_kept_on_request(first: tuple[Plan, Done]) -> None:
    """A run whose choice alone would differ now: the marker names another night."""
    snapshot = first[1].snapshot
    other = run(first[0], "BAD", "2018-09-27").identity()

    def elsewhere(marker: Marker) -> Marker:
        if marker.short != "CCF" or marker.obs_dir != "2018-09-26":
            return marker
        choices = tuple(replace(c, source=other) if "WAVE" in c.kinds else c for c in marker.choices)
        return replace(marker, choices=choices)

    changed = Snapshot.of(elsewhere(m) for m in snapshot.markers.values())
    rerun = plan(LIMITED, snapshot=changed, only_show=False)
    assert planned_by_short(rerun) == {"CCF": 6}
    kept = plan("DASK_STALE = keep\n" + LIMITED, snapshot=changed, only_show=False)
    assert states(kept) == {"SKIPPED_EXISTS": 270, "SKIPPED_STALE": 6}
    assert texts(kept, "W-STALE-KEPT")[0].startswith("6 finished run(s)")


def test_only_the_existence_of_files_counts_on_request(first: tuple[Plan, Done]) -> None:
    snapshot = first[1].snapshot
    old = Snapshot.of(snapshot.markers.values(), code={"cal_badpix": "new", "cal_ccf": "new"})
    assert states(plan("DASK_SKIP_CHECK = exists\n" + LIMITED, snapshot=old)) == {"SKIPPED_EXISTS": 276}
    path = run(first[0], "BAD", "2018-09-26").path("BADPIX")
    gone = damage(snapshot, path)
    made = plan("DASK_SKIP_CHECK = exists\n" + LIMITED, snapshot=gone)
    assert planned_by_short(made) == {"BAD": 1}


def test_files_of_another_program_are_never_taken_for_unchanged() -> None:
    name = "2320031o_pp_e2dsff_tcorr_AB.fits"
    line = f"SKIP_CCF = True\nid1 = cal_ccf 2018-09-25 {name}"
    listing = {"reduced/2018-09-25": [name]}
    made = plan(line, snapshot=Snapshot.of(listing=listing))
    assert states(made) == {"PLANNED": 1}
    assert "E-NO-FILES" not in codes(made)
    known = {f"reduced/2018-09-25/{name}": "abc"}
    task = made.tasks[0]
    marker = Marker(
        task.identity(), "CCF", "cal_ccf", "night", "", "2018-09-25", "GL699", "2320031o", 0.0, State.DONE,
        tuple(known.items()), (), (), (), "",
    )  # fmt: skip
    # Without calibrations of the night the run cannot choose any: only the input decides here.
    choices = tuple(ChoiceRecord(s.kinds, s.fibre + s.applies_to, "", "", 0, False) for s in task.selections)
    marker = replace(marker, choices=choices)
    assert states(plan(line, snapshot=Snapshot.of([marker], listing=listing))) == {"PLANNED": 1}
    assert states(plan(line, snapshot=Snapshot.of([marker], listing=listing, files=known))) == {
        "SKIPPED_EXISTS": 1
    }


def test_stored_failures_thin_a_later_sequence() -> None:
    first_plan = plan("id1 = pp_seq\nid2 = master_seq", only_show=False)
    done = execute(first_plan, outcome=failing({("PP", "", "2320115f"): State.QC_FAILED}))
    made = plan("id1 = calib_seq", snapshot=done.snapshot, only_show=False)
    assert "W-NOT-MADE" not in codes(made)
    task = run(made, "BAD", "2018-09-26")
    assert task.inputs[0].refused == ("2320115f",)
    assert task.stem == "2320115f"
    played = execute(made, done.snapshot)
    assert len(dict(played.resolver.bindings[task.key].inputs)["flatfiles"]) == 4
    (count,) = [c for c in made.counts if c.step.short == "BAD"]
    assert "1 input(s) failed quality control earlier and are left out" in count.reasons
    assert counts(made)["BAD"] == 3
    # Skipping recognises the same thinned group.
    again = plan(SKIP_ALL + "id1 = calib_seq", snapshot=played.snapshot, only_show=False)
    assert states(again) == {"SKIPPED_EXISTS": 23}


def test_skip_switch_of_a_macro_covers_its_steps() -> None:
    made = plan("id1 = full_seq", only_show=False)
    done = execute(made)
    text = SKIP_ALL.replace("SKIP_MKTELLDB = True\n", "") + "id1 = full_seq"
    again = plan(text, snapshot=done.snapshot, only_show=False)
    executed = planned_by_short(again)
    assert sum(executed[f"MKTELLU{n}"] for n in (1, 2, 3, 4)) == 18
    assert states(plan(SKIP_ALL + "id1 = full_seq", snapshot=done.snapshot)) == {"SKIPPED_EXISTS": 281}


def test_skipped_runs_name_their_marker_in_the_record(first: tuple[Plan, Done]) -> None:
    again = plan(LIMITED, snapshot=first[1].snapshot)
    record = runs(again, "BAD")[0].record()
    assert record["state"] == "SKIPPED_EXISTS"
    assert record["marker"] == runs(first[0], "BAD")[0].identity()
