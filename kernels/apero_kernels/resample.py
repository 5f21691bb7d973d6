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
from apero_kernels.spline import TAPS, coefficients, prefilter_weights

IDENTITY = (0.0, 0.0, 1.0, 0.0, 0.0, 1.0)  # dx, dy, A, B, C, D
MINIMUM_VALIDITY = 0.5  # share of valid signal below which a pixel says nothing (reference)

_BAND = 96  # output rows worked on together: two planes of coefficients of 4088 columns take 4 MB
_BLOCK = 8  # output pixels that are always worked on together
_SPARE = 4 * _BAND  # rows of coefficients beyond those of one band
_OUTSIDE = -(2**31)  # no tap has that index


@kernel
def _shifts(displacement, row, out):
    if displacement.shape[0] > 0:
        for x in range(out.shape[0]):
            out[x] = displacement[row, x]


@kernel
def _reach(affine, dymap, y0, first, end, rows, low, high):
    # First and last input row that output rows first..end-1 may sample, a few more where the map changes from
    # row to row: the extremes of every column are found eight columns at a time, those of the affine part
    # lie at the ends of the band.  The last one is before the first one if all positions are outside.
    low[:] = np.inf if dymap.shape[0] > 0 else 0.0
    high[:] = -np.inf if dymap.shape[0] > 0 else 0.0
    if dymap.shape[0] > 0:
        for row in range(first, end):
            for x in range(low.shape[0]):
                shift = dymap[row, x]
                low[x] = shift if shift < low[x] else low[x]
                high[x] = shift if shift > high[x] else high[x]
    lowest = np.inf
    highest = -np.inf
    one = affine[5] * (y0 + first)
    other = affine[5] * (y0 + end - 1)
    for x in range(low.shape[0]):
        if low[x] <= high[x]:
            level = affine[1] + affine[4] * x
            lowest = min(lowest, level + min(one, other) + low[x])
            highest = max(highest, level + max(one, other) + high[x])
    # Rounding apart.
    lowest -= 0.01
    highest += 0.01
    if not (lowest <= rows - 1.0 and highest >= 0.0):
        return 0, -1
    return int(np.floor(max(lowest, 0.0) + 0.5)), int(np.floor(min(highest, rows - 1.0) + 0.5))


@kernel
def _run(spline, valid, stride, place, first, blocks, u, v, minimum, out):
    # Blocks of output pixels sample input pixels at one integer offset: neighbours stay neighbours.
    # `place` + x is the upper left tap of output pixel x; unsigned indices need no test for the sign.
    half = np.float32(0.5)
    most = np.float32(0.75)
    blank = np.float32(np.nan)
    shift = np.uint64(first)
    a = np.uint64(place + first)
    b = a + np.uint64(stride)
    c = b + np.uint64(stride)
    one = np.uint64(1)
    two = np.uint64(2)
    for x in range(np.uint64(blocks) * np.uint64(_BLOCK)):
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
def _split(affine, shift_x, shift_y, y, columns, rows, top, stride, place, u, v):
    # Where the taps of every output pixel lie: index of the upper left one less the output column (_OUTSIDE
    # = not in the frame), and how far the position lies from the nearest input pixel.  Coefficients of input
    # column x are at x + 1, the first tap lies one to the left of it.
    for x in range(shift_x.shape[0]):
        at_x = affine[0] + affine[2] * x + affine[3] * y + shift_x[x]
        at_y = affine[1] + affine[4] * x + affine[5] * y + shift_y[x]
        inside = (at_x >= 0.0) & (at_x <= columns - 1.0) & (at_y >= 0.0) & (at_y <= rows - 1.0)
        # Beyond 32 bits there is no frame.
        near_x = np.floor((at_x if inside else 0.0) + 0.5)
        near_y = np.floor((at_y if inside else 0.0) + 0.5)
        u[x] = at_x - near_x
        v[x] = at_y - near_y
        index = (np.int32(near_y) - np.int32(1 + top)) * np.int32(stride) + np.int32(near_x) - np.int32(x)
        place[x] = np.int32(index) if inside else np.int32(_OUTSIDE)


@kernel
def _resample(image, affine, dxmap, dymap, y0, minimum, out):
    rows, columns = image.shape
    height, width = out.shape
    stride = columns + 2
    taps = np.empty(TAPS + 1, np.float32)
    prefilter_weights(taps)
    shift_x = np.zeros(width)
    shift_y = np.zeros(width)
    lowest = np.empty(width, dymap.dtype)
    highest = np.empty(width, dymap.dtype)
    # Blocks at the end of a run go beyond it: what they write is written again by the next run.
    u = np.zeros(width + _BLOCK, np.float32)
    v = np.zeros(width + _BLOCK, np.float32)
    target = np.empty(width + _BLOCK, np.float32)
    place = np.empty(width, np.int32)
    room = 0
    base = 0
    have_end = -1
    spline = np.empty((0, 0), np.float32)
    spline_valid = np.empty((0, 0), np.float32)
    rowwise = np.empty((0, 0), np.float32)
    rowwise_valid = np.empty((0, 0), np.float32)
    for first in range(0, height, _BAND):
        end = min(first + _BAND, height)
        low, high = _reach(affine, dymap, y0, first, end, rows, lowest, highest)
        if high < low:
            out[first:end] = np.nan
            continue
        top = low - 1
        need = high + 2 - top
        # Bands overlap by as much as the rows of an order bend: rows filtered for the last one are kept, and
        # moved to the beginning only when there is no room behind them.
        kept = max(0, have_end - top) if base <= top else 0
        kept = min(kept, need)
        if need > room:
            room = need + _SPARE
            fresh = np.zeros((room + 1, stride), np.float32)
            fresh_valid = np.zeros((room + 1, stride), np.float32)
            for k in range(kept):
                fresh[k] = spline[top - base + k]
                fresh_valid[k] = spline_valid[top - base + k]
            spline = fresh
            spline_valid = fresh_valid
            rowwise = np.empty((need + _SPARE + 2 * TAPS, columns), np.float32)
            rowwise_valid = np.empty((need + _SPARE + 2 * TAPS, columns), np.float32)
            base = top
        elif kept == 0 or top + need - base > room:
            for k in range(kept):
                spline[k] = spline[top - base + k]
                spline_valid[k] = spline_valid[top - base + k]
            base = top
        if kept < need:
            at = top + kept - base
            coefficients(
                image, top + kept, top + need, taps, rowwise, rowwise_valid, spline[at:], spline_valid[at:]
            )
        have_end = top + need
        flat = spline.reshape(-1)
        flat_valid = spline_valid.reshape(-1)
        for row in range(first, end):
            _shifts(dxmap, row, shift_x)
            _shifts(dymap, row, shift_y)
            _split(affine, shift_x, shift_y, y0 + row, columns, rows, base, stride, place, u, v)
            start = 0
            while start < width:
                here = place[start]
                stop = start + 1
                while stop < width and place[stop] == here:
                    stop += 1
                if here == _OUTSIDE:
                    target[start:stop] = np.float32(np.nan)
                else:
                    blocks = (stop - start + _BLOCK - 1) // _BLOCK
                    _run(flat, flat_valid, stride, here, start, blocks, u, v, minimum, target)
                start = stop
            for x in range(width):
                out[row, x] = target[x]


@kernel
def _split_linear(affine, shift_x, shift_y, y, columns, rows, place, u, v):
    # As `_split`, for the pixel at the upper left; the last column and row have no pixel beyond them.
    for x in range(shift_x.shape[0]):
        at_x = affine[0] + affine[2] * x + affine[3] * y + shift_x[x]
        at_y = affine[1] + affine[4] * x + affine[5] * y + shift_y[x]
        inside = (at_x >= 0.0) & (at_x <= columns - 1.0) & (at_y >= 0.0) & (at_y <= rows - 1.0)
        low_x = min(np.floor(at_x if inside else 0.0), max(columns - 2.0, 0.0))
        low_y = min(np.floor(at_y if inside else 0.0), max(rows - 2.0, 0.0))
        u[x] = at_x - low_x
        v[x] = at_y - low_y
        index = np.int32(low_y) * np.int32(columns) + np.int32(low_x) - np.int32(x)
        place[x] = np.int32(index) if inside else np.int32(_OUTSIDE)


@kernel
def _run_linear(flat, place, right, below, first, stop, u, v, out):
    shift = np.uint64(first)
    a = np.uint64(place + first)
    b = a + np.uint64(right)
    c = a + np.uint64(below)
    d = c + np.uint64(right)
    for x in range(np.uint64(stop - first)):
        ux = u[shift + x]
        vx = v[shift + x]
        out[shift + x] = (1.0 - vx) * ((1.0 - ux) * flat[a + x] + ux * flat[b + x]) + vx * (
            (1.0 - ux) * flat[c + x] + ux * flat[d + x]
        )


@kernel
def _valid_mean(flat, a, b, c, d, u, v, minimum):
    value = 0.0
    valid = 0.0
    for weight, at in (((1.0 - v) * (1.0 - u), a), ((1.0 - v) * u, b), (v * (1.0 - u), c), (v * u, d)):
        here = np.float64(flat[at])
        if np.isfinite(here):
            value += weight * here
            valid += weight
    return value / valid if valid >= minimum and valid > 0.0 else np.nan


@kernel
def _resample_linear(image, affine, dxmap, dymap, y0, minimum, out):
    rows, columns = image.shape
    width = out.shape[1]
    flat = image.reshape(-1)
    shift_x = np.zeros(width)
    shift_y = np.zeros(width)
    u = np.empty(width)
    v = np.empty(width)
    target = np.empty(width)
    place = np.empty(width, np.int32)
    right = min(1, columns - 1)
    below = columns if rows > 1 else 0
    for row in range(out.shape[0]):
        _shifts(dxmap, row, shift_x)
        _shifts(dymap, row, shift_y)
        _split_linear(affine, shift_x, shift_y, y0 + row, columns, rows, place, u, v)
        start = 0
        while start < width:
            here = place[start]
            stop = start + 1
            while stop < width and place[stop] == here:
                stop += 1
            if here == _OUTSIDE:
                target[start:stop] = np.nan
            else:
                _run_linear(flat, here, right, below, start, stop, u, v, target)
                for x in range(start, stop):
                    if not np.isfinite(target[x]):
                        a = here + x
                        target[x] = _valid_mean(
                            flat, a, a + right, a + below, a + below + right, u[x], v[x], minimum
                        )
            start = stop
        for x in range(width):
            out[row, x] = target[x]


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
    _resample_linear(np.ascontiguousarray(image), vector, mx, my, int(first_row), MINIMUM_VALIDITY, out)


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
