"""Plans as JSON lines: reading them back, comparing two, drawing one."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Record = dict[str, Any]


class PlanFileError(Exception):
    """A plan file cannot be used; the text says why and what to do."""


def read_plan(path: Path) -> list[Record]:
    """Records of a plan file.

    Raises
    ------
    PlanFileError
        If the file cannot be read or a line is not a plan record.
    """
    records: list[Record] = []
    try:
        opened = gzip.open if path.suffix == ".gz" else open
        with opened(path, "rt", encoding="utf-8") as stream:
            for number, line in enumerate(stream, start=1):
                if not line.strip():
                    continue
                record = json.loads(line)
                if not _is_record(record):
                    raise PlanFileError(
                        f"{path}:{number}: not a plan record; expected a file written with --plan"
                    )
                records.append(record)
    except (OSError, EOFError) as error:
        reason = getattr(error, "strerror", None) or error
        raise PlanFileError(f"{path} cannot be read ({reason}); give a file written with --plan") from error
    except ValueError as error:
        raise PlanFileError(
            f"{path}:{len(records) + 1}: not JSON ({error}); expected a file written with --plan"
        ) from error
    return records


def _is_record(record: Any) -> bool:
    """Whether a line holds what every record has: a key, and the short name of its step or a node."""
    return (
        isinstance(record, dict)
        and isinstance(record.get("key"), str)
        and isinstance(record.get("node", record.get("short")), str)
    )


def subject(record: Record) -> tuple[str, str, str]:
    """What identifies a run across plans: step, night or object, first product."""
    outputs = record.get("outputs") or {}
    first = next(iter(outputs.values()))[0] if outputs else record["key"]
    return (
        str(record.get("short", record.get("node", ""))),
        str(record.get("object", record.get("obs_dir", ""))),
        first,
    )


@dataclass(slots=True)
class Difference:
    """How two plans differ."""

    only_first: list[Record] = field(default_factory=list)
    only_second: list[Record] = field(default_factory=list)
    changed: list[tuple[Record, Record, list[str]]] = field(default_factory=list)
    """(record of the first plan, of the second, names of the fields that differ)."""

    def __bool__(self) -> bool:
        return bool(self.only_first or self.only_second or self.changed)


COMPARED = ("inputs", "options", "outputs", "selects", "depends", "members", "stored", "state")
KEYED = frozenset({"selects", "depends", "members"})
"""Fields that hold run keys: compared by the runs they stand for, as keys move when a run is added."""


def compare(first: Iterable[Record], second: Iterable[Record]) -> Difference:
    """Difference of two plans, runs matched by what they make."""
    one, two = list(first), list(second)
    names = [{r["key"]: subject(r) for r in records} for records in (one, two)]
    table = {subject(r): r for r in two}
    result = Difference()
    seen = set()
    for record in one:
        key = subject(record)
        seen.add(key)
        other = table.get(key)
        if other is None:
            result.only_first.append(record)
            continue
        differing = [
            name
            for name in COMPARED
            if _named(record.get(name), name, names[0]) != _named(other.get(name), name, names[1])
        ]
        if differing:
            result.changed.append((record, other, differing))
    result.only_second = [r for r in two if subject(r) not in seen]
    return result


def _named(value: Any, field_name: str, names: dict[str, tuple[str, str, str]]) -> Any:
    if field_name not in KEYED or value is None:
        return value
    if isinstance(value, list):
        return [_named(item, field_name, names) for item in value]
    if isinstance(value, dict):
        return {k: _named(v, field_name, names) for k, v in value.items()}
    return names.get(value, value)


def difference_lines(difference: Difference, most: int = 20) -> list[str]:
    """Difference for people: a line per step and sign, then the first runs of each."""
    lines: list[str] = []
    for sign, records in (("-", difference.only_first), ("+", difference.only_second)):
        for short, found in _by_short(records).items():
            lines.append(
                f"{sign} {short}: {len(found)} run(s) only in the {'first' if sign == '-' else 'second'} plan"
            )
            lines += [f"    {subject(r)[1]} {subject(r)[2]}" for r in found[:most]]
            if len(found) > most:
                lines.append(f"    ... and {len(found) - most} more")
    for short, found in _by_short(first for first, _, _ in difference.changed).items():
        fields = {id(a): names for a, _, names in difference.changed}
        lines.append(f"~ {short}: {len(found)} run(s) differ")
        lines += [f"    {subject(r)[1]} {subject(r)[2]}: {', '.join(fields[id(r)])}" for r in found[:most]]
        if len(found) > most:
            lines.append(f"    ... and {len(found) - most} more")
    return lines


def _by_short(records: Iterable[Record]) -> dict[str, list[Record]]:
    table: dict[str, list[Record]] = {}
    for record in records:
        table.setdefault(subject(record)[0], []).append(record)
    return table
