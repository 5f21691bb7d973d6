"""The campaign of three nights with pixels, reduced through the command line by the real recipes.

``APERO_WORKED`` names a folder that holds it already (``apero-dask simulate --campaign worked --instrument
SPIROU_MINI --no-truth-images --out FOLDER``), reduced by ``limited_seq`` or not; its files are linked, never
changed.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from apero_dask.simulator.spec import FrameSpec
from tests.recipes.runs import MINI, Bench

ROOT = Path(__file__).resolve().parents[2]
RUN_FILES = ROOT / "runfiles"
GIVEN = "APERO_WORKED"
NIGHTS = ("2018-09-25", "2018-09-26", "2018-09-27")
STEPS = (
    "PP", "PP_CAL", "PP_SCI", "PP_TEL", "DARKM", "BADM", "LOCM", "SHAPEM", "SHAPELM", "FLATM", "LEAKM",
    "THIM", "THTM", "WAVEM", "BAD", "LOC", "SHAPE", "FF", "THERMAL", "WAVE", "EXTTELL", "EXTOBJ",
    "LEAKTELL", "LEAKOBJ", "EXTALL", "LEAKALL", "MKTELLU1", "MKTELLU2", "MKTELLU3", "MKTELLU4", "FTELLU1",
    "FTELLU2", "FTELLU3", "MKTELLDB", "FTELLDB", "CCF", "EXTHC1", "EXTFPFP", "EXTDFP",
)  # fmt: skip
MODELS = ("PCA1", "PCA2")
"""Rows of the summary that are no recipe runs."""
LINKED = (".fits",)


@dataclass(frozen=True)
class Answer:
    """What a command did."""

    status: int
    output: str

    def table(self) -> dict[str, dict[str, int]]:
        """Runs by step and state, from the table of the summary; models left out."""
        lines = self.output.splitlines()
        starts = [k for k, line in enumerate(lines) if re.match(r"step +runs ", line)]
        assert len(starts) == 1, self.output
        states = lines[starts[0]].split()[2:]
        rows: dict[str, dict[str, int]] = {}
        for line in lines[starts[0] + 1 :]:
            short, total, *numbers = line.split() or [""] * 2
            if not short or short == "all":
                break
            found = {s: int(n) for s, n in zip(states, numbers, strict=True) if n != "-"}
            assert sum(found.values()) == int(total), line
            if short not in MODELS:
                rows[short] = found
        return rows

    def counts(self, *states: str) -> dict[str, int]:
        """Runs by step that ended in one of the states; without states all runs."""
        chosen = {
            short: sum(n for state, n in row.items() if not states or state in states)
            for short, row in self.table().items()
        }
        return {short: n for short, n in chosen.items() if n}

    def tally(self) -> dict[str, int]:
        """Runs by state."""
        total: dict[str, int] = {}
        for row in self.table().values():
            for state, n in row.items():
                total[state] = total.get(state, 0) + n
        return total


@dataclass(frozen=True)
class Archive:
    """A data root of the campaign."""

    path: Path

    @property
    def bench(self) -> Bench:
        """Maker of its frames."""
        return Bench(self.path)

    def command(self, *words: object) -> Answer:
        """Run ``python -m apero_dask...`` in a process of its own."""
        places = [str(ROOT), str(ROOT / "kernels"), os.environ.get("PYTHONPATH", "")]
        done = subprocess.run(
            [sys.executable, "-m", *map(str, words)],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, places)), "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        return Answer(done.returncode, done.stdout)

    def tool(self, *words: object) -> Answer:
        """Run ``apero-dask``."""
        return self.command("apero_dask.cli.tools", *words, "--data", self.path)

    def simulate(self, campaign: str = "worked") -> Answer:
        """Write what is missing of a campaign."""
        return self.command(
            "apero_dask.cli.tools", "simulate", "--campaign", campaign, "--instrument", MINI.name, "--out",
            self.path, "--no-truth-images",
        )  # fmt: skip

    def recipe(self, name: str, *words: object) -> Answer:
        """Run one recipe as from a shell."""
        return self.tool("recipe", name, *words, "--instrument", MINI.name)

    def process(self, text: str, *options: object, skip: Iterable[str] = STEPS) -> Answer:
        """Reduce as a run file says, on two local workers, with ``SKIP_`` on for some steps."""
        kept = [line for line in text.splitlines() if not re.match(r"\s*(SKIP_|CORES)", line)]
        path = self.path / "test.ini"
        switches = [f"SKIP_{short} = True" for short in skip]
        path.write_text("\n".join([*kept, "CORES = 2", *switches]) + "\n", encoding="utf-8")
        return self.command("apero_dask", "--data", self.path, MINI.name, path, *options)

    def run_file(self, name: str, *options: object, skip: Iterable[str] = STEPS, **changes: str) -> Answer:
        """Reduce by one of the run files that come with the program, with some keys changed."""
        text = (RUN_FILES / f"{name}.ini").read_text(encoding="utf-8")
        for key, value in changes.items():
            text, found = re.subn(rf"(?m)^{key}\s*=.*$", f"{key} = {value}", text)
            assert found == 1, f"{name}.ini: {found} lines of {key}"
        return self.process(text, *options, skip=skip)

    def ended(self) -> dict[tuple[str, str], dict[str, object]]:
        """Events of the runs that the last invocation executed or blocked, by step and frame or object."""
        last = max(self.path.glob("log/*/events.jsonl"), key=lambda p: p.parent.name)
        events = [json.loads(line) for line in last.read_text().splitlines()]
        return {(e["short"], e["stem"]): e for e in events if e["event"] == "ended"}

    def copy(self, place: Path) -> Archive:
        """Copy of the whole root in which frames and products are hard links: never written in place."""

        def copied(source: str, target: str) -> None:
            if source.endswith(LINKED):
                os.link(source, target)
            else:
                shutil.copy2(source, target)

        shutil.copytree(self.path, place, copy_function=copied)
        return Archive(place)

    def raw(self, spec: FrameSpec) -> Path:
        """Raw file of an exposure."""
        return self.path / "raw" / spec.obs_dir / f"{spec.identifier}.fits"

    def spec(self, identifier: str) -> FrameSpec:
        """Exposure by odometer and letter."""
        from apero_dask.simulator.runner import campaign_of

        return next(s for s in campaign_of(self.bench.config).frames if s.identifier == identifier)

    def expose(self, spec: FrameSpec) -> None:
        """Replace a raw frame by another exposure; frames are told apart by size and primary header."""
        self.raw(spec).unlink()
        self.bench.write(spec)
        self.edit(spec, OBSERVER="Second")

    def damage(self, spec: FrameSpec, start: int, stop: int) -> None:
        """Lose rows ``start`` to ``stop`` of the calibrated frame in a raw frame: they are no numbers."""
        planes = [plane.copy() for plane in self.bench.record(spec).planes]
        # Rows of a calibrated frame are columns of the raw one, counted from the other end.
        columns = MINI.raw_columns - 1 - MINI.y0 - np.arange(start, stop)
        for plane in planes[:3]:
            plane[:, columns] = np.nan
        self.raw(spec).unlink()
        self.bench.write(spec, planes)
        self.edit(spec, OBSERVER="Second")

    def edit(self, spec: FrameSpec, **cards: str | float) -> None:
        """Replace values in the primary header of a raw frame."""
        path = self.raw(spec)
        content = path.read_bytes()
        for keyword, value in cards.items():
            at = content.index(f"{keyword:8s}= ".encode())
            assert at % 80 == 0
            said = f"'{value:8s}'" if isinstance(value, str) else f"{value:>20}"
            content = content[:at] + f"{keyword:8s}= {said}".ljust(80).encode() + content[at + 80 :]
        path.unlink()
        path.write_bytes(content)


def simulated(
    place: Path, campaign: str = "worked", variable: str = GIVEN, products: bool = False
) -> Archive:
    """A campaign with pixels below a folder, linked if the variable names one that has been made before.

    ``products``: with what has been reduced of it.
    """
    given = os.environ.get(variable)
    if given and products:
        return Archive(Path(given)).copy(place)
    if given:
        for name in ("raw", "truth", "assets"):
            shutil.copytree(
                Path(given) / name, place / name, copy_function=shutil.copy2 if name == "assets" else os.link
            )
        return Archive(place)
    archive = Archive(place)
    made = archive.simulate(campaign)
    assert made.status == 0, made.output
    return archive
