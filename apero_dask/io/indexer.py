"""Builds the frame index: every usable raw frame of the archive, and what was left out and why.

Only primary headers are read, in parallel, and only of files that are new or changed since the last scan.
One bad file never stops the others.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from apero_dask.core.collector import collector_paused
from apero_dask.core.errors import Finding, Findings, UserError, one_line
from apero_dask.core.frames import UNKNOWN, FrameIndex, RawFrame
from apero_dask.core.names import ObjectNames
from apero_dask.instruments import Instrument
from apero_dask.io import cache as index_cache
from apero_dask.io.cache import Record, Records
from apero_dask.io.identify import KEYWORDS, Identifier, Remark, keyword_values
from apero_dask.io.primary import HeaderError, read_primary
from apero_dask.io.walk import list_raw, printable

WORKERS = 8
"""Reading threads: they wait for the disk or the file server, not for a processor."""
CHUNK = 32
"""Files per job of a reading thread."""
FOLD_REMARKS = 10
"""More frames than this with the same kind of oddity are reported in one message."""
SETTLED_NS = 2_000_000_000
"""A file modified this shortly before the scan may change again within the resolution of its time."""

_KEYWORDS = frozenset(KEYWORDS)

LeftOut = tuple[str, str, str]
"""Path below the raw tree, reason, note."""


def scan(
    raw: Path,
    instrument: Instrument,
    *,
    now_mjd: float,
    cache: Path | None = None,
    names: ObjectNames | None = None,
    workers: int | None = None,
    rescan: bool = True,
) -> FrameIndex:
    """Index the raw tree.

    Parameters
    ----------
    raw
        Raw tree; read only.
    instrument
        Whose frames are wanted; frames of another instrument are left out.
    now_mjd
        Time of the scan, MJD (UTC).
    cache
        File that keeps the header values between scans, or None.  A missing, foreign or damaged one is made
        anew; one that cannot be written only costs time.
    names
        Alias table of the objects.
    workers
        Reading threads; None = :data:`WORKERS`.
    rescan
        False: take the index from the cache alone, without looking at the raw tree; without a usable cache
        the tree is scanned all the same.

    Returns
    -------
    FrameIndex
        Frames in canonical order, unidentified ones and every copy of a duplicated exposure included, with
        the findings ``W-BAD-FILE`` (one per reason), ``W-FRAME``, ``W-UNIDENTIFIED`` and ``I-INDEX``.  The
        same files give the same index, whatever their order on disk and the number of workers.

    Raises
    ------
    UserError
        ``E-DATA-ROOT`` if the raw tree cannot be listed.
    """
    with collector_paused():
        return _scan(raw, instrument, now_mjd, cache, names or ObjectNames(), workers or WORKERS, rescan)


def _scan(
    raw: Path,
    instrument: Instrument,
    now_mjd: float,
    cache: Path | None,
    names: ObjectNames,
    workers: int,
    rescan: bool,
) -> FrameIndex:
    found = Findings()
    before = index_cache.Loaded()
    if cache is not None:
        before = index_cache.load(cache, raw)
        if before.problem:
            found.add("I-INDEX", path=cache, problem=before.problem, action="it is made anew")
    left_out: list[LeftOut] = []
    records = before.records
    if rescan or not before.exists:
        if not rescan:
            action = "the raw tree is scanned although a scan was not wanted"
            found.add("I-INDEX", path=cache or "(none)", problem="cannot be used", action=action)
        records, settled, left_out = _read_tree(raw, before.records, workers)
        if cache is not None and (settled != before.records or not before.exists):
            problem = index_cache.save(cache, raw, settled)
            if problem:
                action = "the next scan reads all headers again"
                found.add("I-INDEX", path=cache, problem=problem, action=action)
    identifier = Identifier(instrument, names, now_mjd)
    frames, remarks, unknown = _identify(records, identifier, left_out)
    found.extend(_report(left_out, remarks, unknown))
    return FrameIndex.of(frames, found)


def _read_tree(raw: Path, known: Records, workers: int) -> tuple[Records, Records, list[LeftOut]]:
    """(records of all files that could be read, those worth keeping, files left out)."""
    started = time.time_ns()
    records: Records = {}
    settled: Records = {}
    todo: list[tuple[str, str]] = []
    with ThreadPoolExecutor(workers) as pool:
        try:
            listing = list_raw(raw, pool)
        except OSError as error:
            found = Findings()
            problem = f"cannot be listed ({error.strerror})"
            action = "check the path and its permissions"
            found.add("E-DATA-ROOT", path=raw, origin="raw tree", problem=problem, action=action)
            raise UserError(list(found)) from error
        for night, files in listing.nights.items():
            old = known.get(night, {})
            kept: dict[str, Record] = {}
            for name, size, mtime_ns in files:
                record = old.get(name)
                if record is not None and record.mtime_ns == mtime_ns and record.size == size:
                    kept[name] = record
                else:
                    todo.append((night, name))
            if kept:
                records[night] = kept
                settled[night] = dict(kept)
        chunks = [todo[start : start + CHUNK] for start in range(0, len(todo), CHUNK)]
        left_out = listing.left_out
        for chunk, results in zip(chunks, pool.map(lambda c: _read_files(str(raw), c), chunks), strict=True):
            for (night, name), (record, failure) in zip(chunk, results, strict=True):
                if record is None:
                    left_out.append((f"{night}/{name}", *failure))
                    continue
                records.setdefault(night, {})[name] = record
                if record.mtime_ns < started - SETTLED_NS:
                    settled.setdefault(night, {})[name] = record
    return records, settled, left_out


def _read_files(raw: str, files: list[tuple[str, str]]) -> list[tuple[Record | None, tuple[str, str]]]:
    """Record of every file; None with (reason, note) where only this attempt failed."""
    results: list[tuple[Record | None, tuple[str, str]]] = []
    for night, name in files:
        path = f"{raw}/{night}/{name}"
        try:
            header = read_primary(path, _KEYWORDS)
        except HeaderError as error:
            failure = (error.reason, error.note)
            record = None
            if error.lasting:
                record = Record(error.size, error.mtime_ns, "", failure)
            results.append((record, failure))
        else:
            shared, own = keyword_values(header.values)
            results.append((Record(header.size, header.mtime_ns, header.digest, shared, own), ("", "")))
    return results


def _identify(
    records: Records, identifier: Identifier, left_out: list[LeftOut]
) -> tuple[list[RawFrame], list[tuple[RawFrame, Remark]], list[tuple[RawFrame, str]]]:
    """(frames, their remarks, unidentified ones with a note); adds to ``left_out``."""
    frames: list[RawFrame] = []
    remarks: list[tuple[RawFrame, Remark]] = []
    unknown: list[tuple[RawFrame, str]] = []
    for night, files in sorted(records.items()):
        for name, record in sorted(files.items()):
            path = f"{night}/{name}"
            if not record.digest:
                reason, note = record.shared
                left_out.append((path, str(reason), str(note)))
                continue
            result = identifier.identify_values(
                record.shared, record.own, night, path, record.size, record.digest
            )
            frame = result.frame
            if frame is None:
                left_out.append((path, result.reason, result.note))
                continue
            frames.append(frame)
            if frame.dprtype == UNKNOWN:
                unknown.append((frame, result.note))
            remarks += [(frame, remark) for remark in result.remarks]
    return frames, remarks, unknown


def _report(
    left_out: Iterable[LeftOut],
    remarks: Iterable[tuple[RawFrame, Remark]],
    unknown: Iterable[tuple[RawFrame, str]],
) -> list[Finding]:
    """Messages in an order that depends on the files alone."""
    found = Findings()
    by_reason: dict[str, list[str]] = defaultdict(list)
    for path, reason, note in sorted(left_out):
        by_reason[reason].append(_noted(path, note))
    for reason, files in sorted(by_reason.items()):
        found.add("W-BAD-FILE", n=len(files), reason=reason, list=one_line(printable(files)))

    by_kind: dict[tuple[str, str], list[tuple[RawFrame, Remark]]] = defaultdict(list)
    for frame, remark in sorted(remarks, key=lambda item: (item[0].order_key, item[0].path)):
        by_kind[remark.general, remark.used].append((frame, remark))
    for (general, used), odd in sorted(by_kind.items()):
        if len(odd) <= FOLD_REMARKS:
            for frame, remark in odd:
                found.add("W-FRAME", id=frame.identifier, detail=remark.detail, used=used)
        else:
            found.add("W-FRAME", id=one_line(f.identifier for f, _ in odd), detail=general, used=used)

    strange = sorted(unknown, key=lambda item: (item[0].order_key, item[0].path))
    if strange:
        listed = one_line(printable(_noted(frame.path, note) for frame, note in strange))
        found.add("W-UNIDENTIFIED", n=len(strange), list=listed)
    return found.items


def _noted(path: str, note: str) -> str:
    return f"{path} ({note})" if note else path
