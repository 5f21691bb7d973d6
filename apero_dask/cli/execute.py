"""Execution of a run file: lock, snapshot, plan, cluster, driver, summary."""

from __future__ import annotations

import sys
from dataclasses import replace

from apero_dask.cli.prepare import Prepared, cannot_run, plan_from, read_archive, usable_slots
from apero_dask.cli.processing import show
from apero_dask.core.errors import EXIT_INVALID, EXIT_STOPPED, Findings
from apero_dask.core.outcome import State
from apero_dask.core.plan import Plan
from apero_dask.deploy.clusters import ClusterError, backend_for
from apero_dask.engine.invocation import command_digest, execute, name_invocation, take_snapshot
from apero_dask.engine.ledger import Options
from apero_dask.planner.narrow import Narrowing, SelectionError, narrow
from apero_dask.report.console import Console
from apero_dask.report.summary import summary
from apero_dask.runfile.merge import CommandLine
from apero_dask.state.lock import DriverLock, LockedError
from apero_dask.state.store import StateError, Store


def run(line: CommandLine, prepared: Prepared, findings: Findings, narrowing: Narrowing | None = None) -> int:
    """Execute the run file, or only chosen runs of it; returns the exit status."""
    trees = prepared.trees
    try:
        with DriverLock(trees.log) as lock:
            store = Store(trees.log)
            try:
                return _locked(line, prepared, findings, store, lock, narrowing)
            finally:
                store.close()
    except LockedError as error:
        print(f"Cannot start: {error}.", file=sys.stderr)
    except StateError as error:
        print(f"Cannot start: {error}.", file=sys.stderr)
    except SelectionError as error:
        print(f"Nothing was executed: {error}.", file=sys.stderr)
        return EXIT_INVALID
    except ClusterError as error:
        print(
            f"Cannot go on: {error}. Nothing finished is lost; the same command continues.", file=sys.stderr
        )
    except OSError as error:
        place = f" ({error.filename})" if error.filename else ""
        print(
            f"Cannot go on: {error.strerror or error}{place}. "
            "Nothing finished is lost; the same command continues.",
            file=sys.stderr,
        )
    return EXIT_STOPPED


def _locked(
    line: CommandLine,
    prepared: Prepared,
    findings: Findings,
    store: Store,
    lock: DriverLock,
    narrowing: Narrowing | None,
) -> int:
    settings, trees = prepared.settings, prepared.trees
    store.reconcile()
    options = [[o.key, o.text] for o in line.overrides if o.key != "CORES"]
    described = [options, line.order, line.package]
    if narrowing is not None:
        described.append([list(narrowing.words), narrowing.descendants])
    command = command_digest(trees, prepared.instrument.name, prepared.run_file, described)
    named = name_invocation(store, command, settings.resume)
    archive = read_archive(prepared, findings)
    snapshot = take_snapshot(
        store,
        trees,
        settings.skip_check,
        masks=archive.masks,
        listing=archive.listing,
        instrument=prepared.instrument.name,
    )
    plan = plan_from(prepared, archive, snapshot, findings, named.resume)
    if narrowing is not None:
        narrowed = narrow(plan, snapshot, narrowing, store.last_states(), named.resume)
        if narrowed.kept:
            print(
                f"Note: {narrowed.kept} finished run(s) depend on these and keep what they have; "
                "--with-descendants runs them again too.",
                file=sys.stderr,
            )
    used = usable_slots(settings, findings)
    findings.raise_errors(settings.strict)
    show(findings)
    missing = cannot_run(plan)
    if missing:
        print(
            f"Nothing was executed: this version can plan but not yet run {', '.join(missing)}. "
            "Use --test or --plan FILE to see the plan.",
            file=sys.stderr,
        )
        return EXIT_INVALID
    store.begin(named.invocation, command, settings.run_name, prepared.instrument.name, named.started)
    cluster = dict(settings.cluster)
    nothing = all(task.state is not State.PLANNED for task in plan.tasks)
    kind, used = ("local", 1) if nothing else (cluster.get("kind", "local"), used)
    with backend_for(kind, used, cluster.get("address", "")) as (backend, dashboard):
        if dashboard:
            print(f"Dashboard: {dashboard}", file=sys.stderr)
        with Console(plan, store.durations(), used) as console:
            driver, result = execute(
                plan,
                snapshot,
                settings,
                prepared.instrument,
                trees,
                named,
                backend,
                store,
                listeners=(console,),
                options=replace(_options(settings.stop_at_exception), most_concurrent=_cap(kind, used)),
                lock_lost=lambda: lock.lost,
            )
    for text in summary(plan, driver.resolver, result, trees, named, settings.max_calib_dtime):
        print(text)
    return result.status


def _options(stop_at_exception: bool) -> Options:
    return Options(stop_at_exception=stop_at_exception)


def _cap(kind: str, used: int) -> int | None:
    """CORES caps concurrent runs where the cluster has slots of its own."""
    return used if kind != "local" and used > 1 else None


__all__ = ["Plan", "run"]
