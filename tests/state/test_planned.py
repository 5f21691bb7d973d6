"""The saved plan of an invocation: what is read back is the plan."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from apero_dask.core.outcome import State
from apero_dask.core.plan import Plan
from apero_dask.state.planned import PLAN_FILE, PlanRecordError, SavedPlan, parents_of, save_plan
from tests.report.test_causes import plan_of


@pytest.fixture(scope="module")
def plan() -> Plan:
    """Limited sequence of three nights, some runs skipped."""
    made = plan_of()
    for number, task in enumerate(made.tasks):
        if number % 3 == 0:
            task.state, task.marker = State.SKIPPED_EXISTS, "a" * 32
    return made


@pytest.fixture
def saved(plan: Plan, tmp_path: Path) -> SavedPlan:
    """The plan on disk."""
    save_plan(plan, tmp_path)
    return SavedPlan(tmp_path)


def test_heads_are_those_of_the_plan(plan: Plan, saved: SavedPlan) -> None:
    expected = [(t.key, t.step.short, t.seconds(), t.state) for t in plan.tasks]
    expected += [(n.key, n.key.partition("-")[0], 0.0, n.state) for n in plan.nodes if n.kind == "model"]
    assert list(saved.heads()) == expected


def test_heads_do_not_depend_on_the_order_of_fields(saved: SavedPlan) -> None:
    expected = list(saved.heads()), list(saved.products())
    with gzip.open(saved.path, "rt", encoding="utf-8") as stream:
        records = [json.loads(line) for line in stream]
    with gzip.open(saved.path, "wt", encoding="utf-8") as stream:
        stream.writelines(json.dumps(dict(reversed(r.items()))) + "\n" for r in records)
    assert (list(saved.heads()), sorted(saved.products())) == (expected[0], sorted(expected[1]))


def test_records_are_found_by_key_and_by_product(plan: Plan, saved: SavedPlan) -> None:
    task = next(t for t in plan.tasks if t.step.short == "BAD")
    (record,) = saved.find([task.key, "no such key"]).values()
    assert record == task.record()
    path = task.outputs()[0][2]
    assert [r["key"] for _, r in saved.making(path)] == [task.key]
    both = [r["short"] for _, r in saved.making(path.rpartition("/")[2])]
    assert both == ["BADM", "BAD"], "the master tier makes a file of the same name"
    assert set(task.producers()) <= set(parents_of(record)) and task.gate in parents_of(record)


def test_every_product_is_listed(plan: Plan, saved: SavedPlan) -> None:
    expected = [path for item in plan.by_key.values() for _, _, path in item.outputs()]
    assert sorted(saved.products()) == sorted(expected)


def test_the_same_plan_gives_the_same_bytes(plan: Plan, saved: SavedPlan, tmp_path: Path) -> None:
    save_plan(plan, tmp_path / "again")
    assert (tmp_path / "again" / PLAN_FILE).read_bytes() == saved.path.read_bytes()


def test_messages_name_what_was_left_out(plan: Plan, saved: SavedPlan) -> None:
    assert any(text.startswith("THERMAL") or "THERMAL" in text for text in saved.messages())


@pytest.mark.parametrize(
    "content",
    [b"", b"no gzip", gzip.compress(b'{"key":1', mtime=0), gzip.compress(b"[1]\n", mtime=0)],
    ids=["empty", "not compressed", "cut off", "not a plan"],
)
def test_a_damaged_plan_is_an_error_in_words(tmp_path: Path, content: bytes) -> None:
    (tmp_path / PLAN_FILE).write_bytes(content)
    if not content:
        assert list(SavedPlan(tmp_path).heads()) == []
        return
    with pytest.raises(PlanRecordError, match="run the command again"):
        list(SavedPlan(tmp_path).heads())


def test_an_absent_plan_is_an_error_in_words(tmp_path: Path) -> None:
    with pytest.raises(PlanRecordError, match="ended before it began to execute"):
        list(SavedPlan(tmp_path).heads())
    assert SavedPlan(tmp_path).messages() == []


def test_a_folder_that_cannot_be_written_leaves_nothing(plan: Plan, tmp_path: Path) -> None:
    (tmp_path / PLAN_FILE).mkdir()
    with pytest.raises(OSError, match=PLAN_FILE):
        save_plan(plan, tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == [PLAN_FILE]
