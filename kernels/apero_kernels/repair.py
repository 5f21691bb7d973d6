"""Fill single missing pixels from their eight neighbours; larger groups stay missing."""

from __future__ import annotations

import numpy as np

from apero_kernels._jit import kernel
from apero_kernels.contracts import check_float, check_output


@kernel
def _fill_isolated(image, var, out, out_var):
    rows, columns = image.shape
    filled = 0
    for y in range(rows):
        for x in range(columns):
            value = image[y, x]
            out[y, x] = value
            out_var[y, x] = var[y, x]
            if value == value or y == 0 or x == 0 or y == rows - 1 or x == columns - 1:
                continue
            cross = (
                np.float64(image[y - 1, x]) + image[y + 1, x] + np.float64(image[y, x - 1]) + image[y, x + 1]
            )
            corner = (
                np.float64(image[y - 1, x - 1])
                + image[y - 1, x + 1]
                + np.float64(image[y + 1, x - 1])
                + image[y + 1, x + 1]
            )
            # One missing neighbour makes the sum NaN: the pixel is not alone.
            total = 0.5 * cross - 0.25 * corner
            if np.isfinite(total):
                out[y, x] = total
                cross_var = (
                    np.float64(var[y - 1, x]) + var[y + 1, x] + np.float64(var[y, x - 1]) + var[y, x + 1]
                )
                corner_var = (
                    np.float64(var[y - 1, x - 1])
                    + var[y - 1, x + 1]
                    + np.float64(var[y + 1, x - 1])
                    + var[y + 1, x + 1]
                )
                out_var[y, x] = 0.25 * cross_var + 0.0625 * corner_var
                filled += 1
    return filled


def fill_isolated(image: np.ndarray, var: np.ndarray, out: np.ndarray, out_var: np.ndarray) -> int:
    """Fill NaN pixels whose eight neighbours are all finite.

    Parameters
    ----------
    image, var : floating[y, x]
        Frame and its variance; NaN = missing.
    out, out_var : floating[y, x]
        Written; may not share memory with the inputs.

    Returns
    -------
    int
        Number of pixels filled.

    Raises
    ------
    TypeError, ValueError
        Wrong dtype or shape, outputs sharing memory with inputs.

    Notes
    -----
    (cross sum) / 2 - (corner sum) / 4 is exact for every polynomial without the term x^2 y^2; its
    variance is 1/4 of that of the cross plus 1/16 of that of the corners.  Pixels at the edge stay as
    they are.
    """
    check_float("image", image, 2)
    check_float("var", var, 2, image.shape)
    check_output("out", out, image.shape)
    check_output("out_var", out_var, image.shape)
    if np.may_share_memory(image, out) or np.may_share_memory(var, out_var):
        raise ValueError("out or out_var shares memory with its input; pass arrays of their own")
    return int(_fill_isolated(image, var, out, out_var))
