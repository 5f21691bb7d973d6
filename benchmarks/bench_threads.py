"""Two threads on independent frames: do kernels scale, and if not, is it the memory?

    python benchmarks/bench_threads.py [--threads N] [--seconds S] [NAME ...]

Every thread works on arrays of its own for S seconds; kernels release the interpreter lock.  The speed-up is
the number of calls ended by all threads in a second over that of one thread alone.  Copying a large array is
bound by the bandwidth of the memory, arithmetic in registers by nothing but the cores: the first line shows
how far the memory of the machine lets any kernel scale, the second what its cores do.  The share of the
processors that the threads got tells whether other programs were running: below 1, compare the last column,
which counts calls per second of processor time.
"""

from __future__ import annotations

import argparse
import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ.setdefault(name, "1")

import numpy as np  # noqa: E402  (the thread limits must be set first)

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "kernels"), str(ROOT / "benchmarks")]

import kernel_cases  # noqa: E402
from apero_kernels._jit import kernel  # noqa: E402

Job = Callable[[], object]


@kernel
def _arithmetic(values, turns):
    for _ in range(turns):
        for i in range(values.shape[0]):
            values[i] = values[i] * 0.999 + 0.001
    return values[0]


def copying() -> Job:
    source = np.random.default_rng(0).random((2048, 4096))
    target = np.empty_like(source)
    return lambda: np.copyto(target, source)


def computing() -> Job:
    values = np.random.default_rng(0).random(1024)
    return lambda: _arithmetic(values, 100_000)


def straightening() -> Job:
    from apero_kernels.resample import resample

    image, _ = kernel_cases.cal_frame()
    x = np.arange(kernel_cases.NX) / kernel_cases.NX
    dymap = np.tile((60 * (x - 0.5) ** 2).astype(np.float32), (kernel_cases.NY, 1))
    out = np.empty_like(image)
    return lambda: resample(image, (1.3, -0.7, 1.0002, 1e-4, -3e-4, 0.9999), out, dymap=dymap)


def extracting() -> Job:
    from apero_kernels import extract

    image, _ = kernel_cases.cal_frame()
    profile, var = np.nan_to_num(image, nan=100.0), np.full_like(image, 400.0)
    first, height = extract.windows(np.arange(49) * 60.0 + 60, 16, 16)
    flux, noise = np.empty((49, kernel_cases.NX)), np.empty((49, kernel_cases.NX))
    return lambda: extract.optimal(image, var, profile, first, height, flux, noise, photon=1.15)


def blurring() -> Job:
    from apero_kernels.halo import blur

    image, _ = kernel_cases.cal_frame()
    out = np.empty_like(image)
    return lambda: blur(image, 6.36, 0.71, out)


def combining() -> Job:
    from apero_kernels.stack import stack

    cube = np.random.default_rng(4).standard_normal((5, 512, 4096), dtype=np.float32)
    out = np.empty(cube.shape[1:], np.float32)
    return lambda: stack(cube, out)


def fitting() -> Job:
    from apero_kernels import comb

    x = np.arange(float(kernel_cases.NX))
    flux = np.tile(5e4 * np.cos(np.pi * x / 7.0) ** 8 + 500.0, (10, 1))
    var = flux + 900.0
    order, start, _ = comb.find_peaks(flux, var)
    near = np.stack([start - 7.0, start + 7.0], axis=1)
    ratio, reach = np.ones((start.size, 2)), np.full(start.size, 3.85)
    return lambda: comb.fit_comb(flux, var, order, start, near, ratio, reach)


JOBS: dict[str, Callable[[], Job]] = {
    "copy of 67 MB": copying,
    "arithmetic in the cache": computing,
    "straightening": straightening,
    "extraction": extracting,
    "blur": blurring,
    "median of 5 images": combining,
    "comb peaks": fitting,
}


def rate(jobs: list[Job], seconds: float) -> tuple[float, float]:
    """Calls per second of all threads together, and processor seconds per second."""
    ended = [0] * len(jobs)
    ready = threading.Barrier(len(jobs) + 1)
    stop = threading.Event()

    def work(k: int) -> None:
        ready.wait()
        while not stop.is_set():
            jobs[k]()
            ended[k] += 1

    threads = [threading.Thread(target=work, args=(k,)) for k in range(len(jobs))]
    for thread in threads:
        thread.start()
    ready.wait()
    begin, used = time.monotonic(), time.process_time()
    time.sleep(seconds)
    stop.set()
    for thread in threads:
        thread.join()
    # The last calls end after the time is over: they count, and so does their time.
    wall = time.monotonic() - begin
    return sum(ended) / wall, (time.process_time() - used) / wall


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help=f"parts of names: {'; '.join(JOBS)}")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=3.0)
    arguments = parser.parse_args()
    chosen = [n for n in JOBS if not arguments.names or any(part in n for part in arguments.names)]
    count = arguments.threads
    print(f"| kernel | calls/s, 1 thread | {count} threads | speed-up | share of {count} cores | per CPU s |")
    print("|---|---|---|---|---|---|", flush=True)
    for label in chosen:
        jobs = [JOBS[label]() for _ in range(count)]
        for job in jobs:
            job()  # compiles, and brings the arrays into memory
        one, used_one = rate(jobs[:1], arguments.seconds)
        many, used = rate(jobs, arguments.seconds)
        print(
            f"| {label} | {one:.1f} | {many:.1f} | {many / one:.2f} | {used / count:.2f} "
            f"| {many / used / (one / used_one):.2f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
