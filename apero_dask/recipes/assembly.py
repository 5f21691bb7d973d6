"""Puts a product together: header, name of the main extension, table of parameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from apero_dask.core.declare import OptionValue
from apero_dask.core.errors import ContractError
from apero_dask.core.products import KINDS
from apero_dask.core.work import QCTest, Work
from apero_dask.instruments import Instrument

if TYPE_CHECKING:
    from apero_dask.io.cards import Card
    from apero_dask.io.fitswriter import Image, Table


@dataclass(frozen=True, slots=True)
class Parameter:
    """One row of PARAM_TABLE."""

    name: str
    value: OptionValue | None
    source: str
    description: str


def product_header(
    work: Work,
    instrument: Instrument,
    kind: str,
    fibre: str,
    header: Mapping[str, Any],
    tests: Sequence[QCTest],
    inherited_text: str,
) -> list[str]:
    """Cards of the primary header: inherited ones, those of the recipe, provenance, quality control.

    Raises
    ------
    ContractError
        A card is written twice or cannot be held by FITS.
    """
    from apero_dask.io.cards import CardError, merged
    from apero_dask.io.provenance import (
        calibration_cards,
        inherited,
        input_cards,
        process_cards,
        quality_cards,
    )

    own: list[Card] = []
    for keyword, value in header.items():
        pair = value if isinstance(value, tuple) else (value, "")
        own.append((keyword, _plain(pair[0]), pair[1]))
    own += process_cards(work, kind, fibre)
    own += input_cards(work)
    own += calibration_cards(work, fibre, instrument)
    own += quality_cards(tests)
    try:
        return merged(inherited(inherited_text), own)
    except CardError as error:
        raise ContractError(f"{work.recipe}, header of {kind} {fibre}: {error}") from error


def main_extension(kind: str, main: Image | Table, cards: Sequence[str]) -> Image | Table:
    """First extension under the name of the product; a table repeats the most important keywords."""
    from apero_dask.io.cards import heads
    from apero_dask.io.fitswriter import Table
    from apero_dask.io.primary import parse_cards
    from apero_dask.io.provenance import TABLE_KEYWORDS

    named = replace(main, name=KINDS[kind].outid)
    if not isinstance(named, Table):
        return named
    wanted, kept, repeats = [], False, heads(TABLE_KEYWORDS)
    for card in cards:  # a few of a thousand are read
        head = card[:8]
        kept = head in repeats or (kept and head == "CONTINUE")
        if kept:
            wanted.append(card)
    values = parse_cards("".join(wanted))
    repeated = tuple((key, values[key], "") for key in TABLE_KEYWORDS if key in values)
    return replace(named, cards=(*repeated, *named.cards))


def parameter_table(rows: Sequence[Parameter]) -> Table:
    """Every parameter a product was made with."""
    from apero_dask.io.fitswriter import Table

    return Table(
        "PARAM_TABLE",
        {
            "NAME": [row.name for row in rows],
            "KIND": [type(row.value).__name__ for row in rows],
            "VALUE": [str(row.value) for row in rows],
            "SOURCE": [row.source for row in rows],
            "DESCRIPTION": [row.description for row in rows],
            "COUNT": [1] * len(rows),
        },
    )


def check_precision(recipe: str, kind: str, extension: Image | Table, instrument: Instrument) -> None:
    """Refuse detector images in double precision: twice the disk for nothing.

    Raises
    ------
    ContractError
        It is one.
    """
    from apero_dask.io.fitswriter import Image

    if not isinstance(extension, Image) or extension.data.dtype.itemsize != 8:
        return
    i = instrument
    if extension.data.shape in ((i.raw_columns, i.raw_rows), (i.raw_rows, i.raw_columns), (i.ny, i.nx)):
        raise ContractError(
            f"{recipe}: {extension.name or kind} is a detector image in double precision; save it as float32"
        )


def _plain(value: Any) -> Any:
    """Python value of a numpy scalar; a number that is not finite becomes the text FITS readers expect."""
    if type(value) in (str, int, bool) or (type(value) is float and value - value == 0.0):
        return value
    item = getattr(value, "item", None)
    plain = item() if item is not None else value
    if isinstance(plain, float) and (plain != plain or plain in (float("inf"), float("-inf"))):
        return "NaN" if plain != plain else ("Inf" if plain > 0 else "-Inf")
    return plain
