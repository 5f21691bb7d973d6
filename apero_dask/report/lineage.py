"""Where a product comes from: its run, inputs, calibrations and quality, back to the raw frames.

Everything is read from markers and product headers.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from apero_dask.core.outcome import ChoiceRecord, Marker, OutputRecord, State
from apero_dask.io.markers import absolute, read_markers
from apero_dask.io.primary import HeaderError, read_primary
from apero_dask.io.trees import TREES, Trees
from apero_dask.state.disk import sha256
from apero_dask.state.registry import file_name
from apero_dask.state.store import StateError, Store

MOST_FILES = 12
"""Files listed of one argument."""
INDENT = "  "


@dataclass(slots=True)
class Shelf:
    """All markers, by run identity and by product."""

    trees: Trees
    by_identity: dict[str, Marker] = field(default_factory=dict)
    by_path: dict[str, list[Marker]] = field(default_factory=dict)

    @classmethod
    def of(cls, markers: Iterable[Marker], trees: Trees) -> Shelf:
        """Shelf of the given markers."""
        shelf = cls(trees)
        for marker in markers:
            shelf.by_identity[marker.identity] = marker
            for output in marker.outputs:
                shelf.by_path.setdefault(output.path, []).append(marker)
        return shelf

    def maker(self, path: str) -> Marker | None:
        """Marker of the run that wrote a file: of several claims the one with its digest, else the last."""
        claims = self.by_path.get(path, [])
        if len(claims) > 1:
            try:
                digest = sha256(absolute(self.trees, path))
            except OSError:
                digest = ""
            for marker in claims:
                if output_of(marker, path).digest == digest:
                    return marker
        return max(claims, key=lambda m: (m.invocation, m.identity), default=None)

    def named(self, name: str) -> list[str]:
        """Products with this path below the data root, base name or registered name, sorted."""
        if name in self.by_path:
            return [name]
        folder, _, base = name.rpartition("/")
        if folder and folder not in ("calibDB", "telluDB"):
            return sorted(path for path in self.by_path if path.endswith(f"/{name}"))
        found = [] if folder else [path for path in self.by_path if path.rpartition("/")[2] == base]
        found = found or [
            path
            for path, markers in self.by_path.items()
            if base.endswith(path.rpartition("/")[2])
            and any(file_name(m.tier, m.obs_dir, output_of(m, path)) == base for m in markers)
        ]
        return sorted(found)


def open_shelf(trees: Trees) -> Shelf:
    """Markers from the state database, or from their files where it is missing or damaged."""
    try:
        store = Store(trees.log, write=False)
    except StateError:
        return Shelf.of(read_markers(trees.log), trees)
    try:
        return Shelf.of(store.markers(), trees)
    except sqlite3.DatabaseError:
        # The files are what counts; the database is only the quicker way to them.
        return Shelf.of(read_markers(trees.log), trees)
    finally:
        store.close()


def output_of(marker: Marker, path: str) -> OutputRecord:
    """Record of one file of a run; KeyError if it has none of that path."""
    for output in marker.outputs:
        if output.path == path:
            return output
    raise KeyError(path)


def below_root(name: str, trees: Trees) -> str:
    """Name as given, or for a path inside a data tree the path below the data root.

    A relative path counts from the working folder if there is such a file.

    >>> from apero_dask.io.trees import find_trees
    >>> below_root("/d/reduced/2018-09-25/a.fits", find_trees("/d")), below_root("a.fits", find_trees("/d"))
    ('reduced/2018-09-25/a.fits', 'a.fits')
    """
    path = PurePosixPath(Path(name).absolute() if Path(name).is_file() else name)
    if path.is_absolute():
        for tree in TREES:
            folder = PurePosixPath(trees.path(tree))
            if path.is_relative_to(folder):
                return f"{tree}/{path.relative_to(folder)}"
    return name.removeprefix("./")


def run_name(marker: Marker) -> str:
    """Run of a marker in words."""
    place = marker.obs_dir or marker.object
    return " ".join(text for text in dict.fromkeys((marker.short, place, marker.stem)) if text)


def file_state(shelf: Shelf, path: str, marker: Marker) -> str:
    """What became of a product since it was written, in words."""
    output = output_of(marker, path)
    try:
        size = absolute(shelf.trees, path).stat().st_size
    except OSError:
        return "not there any more; it is made again by the next reduction that needs it"
    if size != output.size:
        return f"{size} bytes instead of the {output.size} that were written: damaged or overwritten"
    if sha256(absolute(shelf.trees, path)) != output.digest:
        return "content differs from what was written: damaged or overwritten"
    return f"{size} bytes, as written"


def lineage(shelf: Shelf, path: str, depth: int = 1) -> Iterator[str]:
    """Lines about a product.

    Parameters
    ----------
    path : str
        Below the data root; a marker must know it.
    depth : int
        Generations of producers described; 0 = back to the raw frames.
    """
    yield path
    marker = shelf.maker(path)
    if marker is None:
        raise KeyError(path)
    yield f"{INDENT}file           {file_state(shelf, path, marker)}"
    yield from _header_lines(shelf, path)
    yield from _run_lines(shelf, marker, depth or -1, 1, set())


def _header_lines(shelf: Shelf, path: str) -> Iterator[str]:
    """Version and quality control, which only the header has."""
    try:
        values = read_primary(absolute(shelf.trees, path)).values
    except HeaderError as error:
        yield f"{INDENT}header         not readable: {error}"
        return
    yield f"{INDENT}version        {values.get('VERSION', '?')}, {values.get('DRSPDATE', '?')}"
    number = 1
    while f"QCC{number:03d}N" in values:
        name, value, logic, passed = (values.get(f"QCC{number:03d}{part}", "") for part in "NVLP")
        if name != "None":
            word = (
                "passed" if passed in (1, True) else "FAILED" if "(info)" not in str(logic) else "informative"
            )
            yield f"{INDENT}quality        {name} = {value}, fails if {logic}: {word}"
        number += 1


def _run_lines(shelf: Shelf, marker: Marker, generations: int, level: int, seen: set[str]) -> Iterator[str]:
    space = INDENT * level
    seen.add(marker.identity)
    run = f"{run_name(marker)} ({marker.recipe}, {marker.tier} tier)"
    flagged = "" if marker.state is State.DONE else ": flagged, no other run uses it"
    yield f"{space}made by        {run}, ended {marker.state}{flagged}"
    code = marker.code[:12] or "unknown"
    yield f"{space}invocation     {marker.invocation}; code {code}; run {marker.identity}"
    before: dict[str, Marker | None] = {}
    for position, (path, _) in enumerate(marker.inputs):
        if position < MOST_FILES:
            yield f"{space}input          {path}{_note(shelf, path)}"
        elif position == MOST_FILES:
            yield f"{space}input          ... and {len(marker.inputs) - MOST_FILES} more"
        if not path.startswith("raw/"):
            before.setdefault(path, shelf.maker(path))
    for choice in marker.choices:
        yield f"{space}calibration    {_choice_text(shelf, marker, choice)}"
        source = shelf.by_identity.get(choice.source)
        if source is not None:
            before.setdefault(choice.source, source)
    if generations == 1:
        return
    for made in before.values():
        if made is None:
            continue
        if made.identity in seen:
            continue
        yield f"{space}{INDENT}{run_name(made)}"
        yield from _run_lines(shelf, made, generations - 1, level + 2, seen)


def _note(shelf: Shelf, path: str) -> str:
    if path.startswith("raw/"):
        return "" if absolute(shelf.trees, path).exists() else " (not there any more)"
    marker = shelf.maker(path)
    return "" if marker is not None else " (not made by this program)"


def _choice_text(shelf: Shelf, marker: Marker, choice: ChoiceRecord) -> str:
    kinds = "/".join(choice.kinds) + (f" {choice.fibre}" if choice.fibre else "")
    if not choice.source:
        return f"{kinds}: none was found; not required"
    rank = "reference or given" if choice.rank == 0 else f"rank {choice.rank}"
    mark = ", FALLBACK" if choice.fallback else ""
    source = shelf.by_identity.get(choice.source)
    if source is None:
        return f"{kinds}: {choice.source} ({rank}{mark})"
    files = [file_name(source.tier, source.obs_dir, o) for o in source.outputs if o.kind in choice.kinds]
    if not files:
        files = [run_name(source)]
    where = "master tier" if source.tier == "master" else source.obs_dir
    more = f" and {len(files) - 2} more" if len(files) > 2 else ""
    return f"{kinds}: {', '.join(files[:2])}{more} of {where} ({rank}{mark})"


def lineage_record(shelf: Shelf, path: str) -> dict[str, Any]:
    """Lineage of one product as a plain mapping for JSON; one generation."""
    marker = shelf.maker(path)
    if marker is None:
        raise KeyError(path)
    return {
        "path": path,
        "exists": absolute(shelf.trees, path).exists(),
        "file": file_state(shelf, path, marker),
        "marker": marker.to_json(),
    }
