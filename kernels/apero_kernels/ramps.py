"""Variance of a slope fitted to the reads of a ramp.

Equal-weight least squares over n reads, t apart: a signal S = f (n - 1) t electrons has the variance

    12 (n - 1) / (n (n + 1)) s^2  +  6 (n^2 + 1) / (5 n (n + 1)) (n - 1) t f

with s the noise of one read and f the flux (Rauscher et al. 2007, PASP 119, 768, eq. 1).  The photon part
exceeds Poisson by up to 20 per cent.
"""

from __future__ import annotations

import numpy as np

from apero_kernels._jit import kernel
from apero_kernels.contracts import check_float, check_output, check_positive, check_reads


@kernel
def read_factor(n):
    """Return the variance of the signal in units of that of one read, NaN below two reads."""
    return 12.0 * (n - 1.0) / (n * (n + 1.0)) if n >= 2.0 else np.nan


@kernel
def photon_factor(n):
    """Return the photon variance of the signal in units of the signal (1.0 to 1.2), NaN below two reads."""
    return 1.2 * (n * n + 1.0) / (n * (n + 1.0)) if n >= 2.0 else np.nan


@kernel
def factor_table(longest, frame_time, read_noise, gain, constant, linear):
    """Write, for n = 0..longest reads, the two terms of ``var = constant[n] + linear[n] * slope``, ADU/s."""
    for n in range(longest + 1):
        time = max(n - 1.0, 1.0) * frame_time
        constant[n] = read_factor(float(n)) * (read_noise / (gain * time)) ** 2
        linear[n] = photon_factor(float(n)) / (gain * time)


@kernel
def _ramp_variance(slope, reads, constant, linear, out):
    rows, columns = slope.shape
    longest = constant.shape[0] - 1
    for y in range(rows):
        for x in range(columns):
            n = np.float64(reads[y, x])
            flux = np.float64(slope[y, x])
            if 2.0 <= n <= longest:
                k = int(n + 0.5)
                variance = constant[k] + linear[k] * max(flux, 0.0)
                out[y, x] = variance if flux == flux else np.nan
            else:
                out[y, x] = np.nan


def ramp_factors(reads: int) -> tuple[float, float]:
    """Return read and photon factor of a ramp of `reads` reads, both in units of electrons of signal.

    Raises
    ------
    ValueError
        Fewer than two reads have no slope.
    """
    if reads < 2:
        raise ValueError(f"reads: {reads}, expected at least 2 for a slope")
    return float(read_factor(float(reads))), float(photon_factor(float(reads)))


def ramp_variance(
    slope: np.ndarray,
    reads: np.ndarray,
    out: np.ndarray,
    *,
    frame_time_s: float,
    read_noise_e: float,
    gain: float,
    longest: int,
) -> None:
    """Write the variance of each slope.

    Parameters
    ----------
    slope : floating[row, column]
        ADU/s; a negative one counts as no light.
    reads : floating or int16[row, column]
        Reads used for the slope.
    out : floating[row, column]
        Written, (ADU/s)^2; NaN where the slope is NaN or the reads are not within 2..longest.
    frame_time_s, read_noise_e, gain : float
        Time between reads (s), noise of one read (electrons), electrons per ADU.
    longest : int
        Reads of the exposure.

    Raises
    ------
    TypeError, ValueError
        Wrong dtype or shape, a constant not positive, fewer than two reads.

    Notes
    -----
    The photon term uses the measured slope of the pixel.  Where faint pixels are weighted by this plane,
    the weights follow the noise; extraction avoids that by replacing the signal by its own model.
    """
    check_float("slope", slope, 2)
    check_reads("reads", reads, slope.shape)
    check_output("out", out, slope.shape)
    constants = variance_terms(longest, frame_time_s=frame_time_s, read_noise_e=read_noise_e, gain=gain)
    _ramp_variance(slope, reads, *constants, out)


def variance_terms(
    longest: int, *, frame_time_s: float, read_noise_e: float, gain: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return ``constant[n]``, ``linear[n]`` of ``var = constant + linear * slope`` (ADU/s), n = 0..longest.

    Raises
    ------
    ValueError
        A constant is not positive, or `longest` is below 2.
    """
    check_positive("frame_time_s", frame_time_s)
    check_positive("read_noise_e", read_noise_e)
    check_positive("gain", gain)
    if longest < 2:
        raise ValueError(f"longest: {longest} reads, expected at least 2 for a slope")
    constant, linear = np.empty(longest + 1), np.empty(longest + 1)
    factor_table(int(longest), float(frame_time_s), float(read_noise_e), float(gain), constant, linear)
    return constant, linear


def intercept_photon(reads: int, *, frame_time_s: float, gain: float) -> float:
    """Return the photon variance of the intercept (ADU^2) for a slope of 1 ADU/s.

    Raises
    ------
    ValueError
        Fewer than two reads, or a constant is not positive.

    Notes
    -----
    The charge that arrives between two reads is in all later ones: with the weights b_i of the intercept
    (equal weights of the reads) the variance is the sum of (b_j + ... + b_n)^2 over the intervals, 2/15 of
    the charge for many reads.
    """
    check_positive("frame_time_s", frame_time_s)
    check_positive("gain", gain)
    if reads < 2:
        raise ValueError(f"reads: {reads}, expected at least 2 for a slope")
    number = np.arange(reads) - 0.5 * (reads - 1)
    weights = 1.0 / reads - number * 0.5 * (reads - 1) / np.sum(number**2)
    later = np.cumsum(weights[::-1])[::-1][1:]
    return float(np.sum(later**2) * frame_time_s / gain)
