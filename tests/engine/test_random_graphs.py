"""Random graphs with random failures end as the naive executor says, on every path through the engine."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

import pytest

from apero_dask.core.outcome import OutputRecord, State
from apero_dask.core.work import TaskOutcome, Work
from apero_dask.engine.backend import Backend, Lost
from apero_dask.engine.binding import complete
from apero_dask.engine.driver import Driver, Options, Result
from apero_dask.engine.events import EventSink
from apero_dask.engine.invocation import Named, common_work
from apero_dask.engine.serial import SerialBackend
from apero_dask.instruments import instrument
from apero_dask.io.trees import find_trees
from tests.engine.graphs import Case, random_case
from tests.engine.naive import ENDS, Naive, content

GRAPHS = 2000
CHUNKS = 10


class Instant:
    """Runs a case in no time: the fate of a run says how it ends."""

    def __init__(self, case: Case) -> None:
        self.case = case
        self.executed: dict[str, int] = {}
        self.contents: dict[str, str] = {}

    def __call__(self, work: Work, upstream: Sequence[TaskOutcome] = ()) -> TaskOutcome:
        pending = any(f.digest.startswith("pending:") for _, files in work.inputs for f in files)
        if upstream or pending:
            filled = complete(work, upstream)
            if filled is None:
                return TaskOutcome(
                    work.key, work.identity, State.PLANNED, cause="deferred", attempt=work.attempt
                )
            work = filled
        self.executed[work.key] = self.executed.get(work.key, 0) + 1
        inputs = [(f.path, _short(f.content)) for _, files in work.inputs for f in files]
        choices = [
            (c.files[0].path, _short(c.files[0].content)) if c.files else (c.source, "")
            for c in work.calibrations
        ]
        made = content(work.key, inputs, choices)
        state = ENDS[self.case.fates[work.key]]
        if state.failed:
            return TaskOutcome(work.key, work.identity, state, error="planned", attempt=work.attempt)
        self.contents[work.key] = made
        outputs = tuple(OutputRecord(k, f, p, 1, f"d{made}", made) for k, f, p in work.outputs)
        return TaskOutcome(work.key, work.identity, state, outputs, attempt=work.attempt)


def _short(text: str) -> str:
    """Products of earlier invocations count as one content."""
    return "old" if text.startswith("old") else text


class Unreliable:
    """Look-ahead backend that completes in random order and loses runs, like a cluster in trouble."""

    look_ahead = True
    in_process = False
    memory_mb = 0

    def __init__(self, case: Case, runner: Instant, seed: int) -> None:
        self.rng = random.Random(seed)
        self.case, self.runner = case, runner
        self.slots = self.rng.randint(1, 8)
        self.losses = self.rng.choice([0.0, 0.05, 0.3])
        self.waiting: dict[str, tuple[Work, tuple[str, ...]]] = {}
        self.results: dict[str, TaskOutcome] = {}
        self.started: set[tuple[str, int]] = set()
        self.blamed: dict[str, int] = {}
        self.submitted = 0
        self.ahead = 0

    def submit(self, work: Work, dask_key: str, priority: int, upstream: Sequence[str]) -> None:
        assert dask_key not in self.waiting
        assert dask_key not in self.results, f"{dask_key} was used before"
        assert all(key in self.waiting or key in self.results for key in upstream)
        self.submitted += 1
        self.ahead += bool(upstream)
        self.waiting[dask_key] = (work, tuple(upstream))

    def wait(self, timeout: float) -> list[TaskOutcome | Lost]:
        answers: list[TaskOutcome | Lost] = []
        for _ in range(self.rng.randint(0, self.slots)):
            free = [k for k, (_, before) in self.waiting.items() if all(b in self.results for b in before)]
            if not free:
                break
            key = self.rng.choice(free)
            work, before = self.waiting.pop(key)
            upstream = [self.results[b] for b in before]
            ready = not upstream or complete(work, upstream) is not None
            if self.case.fates[work.key] == "poison" and ready:
                self.started.add((work.key, work.attempt))
                answers += self._lose(key, work)
            elif self.rng.random() < self.losses:
                # A run may be blamed twice without being given up.
                if self.rng.random() < 0.4 and self.blamed.get(work.key, 0) < 2:
                    self.blamed[work.key] = self.blamed.get(work.key, 0) + 1
                    self.started.add((work.key, work.attempt))
                answers += self._lose(key, work)
            else:
                self.results[key] = self.runner(work, upstream)
                answers.append(self.results[key])
        return answers

    def _lose(self, key: str, work: Work) -> list[Lost]:
        """What was submitted behind a lost run is lost with it."""
        lost = [Lost(key, work.key, "worker died")]
        for later, (other, before) in list(self.waiting.items()):
            if key in before and later in self.waiting:
                del self.waiting[later]
                lost += self._lose(later, other)
        return lost

    def cancel(self, dask_keys: Sequence[str]) -> None:
        for key in dask_keys:
            self.waiting.pop(key, None)

    def close(self) -> None:
        self.waiting.clear()


class Watched(Driver):
    """Knows from the backend which runs had started; there are no files in these tests."""

    def _has_started(self, key: str) -> bool:
        started = getattr(self.backend, "started", set())
        return (key, self._flight[key].attempt) in started


def execute(case: Case, backend: Backend, place: Path, **values: object) -> Result:
    trees = find_trees(str(place))
    common = common_work(Named("i", "2026-01-01T00:00:00", ""), instrument("SPIROU"), trees)
    driver = Watched(
        case.plan,
        case.snapshot,
        common,
        {},
        backend,
        None,
        EventSink(),
        Options(**values),  # type: ignore[arg-type]
    )
    return driver.run()


def compare(case: Case, result: Result, runner: Instant, name: str) -> None:
    naive = Naive(case)
    wanted = naive.everything()
    assert result.states == wanted, f"graph {case.seed}, {name}"
    for key, made in runner.contents.items():
        assert made == naive.contents[key], f"graph {case.seed}, {name}: {key} used other inputs"
    assert all(n == 1 for n in runner.executed.values()), f"graph {case.seed}, {name}"
    masters = [t for t in case.plan.tasks if t.step.tier == "master"]
    if any(not naive.usable(t.key) for t in masters):
        status = 4
    else:
        status = int(any(wanted[t.key].failed or wanted[t.key].blocked for t in case.plan.tasks))
    assert result.status == status, f"graph {case.seed}, {name}"


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_states_and_choices_agree_with_the_naive_executor(chunk: int, tmp_path: Path) -> None:
    seen: set[State] = set()
    ahead = submitted = 0
    for seed in range(chunk, GRAPHS, CHUNKS):
        case = random_case(seed)
        runner = Instant(case)
        result = execute(case, SerialBackend(runner), tmp_path)
        compare(case, result, runner, "serial")
        seen |= set(result.states.values())
        runner = Instant(case)
        backend = Unreliable(case, runner, seed)
        window = random.Random(seed).choice([None, None, None, 3, 10])
        result = execute(case, backend, tmp_path, window=window)
        compare(case, result, runner, f"unreliable, window {window}")
        ahead += backend.ahead
        submitted += backend.submitted
    wanted = {State.DONE, State.QC_FAILED, State.FAILED_INPUT, State.FAILED_CALIB, State.FAILED_ERROR}
    wanted |= {State.FAILED_WORKER, State.SKIPPED_EXISTS, State.BLOCKED, State.BLOCKED_MASTER}
    assert seen == wanted
    assert ahead > submitted / 10, "the optimistic path was hardly taken"


def test_the_naive_executor_tells_graphs_apart() -> None:
    """A comparison that cannot fail would prove nothing: other fates give other states and contents."""
    for seed in range(50):
        case = random_case(seed)
        before = Naive(case)
        done = [key for key, state in before.everything().items() if state is State.DONE]
        changed = next((key for key in done if key in before.contents), None)
        if changed is None:
            continue
        case.fates[changed] = "error"
        assert Naive(case).everything() != before.states
