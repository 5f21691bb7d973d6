"""JSON lines of a plan, put together from texts: the records of ``plan.py``, written several times as fast.

A large plan has some hundred thousand runs whose records repeat themselves; making a mapping of each and
encoding it takes longer than planning.  What a line says is defined by ``Task.record`` and ``Node.record``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from json.encoder import encode_basestring as quote

from apero_dask.core.declare import Resources
from apero_dask.core.plan import MISSING, STORED, Plan, Step, Task

_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode


def json_lines(plan: Plan) -> Iterator[str]:
    """One JSON text per run, then per node, each with its newline; made as they are read."""
    # Runs of one night and step share their selections, by far the longest entry of a line.
    selections: dict[int, str] = {}
    steps: dict[int, str] = {}
    for task in plan.tasks:
        selects = selections.get(id(task.selections))
        if selects is None:
            selects = _encode([selection.record() for selection in task.selections])
            selections[id(task.selections)] = selects
        step = steps.get(id(task.step))
        if step is None:
            step = steps[id(task.step)] = _step_text(task.step)
        yield _line(task, step, selects)
    for node in plan.nodes:
        yield _encode(node.record()) + "\n"


def _step_text(step: Step) -> str:
    """What follows the key in every line of a step."""
    variant = f',"variant":{quote(step.variant)}' if step.variant else ""
    return (
        f'"short":{quote(step.short)},"recipe":{quote(step.recipe.name)},"tier":{quote(step.tier)}{variant}'
    )


def _line(task: Task, step: str, selects: str) -> str:
    """Line of one run; ``step``, ``selects``: texts that it shares with others."""
    inputs: dict[str, str] = {}
    missing = refused = 0
    producers: dict[str, None] = {}
    for given in task.inputs:
        inputs[given.argument] = _quoted(given.paths())
        refused += len(given.refused)
        missing += given.producers.count(MISSING)
        producers.update(dict.fromkeys(given.producers))
    producers.pop(STORED, None)
    producers.pop(MISSING, None)
    depends = [*producers, *task.depends]
    if task.gate:
        depends.append(task.gate)
    absent = f',"missing_inputs":{missing - refused}' if missing > refused else ""
    if refused:
        absent += f',"refused_inputs":{refused}'
    outputs: dict[str, list[str]] = {}
    for kind, _fibre, path in task.outputs():
        outputs.setdefault(kind, []).append(path)
    where = f'"object":{quote(task.object)}' if task.object else f'"obs_dir":{quote(task.obs_dir)}'
    given_texts = ",".join([f"{quote(name)}:{paths}" for name, paths in inputs.items()])
    output_texts = ",".join([f"{quote(kind)}:{_quoted(paths)}" for kind, paths in outputs.items()])
    resources = _resources(task.step.recipe.resources, task.seconds())
    marker = f',"marker":{quote(task.marker)}' if task.marker else ""
    return (
        f'{{"key":{quote(task.key)},{step},{where},"inputs":{{{given_texts}}}{absent},'
        f'"options":{_encode(dict(task.options)) if task.options else "{}"},'
        f'"outputs":{{{output_texts}}},"selects":{selects},"depends":{_quoted(depends)},'
        f'"resources":{resources},"state":"{task.state.value}"{marker}}}\n'
    )


def _quoted(names: list[str]) -> str:
    return f"[{','.join(map(quote, names))}]"


@cache
def _resources(resources: Resources, seconds: float) -> str:
    return _encode({"memory_gb": resources.memory_gb, "seconds": seconds, "threads": resources.threads})
