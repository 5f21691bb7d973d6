"""Blaze function of every order, fitted to the spectrum of the flat lamp.

Heavy imports happen inside the functions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

BINS = 128
"""Medians along an order that enter the fit: a blaze is smooth over a 128th of it."""
LEAST, MOST = 0.05, 2.0
"""Light that enters the fit, relative to the 95th percentile of the order; reference pipeline."""
MODEL_ERROR = 0.002
"""Relative error of the model added to that of the bins, so that bright ones do not decide alone."""
CUT = 5.0
"""Bins that are off by more sigma lose their weight."""
STEPS = 40
REWEIGHTED = (8, 16, 24)
"""Steps before which the weights are worked out anew."""
PERIODS = (0.2, 20.0)
"""Length of an order over the distance of the zeros of its blaze; limits of the search."""
PRIOR = (0.0, 0.0, 0.0, 0.3, 0.3, 0.5, 0.3)
"""Standard deviation about 0 of q, k, s and c; 0 = free."""
NAMES = ("AMPLITUDE", "CENTRE", "PERIOD", "QUADRATIC", "CUBIC", "SLOPE", "CURVATURE")


@dataclass(frozen=True, slots=True)
class Blaze:
    """Blaze of all orders of a fibre."""

    model: np.ndarray
    """float64[order, x], electrons; NaN for an order without light."""
    parameters: np.ndarray
    """float64[order, 7], see :func:`fit_blaze`; NaN for an order without light."""
    residual: np.ndarray
    """float64[order]: robust relative scatter of the bins about the model."""
    used: np.ndarray
    """int64[order]: bins with weight."""


def fit_blaze(flux: np.ndarray, variance: np.ndarray) -> Blaze:
    """Fit the blaze of every order.

    Parameters
    ----------
    flux, variance : float64[order, x]
        Spectrum of the flat lamp, electrons, and its variance; NaN = no information.

    Notes
    -----
    ``B(x) = a sinc^2(2 (d + q d^2 / L + k d^3 / L^2) / P) (1 + s d / L + c d^2 / L^2)`` with d = x - x0,
    sinc y = sin(pi y) / (pi y) and L half the length of an order: the scalar diffraction of a grating with
    a phase that is not quite linear in x, times the smooth spectrum of the lamp, which stays in it.  The
    first zeros lie near x0 -+ P/2.  Columns of the parameters: a, x0, P, q, k, s, c.

    All orders at once by damped least squares (Marquardt 1963, J. SIAM 11, 431) on medians of bins, with soft
    rejection of bins that do not follow (water in the beam of the lamp).  q, k, s and c have wide priors
    about 0: they matter for orders with half of their blaze outside the frame.
    """
    import numpy as np

    orders, nx = flux.shape
    half = nx / 2.0
    x, y, weight = _bins(flux, variance)
    lit = (weight > 0.0).sum(axis=1) >= 3 * len(NAMES)
    top = np.array([_level(row[use]) if use.any() else 1.0 for row, use in zip(y, weight > 0.0, strict=True)])
    y = y / top[:, None]
    weight = weight * np.square(top)[:, None]
    p = _start(x, y, weight, nx)
    prior = np.array([0.0 if s == 0.0 else s**-2 for s in PRIOR])
    at, diagonal = x / half, range(len(NAMES))
    soft = np.ones_like(weight)
    damping = np.full(orders, 1e-3)
    for step in range(STEPS):
        model, slopes = _model(p, at, True)
        r = y - model
        if step in REWEIGHTED:
            soft = _soft(r * np.sqrt(weight), weight > 0.0)
        w = weight * soft
        cost = (w * r * r).sum(axis=1) + (prior * p * p).sum(axis=1)
        matrix = np.einsum("oi,oij,oik->ojk", w, slopes, slopes) + np.diag(prior)
        right = np.einsum("oi,oij,oi->oj", w, slopes, r) - prior * p
        matrix[:, diagonal, diagonal] *= 1.0 + damping[:, None]
        matrix[:, diagonal, diagonal] += 1e-12
        trial = p + np.clip(np.linalg.solve(matrix, right[..., None])[..., 0], -0.3, 0.3)
        trial[:, 2] = np.clip(trial[:, 2], *PERIODS)
        r = y - _model(trial, at, False)[0]
        better = (w * r * r).sum(axis=1) + (prior * trial * trial).sum(axis=1) < cost
        p = np.where(better[:, None], trial, p)
        damping = np.clip(np.where(better, 0.2 * damping, 10.0 * damping), 1e-9, 1e6)
    model, _ = _model(p, at, False)
    counted = weight * soft > 0.5 * weight
    relative = np.where(counted, y / np.where(model > 0.0, model, np.inf) - 1.0, np.nan)
    full, _ = _model(p, np.broadcast_to(np.arange(nx) / half, (orders, nx)), False)
    full = full * top[:, None]
    full[~lit] = np.nan
    parameters = np.stack(
        [p[:, 0] * top, p[:, 1] * half, 2.0 * half / p[:, 2], p[:, 3], p[:, 4], p[:, 5], p[:, 6]], axis=1
    )
    parameters[~lit] = np.nan
    residual = np.full(orders, np.nan)
    for o in np.flatnonzero(lit):
        values = relative[o][np.isfinite(relative[o])]
        if values.size:
            residual[o] = 1.4826 * np.median(np.abs(values))
    return Blaze(full, parameters, residual, counted.sum(axis=1))


def _bins(flux: np.ndarray, variance: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean column, median flux, inverse variance of the bins, float64[order, bin] each; weight 0 = empty."""
    import numpy as np

    orders, nx = flux.shape
    size = max(nx // BINS, 1)
    count = nx // size
    cut = flux[:, : count * size].reshape(orders, count, size)
    noise = variance[:, : count * size].reshape(orders, count, size)
    good = np.isfinite(cut) & (noise > 0.0)
    number = good.sum(axis=2)
    column = np.arange(count * size, dtype=float).reshape(1, count, size)
    enough = 2 * number >= size
    x = np.where(enough, (column * good).sum(axis=2) / np.maximum(number, 1), column.mean(axis=2))
    # NaN sort last: the median is that of the first `number` values.
    ordered = np.sort(np.where(good, cut, np.inf), axis=2)
    low = np.take_along_axis(ordered, np.maximum((number - 1) // 2, 0)[..., None], axis=2)[..., 0]
    high = np.take_along_axis(ordered, np.minimum(number // 2, size - 1)[..., None], axis=2)[..., 0]
    y = np.where(enough, 0.5 * (low + high), 0.0)
    # 1.57 / N: variance of a median of N values.
    error = 1.57 * (np.where(good, noise, 0.0)).sum(axis=2) / np.maximum(number, 1) ** 2
    level = np.array(
        [np.percentile(row[use], 95) if use.any() else np.inf for row, use in zip(y, enough, strict=True)]
    )
    inside = enough & (y > LEAST * level[:, None]) & (y < MOST * level[:, None]) & (level[:, None] > 0.0)
    weight = np.where(inside, 1.0 / (error + np.square(MODEL_ERROR * y) + 1e-30), 0.0)
    return x, np.where(np.isfinite(y), y, 0.0), weight


def _level(values: np.ndarray) -> float:
    import numpy as np

    return float(np.percentile(values, 95))


def _start(x: np.ndarray, y: np.ndarray, weight: np.ndarray, nx: int) -> np.ndarray:
    """Start of the fit, in units of half an order: middle and width of the upper half of the light."""
    import numpy as np

    half = nx / 2.0
    bright = (weight > 0.0) & (y > 0.5)
    number = np.maximum(bright.sum(axis=1), 1)
    centre = np.where(bright.any(axis=1), (x * bright).sum(axis=1) / number, half)
    # sinc^2 is above a half over 0.443 of its period.
    width = number * (nx / x.shape[1]) / half
    p = np.zeros((x.shape[0], len(NAMES)))
    p[:, 0], p[:, 1] = 1.0, centre / half
    p[:, 2] = np.clip(2.0 * 0.443 / np.maximum(width, 1e-3), 0.3, 10.0)
    return p


def _model(p: np.ndarray, x: np.ndarray, derivatives: bool) -> tuple[np.ndarray, np.ndarray]:
    """Blaze at x (in halves of an order), float64[order, x], and its derivatives [order, x, parameter]."""
    import numpy as np

    a, x0, w, q, k, s, c = (p[:, j, None] for j in range(p.shape[1]))
    d = x - x0
    phase = d * (1.0 + d * (q + d * k))
    z = w * phase
    sinc = np.sinc(z)
    light = 1.0 + d * (s + d * c)
    shape = sinc * sinc
    model = a * shape * light
    if not derivatives:
        return model, np.empty(0)
    # d(sinc z)/dz = (cos(pi z) - sinc z) / z, by its series near 0.
    near = np.abs(z) < 1e-3
    safe = np.where(near, 1.0, z)
    rise = np.where(near, -(np.pi**2) / 3.0 * z, (np.cos(np.pi * z) - sinc) / safe)
    by_z = 2.0 * a * sinc * rise * light
    by_d = by_z * w * (1.0 + d * (2.0 * q + 3.0 * d * k)) + a * shape * (s + 2.0 * c * d)
    slopes = np.stack(
        [
            shape * light,
            -by_d,
            by_z * phase,
            by_z * w * d * d,
            by_z * w * d * d * d,
            a * shape * d,
            a * shape * d * d,
        ],
        axis=2,
    )
    return model, slopes


def _soft(z: np.ndarray, used: np.ndarray) -> np.ndarray:
    """Weights from residuals in sigma: near 1, falling to 0 beyond CUT robust sigma of the order."""
    import numpy as np

    scale = np.ones(z.shape[0])
    for o in range(z.shape[0]):
        if used[o].any():
            scale[o] = max(1.4826 * float(np.median(np.abs(z[o][used[o]]))), 1e-12)
    k = np.exp(-0.5 * CUT**2)
    n = (1.0 - k) * np.exp(-0.5 * np.square(z / scale[:, None]))
    return np.asarray(n / (k + n))
