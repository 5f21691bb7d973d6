"""Keeps the header values of the last scan, so that an unchanged archive is not read again.

One JSON line per night between a first line (format) and a last one (count and SHA-256 of what is before).
Header values are kept, not frames: the rules of identification may change without a new scan.  A plain file
and not a database: log folders live on network file systems where database locks do not work, and every
damage is noticed.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

from apero_dask.io.identify import OWN, SHARED, Values

FORMAT = 1

CACHE_FILE = "raw_index.jsonl"
"""Name below the log folder."""


@dataclass(frozen=True, slots=True)
class Record:
    """What reading one file gave: values, or the reason why it cannot be used."""

    size: int
    mtime_ns: int
    digest: str
    """Digest of the header unit, empty for a file that cannot be used."""
    shared: Values
    """Values of the ``SHARED`` keywords; (reason, note) for a file that cannot be used."""
    own: Values = ()
    """Values of the ``OWN`` keywords."""


Records = dict[str, dict[str, Record]]
"""Records by night and base name."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """Contents of a cache file."""

    records: Records = field(default_factory=dict)
    problem: str = ""
    """Why there is nothing, empty if it was read or is not there yet."""
    exists: bool = False


def load(path: Path, raw: Path) -> Loaded:
    """Read the cache; anything that is not exactly what was written counts as nothing.

    Parameters
    ----------
    path
        Cache file.
    raw
        Raw tree the records must belong to.
    """
    total = hashlib.sha256()
    records: Records = {}
    count = 0
    try:
        with path.open("rb") as lines:
            first = lines.readline()
            if json.loads(first) != _head(raw):
                return Loaded(problem="belongs to another raw tree or version")
            total.update(first)
            for line in lines:
                content = json.loads(line)
                if isinstance(content, dict):
                    if content != {"records": count, "sha256": total.hexdigest()} or lines.read(1):
                        return Loaded(problem="is damaged")
                    return Loaded(records, exists=True)
                total.update(line)
                night, listed, files = content
                sets = [tuple(values) for values in listed]
                records[night] = {
                    name: Record(size, mtime_ns, digest, sets[place], tuple(own))
                    for name, size, mtime_ns, digest, place, *own in files
                }
                count += len(files)
    except FileNotFoundError:
        return Loaded()
    except OSError as error:
        return Loaded(problem=f"cannot be read ({error.strerror})")
    except (ValueError, TypeError, LookupError, RecursionError):
        return Loaded(problem="is damaged")
    return Loaded(problem="is damaged")


def save(path: Path, raw: Path, records: Records) -> str:
    """Write the cache in one step; return what went wrong, or an empty text."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{time.time_ns()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("xb") as lines:
            total = hashlib.sha256()
            for content in chain([_head(raw)], map(_night, sorted(records.items()))):
                line = json.dumps(content, separators=(",", ":")).encode() + b"\n"
                total.update(line)
                lines.write(line)
            count = sum(map(len, records.values()))
            lines.write(json.dumps({"records": count, "sha256": total.hexdigest()}).encode() + b"\n")
        temporary.replace(path)
    except OSError as error:
        with suppress(OSError):  # the folder may be gone, and the first error is the one to tell
            temporary.unlink(missing_ok=True)
        return f"cannot be written ({error.strerror})"
    return ""


def _head(raw: Path) -> dict[str, object]:
    return {"format": FORMAT, "keywords": [list(SHARED), list(OWN)], "raw": str(raw)}


def _night(item: tuple[str, dict[str, Record]]) -> list[object]:
    """[night, distinct shared values, files]: a night repeats few sets, which are read back once."""
    night, files = item
    sets: dict[Values, int] = {}
    rows = [
        [name, r.size, r.mtime_ns, r.digest, sets.setdefault(r.shared, len(sets)), *r.own]
        for name, r in sorted(files.items())
    ]
    return [night, list(sets), rows]
