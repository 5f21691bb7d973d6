"""Plans and results as astropy tables and as small pages of a notebook.

Everything shown comes from files or names of other people: all of it is escaped.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

from apero_dask.core.errors import Finding
from apero_dask.core.outcome import OutputRecord, State
from apero_dask.core.plan import Node, Plan, Task
from apero_dask.core.products import KINDS

if TYPE_CHECKING:
    from astropy.table import Table

    from apero_dask.cli.execute import Executed
    from apero_dask.notebook.calls import PlannedRuns, Reduction, RunRequest

MOST_ROWS = 60
"""Rows of a table in a notebook; the astropy tables have all of them."""


def planned_table(plan: Plan) -> Table:
    """One row per planned run."""
    rows = [
        (t.key, t.step.short, t.step.recipe.name, t.step.tier, t.obs_dir, t.object, t.stem, t.state.value)
        for t in plan.tasks
    ]
    return _table(("key", "step", "recipe", "tier", "night", "object", "stem", "state"), rows)


def step_table(plan: Plan) -> Table:
    """One row per step of every id."""
    return _table(("id", "label", "step", "runs", "skipped", "recipe", "notes"), list(_steps(plan)))


def _steps(plan: Plan) -> Iterator[tuple[int, str, str, int, int, str, str]]:
    skipped = Counter((t.step.request, t.step.label) for t in plan.tasks if t.state is not State.PLANNED)
    for count in plan.counts:
        s = count.step
        left = skipped[s.request, s.label]
        yield s.request, s.label, s.short, count.runs, left, s.text, "; ".join(count.reasons)


def run_table(executed: Executed) -> Table:
    """One row per run and per model, in plan order."""
    rows = []
    for key, item in executed.items():
        state = executed.states.get(key)
        place = (item.obs_dir, item.object, item.stem) if isinstance(item, Task) else ("", "", "")
        rows.append(
            (key, _short(item), *place, state.value if state else "not ended", executed.errors.get(key, ""))
        )
    return _table(("key", "step", "night", "object", "stem", "state", "error"), rows)


def products(executed: Executed) -> Iterator[tuple[str, str, OutputRecord]]:
    """(night, object, product) of every run that passed, in plan order."""
    for key, item in executed.items():
        done = executed.made.get(key)
        if done is not None:
            night, name = (item.obs_dir, item.object) if isinstance(item, Task) else ("", "")
            for output in done.outputs:
                yield night, name, output


def product_table(reduction: Reduction, kind: str = "") -> Table:
    """One row per product, of one kind if given; KeyError for one that does not exist."""
    from apero_dask.io.markers import absolute

    if kind and kind not in KINDS:
        raise KeyError(f"{kind} is no kind of product; kinds are {', '.join(KINDS)}")
    trees = reduction.request.prepared.trees
    rows = [
        (output.kind, output.fibre, night, name, str(absolute(trees, output.path)), output.size)
        for night, name, output in products(reduction.executed)
        if kind in ("", output.kind)
    ]
    return _table(("kind", "fibre", "night", "object", "path", "size"), rows)


def velocity_table(reduction: Reduction, name: str = "") -> Table:
    """One row per frame, object and mask, in the order of time; of one object if given."""
    from dataclasses import astuple, fields

    from apero_dask.io.assets import OBJECTS_FILE, read_objects
    from apero_dask.io.markers import absolute
    from apero_dask.report.velocities import Velocity, read_series
    from apero_dask.report.velocity_files import UNITS

    trees = reduction.request.prepared.trees
    names = read_objects(trees.assets / OBJECTS_FILE).names
    paths = [absolute(trees, o.path) for _, _, o in products(reduction.executed) if o.kind == "CCF"]
    series, _ = read_series(trees.reduced, paths)
    wanted = names.resolve(name) if name else ""
    rows = [astuple(row) for one in series if wanted in ("", one.object) for row in one.rows]
    table = _table([field.name for field in fields(Velocity)], rows)
    for column, unit in UNITS.items():
        if rows:
            table[column].unit = unit
    return table


def _table(names: Sequence[str], rows: Sequence[Sequence[Any]]) -> Table:
    from astropy.table import Table

    if not rows:
        return Table(names=names, dtype=[str] * len(names))
    return Table(rows=[tuple(row) for row in rows], names=names)


def _short(item: Task | Node) -> str:
    return item.step.short if isinstance(item, Task) else item.key.partition("-")[0]


# Pages


def request_html(request: RunRequest) -> str:
    """Run file, data root, and what was noticed."""
    prepared = request.prepared
    settings = prepared.settings
    asked = [r.sequence or (r.command.text if r.command else "") for r in settings.requests]
    facts = [
        ("run file", f"{prepared.run_file} ({settings.run_name})"),
        ("instrument", prepared.instrument.name),
        ("raw frames", str(prepared.trees.raw)),
        ("asks for", ", ".join(asked)),
    ]
    return _page("Run file", _facts(facts), _messages(request.findings))


def plan_html(planned: PlannedRuns) -> str:
    """Counts by step, messages and cost."""
    from apero_dask.report.plan_view import duration, estimate

    plan, instrument = planned.plan, planned.request.prepared.instrument
    cost = estimate(plan, instrument)
    facts = [
        ("runs", f"{len(plan.tasks)} planned, {cost.runs} to execute"),
    ]
    if cost.runs:
        facts.append(("estimated", f"{cost.core_hours:.1f} core-hours, at least {duration(cost.longest_s)}"))
    rows = [(f"{i:05d}", s, str(n), str(k or ""), text, why) for i, _, s, n, k, text, why in _steps(plan)]
    shown = _rows(("id", "step", "runs", "skipped", "recipe", "notes"), rows)
    return _page(f"Plan of {planned.request.prepared.settings.run_name}", _facts(facts), shown,
                 _messages(planned.findings))  # fmt: skip


def reduction_html(reduction: Reduction) -> str:
    """States by step, failures and where everything is."""
    from apero_dask.report.summary import STATUS_WORDS

    executed = reduction.executed
    words = executed.problem or STATUS_WORDS.get(executed.status, "")
    facts = [("status", f"{executed.status}: {words}")]
    if executed.invocation:
        facts.append(("invocation", executed.invocation))
    counts: dict[str, Counter[str]] = {}
    for key, item in executed.items():
        state = executed.states.get(key)
        counts.setdefault(_short(item), Counter())[state.value if state else "not ended"] += 1
    present = {name for row in counts.values() for name in row}
    columns: list[str] = [s.value for s in State if s.value in present]
    columns += ["not ended"] if "not ended" in present else []
    rows = [
        (step, str(row.total()), *(str(row[name] or "") for name in columns)) for step, row in counts.items()
    ]
    errors = [(key, text) for key, text in executed.errors.items()]
    return _page(
        f"Reduction {reduction.request.prepared.settings.run_name}",
        _facts(facts),
        _rows(("step", "runs", *columns), rows),
        _rows(("run", "what went wrong"), errors) if errors else "",
    )


def _page(title: str, *parts: str) -> str:
    return f"<div><b>{escape(title)}</b>{''.join(parts)}</div>"


def _facts(facts: Iterable[tuple[str, str]]) -> str:
    return "".join(f"<div>{escape(name)}: {escape(text)}</div>" for name, text in facts)


def _rows(names: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in names)
    body = "".join(
        f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows[:MOST_ROWS]
    )
    more = f"<div>... and {len(rows) - MOST_ROWS} more</div>" if len(rows) > MOST_ROWS else ""
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{more}"


def _messages(findings: Iterable[Finding]) -> str:
    texts = [str(finding) for finding in findings]
    shown = "".join(f"<li>{escape(text)}</li>" for text in texts[:MOST_ROWS])
    more = f"<li>... and {len(texts) - MOST_ROWS} more</li>" if len(texts) > MOST_ROWS else ""
    return f"<ul>{shown}{more}</ul>" if texts else ""
