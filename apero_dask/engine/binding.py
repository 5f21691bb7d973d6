"""From a task of the plan to work with chosen inputs and calibrations.

Two ways lead to the same work.  *Resolved*: every outcome before the run is known to the driver.
*Optimistic*: the run is submitted behind others that have not ended, and assumes that they will all pass; the
worker completes it with their outcomes, or answers ``deferred`` when one did not pass.
The resolver then decides.
"""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import replace

from apero_dask.core.ids import digest
from apero_dask.core.outcome import OutputRecord, State
from apero_dask.core.plan import MISSING, STORED, Candidate, Node, Plan, Task
from apero_dask.core.products import registered_name
from apero_dask.core.snapshot import Snapshot
from apero_dask.core.work import Calibration, CalibrationFile, InputFile, TaskOutcome, Work
from apero_dask.engine.made import Finished, Made
from apero_dask.planner.catalogue import DEFAULT, GIVEN
from apero_dask.planner.resolve import Binding
from apero_dask.planner.skip import node_identity, raw_content

MODEL_RECIPE = "tellu_model"
"""Internal recipe of the model nodes."""
PENDING = "pending:"
"""Digest of a file whose producer has not ended: the key of the producer follows."""


class Binder:
    """Makes work from tasks.

    Parameters
    ----------
    plan, snapshot
        What is executed and what was there before.
    common : Work
        Template with the fields that are the same for every run: invocation, instrument, trees, volatile.
    code : mapping
        Digest of the code of every recipe.
    """

    def __init__(self, plan: Plan, snapshot: Snapshot, common: Work, code: Mapping[str, str]) -> None:
        self.plan, self.snapshot, self.common, self.code = plan, snapshot, common, code
        self.finished: MutableMapping[str, Finished] = Made(plan)
        """Products by run key, of skipped runs and of those that ended in this invocation."""

    def resolved(self, key: str, binding: Binding) -> Work:
        """Work of a run whose dependencies have all ended."""
        item = self.plan.by_key[key]
        if isinstance(item, Node):
            return self._node(item, binding)
        producers = self._producers(item)
        inputs = tuple(
            (argument, tuple(self._input(item, path, producers) for path in paths))
            for argument, paths in binding.inputs
        )
        calibrations = tuple(
            self._calibration(selection.kinds, selection.fibre, selection.applies_to, choice)
            for selection, choice in zip(item.selections, binding.choices, strict=True)
        )
        return self._work(item, inputs, calibrations)

    def optimistic(self, key: str) -> Work | None:
        """Work that assumes that all dependencies pass and first candidates are taken; None if it cannot."""
        item = self.plan.by_key[key]
        if isinstance(item, Node):
            return None
        inputs = []
        producers = self._producers(item)
        for argument in item.inputs:
            if MISSING in argument.producers:
                return None
            files = tuple(self._input(item, path, producers) for path in argument.paths())
            inputs.append((argument.argument, files))
        calibrations = []
        for selection in item.selections:
            if not selection.candidates:
                if not selection.optional:
                    return None
                choice = None
            else:
                choice = selection.candidates[0]
            calibrations.append(
                self._calibration(selection.kinds, selection.fibre, selection.applies_to, choice)
            )
        return self._work(item, tuple(inputs), tuple(calibrations))

    def _work(
        self,
        task: Task,
        inputs: tuple[tuple[str, tuple[InputFile, ...]], ...],
        calibrations: tuple[Calibration, ...],
    ) -> Work:
        step = task.step
        archive = step.recipe.group == "archive"
        names = tuple(f.identifier for a in task.inputs for f in a.frames) if archive else ()
        frames = [f for a in task.inputs for f in a.frames]
        target = frames[0].frame_class if step.recipe.group == "file" and frames else ""
        return replace(
            self.common,
            key=task.key,
            short=step.short,
            recipe=step.recipe.name,
            tier=step.tier,
            variant=step.variant,
            obs_dir=task.obs_dir,
            object=task.object or target,
            stem=task.stem,
            time=task.time,
            identity=task.identity(),
            code=self.code.get(step.recipe.name, ""),
            inputs=inputs,
            planned_inputs=names,
            calibrations=calibrations,
            outputs=tuple(task.outputs()),
            options=task.options,
            science=task.science,
            reference=task.reference,
            threads=step.recipe.resources.threads,
        )

    def _node(self, node: Node, binding: Binding) -> Work:
        argument, paths = binding.inputs[0]
        made = {
            output.path: InputFile(output.path, output.digest, output.content)
            for key in (*node.members, *node.fallback)
            if key in self.finished
            for output in self.finished[key].outputs
        }
        files = tuple(made.get(path) or self._stored_file(path, STORED) for path in paths)
        return replace(
            self.common,
            key=node.key,
            short=node.key.partition("-")[0],
            recipe=MODEL_RECIPE,
            tier="night",
            variant="p1" if node.product == "MODEL1" else "final",
            obs_dir="",
            object="",
            stem="",
            time=0.0,
            identity=node_identity(node, self.plan),
            code=self.code.get(MODEL_RECIPE, ""),
            inputs=((argument, files),),
            planned_inputs=(),
            calibrations=(),
            outputs=tuple(node.outputs()),
            members=node.members,
        )

    def _input(self, task: Task, path: str, producers: Mapping[str, str]) -> InputFile:
        for inputs in task.inputs:
            if inputs.kind != "RAW":
                continue
            for frame, name in zip(inputs.frames, inputs.paths(), strict=True):
                if name == path:
                    return InputFile(path, "", raw_content(frame.size, frame.digest))
        return self._stored_file(path, producers[path])

    def _stored_file(self, path: str, producer: str) -> InputFile:
        """File of a planned run, of an earlier one, or of another program."""
        if producer not in (STORED, MISSING):
            done = self.finished.get(producer)
            if done is None:
                return InputFile(path, PENDING + producer, "")
            found = next((o for o in done.outputs if o.path == path), None)
            if found is not None:
                return InputFile(path, found.digest, found.content)
        stored = self.snapshot.outputs.get(path)
        if stored is not None:
            return InputFile(path, stored[1].digest, stored[1].content)
        return InputFile(path)

    def _producers(self, task: Task) -> dict[str, str]:
        table: dict[str, str] = {}
        for inputs in task.inputs:
            paths = inputs.paths()
            width = len(inputs.fibres) if inputs.frames else 1
            split = len(inputs.frames) * width
            for number, path in enumerate(paths):
                position = number // width if number < split else len(inputs.frames) + number - split
                table[path] = inputs.producers[position]
        return table

    def _calibration(
        self, kinds: tuple[str, ...], fibre: str, applies_to: str, choice: Candidate | None
    ) -> Calibration:
        if choice is None:
            return Calibration(kinds, fibre, applies_to, "")
        if choice.identity.startswith((DEFAULT, GIVEN)):
            return Calibration(
                kinds, fibre, applies_to, choice.identity, choice.obs_dir, 0.0, choice.rank, choice.fallback
            )
        if choice.source:
            done = self.finished.get(choice.source)
            if done is None:
                return self._expected(kinds, fibre, applies_to, choice)
        else:
            done = Finished.of_marker(self.snapshot.markers[choice.identity])
        return chosen(kinds, fibre, applies_to, choice, done)

    def _expected(
        self, kinds: tuple[str, ...], fibre: str, applies_to: str, choice: Candidate
    ) -> Calibration:
        task = self.plan.by_key[choice.source]
        assert isinstance(task, Task)
        outputs = tuple(
            OutputRecord(kind, f, path, 0, PENDING + choice.source, "") for kind, f, path in task.outputs()
        )
        done = Finished(task.identity(), task.step.tier, task.obs_dir, task.time, outputs)
        return chosen(kinds, fibre, applies_to, choice, done)


def chosen(
    kinds: tuple[str, ...], fibre: str, applies_to: str, choice: Candidate, done: Finished
) -> Calibration:
    """Calibration record of a chosen run."""
    used = [o for o in done.outputs if o.kind in choice.kinds]
    if fibre:
        used = [o for o in used if o.fibre in ("", fibre)]
    return Calibration(
        kinds=kinds,
        fibre=fibre,
        applies_to=applies_to,
        source=done.identity,
        obs_dir=done.obs_dir,
        time=done.time,
        rank=choice.rank,
        fallback=choice.fallback,
        content=content_of(used),
        files=tuple(
            CalibrationFile(
                o.kind,
                o.fibre,
                o.path,
                o.digest,
                o.content,
                registered_name(done.tier, done.obs_dir, o.path.rpartition("/")[2]),
            )
            for o in used
        ),
    )


def content_of(outputs: Sequence[OutputRecord]) -> str:
    """Digest over content digests, as the planner's skip decision computes it."""
    return digest([[o.path, o.content] for o in sorted(outputs, key=lambda o: o.path)])


def complete(work: Work, upstream: Sequence[TaskOutcome]) -> Work | None:
    """Fill in what an optimistic run did not know; None if a run before it did not pass.

    Pure: the same outcomes give the same work on any worker.
    """
    outcomes = {outcome.key: outcome for outcome in upstream}
    if any(outcome.state is not State.DONE for outcome in upstream):
        return None

    def record(path: str, pending: str) -> OutputRecord | None:
        done = outcomes.get(pending.removeprefix(PENDING))
        return next((o for o in done.outputs if o.path == path), None) if done is not None else None

    inputs = []
    for argument, files in work.inputs:
        filled = []
        for file in files:
            if file.digest.startswith(PENDING):
                found = record(file.path, file.digest)
                if found is None:
                    return None
                file = InputFile(file.path, found.digest, found.content)
            filled.append(file)
        inputs.append((argument, tuple(filled)))
    calibrations = []
    for calibration in work.calibrations:
        if any(f.digest.startswith(PENDING) for f in calibration.files):
            fresh, records = [], []
            for file in calibration.files:
                found = record(file.path, file.digest)
                if found is None:
                    return None
                records.append(found)
                fresh.append(replace(file, digest=found.digest, content=found.content))
            calibration = replace(calibration, files=tuple(fresh), content=content_of(records))
        calibrations.append(calibration)
    return replace(work, inputs=tuple(inputs), calibrations=tuple(calibrations))
