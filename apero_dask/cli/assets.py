"""``apero-dask assets``: which assets are used, taking over those of another installation, making some."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from apero_dask.core.errors import (
    EXIT_FAILED,
    EXIT_INVALID,
    EXIT_NOTHING,
    EXIT_OK,
    EXIT_STOPPED,
    Findings,
    UserError,
)
from apero_dask.io.trees import find_trees

SECONDS_PER_DAY = 86400.0
WIDTH = 14
"""Of the first column."""


def show_assets(data: str | None) -> int:
    """Print what is used, and from where; status 2 if a file cannot be used, 3 without an assets folder."""
    from apero_dask.assets.kinds import KINDS

    folder = find_trees(data).assets
    print(f"{'assets':<{WIDTH}}{folder}" + ("" if folder.is_dir() else " (does not exist)"))
    findings, bad = [], False
    for kind in KINDS:
        for number, used in enumerate(kind.look(folder)):
            where = f" [{used.name}{' ' + used.digest if used.digest else ''}]" if used.name else ""
            print(f"{kind.key if not number else '':<{WIDTH}}{used.content}{where}")
            bad = bad or bool(used.problem)
            findings += used.findings
        print(f"{'':<{WIDTH}}-> {kind.place}: {kind.better}")
    for finding in findings:
        print(finding, file=sys.stderr)
    if bad or any(finding.code == "W-ASSET-FILE" for finding in findings):
        return EXIT_INVALID
    if not folder.is_dir():
        print(
            f"{folder} does not exist: built-in assets are used. "
            "Name the data root with --data or APERO_DATA.",
            file=sys.stderr,
        )
        return EXIT_NOTHING
    return EXIT_OK


def take_assets(data: str | None, source: Path, force: bool, dry: bool) -> int:
    """Take assets from another installation; returns the exit status.

    0: everything found was taken or was there; 1: something was refused; 2: no such folder; 3: nothing was
    found; 5: the assets folder cannot be written.
    """
    from apero_dask.assets.importing import LEFT, REFUSED, SAME, TAKEN, import_assets
    from apero_dask.assets.rules import RULES

    if not source.is_dir():
        print(f"{source} is not a folder; name the folder of an APERO installation.", file=sys.stderr)
        return EXIT_INVALID
    folder = find_trees(data).assets
    words = {TAKEN: "would take" if dry else "taken", SAME: "is there", REFUSED: "refused", LEFT: "left"}
    counts = Counter[str]()
    try:
        for answer in import_assets(source, folder, RULES, force=force, dry=dry):
            counts[answer.verdict] += 1
            place = f" -> {answer.target}" if answer.verdict in (TAKEN, SAME) else ""
            print(f"{words[answer.verdict]:<{WIDTH}}{answer.path}{place}: {answer.text}")
    except OSError as error:
        print(
            f"{error.filename or folder} cannot be written ({error.strerror or error}); check its "
            "permissions and the space on the disk. What is listed above is complete.",
            file=sys.stderr,
        )
        return EXIT_STOPPED
    if not counts:
        print(
            f"{source} holds no file known by its name ({known_names()}); name the folder of an APERO "
            "installation, or copy your file to the place that apero-dask assets show tells.",
            file=sys.stderr,
        )
        return EXIT_NOTHING
    told = ", ".join(f"{counts[v]} {words[v]}" for v in (TAKEN, SAME, REFUSED, LEFT) if counts[v])
    print(f"{folder}: {told}")
    return EXIT_FAILED if counts[REFUSED] else EXIT_OK


def known_names() -> str:
    """File names that an import looks for."""
    from apero_dask.assets.rules import RULES

    return ", ".join(rule.patterns[0] for rule in RULES)


def make_detector(data: str | None, name: str, flats: list[Path]) -> int:
    """Make the detector file of an instrument from the raw darks of the archive; returns the exit status."""
    from apero_dask.cli.prepare import UNIX_EPOCH_MJD
    from apero_dask.cli.processing import show
    from apero_dask.core.errors import DataError, one_line
    from apero_dask.instruments.base import INSTRUMENTS, instrument
    from apero_dask.io.cache import CACHE_FILE
    from apero_dask.io.indexer import scan
    from apero_dask.io.trees import check_trees
    from apero_dask.recipes.detector_maker import choose_darks, make_detector_file

    findings = Findings()
    if name.upper() not in INSTRUMENTS:
        findings.add("E-INSTRUMENT", name=name, list=one_line(INSTRUMENTS))
        show(findings)
        return EXIT_INVALID
    described, trees = instrument(name), find_trees(data)
    findings.extend(check_trees(trees, write=("assets",)))
    if findings.errors():
        show(findings)
        return findings.exit_status()
    cache = trees.log / CACHE_FILE if trees.log.is_dir() else None
    try:
        index = scan(
            trees.raw, described, now_mjd=UNIX_EPOCH_MJD + time.time() / SECONDS_PER_DAY, cache=cache
        )
        darks = choose_darks(index)
        if not darks:
            print(
                f"{trees.raw} holds no dark of {described.name}; choose an archive with darks.",
                file=sys.stderr,
            )
            return EXIT_NOTHING
        path = make_detector_file(trees.assets, described, [trees.raw / d.path for d in darks], flats)
    except UserError as error:
        show(error.findings)
        return error.status
    except DataError as error:
        print(f"No detector file was made: {error}", file=sys.stderr)
        return EXIT_INVALID
    nights = len({dark.obs_dir for dark in darks})
    print(f"{path} was made from {len(darks)} darks of {nights} night(s) and {len(flats)} flat(s).")
    for text in _detector_lines(trees.assets):
        if f" {described.name}:" in text:
            print(text)
    return EXIT_OK


def _detector_lines(folder: Path) -> Iterator[str]:
    """Contents of the detector file of every instrument."""
    from apero_dask.assets.kinds import KINDS

    (kind,) = (kind for kind in KINDS if kind.key == "detector")
    for used in kind.look(folder):
        yield f"{kind.key:<{WIDTH}}{used.content}"
