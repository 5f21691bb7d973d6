"""What an invocation planned, kept beside its log: the answer to "why is this product not there?".

Plans of large archives are long and repeat themselves, so they are compressed and read line by line.
"""

from __future__ import annotations

import gzip
import json
import os
import re
from collections.abc import Collection, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from apero_dask.core.outcome import State
from apero_dask.core.plan import Plan

PLAN_FILE = "plan.jsonl.gz"
MESSAGES_FILE = "plan_messages.txt"
LEVEL = 3
"""Compression: a plan of 200 000 runs shrinks 25 times; higher levels cost more than they gain (measured)."""

LINES_AT_ONCE = 256
"""Lines handed to the compressor together."""

Record = dict[str, Any]
_START = re.compile(r'\{"key":"([^"\\]+)","short":"([^"\\]+)",')
_END = re.compile(r'"seconds":([0-9.e+-]+),"threads":\d+\},"state":"([A-Z_]+)"(?:,"marker":"[^"]*")?\}\s*$')
_OUTPUTS, _SELECTS = '"outputs":', ',"selects":'
"""What comes before and after the products in a line; quotes inside a name would be escaped."""
TAIL = 300
"""Length of the end of a line that holds what is looked for there."""


class PlanRecordError(Exception):
    """The plan of an invocation cannot be read; the text says why and what to do."""


def save_plan(plan: Plan, folder: Path) -> None:
    """Write the plan and its messages into the log folder of an invocation, each completely or not at all.

    Raises
    ------
    OSError
        They cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / f".{PLAN_FILE}.{os.getpid()}"
    try:
        with (
            temporary.open("wb") as raw,
            gzip.GzipFile(filename="", fileobj=raw, mode="wb", compresslevel=LEVEL, mtime=0) as stream,
        ):
            lines = plan.json_lines()
            while chunk := "".join(islice(lines, LINES_AT_ONCE)):
                stream.write(chunk.encode())
        temporary.replace(folder / PLAN_FILE)
        texts = [str(finding) for finding in plan.findings]
        texts += [f"{c.step.short}: {reason}" for c in plan.counts for reason in c.reasons]
        temporary = folder / f".{MESSAGES_FILE}.{os.getpid()}"
        temporary.write_text("".join(f"{text}\n" for text in texts), encoding="utf-8")
        temporary.replace(folder / MESSAGES_FILE)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


class SavedPlan:
    """Plan of one invocation on disk.

    Parameters
    ----------
    folder : Path
        Log folder of the invocation.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / PLAN_FILE
        self._messages = folder / MESSAGES_FILE

    def _lines(self) -> Iterator[str]:
        try:
            with gzip.open(self.path, "rt", encoding="utf-8") as stream:
                yield from stream
        except FileNotFoundError as error:
            raise PlanRecordError(
                f"{self.path} is not there: the invocation ended before it began to execute"
            ) from error
        except (OSError, EOFError, UnicodeDecodeError) as error:
            raise PlanRecordError(f"{self.path} cannot be read ({error}); run the command again") from error

    def heads(self) -> Iterator[tuple[str, str, float, State]]:
        """(key, step, declared seconds, planned state) of every run and model.

        Raises
        ------
        PlanRecordError
            As every method here: the file is not there or damaged.
        """
        for line in self._lines():
            # A line is long and four fields of it are wanted: taking it apart would take ten times as long.
            start, end = _START.match(line), _END.search(line[-TAIL:])
            if start and end:
                yield start[1], start[2], float(end[1]), State(end[2])
                continue
            record = self._parsed(line)
            if "short" in record:
                seconds = float(record.get("resources", {}).get("seconds", 0.0))
                yield record["key"], record["short"], seconds, State(record["state"])
            elif record.get("node") == "model":
                yield record["key"], record["key"].partition("-")[0], 0.0, State(record["state"])

    def find(self, keys: Collection[str]) -> dict[str, Record]:
        """Records by key, of those that are planned."""
        wanted = {f'{{"key":{json.dumps(key)},' for key in keys}
        found: dict[str, Record] = {}
        for line in self._lines():
            if line[: line.find(",") + 1] in wanted:
                record = self._parsed(line)
                found[record["key"]] = record
        return found

    def making(self, name: str) -> list[tuple[str, Record]]:
        """(path, record) of the runs that make a file; ``name``: base name, or path below the data root."""
        found = []
        for line in self._lines():
            if name not in line:
                continue
            record = self._parsed(line)
            for paths in record.get("outputs", {}).values():
                found += [(p, record) for p in paths if p == name or p.rpartition("/")[2] == name]
        return found

    def products(self) -> Iterator[str]:
        """Path of every product the plan makes."""
        for line in self._lines():
            start, end = line.find(_OUTPUTS), line.find(_SELECTS)
            if 0 < start < end:
                # Of a long line a short piece is wanted.
                outputs = self._parsed(f'{{"key":"",{line[start:end]}}}').get("outputs", {})
            else:
                outputs = self._parsed(line).get("outputs", {})
            for paths in outputs.values():
                yield from paths

    def messages(self) -> list[str]:
        """Messages of reader and planner, and why steps have few or no runs."""
        try:
            return self._messages.read_text(encoding="utf-8").splitlines()
        except OSError:
            # An addition to the plan: without it only the explanations are shorter.
            return []

    def _parsed(self, line: str) -> Record:
        try:
            record = json.loads(line)
        except ValueError as error:
            raise PlanRecordError(f"{self.path} is damaged ({error}); run the command again") from error
        if not isinstance(record, dict) or "key" not in record:
            raise PlanRecordError(f"{self.path} holds a line that is no plan record; run the command again")
        return record


def parents_of(record: Record) -> list[str]:
    """Keys of runs and nodes that a planned run or node may wait for, the fixed ones first."""
    keys = [*record.get("depends", ()), *record.get("members", ()), *record.get("fallback", ())]
    for selection in record.get("selects", ()):
        keys += selection.get("candidates", ())
    return list(dict.fromkeys(keys))
