"""Sums of orders on a grid against splines of scipy and against functions known everywhere."""

from __future__ import annotations

import numpy as np
import pytest
from apero_kernels.merge import PAD, add_order
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.interpolate import make_interp_spline

SEEDS = st.integers(0, 2**32 - 1)


def drawn(seed: int, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Values, usable pixels with holes, bent wavelengths, grid that goes beyond both ends."""
    rng = np.random.default_rng(seed)
    wave = 1000.0 + np.cumsum(rng.uniform(0.009, 0.011) * (1.0 + 2e-4 * np.arange(n)))
    usable = (rng.uniform(size=n) > 0.03).astype(np.uint8)
    usable[0] = usable[-1] = 1
    values = np.where(usable == 1, rng.uniform(1.0, 5.0, (3, n)), np.nan)
    grid = np.sort(rng.uniform(wave[0] - 0.1, wave[-1] + 0.1, 3 * n))
    return values, usable, wave, grid


def naive(
    values: np.ndarray, usable: np.ndarray, wave: np.ndarray, grid: np.ndarray, limit: float
) -> tuple[np.ndarray, np.ndarray]:
    """Sums, and the columns of the grid points, by scipy in units of columns."""
    n, column = wave.size, np.arange(wave.size, dtype=float)
    good = usable == 1
    filled = np.array([np.interp(column, column[good], row[good]) for row in values])
    # The column is a smooth function of the wavelength: a cubic spline through all pixels.
    at = make_interp_spline(wave, column, k=3)(grid)
    inside = (grid >= wave[0]) & (grid <= wave[-1])
    inside &= np.interp(at, column, usable.astype(float)) > limit
    pad = 4 * PAD
    out = np.zeros((3, grid.size))
    for k in range(2):
        left = 2 * filled[k, 0] - filled[k, np.minimum(np.arange(pad, 0, -1), n - 1)]
        right = 2 * filled[k, -1] - filled[k, n - 1 - np.minimum(np.arange(1, pad + 1), n - 1)]
        line = np.concatenate([left, filled[k], right])
        spline = make_interp_spline(np.arange(-pad, n + pad, dtype=float), line, k=5)
        out[k] = np.where(inside, spline(at), 0.0)
    out[2] = np.where(inside, np.interp(at, column, filled[2]), 0.0)
    return out, at


@given(SEEDS, st.integers(30, 200))
@settings(max_examples=25, deadline=None)
def test_sums_are_those_of_splines(seed: int, n: int) -> None:
    """Columns differ by the square of the bend (4e-8 of a step): 1e-6 of values that jump at random."""
    values, usable, wave, grid = drawn(seed, n)
    expected, at = naive(values, usable, wave, grid, 0.9)
    total = np.ones((3, grid.size))
    add_order(values, usable, wave, grid, 0.9, total)
    # Whether a point counts may differ where the share is at its limit.
    share = np.interp(at, np.arange(n), usable.astype(float))
    clear = np.abs(share - 0.9) > 1e-5
    np.testing.assert_allclose(total[:, clear] - 1.0, expected[:, clear], rtol=1e-6, atol=1e-6)


def test_polynomials_are_reproduced() -> None:
    """A spline of degree 5 has no error for a polynomial of degree 5, on even columns and far from ends."""
    x = np.arange(300.0)
    u = (x - 150.0) / 150.0
    curve = np.polynomial.Polynomial([1.0, -0.5, 2.0, 0.3, -1.0, 0.7])
    values = np.stack([curve(u), 1.0 + u**4, 2.0 + u])
    grid = np.linspace(60.0, 240.0, 1000)
    total = np.zeros((3, grid.size))
    add_order(values, np.ones(300, np.uint8), x, grid, 0.9, total)
    v = (grid - 150.0) / 150.0
    np.testing.assert_allclose(total, [curve(v), 1.0 + v**4, 2.0 + v], rtol=1e-11)


def test_no_light_beyond_the_ends_and_in_holes() -> None:
    x = np.arange(50.0)
    usable = np.ones(50, np.uint8)
    usable[20:23] = 0
    values = np.ones((3, 50))
    values[:, 20:23] = np.nan
    grid = np.array([-1.0, -0.01, 0.0, 10.5, 19.05, 19.5, 21.0, 22.95, 49.0, 49.01, 60.0])
    total = np.zeros((3, grid.size))
    add_order(values, usable, x, grid, 0.9, total)
    counted = [False, False, True, True, True, False, False, True, True, False, False]
    np.testing.assert_array_equal(total[2] > 0, counted)
    np.testing.assert_allclose(total[:, counted], 1.0, rtol=1e-12)


def test_wrong_arrays() -> None:
    wave, grid, total = np.arange(5.0), np.arange(4.0), np.zeros((3, 4))
    values, usable = np.ones((3, 5)), np.ones(5, np.uint8)
    with pytest.raises(ValueError, match="must be usable"):
        add_order(values, np.array([0, 1, 1, 1, 1], np.uint8), wave, grid, 0.9, total)
    with pytest.raises(TypeError, match="usable: dtype"):
        add_order(values, usable.astype(bool), wave, grid, 0.9, total)
    with pytest.raises(ValueError, match="total"):
        add_order(values, usable, wave, grid, 0.9, np.zeros((2, 4)))
