"""Truth of a campaign: what was put in, for tests that judge what comes out.

Layout below ``<out>/truth``:

``frames.csv``
    one row per exposure, every quantity of its ``FrameSpec`` (columns ``CAMPAIGN_COLUMNS``), the raw file
    below ``<out>`` and the digest by which a second call recognises the frame;
``stars.csv``
    the stars with their true orbits;
``configuration.toml``
    the complete configuration;
``detector.fits``
    the detector as it is in all frames, raw orientation: ``CLASSES`` (bits of ``defects``), ``RESPONSE``,
    ``DARK`` (e-/s), ``BIAS`` (ADU), ``PATTERN_SLOPE`` (ADU/s), ``PATTERN_INTERCEPT`` (ADU, divided by the
    integration time in a frame), table ``TELEGRAPH``;
``<obs_dir>/<identifier>_truth.fits``
    one exposure.  Primary header: ``HEADER_CARDS``.  Image extensions ``LIGHT`` (float32 e-/s on the full
    flipped frame) and every field of ``paint.PhotonTruth`` under its name in upper case (spectra as
    ``SPECTRA_STAR`` and so on), plus ``EXPECTED`` (float32 e-/s per pixel, light times response plus dark
    current; raw orientation), ``NOISE_COMMON`` and ``NOISE_AMPLIFIER`` (ADU/s in read order, ``[row, pixel]``
    and ``[row, amplifier, pixel]``).  Tables ``HITS`` (ROW, COLUMN in raw orientation, CHARGE e-, TIME
    fraction of the integration, TRACK number of the hit) and ``SCALARS`` (NAME, VALUE, TEXT: single numbers
    and words of the painter).

Planes as large as the detector are left out when the configuration says so.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from apero_dask.simulator.archive import RECORD, StorageError, raw_name, write_file
from apero_dask.simulator.cards import BLOCK, Card, header_bytes
from apero_dask.simulator.ephemeris import SPEED_OF_LIGHT_KMS
from apero_dask.simulator.rawfile import image_unit
from apero_dask.simulator.settings import switch
from apero_dask.simulator.spec import Affine, FrameSpec
from apero_dask.simulator.targets import Star

if TYPE_CHECKING:
    import numpy as np

    from apero_dask.simulator.detector import StaticDetector
    from apero_dask.simulator.expose import RawFrame
    from apero_dask.simulator.paint import Painted


@dataclass(frozen=True)
class OutputConfig:
    """What is written beside the raw frames."""

    truth: bool = switch(True, "Write a truth file for every frame.")
    truth_images: bool = switch(True, "Keep planes as large as the detector in it.")


HEADER_CARDS: dict[str, tuple[str, str]] = {
    "IDENT": ("identifier", "Exposure"),
    "OBSDIR": ("obs_dir", "Night"),
    "DPRTYPE": ("dprtype", "Frame type"),
    "FRAMEIDX": ("index", "Position in the campaign"),
    "EXPTIME": ("exptime_s", "[s] Integration time"),
    "NREADS": ("nreads", "Reads in the ramp"),
    "MJDSTART": ("mjd_start", "[d] Start of exposure, UTC"),
    "MJDEND": ("mjd_end", "[d] End of exposure, UTC"),
    "MJDMID": ("mjd_mid", "[d] Middle of the integration, UTC"),
    "BJD": ("bjd", "[d] Barycentric Julian date, TDB"),
    "RV": ("rv_kms", "[km/s] Barycentric velocity of the star"),
    "BERV": ("berv_kms", "[km/s] Barycentric Earth radial velocity"),
    "AIRMASS": ("airmass", "Airmass at mid-exposure"),
    "PWV": ("pwv_mm", "[mm] Water column at zenith"),
    "WIND": ("wind_ms", "[m/s] Velocity of the telluric lines"),
    "CAVITY": ("cavity_ms", "[m/s] Fabry-Perot cavity"),
    "EPOCH": ("epoch_days", "[d] Since the reference epoch"),
    "THERMALK": ("thermal_k", "[K] Fibre-train temperature"),
    "LAMP": ("lamp_factor", "Lamp flux relative to the first night"),
    "POLARPOS": ("polar_position", "Polarimetric exposure 1-4, 0 = none"),
}
"""Header keywords of a truth file: attribute of ``FrameSpec`` and comment.

Further ones: RVTOTAL (km/s, whose Doppler factor is that of RV divided by that of BERV), TARGET, FAULTS,
SEED, CONFIG, SLIPROW, SLIPCOL and AFF_DX, AFF_DY, AFF_A, AFF_B, AFF_C, AFF_D.
"""

_PLAIN = [f.name for f in fields(FrameSpec) if f.name not in ("target", "affine", "faults")]
_AFFINE = [f.name for f in fields(Affine)]
CAMPAIGN_COLUMNS = ("file", *_PLAIN, *(f"affine_{n}" for n in _AFFINE), "target", "kind", "faults", "digest")
"""Columns of ``frames.csv``; names and units are those of ``FrameSpec``."""


def total_velocity(rv_kms: float, berv_kms: float) -> float:
    """Velocity in km/s whose Doppler factor is doppler(rv) / doppler(berv): what the observer sees."""
    ratio = _doppler_squared(rv_kms) / _doppler_squared(berv_kms)
    return SPEED_OF_LIGHT_KMS * (ratio - 1.0) / (ratio + 1.0)


def _doppler_squared(v_kms: float) -> float:
    beta = v_kms / SPEED_OF_LIGHT_KMS
    return (1.0 + beta) / (1.0 - beta)


def campaign_table(specs: Sequence[FrameSpec], digests: Sequence[str]) -> str:
    """Text of ``frames.csv``; floats are written so that reading them gives the same bits."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(CAMPAIGN_COLUMNS)
    for spec, digest in zip(specs, digests, strict=True):
        writer.writerow(
            [
                raw_name(spec),
                *(getattr(spec, name) for name in _PLAIN),
                *(getattr(spec.affine, name) for name in _AFFINE),
                spec.target.name if spec.target else "",
                spec.target.kind if spec.target else "",
                " ".join(spec.faults),
                digest,
            ]
        )
    return out.getvalue()


def star_table(stars: Sequence[Star]) -> str:
    """Text of ``stars.csv``: name, kind and true orbit of every star of a campaign."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    names = [f.name for f in fields(stars[0].orbit)] if stars else []
    writer.writerow(("name", "kind", *names))
    for star in stars:
        writer.writerow((star.target.name, star.target.kind, *(getattr(star.orbit, n) for n in names)))
    return out.getvalue()


def read_campaign(root: str | Path) -> list[dict[str, Any]]:
    """Rows of the campaign table below an output folder, numbers as numbers.

    Raises
    ------
    StorageError
        There is no such table.
    """
    return _read_table(Path(root) / "truth" / RECORD)


def read_stars(root: str | Path) -> list[dict[str, Any]]:
    """Rows of the star table below an output folder, numbers as numbers.

    Raises
    ------
    StorageError
        There is no such table.
    """
    return _read_table(Path(root) / "truth" / "stars.csv")


def _read_table(path: Path) -> list[dict[str, Any]]:
    words = {
        "file",
        "identifier",
        "obs_dir",
        "dprtype",
        "last_object",
        "target",
        "faults",
        "digest",
        "name",
        "kind",
    }
    integers = {"index", "nreads", "sequence_number", "sequence_length", "polar_position"}
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise StorageError(
            f"Cannot read {path}: {error.strerror}; is it the folder of a simulation?"
        ) from error

    def value(key: str, word: str) -> Any:
        return word if key in words else int(word) if key in integers else float(word)

    return [{k: value(k, v) for k, v in row.items()} for row in csv.DictReader(io.StringIO(text))]


def write_frame_truth(
    path: Path,
    spec: FrameSpec,
    seed: int,
    digest: str,
    painted: Painted,
    frame: RawFrame,
    images: bool,
) -> None:
    """Write the truth of one exposure, whole or not at all.

    Parameters
    ----------
    painted : light and truth of the painter
    frame : the recorded planes and their ingredients
    images : keep planes as large as the detector
    """
    import numpy as np

    cards: list[Card] = [(k, getattr(spec, name), words) for k, (name, words) in HEADER_CARDS.items()]
    cards += [
        ("RVTOTAL", total_velocity(spec.rv_kms, spec.berv_kms), "[km/s] Seen by the observer"),
        ("TARGET", spec.target.name if spec.target else "", "Star"),
        ("FAULTS", " ".join(spec.faults), "Injected faults"),
        ("SEED", seed, "Campaign seed"),
        ("CONFIG", digest, "Digest of configuration and exposure"),
        ("SLIPROW", frame.slip[0], "[px] Roll along raw rows"),
        ("SLIPCOL", frame.slip[1], "[px] Roll along raw columns"),
    ]
    cards += [(f"AFF_{n.upper()}", getattr(spec.affine, n), "Drift of the epoch") for n in _AFFINE]
    planes = {**_flatten(painted.truth), "light": painted.rate.astype(np.float32), "expected": frame.expected}
    if frame.noise is not None:
        planes |= {"noise_common": frame.noise.common, "noise_amplifier": frame.noise.amplifier}
    large = frame.slope.size // 2
    kept = {name: p for name, p in planes.items() if p.ndim and (images or p.dtype.names or p.size < large)}
    single = {name: p for name, p in planes.items() if p.ndim == 0}
    words = [str(p) if p.dtype.kind == "U" else "" for p in single.values()]
    numbers = [math.nan if w else float(p) for p, w in zip(single.values(), words, strict=True)]
    hits = frame.hits
    tables = {
        "HITS": {
            "ROW": hits.row,
            "COLUMN": hits.column,
            "CHARGE": hits.charge,
            "TIME": hits.time,
            "TRACK": hits.track,
        },
        "SCALARS": {
            "NAME": np.array(list(single), dtype="U40"),
            "VALUE": np.array(numbers, dtype=np.float64),
            "TEXT": np.array(words, dtype="U80"),
        },
    }
    _write(path, cards, kept, tables)


def _flatten(truth: Any) -> dict[str, Any]:
    """Fields of a dataclass by name: dictionaries one level down as ``field_key``, tuples as arrays.

    Only wavelengths and positions need double precision; other arrays are kept as float32.
    """
    import numpy as np

    found: dict[str, Any] = {}
    for f in fields(truth):
        value = getattr(truth, f.name)
        named = {f"{f.name}_{k}": v for k, v in value.items()} if isinstance(value, dict) else {f.name: value}
        for name, item in named.items():
            if item is None:
                continue
            array = np.asarray(item)
            exact = name.endswith(("wave_nm", "trace_px", "cavity")) or array.ndim < 2
            found[name] = array.astype(np.float32) if array.dtype == np.float64 and not exact else array
    return found


def write_detector_truth(path: Path, static: StaticDetector, images: bool) -> None:
    """Write ``detector.fits``; without `images` only the defect classes and the small arrays."""
    planes = {"classes": static.classes}
    if images:
        planes |= {"response": static.response, "dark": static.dark, "bias": static.bias}
    planes |= {"pattern_slope": static.pattern_slope, "pattern_intercept": static.pattern_intercept}
    telegraph = {
        "INDEX": static.telegraph_index,
        "HEIGHT": static.telegraph_height,
        "PHASE": static.telegraph_phase,
    }
    _write(path, [], planes, {"TELEGRAPH": telegraph})


def _write(
    path: Path,
    cards: Sequence[Card],
    planes: Mapping[str, np.ndarray],
    tables: Mapping[str, Mapping[str, np.ndarray]],
) -> None:
    """Write one file of images and tables; structured arrays among the planes become tables."""
    pieces: list[bytes | memoryview] = [
        header_bytes(
            [
                ("SIMPLE", True, "Standard FITS file"),
                ("BITPIX", 8, "Bits per pixel of the empty primary array"),
                ("NAXIS", 0, "No image in the primary unit"),
                ("EXTEND", True, "Extensions follow"),
                *cards,
            ]
        )
    ]
    for name, plane in planes.items():
        if plane.dtype.names:
            tables = {name.upper(): {key: plane[key] for key in plane.dtype.names}, **tables}
        else:
            image = plane.view("u1") if plane.dtype == bool else plane
            pieces += image_unit(image, name.upper())
    pieces += [_table_unit(columns, name) for name, columns in tables.items()]
    write_file(path, pieces)


def _table_unit(columns: Mapping[str, np.ndarray], name: str) -> bytes:
    """Bytes of a binary table."""
    import numpy as np
    from astropy.io import fits

    dtype = [(key, column.dtype.str) for key, column in columns.items()]
    rows = np.zeros(len(next(iter(columns.values()))), dtype=dtype)
    for key, column in columns.items():
        rows[key] = column
    buffer = io.BytesIO()
    fits.HDUList([fits.PrimaryHDU(), fits.BinTableHDU(rows, name=name)]).writeto(buffer)
    # The empty primary unit that astropy puts in front is one block long.
    return buffer.getvalue()[BLOCK:]


def _native(data: Any) -> Any:
    """Images in the byte order of the machine; tables as they are."""
    return data if data.dtype.names else data.astype(data.dtype.newbyteorder("="), copy=False)


class Truth(Mapping[str, Any]):
    """Truth of one exposure: arrays and tables by lower-case name, header values as :attr:`header`.

    Examples
    --------
    >>> truth = Truth("out/truth/2018-09-25/2320031o_truth.fits")  # doctest: +SKIP
    >>> truth.header["RV"], truth["hits"]["CHARGE"].sum()  # doctest: +SKIP
    """

    def __init__(self, path: str | Path) -> None:
        from astropy.io import fits

        self.path = Path(path)
        try:
            with fits.open(self.path, memmap=False) as units:
                self.header: dict[str, Any] = dict(units[0].header)
                self._units = {unit.name.lower(): _native(unit.data) for unit in units[1:]}
        except OSError as error:
            raise StorageError(f"Cannot read the truth file {self.path}: {error}.") from error
        table = self._units.pop("scalars", None)
        self.scalars: dict[str, float | str] = {}
        """Single numbers and words of the painter."""
        for row in [] if table is None else table:
            self.scalars[str(row["NAME"])] = str(row["TEXT"]) or float(row["VALUE"])

    def __getitem__(self, name: str) -> np.ndarray:
        """Array or table of a name.

        Raises
        ------
        KeyError
            The file holds no such plane; the message lists those it holds.
        """
        try:
            return self._units[name.lower()]
        except KeyError:
            raise KeyError(f"{self.path.name} holds no '{name}'; it holds {', '.join(self._units)}") from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._units)

    def __len__(self) -> int:
        return len(self._units)

    def affine(self) -> Affine:
        """Drift of the epoch."""
        return Affine(**{name: float(self.header[f"AFF_{name.upper()}"]) for name in _AFFINE})
