"""Hits found by the slope: against the naive version, and against light and hits that were put in."""

from __future__ import annotations

import numpy as np
import pytest
from apero_kernels import jumps, ramps
from hypothesis import example, given, settings
from hypothesis import strategies as st

KEYS = {"seed": 5.0, "extend": 4.0, "contrast": 2.2, "response": 0.03}
READS = 60
CONSTANT, LINEAR = ramps.variance_terms(READS, frame_time_s=5.57, read_noise_e=11.0, gain=1.0)
SIGMA = np.sqrt(CONSTANT[-1])


def naive_bound(block, level, contrast, noise):
    """Most light in the middle of 3 x 3 pixels that stand on a level."""
    above = np.asarray(block, float) - level

    def side(line):
        corner, one, other = line
        parts = np.array([corner, other]) - 2 * noise
        mean = np.sqrt(np.prod(np.maximum(parts, 0))) if np.isfinite(parts).all() else np.nan
        known = [v for v in (one, mean) if np.isfinite(v)]
        return max(known) if known else None

    axes = []
    for sides in ((above[0], above[2]), (above[:, 0], above[:, 2])):
        known = [v for v in map(side, sides) if v is not None]
        axes.append(max(known) if known else np.inf)
    return level + contrast * max(min(axes), 0.0)


def naive_flags(slope, dark, unstable, border, seeds):
    """Flagged pixels, by the definition in words; seeds: pixels flagged before."""
    excess = np.where(unstable > 0, np.nan, slope.astype(float) - dark)
    excess[:border] = excess[-border:] = excess[:, :border] = excess[:, -border:] = np.nan
    ny, nx = slope.shape
    seen = slope.astype(float) - dark
    found = np.zeros(slope.shape, bool)
    for turn in range(4):
        start, join = np.zeros_like(found), np.zeros_like(found)
        for y in range(border + 1, ny - border - 1):
            for x in range(border + 1, nx - border - 1):
                around = (found | seeds)[y - 1 : y + 2, x - 1 : x + 2]
                if np.isnan(excess[y, x]) or excess[y, x] <= 0 or (turn and not around.any()):
                    continue
                noise = np.sqrt(CONSTANT[-1] + LINEAR[-1] * max(dark[y, x], 0.0))
                block = excess[y - 1 : y + 2, x - 1 : x + 2]
                light = naive_bound(block, 0.0, KEYS["contrast"], noise)
                for line, share in ((excess[y - 4 : y + 5, x], 0.0), (excess[y, x - 4 : x + 5], 0.6)):
                    values = np.sort(np.delete(line, 4))
                    values = values[np.isfinite(values)]
                    level = np.median(values) if values.size > 1 else 0.0
                    if level > 0:
                        cut = values.size // 4
                        width = values[values.size - 1 - cut] - values[cut]
                        bound = naive_bound(block, level, KEYS["contrast"], noise)
                        light = min(light, bound + 0.5 * max(width - 2 * noise, 0.0) + share * level)
                pairs = ((seen[y - 1, x], seen[y + 1, x]), (seen[y, x - 1], seen[y, x + 1]))
                light = max(light, min(max([v for v in pair if v > 0], default=0.0) for pair in pairs))
                sigma = np.sqrt(noise**2 + LINEAR[-1] * light + (KEYS["response"] * light) ** 2)
                join[y, x] = excess[y, x] - light > KEYS["extend"] * sigma
                start[y, x] = excess[y, x] - light > KEYS["seed"] * sigma
        group = seeds | start | found
        before = -1
        while group.sum() != before:
            before = group.sum()
            wide = np.pad(group, 1)
            touched = sum(wide[j : j + ny, i : i + nx].astype(int) for j in range(3) for i in range(3)) > 0
            group = group | (touched & join)
        found |= group & (join | start)
        excess[found] = seen[found] = np.nan
    return found


def flag(slope, dark, unstable, mask, reads=None, **changes):
    reads = np.full(slope.shape, READS, np.int16) if reads is None else reads
    options = {"border": 5, **KEYS, **changes}
    return jumps.flag_jumps(
        slope, dark, np.zeros_like(dark), unstable, reads, mask, constant=CONSTANT, linear=LINEAR, **options
    )


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**31), st.floats(0.0, 60.0), st.sampled_from([np.float32, np.float64]))
@example(137, 9.0, np.float32)  # between two pixels found before
def test_flags_are_the_naive_ones(seed, light, dtype):
    rng = np.random.default_rng(seed)
    shape = (24, 26)
    dark = np.where(rng.random(shape) < 0.05, 30 * SIGMA, 0.0)
    x = np.arange(shape[1])
    lit = (
        light
        * SIGMA
        * np.exp(-0.5 * ((x - 12) / 2.0) ** 2)
        * (1 + 0.8 * np.sin(np.arange(shape[0])[:, None]))
    )
    slope = dark + lit + SIGMA * rng.standard_normal(shape)
    y0, x0 = rng.integers(6, 18, 2)
    for k in range(rng.integers(0, 5)):
        slope[y0 + k % 2, x0 + k] += 20 * SIGMA
    slope[rng.random(shape) < 0.01] = np.nan
    slope, dark = slope.astype(dtype), dark.astype(dtype)
    unstable = (rng.random(shape) < 0.03).astype(np.uint8)
    earlier = rng.random(shape) < 0.005
    mask = earlier.astype(np.uint8)
    slope[earlier] = np.nan
    expected = naive_flags(slope, dark, unstable, 5, earlier)
    found = flag(slope, dark, unstable, mask)
    np.testing.assert_array_equal((mask & 16) > 0, expected)
    assert found == expected.sum() and np.isnan(slope[expected]).all()
    np.testing.assert_array_equal(mask & 1, earlier)


def scene(rng, shape=(300, 300)):
    """Orders three pixels wide and more, with lines of two pixels at half maximum, e.g. an arc lamp."""
    y, x = np.indices(shape).astype(float)
    profile = sum(np.exp(-0.5 * ((x - c - 0.02 * y) / 3.5) ** 2) for c in range(20, 300, 40))
    lines = sum(a * np.exp(-4 * np.log(2) * ((y - p) / 2.2) ** 2) for p, a in
                zip(rng.uniform(5, 295, 40), 10 ** rng.uniform(0, 2.5, 40), strict=True))  # fmt: skip
    return SIGMA * profile * (30 + lines)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_lines_and_orders_are_no_hits(seed):
    """Below 1e-4 of the pixels of a frame without hits."""
    rng = np.random.default_rng(seed)
    light = scene(rng)
    slope = (light + np.sqrt(CONSTANT[-1] + LINEAR[-1] * light) * rng.standard_normal(light.shape)).astype(
        "f4"
    )
    mask = np.zeros(slope.shape, np.uint8)
    assert flag(slope, np.zeros_like(slope), mask.copy(), mask) < 1e-4 * slope.size


@pytest.mark.parametrize("direction", [(0, 1), (1, 0), (1, 1), (1, -1)])
def test_tracks_in_every_direction_are_found(direction):
    rng = np.random.default_rng(5)
    slope = (SIGMA * rng.standard_normal((200, 200))).astype("f4")
    hit = np.zeros(slope.shape, bool)
    for k in range(30):
        hit[100 + k * direction[0], 100 + k * direction[1]] = True
    slope[hit] += 12 * SIGMA
    mask = np.zeros(slope.shape, np.uint8)
    flag(slope, np.zeros_like(slope), mask.copy(), mask)
    assert (mask[hit] == 16).mean() > 0.95


def test_what_is_not_tested():
    slope = np.zeros((40, 40), np.float32)
    slope[20, 20] = slope[20, 30] = slope[2, 20] = slope[30, 20] = 100.0
    unstable, mask = np.zeros(slope.shape, np.uint8), np.zeros(slope.shape, np.uint8)
    unstable[20, 30] = 1
    reads = np.full(slope.shape, READS, np.int16)
    reads[30, 20] = READS - 1
    assert flag(slope, np.zeros_like(slope), unstable, mask, reads) == 1
    assert mask[20, 20] == 16 and mask.sum() == 16


def test_dead_neighbour_does_not_make_a_hit():
    """The image of a narrow order beside a dead pixel: its neighbours along the dispersion speak for it."""
    x = np.indices((60, 60))[1].astype(float)
    light = 200 * SIGMA * np.exp(-4 * np.log(2) * ((x - 30) / 2.4) ** 2)
    slope = light.astype(np.float32)
    slope[30, 30] *= 0.02
    mask = np.zeros(slope.shape, np.uint8)
    assert flag(slope, np.zeros_like(slope), mask.copy(), mask) == 0


def test_bad_arguments_are_named():
    plane, mask = np.ones((20, 20), np.float32), np.zeros((20, 20), np.uint8)
    with pytest.raises(ValueError, match="border: 0, expected at least one row"):
        flag(plane, plane, mask, mask, border=0)
    with pytest.raises(TypeError, match="reads: dtype int32, expected float32 or float64"):
        flag(plane, plane, mask, mask, np.ones((20, 20), np.int32))
