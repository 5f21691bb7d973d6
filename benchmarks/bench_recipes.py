"""Time whole recipes on full-size frames: from the start of the process to the last product.

    python benchmarks/bench_recipes.py FOLDER [--instrument NAME] [--repeat N] [--json FILE] [NAME ...]

FOLDER receives a simulated night of the instrument once (some ten minutes and 8 GB for the full one) and the
products.  Every figure is that of a process of its own with one thread, start-up, reading, digests and
writing included; machine code of the kernels comes from their cache, which an unmeasured run fills.  Given
are the least CPU seconds (user and system) of N runs, their wall time, which a busy machine stretches, and
the largest resident size.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
TOOLS = "import sys; from apero_dask.cli.tools import main; sys.exit(main())"
INSTRUMENT = "SPIROU"


@dataclass(frozen=True)
class Case:
    """One or more runs that share a process."""

    name: str
    recipe: str
    short: str
    outputs: tuple[str, ...]
    inputs: Callable[[Night], list[dict[str, list[str]]]]
    """Files by argument, of every run."""
    aim_s: float
    """CPU seconds aimed at, per run: a fifteenth of what the established pipeline takes."""
    needs: tuple[str, ...] = ()
    """Types of frames that must have been preprocessed."""
    tree: str = "reduced"
    tier: str = "night"


@dataclass(frozen=True)
class Night:
    """Frames of the simulated night by type, in order."""

    root: Path
    obs_dir: str
    frames: dict[str, list[str]]

    def raw(self, dprtype: str, count: int = 1) -> list[str]:
        """Raw frames below the root."""
        return [f"raw/{self.obs_dir}/{name}.fits" for name in self.frames[dprtype][:count]]

    def pp(self, dprtype: str, count: int = 99) -> list[str]:
        """Preprocessed frames below the root."""
        return [f"tmp/{self.obs_dir}/{name}_pp.fits" for name in self.frames[dprtype][:count]]


def one_frame(night: Night) -> list[dict[str, list[str]]]:
    return [{"files": night.raw("FLAT_FLAT")}]


def five_frames(night: Night) -> list[dict[str, list[str]]]:
    return [{"files": [path]} for path in night.raw("FLAT_FLAT", 5)]


def one_dark(night: Night) -> list[dict[str, list[str]]]:
    return [{"files": night.raw("DARK_DARK_INT")}]


def three_darks(night: Night) -> list[dict[str, list[str]]]:
    return [{"darkfiles": [*night.pp("DARK_DARK_INT", 2), *night.pp("DARK_DARK_TEL", 1)]}]


def flats_and_darks(night: Night) -> list[dict[str, list[str]]]:
    return [{"flatfiles": night.pp("FLAT_FLAT", 3), "darkfiles": night.pp("DARK_DARK_INT", 2)}]


CASES = (
    Case("preprocessing, a flat", "cal_preprocessing", "PP", ("PP",), one_frame, 0.6, tree="tmp"),
    Case("preprocessing, a dark", "cal_preprocessing", "PP", ("PP",), one_dark, 0.6, tree="tmp"),
    Case("preprocessing, five flats", "cal_preprocessing", "PP", ("PP",), five_frames, 0.6, tree="tmp"),
    Case(
        "reference dark, 3 darks", "cal_dark_master", "DARKM", ("DARKM",), three_darks, 0.73,
        ("DARK_DARK_INT", "DARK_DARK_TEL"), tier="master",
    ),
    Case(
        "bad pixels, 3 flats 2 darks", "cal_badpix", "BAD", ("BADPIX", "BKGRDMAP"), flats_and_darks, 1.6,
        ("FLAT_FLAT", "DARK_DARK_INT"),
    ),
)  # fmt: skip


def simulated(root: Path, instrument: str) -> Night:
    """The night, simulated if it is not there."""
    command = ["simulate", "--campaign", "demo", "--instrument", instrument, "--nights", "1", "--frames", "1"]
    subprocess.run(
        [sys.executable, "-c", TOOLS, *command, "--no-truth-images", "--out", str(root)],
        check=True, stdout=subprocess.DEVNULL, env=environment(),
    )  # fmt: skip
    from apero_dask.simulator.truth import read_campaign

    frames: dict[str, list[str]] = {}
    for row in read_campaign(root):
        frames.setdefault(row["dprtype"], []).append(row["identifier"])
    return Night(root, str(row["obs_dir"]), frames)


def environment() -> dict[str, str]:
    path = os.pathsep.join([str(ROOT), str(ROOT / "kernels"), os.environ.get("PYTHONPATH", "")])
    return {**os.environ, **dict.fromkeys(THREADS, "1"), "PYTHONPATH": path}


def reduce(description: dict) -> None:
    """Carry out the runs of a case in this process."""
    from apero_dask import recipes  # noqa: F401  (registers the declarations)
    from apero_dask.core.ids import digest
    from apero_dask.core.products import KINDS, folder
    from apero_dask.core.work import InputFile, Work
    from apero_dask.engine.worker import CalibrationCache
    from apero_dask.instruments import instrument
    from apero_dask.io.trees import find_trees
    from apero_dask.recipes.context import run_recipe

    cache = CalibrationCache()
    tree, tier, obs_dir = description["tree"], description["tier"], description["obs_dir"]
    for inputs in description["runs"]:
        first = next(iter(inputs.values()))[0]
        stem = Path(first).name.removesuffix(".fits").removesuffix("_pp")
        made = tuple(
            (kind, "", folder(tree, tier, obs_dir, KINDS[kind].life) + KINDS[kind].file_name(stem))
            for kind in description["outputs"]
        )
        work = Work(
            key="00001.1.00001", short=description["short"], recipe=description["recipe"], tier=tier,
            variant="",
            obs_dir=obs_dir, object="", stem=stem, time=58386.0, identity=digest([stem, inputs]), code="",
            invocation="benchmark", instrument=description["instrument"], trees=(),
            inputs=tuple((name, tuple(map(InputFile, paths))) for name, paths in inputs.items()),
            planned_inputs=(), calibrations=(), outputs=made, options=(),
            volatile=(("DRSPDATE", "2026-01-01T00:00:00"), ("DRSPID", "benchmark")),
        )  # fmt: skip
        run_recipe(work, find_trees(description["root"]), instrument(description["instrument"]), cache=cache)


def measure(description: dict) -> tuple[float, float, float]:
    """CPU seconds, wall seconds and resident GB of a process that reduces a case."""
    begin = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, __file__, "--child", json.dumps(description)],
        env=environment(),
        stderr=subprocess.PIPE,
    )
    errors = process.stderr.read().decode() if process.stderr else ""
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{description['recipe']} failed:\n{errors}")
    return usage.ru_utime + usage.ru_stime, time.monotonic() - begin, usage.ru_maxrss / 1e6


def described(night: Night, instrument: str, case: Case, runs: list[dict[str, list[str]]]) -> dict:
    return {
        "root": str(night.root), "instrument": instrument, "obs_dir": night.obs_dir, "recipe": case.recipe,
        "short": case.short, "outputs": case.outputs, "tree": case.tree, "tier": case.tier, "runs": runs,
    }  # fmt: skip


def prepare(night: Night, instrument: str, case: Case) -> None:
    """Preprocess what a case reads and is not there."""
    missing = [
        {"files": [raw]}
        for dprtype in case.needs
        for raw, pp in zip(night.raw(dprtype, 99), night.pp(dprtype), strict=True)
        if not (night.root / pp).exists()
    ]
    if missing:
        measure(described(night, instrument, CASES[0], missing))


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
    for case in chosen:
        prepare(night, arguments.instrument, case)
        runs = case.inputs(night)
        description = described(night, arguments.instrument, case, runs)
        measure(description)  # fills the cache of machine code
        found = [measure(description) for _ in range(arguments.repeat)]
        cpu, wall = min(f[0] for f in found), min(f[1] for f in found)
        memory, count = max(f[2] for f in found), len(runs)
        figures[case.name] = {"cpu_s": cpu, "wall_s": wall, "gb": memory, "runs": count, "aim_s": case.aim_s}
        print(
            f"{case.name:<30} {cpu:6.2f} s CPU {wall:6.2f} s wall {memory:5.2f} GB"
            + (f"  ({cpu / count:.2f} s a run)" if count > 1 else "")
            + f"  aim {case.aim_s:.2f} s",
            flush=True,
        )
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    if len(sys.argv) == 3 and sys.argv[1] == "--child":
        sys.path[:0] = [str(ROOT), str(ROOT / "kernels")]
        reduce(json.loads(sys.argv[2]))
    else:
        sys.path[:0] = [str(ROOT), str(ROOT / "kernels")]
        main()
