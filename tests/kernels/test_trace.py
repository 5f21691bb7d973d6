"""Traces: centroids and template shifts against truth painted by integration."""

from __future__ import annotations

import numpy as np
import pytest
from apero_kernels import polynomial, slices, trace
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import ndtr

from tests.kernels import naive
from tests.kernels.cases import arrays, assert_close

SLICES = np.array([-1.5, -0.5, 0.5, 1.5]) * 3.35  # four slices of a fibre


def paint(truth, flux, rows, sizes=(1.0, 1.0, 1.0, 1.0), fwhm=2.6):
    """Traces of four Gaussian slices, integrated over the pixels."""
    image = np.zeros((rows, truth.shape[1]))
    y = np.arange(rows)[:, None]
    sigma = fwhm / 2.3548
    for centre in truth:
        for offset, size in zip(SLICES, sizes, strict=True):
            d = y - centre - offset
            image += flux * size / sum(sizes) * (ndtr((d + 0.5) / sigma) - ndtr((d - 0.5) / sigma))
    return image


def truth_of(columns, seed):
    rng = np.random.default_rng(seed)
    x = np.arange(columns)
    base = np.array([[30.0], [62.0]]) + rng.uniform(-0.5, 0.5, (2, 1))
    return base + 6 * ((x - columns / 2) / columns) ** 2 + 9 * x / columns


@settings(deadline=None, max_examples=40)
@given(arrays((40, 6), empty=False), st.floats(2, 6), st.integers(0, 2**31))
def test_centroids_are_the_naive_ones(image, half, seed):
    image = np.abs(image)
    guess = np.random.default_rng(seed).uniform(-2, 42, (2, image.shape[1]))
    var = image + 1
    found = trace.centroids(image, var, guess, half, passes=8)
    for t in range(2):
        for x in range(image.shape[1]):
            expected = naive.centroid(
                image[:, x].astype(float), var[:, x].astype(float), guess[t, x], half, 8
            )
            assert_close([f[t, x] for f in found], expected, ulps=1e6)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_traces_reach_a_hundredth_of_a_pixel(seed):
    """Noise of 1e5 e- per column: after the fit of a polynomial the positions are right to 0.01 px."""
    rng = np.random.default_rng(seed)
    truth = truth_of(1000, seed)
    image = paint(truth, 1e5, 110)
    var = image + 100.0
    image = (image + np.sqrt(var) * rng.standard_normal(image.shape)).astype(np.float32)
    positions, variances, _, widths = trace.centroids(image, var, truth + 1.3, 9.0)
    x = np.arange(1000.0)
    for t in range(2):
        coefficients, _, _, scale = polynomial.fit_chebyshev(
            x, positions[t], 4, 1000.0, sigma=np.sqrt(variances[t])
        )
        error = polynomial.chebyshev(coefficients, x, 1000.0) - truth[t]
        assert np.sqrt(np.mean(error**2)) < 0.01
        assert 0.8 < scale < 1.25  # the window follows the centroid: its error bars are 10 % too small
    # Four slices: scatter of their centres, width of a slice, width of a pixel.
    expected = np.sqrt(np.mean(SLICES**2) + (2.6 / 2.3548) ** 2 + 1 / 12)
    assert abs(np.nanmedian(widths) / expected - 1) < 0.02


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_template_shift_has_the_error_it_promises(seed):
    rng = np.random.default_rng(seed)
    truth = truth_of(1200, seed)
    sizes = (0.9, 1.05, 1.05, 1.0)
    clean = paint(truth, 1e4, 110, sizes)
    var = clean + 100.0
    image = clean + np.sqrt(var) * rng.standard_normal(clean.shape)
    flux = np.full(truth.shape, 1e4)
    templates = trace.build_templates(image, truth, flux, 10.0, sections=1)
    assert templates.sum(axis=2) == pytest.approx(4.0, abs=0.05)  # four bins per pixel, unit flux
    positions, variances, fluxes = trace.fit_templates(image, var, truth + 0.4, templates, 10.0)
    pull = (positions - truth) / np.sqrt(variances)
    assert np.isfinite(pull).all()
    # Common shift: the template is measured on the same frame; scatter: that of the errors within 15 %
    assert np.abs(np.mean(positions - truth, axis=1)).max() < 0.01
    assert 0.85 < np.std(pull) < 1.15
    assert abs(np.mean(fluxes) / 1e4 - 1) < 0.01


def sliced(columns, seed, noise=True, sizes=(0.8, 1.1, 1.0, 1.1)):
    """Two overlapping traces of slices at unequal distances, columns and what they were made of."""
    rng = np.random.default_rng(seed)
    x = np.arange(columns)
    centres = np.array([[30.0], [45.3]]) + 4.0 * x / columns
    heights = np.repeat(SLICES[None, :, None], 2, axis=0) + np.array([0.02, -0.01, -0.03, 0.02])[:, None]
    heights = np.broadcast_to(heights, (2, 4, columns)).copy()
    flux = np.full(centres.shape, 2e4)
    shares = np.broadcast_to((np.array(sizes) / sum(sizes))[None, :, None], heights.shape).copy()
    clean = np.zeros((80, columns))
    y, sigma = np.arange(80)[:, None], 1.1
    for t in range(2):
        for s in range(4):
            d = y - centres[t] - heights[t, s]
            clean += flux[t] * shares[t, s] * (ndtr((d + 0.5) / sigma) - ndtr((d - 0.5) / sigma))
    base = np.full(clean.shape, 60.0)
    image = clean + noise * np.sqrt(base + 0.5 * clean) * rng.standard_normal(clean.shape)
    return image, base, centres, heights, np.full(centres.shape, np.hypot(sigma, 12**-0.5)), shares, flux


def test_step_of_the_slices_is_the_naive_one():
    image, base, centres, heights, sigmas, shares, flux = sliced(40, 1)
    image[30, 5] = np.nan
    guess = centres + 0.2
    found = slices.fit_slices(image, base, 0.5, guess, heights, sigmas, shares, flux)
    for x in (0, 5, 17):
        for t in range(2):
            expected = naive.slice_step(image, base, 0.5, guess, heights, sigmas, shares, flux, t, x, 3.0)
            for values, wanted in zip(found, expected, strict=True):
                # The kernel follows the wings of the neighbour to five widths: 1e-6 of its light is left.
                np.testing.assert_allclose(values[t][..., x], wanted, rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_slices_are_placed_whatever_their_brightness(seed):
    """Unequal slices move the centre of light by 0.3 px and the mean place of the slices by nothing."""
    image, base, centres, heights, sigmas, shares, flux = sliced(600, seed, sizes=(0.7, 1.0, 1.0, 1.3))
    even = np.full(shares.shape, 0.25)
    place, fluxes = centres + 0.3, np.full(flux.shape, np.nan)
    regular = np.broadcast_to(SLICES[:, None], heights.shape).copy()
    parts = even
    for _ in range(4):
        amplitudes, _, shifts, _, errors, _, _ = slices.fit_slices(
            image, base, 0.5, place, regular, sigmas, parts, fluxes
        )
        fluxes = np.repeat(np.median(amplitudes.sum(axis=1), axis=1)[:, None], 600, axis=1)
        parts = np.repeat(np.median(amplitudes, axis=2)[:, :, None], 600, axis=2) / fluxes[:, None]
        move = np.where(np.isfinite(shifts), shifts, 0.0)
        regular = regular + np.median(move - move.mean(axis=1, keepdims=True), axis=2)[:, :, None]
        place = place + np.median(move.mean(axis=1), axis=1)[:, None]
    pull = (place + move.mean(axis=1) - centres) / errors
    # Pixels integrate a Gaussian; one that is wider by the pixel stands for it to 0.001 px.
    assert np.abs(np.mean(place - centres)) < 0.003
    assert 0.85 < np.std(pull) < 1.15
    light = trace.centroids(image, base + 0.5 * np.maximum(image, 0), centres[:1], 7.0)[0]
    assert np.nanmean(light - centres[:1]) > 0.2


def test_light_of_the_neighbour_is_taken_out():
    """Without it the two fibres push each other apart by several hundredths of a pixel."""
    image, base, centres, heights, sigmas, shares, flux = sliced(50, 1, noise=False)
    both = slices.fit_slices(image, base, 0.5, centres, heights, sigmas, shares, flux)[2].mean(axis=1)
    one = slices.fit_slices(
        image, base, 0.5, centres[:1], heights[:1], sigmas[:1], shares[:1], flux[:1]
    )[2].mean(axis=1)  # fmt: skip
    assert np.abs(both).max() < 0.003
    assert np.abs(one).max() > 0.01


def test_slices_at_the_edge_of_the_frame_are_left_out():
    image, base, centres, heights, sigmas, shares, flux = sliced(10, 1)
    found = slices.fit_slices(image, base, 0.5, centres - 28.0, heights, sigmas, shares, flux)
    assert np.isnan(found[2][0]).all() and np.isfinite(found[0][1]).all()
    dark = slices.fit_slices(image, base, 0.5, centres, heights, sigmas, shares, np.full(flux.shape, np.nan))
    assert np.isfinite(dark[0]).all() and np.isnan(dark[2]).all()
    with pytest.raises(ValueError, match="photon: -1"):
        slices.fit_slices(image, base, -1.0, centres, heights, sigmas, shares, flux)


def test_template_fit_ignores_a_missing_pixel():
    truth = truth_of(600, 1)
    image = paint(truth, 1e4, 110)
    var = np.ones_like(image)
    templates = trace.build_templates(image, truth, np.full(truth.shape, 1e4), 10.0, sections=1)
    whole = trace.fit_templates(image, var, truth, templates, 10.0)[0]
    image[np.rint(truth[0]).astype(int), np.arange(600)] = np.nan
    holed = trace.fit_templates(image, var, truth, templates, 10.0)[0]
    assert np.abs(holed - whole)[0].max() < 0.02  # residual of a template in quarter pixels
    assert np.isnan(trace.centroids(image, var, truth, 9.0)[0][0]).all()


def test_frame_without_light_has_no_traces():
    image = np.zeros((60, 20), np.float32)
    found = trace.centroids(image, image + 1, np.full((1, 20), 30.0), 8.0)
    assert all(np.isnan(f).all() for f in found)


def test_order_profile_is_the_median_of_eleven_columns():
    image = np.random.default_rng(0).normal(size=(5, 50)).astype(np.float32)
    image[2, 10:30] = np.nan
    out = np.empty_like(image)
    trace.order_profile(image, out)
    assert_close(out, naive.running_median(image, range(-5, 6)), np.float32)


def test_bad_arguments_are_named():
    image = np.ones((9, 9))
    with pytest.raises(ValueError, match="guess: 4 columns, expected those of the image, 9"):
        trace.centroids(image, image, np.ones((1, 4)), 2.0)
    with pytest.raises(ValueError, match="templates: some bins are NaN"):
        trace.fit_templates(image, image, np.ones((1, 9)), np.full((1, 1, 8), np.nan), 1.0)
    with pytest.raises(ValueError, match="reach: -1"):
        trace.order_profile(image, np.empty((9, 9)), -1)
