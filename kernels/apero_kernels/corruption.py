"""Is this frame sound?  Registration by hot pixels, and noise figures of the dark ribbon."""

from __future__ import annotations

import numpy as np

from apero_kernels._jit import kernel
from apero_kernels.contracts import check_float, check_integer, check_output
from apero_kernels.medians import column_medians, row_medians
from apero_kernels.robust import median, median_absolute, median_in_place, percentile

_SMALLEST_LEVEL = 10.0  # ADU/s, floor of the brightness by which the noise figures are divided (reference)


@kernel
def _stamps(image, rows, columns, half, cube, corner):
    size = 2 * half + 1
    n = 0
    for i in range(rows.shape[0]):
        y = rows[i]
        x = columns[i]
        # One pixel more than the stamp: a slip by one must not bring in the edge.
        if not (half < y < image.shape[0] - half - 1 and half < x < image.shape[1] - half - 1):
            continue
        complete = True
        for j in range(size):
            for k in range(size):
                value = image[y - half + j, x - half + k]
                cube[j * size + k, n] = value
                complete = complete and not np.isnan(value)
        if complete:
            corner[n] = cube[0, n]
            n += 1
    return n


@kernel
def _median_stamp(cube, chosen, out):
    size = cube.shape[0]
    scratch = np.empty(max(size, chosen.shape[0]), np.float64)
    level = np.empty(chosen.shape[0], np.float64)
    for i in range(chosen.shape[0]):
        for p in range(size):
            scratch[p] = cube[p, chosen[i]]
        level[i] = median_in_place(scratch, size)
    for p in range(size):
        for i in range(chosen.shape[0]):
            scratch[i] = cube[p, chosen[i]] - level[i]
        out[p] = median_in_place(scratch, chosen.shape[0])


@kernel
def _roll(plane, dy, dx, blank, out):
    rows, columns = plane.shape
    for y in range(rows):
        source = y - dy
        for x in range(columns):
            if 0 <= source < rows and 0 <= x - dx < columns:
                out[y, x] = plane[source, x - dx]
            else:
                out[y, x] = blank


@kernel
def _isolated(image, level, limit, calm, rows, columns):
    n = 0
    for y in range(1, image.shape[0] - 1):
        for x in range(1, image.shape[1] - 1):
            if image[y, x] - level > limit and n < rows.shape[0]:
                alone = True
                for j in range(-1, 2):
                    for k in range(-1, 2):
                        if (j != 0 or k != 0) and not image[y + j, x + k] - level < calm:
                            alone = False
                if alone:
                    rows[n] = y
                    columns[n] = x
                    n += 1
    return n


def hot_pixel_offset(
    image: np.ndarray, rows: np.ndarray, columns: np.ndarray, half: int = 2
) -> tuple[float, int, int]:
    """Find by how many pixels a frame was read out beside its place.

    Parameters
    ----------
    image : floating[row, column]
        Raw slope.
    rows, columns : int64[n]
        Where hot pixels are known to be.
    half : int
        Half size of the stamps, 2 for 5 x 5.

    Returns
    -------
    snr : float
        Height of the median hot pixel at its place over the median absolute residual of the stamp (inf or
        0 if that is 0); NaN if fewer than four stamps are complete.
    dy, dx : int
        Offset of the brightest pixel of the median stamp: roll all planes by (-dy, -dx).

    Raises
    ------
    TypeError, ValueError
        Wrong dtype or shape, positions outside the image, `half` below 1.

    Notes
    -----
    Only the quarter of the stamps with the faintest corner is used: there the hot pixel stands on dark
    ground.  Positions closer than `half` + 1 to an edge take no part.
    """
    check_float("image", image, 2)
    check_integer("rows", rows, 1, np.int64)
    check_integer("columns", columns, 1, np.int64, rows.shape)
    if half < 1:
        raise ValueError(f"half: {half}, expected 1 or more")
    size = 2 * half + 1
    cube = np.empty((size * size, rows.size), np.float64)
    corner = np.empty(rows.size, np.float64)
    n = _stamps(image, rows, columns, int(half), cube, corner)
    if n < 4:
        return float("nan"), 0, 0
    chosen = np.argsort(corner[:n], kind="stable")[: n // 4]
    stamp = np.empty(size * size, np.float64)
    _median_stamp(cube, chosen, stamp)
    residual = stamp - median(stamp)
    noise = median(np.abs(residual))
    peak = int(np.argmax(residual))
    centre = residual[half * size + half]
    snr = float("inf") if centre > 0 else 0.0
    if noise > 0:
        snr = float(centre / noise)
    return snr, peak // size - half, peak % size - half


def roll_plane(plane: np.ndarray, dy: int, dx: int, out: np.ndarray, blank: float = np.nan) -> None:
    """Move a plane by whole pixels; what comes in from outside is `blank`, never the opposite edge.

    Parameters
    ----------
    plane : native[row, column]
        Any plane of the ramp.
    dy, dx : int
        ``out[y, x] = plane[y - dy, x - dx]``.
    out : same dtype and shape
        Written.
    blank : float
        Value of the edge that comes in.

    Raises
    ------
    TypeError, ValueError
        Wrong dtype or shape; `out` shares memory with `plane`.
    """
    check_float("plane", plane, 2)
    check_output("out", out, plane.shape)
    if np.may_share_memory(plane, out):
        raise ValueError("out shares memory with plane; pass an array of its own")
    _roll(plane, int(dy), int(dx), plane.dtype.type(blank), out)


def isolated_hot_pixels(
    image: np.ndarray, sigma: float, *, cut: float = 10.0, calm: float = 5.0, most: int = 30000
) -> tuple[np.ndarray, np.ndarray]:
    """Find pixels far above the median whose eight neighbours are not.

    Parameters
    ----------
    image : floating[row, column]
        Part of the raw slope that sees no light.
    sigma : float
        Noise of a pixel.
    cut, calm : float
        A hot pixel lies more than `cut` sigma above the median, its neighbours all less than `calm`.
    most : int
        Stop after so many.

    Returns
    -------
    rows, columns : int64[n]

    Raises
    ------
    TypeError, ValueError
        Wrong array, sigma not positive.
    """
    check_float("image", image, 2)
    if not sigma > 0:
        raise ValueError(f"sigma: {sigma}, expected the noise of a pixel, above 0")
    rows, columns = np.empty(most, np.int64), np.empty(most, np.int64)
    n = _isolated(image, median(image), cut * sigma, calm * sigma, rows, columns)
    return rows[:n].copy(), columns[:n].copy()


def noise_figures(image: np.ndarray, ribbon: np.ndarray) -> tuple[float, float, float, float]:
    """Return the four noise figures of a frame, relative to its brightness.

    Parameters
    ----------
    image : floating[row, column]
        Raw slope, ADU/s.
    ribbon : floating[row, column]
        The columns that see no light.

    Returns
    -------
    r0, r1, r2, r3 : float
        Median absolute deviation of the column medians and of the row medians; median absolute
        difference of vertical and of horizontal neighbours.  All divided by the larger of the 95th
        percentile of the image and 10 ADU/s.

    Raises
    ------
    TypeError, ValueError
        Not native floating arrays with two axes.
    """
    check_float("image", image, 2)
    check_float("ribbon", ribbon, 2)
    level = max(percentile(image, 95.0), _SMALLEST_LEVEL)
    figures = (
        median_absolute(column_medians(ribbon)[0]),
        median_absolute(row_medians(ribbon)),
        median(np.abs(np.diff(ribbon, axis=0))),
        median(np.abs(np.diff(ribbon, axis=1))),
    )
    r0, r1, r2, r3 = (figure / level for figure in figures)
    return r0, r1, r2, r3
