"""Requests to stop: signals, and the exception that ends a run of this process in its middle."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType, TracebackType
from typing import Any


class StopNow(BaseException):
    """Raised inside a recipe in the driver's process; not an ``Exception``, so no body swallows it."""


class Terminated(BaseException):
    """SIGTERM or SIGUSR1 outside an execution; not an ``Exception``, so that nothing swallows it."""


@contextlib.contextmanager
def raising_terminated() -> Iterator[None]:
    """Turn SIGTERM and SIGUSR1 into :class:`Terminated`, so that locks, files and jobs are given back.

    While a reduction runs it has handlers of its own (:class:`StopSignals`).  Has no effect outside the main
    thread.
    """

    def stop(number: int, _: FrameType | None) -> None:
        raise Terminated

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGUSR1)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def ignore_termination() -> None:
    """From here on the process ends by itself; what a signal would hurry up must not be cut short."""
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGUSR1):
            signal.signal(number, signal.SIG_IGN)


class StopSignals:
    """Context manager that remembers SIGINT, SIGTERM and SIGUSR1 instead of dying from them.

    Once SIGINT: end what runs, start nothing.  Twice: stop now.  SIGTERM: stop now, to be continued.
    SIGUSR1 (batch systems send it some time before the walltime): end what runs, to be continued.
    Outside the main thread signals cannot be caught; the object then never reports any.
    """

    def __init__(self) -> None:
        self._seen: list[int] = []
        self._inside = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> StopSignals:
        if threading.current_thread() is threading.main_thread():
            self._before = {
                number: signal.signal(number, self._remember)
                for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
            }
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _remember(self, number: int, _: FrameType | None) -> None:
        self._seen.append(number)
        if self._inside and self.at_once:
            self._inside = False
            raise StopNow

    @property
    def reason(self) -> str:
        """``TERM`` (for SIGUSR1 too), ``keyboard`` or empty."""
        if signal.SIGTERM in self._seen or signal.SIGUSR1 in self._seen:
            return "TERM"
        return "keyboard" if signal.SIGINT in self._seen else ""

    @property
    def at_once(self) -> bool:
        """Nothing more may be waited for."""
        return signal.SIGTERM in self._seen or self._seen.count(signal.SIGINT) >= 2

    @property
    def waits(self) -> bool:
        """What runs may come to its end."""
        return bool(self._seen) and not self.at_once

    @contextlib.contextmanager
    def breaking(self, inside: bool) -> Iterator[None]:
        """Where a stop at once raises :class:`StopNow`, if ``inside``: recipes run in this process."""
        self._inside = inside
        try:
            yield
        finally:
            self._inside = False
