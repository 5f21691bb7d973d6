"""Chebyshev polynomials on [0, nx], robust fits with true sigmas, and the low-pass of running medians.

The domain of a polynomial over the pixels of a row is [0, nx], not [0, nx - 1]: t = 2 x / nx - 1.
Coefficients ascend.  Weights are those of chi-square: a residual counts as ``weight * r^2 / sigma^2``.
"""

from __future__ import annotations

import math

import numpy as np

from apero_kernels._jit import kernel
from apero_kernels.contracts import check_float, check_output, check_positive
from apero_kernels.robust import median_in_place, pack_finite

MAX_PASSES = 20
WEIGHT_CHANGE = 1e-9  # largest change of a weight at which a robust fit stops
MAD_TO_SIGMA = 1.4826  # sigma / median absolute deviation of a Gaussian


@kernel
def chebyshev_value(coefficients, x, nx):
    """Return the polynomial at one position `x` (Clenshaw 1955, MTAC 9, 118)."""
    t = 2.0 * x / nx - 1.0
    b1 = 0.0
    b2 = 0.0
    for k in range(coefficients.shape[0] - 1, 0, -1):
        b1, b2 = coefficients[k] + 2.0 * t * b1 - b2, b1
    return coefficients[0] + t * b1 - b2


@kernel
def _evaluate(coefficients, x, nx, out):
    for i in range(x.shape[0]):
        out[i] = chebyshev_value(coefficients, np.float64(x[i]), nx)


@kernel
def _basis(x, nx, terms, out):
    for i in range(x.shape[0]):
        t = 2.0 * np.float64(x[i]) / nx - 1.0
        out[i, 0] = 1.0
        if terms > 1:
            out[i, 1] = t
        for k in range(2, terms):
            out[i, k] = 2.0 * t * out[i, k - 1] - out[i, k - 2]


@kernel
def solve_triangular(r, b, out):
    """Solve ``r out = b`` for an upper triangular `r`; return False if a diagonal element is 0."""
    n = r.shape[1]
    for i in range(n - 1, -1, -1):
        total = b[i]
        for k in range(i + 1, n):
            total -= r[i, k] * out[k]
        if r[i, i] == 0.0:
            return False
        out[i] = total / r[i, i]
    return True


@kernel
def least_squares(design, values, solution):
    """Solve a linear least-squares problem; `design` and `values` are overwritten.

    Parameters
    ----------
    design : float64[point, term]
        Rows already divided by sigma.  On return its upper triangle is the factor R.
    values : float64[point]
        Already divided by sigma.
    solution : float64[term]
        Written; NaN if the points do not determine all terms.

    Returns
    -------
    bool
        True if the solution is determined: every diagonal element of R above 1e-12 of the largest.

    Notes
    -----
    Householder reflections (Golub & Van Loan, Matrix Computations, algorithm 5.3.2): the normal
    equations would square the condition number.
    """
    rows, terms = design.shape
    if rows < terms:
        solution[:] = np.nan
        return False
    largest = 0.0
    for k in range(terms):
        norm = 0.0
        for i in range(k, rows):
            norm += design[i, k] * design[i, k]
        norm = np.sqrt(norm)
        largest = max(largest, norm)
        if not norm > 1e-12 * largest:
            solution[:] = np.nan
            return False
        alpha = -norm if design[k, k] > 0.0 else norm
        head = design[k, k] - alpha
        beta = 1.0 / (norm * (norm + abs(design[k, k])))
        for j in range(k + 1, terms):
            total = head * design[k, j]
            for i in range(k + 1, rows):
                total += design[i, k] * design[i, j]
            total *= beta
            design[k, j] -= total * head
            for i in range(k + 1, rows):
                design[i, j] -= total * design[i, k]
        total = head * values[k]
        for i in range(k + 1, rows):
            total += design[i, k] * values[i]
        total *= beta
        values[k] -= total * head
        for i in range(k + 1, rows):
            values[i] -= total * design[i, k]
        design[k, k] = alpha
    return solve_triangular(design, values, solution)


@kernel
def _covariance(r, terms, out):
    # (R^T R)^-1 = R^-1 R^-T, column by column of R^-1.
    inverse = np.zeros((terms, terms))
    unit = np.zeros(terms)
    for k in range(terms):
        unit[:] = 0.0
        unit[k] = 1.0
        solve_triangular(r[:terms], unit, inverse[:, k])
    for i in range(terms):
        for j in range(terms):
            total = 0.0
            for k in range(max(i, j), terms):
                total += inverse[i, k] * inverse[j, k]
            out[i, j] = total


@kernel
def _robust_fit(x, y, sigma, nx, cut, coefficients, covariance, weights):
    n = x.shape[0]
    terms = coefficients.shape[0]
    basis = np.empty((n, terms))
    _basis(x, nx, terms, basis)
    design = np.empty((n, terms))
    target = np.empty(n)
    residual = np.empty(n)
    scratch = np.empty(n)
    usable = 0
    for i in range(n):
        good = np.isfinite(y[i]) and np.isfinite(x[i]) and sigma[i] > 0.0 and np.isfinite(sigma[i])
        weights[i] = 1.0 if good else 0.0
        usable += good
    scale = np.nan
    passes = 0
    k_bad = np.exp(-0.5 * cut * cut)
    solved = False
    for _ in range(MAX_PASSES if cut > 0.0 else 1):
        passes += 1
        m = 0
        for i in range(n):
            if weights[i] > 0.0:
                root = np.sqrt(weights[i]) / sigma[i]
                for k in range(terms):
                    design[m, k] = root * basis[i, k]
                target[m] = root * y[i]
                m += 1
        solved = least_squares(design[:m], target[:m], coefficients)
        if not solved:
            break
        m = 0
        for i in range(n):
            if np.isfinite(y[i]) and np.isfinite(x[i]) and sigma[i] > 0.0 and np.isfinite(sigma[i]):
                total = 0.0
                for k in range(terms):
                    total += coefficients[k] * basis[i, k]
                residual[i] = (y[i] - total) / sigma[i]
                scratch[m] = abs(residual[i])
                m += 1
            else:
                residual[i] = np.nan
        # The fit takes away one degree of freedom per term.
        scale = MAD_TO_SIGMA * median_in_place(scratch, m) * np.sqrt(m / max(m - terms, 1))
        if cut <= 0.0 or not scale > 0.0:
            break
        change = 0.0
        for i in range(n):
            if not np.isnan(residual[i]):
                deviation = residual[i] / scale
                good = (1.0 - k_bad) * np.exp(-0.5 * deviation * deviation)
                weight = good / (k_bad + good)
                change = max(change, abs(weight - weights[i]))
                weights[i] = weight
        if change < WEIGHT_CHANGE:
            break
    if solved:
        _covariance(design, terms, covariance)
    else:
        covariance[:] = np.nan
    return scale, usable, passes


@kernel
def _low_pass(y, width, step, out, node_x, node_y, scratch):
    n = y.shape[0]
    nodes = 0
    half = width // 2
    for centre in range(0, n + step, step):
        first = max(0, centre - half)
        end = min(n, centre - half + width)
        if first >= end:
            continue
        m = pack_finite(y[first:end], scratch)
        if m == 0:
            continue
        total = 0.0
        for i in range(first, end):
            if not np.isnan(y[i]):
                total += i
        node_x[nodes] = total / m
        node_y[nodes] = median_in_place(scratch, m)
        # Windows cut at the edge can hold the same values: keep the positions rising.
        if nodes == 0 or node_x[nodes] > node_x[nodes - 1]:
            nodes += 1
    if nodes == 0:
        for i in range(n):
            out[i] = np.nan
        return
    k = 0
    for i in range(n):
        if i <= node_x[0]:
            out[i] = node_y[0]
        elif i >= node_x[nodes - 1]:
            out[i] = node_y[nodes - 1]
        else:
            while node_x[k + 1] < i:
                k += 1
            share = (i - node_x[k]) / (node_x[k + 1] - node_x[k])
            out[i] = (1.0 - share) * node_y[k] + share * node_y[k + 1]


def chebyshev(
    coefficients: np.ndarray, x: np.ndarray, nx: float, out: np.ndarray | None = None
) -> np.ndarray:
    """Return a Chebyshev series on [0, nx] at the positions `x`.

    Parameters
    ----------
    coefficients : float64[degree + 1]
        Ascending.
    x : float64[n]
        Positions, pixel centres at integers.
    nx : float
        Length of the domain (pixels of the row), above 0.
    out : float64[n], optional
        Written and returned.

    Raises
    ------
    TypeError, ValueError
        Wrong dtype or shape, no coefficient, `nx` not positive.
    """
    check_float("coefficients", coefficients, 1)
    check_float("x", x, 1)
    check_positive("nx", nx)
    if coefficients.size == 0:
        raise ValueError("coefficients: none, expected at least one")
    result = np.empty(x.shape, np.float64) if out is None else check_output("out", out, x.shape)
    _evaluate(coefficients, x, float(nx), result)
    return result


def fit_chebyshev(
    x: np.ndarray,
    y: np.ndarray,
    degree: int,
    nx: float,
    *,
    sigma: np.ndarray | None = None,
    cut: float = 5.0,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """Fit a Chebyshev series on [0, nx], leaving out what does not belong to a Gaussian.

    Parameters
    ----------
    x, y : float64[n]
        Positions and values; a point that is not finite takes no part.
    degree : int
        Degree of the series, at least 0.
    nx : float
        Length of the domain.
    sigma : float64[n], optional
        Standard deviations (only points with a finite, positive one take part); without them all equal.
    cut : float
        Distance in sigma at which a point loses half of its weight; 0 = ordinary least squares.

    Returns
    -------
    coefficients : float64[degree + 1]
        NaN if the points do not determine them.
    covariance : float64[degree + 1, degree + 1]
        Of the weighted fit, with the sigmas as given (without sigmas: multiply by ``scale**2``).
    weights : float64[n]
        0..1, share of each point.
    scale : float
        True sigma of the residuals in units of `sigma` (1 if the sigmas are right).

    Raises
    ------
    TypeError, ValueError
        Wrong dtype or shape, `degree` or `cut` negative, `nx` not positive.

    Notes
    -----
    Iteratively reweighted: with k = exp(-cut^2/2) and n = (1 - k) exp(-(r/s)^2/2) the weight is
    n / (k + n), at most 20 passes or until no weight changes by 1e-9.  s is the true sigma (1.4826 times
    the median absolute residual, corrected for the fitted terms) and the weight multiplies the squared
    residual; a scheme that takes s = median|r| and weights the residual itself cuts at 3.4 where it
    says 5.
    """
    check_float("x", x, 1)
    check_float("y", y, 1, x.shape)
    check_positive("nx", nx)
    if degree < 0:
        raise ValueError(f"degree: {degree}, expected 0 or more")
    if not (math.isfinite(cut) and cut >= 0):
        raise ValueError(f"cut: {cut}, expected a finite number of sigmas, or 0 for no rejection")
    sigma = np.ones(x.shape, np.float64) if sigma is None else check_float("sigma", sigma, 1, x.shape)
    coefficients = np.empty(degree + 1, np.float64)
    covariance = np.empty((degree + 1, degree + 1), np.float64)
    weights = np.empty(x.shape, np.float64)
    scale, _, _ = _robust_fit(x, y, sigma, float(nx), float(cut), coefficients, covariance, weights)
    return coefficients, covariance, weights, float(scale)


def low_pass(y: np.ndarray, width: int, out: np.ndarray | None = None) -> np.ndarray:
    """Return the smooth part of `y`: a line through medians of windows, constant beyond the ends.

    Parameters
    ----------
    y : floating[n]
        NaN takes no part.
    width : int
        Window in pixels, at least 1.  A window is centred every quarter of it; its node lies at the mean
        position and the median of its values.
    out : float64[n], optional
        Written and returned; NaN throughout if `y` holds no value.

    Raises
    ------
    TypeError, ValueError
        Wrong dtype or shape, `width` below 1.
    """
    check_float("y", y, 1)
    if width < 1:
        raise ValueError(f"width: {width}, expected 1 or more")
    result = np.empty(y.shape, np.float64) if out is None else check_output("out", out, y.shape)
    step = max(1, width // 4)
    nodes = y.size // step + 3
    scratch = np.empty(max(width, 1), y.dtype)
    _low_pass(y, int(width), step, result, np.empty(nodes), np.empty(nodes), scratch)
    return result
