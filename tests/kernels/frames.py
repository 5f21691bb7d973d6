"""Raw frames for the tests of the detector kernels, written down from the instrument description alone.

Nothing here is shared with the kernels.  Slopes in ADU/s, charges in electrons; rows are read one after
the other, odd amplifiers (from 0) in reverse.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

FRAME_TIME = 5.57192
GAIN = 0.999
READ_NOISE = 10.9


@dataclass(frozen=True)
class Detector:
    rows: int
    columns: int
    amplifiers: int
    dark: int
    border: int

    @property
    def width(self):
        return self.columns // self.amplifiers


FULL = Detector(4096, 4096, 32, 5, 4)
SMALL = Detector(1024, 960, 32, 5, 4)
TINY = Detector(48, 60, 6, 2, 2)  # for comparisons pixel by pixel


def slope_factor(reads):
    """Noise of the slope, 1/s, for unit noise in every read (independent reads)."""
    return np.sqrt(12 / (reads * (reads**2 - 1.0))) / FRAME_TIME


def pink(rng, n):
    """Unit-rms series with a 1/f power spectrum down to one cycle per series."""
    spectrum = rng.normal(size=n // 2 + 1) + 1j * rng.normal(size=n // 2 + 1)
    spectrum[0] = 0
    spectrum[1:] /= np.sqrt(np.arange(1, spectrum.size))
    series = np.fft.irfft(spectrum, n)
    return series / series.std()


def fold(cube):
    """[amplifier, row, pixel in read order] to an image."""
    return np.concatenate([c[:, ::-1] if a % 2 else c for a, c in enumerate(cube)], axis=1)


def amplifier_of(detector):
    return np.arange(detector.columns) // detector.width


def read_noise(detector, reads, rng, *, white=READ_NOISE, common=8.0, own=3.0, offsets=2.0, drift=3.0):
    """Noise of the slope without light, ADU/s: total, and its common and own 1/f parts."""
    factor = slope_factor(reads) / GAIN
    n, w = detector.rows, detector.width
    shared = (common * pink(rng, n * w)).reshape(n, w)
    shared_image = fold([shared] * detector.amplifiers)
    own_image = fold([(own * pink(rng, n * w)).reshape(n, w) for _ in range(detector.amplifiers)])
    image = white * rng.standard_normal((n, detector.columns), dtype=np.float32)
    ramp = np.linspace(-0.5, 0.5, n)[:, None]
    level = offsets * rng.normal(size=(detector.amplifiers, 2))
    slope = drift * rng.normal(size=detector.amplifiers)
    a = amplifier_of(detector)
    fixed = level[a, np.arange(detector.columns) % 2] + ramp * slope[a]
    total = factor * (image + shared_image + own_image + fixed)
    return total.astype(np.float32), factor * shared_image, factor * own_image


def sensitive(detector):
    inside = np.zeros((detector.rows, detector.columns), bool)
    b = detector.border
    inside[b:-b, b:-b] = True
    return inside


def ramp_planes(detector, flux, reads, rng, *, noise=None, hits_per_pixel=0.0, scatter=0.05):
    """Four planes of a ramp with light `flux` (e-/s), and the charge and signal of the hits.

    The response of a line fit to a step of charge q at fraction u: slope 6 q u (1-u) / T, intercept
    q (1-u)(1-3u), residual variance q^2 u(1-u)(1-3u(1-u)).
    """
    time = (reads - 1) * FRAME_TIME
    n = float(reads)
    read = 12 * (n - 1) / (n * (n + 1)) * READ_NOISE**2
    photon = 1.2 * (n**2 + 1) / (n * (n + 1))
    signal = np.where(sensitive(detector), flux, 0.0) * time
    shape = signal.shape
    deviation = np.sqrt(photon * np.maximum(signal, 0)) * rng.standard_normal(shape)
    if noise is None:
        noise = np.sqrt(read) * rng.standard_normal(shape) / time / GAIN
    slope = (signal + deviation) / time / GAIN + noise
    intercept = 1000.0 * rng.standard_normal(shape) + 300.0 * rng.standard_normal(detector.columns)
    variance = read + photon * np.maximum(signal, 0)
    charge = np.zeros(shape)
    if hits_per_pixel > 0:
        hit = (rng.random(shape) < hits_per_pixel) & sensitive(detector)
        charge[hit] = 2000.0 * np.exp(0.8 * rng.standard_normal(hit.sum()))
    u = rng.random(shape)
    slope = slope + 6 * charge * u * (1 - u) / time / GAIN
    intercept = intercept + charge * (1 - u) * (1 - 3 * u) / GAIN
    residual = charge**2 * u * (1 - u) * (1 - 3 * u * (1 - u))
    error = (
        np.sqrt(variance * (1 + scatter * rng.standard_normal(shape)) ** 2 + residual * 12 / n) / time / GAIN
    )
    sigma_slope = np.sqrt(variance) / time / GAIN
    change = 6 * charge * u * (1 - u) / time / GAIN
    planes = [p.astype(np.float32) for p in (slope, intercept, error, np.full(shape, n))]
    return planes, charge, change, sigma_slope, time
