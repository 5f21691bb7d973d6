"""Geometry and order tables of an instrument, as the simulator reads them.

The files are those of ``apero_dask/tables`` or a user's own in the same form.  A configuration can also keep
a part of an instrument only (some orders, a window of the calibrated frame): same optics, less to paint.
"""

from __future__ import annotations

import csv
import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, get_type_hints

import numpy as np
from numpy.polynomial import chebyshev

from apero_dask.simulator.settings import ConfigError, convert, setting

FIBRES = ("A", "B", "C")
"""Real fibres; index 0, 1, 2 of every array with a fibre axis."""
PACKAGED = ("SPIROU", "SPIROU_MINI")
SLIT_HALF_HEIGHT = 8.0
"""Pixels from a trace to the edge of the light of its fibre, rounded up."""


@dataclass(frozen=True)
class GeometryConfig:
    """Which detector and orders are painted; left empty, the packaged instrument as it is."""

    file: str | None = setting(
        None,
        "Geometry of a user: TOML file in the form of the packaged spirou.toml whose key 'tables' is the "
        "prefix of its three CSV tables, relative to the file; its 'name' must equal 'instrument'.",
    )
    echelle: tuple[int, ...] | None = setting(
        None, "Echelle orders to keep; not set = all of the instrument."
    )
    rows: tuple[int, int] | None = setting(
        None, "Window [first, end) of the calibrated frame across the dispersion to keep.", unit="px"
    )
    columns: tuple[int, int] | None = setting(
        None, "Window [first, end) of the calibrated frame along the dispersion to keep.", unit="px"
    )


@dataclass(frozen=True)
class Geometry:
    """Detector, calibrated frame and orders with a role.  Pixels, seconds, degrees."""

    name: str
    raw_rows: int
    raw_columns: int
    reference_border: int
    amplifiers: int
    dark_amplifiers: int
    gain: float
    read_noise_e: float
    frame_time_s: float
    saturation_adu: float
    x0: int
    nx: int
    y0: int
    ny: int
    """``cal[y, x] = raw[x + x0, raw_columns - 1 - (y + y0)]``."""
    echelle: tuple[int, ...]
    snr_telluric: int
    """Echelle order whose middle carries the S/N of a target."""
    opaque: int
    blaze_constant_nm: float
    latitude_deg: float
    longitude_deg: float
    height_m: float
    instrume: str

    @property
    def full_shape(self) -> tuple[int, int]:
        """Shape (rows across the dispersion, columns along it) of the full flipped frame."""
        return self.raw_columns, self.raw_rows

    @property
    def lit_rows(self) -> tuple[int, int]:
        """Rows [first, end) of the full flipped frame that light can reach."""
        dark = self.dark_amplifiers * (self.raw_columns // self.amplifiers)
        return self.reference_border, self.raw_columns - max(dark, self.reference_border)

    @property
    def lit_columns(self) -> tuple[int, int]:
        """Columns [first, end) of the full flipped frame that light can reach."""
        return self.reference_border, self.raw_rows - self.reference_border


@dataclass(frozen=True, eq=False)
class OrderTable:
    """First-guess description of the orders, from the tables.

    Series are Chebyshev of the first kind in ``u = 2 (x + x_start) / length - 1`` with x the column of the
    calibrated frame; ``x_start`` and ``y_start`` belong to a window and are 0 for a whole instrument.
    """

    echelle: np.ndarray
    """(order,) int."""
    wave_nm: np.ndarray
    """(4 fibres AB A B C, order, coefficient), vacuum nm."""
    trace_px: np.ndarray
    """(3 fibres A B C, order, coefficient); subtract y_start."""
    width_px: np.ndarray
    """(3 fibres, order, coefficient): lit height of the slit image."""
    fsr_px: np.ndarray
    fp_series: np.ndarray
    """(2, order of the whole instrument): middle wavelength in nm and S/N of the Fabry-Perot in fibre C."""
    leak: np.ndarray
    """(2 fibres A B, order) fraction of C that arrives in the fibre."""
    length: float
    height: float
    """Columns and rows of the calibrated frame of the whole instrument."""
    x_start: float
    y_start: float
    complete: bool
    """False when some orders of the instrument were left out."""


@lru_cache(maxsize=16)
def load_instrument(instrument: str, config: GeometryConfig) -> tuple[Geometry, OrderTable]:
    """Read geometry and order table of `instrument`, reduced to the window of `config`.

    Raises
    ------
    ConfigError
        Unknown instrument, missing or malformed table, window without orders, order outside the detector.
    """
    folder, text = _locate(instrument, config)
    values = _parse(text, instrument)
    geometry = _geometry(values, instrument)
    table = _order_table(folder, values, geometry)
    geometry, table = _window(geometry, table, config)
    _check_orders(geometry, table)
    return geometry, table


def _locate(instrument: str, config: GeometryConfig) -> tuple[Traversable, Traversable]:
    if config.file is not None:
        path = Path(config.file)
        if not path.is_file():
            raise ConfigError(
                f"geometry.file = {config.file!r}: no such file; "
                "give the path of a geometry TOML or remove the key."
            )
        return path.parent, path
    if instrument not in PACKAGED:
        raise ConfigError(
            f"instrument = {instrument!r}: expected one of {', '.join(PACKAGED)}; "
            "for another one name its geometry TOML in geometry.file."
        )
    folder = resources.files("apero_dask.tables")
    return folder, folder.joinpath(instrument.lower() + ".toml")


def _parse(path: Traversable, instrument: str) -> dict[str, Any]:
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"Geometry {path} is not valid TOML: {error}; correct it.") from None
    except OSError as error:
        raise ConfigError(f"Geometry {path} cannot be read: {error.strerror}; check the file.") from None
    if values.get("name") != instrument:
        raise ConfigError(
            f"Geometry {path} describes {values.get('name')!r} but instrument = {instrument!r}; "
            "make them equal."
        )
    return values


SOURCES = {
    "detector": (
        "raw_rows raw_columns reference_border amplifiers dark_amplifiers gain read_noise_e frame_time_s "
        "saturation_adu"
    ),
    "cal": "x0 nx y0 ny",
    "orders": "echelle snr_telluric opaque",
    "optics": "blaze_constant_nm",
    "site": "latitude_deg longitude_deg height_m",
    "identify": "instrume",
}
"""Keys of a geometry file that the simulator reads, by section; their types are those of ``Geometry``."""
NOT_NEGATIVE = ("reference_border", "dark_amplifiers", "x0", "y0")
POSITIVE = (
    "raw_rows",
    "raw_columns",
    "amplifiers",
    "gain",
    "read_noise_e",
    "frame_time_s",
    "saturation_adu",
    "nx",
    "ny",
    "blaze_constant_nm",
)
EXPECTED = {int: "a whole number", float: "a finite number", str: "a text in quotes"}


def _geometry(values: Mapping[str, Any], instrument: str) -> Geometry:
    hints = get_type_hints(Geometry)
    found: dict[str, Any] = {"name": instrument}

    def refuse(name: str, expected: str) -> ConfigError:
        section, key = name.split(".")
        return ConfigError(
            f"Geometry of {instrument}: {name} = {values[section][key]!r}, {expected} was expected; "
            "correct it in the geometry file."
        )

    for section, keys in SOURCES.items():
        for key in keys.split():
            table = values.get(section)
            if not isinstance(table, Mapping) or key not in table:
                raise ConfigError(
                    f"Geometry of {instrument} lacks {section}.{key}; "
                    "complete it after the example of the packaged spirou.toml."
                )
            name = f"{section}.{key}"
            try:
                value = convert(table[key], hints[key], name)
            except ConfigError:
                raise refuse(name, EXPECTED.get(hints[key], "a list of whole numbers")) from None
            if isinstance(value, float) and not math.isfinite(value):
                raise refuse(name, EXPECTED[float])
            if key in POSITIVE and not value > 0:
                raise refuse(name, "a positive number")
            if key in NOT_NEGATIVE and value < 0:
                raise refuse(name, "0 or a positive number")
            found[key] = value
    geometry = Geometry(**found)
    echelle = geometry.echelle
    if not echelle or len(set(echelle)) < len(echelle):
        raise refuse("orders.echelle", "a list of different orders")
    for role in ("snr_telluric", "opaque"):
        if getattr(geometry, role) not in echelle:
            raise refuse(f"orders.{role}", "one of orders.echelle")
    for key, largest in (("latitude_deg", 90.0), ("longitude_deg", 360.0)):
        if abs(getattr(geometry, key)) > largest:
            raise refuse(f"site.{key}", f"an angle between -{largest:g} and {largest:g}")
    _check_frame(geometry)
    return geometry


def _check_frame(g: Geometry) -> None:
    if g.raw_columns % g.amplifiers:
        raise ConfigError(
            f"Geometry of {g.name}: raw_columns = {g.raw_columns} is no multiple of {g.amplifiers} "
            "amplifiers; they are stripes of equal width, change one of the two."
        )
    if g.dark_amplifiers >= g.amplifiers:
        raise ConfigError(
            f"Geometry of {g.name}: dark_amplifiers = {g.dark_amplifiers} leaves none of {g.amplifiers} "
            "amplifiers for light; correct one of the two."
        )
    if 2 * g.reference_border >= min(g.raw_rows, g.raw_columns):
        raise ConfigError(
            f"Geometry of {g.name}: reference_border = {g.reference_border} leaves no light-sensitive pixel "
            f"of {g.raw_rows} x {g.raw_columns}; correct it."
        )
    if g.x0 + g.nx > g.raw_rows or g.y0 + g.ny > g.raw_columns:
        raise ConfigError(
            f"Geometry of {g.name}: the calibrated frame (x {g.x0}..{g.x0 + g.nx}, y {g.y0}..{g.y0 + g.ny}) "
            f"does not fit the raw frame of {g.raw_rows} x {g.raw_columns}; correct x0, nx, y0 or ny."
        )


def _read_rows(folder: Traversable, name: str) -> list[dict[str, str]]:
    path = folder.joinpath(name)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(
            f"Order table {path} does not exist; a geometry needs <tables>_wave.csv, <tables>_trace.csv and "
            "<tables>_orders.csv beside its TOML."
        ) from None
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"Order table {path} is not UTF-8 text ({error.reason}); save it as such."
        ) from None
    except OSError as error:
        raise ConfigError(f"Order table {path} cannot be read: {error.strerror}; check the file.") from None
    return list(csv.DictReader(line for line in text.splitlines() if not line.startswith("#")))


def _cell(row: Mapping[str, str | None], key: str, name: str) -> str:
    text = row.get(key)
    if text is None:
        raise ConfigError(
            f"Order table {name} has no column {key}, or a row that ends before it; "
            "complete it after the example of the packaged tables."
        )
    return text.strip()


def _number(row: Mapping[str, str | None], key: str, name: str) -> float:
    text = _cell(row, key, name)
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ConfigError(f"Order table {name}: {key} = {text!r}, a finite number was expected; correct it.")
    return value


def _order_table(folder: Traversable, values: Mapping[str, Any], geometry: Geometry) -> OrderTable:
    prefix = values.get("tables")
    if not isinstance(prefix, str):
        raise ConfigError(
            f"Geometry of {geometry.name}: tables = {prefix!r}, the prefix of its CSV files was expected."
        )
    echelle = geometry.echelle
    wave = _coefficients(folder, f"{prefix}_wave.csv", "c{}_nm", ("AB", *FIBRES), echelle)
    trace = _coefficients(folder, f"{prefix}_trace.csv", "y{}_px", FIBRES, echelle)
    width = _coefficients(folder, f"{prefix}_trace.csv", "w{}_px", FIBRES, echelle)
    name = f"{prefix}_orders.csv"
    rows = {_number(row, "echelle", name): row for row in _read_rows(folder, name)}
    missing = [m for m in echelle if m not in rows]
    if missing:
        raise ConfigError(f"Order table {name} has no row for echelle order {missing[0]}; add it.")

    def column(key: str) -> np.ndarray:
        return np.array([_number(rows[m], key, name) for m in echelle])

    return OrderTable(
        echelle=np.array(echelle),
        wave_nm=wave,
        trace_px=trace,
        width_px=width,
        fsr_px=column("fsr_px"),
        fp_series=np.stack([chebyshev.chebval(0.0, np.moveaxis(wave[0], -1, 0)), column("fp_snr_c")]),
        leak=np.stack([column("leak_a_over_c"), column("leak_b_over_c")]),
        length=float(geometry.nx),
        height=float(geometry.ny),
        x_start=0.0,
        y_start=0.0,
        complete=True,
    )


def _coefficients(
    folder: Traversable, name: str, key: str, fibres: tuple[str, ...], echelle: tuple[int, ...]
) -> np.ndarray:
    table = _read_rows(folder, name)
    rows = {(_cell(row, "fibre", name), _number(row, "echelle", name)): row for row in table}
    for fibre in fibres:
        for m in echelle:
            if (fibre, m) not in rows:
                raise ConfigError(
                    f"Order table {name} has no row for fibre {fibre}, echelle order {m}; add it."
                )
    degrees = range(max(1, sum(key.format(j) in table[0] for j in range(20))))
    return np.array(
        [[[_number(rows[f, m], key.format(j), name) for j in degrees] for m in echelle] for f in fibres]
    )


def _window(g: Geometry, table: OrderTable, config: GeometryConfig) -> tuple[Geometry, OrderTable]:
    """Keep some orders and a window of the calibrated frame, on a detector just large enough."""
    if config.echelle is not None:
        unknown = [m for m in config.echelle if m not in g.echelle]
        if unknown or not config.echelle:
            raise ConfigError(
                f"geometry.echelle = {list(config.echelle)}: expected orders of {g.name} "
                f"({g.echelle[0]}..{g.echelle[-1]}); correct 'echelle' in [geometry]."
            )
        keep = [i for i, m in enumerate(g.echelle) if m in config.echelle]
        table = replace(
            table,
            echelle=table.echelle[keep],
            wave_nm=table.wave_nm[:, keep],
            trace_px=table.trace_px[:, keep],
            width_px=table.width_px[:, keep],
            fsr_px=table.fsr_px[keep],
            leak=table.leak[:, keep],
            complete=len(keep) == len(g.echelle),
        )
        kept = tuple(int(m) for m in table.echelle)
        # An order with a role that is left out hands it to the nearest one kept.
        nearest = {
            role: min(kept, key=lambda m, r=role: abs(m - getattr(g, r)))
            for role in ("snr_telluric", "opaque")
        }
        g = replace(g, echelle=kept, **nearest)
    for key, size in (("rows", g.ny), ("columns", g.nx)):
        window = getattr(config, key)
        if window is not None and not 0 <= window[0] < window[1] <= size:
            raise ConfigError(
                f"geometry.{key} = {list(window)}: expected 0 <= first < end <= {size}; "
                f"correct '{key}' in [geometry]."
            )
    if config.columns is not None:
        first, end = config.columns
        border = g.reference_border
        g = replace(g, nx=end - first, x0=border, raw_rows=end - first + 2 * border)
        table = replace(table, x_start=float(first))
    if config.rows is not None:
        first, end = config.rows
        lit = g.amplifiers - g.dark_amplifiers
        width = math.ceil((end - first + 2 * g.reference_border) / lit)
        g = replace(g, ny=end - first, y0=g.reference_border, raw_columns=width * g.amplifiers)
        table = replace(table, y_start=float(first))
    return g, table


def _check_orders(g: Geometry, table: OrderTable) -> None:
    """Every order must be inside the calibrated frame somewhere along it, with all its fibres."""
    x = np.linspace(0, g.nx - 1, 33)
    u = 2 * (x + table.x_start) / table.length - 1
    y = chebyshev.chebval(u, np.moveaxis(table.trace_px, -1, 0)) - table.y_start
    inside = ((y > SLIT_HALF_HEIGHT) & (y < g.ny - 1 - SLIT_HALF_HEIGHT)).all(axis=0).any(axis=-1)
    if not inside.all():
        i = int(np.flatnonzero(~inside)[0])
        raise ConfigError(
            f"Echelle order {table.echelle[i]} of {g.name} leaves the detector: its fibres lie at "
            f"y = {y[:, i].min():.0f}..{y[:, i].max():.0f} px, the calibrated frame has {g.ny} rows; "
            "leave the order out in geometry.echelle or correct the trace table, y0 and ny."
        )
