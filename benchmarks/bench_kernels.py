"""Time the kernels on full-size frames: memory-resident, single thread, compilation excluded.

    python benchmarks/bench_kernels.py [--repeat N] [--json FILE] [NAME ...]

Each figure is the best of N runs, in CPU seconds (a busy machine does not count twice) and in *copies*:
multiples of copying one float64 array of 4096 x 4096 (134 MB) in the same run, so that figures of different
machines can be compared.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ.setdefault(name, "1")

import numpy as np  # noqa: E402  (the thread limits must be set first)

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "kernels"))
sys.path.insert(0, str(Path(__file__).resolve().parent))

import kernel_cases  # noqa: E402

Case = tuple[str, Callable[[], object]]


def best(function: Callable[[], object], repeat: int) -> float:
    function()  # compiles, and brings the arrays into memory
    times = []
    for _ in range(repeat):
        start = time.process_time()
        function()
        times.append(time.process_time() - start)
    return min(times)


def copy_time(repeat: int) -> float:
    source = np.random.default_rng(0).random((4096, 4096))
    target = np.empty_like(source)
    return best(lambda: np.copyto(target, source), max(repeat, 5))


def cases(names: list[str]) -> Iterator[Case]:
    for name, group in kernel_cases.GROUPS.items():
        if not names or name in names:
            for label, function in group():
                yield f"{name}: {label}", function


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help=f"groups to run: {', '.join(kernel_cases.GROUPS)}")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    arguments = parser.parse_args()
    unknown = set(arguments.names) - set(kernel_cases.GROUPS)
    if unknown:
        parser.error(f"no group {', '.join(sorted(unknown))}; there are {', '.join(kernel_cases.GROUPS)}")
    unit = copy_time(arguments.repeat)
    print(f"one copy of 134 MB: {1e3 * unit:.1f} ms")
    figures = {}
    for label, function in cases(arguments.names):
        seconds = best(function, arguments.repeat)
        figures[label] = {"seconds": seconds, "copies": seconds / unit}
        print(f"{label:<58} {seconds:8.3f} s {seconds / unit:8.1f} copies", flush=True)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(f"peak memory {peak:.2f} GB (test arrays included)")
    if arguments.json:
        import numba

        record = {
            "machine": platform.machine(), "python": platform.python_version(), "numpy": np.__version__,
            "numba": numba.__version__, "threads": 1, "copy_seconds": unit, "peak_gb": peak,
            "figures": figures,
        }  # fmt: skip
        arguments.json.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
