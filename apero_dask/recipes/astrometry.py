"""Where the place and motion of a target come from: the object table of the assets, else the raw header.

Every value keeps its source.  Heavy imports happen inside the functions.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from apero_dask.io.assets import OBJECTS_FILE, ObjectTable, read_objects
from apero_dask.recipes.barycentre import Star
from apero_dask.recipes.sharing import file_key

if TYPE_CHECKING:
    from apero_dask.recipes.context import RecipeContext

TABLE, HEADER, NONE = "table", "header", "none"
UNKNOWN_RV = 1000.0  # km/s: value of OBJRV of a proposal that knows none
LARGEST_RV = 900.0
JD_2000 = 2_451_545.0
DAYS_PER_YEAR = 365.25

_TABLE_COLUMNS = {
    "pm_ra_mas": ("PMRA", "PMRA_SOURCE"),
    "pm_dec_mas": ("PMDE", "PMDE_SOURCE"),
    "parallax_mas": ("PLX", "PLX_SOURCE"),
    "rv_kms": ("RV", "RV_SOURCE"),
}
_HEADER_KEYS = {
    "pm_ra_mas": ("OBJRAPM", 1000.0),
    "pm_dec_mas": ("OBJDECPM", 1000.0),
    "parallax_mas": ("OBJPLX", 1.0),
    "rv_kms": ("OBJRV", 1.0),
}


@dataclass(frozen=True, slots=True)
class Target:
    """A star and the source of everything known about it."""

    name: str
    star: Star | None
    """None if no place is known."""
    source: str
    """``table``, ``header`` or ``none``: where the place is from."""
    sources: dict[str, str] = field(default_factory=dict)
    """Source of each value: ra_deg, dec_deg, pm_ra_mas, ..."""
    original: str = ""
    """Name in the header."""
    temperature_k: float = math.nan
    spectral_type: str = ""
    problems: tuple[str, ...] = ()
    """Values that could not be used."""


def object_table(ctx: RecipeContext) -> ObjectTable:
    """Object table of the assets, shared by the runs of a process; empty without file."""
    path = ctx.trees.assets / OBJECTS_FILE
    try:
        key = f"objects {file_key(path)}"
    except FileNotFoundError:
        return ObjectTable()
    table: ObjectTable = ctx.cached(key, lambda: read_objects(path))
    return table


def find_target(table: ObjectTable, name: str, header: Mapping[str, Any]) -> Target:
    """Target of a frame.

    Parameters
    ----------
    name
        Object as the plan resolved it (DRSOBJN); empty: OBJECT of the header counts.
    header
        Values of the header of the frame.

    Notes
    -----
    The place comes from one source, with its epoch; motions, parallax and velocity that the table lacks
    are taken from the header, since a rough value is better than none.  OBJRAPM contains the cosine of the
    declination; OBJEQUIN is epoch and equinox (FK5 at J2000 differs from ICRS by less than 0.03 arcsec).
    """
    original = str(header.get("OBJECT") or header.get("OBJNAME") or "").strip()
    resolved = table.names.resolve(name or original)
    row = table.rows.get(resolved, {})
    problems: list[str] = []
    place = _table_place(row, problems)
    source = TABLE if place else HEADER
    place = place or _header_place(header, problems)
    temperature = _number(row.get("TEFF"), "TEFF", problems)
    if temperature is None:
        temperature = _number(header.get("OBJTEMP"), "OBJTEMP", problems)
    kind = row.get("SP_TYPE", "")
    if place is None:
        return Target(resolved, None, NONE, {}, original, temperature or math.nan, kind, tuple(problems))
    values = {"ra_deg": place[0], "dec_deg": place[1], "epoch_jd": place[2]}
    sources = {
        "ra_deg": (row.get("RA_SOURCE") or TABLE) if source == TABLE else HEADER,
        "dec_deg": (row.get("DEC_SOURCE") or TABLE) if source == TABLE else HEADER,
    }
    for key, (column, source_column) in _TABLE_COLUMNS.items():
        value = _number(row.get(column), column, problems)
        sources[key] = row.get(source_column) or TABLE
        if value is None:
            keyword, factor = _HEADER_KEYS[key]
            found = _number(header.get(keyword), keyword, problems)
            if keyword == "OBJRV" and found is not None and abs(found) > LARGEST_RV:
                found = None
            value, sources[key] = (found * factor, HEADER) if found is not None else (0.0, NONE)
        values[key] = value
    values["parallax_mas"] = max(values["parallax_mas"], 0.0)
    return Target(
        resolved, Star(**values), source, sources, original, temperature or math.nan, kind, tuple(problems)
    )


def _table_place(row: Mapping[str, str], problems: list[str]) -> tuple[float, float, float] | None:
    ra, dec = _number(row.get("RA_DEG"), "RA_DEG", problems), _number(row.get("DEC_DEG"), "DEC_DEG", problems)
    if ra is None or dec is None:
        return None
    epoch = _number(row.get("EPOCH"), "EPOCH", problems)
    # A year instead of a Julian date is a common slip and would move the star by millennia.
    if epoch is not None and 1800.0 < epoch < 2200.0:
        epoch = JD_2000 + (epoch - 2000.0) * DAYS_PER_YEAR
    return _checked(ra, dec, JD_2000 if epoch is None else epoch, "object table", problems)


def _header_place(header: Mapping[str, Any], problems: list[str]) -> tuple[float, float, float] | None:
    ra, dec = sexagesimal(header.get("OBJRA")), sexagesimal(header.get("OBJDEC"))
    if ra is None or dec is None:
        problems.append(f"OBJRA = {header.get('OBJRA')!r}, OBJDEC = {header.get('OBJDEC')!r}")
        return None
    epoch = _number(header.get("OBJEQUIN"), "OBJEQUIN", problems)
    year = 2000.0 if epoch is None or not 1800.0 < epoch < 2200.0 else epoch
    return _checked(15.0 * ra, dec, JD_2000 + (year - 2000.0) * DAYS_PER_YEAR, "header", problems)


def _checked(
    ra: float, dec: float, epoch: float, where: str, problems: list[str]
) -> tuple[float, float, float] | None:
    if 0.0 <= ra <= 360.0 and -90.0 <= dec <= 90.0:
        return ra, dec, epoch
    problems.append(f"{where}: right ascension {ra:g}, declination {dec:g} deg is no place on the sky")
    return None


def sexagesimal(value: object) -> float | None:
    """Number of a text like ``17:57:48.49`` or ``-0 12 30``; None if it is none.

    >>> sexagesimal("-0:30:00"), sexagesimal("4:41:36.2"), sexagesimal("north")
    (-0.5, 4.693388888888889, None)
    """
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value) if math.isfinite(value) else None
    parts = str(value or "").strip().replace(":", " ").split()
    try:
        numbers = [float(part) for part in parts]
    except ValueError:
        return None
    if not 1 <= len(numbers) <= 3 or not all(map(math.isfinite, numbers)) or min(numbers[1:], default=0) < 0:
        return None
    size = sum(abs(number) / 60**k for k, number in enumerate(numbers))
    return -size if parts[0].startswith("-") else size


def _number(value: object, name: str, problems: list[str]) -> float | None:
    """Finite number of a cell or header value; None for an empty one, a problem for a wrong one."""
    text = str(value).strip() if value is not None else ""
    if not text or isinstance(value, bool) or text.lower() in ("none", "nan"):
        return None
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        problems.append(f"{name} = {text!r} is not a number")
        return None
    return number
