"""Fit thousands of hollow-cathode lines per call.

The model has five parameters, p = (amplitude, centre, width, slope, constant):
``amplitude * exp(-0.5 v^2) (1 + skew (2 v^3 - 3 v) / sqrt(3)) + constant + slope * (x - x_w)`` with
v = (x - centre) / width; width = standard deviation, x_w = middle of the window.  The skew is given: it is
that of the line spread, the third moment of a Gauss-Hermite series (van der Marel & Franx 1993, ApJ 407,
525).
"""

from __future__ import annotations

import numpy as np

from apero_kernels._jit import kernel
from apero_kernels.cholesky import damped_solver
from apero_kernels.contracts import check_float, check_integer, check_output

PARAMETERS = ("amplitude", "centre", "width", "slope", "constant")
START_WIDTH = 1.0  # px, standard deviation (reference)

_MOST = 60  # steps of the fit
_STEP = 1e-9  # px: smaller moves of the centre end it

_factorise, _substitute = damped_solver(len(PARAMETERS), 1e-14)


@kernel
def _model(p, skew, first, n, middle, value, slope):
    # Values and derivatives at pixels first..first+n-1.
    odd = skew * 0.5773502691896258
    for i in range(n):
        u = (first + i - p[1]) / p[2]
        power = np.exp(-0.5 * u * u)
        line = power * (1.0 + odd * u * (2.0 * u * u - 3.0))
        # Derivative of the line by u.
        change = power * (-u + odd * (-2.0 * u**4 + 9.0 * u * u - 3.0))
        value[i] = p[0] * line + p[4] + p[3] * (first + i - middle)
        slope[i, 0] = line
        slope[i, 1] = -p[0] * change / p[2]
        slope[i, 2] = -p[0] * change * u / p[2]
        slope[i, 3] = first + i - middle
        slope[i, 4] = 1.0


@kernel
def _solve(matrix, vector, damping, factor, out):
    if not _factorise(matrix, damping, factor):
        return False
    _substitute(factor, vector, out)
    return True


@kernel
def _chi_square(data, weight, value, n):
    total = 0.0
    for i in range(n):
        r = data[i] - value[i]
        total += weight[i] * r * r
    return total


@kernel
def _fit_one(p, skew, first, n, middle, data, weight, value, slope, matrix, vector, factor, step, trial):
    # Levenberg-Marquardt; returns chi-square, NaN if there is no minimum.
    damping = 1e-3
    _model(p, skew, first, n, middle, value, slope)
    chi = _chi_square(data, weight, value, n)
    for _ in range(_MOST):
        for i in range(5):
            vector[i] = 0.0
            for j in range(i + 1):
                matrix[i, j] = 0.0
        for k in range(n):
            r = weight[k] * (data[k] - value[k])
            for i in range(5):
                vector[i] += r * slope[k, i]
                scaled = weight[k] * slope[k, i]
                for j in range(i + 1):
                    matrix[i, j] += scaled * slope[k, j]
        moved = False
        for _ in range(12):
            if _solve(matrix, vector, damping, factor, step):
                for i in range(5):
                    trial[i] = p[i] + step[i]
                if trial[2] > 0.1 and abs(trial[1] - p[1]) < n:
                    _model(trial, skew, first, n, middle, value, slope)
                    new = _chi_square(data, weight, value, n)
                    if new <= chi * (1.0 + 1e-14):
                        moved = True
                        break
            damping = max(damping * 10.0, 1e-6)
        if not moved:
            # No step goes down: at the minimum to rounding, or nowhere.
            _model(p, skew, first, n, middle, value, slope)
            return chi
        for i in range(5):
            p[i] = trial[i]
        done = abs(step[1]) < _STEP and abs(chi - new) <= 1e-10 * chi
        chi = new
        damping *= 0.1
        if done or chi == 0.0:
            return chi
    return np.nan


@kernel
def _fit_lines(spectra, var, order, start, reach, skew, parameters, errors, quality, used):
    columns = spectra.shape[1]
    longest = 0
    for i in range(start.shape[0]):
        if np.isfinite(reach[i]):
            longest = max(longest, int(2 * reach[i]) + 3)
    with_var = var.shape[0] > 0
    data = np.empty(longest)
    weight = np.empty(longest)
    value = np.empty(longest)
    slope = np.empty((longest, 5))
    matrix = np.empty((5, 5))
    factor = np.empty((5, 5))
    vector = np.empty(5)
    step = np.empty(5)
    trial = np.empty(5)
    p = np.empty(5)
    for i in range(start.shape[0]):
        parameters[i, :] = np.nan
        errors[i, :] = np.nan
        quality[i, :] = np.nan
        used[i] = 0
        if not (np.isfinite(start[i]) and reach[i] > 0.0 and 0 <= order[i] < spectra.shape[0]):
            continue
        first = int(np.ceil(start[i] - reach[i]))
        last = int(np.floor(start[i] + reach[i]))
        n = last - first + 1
        if first < 0 or last >= columns or n < 6:
            continue
        complete = True
        low = np.inf
        high = -np.inf
        for k in range(n):
            data[k] = spectra[order[i], first + k]
            weight[k] = 1.0
            if with_var:
                noise = np.float64(var[order[i], first + k])
                weight[k] = 1.0 / noise
                complete = complete and noise > 0.0
            complete = complete and np.isfinite(data[k])
            low = min(low, data[k])
            # Other lines may lie at the ends of the window.
            if abs(first + k - start[i]) <= 0.5 * reach[i]:
                high = max(high, data[k])
        if not complete or not high > low:
            continue
        p[0] = high - low
        p[1] = start[i]
        p[2] = START_WIDTH
        p[3] = 0.0
        p[4] = low
        # Numbers near one: the squares of large fluxes would spoil the tests for zero.
        scale = high - low
        for k in range(n):
            data[k] /= scale
            weight[k] *= scale * scale if with_var else 1.0
        p[0] = 1.0
        p[4] = low / scale
        middle = 0.5 * (first + last)
        chi = _fit_one(
            p,
            skew[i],
            float(first),
            n,
            middle,
            data,
            weight,
            value,
            slope,
            matrix,
            vector,
            factor,
            step,
            trial,
        )
        if not np.isfinite(chi):
            continue
        _model(p, skew[i], float(first), n, middle, value, slope)
        square = 0.0
        for k in range(n):
            square += (data[k] - value[k]) ** 2
        # Without variances the residuals tell the noise.
        spread = 1.0 if with_var else chi / (n - 5)
        for a in range(5):
            for b in range(a + 1):
                total = 0.0
                for k in range(n):
                    total += weight[k] * slope[k, a] * slope[k, b]
                matrix[a, b] = total
        for a in range(5):
            vector[:] = 0.0
            vector[a] = 1.0
            if _solve(matrix, vector, 0.0, factor, step) and step[a] > 0.0:
                errors[i, a] = np.sqrt(spread * step[a])
        rms = np.sqrt(square / n)
        quality[i, 0] = p[0] / rms if rms > 0.0 else np.inf
        quality[i, 1] = chi / (n - 5)
        used[i] = n
        for a in range(5):
            unit = scale if a == 0 or a > 2 else 1.0
            parameters[i, a] = p[a] * unit
            errors[i, a] *= unit


def fit_lines(
    spectra: np.ndarray,
    order: np.ndarray,
    start: np.ndarray,
    reach: np.ndarray,
    *,
    var: np.ndarray | None = None,
    skew: np.ndarray | None = None,
    parameters: np.ndarray | None = None,
    errors: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Fit one lamp line in each window.

    Parameters
    ----------
    spectra : floating[order, x]
        Extracted flux.
    order : int64[line]
        Row of `spectra` of each line.
    start : float64[line]
        Predicted centre, px.
    reach : float64[line]
        Half width of the window, px; pixels ceil(start - reach)..floor(start + reach), at least six.
    var : floating[order, x], optional
        Variance; without it all pixels weigh the same.
    skew : float64[line], optional
        Third Gauss-Hermite moment of the line spread; without it lines are symmetric.
    parameters, errors : float64[line, 5], optional
        Written and returned.

    Returns
    -------
    parameters, errors : float64[line, 5]
        Amplitude, centre (px), width (px), slope (per px), constant, and their standard deviations (from
        the variances; without them from the residuals).  NaN if the window leaves the spectrum, holds a pixel
        that is not finite or no peak, or the fit does not converge: the row stays, so that tables align.
    quality : float64[line, 2]
        Amplitude over rms of the residuals; chi-square per degree of freedom.
    used : int64[line]
        Pixels of the window, 0 for a line without fit.

    Raises
    ------
    TypeError, ValueError
        Wrong dtype or shape.

    Notes
    -----
    Levenberg-Marquardt (Marquardt 1963, J. SIAM 11, 431) with analytic derivatives; it ends when the centre
    moves by less than 1e-9 px and chi-square by less than 1e-10 of itself.
    """
    check_float("spectra", spectra, 2)
    check_integer("order", order, 1, np.int64)
    check_float("start", start, 1, order.shape)
    check_float("reach", reach, 1, order.shape)
    var = np.empty((0, 0), spectra.dtype) if var is None else check_float("var", var, 2, spectra.shape)
    shape = (order.size, len(PARAMETERS))
    found = np.empty(shape) if parameters is None else check_output("parameters", parameters, shape)
    sigma = np.empty(shape) if errors is None else check_output("errors", errors, shape)
    quality = np.empty((order.size, 2))
    used = np.empty(order.size, np.int64)
    # Spectra are small: one compiled version of the loops is worth a copy.
    odd = np.zeros(order.size) if skew is None else check_float("skew", skew, 1, order.shape)
    plain = [np.ascontiguousarray(array, np.float64) for array in (spectra, var, start, reach, odd)]
    _fit_lines(plain[0], plain[1], np.ascontiguousarray(order), *plain[2:], found, sigma, quality, used)
    return found, sigma, quality, used
