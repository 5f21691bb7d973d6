"""``apero-dask assets``: what the assets folder holds."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path

from apero_dask.core.errors import EXIT_INVALID, EXIT_NOTHING, EXIT_OK, Findings, UserError
from apero_dask.io.trees import find_trees

SECONDS_PER_DAY = 86400.0


def show_assets(data: str | None) -> int:
    """Print what is there and what is wrong with it; status 2 if a file cannot be used."""
    from apero_dask.io.assets import OBJECTS_FILE, REJECT_FILE, list_masks, read_objects, read_reject

    folder = find_trees(data).assets
    if not folder.is_dir():
        print(
            f"{folder} does not exist: no object table, reject list, masks or detector files are used. "
            "Name the data root with --data or APERO_DATA.",
            file=sys.stderr,
        )
        return EXIT_NOTHING
    objects, rejects = read_objects(folder / OBJECTS_FILE), read_reject(folder / REJECT_FILE)
    masks, mask_findings = list_masks(folder)
    aliases = len(objects.names.main) - len(objects.rows)
    print(f"assets     {folder}")
    print(f"objects    {_counted(folder / OBJECTS_FILE, f'{len(objects.rows)} objects, {aliases} aliases')}")
    counts = ", ".join(f"{len(rejects.identifiers(c))} for {c.upper()}" for c in ("pp", "tel", "rv"))
    print(f"rejected   {_counted(folder / REJECT_FILE, f'{len(rejects.entries)} frames ({counts})')}")
    print(f"masks      {', '.join(sorted(masks)) or 'none'}")
    for text in _detector_lines(folder):
        print(text)
    findings = [*objects.findings, *rejects.findings, *mask_findings]
    for finding in findings:
        print(finding, file=sys.stderr)
    return EXIT_INVALID if any(finding.code == "W-ASSET-FILE" for finding in findings) else EXIT_OK


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
        if text.startswith(f"detector   {described.name}:"):
            print(text)
    return EXIT_OK


def _counted(path: Path, text: str) -> str:
    return text if path.exists() else f"none ({path.name} is not there)"


def _detector_lines(folder: Path) -> Iterator[str]:
    """Contents of the detector file of every instrument."""
    from apero_dask.core.errors import DataError
    from apero_dask.instruments.base import INSTRUMENTS, instrument
    from apero_dask.recipes.detector_assets import assets_path, read_assets

    for name in INSTRUMENTS:
        described = instrument(name)
        path = assets_path(folder, described)
        if not path.exists():
            yield f"detector   {name}: none ({path.name} is not there)"
            continue
        try:
            found = read_assets(path, described)
        except (DataError, OSError) as error:
            yield f"detector   {name}: cannot be used: {error}"
            continue
        parts = [f"{len(found.hot_rows)} hot pixels" if found.hot_rows is not None else "no hot pixels"]
        for label, plane in (
            ("amplifier pattern", found.slope_map),
            ("bias structure", found.bias),
            ("flat", found.flat),
        ):
            if plane is not None:
                parts.append(label)
        yield f"detector   {name}: {', '.join(parts)}"
