"""Reads images and tables of FITS files, whole or a block of rows at a time.

Only the primary header and the place of every unit are read at once.  Pixels are returned in native byte
order, ready for compiled kernels.  Everything that makes a file unusable is a :class:`DataError` naming
file, finding and remedy; an error of the disk stays an OSError, since another attempt may succeed.
"""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from io import RawIOBase
from pathlib import Path

import numpy as np

from apero_dask.core.errors import DataError
from apero_dask.io.cards import END
from apero_dask.io.primary import BLOCK, CARD, LONGEST_HEADER, Value, parse_cards

_IMAGE_TYPES = {8: "u1", 16: ">i2", 32: ">i4", 64: ">i8", -32: ">f4", -64: ">f8"}
_COLUMN_TYPES = {"L": "S1", "B": "u1", "I": ">i2", "J": ">i4", "K": ">i8", "E": ">f4", "D": ">f8", "A": "S"}
_TFORM = re.compile(r"(\d*)([A-Z])")
_PIECE = 1 << 18  # bytes read and turned at once
_COPY_AGAIN = "copy or make the file again"


@dataclass(frozen=True, slots=True)
class Unit:
    """One header and data unit."""

    number: int
    name: str
    """EXTNAME, empty for the primary unit."""
    values: dict[str, Value]
    text: str
    """Cards before END."""
    shape: tuple[int, ...]
    """Axes as in numpy, slowest first; empty without data."""
    start: int
    """First byte of the data."""
    size: int
    """Bytes of data, without padding."""

    @property
    def is_table(self) -> bool:
        """Whether it is a binary table."""
        return self.values.get("XTENSION") == "BINTABLE"


class FitsFile:
    """A FITS file whose structure has been checked.

    Parameters
    ----------
    path
        File, plain or gzip; a compressed one is unpacked in memory at the first look at its data.

    Raises
    ------
    DataError
        Empty, not FITS, damaged or truncated.
    OSError
        The file is not there or cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        with self.path.open("rb") as stream:
            self._packed = stream.read(2) == b"\x1f\x8b"
        self.units: tuple[Unit, ...] = tuple(self._scan())

    @property
    def name(self) -> str:
        """Base name of the file."""
        return self.path.name

    @property
    def values(self) -> dict[str, Value]:
        """Values of the primary header, the first of repeated ones."""
        return self.units[0].values

    @property
    def text(self) -> str:
        """Cards of the primary header, as one text."""
        return self.units[0].text

    def number(self, keyword: str) -> float:
        """Finite number of the primary header.

        Raises
        ------
        DataError
            It is missing or not a number.
        """
        value = self.values.get(keyword)
        try:
            number = float(value) if value is not None and not isinstance(value, bool) else np.nan
        except ValueError:
            number = np.nan
        if not np.isfinite(number):
            found = f'{keyword} = "{value}"' if value is not None else f"no {keyword}"
            raise self._error(
                f"{found} in the primary header, expected a number", "correct the header or reject the frame"
            )
        return number

    def has(self, which: int | str) -> bool:
        """Whether there is an extension of that number (1 = first) or name."""
        return self._find(which) is not None

    def unit(self, which: int | str) -> Unit:
        """Extension by number (1 = first) or name.

        Raises
        ------
        DataError
            There is none.
        """
        unit = self._find(which)
        if unit is None:
            names = ", ".join(u.name or str(u.number) for u in self.units[1:]) or "none"
            wanted = f"number {which}" if isinstance(which, int) else which
            raise self._error(f"no extension {wanted}; extensions found: {names}", _COPY_AGAIN)
        return unit

    def image(self, which: int | str = 1, dtype: type | None = None) -> np.ndarray:
        """Image of an extension in native byte order, in memory of its own.

        Parameters
        ----------
        which
            Number or name of the extension; 0 is the primary unit, where files of other programs have pixels.
        dtype
            Type to return, e.g. numpy.float32; None = as stored (float32 for scaled 16-bit integers, float64
            for longer ones).

        Raises
        ------
        DataError
            No such extension, or no image in it.
        """
        unit = self._image_unit(which)
        return self._pixels(unit, 0, unit.shape, dtype)

    def rows(
        self, which: int | str, first: int, end: int, dtype: type | None = None, *, step: int = 1
    ) -> np.ndarray:
        """Rows ``first`` to ``end`` (not included) of an image, every ``step``-th; see :meth:`image`."""
        unit = self._image_unit(which)
        if len(unit.shape) != 2 or not 0 <= first <= end <= unit.shape[0] or step < 1:
            raise self._error(
                f"rows {first}..{end} were asked of extension {unit.number} of shape {unit.shape}",
                "give the frame to the instrument it belongs to",
            )
        width = unit.shape[1] * abs(int(unit.values["BITPIX"])) // 8
        shape = (-(-(end - first) // step), unit.shape[1])
        return self._pixels(unit, first * width, shape, dtype, width * step)

    def table(self, which: int | str) -> dict[str, np.ndarray]:
        """Columns of a binary table by name: native numbers, bool, or text without padding.

        Raises
        ------
        DataError
            No such extension, no table in it, or columns of variable length or complex numbers.
        """
        unit = self.unit(which)
        if not unit.is_table:
            raise self._error(f"extension {unit.name or unit.number} is not a binary table", _COPY_AGAIN)
        fields: list[tuple[str, str, tuple[int, ...]]] = []
        codes: list[str] = []
        for k in range(1, int(unit.values.get("TFIELDS", 0)) + 1):
            form = str(unit.values.get(f"TFORM{k}", "")).strip()
            match = _TFORM.match(form)
            if match is None or match[2] not in _COLUMN_TYPES:
                raise self._error(
                    f'column {k} of extension {unit.name or unit.number} has format "{form}", expected one '
                    f"of {''.join(_COLUMN_TYPES)}",
                    "write the column with a fixed length",
                )
            repeat = int(match[1] or 1)
            base = _COLUMN_TYPES[match[2]]
            field_type = f"S{repeat}" if match[2] == "A" else base
            fields.append((f"c{k}", field_type, () if match[2] == "A" or repeat == 1 else (repeat,)))
            codes.append(match[2])
        row = np.dtype(fields)
        if row.itemsize != unit.shape[1]:
            raise self._error(
                f"rows of extension {unit.name or unit.number} have {unit.shape[1]} bytes, its columns "
                f"{row.itemsize}",
                _COPY_AGAIN,
            )
        data = np.frombuffer(self._bytes(unit, 0, unit.shape[0] * unit.shape[1]), row, unit.shape[0])
        columns: dict[str, np.ndarray] = {}
        for k, code in enumerate(codes, start=1):
            values = data[f"c{k}"]
            if code == "A":
                values = np.char.rstrip(np.char.decode(values, "ascii"))
            elif code == "L":
                values = values == b"T"
            else:
                values = values.astype(values.dtype.newbyteorder("="))
                scale, zero = unit.values.get(f"TSCAL{k}", 1), unit.values.get(f"TZERO{k}", 0)
                if (scale, zero) != (1, 0):
                    values = values * float(scale) + float(zero)
            columns[str(unit.values.get(f"TTYPE{k}", f"col{k}")).strip()] = values
        return columns

    def _error(self, found: str, action: str) -> DataError:
        return DataError(f"{self.path}: {found}; {action}.")

    def _find(self, which: int | str) -> Unit | None:
        if isinstance(which, int):
            return self.units[which] if 0 <= which < len(self.units) else None
        return next((u for u in self.units[1:] if u.name == which.upper()), None)

    def _image_unit(self, which: int | str) -> Unit:
        unit = self.unit(which)
        label = unit.name or str(unit.number)
        if unit.is_table:
            packed = unit.values.get("ZIMAGE") is True
            found = "a tile-compressed image" if packed else "a table"
            raise self._error(
                f"extension {label} is {found}, expected an image",
                "unpack it with funpack" if packed else _COPY_AGAIN,
            )
        if not unit.shape:
            raise self._error(f"extension {label} holds no image", _COPY_AGAIN)
        return unit

    def _pixels(
        self, unit: Unit, offset: int, shape: tuple[int, ...], dtype: type | None, stride: int = 0
    ) -> np.ndarray:
        kind = np.dtype(_IMAGE_TYPES[int(unit.values["BITPIX"])])
        count = int(np.prod(shape, dtype=np.int64))
        lines = shape[0] if stride > shape[-1] * kind.itemsize else 1
        data = self._read(unit, offset, kind, count, max(lines, 1), stride).reshape(shape)
        scale, zero = float(unit.values.get("BSCALE", 1.0)), float(unit.values.get("BZERO", 0.0))
        blank = unit.values.get("BLANK")
        if kind.kind != "f" and ((scale, zero) != (1.0, 0.0) or blank is not None):
            scaled = data.astype(np.float32 if kind.itemsize <= 2 else np.float64)
            if blank is not None:
                scaled[data == blank] = np.nan
            data = scaled
        if (scale, zero) != (1.0, 0.0):
            data *= data.dtype.type(scale)
            data += data.dtype.type(zero)
        return data if dtype is None or data.dtype == dtype else data.astype(dtype)

    def _read(
        self, unit: Unit, offset: int, kind: np.dtype, count: int, lines: int = 1, stride: int = 0
    ) -> np.ndarray:
        """Values in native byte order, in memory of their own: in equal lines, `stride` bytes apart."""
        native = kind.newbyteorder("=")
        data = np.empty((lines, count // lines), native)
        if self._packed:
            for k, line in enumerate(data):
                place = unit.start + offset + k * stride
                line[:] = np.frombuffer(self._unpacked, kind, line.size, place)
            return data
        with self.path.open("rb", buffering=0) as stream:
            for k, line in enumerate(data):
                stream.seek(unit.start + offset + k * stride)
                self._read_line(stream, unit, kind, line)
        return data

    def _read_line(self, stream: RawIOBase, unit: Unit, kind: np.dtype, line: np.ndarray) -> None:
        # A piece at a time: its bytes are turned while they are in the cache.
        for first in range(0, line.size, _PIECE // kind.itemsize):
            part = line[first : first + _PIECE // kind.itemsize]
            view = part.data.cast("B")
            done = 0
            while done < len(view):
                got = stream.readinto(view[done:])
                if not got:
                    raise self._error(
                        f"ends inside extension {unit.name or unit.number} while being read", _COPY_AGAIN
                    )
                done += got
            if not kind.isnative:
                part.byteswap(inplace=True)

    def _bytes(self, unit: Unit, offset: int, count: int) -> bytes:
        return self._read(unit, offset, np.dtype("u1"), count).tobytes()

    @cached_property
    def _unpacked(self) -> bytes:
        try:
            with gzip.open(self.path) as stream:
                return stream.read()
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise self._error(f"damaged gzip data ({error})", _COPY_AGAIN) from error

    def _scan(self) -> list[Unit]:
        if self._packed:
            data = self._unpacked
            return self._units(lambda start, count: data[start : start + count], len(data))
        with self.path.open("rb") as stream:

            def read(start: int, count: int) -> bytes:
                stream.seek(start)
                return stream.read(count)

            return self._units(read, self.path.stat().st_size)

    def _units(self, read: Callable[[int, int], bytes], length: int) -> list[Unit]:
        if not length:
            raise self._error("the file is empty", _COPY_AGAIN)
        units: list[Unit] = []
        position = 0
        while position < length:
            head = read(position, 9)
            if head != (b"XTENSION=" if units else b"SIMPLE  ="):
                if units:
                    break  # the standard allows other records behind the last unit
                raise self._error("not a FITS file", _COPY_AGAIN)
            text, start = self._header(read, position, len(units))
            unit = self._unit(text, start, len(units))
            if start + unit.size > length:
                raise self._error(
                    f"truncated: extension {unit.name or unit.number} ends at byte {start + unit.size}, "
                    f"the file has {length}",
                    _COPY_AGAIN,
                )
            units.append(unit)
            position = start + -(-unit.size // BLOCK) * BLOCK
        return units

    def _header(self, read: Callable[[int, int], bytes], position: int, number: int) -> tuple[str, int]:
        data = b""
        end = END.encode()
        while len(data) < LONGEST_HEADER:
            more = read(position + len(data), 4 * BLOCK)
            data += more
            found = data.find(end)
            while found >= 0 and found % CARD:
                found = data.find(end, found + 1)
            if found >= 0:
                try:
                    return data[:found].decode("ascii"), position + (found // BLOCK + 1) * BLOCK
                except UnicodeDecodeError as error:
                    raise self._error(
                        f"header {number} has byte 0x{data[error.start]:02X}, expected ASCII text",
                        _COPY_AGAIN,
                    ) from error
            if not more:
                break
        raise self._error(f"truncated or damaged: header {number} has no END card", _COPY_AGAIN)

    def _unit(self, text: str, start: int, number: int) -> Unit:
        values = parse_cards(text)
        name = str(values.get("EXTNAME", "")).strip().upper() if number else ""
        try:
            bitpix = int(values["BITPIX"])
            shape = tuple(int(values[f"NAXIS{k}"]) for k in range(int(values["NAXIS"]), 0, -1))
            extra = int(values.get("PCOUNT", 0)) if number else 0
            if bitpix not in _IMAGE_TYPES or min(shape, default=0) < 0 or extra < 0:
                raise ValueError(f"BITPIX {bitpix}, shape {shape}, PCOUNT {extra}")
        except (KeyError, ValueError) as error:
            raise self._error(f"header {number} does not describe its data ({error})", _COPY_AGAIN) from error
        size = (int(np.prod(shape, dtype=np.int64)) if shape else 0) * abs(bitpix) // 8 + extra
        return Unit(number, name, values, text, shape, start, size)
