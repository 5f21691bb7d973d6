"""What localisation and shape are judged by: traces, heights, motion, tilt, width of lines."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.polynomial import chebyshev
from scipy.optimize import curve_fit
from scipy.special import ndtr

from apero_dask.instruments import Instrument
from apero_dask.simulator.paint import PhotonTruth
from apero_dask.simulator.spec import Affine

if TYPE_CHECKING:
    from collections.abc import Sequence

FIBRES = "ABC"


def rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(values))))


def series_at_columns(series: np.ndarray, i: Instrument) -> np.ndarray:
    """Chebyshev series at all columns, float64[order, x]."""
    return np.asarray(chebyshev.chebval(2.0 * np.arange(i.nx) / i.nx - 1, series.T))


def trace_errors(centres: np.ndarray, true: PhotonTruth, fibre: str, i: Instrument) -> list[np.ndarray]:
    """Position minus truth where the blaze is above 0.1 and the trace on the frame, by order."""
    f = FIBRES.index(fibre)
    seen = (true.blaze[f] > 0.1) & (true.trace_px[f] >= 0) & (true.trace_px[f] <= i.ny - 1)
    difference = series_at_columns(centres, i) - true.trace_px[f]
    return [difference[o][seen[o]] for o in range(i.norders)]


def true_heights(true: PhotonTruth, fibre: str) -> np.ndarray:
    """Distance of the outer points at a quarter of the peak of the outer slices, [order, x].

    By looking at one slice after the other, integrated over pixels, on a fine grid of places.
    """
    f = FIBRES.index(fibre)
    u = np.arange(0.0, 6.0, 0.001)
    one = ndtr((u + 0.5) / true.slice_sigma_px) - ndtr((u - 0.5) / true.slice_sigma_px)
    reach = u[np.argmax(one < 0.25 * one[0])]
    heights = true.slice_height_px[f]
    return np.asarray(heights[:, -1] - heights[:, 0] + 2 * reach)


def frame_error(found: np.ndarray, true: np.ndarray, i: Instrument) -> np.ndarray:
    """Errors of the displacement along x and y on a grid over the frame, px, (2, point)."""
    axes = np.linspace(0, i.nx, 9), np.linspace(0, i.ny, 9)
    grid = np.stack(np.meshgrid(*axes), axis=-1).reshape(-1, 2)
    e = np.asarray(found) - np.asarray(true)
    return np.asarray(e[:2, None] + e[2:].reshape(2, 2) @ grid.T)


def relative_motion(affine: Affine, reference: Affine) -> np.ndarray:
    """Motion of the light from one epoch to another, float64[6]."""
    m, r = (np.array([[a.a, a.b], [a.c, a.d]]) for a in (affine, reference))
    turned = m @ np.linalg.inv(r)
    shift = np.array([affine.dx, affine.dy]) - turned @ [reference.dx, reference.dy]
    return np.array([*shift, *turned.ravel()])


def mixed_offset(true: PhotonTruth, f: int, o: int, height: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Displacement along x of the light at heights above the trace, px, and its amount.

    On a pixel several slices mix, each a Gaussian seen through the pixel: what counts is their mean offset.

    Parameters
    ----------
    height, x : float64[...]
        px above the trace of the order, and column.

    Returns
    -------
    float64[2, ...]: displacement against the trace (tilt and offset of slices), and light relative to the
    sum over heights.
    """
    grid = np.arange(true.trace_px.shape[-1])
    sigma = np.hypot(true.slice_sigma_px, 1 / np.sqrt(12))
    tilt = np.interp(x, grid, true.tan_tilt[f, o])
    weight = total = 0.0
    for k in range(true.slice_offset_px.shape[1]):
        centre = np.interp(x, grid, true.slice_height_px[f, o, k])
        share = np.interp(x, grid, true.slice_fraction[0 if f < 2 else 1, o, k])
        here = share * np.exp(-0.5 * ((height - centre) / sigma) ** 2)
        weight = weight + here
        total = total + here * true.slice_offset_px[o, k]
    mean = total / np.maximum(weight, 1e-300)
    return np.stack([tilt * height + mean, weight / (sigma * np.sqrt(2 * np.pi))])


def true_displacement(
    truth: PhotonTruth, dymap: np.ndarray, i: Instrument, beyond: float = 0.0, least_blaze: float = 0.1
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Displacement along x of the light on every row of the straightened frame that lies in a slit image.

    Parameters
    ----------
    beyond
        px above and below the lit height that are wanted as well.
    least_blaze
        Columns with less are left out.

    Returns
    -------
    rows : int[row]
    order : int[row]
    displacement : float64[row, x], px
        Against the mean wavelength of A and B at the trace; NaN outside the frame and the blaze.
    """
    wave = truth.wave_nm[:2].mean(axis=0)
    slope = np.gradient(wave, axis=1)
    sigma = np.hypot(truth.slice_sigma_px, 1 / np.sqrt(12))
    middle, x = i.nx // 2, np.arange(i.nx)
    rows, orders, found = [], [], []
    for f in range(len(FIBRES)):
        for o in range(i.norders):
            # The lit height: slices at +-1.5 of their distance and one standard deviation beyond.
            half = np.abs(truth.slice_height_px[f, o, :, middle]).max() + sigma + beyond
            centre = truth.trace_px[f, o, middle]
            first, last = int(np.ceil(centre - half)), int(np.floor(centre + half))
            for y in range(max(first, 0), min(last, i.ny - 1) + 1):
                row = y + dymap[y].astype(float)
                here = mixed_offset(truth, f, o, row - truth.trace_px[f, o], x)[0]
                here = here + (wave[o] - truth.wave_nm[f, o]) / slope[o]
                seen = (row > 3) & (row < i.ny - 4) & (truth.blaze[f, o] > least_blaze)
                rows.append(y)
                orders.append(o)
                found.append(np.where(seen, here, np.nan))
    return np.array(rows), np.array(orders), np.array(found)


def gaussian_width(spectrum: np.ndarray, centre: float) -> float:
    """Standard deviation of a Gaussian on a constant through a line, px; NaN if there is a hole."""

    def line(x: np.ndarray, height: float, x0: float, sigma: float, level: float) -> np.ndarray:
        return height * np.exp(-0.5 * ((x - x0) / sigma) ** 2) + level

    x = np.arange(round(centre) - 4, round(centre) + 5)
    if x[0] < 0 or x[-1] >= spectrum.size:
        return np.nan
    part = spectrum[x]
    if not np.isfinite(part).all():
        return np.nan
    start = (np.ptp(part), centre, 1.0, part.min())
    return float(abs(curve_fit(line, x, part, start, maxfev=2000)[0][2]))


def lamp_widths(
    true: PhotonTruth, fibre: str, spectra: Sequence[np.ndarray], columns: np.ndarray | None, i: Instrument
) -> np.ndarray:
    """FWHM of isolated strong lamp lines in the spectra of a fibre over that painted.

    Parameters
    ----------
    spectra : float64[x] of every order
        As measured.
    columns : float64[order, x], optional
        Column of the trace that is seen in a column of the spectra; without it they are the same.
    """
    f = FIBRES.index(fibre)
    ratios = []
    for o, echelle in enumerate(true.echelle):
        own = true.lamp[(true.lamp["fibre"] == fibre) & (true.lamp["echelle"] == echelle)]
        strong = own[(own["electrons"] > 2e4) & ~own["blended"] & ~own["saturated"]]
        painted = sum(values[f, o] for values in true.spectra.values())
        for line in strong:
            x, height = line["x_px"], line["electrons"]
            near = (np.abs(own["x_px"] - x) < 9) & (own["x_px"] != x)
            if (own["electrons"][near] > 0.002 * height).any() or not 8 < x < i.nx - 9:
                continue
            if columns is None:
                at, scale = x, 1.0
            else:
                known = np.isfinite(columns[o])
                at = float(np.interp(x, columns[o][known], np.flatnonzero(known), np.nan, np.nan))
                if not np.isfinite(at):
                    continue
                scale = float(np.interp(at, np.arange(i.nx), np.gradient(columns[o])))
            try:
                ratios.append(scale * gaussian_width(spectra[o], at) / gaussian_width(painted, x))
            except RuntimeError:
                continue  # a hit beside the line: no Gaussian fits
    found = np.array(ratios)
    return found[np.isfinite(found)]
