"""Find emission peaks in two dimensions, and the whole-pixel offset at which another image shows them."""

from __future__ import annotations

import numpy as np

from apero_kernels._jit import kernel
from apero_kernels.contracts import check_float, check_integer, check_positive

MOST_OVER_NEIGHBOUR = 1.5  # a peak is not this much higher than its highest neighbour (reference)


@kernel
def _is_peak(image, var, y, x, least, most):
    value = image[y, x]
    if not (value > 0.0 and var[y, x] > 0.0 and value * value > least * least * var[y, x]):
        return False
    highest = -np.inf
    for j in range(y - 1, y + 2):
        for i in range(x - 1, x + 2):
            if i == x and j == y:
                continue
            # NaN fails the comparison: a peak beside a hole has no known position.
            if not image[j, i] < value:
                return False
            highest = max(highest, image[j, i])
    return value < most * highest


@kernel
def _higher(above, line, below, out):
    # Pixels higher than their four neighbours, without a branch: eleven in twelve need no closer look.
    for x in range(1, line.shape[0] - 1):
        value = line[x]
        out[x] = (value > line[x - 1]) & (value > line[x + 1]) & (value > above[x]) & (value > below[x])


@kernel
def _find_peaks(image, var, least, most, xs, ys):
    rows, columns = image.shape
    candidate = np.zeros(columns, np.uint8)
    count = 0
    for y in range(1, rows - 1):
        _higher(image[y - 1], image[y], image[y + 1], candidate)
        for x in range(1, columns - 1):
            if candidate[x] and _is_peak(image, var, y, x, least, most):
                if count < xs.shape[0]:
                    xs[count] = x
                    ys[count] = y
                count += 1
    return count


@kernel
def _offset_scores(image, level, xs, ys, heights, centre_x, centre_y, out):
    rows, columns = image.shape
    reach_y = out.shape[0] // 2
    reach_x = out.shape[1] // 2
    for j in range(out.shape[0]):
        for i in range(out.shape[1]):
            total = 0.0
            used = 0
            for k in range(xs.shape[0]):
                y = ys[k] + centre_y[k] + j - reach_y
                x = xs[k] + centre_x[k] + i - reach_x
                if 0 <= y < rows and 0 <= x < columns:
                    value = image[y, x]
                    if np.isfinite(value):
                        # A peak counts as a whole or not at all, however bright: else the brightest decide.
                        total += min(max(value / (level * heights[k]), 0.0), 1.0)
                        used += 1
            out[j, i] = total / used if used > 0 else np.nan


def find_peaks(
    image: np.ndarray,
    var: np.ndarray,
    *,
    least: float = 10.0,
    most_over_neighbour: float = MOST_OVER_NEIGHBOUR,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the columns and rows of peaks, by rows.

    Parameters
    ----------
    image, var : floating[y, x]
        Flux and its variance.
    least : float
        Standard deviations a peak must be above zero.
    most_over_neighbour : float
        A pixel this much higher than its highest neighbour is a defect, no peak.

    Returns
    -------
    x, y : int64[peak]
        Pixels higher than all their eight neighbours, which must be finite.

    Raises
    ------
    TypeError, ValueError
        Wrong dtype or shape, a limit that is not positive.
    """
    check_float("image", image, 2)
    check_float("var", var, 2, image.shape)
    check_positive("least", least)
    check_positive("most_over_neighbour", most_over_neighbour)
    # One memory layout: the loops are compiled once.
    image, var = np.ascontiguousarray(image), np.ascontiguousarray(var)
    room = image.size // 64 + 16
    while True:
        x, y = np.empty(room, np.int64), np.empty(room, np.int64)
        count = _find_peaks(image, var, float(least), float(most_over_neighbour), x, y)
        if count <= room:
            return x[:count].copy(), y[:count].copy()
        room = count


def offset_scores(
    image: np.ndarray,
    level: float,
    x: np.ndarray,
    y: np.ndarray,
    heights: np.ndarray,
    reach: int,
    *,
    centre_x: np.ndarray | None = None,
    centre_y: np.ndarray | None = None,
) -> np.ndarray:
    """Return how well peaks of a reference are found in an image, for whole-pixel offsets.

    Parameters
    ----------
    image : floating[y, x]
        Image to be searched.
    level : float
        Factor from reference to image, above 0.
    x, y : int64[peak]
        Peaks of the reference.
    heights : float64[peak]
        Their heights in the reference.
    reach : int
        Largest offset, px.
    centre_x, centre_y : int64[peak], optional
        Offsets about which is searched, 0 by default.

    Returns
    -------
    float64[2 reach + 1, 2 reach + 1]
        Mean over the peaks of flux over expected height, between 0 and 1; element ``[j, i]`` belongs to the
        offset (i - reach, j - reach).  NaN where no peak falls on the image.

    Raises
    ------
    TypeError, ValueError
        Wrong dtype or shape, `level` not positive, `reach` below 0.
    """
    check_float("image", image, 2)
    check_positive("level", level)
    check_integer("x", x, 1, np.int64)
    check_integer("y", y, 1, np.int64, x.shape)
    check_float("heights", heights, 1, x.shape)
    if reach < 0:
        raise ValueError(f"reach: {reach}, expected 0 or more pixels")
    zero = np.zeros(x.shape, np.int64)
    cx = zero if centre_x is None else check_integer("centre_x", centre_x, 1, np.int64, x.shape)
    cy = zero if centre_y is None else check_integer("centre_y", centre_y, 1, np.int64, x.shape)
    out = np.empty((2 * reach + 1, 2 * reach + 1))
    _offset_scores(np.ascontiguousarray(image), float(level), x, y, heights, cx, cy, out)
    return out
