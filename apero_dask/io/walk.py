"""Lists the raw frames below the raw tree: names, sizes and times, no contents."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Iterable
from concurrent.futures import Executor
from dataclasses import dataclass, field
from pathlib import Path

from apero_dask.io.identify import BAD_NAME, FRAME_NAME, OTHER_PRODUCT
from apero_dask.io.primary import DEAD_LINK, NO_PERMISSION, NOT_A_FILE, READ_ERROR, VANISHED

NO_NIGHT = "not in a night folder"
BAD_FOLDER = "folder cannot be listed"
CIRCULAR = "link to a folder above itself"
BAD_ENCODING = "folder name not UTF-8 text"

TRIED_FIRST = 4
"""Folders listed one after the other, to see what listing costs here."""
WAITING = 4.0
"""Listing that takes this many times the processor time mostly waits."""

FileStatus = tuple[str, int, int]
"""Base name, size in bytes, modification time in ns."""


@dataclass(slots=True)
class Listing:
    """What lies below the raw tree."""

    nights: dict[str, list[FileStatus]] = field(default_factory=dict)
    """Files named like raw frames, by night; nights without any are not listed."""
    left_out: list[tuple[str, str, str]] = field(default_factory=list)
    """(path below the raw tree, reason, note)."""

    def merge(self, other: Listing) -> None:
        """Add the nights and the files left out of another part of the tree."""
        self.nights.update(other.nights)
        self.left_out += other.left_out


def list_raw(raw: Path, pool: Executor) -> Listing:
    """List the raw tree, every folder directly below it in a job of its own.

    A folder is a night whatever its name; nested nights are named by their path with ``/``.  Hidden names
    and the known other products of the instrument are passed over in silence.  Symbolic links are followed.

    Raises
    ------
    OSError
        If the raw tree itself cannot be listed.
    """
    with os.scandir(raw) as entries:
        top = list(entries)
    root = _identity(raw.stat())
    listing = Listing()
    folders: list[str] = []
    for entry in top:
        _sort_entry(entry, "", listing, folders)
    folders.sort()
    wall, busy = time.perf_counter(), time.thread_time()
    for name in folders[:TRIED_FIRST]:
        listing.merge(_list_night(str(raw), name, (root,)))
    wall, busy = time.perf_counter() - wall, time.thread_time() - busy
    rest = folders[TRIED_FIRST:]
    # Threads hide the latency of a file server, but double the time on a local disk, where nobody waits.
    run = pool.map if wall > WAITING * busy else map
    for part in run(lambda name: _list_night(str(raw), name, (root,)), rest):
        listing.merge(part)
    return listing


def _identity(status: os.stat_result) -> tuple[int, int]:
    return (status.st_dev, status.st_ino)


def _list_night(raw: str, night: str, above: tuple[tuple[int, int], ...]) -> Listing:
    listing = Listing()
    try:
        night.encode()
    except UnicodeEncodeError:
        listing.left_out.append((night, BAD_ENCODING, ""))
        return listing
    folder = os.path.join(raw, night)  # noqa: PTH118 - once per folder and file: pathlib is ten times slower
    folders: list[str] = []
    try:
        here = _identity(Path(folder).stat())
        if here in above:
            listing.left_out.append((night, CIRCULAR, ""))
            return listing
        with os.scandir(folder) as entries:
            for entry in entries:
                _sort_entry(entry, night, listing, folders)
    except OSError as error:
        listing.left_out.append((night, BAD_FOLDER, error.strerror or ""))
        return listing
    for name in folders:
        listing.merge(_list_night(raw, f"{night}/{name}", (*above, here)))
    return listing


def _sort_entry(entry: os.DirEntry[str], night: str, listing: Listing, folders: list[str]) -> None:
    """Put one directory entry where it belongs."""
    name = entry.name
    if name.startswith("."):
        return
    path = f"{night}/{name}" if night else name

    def leave_out(reason: str, note: str = "") -> None:
        listing.left_out.append((path, reason, note))

    is_frame = FRAME_NAME.fullmatch(name) is not None
    try:
        if entry.is_dir():
            if is_frame:
                leave_out(NOT_A_FILE, "a folder")
            else:
                folders.append(name)
            return
        if OTHER_PRODUCT.fullmatch(name):
            return
        if not is_frame:
            leave_out(BAD_NAME)
            return
        if not night:
            leave_out(NO_NIGHT)
            return
        status = entry.stat()
    except FileNotFoundError:
        leave_out(DEAD_LINK if entry.is_symlink() else VANISHED)
    except PermissionError:
        leave_out(NO_PERMISSION)
    except OSError as error:
        leave_out(DEAD_LINK if entry.is_symlink() else READ_ERROR, error.strerror or "")
    else:
        if stat.S_ISREG(status.st_mode):
            listing.nights.setdefault(night, []).append((name, status.st_size, status.st_mtime_ns))
        else:
            leave_out(NOT_A_FILE)


def printable(names: Iterable[str]) -> list[str]:
    """Names with undecodable bytes shown as escapes, so that any terminal can print them."""
    return [name.encode("utf-8", "backslashreplace").decode() for name in names]
