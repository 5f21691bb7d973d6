"""Transmission of the atmosphere at high resolution, per gas: formats, checks, built-in default.

The first of these files below ``tellurics/`` in the assets is used, else the built-in table
(``apero_dask/tables/tellurics.csv``, random lines that resemble an atmosphere; good for simulated data only):

``transmission.fits``, ``tapas_all_sp.fits``, ``tapas_all_sp.fits.gz``
    The first binary table holds ``wavelength`` and one ``trans_<gas>`` per gas, h2o and at least one of o3,
    n2o, o2, co2, ch4; ``trans_combined`` is ignored.  Values at the site for airmass 1 and a water column of
    the author's choice, not broadened by an instrument, 0 to 1, wavelengths rising by at most 1 km/s.  The
    unit of the column is nm, Angstrom or um (none = nm).  The card ``MEDIUM`` says ``vacuum`` or ``air``
    (absent = vacuum); wavelengths in air are converted.
``tellurics.csv``
    Lines: ``species,wave_vac_nm,area_kms,hwhm_kms``; optical depth integrated over velocity, Lorentzian half
    width.  ``#`` starts a comment line; one that says ``medium: air`` makes the wavelengths those in air.

Heavy imports happen inside the functions.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from apero_dask.core.errors import DataError
from apero_dask.recipes.sharing import file_key

if TYPE_CHECKING:
    import numpy as np

    from apero_dask.io.fits import FitsFile, Unit
    from apero_dask.recipes.context import RecipeContext

FOLDER = "tellurics"
TABLES = ("transmission.fits", "tapas_all_sp.fits", "tapas_all_sp.fits.gz")
LINES = "tellurics.csv"
READS = tuple(f"{FOLDER}/{name}" for name in (*TABLES, LINES))
"""What recipes read, for their declarations."""
C_KMS = 299792.458
WATER = "h2o"
DRY = ("o3", "n2o", "o2", "co2", "ch4")
STEP_KMS = 0.25
"""Of the fine grid; lines of the upper atmosphere are about 1 km/s wide and are raised to a power on it."""
MARGIN_KMS = 60.0
"""Grid beyond the wavelengths of the instrument."""
COARSEST_KMS = 1.0
LARGEST_DEPTH = 30.0
"""Optical depth of what a table calls opaque."""
REACH_KMS = 150.0
"""Where the wings of a line of a list end."""
DOPPLER_KMS = {"h2o": 0.80, "o3": 0.49, "n2o": 0.51, "o2": 0.60, "co2": 0.51, "ch4": 0.85}
"""FWHM of the thermal motion at 250 K, 2.355 sqrt(kT/m)."""
_UNITS = {"": 1.0, "nm": 1.0, "nanometer": 1.0, "angstrom": 0.1, "um": 1e3, "micron": 1e3}
_COLUMNS = ("species", "wave_vac_nm", "area_kms", "hwhm_kms")


@dataclass(frozen=True, slots=True)
class Absorption:
    """Optical depths at airmass 1 on a grid uniform in velocity: ``first_nm exp(i STEP_KMS / c)``."""

    first_nm: float
    gases: tuple[str, ...]
    depth: np.ndarray
    """float32[2, point]: water, and all other gases together."""
    single: np.ndarray
    """float32[gas, point]."""
    origin: str
    """``built-in``, or the path of the file below the assets."""

    @property
    def nbytes(self) -> int:
        """Memory of the arrays."""
        return int(self.depth.nbytes + self.single.nbytes)

    def place(self, wave: np.ndarray) -> np.ndarray:
        """Positions of wavelengths (nm) on the grid, points."""
        import numpy as np

        return np.asarray(np.log(wave / self.first_nm) * (C_KMS / STEP_KMS))


def vacuum(air_nm: np.ndarray) -> np.ndarray:
    """Vacuum wavelengths of wavelengths in standard air, nm.

    Notes
    -----
    Index of refraction of standard air after Birch & Downs (1994, Metrologia 31, 315), as in Morton (2000,
    ApJS 130, 403).
    """
    import numpy as np

    s = np.square(1e3 / (np.asarray(air_nm, np.float64) * 1.00027))
    index = (
        1.0
        + 8.34254e-5
        + 2.406147e-2 / (130.0 - s)
        + 1.5998e-4 / (38.9 - s)
    )  # fmt: skip
    return np.asarray(air_nm * index)


def load_absorption(ctx: RecipeContext) -> Absorption:
    """Table of the assets, else the built-in one, on the grid of the instrument; kept by the process.

    Raises
    ------
    DataError
        The file cannot be used.
    """
    path, key = absorption_file(ctx.trees.assets), absorption_key(ctx.trees.assets)
    found: Absorption = ctx.cached(
        f"absorption {ctx.instrument.name} {key}",
        lambda: read_absorption(path, *_range_of(ctx.instrument.table("wave"))),
    )
    return found


def absorption_key(assets: Path) -> str:
    """Text that changes with the table that is used."""
    path = absorption_file(assets)
    return "built-in" if path is None else file_key(path)


def absorption_file(assets: Path) -> Path | None:
    """File of the assets that is used; None for the built-in table."""
    for name in (*TABLES, LINES):
        path = assets / FOLDER / name
        if path.is_file():
            return path
    return None


def _range_of(rows: list[dict[str, str]]) -> tuple[float, float]:
    """Shortest and longest wavelength of an instrument, nm."""
    from numpy.polynomial import chebyshev

    ends = []
    for row in rows:
        terms = sorted(
            (k for k in row if k.startswith("c") and k.endswith("_nm")), key=lambda k: int(k[1:-3])
        )
        series = [float(row[k]) for k in terms]
        ends += [float(chebyshev.chebval(u, series)) for u in (-1.0, 1.0)]
    return min(ends), max(ends)


def read_absorption(path: Path | None, low_nm: float, high_nm: float) -> Absorption:
    """Read a table for a range of wavelengths; None reads the built-in one.

    Raises
    ------
    DataError
        A column is missing, wavelengths do not rise or are too coarse or do not cover the range, a value is
        no transmission, or the medium is unknown.
    """
    import numpy as np

    first = low_nm * np.exp(-MARGIN_KMS / C_KMS)
    count = int(np.ceil((np.log(high_nm / low_nm) * C_KMS + 2 * MARGIN_KMS) / STEP_KMS)) + 1
    if path is None or path.name == LINES:
        name = str(path) if path is not None else "built-in"
        single = _from_lines(_line_text(path), name, first, count)
    else:
        single = _from_table(path, first, count, (low_nm, high_nm))
    gases = tuple(single)
    stack = np.stack([single[gas] for gas in gases])
    dry = [k for k, gas in enumerate(gases) if gas != WATER]
    depth = np.stack([stack[gases.index(WATER)], stack[dry].sum(axis=0)]).astype(np.float32)
    for array in (stack, depth):
        array.flags.writeable = False
    return Absorption(
        float(first), gases, depth, stack, "built-in" if path is None else f"{FOLDER}/{path.name}"
    )


def _line_text(path: Path | None) -> str:
    from importlib.resources import files

    source = files("apero_dask.tables").joinpath(LINES) if path is None else path
    return source.read_text(encoding="utf-8")


def _from_lines(text: str, name: str, first: float, count: int) -> dict[str, np.ndarray]:
    """Optical depths of a list of lines, float32[point] by gas."""
    import numpy as np
    from apero_kernels import absorption

    lines = text.splitlines()
    rows = list(csv.DictReader(line for line in lines if line.strip() and not line.startswith("#")))
    if not rows or any(rows[0].get(column) is None for column in _COLUMNS):
        raise DataError(
            f"absorption lines {name}: columns {', '.join(_COLUMNS)} and at least one line expected, found "
            f"{', '.join(map(str, rows[0])) if rows else 'no line'}; correct the file."
        )
    try:
        values = np.array([[float(row[c]) for c in _COLUMNS[1:]] for row in rows])
    except (TypeError, ValueError) as error:
        raise DataError(f"absorption lines {name}: {error}; every row needs numbers, correct it.") from None
    species = np.array([row["species"].strip().lower() for row in rows])
    unknown = sorted(set(species) - {WATER, *DRY})
    bad = np.flatnonzero(~(np.isfinite(values).all(axis=1) & (values > 0).all(axis=1)))
    if unknown or bad.size:
        what = (
            f"species {unknown[0]!r}, expected one of {', '.join((WATER, *DRY))}"
            if unknown
            else f"line {bad[0] + 1}: {values[bad[0]].tolist()}, expected positive numbers"
        )
        raise DataError(f"absorption lines {name}: {what}; correct the file.")
    wave, area, half = values.T
    if _said_medium(" ".join(line for line in lines if line.startswith("#")), name) == "air":
        wave = vacuum(wave)
    found = {}
    for gas in (WATER, *DRY):
        pick = species == gas
        lorentz, gauss = 2.0 * half[pick], DOPPLER_KMS[gas]
        # FWHM and Lorentzian share of the pseudo-Voigt (Thompson, Cox & Hastings 1987).
        width = (
            gauss**5
            + 2.69269 * gauss**4 * lorentz
            + 2.42843 * gauss**3 * lorentz**2
            + 4.47163 * gauss**2 * lorentz**3
            + 0.07842 * gauss * lorentz**4
            + lorentz**5
        ) ** 0.2
        x = lorentz / width
        share = 1.36603 * x - 0.47719 * x**2 + 0.11116 * x**3
        out = np.zeros(count)
        absorption.add_lines(
            np.log(wave[pick] / first) * (C_KMS / STEP_KMS),
            area[pick] / STEP_KMS,
            width / STEP_KMS,
            share,
            np.full(np.count_nonzero(pick), REACH_KMS / STEP_KMS),
            out,
        )
        if gas == WATER or out.any():
            found[gas] = out.astype(np.float32)
    return found


def _from_table(path: Path, first: float, count: int, needed: tuple[float, float]) -> dict[str, np.ndarray]:
    """Optical depths of a table of transmissions, float32[point] by gas."""
    import numpy as np

    from apero_dask.io.fits import FitsFile

    file = FitsFile(path)
    unit = next((u for u in file.units if u.is_table), None)
    if unit is None:
        raise DataError(f"{path}: no binary table, expected one with wavelength and trans_<gas>.")
    table = {name.lower(): values for name, values in file.table(unit.number).items()}
    gases = [gas for gas in (WATER, *DRY) if f"trans_{gas}" in table]
    if "wavelength" not in table or WATER not in gases or len(gases) < 2:
        raise DataError(
            f"{path}: columns {', '.join(table)}; expected wavelength, trans_{WATER} and at least one of "
            f"{', '.join(f'trans_{gas}' for gas in DRY)}."
        )
    wave = table_wavelengths(file, unit, table["wavelength"])
    if wave[0] > needed[0] or wave[-1] < needed[1]:
        raise DataError(
            f"{path}: wavelengths {wave[0]:.2f} to {wave[-1]:.2f} nm, the instrument needs "
            f"{needed[0]:.2f} to {needed[1]:.2f} nm; check the unit of the column or use another table."
        )
    inside = (wave >= needed[0]) & (wave <= needed[1])
    coarse = float(np.max(np.diff(wave[inside]) / wave[inside][1:])) * C_KMS
    if coarse > COARSEST_KMS:
        raise DataError(
            f"{path}: steps of up to {coarse:.2f} km/s, expected at most {COARSEST_KMS:g}; use a finer table."
        )
    grid = first * np.exp(np.arange(count) * STEP_KMS / C_KMS)
    found = {}
    for gas in gases:
        trans = np.asarray(table[f"trans_{gas}"], np.float64)
        low, high = float(np.min(trans)), float(np.max(trans))
        if not (low > -0.05 and high < 1.05):  # also false for NaN
            raise DataError(
                f"{path}: trans_{gas} runs from {low:.4g} to {high:.4g}, expected 0 to 1 without NaN."
            )
        depth = -np.log(np.clip(trans, np.exp(-LARGEST_DEPTH), 1.0))
        found[gas] = np.interp(grid, wave, depth).astype(np.float32)
    return found


def table_wavelengths(file: FitsFile, unit: Unit, column: np.ndarray) -> np.ndarray:
    """Column ``wavelength`` of a table as vacuum nm, float64[point].

    Its unit is nm if the column says none, its medium vacuum if no keyword MEDIUM says ``air``.

    Raises
    ------
    DataError
        Wavelengths do not rise, or their unit or medium is unknown.
    """
    import numpy as np

    path = file.path
    names = {str(v).strip().lower(): k[5:] for k, v in unit.values.items() if k.startswith("TTYPE")}
    said = str(unit.values.get(f"TUNIT{names['wavelength']}", "")).strip().lower()
    if said not in _UNITS:
        raise DataError(f"{path}: unit {said!r} of wavelength, expected nm, Angstrom or um.")
    wave = np.asarray(column, np.float64) * _UNITS[said]
    if wave.size < 2 or not np.isfinite(wave).all() or not (np.diff(wave) > 0).all():
        raise DataError(f"{path}: wavelengths must be finite and rise from row to row; sort the table.")
    return in_vacuum(file, unit, wave)


def in_vacuum(file: FitsFile, unit: Unit, wave: np.ndarray) -> np.ndarray:
    """Wavelengths (nm) of a unit in vacuum: as they are unless its keyword MEDIUM says ``air``.

    Raises
    ------
    DataError
        MEDIUM says something else.
    """
    medium = str(unit.values.get("MEDIUM", file.values.get("MEDIUM", ""))).strip().lower()
    if medium not in ("", "vacuum", "air"):
        raise DataError(f"{file.path}: MEDIUM = {medium!r}, expected vacuum or air.")
    return vacuum(wave) if medium == "air" else wave


def _said_medium(comment: str, name: str) -> str:
    """Medium a comment names: vacuum or air."""
    _, said, rest = comment.lower().partition("medium:")
    word = rest.split()[0].strip(";,.") if said and rest.split() else "vacuum"
    if word not in ("vacuum", "air"):
        raise DataError(f"absorption lines {name}: medium: {word!r}, expected vacuum or air; correct it.")
    return word
