"""Chebyshev series, robust fits and low-pass against numpy and against truth."""

from __future__ import annotations

import numpy as np
import pytest
from apero_kernels import polynomial
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.kernels import naive
from tests.kernels.cases import arrays, assert_close

quiet = settings(deadline=None, max_examples=60)


@quiet
@given(st.integers(0, 9), st.integers(0, 2**31), st.floats(1.0, 4088.0))
def test_series_is_that_of_numpy_on_zero_to_nx(degree, seed, nx):
    rng = np.random.default_rng(seed)
    coefficients = rng.normal(size=degree + 1)
    x = rng.uniform(0, nx, 50)
    assert_close(
        polynomial.chebyshev(coefficients, x, nx), naive.chebyshev(coefficients, x, nx), ulps=256, scale=10
    )


def test_domain_ends_at_nx_not_at_the_last_pixel():
    """T1 is +1 at x = nx and -1 at x = 0; with a domain up to nx - 1 the fit of a line would differ."""
    line = np.array([0.0, 1.0])
    np.testing.assert_array_equal(
        polynomial.chebyshev(line, np.array([0.0, 2044.0, 4088.0]), 4088), [-1, 0, 1]
    )


@quiet
@given(arrays((80,), dtypes=(np.float64,)), st.integers(0, 4), st.sampled_from([0.0, 4.0]))
def test_robust_fit_is_the_naive_iteration(y, degree, cut):
    x = np.arange(y.size, dtype=float)
    sigma = 1.0 + 0.5 * np.sin(x)
    coefficients, covariance, weights, scale = polynomial.fit_chebyshev(
        x, y, degree, max(y.size, 1), sigma=sigma, cut=cut
    )
    if np.isfinite(y).sum() <= degree:
        assert np.isnan(coefficients).all() and np.isnan(covariance).all()
        return
    expected, expected_weights, expected_scale = naive.robust_chebyshev(
        x, y, degree, max(y.size, 1), sigma, cut
    )
    residual_noise = 1e-9 * np.nanmax(np.abs(y))
    if expected_scale < 1e3 * residual_noise or np.isfinite(y).sum() < 4 * (degree + 1):
        # More than half of the points are fitted exactly: the scale is rounding, the weights are chance.
        return
    np.testing.assert_allclose(coefficients, expected, rtol=0, atol=1e-6 * np.nanmax(np.abs(y)))
    np.testing.assert_allclose(weights, expected_weights, atol=1e-5)
    np.testing.assert_allclose(scale, expected_scale, rtol=1e-6)


def test_cut_is_in_true_sigmas():
    """A point at `cut` sigma keeps half of its weight: the scale is sigma, not the median residual."""
    rng = np.random.default_rng(3)
    x = np.arange(20_000.0)
    y = rng.normal(0.0, 3.0, x.size)
    y[10_000] = 5 * 3.0
    _, _, weights, scale = polynomial.fit_chebyshev(x, y, 0, x.size, cut=5.0)
    assert abs(scale / 3.0 - 1) < 4 * 1.17 / np.sqrt(x.size)  # error of a MAD sigma, 1.17 sigma/sqrt(n)
    assert abs(weights[10_000] - 0.5) < 0.2  # 3 % in scale changes this weight by 0.18
    assert weights[np.abs(y) < 6.0].min() > 0.99


def test_coefficients_scatter_as_the_covariance_says():
    rng = np.random.default_rng(8)
    x = np.arange(400.0)
    sigma = 0.5 + x / 400.0
    truth = np.array([3.0, -1.0, 0.5])
    pulls = []
    for _ in range(300):
        y = naive.chebyshev(truth, x, 400.0) + rng.normal(size=400) * sigma
        found, covariance, _, _ = polynomial.fit_chebyshev(x, y, 2, 400.0, sigma=sigma, cut=0.0)
        pulls.append((found - truth) / np.sqrt(np.diag(covariance)))
    assert np.all(np.abs(np.mean(np.square(pulls), axis=0) - 1) < 4 * np.sqrt(2 / 300))


def test_outliers_do_not_move_the_fit():
    rng = np.random.default_rng(6)
    x = np.arange(4088.0)
    truth = np.array([100.0, -90.0, 12.0, 0.3, 0.05])
    y = naive.chebyshev(truth, x, 4088.0) + rng.normal(0, 0.02, x.size)
    y[rng.random(x.size) < 0.05] += 5.0
    found, covariance, _, _ = polynomial.fit_chebyshev(x, y, 4, 4088.0, sigma=np.full(x.size, 0.02))
    assert np.all(np.abs(found - truth) < 5 * np.sqrt(np.diag(covariance)))


@quiet
@given(arrays((120,)), st.integers(1, 40))
def test_low_pass_is_the_naive_one(y, width):
    assert_close(polynomial.low_pass(y, width), naive.low_pass(y, width), ulps=64)


def test_low_pass_of_a_line_is_the_line_between_the_outer_nodes():
    y = 3.0 + 0.5 * np.arange(300.0)
    smooth = polynomial.low_pass(y, 21)
    np.testing.assert_allclose(smooth[20:280], y[20:280], atol=1e-10)
    assert smooth[0] == smooth[1]


def test_bad_arguments_are_named():
    x = np.arange(5.0)
    with pytest.raises(ValueError, match="degree: -1"):
        polynomial.fit_chebyshev(x, x, -1, 5.0)
    with pytest.raises(ValueError, match=r"nx: 0\.0"):
        polynomial.chebyshev(x, x, 0.0)
    with pytest.raises(ValueError, match="width: 0"):
        polynomial.low_pass(x, 0)
    with pytest.raises(TypeError, match="byte order"):
        polynomial.low_pass(x.astype(">f8"), 5)
