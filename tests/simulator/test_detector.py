"""Fixed properties of the detector, measured in written files."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from apero_dask.simulator.defects import BLOB, CLUSTER, DEAD, HOT, TELEGRAPH
from apero_dask.simulator.detector import full_from_raw, raw_from_full, static_detector
from tests.simulator.darkroom import GAIN, MINI, SMALL, amplifier, inner, only, record, spec_of

PIXELS = (MINI.raw_rows - 8) * (MINI.raw_columns - 8)


def test_raw_orientation_is_that_of_the_instrument():
    full = np.arange(12.0).reshape(4, 3)
    raw = raw_from_full(full)
    assert raw.shape == (3, 4)
    for y in range(4):
        for x in range(3):
            assert full[y, x] == raw[x, 3 - y]
    assert (full_from_raw(raw) == full).all()


def test_light_falls_where_the_format_says(tmp_path):
    light = np.zeros(MINI.full_shape)
    light[300, 700] = 50.0
    planes, _ = record(tmp_path, only(), light)
    lit = np.argwhere(planes["slope"] > 1.0)
    assert lit.tolist() == [[700, MINI.raw_columns - 1 - 300]]
    assert planes["slope"][700, MINI.raw_columns - 1 - 300] == pytest.approx(50.0 / GAIN, rel=1e-6)


def test_reference_pixels_see_no_light_and_have_no_dark_current(tmp_path):
    planes, _ = record(tmp_path, only(dark_current=True, background=True), 100.0)
    border = np.ones(planes["slope"].shape, bool)
    border[4:-4, 4:-4] = False
    assert (planes["slope"][border] == 0.0).all()
    assert (planes["slope"][~border] > 99.0).all()


def test_dark_current_has_the_configured_median_and_spread(tmp_path):
    planes, _ = record(tmp_path, only(dark_current=True))
    rate = inner(planes["slope"]) * GAIN
    # Standard errors of quantiles of 1e6 log-normal values are 0.15 %; five times that.
    assert np.median(rate) == pytest.approx(0.005, rel=0.01)
    assert np.log10(np.quantile(rate, 0.841345) / np.median(rate)) == pytest.approx(0.5, rel=0.01)


def test_diffuse_background_is_added_to_the_light(tmp_path):
    planes, _ = record(tmp_path, only(background=True), 1.0)
    assert np.abs(inner(planes["slope"]) * GAIN / 1.015 - 1.0).max() < 1e-6


def test_hot_pixels_number_density_and_clusters(tmp_path):
    planes, frame = record(tmp_path, only(hot_pixels=True))
    hot = planes["slope"] >= 5.0 * (1 - 1e-6)
    number = round(0.006 * PIXELS)
    assert hot.sum() == number
    assert planes["slope"].max() <= 500.0 * (1 + 1e-6)
    width = MINI.raw_columns // 32
    in_amplifier = hot.reshape(MINI.raw_rows, 32, width).sum(axis=(0, 2)).astype(float)
    others = np.delete(in_amplifier, 24)[1:-1].mean()
    # Poisson error of the dense amplifier (about 1600 pixels) and of the others, doubled for clusters.
    error = 12 * 2 * np.sqrt(1 / in_amplifier[24] + 1 / (29 * others))
    assert in_amplifier[24] / others == pytest.approx(12.0, abs=5 * error)
    clustered = (frame.static.classes & CLUSTER) > 0
    assert clustered.sum() == pytest.approx(0.2 * number, abs=2)
    assert ((frame.static.classes & HOT) > 0).sum() == number
    # Independent of the class bits: connected patches of hot pixels.  Singles that touch by chance add
    # to the clustered ones, at most four neighbours times the density in the dense amplifier (5 %).
    labels, _ = ndimage.label(hot)
    sizes = np.bincount(labels.ravel())[1:]
    touching = sizes[sizes > 1].sum() / number
    assert 0.2 <= touching < 0.2 + 0.2


def test_hot_pixels_are_brighter_than_neighbours_in_the_same_place_in_every_frame(tmp_path):
    first, _ = record(tmp_path, only(hot_pixels=True), spec=spec_of(index=0))
    other, _ = record(tmp_path, only(hot_pixels=True), spec=spec_of(index=7, nreads=55))
    assert np.array_equal(first["slope"] > 1.0, other["slope"] > 1.0)


def test_low_response_pixels(tmp_path):
    planes, frame = record(tmp_path, only(dead_pixels=True), 1000.0)
    response = inner(planes["slope"]) * GAIN / 1000.0
    assert (response <= 0.5).sum() == round(0.004 * PIXELS)
    assert ((frame.static.classes & DEAD) > 0).sum() == round(0.004 * PIXELS)
    assert np.abs(response[response > 0.5] - 1.0).max() < 1e-6


def test_blobs_are_round_patches_of_low_response(tmp_path):
    planes, frame = record(tmp_path, only(blobs=True, blob_number=5), 1000.0)
    low = inner(planes["slope"]) * GAIN / 1000.0 < 0.5
    labels, number = ndimage.label(low)
    assert 1 <= number <= 5
    # 20 to 80 px on 4096 x 4096, scaled with the size of the detector (0.24).  Where response falls to one
    # half depends on the depth, so the patch is smaller than the blob, never larger.
    for region in ndimage.find_objects(labels):
        assert max(s.stop - s.start for s in region) <= 80 * 0.25
    assert np.array_equal(low, inner((frame.static.classes & BLOB) > 0) & low)


def test_response_has_the_configured_rms_and_scale(tmp_path):
    white, _ = record(tmp_path, only(response=True, response_smooth=0.0), 1000.0)
    flat = inner(white["slope"]) * GAIN / 1000.0
    # 5 / sqrt(2 N) for N = 1e6.
    assert flat.std() == pytest.approx(0.02, rel=0.004)
    smooth, _ = record(tmp_path, only(response=True, response_white=0.0), 1000.0)
    flat = inner(smooth["slope"]) * GAIN / 1000.0
    assert flat.std() == pytest.approx(0.01, rel=0.01)
    # 300 px on 4096 become 73 here: neighbours are equal, half a length away they are not.
    shifted = [np.corrcoef(flat[:-n].ravel(), flat[n:].ravel())[0, 1] for n in (1, 73)]
    assert shifted[0] > 0.99
    assert abs(shifted[1]) < 0.35


def test_telegraph_pixels_switch_between_two_levels(tmp_path):
    config = only(telegraph=True)
    rates = []
    for k in range(12):
        planes, frame = record(tmp_path, config, spec=spec_of(mjd=58386.2 + k * 900.0 / 86400.0))
        rates.append(planes["slope"][(frame.static.classes & TELEGRAPH) > 0])
    rates = np.array(rates)
    number = round(5e-4 * PIXELS)
    assert rates.shape[1] == number
    for pixel in rates.T:
        assert len(np.unique(pixel)) <= 2
        assert pixel.min() == 0.0 or len(np.unique(pixel)) == 1
    up = rates > 0
    assert up.mean() == pytest.approx(0.5, abs=5 * 0.5 / np.sqrt(number))
    # A level is drawn anew every 1800 s with equal chances: in 900 s a quarter of the pixels switch, so a
    # level lasts 3600 s on average.  Neighbouring intervals are correlated: error of one interval.
    switched = (up[1:] != up[:-1]).mean()
    assert 900.0 / switched == pytest.approx(3600.0, rel=5 * np.sqrt(0.75 / 0.25 / number))


def test_neighbouring_pixels_share_signal(tmp_path):
    light = np.zeros(MINI.full_shape)
    light[100:700:20, 100:900:20] = 1000.0
    planes, _ = record(tmp_path, only(ipc=True), light)
    slope = planes["slope"]
    for row, column in np.argwhere(slope > 500.0)[::97]:
        stamp = slope[row - 2 : row + 3, column - 2 : column + 3] * GAIN / 1000.0
        assert stamp[2, 2] == pytest.approx(1 - 4 * 0.006, abs=1e-6)
        for r, c in ((1, 2), (3, 2), (2, 1), (2, 3)):
            assert stamp[r, c] == pytest.approx(0.006, abs=1e-6)
        # Second order: coupling acts on the two axes one after the other.
        assert abs(stamp[1, 1]) < 2 * 0.006**2
        assert stamp.sum() == pytest.approx(1.0, abs=1e-6)


def test_nonlinearity_residual_at_its_reference_level(tmp_path):
    exptime = 108 * 5.57192
    rate = 50_000.0 * GAIN / exptime
    planes, _ = record(tmp_path, only(nonlinearity=True), rate)
    assert 1 - np.median(inner(planes["slope"])) * GAIN / rate == pytest.approx(0.002, rel=1e-3)


def test_fixed_pattern_is_common_to_all_amplifiers_and_follows_exposure_time(tmp_path):
    config = only(static_pattern=True)
    found = []
    for nreads in (12, 109):
        planes, frame = record(tmp_path, config, spec=spec_of(nreads))
        stripes = np.array([amplifier(planes["slope"], a, 32) for a in range(32)])
        assert (stripes == stripes[0]).all()
        found.append((1.0 / spec_of(nreads).exptime_s, stripes[0]))
    # Two exposure times: the map of the slope and that of the intercept by hand.
    (u, short), (v, long) = found
    intercept = (short - long) / (u - v)
    slope = long - intercept * v
    assert slope.std() == pytest.approx(0.02, rel=1e-3)
    assert intercept.std() == pytest.approx(3.0, rel=1e-3)
    assert np.allclose(slope, frame.static.pattern_slope, atol=1e-6)


def test_light_couples_into_all_amplifiers(tmp_path):
    random = np.random.default_rng(5)
    light = np.zeros(SMALL.full_shape)
    light[4:-4, 4:-4] = random.uniform(0, 200, (248, 248))
    with_pattern, _ = record(tmp_path, only(flux_pattern=True), light, geometry=SMALL)
    without, _ = record(tmp_path, only(), light, geometry=SMALL)
    found = with_pattern["slope"] - without["slope"]
    # The same with loops: sum over amplifiers in read order, differences between neighbours in that order.
    rows, width = 256, 32
    expected = np.zeros((rows, 256))
    for r in range(rows):
        total = np.zeros(width)
        for a in range(8):
            for j in range(width):
                total[j] += without["slope"][r, 32 * a + (j if a % 2 == 0 else 31 - j)]
        first = [
            (total[min(j + 1, 31)] - total[max(j - 1, 0)]) / (min(j + 1, 31) - max(j - 1, 0))
            for j in range(width)
        ]
        second = [
            (first[min(j + 1, 31)] - first[max(j - 1, 0)]) / (min(j + 1, 31) - max(j - 1, 0))
            for j in range(width)
        ]
        for a in range(8):
            for j in range(width):
                value = 1.490711e-4 * total[j] + 8.080468e-4 * first[j] - 6.523985e-4 * second[j]
                expected[r, 32 * a + (j if a % 2 == 0 else 31 - j)] = -value
    # Rounding of the float32 slopes of 200 ADU/s.
    assert np.abs(found - expected).max() < 3e-5
    assert np.abs(expected).max() > 0.1


def test_detector_is_a_function_of_seed_and_configuration_only():
    from tests.simulator.darkroom import only

    config = only(hot_pixels=True, response=True, bias=True)
    static_detector.cache_clear()
    first = static_detector(config, SMALL, 3)
    static_detector.cache_clear()
    again = static_detector(config, SMALL, 3)
    other = static_detector(config, SMALL, 4)
    for name in ("response", "dark", "bias", "classes"):
        assert np.array_equal(getattr(first, name), getattr(again, name))
        assert not np.array_equal(getattr(first, name), getattr(other, name))
    # Switching one effect off leaves the others as they were.
    without = static_detector(only(response=True, bias=True), SMALL, 3)
    assert np.array_equal(first.response, without.response)
    assert np.array_equal(first.bias, without.bias)
