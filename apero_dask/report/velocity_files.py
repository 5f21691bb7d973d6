"""Writes the velocities of every object: ``.rdb``, ``.csv`` and ``.fits``, each complete or not at all.

``rv/OBJECT_MASK.*`` in the reduced tree.  Same products, same bytes: rows are in order of time, nothing about
the moment of writing is in the files.  The ``.rdb`` file holds usable velocities only, in the columns that
programs for velocities read (rjd = BJD - 2400000, vrad and svrad in m/s); the others hold every frame.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import fields
from pathlib import Path

from apero_dask.core.products import VELOCITY_FOLDER
from apero_dask.report.velocities import Series, Velocity

RDB = (
    ("rjd", 6), ("vrad", 3), ("svrad", 3), ("fwhm", 3), ("contrast", 4), ("bis_span", 3), ("sn", 2),
    ("drift", 3), ("berv", 5), ("obj", 0), ("frame", 0),
)  # fmt: skip
"""Columns of the .rdb file and their digits; velocities in m/s, BERV in km/s."""
UNITS = {
    "bjd": "d", "rv_kms": "km/s", "error_ms": "m/s", "drift_ms": "m/s", "fwhm_kms": "km/s", "contrast": "%",
    "bisector_ms": "m/s", "berv_kms": "km/s", "limit_ms": "m/s", "mjd": "d", "exptime_s": "s",
}  # fmt: skip


def file_stem(series: Series) -> str:
    """Name of the files of a series; anything but letters, digits, ``+``, ``-`` and ``.`` becomes ``_``."""
    return re.sub(r"[^A-Za-z0-9+.-]", "_", f"{series.object}_{series.mask}")


def write_velocities(reduced: Path, series: Sequence[Series]) -> dict[tuple[str, str], Path]:
    """Write the files of every series; paths of the ``.rdb`` files by object and mask.

    Raises
    ------
    OSError
        The disk is full or the folder cannot be written; files that were there stay as they are.
    """
    from apero_dask.io.atomic import publish, temporary_path

    folder = reduced / VELOCITY_FOLDER
    places = {}
    for one in series:
        folder.mkdir(parents=True, exist_ok=True)
        targets = {ending: folder / f"{file_stem(one)}.{ending}" for ending in ("rdb", "csv", "fits")}
        pairs = [(temporary_path(target, "velocities"), target) for target in targets.values()]
        temporary = dict(zip(targets, (pair[0] for pair in pairs), strict=True))
        try:
            temporary["rdb"].write_text(rdb_text(one), encoding="ascii")
            temporary["csv"].write_text(csv_text(one), encoding="utf-8")
            _write_fits(temporary["fits"], one)
            publish(pairs)
        finally:
            for part, _ in pairs:
                part.unlink(missing_ok=True)
        places[one.object, one.mask] = targets["rdb"]
    return places


def rdb_text(series: Series) -> str:
    """Tab-separated table with a line of dashes below the names; usable velocities only."""
    names = [name for name, _ in RDB]
    lines = ["\t".join(names), "\t".join("-" * len(name) for name in names)]
    for row in series.usable:
        values = {
            "rjd": row.bjd - 2_400_000.0,
            "vrad": 1e3 * row.rv_kms,
            "svrad": row.error_ms,
            "fwhm": 1e3 * row.fwhm_kms,
            "contrast": row.contrast,
            "bis_span": row.bisector_ms,
            "sn": row.snr,
            "drift": row.drift_ms,
            "berv": row.berv_kms,
        }
        texts = {"obj": row.object, "frame": row.frame}
        lines.append("\t".join(texts[n] if n in texts else _fixed(values[n], digits) for n, digits in RDB))
    return "\n".join(lines) + "\n"


def csv_text(series: Series) -> str:
    """Every frame, every column; numbers so that reading them gives the same bits, nothing for NaN."""
    import csv
    import io

    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([field.name for field in fields(Velocity)])
    for row in series.rows:
        writer.writerow([_exact(getattr(row, field.name)) for field in fields(Velocity)])
    return out.getvalue()


def _write_fits(path: Path, series: Series) -> None:
    from apero_dask.io.cards import card_text
    from apero_dask.io.fitswriter import Table, write_fits

    columns = {field.name: [getattr(row, field.name) for row in series.rows] for field in fields(Velocity)}
    cards = [
        card_text("OBJECT", series.object, "object"),
        card_text("CCFMASK", series.mask[-60:], "mask"),
        card_text("NVELO", len(series.usable), "usable velocities"),
    ]
    write_fits(path, cards, [Table("VELOCITIES", columns, units=UNITS)])


def _fixed(value: float, digits: int) -> str:
    return f"{value:.{digits}f}" if math.isfinite(value) else "nan"


def _exact(value: object) -> object:
    if isinstance(value, float):
        return repr(value) if math.isfinite(value) else ""
    return value


def problem_lines(problems: Sequence[str], most: int = 5) -> Iterator[str]:
    """Products that could not be read, the first ones by name."""
    for text in problems[:most]:
        yield f"  left out: {text}"
    if len(problems) > most:
        yield f"  ... and {len(problems) - most} more velocity products that cannot be read"
