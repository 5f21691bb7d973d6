"""Combination of darks, and their high-pass: what a pixel has beyond its neighbours along the row."""

from __future__ import annotations

import numpy as np

from apero_kernels._jit import kernel
from apero_kernels.contracts import check_float, check_integer, check_output, check_positive
from apero_kernels.running import EIGHT, running_median


@kernel
def _add_near(values, variances, middle, clip, weights, total, top, used):
    # One image of a row; without branches, so that several columns are worked on at once.
    single = values.dtype.type
    for x in range(values.shape[0]):
        near = abs(values[x] - middle[x]) <= clip * np.sqrt(variances[x])
        weight = single(single(1.0) / variances[x]) if near else single(0.0)
        weights[x] = weight
        total[x] += np.float64(weight)
        counts = weight > single(0.0)
        top[x] += np.float64(single(weight * values[x])) if counts else 0.0
        used[x] += np.int32(1) if counts else np.int32(0)


@kernel
def _add_spread(values, weights, level, spread):
    for x in range(values.shape[0]):
        away = np.float64(values[x]) - level[x]
        spread[x] += np.float64(weights[x]) * (away * away) if weights[x] > 0 else 0.0


@kernel
def _mean_and_error(total, top, used, spread, level, error):
    for x in range(total.shape[0]):
        level[x] = top[x] / total[x]
    for x in range(total.shape[0]):
        weighted = 1.0 / total[x]
        observed = spread[x] / total[x] / (used[x] - 1.0)
        error[x] = observed if used[x] > 2 and not observed <= weighted else weighted


@kernel
def _clipped_mean(values, variances, centre, clip, mean, variance):
    count, rows, columns = values.shape
    weights = np.empty((count, columns), values.dtype)
    total = np.empty(columns)
    top = np.empty(columns)
    spread = np.empty(columns)
    level = np.empty(columns)
    error = np.empty(columns)
    used = np.empty(columns, np.int32)
    for y in range(rows):
        total[:] = 0.0
        top[:] = 0.0
        spread[:] = 0.0
        used[:] = 0
        for g in range(count):
            _add_near(values[g, y], variances[g, y], centre[y], clip, weights[g], total, top, used)
        if count > 2:
            _mean_and_error(total, top, used, spread, level, error)
            for g in range(count):
                _add_spread(values[g, y], weights[g], level, spread)
        _mean_and_error(total, top, used, spread, level, error)
        for x in range(columns):
            if total[x] == 0.0 and np.isfinite(centre[y, x]):
                # Two sound images far apart leave none near their middle: the median is all there is.
                part = 0.0
                known = 0
                for g in range(count):
                    if np.isfinite(variances[g, y, x]):
                        part += np.float64(variances[g, y, x])
                        known += 1
                level[x] = np.float64(centre[y, x])
                error[x] = part / known  # without a known variance there is none: 0 / 0
            mean[y, x] = level[x] if np.isfinite(level[x]) else np.nan
            variance[y, x] = error[x] if np.isfinite(error[x]) else np.nan


@kernel
def _above_wide(level, near, offsets, limit, out):
    rows, columns = level.shape
    size = offsets.shape[0]
    reach = max(-offsets[0], offsets[size - 1], 0)
    single = level.dtype.type
    values = np.empty(size, level.dtype)
    whole = max(columns - 2 * reach, 0)  # pixels whose window is inside the image
    below = np.empty(whole, np.int32)
    bound = np.empty(whole, level.dtype)
    hint = single(limit - 1e-3 * (1.0 + abs(limit)))
    for y in range(rows):
        # The wide median is below near - limit only if half of its values are: most pixels end here.
        for x in range(whole):
            bound[x] = near[y, reach + x] - hint
            below[x] = 0
        for k in range(size):
            line = level[y, reach + offsets[k] : reach + offsets[k] + whole]
            for x in range(whole):
                below[x] += np.int32(not line[x] >= bound[x])  # NaN counts as below
        for x in range(columns):
            out[y, x] = near[y, x]
            inside = reach <= x < columns - reach
            if near[y, x] != near[y, x] or (inside and 2 * below[x - reach] < size):
                continue
            n = 0
            for k in range(size):
                i = x + offsets[k]
                if 0 <= i < columns and level[y, i] == level[y, i]:
                    value = level[y, i]
                    j = n
                    while j > 0 and values[j - 1] > value:
                        values[j] = values[j - 1]
                        j -= 1
                    values[j] = value
                    n += 1
            if n:
                lower = np.float64(values[(n - 1) >> 1])
                upper = np.float64(values[n >> 1])
                wide = single(lower if upper == lower else 0.5 * (lower + upper))
                if single(near[y, x] - wide) > limit:
                    out[y, x] = wide


def clipped_mean(
    values: np.ndarray, variances: np.ndarray, centre: np.ndarray, clip: float, mean: np.ndarray,
    variance: np.ndarray,
) -> None:  # fmt: skip
    """Write the mean with inverse variances as weights of what lies near the median.

    Parameters
    ----------
    values, variances : float32 or float64[image, y, x]
        Levels and their variances; NaN takes no part.
    centre : same dtype[y, x]
        Median over the images.
    clip : float
        Distance from it, in standard deviations of the value, beyond which a value is left out.
    mean, variance : floating[y, x]
        Written; NaN where there is nothing.  The variance is that of the weights; from three values on,
        that of their scatter where it is larger.  Where all values are left out, the median and the mean
        of the variances.

    Raises
    ------
    TypeError, ValueError
        Wrong dtype or shape, `clip` not positive.
    """
    check_float("values", values, 3)
    check_float("variances", variances, 3, values.shape)
    check_float("centre", centre, 2, values.shape[1:])
    for name, array in (("variances", variances), ("centre", centre)):
        if array.dtype != values.dtype:
            raise TypeError(f"{name}: dtype {array.dtype}, expected that of the values, {values.dtype}")
    check_positive("clip", clip)
    check_output("mean", mean, centre.shape)
    check_output("variance", variance, centre.shape)
    _clipped_mean(values, variances, centre, values.dtype.type(clip), mean, variance)


def replace_above_wide(
    level: np.ndarray, near: np.ndarray, offsets: np.ndarray, limit: float, out: np.ndarray
) -> None:
    """Write a background, with that of a wide window where the first lies far above it.

    Parameters
    ----------
    level : float32 or float64[y, x]
        Image; NaN takes no part.
    near : same dtype[y, x]
        Its background from a narrow window.
    offsets : int64[k]
        Positions along the row whose median is the wide background, rising.
    limit : float
        The wide one counts where the narrow one is more than this above it.
    out : same dtype[y, x]
        Written; may be `near` itself.

    Raises
    ------
    TypeError, ValueError
        Wrong dtype or shape, offsets empty or not rising; `out` shares memory with `level`.

    Notes
    -----
    As ``where(near - wide > limit, wide, near)``, the wide median worked out only where half of its values
    are low enough.
    """
    check_float("level", level, 2)
    check_float("near", near, 2, level.shape)
    check_integer("offsets", offsets, 1, np.int64)
    check_output("out", out, level.shape)
    for name, array in (("near", near), ("out", out)):
        if array.dtype != level.dtype:
            raise TypeError(f"{name}: dtype {array.dtype}, expected that of the level, {level.dtype}")
    if offsets.size == 0 or np.any(np.diff(offsets) <= 0):
        raise ValueError(f"offsets: {offsets.tolist()}, expected rising positions, at least one")
    if np.may_share_memory(level, out):
        raise ValueError("out shares memory with level; pass an array of its own")
    _above_wide(level, near, offsets, level.dtype.type(limit), out)


def subtract_neighbours(image: np.ndarray, out: np.ndarray) -> None:
    """Write the image minus the median of the four pixels on either side.

    Smooth light varies with the temperature of the fibre train and has no place in a reference dark; hot
    pixels and the structure of the amplifiers remain.  Groups of hot pixels longer than four pixels along
    the row are weakened: keep the unfiltered dark beside this one.

    Parameters
    ----------
    image : floating[y, x]
        Dark, ADU/s; NaN takes no part.
    out : floating[y, x]
        Written; NaN where the pixel or all its neighbours are.

    Raises
    ------
    TypeError, ValueError
        Wrong dtype or shape; `out` shares memory with `image`.
    """
    check_float("image", image, 2)
    check_output("out", out, image.shape)
    running_median(image, np.array(EIGHT), out)
    np.subtract(image, out, out=out)
