"""A season of velocities of one star: drawn from perfect extractions, and judged."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from apero_dask.recipes.ccf_lines import expected_light
from apero_dask.recipes.ccf_velocity import star_velocity
from apero_dask.recipes.line_mask import builtin_mask
from apero_dask.simulator.ephemeris import keplerian
from tests.recipes.starlight import RAMP, READ_ELECTRONS, star

GAMMA, PERIOD, ECCENTRICITY = -110.1, 11.3, 0.2
BERV_KMS = 25.0
DAYS = 300.0


@dataclass(frozen=True)
class Season:
    """Velocities and their errors, m/s."""

    days: np.ndarray
    berv: np.ndarray
    """km/s."""
    velocity: np.ndarray
    error: np.ndarray

    @property
    def predicted(self) -> float:
        """Root mean square of the errors."""
        return float(np.sqrt(np.mean(self.error**2)))


@dataclass(frozen=True)
class Orbit:
    """Best circle through a season."""

    period: float
    period_error: float
    amplitude: float
    amplitude_error: float
    rms: float
    """Of the residuals, with the five parameters taken off."""


@lru_cache
def observed(seed: int, amplitude: float, instrument: str, snr: float, epochs: int) -> Season:
    """Season of 300 days of a star with a companion of `amplitude` m/s."""
    rng = np.random.default_rng([seed, 40])
    days = np.sort(rng.uniform(0.0, DAYS, epochs))
    berv = BERV_KMS * np.sin(2 * np.pi * days / 365.25 + 0.3)
    mask = builtin_mask()
    found = []
    for k, (day, earth) in enumerate(zip(days, berv, strict=True)):
        rv = keplerian(day, GAMMA, amplitude, PERIOD, ECCENTRICITY, 60.0, 3.0)
        shown = star.__wrapped__(seed, berv=float(earth), rv=rv, snr=snr, instrument=instrument)
        # Absorption corrected, its noise left; what is too deep is not corrected.
        clear = np.clip(shown.transmission, 0.05, 1.0)
        variance = (RAMP * shown.flux * clear + READ_ELECTRONS**2) / clear**2
        noise = np.random.default_rng([seed, k]).standard_normal(shown.flux.shape)
        flux = np.where(clear < 0.5, np.nan, shown.flux + np.sqrt(variance) * noise)
        light = expected_light(flux, variance, shown.blaze, shown.wave)
        one = star_velocity(
            light,
            mask,
            float(earth),
            target=-110.51,
            half=300.0,
            step=0.5,
            mode="all",
            berv_max=BERV_KMS + 1.0,
        )
        found.append((1e3 * (one.rv - GAMMA), one.noise))
    velocity, error = np.array(found).T
    return Season(days, berv, velocity, error)


def sine(season: Season, period: float) -> tuple[float, float, float, np.ndarray]:
    """Chi-square, amplitude, its error and residuals of the best sine of a period on a constant."""
    phase = 2 * np.pi * season.days / period
    design = np.stack([np.ones(phase.size), np.cos(phase), np.sin(phase)], axis=1) / season.error[:, None]
    covariance = np.linalg.inv(design.T @ design)
    best = covariance @ design.T @ (season.velocity / season.error)
    residual = season.velocity - (design * season.error[:, None]) @ best
    amplitude = float(np.hypot(best[1], best[2]))
    return (
        float(np.sum((residual / season.error) ** 2)),
        amplitude,
        float(np.sqrt(covariance[1, 1])),
        residual,
    )


def orbit(season: Season, shortest: float = 5.0, longest: float = 50.0) -> Orbit:
    """Period and amplitude by a search over periods (days) of equal steps in their logarithm."""
    periods = np.exp(np.linspace(np.log(shortest), np.log(longest), 4000))
    best = float(periods[np.argmin([sine(season, p)[0] for p in periods])])
    _, amplitude, sigma, residual = sine(season, best)
    count = season.days.size
    # Error of a frequency: sqrt(6/N) sigma / (pi T K) (Montgomery & O'Donoghue 1999, DSSN 13, 28).
    frequency = np.sqrt(6.0 / count) * season.predicted / (np.pi * np.ptp(season.days) * amplitude)
    return Orbit(best, best**2 * frequency, amplitude, sigma, float(residual.std(ddof=5)))


def slope_with_berv(season: Season) -> tuple[float, float]:
    """Velocity that goes with the motion of the Earth at 25 km/s, and its error, m/s."""
    design = np.stack([np.ones(season.berv.size), season.berv / BERV_KMS], axis=1) / season.error[:, None]
    covariance = np.linalg.inv(design.T @ design)
    slope = float((covariance @ design.T @ (season.velocity / season.error))[1])
    return slope, float(np.sqrt(covariance[1, 1]))
