"""Velocity of a star from the cross-correlation of its spectrum with a mask.

Heavy imports happen inside the functions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from apero_dask.recipes.ccf_lines import LARGEST_BERV

if TYPE_CHECKING:
    import numpy as np

    from apero_dask.recipes.ccf_fit import Gaussians
    from apero_dask.recipes.ccf_lines import Expected, Scan
    from apero_dask.recipes.line_mask import LineMask

FAST_KMS = 1000.0
"""Header velocities of this size or more mean unknown; the first scan goes as far."""
WIDE_STEP = 1.0
COARSE_STEP = 2.0
"""km/s, steps of the first scans; a fraction of the line width."""
START_SIGMA = 3.0
"""km/s, start of the fits."""
LINE_HALF = 20.0
"""km/s around the star that take no part in the continuum."""
LEAST_DEPTH = 5.0
"""An order whose deepest point lies fewer median deviations below its median shows no line (reference)."""
WIDTH_CUT = 8.0
"""An order broader than the others by so many robust sigma is left out (reference)."""
FEWEST_LINES = 3
"""Fewer lines in an order say more about their own errors than about the star."""


@dataclass(frozen=True, slots=True)
class StarVelocity:
    """Result of one spectrum; arrays over orders have a row for every order of the instrument."""

    target: float
    """km/s: middle of the scan."""
    wide: bool
    """It was found by a first scan."""
    velocity: np.ndarray
    """float64[v], km/s."""
    ccf: np.ndarray
    """float64[order, v]: photons per step, slope removed; NaN without lines."""
    mean: np.ndarray
    """float64[v]: mean of the orders used."""
    used: np.ndarray
    """bool[order]: part of the mean."""
    lines: np.ndarray
    """int64[order]."""
    orders: Gaussians
    order_noise: np.ndarray
    """float64[order], m/s."""
    fit: Gaussians
    """Of the mean, one curve; NaN if there is no line."""
    noise: float
    """m/s."""
    span: float
    """km/s, bisector span."""
    continuum: float
    """Robust scatter of the mean away from the line, in units of its continuum."""

    @property
    def rv(self) -> float:
        """km/s; NaN if no line was found."""
        return float(self.fit.centre[0])


def star_velocity(
    light: Expected,
    mask: LineMask,
    berv: float,
    *,
    target: float | None,
    half: float,
    step: float,
    mode: str,
    berv_max: float = LARGEST_BERV,
) -> StarVelocity:
    """Measure the velocity of a star.

    Parameters
    ----------
    light : Expected
        The spectrum over the light expected.
    mask : LineMask
    berv : float
        km/s.
    target : float, optional
        Expected velocity, km/s; None = unknown.
    half, step : float
        Half width and step of the scan, km/s.
    mode : str
        Norm of the weights, see :func:`apero_dask.recipes.ccf_lines.scan`.
    berv_max : float
        Largest BERV of the star in a year, km/s.

    Notes
    -----
    A first coarse scan finds the star within the range; the lines that count are those with information
    around it.  The mean over orders is that of photons, so that orders count with theirs.
    """
    import numpy as np

    from apero_dask.recipes.ccf_fit import bisector, fit_gaussians, significance, without_slope
    from apero_dask.recipes.ccf_lines import scan, velocity_axis
    from apero_dask.recipes.photon_noise import profile_noise

    wide = target is None or not abs(target) < FAST_KMS
    centre = 0.0 if wide else float(target or 0.0)
    if wide:
        axis = velocity_axis(0.0, FAST_KMS, WIDE_STEP)
    else:
        axis = velocity_axis(centre, half, max(step, min(COARSE_STEP, half / 10.0)))
    star = deepest(scan(light, mask, axis, berv, mode))
    if wide and np.isfinite(star):
        # Whole steps, so that frames of one star share their axis.
        centre = round(star / step) * step
    if not np.isfinite(star):
        star = centre
    velocity = velocity_axis(centre, half, step)
    found = scan(light, mask, velocity, berv, mode, star=star, berv_max=berv_max)
    line_half = min(LINE_HALF, 0.4 * half)
    ccf = without_slope(velocity, found.ccf, star, line_half)
    lit = np.isfinite(ccf).all(axis=1) & (found.used >= FEWEST_LINES)
    deep = np.array([significance(row) >= LEAST_DEPTH for row in ccf])
    mean, fit = _mean(velocity, ccf, lit & deep if (lit & deep).any() else lit, star)
    at = float(fit.centre[0]) if np.isfinite(fit.centre[0]) else star
    width = float(fit.sigma[0]) if np.isfinite(fit.sigma[0]) else START_SIGMA
    orders = fit_gaussians(velocity, np.where(lit[:, None], ccf, np.nan), at, width)
    used = lit & deep & np.isfinite(orders.centre)
    used &= ~_too_wide(orders.fwhm, used)
    mean, fit = _mean(velocity, ccf, used, at)
    count = max(int(np.count_nonzero(used)), 1)
    variance = np.sum(np.where(used[:, None], found.variance, 0.0), axis=0) / count**2
    noise = float(profile_noise(velocity, variance[None], fit.amplitude, fit.centre, fit.sigma)[0])
    outside = np.abs(velocity - at) > line_half
    level = float(fit.offset[0])
    continuum = (
        float(np.median(np.abs(mean[outside] - np.median(mean[outside])))) * 1.4826
        if outside.any()
        else np.nan
    )
    return StarVelocity(
        target=centre,
        wide=wide,
        velocity=velocity,
        ccf=ccf,
        mean=mean,
        used=used,
        lines=found.used,
        orders=orders,
        order_noise=profile_noise(velocity, found.variance, orders.amplitude, orders.centre, orders.sigma),
        fit=fit,
        noise=noise if np.isfinite(noise) else float("nan"),
        span=bisector(velocity, mean, fit)[2],
        continuum=continuum / level,
    )


def deepest(found: Scan) -> float:
    """Velocity at which all orders together are deepest, km/s; NaN if no point stands out.

    The depth is taken in units of its noise: near the ends of a wide scan few lines are left, and their
    sum scatters.
    """
    import numpy as np

    good = np.isfinite(found.ccf).all(axis=1) & (found.used >= FEWEST_LINES)
    if not good.any():
        return float("nan")
    total, variance = found.ccf[good].sum(axis=0), found.variance[good].sum(axis=0)
    depth = np.median(total) - total
    # The pattern of all other lines scatters as the noise does, only more.
    quality = depth / np.sqrt(np.maximum(variance, 1e-300))
    spread = float(np.median(np.abs(quality - np.median(quality))))
    k = int(np.argmax(quality))
    if not spread > 0.0 or not quality[k] > LEAST_DEPTH * spread:
        return float("nan")
    return float(found.velocity[k])


def _mean(
    velocity: np.ndarray, ccf: np.ndarray, used: np.ndarray, centre: float
) -> tuple[np.ndarray, Gaussians]:
    """Mean of the orders used and its fit; NaN where no line stands out."""
    import numpy as np

    from apero_dask.recipes.ccf_fit import fit_gaussians, significance

    nothing = np.full(velocity.size, np.nan)
    mean = ccf[used].mean(axis=0) if used.any() else nothing
    clear = used.any() and significance(mean) >= LEAST_DEPTH
    return mean, fit_gaussians(velocity, mean[None] if clear else nothing[None], centre, START_SIGMA)


def _too_wide(fwhm: np.ndarray, used: np.ndarray) -> np.ndarray:
    import numpy as np

    if np.count_nonzero(used) < 3:
        return np.zeros(fwhm.shape, bool)
    low, middle, high = np.percentile(fwhm[used], [15.8655, 50.0, 84.1345])
    with np.errstate(invalid="ignore"):
        return np.asarray(fwhm > middle + WIDTH_CUT * max(0.5 * (high - low), 0.05 * middle))
