"""Measure how far the rows of a slit image are displaced along the dispersion."""

from __future__ import annotations

import numpy as np

from apero_kernels._jit import kernel
from apero_kernels.contracts import check_float, check_integer
from apero_kernels.fine import derivative_weights

FEWEST_PIXELS = 12  # in a section


@kernel
def _slopes(templates, weights, out):
    rows, columns = templates.shape
    reach = weights.shape[0]
    for o in range(rows):
        for x in range(columns):
            total = np.nan
            if reach <= x < columns - reach:
                total = 0.0
                for k in range(1, reach + 1):
                    total += weights[k - 1] * (templates[o, x + k] - templates[o, x - k])
            out[o, x] = total


@kernel
def _row_shifts(image, var, rows, which, templates, slopes, edges, shifts, errors, places):
    for i in range(rows.shape[0]):
        y = rows[i]
        o = which[i]
        for s in range(edges.shape[0] - 1):
            shifts[i, s] = np.nan
            errors[i, s] = np.nan
            places[i, s] = np.nan
            # Sums of weight times products of the terms 1, T, T' and the data; x about the middle.
            s1 = 0.0
            st = 0.0
            stt = 0.0
            sd = 0.0
            sdt = 0.0
            sdd = 0.0
            sv = 0.0
            svt = 0.0
            svd = 0.0
            centre = 0.0
            n = 0
            if 0 <= y < image.shape[0]:
                for x in range(edges[s], edges[s + 1]):
                    value = np.float64(image[y, x])
                    noise = np.float64(var[y, x])
                    t = templates[o, x]
                    d = slopes[o, x]
                    if not (np.isfinite(value + t + d) and noise > 0.0):
                        continue
                    w = 1.0 / noise
                    s1 += w
                    st += w * t
                    stt += w * t * t
                    sd += w * d
                    sdt += w * d * t
                    sdd += w * d * d
                    sv += w * value
                    svt += w * value * t
                    svd += w * value * d
                    centre += w * d * d * x
                    n += 1
            if n < FEWEST_PIXELS or not s1 > 0.0:
                continue
            # Without the constant term ...
            a = stt - st * st / s1
            b = sdt - st * sd / s1
            c = sdd - sd * sd / s1
            u = svt - sv * st / s1
            v = svd - sv * sd / s1
            determinant = a * c - b * b
            if not (a > 0.0 and c > 0.0 and determinant > 1e-10 * a * c):
                continue
            # ... amplitude and amplitude times shift.
            height = (c * u - b * v) / determinant
            if not height > 0.0:
                continue
            shifts[i, s] = (a * v - b * u) / determinant / height
            errors[i, s] = np.sqrt(a / determinant) / height
            places[i, s] = centre / sdd


def row_shifts(
    image: np.ndarray,
    var: np.ndarray,
    rows: np.ndarray,
    which: np.ndarray,
    templates: np.ndarray,
    edges: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Displacement of image rows against template spectra, section by section.

    Parameters
    ----------
    image, var : floating[y, x]
        Image and its variance; pixels without a finite value and a positive variance take no part.
    rows : int64[row]
        Rows to be measured.
    which : int64[row]
        Template of each.
    templates : float64[template, x]
        Spectra; NaN = unknown.
    edges : int64[section + 1]
        First column of each section and the end of the last.

    Returns
    -------
    shifts : float64[row, section]
        px: the row shows at x what the template shows at x + shift.  NaN for fewer than 12 pixels, no
        light, or a template without structure.
    errors : float64[row, section]
        Standard deviations.
    places : float64[row, section]
        Column the shift belongs to: mean of the columns, weighted with what they tell about it.

    Raises
    ------
    TypeError, ValueError
        Wrong dtype or shape, a template or section that does not exist.

    Notes
    -----
    One Gauss-Newton step of least squares: row = a T + b + a shift dT/dx; right to second order in the
    shift, so straighten with what was found and repeat.
    """
    check_float("image", image, 2)
    check_float("var", var, 2, image.shape)
    check_integer("rows", rows, 1, np.int64)
    check_integer("which", which, 1, np.int64, rows.shape)
    check_float("templates", templates, 2)
    check_integer("edges", edges, 1, np.int64)
    if templates.shape[1] != image.shape[1]:
        raise ValueError(f"templates: {templates.shape[1]} columns, expected {image.shape[1]} as the image")
    if which.size and not (which.min() >= 0 and which.max() < templates.shape[0]):
        raise ValueError(f"which: {which.min()}..{which.max()}, expected 0..{templates.shape[0] - 1}")
    if edges.size < 2 or edges[0] < 0 or edges[-1] > image.shape[1] or (np.diff(edges) <= 0).any():
        raise ValueError(f"edges: {edges}, expected rising columns between 0 and {image.shape[1]}")
    # One memory layout: the loops are compiled once.
    image, var, templates = (np.ascontiguousarray(plane) for plane in (image, var, templates))
    slopes = np.empty(templates.shape)
    _slopes(templates, derivative_weights(), slopes)
    shape = (rows.size, edges.size - 1)
    shifts, errors, places = np.empty(shape), np.empty(shape), np.empty(shape)
    _row_shifts(image, var, rows, which, templates, slopes, edges, shifts, errors, places)
    return shifts, errors, places
