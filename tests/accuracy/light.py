"""What calibrated frames and spectra are judged by: scattered light, flux, noise, flat, leak."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from apero_kernels.polynomial import low_pass
from scipy.interpolate import CubicSpline
from scipy.ndimage import maximum_filter1d

from apero_dask.instruments import Instrument
from apero_dask.recipes import leak_light
from apero_dask.recipes.straight import Transform
from apero_dask.simulator.paint import PhotonTruth
from tests.accuracy.detector import spread
from tests.accuracy.geometry import FIBRES, mixed_offset

HALF_HEIGHT = 10
"""px above and below a trace that hold its light."""
BRIGHT = 50.0
"""S/N of the columns whose flux is judged."""


def background_residual(found: np.ndarray, direct: np.ndarray, sound: np.ndarray) -> tuple[float, float]:
    """Mean over the bright part of the frame, between and inside the orders, over the local order flux.

    Parameters
    ----------
    found, direct : floating[y, x]
        Calibrated frame, and the light painted without scattered light.
    sound : bool[y, x]
        Pixels of usual response.
    """
    local = maximum_filter1d(direct, 61, axis=0)
    bright = sound & np.isfinite(found) & (local > 0.2 * np.percentile(local, 90))
    between, inside = bright & (direct < 1e-3 * local), bright & (direct > 0.5 * local)
    difference = found - direct
    return (
        float(difference[between].mean() / local[between].mean()),
        float(difference[inside].mean() / local[inside].mean()),
    )


def photon_limit(
    light: np.ndarray, base: np.ndarray, photon: float, trace: np.ndarray, i: Instrument
) -> np.ndarray:
    """Error of a column, electrons, float64[order, x]: best weights, on the detector.

    Parameters
    ----------
    light : floating[y, x]
        Expected electrons.
    base, photon
        Variance of a pixel = base + photon * light.
    trace : float64[fibre, order, x]
        Of the fibres that are extracted together.
    """
    out = np.zeros((i.norders, i.nx))
    x = np.arange(i.nx)
    for o in range(i.norders):
        first = np.floor(trace[:, o].min(axis=0)).astype(int) - 8
        end = np.ceil(trace[:, o].max(axis=0)).astype(int) + 9
        rows = np.clip(first + np.arange((end - first).max())[:, None], 0, i.ny - 1)
        seen, noise = light[rows, x].astype(float), base[rows, x].astype(float)
        known = np.isfinite(noise) & (seen > 0)
        share = np.where(known, seen / np.maximum(seen.sum(axis=0), 1e-9), 0.0)
        weight = np.where(known, share**2 / np.where(known, noise + photon * seen, 1.0), 0.0)
        out[o] = 1 / np.sqrt(np.maximum(weight.sum(axis=0), 1e-30))
    return out


@dataclass(frozen=True)
class Seen:
    """Column of the trace from which the light of a straightened column comes."""

    columns: np.ndarray
    """float64[order, x], mean over the slit image; NaN where it lies beside the frame."""
    inside: np.ndarray
    """float64[order, x]: part of the slit image on the frame."""

    def of(self, values: np.ndarray) -> np.ndarray:
        """A smooth quantity per trace column, [order, x], at the straightened columns."""
        grid = np.arange(values.shape[1])
        splines = (CubicSpline(grid, row, extrapolate=False) for row in values)
        return np.stack([s(c) for s, c in zip(splines, self.columns, strict=True)])

    def flux(self, spectrum: np.ndarray) -> np.ndarray:
        """Electrons per trace column turned into electrons per straightened column."""
        return self.of(spectrum) * np.gradient(self.columns, axis=1)


def seen_columns(true: PhotonTruth, moved: Transform, rows: np.ndarray, fibre: str, i: Instrument) -> Seen:
    """Columns of the trace of one fibre that the straightened columns show.

    Every pixel of a straightened slit image is followed to the frame with the maps of the pipeline, and from
    there to the trace with the slit image that was painted; the mean is weighted with the light.

    Parameters
    ----------
    rows : float64[order]
        Row of each order in the straightened frame.
    """
    f, x = FIBRES.index(fibre), np.arange(i.nx)
    grid = x.astype(float)
    columns, inside = (np.full((i.norders, i.nx), np.nan) for _ in range(2))
    for o in range(i.norders):
        middle = round(float(rows[o]))
        y = np.arange(max(middle - HALF_HEIGHT, 0), min(middle + HALF_HEIGHT, i.ny - 2) + 1)
        if not y.size:
            continue
        at_x, at_y = moved.at(np.broadcast_to(x, (y.size, i.nx)), y[:, None].astype(float))
        height = at_y - np.interp(at_x, grid, true.trace_px[f, o])
        offset, weight = mixed_offset(true, f, o, height, at_x)
        weight = np.where((at_y >= 0) & (at_y <= i.ny - 1), weight, 0.0)
        share = weight.sum(axis=0)
        inside[o] = share
        good = share > 0.5
        mean = (weight * (at_x - offset)).sum(axis=0)
        columns[o, good] = mean[good] / share[good]
    return Seen(columns, inside)


@dataclass(frozen=True)
class FluxFigures:
    """Spectrum against truth in the columns with enough light."""

    bias: float
    scatter: float
    """Over the photon limit on the detector."""
    chi2: float
    """Of the residuals, reduced, by the variance of the spectrum."""
    columns: int


def flux_figures(
    found: np.ndarray,
    variance: np.ndarray,
    truth: np.ndarray,
    limit: np.ndarray,
    width: int = 0,
) -> FluxFigures:
    """Bias, scatter and chi-square of a spectrum, all float64[order, x] electrons.

    Parameters
    ----------
    width
        Odd width of the low-pass by which ratio of spectrum and truth is divided first, 0 = none: the slow
        response of the detector is in the spectra.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = np.where(truth > 0, found / truth, np.nan)
    bias = ratio
    if width:
        ratio = np.stack([row / low_pass(row, width) if np.isfinite(row).any() else row for row in ratio])
    with np.errstate(invalid="ignore"):
        sigma = np.sqrt(variance)
        judged = np.isfinite(ratio) & (truth > BRIGHT * sigma)
        lit = np.isfinite(ratio) & (truth > BRIGHT * limit)
    residual = (ratio - 1) * truth
    return FluxFigures(
        float(np.median(bias[judged] - 1)),
        spread((residual / limit)[lit]),
        float(np.mean(np.square((residual / sigma)[judged]))),
        int(judged.sum()),
    )


def flat_error(
    flat: np.ndarray, variance: np.ndarray, response: np.ndarray, width: int
) -> tuple[float, float, float]:
    """Rms of the error of a flat over its sigma where S/N exceeds 200, its spread, share of such pixels.

    Both are high-passed: what is slow depends on how light and detector are told apart, which the blaze
    judges.

    Parameters
    ----------
    response : float64[order, x]
        True one, of the same pixels without noise.
    """
    sigma = np.sqrt(variance)
    rows = [row / low_pass(row, width) - 1 if np.isfinite(row).any() else row for row in flat / response]
    error = np.stack(rows) / sigma
    with np.errstate(invalid="ignore"):
        good = np.isfinite(error) & (sigma < 1 / 200)
    return float(np.sqrt(np.mean(np.square(error[good])))), spread(error[good]), float(good.mean())


def blaze_errors(blaze: np.ndarray, light: np.ndarray) -> np.ndarray:
    """Rms relative error of the blaze of every order where it exceeds 0.2, one factor per order free."""
    with np.errstate(invalid="ignore"):
        lit = np.isfinite(blaze) & (light > 0.2 * np.nanmax(light, axis=1, keepdims=True))
    ratio = [row[use] / np.median(row[use]) - 1 for row, use in zip(blaze / light, lit, strict=True)]
    return np.array([np.std(row) if row.size else np.nan for row in ratio])


def line_amplitude(values: np.ndarray, pattern: np.ndarray, weight: np.ndarray) -> tuple[float, float]:
    """Least-squares amplitude of the line-structured part of a pattern over all orders, and its error."""
    top = bottom = 0.0
    for v, p, w in zip(values, pattern, np.nan_to_num(weight), strict=True):
        good = (np.isfinite(v) & (w > 0)).astype(float)
        lines = leak_light.line_part(p, good)
        top += (w * good * lines * leak_light.line_part(np.nan_to_num(v), good)).sum()
        bottom += (w * good * lines * lines).sum()
    return float(top / bottom), float(1 / np.sqrt(bottom))


def leak_error(kernel: leak_light.LeakKernel, added: np.ndarray, variance: np.ndarray) -> float:
    """Relative error of a leak over all orders, weighted as `line_amplitude` with 1 / variance weights it.

    From the errors of the fractions of the orders alone.
    """
    share = np.nansum(np.square(added) / variance, axis=1)
    fraction, error = kernel.terms[:, 0], kernel.errors[:, 0]
    good = np.isfinite(error) & (fraction > 0.0)
    parts = share[good] * error[good] / fraction[good]
    return float(np.sqrt(np.square(parts).sum()) / share[good].sum())


def ratio_errors(found: np.ndarray, painted: np.ndarray, orders: Sequence[int]) -> np.ndarray:
    """Median of found over painted minus one, of each of some orders."""
    errors = []
    for o in orders:
        good = np.isfinite(found[o]) & np.isfinite(painted[o]) & (painted[o] > 0)
        errors.append(float(np.median(found[o, good] / painted[o, good])) - 1 if good.any() else np.nan)
    return np.array(errors)
