"""Values of run-file keys and of the options that override them: from text to Python.

Words, not Python literals: ``RUN_PP = 0`` means off, and a list is never split at blanks because names of
objects contain them.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from dataclasses import dataclass

from apero_dask.runfile.grammar import outside_quotes, unquoted
from apero_dask.runfile.keys import Key

Value = bool | int | float | str | tuple[str, ...] | None

TRUE = frozenset({"true", "1", "yes", "on", "t"})
FALSE = frozenset({"false", "0", "no", "off", "f"})
NULL = frozenset({"", "none", "null"})
ALL = "all"

_INT = re.compile(r"[+-]?[0-9]{1,18}", re.ASCII)
_FLOAT = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,4})?", re.ASCII)
_MEMORY = re.compile(r"[0-9]+(\.[0-9]+)?\s*[kKMGT]i?B?", re.ASCII)
_WALLTIME = re.compile(r"([0-9]+-)?[0-9]{1,4}:[0-5][0-9](:[0-5][0-9])?|[0-9]{1,6}", re.ASCII)


class WrongType(ValueError):
    """The text is no value of the wanted type; the argument says what was expected."""


@dataclass(frozen=True, slots=True)
class Parsed:
    """A value and the list items that were repeated in its text."""

    value: Value
    repeated: tuple[str, ...] = ()


def is_null(text: str) -> bool:
    """Whether the text is empty, ``None`` or ``Null``."""
    return text.lower() in NULL


def parse_bool(text: str) -> bool:
    """Truth of a boolean word.

    >>> parse_bool("off"), parse_bool("1")
    (False, True)
    """
    word = text.lower()
    if word in TRUE:
        return True
    if word in FALSE:
        return False
    raise WrongType("True or False")


def parse_int(text: str) -> int:
    """Decimal integer."""
    if not _INT.fullmatch(text):
        raise WrongType("an integer")
    return int(text)


def parse_float(text: str) -> float:
    """Decimal number; infinities and NaN are none."""
    if not _FLOAT.fullmatch(text) or not math.isfinite(number := float(text)):
        raise WrongType("a number")
    return number


def split_list(text: str) -> list[str]:
    """Items between ``;`` if there is one, else between ``,``; quotes removed, empty items dropped.

    >>> split_list("Gl 699, TOI-442,"), split_list("a, b; c"), split_list("'a, b', 'c'")
    (['Gl 699', 'TOI-442'], ['a, b', 'c'], ['a, b', 'c'])
    """
    cuts = list(outside_quotes(text, ";")) or list(outside_quotes(text, ","))
    starts = [0, *(cut + 1 for cut in cuts)]
    items = (unquoted(text[a:b].strip()) for a, b in zip(starts, [*cuts, len(text)], strict=True))
    return [item for item in items if item]


def _one_of(words: tuple[str, ...]) -> str:
    return ", ".join(words[:-1]) + f" or {words[-1]}"


def _parse_list(key: Key, text: str) -> Parsed:
    items = split_list(text)
    if len(items) == 1 and (items[0].lower() == ALL or is_null(items[0])):
        items = []
    if any(item.lower() == ALL or is_null(item) for item in items):
        raise WrongType("a list of names, or All or None alone")
    if key.choices:
        items = [item.lower() for item in items]
        if not set(items) <= set(key.choices):
            raise WrongType(f"a list of {_one_of(key.choices)}")
    counts = Counter(items)
    return Parsed(tuple(counts) or None, tuple(item for item, n in counts.items() if n > 1))


def _limits(key: Key, number: float, what: str) -> None:
    if key.at_least is not None and key.at_most is not None:
        if not key.at_least <= number <= key.at_most:
            raise WrongType(f"{what} from {key.at_least:g} to {key.at_most:g}")
    elif key.at_least is not None and number < key.at_least:
        raise WrongType(f"{what} of at least {key.at_least:g}")
    elif key.above is not None and number <= key.above:
        raise WrongType(f"{what} above {key.above:g}")


def parse(key: Key, text: str) -> Parsed:
    """Value of ``key`` given as ``text`` (outer quotes already removed).

    Raises
    ------
    WrongType
        If the text does not belong to the type of the key; the message completes "expected ...".

    >>> from apero_dask.runfile.keys import BY_NAME
    >>> parse(BY_NAME["SCIENCE_TARGETS"], "Gl 699, TOI-442, Gl 699")
    Parsed(value=('Gl 699', 'TOI-442'), repeated=('Gl 699',))
    >>> parse(BY_NAME["EXCLUDE_OBS_DIRS"], "All").value is None
    True
    """
    word = text.lower()
    match key.kind:
        case "bool":
            return Parsed(parse_bool(text))
        case "int":
            number = parse_int(text)
            _limits(key, number, "an integer")
            return Parsed(number)
        case "float":
            value = parse_float(text)
            _limits(key, value, "a number")
            return Parsed(value)
        case "list":
            return _parse_list(key, text)
        case "choice":
            if word not in key.choices:
                raise WrongType(_one_of(key.choices))
            return Parsed(word)
        case "night":
            if word == ALL and not key.is_filter:
                raise WrongType("the name of one night")
            return Parsed(None if is_null(text) or word == ALL else text)
        case "memory":
            if not _MEMORY.fullmatch(text):
                raise WrongType("an amount of memory such as 8GB")
            return Parsed(text)
        case "walltime":
            if not _WALLTIME.fullmatch(text):
                raise WrongType("a time such as 12:00:00 or 2-00:00:00")
            return Parsed(text)
        case "str":
            return Parsed(None if is_null(text) else text)
    raise AssertionError(f"{key.name}: unknown kind {key.kind}")
