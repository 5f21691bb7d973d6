"""Header cards as text: written by one rule, carried over from raw headers without loss.

Card syntax: FITS standard 4.0 (2018), section 4.  A product must not inherit what another program wrote
wrongly, so carried cards that break the syntax are written anew from their values.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator
from functools import lru_cache

from apero_dask.io.primary import BLOCK, CARD, Value, parse_value

Card = tuple[str, Value, str]
"""Keyword, value, comment."""

LONGEST_TEXT = 68
"""Characters of a text value on one card, quotes doubled."""
END = "END".ljust(CARD)

_KEYWORD = re.compile(r"[A-Z0-9_-]{1,8}")
_STRICT = re.compile(
    r"(?:'(?:''|[^'])*'|[TF]|[+-]?(?:\d+\.?\d*|\.\d+)(?:[ED][+-]?\d+)?)?\s*(?:/.*)?",
)
_COMMENTARY = ("COMMENT", "HISTORY", "")
_CONTINUE = "CONTINUE"
STRUCTURE = re.compile(
    r"SIMPLE|XTENSION|BITPIX|NAXIS\d*|EXTEND|NEXTEND|PCOUNT|GCOUNT|GROUPS|EXTNAME|EXTVER|EXTLEVEL|INHERIT"
    r"|BSCALE|BZERO|BLANK|BUNIT|DATAMIN|DATAMAX|TFIELDS|T(?:TYPE|FORM|UNIT|NULL|SCAL|ZERO|DISP|DIM|BCOL)\d+"
    r"|THEAP|CHECKSUM|DATASUM|END"
)
"""Keywords that describe the unit they stand in, and mean nothing elsewhere."""


class CardError(ValueError):
    """A keyword or value that FITS cannot hold: a defect of the caller."""


def value_text(value: Value) -> str:
    """Value as it stands behind ``= ``.

    >>> value_text(True), value_text(0.999), value_text(1e-20), value_text("it's")
    ('                   T', '               0.999', '               1E-20', "'it''s   '")

    Raises
    ------
    CardError
        Not finite, not printable ASCII, or too long.
    """
    if isinstance(value, bool):
        return "T".rjust(20) if value else "F".rjust(20)
    if isinstance(value, int):
        return str(value).rjust(20)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise CardError(f"value {value}: FITS has no card for it, write the text 'NaN'")
        text = repr(value).upper()
        if "E" in text:
            mantissa, _, exponent = text.partition("E")
            text = f"{mantissa}E{int(exponent)}"
        return text.rjust(20)
    if not (value.isascii() and value.isprintable()):
        raise CardError(f"text {value!r}: only printable ASCII fits into a header")
    quoted = value.replace("'", "''")
    if len(quoted) > LONGEST_TEXT:
        raise CardError(f"text {value!r}: {len(quoted)} characters, at most {LONGEST_TEXT} fit on a card")
    return f"'{quoted.ljust(8)}'".ljust(20)


def card_text(keyword: str, value: Value, comment: str = "") -> str:
    """One 80-character card; a comment that does not fit is cut.

    >>> card_text("EXTNAME", "DRS_PP", "name").rstrip()
    "EXTNAME = 'DRS_PP  '           / name"

    Raises
    ------
    CardError
        The keyword or the value is not allowed.
    """
    # 0.0 and -0.0 are equal and written differently.
    return _card(keyword, value, comment) if value else _card.__wrapped__(keyword, value, comment)


@lru_cache(maxsize=8192, typed=True)
def _card(keyword: str, value: Value, comment: str) -> str:
    """Text of a card; products of one frame share most of theirs."""
    if not _KEYWORD.fullmatch(keyword):
        raise CardError(
            f"keyword {keyword!r}: expected 1 to 8 of the characters A-Z, 0-9, underscore and hyphen"
        )
    try:
        text = f"{keyword.ljust(8)}= {value_text(value)}"
    except CardError as error:
        raise CardError(f"{keyword}: {error}") from None
    if comment:
        text = f"{text} / {comment}"
    return text[:CARD].ljust(CARD)


def split_cards(text: str) -> list[str]:
    """80-character cards of a header text, END and what follows left out."""
    cards = [text[start : start + CARD].ljust(CARD) for start in range(0, len(text), CARD)]
    return cards[: cards.index(END)] if END in cards else cards


def keyword_of(card: str) -> str:
    """Keyword of a card."""
    return card[:8].rstrip()


def carried(cards: Iterable[str]) -> Iterator[str]:
    """Cards of another header for use in a product, those about its own unit left out.

    Well-formed cards stay as they are.  A value in a form the standard does not know (a quote not doubled,
    lower-case exponent, text without quotes) is written anew; a card with neither a keyword nor a value is
    dropped.
    """
    kept = False
    for card in cards:
        if card[:8] == _CONTINUE:
            if kept:
                yield card
            continue
        text, kept = _carried(card)
        if text:
            yield text


@lru_cache(maxsize=16384)
def _carried(card: str) -> tuple[str, bool]:
    """Card for a product, empty if it is left out, and whether cards that continue it are kept.

    Products of one frame carry over the same thousand cards.
    """
    keyword = keyword_of(card)
    if STRUCTURE.fullmatch(keyword):
        return "", False
    if keyword in _COMMENTARY:
        return (card if card[8:].strip() else ""), False
    if keyword == "HIERARCH":
        return (card, True) if "=" in card else ("", False)
    if not _KEYWORD.fullmatch(keyword) or card[8:10] != "= ":
        return "", False
    field = card[10:]
    if _STRICT.fullmatch(field.strip()):
        return card, True
    value = parse_value(field)
    if value is None:
        return "", False
    text = value if not isinstance(value, str) else value[:LONGEST_TEXT].replace("'", " ")
    return card_text(keyword, text), False


def heads(keywords: Iterable[str]) -> frozenset[str]:
    """First eight characters of the cards of these keywords."""
    return frozenset(keyword.ljust(8) for keyword in keywords)


def merged(inherited: Iterable[str], own: Iterable[Card]) -> list[str]:
    """Inherited cards followed by own ones; an own card replaces inherited ones of the same keyword.

    Raises
    ------
    CardError
        A keyword occurs twice among the own cards, belongs to the structure of a unit, or is not allowed.
    """
    texts: dict[str, str] = {}
    for keyword, value, comment in own:
        if keyword in texts:
            raise CardError(f"{keyword} is written twice")
        # 0.0 and -0.0 are equal and written differently.
        write = _own_card if value else _own_card.__wrapped__
        texts[keyword] = write(keyword, value, comment)
    result: list[str] = []
    dropping = False
    for card in inherited:
        keyword = card[:8].rstrip()
        dropping = keyword in texts or (dropping and keyword == _CONTINUE)
        if not dropping:
            result.append(card)
    return result + list(texts.values())


@lru_cache(maxsize=8192, typed=True)
def _own_card(keyword: str, value: Value, comment: str) -> str:
    """Text of a card that a product may hold beside those about its structure."""
    if STRUCTURE.fullmatch(keyword):
        raise CardError(f"{keyword} describes the structure of a unit; choose another keyword")
    return card_text(keyword, value, comment)


def header_unit(cards: Iterable[str]) -> bytes:
    """Bytes of a header: cards, END, blanks up to a whole block."""
    text = "".join(cards) + END
    return text.ljust(-(-len(text) // BLOCK) * BLOCK).encode("ascii")
