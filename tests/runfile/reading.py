"""Short ways to read run files from text, used by the tests of this folder."""

from __future__ import annotations

from dataclasses import replace

from apero_dask.core.errors import Finding, Findings
from apero_dask.core.settings import Settings
from apero_dask.runfile.merge import CommandLine, merge
from apero_dask.runfile.reader import RunFile, read_text


def read(text: str | bytes) -> tuple[RunFile, Findings]:
    """Run file and findings of a text, checked against the registered recipes."""
    findings = Findings()
    data = text if isinstance(text, bytes) else text.encode()
    return read_text("test.ini", data, findings), findings


def settings(text: str | bytes, cli: CommandLine | None = None) -> tuple[Settings, Findings]:
    """Merged settings of a text that needs no id of its own."""
    runfile, findings = read(text if isinstance(text, bytes) else text + "\nid99 = blank_seq")
    return merge(runfile, cli or CommandLine(), findings), findings


def only(findings: Findings, code: str) -> Finding:
    """The one finding, which must have this code."""
    assert findings.codes() == [code], list(map(str, findings))
    return findings.items[0]


def one(findings: Findings, code: str) -> Finding:
    """The one finding with this code, whatever else there is."""
    found = [finding for finding in findings if finding.code == code]
    assert len(found) == 1, list(map(str, findings))
    return found[0]


def without_lines(given: Settings) -> Settings:
    """Settings with every line number set to zero."""
    return replace(
        given,
        lines={},
        run_switches=tuple(replace(s, line=0) for s in given.run_switches),
        skip_switches=tuple(replace(s, line=0) for s in given.skip_switches),
        requests=tuple(replace(r, line=0) for r in given.requests),
    )
