"""Smooth scattered light under the orders; :mod:`apero_kernels.halo` has the local part around them.

The surface is a tensor product of Chebyshev polynomials through robust levels of boxes of inter-order
pixels.  Each level sits at the mean position of the pixels it came from, so nothing is stretched or shifted.
"""

from __future__ import annotations

import numpy as np

from apero_kernels._jit import kernel
from apero_kernels.contracts import check_float, check_integer, check_output
from apero_kernels.halo import add_scaled
from apero_kernels.polynomial import MAX_PASSES, least_squares
from apero_kernels.robust import median_in_place, percentile_in_place


@kernel
def _box_levels(image, mask, box_y, box_x, fewest, ys, xs, levels, sigmas):
    rows, columns = image.shape
    scratch = np.empty(box_y * box_x, np.float64)
    found = 0
    for y0 in range(0, rows, box_y):
        for x0 in range(0, columns, box_x):
            n = 0
            sum_y = 0.0
            sum_x = 0.0
            for y in range(y0, min(y0 + box_y, rows)):
                for x in range(x0, min(x0 + box_x, columns)):
                    if mask[y, x] and np.isfinite(image[y, x]):
                        scratch[n] = image[y, x]
                        sum_y += y
                        sum_x += x
                        n += 1
            if n >= fewest:
                ys[found] = sum_y / n
                xs[found] = sum_x / n
                low = percentile_in_place(scratch, n, 15.8655)
                high = percentile_in_place(scratch, n, 84.1345)
                levels[found] = median_in_place(scratch, n)
                # Error of a median of n Gaussian values: sqrt(pi / 2n) sigma.
                sigmas[found] = 1.2533 * 0.5 * (high - low) / np.sqrt(n)
                found += 1
    return found


@kernel
def _terms(t, out):
    out[0] = 1.0
    if out.shape[0] > 1:
        out[1] = t
    for k in range(2, out.shape[0]):
        out[k] = 2.0 * t * out[k - 1] - out[k - 2]


@kernel
def _fit_surface(ys, xs, levels, sigmas, rows, columns, cut, coefficients):
    n = ys.shape[0]
    ny, nx = coefficients.shape
    basis = np.empty((n, ny * nx))
    ty = np.empty(ny)
    tx = np.empty(nx)
    for i in range(n):
        _terms(2.0 * ys[i] / rows - 1.0, ty)
        _terms(2.0 * xs[i] / columns - 1.0, tx)
        for j in range(ny):
            for k in range(nx):
                basis[i, j * nx + k] = ty[j] * tx[k]
    weights = np.ones(n)
    design = np.empty_like(basis)
    target = np.empty(n)
    solution = np.empty(ny * nx)
    scratch = np.empty(n)
    k_bad = np.exp(-0.5 * cut * cut)
    scale = np.nan
    for _ in range(MAX_PASSES):
        for i in range(n):
            root = np.sqrt(weights[i]) / sigmas[i]
            for k in range(ny * nx):
                design[i, k] = root * basis[i, k]
            target[i] = root * levels[i]
        if not least_squares(design, target, solution):
            break
        for i in range(n):
            total = 0.0
            for k in range(ny * nx):
                total += solution[k] * basis[i, k]
            target[i] = (levels[i] - total) / sigmas[i]
            scratch[i] = abs(target[i])
        scale = 1.4826 * median_in_place(scratch, n) * np.sqrt(n / max(n - ny * nx, 1.0))
        if not scale > 0.0:
            break
        change = 0.0
        for i in range(n):
            deviation = target[i] / scale
            good = (1.0 - k_bad) * np.exp(-0.5 * deviation * deviation)
            weight = max(good / (k_bad + good), 1e-12)
            change = max(change, abs(weight - weights[i]))
            weights[i] = weight
        if change < 1e-6:
            break
    for j in range(ny):
        for k in range(nx):
            coefficients[j, k] = solution[j * nx + k]
    return scale


@kernel
def _surface_row(coefficients, basis, y, rows, ty, line):
    _terms(2.0 * y / rows - 1.0, ty)
    line[:] = 0.0
    for k in range(coefficients.shape[1]):
        total = 0.0
        for j in range(coefficients.shape[0]):
            total += coefficients[j, k] * ty[j]
        add_scaled(basis[k], total, line)


@kernel
def _subtract(image, coefficients, local, amplitude, out):
    rows, columns = image.shape
    ny, nx = coefficients.shape
    with_local = local.shape[0] > 0
    basis = np.empty((nx, columns))
    tx = np.empty(nx)
    for x in range(columns):
        _terms(2.0 * x / columns - 1.0, tx)
        for k in range(nx):
            basis[k, x] = tx[k]
    ty = np.empty(ny)
    line = np.empty(columns)
    for y in range(rows):
        _surface_row(coefficients, basis, y, rows, ty, line)
        if with_local:
            for x in range(columns):
                out[y, x] = image[y, x] - line[x] - amplitude * local[y, x]
        else:
            for x in range(columns):
                out[y, x] = image[y, x] - line[x]


def box_levels(
    image: np.ndarray, mask: np.ndarray, box: tuple[int, int], fewest: int = 50
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Measure the level of the background pixels of each box.

    Parameters
    ----------
    image : floating[y, x]
        Calibrated frame.
    mask : uint8[y, x]
        1 = background.
    box : (int, int)
        Rows and columns of a box.
    fewest : int
        A box with fewer background pixels is left out.

    Returns
    -------
    ys, xs : float64[n]
        Mean position of the pixels of each box.
    levels, sigmas : float64[n]
        Their median and its error (from half of the 15.87..84.13 percentile distance).

    Raises
    ------
    TypeError, ValueError
        Wrong dtype or shape, a box size below 1.
    """
    check_float("image", image, 2)
    check_integer("mask", mask, 2, np.uint8, image.shape)
    if min(box) < 1:
        raise ValueError(f"box: {box}, expected sizes of 1 or more")
    room = (image.shape[0] // box[0] + 1) * (image.shape[1] // box[1] + 1)
    ys, xs, levels, sigmas = (np.empty(room) for _ in range(4))
    n = _box_levels(image, mask, int(box[0]), int(box[1]), int(fewest), ys, xs, levels, sigmas)
    return ys[:n], xs[:n], levels[:n], sigmas[:n]


def fit_surface(
    ys: np.ndarray,
    xs: np.ndarray,
    levels: np.ndarray,
    sigmas: np.ndarray,
    shape: tuple[int, int],
    degrees: tuple[int, int],
    cut: float = 5.0,
) -> tuple[np.ndarray, float]:
    """Fit a tensor product of Chebyshev polynomials to the levels of boxes.

    Parameters
    ----------
    ys, xs, levels, sigmas : float64[n]
        From `box_levels`; levels with a sigma that is not positive take no part.
    shape : (int, int)
        Rows and columns of the image; the domains are [0, rows] and [0, columns].
    degrees : (int, int)
        Along y and x.
    cut : float
        Sigma at which a level loses half of its weight.

    Returns
    -------
    coefficients : float64[degree_y + 1, degree_x + 1]
        NaN if the levels do not determine them.
    scale : float
        True sigma of the residuals in units of `sigmas`.

    Raises
    ------
    TypeError, ValueError
        Wrong dtype or shape, a negative degree.
    """
    check_float("ys", ys, 1)
    for name, values in (("xs", xs), ("levels", levels), ("sigmas", sigmas)):
        check_float(name, values, 1, ys.shape)
    if min(degrees) < 0:
        raise ValueError(f"degrees: {degrees}, expected 0 or more")
    good = np.isfinite(levels) & (sigmas > 0)
    coefficients = np.empty((degrees[0] + 1, degrees[1] + 1))
    scale = _fit_surface(
        ys[good],
        xs[good],
        levels[good],
        sigmas[good],
        float(shape[0]),
        float(shape[1]),
        float(cut),
        coefficients,
    )
    return coefficients, float(scale)


def subtract_background(
    image: np.ndarray,
    coefficients: np.ndarray,
    out: np.ndarray,
    *,
    local: np.ndarray | None = None,
    amplitude: float = 0.0,
) -> None:
    """Subtract the surface and, with `local`, the halo.

    Parameters
    ----------
    image, out : floating[y, x]
        Calibrated frame; corrected frame (written, may be `image` itself).
    coefficients : float64[degree_y + 1, degree_x + 1]
        From `fit_surface`.
    local : floating[y, x], optional
        From `blur`.
    amplitude : float
        Factor of `local`.

    Raises
    ------
    TypeError, ValueError
        Wrong dtype or shape.
    """
    check_float("image", image, 2)
    check_float("coefficients", coefficients, 2)
    check_output("out", out, image.shape)
    if local is None:
        local = np.empty((0, 0), image.dtype)
    else:
        check_float("local", local, 2, image.shape)
    _subtract(image, coefficients, local, float(amplitude), out)
