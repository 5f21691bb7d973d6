"""Scattered light and repair of single pixels."""

from __future__ import annotations

import numpy as np
import pytest
from apero_kernels import background, badpix, electrons, halo, repair
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.kernels import naive
from tests.kernels.cases import arrays, assert_close

quiet = settings(deadline=None, max_examples=30)


@quiet
@given(arrays((20, 25), empty=False), st.floats(0.4, 5), st.floats(0.4, 5))
def test_blur_is_the_naive_one(image, sigma_y, sigma_x):
    out = np.empty(image.shape)
    halo.blur(image, sigma_y, sigma_x, out)
    assert_close(
        out, naive.blur(image, sigma_y, sigma_x), np.float32, 32, scale=np.nanmax(np.abs(image), initial=1.0)
    )


@quiet
@given(arrays((30, 30)), st.integers(1, 12), st.integers(1, 12), st.integers(0, 2**31))
def test_levels_of_boxes_are_the_naive_ones(image, ny, nx, seed):
    mask = (np.random.default_rng(seed).random(image.shape) < 0.6).astype(np.uint8)
    found = np.array(background.box_levels(image, mask, (ny, nx), fewest=3))
    assert_close(found, naive.box_levels(image, mask, (ny, nx), 3), image.dtype, 64, scale=2e4)


@pytest.mark.parametrize("degrees", [(0, 0), (1, 3), (7, 7)])
def test_surface_is_recovered_at_its_true_place(degrees):
    """Levels sit where their pixels are: a stretched grid would fail by far more than rounding."""
    rng = np.random.default_rng(1)
    shape = (300, 420)
    truth = rng.normal(size=(degrees[0] + 1, degrees[1] + 1))
    y, x = rng.uniform(0, shape[0], 600), rng.uniform(0, shape[1], 600)
    levels = np.polynomial.chebyshev.chebval2d(2 * y / shape[0] - 1, 2 * x / shape[1] - 1, truth)
    levels[:20] += 50.0
    sigmas = np.full(600, 1e-3)
    levels += sigmas * rng.standard_normal(600)
    found, scale = background.fit_surface(y, x, levels, sigmas, shape, degrees)
    by = np.polynomial.chebyshev.chebvander(2 * y / shape[0] - 1, degrees[0])
    bx = np.polynomial.chebyshev.chebvander(2 * x / shape[1] - 1, degrees[1])
    design = (by[:, :, None] * bx[:, None, :]).reshape(600, -1)[20:]
    errors = 1e-3 * np.sqrt(np.diag(np.linalg.inv(design.T @ design))).reshape(truth.shape)
    assert np.abs((found - truth) / errors).max() < 5  # least squares without the 20 wrong levels
    assert abs(scale - 1) < 0.2
    out = np.empty(shape)
    background.subtract_background(naive.surface(truth, shape), found, out)
    np.testing.assert_allclose(out, naive.surface(truth - found, shape), atol=1e-12)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_scattered_light_between_orders_is_removed(seed):
    """Surface plus halo: what is left is below 3e-4 of the flux of the orders."""
    rng = np.random.default_rng(seed)
    shape = (400, 400)
    y, x = np.mgrid[0 : shape[0], 0 : shape[1]]
    orders = 2e4 * np.exp(-0.5 * ((y % 60 - 30) / 5.0) ** 4) * (0.6 + 0.4 * np.sin(x / 90.0))
    around = naive.blur(orders, 9.0, 1.0) / 47.0
    smooth = 80.0 + 0.1 * x - 0.05 * y + 20.0 * np.cos(y / 130.0)
    image = orders + around + smooth
    # The mask comes from another exposure: pixels chosen for being low in this one would bias it.
    other, image = (
        (image + np.sqrt(image) * rng.standard_normal(shape)).astype(np.float32) for _ in range(2)
    )
    image[rng.random(shape) < 0.01] = np.nan
    mask = badpix.background_mask(other, half=40, q=30.0)
    mask &= (orders < 1.0).astype(np.uint8)
    local = np.empty_like(image)
    halo.blur(image, 9.0, 1.0, local)
    amplitude, _ = halo.halo_amplitude(image, local, mask)
    assert abs(amplitude * 47 - 1) < 0.1
    levels = background.box_levels(image - np.float32(amplitude) * local, mask, (40, 40))
    coefficients, _ = background.fit_surface(*levels, shape, (5, 5))
    out = np.empty(shape)
    background.subtract_background(image, coefficients, out, local=local, amplitude=amplitude)
    left = (out - orders)[(orders < 1.0) & np.isfinite(out)]
    assert abs(np.mean(left)) < 3e-4 * orders.max()


@quiet
@given(arrays((12, 12)))
def test_single_pixels_are_filled_as_in_the_naive_version(image):
    var = np.abs(image) + 1
    out, out_var = np.empty(image.shape), np.empty(image.shape)
    number = repair.fill_isolated(image, var, out, out_var)
    expected, expected_var = naive.fill_isolated(image, var)
    scale = np.nanmax(np.abs(image), initial=1.0)
    assert_close(out, expected, np.float64, 64, scale=scale)
    assert_close(out_var, expected_var, np.float64, 64, scale=scale)
    assert number == np.isfinite(out).sum() - np.isfinite(image).sum()


def test_filled_pixel_lies_on_the_quadratic_of_its_neighbours():
    y, x = np.mgrid[0:9, 0:9].astype(float)
    image = 3 + x - 2 * y + 0.5 * x * x - 0.3 * y * y + 0.7 * x * y + 0.1 * x * x * y
    truth = image.copy()
    image[4, 4] = image[1, 1] = np.nan
    image[7, 7] = image[7, 6] = np.nan
    out, out_var = np.empty_like(image), np.empty_like(image)
    assert repair.fill_isolated(image, np.ones_like(image), out, out_var) == 2
    np.testing.assert_allclose(out[[4, 1], [4, 1]], truth[[4, 1], [4, 1]], rtol=1e-13)
    assert out_var[4, 4] == 1.25
    assert np.isnan(out[7, 6:8]).all()


@quiet
@given(arrays((24, 30)), st.integers(0, 2**31), st.floats(-0.5, 0.5), st.floats(1, 2000), st.integers(0, 2))
def test_amplitude_of_the_halo_is_the_naive_one(image, seed, start, limit, guard):
    rng = np.random.default_rng(seed)
    mask = (rng.random(image.shape) < 0.7).astype(np.uint8)
    local = (100 * rng.random(image.shape)).astype(image.dtype)
    found = halo.halo_amplitude(image, local, mask, (11, 13), start=start, limit=limit, guard=guard)
    expected = naive.halo_amplitude(image, local, mask, (11, 13), start, limit, guard)
    assert_close(found, expected, np.float64, 1e7, scale=1e3)


def test_bright_pixels_do_not_move_the_halo():
    """A limit on the pixels themselves would cut the brightest halo; one row of light at its edge is seen."""
    rng = np.random.default_rng(3)
    local = np.tile(1000 * np.exp(-np.arange(64) / 20.0), (64, 1)).T
    image = 0.02 * local + rng.normal(0, 1, local.shape)
    mask = np.ones(image.shape, np.uint8)
    mask[:8] = 0
    image[6:10] += np.array([500.0, 300.0, 30.0, 2.0])[:, None]
    amplitude, leverage = halo.halo_amplitude(image, local, mask, (64, 64), start=0.02, limit=4.0)
    assert abs(amplitude - 0.02) < 4 / np.sqrt(leverage)
    loose, _ = halo.halo_amplitude(image, local, mask, (64, 64), start=0.02)
    assert abs(loose - 0.02) > 20 / np.sqrt(leverage)


@quiet
@given(st.integers(0, 2**31), st.floats(0, 1), st.integers(1, 6), st.integers(1, 8))
def test_inner_background_is_the_naive_one(seed, share, reach, least):
    mask = (np.random.default_rng(seed).random((9, 20)) < share).astype(np.uint8)
    out = np.empty_like(mask)
    halo.inner_background(mask, out, reach, least)
    np.testing.assert_array_equal(out, naive.inner_background(mask, reach, least))


def test_inner_background_does_not_choose_low_pixels():
    """Pixels below a floor of the frame itself are low; chosen by their neighbours they are not."""
    noise = np.random.default_rng(4).normal(size=(200, 400))
    mask, out = (noise < 0).astype(np.uint8), np.empty(noise.shape, np.uint8)
    halo.inner_background(mask, out)
    chosen = noise[out > 0]
    assert noise[mask > 0].mean() < -0.7
    assert abs(chosen.mean()) < 5 / np.sqrt(chosen.size)


@quiet
@given(arrays((9, 11)), st.integers(0, 2**31), st.booleans(), st.integers(0, 3), st.integers(0, 2))
def test_electrons_are_the_naive_ones(slope, seed, calibrated, x0, y0):
    rng = np.random.default_rng(seed)
    shape = (max(slope.shape[0] - y0 - 1, 1), max(slope.shape[1] - x0 - 1, 1))
    if y0 + shape[0] > slope.shape[0] or x0 + shape[1] > slope.shape[1]:
        return
    var = rng.random(slope.shape).astype(slope.dtype)
    dark = rng.normal(size=slope.shape).astype(slope.dtype)
    dark[rng.random(slope.shape) < 0.1] = np.nan
    bad = (rng.random(shape) < 0.3).astype(np.uint8)
    keys = {"dark": dark, "dark_var": var, "bad": bad} if calibrated else {}
    out, out_var = np.empty(shape, slope.dtype), np.empty(shape, slope.dtype)
    electrons.to_electrons(slope, var, x0, y0, 20.0, (-50.0, 400.0), out, out_var, **keys)
    expected = np.where((slope >= -50.0) & (slope <= 400.0), slope, np.nan) - (dark if calibrated else 0)
    expected = expected[::-1, ::-1][y0 : y0 + shape[0], x0 : x0 + shape[1]] * 20.0
    noise = (2 * var if calibrated else var)[::-1, ::-1][y0 : y0 + shape[0], x0 : x0 + shape[1]] * 400.0
    if calibrated:
        expected[bad > 0] = np.nan
    noise[np.isnan(expected)] = np.nan
    assert_close(out, expected, slope.dtype, 8, scale=1e4)
    assert_close(out_var, noise, slope.dtype, 8, scale=1e3)


@quiet
@given(arrays((9, 11)), st.integers(0, 2**31))
def test_parts_of_the_variance_are_the_naive_ones(image, seed):
    var = (100 * np.random.default_rng(seed).random(image.shape)).astype(image.dtype)
    inside = (image >= -100) & (image <= 500)
    expected = np.where(inside, np.maximum(var - 0.5 * np.maximum(image, 0), 2.0), np.nan)
    found, whole, base = image.copy(), var.copy(), np.empty_like(image)
    electrons.split_variance(found, whole, 0.5, 2.0, (-100.0, 500.0), base)
    np.testing.assert_array_equal(found, np.where(inside, image, np.nan))
    assert_close(base, expected, image.dtype, 16, scale=500.0)
    assert_close(whole, expected + 0.5 * np.maximum(image, 0), image.dtype, 16, scale=500.0)


def test_bad_arguments_are_named():
    image, mask = np.ones((5, 5)), np.ones((5, 5), np.uint8)
    with pytest.raises(ValueError, match=r"sigma_x: 0\.0, expected a finite number above 0"):
        halo.blur(image, 1.0, 0.0, np.empty((5, 5)))
    with pytest.raises(ValueError, match=r"shape \(5, 5\) at x0 = 1, y0 = 0 does not fit"):
        electrons.to_electrons(image, image, 1, 0, 1.0, (0.0, 1.0), np.empty((5, 5)), np.empty((5, 5)))
    with pytest.raises(ValueError, match="limit: -1"):
        halo.halo_amplitude(image, image, mask, limit=-1.0)
    with pytest.raises(ValueError, match="least: 0"):
        halo.inner_background(mask, mask.copy(), least=0)
    with pytest.raises(ValueError, match="out shares memory with mask"):
        halo.inner_background(mask, mask)
    with pytest.raises(ValueError, match=r"box: \(0, 5\)"):
        background.box_levels(image, mask, (0, 5))
    with pytest.raises(ValueError, match="shares memory"):
        repair.fill_isolated(image, image, image, np.empty((5, 5)))
    assert np.isnan(background.fit_surface(*np.ones((4, 1)), (5, 5), (1, 1))[0]).all()
