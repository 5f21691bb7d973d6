"""Short ways to plan run files on archives that exist only in memory."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from apero_dask.core.errors import Findings
from apero_dask.core.frames import FrameIndex
from apero_dask.core.plan import Plan, Selection, Task
from apero_dask.core.settings import Settings
from apero_dask.instruments.base import instrument
from apero_dask.planner.build import build_plan
from apero_dask.runfile.merge import CommandLine, merge
from apero_dask.runfile.reader import read_text
from tests.planner.archive import worked_index

BASE = "MASTER_OBS_DIR = 2018-09-25\nSCIENCE_TARGETS = Gl699, TOI-442\n"
NIGHTS = ("2018-09-25", "2018-09-26", "2018-09-27")
SPIROU = instrument("SPIROU")


def settings_of(text: str, base: str = BASE, cli: CommandLine | None = None) -> Settings:
    """Settings of a run file that has no error."""
    findings = Findings()
    settings = merge(read_text("test.ini", (base + text).encode(), findings), cli or CommandLine(), findings)
    assert not findings.errors(), [str(f) for f in findings]
    return settings


def plan(text: str, index: FrameIndex | None = None, *, base: str = BASE, **more: Any) -> Plan:
    """Plan of a run file, on the three nights unless another index is given."""
    cli = more.pop("cli", None)
    return build_plan(
        index if index is not None else worked_index(), settings_of(text, base, cli), SPIROU, **more
    )


def counts(made: Plan) -> dict[str, int]:
    """Runs by short name."""
    return made.runs_by_short()


def codes(made: Plan) -> set[str]:
    """Codes of all findings."""
    return {finding.code for finding in made.findings}


def texts(made: Plan, code: str) -> list[str]:
    """Texts of the findings with one code."""
    return [finding.text for finding in made.findings if finding.code == code]


def runs(made: Plan, short: str, where: str = "", stem: str = "") -> list[Task]:
    """Runs of a step, of one night or object and one stem if given."""
    return [
        task
        for task in made.tasks
        if task.step.short == short and where in ("", task.obs_dir, task.object) and stem in ("", task.stem)
    ]


def run(made: Plan, short: str, where: str = "", stem: str = "") -> Task:
    """The one run of a step."""
    found = runs(made, short, where, stem)
    assert len(found) == 1, [task.key for task in found]
    return found[0]


def selection(task: Task, kind: str, fibre: str = "", applies_to: str = "") -> Selection:
    """The selection of a run that offers a kind."""
    found = [
        s
        for s in task.selections
        if kind in s.kinds and s.fibre == fibre and applies_to in ("", s.applies_to)
    ]
    assert len(found) == 1, [s.kinds for s in task.selections]
    return found[0]


def sources(made: Plan, chosen: Selection) -> list[tuple[str, str]]:
    """(short name, night) of the planned candidates of a selection, in order; defaults by their name."""
    found = []
    for candidate in chosen.candidates:
        if candidate.source:
            task = made.by_key[candidate.source]
            assert isinstance(task, Task)
            found.append((task.step.short, task.obs_dir))
        else:
            found.append((candidate.identity, candidate.obs_dir))
    return found


def states(made: Plan) -> dict[str, int]:
    """Number of runs by planned state."""
    table: dict[str, int] = {}
    for task in made.tasks:
        table[task.state.value] = table.get(task.state.value, 0) + 1
    return table


def index_without(index: FrameIndex, drop: Iterable[str]) -> FrameIndex:
    """Index without some frames."""
    unwanted = set(drop)
    return FrameIndex.of(frame for frame in index if frame.identifier not in unwanted)
