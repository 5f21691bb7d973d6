"""Cross-correlation of an extracted spectrum with a mask, per order.

The spectrum is divided by the light expected at every pixel, blaze times a smooth continuum, and every line
counts with its weight and the light expected *at the line*: neither blaze nor continuum change along the
scan, while lines keep the weight of their photons.  One set of lines serves the whole scan, and every frame
of a star whatever its BERV.  Where a pixel without information (deep telluric line) crosses a line far from
its core, the line is left out at that velocity and the sum is scaled by the expected light of the others, so
that the continuum has no steps.  Heavy imports happen inside the functions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

    from apero_dask.recipes.line_mask import LineMask

C_KMS = 299792.458
BLAZE_PERCENTILE = 90.0
LEAST_BLAZE = 0.3
"""Pixels with less blaze, relative to that percentile of the order, lie outside the order (reference)."""
CONTINUUM = 8
"""Windows per order of the smooth continuum: 500 px of the full instrument."""
SPIKE, SPIKE_SIGMA = 0.5, 8.0
"""A pixel is taken out that lies this far above the continuum, relative to it and in sigma: no star does."""
LARGEST_BERV = 33.0
"""km/s: lines stay inside the order for every BERV up to this, so that all frames of a star share them."""
CORE_KMS = 8.0
"""Half width of the core of a line.  A line takes no part if a pixel without information meets its core in
this frame or would do so at another BERV of the year: deep telluric lines stand still while the star moves,
and a set of lines that followed them would give the errors of their positions the period of the BERV."""


@dataclass(frozen=True, slots=True)
class Expected:
    """A spectrum over the light that is expected; arrays are float64[order, x]."""

    ratio: np.ndarray
    """Flux over expected light; NaN = no information."""
    rate: np.ndarray
    """Expected light, photons per km/s."""
    noise: np.ndarray
    """Variance of the ratio times the pixel in km/s."""
    wave: np.ndarray
    """nm."""


@dataclass(frozen=True, slots=True)
class Scan:
    """Cross-correlation of every order."""

    velocity: np.ndarray
    """float64[v]: km/s, barycentric."""
    ccf: np.ndarray
    """float64[order, v]: photons per step; NaN for an order without lines."""
    variance: np.ndarray
    """float64[order, v]: of it, steps being independent of one another."""
    used: np.ndarray
    """int64[order]: lines."""


def expected_light(flux: np.ndarray, variance: np.ndarray, blaze: np.ndarray, wave: np.ndarray) -> Expected:
    """Divide a spectrum by blaze and smooth continuum.

    Parameters
    ----------
    flux, variance, blaze, wave : float64[order, x]
        Electrons, electrons^2, any unit, vacuum nm; NaN = no information.
    """
    import numpy as np
    from apero_kernels.polynomial import low_pass

    ratio, rate, noise = (np.full(flux.shape, np.nan) for _ in range(3))
    width = max(flux.shape[1] // CONTINUUM, 16)
    for o in range(flux.shape[0]):
        lit = np.isfinite(blaze[o])
        if not lit.any():
            continue
        lit &= blaze[o] > LEAST_BLAZE * np.percentile(blaze[o][lit], BLAZE_PERCENTILE)
        good = lit & np.isfinite(flux[o]) & (variance[o] > 0.0)
        if np.count_nonzero(good) < width // 2:
            continue
        shape = np.where(good, flux[o] / np.where(lit, blaze[o], 1.0), np.nan)
        smooth = low_pass(shape, width)
        light = np.where(lit & (smooth > 0.0), smooth * np.where(lit, blaze[o], 1.0), np.nan)
        kms = C_KMS * np.gradient(np.log(wave[o]))
        value = flux[o] / light
        spread = np.sqrt(np.maximum(variance[o], 0.0)) / light
        good &= np.isfinite(light) & ~(value - 1.0 > np.maximum(SPIKE, SPIKE_SIGMA * spread))
        ratio[o] = np.where(good, value, np.nan)
        # The ends of the order are those of the blaze, whatever holes there are.
        rate[o] = light / kms
        noise[o] = np.where(good, np.square(spread) * kms, np.nan)
    return Expected(ratio, rate, noise, wave)


def velocity_axis(centre: float, half: float, step: float) -> np.ndarray:
    """Velocities of a scan, float64[v] in km/s: the centre and whole steps to both sides."""
    import numpy as np

    count = int(np.floor(half / step + 1e-9))
    return centre + step * np.arange(-count, count + 1)


def scan(
    light: Expected,
    mask: LineMask,
    velocity: np.ndarray,
    berv: float,
    mode: str,
    star: float | None = None,
    berv_max: float = LARGEST_BERV,
) -> Scan:
    """Cross-correlate all orders with a mask.

    Parameters
    ----------
    light : Expected
        The spectrum.
    mask : LineMask
        Lines at rest.
    velocity : float64[v]
        Barycentric velocities in even steps, km/s.
    berv : float
        Barycentric Earth velocity: the observed line lies at ``rest doppler(v) / doppler(berv)``.
    mode : str
        ``order``: weights with mean 1 in every order; ``all``: over the mask; ``None``: as they are.
    star : float, optional
        Velocity of the star as far as known: lines with a hole in their core are left out.  Without it, lines
        at the ends of an order count at the velocities where they lie inside.
    berv_max : float
        Largest BERV of the star in a year, km/s.
    """
    import numpy as np
    from apero_kernels.velocity import scan_lines

    middle = velocity.size // 2
    step = float(velocity[1] - velocity[0])
    rapidity = C_KMS * (np.arctanh(velocity / C_KMS) - np.arctanh(berv / C_KMS))
    # Equal steps of velocity are equal steps of rapidity but for 0.1 m/s at 300 km/s; corrected below.
    stretched = step / (1.0 - (velocity[middle] / C_KMS) ** 2)
    start = float(rapidity[middle] - middle * stretched)
    core = (0, 0) if star is None else _core(velocity, star + berv, berv_max + CORE_KMS)
    found = scan_lines(
        light.ratio, light.rate, light.noise, light.wave, mask.wave, mask.weight, start, stretched,
        velocity.size, core=core, whole=star is not None,
        room=(max(berv_max - berv, 0.0), max(berv_max + berv, 0.0)),
    )  # fmt: skip
    expected = found["expected"]
    with np.errstate(invalid="ignore", divide="ignore"):
        full = found["light"][:, None] / expected
        factor = np.ones(expected.shape[0])
        if mode == "order":
            factor = found["used"] / found["weight"]
        elif mode == "all":
            factor = np.full(expected.shape[0], 1.0 / mask.weight.mean())
        ccf = np.where(expected > 0.0, found["total"] * full, np.nan) * (factor * step)[:, None]
        variance = np.where(expected > 0.0, found["variance"] * full**2, np.nan) * (factor**2 * step)[:, None]
    off = rapidity - (start + stretched * np.arange(velocity.size))
    ccf = ccf + np.gradient(ccf, axis=1) / stretched * off
    return Scan(velocity, ccf, variance, found["used"])


def _core(velocity: np.ndarray, middle: float, half: float) -> tuple[int, int]:
    import numpy as np

    inside = np.flatnonzero(np.abs(velocity - middle) <= half)
    return (int(inside[0]), int(inside[-1]) + 1) if inside.size else (0, 0)
