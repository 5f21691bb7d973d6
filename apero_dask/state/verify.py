"""Disk against markers: what is missing, damaged, claimed by nobody or left half-written."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from apero_dask.core.outcome import Marker, State
from apero_dask.core.products import MASTER, VELOCITY_FOLDER
from apero_dask.io.atomic import is_temporary
from apero_dask.io.markers import FOLDER, absolute, read_marker
from apero_dask.io.trees import Trees
from apero_dask.state.disk import current_markers, damaged_outputs
from apero_dask.state.registry import FILES, TREE, databases_of, read_rows, rows_of, same_file

PRODUCT_TREES = ("tmp", "reduced", "out")


@dataclass(slots=True)
class Verification:
    """What does not agree; every list holds one text per file, sorted."""

    markers: int = 0
    files: int = 0
    products: list[str] = field(default_factory=list)
    """Missing or damaged products."""
    unsound: list[str] = field(default_factory=list)
    """Markers that cannot be read."""
    overwritten: list[str] = field(default_factory=list)
    """Markers about files that another run has written since; harmless."""
    unclaimed: list[str] = field(default_factory=list)
    """Files of the product trees that no marker names."""
    leftovers: list[str] = field(default_factory=list)
    """Temporary files of runs that did not end."""
    registered: list[str] = field(default_factory=list)
    """Faults of the calibration and telluric databases."""

    def sections(self) -> Iterator[tuple[str, list[str]]]:
        """(title, texts) of everything that is a fault."""
        yield "missing or damaged products", self.products
        yield "unreadable markers", self.unsound
        yield "files that no marker names", self.unclaimed
        yield "temporary files left behind", self.leftovers
        yield "calibration and telluric databases", self.registered

    @property
    def agrees(self) -> bool:
        """Nothing is wrong."""
        return not any(texts for _, texts in self.sections())


def verify(trees: Trees, night: str = "", check: str = "content") -> Verification:
    """Compare the data trees with the markers; reads every product unless ``check`` is ``size``.

    Parameters
    ----------
    night : str
        Only products of this night; files of objects, markers and databases are then left out.
    """
    found = Verification()
    claimed: set[str] = set()
    chosen: list[Marker] = []
    every = list(_sound_markers(trees, found))
    current = current_markers(every, trees)
    kept = {marker.identity for marker in current}
    for marker in every:
        claimed.update(output.path for output in marker.outputs)
        if night and marker.obs_dir != night:
            continue
        found.markers += 1
        if marker.identity in kept:
            chosen.append(marker)
        else:
            found.overwritten.append(f"{marker.short} {marker.obs_dir or marker.object} {marker.stem}")
    found.files = sum(len(marker.outputs) for marker in chosen)
    damaged, _ = damaged_outputs(chosen, trees, {}, check)
    found.products = [f"{path}: {problem}" for path, problem in sorted(damaged.items())]
    for path in _files(trees, night):
        if is_temporary(path.rpartition("/")[2]):
            found.leftovers.append(path)
        elif path not in claimed and not path.startswith(f"reduced/{VELOCITY_FOLDER}/"):
            found.unclaimed.append(path)
    if not night:
        found.registered = list(_registered(current, trees, set(damaged)))
        found.leftovers += sorted(
            f"{tree}/{entry.name}"
            for tree in TREE.values()
            for entry in _entries(trees.path(tree))
            if is_temporary(entry.name)
        )
    else:
        found.unsound = []
    return found


def _sound_markers(trees: Trees, found: Verification) -> Iterator[Marker]:
    base = trees.log / FOLDER
    for folder in _entries(base):
        if not folder.is_dir():
            continue
        for path in _entries(folder):
            if not path.name.endswith(".json") or path.name.startswith("."):
                continue
            marker = read_marker(path)
            if marker is None:
                found.unsound.append(
                    f"log/{FOLDER}/{folder.name}/{path.name}: its run counts as not finished"
                )
            else:
                yield marker


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []


def _files(trees: Trees, night: str) -> Iterator[str]:
    """Files of the product trees below the data root, sorted; of one night in both tiers."""
    for tree in PRODUCT_TREES:
        base = trees.path(tree)
        tops = [base] if not night else [base / night, base / MASTER / night]
        for top in tops:
            names = [
                f"{tree}/{(Path(folder) / name).relative_to(base).as_posix()}"
                for folder, _, files in os.walk(top)
                for name in files
            ]
            yield from sorted(names)


def _registered(markers: Sequence[Marker], trees: Trees, damaged: set[str]) -> Iterator[str]:
    """Faults of the databases: entries and files that are missing, or that no marker gives."""
    remedy = "apero-dask reset --from-markers"
    wanted = [m for m in markers if m.state is State.DONE and databases_of(m.outputs)]
    for database, tree in TREE.items():
        folder = trees.path(tree)
        try:
            rows = {str(row["FILENAME"]): row for row in read_rows(database, trees)}
        except sqlite3.DatabaseError as error:
            yield f"{tree}/{FILES[database]}: cannot be read ({error}); {remedy} makes it anew"
            continue
        expected: set[str] = set()
        for row, output in _rows(wanted, trees, database):
            name = str(row["FILENAME"])
            expected.add(name)
            if output in damaged:
                continue
            if name not in rows:
                yield f"{tree}/{name}: not registered; {remedy} takes it up"
            elif not same_file(absolute(trees, output), folder / name):
                yield f"{tree}/{name}: is not the product {output}; {remedy} links it again"
        for name in sorted(rows.keys() - expected):
            yield f"{tree}/{name}: registered, but no passed run made it; {remedy} takes it out"
        for entry in _entries(folder):
            if entry.name not in expected and entry.name not in rows and entry.name != FILES[database]:
                if is_temporary(entry.name):
                    continue
                yield f"{tree}/{entry.name}: a file that is not registered"


def _rows(markers: Iterable[Marker], trees: Trees, database: str) -> Iterator[tuple[dict[str, object], str]]:
    for marker in markers:
        for row, output in rows_of(marker, trees, database):
            yield row, output.path


__all__ = ["Verification", "verify"]
