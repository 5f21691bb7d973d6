"""Messages about calibrations that were not found, or were taken from elsewhere.

Derived from the plan and the choices of the resolver alone: the same for every order of execution.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from apero_dask.core.errors import Finding, render
from apero_dask.core.outcome import State
from apero_dask.core.plan import Candidate, Node, Plan, Selection, Task
from apero_dask.core.products import MASTER
from apero_dask.planner.catalogue import DEFAULT
from apero_dask.planner.resolve import Resolver

NIGHT_SOLUTION = "WAVE"
MASTER_SOLUTION = "WAVEM"


@dataclass(slots=True)
class _Group:
    """Runs of one night with the same thing to say."""

    code: str
    values: dict[str, object]
    shorts: dict[str, None] = field(default_factory=dict)
    stems: dict[str, None] = field(default_factory=dict)


def calibration_messages(plan: Plan, resolver: Resolver, days: float = 7.0) -> list[Finding]:
    """Messages of an execution about its calibrations, folded to one per night and calibration.

    Parameters
    ----------
    days : float
        Largest separation of a night and a nightly calibration.

    Returns
    -------
    list of Finding
        E-MISSING-CALIB, W-THERMAL-FALLBACK, W-WAVE-FALLBACK and W-CALIB-FALLBACK, in plan order.
    """
    groups: dict[tuple[object, ...], _Group] = {}
    for key, item in plan.by_key.items():
        if item.state is not State.PLANNED or key not in resolver.states:
            continue
        if isinstance(item, Node):
            found = _of_node(item, resolver)
            place, stem = "", ""
        else:
            found = _of_task(item, resolver)
            place, stem = item.obs_dir or item.object, item.stem
        for code, values in found:
            short = item.step.short if isinstance(item, Task) else key.partition("-")[0]
            mark = (code, place, *values.items())
            group = groups.setdefault(mark, _Group(code, {"night": place, **values}))
            group.shorts[short] = None
            group.stems[stem] = None
    return [_finding(group, days) for group in groups.values()]


def _finding(group: _Group, days: float) -> Finding:
    stems = list(group.stems)
    more = f" and {len(stems) - 1} more" if len(stems) > 1 else ""
    steps = ", ".join(group.shorts)
    values = {"short": steps, "days": f"{days:g}", "id": f"{stems[0]}{more}", **group.values}
    return Finding(group.code, render(group.code, **values))


def _of_task(task: Task, resolver: Resolver) -> Iterator[tuple[str, dict[str, object]]]:
    state = resolver.states[task.key]
    if state.blocked or state is State.FAILED_INPUT:
        return
    # What a run used follows from how its candidates ended; nothing need be kept of runs that are over.
    chosen = [_chosen(selection, resolver) for selection in task.selections]
    if state is State.FAILED_CALIB:
        for selection, choice in zip(task.selections, chosen, strict=True):
            if not selection.optional and choice is None:
                yield "E-MISSING-CALIB", {"key": _names(selection.kinds)}
        return
    for selection, choice in zip(task.selections, chosen, strict=True):
        if choice is not None and choice.fallback:
            yield _fallback(selection, choice, resolver)


def _chosen(selection: Selection, resolver: Resolver) -> Candidate | None:
    """First candidate that passed."""
    for candidate in selection.candidates:
        if not candidate.source or (
            candidate.source in resolver.states and resolver.passed(candidate.source)
        ):
            return candidate
    return None


def _fallback(selection: Selection, choice: Candidate, resolver: Resolver) -> tuple[str, dict[str, object]]:
    if "THERMALT" in selection.kinds and "THERMALT" not in choice.kinds:
        return "W-THERMAL-FALLBACK", {"night": choice.obs_dir}
    if selection.kinds == (NIGHT_SOLUTION,) and choice.kinds == (MASTER_SOLUTION,):
        return "W-WAVE-FALLBACK", {}
    if choice.identity.startswith(DEFAULT):
        other = f"the shipped first guess {choice.identity.removeprefix(DEFAULT)}"
    else:
        tier = " (master tier)" if choice.tier == MASTER else ""
        other = (choice.obs_dir or choice.label) + tier
        if choice.kinds != selection.kinds:
            other = f"{_names(choice.kinds)} of {other}"
    own = next((c for c in selection.candidates if c.rank == 1), None)
    if own is None:
        state = "not made"
    else:
        state = str(resolver.states[own.source]) if own.source in resolver.states else "stored"
    return "W-CALIB-FALLBACK", {"key": _names(selection.kinds), "other": other, "state": state}


def _of_node(node: Node, resolver: Resolver) -> Iterator[tuple[str, dict[str, object]]]:
    """A model made of the transmissions of the first pass, because none of the second passed."""
    state = resolver.states[node.key]
    if state.blocked or state is State.FAILED_INPUT or not (node.fallback or node.fallback_stored):
        return
    if not node.stored and not any(resolver.passed(key) for key in node.members):
        yield (
            "W-CALIB-FALLBACK",
            {"night": "the archive", "key": "TRANS2", "other": "TRANS1", "state": "none passed"},
        )


def _names(kinds: tuple[str, ...]) -> str:
    return "/".join(kinds)
