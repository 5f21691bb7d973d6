"""Records that travel between processes arrive as they were sent."""

from __future__ import annotations

import copy
import pickle
from dataclasses import fields, is_dataclass

import pytest

from apero_dask.core import outcome, work
from apero_dask.core.travel import Travels

RECORDS = [
    kind
    for module in (work, outcome)
    for kind in vars(module).values()
    if isinstance(kind, type) and issubclass(kind, Travels) and kind is not Travels
]


def test_every_record_is_one_that_travels() -> None:
    for module in (work, outcome):
        own = [kind for kind in vars(module).values() if is_dataclass(kind)]
        assert own
        assert all(issubclass(kind, Travels) for kind in own)


@pytest.mark.parametrize("kind", RECORDS, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_every_field_arrives(kind: type, protocol: int) -> None:
    """A distinct value in every field: none may be left at its default or change places."""
    sent = kind(**{field.name: (field.name, number) for number, field in enumerate(fields(kind))})
    arrived = pickle.loads(pickle.dumps(sent, protocol))
    assert type(arrived) is kind
    assert arrived == sent
    assert copy.deepcopy(sent) == sent
