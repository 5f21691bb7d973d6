"""Interpolation that displaces nothing: best linear weights for light as smooth as the peaks of a comb.

A quadratic spline moves a wave of 0.3 cycles per pixel, the distance of the slices of a slit image, by up to
0.05 px, and what moves depends on where the wave falls on the pixels.  That is harmless where all images are
interpolated alike, not where positions are measured to a thousandth of a pixel.
"""

from __future__ import annotations

import numpy as np

from apero_kernels._jit import kernel
from apero_kernels.contracts import check_float, check_output

TAPS = 14  # pixels that enter an interpolated value, along either axis
PHASES = 256  # places between two pixels for which the weights are tabulated
CORRELATION = 1.8  # px, of the light: peaks 2.3 px wide at half maximum, seen by pixels, and a little more
NUGGET = 1e-6
RAMP = 4  # pixels on either side that enter a derivative


@kernel
def phase_weights(table, phase, out):
    """Weights at a phase 0..1, linear between those of the table."""
    place = phase * (table.shape[0] - 1)
    k = min(int(place), table.shape[0] - 2)
    share = place - k
    for i in range(out.shape[0]):
        out[i] = (1.0 - share) * table[k, i] + share * table[k + 1, i]


@kernel
def _along_rows(image, affine, table, out):
    # Column x of every input row as the output column x sees that row.
    rows, columns = image.shape
    weights = np.empty(TAPS)
    for yi in range(rows):
        for x in range(out.shape[1]):
            y = (yi - affine[1] - affine[4] * x) / affine[5]
            place = affine[0] + affine[2] * x + affine[3] * y
            out[yi, x] = np.nan
            if not (0.0 <= place <= columns - 1.0):
                continue
            left = int(place)
            phase_weights(table, place - left, weights)
            left -= TAPS // 2 - 1
            total = 0.0
            for k in range(TAPS):
                total += weights[k] * image[yi, min(max(left + k, 0), columns - 1)]
            out[yi, x] = total


@kernel
def _across_rows(lines, affine, table, out):
    rows = lines.shape[0]
    weights = np.empty(TAPS)
    for y in range(out.shape[0]):
        for x in range(out.shape[1]):
            place = affine[1] + affine[4] * x + affine[5] * y
            out[y, x] = np.nan
            if not (0.0 <= place <= rows - 1.0):
                continue
            top = int(place)
            phase_weights(table, place - top, weights)
            top -= TAPS // 2 - 1
            total = 0.0
            for k in range(TAPS):
                total += weights[k] * lines[min(max(top + k, 0), rows - 1), x]
            out[y, x] = total


def _correlation(distance: np.ndarray) -> np.ndarray:
    return np.exp(-0.5 * (distance / CORRELATION) ** 2)


def interpolation_weights(phases: int = PHASES) -> np.ndarray:
    """Weights of the best linear interpolation of light as smooth as the peaks.

    Returns
    -------
    float64[phases + 1, 14]
        Row k: weights of pixels -6..7 for a place k / phases beyond pixel 0; their sum is 1.

    Notes
    -----
    Minimum mean square error for a Gaussian autocorrelation (Wiener 1949; kriging in geostatistics).  Up to
    0.33 cycles per pixel, the distance of the slices, it displaces a wave by less than 0.001 px; the
    quadratic spline displaces it by 0.06 px at a quarter of a pixel, which would go into the result.
    """
    pixel = np.arange(TAPS) - TAPS // 2 + 1.0
    place = np.arange(phases + 1) / phases
    matrix = _correlation(pixel[:, None] - pixel) + NUGGET * np.eye(TAPS)
    weights = np.linalg.solve(matrix, _correlation(pixel[:, None] - place))
    return np.ascontiguousarray((weights / weights.sum(axis=0)).T)


def derivative_weights() -> np.ndarray:
    """Weights float64[4] of the differences of pixels 1..4 ahead and behind, as `interpolation_weights`."""
    pixel = np.arange(-RAMP, RAMP + 1.0)
    matrix = _correlation(pixel[:, None] - pixel) + NUGGET * np.eye(pixel.size)
    # d/dp of the correlation of pixel and place p, at p = 0.
    weights = np.linalg.solve(matrix, _correlation(pixel) * pixel / CORRELATION**2)[RAMP + 1 :]
    return np.ascontiguousarray(0.5 * weights / np.sum(weights * np.arange(1.0, RAMP + 1)))


def resample_fine(image: np.ndarray, affine: np.ndarray | tuple[float, ...], out: np.ndarray) -> None:
    """Write an image as an affine map moves it, without displacing fine structure.

    Parameters
    ----------
    image : floating[y, x]
        Without holes: a NaN spoils the 14 x 14 px around it.
    affine : float64[6]
        dx, dy, A, B, C, D: output pixel (x, y) shows the input at (dx + A x + B y, dy + C x + D y).
    out : floating[y, x]
        Written; same shape as the image.  NaN where the position lies outside the frame.

    Raises
    ------
    TypeError, ValueError
        Wrong dtype or shape, an affine vector that is not six finite numbers, or one with D near 0.

    Notes
    -----
    Two passes, along the rows and across them (Catmull & Smith 1980, Computer Graphics 14, 279), each with
    `interpolation_weights`; beyond the edge the last pixel is repeated.
    """
    check_float("image", image, 2)
    check_output("out", out, image.shape)
    vector = np.asarray(affine, np.float64)
    if vector.shape != (6,) or not np.isfinite(vector).all() or abs(vector[5]) < 0.5:
        raise ValueError(f"affine: {vector}, expected six finite numbers (dx, dy, A, B, C, D), D near 1")
    if np.may_share_memory(image, out):
        raise ValueError("out shares memory with image; pass an array of its own")
    table = interpolation_weights()
    lines = np.empty(image.shape, image.dtype)
    _along_rows(np.ascontiguousarray(image), vector, table, lines)
    _across_rows(lines, vector, table, out)
