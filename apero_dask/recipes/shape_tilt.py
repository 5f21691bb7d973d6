"""The map that makes the lines upright, measured on a Fabry-Perot image.

Displacements of all rows of all slit images are measured against the mean spectrum of the two science fibres
of their order and described by the model of :mod:`apero_dask.recipes.shape_model`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np


from apero_dask.recipes.shape_model import (
    NODES,
    OFFSET_DEGREE,
    TILT_DEGREES,
    UNIT_HEIGHT,
    SlitModel,
    fit_model,
)
from apero_dask.recipes.shape_slits import Slits, straightening_map

SECTION = 64  # px along an order in which one displacement is measured: five lines or more
INNER = 3.5  # px, heights used first: there a tilt of 12 degrees displaces by less than a line width
TEMPLATE_SHARE = 0.45  # of the lit height on either side that makes the template
PASSES = 5
CONVERGED = 2e-3  # px, rms change of the map
LARGEST_ERROR = 0.15  # px, of a displacement that is used
FLOOR = 0.01  # px, error that no displacement is better than
COARSE_REACH = 6  # px, largest offset of a fibre against another


@dataclass(frozen=True, slots=True, eq=False)
class TiltFit:
    """Result of :func:`measure_tilt`."""

    model: SlitModel
    dxmap: np.ndarray
    """float32[y, x], px, in the straightened frame."""
    dymap: np.ndarray
    """float32[y, x], px."""
    rms: np.ndarray
    """float64[order]: rms of what is left of the displacements of lit rows, px."""
    points: int
    """Displacements used."""
    passes: int


@dataclass(frozen=True, slots=True, eq=False)
class _Rows:
    """Rows of the straightened frame inside slit images."""

    row: np.ndarray
    fibre: np.ndarray
    order: np.ndarray
    height: np.ndarray
    """float64[row, x]: height above the trace in the frame of the detector, px."""
    unit: np.ndarray
    """float64[row, x]: the same for a lit height of 14 px."""
    reach: np.ndarray
    """float64[row]: largest distance of a pixel from the trace, px."""
    unit_reach: np.ndarray
    """float64[row]: the same for a lit height of 14 px."""


def measure_tilt(image: np.ndarray, variance: np.ndarray, slits: Slits) -> TiltFit:
    """Measure the displacement of all rows of all slit images and model it.

    Parameters
    ----------
    image, variance : float32[y, x]
        Fabry-Perot image, all fibres lit.

    Notes
    -----
    Every pass straightens the original image with the map of the pass before, averages the rows of the two
    science fibres to a template, measures what is left of the displacement of every row, and fits the model
    to the sum.  The first pass uses rows near the traces and fits tilt and offsets of the fibres only.
    """
    import numpy as np
    from apero_kernels.resample import IDENTITY, resample, resample_linear
    from apero_kernels.tilt import row_shifts

    nx = slits.nx
    dymap = straightening_map(slits)
    rows = _lit_rows(slits, dymap, 0.5)
    edges = _edges(nx)
    count = edges.size - 1
    no = slits.centres.shape[1]
    model = SlitModel(
        np.zeros(tuple(d + 1 for d in TILT_DEGREES)),
        np.zeros((2, len(NODES))),
        np.zeros((len(slits.fibres), no, OFFSET_DEGREE + 1)),
    )
    straight, noise = np.empty((slits.ny, nx), np.float32), np.empty((slits.ny, nx), np.float32)
    resample_linear(variance, IDENTITY, noise, dymap=dymap)
    resample(image, IDENTITY, straight, dymap=dymap)
    model = _coarse_offsets(model, straight, rows)
    dxmap = displacement_map(model, slits, dymap)
    residual, use, passes = np.zeros(0), np.zeros(0, bool), 0
    for passes in range(1, PASSES + 1):
        resample(image, IDENTITY, straight, dxmap=dxmap, dymap=dymap)
        inner = rows.reach < INNER if passes == 1 else np.ones(rows.row.size, bool)
        templates = _templates(straight, rows, slits, no, inner)
        shifts, errors, places = row_shifts(straight, noise, rows.row, rows.order, templates, edges)
        points = _points(rows, shifts, errors, places, nx)
        known = model.at(*points[:5])
        # The row shows at x what the template shows at x + shift: the map goes too far by the shift.
        residual, error, use = points[5], points[6], points[7] & np.repeat(inner, count)
        if np.count_nonzero(use) < 100:
            break
        before = dxmap
        model = fit_model(model, points, known - residual, np.hypot(error, FLOOR), use, tilt_only=passes == 1)
        dxmap = displacement_map(model, slits, dymap)
        if passes > 1 and float(np.std(dxmap - before)) < CONVERGED:
            break
    rms = np.full(no, np.nan)
    order = points[1]
    for o in range(no):
        own = use & (order == o)
        if own.any():
            rms[o] = float(np.sqrt(np.mean(np.square(residual[own]))))
    return TiltFit(model, dxmap, dymap, rms, int(np.count_nonzero(use)), passes)


def residual_displacement(image: np.ndarray, variance: np.ndarray, slits: Slits, fit: TiltFit) -> float:
    """Scatter of the displacements of the rows of another image after straightening with a map, px.

    Robust (1.4826 times the median absolute one, noise included); NaN for fewer than 100 displacements.
    """
    import numpy as np
    from apero_kernels.resample import IDENTITY, resample, resample_linear
    from apero_kernels.tilt import row_shifts

    straight, noise = np.empty_like(fit.dxmap), np.empty_like(fit.dxmap)
    resample(image, IDENTITY, straight, dxmap=fit.dxmap, dymap=fit.dymap)
    resample_linear(variance, IDENTITY, noise, dxmap=fit.dxmap, dymap=fit.dymap)
    rows = _lit_rows(slits, fit.dymap, 0.5)
    no = slits.centres.shape[1]
    templates = _templates(straight, rows, slits, no, np.ones(rows.row.size, bool))
    shifts, errors, _ = row_shifts(straight, noise, rows.row, rows.order, templates, _edges(slits.nx))
    good = np.isfinite(shifts) & (errors < LARGEST_ERROR)
    return 1.4826 * float(np.median(np.abs(shifts[good]))) if np.count_nonzero(good) >= 100 else float("nan")


def column_spread(fit: TiltFit, slits: Slits) -> float:
    """Largest standard deviation of the map in a column of a slit image, px."""
    import numpy as np

    row, fibre, order = _rows_of_traces(slits, 0.0)
    worst = 0.0
    for f, o in np.ndindex(slits.centres.shape[:2]):
        own = row[(fibre == f) & (order == o)]
        if own.size:
            worst = max(worst, float(fit.dxmap[own].std(axis=0, dtype=np.float64).max()))
    return worst


def displacement_map(model: SlitModel, slits: Slits, dymap: np.ndarray) -> np.ndarray:
    """Displacement along x for every pixel of the straightened frame, float32[y, x].

    A pixel belongs to the nearest trace, as far as the slit image with its wings may reach; others have 0.
    """
    import numpy as np

    row, fibre, order = _rows_of_traces(slits, 3.0)
    out = np.zeros(dymap.shape, np.float32)
    u = 2.0 * np.arange(slits.nx) / slits.nx - 1.0
    positions = slits.positions
    for f, o in np.ndindex(slits.centres.shape[:2]):
        own = row[(fibre == f) & (order == o)]
        if not own.size:
            continue
        # Tilt, offset and the curve of the slices are those of the order, only the heights differ.
        height = own[:, None] + dymap[own].astype(np.float64) - positions[f, o]
        out[own] = (
            model.tilt_at(u, np.full(u.size, o)) * height
            + model.slices_at(height * (UNIT_HEIGHT / slits.heights[f, o]), o)
            + np.polynomial.chebyshev.chebval(u, model.offsets[f, o])
        )
    return out


def _edges(nx: int) -> np.ndarray:
    import numpy as np

    return np.linspace(0, nx, max(1, round(nx / SECTION)) + 1).astype(np.int64)


def _rows_of_traces(slits: Slits, beyond: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows in a slit image or at most so many px beyond it, and the fibre and order each belongs to."""
    import numpy as np

    middle = slits.nx // 2
    centre = slits.rows
    nearest = np.argsort(centre.T.ravel())
    sorted_rows = centre.T.ravel()[nearest]
    border = 0.5 * (sorted_rows[1:] + sorted_rows[:-1])
    y = np.arange(slits.ny)
    place = nearest[np.searchsorted(border, y)]
    order, fibre = np.divmod(place, len(slits.fibres))
    inside = np.abs(y - centre[fibre, order]) <= 0.5 * slits.heights[fibre, order, middle] + beyond
    return y[inside], fibre[inside], order[inside]


def _lit_rows(slits: Slits, dymap: np.ndarray, beyond: float) -> _Rows:
    """Rows whose pixels lie in a slit image or at most so many px beyond it; each belongs to one trace."""
    import numpy as np

    y, fibre, order = _rows_of_traces(slits, beyond)
    positions, scale = slits.positions, UNIT_HEIGHT / slits.heights
    height, unit = (np.empty((y.size, slits.nx)) for _ in range(2))
    for k, (row, f, o) in enumerate(zip(y, fibre, order, strict=True)):
        np.subtract(dymap[row], positions[f, o] - row, out=height[k])
        np.multiply(height[k], scale[f, o], out=unit[k])
    reach, unit_reach = (np.maximum(h.max(axis=1), -h.min(axis=1)) for h in (height, unit))
    return _Rows(y, fibre, order, height, unit, reach, unit_reach)


def _templates(straight: np.ndarray, rows: _Rows, slits: Slits, no: int, inner: np.ndarray) -> np.ndarray:
    """Mean spectrum of the science fibres of every order, float64[order, x]."""
    import numpy as np

    share = rows.unit_reach / UNIT_HEIGHT < TEMPLATE_SHARE
    out = np.full((no, slits.nx), np.nan)
    for o in range(no):
        own = rows.row[(rows.order == o) & (rows.fibre > 0) & share & inner]
        out[o] = _mean_of(straight[own])
    return out


def _mean_of(lines: np.ndarray) -> np.ndarray:
    """Mean of rows; where pixels are missing the others stand for them, by the light of their rows."""
    import numpy as np

    good = np.isfinite(lines)
    light = np.sum(np.where(good, lines, 0.0), axis=1, dtype=np.float64) / np.maximum(good.sum(axis=1), 1)
    usable = light > 0
    if not usable.any():
        return np.full(lines.shape[1], np.nan)
    good, lines, light = good[usable], lines[usable], light[usable]
    total = np.sum(np.where(good, lines, 0.0), axis=0, dtype=np.float64)
    weight = np.sum(good * light[:, None], axis=0)
    return np.where(weight > 0.5 * light.sum(), total / np.maximum(weight, 1e-300), np.nan)


def _coarse_offsets(model: SlitModel, straight: np.ndarray, rows: _Rows) -> SlitModel:
    """Whole-pixel offset of every fibre against the lower science fibre.

    The distance of the peaks changes along and across the orders: only the true offset fits all of them.
    """
    import numpy as np

    fibres, no = model.offsets.shape[:2]
    near = rows.reach < INNER
    lines = np.full((fibres, no, straight.shape[1]), np.nan)
    for f in range(fibres):
        for o in range(no):
            lines[f, o] = _mean_of(straight[rows.row[(rows.fibre == f) & (rows.order == o) & near]])
    lines -= (
        np.nanmean(np.where(np.isfinite(lines), lines, np.nan), axis=2, keepdims=True) if lines.size else 0.0
    )
    lines = np.nan_to_num(lines)
    norm = np.sqrt(np.sum(lines**2, axis=2, keepdims=True))
    lines = np.divide(lines, norm, out=np.zeros_like(lines), where=norm > 0)
    offsets = model.offsets.copy()
    reach = range(-COARSE_REACH, COARSE_REACH + 1)
    for f in range(fibres):
        score = [np.sum(np.roll(lines[f], -k, axis=1) * lines[1]) for k in reach]
        offsets[f, :, 0] = reach[int(np.argmax(score))]
    return SlitModel(model.tilt, model.slices, offsets)


def _points(
    rows: _Rows, shifts: np.ndarray, errors: np.ndarray, places: np.ndarray, nx: int
) -> tuple[np.ndarray, ...]:
    """Flat arrays fibre, order, u, height, unit height, shift, error, usable."""
    import numpy as np

    count = shifts.shape[1]
    column = np.clip(np.nan_to_num(np.rint(places)), 0, nx - 1).astype(np.int64)
    lines = np.arange(rows.row.size)[:, None]
    height, unit = rows.height[lines, column], rows.unit[lines, column]
    u = 2.0 * np.nan_to_num(places) / nx - 1.0
    usable = np.isfinite(shifts) & (errors < LARGEST_ERROR) & (np.abs(shifts) < 2.0)
    return (
        np.repeat(rows.fibre, count),
        np.repeat(rows.order, count),
        u.ravel(),
        height.ravel(),
        unit.ravel(),
        np.nan_to_num(shifts).ravel(),
        np.where(usable, errors, 1.0).ravel(),
        usable.ravel(),
    )
