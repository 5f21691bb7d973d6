"""Set-up of a worker process; dask calls :func:`dask_setup` in every worker it starts.

``python -m apero_dask.engine.worker_process DIGEST`` ends with status 1, and says why, if another code
than that of the digest is installed; a worker job asks before it starts its worker.
"""

from __future__ import annotations

import signal
import socket
import sys
import threading
from pathlib import Path

from apero_dask.engine.freed_memory import keep_freed_memory

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
    """Keep freed memory, and leave Ctrl-C to the driver: a terminal sends it to the workers too, and they
    would die of it.

    Workers that live in a thread of another process have no signals of their own.
    """
    keep_freed_memory()
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.SIG_IGN)


def check_code(wanted: str) -> int:
    """Status 0 if this installation is the code of a digest (:func:`installed_code`), else 1, and why."""
    if installed_code() == wanted:
        return 0
    place = Path(__file__).resolve().parents[1]
    print(
        f"apero_dask in {place} on {socket.gethostname()} (Python {sys.version.split()[0]}) is not the code "
        "that the driver runs; use one installation that all nodes share, or the same version there",
        file=sys.stderr,
    )
    return 1


if __name__ == "__main__":
    sys.exit(check_code(sys.argv[1]))
