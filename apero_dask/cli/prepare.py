"""Everything between the command line and a plan: data trees, run file, assets, frame index, snapshot."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from apero_dask.core.errors import Findings, one_line
from apero_dask.core.plan import Plan
from apero_dask.core.settings import Settings
from apero_dask.core.snapshot import Snapshot
from apero_dask.instruments.base import INSTRUMENTS, Instrument, instrument
from apero_dask.io.trees import OUTPUT_TREES, Trees, check_trees, find_trees
from apero_dask.runfile.merge import CommandLine, merge
from apero_dask.runfile.reader import locate, read_file

UNIX_EPOCH_MJD = 40587.0


@dataclass(frozen=True, slots=True)
class Prepared:
    """A plan with what it was made from."""

    plan: Plan
    settings: Settings
    instrument: Instrument
    trees: Trees
    run_file: Path
    findings: Findings


def prepare(line: CommandLine) -> Prepared:
    """Read everything the command needs and plan.

    Raises
    ------
    UserError
        With all findings, if the command, the run file or the data root cannot be used.
    """
    findings = Findings()
    if line.instrument.upper() not in INSTRUMENTS:
        findings.add("E-INSTRUMENT", name=line.instrument, list=one_line(INSTRUMENTS))
        findings.raise_errors()
    described = instrument(line.instrument)
    trees = find_trees(line.data)
    run_file = locate(line.run_file, trees.runs, findings)
    read = read_file(run_file, findings)
    settings = merge(read, line, findings)
    only_show = line.plan is not None or settings.test_run
    findings.extend(check_trees(trees, write=() if only_show else OUTPUT_TREES))
    findings.raise_errors(settings.strict)
    plan = make_plan(settings, described, trees, findings, only_show=only_show)
    findings.extend(plan.findings)
    findings.raise_errors(settings.strict)
    return Prepared(plan, settings, described, trees, run_file, findings)


def make_plan(
    settings: Settings, described: Instrument, trees: Trees, findings: Findings, *, only_show: bool
) -> Plan:
    """Scan the archive and plan."""
    from apero_dask.io.assets import list_masks, read_objects, read_reject
    from apero_dask.io.cache import CACHE_FILE
    from apero_dask.io.indexer import scan
    from apero_dask.planner.build import build_plan
    from apero_dask.planner.filters import Rejection

    objects = read_objects(trees.assets / "objects.csv")
    rejects = read_reject(trees.assets / "reject.csv")
    masks, mask_findings = list_masks(trees.assets)
    findings.extend([*objects.findings, *rejects.findings, *mask_findings])
    index = scan(
        trees.raw,
        described,
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
    snapshot = Snapshot.of(masks=[*masks, *given], listing=_listings(settings, trees), tree=str(trees.raw))
    return build_plan(
        index,
        settings,
        described,
        snapshot=snapshot,
        names=objects.names,
        rejections={row.identifier: Rejection(row.pp, row.tel, row.rv) for row in rejects.entries.values()},
        only_show=only_show,
    )


def _listings(settings: Settings, trees: Trees) -> dict[str, list[str]]:
    """Names in the folders that explicit lines can refer to."""
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


def cannot_run(plan: Plan) -> list[str]:
    """Recipes of the plan that this version declares but cannot execute, in plan order."""
    names: Iterable[str] = dict.fromkeys(
        task.step.recipe.name for task in plan.tasks if task.step.recipe.body is None
    )
    return list(names)
