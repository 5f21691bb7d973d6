"""Compiled loop that puts the light of one slice of one order on the detector."""

from __future__ import annotations

import math

import numpy as np
from numba import njit

NORM = 1.0 / math.sqrt(2.0 * math.pi)
# Integral of the unit Gaussian every 1/64: cubic interpolation with exact slopes leaves 1.5e-10.
TABLE_STEP = 1.0 / 64.0
TABLE_REACH = 8.0
_z = np.arange(-TABLE_REACH, TABLE_REACH + TABLE_STEP, TABLE_STEP)
TABLE = np.array([0.5 * math.erfc(-z / math.sqrt(2.0)) for z in _z])
TABLE_SLOPE = NORM * np.exp(-0.5 * _z * _z) * TABLE_STEP


@njit(cache=True, nogil=True, error_model="numpy")
def gaussian_integral(z):
    """Integral of the unit Gaussian from minus infinity to z."""
    if z <= -TABLE_REACH:
        return 0.0
    if z >= TABLE_REACH:
        return 1.0
    f = (z + TABLE_REACH) / TABLE_STEP
    i = int(f)
    t = f - i
    return hermite(TABLE[i], TABLE[i + 1], TABLE_SLOPE[i], TABLE_SLOPE[i + 1], t)


@njit(cache=True, nogil=True, error_model="numpy")
def hermite(a, b, da, db, t):
    """Cubic with values a, b and slopes da, db at t = 0, 1."""
    return a + t * (da + t * (3.0 * (b - a) - 2.0 * da - db + t * (2.0 * (a - b) + da + db)))


@njit(cache=True, nogil=True, error_model="numpy")
def slice_rows(centre, sigma, first, rows, weight, height):
    """Fraction of a slice in each row, and mean height above ``centre`` of the light in that row.

    The slice is a Gaussian across the dispersion; rows are pixels of unit size centred on integers, from
    ``first``.  The outermost rows take the wings, so that fractions add up to 1.
    """
    step = 1.0 / sigma
    z = (first + 0.5 - centre) * step
    # Density at successive borders: the ratio of neighbours is itself a geometric sequence.
    density = NORM * math.exp(-0.5 * z * z)
    ratio = math.exp(-z * step - 0.5 * step * step)
    decrease = math.exp(-step * step)
    edge = 0.0
    before = 0.0
    for r in range(rows):
        if r == rows - 1:
            next_edge = 1.0
            density = 0.0
        else:
            next_edge = gaussian_integral(z)
        part = next_edge - edge
        weight[r] = part
        # Far in the wings the quotient loses its digits; the middle of the row is near enough there.
        height[r] = -sigma * (density - before) / part if part > 1e-7 else first + r - centre
        edge = next_edge
        before = density
        z += step
        density *= ratio
        ratio *= decrease


@njit(cache=True, nogil=True, error_model="numpy")
def paint_slice(
    image, x_first, x_low, x_high, y_low, y_high, centre, height0, offset, tangent, fraction, sigma, reach,
    spectrum, total, moment, full, sub,
):  # fmt: skip
    """Add one slice of one order to ``image`` (full flipped frame), exactly integrated over pixels.

    The light of column coordinate x, ``spectrum`` per unit of x, is a Gaussian across the dispersion and
    falls at ``x + offset + tangent * height``, ``height`` being the mean height above the trace of what falls
    in a row.  Row fractions and displacements are linear in x between nodes one column apart; the integral of
    spectrum times fraction between the borders of a pixel comes from the cumulative integrals, so that what
    leaves one pixel enters its neighbour to rounding.

    Parameters
    ----------
    image : (rows, columns) float64, changed
    x_first : image column of node 0
    x_low, x_high, y_low, y_high : light outside [low, high) of columns and rows is dropped
    centre, height0 : (node,) image row of the slice; its height above the trace
    offset : displacement along x of the slice, px
    tangent : (node,) displacement along x per px of height
    fraction : (node,) fraction of the light of the order in this slice
    sigma : standard deviation across the dispersion, px
    reach : rows on each side of the slice that receive light, the outermost take all beyond
    spectrum, total, moment : (fine,) density per column and integrals of ``spectrum_kernels.cumulate``
    full : (cell,) moment of every complete cell
    """
    nodes = len(centre)
    rows = 2 * reach + 1
    h = 1.0 / sub
    w0 = np.zeros(rows)
    w1 = np.zeros(rows)
    d0 = np.zeros(rows)
    d1 = np.zeros(rows)
    first0 = math.floor(centre[0] + 0.5) - reach
    slice_rows(centre[0], sigma, first0, rows, w0, d0)
    for k in range(nodes - 1):
        first1 = math.floor(centre[k + 1] + 0.5) - reach
        slice_rows(centre[k + 1], sigma, first1, rows, w1, d1)
        start = k * sub
        cell = total[start + sub] - total[start]
        if cell != 0.0:
            base = total[start]
            xa = x_first + k + offset
            low = max(min(first0, first1), y_low)
            high = min(max(first0, first1) + rows, y_high)
            for row in range(low, high):
                r0 = row - first0
                r1 = row - first1
                if 0 <= r0 < rows:
                    fa = fraction[k] * w0[r0]
                    ha = d0[r0]
                else:
                    fa = 0.0
                    ha = row - centre[k]
                if 0 <= r1 < rows:
                    fb = fraction[k + 1] * w1[r1]
                    hb = d1[r1]
                else:
                    fb = 0.0
                    hb = row - centre[k + 1]
                df = fb - fa
                sa = xa + tangent[k] * (height0[k] + ha)
                sb = xa + 1.0 + tangent[k + 1] * (height0[k + 1] + hb)
                # Pixel p covers [p - 0.5, p + 0.5).
                pixel = math.floor(sa + 0.5)
                last = math.floor(sb + 0.5)
                scale = sub / (sb - sa)
                before = 0.0
                while pixel < last:
                    f = (pixel + 0.5 - sa) * scale
                    i = min(int(f), sub - 1)
                    n = start + i
                    # Value and slope of fraction times spectrum, integrated from the node.
                    a = fa * (total[n] - base) + df * moment[n]
                    b = fa * (total[n + 1] - base) + df * (full[k] if i == sub - 1 else moment[n + 1])
                    da = spectrum[n] * h * (fa + df * h * i)
                    db = spectrum[n + 1] * h * (fa + df * h * (i + 1))
                    after = hermite(a, b, da, db, f - i)
                    if x_low <= pixel < x_high:
                        image[row, pixel] += after - before
                    before = after
                    pixel += 1
                if x_low <= pixel < x_high:
                    image[row, pixel] += fa * cell + df * full[k] - before
        w0, w1 = w1, w0
        d0, d1 = d1, d0
        first0 = first1
