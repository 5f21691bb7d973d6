"""Error of dividing two spectra that were both seen through the line spread.

What the spectrograph sees is the spread of star times atmosphere, not star seen times atmosphere seen: beside
deep lines the two differ by 1 to 2 per cent.  Heavy imports happen inside the functions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

    from apero_dask.recipes.sky_absorption import Absorption
    from apero_dask.recipes.tellu_clean import Cleaned, Observed

PASSES = 3
"""Corrections of the sharpened star; more would raise its noise."""
LARGEST = 0.3
"""Factors whose logarithm is larger are not believed."""
FEWEST = 100
MARGIN_KMS = 60.0
C_KMS = 299792.458


def resolution_factor(table: Absorption, observed: Observed, cleaned: Cleaned) -> np.ndarray:
    """Seen product over product of what is seen, float64[order, x]; 1 where it is not known.

    Notes
    -----
    With the star D before the line spread L: ``R = [(D T) * L / (T * L)] / (D * L)``.  D is the template
    sharpened by residual corrections (Van Cittert 1931, Z. Phys. 69, 298), a few of them: the lines of a
    cool star are nearly as broad as L, and R depends on the slope of D only.
    """
    import numpy as np
    from apero_kernels.absorption import spread
    from scipy.interpolate import CubicSpline
    from scipy.ndimage import gaussian_filter1d

    from apero_dask.recipes.sky_absorption import STEP_KMS

    out = np.ones(observed.wave.shape)
    if observed.template is None:
        return out
    place = table.place(observed.wave / (1.0 + cleaned.velocity / C_KMS))
    margin, points = int(MARGIN_KMS / STEP_KMS), table.depth.shape[1]
    for o, star in enumerate(observed.template):
        good = np.isfinite(star)
        if np.count_nonzero(good) < FEWEST or not np.isfinite(cleaned.transmission[o]).any():
            continue
        first = max(int(place[o, 0]) - margin, 0)
        end = min(int(place[o, -1]) + margin + 1, points)
        at = np.arange(first, end)
        x = place[o, good]
        # Constant beyond the ends of the template: there is no slope to correct.
        seen = CubicSpline(x, star[good])(np.clip(at, x[0], x[-1]))
        sigma = float(np.median(observed.fwhm[o])) / 2.3548 / STEP_KMS
        sharp = seen.copy()
        for _ in range(PASSES):
            sharp += gaussian_filter1d(seen - gaussian_filter1d(sharp, sigma), 0.5 * sigma)
        part = slice(first, end)
        air = np.exp(-(cleaned.water * table.depth[0, part] + cleaned.dry * table.depth[1, part]))
        planes = np.empty((3, 1, star.size))
        row = slice(o, o + 1)
        spread(
            np.ascontiguousarray(np.stack([sharp * air, air, sharp]), np.float64),
            np.ascontiguousarray(place[row] - first),
            np.ascontiguousarray(observed.fwhm[row]),
            np.ascontiguousarray(observed.exponent[row]),
            STEP_KMS,
            planes,
        )
        with np.errstate(invalid="ignore", divide="ignore"):
            factor = planes[0, 0] / (planes[1, 0] * planes[2, 0])
            fine = good & (np.abs(np.log(factor)) < LARGEST)
        out[o, fine] = factor[fine]
    return out
