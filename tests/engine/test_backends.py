"""Every backend fulfils the same contract."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace

from apero_dask.engine.backend import Backend, Runner
from apero_dask.engine.dask_backend import DaskBackend
from apero_dask.engine.serial import SerialBackend
from tests.engine.clusters import workers
from tests.engine.contract import BackendContract, collect, runner, work


@contextlib.contextmanager
def serial(run: Runner, slots: int) -> Iterator[Backend]:
    yield SerialBackend(run)


@contextlib.contextmanager
def dask_threads(run: Runner, slots: int) -> Iterator[Backend]:
    with workers(slots, processes=False) as client:
        backend = DaskBackend(client, run)
        yield backend
        backend.close()


@contextlib.contextmanager
def dask_processes(run: Runner, slots: int) -> Iterator[Backend]:
    with workers(slots) as client:
        backend = DaskBackend(client, run)
        yield backend
        backend.close()


class TestSerial(BackendContract):
    make = staticmethod(serial)


class TestDaskThreads(BackendContract):
    make = staticmethod(dask_threads)


class TestDaskProcesses(BackendContract):
    make = staticmethod(dask_processes)
    survives_death = True


def test_runs_that_need_the_memory_of_a_whole_worker() -> None:
    """Declared memory keeps runs apart; they are executed one after the other on each worker."""
    with workers(2, processes=False) as client:
        backend = DaskBackend(client, runner)
        most = backend.memory_mb
        assert most == 4000
        for number in range(3):
            big = replace(work(f"k{number}", seconds=0.1), memory_mb=most)
            backend.submit(big, f"RUN-{number}", number, ())
        assert len(collect(backend, 3)) == 3
        backend.close()


def test_slots_follow_the_workers() -> None:
    with workers(2, processes=False) as client:
        assert DaskBackend(client, runner).slots == 2
    with workers(1, processes=False) as client:
        assert DaskBackend(client, runner).slots == 1
