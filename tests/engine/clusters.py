"""Local dask clusters for the tests."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import dask
from distributed import Client, LocalCluster

from apero_dask.engine.dask_backend import MEMORY, SETTINGS, THREADS

MEMORY_MB = 4000


@contextlib.contextmanager
def workers(
    count: int, *, processes: bool = True, threads: int = 1, settings: dict[str, Any] | None = None
) -> Iterator[Client]:
    """Client of a cluster on this machine with ``count`` workers."""
    with (
        dask.config.set({**SETTINGS, **(settings or {})}),
        LocalCluster(
            n_workers=count,
            threads_per_worker=threads,
            processes=processes,
            host="127.0.0.1" if processes else None,
            dashboard_address="127.0.0.1:0",
            memory_limit=None,
            resources={MEMORY: MEMORY_MB * threads, THREADS: threads},
            silence_logs=50,
        ) as cluster,
        Client(cluster) as client,
    ):
        yield client
