"""Closest known name, for messages."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def closest(name: str, known: Iterable[str]) -> str | None:
    """Known name most like ``name``, the first in alphabetical order on ties; None if there is none at all.

    >>> closest("2018-09-24", ["2018-09-26", "2018-09-25", "2019-01-01"])
    '2018-09-25'
    """
    ranked = sorted(
        set(known), key=lambda k: (-difflib.SequenceMatcher(None, name.lower(), k.lower()).ratio(), k)
    )
    return ranked[0] if ranked else None
