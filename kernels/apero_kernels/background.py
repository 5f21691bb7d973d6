"""Scattered light: a local halo around the orders and a smooth surface under them.

The halo is the image itself, blurred, times a small amplitude; the surface is a tensor product of
Chebyshev polynomials through robust levels of boxes of inter-order pixels.  Each level sits at the mean
position of the pixels it came from, so nothing is stretched or shifted.  Both terms are subtracted.
"""

from __future__ import annotations

import numpy as np

from apero_kernels._jit import kernel
from apero_kernels.contracts import check_float, check_integer, check_output, check_positive
from apero_kernels.polynomial import MAX_PASSES, least_squares
from apero_kernels.robust import median_in_place, percentile_in_place

TRUNCATE = 3.0  # widths at which a Gaussian is cut


@kernel
def _fill_rows(image, out):
    # NaN takes the value on the straight line between its neighbours in the row.
    rows, columns = image.shape
    for y in range(rows):
        last = -1
        for x in range(columns):
            if np.isfinite(image[y, x]):
                out[y, x] = image[y, x]
                for i in range(last + 1, x):
                    if last < 0:
                        out[y, i] = image[y, x]
                    else:
                        share = (i - last) / (x - last)
                        out[y, i] = (1.0 - share) * image[y, last] + share * image[y, x]
                last = x
        for i in range(last + 1, columns):
            out[y, i] = image[y, last] if last >= 0 else 0.0


@kernel
def _add_scaled(source, weight, target):
    for x in range(target.shape[0]):
        target[x] += weight * source[x]


@kernel
def _blur(image, weights_y, weights_x, out):
    rows, columns = image.shape
    half_y = weights_y.shape[0] // 2
    half_x = weights_x.shape[0] // 2
    line = np.empty(columns + 2 * half_x, np.float32)
    target = np.empty(columns, np.float32)
    for y in range(rows):
        line[:] = 0.0
        centre = line[half_x : half_x + columns]
        for k in range(weights_y.shape[0]):
            # Beyond the frame the image continues with its edge.
            row = min(max(y + k - half_y, 0), rows - 1)
            _add_scaled(image[row], np.float32(weights_y[k]), centre)
        line[:half_x] = line[half_x]
        line[half_x + columns :] = line[half_x + columns - 1]
        target[:] = 0.0
        for k in range(weights_x.shape[0]):
            _add_scaled(line[k : k + columns], np.float32(weights_x[k]), target)
        for x in range(columns):
            out[y, x] = target[x]


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
        _add_scaled(basis[k], total, line)


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


@kernel
def _halo_sums(image, local, mask, box_y, box_x, clip):
    rows, columns = image.shape
    top = 0.0
    bottom = 0.0
    for y0 in range(0, rows, box_y):
        for x0 in range(0, columns, box_x):
            n = 0
            mean_i = 0.0
            mean_l = 0.0
            for y in range(y0, min(y0 + box_y, rows)):
                for x in range(x0, min(x0 + box_x, columns)):
                    if mask[y, x] and np.isfinite(image[y, x]) and abs(image[y, x]) < clip:
                        mean_i += image[y, x]
                        mean_l += local[y, x]
                        n += 1
            if n < 10:
                continue
            mean_i /= n
            mean_l /= n
            for y in range(y0, min(y0 + box_y, rows)):
                for x in range(x0, min(x0 + box_x, columns)):
                    if mask[y, x] and np.isfinite(image[y, x]) and abs(image[y, x]) < clip:
                        deviation = local[y, x] - mean_l
                        top += deviation * (image[y, x] - mean_i)
                        bottom += deviation * deviation
    return top, bottom


def blur(image: np.ndarray, sigma_y: float, sigma_x: float, out: np.ndarray) -> None:
    """Write the image convolved with a Gaussian of unit sum, cut at three widths.

    Parameters
    ----------
    image : floating[y, x]
        Calibrated frame; a value that is not finite is taken from the line between its neighbours in the
        row (a row without any value counts as 0).  Beyond the frame the edge goes on.
    sigma_y, sigma_x : float
        Standard deviations, px.
    out : floating[y, x]
        Written; float32 accuracy.

    Raises
    ------
    TypeError, ValueError
        Wrong dtype or shape, a width that is not positive.
    """
    check_float("image", image, 2)
    check_output("out", out, image.shape)
    filled = np.empty(image.shape, np.float32)
    _fill_rows(image, filled)
    _blur(filled, _gaussian("sigma_y", sigma_y), _gaussian("sigma_x", sigma_x), out)


def _gaussian(name: str, sigma: float) -> np.ndarray:
    check_positive(name, sigma)
    half = max(1, int(np.ceil(TRUNCATE * sigma)))
    weights = np.exp(-0.5 * (np.arange(-half, half + 1) / sigma) ** 2)
    return weights / weights.sum()


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


def halo_amplitude(
    image: np.ndarray, local: np.ndarray, mask: np.ndarray, box: tuple[int, int] = (32, 32)
) -> tuple[float, float]:
    """Fit the amplitude of the halo to the background pixels of a bright frame (flat).

    Within each box, deviations of the image are regressed on deviations of the blurred image: the smooth
    surface drops out.

    Parameters
    ----------
    image, local : floating[y, x]
        Calibrated frame and its `blur`.
    mask : uint8[y, x]
        1 = background.
    box : (int, int)
        Rows and columns of a box.

    Returns
    -------
    amplitude : float
        NaN without background pixels.
    leverage : float
        Sum of squared deviations: the error is the noise of a pixel over its square root.

    Raises
    ------
    TypeError, ValueError
        Wrong dtype or shape.
    """
    check_float("image", image, 2)
    check_float("local", local, 2, image.shape)
    check_integer("mask", mask, 2, np.uint8, image.shape)
    inside = np.abs(image[(mask > 0) & np.isfinite(image)])
    clip = 5.0 * float(np.median(inside)) if inside.size else 0.0
    clip = max(clip, float(np.percentile(inside, 99.0)) if inside.size else 0.0)
    top, bottom = _halo_sums(image, local, mask, int(box[0]), int(box[1]), clip)
    return (float(top / bottom) if bottom > 0 else float("nan")), float(bottom)


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
