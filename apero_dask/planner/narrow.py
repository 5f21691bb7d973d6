"""Runs again a chosen few runs of a plan: everything else keeps what it has."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from apero_dask.core.outcome import Marker, State
from apero_dask.core.plan import Node, Plan, Task
from apero_dask.core.snapshot import Snapshot
from apero_dask.planner.order import check_acyclic, optimistic_edges
from apero_dask.planner.skip import node_identity
from apero_dask.runfile.suggest import closest

FAILED = "failed"
"""Word that stands for every run that failed or was blocked the last time."""


class SelectionError(Exception):
    """The runs cannot be run again by themselves; the text says why and what to do."""


@dataclass(frozen=True, slots=True)
class Narrowing:
    """What was asked for, and the runs that go with it."""

    words: tuple[str, ...]
    """Short names, run keys, or ``failed``."""
    descendants: bool
    """Also everything that depends on them."""


@dataclass(frozen=True, slots=True)
class Narrowed:
    """What is left of a plan."""

    keys: tuple[str, ...]
    """Runs and models to be executed, in plan order."""
    kept: int
    """Finished runs that depend on them and keep what they have."""


def chosen_keys(plan: Plan, words: Iterable[str], last: Mapping[str, State]) -> list[str]:
    """Keys of the runs that the words name, in plan order.

    Parameters
    ----------
    last : mapping
        How runs ended the last time, by run identity.

    Raises
    ------
    SelectionError
        A word names nothing, or nothing failed.
    """
    shorts = {task.step.short for task in plan.tasks}
    chosen: set[str] = set()
    for word in words:
        if word.lower() == FAILED:
            found = [task.key for task in plan.tasks if _failed(last.get(task.identity()))]
            if not found:
                raise SelectionError("no run of this plan failed or was blocked the last time")
        elif word.upper() in shorts:
            found = [task.key for task in plan.tasks if task.step.short == word.upper()]
        elif word in plan.by_key and isinstance(plan.by_key[word], Task):
            found = [word]
        else:
            nearest = closest(word, [*shorts, *(task.key for task in plan.tasks)])
            hint = f"did you mean {nearest}?" if nearest else f"short names are {', '.join(sorted(shorts))}"
            raise SelectionError(f"{word} is neither a step nor a run key of this plan ({hint})")
        chosen.update(found)
    return [task.key for task in plan.tasks if task.key in chosen]


def _failed(state: State | None) -> bool:
    return state is not None and (state.failed or state.blocked)


def dependants(plan: Plan, keys: Collection[str], snapshot: Snapshot) -> set[str]:
    """Everything that uses what the given runs make, themselves included.

    That is what would use it if nothing failed, and what did use it according to its marker.  Gates and
    orders carry no data.
    """
    reached = set(keys)
    identities = {item.identity() for key in keys if isinstance(item := plan.by_key[key], Task)}
    for key in check_acyclic(plan):
        item = plan.by_key[key]
        if key in reached or (isinstance(item, Node) and item.kind != "model"):
            continue
        marker = snapshot.markers.get(identity_of(item, plan))
        used = {choice.source for choice in marker.choices} if marker is not None else set()
        if used & identities or any(before in reached for before in optimistic_edges(item)):
            reached.add(key)
            identities.add(identity_of(item, plan))
    return reached


def identity_of(item: Task | Node, plan: Plan) -> str:
    """Run identity of a run or model."""
    return item.identity() if isinstance(item, Task) else node_identity(item, plan)


def narrow(
    plan: Plan, snapshot: Snapshot, wanted: Narrowing, last: Mapping[str, State], resume: str
) -> Narrowed:
    """Leave only the chosen runs to be executed; changes the states of the plan.

    Every other run counts as finished with what its marker names, whatever ``SKIP_`` says; without a marker
    it is left out, as after the failure it ended with.

    Parameters
    ----------
    last : mapping
        How runs ended the last time, by run identity.
    resume : str
        Invocation that is continued: what it finished is not repeated.

    Raises
    ------
    SelectionError
        See :func:`chosen_keys`; or a chosen run needs another one that has neither finished nor failed.
    """
    keys = chosen_keys(plan, wanted.words, last)
    after = dependants(plan, keys, snapshot)
    again = after if wanted.descendants else set(keys)
    left: list[str] = []
    for key, item in plan.by_key.items():
        if isinstance(item, Node) and item.kind != "model":
            continue
        marker = _usable(snapshot, identity_of(item, plan))
        if key in again and not (marker is not None and resume and marker.invocation == resume):
            item.state, item.marker = State.PLANNED, ""
            left.append(key)
        elif marker is not None:
            item.state, item.marker = State.SKIPPED_EXISTS, marker.identity
        else:
            item.state, item.marker = State.SKIPPED_USER, ""
    for key in left:
        _check_ready(plan, key, last)
    kept = sum(plan.by_key[key].state is State.SKIPPED_EXISTS for key in after - again)
    return Narrowed(tuple(left), kept)


def _usable(snapshot: Snapshot, identity: str) -> Marker | None:
    marker = snapshot.markers.get(identity)
    if marker is None or any(output.path in snapshot.damaged for output in marker.outputs):
        return None
    return marker


def _check_ready(plan: Plan, key: str, last: Mapping[str, State]) -> None:
    """A run must not get other inputs or calibrations only because those it should have were never made."""
    item = plan.by_key[key]

    def is_open(before: str) -> bool:
        other = plan.by_key[before]
        return other.state is State.SKIPPED_USER and not _failed(last.get(identity_of(other, plan)))

    if isinstance(item, Node):
        needed = [k for k in item.members if is_open(k)]
    else:
        needed = [k for k in item.producers() if is_open(k)]
        for selection in item.selections:
            for candidate in selection.candidates:
                if candidate.source and is_open(candidate.source):
                    needed.append(candidate.source)
                elif not candidate.source or plan.by_key[candidate.source].state is not State.SKIPPED_USER:
                    break
    if needed:
        first = plan.by_key[needed[0]]
        name = f"{first.step.short} {first.key}" if isinstance(first, Task) else first.key
        mine = f"{item.step.short} {key}" if isinstance(item, Task) else key
        raise SelectionError(
            f"{mine} needs {len(needed)} run(s) that have neither finished nor failed (first: {name}); "
            "name them with --only too, or run apero_processing"
        )
