"""Time whole recipes on full-size frames: from the start of the process to the last product.

    python benchmarks/bench_recipes.py FOLDER [--instrument NAME] [--repeat N] [--json FILE] [NAME ...]

FOLDER receives a simulated night of the instrument once (some ten minutes and 8 GB for the full one) and the
products.  Every figure is that of a process of its own with one thread, start-up, reading, digests and
writing included; machine code of the kernels comes from their cache: a run that had to compile is repeated.
Given are the least CPU seconds (user and system) of N runs, their wall time, which a busy machine stretches,
and the largest resident size, beside what the established pipeline takes for the same step on this kind of
machine and the aim, a fifteenth of it.  The table is Markdown.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "kernels"), str(ROOT / "benchmarks")]

from recipe_cases import BY_NAME, CASES, Case, Night, frames, made, works  # noqa: E402

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
TOOLS = "import sys; from apero_dask.cli.tools import main; sys.exit(main())"
INSTRUMENT = "SPIROU"
PREPROCESSING = "preprocessing, a flat"


def simulated(root: Path, instrument: str) -> Night:
    """The night, simulated if it is not there."""
    command = ["simulate", "--campaign", "demo", "--instrument", instrument, "--nights", "1", "--frames", "1"]
    subprocess.run(
        [sys.executable, "-c", TOOLS, *command, "--no-truth-images", "--out", str(root)],
        check=True, stdout=subprocess.DEVNULL, env=environment(),
    )  # fmt: skip
    from apero_dask.simulator.truth import read_campaign

    listed: dict[str, list[str]] = {}
    obs_dir = ""
    for row in read_campaign(root):
        listed.setdefault(row["dprtype"], []).append(row["identifier"])
        obs_dir = str(row["obs_dir"])
    return Night(root, obs_dir, listed)


def environment() -> dict[str, str]:
    """One thread, and modules that are compiled once as in an installation, outside the source tree."""
    path = os.pathsep.join([str(ROOT), str(ROOT / "kernels"), os.environ.get("PYTHONPATH", "")])
    inherited = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    modules = str(Path(tempfile.gettempdir()) / f"apero-benchmark-modules-{os.getuid()}")
    return {**inherited, **dict.fromkeys(THREADS, "1"), "PYTHONPATH": path, "PYTHONPYCACHEPREFIX": modules}


def reduce(description: dict) -> None:
    """Carry out the runs of a case in this process."""
    from apero_dask import recipes  # noqa: F401  (registers the declarations)
    from apero_dask.engine.freed_memory import keep_freed_memory
    from apero_dask.engine.worker import CalibrationCache
    from apero_dask.instruments import instrument
    from apero_dask.io.trees import find_trees
    from apero_dask.recipes.context import run_recipe

    keep_freed_memory()  # as a worker does when it starts
    chosen = instrument(description["instrument"])
    night = Night(Path(description["root"]), description["obs_dir"], description["frames"])
    cache = CalibrationCache()
    for work in works(night, BY_NAME[description["case"]], chosen):
        result = run_recipe(work, find_trees(description["root"]), chosen, cache=cache)
        for test in result.qc:
            if not test.passed and not test.informative:
                print(f"{description['case']}: failed {test.name} = {test.value}", file=sys.stderr)


def measure(night: Night, instrument: str, case: Case) -> tuple[float, float, float]:
    """CPU seconds, wall seconds and resident GB of a process that reduces a case."""
    description = {
        "root": str(night.root), "instrument": instrument, "obs_dir": night.obs_dir,
        "frames": night.frames, "case": case.name,
    }  # fmt: skip
    begin = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, __file__, "--child", json.dumps(description)],
        env=environment(),
        stderr=subprocess.PIPE,
    )
    errors = process.stderr.read().decode() if process.stderr else ""
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{case.name} failed:\n{errors}")
    for line in errors.splitlines():
        if ": failed " in line:
            print(line, file=sys.stderr)
    return usage.ru_utime + usage.ru_stime, time.monotonic() - begin, usage.ru_maxrss / 1e6


def machine_code() -> int:
    """Files in the cache of compiled kernels."""
    from apero_kernels._jit import cache_folder

    return sum(1 for _ in cache_folder().rglob("*.nbc"))


def prepare(night: Night, instrument: str, case: Case) -> None:
    """Make what a case reads and is not there: preprocessed frames and calibrations."""
    for taken in case.takes:
        if taken.case and not made(night, BY_NAME[taken.case]):
            prepare(night, instrument, BY_NAME[taken.case])
            measure(night, instrument, BY_NAME[taken.case])
    if case.tree == "tmp":
        return
    names = sorted({name for group in frames(night, case).values() for name in group})
    for name in names:
        if not (night.root / "tmp" / night.obs_dir / f"{name}_pp.fits").is_file():
            one = Night(night.root, night.obs_dir, {"FLAT_FLAT": [name]})
            measure(one, instrument, BY_NAME[PREPROCESSING])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="folder of the simulated night")
    parser.add_argument(
        "names", nargs="*", help=f"parts of names of cases: {'; '.join(c.name for c in CASES)}"
    )
    parser.add_argument("--instrument", default=INSTRUMENT)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    arguments = parser.parse_args()
    chosen = [c for c in CASES if not arguments.names or any(name in c.name for name in arguments.names)]
    if not chosen:
        parser.error(f"no case has a name with {' or '.join(arguments.names)}")
    night = simulated(arguments.folder.absolute(), arguments.instrument)
    figures = {}
    print("| recipe | CPU s | wall s | memory GB | established CPU s | times faster | aim CPU s | reached |")
    print("|---|---|---|---|---|---|---|---|", flush=True)
    for case in chosen:
        prepare(night, arguments.instrument, case)
        found: list[tuple[float, float, float]] = []
        while len(found) < arguments.repeat:
            before = machine_code()
            figure = measure(night, arguments.instrument, case)
            if machine_code() == before:
                found.append(figure)
        count = len(frames(night, case)["files"]) if case.separate else 1
        cpu, wall = min(f[0] for f in found) / count, min(f[1] for f in found) / count
        memory = max(f[2] for f in found)
        figures[case.name] = {
            "cpu_s": cpu, "wall_s": wall, "gb": memory, "runs": count, "aim_s": case.aim_s,
            "reference_s": case.reference_s,
        }  # fmt: skip
        name = case.name + (", each" if count > 1 else "")
        print(
            f"| {name} | {cpu:.2f} | {wall:.2f} | {memory:.2f} | {case.reference_s:g} "
            f"| {case.reference_s / cpu:.1f} | {case.aim_s:.2f} | {'yes' if cpu <= case.aim_s else 'no'} |",
            flush=True,
        )
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    if len(sys.argv) == 3 and sys.argv[1] == "--child":
        reduce(json.loads(sys.argv[2]))
    else:
        main()
