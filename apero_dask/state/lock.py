"""One driver per data root: a lock file with a heartbeat.

A second driver is refused with the name of the first.  A lock is taken over only when its holder is provably
dead: on the same host its process is gone; on another host its heartbeat, a counter and not a time, has
stood still while we watched, so that clocks that disagree do no harm.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Any

LOCK_FILE = "driver.lock"
BEAT_S = 5.0
WATCHED_BEATS = 6
"""A heartbeat that stands still for this many intervals has stopped for good."""


class LockedError(Exception):
    """Another driver holds the data root; the text says who."""


def _boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


def _start_time(pid: int) -> str:
    """Start time of a process in clock ticks since boot, which tells a reused number from the old process."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""
    return text.rpartition(")")[2].split()[19]


def _holder() -> dict[str, Any]:
    return {
        "host": socket.gethostname(),
        "boot": _boot_id(),
        "pid": os.getpid(),
        "start": _start_time(os.getpid()),
        "job": os.environ.get("SLURM_JOB_ID", os.environ.get("PBS_JOBID", "")),
    }


def read_lock(path: Path) -> dict[str, Any] | None:
    """Content of a lock file; None if there is none, an empty mapping if it cannot be understood."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


def provably_dead(path: Path, record: dict[str, Any], beat_s: float = BEAT_S) -> bool:
    """Whether the holder of a lock is gone; watches the heartbeat of one on another host for a while."""
    if record.get("host") == socket.gethostname():
        if record.get("boot") and record["boot"] != _boot_id():
            return True
        return _start_time(int(record.get("pid", 0))) != record.get("start")
    seen = record.get("beat")
    deadline = time.monotonic() + WATCHED_BEATS * beat_s
    while time.monotonic() < deadline:
        time.sleep(beat_s / 2)
        now = read_lock(path)
        if now is None:
            return True
        if now.get("beat") != seen:
            return False
    return True


class DriverLock:
    """Context manager that holds the lock of a data root.

    Raises
    ------
    LockedError
        On entering, if another driver is alive.
    """

    def __init__(self, log: Path, beat_s: float = BEAT_S) -> None:
        self.path = log / LOCK_FILE
        self.beat_s = beat_s
        self.lost = False
        """The file was taken away: nothing more may be written."""
        self._record = {**_holder(), "beat": 0}
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> DriverLock:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        while not self._create():
            record = read_lock(self.path)
            if record is None:
                continue
            if not record:
                raise LockedError(
                    f"{self.path} is not a lock file of this program; remove it if no reduction is running"
                )
            if not provably_dead(self.path, record, self.beat_s):
                job = f", job {record['job']}" if record.get("job") else ""
                raise LockedError(
                    f"the data root is in use by process {record.get('pid')} on {record.get('host')}{job} "
                    f"({self.path}); wait for it to end or stop it"
                )
            self._set_aside(record)
        self._thread = threading.Thread(target=self._beat, name="driver-lock", daemon=True)
        self._thread.start()
        return self

    def _create(self) -> bool:
        """Create the file with its content in one step; False if it is there."""
        temporary = self.path.with_name(f".{LOCK_FILE}.{socket.gethostname()}.{os.getpid()}")
        temporary.write_text(json.dumps(self._record), encoding="utf-8")
        try:
            os.link(temporary, self.path)
        except FileExistsError:
            return False
        finally:
            temporary.unlink(missing_ok=True)
        return True

    def _set_aside(self, record: dict[str, Any]) -> None:
        """Move a dead lock away; of several drivers that try, one moves it and the others look again."""
        aside = self.path.with_name(f".{LOCK_FILE}.dead.{socket.gethostname()}.{os.getpid()}")
        with contextlib.suppress(FileNotFoundError):
            self.path.rename(aside)
            moved = read_lock(aside)
            if moved is not None and {**moved, "beat": 0} != {**record, "beat": 0}:
                # Another driver had taken over in between: give its lock back.
                with contextlib.suppress(FileExistsError):
                    os.link(aside, self.path)
            aside.unlink(missing_ok=True)

    def _beat(self) -> None:
        while not self._stop.wait(self.beat_s):
            current = read_lock(self.path)
            if current is None or any(
                current.get(k) != self._record[k] for k in ("host", "boot", "pid", "start")
            ):
                self.lost = True
                return
            self._record["beat"] += 1
            temporary = self.path.with_name(f".{LOCK_FILE}.beat.{os.getpid()}")
            with contextlib.suppress(OSError):
                # A full disk must not end the reduction here; it will be reported where products are written.
                temporary.write_text(json.dumps(self._record), encoding="utf-8")
                temporary.replace(self.path)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        if not self.lost:
            self.path.unlink(missing_ok=True)
