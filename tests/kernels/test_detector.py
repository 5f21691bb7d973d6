"""Detector corrections: orientation, reference pixels, patterns, variance, corruption tests."""

from __future__ import annotations

import numpy as np
import pytest
from apero_kernels import corruption, detector, medians, ramps
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.kernels import frames, naive
from tests.kernels.cases import arrays, assert_close

quiet = settings(deadline=None, max_examples=40)
GEOMETRIES = [frames.FULL, frames.SMALL]


@pytest.mark.parametrize("dtype", [np.float32, np.uint8])
@pytest.mark.parametrize("shape", [(1024, 960), (7, 5), (1, 40), (0, 3)])
def test_rotation_is_a_quarter_turn_clockwise(shape, dtype):
    raw = np.arange(np.prod(shape)).reshape(shape).astype(dtype)
    pp = np.empty(shape[::-1], dtype)
    detector.rotate_to_pp(raw, pp)
    np.testing.assert_array_equal(pp, np.rot90(raw, k=-1))


@pytest.mark.parametrize(
    ("geometry", "cut", "last"),
    [(frames.FULL, (3100, 4088, 4, 250), 3845), (frames.SMALL, (800, 1016, 4, 6), 953)],
)
def test_raw_to_cal_identity_pixel_by_pixel(geometry, cut, last):
    """cal[y, x] = raw[x + x0, columns - 1 - (y + y0)]: 3845 - y on the full detector."""
    ny, nx, x0, y0 = cut
    raw = np.arange(geometry.rows * geometry.columns, dtype=np.float64).reshape(geometry.rows, -1)
    pp = np.empty((geometry.columns, geometry.rows))
    detector.rotate_to_pp(raw, pp)
    cal = np.empty((ny, nx))
    detector.cut_to_cal(pp, x0, y0, cal)
    y, x = np.mgrid[0:ny:7, 0:nx:11]
    np.testing.assert_array_equal(cal[::7, ::11], raw[x + x0, last - y])
    assert cal[0, 0] == raw[4, last]


def test_cut_scales_and_refuses_to_reach_beyond():
    pp = np.ones((10, 12), np.float32)
    cal = np.empty((4, 5))
    detector.cut_to_cal(pp, 2, 3, cal, 2.5)
    assert (cal == 2.5).all()
    with pytest.raises(ValueError, match=r"the cut \[8:12, 2:7\] reaches beyond the frame"):
        detector.cut_to_cal(pp, 2, 8, cal)


@quiet
@given(arrays((24, 36), empty=False), st.sampled_from([1, 2, 3]), st.integers(1, 2))
def test_reference_pixels_are_the_naive_ones(image, amplifiers, border):
    if image.shape[1] % amplifiers or image.shape[0] < 2 * border:
        with pytest.raises(ValueError, match=r"divide|do not fit"):
            detector.reference_levels(image, amplifiers, border)
        return
    levels = detector.reference_levels(image, amplifiers, border)
    assert_close(levels, naive.reference_levels(image, amplifiers, border), image.dtype)
    out = np.empty(image.shape)
    detector.subtract_reference(image, levels, out)
    assert_close(
        out, naive.subtract_reference(image, levels), ulps=16, scale=np.nanmax(np.abs(image), initial=1.0)
    )


def test_offsets_and_drift_of_amplifiers_are_removed_exactly():
    """Noise-free offsets per parity and a linear drift vanish to rounding."""
    d = frames.SMALL
    rng = np.random.default_rng(1)
    a = frames.amplifier_of(d)
    parity = (np.arange(d.columns) % d.width) % 2
    offsets, drift = rng.normal(size=(d.amplifiers, 2)), rng.normal(size=d.amplifiers)
    row = np.arange(d.rows)[:, None]
    image = offsets[a, parity] + drift[a] * (row - 1.5) / (d.rows - 4)
    out = np.empty_like(image)
    detector.subtract_reference(image, detector.reference_levels(image, d.amplifiers, d.border), out)
    # Median of 4 rows lies at row 1.5, the line is drawn from row 0 to the last: 1.5 rows of drift remain.
    assert np.abs(out).max() < 2 * 3.0 / d.rows * np.abs(drift).max()


@quiet
@given(arrays((12, 36), empty=False), st.sampled_from([1, 2, 3, 4]))
def test_coupling_is_the_naive_one(image, amplifiers):
    if image.shape[1] % amplifiers or image.shape[1] // amplifiers < 2:
        return
    out = np.empty(image.shape)
    detector.subtract_coupling(image, amplifiers, out, (1e-2, 3e-2, -2e-2))
    expected = naive.subtract_coupling(image, amplifiers, (1e-2, 3e-2, -2e-2))
    # the pattern is kept in float32 whatever the image
    assert_close(out, expected, np.float32, 8, scale=np.nanmax(np.abs(image), initial=1.0) * amplifiers)


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_coupling_of_light_is_undone(geometry):
    if geometry is frames.FULL:
        geometry = frames.Detector(64, 4096, 32, 5, 4)
    rng = np.random.default_rng(2)
    true = 100.0 * rng.random((geometry.rows, geometry.columns)) ** 8
    cube = np.array(np.split(true, geometry.amplifiers, axis=1))
    cube[1::2] = cube[1::2, :, ::-1]
    total = cube.sum(axis=0)
    first = np.gradient(total, axis=1)
    c0, c1, c2 = 1.490711e-4, 8.080468e-4, -6.523985e-4
    pattern = c0 * total + c1 * first + c2 * np.gradient(first, axis=1)
    observed = true - frames.fold([pattern] * geometry.amplifiers)
    out = np.empty_like(observed)
    detector.subtract_coupling(observed, geometry.amplifiers, out)
    # The sum is taken from the observed frame: relative error at most 32 (c0 + 2 c1 + 4 c2) = 14 %.
    assert np.abs(out - true).max() < 0.15 * np.abs(pattern).max()
    assert np.std(out - true) < 0.08 * np.std(pattern)


def test_static_pattern_is_mirrored_in_odd_amplifiers():
    d = frames.TINY
    rng = np.random.default_rng(3)
    slope, intercept = rng.normal(size=(2, d.rows, d.width)).astype(np.float32)
    image = frames.fold([slope + intercept / 60.0] * d.amplifiers).astype(np.float32)
    out = np.empty_like(image)
    detector.subtract_static(image, slope, intercept, 60.0, out)
    assert np.abs(out).max() < 4 * np.finfo(np.float32).eps * np.abs(image).max()
    with pytest.raises(ValueError, match=r"exptime_s: 0\.0"):
        detector.subtract_static(image, slope, intercept, 0.0, out)


@quiet
@given(arrays((10, 12)), st.integers(0, 2**31))
def test_ramp_variance_is_the_formula(slope, seed):
    reads = np.random.default_rng(seed).integers(0, 14, slope.shape).astype(np.float32)
    out = np.empty(slope.shape)
    keys = {"frame_time_s": 5.57192, "read_noise_e": 10.9, "gain": 0.999, "longest": 12}
    ramps.ramp_variance(slope, reads, out, **keys)
    expected = naive.ramp_variance(slope, reads, 5.57192, 10.9, 0.999, 12)
    np.testing.assert_allclose(out, expected, rtol=1e-12)


@pytest.mark.parametrize(("reads", "flux"), [(4, 0.0), (12, 0.0), (12, 5.0), (60, 5.0), (109, 0.5)])
def test_ramp_variance_is_the_scatter_of_fitted_ramps(reads, flux):
    """Ramps are made read by read and fitted; the formula must give the scatter of their slopes."""
    rng = np.random.default_rng(reads)
    number, t, s = 40_000, 5.57192, 10.9
    light = rng.poisson(flux * t, (reads - 1, number)).astype(float)
    values = np.vstack([np.zeros((1, number)), np.cumsum(light, axis=0)])
    values += s * rng.standard_normal(values.shape)
    time = t * (np.arange(reads) - (reads - 1) / 2)
    slopes = time @ values / np.sum(time**2)
    out = np.empty((1, 1))
    ramps.ramp_variance(
        np.full((1, 1), flux), np.full((1, 1), float(reads)), out,
        frame_time_s=t, read_noise_e=s, gain=1.0, longest=reads,
    )  # fmt: skip
    assert abs(np.var(slopes) / out[0, 0] - 1) < 4 * np.sqrt(2 / number)


def test_photon_factor_reaches_six_fifths():
    assert ramps.ramp_factors(10_000)[1] == pytest.approx(1.2, rel=2e-4)
    assert ramps.ramp_factors(2) == pytest.approx((2.0, 1.0))  # two reads: plain difference, plain Poisson
    with pytest.raises(ValueError, match="reads: 1"):
        ramps.ramp_factors(1)


def hot_frame(rng, shape=(200, 180)):
    image = rng.normal(0, 0.01, shape).astype(np.float32)
    rows, columns = rng.integers(0, shape[0], 300), rng.integers(0, shape[1], 300)
    image[rows, columns] += rng.uniform(5, 50, 300).astype(np.float32)
    return image, rows, columns


@pytest.mark.parametrize("offset", [(0, 0), (1, 0), (-1, 0), (0, 1), (0, -1), (1, -1)])
def test_slip_is_found_and_rolled_back(offset):
    image, rows, columns = hot_frame(np.random.default_rng(4))
    slipped = np.roll(image, offset, axis=(0, 1))
    snr, dy, dx = corruption.hot_pixel_offset(slipped, rows, columns)
    assert (dy, dx) == offset
    assert (snr > 10) == (offset == (0, 0))
    back = np.empty_like(slipped)
    corruption.roll_plane(slipped, -dy, -dx, back)
    assert corruption.hot_pixel_offset(back, rows, columns)[0] > 10
    moved = np.isnan(back)
    assert moved.sum() == abs(dy) * 180 + abs(dx) * 200 - abs(dy * dx)
    np.testing.assert_array_equal(back[~moved], image[~moved])


@quiet
@given(arrays((30, 30), empty=False), st.integers(0, 2**31))
def test_offset_is_the_naive_one(image, seed):
    rng = np.random.default_rng(seed)
    rows, columns = rng.integers(-3, 33, 40), rng.integers(-3, 33, 40)
    found = corruption.hot_pixel_offset(image, rows, columns)
    expected = naive.hot_pixel_offset(image, rows, columns, 2)
    if np.isnan(expected[0]) or len(np.unique(image)) < image.size // 2:
        return  # ties between corners: any order is right
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-5)
    assert found[1:] == expected[1:]


def test_isolated_hot_pixels_are_found_without_a_list():
    image, rows, columns = hot_frame(np.random.default_rng(6))
    found = set(zip(*corruption.isolated_hot_pixels(image, 0.01), strict=True))
    truth = set(zip(rows, columns, strict=True))
    assert found <= truth
    assert len(found) > 0.85 * len(truth)  # the others have a neighbour or lie at the edge


@quiet
@given(arrays((20, 30), empty=False))
def test_noise_figures_are_the_naive_ones(image):
    if min(image.shape) < 2:
        return
    ribbon = np.ascontiguousarray(image[:, : max(2, image.shape[1] // 2)])
    assert_close(
        corruption.noise_figures(image, ribbon),
        naive.noise_figures(image, ribbon),
        image.dtype,
        16,
        scale=1e4,
    )


@quiet
@given(arrays((30, 40)), st.integers(1, 9), st.integers(1, 9))
def test_medians_of_rows_columns_and_boxes(image, ny, nx):
    assert_close(medians.row_medians(image), [naive.percentile(r, 50) for r in image], image.dtype)
    if image.shape[0]:
        columns = [naive.percentile(c, 50) for c in image.T]
        assert_close(medians.column_medians(image)[0], columns, image.dtype)
    assert_close(medians.box_medians(image, (ny, nx)), naive.box_medians(image, (ny, nx)), image.dtype)


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda i: detector.reference_levels(i, 7, 4), ValueError, "7 do not divide the 60 columns"),
        (lambda i: detector.reference_levels(i, 6, 30), ValueError, "border: 30 rows at each end"),
        (
            lambda i: detector.subtract_folded(i, np.ones((48, 7)), i),
            ValueError,
            "does not fit an image of shape",
        ),
        (lambda i: detector.rotate_to_pp(i, i), ValueError, r"expected \(60, 48\)"),
        (lambda i: detector.subtract_coupling(i.astype(">f4"), 6, i), TypeError, "byte order"),
        (lambda i: corruption.roll_plane(i, 1, 1, i), ValueError, "shares memory"),
    ],
)
def test_bad_arguments_are_named(call, error, text):
    with pytest.raises(error, match=text):
        call(np.zeros((48, 60), np.float32))
