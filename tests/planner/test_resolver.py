"""The resolver against an independent oracle: random failures, orders of completion and archives."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from apero_dask.core.frames import FrameIndex
from apero_dask.core.outcome import State
from apero_dask.core.plan import Plan, Task
from apero_dask.core.settings import Settings
from apero_dask.planner.build import build_plan
from apero_dask.planner.resolve import Resolver
from tests.planner.archive import worked_index
from tests.planner.oracle import Oracle, needs
from tests.planner.planning import NIGHTS, SPIROU, settings_of

CASES = 2000
ARCHIVES = 16
ENDINGS = (State.QC_FAILED, State.FAILED_ERROR, State.FAILED_WORKER)


def thinned(rng: random.Random) -> FrameIndex:
    """The worked nights with frames and whole types missing, save on the master night; a far night."""
    kept = []
    missing = {
        (night, dprtype)
        for night in (*NIGHTS[1:], "2018-10-08")
        for dprtype in sorted({f.dprtype for f in worked_index()})
        if rng.random() < 0.15
    }
    extra = ("2018-10-08",) if rng.random() < 0.4 else ()
    for frame in worked_index(*extra):
        if (frame.obs_dir, frame.dprtype) in missing:
            continue
        if frame.obs_dir != NIGHTS[0] and rng.random() < 0.5:
            continue
        if frame.obs_dir == NIGHTS[0] and frame.dprtype in ("DARK_FLAT", "FLAT_DARK") and rng.random() < 0.6:
            continue
        kept.append(frame)
    return FrameIndex.of(kept)


def variants() -> Iterator[tuple[Plan, Settings]]:
    """Plans of small archives under several run files."""
    texts = (
        "id1 = limited_seq",
        "CALIB_DB_MATCH = older\nid1 = limited_seq",
        "CALIB_DB_MATCH = newer\nMAX_CALIB_DTIME = 1.0\nid1 = limited_seq",
        "CALIB_GROUPING = exposure_sequence\nRUN_LEAKOBJ = False\nid1 = limited_seq",
        "USE_ENGINEERING = True\nRUN_MKTELLU4 = False\nid1 = limited_seq",
        "RUN_THERMAL = False\nid1 = full_seq",
        "RUN_LEAKM = False\nid1 = full_seq",
        "id1 = eng_seq\nid0 = limited_seq",
    )
    rng = random.Random(20180925)
    for number in range(ARCHIVES):
        settings = settings_of(texts[number % len(texts)])
        yield build_plan(thinned(rng), settings, SPIROU), settings


@pytest.fixture(scope="module")
def plans() -> list[tuple[Plan, Settings]]:
    return list(variants())


def midnights() -> dict[str, float]:
    """Local midnight of every night, written out for this site and these dates (longitude 155.468876 W)."""
    phi = 155.468876 / 360.0
    days = {"2018-09-25": 58386, "2018-09-26": 58387, "2018-09-27": 58388, "2018-10-08": 58399}
    return {night: day + phi for night, day in days.items()}


def endings(plan: Plan, rng: random.Random) -> dict[str, State]:
    """How each run would end if it started: a few failures here, a whole step or night failing there."""
    share = rng.choice((0.0, 0.02, 0.05, 0.1, 0.3))
    shorts = sorted({t.step.short for t in plan.tasks})
    bad_steps = set(rng.sample(shorts, rng.choice((0, 0, 1, 2))))
    bad_night = rng.choice((*NIGHTS, "", ""))
    masters_fail = rng.random() < 0.15
    table: dict[str, State] = {}
    for key, item in plan.by_key.items():
        state = State.DONE
        if isinstance(item, Task):
            chance = share
            if item.step.short in bad_steps:
                chance = rng.choice((0.5, 1.0))
            if item.obs_dir == bad_night:
                chance = max(chance, 0.4)
            if item.step.tier == "master" or (item.step.short == "PP" and item.obs_dir == NIGHTS[0]):
                chance = 0.08 if masters_fail else 0.0
            if rng.random() < chance:
                state = rng.choice(ENDINGS)
        elif rng.random() < 0.03:
            state = State.FAILED_ERROR
        table[key] = state
    return table


def play(plan: Plan, would_end: dict[str, State], rng: random.Random) -> tuple[Resolver, list[str]]:
    """Let runs end in random order; keys in the order they were started."""
    resolver = Resolver(plan)
    running = list(resolver.start().ready)
    started = list(running)
    while running:
        key = running.pop(rng.randrange(len(running)))
        fresh = resolver.record(key, would_end[key]).ready
        running += fresh
        started += fresh
    return resolver, started


def source_of(resolver: Resolver, task: Task) -> dict[tuple[str, str, str], str]:
    binding = resolver.bindings[task.key]
    return {
        (s.kinds[0], s.fibre, s.applies_to): c.label if c is not None else ""
        for s, c in zip(task.selections, binding.choices, strict=True)
    }


@pytest.mark.parametrize("archive", range(ARCHIVES))
def test_resolver_is_recipe_by_recipe(plans: list[tuple[Plan, Settings]], archive: int) -> None:
    plan, settings = plans[archive]
    oracle = Oracle(plan, settings, midnights())
    seen: set[State] = set()
    for case in range(CASES // ARCHIVES):
        rng = random.Random(1000 * archive + case)
        would_end = endings(plan, rng)
        oracle.run(would_end)
        resolver, started = play(plan, would_end, rng)
        assert len(started) == len(set(started)), "a run started twice"
        assert resolver.finished
        differing = {
            k: (s, oracle.states[k]) for k, s in resolver.states.items() if oracle.states[k] is not s
        }
        assert not differing, (archive, case, dict(list(differing.items())[:5]))
        for key in started:
            item = plan.by_key[key]
            files = {argument: list(paths) for argument, paths in resolver.bindings[key].inputs}
            assert files == oracle.used[key], (archive, case, key)
            if isinstance(item, Task):
                assert source_of(resolver, item) == oracle.choices[key], (archive, case, key)
        seen |= set(resolver.states.values())
    assert {State.DONE, State.QC_FAILED, State.FAILED_ERROR, State.BLOCKED, State.BLOCKED_MASTER} <= seen


def test_patterns_reach_every_state(plans: list[tuple[Plan, Settings]]) -> None:
    """The random failures are not too tame: late candidates, fallbacks and all states occur."""
    seen: set[State] = set()
    ranks: set[int] = set()
    for archive, (plan, _) in enumerate(plans):
        for case in range(20):
            rng = random.Random(1000 * archive + case)
            resolver, _ = play(plan, endings(plan, rng), rng)
            seen |= set(resolver.states.values())
            ranks |= {c.rank for b in resolver.bindings.values() for c in b.choices if c is not None}
    assert seen >= {
        State.DONE,
        State.QC_FAILED,
        State.FAILED_ERROR,
        State.FAILED_WORKER,
        State.FAILED_INPUT,
        State.FAILED_CALIB,
        State.BLOCKED,
        State.BLOCKED_MASTER,
    }
    assert ranks >= {0, 1, 2, 3, 4}


def test_needs_of_the_oracle_are_those_of_the_declarations(plans: list[tuple[Plan, Settings]]) -> None:
    """Two statements of one table: what a run selects and what it should select."""
    for plan, _ in plans:
        for task in plan.tasks:
            declared = {(s.kinds, s.fibre, s.applies_to, s.optional) for s in task.selections}
            stated = {(kinds, group, purpose, optional) for kinds, group, _, purpose, optional in needs(task)}
            assert declared == stated, task.step.short


@pytest.mark.parametrize("seed", range(30))
def test_stop(plans: list[tuple[Plan, Settings]], seed: int) -> None:
    """After a stop nothing starts, everything ends, and what had ended keeps its state."""
    rng = random.Random(seed)
    plan, _ = plans[seed % ARCHIVES]
    would_end = endings(plan, rng)
    reference, _ = play(plan, would_end, random.Random(0))
    resolver = Resolver(plan)
    running = list(resolver.start().ready)
    for _ in range(rng.randrange(len(plan.tasks))):
        if not running:
            break
        key = running.pop(rng.randrange(len(running)))
        running += resolver.record(key, would_end[key]).ready
    active = running[: rng.randrange(3)]
    before = dict(resolver.states)
    ended = resolver.stop(active)
    assert {state for _, state in ended.ended} <= {State.BLOCKED_STOP}
    for key in active:
        assert resolver.record(key, would_end[key]).ready == ()
    assert resolver.finished
    assert all(resolver.states[key] is state for key, state in before.items())
    assert all(
        state is reference.states[key]
        for key, state in resolver.states.items()
        if state is not State.BLOCKED_STOP
    )
