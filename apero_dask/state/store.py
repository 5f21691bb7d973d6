"""sqlite index of markers, invocations and calibrations beside the data.

Written by the driver alone.  It is an index: losing it loses nothing, it is filled again from the markers.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from apero_dask.core.ids import canonical_json, digest
from apero_dask.core.outcome import Marker, State
from apero_dask.core.work import TaskOutcome
from apero_dask.io.markers import FOLDER, FORMAT, marker_path

DATABASE = "state.sqlite"
SCHEMA = 2

_TABLES = """
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS markers (
    identity TEXT PRIMARY KEY, mtime_ns INTEGER NOT NULL, record TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS files (
    path TEXT PRIMARY KEY, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL, digest TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS invocations (
    invocation TEXT PRIMARY KEY, command TEXT NOT NULL, run_name TEXT NOT NULL, instrument TEXT NOT NULL,
    started TEXT NOT NULL, ended TEXT NOT NULL DEFAULT '', status INTEGER,
    finished INTEGER NOT NULL DEFAULT 0,    attempts INTEGER NOT NULL DEFAULT 1);
CREATE TABLE IF NOT EXISTS runs (
    invocation TEXT NOT NULL, key TEXT NOT NULL, short TEXT NOT NULL, place TEXT NOT NULL, stem TEXT NOT NULL,
    identity TEXT NOT NULL, state TEXT NOT NULL, cause TEXT NOT NULL, error TEXT NOT NULL,
    wall_s REAL NOT NULL, cpu_s REAL NOT NULL, peak_mb REAL NOT NULL, log TEXT NOT NULL,
    PRIMARY KEY (invocation, key));
"""


class StateError(Exception):
    """The state database cannot be used; the text says why and what to do."""


@dataclass(frozen=True, slots=True)
class Invocation:
    """One start of the command, or several that continue each other."""

    invocation: str
    command: str
    """Digest of data root, instrument, content of the run file and options."""
    started: str
    status: int | None
    finished: bool
    """Came to its end: it is not continued."""
    attempts: int


class Store:
    """State of one data root.

    Parameters
    ----------
    log : Path
        Log tree; holds the database and the markers.
    write : bool
        False: read only, for status commands beside a running driver.
    """

    def __init__(self, log: Path, write: bool = True) -> None:
        self.log = log
        self.path = log / DATABASE
        self.rebuilt = False
        """The database was lost or damaged and was filled from the markers."""
        if write:
            log.mkdir(parents=True, exist_ok=True)
            self._db = self._open_for_writing()
        else:
            if not self.path.exists():
                raise StateError(f"{self.path} does not exist: nothing was reduced here yet")
            self._db = sqlite3.connect(f"{self.path.as_uri()}?mode=ro", uri=True, timeout=30.0)
            try:
                self._db.execute("SELECT COUNT(*) FROM meta").fetchone()
            except sqlite3.DatabaseError as error:
                self._db.close()
                raise StateError(
                    f"{self.path} cannot be read ({error}); the next start makes it anew from the markers"
                ) from error

    def _open_for_writing(self) -> sqlite3.Connection:
        fresh = not self.path.exists()
        try:
            return self._connected(fresh)
        except sqlite3.DatabaseError:
            aside = self.path.with_suffix(".damaged")
            self.path.replace(aside)
            return self._connected(True)

    def _connected(self, fresh: bool) -> sqlite3.Connection:
        db = sqlite3.connect(self.path, timeout=30.0, isolation_level=None)
        try:
            # No write-ahead log: its shared memory does not work on network file systems.
            db.execute("PRAGMA journal_mode = DELETE")
            db.execute("PRAGMA synchronous = NORMAL")
            db.execute("PRAGMA quick_check").fetchone()
            db.executescript(_TABLES)
            db.execute("INSERT OR IGNORE INTO meta VALUES ('schema', ?)", (str(SCHEMA),))
            found = db.execute("SELECT value FROM meta WHERE name = 'schema'").fetchone()[0]
        except sqlite3.DatabaseError:
            db.close()
            raise
        if found != str(SCHEMA):
            db.close()
            raise StateError(
                f"{self.path} has layout {found}, this version writes {SCHEMA}; move it away, it is made anew"
            )
        self.rebuilt = fresh and (self.log / FOLDER).is_dir()
        return db

    def close(self) -> None:
        """Close the database."""
        self._db.close()

    @contextlib.contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """All or nothing.

        Raises
        ------
        OSError
            The disk is full or fails, or another program holds the database.
        """
        try:
            self._db.execute("BEGIN IMMEDIATE")
            yield self._db
            self._db.execute("COMMIT")
        except sqlite3.OperationalError as error:
            self._roll_back()
            raise OSError(
                errno.EIO, f"the state database cannot be written: {error}", str(self.path)
            ) from error
        except BaseException:
            self._roll_back()
            raise

    def _roll_back(self) -> None:
        # A full disk has ended the transaction already.
        if self._db.in_transaction:
            self._db.execute("ROLLBACK")

    # -- markers ----------------------------------------------------------------------------

    def reconcile(self) -> int:
        """Take up markers left after the last commit, drop those whose file is gone; number changed."""
        known = dict(self._db.execute("SELECT identity, mtime_ns FROM markers"))
        base = self.log / FOLDER
        there: dict[str, int] = {}
        if base.is_dir():
            for folder in sorted(base.iterdir()):
                if folder.is_dir():
                    with os.scandir(folder) as entries:
                        there.update(
                            (entry.name[:-5], entry.stat().st_mtime_ns)
                            for entry in entries
                            if entry.name.endswith(".json")
                        )
        # A run that was repeated has left another marker under the same name.
        new = sorted(identity for identity, mtime_ns in there.items() if known.get(identity) != mtime_ns)
        gone = sorted(known.keys() - there.keys())
        if new or gone:
            found = self._read_markers(new)
            with self.transaction() as db:
                db.executemany("DELETE FROM markers WHERE identity = ?", [(i,) for i in (*gone, *new)])
                _insert_markers(db, found)
        return len(new) + len(gone)

    def _read_markers(self, identities: Iterable[str]) -> list[tuple[str, int, str]]:
        """(identity, modification time, record) of sound markers."""
        paths = ((i, marker_path(self.log, i)) for i in identities)
        return [(i, *found) for i, path in paths if (found := _record_of(path)) is not None]

    def markers(self) -> list[Marker]:
        """All markers, in the order of their identities."""
        rows = self._db.execute("SELECT record FROM markers ORDER BY identity")
        return [Marker.from_json(json.loads(row[0])) for row in rows]

    # -- files ------------------------------------------------------------------------------

    def verified(self) -> dict[str, tuple[int, int, str]]:
        """(size, modification time, digest) of files at their last verification, by path."""
        return {row[0]: row[1:] for row in self._db.execute("SELECT path, size, mtime_ns, digest FROM files")}

    def set_verified(self, files: Iterable[tuple[str, int, int, str]]) -> None:
        """Remember what files looked like when their digest was found."""
        with self.transaction() as db:
            db.executemany("INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?)", list(files))

    # -- invocations ------------------------------------------------------------------------

    def unfinished(self, command: str) -> Invocation | None:
        """Last invocation of the same command, if it did not come to its end."""
        row = self._db.execute(
            "SELECT invocation, command, started, status, finished, attempts FROM invocations "
            "WHERE command = ? ORDER BY rowid DESC LIMIT 1",
            (command,),
        ).fetchone()
        if row is None or row[4]:
            return None
        return Invocation(row[0], row[1], row[2], row[3], bool(row[4]), row[5])

    def begin(self, invocation: str, command: str, run_name: str, instrument: str, started: str) -> None:
        """Note the start of an invocation, or that it is continued."""
        with self.transaction() as db:
            db.execute(
                "INSERT INTO invocations (invocation, command, run_name, instrument, started) "
                "VALUES (?, ?, ?, ?, ?) "
                "ON CONFLICT (invocation) DO UPDATE SET attempts = attempts + 1, ended = '', status = NULL",
                (invocation, command, run_name, instrument, started),
            )

    def end(self, invocation: str, ended: str, status: int, finished: bool) -> None:
        """Note the end of an invocation."""
        with self.transaction() as db:
            db.execute(
                "UPDATE invocations SET ended = ?, status = ?, finished = ? WHERE invocation = ?",
                (ended, status, int(finished), invocation),
            )

    def has_invocation(self, invocation: str) -> bool:
        """Whether an invocation of this name was started here."""
        row = self._db.execute("SELECT 1 FROM invocations WHERE invocation = ?", (invocation,)).fetchone()
        return row is not None

    def last_invocation(self) -> str | None:
        """Name of the newest invocation."""
        row = self._db.execute("SELECT invocation FROM invocations ORDER BY rowid DESC LIMIT 1").fetchone()
        return row[0] if row else None

    def add_outcomes(self, invocation: str, rows: Iterable[tuple[TaskOutcome, str, str, str]]) -> None:
        """Store how runs ended: (outcome, short, night or object, stem), with their markers, at once."""
        listed = list(rows)
        found = self._read_markers(outcome.identity for outcome, *_ in listed if outcome.outputs)
        with self.transaction() as db:
            _insert_markers(db, found)
            db.executemany(
                "INSERT OR REPLACE INTO runs VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                [
                    (
                        invocation,
                        o.key,
                        short,
                        place,
                        stem,
                        o.identity,
                        o.state.value,
                        o.cause,
                        o.error,
                        o.wall_s,
                        o.cpu_s,
                        o.peak_mb,
                        o.log,
                    )
                    for o, short, place, stem in listed
                ],
            )

    def runs(self, invocation: str) -> list[sqlite3.Row]:
        """Rows of the runs of one invocation by run key."""
        cursor = self._db.cursor()
        cursor.row_factory = sqlite3.Row
        return cursor.execute(
            "SELECT * FROM runs WHERE invocation = ? ORDER BY key", (invocation,)
        ).fetchall()

    def last_states(self) -> dict[str, State]:
        """How every run ended the last time it was looked at, by run identity."""
        rows = self._db.execute(
            "SELECT runs.identity, runs.state FROM runs JOIN invocations USING (invocation) "
            "WHERE runs.identity != '' ORDER BY invocations.rowid"
        )
        return {identity: State(state) for identity, state in rows}

    def durations(self) -> dict[str, float]:
        """Mean wall time of finished runs by short name, s."""
        rows = self._db.execute("SELECT short, AVG(wall_s) FROM runs WHERE state = 'DONE' GROUP BY short")
        return {row[0]: float(row[1]) for row in rows}


def _record_of(path: Path) -> tuple[int, str] | None:
    """(modification time, record as text) of a sound marker, else None; no object is made of it."""
    try:
        mtime_ns = path.stat().st_mtime_ns
        content = json.loads(path.read_text(encoding="utf-8"))
        record = content["marker"]
        if content["format"] != FORMAT or content["check"] != digest(record):
            return None
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return mtime_ns, canonical_json(record)


def _insert_markers(db: sqlite3.Connection, markers: Iterable[tuple[str, int, str]]) -> None:
    db.executemany("INSERT OR REPLACE INTO markers VALUES (?, ?, ?)", list(markers))
