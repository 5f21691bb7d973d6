"""Reads the primary header of a raw frame without a FITS library.

Planning needs some twenty values of each of 100 000 files; a general reader costs more than the disk.
Only the header unit is read, so damage behind it goes unseen here and is found by preprocessing.
Card syntax: FITS standard 4.0 (2018), sections 4.1 and 4.2, and the CONTINUE and HIERARCH conventions.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import stat
import zlib
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import cache, lru_cache

Value = str | bool | int | float

CARD = 80
BLOCK = 2880
FIRST_READ = 10 * BLOCK
"""Bytes read at once: raw headers have 120 to 330 cards, 360 fit."""
LONGEST_HEADER = 400 * BLOCK
"""Give up looking for END here: no instrument writes 14 000 cards."""

EMPTY = "empty"
NOT_FITS = "not FITS"
NOT_A_FILE = "not a regular file"
TRUNCATED = "unreadable header (truncated)"
NO_END = "unreadable header (no END card)"
NOT_ASCII = "unreadable header (not ASCII text)"
BAD_GZIP = "unreadable header (damaged gzip)"
NO_PERMISSION = "unreadable header (no read permission)"
VANISHED = "unreadable header (disappeared during the scan)"
DEAD_LINK = "unreadable header (link to nothing)"
READ_ERROR = "unreadable header (read error)"


class HeaderError(Exception):
    """The primary header cannot be used.

    ``reason`` is one of the constants of this module, ``note`` what was found, or empty; ``lasting`` is
    true when the contents are at fault, so that the same file (``size``, ``mtime_ns``) will fail again.
    """

    size = 0
    mtime_ns = 0

    def __init__(self, reason: str, note: str = "", lasting: bool = True) -> None:
        super().__init__(f"{reason}: {note}" if note else reason)
        self.reason = reason
        self.note = note
        self.lasting = lasting


@dataclass(frozen=True, slots=True)
class PrimaryHeader:
    """Values of one primary header."""

    values: dict[str, Value]
    """By keyword, the first of repeated ones; cards without a value are left out."""
    digest: str
    """SHA-256 of the header unit, END block included; the same for a compressed copy."""
    size: int
    """Bytes of the file on disk."""
    mtime_ns: int
    """Time of last modification when the file was opened, ns."""


_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eEdD][+-]?\d+)?")
_QUOTED = re.compile(r"'((?:''|[^'])*)'(?=[ /]|$)")
# Some acquisition systems do not double the quote in "Barnard's star".
_QUOTED_LOOSELY = re.compile(r"'(.*?)'(?=[ /]|$)")


@lru_cache(maxsize=16384)
def parse_value(field: str) -> Value | None:
    """Value of a card, from the text behind ``=``; None if there is none.

    A value that is neither text, number nor logical is returned as the text it is.

    >>> [parse_value(f) for f in ("'pi.02Ori '  / star", " 1.46D-06", "T / flag", "55", "  / nothing")]
    ['pi.02Ori', 1.46e-06, True, 55, None]
    """
    field = field.strip()
    if field.startswith("'"):
        match = _QUOTED.match(field) or _QUOTED_LOOSELY.match(field)
        text = match.group(1) if match else field[1:]
        return text.replace("''", "'").rstrip()
    word = field.partition("/")[0].rstrip()
    if not word:
        return None
    if word in ("T", "F"):
        return word == "T"
    if _NUMBER.fullmatch(word):
        digits = word[1:] if word[0] in "+-" else word
        return int(word) if digits.isdigit() else float(word.replace("D", "E").replace("d", "e"))
    return word


def parse_cards(text: str, keywords: Collection[str] | None = None) -> dict[str, Value]:
    """Values of the 80-character cards in ``text``, up to an END card.

    Parameters
    ----------
    text
        Header unit, any number of cards.
    keywords
        Only these (upper case); None = all.  HIERARCH keywords go without the word HIERARCH.
    """
    heads = None if keywords is None else _heads(frozenset(keywords))
    values: dict[str, Value] = {}
    previous = ""
    for start in range(0, len(text), CARD):
        head = text[start : start + 8]
        if heads is not None and head not in heads:
            previous = ""
            continue
        name = head.rstrip()
        if name == "END":
            break
        if name == "CONTINUE":
            so_far = values.get(previous)
            if isinstance(so_far, str) and so_far.endswith("&"):
                more = parse_value(text[start + 8 : start + CARD])
                values[previous] = so_far[:-1] + (more if isinstance(more, str) else "")
            continue
        previous = ""
        if text[start + 8 : start + 10] == "= ":
            field = text[start + 10 : start + CARD]
        elif name == "HIERARCH":
            name, _, field = text[start + 9 : start + CARD].partition("=")
            name = name.strip()
        else:
            continue
        if name in values or (keywords is not None and name not in keywords):
            continue
        value = parse_value(field)
        if value is not None:
            values[name] = value
            previous = name
    return values


@cache
def _heads(keywords: frozenset[str]) -> frozenset[str]:
    """First eight characters of the cards to look at: nine in ten can be passed over at a glance."""
    return frozenset(name.ljust(8) for name in keywords) | {"END     ", "CONTINUE", "HIERARCH"}


def read_primary(path: str | os.PathLike[str], keywords: Collection[str] | None = None) -> PrimaryHeader:
    """Read the primary header of ``path``; a gzip file is recognised by its contents.

    Parameters
    ----------
    path
        File to read.
    keywords
        Only these values (upper case); None = all.

    Raises
    ------
    HeaderError
        With the reason, whatever is wrong with the file.
    """
    try:
        # Without O_NONBLOCK a named pipe would stop the scan for ever.
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise _open_error(path, error) from error
    try:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode):
            raise HeaderError(NOT_A_FILE, "a folder" if stat.S_ISDIR(status.st_mode) else "", lasting=False)
        unit, text = _header_unit(lambda count: os.read(handle, count))
    except HeaderError as error:
        error.size, error.mtime_ns = status.st_size, status.st_mtime_ns
        raise
    except OSError as error:
        raise HeaderError(READ_ERROR, error.strerror or str(error), lasting=False) from error
    finally:
        os.close(handle)
    values = parse_cards(text, keywords)
    return PrimaryHeader(values, hashlib.sha256(unit).hexdigest(), status.st_size, status.st_mtime_ns)


def _open_error(path: str | os.PathLike[str], error: OSError) -> HeaderError:
    if isinstance(error, PermissionError):
        return HeaderError(NO_PERMISSION, lasting=False)
    if error.errno == errno.ELOOP:
        return HeaderError(DEAD_LINK, "links in a circle", lasting=False)
    if isinstance(error, FileNotFoundError):
        return HeaderError(DEAD_LINK if os.path.islink(path) else VANISHED, lasting=False)  # noqa: PTH114
    if error.errno == errno.ENXIO:  # a socket, or a device without driver
        return HeaderError(NOT_A_FILE, lasting=False)
    return HeaderError(READ_ERROR, error.strerror or str(error), lasting=False)


Read = Callable[[int], bytes]
"""Next bytes of a file, at most so many; empty at its end."""


class _Gunzip:
    """Reads the contents of a gzip file, several members in a row included."""

    def __init__(self, read: Read, first: bytes) -> None:
        self._read = read
        self._pending = first
        self._stream = zlib.decompressobj(wbits=31)

    def __call__(self, count: int) -> bytes:
        ended = False
        while True:
            if not self._pending:
                self._pending = self._read(FIRST_READ)
                ended = not self._pending
            if self._stream.eof:
                self._pending = self._stream.unused_data + self._pending
                if not self._pending.startswith(b"\x1f\x8b"):
                    return b""
                self._stream = zlib.decompressobj(wbits=31)
            try:
                data = self._stream.decompress(self._pending, count)
            except zlib.error as error:
                raise HeaderError(BAD_GZIP, str(error)) from error
            self._pending = self._stream.unconsumed_tail
            if data:
                return data
            if ended and not self._stream.eof:
                raise HeaderError(TRUNCATED, "the gzip data end early")


def _header_unit(read: Read) -> tuple[bytes, str]:
    """Bytes of the header unit, and text of its cards before END."""
    data = read(FIRST_READ)
    if data.startswith(b"\x1f\x8b"):
        read = _Gunzip(read, data)
        data = read(FIRST_READ)
    if not data:
        raise HeaderError(EMPTY)
    if not (data.startswith(b"SIMPLE  =") or b"SIMPLE  =".startswith(data)):
        raise HeaderError(NOT_FITS)
    searched = 0
    while True:
        end = _find_end(data, searched)
        if end >= 0:
            length = (end // BLOCK + 1) * BLOCK
            if len(data) >= length:
                return data[:length], _decoded(data[:end])
        elif len(data) >= LONGEST_HEADER:
            raise HeaderError(NO_END, f"none in the first {LONGEST_HEADER // CARD} cards")
        else:
            searched = len(data) - len(data) % CARD
        more = read(FIRST_READ)
        if not more:
            raise HeaderError(TRUNCATED, f"{len(data)} bytes")
        data += more


def _decoded(cards: bytes) -> str:
    try:
        return cards.decode("ascii")
    except UnicodeDecodeError as error:
        card = cards[error.start - error.start % CARD :][:8].decode("ascii", "replace").strip()
        raise HeaderError(NOT_ASCII, f"byte 0x{cards[error.start]:02X} in card {card}") from error


def _find_end(data: bytes, start: int) -> int:
    """Position of the END card at or behind ``start`` (a multiple of 80), or -1."""
    position = data.find(b"END     ", start)
    while position >= 0:
        whole = position % CARD == 0 and position + CARD <= len(data)
        if whole and not data[position + 8 : position + CARD].strip():
            return position
        position = data.find(b"END     ", position + 1)
    return -1
