"""Rows of sequences times groups of frames: planned runs."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from apero_dask.core.declare import Recipe
from apero_dask.core.errors import Findings, one_line
from apero_dask.core.frames import RawFrame
from apero_dask.core.ids import run_key
from apero_dask.core.names import ObjectNames
from apero_dask.core.outcome import State
from apero_dask.core.plan import MISSING, STORED, Inputs, Node, Step, StepCount, Task
from apero_dask.core.products import KINDS, MASTER, NIGHT, Life, folder
from apero_dask.core.settings import Settings
from apero_dask.core.snapshot import Snapshot
from apero_dask.instruments.base import Instrument
from apero_dask.planner.catalogue import Catalogue
from apero_dask.planner.filters import Selected, Targets, is_calibration
from apero_dask.planner.grouping import (
    FrameGroup,
    canonical,
    even_in_time,
    fp_archive_list,
    mean_time,
    nightly_groups,
)
from apero_dask.planner.sequences import (
    DARK_TYPES,
    STAR_FP,
    TRIGGER_MINIMUM,
    Row,
)

REFUSED = MISSING
"""A stored input that failed quality control is treated as one that is not there."""

ARCHIVE_TYPES = frozenset((*DARK_TYPES, "FP_FP"))
"""Frame types that archive-wide steps combine over all nights."""

MADE_BY = {
    "PP": "pp_seq",
    "E2DSFF": "the extraction steps",
    "LCORR": "the leak steps",
    "TCORR1": "tellu_seq or science_seq",
    "TCORR": "science_seq",
    "TEMPLATE": "tellu_seq or science_seq",
}


@dataclass(slots=True)
class Request:
    """Context of one id while its rows are expanded."""

    number: int
    targets: Targets
    whole: bool = False
    """``full_seq``: science targets are all objects that are not telluric."""
    has_master: bool = False
    """An active master step belongs to the plan of this id or an earlier one."""
    tasks: list[Task] = field(default_factory=list)
    empty: set[str] = field(default_factory=set)
    """Product kinds whose active step has no run tonight (trigger mode)."""


@dataclass(slots=True)
class Expander:
    """Turns rows into tasks, request by request; knows what every earlier request makes."""

    settings: Settings
    instrument: Instrument
    recipes: dict[str, Recipe]
    selected: Selected
    snapshot: Snapshot
    catalogue: Catalogue
    findings: Findings
    only_show: bool
    tasks: list[Task] = field(default_factory=list)
    nodes: list[Node] = field(default_factory=list)
    counts: list[StepCount] = field(default_factory=list)
    made: dict[str, dict[str, str]] = field(default_factory=dict)
    """Run key by product kind and frame identifier."""
    templates: dict[str, str] = field(default_factory=dict)
    """Run key of the template of an object."""
    same: dict[tuple[object, ...], Task] = field(default_factory=dict)
    """Planned runs by what makes two of them the same."""
    names: ObjectNames = field(default_factory=ObjectNames)
    future_templates: frozenset[str] = frozenset()
    """Objects whose template this plan makes anew."""
    master_keys: list[str] = field(default_factory=list)
    transmissions: dict[str, list[Task]] = field(default_factory=dict)
    """Runs that make TRANS1 and TRANS2, in canonical order."""

    # -- producers --------------------------------------------------------------------------

    def producer(self, frame: RawFrame, kind: str, fibre: str) -> str:
        """Run key of the planned producer, or whether the file is stored or missing."""
        key = self.made.get(kind, {}).get(frame.identifier)
        if key is not None:
            return key
        if not self.snapshot.outputs and not self.snapshot.listing:
            return MISSING
        tree = "tmp" if kind == "PP" else "reduced"
        path = f"{tree}/{frame.obs_dir}/{KINDS[kind].file_name(frame.identifier, fibre)}"
        found = self.snapshot.outputs.get(path)
        if found is not None:
            return STORED if found[0].state is State.DONE else REFUSED
        return STORED if self.snapshot.on_disk(path) else MISSING

    def inputs(
        self,
        argument: str,
        kind: str,
        fibres: tuple[str, ...],
        frames: tuple[RawFrame, ...],
        required: bool = True,
    ) -> Inputs:
        """Inputs of one argument with their producers."""
        if kind == "RAW":
            producers = tuple(STORED for _ in frames)
        else:
            producers = tuple(self.producer(frame, kind, fibres[0]) for frame in frames)
        return Inputs(argument, kind, fibres, frames, producers, required=required)

    def corrected_kind(self, frame: RawFrame) -> str:
        """LCORR where the leak step makes or made it, else the flat-fielded spectrum."""
        if frame.dprtype in STAR_FP and self.producer(frame, "LCORR", "AB") != MISSING:
            return "LCORR"
        return "E2DSFF"

    def stored_template(self, name: str) -> str:
        """Path of the stored template of an object, empty if there is none."""
        path = folder("reduced", NIGHT, "", Life.OBJECT) + KINDS["TEMPLATE"].file_name(name, "AB")
        return path if self.snapshot.has(path) else ""

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
        depends: tuple[str, ...] = (),
        science: str = "",
        reference: str = "",
        mask: str = "",
    ) -> bool:
        """Plan one run unless an identical one is planned already; False if it is."""
        same = (step.recipe.name, step.tier, step.variant, obs_dir, object_name, stem, mask)
        if same in self.same:
            return False
        task = Task(
            key=run_key(request.number, step.label, number),
            step=step,
            obs_dir=obs_dir,
            object=object_name,
            stem=stem,
            time=time,
            inputs=inputs,
            depends=depends,
            mask=mask,
            science=science,
            reference=reference,
        )
        self.same[same] = task
        self.register(request, task)
        return True

    def register(self, request: Request, task: Task) -> None:
        """Make a planned run known to later steps."""
        self.tasks.append(task)
        request.tasks.append(task)
        recipe = task.step.recipe
        if recipe.group == "file":
            frames = task.inputs[0].frames if task.inputs else ()
            for makes in recipe.makes:
                if makes.applies(task.step.variant, task.reference):
                    table = self.made.setdefault(makes.kind, {})
                    for frame in frames:
                        table[frame.identifier] = task.key
            for kind in ("TRANS1", "TRANS2"):
                if any(m.kind == kind and m.applies(task.step.variant, "") for m in recipe.makes):
                    self.transmissions.setdefault(kind, []).append(task)
        elif recipe.group == "object":
            self.templates.setdefault(task.object, task.key)
        else:
            self.catalogue.add(task)
        if task.step.tier == MASTER:
            self.master_keys.append(task.key)

    def expand(self, request: Request, row: Row, step: Step) -> None:
        """Plan all runs of one active row and note their number, or the reason why there are none."""
        before = len(self.tasks)
        if self.settings.trigger_run and row.scope in ("archive", "master"):
            reasons = ["not in trigger mode: reference products come from the database"]
        elif self.settings.trigger_run and (waits := self._waits_for(request, step)):
            reasons = [f"the night has no {waits} yet"]
        else:
            reasons = {
                "frames": self._preprocessing,
                "archive": self._archive,
                "master": self._nightly,
                "night": self._nightly,
                "file": self._files,
                "object": self._objects,
            }[row.scope](request, row, step)
        runs = len(self.tasks) - before
        self.counts.append(StepCount(step, runs, tuple(reasons)))
        if runs == 0:
            request.empty.update(m.kind for m in step.recipe.makes if m.applies(step.variant, "fp"))
            if row.scope != "frames" or not reasons:
                self.findings.add(
                    "W-NO-RUNS", short=step.short, reason="; ".join(reasons) or "no frame is left for it"
                )
        self._report_inputs(step, self.tasks[before:])

    def expand_rows_of_line(self, request: Request, row: Row, step: Step, only: str = "") -> None:
        """Plan the run of an explicit line that gathers its own frames: the whole archive, or one object."""
        scope = self._archive if row.scope == "archive" else self._objects
        before = len(self.tasks)
        reasons = scope(request, replace(row, only=only), step)
        if len(self.tasks) == before:
            self.findings.add("W-NO-RUNS", short=step.short, reason="; ".join(reasons))
        self._report_inputs(step, self.tasks[before:])

    def _waits_for(self, request: Request, step: Step) -> str:
        """Kind that an active but empty step of tonight should have made, if this step cannot do without."""
        for select in step.recipe.selects:
            kinds = (*select.kinds, *select.fallback)
            if not select.optional and set(kinds) <= request.empty:
                return select.kinds[0]
        return ""

    def _report_inputs(self, step: Step, tasks: list[Task]) -> None:
        total, missing, first, kind = 0, 0, "", ""
        for task in tasks:
            for inputs in task.inputs:
                total += len(inputs.producers)
                absent = sum(producer == MISSING for producer in inputs.producers)
                if absent and not missing:
                    position = inputs.producers.index(MISSING)
                    paths = inputs.paths()
                    first = paths[position * len(inputs.fibres) if inputs.frames else position]
                    kind = inputs.kind
                missing += absent
        if missing:
            self.findings.add(
                "W-NOT-MADE",
                short=step.short,
                n=missing,
                m=total,
                path=first,
                sequence=MADE_BY.get(kind, "the steps before it"),
            )

    # -- scopes -----------------------------------------------------------------------------

    def _preprocessing(self, request: Request, row: Row, step: Step) -> list[str]:
        frames = [f for f in self.selected.frames if self.takes(request, row, f)]
        reasons = list(self.selected.left_out)
        if row.short == "PP" and request.has_master and not self.settings.trigger_run:
            chosen = {frame.identifier for frame in frames}
            extra = [
                frame
                for frame in self.selected.archive
                if frame.identifier not in chosen
                and (
                    (frame.obs_dir == self.selected.master_night and is_calibration(frame))
                    or frame.dprtype in ARCHIVE_TYPES
                )
            ]
            if extra:
                reasons.append(f"{len(extra)} frame(s) of other nights added for the master steps")
            frames = canonical([*frames, *extra])
        known = self.instrument.frame_type
        number = 0
        for frame in frames:
            kind = known(frame.dprtype)
            number += self.add(
                request,
                step,
                number + 1,
                obs_dir=frame.obs_dir,
                stem=frame.identifier,
                time=frame.mjdmid,
                inputs=(self.inputs("files", "RAW", ("",), (frame,)),),
                science=kind.science,
                reference=kind.reference,
            )
        if len(frames) > number:
            reasons.append(f"{len(frames) - number} frame(s) are preprocessed by an earlier step")
        return reasons

    def takes(self, request: Request, row: Row, frame: RawFrame) -> bool:
        if row.targets == "calib":
            return is_calibration(frame)
        if row.types and frame.dprtype not in row.types:
            return False
        if row.only and frame.frame_class != row.only:
            return False
        if row.targets:
            return frame.is_object and request.targets.takes(row.targets, frame.frame_class, request.whole)
        return True

    def _nightly(self, request: Request, row: Row, step: Step) -> list[str]:
        master = row.scope == "master"
        frames = self.selected.master if master else self.selected.frames
        nights: dict[str, list[RawFrame]] = {}
        for frame in frames:
            nights.setdefault(frame.obs_dir, []).append(frame)
        number, reasons, missing = 0, [], {}
        for night, found in nights.items():
            groups, lacking = nightly_groups(
                found,
                step.recipe.arguments,
                row.types,
                self.settings.group_limit(step.short),
                self.settings.calib_grouping == "exposure_sequence" and not master,
            )
            if lacking:
                missing.setdefault(lacking, []).append(night)
            for group in groups:
                lacking = self._too_few(step, group)
                if lacking:
                    reasons.append(f"{night}: {lacking}")
                    continue
                for types, found_n, used in group.cut:
                    self.findings.add(
                        "W-GROUP-LIMIT", short=step.short, night=night, n=found_n, dprtype=types, m=used
                    )
                number += self._group(request, step, number + 1, group)
        for lacking, where in missing.items():
            reasons.append(f"no {lacking} frame on {one_line(where)}")
            if master and row.short != "LEAKM":
                self.findings.add(
                    "E-MASTER-INCOMPLETE", night=where[0], dprtype=lacking, short=step.short, n=0, m=1
                )
        return reasons

    def _too_few(self, step: Step, group: FrameGroup) -> str:
        if not self.settings.trigger_run:
            return ""
        minimum = TRIGGER_MINIMUM.get(step.recipe.name, {})
        short = [
            f"{len(frames)} of {minimum[name]} {name}"
            for name, frames in group.files
            if len(frames) < minimum.get(name, 1)
        ]
        return "only " + ", ".join(short) if short else ""

    def _group(self, request: Request, step: Step, number: int, group: FrameGroup) -> bool:
        kind = self.instrument.frame_type(group.leading[0].dprtype)
        return self.add(
            request,
            step,
            number,
            obs_dir=group.obs_dir,
            stem=group.leading[0].identifier,
            time=mean_time(group.leading),
            inputs=tuple(self.inputs(name, "PP", ("",), frames) for name, frames in group.files),
            science=kind.science,
            reference=kind.reference,
        )

    def _archive(self, request: Request, row: Row, step: Step) -> list[str]:
        night = self.selected.master_night
        frames = [
            frame
            for frame in self.selected.archive
            if self.only_show or self.producer(frame, "PP", "") != MISSING
        ]
        if row.short == "DARKM":
            shortest = self.settings.dark_master_min_exptime
            darks = [f for f in frames if f.dprtype in DARK_TYPES]
            usable = [f for f in darks if f.exptime >= shortest]
            chosen = even_in_time(usable, self.settings.dark_master_max_files)
            reasons = []
            if len(darks) > len(usable):
                reasons.append(f"{len(darks) - len(usable)} dark(s) shorter than {shortest:g} s left out")
            if len(usable) > len(chosen):
                reasons.append(f"{len(chosen)} of {len(usable)} darks, even in time")
            if not chosen:
                if request.has_master:
                    self.findings.add(
                        "E-MASTER-INCOMPLETE",
                        night=night,
                        dprtype=" or ".join(DARK_TYPES),
                        short=step.short,
                        n=0,
                        m=1,
                    )
                return ["no dark frame in the archive"]
            files: tuple[tuple[str, tuple[RawFrame, ...]], ...] = (("darkfiles", tuple(chosen)),)
            leading = tuple(chosen)
        else:
            lamps = [f for f in self.selected.master if f.dprtype == "HCONE_HCONE"]
            combs = [f for f in frames if f.dprtype == "FP_FP"]
            chosen = fp_archive_list(
                combs, self.settings.shape_master_max_files, self.settings.fp_master_match_time, night
            )
            leading = tuple(f for f in chosen if f.obs_dir == night)
            reasons = [f"{len(chosen)} of {len(combs)} FP_FP frames"] if len(combs) > len(chosen) else []
            for found, types, need in ((lamps, "HCONE_HCONE", 1), (leading, "FP_FP", 3)):
                if not found:
                    have = sum(f.dprtype == types for f in self.selected.master)
                    self.findings.add(
                        "E-MASTER-INCOMPLETE", night=night, dprtype=types, short=step.short, n=have, m=need
                    )
            if not lamps or not leading:
                return [f"the master night lacks {'HCONE_HCONE' if not lamps else 'FP_FP'} frames"]
            files = (("hcfiles", tuple(lamps)), ("fpfiles", tuple(chosen)))
        kept = self._kept_archive_run(step, night, files, frames)
        if kept is not None:
            files, leading = kept
        self.add(
            request,
            step,
            1,
            obs_dir=night,
            stem=leading[0].identifier,
            time=mean_time(leading),
            inputs=tuple(self.inputs(name, "PP", ("",), found) for name, found in files),
        )
        return reasons

    def _kept_archive_run(
        self,
        step: Step,
        night: str,
        files: tuple[tuple[str, tuple[RawFrame, ...]], ...],
        frames: list[RawFrame],
    ) -> tuple[tuple[tuple[str, tuple[RawFrame, ...]], ...], tuple[RawFrame, ...]] | None:
        """Inputs of a finished archive run that the archive has only outgrown, if its step may be skipped."""
        if not step.skip:
            return None
        present = {f.identifier: f for f in (*frames, *self.selected.master)}
        natural = {f.identifier for _, found in files for f in found}
        for marker in sorted(self.snapshot.markers.values(), key=lambda m: m.identity):
            if (marker.recipe, marker.tier, marker.obs_dir) != (step.recipe.name, step.tier, night):
                continue
            recorded = marker.planned_inputs
            if not recorded or set(recorded) == natural or any(i not in present for i in recorded):
                continue
            newer = len(natural - set(recorded))
            if not newer:
                continue
            kept = tuple(
                (name, tuple(canonical(present[i] for i in recorded if present[i].dprtype in types)))
                for (name, _), types in zip(
                    files, [argument.types for argument in step.recipe.arguments], strict=True
                )
            )
            self.findings.add("I-ARCHIVE-GROWN", short=step.short, n=newer)
            leading = kept[-1][1]
            if len(kept) > 1:
                leading = tuple(f for f in leading if f.obs_dir == night)
            return kept, leading
        return None

    def _files(self, request: Request, row: Row, step: Step) -> list[str]:
        argument = step.recipe.arguments[0]
        reasons: list[str] = []
        use = {"obj_mk_tellu": "telluric", "cal_ccf": "velocity"}.get(step.recipe.name, "")
        number = refused = without_template = known_template = 0
        fibres = argument.fibres
        first_fit = step.recipe.name == "obj_fit_tellu" and step.variant == "p1"
        needs_template = step.variant == "final" and step.recipe.name in ("obj_mk_tellu", "obj_fit_tellu")
        for frame in self.selected.frames:
            if not self.takes(request, row, frame):
                continue
            if use and self.selected.rejected(frame, use):
                refused += 1
                continue
            template: tuple[Inputs, ...] = ()
            name = frame.frame_class
            if needs_template:
                if self.keeps_template(name):
                    known_template += 1
                    continue
                template = self._template(name, required=True)
                if not template:
                    without_template += 1
                    continue
            elif row.source == "CORRECTED":
                template = self._template(name, required=False)
            kind = argument.kinds[0] if not row.source else row.source
            if kind == "CORRECTED":
                kind = self.corrected_kind(frame)
            main = self.inputs("files", kind, fibres, (frame,))
            frame_type = self.instrument.frame_type(frame.dprtype)
            further = list(template)
            if step.recipe.name == "cal_ccf" and frame_type.reference == "fp":
                further.append(self.inputs("fpfiles", "E2DSFF", ("C",), (frame,), required=False))
            if step.recipe.name == "cal_postprocess":
                further += self._packaged(frame, frame_type.reference)
            public = first_fit and (
                bool(row.macro and row.targets == "telluric") or not self._refits(row, name)
            )
            run = step if not public else _public(step)
            number += self.add(
                request,
                run,
                number + 1,
                obs_dir=frame.obs_dir,
                stem=frame.identifier,
                time=frame.mjdmid,
                inputs=(main, *further),
                science=frame_type.science,
                reference=frame_type.reference,
                mask=self.mask_stem() if step.recipe.name == "cal_ccf" else "",
            )
        if refused:
            reasons.append(f"reject list: {refused} frame(s)")
        if known_template:
            reasons.append(f"RECAL_TEMPLATES = False: {known_template} frame(s) of objects with a template")
        if without_template:
            reasons.append(f"{without_template} frame(s) without a template, planned or stored")
        if not number and not reasons:
            reasons.append(self._why_no_frame(request, row))
        return reasons

    def _packaged(self, frame: RawFrame, reference: str) -> list[Inputs]:
        optional = [
            ("lcorr", "LCORR", ("AB", "A", "B")),
            ("tcorr", "TCORR", ("AB", "A", "B")),
            ("recon", "RECON", ("AB",)),
            ("ccf", "CCF", ("AB",)),
        ]
        found = []
        for name, kind, fibres in optional:
            if kind == "LCORR" and reference != "fp":
                continue
            if kind == "CCF":
                key = self.made.get("CCF", {}).get(frame.identifier)
                if key:
                    path = self.task(key).path("CCF", "AB")
                    found.append(Inputs(name, kind, fibres, (), (key,), (path,), required=False))
                continue
            inputs = self.inputs(name, kind, fibres, (frame,), required=False)
            if inputs.producers[0] != MISSING:
                found.append(inputs)
        return found

    def task(self, key: str) -> Task:
        """Planned run by key."""
        return next(task for task in reversed(self.tasks) if task.key == key)

    def mask_stem(self, name: str = "") -> str:
        """Mask part of product names: the file the user has, or the packaged mask."""
        from apero_dask.recipes.ccf import BUILTIN_MASK, DEFAULT_MASK

        chosen = name or (DEFAULT_MASK if DEFAULT_MASK in self.snapshot.masks else BUILTIN_MASK)
        base = chosen.rpartition("/")[2]
        return base.lower().removesuffix(".mas").removesuffix(".fits")

    def _refits(self, row: Row, name: str) -> bool:
        """Whether a later fit with a template owns the public name of this object's spectra."""
        if row.targets == "telluric":
            return True
        switch = row.macro or "FTELLU3"
        maker = row.macro or "FTELLU2"
        if not self.settings.runs(switch) or self.keeps_template(name):
            return False
        return self.settings.runs(maker) or bool(self.stored_template(name)) or name in self.templates

    def keeps_template(self, name: str) -> bool:
        """RECAL_TEMPLATES is off and the object has a template: its template-dependent steps are left out."""
        recompute = self.settings.recal_templates
        if recompute is None:
            recompute = not self.settings.trigger_run
        return not recompute and bool(self.stored_template(name))

    def _template(self, name: str, required: bool) -> tuple[Inputs, ...]:
        """Template of an object as an input: of this plan where needed, else the stored one."""
        key = self.templates.get(name)
        path = folder("reduced", NIGHT, "", Life.OBJECT) + KINDS["TEMPLATE"].file_name(name, "AB")
        if required and key is not None:
            return (Inputs("template", "TEMPLATE", ("AB",), (), (key,), (path,)),)
        if self.stored_template(name) and (required or not self.will_make_template(name)):
            return (Inputs("template", "TEMPLATE", ("AB",), (), (STORED,), (path,), required=required),)
        return ()

    def will_make_template(self, name: str) -> bool:
        """Whether this plan makes the object's template anew, so that the stored one is of the past."""
        return name in self.future_templates

    def _why_no_frame(self, request: Request, row: Row) -> str:
        seen = {f.dprtype for f in self.selected.frames}
        if row.targets in ("telluric", "science"):
            words = {"telluric": "telluric", "science": "science"}[row.targets]
            types = " or ".join(t for t in row.types if not t.startswith("POLAR"))
            return f"no {types} frame of a {words} target is left"
        types = " or ".join(row.types) if row.types else "usable"
        return f"no {types} frame is left (types seen: {one_line(sorted(seen)) or 'none'})"

    def _objects(self, request: Request, row: Row, step: Step) -> list[str]:
        objects: dict[str, list[RawFrame]] = {}
        kinds: dict[str, str] = {}
        reasons: list[str] = []
        refused = without = kept = 0
        for frame in self.selected.frames:
            if not self.takes(request, row, frame):
                continue
            name = frame.frame_class
            if self.keeps_template(name):
                kept += 1
                continue
            if self.selected.rejected(frame, "telluric"):
                refused += 1
                continue
            kind = next((k for k in ("TCORR1", "TCORR") if self.producer(frame, k, "AB") != MISSING), "")
            if not kind:
                without += 1
                continue
            objects.setdefault(name, []).append(frame)
            kinds.setdefault(name, kind)
        number = 0
        for name in sorted(objects):
            frames = canonical(objects[name])
            inputs = self.inputs("files", kinds[name], ("AB",), tuple(frames))
            stored = self._stored_spectra(name, kinds[name], {f.identifier for f in frames})
            if stored:
                inputs = Inputs(
                    "files",
                    kinds[name],
                    ("AB",),
                    inputs.frames,
                    (*inputs.producers, *(STORED for _ in stored)),
                    tuple(stored),
                )
            number += self.add(
                request,
                step,
                number + 1,
                obs_dir="",
                object_name=name,
                stem=name,
                time=mean_time(frames),
                inputs=(inputs,),
            )
        if refused:
            reasons.append(f"reject list: {refused} frame(s)")
        if kept:
            reasons.append(f"RECAL_TEMPLATES = False: {kept} frame(s) of objects with a template")
        if without:
            reasons.append(f"{without} frame(s) without a corrected spectrum, planned or stored")
        if not number and not reasons:
            reasons.append(self._why_no_frame(request, row))
        return reasons

    def _stored_spectra(self, name: str, kind: str, planned: set[str]) -> list[str]:
        """Stored spectra of an object from nights that this plan does not touch."""
        nights = set(self.selected.nights)
        return [
            output.path
            for marker, output in self.snapshot.of_kind(kind)
            if marker.object == name
            and output.fibre == "AB"
            and marker.obs_dir not in nights
            and marker.stem not in planned
        ]


def _public(step: Step) -> Step:
    """The same step writing the public names."""
    return replace(step, variant="p1_public")
