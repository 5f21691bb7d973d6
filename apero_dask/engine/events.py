"""Event stream of an invocation: one JSON line per event, and whoever listens."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

from apero_dask.core.work import TaskOutcome

Listener = Callable[[dict[str, Any]], None]


class EventSink:
    """Writes events to a file and hands them to listeners.

    Parameters
    ----------
    path : Path, optional
        File that events are appended to, one JSON object a line.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.error = ""
        """Why events can no longer be written, empty while they can."""
        self._stream: TextIO | None = None
        self._listeners: list[Listener] = []
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._stream = path.open("a", encoding="utf-8", buffering=1)

    def listen(self, listener: Listener) -> None:
        """Call ``listener`` with every later event."""
        self._listeners.append(listener)

    def emit(self, event: str, **values: Any) -> None:
        """Publish one event with the time of the driver's clock."""
        record = {"time": round(time.time(), 3), "event": event, **values}
        if self._stream is not None and not self.error:
            try:
                self._stream.write(json.dumps(record, separators=(",", ":")) + "\n")
            except OSError as error:
                # The reduction has to wind down in order; it stops for this reason.
                self.error = f"event stream: {error.strerror or error}"
        for listener in self._listeners:
            listener(record)

    def outcome(self, outcome: TaskOutcome, short: str, place: str, stem: str) -> None:
        """Publish how a run ended."""
        self.emit(
            "ended",
            key=outcome.key,
            short=short,
            place=place,
            stem=stem,
            state=outcome.state.value,
            error=outcome.error,
            messages=[list(message) for message in outcome.messages],
            qc=[[t.name, t.value, t.logic, t.passed, t.informative] for t in outcome.qc],
            wall_s=round(outcome.wall_s, 4),
            cpu_s=round(outcome.cpu_s, 4),
            peak_mb=round(outcome.peak_mb, 1),
            host=outcome.host,
            attempt=outcome.attempt,
            reused=outcome.reused,
            log=outcome.log,
        )

    def close(self) -> None:
        """Close the file."""
        if self._stream is not None:
            stream, self._stream = self._stream, None
            try:
                stream.close()
            except OSError as error:
                self.error = f"event stream: {error.strerror or error}"
