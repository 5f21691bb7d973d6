"""Straightening: against scipy's spline, against a function sampled elsewhere, and its bookkeeping."""

from __future__ import annotations

import numpy as np
import pytest
from apero_kernels import resample
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import map_coordinates

from tests.kernels.cases import arrays


def reference(image, affine, shape, first_row=0, dxmap=None, dymap=None, order=2):
    """Naive: image and validity through scipy's spline of order 2, ratio, 0.5 rule."""
    y, x = np.mgrid[first_row : first_row + shape[0], 0 : shape[1]].astype(float)
    dx, dy, a, b, c, d = affine
    xs, ys = dx + a * x + b * y, dy + c * x + d * y
    if dxmap is not None:
        xs += dxmap[first_row : first_row + shape[0]]
    if dymap is not None:
        ys += dymap[first_row : first_row + shape[0]]
    valid = np.isfinite(image).astype(float)
    data = np.where(valid > 0, image, 0.0).astype(float)
    top, bottom = (map_coordinates(p, [ys, xs], order=order, mode="mirror") for p in (data, valid))
    inside = (xs >= 0) & (xs <= image.shape[1] - 1) & (ys >= 0) & (ys <= image.shape[0] - 1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(inside & (bottom >= 0.5), top / bottom, np.nan), bottom


def compare(found, expected, bottom, image):
    scale = np.nanmax(np.abs(image), initial=1.0, where=np.isfinite(image))
    edge = np.abs(bottom - 0.5) < 1e-5  # float32 may fall on the other side of the limit
    tolerance = 40 * np.finfo(np.float32).eps * scale
    np.testing.assert_allclose(np.where(edge, 0, found), np.where(edge, 0, expected), rtol=0, atol=tolerance)


affines = st.tuples(
    st.floats(-3, 3), st.floats(-3, 3), st.floats(0.98, 1.02), st.floats(-0.02, 0.02),
    st.floats(-0.02, 0.02), st.floats(0.98, 1.02),
)  # fmt: skip


@settings(deadline=None, max_examples=30)
@given(arrays((30, 40), empty=False), affines, st.integers(0, 2**31))
def test_resampling_is_that_of_scipy(image, affine, seed):
    rng = np.random.default_rng(seed)
    dxmap, dymap = rng.uniform(-2, 2, (2, *image.shape))
    out = np.empty(image.shape)
    resample.resample(image, affine, out, dxmap=dxmap, dymap=dymap)
    expected, bottom = reference(image, affine, image.shape, 0, dxmap, dymap)
    compare(out, expected, bottom, image)


@pytest.mark.parametrize("seed", [1, 2])
def test_many_bands_and_a_few_rows_give_the_same(seed):
    """250 rows are three bands; any range of rows is that part of the whole, to the last bit."""
    rng = np.random.default_rng(seed)
    image = rng.normal(size=(250, 60)).astype(np.float32)
    image[rng.random(image.shape) < 0.02] = np.nan
    affine = (1.3, -2.2, 1.0005, 1e-3, -6e-4, 0.9995)
    dymap = np.tile(20 * np.sin(np.arange(60) / 20.0), (250, 1)).astype(np.float32)
    whole = np.empty((250, 60), np.float32)
    resample.resample(image, affine, whole, dymap=dymap)
    expected, bottom = reference(image, affine, whole.shape, dymap=dymap)
    compare(whole, expected, bottom, image)
    for first, end in ((0, 16), (90, 130), (200, 250)):
        part = np.empty((end - first, 60), np.float32)
        resample.resample(image, affine, part, first_row=first, dymap=dymap)
        np.testing.assert_array_equal(part, whole[first:end])


def test_identity_returns_the_image():
    image = np.random.default_rng(0).normal(size=(50, 70)).astype(np.float32)
    out = np.empty_like(image)
    resample.resample(image, resample.IDENTITY, out)
    assert np.abs(out - image).max() < 8 * np.finfo(np.float32).eps * np.abs(image).max()


def test_smooth_scene_is_found_where_the_map_points():
    """The output pixel samples the input at x' = dx + A x + B y: a wrong sign would miss by 4 px."""
    y, x = np.mgrid[0:200, 0:300].astype(float)

    def scene(xs, ys):
        return 100 + 50 * np.sin(xs / 9.0) * np.cos(ys / 11.0)

    affine = (2.0, -1.5, 1.001, 2e-3, -1e-3, 0.999)
    out = np.empty(x.shape)
    resample.resample(scene(x, y), affine, out)
    dx, dy, a, b, c, d = affine
    expected = scene(dx + a * x + b * y, dy + c * x + d * y)
    inner = np.s_[10:-10, 10:-10]
    # Error of a quadratic spline: h^3 f''' / (72 sqrt 3) times 50/9^3 per axis.
    assert np.nanmax(np.abs(out - expected)[inner]) < 2e-3


@settings(deadline=None, max_examples=40)
@given(arrays((20, 25), empty=False), affines)
def test_linear_resampling_keeps_variances_positive(image, affine):
    var = np.abs(image) + 1
    out = np.empty(image.shape)
    resample.resample_linear(var, affine, out)
    good = np.isfinite(out)
    if good.any():
        assert out[good].min() >= np.nanmin(var) * (1 - 1e-6)
        assert out[good].max() <= np.nanmax(var) * (1 + 1e-6)
    if np.isfinite(image).all() and min(image.shape) > 1:
        expected, _ = reference(var, affine, image.shape, order=1)
        np.testing.assert_allclose(out, expected, rtol=1e-6)


@settings(deadline=None, max_examples=50)
@given(affines, affines, st.floats(-50, 50), st.floats(-50, 50))
def test_composition_and_inverse_are_exact(first, then, x, y):
    def apply(v, p):
        return v[0] + v[2] * p[0] + v[3] * p[1], v[1] + v[4] * p[0] + v[5] * p[1]

    both = resample.compose_affine(first, then)
    np.testing.assert_allclose(apply(both, (x, y)), apply(then, apply(first, (x, y))), atol=1e-10)
    np.testing.assert_allclose(apply(resample.invert_affine(first), apply(first, (x, y))), (x, y), atol=1e-10)


def test_bad_arguments_are_named():
    image, out = np.ones((20, 20)), np.empty((5, 20))
    with pytest.raises(ValueError, match="expected six finite numbers"):
        resample.resample(image, (0, 0, 1), out)
    with pytest.raises(ValueError, match=r"dxmap: shape \(20, 20\) does not hold output rows 16 to 21"):
        resample.resample(image, resample.IDENTITY, out, first_row=16, dxmap=image)
    with pytest.raises(ValueError, match="shares memory"):
        resample.resample(image, resample.IDENTITY, image)
    with pytest.raises(ValueError, match="singular"):
        resample.invert_affine((0, 0, 1, 1, 1, 1))
    with pytest.raises(TypeError, match="byte order"):
        resample.resample(image.astype(">f8"), resample.IDENTITY, out)


@pytest.mark.parametrize("bend", [30.0, -90.0])
def test_bands_of_bent_orders_are_those_of_single_rows(bend):
    """Rows filtered for one band serve the next: the whole image is bit for bit that of single rows."""
    rng = np.random.default_rng(11)
    image = rng.normal(100, 10, (260, 70)).astype(np.float32)
    image[rng.random(image.shape) < 0.02] = np.nan
    x = np.arange(70) / 70
    dymap = np.tile((bend * (x - 0.5) ** 2).astype(np.float32), (260, 1))
    affine = (0.3, -0.7, 1.0002, 1e-4, -3e-4, 0.9999)
    whole = np.empty_like(image)
    resample.resample(image, affine, whole, dymap=dymap)
    for first in range(0, 260, 37):
        row = np.empty((1, 70), np.float32)
        resample.resample(image, affine, row, first_row=first, dymap=dymap)
        np.testing.assert_array_equal(row[0], whole[first])
