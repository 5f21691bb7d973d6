"""Solve for wavelengths at full size: CPU seconds of every part, and how far the result is from the truth.

    python benchmarks/bench_wave.py [--instrument SPIROU] [--seed N]

Both lamps of a night are simulated (minutes at full size), as a perfect extraction would give them.
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

import numpy as np  # noqa: E402  (the thread limits must be set first)

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "kernels")]

from apero_dask.instruments import INSTRUMENTS, instrument  # noqa: E402
from apero_dask.recipes.wave_anchor import merge  # noqa: E402
from apero_dask.recipes.wave_catalogue import load_catalogue  # noqa: E402
from apero_dask.recipes.wave_cavity import starting_cavity  # noqa: E402
from apero_dask.recipes.wave_compare import comb_mask, comb_velocity  # noqa: E402
from apero_dask.recipes.wave_maps import first_guess  # noqa: E402
from apero_dask.recipes.wave_resolution import resolution_map  # noqa: E402
from apero_dask.recipes.wave_solution import solve_night, solve_reference  # noqa: E402
from tests.recipes.lamps import lamps  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--instrument", default=INSTRUMENTS[0], choices=INSTRUMENTS)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    chosen, seed = instrument(arguments.instrument), arguments.seed
    night = lamps(seed, instrument=chosen.name)
    guesses = {fibre: first_guess(chosen, fibre) for fibre in chosen.fibres}
    catalogue, cavity, tied = load_catalogue(None), starting_cavity(), chosen.localised

    def timed(label: str, function):
        function()  # compiles
        start = time.process_time()
        found = function()
        print(f"{label:<28} {time.process_time() - start:8.2f} CPU s", flush=True)
        return found

    first = timed(
        "reference solution", lambda: solve_reference(night.spectra, guesses, cavity, catalogue, tied)
    )
    maps = {fibre: found.wave for fibre, found in first.fibres.items()}
    anchors = merge([(f.hc, f.velocity, f.velocity_sigma) for f in (first.fibres[n] for n in tied)])
    later = lamps(seed, 1, instrument=chosen.name)
    second = timed(
        "night solution",
        lambda: solve_night(later.spectra, maps, first.cavity, catalogue, tied, anchors),
    )
    joint = first.fibres[chosen.fibres[0]]
    lamp = night.spectra[chosen.fibres[0]]
    timed("map of the line spread", lambda: resolution_map(lamp.hc, joint.hc, joint.wave))
    image, mask = joint.wave.image(), comb_mask(first.cavity)
    timed("velocity of one comb", lambda: comb_velocity(lamp.fp, image, mask))

    print(f"lamp lines {first.zero.lines}, error of the zero point {first.zero.sigma:.2f} m/s")
    middle = {}
    for fibre, found in first.fibres.items():
        error = night.error(fibre, found.wave.image())
        bright, lit = night.blaze[fibre] > 0.2, night.blaze[fibre] > 0.05
        zero, shape = error[bright].mean(), error[bright].std()
        middle[fibre] = np.median(error[bright])
        edge = np.abs(error[lit] - zero)
        print(
            f"{fibre:2}: {np.count_nonzero(found.fp.good)} peaks, {np.count_nonzero(found.hc.good)} lines, "
            f"finesse {found.shape.finesse:.1f}; against truth zero {zero:.2f}, shape {shape:.2f}, "
            f"worst edge {edge.max():.1f} m/s; fibre {middle[fibre] - middle[chosen.fibres[0]]:.3f} m/s"
        )
    drift = later.fp.cavity_ms - night.fp.cavity_ms
    print(f"drift of the night {second.cavity_ms:.3f} +- {second.zero.sigma:.3f} m/s, true {drift:.3f} m/s")
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6:.2f} GB")


if __name__ == "__main__":
    main()
