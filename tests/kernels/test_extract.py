"""Extraction: against the naive version, unbiased flux, honest error bars, hits and holes."""

from __future__ import annotations

import numpy as np
import pytest
from apero_kernels import extract
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.kernels import naive
from tests.kernels.cases import arrays

ROWS, HEIGHT, FIRST = 45, 33, 6


def profile_of(columns, rng):
    """Two fibres of four slices each."""
    y = np.arange(ROWS)[:, None]
    shape = np.zeros((ROWS, columns))
    for centre in (14.2, 31.1):
        for offset in np.array([-1.5, -0.5, 0.5, 1.5]) * 3.3:
            shape += np.exp(-0.5 * ((y - centre - offset - 0.1 * np.sin(np.arange(columns) / 50)) / 1.2) ** 2)
    shape[:FIRST] = shape[FIRST + HEIGHT :] = 0
    return shape / shape.sum(axis=0)


def frame(flux, rng, *, read=20.0, photon=1.15):
    profile = profile_of(flux.size, rng)
    signal = flux * profile
    image = signal + np.sqrt(read**2 + photon * signal) * rng.standard_normal(signal.shape)
    return image.astype(np.float32), np.full(signal.shape, read**2, np.float32), profile.astype(np.float32)


def run(function, image, var, profile, first=FIRST, **keys):
    flux, flux_var = np.empty((2, 1, image.shape[1]))
    rejected = function(image, var, profile, np.array([first]), HEIGHT, flux, flux_var, **keys)
    return flux[0], flux_var[0], rejected[0]


@settings(deadline=None, max_examples=20)
@given(
    arrays((14, 8), empty=False),
    st.integers(0, 2**31),
    st.integers(-4, 12),
    st.sampled_from([0.0, 3.0]),
    st.sampled_from([0.0, 0.1]),
)
def test_both_estimates_are_the_naive_ones(image, seed, first, cut, slack):
    rng = np.random.default_rng(seed)
    profile = rng.uniform(-0.1, 1, image.shape)
    profile[:, 0] = 0
    profile[rng.random(image.shape) < 0.05] = np.nan
    var = rng.uniform(-1, 20, image.shape)
    flux, flux_var = np.empty((2, 1, image.shape[1]))
    scale = max(float(np.nanmax(np.abs(image), initial=1.0)), 1.0)
    if cut == 0 or len(np.unique(image)) > image.size // 2:  # which of equal outliers goes first is free
        n = extract.optimal(
            image, var, profile, np.array([first]), 7, flux, flux_var,
            photon=1.1, cut=cut, profile_error=slack,
        )  # fmt: skip
        a, b, count = naive.optimal(image, var, profile, first, 7, 1.1, 3, cut, slack)
        np.testing.assert_allclose(flux[0], a, rtol=1e-7, atol=1e-9 * scale)
        np.testing.assert_allclose(flux_var[0], b, rtol=1e-7)
        assert n[0] == count
    profile = np.abs(profile)
    n = extract.two_step(image, np.abs(var), profile, np.array([first]), 7, flux, flux_var, cut=cut)
    a, b, count = naive.two_step(image, np.abs(var), profile, first, 7, cut)
    if len(np.unique(image)) > image.size // 2:  # residuals of constant frames are rounding
        np.testing.assert_allclose(flux[0], a, rtol=1e-9, atol=1e-9 * scale)
        np.testing.assert_allclose(flux_var[0], b, rtol=1e-9)
        assert n[0] == count


@pytest.mark.parametrize("snr", [30, 100, 300])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_flux_is_unbiased_and_the_error_bars_are_right(snr, seed):
    """Bias below 0.1 per cent plus its own error, variance within 5 per cent plus its own error."""
    rng = np.random.default_rng(seed)
    truth = snr**2 * (1.2 + np.sin(np.arange(8000) / 40.0))
    image, var, profile = frame(truth, rng)
    flux, flux_var, rejected = run(extract.optimal, image, var, profile, photon=1.15)
    pull = (flux - truth) / np.sqrt(flux_var)
    assert abs(np.mean(flux / truth - 1)) < 1e-3 + 4 * np.mean(np.sqrt(flux_var) / truth) / np.sqrt(8000)
    assert abs(np.var(pull) - 1) < 0.05 + 4 * np.sqrt(2 / 8000)
    assert rejected == 0


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_optimal_weights_beat_equal_weights(seed):
    rng = np.random.default_rng(seed)
    truth = np.full(8000, 1e4)
    image, var, profile = frame(truth, rng)
    best = run(extract.optimal, image, var, profile, photon=1.15)[0]
    signal = truth * profile
    equal, equal_var, _ = run(extract.two_step, image, var + 1.15 * signal.astype(np.float32), profile)
    assert np.std(best) < np.std(equal)
    assert abs(np.var(equal - truth) / equal_var.mean() - 1) < 0.05 + 4 * np.sqrt(2 / 8000)
    assert abs(np.mean(equal) / 1e4 - 1) < 1e-3


@pytest.mark.parametrize("function", ["optimal", "two_step"])
def test_hits_and_holes_do_not_move_the_flux(function):
    rng = np.random.default_rng(5)
    truth = np.full(4000, 2e4)
    image, var, profile = frame(truth, rng)
    clean = run(
        getattr(extract, function), image, var, profile, **({"photon": 1.15} if function == "optimal" else {})
    )
    hit = rng.choice(4000, 200, replace=False)
    image[rng.integers(FIRST + 3, FIRST + HEIGHT - 3, 200), hit] += 3e4
    hole = rng.choice(4000, 200, replace=False)
    image[rng.integers(FIRST, FIRST + HEIGHT, 200), hole] = np.nan
    dirty = run(
        getattr(extract, function), image, var, profile, **({"photon": 1.15} if function == "optimal" else {})
    )
    assert np.isfinite(dirty[0]).all()
    both = np.union1d(hit, hole)
    sigma = np.std(clean[0])
    assert np.std(dirty[0][both]) < 1.3 * sigma
    assert abs(np.mean(dirty[0][both]) - 2e4) < 4 * 1.3 * sigma / np.sqrt(both.size) + 20
    assert dirty[2] >= 190  # a hit in a hole, or beside the light of a fibre where 10 sigma are not reached


def test_extraction_is_linear_where_nothing_is_rejected():
    rng = np.random.default_rng(6)
    image, var, profile = frame(np.full(300, 1e4), rng)
    one = run(extract.two_step, image, var, profile, cut=0.0)[0]
    two = run(extract.two_step, 2 * image, var, profile, cut=0.0)[0]
    np.testing.assert_allclose(two, 2 * one, rtol=1e-12)


def test_less_than_half_of_the_profile_gives_no_flux():
    rng = np.random.default_rng(7)
    image, var, profile = frame(np.full(10, 1e4), rng)
    image[:24, 3] = np.nan
    image[:, 4] = np.nan
    image[:18, 5] = np.nan
    flux, flux_var, _ = run(extract.optimal, image, var, profile, photon=1.0)
    assert np.isnan(flux[[3, 4]]).all() and np.isnan(flux_var[[3, 4]]).all()
    assert np.isfinite(flux[5])


def test_windows_and_weights():
    first, height = extract.windows(np.array([20.4, 35.6]), 16, 16)
    assert height == 33 and first.tolist() == [4, 20]
    rng = np.random.default_rng(8)
    image, var, profile = frame(np.full(50, 1e4), rng)
    image[20, 10] += 1e5
    weights = np.empty((1, HEIGHT, 50), np.uint8)
    flux, flux_var = np.empty((2, 1, 50))
    extract.optimal(
        image, var, profile, np.array([FIRST]), HEIGHT, flux, flux_var, photon=1.1, weights=weights
    )
    assert weights[0, 20 - FIRST, 10] == 0
    assert weights.sum() == HEIGHT * 50 - 1


def test_bad_arguments_are_named():
    plane = np.ones((9, 9))
    flux = np.empty((1, 9))
    with pytest.raises(ValueError, match="order 1 has no finite centre"):
        extract.windows(np.array([1.0, np.nan]), 3, 3)
    with pytest.raises(ValueError, match="height: 0"):
        extract.two_step(plane, plane, plane, np.array([1]), 0, flux, flux.copy())
    with pytest.raises(ValueError, match=r"flux: shape \(1, 9\), expected \(2, 9\)"):
        extract.two_step(plane, plane, plane, np.array([1, 2]), 3, flux, flux.copy())
