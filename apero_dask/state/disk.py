"""What is on disk against what the markers say."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path

from apero_dask.core.outcome import Marker
from apero_dask.io.markers import absolute
from apero_dask.io.trees import Trees

Verified = dict[str, tuple[int, int, str]]


def sha256(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def current_markers(markers: Iterable[Marker], trees: Trees) -> list[Marker]:
    """Markers without those about files that another run has overwritten since, in the order given.

    Runs with other inputs can make files of the same names.  Of several markers that claim a file, those
    count whose digest it has; if it has none of them, the one of the latest invocation.
    """
    listed = list(markers)
    owners: dict[str, list[int]] = {}
    for number, marker in enumerate(listed):
        for output in marker.outputs:
            owners.setdefault(output.path, []).append(number)
    gone: set[int] = set()
    for path, numbers in owners.items():
        if len(numbers) < 2:
            continue
        try:
            found = sha256(absolute(trees, path))
        except OSError:
            found = ""
        digests = {n: next(o.digest for o in listed[n].outputs if o.path == path) for n in numbers}
        kept = [n for n in numbers if digests[n] == found] or [
            max(numbers, key=lambda n: (listed[n].invocation, n))
        ]
        gone.update(n for n in numbers if n not in kept)
    return [marker for number, marker in enumerate(listed) if number not in gone]


def damaged_outputs(
    markers: Iterable[Marker], trees: Trees, known: Mapping[str, tuple[int, int, str]], check: str
) -> tuple[dict[str, str], Verified]:
    """Outputs that are missing or differ from their marker, with what is wrong.

    Parameters
    ----------
    known : mapping
        Earlier verifications: a file whose size and modification time are the same is not read again.
    check : str
        ``content``, ``size`` or ``exists``.

    Returns
    -------
    damaged : dict
        Problem by path.
    verified : dict
        New verifications.
    """
    damaged: dict[str, str] = {}
    fresh: Verified = {}
    for marker in markers:
        for output in marker.outputs:
            path = absolute(trees, output.path)
            try:
                status = path.stat()
            except OSError:
                damaged[output.path] = "missing"
                continue
            if check == "exists":
                continue
            if status.st_size != output.size:
                damaged[output.path] = f"{status.st_size} bytes instead of {output.size}"
                continue
            if check == "size":
                continue
            seen = known.get(output.path)
            if seen is not None and seen[:2] == (status.st_size, status.st_mtime_ns):
                digest = seen[2]
            else:
                digest = sha256(path)
                fresh[output.path] = (status.st_size, status.st_mtime_ns, digest)
            if digest != output.digest:
                damaged[output.path] = "content differs from what was written"
    return damaged, fresh


def looked_at(outputs: Iterable[tuple[str, str]], trees: Trees) -> list[tuple[str, int, int, str]]:
    """(path, size, modification time, digest) of files just written, given (path, digest)."""
    found = []
    for path, digest in outputs:
        try:
            status = absolute(trees, path).stat()
        except OSError:
            continue
        found.append((path, status.st_size, status.st_mtime_ns, digest))
    return found
