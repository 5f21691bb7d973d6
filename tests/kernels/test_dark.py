"""Darks combined, and their background beside clusters: against the definitions restated with numpy."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from apero_kernels import dark
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.kernels import naive

quiet = settings(deadline=None, max_examples=40)


def stack_of(seed, count, dtype):
    """Levels with outliers, gaps and unequal errors."""
    rng = np.random.default_rng(seed)
    values = rng.normal(5.0, 1.0, (count, 6, 17))
    values[rng.random(values.shape) < 0.1] += 60.0
    values[rng.random(values.shape) < 0.2] = np.nan
    variances = rng.uniform(0.5, 2.0, values.shape)
    variances[rng.random(values.shape) < 0.1] = np.nan
    return values.astype(dtype), variances.astype(dtype)


def naive_mean(values, variances, clip):
    """Weighted mean of what is near the median, and its variance, pixel by pixel in double precision."""
    mean, variance = np.full(values.shape[1:], np.nan), np.full(values.shape[1:], np.nan)
    for place in np.ndindex(mean.shape):
        v, e = (a[(slice(None), *place)].astype(np.float64) for a in (values, variances))
        if np.isnan(v).all():
            continue
        middle = np.nanmedian(v)
        with np.errstate(invalid="ignore"):
            kept = np.abs(v - middle) <= clip * np.sqrt(e)
        if not kept.any():
            mean[place] = middle
            variance[place] = np.nanmean(e) if np.isfinite(e).any() else np.nan
            continue
        weights, v = 1.0 / e[kept], v[kept]
        mean[place] = np.sum(weights * v) / weights.sum()
        variance[place] = 1.0 / weights.sum()
        if v.size > 2:
            scatter = np.sum(weights * (v - mean[place]) ** 2) / weights.sum() / (v.size - 1)
            variance[place] = max(variance[place], scatter)
    return mean, variance


@quiet
@given(st.integers(0, 10_000), st.integers(1, 8), st.sampled_from([np.float32, np.float64]))
def test_clipped_mean_is_the_naive_one(seed, count, dtype):
    values, variances = stack_of(seed, count, dtype)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # numpy's word on pixels without a value
        centre = np.nanmedian(values, axis=0).astype(dtype)
    mean, variance = np.empty_like(centre), np.empty_like(centre)
    dark.clipped_mean(values, variances, centre, 5.0, mean, variance)
    expected = naive_mean(values, variances, 5.0)
    # A few roundings of a sum of up to eight values.
    for found, right in zip((mean, variance), expected, strict=True):
        np.testing.assert_allclose(found, right, rtol=20 * np.finfo(dtype).eps)


@quiet
@given(st.integers(0, 10_000), st.integers(3, 80), st.sampled_from([np.float32, np.float64]), st.booleans())
@example(786, 34, np.float64, False)  # two middle values of opposite sign
def test_wide_background_counts_beside_clusters_alone(seed, columns, dtype, in_place):
    rng = np.random.default_rng(seed)
    level = rng.normal(0.0, 0.3, (5, columns)).astype(dtype)
    level[1:3, columns // 3 : columns // 3 + 14] += 20.0
    level[4, : columns // 4] += 5.0
    level[rng.random(level.shape) < 0.1] = np.nan
    level[3] = np.nan
    offsets = np.arange(-12, 13, 3)
    near = naive.running_median(level, [-4, -3, -2, -1, 1, 2, 3, 4]).astype(dtype)
    wide = naive.running_median(level, offsets).astype(dtype)
    expected = np.where(near - wide > dtype(1.0), wide, near)
    out = near.copy() if in_place else np.empty_like(near)
    dark.replace_above_wide(level, out if in_place else near, offsets, 1.0, out)
    # The mean of two middle values may be rounded twice, by parts of theirs: they may nearly cancel.
    eps = np.finfo(dtype).eps
    np.testing.assert_allclose(out, expected, rtol=4 * eps, atol=eps * np.nanmax(np.abs(level)))
    if columns >= 60:
        assert (out[1] != near[1])[~np.isnan(near[1])].any(), "no cluster in the test"


def test_bad_arguments_are_named():
    cube, plane = np.ones((3, 4, 9), np.float32), np.ones((4, 9), np.float32)
    with pytest.raises(ValueError, match="variances: shape"):
        dark.clipped_mean(cube, cube[:2], plane, 5.0, plane, plane)
    with pytest.raises(ValueError, match="clip: 0"):
        dark.clipped_mean(cube, cube, plane, 0.0, plane, plane)
    with pytest.raises(TypeError, match="centre: dtype float64, expected that of the values"):
        dark.clipped_mean(cube, cube, plane.astype(np.float64), 5.0, plane, plane)
    with pytest.raises(ValueError, match="expected rising positions"):
        dark.replace_above_wide(plane, plane, np.array([2, 1]), 1.0, plane.copy())
    with pytest.raises(ValueError, match="out shares memory with level"):
        dark.replace_above_wide(plane, plane, np.array([1, 2]), 1.0, plane)
