"""Who offers which calibration: planned runs, stored products, shipped first guesses."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from apero_dask.core.declare import Select, options_set, registered
from apero_dask.core.errors import Findings
from apero_dask.core.layout import layout
from apero_dask.core.outcome import Marker
from apero_dask.core.plan import Candidate, Selection, Step, Task
from apero_dask.core.products import KINDS, MASTER, REFERENCE_DEFAULTS, Life
from apero_dask.core.settings import Settings
from apero_dask.core.snapshot import Snapshot
from apero_dask.planner.selection import Maker, Shelf, candidates

DEFAULT = "default:"
"""Prefix of the identity of a shipped first guess."""
GIVEN = "file:"
"""Prefix of the identity of a file that the user named."""
SHIPPED = frozenset(REFERENCE_DEFAULTS.values())

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
    _numbers: dict[int, tuple[Select, int]] = field(default_factory=dict)
    """Declaration, kept alive, and the number of its equals, by its identity."""
    _equal: dict[Select, int] = field(default_factory=dict)
    _sets: dict[tuple[object, ...], tuple[Step, tuple[Selection, ...]]] = field(default_factory=dict)
    _grown: bool = False
    _lacks: bool = False
    """Some selection has no candidate and cannot be done without."""

    def __post_init__(self) -> None:
        for marker in self.snapshot.calibrations():
            made = [o for o in marker.outputs if KINDS[o.kind].database == "calib"]
            if any(o.path in self.snapshot.damaged for o in made):
                # Products of one run are chosen together, so one damaged file makes the run useless.
                continue
            for key in dict.fromkeys(shelf_key(o.kind, o.fibre) for o in made):
                if marker.tier == MASTER and marker.obs_dir == self.master_night:
                    self.stored_master[key] = marker.identity
                if KINDS[key[0]].life is Life.NIGHTLY:
                    self._stored.setdefault(key, []).append(_stored_maker(marker))

    def add(self, task: Task) -> None:
        """Register the calibrations a planned run makes."""
        recipe, step = task.step.recipe, task.step
        self._grown = True
        for key in dict.fromkeys(
            shelf_key(kind, fibre)
            for kind, _, fibres in layout(recipe, step.variant, task.reference)
            for fibre in fibres
        ):
            if KINDS[key[0]].database != "calib":
                continue
            if step.tier == MASTER and task.obs_dir == self.master_night:
                self.master[key] = task.key
            if KINDS[key[0]].life is Life.NIGHTLY:
                self.planned.setdefault(key, []).append(
                    Maker(task.time, step.tier, task.obs_dir, task.key, "", task.stem)
                )

    def freeze(self) -> None:
        """Forget what was ranked before the last additions."""
        if self._grown:
            self._shelves.clear()
            self._cache.clear()
            self._sets.clear()
            self._grown = False

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
        # Equal declarations share a number: hashing them for every run takes longer than all the rest.
        known = self._numbers.get(id(select))
        if known is None:
            known = self._numbers[id(select)] = (select, self._equal.setdefault(select, len(self._equal)))
        key = (known[1], tier, night if tier != MASTER else "", time)
        found = self._cache.get(key)
        if found is None:
            at = self.midnights.get(night, float("nan")) if time is None else time
            ranked = self._rank(select, tier, night, at)
            found = Selection(select.kinds, select.fibre, select.applies_to, select.optional, ranked)
            self._cache[key] = found
            self._lacks = self._lacks or not (found.candidates or found.optional)
        return found

    def _rank(self, select: Select, tier: str, night: str, time: float) -> tuple[Candidate, ...]:
        ranked: list[Candidate] = []
        for kinds in (select.kinds, *((kind,) for kind in select.fallback)):
            ranked += self._of_kind(kinds, select, tier, night, time, after=len(ranked) and ranked[-1].rank)
        return tuple(ranked)

    def _of_kind(
        self, kinds: tuple[str, ...], select: Select, tier: str, night: str, time: float, *, after: int
    ) -> list[Candidate]:
        """Candidates that offer ``kinds``: those asked for, or one of the fallbacks."""
        kind = kinds[0]
        other = kinds != select.kinds
        key = shelf_key(kind, select.fibre)
        if kind in SHIPPED:
            return [Candidate("", DEFAULT + kind, MASTER, "", 0, kinds, other)]
        if tier == MASTER or KINDS[kind].life is Life.REFERENCE:
            if key in self.master:
                return [Candidate(self.master[key], "", MASTER, self.master_night, 0, kinds, other)]
            if key in self.stored_master:
                return [Candidate("", self.stored_master[key], MASTER, self.master_night, 0, kinds, other)]
            return []
        return candidates(self.shelf(key), kinds, night, time, self.settings, after=after, other=other)

    def selections(self, task: Task) -> tuple[Selection, ...]:
        """All selections of a run; a calibration file named on its command line replaces the search.

        Equal runs get the same tuple object.
        """
        step = task.step
        time = None
        if not self.settings.calib_bin_in_time and step.recipe.group == "file":
            time = task.time
        if task.options:
            return self._selections(task, time, _given(task))
        # By the identity of the step, which the entry keeps alive: hashing it for every run takes too long.
        key = (id(step), task.obs_dir, task.science, task.reference, time)
        found = self._sets.get(key)
        if found is None:
            found = self._sets[key] = (step, self._selections(task, time, {}))
        return found[1]

    def _selections(self, task: Task, time: float | None, given: dict[str, str]) -> tuple[Selection, ...]:
        step = task.step
        result = []
        asked = {kind for select in step.recipe.selects for kind in select.kinds} if given else set()
        for kind in sorted(set(given) - asked):
            # Starting values and templates are not searched for; the line names them or there is none.
            only = Candidate("", GIVEN + given[kind], step.tier, task.obs_dir, 0, (kind,), False)
            result.append(Selection((kind,), "", "", False, (only,)))
        switched = options_set(task.options)
        for select in step.recipe.selects:
            if not select.applies(step.tier, step.variant, task.science, task.reference, switched):
                continue
            if not given:
                result.append(self.select(select, step.tier, task.obs_dir, time))
                continue
            named = [k for k in select.kinds if k in given and _is_for(given[k], select.fibre)]
            for kind in named:
                only = Candidate("", GIVEN + given[kind], step.tier, task.obs_dir, 0, (kind,), False)
                result.append(Selection((kind,), select.fibre, select.applies_to, False, (only,)))
            rest = tuple(kind for kind in select.kinds if kind not in named)
            if rest:
                wanted = select if not named else replace(select, kinds=rest)
                result.append(self.select(wanted, step.tier, task.obs_dir, time))
        return tuple(result)

    def report_missing(self, tasks: list[Task]) -> None:
        """Report selections without any candidate: reference products one by one, nightly ones by step."""
        if not self._lacks:
            return
        nightly: dict[str, dict[str, list[Task]]] = {}
        reference: dict[str, str] = {}
        lacking: dict[int, list[Selection]] = {}
        # A product of a run that makes several is named after the first of them, as users know it.
        leading = {makes.kind: r.makes[0].kind for r in registered().values() for makes in r.makes}
        for task in tasks:
            empty = lacking.get(id(task.selections))
            if empty is None:
                empty = lacking[id(task.selections)] = [
                    s for s in task.selections if not s.candidates and not s.optional
                ]
            for selection in empty:
                kind, short = selection.kinds[0], task.step.short
                if task.step.tier == MASTER or KINDS[kind].life is Life.REFERENCE:
                    reference.setdefault(leading.get(kind, kind), short)
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


def _stored_maker(marker: Marker) -> Maker:
    return Maker(marker.time, marker.tier, marker.obs_dir, "", marker.identity, marker.stem)


def _given(task: Task) -> dict[str, str]:
    """Calibration files named on the recipe line, by the kind they replace."""
    found = {}
    for name, value in task.options:
        option = task.step.recipe.option(name)
        if option is not None and option.calibration:
            found[option.calibration] = str(value)
    return found


def _is_for(name: str, group: str) -> bool:
    """Whether a named file serves a localisation group; only names of the other group say no."""
    last = name.rpartition("/")[2].removesuffix(".fits").rpartition("_")[2]
    return not group or last not in ("AB", "C") or last == group
