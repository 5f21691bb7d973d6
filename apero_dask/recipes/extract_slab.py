"""What every pixel of the windows contributes to a spectrum (E2DSLL), for looking at an extraction.

Heavy imports happen inside the functions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from apero_dask.recipes.order_windows import geometry
from apero_dask.recipes.straight import straight_profile

if TYPE_CHECKING:
    import numpy as np

    from apero_dask.recipes.context import RecipeContext
    from apero_dask.recipes.spectrum import Spectrum
    from apero_dask.recipes.straight import Straight


def empty_weights(ctx: RecipeContext, fibre: str) -> np.ndarray:
    """Room for the weights of `extract_fibre`, uint8[order, row, x]."""
    import numpy as np

    place = geometry(ctx, fibre)
    return np.zeros((place.rows.size, place.height, ctx.instrument.nx), np.uint8)


def contributions(
    ctx: RecipeContext, straight: Straight, spectrum: Spectrum, weights: np.ndarray
) -> np.ndarray:
    """Electrons that each pixel adds to its column, float64[order, row, x]; NaN = no spectrum there.

    Parameters
    ----------
    spectrum
        As it was extracted: leak and thermal light not removed.
    weights : uint8[order, row, x]
        Pixels that were used.

    Notes
    -----
    w P S / V over the sum of w P^2 / V, V = base + photon f P with the flux f of the spectrum (Horne 1986);
    V = 1 for the equal weights of the two-step estimate.  The sum over rows is the spectrum.
    """
    import numpy as np

    place = geometry(ctx, spectrum.fibre)
    profile = straight_profile(ctx, ctx.instrument.localised_group(spectrum.fibre))
    ny = profile.shape[0]
    out = np.zeros(weights.shape)
    scale = place.area / place.share
    for o, first in enumerate(place.first):
        rows = int(first) + np.arange(place.height)
        inside = (rows >= 0) & (rows < ny)
        rows = np.clip(rows, 0, ny - 1)
        shape = np.where(inside[:, None], np.nan_to_num(profile[rows].astype(np.float64)), 0.0)
        total = shape.sum(axis=0)
        lit = total > 0.0
        shape = np.where(lit, shape / np.where(lit, total, 1.0), 1.0 / place.height)
        used = np.where(inside[:, None], weights[o], 0)
        raw = spectrum.e2ds[o] / scale[o]
        noise = np.ones(shape.shape)
        if spectrum.method == "optimal":
            noise = straight.base[rows] + straight.photon * np.maximum(raw * shape, 0.0)
        share = np.where(used > 0, shape / noise, 0.0)
        norm = (share * shape).sum(axis=0)
        part = share * np.nan_to_num(straight.image[rows].astype(np.float64))
        out[o] = np.where(np.isfinite(spectrum.e2ds[o]), part / np.where(norm > 0, norm, 1.0), np.nan)
        out[o] *= scale[o]
    return out
