"""The one function that workers execute.

Look for a finished marker, verify what is read, run the recipe, judge, write, leave a marker.  A worker knows
nothing of the plan or of the databases: names, hashes and choices come with the work.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import logging
import os
import resource
import socket
import threading
import time
import traceback
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from apero_dask.core.errors import ContractError, DataError
from apero_dask.core.outcome import ChoiceRecord, Marker, State
from apero_dask.core.work import TaskOutcome, Work
from apero_dask.engine.binding import complete
from apero_dask.io.markers import absolute, marker_path, read_marker, write_marker
from apero_dask.io.trees import Trees

STORAGE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM})
"""The data trees cannot be written: every further run would fail in the same way."""
TRANSIENT = frozenset(
    {
        errno.EIO,
        errno.ESTALE,
        errno.ETIMEDOUT,
        errno.EAGAIN,
        errno.EBUSY,
        errno.ENFILE,
        errno.EMFILE,
        errno.EINTR,
    }
)
"""A file server or the machine was busy; the same run may pass next time."""
THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "NUMBA_NUM_THREADS",
)
RUNNING = "running"
"""Folder below the log tree: one small file per run that has started and not ended."""
CACHE_BYTES = 1_500_000_000
"""Most memory that shared calibrations of a night may take in one worker process."""


class CalibrationCache:
    """Keeps what many runs of a night read, bounded in bytes, keyed by content."""

    def __init__(self, limit: int = CACHE_BYTES) -> None:
        self.limit = limit
        self.size = 0
        self._items: OrderedDict[str, tuple[Any, int]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: str, loader: Callable[[], Any]) -> Any:
        """Value of ``key``, loaded by ``loader()`` when not there; one larger than the limit is not kept."""
        with self._lock:
            found = self._items.get(key)
            if found is not None:
                self._items.move_to_end(key)
                return found[0]
        value = loader()
        nbytes = _bytes_of(value)
        with self._lock:
            if key not in self._items and nbytes <= self.limit:
                self._items[key] = (value, nbytes)
                self.size += nbytes
                while self.size > self.limit:
                    _, (_, gone) = self._items.popitem(last=False)
                    self.size -= gone
        return value


def _bytes_of(value: Any) -> int:
    """Memory of an array, or of the arrays in a mapping or sequence."""
    if isinstance(value, dict):
        return sum(_bytes_of(item) for item in value.values())
    if isinstance(value, (list, tuple)):
        return sum(_bytes_of(item) for item in value)
    return int(getattr(value, "nbytes", 64))


CACHE = CalibrationCache()
_VERIFIED: dict[str, tuple[int, int, str]] = {}
"""Digest of files verified by this process, by path, with size and modification time."""


def trees_of(work: Work) -> Trees:
    """Data trees of a run."""
    return Trees(**{name: Path(path) for name, path in work.trees})


def file_digest(path: Path) -> str:
    """SHA-256 of a file; remembered while size and modification time stay the same."""
    status = path.stat()
    known = _VERIFIED.get(str(path))
    if known is not None and known[:2] == (status.st_size, status.st_mtime_ns):
        return known[2]
    with path.open("rb") as stream:
        found = hashlib.file_digest(stream, "sha256").hexdigest()
    _VERIFIED[str(path)] = (status.st_size, status.st_mtime_ns, found)
    return found


def damaged_files(work: Work, trees: Trees) -> list[str]:
    """Inputs and calibrations that are missing or differ from what their producer wrote."""
    wanted = {f.path: f.digest for _, files in work.inputs for f in files if f.digest}
    wanted |= {f.path: f.digest for c in work.calibrations for f in c.files if f.digest and f.path}
    bad = []
    for path, digest in wanted.items():
        try:
            if file_digest(absolute(trees, path)) != digest:
                bad.append(path)
        except FileNotFoundError:
            bad.append(path)
    return bad


def vanished_inputs(work: Work, trees: Trees) -> list[str]:
    """Inputs without a producer (raw frames, files of other programs) that are not there any more."""
    return [
        f.path
        for _, files in work.inputs
        for f in files
        if not f.digest and not absolute(trees, f.path).exists()
    ]


def choices_of(work: Work) -> tuple[ChoiceRecord, ...]:
    """Calibrations as the marker keeps them."""
    return tuple(
        ChoiceRecord(c.kinds, c.fibre + c.applies_to, c.source, c.content, c.rank, c.fallback)
        for c in work.calibrations
    )


def inputs_of(work: Work) -> tuple[tuple[str, str], ...]:
    """Inputs as the marker keeps them."""
    return tuple((f.path, f.content) for _, files in work.inputs for f in files)


def finished_before(work: Work, trees: Trees) -> Marker | None:
    """Marker that this very run left in the same invocation, with all its outputs in place."""
    if work.force:
        return None
    marker = read_marker(marker_path(trees.log, work.identity))
    if (
        marker is None
        or marker.invocation != work.invocation
        or marker.code != work.code
        or marker.inputs != inputs_of(work)
        or marker.choices != choices_of(work)
    ):
        return None
    for output in marker.outputs:
        path = absolute(trees, output.path)
        try:
            if path.stat().st_size != output.size or file_digest(path) != output.digest:
                return None
        except OSError:
            return None
    return marker


@contextlib.contextmanager
def started_mark(work: Work, trees: Trees) -> Iterator[None]:
    """A small file that says that the run has started: it tells a run that kills its worker from others."""
    path = started_path(trees.log, work.key, work.attempt)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        json.dumps({"host": socket.gethostname(), "pid": os.getpid(), "attempt": work.attempt}),
        encoding="utf-8",
    )
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def started_path(log: Path, key: str, attempt: int) -> Path:
    """Place of the started mark of an attempt: one given up too early must not speak for the next."""
    return log / RUNNING / f"{key}.{attempt}.json"


def peak_memory_mb() -> float:
    """Largest resident size of this process so far, MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024.0


def run_task(work: Work, upstream: Sequence[TaskOutcome] = ()) -> TaskOutcome:
    """Execute one run and say how it ended.

    Expected failures are outcomes, not exceptions: one that leaves this function is a defect of the engine.
    """
    begin, cpu = time.perf_counter(), time.thread_time()
    for name in THREAD_VARIABLES:
        os.environ.setdefault(name, str(work.threads))
    if upstream or any(f.digest.startswith("pending:") for _, files in work.inputs for f in files):
        filled = complete(work, upstream)
        if filled is None:
            return TaskOutcome(work.key, work.identity, State.PLANNED, cause="deferred", attempt=work.attempt)
        work = filled
    trees = trees_of(work)
    outcome = _run(work, trees)
    return replace(
        outcome,
        wall_s=time.perf_counter() - begin,
        cpu_s=time.thread_time() - cpu,
        peak_mb=peak_memory_mb(),
        host=socket.gethostname(),
        pid=os.getpid(),
        attempt=work.attempt,
    )


def _run(work: Work, trees: Trees) -> TaskOutcome:
    def ended(state: State, **values: object) -> TaskOutcome:
        return TaskOutcome(work.key, work.identity, state, **values)  # type: ignore[arg-type]

    log_name = f"{work.invocation}/runs/{work.short}-{work.key}.log"
    try:
        marker = finished_before(work, trees)
        if marker is not None:
            return ended(marker.state, outputs=marker.outputs, reused=True)
        bad = damaged_files(work, trees)
        if bad:
            return ended(
                State.PLANNED, cause="damaged", damaged=tuple(bad), error=f"damaged input: {', '.join(bad)}"
            )
        gone = vanished_inputs(work, trees)
        if gone:
            return ended(State.FAILED_INPUT, error=f"input is gone: {', '.join(gone)}")
        with started_mark(work, trees), run_log(trees.log / log_name, work) as log:
            return replace(_reduce(work, trees, log), log=log_name)
    except DataError as error:
        return ended(State.FAILED_ERROR, error=str(error), log=log_name)
    except ContractError as error:
        return ended(
            State.FAILED_ERROR, error=f"defect of the recipe: {error}", details=traceback.format_exc()
        )
    except MemoryError as error:
        return ended(State.FAILED_WORKER, cause="memory", error=f"out of memory: {error}")
    except OSError as error:
        number = error.errno or 0
        place = f" ({error.filename})" if error.filename else ""
        text = f"{error.strerror or error}{place}"
        if number in STORAGE and not _is_input(work, trees, error.filename):
            return ended(State.FAILED_WORKER, cause="storage", error=text)
        if number in TRANSIENT:
            return ended(State.FAILED_WORKER, cause="transient", error=text)
        return ended(State.FAILED_ERROR, error=text, details=traceback.format_exc(), log=log_name)
    except Exception as error:
        # Whatever a recipe raises is the outcome of its run, with the traceback kept; nothing is hidden.
        text = f"{type(error).__name__}: {error}"
        return ended(State.FAILED_ERROR, error=text, details=traceback.format_exc(), log=log_name)


def _is_input(work: Work, trees: Trees, name: object) -> bool:
    """Whether an error is about a file the run reads: then it says nothing about the trees it writes to."""
    read = [f.path for _, files in work.inputs for f in files]
    return any(str(absolute(trees, path)) == str(name) for path in read)


def _reduce(work: Work, trees: Trees, log: logging.Logger) -> TaskOutcome:
    from apero_dask.instruments import instrument
    from apero_dask.recipes.context import run_recipe

    result = run_recipe(work, trees, instrument(work.instrument), cache=CACHE, log=log)
    state = State.DONE if result.passed else State.QC_FAILED
    write_marker(
        trees.log,
        Marker(
            identity=work.identity,
            short=work.short,
            recipe=work.recipe,
            tier=work.tier,
            variant=work.variant,
            obs_dir=work.obs_dir,
            object=work.object,
            stem=work.stem,
            time=work.time,
            state=state,
            inputs=inputs_of(work),
            planned_inputs=work.planned_inputs,
            choices=choices_of(work),
            outputs=result.outputs,
            code=work.code,
            invocation=work.invocation,
        ),
    )
    failed = [
        f"{test.name} = {test.value} ({test.logic})"
        for test in result.qc
        if not test.passed and not test.informative
    ]
    return TaskOutcome(
        work.key,
        work.identity,
        state,
        outputs=result.outputs,
        qc=result.qc,
        messages=result.messages,
        error="; ".join(failed),
    )


@contextlib.contextmanager
def run_log(path: Path, work: Work) -> Iterator[logging.Logger]:
    """Log of one run; also takes what it printed as an error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    logger = logging.Logger(f"run.{work.key}", logging.DEBUG)
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logger.addHandler(handler)
    logger.info("%s %s %s attempt %d", work.short, work.obs_dir or work.object, work.stem, work.attempt)
    try:
        yield logger
    except BaseException:
        logger.exception("ended with an error")
        raise
    finally:
        logger.removeHandler(handler)
        handler.close()
