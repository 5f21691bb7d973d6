"""Combines the frames of one order into a template.  Heavy imports happen inside the functions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

PASSES = 5
"""Equalisations of the continua (reference)."""
CONTINUUM = 8
"""Windows per order in which continua are equalised: 500 px of the full instrument (reference: 501)."""
CUT = 5.0
"""Sigma beyond which a value is left out."""
RESIDUAL = 0.02
"""What a good correction of the atmosphere leaves, relative to the optical depth; chosen."""
FEWEST = 3
"""Values below which none is left out: two cannot tell which is wrong."""
HOT_KMS = 100.0
"""A template of a hot star is smoothed over this width: its own lines are broader (reference)."""
COVERAGE_STEP, COVERAGE_MARGIN, COVERAGE_FWHM = 0.1, 8.0, 4.0
COVERAGE_SNR = 100.0
LEAST_COVERAGE = 8.0
"""km/s of BERV below which telluric residuals stay in the template; informative."""


@dataclass(frozen=True, slots=True)
class Stacked:
    """One order of a template; arrays are float64[x] if not said otherwise."""

    flux: np.ndarray
    """Median 1; NaN without a value in any frame."""
    error: np.ndarray
    """Of the flux."""
    scatter: np.ndarray
    """Robust scatter from frame to frame; NaN for fewer than 3 values."""
    count: np.ndarray
    """int64[x]: values used."""
    equalised: np.ndarray
    """float64[frame, x]: what was combined."""
    rejected: int
    """Values left out."""
    chi: float
    """Scatter of the frames over their errors."""


def combine(flux: np.ndarray, variance: np.ndarray, transmission: np.ndarray) -> Stacked:
    """Combine the frames of one order.

    Parameters
    ----------
    flux, variance, transmission : float64[frame, x]
        Flux over blaze on the wavelengths of the template, its variance, and the transmission that was
        corrected; NaN = no value.

    Notes
    -----
    Continua are made equal by the ratio to the median in windows, five times.  Then values off the median by
    more than 5 sigma are left out, sigma being the noise and 2 per cent of the optical depth that was
    corrected, times the scatter of the order where that is above 1; the rest is averaged with inverse
    variances (Zechmeister et al. 2018, A&A 609, A12, weight in this way).  A plain median has 1.57 times the
    variance and gives a frame with deep water lines the weight of a dry one.
    """
    import numpy as np
    from apero_kernels.polynomial import low_pass

    flux = flux.copy()
    width = max(flux.shape[1] // CONTINUUM, 16)
    lit = np.isfinite(flux).any(axis=0)
    if not lit.any():
        return _nothing(flux)
    for _ in range(PASSES):
        middle = median(flux)
        for row in flux:
            smooth = low_pass(row / middle, width)
            row /= np.where(smooth > 0.0, smooth, np.nan)
    middle = median(flux)
    level = float(np.median(middle[np.isfinite(middle)]))
    if not level > 0.0:
        return _nothing(flux)
    flux, variance, middle = flux / level, variance / level**2, middle / level
    with np.errstate(invalid="ignore", divide="ignore"):
        depth = -np.log(np.clip(transmission, 1e-3, 1.0))
        total = variance + np.square(RESIDUAL * depth * middle)
        off = np.abs(flux - middle) / np.sqrt(total)
    known = np.isfinite(off)
    chi = 1.0
    keep = known.copy()
    if np.count_nonzero(known.any(axis=1)) >= FEWEST:
        # The median over frames is the middle of N values: on average closer to each than the truth.
        values = off[known]
        expected = 0.6745 * np.sqrt(1.0 - 1.0 / flux.shape[0])
        chi = max(float(np.median(values)) / expected, 1.0) if values.size else 1.0
        keep &= (off <= CUT * chi) | (known.sum(axis=0) < FEWEST)
    weight = np.where(keep, 1.0 / np.where(keep, total, 1.0), 0.0)
    summed = weight.sum(axis=0)
    safe = np.where(summed > 0.0, summed, 1.0)
    mean = np.where(summed > 0.0, np.sum(weight * np.where(keep, flux, 0.0), axis=0) / safe, np.nan)
    error = np.where(summed > 0.0, chi / np.sqrt(safe), np.nan)
    scale = float(np.median(mean[np.isfinite(mean)]))
    return Stacked(
        flux=mean / scale,
        error=error / scale,
        scatter=spread(np.where(keep, flux, np.nan)) / scale,
        count=keep.sum(axis=0),
        equalised=flux / scale,
        rejected=int(np.count_nonzero(known & ~keep)),
        chi=chi,
    )


def _nothing(flux: np.ndarray) -> Stacked:
    import numpy as np

    empty = np.full(flux.shape[1], np.nan)
    count = np.zeros(flux.shape[1], np.int64)
    return Stacked(empty, empty.copy(), empty.copy(), count, np.full(flux.shape, np.nan), 0, float("nan"))


def median(flux: np.ndarray) -> np.ndarray:
    """Median over frames, float64[x]; NaN take no part."""
    import numpy as np
    from apero_kernels.stack import stack

    out = np.empty((1, flux.shape[1]))
    stack(np.ascontiguousarray(flux[:, None, :]), out)
    return out[0]


def spread(flux: np.ndarray) -> np.ndarray:
    """Half the distance of the 15.87 and 84.13 percentiles over frames, float64[x]; NaN below 3 values."""
    import numpy as np
    from apero_kernels.stack import stack

    shape = (1, flux.shape[1])
    middle, scatter, count = np.empty(shape), np.empty(shape), np.empty(shape, np.int32)
    stack(np.ascontiguousarray(flux[:, None, :]), middle, out_scatter=scatter, out_count=count)
    return np.where(count[0] >= FEWEST, scatter[0], np.nan)


def smoothed(flux: np.ndarray, kms_per_column: float) -> np.ndarray:
    """Order of a hot star without structure narrower than 100 km/s, float64[x]; NaN where it was."""
    import numpy as np
    from apero_kernels.polynomial import low_pass

    width = max(round(HOT_KMS / kms_per_column), 1)
    return np.where(np.isfinite(flux), low_pass(flux, width), np.nan)


def berv_coverage(
    berv: Sequence[float], snr: Sequence[float]
) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """How well the frames cover the motion of the star against the atmosphere.

    Parameters
    ----------
    berv : km/s of every frame
    snr : of every frame

    Returns
    -------
    grid, anticoverage, coverage : float64[v]
        km/s; the product over frames of (1 - sqrt G)^w with G a Gaussian of 4 km/s FWHM around the BERV of
        the frame and w = (S/N / 100)^2; one minus it.
    total : float
        Integral of the coverage, km/s.
    """
    import numpy as np

    values, weight = np.asarray(berv, float), np.square(np.asarray(snr, float) / COVERAGE_SNR)
    low, high = values.min() - COVERAGE_MARGIN, values.max() + COVERAGE_MARGIN
    grid = np.arange(low, high + 0.5 * COVERAGE_STEP, COVERAGE_STEP)
    sigma = COVERAGE_FWHM / 2.354820045030949
    anti = np.ones(grid.size)
    for one, w in zip(values, weight, strict=True):
        gauss = np.exp(-0.5 * np.square((grid - one) / sigma))
        anti *= np.power(1.0 - np.sqrt(gauss), w if np.isfinite(w) else 0.0)
    return grid, anti, 1.0 - anti, float(np.sum(1.0 - anti) * COVERAGE_STEP)
