"""Every master step fails in turn: no night step starts, and the message says why."""

from __future__ import annotations

from pathlib import Path

import pytest

from apero_dask.core.outcome import State
from apero_dask.engine.dask_backend import DaskBackend
from apero_dask.engine.driver import Options
from tests.engine import bed, standins
from tests.engine.clusters import workers

LATE = ("THIM", "THTM", "LEAKM", "WAVEM")
BEHIND: dict[str, tuple[str, ...]] = {
    "DARKM": ("LOCM", "LOCM", "SHAPEM", "SHAPELM", "FLATM", *LATE),
    "BADM": ("LOCM", "LOCM", "SHAPEM", "SHAPELM", "FLATM", *LATE),
    "LOCM 2320005f": ("FLATM", *LATE),
    "LOCM 2320010f": ("SHAPEM", "SHAPELM", "FLATM", *LATE),
    "SHAPEM": ("SHAPELM", "FLATM", *LATE),
    "SHAPELM": ("FLATM", *LATE),
    "FLATM": LATE,
    "THIM": ("LEAKM", "WAVEM"),
    "THTM": (),
    "LEAKM": (),
    "WAVEM": (),
}
"""Master steps behind each: localisation of C (2320005f) does not touch the shape, that of A and B does."""
NIGHT_RUNS = bed.RUNS - 146 - bed.MASTERS


def judge(done: bed.Reduced, failing: str, state: State) -> None:
    short, _, stem = failing.partition(" ")
    assert done.result.status == 4
    assert done.result.finished
    assert done.state(short, stem=stem) is state
    blocked = [
        t.step.short
        for t in done.plan.tasks
        if t.step.tier == "master" and done.states[t.key] is State.BLOCKED
    ]
    assert sorted(blocked) == sorted(BEHIND[failing])
    passed = [
        t
        for t in done.plan.tasks
        if t.step.tier == "master" and done.states[t.key] in (State.DONE, State.SKIPPED_EXISTS)
    ]
    assert len(passed) == bed.MASTERS - 1 - len(blocked)
    night = [t for t in done.plan.tasks if t.step.tier == "night" and t.step.short != "PP"]
    assert len(night) == NIGHT_RUNS == 119
    assert {done.states[t.key] for t in night} == {State.BLOCKED_MASTER}
    for task in night:
        error = done.result.outcomes[task.key].error
        assert f"master step {short} {bed.MASTER_NIGHT}" in error, error
        assert state.value in error


@pytest.mark.parametrize("kind", ["error", "qc"])
@pytest.mark.parametrize("failing", BEHIND)
def test_no_night_step_starts(failing: str, kind: str, reduced: Path) -> None:
    bed.forget_executions(reduced)
    bed.set_faults(reduced, {failing: {"kind": kind}})
    done = bed.reduce(reduced, settings=bed.with_skip("PP"))
    judge(done, failing, State.FAILED_ERROR if kind == "error" else State.QC_FAILED)
    shorts = {done.plan.by_key[key].step.short for key in bed.executions(reduced)}
    assert shorts <= {name.partition(" ")[0] for name in BEHIND}
    assert sum(bed.executions(reduced).values()) == bed.MASTERS - len(BEHIND[failing])


def test_from_untouched_frames_on_workers(root: Path) -> None:
    """Preprocessing is not affected; nothing that was submitted ahead slips through the gate."""
    bed.set_faults(root, {"WAVEM": {"kind": "error"}})
    with workers(2) as client:
        done = bed.reduce(root, DaskBackend(client, standins.run), options=Options(window=500))
    judge(done, "WAVEM", State.FAILED_ERROR)
    assert done.counts() == {"DONE": 156, "FAILED_ERROR": 1, "BLOCKED_MASTER": 119}
    assert sum(bed.executions(root).values()) == 157


def test_all_preprocessing_of_a_master_step_failed(reduced: Path) -> None:
    bed.set_faults(
        reduced, {f"PP {bed.MASTER_NIGHT} {n}c": {"kind": "qc"} for n in (2320027, 2320028, 2320056, 2320057)}
    )
    done = bed.reduce(reduced)
    assert done.state("WAVEM") is State.FAILED_INPUT
    assert done.state("SHAPEM") is State.FAILED_INPUT
    assert done.result.status == 4
    assert done.counts()["BLOCKED_MASTER"] == NIGHT_RUNS


def test_a_failed_master_step_stays_failed_when_it_is_skipped(reduced: Path) -> None:
    bed.set_faults(reduced, {"WAVEM": {"kind": "qc"}})
    assert bed.reduce(reduced, settings=bed.with_skip("PP")).result.status == 4
    again = bed.reduce(reduced, settings=bed.with_skip("PP", *(n.partition(" ")[0] for n in BEHIND)))
    assert again.state("WAVEM") is State.SKIPPED_EXISTS
    assert again.result.executed == 0
    assert again.result.status == 4
    assert again.counts()["BLOCKED_MASTER"] == NIGHT_RUNS
