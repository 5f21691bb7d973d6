"""Times planning and writing of plans for archives that exist only in memory.

    python benchmarks/bench_planner.py [--large] [--sizes N ...] [--sequence NAME] [--again] [--json FILE]

Nights like those of the worked example, scaled: 50 calibration frames (evening and morning sets), 44
exposures of science objects, 5 of hot stars, one of the sky: 100 frames and about 350 runs a night, half
of the frames being exposures of stars.  Sizes 1 000, 10 000 and 100 000 frames; ``--large`` adds 1 000 000.
``--again`` plans a second time against the markers of a finished first reduction, all SKIP switches on.

Every size runs in a process of its own, so that its peak memory (high-water mark of the resident set, with
interpreter and frame index) is its own.  ``build`` is ``build_plan``, ``write`` streams the JSON lines to a
file; both as wall time and, in brackets, as processor time, which says more on a machine that is not idle.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).resolve().parents[1])]

SIZES = (1_000, 10_000, 100_000)
LARGE = 1_000_000
PER_NIGHT = 100
FIRST_MJD = 58386
OBJECTS, HOT = 500, 40

# (type, letter, OBSTYPE, number, exposure time in s) of the two calibration sets of a night
EVENING = (
    ("DARK_DARK_INT", "d", "DARK", 2, 601.767),
    ("DARK_DARK_TEL", "d", "DARK", 2, 601.767),
    ("DARK_FLAT", "f", "FLAT", 5, 27.86),
    ("FLAT_DARK", "f", "FLAT", 5, 27.86),
    ("FLAT_FLAT", "f", "FLAT", 5, 27.86),
    ("FP_FP", "a", "ALIGN", 5, 61.291),
    ("DARK_FP", "a", "ALIGN", 2, 61.291),
    ("HCONE_HCONE", "c", "COMPARISON", 2, 601.767),
)
MORNING = tuple(row for row in EVENING if row[0] not in ("DARK_DARK_INT", "DARK_DARK_TEL", "DARK_FP"))


def frames(total: int) -> Iterator[Any]:
    """Frames of an archive of ``total`` exposures, night after night."""
    import datetime

    from apero_dask.core.frames import RawFrame
    from apero_dask.core.names import clean_object_name
    from apero_dask.planner.sequences import TELLURIC_STARS

    hot = [clean_object_name(name) for name in TELLURIC_STARS[:HOT]]
    number = 0
    for day in range(total // PER_NIGHT):
        mjd = FIRST_MJD + day
        night = (datetime.date(1858, 11, 17) + datetime.timedelta(days=mjd)).isoformat()
        rows: list[tuple[str, str, str, str, float]] = []
        rows += [(t, c, o, "CALIB", e) for t, c, o, n, e in EVENING for _ in range(n)]
        for place in range(49):
            if place % 10 == 9 or place == 0:
                name = hot[(day * 5 + place) % HOT]
            else:
                name = f"OBJ{(day * 3 + place // 4) % OBJECTS:04d}"
            rows.append(
                (("OBJ_FP", "POLAR_FP", "OBJ_FP", "OBJ_DARK")[place % 4], "o", "OBJECT", name, 300.884)
            )
        rows.append(("DARK_FP_SKY", "o", "OBJECT", "SKY", 300.884))
        rows += [(t, c, o, "CALIB", e) for t, c, o, n, e in MORNING for _ in range(n)]
        clock = mjd + 2.4 / 24
        for dprtype, letter, obstype, frame_class, exptime in rows:
            clock += (exptime + 33.0) / 86400
            identifier = f"{2000000 + number}{letter}"
            yield RawFrame(
                identifier=identifier,
                obs_dir=night,
                path=f"{night}/{identifier}.fits",
                dprtype=dprtype,
                mjdmid=clock - exptime / 2 / 86400,
                exptime=exptime,
                obstype=obstype,
                frame_class=frame_class,
                pi_name="PI",
                cmpltexp=1,
                calibration_field=frame_class == "CALIB",
                size=2880,
                digest=identifier,
            )
            number += 1


def measure(total: int, sequence: str, again: bool) -> dict[str, float]:
    """Figures of one size; to be called in a fresh process."""
    from apero_dask.core.errors import Findings
    from apero_dask.core.frames import FrameIndex
    from apero_dask.core.snapshot import Snapshot
    from apero_dask.instruments.base import instrument
    from apero_dask.planner.build import build_plan
    from apero_dask.planner.sequences import SEQUENCES
    from apero_dask.runfile.merge import CommandLine, merge
    from apero_dask.runfile.reader import read_text

    text = f"MASTER_OBS_DIR = 2018-09-25\nid1 = {sequence}\n"
    snapshot = None
    index = FrameIndex.of(frames(total))
    before = peak_gb()
    if again:
        shorts = sorted({row.macro or row.short for row in SEQUENCES[sequence]})
        text += "".join(f"SKIP_{short} = True\n" for short in shorts)
    settings = merge(read_text("bench.ini", text.encode(), Findings()), CommandLine(), Findings())
    if again:
        from tests.planner.markers import execute

        first = build_plan(index, settings, instrument("SPIROU"), only_show=False)
        snapshot = execute(first).snapshot
        del first
        snapshot = Snapshot.of(snapshot.markers.values())
    start, start_cpu = time.perf_counter(), time.process_time()
    plan = build_plan(index, settings, instrument("SPIROU"), snapshot=snapshot, only_show=not again)
    built, built_cpu = time.perf_counter(), time.process_time()
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", suffix=".jsonl") as file:
        file.writelines(plan.json_lines())
        file.flush()
        size = Path(file.name).stat().st_size
    written, written_cpu = time.perf_counter(), time.process_time()
    return {
        "frames": len(index),
        "runs": len(plan.tasks),
        "skipped": sum(task.state.skipped for task in plan.tasks),
        "build_s": built - start,
        "write_s": written - built,
        "build_cpu_s": built_cpu - start_cpu,
        "write_cpu_s": written_cpu - built_cpu,
        "plan_mb": size / 1e6,
        "index_gb": before,
        "peak_gb": peak_gb(),
    }


def peak_gb() -> float:
    """High-water mark of the resident set of this process, GB."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=list(SIZES))
    parser.add_argument("--large", action="store_true", help="also 1 000 000 frames")
    parser.add_argument("--sequence", default="limited_seq")
    parser.add_argument("--again", action="store_true", help="re-plan a finished reduction")
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one is not None:
        print(json.dumps(measure(arguments.one, arguments.sequence, arguments.again)))
        return 0
    sizes = [*arguments.sizes, *([LARGE] if arguments.large else [])]
    results = []
    names = ("frames", "runs", "skipped", "build s (cpu)", "write s (cpu)", "plan MB", "peak GB")
    widths = (9, 9, 9, 16, 16, 9, 8)
    print(*(f"{name:>{width}}" for name, width in zip(names, widths, strict=True)))
    for size in sizes:
        command = [sys.executable, __file__, "--one", str(size), "--sequence", arguments.sequence]
        done = subprocess.run(
            [*command, *(["--again"] if arguments.again else [])], check=True, capture_output=True, text=True
        )
        figures = json.loads(done.stdout)
        results.append(figures)
        cells = (
            f"{figures['frames']:.0f}",
            f"{figures['runs']:.0f}",
            f"{figures['skipped']:.0f}",
            f"{figures['build_s']:.2f} ({figures['build_cpu_s']:.2f})",
            f"{figures['write_s']:.2f} ({figures['write_cpu_s']:.2f})",
            f"{figures['plan_mb']:.1f}",
            f"{figures['peak_gb']:.2f}",
        )
        print(*(f"{cell:>{width}}" for cell, width in zip(cells, widths, strict=True)), flush=True)
    if arguments.json:
        machine = {
            "python": platform.python_version(),
            "machine": platform.machine(),
            "cores": os.cpu_count(),
        }
        arguments.json.write_text(json.dumps({"machine": machine, "results": results}, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
