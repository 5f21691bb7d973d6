"""Time the simulator: one complete frame of either instrument, and archives of headers.

    python benchmarks/bench_simulator.py [--json FILE] [--headers N] [NAME ...]

Every case runs in a process of its own.  *first* is the first frame of a process (static detector, line lists
and compiled loops included), *next* the second one: all effects on, truth file with all planes, both files
written to disk.  On a machine that does other work CPU seconds tell more than wall seconds; *load_before*
says whether it did.  Peak memory is that of the largest process.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from importlib.metadata import version
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))


def frame(instrument: str, dprtype: str) -> dict[str, float]:
    """Seconds for the first and for a further frame of one type."""
    from apero_dask.simulator.archive import Archive
    from apero_dask.simulator.campaign import CampaignConfig
    from apero_dask.simulator.config import SimulatorConfig
    from apero_dask.simulator.runner import campaign_of, simulate_frame

    config = SimulatorConfig(instrument=instrument, campaign=CampaignConfig(name="worked"))
    specs = [spec for spec in campaign_of(config).frames if spec.dprtype == dprtype]
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        archive = Archive(Path(folder))
        for name, spec in zip(("first", "next"), specs, strict=False):
            start, cpu = time.perf_counter(), time.process_time()
            simulate_frame(config, archive, spec, "benchmark")
            found[f"{name}_wall_s"] = time.perf_counter() - start
            found[f"{name}_cpu_s"] = time.process_time() - cpu
        found["raw_mb"] = archive.raw(specs[0]).stat().st_size / 1e6
        found["truth_mb"] = archive.truth(specs[0]).stat().st_size / 1e6
    return found


def headers(number: int, workers: int) -> dict[str, float]:
    """Files of one header each, written through the command line."""
    from apero_dask.simulator.cli import main

    with tempfile.TemporaryDirectory() as folder:
        nights = max(1, round(number / 102))
        start = time.perf_counter()
        command = ["--campaign", "survey", "--headers-only", "--out", folder, "--nights", str(nights)]
        status = main([*command, "--workers", str(workers)])
        wall = time.perf_counter() - start
        files = sum(1 for _ in Path(folder, "raw").rglob("*.fits"))
    if status != 0:
        raise SystemExit(f"the simulator ended with status {status}")
    return {"files": files, "wall_s": wall, "files_per_s": files / wall}


def specifications(number: int) -> dict[str, float]:
    """Exposures and header cards in memory, without a file."""
    from apero_dask.simulator.campaign import CampaignConfig
    from apero_dask.simulator.config import SimulatorConfig
    from apero_dask.simulator.headers import header_cards
    from apero_dask.simulator.observatory import camera_of
    from apero_dask.simulator.runner import campaign_of

    nights = max(1, round(number / 102))
    config = SimulatorConfig(campaign=CampaignConfig(name="survey", nights=nights))
    start = time.perf_counter()
    frames = campaign_of(config, velocities=False).frames
    listed = time.perf_counter() - start
    camera = camera_of(config)
    for spec in frames:
        header_cards(spec, camera)
    wall = time.perf_counter() - start
    return {"frames": len(frames), "list_s": listed, "wall_s": wall, "frames_per_s": len(frames) / wall}


def _child(function: Callable[..., dict], arguments: tuple, pipe) -> None:
    start, cpu = time.perf_counter(), time.process_time()
    # Progress and results of the command go elsewhere: standard output is for the figures.
    with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
        found = function(*arguments)
    usage = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    found |= {
        "process_wall_s": time.perf_counter() - start,
        "process_cpu_s": time.process_time() - cpu + usage[1].ru_utime + usage[1].ru_stime,
        "peak_mb": max(u.ru_maxrss for u in usage) / 1e3,
    }
    pipe.send(found)


def measure(function: Callable[..., dict], *arguments: object) -> dict[str, float]:
    """Run a case in a fresh process."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=_child, args=(function, arguments, there))
    process.start()
    there.close()
    try:
        found = here.recv()
    except EOFError:
        process.join()
        raise SystemExit(f"{function.__name__}{arguments} ended with status {process.exitcode}") from None
    process.join()
    return {key: round(value, 3) for key, value in found.items()}


def machine() -> dict[str, object]:
    """What the figures were measured on."""
    model = platform.processor()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [line.split(":")[1].strip() for line in info.read_text().splitlines() if "model name" in line]
        model = names[0] if names else model
    packages = ("numpy", "scipy", "numba", "astropy")
    return {
        "system": platform.platform(),
        "processor": model,
        "cores": os.cpu_count(),
        "load_before": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        **{name: version(name) for name in packages},
    }


def main() -> int:
    """Measure the cases asked for and print them as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="full, small, headers, memory (default: all)")
    parser.add_argument("--headers", type=int, default=20_000, metavar="N", help="files of the header cases")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args()
    cases = {
        "full": lambda: {
            kind: measure(frame, "SPIROU", kind) for kind in ("OBJ_FP", "HCONE_HCONE", "DARK_DARK_INT")
        },
        "small": lambda: {
            kind: measure(frame, "SPIROU_MINI", kind) for kind in ("OBJ_FP", "FLAT_FLAT", "DARK_DARK_INT")
        },
        "headers": lambda: {f"{n} processes": measure(headers, options.headers, n) for n in (1, 2)},
        "memory": lambda: measure(specifications, options.headers),
    }
    unknown = set(options.names) - set(cases)
    if unknown:
        parser.error(f"unknown case {', '.join(sorted(unknown))}; known: {', '.join(cases)}")
    figures: dict[str, object] = {"machine": machine()}
    for name, case in cases.items():
        if not options.names or name in options.names:
            figures[name] = case()
    text = json.dumps(figures, indent=2)
    print(text)
    if options.json:
        options.json.write_text(text + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
