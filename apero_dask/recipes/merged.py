"""Merges the orders of a spectrum into one, on a grid of constant wavelength or of constant velocity step.

Heavy imports happen inside the functions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    from apero_dask.io.fitswriter import Table

SPEED_OF_LIGHT_KMS = 299792.458
FIRST_NM, LAST_NM = 965.0, 2500.0
STEP_NM = 0.005
STEP_KMS = 1.0
BLAZE_LIMIT = 0.2
"""Pixels with less than this part of the largest blaze of their order take no part."""
EDGE = 60
"""Pixels at each end of an order that take no part."""
TAPER_SIGMA = 20.0
"""px; weights fall to 0 towards what takes no part as a Gaussian does."""
VALID = 0.9
"""Share of valid pixels around a grid point below which an order adds nothing there."""
FEWEST = 5
"""An order with no more usable pixels adds nothing."""


def wave_grid(kind: str) -> np.ndarray:
    """Wavelengths of a merged spectrum, float64[i], nm.

    ``wave``: constant step; ``velocity``: lam0 exp(i dv / c).

    Raises
    ------
    ValueError
        Another kind.
    """
    import numpy as np

    if kind == "wave":
        count = round((LAST_NM - FIRST_NM) / STEP_NM) + 1
        return FIRST_NM + STEP_NM * np.arange(count)
    if kind == "velocity":
        count = int(np.floor(np.log(LAST_NM / FIRST_NM) * SPEED_OF_LIGHT_KMS / STEP_KMS))
        return np.asarray(FIRST_NM * np.exp(np.arange(count) * STEP_KMS / SPEED_OF_LIGHT_KMS))
    raise ValueError(f"kind: {kind!r}, expected wave or velocity")


@dataclass(frozen=True, slots=True)
class Merged:
    """One merged spectrum; arrays are float64[grid point]."""

    wavelength: np.ndarray
    """Vacuum nm."""
    flux: np.ndarray
    """Flux over blaze; NaN where no order reaches."""
    error: np.ndarray
    """Of the flux; neighbouring points are correlated by the interpolation."""
    weight: np.ndarray
    """Sum of the tapered blazes, electrons."""


def merge(
    flux: np.ndarray, variance: np.ndarray, blaze: np.ndarray, wave: np.ndarray, grid: np.ndarray
) -> Merged:
    """Merge the orders of a flat-fielded spectrum on one grid; see :func:`merge_on`."""
    return merge_on(flux, variance, blaze, wave, (grid,))[0]


def merge_on(
    flux: np.ndarray,
    variance: np.ndarray,
    blaze: np.ndarray,
    wave: np.ndarray,
    grids: Sequence[np.ndarray],
) -> list[Merged]:
    """Merge the orders of a flat-fielded spectrum on several grids, whose splines are shared.

    Parameters
    ----------
    flux, variance, blaze : float64[order, x]
        Electrons, electrons^2, electrons; NaN = no information.
    wave : float64[order, x]
        Vacuum nm, rising along an order.
    grids : sequence of float64[point]
        Rising wavelengths, nm.

    Notes
    -----
    Sum of the tapered fluxes over sum of the tapered blazes: orders count with their blaze, close to inverse
    variance for light limited by photons.  Flux and blaze are interpolated by splines of degree 5 through
    the pixels (straight lines across holes), variance and validity by straight lines; a point counts where
    the validity is above 0.9, which keeps holes open.
    """
    import numpy as np
    from apero_kernels.merge import add_order
    from scipy.ndimage import gaussian_filter1d

    sums = [np.zeros((3, grid.size)) for grid in grids]
    nx = flux.shape[1]
    column = np.arange(nx)
    known = np.isfinite(wave)
    usable = np.isfinite(flux) & (variance > 0.0) & np.isfinite(blaze) & known
    usable &= blaze > BLAZE_LIMIT * np.fmax.reduce(blaze, axis=1)[:, None]
    usable[:, :EDGE] = False
    usable[:, nx - EDGE :] = False
    taper = gaussian_filter1d(usable.astype(float), TAPER_SIGMA, axis=-1, truncate=3.0, mode="constant")
    low, high = taper.min(axis=1)[:, None], taper.max(axis=1)[:, None]
    taper = (taper - low) / np.maximum(high - low, 1e-12)
    # Flux and blaze by the same spline: what it does to the taper drops out of the ratio.
    values = np.stack([flux * taper, blaze * taper, variance * taper * taper], axis=1)
    for o in np.flatnonzero(np.count_nonzero(usable, axis=1) > FEWEST).tolist():
        w = wave[o]
        if not known[o].all():
            w = np.interp(column, column[known[o]], w[known[o]])
        ends = np.flatnonzero(usable[o])
        part = slice(ends[0], ends[-1] + 1)
        for total, grid in zip(sums, grids, strict=True):
            add_order(values[o, :, part], usable[o, part].astype(np.uint8), w[part], grid, VALID, total)
    found = []
    for (above, below, squares), grid in zip(sums, grids, strict=True):
        lit = below > 0.0
        safe = np.where(lit, below, 1.0)
        found.append(
            Merged(
                grid,
                np.where(lit, above / safe, np.nan),
                np.where(lit, np.sqrt(squares) / safe, np.nan),
                np.where(lit, below, 0.0),
            )
        )
    return found


def merged_table(merged: Merged, name: str) -> Table:
    """Product table of a merged spectrum."""
    from apero_dask.io.fitswriter import Table

    return Table(
        name,
        {
            "wavelength": merged.wavelength,
            "flux": merged.flux,
            "eflux": merged.error,
            "weight": merged.weight,
        },
        units={"wavelength": "nm", "weight": "electron"},
    )


def merged_cards(kind: str) -> dict[str, Any]:
    """Header cards of a merged spectrum; ``kind`` as in :func:`wave_grid`."""
    return {
        "S1DWAVE0": (FIRST_NM, "[nm] first wavelength"),
        "S1DWAVE1": (LAST_NM, "[nm] last wavelength"),
        "S1DWAVEK": (kind, "step of the grid"),
        "S1DBWAVE": (STEP_NM, "[nm] step in wavelength"),
        "S1DBVELO": (STEP_KMS, "[km/s] step in velocity"),
        "S1DSMOOT": (TAPER_SIGMA, "[px] taper of the orders"),
        "S1DBLAZT": (BLAZE_LIMIT, "blaze below this part of its maximum is left out"),
    }
