"""Medians and means over co-registered images, with their variance.

One call handles a block of rows of all images; a result never depends on how the rows were cut into
blocks, because every pixel is worked out from its own values alone.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from apero_kernels._jit import kernel
from apero_kernels.contracts import check_float, check_output
from apero_kernels.robust import (
    LANES,
    SIGMA_HIGH,
    SIGMA_LOW,
    median_in_place,
    percentile_in_place,
    sort_lanes,
    sorted_median,
    sorted_percentile,
)

BLOCK_ROWS = 64  # 100 images of 4096 columns: 105 MB a block
_NETWORK = 24  # up to this many images a sorting network beats a selection per pixel

# N times the variance of the median of N unit Gaussians, N = 1..32, by integrating the density of the
# middle order statistics (both middle ones for even N).
_MEDIAN_FACTOR = np.array(
    [
        1.000000, 1.000000, 1.346013, 1.192799, 1.434168, 1.288457, 1.473128, 1.345448,
        1.494912, 1.383267, 1.508787, 1.410197, 1.518387, 1.430354, 1.525420, 1.446008,
        1.530792, 1.458519, 1.535029, 1.468747, 1.538455, 1.477266, 1.541283, 1.484471,
        1.543656, 1.490645, 1.545677, 1.495994, 1.547418, 1.500673, 1.548933, 1.504802,
    ]
)  # fmt: skip


@kernel
def median_factor(n):
    """Return N times the variance of the median of N Gaussian values of unit variance (1.57 for large N).

    Notes
    -----
    Table up to 32; beyond, the expansion pi/2 (1 - (4 - pi)/(2 N)) for odd N, one more 1/N for even N
    (its 3/N^2 term fitted to the integrals at 50 and 100); relative error below 1e-4.
    """
    if n < 1:
        return np.nan
    if n <= _MEDIAN_FACTOR.shape[0]:
        return _MEDIAN_FACTOR[n - 1]
    if n & 1:
        return 0.5 * np.pi * (1.0 - 0.4292 / n)
    return 0.5 * np.pi * (1.0 - 1.4292 / n + 3.0 / (n * n))


@kernel
def _gather(images, variances, y, x0, width, buffer, used, inverse):
    # Values of all images side by side, infinity for those that are missing, and what counts them; written
    # without branches, so that several columns are worked on at once.
    blank = images.dtype.type(np.inf)
    used[:] = 0
    inverse[:] = 0.0
    for k in range(images.shape[0]):
        line = buffer[k]
        line[width:] = blank
        row = images[k, y, x0 : x0 + width]
        for lane in range(width):
            value = row[lane]
            good = value == value
            line[lane] = value if good else blank
            used[lane] = np.int32(used[lane] + (np.int32(1) if good else np.int32(0)))
        if variances.shape[0] > 0:
            noise = variances[k, y, x0 : x0 + width]
            for lane in range(width):
                weight = 1.0 / np.sqrt(np.float64(noise[lane]))
                inverse[lane] += weight if row[lane] == row[lane] else 0.0


@kernel
def _middle(lower, upper, out):
    # Median of lanes whose values are all there.
    for lane in range(out.shape[0]):
        low = np.float64(lower[lane])
        high = np.float64(upper[lane])
        out[lane] = low if high == low else 0.5 * (low + high)


@kernel
def _whole_noise(inverse, number, factor, out):
    # Variance of the median of lanes whose values are all there.
    for lane in range(out.shape[0]):
        mean_inverse = inverse[lane] / number
        out[lane] = factor / (number * mean_inverse * mean_inverse)


@kernel
def _whole_rank(buffer, q, out):
    # Percentile of lanes whose values are all there; as sorted_percentile.
    count = buffer.shape[0]
    rank = 0.01 * q * (count - 1)
    k = int(rank)
    below = buffer[k]
    above = buffer[min(k + 1, count - 1)]
    share = rank - k
    for lane in range(out.shape[0]):
        lower = np.float64(below[lane])
        upper = np.float64(above[lane])
        out[lane] = lower if upper == lower else lower + share * (upper - lower)


@kernel
def _stack_median(images, variances, out, out_var, out_scatter, out_count):
    count, rows, columns = images.shape
    with_variance = variances.shape[0] > 0
    with_scatter = out_scatter.shape[0] > 0
    with_count = out_count.shape[0] > 0
    buffer = np.empty((count, LANES), images.dtype)
    lane_values = np.empty(count, images.dtype)
    used = np.empty(LANES, np.int32)
    inverse = np.empty(LANES, np.float64)
    lowest = np.empty(LANES, np.float64)
    highest = np.empty(LANES, np.float64)
    factors = np.empty(count + 1)
    for n in range(count + 1):
        factors[n] = median_factor(n)
    for y in range(rows):
        for x0 in range(0, columns, LANES):
            width = min(LANES, columns - x0)
            _gather(images, variances, y, x0, width, buffer, used, inverse)
            if 0 < count <= _NETWORK:
                sort_lanes(buffer, count)
                _middle(buffer[(count - 1) >> 1], buffer[count >> 1], out[y, x0 : x0 + width])
                if with_variance:
                    _whole_noise(inverse, float(count), factors[count], out_var[y, x0 : x0 + width])
                if with_scatter and count > 1:
                    _whole_rank(buffer, SIGMA_LOW, lowest)
                    _whole_rank(buffer, SIGMA_HIGH, highest)
                    for lane in range(width):
                        out_scatter[y, x0 + lane] = 0.5 * (highest[lane] - lowest[lane])
                if with_count:
                    out_count[y, x0 : x0 + width] = count
                lacking = np.int32(0)
                for lane in range(width):
                    lacking += np.int32(1) if used[lane] < count else np.int32(0)
                if lacking == 0 and (count > 1 or not with_scatter):
                    continue
            for lane in range(width):
                x = x0 + lane
                n = np.int64(used[lane])
                if n == count and 1 < count <= _NETWORK:
                    continue
                if count <= _NETWORK:
                    if n < count or n == 0:
                        out[y, x] = sorted_median(buffer, lane, n)
                    if with_scatter:
                        low = sorted_percentile(buffer, lane, n, SIGMA_LOW)
                        high = sorted_percentile(buffer, lane, n, SIGMA_HIGH)
                else:
                    n = 0
                    for k in range(count):
                        if not np.isnan(images[k, y, x]):
                            lane_values[n] = images[k, y, x]
                            n += 1
                    out[y, x] = median_in_place(lane_values, n)
                    if with_scatter:
                        low = percentile_in_place(lane_values, n, SIGMA_LOW)
                        high = percentile_in_place(lane_values, n, SIGMA_HIGH)
                if with_scatter:
                    out_scatter[y, x] = 0.5 * (high - low) if n > 1 else np.nan
                if with_count:
                    out_count[y, x] = n
                if with_variance:
                    mean_inverse = inverse[lane] / max(n, 1)
                    out_var[y, x] = factors[n] / (n * mean_inverse * mean_inverse) if n > 0 else np.nan


@kernel
def _add_values(row, used, total, squares):
    for x in range(row.shape[0]):
        value = np.float64(row[x])
        good = value == value
        # Welford's update: no cancellation between large equal values.
        n = used[x] + (1.0 if good else 0.0)
        step = value - total[x]
        mean = total[x] + step / n
        square = squares[x] + step * (value - mean)
        used[x] = n
        total[x] = mean if good else total[x]
        squares[x] = square if good else squares[x]


@kernel
def _add_variances(row, noise, variance):
    for x in range(row.shape[0]):
        value = np.float64(noise[x])
        variance[x] += value if row[x] == row[x] else 0.0


@kernel
def _stack_mean(images, variances, out, out_var, out_scatter, out_count):
    count, rows, columns = images.shape
    with_variance = variances.shape[0] > 0
    with_scatter = out_scatter.shape[0] > 0
    with_count = out_count.shape[0] > 0
    total = np.empty(columns, np.float64)
    squares = np.empty(columns, np.float64)
    variance = np.empty(columns, np.float64)
    used = np.empty(columns, np.float64)
    for y in range(rows):
        total[:] = 0.0
        squares[:] = 0.0
        variance[:] = 0.0
        used[:] = 0.0
        for k in range(count):
            _add_values(images[k, y], used, total, squares)
            if with_variance:
                _add_variances(images[k, y], variances[k, y], variance)
        for x in range(columns):
            out[y, x] = total[x] if used[x] > 0.0 else np.nan
        if with_variance:
            for x in range(columns):
                share = variance[x] / (used[x] * used[x])
                out_var[y, x] = share if used[x] > 0.0 else np.nan
        if with_scatter:
            for x in range(columns):
                spread = np.sqrt(squares[x] / (used[x] - 1.0))
                out_scatter[y, x] = spread if used[x] > 1.0 else np.nan
        if with_count:
            for x in range(columns):
                out_count[y, x] = np.int32(used[x])


def stack(
    images: np.ndarray,
    out: np.ndarray,
    *,
    statistic: str = "median",
    variances: np.ndarray | None = None,
    out_var: np.ndarray | None = None,
    out_scatter: np.ndarray | None = None,
    out_count: np.ndarray | None = None,
) -> None:
    """Combine co-registered images pixel by pixel.

    Parameters
    ----------
    images : float32 or float64[file, y, x]
        NaN takes no part.
    out : floating[y, x]
        Written; NaN where no image has a value.
    statistic : {"median", "mean"}
        How the images are combined.
    variances : floating[file, y, x], optional
        Variance of each image, positive where the image has a value.
    out_var : floating[y, x], with `variances`
        Written: variance of the result.
    out_scatter : floating[y, x], optional
        Written: scatter from image to image (median: half of the 15.87..84.13 percentile distance; mean:
        standard deviation), NaN for fewer than two values.
    out_count : int32[y, x], optional
        Written: number of values.

    Raises
    ------
    TypeError, ValueError
        Wrong dtype, shape or statistic, or only one of `variances` and `out_var`.

    Notes
    -----
    Variance of the mean: sum(var)/N^2.  Variance of the median: factor(N)/N divided by the squared mean
    of 1/sigma, exact for equal variances and right to first order in 1/N for unequal ones (density of
    the median of a mixture, Kendall & Stuart, vol. 1, 10.10); factor(N) as `median_factor`.
    """
    check_float("images", images, 3)
    shape = images.shape[1:]
    check_output("out", out, shape)
    if (variances is None) != (out_var is None):
        raise ValueError("variances and out_var: give both or none")
    none = np.empty((0, 0), np.float64)
    if variances is None or out_var is None:
        variances, out_var = np.empty((0, 0, 0), images.dtype), none
    else:
        check_float("variances", variances, 3, images.shape)
        check_output("out_var", out_var, shape)
    if out_scatter is None:
        out_scatter = none
    else:
        check_output("out_scatter", out_scatter, shape)
    if out_count is None:
        out_count = np.empty((0, 0), np.int32)
    else:
        check_output("out_count", out_count, shape, np.int32)
    if statistic == "median":
        _stack_median(images, variances, out, out_var, out_scatter, out_count)
    elif statistic == "mean":
        _stack_mean(images, variances, out, out_var, out_scatter, out_count)
    else:
        raise ValueError(f"statistic: {statistic!r}, expected 'median' or 'mean'")


def stack_by_rows(
    read: Callable[[int, int, int], np.ndarray],
    count: int,
    out: np.ndarray,
    *,
    statistic: str = "median",
    read_var: Callable[[int, int, int], np.ndarray] | None = None,
    out_var: np.ndarray | None = None,
    out_scatter: np.ndarray | None = None,
    out_count: np.ndarray | None = None,
    block_rows: int = BLOCK_ROWS,
) -> None:
    """Combine images that are read a block of rows at a time, so that the cube is never in memory.

    Parameters
    ----------
    read : callable (file, first row, end row) -> array[end - first, x]
        Rows of image `file` (0-based); any byte order, stored as float32.
    count : int
        Number of images, at least 1.
    out, statistic, out_var, out_scatter, out_count
        As in `stack`, for the whole image.
    read_var : callable, with `out_var`
        As `read`, for the variances.
    block_rows : int
        Rows per block; does not change the result.

    Raises
    ------
    TypeError, ValueError
        As `stack`; `count` or `block_rows` below 1; a block of the wrong shape.
    """
    if count < 1 or block_rows < 1:
        raise ValueError(f"count: {count}, block_rows: {block_rows}, expected at least 1")
    rows, columns = out.shape
    block_rows = min(block_rows, max(rows, 1))
    cube = np.empty((count, block_rows, columns), np.float32)
    cube_var = None if read_var is None else np.empty_like(cube)
    for first in range(0, rows, block_rows):
        end = min(first + block_rows, rows)
        for k in range(count):
            cube[k, : end - first] = _rows_of("read", read(k, first, end), (end - first, columns), k)
            if cube_var is not None and read_var is not None:
                cube_var[k, : end - first] = _rows_of(
                    "read_var", read_var(k, first, end), (end - first, columns), k
                )
        part = slice(first, end)
        stack(
            cube[:, : end - first],
            out[part],
            statistic=statistic,
            variances=None if cube_var is None else cube_var[:, : end - first],
            out_var=None if out_var is None else out_var[part],
            out_scatter=None if out_scatter is None else out_scatter[part],
            out_count=None if out_count is None else out_count[part],
        )


def _rows_of(name: str, block: np.ndarray, shape: tuple[int, int], file: int) -> np.ndarray:
    if block.shape != shape:
        raise ValueError(f"{name}: image {file} gave rows of shape {block.shape}, expected {shape}")
    return block
