"""Reads the assets a plan depends on: object table, reject list, names of the masks.

Assets are local files only.  A row that makes no sense is reported and left out; the others count.
"""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from apero_dask.core.errors import Finding, Findings
from apero_dask.core.names import ObjectNames, clean_object_name

OBJECTS_FILE = "objects.csv"
REJECT_FILE = "reject.csv"
MASK_FOLDER = "masks"
MASK_SUFFIXES = (".mas", ".csv", ".fits")

_OBJECT_COLUMNS = """
ORIGINAL_NAME RA_DEG RA_SOURCE DEC_DEG DEC_SOURCE EPOCH PMRA PMRA_SOURCE PMDE PMDE_SOURCE PLX PLX_SOURCE
RV RV_SOURCE TEFF TEFF_SOURCE SP_TYPE SP_SOURCE NOTES USED DATE_ADDED
"""
OBJECT_COLUMNS = frozenset(_OBJECT_COLUMNS.split())
"""Columns that objects.csv may have beside OBJNAME and ALIASES; they are kept as text."""

WHOLE_FILE = "the whole file is ignored"
"""What a ``W-ASSET-FILE`` finding says when nothing of the file is used."""

_IDENTIFIER = re.compile(r"[0-9]{7}[a-z]")
_TRUE = frozenset({"true", "t", "1", "yes", "y", "on"})
_FALSE = frozenset({"false", "f", "0", "no", "n", "off", ""})


@dataclass(frozen=True, slots=True)
class ObjectTable:
    """Contents of ``objects.csv``."""

    names: ObjectNames = field(default_factory=ObjectNames)
    """Main name of every name and alias."""
    rows: dict[str, dict[str, str]] = field(default_factory=dict)
    """Columns as text, by cleaned main name."""
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True, slots=True)
class Reject:
    """One rejected frame."""

    identifier: str
    """Odometer and letter."""
    pp: bool
    """The raw frame is used nowhere."""
    tel: bool
    """Not used for transmissions and templates."""
    rv: bool
    """No radial velocity."""
    comment: str = ""


@dataclass(frozen=True, slots=True)
class RejectList:
    """Contents of ``reject.csv``, by identifier."""

    entries: dict[str, Reject] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()

    def identifiers(self, column: str) -> frozenset[str]:
        """Identifiers rejected by ``pp``, ``tel`` or ``rv``; KeyError for another column.

        A frame that PP rejects is rejected for everything.
        """
        if column not in ("pp", "tel", "rv"):
            raise KeyError(column)
        return frozenset(name for name, row in self.entries.items() if row.pp or getattr(row, column))


def read_objects(path: Path) -> ObjectTable:
    """Read the object table; an absent file is an empty table.

    Columns: ``OBJNAME``, optionally ``ALIASES`` (separated by ``|``) and :data:`OBJECT_COLUMNS`.  A row with
    ``USED`` false is left out without a message.  Problems are ``W-ASSET`` and ``W-ASSET-FILE`` findings.
    """
    found = Findings()
    named: dict[str, tuple[int, dict[str, str], set[str]]] = {}
    for line, row in _rows(path, ("OBJNAME",), OBJECT_COLUMNS | {"ALIASES"}, found):
        name = clean_object_name(row["OBJNAME"])
        used = _boolean(row.get("USED", "") or "1")
        problem = ""
        if not name:
            problem = "OBJNAME is empty"
        elif used is None:
            problem = f'USED = "{row["USED"]}" is not a boolean (True or False)'
        elif name in named:
            problem = f"{name} is already in line {named[name][0]}"
        if problem:
            found.add("W-ASSET", path=path, row=line, problem=problem)
        elif used:
            listed = (*row.pop("ALIASES", "").split("|"), row.get("ORIGINAL_NAME", ""))
            named[name] = (line, row, {clean_object_name(alias) for alias in listed} - {"", name})
    owner = {name: name for name in named}
    kept: list[tuple[str, list[str]]] = []
    for name, (line, _, aliases) in named.items():
        taken = sorted(alias for alias in aliases if alias in owner)
        if taken:
            # Two stars under one name would be reduced as one star, whichever row won.
            problem = f"alias {taken[0]} of {name} already belongs to {owner[taken[0]]}"
            found.add("W-ASSET", path=path, row=line, problem=problem)
            continue
        owner.update(dict.fromkeys(aliases, name))
        kept.append((name, sorted(aliases)))
    rows = {name: named[name][1] for name, _ in kept}
    return ObjectTable(ObjectNames.from_rows(kept), rows, tuple(found))


def read_reject(path: Path) -> RejectList:
    """Read the reject list; an absent file rejects nothing.

    Columns: ``IDENTIFIER`` (complete: odometer and letter), ``PP``, ``TEL``, ``RV`` (booleans, empty =
    false), optionally ``COMMENT``, ``USED``, ``DATE_ADDED``.  Rows of one frame add up.  Problems are
    ``W-ASSET`` and ``W-ASSET-FILE`` findings.
    """
    found = Findings()
    entries: dict[str, Reject] = {}
    optional = frozenset({"COMMENT", "USED", "DATE_ADDED"})
    for line, row in _rows(path, ("IDENTIFIER", "PP", "TEL", "RV"), optional, found):
        name = row["IDENTIFIER"].lower()
        if not _IDENTIFIER.fullmatch(name):
            problem = f'IDENTIFIER = "{row["IDENTIFIER"]}" is not odometer + letter, like 2400416c'
            found.add("W-ASSET", path=path, row=line, problem=problem)
            continue
        flags = {key: _boolean(row.get(key, "")) for key in ("PP", "TEL", "RV")}
        flags["USED"] = _boolean(row.get("USED", "") or "1")
        wrong = next((key for key, value in flags.items() if value is None), None)
        if wrong is not None:
            problem = f'{wrong} = "{row[wrong]}" is not a boolean (True or False)'
            found.add("W-ASSET", path=path, row=line, problem=problem)
            continue
        if not flags["USED"]:
            continue
        before = entries.get(name, Reject(name, False, False, False))
        entries[name] = Reject(
            name,
            before.pp or bool(flags["PP"]),
            before.tel or bool(flags["TEL"]),
            before.rv or bool(flags["RV"]),
            before.comment or row.get("COMMENT", ""),
        )
    return RejectList(entries, tuple(found))


def list_masks(assets: Path) -> tuple[dict[str, Path], tuple[Finding, ...]]:
    """Radial-velocity masks in the assets, by file name; an absent folder has none."""
    folder, found, masks = assets / MASK_FOLDER, Findings(), {}
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.lower().endswith(MASK_SUFFIXES) and entry.is_file():
                    masks[entry.name] = Path(entry.path)
    except FileNotFoundError:
        return {}, ()
    except OSError as error:
        problem = f"cannot be read ({error.strerror})"
        found.add("W-ASSET-FILE", path=folder, problem=problem, action="its masks are not available")
    return dict(sorted(masks.items())), tuple(found)


def _boolean(text: str) -> bool | None:
    word = text.strip().lower()
    return True if word in _TRUE else False if word in _FALSE else None


def _rows(
    path: Path, required: tuple[str, ...], optional: frozenset[str], found: Findings
) -> Iterator[tuple[int, dict[str, str]]]:
    """(line number, stripped values by upper-case column) of every well-formed row of a CSV file."""
    ignored = WHOLE_FILE
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        return
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        problem = f"is not UTF-8 text (line {line})"
        found.add("W-ASSET-FILE", path=path, problem=problem, action=f"{ignored}; save it as UTF-8")
        return
    except OSError as error:
        problem = f"cannot be read ({error.strerror})"
        found.add("W-ASSET-FILE", path=path, problem=problem, action=f"{ignored}; check its permissions")
        return
    columns: list[str] = []
    content = False
    for number, record in enumerate(text.split("\n"), start=1):
        content = content or bool(record.strip())
        if not record.strip() or record.lstrip().startswith("#"):
            continue
        # Line by line: a quote left open must not swallow the rest of the file.
        try:
            cells = next(csv.reader([record.rstrip("\r")], strict=True))
        except csv.Error as error:
            found.add("W-ASSET", path=path, row=number, problem=f"not a CSV row ({error})")
            continue
        if not columns:
            columns = [cell.strip().upper() for cell in cells]
            missing = [name for name in required if name not in columns]
            if missing or len(set(columns)) < len(columns):
                what = f"has no column {', '.join(missing)}" if missing else "names a column twice"
                wanted = f"{ignored}; the first line must be {','.join(required)},..."
                found.add("W-ASSET-FILE", path=path, problem=what, action=wanted)
                return
            unknown = [name for name in columns if name not in required and name not in optional]
            if unknown:
                what = f"has unknown column(s) {', '.join(name or '(no name)' for name in unknown)}"
                found.add("W-ASSET-FILE", path=path, problem=what, action="they are ignored")
            continue
        if len(cells) != len(columns):
            problem = f"{len(cells)} values for {len(columns)} columns"
            found.add("W-ASSET", path=path, row=number, problem=problem)
            continue
        values = zip(columns, cells, strict=True)
        yield number, {key: cell.strip() for key, cell in values if key in required or key in optional}
    if content and not columns:
        action = f"{ignored}; the first line must be {','.join(required)},..."
        found.add("W-ASSET-FILE", path=path, problem="has only comments", action=action)
