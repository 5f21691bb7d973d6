"""Scan of mask lines: against splines of scipy line by line, and what holes and ends of orders do."""

from __future__ import annotations

import numpy as np
import pytest
from apero_kernels import velocity
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from scipy.interpolate import make_interp_spline
from scipy.ndimage import gaussian_filter1d

C_KMS = 299792.458


def order(columns: int, first: float = 1000.0) -> np.ndarray:
    """Wavelengths whose step in velocity changes along the order as in the instrument."""
    return first * np.exp(np.cumsum(2.3 - 4e-4 * np.arange(columns)) / C_KMS)


def plain(ratio, rate, noise, wave, lines, weights, shifts, core, whole):
    """The sums line by line and shift by shift."""
    found = {name: np.zeros((ratio.shape[0], shifts.size)) for name in ("total", "expected", "variance")}
    used = np.zeros(ratio.shape[0], int)
    for o in range(ratio.shape[0]):
        x = np.arange(ratio.shape[1])
        good = np.isfinite(ratio[o]) & np.isfinite(noise[o])
        inside = np.flatnonzero(np.isfinite(rate[o]))
        if good.sum() == 0:
            continue
        spline = make_interp_spline(x, np.interp(x, x[good], ratio[o][good]), k=5)
        column = make_interp_spline(np.log(wave[o]), x.astype(float), k=3)
        low, high = np.log(wave[o][[inside[0], inside[-1]]])
        for line, weight in zip(lines, weights, strict=True):
            at = np.log(line) + shifts / C_KMS
            # The cubic between grid points needs one more of them on the left and two on the right.
            stays = (at - 0.5 / C_KMS >= low) & (at + 1.0 / C_KMS < high)
            place = column(np.clip(at, low, high))
            near = np.floor(place[:, None] - 1.5).astype(int) + np.arange(5)
            clear = stays & np.array([good[np.clip(row, 0, x.size - 1)].all() for row in near])
            if (whole and not stays.all()) or not clear[core[0] : core[1]].all():
                continue
            middle = (core[0] + core[1]) // 2 if core[1] else shifts.size // 2
            if not low <= at[middle] <= high:
                continue
            w = weight * np.interp(place[middle], x, rate[o])
            used[o] += 1
            found["total"][o] += np.where(clear, w * spline(place), 0.0)
            found["expected"][o] += np.where(clear, w, 0.0)
            found["variance"][o] += np.where(clear, w * w * np.interp(place, x, noise[o]), 0.0)
    return found, used


def drawn(seed: int, orders: int = 2, columns: int = 500) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(seed)
    wave = np.array([order(columns, 1000.0 + 20 * o) for o in range(orders)])
    ratio = 1 + gaussian_filter1d(rng.standard_normal(wave.shape), 1.3, axis=1)
    rate = 50.0 + np.linspace(0, 30, columns) * np.ones((orders, 1))
    noise = 0.1 + 0.01 * np.sin(np.arange(columns) / 70) * np.ones((orders, 1))
    lines = np.sort(np.concatenate([rng.uniform(w[0], w[-1], 30) for w in wave]))
    return ratio, rate, noise, wave, lines, rng.uniform(0.2, 1.0, lines.size)


@settings(deadline=None, max_examples=8, phases=[Phase.explicit, Phase.generate])
@given(st.integers(0, 10**6), st.sampled_from([0.25, 0.5, 1.3]), st.floats(-40, 20))
def test_sums_are_the_plain_ones(seed: int, step: float, start: float) -> None:
    spectra = list(drawn(seed))
    # Splines with other conditions at the ends agree 15 px (35 km/s) further in: 0.43^15 = 3e-6.
    reach = np.array([start, start + step * 39]) / C_KMS
    ends = spectra[3][:, [15, -16]]
    far = [((spectra[4] * np.exp(r) > a) & (spectra[4] * np.exp(r) < b)) for r in reach for a, b in ends]
    keep = (far[0] & far[2]) | (far[1] & far[3])
    spectra[4], spectra[5] = spectra[4][keep], spectra[5][keep]
    count = 40
    shifts = start + step * np.arange(count)
    found = velocity.scan_lines(*spectra, start, step, count, core=(10, 20))
    expected, used = plain(*spectra, shifts, (10, 20), True)
    np.testing.assert_array_equal(found["used"], used)
    for name, plane in expected.items():
        # Cubic interpolation between points 0.5 km/s apart, of structure 3 km/s wide: 1e-4 per line.  The
        # noise is that of a point up to 0.5 km/s away: a fifth of a pixel, over which it changes by 2e-4.
        limit = 2e-4 * spectra[1].max() * max(used.max(), 1) if name != "variance" else 1e-3 * plane.max()
        assert np.abs(found[name] - plane).max() <= limit, name
    # Read at a grid point up to 0.22 px away, where the light changes by 0.06 of 50 per pixel.
    np.testing.assert_allclose(found["light"], expected["expected"][:, 0], rtol=3e-4)


def test_lines_are_left_out_at_holes_only_and_altogether_when_the_core_is_hit() -> None:
    ratio, rate, noise, wave, _, _ = drawn(1, orders=1)
    line = np.array([wave[0, 250]])
    ratio[0, 262] = np.nan  # 27 km/s to the red
    found = velocity.scan_lines(ratio, rate, noise, wave, line, np.ones(1), -50.0, 0.5, 201, core=(90, 110))
    gone = found["expected"][0] == 0.0
    shifts = -50.0 + 0.5 * np.arange(201)
    hole = C_KMS * np.log(wave[0, 262] / line[0])
    assert found["used"][0] == 1
    assert gone.any()
    # The hole, one pixel of margin, and the stretch of the cubic.
    assert np.abs(shifts[gone] - hole).max() < 2 * 2.3 + 1.5
    hit = velocity.scan_lines(ratio, rate, noise, wave, line, np.ones(1), -50.0, 0.5, 201, core=(150, 160))
    assert hit["used"][0] == 0


def test_whole_lines_stay_inside_with_room() -> None:
    ratio, rate, noise, wave, _, _ = drawn(2, orders=1)
    edge = wave[0, 0] * np.exp(30.0 / C_KMS)
    arguments = (ratio, rate, noise, wave, np.array([edge]), np.ones(1))
    assert velocity.scan_lines(*arguments, -20.0, 0.5, 81)["used"][0] == 1
    assert velocity.scan_lines(*arguments, -40.0, 0.5, 81)["used"][0] == 0
    part = velocity.scan_lines(*arguments, -40.0, 0.5, 81, whole=False)
    assert part["used"][0] == 1
    assert part["expected"][0, 0] == 0.0 < part["expected"][0, -1]
    assert velocity.scan_lines(*arguments, -20.0, 0.5, 81, room=(20.0, 0.0))["used"][0] == 0


def test_pixels_without_expected_light_end_the_order() -> None:
    ratio, rate, noise, wave, lines, weights = drawn(3)
    rate[1] = np.nan
    rate[0, :100] = np.nan
    found = velocity.scan_lines(ratio, rate, noise, wave, lines, weights, -10.0, 0.5, 41)
    inside = (lines > wave[0, 105]) & (lines < wave[0, -6])
    assert found["used"].tolist() == [np.count_nonzero(inside), 0]
    assert np.isfinite(found["total"]).all()


def test_orders_that_cannot_be_used_are_left_out() -> None:
    ratio, rate, noise, wave, lines, weights = drawn(4)
    wave[1, 20] = wave[1, 30]
    ratio[0] = np.nan
    found = velocity.scan_lines(ratio, rate, noise, wave, lines, weights, -10.0, 0.5, 41)
    assert found["used"].tolist() == [0, 0]
    assert not found["total"].any()


def test_bad_arguments_are_named() -> None:
    spectra = drawn(5)
    with pytest.raises(ValueError, match="lines: not rising"):
        velocity.scan_lines(*spectra[:4], spectra[4][::-1].copy(), spectra[5], 0.0, 0.5, 10)
    with pytest.raises(ValueError, match="500 pixels, 0 shifts"):
        velocity.scan_lines(*spectra, 0.0, 0.5, 0)
    with pytest.raises(ValueError, match=r"core: \(3, 12\), expected first and end within 0..10"):
        velocity.scan_lines(*spectra, 0.0, 0.5, 10, core=(3, 12))
    with pytest.raises(ValueError, match="step: 0, expected a finite number above 0"):
        velocity.scan_lines(*spectra, 0.0, 0, 10)
