"""The halo of scattered light around the orders: the image itself, blurred, times a small amplitude."""

from __future__ import annotations

import numpy as np

from apero_kernels._jit import kernel
from apero_kernels.contracts import check_float, check_integer, check_output, check_positive
from apero_kernels.robust import median_in_place

TRUNCATE = 3.0  # widths at which a Gaussian is cut


@kernel
def _fill_rows(image, out):
    # What is not finite takes the value on the straight line between its neighbours in the row.
    rows, columns = image.shape
    for y in range(rows):
        line = out[y]
        for x in range(columns):
            line[x] = image[y, x]
        x = 0
        while x < columns:
            if np.isfinite(line[x]):
                x += 1
                continue
            end = x + 1
            while end < columns and not np.isfinite(line[end]):
                end += 1
            for i in range(x, end):
                if x == 0:
                    line[i] = line[end] if end < columns else 0.0
                elif end == columns:
                    line[i] = line[x - 1]
                else:
                    share = (i - x + 1) / (end - x + 1)
                    line[i] = (1.0 - share) * image[y, x - 1] + share * image[y, end]
            x = end


@kernel
def add_scaled(source, weight, target):
    for x in range(target.shape[0]):
        target[x] += weight * source[x]


@kernel
def _add_four(a, b, c, d, weights, target):
    # Four sources at a time: the sum is read and written a quarter as often.
    u, v, w, z = weights[0], weights[1], weights[2], weights[3]
    for x in range(target.shape[0]):
        target[x] = target[x] + u * a[x] + v * b[x] + w * c[x] + z * d[x]


@kernel
def _blur(image, weights_y, weights_x, out):
    rows, columns = image.shape
    ny = weights_y.shape[0]
    nx = weights_x.shape[0]
    half_y = ny // 2
    half_x = nx // 2
    line = np.empty(columns + 2 * half_x, np.float32)
    target = np.empty(columns, np.float32)
    for y in range(rows):
        line[:] = 0.0
        centre = line[half_x : half_x + columns]
        # Beyond the frame the image continues with its edge.
        top = y - half_y
        k = 0
        while k + 4 <= ny:
            _add_four(
                image[min(max(top + k, 0), rows - 1)],
                image[min(max(top + k + 1, 0), rows - 1)],
                image[min(max(top + k + 2, 0), rows - 1)],
                image[min(max(top + k + 3, 0), rows - 1)],
                weights_y[k : k + 4],
                centre,
            )
            k += 4
        while k < ny:
            add_scaled(image[min(max(top + k, 0), rows - 1)], weights_y[k], centre)
            k += 1
        line[:half_x] = line[half_x]
        line[half_x + columns :] = line[half_x + columns - 1]
        target[:] = 0.0
        k = 0
        while k + 4 <= nx:
            _add_four(
                line[k : k + columns],
                line[k + 1 : k + 1 + columns],
                line[k + 2 : k + 2 + columns],
                line[k + 3 : k + 3 + columns],
                weights_x[k : k + 4],
                target,
            )
            k += 4
        while k < nx:
            add_scaled(line[k : k + columns], weights_x[k], target)
            k += 1
        for x in range(columns):
            out[y, x] = target[x]


@kernel
def _sees_order(image, local, y, x, start, middle, limit, guard):
    for row in range(max(0, y - guard), min(image.shape[0], y + guard + 1)):
        if image[row, x] - start * local[row, x] - middle > limit:
            return True
    return False


@kernel
def _halo_sums(image, local, mask, box_y, box_x, start, limit, guard):
    rows, columns = image.shape
    top = 0.0
    bottom = 0.0
    rest = np.empty(box_y * box_x, np.float64)
    deviation = np.empty(box_y * box_x, np.float64)
    for y0 in range(0, rows, box_y):
        for x0 in range(0, columns, box_x):
            n = 0
            for y in range(y0, min(y0 + box_y, rows)):
                for x in range(x0, min(x0 + box_x, columns)):
                    if mask[y, x] and np.isfinite(image[y, x]):
                        rest[n] = image[y, x] - start * local[y, x]
                        n += 1
            if n < 10:
                continue
            middle = median_in_place(rest, n)
            m = 0
            mean_r = 0.0
            mean_l = 0.0
            for y in range(y0, min(y0 + box_y, rows)):
                for x in range(x0, min(x0 + box_x, columns)):
                    if mask[y, x] and np.isfinite(image[y, x]):
                        value = image[y, x] - start * local[y, x]
                        if middle - value > limit or _sees_order(
                            image, local, y, x, start, middle, limit, guard
                        ):
                            continue
                        rest[m] = value
                        deviation[m] = local[y, x]
                        mean_r += rest[m]
                        mean_l += deviation[m]
                        m += 1
            if m < 10:
                continue
            mean_r /= m
            mean_l /= m
            for i in range(m):
                top += (deviation[i] - mean_l) * (rest[i] - mean_r)
                bottom += (deviation[i] - mean_l) ** 2
    return top, bottom


@kernel
def _inner_background(mask, reach, least, out):
    rows, columns = mask.shape
    for y in range(rows):
        count = 0
        for x in range(min(reach, columns)):
            count += mask[y, x]
        for x in range(columns):
            if x + reach < columns:
                count += mask[y, x + reach]
            if x - reach - 1 >= 0:
                count -= mask[y, x - reach - 1]
            out[y, x] = 1 if count - mask[y, x] >= least else 0
    # The row above is needed as it was: walk down and keep one line.
    above = np.zeros(columns, np.uint8)
    here = np.empty(columns, np.uint8)
    for y in range(rows):
        here[:] = out[y]
        for x in range(columns):
            below = out[y + 1, x] if y + 1 < rows else np.uint8(0)
            out[y, x] = here[x] & above[x] & below
        above[:] = here


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
    return (weights / weights.sum()).astype(np.float32)


def inner_background(mask: np.ndarray, out: np.ndarray, reach: int = 10, least: int = 6) -> None:
    """Choose background pixels by their neighbours alone.

    A pixel that was called background because it was low in a flat is low in that flat, and the outermost
    ones see the wings of an order.  Here a pixel counts whose row has enough background around it, whatever
    it is itself, if the same holds for the pixels above and below.

    Parameters
    ----------
    mask : uint8[y, x]
        1 = background.
    out : uint8[y, x]
        Written; may not share memory with `mask`.
    reach : int
        Columns on either side that are looked at.
    least : int
        Background pixels wanted among them.

    Raises
    ------
    TypeError, ValueError
        Wrong dtype or shape, memory shared, a number below 1.
    """
    check_integer("mask", mask, 2, np.uint8)
    check_output("out", out, mask.shape, np.uint8)
    if np.may_share_memory(mask, out):
        raise ValueError("out shares memory with mask; pass an array of its own")
    if reach < 1 or least < 1:
        raise ValueError(f"reach: {reach}, least: {least}, expected 1 or more")
    _inner_background(mask, int(reach), int(least), out)


def halo_amplitude(
    image: np.ndarray,
    local: np.ndarray,
    mask: np.ndarray,
    box: tuple[int, int] = (32, 32),
    *,
    start: float = 0.0,
    limit: float = np.inf,
    guard: int = 2,
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
    start : float
        Amplitude expected.
    limit : float
        A pixel that is off by more from the median of its box, the halo expected subtracted, is left out.
        The distance is counted without the halo: a limit on the pixels themselves would cut the brightest
        halo and lower the slope.
    guard : int
        A pixel is left out as well if one of so many above or below it is too bright: the edge of an order,
        whose wings reach it.

    Returns
    -------
    amplitude : float
        NaN without background pixels.
    leverage : float
        Sum of squared deviations: the error is the noise of a pixel over its square root.

    Raises
    ------
    TypeError, ValueError
        Wrong dtype or shape, box sizes below 1, `limit` not positive.
    """
    check_float("image", image, 2)
    check_float("local", local, 2, image.shape)
    check_integer("mask", mask, 2, np.uint8, image.shape)
    if min(box) < 1 or not limit > 0 or guard < 0:
        raise ValueError(
            f"box: {box}, limit: {limit}, guard: {guard}; expected sizes of 1 or more, a limit above 0"
        )
    top, bottom = _halo_sums(
        image, local, mask, int(box[0]), int(box[1]), float(start), float(limit), int(guard)
    )
    return (float(start + top / bottom) if bottom > 0 else float("nan")), float(bottom)
