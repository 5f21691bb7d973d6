"""Markers of finished runs: one small JSON file each, written last, below ``log/markers``."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

from apero_dask.core.ids import canonical_json, digest
from apero_dask.core.outcome import Marker
from apero_dask.io.trees import Trees

FOLDER = "markers"
FORMAT = 1


def marker_path(log: Path, identity: str) -> Path:
    """Place of the marker of a run identity; two digits fold a large archive into 256 folders."""
    return log / FOLDER / identity[:2] / f"{identity}.json"


def write_marker(log: Path, marker: Marker) -> Path:
    """Write a marker completely or not at all; an older one of the same run is replaced.

    Raises
    ------
    OSError
        If it cannot be written: the run did not happen.
    """
    path = marker_path(log, marker.identity)
    path.parent.mkdir(parents=True, exist_ok=True)
    record = marker.to_json()
    text = canonical_json({"format": FORMAT, "check": digest(record), "marker": record})
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("w", encoding="utf-8") as stream:
            stream.write(text + "\n")
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    return path


def read_marker(path: Path) -> Marker | None:
    """Marker in a file, or None if it is not there or damaged: an incomplete marker is no marker."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        if record["format"] != FORMAT or record["check"] != digest(record["marker"]):
            return None
        return Marker.from_json(record["marker"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def read_markers(log: Path) -> Iterator[Marker]:
    """All sound markers, in the order of their identities."""
    base = log / FOLDER
    if not base.is_dir():
        return
    for folder in sorted(base.iterdir()):
        if folder.is_dir():
            for path in sorted(folder.glob("*.json")):
                marker = read_marker(path)
                if marker is not None:
                    yield marker


def absolute(trees: Trees, path: str) -> Path:
    """Absolute path of a file named below the data root: the first part is the tree.

    >>> from apero_dask.io.trees import find_trees
    >>> str(absolute(find_trees("/d"), "reduced/2018-09-25/a.fits"))
    '/d/reduced/2018-09-25/a.fits'
    """
    tree, _, rest = path.partition("/")
    return trees.path(tree) / rest
