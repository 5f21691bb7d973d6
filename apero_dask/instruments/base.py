"""What the rest of the package may know about an instrument.

Geometry, fibres, orders with a role, site, header conventions and frame types come from the packaged
tables; no other module contains a detector size, an order count or the number of an order.
"""

from __future__ import annotations

import csv
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

TABLES = "apero_dask.tables"


@dataclass(frozen=True, slots=True)
class FrameType:
    """One DPRTYPE and the header values that identify it; ``*`` = not tested."""

    name: str
    obstype: str
    sbccas_p: str
    sbcref_p: str
    sbcali_p: str
    drsmode: str
    trg_type: str
    letter: str
    """Letter of the file name that belongs to the type; the header decides, not the letter."""
    science: str
    """What the science fibres see: dark, flat, fp, hc1, hc2, lfc, star or sky."""
    reference: str
    """What the reference fibre sees."""
    frame_class: str
    """CALIB, SKY or object."""

    def matches(self, obstype: str, cas: str, ref: str, wheel: str, drsmode: str, trg_type: str) -> bool:
        """Whether header values (upper case, stripped) belong to this type."""
        found = (obstype, cas, ref, wheel, drsmode, trg_type)
        wanted = (self.obstype, self.sbccas_p, self.sbcref_p, self.sbcali_p, self.drsmode, self.trg_type)
        return all(w in ("*", f) for w, f in zip(wanted, found, strict=True))


@dataclass(frozen=True, slots=True)
class Instrument:
    """One instrument; lengths in pixels, times in seconds, angles in degrees."""

    name: str
    raw_rows: int
    raw_columns: int
    reference_border: int
    amplifiers: int
    dark_amplifiers: int
    """Number of first amplifiers that no order reaches."""
    gain: float
    """e-/ADU."""
    read_noise_e: float
    frame_time_s: float
    saturation_adu: float
    x0: int
    nx: int
    """Columns of the calibrated frame = length of an order."""
    y0: int
    ny: int
    """Rows of the calibrated frame: cal[y, x] = raw[x + x0, raw_columns - 1 - (y + y0)]."""
    echelle: tuple[int, ...]
    """Echelle numbers, from the bluest order to the reddest."""
    snr_telluric: int
    """Order (index) whose S/N gates the telluric steps."""
    snr_client: int
    """Order (index) whose S/N users' programs read."""
    snr_table: int
    flat_qc_excluded: tuple[int, ...]
    """Orders (indices) that the flat quality control leaves out."""
    thermal: tuple[int, ...]
    """Orders (indices) with visible thermal emission."""
    opaque: int
    """Order (index) in which the sky is opaque; scales the thermal correction."""
    blaze_constant_nm: float
    fibres: tuple[str, ...]
    science_fibres: tuple[str, ...]
    reference_fibres: tuple[str, ...]
    traced_fibres: tuple[str, ...]
    localised: tuple[str, ...]
    """Fibre groups with a localisation product of their own."""
    slices: int
    """Images of one fibre that the slicer puts side by side across the dispersion."""
    latitude: float
    longitude: float
    """East positive."""
    height_m: float
    instrume: str
    """Value of INSTRUME in the raw header."""
    tables: str
    frame_types: tuple[FrameType, ...]
    """In matching order."""

    @property
    def norders(self) -> int:
        """Number of echelle orders."""
        return len(self.echelle)

    @property
    def scale(self) -> float:
        """Pixels of a raw frame relative to the full-size instrument, for estimates of time and memory."""
        full = instrument(INSTRUMENTS[0])
        return self.raw_rows * self.raw_columns / (full.raw_rows * full.raw_columns)

    def frame_type(self, name: str) -> FrameType:
        """Type called ``name``; KeyError if there is none."""
        return _types_by_name(self)[name]

    def localised_group(self, fibre: str) -> str:
        """Localisation group that holds ``fibre``.

        >>> instrument("SPIROU").localised_group("B")
        'AB'
        """
        return fibre if fibre in self.localised else next(g for g in self.localised if fibre in g)

    def identify(self, header: Mapping[str, str], drsmode: str, trg_type: str) -> FrameType | None:
        """First frame type that the header matches, or None.  Values are compared stripped, without case."""
        values = [
            header.get(key, "").strip().upper() for key in ("OBSTYPE", "SBCCAS_P", "SBCREF_P", "SBCALI_P")
        ]
        for frame_type in self.frame_types:
            if frame_type.matches(values[0], values[1], values[2], values[3], drsmode, trg_type):
                return frame_type
        return None

    def table(self, what: str) -> list[dict[str, str]]:
        """Rows of the packaged table ``wave``, ``trace`` or ``orders`` of this instrument."""
        return _read_csv(f"{self.tables}_{what}.csv")


INSTRUMENTS = ("SPIROU", "SPIROU_MINI")
"""Supported names."""


def _read_csv(name: str) -> list[dict[str, str]]:
    text = files(TABLES).joinpath(name).read_text(encoding="utf-8")
    return list(csv.DictReader(line for line in text.splitlines() if not line.startswith("#")))


@cache
def _types_by_name(instrument: Instrument) -> dict[str, FrameType]:
    return {t.name: t for t in instrument.frame_types}


def _frame_types() -> tuple[FrameType, ...]:
    def upper(row: dict[str, str], key: str) -> str:
        return row[key].upper()

    return tuple(
        FrameType(
            name=row["dprtype"],
            obstype=upper(row, "obstype"),
            sbccas_p=upper(row, "sbccas_p"),
            sbcref_p=upper(row, "sbcref_p"),
            sbcali_p=upper(row, "sbcali_p"),
            drsmode=upper(row, "drsmode"),
            trg_type=upper(row, "trg_type"),
            letter=row["letter"],
            science=row["science_fibres"],
            reference=row["reference_fibre"],
            frame_class=row["frame_class"],
        )
        for row in _read_csv("dprtypes.csv")
    )


@cache
def instrument(name: str) -> Instrument:
    """Description of the instrument called ``name`` (any case).

    Raises
    ------
    KeyError
        If ``name`` is not in :data:`INSTRUMENTS`.

    >>> instrument("spirou").norders, instrument("SPIROU_MINI").norders
    (49, 12)
    """
    if name.upper() not in INSTRUMENTS:
        raise KeyError(name)
    toml: dict[str, Any] = tomllib.loads(
        files(TABLES).joinpath(f"{name.lower()}.toml").read_text(encoding="utf-8")
    )
    detector, cal, orders, fibres, site = (
        toml[key] for key in ("detector", "cal", "orders", "fibres", "site")
    )
    echelle = tuple(orders["echelle"])
    index = echelle.index
    return Instrument(
        name=toml["name"],
        **detector,
        **cal,
        echelle=echelle,
        snr_telluric=index(orders["snr_telluric"]),
        snr_client=index(orders["snr_client"]),
        snr_table=index(orders["snr_table"]),
        flat_qc_excluded=tuple(sorted(index(m) for m in orders["flat_qc_excluded"])),
        thermal=tuple(sorted(index(m) for m in orders["thermal"])),
        opaque=index(orders["opaque"]),
        blaze_constant_nm=toml["optics"]["blaze_constant_nm"],
        fibres=tuple(fibres["all"]),
        science_fibres=tuple(fibres["science"]),
        reference_fibres=tuple(fibres["reference"]),
        traced_fibres=tuple(fibres["traced"]),
        localised=tuple(fibres["localised"]),
        slices=fibres["slices"],
        latitude=site["latitude_deg"],
        longitude=site["longitude_deg"],
        height_m=site["height_m"],
        instrume=toml["identify"]["instrume"],
        tables=toml["tables"],
        frame_types=_frame_types(),
    )


def hint_of_shape(shape: tuple[int, ...] | None, own: Instrument) -> str:
    """Sentence for messages about an image of another instrument; empty if no instrument has that shape.

    ``shape``: of a raw, preprocessed or calibrated frame, or of a spectrum.

    >>> hint_of_shape((12, 1016), instrument("SPIROU"))
    ' That is the shape of SPIROU_MINI: reduce with it, single recipes with --instrument SPIROU_MINI.'
    >>> hint_of_shape((12, 1000), instrument("SPIROU"))
    ''
    """
    for name in INSTRUMENTS:
        i = instrument(name)
        shapes = ((i.raw_rows, i.raw_columns), (i.raw_columns, i.raw_rows), (i.ny, i.nx), (i.norders, i.nx))
        if shape in shapes and i.name != own.name:
            return (
                f" That is the shape of {i.name}: reduce with it, single recipes with --instrument {i.name}."
            )
    return ""
