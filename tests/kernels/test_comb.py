"""Peaks of a comb: found as a plain loop finds them, fitted as scipy fits them, and right on truth."""

from __future__ import annotations

import numpy as np
import pytest
from apero_kernels import comb
from hypothesis import given, settings
from scipy.optimize import curve_fit
from scipy.special import wofz

from tests.kernels.cases import arrays

SPACING = 5.4


def plain_peaks(spectra, var, least, valley, share):
    """(order, column by a parabola, height) of every peak."""
    found = []
    for o, (flux, noise) in enumerate(zip(spectra, var, strict=True)):
        row = []
        n = flux.size
        for x in range(2, n - 2):
            around = flux[x - 2 : x + 3]
            higher = flux[x] > flux[x - 2] and flux[x] > flux[x - 1] and flux[x] >= flux[x + 1]
            if not (np.isfinite(flux[x]) and higher and flux[x] > around[4]):
                continue
            left, right = flux[max(0, x - valley) : x], flux[x + 1 : x + valley + 1]
            height = float(flux[x]) - float(max(np.nanmin(left), np.nanmin(right)))
            if height > least * np.sqrt(noise[x]):
                row.append((x, height))
        for x, height in row:
            if height >= share * max(h for y, h in row if abs(y - x) <= 3 * valley):
                a, b, c = (float(v) for v in flux[x - 1 : x + 2])
                curve = a - 2 * b + c
                found.append((o, x + (0.5 * (a - c) / curve if curve < 0 else 0.0), height))
    return found


def spectrum_of(rng, spacing=SPACING, number=150, slope=0.0, noise=True):
    """A row of Gaussian peaks whose height changes by `slope` per px, its variance, the true centres."""
    centres = 30 + spacing * np.arange(number) + 0.4 * np.sin(np.arange(number) / 20.0)
    x = np.arange(int(centres[-1]) + 40.0)
    height = 3e4 * np.exp(slope * (centres - centres.mean()))
    flux = (height * np.exp(-0.5 * (x[:, None] - centres) ** 2)).sum(axis=1) + 200.0
    var = flux + 900.0
    if noise:
        flux = flux + np.sqrt(var) * rng.standard_normal(x.size)
    return flux[None], var[None], centres, height


def neighbours(centres, height):
    near = np.stack([np.r_[np.nan, centres[:-1]], np.r_[centres[1:], np.nan]], axis=1)
    ratio = np.stack([np.r_[0.0, height[:-1]], np.r_[height[1:], 0.0]], axis=1) / height[:, None]
    return near, ratio


@settings(deadline=None, max_examples=80)
@given(arrays((3, 80), empty=False))
def test_peaks_are_those_of_a_plain_loop(spectra):
    var = np.ones_like(spectra)
    for valley, least, share in ((4, 2.0, 0.3), (7, 0.5, 0.0)):
        order, start, height = comb.find_peaks(spectra, var, least=least, valley=valley, share=share)
        expected = plain_peaks(spectra, var, least, valley, share)
        assert list(zip(order.tolist(), height.tolist(), strict=True)) == [(o, h) for o, _, h in expected]
        np.testing.assert_allclose(start, [x for _, x, _ in expected], rtol=0, atol=1e-6)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_every_peak_is_found_and_nothing_else(seed):
    rng = np.random.default_rng(seed)
    for spacing in (5.1, 9.0, 13.3):
        flux, var, centres, _ = spectrum_of(rng, spacing, slope=0.004)
        order, start, _ = comb.find_peaks(flux, var, valley=int(spacing / 2) + 2)
        assert start.size == centres.size
        assert (order == 0).all()
        assert np.abs(start - centres).max() < 0.3


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_fits_are_those_of_curve_fit(seed):
    """Centres agree to 1e-5 px, where the fit stops (errors are above 1e-3 px), errors to 1 per cent."""
    rng = np.random.default_rng(seed)
    flux, var, centres, height = spectrum_of(rng, slope=0.01)
    near, ratio = neighbours(centres, height)
    reach = np.full(centres.size, 0.55 * SPACING)
    start = centres + rng.uniform(-0.3, 0.3, centres.size)
    order = np.zeros(centres.size, np.int64)
    found, errors, quality, used = comb.fit_comb(flux, var, order, start, near, ratio, reach)
    assert (used >= 5).all()
    for i in range(1, centres.size - 1, 9):
        x = np.arange(np.ceil(start[i] - reach[i]), np.floor(start[i] + reach[i]) + 1)

        def model(x, a, x0, s, z, i=i):
            places = ((x0, 1.0), (near[i, 0], ratio[i, 0]), (near[i, 1], ratio[i, 1]))
            return a * sum(r * np.exp(-0.5 * ((x - c) / s) ** 2) for c, r in places) + z

        at = x.astype(int)
        best, covariance = curve_fit(
            model, x, flux[0, at], [3e4, start[i], 1.0, 0.0], sigma=np.sqrt(var[0, at]), absolute_sigma=True,
            ftol=1e-15, xtol=1e-15, gtol=1e-15,
        )  # fmt: skip
        assert abs(best[1] - found[i, 1]) < 1e-5
        np.testing.assert_allclose(errors[i], np.sqrt(np.diag(covariance)), rtol=1e-2)
        chi = np.sum((flux[0, at] - model(x, *best)) ** 2 / var[0, at]) / max(x.size - 4, 1)
        assert quality[i] == pytest.approx(chi, rel=1e-4, abs=1e-4)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_centres_scatter_as_their_errors_say(seed):
    rng = np.random.default_rng(seed)
    flux, var, centres, height = spectrum_of(rng, number=600, slope=0.001)
    near, ratio = neighbours(centres, height)
    found, errors, quality, _ = comb.fit_comb(
        flux, var, np.zeros(600, np.int64), centres + rng.uniform(-0.3, 0.3, 600), near, ratio,
        np.full(600, 0.55 * SPACING),
    )  # fmt: skip
    pull = (found[:, 1] - centres) / errors[:, 1]
    assert abs(np.mean(pull)) < 4 / np.sqrt(600)
    assert abs(np.var(pull) - 1) < 4 * np.sqrt(2 / 600)
    assert abs(np.mean(quality) - 1) < 0.25  # one or two degrees of freedom per peak


def test_unequal_neighbours_do_not_pull():
    """Where the comb falls by 8 % per peak, a fit that ignores its neighbours is wrong by 0.01 px."""
    flux, var, centres, height = spectrum_of(np.random.default_rng(0), slope=0.015, number=60, noise=False)
    near, ratio = neighbours(centres, height)
    order, reach = np.zeros(60, np.int64), np.full(60, 0.55 * SPACING)
    found, *_ = comb.fit_comb(flux, var, order, centres, near, ratio, reach)
    assert np.abs(found[1:-1, 1] - centres[1:-1]).max() < 1e-6
    alone, *_ = comb.fit_comb(flux, var, order, centres, near, 0 * ratio, reach)
    assert np.abs(alone[1:-1, 1] - centres[1:-1]).max() > 0.003


def voigt(x, centre, width, lorentz, slope, skew=0.0):
    z = (x - centre + 1j * lorentz) / (np.sqrt(2) * width)
    v = (x - centre) / width
    odd = skew * np.exp(-0.5 * v**2) * (2 * v**3 - 3 * v) / np.sqrt(3)
    return ((1 - 1j * slope * lorentz) * wofz(z)).real + odd


def test_the_profile_is_that_of_a_sloping_lorentzian_spread_by_a_gaussian():
    """The formula against the convolution, summed on a fine grid."""
    fine = np.arange(-400, 400, 0.004)
    lorentz, width, slope = 0.25, 0.95, 0.004
    light = lorentz / np.pi / (fine**2 + lorentz**2) * (1 + slope * fine)
    x = np.arange(-6.0, 7.0)
    spread = np.exp(-0.5 * ((x[:, None] - fine) / width) ** 2)
    expected = (spread * light).sum(axis=1) * 0.004
    # The tails beyond the grid hold 4e-4 of a Lorentzian, far from the peak.
    np.testing.assert_allclose(voigt(x, 0.0, width, lorentz, slope), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("skew", [0.0, -0.05, 0.02])
@pytest.mark.parametrize("lorentz", [0.0, 0.11, 0.27])
def test_triplets_are_recovered(lorentz, skew):
    """A peak and its two neighbours, nothing else: the model is exact to the series for w."""
    truth, near, ratio, slope, width = 30.21, np.array([[21.4, 39.0]]), np.array([[0.8, 1.3]]), 0.012, 0.97
    x = np.arange(60.0)
    places = ((truth, 1.0), (near[0, 0], ratio[0, 0]), (near[0, 1], ratio[0, 1]))
    flux = 2e4 * sum(r * voigt(x, c, width, lorentz, slope, skew) for c, r in places)[None] + 300.0
    one = np.ones(1)
    found, *_ = comb.fit_comb(
        flux, np.full(flux.shape, 900.0), np.array([0]), 30.0 * one, near, ratio, 4.9 * one,
        lorentz=lorentz * one, slope=slope * one, skew=skew * one,
    )  # fmt: skip
    np.testing.assert_allclose(found[0], [2e4, truth, width, 300.0], rtol=1e-4)
    assert abs(found[0, 1] - truth) < 1e-5


def test_peaks_of_an_etalon_in_a_comb():
    """On a steep slope tails of the second neighbours, not in the model, move centres by up to 4e-4 px."""
    spacing, lorentz, slope, number, width = 9.1, 0.23, 0.012, 60, 0.95
    centres = 40.13 + spacing * np.arange(number)
    height = 3e4 * np.exp(slope * (centres - centres.mean()))
    x = np.arange(int(centres[-1]) + 60.0)
    flux = sum(h * voigt(x, c, width, lorentz, slope) for c, h in zip(centres, height, strict=True))[None]
    var = np.maximum(flux, 0) + 900.0
    near, ratio = neighbours(centres, height)
    order, every = np.zeros(number, np.int64), np.ones(number)
    reach = 0.55 * spacing * every
    found, *_ = comb.fit_comb(
        flux, var, order, centres, near, ratio, reach, lorentz=lorentz * every, slope=slope * every
    )
    inner = slice(3, -3)
    assert np.abs(found[inner, 1] - centres[inner]).max() < 4e-4
    np.testing.assert_allclose(found[inner, 2], width, rtol=2e-3)
    plain, *_ = comb.fit_comb(flux, var, order, centres, near, ratio, reach)
    assert np.abs(plain[inner, 1] - centres[inner]).mean() > 1e-3


def test_failed_peaks_stay_as_rows():
    flux, var, centres, height = spectrum_of(np.random.default_rng(4), number=12)
    flux[0, round(centres[5])] = np.nan
    near, ratio = neighbours(centres, height)
    start = centres.copy()
    start[2], start[9] = np.nan, 1.0
    found, errors, quality, used = comb.fit_comb(
        flux, var, np.zeros(12, np.int64), start, near, ratio, np.full(12, 0.55 * SPACING)
    )
    bad = np.isin(np.arange(12), [2, 5, 9])
    np.testing.assert_array_equal(used == 0, bad)
    np.testing.assert_array_equal(np.isnan(found).all(axis=1), bad)
    np.testing.assert_array_equal(np.isnan(errors).all(axis=1), bad)
    np.testing.assert_array_equal(np.isnan(quality), bad)


@settings(deadline=None, max_examples=60)
@given(arrays((3, 60), empty=False))
def test_any_spectrum_is_survived(spectra):
    start = np.linspace(-5, 65, 30)
    near = np.stack([start - 6, start + 6], axis=1)
    found, errors, quality, used = comb.fit_comb(
        spectra, np.ones_like(spectra), np.arange(30) % 4 - 1, start, near, np.ones((30, 2)), np.full(30, 4.0)
    )
    done = used > 0
    assert np.isfinite(found[done]).all()
    assert np.isnan(found[~done]).all()
    assert (errors[done] >= 0).all()
    assert (quality[done] >= 0).all()


def test_bad_arguments_are_named():
    one, two = np.ones(1), np.ones((1, 2))
    with pytest.raises(TypeError, match="order: dtype float64, expected int64"):
        comb.fit_comb(np.ones((1, 9)), np.ones((1, 9)), one, one, two, two, one)
    with pytest.raises(ValueError, match=r"near: shape \(1, 3\), expected \(1, 2\)"):
        comb.fit_comb(np.ones((1, 9)), np.ones((1, 9)), np.array([0]), one, np.ones((1, 3)), two, one)
    with pytest.raises(ValueError, match="valley: 1, expected at least 2 px"):
        comb.find_peaks(np.ones((1, 9)), np.ones((1, 9)), valley=1)
