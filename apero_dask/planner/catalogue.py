"""Who offers which calibration: planned runs, stored products, shipped first guesses."""

from __future__ import annotations

from dataclasses import dataclass, field

from apero_dask.core.declare import Makes, Select
from apero_dask.core.errors import Findings
from apero_dask.core.plan import Candidate, Selection, Task
from apero_dask.core.products import KINDS, MASTER, REFERENCE_DEFAULTS, Life
from apero_dask.core.settings import Settings
from apero_dask.core.snapshot import Snapshot
from apero_dask.planner.selection import Maker, Shelf, candidates

DEFAULT = "default:"
"""Prefix of the identity of a shipped first guess."""
GIVEN = "file:"
"""Prefix of the identity of a file that the user named."""
SHIPPED = frozenset(REFERENCE_DEFAULTS.values())
RUN_DEFAULTS = {"LEAKM": "LEAK0"}
"""Shipped guesses that night steps may use; the first guess of the wavelengths serves master steps only."""

ShelfKey = tuple[str, str]


def shelf_key(kind: str, fibre: str) -> ShelfKey:
    """Kind and localisation group under which makers are kept; fibres of one run share a shelf."""
    return (kind, fibre if kind in ("LOC", "ORDER_PROFILE") else "")


@dataclass(slots=True)
class Catalogue:
    """Makers of every calibration kind, growing as requests are expanded."""

    settings: Settings
    snapshot: Snapshot
    findings: Findings
    master_night: str
    midnights: dict[str, float]
    """Query time of every night, MJD."""
    only_show: bool
    """Missing reference products are warnings: nothing will be executed."""
    planned: dict[ShelfKey, list[Maker]] = field(default_factory=dict)
    master: dict[ShelfKey, str] = field(default_factory=dict)
    """Run key of the planned master-tier run by kind."""
    stored_master: dict[ShelfKey, str] = field(default_factory=dict)
    """Run identity of the stored master-tier product of the configured night by kind."""
    _stored: dict[ShelfKey, list[Maker]] = field(default_factory=dict)
    _shelves: dict[ShelfKey, Shelf] = field(default_factory=dict)
    _cache: dict[tuple[object, ...], Selection] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for marker in self.snapshot.calibrations():
            for kind, fibre in dict.fromkeys(shelf_key(o.kind, o.fibre) for o in marker.outputs):
                if not KINDS[kind].database and kind != "WAVEFPL":
                    continue
                if any(o.path in self.snapshot.damaged for o in marker.outputs if o.kind == kind):
                    continue
                if marker.tier == MASTER and marker.obs_dir == self.master_night:
                    self.stored_master[kind, fibre] = marker.identity
                if KINDS[kind].life is Life.NIGHTLY:
                    self._stored.setdefault((kind, fibre), []).append(
                        Maker(marker.time, marker.tier, marker.obs_dir, "", marker.identity, marker.stem)
                    )

    def add(self, task: Task) -> None:
        """Register the calibrations a planned run makes."""
        keys = dict.fromkeys(shelf_key(makes.kind, fibre) for makes in _made(task) for fibre in makes.fibres)
        for key in keys:
            if not KINDS[key[0]].database:
                continue
            if task.step.tier == MASTER:
                self.master.setdefault(key, task.key)
            if KINDS[key[0]].life is Life.NIGHTLY:
                self.planned.setdefault(key, []).append(
                    Maker(task.time, task.step.tier, task.obs_dir, task.key, "", task.stem)
                )

    def freeze(self) -> None:
        """Forget shelves made before the last additions."""
        self._shelves.clear()
        self._cache.clear()

    def shelf(self, key: ShelfKey) -> Shelf:
        """Planned makers, and stored ones of nights that are not made again."""
        found = self._shelves.get(key)
        if found is None:
            planned = self.planned.get(key, [])
            again = {(maker.tier, maker.obs_dir) for maker in planned}
            stored = [m for m in self._stored.get(key, []) if (m.tier, m.obs_dir) not in again]
            found = self._shelves[key] = Shelf.of([*planned, *stored])
        return found

    def select(self, select: Select, tier: str, night: str, time: float | None) -> Selection:
        """Ranked selection for a run of ``night``; ``time`` replaces the query time of the night."""
        at = self.midnights.get(night, float("nan")) if time is None else time
        key = (select, tier, night if tier != MASTER else "", time)
        found = self._cache.get(key)
        if found is None:
            found = self._cache[key] = Selection(
                select.kinds,
                select.fibre,
                select.applies_to,
                select.optional,
                self._rank(select, tier, night, at),
            )
        return found

    def _rank(self, select: Select, tier: str, night: str, time: float) -> tuple[Candidate, ...]:
        ranked = self._of_kind(select.kinds, select.fibre, tier, night, time, first=1, other=False)
        for kind in select.fallback:
            ranked += self._of_kind(
                (kind,), select.fibre, tier, night, time, first=len(ranked) + 1, other=True
            )
        return tuple(ranked)

    def _of_kind(
        self,
        kinds: tuple[str, ...],
        fibre: str,
        tier: str,
        night: str,
        time: float,
        *,
        first: int,
        other: bool,
    ) -> list[Candidate]:
        kind = kinds[0]
        key = shelf_key(kind, fibre)
        if kind in SHIPPED:
            return [Candidate("", DEFAULT + kind, MASTER, "", 0, kinds, other)]
        if tier == MASTER or KINDS[kind].life is Life.REFERENCE:
            if key in self.master:
                return [Candidate(self.master[key], "", MASTER, self.master_night, 0, kinds, other)]
            if key in self.stored_master:
                return [Candidate("", self.stored_master[key], MASTER, self.master_night, 0, kinds, other)]
            if kind in RUN_DEFAULTS and tier != MASTER:
                return [Candidate("", DEFAULT + RUN_DEFAULTS[kind], MASTER, "", 0, kinds, True)]
            return []
        if time != time:
            return []
        return candidates(self.shelf(key), kinds, night, time, self.settings, first=first, other=other)

    def selections(self, task: Task) -> tuple[Selection, ...]:
        """All selections of a run; a calibration file named on its command line replaces the search."""
        step = task.step
        given = {
            option.calibration: (option.name, value)
            for name, value in task.options
            if (option := step.recipe.option(name)) is not None and option.calibration
        }
        time = None
        if not self.settings.calib_bin_in_time and step.recipe.group == "file":
            time = task.time
        result = []
        for select in step.recipe.selects:
            if not select.applies(step.tier, step.variant, task.science, task.reference):
                continue
            named = [str(given[kind][1]) for kind in (*select.kinds, *select.fallback) if kind in given]
            if named:
                only = tuple(
                    Candidate("", GIVEN + name, step.tier, task.obs_dir, 0, select.kinds, False)
                    for name in named[:1]
                )
                result.append(Selection(select.kinds, select.fibre, select.applies_to, False, only))
            else:
                result.append(self.select(select, step.tier, task.obs_dir, time))
        return tuple(result)

    def report_missing(self, tasks: list[Task]) -> None:
        """Report selections without any candidate: reference products one by one, nightly ones by step."""
        nightly: dict[str, dict[str, list[Task]]] = {}
        reference: dict[str, str] = {}
        for task in tasks:
            for selection in task.selections:
                if selection.candidates or selection.optional:
                    continue
                kind, short = selection.kinds[0], task.step.short
                if task.step.tier == MASTER or KINDS[kind].life is Life.REFERENCE:
                    reference.setdefault(kind, short)
                else:
                    steps = nightly.setdefault("/".join(selection.kinds), {})
                    steps.setdefault(short, []).append(task)
        for kind, short in reference.items():
            night = self.master_night or "an unknown night (MASTER_OBS_DIR is not set)"
            if self.settings.trigger_run:
                self.findings.add("E-TRIGGER-MASTER", key=kind)
            else:
                self.findings.add(
                    "E-MASTER-PRODUCT", only_warn=self.only_show, short=short, key=kind, night=night
                )
        for key, steps in nightly.items():
            first = next(iter(steps.values()))[0]
            self.findings.add(
                "W-NO-CALIB",
                short=", ".join(steps),
                key=key,
                n=len({task.key for found in steps.values() for task in found}),
                first=first.stem or first.obs_dir,
                sequence="calib_seq",
            )


def _made(task: Task) -> list[Makes]:
    return [m for m in task.step.recipe.makes if m.applies(task.step.variant, task.reference)]
