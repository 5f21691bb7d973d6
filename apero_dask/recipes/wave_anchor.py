"""Ties the cavity to the lamp: what the lamp lines say about its length at every wavelength."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from apero_dask.core.errors import DataError
from apero_dask.recipes.wave_cavity import C_MS, place
from apero_dask.recipes.wave_evidence import mean_over_models

if TYPE_CHECKING:
    import numpy as np

    from apero_dask.recipes.wave_cavity import Cavity
    from apero_dask.recipes.wave_lines import Lines
    from apero_dask.recipes.wave_maps import WaveMap

ODDS = 0.01  # share of false lamp lines in odds-ratio means (reference)
HIGHEST = 9  # degree of the chromatic correction, at most (reference)
TERMS_MS = tuple(2.0**k for k in range(-1, 10))  # expected sizes of the chromatic terms tried
SPREAD_MS = 1000.0  # range over which velocities of false lines are spread
SCATTERS_MS = tuple(2.0 ** (k / 8.0) for k in range(-16, 73))  # errors of the catalogue tried
SHARES = (0.005, 0.01, 0.02, 0.04, 0.08, 0.16)  # shares of false lines tried
FEWEST = 20  # lines that can anchor a cavity
FEWEST_COMMON = 20  # lines common to a night and the reference


@dataclass(frozen=True, slots=True)
class Anchors:
    """Lamp lines of all fibres and orders, one row per line of the catalogue."""

    label: np.ndarray
    """int64: index in the catalogue, rising."""
    wave: np.ndarray
    """Vacuum nm, catalogue."""
    velocity: np.ndarray
    """c (catalogue - solution) / catalogue, m/s: positive = cavity and map must grow."""
    sigma: np.ndarray
    """Its error from photons, m/s."""


@dataclass(frozen=True, slots=True)
class Correction:
    """Chromatic correction of the cavity."""

    series: np.ndarray
    """float64[degree + 1], m/s, Chebyshev series on the domain of the cavity."""
    covariance: np.ndarray
    """Of the series, (m/s)^2."""
    scatter: float
    """Error of the catalogue that explains the residuals, m/s."""
    used: float
    """Sum of the probabilities of lines to be true."""

    def error(self, cavity: Cavity, wave: np.ndarray) -> float:
        """Standard deviation in m/s of the mean correction over `wave`: of the zero point."""
        import numpy as np
        from numpy.polynomial import chebyshev

        mean = chebyshev.chebvander(place(cavity, wave), len(self.series) - 1).mean(axis=0)
        return float(np.sqrt(mean @ self.covariance @ mean))

    def shape_error(self, cavity: Cavity, wave: np.ndarray) -> float:
        """Expected rms in m/s over `wave` of the error of the correction without its mean."""
        import numpy as np
        from numpy.polynomial import chebyshev

        terms = chebyshev.chebvander(place(cavity, wave), len(self.series) - 1)
        terms = terms - terms.mean(axis=0)
        return float(np.sqrt(np.einsum("ij,jk,ik->i", terms, self.covariance, terms).mean()))


def residuals(lines: Lines, wave: WaveMap) -> tuple[np.ndarray, np.ndarray]:
    """Velocity c (catalogue - solution)/catalogue and its photon error, m/s; NaN for failed lines."""
    found = wave.wavelength(lines.order, lines.x)
    velocity = C_MS * (lines.wave_ref - found) / lines.wave_ref
    return velocity, wave.velocity_per_column(lines.order, lines.x) * lines.sigma


def merge(parts: Sequence[tuple[Lines, np.ndarray, np.ndarray]]) -> Anchors:
    """One row per line: the same line in several orders and fibres shares the error of the catalogue.

    Parameters
    ----------
    parts
        Per fibre: lines, velocities and photon errors of `residuals`.
    """
    import numpy as np

    label = np.concatenate([lines.label for lines, _, _ in parts])
    wave = np.concatenate([lines.wave_ref for lines, _, _ in parts])
    velocity = np.concatenate([v for _, v, _ in parts])
    sigma = np.concatenate([s for _, _, s in parts])
    good = np.isfinite(velocity) & np.isfinite(sigma) & (sigma > 0)
    unique, first, row = np.unique(label[good], return_index=True, return_inverse=True)
    weight = 1.0 / sigma[good] ** 2
    total = np.bincount(row, weight, unique.size)
    mean = np.bincount(row, weight * velocity[good], unique.size) / total
    return Anchors(unique.astype(np.int64), wave[good][first], mean, 1.0 / np.sqrt(total))


def fit_correction(anchors: Anchors, cavity: Cavity, highest: int = HIGHEST) -> Correction:
    """Chromatic correction of the cavity, as smooth as the lines ask for.

    Parameters
    ----------
    highest
        Degree of the series; 0 = an achromatic correction.

    Raises
    ------
    DataError
        Too few lines.

    Notes
    -----
    How far the cavity departs from its guess is not known, nor how fast it changes with wavelength.  All
    degrees up to `highest` are equally probable, and all sizes that the chromatic terms may have in common
    (0.5 to 512 m/s); the result is the mean over all (`mean_over_models`).  Terms that the lines do not ask
    for cost little: on cavities that differ from their guess by a line, a cubic or a quintic the rms error is
    at most 1.25 times that of a free fit of just that degree; a free fit of degree 9 is twice as bad.

    The error of a line is that of its photons plus that of the catalogue; a share of lines is false (wrong
    or blended) and spread over 1000 m/s.  Both numbers are those of highest likelihood, and a line counts
    with its probability of being true.
    """
    import numpy as np
    from numpy.polynomial import chebyshev

    n = anchors.label.size
    if n < FEWEST:
        raise DataError(
            f"{n} lamp lines with a wavelength, expected at least {FEWEST} to anchor the cavity; look at the "
            "hollow-cathode frames."
        )
    design = chebyshev.chebvander(place(cavity, anchors.wave), highest)
    sizes, chance = _expectations(highest)
    series = np.zeros(highest + 1)
    series[0] = np.median(anchors.velocity)
    covariance = np.eye(highest + 1)
    scatter, truth = 0.0, np.ones(n)
    for _ in range(12):
        scatter, truth = true_lines(anchors.velocity - design @ series, anchors.sigma)
        variance = (anchors.sigma**2 + scatter**2) / np.maximum(truth, 1e-12)
        before = series
        series, covariance = mean_over_models(design, anchors.velocity, variance, sizes, chance)
        if np.abs(design @ (series - before)).max() < 0.01:
            break
    return Correction(series, covariance, scatter, float(truth.sum()))


def true_lines(left: np.ndarray, sigma: np.ndarray) -> tuple[float, np.ndarray]:
    """Error of the catalogue, m/s, and the probability of each line to be true.

    Parameters
    ----------
    left, sigma
        Residuals and their photon errors, m/s.
    """
    import numpy as np

    share = np.array(SHARES)[:, None, None]
    variance = sigma**2 + np.array(SCATTERS_MS)[:, None] ** 2
    normal = np.exp(-0.5 * left**2 / variance) / np.sqrt(2 * np.pi * variance)
    likelihood = np.log((1 - share) * normal + share / SPREAD_MS).sum(axis=2)
    i, j = np.unravel_index(int(np.argmax(likelihood)), likelihood.shape)
    true = (1 - SHARES[i]) * normal[j]
    return float(SCATTERS_MS[j]), np.asarray(true / (true + SHARES[i] / SPREAD_MS))


def _expectations(highest: int) -> tuple[np.ndarray, np.ndarray]:
    """Expected sizes of the terms, float64[model, term], m/s, and log probabilities of the models."""
    import numpy as np

    # The constant is free: a cavity may be off by kilometres per second.
    sizes, chance = [[1e5] + [0.0] * highest], [0.0]
    for degree in range(1, highest + 1):
        for size in TERMS_MS:
            sizes.append([1e5] + [size] * degree + [0.0] * (highest - degree))
            chance.append(-float(np.log(len(TERMS_MS))))
    return np.array(sizes), np.array(chance)


@dataclass(frozen=True, slots=True)
class Shift:
    """Achromatic change of the cavity, m/s."""

    velocity: float
    sigma: float
    lines: int


def mean_shift(anchors: Anchors, reference: Anchors | None) -> Shift:
    """Mean velocity of lamp lines, against the reference night where that is known.

    Parameters
    ----------
    reference
        Residuals of the reference solution.  The error of the catalogue is the same in both nights and
        cancels line by line; without a reference it stays.

    Raises
    ------
    DataError
        Too few lines.

    Notes
    -----
    Odds-ratio mean (Artigau et al. 2022, appendix) with f = 0.01; errors are enlarged by the scatter that
    photons do not explain (`true_lines`).
    """
    import numpy as np
    from apero_kernels.robust import odds_ratio_mean

    velocity, sigma, least = anchors.velocity, anchors.sigma, FEWEST
    if reference is not None:
        _, here, there = np.intersect1d(anchors.label, reference.label, return_indices=True)
        velocity = velocity[here] - reference.velocity[there]
        sigma = np.hypot(sigma[here], reference.sigma[there])
        least = FEWEST_COMMON
    if velocity.size < least:
        raise DataError(
            f"{velocity.size} lamp lines"
            f"{' in common with the reference night' if reference is not None else ''}, expected at least "
            f"{least}; look at the hollow-cathode frames."
        )
    extra, _ = true_lines(velocity - np.median(velocity), sigma)
    mean, error = odds_ratio_mean(velocity, np.hypot(sigma, extra), ODDS)
    return Shift(mean, error, int(velocity.size))
