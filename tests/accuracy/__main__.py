"""Simulate a night, reduce it through the command line, compare every product with the truth.

    python -m tests.accuracy FOLDER [--instrument NAME] [--raw FOLDER] [--workers N] [--no-reduction]
                             [--only PART ...] [--table FILE]

FOLDER becomes the data root.  ``--raw`` takes the frames and the truth of a simulation that is there already;
they are linked, never written.  Without it the night is simulated first (full size: half an hour, 7 GB).
Six darks and two frames of the bare detector under even light are added, which an observatory has and a night
has not; the table notes what the night gives without them.
Printed are a Markdown table (quantity, target, measured, verdict) and the cost of every step.  The exit
status is 1 if a target was missed or a product is not there.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.accuracy.figures import Figure, markdown
from tests.accuracy.reduced import MissingProduct, Reduced

TOOLS = "import sys; from apero_dask.cli.tools import main; sys.exit(main())"
RUN_FILE = """RUN_NAME = "Accuracy of one night"
MASTER_OBS_DIR = {night}
CORES = {workers}
TELLURIC_TARGETS = 59Peg, gamSct
SCIENCE_TARGETS = Gl699
{skip}
id00000 = pp_seq
id00001 = master_seq
id00002 = calib_seq
id00003 = tellu_seq
id00004 = science_seq
"""
STEPS = (
    *("PP", "DARKM", "BADM", "LOCM", "SHAPEM", "SHAPELM", "FLATM", "LEAKM", "THIM", "THTM", "WAVEM"),
    *("BAD", "LOC", "SHAPE", "FF", "THERMAL", "WAVE"),
    *("EXTTELL", "EXTOBJ", "LEAKTELL", "LEAKOBJ", "MKTELLU1", "MKTELLU2", "MKTELLU3", "MKTELLU4"),
    *("FTELLU1", "FTELLU2", "FTELLU3", "CCF"),
)
ROOT = Path(__file__).resolve().parents[2]
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")


def detector(night: Reduced) -> Iterator[Figure]:
    from tests.accuracy.detector_figures import detector_figures

    return detector_figures(night)


def geometry(night: Reduced) -> Iterator[Figure]:
    from tests.accuracy.geometry_figures import geometry_figures

    return geometry_figures(night)


def spectra(night: Reduced) -> Iterator[Figure]:
    from tests.accuracy.spectra_figures import Spectra

    return Spectra(night).figures()


def waves(night: Reduced) -> Iterator[Figure]:
    from tests.accuracy.wave_figures import wave_figures

    return wave_figures(night)


def tellurics(night: Reduced) -> Iterator[Figure]:
    from tests.accuracy.telluric_figures import telluric_figures

    return telluric_figures(night)


def velocities(night: Reduced) -> Iterator[Figure]:
    from tests.accuracy.velocity_figures import velocity_figures

    return velocity_figures(night)


def memory(night: Reduced) -> Iterator[Figure]:
    from tests.accuracy.costs import memory_figures

    return memory_figures(night.root)


PARTS: dict[str, Callable[[Reduced], Iterator[Figure]]] = {
    "detector": detector,
    "geometry": geometry,
    "spectra": spectra,
    "waves": waves,
    "tellurics": tellurics,
    "velocities": velocities,
    "memory": memory,
}
"""Parts of the table in order."""


def environment() -> dict[str, str]:
    path = os.pathsep.join([str(ROOT), str(ROOT / "kernels"), os.environ.get("PYTHONPATH", "")])
    return {**os.environ, **dict.fromkeys(THREADS, "1"), "PYTHONPATH": path}


def link(source: Path, root: Path) -> None:
    """Hard links to the raw frames and the truth of a simulation, copies where that is impossible."""
    for name in ("raw", "truth", "assets"):
        if not (source / name).is_dir():
            if name == "assets":
                continue
            raise SystemExit(
                f"{source} holds no folder {name}: expected the output of 'apero-dask simulate'."
            )
        for path in sorted(p for p in (source / name).rglob("*") if p.is_file()):
            target = root / path.relative_to(source)
            # The detector file is made here, of frames that are added here.
            if target.exists() or path.is_relative_to(source / "assets" / "detector"):
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                os.link(path, target)
            except OSError:
                shutil.copy2(path, target)


def prepare(root: Path, instrument: str, raw: Path | None, workers: int, *, add: bool = True) -> None:
    """Raw frames and truth; frames that are added to the night and the detector file made with them."""
    root.mkdir(parents=True, exist_ok=True)
    if raw is not None:
        link(raw, root)
    elif not (root / "truth" / "frames.csv").exists():
        command = [
            "simulate",
            "--campaign",
            "demo",
            "--instrument",
            instrument,
            "--nights",
            "1",
            "--frames",
            "1",
        ]
        command += ["--workers", str(workers), "--no-truth-images", "--out", str(root)]
        subprocess.run([sys.executable, "-c", TOOLS, *command], check=True, env=environment())
    if not add:
        return
    from tests.accuracy.added_frames import add_frames, make_static_file

    night = Reduced(root)
    further, even = add_frames(root, night.config, night.specs)
    make_static_file(root, night.instrument, [*night.specs, *further], even)


def reduce(night: Reduced, workers: int) -> int:
    """Run the sequences; finished runs are kept."""
    skip = "\n".join(f"SKIP_{step} = True" for step in STEPS)
    run_file = night.root / "accuracy.ini"
    run_file.write_text(RUN_FILE.format(night=night.night, workers=workers, skip=skip), encoding="utf-8")
    command = [
        sys.executable,
        "-m",
        "apero_dask",
        "--data",
        str(night.root),
        night.instrument.name,
        str(run_file),
    ]
    begin = time.monotonic()
    status = subprocess.run(command, env=environment()).returncode
    print(f"Reduction: exit status {status}, {time.monotonic() - begin:.0f} s\n", flush=True)
    return status


def judge(night: Reduced, parts: list[str]) -> list[Figure]:
    """All figures; what cannot be measured becomes a row that says why."""
    found: list[Figure] = []
    for name in parts:
        begin = time.monotonic()
        try:
            for figure in PARTS[name](night):
                found.append(figure)
                print(f"{figure.verdict:>7}  {figure.quantity}: {figure.measured}  {figure.note}", flush=True)
        except MissingProduct as error:
            found.append(Figure(name, "", "not made", False, str(error)))
        except Exception as error:  # the other parts are still wanted; the row and the status tell
            traceback.print_exc()
            found.append(Figure(name, "", "not measured", False, f"{type(error).__name__}: {error}"))
        print(f"{name}: {time.monotonic() - begin:.0f} s", flush=True)
    return found


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.accuracy", description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="data root, made if it is not there")
    parser.add_argument("--instrument", default="SPIROU", help="instrument to simulate (default SPIROU)")
    parser.add_argument("--raw", type=Path, help="output of an earlier simulation to take the frames from")
    parser.add_argument("--workers", type=int, default=2, help="processes of simulation and reduction (2)")
    parser.add_argument("--no-reduction", action="store_true", help="judge what is there")
    parser.add_argument("--only", nargs="+", choices=list(PARTS), default=list(PARTS), help="parts to judge")
    parser.add_argument("--table", type=Path, help="file that receives the tables too")
    args = parser.parse_args()
    root = args.folder.resolve()
    prepare(root, args.instrument, args.raw, args.workers, add=not args.no_reduction)
    night, status = Reduced(root), 0
    if not args.no_reduction:
        status = reduce(night, args.workers)
    from tests.accuracy.costs import cost_table

    figures = judge(night, args.only)
    text = f"\n{markdown(figures)}\n\n{cost_table(root)}\n"
    print(text)
    if args.table:
        args.table.write_text(text.lstrip(), encoding="utf-8")
    return 1 if status or any(f.met is False for f in figures) else 0


if __name__ == "__main__":
    sys.exit(main())
