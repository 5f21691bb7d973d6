"""One invocation as its files tell it: saved plan, event stream, marks of running runs.

Reads only, and works beside a running driver, without the state database and after a crash.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from apero_dask.core.outcome import State
from apero_dask.report.tally import Tally
from apero_dask.state.planned import PlanRecordError, SavedPlan, parents_of

EVENTS_FILE = "events.jsonl"
RUNNING = "running"
"""Folder below the log tree with one small file per run that has started and not ended."""


def invocations(log: Path) -> list[str]:
    """Names of the invocations that left an event stream, oldest first.

    Raises
    ------
    OSError
        The folder cannot be read.
    """
    try:
        folders = sorted(log.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []
    return [folder.name for folder in folders if (folder / EVENTS_FILE).is_file()]


def read_events(path: Path) -> Iterator[dict[str, Any]]:
    """Events of a stream in order; a line that a killed driver did not finish is left out.

    Raises
    ------
    OSError
        The file cannot be read.
    """
    with path.open(encoding="utf-8", errors="replace") as stream:
        for line in stream:
            try:
                event = json.loads(line)
            except ValueError:
                continue
            if isinstance(event, dict):
                yield event


@dataclass(frozen=True, slots=True)
class RunEnd:
    """How one run ended."""

    key: str
    short: str
    place: str
    stem: str
    state: State
    error: str = ""
    log: str = ""
    """Below the log tree."""

    @property
    def name(self) -> str:
        """Run in words."""
        return " ".join(text for text in dict.fromkeys((self.short, self.place, self.stem)) if text)


@dataclass(slots=True)
class History:
    """What is known of one invocation."""

    invocation: str
    plan: SavedPlan
    tally: Tally
    ends: dict[str, RunEnd] = field(default_factory=dict)
    """How runs and nodes ended, by key."""
    begin: dict[str, Any] = field(default_factory=dict)
    """Last begin event."""
    end: dict[str, Any] = field(default_factory=dict)
    """Event of the end; empty while it runs, or when it was killed."""
    last: dict[str, Any] = field(default_factory=dict)
    attempts: int = 0
    problem: str = ""
    """Why the plan cannot be read, if it cannot."""
    _records: dict[str, dict[str, Any]] = field(default_factory=dict)

    # -- why runs did not happen ------------------------------------------------------------

    def state(self, key: str) -> State | None:
        """State of a run or node; None if it has not ended."""
        found = self.ends.get(key)
        return found.state if found else None

    def load(self, keys: Iterable[str]) -> None:
        """Read the records of runs and of everything that stopped them, level by level."""
        todo = {key for key in keys if key not in self._records}
        while todo:
            found = self.plan.find(todo)
            self._records.update(found)
            # A key without a record (a stored product, a shipped guess) must not be looked for again.
            self._records.update({key: {} for key in todo if key not in found})
            todo = {
                parent
                for key in found
                if never_started(self.state(key))
                for parent in parents_of(found[key])
                if parent not in self._records and not _usable(self.state(parent))
            }

    def behind(self, key: str) -> list[str]:
        """Runs and nodes that kept a run from starting; call :meth:`load` first."""
        if not never_started(self.state(key)):
            return []
        parents = parents_of(self._records.get(key, {}))
        return [p for p in parents if self._records.get(p) and p in self.ends and not _usable(self.state(p))]

    def roots(self, keys: Iterable[str]) -> dict[str, list[str]]:
        """Runs and nodes stopped by each root cause, every run counted once, in plan order of the causes."""
        listed = list(keys)
        self.load(listed)
        first: dict[str, str] = {}
        folded: dict[str, list[str]] = {}
        for key in listed:
            root = self._first_root(key, first)
            folded.setdefault(root, [])
            if root != key:
                folded[root].append(key)
        return folded

    def _first_root(self, key: str, known: dict[str, str]) -> str:
        chain = [key]
        while chain[-1] not in known:
            behind = self.behind(chain[-1])
            if not behind:
                known[chain[-1]] = chain[-1]
            else:
                chain.append(behind[0])
        root = known[chain[-1]]
        known.update(dict.fromkeys(chain, root))
        return root

    def name(self, key: str) -> str:
        """Run in words."""
        found = self.ends.get(key)
        if found is not None:
            return found.name
        record = self._records.get(key) or self.plan.find([key]).get(key, {})
        return name_of_record(record) if record else key


def name_of_record(record: Mapping[str, Any]) -> str:
    """Planned run in words: step, night or object, and the frame of its first input."""
    if "short" not in record:
        return str(record.get("key", ""))
    place = record.get("object") or record.get("obs_dir", "")
    inputs: list[str] = next(iter(record.get("inputs", {}).values()), [])
    first = inputs[0].rpartition("/")[2].partition(".")[0].partition("_")[0] if inputs else ""
    return " ".join(text for text in (record["short"], place, first) if text)


def never_started(state: State | None) -> bool:
    """Whether a run ended without having started."""
    return state is not None and (state.blocked or state in (State.FAILED_INPUT, State.FAILED_CALIB))


def _usable(state: State | None) -> bool:
    return state is None or state is State.DONE or state.skipped


def read_history(log: Path, invocation: str, durations: Mapping[str, float] | None = None) -> History:
    """History of an invocation; an unreadable plan leaves the counts of planned runs out.

    Raises
    ------
    OSError
        Its event stream cannot be read.
    """
    folder = log / invocation
    plan = SavedPlan(folder)
    problem = ""
    try:
        tally = Tally.of(plan.heads(), durations)
    except PlanRecordError as error:
        problem, tally = str(error), Tally()
    history = History(invocation, plan, tally, problem=problem)
    for event in read_events(folder / EVENTS_FILE):
        _take(history, event)
    return history


def _take(history: History, event: dict[str, Any]) -> None:
    history.tally.take(event)
    history.last = event
    kind = event.get("event")
    if kind == "begin":
        history.begin, history.end = event, {}
        history.attempts += 1
        # What failed or was blocked before is tried again.
        history.ends = {k: e for k, e in history.ends.items() if e.state.finished}
    elif kind == "end":
        history.end = event
    elif kind == "ended":
        key = str(event["key"])
        history.ends[key] = RunEnd(
            key,
            str(event.get("short", "")),
            str(event.get("place", "")),
            str(event.get("stem", "")),
            State(event["state"]),
            str(event.get("error", "")),
            str(event.get("log", "")),
        )


@dataclass(frozen=True, slots=True)
class RunningRun:
    """A run that has started and not ended."""

    key: str
    host: str
    pid: int
    attempt: int
    since: float
    """Unix time of the start, s."""


def running_runs(log: Path) -> list[RunningRun]:
    """Runs that have left a mark of their start, by run key; one that is just being written is left out."""
    found = []
    folder = log / RUNNING
    for path in sorted(folder.glob("*.json")) if folder.is_dir() else ():
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
            since = path.stat().st_mtime
        except (OSError, ValueError):
            # It ended, or began, while we looked.
            continue
        found.append(
            RunningRun(
                path.name.removesuffix(".json"),
                str(record.get("host", "")),
                int(record.get("pid", 0)),
                int(record.get("attempt", 1)),
                since,
            )
        )
    return found
