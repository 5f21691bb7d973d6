"""Pre-cleaning: water and dry exponents of the atmosphere from the spectrum of a star.

The star may have lines of its own; they are noise here.  Heavy imports happen inside the functions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

    from apero_dask.recipes.sky_absorption import Absorption

C_KMS = 299792.458
FIRST_WATER = 4.0
"""Water exponent at the start and of a spectrum whose fit failed."""
MOST_STEPS = 40
SMALL = 1e-4
"""Exponents have converged when a step is smaller."""
DEEPEST = 0.36788
"""Pixels with less transmission take no part in the fit (1/e)."""
OPAQUE = 0.13534
"""The corrected spectrum is not used below this transmission (1/e^2)."""
CONTINUUM_PX = 101
"""Window of the running median that stands for continuum and broad lines."""
SMOOTH_PX = 25.0
"""Sigma of the Gaussian whose weighted mean is taken off residuals and derivatives alike."""
STRENGTH_ERROR = 0.05
"""Relative error expected of a line strength of the table, as of molecular databases."""
ROBUST_PASSES = 4
"""Passes in which outliers lose their weight."""
CUT = 4.0
"""Residuals beyond so many sigma lose their weight."""
DRY_PRIOR, WIND_PRIOR_KMS = 0.15, 0.05
"""Standard deviations expected: dry exponent over airmass, velocity of the air along the line of sight."""
WATER_PRIOR = 10.0
WATER_RANGE, DRY_RANGE = (0.02, 60.0), (0.2, 8.0)
LOW_BLAZE = 0.15


@dataclass(frozen=True, slots=True)
class Observed:
    """What pre-cleaning sees; arrays are float64[order, x]."""

    flux: np.ndarray
    """Electrons, with blaze; NaN = no information."""
    variance: np.ndarray
    blaze: np.ndarray
    """About 1 at its maximum in every order; NaN = none."""
    wave: np.ndarray
    """Vacuum nm."""
    fwhm: np.ndarray
    """Line spread ``exp(-0.5 |v/s|^p)``: FWHM = 2 s (2 ln 2)^(1/p), km/s."""
    exponent: np.ndarray
    airmass: float
    used: np.ndarray
    """bool[order]: orders with enough light."""
    template: np.ndarray | None = None
    """Star without atmosphere on these pixels, about 1, observer's frame; NaN = not known."""


@dataclass(frozen=True, slots=True)
class Cleaned:
    """Result of the fit; planes are float64[order, x]."""

    water: float
    """Exponent of the water column of the table."""
    dry: float
    """Exponent of the dry gases at airmass 1."""
    velocity: float
    """km/s, positive = lines to the red."""
    errors: tuple[float, float, float]
    converged: bool
    steps: int
    """Steps taken, those of the first fit of the exposure included."""
    transmission: np.ndarray
    """Seen through the line spread; NaN where the table does not reach."""
    water_slope: np.ndarray
    """d transmission / d water exponent."""
    dry_slope: np.ndarray
    velocity_slope: np.ndarray
    """d transmission / d velocity, 1/(km/s)."""
    scatter: float
    """Median over the orders of residual scatter over that expected of photons and table."""
    orders: np.ndarray
    """bool[order]: orders of the fit."""


def transmission_planes(
    table: Absorption,
    observed: Observed,
    water: float,
    dry: float,
    velocity: float,
    orders: np.ndarray | None = None,
) -> np.ndarray:
    """Transmission and its derivatives by the two exponents at the pixels, float64[3, order, x].

    Parameters
    ----------
    water, dry
        Exponents; they act on the transmission before the line spread.
    velocity
        km/s, positive = lines to the red.
    orders : bool[order], optional
        Only these; the others are NaN.
    """
    import numpy as np
    from apero_kernels.absorption import spread

    from apero_dask.recipes.sky_absorption import STEP_KMS

    wave = observed.wave
    pick = np.flatnonzero(np.ones(wave.shape[0], bool) if orders is None else orders)
    out = np.full((3, *wave.shape), np.nan)
    if not pick.size:
        return out
    place = np.ascontiguousarray(table.place(wave[pick] / (1.0 + velocity / C_KMS)))
    points = table.depth.shape[1]
    values = np.empty((3, points))
    reach = int(60.0 / STEP_KMS)
    done = 0
    for low, high in sorted((row[0], row[-1]) for row in place):
        # Orders overlap: every point once.
        first, end = max(int(low) - reach, done, 0), min(int(high) + reach, points)
        if end > first:
            part = slice(first, end)
            values[:, done:first] = 0.0  # between orders
            tau_water, tau_dry = table.depth[0, part], table.depth[1, part]
            values[0, part] = np.exp(-(np.float32(water) * tau_water + np.float32(dry) * tau_dry))
            np.multiply(values[0, part], tau_water, out=values[1, part])
            np.multiply(values[0, part], tau_dry, out=values[2, part])
            done = end
    values[:, done:] = 0.0
    found = np.empty((3, *place.shape))
    spread(
        values,
        place,
        np.ascontiguousarray(observed.fwhm[pick]),
        np.ascontiguousarray(observed.exponent[pick]),
        STEP_KMS,
        found,
    )
    found[1:] *= -1.0
    out[:, pick] = found
    return out


def velocity_slope(transmission: np.ndarray, wave: np.ndarray) -> np.ndarray:
    """Derivative of the transmission by the velocity of the air, 1/(km/s), float64[order, x]."""
    import numpy as np

    return np.asarray(-np.gradient(transmission, axis=1) / (C_KMS * np.gradient(np.log(wave), axis=1)))


def star_light(observed: Observed) -> np.ndarray:
    """Flux over blaze and template, float64[order, x]; NaN where one of them is missing or faint."""
    import numpy as np

    lit = observed.blaze > LOW_BLAZE
    with np.errstate(invalid="ignore", divide="ignore"):
        light = np.where(lit, observed.flux / observed.blaze, np.nan)
        if observed.template is not None:
            light = np.where(observed.template > 0.05, light / observed.template, np.nan)
    return np.asarray(light)


def informative_orders(table: Absorption, observed: Observed) -> np.ndarray:
    """bool[order]: orders that hold 99 per cent of what is known about each exponent at the start values."""
    import numpy as np

    planes = transmission_planes(table, observed, FIRST_WATER, observed.airmass, 0.0, observed.used)
    t = planes[0]
    weight = np.where(np.isfinite(star_light(observed)) & (t > DEEPEST), 1.0 / observed.variance, 0.0)
    with np.errstate(invalid="ignore"):
        weight = np.nan_to_num(weight * np.square(observed.flux))
    keep = np.zeros(t.shape[0], bool)
    for plane in planes[1:]:
        with np.errstate(invalid="ignore", divide="ignore"):
            power = np.nan_to_num(weight * np.square(plane / t)).sum(axis=1)
        order = np.argsort(-power, kind="stable")
        share = np.cumsum(power[order]) / max(float(power.sum()), 1e-300)
        count = int(np.searchsorted(share, 0.99)) + 1
        keep[order[:count]] |= power[order[:count]] > 0
    return np.asarray(keep & observed.used)


def preclean(table: Absorption, observed: Observed, near: Cleaned | None = None) -> Cleaned:
    """Fit the two exponents and the velocity of the air.

    Parameters
    ----------
    near
        Result of an earlier fit of the same exposure to start from.

    Notes
    -----
    Gauss-Newton steps on the logarithm of flux over (transmission x continuum), weighted with the noise, with
    the analytic derivatives by the exponents (the exponents act before the line spread, so do their
    derivatives).  The continuum is a running median of what is left; residuals and derivatives lose their
    weighted running mean, so that a linear error of the continuum has no say.  Weights of an order fall to
    the scatter found in it (stellar lines), outliers beyond 4 sigma lose theirs.  The dry exponent is
    expected within 15 per cent of the airmass and the velocity within 50 m/s of 0: broad priors that only
    matter where a spectrum does not know better.

    The variance of a pixel is that of its photons and that of the table: a line whose strength is wrong by 5
    per cent leaves 5 per cent of its optical depth.  With the photons alone few deep lines would decide, and
    their errors would be those of the exponents.
    """
    import numpy as np

    light = star_light(observed)
    with np.errstate(invalid="ignore", divide="ignore"):
        noise = observed.variance / np.square(observed.flux)
    orders = informative_orders(table, observed) if near is None else near.orders
    rows = np.flatnonzero(orders)
    p = np.array([FIRST_WATER, observed.airmass, 0.0])
    start = p.copy()
    if near is not None:
        p = np.array([near.water, near.dry, near.velocity])
    prior = np.array([WATER_PRIOR, DRY_PRIOR * observed.airmass, WIND_PRIOR_KMS])
    covariance = np.diag(np.square(prior))
    converged, steps, frozen, scatter = False, 0, None, float("nan")
    while steps < MOST_STEPS and not converged and orders.any():
        steps += 1
        planes = transmission_planes(table, observed, p[0], p[1], p[2], orders)[:, rows]
        if frozen is None or (near is None and steps <= 3):
            frozen = planes[0] > DEEPEST
        terms = np.stack([planes[1], planes[2], velocity_slope(planes[0], observed.wave[rows])])
        step, covariance, scatter = _step(
            light[rows], noise[rows], planes[0], terms, frozen, p, p - start, prior
        )
        # Far from the solution the logarithm is not linear: never more than a factor of 2 at once.
        step = np.clip(step, -0.5 * np.array([p[0], p[1], 0.4]), np.array([p[0], p[1], 0.2]))
        p = p + step
        inside = WATER_RANGE[0] < p[0] < WATER_RANGE[1] and DRY_RANGE[0] < p[1] < DRY_RANGE[1]
        if not (inside and np.isfinite(p).all()):
            break
        converged = bool(np.hypot(step[0], step[1]) < SMALL and abs(step[2]) < 1e-3)
    if not converged:
        p = start
    planes = transmission_planes(table, observed, p[0], p[1], p[2])
    errors = np.sqrt(np.maximum(np.diag(covariance), 0.0))
    return Cleaned(
        float(p[0]),
        float(p[1]),
        float(p[2]),
        (float(errors[0]), float(errors[1]), float(errors[2])),
        converged,
        steps + (0 if near is None else near.steps),
        planes[0],
        planes[1],
        planes[2],
        velocity_slope(planes[0], observed.wave),
        scatter,
        orders,
    )


def _step(
    light: np.ndarray,
    noise: np.ndarray,
    transmission: np.ndarray,
    terms: np.ndarray,
    usable: np.ndarray,
    exponents: np.ndarray,
    away: np.ndarray,
    prior: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, float]:
    """One Gauss-Newton step, its covariance, and the scatter over the expected one.

    `noise` is the relative variance of the photons, `away` the distance of the exponents from the start.
    """
    import numpy as np
    from apero_kernels.polynomial import low_pass

    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = np.where(usable, light / transmission, np.nan)
        slopes = terms / transmission
    residual, weight = np.zeros(light.shape), np.zeros(light.shape)
    for o in range(light.shape[0]):
        if np.count_nonzero(np.isfinite(ratio[o])) < CONTINUUM_PX:
            continue
        continuum = low_pass(ratio[o], CONTINUUM_PX)
        with np.errstate(invalid="ignore", divide="ignore"):
            level = ratio[o] / continuum
            good = (level > 0.1) & (level < 5.0) & (noise[o] > 0) & np.isfinite(slopes[:, o]).all(axis=0)
        residual[o, good] = np.log(level[good])
        doubt = np.square(STRENGTH_ERROR * exponents[:2, None] * slopes[:2, o]).sum(axis=0)
        weight[o, good] = 1.0 / (noise[o, good] + doubt[good])
    used = weight > 0
    slopes = np.where(used, slopes, 0.0)

    def narrow(values: np.ndarray, by: np.ndarray, total: np.ndarray) -> np.ndarray:
        return np.where(used, values - smooth(values * by, SMOOTH_PX) / total, 0.0)

    found, robust = [], weight
    change, matrix = np.zeros(3), np.diag(1.0 / np.square(prior))
    for pass_number in range(ROBUST_PASSES):
        # Lines of the star that have lost their weight must not pull the running mean down either: what is
        # left beside them would lie above it, most where the air is clear.
        total = np.maximum(smooth(robust, SMOOTH_PX), 1e-300)
        rest, parts = narrow(residual, robust, total), narrow(slopes, robust, total)
        if pass_number == 0:
            weight, found = _as_scattered(rest, weight)
            robust = weight
        g, r, w = parts[:, used], rest[used], robust[used]
        matrix = (g * w) @ g.T + np.diag(1.0 / np.square(prior))
        change = np.linalg.solve(matrix, (g * w) @ r - away / np.square(prior))
        off = np.square(r - change @ g) * weight[used] / CUT**2
        robust = np.zeros(weight.shape)
        robust[used] = weight[used] * np.square(np.maximum(1.0 - off, 0.0))
    return change, np.linalg.inv(matrix), float(np.median(found)) if found else float("nan")


def _as_scattered(residual: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, list[float]]:
    """Weights lowered to the scatter found in each order, and that scatter over the expected one."""
    import numpy as np

    weight, found = weight.copy(), []
    used = weight > 0
    for o in np.flatnonzero(used.any(axis=1)).tolist():
        z = np.abs(residual[o, used[o]]) * np.sqrt(weight[o, used[o]])
        scale = 1.4826 * float(np.median(z))
        found.append(scale)
        weight[o] /= max(scale, 1.0) ** 2
    return weight, found


def smooth(values: np.ndarray, sigma: float) -> np.ndarray:
    """Mean over a bell of three boxes of that standard deviation (px) along the last axis."""
    import numpy as np
    from scipy.ndimage import uniform_filter1d

    # Three boxes of an odd size n have the variance (n^2 - 1) / 4.
    size = 2 * round((4.0 * sigma**2 + 1.0) ** 0.5 / 2.0 - 0.5) + 1
    for _ in range(3):
        values = uniform_filter1d(values, size, axis=-1)
    return np.asarray(values)
