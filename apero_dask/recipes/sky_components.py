"""Components of the night sky that a user brings: spectra in a table, or one value for every pixel.

Heavy imports happen inside the functions.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from apero_dask.core.errors import DataError

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True, slots=True)
class SkyComponents:
    """Spectra of the sky."""

    names: tuple[str, ...]
    wave: np.ndarray
    """Vacuum nm, float64[point] or float64[order, x]."""
    flux: np.ndarray
    """float64[component, ...]; NaN = not known, taken as dark."""
    with_blaze: bool
    origin: str
    """File, for messages."""

    def planes(self, wave: np.ndarray) -> np.ndarray:
        """Components at the pixels of a spectrum by straight lines, float64[component, order, x].

        Parameters
        ----------
        wave : float64[order, x]
            Vacuum nm.  Where the components end they are 0.

        Raises
        ------
        DataError
            Not one pixel of the spectrum lies where the components are: their unit must be another.
        """
        import numpy as np

        low, high = float(np.min(self.wave)), float(np.max(self.wave))
        if high < float(np.min(wave)) or low > float(np.max(wave)):
            raise DataError(
                f"{self.origin}: wavelengths {low:.2f} to {high:.2f} nm, the spectrum has "
                f"{np.min(wave):.2f} to {np.max(wave):.2f} nm; check their unit or use another file."
            )
        planes = np.zeros((len(self.names), *wave.shape))
        for k in range(len(self.names)):
            for o in range(wave.shape[0]):
                by_order = self.wave.ndim == 2
                at, values = (self.wave[o], self.flux[k, o]) if by_order else (self.wave, self.flux[k])
                good = np.isfinite(values)
                if good.any():
                    planes[k, o] = np.interp(wave[o], at[good], values[good], left=0.0, right=0.0)
        return planes


def components_of_table(path: Path) -> SkyComponents:
    """Components of a table with columns ``wavelength``, ``comp_1``, ``comp_2``, ...

    Raises
    ------
    DataError
        A column is missing or holds no number, wavelengths do not rise, or their unit or medium is unknown.
    """
    import numpy as np

    from apero_dask.io.fits import FitsFile
    from apero_dask.recipes.sky_absorption import table_wavelengths

    file = FitsFile(path)
    unit = next((u for u in file.units if u.is_table), None)
    if unit is None:
        raise DataError(f"{path}: no binary table, expected one with wavelength and comp_1, comp_2, ...")
    table = {name.lower(): np.asarray(v, np.float64) for name, v in file.table(unit.number).items()}
    names = tuple(name for name in table if name.startswith("comp_"))
    if "wavelength" not in table or not names:
        raise DataError(f"{path}: columns {', '.join(table)}; expected wavelength, comp_1, comp_2, ...")
    wave = table_wavelengths(file, unit, table["wavelength"])
    return _checked(SkyComponents(names, wave, np.stack([table[n] for n in names]), False, str(path)))


def components_of_image(path: Path, shape: tuple[int, int]) -> SkyComponents:
    """Components of an image [pixel, 1 + K]; column 0 are the wavelengths.  `shape` = (orders, columns).

    Raises
    ------
    DataError
        It is for another number of pixels, wavelengths do not rise along an order, their medium is unknown,
        or a component holds no number.
    """
    import numpy as np

    from apero_dask.io.fits import FitsFile
    from apero_dask.recipes.sky_absorption import in_vacuum

    file = FitsFile(path)
    unit = next((u for u in file.units if u.shape and not u.is_table), None)
    found = unit.shape if unit is not None else ()
    pixels = shape[0] * shape[1]
    if unit is None or len(found) != 2 or found[0] != pixels or found[1] < 2:
        raise DataError(
            f"{path}: image of shape {found}, expected ({pixels}, 1 + components): {shape[0]} orders of "
            f"{shape[1]} columns of this instrument."
        )
    data = file.image(unit.number, np.float64)
    wave = data[:, 0].reshape(shape)
    if not (np.diff(wave, axis=1) > 0).all():  # also false for NaN
        raise DataError(f"{path}: column 0 must hold the wavelength of every pixel, rising along an order.")
    names = tuple(f"comp_{k}" for k in range(1, found[1]))
    flux = np.ascontiguousarray(data[:, 1:].T).reshape(-1, *shape)
    return _checked(SkyComponents(names, in_vacuum(file, unit, wave), flux, True, str(path)))


def _checked(sky: SkyComponents) -> SkyComponents:
    import numpy as np

    for name, flux in zip(sky.names, sky.flux, strict=True):
        if not np.isfinite(flux).any():
            raise DataError(f"{sky.origin}: {name} holds no number; take it out of the file.")
    return sky
