"""Peaks and their displacements: against numpy restatements, and against light whose place is known."""

from __future__ import annotations

import numpy as np
import pytest
from apero_kernels import fine, peaks
from apero_kernels import shifts as shifts_of
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.kernels.cases import arrays

IDENTITY = (0.0, 0.0, 1.0, 0.0, 0.0, 1.0)


def light(rows, columns, affine, *, pitch_x=7.3, pitch_y=3.31, sigma=1.05):
    """Comb of Gaussian spots (x, y) -> affine(x, y), sampled at pixel centres, and the spots."""
    y, x = np.mgrid[:rows, :columns].astype(float)
    image = np.zeros((rows, columns))
    spots = []
    for j in np.arange(12, rows - 12, pitch_y):
        if int(j // 14) % 2:
            continue  # a dark stripe between groups of slices
        for k, i in enumerate(np.arange(12, columns - 12, pitch_x)):
            # The distance of the spots changes along the row: no other offset fits.
            at = np.array([i + 0.002 * k * k, j])
            u, v = affine[:2] + np.reshape(affine[2:], (2, 2)) @ at
            if not (0 < u < columns and 0 < v < rows):
                continue
            y0, x0 = int(max(v - 8, 0)), int(max(u - 8, 0))
            part = slice(y0, y0 + 18), slice(x0, x0 + 18)
            image[part] += np.exp(-0.5 * ((x[part] - u) ** 2 + (y[part] - v) ** 2) / sigma**2)
            spots.append(at)
    return 1000.0 * image, np.array(spots)


def naive_peaks(image, var, least, most):
    found = []
    for y in range(1, image.shape[0] - 1):
        for x in range(1, image.shape[1] - 1):
            around = np.delete(image[y - 1 : y + 2, x - 1 : x + 2].ravel(), 4)
            value = image[y, x]
            if not (np.isfinite(around) | np.isneginf(around)).all():
                continue
            strong = var[y, x] > 0 and value > 0 and value**2 > least**2 * var[y, x]
            if strong and (around < value).all() and value < most * around.max():
                found.append((x, y))
    return found


@settings(max_examples=60, deadline=None)
@given(image=arrays((9, 11)), seed=st.integers(0, 99))
def test_peaks_are_those_of_the_definition(image, seed):
    image = np.abs(image)
    var = np.random.default_rng(seed).uniform(0, 5, image.shape).astype(image.dtype)
    x, y = peaks.find_peaks(image, var, least=1.0, most_over_neighbour=1.5)
    assert list(zip(x.tolist(), y.tolist(), strict=True)) == naive_peaks(image, var, 1.0, 1.5)


def test_more_peaks_than_expected_and_defects():
    """A board of isolated peaks outgrows the first guess of their number; a lone hot pixel is none."""
    image = np.ones((60, 60), np.float32)
    image[1::2, 1::2] = 1.4
    x, _ = peaks.find_peaks(image, np.full_like(image, 1e-6))
    assert x.size == 29 * 29
    image[11, 11] = 50.0
    assert peaks.find_peaks(image, np.full_like(image, 1e-6))[0].size == 29 * 29 - 1


@pytest.mark.parametrize("offset", [(0, 0), (5, -3), (-11, 11)])
def test_scores_are_highest_at_the_offset(offset):
    reference, _ = light(80, 150, np.array(IDENTITY))
    x, y = peaks.find_peaks(reference, np.ones_like(reference), least=100.0)
    image = 3.0 * np.roll(reference, offset[::-1], axis=(0, 1))
    scores = peaks.offset_scores(image, 3.0, x, y, reference[y, x], 11)
    expected = np.zeros_like(scores)
    for j in range(23):
        for i in range(23):
            v, u = y + j - 11, x + i - 11
            inside = (v >= 0) & (v < 80) & (u >= 0) & (u < 150)
            part = image[v[inside], u[inside]] / (3.0 * reference[y, x][inside])
            expected[j, i] = np.clip(part, 0, 1).mean()
    np.testing.assert_allclose(scores, expected, rtol=1e-12)
    j, i = np.unravel_index(np.argmax(scores), scores.shape)
    assert (i - 11, j - 11) == offset


def naive_shift(reference, image, var, affine, x0, y0, systematic):
    """The same window by a plain weighted fit, interpolation and derivative by the published weights."""
    table, ramp = fine.interpolation_weights(65536), fine.derivative_weights()
    x, y = affine[:2] + np.reshape(affine[2:], (2, 2)) @ [x0, y0]
    xi, yi = int(x), int(y)
    wx, wy = table[round((x - xi) * 65536)], table[round((y - yi) * 65536)]
    near_x, near_y = round(x), round(y)
    rows, data, weight = [], [], []
    for v in (-1, 0, 1):
        for u in (-2, -1, 0, 1, 2):
            patch = image[yi + v - 6 : yi + v + 8, xi + u - 6 : xi + u + 8]
            value = wy @ patch @ wx
            r = reference[y0 + v, x0 + u]
            dx = sum(
                w * (reference[y0 + v, x0 + u + k] - reference[y0 + v, x0 + u - k])
                for k, w in enumerate(ramp, 1)
            )
            dy = sum(
                w * (reference[y0 + v + k, x0 + u] - reference[y0 + v - k, x0 + u])
                for k, w in enumerate(ramp, 1)
            )
            rows.append([r, 1.0, dx, dy])
            data.append(value)
            weight.append(1 / (var[near_y + v, near_x + u] + (systematic * value) ** 2))
    root = np.sqrt(weight)
    design = np.array(rows) * root[:, None]
    solution = np.linalg.lstsq(design, np.array(data) * root, rcond=None)[0]
    covariance = np.linalg.inv(design.T @ design)
    left = design @ solution - np.array(data) * root
    return solution[2:] / solution[0], np.sqrt(np.diag(covariance))[2:] / solution[0], left @ left / 11


def test_shifts_are_those_of_a_plain_fit():
    """To 2e-5 px: places are rounded to 1e-5 px here, and come from a table of 256 in the kernel."""
    affine = np.array([1.31, -2.4, 1.001, 2e-4, -3e-4, 0.999])
    reference, _ = light(70, 120, np.array(IDENTITY))
    image, _ = light(70, 120, affine)
    rng = np.random.default_rng(5)
    image += rng.normal(0, 5, image.shape)
    var = rng.uniform(20, 30, image.shape)
    x, y = peaks.find_peaks(reference, np.ones_like(reference), least=100.0)
    shifts, errors, quality = shifts_of.peak_shifts(reference, image, var, affine, x, y, systematic=0.02)
    good = np.flatnonzero(np.isfinite(quality))
    assert good.size > 50
    for k in good[::7]:
        expected = naive_shift(reference, image, var, affine, x[k], y[k], 0.02)
        np.testing.assert_allclose(shifts[k], expected[0], atol=2e-5)
        np.testing.assert_allclose(errors[k], expected[1], rtol=1e-4)
        np.testing.assert_allclose(quality[k], expected[2], rtol=2e-3)


@pytest.mark.parametrize("phase", [(0.25, 0.0), (0.0, 0.3), (0.5, 0.5), (2.2, -3.7)])
def test_no_bias_of_the_phase(phase):
    """Where the light is exactly where it is expected, no shift: 1e-3 px on average, 2e-3 for nine in ten.

    1e-3 px is what the interpolation displaces a wave of 0.3 cycles per pixel (test of the weights below);
    peaks at the end of a stripe have half the structure.
    """
    affine = np.array([*phase, 1.0, 0.0, 0.0, 1.0])
    reference, _ = light(90, 260, np.array(IDENTITY))
    image, _ = light(90, 260, affine)
    x, y = peaks.find_peaks(reference, np.ones_like(reference), least=100.0)
    shifts, _, _ = shifts_of.peak_shifts(reference, image, np.ones_like(image), affine, x, y)
    shifts = shifts[np.isfinite(shifts[:, 0])]
    print(phase, np.abs(np.median(shifts, axis=0)), np.percentile(np.abs(shifts), 90))
    assert (np.abs(np.median(shifts, axis=0)) < 1e-3).all()
    assert np.percentile(np.abs(shifts), 90) < 2e-3


def test_sense_and_size_of_a_shift():
    """The image shows at the expected place what the reference shows at (x + sx, y + sy)."""
    reference, _ = light(90, 160, np.array(IDENTITY))
    image, _ = light(90, 160, np.array([0.08, -0.05, 1.0, 0.0, 0.0, 1.0]))
    x, y = peaks.find_peaks(reference, np.ones_like(reference), least=100.0)
    shifts, _, _ = shifts_of.peak_shifts(reference, image, np.ones_like(image), IDENTITY, x, y)
    np.testing.assert_allclose(np.nanmedian(shifts, axis=0), [-0.08, 0.05], atol=2e-3)


def test_holes_and_edges():
    reference, _ = light(60, 100, np.array(IDENTITY))
    x, y = peaks.find_peaks(reference, np.ones_like(reference), least=100.0)
    k = int(np.argmin((x - 50) ** 2 + (y - 30) ** 2))
    image = reference.copy()
    whole, _, _ = shifts_of.peak_shifts(reference, image, np.ones_like(image), IDENTITY, x, y)
    image[y[k], x[k] + 5] = np.nan
    beside, _, _ = shifts_of.peak_shifts(reference, image, np.ones_like(image), IDENTITY, x, y)
    np.testing.assert_allclose(beside[k], whole[k], atol=1e-9)
    image[y[k], x[k]] = np.nan
    centre, _, quality = shifts_of.peak_shifts(reference, image, np.ones_like(image), IDENTITY, x, y)
    assert np.isnan(centre[k]).all() and np.isnan(quality[k])
    far, _, _ = shifts_of.peak_shifts(reference, reference, np.ones_like(image), (200.0, 0, 1, 0, 0, 1), x, y)
    assert np.isnan(far).all()
    dark, _, _ = shifts_of.peak_shifts(reference, -reference, np.ones_like(image), IDENTITY, x, y)
    assert np.isnan(dark).all()


@settings(max_examples=40, deadline=None)
@given(image=arrays((40, 44), dtypes=(np.float32,), empty=False))
def test_any_image_gives_a_number_or_nan(image):
    reference, _ = light(*image.shape, np.array(IDENTITY))
    var = np.ones_like(image)
    x, y = peaks.find_peaks(reference, np.ones_like(reference), least=100.0)
    shifts, errors, _ = shifts_of.peak_shifts(reference, image, var, IDENTITY, x, y)
    assert (np.isfinite(shifts) == np.isfinite(errors)).all()
    scores = peaks.offset_scores(image, 1.0, x, y, reference[y, x], 2)
    assert ((scores >= 0) & (scores <= 1) | np.isnan(scores)).all()


def test_wrong_arguments_are_refused():
    image = np.zeros((20, 20), np.float32)
    x = np.array([5], np.int64)
    with pytest.raises(ValueError, match="affine"):
        shifts_of.peak_shifts(image, image, image, (0, 0, np.nan, 0, 0, 1), x, x)
    with pytest.raises(ValueError, match="systematic: -1"):
        shifts_of.peak_shifts(image, image, image, IDENTITY, x, x, systematic=-1.0)
    with pytest.raises(TypeError, match="byte order"):
        peaks.find_peaks(image.astype(">f4"), image)
    with pytest.raises(ValueError, match="reach: -1"):
        peaks.offset_scores(image, 1.0, x, x, np.ones(1), -1)
    with pytest.raises(ValueError, match="least"):
        peaks.find_peaks(image, image, least=0.0)
