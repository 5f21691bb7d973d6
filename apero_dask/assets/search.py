"""Looks for files of other installations that can serve as assets.

A file is a candidate by its name; whether it is taken is decided by its content.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

DEEPEST = 12
"""Folders below the one that was named: an installation has six."""
SKIPPED_FOLDERS = frozenset({".git", "__pycache__", "raw", "tmp", "reduced", "red", "node_modules"})
"""Hold no asset, or data without end."""
OTHER_INSTRUMENTS = ("nirps", "ilocater", "igrins", "carmenes", "harps", "espresso")
"""Beginnings of folders of other spectrographs in the same installation."""


class NotNeeded(Exception):
    """The file is known and has no place here; the text says why."""


@dataclass(frozen=True, slots=True)
class Checked:
    """A file whose content was found good."""

    content: str
    """What it holds and covers."""
    data: bytes | None = None
    """What is written; None = the file as it is."""
    target: str = ""
    """Another place than that of the rule."""


@dataclass(frozen=True, slots=True)
class Rule:
    """How a kind of asset is recognised in another installation."""

    key: str
    """Kind of asset."""
    patterns: tuple[str, ...]
    """Of file names, the best first."""
    target: str
    """Place below the assets; ``{name}`` stands for the name of the file."""
    check: Callable[[Path], Checked]
    """Raises DataError, OSError or UnicodeDecodeError for a file that cannot serve."""
    folders: tuple[str, ...] = ()
    """If given, one of these words must be part of a folder name above the file."""

    def rank(self, path: Path) -> int | None:
        """Place of the first pattern that fits the name; None if none does."""
        if self.folders and not any(
            word in part.lower() for part in path.parts[:-1] for word in self.folders
        ):
            return None
        name = path.name.lower()
        for rank, pattern in enumerate(self.patterns):
            if fnmatch(name, pattern.lower()):
                return rank
        return None


@dataclass(frozen=True, slots=True)
class Candidate:
    """A file that a rule recognised by its name."""

    path: Path
    rule: Rule
    target: str
    rank: int


def walk(folder: Path, failed: Callable[[OSError], None]) -> Iterator[Path]:
    """Files below a folder in the order of their names; links to folders are not followed.

    ``failed`` is told about folders that cannot be read.
    """
    depth = len(folder.parts)
    for place, folders, names in os.walk(folder, onerror=failed):
        here = Path(place)
        folders[:] = sorted(
            name for name in folders if name not in SKIPPED_FOLDERS and len(here.parts) - depth < DEEPEST
        )
        for name in sorted(names):
            yield here / name


def of_another_instrument(path: Path, root: Path) -> str:
    """Name of the folder that belongs to another spectrograph, or empty."""
    for part in path.relative_to(root).parts[:-1]:
        if part.lower().startswith(OTHER_INSTRUMENTS):
            return part
    return ""


def candidates(folder: Path, rules: Sequence[Rule], failed: Callable[[OSError], None]) -> list[Candidate]:
    """Files that could serve, by target and then the best first."""
    found = []
    for path in walk(folder, failed):
        for rule in rules:
            rank = rule.rank(path.relative_to(folder))
            if rank is not None:
                found.append(Candidate(path, rule, rule.target.format(name=path.name), rank))
                break
    return sorted(found, key=lambda c: (c.target, c.rank, len(c.path.parts), str(c.path)))
