"""Explicit recipe lines: exactly one run each, checked completely before anything runs."""

from __future__ import annotations

import re
from dataclasses import replace
from fnmatch import fnmatchcase

from apero_dask.core.declare import Argument, Group, OptionValue, Recipe
from apero_dask.core.frames import UNKNOWN, RawFrame
from apero_dask.core.ids import run_key
from apero_dask.core.layout import ending
from apero_dask.core.outcome import State
from apero_dask.core.plan import MISSING, Inputs, Step, StepCount, Task
from apero_dask.core.products import MASTER, NIGHT
from apero_dask.core.settings import Command
from apero_dask.core.settings import Request as RunFileRequest
from apero_dask.planner.draft import Draft, Request
from apero_dask.planner.expand import plan_row
from apero_dask.planner.frames import mask_stem
from apero_dask.planner.grouping import canonical, mean_time
from apero_dask.planner.packages import package_inputs
from apero_dask.planner.sequences import FULL_ROWS, MASTER_ROWS, Row, describe
from apero_dask.planner.suggest import closest
from apero_dask.planner.templates import coming_templates, template_input
from apero_dask.planner.transmissions import model_input

IDENTIFIER = re.compile(r"^(\d{7}[acdfo])")
ALWAYS_MASTER = frozenset({"DARKM", "SHAPEM", "LEAKM", "WAVEM"})
"""Recipes that only exist in the master tier."""
EXPLICIT_VARIANT = {"obj_mk_tellu": "final", "obj_fit_tellu": "final"}
"""A line makes the public products."""
TELLURIC = ("obj_mk_tellu", "obj_fit_tellu")
MASTER_RECIPES = frozenset(row.recipe for row in MASTER_ROWS)


def macro_rows(recipe: Recipe) -> tuple[Row, ...]:
    """Rows a database recipe stands for."""
    return tuple(row for row in FULL_ROWS if row.macro == recipe.short)


def effective_options(recipe: Recipe, command: Command) -> tuple[tuple[str, OptionValue], ...]:
    """Options that change the result and differ from their default, sorted by name."""
    kept = []
    for name, value in command.options:
        option = recipe.option(name)
        if option is None or option.no_effect or not option.changes_result:
            continue
        if value != option.default:
            kept.append((option.name, value))
    return tuple(sorted(kept))


class Line:
    """One explicit line on its way to a task."""

    def __init__(self, draft: Draft, request: Request, asked: RunFileRequest, command: Command) -> None:
        self.draft, self.request, self.asked, self.command = draft, request, asked, command
        self.recipe = draft.recipes[command.recipe]
        self.bad = False

    def error(self, detail: str) -> None:
        """Report a wrong argument."""
        self.bad = True
        self.draft.findings.add(
            "E-ARG", line=self.asked.line, n=self.asked.label, recipe=self.recipe.name, detail=detail
        )

    def plan(self) -> None:
        """Plan the run of the line, or report why it cannot be."""
        draft, recipe = self.draft, self.recipe
        step = Step(
            request=self.request.number,
            label="00",
            short=recipe.short,
            part="",
            recipe=recipe,
            tier=tier_of(recipe, self.command),
            variant=EXPLICIT_VARIANT.get(recipe.name, ""),
            skip=bool(dict(self.command.options).get("skip", draft.settings.skips(recipe.short))),
            text=self.command.text or recipe.name,
        )
        before = len(draft.tasks)
        reasons: list[str] = []
        if draft.settings.trigger_run and step.tier == MASTER:
            reasons.append("not in trigger mode: reference products come from the database")
            draft.findings.add("W-NO-RUNS", short=step.short, reason=reasons[0])
        elif recipe.takes == "" and recipe.group is Group.ARCHIVE:
            row = next(row for row in MASTER_ROWS if row.recipe == recipe.name)
            wanted = dict(self.command.options).get("filetype")
            if wanted is not None:
                row = replace(row, types=(str(wanted),))
            reasons += plan_row(draft, self.request, row, step)[1]
        elif recipe.takes == "objname":
            reasons += self._object(step)
        else:
            self._night(step)
        if self.request.is_off:
            reasons.append(f"switched off: RUN_{recipe.short} = False")
        draft.counts.append(StepCount(step, len(draft.tasks) - before, tuple(reasons)))

    def _object(self, step: Step) -> list[str]:
        name = self.draft.names.resolve(self.command.objname)
        observed = sorted({f.frame_class for f in self.draft.selected.unnamed if f.is_object})
        if name not in observed:
            near = closest(name, observed)
            self.error(
                f'object "{self.command.objname}" was not observed'
                + (f"; the closest observed object is {near}" if near else "")
            )
            return []
        argument = self.recipe.arguments[0]
        wanted = dict(self.command.options).get("filetype")
        row = Row(
            step.short,
            self.recipe.name,
            "object",
            argument.types,
            "all",
            source=str(wanted) if wanted else "",
            only=name,
        )
        return plan_row(self.draft, self.request, row, step)[1]

    def _night(self, step: Step) -> None:
        recipe = self.recipe
        given = dict(self.command.files)
        inputs: list[Inputs] = []
        for argument in recipe.arguments:
            names = given.get(argument.name, ())
            if names:
                inputs += self._files(argument, names)
            elif argument.required and not argument.found:
                inputs += self._all_of_night(argument)
        mask = self._mask() if recipe.name == "cal_ccf" else ""
        if self.bad or not inputs:
            return
        for number, part in enumerate(self._parts(inputs), start=1):
            self._run(step, part, mask, number)

    def _parts(self, inputs: list[Inputs]) -> list[list[Inputs]]:
        """Inputs of every run of the line: one per frame where a recipe takes one frame and combines none."""
        option = self.recipe.option("combine")
        combines = option is not None and dict(self.command.options).get("combine", option.default)
        if self.recipe.group is not Group.FILE or len(inputs) > 1 or combines:
            return [inputs]
        (main,) = inputs
        return [
            [self.draft.inputs(main.argument, main.kind, main.fibres, (frame,), required=main.required)]
            for frame in main.frames
        ]

    def _run(self, step: Step, inputs: list[Inputs], mask: str, number: int) -> None:
        draft, recipe = self.draft, self.recipe
        frames = next((i for i in inputs if i.argument == recipe.leading), inputs[0]).frames
        kind = None
        if frames[0].dprtype != UNKNOWN:
            kind = draft.instrument.frame_type(frames[0].dprtype)
        if not step.variant and any(makes.variants for makes in recipe.makes):
            step = replace(step, variant=frames[0].dprtype)
        if recipe.name in TELLURIC:
            inputs += self._template(frames)
        if recipe.name == "obj_fit_tellu" and not dict(self.command.options).get("onlypreclean"):
            inputs.append(model_input(draft, self.request, first=False))
        if recipe.name == "cal_ccf" and kind is not None and kind.reference == "fp":
            inputs.append(draft.inputs("fpfiles", "E2DSFF", ("C",), frames, required=False))
        if recipe.name == "cal_postprocess":
            inputs += package_inputs(draft, inputs[0], recipe.arguments, mask_stem(draft))
        task = Task(
            key=run_key(self.request.number, "00", number),
            step=step,
            obs_dir=self.command.obs_dir,
            object="",
            stem=frames[0].identifier,
            time=mean_time(frames),
            inputs=tuple(inputs),
            options=self.request.options,
            mask=mask,
            science=kind.science if kind else "",
            reference=kind.reference if kind else "",
        )
        if self.request.is_off:
            task.state = State.SKIPPED_USER
        elif not draft.claim(self.request, task):
            return
        draft.register(self.request, task)

    def _template(self, frames: tuple[RawFrame, ...]) -> tuple[Inputs, ...]:
        """Template of the object, if the line wants one, names none and there is one."""
        options = dict(self.command.options)
        names = {frame.frame_class for frame in frames}
        if options.get("use_template") is False or "template" in options or len(names) != 1:
            return ()
        found = template_input(self.draft, names.pop(), required=True)
        return tuple(inputs._replace(required=False) for inputs in found)

    def _mask(self) -> str:
        name = dict(self.command.options).get("mask")
        if name is None:
            return mask_stem(self.draft)
        text = str(name)
        if text not in self.draft.snapshot.masks and not self.request.is_off:
            self.bad = True
            self.draft.findings.add(
                "E-NO-MASK", line=self.asked.line, n=self.asked.label, name=text, dirs="assets/masks"
            )
        return mask_stem(self.draft, text)

    def _all_of_night(self, argument: Argument) -> list[Inputs]:
        """Frames of the night that an argument the line cannot name takes."""
        night = self.command.obs_dir
        frames = [
            frame
            for frame in self.draft.selected.night_frames.get(night, ())
            if frame.dprtype in argument.types
            and not ((row := self.draft.selected.rejections.get(frame.identifier)) and row.everywhere)
        ]
        if not frames:
            self.error(f"night {night} has no {' or '.join(argument.types)} frame in the raw tree")
            return []
        return [self.draft.inputs(argument.name, "PP", ("",), tuple(canonical(frames)))]

    def _files(self, argument: Argument, names: tuple[str, ...]) -> list[Inputs]:
        """The named files of one argument, checked; empty after an error."""
        found: dict[str, dict[str, RawFrame]] = {}
        for written in names:
            matches = [written]
            if any(c in written for c in "*?["):
                matches = self._expand(argument, written)
                if not matches:
                    self._not_there(written)
            for name in matches:
                parsed = self._parse(argument, name)
                if parsed is not None:
                    kind, frame = parsed
                    found.setdefault(kind, {})[frame.identifier] = frame
        if self.bad or not found:
            return []
        if len(found) > 1:
            self.error(f"files of one kind expected, found {', '.join(sorted(found))}")
            return []
        kind = next(iter(found))
        frames = canonical(found[kind].values())
        self._check_types(argument, frames)
        fibres = argument.fibres if kind not in ("RAW", "PP") else ("",)
        inputs = self.draft.inputs(argument.name, kind, fibres, tuple(frames))
        for producer, frame in zip(inputs.producers, frames, strict=True):
            if producer == MISSING and frame.identifier not in inputs.refused:
                self._not_there(frame.identifier + ending(kind, fibres[0]))
        return [inputs]

    def _check_types(self, argument: Argument, frames: list[RawFrame]) -> None:
        types = sorted({f.dprtype for f in frames} - {UNKNOWN})
        if argument.one_type and len(types) > 1:
            self.error(f"{argument.name} must be of one type, found {', '.join(types)}")
        for frame in frames:
            if frame.dprtype == UNKNOWN and self.recipe.tree_in == "tmp":
                self.error(
                    f"{frame.identifier} has no identified raw frame in night {self.command.obs_dir}, "
                    "so that nobody knows what its fibres see"
                )
            elif argument.types and frame.dprtype not in (*argument.types, UNKNOWN):
                self.error(f"{frame.identifier} is {frame.dprtype}, expected {' or '.join(argument.types)}")

    def _not_there(self, name: str) -> None:
        if self.request.is_off:
            return
        self.bad = True
        self.draft.findings.add(
            "E-NO-FILES",
            variant="line",
            line=self.asked.line,
            n=self.asked.label,
            recipe=self.recipe.name,
            path=name,
            folder=f"{self.recipe.tree_in}/{self.command.obs_dir}",
        )

    def _expand(self, argument: Argument, pattern: str) -> list[str]:
        """Names that match a pattern among planned and stored files of the night, sorted."""
        night, tree = self.command.obs_dir, self.recipe.tree_in
        folder = f"{tree}/{night}/"
        known = set(self.draft.snapshot.listing.get(f"{tree}/{night}", frozenset()))
        if tree == "raw":
            frames = self.draft.selected.night_frames.get(night, ())
            known |= {frame.path.rpartition("/")[2] for frame in frames}
        else:
            known |= {
                path.rpartition("/")[2]
                for path, (marker, _) in self.draft.snapshot.outputs.items()
                if marker.obs_dir == night and path.startswith(folder)
            }
            for task in self.draft.tasks:
                if task.obs_dir == night and task.step.recipe.tree_out == tree:
                    known |= {path.rpartition("/")[2] for _, _, path in task.outputs()}
        names = [name for name in sorted(known) if fnmatchcase(name, pattern)]
        return [name for name in names if self._kind_of(argument, name) is not None]

    def _kind_of(self, argument: Argument, name: str) -> str | None:
        match = IDENTIFIER.match(name)
        if match is None:
            return None
        if argument.kinds == ("RAW",):
            stem = name.removesuffix(".gz").removesuffix(".fits")
            return "RAW" if stem == match.group(1) else None
        for kind in argument.kinds:
            for fibre in argument.fibres:
                if name == match.group(1) + ending(kind, fibre):
                    return kind
        return None

    def _parse(self, argument: Argument, name: str) -> tuple[str, RawFrame] | None:
        kind = self._kind_of(argument, name)
        if kind is None:
            fibres = " or ".join(f for f in argument.fibres if f)
            of = f" of fibre {fibres}" if fibres else ""
            self.error(f'file "{name}" is not of the kind {" or ".join(argument.kinds)}{of}')
            return None
        identifier, night = name[:8], self.command.obs_dir
        for frame in self.draft.selected.night_frames.get(night, ()):
            if frame.identifier == identifier:
                return kind, frame
        if kind == "RAW":
            self._not_there(name)
            return None
        # The raw frame may be gone; the product on disk is enough to plan the run.
        return kind, RawFrame(identifier, night, "", UNKNOWN, float("nan"), 0.0)


def tier_of(recipe: Recipe, command: Command) -> str:
    """Tier of the run of a line: master where asked for and possible, or where there is no other."""
    if recipe.short in ALWAYS_MASTER or (command.is_master and recipe.name in MASTER_RECIPES):
        return MASTER
    return NIGHT


def plan_line(draft: Draft, request: Request, asked: RunFileRequest, command: Command) -> None:
    """Plan one explicit line; a database recipe is expanded into the runs it stands for."""
    recipe = draft.recipes[command.recipe]
    options = effective_options(recipe, command)
    request.is_off = not draft.settings.runs_lines(recipe.short)
    draft.keep_failed = any(name == "no_in_qc" for name, _ in options)
    rows = macro_rows(recipe)
    if rows:
        _plan_macro(draft, request, recipe, rows, options)
    else:
        request.options = options
        Line(draft, request, asked, command).plan()
    draft.keep_failed = False


def _plan_macro(
    draft: Draft,
    request: Request,
    recipe: Recipe,
    rows: tuple[Row, ...],
    options: tuple[tuple[str, OptionValue], ...],
) -> None:
    """Runs of a database recipe, step by step."""
    chosen = dict(options)
    if not request.is_off:
        draft.future_templates |= coming_templates(draft, request, rows, [True] * len(rows))
    for number, row in enumerate(rows):
        if "objname" in chosen:
            row = replace(row, only=draft.names.resolve(str(chosen["objname"])))
        if "dprtype" in chosen:
            row = replace(row, types=tuple(t for t in row.types if t == chosen["dprtype"]) or ("none",))
        if "filetype" in chosen and row.source == "CORRECTED":
            row = replace(row, source=str(chosen["filetype"]))
        step = Step(
            request=request.number,
            label=f"00{chr(ord('a') + number)}",
            short=row.short,
            part="",
            recipe=draft.recipes[row.recipe],
            tier=NIGHT,
            variant=row.variant,
            skip=draft.settings.skips(recipe.short),
            text=describe(row),
        )
        if request.is_off:
            reasons: tuple[str, ...] = (f"switched off: RUN_{recipe.short} = False",)
            draft.counts.append(StepCount(step, 0, reasons))
            continue
        request.options = tuple((n, v) for n, v in options if step.recipe.option(n) and n != "filetype")
        runs, found = plan_row(draft, request, row, step)
        draft.counts.append(StepCount(step, runs, tuple(found)))
