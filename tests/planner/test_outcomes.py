"""How a whole reduction ends when single runs fail."""

from __future__ import annotations

import pytest

from apero_dask.core.outcome import State
from apero_dask.core.plan import Plan
from apero_dask.planner.resolve import Resolver
from tests.planner.archive import worked_index
from tests.planner.markers import Outcome, execute, failing
from tests.planner.planning import index_without, plan, run, runs

ERROR, QC = State.FAILED_ERROR, State.QC_FAILED
MASTERS = ("DARKM", "BADM", "LOCM", "SHAPEM", "SHAPELM", "FLATM", "LEAKM", "THIM", "THTM", "WAVEM")


@pytest.fixture(scope="module")
def limited() -> Plan:
    return plan("id1 = limited_seq", only_show=False)


def fails(short: str, where: str = "", stem: str = "", state: State = ERROR) -> Outcome:
    return failing({(short, where, stem): state})


def test_nothing_fails(limited: Plan) -> None:
    done = execute(limited)
    assert done.tally(limited) == {"DONE": 276}
    assert done.resolver.finished
    models = [n.key for n in limited.nodes if n.kind == "model"]
    assert sorted(set(done.executed)) == sorted([*(t.key for t in limited.tasks), *models])


@pytest.mark.parametrize("state", [ERROR, QC, State.FAILED_WORKER])
def test_master_wavelengths_fail(limited: Plan, state: State) -> None:
    done = execute(limited, outcome=fails("WAVEM", state=state))
    assert done.tally(limited) == {"DONE": 156, state.value: 1, "BLOCKED_MASTER": 119}
    assert done.states["GATE-MASTER_OK"] is State.BLOCKED_MASTER


def test_master_shape_fails(limited: Plan) -> None:
    done = execute(limited, outcome=fails("SHAPEM"))
    assert done.tally(limited) == {"DONE": 150, "FAILED_ERROR": 1, "BLOCKED": 6, "BLOCKED_MASTER": 119}
    ended = {short: done.states[runs(limited, short)[0].key].value for short in MASTERS}
    assert ended == dict.fromkeys(("DARKM", "BADM", "LOCM"), "DONE") | {
        "SHAPEM": "FAILED_ERROR"
    } | dict.fromkeys(("SHAPELM", "FLATM", "LEAKM", "THIM", "THTM", "WAVEM"), "BLOCKED")


@pytest.mark.parametrize("short", MASTERS)
def test_any_failed_master_step_closes_the_gate(limited: Plan, short: str) -> None:
    done = execute(limited, outcome=fails(short, state=QC))
    night = [t for t in limited.tasks if t.step.tier == "night" and t.step.short != "PP"]
    assert {done.states[t.key] for t in night} == {State.BLOCKED_MASTER}
    # Their models are not missing either: nothing was tried.
    assert {done.states[n.key] for n in limited.nodes if n.kind == "model"} == {State.BLOCKED_MASTER}
    assert {done.states[t.key] for t in runs(limited, "PP")} == {State.DONE}


def test_extraction_of_one_frame_fails(limited: Plan) -> None:
    done = execute(limited, outcome=fails("EXTOBJ", stem="2320031o"))
    assert done.tally(limited) == {"DONE": 271, "FAILED_ERROR": 1, "BLOCKED": 4}
    blocked = {t.step.short for t in limited.tasks if done.states[t.key] is State.BLOCKED}
    assert blocked == {"LEAKOBJ", "FTELLU1", "FTELLU3", "CCF"}
    assert all(t.stem == "2320031o" for t in limited.tasks if done.states[t.key] is State.BLOCKED)
    template = run(limited, "FTELLU2", "GL699")
    files = dict(done.resolver.bindings[template.key].inputs)["files"]
    assert len(files) == 11
    assert not any("2320031o" in path for path in files)


def test_template_fails(limited: Plan) -> None:
    done = execute(limited, outcome=fails("FTELLU2", "TOIM442"))
    assert done.tally(limited) == {"DONE": 271, "FAILED_ERROR": 1, "BLOCKED": 4}
    blocked = [(t.step.short, t.stem) for t in limited.tasks if done.states[t.key] is State.BLOCKED]
    assert sorted(blocked) == [
        ("CCF", "2320134o"),
        ("CCF", "2320135o"),
        ("FTELLU3", "2320134o"),
        ("FTELLU3", "2320135o"),
    ]


def test_transmission_fails_quality(limited: Plan) -> None:
    done = execute(limited, outcome=fails("MKTELLU1", stem="2320029o", state=QC))
    assert done.tally(limited) == {"DONE": 275, "QC_FAILED": 1}
    (model,) = [n for n in limited.nodes if n.key.startswith("PCA1")]
    ((_, paths),) = done.resolver.bindings[model.key].inputs
    assert len(model.members) == 5
    assert len(paths) == 4
    for short in ("MKTELLU2", "MKTELLU4"):
        assert done.states[run(limited, short, stem="2320029o").key] is State.DONE


def test_no_transmission_passes(limited: Plan) -> None:
    done = execute(limited, outcome=fails("MKTELLU1", state=QC))
    fits = {done.states[t.key] for t in runs(limited, "MKTELLU2")}
    assert fits == {State.FAILED_CALIB}
    assert {done.states[t.key] for t in runs(limited, "MKTELLU3")} == {State.BLOCKED}
    assert {done.states[t.key] for t in runs(limited, "FTELLU1")} == {State.FAILED_CALIB}


def test_first_transmissions_stand_in_for_the_second(limited: Plan) -> None:
    done = execute(limited, outcome=fails("MKTELLU4", state=QC))
    (model,) = [n for n in limited.nodes if n.key.startswith("PCA2")]
    ((_, paths),) = done.resolver.bindings[model.key].inputs
    assert len(paths) == 5
    assert all(path.endswith("_tellu_trans_p1_AB.fits") for path in paths)
    assert done.tally(limited) == {"DONE": 271, "QC_FAILED": 5}


def test_model_lists_transmissions_by_time(limited: Plan) -> None:
    done = execute(limited, seed=11)
    for name in ("PCA1", "PCA2"):
        (model,) = [n for n in limited.nodes if n.key.startswith(name)]
        ((_, paths),) = done.resolver.bindings[model.key].inputs
        assert [path.rpartition("/")[2][:8] for path in paths] == [
            "2320029o",
            "2320030o",
            "2320129o",
            "2320227o",
            "2320228o",
        ]


def test_group_is_thinned_and_keeps_its_name(limited: Plan) -> None:
    outcome = failing({("PP", "", "2320015f"): QC, ("PP", "", "2320016f"): ERROR})
    done = execute(limited, outcome=outcome)
    task = run(limited, "FF", "2018-09-25")
    assert task.stem == "2320015f"
    files = dict(done.resolver.bindings[task.key].inputs)["files"]
    assert [path.rpartition("/")[2][:8] for path in files][:2] == ["2320017f", "2320018f"]
    assert len(files) == 8
    assert done.states[task.key] is State.DONE


@pytest.mark.parametrize(
    ("states", "expected"),
    [
        ((QC, QC), State.FAILED_INPUT),
        ((QC, ERROR), State.BLOCKED),
        ((ERROR, ERROR), State.BLOCKED),
    ],
)
def test_no_input_left(limited: Plan, states: tuple[State, State], expected: State) -> None:
    outcome = failing({("PP", "", "2320101d"): states[0], ("PP", "", "2320102d"): states[1]})
    done = execute(limited, outcome=outcome)
    (task,) = [t for t in runs(limited, "THERMAL", "2018-09-26") if t.step.variant == "DARK_DARK_INT"]
    assert done.states[task.key] is expected
    # The night goes on with the internal thermal spectrum of another.
    assert {done.states[t.key] for t in runs(limited, "WAVE")} == {State.DONE}


def test_night_failure_stays_in_the_night(limited: Plan) -> None:
    outcome = failing({("LOC", "2018-09-26", ""): ERROR, ("SHAPE", "2018-09-26", ""): ERROR})
    done = execute(limited, outcome=outcome)
    assert done.tally(limited) == {"DONE": 273, "FAILED_ERROR": 3}


def test_required_calibration_missing_everywhere(limited: Plan) -> None:
    outcome = failing({("BAD", "", ""): ERROR, ("SHAPE", "", ""): ERROR})
    done = execute(limited, outcome=outcome)
    # BADM and SHAPELM stand in: they are in reach.
    assert done.tally(limited) == {"DONE": 270, "FAILED_ERROR": 6}


def test_internal_thermal_missing_everywhere() -> None:
    index = index_without(
        worked_index(), [f"23201{n:02d}d" for n in (1, 2)] + [f"23202{n:02d}d" for n in (1, 2)]
    )
    made = plan("RUN_THIM = False\nid1 = limited_seq", index, only_show=False)
    done = execute(made, outcome=failing({("THERMAL", "", ""): ERROR, ("THTM", "", ""): State.DONE}))
    # Without internal thermal spectra nothing with lamp light can be extracted: no reference wavelengths,
    # and with them everything of the nights is closed.
    assert done.states[run(made, "WAVEM").key] is State.FAILED_CALIB
    assert set(done.tally(made)) == {"DONE", "FAILED_CALIB", "BLOCKED_MASTER"}


# -- machine -----------------------------------------------------------------------------------


def test_stop_at_the_first_error(limited: Plan) -> None:
    resolver = Resolver(limited)
    ready = list(resolver.start().ready)
    running = ready[:3]
    resolver.record(running[0], ERROR)
    ended = resolver.stop(running[1:])
    assert len(ended.ended) == len(limited.by_key) - 3
    assert all(state is State.BLOCKED_STOP for _, state in ended.ended)
    assert not resolver.finished
    assert resolver.record(running[1], State.DONE).ready == ()
    assert resolver.record(running[2], QC).ready == ()
    assert resolver.finished
    assert resolver.states[running[1]] is State.DONE


def test_outcomes_are_recorded_once(limited: Plan) -> None:
    resolver = Resolver(limited)
    key = resolver.start().ready[0]
    resolver.record(key, State.DONE)
    assert resolver.record(key, State.DONE).ready == ()
    with pytest.raises(ValueError, match="DONE and again as QC_FAILED"):
        resolver.record(key, QC)
    with pytest.raises(KeyError):
        resolver.record("00009.01.00001", State.DONE)


def test_ready_runs_come_in_plan_order(limited: Plan) -> None:
    ready = Resolver(limited).start().ready
    assert list(ready) == [task.key for task in runs(limited, "PP")]


def test_line_that_is_switched_off_leaves_what_is_there() -> None:
    made = plan("id1 = limited_seq", only_show=False)
    done = execute(made)
    text = (
        "RUN_EXT = False\nid1 = cal_extract 2018-09-25 2320031o_pp.fits\n"
        "id2 = cal_leak 2018-09-25 2320031o_pp_e2dsff_AB.fits"
    )
    later = plan(text, snapshot=done.snapshot, only_show=False)
    assert [t.state for t in later.tasks] == [State.SKIPPED_USER, State.PLANNED]
    played = execute(later, done.snapshot)
    assert [played.states[t.key] for t in later.tasks] == [State.SKIPPED_USER, State.DONE]
