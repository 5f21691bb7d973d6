"""Reduce archives of the SPIRou spectrograph on a dask cluster.

In a notebook or a script::

    from apero_dask import plan, read_run_file, run

    request = read_run_file("mini_run.ini", "SPIROU", data="/data")
    result = run(request)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from apero_dask.notebook.calls import plan, read_run_file, run

__version__ = "0.1.0"
__all__ = ["__version__", "plan", "read_run_file", "run"]


def __getattr__(name: str) -> Any:
    """Import the calls when they are first asked for: the package itself must load at once."""
    if name in ("plan", "read_run_file", "run"):
        from apero_dask.notebook import calls

        return getattr(calls, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
