"""Time one science frame from raw to velocities, step by step, in a process as workers keep them.

    python benchmarks/bench_frame.py FOLDER RUN_FILE [--stem NAME] [--instrument NAME] [--repeat N]
                                     [--steps SHORT ...] [--profile DIR] [--json FILE]

FOLDER is a data root whose night has been reduced with RUN_FILE (``make accuracy`` leaves one:
``accuracy/accuracy.ini``).  The runs of one frame are executed again, in their order and with the inputs and
calibrations the plan gives them, by the function that workers execute: verification of what is read, recipe,
products, digests, marker.  Their products are written again.

*First* is the first time in this process: modules, machine code from its cache, calibrations and tables are
loaded.  *Warm* is the least of N further times: calibrations stay in the process, as they do for the second
frame of a night; the digests of the inputs and the position of the Earth are taken anew, as those of another
frame would be.  Given are CPU seconds (user and system) of the whole process, bytes asked of the system for
reading and writing, and the largest resident size so far.  The last column tells whether machine code was
compiled, which happens once per installation.  The table is Markdown.

CPU seconds grow on a busy machine, whose processes drive each other out of the caches: the time of copying an
array of 134 MB, measured between the steps, tells by how much.
"""

from __future__ import annotations

import argparse
import cProfile
import json
import os
import pstats
import resource
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ.setdefault(_name, "1")
ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "kernels")]

from apero_dask.core.errors import Findings, UserError  # noqa: E402
from apero_dask.core.plan import Plan, Task  # noqa: E402
from apero_dask.core.work import TaskOutcome, Work  # noqa: E402

TARGET_S = 6.0
"""CPU seconds of a frame, raw to velocities, in a warm process."""
LAST = "cal_ccf"


@dataclass(slots=True)
class Measured:
    """Cost of one execution."""

    cpu_s: float
    wall_s: float
    read: int
    written: int
    compiled: int


@dataclass(slots=True)
class Step:
    """Executions of one run."""

    short: str
    times: list[Measured] = field(default_factory=list)
    memory_gb: float = 0.0

    @property
    def first(self) -> Measured:
        """The first in this process."""
        return self.times[0]

    @property
    def warm(self) -> Measured:
        """The cheapest of the others; of one alone, that one."""
        return min(self.times[1:] or self.times, key=lambda m: m.cpu_s)


def bytes_moved() -> tuple[int, int]:
    """Bytes this process asked to read and to write so far, from the cache of the system or not."""
    fields = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    return int(fields["rchar"]), int(fields["wchar"])


def copy_ms() -> float:
    """CPU milliseconds of copying one float64 array of 4096 x 4096, the least of three."""
    import numpy as np

    source = np.zeros((4096, 4096))
    target = np.ones_like(source)
    found = []
    for _ in range(3):
        start = time.process_time()
        np.copyto(target, source)
        found.append(1e3 * (time.process_time() - start))
    return min(found)


def machine_code() -> int:
    """Files in the cache of compiled kernels."""
    from apero_kernels._jit import cache_folder

    return sum(1 for _ in cache_folder().rglob("*.nbc"))


class Measuring:
    """Runner that executes every run several times and keeps what it cost."""

    def __init__(self, repeat: int, profile: Path | None) -> None:
        self.repeat, self.profile = repeat, profile
        self.steps: list[Step] = []
        self.copies: list[float] = []

    def __call__(self, work: Work, upstream: tuple[TaskOutcome, ...]) -> TaskOutcome:
        step = Step(work.short)
        outcome = self._measure(step, work, upstream)
        again = replace(work, force=True)
        for _ in range(self.repeat):
            self._forget_inputs(work)
            self._measure(step, again, upstream)
        if self.profile is not None:
            self._forget_inputs(work)
            recorder = cProfile.Profile(time.process_time)
            recorder.runcall(_run, again, upstream)
            place = self.profile / f"{work.short}.prof"
            recorder.dump_stats(place)
            with place.with_suffix(".txt").open("w", encoding="utf-8") as stream:
                pstats.Stats(recorder, stream=stream).sort_stats("tottime").print_stats(60)
        step.memory_gb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
        self.steps.append(step)
        self.copies.append(copy_ms())
        return outcome

    @staticmethod
    def _forget_inputs(work: Work) -> None:
        """Another frame would come with files this process has not verified, and with times of its own."""
        from apero_dask.engine import worker
        from apero_dask.recipes import barycentre

        barycentre._observer.cache_clear()
        for _, files in work.inputs:
            for file in files:
                worker._VERIFIED.pop(str(worker.absolute(worker.trees_of(work), file.path)), None)

    @staticmethod
    def _measure(step: Step, work: Work, upstream: tuple[TaskOutcome, ...]) -> TaskOutcome:
        compiled, before = machine_code(), bytes_moved()
        cpu, wall = time.process_time(), time.perf_counter()
        outcome = _run(work, upstream)
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        after = bytes_moved()
        if not outcome.outputs:
            raise SystemExit(f"{work.short} {work.stem} ended as {outcome.state}: {outcome.error}")
        step.times.append(
            Measured(cpu, wall, after[0] - before[0], after[1] - before[1], machine_code() - compiled)
        )
        return outcome


def _run(work: Work, upstream: tuple[TaskOutcome, ...]) -> TaskOutcome:
    from apero_dask.engine.worker import run_task

    return run_task(work, upstream)


def chain(plan: Plan, stem: str, shorts: Sequence[str]) -> list[Task]:
    """Runs of one frame, in plan order; without a stem those of the first frame with a velocity."""
    ends = [task for task in plan.tasks if task.step.recipe.name == LAST]
    if not ends:
        raise SystemExit("the run file plans no cross-correlation")
    frames = {f.identifier for task in ends[:1] for given in task.inputs for f in given.frames}
    name = stem or min(frames)
    found = [
        task
        for task in plan.tasks
        if task.step.recipe.group == "file" and task.stem.partition("_")[0] == name
        and (not shorts or task.step.short in shorts)
    ]  # fmt: skip
    if not found:
        raise SystemExit(f"the plan holds no run of frame {name}")
    return found


def execute(arguments: argparse.Namespace, runner: Measuring) -> str:
    """Run the chain of the frame; its name."""
    from apero_dask.cli.prepare import plan_from, read_archive
    from apero_dask.engine.invocation import execute as run_plan
    from apero_dask.engine.invocation import name_invocation, take_snapshot
    from apero_dask.engine.serial import SerialBackend
    from apero_dask.notebook.calls import read_run_file
    from apero_dask.planner.narrow import Narrowing, narrow
    from apero_dask.state.lock import DriverLock
    from apero_dask.state.store import Store

    request = read_run_file(arguments.run_file, arguments.instrument, data=arguments.folder.absolute())
    prepared, findings = request.prepared, Findings()
    with DriverLock(prepared.trees.log):
        store = Store(prepared.trees.log)
        try:
            named = name_invocation(store, "bench_frame", resume=False)
            archive = read_archive(prepared, findings)
            snapshot = take_snapshot(
                store, prepared.trees, prepared.settings.skip_check, masks=archive.masks,
                listing=archive.listing, instrument=prepared.instrument.name,
            )  # fmt: skip
            plan = plan_from(prepared, archive, snapshot, findings)
            runs = chain(plan, arguments.stem, arguments.steps)
            narrow(plan, snapshot, Narrowing(tuple(t.key for t in runs), False), store.last_states(), "")
            store.begin(named.invocation, "bench_frame", "benchmark", prepared.instrument.name, named.started)
            run_plan(
                plan, snapshot, prepared.settings, prepared.instrument, prepared.trees, named,
                SerialBackend(runner), store,
            )  # fmt: skip
        finally:
            store.close()
    return runs[0].stem.partition("_")[0]


def table(steps: Sequence[Step]) -> str:
    """Markdown."""
    rows = [
        "| step | first CPU s | warm CPU s | warm wall s | read MB | written MB | memory GB | compiled |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for step in steps:
        warm = step.warm
        rows.append(
            f"| {step.short} | {step.first.cpu_s:.2f} | {warm.cpu_s:.2f} | {warm.wall_s:.2f} "
            f"| {warm.read / 1e6:.0f} | {warm.written / 1e6:.0f} | {step.memory_gb:.2f} "
            f"| {sum(m.compiled for m in step.times) or 'nothing'} |"
        )
    first, warm = (sum(getattr(s, part).cpu_s for s in steps) for part in ("first", "warm"))
    wall = sum(s.warm.wall_s for s in steps)
    moved = [sum(getattr(s.warm, part) for s in steps) / 1e6 for part in ("read", "written")]
    memory = max(s.memory_gb for s in steps)
    rows.append(
        f"| **all** | {first:.2f} | **{warm:.2f}** | {wall:.2f} | {moved[0]:.0f} | {moved[1]:.0f} "
        f"| {memory:.2f} | |"
    )
    return "\n".join(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="data root of a reduced night")
    parser.add_argument("run_file", help="run file it was reduced with")
    parser.add_argument("--stem", default="", help="frame; default: the first with a velocity")
    parser.add_argument("--instrument", default="SPIROU")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--steps", nargs="*", default=[], metavar="SHORT", help="only these; default: all")
    parser.add_argument("--profile", type=Path, help="folder for a profile of every step")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    arguments = parser.parse_args()
    if arguments.repeat < 1:
        parser.error("--repeat: at least 1")
    if arguments.profile is not None:
        arguments.profile.mkdir(parents=True, exist_ok=True)
    runner = Measuring(arguments.repeat, arguments.profile)
    try:
        stem = execute(arguments, runner)
    except UserError as error:
        raise SystemExit("\n".join(map(str, error.findings))) from error
    print(f"Frame {stem} of {arguments.folder.name}, {arguments.repeat} warm executions of every step\n")
    print(table(runner.steps))
    print(f"\nCopying 134 MB between the steps: {min(runner.copies):.1f} to {max(runner.copies):.1f} ms CPU")
    total = sum(step.warm.cpu_s for step in runner.steps)
    if not arguments.steps:
        verdict = "met" if total <= TARGET_S else "missed"
        print(f"\nTarget {TARGET_S:g} CPU s for a frame in a warm process: {verdict} ({total:.2f})")
    if arguments.json:
        figures = {
            s.short: {"first_cpu_s": s.first.cpu_s, "warm_cpu_s": s.warm.cpu_s, "read": s.warm.read,
                      "written": s.warm.written, "gb": s.memory_gb}
            for s in runner.steps
        }  # fmt: skip
        arguments.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
