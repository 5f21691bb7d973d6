"""Compiled loop that puts the light of one slice of one order on the detector."""

from __future__ import annotations

import math

import numpy as np
from numba import njit

SQRT2 = math.sqrt(2.0)
NORM = 1.0 / math.sqrt(2.0 * math.pi)


@njit(cache=True, nogil=True)
def slice_rows(centre, sigma, first, rows, weight, height):
    """Fraction of a slice in each row, and mean height above ``centre`` of the light in that row.

    The slice is a Gaussian across the dispersion; rows are pixels of unit size centred on integers, from
    ``first``.  The outermost rows take the wings, so that fractions add up to 1.
    """
    edge = 0.0
    density = 0.0
    for r in range(rows):
        z = (first + r + 0.5 - centre) / sigma
        if r == rows - 1:
            next_edge = 1.0
            next_density = 0.0
        else:
            next_edge = 0.5 * (1.0 + math.erf(z / SQRT2))
            next_density = NORM * math.exp(-0.5 * z * z)
        part = next_edge - edge
        weight[r] = part
        if part > 1e-13:
            height[r] = -sigma * (next_density - density) / part
        else:
            height[r] = first + r - centre
        edge = next_edge
        density = next_density


@njit(cache=True, nogil=True)
def _at(values, slopes, i, t, h):
    """Cubic Hermite interpolation between fine points i and i + 1, 0 <= t <= 1; slopes per column."""
    a = values[i]
    b = values[i + 1]
    da = slopes[i] * h
    db = slopes[i + 1] * h
    return a + t * (da + t * (3.0 * (b - a) - 2.0 * da - db + t * (2.0 * (a - b) + da + db)))


@njit(cache=True, nogil=True)
def paint_slice(
    image, x_first, x_low, x_high, y_low, y_high, centre, height0, offset, tangent, fraction, sigma,
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
    spectrum, total, moment : (fine,) density per column and integrals of ``spectrum_kernels.cumulate``
    full : (cell,) moment of every complete cell
    """
    nodes = len(centre)
    reach = math.ceil(6.0 * sigma) + 1
    rows = 2 * reach + 1
    h = 1.0 / sub
    w0 = np.zeros(rows)
    w1 = np.zeros(rows)
    d0 = np.zeros(rows)
    d1 = np.zeros(rows)
    slope = np.empty(sub + 1)
    first0 = math.floor(centre[0] + 0.5) - reach
    slice_rows(centre[0], sigma, first0, rows, w0, d0)
    for k in range(nodes - 1):
        first1 = math.floor(centre[k + 1] + 0.5) - reach
        slice_rows(centre[k + 1], sigma, first1, rows, w1, d1)
        start = k * sub
        cell = total[start + sub] - total[start]
        if cell != 0.0:
            # Derivative of the moment is (x - node) times the density.
            for j in range(sub + 1):
                slope[j] = j * h * spectrum[start + j]
            for row in range(max(min(first0, first1), y_low), min(max(first0, first1) + rows, y_high)):
                r0 = row - first0
                r1 = row - first1
                in0 = 0 <= r0 < rows
                in1 = 0 <= r1 < rows
                fa = fraction[k] * w0[r0] if in0 else 0.0
                fb = fraction[k + 1] * w1[r1] if in1 else 0.0
                if fa == 0.0 and fb == 0.0:
                    continue
                ha = d0[r0] if in0 else row - centre[k]
                hb = d1[r1] if in1 else row - centre[k + 1]
                sa = x_first + k + offset + tangent[k] * (height0[k] + ha)
                sb = x_first + k + 1 + offset + tangent[k + 1] * (height0[k + 1] + hb)
                # Pixel p covers [p - 0.5, p + 0.5).
                pixel = math.floor(sa + 0.5)
                last = math.floor(sb + 0.5)
                before = 0.0
                while True:
                    if pixel >= last:
                        after = fa * cell + (fb - fa) * full[k]
                    else:
                        t = (pixel + 0.5 - sa) / (sb - sa)
                        f = t * sub
                        i = min(int(f), sub - 1)
                        f -= i
                        area = _at(total, spectrum, start + i, f, h) - total[start]
                        ma = moment[start + i]
                        mb = full[k] if i == sub - 1 else moment[start + i + 1]
                        ga = slope[i] * h
                        gb = slope[i + 1] * h
                        bend = 3.0 * (mb - ma) - 2.0 * ga - gb + f * (2.0 * (ma - mb) + ga + gb)
                        part = ma + f * (ga + f * bend)
                        after = fa * area + (fb - fa) * part
                    if x_low <= pixel < x_high:
                        image[row, pixel] += after - before
                    if pixel >= last:
                        break
                    before = after
                    pixel += 1
        w0, w1 = w1, w0
        d0, d1 = d1, d0
        first0 = first1
