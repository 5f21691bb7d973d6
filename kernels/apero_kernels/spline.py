"""Coefficients of the quadratic B-spline through the pixels of an image with holes.

The recursive prefilter is applied as its impulse response: rows can then be filtered in any number and order
with the same result (Unser, Aldroubi & Eden 1993, IEEE Trans. Signal Proc. 41, 821).
"""

from __future__ import annotations

import numpy as np

from apero_kernels._jit import kernel

_POLE = np.sqrt(8.0) - 3.0  # of the quadratic spline prefilter: -0.17157
TAPS = 9  # the impulse response beyond has a sum of 5e-8: below the last bit of float32


@kernel
def prefilter_weights(out):
    # Impulse response of the inverse of (1/8, 6/8, 1/8): sqrt(2) pole^|k|.
    for k in range(out.shape[0]):
        out[k] = np.sqrt(2.0) * _POLE**k


@kernel
def mirrored(i, n):
    if n == 1:
        return 0
    period = 2 * (n - 1)
    i = abs(i) % period
    return period - i if i >= n else i


@kernel
def _filter_line(padded, taps, out):
    # The nine pairs of equal weight in one sum: the line is read and written once.
    a, b, c, d, e = taps[0], taps[1], taps[2], taps[3], taps[4]
    f, g, h, i, j = taps[5], taps[6], taps[7], taps[8], taps[9]
    for x in range(out.shape[0]):
        out[x] = (
            a * padded[x + 9]
            + b * (padded[x + 8] + padded[x + 10])
            + c * (padded[x + 7] + padded[x + 11])
            + d * (padded[x + 6] + padded[x + 12])
            + e * (padded[x + 5] + padded[x + 13])
            + f * (padded[x + 4] + padded[x + 14])
            + g * (padded[x + 3] + padded[x + 15])
            + h * (padded[x + 2] + padded[x + 16])
            + i * (padded[x + 1] + padded[x + 17])
            + j * (padded[x] + padded[x + 18])
        )


@kernel
def _first_pairs(centre, a, b, c, d, weights, out):
    u, v, w = weights[0], weights[1], weights[2]
    for x in range(out.shape[0]):
        out[x] = u * centre[x] + v * (a[x] + b[x]) + w * (c[x] + d[x])


@kernel
def _add_pairs(a, b, c, d, weights, out):
    v, w = weights[0], weights[1]
    for x in range(out.shape[0]):
        out[x] = out[x] + v * (a[x] + b[x]) + w * (c[x] + d[x])


@kernel
def _add_pair(a, b, weight, out):
    for x in range(out.shape[0]):
        out[x] += weight * (a[x] + b[x])


@kernel
def coefficients(image, first, end, taps, rowwise, rowwise_valid, spline, spline_valid):
    # Spline coefficients of input rows first..end-1, of the image and of its validity.
    rows, columns = image.shape
    padded = np.empty(columns + 2 * TAPS, np.float32)
    padded_valid = np.empty(columns + 2 * TAPS, np.float32)
    for k in range(end - first + 2 * TAPS):
        y = mirrored(first - TAPS + k, rows)
        holes = np.int32(0)
        for x in range(columns):
            value = image[y, x]
            good = abs(value) < np.inf
            padded[x + TAPS] = value if good else np.float32(0.0)
            padded_valid[x + TAPS] = np.float32(1.0) if good else np.float32(0.0)
            holes = np.int32(holes + (np.int32(0) if good else np.int32(1)))
        for i in range(TAPS):
            left = mirrored(i - TAPS, columns) + TAPS
            right = mirrored(columns + i, columns) + TAPS
            padded[i] = padded[left]
            padded[columns + TAPS + i] = padded[right]
            padded_valid[i] = padded_valid[left]
            padded_valid[columns + TAPS + i] = padded_valid[right]
        _filter_line(padded, taps, rowwise[k])
        if holes > 0:
            _filter_line(padded_valid, taps, rowwise_valid[k])
        else:
            rowwise_valid[k, :] = 1.0
    for k in range(end - first):
        _filter_columns(rowwise, k, taps, spline[k])
        _filter_columns(rowwise_valid, k, taps, spline_valid[k])


@kernel
def _filter_columns(rowwise, k, taps, line):
    columns = rowwise.shape[1]
    inner = line[1 : columns + 1]
    m = k + TAPS
    # Two pairs at a time: more lines at once are too many for the compiler to tell apart.
    _first_pairs(rowwise[m], rowwise[m - 1], rowwise[m + 1], rowwise[m - 2], rowwise[m + 2], taps[:3], inner)
    for j in range(3, TAPS, 2):
        _add_pairs(
            rowwise[m - j], rowwise[m + j], rowwise[m - j - 1], rowwise[m + j + 1], taps[j : j + 2], inner
        )
    _add_pair(rowwise[m - TAPS], rowwise[m + TAPS], taps[TAPS], inner)
    # One mirrored column on either side: the taps of the outermost pixels.
    line[0] = inner[min(1, columns - 1)]
    line[columns + 1] = inner[max(columns - 2, 0)]
