"""What the steps of a reduction cost, from the record of its invocation."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.accuracy.figures import Figure

LIMITS_GB = {"SHAPEM": 6.0}
USUAL_GB = 4.0


def ended_runs(root: Path) -> list[dict[str, Any]]:
    """Runs that were computed in any invocation below a data root; the last of each counts."""
    found: dict[tuple[str, str, str], dict[str, Any]] = {}
    for path in sorted((root / "log").glob("*/events.jsonl")):
        for line in path.read_text(encoding="utf-8").splitlines():
            event = json.loads(line)
            if event["event"] == "ended" and not event["reused"] and event["wall_s"] > 0:
                found[event["key"], event["short"], event["stem"]] = event
    return list(found.values())


def cost_table(root: Path) -> str:
    """Markdown: runs, CPU and wall seconds of a run, memory of the largest, by step."""
    steps: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for run in ended_runs(root):
        steps[run["short"]].append(run)
    rows = ["| step | runs | CPU s per run | wall s per run | peak memory GB |", "|---|---|---|---|---|"]
    for short, runs in steps.items():
        cpu, wall = (sum(run[key] for run in runs) / len(runs) for key in ("cpu_s", "wall_s"))
        peak = max(run["peak_mb"] for run in runs) / 1000
        rows.append(f"| {short} | {len(runs)} | {cpu:.1f} | {wall:.1f} | {peak:.2f} |")
    return "\n".join(rows)


def memory_figures(root: Path) -> Iterator[Figure]:
    """Largest run of the shape reference and of all others."""
    peaks: dict[str, float] = {}
    for run in ended_runs(root):
        peaks[run["short"]] = max(peaks.get(run["short"], 0.0), run["peak_mb"] / 1000)
    for name, limit, members in (
        (
            "memory of the shape reference",
            LIMITS_GB["SHAPEM"],
            {k: v for k, v in peaks.items() if k in LIMITS_GB},
        ),
        ("memory of all other steps", USUAL_GB, {k: v for k, v in peaks.items() if k not in LIMITS_GB}),
    ):
        if not members:
            continue
        worst = max(members, key=lambda k: members[k])
        yield Figure(
            name, f"< {limit:g} GB", f"{members[worst]:.2f} GB ({worst})", members[worst] < limit,
            "resident size of the worker, shared calibrations and start-up included",
        )  # fmt: skip
