"""Velocity masks: wavelengths and weights of lines, from files of the field or built in.

Formats, all with vacuum wavelengths in nm, sorted:

* text (``.mas``): first wavelength, last wavelength and weight of a line per row, separated by blanks; ``#``
  begins a comment.  ``.csv``: the same with commas and a first row ``ll_mask_s,ll_mask_e,w_mask``.
* FITS: a table with the columns ``ll_mask_s``, ``ll_mask_e`` (may be absent) and ``w_mask``.

The line lies in the middle between first and last wavelength.  Heavy imports happen inside the functions.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from apero_dask.core.errors import DataError
from apero_dask.recipes.ccf import BUILTIN_MASK, DEFAULT_MASK
from apero_dask.recipes.sharing import file_key

if TYPE_CHECKING:
    import numpy as np

    from apero_dask.instruments import Instrument
    from apero_dask.recipes.context import RecipeContext

FIRST, LAST, WEIGHT = "ll_mask_s", "ll_mask_e", "w_mask"
RANGE_NM = (300.0, 6000.0)
"""Wavelengths outside cannot be nm of this kind of instrument."""
FEWEST = 10
"""Lines within the orders below which a mask is of no use."""
MOST_KMS = 100.0
"""A line broader than this is a line given in other columns than expected."""
C_KMS = 299792.458


@dataclass(frozen=True, slots=True)
class LineMask:
    """Lines of a mask, wavelengths rising."""

    name: str
    """File name."""
    wave: np.ndarray
    """float64[line], vacuum nm."""
    weight: np.ndarray
    """float64[line], above 0."""
    origin: str
    """``built-in`` or ``file``."""


def read_mask(path: Path) -> LineMask:
    """Read a mask file.

    Raises
    ------
    DataError
        Not a mask: unreadable rows, wavelengths in air or another unit, unsorted, no line with weight.
    OSError
        The file is not there or cannot be read.
    """
    import numpy as np

    rows, names = _fits_rows(path) if path.suffix.lower() == ".fits" else _text_rows(path)
    if rows.shape[0] == 0:
        raise DataError(f"Mask {path}: no line; expected rows of {FIRST}, {LAST} and {WEIGHT}.")
    first, last, weight = rows.T
    bad = np.flatnonzero(~np.isfinite(rows).all(axis=1))
    if bad.size:
        raise DataError(f"Mask {path}: {names(bad[0])} holds a value that is not finite; remove the row.")
    middle = 0.5 * (first + last)
    _check_unit(path, middle)
    wide = np.flatnonzero((last < first) | (C_KMS * (last - first) > MOST_KMS * middle))
    if wide.size:
        k = int(wide[0])
        raise DataError(
            f"Mask {path}: {names(k)} goes from {first[k]} to {last[k]} nm, expected the first wavelength, "
            f"then the last one, less than {MOST_KMS:g} km/s apart; correct the columns."
        )
    falls = np.flatnonzero(np.diff(middle) < 0)
    if falls.size:
        k = int(falls[0])
        raise DataError(
            f"Mask {path}: {names(k + 1)} ({middle[k + 1]:.4f} nm) lies before {names(k)} "
            f"({middle[k]:.4f} nm); sort the mask by wavelength."
        )
    keep = weight > 0.0
    if not keep.any():
        raise DataError(f"Mask {path}: no line has a weight above 0; expected weights in the third column.")
    return LineMask(path.name, middle[keep], weight[keep], "file")


def builtin_mask() -> LineMask:
    """The packaged mask of a cool star."""
    from importlib.resources import as_file, files

    with as_file(files("apero_dask.tables").joinpath(BUILTIN_MASK)) as path:
        found = read_mask(path)
    return LineMask(BUILTIN_MASK, found.wave, found.weight, "built-in")


def mask_of(ctx: RecipeContext) -> LineMask:
    """Mask of a run: the one asked for, the default of the run-file documents, or the packaged one.

    Raises
    ------
    DataError
        The file asked for is not there, is no mask, or does not cover the instrument.
    """
    from apero_dask.io.assets import MASK_FOLDER

    asked = ctx.option("mask")
    folder = ctx.trees.assets / MASK_FOLDER
    path = folder / str(asked or DEFAULT_MASK)  # an absolute path stays as it is
    if asked and not path.is_file():
        raise DataError(
            f"Mask {asked} is not there (looked in {path.parent}); copy it there or correct --mask."
        )
    if path.is_file():
        mask: LineMask = ctx.cached(f"mask {file_key(path)}", lambda: read_mask(path))
    else:
        ctx.log.info("%s is not in %s: the built-in mask %s is used", DEFAULT_MASK, folder, BUILTIN_MASK)
        mask = ctx.cached(f"mask {BUILTIN_MASK}", builtin_mask)
    return mask


def check_coverage(mask: LineMask, wave: np.ndarray) -> int:
    """Number of lines of a mask within the orders, float64[order, x] in nm.

    Raises
    ------
    DataError
        Too few.
    """
    import numpy as np

    low, high = np.nanmin(wave, axis=1), np.nanmax(wave, axis=1)
    inside = ((mask.wave[:, None] >= low) & (mask.wave[:, None] <= high)).any(axis=1)
    found = int(np.count_nonzero(inside))
    if found < FEWEST:
        raise DataError(
            f"Mask {mask.name}: {found} of {mask.wave.size} lines ({mask.wave[0]:.1f} to {mask.wave[-1]:.1f} "
            f"nm) lie in the orders ({low.min():.1f} to {high.max():.1f} nm), expected at least {FEWEST}; "
            "use a mask for this instrument."
        )
    return found


def covers(mask: LineMask, instrument: Instrument) -> int:
    """Lines within the nominal orders of an instrument; see :func:`check_coverage`."""
    from apero_dask.recipes.wave_maps import first_guess

    return check_coverage(mask, first_guess(instrument, instrument.science_fibres[0]).image())


def _check_unit(path: Path, middle: np.ndarray) -> None:
    import numpy as np

    typical = float(np.median(middle))
    if RANGE_NM[0] <= typical <= RANGE_NM[1]:
        return
    for unit, factor in (("Angstrom", 0.1), ("micrometres", 1000.0), ("metres", 1e9)):
        if RANGE_NM[0] <= typical * factor <= RANGE_NM[1]:
            raise DataError(
                f"Mask {path}: wavelengths around {typical:g} look like {unit}, expected vacuum nm; multiply "
                f"both columns by {factor:g}."
            )
    raise DataError(
        f"Mask {path}: wavelengths around {typical:g}, expected vacuum nm between {RANGE_NM[0]:g} and "
        f"{RANGE_NM[1]:g} in the first two columns."
    )


def _check_vacuum(path: Path, text: str) -> None:
    """Refuse a file whose comments say air."""
    if re.search(r"\bair\b", text, re.IGNORECASE) and not re.search(r"vac", text, re.IGNORECASE):
        raise DataError(
            f"Mask {path}: its comments speak of air wavelengths, expected vacuum; convert them "
            "(n = 1.00027 shifts a line by 82 km/s)."
        )


def _text_rows(path: Path) -> tuple[np.ndarray, Namer]:
    import numpy as np

    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(
            f"Mask {path}: not text (byte {error.start}); expected three columns of numbers, or a FITS table "
            "named .fits."
        ) from error
    rows: list[list[float]] = []
    numbers: list[int] = []
    comments: list[str] = []
    order: Sequence[int] = (0, 1, 2)
    for number, line in enumerate(text.splitlines(), start=1):
        content, _, comment = line.partition("#")
        comments.append(comment)
        cells = content.replace(",", " ").split()
        if not cells:
            continue
        try:
            values = [float(cell) for cell in cells]
        except ValueError:
            named = [cell.lower() for cell in cells]
            if not rows and {FIRST, WEIGHT} <= set(named):
                order = [named.index(n) if n in named else named.index(FIRST) for n in (FIRST, LAST, WEIGHT)]
                continue
            raise DataError(
                f"Mask {path}: line {number} holds {content.strip()!r}, expected three numbers: first and "
                "last wavelength in nm, weight."
            ) from None
        if len(values) <= max(order):
            raise DataError(
                f"Mask {path}: line {number} holds {len(values)} numbers, expected three: first and last "
                "wavelength in nm, weight."
            )
        rows.append([values[k] for k in order])
        numbers.append(number)
    _check_vacuum(path, " ".join(comments))
    return np.array(rows, np.float64).reshape(-1, 3), Namer("line", tuple(numbers))


def _fits_rows(path: Path) -> tuple[np.ndarray, Namer]:
    import numpy as np

    from apero_dask.io.fits import FitsFile

    file = FitsFile(path)
    for unit in file.units[1:]:
        if not unit.is_table:
            continue
        titles = {
            str(value).strip().lower(): int(key[5:])
            for key, value in unit.values.items()
            if re.fullmatch(r"TTYPE\d+", key)
        }
        if not {FIRST, WEIGHT} <= set(titles):
            continue
        said = str(unit.values.get(f"TUNIT{titles[FIRST]}", "nm")).strip().lower()
        if said not in ("", "nm", "nanometer", "nanometre", "nanometers"):
            raise DataError(f"Mask {path}: {FIRST} in {said}, expected nm; convert the wavelengths.")
        _check_vacuum(path, file.text + unit.text)
        columns = {name.lower(): values for name, values in file.table(unit.number).items()}
        chosen = [columns[FIRST], columns.get(LAST, columns[FIRST]), columns[WEIGHT]]
        rows = np.stack([np.asarray(c, np.float64) for c in chosen], axis=1)
        return rows, Namer("row", tuple(range(1, rows.shape[0] + 1)))
    found = ", ".join(unit.name or str(unit.number) for unit in file.units[1:]) or "none"
    raise DataError(
        f"Mask {path}: no table with the columns {FIRST} and {WEIGHT} (extensions: {found}); use a mask."
    )


@dataclass(frozen=True, slots=True)
class Namer:
    """Names a row of a mask in messages."""

    word: str
    numbers: tuple[int, ...]

    def __call__(self, row: int) -> str:
        """E.g. ``line 17``."""
        return f"{self.word} {self.numbers[int(row)]}"
