"""Times the frame index: cold scan, warm re-scan, how the reading threads scale, and planning once more.

    python benchmarks/bench_index.py [--frames N] [--pad MB] [--keep DIR] [--workers 1 2 4 8] [--json FILE]

Writes an archive of N header-only raw files (130 cards, 5 header blocks; ``--pad`` adds a sparse tail as long
as pixels would be), drops their pages from the cache of the operating system, and scans them.  Dropping is by
file (posix_fadvise), directory and inode caches stay warm: a true first scan of a remote archive pays the
latency of the server on top.  Results are figures of this machine and file system only.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

NIGHT = 300  # frames per night
FIRST_MJD = 58386.1
NOW = 62000.0

# (letter, OBSTYPE, SBCCAS_P, SBCREF_P, OBJECT): a mixture of calibrations and stars
KINDS = (
    ("d", "DARK", "pos_pk", "pos_pk", "Calibration"),
    ("f", "FLAT", "pos_wl", "pos_wl", "Calibration"),
    ("a", "ALIGN", "pos_fp", "pos_fp", "Calibration"),
    ("c", "COMPARISON", "pos_hc1", "pos_hc1", "Calibration"),
    ("o", "OBJECT", "pos_pk", "pos_fp", "Gl699"),
    ("o", "OBJECT", "pos_pk", "pos_pk", "TOI-442"),
    ("o", "OBJECT", "pos_pk", "pos_fp", "59Peg"),
    ("o", "OBJECT", "pos_pk", "pos_fp", "Gl 876"),
)


def card(key: str, value: str | int | float | bool) -> str:
    """One 80-character card."""
    if isinstance(value, bool):
        text = f"{'T' if value else 'F':>20}"
    elif isinstance(value, str):
        text = f"'{value:<8}'"
    else:
        text = f"{value!r:>20}"
    return f"{key:<8}= {text} / value of {key}"[:80].ljust(80)


def header(number: int) -> tuple[str, str, bytes]:
    """(night, file name, header unit) of the frame ``number`` of the archive."""
    night, place = divmod(number, NIGHT)
    letter, obstype, cas, ref, name = KINDS[place % len(KINDS)]
    identifier = f"{2000000 + number}{letter}"
    values: list[tuple[str, str | int | float | bool]] = [
        ("SIMPLE", True), ("BITPIX", 16), ("NAXIS", 0), ("EXTEND", True), ("FILENAME", identifier),
        ("INSTRUME", "SPIRou"), ("OBSTYPE", obstype), ("SBCCAS_P", cas), ("SBCREF_P", ref),
        ("SBRHB1_P", "P16"), ("SBCALI_P", "P5"), ("SBRHB2_P", "P16"), ("OBJECT", name), ("OBJNAME", name),
        ("PI_NAME", "QSO Team"), ("CMPLTEXP", 1), ("MJDEND", FIRST_MJD + night + place * 0.0015),
        ("EXPTIME", 300.884), ("FRMTIME", 5.57192), ("NREADS", 55),
    ]  # fmt: skip
    values += [(f"FILLER{n:02d}", n * 1.25) for n in range(100)]
    values += [(f"TEXT{n:02d}", f"words of card {n}") for n in range(10)]
    unit = "".join(card(*pair) for pair in values) + "END".ljust(80)
    return f"night-{night:05d}", f"{identifier}.fits", unit.ljust(-(-len(unit) // 2880) * 2880).encode()


def write_archive(raw: Path, frames: int, pad: int) -> list[Path]:
    """Write the archive; ``pad`` bytes of sparse tail per file."""
    paths = []
    for number in range(frames):
        night, name, unit = header(number)
        folder = raw / night
        if number % NIGHT == 0:
            folder.mkdir(parents=True)
        path = folder / name
        with path.open("wb") as out:
            out.write(unit)
            if pad:
                out.truncate(len(unit) + pad)
        paths.append(path)
    old = time.time_ns() - 3600 * 10**9  # settled long before the scan, as in a real archive
    for path in paths:
        os.utime(path, ns=(old, old))
    os.sync()
    return paths


def drop_pages(paths: list[Path]) -> None:
    """Make the operating system forget the contents of the files."""
    for path in paths:
        handle = os.open(path, os.O_RDONLY)
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(handle)


def one_scan(raw: Path, cache: str, workers: int) -> dict[str, float]:
    """Scan in a process of its own: seconds, frames and peak memory."""
    code = (
        "import sys, time, resource, json\n"
        "from pathlib import Path\n"
        "from apero_dask.instruments import instrument\n"
        "from apero_dask.io.indexer import scan\n"
        "raw, cache, workers, now = sys.argv[1:]\n"
        "start = time.perf_counter()\n"
        "index = scan(Path(raw), instrument('SPIROU'), now_mjd=float(now),\n"
        "             cache=Path(cache) if cache else None, workers=int(workers))\n"
        "seconds = time.perf_counter() - start\n"
        "peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024\n"
        "print(json.dumps({'seconds': seconds, 'frames': len(index), 'messages': len(index.findings),\n"
        "                  'peak_mb': peak}))\n"
    )
    command = [sys.executable, "-c", code, str(raw), cache, str(workers), str(NOW)]
    root = Path(__file__).resolve().parent.parent
    environment = {**os.environ, "PYTHONPATH": str(root)}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    result: dict[str, float] = json.loads(done.stdout)
    return result


def plan_again(raw: Path, cache: str) -> dict[str, float]:
    """Index of an unchanged archive from its cache and a whole plan of it, in a process of its own."""
    code = (
        "import sys, time, json\n"
        "from pathlib import Path\n"
        "from apero_dask.core.errors import Findings\n"
        "from apero_dask.instruments import instrument\n"
        "from apero_dask.io.indexer import scan\n"
        "from apero_dask.planner.build import build_plan\n"
        "from apero_dask.runfile.merge import CommandLine, merge\n"
        "from apero_dask.runfile.reader import read_text\n"
        "raw, cache, now = sys.argv[1:]\n"
        "text = b'MASTER_OBS_DIR = night-00000\\nTELLURIC_TARGETS = 59Peg\\nid1 = limited_seq\\n'\n"
        "settings = merge(read_text('bench.ini', text, Findings()), CommandLine(), Findings())\n"
        "wall, busy = time.perf_counter(), time.process_time()\n"
        "index = scan(Path(raw), instrument('SPIROU'), now_mjd=float(now), cache=Path(cache))\n"
        "indexed = time.perf_counter(), time.process_time()\n"
        "plan = build_plan(index, settings, instrument('SPIROU'))\n"
        "print(json.dumps({'seconds': time.perf_counter() - wall, 'cpu': time.process_time() - busy,\n"
        "                  'index_cpu': indexed[1] - busy, 'runs': len(plan.tasks)}))\n"
    )
    root = Path(__file__).resolve().parent.parent
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(root), str(root / "kernels")])}
    command = [sys.executable, "-c", code, str(raw), cache, str(NOW)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    result: dict[str, float] = json.loads(done.stdout)
    return result


def main() -> None:
    """Run the benchmark and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=10_000)
    parser.add_argument("--pad", type=int, default=0, metavar="MB", help="sparse tail of every file")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4, 8, 16])
    parser.add_argument("--repeat", type=int, default=3, help="repetitions of every scan; the median counts")
    parser.add_argument("--keep", type=Path, help="write the archive here and leave it")
    parser.add_argument("--json", type=Path, help="write the figures here")
    options = parser.parse_args()

    place = options.keep or Path(tempfile.mkdtemp(prefix="bench_index_"))
    try:
        raw = place / "raw"
        paths = write_archive(raw, options.frames, options.pad * 1_000_000)
        results: dict[str, object] = {
            "frames": options.frames,
            "pad_mb": options.pad,
            "python": platform.python_version(),
            "machine": platform.machine(),
            "processors": len(os.sched_getaffinity(0)),
        }
        cold: dict[int, float] = {}
        for workers in options.workers:
            seconds = []
            for _ in range(options.repeat):
                drop_pages(paths)
                outcome = one_scan(raw, "", workers)
                assert outcome["frames"] == options.frames and not outcome["messages"], outcome
                seconds.append(outcome["seconds"])
            cold[workers] = options.frames / statistics.median(seconds)
            print(f"cold headers, {workers:2d} thread(s): {cold[workers]:8.0f} files/s", flush=True)
        results["cold_files_per_s"] = cold

        cache = place / "log" / "raw_index.jsonl"
        first = one_scan(raw, str(cache), 8)
        warm = [one_scan(raw, str(cache), 8) for _ in range(options.repeat)]
        assert all(outcome["frames"] == options.frames for outcome in warm), warm
        results["first_scan_with_cache_s"] = first["seconds"]
        results["warm_scan_s"] = statistics.median(outcome["seconds"] for outcome in warm)
        results["warm_peak_mb"] = max(outcome["peak_mb"] for outcome in warm)
        results["cache_mb"] = cache.stat().st_size / 1e6
        print(f"first scan, writing the cache: {first['seconds']:.2f} s")
        print(f"unchanged archive: {results['warm_scan_s']:.2f} s, peak {results['warm_peak_mb']:.0f} MB")
        print(f"cache file: {results['cache_mb']:.1f} MB")

        again = [plan_again(raw, str(cache)) for _ in range(options.repeat)]
        for name in ("seconds", "cpu", "index_cpu", "runs"):
            results[f"plan_again_{name}"] = statistics.median(outcome[name] for outcome in again)
        print(
            f"unchanged archive planned again, {results['plan_again_runs']:.0f} runs: "
            f"{results['plan_again_seconds']:.2f} s ({results['plan_again_cpu']:.2f} s of processor time, "
            f"{results['plan_again_index_cpu']:.2f} s of it for the index)"
        )
        if options.json:
            options.json.write_text(json.dumps(results, indent=1) + "\n")
    finally:
        if not options.keep:
            shutil.rmtree(place)


if __name__ == "__main__":
    main()
