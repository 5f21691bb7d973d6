"""Line fits: against scipy's curve_fit, against truth, and on windows without a line."""

from __future__ import annotations

import numpy as np
import pytest
from apero_kernels import lines
from hypothesis import given, settings
from scipy.optimize import curve_fit

from tests.kernels.cases import arrays


def gaussian(x, a, x0, s, slope, z):
    return a * np.exp(-0.5 * ((x - x0) / s) ** 2) + z + slope * (x - x.mean())


def hollow_cathode(rng, number=150):
    centres = 30 + 14.0 * np.arange(number) + rng.uniform(-1, 1, number)
    x = np.arange(int(centres[-1]) + 40.0)
    amplitude = 10 ** rng.uniform(3.5, 5, number)
    spectrum = 300.0 + np.zeros(x.size)
    for c, a in zip(centres, amplitude, strict=True):
        spectrum += a * np.exp(-0.5 * ((x - c) / 1.05) ** 2)
    var = spectrum + 900.0
    return (spectrum + np.sqrt(var) * rng.standard_normal(x.size))[None], var[None], centres


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_fits_are_those_of_curve_fit(weighted, seed):
    """Centres agree to 1e-6 px, errors to 1e-3 of themselves."""
    rng = np.random.default_rng(seed)
    spectrum, var, centres = hollow_cathode(rng)
    reach = np.full(centres.size, 5.0)
    start = centres + rng.uniform(-0.7, 0.7, centres.size)
    order = np.zeros(centres.size, np.int64)
    found, errors, _, used = lines.fit_lines(spectrum, order, start, reach, var=var if weighted else None)
    assert (used > 0).all()
    for i in range(0, centres.size, 7):
        x = np.arange(np.ceil(start[i] - reach[i]), np.floor(start[i] + reach[i]) + 1)
        cut = spectrum[0, x.astype(int)]
        keys = {"sigma": np.sqrt(var[0, x.astype(int)]), "absolute_sigma": True} if weighted else {}
        best, covariance = curve_fit(gaussian, x, cut, found[i], ftol=1e-15, xtol=1e-15, gtol=1e-15, **keys)
        assert abs(best[1] - found[i, 1]) < 1e-6
        np.testing.assert_allclose(errors[i], np.sqrt(np.diag(covariance)), rtol=1e-3)
        # From the plain start, too: the same minimum.
        guess = [np.ptp(cut), start[i], 1.0, 0.0, cut.min()]
        assert abs(curve_fit(gaussian, x, cut, guess, maxfev=5000, **keys)[0][1] - found[i, 1]) < 1e-4


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_centres_scatter_as_their_errors_say(seed):
    rng = np.random.default_rng(seed)
    spectrum, var, centres = hollow_cathode(rng, 600)
    found, errors, quality, _ = lines.fit_lines(
        spectrum, np.zeros(centres.size, np.int64), centres + rng.uniform(-0.5, 0.5, centres.size),
        np.full(centres.size, 5.0), var=var,
    )  # fmt: skip
    pull = (found[:, 1] - centres) / errors[:, 1]
    assert abs(np.mean(pull)) < 4 / np.sqrt(600)
    assert abs(np.var(pull) - 1) < 4 * np.sqrt(2 / 600)
    assert abs(np.mean(quality[:, 1]) - 1) < 0.1


@pytest.mark.parametrize("skew", [0.0, 0.04, -0.1])
def test_parameters_without_noise_are_recovered(skew):
    """With the skew of the line spread given; without it the centre would be wrong."""
    truth = np.array([2e4, 30.37, 1.3, -7.0, 400.0])
    first, last = 22, 39
    cut = np.arange(first, last + 1.0)
    spectrum = np.zeros(60)
    v = (cut - truth[1]) / truth[2]
    odd = skew * (2 * v**3 - 3 * v) / np.sqrt(3)
    spectrum[first : last + 1] = gaussian(cut, *truth) + truth[0] * np.exp(-0.5 * v**2) * odd
    window = np.array([0]), np.array([(first + last) / 2]), np.array([8.6])
    found, _, quality, _ = lines.fit_lines(spectrum[None], *window, skew=np.array([skew]))
    np.testing.assert_allclose(found[0], truth, rtol=1e-6, atol=1e-6)
    assert quality[0, 0] > 1e6
    plain = lines.fit_lines(spectrum[None], *window)[0]
    assert (abs(plain[0, 1] - truth[1]) > 1e-3) == (skew != 0)


def test_failed_lines_stay_as_rows():
    rng = np.random.default_rng(4)
    spectrum, var, centres = hollow_cathode(rng, 8)
    spectrum[0, int(centres[3])] = np.nan
    start = np.concatenate([centres, [2.0, np.nan, spectrum.size - 1.0]])
    found, errors, _, used = lines.fit_lines(
        spectrum, np.zeros(start.size, np.int64), start, np.full(start.size, 5.0), var=var
    )
    bad = np.isnan(found[:, 1])
    # Lines are 12 px apart at least: the hole lies in the window of one line only.
    assert np.flatnonzero(bad).tolist() == [3, 8, 9, 10]
    np.testing.assert_array_equal(used == 0, bad)
    np.testing.assert_array_equal(np.isnan(errors).all(axis=1), bad)


@settings(deadline=None, max_examples=60)
@given(arrays((3, 60), empty=False))
def test_any_spectrum_is_survived(spectra):
    start = np.linspace(-5, 65, 30)
    order = np.arange(30) % 4 - 1
    found, errors, quality, used = lines.fit_lines(spectra, order, start, np.full(30, 5.5))
    done = used > 0
    assert np.isfinite(found[done]).all()
    assert np.isnan(found[~done]).all()
    assert ((errors[done] >= 0) | np.isnan(errors[done])).all()
    assert (quality[done, 1] >= 0).all()


def test_bad_arguments_are_named():
    one = np.ones(1)
    with pytest.raises(TypeError, match="order: dtype float64, expected int64"):
        lines.fit_lines(np.ones((1, 9)), one, one, one)
    with pytest.raises(ValueError, match=r"reach: shape \(2,\), expected \(1,\)"):
        lines.fit_lines(np.ones((1, 9)), np.array([0]), one, np.ones(2))
