"""Line spread of the spectrograph from lamp lines, in velocity, over the detector."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from apero_dask.recipes.wave_cavity import C_KMS

if TYPE_CHECKING:
    import numpy as np

    from apero_dask.recipes.wave_lines import Lines
    from apero_dask.recipes.wave_maps import WaveMap

BINS = 3  # on each axis of the order-column plane (reference)
MOST_LINES = 100  # of a bin, the brightest (reference)
RANGE_KMS = 20.0  # of the superposition, on both sides
CORE_KMS = 5.0  # flux that normalises a line
START_FWHM = 3.5  # km/s
START_EXPONENT = 2.0
FEWEST = 4  # lines that determine a bin
CUT = 4.0  # sigma of the robust fit


@dataclass(frozen=True, slots=True)
class Resolution:
    """Super-Gaussian ``amplitude exp(-0.5 |v/s|^exponent)``, FWHM = 2 s (2 ln 2)^(1/exponent)."""

    fwhm: np.ndarray
    """float64[order, x], km/s, pixels included."""
    exponent: np.ndarray
    """float64[order, x]."""
    amplitude: np.ndarray
    """float64[order, x], per km/s of a line of unit flux."""
    lines: np.ndarray
    """int64[bin, bin]: lines used."""


def resolution_map(flux: np.ndarray, lines: Lines, wave: WaveMap) -> Resolution:
    """Width and shape of the line spread everywhere.

    Parameters
    ----------
    flux : float64[order, x]
        Lamp spectrum, e-.
    lines
        Measured lamp lines without neighbours.

    Notes
    -----
    Lines of each of 3 x 3 bins are laid over each other at their measured centres; the profile is fitted
    robustly and carried to every pixel linearly between the centres of the bins.  A bin with fewer than four
    lines takes the values of the whole frame.
    """
    import numpy as np

    lam = wave.image()
    row = (lines.order * BINS) // wave.norders
    column = np.clip(np.nan_to_num(lines.x) * BINS / wave.nx, 0, BINS - 1).astype(int)
    counts = np.zeros((BINS, BINS), np.int64)
    whole = _profile(flux, lam, lines, np.flatnonzero(lines.good), 4 * MOST_LINES)
    values = np.empty((3, BINS, BINS))
    for i in range(BINS):
        for j in range(BINS):
            rows = np.flatnonzero(lines.good & (row == i) & (column == j))
            counts[i, j] = rows.size
            found = _profile(flux, lam, lines, rows, MOST_LINES) if rows.size >= FEWEST else None
            values[:, i, j] = whole if found is None else found
    middle = (np.arange(BINS) + 0.5) / BINS
    at_order = (np.arange(wave.norders) + 0.5) / wave.norders
    at_column = (np.arange(wave.nx) + 0.5) / wave.nx
    maps = []
    for value in values:
        along = np.array([np.interp(at_column, middle, line) for line in value])
        maps.append(np.array([np.interp(at_order, middle, c) for c in along.T]).T)
    return Resolution(maps[0], maps[1], maps[2], counts)


def _profile(
    flux: np.ndarray, lam: np.ndarray, lines: Lines, rows: np.ndarray, most: int
) -> tuple[float, float, float]:
    """FWHM (km/s), exponent and amplitude of the lines `rows` laid over each other; NaN without any."""
    import numpy as np
    from scipy.optimize import least_squares

    best = rows[np.argsort(-lines.snr[rows], kind="stable")][:most]
    velocity, height = [], []
    columns = np.arange(lam.shape[1])
    for k in best:
        o = int(lines.order[k])
        centre = float(np.interp(lines.x[k], columns, lam[o]))
        v = C_KMS * (lam[o] / centre - 1.0)
        near = np.abs(v) < RANGE_KMS
        core = near & (np.abs(v) < CORE_KMS)
        wing = near & (np.abs(v) > 2 * CORE_KMS)
        if np.count_nonzero(core) < 3 or np.count_nonzero(wing) < 3 or not np.isfinite(flux[o][near]).all():
            continue
        level = float(np.median(flux[o][wing]))
        # Flux of the line per velocity: pixels are not equally wide.
        step = np.gradient(v)
        light = float(np.sum((flux[o] - level)[core]))
        if light > 0:
            velocity.append(v[near])
            height.append(((flux[o] - level) / step / light)[near])
    if not velocity:
        return float("nan"), float("nan"), float("nan")
    v, y = np.concatenate(velocity), np.concatenate(height)

    def model(p: np.ndarray) -> np.ndarray:
        scale = 0.5 * p[0] / (2 * np.log(2.0)) ** (1.0 / p[2])
        return np.asarray(p[1] * np.exp(-0.5 * np.abs(v / scale) ** p[2]))

    sigma = 1.4826 * float(np.median(np.abs(y[np.abs(v) > 2 * CORE_KMS]))) + 1e-4
    found = least_squares(
        lambda p: (model(p) - y) / (CUT * sigma),
        np.array([START_FWHM, float(np.percentile(y, 98)), START_EXPONENT]),
        bounds=([1.0, 1e-4, 1.0], [15.0, 10.0, 8.0]),
        loss="soft_l1",
    )
    return float(found.x[0]), float(found.x[2]), float(found.x[1])
