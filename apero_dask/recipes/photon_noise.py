"""Velocity information of spectra and of cross-correlations.  Heavy imports happen inside the functions."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

C_MS = 299792458.0


def spectrum_noise(flux: np.ndarray, variance: np.ndarray, wave: np.ndarray) -> np.ndarray:
    """Smallest velocity error that the noise of each order allows, m/s, float64[order].

    Parameters
    ----------
    flux, variance, wave : float64[order, x]
        Electrons, electrons^2, nm.  A pixel counts if it and both neighbours hold values.

    Returns
    -------
    float64[order]
        Infinite for an order without information.

    Notes
    -----
    Bouchy, Pepe & Queloz (2001, A&A 374, 733), eqs. 8 and 12: W = lam^2 (dA/dlam)^2 / var, sigma = c /
    sqrt(sum W), with the variance of the spectrum in place of A + ron^2 and central differences.  Deviating
    from it, what noise adds to the squared differences is subtracted, else a spectrum of pure noise would
    hold information.
    """
    import numpy as np

    here, before, after = flux[:, 1:-1], flux[:, :-2], flux[:, 2:]
    slope = (after - before) ** 2 - variance[:, 2:] - variance[:, :-2]
    weight = wave[:, 1:-1] ** 2 * slope / (wave[:, 2:] - wave[:, :-2]) ** 2 / variance[:, 1:-1]
    good = np.isfinite(weight) & np.isfinite(here) & (variance[:, 1:-1] > 0.0)
    total = np.sum(np.where(good, weight, 0.0), axis=1)
    return np.where(total > 0.0, C_MS / np.sqrt(np.maximum(total, 1e-300)), np.inf)


def combined(noise: np.ndarray) -> float:
    """Error of the weighted mean of independent orders; infinite values take no part."""
    import numpy as np

    good = np.isfinite(noise) & (noise > 0.0)
    return float(1.0 / np.sqrt(np.sum(1.0 / noise[good] ** 2))) if good.any() else float("inf")


def profile_noise(
    velocity: np.ndarray, variance: np.ndarray, amplitude: np.ndarray, centre: np.ndarray, sigma: np.ndarray
) -> np.ndarray:
    """Velocity error of Gaussians fitted to noisy profiles, m/s, float64[profile].

    Parameters
    ----------
    velocity : float64[v]
        km/s.
    variance : float64[profile, v]
        Of each point, independent of one another: photons per step, so that a finer step changes nothing.
    amplitude, centre, sigma : float64[profile]
        Gaussian, unit of the profile and km/s.

    Notes
    -----
    Error of the centre of a least-squares fit that treats all points alike: sqrt(sum g^2 var) / sum g^2 with
    g the derivative of the Gaussian.  For an even variance it is 1 / sqrt(sum g^2 / var), the expression of
    Bouchy et al. (2001) for a profile.  The fitted profile is used, not the measured one, whose noise would
    count as information.
    """
    import numpy as np

    z = (velocity - centre[:, None]) / sigma[:, None]
    g = amplitude[:, None] * z / sigma[:, None] * np.exp(-0.5 * z * z)
    squares = np.sum(g * g, axis=1)
    good = np.isfinite(squares) & (squares > 0.0)
    noise = np.sum(g * g * np.where(np.isfinite(variance), variance, 0.0), axis=1)
    return np.where(good, 1e3 * np.sqrt(noise) / np.where(good, squares, 1.0), np.inf)
