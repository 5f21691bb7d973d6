"""Ctrl-C, a second Ctrl-C, and the signal of batch systems: how a driver stops, and that it continues."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest

from apero_dask.engine.driver import Options
from tests.engine import bed
from tests.engine.driver_process import DriverProcess


def wait_until(condition: object, seconds: float = 90.0) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():  # type: ignore[operator]
            return
        time.sleep(0.02)
    raise AssertionError("it did not come to this")


def started(root: Path, key: str) -> bool:
    return bed.executions(root)[key] > 0


def finish(root: Path, reference: bed.Reduced) -> bed.Reduced:
    """The same command again, undisturbed."""
    bed.set_faults(root, {})
    last = bed.reduce(root)
    assert last.result.status == 0
    assert bed.contents(root) == bed.contents(reference.root)
    assert bed.files(root) == bed.files(reference.root)
    assert bed.temporaries(root) == []
    return last


@pytest.mark.parametrize(
    ("workers", "number", "wanted", "reason"),
    [
        (0, signal.SIGINT, 130, "keyboard"),
        (2, signal.SIGINT, 130, "keyboard"),
        (0, signal.SIGUSR1, 75, "TERM"),
    ],
    ids=["in process", "workers", "before the walltime"],
)
def test_interrupt_once_ends_what_runs(
    workers: int, number: signal.Signals, wanted: int, reason: str, root: Path, reference: bed.Reduced
) -> None:
    slow = reference.of("PP", stem="2320020a").key
    bed.set_faults(root, {"PP 2320020a": {"kind": "sleep_once", "seconds": 2.0}})
    driver = DriverProcess(root, workers=workers)
    wait_until(lambda: started(root, slow))
    # Ctrl-C in a terminal reaches the workers as well.
    driver.signal(number, group=number == signal.SIGINT)
    status, report = driver.wait()
    assert status == wanted
    assert report["stopped_by"] == reason
    # The run that was at work came to its end and counts.
    assert reference.plan.by_key[slow].identity() in {m.identity for m in bed.markers(root)}  # type: ignore[union-attr]
    before = sum(bed.executions(root).values())
    last = finish(root, reference)
    assert last.result.executed == bed.RUNS + bed.MODELS - before
    assert set(bed.executions(root).values()) == {1}


@pytest.mark.parametrize(
    ("numbers", "wanted"),
    [((signal.SIGINT, signal.SIGINT), 130), ((signal.SIGTERM,), 75)],
    ids=["interrupt twice", "terminate"],
)
@pytest.mark.parametrize("workers", [0, 2], ids=["in process", "workers"])
def test_stop_now(
    workers: int, numbers: tuple[int, ...], wanted: int, root: Path, reference: bed.Reduced
) -> None:
    slow = reference.of("PP", stem="2320020a").key
    bed.set_faults(root, {"PP 2320020a": {"kind": "sleep_once", "seconds": 120.0}})
    driver = DriverProcess(root, workers=workers, options=Options(commit_s=0.05))
    wait_until(lambda: started(root, slow))
    for number in numbers:
        driver.signal(number, group=number == signal.SIGINT)
        time.sleep(0.5)
    begin = time.monotonic()
    status, report = driver.wait()
    assert status == wanted
    assert report["stopped_by"] == ("keyboard" if wanted == 130 else "TERM")
    assert time.monotonic() - begin < 60, "it waited for the run of two minutes"
    assert reference.plan.by_key[slow].identity() not in {m.identity for m in bed.markers(root)}  # type: ignore[union-attr]
    if not workers:
        finish(root, reference)
