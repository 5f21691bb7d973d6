"""The plan: plain records of runs, gates and internal nodes, and their JSON lines."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from json.encoder import encode_basestring
from typing import Any, NamedTuple

from apero_dask.core.declare import OptionValue, Recipe, options_set
from apero_dask.core.errors import Finding
from apero_dask.core.frames import RawFrame
from apero_dask.core.ids import canonical_json, text_digest
from apero_dask.core.layout import ending, endings_of, named_layout
from apero_dask.core.outcome import State
from apero_dask.core.products import KINDS, Life, folder

MISSING = "missing"
"""Producer of an input that neither exists nor is made."""
STORED = "stored"
"""Producer of an input that is on disk."""


@dataclass(frozen=True, slots=True)
class Step:
    """One active row of one request."""

    request: int
    label: str
    """Position in the sequence: ``07``, ``23a``; ``00`` for explicit lines."""
    short: str
    part: str
    """Frame type the row is limited to, where one switch covers two rows."""
    recipe: Recipe
    tier: str
    variant: str
    """What the recipe distinguishes: frame kind, telluric pass."""
    skip: bool
    """Finished runs are skipped."""
    text: str = ""
    """Row as users write it."""


class Inputs(NamedTuple):
    """Files of one argument, all of one product kind.

    A named tuple and no frozen dataclass: a large plan has half a million, made four times as fast.
    """

    argument: str
    kind: str
    """Product kind, ``RAW`` for raw frames."""
    fibres: tuple[str, ...]
    frames: tuple[RawFrame, ...]
    producers: tuple[str, ...]
    """Run key of the producer of each frame's files, or :data:`STORED` or :data:`MISSING`."""
    others: tuple[str, ...] = ()
    """Further stored files (paths) that no frame of the index stands for."""
    required: bool = True
    """A run without any of them cannot start."""
    refused: tuple[str, ...] = ()
    """Identifiers among the missing whose file is there but failed quality control."""

    def paths(self) -> list[str]:
        """Files below the data root, in canonical order."""
        if self.kind == "RAW":
            return [f"raw/{frame.path}" for frame in self.frames]
        if not self.frames:
            return list(self.others)
        tree, ends = endings_of(self.kind, self.fibres)
        found = [f"{tree}{frame.obs_dir}/{frame.identifier}{end}" for frame in self.frames for end in ends]
        found += self.others
        return found

    def by_producer(self) -> Iterator[tuple[str, list[str]]]:
        """(producer, its paths) of every frame and every further file."""
        paths = self.paths()
        width = len(self.fibres) if self.frames else 1
        split = len(self.frames) * width
        for number, producer in enumerate(self.producers):
            if number < len(self.frames):
                yield producer, paths[number * width : (number + 1) * width]
            else:
                place = split + number - len(self.frames)
                yield producer, paths[place : place + 1]


@dataclass(frozen=True, slots=True)
class Candidate:
    """A possible source of a calibration."""

    source: str
    """Run key of a planned run, else empty."""
    identity: str
    """Run identity of a stored product, or ``default:<key>``; empty for a planned run."""
    tier: str
    obs_dir: str
    rank: int
    """1 = own night, then 2, 3, ...; 0 = not searched."""
    kinds: tuple[str, ...]
    """Kinds it offers: those asked for, or those of the fallback."""
    fallback: bool
    """Another night, another tier or another kind than asked for."""

    @property
    def label(self) -> str:
        """Text in plan records."""
        return self.source or self.identity


@dataclass(frozen=True, slots=True)
class Selection:
    """A calibration a run needs, with its ranked candidates; the choice is made when outcomes are known."""

    kinds: tuple[str, ...]
    fibre: str
    applies_to: str
    optional: bool
    candidates: tuple[Candidate, ...]

    def record(self) -> dict[str, Any]:
        """Plain mapping for JSON."""
        entry: dict[str, Any] = {"kinds": list(self.kinds)}
        if self.fibre:
            entry["fibre"] = self.fibre
        if self.applies_to:
            entry["applies_to"] = self.applies_to
        if self.optional:
            entry["optional"] = True
        entry["candidates"] = [candidate.label for candidate in self.candidates]
        return entry


@dataclass(slots=True)
class Task:
    """One planned run.  Only ``state`` and ``marker`` change, once, while the plan is built."""

    key: str
    step: Step
    obs_dir: str
    object: str
    stem: str
    """Identifier, object or input name that the products are named after."""
    time: float
    """Product time, MJD: mean mid-exposure of the planned frames of the leading argument."""
    inputs: tuple[Inputs, ...]
    selections: tuple[Selection, ...] = ()
    depends: tuple[str, ...] = ()
    """Keys of order nodes: everything they gather must have ended, however."""
    gate: str = ""
    """Key of the gate that must be open."""
    options: tuple[tuple[str, OptionValue], ...] = ()
    mask: str = ""
    """Mask part of CCF product names."""
    science: str = ""
    """What the science fibres see."""
    reference: str = ""
    """What the reference fibre sees."""
    state: State = State.PLANNED
    marker: str = ""
    """Identity of the marker that allows to skip the run."""

    @property
    def dask_key(self) -> str:
        """Key in the task graph: folds by step on a dashboard."""
        return f"{self.step.short}-{self.key}"

    def outputs(self) -> list[tuple[str, str, str]]:
        """(kind, fibre, path below the data root) of every product, in the order of the declaration."""
        step = self.step
        recipe = step.recipe
        night = folder(recipe.tree_out, step.tier, self.obs_dir, Life.NIGHTLY)
        base = night + self.stem
        found: list[tuple[str, str, str]] = []
        for kind, rule, endings in named_layout(
            recipe, step.variant, self.reference, self.mask, options_set(self.options)
        ):
            if rule == "pp":
                for fibre, end in endings:
                    found.append((kind, fibre, base + end))
            elif rule == "object":
                place = folder(recipe.tree_out, step.tier, self.obs_dir, Life.OBJECT)
                found += [(kind, f, place + KINDS[kind].file_name(self.stem, f)) for f, _ in endings]
            else:
                for stem in self._stems(rule, kind):
                    found += [(kind, fibre, night + stem + end) for fibre, end in endings]
        return found

    def path(self, kind: str, fibre: str = "") -> str:
        """Path of one product of this run.

        Raises
        ------
        KeyError
            If the run does not make it.
        """
        for found, found_fibre, path in self.outputs():
            if found == kind and found_fibre == fibre:
                return path
        raise KeyError(f"{self.step.short} {self.key} does not make {kind} {fibre}")

    def _stems(self, rule: str, kind: str) -> list[str]:
        if rule == "odometer":
            return [self.stem[:7]]
        if rule == "input":
            if kind == "CCF_FP":
                # Velocity of the comb: from the spectrum of the reference fibre, whatever the main input is.
                return [self.stem + ending("E2DSFF", "C").removesuffix(".fits")]
            names = [path.rpartition("/")[2] for inputs in self.inputs[:1] for path in inputs.paths()]
            return [name.removesuffix(".gz").removesuffix(".fits") for name in names]
        return [self.stem]

    def identity(self, paths: Sequence[Sequence[str]] | None = None) -> str:
        """Run identity: what makes two runs the same, whatever id or host they run under.

        Digest of recipe, tier, variant (pass), night, object, sorted planned inputs by argument, mask and
        every option that changes the result.  ``paths``: those of the inputs, if the caller has them.
        """
        step, quote = self.step, encode_basestring
        if paths is None:
            paths = [inputs.paths() for inputs in self.inputs]
        files = {inputs.argument: sorted(found) for inputs, found in zip(self.inputs, paths, strict=True)}
        # Canonical JSON put together by hand: this is asked for once per run, and most of it is known.
        texts = [f"{quote(name)}:[{','.join(map(quote, files[name]))}]" for name in sorted(files)]
        options = canonical_json([list(option) for option in self.options]) if self.options else "[]"
        return text_digest(
            f"[{quote(step.recipe.name)},{quote(step.tier)},{quote(step.variant)},{quote(self.obs_dir)},"
            f"{quote(self.object)},{{{','.join(texts)}}},{quote(self.mask)},{options}]"
        )

    def producers(self) -> list[str]:
        """Run keys of the producers of the inputs, each once, in order."""
        keys: dict[str, None] = {}
        for inputs in self.inputs:
            keys.update(dict.fromkeys(inputs.producers))
        keys.pop(STORED, None)
        keys.pop(MISSING, None)
        return list(keys)

    def record(self) -> dict[str, Any]:
        """What the JSON line of the run says, as a plain mapping."""
        step, resources = self.step, self.step.recipe.resources
        entry: dict[str, Any] = {
            "key": self.key,
            "short": step.short,
            "recipe": step.recipe.name,
            "tier": step.tier,
        }
        if step.variant:
            entry["variant"] = step.variant
        entry["object" if self.object else "obs_dir"] = self.object or self.obs_dir
        entry["inputs"] = {inputs.argument: inputs.paths() for inputs in self.inputs}
        missing = refused = 0
        for inputs in self.inputs:
            refused += len(inputs.refused)
            missing += inputs.producers.count(MISSING)
        if missing > refused:
            entry["missing_inputs"] = missing - refused
        if refused:
            entry["refused_inputs"] = refused
        entry["options"] = dict(self.options)
        entry["outputs"] = _output_record(self.outputs())
        entry["selects"] = [s.record() for s in self.selections]
        depends = [*self.producers(), *self.depends]
        if self.gate:
            depends.append(self.gate)
        entry["depends"] = depends
        entry["resources"] = {
            "memory_gb": resources.memory_gb,
            "seconds": self.seconds(),
            "threads": resources.threads,
        }
        entry["state"] = self.state.value
        if self.marker:
            entry["marker"] = self.marker
        return entry

    def seconds(self) -> float:
        """Estimated duration at full frame, s."""
        resources = self.step.recipe.resources
        if not resources.per_input_s:
            return resources.seconds
        files = sum(len(inputs.producers) for inputs in self.inputs)
        return resources.seconds + resources.per_input_s * max(0, files - 1)


def _output_record(outputs: list[tuple[str, str, str]]) -> dict[str, list[str]]:
    table: dict[str, list[str]] = {}
    for kind, _, path in outputs:
        table.setdefault(kind, []).append(path)
    return table


@dataclass(slots=True)
class Node:
    """A point that gathers runs: a gate, an order of ids (both policy only), or an internal task."""

    key: str
    """``GATE-MASTER_OK``, ``ORDER-<id>``, ``PCA1-<id>``, ..."""
    kind: str
    """``gate`` (open when all passed), ``order`` (open when all ended) or ``model``."""
    members: tuple[str, ...]
    """Runs it gathers, in canonical order."""
    stored: tuple[str, ...] = ()
    """Paths of stored products that belong to the set."""
    fallback: tuple[str, ...] = ()
    """Members of the set that is used when the first set is empty."""
    fallback_stored: tuple[str, ...] = ()
    product: str = ""
    """Product kind of a model node."""
    after: str = ""
    """Key of the order node that holds it back."""
    state: State = State.PLANNED
    marker: str = ""

    def outputs(self) -> list[tuple[str, str, str]]:
        """(kind, fibre, path) of the product of a model node."""
        if not self.product:
            return []
        kind = KINDS[self.product]
        return [(self.product, "AB", folder("reduced", "night", "", Life.OBJECT) + kind.file_name("", "AB"))]

    def record(self) -> dict[str, Any]:
        """Plain mapping for one JSON line; has ``node`` instead of ``short``."""
        entry: dict[str, Any] = {"key": self.key, "node": self.kind, "members": list(self.members)}
        if self.stored:
            entry["stored"] = list(self.stored)
        if self.fallback or self.fallback_stored:
            entry["fallback"] = [*self.fallback, *self.fallback_stored]
        if self.product:
            entry["outputs"] = _output_record(self.outputs())
        if self.after:
            entry["depends"] = [self.after]
        entry["state"] = self.state.value
        if self.marker:
            entry["marker"] = self.marker
        return entry


@dataclass(frozen=True, slots=True)
class StepCount:
    """How many runs a row of a request has, and why when there are none or frames were left out."""

    step: Step
    runs: int
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that would run, in canonical order."""

    instrument: str
    tasks: tuple[Task, ...]
    nodes: tuple[Node, ...]
    counts: tuple[StepCount, ...]
    findings: tuple[Finding, ...] = ()
    by_key: dict[str, Task | Node] = field(default_factory=dict, repr=False)

    @classmethod
    def of(
        cls,
        instrument: str,
        tasks: Iterable[Task],
        nodes: Iterable[Node],
        counts: Iterable[StepCount],
        findings: Iterable[Finding] = (),
    ) -> Plan:
        """Plan with its table by key."""
        tasks, nodes = tuple(tasks), tuple(nodes)
        by_key: dict[str, Task | Node] = {task.key: task for task in tasks}
        by_key.update((node.key, node) for node in nodes)
        return cls(instrument, tasks, nodes, tuple(counts), tuple(findings), by_key)

    def json_lines(self) -> Iterator[str]:
        """One JSON text per run, then per node, each with its newline; made as they are read."""
        # Only here: the module of the lines needs the records defined in this one.
        from apero_dask.core.plan_lines import json_lines

        return json_lines(self)

    def runs_by_short(self) -> dict[str, int]:
        """Number of runs by short name, in plan order."""
        table: dict[str, int] = {}
        for task in self.tasks:
            table[task.step.short] = table.get(task.step.short, 0) + 1
        return table
