"""Execution of a run file: lock, snapshot, plan, cluster, driver, summary."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from apero_dask.cli.prepare import Prepared, cannot_run, plan_from, read_archive, usable_slots
from apero_dask.cli.processing import show
from apero_dask.core.errors import EXIT_INVALID, EXIT_STOPPED, EXIT_TERMINATED, Findings
from apero_dask.core.outcome import State
from apero_dask.core.plan import Node, Plan, Task
from apero_dask.deploy.clusters import ClusterError, backend_for
from apero_dask.deploy.site import BATCH
from apero_dask.engine.invocation import Named, command_digest, execute, name_invocation, take_snapshot
from apero_dask.engine.ledger import Options
from apero_dask.engine.stopping import Terminated, ignore_termination, raising_terminated
from apero_dask.planner.narrow import Narrowing, SelectionError, narrow
from apero_dask.report.console import Console
from apero_dask.report.summary import errors_of, summary
from apero_dask.runfile.keys import BY_NAME
from apero_dask.runfile.merge import CommandLine
from apero_dask.state.lock import DriverLock, LockedError
from apero_dask.state.store import StateError, Store

if TYPE_CHECKING:
    from apero_dask.engine.backend import Backend
    from apero_dask.engine.made import Finished

CONTINUES = "Nothing finished is lost; the same command continues."


@dataclass(frozen=True, slots=True)
class Executed:
    """How an execution ended."""

    status: int
    """Exit status of the command."""
    problem: str = ""
    """Why it ended before the runs did, or never began."""
    invocation: str = ""
    plan: Plan | None = None
    states: Mapping[str, State] = field(default_factory=dict)
    errors: Mapping[str, str] = field(default_factory=dict)
    """What went wrong, by run."""
    made: Mapping[str, Finished] = field(default_factory=dict)
    """Products by run, of skipped runs too."""
    lines: tuple[str, ...] = ()
    """Summary."""

    def items(self) -> Iterator[tuple[str, Task | Node]]:
        """Runs and models of the plan with their keys, in plan order."""
        for key, item in self.plan.by_key.items() if self.plan is not None else ():
            if isinstance(item, Task) or item.kind == "model":
                yield key, item


def run(
    line: CommandLine, prepared: Prepared, findings: Findings, narrowing: Narrowing | None = None
) -> Executed:
    """Execute the run file, or only chosen runs of it, and print how it goes."""
    try:
        executed = _run(line, prepared, findings, narrowing)
    except Terminated:
        executed = Executed(EXIT_TERMINATED, "Stopped by a signal; the same command continues.")
    except (LockedError, StateError) as error:
        executed = Executed(EXIT_STOPPED, f"Cannot start: {error}.")
    except SelectionError as error:
        executed = Executed(EXIT_INVALID, f"Nothing was executed: {error}.")
    except ClusterError as error:
        executed = Executed(EXIT_STOPPED, f"Cannot go on: {error}. {CONTINUES}")
    except OSError as error:
        place = f" ({error.filename})" if error.filename else ""
        executed = Executed(EXIT_STOPPED, f"Cannot go on: {error.strerror or error}{place}. {CONTINUES}")
    if executed.problem:
        print(executed.problem, file=sys.stderr)
    for text in executed.lines:
        print(text)
    return executed


def _run(line: CommandLine, prepared: Prepared, findings: Findings, narrowing: Narrowing | None) -> Executed:
    trees = prepared.trees
    with raising_terminated(), DriverLock(trees.log) as lock:
        store = Store(trees.log)
        try:
            return _locked(line, prepared, findings, store, lock, narrowing)
        finally:
            store.close()


def _locked(
    line: CommandLine,
    prepared: Prepared,
    findings: Findings,
    store: Store,
    lock: DriverLock,
    narrowing: Narrowing | None,
) -> Executed:
    settings, trees = prepared.settings, prepared.trees
    store.reconcile()
    # How many workers there are and where they live makes no difference to what is computed.
    options = [[o.key, o.text] for o in line.overrides if o.key != "CORES" and not BY_NAME[o.key].cluster]
    described = [options, line.order, line.package]
    if narrowing is not None:
        described.append([list(narrowing.words), narrowing.descendants])
    command = command_digest(trees, prepared.instrument.name, prepared.content, described)
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
    used = usable_slots(prepared, findings)
    findings.raise_errors(settings.strict)
    show(findings)
    missing = cannot_run(plan)
    if missing:
        return Executed(
            EXIT_INVALID,
            f"Nothing was executed: this version can plan but not yet run {', '.join(missing)}. "
            "Use --test or --plan FILE to see the plan.",
        )
    store.begin(named.invocation, command, settings.run_name, prepared.instrument.name, named.started)
    with _backend(line, prepared, plan, named, used) as (backend, dashboard, most):
        if dashboard:
            print(f"Dashboard: {dashboard}", file=sys.stderr)
        # How many jobs of a batch system run at a time is not known beforehand.
        shown = used if prepared.cluster.kind == "local" and not prepared.cluster.single_allocation else 0
        with Console(plan, store.durations(), shown) as console:
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
                options=replace(
                    Options(stop_at_exception=settings.stop_at_exception),
                    most_concurrent=most,
                    **_patience(prepared),
                ),
                lock_lost=lambda: lock.lost,
            )
        ignore_termination()
    velocities: list[str] = []
    scans = [task for task in plan.tasks if task.step.recipe.name == "cal_ccf"]
    if scans:
        from apero_dask.cli.velocities import velocity_summary

        planned = {
            path.rpartition("/")[2]: result.states.get(task.key, State.PLANNED)
            for task in scans
            for _, _, path in task.outputs()
        }
        earlier = {name: state.value for name, state in planned.items() if state.failed or state.blocked}
        velocities, _ = velocity_summary(trees.reduced, planned=planned, earlier=earlier)
    return Executed(
        status=result.status,
        invocation=named.invocation,
        plan=plan,
        states=result.states,
        errors=errors_of(result),
        made=driver.binder.finished,
        lines=(
            *velocities,
            *summary(plan, driver.resolver, result, trees, named, settings.max_calib_dtime),
        ),
    )


@contextlib.contextmanager
def _backend(
    line: CommandLine, prepared: Prepared, plan: Plan, named: Named, used: int
) -> Iterator[tuple[Backend, str, int | None]]:
    """Backend, address of its dashboard, and the most runs at a time where CORES allows fewer than fit.

    CORES = 1 asks for one run at a time if it was written down, not as the default of the key.
    """
    cluster, settings = prepared.cluster, prepared.settings
    if all(task.state is not State.PLANNED for task in plan.tasks):
        # Nothing will run: no worker need be had.
        with backend_for("local", 1) as (backend, dashboard):
            yield backend, dashboard, None
        return
    asked = "CORES" in settings.lines or any(o.key == "CORES" for o in line.overrides)
    cap = used if used > 1 or asked else None
    if cluster.kind not in BATCH and not cluster.single_allocation:
        with backend_for(cluster.kind, used, cluster.address) as (backend, dashboard):
            yield backend, dashboard, None if cluster.kind == "local" else cap
        return
    from apero_dask.deploy.batch import JobRequest, batch_backend
    from apero_dask.deploy.sizing import job_size

    size = job_size(plan, cluster, prepared.instrument.scale, cap)
    name = f"apero-{named.invocation}"
    request = JobRequest(cluster, size, name, prepared.trees.log / named.invocation)
    if cluster.single_allocation:
        from apero_dask.deploy.inside import inside_backend

        with inside_backend(request) as (there, dashboard):
            yield there, dashboard, cap
        return
    with batch_backend(request) as (jobs, dashboard):
        yield jobs, dashboard, cap if cap is not None and cap < size.jobs else None


def _patience(prepared: Prepared) -> dict[str, float]:
    """Jobs may wait in a queue for long; how long is up to the user."""
    return {"no_worker_s": float(prepared.cluster.patience)} if prepared.cluster.kind in BATCH else {}


__all__ = ["Executed", "Plan", "run"]
