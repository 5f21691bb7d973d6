"""Find and fit the peaks of a Fabry-Perot comb, tens of thousands per call.

A peak is fitted together with its two neighbours,
``amplitude * (k(x - centre) + sum_j ratio_j k(x - near_j)) + constant``: the feet of the neighbours overlap
in the window, and where the blaze is steep they are unequal.  A periodic function with equal neighbours is
wrong by 0.01 to 0.05 px there.

k is the profile of :mod:`apero_kernels.voigt`.
"""

from __future__ import annotations

import numpy as np

from apero_kernels._jit import kernel
from apero_kernels.cholesky import damped_solver
from apero_kernels.contracts import check_float, check_integer
from apero_kernels.voigt import profile

PARAMETERS = ("amplitude", "centre", "width", "constant")
START_WIDTH = 1.0  # px, standard deviation

_MOST = 60  # steps of a fit
_STEP = 1e-5  # px: a smaller move of the centre is the last one (the next is its square), if
_GAIN = 1e-4  # chi-square falls by less: faint peaks know their width badly and their centre well
_CORE = 2  # px on each side above which a peak must stand

_factorise, _substitute = damped_solver(len(PARAMETERS), 1e-13)


@kernel
def _find_in_row(flux, var, least, valley, share, columns, heights, high_enough):
    # Local maxima; returns their number.
    n = flux.shape[0]
    count = 0
    for x in range(_CORE, n - _CORE):
        f = flux[x]
        if not (np.isfinite(f) and f > flux[x - 1] and f >= flux[x + 1]):
            continue
        if not (f > flux[x - 2] and f > flux[x + 2]):
            continue
        left = np.inf
        right = np.inf
        for k in range(1, valley + 1):
            if x - k >= 0:
                left = min(left, flux[x - k])
            if x + k < n:
                right = min(right, flux[x + k])
        height = f - max(left, right)
        noise = np.float64(var[x])
        if noise > 0.0 and height > least * np.sqrt(noise):
            columns[count] = x
            heights[count] = height
            count += 1
    # Maxima of noise in wide valleys are low beside the true peaks around them.
    kept = 0
    reach = 3 * valley
    for i in range(count):
        highest = heights[i]
        j = i - 1
        while j >= 0 and columns[i] - columns[j] <= reach:
            highest = max(highest, heights[j])
            j -= 1
        j = i + 1
        while j < count and columns[j] - columns[i] <= reach:
            highest = max(highest, heights[j])
            j += 1
        high_enough[i] = heights[i] >= share * highest
    for i in range(count):
        if high_enough[i]:
            columns[kept] = columns[i]
            heights[kept] = heights[i]
            kept += 1
    return kept


@kernel
def _find_peaks(spectra, var, least, valley, share, order, start, height):
    columns = np.empty(spectra.shape[1], np.int64)
    heights = np.empty(spectra.shape[1])
    high_enough = np.empty(spectra.shape[1], np.bool_)
    total = 0
    for o in range(spectra.shape[0]):
        flux = spectra[o]
        count = _find_in_row(flux, var[o], least, valley, share, columns, heights, high_enough)
        for i in range(count):
            x = columns[i]
            # Vertex of the parabola through the highest pixel and its neighbours.
            curve = flux[x - 1] - 2.0 * flux[x] + flux[x + 1]
            order[total] = o
            start[total] = x + (0.5 * (flux[x - 1] - flux[x + 1]) / curve if curve < 0.0 else 0.0)
            height[total] = heights[i]
            total += 1
    return total


def find_peaks(
    spectra: np.ndarray, var: np.ndarray, *, least: float = 6.0, valley: int = 7, share: float = 0.3
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Find the peaks of a comb without knowing where they are.

    Parameters
    ----------
    spectra, var : floating[order, x]
        Flux and variance; a pixel that is not finite is no peak and no valley.
    least : float
        Height above the higher of the two valleys, in sigma of the highest pixel.
    valley : int
        Pixels on each side in which the valleys are looked for, at least half the distance of the peaks.
    share : float
        A peak lower than this share of the highest one within three `valley` is noise.

    Returns
    -------
    order : int64[peak]
        Row of `spectra`; peaks are sorted by order and column.
    start : float64[peak]
        Column, by the parabola through three pixels.
    height : float64[peak]
        Above the higher valley.

    Raises
    ------
    TypeError, ValueError
        Wrong dtype or shape, `valley` below 2.
    """
    check_float("spectra", spectra, 2)
    check_float("var", var, 2, spectra.shape)
    if valley < 2:
        raise ValueError(f"valley: {valley}, expected at least 2 px")
    # Peaks are at least two pixels apart.
    size = spectra.shape[0] * (spectra.shape[1] // 2 + 1)
    order, start, height = np.empty(size, np.int64), np.empty(size), np.empty(size)
    flux, noise = _plain(spectra, var)
    total = _find_peaks(flux, noise, float(least), int(valley), float(share), order, start, height)
    return order[:total], start[:total], height[:total]


def _plain(*arrays: np.ndarray) -> list[np.ndarray]:
    # Spectra are small: one compiled version of the loops is worth a copy.
    return [np.ascontiguousarray(array, np.float64) for array in arrays]


@kernel
def _peak_model(p, near, ratio, lorentz, light, skew, first, n, value, slope, shape):
    for i in range(n):
        x = first + i
        profile(x - p[1], p[2], lorentz, light, skew, shape)
        total = shape[0]
        moved = -shape[1]
        widened = shape[2]
        for k in range(2):
            if ratio[k] > 0.0:
                profile(x - near[k], p[2], lorentz, light, skew, shape)
                total += ratio[k] * shape[0]
                widened += ratio[k] * shape[2]
        value[i] = p[0] * total + p[3]
        slope[i, 0] = total
        slope[i, 1] = p[0] * moved
        slope[i, 2] = p[0] * widened
        slope[i, 3] = 1.0


@kernel
def _normal(data, weight, value, slope, n, matrix, vector):
    chi = 0.0
    for a in range(4):
        vector[a] = 0.0
        for b in range(a + 1):
            matrix[a, b] = 0.0
    for i in range(n):
        r = data[i] - value[i]
        chi += weight[i] * r * r
        for a in range(4):
            scaled = weight[i] * slope[i, a]
            vector[a] += scaled * r
            for b in range(a + 1):
                matrix[a, b] += scaled * slope[i, b]
    return chi


@kernel
def _fit_peak(
    p, near, ratio, lorentz, light, skew, first, n, data, weight,
    value, slope, shape, matrix, vector, factor, step, trial,
):  # fmt: skip
    # Levenberg-Marquardt; chi-square, NaN if there is no minimum.  Leaves the normal matrix in `matrix`.
    damping = 1e-3
    _peak_model(p, near, ratio, lorentz, light, skew, first, n, value, slope, shape)
    chi = _normal(data, weight, value, slope, n, matrix, vector)
    for _ in range(_MOST):
        moved = False
        for _ in range(10):
            if _factorise(matrix, damping, factor):
                _substitute(factor, vector, step)
                for a in range(4):
                    trial[a] = p[a] + step[a]
                if 0.2 < trial[2] < n and abs(step[1]) < n:
                    _peak_model(trial, near, ratio, lorentz, light, skew, first, n, value, slope, shape)
                    new = 0.0
                    for i in range(n):
                        r = data[i] - value[i]
                        new += weight[i] * r * r
                    if new <= chi * (1.0 + 1e-12):
                        moved = True
                        break
            damping = max(damping * 10.0, 1e-6)
        if not moved:
            _peak_model(p, near, ratio, lorentz, light, skew, first, n, value, slope, shape)
            _normal(data, weight, value, slope, n, matrix, vector)
            return chi
        for a in range(4):
            p[a] = trial[a]
        done = abs(step[1]) < _STEP and chi - new < _GAIN
        damping *= 0.1
        chi = _normal(data, weight, value, slope, n, matrix, vector)
        if done or chi == 0.0:
            return chi
    return np.nan


@kernel
def _fit_comb(
    spectra, var, order, start, near, ratio, reach, lorentz, light, skew, parameters, errors, quality, used
):
    columns = spectra.shape[1]
    longest = 1
    for i in range(start.shape[0]):
        if np.isfinite(reach[i]):
            longest = max(longest, int(2 * reach[i]) + 3)
    data = np.empty(longest)
    weight = np.empty(longest)
    value = np.empty(longest)
    slope = np.empty((longest, 4))
    shape = np.empty(3)
    matrix = np.zeros((4, 4))
    factor = np.zeros((4, 4))
    vector = np.empty(4)
    step = np.empty(4)
    trial = np.empty(4)
    p = np.empty(4)
    for i in range(start.shape[0]):
        parameters[i, :] = np.nan
        errors[i, :] = np.nan
        quality[i] = np.nan
        used[i] = 0
        if not (np.isfinite(start[i]) and reach[i] > 0.0 and 0 <= order[i] < spectra.shape[0]):
            continue
        first = int(np.ceil(start[i] - reach[i]))
        last = int(np.floor(start[i] + reach[i]))
        n = last - first + 1
        if first < 0 or last >= columns or n < 5:
            continue
        low = np.inf
        high = -np.inf
        complete = True
        for k in range(n):
            data[k] = spectra[order[i], first + k]
            noise = np.float64(var[order[i], first + k])
            complete = complete and np.isfinite(data[k]) and noise > 0.0 and np.isfinite(noise)
            weight[k] = 1.0 / noise
            low = min(low, data[k])
            high = max(high, data[k])
        if not complete or not high > low:
            continue
        # Numbers near one: squares of large fluxes would spoil the tests for zero.
        scale = high - low
        for k in range(n):
            data[k] /= scale
            weight[k] *= scale * scale
        p[0] = 1.0
        p[1] = start[i]
        p[2] = START_WIDTH
        p[3] = low / scale
        chi = _fit_peak(
            p, near[i], ratio[i], lorentz[i], light[i], skew[i], float(first), n, data, weight,
            value, slope, shape, matrix, vector, factor, step, trial,
        )  # fmt: skip
        if not np.isfinite(chi) or not _factorise(matrix, 0.0, factor):
            continue
        for a in range(4):
            vector[:] = 0.0
            vector[a] = 1.0
            _substitute(factor, vector, step)
            unit = scale if a == 0 or a == 3 else 1.0
            errors[i, a] = np.sqrt(step[a]) * unit
            parameters[i, a] = p[a] * unit
        quality[i] = chi / max(n - 4, 1)
        used[i] = n


def fit_comb(
    spectra: np.ndarray,
    var: np.ndarray,
    order: np.ndarray,
    start: np.ndarray,
    near: np.ndarray,
    ratio: np.ndarray,
    reach: np.ndarray,
    *,
    lorentz: np.ndarray | None = None,
    slope: np.ndarray | None = None,
    skew: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Fit every peak of a comb with its two neighbours held in place.

    Parameters
    ----------
    spectra, var : floating[order, x]
        Extracted flux and its variance.
    order : int64[peak]
        Row of `spectra`.
    start : float64[peak]
        Predicted centre, px.
    near : float64[peak, 2]
        Centres of the neighbours, px.
    ratio : float64[peak, 2]
        Their amplitudes over that of the peak; 0 = no neighbour.
    reach : float64[peak]
        Half width of the window: pixels ceil(start - reach)..floor(start + reach), at least five.
    lorentz : float64[peak], optional
        Half width at half maximum of the peaks of the etalon, px; without it they are Gaussians.
    slope : float64[peak], optional
        Relative change of the light along the order, per px; matters with `lorentz` only.
    skew : float64[peak], optional
        Third Gauss-Hermite moment of the line spread.

    Returns
    -------
    parameters, errors : float64[peak, 4]
        `PARAMETERS` and their standard deviations.  NaN if the window leaves the spectrum, holds a pixel that
        is not finite, or the fit does not converge: the row stays.  Amplitude: that of the Gaussian with
        the same width and flux.
    quality : float64[peak]
        Chi-square per degree of freedom.
    used : int64[peak]
        Pixels of the window, 0 without a fit.

    Raises
    ------
    TypeError, ValueError
        Wrong dtype or shape.

    Notes
    -----
    Levenberg-Marquardt (Marquardt 1963, J. SIAM 11, 431) with analytic derivatives.
    """
    check_float("spectra", spectra, 2)
    check_float("var", var, 2, spectra.shape)
    check_integer("order", order, 1, np.int64)
    check_float("start", start, 1, order.shape)
    check_float("reach", reach, 1, order.shape)
    check_float("near", near, 2, (order.size, 2))
    check_float("ratio", ratio, 2, (order.size, 2))
    parameters, errors = np.empty((order.size, 4)), np.empty((order.size, 4))
    quality, used = np.empty(order.size), np.empty(order.size, np.int64)
    none = np.zeros(order.size)
    wide = none if lorentz is None else check_float("lorentz", lorentz, 1, order.shape)
    light = none if slope is None else check_float("slope", slope, 1, order.shape)
    odd = none if skew is None else check_float("skew", skew, 1, order.shape)
    flux, noise, at, beside, ratios, half = _plain(spectra, var, start, near, ratio, reach)
    rows, (wide, light, odd) = np.ascontiguousarray(order), _plain(wide, light, odd)
    _fit_comb(
        flux, noise, rows, at, beside, ratios, half, wide, light, odd, parameters, errors, quality, used
    )
    return parameters, errors, quality, used
