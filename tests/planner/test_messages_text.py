"""The texts of the messages: their placeholders can be filled."""

from __future__ import annotations

import inspect
from string import Formatter

import pytest

from apero_dask.core.errors import Findings
from apero_dask.core.messages import MESSAGES

PARAMETERS = frozenset(inspect.signature(Findings.add).parameters) - {"values"}


@pytest.mark.parametrize("code", sorted(MESSAGES))
def test_no_placeholder_has_the_name_of_a_parameter(code: str) -> None:
    """A value given for it would be taken for the parameter, and the text would stay without."""
    names = {name for _, name, _, _ in Formatter().parse(MESSAGES[code]) if name is not None}
    assert not names & PARAMETERS
    found = Findings("run.ini")
    found.add(code.partition("/")[0], line=7, variant=code.partition("/")[2], **dict.fromkeys(names, "value"))
    (finding,) = found
    assert finding.line == 7
    assert "{" not in finding.text


def test_parameters_are_seen() -> None:
    assert {"code", "line", "file", "only_warn", "variant"} <= PARAMETERS
