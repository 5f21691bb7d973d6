"""Judges wavelength solutions: order of the wavelengths, agreement of the fibres, velocity of the comb."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from apero_dask.recipes.wave_cavity import C_KMS, C_MS

if TYPE_CHECKING:
    import numpy as np

    from apero_dask.recipes.wave_cavity import Cavity
    from apero_dask.recipes.wave_solution import FibreSolution

MASK = "fp_cavity"
NUMBERS = (9000, 27000)  # peak numbers of the mask (reference)
WAVES_NM = (950.0, 2500.0)  # wavelengths of the mask (reference)
CCF_STEP = 0.5  # km/s (reference)
CCF_HALF = 7.5  # km/s (reference)
CCF_BOX = 1.7  # km/s, width of a line of the mask (reference)
LIMIT_MS = 2.0  # largest velocity between fibres (reference)


@dataclass(frozen=True, slots=True)
class CombVelocity:
    """Cross-correlation of a comb with the mask of its cavity."""

    velocity: float
    """km/s."""
    fwhm: float
    """km/s."""
    contrast: float
    """Per cent."""
    lines: int


def rises_along_orders(wave: np.ndarray) -> bool:
    """Whether wavelengths grow with the column everywhere, float64[order, x]."""
    import numpy as np

    return bool((np.diff(wave, axis=1) > 0).all())


def rises_across_orders(wave: np.ndarray) -> bool:
    """Whether wavelengths grow from order to order at every column."""
    import numpy as np

    return bool((np.diff(wave, axis=0) > 0).all())


def fibre_velocity(reference: FibreSolution, other: FibreSolution) -> float:
    """Median velocity of the peaks of a fibre against the same peaks of another, m/s.

    Peaks are matched by order and number; wavelengths are those of the maps at the measured centres.
    """
    import numpy as np

    found = []
    for fibre in (reference, other):
        fp = fibre.fp
        good = fp.good & (fp.label >= 0)
        key = fp.order[good] * 10**6 + fp.label[good]
        found.append((key, fibre.wave.wavelength(fp.order[good], fp.x[good])))
    _, here, there = np.intersect1d(found[0][0], found[1][0], return_indices=True)
    if here.size == 0:
        return float("nan")
    a, b = found[0][1][here], found[1][1][there]
    return float(np.median(C_MS * (b - a) / a))


def comb_mask(cavity: Cavity) -> np.ndarray:
    """Wavelengths of the peaks of a cavity, rising, nm."""
    import numpy as np

    wave = cavity.wavelength(np.arange(NUMBERS[1], NUMBERS[0] - 1, -1))
    return wave[(wave > WAVES_NM[0]) & (wave < WAVES_NM[1])]


def comb_velocity(flux: np.ndarray, wave: np.ndarray, mask: np.ndarray) -> CombVelocity:
    """Velocity of a comb against its mask.

    Parameters
    ----------
    flux, wave : float64[order, x]
        Comb and vacuum wavelengths in nm.
    mask : float64[line]
        Peaks in nm.

    Notes
    -----
    Sum over orders, fitted with a Gaussian on a constant.  An order is divided by its median first, so that
    bright ones do not speak for all.
    """
    grid, parts, used = comb_profiles(flux, wave, mask)
    return fit_comb(grid, parts.sum(axis=0), int(used.sum()))


def comb_profiles(
    flux: np.ndarray, wave: np.ndarray, mask: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Velocities float64[v] in km/s, cross-correlation float64[order, v] and lines int64[order] of a comb.

    Arguments as :func:`comb_velocity`.
    """
    import numpy as np
    from apero_kernels.ccf import correlate

    grid = np.arange(-CCF_HALF, CCF_HALF + 0.5 * CCF_STEP, CCF_STEP)
    level = np.array([np.median(row[np.isfinite(row)]) if np.isfinite(row).any() else 1.0 for row in flux])
    scaled = flux / np.where(level > 0, level, np.inf)[:, None]
    parts, _, used = correlate(scaled, wave, mask, np.ones(mask.size), _doppler(grid), CCF_BOX / C_KMS)
    return grid, parts, used


def fit_comb(grid: np.ndarray, profile: np.ndarray, lines: int) -> CombVelocity:
    """Fit the cross-correlation of a comb, float64[v] on velocities in km/s; NaN where there is no peak."""
    import numpy as np
    from scipy.optimize import least_squares

    nothing = CombVelocity(float("nan"), float("nan"), float("nan"), lines)
    if not profile.max() > profile.min():
        return nothing
    total = profile / profile.max()

    def model(p: np.ndarray) -> np.ndarray:
        return np.asarray(p[0] * np.exp(-0.5 * ((grid - p[1]) / p[2]) ** 2) + p[3])

    # The valleys between the peaks lie 6 km/s away in the bluest order.
    start = np.array([1.0 - total.min(), float(grid[np.argmax(total)]), 2.3, total.min()])
    fit = least_squares(lambda p: model(p) - total, start, x_scale=[1.0, 0.1, 1.0, 0.1])
    if not fit.success:
        return nothing
    height, velocity, sigma, floor = (float(p) for p in fit.x)
    contrast = 100.0 * height / (height + floor) if height + floor > 0 else float("nan")
    return CombVelocity(velocity, abs(sigma) * float(np.sqrt(8 * np.log(2.0))), contrast, lines)


def _doppler(velocity_kms: np.ndarray) -> np.ndarray:
    import numpy as np

    beta = velocity_kms / C_KMS
    return np.asarray(np.sqrt((1.0 + beta) / (1.0 - beta)))
