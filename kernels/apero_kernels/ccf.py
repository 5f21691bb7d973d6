"""Cross-correlation of spectra with masks: flux through a box at every line of the mask, shifted."""

from __future__ import annotations

import numpy as np

from apero_kernels._jit import kernel
from apero_kernels.contracts import check_float, check_positive


@kernel
def _edges(wave, out):
    # Wavelengths of the borders of the pixels, half-way in wavelength; ends by the same step.
    n = wave.shape[0]
    for i in range(1, n):
        out[i] = 0.5 * (wave[i - 1] + wave[i])
    out[0] = wave[0] - 0.5 * (wave[1] - wave[0])
    out[n] = wave[n - 1] + 0.5 * (wave[n - 1] - wave[n - 2])


@kernel
def _place(edges, value):
    # Position of a wavelength in units of pixels from the first border; edges rise.
    low = 0
    high = edges.shape[0] - 1
    while high - low > 1:
        middle = (low + high) // 2
        if edges[middle] <= value:
            low = middle
        else:
            high = middle
    return low + (value - edges[low]) / (edges[low + 1] - edges[low])


@kernel
def _at(total, place):
    k = min(max(int(place), 0), total.shape[0] - 2)
    return total[k] + (place - k) * (total[k + 1] - total[k])


@kernel
def _correlate(spectra, var, wave, lines, weights, shifts, half, out, out_var, used):
    orders, n = spectra.shape
    edges = np.empty(n + 1)
    total = np.empty(n + 1)
    total_var = np.empty(n + 1)
    holes = np.empty(n + 1, np.int64)
    least = shifts[0]
    most = shifts[0]
    for j in range(shifts.shape[0]):
        least = min(least, shifts[j])
        most = max(most, shifts[j])
    with_var = var.shape[0] > 0
    for o in range(orders):
        used[o] = 0
        for j in range(shifts.shape[0]):
            out[o, j] = 0.0
            if with_var:
                out_var[o, j] = 0.0
        _edges(wave[o], edges)
        total[0] = 0.0
        total_var[0] = 0.0
        holes[0] = 0
        rising = True
        for i in range(n):
            good = np.isfinite(spectra[o, i])
            noise = 0.0
            if with_var:
                good = good and np.isfinite(var[o, i])
                noise = var[o, i]
            total[i + 1] = total[i] + (spectra[o, i] if good else 0.0)
            total_var[i + 1] = total_var[i] + (noise if good else 0.0)
            holes[i + 1] = holes[i] + (0 if good else 1)
            rising = rising and edges[i + 1] > edges[i]
        if not rising:
            continue
        for k in range(lines.shape[0]):
            first = lines[k] * least * (1.0 - half)
            last = lines[k] * most * (1.0 + half)
            # A line counts at all velocities or at none: lines that come and go would make a slope.
            if not (first >= edges[0] and last <= edges[n] and weights[k] > 0.0):
                continue
            a = int(_place(edges, first))
            b = min(int(_place(edges, last)) + 1, n)
            if holes[b] - holes[a] > 0:
                continue
            used[o] += 1
            for j in range(shifts.shape[0]):
                centre = lines[k] * shifts[j]
                low = _place(edges, centre * (1.0 - half))
                high = _place(edges, centre * (1.0 + half))
                out[o, j] += weights[k] * (_at(total, high) - _at(total, low))
                if with_var:
                    out_var[o, j] += weights[k] * weights[k] * (_at(total_var, high) - _at(total_var, low))


def correlate(
    spectra: np.ndarray,
    wave: np.ndarray,
    lines: np.ndarray,
    weights: np.ndarray,
    shifts: np.ndarray,
    width: float,
    *,
    var: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Flux through a box mask for every order and shift.

    Parameters
    ----------
    spectra : floating[order, x]
        Flux.  A line that meets a pixel that is not finite at any shift takes no part.
    wave : floating[order, x]
        Wavelengths, rising along an order; an order where they do not rise takes no part.
    lines : float64[line]
        Wavelengths at rest, same unit.
    weights : float64[line]
        Weights above 0.
    shifts : float64[shift]
        Observed over rest wavelength (Doppler factors).
    width : float
        Width of the box relative to the wavelength (velocity over that of light).
    var : floating[order, x], optional
        Variance of the flux.

    Returns
    -------
    flux : float64[order, shift]
        Weighted sum; pixels cut by the box count in part.
    variance : float64[order, shift]
        Of the sum; empty without `var`.
    used : int64[order]
        Lines.

    Raises
    ------
    TypeError, ValueError
        Wrong dtype or shape, fewer than two pixels, no shift, `width` not positive.

    Notes
    -----
    Baranne et al. 1996 (A&AS 119, 373); Pepe et al. 2002 (A&A 388, 632) for weighted masks.
    """
    check_float("spectra", spectra, 2)
    check_float("wave", wave, 2, spectra.shape)
    check_float("lines", lines, 1)
    check_float("weights", weights, 1, lines.shape)
    check_float("shifts", shifts, 1)
    check_positive("width", width)
    if spectra.shape[1] < 2 or shifts.size == 0:
        raise ValueError(
            f"spectra of {spectra.shape[1]} pixels, {shifts.size} shifts: expected at least 2 and 1"
        )
    noise = np.empty((0, 0)) if var is None else check_float("var", var, 2, spectra.shape)
    plain = [np.ascontiguousarray(a, np.float64) for a in (spectra, noise, wave, lines, weights, shifts)]
    flux = np.empty((spectra.shape[0], shifts.size))
    variance = np.empty(flux.shape if var is not None else (0, 0))
    used = np.empty(spectra.shape[0], np.int64)
    _correlate(plain[0], plain[1], plain[2], plain[3], plain[4], plain[5], 0.5 * width, flux, variance, used)
    return flux, variance, used
