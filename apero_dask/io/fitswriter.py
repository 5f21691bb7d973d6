"""Writes products: same content, same bytes.

Layout: the primary unit holds all header cards and no data, unit 1 is the image or table named like the
product, further units follow.  Every unit carries DATASUM and CHECKSUM (FITS standard 4.0, section 4.4.2.7
and appendix J) without the date that usually stands in their comments.
"""

from __future__ import annotations

import hashlib
import itertools
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from apero_dask.io.cards import Card, card_text, header_unit, heads
from apero_dask.io.primary import BLOCK

_BITPIX = {"u1": 8, "i2": 16, "i4": 32, "i8": 64, "f4": -32, "f8": -64}
_FORMS = {"b1": "L", "u1": "B", "i2": "I", "i4": "J", "i8": "K", "f4": "E", "f8": "D"}
_SUM_CARDS = ("CHECKSUM", "DATASUM")
_PIECE = 1 << 20  # bytes turned, summed and written at once: they stay in the cache meanwhile
_NOTHING = np.empty(0, np.uint8)
_ALLOWED = frozenset(b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")


@dataclass(frozen=True, slots=True)
class Image:
    """Pixels of one extension."""

    name: str
    data: np.ndarray
    """uint8, int16, int32, int64, float32 or float64, any number of axes; NaN = no information."""
    unit: str = ""
    cards: Sequence[Card] = ()
    """Further cards of this extension."""
    texts: Sequence[str] = ()
    """80-character cards of another file, carried over as they are, without those about its structure."""


@dataclass(frozen=True, slots=True)
class Table:
    """Columns of one extension."""

    name: str
    columns: Mapping[str, np.ndarray | Sequence[object]]
    """Equally long; numbers, booleans or printable ASCII text, one value per row and column, or
    arrays ``[row, element]`` of numbers."""
    units: Mapping[str, str] = field(default_factory=dict)
    cards: Sequence[Card] = ()
    texts: Sequence[str] = ()
    """As of :class:`Image`."""


@dataclass(frozen=True, slots=True)
class Written:
    """Size and digests of a file just written."""

    size: int
    digest: str
    """SHA-256 of its bytes."""
    content: str
    """SHA-256 of data and header without volatile cards and checksums."""


def write_fits(
    path: Path,
    cards: Sequence[str],
    extensions: Sequence[Image | Table],
    volatile: Collection[str] = (),
) -> Written:
    """Write a file and flush it to the disk.

    Parameters
    ----------
    path
        File to write, usually a temporary name; replaced if it is there.
    cards
        80-character cards of the primary header, without those about its structure.
    extensions
        In order.
    volatile
        Keywords that take no part in the content digest.

    Raises
    ------
    TypeError, ValueError
        Pixels or columns that FITS or this project cannot hold, a card that is not allowed.
    OSError
        The file cannot be written; ``filename`` is set.  Nothing is removed here.
    """
    head = [
        card_text("SIMPLE", True, "FITS standard"),
        card_text("BITPIX", 8, "no image in the primary unit"),
        card_text("NAXIS", 0, "no image in the primary unit"),
        card_text("EXTEND", True, "extensions follow"),
        *cards,
    ]
    excluded = heads((*volatile, *_SUM_CARDS))
    total, content = hashlib.sha256(), hashlib.sha256()
    size = 0
    try:
        with path.open("wb", buffering=0) as stream:
            for extension in (None, *extensions):
                texts, data = (head, _NOTHING) if extension is None else _unit(extension)
                content.update(_lasting(texts, excluded))
                data_sum = 0
                for piece in _pieces(data):
                    content.update(piece)
                    data_sum = _fold(data_sum + ones_sum(piece))
                padding = bytes(-data.nbytes % BLOCK)
                # Swapping bytes twice is cheaper than a second copy of the plane in memory.
                for piece in itertools.chain([_summed_header(texts, data_sum)], _pieces(data), [padding]):
                    total.update(piece)
                    _write_all(stream, piece)
                    size += len(piece)
            os.fsync(stream.fileno())
    except OSError as error:
        if error.filename is None:
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise
    return Written(size, total.hexdigest(), content.hexdigest())


def content_digest(path: Path, volatile: Collection[str] = ()) -> str:
    """Content digest of a file on disk, as :func:`write_fits` returned it.

    Raises
    ------
    DataError
        The file is damaged.
    OSError
        It cannot be read.
    """
    from apero_dask.io.cards import split_cards
    from apero_dask.io.fits import FitsFile

    excluded = heads((*volatile, *_SUM_CARDS))
    content = hashlib.sha256()
    room = memoryview(bytearray(_PIECE))
    with path.open("rb", buffering=0) as stream:
        for unit in FitsFile(path).units:
            content.update(_lasting(split_cards(unit.text), excluded))
            stream.seek(unit.start)
            left = unit.size
            while left and (got := stream.readinto(room[: min(left, _PIECE)])):
                content.update(room[:got])
                left -= got
    return content.hexdigest()


def _lasting(cards: Sequence[str], excluded: Collection[str]) -> bytes:
    """Cards that take part in the content digest; `excluded`: their first eight characters."""
    return "".join([card for card in cards if card[:8] not in excluded]).encode("ascii")


def _summed_header(cards: Sequence[str], data_sum: int) -> bytes:
    """Header unit with DATASUM and CHECKSUM, from the sum of its data."""
    blank = [
        *cards,
        card_text("CHECKSUM", "0" * 16, "of the whole unit"),
        card_text("DATASUM", str(data_sum), "of the data"),
    ]
    whole = _fold(ones_sum(header_unit(blank)) + data_sum)
    blank[-2] = card_text("CHECKSUM", encoded_complement(whole), "of the whole unit")
    return header_unit(blank)


def ones_sum(data: bytes | memoryview) -> int:
    """Ones' complement sum of big-endian 32-bit words; missing bytes at the end count as zero."""
    whole = len(data) // 4 * 4
    words = np.frombuffer(data, ">u4", whole // 4)
    total = int(words.sum(dtype=np.uint64))
    if whole < len(data):
        total += int.from_bytes(bytes(data[whole:]).ljust(4, b"\0"), "big")
    return _fold(total)


def _fold(total: int) -> int:
    while total >> 32:
        total = (total & 0xFFFFFFFF) + (total >> 32)
    return total


def encoded_complement(total: int) -> str:
    """Sixteen letters and digits that make the sum of the unit all ones (FITS standard, appendix J).

    Each of the four bytes of the complement is shared out over four characters, kept alphanumeric by moving
    pairs of them in opposite directions; the string is then rotated by one byte because the value of the card
    begins one byte off a word boundary.
    """
    complement = (~total & 0xFFFFFFFF).to_bytes(4, "big")
    letters = bytearray(16)
    for i, byte in enumerate(complement):
        parts = [byte // 4 + 48 + (byte % 4 if k == 0 else 0) for k in range(4)]
        while not all(p in _ALLOWED for p in parts):
            for a, b in ((0, 1), (2, 3)):
                if parts[a] not in _ALLOWED or parts[b] not in _ALLOWED:
                    parts[a] += 1
                    parts[b] -= 1
        for k in range(4):
            letters[4 * k + i] = parts[k]
    return (letters[-1:] + letters[:-1]).decode("ascii")


def _write_all(stream: object, piece: bytes | memoryview) -> None:
    view = memoryview(piece).cast("B")
    while view:
        view = view[stream.write(view) :]  # type: ignore[attr-defined]


def _unit(extension: Image | Table) -> tuple[list[str], np.ndarray]:
    """Cards, and values in one line, in any byte order; rows of a table as they are written."""
    if isinstance(extension, Image):
        return _image_head(extension), np.ascontiguousarray(extension.data).reshape(-1)
    rows = _rows(extension)
    return _table_head(extension, rows), rows


def _pieces(data: np.ndarray) -> Iterator[memoryview]:
    """Bytes as they are written, a piece at a time; each is gone when the next is asked for.

    Numbers become big-endian, and every NaN gets one bit pattern: sign and payload depend on how it arose.
    """
    step = max(_PIECE // max(data.itemsize, 1) // 4 * 4, 4)
    if data.dtype.names is not None or data.itemsize == 1:
        for first in range(0, data.size, step):
            yield memoryview(data[first : first + step].view(np.uint8))
        return
    room = np.empty(min(step, data.size), data.dtype.newbyteorder(">"))
    for first in range(0, data.size, step):
        part = data[first : first + step]
        turned = room[: part.size]
        turned[...] = part
        if data.dtype.kind == "f":
            blank = np.isnan(part)
            if blank.any():
                turned[blank] = np.nan
        yield memoryview(turned.view(np.uint8))


def _image_head(image: Image) -> list[str]:
    kind = image.data.dtype.str[1:]
    if kind not in _BITPIX or not image.data.ndim:
        raise TypeError(
            f"image {image.name}: {image.data.ndim} axes of dtype {image.data.dtype}, expected at least one "
            f"of {', '.join(_BITPIX)}"
        )
    own: list[Card] = [
        ("XTENSION", "IMAGE", "image extension"),
        ("BITPIX", _BITPIX[kind], "bits per value"),
        ("NAXIS", image.data.ndim, "number of axes"),
        *((f"NAXIS{k}", n, "length of axis") for k, n in enumerate(reversed(image.data.shape), start=1)),
        ("PCOUNT", 0, "no parameters"),
        ("GCOUNT", 1, "one group"),
        ("EXTNAME", image.name, "name of the extension"),
    ]
    if image.unit:
        own.append(("BUNIT", image.unit, "unit of the values"))
    return [card_text(*card) for card in (*own, *image.cards)] + list(image.texts)


def _table_head(table: Table, rows: np.ndarray) -> list[str]:
    own: list[Card] = [
        ("XTENSION", "BINTABLE", "binary table"),
        ("BITPIX", 8, "bits per value"),
        ("NAXIS", 2, "number of axes"),
        ("NAXIS1", rows.dtype.itemsize, "bytes per row"),
        ("NAXIS2", len(rows), "number of rows"),
        ("PCOUNT", 0, "no heap"),
        ("GCOUNT", 1, "one group"),
        ("TFIELDS", len(table.columns), "number of columns"),
        ("EXTNAME", table.name, "name of the extension"),
    ]
    for k, (name, column) in enumerate(table.columns.items(), start=1):
        values = np.asarray(column)
        kind = values.dtype
        if kind.kind in "US":
            form = f"{rows.dtype[k - 1].itemsize}A"
        else:
            width = values.shape[1] if values.ndim == 2 else 1
            form = f"{'' if width == 1 else width}{_FORMS[kind.str[1:]]}"
        own += [(f"TTYPE{k}", name, ""), (f"TFORM{k}", form, "")]
        if name in table.units:
            own.append((f"TUNIT{k}", table.units[name], ""))
    return [card_text(*card) for card in (*own, *table.cards)] + list(table.texts)


def _rows(table: Table) -> np.ndarray:
    """Rows of a table as one structured array, text padded with blanks."""
    arrays: list[np.ndarray] = []
    fields: list[tuple[str, str, tuple[int, ...]]] = []
    for k, (name, column) in enumerate(table.columns.items()):
        values = np.asarray(column)
        if values.dtype.kind == "U":
            try:
                values = np.char.encode(values, "ascii") if values.size else values.astype("S1")
            except UnicodeEncodeError as error:
                raise ValueError(f"table {table.name}, column {name}: text outside ASCII") from error
        kind = values.dtype.str[1:]
        if values.dtype.kind == "S":
            values = np.char.ljust(values, max(values.dtype.itemsize, 1)) if values.size else values
            fields.append((f"c{k}", f"S{max(values.dtype.itemsize, 1)}", ()))
        elif kind == "b1":
            values = np.where(values, b"T", b"F").astype("S1")
            fields.append((f"c{k}", "S1", values.shape[1:]))
        elif kind in _FORMS and values.ndim in (1, 2):
            fields.append((f"c{k}", values.dtype.newbyteorder(">").str, values.shape[1:]))
        else:
            raise TypeError(
                f"table {table.name}, column {name}: shape {values.shape} of dtype {values.dtype}, "
                "expected one value or one row of numbers per row"
            )
        if arrays and len(values) != len(arrays[0]):
            raise ValueError(
                f"table {table.name}, column {name}: {len(values)} rows, the columns before have "
                f"{len(arrays[0])}"
            )
        arrays.append(values)
    rows = np.zeros(len(arrays[0]) if arrays else 0, np.dtype(fields))
    for (label, _, _), values in zip(fields, arrays, strict=True):
        rows[label] = _quiet_nan(values)
    return rows


def _quiet_nan(values: np.ndarray) -> np.ndarray:
    """Values with one bit pattern for every NaN: sign and payload depend on how a NaN arose."""
    if values.dtype.kind != "f":
        return values
    blank = np.isnan(values)
    if not blank.any():
        return values
    clean = values.copy()
    clean[blank] = np.nan
    return clean
