"""One driver per data root: who is refused, and when a lock is taken over."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from pathlib import Path

import pytest

from apero_dask.state.lock import DriverLock, LockedError, provably_dead, read_lock
from tests.engine import bed
from tests.engine.driver_process import LOCKED, DriverProcess
from tests.engine.test_signals import wait_until

ELSEWHERE = {"host": "elsewhere", "boot": "b", "pid": 4711, "start": "1", "job": "99", "beat": 5}


def write(path: Path, record: dict[str, object]) -> None:
    temporary = path.with_name("new")
    temporary.write_text(json.dumps(record), encoding="utf-8")
    temporary.replace(path)


def test_second_driver_is_refused_and_told_who_holds_it(root: Path, reference: bed.Reduced) -> None:
    bed.set_faults(root, {"PP 2320020a": {"kind": "sleep_once", "seconds": 1.5}})
    first = DriverProcess(root)
    wait_until(lambda: bed.executions(root)[reference.of("PP", stem="2320020a").key] > 0)
    status, report = DriverProcess(root).wait()
    assert status == LOCKED
    assert f"process {first.pid} on {socket.gethostname()}" in report["error"]
    assert first.wait()[0] == 0
    assert bed.contents(root) == bed.contents(reference.root)
    assert set(bed.executions(root).values()) == {1}


def test_lock_of_a_dead_process_is_taken_over_at_once(reduced: Path, reference: bed.Reduced) -> None:
    # It dies while it registers its outcomes, with the lock in its hands.
    bed.set_faults(reduced, {})
    status, _ = DriverProcess(reduced, die=("after commit", 1)).wait()
    assert status == -signal.SIGKILL
    assert (reduced / "log" / "driver.lock").exists()
    begin = time.monotonic()
    with DriverLock(reduced / "log"):
        assert time.monotonic() - begin < 2.0
    assert not (reduced / "log" / "driver.lock").exists()
    assert list((reduced / "log").glob(".driver.lock*")) == []


def test_number_of_a_dead_process_used_again(tmp_path: Path) -> None:
    with DriverLock(tmp_path) as lock:
        record = dict(read_lock(lock.path) or {})
    write(tmp_path / "driver.lock", {**record, "start": "1"})
    with DriverLock(tmp_path):
        assert (read_lock(tmp_path / "driver.lock") or {})["start"] == record["start"]


def test_other_boot_of_this_machine(tmp_path: Path) -> None:
    write(tmp_path / "driver.lock", {**ELSEWHERE, "host": socket.gethostname(), "boot": "before"})
    with DriverLock(tmp_path):
        pass


def test_heartbeat_on_another_host_stands_still(tmp_path: Path) -> None:
    path = tmp_path / "driver.lock"
    write(path, ELSEWHERE)
    assert provably_dead(path, ELSEWHERE, beat_s=0.02)
    with DriverLock(tmp_path, beat_s=0.02):
        assert (read_lock(path) or {})["pid"] == os.getpid()


@pytest.mark.parametrize("skew", [-1e9, 0.0, 1e9], ids=["behind", "right", "ahead"])
def test_clocks_do_not_matter(skew: float, tmp_path: Path) -> None:
    """The file of a live driver may look decades old or new: only its counter is compared."""
    path = tmp_path / "driver.lock"
    write(path, ELSEWHERE)
    beats = iter(range(6, 100_000))
    original = time.sleep

    def tick(seconds: float) -> None:
        write(path, {**ELSEWHERE, "beat": next(beats)})
        os.utime(path, (max(1.0, time.time() + skew),) * 2)
        original(0.001)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("apero_dask.state.lock.time.sleep", tick)
        with pytest.raises(LockedError, match="process 4711 on elsewhere, job 99"):
            DriverLock(tmp_path, beat_s=0.02).__enter__()


@pytest.mark.parametrize("skew", [-1e9, 1e9], ids=["behind", "ahead"])
def test_dead_holder_with_a_wrong_clock(skew: float, tmp_path: Path) -> None:
    path = tmp_path / "driver.lock"
    write(path, ELSEWHERE)
    os.utime(path, (max(1.0, time.time() + skew),) * 2)
    with DriverLock(tmp_path, beat_s=0.02):
        pass


def test_not_a_lock(tmp_path: Path) -> None:
    (tmp_path / "driver.lock").write_text("something else", encoding="utf-8")
    with pytest.raises(LockedError, match="not a lock file"):
        DriverLock(tmp_path).__enter__()
    assert (tmp_path / "driver.lock").read_text(encoding="utf-8") == "something else"


def test_lock_taken_away_stops_the_driver(root: Path, reference: bed.Reduced) -> None:
    with DriverLock(root / "log", beat_s=0.05) as lock:
        write(lock.path, ELSEWHERE)
        wait_until(lambda: lock.lost)
    # What the other driver holds is left alone.
    assert read_lock(root / "log" / "driver.lock") == ELSEWHERE
