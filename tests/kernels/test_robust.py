"""Order statistics and robust means against their naive restatement."""

from __future__ import annotations

import numpy as np
import pytest
from apero_kernels import contracts, robust
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.kernels import naive
from tests.kernels.cases import arrays, assert_close

quiet = settings(deadline=None, max_examples=80)  # the first example compiles


@quiet
@given(arrays((30, 40)), st.floats(0, 100))
def test_percentile_is_that_of_the_sorted_values(image, q):
    # The rank is rounded by up to its own size, and counts with the distance of two values.
    largest = np.max(np.abs(image), where=np.isfinite(image), initial=0.0)
    ulps = 8 + image.size
    assert_close(robust.percentile(image, q), naive.percentile(image, q), np.float64, ulps, largest)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    "kind", ["noise", "sorted", "constant", "two values", "mostly nan", "stripes", "infinite"]
)
def test_percentile_of_a_large_image_is_exact(kind, dtype):
    """The bracket taken from a sample must not change the result, whatever the image looks like."""
    rng = np.random.default_rng(5)
    image = rng.normal(size=(300, 400))
    if kind == "sorted":
        image = np.sort(image.ravel()).reshape(300, 400)
    elif kind == "constant":
        image[:] = 3.0
    elif kind == "two values":
        image = np.where(image > 0.3, 7.0, -2.0)
    elif kind == "mostly nan":
        image[rng.random(image.shape) < 0.999] = np.nan
    elif kind == "stripes":
        image += 100.0 * (np.arange(400) % 7)
    elif kind == "infinite":
        image[::9] = np.inf
        image[1::9] = -np.inf
    image = image.astype(dtype)
    for q in (0.0, 0.01, 15.8655, 50.0, 68.27, 95.0, 99.99, 100.0):
        for part in (image, image[::-1, ::2]):
            good = part[np.isfinite(part)]
            # Rounding moves the rank by eps times n, and the result by that part of the distance.
            tolerance = 4 * np.finfo(float).eps * good.size * np.ptp(good)
            np.testing.assert_allclose(
                robust.percentile(part, q), naive.percentile(part, q), rtol=1e-15, atol=tolerance
            )


def test_estimate_sigma_of_a_gaussian_ignores_a_few_outliers():
    rng = np.random.default_rng(1)
    values = rng.normal(5.0, 2.0, 200_000)
    values[:200] = 1e6
    values[200:400] = np.nan
    # 4 errors of a percentile sigma, each 1.6 sigma / sqrt(2 n) (order statistics), and the outliers
    assert abs(robust.estimate_sigma(values) - 2.0) < 4 * 2.0 * 1.6 / np.sqrt(2 * values.size) + 0.005


@quiet
@given(arrays((60,), dtypes=(np.float64,)), st.sampled_from([2e-4, 1e-2]))
def test_odds_ratio_mean_is_the_published_iteration(values, f):
    sigmas = 1.0 + np.abs(np.sin(np.arange(values.size)))
    found = robust.odds_ratio_mean(values, sigmas, f)
    expected = naive.odds_ratio_mean(values, sigmas, f)
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)


def test_odds_ratio_mean_is_not_moved_by_bad_values():
    rng = np.random.default_rng(2)
    clean = rng.normal(10.0, 1.0, 4000)
    dirty = np.concatenate([clean, np.full(80, 60.0), [np.nan, np.inf]])
    found, error = robust.odds_ratio_mean(dirty, np.ones(dirty.size))
    assert abs(found - clean.mean()) < 0.1 * error
    assert abs(error - 1 / np.sqrt(4000)) < 0.02 / np.sqrt(4000)


@quiet
@given(arrays((50,), dtypes=(np.float64,)), st.floats(0, 100), st.integers(0, 2**31))
def test_weighted_percentile(values, q, seed):
    weights = np.random.default_rng(seed).random(values.size) + 0.1
    assert_close(
        robust.weighted_percentile(values, weights, q),
        naive.weighted_percentile(values, weights, q),
        ulps=1e4,
    )


def test_weighted_median_with_equal_weights_is_the_median():
    values = np.array([5.0, 1.0, np.nan, 9.0, 2.0, 7.0])
    assert robust.weighted_median(values, np.ones(6)) == 5.0
    assert np.isnan(robust.weighted_median(values, np.zeros(6)))


def test_big_endian_is_refused_with_the_way_out():
    image = np.ones((4, 4), ">f4")
    with pytest.raises(TypeError, match=r"not in the byte order.*contracts.native"):
        robust.percentile(image, 50)
    assert robust.percentile(contracts.native(image), 50) == 1.0
    plain = np.ones(3, np.float32)
    assert contracts.native(plain) is plain


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (
            lambda: robust.percentile(np.ones(3, np.int32), 50),
            TypeError,
            "int32, expected float32 or float64",
        ),
        (lambda: robust.percentile(np.ones(3), 101.0), ValueError, "between 0 and 100"),
        (
            lambda: robust.odds_ratio_mean(np.ones(3), np.ones(4)),
            ValueError,
            r"shape \(4,\), expected \(3,\)",
        ),
        (lambda: robust.odds_ratio_mean(np.ones(3), np.ones(3), 0.0), ValueError, "f: 0.0"),
        (lambda: robust.weighted_median(np.ones((3, 3)), np.ones((3, 3))), ValueError, "2 axes, expected 1"),
    ],
)
def test_bad_arguments_are_named(call, error, text):
    with pytest.raises(error, match=text):
        call()
