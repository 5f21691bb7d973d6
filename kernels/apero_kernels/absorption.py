"""Absorption by the atmosphere: line profiles on a fine grid, and how the spectrograph sees them.

The fine grid is uniform in velocity: point j lies at the wavelength ``first * exp(j * step / c)``.
"""

from __future__ import annotations

import math

import numpy as np

from apero_kernels._jit import kernel
from apero_kernels.contracts import check_float, check_output, check_positive

SMALLEST = 1e-4
"""The line spread ends where it has fallen to this part of its maximum."""
NODES = 2048
"""Points of the tabulated line spread."""
EXPONENT_STEP = 0.02
"""Distance of the exponents for which it is tabulated."""
EXPONENTS = (1.0, 8.0)
MOST_TABLES = 8
"""Tables of line spreads that are kept."""
FOUR_LN_2 = 4.0 * math.log(2.0)

_TABULATED: dict[tuple[float, int], tuple[np.ndarray, np.ndarray]] = {}


@kernel
def _add_lines(place, area, fwhm, share, reach, out):
    n = out.shape[0]
    for k in range(place.shape[0]):
        first = max(math.ceil(place[k] - reach[k]), 0)
        end = min(math.floor(place[k] + reach[k]) + 1, n)
        width = fwhm[k]
        lorentz = share[k] * area[k] * 2.0 / (math.pi * width)
        gauss = (1.0 - share[k]) * area[k] * math.sqrt(FOUR_LN_2 / math.pi) / width
        edge = 2.0 * reach[k] / width
        # Lowered to end at 0: a step at the end of the wing would look like an edge of the continuum.
        foot = lorentz / (1.0 + edge * edge)
        for j in range(first, end):
            t = 2.0 * (j - place[k]) / width
            value = lorentz / (1.0 + t * t) - foot
            if t * t < 40.0:
                value += gauss * math.exp(-0.25 * FOUR_LN_2 * t * t)
            out[j] += max(value, 0.0)


@kernel
def _tables(first_exponent, count, reach, table):
    nodes = table.shape[1]
    for k in range(count):
        p = first_exponent + k * EXPONENT_STEP
        for j in range(nodes):
            t = reach[k] * j / (nodes - 2)
            table[k, j] = math.exp(-0.5 * t**p)


@kernel
def _weight(at, centre, per_point, shape):
    u = abs(at - centre) * per_point
    i = int(u)
    # Unsigned: no test for places counted from the end.
    k = np.uint64(i)
    low = shape[k]
    return low + (u - i) * (shape[k + np.uint64(1)] - low)


@kernel
def _three_means(one, two, three, first, centre, per_point, shape):
    # All sums in one loop: each waits for its own last term only, and no weight is stored.
    total, a, b, c = 0.0, 0.0, 0.0, 0.0
    for j in range(one.shape[0]):
        w = _weight(first + j, centre, per_point, shape)
        total += w
        a += w * one[j]
        b += w * two[j]
        c += w * three[j]
    return a / total, b / total, c / total


@kernel
def _mean(values, first, centre, per_point, shape):
    total, mean = 0.0, 0.0
    for j in range(values.shape[0]):
        w = _weight(first + j, centre, per_point, shape)
        total += w
        mean += w * values[j]
    return mean / total


@kernel
def _spread(values, place, fwhm, exponent, step, first_exponent, reach, table, out):
    planes, n = values.shape
    orders, columns = place.shape
    nodes = table.shape[1]
    for o in range(orders):
        for x in range(columns):
            p = exponent[o, x]
            k = round((p - first_exponent) / EXPONENT_STEP) if p == p else -1
            bad = not (k >= 0 and k < table.shape[0] and fwhm[o, x] > 0.0 and place[o, x] == place[o, x])
            if not bad:
                scale = 0.5 * fwhm[o, x] / (2.0 * math.log(2.0)) ** (1.0 / p) / step
                half = reach[k] * scale
                first = math.ceil(place[o, x] - half)
                end = math.floor(place[o, x] + half) + 1
                bad = first < 0 or end > n or end <= first
            if bad:
                for c in range(planes):
                    out[c, o, x] = np.nan
                continue
            per_point = (nodes - 2) / (reach[k] * scale)
            at, shape = place[o, x], table[k]
            c = 0
            while c + 3 <= planes:
                out[c, o, x], out[c + 1, o, x], out[c + 2, o, x] = _three_means(
                    values[c, first:end], values[c + 1, first:end], values[c + 2, first:end],
                    first, at, per_point, shape,
                )  # fmt: skip
                c += 3
            while c < planes:
                out[c, o, x] = _mean(values[c, first:end], first, at, per_point, shape)
                c += 1


def add_lines(
    place: np.ndarray,
    area: np.ndarray,
    fwhm: np.ndarray,
    share: np.ndarray,
    reach: np.ndarray,
    out: np.ndarray,
) -> None:
    """Add pseudo-Voigt profiles to a grid: ``area (share L + (1 - share) G)``, both of the same FWHM.

    Parameters
    ----------
    place : float64[line]
        Grid points (float).
    area : float64[line]
        Sum of the profile over the grid points.
    fwhm : float64[line]
        Grid points, above 0.
    share : float64[line]
        Lorentzian part, 0 to 1 (Thompson, Cox & Hastings 1987, J. Appl. Cryst. 20, 79).
    reach : float64[line]
        Grid points beyond which a line adds nothing; its Lorentzian wing is lowered to end there at 0.
    out : float64[point]
        Added to.

    Raises
    ------
    TypeError, ValueError
        Wrong dtype or shape.
    """
    check_float("place", place, 1)
    for name, array in (("area", area), ("fwhm", fwhm), ("share", share), ("reach", reach)):
        check_float(name, array, 1, place.shape)
    check_output("out", out, out.shape)
    _add_lines(place, area, fwhm, share, reach, out)


def spread(
    values: np.ndarray,
    place: np.ndarray,
    fwhm: np.ndarray,
    exponent: np.ndarray,
    step: float,
    out: np.ndarray,
) -> None:
    """Evaluate spectra of a fine grid at pixels, seen through a line spread that changes with the pixel.

    Parameters
    ----------
    values : floating[plane, point]
        Spectra on the fine grid.
    place : float64[order, x]
        Position of each pixel centre on the grid, points (float); NaN gives NaN.
    fwhm, exponent : float64[order, x]
        Line spread ``exp(-0.5 |v / s|^p)``, FWHM = 2 s (2 ln 2)^(1/p), FWHM in km/s, p from 1 to 8.
    step : float
        Distance of grid points, km/s.
    out : float64[plane, order, x]
        Weighted means; NaN where the line spread leaves the grid or is not a number.

    Raises
    ------
    TypeError, ValueError
        Wrong dtype or shape, `step` not above 0.

    Notes
    -----
    The line spread of the pixel is used, not that of the grid point, and ends where it falls below 1e-4 of
    its maximum.  It is read from a table for exponents 0.02 apart, which changes weights by less than 1e-2 of
    the maximum and means by far less.
    """
    check_float("values", values, 2)
    check_float("place", place, 2)
    check_float("fwhm", fwhm, 2, place.shape)
    check_float("exponent", exponent, 2, place.shape)
    check_positive("step", step)
    check_output("out", out, (values.shape[0], *place.shape))
    found = exponent[np.isfinite(exponent) & (exponent >= EXPONENTS[0]) & (exponent <= EXPONENTS[1])]
    if not found.size:
        out[...] = np.nan
        return
    low = EXPONENT_STEP * math.floor(float(found.min()) / EXPONENT_STEP)
    count = round((float(found.max()) - low) / EXPONENT_STEP) + 2
    reach, table = _line_spreads(low, count)
    _spread(values, place, fwhm, exponent, float(step), low, reach, table, out)


def _line_spreads(low: float, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Reach and table of `count` exponents from `low` on; fits ask for the same ones in every step."""
    found = _TABULATED.get((low, count))
    if found is None:
        reach = (-2.0 * math.log(SMALLEST)) ** (1.0 / (low + EXPONENT_STEP * np.arange(count)))
        table = np.empty((count, NODES))
        _tables(low, count, reach, table)
        if len(_TABULATED) >= MOST_TABLES:
            _TABULATED.clear()
        found = _TABULATED[low, count] = reach, table
    return found
