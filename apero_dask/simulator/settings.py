"""Settings of the simulator: how a parameter is declared, read, checked and documented.

A section of the configuration is a frozen dataclass living in the module it configures; each of
its fields is made by :func:`setting`, which carries default, unit, origin and limits.  ``config``
assembles the sections; nothing here knows any of them.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import types
import typing
from collections.abc import Mapping
from typing import Any


class ConfigError(ValueError):
    """A value of the configuration cannot be used: names the key, the value, the expectation, the remedy."""


def setting(
    default: Any,
    doc: str,
    *,
    unit: str = "",
    origin: str = "assumption",
    minimum: float | None = None,
    maximum: float | None = None,
    above: float | None = None,
    choices: tuple[str, ...] | None = None,
) -> Any:
    """Declare one parameter of a section dataclass.

    Parameters
    ----------
    default
        Value used when the configuration does not name the parameter.
    doc
        One sentence.
    unit
        Unit of the value, empty when it has none.
    origin
        ``measured`` (on SPIRou data), ``published``, ``instrument``, ``reference pipeline``, ``switch``
        or ``assumption``.
    minimum, maximum
        Inclusive limits of a number, or of every number of a tuple.
    above
        Exclusive lower limit.
    choices
        Allowed strings.
    """
    metadata = {
        "doc": doc,
        "unit": unit,
        "origin": origin,
        "minimum": minimum,
        "maximum": maximum,
        "above": above,
        "choices": choices,
    }
    return dataclasses.field(default=default, metadata=metadata)


def switch(default: bool, doc: str) -> Any:
    """Declare the on/off switch of one effect."""
    return setting(default, doc, origin="switch")


def read_section(cls: type, values: Mapping[str, Any], path: str) -> Any:
    """Build section `cls` from a TOML table found at dotted `path`.

    Raises
    ------
    ConfigError
        Unknown key, wrong type or impossible value; the message names the key in full.
    """
    if not isinstance(values, Mapping):
        raise ConfigError(
            f"[{path}] is {values!r}, a table was expected; write it as a section of the TOML file."
        )
    fields = {f.name: f for f in dataclasses.fields(cls)}
    hints = typing.get_type_hints(cls)
    arguments: dict[str, Any] = {}
    for key, value in values.items():
        if key not in fields:
            raise ConfigError(unknown_key_message(key, fields, path))
        arguments[key] = convert(value, hints[key], f"{path}.{key}")
    section = cls(**arguments)
    check_section(section, path)
    return section


def unknown_key_message(key: str, known: typing.Iterable[str], path: str) -> str:
    """Message for a key that does not exist, with the nearest one that does."""
    names = list(known)
    near = difflib.get_close_matches(key, names, n=1)
    remedy = f"did you mean {near[0]!r}?" if near else f"known keys: {', '.join(names)}."
    where = f"[{path}]" if path else "the top level"
    return f"Unknown key {key!r} in {where} of the simulator configuration; {remedy}"


def check_section(section: Any, path: str) -> None:
    """Check the limits of every field of a section, however it was built.

    A section may add checks between its fields in a method ``problems()`` that returns
    ``(key, value, expectation)`` for each one found.

    Raises
    ------
    ConfigError
        On the first impossible value.
    """
    hints = typing.get_type_hints(type(section))
    for f in dataclasses.fields(section):
        if not f.metadata:
            continue
        value = getattr(section, f.name)
        convert(value, hints[f.name], f"{path}.{f.name}")
        _check_limits(value, f.metadata, f"{path}.{f.name}")
    for key, value, expectation in getattr(section, "problems", tuple)():
        raise ConfigError(
            f"{path}.{key} = {value!r}: expected {expectation}; correct it in [{path}] of the configuration."
        )


def _check_limits(value: Any, limits: Mapping[str, Any], key: str) -> None:
    if value is None:
        return
    if isinstance(value, tuple):
        for item in value:
            _check_limits(item, limits, key)
        return
    if isinstance(value, str):
        if limits["choices"] and value not in limits["choices"]:
            _refuse(key, value, "one of " + ", ".join(map(repr, limits["choices"])))
        return
    if isinstance(value, bool):
        return
    unit = f" {limits['unit']}" if limits["unit"] else ""
    if isinstance(value, float) and not math.isfinite(value):
        _refuse(key, value, "a finite number")
    if limits["above"] is not None and not value > limits["above"]:
        _refuse(key, value, f"a number above {limits['above']:g}{unit}")
    if limits["minimum"] is not None and value < limits["minimum"]:
        _refuse(key, value, f"at least {limits['minimum']:g}{unit}")
    if limits["maximum"] is not None and value > limits["maximum"]:
        _refuse(key, value, f"at most {limits['maximum']:g}{unit}")


def _refuse(key: str, value: Any, expectation: str) -> typing.NoReturn:
    section, _, name = key.rpartition(".")
    where = f"[{section}]" if section else "the top level"
    raise ConfigError(
        f"{key} = {value!r}: expected {expectation}; correct {name!r} in {where} of the configuration."
    )


def convert(value: Any, hint: Any, key: str) -> Any:
    """Value of a TOML key as the annotated type: bool, int, float, str, tuples of these, or None.

    Raises
    ------
    ConfigError
        The value has another type; an integer is accepted where a float is expected.
    """
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        if value is None and type(None) in arguments:
            return None
        return convert(value, next(a for a in arguments if a is not type(None)), key)
    if origin is tuple:
        if not isinstance(value, (list, tuple)):
            _refuse(key, value, "a list")
        if len(arguments) == 2 and arguments[1] is Ellipsis:
            return tuple(convert(item, arguments[0], key) for item in value)
        if len(value) != len(arguments):
            _refuse(key, value, f"a list of {len(arguments)} values")
        return tuple(convert(item, a, key) for item, a in zip(value, arguments, strict=True))
    if hint is float and isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    names = {bool: "true or false", int: "a whole number", float: "a number", str: "a text in quotes"}
    if not isinstance(value, hint) or (hint is int and isinstance(value, bool)):
        _refuse(key, value, names.get(hint, hint.__name__))
    return value


def document_section(section: Any, path: str) -> str:
    """TOML text of a section with one comment per parameter: meaning, unit, limits, origin."""
    doc = (type(section).__doc__ or "").strip().splitlines()
    lines = [f"[{path}]"] + ([f"# {doc[0]}"] if doc else [])
    for f in dataclasses.fields(section):
        value = getattr(section, f.name)
        note = f.metadata.get("doc", "")
        unit = f.metadata.get("unit")
        origin = f.metadata.get("origin")
        remark = "; ".join(part for part in (f"unit {unit}" if unit else "", origin) if part)
        lines.append(f"# {note}" + (f" [{remark}]" if remark else ""))
        lines.append(f"# {f.name} = (not set)" if value is None else f"{f.name} = {toml_value(value)}")
    return "\n".join(lines) + "\n"


def toml_value(value: Any) -> str:
    """TOML spelling of a bool, number, text or tuple of these."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple):
        return "[" + ", ".join(toml_value(item) for item in value) + "]"
    if isinstance(value, str):
        escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
        return f'"{escaped}"'
    if isinstance(value, float):
        # repr() keeps every bit; TOML wants a point or an exponent in a float.
        text = repr(value)
        return text if any(c in text for c in ".en") else text + ".0"
    return repr(value)
