"""Splines through the pixels of an image with holes: bases, and their coefficients row by row.

A basis is a piecewise polynomial of four pixels at most.  Its recursive prefilter (Unser, Aldroubi & Eden
1993, IEEE Trans. Signal Proc. 41, 821) is applied as its impulse response, cut where it falls below float32:
rows can then be filtered in any number and order with the same result.  The response is a product: a
geometric series of 4 m terms is one of 4 terms times one of m terms four times as far apart.
"""

from __future__ import annotations

from math import sqrt
from typing import NamedTuple

import numpy as np

from apero_kernels._jit import kernel

NEAR, FAR = 4, 4  # terms of the two series along a row: their product ends at pole^16, 4e-8 for -0.344
FAR_ROWS = 3  # across rows, where the pole is -0.172: pole^12 is 7e-10
REACH = NEAR - 1 + NEAR * (FAR - 1)  # pixels on either side that enter a coefficient, along a row
REACH_ROWS = NEAR - 1 + NEAR * (FAR_ROWS - 1)
_LATE = NEAR * (FAR_ROWS - 1)  # rows of the second series on either side

# Rows of the rings between the steps: 7 and 17 are needed at a time.
_FIRST_RING, _SECOND_RING = 8, 32


class Basis(NamedTuple):
    """A symmetric basis function of an interpolating spline.

    The value at x is the sum of w_k(u) c[i - 1 + k], k = 0..3, with i = floor(x + offset) and u = x - i.
    """

    name: str
    neighbour: float
    """Value of the basis at a distance of one pixel."""
    pole: float
    offset: float
    pieces: tuple[tuple[float, float, float, float], ...]
    """Polynomials w_0, w_1, w_3 in u, ascending; the four weights sum to 1."""

    @property
    def gain(self) -> float:
        """Factor of the prefilter g / ((1 - p z) (1 - p / z)) with the pole p."""
        return -self.pole / self.neighbour

    def weights(self, u: np.ndarray) -> np.ndarray:
        """Weights float64[..., 4] of the coefficients."""
        u = np.asarray(u, np.float64)[..., None]
        w0, w1, w3 = (np.polynomial.polynomial.polyval(u, c) for c in self.pieces)
        return np.concatenate([w0, w1, 1.0 - w0 - w1 - w3, w3], axis=-1)


QUADRATIC = Basis(
    "quadratic",
    1 / 8,
    sqrt(8.0) - 3.0,
    0.5,
    ((1 / 8, -1 / 2, 1 / 2, 0.0), (3 / 4, 0.0, -1.0, 0.0), (0.0, 0.0, 0.0, 0.0)),
)
"""B-spline of degree 2."""
MOMS = Basis(
    "moms",
    4 / 21,
    (sqrt(105.0) - 13.0) / 8.0,
    0.0,
    ((4 / 21, -11 / 21, 1 / 2, -1 / 6), (13 / 21, 1 / 14, -1.0, 1 / 2), (0.0, 1 / 42, 0.0, 1 / 6)),
)
"""Cubic B-spline plus 1/42 of its second derivative: of all functions of support 4 that reproduce cubics the
one with the smallest error (Blu, Thevenaz & Unser 2001, IEEE Trans. Image Proc. 10, 1069, section IV)."""
BASES = {basis.name: basis for basis in (QUADRATIC, MOMS)}


def series(pole: float, terms: int) -> np.ndarray:
    """Weights float64[terms] at distances 0.. of a geometric series of the pole, run in both directions."""
    return np.array([sum(pole ** (2 * j + k) for j in range(terms - k)) for k in range(terms)])


def prefilter(along: Basis) -> np.ndarray:
    """Weights float32[4, 4] of the four steps: along a row near and far, across rows near and far."""
    out = np.zeros((4, NEAR), np.float32)
    out[0] = along.gain * series(along.pole, NEAR)
    out[1] = series(along.pole**NEAR, FAR)
    out[2] = QUADRATIC.gain * series(QUADRATIC.pole, NEAR)
    out[3, :FAR_ROWS] = series(QUADRATIC.pole**NEAR, FAR_ROWS)
    return out


def noise_gain(phase: np.ndarray, along: Basis) -> np.ndarray:
    """Variance of white noise after interpolation along a row, relative to that before: 1 at a pixel.

    Parameters
    ----------
    phase : floating[...]
        Distance from a pixel, px; only its fraction counts.
    """
    place = np.asarray(phase, np.float64) + along.offset
    weights = along.weights(place - np.floor(place) - along.offset)
    response = along.gain / (1.0 - along.pole**2) * along.pole ** np.abs(np.arange(-4 * REACH, 4 * REACH + 1))
    # Sum of squares of the convolution, from the autocorrelation of the response.
    auto = np.correlate(response, response, "full")
    middle = response.size - 1
    matrix = np.array([[auto[middle + i - j] for i in range(4)] for j in range(4)])
    return np.asarray(np.einsum("...i,ij,...j->...", weights, matrix, weights))


@kernel
def mirrored(i, n):
    """Index in 0..n-1 of sample `i` of a row of `n` that goes on as its mirror image at both ends.

    The ends themselves are not repeated: -1 is 1 and n is n-2, the boundary of interpolating splines
    (Unser 1999, IEEE Sig. Proc. Mag. 16, 22, box 2).

    Parameters
    ----------
    i : int
        Any integer.
    n : int
        Samples, at least 1.
    """
    if n == 1:
        return 0
    period = 2 * (n - 1)
    i = abs(i) % period
    return period - i if i >= n else i


@kernel
def _seven(source, centre, l1, r1, l2, r2, l3, r3, weights, target, place, count):
    # Three pairs of equal weight and the centre.  One array is read and one written: more are too many for
    # the compiler to tell apart; unsigned indices need no test for the sign.
    w0, w1, w2, w3 = weights[0], weights[1], weights[2], weights[3]
    a, b, c, d = np.uint64(centre), np.uint64(l1), np.uint64(r1), np.uint64(l2)
    e, f, g, q = np.uint64(r2), np.uint64(l3), np.uint64(r3), np.uint64(place)
    for x in range(np.uint64(count)):
        target[q + x] = (
            w0 * source[a + x]
            + w1 * (source[b + x] + source[c + x])
            + w2 * (source[d + x] + source[e + x])
            + w3 * (source[f + x] + source[g + x])
        )


@kernel
def _five(source, centre, l1, r1, l2, r2, weights, target, place, count):
    w0, w1, w2 = weights[0], weights[1], weights[2]
    a, b, c, d = np.uint64(centre), np.uint64(l1), np.uint64(r1), np.uint64(l2)
    e, q = np.uint64(r2), np.uint64(place)
    for x in range(np.uint64(count)):
        target[q + x] = (
            w0 * source[a + x] + w1 * (source[b + x] + source[c + x]) + w2 * (source[d + x] + source[e + x])
        )


@kernel
def _load(image, y, first, count, line):
    # Pixels first..first+count-1 of a row, mirrored at the edges, and their validity behind them.
    columns = image.shape[1]
    begin = min(max(-first, 0), count)
    end = max(min(columns - first, count), begin)
    row = image[y, first + begin : first + end]
    values, valid = line[begin:end], line[count + begin : count + end]
    for x in range(end - begin):
        value = np.float32(row[x])
        good = value - value == np.float32(0.0)  # neither NaN nor infinite, without a call
        values[x] = value if good else np.float32(0.0)
        valid[x] = np.float32(1.0) if good else np.float32(0.0)
    for part in range(2):
        low, high = (0, begin) if part == 0 else (end, count)
        for x in range(low, high):
            value = np.float32(image[y, mirrored(first + x, columns)])
            good = value - value == np.float32(0.0)
            line[x] = value if good else np.float32(0.0)
            line[count + x] = np.float32(1.0) if good else np.float32(0.0)


@kernel
def next_row(image, row, step, first, width, weights, line, half, along, across, spline, room):
    """Filter input row `row` (mirrored beyond the frame) and finish coefficient row `row` - REACH_ROWS.

    Parameters
    ----------
    step : int
        Rows filtered before this one without a gap: the coefficients are valid after 2 REACH_ROWS.
    first, width : int
        Columns first..first+width-1, mirrored beyond the frame.
    weights : float32[4, 4]
        See `prefilter`.
    line, half : float32[2 (width + 2 REACH)]
        Work space.
    along, across : float32[8 * 2 width], float32[32 * 2 width]
        Rows between the steps, kept from call to call.
    spline : float32[room * 2 width or more]
        Written: ring of `room` rows, a power of two; a row holds the coefficients of the image, then those
        of its validity.
    """
    count = width + 2 * REACH
    both = 2 * width
    _load(image, mirrored(row, image.shape[0]), first - REACH, count, line)
    _seven(line, 3, 2, 4, 1, 5, 0, 6, weights[0], half, 3, 2 * count - 6)
    # Rows in front of the frame count from below 0: masks of negative numbers wrap as they should.
    place = (row & (_FIRST_RING - 1)) * both
    for plane in range(2):
        at = plane * count + REACH
        _seven(
            half, at, at - 4, at + 4, at - 8, at + 8, at - 12, at + 12, weights[1], along,
            place + plane * width, width,
        )  # fmt: skip
    if step >= 2 * (NEAR - 1):
        m = row - (NEAR - 1)
        mask = _FIRST_RING - 1
        _seven(
            along, (m & mask) * both, ((m - 1) & mask) * both, ((m + 1) & mask) * both,
            ((m - 2) & mask) * both, ((m + 2) & mask) * both, ((m - 3) & mask) * both,
            ((m + 3) & mask) * both, weights[2], across, (m & (_SECOND_RING - 1)) * both, both,
        )  # fmt: skip
    if step >= 2 * REACH_ROWS:
        m = row - REACH_ROWS
        mask = _SECOND_RING - 1
        _five(
            across, (m & mask) * both, ((m - 4) & mask) * both, ((m + 4) & mask) * both,
            ((m - 8) & mask) * both, ((m + 8) & mask) * both, weights[3], spline,
            (m & (room - 1)) * both, both,
        )  # fmt: skip
