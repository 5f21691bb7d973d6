"""Add an order of a spectrum to sums on a grid of wavelengths.

Interpolation is by the quintic B-spline through the pixels: coefficients by recursive filters, one per pole
(Unser, Aldroubi & Eden 1993, IEEE Trans. Signal Proc. 41, 821, table I), six taps per point.
"""

from __future__ import annotations

import numpy as np

from apero_kernels._jit import kernel
from apero_kernels.contracts import check_float, check_integer, check_output

PAD = 24
"""Columns added at both ends, mirrored through the last value: the larger pole to this power is 2e-9."""
_POLE_1 = -0.430575347099973791851434783493520
_POLE_2 = -0.043096288203264653822712376822550


@kernel
def _filtered(line, pole):
    # Constant beyond both ends; the pad absorbs what that is wrong by.
    n = line.shape[0]
    gain = (1.0 - pole) * (1.0 - 1.0 / pole)
    before = gain * line[0] / (1.0 - pole)
    for k in range(n):
        before = gain * line[k] + pole * before if k else before
        line[k] = before
    after = -pole / (1.0 - pole) * line[n - 1]
    line[n - 1] = after
    for k in range(n - 2, -1, -1):
        after = pole * (after - line[k])
        line[k] = after


@kernel
def _filled(values, usable, out):
    # Straight lines across holes; the first and the last are usable.
    last = 0
    for k in range(values.shape[0]):
        if not usable[k]:
            continue
        out[k] = values[k]
        for j in range(last + 1, k):
            out[j] = values[last] + (values[k] - values[last]) * (j - last) / (k - last)
        last = k


@kernel
def _coefficients(values, out):
    n = values.shape[0]
    for k in range(n):
        out[PAD + k] = values[k]
    for k in range(1, PAD + 1):
        j = min(k, n - 1)
        out[PAD - k] = 2.0 * values[0] - values[j]
        out[PAD + n - 1 + k] = 2.0 * values[n - 1] - values[n - 1 - j]
    _filtered(out, _POLE_1)
    _filtered(out, _POLE_2)


@kernel
def _near(u):
    # Quintic B-spline for u up to 1.
    s = u * u
    return 0.55 - 0.5 * s + 0.25 * s * s - s * s * u / 12.0


@kernel
def _middle(u):
    # From 1 to 2.
    return 0.425 + u * (0.625 + u * (-1.75 + u * (1.25 + u * (-0.375 + u / 24.0))))


@kernel
def _far(u):
    # From 2 to 3.
    s = (3.0 - u) * (3.0 - u)
    return s * s * (3.0 - u) / 120.0


@kernel
def _add_points(light, weight, squares, usable, wave, grid, first, limit, total):
    n = wave.shape[0]
    i = 0
    for j in range(first, grid.shape[0]):
        at = grid[j]
        if at > wave[n - 1]:
            return
        while i < n - 2 and wave[i + 1] < at:
            i += 1
        step = wave[i + 1] - wave[i]
        t = (at - wave[i]) / step
        # Wavelengths bend by 1e-4 of a step per pixel: the parabola through the steps on either side.
        bend = 0.0
        if i > 0:
            bend += step - (wave[i] - wave[i - 1])
        if i < n - 2:
            bend += (wave[i + 2] - wave[i + 1]) - step
        bend /= (4.0 if 0 < i < n - 2 else 2.0) * step
        t += bend * t * (1.0 - t)
        share = (1.0 - t) * usable[i] + t * usable[i + 1]
        if not share > limit:
            continue
        a, b, c = _far(2.0 + t), _middle(1.0 + t), _near(t)
        d, e, f = _near(1.0 - t), _middle(2.0 - t), _far(3.0 - t)
        k = PAD + i
        total[0, j] += (
            a * light[k - 2]
            + b * light[k - 1]
            + c * light[k]
            + d * light[k + 1]
            + e * light[k + 2]
            + f * light[k + 3]
        )
        total[1, j] += (
            a * weight[k - 2]
            + b * weight[k - 1]
            + c * weight[k]
            + d * weight[k + 1]
            + e * weight[k + 2]
            + f * weight[k + 3]
        )
        total[2, j] += (1.0 - t) * squares[i] + t * squares[i + 1]


@kernel
def _add_order(values, usable, wave, grid, first, limit, total):
    n = wave.shape[0]
    filled = np.empty((3, n))
    for k in range(3):
        _filled(values[k], usable, filled[k])
    light, weight = np.empty(n + 2 * PAD), np.empty(n + 2 * PAD)
    _coefficients(filled[0], light)
    _coefficients(filled[1], weight)
    _add_points(light, weight, filled[2], usable, wave, grid, first, limit, total)


def add_order(
    values: np.ndarray,
    usable: np.ndarray,
    wave: np.ndarray,
    grid: np.ndarray,
    limit: float,
    total: np.ndarray,
) -> None:
    """Add light, weight and squared errors of an order to sums on a grid.

    Parameters
    ----------
    values : float64[3, x]
        Light, weight, squared errors.  What is not usable is bridged by straight lines.
    usable : uint8[x]
        1 where the values count; the first and the last column must.
    wave : float64[x]
        Rising wavelengths of the columns, all finite, at least two.
    grid : float64[point]
        Rising wavelengths wanted, in the same unit.
    limit : float
        A point counts where the straight line through `usable` is above this.
    total : float64[3, point]
        Receives the sums: quintic splines of light and weight, straight lines of the squared errors.

    Raises
    ------
    TypeError, ValueError
        Arrays of other kind or shape, fewer than two columns, or ends that are not usable.
    """
    wave = check_float("wave", wave, 1)
    n = wave.shape[0]
    values = check_float("values", values, 2, (3, n))
    usable = check_integer("usable", usable, 1, np.uint8, (n,))
    grid = check_float("grid", grid, 1)
    total = check_output("total", total, (3, grid.shape[0]))
    if n < 2 or not (usable[0] and usable[n - 1]):
        raise ValueError(f"usable: {n} columns, the first and the last of at least two must be usable")
    _add_order(values, usable, wave, grid, int(np.searchsorted(grid, wave[0])), float(limit), total)
