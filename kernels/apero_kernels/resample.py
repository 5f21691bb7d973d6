"""Straighten an image: one quadratic-spline interpolation through an affine map and displacement maps.

Output pixel (x, y) samples the input at

    x' = dx + A x + B y + dxmap[y, x],    y' = dy + C x + D y + dymap[y, x].

The image (NaN as 0) and its validity (1 or 0) are interpolated alike; the result is their ratio, NaN where
the validity is below 0.5 or the position lies outside the frame.  Any range of output rows can be asked
for: only the input rows it needs are filtered.
"""

from __future__ import annotations

import numpy as np

from apero_kernels._jit import kernel
from apero_kernels.contracts import check_float, check_output

IDENTITY = (0.0, 0.0, 1.0, 0.0, 0.0, 1.0)  # dx, dy, A, B, C, D
MINIMUM_VALIDITY = 0.5  # share of valid signal below which a pixel says nothing (reference)

_POLE = np.sqrt(8.0) - 3.0  # of the quadratic spline prefilter: -0.17157
_TAPS = 9  # the impulse response beyond has a sum of 5e-8: below the last bit of float32
_BAND = 96  # output rows worked on together: two planes of coefficients of 4088 columns take 4 MB


@kernel
def _weights_of_prefilter(out):
    # Impulse response of the inverse of (1/8, 6/8, 1/8): sqrt(2) pole^|k|.
    for k in range(out.shape[0]):
        out[k] = np.sqrt(2.0) * _POLE**k


@kernel
def _mirror(i, n):
    if n == 1:
        return 0
    period = 2 * (n - 1)
    i = abs(i) % period
    return period - i if i >= n else i


@kernel
def _filter_line(padded, taps, out):
    # Pairs of equal weight from the outside in: small terms first.
    n = out.shape[0]
    for x in range(n):
        out[x] = taps[0] * padded[x + _TAPS]
    for k in range(1, _TAPS + 1):
        weight = taps[k]
        left = padded[_TAPS - k : _TAPS - k + n]
        right = padded[_TAPS + k : _TAPS + k + n]
        for x in range(n):
            out[x] += weight * (left[x] + right[x])


@kernel
def _add_pair(first, second, weight, out):
    for x in range(out.shape[0]):
        out[x] += weight * (first[x] + second[x])


@kernel
def _coefficients(image, first, end, taps, rowwise, rowwise_valid, spline, spline_valid):
    # Spline coefficients of input rows first..end-1, of the image and of its validity.
    rows, columns = image.shape
    padded = np.empty(columns + 2 * _TAPS, np.float32)
    padded_valid = np.empty(columns + 2 * _TAPS, np.float32)
    for k in range(end - first + 2 * _TAPS):
        y = _mirror(first - _TAPS + k, rows)
        holes = 0
        for x in range(columns):
            value = image[y, x]
            good = np.isfinite(value)
            padded[x + _TAPS] = value if good else 0.0
            padded_valid[x + _TAPS] = 1.0 if good else 0.0
            holes += not good
        for i in range(_TAPS):
            left = _mirror(i - _TAPS, columns) + _TAPS
            right = _mirror(columns + i, columns) + _TAPS
            padded[i] = padded[left]
            padded[columns + _TAPS + i] = padded[right]
            padded_valid[i] = padded_valid[left]
            padded_valid[columns + _TAPS + i] = padded_valid[right]
        _filter_line(padded, taps, rowwise[k])
        if holes:
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
    centre = rowwise[k + _TAPS]
    for x in range(columns):
        inner[x] = taps[0] * centre[x]
    for j in range(1, _TAPS + 1):
        _add_pair(rowwise[k + _TAPS - j], rowwise[k + _TAPS + j], taps[j], inner)
    # One mirrored column on either side: the taps of the outermost pixels.
    line[0] = inner[min(1, columns - 1)]
    line[columns + 1] = inner[max(columns - 2, 0)]


@kernel
def _positions(affine, dxmap, dymap, y, row, xs, ys):
    for x in range(xs.shape[0]):
        xs[x] = affine[0] + affine[2] * x + affine[3] * y
        ys[x] = affine[1] + affine[4] * x + affine[5] * y
    if dxmap.shape[0] > 0:
        for x in range(xs.shape[0]):
            xs[x] += dxmap[row, x]
    if dymap.shape[0] > 0:
        for x in range(xs.shape[0]):
            ys[x] += dymap[row, x]


@kernel
def _reach(affine, dxmap, dymap, y0, first, end, rows, xs, ys):
    # First and last input row that output rows first..end-1 sample.
    low = float(rows)
    high = -1.0
    for row in range(first, end):
        _positions(affine, dxmap, dymap, y0 + row, row, xs, ys)
        for x in range(ys.shape[0]):
            if 0.0 <= ys[x] <= rows - 1.0:
                low = min(low, ys[x])
                high = max(high, ys[x])
    return low, high


@kernel
def _run(spline, valid, stride, place, first, end, u, v, minimum, out):
    # Output pixels first..end-1 sample input pixels at one integer offset: neighbours stay neighbours.
    # `place` + x is the upper left tap of output pixel x; unsigned indices need no test for the sign.
    half = np.float32(0.5)
    most = np.float32(0.75)
    blank = np.float32(np.nan)
    n = np.uint64(end - first)
    shift = np.uint64(first)
    a = np.uint64(place + first)
    b = a + np.uint64(stride)
    c = b + np.uint64(stride)
    one = np.uint64(1)
    two = np.uint64(2)
    for x in range(n):
        ux = u[shift + x]
        vx = v[shift + x]
        x0 = half * (half - ux) * (half - ux)
        x1 = most - ux * ux
        x2 = half * (half + ux) * (half + ux)
        y0 = half * (half - vx) * (half - vx)
        y1 = most - vx * vx
        y2 = half * (half + vx) * (half + vx)
        value = (
            y0 * (x0 * spline[a + x] + x1 * spline[a + x + one] + x2 * spline[a + x + two])
            + y1 * (x0 * spline[b + x] + x1 * spline[b + x + one] + x2 * spline[b + x + two])
            + y2 * (x0 * spline[c + x] + x1 * spline[c + x + one] + x2 * spline[c + x + two])
        )
        share = (
            y0 * (x0 * valid[a + x] + x1 * valid[a + x + one] + x2 * valid[a + x + two])
            + y1 * (x0 * valid[b + x] + x1 * valid[b + x + one] + x2 * valid[b + x + two])
            + y2 * (x0 * valid[c + x] + x1 * valid[c + x + one] + x2 * valid[c + x + two])
        )
        out[shift + x] = value / share if share >= minimum else blank


@kernel
def _split(xs, ys, columns, rows, offset, line, u, v):
    # Nearest input pixel: its offset from the output column, its row (-1 = outside the frame), and how far
    # the position lies from it.
    for x in range(xs.shape[0]):
        inside = 0.0 <= xs[x] <= columns - 1.0 and 0.0 <= ys[x] <= rows - 1.0
        xi = np.floor(xs[x] + 0.5)
        yi = np.floor(ys[x] + 0.5)
        u[x] = xs[x] - xi
        v[x] = ys[x] - yi
        offset[x] = int(xi) - x if inside else 0
        line[x] = int(yi) if inside else -1


@kernel
def _resample(image, affine, dxmap, dymap, y0, minimum, out):
    rows, columns = image.shape
    height, width = out.shape
    stride = columns + 2
    taps = np.empty(_TAPS + 1, np.float32)
    _weights_of_prefilter(taps)
    xs = np.empty(width)
    ys = np.empty(width)
    u = np.empty(width, np.float32)
    v = np.empty(width, np.float32)
    offset = np.empty(width, np.int64)
    line = np.empty(width, np.int64)
    target = np.empty(width, np.float32)
    room = 0
    have_first = 0
    have_end = -1
    spline = np.empty((0, 0), np.float32)
    spline_valid = np.empty((0, 0), np.float32)
    rowwise = np.empty((0, 0), np.float32)
    rowwise_valid = np.empty((0, 0), np.float32)
    for first in range(0, height, _BAND):
        end = min(first + _BAND, height)
        low, high = _reach(affine, dxmap, dymap, y0, first, end, rows, xs, ys)
        if high < low:
            out[first:end] = np.nan
            continue
        top = int(np.floor(low + 0.5)) - 1
        need = int(np.floor(high + 0.5)) + 2 - top
        # Bands overlap by as much as the rows of an order bend: rows filtered for the last one are kept.
        kept = max(0, have_end - top) if have_first <= top else 0
        kept = min(kept, need)
        if need > room:
            room = need + _BAND
            fresh = np.empty((room, stride), np.float32)
            fresh_valid = np.empty((room, stride), np.float32)
            for k in range(kept):
                fresh[k] = spline[top - have_first + k]
                fresh_valid[k] = spline_valid[top - have_first + k]
            spline = fresh
            spline_valid = fresh_valid
            rowwise = np.empty((room + 2 * _TAPS, columns), np.float32)
            rowwise_valid = np.empty((room + 2 * _TAPS, columns), np.float32)
        elif top > have_first:
            for k in range(kept):
                spline[k] = spline[top - have_first + k]
                spline_valid[k] = spline_valid[top - have_first + k]
        if kept < need:
            _coefficients(
                image,
                top + kept,
                top + need,
                taps,
                rowwise,
                rowwise_valid,
                spline[kept:],
                spline_valid[kept:],
            )
        have_first = top
        have_end = top + need
        flat = spline.reshape(-1)
        flat_valid = spline_valid.reshape(-1)
        for row in range(first, end):
            _positions(affine, dxmap, dymap, y0 + row, row, xs, ys)
            _split(xs, ys, columns, rows, offset, line, u, v)
            start = 0
            while start < width:
                stop = start + 1
                while stop < width and line[stop] == line[start] and offset[stop] == offset[start]:
                    stop += 1
                if line[start] < 0:
                    target[start:stop] = np.float32(np.nan)
                else:
                    # Input column x is column x + 1 here, and the first tap lies one to the left of it.
                    place = (line[start] - 1 - top) * stride + offset[start]
                    _run(flat, flat_valid, stride, place, start, stop, u, v, minimum, target)
                start = stop
            for x in range(width):
                out[row, x] = target[x]


@kernel
def _resample_linear(image, affine, dxmap, dymap, y0, minimum, out):
    rows, columns = image.shape
    width = out.shape[1]
    xs = np.empty(width)
    ys = np.empty(width)
    for row in range(out.shape[0]):
        _positions(affine, dxmap, dymap, y0 + row, row, xs, ys)
        for x in range(width):
            if not (0.0 <= xs[x] <= columns - 1.0 and 0.0 <= ys[x] <= rows - 1.0):
                out[row, x] = np.nan
                continue
            i = min(int(xs[x]), max(columns - 2, 0))
            j = min(int(ys[x]), max(rows - 2, 0))
            right = min(i + 1, columns - 1)
            below = min(j + 1, rows - 1)
            u = xs[x] - i
            v = ys[x] - j
            a = np.float64(image[j, i])
            b = np.float64(image[j, right])
            c = np.float64(image[below, i])
            d = np.float64(image[below, right])
            value = (1.0 - v) * ((1.0 - u) * a + u * b) + v * ((1.0 - u) * c + u * d)
            if np.isfinite(a + b + c + d):
                out[row, x] = value
                continue
            value = 0.0
            valid = 0.0
            for weight, here in (
                ((1.0 - v) * (1.0 - u), a), ((1.0 - v) * u, b), (v * (1.0 - u), c), (v * u, d),
            ):  # fmt: skip
                if np.isfinite(here):
                    value += weight * here
                    valid += weight
            out[row, x] = value / valid if valid >= minimum and valid > 0.0 else np.nan


def _checked(
    image: np.ndarray,
    affine: np.ndarray | tuple[float, ...],
    out: np.ndarray,
    first_row: int,
    dxmap: np.ndarray | None,
    dymap: np.ndarray | None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    check_float("image", image, 2)
    check_float("out", out, 2)
    check_output("out", out, out.shape)
    vector = np.asarray(affine, np.float64)
    if vector.shape != (6,) or not np.isfinite(vector).all():
        raise ValueError(f"affine: {vector}, expected six finite numbers (dx, dy, A, B, C, D)")
    if image.size == 0:
        raise ValueError("image: no pixels")
    if np.may_share_memory(image, out):
        raise ValueError("out shares memory with image; pass an array of its own")
    maps = []
    for name, displacement in (("dxmap", dxmap), ("dymap", dymap)):
        if displacement is None:
            maps.append(np.empty((0, 0), np.float32))
            continue
        check_float(name, displacement, 2)
        rows = displacement.shape[0]
        if displacement.shape[1] != out.shape[1] or first_row < 0 or first_row + out.shape[0] > rows:
            raise ValueError(
                f"{name}: shape {displacement.shape} does not hold output rows {first_row} to "
                f"{first_row + out.shape[0]} of {out.shape[1]} columns"
            )
        maps.append(displacement[first_row : first_row + out.shape[0]])
    return vector, maps[0], maps[1]


def resample(
    image: np.ndarray,
    affine: np.ndarray | tuple[float, ...],
    out: np.ndarray,
    *,
    first_row: int = 0,
    dxmap: np.ndarray | None = None,
    dymap: np.ndarray | None = None,
) -> None:
    """Write rows of the straightened image.

    Parameters
    ----------
    image : floating[y, x]
        Calibrated frame; what is not finite is not valid.
    affine : float64[6]
        dx, dy, A, B, C, D.
    out : floating[row, x]
        Written: output rows `first_row` and following.
    first_row : int
        Output row of ``out[0]``.
    dxmap, dymap : floating[y, x], optional
        Displacements (px) of the whole output image; NaN there makes the pixel NaN.

    Raises
    ------
    TypeError, ValueError
        Wrong dtype or shape, an affine vector that is not six finite numbers.

    Notes
    -----
    Quadratic B-spline through the samples (Unser, Aldroubi & Eden 1993, IEEE Trans. Signal Proc. 41, 821),
    mirrored at the edges; the recursive prefilter is applied as its impulse response, cut where it falls
    below float32.  Arithmetic in float32: results are right to some 1e-6 of the largest neighbour.
    """
    vector, mx, my = _checked(image, affine, out, first_row, dxmap, dymap)
    _resample(image, vector, mx, my, int(first_row), np.float32(MINIMUM_VALIDITY), out)


def resample_linear(
    image: np.ndarray,
    affine: np.ndarray | tuple[float, ...],
    out: np.ndarray,
    *,
    first_row: int = 0,
    dxmap: np.ndarray | None = None,
    dymap: np.ndarray | None = None,
) -> None:
    """Write rows of the straightened image by linear interpolation; arguments as `resample`.

    For variances: they stay positive, and keep the level of the input.  A resampled pixel has less
    noise than that, but its noise is shared with its neighbours; for sums over a profile the two cancel.

    Raises
    ------
    TypeError, ValueError
        As `resample`.
    """
    vector, mx, my = _checked(image, affine, out, first_row, dxmap, dymap)
    _resample_linear(image, vector, mx, my, int(first_row), MINIMUM_VALIDITY, out)


def invert_affine(affine: np.ndarray | tuple[float, ...]) -> np.ndarray:
    """Return the vector of the inverse map, float64[6].

    Raises
    ------
    ValueError
        The matrix is singular.
    """
    dx, dy, a, b, c, d = (float(v) for v in affine)
    determinant = a * d - b * c
    if not abs(determinant) > 1e-12:
        raise ValueError(f"affine: matrix ({a}, {b}, {c}, {d}) is singular")
    matrix = np.array([[d, -b], [-c, a]]) / determinant
    shift = -matrix @ np.array([dx, dy])
    return np.array([*shift, *matrix.ravel()])


def compose_affine(first: np.ndarray | tuple[float, ...], then: np.ndarray | tuple[float, ...]) -> np.ndarray:
    """Return the vector of "apply `first` to a position, then `then`", float64[6]."""
    d1, m1 = np.array(first[:2], float), np.array(first[2:], float).reshape(2, 2)
    d2, m2 = np.array(then[:2], float), np.array(then[2:], float).reshape(2, 2)
    return np.array([*(d2 + m2 @ d1), *(m2 @ m1).ravel()])
