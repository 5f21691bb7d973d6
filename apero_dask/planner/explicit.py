"""Explicit recipe lines: exactly one run each, checked completely before anything runs."""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from apero_dask.core.declare import Argument, Group, OptionValue, Recipe
from apero_dask.core.frames import UNKNOWN, RawFrame
from apero_dask.core.ids import run_key
from apero_dask.core.outcome import State
from apero_dask.core.plan import MISSING, STORED, Inputs, Step, StepCount, Task
from apero_dask.core.products import KINDS, MASTER, NIGHT
from apero_dask.core.settings import Command
from apero_dask.core.settings import Request as RunFileRequest
from apero_dask.planner.grouping import canonical, mean_time
from apero_dask.planner.sequences import FULL_ROWS, MASTER_ROWS, Row, describe
from apero_dask.planner.suggest import closest

if TYPE_CHECKING:
    from apero_dask.planner.expand import Expander, Request

IDENTIFIER = re.compile(r"^(\d{7}[acdfo])")
ALWAYS_MASTER = frozenset({"DARKM", "SHAPEM", "LEAKM", "WAVEM"})
"""Recipes that only exist in the master tier."""
EXPLICIT_VARIANT = {"obj_mk_tellu": "final", "obj_fit_tellu": "final"}
"""A line makes the public products."""


def macro_rows(recipe: Recipe) -> tuple[Row, ...]:
    """Rows a database recipe stands for."""
    return tuple(row for row in FULL_ROWS if row.macro == recipe.short)


def effective_options(recipe: Recipe, command: Command) -> tuple[tuple[str, OptionValue], ...]:
    """Options that change the result and differ from their default, sorted by name."""
    kept = []
    for name, value in command.options:
        option = recipe.option(name)
        if option is not None and option.changes_result and value != option.default:
            kept.append((option.name, value))
    return tuple(sorted(kept))


class Line:
    """One explicit line on its way to a task."""

    def __init__(self, expander: Expander, request: Request, asked: RunFileRequest, command: Command) -> None:
        self.expander, self.request, self.asked, self.command = expander, request, asked, command
        self.recipe = expander.recipes[command.recipe]
        self.bad = False

    def error(self, detail: str) -> None:
        """Report a wrong argument."""
        self.bad = True
        self.expander.findings.add(
            "E-ARG", line=self.asked.line, n=self.asked.label, recipe=self.recipe.name, detail=detail
        )

    @property
    def tier(self) -> str:
        """Tier of the run."""
        return MASTER if self.command.is_master or self.recipe.short in ALWAYS_MASTER else NIGHT

    def plan(self) -> None:
        """Plan the run of the line, or report why it cannot be."""
        expander = self.expander
        step = Step(
            request=self.request.number,
            label="00",
            short=self.recipe.short,
            part="",
            recipe=self.recipe,
            tier=self.tier,
            variant=EXPLICIT_VARIANT.get(self.recipe.name, ""),
            skip=expander.settings.skips(self.recipe.short),
            text=self.command.text or self.recipe.name,
        )
        before = len(expander.tasks)
        active = expander.settings.runs(self.recipe.short)
        reason = "" if active else f"switched off: RUN_{self.recipe.short} = False"
        if self.recipe.takes == "" and self.recipe.group is Group.ARCHIVE:
            row = next(row for row in MASTER_ROWS if row.recipe == self.recipe.name)
            expander.expand_rows_of_line(self.request, row, step)
        elif self.recipe.takes == "objname":
            self._object(step)
        else:
            self._night(step)
        for task in expander.tasks[before:]:
            task.options = effective_options(self.recipe, self.command)
            if not active:
                task.state = State.SKIPPED_USER
        expander.counts.append(StepCount(step, len(expander.tasks) - before, (reason,) if reason else ()))

    def _object(self, step: Step) -> None:
        name = self.expander.names.resolve(self.command.objname)
        observed = sorted({f.frame_class for f in self.expander.selected.frames if f.is_object})
        if name not in observed:
            near = closest(name, observed)
            self.error(
                f'object "{self.command.objname}" was not observed'
                + (f"; the closest observed object is {near}" if near else "")
            )
            return
        row = Row(step.short, self.recipe.name, "object", self.recipe.arguments[0].types, "all")
        self.expander.expand_rows_of_line(self.request, row, step, only=name)

    def _night(self, step: Step) -> None:
        night = self.command.obs_dir
        given = dict(self.command.files)
        inputs: list[Inputs] = []
        for argument in self.recipe.arguments:
            names = given.get(argument.name, ())
            if names:
                inputs += self._files(argument, names)
            elif argument.required:
                inputs += self._all_of_night(argument)
        if self.bad:
            return
        frames = inputs[0].frames
        types = {f.dprtype for f in frames} - {UNKNOWN}
        kind = self.expander.instrument.frame_type(frames[0].dprtype) if types else None
        variant = step.variant
        if not variant and any(makes.variants for makes in self.recipe.makes):
            variant = frames[0].dprtype
        if variant != step.variant:
            from dataclasses import replace

            step = replace(step, variant=variant)
        mask = self._mask() if self.recipe.name == "cal_ccf" else ""
        if self.bad:
            return
        if self.recipe.name == "cal_ccf" and kind is not None and kind.reference == "fp":
            comb = self.expander.inputs("fpfiles", "E2DSFF", ("C",), frames, required=False)
            inputs.append(comb)
        task = Task(
            key=run_key(self.request.number, "00", 1),
            step=step,
            obs_dir=night,
            object="",
            stem=frames[0].identifier,
            time=mean_time(frames),
            inputs=tuple(inputs),
            mask=mask,
            science=kind.science if kind else "",
            reference=kind.reference if kind else "",
            options=effective_options(self.recipe, self.command),
        )
        self._register(task)

    def _register(self, task: Task) -> None:
        """Add the run unless an equal one is planned; refuse a different one for the same file."""
        expander = self.expander
        identity = task.identity()
        mine = {path for _, _, path in task.outputs()}
        for other in expander.tasks:
            if other.obs_dir != task.obs_dir or other.step.recipe is not task.step.recipe:
                continue
            shared = sorted(mine & {path for _, _, path in other.outputs()})
            if not shared:
                continue
            if other.identity() != identity:
                expander.findings.add(
                    "E-OUTPUT-CONFLICT",
                    line=self.asked.line,
                    n=f"{other.step.request:05d}",
                    m=self.asked.label,
                    path=shared[0],
                )
            return
        expander.register(self.request, task)

    def _mask(self) -> str:
        name = dict(self.command.options).get("mask")
        if name is None:
            return self.expander.mask_stem()
        text = str(name)
        if text not in self.expander.snapshot.masks:
            self.bad = True
            self.expander.findings.add(
                "E-NO-MASK", line=self.asked.line, n=self.asked.label, name=text, dirs="assets/masks"
            )
        return self.expander.mask_stem(text)

    def _all_of_night(self, argument: Argument) -> list[Inputs]:
        """Frames of the night that an argument the line cannot name takes."""
        frames = [
            f
            for f in self.expander.selected.night_frames.get(self.command.obs_dir, ())
            if f.dprtype in argument.types
        ]
        if not frames:
            self.error(
                f"night {self.command.obs_dir} has no {' or '.join(argument.types)} frame in the raw tree"
            )
            return []
        return [self.expander.inputs(argument.name, "PP", ("",), tuple(canonical(frames)))]

    def _files(self, argument: Argument, names: tuple[str, ...]) -> list[Inputs]:
        night = self.command.obs_dir
        found: dict[tuple[str, str], list[RawFrame]] = {}
        for written in names:
            if "/" in written:
                self.error(f'file "{written}" has a folder in it; give the base name, the night is {night}')
                continue
            if any(c in written for c in "*?["):
                matches = self._expand(argument, written)
                if not matches:
                    self._not_there(written, night)
            else:
                matches = [written]
            for name in matches:
                parsed = self._parse(argument, name)
                if parsed is not None:
                    kind, fibre, frame = parsed
                    found.setdefault((kind, fibre), []).append(frame)
        if self.bad or not found:
            return []
        if len({kind for kind, _ in found}) > 1:
            self.error(f"files of one kind expected, found {', '.join(sorted({k for k, _ in found}))}")
            return []
        kind = next(iter(found))[0]
        frames = canonical({f.identifier: f for group in found.values() for f in group}.values())
        types = sorted({f.dprtype for f in frames} - {UNKNOWN})
        if argument.one_type and len(types) > 1:
            self.error(f"{argument.name} must be of one type, found {', '.join(types)}")
        for frame in frames:
            if argument.types and frame.dprtype not in (*argument.types, UNKNOWN):
                self.error(f"{frame.identifier} is {frame.dprtype}, expected {' or '.join(argument.types)}")
        fibres = argument.fibres if kind not in ("RAW", "PP") else ("",)
        inputs = self.expander.inputs(argument.name, kind, fibres, tuple(frames))
        if kind != "RAW":
            for producer, frame in zip(inputs.producers, frames, strict=True):
                if producer == MISSING:
                    self._not_there(KINDS[kind].file_name(frame.identifier, fibres[0]), night)
        return [inputs]

    def _not_there(self, name: str, night: str) -> None:
        self.bad = True
        self.expander.findings.add(
            "E-NO-FILES",
            variant="line",
            line=self.asked.line,
            n=self.asked.label,
            recipe=self.recipe.name,
            path=name,
            folder=f"{self.recipe.tree_in}/{night}",
        )

    def _expand(self, argument: Argument, pattern: str) -> list[str]:
        """Names that match a pattern among planned and stored files of the night, sorted."""
        night, tree = self.command.obs_dir, self.recipe.tree_in
        known = set(self.expander.snapshot.listing.get(f"{tree}/{night}", frozenset()))
        if tree == "raw":
            frames = self.expander.selected.night_frames.get(night, ())
            known |= {frame.path.rpartition("/")[2] for frame in frames}
        else:
            for task in self.expander.tasks:
                if task.obs_dir == night and task.step.recipe.tree_out == tree:
                    known |= {path.rpartition("/")[2] for _, _, path in task.outputs()}
        names = [name for name in sorted(known) if fnmatchcase(name, pattern)]
        return [name for name in names if self._kind_of(argument, name) is not None]

    def _kind_of(self, argument: Argument, name: str) -> tuple[str, str] | None:
        match = IDENTIFIER.match(name)
        if match is None:
            return None
        if argument.kinds == ("RAW",):
            stem = name.removesuffix(".gz").removesuffix(".fits")
            return ("RAW", "") if stem == match.group(1) else None
        for kind in argument.kinds:
            for fibre in argument.fibres:
                if name == KINDS[kind].file_name(match.group(1), fibre):
                    return kind, fibre
        return None

    def _parse(self, argument: Argument, name: str) -> tuple[str, str, RawFrame] | None:
        found = self._kind_of(argument, name)
        if found is None:
            fibres = " or ".join(f for f in argument.fibres if f)
            of = f" of fibre {fibres}" if fibres else ""
            self.error(f'file "{name}" is not a {" or ".join(argument.kinds)} file{of}')
            return None
        match = IDENTIFIER.match(name)
        assert match is not None
        identifier, night = match.group(1), self.command.obs_dir
        for frame in self.expander.selected.night_frames.get(night, ()):
            if frame.identifier == identifier:
                return (*found, frame)
        if found[0] == "RAW":
            self._not_there(name, night)
            return None
        # The raw frame may be gone; the product on disk is enough to plan the run.
        return (*found, RawFrame(identifier, night, "", UNKNOWN, float("nan"), 0.0))


def plan_line(expander: Expander, request: Request, asked: RunFileRequest, command: Command) -> None:
    """Plan one explicit line; a database recipe is expanded into the runs it stands for."""
    recipe = expander.recipes[command.recipe]
    rows = macro_rows(recipe)
    if not rows:
        Line(expander, request, asked, command).plan()
        return
    on = expander.settings.runs(recipe.short)
    for number, row in enumerate(rows):
        step = Step(
            request=request.number,
            label=f"00{chr(ord('a') + number)}",
            short=row.short,
            part="",
            recipe=expander.recipes[row.recipe],
            tier=NIGHT,
            variant=row.variant,
            skip=expander.settings.skips(recipe.short),
            text=describe(row),
        )
        if on:
            expander.expand(request, row, step)
        else:
            expander.counts.append(StepCount(step, 0, (f"switched off: RUN_{recipe.short} = False",)))


__all__ = ["STORED", "Line", "effective_options", "plan_line"]
