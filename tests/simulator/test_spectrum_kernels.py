"""Loops of spectra and painting against scipy and closed forms."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.integrate import simpson
from scipy.special import ndtr
from scipy.stats import norm

from apero_dask.simulator import paint_kernels, spectrum_kernels
from apero_dask.simulator.settings import ConfigError, convert


def test_integral_of_the_gaussian():
    for z in np.linspace(-9, 9, 1801):
        assert paint_kernels.gaussian_integral(z) == pytest.approx(ndtr(z), abs=2e-10)


@pytest.mark.parametrize("centre", [20.0, 20.49, 19.73])
def test_rows_of_a_slice(centre):
    sigma, first, rows = 1.104, 14, 13
    weight, height = np.zeros(rows), np.zeros(rows)
    paint_kernels.slice_rows(centre, sigma, first, rows, weight, height)
    assert weight.sum() == pytest.approx(1.0, abs=1e-15)
    edges = first + np.arange(rows + 1) - 0.5
    z = (edges - centre) / sigma
    # Table of the integral: 1.5e-10; wings beyond 5 sigma belong to the outermost rows.
    np.testing.assert_allclose(weight[1:-1], np.diff(ndtr(z))[1:-1], atol=5e-10)
    mean = -sigma * np.diff(norm.pdf(z)) / np.diff(ndtr(z))
    np.testing.assert_allclose(height[3:-3], mean[3:-3], atol=1e-5)
    assert (weight * height).sum() == pytest.approx(0.0, abs=1e-6)


def test_cumulative_integrals_of_a_polynomial():
    """The rule with derivatives is exact for a cubic; its product with x leaves h^4 / 720 of f'''."""
    sub = 10
    x = np.arange(0, 8 * sub + 1) / sub
    density = 1 + 0.3 * x - 0.2 * x**2 + 0.05 * x**3
    total, moment = np.zeros(len(x)), np.zeros(len(x))
    full = spectrum_kernels.cumulate(density, sub, total, moment)
    exact = x + 0.15 * x**2 - 0.2 / 3 * x**3 + 0.05 / 4 * x**4
    inside = slice(2 * sub, -2 * sub)
    # Slopes at the two ends of the grid are one-sided; differences leave them out.
    np.testing.assert_allclose(np.diff(total[inside]), np.diff(exact[inside]), rtol=1e-9)
    for cell in range(2, 6):
        k = np.linspace(cell, cell + 1, 20001)
        values = (k - cell) * (1 + 0.3 * k - 0.2 * k**2 + 0.05 * k**3)
        # h^4 / 720 times the change of the third derivative, 24 * 0.05, over a cell: 1.7e-7.
        assert full[cell] == pytest.approx(simpson(values, x=k), abs=2e-7)
        assert moment[cell * sub] == 0


def test_line_spread_conserves_light_and_broadens():
    sub, columns = 10, 60
    spectrum = np.zeros(columns * sub + 1)
    spectrum[300] = 2.0
    kernels = spectrum_kernels.lsf_kernels(np.full(columns + 1, 2.1), 2.0, 0.0, sub, 60)
    np.testing.assert_allclose(kernels.sum(axis=1), 1, rtol=1e-13)
    out = spectrum_kernels.spread(spectrum, kernels, sub)
    assert out.sum() == pytest.approx(2.0, rel=1e-12)
    x = (np.arange(len(out)) - 300) / sub
    assert (out * x**2).sum() / out.sum() == pytest.approx((2.1 / 2.354820045) ** 2, rel=1e-5)


def test_mean_of_the_etalon_over_an_order_is_one():
    order = np.linspace(15000.25, 15007.25, 7 * 37 + 1)
    seen = spectrum_kernels.airy_mean(order, 25.0)
    width = np.gradient(order)
    assert (seen * width)[:-1].sum() == pytest.approx(7.0, rel=1e-9)
    q2 = 1 + (2 * 25.0 / np.pi) ** 2
    fine = np.linspace(order[80], order[81], 20001) - 0.5 * (order[81] - order[80])
    direct = np.sqrt(q2) / (1 + (q2 - 1) * np.sin(np.pi * fine) ** 2)
    assert seen[80] == pytest.approx(direct.mean(), rel=1e-4)


def test_lines_outside_the_grid_do_nothing():
    wave = np.linspace(1500.0, 1501.0, 500)
    out = np.zeros(500)
    spectrum_kernels.add_gaussians(out, wave, np.array([1400.0, 1600.0]), np.ones(2), np.ones(2))
    assert not out.any()
    out = np.zeros(500)
    spectrum_kernels.add_lorentzians(out, wave, np.array([1400.0]), np.ones(1), np.ones(1), np.full(1, 50.0))
    assert not out.any()


def test_types_of_settings():
    assert convert(3, float, "a") == 3.0
    assert convert([1, 2], tuple[float, ...], "a") == (1.0, 2.0)
    assert convert(None, int | None, "a") is None
    with pytest.raises(ConfigError, match=r"a = 2\.5: expected a whole number"):
        convert(2.5, int | None, "a")
