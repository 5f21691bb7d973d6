"""What every backend must do, whatever it runs on; a backend is tested by making one under each of these."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace

import pytest

from apero_dask.core.outcome import OutputRecord, State
from apero_dask.core.work import TaskOutcome, Work
from apero_dask.engine.backend import Backend, Lost, Runner
from apero_dask.engine.invocation import Named, common_work
from apero_dask.instruments import instrument
from apero_dask.io.trees import find_trees

MakeBackend = Callable[[Runner, int], AbstractContextManager[Backend]]
"""Backend for a runner, with a number of slots where it can have several."""

COMMON = common_work(Named("i", "2026-01-01T00:00:00", ""), instrument("SPIROU"), find_trees("nowhere"))


def work(key: str, **values: object) -> Work:
    """Work of a run that does what its options say."""
    return replace(
        COMMON, key=key, short="RUN", identity=f"id {key}", options=tuple(values.items()), memory_mb=100
    )


def runner(work: Work, upstream: Sequence[TaskOutcome] = ()) -> TaskOutcome:
    """Sleeps, fails, dies or answers with the outputs of the runs before."""
    options = dict(work.options)
    time.sleep(float(options.get("seconds", 0.0)))
    if options.get("die"):
        os._exit(9)
    if options.get("defect"):
        raise ValueError("a defect of the engine")
    seen = " ".join(output.content for before in upstream for output in before.outputs)
    record = OutputRecord("X", "", f"{work.key}.fits", 1, "", f"{work.key}({seen})")
    return TaskOutcome(
        work.key,
        work.identity,
        State.DONE,
        (record,),
        wall_s=time.time(),
        pid=os.getpid(),
        attempt=work.attempt,
    )


def collect(backend: Backend, count: int, seconds: float = 60.0) -> list[TaskOutcome | Lost]:
    """The next ``count`` answers."""
    found: list[TaskOutcome | Lost] = []
    deadline = time.monotonic() + seconds
    while len(found) < count and time.monotonic() < deadline:
        found += backend.wait(0.5)
    assert len(found) == count, f"{len(found)} of {count} answers"
    return found


class BackendContract:
    """Suite for one kind of backend: a subclass says how to make it."""

    make: MakeBackend
    survives_death = False
    """Workers are processes of their own, so that a run may kill one."""

    def backend(self, slots: int = 2) -> AbstractContextManager[Backend]:
        return type(self).make(runner, slots)

    def test_every_run_is_answered_once(self) -> None:
        with self.backend() as backend:
            for number in range(30):
                backend.submit(work(f"k{number}"), f"RUN-{number}", number, ())
            answers = collect(backend, 30)
            assert sorted(a.key for a in answers) == sorted(f"k{n}" for n in range(30))
            assert all(isinstance(a, TaskOutcome) and a.state is State.DONE for a in answers)
            assert backend.wait(0.05) == []

    def test_waiting_without_work_returns(self) -> None:
        with self.backend() as backend:
            begin = time.monotonic()
            assert backend.wait(0.1) == []
            assert time.monotonic() - begin < 10.0

    def test_smaller_priority_first(self) -> None:
        with self.backend(slots=1) as backend:
            assert backend.slots == 1
            # The slot is busy while the others are queued, so that they can be ordered.
            backend.submit(work("first", seconds=1.0), "FIRST", 0, ())
            for number in reversed(range(1, 7)):
                backend.submit(work(f"k{number}"), f"RUN-{number}", number, ())
            answers = [a for a in collect(backend, 7) if isinstance(a, TaskOutcome)]
            order = [a.key for a in sorted(answers, key=lambda a: a.wall_s)]
            assert order == ["first", *(f"k{number}" for number in range(1, 7))]

    def test_attempts_of_one_run_are_different_work(self) -> None:
        with self.backend() as backend:
            for attempt in (1, 2, 3):
                again = replace(work("k"), attempt=attempt)
                backend.submit(again, "RUN-k" if attempt == 1 else f"RUN-k-{attempt}", 0, ())
                (answer,) = collect(backend, 1)
                assert isinstance(answer, TaskOutcome)
                assert answer.attempt == attempt

    def test_cancelled_work_is_not_answered(self) -> None:
        with self.backend() as backend:
            for number in range(backend.slots):
                backend.submit(work(f"busy{number}", seconds=0.5), f"BUSY-{number}", 0, ())
            backend.submit(work("gone"), "RUN-gone", 5, ())
            backend.submit(work("kept"), "RUN-kept", 6, ())
            backend.cancel(["RUN-gone", "RUN-unknown"])
            answers = collect(backend, backend.slots + 1)
            assert "kept" in {a.key for a in answers}
            assert "gone" not in {a.key for a in answers}
            assert backend.wait(0.2) == []

    def test_outcomes_travel_to_what_waits_for_them(self) -> None:
        with self.backend() as backend:
            if not backend.look_ahead:
                with pytest.raises(ValueError, match="before RUN-a ended"):
                    backend.submit(work("b"), "RUN-b", 1, ("RUN-a",))
                return
            backend.submit(work("a", seconds=0.2), "RUN-a", 2, ())
            backend.submit(work("b"), "RUN-b", 1, ("RUN-a",))
            backend.submit(work("c"), "RUN-c", 0, ("RUN-b", "RUN-a"))
            answers = {a.key: a for a in collect(backend, 3) if isinstance(a, TaskOutcome)}
            assert answers["b"].outputs[0].content == "b(a())"
            assert answers["c"].outputs[0].content == "c(b(a()) a())"

    def test_work_after_close_of_another_run(self) -> None:
        with self.backend() as backend:
            backend.submit(work("a"), "RUN-a", 0, ())
            collect(backend, 1)
            backend.close()
            assert backend.wait(0.05) == []

    def test_death_of_a_worker_is_told(self) -> None:
        if not self.survives_death:
            pytest.skip("runs are executed in this process")
        with self.backend() as backend:
            backend.submit(work("killer", die=True), "RUN-killer", 0, ())
            if backend.look_ahead:
                backend.submit(work("later"), "RUN-later", 1, ("RUN-killer",))
            backend.submit(work("bystander"), "RUN-bystander", 2, ())
            count = 3 if backend.look_ahead else 2
            answers = {a.key: a for a in collect(backend, count)}
            assert isinstance(answers["killer"], Lost)
            assert answers["killer"].dask_key == "RUN-killer"
            if backend.look_ahead:
                assert isinstance(answers["later"], Lost)
            backend.submit(work("killer"), "RUN-killer-2", 0, ())
            (again,) = collect(backend, 1)
            assert isinstance(again, TaskOutcome), "no worker came back"

    def test_defect_of_the_engine_is_not_swallowed(self) -> None:
        with self.backend() as backend:
            backend.submit(work("a", defect=True), "RUN-a", 0, ())
            if backend.in_process:
                with pytest.raises(ValueError, match="a defect of the engine"):
                    backend.wait(1.0)
            else:
                (answer,) = collect(backend, 1)
                assert isinstance(answer, Lost)
                assert "a defect of the engine" in answer.error
