"""Progress of a running invocation, on the error stream.

On a terminal a live table of steps; anywhere else a line when a step is complete, when a run fails and once a
minute.  Watching never disturbs: whatever goes wrong here ends the display and not the reduction.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections import Counter
from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, TextIO

from apero_dask.core.outcome import State
from apero_dask.core.plan import Plan
from apero_dask.report.causes import name_of
from apero_dask.report.plan_view import duration
from apero_dask.report.tally import StepTally, Tally

if TYPE_CHECKING:
    from rich.console import Group
    from rich.live import Live

LINE_S = 60.0
"""Seconds between progress lines where there is no terminal."""
MOST_FAILURES = 20
"""Failures shown per step; the summary has them all, folded."""
RUNNING_SHOWN = 8
REDRAWN_PER_S = 4
BAR = 24
"""Width of a bar, characters."""

LOGGER = logging.getLogger(__name__)


class Console:
    """Listener for the events of the driver; a context manager.

    Parameters
    ----------
    plan : Plan
        What is executed.
    durations : mapping
        Mean duration by step in earlier invocations, s.
    slots : int
        Runs that can be executed at the same time; 0 = not known.
    stream : text stream, optional
        Where to show it; default is the error stream, so that results on standard output stay clean.
    """

    def __init__(
        self,
        plan: Plan,
        durations: Mapping[str, float] | None = None,
        slots: int = 0,
        stream: TextIO | None = None,
    ) -> None:
        self.tally = Tally.of_plan(plan, durations, slots)
        self.stopped = False
        """The display gave up; the events went on."""
        self._stream = sys.stderr if stream is None else stream
        self._names = {task.key: name_of(task) for task in plan.tasks}
        self._lock = threading.Lock()
        self._shown: Counter[str] = Counter()
        self._consequences: set[tuple[str, str]] = set()
        self._complete = {s.short for s in self.tally.steps.values() if not s.left}
        self._line_due = time.monotonic() + LINE_S
        self._note = ""
        self._live: Live | None = None

    def __enter__(self) -> Console:
        if self._stream.isatty():
            self._guard(self._start_live)
        return self

    def _start_live(self) -> None:
        from rich.console import Console as Terminal
        from rich.live import Live

        terminal = Terminal(file=self._stream)
        self._live = Live(
            get_renderable=self._drawn, console=terminal, refresh_per_second=REDRAWN_PER_S, transient=False
        )
        self._live.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            live, self._live = self._live, None
            self._guard(live.stop)

    def __call__(self, event: dict[str, Any]) -> None:
        """Take one event."""
        self._guard(self._take, event)

    def _guard(self, action: Any, *arguments: Any) -> None:
        """Do something for the display; a fault ends the display, is logged, and goes no further."""
        if self.stopped:
            return
        try:
            action(*arguments)
        except Exception:
            # A closed pipe or a strange terminal is no reason to lose a night of work.
            self.stopped = True
            LOGGER.warning("the progress display stopped; the reduction goes on", exc_info=True)

    def _take(self, event: dict[str, Any]) -> None:
        with self._lock:
            state = self.tally.take(event)
        kind = event.get("event")
        if kind == "begin":
            self._say(self._begin_line(event))
        elif kind == "stopping":
            self._note = f"stopping ({event.get('reason')}): {event.get('running', 0)} run(s) still in work"
            self._say(self._note)
        elif kind == "retry":
            self._failure(str(event.get("key")), "repeated", str(event.get("error", "")))
        elif kind == "damaged":
            paths = ", ".join(str(path) for path in event.get("paths", ()))
            self._failure(str(event.get("key")), "found damaged input", f"{paths}; made again")
        if state is not None and (state.failed or state is State.QC_FAILED):
            self._ended_badly(event, state)
        if state is not None and self._live is None:
            self._plain(event)

    def _begin_line(self, event: Mapping[str, Any]) -> str:
        done = self.tally.ended
        again = " (continued)" if event.get("resume") else ""
        skipped = f", {done} of them need not be executed" if done else ""
        name = f"{event.get('run_name', '')}: invocation {event.get('invocation', '')}"
        return f"{name}{again}, {self.tally.total} runs{skipped}"

    def _ended_badly(self, event: Mapping[str, Any], state: State) -> None:
        """Show a failure; of runs that never started for the same reason only the first."""
        key, error = str(event.get("key")), str(event.get("error", ""))
        if state in (State.FAILED_CALIB, State.FAILED_INPUT):
            same = (str(event.get("short")), error)
            if same in self._consequences:
                return
            self._consequences.add(same)
        self._failure(key, state.value, error)

    def _failure(self, key: str, what: str, error: str) -> None:
        name = self._names.get(key, key)
        step = name.partition(" ")[0]
        self._shown[step] += 1
        if self._shown[step] <= MOST_FAILURES:
            self._say(f"{what}: {name}" + (f": {error}" if error else ""))
        elif self._shown[step] == MOST_FAILURES + 1:
            self._say(f"{step}: further failures are only counted here; the event log has them all")

    def _say(self, text: str) -> None:
        if self._live is not None:
            self._live.console.print(text, markup=False, highlight=False, soft_wrap=True)
        else:
            print(text, file=self._stream, flush=True)

    # -- no terminal ------------------------------------------------------------------------

    def _plain(self, event: Mapping[str, Any]) -> None:
        for step in self.tally.steps.values():
            if not step.left and step.short not in self._complete:
                self._complete.add(step.short)
                self._say(f"{step.short}: complete: {describe(step)}")
        if time.monotonic() >= self._line_due:
            self._line_due = time.monotonic() + LINE_S
            self._say(self._headline())

    def _headline(self) -> str:
        tally = self.tally
        left = tally.left_s()
        parts = [f"{tally.ended} of {tally.total} runs ended"]
        if tally.failed:
            parts.append(f"{tally.failed} failed")
        if tally.flying:
            parts.append(f"{len(tally.flying)} handed out")
        if left is not None and tally.ended < tally.total:
            parts.append(f"about {duration(left)} left")
        return ", ".join(parts)

    # -- terminal ---------------------------------------------------------------------------

    def _drawn(self) -> Group | str:
        """Picture for the drawing thread, which must not die of it."""
        try:
            return self._picture()
        except Exception:
            self.stopped = True
            LOGGER.warning("the progress display stopped; the reduction goes on", exc_info=True)
            return ""

    def _picture(self) -> Group:
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        with self._lock:
            rows = [
                (step.short, bar(step), describe(step), step.failed > 0)
                for step in self.tally.steps.values()
                if step.left or step.failed
            ]
            complete = len(self.tally.steps) - len(rows)
            headline = self._headline()
            oldest = sorted(self.tally.flying.items(), key=lambda pair: (pair[1], pair[0]))
        table = Table(box=None, show_header=False, pad_edge=False)
        for _ in range(3):
            table.add_column(no_wrap=True)
        for short, drawn, text, bad in rows:
            table.add_row(Text(short), Text(drawn, style="cyan"), Text(text, style="red" if bad else ""))
        below = [f"{complete} step(s) complete"] if complete else []
        below += [f"  {self._names.get(key, key)}" for key, _ in oldest[:RUNNING_SHOWN]]
        return Group(
            table,
            *(Text(text, style="dim", no_wrap=True, overflow="ellipsis") for text in below),
            Text(self._note or headline, style="bold"),
        )


def bar(step: StepTally, width: int = BAR) -> str:
    """Bar of a step: one mark per share of its runs that ended.

    >>> bar(StepTally("FF", total=4, ended={"a": State.DONE}), 8)
    '##......'
    """
    filled = width * len(step.ended) // step.total if step.total else width
    return "#" * filled + "." * (width - filled)


def describe(step: StepTally) -> str:
    """Counts of a step in words.

    >>> describe(StepTally("FF", total=4, ended={"a": State.DONE, "b": State.FAILED_ERROR}))
    '2/4 runs, 1 failed'
    """
    parts = [f"{len(step.ended)}/{step.total} runs"]
    for number, word in (
        (step.skipped, "skipped"),
        (step.count(State.QC_FAILED), "failed quality control"),
        (step.failed, "failed"),
        (step.blocked, "blocked"),
    ):
        if number:
            parts.append(f"{number} {word}")
    return ", ".join(parts)
