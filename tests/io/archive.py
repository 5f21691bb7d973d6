"""Writes small raw archives for the tests: plain bytes, no FITS library, nothing of the package."""

from __future__ import annotations

import gzip
import os
import tempfile
from pathlib import Path

import pytest

Card = str | int | float | bool

NOW = 60000.0
"""Clock of the tests, MJD."""

LONG_AGO_NS = 1_500_000_000_000_000_000


def card(key: str, value: Card) -> str:
    """One 80-character card."""
    if isinstance(value, bool):
        text = f"{'T' if value else 'F':>20}"
    elif isinstance(value, str):
        text = "'{:<8}'".format(value.replace("'", "''"))
    else:
        text = f"{value!r:>20}"
    return f"{key:<8}= {text}"[:80].ljust(80)


def unit(values: dict[str, Card]) -> bytes:
    """Primary header unit: whole blocks of 2880 bytes."""
    cards = {"SIMPLE": True, "BITPIX": 16, "NAXIS": 0, "EXTEND": True, **values}
    text = "".join(card(*pair) for pair in cards.items()) + "END".ljust(80)
    return text.ljust(-(-len(text) // 2880) * 2880).encode("latin-1")


def header(identifier: str, **changes: Card | None) -> dict[str, Card]:
    """Header of an OBJ_FP exposure of Gl699, with keywords changed, or removed by None."""
    values: dict[str, Card | None] = {
        "FILENAME": identifier,
        "INSTRUME": "SPIRou",
        "OBSTYPE": "OBJECT",
        "SBCCAS_P": "pos_pk",
        "SBCREF_P": "pos_fp",
        "SBCALI_P": "P5",
        "SBRHB1_P": "P16",
        "SBRHB2_P": "P16",
        "OBJECT": "Gl699",
        "OBJNAME": "Gl699",
        "PI_NAME": "PI One",
        "CMPLTEXP": 1,
        "MJDEND": 58386.2785634,
        "EXPTIME": 300.884,
        "FRMTIME": 5.57192,
        "NREADS": 55,
        **changes,
    }
    return {key: value for key, value in values.items() if value is not None}


def write(path: Path, content: bytes) -> Path:
    """Write a file that looks as if it had been there for a long time; a name in .gz is compressed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    os.utime(path, ns=(LONG_AGO_NS, LONG_AGO_NS))
    return path


def frame(raw: Path, night: str, identifier: str, ending: str = ".fits", **changes: Card | None) -> Path:
    """Write one raw frame."""
    return write(raw / night / f"{identifier}{ending}", unit(header(identifier, **changes)))


def _reads_anything() -> bool:
    """Whether mode bits do not count for this process (root, unless its capabilities were dropped)."""
    with tempfile.NamedTemporaryFile() as closed:
        Path(closed.name).chmod(0)
        return os.access(closed.name, os.R_OK)


mode_bits_count = pytest.mark.skipif(_reads_anything(), reason="mode bits do not count for this user")
