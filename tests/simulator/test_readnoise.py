"""Noise of the readout, measured in written files."""

from __future__ import annotations

import numpy as np
import pytest

from tests.simulator.darkroom import (
    FRAME_TIME,
    GAIN,
    MINI,
    READ_NOISE,
    amplifier,
    inner,
    only,
    record,
    slope_factor,
    spec_of,
)

SEEDS = range(1, 7)


def stripes(slope: np.ndarray) -> np.ndarray:
    return np.array([amplifier(slope, a, 32) for a in range(32)])


@pytest.mark.parametrize("nreads", [6, 12, 55, 109])
def test_white_read_noise_of_slope_and_intercept(tmp_path, nreads):
    planes, _ = record(tmp_path, only(read_noise=True), spec=spec_of(nreads))
    slope, intercept = planes["slope"], planes["intercept"]
    # 5 / sqrt(2 N), N = 983 040 pixels, reference pixels included.
    assert slope.std() == pytest.approx(READ_NOISE * slope_factor(nreads), rel=0.0036)
    # Straight-line fit at t = 0: variance s^2 (1/n + mean(t)^2 / S).
    t = np.arange(nreads) * FRAME_TIME
    spread = np.sum((t - t.mean()) ** 2)
    expected = READ_NOISE * np.sqrt(1 / nreads + t.mean() ** 2 / spread) / GAIN
    assert intercept.std() == pytest.approx(expected, rel=0.0036)
    correlation = np.corrcoef(slope.ravel(), intercept.ravel())[0, 1]
    assert correlation == pytest.approx(
        -t.mean() / np.sqrt(spread) / np.sqrt(1 / nreads + t.mean() ** 2 / spread), abs=0.005
    )


def test_common_noise_is_the_same_in_all_amplifiers_and_has_the_configured_power(tmp_path):
    power = []
    for seed in SEEDS:
        planes, frame = record(tmp_path, only(common_noise=True), seed=seed)
        parts = stripes(planes["slope"])
        assert (parts == parts[0]).all()
        assert np.allclose(parts[0], frame.noise.common, atol=1e-9)
        power.append(np.mean(parts[0] ** 2))
    expected = (8.0 * slope_factor(109)) ** 2
    # The variance of a 1/f series varies by sqrt(sum(1/k^2)) / sum(1/k) = 11 % from read to read.
    assert np.mean(power) == pytest.approx(expected, rel=5 * 0.11 / np.sqrt(len(power)))


def test_common_noise_is_correlated_along_rows_and_falls_as_one_over_frequency(tmp_path):
    spectra, fraction = [], []
    for seed in SEEDS:
        planes, _ = record(tmp_path, only(common_noise=True), seed=seed)
        series = stripes(planes["slope"])[0]
        rows = series.mean(axis=1)
        fraction.append(rows.var() / np.mean(series**2))
        spectra.append(np.abs(np.fft.rfft(rows - rows.mean())[1:]) ** 2)
    # Means of rows of 30 pixels keep the noise below the row frequency: of the octaves from 3 Hz to 100 kHz
    # those below 1.5 kHz, more than half.
    assert np.mean(fraction) > 0.5
    mean = np.mean(spectra, axis=0)
    k = np.arange(1, mean.size + 1)
    # Well below the row frequency, where the average over a row does not dampen yet.
    use = (k >= 4) & (k < 100)
    exponent = np.polyfit(np.log(k[use]), np.log(mean[use]), 1, w=np.sqrt(k[use]))[0]
    # Six spectra: the logarithm of each value scatters by 0.43; over 96 values the slope is known to 0.08.
    assert exponent == pytest.approx(-1.0, abs=4 * 0.08)


def test_amplifier_noise_is_independent_between_amplifiers(tmp_path):
    planes, _ = record(tmp_path, only(amplifier_noise=True))
    parts = stripes(planes["slope"]).reshape(32, -1)
    expected = (3.0 * slope_factor(109)) ** 2
    assert np.mean(parts**2) == pytest.approx(expected, rel=5 * 0.11 / np.sqrt(32))
    correlation = np.corrcoef(parts)
    off = correlation[~np.eye(32, dtype=bool)]
    # Two 1/f series correlate by chance like sqrt(sum(1/k^2)) / sum(1/k) = 0.11; the mean of 496 pairs.
    assert abs(off.mean()) < 5 * 0.11 / np.sqrt(496)
    assert np.abs(off).max() < 5 * 0.11


def test_even_and_odd_columns_have_their_own_offsets(tmp_path):
    values = []
    for seed in SEEDS:
        planes, _ = record(tmp_path, only(amplifier_offsets=True), seed=seed)
        cube = planes["slope"].reshape(MINI.raw_rows, 32, 30)
        for parity in (0, 1):
            columns = cube[:, :, parity::2]
            assert (columns == columns[:1, :, :1]).all()
            values += columns[0, :, 0].tolist()
    # 384 Gaussian draws: 5 / sqrt(2 N).
    assert np.std(values) == pytest.approx(2.0 * slope_factor(109), rel=5 / np.sqrt(2 * len(values)))


def test_amplifiers_drift_linearly_from_top_to_bottom(tmp_path):
    values = []
    for seed in SEEDS:
        planes, _ = record(tmp_path, only(amplifier_drift=True), seed=seed)
        cube = planes["slope"].reshape(MINI.raw_rows, 32, 30)
        middle = np.diff(cube[:, :, 0], axis=0)
        assert np.allclose(middle, middle.mean(axis=0), atol=1e-7)
        values += (cube[-1, :, 0] - cube[0, :, 0]).tolist()
    assert np.std(values) == pytest.approx(3.0 * slope_factor(109), rel=5 / np.sqrt(2 * len(values)))


def test_row_correlated_noise_of_a_complete_dark_is_the_sum_of_its_parts(tmp_path):
    found = []
    for seed in SEEDS:
        planes, _ = record(
            tmp_path, only(common_noise=True, amplifier_noise=True, read_noise=True), seed=seed
        )
        found.append(np.mean(planes["slope"] ** 2))
    expected = (8.0**2 + 3.0**2 + READ_NOISE**2) * slope_factor(109) ** 2
    # Only the common part fluctuates: 64 of 192 parts by 11 %.
    assert np.mean(found) == pytest.approx(expected, rel=5 * 0.11 * 64 / 192 / np.sqrt(len(found)))


def test_intercept_has_a_fixed_pattern_and_reset_noise(tmp_path):
    config = only(bias=True)
    first, frame = record(tmp_path, config, spec=spec_of(index=0))
    second, _ = record(tmp_path, config, spec=spec_of(index=1))
    difference = first["intercept"] - second["intercept"]
    # Rounding of float32 values of some thousand ADU is 1e-4.
    assert difference.std() == pytest.approx(np.sqrt(2) * 35.0 / GAIN, rel=0.004)
    assert (frame.static.bias - frame.static.bias.mean(axis=0)).std() == pytest.approx(1000.0, rel=0.004)
    columns = inner(first["intercept"]).mean(axis=0)
    # 952 columns: 5 / sqrt(2 N) = 11 %; the mean over 1016 pixels adds 31 ADU of scatter.
    assert columns.std() == pytest.approx(np.hypot(300.0, 1000.0 / np.sqrt(1016)), rel=0.12)
