"""A driver in a process of its own, which can be killed at chosen points.

The points are set by replacing functions in that process; the engine knows nothing of them.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy  # noqa: F401 - loaded once in the fork server, not in every driver

import apero_dask.io.atomic
import apero_dask.io.fitswriter
import apero_dask.state.registry
from apero_dask.engine import worker
from apero_dask.engine.dask_backend import DaskBackend
from apero_dask.engine.driver import Options
from apero_dask.state.lock import LockedError
from apero_dask.state.store import Store
from tests.engine import bed, clusters, standins

POINTS = (
    "while writing",
    "before renames",
    "between renames",
    "between rename and marker",
    "between marker and commit",
    "within commit",
    "after commit",
)
REPORT = "report.json"
LOCKED = 40
"""Exit status of a driver that was refused; not one of the command's own."""
DEFECT = 41

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["tests.engine.driver_process"])


def _die_at(point: str, count: int) -> None:
    """Kill this process the ``count``-th time it comes to a point."""
    left = [count]

    def here() -> None:
        left[0] -= 1
        if left[0] <= 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def before(function: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*args: Any, **values: Any) -> Any:
            here()
            return function(*args, **values)

        return wrapped

    def after(function: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*args: Any, **values: Any) -> Any:
            found = function(*args, **values)
            here()
            return found

        return wrapped

    if point == "while writing":
        write_all = apero_dask.io.fitswriter._write_all

        def half(stream: Any, piece: Any) -> None:
            write_all(stream, piece[: len(piece) // 2])
            here()
            write_all(stream, piece[len(piece) // 2 :])

        apero_dask.io.fitswriter._write_all = half
    elif point == "before renames":
        apero_dask.io.atomic.publish = before(apero_dask.io.atomic.publish)
    elif point == "between renames":
        publish = apero_dask.io.atomic.publish

        def one_by_one(pairs: list[tuple[Path, Path]]) -> None:
            for pair in pairs:
                publish([pair])
                here()

        apero_dask.io.atomic.publish = one_by_one
    elif point == "between rename and marker":
        worker.write_marker = before(worker.write_marker)
    elif point == "between marker and commit":
        worker.write_marker = after(worker.write_marker)
    elif point == "within commit":
        Store.set_verified = before(Store.set_verified)  # type: ignore[method-assign]
    elif point == "after commit":
        Store.add_outcomes = after(Store.add_outcomes)  # type: ignore[method-assign]
    else:
        raise ValueError(point)


def drive(
    root: str,
    *,
    die: tuple[str, int] | None = None,
    workers: int = 0,
    options: Options | None = None,
    command: str = "limited",
) -> None:
    """Reduce a data root and leave with the exit status of the command; 0 workers = in this process."""
    # Test runners and parents may have set handlers of their own.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.setsid()
    if die is not None:
        _die_at(*die)
    report: dict[str, Any] = {}
    # Committed often, so that a death in between finds something committed and something not.
    options = options or Options(commit_s=0.05)
    try:
        if workers:
            with clusters.workers(workers) as client:
                done = bed.reduce(
                    Path(root), DaskBackend(client, standins.run), options=options, command=command
                )
        else:
            done = bed.reduce(Path(root), options=options, command=command)
        report = {
            "status": done.result.status,
            "executed": done.result.executed,
            "stopped_by": done.result.stopped_by,
            "counts": dict(done.counts()),
        }
        status = done.result.status
    except LockedError as error:
        report, status = {"error": str(error)}, LOCKED
    except BaseException:
        report, status = {"error": traceback.format_exc()}, DEFECT
    (Path(root) / f"{REPORT}.{os.getpid()}").write_text(json.dumps(report), encoding="utf-8")
    os._exit(status)


class DriverProcess:
    """A started driver."""

    def __init__(self, root: Path, **values: Any) -> None:
        self.root = root
        self.process = CONTEXT.Process(target=drive, args=(str(root),), kwargs=values)
        self.process.start()

    @property
    def pid(self) -> int:
        """Process number."""
        assert self.process.pid is not None
        return self.process.pid

    def signal(self, number: int, group: bool = False) -> None:
        """Send a signal to the driver, or to it and its workers, as a terminal does."""
        (os.killpg if group else os.kill)(self.pid, number)

    def wait(self, timeout: float = 120.0) -> tuple[int, dict[str, Any]]:
        """(exit status, report); a negative status is the signal that ended it."""
        self.process.join(timeout)
        if self.process.exitcode is None:
            os.killpg(self.pid, signal.SIGKILL)
            self.process.join()
            raise AssertionError(f"the driver did not end within {timeout} s")
        path = self.root / f"{REPORT}.{self.pid}"
        report = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        assert self.process.exitcode != DEFECT, report["error"]
        return self.process.exitcode, report
