"""Make the built-in velocity mask of a cool star from the built-in line list.

Run ``python -m apero_dask.tables.derive_mask`` to rewrite ``apero_dask_mdwarf.mas``; a test compares the
result with the packaged file.  A mask in use was measured on a star at finite S/N: its positions are off by
some 75 m/s, its weights by a quarter, some lines were missed and some of its lines are none.  All of this is
put into the file, with random numbers of a fixed seed, so that velocities are no better than with a mask of
the sky.  Like the line list it identifies no line of any star.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from apero_dask.tables.derive_lines import C_KMS, mdwarf

HERE = Path(__file__).parent
NAME = "apero_dask_mdwarf.mas"
SEED = 49_4089
POSITION_MS = (
    75.0  # rms error of a position; our choice, between published masks (50) and crowded lists (100)
)
POSITION_FLOOR = 0.06  # depth at which the error has that value; shallower lines are known worse
WEIGHT_LOG_RMS = 0.25  # natural logarithm
MISSED = 0.10
FALSE = 0.03  # lines that are none, relative to true ones, with the weights of the shallowest
SHALLOWEST = 0.03
BOX_KMS = 1.7  # width of a line in the file; only its middle counts


def derive() -> str:
    """Text of the mask: first and last wavelength of a line in nm (vacuum), weight."""
    rows = np.array([line.split(",") for line in mdwarf()[1:]], dtype=float)
    wave, depth, clean = rows.T
    rng = np.random.default_rng(SEED)
    # All numbers are drawn for all lines, so that one limit does not change what another line gets.
    error = (
        rng.standard_normal(wave.size) * POSITION_MS / 1e3 * np.sqrt(np.maximum(POSITION_FLOOR / depth, 0.5))
    )
    factor = np.exp(WEIGHT_LOG_RMS * rng.standard_normal(wave.size))
    missed = rng.uniform(size=wave.size) < MISSED
    keep = (depth >= SHALLOWEST) & (clean > 0) & ~missed
    found = wave[keep] * (1.0 + error[keep] / C_KMS)
    weight = depth[keep] * factor[keep]
    count = round(FALSE * found.size)
    extra = wave.min() * np.exp(rng.uniform(size=count) * np.log(wave.max() / wave.min()))
    extra_weight = SHALLOWEST * np.exp(WEIGHT_LOG_RMS * rng.standard_normal(count))
    wave, weight = np.concatenate([found, extra]), np.concatenate([weight, extra_weight])
    order = np.argsort(wave, kind="stable")
    half = 0.5 * BOX_KMS / C_KMS
    lines = [
        "# velocity mask of a cool star made by derive_mask.py from the built-in line list; no real line",
        "# first wavelength, last wavelength (nm, vacuum), weight",
    ]
    lines += [
        f"{w * (1 - half):.6f} {w * (1 + half):.6f} {d:.4f}"
        for w, d in zip(wave[order], weight[order], strict=True)
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    (HERE / NAME).write_text(derive(), encoding="utf-8")
