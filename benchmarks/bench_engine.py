"""Times the engine: how well it keeps workers busy, what it costs per run, and how its memory grows.

    python benchmarks/bench_engine.py efficiency [--frames N] [--seconds S] [--seed N] [--slots 27]
    python benchmarks/bench_engine.py overhead [--frames N]
    python benchmarks/bench_engine.py memory [--runs N] [--backend serial|dask]
    (each with [--json FILE])

Plans are those of ``bench_planner.py``: archives that exist only in memory, ``limited_seq``.

``efficiency``: runs sleep for their estimated duration times a lognormal factor (median 1, scatter 0.6 in
the natural logarithm) that the scheduler does not know, on in-process workers with one thread each, scaled so
that all work would take ``--seconds`` on them.  The bound is the larger of work / slots and the longest chain
with the true durations; the same priorities without any overhead (*list scheduling*) tell what the shape of
the graph allows.  For comparison the same runs by *batch and join*: step by step in the order of the
sequence, in batches of as many runs as there are slots, the next batch when the last run of the one before
has ended; this time is a sum of maxima without any overhead.

``overhead``: processor time per run of the process that holds driver, scheduler and client, with instant runs
in two worker processes, markers, events and state database on disk; and what a worker spends on a run whose
recipe does nothing but write one tiny product.

``memory``: resident set of the driver while instant runs end; the plan is there from the start.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import heapq
import json
import math
import os
import platform
import random
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).resolve().parents[i]) for i in (0, 1)]
sys.path.insert(1, str(Path(__file__).resolve().parents[1] / "kernels"))

from bench_planner import frames  # noqa: E402

from apero_dask.core.outcome import Marker, OutputRecord, State  # noqa: E402
from apero_dask.core.plan import Plan  # noqa: E402
from apero_dask.core.work import TaskOutcome, Work  # noqa: E402

SCATTER = 0.6
QUIET = {
    "distributed.admin.tick.interval": "1s",
    "distributed.admin.system-monitor.interval": "10s",
    "distributed.worker.profile.enabled": False,
}
"""Dozens of workers in one process share its interpreter lock, which their self-observation would occupy."""
DURATIONS: dict[str, float] = {}
"""True duration by run key, s; read by the runs of this process."""


# -- plans and runs ---------------------------------------------------------------------------


def make_plan(total: int) -> Plan:
    """Plan of ``limited_seq`` for an archive of ``total`` frames."""
    from apero_dask.core.errors import Findings
    from apero_dask.core.frames import FrameIndex
    from apero_dask.instruments import instrument
    from apero_dask.planner.build import build_plan
    from apero_dask.runfile.merge import CommandLine, merge
    from apero_dask.runfile.reader import read_text

    text = "MASTER_OBS_DIR = 2018-09-25\nid1 = limited_seq\n"
    settings = merge(read_text("bench.ini", text.encode(), Findings()), CommandLine(), Findings())
    return build_plan(FrameIndex.of(frames(total)), settings, instrument("SPIROU"), only_show=False)


def made(work: Work) -> tuple[OutputRecord, ...]:
    """Records of products that were not written; each with a digest of its own, as real ones."""
    return tuple(
        OutputRecord(kind, fibre, path, 23040, os.urandom(32).hex(), os.urandom(32).hex())
        for kind, fibre, path in work.outputs
    )


def instant(work: Work, upstream: Sequence[TaskOutcome] = ()) -> TaskOutcome:
    """Run that takes no time."""
    from apero_dask.engine.binding import complete

    if upstream and complete(work, upstream) is None:
        return TaskOutcome(work.key, work.identity, State.PLANNED, cause="deferred", attempt=work.attempt)
    return TaskOutcome(work.key, work.identity, State.DONE, made(work), attempt=work.attempt)


def sleeping(work: Work, upstream: Sequence[TaskOutcome] = ()) -> TaskOutcome:
    """Run that sleeps for its true duration."""
    time.sleep(DURATIONS.get(work.key, 0.0))
    return instant(work, upstream)


def marked(work: Work, upstream: Sequence[TaskOutcome] = ()) -> TaskOutcome:
    """Instant run that leaves a marker, as every finished run does."""
    from apero_dask.engine.worker import choices_of, inputs_of, trees_of
    from apero_dask.io.markers import write_marker

    outcome = instant(work, upstream)
    write_marker(
        trees_of(work).log,
        Marker(
            work.identity, work.short, work.recipe, work.tier, work.variant, work.obs_dir, work.object,
            work.stem, work.time, State.DONE, inputs_of(work), work.planned_inputs, choices_of(work),
            outcome.outputs, work.code, work.invocation,
        ),
    )  # fmt: skip
    return outcome


def driver_for(plan: Plan, backend: Any, root: Path | None = None, **options: Any) -> Any:
    """Driver of a plan; with a data root it writes events and state there."""
    from apero_dask.core.snapshot import Snapshot
    from apero_dask.engine.driver import Driver, Options
    from apero_dask.engine.events import EventSink
    from apero_dask.engine.invocation import Named, common_work
    from apero_dask.instruments import instrument
    from apero_dask.io.trees import find_trees
    from apero_dask.state.store import Store

    trees = find_trees(str(root or "nowhere"))
    common = common_work(Named("bench", "2026-01-01T00:00:00", ""), instrument("SPIROU"), trees)
    store = Store(trees.log) if root is not None else None
    events = EventSink(trees.log / "events.jsonl" if root is not None else None)
    return Driver(plan, Snapshot(), common, {}, backend, store, events, Options(**options))


@contextlib.contextmanager
def dask_backend(count: int, runner: Callable[..., TaskOutcome], processes: bool) -> Iterator[Any]:
    """Backend on ``count`` local workers with one thread each."""
    import dask
    from distributed import Client, LocalCluster

    from apero_dask.engine.dask_backend import MEMORY, SETTINGS, THREADS, DaskBackend

    with (
        dask.config.set({**SETTINGS, **(QUIET if not processes else {})}),
        LocalCluster(
            n_workers=count,
            threads_per_worker=1,
            processes=processes,
            dashboard_address=None if not processes else "127.0.0.1:0",
            memory_limit=None,
            resources={MEMORY: 100_000, THREADS: 1},
            silence_logs=50,
        ) as cluster,
        Client(cluster) as client,
    ):
        yield DaskBackend(client, runner)


# -- efficiency -------------------------------------------------------------------------------


def batch_and_join(plan: Plan, slots: int) -> float:
    """Time of the steps one after the other, in batches that are joined, s."""
    steps: dict[tuple[int, str, str], list[float]] = {}
    for task in plan.tasks:
        key = (task.step.request, task.step.label, task.step.short)
        steps.setdefault(key, []).append(DURATIONS[task.key])
    return sum(max(runs[i : i + slots]) for runs in steps.values() for i in range(0, len(runs), slots))


def longest_chain(plan: Plan) -> float:
    """Longest chain with the true durations, every selection taking its first candidate, s."""
    from apero_dask.planner.order import check_acyclic, optimistic_edges

    finish: dict[str, float] = {}
    for key in check_acyclic(plan):
        before = max((finish[k] for k in optimistic_edges(plan.by_key[key])), default=0.0)
        finish[key] = before + DURATIONS.get(key, 0.0)
    return max(finish.values())


def list_scheduling(plan: Plan, slots: int) -> float:
    """Time of the same priorities and edges without any overhead: what no engine can beat with them, s."""
    from apero_dask.engine.priority import ranks
    from apero_dask.planner.order import optimistic_edges

    place = ranks(plan)
    after: dict[str, list[str]] = {}
    waiting: dict[str, int] = {}
    for key, item in plan.by_key.items():
        before = set(optimistic_edges(item))
        waiting[key] = len(before)
        for other in before:
            after.setdefault(other, []).append(key)
    ready = [(place[key], key) for key, count in waiting.items() if count == 0]
    heapq.heapify(ready)
    running: list[tuple[float, str]] = []
    now = 0.0
    while ready or running:
        while ready and len(running) < slots:
            key = heapq.heappop(ready)[1]
            heapq.heappush(running, (now + DURATIONS.get(key, 0.0), key))
        now, key = heapq.heappop(running)
        for later in after.get(key, ()):
            waiting[later] -= 1
            if waiting[later] == 0:
                heapq.heappush(ready, (place[later], later))
    return now


def efficiency(total: int, seconds: float, seed: int, slots: int) -> dict[str, float]:
    """Makespan on sleeping runs against its bound."""
    plan = make_plan(total)
    rng = random.Random(seed)
    DURATIONS.clear()
    DURATIONS.update({t.key: t.seconds() * math.exp(rng.gauss(0.0, SCATTER)) for t in plan.tasks})
    scale = seconds * slots / sum(DURATIONS.values())
    for key in DURATIONS:
        DURATIONS[key] *= scale
    work, chain = sum(DURATIONS.values()) / slots, longest_chain(plan)
    with dask_backend(slots, sleeping, processes=False) as backend:
        driver = driver_for(plan, backend)
        begin, cpu = time.perf_counter(), time.process_time()
        result = driver.run()
        took, cpu = time.perf_counter() - begin, time.process_time() - cpu
    assert result.status == 0, result.status
    bound = max(work, chain)
    return {
        "runs": len(plan.tasks),
        "slots": slots,
        "mean_run_s": statistics.mean(DURATIONS.values()),
        "work_over_slots_s": work,
        "longest_chain_s": chain,
        "bound_s": bound,
        "engine_s": took,
        "efficiency": bound / took,
        "list_scheduling_s": list_scheduling(plan, slots),
        "list_scheduling_efficiency": bound / list_scheduling(plan, slots),
        "batch_and_join_s": batch_and_join(plan, slots),
        "batch_and_join_efficiency": bound / batch_and_join(plan, slots),
        "cpu_s": cpu,
    }


# -- overhead ---------------------------------------------------------------------------------


def overhead(total: int) -> dict[str, float]:
    """Processor time per run, of the driver's process and of a worker."""
    plan = make_plan(total)
    found: dict[str, float] = {"runs": len(plan.tasks)}
    from apero_dask.engine.serial import SerialBackend

    with tempfile.TemporaryDirectory() as folder:
        driver = driver_for(plan, SerialBackend(marked), Path(folder))
        spent = _spent_outside(driver, marked)
        found["driver_alone_cpu_ms"] = 1e3 * spent / len(plan.tasks)
    plan = make_plan(total)
    with tempfile.TemporaryDirectory() as folder, dask_backend(2, marked, processes=True) as backend:
        driver = driver_for(plan, backend, Path(folder))
        cpu, begin = time.process_time(), time.perf_counter()
        result = driver.run()
        found["driver_and_scheduler_cpu_ms"] = 1e3 * (time.process_time() - cpu) / len(plan.tasks)
        found["runs_per_s"] = len(plan.tasks) / (time.perf_counter() - begin)
        assert result.status == 0
    found |= worker_side()
    return found


def _spent_outside(driver: Any, runner: Callable[..., TaskOutcome]) -> float:
    """Processor time of a serial driver without that of the runs."""
    inside = [0.0]

    def timed(work: Work, upstream: Sequence[TaskOutcome] = ()) -> TaskOutcome:
        begin = time.process_time()
        try:
            return runner(work, upstream)
        finally:
            inside[0] += time.process_time() - begin

    driver.backend._runner = timed
    begin = time.process_time()
    assert driver.run().status == 0
    return time.process_time() - begin - inside[0]


def worker_side(number: int = 300) -> dict[str, float]:
    """What ``run_task`` takes for a recipe that only writes one tiny product, ms."""
    import numpy as np

    from apero_dask.core.declare import set_body
    from apero_dask.engine.worker import run_task
    from apero_dask.io.fitswriter import Image
    from apero_dask.recipes.context import RecipeContext
    from apero_dask.simulator.cli import main as simulate

    inside: list[float] = []

    def body(ctx: RecipeContext) -> None:
        begin = time.perf_counter()
        for kind, fibre, _ in ctx.work.outputs:
            ctx.save(kind, Image(kind, np.zeros((4, 8), dtype=np.float32)), fibre=fibre)
        inside.append(time.perf_counter() - begin)

    set_body("cal_preprocessing", body)
    walls, cpus = [], []
    with tempfile.TemporaryDirectory() as folder:
        with contextlib.redirect_stdout(sys.stderr):
            simulate(["--campaign", "worked", "--headers-only", "--out", folder])
        from apero_dask.core.settings import Request, Settings
        from apero_dask.instruments import instrument
        from apero_dask.io.indexer import scan
        from apero_dask.io.trees import find_trees
        from apero_dask.planner.build import build_plan

        trees = find_trees(folder)
        settings = Settings(requests=(Request(1, 1, "pp_seq"),))
        index = scan(trees.raw, instrument("SPIROU"), now_mjd=61000.0)
        plan = build_plan(index, settings, instrument("SPIROU"), only_show=False)

        def timed(work: Work, upstream: Sequence[TaskOutcome] = ()) -> TaskOutcome:
            outcome = run_task(work, upstream)
            assert outcome.state is State.DONE, outcome.error
            walls.append(outcome.wall_s)
            cpus.append(outcome.cpu_s)
            return outcome

        from apero_dask.engine.serial import SerialBackend

        driver = driver_for(plan, SerialBackend(timed), Path(folder))
        driver.run()
    return {
        "worker_wall_ms": 1e3 * statistics.median(walls),
        "worker_cpu_ms": 1e3 * statistics.median(cpus),
        "worker_without_product_wall_ms": 1e3
        * statistics.median(w - i for w, i in zip(walls, inside, strict=True)),
    }


# -- memory -----------------------------------------------------------------------------------


def resident_mb() -> float:
    """Resident set of this process, MB."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def memory(runs: int, kind: str) -> dict[str, float]:
    """Resident set of the driver at several stages of a plan of about ``runs`` runs."""
    from apero_dask.engine.serial import SerialBackend

    total = max(100, round(runs / 3.5 / 100) * 100)
    plan = make_plan(total)
    gc.collect()
    found: dict[str, float] = {"runs": len(plan.tasks), "plan_mb": resident_mb()}
    stages = {round(len(plan.tasks) * part / 100): part for part in (1, 10, 25, 50, 75, 100)}
    ended = [0]

    def count(event: dict[str, Any]) -> None:
        if event["event"] == "ended":
            ended[0] += 1
            if ended[0] in stages:
                found[f"at_{stages[ended[0]]}_percent_mb"] = resident_mb()

    def watch(backend: Any) -> None:
        with tempfile.TemporaryDirectory() as folder:
            driver = driver_for(plan, backend, Path(folder))
            driver.events.listen(count)
            found["driver_ready_mb"] = resident_mb()
            begin, cpu = time.perf_counter(), time.process_time()
            result = driver.run()
            assert result.status == 0
            found["took_s"] = time.perf_counter() - begin
            found["cpu_ms_per_run"] = 1e3 * (time.process_time() - cpu) / len(plan.tasks)

    if kind == "serial":
        watch(SerialBackend(instant))
    else:
        with dask_backend(2, instant, processes=True) as backend:
            watch(backend)
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Run one benchmark and print its figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("efficiency", "overhead", "memory"))
    parser.add_argument("--frames", type=int, default=2000)
    parser.add_argument("--seconds", type=float, default=200.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--slots", type=int, default=27)
    parser.add_argument("--runs", type=int, default=100_000)
    parser.add_argument("--backend", choices=("serial", "dask"), default="serial")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args(argv)
    if args.what == "efficiency":
        found = efficiency(args.frames, args.seconds, args.seed, args.slots)
    elif args.what == "overhead":
        found = overhead(args.frames)
    else:
        found = memory(args.runs, args.backend)
    print(
        f"{args.what} on {platform.machine()}, {os.cpu_count()} processors, "
        f"Python {platform.python_version()}"
    )
    print(f"load of the machine {os.getloadavg()[0]:.1f}, threads {threading.active_count()}")
    for name, value in found.items():
        print(f"  {name:32} {value:12.3f}" if value % 1 else f"  {name:32} {value:12.0f}")
    if args.json:
        args.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    # As a module of its own name: functions of __main__ travel by value, recipes never do.
    import bench_engine

    sys.exit(bench_engine.main())
