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

    from apero_dask.recipes.sky_absorption import STEP_KMS

    out = np.ones(observed.wave.shape)
    if observed.template is None:
        return out
    place = table.place(observed.wave / (1.0 + cleaned.velocity / C_KMS))
    margin, points = int(MARGIN_KMS / STEP_KMS), table.depth.shape[1]
    known = np.isfinite(cleaned.transmission).any(axis=1)
    rows, starts, parts = [], [], []
    size = 0
    # A line spread that leaves the points of its order must meet no number of the next.
    gap = np.full((3, 1), np.nan)
    for o in np.flatnonzero(known).tolist():
        star = observed.template[o]
        good = np.isfinite(star)
        if np.count_nonzero(good) < FEWEST:
            continue
        first = max(int(place[o, 0]) - margin, 0)
        end = min(int(place[o, -1]) + margin + 1, points)
        at = np.arange(first, end)
        x = place[o, good]
        # Constant beyond the ends of the template: there is no slope to correct.
        seen = CubicSpline(x, star[good])(np.clip(at, x[0], x[-1]))
        sharp = sharpened(seen, float(np.median(observed.fwhm[o])) / 2.3548 / STEP_KMS)
        part = slice(first, end)
        air = np.exp(-(cleaned.water * table.depth[0, part] + cleaned.dry * table.depth[1, part]))
        rows.append(o)
        starts.append(first - size)
        parts += [np.stack([sharp * air, air, sharp]), gap]
        size += end - first + 1
    if not rows:
        return out
    planes = np.empty((3, len(rows), place.shape[1]))
    # One behind the other, so that every line spread is tabulated once.
    spread(
        np.concatenate(parts, axis=1),
        np.ascontiguousarray(place[rows] - np.array(starts)[:, None]),
        np.ascontiguousarray(observed.fwhm[rows]),
        np.ascontiguousarray(observed.exponent[rows]),
        STEP_KMS,
        planes,
    )
    with np.errstate(invalid="ignore", divide="ignore"):
        factor = planes[0] / (planes[1] * planes[2])
        fine = np.isfinite(observed.template[rows]) & (np.abs(np.log(factor)) < LARGEST)
    out[rows] = np.where(fine, factor, 1.0)
    return out


def sharpened(seen: np.ndarray, sigma: float) -> np.ndarray:
    """Spectrum before a Gaussian line spread, float64[point], by `PASSES` corrections.

    Parameters
    ----------
    seen : float64[point]
        Constant beyond its ends.
    sigma : float
        Standard deviation of the line spread, points.

    Notes
    -----
    What the estimate, spread again, lacks is smoothed with half of the line spread and added.  All
    corrections together are one convolution, done by a Fourier transform.
    """
    import numpy as np
    from scipy.fft import irfft, next_fast_len, rfft

    line, half = _bell(sigma), _bell(0.5 * sigma)
    whole = np.ones(1)
    for _ in range(PASSES):
        whole = _sum(whole, np.convolve(half, _sum(np.ones(1), -np.convolve(line, whole))))
    reach = whole.size // 2
    padded = np.pad(seen, reach, mode="edge")
    n = next_fast_len(padded.size, real=True)
    found = irfft(rfft(padded, n) * rfft(whole, n), n)
    # The first values hold the other end: the transform takes the spectrum for periodic.
    return np.asarray(found[2 * reach : 2 * reach + seen.size])


def _bell(sigma: float) -> np.ndarray:
    """Gaussian of sum 1 over 4 sigma on each side, float64[odd]."""
    import numpy as np

    reach = int(4.0 * sigma + 0.5)
    values = np.exp(-0.5 * np.square(np.arange(-reach, reach + 1) / sigma))
    return np.asarray(values / values.sum())


def _sum(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Sum of two kernels of odd length about their middles."""
    import numpy as np

    short, long = sorted((one, other), key=lambda kernel: kernel.size)
    return np.asarray(long + np.pad(short, (long.size - short.size) // 2))
