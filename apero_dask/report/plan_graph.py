"""Drawing of a plan folded to steps and nights: DOT and Mermaid."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from apero_dask.report.plan_files import Record

Point = tuple[str, str]
"""Step and night (or object); runs of one step and night are one point."""


@dataclass(slots=True)
class Folded:
    """Points with their number of runs, and edges with their number of dependencies."""

    points: dict[Point, int] = field(default_factory=dict)
    edges: dict[tuple[Point, Point], int] = field(default_factory=dict)


def fold(records: Iterable[Record], by_night: bool = True) -> Folded:
    """Fold runs into points; selections count with their first candidate, the one used when nothing fails."""
    records = list(records)
    place = {record["key"]: _point(record, by_night) for record in records}
    result = Folded()
    for record in records:
        mine = place[record["key"]]
        result.points[mine] = result.points.get(mine, 0) + 1
        before = [*record.get("depends", ()), *record.get("members", ())]
        before += [s["candidates"][0] for s in record.get("selects", ()) if s["candidates"]]
        for key in before:
            if key in place and place[key] != mine:
                edge = (place[key], mine)
                result.edges[edge] = result.edges.get(edge, 0) + 1
    return result


def _point(record: Record, by_night: bool) -> Point:
    if "node" in record:
        return (record["key"].rpartition("-")[0] if record["node"] == "model" else record["key"], "")
    variant = record.get("variant", "")
    short = (
        f"{record['short']} {variant}"
        if variant and record["short"] in ("LOC", "LOCM", "THERMAL")
        else record["short"]
    )
    where = record.get("object") or record.get("obs_dir", "")
    if record.get("tier") == "master":
        where = f"master {where}"
    return (short, where if by_night else "")


def _names(folded: Folded) -> dict[Point, str]:
    return {point: f"n{number}" for number, point in enumerate(folded.points)}


def _label(point: Point, runs: int, newline: str) -> str:
    short, where = point
    text = short if not where else f"{short}{newline}{where}"
    return text if runs == 1 else f"{text}{newline}{runs} runs"


def to_dot(folded: Folded) -> str:
    """Graph in the DOT language, one cluster per night."""
    names = _names(folded)
    lines = ["digraph plan {", "  rankdir=LR;", '  node [shape=box, fontname="sans-serif", fontsize=10];']
    nights = dict.fromkeys(where for _, where in folded.points)
    for number, night in enumerate(nights):
        members = [point for point in folded.points if point[1] == night]
        indent = "  "
        if night:
            lines += [f"  subgraph cluster_{number} {{", f'    label="{_quoted(night)}";']
            indent = "    "
        for point in members:
            text = _quoted(_label((point[0], ""), folded.points[point], "\n")).replace("\n", "\\n")
            shape = ", shape=diamond" if point[0].startswith("GATE") else ""
            lines.append(f'{indent}{names[point]} [label="{text}"{shape}];')
        if night:
            lines.append("  }")
    for (first, second), count in folded.edges.items():
        label = f' [label="{count}"]' if count > 1 else ""
        lines.append(f"  {names[first]} -> {names[second]}{label};")
    return "\n".join([*lines, "}", ""])


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')


def to_mermaid(folded: Folded) -> str:
    """Graph as a Mermaid flow chart."""
    names = _names(folded)
    lines = ["flowchart LR"]
    for point, runs in folded.points.items():
        text = _label(point, runs, "<br/>").replace('"', "#quot;")
        brackets = ("{{", "}}") if point[0].startswith("GATE") else ("[", "]")
        lines.append(f'  {names[point]}{brackets[0]}"{text}"{brackets[1]}')
    lines += [f"  {names[first]} --> {names[second]}" for first, second in folded.edges]
    return "\n".join([*lines, ""])
