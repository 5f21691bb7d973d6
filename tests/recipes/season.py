"""Seasons of velocities: drawn from perfect extractions or found in a reduction, and judged.

``python -m tests.recipes.season FOLDER`` prints the figures of a simulated campaign that has been reduced.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from apero_dask.core.products import VELOCITY_FOLDER
from apero_dask.recipes.ccf_lines import expected_light
from apero_dask.recipes.ccf_velocity import star_velocity
from apero_dask.recipes.line_mask import builtin_mask
from apero_dask.simulator.ephemeris import keplerian
from apero_dask.simulator.recovered import read_recovered
from apero_dask.simulator.truth import read_campaign
from tests.recipes.starlight import RAMP, READ_ELECTRONS, star

GAMMA, PERIOD, ECCENTRICITY = -110.1, 11.3, 0.2
BERV_KMS = 25.0
DAYS = 300.0
FLOOR_MS = 4.0
"""1 m/s of the full instrument on the small one: times the root of the ratio of the lines, 5000 to 320."""


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


@dataclass(frozen=True)
class Recovered:
    """Velocities of one star in a reduced campaign."""

    found: Season
    """About their weighted mean difference from the injected ones: the zero point of a mask is its own."""
    injected: np.ndarray
    """m/s, about the systemic velocity of the first star."""
    night: np.ndarray
    """Name of the night of each frame."""

    @property
    def residual(self) -> np.ndarray:
        """Found minus injected, m/s."""
        return self.found.velocity - self.injected

    @property
    def expected(self) -> Orbit:
        """What a circle makes of the injected velocities at the epochs observed."""
        return orbit(Season(self.found.days, self.found.berv, self.injected, self.found.error))


def recovered(root: Path) -> dict[str, Recovered]:
    """Stars of a simulated and reduced campaign by name, frames in order of time."""
    truth = {str(row["identifier"]): row for row in read_campaign(root)}
    first = min(float(row["bjd"]) for row in truth.values() if row["kind"] == "mdwarf")
    stars = {}
    for star_found in read_recovered(root / "reduced" / VELOCITY_FOLDER, root):
        frames = star_found.frames
        if len(frames) < 3:
            continue
        days = np.array([f.bjd for f in frames]) - first
        error = np.array([f.error_ms for f in frames])
        injected = 1e3 * (np.array([f.injected_kms for f in frames]) - GAMMA)
        velocity = 1e3 * (np.array([f.found_kms for f in frames]) - GAMMA)
        velocity -= np.average(velocity - injected, weights=error**-2)
        rows = [truth[f.frame] for f in frames]
        berv = np.array([float(row["berv_kms"]) for row in rows])
        name = str(rows[0]["target"])
        nights = np.array([str(row["obs_dir"]) for row in rows])
        stars[name] = Recovered(Season(days, berv, velocity, error), injected, nights)
    return stars


def nightly(stars: dict[str, Recovered]) -> dict[str, tuple[float, float]]:
    """Zero point of every night over all stars, found minus injected, and its error, m/s."""
    night = np.concatenate([one.night for one in stars.values()])
    residual = np.concatenate([one.residual for one in stars.values()])
    weight = np.concatenate([one.found.error for one in stars.values()]) ** -2
    return {
        str(name): (
            float(np.average(residual[night == name], weights=weight[night == name])),
            float(weight[night == name].sum() ** -0.5),
        )
        for name in np.unique(night)
    }


def report(root: Path) -> list[str]:
    """Figures of a reduced campaign, as lines."""
    stars = recovered(root)
    lines = []
    for name, one in stars.items():
        rms = float(one.residual.std(ddof=1))
        lines.append(
            f"{name}: {one.residual.size} frames in {np.unique(one.night).size} nights, rms {rms:.1f} m/s, "
            f"errors {one.found.predicted:.1f} m/s, ratio {rms / one.found.predicted:.2f}"
        )
        if np.ptp(one.injected) > 0.0:
            best, true = orbit(one.found), one.expected
            lines.append(
                f"  period {best.period:.3f} +- {best.period_error:.3f} d ({true.period:.3f}), amplitude "
                f"{best.amplitude:.1f} +- {best.amplitude_error:.1f} m/s ({true.amplitude:.1f}), rms about "
                f"the orbit {best.rms:.1f} m/s"
            )
        slope, sigma = slope_with_berv(Season(one.found.days, one.found.berv, one.residual, one.found.error))
        low, high = one.found.berv.min(), one.found.berv.max()
        lines.append(
            f"  {slope:+.1f} +- {sigma:.1f} m/s at {BERV_KMS:g} km/s of BERV ({low:+.1f} .. {high:+.1f} km/s)"
        )
    zero = nightly(stars)
    chi2 = sum((v / e) ** 2 for v, e in zero.values())
    lines.append(f"zero points of {len(zero)} nights, chi-square {chi2:.1f}:")
    lines += [f"  {name} {value:+6.1f} +- {error:.1f} m/s" for name, (value, error) in zero.items()]
    return lines


if __name__ == "__main__":
    print("\n".join(report(Path(sys.argv[1]))))
