"""Why a product is not there: the chain of causes from the plan and the events of an invocation."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator

from apero_dask.core.outcome import State
from apero_dask.io.markers import absolute
from apero_dask.io.trees import Trees
from apero_dask.report.history import History, name_of_record, never_started

IDENTIFIER = re.compile(r"\d{7}[a-z]")
DEEPEST = 12
"""Links of a chain shown."""
MOST_COMPARED = 5000
"""Names that an unknown one is compared with letter by letter."""
SIDE_BY_SIDE = 3
"""Causes shown of one run."""


def absence(history: History, trees: Trees, name: str, alive: bool) -> list[str] | None:
    """Why a planned product is not there; None if the invocation did not plan it.

    Parameters
    ----------
    name : str
        Base name or path below the data root.
    alive : bool
        The driver of the invocation is running.

    Raises
    ------
    PlanRecordError
        The plan of the invocation cannot be read.
    """
    found = history.plan.making(name)
    if not found:
        return None
    lines: list[str] = []
    history.load([record["key"] for _, record in found])
    for path, record in found:
        key = record["key"]
        there = absolute(trees, path).exists()
        state = history.state(key) or (
            State(record["state"]) if record["state"] != State.PLANNED.value else None
        )
        run = history.ends[key].name if key in history.ends else name_of_record(record)
        what = "exists without a marker" if there else "is missing"
        lines.append(f"{path} {what}: {_end(history, state, run, alive)}")
        lines += _advice(key, state, alive)
        lines += _chain(history, key, 1, {key})
    return lines


def _end(history: History, state: State | None, run: str, alive: bool) -> str:
    if state is None:
        if alive:
            return f"{run} has not ended yet; invocation {history.invocation} is running"
        why = history.end.get("stopped_by") or "its driver was killed"
        return f"{run} was not reached; invocation {history.invocation} was stopped ({why})"
    return f"{run} ended {state} in invocation {history.invocation}"


def _advice(key: str, state: State | None, alive: bool) -> list[str]:
    if state is State.DONE or (state is not None and state.skipped and state is not State.SKIPPED_USER):
        return [f"  it was removed or damaged since; make it again with: apero-dask retry --only {key} ..."]
    if state is None and not alive:
        return ["  the same command continues"]
    return []


def _chain(history: History, key: str, level: int, seen: set[str]) -> Iterator[str]:
    """The causes behind a run, indented one level a link."""
    space = "  " * level
    end = history.ends.get(key)
    if end is not None and end.error and not never_started(end.state):
        yield f"{space}{end.error}"
    if end is not None and end.log:
        yield f"{space}log {history.plan.path.parent.parent / end.log}"
    if level > DEEPEST:
        return
    behind = [parent for parent in history.behind(key) if parent not in seen]
    if not behind and end is not None and end.error and never_started(end.state):
        yield f"{space}{end.error}"
    for parent in behind[:SIDE_BY_SIDE]:
        seen.add(parent)
        yield f"{space}because {history.name(parent)} ended {history.ends[parent].state}"
        yield from _chain(history, parent, level + 1, seen)
    if len(behind) > SIDE_BY_SIDE:
        yield f"{space}and {len(behind) - SIDE_BY_SIDE} more"


def remarks(history: History, name: str) -> list[str]:
    """Messages of the planner about the frame a product is named after."""
    identifier = IDENTIFIER.search(name)
    if identifier is None:
        return []
    return [text for text in history.plan.messages() if identifier.group() in text]


def similar(name: str, known: Iterable[str], most: int = 3) -> list[str]:
    """Known product names most like an unknown one.

    Names of the same frame come first, then the same kind of product of the other frames; comparing with all
    names of a large archive would take minutes.
    """
    base = name.rpartition("/")[2]
    identifier = IDENTIFIER.search(base)
    frame = identifier.group() if identifier is not None else "/"
    ending = base.partition("_")[2]
    same: set[str] = set()
    kind: set[str] = set()
    others: set[str] = set()
    for path in known:
        other = path.rpartition("/")[2]
        if frame in other:
            same.add(other)
        elif ending and other.endswith(ending) and other.partition("_")[2] == ending:
            kind.add(other)
        elif other[:4] == base[:4] or len(others) < MOST_COMPARED:
            others.add(other)
    if not same and not kind:
        near = sorted(b for b in others if b[:4] == base[:4])
        same = set(near[:MOST_COMPARED] or sorted(others)[:MOST_COMPARED])
    found = difflib.get_close_matches(base, sorted(same), n=most, cutoff=0.6)
    listed = sorted(kind)[:MOST_COMPARED]
    found += [b for b in difflib.get_close_matches(base, listed, n=most, cutoff=0.6) if b not in found]
    return found[:most]
