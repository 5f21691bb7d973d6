"""Template without the line spread of the spectrograph.  Heavy imports happen inside the functions."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

FWHM_KMS, EXPONENT = 4.95, 2.20
"""Nominal line spread exp(-0.5 |v / s|^p) (reference pipeline); one for all orders that are merged."""
KERNEL_END = 1e-6
ENOUGH = 1e-3
"""99th percentile of the last correction at which the iteration ends."""
MOST_PASSES = 100


def line_spread(step_kms: float) -> np.ndarray:
    """Kernel of sum 1 on a grid of constant velocity step, float64[odd]."""
    import numpy as np

    scale = 0.5 * FWHM_KMS / (2.0 * np.log(2.0)) ** (1.0 / EXPONENT)
    half = int(np.ceil(scale * (-2.0 * np.log(KERNEL_END)) ** (1.0 / EXPONENT) / step_kms))
    kernel = np.exp(-0.5 * np.abs(np.arange(-half, half + 1) * step_kms / scale) ** EXPONENT)
    return np.asarray(kernel / kernel.sum())


def deconvolved(flux: np.ndarray, step_kms: float) -> np.ndarray:
    """Spectrum that the line spread turns into `flux`, float64[v]; NaN where that is.

    Parameters
    ----------
    flux : float64[v]
        On a grid of constant velocity step.
    step_kms : float
        Step.

    Notes
    -----
    Van Cittert (1931, Z. Phys. 69, 298): what the blurred estimate lacks is blurred once more and added.  The
    difference is smoothed by a parabola over 1.3 times the line spread (Savitzky & Golay 1964), which keeps
    noise from growing.  It ends when 99 of 100 corrections are below 0.001, or after 100 passes.
    """
    import numpy as np
    from scipy.ndimage import convolve1d
    from scipy.signal import savgol_filter

    known = np.isfinite(flux)
    if np.count_nonzero(known) < 100:
        return np.full(flux.size, np.nan)
    place = np.arange(flux.size)
    target = np.interp(place, place[known], flux[known])
    kernel = line_spread(step_kms)
    window = 2 * int(np.ceil(FWHM_KMS / 1.5 / step_kms)) + 1

    def blurred(values: np.ndarray) -> np.ndarray:
        return np.asarray(convolve1d(values, kernel, mode="nearest"))

    estimate = blurred(target)
    for _ in range(MOST_PASSES):
        excess = savgol_filter(blurred(estimate) - target, window, 2)
        change = blurred(excess)
        estimate = estimate - change
        if np.percentile(np.abs(change[known]), 99.0) < ENOUGH:
            break
    return np.where(known, estimate, np.nan)
