"""Affine fits: against numpy least squares, with outliers, and with too few points."""

from __future__ import annotations

import numpy as np
import pytest
from apero_kernels.affine import fit_affine
from apero_kernels.resample import compose_affine, invert_affine

TRUE = np.array([6.1, 2.3, 1 + 4.8e-4, 4e-5, -5.7e-4, 1 - 6e-6])


def points(rng, n=2000, noise=0.0):
    x, y = rng.uniform(0, 4088, n), rng.uniform(0, 3100, n)
    errors = rng.uniform(0.01, 0.03, (n, 2))
    moved = TRUE[:2] + np.stack([x, y], axis=1) @ TRUE[2:].reshape(2, 2).T
    shifts = moved - np.stack([x, y], axis=1) + noise * errors * rng.standard_normal((n, 2))
    return x, y, shifts, errors


def test_exact_points_give_the_exact_map():
    """Rounding: shifts of 8 px known to 1e-12 px or so over 4000 px."""
    found, _, _, sigma, _ = fit_affine(*points(np.random.default_rng(1)))
    np.testing.assert_allclose(found, TRUE, atol=1e-10)
    assert sigma.max() < 1e-10


def test_without_outliers_it_is_weighted_least_squares():
    """cut = 40 keeps every weight at 1."""
    x, y, shifts, errors = points(np.random.default_rng(2), noise=1.0)
    found, covariance, _, sigma, scale = fit_affine(x, y, shifts, errors, cut=30.0)
    for axis, places in ((0, [0, 2, 3]), (1, [1, 4, 5])):
        w = 1 / errors[:, axis]
        design = np.stack([np.ones_like(x), x, y], axis=1) * w[:, None]
        expected = np.linalg.lstsq(design, shifts[:, axis] * w, rcond=None)[0]
        expected[1 + axis] += 1.0
        np.testing.assert_allclose(found[places], expected, atol=1e-9)
        own = np.linalg.inv(design.T @ design) * scale[axis] ** 2
        np.testing.assert_allclose(covariance[np.ix_(places, places)], own, rtol=1e-6)
        assert scale[axis] == pytest.approx(1.0, abs=0.06) and sigma[axis] == pytest.approx(0.02, rel=0.1)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_fifth_of_wrong_points_does_no_harm(seed):
    rng = np.random.default_rng(seed)
    x, y, shifts, errors = points(rng, noise=1.0)
    wrong = rng.random(x.size) < 0.2
    shifts[wrong] += rng.uniform(-1.5, 1.5, (np.count_nonzero(wrong), 2))
    shifts[:50] = np.nan
    found, covariance, weights, _, _ = fit_affine(x, y, shifts, errors)
    pull = (found - TRUE) / np.sqrt(np.diag(covariance))
    print(pull)
    assert np.abs(pull).max() < 4
    assert np.all(weights[:50] == 0) and weights[~wrong][50:].mean() > 0.9
    # Without rejection the same points are off by far more.
    plain, *_ = fit_affine(x, y, shifts, errors, cut=1000.0)
    centre = np.array([1.0, 2044.0, 1550.0])
    assert abs((plain - TRUE)[[0, 2, 3]] @ centre) > abs((found - TRUE)[[0, 2, 3]] @ centre)


@pytest.mark.parametrize("seed", range(30))
def test_covariance_says_how_far_it_is_off(seed):
    """Chi-square of six numbers: below 26 in 99.98 of 100 cases."""
    found, covariance, *_ = fit_affine(*points(np.random.default_rng(100 + seed), n=500, noise=3.0))
    r = found - TRUE
    assert r @ np.linalg.solve(covariance, r) < 26


def test_undetermined_is_nan():
    for n in (0, 2):
        found, covariance, *_ = fit_affine(
            np.arange(n, dtype=float), np.zeros(n), np.zeros((n, 2)), np.ones((n, 2))
        )
        assert np.isnan(found).all() and np.isnan(covariance).all()
    line = np.arange(50.0)
    found, *_ = fit_affine(line, 2 * line, np.zeros((50, 2)), np.ones((50, 2)))
    assert np.isnan(found).all()
    found, *_ = fit_affine(line, line**2, np.full((50, 2), np.nan), np.ones((50, 2)))
    assert np.isnan(found).all()


def test_composition_undoes_inversion():
    np.testing.assert_allclose(compose_affine(TRUE, invert_affine(TRUE)), [0, 0, 1, 0, 0, 1], atol=1e-12)


def test_wrong_arguments_are_refused():
    with pytest.raises(ValueError, match="shifts: shape"):
        fit_affine(np.zeros(3), np.zeros(3), np.zeros((3, 3)), np.ones((3, 2)))
    with pytest.raises(ValueError, match="cut"):
        fit_affine(np.zeros(3), np.zeros(3), np.zeros((3, 2)), np.ones((3, 2)), cut=0.0)
