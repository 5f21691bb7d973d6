"""CPU seconds of the way from a raw frame of a star to its spectra, on a data root with calibrations.

    python benchmarks/bench_extract.py ROOT [--instrument SPIROU] [--night NIGHT] [--repeat N]

ROOT holds a night reduced as far as its wavelength solution (``master_seq`` and ``calib_seq``) and its
preprocessed frames of stars; where the raw one is there, its preprocessing is timed as well.  One process
with one thread, compiled, calibrations of the night in memory: the least of N runs, for one frame, all
fibres, all products.  Products go to a folder of their own and are removed.
"""

from __future__ import annotations

import argparse
import os
import resource
import sys
import time
from pathlib import Path

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ.setdefault(name, "1")

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "kernels")]

import apero_dask.recipes  # noqa: E402, F401  (declares the recipes)
from apero_dask.core.declare import Select, registered  # noqa: E402
from apero_dask.core.ids import digest  # noqa: E402
from apero_dask.core.layout import layout  # noqa: E402
from apero_dask.core.products import KINDS, Life, folder  # noqa: E402
from apero_dask.core.work import Calibration, CalibrationFile, InputFile, Work  # noqa: E402
from apero_dask.engine.worker import CalibrationCache  # noqa: E402
from apero_dask.instruments import INSTRUMENTS, FrameType, Instrument, instrument  # noqa: E402
from apero_dask.io.fits import FitsFile  # noqa: E402
from apero_dask.io.trees import find_trees  # noqa: E402
from apero_dask.recipes.context import run_recipe  # noqa: E402


def products(root: Path, chosen: Instrument, kind: str, night: str, group: str) -> list[CalibrationFile]:
    """Files of a calibration: those of the night, or of any master night for reference kinds."""
    found = []
    for fibre in (group,) if group else ("", *chosen.fibres):
        reference = KINDS[kind].life is Life.REFERENCE
        places = sorted((root / "reduced" / "master").glob("*")) if reference else []
        places = places or [root / folder("reduced", "night", night, KINDS[kind].life)]
        for place in places:
            for path in sorted(place.glob(KINDS[kind].file_name("*", fibre)))[:1]:
                name = str(path.relative_to(root))
                found.append(CalibrationFile(kind, fibre, name, registered=path.name))
    return found


def chosen_set(root: Path, chosen: Instrument, select: Select, night: str) -> Calibration:
    """What a selection would be given."""
    kinds = select.kinds
    files = [f for kind in kinds for f in products(root, chosen, kind, night, select.fibre)]
    if not files:
        raise SystemExit(f"{root} holds no {kinds[0]} of {night}; reduce its calibrations first")
    return Calibration(
        kinds, select.fibre, select.applies_to, f"benchmark {kinds[0]}", night, 58386.0, 1, files=tuple(files)
    )


def extraction(root: Path, chosen: Instrument, night: str, path: Path) -> tuple[Work, FrameType]:
    """Run of cal_extract on a preprocessed frame."""
    recipe = registered()["cal_extract"]
    head = FitsFile(path).values
    kind = chosen.frame_type(str(head["DPRTYPE"]).strip())
    chain = tuple(
        chosen_set(root, chosen, select, night)
        for select in recipe.selects
        if select.applies("night", "", kind.science, kind.reference)
    )
    stem = path.name.removesuffix("_pp.fits")
    made = tuple(
        (k, f, f"reduced/benchmark/{KINDS[k].file_name(stem, f)}")
        for k, _, fibres in layout(recipe, "", kind.reference)
        for f in fibres
    )
    return run_of(
        "cal_extract", "EXT", night, stem, str(path.relative_to(root)), made, chosen, chain, kind
    ), kind


def run_of(
    recipe: str,
    short: str,
    night: str,
    stem: str,
    path: str,
    made: tuple[tuple[str, str, str], ...],
    chosen: Instrument,
    chain: tuple[Calibration, ...] = (),
    kind: FrameType | None = None,
) -> Work:
    return Work(
        key="00001.1.00001", short=short, recipe=recipe, tier="night", variant="", obs_dir=night, object="",
        stem=stem, time=58386.0, identity=digest([recipe, stem]), code="", invocation="benchmark",
        instrument=chosen.name, trees=(), inputs=(("files", (InputFile(path),)),), planned_inputs=(),
        calibrations=chain, outputs=made, science=kind.science if kind else "",
        reference=kind.reference if kind else "",
        volatile=(("DRSPDATE", "2026-01-01T00:00:00"), ("DRSPID", "benchmark")),
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("root", type=Path, help="data root")
    parser.add_argument("--instrument", default=INSTRUMENTS[0], choices=INSTRUMENTS)
    parser.add_argument("--night", default="", help="default: the first with frames of stars")
    parser.add_argument("--repeat", type=int, default=3)
    arguments = parser.parse_args()
    root, chosen = arguments.root.absolute(), instrument(arguments.instrument)
    frames = sorted((root / "tmp").glob(f"{arguments.night or '*'}/*o_pp.fits"))
    if not frames:
        raise SystemExit(f"{root} holds no preprocessed frame of a star")
    path = next((p for p in frames if str(FitsFile(p).values["DPRTYPE"]).strip().endswith("_FP")), frames[-1])
    night = path.parent.name
    cache = CalibrationCache()
    tried, kind = extraction(root, chosen, night, path)
    runs = [("extraction, four fibres", tried)]
    raw = root / "raw" / night / path.name.replace("_pp.fits", ".fits")
    if raw.is_file():
        stem, source = raw.name.removesuffix(".fits"), str(raw.relative_to(root))
        made = (("PP", "", f"tmp/benchmark/{path.name}"),)
        first = run_of("cal_preprocessing", "PP", night, stem, source, made, chosen)
        runs.insert(0, ("preprocessing", first))
    trees = find_trees(str(root))
    for label, work in runs:
        times = []
        for _ in range(arguments.repeat + 1):
            cpu, wall = time.process_time(), time.perf_counter()
            result = run_recipe(work, trees, chosen, cache=cache)
            times.append((time.process_time() - cpu, time.perf_counter() - wall))
            for output in result.outputs:
                (root / output.path).unlink()
        best = min(times[1:])
        size = sum(output.size for output in result.outputs) / 1e6
        print(f"{label:<26} {kind.name}: {best[0]:6.2f} CPU s {best[1]:7.2f} s, {size:.0f} MB", flush=True)
    for tree in ("tmp", "reduced"):
        place = root / tree / "benchmark"
        if place.is_dir():
            place.rmdir()
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6:.2f} GB")


if __name__ == "__main__":
    main()
