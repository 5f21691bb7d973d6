"""The driver is killed, and the same command continues."""

from __future__ import annotations

import random
import signal
import time
from pathlib import Path

import pytest

from tests.engine import bed
from tests.engine.driver_process import POINTS, DriverProcess
from tests.engine.test_invariance import assert_same

RUN_POINTS = POINTS[:5]
"""Points that every run passes; the others are passed once a commit."""


def deaths(seed: int, count: int) -> list[tuple[str, int]]:
    """Points at which successive drivers die, and how often each gets there before."""
    rng = random.Random(seed)
    points = [POINTS[i % len(POINTS)] for i in range(count)]
    rng.shuffle(points)
    return [(p, rng.randint(1, 60 if p in RUN_POINTS else 3)) for p in points]


@pytest.mark.parametrize(
    "seed", [11, pytest.param(12, marks=pytest.mark.slow), pytest.param(13, marks=pytest.mark.slow)]
)
def test_ten_deaths_in_a_row(seed: int, root: Path, reference: bed.Reduced) -> None:
    """Thirty points with the slow seeds; every driver continues what the one before left."""
    died = 0
    for point, count in deaths(seed, 10):
        status, _ = DriverProcess(root, die=(point, count)).wait()
        died += status == -signal.SIGKILL
        assert status in (-signal.SIGKILL, 0), (point, count)
    assert died >= 8, "too few drivers lived long enough to be killed"
    last = bed.reduce(root)
    assert last.result.status == 0
    assert_same(root, reference)
    assert bed.temporaries(root) == []
    # Only what a driver was busy with when it died is computed twice.
    repeated = sum(n - 1 for n in bed.executions(root).values())
    assert repeated <= died
    bed.forget_executions(root)
    again = bed.reduce(root, settings=bed.with_skip(*bed.all_shorts(last.plan)))
    assert again.result.executed == 0
    assert again.counts() == {"SKIPPED_EXISTS": bed.RUNS}
    assert not bed.executions(root)


@pytest.mark.parametrize(
    "seed", [21, pytest.param(22, marks=pytest.mark.slow), pytest.param(23, marks=pytest.mark.slow)]
)
def test_death_with_workers_at_work(seed: int, root: Path, reference: bed.Reduced) -> None:
    rng = random.Random(seed)
    bed.set_faults(root, {"*": {"kind": "jitter", "seconds": 0.05}})
    driver = DriverProcess(root, workers=2)
    _wait_for_runs(root, rng.randint(20, 150))
    driver.signal(signal.SIGKILL)
    assert driver.wait()[0] == -signal.SIGKILL
    # Workers notice within moments that their parent is gone; the lock is taken over at once.
    finished = len(bed.markers(root))
    last = bed.reduce(root)
    assert last.result.status == 0
    assert last.result.executed <= bed.RUNS + bed.MODELS - finished
    assert_same(root, reference)
    assert bed.temporaries(root) == []


def test_temporary_files_of_the_dead_are_removed(root: Path) -> None:
    status, _ = DriverProcess(root, die=("between renames", 40)).wait()
    assert status == -signal.SIGKILL
    status, _ = DriverProcess(root, die=("while writing", 30)).wait()
    assert status == -signal.SIGKILL
    assert bed.temporaries(root), "nothing was left to be removed"
    # The next driver tidies up before its first run; it dies once that one has left its marker.
    status, _ = DriverProcess(root, die=("between marker and commit", 1)).wait()
    assert status == -signal.SIGKILL
    assert bed.temporaries(root) == []


def _wait_for_runs(root: Path, number: int) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        if sum(bed.executions(root).values()) >= number:
            return
        time.sleep(0.01)
    raise AssertionError(f"fewer than {number} runs were started")
