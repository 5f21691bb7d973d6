"""The driver: the only process that decides and the only writer of state.

A loop over outcomes: the resolver says what may start, the backend runs it, the store keeps how it ended.
"""

from __future__ import annotations

import heapq
import os
import signal
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from types import FrameType

from apero_dask.core.errors import (
    EXIT_FAILED,
    EXIT_INTERRUPTED,
    EXIT_MASTER,
    EXIT_OK,
    EXIT_STOPPED,
    EXIT_TERMINATED,
)
from apero_dask.core.outcome import State
from apero_dask.core.plan import Node, Plan, Task
from apero_dask.core.products import MASTER
from apero_dask.core.snapshot import Snapshot
from apero_dask.core.work import TaskOutcome, Work
from apero_dask.engine.backend import Backend, Lost
from apero_dask.engine.binding import Binder, Finished
from apero_dask.engine.events import EventSink
from apero_dask.engine.priority import ranks
from apero_dask.engine.worker import started_path, trees_of
from apero_dask.instruments import instrument
from apero_dask.planner.resolve import Progress, Resolver
from apero_dask.state.disk import looked_at
from apero_dask.state.store import Store

MOST_RESIDENT = 20_000
"""Most runs that a backend holds at a time."""
MOST_RETRIES = 2
"""Repetitions after a lost worker or a busy file server."""
COMMIT_RUNS = 200
COMMIT_S = 2.0
"""Outcomes are stored in batches of this many, or after this many seconds."""
LEAST_MEMORY_MB = 400
NO_WORKER_S = 600.0
"""Seconds without any worker after which the reduction cannot be carried on."""


@dataclass(slots=True)
class Account:
    """Attempts of one run."""

    attempt: int = 1
    losses: int = 0
    memory_mb: int = 0
    force: bool = False
    optimistic: bool = False
    last_error: str = ""


@dataclass(slots=True)
class Result:
    """How an invocation ended."""

    states: dict[str, State]
    outcomes: dict[str, TaskOutcome]
    """Outcomes of everything that was executed or looked at."""
    status: int
    finished: bool
    """Every run ended; nothing is left to continue."""
    stopped_by: str = ""
    executed: int = 0


@dataclass(slots=True)
class Options:
    """How the driver goes about it; none of this may change a product."""

    window: int | None = None
    """Most runs resident in the backend; None = enough to keep every slot busy."""
    look_ahead: bool = True
    """Submit runs behind others that have not ended, where the backend can."""
    stop_at_exception: bool = False
    order: Callable[[Plan], Mapping[str, int]] = ranks
    no_worker_s: float = NO_WORKER_S
    most_concurrent: int | None = None
    """Most runs at the same time (CORES on a cluster with more slots)."""
    commit_s: float = COMMIT_S


@dataclass(slots=True)
class Driver:
    """Executes one plan."""

    plan: Plan
    snapshot: Snapshot
    common: Work
    code: Mapping[str, str]
    backend: Backend
    store: Store | None
    events: EventSink
    options: Options = field(default_factory=Options)
    lock_lost: Callable[[], bool] = lambda: False
    resolver: Resolver = field(init=False)
    binder: Binder = field(init=False)
    _flight: dict[str, Account] = field(default_factory=dict)
    _accounts: dict[str, Account] = field(default_factory=dict)
    _ready: list[tuple[int, str]] = field(default_factory=list)
    _queued: set[str] = field(default_factory=set)
    _repairs: dict[str, set[str]] = field(default_factory=dict)
    """Producers that must be computed again, by the run that waits for them."""
    _outcomes: dict[str, TaskOutcome] = field(default_factory=dict)
    _batch: list[tuple[TaskOutcome, str, str, str]] = field(default_factory=list)
    _committed: float = 0.0
    _place: Mapping[str, int] = field(default_factory=dict)
    _ahead: list[str] = field(default_factory=list)
    _cursor: int = 0
    _signals: list[int] = field(default_factory=list)
    _stop: str = ""
    _executed: int = 0
    _idle_since: float | None = None

    def __post_init__(self) -> None:
        markers = self.snapshot.markers
        failed = [
            key
            for key, item in self.plan.by_key.items()
            if item.marker and item.marker in markers and markers[item.marker].state is State.QC_FAILED
        ]
        self.resolver = Resolver(self.plan, failed)
        self.binder = Binder(self.plan, self.snapshot, self.common, self.code)
        for key, item in self.plan.by_key.items():
            if item.marker and item.marker in markers:
                self.binder.finished[key] = Finished.of_marker(markers[item.marker])
        self._place = self.options.order(self.plan)
        self._ahead = sorted(
            (key for key, item in self.plan.by_key.items() if isinstance(item, Task)),
            key=self._place.__getitem__,
        )

    # -- loop -------------------------------------------------------------------------------

    def run(self) -> Result:
        """Execute the plan to its end, or until it is stopped."""
        restore = self._catch_signals()
        self._committed = time.monotonic()
        try:
            self._take(self.resolver.start())
            while not self.resolver.finished and not self._stop:
                self._check_stops()
                self._submit()
                if not self._flight:
                    if self.resolver.finished or self._stop:
                        break
                    raise RuntimeError("the plan cannot go on: runs wait for each other")
                self._receive(0.5)
            if self._stop:
                self._wind_down()
        finally:
            self._commit(force=True)
            restore()
        return self._result()

    def _receive(self, timeout: float) -> None:
        answers = self.backend.wait(timeout)
        if answers:
            self._idle_since = None
        elif self.backend.slots == 0:
            self._idle_since = self._idle_since or time.monotonic()
            if time.monotonic() - self._idle_since > self.options.no_worker_s:
                self._stop = f"no worker for {self.options.no_worker_s:.0f} s"
        for answer in answers:
            if isinstance(answer, Lost):
                self._lost(answer)
            else:
                self._ended(answer)
        self._commit()

    def _catch_signals(self) -> Callable[[], None]:
        """SIGINT once: end what runs, start nothing; twice: stop now.  SIGTERM: stop, to be continued."""
        if threading.current_thread() is not threading.main_thread():
            return lambda: None

        def remember(number: int, _: FrameType | None) -> None:
            self._signals.append(number)

        before = {n: signal.signal(n, remember) for n in (signal.SIGINT, signal.SIGTERM)}
        return lambda: [signal.signal(n, handler) for n, handler in before.items()] and None

    def _check_stops(self) -> None:
        if signal.SIGTERM in self._signals:
            self._stop = "TERM"
        elif signal.SIGINT in self._signals:
            self._stop = "keyboard"
        elif self.lock_lost():
            self._stop = "the lock of the data root was taken away"

    def _wind_down(self) -> None:
        """After a stop: forget what has not started; let what runs end unless told twice."""
        self.events.emit("stopping", reason=self._stop, running=len(self._flight))
        if self._stop == "keyboard":
            keys = [self._dask_key(key) for key in self._flight if not self._has_started(key)]
            self.backend.cancel(keys)
            for key in [key for key in self._flight if self._dask_key(key) in set(keys)]:
                del self._flight[key]
            while (
                self._flight
                and self._signals.count(signal.SIGINT) < 2
                and signal.SIGTERM not in self._signals
            ):
                self._receive(0.2)
        self.backend.cancel([self._dask_key(key) for key in self._flight])
        self._flight.clear()

    # -- starting ---------------------------------------------------------------------------

    def _take(self, progress: Progress) -> None:
        """Follow up what the resolver concluded."""
        for key, state in progress.ended:
            item = self.plan.by_key[key]
            identity = item.identity() if isinstance(item, Task) and state is not State.BLOCKED_STOP else ""
            self._keep(TaskOutcome(key, identity, state, error=self._reason(key, state)))
        for key in progress.ready:
            if key not in self._flight:
                self._queue(key)

    def _queue(self, key: str) -> None:
        if key not in self._queued and key not in self.resolver.states:
            self._queued.add(key)
            heapq.heappush(self._ready, (self._place.get(key, 0), key))

    def _window(self) -> int:
        slots = max(1, self.backend.slots)
        if self.options.most_concurrent is not None:
            slots = min(slots, self.options.most_concurrent)
            if not self.backend.look_ahead or self.options.window is None:
                return slots
        return min(self.options.window or max(64, 8 * slots), MOST_RESIDENT)

    def _submit(self) -> None:
        """Fill the window: first what is ready, then what would be if nothing failed."""
        window = self._window()
        while self._ready and len(self._flight) < window:
            _, key = heapq.heappop(self._ready)
            self._queued.discard(key)
            if key in self.resolver.states or key in self._flight:
                continue
            work = self.binder.resolved(key, self.resolver.bindings[key])
            self._send(key, work, ())
        if not (self.options.look_ahead and self.backend.look_ahead):
            return
        while self._cursor < len(self._ahead) and len(self._flight) < window:
            key = self._ahead[self._cursor]
            self._cursor += 1
            if key in self.resolver.states or key in self._flight or key in self._queued:
                continue
            upstream = self._upstream(key)
            if upstream:
                work = self.binder.optimistic(key)
                if work is not None:
                    self._send(key, work, upstream)

    def _upstream(self, key: str) -> tuple[str, ...]:
        """Runs in flight that a run waits for; empty if it waits for anything else."""
        task = self.plan.by_key[key]
        assert isinstance(task, Task)
        states = self.resolver.states
        if task.gate and states.get(task.gate) is not State.DONE:
            return ()
        needs = [*task.producers(), *task.depends]
        for selection in task.selections:
            if selection.candidates and selection.candidates[0].source:
                needs.append(selection.candidates[0].source)
        flying = []
        for need in dict.fromkeys(needs):
            if need in states:
                if not self.resolver.passed(need):
                    return ()
            elif need in self._flight and isinstance(self.plan.by_key[need], Task):
                flying.append(need)
            else:
                return ()
        return tuple(flying)

    def _send(self, key: str, work: Work, upstream: tuple[str, ...]) -> None:
        account = self._accounts.setdefault(key, Account())
        account.optimistic = bool(upstream)
        account.memory_mb = account.memory_mb or self._memory(key)
        most = self.backend.memory_mb
        memory = min(account.memory_mb, most) if most else account.memory_mb
        self._flight[key] = account
        self.events.emit("submitted", key=key, short=work.short, attempt=account.attempt)
        self.backend.submit(
            replace(work, attempt=account.attempt, memory_mb=memory, force=account.force),
            self._dask_key(key),
            self._place.get(key, 0),
            tuple(self._dask_key(name) for name in upstream),
        )

    def _memory(self, key: str) -> int:
        item = self.plan.by_key[key]
        if isinstance(item, Node):
            return LEAST_MEMORY_MB
        scale = instrument(self.common.instrument).scale
        return max(LEAST_MEMORY_MB, round(item.step.recipe.resources.memory_gb * 1000 * scale))

    def _dask_key(self, key: str) -> str:
        item = self.plan.by_key[key]
        base = item.dask_key if isinstance(item, Task) else key
        account = self._accounts.get(key)
        attempt = account.attempt if account is not None else 1
        # dask remembers keys; a repetition is another task.
        return base if attempt == 1 else f"{base}-{attempt}"

    # -- ending -----------------------------------------------------------------------------

    def _ended(self, outcome: TaskOutcome) -> None:
        key = outcome.key
        account = self._flight.pop(key, None)
        if account is None or key in self.resolver.states:
            return
        if outcome.cause == "deferred":
            account.attempt += 1
            self.events.emit("deferred", key=key)
            if key in self.resolver.bindings:
                self._queue(key)
            return
        if outcome.cause == "damaged":
            self._repair(key, account, outcome)
            return
        if outcome.cause == "storage":
            self._stop = f"storage: {outcome.error}"
            return
        if outcome.cause in ("transient", "memory"):
            self._again(key, account, outcome.error, memory=outcome.cause == "memory")
            return
        self._executed += not outcome.reused
        self._finish(key, outcome)

    def _finish(self, key: str, outcome: TaskOutcome) -> None:
        self._keep(outcome)
        if outcome.outputs:
            item = self.plan.by_key[key]
            self.binder.finished[key] = Finished(
                outcome.identity,
                item.step.tier if isinstance(item, Task) else "night",
                item.obs_dir if isinstance(item, Task) else "",
                item.time if isinstance(item, Task) else 0.0,
                outcome.outputs,
            )
        for waiting in [w for w, producers in self._repairs.items() if key in producers]:
            self._repairs[waiting].discard(key)
            if not self._repairs[waiting]:
                del self._repairs[waiting]
                self._queue(waiting)
        if key in self.resolver.states:
            return
        self._take(self.resolver.record(key, outcome.state))
        item = self.plan.by_key[key]
        if (
            self.options.stop_at_exception
            and outcome.state.failed
            and isinstance(item, Task)
            and not self._stop
        ):
            keys = [self._dask_key(k) for k in self._flight if not self._has_started(k)]
            self.backend.cancel(keys)
            for k in [k for k in self._flight if self._dask_key(k) in set(keys)]:
                del self._flight[k]
            self._ready.clear()
            self._queued.clear()
            self._cursor = len(self._ahead)
            self._take(self.resolver.stop(self._flight))

    def _lost(self, lost: Lost) -> None:
        """A worker is gone: blame the run that had started, repeat the others for free."""
        account = self._flight.pop(lost.key, None)
        if account is None or lost.key in self.resolver.states:
            return
        if self._has_started(lost.key):
            started_path(trees_of(self.common).log, lost.key).unlink(missing_ok=True)
            self._again(lost.key, account, lost.error, memory=True)
        else:
            account.attempt += 1
            self.events.emit("lost", key=lost.key, started=False)
            if lost.key in self.resolver.bindings:
                self._queue(lost.key)
            # A run that was submitted behind others is taken up when the resolver finds it ready.

    def _again(self, key: str, account: Account, error: str, memory: bool) -> None:
        account.losses += 1
        account.last_error = error
        if account.losses > MOST_RETRIES:
            item = self.plan.by_key[key]
            identity = item.identity() if isinstance(item, Task) else ""
            text = f"given up after {account.losses} attempts: {error}"
            self._finish(key, TaskOutcome(key, identity, State.FAILED_WORKER, error=text))
            return
        account.attempt += 1
        if memory:
            account.memory_mb *= 2
        self.events.emit("retry", key=key, attempt=account.attempt, memory_mb=account.memory_mb, error=error)
        if key in self.resolver.bindings:
            self._queue(key)

    def _has_started(self, key: str) -> bool:
        return started_path(trees_of(self.common).log, key).exists()

    def _repair(self, key: str, account: Account, outcome: TaskOutcome) -> None:
        """Compute the producers of damaged inputs again, then the run that noticed."""
        producers = {
            made
            for made, done in self.binder.finished.items()
            if any(o.path in outcome.damaged for o in done.outputs)
        }
        found = {o.path for made in producers for o in self.binder.finished[made].outputs}
        account.losses += 1
        if account.losses > MOST_RETRIES or not set(outcome.damaged) <= found:
            self._finish(
                key,
                replace(
                    outcome,
                    state=State.FAILED_INPUT,
                    cause="",
                    error=outcome.error + "; not made by this plan",
                ),
            )
            return
        account.attempt += 1
        self.events.emit("damaged", key=key, paths=list(outcome.damaged), producers=sorted(producers))
        self._repairs[key] = set(producers)
        for producer in sorted(producers):
            again = self._accounts.setdefault(producer, Account())
            if producer in self._flight:
                continue
            again.force = True
            again.attempt += 1
            binding = self.resolver.bindings.get(producer) or self.resolver.rebind(producer)
            self._send(producer, self.binder.resolved(producer, binding), ())

    # -- records ----------------------------------------------------------------------------

    def _reason(self, key: str, state: State) -> str:
        """Why a run ended without starting, in one line that names the first cause."""
        from apero_dask.report.causes import explain

        return explain(self.plan, self.resolver, key, state)

    def _keep(self, outcome: TaskOutcome) -> None:
        self._outcomes[outcome.key] = replace(outcome, qc=(), details="")
        item = self.plan.by_key[outcome.key]
        short = item.step.short if isinstance(item, Task) else outcome.key.partition("-")[0]
        place = (item.object or item.obs_dir) if isinstance(item, Task) else ""
        stem = item.stem if isinstance(item, Task) else ""
        self.events.outcome(outcome, short, place, stem)
        self._batch.append((outcome, short, place, stem))

    def _commit(self, force: bool = False) -> None:
        due = len(self._batch) >= COMMIT_RUNS or time.monotonic() - self._committed > self.options.commit_s
        if not self._batch or not (due or force):
            return
        if self.store is not None:
            self.store.add_outcomes(self.common.invocation, self._batch)
            written = [(o.path, o.digest) for outcome, *_ in self._batch for o in outcome.outputs]
            self.store.set_verified(looked_at(written, trees_of(self.common)))
        self._batch.clear()
        self._committed = time.monotonic()

    def _result(self) -> Result:
        states = dict(self.resolver.states)
        finished = self.resolver.finished
        return Result(
            states=states,
            outcomes=self._outcomes,
            status=self._status(states),
            finished=finished and not self._stop,
            stopped_by=self._stop,
            executed=self._executed,
        )

    def _status(self, states: Mapping[str, State]) -> int:
        """Exit status; the first that applies of 130, 75, 5, 4, 1."""
        if self._stop == "keyboard":
            return EXIT_INTERRUPTED
        if self._stop == "TERM":
            return EXIT_TERMINATED
        if self._stop:
            return EXIT_STOPPED
        tasks = [(task, states[task.key]) for task in self.plan.tasks if task.key in states]
        if any(t.step.tier == MASTER and (s.failed or s.blocked or s is State.QC_FAILED) for t, s in tasks):
            return EXIT_MASTER
        return EXIT_FAILED if any(s.failed or s.blocked for _, s in tasks) else EXIT_OK


def process_id() -> str:
    """Process id as a header value."""
    return str(os.getpid())
