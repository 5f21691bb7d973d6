"""A small simulated archive and its reduction by cheap stand-in recipes, through the real commands."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import apero_dask.recipes  # noqa: F401
from apero_dask.cli.processing import main as processing
from apero_dask.cli.tools import main as tools
from apero_dask.io.trees import Trees, find_trees
from apero_dask.simulator.cli import main as simulate
from tests.engine import standins

NIGHT = "2018-09-25"
STEPS = [
    "PP",
    "DARKM",
    "BADM",
    "LOCM",
    "SHAPEM",
    "SHAPELM",
    "FLATM",
    "LEAKM",
    "THIM",
    "THTM",
    "WAVEM",
    "BAD",
    "LOC",
    "SHAPE",
    "FF",
    "THERMAL",
    "WAVE",
    "EXTTELL",
    "EXTOBJ",
    "LEAKTELL",
    "LEAKOBJ",
    "MKTELLU1",
    "MKTELLU2",
    "MKTELLU3",
    "MKTELLU4",
    "FTELLU1",
    "FTELLU2",
    "FTELLU3",
    "CCF",
]
RUN_FILE = f"""\
RUN_NAME = small archive
MASTER_OBS_DIR = {NIGHT}
TELLURIC_TARGETS = All
SCIENCE_TARGETS = Gl699
CORES = 1
id1 = limited_seq
"""
SKIPPING = RUN_FILE + "".join(f"SKIP_{step} = True\n" for step in STEPS)
RUNS = 57 + 11 + 8 + 2 + 1 + 3 * 2 + 2 + 4 * 5 + 1
"""Runs of the night: frames; master; nightly (BAD, 2 LOC, SHAPE, FF, 2 THERMAL, WAVE); hot stars (2 EXTTELL,
1 LEAKTELL; MKTELLU1, 2, 4 of 2 each, MKTELLU3 of the 2); Gl699 (EXTOBJ, LEAKOBJ, FTELLU1, FTELLU3, CCF of 4
each, FTELLU2)."""
MODELS = 2


@dataclass(frozen=True)
class Answer:
    """What a command did."""

    status: int
    out: str
    err: str

    def lines(self, word: str) -> list[str]:
        """Lines of the output that contain a word."""
        return [line for line in self.out.splitlines() if word in line]


def captured(command, arguments: list[str]) -> Answer:  # type: ignore[no-untyped-def]
    """Call a command in this process with its streams kept."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = command(arguments)
    return Answer(status, out.getvalue(), err.getvalue())


@dataclass(frozen=True)
class Root:
    """A data root."""

    path: Path

    @property
    def trees(self) -> Trees:
        """Its data trees."""
        return find_trees(str(self.path))

    def faults(self, **table: dict[str, object]) -> None:
        """Faults of the next reduction by run, ``_`` for a blank."""
        log = self.path / "log"
        log.mkdir(exist_ok=True)
        named = {name.replace("__", "-").replace("_", " "): fault for name, fault in table.items()}
        (log / standins.FAULTS).write_text(json.dumps(named), encoding="utf-8")

    def run_file(self, text: str) -> Path:
        """Write a run file."""
        path = self.path / "test.ini"
        path.write_text(text, encoding="utf-8")
        return path

    def reduce(self, text: str = RUN_FILE, *options: str) -> Answer:
        """Reduce with the stand-ins."""
        with standins.standing_in():
            return captured(
                processing, ["--data", str(self.path), "SPIROU", str(self.run_file(text)), *options]
            )

    def retry(self, *words: str, text: str = RUN_FILE) -> Answer:
        """Run some runs again."""
        with standins.standing_in():
            return captured(
                tools, ["retry", *words, "SPIROU", str(self.run_file(text)), "--data", str(self.path)]
            )

    def ask(self, *arguments: str) -> Answer:
        """Call one of the looking commands."""
        return captured(tools, [*arguments, "--data", str(self.path)])

    def copy(self, place: Path, linked: bool = True) -> Root:
        """Copy of the whole root.

        With ``linked`` frames and products are hard links: quick, but never to be changed in place.
        """

        def copied(source: str, target: str) -> None:
            if linked and source.endswith(".fits"):
                os.link(source, target)
            else:
                shutil.copy2(source, target)

        shutil.copytree(self.path, place, copy_function=copied)
        return Root(place)


def archive(place: Path) -> Root:
    """One night of headers without pixels."""
    answer = captured(
        simulate, ["--campaign", "worked", "--nights", "1", "--headers-only", "--out", str(place)]
    )
    assert answer.status == 0, answer.err
    return Root(place)
