"""Backends by kind of cluster."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from apero_dask.deploy.slots import available_memory_mb
from apero_dask.engine.backend import Backend
from apero_dask.engine.serial import SerialBackend

KINDS = ("local", "existing")
"""Kinds without jobs; those with jobs are in ``batch.py``."""
ANSWER_S = 30
"""A running scheduler must answer within this time."""
RESERVED_MB = 1000
"""Left for driver and scheduler."""


class ClusterError(Exception):
    """No cluster can be had; the text says why and what to do."""


@contextlib.contextmanager
def backend_for(kind: str, slots: int, address: str = "") -> Iterator[tuple[Backend, str]]:
    """Backend of a cluster kind, with the address of its dashboard (empty when there is none).

    ``local``: with one slot in this process, else one worker process per slot on this machine.
    ``existing``: the running scheduler at ``address`` (tcp://host:port) or in that scheduler file.

    Raises
    ------
    ClusterError
        If the kind is not provided or no scheduler answers.
    """
    if kind not in KINDS:
        raise ClusterError(f"cluster kind {kind} is not provided; expected one of {', '.join(KINDS)}")
    if kind == "local" and slots == 1:
        backend: Backend = SerialBackend()
        try:
            yield backend, ""
        finally:
            backend.close()
        return
    import dask
    from distributed import Client

    from apero_dask.engine.dask_backend import SETTINGS, DaskBackend

    with dask.config.set(SETTINGS):
        if kind == "local":
            with local_cluster(slots) as cluster, Client(cluster) as client:
                found = DaskBackend(client)
                try:
                    yield found, cluster.dashboard_link
                finally:
                    found.close()
            return
        if not address:
            raise ClusterError(
                "cluster kind existing needs DASK_ADDRESS: tcp://host:port or a scheduler file"
            )
        if "://" in address:
            given = {"address": address}
        elif Path(address).is_file():
            given = {"scheduler_file": address}
        else:
            # dask would wait for it for ever.
            raise ClusterError(f"there is no scheduler file {address}; start the scheduler first")
        try:
            client = Client(**given, timeout=ANSWER_S)
        except (OSError, TimeoutError, ValueError) as error:
            raise ClusterError(f"no scheduler answers at {address} ({error}); start it first") from error
        with client:
            declared = DaskBackend(client).memory_mb > 0
            found = DaskBackend(client, use_resources=declared)
            try:
                yield found, client.dashboard_link
            finally:
                found.close()


def local_cluster(slots: int):  # type: ignore[no-untyped-def]
    """``LocalCluster`` with one single-threaded worker process per slot, bound to the loopback interface."""
    from distributed import LocalCluster

    from apero_dask.engine.dask_backend import MEMORY, THREADS

    share = max(1000, (available_memory_mb() - RESERVED_MB) // slots)
    return LocalCluster(
        n_workers=slots,
        threads_per_worker=1,
        processes=True,
        host="127.0.0.1",
        dashboard_address="127.0.0.1:0",
        memory_limit=share * 1_000_000,
        resources={MEMORY: share, THREADS: 1},
        silence_logs=40,
    )
