"""Corrections of a raw frame that follow from how the detector is read, and its orientation.

Raw frames are ``[row, column]``: rows are read one after the other, `amplifiers` stripes of equal width
side by side, odd ones (from 0) in reverse direction.  Everything about the detector comes in as an
argument: number of amplifiers, width of the reference border.
"""

from __future__ import annotations

import numpy as np

from apero_kernels._jit import kernel
from apero_kernels.contracts import check_float, check_output
from apero_kernels.robust import median_in_place

_TILE = 32  # rows and columns turned together: both sides stay in the L1 cache

# Coupling of the summed signal of all amplifiers into each of them: amplitudes of the sum and of its first
# and second derivative along the read direction (parameters of the reference pipeline).
COUPLING = (1.490711e-4, 8.080468e-4, -6.523985e-4)


@kernel
def _rotate(raw, out):
    rows, columns = raw.shape
    # By way of a small tile: rows of a power of two would fall on the same few cache lines.
    tile = np.empty((_TILE, _TILE), raw.dtype)
    for y0 in range(0, columns, _TILE):
        height = min(_TILE, columns - y0)
        for x0 in range(0, rows, _TILE):
            width = min(_TILE, rows - x0)
            if height < _TILE or width < _TILE:
                for y in range(y0, y0 + height):
                    for x in range(x0, x0 + width):
                        out[y, x] = raw[rows - 1 - x, y]
                continue
            # Loops of known length, as fast as moves of whole registers allow.
            for x in range(_TILE):
                source = rows - 1 - (x0 + x)
                for y in range(_TILE):
                    tile[x, y] = raw[source, y0 + y]
            for y in range(_TILE):
                for x in range(_TILE):
                    out[y0 + y, x0 + x] = tile[x, y]


@kernel
def _cut(pp, x0, y0, factor, out):
    rows, columns = pp.shape
    for y in range(out.shape[0]):
        row = rows - 1 - (y + y0)
        for x in range(out.shape[1]):
            out[y, x] = pp[row, columns - 1 - (x + x0)] * factor


@kernel
def _reference_levels(image, amplifiers, border, out):
    rows, columns = image.shape
    width = columns // amplifiers
    scratch = np.empty(border * width, image.dtype)
    for side in range(2):
        first = 0 if side == 0 else rows - border
        for a in range(amplifiers):
            for parity in range(2):
                n = 0
                for y in range(first, first + border):
                    for j in range(parity, width, 2):
                        value = image[y, a * width + j]
                        if not np.isnan(value):
                            scratch[n] = value
                            n += 1
                out[side, a, parity] = median_in_place(scratch, n)


@kernel
def _subtract_levels(image, levels, out):
    rows, columns = image.shape
    width = columns // levels.shape[1]
    base = np.empty(columns, np.float64)
    gradient = np.empty(columns, np.float64)
    for x in range(columns):
        a = x // width
        parity = (x - a * width) & 1
        base[x] = levels[0, a, parity]
        gradient[x] = (levels[1, a, parity] - base[x]) / max(rows - 1, 1)
    for y in range(rows):
        for x in range(columns):
            out[y, x] = image[y, x] - (base[x] + gradient[x] * y)


@kernel
def _subtract_folded(image, pattern, scale, out):
    rows, columns = image.shape
    width = pattern.shape[1]
    for y in range(rows):
        for a in range(columns // width):
            x0 = a * width
            if a & 1:
                for j in range(width):
                    out[y, x0 + j] = image[y, x0 + j] - scale * pattern[y, width - 1 - j]
            else:
                for j in range(width):
                    out[y, x0 + j] = image[y, x0 + j] - scale * pattern[y, j]


@kernel
def _couple(image, amplifiers, c0, c1, c2, out):
    rows, columns = image.shape
    width = columns // amplifiers
    total = np.empty(width, np.float64)
    first = np.empty(width, np.float64)
    pattern = np.empty(width, np.float32)
    mirrored = np.empty(width, np.float32)
    for y in range(rows):
        total[:] = 0.0
        for a in range(amplifiers):
            x0 = a * width
            # A missing pixel adds nothing: its own signal couples too little to be missed.
            if a & 1:
                for j in range(width):
                    value = np.float64(image[y, x0 + width - 1 - j])
                    total[j] += value if value == value else 0.0
            else:
                for j in range(width):
                    value = np.float64(image[y, x0 + j])
                    total[j] += value if value == value else 0.0
        _gradient(total, first)
        for j in range(width):
            pattern[j] = c0 * total[j] + c1 * first[j]
        _gradient(first, total)
        for j in range(width):
            pattern[j] += c2 * total[j]
            mirrored[width - 1 - j] = pattern[j]
        for a in range(amplifiers):
            x0 = a * width
            if a & 1:
                for j in range(width):
                    out[y, x0 + j] = image[y, x0 + j] + mirrored[j]
            else:
                for j in range(width):
                    out[y, x0 + j] = image[y, x0 + j] + pattern[j]


@kernel
def _gradient(values, out):
    n = values.shape[0]
    if n < 2:
        out[:] = 0.0
        return
    out[0] = values[1] - values[0]
    for j in range(1, n - 1):
        out[j] = 0.5 * (values[j + 1] - values[j - 1])
    out[n - 1] = values[n - 1] - values[n - 2]


def check_amplifiers(columns: int, amplifiers: int) -> int:
    """Return the columns of one amplifier.

    Raises
    ------
    ValueError
        The columns cannot be shared equally.
    """
    if amplifiers < 1 or columns % amplifiers:
        raise ValueError(f"amplifiers: {amplifiers} do not divide the {columns} columns of the image equally")
    return columns // amplifiers


def rotate_to_pp(raw: np.ndarray, out: np.ndarray) -> None:
    """Write a raw plane in the orientation of preprocessed frames: ``pp[i, j] = raw[rows - 1 - j, i]``.

    Parameters
    ----------
    raw : any native dtype[row, column]
        Slope, variance or mask.
    out : same dtype[column, row]
        Written (90 degrees clockwise, `numpy.rot90` with ``k=-1``).

    Raises
    ------
    TypeError, ValueError
        Wrong number of axes, byte order, or dtype or shape of `out`.
    """
    for name, plane in (("raw", raw), ("out", out)):
        if plane.ndim != 2:
            raise ValueError(f"{name}: {plane.ndim} axes, expected 2")
        if not plane.dtype.isnative:
            raise TypeError(f"{name}: dtype {plane.dtype.str} is not in the byte order of this machine")
    if out.shape != raw.shape[::-1]:
        raise ValueError(f"out: shape {out.shape}, expected {raw.shape[::-1]}")
    if out.dtype != raw.dtype:
        raise TypeError(f"out: dtype {out.dtype}, expected that of the raw plane, {raw.dtype}")
    _rotate(raw, out)


def cut_to_cal(pp: np.ndarray, x0: int, y0: int, out: np.ndarray, factor: float = 1.0) -> None:
    """Write the calibrated frame of a preprocessed one: both axes turned round, then cut.

    Parameters
    ----------
    pp : floating[row, column]
        Preprocessed plane, ADU/s.
    x0, y0 : int
        First column and row after turning.
    out : floating[y, x]
        Written: ``cal[y, x] = factor * pp[rows - 1 - (y + y0), columns - 1 - (x + x0)]``, which is
        ``factor * raw[x + x0, raw_columns - 1 - (y + y0)]``.
    factor : float
        Gain times exposure time for electrons; its square for a variance.

    Raises
    ------
    TypeError, ValueError
        Wrong dtype or shape; the cut reaches beyond the frame.
    """
    check_float("pp", pp, 2)
    check_float("out", out, 2)
    check_output("out", out, out.shape)
    end = (y0 + out.shape[0], x0 + out.shape[1])
    if min(x0, y0) < 0 or end[0] > pp.shape[0] or end[1] > pp.shape[1]:
        raise ValueError(
            f"the cut [{y0}:{end[0]}, {x0}:{end[1]}] reaches beyond the frame of shape {pp.shape}"
        )
    _cut(pp, int(x0), int(y0), float(factor), out)


def reference_levels(image: np.ndarray, amplifiers: int, border: int) -> np.ndarray:
    """Measure the reference pixels at both ends of every amplifier.

    Parameters
    ----------
    image : floating[row, column]
        Raw slope.
    amplifiers, border : int
        Number of amplifiers, width of the reference border in pixels.

    Returns
    -------
    float64[2, amplifier, 2]
        Median of the first (0) and the last (1) `border` rows, for even (0) and odd (1) columns of each
        amplifier; NaN if all of them are.

    Raises
    ------
    TypeError, ValueError
        Wrong array, amplifiers that do not divide the columns, a border that does not fit.
    """
    check_float("image", image, 2)
    check_amplifiers(image.shape[1], amplifiers)
    if border < 1 or 2 * border > image.shape[0]:
        raise ValueError(f"border: {border} rows at each end do not fit into {image.shape[0]} rows")
    out = np.empty((2, amplifiers, 2), np.float64)
    _reference_levels(image, int(amplifiers), int(border), out)
    return out


def subtract_reference(image: np.ndarray, levels: np.ndarray, out: np.ndarray) -> None:
    """Subtract, from each parity of each amplifier, the line through its two reference levels.

    Parameters
    ----------
    image, out : floating[row, column]
        Raw slope; corrected slope (written, may be `image` itself).
    levels : float64[2, amplifier, 2]
        From `reference_levels`.  Levels that are NaN make their columns NaN: without reference there is
        no zero.

    Raises
    ------
    TypeError, ValueError
        Wrong dtype or shape.
    """
    check_float("image", image, 2)
    check_float("levels", levels, 3)
    if levels.shape[0] != 2 or levels.shape[2] != 2:
        raise ValueError(f"levels: shape {levels.shape}, expected (2, amplifiers, 2)")
    check_amplifiers(image.shape[1], levels.shape[1])
    check_output("out", out, image.shape)
    _subtract_levels(image, levels, out)


def subtract_folded(image: np.ndarray, pattern: np.ndarray, out: np.ndarray, scale: float = 1.0) -> None:
    """Subtract one pattern from every amplifier, mirrored in the odd ones.

    Parameters
    ----------
    image, out : floating[row, column]
        Raw plane; corrected plane (written, may be `image` itself).
    pattern : floating[row, pixel]
        In read order; its length divides the number of columns.
    scale : float
        Factor of the pattern.

    Raises
    ------
    TypeError, ValueError
        Wrong dtype or shape.
    """
    check_float("image", image, 2)
    check_float("pattern", pattern, 2)
    check_output("out", out, image.shape)
    rows, columns = image.shape
    if pattern.shape[0] != rows or pattern.shape[1] == 0 or columns % pattern.shape[1]:
        raise ValueError(
            f"pattern: shape {pattern.shape} does not fit an image of shape {image.shape}; expected "
            "(rows, columns of one amplifier)"
        )
    _subtract_folded(image, pattern, float(scale), out)


def subtract_static(
    image: np.ndarray,
    slope_map: np.ndarray,
    intercept_map: np.ndarray,
    exptime_s: float,
    out: np.ndarray,
) -> None:
    """Subtract the fixed pattern of an amplifier, ``slope_map + intercept_map / exptime_s``.

    Parameters
    ----------
    image, out : floating[row, column]
        Raw slope, ADU/s; corrected slope (written, may be `image` itself).
    slope_map : floating[row, pixel]
        ADU/s, in read order.
    intercept_map : floating[row, pixel]
        ADU.
    exptime_s : float
        Exposure time, s.

    Raises
    ------
    TypeError, ValueError
        Wrong dtype or shape, exposure time not positive.
    """
    if not exptime_s > 0:
        raise ValueError(f"exptime_s: {exptime_s}, expected an exposure time above 0 s")
    check_float("slope_map", slope_map, 2)
    check_float("intercept_map", intercept_map, 2, slope_map.shape)
    pattern = slope_map + intercept_map * slope_map.dtype.type(1.0 / exptime_s)
    subtract_folded(image, pattern, out)


def subtract_coupling(
    image: np.ndarray,
    amplifiers: int,
    out: np.ndarray,
    coefficients: tuple[float, float, float] = COUPLING,
) -> None:
    """Undo the coupling of the summed signal of all amplifiers into each of them.

    Parameters
    ----------
    image, out : floating[row, column]
        Raw slope, ADU/s; corrected slope (written, may be `image` itself).  NaN adds nothing to the sum
        and stays NaN.
    amplifiers : int
        Number of amplifiers.
    coefficients : (float, float, float)
        Amplitudes of the sum, its first and its second derivative in read direction.

    Raises
    ------
    TypeError, ValueError
        Wrong dtype or shape.

    Notes
    -----
    The frame holds ``true - (c0 S + c1 S' + c2 S'')`` with S the sum over all amplifiers of what is read
    at one instant; derivatives are central differences, one-sided at the ends.  S is taken from the
    frame itself, which is right to first order (the sum is off by about 32 c0 = 0.5 per cent).
    """
    check_float("image", image, 2)
    check_amplifiers(image.shape[1], amplifiers)
    check_output("out", out, image.shape)
    c0, c1, c2 = (float(c) for c in coefficients)
    _couple(image, int(amplifiers), c0, c1, c2, out)
