"""Lines of the uranium-neon lamp."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from apero_dask.core.errors import DataError

if TYPE_CHECKING:
    import numpy as np

NAME = "lines_une.csv"
FOLDER = "lines"
_COLUMNS = ("wave_vac_nm", "strength")


@dataclass(frozen=True, slots=True)
class Catalogue:
    """Lines with rising wavelength."""

    wave: np.ndarray
    """Vacuum nm."""
    strength: np.ndarray
    """Relative flux."""
    origin: str
    """``built-in``, or the name of the file in the assets."""


def load_catalogue(assets: Path | None) -> Catalogue:
    """Catalogue of the assets (``lines/lines_une.csv``), else the built-in one.

    Format: CSV with a header row and the columns wave_vac_nm and strength; ``#`` starts a comment line.

    Raises
    ------
    DataError
        A column is missing, a value is no positive number, or there is no line.
    """
    from importlib.resources import files

    path = assets / FOLDER / NAME if assets is not None else None
    if path is not None and path.is_file():
        return read_catalogue(path.read_text(encoding="utf-8"), f"{FOLDER}/{NAME}")
    return read_catalogue(files("apero_dask.tables").joinpath(NAME).read_text(encoding="utf-8"), "built-in")


def read_catalogue(text: str, origin: str) -> Catalogue:
    """Catalogue from the text of a file; `origin` names it in messages."""
    import numpy as np

    rows = list(
        csv.DictReader(line for line in text.splitlines() if line.strip() and not line.startswith("#"))
    )
    if not rows or any(rows[0].get(column) is None for column in _COLUMNS):
        raise DataError(
            f"lamp catalogue {origin}: columns {', '.join(_COLUMNS)} and at least one line expected, found "
            f"{', '.join(map(str, rows[0])) if rows else 'no line'}; correct the file."
        )
    values = np.full((len(rows), 2), np.nan)
    for k, row in enumerate(rows):
        for j, column in enumerate(_COLUMNS):
            try:
                values[k, j] = float(row[column])
            except (TypeError, ValueError):
                raise DataError(
                    f"lamp catalogue {origin}, line {k + 1}: {column} = {row[column]!r}, expected a number; "
                    "correct the file."
                ) from None
    if not (np.isfinite(values).all() and (values > 0).all()):
        bad = int(np.flatnonzero(~(np.isfinite(values) & (values > 0)).all(axis=1))[0])
        raise DataError(
            f"lamp catalogue {origin}, line {bad + 1}: {values[bad].tolist()}, expected positive numbers; "
            "correct the file."
        )
    values = values[np.argsort(values[:, 0], kind="stable")]
    return Catalogue(np.ascontiguousarray(values[:, 0]), np.ascontiguousarray(values[:, 1]), origin)
