"""Straight-line fit to a ramp of reads: variances, covariances and the answer to a step.

Reads i = 0..n-1 are taken at times i t_f after the reset, weights are equal:
slope = sum(a_i y_i), intercept = sum(b_i y_i) with a_i = (t_i - mean t) / S, b_i = 1/n - a_i mean t and
S = sum (t_i - mean t)^2 = t_f^2 n (n^2 - 1) / 12.  Everything here is exact for any n of 2 or more; the
integrals quoted in the literature are its limit for large n.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class RampMoments:
    """Second moments of slope (per s) and intercept for unit read noise and unit flux."""

    slope_read: float
    """Variance of the slope for a read noise of 1."""
    slope_photon: float
    """Variance of the slope for a flux of 1 e-/s."""
    intercept_read: float
    covariance_read: float
    intercept_photon: float
    covariance_photon: float


def fit_weights(nreads: int, frame_time_s: float) -> tuple[np.ndarray, np.ndarray]:
    """Weights a and b of slope and intercept, float64[read]."""
    t = np.arange(nreads) * frame_time_s
    spread = frame_time_s**2 * nreads * (nreads**2 - 1) / 12.0
    a = (t - t.mean()) / spread
    return a, 1.0 / nreads - a * t.mean()


def ramp_moments(nreads: int, frame_time_s: float) -> RampMoments:
    """Moments of an equal-weight fit.

    Notes
    -----
    The variance of the slope is that of Rauscher et al. (2007, PASP 119, 768, eq. 1) for one group per read:
    12 s^2 / (n (n^2 - 1) t_f^2) + 6 (n^2 + 1) f / (5 n (n^2 - 1) t_f).  Photon terms follow from independent
    increments f t_f between reads, each of which enters all later reads.
    """
    a, b = fit_weights(nreads, frame_time_s)
    later_a = np.cumsum(a[::-1])[::-1][1:]
    later_b = np.cumsum(b[::-1])[::-1][1:]
    return RampMoments(
        slope_read=float(np.sum(a * a)),
        slope_photon=float(frame_time_s * np.sum(later_a**2)),
        intercept_read=float(np.sum(b * b)),
        covariance_read=float(np.sum(a * b)),
        intercept_photon=float(frame_time_s * np.sum(later_b**2)),
        covariance_photon=float(frame_time_s * np.sum(later_a * later_b)),
    )


def slope_variance(
    rate: np.ndarray, nreads: np.ndarray, frame_time_s: float, read_noise_e: float
) -> np.ndarray:
    """Variance of the slope, (e-/s)^2, for arrays of rate (e-/s) and number of reads (2 or more)."""
    n = nreads.astype(np.float64)
    read = 12.0 * read_noise_e**2 / (n * (n * n - 1.0) * frame_time_s**2)
    return read + 6.0 * (n * n + 1.0) * np.maximum(rate, 0.0) / (5.0 * n * (n * n - 1.0) * frame_time_s)


@dataclass(frozen=True, slots=True)
class StepResponse:
    """What a charge of 1 e- that arrives during the ramp does to the fit."""

    slope: np.ndarray
    """e-/s."""
    intercept: np.ndarray
    """e-."""
    residual: np.ndarray
    """Sum of squared residuals, e-^2."""


def step_response(fraction: np.ndarray, nreads: int, frame_time_s: float) -> StepResponse:
    """Response to steps at fractions of the integration 0..1.

    The step is in all reads after it.  For many reads, u being the fraction and T the integration:
    slope 6 u (1-u) / T, intercept (1-u)(1-3u), residual n u (1-u)(1 - 3 u (1-u)).
    """
    a, b = fit_weights(nreads, frame_time_s)
    before = np.ceil(np.asarray(fraction, np.float64) * (nreads - 1)).astype(int).clip(0, nreads)
    later_a = np.append(np.cumsum(a[::-1])[::-1], 0.0)[before]
    later_b = np.append(np.cumsum(b[::-1])[::-1], 0.0)[before]
    count = (nreads - before).astype(np.float64)
    # Residual of a projection: |y|^2 - |fit|^2, the fit being mean and slope, which are orthogonal.
    spread = frame_time_s**2 * nreads * (nreads**2 - 1) / 12.0
    residual = count - count**2 / nreads - later_a**2 * spread
    return StepResponse(later_a, later_b, np.maximum(residual, 0.0))


def reads_before_saturation(
    rate: np.ndarray, full_well_e: float, nreads: int, frame_time_s: float
) -> np.ndarray:
    """Number of reads below saturation, int16, for an expected rate in e-/s: at least 1, at most all."""
    with np.errstate(divide="ignore"):
        last = full_well_e / (np.maximum(rate, 1e-30) * frame_time_s)
    return np.minimum(np.ceil(np.minimum(last, nreads)), nreads).clip(1, nreads).astype(np.int16)
