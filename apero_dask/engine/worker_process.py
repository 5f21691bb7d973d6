"""Set-up of a worker process; dask calls :func:`dask_setup` in every worker it starts."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
from pathlib import Path

CODE_VARIABLE = "APERO_CODE"
"""Environment variable with the digest of the driver's code."""


class OtherCodeError(SystemExit):
    """This worker would compute with other code than the driver plans with; it must not start.

    dask passes over an ordinary exception at this place.
    """


COMPUTING = ("core", "engine", "instruments", "io", "recipes", "tables")
"""Packages of apero_dask whose files take part in what a worker computes."""


def installed_code() -> str:
    """Digest over the files that this process computes with: packages, tables and kernels."""
    import hashlib
    import importlib.util

    package = Path(__file__).resolve().parents[1]
    kernels = importlib.util.find_spec("apero_kernels")
    folders = [package / name for name in COMPUTING]
    if kernels is not None and kernels.origin is not None:
        folders.append(Path(kernels.origin).parent)
    total = hashlib.sha256()
    for folder in folders:
        for path in sorted(folder.iterdir()):
            if path.suffix in (".py", ".csv", ".toml"):
                total.update(f"{folder.name}/{path.name}\0".encode() + path.read_bytes() + b"\0")
    return total.hexdigest()[:32]


def dask_setup(worker: object) -> None:
    """Leave Ctrl-C to the driver: a terminal sends it to the workers too, and they would die of it.

    Workers that live in a thread of another process have no signals of their own.

    Raises
    ------
    OtherCodeError
        The driver's code, named by the environment, is not what is installed here.
    """
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    wanted = os.environ.get(CODE_VARIABLE, "")
    if wanted and installed_code() != wanted:
        place = Path(__file__).resolve().parents[1]
        raise OtherCodeError(
            f"apero_dask in {place} on {socket.gethostname()} (Python {sys.version.split()[0]}) is not the "
            "code that the driver runs; use one installation that all nodes share, or the same version there"
        )
