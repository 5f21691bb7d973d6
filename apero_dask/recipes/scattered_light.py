"""Scattered light of a calibrated frame: the halo around the orders and the smooth light under them.

Heavy imports happen inside the functions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from apero_dask.core.errors import DataError

if TYPE_CHECKING:
    import numpy as np

# Halo of scattered light in units of the light that makes it; widths are standard deviations.  The reference
# pipeline describes it by half widths at 1/e of 9 and 1 px and an amplitude of 1/47.
HALO_Y = 9.0 / 2**0.5  # px
HALO_X = 1.0 / 2**0.5  # px
HALO_AMPLITUDE = 1.0 / 47.0
HALO_PRIOR = 0.03  # relative uncertainty of that amplitude
HALO_SYSTEMATIC = 0.05  # relative error of one measured between the orders: wings of the orders reach there
HALO_CONTRADICTION = 3.0  # sigma; from there on the frame is believed and not the instrument
HALO_LARGEST = 3.0  # times that of the instrument; beyond, it is other light that follows the orders

SURFACE_DEGREES = (7, 7)
SURFACE_BOXES = 24  # boxes along the longer side of the frame
SMALLEST_BOX = 32  # px
FEWEST = 50  # background pixels in a box

HALO_BOX = (32, 32)
HALO_LIMIT = 4.0  # sigma of a background pixel; brighter ones see an order
HALO_PASSES = 2


@dataclass(frozen=True, slots=True)
class Background:
    """Scattered light of a frame."""

    halo: float
    """Amplitude of the local term."""
    measured: float
    """Amplitude measured in this frame alone, NaN without light."""
    measured_error: float
    """Its error from noise, infinite without light."""
    level: float
    """Median of the smooth term, unit of the image."""


def subtract_scattered(image: np.ndarray, mask: np.ndarray, variance: np.ndarray | None = None) -> Background:
    """Subtract the halo around the orders and the smooth light under them, in place.

    Parameters
    ----------
    image : float32[y, x]
        Calibrated frame, e-.
    mask : uint8[y, x]
        1 = background pixel.
    variance : float32[y, x], optional
        Of the image; without it the amplitude of the halo is that of the instrument.

    Raises
    ------
    DataError
        Too few background pixels to determine the surface.

    Notes
    -----
    The halo is the blurred image.  Its amplitude is regressed on the background pixels, box by box so that
    smooth light drops out, and combined with the amplitude of the instrument by inverse variances: frames
    with little light take the latter.  The blurred image holds the halo itself: blurring light that has been
    corrected once leaves an error of the third order.  The smooth part is a tensor product of Chebyshev
    polynomials through the medians of boxes, each at the mean place of its pixels.
    """
    import numpy as np
    from apero_kernels.background import box_levels, fit_surface, subtract_background
    from apero_kernels.halo import blur, inner_background

    inner = np.empty_like(mask)
    inner_background(mask, inner)
    local, corrected = np.empty_like(image), np.empty_like(image)
    blur(image, HALO_Y, HALO_X, local)
    np.multiply(local, np.float32(-HALO_AMPLITUDE), out=corrected)
    corrected += image
    blur(corrected, HALO_Y, HALO_X, local)
    measured, error = measured_halo(image, local, inner, variance)
    amplitude = combined_halo(measured, error)
    np.multiply(local, np.float32(-amplitude), out=corrected)
    corrected += image
    side = max(SMALLEST_BOX, -(-max(image.shape) // SURFACE_BOXES))
    levels = box_levels(corrected, inner, (side, side), FEWEST)
    coefficients, _ = fit_surface(*levels, image.shape, SURFACE_DEGREES)
    if not np.isfinite(coefficients).all():
        needed = (SURFACE_DEGREES[0] + 1) * (SURFACE_DEGREES[1] + 1)
        raise DataError(
            f"the background cannot be measured: {len(levels[0])} boxes of {side} px hold at least {FEWEST} "
            f"background pixels, {needed} are needed. Look at the background map (BKGRDMAP) and at the "
            "frame, or run with --backsub=False."
        )
    subtract_background(corrected, coefficients, image)
    y, x = np.linspace(-1, 1, 33), np.linspace(-1, 1, 33)
    level = float(np.median(np.polynomial.chebyshev.chebgrid2d(y, x, coefficients)))
    return Background(amplitude, measured, error, level)


def measured_halo(
    image: np.ndarray, local: np.ndarray, mask: np.ndarray, variance: np.ndarray | None
) -> tuple[float, float]:
    """Amplitude of the halo between the orders of a frame, and its error; NaN and infinity without light."""
    import numpy as np
    from apero_kernels.halo import halo_amplitude

    inside = variance[(mask > 0) & np.isfinite(variance)] if variance is not None else np.empty(0)
    if not inside.size:
        return float("nan"), float("inf")
    noise = float(np.sqrt(np.median(inside)))
    measured, leverage = HALO_AMPLITUDE, 0.0
    for _ in range(HALO_PASSES):
        measured, leverage = halo_amplitude(
            image, local, mask, HALO_BOX, start=measured, limit=HALO_LIMIT * noise
        )
        if not np.isfinite(measured):
            return float("nan"), float("inf")
    return measured, noise / float(np.sqrt(leverage))


def combined_halo(measured: float, error: float) -> float:
    """Amplitude to use: that of the instrument and the measured one, each by the inverse of its variance.

    A measured amplitude that contradicts the instrument counts alone, unless no halo can be so strong: the
    thermal light of a dark frame reaches pixels that are unlit in the flats of the background map.

    >>> round(1 / combined_halo(float("nan"), float("inf")), 6)
    47.0
    >>> round(1 / combined_halo(0.4, 1e-3), 6)
    47.0
    >>> combined_halo(0.03, 1e-4)
    0.03
    """
    if not error < HALO_AMPLITUDE or not 0.0 <= measured <= HALO_LARGEST * HALO_AMPLITUDE:
        return HALO_AMPLITUDE
    own = (error**2 + (HALO_SYSTEMATIC * measured) ** 2) ** 0.5
    prior = HALO_PRIOR * HALO_AMPLITUDE
    if abs(measured - HALO_AMPLITUDE) > HALO_CONTRADICTION * (own**2 + prior**2) ** 0.5:
        return measured
    return (HALO_AMPLITUDE / prior**2 + measured / own**2) / (1.0 / prior**2 + 1.0 / own**2)
