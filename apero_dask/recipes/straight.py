"""Straightened frames: every order along a row, its lines upright.

One interpolation takes a calibrated frame through the affine transform of the night and the displacement
maps of the instrument.  What depends on the night alone (the transform, the order profiles, how far the
interpolation smooths the noise) is worked out once and shared by the runs of a process.

Heavy imports happen inside the functions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from apero_dask.core.errors import DataError
from apero_dask.recipes.context import RecipeContext

if TYPE_CHECKING:
    import numpy as np

    from apero_dask.recipes.calibrated import Calibrated

WINDOWS = {"AB": (16, 16), "A": (8, 8), "B": (8, 8), "C": (7, 7)}
"""Rows below and above the order centre that are extracted; reference pipeline."""
OUTER_ROWS = 4
"""Rows beyond a window in which light of its fibre is looked for: a slice fades over 2 px."""
FILL_HALF = 16
"""px; holes of a profile are filled from columns as far as this."""
AFFINE_NAMES = ("DX", "DY", "A", "B", "C", "D")


@dataclass(frozen=True, slots=True)
class Transform:
    """Where a pixel of the straightened frame is found in the frame of a night.

    x' = dx + A x + B y + dxmap[y, x],  y' = dy + C x + D y + dymap[y, x].
    """

    affine: np.ndarray
    """float64[6]: dx, dy, A, B, C, D."""
    dxmap: np.ndarray
    """float32[y, x], px."""
    dymap: np.ndarray
    """float32[y, x], px."""
    key: str
    """Changes with the content."""

    def at(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Positions (x', y') of straightened positions; maps linear between rows, x at whole columns."""
        import numpy as np

        dx, dy, a, b, c, d = self.affine
        column = np.asarray(x, np.int64)
        rows = self.dxmap.shape[0]
        low = np.clip(np.floor(y).astype(np.int64), 0, rows - 2)
        share = np.clip(y - low, 0.0, 1.0)
        shift = [
            (1.0 - share) * m[low, column] + share * m[low + 1, column] for m in (self.dxmap, self.dymap)
        ]
        return dx + a * x + b * y + shift[0], dy + c * x + d * y + shift[1]


@dataclass(frozen=True, slots=True)
class Straight:
    """A straightened frame, electrons per exposure."""

    image: np.ndarray
    """float32[y, x]; NaN = no information."""
    base: np.ndarray
    """float32[y, x], electrons^2: the part of the variance that does not depend on the signal."""
    photon: float
    """Variance of a pixel = base + photon * signal."""
    exposure_s: float
    effron: float
    """Noise of background pixels, electrons."""
    affine: np.ndarray

    @property
    def variance(self) -> np.ndarray:
        """float32[y, x]: whole variance, from the pixels themselves."""
        import numpy as np

        whole: np.ndarray = self.base + np.float32(self.photon) * np.maximum(self.image, np.float32(0))
        return whole


def transform(ctx: RecipeContext) -> Transform:
    """Transform of the calibrations chosen for the run.

    Raises
    ------
    DataError
        A calibration of another shape, or an affine vector that is not six finite numbers.
    """
    import numpy as np

    i = ctx.instrument
    found, keys = {}, []
    for kind, shape in (("SHAPEL", (1, 6)), ("SHAPEX", (i.ny, i.nx)), ("SHAPEY", (i.ny, i.nx))):
        chosen, data = ctx.calibration(kind), ctx.calibration_image(kind)
        if chosen is None or data is None:
            raise DataError(f"{ctx.work.recipe}: {kind} is missing; make it with the shape recipes.")
        if data.shape != shape:
            raise DataError(
                f"{chosen.path}: {kind} of shape {data.shape}, expected {shape} for {i.name}; make it again."
            )
        found[kind] = data
        keys.append(chosen.key)
    affine = np.asarray(found["SHAPEL"], np.float64).ravel()
    if not np.isfinite(affine).all():
        raise DataError(
            f"{ctx.work.recipe}: the affine transform SHAPEL holds {affine}, expected six finite numbers; "
            "make it again."
        )
    maps = [np.asarray(found[kind], np.float32) for kind in ("SHAPEX", "SHAPEY")]
    return Transform(affine, maps[0], maps[1], " ".join(keys))


def straighten(ctx: RecipeContext, frame: Calibrated) -> Straight:
    """Straighten a calibrated frame and the signal-free part of its variance.

    Raises
    ------
    DataError
        See :func:`transform`.
    """
    import numpy as np
    from apero_kernels.resample import resample, resample_linear

    moved = transform(ctx)
    image, base = np.empty_like(moved.dxmap), np.empty_like(moved.dxmap)
    resample(frame.image, moved.affine, image, dxmap=moved.dxmap, dymap=moved.dymap)
    resample_linear(frame.base, moved.affine, base, dxmap=moved.dxmap, dymap=moved.dymap)
    return Straight(
        image, base, float(frame.photon), float(frame.exposure_s), float(frame.effron), moved.affine
    )


def order_rows(ctx: RecipeContext, fibre: str) -> np.ndarray:
    """Row of every order in the straightened frame, float64[order].

    The row whose pixel in the middle column is found on the trace of the night.

    Raises
    ------
    DataError
        See :func:`transform`; a localisation that cannot be read.
    """
    import numpy as np

    from apero_dask.recipes.traces import traces

    moved, centres = transform(ctx), traces(ctx, fibre).centres
    nx = ctx.instrument.nx
    middle = np.full(centres.shape[0], nx // 2)

    def trace(x: np.ndarray) -> np.ndarray:
        import numpy as np

        u = 2.0 * x / nx - 1.0
        return np.array(
            [np.polynomial.chebyshev.chebval(v, c) for v, c in zip(u, centres, strict=True)], np.float64
        )

    rows = trace(middle.astype(float))
    # Rotation and slope are small: each pass gains three digits.
    for _ in range(6):
        x, y = moved.at(middle, rows)
        rows = rows - (y - trace(x))
    return rows


def straight_profile(ctx: RecipeContext, group: str) -> np.ndarray:
    """Straightened order profile of a localisation group, float32[y, x], shared and read-only.

    Scaled so that the light of an order sums to 1 in every column of the joint window of its fibres; holes
    filled from neighbouring columns.

    Raises
    ------
    DataError
        See :func:`transform`; a profile of another shape.
    """
    return profile_and_light(ctx, group)[0]


def profile_and_light(ctx: RecipeContext, group: str) -> tuple[np.ndarray, np.ndarray, str]:
    """Straightened profile, light of every order and column it was made of, key of both."""
    import numpy as np
    from apero_kernels.resample import resample

    chosen, moved = ctx.calibration("ORDER_PROFILE", group), transform(ctx)
    where = ctx.calibration("LOC", group)
    if chosen is None or where is None:
        raise DataError(f"{ctx.work.recipe}: ORDER_PROFILE or LOC of {group} is missing; make them with LOC.")
    key = f"{group} {chosen.key} {where.key} {moved.key}"

    def load() -> tuple[np.ndarray, np.ndarray, str]:
        raw = ctx.calibration_image("ORDER_PROFILE", group)
        if raw is None or raw.shape != moved.dxmap.shape:
            raise DataError(
                f"{chosen.path}: profile of shape {None if raw is None else raw.shape}, expected "
                f"{moved.dxmap.shape}; make it again."
            )
        out = np.empty(raw.shape, np.float32)
        resample(np.asarray(raw, np.float32), moved.affine, out, dxmap=moved.dxmap, dymap=moved.dymap)
        below, above = WINDOWS[group]
        light = fill_profile(out, order_rows(ctx, group), below + OUTER_ROWS, above + OUTER_ROWS)
        out.flags.writeable = False
        return out, light, key

    shared: tuple[np.ndarray, np.ndarray, str] = ctx.cached(f"straight profile {key}", load)
    return shared


def fill_profile(profile: np.ndarray, rows: np.ndarray, below: int, above: int) -> np.ndarray:
    """Normalise the windows of a straightened profile and fill their holes, in place.

    Returns the light of every order and column before, float64[order, x]; 0 where there was none.

    Parameters
    ----------
    profile : float32[y, x]
        0 outside the windows afterwards.
    rows : float64[order]
        Centres of the windows.
    below, above : int
        Rows of a window on each side.

    Notes
    -----
    A hole left open would make the sum over the window too small and the flux too large by the share of the
    light that falls there.
    """
    import numpy as np

    ny = profile.shape[0]
    filled = np.zeros_like(profile)
    light = np.zeros((rows.size, profile.shape[1]))
    for o, y in enumerate(rows):
        first, end = max(int(np.rint(y - below)), 0), min(int(np.rint(y + above)) + 1, ny)
        if end <= first:
            continue
        window = profile[first:end].astype(np.float64)
        good = np.isfinite(window)
        window[~good] = 0.0
        whole = good.all(axis=0)
        total = window.sum(axis=0)
        usable = whole & (total > 0.0)
        shape = np.zeros_like(window)
        shape[:, usable] = window[:, usable] / total[usable]
        light[o] = np.maximum(total, 0.0)
        holes = np.flatnonzero(~usable)
        if holes.size:
            mean = _neighbours(shape, usable, holes)
            seen = good[:, holes]
            share = (mean * seen).sum(axis=0)
            part = window[:, holes]
            known = (share > 0.5) & (total[holes] > 0.0)
            scale = np.where(known, total[holes] / np.where(known, share, 1.0), 0.0)
            lit = scale > 0.0
            here = np.where(seen & lit, part / np.where(lit, scale, 1.0), mean)
            shape[:, holes] = here
        filled[first:end] += shape.astype(np.float32)
    profile[:] = filled
    return light


def _neighbours(shape: np.ndarray, usable: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Mean profile around columns: over 2 FILL_HALF + 1 columns, over all where none of them is usable."""
    import numpy as np

    nx = usable.size
    counted = np.concatenate([[0], np.cumsum(usable)])
    summed = np.concatenate([np.zeros((shape.shape[0], 1)), np.cumsum(shape, axis=1)], axis=1)
    low, high = np.maximum(columns - FILL_HALF, 0), np.minimum(columns + FILL_HALF + 1, nx)
    number = counted[high] - counted[low]
    mean = (summed[:, high] - summed[:, low]) / np.maximum(number, 1)
    if counted[-1]:
        mean[:, number == 0] = summed[:, -1:] / counted[-1]
    return np.asarray(mean)
