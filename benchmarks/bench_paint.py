"""Times the painting of simulated frames, without detector and file.

    python benchmarks/bench_paint.py [--instrument NAME ...] [--repeat N]

Compiles first, then prints the best wall time and the processor time of one frame in one thread, and the peak
memory of the process so far.  Figures of this machine only.
"""

from __future__ import annotations

import argparse
import resource
import time

from apero_dask.simulator.config import make_config
from apero_dask.simulator.paint import paint
from apero_dask.simulator.spec import FrameSpec, Target

EXPOSURES = {
    "FLAT_FLAT": 27.860,
    "FP_FP": 61.291,
    "HCONE_HCONE": 601.767,
    "OBJ_FP": 300.884,
    "DARK_DARK_TEL": 601.767,
}


def frame(dprtype: str) -> FrameSpec:
    """A typical exposure of the type."""
    target = Target(name="star", kind="mdwarf") if dprtype.startswith("OBJ") else None
    return FrameSpec(
        identifier="1o",
        obs_dir="2020-01-01",
        dprtype=dprtype,
        index=1,
        exptime_s=EXPOSURES[dprtype],
        nreads=12,
        mjd_start=58849.0,
        mjd_end=58849.01,
        target=target,
        rv_kms=-110.1,
        berv_kms=12.0,
    )


def main() -> None:
    """Print one line per instrument and frame type."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--instrument", nargs="+", default=["SPIROU_MINI", "SPIROU"])
    parser.add_argument("--repeat", type=int, default=3)
    options = parser.parse_args()
    print(f"{'instrument':<12} {'type':<14} {'wall s':>8} {'cpu s':>8} {'peak GB':>8}")
    for instrument in options.instrument:
        config = make_config({"instrument": instrument})
        for dprtype in EXPOSURES:
            spec = frame(dprtype)
            paint(make_config({"instrument": "SPIROU_MINI"}), spec)
            walls, cpus = [], []
            for _ in range(options.repeat):
                wall, cpu = time.perf_counter(), time.process_time()
                paint(config, spec)
                walls.append(time.perf_counter() - wall)
                cpus.append(time.process_time() - cpu)
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
            print(
                f"{instrument:<12} {dprtype:<14} {min(walls):8.2f} {min(cpus):8.2f} {peak:8.2f}", flush=True
            )


if __name__ == "__main__":
    main()
