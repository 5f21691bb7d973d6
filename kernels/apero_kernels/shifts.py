"""Measure where the peaks of a reference image lie in another image.

What is fitted is the reference itself, not a model of a peak: peaks that are under-sampled or overlap then
have no bias that depends on where they fall on the pixels.
"""

from __future__ import annotations

import numpy as np

from apero_kernels._jit import kernel
from apero_kernels.contracts import check_float, check_integer
from apero_kernels.fine import TAPS, derivative_weights, interpolation_weights, phase_weights

HALF_X, HALF_Y = 2, 1  # px, window of a peak: neighbours are 5 px away along and 3 px across the dispersion
FEWEST_PIXELS = 10  # of the 15 in a window


@kernel
def _slope(image, y, x, step_y, step_x, weights):
    total = 0.0
    for k in range(1, weights.shape[0] + 1):
        ahead = np.float64(image[y + k * step_y, x + k * step_x])
        total += weights[k - 1] * (ahead - image[y - k * step_y, x - k * step_x])
    return total


@kernel
def _patch(reference, image, x0, y0, xi, yi, patch, hole):
    # Neighbourhood of an image pixel; holes take the shape of the reference.  False if it leaves the frame.
    rows, columns = image.shape
    height, width = patch.shape
    top = yi - HALF_Y - TAPS // 2 + 1
    left = xi - HALF_X - TAPS // 2 + 1
    if top < 0 or left < 0 or top + height > rows or left + width > columns:
        return False
    ratio = np.float64(image[yi, xi]) / np.float64(reference[y0, x0])
    for j in range(height):
        for i in range(width):
            value = np.float64(image[top + j, left + i])
            hole[j, i] = not np.isfinite(value)
            if hole[j, i]:
                yr = top + j - yi + y0
                xr = left + i - xi + x0
                if not (0 <= yr < rows and 0 <= xr < columns):
                    return False
                value = ratio * reference[yr, xr]
                if not np.isfinite(value):
                    return False
            patch[j, i] = value
    return True


@kernel
def _sample_window(patch, weights_x, weights_y, lines, out):
    # Separable interpolation: first along the rows, then across them.
    for j in range(patch.shape[0]):
        for i in range(out.shape[1]):
            total = 0.0
            for k in range(TAPS):
                total += weights_x[k] * patch[j, i + k]
            lines[j, i] = total
    for j in range(out.shape[0]):
        for i in range(out.shape[1]):
            total = 0.0
            for k in range(TAPS):
                total += weights_y[k] * lines[j + k, i]
            out[j, i] = total


@kernel
def _solve_four(matrix, vector, unit, factor):
    # Cholesky; `vector` and the columns of `unit` become the solutions.  False if not positive definite.
    for i in range(4):
        for j in range(i + 1):
            total = matrix[i, j]
            for k in range(j):
                total -= factor[i, k] * factor[j, k]
            if i == j:
                if not total > 1e-10 * matrix[i, i]:
                    return False
                factor[i, i] = np.sqrt(total)
            else:
                factor[i, j] = total / factor[j, j]
    for c in range(5):
        for i in range(4):
            total = vector[i] if c == 4 else unit[i, c]
            for k in range(i):
                total -= factor[i, k] * (vector[k] if c == 4 else unit[k, c])
            if c == 4:
                vector[i] = total / factor[i, i]
            else:
                unit[i, c] = total / factor[i, i]
        for i in range(3, -1, -1):
            total = vector[i] if c == 4 else unit[i, c]
            for k in range(i + 1, 4):
                total -= factor[k, i] * (vector[k] if c == 4 else unit[k, c])
            if c == 4:
                vector[i] = total / factor[i, i]
            else:
                unit[i, c] = total / factor[i, i]
    return True


@kernel
def _weigh(reference, var, window, hole, x0, y0, top, left, systematic, ramp, scale, model, data, weight):
    # Equations of one peak; returns their number.
    n = 0
    for j in range(window.shape[0]):
        for i in range(window.shape[1]):
            y = y0 + j - HALF_Y
            x = x0 + i - HALF_X
            noise = np.float64(var[top + j, left + i])
            along = _slope(reference, y, x, 0, 1, ramp)
            across = _slope(reference, y, x, 1, 0, ramp)
            if hole[j, i] or not (np.isfinite(along + across + reference[y, x]) and noise > 0.0):
                continue
            data[n] = window[j, i]
            weight[n] = 1.0 / (noise + (systematic * window[j, i]) ** 2)
            model[n, 0] = reference[y, x] / scale
            model[n, 1] = 1.0
            model[n, 2] = along / scale
            model[n, 3] = across / scale
            n += 1
    return n


@kernel
def _peak_shifts(reference, image, var, affine, systematic, table, ramp, xs, ys, shifts, errors, quality):
    rows, columns = reference.shape
    height = 2 * HALF_Y + 1
    width = 2 * HALF_X + 1
    room = height * width
    patch = np.empty((height + TAPS - 1, width + TAPS - 1))
    hole = np.empty(patch.shape, np.bool_)
    lines = np.empty((patch.shape[0], width))
    window = np.empty((height, width))
    weights_x = np.empty(TAPS)
    weights_y = np.empty(TAPS)
    model = np.empty((room, 4))
    data = np.empty(room)
    weight = np.empty(room)
    matrix = np.empty((4, 4))
    factor = np.empty((4, 4))
    unit = np.empty((4, 4))
    vector = np.empty(4)
    margin_x = HALF_X + ramp.shape[0]
    margin_y = HALF_Y + ramp.shape[0]
    for k in range(xs.shape[0]):
        shifts[k, :] = np.nan
        errors[k, :] = np.nan
        quality[k] = np.nan
        x0 = xs[k]
        y0 = ys[k]
        if not (margin_x <= x0 < columns - margin_x and margin_y <= y0 < rows - margin_y):
            continue
        # Near one: squares of large fluxes would spoil the test for zero.
        scale = np.float64(reference[y0, x0])
        x = affine[0] + affine[2] * x0 + affine[3] * y0
        y = affine[1] + affine[4] * x0 + affine[5] * y0
        if not (scale > 0.0 and 0.0 <= x < columns - 1.0 and 0.0 <= y < rows - 1.0):
            continue
        xi = int(x)
        yi = int(y)
        # The pixel nearest to the centre decides about holes and noise.
        right = 1 if x - xi > 0.5 else 0
        up = 1 if y - yi > 0.5 else 0
        if not np.isfinite(image[yi + up, xi + right]):
            continue
        if not np.isfinite(image[yi, xi]) or not _patch(reference, image, x0, y0, xi, yi, patch, hole):
            continue
        phase_weights(table, x - xi, weights_x)
        phase_weights(table, y - yi, weights_y)
        _sample_window(patch, weights_x, weights_y, lines, window)
        inner_j = TAPS // 2 - 1 + up
        inner_i = TAPS // 2 - 1 + right
        n = _weigh(
            reference, var, window, hole[inner_j:, inner_i:], x0, y0, yi + up - HALF_Y, xi + right - HALF_X,
            systematic, ramp, scale, model, data, weight,
        )  # fmt: skip
        if n < FEWEST_PIXELS:
            continue
        for a in range(4):
            vector[a] = 0.0
            for b in range(4):
                matrix[a, b] = 0.0
                unit[a, b] = 1.0 if a == b else 0.0
        for p in range(n):
            for a in range(4):
                scaled = weight[p] * model[p, a]
                vector[a] += scaled * data[p]
                for b in range(a + 1):
                    matrix[a, b] += scaled * model[p, b]
        if not _solve_four(matrix, vector, unit, factor) or not vector[0] > 0.0:
            continue
        chi = 0.0
        for p in range(n):
            r = data[p]
            for a in range(4):
                r -= vector[a] * model[p, a]
            chi += weight[p] * r * r
        shifts[k, 0] = vector[2] / vector[0]
        shifts[k, 1] = vector[3] / vector[0]
        errors[k, 0] = np.sqrt(unit[2, 2]) / vector[0]
        errors[k, 1] = np.sqrt(unit[3, 3]) / vector[0]
        quality[k] = chi / (n - 4)


def peak_shifts(
    reference: np.ndarray,
    image: np.ndarray,
    var: np.ndarray,
    affine: np.ndarray | tuple[float, ...],
    x: np.ndarray,
    y: np.ndarray,
    *,
    systematic: float = 0.0,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Measure where the neighbourhood of each peak of a reference lies in an image.

    Parameters
    ----------
    reference : floating[y, x]
        Reference, with little noise.
    image, var : floating[y, x]
        Image and its variance (pixels without a positive one take no part).
    affine : float64[6]
        Where the peaks are expected: light at (x, y) of the reference at (dx + A x + B y, dy + C x + D y).
    x, y : int64[peak]
        Peaks of the reference.
    systematic : float
        Relative error of a pixel that does not average out, e.g. of its response.

    Returns
    -------
    shifts : float64[peak, 2]
        (sx, sy), px: the image shows where (x, y) is expected what the reference shows at (x + sx, y + sy).
        NaN if fewer than ten pixels of the window can be used, there is no light, or the window with its
        surroundings leaves the frame.
    errors : float64[peak, 2]
        Standard deviations.
    quality : float64[peak]
        Chi-square per degree of freedom.

    Raises
    ------
    TypeError, ValueError
        Wrong dtype or shape, an affine vector that is not six finite numbers, `systematic` negative.

    Notes
    -----
    One Gauss-Newton step of least squares in a window of 5 x 3 px: image = a reference + b + a (sx d/dx +
    sy d/dy) reference, with the derivatives of the reference (Lucas & Kanade 1981, Proc. 7th IJCAI, 674).
    Right to second order in the shift: correct the expectation and repeat.
    """
    check_float("reference", reference, 2)
    check_float("image", image, 2, reference.shape)
    check_float("var", var, 2, reference.shape)
    check_integer("x", x, 1, np.int64)
    check_integer("y", y, 1, np.int64, x.shape)
    vector = np.asarray(affine, np.float64)
    if vector.shape != (6,) or not np.isfinite(vector).all():
        raise ValueError(f"affine: {vector}, expected six finite numbers (dx, dy, A, B, C, D)")
    if not (np.isfinite(systematic) and systematic >= 0):
        raise ValueError(f"systematic: {systematic}, expected a finite number of at least 0")
    shifts, errors, quality = np.empty((x.size, 2)), np.empty((x.size, 2)), np.empty(x.size)
    # One memory layout: the loops are compiled once.
    planes = [np.ascontiguousarray(plane) for plane in (reference, image, var)]
    _peak_shifts(
        *planes, vector, float(systematic), interpolation_weights(), derivative_weights(), x, y, shifts,
        errors, quality,
    )  # fmt: skip
    return shifts, errors, quality
