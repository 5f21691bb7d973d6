"""Set-up of a worker process; dask calls :func:`dask_setup` in every worker it starts."""

from __future__ import annotations

import signal
import threading


def dask_setup(worker: object) -> None:
    """Leave Ctrl-C to the driver: a terminal sends it to the workers too, and they would die of it.

    Workers that live in a thread of another process have no signals of their own.
    """
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.SIG_IGN)
