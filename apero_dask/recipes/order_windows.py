"""Windows of the orders of a fibre, and what straightening does to their light and noise.

Heavy imports happen inside the functions.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from apero_dask.recipes.context import RecipeContext
from apero_dask.recipes.straight import (
    OUTER_ROWS,
    WINDOWS,
    Transform,
    order_rows,
    profile_and_light,
    transform,
)

if TYPE_CHECKING:
    import numpy as np

FAINT = 0.003
"""Weight of a column without light where the brightest has 1: smooth quantities go on, without wild ends."""
STEP = 16
"""Columns from one evaluation of a smooth quantity to the next."""


@dataclass(frozen=True, slots=True)
class Geometry:
    """Windows of the orders of a fibre and what straightening does to their light and noise."""

    rows: np.ndarray
    """float64[order]: centre."""
    first: np.ndarray
    """int64[order]: first row of the window."""
    height: int
    share: np.ndarray
    """float64[order, x]: light that falls into the window over that of the fibre."""
    area: np.ndarray
    """float64[order, x]: pixels of the frame per straightened pixel."""
    noise: np.ndarray
    """float64[order, x]: variance of an extracted column over that without interpolation along x."""


def geometry(ctx: RecipeContext, fibre: str) -> Geometry:
    """Windows of a fibre, shared by the runs of a process.

    Raises
    ------
    DataError
        See :func:`apero_dask.recipes.straight.straight_profile`.
    """
    import numpy as np
    from apero_kernels.extract import windows

    profile, light, key = profile_and_light(ctx, ctx.instrument.localised_group(fibre))
    moved = transform(ctx)

    def load() -> Geometry:
        rows = order_rows(ctx, fibre)
        first, height = windows(rows, *WINDOWS[fibre])
        lower, upper = _own_rows(ctx, fibre, first, height)
        share, area, noise = (np.ones(light.shape) for _ in range(3))
        for o in range(rows.size):
            share[o] = _share(profile, light[o], int(first[o]), height, lower[o], upper[o])
            area[o], noise[o] = _area_and_noise(moved, profile, light[o], int(first[o]), height)
        for array in (rows, first, share, area, noise):
            array.flags.writeable = False
        return Geometry(rows, first, height, share, area, noise)

    shared: Geometry = ctx.cached(f"order windows {fibre} {key}", load)
    return shared


def _own_rows(
    ctx: RecipeContext, fibre: str, first: np.ndarray, height: int
) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper border, float64[order], between which the light of a fibre lies.

    Half-way to another fibre of its group, what each loses to the other being alike; else some rows beyond
    the window.
    """
    import numpy as np

    lower, upper = first - 0.5 - OUTER_ROWS, first + height - 0.5 + OUTER_ROWS
    group, own = ctx.instrument.localised_group(fibre), order_rows(ctx, fibre)
    for other in ctx.instrument.traced_fibres:
        if fibre == group or other == fibre or other not in group:
            continue
        there = order_rows(ctx, other)
        border = 0.5 * (own + there)
        lower = np.where(there < own, np.maximum(lower, border), lower)
        upper = np.where(there > own, np.minimum(upper, border), upper)
    return lower, upper


def _share(
    profile: np.ndarray, light: np.ndarray, first: int, height: int, lower: float, upper: float
) -> np.ndarray:
    """Light inside a window over that between two borders, float64[x]: smooth, degree 4 along the order."""
    import numpy as np

    ny, nx = profile.shape
    rows = np.arange(max(int(np.floor(lower)), 0), min(int(np.ceil(upper)) + 1, ny))
    part = np.clip(np.minimum(rows + 0.5, upper) - np.maximum(rows - 0.5, lower), 0.0, 1.0)
    own = part @ profile[rows].astype(np.float64)
    inside = profile[max(first, 0) : min(first + height, ny)].sum(axis=0, dtype=np.float64)
    # Columns count with their light: the profile is noise where there is little.
    good = (own > 0.0) & (light > 0.02 * light.max(initial=0.0))
    if np.count_nonzero(good) < 10 * STEP:
        return np.ones(nx)
    weight = np.sqrt(light[good])
    fit = np.polynomial.Chebyshev.fit(
        np.flatnonzero(good), inside[good] / own[good], 4, domain=[0, nx], w=weight
    )
    # Beyond the light the series may run away.
    at = np.clip(np.arange(nx), *np.flatnonzero(good)[[0, -1]])
    return np.asarray(fit(at))


def _sampled(nx: int) -> np.ndarray:
    import numpy as np

    return np.unique(np.append(np.arange(0, nx, STEP), nx - 1))


def _area_and_noise(
    moved: Transform, profile: np.ndarray, light: np.ndarray, first: int, height: int
) -> tuple[np.ndarray, np.ndarray]:
    """What straightening does in a window, float64[x] each, as the light falls on its rows.

    Area: pixels of the frame that one straightened pixel covers, the determinant of the transform; the
    product of tilt and slope of an order alone makes it differ from 1 by some 0.01.  Smooth, degree 4 along
    the order.

    Noise: variance of the weighted sum over rows, relative to rows that are not interpolated along x.  Each
    row is smoothed by the interpolation as its phase says; along y the sum takes up again what is shared
    between rows (within 0.5 per cent for slices of 2.6 px, computed).
    """
    import numpy as np

    ny, nx = moved.dxmap.shape
    x = _sampled(nx)
    rows = np.arange(max(first - 1, 0), min(first + height + 1, ny))
    if rows.size < 3 or x.size < 8:
        return np.ones(nx), np.ones(nx)
    dx, dy, a, b, c, d = moved.affine
    picked = np.ix_(rows, x)
    at_x = dx + a * x + b * rows[:, None] + moved.dxmap[picked]
    at_y = dy + c * x + d * rows[:, None] + moved.dymap[picked]
    slopes = [np.gradient(plane, rows, x) for plane in (at_x, at_y)]
    ratio = slopes[0][1] * slopes[1][0] - slopes[1][1] * slopes[0][0]
    # Where there is little light the profile is noise: weights of both signs may cancel, and their mean is
    # anything.  With positive ones it stays among the values of the rows.
    weight = np.maximum(profile[picked].astype(np.float64), 0.0)
    weight[~np.isfinite(ratio)] = 0.0
    total = weight.sum(axis=0)
    lit = total > 0.0
    mean = (weight * np.nan_to_num(ratio)).sum(axis=0) / np.where(lit, total, 1.0)
    area = np.ones(nx)
    if np.count_nonzero(lit) >= 8:
        trust = np.sqrt(np.maximum(light[x[lit]], 0.0) / max(light.max(), 1e-30) + FAINT)
        fit = np.polynomial.Chebyshev.fit(x[lit], mean[lit], 4, domain=[0, nx], w=trust)
        area = np.asarray(fit(np.arange(nx)))
    weight = np.square(weight)
    total = weight.sum(axis=0)
    factor = np.nan_to_num(spline_noise(at_x - np.rint(at_x)))
    smoothed = np.where(total > 0.0, (weight * factor).sum(axis=0) / np.maximum(total, 1e-30), 1.0)
    return area, np.interp(np.arange(nx), x, smoothed)


@cache
def _noise_table() -> tuple[np.ndarray, np.ndarray]:
    import numpy as np
    from apero_kernels.resample import STANDARD
    from apero_kernels.spline import BASES, noise_gain

    phases = np.linspace(0.0, 0.5, 65)
    return phases, noise_gain(phases, BASES[STANDARD])


def spline_noise(phase: np.ndarray) -> np.ndarray:
    """Variance of white noise after straightening moved it along x, relative to that before.

    Sum of the squares of the weights of the samples: 1 at a sample, 0.80 half-way between two.

    Parameters
    ----------
    phase : floating[...]
        Distance from the nearest sample, -0.5 to 0.5 px.
    """
    import numpy as np

    return np.asarray(np.interp(np.abs(phase), *_noise_table()))
