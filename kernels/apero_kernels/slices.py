"""The image of a sliced fibre across the dispersion: several slices side by side, brighter and fainter ones.

In one column the light of a trace is ``sum over s of a[s] g(y - centre - height[s])`` with a Gaussian g of
unit sum.  Brightness of the slices changes along the order and from frame to frame; where they lie does not.
The mean place of the slices is therefore the place of a trace, not its centre of light.
"""

from __future__ import annotations

import numpy as np

from apero_kernels._jit import kernel
from apero_kernels.contracts import check_float, check_positive

ROOT_TWO_PI = 2.5066282746310002


@kernel
def _window(centre, heights, sigma, wings, rows):
    low = np.min(heights)
    high = np.max(heights)
    first = int(np.ceil(centre + low - wings * sigma))
    end = int(np.floor(centre + high + wings * sigma)) + 1
    return max(0, first), min(rows, end), first >= 0 and end <= rows


@kernel
def _gaussians(first, end, centre, heights, sigma, out):
    # Gaussians of unit sum in rows first to end, out[slice, row - first].  From the row next to the middle
    # each value follows from the one before: the ratio of neighbours falls by a factor, always below 1.
    step = 1.0 / sigma
    factor = np.exp(-step * step)
    for s in range(heights.shape[0]):
        middle = centre + heights[s]
        top = min(max(int(np.rint(middle)), first), end - 1)
        d = (top - middle) * step
        peak = np.exp(-0.5 * d * d) * step / ROOT_TWO_PI
        value = peak
        ratio = np.exp(-(d + 0.5 * step) * step)
        for y in range(top, end):
            out[s, y - first] = value
            value *= ratio
            ratio *= factor
        value = peak
        ratio = np.exp((d - 0.5 * step) * step)
        for y in range(top - 1, first - 1, -1):
            value *= ratio
            ratio *= factor
            out[s, y - first] = value


@kernel
def _model(x, centres, heights, sigmas, shares, fluxes, wings, model, gaussians, firsts, ends):
    # Gaussians of all traces in this column, and the light of those whose flux is known.
    model[:] = 0.0
    for t in range(centres.shape[0]):
        firsts[t] = ends[t] = 0
        sigma = sigmas[t, x]
        if not (np.isfinite(centres[t, x]) and sigma > 0.0 and np.isfinite(sigma)):
            continue
        first, end, _ = _window(centres[t, x], heights[t, :, x], sigma, wings + 2.0, model.shape[0])
        if end <= first:
            continue
        firsts[t] = first
        ends[t] = end
        _gaussians(first, end, centres[t, x], heights[t, :, x], sigma, gaussians[t])
        if np.isfinite(fluxes[t, x]):
            for s in range(shares.shape[1]):
                part = fluxes[t, x] * shares[t, s, x]
                for y in range(first, end):
                    model[y] += part * gaussians[t, s, y - first]


@kernel
def _own_terms(y, t, x, centres, heights, sigmas, shares, fluxes, with_flux, gaussians, terms):
    # Derivatives by the amplitudes, by the places, by the width; returns the light of this trace here.
    slices = shares.shape[1]
    step = 1.0 / sigmas[t, x]
    light = 0.0
    wider = 0.0
    for s in range(slices):
        g = gaussians[s]
        terms[s] = g
        if with_flux:
            d = (y - centres[t, x] - heights[t, s, x]) * step
            part = fluxes[t, x] * shares[t, s, x] * g
            light += part
            terms[slices + s] = part * d * step
            wider += part * (d * d - 1.0) * step
    terms[2 * slices] = wider
    return light


@kernel
def _solve_symmetric(matrix, right, n, inverse, solution):
    # Solution of a small positive definite system by Cholesky, and the inverse of the triangle (lower, zeros
    # above): that of the matrix is its transpose times itself.  False if the matrix is singular.
    for i in range(n):
        for j in range(i + 1):
            total = matrix[i, j]
            for k in range(j):
                total -= matrix[i, k] * matrix[j, k]
            if i == j:
                if not total > 1e-10 * matrix[i, i]:
                    return False
                matrix[i, i] = np.sqrt(total)
            else:
                matrix[i, j] = total / matrix[j, j]
    for i in range(n):
        scale = 1.0 / matrix[i, i]
        for c in range(i):
            total = 0.0
            for k in range(c, i):
                total -= matrix[i, k] * inverse[k, c]
            inverse[i, c] = total * scale
        inverse[i, i] = scale
    for k in range(n):
        solution[k] = 0.0
    for i in range(n):
        total = 0.0
        for k in range(i + 1):
            total += inverse[i, k] * right[k]
        for k in range(i + 1):
            solution[k] += inverse[i, k] * total
    return True


@kernel
def _sum_variance(inverse, first, end, n):
    # Variance of the sum of the parameters first to end.
    total = 0.0
    for i in range(first, n):
        part = 0.0
        for k in range(first, min(end, i + 1)):
            part += inverse[i, k]
        total += part * part
    return total


@kernel
def _fit_slices(
    image, base, photon, centres, heights, sigmas, shares, fluxes, wings, fewest, tallest,
    amplitudes, shifts, shift_errors, place_errors, widening, widening_errors, flux_errors,
):  # fmt: skip
    rows, columns = image.shape
    traces, slices, _ = shares.shape
    most = 2 * slices + 1
    model = np.empty(rows)
    gaussians = np.empty((traces, slices, tallest))
    firsts = np.empty(traces, np.int64)
    ends = np.empty(traces, np.int64)
    terms = np.empty(most)
    normal = np.empty((most, most))
    right = np.empty(most)
    inverse = np.empty((most, most))
    solution = np.empty(most)
    for x in range(columns):
        _model(x, centres, heights, sigmas, shares, fluxes, wings, model, gaussians, firsts, ends)
        for t in range(traces):
            amplitudes[t, :, x] = np.nan
            shifts[t, :, x] = np.nan
            shift_errors[t, :, x] = np.nan
            place_errors[t, x] = np.nan
            widening[t, x] = np.nan
            widening_errors[t, x] = np.nan
            flux_errors[t, x] = np.nan
            if ends[t] <= firsts[t]:
                continue
            first, end, whole = _window(centres[t, x], heights[t, :, x], sigmas[t, x], wings, rows)
            # A window cut by the edge of the frame would pull the trace.
            if not whole:
                continue
            with_flux = fluxes[t, x] > 0.0
            count = most if with_flux else slices
            used = 0
            normal[:] = 0.0
            right[:] = 0.0
            for y in range(first, end):
                noise = base[y, x] + photon * max(model[y], 0.0)
                if not (np.isfinite(image[y, x]) and noise > 0.0):
                    continue
                used += 1
                light = _own_terms(
                    y, t, x, centres, heights, sigmas, shares, fluxes, with_flux,
                    gaussians[t, :, y - firsts[t]], terms,
                )  # fmt: skip
                # What other traces send here is not this one's.
                own = image[y, x] - model[y] + light
                weight = 1.0 / noise
                for i in range(count):
                    weighted = terms[i] * weight
                    right[i] += weighted * own
                    for j in range(i + 1):
                        normal[i, j] += weighted * terms[j]
            if used < fewest * (end - first) or used <= count:
                continue
            if not _solve_symmetric(normal, right, count, inverse, solution):
                continue
            for s in range(slices):
                amplitudes[t, s, x] = solution[s]
            flux_errors[t, x] = np.sqrt(_sum_variance(inverse, 0, slices, count))
            if with_flux:
                for s in range(slices, 2 * slices):
                    shifts[t, s - slices, x] = solution[s]
                    shift_errors[t, s - slices, x] = np.sqrt(_sum_variance(inverse, s, s + 1, count))
                place_errors[t, x] = np.sqrt(_sum_variance(inverse, slices, 2 * slices, count)) / slices
                widening[t, x] = solution[2 * slices]
                widening_errors[t, x] = np.sqrt(_sum_variance(inverse, 2 * slices, most, count))


@kernel
def _tallest(heights, sigmas, wings):
    # Rows of the tallest window of the model.
    most = 0.0
    for t in range(sigmas.shape[0]):
        for x in range(sigmas.shape[1]):
            span = np.max(heights[t, :, x]) - np.min(heights[t, :, x]) + 2.0 * (wings + 2.0) * sigmas[t, x]
            if np.isfinite(span) and span > most:
                most = span
    return int(most) + 2


def fit_slices(
    image: np.ndarray,
    base: np.ndarray,
    photon: float,
    centres: np.ndarray,
    heights: np.ndarray,
    sigmas: np.ndarray,
    shares: np.ndarray,
    fluxes: np.ndarray,
    *,
    wings: float = 3.0,
    fewest: float = 0.8,
) -> tuple[np.ndarray, ...]:
    """One Gauss-Newton step of light and place of every slice, and their width, for every trace and column.

    Parameters
    ----------
    image : floating[y, x]
        Columns of a calibrated frame without background; NaN takes no part.
    base : floating[y, x]
        Variance without signal; that of the signal, `photon` times the model, comes on top.
    photon : float
        Variance per unit of signal.
    centres : float64[trace, x]
        Place of the trace, px; NaN = not wanted.
    heights : float64[trace, slice, x]
        Places of the slices above it, px.
    sigmas : float64[trace, x]
        Standard deviation of a slice, px.
    shares : float64[trace, slice, x]
        Parts of the light, sum 1.
    fluxes : float64[trace, x]
        Light of the trace; NaN = unknown: then only the amplitudes of slices are found.
    wings : float
        Standard deviations of a slice that the window reaches beyond the outer ones.
    fewest : float
        Part of the window that must be there.

    Returns
    -------
    amplitudes : float64[trace, slice, x]
        Light of every slice; NaN where it is not determined, as in the others.
    flux_errors : float64[trace, x]
        Standard deviation, from noise, of their sum.
    shifts, shift_errors : float64[trace, slice, x]
        Change of the place of every slice, px, and its standard deviation.
    place_errors : float64[trace, x]
        Standard deviation of the mean of the shifts.
    widening, widening_errors : float64[trace, x]
        Change of the standard deviation of the slices, px, and its standard deviation.

    Raises
    ------
    TypeError, ValueError
        Wrong dtype or shape, a negative `photon`.

    Notes
    -----
    Light of all other traces, as far as their fluxes are known, is subtracted first: neighbours overlap.
    Amplitudes and places are solved for together: one after the other converges in twenty steps, not in two.
    Slices that are displaced along the dispersion lie at unequal distances where a trace is inclined, so
    each has a place of its own.
    """
    check_float("image", image, 2)
    check_float("base", base, 2, image.shape)
    check_float("centres", centres, 2)
    check_float("shares", shares, 3)
    check_float("heights", heights, 3, shares.shape)
    check_positive("wings", wings)
    for name, values in (("sigmas", sigmas), ("fluxes", fluxes)):
        check_float(name, values, 2, centres.shape)
    if centres.shape[1] != image.shape[1] or shares[:, 0].shape != centres.shape:
        raise ValueError(
            f"centres: shape {centres.shape}, shares: shape {shares.shape}; expected {image.shape[1]} "
            "columns (as the image) and as many traces"
        )
    if not photon >= 0:
        raise ValueError(f"photon: {photon}, expected 0 or more")
    amplitudes, shifts, shift_errors = (np.empty(shares.shape) for _ in range(3))
    place_errors, widening, widening_errors, flux_errors = (np.empty(centres.shape) for _ in range(4))
    tallest = min(image.shape[0], _tallest(heights, sigmas, float(wings)))
    _fit_slices(
        image, base, float(photon), centres, heights, sigmas, shares, fluxes, float(wings), float(fewest),
        tallest, amplitudes, shifts, shift_errors, place_errors, widening, widening_errors, flux_errors,
    )  # fmt: skip
    return amplitudes, flux_errors, shifts, shift_errors, place_errors, widening, widening_errors
