"""What science recipes read from the header and extensions of an extracted or corrected spectrum."""

from __future__ import annotations

from typing import TYPE_CHECKING

from apero_dask.core.errors import DataError
from apero_dask.instruments import hint_of_shape
from apero_dask.recipes.spectrum import SHARED

if TYPE_CHECKING:
    import numpy as np

    from apero_dask.instruments import Instrument
    from apero_dask.io.fits import FitsFile
    from apero_dask.recipes.context import RecipeContext

VARIANCE, RECON = "VARIANCE", "RECON"
LARGEST_BERV = 40.0
"""km/s; more than the Earth ever moves, so that anything above is a wrong unit."""


def spectrum_of(file: FitsFile, instrument: Instrument) -> tuple[np.ndarray, np.ndarray]:
    """Flux and variance of a spectrum, float64[order, x].

    Raises
    ------
    DataError
        Another shape, or no variance.
    """
    import numpy as np

    wanted = (instrument.norders, instrument.nx)
    found = file.unit(1).shape
    if found != wanted:
        raise DataError(
            f"{file.path}: spectrum of shape {found}, expected {wanted} of {instrument.name}; extract the "
            "frame again." + hint_of_shape(found, instrument)
        )
    return file.image(1, np.float64), file.image(VARIANCE, np.float64)


def absorption_of(file: FitsFile) -> np.ndarray | None:
    """Transmission a corrected spectrum was divided by, float64[order, x]; None if it was not corrected."""
    import numpy as np

    return file.image(RECON, np.float64) if file.has(RECON) else None


def number_of(file: FitsFile, keyword: str) -> float | None:
    """Finite number of the header, or None."""
    import math

    value = file.values.get(keyword)
    if value is None or isinstance(value, bool):
        return None
    try:
        number = float(value)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def shared_noise(file: FitsFile) -> float:
    """Variance of a column of a spectrum over that which counts for lines; 1 if the file does not tell.

    Straightening moves light by fractions of a column and shares the noise among neighbours: a column
    half-way between two has 0.80 of the variance it had.  The place of a line is as uncertain as before
    (within 1 per cent from 2.8 px full width at half maximum on), for what the neighbours got varies with it.

    Raises
    ------
    DataError
        The card is there, but is no positive number.
    """
    value = number_of(file, SHARED)
    if value is None and SHARED not in file.values:
        return 1.0
    if value is None or not value > 0.0:
        raise DataError(
            f"{file.path}: {SHARED} = {file.values[SHARED]}, expected a positive number; extract the frame "
            "again."
        )
    return value


def berv_of(file: FitsFile) -> float:
    """Barycentric Earth velocity of a spectrum, km/s.

    Raises
    ------
    DataError
        Unknown, as for an object without coordinates, or impossible.
    """
    berv = number_of(file, "BERV")
    if berv is None:
        name = str(file.values.get("DRSOBJN", "")).strip() or "the object"
        raise DataError(
            f"{file.path}: BERV = {file.values.get('BERV')!r}: the place of {name} is not known. Add it to "
            "objects.csv in the assets folder, then extract the frame again."
        )
    if abs(berv) > LARGEST_BERV:
        raise DataError(f"{file.path}: BERV = {berv:g} km/s, expected at most {LARGEST_BERV:g}.")
    return berv


def blaze_of(ctx: RecipeContext, fibre: str, shape: tuple[int, ...]) -> np.ndarray:
    """Blaze of a fibre chosen for the run, float64[order, x].

    Raises
    ------
    DataError
        Missing or of another shape.
    """
    import numpy as np

    blaze = ctx.calibration_image("BLAZE", fibre)
    if blaze is None or blaze.shape != shape:
        found = "none" if blaze is None else f"shape {blaze.shape}"
        raise DataError(
            f"{ctx.work.recipe}: blaze of fibre {fibre}: {found}, expected {shape}; make it with cal_ff."
        )
    return np.asarray(blaze, np.float64)
