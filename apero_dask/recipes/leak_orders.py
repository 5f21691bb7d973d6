"""Leaked fractions of all orders, each helped by its neighbours.

What scatters light of one fibre into another changes slowly with wavelength.  A faint order, whose own
fraction is hardly measured, takes it from a smooth curve through all orders; a bright one keeps its own.  How
far fractions depart from the curve is found in the data.  Heavy imports happen inside the functions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

DEGREE = 2
"""Degree of the curve in wavelength."""
FEWEST_ORDERS = 6
"""Measured orders below which no curve is drawn: twice its coefficients."""
DEPARTURES = (0.03, 1.0)
"""Smallest and largest relative scatter of the fractions about the curve that is considered."""
STEPS = 12
"""Values of that scatter between the two, in equal ratios."""
SIGNIFICANT = 3.0
"""Sigma of all orders together, below which there is no leak."""
SIGNIFICANT_ORDER = 5.0
"""Sigma of one order that makes a leak alone."""
ITERATIONS = 20


def join_orders(
    fraction: np.ndarray, error: np.ndarray, echelle: Sequence[int]
) -> tuple[np.ndarray, np.ndarray]:
    """Fractions and errors of all orders with what their neighbours tell.

    Parameters
    ----------
    fraction, error : float64[order]
        Measured in every order alone; an infinite error is an order without measurement.
    echelle : sequence of int
        Echelle numbers; the wavelength of an order goes with their inverse.

    Returns
    -------
    fraction, error : float64[order]
        Never negative; 0 everywhere if all orders together show no leak.

    Notes
    -----
    Empirical Bayes (Efron and Morris 1975, J. Am. Stat. Assoc. 70, 311).  The fraction of an order is drawn
    around the curve p with a scatter of t p and measured with an error e: its mean is p + k (f - p), with
    k = (t p)^2 / ((t p)^2 + e^2).  The curve is fitted with the weights 1 / ((t p)^2 + e^2); every t counts
    with its restricted likelihood (Patterson and Thompson 1971, Biometrika 58, 545), so that no choice is
    made where the data do not make it.
    """
    import numpy as np

    known = np.isfinite(error) & (error > 0.0)
    out, sigma = np.zeros(fraction.shape), np.where(known, error, np.inf)
    if not known.any():
        return out, sigma
    f, e = fraction[known], error[known]
    total = (f / e**2).sum() / np.sqrt((1.0 / e**2).sum())
    if total < SIGNIFICANT and (f / e).max() < SIGNIFICANT_ORDER:
        return out, sigma
    if f.size >= FEWEST_ORDERS:
        f, e = _posterior(f, e, 1.0 / np.asarray(echelle, float)[known])
    out[known], sigma[known] = np.maximum(f, 0.0), e
    return out, sigma


def _posterior(f: np.ndarray, e: np.ndarray, wavelength: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of the fractions, over all scatters about the curve."""
    import numpy as np

    place = 2.0 * (wavelength - wavelength.min()) / np.ptp(wavelength) - 1.0
    design = np.polynomial.chebyshev.chebvander(place, DEGREE)
    likelihood, means, variances = [], [], []
    for scatter in np.geomspace(*DEPARTURES, STEPS):
        curve = np.full(f.shape, abs((f / e**2).sum() / (1.0 / e**2).sum()))
        # The scatter is a part of the curve, and the curve is fitted with it.
        for _ in range(ITERATIONS):
            own = np.square(scatter * curve)
            weight = 1.0 / (own + e**2)
            inverse = np.linalg.inv(design.T @ (design * weight[:, None]))
            curve = design @ (inverse @ (design.T @ (weight * f)))
        own = np.square(scatter * curve)
        share = own / (own + e**2)
        rest = np.square(f - curve) * weight
        likelihood.append(0.5 * (np.log(weight).sum() - rest.sum() + np.linalg.slogdet(inverse)[1]))
        means.append(curve + share * (f - curve))
        of_curve = np.einsum("oi,ij,oj->o", design, inverse, design)
        variances.append(share * e**2 + np.square(1.0 - share) * of_curve)
    chance = np.exp(np.array(likelihood) - max(likelihood))
    chance /= chance.sum()
    mean = chance @ np.array(means)
    return mean, np.sqrt(chance @ (np.array(variances) + np.square(np.array(means) - mean)))
