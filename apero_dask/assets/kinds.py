"""Every kind of asset: which file is used, what it covers, where a better one goes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from apero_dask.core.errors import DataError, Finding

if TYPE_CHECKING:
    import numpy as np

DIGEST_LETTERS = 12
BUILT_IN = "built-in"


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


def coverage(wave: np.ndarray) -> str:
    """Range of wavelengths in words, nm."""
    return f"{float(wave[0]):.1f} to {float(wave[-1]):.1f} nm in vacuum"


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
        text += "; random positions: good for simulated frames only"
    yield Used(name, text, digest)


def _masks(assets: Path) -> Iterator[Used]:
    from apero_dask.io.assets import MASK_FOLDER, list_masks

    masks, findings = list_masks(assets)
    for name, path in masks.items():
        yield Used(f"{MASK_FOLDER}/{name}", name, digest_of(path))
    if not masks:
        yield Used("", "none of your own", findings=findings)


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
        "masks",
        "lines for radial velocities",
        "masks/",
        "NAME.mas with three columns (start and end in nm in vacuum, weight), or the same as a FITS table",
        _masks,
    ),
)
"""In the order in which they are shown."""
