"""One invocation of the processing command, from locked data root to exit status."""

from __future__ import annotations

import datetime
import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from apero_dask.core.collector import collector_paused
from apero_dask.core.errors import EXIT_STOPPED, Findings
from apero_dask.core.ids import digest
from apero_dask.core.plan import Plan
from apero_dask.core.settings import Settings
from apero_dask.core.snapshot import Snapshot
from apero_dask.core.work import Work
from apero_dask.engine.backend import Backend
from apero_dask.engine.codes import code_digests
from apero_dask.engine.driver import Driver, Options, Result
from apero_dask.engine.events import EventSink, Listener
from apero_dask.instruments.base import Instrument
from apero_dask.io.trees import TREES, Trees
from apero_dask.state.disk import current_markers, damaged_outputs
from apero_dask.state.planned import save_plan
from apero_dask.state.store import Store

Planner = Callable[[Snapshot, str], Plan]
"""Makes the plan from a snapshot and the name of an invocation to continue (empty: none)."""


def command_digest(trees: Trees, instrument: str, run_file: bytes, options: object) -> str:
    """What makes two commands the same: data root, instrument, content of the run file, options."""
    content = hashlib.sha256(run_file).hexdigest()
    return digest([str(trees.raw), str(trees.reduced), instrument, content, options])


def take_snapshot(
    store: Store,
    trees: Trees,
    skip_check: str,
    *,
    masks: list[str],
    listing: dict[str, list[str]],
    instrument: str = "",
    save: bool = True,
) -> Snapshot:
    """Snapshot of what earlier invocations left, with every marked output looked at.

    ``masks``: names in the mask folder, and paths of mask files that recipe lines name.
    """
    with collector_paused():
        markers = current_markers(store.markers(), trees)
        damaged, fresh = damaged_outputs(markers, trees, store.verified(), skip_check)
        if fresh and save:
            store.set_verified((path, *seen) for path, seen in fresh.items())
        return Snapshot.of(
            markers,
            damaged=damaged,
            code=code_digests(trees.assets, instrument, [name for name in masks if Path(name).is_file()]),
            masks=masks,
            listing=listing,
            tree=str(trees.raw),
        )


@dataclass(frozen=True, slots=True)
class Named:
    """Name and start of an invocation; a continued one keeps both."""

    invocation: str
    started: str
    resume: str
    """Invocation that is continued, empty for a new one."""


def name_invocation(store: Store, command: str, resume: bool) -> Named:
    """New name, or that of the interrupted invocation of the same command."""
    earlier = store.unfinished(command) if resume else None
    if earlier is not None:
        return Named(earlier.invocation, earlier.started, earlier.invocation)
    now = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
    name = base = f"{now:%Y%m%dT%H%M%S}-{os.getpid()}"
    number = 1
    while store.has_invocation(name):
        # Within one second of one process: without a name of its own it would pass for a continued one.
        number += 1
        name = f"{base}-{number}"
    return Named(name, now.isoformat().replace("+00:00", ""), "")


def common_work(named: Named, instrument: Instrument, trees: Trees) -> Work:
    """Fields that all runs of an invocation share."""
    return Work(
        key="",
        short="",
        recipe="",
        tier="",
        variant="",
        obs_dir="",
        object="",
        stem="",
        time=0.0,
        identity="",
        code="",
        invocation=named.invocation,
        instrument=instrument.name,
        trees=tuple((tree, str(trees.path(tree))) for tree in TREES),
        inputs=(),
        planned_inputs=(),
        calibrations=(),
        outputs=(),
        volatile=(("DRSPDATE", named.started), ("DRSPID", named.invocation)),
    )


def execute(
    plan: Plan,
    snapshot: Snapshot,
    settings: Settings,
    instrument: Instrument,
    trees: Trees,
    named: Named,
    backend: Backend,
    store: Store,
    *,
    listeners: tuple[Listener, ...] = (),
    options: Options | None = None,
    lock_lost: Callable[[], bool] = lambda: False,
) -> tuple[Driver, Result]:
    """Execute a plan and register its products.

    The caller holds the lock of the data root.
    """
    from apero_dask.state.registry import register_products

    chosen = options or Options(stop_at_exception=settings.stop_at_exception)
    save_plan(plan, trees.log / named.invocation)
    sink = EventSink(trees.log / named.invocation / "events.jsonl")
    for listener in listeners:
        sink.listen(listener)
    sink.emit(
        "begin",
        invocation=named.invocation,
        run_name=settings.run_name,
        runs=len(plan.tasks),
        resume=named.resume,
    )
    driver = Driver(
        plan,
        snapshot,
        common_work(named, instrument, trees),
        # As they were when the plan was made: what is skipped and what is marked are then compared alike.
        snapshot.code,
        backend,
        store,
        sink,
        chosen,
        lock_lost,
    )
    try:
        result = driver.run()
        if not lock_lost():
            try:
                register_products(driver.plan, result.states, driver.binder.finished, trees, named)
                ended = datetime.datetime.now(datetime.UTC).replace(microsecond=0, tzinfo=None).isoformat()
                store.end(named.invocation, ended, result.status, result.finished)
            except OSError as error:
                # Products and markers are complete: the same command goes on from here when the disk is back.
                if not result.stopped_by:
                    result = replace(
                        result, stopped_by=f"storage: {error}", finished=False, status=EXIT_STOPPED
                    )
        sink.emit("end", status=result.status, finished=result.finished, stopped_by=result.stopped_by)
    finally:
        sink.close()
    return driver, result


__all__ = [
    "Findings",
    "Named",
    "command_digest",
    "common_work",
    "execute",
    "name_invocation",
    "take_snapshot",
]
