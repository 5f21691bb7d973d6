"""Where the data trees are, and whether they can be used.

Nothing is created here.  Writability is found by writing, not by looking at mode bits: root passes every
mode bit, and a read-only mount, a quota or a network export denies what the bits allow.
"""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from apero_dask.core.errors import Finding, Findings

TREES = ("raw", "tmp", "reduced", "calibDB", "telluDB", "out", "runs", "assets", "log")
"""Names of the trees = names of the folders below a data root."""

OUTPUT_TREES = ("tmp", "reduced", "calibDB", "telluDB", "out", "log")
"""Trees a reduction writes into."""

VARIABLES: dict[str, tuple[str, ...]] = {
    "raw": ("DRS_DATA_RAW",),
    "tmp": ("DRS_DATA_WORKING",),
    "reduced": ("DRS_DATA_REDUC",),
    "calibDB": ("DRS_CALIB_DB",),
    "telluDB": ("DRS_TELLU_DB",),
    "out": ("DRS_DATA_OUT",),
    "runs": ("DRS_DATA_RUNS", "DRS_DATA_RUN"),
    "assets": (),
    "log": ("DRS_DATA_MSG",),
}
"""Environment variables of each tree, the first that is set counts."""

DEFAULTS = {"raw": "/data/raw", "runs": "/data/runs"}
"""Trees with a documented place of their own; every other one stands beside raw."""


@dataclass(frozen=True, slots=True)
class Trees:
    """Absolute paths of the data trees; none of them needs to exist."""

    raw: Path
    """Raw frames, one folder per night; never written."""
    tmp: Path
    """Preprocessed frames."""
    reduced: Path
    """Night, frame, master and object products."""
    calibDB: Path
    """Registered calibrations."""
    telluDB: Path
    """Registered telluric products."""
    out: Path
    """Packaged files."""
    runs: Path
    """Run files."""
    assets: Path
    """Object table, reject list, masks, detector files."""
    log: Path
    """Logs, plans, markers, reports and the frame index."""
    origins: dict[str, str] = field(default_factory=dict)
    """Where each path comes from, by tree name: ``--data``, ``APERO_DATA``, a variable or a default."""

    def path(self, tree: str) -> Path:
        """Path of the tree called ``tree``; KeyError if there is none of that name."""
        if tree not in TREES:
            raise KeyError(tree)
        found: Path = getattr(self, tree)
        return found

    def items(self) -> list[tuple[str, Path, str]]:
        """(tree, path, origin) of every tree, in the order of :data:`TREES`."""
        return [(tree, self.path(tree), self.origins.get(tree, "")) for tree in TREES]


def _absolute(text: str) -> Path:
    return Path(os.path.abspath(os.path.expanduser(text)))  # noqa: PTH100, PTH111 - neither raises


def find_trees(data: str | None = None, environ: Mapping[str, str] | None = None) -> Trees:
    """Find the data trees.

    ``data`` (the option ``--data``) wins over ``APERO_DATA``; both name the folder that holds all trees.
    Without them each tree has its own variable (:data:`VARIABLES`); raw and runs have a documented
    default, an unset other one stands beside raw.  A blank value counts as not set.

    >>> trees = find_trees(None, {"DRS_DATA_RAW": "/archive/raw/", "DRS_DATA_WORKING": "/scratch/tmp"})
    >>> [(name, str(trees.path(name)), trees.origins[name]) for name in ("raw", "tmp", "log")]
    ... # doctest: +NORMALIZE_WHITESPACE
    [('raw', '/archive/raw', 'DRS_DATA_RAW'), ('tmp', '/scratch/tmp', 'DRS_DATA_WORKING'),
     ('log', '/archive/log', 'beside raw')]
    """
    environ = os.environ if environ is None else environ
    for root, origin in ((data, "--data"), (environ.get("APERO_DATA"), "APERO_DATA")):
        if root and root.strip():
            base = _absolute(root.strip())
            return Trees(**{tree: base / tree for tree in TREES}, origins=dict.fromkeys(TREES, origin))
    paths: dict[str, Path] = {}
    origins: dict[str, str] = {}
    for tree in TREES:  # raw comes first: the others may stand beside it
        name = next((v for v in VARIABLES[tree] if environ.get(v, "").strip()), None)
        if name is not None:
            paths[tree], origins[tree] = _absolute(environ[name].strip()), name
        elif tree in DEFAULTS:
            paths[tree] = Path(DEFAULTS[tree])
            origins[tree] = f"default, {VARIABLES[tree][0]} is not set"
        else:
            paths[tree], origins[tree] = paths["raw"].parent / tree, "beside raw"
    return Trees(**paths, origins=origins)


Probe = Callable[[Path], OSError | None]
"""Tries to write into an existing folder; returns what went wrong, or None."""


def try_write(folder: Path) -> OSError | None:
    """Write and remove a small temporary file in ``folder``; return the error, or None if it works."""
    try:
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".write_test_") as handle:
            handle.write(b"0")
            handle.flush()
    except OSError as error:
        return error
    return None


_PROBLEMS = {
    errno.ENOSPC: ("is on a full disk", "free some space or choose another folder"),
    errno.EDQUOT: ("is over quota", "free some space or choose another folder"),
    errno.EROFS: ("is on a read-only file system", "mount it writable or choose another folder"),
}


def _raw_problem(raw: Path) -> tuple[str, str] | None:
    choose = "check the path, or name the data root with --data or APERO_DATA"
    try:
        with os.scandir(raw) as entries:
            next(iter(entries), None)
    except FileNotFoundError:
        return "does not exist", choose
    except NotADirectoryError:
        return "is not a folder", choose
    except PermissionError:
        return "is not readable", "ask its owner for read permission"
    except OSError as error:
        return f"is not readable ({error.strerror})", "check the file system it is on"
    return None


def _write_problem(folder: Path, probe: Probe) -> tuple[str, str] | None:
    """Why nothing can be written into ``folder``; a folder not there yet is tried in its nearest parent."""
    place = folder
    while not os.path.lexists(place) and place != place.parent:
        place = place.parent
    if not place.is_dir():
        what = "is not a folder" if place == folder else f"cannot be made: {place} is not a folder"
        return what, "remove or rename that file, or choose another folder"
    error = probe(place)
    if error is None:
        return None
    if error.errno in _PROBLEMS:
        return _PROBLEMS[error.errno]
    where = "" if place == folder else f" (tried in {place})"
    reason = f": {error.strerror}" if error.strerror else ""
    return f"is not writable{where}{reason}", "ask for write permission or choose another folder"


def check_trees(
    trees: Trees, *, write: Iterable[str] = (), probe: Probe = try_write, only_warn: bool = False
) -> list[Finding]:
    """Find out whether the raw tree can be read and the trees in ``write`` can be written.

    Parameters
    ----------
    trees
        What :func:`find_trees` found.
    write
        Names of trees the command will write into (:data:`OUTPUT_TREES` for a reduction); each is tried
        with a temporary file, in its nearest existing parent if the folder is not there yet.
    probe
        Tries to write into a folder.
    only_warn
        The command only shows a plan: what cannot be written is a warning; a raw tree that cannot be read
        is an error all the same.

    Returns
    -------
    list of Finding
        ``E-DATA-ROOT`` messages, empty if everything is usable.
    """
    found = Findings()
    problem = _raw_problem(trees.raw)
    if problem is not None:
        found.add(
            "E-DATA-ROOT",
            path=trees.raw,
            origin=trees.origins.get("raw", ""),
            problem=problem[0],
            action=problem[1],
        )
    for tree in write:
        problem = _write_problem(trees.path(tree), probe)
        if problem is not None:
            found.add(
                "E-DATA-ROOT",
                only_warn=only_warn,
                path=trees.path(tree),
                origin=trees.origins.get(tree, ""),
                problem=problem[0],
                action=problem[1],
            )
    return found.items
