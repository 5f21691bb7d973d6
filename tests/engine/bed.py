"""The engine test bed: a data root of the three-night archive, reduced by stand-in recipes.

Raw frames hold a header only, so that a whole reduction takes seconds; planner, engine, FITS writer, markers,
state and databases are the real ones.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from apero_dask.cli.prepare import product_listings
from apero_dask.core.outcome import Marker, State
from apero_dask.core.plan import Plan, Task
from apero_dask.core.settings import Request, Settings, Switch
from apero_dask.core.snapshot import Snapshot
from apero_dask.engine import invocation
from apero_dask.engine.backend import Backend
from apero_dask.engine.driver import Driver, Options, Result
from apero_dask.engine.serial import SerialBackend
from apero_dask.instruments import instrument
from apero_dask.io.atomic import is_temporary
from apero_dask.io.identify import KEYWORDS
from apero_dask.io.indexer import scan
from apero_dask.io.markers import absolute, marker_path
from apero_dask.io.trees import Trees, find_trees
from apero_dask.planner.build import build_plan
from apero_dask.simulator.cli import main as simulate
from apero_dask.state.disk import current_markers
from apero_dask.state.lock import DriverLock
from apero_dask.state.store import Store
from tests.engine import standins

INSTRUMENT = "SPIROU"
MASTER_NIGHT = "2018-09-25"
NIGHTS = ("2018-09-25", "2018-09-26", "2018-09-27")
SETTINGS = Settings(
    master_obs_dir=MASTER_NIGHT,
    science_targets=("Gl699", "TOI-442"),
    requests=(Request(1, 1, "limited_seq"),),
)
RUNS = 276
"""Runs of ``limited_seq`` on this archive."""
MASTERS = 11
MODELS = 2
"""Internal nodes with a product, executed like runs."""
NOW_MJD = 61000.0
STRUCTURE = ("SIMPLE", "BITPIX", "NAXIS", "EXTEND", "END")


def make_archive(root: Path) -> Path:
    """Write the raw frames of the archive, headers only."""
    assert simulate(["--campaign", "worked", "--headers-only", "--out", str(root)]) == 0
    for path in sorted((root / "raw").rglob("*.fits")):
        _keep_needed_cards(path)
    return root


def _keep_needed_cards(path: Path) -> None:
    """Leave only what identification reads: inherited cards are most of the cost of a tiny product."""
    content = path.read_bytes().decode("ascii")
    cards = [content[i : i + 80] for i in range(0, len(content), 80)]
    kept = [card for card in cards if card[:8].strip() in (*STRUCTURE, *KEYWORDS)]
    path.write_bytes("".join(kept).ljust(-(-len(kept) * 80 // 2880) * 2880).encode("ascii"))


def clone(root: Path, target: Path) -> Path:
    """Copy of a data root.  Products are replaced, never written in place, so that hard links will do."""
    for folder in ("raw", "tmp", "reduced", "log/markers"):
        if (root / folder).is_dir():
            shutil.copytree(root / folder, target / folder, copy_function=os.link)
    for path in (root / "log").glob("*"):
        if path.is_file() and path.name not in (standins.FAULTS, standins.TRACE):
            (target / "log").mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, target / "log" / path.name)
    return target


def skipping(*shorts: str) -> tuple[Switch, ...]:
    """Skip switches of these steps set to True; a part follows a blank."""
    return tuple(Switch(short.partition(" ")[0], short.partition(" ")[2], True) for short in shorts)


def all_shorts(plan: Plan) -> list[str]:
    """Short names of all steps of a plan."""
    return list(dict.fromkeys(task.step.short for task in plan.tasks))


def set_faults(root: Path, faults: Mapping[str, Mapping[str, Any]]) -> None:
    """Plan faults of runs; an empty mapping takes them back."""
    log = root / "log"
    log.mkdir(parents=True, exist_ok=True)
    (log / standins.FAULTS).write_text(json.dumps(faults), encoding="utf-8")


def named(store: Store, command: str, resume: bool = True) -> invocation.Named:
    """The first invocation of a data root always has the same name: file digests can be compared."""
    found = invocation.name_invocation(store, command, resume)
    if found.resume:
        return found
    number = 1
    while store.has_invocation(name := f"20260101T000000-{number}"):
        number += 1
    return invocation.Named(name, f"2026-01-{number:02d}T00:00:00", "")


@dataclass
class Reduced:
    """What one invocation did."""

    root: Path
    plan: Plan
    driver: Driver
    result: Result

    @property
    def states(self) -> dict[str, State]:
        """State by run key, internal nodes left out."""
        return {t.key: self.result.states[t.key] for t in self.plan.tasks if t.key in self.result.states}

    def counts(self) -> Counter[str]:
        """Number of runs by state."""
        return Counter(state.value for state in self.states.values())

    def of(self, short: str, place: str = "", stem: str = "") -> Task:
        """The only run of a step at a night (or of an object) with a stem."""
        found = [
            t
            for t in self.plan.tasks
            if t.step.short == short and place in ("", t.obs_dir, t.object) and stem in ("", t.stem)
        ]
        assert len(found) == 1, f"{len(found)} runs {short} {place} {stem}"
        return found[0]

    def state(self, short: str, place: str = "", stem: str = "") -> State:
        """State of one run."""
        return self.states[self.of(short, place, stem).key]

    def executed(self) -> Counter[str]:
        """Number of runs by step that were neither skipped nor stopped from starting."""
        return Counter(
            t.step.short
            for t in self.plan.tasks
            if (s := self.states.get(t.key)) is not None
            and (s in (State.DONE, State.QC_FAILED, State.FAILED_ERROR, State.FAILED_WORKER))
        )


@dataclass
class Prepared:
    """A planned invocation, ready to run."""

    root: Path
    trees: Trees
    store: Store
    named: invocation.Named
    snapshot: Snapshot
    plan: Plan
    settings: Settings


def prepare(
    root: Path, store: Store, settings: Settings = SETTINGS, command: str = "limited", resume: bool = True
) -> Prepared:
    """Everything before execution, as the command does it."""
    trees, described = find_trees(str(root)), instrument(INSTRUMENT)
    store.reconcile()
    name = named(store, command, resume)
    index = scan(trees.raw, described, now_mjd=NOW_MJD)
    snapshot = invocation.take_snapshot(
        store,
        trees,
        settings.skip_check,
        masks=[],
        listing=product_listings(settings, trees),
        instrument=INSTRUMENT,
    )
    plan = build_plan(index, settings, described, snapshot=snapshot, only_show=False, resume=name.resume)
    store.begin(name.invocation, command, "test", INSTRUMENT, name.started)
    return Prepared(root, trees, store, name, snapshot, plan, settings)


def reduce(
    root: Path,
    backend: Backend | None = None,
    *,
    settings: Settings = SETTINGS,
    options: Options | None = None,
    command: str = "limited",
    resume: bool = True,
) -> Reduced:
    """Run one invocation in this process, with the serial backend unless another one is given."""
    trees = find_trees(str(root))
    with standins.standing_in(), DriverLock(trees.log) as lock:
        store = Store(trees.log)
        try:
            ready = prepare(root, store, settings, command, resume)
            driver, result = invocation.execute(
                ready.plan,
                ready.snapshot,
                settings,
                instrument(INSTRUMENT),
                trees,
                ready.named,
                backend or SerialBackend(standins.run),
                store,
                options=options,
                lock_lost=lambda: lock.lost,
            )
        finally:
            store.close()
    return Reduced(root, ready.plan, driver, result)


def with_skip(*shorts: str) -> Settings:
    """The settings with finished runs of these steps skipped."""
    return replace(SETTINGS, skip_switches=skipping(*shorts))


def rerun(
    root: Path,
    reference: Reduced,
    faults: Mapping[str, Mapping[str, Any]],
    backend: Backend | None = None,
    options: Options | None = None,
) -> Reduced:
    """Take the markers of the faulty runs away and reduce again, with everything else up to date."""
    for task in reference.plan.tasks:
        short, night, stem = task.step.short, task.obs_dir, task.stem
        if {short, f"{short} {night}", f"{short} {stem}", f"{short} {night} {stem}"} & set(faults):
            marker_path(root / "log", task.identity()).unlink()
    set_faults(root, faults)
    forget_executions(root)
    return reduce(root, backend, settings=with_skip(*all_shorts(reference.plan)), options=options)


# -- what is on disk --------------------------------------------------------------------------


def markers(root: Path) -> list[Marker]:
    """Markers whose files are still theirs, as the state database has them."""
    store = Store(root / "log")
    try:
        store.reconcile()
        return current_markers(store.markers(), find_trees(str(root)))
    finally:
        store.close()


def contents(root: Path) -> dict[str, str]:
    """Content digest of every product, by path."""
    return {o.path: o.content for m in markers(root) for o in m.outputs}


def files(root: Path) -> dict[str, str]:
    """SHA-256 of every product on disk, read now; every marked product must have the marked digest."""
    trees = find_trees(str(root))
    found = {}
    for marker in markers(root):
        for output in marker.outputs:
            path = absolute(trees, output.path)
            found[output.path] = hashlib.sha256(path.read_bytes()).hexdigest()
            assert found[output.path] == output.digest, f"{output.path} is not what its marker says"
    return found


def unmarked(root: Path) -> list[str]:
    """Files of the product trees that no marker knows: partial, temporary or orphaned."""
    known = {o.path for m in markers(root) for o in m.outputs}
    there = {
        str(path.relative_to(root))
        for tree in ("tmp", "reduced")
        for path in (root / tree).rglob("*.*")
        if path.is_file()
    }
    return sorted(there - known)


def temporaries(root: Path) -> list[str]:
    """Temporary files anywhere below a data root."""
    return sorted(
        str(path.relative_to(root))
        for path in root.rglob(".*")
        if is_temporary(path.name) or (path.is_file() and "markers" in path.parts)
    )


def executions(root: Path) -> Counter[str]:
    """How often the body of every run was executed since :func:`forget_executions`, by run key."""
    path = root / "log" / standins.TRACE
    if not path.exists():
        return Counter()
    return Counter(line.split()[1] for line in path.read_text(encoding="utf-8").splitlines())


def forget_executions(root: Path) -> None:
    """Count executions anew."""
    (root / "log" / standins.TRACE).unlink(missing_ok=True)
