"""One merge rule: command line before run file before default.

A value of the command line replaces that of the run file, it is never combined with it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from apero_dask.core.errors import Findings
from apero_dask.core.settings import Settings, Switch
from apero_dask.runfile.grammar import shown
from apero_dask.runfile.keys import BY_NAME
from apero_dask.runfile.reader import RunFile
from apero_dask.runfile.values import ALL, Value, WrongType, is_null, parse

PACKAGING = "SCIPOST"
"""Short name of the step that ``--package`` switches on."""


@dataclass(frozen=True, slots=True)
class Override:
    """One option of the command line that replaces a run-file key."""

    key: str
    """Canonical key."""
    option: str
    """Option as it was typed, for messages."""
    text: str
    """Value as text, outer quotes removed."""


@dataclass(frozen=True, slots=True)
class CommandLine:
    """What the user typed after ``apero_processing``."""

    instrument: str = ""
    """As typed; any case."""
    run_file: str = ""
    """As typed; see ``locate``."""
    overrides: tuple[Override, ...] = ()
    """Options that replace keys, in the order typed, each key once."""
    data: str | None = None
    """``--data``: folder that holds raw, tmp, reduced, ..."""
    plan: str | None = None
    """``--plan``: file that the plan is written to; nothing is executed."""
    order: str = "graph"
    """graph or strict."""
    strict: bool = False
    resume: bool = True
    """False with ``--no-resume``."""
    package: bool = False
    single_allocation: bool = False


def merge(runfile: RunFile, cli: CommandLine, findings: Findings) -> Settings:
    """Typed settings of one invocation.

    An option whose value is None (for filters also All) counts as not given.  Values of a wrong type are
    reported as E-TYPE under the name of the option; the run file's value then stays.

    >>> from apero_dask.runfile.reader import read_text
    >>> run = read_text("a.ini", b"CORES = 4\\nNIGHT_NAME = 2018-09-25\\nid1 = calib_seq", Findings(), {})
    >>> settings = merge(run, CommandLine(overrides=(Override("CORES", "--cores", "8"),)), Findings())
    >>> settings.cores, settings.night_name, settings.lines
    (8, '2018-09-25', {'NIGHT_NAME': 2})
    """
    values = dict(runfile.values)
    lines = dict(runfile.lines)
    for override in cli.overrides:
        key = BY_NAME[override.key]
        if key.options and override.option != key.options[0]:
            findings.add("I-ALIAS", alias=override.option, canonical=key.options[0])
        if is_null(override.text) or (key.is_filter and override.text.lower() == ALL):
            continue
        try:
            parsed = parse(key, override.text)
        except WrongType as error:
            findings.add("E-TYPE", key=override.option, value=shown(override.text), type=error)
            continue
        for item in parsed.repeated:
            findings.add("W-LISTDUP", key=override.option, item=shown(item))
        values[key.name] = parsed.value
        lines.pop(key.name, None)

    fields, cluster = _fields(values)
    if cli.single_allocation:
        cluster["single_allocation"] = "True"
    run_switches = runfile.run_switches
    if cli.package:
        run_switches = tuple(s for s in run_switches if s.short != PACKAGING)
        run_switches = tuple(
            sorted((*run_switches, Switch(PACKAGING, "", True)), key=lambda s: (s.short, s.part))
        )
        lines.pop(f"RUN_{PACKAGING}", None)
    return Settings(
        run_file=runfile.name,
        order=cli.order,
        package=cli.package,
        resume=cli.resume,
        strict=cli.strict,
        cluster=tuple(sorted(cluster.items())),
        run_switches=run_switches,
        skip_switches=runfile.skip_switches,
        requests=runfile.requests,
        lines=lines,
        **fields,
    )


def _fields(values: dict[str, Value]) -> tuple[dict[str, Any], dict[str, str]]:
    """Fields of the settings and cluster settings; what is None keeps its default."""
    fields: dict[str, Any] = {}
    cluster: dict[str, str] = {}
    for name, value in values.items():
        key = BY_NAME[name]
        if value is None:
            continue
        if key.cluster:
            cluster[key.cluster] = str(value)
        elif key.field:
            fields[key.field] = value
    return fields, cluster
