"""Cross-correlation: against integration by hand, and velocities put in."""

from __future__ import annotations

import numpy as np
import pytest
from apero_kernels import ccf
from hypothesis import given, settings

from tests.kernels.cases import arrays

C_KMS = 299792.458


def plain(spectra, var, wave, lines, weights, shifts, width):
    """The sum pixel by pixel."""
    flux = np.zeros((spectra.shape[0], shifts.size))
    noise, used = np.zeros_like(flux), np.zeros(spectra.shape[0], int)
    for o, (f, v, w) in enumerate(zip(spectra, var, wave, strict=True)):
        middle = 0.5 * (w[1:] + w[:-1])
        edges = np.r_[w[0] - 0.5 * (w[1] - w[0]), middle, w[-1] + 0.5 * (w[-1] - w[-2])]
        bad = ~np.isfinite(f) | ~np.isfinite(v)
        for line, weight in zip(lines, weights, strict=True):
            low, high = line * shifts.min() * (1 - width / 2), line * shifts.max() * (1 + width / 2)
            if low < edges[0] or high > edges[-1]:
                continue
            if bad[(edges[1:] > low) & (edges[:-1] <= high)].any():
                continue
            used[o] += 1
            for j, shift in enumerate(shifts):
                a, b = line * shift * (1 - width / 2), line * shift * (1 + width / 2)
                share = np.clip(np.minimum(edges[1:], b) - np.maximum(edges[:-1], a), 0, None)
                share /= np.diff(edges)
                flux[o, j] += weight * np.sum(share * np.where(bad, 0, f))
                noise[o, j] += weight**2 * np.sum(share * np.where(bad, 0, v))
    return flux, noise, used


def grid(orders, columns):
    return np.array([(1000.0 + 40 * o) * np.exp(np.arange(columns) * 2.3 / C_KMS) for o in range(orders)])


@settings(deadline=None, max_examples=40)
@given(arrays((3, 70), empty=False))
def test_correlations_are_the_plain_ones(spectra):
    if spectra.shape[1] < 2:
        return
    wave = grid(*spectra.shape)
    var = np.abs(spectra) + 1
    rng = np.random.default_rng(3)
    lines = np.sort(rng.uniform(wave.min(), wave.max(), 60))
    weights = rng.uniform(0.1, 1.0, 60)
    shifts = 1 + np.linspace(-8, 8, 9) / C_KMS
    found = ccf.correlate(spectra, wave, lines, weights, shifts, 3.1 / C_KMS, var=var)
    expected = plain(spectra.astype(float), var.astype(float), wave, lines, weights, shifts, 3.1 / C_KMS)
    np.testing.assert_array_equal(found[2], expected[2])
    scale = max(np.nanmax(np.abs(spectra), initial=0.0), 1.0)
    np.testing.assert_allclose(found[0], expected[0], rtol=0, atol=1e-7 * scale)
    np.testing.assert_allclose(found[1], expected[1], rtol=0, atol=1e-7 * scale)


@pytest.mark.parametrize("velocity", [-3.0, 0.0, 2.137])
def test_velocity_of_lines_is_recovered(velocity):
    """Gaussian lines on a plain background; lines at random overlap, which leaves less than 50 m/s."""
    wave = grid(3, 800)
    rng = np.random.default_rng(5)
    lines = np.concatenate([np.sort(rng.uniform(w[30], w[-30], 40)) for w in wave])
    v = C_KMS * np.log(wave[:, :, None] / (lines * np.exp(velocity / C_KMS)))
    spectra = 1.0 + np.exp(-0.5 * (v / 2.2) ** 2).sum(axis=2)
    grid_kms = np.arange(-12, 12.1, 0.5)
    flux, _, used = ccf.correlate(
        spectra, wave, lines, np.ones(lines.size), np.exp(grid_kms / C_KMS), 1.7 / C_KMS
    )
    assert used.sum() > 100
    total = flux.sum(axis=0)
    near = np.abs(grid_kms - velocity) < 4
    # Vertex of a parabola through the logarithm: the profile is a Gaussian.
    curve = np.polyfit(grid_kms[near], np.log(total[near] - total.min() * 0.98), 2)
    assert abs(-0.5 * curve[1] / curve[0] - velocity) < 0.05


def test_orders_that_cannot_be_used_are_left_out():
    wave = grid(2, 50)
    wave[1, 20] = wave[1, 30]
    lines = np.array([wave[0, 25], wave[1, 10]])
    flux, variance, used = ccf.correlate(np.ones((2, 50)), wave, lines, np.ones(2), np.ones(1), 2.3 / C_KMS)
    assert used.tolist() == [1, 0]
    assert flux[0, 0] == pytest.approx(1.0, rel=1e-3)
    assert flux[1, 0] == 0.0
    assert variance.size == 0


def test_bad_arguments_are_named():
    one = np.ones(1)
    with pytest.raises(ValueError, match=r"wave: shape \(1, 3\), expected \(1, 2\)"):
        ccf.correlate(np.ones((1, 2)), np.ones((1, 3)), one, one, one, 1e-5)
    with pytest.raises(ValueError, match="width: 0, expected a finite number above 0"):
        ccf.correlate(np.ones((1, 2)), np.ones((1, 2)), one, one, one, 0)
    with pytest.raises(ValueError, match="0 shifts"):
        ccf.correlate(np.ones((1, 2)), np.ones((1, 2)), one, one, np.ones(0), 1e-5)
