"""The driver: the only process that decides and the only writer of state.

A loop over outcomes: the resolver says what may start, the backend runs it, the journal keeps how it ended.
"""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from apero_dask.core.outcome import State
from apero_dask.core.plan import Plan, Task
from apero_dask.core.snapshot import Snapshot
from apero_dask.core.work import TaskOutcome, Work
from apero_dask.engine.backend import Backend, BackendLost, Lost
from apero_dask.engine.binding import Binder
from apero_dask.engine.events import EventSink
from apero_dask.engine.journal import Journal
from apero_dask.engine.ledger import Account, Options, Result, exit_status
from apero_dask.engine.leftovers import clear_leftovers
from apero_dask.engine.lookahead import LookAhead
from apero_dask.engine.made import Finished
from apero_dask.engine.needs import memory_mb
from apero_dask.engine.repairs import Repairs
from apero_dask.engine.stopping import StopNow, StopSignals
from apero_dask.engine.unmarked import unmarked
from apero_dask.engine.worker import started_path, trees_of
from apero_dask.instruments import instrument
from apero_dask.planner.resolve import Progress, Resolver
from apero_dask.state.store import Store

MOST_RESIDENT = 20_000
"""Most runs that a backend holds at a time."""
MOST_RETRIES = 2
"""Repetitions after a lost worker or a busy file server, and repairs of the inputs of one run."""


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
    journal: Journal = field(init=False)
    repairs: Repairs = field(init=False)
    signals: StopSignals = field(default_factory=StopSignals)
    _flight: dict[str, Account] = field(default_factory=dict)
    _accounts: dict[str, Account] = field(default_factory=dict)
    """Attempts of runs that did not simply end with their first one."""
    _ready: list[tuple[int, str]] = field(default_factory=list)
    _queued: set[str] = field(default_factory=set)
    _place: Mapping[str, int] = field(default_factory=dict)
    _ahead: LookAhead = field(init=False)
    _sent: int = 0
    _stop: str = ""
    _halted: bool = False
    """STOP_AT_EXCEPTION has struck: what runs may end, nothing else starts."""
    _worker_lost: bool = False
    _executed: int = 0
    _idle_since: float | None = None
    _scale: float = 1.0

    def __post_init__(self) -> None:
        markers = self.snapshot.markers
        failed = [
            key
            for key, item in self.plan.by_key.items()
            if item.marker and item.marker in markers and markers[item.marker].state is State.QC_FAILED
        ]
        self.resolver = Resolver(self.plan, failed)
        self.binder = Binder(self.plan, self.snapshot, self.common, self.code)
        self.journal = Journal(self.plan, self.common, self.store, self.events, self.options.commit_s)
        self.repairs = Repairs(self.plan)
        for key, item in self.plan.by_key.items():
            if item.marker and item.marker in markers:
                self.binder.finished[key] = Finished.of_marker(markers[item.marker])
        for key, made in unmarked(self.plan, trees_of(self.common)):
            self.binder.finished[key] = made
        self._scale = instrument(self.common.instrument).scale
        self._place = self.options.order(self.plan)
        self._ahead = LookAhead(self.plan, self._place)

    # -- loop -------------------------------------------------------------------------------

    def run(self) -> Result:
        """Execute the plan to its end, or until it is stopped."""
        with self.signals:
            try:
                self._clear()
                self._take(self.resolver.start())
                self._loop()
                if self._stop:
                    self._wind_down()
                elif self._worker_lost:
                    self._clear()
            except BackendLost as error:
                self._stop = str(error)
            finally:
                self.journal.commit(force=True)
        if not self._stop and self.journal.error:
            self._stop = f"storage: {self.journal.error}"
        return self._result()

    def _loop(self) -> None:
        while not self.resolver.finished:
            self._check_stops()
            if self._stop:
                return
            self._submit()
            if not self._flight:
                if self.resolver.finished:
                    return
                raise RuntimeError("the plan cannot go on: runs wait for each other")
            try:
                self._receive(0.5)
            except StopNow:
                continue

    def _clear(self) -> None:
        """Remove what dead processes left; an attempt that was given up and still lives cannot publish it."""
        if self.store is not None:
            removed = clear_leftovers(self.plan, trees_of(self.common))
            if removed:
                self.journal.event("cleared", files=removed)

    def _receive(self, timeout: float) -> None:
        with self.signals.breaking(self.backend.in_process):
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
        self.journal.commit()

    def _check_stops(self) -> None:
        if self.signals.reason:
            self._stop = self.signals.reason
        elif self.lock_lost():
            self._stop = "the lock of the data root was taken away"
        elif self.journal.error:
            self._stop = f"storage: {self.journal.error}"

    def _wind_down(self) -> None:
        """After a stop: forget what has not started; let what runs end unless told twice."""
        self.journal.event("stopping", reason=self._stop, running=len(self._flight))
        if self.signals.waits:
            self._forget_waiting()
            while self._flight and not self.signals.at_once:
                self._receive(0.2)
        self.backend.cancel([self._dask_key(key) for key in self._flight])
        self._flight.clear()

    def _forget_waiting(self) -> None:
        """Take back what has not started."""
        waiting = [key for key in self._flight if not self._has_started(key)]
        self.backend.cancel([self._dask_key(key) for key in waiting])
        for key in waiting:
            del self._flight[key]

    # -- starting ---------------------------------------------------------------------------

    def _take(self, progress: Progress) -> None:
        """Follow up what the resolver concluded."""
        for key, state in progress.ended:
            item = self.plan.by_key[key]
            identity = item.identity() if isinstance(item, Task) else ""
            self.journal.keep(TaskOutcome(key, identity, state, error=self._reason(key, state)))
        for key in progress.ready:
            if key not in self._flight:
                self._queue(key)

    def _open(self, key: str) -> bool:
        """Whether a run is still to be computed: it has not ended, or its products are made again."""
        return key not in self.resolver.states or key in self.repairs.redo

    def _queue(self, key: str) -> None:
        if key not in self._queued and self._open(key):
            self._queued.add(key)
            heapq.heappush(self._ready, (self._place.get(key, 0), key))

    def _queue_again(self, key: str) -> None:
        """Take up a run that came back without a result."""
        if key in self.resolver.bindings:
            self._queue(key)
        elif self._halted:
            self._take(self.resolver.stop(self._flight))
        # Else it was submitted behind others, and the resolver will find it ready when they have ended.

    def _window(self) -> int:
        slots = max(1, self.backend.slots)
        if self.options.stop_at_exception:
            # Whatever is queued at the workers could start between a failure and the news of it.
            return min(slots, self.options.most_concurrent or slots)
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
            if self._open(key) and key not in self._flight and not self.repairs.waiting(key):
                self._send(key, self.binder.resolved(key, self.resolver.bindings[key]), ())
        looks_ahead = self.options.look_ahead and self.backend.look_ahead
        if not looks_ahead or self.options.stop_at_exception or self._halted:
            return
        while len(self._flight) < window:
            found = self._ahead.next(self.resolver, self._flight, self._queued)
            if found is None:
                return
            work = self.binder.optimistic(found[0])
            if work is not None:
                self._send(found[0], work, found[1])

    def _send(self, key: str, work: Work, upstream: tuple[str, ...]) -> None:
        account = self._accounts.get(key) or Account()
        account.memory_mb = account.memory_mb or memory_mb(self.plan.by_key[key], self._scale)
        self._sent += 1
        account.sent = self._sent
        most = self.backend.memory_mb
        memory = min(account.memory_mb, most) if most else account.memory_mb
        self._flight[key] = account
        self.journal.event("submitted", key=key, short=work.short, attempt=account.attempt)
        self.backend.submit(
            replace(work, attempt=account.attempt, memory_mb=memory, force=account.force),
            self._dask_key(key),
            self._place.get(key, 0),
            tuple(self._dask_key(name) for name in upstream),
        )

    def _dask_key(self, key: str) -> str:
        item = self.plan.by_key[key]
        base = item.dask_key if isinstance(item, Task) else key
        account = self._flight.get(key) or self._accounts.get(key)
        attempt = account.attempt if account is not None else 1
        # dask remembers keys; a repetition is another task.
        return base if attempt == 1 else f"{base}-{attempt}"

    # -- ending -----------------------------------------------------------------------------

    def _ended(self, outcome: TaskOutcome) -> None:
        key = outcome.key
        account = self._flight.pop(key, None)
        if account is None or not self._open(key):
            return
        if outcome.cause == "storage":
            self._stop = f"storage: {outcome.error}"
            return
        if outcome.cause == "deferred":
            self._next_attempt(key, account)
            self.journal.event("deferred", key=key)
            self._queue_again(key)
        elif outcome.cause == "damaged":
            self._damaged(key, account, outcome)
        elif outcome.cause in ("transient", "memory"):
            self._again(key, account, outcome.error, memory=outcome.cause == "memory")
        else:
            self._executed += not outcome.reused
            self._finish(key, outcome)

    def _finish(self, key: str, outcome: TaskOutcome) -> None:
        again = key in self.repairs.redo
        if again and not outcome.outputs:
            self._give_up_repair(key, outcome.error)
            return
        self.journal.keep(outcome)
        if outcome.outputs:
            self.binder.finished[key] = Finished.of_run(
                self.plan.by_key[key], outcome.identity, outcome.outputs
            )
        if again:
            self.resolver.bindings.pop(key, None)
            for waiting in self.repairs.done(key, self._sent):
                self._queue_again(waiting)
            return
        # Only a repair needs it again, and finds it anew.
        self.resolver.bindings.pop(key, None)
        self._take(self.resolver.record(key, outcome.state))
        if self.options.stop_at_exception and outcome.state.failed and not self._stop:
            self._forget_waiting()
            self._ready.clear()
            self._queued.clear()
            self._halted = True
            self._take(self.resolver.stop(self._flight))

    def _lost(self, lost: Lost) -> None:
        """A worker is gone: blame the run that had started, repeat the others for free."""
        account = self._flight.get(lost.key)
        if account is None:
            return
        started = self._has_started(lost.key)
        self._worker_lost = True
        if started:
            started_path(trees_of(self.common).log, lost.key, account.attempt).unlink(missing_ok=True)
        del self._flight[lost.key]
        if not self._open(lost.key):
            return
        if started:
            self._again(lost.key, account, lost.error, memory=True)
        else:
            self._next_attempt(lost.key, account)
            self.journal.event("lost", key=lost.key, started=False)
            self._queue_again(lost.key)

    def _next_attempt(self, key: str, account: Account) -> None:
        account.attempt += 1
        self._accounts[key] = account

    def _again(self, key: str, account: Account, error: str, memory: bool) -> None:
        account.losses += 1
        if account.losses > MOST_RETRIES:
            text = f"given up after {account.losses} attempts: {error}"
            self._finish(key, TaskOutcome(key, self._identity(key), State.FAILED_WORKER, error=text))
            return
        self._next_attempt(key, account)
        if memory:
            account.memory_mb *= 2
        self.journal.event(
            "retry", key=key, attempt=account.attempt, memory_mb=account.memory_mb, error=error
        )
        self._queue_again(key)

    def _has_started(self, key: str) -> bool:
        return started_path(trees_of(self.common).log, key, self._flight[key].attempt).exists()

    def _identity(self, key: str) -> str:
        item = self.plan.by_key[key]
        return item.identity() if isinstance(item, Task) else ""

    # -- repairs ----------------------------------------------------------------------------

    def _damaged(self, key: str, account: Account, outcome: TaskOutcome) -> None:
        """Compute the producers of damaged inputs again, then the run that noticed."""
        makers = self.repairs.makers(outcome.damaged)
        if makers is None or any(maker not in self.binder.finished for maker in makers):
            self._finish(key, self._without_input(key, outcome.error + "; not made by this plan"))
            return
        stale = {maker for maker in makers if not self.repairs.fresh(maker, account.sent)}
        if stale:
            account.repairs += 1
            if account.repairs > MOST_RETRIES:
                text = f"{outcome.error} again, after {MOST_RETRIES} repairs: the storage does not keep it"
                self._finish(key, self._without_input(key, text))
                return
        self._next_attempt(key, account)
        self.journal.event("damaged", key=key, paths=list(outcome.damaged), producers=sorted(stale))
        if not stale:
            self._queue_again(key)
            return
        self.repairs.wait(key, stale)
        for maker in sorted(stale - self.repairs.redo):
            self.repairs.redo.add(maker)
            again = self._accounts.setdefault(maker, Account())
            again.force = True
            again.attempt += 1
            if maker not in self.resolver.bindings:
                try:
                    self.resolver.rebind(maker)
                except ValueError as error:
                    self._give_up_repair(maker, str(error))
                    continue
            self._queue(maker)

    def _give_up_repair(self, maker: str, error: str) -> None:
        for waiting in self.repairs.failed(maker):
            text = f"input is damaged and {maker} could not make it again: {error}"
            self._finish(waiting, self._without_input(waiting, text))

    def _without_input(self, key: str, error: str) -> TaskOutcome:
        return TaskOutcome(key, self._identity(key), State.FAILED_INPUT, error=error)

    # -- results ----------------------------------------------------------------------------

    def _reason(self, key: str, state: State) -> str:
        """Why a run ended without starting, in one line that names the first cause."""
        from apero_dask.report.causes import explain

        return explain(self.plan, self.resolver, key, state)

    def _result(self) -> Result:
        return Result(
            states=dict(self.resolver.states),
            outcomes=self.journal.outcomes,
            status=exit_status(self.plan, self.resolver, self._stop),
            finished=self.resolver.finished and not self._stop,
            stopped_by=self._stop,
            executed=self._executed,
        )
