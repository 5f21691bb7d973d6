"""Fit an affine map to measured displacements, leaving out what does not belong to a Gaussian."""

from __future__ import annotations

import numpy as np

from apero_kernels._jit import kernel
from apero_kernels.contracts import check_float, check_positive
from apero_kernels.polynomial import MAD_TO_SIGMA, MAX_PASSES
from apero_kernels.robust import median_in_place

WEIGHT_CHANGE = 1e-4  # a change below it moves a fit of many points by less than 1e-4 of its error


@kernel
def _normal_equations(x, y, values, sigma, weights, matrix, vector):
    for a in range(3):
        vector[a] = 0.0
        for b in range(3):
            matrix[a, b] = 0.0
    for i in range(x.shape[0]):
        if weights[i] > 0.0:
            w = weights[i] / (sigma[i] * sigma[i])
            wx = w * x[i]
            wy = w * y[i]
            matrix[0, 0] += w
            matrix[1, 0] += wx
            matrix[2, 0] += wy
            matrix[1, 1] += wx * x[i]
            matrix[2, 1] += wx * y[i]
            matrix[2, 2] += wy * y[i]
            vector[0] += w * values[i]
            vector[1] += wx * values[i]
            vector[2] += wy * values[i]
    matrix[0, 1] = matrix[1, 0]
    matrix[0, 2] = matrix[2, 0]
    matrix[1, 2] = matrix[2, 1]


@kernel
def _invert_three(m, out):
    # Symmetric, by cofactors; x and y are centred and scaled, so the determinant measures the condition.
    c0 = m[1, 1] * m[2, 2] - m[1, 2] * m[2, 1]
    c1 = m[0, 2] * m[2, 1] - m[0, 1] * m[2, 2]
    c2 = m[0, 1] * m[1, 2] - m[0, 2] * m[1, 1]
    determinant = m[0, 0] * c0 + m[1, 0] * c1 + m[2, 0] * c2
    if not determinant > 1e-12 * m[0, 0] * m[1, 1] * m[2, 2]:
        return False
    out[0, 0] = c0 / determinant
    out[0, 1] = c1 / determinant
    out[0, 2] = c2 / determinant
    out[1, 1] = (m[0, 0] * m[2, 2] - m[0, 2] * m[2, 0]) / determinant
    out[1, 2] = (m[0, 2] * m[1, 0] - m[0, 0] * m[1, 2]) / determinant
    out[2, 2] = (m[0, 0] * m[1, 1] - m[0, 1] * m[1, 0]) / determinant
    out[1, 0] = out[0, 1]
    out[2, 0] = out[0, 2]
    out[2, 1] = out[1, 2]
    return True


@kernel
def _fit_plane(x, y, values, sigma, cut, plane, covariance, weights):
    # Robust plane; returns the true sigma of the residuals in units of `sigma`, and in px.
    n = x.shape[0]
    scratch = np.empty(n)
    matrix = np.empty((3, 3))
    vector = np.empty(3)
    k_bad = np.exp(-0.5 * cut * cut)
    scale = np.nan
    for i in range(n):
        good = np.isfinite(values[i]) and np.isfinite(x[i] + y[i]) and sigma[i] > 0.0
        weights[i] = 1.0 if good and np.isfinite(sigma[i]) else 0.0
    solved = False
    for _ in range(MAX_PASSES):
        _normal_equations(x, y, values, sigma, weights, matrix, vector)
        solved = _invert_three(matrix, covariance)
        if not solved:
            break
        for a in range(3):
            plane[a] = (
                covariance[a, 0] * vector[0] + covariance[a, 1] * vector[1] + covariance[a, 2] * vector[2]
            )
        m = 0
        for i in range(n):
            r = (values[i] - plane[0] - plane[1] * x[i] - plane[2] * y[i]) / sigma[i]
            if np.isfinite(r):
                scratch[m] = abs(r)
                m += 1
        scale = MAD_TO_SIGMA * median_in_place(scratch, m) * np.sqrt(m / max(m - 3, 1))
        if not scale > 0.0:
            break
        change = 0.0
        for i in range(n):
            r = (values[i] - plane[0] - plane[1] * x[i] - plane[2] * y[i]) / sigma[i]
            if np.isfinite(r):
                good = (1.0 - k_bad) * np.exp(-0.5 * (r / scale) ** 2)
                weight = good / (k_bad + good)
                change = max(change, abs(weight - weights[i]))
                weights[i] = weight
        if change < WEIGHT_CHANGE:
            break
    if not solved:
        plane[:] = np.nan
        covariance[:] = np.nan
        return np.nan, np.nan
    m = 0
    for i in range(n):
        r = values[i] - plane[0] - plane[1] * x[i] - plane[2] * y[i]
        if np.isfinite(r) and weights[i] > 0.0:
            scratch[m] = abs(r)
            m += 1
    return scale, MAD_TO_SIGMA * median_in_place(scratch, m)


def fit_affine(
    x: np.ndarray,
    y: np.ndarray,
    shifts: np.ndarray,
    errors: np.ndarray,
    *,
    cut: float = 4.0,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Fit (x, y) -> (x + shift_x, y + shift_y) by an affine map.

    Parameters
    ----------
    x, y : float64[point]
        Positions, px.
    shifts : float64[point, 2]
        Displacements along x and y, px; a point that is not finite takes no part.
    errors : float64[point, 2]
        Their standard deviations.
    cut : float
        Distance in sigma at which a point loses half of its weight.

    Returns
    -------
    affine : float64[6]
        dx, dy, A, B, C, D; NaN if the points do not determine it.
    covariance : float64[6, 6]
        Of it, from the scatter of the residuals.
    weights : float64[point, 2]
        0..1 along x and y.
    sigma : float64[2]
        Scatter of the residuals along x and y, px (1.4826 times the median absolute one).
    scale : float64[2]
        Scatter in units of `errors`: 1 if they are right.

    Raises
    ------
    TypeError, ValueError
        Wrong dtype or shape, `cut` not positive.

    Notes
    -----
    Two independent planes by iteratively reweighted least squares with the weights of
    `apero_kernels.polynomial.fit_chebyshev`.
    """
    check_float("x", x, 1)
    check_float("y", y, 1, x.shape)
    check_float("shifts", shifts, 2, (x.size, 2))
    check_float("errors", errors, 2, (x.size, 2))
    check_positive("cut", cut)
    affine = np.full(6, np.nan)
    covariance = np.full((6, 6), np.nan)
    weights = np.zeros((x.size, 2))
    sigma, scale = np.full(2, np.nan), np.full(2, np.nan)
    if x.size < 3:
        return affine, covariance, weights, sigma, scale
    # Centred and scaled positions: the three unknowns of a plane are then of one size.
    x0, y0 = float(np.nanmean(x)), float(np.nanmean(y))
    unit_x, unit_y = max(float(np.nanstd(x)), 1e-300), max(float(np.nanstd(y)), 1e-300)
    u, v = (x - x0) / unit_x, (y - y0) / unit_y
    back = np.array([[1.0, -x0 / unit_x, -y0 / unit_y], [0.0, 1.0 / unit_x, 0.0], [0.0, 0.0, 1.0 / unit_y]])
    covariance[:] = 0.0
    for axis, places in enumerate(((0, 2, 3), (1, 4, 5))):
        plane, own = np.empty(3), np.empty((3, 3))
        kept = np.empty(x.size)
        scale[axis], sigma[axis] = _fit_plane(
            u, v, np.ascontiguousarray(shifts[:, axis]), np.ascontiguousarray(errors[:, axis]), float(cut),
            plane, own, kept,
        )  # fmt: skip
        weights[:, axis] = kept
        affine[list(places)] = back @ plane
        # Residuals smaller than the errors say that the errors are too large; a perfect fit has none.
        covariance[np.ix_(places, places)] = back @ own @ back.T * scale[axis] ** 2
    affine[2] += 1.0
    affine[5] += 1.0
    return affine, covariance, weights, sigma, scale
