"""Root causes: why runs failed or were blocked, folded to one line a cause."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from apero_dask.core.outcome import State
from apero_dask.core.plan import MISSING, STORED, Node, Plan, Task
from apero_dask.planner.resolve import Resolver


def name_of(item: Task | Node) -> str:
    """Run in words: step and what it works on."""
    if isinstance(item, Node):
        return item.key
    words = dict.fromkeys((item.step.short, item.object or item.obs_dir, item.stem))
    return " ".join(word for word in words if word)


def _unusable(resolver: Resolver, key: str) -> bool:
    return key in resolver.states and not resolver.passed(key)


def parents(plan: Plan, resolver: Resolver, key: str) -> list[str]:
    """Runs and nodes that kept a run from starting, the deciding kind first."""
    item = plan.by_key[key]
    if isinstance(item, Node):
        return [k for k in (*item.members, *item.fallback) if _unusable(resolver, k)]
    if item.gate and _unusable(resolver, item.gate):
        return [item.gate]
    found: list[str] = []
    for inputs in item.inputs:
        if inputs.required and not any(
            p == STORED or (p != MISSING and not _unusable(resolver, p)) for p in inputs.producers
        ):
            found += [p for p in inputs.producers if p not in (STORED, MISSING)]
    found += [k for k in item.depends if _unusable(resolver, k)]
    if not found:
        for selection in item.selections:
            sources = [c.source for c in selection.candidates if c.source]
            if (
                sources
                and all(_unusable(resolver, s) for s in sources)
                and len(sources) == len(selection.candidates)
            ):
                found += sources
    return list(dict.fromkeys(found))


def root_causes(plan: Plan, resolver: Resolver, key: str) -> list[str]:
    """First runs behind a run that did not start, in plan order; itself if nothing is behind it."""
    roots: set[str] = set()
    seen = {key}
    todo = [key]
    while todo:
        current = todo.pop()
        behind = parents(plan, resolver, current) if _never_started(resolver, current) else []
        if not behind and current != key:
            roots.add(current)
        for parent in behind:
            if parent not in seen:
                seen.add(parent)
                todo.append(parent)
    if len(roots) < 2:
        return list(roots) or [key]
    return [k for k in plan.by_key if k in roots]


def _never_started(resolver: Resolver, key: str) -> bool:
    state = resolver.states.get(key)
    return state is not None and (state.blocked or state in (State.FAILED_INPUT, State.FAILED_CALIB))


def _words(plan: Plan, resolver: Resolver, key: str) -> str:
    return f"{name_of(plan.by_key[key])} ended {resolver.states[key]}"


def explain(plan: Plan, resolver: Resolver, key: str, state: State) -> str:
    """Why a run or node ended without starting, in one line."""
    item = plan.by_key[key]
    if state is State.DONE or state.skipped:
        return ""
    if state is State.BLOCKED_STOP:
        return "not started: STOP_AT_EXCEPTION"
    behind = parents(plan, resolver, key)
    before = ""
    if state is State.BLOCKED_MASTER and isinstance(item, Task):
        # The gate itself says nothing; the master steps that closed it do.
        behind = root_causes(plan, resolver, key)
        before = "not started: master step "
    words = before + ", ".join(_words(plan, resolver, k) for k in behind[:3])
    more = f" and {len(behind) - 3} more" if len(behind) > 3 else ""
    if state is State.FAILED_CALIB:
        missing = ""
        if isinstance(item, Task):
            lost = [
                s
                for s in item.selections
                if not s.optional and all(c.source and _unusable(resolver, c.source) for c in s.candidates)
            ]
            # Fibres of one kind are searched apart and would be named twice.
            absent = dict.fromkeys("/".join(s.kinds) for s in lost if not s.candidates)
            failed = dict.fromkeys("/".join(s.kinds) for s in lost if s.candidates)
            texts = [f"no {', '.join(absent)} of a night within MAX_CALIB_DTIME"] if absent else []
            texts += [f"no {', '.join(failed)} passed quality control"] if failed else []
            missing = "; ".join(texts)
        else:
            missing = "no telluric transmission passed quality control"
        return "; ".join(text for text in (missing, words + more) if text)
    if state is State.FAILED_INPUT and not words:
        return "no input file is there"
    return words + more


@dataclass(slots=True)
class Cause:
    """One root cause and everything it stopped."""

    key: str
    state: State
    error: str
    blocked: list[str] = field(default_factory=list)


def fold(plan: Plan, resolver: Resolver, errors: Mapping[str, str], stopped_by: str = "") -> list[Cause]:
    """Root causes in plan order, each with the runs it stopped.

    A run behind several causes is counted once, under the first of them.

    Parameters
    ----------
    errors : mapping
        Error text by run key.
    stopped_by : str
        Key of the run whose failure stopped everything else (STOP_AT_EXCEPTION), if any.
    """
    first: dict[str, str] = {}
    causes: dict[str, Cause] = {}
    for key, item in plan.by_key.items():
        state = resolver.states.get(key)
        if state is None or isinstance(item, Node) or not (state.failed or state.blocked):
            continue
        if state is State.BLOCKED_STOP and stopped_by:
            root = stopped_by
        else:
            root = _first_root(plan, resolver, key, first)
        cause = causes.setdefault(root, Cause(root, resolver.states[root], errors.get(root, "")))
        if root != key:
            cause.blocked.append(key)
    order = {key: number for number, key in enumerate(plan.by_key)}
    return sorted(causes.values(), key=lambda cause: order[cause.key])


def _first_root(plan: Plan, resolver: Resolver, key: str, known: dict[str, str]) -> str:
    """Root of a chain, following the first parent; remembered, as thousands of runs share their chains."""
    chain = [key]
    while chain[-1] not in known:
        current = chain[-1]
        behind = parents(plan, resolver, current) if _never_started(resolver, current) else []
        if not behind:
            known[current] = current
        else:
            chain.append(behind[0])
    root = known[chain[-1]]
    known.update(dict.fromkeys(chain, root))
    return root
