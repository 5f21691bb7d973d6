"""Usual air: where the atmosphere may leave too little light for a line to count, in whatever frame.

Heavy imports happen inside the functions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from apero_dask.recipes.sky_absorption import STEP_KMS, absorption_key, load_absorption

if TYPE_CHECKING:
    import numpy as np

    from apero_dask.recipes.context import RecipeContext

WATER, DRY = 2.5, 1.5
"""Exponents of usual air: 3.75 mm of water along the line of sight with the built-in table, airmass 1.5.
More would leave fewer lines to every frame, less would leave the lines to the weather in more frames."""
FWHM_KMS = 4.5
"""Line spread; a tenth more moves the edge of a hole by less than a pixel."""


def usual_transmission(ctx: RecipeContext, wave: np.ndarray) -> np.ndarray:
    """Transmission of usual air as an instrument sees it.

    A line that lies where little light is left is measured in dry air and not in humid air, and the positions
    of a mask err by hundreds of m/s: a set of lines that follows the weather moves the velocity with it, by
    12 m/s (rms) with the 250 lines of the small instrument.

    Parameters
    ----------
    wave : float64[order, x]
        Vacuum nm, observer's frame.

    Returns
    -------
    float64[order, x]

    Raises
    ------
    DataError
        See :func:`apero_dask.recipes.sky_absorption.load_absorption`.
    """
    import numpy as np

    table = load_absorption(ctx)

    def load() -> np.ndarray:
        from scipy.ndimage import gaussian_filter1d

        depth = np.float32(WATER) * table.depth[0] + np.float32(DRY) * table.depth[1]
        seen: np.ndarray = gaussian_filter1d(np.exp(-depth), FWHM_KMS / 2.3548 / STEP_KMS)
        seen.flags.writeable = False
        return seen

    seen = ctx.cached(f"usual air {ctx.instrument.name} {absorption_key(ctx.trees.assets)}", load)
    place = table.place(wave)
    return np.asarray(np.interp(place, np.arange(seen.size), seen))
