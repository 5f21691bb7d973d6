"""Workers are killed, stopped and poisoned while they reduce."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from distributed import Client

from apero_dask.core.outcome import State
from apero_dask.core.work import Work
from apero_dask.engine.dask_backend import DaskBackend
from apero_dask.engine.serial import SerialBackend
from tests.engine import bed, standins
from tests.engine.clusters import workers
from tests.engine.test_invariance import assert_same


def pids_by_asking(client: Client) -> list[int]:
    """Process numbers from the workers themselves."""
    return sorted(client.run(os.getpid).values())


class Saboteur(threading.Thread):
    """Does something each time some more runs have been started: never faster than workers recover."""

    def __init__(self, root: Path, deed: Callable[[], bool], runs: Callable[[], int]) -> None:
        super().__init__(daemon=True)
        self._root, self._deed, self._runs = root, deed, runs
        self._end = threading.Event()
        self.deeds = 0
        self.error: Exception | None = None

    def run(self) -> None:
        try:
            due = self._runs()
            while not self._end.wait(0.02):
                if sum(bed.executions(self._root).values()) >= due and self._deed():
                    self.deeds += 1
                    due = sum(bed.executions(self._root).values()) + self._runs()
        except Exception as error:  # looked at by whoever stops the thread
            self.error = error

    def stop(self) -> None:
        self._end.set()
        self.join()
        assert self.error is None, self.error


def children(parent: int) -> list[int]:
    """Worker processes started by this process, found in the process table: the scheduler may be busy."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            stat = (entry / "stat").read_text(encoding="ascii", errors="replace")
            command = (entry / "cmdline").read_bytes()
        except OSError:
            continue
        if int(stat.rpartition(")")[2].split()[1]) == parent and b"spawn_main" in command:
            found.append(int(entry.name))
    return sorted(found)


SLOW_SEEDS = range(102, 120)


@pytest.mark.parametrize("seed", [100, 101, *(pytest.param(s, marks=pytest.mark.slow) for s in SLOW_SEEDS)])
def test_a_random_worker_is_killed_again_and_again(seed: int, root: Path, reference: bed.Reduced) -> None:
    rng = random.Random(seed)
    bed.set_faults(root, {"*": {"kind": "jitter", "seconds": 0.04}})

    def kill() -> bool:
        found = children(os.getpid())
        if found:
            os.kill(rng.choice(found), signal.SIGKILL)
        return bool(found)

    with workers(2) as client:
        saboteur = Saboteur(root, kill, lambda: rng.randint(40, 90))
        saboteur.start()
        done = bed.reduce(root, DaskBackend(client, standins.run))
        saboteur.stop()
    assert saboteur.deeds >= 2
    assert done.result.status == 0, done.counts()
    assert_same(root, reference)
    again = bed.reduce(root, settings=bed.with_skip(*bed.all_shorts(done.plan)))
    assert again.result.executed == 0
    assert bed.temporaries(root) == []


def test_poison(reduced: Path, reference: bed.Reduced) -> None:
    """A run that always kills its worker is given up after three attempts; nobody else is blamed."""
    faults = {"EXTOBJ 2018-09-25 2320031o": {"kind": "kill"}, "LOC 2018-09-26": {"kind": "kill_once"}}
    with workers(2) as client:
        done = bed.rerun(reduced, reference, faults, DaskBackend(client, standins.run))
    poison = done.of("EXTOBJ", stem="2320031o")
    assert done.states[poison.key] is State.FAILED_WORKER
    assert "given up after 3 attempts" in done.result.outcomes[poison.key].error
    assert bed.executions(reduced)[poison.key] == 3
    counts = done.counts()
    assert (counts.pop("FAILED_WORKER"), counts.pop("BLOCKED")) == (1, 4)
    assert set(counts) == {"DONE", "SKIPPED_EXISTS"}
    for task in (t for t in done.plan.tasks if t.step.short == "LOC" and t.obs_dir == "2018-09-26"):
        assert bed.executions(reduced)[task.key] == 2
    assert done.result.status == 1
    assert bed.temporaries(reduced) == []
    # Retried later without the poison: the products of an undisturbed reduction.
    bed.set_faults(reduced, {})
    last = bed.reduce(reduced, settings=bed.with_skip(*bed.all_shorts(done.plan)))
    assert last.result.status == 0
    assert bed.contents(reduced) == bed.contents(reference.root)


def test_memory_is_doubled_after_a_loss(reduced: Path, reference: bed.Reduced) -> None:
    asked: list[tuple[int, int]] = []

    class Noting(SerialBackend):
        def submit(self, work: Work, dask_key: str, priority: int, upstream: Sequence[str]) -> None:
            if work.short == "CCF":
                asked.append((work.attempt, work.memory_mb))
            super().submit(work, dask_key, priority, upstream)

    done = bed.rerun(reduced, reference, {"CCF 2320031o": {"kind": "memory"}}, Noting(standins.run))
    assert done.state("CCF", stem="2320031o") is State.FAILED_WORKER
    first = asked[0][1]
    assert asked == [(1, first), (2, 2 * first), (3, 4 * first)]


def test_stopped_worker_comes_back(root: Path, reference: bed.Reduced) -> None:
    """The scheduler gives a silent worker up; the same run is then alive twice."""
    bed.set_faults(root, {"PP": {"kind": "jitter", "seconds": 0.05}})
    with workers(2, settings={"distributed.scheduler.worker-ttl": "2s"}) as client:
        pids = pids_by_asking(client)

        def pause() -> bool:
            os.kill(pids[0], signal.SIGSTOP)
            time.sleep(5.0)
            os.kill(pids[0], signal.SIGCONT)
            return True

        saboteur = Saboteur(root, pause, lambda: 40 if not saboteur.deeds else 10_000)
        saboteur.start()
        done = bed.reduce(root, DaskBackend(client, standins.run))
        saboteur.stop()
        assert saboteur.deeds == 1
        assert done.result.status == 0, done.counts()
    assert_same(root, reference)
    bed.reduce(root, settings=bed.with_skip(*bed.all_shorts(done.plan)))
    assert bed.temporaries(root) == []


@pytest.mark.parametrize("seed", [1, 2])
def test_transient_errors(seed: int, root: Path, reference: bed.Reduced) -> None:
    bed.set_faults(root, {"*": {"kind": "transient", "share": 0.02, "seed": seed}})
    done = bed.reduce(root)
    assert done.result.status == 0
    repeated = {key: n for key, n in bed.executions(root).items() if n > 1}
    assert repeated, "no error was raised"
    assert_same(root, reference)


def test_transient_errors_that_do_not_end(reduced: Path, reference: bed.Reduced) -> None:
    bed.set_faults(reduced, {"CCF 2320031o": {"kind": "transient", "share": 1.0}})
    others = [s for s in bed.all_shorts(reference.plan) if s != "CCF"]
    bed.forget_executions(reduced)
    done = bed.reduce(reduced, settings=bed.with_skip(*others))
    assert done.state("CCF", stem="2320031o") is State.FAILED_WORKER
    assert done.counts()["DONE"] == 13
    assert bed.executions(reduced)[done.of("CCF", stem="2320031o").key] == 3


def test_scheduler_is_killed(root: Path, reference: bed.Reduced) -> None:
    """A scheduler of its own dies: the reduction cannot be carried on, and the same command continues."""
    bed.set_faults(root, {"*": {"kind": "jitter", "seconds": 0.03}})
    address = root / "scheduler.json"
    command = [sys.executable, "-m", "distributed.cli.dask_scheduler"]
    scheduler = subprocess.Popen(
        [*command, "--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--scheduler-file", str(address)],
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 60
        while not address.exists() and time.monotonic() < deadline:
            time.sleep(0.1)
        worker = subprocess.Popen(
            [
                *(sys.executable, "-m", "distributed.cli.dask_worker", "--scheduler-file", str(address)),
                *("--nthreads", "1", "--no-nanny", "--no-dashboard", "--death-timeout", "5"),
            ],
            stderr=subprocess.DEVNULL,
            cwd=Path(bed.__file__).parents[2],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        with Client(scheduler_file=str(address), timeout="60s") as client:
            client.wait_for_workers(1, timeout=60)
            saboteur = Saboteur(root, lambda: scheduler.kill() is None, lambda: 40)
            saboteur.start()
            done = bed.reduce(root, DaskBackend(client, standins.run, use_resources=False))
            saboteur.stop()
    finally:
        for process in (scheduler, worker):
            process.kill()
            process.wait()
    assert done.result.status == 5
    assert "scheduler" in done.result.stopped_by
    assert not done.result.finished
    assert "FAILED_WORKER" not in done.counts()
    bed.set_faults(root, {})
    last = bed.reduce(root)
    assert last.result.status == 0
    assert_same(root, reference)
