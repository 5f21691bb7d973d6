"""Every kind of asset: which file is used, what it covers, where a better one goes."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from apero_dask.core.errors import DataError, Finding

if TYPE_CHECKING:
    import numpy as np

DIGEST_LETTERS = 12
BUILT_IN = "built-in"
RANDOM = "random lines, good for simulated frames only"


@dataclass(frozen=True, slots=True)
class Used:
    """One file of a kind, or the lack of it."""

    name: str
    """Path below the assets, ``built-in``, or empty for nothing."""
    content: str
    """What it holds and covers, or what happens without it."""
    digest: str = ""
    """Beginning of the SHA-256 of the file."""
    problem: str = ""
    """Why it cannot be used; recipes that need it will say the same."""
    findings: tuple[Finding, ...] = ()
    """What its reader reported."""


@dataclass(frozen=True, slots=True)
class AssetKind:
    """One kind of asset."""

    key: str
    """Word at the beginning of its lines."""
    title: str
    place: str
    """Where the user's own file goes, below the assets."""
    better: str
    """What a better one is and how it gets there."""
    look: Callable[[Path], Iterator[Used]]
    """Files used, given the assets folder."""


def digest_of(path: Path) -> str:
    """First letters of the SHA-256 of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()[:DIGEST_LETTERS]


def coverage(wave: np.ndarray | Sequence[float]) -> str:
    """Range of wavelengths in words, nm."""
    return f"{float(wave[0]):.1f} to {float(wave[-1]):.1f} nm in vacuum"


def built_in(assets: Path) -> list[str]:
    """Kinds of assets for which the built-in file is used, by looking for the files alone."""
    from apero_dask.io.assets import MASK_FOLDER
    from apero_dask.recipes.ccf import DEFAULT_MASK
    from apero_dask.recipes.sky_absorption import absorption_file
    from apero_dask.recipes.sky_emission import sky_file
    from apero_dask.recipes.wave_catalogue import FOLDER, NAME

    own = {
        "lines": (assets / FOLDER / NAME).is_file(),
        "transmission": absorption_file(assets) is not None,
        "sky": sky_file(assets) is not None,
        "masks": (assets / MASK_FOLDER / DEFAULT_MASK).is_file(),
    }
    return [key for key, there in own.items() if not there]


def _own(assets: Path, relative: str) -> Path | None:
    path = assets / relative
    return path if path.is_file() else None


def _objects(assets: Path) -> Iterator[Used]:
    from apero_dask.io.assets import OBJECTS_FILE, read_objects

    path = _own(assets, OBJECTS_FILE)
    if path is None:
        without = "names are taken from the headers as they are; no alias, proper motion or velocity is known"
        yield Used("", f"{OBJECTS_FILE} is not there: {without}")
        return
    table = read_objects(path)
    aliases = len(table.names.main) - len(table.rows)
    text = f"{len(table.rows)} objects, {aliases} aliases"
    yield Used(OBJECTS_FILE, text, digest_of(path), findings=table.findings)


def _rejected(assets: Path) -> Iterator[Used]:
    from apero_dask.io.assets import REJECT_FILE, read_reject

    path = _own(assets, REJECT_FILE)
    if path is None:
        yield Used("", f"{REJECT_FILE} is not there: every frame is used")
        return
    rejects = read_reject(path)
    counts = ", ".join(f"{len(rejects.identifiers(c))} for {c.upper()}" for c in ("pp", "tel", "rv"))
    yield Used(
        REJECT_FILE,
        f"{len(rejects.entries)} frames ({counts})",
        digest_of(path),
        findings=rejects.findings,
    )


def _detector(assets: Path) -> Iterator[Used]:
    from apero_dask.instruments.base import INSTRUMENTS, instrument
    from apero_dask.recipes.detector_assets import assets_path, read_assets

    for name in INSTRUMENTS:
        described = instrument(name)
        path = assets_path(assets, described)
        place = path.relative_to(assets).as_posix()
        if not path.is_file():
            without = "hot pixels and fixed patterns are found in every frame by itself"
            yield Used("", f"{name}: none ({path.name} is not there): {without}")
            continue
        try:
            found = read_assets(path, described)
        except (DataError, OSError) as error:
            yield Used(place, f"{name}: cannot be used: {error}", problem=str(error))
            continue
        rows = found.hot_rows
        parts = [f"{len(rows)} hot pixels" if rows is not None else "no hot pixels"]
        planes = (
            ("amplifier pattern", found.slope_map),
            ("bias structure", found.bias),
            ("dark", found.dark),
            ("flat", found.flat),
        )
        parts += [label for label, plane in planes if plane is not None]
        yield Used(place, f"{name}: {', '.join(parts)}", digest_of(path))


def _lines(assets: Path) -> Iterator[Used]:
    from apero_dask.recipes.wave_catalogue import FOLDER, NAME, load_catalogue

    path = _own(assets, f"{FOLDER}/{NAME}")
    name, digest = (BUILT_IN, "") if path is None else (f"{FOLDER}/{NAME}", digest_of(path))
    try:
        catalogue = load_catalogue(assets)
    except (DataError, OSError, UnicodeDecodeError) as error:
        yield Used(name, f"cannot be used: {error}", digest, str(error))
        return
    text = f"{catalogue.wave.size} lines, {coverage(catalogue.wave)}"
    if path is None:
        text += f"; {RANDOM}"
    yield Used(name, text, digest)


def _masks(assets: Path) -> Iterator[Used]:
    from apero_dask.io.assets import MASK_FOLDER, list_masks
    from apero_dask.recipes.ccf import BUILTIN_MASK, DEFAULT_MASK
    from apero_dask.recipes.line_mask import builtin_mask, read_mask

    masks, findings = list_masks(assets)
    for name, path in masks.items():
        place = f"{MASK_FOLDER}/{name}"
        try:
            mask = read_mask(path)
        except (DataError, OSError) as error:
            yield Used(place, f"{name}: cannot be used: {error}", digest_of(path), str(error))
            continue
        default = ", used where a line names none" if name == DEFAULT_MASK else ""
        yield Used(place, f"{name}: {mask.wave.size} lines, {coverage(mask.wave)}{default}", digest_of(path))
    mask = builtin_mask()
    text = f"{BUILTIN_MASK}: {mask.wave.size} lines, {coverage(mask.wave)}"
    if DEFAULT_MASK not in masks:
        text += f", used where a line names none, until {DEFAULT_MASK} is there"
    yield Used(BUILT_IN, f"{text}; {RANDOM}", findings=findings)


def _transmission(assets: Path) -> Iterator[Used]:
    from importlib.resources import files

    from apero_dask.recipes.sky_absorption import FOLDER, LINES, absorption_file

    path = absorption_file(assets)
    if path is None:
        text = files("apero_dask.tables").joinpath(LINES).read_text(encoding="utf-8")
        rows = list(csv.DictReader(line for line in text.splitlines() if not line.startswith("#")))
        ends = [function(float(row["wave_vac_nm"]) for row in rows) for function in (min, max)]
        gases = ", ".join(dict.fromkeys(row["species"] for row in rows))
        yield Used(BUILT_IN, f"{len(rows)} lines of {gases}, {coverage(ends)}; {RANDOM}")
        return
    yield _judged(FOLDER, path, transmission_content)


def _judged(folder: str, path: Path, content: Callable[[Path], str]) -> Used:
    """A user's file: what it holds, or why it cannot be used."""
    place = f"{folder}/{path.name}"
    try:
        text = content(path)
    except (DataError, OSError, UnicodeDecodeError) as error:
        return Used(place, f"cannot be used: {error}", digest_of(path), str(error))
    return Used(place, text, digest_of(path))


def transmission_content(path: Path) -> str:
    """What a table of transmission holds, after reading it for the whole range of SPIRou.

    Raises
    ------
    DataError
        It cannot be used.
    """
    from apero_dask.recipes.sky_absorption import read_absorption

    low, high = full_range()
    found = read_absorption(path, low, high)
    return f"transmission of {', '.join(found.gases)}, {low:.1f} to {high:.1f} nm in vacuum and more"


def full_range() -> tuple[float, float]:
    """Shortest and longest wavelength of the orders of SPIRou, nm."""
    from apero_dask.instruments.base import instrument
    from apero_dask.recipes.wave_maps import first_guess

    described = instrument("SPIROU")
    waves = [first_guess(described, fibre).image() for fibre in described.science_fibres]
    return min(float(wave.min()) for wave in waves), max(float(wave.max()) for wave in waves)


def _sky(assets: Path) -> Iterator[Used]:
    from apero_dask.recipes.sky_emission import FOLDER, sky_file

    path = sky_file(assets)
    if path is None:
        yield Used(BUILT_IN, f"{sky_content(None)}; calculated doublets of OH of approximate strength")
        return
    yield _judged(FOLDER, path, sky_content)


def sky_content(path: Path | None) -> str:
    """What a file of sky emission holds; an image of pixels must fit one of the instruments.

    Raises
    ------
    DataError
        It cannot be used.
    """
    from apero_dask.instruments.base import INSTRUMENTS, instrument
    from apero_dask.recipes.sky_emission import SkyLines, read_sky

    problem: DataError | None = None
    for name in INSTRUMENTS:
        described = instrument(name)
        try:
            found = read_sky(path, (described.norders, described.nx))
        except DataError as error:
            problem = problem or error
            continue
        if isinstance(found, SkyLines):
            return f"{found.wave.size} lines in {len(set(found.band))} bands, {coverage(found.wave)}"
        return f"{len(found.names)} components, {coverage(found.wave.ravel()[[0, -1]])}"
    assert problem is not None
    raise problem


KINDS: tuple[AssetKind, ...] = (
    AssetKind(
        "objects",
        "object table",
        "objects.csv",
        "CSV with OBJNAME, ALIASES and the columns of an APERO object table",
        _objects,
    ),
    AssetKind(
        "rejected", "reject list", "reject.csv", "CSV with IDENTIFIER, PP, TEL, RV, COMMENT", _rejected
    ),
    AssetKind(
        "detector",
        "hot pixels, patterns and response of the detector",
        "detector/",
        "made from the darks of an archive by: apero-dask assets detector INSTRUMENT",
        _detector,
    ),
    AssetKind(
        "lines",
        "lines of the uranium-neon lamp",
        "lines/lines_une.csv",
        "CSV with wave_vac_nm and strength; imported from catalogue_UNe.csv",
        _lines,
    ),
    AssetKind(
        "transmission",
        "absorption of the atmosphere",
        "tellurics/",
        "tapas_all_sp.fits or transmission.fits (wavelength, trans_h2o, trans_o2, ...), or tellurics.csv",
        _transmission,
    ),
    AssetKind(
        "sky",
        "emission of the night sky",
        "sky/",
        "sky_components.fits (wavelength, comp_1, ...), sky_PCs.fits, or sky_lines.csv",
        _sky,
    ),
    AssetKind(
        "masks",
        "lines for radial velocities",
        "masks/",
        "NAME.mas with three columns (start and end in nm in vacuum, weight), or the same as a FITS table",
        _masks,
    ),
)
"""In the order in which they are shown."""
