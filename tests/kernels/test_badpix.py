"""Bad pixels: against the naive version, and against defects that were put in."""

from __future__ import annotations

import numpy as np
import pytest
from apero_kernels import badpix, dark, stack
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.kernels import naive
from tests.kernels.cases import arrays, assert_close

quiet = settings(deadline=None, max_examples=30)


@quiet
@given(arrays((6, 30)), st.integers(0, 2**31))
def test_flags_are_the_naive_ones(image, seed):
    var = np.random.default_rng(seed).uniform(0.1, 30, image.shape).astype(image.dtype)
    mask = np.zeros(image.shape, np.uint8)
    badpix.flag_flat(image, mask, scale=5.0, var=var)
    np.testing.assert_array_equal(mask, naive.flag_flat(image, 5.0, var, 0.5, 5.0, 0.1))
    mask = np.zeros(image.shape, np.uint8)
    badpix.flag_dark(image, mask, var=var)
    np.testing.assert_array_equal(mask, naive.flag_dark(image, var, 5.0, 5.0, 1.0))


@quiet
@given(st.integers(0, 25), st.integers(0, 25), st.integers(0, 2**31), st.sampled_from([1, 3, 5, 9]))
def test_erosion_and_dilation_are_the_naive_ones(ny, nx, seed, size):
    rng = np.random.default_rng(seed)
    mask = (rng.random((ny, nx)) < rng.random()).astype(np.uint8)
    np.testing.assert_array_equal(badpix.erode(mask, size), naive.square(mask, size, np.all, True))
    np.testing.assert_array_equal(badpix.dilate(mask, size), naive.square(mask, size, np.any, False))


def test_only_large_defects_grow():
    mask = np.zeros((60, 60), np.uint8)
    mask[10, 10] = 1
    mask[30:38, 30:38] = 1
    grown = badpix.grow_defects(mask)
    assert grown[5:16, 5:16].sum() == 1
    # The 4 x 4 centres of 5 x 5 squares grow by 4 to 12 x 12.
    assert grown.sum() == 1 + 12 * 12
    assert grown[28:40, 28:40].all()


@quiet
@given(arrays((30, 40), empty=False), st.sampled_from([8, 16]), st.integers(1, 12))
def test_background_mask_is_the_naive_one(flat, ribbon, half):
    found = badpix.background_mask(flat, ribbon=ribbon, half=half)
    np.testing.assert_array_equal(found, naive.background_mask(flat, ribbon, half, 5.0, 7, 3))


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_defects_are_found_and_good_pixels_are_not(seed):
    """Recall above 97 per cent, precision above 90 per cent (hot > 5 ADU/s, response < 0.5)."""
    rng = np.random.default_rng(seed)
    shape = (400, 500)
    y = np.arange(shape[0])[:, None]
    profile = 500.0 * (np.exp(-0.5 * ((y % 40 - 20) / 6) ** 2) + 0.1)
    response = 1 + 0.02 * rng.standard_normal(shape)
    dead = rng.random(shape) < 0.004
    response[dead] = rng.uniform(0, 0.5, dead.sum())
    flat = (profile * response).astype(np.float32)
    flat_var = (flat / 50 + 1).astype(np.float32)
    flat += np.sqrt(flat_var) * rng.standard_normal(shape, dtype=np.float32)
    rate = 0.02 + 0.02 * rng.standard_normal(shape)
    hot = rng.random(shape) < 0.006
    rate[hot] += 5 + rng.exponential(10, hot.sum())
    mask = np.zeros(shape, np.uint8)
    badpix.flag_flat(flat, mask, scale=badpix.flat_scale(flat), var=flat_var)
    dark_var = np.full(shape, 4e-4, np.float32)
    badpix.flag_dark(rate.astype(np.float32), mask, var=dark_var)
    bad = dead | hot
    assert (mask > 0)[bad].mean() > 0.97
    assert bad[mask > 0].mean() > 0.90


def test_telegraph_pixels_stand_out_of_the_scatter():
    rng = np.random.default_rng(5)
    darks = rng.normal(0, 0.02, (12, 200, 200)).astype(np.float32)
    jumping = rng.random((200, 200)) < 0.002
    darks[:, jumping] += rng.integers(0, 2, (12, jumping.sum()))
    median, scatter = np.empty((200, 200)), np.empty((200, 200))
    count, out = np.empty((200, 200), np.int32), np.empty((200, 200), np.uint8)
    stack.stack(darks, median, out_scatter=scatter, out_count=count)
    number = badpix.unstable_pixels(scatter, count, np.full((200, 200), 4e-4), out)
    assert number == out.sum()
    # One of 12 darks in the upper level is invisible to percentiles; 2 of 2^12 sequences never jump.
    assert out[jumping].mean() > 0.97
    assert out[~jumping].mean() < 1e-4


@quiet
@given(arrays((5, 30)))
def test_dark_without_its_neighbours(image):
    out = np.empty(image.shape)
    dark.subtract_neighbours(image, out)
    expected = image - naive.running_median(image, [-4, -3, -2, -1, 1, 2, 3, 4])
    assert_close(out, expected, image.dtype, 4, scale=np.nanmax(np.abs(image), initial=1.0))


def test_smooth_light_goes_and_hot_pixels_stay():
    x = np.arange(400.0)
    light = np.tile(2 + np.sin(x / 60), (3, 1))
    image = light.copy()
    image[1, 100] += 30
    image[1, 200:204] += 30
    out = np.empty_like(image)
    dark.subtract_neighbours(image, out)
    assert np.abs(np.delete(out[1], [*range(96, 105), *range(195, 209)])[5:-5]).max() < 2e-3
    assert abs(out[1, 100] - 30) < 2e-3
    assert out[1, 200:204].min() > 29.9


def test_bad_arguments_are_named():
    image = np.ones((4, 9), np.float32)
    mask = np.zeros((4, 9), np.uint8)
    with pytest.raises(ValueError, match=r"scale: 0\.0, expected a flux above 0 \(is there light"):
        badpix.flag_flat(image, mask, scale=0.0)
    with pytest.raises(ValueError, match="size: 4, expected an odd number"):
        badpix.erode(mask, 4)
    with pytest.raises(TypeError, match="mask: dtype float32, expected uint8"):
        badpix.dilate(image, 3)
    with pytest.raises(TypeError, match="byte order"):
        badpix.background_mask(image.astype(">f4"))
