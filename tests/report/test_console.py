"""Progress display: without a terminal, under a pseudo-terminal, and when everything goes wrong."""

from __future__ import annotations

import io
import os
import pty
import random
import re
import threading
from typing import Any

import pytest

from apero_dask.core.errors import Findings
from apero_dask.core.outcome import State
from apero_dask.core.plan import Plan
from apero_dask.instruments.base import instrument
from apero_dask.planner.build import build_plan
from apero_dask.report import console as module
from apero_dask.report.console import Console
from apero_dask.report.tally import PRIOR_RUNS, Tally
from apero_dask.runfile.merge import CommandLine, merge
from tests.planner.archive import worked_index
from tests.runfile.reading import read


@pytest.fixture(scope="module")
def plan() -> Plan:
    """Calibrations of three nights: 11 master and 23 night runs."""
    run, _ = read("MASTER_OBS_DIR = 2018-09-25\nid1 = master_seq\nid2 = calib_seq\n")
    return build_plan(worked_index(), merge(run, CommandLine(), Findings()), instrument("SPIROU"))


def events(plan: Plan, failing: str = "", seconds: float = 2.0) -> list[dict[str, Any]]:
    """Events of a serial execution in which one step fails."""
    found: list[dict[str, Any]] = [
        {
            "time": 0.0,
            "event": "begin",
            "invocation": "i",
            "run_name": "test",
            "runs": len(plan.tasks),
            "resume": "",
        }
    ]
    for number, task in enumerate(plan.tasks):
        start = 1.0 + seconds * number
        state = State.FAILED_ERROR if task.step.short == failing else State.DONE
        error = "planned failure" if task.step.short == failing else ""
        found.append({"time": start, "event": "submitted", "key": task.key, "short": task.step.short})
        found.append(
            {
                "time": start + seconds,
                "event": "ended",
                "key": task.key,
                "short": task.step.short,
                "place": task.obs_dir,
                "stem": task.stem,
                "state": state.value,
                "error": error,
                "wall_s": seconds,
                "reused": False,
            }
        )
    return [*found, {"time": 1e4, "event": "end", "status": 0}]


def shown(plan: Plan, listed: list[dict[str, Any]]) -> list[str]:
    stream = io.StringIO()
    with Console(plan, {}, stream=stream) as console:
        for event in listed:
            console(event)
    assert not console.stopped
    return stream.getvalue().splitlines()


def test_without_a_terminal_every_step_has_one_line(plan: Plan) -> None:
    lines = shown(plan, events(plan))
    assert lines[0] == f"test: invocation i, {len(plan.tasks)} runs"
    steps = list(dict.fromkeys(task.step.short for task in plan.tasks))
    assert sorted(line.partition(":")[0] for line in lines[1:]) == sorted(steps)
    assert "BAD: complete: 3/3 runs" in lines


def test_failures_are_told_as_they_come(plan: Plan) -> None:
    lines = shown(plan, events(plan, failing="FF"))
    told = [number for number, line in enumerate(lines) if line.startswith("FAILED_ERROR: FF ")]
    assert len(told) == 3
    assert lines[told[0]] == "FAILED_ERROR: FF 2018-09-25 2320015f: planned failure"
    assert lines.index("FF: complete: 3/3 runs, 3 failed") == told[-1] + 1


def test_many_failures_of_a_step_are_only_counted(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_FAILURES", 1)
    lines = shown(plan, events(plan, failing="LOC"))
    assert sum(line.startswith("FAILED_ERROR: LOC") for line in lines) == 1
    assert sum(line.startswith("LOC: further failures") for line in lines) == 1
    assert "LOC: complete: 6/6 runs, 6 failed" in lines


def test_runs_that_never_started_for_one_reason_are_told_once(plan: Plan) -> None:
    keys = [task.key for task in plan.tasks if task.step.short == "LOC"]
    same = [
        {
            "time": 1.0,
            "event": "ended",
            "key": k,
            "short": "LOC",
            "state": "FAILED_CALIB",
            "error": "no BADPIX",
        }
        for k in keys
    ]
    lines = shown(plan, same)
    assert sum(line.startswith("FAILED_CALIB") for line in lines) == 1


@pytest.mark.parametrize("seed", range(5))
def test_any_order_of_events_gives_the_same_counts(plan: Plan, seed: int) -> None:
    rng = random.Random(seed)
    listed = events(plan, failing="WAVE")[1:]
    listed += rng.sample(listed, 20)
    listed += [{"event": "retry"}, {"event": "lost", "key": "nothing"}, {"event": "new kind"}, {}]
    rng.shuffle(listed)
    console = Console(plan, {}, stream=io.StringIO())
    with console:
        for event in listed:
            console(event)
    assert not console.stopped
    steps = console.tally.steps
    assert console.tally.ended == console.tally.total == len(plan.tasks)
    assert steps["WAVE"].failed == 3 and console.tally.failed == 3
    assert not console.tally.left_s()


def test_a_closed_stream_does_not_disturb(plan: Plan, caplog: pytest.LogCaptureFixture) -> None:
    stream = io.StringIO()
    with Console(plan, {}, stream=stream) as console:
        stream.close()
        for event in events(plan):
            console(event)
    assert console.stopped
    assert [record.message for record in caplog.records] == [
        "the progress display stopped; the reduction goes on"
    ]


def test_an_event_that_makes_no_sense_does_not_disturb(plan: Plan) -> None:
    with Console(plan, {}, stream=io.StringIO()) as console:
        console({"event": "ended", "key": plan.tasks[0].key, "state": "NO_SUCH_STATE", "time": "noon"})
    assert console.stopped


def on_a_terminal(plan: Plan, listed: list[dict[str, Any]]) -> str:
    """What a terminal of 120 x 50 receives."""
    import fcntl
    import struct
    import termios

    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 120, 0, 0))
    received = bytearray()

    def read_all() -> None:
        while True:
            try:
                data = os.read(leader, 65536)
            except OSError:
                return
            if not data:
                return
            received.extend(data)

    reader = threading.Thread(target=read_all)
    reader.start()
    with os.fdopen(follower, "w", encoding="utf-8") as stream:
        with Console(plan, {}, stream=stream) as console:
            for event in listed:
                console(event)
            assert console._live is not None
            console._live.refresh()
        assert not console.stopped
    reader.join(10)
    os.close(leader)
    return received.decode()


def test_a_terminal_shows_bars_failures_and_running_runs(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    listed = events(plan, failing="LOCM")
    half = next(i for i, e in enumerate(listed) if e.get("short") == "FF" and e["event"] == "submitted") + 1
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", on_a_terminal(plan, listed[:half]))
    assert "FAILED_ERROR: LOCM 2018-09-25" in text
    ended = half // 2 - 1
    assert f"{ended} of {len(plan.tasks)} runs ended, 2 failed, 1 handed out, about" in text
    assert "FF 2018-09-25 2320015f" in text
    last = [line for line in text.splitlines() if line.startswith("LOCM")][-1]
    assert "#" * module.BAR in last and "2/2 runs, 2 failed" in last


def test_the_cursor_comes_back_after_an_exception(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    text = on_a_terminal(plan, events(plan)[:3])
    assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l")


# -- time left -------------------------------------------------------------------------------


def tally(slots: int, durations: dict[str, float] | None = None) -> Tally:
    runs = [(f"a{n}", "A", 10.0, State.PLANNED) for n in range(10)]
    runs += [(f"b{n}", "B", 30.0, State.PLANNED) for n in range(4)]
    return Tally.of(runs, durations, slots)


def end(key: str, wall: float, time: float = 1.0, **more: object) -> dict[str, Any]:
    return {"event": "ended", "key": key, "state": "DONE", "wall_s": wall, "time": time, **more}


def test_nothing_is_known_before_the_first_run() -> None:
    assert tally(2).left_s() is None


def test_time_left_comes_from_earlier_durations_and_slots() -> None:
    assert tally(2, {"A": 4.0, "B": 8.0}).left_s() == pytest.approx((10 * 4 + 4 * 8) / 2)


def test_measured_durations_replace_earlier_ones() -> None:
    found = tally(1, {"A": 4.0, "B": 8.0})
    for n in range(5):
        found.take(end(f"a{n}", 2.0))
    mean = (PRIOR_RUNS * 4.0 + 5 * 2.0) / (PRIOR_RUNS + 5)
    assert found.left_s() == pytest.approx(5 * mean + 4 * 8.0)


def test_a_step_never_seen_is_scaled_from_its_declaration() -> None:
    found = tally(1)
    found.take(end("a0", 5.0))
    # Half the declared 10 s: the 30 s of B are taken as 15 s.
    assert found.left_s() == pytest.approx(9 * 5.0 + 4 * 15.0)


def test_parallel_runs_are_found_from_what_is_measured() -> None:
    found = tally(0)
    found.take({"event": "begin", "time": 100.0})
    for n in range(8):
        found.take(end(f"a{n}", 10.0, time=100.0 + 10.0 * (n // 4 + 1)))
    assert found.parallel() == pytest.approx(80.0 / 20.0)


def test_reused_and_failed_runs_are_not_measured() -> None:
    found = tally(1)
    found.take(end("a0", 5.0, reused=True))
    found.take({**end("a1", 50.0), "state": "FAILED_ERROR"})
    assert found.left_s() is None and found.ended == 2


def test_a_continued_invocation_opens_what_failed_before() -> None:
    found = Tally.of([("a", "A", 1.0, State.SKIPPED_EXISTS), ("b", "A", 1.0, State.PLANNED)], {}, 1)
    for event in (
        {"event": "begin", "time": 1.0},
        end("a", 1.0, 2.0),
        {**end("b", 1.0, 3.0), "state": "FAILED_WORKER"},
        {"event": "begin", "time": 4.0, "resume": "i"},
    ):
        found.take(event)
    assert found.ended == 1 and found.steps["A"].ended == {"a": State.DONE} and not found.failed
