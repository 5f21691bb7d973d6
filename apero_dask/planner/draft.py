"""The plan while it grows: what is made so far, what is stored, who produces a file."""

from __future__ import annotations

from dataclasses import dataclass, field

from apero_dask.core.declare import Group, OptionValue, Recipe, only_fibre, options_set
from apero_dask.core.errors import Findings
from apero_dask.core.frames import RawFrame
from apero_dask.core.ids import step_prefix
from apero_dask.core.layout import ending, layout
from apero_dask.core.names import ObjectNames
from apero_dask.core.outcome import Marker, OutputRecord, State
from apero_dask.core.plan import MISSING, STORED, Inputs, Node, Step, StepCount, Task
from apero_dask.core.products import KINDS, NIGHT, Life, folder
from apero_dask.core.settings import Settings
from apero_dask.core.snapshot import Snapshot
from apero_dask.instruments.base import Instrument
from apero_dask.planner.catalogue import Catalogue, ShelfKey, shelf_key
from apero_dask.planner.filters import Selected, Targets, takes
from apero_dask.planner.sequences import STAR_FP, TRANSMISSIONS, Row

PACKAGED = ("LCORR", "TCORR", "RECON", "CCF")
"""Kinds that the packaged files gather beside the spectrum itself; what the same runs make follows."""


@dataclass(slots=True)
class Request:
    """Context of one id while its rows are expanded."""

    number: int
    targets: Targets
    is_line: bool = False
    """An explicit recipe line."""
    line: int = 0
    """Line of the run file."""
    options: tuple[tuple[str, OptionValue], ...] = ()
    """Options of the line that change the result."""
    is_off: bool = False
    """The line is switched off: its run is listed, makes nothing and starts never."""
    tasks: list[Task] = field(default_factory=list)
    wanted: set[ShelfKey] = field(default_factory=set)
    """Products that its active rows are there to make."""
    made: set[ShelfKey] = field(default_factory=set)
    """Products that at least one of its runs makes."""
    frames: dict[tuple[tuple[str, ...], str, str], list[RawFrame]] = field(default_factory=dict)
    """Frames by types, targets and object of the rows that take them."""
    models: dict[bool, Inputs] = field(default_factory=dict)
    """Residual models of its telluric fits: of the first transmissions (True) and of the final ones."""


@dataclass(frozen=True, slots=True)
class Lane:
    """What the runs of one step with the same reference light and mask share; looked up once per run."""

    step: Step
    """Keeps the step alive, whose identity finds the lane."""
    prefix: str
    """Beginning of the run keys."""
    same: dict[tuple[str, str, str], Task]
    """Planned runs of this recipe, tier, variant and mask by night, object and stem."""
    by_frame: bool
    """One run per frame."""
    tables: list[dict[str, str]]
    """Tables of producers by frame that its runs enter."""
    sets: list[list[Task]]
    """Sets of transmissions that its runs enter."""
    made: tuple[ShelfKey, ...]
    """Products of each run."""


@dataclass(slots=True)
class Draft:
    """Everything planned so far, request by request; knows what every earlier request makes."""

    settings: Settings
    instrument: Instrument
    recipes: dict[str, Recipe]
    selected: Selected
    snapshot: Snapshot
    catalogue: Catalogue
    findings: Findings
    only_show: bool
    names: ObjectNames
    has_master: bool
    """The plan contains an active master step."""
    tasks: list[Task] = field(default_factory=list)
    by_key: dict[str, Task] = field(default_factory=dict)
    nodes: list[Node] = field(default_factory=list)
    counts: list[StepCount] = field(default_factory=list)
    made: dict[str, dict[str, str]] = field(default_factory=dict)
    """Run key by product kind and frame identifier, for kinds that other steps read."""
    templates: dict[str, str] = field(default_factory=dict)
    """Run key of the template of an object."""
    future_templates: frozenset[str] = frozenset()
    """Objects whose template this plan makes anew: their stored template is of the past."""
    transmissions: dict[str, list[Task]] = field(default_factory=dict)
    """Runs that make TRANS1 and TRANS2."""
    keep_failed: bool = False
    """The line that is being planned uses stored files that failed quality control."""
    missing: int = 0
    """Inputs asked for that have a file missing."""
    notes: list[str] = field(default_factory=list)
    """What the listing says of the row that is being planned, beside the reasons for what has no run."""
    repeated: int = 0
    """Runs that were asked for again and are planned once."""
    written: dict[str, Task] | None = None
    """Run by output path, kept from the first explicit line on."""
    _same: dict[tuple[str, ...], dict[tuple[str, str, str], Task]] = field(default_factory=dict)
    _lanes: dict[tuple[int, str, str], Lane] = field(default_factory=dict)
    _consumed: frozenset[str] = frozenset()
    _stored: dict[str, list[tuple[Marker, OutputRecord]]] = field(default_factory=dict)
    _stored_of: dict[str, dict[str, list[tuple[Marker, OutputRecord]]]] = field(default_factory=dict)
    _in_night: dict[str, set[str]] = field(default_factory=dict)
    _has_template: dict[str, bool] = field(default_factory=dict)

    def __post_init__(self) -> None:
        arguments = [a for recipe in self.recipes.values() for a in recipe.arguments if not a.found]
        kinds = {kind for argument in arguments for kind in argument.kinds}
        self._consumed = frozenset({*kinds, *PACKAGED} - {"RAW"})

    # -- frames -----------------------------------------------------------------------------

    def frames_of(self, request: Request, row: Row) -> list[RawFrame]:
        """Frames that a row takes, in canonical order."""
        key = (row.types, row.targets, row.only)
        found = request.frames.get(key)
        if found is None:
            frames = self.selected.unnamed if request.is_line else self.selected.frames
            found = request.frames[key] = [f for f in frames if takes(request.targets, row, f)]
        return found

    # -- producers --------------------------------------------------------------------------

    def producer(self, frame: RawFrame, kind: str, *fibres: str) -> str:
        """Run key of the planned producer, or whether the file (of the first fibre) is stored or missing.

        A stored file that failed quality control counts as missing, unless the line asks for such files.
        """
        table = self.made.get(kind)
        if table is not None:
            key = table.get(frame.identifier)
            if key is not None and self._makes_all(key, fibres):
                return key
        if not self.snapshot.outputs and not self.snapshot.listing:
            return MISSING
        path = stored_path(frame, kind, fibres[0])
        found = self.snapshot.outputs.get(path)
        if found is not None:
            return STORED if self.keep_failed or found[0].state is State.DONE else MISSING
        return STORED if self.snapshot.on_disk(path) else MISSING

    def _makes_all(self, key: str, fibres: tuple[str, ...]) -> bool:
        options = self.by_key[key].options
        only = only_fibre(options_set(options)) if options else ""
        return not only or all(fibre == only for fibre in fibres)

    def inputs(
        self,
        argument: str,
        kind: str,
        fibres: tuple[str, ...],
        frames: tuple[RawFrame, ...],
        *,
        required: bool = True,
    ) -> Inputs:
        """Inputs of one argument with their producers."""
        if kind == "RAW":
            return Inputs(argument, kind, fibres, frames, (STORED,) * len(frames), (), required)
        producers = tuple([self.producer(frame, kind, *fibres) for frame in frames])
        refused: tuple[str, ...] = ()
        if MISSING in producers:
            self.missing += 1
            refused = tuple(
                frame.identifier
                for frame, producer in zip(frames, producers, strict=True)
                if producer == MISSING and stored_path(frame, kind, fibres[0]) in self.snapshot.outputs
            )
        return Inputs(argument, kind, fibres, frames, producers, (), required, refused)

    def corrected_kind(self, frame: RawFrame) -> str:
        """LCORR where the leak step makes or made it, else the flat-fielded spectrum."""
        if frame.dprtype in STAR_FP and self.producer(frame, "LCORR", "AB") != MISSING:
            return "LCORR"
        return "E2DSFF"

    def stored(self, kind: str) -> list[tuple[Marker, OutputRecord]]:
        """Passed and intact telluric products of one kind that may still be used, in canonical order.

        Those that the reject list forbids are out, and those whose raw frame was taken from its night since.
        """
        found = self._stored.get(kind)
        if found is None:
            nights = self.selected.night_frames
            found = self._stored[kind] = [
                (marker, output)
                for marker, output in self.snapshot.of_kind(kind)
                if not self.selected.forbids(marker.stem, "telluric")
                and (marker.obs_dir not in nights or marker.stem in self._identifiers(marker.obs_dir))
            ]
        return found

    def _identifiers(self, night: str) -> set[str]:
        """Identified frames of a night, whatever the filters say."""
        found = self._in_night.get(night)
        if found is None:
            found = self._in_night[night] = {f.identifier for f in self.selected.night_frames[night]}
        return found

    def stored_of(self, kind: str, name: str) -> list[tuple[Marker, OutputRecord]]:
        """Those of :meth:`stored` that belong to one object."""
        table = self._stored_of.get(kind)
        if table is None:
            table = self._stored_of[kind] = {}
            for marker, output in self.stored(kind):
                table.setdefault(marker.object, []).append((marker, output))
        return table.get(name, [])

    def has_template(self, name: str) -> bool:
        """Whether an earlier invocation left a usable template of the object."""
        found = self._has_template.get(name)
        if found is None:
            found = self._has_template[name] = self.snapshot.has(template_path(name))
        return found

    # -- runs -------------------------------------------------------------------------------

    def add(
        self,
        request: Request,
        step: Step,
        number: int,
        *,
        obs_dir: str,
        stem: str,
        time: float,
        inputs: tuple[Inputs, ...],
        object_name: str = "",
        science: str = "",
        reference: str = "",
        mask: str = "",
    ) -> bool:
        """Plan one run unless an identical one is planned already; False if it is."""
        lane = self._lanes.get((id(step), reference, mask)) or self._lane(step, reference, mask)
        place = (obs_dir, object_name, stem)
        other = lane.same.get(place)
        if other is not None and other.options == request.options:
            self.repeated += 1
            return False
        task = Task(
            f"{lane.prefix}{number:05d}",
            step,
            obs_dir,
            object_name,
            stem,
            time,
            inputs,
            options=request.options,
            mask=mask,
            science=science,
            reference=reference,
        )
        if request.is_off:
            task.state = State.SKIPPED_USER
        elif self._may_clash(lane, stem, other) and not self.claim(request, task):
            return False
        else:
            lane.same[place] = task
        self._enter(request, task, lane)
        return True

    def _lane(self, step: Step, reference: str, mask: str) -> Lane:
        """Lane of the runs of a step, made when it is first asked for."""
        recipe, variant = step.recipe, step.variant
        by_frame = recipe.group == Group.FILE
        kinds = [kind for kind, _, _ in layout(recipe, variant, reference)] if by_frame else []
        found = self._lanes[id(step), reference, mask] = Lane(
            step=step,
            prefix=step_prefix(step.request, step.label),
            same=self._same.setdefault((recipe.name, step.tier, variant, mask), {}),
            by_frame=by_frame,
            tables=[self.made.setdefault(kind, {}) for kind in kinds if kind in self._consumed],
            sets=[self.transmissions.setdefault(kind, []) for kind in kinds if kind in TRANSMISSIONS],
            made=tuple(made_keys(recipe, variant, reference)),
        )
        return found

    def _may_clash(self, lane: Lane, stem: str, other: Task | None) -> bool:
        """Whether the output files of a run must be compared with those of the others.

        Runs of sequences have files of their own, save where two sequences see an object in different roles.
        """
        if self.written is not None or other is not None:
            return True
        for table in lane.tables:  # noqa: SIM110 - once per run: a generator takes three times as long
            if stem in table:
                return True
        return False

    def claim(self, request: Request, task: Task) -> bool:
        """Reserve the output files of a run; False if planned runs write some of them already.

        Runs that differ in nothing that matters are planned once; different ones for the same file are
        an error.
        """
        if self.written is None:
            self.written = {
                path: other
                for other in self.tasks
                if other.state is State.PLANNED
                for _, _, path in other.outputs()
            }
        paths = [path for _, _, path in task.outputs()]
        taken = [path for path in paths if path in self.written]
        if not taken:
            self.written.update((path, task) for path in paths)
            return True
        others = {id(self.written[path]): self.written[path] for path in taken}.values()
        first = next(iter(others))
        if all(o.identity() == task.identity() for o in others) or (
            len(taken) == len(paths) and all(_same_work(o, task) for o in others)
        ):
            self.repeated += 1
            return False
        self.findings.add(
            "E-OUTPUT-CONFLICT",
            line=request.line,
            n=f"{first.step.request:05d}",
            m=f"{request.number:05d}",
            path=taken[0],
        )
        return False

    def register(self, request: Request, task: Task) -> None:
        """Make a planned run known to later steps."""
        self._enter(request, task, self._lane(task.step, task.reference, task.mask))

    def _enter(self, request: Request, task: Task, lane: Lane) -> None:
        key = task.key
        self.tasks.append(task)
        self.by_key[key] = task
        request.tasks.append(task)
        if task.state is State.SKIPPED_USER:
            # A line that is switched off makes nothing; what it made before may still be used.
            return
        if lane.by_frame:
            if self.settings.trigger_run:
                request.made.update(lane.made)
            for table in lane.tables:
                for frame in task.inputs[0].frames:
                    table[frame.identifier] = key
            for members in lane.sets:
                members.append(task)
            return
        request.made.update(lane.made)
        if lane.step.recipe.group == Group.OBJECT:
            self.templates.setdefault(task.object, key)
        else:
            self.catalogue.add(task)

    def waits_for(self, request: Request, step: Step, science: str, reference: str) -> str:
        """Kind that tonight's steps should have made and did not, if a run of ``step`` cannot do without.

        Only in trigger mode: there the night is not complete, and what cannot be made yet is left for later.
        """
        if not self.settings.trigger_run:
            return ""
        absent = request.wanted - request.made
        for select in step.recipe.selects:
            if select.optional or not select.applies(step.tier, step.variant, science, reference):
                continue
            kinds = (select.kinds[0], *select.fallback)
            if all(shelf_key(kind, select.fibre) in absent for kind in kinds):
                return select.kinds[0]
        return ""


def made_keys(recipe: Recipe, variant: str, reference: str) -> list[ShelfKey]:
    """Products of a run, fibres that come from one run taken together."""
    return [
        shelf_key(kind, fibre) for kind, _, fibres in layout(recipe, variant, reference) for fibre in fibres
    ]


def template_path(name: str) -> str:
    """Where the template of an object is, below the data root."""
    return folder("reduced", NIGHT, "", Life.OBJECT) + KINDS["TEMPLATE"].file_name(name, "AB")


def stored_path(frame: RawFrame, kind: str, fibre: str) -> str:
    """Where a product of one frame is, below the data root."""
    tree = "tmp" if kind == "PP" else "reduced"
    return f"{tree}/{frame.obs_dir}/{frame.identifier}{ending(kind, fibre)}"


def _same_work(one: Task, other: Task) -> bool:
    """Whether two runs do the same to the frames they share."""
    return (one.step.recipe.name, one.step.tier, one.step.variant, one.options, one.mask) == (
        other.step.recipe.name,
        other.step.tier,
        other.step.variant,
        other.options,
        other.mask,
    )
