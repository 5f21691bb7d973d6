"""The text at the end of a reduction, against what was planned to fail and against the state database."""

from __future__ import annotations

import sqlite3
from collections import Counter

from apero_dask.core.outcome import State
from apero_dask.core.plan import Plan
from apero_dask.core.work import TaskOutcome
from apero_dask.engine.driver import Result
from apero_dask.report.causes import Cause
from apero_dask.report.summary import MOST_LINES, cause_lines, most, quality_lines, run_messages, state_table
from tests.planner.planning import plan
from tests.report.conftest import STAR
from tests.report.reduction import MODELS, NIGHT, RUN_FILE, RUNS, Answer, Root

BEHIND = ("LEAKOBJ", "FTELLU1", "FTELLU3", "CCF")
"""Steps of a star behind its extraction; the template is made of its other frames."""


def counts(text: str) -> dict[str, dict[str, int]]:
    """Table of the summary: number of runs by step and column."""
    lines = text.splitlines()
    first = next(i for i, line in enumerate(lines) if line.startswith("step "))
    names = lines[first].split("  ")
    names = [name.strip() for name in names if name.strip()]
    table = {}
    for line in lines[first + 1 :]:
        if not line.strip():
            break
        cells = line.split()
        table[cells[0]] = {
            name: 0 if cell == "-" else int(cell) for name, cell in zip(names[1:], cells[1:], strict=True)
        }
    return table


def test_a_reduction_without_failures_says_so(good_once: tuple[Root, Answer]) -> None:
    answer = good_once[1]
    assert answer.status == 0
    assert counts(answer.out)["all"] == {"runs": RUNS + MODELS, "DONE": RUNS + MODELS}
    assert "Exit status 0: every planned run ended or was skipped." in answer.out
    assert "Failures" not in answer.out


def test_counts_are_those_of_the_state_database(failed_once: tuple[Root, Answer]) -> None:
    root, answer = failed_once
    with sqlite3.connect(root.path / "log" / "state.sqlite") as db:
        rows = db.execute("SELECT short, state FROM runs WHERE key NOT LIKE 'GATE-%'").fetchall()
    db.close()
    expected = {short: Counter(state for s, state in rows if s == short) for short, _ in rows}
    found = counts(answer.out)
    del found["all"]
    ended = {short: {k: v for k, v in row.items() if k != "runs" and v} for short, row in found.items()}
    assert ended == {short: dict(states) for short, states in expected.items()}


def test_one_failure_is_one_line_with_everything_it_stops(failed_once: tuple[Root, Answer]) -> None:
    answer = failed_once[1]
    assert answer.status == 1
    assert "Failures: 1 cause(s)" in answer.out
    (line,) = answer.lines("FAILED_ERROR EXTOBJ")
    assert f"EXTOBJ {NIGHT} {STAR}: planned failure" in line
    assert "stops 4 run(s): " + ", ".join(f"{step} 1" for step in BEHIND) in line
    assert "Exit status 1: at least one run failed or was blocked." in answer.out


def test_failed_quality_and_what_was_taken_instead_are_named(failed_once: tuple[Root, Answer]) -> None:
    answer = failed_once[1]
    assert f"BAD {NIGHT} 2320015f: STANDIN = 0 (STANDIN < 1)" in answer.out
    (line,) = answer.lines("W-CALIB-FALLBACK")
    assert f"BADPIX/BKGRDMAP taken from {NIGHT} (master tier) (own night: QC_FAILED)" in line
    assert "LOC, SHAPE, FF, THERMAL, WAVE" in line


def test_a_failed_master_step_is_named_and_no_night_step_starts(raw: Root) -> None:
    raw.faults(SHAPEM={"kind": "error"})
    answer = raw.reduce()
    assert answer.status == 4
    (line,) = answer.lines("Exit status 4")
    assert f"a master step failed: SHAPEM {NIGHT}" in line and "no night step was started" in line
    table = counts(answer.out)
    assert table["PP"]["DONE"] == 57
    assert all(not table[night]["DONE"] for night in ("BAD", "LOC", "SHAPE", "FF", "WAVE", "EXTOBJ", "CCF"))
    assert "Failures: 1 cause(s)" in answer.out
    (cause,) = answer.lines("FAILED_ERROR SHAPEM")
    # Frames, and the master steps that do not need the shape: DARKM, BADM, two LOCM.
    done = 57 + 4
    assert f"stops {RUNS - done - 1} run(s)" in cause


def test_a_master_step_that_fails_quality_control_ends_with_4(raw: Root) -> None:
    raw.faults(FLATM={"kind": "qc"})
    answer = raw.reduce()
    assert answer.status == 4
    (line,) = answer.lines("Exit status 4")
    assert f"FLATM {NIGHT} 2320015f ended QC_FAILED" in line


def test_everything_stopped_by_stop_at_exception_is_one_cause(raw: Root) -> None:
    raw.faults(LOC={"kind": "error"})
    answer = raw.reduce(RUN_FILE + "STOP_AT_EXCEPTION = True\n")
    assert answer.status == 1
    stopped = counts(answer.out)["all"]["BLOCKED_STOP"]
    assert stopped > 30
    assert "Failures: 1 cause(s)" in answer.out
    assert len(answer.lines("BLOCKED_STOP")) == 1, "only the head of the table"


def test_equal_messages_are_told_once() -> None:
    def outcome(key: str, *messages: tuple[str, str]) -> TaskOutcome:
        return TaskOutcome(key, key, State.DONE, messages=messages)

    few = ("W-FEW-TRANS", "Only 2 telluric transmissions passed; using 1 component(s).")
    many = [outcome(f"b{n}", ("W-X", f"text {n}")) for n in range(7)]
    outcomes = {o.key: o for o in [outcome("a1", few), outcome("a2", few), *many]}
    result = Result({}, outcomes, 0, True)
    assert run_messages(result) == [
        f"W-FEW-TRANS: {few[1]} (2 runs)",
        "W-X: text 0",
        "W-X: text 1",
        "W-X: text 2",
        "W-X: 4 further message(s) in the logs of the runs",
    ]


def test_runs_that_have_not_ended_have_their_column() -> None:
    lines = state_table([("PP", State.DONE), ("PP", None), ("FF", None)])
    assert lines[0].split("  ")[-1].strip() == "not ended"
    assert [line.split() for line in lines[1:]] == [
        ["PP", "2", "1", "1"],
        ["FF", "1", "-", "1"],
        ["all", "3", "1", "2"],
    ]


def test_long_lists_are_cut_and_counted() -> None:
    lines = list(most([f"line {n}" for n in range(MOST_LINES + 5)]))
    assert len(lines) == MOST_LINES + 1 and lines[-1] == "  ... and 5 more"


def failures(number: int, error: str, plan: Plan) -> list[Cause]:
    """Failed preprocessing runs of a plan, ``{stem}`` in the text standing for the frame of each."""
    tasks = [task for task in plan.tasks if task.step.short == "PP"][:number]
    return [Cause(t.key, State.FAILED_ERROR, error.format(stem=t.stem), [f"{t.key}-x"]) for t in tasks]


def test_causes_alike_share_a_line() -> None:
    made = plan("id1 = pp_seq")
    made.by_key.update(
        (cause.blocked[0], made.by_key[cause.key]) for cause in failures(146, "", made)
    )  # stand-ins for what they stop
    many = failures(86, "{stem}.fits is truncated", made)
    other = Cause(made.tasks[100].key, State.FAILED_ERROR, "no space left")
    first, second = cause_lines(made, [*many[:40], other, *many[40:]])
    assert first == (
        f"  FAILED_ERROR PP 2018-09-25 {made.tasks[0].stem} and 85 other PP run(s) alike: "
        f"{made.tasks[0].stem}.fits is truncated; stops 86 run(s): PP 86"
    )
    assert second.endswith(f"{made.tasks[100].stem}: no space left")
    # A few are listed one by one, and so are different errors however many.
    assert len(cause_lines(made, failures(3, "{stem} is bad", made))) == 3
    odd = [Cause(c.key, c.state, f"pixel {n}") for n, c in enumerate(failures(50, "", made))]
    assert len(cause_lines(made, odd)) == 50


def test_runs_that_failed_quality_control_alike_share_a_line() -> None:
    tasks = [task for task in plan("id1 = pp_seq").tasks if task.step.short == "PP"][:20]
    errors = {task.key: "snr below 10" for task in tasks[:18]}
    assert quality_lines(tasks, errors) == [
        f"  PP 2018-09-25 {tasks[0].stem} and 17 other run(s) alike: snr below 10",
        f"  PP 2018-09-25 {tasks[18].stem}",
        f"  PP 2018-09-25 {tasks[19].stem}",
    ]
