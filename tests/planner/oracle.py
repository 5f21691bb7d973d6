"""Recipe by recipe: the whole archive through one step, then through the next.

A naive restatement of how outcomes follow from each other, written from the rules and not from the resolver:
every step is finished everywhere before the next one begins, so that nothing ever waits, and calibrations are
looked for among everything the plan makes.  It reads inputs and names of the plan, never its selections.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from apero_dask.core.outcome import State
from apero_dask.core.plan import Node, Plan, Task
from apero_dask.core.settings import Settings

PASSED, QC = State.DONE, State.QC_FAILED

# What a run needs, in the words of the table of steps: (kinds taken from one run, fibre group).
BADPIX = (("BADPIX", "BKGRDMAP"), "")
EXTRACTION = [
    (("DARKM",), ""),
    BADPIX,
    (("LOC", "ORDER_PROFILE"), "AB"),
    (("LOC", "ORDER_PROFILE"), "C"),
    (("SHAPEX", "SHAPEY"), ""),
    (("SHAPEL",), ""),
    (("FLAT", "BLAZE"), ""),
]
REFERENCE = {"DARKM", "SHAPEX", "SHAPEY", "FPMASTER", "LEAKM", "WAVEM", "WAVEFPL"}
LAMPS = {"fp", "hc1", "flat"}


Step = tuple[int, str]
"""Id and step number."""


@dataclass
class Oracle:
    """States and calibration choices of a plan whose runs would end as ``would_end`` says."""

    plan: Plan
    settings: Settings
    midnights: Mapping[str, float]
    would_end: Mapping[str, State] = field(default_factory=dict)
    states: dict[str, State] = field(default_factory=dict)
    choices: dict[str, dict[tuple[str, str, str], str]] = field(default_factory=dict)
    """By run: (first kind, fibre group, purpose) -> run key, default or nothing."""
    used: dict[str, dict[str, list[str]]] = field(default_factory=dict)
    """By run and argument: files."""
    makers: dict[tuple[str, str], list[Task]] = field(default_factory=dict)
    """Runs that make a kind, of one fibre group or (empty) of any."""
    masters: bool = False

    def __post_init__(self) -> None:
        for task in self.plan.tasks:
            self.masters = self.masters or task.step.tier == "master"
            for kind, fibre, _ in task.outputs():
                for group in {fibre, ""}:
                    known = self.makers.setdefault((kind, group), [])
                    if task not in known[-1:]:
                        known.append(task)

    def run(self, would_end: Mapping[str, State]) -> Oracle:
        """Go through the steps."""
        self.would_end = would_end
        self.states, self.choices, self.used = {}, {}, {}
        for step in self._steps():
            for task in self.plan.tasks:
                if (task.step.request, task.step.label) == step:
                    state = self._before_start(task)
                    self.states[task.key] = self.would_end[task.key] if state is None else state
        self._gate()
        for node in self.plan.nodes:
            self._model(node)
        return self

    def _steps(self) -> list[Step]:
        shorts: dict[Step, str] = {}
        for task in self.plan.tasks:
            shorts[task.step.request, task.step.label] = task.step.short
        steps = list(shorts)
        # The reference leak needs the thermal product that the list of the steps names after it.
        leak = [s for s in steps if shorts[s] == "LEAKM"]
        thermal = [s for s in steps if shorts[s] == "THIM"]
        if leak and thermal:
            steps.remove(leak[0])
            steps.insert(steps.index(thermal[0]) + 1, leak[0])
        return steps

    def _gate(self) -> None:
        for node in self.plan.nodes:
            if node.kind == "gate":
                ok = all(self.states[m] is PASSED for m in node.members)
                self.states[node.key] = PASSED if ok else State.BLOCKED_MASTER

    def _before_start(self, task: Task) -> State | None:
        if self.masters and task.step.tier == "night" and task.step.short != "PP":
            if "GATE-MASTER_OK" not in self.states:
                self._gate()
            if self.states["GATE-MASTER_OK"] is not PASSED:
                return State.BLOCKED_MASTER
        self.used[task.key] = {}
        for argument in task.inputs:
            files: list[str] = []
            others = False
            paths = argument.paths()
            each = len(paths) // len(argument.producers)
            for number, producer in enumerate(argument.producers):
                mine = paths[number * each : (number + 1) * each]
                if producer == "stored":
                    files += mine
                    continue
                item = self.plan.by_key[producer]
                if isinstance(item, Node):
                    self._model(item)
                if self.states[producer] is PASSED:
                    files += mine
                elif isinstance(item, Node) and self.states[producer] is State.FAILED_CALIB:
                    return State.FAILED_CALIB
                elif self.states[producer] is not QC:
                    others = True
            if not files and argument.required:
                return State.BLOCKED if others else State.FAILED_INPUT
            self.used[task.key][argument.argument] = files
        self.choices[task.key] = {}
        for kinds, group, fallback, purpose, optional in needs(task):
            chosen, blocked = self._choose(task, kinds, group, fallback)
            if chosen == "" and (blocked or not optional):
                return State.BLOCKED if blocked else State.FAILED_CALIB
            self.choices[task.key][kinds[0], group, purpose] = chosen
        return None

    # -- calibrations ---------------------------------------------------------------------------

    def _choose(
        self, task: Task, kinds: tuple[str, ...], group: str, fallback: tuple[str, ...]
    ) -> tuple[str, bool]:
        """Run key of the calibration, and whether a fixed one failed."""
        blocked = False
        for kind in (kinds[0], *fallback):
            if kind in ("WAVE0", "LEAK0"):
                return f"default:{kind}", False
            makers = self.makers.get((kind, group), [])
            if task.step.tier == "master" or kind in REFERENCE:
                masters = [t for t in makers if t.step.tier == "master"]
                if masters and self.states[masters[0].key] is PASSED:
                    return masters[0].key, False
                blocked = blocked or bool(masters)
                continue
            for maker in self._ranked(makers, task):
                if self.states[maker.key] is PASSED:
                    return maker.key, False
        return "", blocked

    def _ranked(self, makers: list[Task], task: Task) -> list[Task]:
        night = self.midnights[task.obs_dir]
        own = [m for m in makers if m.step.tier == "night" and m.obs_dir == task.obs_dir]
        near = [
            m
            for m in makers
            if m not in own
            and abs(m.time - night) <= self.settings.max_calib_dtime
            and not (self.settings.calib_db_match == "older" and m.time > night)
            and not (self.settings.calib_db_match == "newer" and m.time < night)
        ]

        def order(m: Task) -> tuple[float, float, bool]:
            return (round(abs(m.time - night), 6), m.time, m.step.tier == "master")

        return sorted(own, key=order) + sorted(near, key=order)

    def _model(self, node: Node) -> None:
        if node.key in self.states or node.kind != "model":
            return
        for members in (node.members, node.fallback):
            passed = [key for key in members if self.states[key] is PASSED]
            if passed:
                self.used[node.key] = {"transmissions": [p for k in passed for p in self._transmission(k)]}
                self.states[node.key] = self.would_end[node.key]
                return
        fates = [self.states[key] for key in [*node.members, *node.fallback]]
        shut = bool(fates) and all(fate is State.BLOCKED_MASTER for fate in fates)
        self.states[node.key] = State.BLOCKED_MASTER if shut else State.FAILED_CALIB

    def _transmission(self, key: str) -> list[str]:
        task = self.plan.by_key[key]
        assert isinstance(task, Task)
        return [path for _, _, path in task.outputs()]


Need = tuple[tuple[str, ...], str, tuple[str, ...], str, bool]
"""Kinds of one run, fibre group, kinds instead, fibres it is for, and whether the run goes on without."""


def needs(task: Task) -> list[Need]:
    """Calibrations of a run by the table of steps."""

    def plain(rows: list[tuple[tuple[str, ...], str]]) -> list[Need]:
        return [(kinds, group, (), "", False) for kinds, group in rows]

    master = task.step.tier == "master"
    wave: list[Need] = [(("WAVE",), "", ("WAVEM",), "", False)]
    short = task.step.short
    if short in ("LOCM", "LOC"):
        return plain([(("DARKM",), ""), BADPIX])
    if short == "SHAPEM":
        return plain([(("DARKM",), ""), BADPIX, (("LOC", "ORDER_PROFILE"), "AB"), (("WAVE0",), "")])
    if short in ("SHAPELM", "SHAPE"):
        return plain([(("DARKM",), ""), BADPIX, (("SHAPEX", "SHAPEY", "FPMASTER"), "")])
    if short in ("FLATM", "FF"):
        return plain(EXTRACTION[:-1])
    if short in ("THIM", "THTM", "THERMAL"):
        return plain([*EXTRACTION, (("WAVE0",) if master else ("WAVEM",), "")])
    if short == "LEAKM":
        return [
            *plain(EXTRACTION),
            (("THERMALI",), "", (), "reference", True),
            *plain([(("WAVE0",), "")]),
        ]
    if short == "WAVEM":
        return plain([*EXTRACTION, (("THERMALI",), ""), (("WAVE0",), "")])
    if short == "WAVE":
        return plain([*EXTRACTION, (("THERMALI",), ""), (("WAVEM", "WAVECAV", "WAVEHCL"), "")])
    if short.startswith("EXT"):
        found = plain(EXTRACTION)
        if task.science == "star":
            found.append((("THERMALT",), "", ("THERMALI",), "science", False))
        if task.science in LAMPS:
            found.append((("THERMALI",), "", (), "science", False))
        if task.reference in LAMPS:
            found.append((("THERMALI",), "", (), "reference", False))
        found += wave
        if task.reference == "fp":
            found.append((("WAVEFPL",), "", (), "reference", False))
        return found
    blaze = plain([(("FLAT", "BLAZE"), "")])
    if short.startswith("LEAK"):
        return [(("LEAKM",), "", ("LEAK0",), "", False), *blaze, *wave]
    if short in ("MKTELLU1", "MKTELLU2", "MKTELLU4", "FTELLU1", "FTELLU3"):
        return [*plain([(("WAVEM", "WAVR_E2DS"), "")]), *wave, *blaze]
    if short in ("MKTELLU3", "FTELLU2"):
        return plain([(("WAVEM",), "")])
    if short == "CCF":
        return [*wave, *blaze]
    return []
