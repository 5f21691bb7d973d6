"""From slopes of the preprocessed frame to electrons of the calibrated one, in one pass over the pixels."""

from __future__ import annotations

import numpy as np

from apero_kernels._jit import kernel
from apero_kernels.contracts import check_float, check_integer, check_output, check_positive


@kernel
def _start(slope, var, lowest, highest, values, noise, known):
    # Rows are turned round; loops without branches, so that several pixels are worked on at once.
    last = slope.shape[0] - 1
    for x in range(values.shape[0]):
        value = slope[last - x]
        values[x] = value
        noise[x] = var[last - x]
        # A comparison with NaN is false: what is missing stays missing.
        known[x] = (value >= lowest) & (value <= highest)


@kernel
def _finish(values, noise, known, scale, scale_var, out, out_var):
    blank = out.dtype.type(np.nan)
    for x in range(values.shape[0]):
        value = values[x]
        out[x] = value * scale if known[x] else blank
        both = known[x] & (value == value)
        out_var[x] = noise[x] * scale_var if both else blank


@kernel
def _to_electrons(slope, var, dark, dark_var, bad, x0, y0, factor, lowest, highest, out, out_var):
    rows, columns = out.shape
    last_row = slope.shape[0] - 1 - y0
    end = slope.shape[1] - x0
    first = end - columns
    scale = out.dtype.type(factor)
    scale_var = out.dtype.type(factor * factor)
    values = np.empty(columns, slope.dtype)
    noise = np.empty(columns, var.dtype)
    known = np.empty(columns, np.bool_)
    for y in range(rows):
        source = last_row - y
        _start(slope[source, first:end], var[source, first:end], lowest, highest, values, noise, known)
        if dark.shape[0] > 0:
            line = dark[source, first:end]
            for x in range(columns):
                values[x] -= line[columns - 1 - x]
        if dark_var.shape[0] > 0:
            line_var = dark_var[source, first:end]
            for x in range(columns):
                noise[x] += line_var[columns - 1 - x]
        if bad.shape[0] > 0:
            marks = bad[y]
            for x in range(columns):
                known[x] = known[x] & (marks[x] == 0)
        _finish(values, noise, known, scale, scale_var, out[y], out_var[y])


@kernel
def _split_row(image, var, photon, floor, lowest, highest, out_base):
    light = image.dtype.type(photon)
    least = image.dtype.type(floor)
    blank = image.dtype.type(np.nan)
    nothing = image.dtype.type(0.0)
    for x in range(image.shape[0]):
        value = image[x]
        known = (value >= lowest) & (value <= highest)
        signal = light * (value if value > nothing else nothing)
        base = var[x] - signal
        # Written so that a variance that is not known stays so.
        base = least if base < least else base
        out_base[x] = base if known else blank
        image[x] = value if known else blank
        var[x] = base + signal if known else blank


@kernel
def _split_variance(image, var, photon, floor, lowest, highest, out_base):
    for y in range(image.shape[0]):
        _split_row(image[y], var[y], photon, floor, lowest, highest, out_base[y])


def to_electrons(
    slope: np.ndarray,
    var: np.ndarray,
    x0: int,
    y0: int,
    factor: float,
    limits: tuple[float, float],
    out: np.ndarray,
    out_var: np.ndarray,
    *,
    dark: np.ndarray | None = None,
    dark_var: np.ndarray | None = None,
    bad: np.ndarray | None = None,
) -> None:
    """Subtract the dark, turn both axes round, cut, and multiply.

    Parameters
    ----------
    slope, var : floating[row, column]
        Preprocessed frame (ADU/s) and its variance.
    x0, y0 : int
        First column and row of the calibrated frame in the turned one.
    factor : float
        Electrons per exposure of one ADU/s.
    limits : (float, float)
        Slopes below the first or above the second become NaN, before the dark is subtracted.
    out, out_var : floating[y, x]
        Written: electrons and their square; both NaN where one is missing.
    dark, dark_var : floating[row, column], optional
        Reference dark (ADU/s) and its variance.
    bad : uint8[y, x], optional
        1 = NaN.

    Raises
    ------
    TypeError, ValueError
        Wrong dtype or shape, a cut beyond the frame, factor not positive.
    """
    check_float("slope", slope, 2)
    check_float("var", var, 2, slope.shape)
    check_positive("factor", factor)
    check_float("out", out, 2)
    shape = out.shape
    check_output("out", out, shape)
    check_output("out_var", out_var, shape)
    if x0 < 0 or y0 < 0 or y0 + shape[0] > slope.shape[0] or x0 + shape[1] > slope.shape[1]:
        raise ValueError(f"out: shape {shape} at x0 = {x0}, y0 = {y0} does not fit into {slope.shape}")
    empty = np.empty((0, 0), slope.dtype)
    for name, plane in (("dark", dark), ("dark_var", dark_var)):
        if plane is not None:
            check_float(name, plane, 2, slope.shape)
    if bad is not None:
        check_integer("bad", bad, 2, np.uint8, shape)
    _to_electrons(
        slope, var, empty if dark is None else dark, empty if dark_var is None else dark_var,
        np.empty((0, 0), np.uint8) if bad is None else bad, int(x0), int(y0), float(factor),
        float(limits[0]), float(limits[1]), out, out_var,
    )  # fmt: skip


def split_variance(
    image: np.ndarray,
    var: np.ndarray,
    photon: float,
    floor: float,
    limits: tuple[float, float],
    out_base: np.ndarray,
) -> None:
    """Blank what is out of range, in place, and write the variance that does not come from the signal.

    Parameters
    ----------
    image, var : floating[y, x]
        Calibrated frame and its variance; changed: NaN outside the limits, elsewhere the variance becomes the
        sum of its two parts.
    photon : float
        Variance per unit of signal.
    floor : float
        Least variance without signal.
    limits : (float, float)
        Lowest and highest value.
    out_base : floating[y, x]
        Written: variance minus `photon` times the image where that is positive, at least `floor`.

    Raises
    ------
    TypeError, ValueError
        Wrong dtype or shape.
    """
    check_output("image", image, check_float("image", image, 2).shape)
    check_output("var", var, image.shape)
    check_output("out_base", out_base, image.shape)
    _split_variance(image, var, float(photon), float(floor), float(limits[0]), float(limits[1]), out_base)
