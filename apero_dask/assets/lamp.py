"""Lamp catalogues of other programs, brought into our form."""

from __future__ import annotations

import csv
import re

from apero_dask.core.errors import DataError
from apero_dask.recipes.sky_absorption import vacuum
from apero_dask.recipes.wave_catalogue import Catalogue, read_catalogue

WAVE_NAMES = ("wave_vac_nm", "wavelength", "ll", "wave")
STRENGTH_NAMES = ("strength", "amp", "amplitude", "intensity")
NEON_AIR = (
    966.54197,
    1056.24075,
    1079.80429,
    1084.44772,
    1114.30200,
    1139.04339,
    1140.91343,
    1152.27459,
    1152.50194,
    1160.15366,
    1161.40807,
    1176.67924,
    1178.90435,
)
"""Strong neon lines, nm in air (Saloman & Sansonetti 2004): the gas of the lamp tells air from vacuum."""
SAME_NM = 0.02
"""Air and vacuum differ by 0.26 nm and more here; catalogues agree to a few thousandths."""
FEWEST_NEON = 5
"""A random list with two lines per nm has 1 of 13 by chance, and 5 once in a thousand."""
FEWEST_LINES = 50
"""A solution needs lines in every order."""


def converted(text: str, name: str) -> tuple[str, Catalogue, str]:
    """Catalogue of another program in our form.

    Parameters
    ----------
    text
        CSV or columns separated by blanks; with a header that names the columns, or two leading columns of
        wavelength and strength.  ``#`` starts a comment line.
    name
        Of the file, for messages and the comment in the result.

    Returns
    -------
    text, catalogue, remarks
        File to write; what it holds; how vacuum was recognised and how many lines without strength were left
        out.

    Raises
    ------
    DataError
        No such columns, too few lines, wavelengths that are no nm or that belong to air.
    """
    rows = _rows(text, name)
    usable = [row for row in rows if row[1] > 0.0]
    body = "\n".join(f"{wave},{strength}" for wave, strength in usable)
    made = f"# lines of {name}\nwave_vac_nm,strength\n{body}\n"
    if len(usable) < FEWEST_LINES:
        raise DataError(f"{len(usable)} lines with a strength, expected at least {FEWEST_LINES}")
    catalogue = read_catalogue(made, name)
    low, high = float(catalogue.wave[0]), float(catalogue.wave[-1])
    if low < 300.0 or high > 5500.0:
        raise DataError(f"wavelengths from {low:g} to {high:g}, expected nm")
    dropped = len(rows) - len(usable)
    remark = f"; {dropped} without strength left out" if dropped else ""
    return made, catalogue, recognised(catalogue) + remark


def recognised(catalogue: Catalogue) -> str:
    """Whether the neon lines among the lines say vacuum.

    Raises
    ------
    DataError
        They say air.
    """
    import numpy as np

    air = np.array(NEON_AIR)
    found = {}
    for kind, lines in (("air", air), ("vacuum", vacuum(air))):
        nearest = np.clip(np.searchsorted(catalogue.wave, lines), 1, catalogue.wave.size - 1)
        distance = np.minimum(
            np.abs(catalogue.wave[nearest] - lines), np.abs(catalogue.wave[nearest - 1] - lines)
        )
        found[kind] = int(np.count_nonzero(distance < SAME_NM))
    if found["air"] >= FEWEST_NEON and found["air"] > found["vacuum"]:
        raise DataError(
            f"{found['air']} of {air.size} strong neon lines are at their wavelengths in air, expected vacuum"
        )
    if found["vacuum"] >= FEWEST_NEON:
        return f"{found['vacuum']} of {air.size} strong neon lines found at their vacuum wavelengths"
    return "no neon line recognised, vacuum taken on trust"


def _rows(text: str, name: str) -> list[tuple[float, float]]:
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    if not lines:
        raise DataError(f"{name} holds no line")
    cells = (
        list(csv.reader(lines))
        if "," in lines[0]
        else [re.split(r"[\s|;]+", line.strip(" \t|;")) for line in lines]
    )
    columns = (0, 1)
    first = 0
    if not _is_number(cells[0][0]):
        header = [cell.strip().lower() for cell in cells[0]]
        columns = (_column(header, WAVE_NAMES), _column(header, STRENGTH_NAMES))
        first = 1
    found = []
    for number, row in enumerate(cells[first:], start=first + 1):
        try:
            found.append((float(row[columns[0]]), float(row[columns[1]])))
        except (IndexError, ValueError):
            shown = ",".join(row)[:60]
            raise DataError(
                f'line {number} after comments reads "{shown}", expected wavelength and strength'
            ) from None
    return found


def _column(header: list[str], names: tuple[str, ...]) -> int:
    for name in names:
        if name in header:
            return header.index(name)
    raise DataError(f"columns {', '.join(header)[:80]}, expected one called {' or '.join(names)}")


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
