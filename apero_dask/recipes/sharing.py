"""Keeps what the runs of a process, or the parts of one run, share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol


class Cache(Protocol):
    """Keeps what many runs of one process share; see :meth:`RecipeContext.cached`."""

    def get(self, key: str, loader: Callable[[], Any]) -> Any:
        """Value kept under ``key``, or the result of ``loader``."""
        ...


def file_key(path: Path) -> str:
    """Text that changes when the file is replaced, for the keys of what was read from it.

    Raises
    ------
    OSError
        The file is not there or cannot be reached.
    """
    status = path.stat()
    return f"{path} {status.st_size} {status.st_mtime_ns}"


class OfOneRun:
    """Cache of a run that shares nothing: what several parts of a body ask for is worked out once."""

    def __init__(self) -> None:
        self._kept: dict[str, Any] = {}

    def get(self, key: str, loader: Callable[[], Any]) -> Any:
        if key not in self._kept:
            self._kept[key] = loader()
        return self._kept[key]
