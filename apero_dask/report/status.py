"""How a data root stands: the running or last invocation, its driver, failures and what is left."""

from __future__ import annotations

import socket
import sqlite3
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from apero_dask.core.outcome import State
from apero_dask.io.trees import Trees
from apero_dask.report.history import History, RunEnd, RunningRun, invocations, read_history, running_runs
from apero_dask.report.plan_view import duration
from apero_dask.report.summary import STATUS_WORDS, most, state_table
from apero_dask.runfile.suggest import closest
from apero_dask.state.lock import LOCK_FILE, provably_dead, read_lock
from apero_dask.state.planned import PlanRecordError
from apero_dask.state.store import DATABASE, StateError, Store

RUNNING_SHOWN = 12


class UnknownInvocation(Exception):
    """No such invocation; the text names those there are."""


class NothingThere(Exception):
    """Nothing was reduced below this data root."""


@dataclass(frozen=True, slots=True)
class Holder:
    """Driver that holds the lock of the data root."""

    host: str
    pid: int
    job: str
    alive: bool | None
    """None: on another host, not looked at."""

    @property
    def text(self) -> str:
        """Holder in words."""
        job = f", job {self.job}" if self.job else ""
        word = {True: "running", False: "dead, its lock is taken over by the next start", None: "elsewhere"}
        return f"process {self.pid} on {self.host}{job} ({word[self.alive]})"


@dataclass(slots=True)
class FoldedCause:
    """One root cause with what it stopped."""

    key: str
    name: str
    state: State
    error: str
    log: str
    stopped: Counter[str]
    """Number of stopped runs by step."""
    end: RunEnd

    @property
    def alike(self) -> tuple[str, str, str]:
        """What equal causes have in common: state, step, and error without the names of the run."""
        error = self.error
        for name in (self.end.stem, self.end.place):
            error = error.replace(name, "...") if name else error
        return self.state.value, self.end.short, error


@dataclass(slots=True)
class Status:
    """Everything the command shows."""

    root: Path
    """Log tree."""
    history: History
    holder: Holder | None
    running: list[RunningRun]
    causes: list[FoldedCause]
    left_s: float | None
    now: float
    notes: list[str] = field(default_factory=list)

    @property
    def phase(self) -> str:
        """running, ended, stopped (to be continued) or gone (its driver died)."""
        end = self.history.end
        if end:
            return "ended" if end.get("finished") else "stopped"
        if self.holder is not None and self.holder.alive is not False:
            return "running"
        return "gone"


def find_invocation(log: Path, wanted: str = "") -> str:
    """Name of the wanted, or of the newest, invocation.

    Raises
    ------
    NothingThere
        There is none.
    UnknownInvocation
        None has this name; a unique beginning is enough.
    """
    names = invocations(log)
    if not names:
        raise NothingThere(f"nothing was reduced here yet: {log} holds no invocation")
    if not wanted:
        return names[-1]
    found = [name for name in names if name.startswith(wanted)]
    if wanted in names or len(found) == 1:
        return wanted if wanted in names else found[0]
    nearest = closest(wanted, names) or names[-1]
    what = "is the beginning of several names" if found else "is not an invocation"
    raise UnknownInvocation(f"{wanted} {what} below {log}; did you mean {nearest}?")


def lock_holder(log: Path) -> Holder | None:
    """Driver that holds the lock; None if there is none."""
    record = read_lock(log / LOCK_FILE)
    if not record:
        return None
    host = str(record.get("host", ""))
    # A driver elsewhere could only be judged by watching its heartbeat for half a minute.
    here = host == socket.gethostname()
    alive = not provably_dead(log / LOCK_FILE, record) if here else None
    return Holder(host, int(record.get("pid", 0)), str(record.get("job", "")), alive)


def take_status(trees: Trees, wanted: str = "") -> Status:
    """Look at a data root.

    Raises
    ------
    NothingThere, UnknownInvocation
        See :func:`find_invocation`.
    OSError
        The event stream cannot be read.
    """
    log = trees.log
    name = find_invocation(log, wanted)
    notes: list[str] = []
    history = read_history(log, name, _durations(log, notes))
    if history.problem:
        notes.append(history.problem)
    now = time.time()
    holder = lock_holder(log)
    newest = name == invocations(log)[-1]
    if newest and not history.end and holder is not None and holder.alive is not False:
        history.tally.now = max(history.tally.now, now)
    left = history.tally.left_s() if not history.end else None
    causes = [] if history.problem else _causes(history, notes)
    running = running_runs(log) if newest else []
    return Status(log, history, holder if newest else None, running, causes, left, now, notes)


def _durations(log: Path, notes: list[str]) -> dict[str, float]:
    try:
        store = Store(log, write=False)
    except StateError as error:
        if (log / DATABASE).exists():
            notes.append(str(error))
        return {}
    try:
        return store.durations()
    except sqlite3.DatabaseError as error:
        notes.append(f"{store.path}: {error}")
        return {}
    finally:
        store.close()


def _causes(history: History, notes: list[str]) -> list[FoldedCause]:
    bad = [key for key, end in history.ends.items() if end.state.failed or end.state.blocked]
    bad = [key for key in bad if end_is_run(history, key)]
    try:
        roots = history.roots(bad)
    except PlanRecordError as error:
        notes.append(str(error))
        roots = {key: [] for key in bad}
    found = []
    for key, stopped in roots.items():
        end = history.ends[key]
        steps = Counter(history.ends[k].short for k in stopped)
        found.append(FoldedCause(key, end.name, end.state, end.error, end.log, steps, end))
    return sorted(found, key=lambda cause: cause.key)


def end_is_run(history: History, key: str) -> bool:
    """Whether a key is a run or model, and no gate."""
    return not key.startswith(("GATE-", "ORDER-"))


def status_lines(status: Status) -> Iterator[str]:
    """Status as text."""
    history, phase = status.history, status.phase
    name = history.begin.get("run_name", "")
    attempt = f", attempt {history.attempts}" if history.attempts > 1 else ""
    yield f"Invocation     {history.invocation}" + (f" ({name}{attempt})" if name else attempt)
    yield f"State          {_phase_words(status)}"
    if status.holder is not None:
        yield f"Driver         {status.holder.text}"
    rows: list[tuple[str, State | None]] = []
    for step in history.tally.steps.values():
        rows += [(step.short, state) for state in step.ended.values()]
        rows += [(step.short, None)] * step.left
    if rows:
        yield ""
        yield from state_table(rows)
    if status.causes:
        yield ""
        yield f"Failures: {len({cause.alike for cause in status.causes})} cause(s)"
        yield from most(cause_lines(status.causes))
    if status.running:
        yield ""
        word = "Running" if phase == "running" else "Started and not ended when the driver stopped"
        yield f"{word}: {len(status.running)} run(s)"
        lines = [
            f"  {history.name(run.key)} for {duration(max(0.0, status.now - run.since))} "
            f"on {run.host} ({run.pid})"
            for run in status.running
        ]
        yield from most(lines, RUNNING_SHOWN)
    yield ""
    last = history.last
    if last:
        what = " ".join(str(last[k]) for k in ("event", "short", "place", "stem", "state") if last.get(k))
        yield f"Last event     {what}, {duration(max(0.0, status.now - float(last['time'])))} ago"
    if status.left_s is not None and phase == "running" and history.tally.ended < history.tally.total:
        yield f"Left           about {duration(status.left_s)}, if nothing fails"
    for note in status.notes:
        yield f"Note           {note}"


def _phase_words(status: Status) -> str:
    end = status.history.end
    if status.phase == "running":
        return f"running, {status.history.tally.ended} of {status.history.tally.total} runs ended"
    if status.phase == "gone":
        return "not ended and no driver: it was killed; the same command continues"
    number = int(end.get("status", 0))
    why = f" ({end['stopped_by']})" if end.get("stopped_by") else ""
    return f"{status.phase} with exit status {number}{why}: {STATUS_WORDS.get(number, 'unknown')}"


def cause_lines(causes: Sequence[FoldedCause]) -> list[str]:
    """One line per cause with everything it stopped; runs of a step that failed alike are one cause."""
    groups: dict[tuple[str, str, str], list[FoldedCause]] = {}
    for cause in causes:
        groups.setdefault(cause.alike, []).append(cause)
    return [_cause_line(group) for group in groups.values()]


def _cause_line(group: Sequence[FoldedCause]) -> str:
    first = group[0]
    more = f" and {len(group) - 1} other {first.end.short} run(s) alike" if len(group) > 1 else ""
    error = f": {first.error}" if first.error else ""
    log = f" (log {first.log})" if first.log else ""
    stopped = ""
    steps: Counter[str] = sum((cause.stopped for cause in group), Counter())
    if steps:
        counted = ", ".join(f"{short} {number}" for short, number in steps.items())
        stopped = f"; stops {steps.total()} run(s): {counted}"
    return f"  {first.state} {first.name}{more}{error}{log}{stopped}"


def status_record(status: Status) -> dict[str, Any]:
    """Status as a plain mapping for JSON."""
    history, tally = status.history, status.history.tally
    holder = status.holder
    return {
        "invocation": history.invocation,
        "run_name": history.begin.get("run_name", ""),
        "attempts": history.attempts,
        "phase": status.phase,
        "exit_status": history.end.get("status"),
        "stopped_by": history.end.get("stopped_by", ""),
        "driver": None
        if holder is None
        else {"host": holder.host, "pid": holder.pid, "job": holder.job, "alive": holder.alive},
        "runs": tally.total,
        "ended": tally.ended,
        "left_s": None if status.left_s is None else round(status.left_s, 1),
        "steps": {
            step.short: {
                "runs": step.total,
                **dict(sorted(Counter(state.value for state in step.ended.values()).items())),
            }
            for step in tally.steps.values()
        },
        "running": [
            {
                "key": r.key,
                "run": history.name(r.key),
                "host": r.host,
                "pid": r.pid,
                "since": round(r.since, 3),
            }
            for r in status.running
        ],
        "causes": [
            {
                "key": c.key,
                "run": c.name,
                "state": c.state.value,
                "error": c.error,
                "log": c.log,
                "stops": dict(c.stopped),
            }
            for c in status.causes
        ],
        "last_event": history.last,
        "notes": status.notes,
    }
