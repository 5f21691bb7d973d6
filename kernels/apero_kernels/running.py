"""Medians of a moving footprint along the rows of an image.

Positions of the footprint beyond the frame and NaN take no part; a footprint without a value gives NaN.
"""

from __future__ import annotations

import numpy as np

from apero_kernels._jit import kernel
from apero_kernels.contracts import check_float, check_integer, check_output
from apero_kernels.robust import LANES, sort_lanes, sorted_median

SEVEN = (-3, -2, -1, 0, 1, 2, 3)  # running median of 7, bad-pixel recipe
EIGHT = (-4, -3, -2, -1, 1, 2, 3, 4)  # neighbours without the centre, dark recipe
ELEVEN = (-5, -4, -3, -2, -1, 0, 1, 2, 3, 4, 5)  # running median of 11, order profile


@kernel
def _low(a, b):
    return a if a < b else b


@kernel
def _high(a, b):
    return b if a < b else a


@kernel
def _sorted_three(a, b, c):
    a, b = _low(a, b), _high(a, b)
    b, c = _low(b, c), _high(b, c)
    a, b = _low(a, b), _high(a, b)
    return a, b, c


@kernel
def _sorted_four(a, b, c, d):
    a, b = _low(a, b), _high(a, b)
    c, d = _low(c, d), _high(c, d)
    a, c = _low(a, c), _high(a, c)
    b, d = _low(b, d), _high(b, d)
    b, c = _low(b, c), _high(b, c)
    return a, b, c, d


@kernel
def _middle_of_seven(a, b, c, d, e, f, g):
    a, b, c, d = _sorted_four(a, b, c, d)
    e, f, g = _sorted_three(e, f, g)
    # The 4th smallest of both: the least, over 4 = i + j, of max(i-th of the four, j-th of the three).
    return _low(_low(d, _high(c, e)), _low(_high(b, f), _high(a, g)))


@kernel
def _middle_of_eight(a, b, c, d, e, f, g, h):
    a, b, c, d = _sorted_four(a, b, c, d)
    e, f, g, h = _sorted_four(e, f, g, h)
    # The four smallest of two sorted fours are the pairwise minima against the reversed second four.
    low = _high(_high(_low(a, h), _low(b, g)), _high(_low(c, f), _low(d, e)))
    high = _low(_low(_high(a, h), _high(b, g)), _low(_high(c, f), _high(d, e)))
    return low, high


@kernel
def _middle_of_eleven(a, b, c, d, e, f, g, h, i, j, k):
    a, b, c, d = _sorted_four(a, b, c, d)
    e, f, g, h = _sorted_four(e, f, g, h)
    # Ranks 2 to 5 of the eight: each set of pairwise minima or maxima rises and falls once, so comparing
    # halves leaves the two largest of the lower and the two smallest of the upper four.
    m, n = _high(_low(a, h), _low(c, f)), _high(_low(b, g), _low(d, e))
    second, third = _low(m, n), _high(m, n)
    m, n = _low(_high(a, h), _high(c, f)), _low(_high(b, g), _high(d, e))
    fourth, fifth = _low(m, n), _high(m, n)
    # Two more values: ranks 4 and 5 of the ten; the last one falls below, between or above them.
    i, j = _low(i, j), _high(i, j)
    low = _low(fourth, _low(_high(third, i), _high(second, j)))
    high = _low(fifth, _low(_high(fourth, i), _high(third, j)))
    return _high(low, _low(k, high))


@kernel
def _recompute(row, x, offsets, values):
    n = 0
    for k in range(offsets.shape[0]):
        i = x + offsets[k]
        if 0 <= i < row.shape[0] and not np.isnan(row[i]):
            value = row[i]
            j = n
            while j > 0 and values[j - 1] > value:
                values[j] = values[j - 1]
                j -= 1
            values[j] = value
            n += 1
    if n == 0:
        return np.nan
    k = (n - 1) >> 1
    lower = np.float64(values[k])
    if n & 1 or values[k + 1] == lower:
        return lower
    return 0.5 * (lower + np.float64(values[k + 1]))


@kernel
def _running_seven(row, out):
    for x in range(3, row.shape[0] - 3):
        out[x] = _middle_of_seven(
            row[x - 3], row[x - 2], row[x - 1], row[x], row[x + 1], row[x + 2], row[x + 3]
        )


@kernel
def _running_eight(row, out):
    half = row.dtype.type(0.5)
    for x in range(4, row.shape[0] - 4):
        low, high = _middle_of_eight(
            row[x - 4], row[x - 3], row[x - 2], row[x - 1], row[x + 1], row[x + 2], row[x + 3], row[x + 4]
        )
        out[x] = half * low + half * high


@kernel
def _running_eleven(row, out):
    for x in range(5, row.shape[0] - 5):
        out[x] = _middle_of_eleven(
            row[x - 5], row[x - 4], row[x - 3], row[x - 2], row[x - 1], row[x], row[x + 1], row[x + 2],
            row[x + 3], row[x + 4], row[x + 5],
        )  # fmt: skip


@kernel
def _fixed_rows(image, offsets, out):
    rows, columns = image.shape
    count = offsets.shape[0]
    reach = offsets[count - 1]
    source = np.empty(columns, image.dtype)
    target = np.empty(columns, image.dtype)
    values = np.empty(count, image.dtype)
    for y in range(rows):
        for x in range(columns):
            source[x] = image[y, x]
        if count == 7:
            _running_seven(source, target)
        elif count == 8:
            _running_eight(source, target)
        else:
            _running_eleven(source, target)
        # The networks know neither NaN nor edges: redo every footprint that meets one.
        last = -1
        for x in range(min(reach, columns)):
            if np.isnan(source[x]):
                last = x + reach
        for x in range(columns):
            ahead = x + reach
            if ahead >= columns or np.isnan(source[ahead]):
                last = max(last, x + 2 * reach)
            if x < reach or x <= last:
                target[x] = _recompute(source, x, offsets, values)
        for x in range(columns):
            out[y, x] = target[x]


@kernel
def _running_rows(image, offsets, out):
    rows, columns = image.shape
    count = offsets.shape[0]
    buffer = np.empty((count, LANES), image.dtype)
    used = np.empty(LANES, np.int64)
    blank = image.dtype.type(np.inf)
    for y in range(rows):
        for x0 in range(0, columns, LANES):
            width = min(LANES, columns - x0)
            used[:] = 0
            for k in range(count):
                for lane in range(LANES):
                    x = x0 + lane + offsets[k]
                    if lane < width and 0 <= x < columns and not np.isnan(image[y, x]):
                        buffer[k, lane] = image[y, x]
                        used[lane] += 1
                    else:
                        buffer[k, lane] = blank
            sort_lanes(buffer, count)
            for lane in range(width):
                out[y, x0 + lane] = sorted_median(buffer, lane, used[lane])


def running_median(image: np.ndarray, offsets: np.ndarray, out: np.ndarray) -> None:
    """Write the median of each pixel's footprint along x.

    Parameters
    ----------
    image : float32 or float64[y, x]
        NaN takes no part.
    offsets : int64[k]
        Footprint: positions relative to the pixel, rising.  `SEVEN` and `EIGHT` are the fast ones.
    out : floating[y, x]
        Written; may not share memory with `image`.

    Raises
    ------
    TypeError, ValueError
        Wrong dtype or shape, offsets empty or not rising, `out` overlapping `image`.
    """
    check_float("image", image, 2)
    check_integer("offsets", offsets, 1, np.int64)
    check_output("out", out, image.shape)
    if offsets.size == 0 or np.any(np.diff(offsets) <= 0):
        raise ValueError(f"offsets: {offsets.tolist()}, expected rising positions, at least one")
    if np.may_share_memory(image, out):
        raise ValueError("out shares memory with image; pass an array of its own")
    if tuple(offsets) in (SEVEN, EIGHT, ELEVEN):
        _fixed_rows(image, offsets, out)
    else:
        _running_rows(image, offsets, out)
