"""``apero-dask why PRODUCT``: where a product comes from, or why it is not there."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING

from apero_dask.core.collector import collector_paused
from apero_dask.core.errors import EXIT_INVALID, EXIT_NOTHING, EXIT_OK
from apero_dask.io.trees import Trees, find_trees

if TYPE_CHECKING:
    from apero_dask.report.history import History
    from apero_dask.report.lineage import Shelf


RAW_NAME = re.compile(r"\d{7}[a-z]\.fits(\.gz)?")
"""Base name of a raw frame; packaged files look the same."""


def show_why(name: str, data: str | None, invocation: str, depth: int, as_json: bool) -> int:
    """Explain a product; returns the exit status."""
    from apero_dask.io.markers import absolute
    from apero_dask.report.lineage import below_root, lineage, lineage_record, open_shelf

    trees = find_trees(data)
    if not trees.log.is_dir():
        print(
            f"Nothing was reduced here yet: {trees.log} does not exist. "
            "Name the data root with --data or APERO_DATA.",
            file=sys.stderr,
        )
        return EXIT_NOTHING
    wanted = below_root(name, trees)
    with collector_paused():
        shelf = open_shelf(trees)
    if RAW_NAME.fullmatch(wanted) and not shelf.named(wanted):
        found = sorted(path.relative_to(trees.raw).as_posix() for path in trees.raw.glob(f"**/{wanted}"))
        wanted = f"raw/{found[0]}" if found else wanted
    if wanted.startswith("raw/"):
        return _raw_frame(wanted, shelf, trees)
    paths = shelf.named(wanted)
    there = [path for path in paths if absolute(trees, path).exists()]
    if there:
        if as_json:
            print(json.dumps([lineage_record(shelf, path) for path in there], indent=1))
        else:
            for number, path in enumerate(there):
                print("\n" * (number > 0), end="")
                for text in lineage(shelf, path, depth):
                    print(text)
        return EXIT_OK
    return _missing(wanted, paths, shelf, trees, invocation)


def _raw_frame(path: str, shelf: Shelf, trees: Trees) -> int:
    from apero_dask.io.markers import absolute
    from apero_dask.report.lineage import run_name

    users = sorted(
        {run_name(m) for m in shelf.by_identity.values() if any(used == path for used, _ in m.inputs)}
    )
    if not users and not absolute(trees, path).exists():
        print(f"{path} is not there and no finished run has read it.", file=sys.stderr)
        return EXIT_INVALID
    print(f"{path} {'is a raw frame' if absolute(trees, path).exists() else 'is not there any more'}")
    for user in users:
        print(f"  read by {user}")
    if not users:
        print("  no finished run has read it")
    return EXIT_OK


def _missing(name: str, marked: list[str], shelf: Shelf, trees: Trees, invocation: str) -> int:
    from apero_dask.report.absence import absence, remarks, similar
    from apero_dask.report.history import read_history
    from apero_dask.report.lineage import run_name
    from apero_dask.report.status import (
        NothingThere,
        UnknownInvocation,
        find_invocation,
        lock_holder,
    )
    from apero_dask.state.planned import PlanRecordError

    history: History | None = None
    lines: list[str] | None = None
    known: Iterable[str] = shelf.by_path
    try:
        with collector_paused():
            history = read_history(trees.log, find_invocation(trees.log, invocation))
        holder = lock_holder(trees.log)
        alive = not history.end and holder is not None and holder.alive is not False
        lines = absence(history, trees, marked[0] if marked else name, alive)
        if lines is None and not marked:
            known = [*known, *history.plan.products()]
    except UnknownInvocation as error:
        print(error, file=sys.stderr)
        return EXIT_INVALID
    except (NothingThere, PlanRecordError) as error:
        print(f"Note: {error}.", file=sys.stderr)
    if lines is not None:
        for text in [*lines, *(f"  {t}" for t in (remarks(history, name) if history else ()))]:
            print(text)
        return EXIT_OK
    for path in marked:
        maker = shelf.maker(path)
        made = f"{run_name(maker)} made it in invocation {maker.invocation}" if maker else "it was made"
        print(
            f"{path} is missing: {made}; it was removed since. "
            "The next reduction that needs it makes it again."
        )
    if marked:
        return EXIT_OK
    told = remarks(history, name) if history else []
    place = f" and invocation {history.invocation} did not plan it" if history else ""
    print(f"{name} is not known: no finished run made it{place}.", file=sys.stderr)
    for text in told:
        print(f"  {text}", file=sys.stderr)
    nearest = similar(name, known)
    if nearest:
        print(f"Did you mean {', '.join(nearest)}?", file=sys.stderr)
    return EXIT_INVALID
