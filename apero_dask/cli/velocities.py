"""``apero-dask rv`` and ``apero-dask compare-rv``: velocities of every object, beside the truth if known."""

from __future__ import annotations

import sys
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from apero_dask.core.errors import EXIT_FAILED, EXIT_INVALID, EXIT_NOTHING, EXIT_OK, EXIT_STOPPED
from apero_dask.core.products import VELOCITY_FOLDER
from apero_dask.io.trees import find_trees

if TYPE_CHECKING:
    from apero_dask.report.velocities import Series


def show_velocities(data: str | None, names: Sequence[str] = ()) -> int:
    """Print the velocities of all objects, or of those named, and write their files; returns the status."""
    from apero_dask.io.assets import OBJECTS_FILE, read_objects

    trees = find_trees(data)
    known = read_objects(trees.assets / OBJECTS_FILE).names
    lines, status = velocity_summary(trees.reduced, [known.resolve(name) for name in names])
    for text in lines:
        print(text)
    return status


def velocity_summary(
    reduced: Path,
    names: Sequence[str] = (),
    planned: Collection[str] | None = None,
    earlier: Mapping[str, str] | None = None,
) -> tuple[list[str], int]:
    """Lines about the velocities below the reduced tree, whose files are written anew; and the status.

    ``names``: main names of objects; none = all.  ``planned``: base names of velocity products; only objects
    and masks with one of these frames are shown, None = all.  ``earlier``: those among them that could not be
    made anew, with the state their run ended in.
    """
    from apero_dask.report.velocities import read_series, velocity_lines
    from apero_dask.report.velocity_files import problem_lines, write_velocities

    series, problems = read_series(reduced)
    wanted = set(names)
    unknown = sorted(wanted - {one.object for one in series})
    if wanted:
        series = [one for one in series if one.object in wanted]
    lines: list[str] = []
    if unknown:
        lines.append(f"No velocity of {', '.join(unknown)} below {reduced}.")
    elif not series:
        lines.append(f"No velocity below {reduced}; run cal_ccf, or a sequence that ends with it.")
    try:
        places = write_velocities(reduced, series)
    except OSError as error:
        lines.append(
            f"{error.filename or reduced}: {error.strerror}; the files of velocities are not written."
        )
        return [*velocity_lines(_shown(series, planned), None, earlier), *lines], EXIT_STOPPED
    lines = [*velocity_lines(_shown(series, planned), places, earlier), *problem_lines(problems), *lines]
    return lines, EXIT_INVALID if unknown else EXIT_OK if series else EXIT_NOTHING


def _shown(series: Sequence[Series], planned: Collection[str] | None) -> list[Series]:
    """Series that hold a planned frame, whatever spectrum of it counts."""
    wanted = None if planned is None else {_frame_and_mask(name) for name in planned}
    return [
        one for one in series if wanted is None or wanted & {_frame_and_mask(row.file) for row in one.rows}
    ]


def _frame_and_mask(name: str) -> tuple[str, str]:
    stem, _, rest = name.partition("_ccf_")
    return stem.partition("_")[0], rest


def compare_velocities(data: str | None, truth: Path | None, factor: float) -> int:
    """Print recovered velocities beside the injected ones of a simulation; returns the status."""
    from apero_dask.report.velocities import read_series
    from apero_dask.report.velocity_files import write_velocities
    from apero_dask.simulator.recovered import compare
    from apero_dask.simulator.settings import ConfigError

    trees = find_trees(data)
    reduced = trees.reduced
    series, _ = read_series(reduced)
    if not series:
        print(f"No velocity below {reduced}; run cal_ccf, or a sequence that ends with it.", file=sys.stderr)
        return EXIT_NOTHING
    write_velocities(reduced, series)
    try:
        lines, agree = compare(
            reduced / VELOCITY_FOLDER, truth if truth is not None else trees.raw.parent, factor
        )
    except ConfigError as error:
        print(f"apero-dask compare-rv: {error}", file=sys.stderr)
        return EXIT_INVALID
    for text in lines:
        print(text)
    return EXIT_OK if agree else EXIT_FAILED
