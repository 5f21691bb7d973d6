"""Everything between the command line and a plan: data trees, run file, assets, frame index, snapshot."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from apero_dask.core.errors import Findings, one_line
from apero_dask.core.frames import FrameIndex
from apero_dask.core.names import ObjectNames
from apero_dask.core.outcome import State
from apero_dask.core.plan import Plan
from apero_dask.core.settings import Settings
from apero_dask.core.snapshot import Snapshot
from apero_dask.deploy.site import BATCH, ClusterSettings, cluster_settings
from apero_dask.instruments.base import INSTRUMENTS, Instrument, instrument
from apero_dask.io.trees import OUTPUT_TREES, Trees, check_trees, find_trees
from apero_dask.runfile.merge import CommandLine, merge
from apero_dask.runfile.reader import RunFile, content_of, locate, read_text

if TYPE_CHECKING:
    from apero_dask.planner.filters import Rejection

UNIX_EPOCH_MJD = 40587.0


@dataclass(frozen=True, slots=True)
class Prepared:
    """What the command asks for, and where; made before anything is looked for in the archive."""

    settings: Settings
    instrument: Instrument
    trees: Trees
    run_file: Path
    content: bytes = field(repr=False)
    """Of the run file."""
    only_show: bool
    cluster: ClusterSettings = field(default_factory=ClusterSettings)
    """Where the runs are executed."""


def prepare(line: CommandLine, findings: Findings, text: str | None = None) -> Prepared:
    """Read the run file and check the data trees.

    ``text``: content of the run file, if there is none on the disk; the name in ``line`` is for messages.

    Raises
    ------
    UserError
        With all findings so far, if the command, the run file or the data root cannot be used.
    """
    if line.instrument.upper() not in INSTRUMENTS:
        findings.add("E-INSTRUMENT", name=line.instrument, list=one_line(INSTRUMENTS))
        findings.raise_errors()
    described = instrument(line.instrument)
    trees = find_trees(line.data)
    if text is None:
        run_file = locate(line.run_file, trees.runs, findings)
        content = content_of(run_file, findings)
    else:
        run_file, content = Path(line.run_file), text.encode()
    read = read_text(run_file.name, content, findings) if content is not None else RunFile(run_file.name)
    settings = merge(read, line, findings)
    cluster = cluster_settings(dict(settings.cluster), findings)
    only_show = line.plan is not None or settings.test_run
    findings.extend(check_trees(trees, write=() if only_show else OUTPUT_TREES))
    findings.raise_errors(settings.strict)
    return Prepared(settings, described, trees, run_file, content or b"", only_show, cluster)


@dataclass(frozen=True, slots=True)
class Archive:
    """What is in the archive now."""

    index: FrameIndex
    names: ObjectNames
    rejections: dict[str, Rejection]
    masks: list[str]
    listing: dict[str, list[str]]


def read_archive(prepared: Prepared, findings: Findings) -> Archive:
    """Scan the raw tree and read the assets."""
    from apero_dask.io.assets import list_masks, read_objects, read_reject
    from apero_dask.io.cache import CACHE_FILE
    from apero_dask.io.indexer import scan
    from apero_dask.planner.filters import Rejection

    settings, trees = prepared.settings, prepared.trees
    objects = read_objects(trees.assets / "objects.csv")
    rejects = read_reject(trees.assets / "reject.csv")
    masks, mask_findings = list_masks(trees.assets)
    findings.extend([*objects.findings, *rejects.findings, *mask_findings])
    index = scan(
        trees.raw,
        prepared.instrument,
        now_mjd=UNIX_EPOCH_MJD + time.time() / 86400.0,
        cache=trees.log / CACHE_FILE,
        names=objects.names,
        rescan=settings.update_fileindex_database,
    )
    given = [
        str(value)
        for request in settings.requests
        if request.command is not None
        for name, value in request.command.options
        if name == "mask" and Path(str(value)).is_file()
    ]
    return Archive(
        index,
        objects.names,
        {row.identifier: Rejection(row.pp, row.tel, row.rv) for row in rejects.entries.values()},
        [*masks, *given],
        product_listings(settings, trees),
    )


def plan_from(
    prepared: Prepared, archive: Archive, snapshot: Snapshot, findings: Findings, resume: str = ""
) -> Plan:
    """Plan and collect its findings.

    Raises
    ------
    UserError
        If anything found forbids to go on.
    """
    from apero_dask.planner.build import build_plan

    plan = build_plan(
        archive.index,
        prepared.settings,
        prepared.instrument,
        snapshot=snapshot,
        names=archive.names,
        rejections=archive.rejections,
        only_show=prepared.only_show,
        resume=resume,
    )
    findings.extend(plan.findings)
    findings.raise_errors(prepared.settings.strict)
    return plan


def stored_snapshot(prepared: Prepared, archive: Archive) -> Snapshot:
    """Snapshot for showing a plan: from the state database if there is one, without touching it."""
    from apero_dask.engine.codes import code_digests
    from apero_dask.engine.invocation import take_snapshot
    from apero_dask.io.markers import read_markers
    from apero_dask.state.disk import current_markers, damaged_outputs
    from apero_dask.state.store import StateError, Store

    trees = prepared.trees
    try:
        store = Store(trees.log, write=False)
    except StateError:
        # Not there yet, or damaged: the markers are what counts.
        markers = current_markers(read_markers(trees.log), trees)
        damaged, _ = damaged_outputs(markers, trees, {}, prepared.settings.skip_check)
        return Snapshot.of(
            markers,
            damaged=damaged,
            code=code_digests(
                trees.assets,
                prepared.instrument.name,
                [name for name in archive.masks if Path(name).is_file()],
            ),
            masks=archive.masks,
            listing=archive.listing,
            tree=str(trees.raw),
        )
    try:
        return take_snapshot(
            store,
            trees,
            prepared.settings.skip_check,
            masks=archive.masks,
            listing=archive.listing,
            instrument=prepared.instrument.name,
            save=False,
        )
    finally:
        store.close()


def product_listings(settings: Settings, trees: Trees) -> dict[str, list[str]]:
    """Names by folder of products: where explicit lines refer to, all of them if existence alone counts."""
    if settings.skip_check == "exists":
        found = {}
        for tree in ("tmp", "reduced"):
            for folder, _, names in os.walk(trees.path(tree)):
                inside = Path(folder).relative_to(trees.path(tree)).as_posix()
                found[f"{tree}/{inside}"] = sorted(names)
        return found
    nights = sorted(
        {r.command.obs_dir for r in settings.requests if r.command is not None and r.command.obs_dir}
    )
    folders = [
        (f"{tree}/{night}", trees.path(tree) / night) for night in nights for tree in ("tmp", "reduced")
    ]
    folders += [(f"reduced/master/{night}", trees.reduced / "master" / night) for night in nights]
    return {name: _names(folder) for name, folder in folders}


def _names(folder: Path) -> list[str]:
    try:
        return sorted(entry.name for entry in folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []


def usable_slots(prepared: Prepared, findings: Findings) -> int:
    """Parallel slots that CORES means here, with the warnings about it.

    Where jobs are submitted, the processors it counts from are those of the jobs.
    """
    from apero_dask.deploy.sizing import DEFAULT_JOBS
    from apero_dask.deploy.slots import available_processors, slots

    settings, cluster = prepared.settings, prepared.cluster
    local = cluster.kind == "local"
    there = cluster.workers or DEFAULT_JOBS if cluster.kind in BATCH else available_processors()
    return slots(settings.cores, there, findings, settings.lines.get("CORES", 0), local)


def cannot_run(plan: Plan) -> list[str]:
    """Recipes to be executed that this version declares but cannot execute, in plan order."""
    names: Iterable[str] = dict.fromkeys(
        task.step.recipe.name
        for task in plan.tasks
        if task.state is State.PLANNED and task.step.recipe.body is None
    )
    return list(names)
