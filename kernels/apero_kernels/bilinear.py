"""Bilinear interpolation through an affine map and displacement maps: loops of `resample.resample_linear`."""

from __future__ import annotations

import numpy as np

from apero_kernels._jit import kernel

_NOWHERE = -(2**31)  # no distance between pixels


@kernel
def row_of_map(displacement, row, x0, out):
    """Copy columns x0.. of a row of a map; an empty map leaves what is there."""
    if displacement.shape[0] > 0:
        part = displacement[row, x0 : x0 + out.shape[0]]
        for x in range(out.shape[0]):
            out[x] = np.float32(part[x])


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
        place[x] = np.int32(index) if inside else np.int32(_NOWHERE)


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
def resample_bilinear(image, affine, dxmap, dymap, y0, minimum, out):
    """Write output rows y0.. as `resample.resample_linear` describes; beside holes from what is valid."""
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
        row_of_map(dxmap, row, 0, shift_x)
        row_of_map(dymap, row, 0, shift_y)
        _split_linear(affine, shift_x, shift_y, y0 + row, columns, rows, place, u, v)
        start = 0
        while start < width:
            here = place[start]
            stop = start + 1
            while stop < width and place[stop] == here:
                stop += 1
            if here == _NOWHERE:
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
