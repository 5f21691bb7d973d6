"""Which run may start, with which inputs and calibrations: outcomes in, bound runs out.

A state machine without clock, files or cluster.  Every backend asks it and none decides itself, so that the
choices, and with them all products, are the same for any order of execution, number of workers and restart:
the state of a run is a function of the states of what it depends on, and the graph has no cycle.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from apero_dask.core.outcome import State
from apero_dask.core.plan import MISSING, STORED, Candidate, Inputs, Node, Plan, Selection, Task
from apero_dask.planner.sequences import TRANSMISSIONS


@dataclass(frozen=True, slots=True)
class Binding:
    """What a run really uses, now that the outcomes before it are known."""

    inputs: tuple[tuple[str, tuple[str, ...]], ...]
    """(argument, paths) of the surviving inputs, in canonical order."""
    choices: tuple[Candidate | None, ...]
    """Chosen candidate of every selection, None where an optional one has none."""


@dataclass(frozen=True, slots=True)
class Progress:
    """Consequences of one outcome."""

    ready: tuple[str, ...] = ()
    """Runs and model nodes that can start now, in plan order."""
    ended: tuple[tuple[str, State], ...] = ()
    """Runs and nodes that ended without starting, in plan order."""


@dataclass(slots=True)
class _Choice:
    """Progress of one selection, shared by all runs that have it."""

    selection: Selection
    position: int = 0
    known: bool = False
    chosen: Candidate | None = None
    waiting: list[str] = field(default_factory=list)


class Resolver:
    """Follows a plan from outcome to outcome.

    Parameters
    ----------
    plan : Plan
        The plan; runs it skips count as ended from the start.
    skipped_failed : iterable of str
        Keys of skipped runs whose marker says that quality control failed.
    """

    def __init__(self, plan: Plan, skipped_failed: Iterable[str] = ()) -> None:
        self.plan = plan
        self.states: dict[str, State] = {}
        self.bindings: dict[str, Binding] = {}
        self._order = {key: number for number, key in enumerate(plan.by_key)}
        self._skipped_failed = frozenset(skipped_failed)
        self._after: dict[str, list[str]] = {}
        self._waiting: dict[str, int] = {}
        self._choices: dict[int, _Choice] = {}
        self._pending: dict[str, list[_Choice]] = {}
        for key, item in plan.by_key.items():
            needs = dict.fromkeys(_needs(item))
            for need in needs:
                self._after.setdefault(need, []).append(key)
            self._waiting[key] = len(needs)
            if isinstance(item, Task):
                for selection in item.selections:
                    choice = self._choices.setdefault(id(selection), _Choice(selection))
                    choice.waiting.append(key)
                    self._waiting[key] += 1

    # -- questions --------------------------------------------------------------------------

    def passed(self, key: str) -> bool:
        """Whether the products of an ended run may be used."""
        state = self.states[key]
        if state in (State.SKIPPED_EXISTS, State.SKIPPED_STALE):
            return key not in self._skipped_failed
        return state is State.DONE

    def failed_quality(self, key: str) -> bool:
        """Whether a run ended with products that failed quality control."""
        return self.states[key] is State.QC_FAILED or key in self._skipped_failed

    @property
    def finished(self) -> bool:
        """Every run and node has ended."""
        return len(self.states) == len(self.plan.by_key)

    # -- events -----------------------------------------------------------------------------

    def start(self) -> Progress:
        """First runs; to be called once, before any outcome is recorded."""
        skipped = {
            key: item.state for key, item in self.plan.by_key.items() if item.state is not State.PLANNED
        }
        free = [key for key, count in self._waiting.items() if count == 0 and key not in skipped]
        return self._follow(skipped, free, list(self._choices.values()))

    def record(self, key: str, state: State) -> Progress:
        """Take the outcome of a started run or model node.

        Raises
        ------
        KeyError
            If the plan has no such key.
        ValueError
            If it ended before with another state.
        """
        if key not in self.plan.by_key:
            raise KeyError(key)
        if key in self.states:
            if self.states[key] is not state:
                raise ValueError(f"{key} ended as {self.states[key]} and again as {state}")
            return Progress()
        return self._follow({key: state}, [], [])

    def rebind(self, key: str) -> Binding:
        """Binding of a run that was skipped and has to be computed after all.

        Raises
        ------
        KeyError
            If the plan has no such run.
        ValueError
            If what it depends on does not allow to start it.
        """
        state = self._judge(key)
        if state is not None:
            raise ValueError(f"{key} cannot be computed again: it would end {state}")
        return self.bindings[key]

    def stop(self, started: Iterable[str]) -> Progress:
        """End every run that has neither ended nor started as BLOCKED_STOP."""
        running = set(started)
        ended = [
            (key, State.BLOCKED_STOP)
            for key in self.plan.by_key
            if key not in self.states and key not in running
        ]
        self.states.update(ended)
        return Progress((), tuple(ended))

    # -- machine ----------------------------------------------------------------------------

    def _follow(self, ended: Mapping[str, State], free: list[str], choices: list[_Choice]) -> Progress:
        """Spread outcomes until nothing more follows from them."""
        ready: list[str] = []
        silent: list[tuple[str, State]] = []
        queue: list[str] = []
        self.states.update(ended)
        queue.extend(ended)
        released = list(free)

        def settle(choice: _Choice) -> None:
            if self._advance(choice):
                for key in choice.waiting:
                    release(key)

        def release(key: str) -> None:
            self._waiting[key] -= 1
            if self._waiting[key] == 0 and key not in self.states:
                released.append(key)

        for choice in choices:
            settle(choice)
        while queue or released:
            while released:
                key = released.pop()
                if key in self.states:
                    continue
                state = self._judge(key)
                if state is None:
                    ready.append(key)
                else:
                    self.states[key] = state
                    silent.append((key, state))
                    queue.append(key)
            if queue:
                key = queue.pop()
                for later in self._after.get(key, ()):
                    release(later)
                for choice in self._pending.pop(key, ()):
                    settle(choice)
        ready.sort(key=self._order.__getitem__)
        silent.sort(key=lambda pair: self._order[pair[0]])
        return Progress(tuple(ready), tuple(silent))

    def _advance(self, choice: _Choice) -> bool:
        """Walk down the ranking; False while the next candidate has not ended."""
        if choice.known:
            return False
        candidates = choice.selection.candidates
        while choice.position < len(candidates):
            candidate = candidates[choice.position]
            if candidate.source and candidate.source not in self.states:
                self._pending.setdefault(candidate.source, []).append(choice)
                return False
            if not candidate.source or self.passed(candidate.source):
                choice.chosen = candidate
                break
            choice.position += 1
        choice.known = True
        return True

    def _judge(self, key: str) -> State | None:
        """State of a run that ends without starting, None (and its binding kept) if it can start.

        The order of the tests is fixed, so that several reasons give the same state everywhere.
        """
        item = self.plan.by_key[key]
        if isinstance(item, Node):
            return self._judge_node(item)
        if item.gate and self.states[item.gate] is not State.DONE:
            return State.BLOCKED_MASTER
        inputs: list[tuple[str, tuple[str, ...]]] = []
        keep_failed = any(name == "no_in_qc" and value for name, value in item.options)
        for argument in item.inputs:
            paths, reason = self._surviving(argument, keep_failed)
            if reason is not None and argument.required:
                return reason
            inputs.append((argument.argument, tuple(paths)))
        choices: list[Candidate | None] = []
        for selection in item.selections:
            chosen = self._choices[id(selection)].chosen
            if chosen is None:
                fixed = [c for c in selection.candidates if c.source and c.rank == 0]
                if fixed:
                    return State.BLOCKED
                if not selection.optional:
                    return State.FAILED_CALIB
            choices.append(chosen)
        self.bindings[key] = Binding(tuple(inputs), tuple(choices))
        return None

    def _surviving(self, inputs: Inputs, keep_failed: bool) -> tuple[list[str], State | None]:
        """Paths of the usable inputs of one argument; the state that follows when there are none."""
        kept: list[str] = []
        reason = State.FAILED_INPUT
        for producer, paths in inputs.by_producer():
            if producer == MISSING:
                continue
            if producer == STORED or self.passed(producer) or (keep_failed and self.failed_quality(producer)):
                kept.extend(paths)
            elif isinstance(self.plan.by_key[producer], Node):
                # A model without any transmission is a calibration that nothing could provide.
                empty = self.states[producer] is State.FAILED_CALIB
                reason = State.FAILED_CALIB if empty else State.BLOCKED
            elif not self.failed_quality(producer):
                reason = State.BLOCKED
        return kept, None if kept else reason

    def _judge_node(self, node: Node) -> State | None:
        if node.kind == "order":
            return State.DONE
        if node.kind == "gate":
            return State.DONE if all(self.passed(key) for key in node.members) else State.BLOCKED_MASTER
        for members, stored in ((node.members, node.stored), (node.fallback, node.fallback_stored)):
            paths = list(stored)
            for key in members:
                task = self.plan.by_key[key]
                if self.passed(key) and isinstance(task, Task):
                    paths += [path for kind, _, path in task.outputs() if kind in TRANSMISSIONS]
            if paths:
                self.bindings[node.key] = Binding((("transmissions", tuple(paths)),), ())
                return None
        ended = {self.states[key] for key in (*node.members, *node.fallback)}
        # Behind a closed gate no transmission was tried, so none is missing.
        return State.BLOCKED_MASTER if ended == {State.BLOCKED_MASTER} else State.FAILED_CALIB


def _needs(item: Task | Node) -> list[str]:
    """Keys whose outcome a run or node waits for, selections apart."""
    if isinstance(item, Node):
        return [*item.members, *item.fallback, *([item.after] if item.after else [])]
    return [*item.producers(), *item.depends, *([item.gate] if item.gate else [])]
