"""Takes assets from another installation: every file is checked by its content, then copied whole or not."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from apero_dask.assets.search import (
    Candidate,
    Checked,
    NotNeeded,
    Rule,
    candidates,
    of_another_instrument,
)
from apero_dask.core.errors import DataError
from apero_dask.io.atomic import publish, temporary_path

TAKEN, SAME, REFUSED, LEFT = "taken", "there", "refused", "left"
"""Copied; already there with this content; cannot serve or must not replace; not needed."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of one candidate."""

    path: Path
    verdict: str
    text: str
    target: str = ""


def import_assets(
    folder: Path, assets: Path, rules: Sequence[Rule], *, force: bool = False, dry: bool = False
) -> Iterator[Answer]:
    """Bring the assets of another installation into ``assets``.

    Parameters
    ----------
    folder
        Searched with everything below it; only read.
    rules
        What is looked for.
    force
        Replace files that are there with another content.
    dry
        Check and say what would be taken, write nothing.

    Yields
    ------
    Answer
        One for every candidate and every folder that cannot be read.

    Raises
    ------
    OSError
        The assets folder cannot be written; the file that failed is not there in part.
    """
    problems: list[OSError] = []
    done: dict[str, tuple[Path, str]] = {}
    for candidate in candidates(folder, rules, problems.append):
        other = of_another_instrument(candidate.path, folder)
        if other:
            yield Answer(candidate.path, LEFT, f"belongs to another instrument (folder {other})")
            continue
        yield _one(candidate, assets, done, force, dry)
    for error in problems:
        yield Answer(Path(error.filename or folder), REFUSED, f"cannot be read ({error.strerror})")


def _one(
    candidate: Candidate, assets: Path, done: dict[str, tuple[Path, str]], force: bool, dry: bool
) -> Answer:
    path = candidate.path
    earlier = done.get(candidate.target)
    try:
        digest = _digest(path)
        if earlier is not None:
            word = "a copy of" if earlier[1] == digest else "another one was taken:"
            return Answer(path, LEFT, f"{word} {earlier[0]}")
        checked = candidate.rule.check(path)
    except NotNeeded as reason:
        return Answer(path, LEFT, str(reason))
    except (DataError, UnicodeDecodeError) as error:
        return Answer(path, REFUSED, _reason(error))
    except OSError as error:
        return Answer(path, REFUSED, f"cannot be read ({error.strerror or error})")
    relative = checked.target or candidate.target
    done[candidate.target] = path, digest
    target = assets / relative
    data = path.read_bytes() if checked.data is None else checked.data
    replaces = ""
    if target.exists():
        if target.is_file() and target.read_bytes() == data:
            return Answer(path, SAME, checked.content, relative)
        if not force:
            return Answer(
                path,
                REFUSED,
                f"{relative} is there with another content; --force replaces it",
                relative,
            )
        replaces = ", replaces what was there"
    if not dry:
        write(target, data)
    return Answer(path, TAKEN, checked.content + replaces, relative)


def write(target: Path, data: bytes) -> None:
    """Write a file whole or not at all.

    Raises
    ------
    OSError
        It cannot be written; nothing is left behind.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_path(target, f"assets import {os.getpid()}")
    try:
        with temporary.open("wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        publish([(temporary, target)])
    finally:
        temporary.unlink(missing_ok=True)


def _digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _reason(error: DataError | UnicodeDecodeError) -> str:
    if isinstance(error, UnicodeDecodeError):
        return f"not a text file (byte 0x{error.object[error.start]:02X} at {error.start})"
    return str(error)


__all__ = ["LEFT", "REFUSED", "SAME", "TAKEN", "Answer", "Checked", "import_assets", "write"]
