"""The products do not depend on how they were made."""

from __future__ import annotations

import random
from collections.abc import Mapping
from pathlib import Path

import pytest

from apero_dask.core.plan import Plan
from apero_dask.engine.dask_backend import DaskBackend
from apero_dask.engine.driver import Options
from tests.engine import bed, standins
from tests.engine.clusters import workers


def shuffled(seed: int) -> object:
    """Priorities in an order that has nothing to do with the plan."""

    def order(plan: Plan) -> Mapping[str, int]:
        keys = list(plan.by_key)
        random.Random(seed).shuffle(keys)
        return {key: number for number, key in enumerate(keys)}

    return order


def assert_same(root: Path, reference: bed.Reduced) -> None:
    """Same products by content, and byte for byte: volatile cards travel with the invocation."""
    wanted = bed.contents(reference.root)
    assert len(wanted) > 1000
    assert bed.contents(root) == wanted
    assert bed.files(root) == bed.files(reference.root)
    assert bed.unmarked(root) == []


def test_reference_is_complete(reference: bed.Reduced) -> None:
    assert reference.result.status == 0
    assert reference.counts() == {"DONE": bed.RUNS}
    assert reference.result.executed == bed.RUNS + bed.MODELS
    assert bed.unmarked(reference.root) == []
    assert set(bed.executions(reference.root).values()) == {1}


def test_content_leaves_volatile_cards_out(reference: bed.Reduced, root: Path) -> None:
    # Another invocation: other date and number in the headers, hence other files of the same content.
    bed.reduce(root, options=Options(order=shuffled(1)), command="first")
    assert bed.files(root) == bed.files(reference.root)
    again = bed.reduce(root, command="second")
    assert again.result.executed == bed.RUNS + bed.MODELS
    assert bed.contents(root) == bed.contents(reference.root)
    assert bed.files(root) != bed.files(reference.root)


def test_shuffled_priorities_and_windows_of_ten_in_process(root: Path, reference: bed.Reduced) -> None:
    done = bed.reduce(root, options=Options(order=shuffled(2), window=10))
    assert done.result.status == 0
    assert_same(root, reference)


@pytest.mark.parametrize(
    ("count", "options"),
    [
        (1, Options()),
        (2, Options(order=shuffled(3))),
        (2, Options(window=10)),
        pytest.param(2, Options(look_ahead=False, order=shuffled(4), window=10), marks=pytest.mark.slow),
        pytest.param(2, Options(), marks=pytest.mark.slow),
    ],
    ids=["one worker", "two workers shuffled", "windows of ten", "no look-ahead", "two workers"],
)
def test_dask(count: int, options: Options, root: Path, reference: bed.Reduced) -> None:
    with workers(count) as client:
        done = bed.reduce(root, DaskBackend(client, standins.run), options=options)
    assert done.result.status == 0
    assert done.counts() == {"DONE": bed.RUNS}
    assert set(bed.executions(root).values()) == {1}
    assert_same(root, reference)


def test_failures_spread_alike(root: Path, archive: Path) -> None:
    faults = {"BAD 2018-09-26": {"kind": "qc"}, "FF 2018-09-25": {"kind": "error"}, "CCF": {"kind": "qc"}}
    other = bed.clone(archive, root.parent / "other")
    bed.set_faults(root, faults)
    bed.set_faults(other, faults)
    one = bed.reduce(root, options=Options(order=shuffled(5)))
    with workers(2) as client:
        two = bed.reduce(other, DaskBackend(client, standins.run), options=Options(look_ahead=False))
    assert one.states == two.states
    assert one.result.status == two.result.status == 1
    assert bed.contents(root) == bed.contents(other)
