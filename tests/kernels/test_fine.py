"""Interpolation that displaces nothing: against a plain sum, and against waves and spots at known places."""

from __future__ import annotations

import numpy as np
import pytest
from apero_kernels import fine
from hypothesis import given, settings

from tests.kernels.cases import arrays

AFFINE = np.array([1.3, -2.41, 1.001, 2e-4, -6e-4, 0.9995])


def test_weights_interpolate_and_differentiate():
    """Weights sum to 1 and follow waves up to 0.33 cycles per pixel to 1 per cent and 1e-3 px."""
    table = fine.interpolation_weights(64)
    np.testing.assert_allclose(table.sum(axis=1), 1.0, atol=1e-12)
    pixel = np.arange(fine.TAPS) - fine.TAPS // 2 + 1
    for f in (0.05, 0.2, 0.3, 0.33):
        wave = table @ np.exp(2j * np.pi * f * pixel) / np.exp(2j * np.pi * f * np.arange(65) / 64)
        assert np.abs(np.angle(wave) / (2 * np.pi * f)).max() < 1e-3
        assert np.abs(np.abs(wave) - 1).max() < 0.01
    ramp = fine.derivative_weights()
    assert abs(2 * ramp @ np.arange(1, 5) - 1) < 1e-12
    k = np.arange(1, 5)
    for f in (0.05, 0.2, 0.3):
        assert abs(2 * ramp @ np.sin(2 * np.pi * f * k) / (2 * np.pi * f) - 1) < 0.03


def naive(image, affine, x, y):
    """One output pixel: along the rows, each at the height where it is met, then across."""
    table = fine.interpolation_weights(65536)
    rows, columns = image.shape

    def weights(place):
        base = int(place)
        return np.clip(np.arange(base - 6, base + 8), 0, None), table[round((place - base) * 65536)]

    u, v = affine[:2] + affine[2:].reshape(2, 2) @ [x, y]
    if not (0 <= u <= columns - 1 and 0 <= v <= rows - 1):
        return np.nan
    total = 0.0
    pixels, wy = weights(v)
    for yi, w in zip(np.minimum(pixels, rows - 1), wy, strict=True):
        at = (yi - affine[1] - affine[4] * x) / affine[5]
        place = affine[0] + affine[2] * x + affine[3] * at
        if not 0 <= place <= columns - 1:
            return np.nan
        xs, wx = weights(place)
        total += w * (wx @ image[yi, np.minimum(xs, columns - 1)])
    return total


def test_pixels_are_those_of_a_plain_sum():
    """To 1e-4 of the noise: places are rounded to 1e-5 px here, the kernel has a table of 256."""
    rng = np.random.default_rng(7)
    image = rng.normal(0, 1, (40, 50))
    out = np.empty_like(image)
    fine.resample_fine(image, AFFINE, out)
    for y in range(0, 40, 3):
        for x in range(0, 50, 4):
            np.testing.assert_allclose(out[y, x], naive(image, AFFINE, x, y), atol=1e-4)


def test_spots_land_where_they_should():
    """Slices 3.3 px apart: 1e-3 px where the quadratic spline is off by a hundredth or more."""
    from apero_kernels.resample import resample

    y, x = np.mgrid[:60, :80].astype(float)

    def scene(u, v):
        slices = sum(np.exp(-0.5 * ((v - 20 - 3.31 * k) / 1.1) ** 2) for k in range(6))
        return slices * (1 + np.cos(2 * np.pi * u / 9.0)) + 0 * v

    affine = np.array([0.3, 0.27, 1.0, 0.0, 0.0, 1.0])
    expected = scene(x + 0.3, y + 0.27)
    inner = slice(15, 45), slice(15, 65)
    slope_y = np.gradient(expected, axis=0)[inner]

    def displacement(method):
        out = np.empty_like(expected)
        method(scene(x, y), affine, out)
        r = (out - expected)[inner]
        return (r * slope_y).sum() / (slope_y**2).sum()

    assert abs(displacement(fine.resample_fine)) < 1e-3
    assert abs(displacement(resample)) > 5e-3


@settings(max_examples=30, deadline=None)
@given(image=arrays((20, 24), dtypes=(np.float32,), empty=False))
def test_any_image(image):
    """Finite light gives finite pixels inside the frame; the shift by whole pixels keeps a constant."""
    out = np.empty(image.shape, image.dtype)
    fine.resample_fine(image, (1.0, 0.0, 1.0, 0.0, 0.0, 1.0), out)
    assert np.isnan(out[:, -1]).all()
    if np.isfinite(image).all():
        assert np.isfinite(out[:, :-1]).all()


def test_wrong_arguments_are_refused():
    image = np.zeros((10, 10))
    with pytest.raises(ValueError, match="D near 1"):
        fine.resample_fine(image, (0, 0, 1, 0, 0, 0.1), np.empty((10, 10)))
    with pytest.raises(ValueError, match="shares memory"):
        fine.resample_fine(image, AFFINE, image)
    with pytest.raises(ValueError, match="out"):
        fine.resample_fine(image, AFFINE, np.empty((10, 9)))
