"""What a backend must do: run work and tell how it ended.  It decides nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from apero_dask.core.work import TaskOutcome, Work

Runner = Callable[[Work, tuple[TaskOutcome, ...]], TaskOutcome]
"""Function that runs one piece of work; importable by name, for it travels by reference."""


class BackendLost(Exception):
    """The backend is gone for good (its scheduler died); the text says what happened."""


@dataclass(frozen=True, slots=True)
class Lost:
    """A run whose worker was lost before it answered."""

    dask_key: str
    key: str
    error: str


class Backend(Protocol):
    """Runs work somewhere."""

    look_ahead: bool
    """Whether work may be submitted behind runs that have not ended, whose outcomes are then handed to it."""
    in_process: bool
    """Whether recipes run in the process of the driver, inside :meth:`wait`."""

    @property
    def slots(self) -> int:
        """Runs that can be executed at the same time; 0 while there is no worker."""

    @property
    def memory_mb(self) -> int:
        """Memory of the largest worker; 0 = not limited."""

    def submit(self, work: Work, dask_key: str, priority: int, upstream: Sequence[str]) -> None:
        """Accept work.

        ``priority``: smaller first.  ``upstream``: dask keys of submitted runs it waits for.

        Raises
        ------
        BackendLost
            Nothing can be run any more.
        """

    def wait(self, timeout: float) -> list[TaskOutcome | Lost]:
        """What ended since the last call; waits at most ``timeout`` seconds for the first.

        Raises
        ------
        BackendLost
            Nothing can be run any more.
        """

    def cancel(self, dask_keys: Sequence[str]) -> None:
        """Forget work that has not started; what runs may end."""

    def close(self) -> None:
        """Release everything."""
