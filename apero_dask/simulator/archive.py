"""Folders and small files of a simulated archive: names, object table, record of what was simulated."""

from __future__ import annotations

import contextlib
import csv
import errno
import hashlib
import io
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from apero_dask.simulator.settings import ConfigError
from apero_dask.simulator.spec import FrameSpec
from apero_dask.simulator.targets import Star

RECORD = "frames.csv"
CONFIGURATION = "configuration.toml"
OBJECT_COLUMNS = (
    "OBJNAME", "ORIGINAL_NAME", "ALIASES", "RA_DEG", "RA_SOURCE", "DEC_DEG", "DEC_SOURCE", "EPOCH",
    "PMRA", "PMRA_SOURCE", "PMDE", "PMDE_SOURCE", "PLX", "PLX_SOURCE", "RV", "RV_SOURCE",
    "TEFF", "TEFF_SOURCE", "SP_TYPE", "SP_SOURCE", "NOTES", "USED", "DATE_ADDED",
)  # fmt: skip
"""Columns of ``assets/objects.csv``: degrees, mas/yr, mas, km/s, K; EPOCH is a Julian date."""


class StorageError(Exception):
    """The archive cannot be written or read: folder, disk or memory."""


@dataclass(frozen=True, slots=True)
class Archive:
    """An output folder: ``raw/`` as an instrument would fill it, ``truth/`` and ``assets/`` beside it."""

    root: Path

    def raw(self, spec: FrameSpec) -> Path:
        """Raw file of an exposure."""
        return self.root / raw_name(spec)

    def truth(self, spec: FrameSpec) -> Path:
        """Truth file of an exposure."""
        return self.truth_folder / spec.obs_dir / f"{spec.identifier}_truth.fits"

    @property
    def truth_folder(self) -> Path:
        """Folder of everything a reduction must not see."""
        return self.root / "truth"

    @property
    def objects(self) -> Path:
        """Object table for the reduction."""
        return self.root / "assets" / "objects.csv"


def raw_name(spec: FrameSpec) -> str:
    """Raw file of an exposure below the root, with forward slashes."""
    stem = f"frame{spec.identifier[:7]}" if "misnamed" in spec.faults else spec.identifier
    return f"raw/{spec.obs_dir}/{stem}.fits"


@contextlib.contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Turn errors of the file system into a :class:`StorageError` that names `path` and a remedy."""
    again = "or choose another folder, then give the same command again: finished frames are kept"
    remedies = {
        errno.ENOSPC: f"the disk is full; free space {again}",
        errno.EDQUOT: f"the disk quota is used up; free space {again}",
        errno.EACCES: "no permission to write; choose another folder with --out or change its permissions",
        errno.EPERM: "no permission to write; choose another folder with --out or change its permissions",
        errno.EROFS: "the file system is read-only; choose another folder with --out",
        errno.ENOTDIR: "a part of the path is a file, not a folder; choose another folder with --out",
        errno.EEXIST: "a file is in the place of a folder; choose another folder with --out",
        errno.EFBIG: f"a limit on the size of files is reached; raise it (ulimit -f) {again}",
    }
    try:
        yield
    except OSError as error:
        remedy = remedies.get(error.errno or 0, "check the folder given with --out")
        raise StorageError(f"Cannot write {path}: {error.strerror}; {remedy}.") from error


def write_file(path: Path, pieces: Sequence[bytes | memoryview]) -> None:
    """Write a file whole or not at all: under a temporary name in the same folder, then renamed.

    Raises
    ------
    StorageError
        The folder or the disk refuses, or the name is that of a folder, a device or a pipe; nothing of the
        file is left behind.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    with storage_errors(path):
        if path.exists() and not path.is_file():
            # Renaming would put the file in the place of a device or a pipe.
            raise StorageError(f"Cannot write {path}: it is no regular file; choose another name.")
        try:
            try:
                stream = temporary.open("wb")
            except FileNotFoundError:
                path.parent.mkdir(parents=True, exist_ok=True)
                stream = temporary.open("wb")
            with stream:
                for piece in pieces:
                    stream.write(piece)
            temporary.replace(path)
        except BaseException:
            # An interrupt must not leave half a frame behind either.
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise


def frame_digest(base: str, spec: FrameSpec) -> str:
    """Sixteen hexadecimal digits that change with anything that changes the frame.

    Parameters
    ----------
    base : digest of the configuration without the campaign, plus the kind of output
    spec : the exposure
    """
    return hashlib.sha256(f"{base}\n{spec!r}".encode()).hexdigest()[:16]


def read_record(archive: Archive) -> dict[str, str] | None:
    """Frame digests by path below the root of what this folder was made for; None if it holds no record.

    Raises
    ------
    StorageError
        The record exists but cannot be read.
    """
    path = archive.truth_folder / RECORD
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise StorageError(
            f"Cannot read {path}: {error}; remove the folder or choose another one (--out)."
        ) from None
    rows = list(csv.DictReader(io.StringIO(text)))
    if rows and not {"file", "digest"} <= set(rows[0]):
        raise StorageError(
            f"{path} is not a record of simulated frames; remove it or choose another folder (--out)."
        )
    return {row["file"]: row["digest"] for row in rows}


def short_record(specs: Sequence[FrameSpec], digests: Sequence[str]) -> str:
    """Record of an archive of headers: files and digests only."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(("file", "dprtype", "index", "faults", "digest"))
    for spec, digest in zip(specs, digests, strict=True):
        writer.writerow((raw_name(spec), spec.dprtype, spec.index, " ".join(spec.faults), digest))
    return out.getvalue()


def remove_leftovers(folder: Path) -> None:
    """Delete half-written files of processes that no longer exist (killed, or the machine went down)."""
    if not folder.is_dir():
        return
    for path in folder.glob(".*.part"):
        owner = path.name.split(".")[-2]
        with storage_errors(path):
            if owner.isdigit() and not _alive(int(owner)):
                path.unlink(missing_ok=True)


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def check_carry_on(archive: Archive, specs: Sequence[FrameSpec], digests: Sequence[str]) -> None:
    """Make sure that frames already in the folder belong to this campaign.

    A campaign may grow: every frame of the record must be asked for again, unchanged.

    Raises
    ------
    ConfigError
        Raw frames of unknown origin, or of another configuration.
    """
    record = read_record(archive)
    wanted = {raw_name(spec): digest for spec, digest in zip(specs, digests, strict=True)}
    if record is None:
        raw = archive.root / "raw"
        frames = (path for path in raw.rglob("*.fits*") if not path.name.startswith("."))
        found = next(frames, None) if raw.is_dir() else None
        if found is not None:
            raise ConfigError(
                f"{raw} already holds frames that were not simulated into this folder (e.g. {found.name}); "
                "choose an empty folder with --out."
            )
        return
    other = [name for name, digest in record.items() if wanted.get(name) != digest]
    if other:
        what = (
            "are not part of this campaign" if other[0] not in wanted else "come from another configuration"
        )
        raise ConfigError(
            f"{archive.root} already holds a simulation: {len(other)} of its {len(record)} frames {what} "
            f"(first: {other[0]}); choose another folder with --out, or remove this one. "
            f"Its configuration is in {archive.truth_folder / CONFIGURATION}."
        )


def object_table(stars: Sequence[Star]) -> str:
    """Object table of the stars of a campaign as CSV text: what the observers believe, not the truth."""
    out = io.StringIO()
    writer = csv.DictWriter(out, OBJECT_COLUMNS, restval="", lineterminator="\n")
    writer.writeheader()
    for star in sorted(stars, key=lambda s: clean_name(s.target.name)):
        t = star.target
        source = "proposal"
        writer.writerow(
            {
                "OBJNAME": clean_name(t.name),
                "ORIGINAL_NAME": t.name,
                "ALIASES": "|".join(star.aliases),
                "RA_DEG": f"{t.ra_deg:.6f}",
                "DEC_DEG": f"{t.dec_deg:.6f}",
                "EPOCH": "2451545.0",
                "PMRA": f"{1000 * t.pm_ra_arcsec_yr:.2f}",
                "PMDE": f"{1000 * t.pm_dec_arcsec_yr:.2f}",
                "PLX": f"{t.parallax_mas:.3f}",
                "RV": f"{t.catalogue_rv_kms:.3f}",
                "TEFF": f"{t.teff_k:.0f}",
                "SP_TYPE": "M" if t.kind == "mdwarf" else "A",
                **{f"{key}_SOURCE": source for key in ("RA", "DEC", "PMRA", "PMDE", "PLX", "RV", "TEFF")},
                "SP_SOURCE": source,
                "USED": "1",
            }
        )
    return out.getvalue()


def clean_name(name: str) -> str:
    """Object name as in file names: ``+`` to P, ``-`` to M, upper case, other signs to one underscore."""
    mapped = name.strip().replace("+", "P").replace("-", "M").upper()
    parts = "".join(c if c.isalnum() else "_" for c in mapped).split("_")
    cleaned = "_".join(part for part in parts if part)
    if not cleaned:
        raise ConfigError(f"target name '{name}' has no letter or digit; give the star a name.")
    return cleaned
