"""Spectrum of a hot star between the absorption of the atmosphere: what is left is transmission.

Heavy imports happen inside the functions.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

LENGTH_PX = 40.0
"""The continuum follows half of a wave of 2 pi times this length."""
BIN_PX = 8
PASSES = 5
CUT = 4.0
"""Pixels off the continuum by more sigma lose their weight."""
FEWEST = 60
"""Orders with fewer usable pixels have no continuum."""
MOST_TREND = 0.3
"""Largest part of the absorption that may be left over by pre-cleaning."""


def smooth_curve(values: np.ndarray, weights: np.ndarray, length: float) -> np.ndarray:
    """Smooth curves through weighted values, float64[row, x]; defined also where the weight is 0.

    Parameters
    ----------
    values : float64[row, x]
        Values where the weight is 0 do not matter.
    weights : float64[x]
        Of all rows.
    length : float
        px; a wave exp(i x / length) of unit weight is followed by half.

    Notes
    -----
    Minimum of ``sum w (y - z)^2 + length^6 sum (third difference of z)^2`` (Whittaker 1923, Proc. Edinburgh
    Math. Soc. 41, 63; Eilers 2003, Anal. Chem. 75, 3631).  Across a gap the curve is a parabola.  Solved for
    means of 8 px: on single pixels the sixth power of the length leaves no digits for wide gaps.
    """
    import numpy as np
    from scipy.linalg import solveh_banded

    count, n = values.shape
    bins = -(-n // BIN_PX)
    known = weights > 0
    padded = np.zeros((count + 1, bins * BIN_PX))
    padded[0, :n][known] = weights[known]
    padded[1:, :n][:, known] = values[:, known] * weights[known]
    means = padded.reshape(count + 1, bins, BIN_PX).mean(axis=2)
    scale = (length / BIN_PX) ** 6
    bands = np.zeros((4, bins))
    difference = (-1.0, 3.0, -3.0, 1.0)
    for k in range(4):
        # Diagonal k of D'D for the third difference D.
        for i in range(4 - k):
            bands[k, i : bins - 3 + i] += scale * difference[i] * difference[i + k]
    # The penalty leaves parabolas free: a trace of weight keeps the matrix regular where nothing is known.
    bands[0] += means[0] + 1e-8 * max(float(means[0].max(initial=0.0)), 1e-300)
    nodes = solveh_banded(bands, means[1:].T, lower=True, check_finite=False).T
    first, shares = _between(n, bins)
    return np.asarray(sum(share * nodes[:, first + k] for k, share in enumerate(shares)))


@cache
def _between(n: int, bins: int) -> tuple[np.ndarray, np.ndarray]:
    """First of four means and their shares (cubic through four points) at every pixel."""
    import numpy as np

    at = (np.arange(n) + 0.5) / BIN_PX - 0.5
    first = np.clip(np.floor(at).astype(int) - 1, 0, bins - 4)
    t = at - first
    shares = [np.prod([(t - m) / (k - m) for m in range(4) if m != k], axis=0) for k in range(4)]
    return first, np.stack(shares)


def hot_continuum(light: np.ndarray, variance: np.ndarray, transmission: np.ndarray) -> np.ndarray:
    """Continuum and broad lines of a hot star, float64[order, x]; NaN in orders without enough pixels.

    Parameters
    ----------
    light : float64[order, x]
        Flux over blaze (and template); not corrected for absorption.
    variance : float64[order, x]
        Of ``light``.
    transmission : float64[order, x]
        Transmission found by pre-cleaning.

    Notes
    -----
    Smooth curve through ``light / transmission``.  Weights are inverse variances times the square of the
    transmission: what is known of an absorption line is not what is left in it.  Absorption that the
    exponents missed is in proportion to -ln(transmission) and narrow, the continuum is broad: its amplitude
    is fitted first, on what is narrow, and taken out before the curve is drawn.  So bands of lines do not
    drag the continuum.
    """
    import numpy as np

    out = np.full(light.shape, np.nan)
    for o in range(light.shape[0]):
        t = transmission[o]
        with np.errstate(invalid="ignore", divide="ignore"):
            clean = light[o] / t
            good = np.isfinite(clean) & (variance[o] > 0) & (t > 0.1) & (clean > 0)
        if np.count_nonzero(good) < FEWEST:
            continue
        deep = np.where(good, -np.log(np.where(good, t, 1.0)), 0.0)
        noise = np.where(good, variance[o] / np.square(np.where(good, t, 1.0)), 1.0)
        base = np.where(good, np.square(np.where(good, t, 0.0)) / noise, 0.0)
        level = float(np.median(clean[good]))
        base = np.minimum(base / np.median(base[good]), 4.0)
        weight, trend = base.copy(), 0.0
        for _ in range(PASSES):
            straight = np.where(good, clean * np.exp(trend * deep), level)
            curve, level_of_depth = smooth_curve(np.stack([straight, deep]), weight, LENGTH_PX)
            if not (np.isfinite(curve).all() and np.median(curve[good]) > 0):
                break
            safe = np.maximum(curve, 0.05 * level)
            off = np.where(good, straight - safe, 0.0)
            sigma = 1.4826 * float(np.median(np.abs(off[good]) / np.sqrt(noise[good])))
            z = off / np.sqrt(noise) / (CUT * max(sigma, 1e-12))
            weight = base * np.square(np.maximum(1.0 - np.square(z), 0.0))
            # Narrow part of the absorption: its own smooth curve, of the weights before, taken off.
            narrow = np.where(good, deep - level_of_depth, 0.0)
            power = float(np.sum(weight * np.square(narrow)))
            if power > 1e-4 * np.count_nonzero(good) * np.mean(weight[good]) * 0.01:
                change = -float(np.sum(weight * narrow * off / safe)) / power
                trend = float(np.clip(trend + change, -MOST_TREND, MOST_TREND))
        else:
            out[o] = np.where(curve > 0.05 * level, curve, np.nan)
    return out
