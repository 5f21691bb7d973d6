"""Medians along rows, columns and boxes of an image; NaN takes no part.

Medians over columns and boxes may look at every `step`-th row only: the patterns they measure are far
larger than the error of a median of a few hundred values, and the work falls by `step`.
"""

from __future__ import annotations

import numpy as np

from apero_kernels._jit import kernel
from apero_kernels.contracts import check_float, check_output
from apero_kernels.robust import median_in_place, pack_finite

_STRIP = 16  # columns gathered together: one cache line of float32


@kernel
def _row_medians(image, out):
    scratch = np.empty(image.shape[1], image.dtype)
    for y in range(image.shape[0]):
        out[y] = median_in_place(scratch, pack_finite(image[y], scratch))


@kernel
def _block_column_medians(image, block_rows, step, out):
    rows, columns = image.shape
    room = (min(block_rows, rows) + step - 1) // step
    strip = np.empty((_STRIP, room), image.dtype)
    used = np.empty(_STRIP, np.int64)
    for block in range(out.shape[0]):
        first = block * block_rows
        end = min(first + block_rows, rows)
        for x0 in range(0, columns, _STRIP):
            width = min(_STRIP, columns - x0)
            used[:] = 0
            for y in range(first, end, step):
                for i in range(width):
                    value = image[y, x0 + i]
                    if not np.isnan(value):
                        strip[i, used[i]] = value
                        used[i] += 1
            for i in range(width):
                out[block, x0 + i] = median_in_place(strip[i], used[i])


@kernel
def _box_medians(image, box_rows, box_columns, step, out):
    rows, columns = image.shape
    scratch = np.empty(((box_rows + step - 1) // step) * box_columns, image.dtype)
    for j in range(out.shape[0]):
        for i in range(out.shape[1]):
            n = 0
            for y in range(j * box_rows, min((j + 1) * box_rows, rows), step):
                for x in range(i * box_columns, min((i + 1) * box_columns, columns)):
                    value = image[y, x]
                    if not np.isnan(value):
                        scratch[n] = value
                        n += 1
            out[j, i] = median_in_place(scratch, n)


def row_medians(image: np.ndarray) -> np.ndarray:
    """Return the median of each row, float64[y] (NaN for a row without values).

    Raises
    ------
    TypeError, ValueError
        `image` is not a native floating array with two axes.
    """
    check_float("image", image, 2)
    out = np.empty(image.shape[0], np.float64)
    _row_medians(image, out)
    return out


def column_medians(image: np.ndarray, *, block_rows: int | None = None, step: int = 1) -> np.ndarray:
    """Return the median of each column, for each block of rows.

    Parameters
    ----------
    image : floating[y, x]
        NaN takes no part.
    block_rows : int, optional
        Rows of a block; without it one block holds all rows.
    step : int
        Use every `step`-th row.

    Returns
    -------
    float64[block, x]
        NaN where a block has no value.

    Raises
    ------
    TypeError, ValueError
        Wrong array, `block_rows` or `step` below 1.
    """
    check_float("image", image, 2)
    block_rows = max(image.shape[0], 1) if block_rows is None else block_rows
    if block_rows < 1 or step < 1:
        raise ValueError(f"block_rows: {block_rows}, step: {step}, expected 1 or more")
    out = np.empty((-(-image.shape[0] // block_rows), image.shape[1]), np.float64)
    _block_column_medians(image, int(block_rows), int(step), out)
    return out


def box_medians(
    image: np.ndarray, box: tuple[int, int], *, step: int = 1, out: np.ndarray | None = None
) -> np.ndarray:
    """Return the median of each box of an image.

    Parameters
    ----------
    image : floating[y, x]
        NaN takes no part.
    box : (int, int)
        Rows and columns of a box; boxes at the end may be smaller.
    step : int
        Use every `step`-th row.
    out : float64[box along y, box along x], optional
        Written and returned; NaN for a box without values.

    Raises
    ------
    TypeError, ValueError
        Wrong array, box or step below 1.
    """
    check_float("image", image, 2)
    if min(box) < 1 or step < 1:
        raise ValueError(f"box: {box}, step: {step}, expected 1 or more")
    shape = (-(-image.shape[0] // box[0]), -(-image.shape[1] // box[1]))
    result = np.empty(shape, np.float64) if out is None else check_output("out", out, shape)
    _box_medians(image, int(box[0]), int(box[1]), int(step), result)
    return result
