"""Straightening: against splines by definition, against a function sampled elsewhere, and its bookkeeping."""

from __future__ import annotations

import numpy as np
import pytest
from apero_kernels import resample, spline
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import map_coordinates
from scipy.optimize import curve_fit

from tests.kernels.cases import arrays

BASES = ("moms", "quadratic")


def b_spline(degree, s):
    """Centred B-spline of degree 1, 2, 3."""
    s = np.abs(s)
    if degree == 1:
        return np.maximum(1 - s, 0)
    if degree == 2:
        return np.where(s < 0.5, 0.75 - s**2, 0.5 * np.maximum(1.5 - s, 0) ** 2)
    return np.where(s < 1, 2 / 3 - s**2 + s**3 / 2, np.maximum(2 - s, 0) ** 3 / 6)


def basis_value(name, s):
    """As defined: the second derivative of a B-spline is a difference of those two degrees below."""
    if name == "quadratic":
        return b_spline(2, s)
    return b_spline(3, s) + (b_spline(1, s - 1) - 2 * b_spline(1, s) + b_spline(1, s + 1)) / 42


def mirror(i, n):
    period = max(2 * (n - 1), 1)
    i = np.abs(i) % period
    return np.where(i >= n, period - i, i)


def values_at_pixels(name, n):
    """Matrix that turns coefficients into the values at n pixels, mirrored at the edges."""
    matrix = np.zeros((n, n))
    for i in range(n):
        for k in (-1, 0, 1):
            matrix[i, mirror(i + k, n)] += basis_value(name, float(k))
    return matrix


def interpolated(plane, xs, ys, name):
    """Plane at positions: coefficients by solving the linear system, all taps that can count summed."""
    rows, columns = plane.shape
    inner = np.linalg.solve(values_at_pixels("quadratic", rows), plane)
    coefficients = np.linalg.solve(values_at_pixels(name, columns), inner.T).T
    x0, y0 = np.floor(xs).astype(int), np.floor(ys).astype(int)
    total = np.zeros(xs.shape)
    for j in range(-1, 3):
        for i in range(-1, 3):
            weight = basis_value(name, xs - x0 - i) * basis_value("quadratic", ys - y0 - j)
            total += weight * coefficients[mirror(y0 + j, rows), mirror(x0 + i, columns)]
    return total


def positions(affine, shape, first_row=0, dxmap=None, dymap=None):
    y, x = np.mgrid[first_row : first_row + shape[0], 0 : shape[1]].astype(float)
    dx, dy, a, b, c, d = affine
    xs, ys = dx + a * x + b * y, dy + c * x + d * y
    if dxmap is not None:
        xs += dxmap[first_row : first_row + shape[0]]
    if dymap is not None:
        ys += dymap[first_row : first_row + shape[0]]
    return xs, ys


def in_frame(xs, ys, image, margin=0.0):
    rows, columns = image.shape
    good = (xs >= -margin) & (xs <= columns - 1 + margin) & (ys >= -margin) & (ys <= rows - 1 + margin)
    return good & np.isfinite(xs + ys)


def reference(image, affine, shape, first_row=0, dxmap=None, dymap=None, basis="moms"):
    """Naive: image and validity interpolated, ratio, 0.5 rule; and where float32 may decide otherwise."""
    xs, ys = positions(affine, shape, first_row, dxmap, dymap)
    inside = in_frame(xs, ys, image)
    valid = np.isfinite(image).astype(float)
    data = np.where(valid > 0, image, 0.0).astype(float)
    at = np.where(inside, xs, 0.0), np.where(inside, ys, 0.0)
    top, bottom = (interpolated(plane, *at, basis) for plane in (data, valid))
    border = in_frame(xs, ys, image, -2e-6) != in_frame(xs, ys, image, 2e-6)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(inside & (bottom >= 0.5), top / bottom, np.nan), border | (
            np.abs(bottom - 0.5) < 1e-5
        )


def compare(found, expected, doubtful, image):
    """Forty roundings of float32: thirty weights, and positions rounded at displacements of some px."""
    scale = np.nanmax(np.abs(image), initial=1.0, where=np.isfinite(image))
    tolerance = 40 * np.finfo(np.float32).eps * scale
    np.testing.assert_allclose(
        np.where(doubtful, 0, found), np.where(doubtful, 0, expected), rtol=0, atol=tolerance
    )


affines = st.tuples(
    st.floats(-3, 3), st.floats(-3, 3), st.floats(0.98, 1.02), st.floats(-0.02, 0.02),
    st.floats(-0.02, 0.02), st.floats(0.98, 1.02),
)  # fmt: skip


@settings(deadline=None, max_examples=40)
@given(arrays((30, 40), empty=False), affines, st.integers(0, 2**31), st.sampled_from(BASES))
def test_resampling_is_that_of_the_definition(image, affine, seed, basis):
    rng = np.random.default_rng(seed)
    dxmap, dymap = rng.uniform(-2, 2, (2, *image.shape))
    dxmap[rng.random(image.shape) < 0.02] = np.nan
    out = np.empty(image.shape)
    resample.resample(image, affine, out, dxmap=dxmap, dymap=dymap, basis=basis)
    expected, doubtful = reference(image, affine, image.shape, 0, dxmap, dymap, basis)
    compare(out, expected, doubtful, image)


def test_definition_of_the_quadratic_spline_is_that_of_scipy():
    rng = np.random.default_rng(3)
    plane = rng.normal(size=(31, 45))
    xs, ys = rng.uniform(0, 44, (20, 30)), rng.uniform(0, 30, (20, 30))
    expected = map_coordinates(plane, [ys, xs], order=2, mode="mirror")
    np.testing.assert_allclose(interpolated(plane, xs, ys, "quadratic"), expected, atol=1e-10)


@pytest.mark.parametrize("basis", BASES)
def test_order_of_the_approximation(basis):
    """Error of a sampled wave, halved in frequency: 2^3 times smaller for degree 2, 2^4 for degree 3.

    The limits tell the two bases apart.
    """
    x = np.arange(200.0)
    errors = []
    for cycles in (0.08, 0.04):
        wave = np.cos(2 * np.pi * cycles * x)[None] * np.ones((40, 1))
        found = []
        for phase in np.arange(0.05, 1, 0.1):
            out = np.empty(wave.shape)
            resample.resample(wave, (phase, 0, 1, 0, 0, 1), out, basis=basis)
            found.append((out[20] - np.cos(2 * np.pi * cycles * (x + phase)))[30:-30])
        errors.append(np.sqrt(np.mean(np.square(found))))
    order = np.log2(errors[0] / errors[1])
    expected = {"moms": 4, "quadratic": 3}[basis]
    assert abs(order - expected) < 0.2
    assert errors[0] < {"moms": 1e-3, "quadratic": 4e-3}[basis]


def test_lines_stay_narrow():
    """Lines of 2.2 px at half maximum, any place on the pixels, any shift: wider by less than a per cent.

    A Gaussian fitted before and after; the quadratic spline makes it more than three times worse.
    """
    x = np.arange(61.0)
    sigma = 2.2 / 2.3548

    def line(x, height, centre, width):
        return height * np.exp(-0.5 * ((x - centre) / width) ** 2)

    widths = {}
    for basis in BASES:
        ratios = []
        for place in np.arange(30.0, 31.0, 0.25):
            image = line(x, 1.0, place, sigma) * np.ones((3, 1))
            for shift in np.arange(0.0, 1.0, 0.125):
                out = np.empty(image.shape)
                resample.resample(image, (shift, 0.0, 1.0, 0.0, 0.0, 1.0), out, basis=basis)
                near = slice(round(place - shift) - 4, round(place - shift) + 5)
                fit, _ = curve_fit(line, x[near], out[1, near], (1.0, place - shift, 1.0))
                ratios.append(fit[2] / sigma)
        widths[basis] = 100 * (np.mean(ratios) - 1)
    print({basis: f"{width:.2f} per cent" for basis, width in widths.items()})
    assert 0 < widths["moms"] < 1.0
    assert widths["quadratic"] > 3 * widths["moms"]


@pytest.mark.parametrize("name", BASES)
def test_noise_of_an_interpolated_pixel(name):
    """Sum of the squares of the weights every sample gets, read off unit vectors."""
    basis = spline.BASES[name]
    for phase in (-0.4, 0.0, 0.13, 0.5, 1.3):
        xs = np.full((1, 1), 60.0 + phase)
        matrix = np.linalg.inv(values_at_pixels(name, 121))
        taps = np.array([basis_value(name, xs[0, 0] - i) for i in range(121)])
        expected = np.square(taps @ matrix).sum()
        assert float(spline.noise_gain(np.array(phase), basis)) == pytest.approx(expected, rel=1e-9)
    np.testing.assert_allclose(spline.noise_gain(np.array([[-0.3], [0.3]]), basis)[0],
                               spline.noise_gain(np.array([0.3]), basis))  # fmt: skip


@pytest.mark.parametrize("seed", [1, 2])
def test_any_rows_are_those_of_the_whole(seed):
    """Rows come from a ring that is refilled; any range is that part of the whole, to the last bit."""
    rng = np.random.default_rng(seed)
    image = rng.normal(size=(250, 60)).astype(np.float32)
    image[rng.random(image.shape) < 0.02] = np.nan
    affine = (1.3, -2.2, 1.0005, 1e-3, -6e-4, 0.9995)
    dymap = np.tile(20 * np.sin(np.arange(60) / 20.0), (250, 1)).astype(np.float32)
    whole = np.empty((250, 60), np.float32)
    resample.resample(image, affine, whole, dymap=dymap)
    expected, doubtful = reference(image, affine, whole.shape, dymap=dymap)
    compare(whole, expected, doubtful, image)
    for first, end in ((0, 16), (90, 130), (200, 250)):
        part = np.empty((end - first, 60), np.float32)
        resample.resample(image, affine, part, first_row=first, dymap=dymap)
        np.testing.assert_array_equal(part, whole[first:end])


def test_strips_and_wild_maps():
    """More than a strip of columns, and displacements that ask for other columns and rows every time."""
    rng = np.random.default_rng(5)
    columns = resample._STRIP + 300
    image = rng.normal(size=(60, columns)).astype(np.float32)
    image[rng.random(image.shape) < 0.02] = np.nan
    dxmap = rng.uniform(-30, 30, (60, 1)) + 0.01 * np.arange(columns)
    dymap = rng.uniform(-20, 20, (60, 1)) + rng.uniform(-3, 3, (60, columns))
    dymap[20:30] = 500.0  # rows without any light
    out = np.empty(image.shape)
    affine = (0.2, -0.1, 1.0, 0.0, 0.0, 1.0)
    resample.resample(image, affine, out, dxmap=dxmap, dymap=dymap)
    expected, doubtful = reference(image, affine, image.shape, 0, dxmap, dymap)
    compare(out, expected, doubtful, image)
    assert np.isnan(out[20:30]).all() and np.isfinite(out).mean() > 0.3


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
        xs, ys = positions(affine, image.shape)
        expected = map_coordinates(var.astype(float), [ys, xs], order=1, mode="mirror")
        expected[~in_frame(xs, ys, image)] = np.nan
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
    with pytest.raises(ValueError, match="basis: 'cubic', expected one of moms, quadratic"):
        resample.resample(image, resample.IDENTITY, out, basis="cubic")
    with pytest.raises(ValueError, match="singular"):
        resample.invert_affine((0, 0, 1, 1, 1, 1))
    with pytest.raises(TypeError, match="byte order"):
        resample.resample(image.astype(">f8"), resample.IDENTITY, out)


@pytest.mark.parametrize("bend", [30.0, -90.0])
def test_bent_orders_are_those_of_single_rows(bend):
    """Rows filtered for one output row serve the next: the whole image is bit for bit that of single rows."""
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
