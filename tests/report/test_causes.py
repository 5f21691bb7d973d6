"""Root causes and calibration messages, on plans of the three-night archive driven by a naive executor."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from apero_dask.core.errors import Findings
from apero_dask.core.frames import FrameIndex
from apero_dask.core.outcome import State
from apero_dask.core.plan import Node, Plan, Task
from apero_dask.instruments.base import instrument
from apero_dask.planner.build import build_plan
from apero_dask.planner.resolve import Resolver
from apero_dask.report.causes import explain, fold, name_of, parents, root_causes
from apero_dask.report.fallbacks import calibration_messages
from apero_dask.runfile.merge import CommandLine, merge
from tests.planner.archive import worked_index
from tests.runfile.reading import read

LIMITED = """\
MASTER_OBS_DIR = 2018-09-25
TELLURIC_TARGETS = All
SCIENCE_TARGETS = Gl699, TOI-442
id1 = limited_seq
"""
Fate = Callable[[Task], State | None]
"""State a run ends in; None = DONE."""


def plan_of(*extra: str) -> Plan:
    """Fresh plan, for the resolver keeps the states of a plan."""
    run, _ = read(LIMITED)
    return build_plan(worked_index(*extra), merge(run, CommandLine(), Findings()), instrument("SPIROU"))


def executed(plan: Plan, fate: Fate) -> Resolver:
    """Resolver after all runs have ended, one after the other."""
    resolver = Resolver(plan)
    ready = list(resolver.start().ready)
    while ready:
        key = ready.pop(0)
        item = plan.by_key[key]
        state = fate(item) if isinstance(item, Task) else None
        ready += resolver.record(key, state or State.DONE).ready
    assert resolver.finished
    return resolver


def failing(short: str, place: str = "", stem: str = "", state: State = State.FAILED_ERROR) -> Fate:
    """The runs of a step, night and stem fail."""

    def fate(task: Task) -> State | None:
        here = (
            task.step.short == short and place in ("", task.obs_dir, task.object) and stem in ("", task.stem)
        )
        return state if here else None

    return fate


def told(plan: Plan, resolver: Resolver, days: float = 7.0) -> list[str]:
    return [str(message) for message in calibration_messages(plan, resolver, days)]


def short_counts(plan: Plan, keys: list[str]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for key in keys:
        item = plan.by_key[key]
        assert isinstance(item, Task)
        counts[item.step.short] = counts.get(item.step.short, 0) + 1
    return counts


def test_a_failed_frame_stops_its_own_steps_only() -> None:
    plan = plan_of()
    resolver = executed(plan, failing("EXTOBJ", stem="2320031o"))
    (cause,) = fold(plan, resolver, {})
    assert name_of(plan.by_key[cause.key]) == "EXTOBJ 2018-09-25 2320031o"
    assert short_counts(plan, cause.blocked) == {"LEAKOBJ": 1, "FTELLU1": 1, "FTELLU3": 1, "CCF": 1}


def test_a_failed_template_stops_the_second_fit_of_its_star() -> None:
    plan = plan_of()
    resolver = executed(plan, failing("FTELLU2", place="TOIM442"))
    (cause,) = fold(plan, resolver, {})
    assert short_counts(plan, cause.blocked) == {"FTELLU3": 2, "CCF": 2}


def test_a_failed_reference_wavelength_stops_all_119_night_runs() -> None:
    plan = plan_of()
    resolver = executed(plan, failing("WAVEM"))
    (cause,) = fold(plan, resolver, {cause.key: "boom" for cause in fold(plan, resolver, {})})
    assert len(cause.blocked) == 119 and cause.error == "boom"
    night = next(t for t in plan.tasks if t.step.short == "BAD")
    text = explain(plan, resolver, night.key, State.BLOCKED_MASTER)
    assert text.startswith("not started: master step WAVEM 2018-09-25") and "FAILED_ERROR" in text


def test_two_failures_are_two_causes_and_every_stopped_run_is_counted_once() -> None:
    plan = plan_of()
    fates = (failing("EXTOBJ", stem="2320031o"), failing("PP", stem="2320130o"))
    resolver = executed(plan, lambda task: next((s for f in fates if (s := f(task))), None))
    causes = fold(plan, resolver, {})
    assert [name_of(plan.by_key[c.key]) for c in causes] == [
        "PP 2018-09-26 2320130o",
        "EXTOBJ 2018-09-25 2320031o",
    ]
    blocked = [key for cause in causes for key in cause.blocked]
    assert len(blocked) == len(set(blocked)) == 5 + 4


def naive_roots(plan: Plan, resolver: Resolver, key: str) -> set[str]:
    """All first causes of a run, by plain recursion."""
    state = resolver.states[key]
    silent = state.blocked or state in (State.FAILED_CALIB, State.FAILED_INPUT)
    behind = parents(plan, resolver, key) if silent else []
    return set().union(*(naive_roots(plan, resolver, k) for k in behind)) if behind else {key}


@pytest.mark.parametrize("seed", range(6))
def test_folded_causes_agree_with_plain_recursion(seed: int) -> None:
    plan = plan_of()
    rng = random.Random(seed)
    steps = [t for t in plan.tasks if t.step.tier == "night"]
    bad = {t.key: rng.choice((State.FAILED_ERROR, State.QC_FAILED)) for t in rng.sample(steps, 12)}
    resolver = executed(plan, lambda task: bad.get(task.key))
    causes = fold(plan, resolver, {})
    ended_badly = {
        key
        for key, state in resolver.states.items()
        if (state.failed or state.blocked) and isinstance(plan.by_key[key], Task)
    }
    counted = [key for cause in causes for key in cause.blocked]
    assert len(counted) == len(set(counted))
    assert ended_badly <= set(counted) | {cause.key for cause in causes}
    for cause in causes:
        for key in cause.blocked:
            naive = naive_roots(plan, resolver, key)
            assert cause.key in naive
            assert set(root_causes(plan, resolver, key)) == naive


def test_stop_at_exception_is_one_cause() -> None:
    plan = plan_of()
    resolver = Resolver(plan)
    first = resolver.start().ready[0]
    resolver.record(first, State.FAILED_ERROR)
    resolver.stop([])
    (cause,) = fold(plan, resolver, {}, stopped_by=first)
    assert cause.key == first and len(cause.blocked) == len(plan.tasks) - 1


def test_only_the_night_without_telescope_darks_is_told_when_all_passes() -> None:
    plan = plan_of()
    (message,) = told(plan, executed(plan, lambda task: None))
    assert message.endswith("of 2018-09-27: THERMALT taken from 2018-09-26 (own night: not made).")


def test_bad_pixels_of_a_later_night_are_named() -> None:
    plan = plan_of()
    resolver = executed(plan, failing("BAD", place="2018-09-26", state=State.QC_FAILED))
    (message,) = [text for text in told(plan, resolver) if "BADPIX" in text]
    assert message.startswith("W-CALIB-FALLBACK: LOC, SHAPE, FF, THERMAL, WAVE")
    assert "of 2018-09-26: BADPIX/BKGRDMAP taken from 2018-09-27 (own night: QC_FAILED)." in message


def test_the_reference_wavelength_solution_is_a_fallback_of_its_own() -> None:
    plan = plan_of()
    resolver = executed(plan, failing("WAVE"))
    messages = [text for text in told(plan, resolver, 5.0) if text.startswith("W-WAVE-FALLBACK")]
    nights = [t for t in messages if "no nightly wavelength solution within 5 days, using the master" in t]
    assert len(messages) == len(nights) == 3


def test_thermal_darks_of_the_other_kind_are_a_fallback_of_their_own() -> None:
    plan = plan_of("2018-10-08")

    def fate(task: Task) -> State | None:
        telescope = any(kind == "THERMALT" for kind, _, _ in task.outputs())
        return State.QC_FAILED if telescope and task.obs_dir == "2018-10-08" else None

    (message,) = [m for m in told(plan, executed(plan, fate)) if m.startswith("W-THERMAL-FALLBACK")]
    # Four frames of Gl699 that night, and every other night is more than a week away.
    assert message.startswith("W-THERMAL-FALLBACK: EXTOBJ of 23212")
    assert message.endswith("o and 3 more: no THERMALT within 7 days, using THERMALI of 2018-10-08.")


def test_a_night_too_far_from_every_calibration_is_told_once_per_kind() -> None:
    plan = plan_of("2018-10-08")
    resolver = executed(
        plan,
        lambda task: (
            State.FAILED_ERROR if task.obs_dir == "2018-10-08" and task.step.short == "BAD" else None
        ),
    )
    messages = [text for text in told(plan, resolver) if text.startswith("E-MISSING-CALIB")]
    (bad,) = [text for text in messages if "BADPIX" in text]
    assert "of 2018-10-08: no BADPIX/BKGRDMAP within 7 days passed quality control." in bad
    assert "LOC" in bad


def test_a_night_without_any_calibration_near_it_does_not_blame_their_quality() -> None:
    night = "2018-10-08"
    frames = (f for f in worked_index(night) if f.obs_dir != night or f.obstype == "OBJECT")
    run, _ = read(LIMITED)
    plan = build_plan(FrameIndex.of(frames), merge(run, CommandLine(), Findings()), instrument("SPIROU"))
    resolver = executed(plan, lambda task: None)
    lost = [t for t in plan.tasks if t.obs_dir == night and t.step.short == "EXTOBJ"]
    assert [resolver.states[t.key] for t in lost] == [State.FAILED_CALIB] * 4
    said = {explain(plan, resolver, t.key, State.FAILED_CALIB) for t in lost}
    assert said == {
        "no BADPIX/BKGRDMAP, LOC/ORDER_PROFILE, SHAPEL, FLAT/BLAZE, THERMALT, THERMALI of a night within "
        "MAX_CALIB_DTIME"
    }


def test_a_model_of_first_transmissions_is_told() -> None:
    plan = plan_of()
    resolver = executed(plan, failing("MKTELLU4"))
    (message,) = [text for text in told(plan, resolver) if "TRANS2" in text]
    assert "PCA2 of the archive: TRANS2 taken from TRANS1 (own night: none passed)" in message
    assert all(isinstance(node, Node) for node in plan.nodes)
