"""Run files: where they are, and from their text to a :class:`RunFile`.

Every finding is collected with its line; nothing here raises because of what a file contains, and a run file
is never modified.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from apero_dask.core.declare import Recipe
from apero_dask.core.errors import Findings
from apero_dask.core.settings import Request, Switch
from apero_dask.runfile.commands import declared_recipes, read_command
from apero_dask.runfile.grammar import Assignment, scan, shown
from apero_dask.runfile.keys import BY_SPELLING, Key
from apero_dask.runfile.sequence_names import ELSEWHERE, SEQUENCES, nearest_sequence, sequence_name
from apero_dask.runfile.suggest import closest
from apero_dask.runfile.switches import (
    CLASH,
    CLASH_IN_07,
    FIRST_FIT,
    PREFIXES,
    SHORTS,
    Dialect,
    dialect,
    has_no_counterpart,
    nearest_switch,
    resolve_short,
    split_switch,
)
from apero_dask.runfile.values import Value, WrongType, is_null, parse, parse_bool

LARGEST = 64 * 1024 * 1024
"""Bytes; a larger file is no run file."""


@dataclass(frozen=True, slots=True)
class RunFile:
    """Content of one run file, checked line by line but not yet merged with the command line."""

    name: str = ""
    """Name shown in messages."""
    values: Mapping[str, Value] = field(default_factory=dict)
    """Canonical key -> value, for the keys that are set and usable."""
    run_switches: tuple[Switch, ...] = ()
    skip_switches: tuple[Switch, ...] = ()
    requests: tuple[Request, ...] = ()
    """In increasing order of the id number; ids with an error are left out."""
    lines: Mapping[str, int] = field(default_factory=dict)
    """Line of each key that is set, switches included, by canonical key."""


def locate(name: str, runs_dir: Path, findings: Findings) -> Path:
    """Path of the run file called ``name``: as given if it exists, else inside the runs folder.

    Raises
    ------
    UserError
        With everything found so far, if there is no such file.
    """
    here = Path(name)
    candidates = [here] if here.is_absolute() else [here, runs_dir / here]
    folder: Path | None = None
    for path in candidates:
        try:
            if path.is_dir():
                folder = folder or path
            elif path.exists():
                return path
        except (OSError, ValueError):
            # A name that the file system cannot hold (too long, zero byte) is a name of nothing.
            continue
    if folder is not None:
        findings.add(
            "E-RUNFILE",
            name=shown(name),
            problem="is a folder",
            action="give the name of a file in it, such as mini_run.ini",
        )
    else:
        # The end of a path tells the folder: it is never cut, unlike a name that may be anything.
        looked = [str(Path.cwd() / here.parent), str(candidates[-1].parent)]
        findings.add(
            "E-NO-RUNFILE",
            name=shown(name),
            dir1=shown(looked[0], len(looked[0])),
            dir2=shown(looked[1], len(looked[1])),
        )
    findings.raise_errors()
    raise AssertionError("an error was added")


def read_file(path: Path, findings: Findings, recipes: Mapping[str, Recipe] | None = None) -> RunFile:
    """Read the run file at ``path``; see :func:`read_text`.

    A file that cannot be read is reported as E-RUNFILE and gives an empty :class:`RunFile`.
    """
    data = content_of(path, findings)
    return RunFile(path.name) if data is None else read_text(path.name, data, findings, recipes)


def content_of(path: Path, findings: Findings) -> bytes | None:
    """Bytes of the run file at ``path``; None after reporting as E-RUNFILE that it cannot be read."""
    try:
        with path.open("rb") as stream:
            data = stream.read(LARGEST + 1)
    except OSError as error:
        problem = f"cannot be read ({error.strerror or error})"
        findings.add("E-RUNFILE", name=shown(str(path)), problem=problem, action="check its permissions")
        return None
    if len(data) > LARGEST:
        problem = f"is larger than {LARGEST // 1024**2} MB"
        findings.add("E-RUNFILE", name=shown(str(path)), problem=problem, action="is it a run file?")
        return None
    return data


def read_text(
    name: str, text: bytes, findings: Findings, recipes: Mapping[str, Recipe] | None = None
) -> RunFile:
    """Read the bytes of a run file.

    Parameters
    ----------
    name : str
        Name shown in messages; becomes ``findings.file``.
    text : bytes
        UTF-8, with or without byte-order mark, lines ended by LF or CRLF.  Any bytes are accepted and either
        understood or reported.
    findings : Findings
        Collects what is wrong or worth knowing, with line numbers.
    recipes : mapping, optional
        Declarations that explicit lines are checked against; the registered ones by default.

    >>> found = Findings()
    >>> run = read_text("a.ini", b"SCIENCE_TARGETS = Gl 699, TOI-442\\nid1 = calib_seq", found, recipes={})
    >>> run.values["SCIENCE_TARGETS"], run.requests[0].sequence, found.codes()
    (('Gl 699', 'TOI-442'), 'calib_seq', [])
    """
    findings.file = name
    start = len(findings)
    before = len(findings.errors())
    assignments = scan(text, findings)
    reader = _Reader(findings, declared_recipes() if recipes is None else recipes)
    reader.read(assignments)
    if not any(a.id_digits for a in assignments) and len(findings.errors()) == before:
        findings.add("E-NO-ID", file=name)
    # A user corrects a file from top to bottom; what belongs to no line comes last.
    findings.items[start:] = sorted(findings.items[start:], key=lambda f: (f.line == 0, f.line))
    switches = sorted(reader.switches, key=lambda item: (item[1].short, item[1].part))
    return RunFile(
        name=name,
        values=reader.values,
        run_switches=tuple(switch for prefix, switch in switches if prefix == "RUN_"),
        skip_switches=tuple(switch for prefix, switch in switches if prefix == "SKIP_"),
        requests=tuple(reader.requests),
        lines=reader.lines,
    )


@dataclass(frozen=True, slots=True)
class _Entry:
    """One usable value of a key, under the spelling that was used."""

    spelling: str
    line: int
    text: str
    value: Value


class _Reader:
    """Collects what the assignments of one file say."""

    def __init__(self, findings: Findings, recipes: Mapping[str, Recipe]) -> None:
        self.findings = findings
        self.recipes = recipes
        self.values: dict[str, Value] = {}
        self.lines: dict[str, int] = {}
        self.switches: list[tuple[str, Switch]] = []
        self.requests: list[Request] = []
        self._aliases: set[str] = set()
        self._dialect = Dialect(False, False)

    def read(self, assignments: list[Assignment]) -> None:
        """Read all assignments: ordinary keys, then switches, then ids in numeric order."""
        ids = [a for a in assignments if a.id_digits]
        others = [a for a in assignments if not a.id_digits]
        self._dialect = dialect(
            (a.key for a in others), (words[0].lower() for a in ids if (words := a.text.split(maxsplit=1)))
        )
        keys: dict[str, list[_Entry]] = {}
        switches: dict[tuple[str, str, str], list[_Entry]] = {}
        for assignment in others:
            key = BY_SPELLING.get(assignment.key)
            if key is not None:
                self._read_key(assignment, key, keys.setdefault(key.name, []))
            elif (parts := split_switch(assignment.key)) is not None:
                self._read_switch(assignment, *parts, switches)
            else:
                self._unknown(assignment)
        for name, entries in keys.items():
            if (kept := self._settle(name, entries)) is not None:
                self.values[name] = kept.value
                self.lines[name] = kept.line
        for (prefix, short, part), entries in switches.items():
            if (kept := self._settle(prefix + short, entries)) is not None:
                self.switches.append((prefix, Switch(short, part, bool(kept.value), kept.line)))
                self.lines[prefix + short + (f"[{part}]" if part else "")] = kept.line
        self._warn_without_effect()
        self._read_ids(ids)

    def _alias(self, alias: str, canonical: str, line: int) -> None:
        if alias not in self._aliases:
            self._aliases.add(alias)
            self.findings.add("I-ALIAS", line=line, alias=alias, canonical=canonical)

    def _unknown(self, assignment: Assignment) -> None:
        switches = (prefix + short for prefix in PREFIXES for short in SHORTS)
        suggestion = closest(assignment.key, [*BY_SPELLING, *switches])
        self.findings.add(
            "W-UNKNOWN-KEY", line=assignment.line, key=shown(assignment.written), suggestion=suggestion
        )

    def _value(self, assignment: Assignment, parsed: Callable[[], Value]) -> _Entry | None:
        """Entry for a value, or None after reporting that it has the wrong type."""
        try:
            if assignment.unclosed:
                raise WrongType("a closing quote")
            value = parsed()
        except WrongType as error:
            self.findings.add(
                "E-TYPE",
                line=assignment.line,
                key=assignment.key,
                value=shown(assignment.text),
                type=error,
            )
            return None
        return _Entry(assignment.key, assignment.line, assignment.text, value)

    def _read_key(self, assignment: Assignment, key: Key, entries: list[_Entry]) -> None:
        if assignment.key != key.name:
            self._alias(assignment.key, key.name, assignment.line)

        def parsed() -> Value:
            found = parse(key, assignment.text)
            for item in found.repeated:
                self.findings.add("W-LISTDUP", line=assignment.line, key=assignment.key, item=shown(item))
            return found.value

        entry = self._value(assignment, parsed)
        if entry is not None:
            entries.append(entry)
            if key.name == "EXCLUDE_OBS_DIRS" and entry.value is None and not is_null(entry.text):
                self.findings.add("I-EXCLUDE-ALL", line=assignment.line, word=shown(entry.text))

    def _read_switch(
        self,
        assignment: Assignment,
        prefix: str,
        short: str,
        switches: dict[tuple[str, str, str], list[_Entry]],
    ) -> None:
        line = assignment.line
        if short == CLASH and self._dialect.mixed:
            self.findings.add(
                "E-AMBIGUOUS-SWITCH",
                line=line,
                key=assignment.key,
                old1=f"RUN_{FIRST_FIT}",
                new1=f"SKIP_{FIRST_FIT}",
                old2=prefix + CLASH_IN_07,
            )
            return
        resolved = resolve_short(short, self._dialect)
        if resolved is None:
            if has_no_counterpart(short):
                self.findings.add("I-NO-COUNTERPART", line=line, key=shown(assignment.key))
            else:
                self.findings.add(
                    "W-UNKNOWN-SWITCH",
                    line=line,
                    key=shown(assignment.key),
                    short=shown(short),
                    suggestion=nearest_switch(prefix, short),
                )
            return
        canonical, part = resolved
        if canonical != short:
            only = f" for {part} frames only" if part else ""
            self._alias(assignment.key, f"{prefix}{canonical}{only}", line)
        entry = self._value(assignment, lambda: parse_bool(assignment.text))
        if entry is not None:
            switches.setdefault((prefix, canonical, part), []).append(entry)

    def _settle(self, name: str, entries: list[_Entry]) -> _Entry | None:
        """Entry that holds among those of one key; contradictions are reported."""
        last: dict[str, _Entry] = {}
        for entry in entries:
            earlier = last.get(entry.spelling)
            if earlier is not None and earlier.value != entry.value:
                self.findings.add(
                    "W-DUPKEY",
                    line=entry.line,
                    key=entry.spelling,
                    a=earlier.line,
                    b=entry.line,
                    value=shown(entry.text),
                )
            last[entry.spelling] = entry
        if not last:
            return None
        kept = last.get(name) or next(iter(last.values()))
        for other in last.values():
            if other.value != kept.value:
                self.findings.add(
                    "E-ALIAS-CONFLICT",
                    line=other.line,
                    key=kept.spelling,
                    a=kept.line,
                    alias=other.spelling,
                    b=other.line,
                )
        return kept

    def _warn_without_effect(self) -> None:
        if self.values.get("SEND_EMAIL") is True:
            self.findings.add("W-NOTIMPL", line=self.lines["SEND_EMAIL"], key="SEND_EMAIL")
        if self.values.get("RESET_ALLOWED") is True:
            self.findings.add("W-RESET-IGNORED", line=self.lines["RESET_ALLOWED"])

    def _read_ids(self, ids: list[Assignment]) -> None:
        first_lines: dict[str, int] = {}
        first_use: dict[str, Request] = {}
        # Shorter digit strings are smaller numbers: no conversion of absurdly long ids.
        for assignment in sorted(ids, key=lambda a: (len(a.id_digits), a.id_digits, a.line)):
            digits, line = assignment.id_digits, assignment.line
            label = shown(digits.zfill(5))
            if digits in first_lines:
                self.findings.add("E-ID-DUP", line=line, n=label, a=first_lines[digits], b=line)
            else:
                first_lines[digits] = line
            request = self._read_id(assignment, label)
            if request is None:
                continue
            if request.sequence and request.sequence in first_use:
                earlier = first_use[request.sequence]
                if earlier.number != request.number:
                    self.findings.add(
                        "W-SEQ-REPEAT", line=line, n=label, sequence=request.sequence, m=earlier.label
                    )
            elif request.sequence:
                first_use[request.sequence] = request
            self.requests.append(request)

    def _read_id(self, assignment: Assignment, label: str) -> Request | None:
        line, text = assignment.line, assignment.text
        if is_null(text):
            self.findings.add("E-ID-EMPTY", line=line, n=label)
            return None
        if len(assignment.id_digits) > 18:
            self.findings.add(
                "E-TYPE",
                line=line,
                key=shown(assignment.written, 24),
                value=shown(text),
                type="an id number of at most 18 digits",
            )
            return None
        number = int(assignment.id_digits)
        words = text.split()
        name = sequence_name(words[0])
        if name is not None and len(words) == 1:
            if words[0].lower() != name:
                self._alias(words[0].lower(), name, line)
            return Request(number, line, sequence=name)
        if name is not None:
            detail = (
                f'a sequence takes no further words (found "{shown(" ".join(words[1:]))}"); set keys instead'
            )
            self.findings.add("E-ARG", line=line, n=label, recipe=name, detail=detail)
            return None
        if words[0].lower() in ELSEWHERE:
            self.findings.add("E-SEQ-UNSUPPORTED", line=line, n=label, name=words[0].lower())
            return None
        if len(words) == 1 and not _looks_like_recipe(words[0], self.recipes):
            self.findings.add(
                "E-SEQ-UNKNOWN",
                line=line,
                n=label,
                name=shown(words[0]),
                list=", ".join(SEQUENCES),
                suggestion=nearest_sequence(words[0]),
            )
            return None
        command = read_command(text, label, line, self.findings, self.recipes, self._alias)
        return None if command is None else Request(number, line, command=command)


def _looks_like_recipe(word: str, recipes: Iterable[str]) -> bool:
    """Whether a single unknown word is meant as a recipe rather than a sequence."""
    lower = word.lower()
    if lower.endswith((".py", "_spirou")) or lower.startswith(("cal_", "obj_", "apero_")):
        return True
    return nearest_sequence(word) is None and closest(word, recipes) is not None
