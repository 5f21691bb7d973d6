"""Invocations without pixels: markers made from what a plan declares.

The content of every product is a digest of everything its run read, so that a changed input shows in all that
follows, as it would with real files.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from apero_dask.core.ids import digest
from apero_dask.core.outcome import ChoiceRecord, Marker, OutputRecord, State
from apero_dask.core.plan import Candidate, Node, Plan, Selection, Task
from apero_dask.core.snapshot import Snapshot
from apero_dask.planner.resolve import Binding, Resolver
from apero_dask.planner.skip import choice_content, node_identity, raw_content

Outcome = Callable[[Task | Node], State]


def all_pass(item: Task | Node) -> State:
    """Every run ends well."""
    return State.DONE


def failing(table: Mapping[tuple[str, str, str], State]) -> Outcome:
    """Outcome by (short name, night or object, stem); an empty night or stem stands for all."""

    def outcome(item: Task | Node) -> State:
        if isinstance(item, Task):
            for (short, where, stem), state in table.items():
                if (
                    short == item.step.short
                    and where in ("", item.obs_dir, item.object)
                    and stem in ("", item.stem)
                ):
                    return state
        return State.DONE

    return outcome


@dataclass
class Done:
    """What an invocation left."""

    snapshot: Snapshot
    states: dict[str, State]
    executed: list[str]
    """Keys of the runs and model nodes that started, in the order they ended."""
    resolver: Resolver

    def tally(self, plan: Plan) -> dict[str, int]:
        """Number of runs (not nodes) by final state."""
        table: dict[str, int] = {}
        for task in plan.tasks:
            name = self.states[task.key].value
            table[name] = table.get(name, 0) + 1
        return table

    def executed_by_short(self, plan: Plan) -> dict[str, int]:
        """Number of executed runs by short name."""
        table: dict[str, int] = {}
        for key in self.executed:
            task = plan.by_key[key]
            if isinstance(task, Task):
                table[task.step.short] = table.get(task.step.short, 0) + 1
        return table


def execute(
    plan: Plan,
    before: Snapshot | None = None,
    outcome: Outcome = all_pass,
    *,
    invocation: str = "first",
    stop_after: int | None = None,
    seed: int | None = None,
    code: Mapping[str, str] | None = None,
) -> Done:
    """Play a plan to its end, or until ``stop_after`` runs have ended; ``seed`` shuffles the order."""
    before = before or Snapshot()
    skipped = {k: before.markers[i.marker] for k, i in plan.by_key.items() if i.marker}
    failed = [key for key, marker in skipped.items() if marker.state is State.QC_FAILED]
    resolver = Resolver(plan, failed)
    writer = _Writer(plan, before, skipped, invocation, dict(code if code is not None else before.code))
    order = random.Random(seed)
    ready = list(resolver.start().ready)
    executed: list[str] = []
    while ready and (stop_after is None or len(executed) < stop_after):
        key = ready.pop(order.randrange(len(ready)) if seed is not None else 0)
        state = outcome(plan.by_key[key])
        if state in (State.DONE, State.QC_FAILED):
            writer.write(key, resolver.bindings[key], state)
        executed.append(key)
        ready += resolver.record(key, state).ready
    return Done(writer.snapshot(), dict(resolver.states), executed, resolver)


class _Writer:
    def __init__(
        self,
        plan: Plan,
        before: Snapshot,
        skipped: Mapping[str, Marker],
        invocation: str,
        code: dict[str, str],
    ) -> None:
        self.plan, self.before, self.invocation, self.code = plan, before, invocation, code
        self.by_key = dict(skipped)
        self.content = {path: output.content for path, (_, output) in before.outputs.items()}
        self.written: dict[str, Marker] = {}

    def snapshot(self) -> Snapshot:
        """Markers of all invocations so far; those whose files were written anew by another run are gone."""
        paths = {o.path for marker in self.written.values() for o in marker.outputs}
        kept = [
            marker
            for marker in self.before.markers.values()
            if marker.identity not in self.written and not paths & {o.path for o in marker.outputs}
        ]
        return Snapshot.of([*kept, *self.written.values()], code=self.code)

    def write(self, key: str, binding: Binding, state: State) -> None:
        item = self.plan.by_key[key]
        raw = {}
        if isinstance(item, Task):
            raw = {
                f"raw/{f.path}": raw_content(f.size, f.digest)
                for inputs in item.inputs
                if inputs.kind == "RAW"
                for f in inputs.frames
            }
        inputs = tuple((p, raw.get(p) or self.content[p]) for _, paths in binding.inputs for p in paths)
        choices: tuple[ChoiceRecord, ...] = ()
        if isinstance(item, Task):
            choices = tuple(self._choice(s, c) for s, c in zip(item.selections, binding.choices, strict=True))
        identity = item.identity() if isinstance(item, Task) else node_identity(item, self.plan)
        seed = digest([identity, inputs, [[c.source, c.content] for c in choices]])
        outputs = tuple(
            OutputRecord(kind, fibre, path, 2880, digest([seed, path, self.invocation]), digest([seed, path]))
            for kind, fibre, path in item.outputs()
        )
        self.content.update((output.path, output.content) for output in outputs)
        self.written[identity] = self.by_key[key] = self._marker(
            item, identity, state, inputs, choices, outputs
        )

    def _choice(self, selection: Selection, choice: Candidate | None) -> ChoiceRecord:
        name = selection.fibre + selection.applies_to
        if choice is None:
            return ChoiceRecord(selection.kinds, name, "", "", 0, False)
        if not choice.source and choice.identity not in self.before.markers:
            return ChoiceRecord(selection.kinds, name, choice.identity, "", choice.rank, choice.fallback)
        marker = self.by_key[choice.source] if choice.source else self.before.markers[choice.identity]
        content = choice_content(marker, choice.kinds, Snapshot())
        return ChoiceRecord(selection.kinds, name, marker.identity, content, choice.rank, choice.fallback)

    def _marker(
        self,
        item: Task | Node,
        identity: str,
        state: State,
        inputs: tuple[tuple[str, str], ...],
        choices: tuple[ChoiceRecord, ...],
        outputs: tuple[OutputRecord, ...],
    ) -> Marker:
        if isinstance(item, Node):
            return Marker(
                identity, "PCA", "tellu_model", "night", item.product, "", "", "", 0.0, state,
                inputs, (), choices, outputs, self.code.get("tellu_model", ""), self.invocation,
            )  # fmt: skip
        frames = [frame for argument in item.inputs for frame in argument.frames]
        group = item.step.recipe.group
        return Marker(
            identity=identity,
            short=item.step.short,
            recipe=item.step.recipe.name,
            tier=item.step.tier,
            variant=item.step.variant,
            obs_dir=item.obs_dir,
            object=item.object or (frames[0].frame_class if group == "file" and frames else ""),
            stem=item.stem,
            time=item.time,
            state=state,
            inputs=inputs,
            planned_inputs=tuple(f.identifier for f in frames) if group == "archive" else (),
            choices=choices,
            outputs=outputs,
            code=self.code.get(item.step.recipe.name, ""),
            invocation=self.invocation,
        )
