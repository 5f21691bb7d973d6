"""``apero-dask verify`` and ``apero-dask reset``: disk, markers and databases."""

from __future__ import annotations

import datetime
import sys

from apero_dask.core.errors import EXIT_FAILED, EXIT_INVALID, EXIT_NOTHING, EXIT_OK, EXIT_STOPPED
from apero_dask.io.trees import Trees, find_trees

MOST_FILES = 50
"""Files listed per kind of fault."""


def show_verification(data: str | None, night: str, check: str, everything: bool) -> int:
    """Compare disk and markers; returns 0 if they agree, 1 if not."""
    from apero_dask.report.status import lock_holder
    from apero_dask.state.verify import verify

    trees = find_trees(data)
    if not trees.log.is_dir():
        return _nothing(trees)
    if night and not _has_night(trees, night):
        from apero_dask.planner.suggest import closest

        nearest = closest(night, _nights(trees))
        hint = f" Did you mean {nearest}?" if nearest else ""
        print(f"Night {night} is not below {trees.tmp} or {trees.reduced}.{hint}", file=sys.stderr)
        return EXIT_INVALID
    holder = lock_holder(trees.log)
    if holder is not None and holder.alive is not False:
        print(f"Note: {holder.text} is reducing; what it writes now may be listed.", file=sys.stderr)
    found = verify(trees, night, check)
    for title, texts in found.sections():
        if not texts:
            continue
        print(f"{len(texts)} {title}:")
        shown = texts if everything else texts[:MOST_FILES]
        for text in shown:
            print(f"  {text}")
        if len(texts) > len(shown):
            print(f"  ... and {len(texts) - len(shown)} more; --all lists them")
    if found.overwritten:
        print(f"{len(found.overwritten)} marker(s) are about files that another run has written since.")
    how = "read and compared" if check == "content" else "compared by size"
    print(f"{found.markers} finished runs with {found.files} files {how}.")
    return EXIT_OK if found.agrees else EXIT_FAILED


def _nothing(trees: Trees) -> int:
    print(
        f"Nothing was reduced here yet: {trees.log} does not exist. "
        "Name the data root with --data or APERO_DATA.",
        file=sys.stderr,
    )
    return EXIT_NOTHING


def _nights(trees: Trees) -> list[str]:
    return [p.name for tree in (trees.tmp, trees.reduced) if tree.is_dir() for p in tree.iterdir()]


def _has_night(trees: Trees, night: str) -> bool:
    places = (trees.tmp / night, trees.reduced / night, trees.reduced / "master" / night)
    return any(place.is_dir() for place in places)


def rebuild(data: str | None) -> int:
    """Make state, calibration and telluric databases anew from the markers; returns the exit status."""
    from apero_dask.io.markers import read_markers
    from apero_dask.state.disk import current_markers
    from apero_dask.state.lock import DriverLock, LockedError
    from apero_dask.state.registry import rebuild_databases
    from apero_dask.state.store import DATABASE, Store

    trees = find_trees(data)
    if not trees.log.is_dir():
        return _nothing(trees)
    try:
        with DriverLock(trees.log):
            old = trees.log / DATABASE
            if old.exists():
                now = datetime.datetime.now(datetime.UTC)
                aside = old.with_name(f"{DATABASE}.{now:%Y%m%dT%H%M%S}.old")
                old.replace(aside)
                print(f"The earlier state database is kept as {aside.name}.")
            store = Store(trees.log)
            try:
                taken = store.reconcile()
            finally:
                store.close()
            report = rebuild_databases(current_markers(read_markers(trees.log), trees), trees)
    except LockedError as error:
        print(f"Cannot start: {error}.", file=sys.stderr)
        return EXIT_STOPPED
    except OSError as error:
        place = f" ({error.filename})" if error.filename else ""
        print(
            f"Cannot go on: {error.strerror or error}{place}. Markers and products are untouched.",
            file=sys.stderr,
        )
        return EXIT_STOPPED
    print(f"{taken} markers taken up.")
    print(f"{report.entries} registered files, {report.added} of them linked or copied now.")
    if report.missing:
        first = report.missing[0]
        print(f"{len(report.missing)} product(s) are not there (first: {first}); see apero-dask verify.")
    return EXIT_OK
