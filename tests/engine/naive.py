"""A naive executor: the rules of failure restated as one recursion, without queues, events or order.

The state of a run is a function of the states of what it depends on, so it can simply be looked up.
"""

from __future__ import annotations

import hashlib

from apero_dask.core.outcome import State
from apero_dask.core.plan import MISSING, Node, Task
from tests.engine.graphs import Case, product

ENDS = {
    "done": State.DONE,
    "qc": State.QC_FAILED,
    "error": State.FAILED_ERROR,
    "poison": State.FAILED_WORKER,
}


def content(key: str, inputs: list[tuple[str, str]], choices: list[tuple[str, str]]) -> str:
    """What a run makes of its inputs (path, content) and choices (source, content)."""
    return hashlib.sha256(repr((key, inputs, choices)).encode()).hexdigest()


class Naive:
    """States and contents of a case by recursion."""

    def __init__(self, case: Case) -> None:
        self.case = case
        self.states: dict[str, State] = {}
        self.contents: dict[str, str] = {}

    def everything(self) -> dict[str, State]:
        """State of every run and node."""
        return {key: self.state(key) for key in self.case.plan.by_key}

    def state(self, key: str) -> State:
        if key not in self.states:
            item = self.case.plan.by_key[key]
            self.states[key] = self._node(item) if isinstance(item, Node) else self._task(item)
        return self.states[key]

    def usable(self, key: str) -> bool:
        state = self.state(key)
        return state is State.DONE or (state is State.SKIPPED_EXISTS and key not in self.case.failed_markers)

    def judged_bad(self, key: str) -> bool:
        return self.state(key) is State.QC_FAILED or key in self.case.failed_markers

    def _node(self, node: Node) -> State:
        if node.kind == "order":
            return State.DONE
        if node.kind == "gate":
            return State.DONE if all([self.usable(k) for k in node.members]) else State.BLOCKED_MASTER
        for members in (node.members, node.fallback):
            good = [k for k in members if self.usable(k)]
            if good:
                paths = [self.case.plan.by_key[k].outputs()[1][2] for k in good]
                inputs = [(p, self.contents[k]) for p, k in zip(paths, good, strict=True)]
                self.contents[node.key] = content(node.key, inputs, [])
                return ENDS[self.case.fates[node.key]]
        tried = [k for k in (*node.members, *node.fallback) if self.state(k) is not State.BLOCKED_MASTER]
        if tried or not (node.members or node.fallback):
            return State.FAILED_CALIB
        return State.BLOCKED_MASTER

    def _task(self, task: Task) -> State:
        if task.state is State.SKIPPED_EXISTS:
            self.contents[task.key] = "old"
            return State.SKIPPED_EXISTS
        if task.gate and self.state(task.gate) is not State.DONE:
            return State.BLOCKED_MASTER
        read: list[tuple[str, str]] = []
        for argument in task.inputs:
            kept, bad = [], []
            for maker, path in zip(argument.producers, argument.others, strict=True):
                if maker == MISSING:
                    continue
                if self.usable(maker) or (task.options and self.judged_bad(maker)):
                    kept.append((path, self.contents[maker]))
                else:
                    bad.append(maker)
            if not kept and argument.required:
                if argument.kind == "MODEL1":
                    # An empty set is a calibration nobody could provide; a failed run blocks as any other.
                    empty = self.state(bad[0]) is State.FAILED_CALIB
                    return State.FAILED_CALIB if empty else State.BLOCKED
                return State.FAILED_INPUT if all(self.judged_bad(k) for k in bad) else State.BLOCKED
            read += kept
        choices: list[tuple[str, str]] = []
        for selection in task.selections:
            found = [c for c in selection.candidates if not c.source or self.usable(c.source)]
            if found and found[0].source:
                maker = self.case.plan.by_key[found[0].source]
                assert isinstance(maker, Task)
                choices.append((product(maker), self.contents[maker.key]))
            elif found:
                choices.append((found[0].identity, ""))
            elif any(c.source and c.rank == 0 for c in selection.candidates):
                return State.BLOCKED
            elif not selection.optional:
                return State.FAILED_CALIB
            else:
                choices.append(("", ""))
        self.contents[task.key] = content(task.key, read, choices)
        return ENDS[self.case.fates[task.key]]
