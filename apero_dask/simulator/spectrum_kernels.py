"""Compiled loops of the one-dimensional spectra: line profiles, comb, line spread, cumulative integrals.

All arrays are float64 on one uniform fine grid of columns with ``SUB`` points per column; loops run in a
fixed order, so results do not depend on the number of threads.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

C_KMS = 299792.458


@njit(cache=True, nogil=True)
def chebyshev_on_grid(series, low, high, first, step, count):
    """Chebyshev series on [low, high] at ``first + step * i``, i < count (Clenshaw recurrence)."""
    out = np.empty(count)
    for i in range(count):
        u = (2.0 * (first + step * i) - low - high) / (high - low)
        b1 = 0.0
        b2 = 0.0
        for j in range(len(series) - 1, 0, -1):
            b1, b2 = 2.0 * u * b1 - b2 + series[j], b1
        out[i] = u * b1 - b2 + series[0]
    return out


@njit(cache=True, nogil=True)
def add_gaussians(out, wave, line_wave, amplitude, sigma_kms):
    """Add ``amplitude * exp(-v^2 / (2 sigma^2))`` of every line, v its velocity from the line, to ``out``.

    ``wave`` and ``line_wave`` rise.  Profiles end at 6 sigma.
    """
    for k in range(len(line_wave)):
        reach = 6.0 * sigma_kms[k] / C_KMS
        start = np.searchsorted(wave, line_wave[k] * (1.0 - reach))
        for i in range(start, len(wave)):
            v = (wave[i] / line_wave[k] - 1.0) * C_KMS / sigma_kms[k]
            if v > 6.0:
                break
            out[i] += amplitude[k] * math.exp(-0.5 * v * v)


@njit(cache=True, nogil=True)
def multiply_gaussians(out, wave, line_wave, depth, sigma_kms):
    """Multiply ``out`` by ``1 - depth * exp(-v^2 / (2 sigma^2))`` of every line; lists as `add_gaussians`."""
    reach = 6.0 * sigma_kms / C_KMS
    for k in range(len(line_wave)):
        start = np.searchsorted(wave, line_wave[k] * (1.0 - reach))
        for i in range(start, len(wave)):
            v = (wave[i] / line_wave[k] - 1.0) * C_KMS / sigma_kms
            if v > 6.0:
                break
            out[i] *= 1.0 - depth[k] * math.exp(-0.5 * v * v)


@njit(cache=True, nogil=True)
def add_lorentzians(out, wave, line_wave, depth, hwhm_kms, reach_kms):
    """Add Lorentzians of central value ``depth``, lowered to reach 0 at ``reach_kms``, to ``out``.

    ``reach_kms`` belongs to each line: (line,).
    """
    for k in range(len(line_wave)):
        reach = reach_kms[k] / C_KMS
        foot = 1.0 / (1.0 + (reach_kms[k] / hwhm_kms[k]) ** 2)
        scale = depth[k] / (1.0 - foot)
        start = np.searchsorted(wave, line_wave[k] * (1.0 - reach))
        for i in range(start, len(wave)):
            v = (wave[i] / line_wave[k] - 1.0) * C_KMS
            if v >= reach_kms[k]:
                break
            if v > -reach_kms[k]:
                t = v / hwhm_kms[k]
                out[i] += scale * (1.0 / (1.0 + t * t) - foot)


@njit(cache=True, nogil=True)
def airy_mean(order, finesse):
    """Mean transmission of an etalon over the interval around every point, relative to that over one order.

    Parameters
    ----------
    order : (point,) interference order 2 d / lambda, monotonic; intervals end half-way to the neighbours
    finesse : F of 1 / (1 + (2 F / pi)^2 sin^2(pi order))

    Notes
    -----
    The integral of the Airy function over the phase p is atan(q tan p) / q with q^2 = 1 + (2 F / pi)^2,
    continued over the poles: narrow peaks keep their flux and place however few points there are.
    """
    n = len(order)
    q = math.sqrt(1.0 + (2.0 * finesse / math.pi) ** 2)
    out = np.empty(n)
    before_order = order[0] - 0.5 * (order[1] - order[0])
    before = _airy_integral(before_order, q)
    for i in range(n):
        after_order = (
            0.5 * (order[i] + order[i + 1]) if i < n - 1 else order[i] + 0.5 * (order[i] - order[i - 1])
        )
        after = _airy_integral(after_order, q)
        out[i] = (after - before) / (after_order - before_order)
        before = after
        before_order = after_order
    return out


@njit(cache=True, nogil=True)
def _airy_integral(order, q):
    """Integral of the relative transmission from order 0; grows by 1 per order."""
    whole = math.floor(order + 0.5)
    return whole + math.atan(q * math.tan(math.pi * (order - whole))) / math.pi


@njit(cache=True, nogil=True)
def lsf_kernels(fwhm_px, exponent, skew, sub, half):
    """Kernels of the line spread, one per column, shape (column, 2 half + 1), each of sum 1.

    ``fwhm_px`` in columns; samples are 1/sub column apart.  ``skew`` multiplies the third
    Gauss-Hermite polynomial of unit norm; negative values of the product are cut to 0.
    """
    count = len(fwhm_px)
    out = np.empty((count, 2 * half + 1))
    to_scale = 0.5 / (2.0 * math.log(2.0)) ** (1.0 / exponent)
    for k in range(count):
        scale = fwhm_px[k] * to_scale * sub
        total = 0.0
        value = 1.0
        # The ratio of neighbouring samples of a Gaussian is itself a geometric sequence.
        ratio = math.exp(-0.5 / (scale * scale))
        decrease = ratio * ratio
        for j in range(half + 1):
            z = j / scale
            if exponent != 2.0:
                value = math.exp(-0.5 * z**exponent)
            odd = skew * (2.0 * z * z * z - 3.0 * z) / math.sqrt(3.0)
            out[k, half + j] = value * max(1.0 + odd, 0.0)
            out[k, half - j] = value * max(1.0 - odd, 0.0)
            total += out[k, half + j] + (out[k, half - j] if j > 0 else 0.0)
            value *= ratio
            ratio *= decrease
        for j in range(2 * half + 1):
            out[k, j] /= total
    return out


@njit(cache=True, nogil=True)
def spread(spectrum, kernels, sub):
    """Spread every point of the fine grid by the kernel of its column; what leaves the grid is lost."""
    n = len(spectrum)
    width = kernels.shape[1]
    half = width // 2
    padded = np.zeros(n + width)
    for i in range(n):
        value = spectrum[i]
        if value == 0.0:
            continue
        # Column of the point, nearest integer; the last points belong to the last kernel.
        k = min((i + sub // 2) // sub, len(kernels) - 1)
        for j in range(width):
            padded[i + j] += value * kernels[k, j]
    return padded[half : half + n].copy()


@njit(cache=True, nogil=True)
def cumulate(spectrum, sub, total, moment):
    """Integrals of a density per column over the fine grid, for integration over any interval.

    ``total[i]`` is the integral from the first point to point i.  ``moment[i]`` is the integral of (x - node)
    times the density from the last node at or before the point, a node being every ``sub``-th point; for
    a point that is a node it is 0, and ``moment`` of the complete cell is returned separately.
    Trapezoid rule with the Euler-Maclaurin correction by first derivatives: error h^4/720 of the third
    derivative.
    """
    n = len(spectrum)
    h = 1.0 / sub
    slope = np.zeros(n)
    for i in range(1, n - 1):
        slope[i] = (spectrum[i + 1] - spectrum[i - 1]) / 2.0
    for i in range(2, n - 2):
        slope[i] = (8.0 * (spectrum[i + 1] - spectrum[i - 1]) - spectrum[i + 2] + spectrum[i - 2]) / 12.0
    cells = (n - 1) // sub
    full = np.zeros(cells)
    total[0] = 0.0
    moment[0] = 0.0
    for i in range(n - 1):
        k = i // sub
        if k >= cells:
            break
        t0 = (i - k * sub) * h
        t1 = t0 + h
        s0 = spectrum[i]
        s1 = spectrum[i + 1]
        area = h * (0.5 * (s0 + s1) - (slope[i + 1] - slope[i]) / 12.0)
        # Derivative of t S is S + t S', slopes are per step h.
        d0 = s0 * h + t0 * slope[i]
        d1 = s1 * h + t1 * slope[i + 1]
        first = h * (0.5 * (t0 * s0 + t1 * s1) - (d1 - d0) / 12.0)
        total[i + 1] = total[i] + area
        start = 0.0 if i == k * sub else moment[i]
        if (i + 1) % sub == 0:
            full[k] = start + first
            moment[i + 1] = 0.0
        else:
            moment[i + 1] = start + first
    return full
