"""Line lists of lamp, atmosphere, star and night sky, and how the lamp differs from its catalogue.

The built-in lists are packaged (``apero_dask/tables/lines_*.csv``); a folder of real ones may replace any of
them under the same file names.  Format: CSV with a header row, ``#`` starts a comment
line, vacuum wavelengths in nm:

=====================  ==========================================================
``lines_une.csv``      ``wave_vac_nm,strength``
``lines_telluric.csv`` ``group,wave_vac_nm,weight``, group h2o, h2o_band, dry or others (= dry)
``lines_mdwarf.csv``   ``wave_vac_nm,depth,clean``
``lines_oh.csv``       ``wave_vac_nm,flux,v_upper,v_lower``
=====================  ==========================================================

Group ``h2o_band`` fills the opaque water bands; a list without it gets that of the built-in list.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from pathlib import Path

import numpy as np

from apero_dask.simulator.settings import ConfigError, setting, switch
from apero_dask.simulator.streams import stream

C_KMS = 299792.458
FILES = ("lines_une.csv", "lines_telluric.csv", "lines_mdwarf.csv", "lines_oh.csv")


@dataclass(frozen=True)
class LinesConfig:
    """Line lists, and the errors of the lamp catalogue."""

    folder: str | None = setting(None, "Folder with real line lists; files it lacks are the built-in ones.")
    catalogue_errors: bool = switch(True, "True lamp wavelengths differ from the catalogue.")
    catalogue_rms_ms: float = setting(30.0, "Rms of the normal catalogue error.", unit="m/s", minimum=0)
    catalogue_wrong: float = setting(0.03, "Fraction of lines that are wrong.", minimum=0, maximum=1)
    catalogue_wrong_ms: float = setting(300.0, "Largest error of wrong lines.", unit="m/s", minimum=0)
    blends: bool = switch(True, "Some lamp lines have a companion that the catalogue lacks.")
    blend_fraction: float = setting(0.03, "Fraction of lines with a companion.", minimum=0, maximum=1)
    blend_distance_kms: tuple[float, float] = setting((1.0, 4.0), "Range of distances.", unit="km/s", above=0)
    blend_strength: tuple[float, float] = setting(
        (0.1, 0.6), "Range of companion strengths relative to the line.", minimum=0, maximum=1
    )

    def problems(self) -> list[tuple[str, object, str]]:
        """Contradictions between parameters: key, value, expectation."""
        found: list[tuple[str, object, str]] = []
        if self.folder is not None:
            folder = Path(self.folder)
            if not folder.is_dir():
                found.append(("folder", self.folder, "an existing folder with line lists"))
            elif not any((folder / name).is_file() for name in FILES):
                found.append(("folder", self.folder, "at least one of " + ", ".join(FILES)))
        for key in ("blend_distance_kms", "blend_strength"):
            low, high = getattr(self, key)
            if low > high:
                found.append((key, (low, high), "the smaller value first"))
        return found


@dataclass(frozen=True, eq=False)
class LineList:
    """One list, wavelengths rising."""

    wave: np.ndarray
    """(line,) vacuum nm."""
    strength: np.ndarray
    """(line,) strength, weight, depth or flux, as in the file."""
    group: np.ndarray
    """(line,) text: group of an atmosphere line, ``clean`` flag of a star, vibrational band of the sky."""
    origin: str
    """``built-in`` or the path of the file."""

    def select(self, *groups: str) -> LineList:
        """Lines of the given groups."""
        keep = np.isin(self.group, groups)
        return LineList(self.wave[keep], self.strength[keep], self.group[keep], self.origin)


@dataclass(frozen=True, eq=False)
class LampLines:
    """Lamp lines as they shine and as the catalogue has them."""

    wave: np.ndarray
    """(line,) true vacuum wavelength in nm, rising."""
    catalogue: np.ndarray
    """(line,) wavelength in the catalogue, NaN for companions that it lacks."""
    strength: np.ndarray
    """(line,) strength."""
    blended: np.ndarray
    """(line,) bool: the line has or is a companion."""


@lru_cache(maxsize=8)
def lamp_list(folder: str | None) -> LineList:
    """Catalogue of the uranium-neon lamp."""
    return _read(folder, "lines_une.csv", "strength", None)


@lru_cache(maxsize=8)
def telluric_list(folder: str | None) -> LineList:
    """Atmosphere lines in groups ``h2o`` (bands included) and ``dry``."""
    found = _read(folder, "lines_telluric.csv", "weight", "group")
    unknown = sorted(set(found.group) - {"h2o", "h2o_band", "dry", "others"})
    if unknown:
        raise ConfigError(
            f"Line list {found.origin}: group {str(unknown[0])!r}, expected h2o, h2o_band, dry or others; "
            "correct the file."
        )
    wave, strength, group = found.wave, found.strength, found.group
    if "h2o_band" not in group:
        band = _read(None, "lines_telluric.csv", "weight", "group").select("h2o_band")
        wave = np.concatenate([wave, band.wave])
        strength = np.concatenate([strength, band.strength])
        group = np.concatenate([group, band.group])
    group = np.where(np.isin(group, ("dry", "others")), "dry", "h2o")
    order = np.argsort(wave, kind="stable")
    return LineList(wave[order], strength[order], group[order], found.origin)


@lru_cache(maxsize=8)
def star_list(folder: str | None) -> LineList:
    """Lines of an M dwarf at rest: depth at the resolution of SPIRou; group ``1`` = clean."""
    return _read(folder, "lines_mdwarf.csv", "depth", "clean")


@lru_cache(maxsize=8)
def sky_list(folder: str | None) -> LineList:
    """Night-sky lines: flux relative to 500 for the brightest, group = upper vibrational level."""
    return _read(folder, "lines_oh.csv", "flux", "v_upper")


def _read(folder: str | None, name: str, value: str, group: str | None) -> LineList:
    path = Path(folder) / name if folder is not None else None
    if path is not None and path.is_file():
        text, origin = path.read_text(encoding="utf-8"), str(path)
    else:
        text = resources.files("apero_dask.tables").joinpath(name).read_text(encoding="utf-8")
        origin = "built-in"
    rows = list(csv.DictReader(line for line in text.splitlines() if not line.startswith("#")))
    columns = ["wave_vac_nm", value] + ([group] if group else [])
    if not rows or any(rows[0].get(c) is None for c in columns):
        raise ConfigError(
            f"Line list {origin}: columns {', '.join(columns)} were expected and at least one row; "
            "correct the file."
        )
    try:
        wave = np.array([float(row["wave_vac_nm"]) for row in rows])
        strength = np.array([float(row[value]) for row in rows])
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"Line list {origin}: {error}; every row needs numbers, correct the file."
        ) from None
    if not (
        np.isfinite(wave).all() and np.isfinite(strength).all() and (strength >= 0).all() and (wave > 0).all()
    ):
        raise ConfigError(
            f"Line list {origin}: wavelengths must be positive and {value} at least 0; correct the file."
        )
    text_group = np.array([row[group] if group else "" for row in rows])
    order = np.argsort(wave, kind="stable")
    return LineList(wave[order], strength[order], text_group[order], origin)


@lru_cache(maxsize=8)
def lamp_lines(config: LinesConfig, seed: int) -> LampLines:
    """Lamp lines of a campaign: the catalogue with its errors taken out, and companions added."""
    catalogue = lamp_list(config.folder)
    count = len(catalogue.wave)
    draw = stream(seed, "lamp catalogue")
    error = draw.standard_normal(count) * config.catalogue_rms_ms
    wrong = draw.uniform(size=count) < config.catalogue_wrong
    large = draw.uniform(0.3, 1.0, count) * np.where(draw.uniform(size=count) < 0.5, -1, 1)
    error = np.where(wrong, large * config.catalogue_wrong_ms, error)
    if not config.catalogue_errors:
        error = np.zeros(count)
    wave = catalogue.wave * (1 + error / 1e3 / C_KMS)

    draw = stream(seed, "lamp blends")
    blended = draw.uniform(size=count) < (config.blend_fraction if config.blends else 0.0)
    distance = draw.uniform(*config.blend_distance_kms, count) * np.where(
        draw.uniform(size=count) < 0.5, -1, 1
    )
    relative = draw.uniform(*config.blend_strength, count)
    companion = wave[blended] * (1 + distance[blended] / C_KMS)

    extra = np.count_nonzero(blended)
    all_wave = np.concatenate([wave, companion])
    order = np.argsort(all_wave, kind="stable")
    return LampLines(
        wave=all_wave[order],
        catalogue=np.concatenate([catalogue.wave, np.full(extra, np.nan)])[order],
        strength=np.concatenate([catalogue.strength, (catalogue.strength * relative)[blended]])[order],
        blended=np.concatenate([blended, np.ones(extra, dtype=bool)])[order],
    )


def lines_near(line_wave: np.ndarray, wave: np.ndarray, reach_kms: float) -> slice:
    """Lines of a rising list within `reach_kms` of the range of `wave`."""
    low = np.searchsorted(line_wave, wave[0] * (1 - reach_kms / C_KMS))
    high = np.searchsorted(line_wave, wave[-1] * (1 + reach_kms / C_KMS))
    return slice(int(low), int(high))
