"""Cosmic flags against the hits that were put in, for both detectors and short and long ramps."""

from __future__ import annotations

import math

import numpy as np
import pytest
from apero_kernels import cosmics, ramps
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.kernels import frames, naive
from tests.kernels.cases import arrays

KEYS = {"frame_time_s": frames.FRAME_TIME, "read_noise_e": frames.READ_NOISE, "gain": frames.GAIN}


def scene(d, lit):
    flux = np.full((d.rows, d.columns), 0.02)
    if lit:
        x = np.arange(d.columns)
        profile = 20 * np.exp(-0.5 * ((x % 60 - 30) / 6) ** 2) * (x > d.dark * d.width)
        flux += np.outer(1 + 0.8 * np.sin(np.arange(d.rows) / 3.0), profile)
    return flux


@pytest.mark.parametrize("reads", [12, 109])
@pytest.mark.parametrize("lit", [False, True])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_hits_above_ten_sigma_are_found(reads, lit, seed):
    """Complete to 95 per cent for charges of more than 10 sigma of the slope, false rate below 1e-4."""
    d = frames.SMALL
    rng = np.random.default_rng(seed)
    planes, charge, _, sigma, time = frames.ramp_planes(d, scene(d, lit), reads, rng, hits_per_pixel=2e-3)
    mask = np.zeros(charge.shape, np.uint8)
    counts = cosmics.flag_cosmics(*planes, mask, longest=reads, border=d.border, **KEYS)
    flagged = (mask & 3) > 0
    strong = charge / time / frames.GAIN > 10 * sigma
    assert flagged[strong].mean() > 0.95
    assert flagged[charge == 0].mean() < 1e-4
    np.testing.assert_array_equal(np.isnan(planes[0]), flagged)
    assert counts == ((mask & 2 > 0).sum(), (mask & 1 > 0).sum(), (mask & 3 == 3).sum())


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_known_bias_of_the_intercept_brings_the_test_to_the_reset_noise(seed):
    d = frames.SMALL
    rng = np.random.default_rng(seed)
    planes, charge, _, _, _ = frames.ramp_planes(d, scene(d, False), 12, rng, hits_per_pixel=2e-3)
    bias = planes[1] - charge.astype(np.float32) * rng.uniform(0.5, 1, charge.shape).astype(np.float32)
    bias += rng.normal(0, 35, charge.shape).astype(np.float32)
    found = []
    for known in (None, bias):
        mask = np.zeros(charge.shape, np.uint8)
        part = [p.copy() for p in planes]
        found.append(cosmics.flag_cosmics(*part, mask, longest=12, border=4, bias=known, **KEYS)[0])
    assert found[1] > 10 * found[0]


@pytest.mark.parametrize("reads", [2, 3, 12, 109])
def test_photon_noise_of_the_intercept(reads):
    """From the covariance of the reads, min(t_i, t_j) f, and the pseudo-inverse of the line fit."""
    times = 5.57192 * np.arange(reads)
    weights = np.linalg.pinv(np.stack([np.ones(reads), times], axis=1))[0]
    expected = weights @ np.minimum.outer(times, times) @ weights / 0.999
    assert ramps.intercept_photon(reads, frame_time_s=5.57192, gain=0.999) == pytest.approx(
        expected, rel=1e-9
    )
    with pytest.raises(ValueError, match="reads: 1, expected at least 2"):
        ramps.intercept_photon(1, frame_time_s=5.6, gain=1.0)


def test_bright_light_is_no_hit():
    """The intercept scatters with the light that arrives between the reads, and a cut ramp is not tested."""
    d, reads = frames.TINY, 109
    rng = np.random.default_rng(10)
    rate = np.full((d.rows, d.columns), 80.0)
    planes, _, _, _, _ = frames.ramp_planes(d, 0.0 * rate, reads, rng)
    lit = slice(20, 26)
    noise = np.sqrt(ramps.intercept_photon(reads, frame_time_s=frames.FRAME_TIME, gain=frames.GAIN) * 80.0)
    planes[1][:] = rng.normal(0, 10, rate.shape)
    planes[0][:, lit], planes[2][:, lit] = 80.0, 0.45
    planes[1][:, lit] += noise * rng.standard_normal((d.rows, 6))
    mask = np.zeros(rate.shape, np.uint8)
    cosmics.flag_cosmics(*planes, mask, longest=reads, border=d.border, **KEYS)
    assert noise > 50 and not (mask & 2).any()
    planes[1][5, 22] += 20 * noise
    planes[1][9, 23], planes[3][9, 23] = 1e5, reads - 1
    cosmics.flag_cosmics(*planes, mask, longest=reads, border=d.border, **KEYS)
    assert np.argwhere(mask & 2).tolist() == [[5, 22]]


def test_no_hit_no_flag_beyond_the_chance():
    d = frames.SMALL
    planes, _, _, _, _ = frames.ramp_planes(d, scene(d, True), 60, np.random.default_rng(7))
    mask = np.zeros(planes[0].shape, np.uint8)
    cosmics.flag_cosmics(*planes, mask, longest=60, border=d.border, **KEYS)
    assert (mask > 0).mean() < 1e-4


def test_noisy_column_is_not_a_row_of_hits():
    """Columns at the edge of amplifiers have larger errors: they are judged against themselves."""
    d = frames.SMALL
    planes, _, _, _, _ = frames.ramp_planes(d, scene(d, False), 60, np.random.default_rng(8))
    planes[2][:, 300] *= 3.0
    mask = np.zeros(planes[0].shape, np.uint8)
    cosmics.flag_cosmics(*planes, mask, longest=60, border=d.border, **KEYS)
    assert (mask[:, 300] & 1).mean() < 0.01


def test_short_ramps_are_marked_and_keep_their_slope():
    d = frames.TINY
    planes, _, _, _, _ = frames.ramp_planes(d, scene(d, False), 20, np.random.default_rng(9))
    planes[3][10, 20:30] = 5.0
    mask = np.zeros(planes[0].shape, np.uint8)
    mask[0, 0] = 8
    cosmics.flag_cosmics(*planes, mask, longest=20, border=d.border, **KEYS)
    assert (mask[10, 20:30] & 4 == 4).all() and (mask & 4 > 0).sum() == 10
    assert mask[0, 0] & 8


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**31), st.integers(1, 25), st.integers(1, 25), st.floats(0.05, 0.7))
def test_groups_grow_as_in_the_naive_version(seed, ny, nx, density):
    rng = np.random.default_rng(seed)
    candidates = rng.random((ny, nx)) < density
    seeds = candidates & (rng.random((ny, nx)) < 0.1)
    mask = (64 * candidates + seeds).astype(np.uint8)
    others = rng.random((ny, nx)) < density
    other_seeds = others & (rng.random((ny, nx)) < 0.1)
    mask += (128 * others + 2 * other_seeds).astype(np.uint8)
    cosmics._grow(mask, np.empty(ny * nx + 1, np.int64))
    np.testing.assert_array_equal((mask & 1) > 0, naive.grow(seeds, candidates))
    np.testing.assert_array_equal((mask & 2) > 0, naive.grow(other_seeds, others))


@settings(deadline=None, max_examples=40)
@given(arrays((20, 24), empty=False), st.sampled_from([2, 3, 12]))
def test_any_plane_is_survived(slope, reads):
    planes = [slope.copy(), slope[::-1].copy(), np.abs(slope), np.full(slope.shape, reads, slope.dtype)]
    mask = np.zeros(slope.shape, np.uint8)
    counts = cosmics.flag_cosmics(*planes, mask, longest=reads, border=1, **KEYS)
    assert all(0 <= c <= mask.size for c in counts)
    assert not np.any(np.isnan(planes[0]) & (mask & 3 == 0) & ~np.isnan(slope))


@pytest.mark.parametrize("error", [0.0, 1e-308, np.inf, np.nan])
def test_plane_without_errors_flags_nothing_by_variance(error):
    plane = np.full((16, 16), 1.0)
    mask = np.zeros(plane.shape, np.uint8)
    cosmics.flag_cosmics(plane, plane.copy(), np.full((16, 16), error), np.full((16, 16), 12.0), mask,
                         longest=12, border=1, **KEYS)  # fmt: skip
    assert not mask.any()


@pytest.mark.parametrize("probability", [1e-12, 1e-8, 1.3498980316301e-3, 0.158655253931457, 0.4])
def test_quantile_of_the_tail(probability):
    z = cosmics.normal_quantile(probability)
    assert 0.5 * math.erfc(z / math.sqrt(2)) == pytest.approx(probability, rel=1e-9)


def test_bad_arguments_are_named():
    plane = np.ones((8, 8), np.float32)
    mask = np.zeros((8, 8), np.uint8)
    with pytest.raises(ValueError, match=r"seed_probability: 0\.1 above extend_probability 0\.01"):
        cosmics.flag_cosmics(plane, plane, plane, plane, mask, longest=5, border=1, seed_probability=0.1,
                             extend_probability=0.01, **KEYS)  # fmt: skip
    with pytest.raises(ValueError, match="longest: 1 reads"):
        cosmics.flag_cosmics(plane, plane, plane, plane, mask, longest=1, border=1, **KEYS)
    with pytest.raises(TypeError, match="mask: dtype float32, expected uint8"):
        cosmics.flag_cosmics(plane, plane, plane, plane, plane, longest=5, border=1, **KEYS)
