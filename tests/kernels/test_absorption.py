"""Line profiles, line spread and the regression of stacks against naive restatements."""

from __future__ import annotations

import numpy as np
import pytest
from apero_kernels import absorption, regression
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.kernels import naive

SEEDS = st.integers(0, 2**32 - 1)


@given(SEEDS)
@settings(max_examples=25, deadline=None)
def test_lines_add_up(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 8))
    place, area = rng.uniform(-20, 220, n), rng.uniform(0, 5, n)
    fwhm, share, reach = rng.uniform(1, 12, n), rng.uniform(0, 1, n), rng.uniform(5, 150, n)
    out = rng.uniform(0, 1, 200)
    expected = out + naive.pseudo_voigts(place, area, fwhm, share, reach, 200)
    absorption.add_lines(place, area, fwhm, share, reach, out)
    np.testing.assert_allclose(out, expected, rtol=1e-12, atol=1e-13)


def test_area_of_a_line() -> None:
    """A Gaussian keeps its area; a Lorentzian loses what lies beyond its reach and what it is lowered by.

    Of a Lorentzian of half width g within +-R: 1 - (2/pi)(g/R) beyond, and as much again below its foot.
    """
    for share, expected in ((0.0, 1.0), (1.0, 1.0 - 4.0 / np.pi * 2.0 / 400.0)):
        out = np.zeros(1001)
        one = np.ones(1)
        absorption.add_lines(500.3 * one, one, 4.0 * one, share * one, 400.0 * one, out)
        assert out.sum() == pytest.approx(expected, abs=2e-4)


@given(SEEDS, st.floats(1.0, 8.0))
@settings(max_examples=25, deadline=None)
def test_spread_is_a_weighted_mean(seed: int, exponent: float) -> None:
    """Tolerance: exponents are rounded to 0.01, which moves a mean of random values by up to 2e-3."""
    rng = np.random.default_rng(seed)
    values = rng.uniform(0, 1, (2, 400))
    place = rng.uniform(-10, 410, (3, 20))
    fwhm = rng.uniform(2.0, 8.0, place.shape)
    p = np.full(place.shape, exponent)
    place[0, 0], fwhm[1, 1] = np.nan, np.nan
    out = np.empty((2, *place.shape))
    absorption.spread(values, place, fwhm, p, 0.25, out)
    expected = naive.spread(values, place, fwhm, p, 0.25, absorption.SMALLEST)
    differ = np.isnan(out) != np.isnan(expected)
    # The end of a rounded line spread may fall on the other side of the end of the grid.
    reach = 4.0 * fwhm / 0.25 * 2
    edge = (place < reach) | (place > 399 - reach)
    assert not np.any(differ[:, ~np.nan_to_num(edge, nan=True)])
    both = np.isfinite(out) & np.isfinite(expected)
    np.testing.assert_allclose(out[both], expected[both], atol=2e-3)


def test_spread_keeps_constants_and_moments() -> None:
    """A constant stays, a slope has its value at the centre, a parabola gains the variance."""
    grid = np.arange(4000.0)
    values = np.stack([np.full(4000, 3.0), grid, (grid - 2000.0) ** 2])
    place = np.array([[1999.4, 2000.0, 2100.7]])
    fwhm, p = np.full((1, 3), 5.0), np.full((1, 3), 2.0)
    out = np.empty((3, 1, 3))
    absorption.spread(values, place, fwhm, p, 0.25, out)
    np.testing.assert_allclose(out[0], 3.0, rtol=1e-12)
    # 1e-3 px: taps end where the weight is 1e-4, not symmetric about a centre between points.
    np.testing.assert_allclose(out[1], place, atol=2e-3)
    sigma = 5.0 / np.sqrt(8 * np.log(2)) / 0.25
    np.testing.assert_allclose(out[2] - (place - 2000.0) ** 2, sigma**2, rtol=3e-3)


@given(SEEDS)
@settings(max_examples=25, deadline=None)
def test_regression_of_stacks(seed: int) -> None:
    rng = np.random.default_rng(seed)
    files, pixels = int(rng.integers(1, 9)), 30
    design = np.stack([np.ones(files), rng.uniform(0.5, 6, files), rng.uniform(1, 2.5, files)], axis=1)
    prior = rng.uniform(0, 0.1, (3, pixels))
    prior[:, 0] = 0.0
    prior[1, 1] = np.nan
    values = rng.normal(0, 0.02, (files, pixels))
    variances = rng.uniform(1e-5, 1e-3, values.shape)
    values[rng.random(values.shape) < 0.2] = np.nan
    variances[rng.random(values.shape) < 0.1] = 0.0
    values[rng.random(values.shape) < 0.1] += 1.0
    out, used = np.empty((3, pixels)), np.empty(pixels, np.int64)
    fewest = int(rng.integers(1, 4))
    regression.fit_stack(values, variances, design, prior, 4.0, fewest, out, used)
    expected, count = naive.fit_stack(values, variances, design, prior, 4.0, fewest)
    np.testing.assert_array_equal(used, count)
    np.testing.assert_allclose(out, expected, rtol=1e-7, atol=1e-12)


def test_regression_recovers_and_shrinks() -> None:
    """Many precise data give the terms; a prior of no width gives none."""
    rng = np.random.default_rng(5)
    design = np.stack([np.ones(40), rng.uniform(0.5, 6, 40), rng.uniform(1, 2.5, 40)], axis=1)
    truth = np.array([0.01, -0.004, 0.02])
    values = (design @ truth)[:, None] + 1e-6 * rng.standard_normal((40, 2))
    values[3] += 0.5
    out, used = np.empty((3, 2)), np.empty(2, np.int64)
    prior = np.array([[0.1, 0.0]] * 3)
    regression.fit_stack(values, np.full((40, 2), 1e-12), design, prior, 5.0, 3, out, used)
    np.testing.assert_allclose(out[:, 0], truth, atol=5e-6)
    assert used[0] == 39
    np.testing.assert_array_equal(out[:, 1], 0.0)


@pytest.mark.parametrize("dtype", [np.int64, np.complex128])
def test_wrong_arrays(dtype: type) -> None:
    wrong = np.zeros((2, 5), dtype)
    right = np.zeros((2, 5))
    with pytest.raises(TypeError, match="values"):
        absorption.spread(wrong, right, right, right, 0.25, np.empty((2, 2, 5)))
    with pytest.raises(TypeError, match="place"):
        absorption.add_lines(wrong[0], right[0], right[0], right[0], right[0], np.zeros(9))
    with pytest.raises(ValueError, match="design"):
        regression.fit_stack(
            right, right, np.zeros((3, 3)), np.zeros((3, 5)), 4.0, 1, np.empty((3, 5)), np.empty(5, np.int64)
        )
