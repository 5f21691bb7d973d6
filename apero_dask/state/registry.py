"""Calibration and telluric databases: registered files under their own names, and one sqlite table each.

Everything here follows from the markers: registering again changes nothing, and what is lost is made anew
from them.  Only the driver process writes; other programs read.
"""

from __future__ import annotations

import contextlib
import datetime
import errno
import os
import shutil
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from apero_dask.core.outcome import Marker, OutputRecord, State
from apero_dask.core.plan import Plan
from apero_dask.core.products import KINDS, MASTER, Life, registered_name
from apero_dask.io.atomic import flush_folder, temporary_path
from apero_dask.io.markers import absolute, marker_path, read_marker, read_markers
from apero_dask.io.primary import HeaderError, read_primary
from apero_dask.io.trees import Trees
from apero_dask.state.disk import current_markers

TABLE = "MAIN"
FILES = {"calib": "calib.db", "tellu": "tellu.db"}
"""File name of each database."""
TREE = {"calib": "calibDB", "tellu": "telluDB"}
"""Tree that holds a database and its registered files."""
UNIX_EPOCH_MJD = 40587.0
DAY_S = 86400.0

_COMMON = ("KEYNAME", "FIBER", "REFCAL", "FILENAME", "HUMANTIME", "UNIXTIME")
_LAST = ("PID", "PDATE", "USED")
COLUMNS: dict[str, tuple[str, ...]] = {
    "calib": (*_COMMON, *_LAST),
    "tellu": (*_COMMON, "OBJECT", "AIRMASS", "TAU_WATER", "TAU_OTHERS", *_LAST),
}
"""Columns by database, in order."""
_TYPES = {"REFCAL": "INTEGER", "USED": "INTEGER", "UNIXTIME": "REAL"} | dict.fromkeys(
    ("AIRMASS", "TAU_WATER", "TAU_OTHERS"), "REAL"
)
HEADER = {"AIRMASS": "AIRMASS", "TAU_WATER": "TLPEH2O", "TAU_OTHERS": "TLPEOTR"}
"""Header keyword of a product by column; NULL where the product has none."""

NO_LINK = frozenset(
    {errno.EXDEV, errno.EPERM, errno.EACCES, errno.EMLINK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}
)
"""The file system does not link here; a copy is made."""

Row = dict[str, object]


class _Invocation(Protocol):
    """What is needed of the running invocation."""

    @property
    def invocation(self) -> str: ...


class _Finished(Protocol):
    """What is needed of the products of a run that ended."""

    @property
    def identity(self) -> str: ...
    @property
    def outputs(self) -> tuple[OutputRecord, ...]: ...


@dataclass(slots=True)
class Registered:
    """What registering did."""

    added: int = 0
    """Files linked or copied."""
    removed: int = 0
    """Entries taken out, because their run does not pass any more."""
    kept: int = 0
    entries: int = 0
    """Rows of both databases afterwards."""
    missing: list[str] = field(default_factory=list)
    """Products that are not on disk."""


def databases_of(outputs: Iterable[OutputRecord]) -> bool:
    """Whether any of the products is registered."""
    return any(KINDS[output.kind].database for output in outputs)


def register_products(
    plan: Plan,
    states: Mapping[str, State],
    finished: Mapping[str, _Finished],
    trees: Trees,
    named: _Invocation,
) -> Registered:
    """Register the products of all passed runs of a plan, in plan order; cheap to repeat.

    Parameters
    ----------
    states : mapping
        How runs ended, by key.
    finished : mapping
        Products by run key, of runs that ended now or earlier.
    named
        The invocation.

    Raises
    ------
    OSError
        A database or one of its files cannot be written; nothing that is complete is lost.
    """
    report = Registered()
    wanted: list[Marker] = []
    unwanted: list[Marker] = []
    books = {name: _Book(name, trees) for name in FILES}
    if any(book.fresh for book in books.values()):
        # Lost or damaged: entries of earlier plans have to come back too.
        return rebuild_databases(current_markers(read_markers(trees.log), trees), trees)
    for key in plan.by_key:
        done, state = finished.get(key), states.get(key)
        if done is None or state is None or not state.finished or not databases_of(done.outputs):
            continue
        if state.skipped and all(_known(books, trees, output, done) for output in done.outputs):
            report.kept += 1
            continue
        marker = read_marker(marker_path(trees.log, done.identity))
        if marker is not None:
            (wanted if marker.state is State.DONE else unwanted).append(marker)
    _write(books, trees, wanted, unwanted, report)
    return report


def rebuild_databases(markers: Iterable[Marker], trees: Trees) -> Registered:
    """Make both databases and their files anew from markers.

    Parameters
    ----------
    markers
        All sound markers whose products were not overwritten by another run.

    Raises
    ------
    OSError
        See :func:`register_products`.
    """
    report = Registered()
    wanted = [m for m in markers if m.state is State.DONE and databases_of(m.outputs)]
    books = {name: _Book(name, trees, fresh=True) for name in FILES}
    _write(books, trees, wanted, [], report)
    return report


def rows_of(marker: Marker, trees: Trees, database: str) -> Iterator[tuple[Row, OutputRecord]]:
    """Rows of the products of a run in one database, from its marker and the headers of its products."""
    for output in sorted(marker.outputs, key=lambda o: (o.kind, o.fibre, o.path)):
        kind = KINDS[output.kind]
        if kind.database != database:
            continue
        row: Row = {
            "KEYNAME": output.kind,
            "FIBER": output.fibre,
            "REFCAL": int(marker.tier == MASTER),
            "FILENAME": file_name(marker.tier, marker.obs_dir, output),
            "HUMANTIME": human_time(marker.time),
            "UNIXTIME": round((marker.time - UNIX_EPOCH_MJD) * DAY_S, 3),
            "PID": marker.invocation,
            "PDATE": started_of(marker.invocation),
            "USED": 1,
        }
        if database == "tellu":
            row |= _telluric(marker, absolute(trees, output.path))
        yield row, output


def file_name(tier: str, obs_dir: str, output: OutputRecord) -> str:
    """Registered name of a product; those of objects belong to no night."""
    name = output.path.rpartition("/")[2]
    if KINDS[output.kind].life is Life.OBJECT:
        return name
    return registered_name(tier, obs_dir, name)


def human_time(mjd: float) -> str:
    """Modified Julian date as ISO text, UTC.

    >>> human_time(58386.5)
    '2018-09-25T12:00:00.000'
    """
    moment = datetime.datetime(1970, 1, 1) + datetime.timedelta(
        milliseconds=round((mjd - UNIX_EPOCH_MJD) * DAY_S * 1000)
    )
    return moment.isoformat(timespec="milliseconds")


def started_of(invocation: str) -> str:
    """Start of an invocation, from its name; empty for a name of another form.

    >>> started_of("20181125T041500-771")
    '2018-11-25T04:15:00'
    """
    try:
        return datetime.datetime.strptime(invocation.partition("-")[0], "%Y%m%dT%H%M%S").isoformat()
    except ValueError:
        return ""


def _telluric(marker: Marker, path: Path) -> Row:
    row: Row = {"OBJECT": marker.object}
    try:
        values = read_primary(path, HEADER.values()).values
    except HeaderError:
        # Not there or damaged: the product itself is reported where its file is registered.
        values = {}
    for column, keyword in HEADER.items():
        value = values.get(keyword)
        row[column] = (
            float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None
        )
    return row


def read_rows(database: str, trees: Trees) -> list[Row]:
    """Rows of a database in canonical order (key, fibre, file); empty if there is no database yet.

    Raises
    ------
    sqlite3.DatabaseError
        If it is damaged.
    """
    path = trees.path(TREE[database]) / FILES[database]
    if not path.exists():
        return []
    with contextlib.closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=30.0)) as db:
        columns = COLUMNS[database]
        found = db.execute(f"SELECT {', '.join(columns)} FROM {TABLE} ORDER BY KEYNAME, FIBER, FILENAME")
        return [dict(zip(columns, row, strict=True)) for row in found]


class _Book:
    """One database while it is being written."""

    def __init__(self, name: str, trees: Trees, fresh: bool = False) -> None:
        self.name = name
        self.folder = trees.path(TREE[name])
        self.path = self.folder / FILES[name]
        self.fresh = fresh
        """Starts from nothing: asked for, not there, or damaged."""
        self.rows: dict[tuple[str, str, str], Row] = {}
        if not fresh:
            try:
                self.rows = {_row_key(row): row for row in read_rows(name, trees)}
                self.fresh = not self.path.exists()
            except sqlite3.DatabaseError:
                self.fresh = True

    def save(self) -> None:
        """Replace the file by one with the present rows, complete before it is visible."""
        self.folder.mkdir(parents=True, exist_ok=True)
        temporary = temporary_path(self.path, f"{self.name} {os.getpid()}")
        temporary.unlink(missing_ok=True)
        columns = COLUMNS[self.name]
        declared = ", ".join(f"{c} {_TYPES.get(c, 'TEXT')}" for c in columns)
        try:
            with contextlib.closing(sqlite3.connect(temporary)) as db:
                # Nobody reads a temporary file: no journal, and the same bytes for the same rows.
                db.execute("PRAGMA journal_mode = OFF")
                db.execute(
                    f"CREATE TABLE {TABLE} ({declared}, PRIMARY KEY (KEYNAME, FIBER, FILENAME)) WITHOUT ROWID"
                )
                marks = ", ".join("?" * len(columns))
                ordered = [self.rows[key] for key in sorted(self.rows)]
                db.executemany(
                    f"INSERT INTO {TABLE} VALUES ({marks})", [[row[c] for c in columns] for row in ordered]
                )
                db.commit()
            temporary.replace(self.path)
        except sqlite3.Error as error:
            temporary.unlink(missing_ok=True)
            raise OSError(
                errno.EIO, f"the {self.name} database cannot be written: {error}", str(self.path)
            ) from error
        except OSError:
            temporary.unlink(missing_ok=True)
            raise
        flush_folder(self.folder)


def _row_key(row: Row) -> tuple[str, str, str]:
    return str(row["KEYNAME"]), str(row["FIBER"]), str(row["FILENAME"])


def _known(books: Mapping[str, _Book], trees: Trees, output: OutputRecord, done: _Finished) -> bool:
    """Whether a product that was not made now is registered and its file is the product."""
    database = KINDS[output.kind].database
    if not database:
        return True
    name = file_name(getattr(done, "tier", ""), getattr(done, "obs_dir", ""), output)
    book = books[database]
    return (output.kind, output.fibre, name) in book.rows and same_file(
        absolute(trees, output.path), book.folder / name
    )


def same_file(product: Path, registered: Path) -> bool:
    """Whether a registered file is a link to the product, or a copy with its size and time."""
    try:
        one, two = product.stat(), registered.stat()
    except OSError:
        return False
    if (one.st_dev, one.st_ino) == (two.st_dev, two.st_ino):
        return True
    return (one.st_size, one.st_mtime_ns) == (two.st_size, two.st_mtime_ns)


def _write(
    books: Mapping[str, _Book],
    trees: Trees,
    wanted: Iterable[Marker],
    unwanted: Iterable[Marker],
    report: Registered,
) -> None:
    """Files first, then the tables: an entry always has its file."""
    changed: set[str] = {name for name, book in books.items() if book.fresh}
    removed: list[Path] = []
    for marker in unwanted:
        for name, book in books.items():
            for row, _ in rows_of(marker, trees, name):
                if book.rows.pop(_row_key(row), None) is not None:
                    changed.add(name)
                    removed.append(book.folder / str(row["FILENAME"]))
                    report.removed += 1
    for marker in wanted:
        for name, book in books.items():
            for row, output in rows_of(marker, trees, name):
                product, target = absolute(trees, output.path), book.folder / str(row["FILENAME"])
                if not same_file(product, target):
                    if not product.exists():
                        report.missing.append(output.path)
                        continue
                    link_or_copy(product, target)
                    report.added += 1
                if book.rows.get(_row_key(row)) != row:
                    book.rows[_row_key(row)] = row
                    changed.add(name)
                else:
                    report.kept += 1
    for name, book in books.items():
        if name in changed and (book.rows or book.path.exists()):
            book.save()
    for path in removed:
        path.unlink(missing_ok=True)
    report.entries = sum(len(book.rows) for book in books.values())


def link_or_copy(product: Path, target: Path) -> None:
    """Make ``target`` a hard link to a product, else a copy; complete before it is visible.

    Raises
    ------
    OSError
        It cannot be written; an earlier file under the name is left as it was.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_path(target, f"register {os.getpid()}")
    temporary.unlink(missing_ok=True)
    try:
        try:
            os.link(product, temporary)
        except OSError as error:
            if error.errno not in NO_LINK:
                raise
            shutil.copy2(product, temporary)
            with temporary.open("rb+") as stream:
                os.fsync(stream.fileno())
        temporary.replace(target)
        # Renaming a link onto another link of the same file does nothing and leaves the first name.
        temporary.unlink(missing_ok=True)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
