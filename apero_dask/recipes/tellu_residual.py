"""What all transmissions together say about the errors of pre-cleaning: residual model and its application.

Heavy imports happen inside the functions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

SLOPE_PRIOR = 0.10
"""Standard deviation expected of residuals in proportion to the absorption of a gas (strengths of lines)."""
ZERO_PRIOR, FLOOR = 0.02, 0.001
"""The same of what does not follow the exponents: part of the absorption, and of the light anywhere."""
REACH_PX = 2
"""Absorption within so many px counts: errors of position and width show on the flanks of a line."""
CUT = 5.0
FEW = 6
"""Transmissions below which the model is a poor one."""
MOST_COMPONENTS = 5
SMOOTH_PX = 25.0


@dataclass(frozen=True, slots=True)
class Transmission:
    """Residual transmission of one exposure on the reference wavelengths; planes are float64[order, x]."""

    name: str
    object: str
    water: float
    dry: float
    snr: float
    mjd: float
    residual: np.ndarray
    """About 1; NaN = not known."""
    variance: np.ndarray
    water_slope: np.ndarray
    """d ln T / d water exponent of the pre-cleaning, not above 0."""
    dry_slope: np.ndarray


@dataclass(frozen=True, slots=True)
class ResidualModel:
    """ln residual = zero + water exponent * h2o + dry exponent * dry; NaN where nothing is known."""

    zero: np.ndarray
    h2o: np.ndarray
    dry: np.ndarray
    used: np.ndarray
    """int64[order, x]: transmissions of the fit."""
    components: np.ndarray
    """float64[component, order, x]: principal components of the logarithms, the largest value positive."""
    spread: np.ndarray
    """float64[component]: rms of their amplitudes over the transmissions."""

    def residual(self, water: float, dry: float) -> np.ndarray:
        """ln of the residual transmission of a spectrum, 0 where nothing is known."""
        import numpy as np

        return np.nan_to_num(self.zero + water * self.h2o + dry * self.dry)


def _absorption(slopes: Sequence[np.ndarray], exponents: Sequence[float]) -> np.ndarray:
    """Mean depth -ln T of the gas over the exposures, largest within reach; float64[order, x]."""
    import numpy as np
    from scipy.ndimage import maximum_filter1d

    depth = np.mean([-np.nan_to_num(s) * e for s, e in zip(slopes, exponents, strict=True)], axis=0)
    return np.asarray(maximum_filter1d(np.maximum(depth, 0.0), 2 * REACH_PX + 1, axis=1))


def fit_model(transmissions: Sequence[Transmission]) -> ResidualModel:
    """Residual model of at least one transmission; their order does not matter.

    Notes
    -----
    Per pixel, posterior mean of the three terms.  What a slope may be follows from where the errors come
    from: strengths of lines are wrong by some per cent, so the residual is a small part of the absorption of
    that gas.  Where there is no absorption there is no residual, and the noise of the hot stars stays out of
    the science spectra; with one transmission as with a hundred.
    """
    import numpy as np
    from apero_kernels.regression import fit_stack

    found = sorted(transmissions, key=lambda t: (t.mjd, t.name))
    shape = found[0].residual.shape
    water = np.array([t.water for t in found])
    dry = np.array([t.dry for t in found])
    with np.errstate(invalid="ignore", divide="ignore"):
        logs = np.stack([np.log(np.where(t.residual > 0.05, t.residual, np.nan)) for t in found])
        errors = np.stack([t.variance / np.square(t.residual) for t in found])
    depth_water = _absorption([t.water_slope for t in found], [t.water for t in found])
    depth_dry = _absorption([t.dry_slope for t in found], [t.dry for t in found])
    prior = np.stack(
        [
            ZERO_PRIOR * (depth_water + depth_dry) + FLOOR,
            SLOPE_PRIOR * depth_water / float(np.mean(water)),
            SLOPE_PRIOR * depth_dry / float(np.mean(dry)),
        ]
    )
    design = np.stack([np.ones(len(found)), water, dry], axis=1)
    terms, used = np.empty((3, shape[0] * shape[1])), np.empty(shape[0] * shape[1], np.int64)
    flat = (len(found), -1)
    fit_stack(
        np.ascontiguousarray(logs.reshape(flat)),
        np.ascontiguousarray(errors.reshape(flat)),
        design,
        np.ascontiguousarray(prior.reshape(3, -1)),
        CUT,
        max(1, min(3, len(found))),
        terms,
        used,
    )
    components, spread = _principal(logs, errors, prior[0] + SLOPE_PRIOR * (depth_water + depth_dry))
    zero, h2o, dry_plane = terms.reshape(3, *shape)
    return ResidualModel(zero, h2o, dry_plane, used.reshape(shape), components, spread)


def _principal(logs: np.ndarray, errors: np.ndarray, expected: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Principal components float64[component, order, x] and the rms of their amplitudes.

    Each logarithm counts with the part that is expected to be more than noise.
    """
    import numpy as np

    n = logs.shape[0]
    power = np.square(expected)
    known = np.where(np.isfinite(logs) & (errors > 0), logs * power / (power + np.nan_to_num(errors)), 0.0)
    stack = known.reshape(n, -1)
    whole = np.isfinite(logs).all(axis=0).reshape(-1)
    values, vectors = np.linalg.eigh(stack[:, whole] @ stack[:, whole].T)
    count = max(1, min(MOST_COMPONENTS, n - 1))
    best = np.argsort(-values, kind="stable")[:count]
    found = vectors[:, best].T @ stack
    norm = np.sqrt(np.mean(np.square(found), axis=1)) + 1e-300
    found /= norm[:, None]
    for row in found:
        # The sign of an eigenvector is free.
        row *= np.sign(row[np.argmax(np.abs(row))]) or 1.0
    amplitudes = (stack @ found.T) / np.maximum(np.sum(np.square(found), axis=1), 1e-300)
    return found.reshape(count, *logs.shape[1:]), np.sqrt(np.mean(np.square(amplitudes), axis=0))


def moved(plane: np.ndarray, wave: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Plane float64[order, x] on other wavelengths of the same orders, by straight lines; 0 for NaN."""
    import numpy as np

    out = np.zeros(target.shape)
    for o in range(len(out)):
        good = np.isfinite(plane[o])
        if good.any():
            out[o] = np.interp(target[o], wave[o, good], plane[o, good], left=0.0, right=0.0)
    return out


def principal_residual(
    light: np.ndarray,
    noise: np.ndarray,
    components: np.ndarray,
    spread: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Fit principal components to a pre-cleaned spectrum; ln residual and amplitudes.

    Parameters
    ----------
    light : float64[order, x]
        Pre-cleaned flux over blaze and template; NaN = not used.
    noise : float64[order, x]
        Variance of its logarithm.
    components : float64[component, order, x]
        On the pixels of the spectrum.
    spread : float64[component]
        Rms of the amplitudes of the hot stars: how large an amplitude is expected to be.

    Notes
    -----
    The first component is accompanied by its two first derivatives along x, which stand for small changes of
    velocity and width.  Only what is narrower than 25 px counts, and an order weighs with the scatter found
    in it (stellar lines).  The expected spread keeps stellar lines from being fitted.
    """
    import numpy as np

    from apero_dask.recipes.tellu_clean import smooth

    first = np.gradient(components[0], axis=1)
    vectors = np.concatenate([components, first[None], np.gradient(first, axis=1)[None]])
    widths = np.concatenate([spread, 0.5 * spread[:1], 0.25 * spread[:1]])
    good = np.isfinite(light) & (light > 0) & (noise > 0)
    level = np.ones(light.shape)
    for o in range(light.shape[0]):
        if good[o].any():
            level[o] = np.median(light[o, good[o]])
    data = np.where(good, np.log(np.where(good, light, 1.0) / level), 0.0)
    weight = np.where(good, 1.0 / np.where(good, noise, 1.0), 0.0)
    total = np.maximum(smooth(weight, SMOOTH_PX), 1e-300)

    def narrow(values: np.ndarray) -> np.ndarray:
        return np.where(good, values - smooth(values * weight, SMOOTH_PX) / total, 0.0)

    data = narrow(data)
    design = np.stack([narrow(v)[good] for v in vectors], axis=1)
    w = weight.copy()
    for o in range(light.shape[0]):
        if good[o].any():
            z = np.abs(data[o, good[o]]) * np.sqrt(w[o, good[o]])
            w[o] /= max(1.4826 * float(np.median(z)), 1.0) ** 2
    w, d = w[good], data[good]
    robust = w
    amplitudes = np.zeros(len(vectors))
    ends = np.diag(1.0 / np.square(np.maximum(widths, 1e-12)))
    for _ in range(4):
        amplitudes = np.linalg.solve(design.T @ (design * robust[:, None]) + ends, design.T @ (robust * d))
        off = np.square(d - design @ amplitudes) * w / CUT**2
        robust = w * np.square(np.maximum(1.0 - off, 0.0))
    return np.tensordot(amplitudes, vectors, axes=1), amplitudes
