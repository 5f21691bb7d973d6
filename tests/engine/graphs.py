"""Random plans without files, and the fate of every run in them."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from apero_dask.core.declare import Group, Makes, Recipe, Resources
from apero_dask.core.outcome import Marker, OutputRecord, State
from apero_dask.core.plan import MISSING, Candidate, Inputs, Node, Plan, Selection, Step, Task
from apero_dask.core.snapshot import Snapshot

RECIPE = Recipe(
    name="random_graph_run",
    short="RUN",
    scripts=(),
    group=Group.FILE,
    tree_in="tmp",
    tree_out="reduced",
    takes="",
    arguments=(),
    makes=(Makes("SHAPEL"), Makes("TRANS1", ("AB",))),
    resources=Resources(1.0, 1.0),
)
GATE, ORDER, MODEL = "GATE-MASTER_OK", "ORDER-1", "PCA1-1"
FATES = ("done", "qc", "error", "poison")


@dataclass
class Case:
    """A plan and how its runs will end."""

    seed: int
    plan: Plan
    fates: dict[str, str]
    """By key: done, qc, error, or poison (always kills its worker)."""
    snapshot: Snapshot = field(default_factory=Snapshot)
    failed_markers: set[str] = field(default_factory=set)
    """Skipped runs whose marker says that quality control failed."""


def product(task: Task | Node) -> str:
    """Path of what others read of a run."""
    return task.outputs()[0][2]


def random_case(seed: int) -> Case:
    """Plan of 5 to 40 runs: inputs, ranked selections, a gate, an order node, a model, some runs skipped."""
    rng = random.Random(seed)
    count = rng.randint(5, 40)
    bad = rng.choice([0.0, 0.1, 0.3, 0.6])
    masters = rng.randint(0, count // 4) if rng.random() < 0.5 else 0
    tasks: list[Task] = []
    nodes: list[Node] = []
    fates: dict[str, str] = {}
    markers: dict[str, Marker] = {}
    failed: set[str] = set()
    selections: list[tuple[Selection, ...]] = []
    for number in range(count):
        if number == masters and masters:
            nodes.append(Node(GATE, "gate", tuple(t.key for t in tasks)))
        if number == count // 2 and rng.random() < 0.4:
            members = rng.sample(tasks, min(len(tasks), rng.randint(0, 4)))
            others = rng.sample(tasks, min(len(tasks), rng.randint(0, 2))) if rng.random() < 0.4 else []
            nodes.append(
                Node(
                    MODEL,
                    "model",
                    tuple(t.key for t in members),
                    fallback=tuple(t.key for t in others),
                    product="MODEL1",
                )
            )
        if number == 2 * count // 3 and rng.random() < 0.3:
            nodes.append(Node(ORDER, "order", tuple(t.key for t in rng.sample(tasks, len(tasks) // 2))))
        there = {n.key for n in nodes}
        night = number >= masters
        step = Step(1, "01", "RUN", "", RECIPE, "night" if night else "master", "", False)
        if selections and rng.random() < 0.3:
            chosen = rng.choice(selections)
        else:
            chosen = tuple(_selection(rng, tasks) for _ in range(rng.randint(0, 2)))
            selections.append(chosen)
        model = next((n for n in nodes if n.key == MODEL), None)
        tasks.append(
            Task(
                key=f"00001.01.{number:05d}",
                step=step,
                obs_dir=f"n{number}",
                object="",
                stem=f"f{number}",
                time=0.0,
                inputs=_inputs(rng, tasks, model),
                selections=chosen,
                depends=(ORDER,) if ORDER in there and rng.random() < 0.2 else (),
                gate=GATE if night and GATE in there and rng.random() < 0.3 else "",
                options=(("no_in_qc", True),) if rng.random() < 0.1 else (),
            )
        )
        task = tasks[-1]
        fates[task.key] = rng.choice(FATES[1:]) if rng.random() < bad else "done"
        if rng.random() < 0.08:
            good = rng.random() < 0.8
            task.state, task.marker = State.SKIPPED_EXISTS, task.identity()
            markers[task.marker] = _marker(task, good)
            if not good:
                failed.add(task.key)
    for node in nodes:
        fates[node.key] = "error" if node.key == MODEL and rng.random() < bad else "done"
    plan = Plan.of("SPIROU", tasks, nodes, ())
    return Case(seed, plan, fates, Snapshot.of(markers.values()), failed)


def _inputs(rng: random.Random, tasks: list[Task], model: Node | None) -> tuple[Inputs, ...]:
    found = []
    if model is not None and rng.random() < 0.2:
        found.append(Inputs("model", "MODEL1", ("AB",), (), (model.key,), (product(model),)))
    for argument in ("files", "more")[: rng.randint(0, 2)]:
        makers = rng.sample(tasks, min(len(tasks), rng.randint(1, 4)))
        keys, paths = [t.key for t in makers], [product(t) for t in makers]
        if rng.random() < 0.1:
            keys.append(MISSING)
            paths.append("reduced/n/gone.fits")
        if keys:
            found.append(
                Inputs(argument, "SHAPEL", ("",), (), tuple(keys), tuple(paths), required=rng.random() < 0.8)
            )
    return tuple(found)


def _selection(rng: random.Random, tasks: list[Task]) -> Selection:
    makers = rng.sample(tasks, min(len(tasks), rng.randint(0, 4)))
    fixed = bool(makers) and rng.random() < 0.15
    candidates = [
        Candidate(t.key, "", t.step.tier, t.obs_dir, 0 if fixed else rank, ("SHAPEL",), rank > 1)
        for rank, t in enumerate(makers[:1] if fixed else makers, start=1)
    ]
    if not fixed and rng.random() < 0.3:
        candidates.append(Candidate("", "default:WAVE0", "master", "", 0, ("WAVE0",), True))
    return Selection(("SHAPEL",), "", "", rng.random() < 0.2, tuple(candidates))


def _marker(task: Task, good: bool) -> Marker:
    outputs = tuple(
        OutputRecord(kind, fibre, path, 1, f"old {path}", f"old {path}")
        for kind, fibre, path in task.outputs()
    )
    return Marker(
        identity=task.identity(),
        short="RUN",
        recipe=RECIPE.name,
        tier=task.step.tier,
        variant="",
        obs_dir=task.obs_dir,
        object="",
        stem=task.stem,
        time=0.0,
        state=State.DONE if good else State.QC_FAILED,
        inputs=(),
        planned_inputs=(),
        choices=(),
        outputs=outputs,
        code="",
    )
