"""Closest known name, for messages."""

from __future__ import annotations

import datetime
import difflib
from collections.abc import Iterable


def closest(name: str, known: Iterable[str]) -> str | None:
    """Known name most like ``name``; None if there is none at all.

    Of equally like ones the nearest in time, where the names are dates, then the first in alphabetical order.

    >>> closest("2018-09-28", ["2018-09-27", "2018-09-25", "2019-01-01"])
    '2018-09-27'
    >>> closest("Gl 69", ["GL699", "GL698"])
    'GL698'
    """
    day = _day(name)

    def unlike(other: str) -> tuple[float, int, str]:
        there = _day(other)
        apart = abs(there - day) if day is not None and there is not None else 0
        return -difflib.SequenceMatcher(None, name.lower(), other.lower()).ratio(), apart, other

    return min(set(known), key=unlike, default=None)


def _day(name: str) -> int | None:
    """Number of the day that a name is the date of, None if it is no date."""
    try:
        return datetime.date.fromisoformat(name).toordinal()
    except ValueError:
        return None
