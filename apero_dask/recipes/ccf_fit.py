"""Profiles of cross-correlations: straight continuum, Gaussian, bisector.

Heavy imports happen inside the functions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

FWHM_PER_SIGMA = 2.354820045030949
PASSES = 40
SETTLED = 1e-7
"""Relative change of all parameters at which a fit ends."""
LINE_PASSES = 12
LINE_CUT = 4.0
"""Sigma at which a point of the continuum loses half of its weight."""
TOP, BOTTOM = (0.10, 0.40), (0.55, 0.85)
"""Depths averaged for the bisector span (Queloz et al. 2001, A&A 379, 279)."""
LEVELS = 0.01


@dataclass(frozen=True, slots=True)
class Gaussians:
    """Fits of many curves, float64[curve]; NaN where there is none."""

    centre: np.ndarray
    """km/s."""
    sigma: np.ndarray
    """km/s, standard deviation."""
    amplitude: np.ndarray
    """Negative in absorption, unit of the curve."""
    offset: np.ndarray

    @property
    def fwhm(self) -> np.ndarray:
        """km/s, full width at half maximum."""
        return self.sigma * FWHM_PER_SIGMA

    @property
    def contrast(self) -> np.ndarray:
        """Depth (or height) of the line relative to the continuum, per cent."""
        import numpy as np

        return np.asarray(100.0 * np.abs(self.amplitude) / self.offset)


def fit_gaussians(velocity: np.ndarray, curves: np.ndarray, centre: float, sigma: float) -> Gaussians:
    """Fit a Gaussian on a constant to every curve by least squares, all points alike.

    Parameters
    ----------
    velocity : float64[v]
        km/s, rising.
    curves : float64[curve, v]
        A curve with a value that is not finite has no fit.
    centre, sigma : float
        Start, km/s.

    Notes
    -----
    Levenberg (1944) and Marquardt (1963), all curves at once.  A fit counts whose centre lies within the
    scan, whose standard deviation is more than half a step and less than a quarter of the scan, and which
    goes into absorption.
    """
    import numpy as np

    n, span = curves.shape[0], velocity[-1] - velocity[0]
    step = span / max(velocity.size - 1, 1)
    scale = np.nanmax(np.abs(curves), axis=1, initial=0.0)
    usable = np.isfinite(curves).all(axis=1) & (scale > 0.0)
    safe = np.where(usable, scale, 1.0)
    y = np.where(usable[:, None], curves / safe[:, None], 0.0)
    near = int(np.argmin(np.abs(velocity - centre)))
    offset = np.median(y, axis=1)
    p = np.stack([y[:, near] - offset, np.full(n, centre), np.full(n, sigma), offset], axis=1)
    damping = np.full(n, 1e-3)
    model, jacobian = _model(velocity, p)
    cost = np.sum((y - model) ** 2, axis=1)
    open_ = usable.copy()
    for _ in range(PASSES):
        if not open_.any():
            break
        k = np.flatnonzero(open_)
        model, jacobian = _model(velocity, p[k])
        residual = y[k] - model
        normal = np.einsum("nvi,nvj->nij", jacobian, jacobian)
        right = np.einsum("nvi,nv->ni", jacobian, residual)
        diagonal = np.einsum("nii->ni", normal)
        lifted = normal + (damping[k, None] * diagonal + 1e-12)[:, :, None] * np.eye(4)
        change = np.linalg.solve(lifted, right[:, :, None])[:, :, 0]
        # A step of more than the width of the line leads away from it.
        change[:, 1] = np.clip(change[:, 1], -np.abs(p[k, 2]), np.abs(p[k, 2]))
        change[:, 2] = np.clip(change[:, 2], -0.5 * np.abs(p[k, 2]), np.abs(p[k, 2]))
        trial = p[k] + change
        trial_cost = np.sum((y[k] - _model(velocity, trial)[0]) ** 2, axis=1)
        better = trial_cost <= cost[k]
        accepted = k[better]
        p[accepted], cost[accepted] = trial[better], trial_cost[better]
        damping[k] = np.where(better, np.maximum(0.2 * damping[k], 1e-9), np.minimum(8.0 * damping[k], 1e9))
        unit = np.stack(
            [np.abs(trial[:, 0]) + 1e-9, np.abs(trial[:, 2]), np.abs(trial[:, 2]), np.ones(k.size)], axis=1
        )
        settled = (np.abs(change) < SETTLED * unit).all(axis=1)
        open_[k[settled]] = False
    width = np.abs(p[:, 2])
    good = usable & (p[:, 1] > velocity[0]) & (p[:, 1] < velocity[-1]) & (width > 0.5 * step)
    good &= (width < 0.25 * span) & (p[:, 0] < 0.0) & np.isfinite(p).all(axis=1)
    values = np.where(good[:, None], p, np.nan)
    return Gaussians(values[:, 1], np.abs(values[:, 2]), values[:, 0] * safe, values[:, 3] * safe)


def _model(velocity: np.ndarray, p: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Curves float64[curve, v] and derivatives float64[curve, v, 4]."""
    import numpy as np

    width = np.where(np.abs(p[:, 2]) > 1e-6, p[:, 2], 1e-6)[:, None]
    z = (velocity - p[:, 1:2]) / width
    shape = np.exp(-0.5 * z * z)
    slope = p[:, :1] * shape * z / width
    return p[:, :1] * shape + p[:, 3:4], np.stack([shape, slope, slope * z, np.ones_like(shape)], axis=2)


def without_slope(velocity: np.ndarray, curves: np.ndarray, centre: float, half: float) -> np.ndarray:
    """Curves divided by the straight line through their continuum, which is 1 at the centre.

    Parameters
    ----------
    velocity, curves : float64[v], float64[curve, v]
    centre, half : float
        The line within `half` km/s of `centre` takes no part.

    Notes
    -----
    Least squares with weights n / (k + n), n = exp(-(r/s)^2/2), k = exp(-cut^2/2), s = 1.4826 median |r|:
    lines that coincide by chance at other velocities do not tilt it.
    """
    import numpy as np

    outside = np.abs(velocity - centre) > half
    if np.count_nonzero(outside) < 4:
        return curves
    x = (velocity - centre)[outside] / max(float(np.abs(velocity - centre).max()), 1e-9)
    y = curves[:, outside]
    weight = np.isfinite(y).astype(float)
    y = np.where(np.isfinite(y), y, 0.0)
    floor = np.exp(-0.5 * LINE_CUT**2)
    level, tilt = np.ones(len(y)), np.zeros(len(y))
    for _ in range(LINE_PASSES):
        s0, s1, s2 = (np.sum(weight * x**k, axis=1) for k in range(3))
        t0, t1 = np.sum(weight * y, axis=1), np.sum(weight * x * y, axis=1)
        determinant = s0 * s2 - s1 * s1
        solid = determinant > 1e-12 * np.maximum(s0 * s2, 1e-300)
        safe = np.where(solid, determinant, 1.0)
        level = np.where(solid, (t0 * s2 - t1 * s1) / safe, np.nan)
        tilt = np.where(solid, (s0 * t1 - s1 * t0) / safe, np.nan)
        residual = np.abs(y - level[:, None] - tilt[:, None] * x)
        spread = 1.4826 * np.median(residual, axis=1)[:, None]
        share = np.exp(-0.5 * np.square(residual / np.where(spread > 0.0, spread, 1.0)))
        weight = np.where(weight > 0.0, share / (floor + share) + 1e-12, 0.0)
    whole = (velocity - centre) / max(float(np.abs(velocity - centre).max()), 1e-9)
    line = 1.0 + (tilt / np.where(level != 0.0, level, np.nan))[:, None] * whole
    return np.where(line > 0.05, curves / line, np.nan)


def significance(curve: np.ndarray) -> float:
    """Depth of the lowest point below the median, in units of the median distance from it; NaN if none."""
    import numpy as np

    if not np.isfinite(curve).all():
        return float("nan")
    middle = np.median(curve)
    spread = float(np.median(np.abs(curve - middle)))
    return float((middle - curve.min()) / spread) if spread > 0.0 else float("nan")


def bisector(velocity: np.ndarray, curve: np.ndarray, fit: Gaussians) -> tuple[np.ndarray, np.ndarray, float]:
    """Middle of the profile at every per cent of its depth, and the bisector span.

    Parameters
    ----------
    velocity, curve : float64[v]
        Absorption profile.
    fit : Gaussians
        Its fit, one curve.

    Returns
    -------
    depth : float64[level]
        0.01 .. 0.99 of the depth below the continuum of the fit.
    middle : float64[level]
        km/s; NaN where a side of the line does not reach the level.
    span : float
        km/s: mean middle at 10..40 per cent of the depth minus that at 55..85 per cent.
    """
    import numpy as np

    depth = np.arange(1, round(1.0 / LEVELS)) * LEVELS
    middle = np.full(depth.size, np.nan)
    centre, sigma, offset = float(fit.centre[0]), float(fit.sigma[0]), float(fit.offset[0])
    if not np.isfinite(centre):
        return depth, middle, float("nan")
    near = np.flatnonzero(np.abs(velocity - centre) < 1.5 * sigma)
    if near.size < 3:
        return depth, middle, float("nan")
    low = int(near[np.argmin(curve[near])])
    height = offset - curve[low]
    for k, part in enumerate(depth):
        level = offset - part * height
        sides = []
        for walk in (-1, 1):
            i = low
            while 0 < i < velocity.size - 1 and curve[i] < level:
                i += walk
            if curve[i] < level or i == low:
                break
            t = (level - curve[i - walk]) / (curve[i] - curve[i - walk])
            sides.append(velocity[i - walk] + t * (velocity[i] - velocity[i - walk]))
        if len(sides) == 2:
            middle[k] = 0.5 * (sides[0] + sides[1])

    def mean(part: tuple[float, float]) -> float:
        inside = middle[(depth >= part[0] - 1e-9) & (depth <= part[1] + 1e-9)]
        return float(np.mean(inside)) if np.isfinite(inside).all() else float("nan")

    return depth, middle, mean(TOP) - mean(BOTTOM)
