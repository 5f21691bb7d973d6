"""From the bytes of a run file to its assignments, each with its line number.

The grammar is smaller than that of INI files and differs from it on purpose: sections have no meaning,
``%`` and ``;`` are ordinary letters, a value may contain ``=`` and nothing continues on the next line.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from apero_dask.core.errors import Findings

MOST_SYNTAX = 50
"""After so many unusable lines the file is no run file, and one more message says so."""
NOT_UTF8 = "<bytes that are not UTF-8>"
"""Shown in place of a line that cannot be decoded."""
SHOWN = 80
"""Letters of a faulty line or value that are quoted in a message."""

_KEY = re.compile(r"[A-Za-z][A-Za-z0-9_]*", re.ASCII)
_ID_KEY = re.compile(r"ID[0-9]+", re.ASCII | re.IGNORECASE)
_BLANK = " \t\r"
_QUOTES = "\"'"
_BEFORE_QUOTE = " \t=,;"
"""What may stand before an opening quote; elsewhere it is an apostrophe, as in Barnard's star."""


@dataclass(frozen=True, slots=True)
class Assignment:
    """One ``KEY = VALUE`` line."""

    line: int
    """Line number from 1."""
    written: str
    """Key as written."""
    text: str
    """Value without comment, surrounding blanks and outer quotes."""
    unclosed: bool = False
    """The value begins with a quote that is never closed."""

    @property
    def key(self) -> str:
        """Key in upper case: keys are compared without case."""
        return self.written.upper()

    @property
    def id_digits(self) -> str:
        """Digits of an id key, without leading zeros, or empty for every other key."""
        return (self.written[2:].lstrip("0") or "0") if _ID_KEY.fullmatch(self.written) else ""


def shown(text: str, most: int = SHOWN) -> str:
    r"""Text fit for a message: control characters escaped, a long text cut.

    >>> shown("a\tb\x00"), shown("x" * 100, most=5)
    ('a\\tb\\x00', 'xxxxx...')
    """
    cut = text[:most] + ("..." if len(text) > most else "")
    if cut.isprintable():
        return cut
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in cut)


def outside_quotes(text: str, wanted: str, anywhere: bool = False) -> Iterator[int]:
    """Positions of the letters ``wanted`` in ``text`` that stand outside quotes.

    A quote that is never closed is an ordinary letter.  In a command line (``anywhere``) a quote may open
    in the middle of a word and a backslash hides a quote, as in a shell; in other values a quote opens
    only at the start of a word.

    >>> list(outside_quotes("Barnard's star, 'a # b' # it's", "#"))
    [24]
    """
    special = re.compile("[" + re.escape(wanted + _QUOTES + "\\") + "]")
    at = 0
    while (match := special.search(text, at)) is not None:
        at = match.start()
        letter = text[at]
        if letter in wanted:
            yield at
        elif letter == "\\":
            if anywhere and text[at + 1 : at + 2] in ('"', "'", "\\"):
                at += 1
        elif anywhere or at == 0 or text[at - 1] in _BEFORE_QUOTE:
            at = max(at, text.find(letter, at + 1))
        at += 1


def without_comment(text: str, anywhere: bool = False) -> str:
    """``text`` up to the first ``#`` outside quotes."""
    return text[: next(outside_quotes(text, "#", anywhere), len(text))]


def unquoted(text: str) -> str:
    """``text`` without quotes that enclose the whole of it.

    >>> unquoted('"Mini run"'), unquoted('"A", "B"'), unquoted("it's")
    ('Mini run', '"A", "B"', "it's")
    """
    if len(text) >= 2 and text[0] in _QUOTES and text.find(text[0], 1) == len(text) - 1:
        return text[1:-1].strip()
    return text


def _assignment(number: int, line: str) -> Assignment | None:
    written, equals, rest = line.partition("=")
    written = written.strip(_BLANK)
    if not equals or not _KEY.fullmatch(written):
        return None
    is_id = _ID_KEY.fullmatch(written) is not None
    text = without_comment(rest.strip(_BLANK), anywhere=is_id).strip(_BLANK)
    unclosed = text[:1] in ('"', "'") and text.find(text[0], 1) < 0
    return Assignment(number, written, unquoted(text), unclosed)


def _lines(data: bytes) -> Iterator[tuple[int, str | None]]:
    """Numbered lines; None for a line that is not UTF-8."""
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        for number, raw in enumerate(data.split(b"\n"), start=1):
            try:
                yield number, raw.decode("utf-8")
            except UnicodeDecodeError:
                yield number, None
    else:
        yield from enumerate(text.split("\n"), start=1)


def _about_line(code: str, number: int, line: str, findings: Findings) -> None:
    findings.add(code, line=number, text=shown(line.strip(_BLANK)))


def _not_text(data: bytes, findings: Findings) -> bool:
    """Whether the bytes are no text, which is then reported."""
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        problem, action = "is encoded as UTF-16", "save it as UTF-8 text"
    elif b"\x00" in data:
        number = data.count(b"\n", 0, data.index(b"\x00")) + 1
        problem = f"is not a text file (zero byte in line {number})"
        action = "give the name of a file with lines KEY = VALUE"
    else:
        return False
    findings.add("E-RUNFILE", name=findings.file, problem=problem, action=action)
    return True


def scan(data: bytes, findings: Findings) -> list[Assignment]:
    """Assignments of a run file in the order of its lines.

    Unusable lines are reported as E-SYNTAX, section lines as W-SECTION; bytes that are no text at all give
    one E-RUNFILE.  Never raises on any input.

    >>> found = Findings("a.ini")
    >>> [(a.line, a.key, a.text) for a in scan(b"# c\\ncores = 8  # of 16\\n", found)], len(found)
    ([(2, 'CORES', '8')], 0)
    """
    data = data.removeprefix(b"\xef\xbb\xbf")
    if _not_text(data, findings):
        return []
    assignments: list[Assignment] = []
    faulty = 0
    for number, line in _lines(data):
        stripped = "" if line is None else line.strip(_BLANK)
        if line is not None and (not stripped or stripped[0] == "#"):
            continue
        assignment = None if line is None else _assignment(number, stripped)
        if assignment is not None:
            assignments.append(assignment)
        elif stripped[:1] == "[" and without_comment(stripped).rstrip(_BLANK)[-1:] == "]":
            _about_line("W-SECTION", number, without_comment(stripped), findings)
        else:
            faulty += 1
            if faulty <= MOST_SYNTAX:
                _about_line("E-SYNTAX", number, stripped or NOT_UTF8, findings)
    if faulty > MOST_SYNTAX:
        findings.add(
            "E-RUNFILE",
            name=findings.file,
            problem=f"has {faulty} lines that are not KEY = VALUE, {MOST_SYNTAX} of them are listed",
            action="is it a run file?",
        )
    return assignments
