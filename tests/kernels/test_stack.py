"""Medians and means over images, running medians, and the variances they promise."""

from __future__ import annotations

import numpy as np
import pytest
from apero_kernels import running, stack
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.kernels import naive
from tests.kernels.cases import arrays, assert_close

quiet = settings(deadline=None, max_examples=40)


@quiet
@given(arrays((30, 4, 9)), st.sampled_from(["median", "mean"]))
def test_stack_is_the_naive_one(images, statistic):
    shape = images.shape[1:]
    out, scatter = np.empty(shape), np.empty(shape)
    count = np.empty(shape, np.int32)
    stack.stack(images, out, statistic=statistic, out_scatter=scatter, out_count=count)
    expected = naive.stack_median(images) if statistic == "median" else naive.stack_mean(images)
    scale = np.max(np.abs(images), initial=1.0, where=np.isfinite(images))
    assert_close(out, expected, ulps=32, scale=scale)
    assert_close(scatter, naive.stack_scatter(images, statistic), ulps=64, scale=scale)
    np.testing.assert_array_equal(count, naive.stack_count(images))


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 8, 25, 33, 34, 51])
@pytest.mark.parametrize("statistic", ["median", "mean"])
def test_variance_is_the_scatter_over_many_pixels(count, statistic):
    rng = np.random.default_rng(count)
    sigma = 2.0
    images = rng.normal(0.0, sigma, (count, 200, 300)).astype(np.float32)
    variances = np.full_like(images, sigma**2)
    out, out_var = np.empty((200, 300)), np.empty((200, 300))
    stack.stack(images, out, statistic=statistic, variances=variances, out_var=out_var)
    ratio = np.var(out) / out_var.mean()
    assert abs(ratio - 1) < 4 * np.sqrt(2 / out.size)  # 4 sigma of a variance from 60000 pixels


@pytest.mark.parametrize("statistic", ["median", "mean"])
def test_variance_with_unequal_images(statistic):
    rng = np.random.default_rng(9)
    sigmas = np.linspace(1.0, 2.0, 15)[:, None, None]
    images = (rng.normal(size=(15, 200, 300)) * sigmas).astype(np.float32)
    variances = np.broadcast_to(sigmas**2, images.shape).astype(np.float32)
    out, out_var = np.empty((200, 300)), np.empty((200, 300))
    stack.stack(images, out, statistic=statistic, variances=variances, out_var=out_var)
    # The median of unequal Gaussians is first order in 1/N: 3 % allowed at N = 15; the mean is exact.
    limit = 4 * np.sqrt(2 / out.size) + (0.03 if statistic == "median" else 0.0)
    assert abs(np.var(out) / out_var.mean() - 1) < limit


@pytest.mark.parametrize("statistic", ["median", "mean"])
def test_result_does_not_depend_on_the_blocks(statistic):
    rng = np.random.default_rng(4)
    images = rng.normal(size=(7, 50, 300)).astype(np.float32)
    images[rng.random(images.shape) < 0.1] = np.nan
    variances = rng.uniform(1, 2, images.shape).astype(np.float32)
    results = []
    for block_rows in (1, 7, 64):
        planes = [np.empty((50, 300), np.float32) for _ in range(3)]
        stack.stack_by_rows(
            lambda k, a, b: images[k, a:b].astype(">f4"),
            7,
            planes[0],
            statistic=statistic,
            read_var=lambda k, a, b: variances[k, a:b],
            out_var=planes[1],
            out_scatter=planes[2],
            block_rows=block_rows,
        )
        results.append(np.array(planes))
    np.testing.assert_array_equal(results[0], results[1])
    np.testing.assert_array_equal(results[0], results[2])


def test_block_of_the_wrong_shape_is_named():
    with pytest.raises(ValueError, match=r"image 0 gave rows of shape \(3, 4\), expected \(3, 5\)"):
        stack.stack_by_rows(lambda k, a, b: np.ones((3, 4)), 2, np.empty((3, 5)))


def test_variances_without_a_place_for_them():
    with pytest.raises(ValueError, match="give both or none"):
        stack.stack(np.ones((2, 3, 3)), np.empty((3, 3)), variances=np.ones((2, 3, 3)))
    with pytest.raises(ValueError, match="expected 'median' or 'mean'"):
        stack.stack(np.ones((2, 3, 3)), np.empty((3, 3)), statistic="mode")


@quiet
@given(
    arrays((4, 40)),
    st.sampled_from([running.SEVEN, running.EIGHT, (-1, 0, 1), (0,), tuple(range(-5, 6)), (2, 5)]),
)
def test_running_median_is_the_naive_one(image, offsets):
    out = np.empty(image.shape)
    running.running_median(image, np.array(offsets), out)
    assert_close(out, naive.running_median(image, offsets), image.dtype, 2)


def test_running_median_keeps_infinities_in_order():
    image = np.array([[1.0, np.inf, 2.0, -np.inf, 3.0, np.inf, 4.0, 5.0, np.nan, np.inf, np.inf]])
    for offsets in (running.SEVEN, running.EIGHT, running.ELEVEN):
        out = np.empty(image.shape)
        running.running_median(image, np.array(offsets), out)
        np.testing.assert_array_equal(out, naive.running_median(image, offsets))


def test_running_median_in_place_is_refused():
    image = np.ones((3, 9))
    with pytest.raises(ValueError, match="shares memory"):
        running.running_median(image, np.array(running.SEVEN), image)
    with pytest.raises(ValueError, match="rising positions"):
        running.running_median(image, np.array([1, 0]), np.empty((3, 9)))
