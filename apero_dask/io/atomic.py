"""Files that appear complete or not at all.

A file is written under a hidden name in its target folder, flushed to the disk and renamed.  What a killed
process leaves behind is recognised by its name and never read.
"""

from __future__ import annotations

import os
import re
import zlib
from collections.abc import Iterator
from pathlib import Path

_TEMPORARY = re.compile(r"\..+\.[0-9a-f]{8}\.part")


def temporary_path(target: Path, token: str) -> Path:
    """Name to write under before ``target`` is finished.

    Parameters
    ----------
    target
        Final path.
    token
        What makes the writer unique: run, attempt, host and process.  Two attempts at one run may be alive
        at the same time, after a worker was given up too early.

    >>> temporary_path(Path("a/b.fits"), "run 1, attempt 1").name
    '.b.fits.06ad2aa0.part'
    """
    return target.with_name(f".{target.name}.{zlib.crc32(token.encode()):08x}.part")


def is_temporary(name: str) -> bool:
    """Whether a file name is one of :func:`temporary_path`."""
    return _TEMPORARY.fullmatch(name) is not None


def leftovers(folder: Path) -> Iterator[Path]:
    """Temporary files in a folder, in the order of their names; none if there is no such folder."""
    if folder.is_dir():
        yield from sorted(path for path in folder.iterdir() if is_temporary(path.name))


def flush_folder(folder: Path) -> None:
    """Make renames inside ``folder`` durable; file systems that cannot do it are left alone."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    except OSError:
        # Some network file systems refuse to flush a folder; they write names through.
        return
    finally:
        os.close(handle)


def publish(pairs: list[tuple[Path, Path]]) -> None:
    """Rename finished temporary files to their targets, in the given order.

    Files that were there before are replaced.  When a rename fails, the temporary files not renamed yet are
    removed; those already in place are complete, but nothing points to them until a marker is written.

    Raises
    ------
    OSError
        With the path that could not be renamed.
    """
    for number, (temporary, target) in enumerate(pairs):
        try:
            temporary.replace(target)
        except OSError:
            for rest, _ in pairs[number:]:
                rest.unlink(missing_ok=True)
            raise
    for folder in dict.fromkeys(target.parent for _, target in pairs):
        flush_folder(folder)
