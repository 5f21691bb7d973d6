"""Correlated noise of the readout electronics, per read, in the time order of the amplifiers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import fft

from apero_dask.simulator.detector_config import DetectorConfig
from apero_dask.simulator.tables import Geometry


@dataclass(frozen=True, eq=False)
class CorrelatedNoise:
    """Noise of one read in electrons, or of the slope once multiplied."""

    common: np.ndarray
    """float32[row, pixel of an amplifier in read order]: the same in all amplifiers."""
    amplifier: np.ndarray
    """float32[row, amplifier, pixel in read order]: 1/f noise, offsets and drift of each."""

    def image(self) -> np.ndarray:
        """Sum of both in raw orientation, float32[row, column]."""
        cube = self.amplifier + self.common[:, None, :]
        cube[:, 1::2] = cube[:, 1::2, ::-1]
        return cube.reshape(cube.shape[0], -1)


def flicker_noise(
    rows: int, width: int, rms: float, config: DetectorConfig, random: np.random.Generator
) -> np.ndarray:
    """1/f noise of one amplifier in one read, float32[row, pixel in read order].

    Parameters
    ----------
    rows, width : rows of the detector, pixels of an amplifier in a row
    rms : standard deviation over the read, same unit as the result
    config : pixel time, pause after a row and knee
    random : generator

    Notes
    -----
    One time series for the whole read, the pauses after the rows included, with power
    1 / (f (1 + f / knee)) from the inverse of the read time to the Nyquist frequency; all random phases,
    so that the series is Gaussian.  The expectation of the variance is exactly `rms` squared.
    """
    pause = round(width * config.line_overhead)
    length = rows * (width + pause)
    padded = fft.next_fast_len(length, real=True)
    frequency = fft.rfftfreq(padded, config.pixel_time_us * 1e-6)[1:]
    amplitude = 1.0 / np.sqrt(frequency * (1.0 + frequency / config.noise_knee_hz))
    # irfft counts every frequency twice except the Nyquist one; a factor of 1e-6 of the variance.
    amplitude *= rms * padded / np.sqrt(4.0 * np.sum(amplitude**2))
    spectrum = np.zeros(padded // 2 + 1, np.complex64)
    parts = random.standard_normal((2, frequency.size), dtype=np.float32)
    spectrum[1:] = (amplitude * (parts[0] + 1j * parts[1])).astype(np.complex64)
    series = fft.irfft(spectrum, padded, workers=1)[:length]
    return series.reshape(rows, width + pause)[:, :width].astype(np.float32)


def correlated_noise(
    config: DetectorConfig, geometry: Geometry, random: np.random.Generator
) -> CorrelatedNoise:
    """Draw the correlated noise of one read.

    Offsets of even and odd columns (counted along raw columns) and the linear drift are drawn per amplifier;
    the drift runs from minus to plus half its amplitude.
    """
    rows, n = geometry.raw_rows, geometry.amplifiers
    width = geometry.raw_columns // n
    common = np.zeros((rows, width), np.float32)
    if config.common_noise:
        common = flicker_noise(rows, width, config.common_noise_e, config, random)
    amplifier = np.zeros((rows, n, width), np.float32)
    if config.amplifier_noise:
        for a in range(n):
            amplifier[:, a] = flicker_noise(rows, width, config.amplifier_noise_e, config, random)
    if config.amplifier_offsets:
        offsets = config.column_offset_e * random.standard_normal((n, 2), dtype=np.float32)
        for a in range(n):
            column = a * width + np.arange(width)
            along = offsets[a, column % 2]
            amplifier[:, a] += along[::-1] if a % 2 else along
    if config.amplifier_drift:
        drift = config.amplifier_drift_e * random.standard_normal(n, dtype=np.float32)
        amplifier += np.linspace(-0.5, 0.5, rows, dtype=np.float32)[:, None, None] * drift[:, None]
    return CorrelatedNoise(common, amplifier)
