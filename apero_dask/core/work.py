"""What travels to a worker and back: records of a few kilobytes, never arrays."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from apero_dask.core.outcome import OutputRecord, State
from apero_dask.core.travel import Travels


@dataclass(frozen=True, slots=True)
class InputFile(Travels):
    """One input file a run uses."""

    path: str
    """Below the data root, with ``/``."""
    digest: str = ""
    """Expected digest of the file, empty when it is not known (raw frames, files of other programs)."""
    content: str = ""
    """Content digest recorded in the marker."""


@dataclass(frozen=True, slots=True)
class CalibrationFile(Travels):
    """One file of a chosen calibration."""

    kind: str
    fibre: str
    path: str
    """Below the data root; empty for a shipped first guess."""
    digest: str = ""
    content: str = ""
    registered: str = ""
    """Base name in the calibration database; a function of night, tier and file name."""


@dataclass(frozen=True, slots=True)
class Calibration(Travels):
    """A chosen calibration: files of one producing run."""

    kinds: tuple[str, ...]
    """Kinds that were asked for."""
    fibre: str
    applies_to: str
    source: str
    """Run identity of the producer, ``default:<key>`` or ``file:<name>``; empty when there is none."""
    obs_dir: str = ""
    time: float = 0.0
    """Product time, MJD."""
    rank: int = 0
    """1 = own night, 0 = not searched."""
    fallback: bool = False
    content: str = ""
    """Digest over the content digests of the files."""
    files: tuple[CalibrationFile, ...] = ()


@dataclass(frozen=True, slots=True)
class Work(Travels):
    """One run, ready to start: inputs and calibrations are chosen, output names fixed."""

    key: str
    short: str
    recipe: str
    tier: str
    variant: str
    obs_dir: str
    object: str
    stem: str
    time: float
    """Product time, MJD."""
    identity: str
    code: str
    """Digest of the recipe's code, its kernels and static tables that the run is expected to have."""
    invocation: str
    instrument: str
    trees: tuple[tuple[str, str], ...]
    """(tree, absolute path)."""
    inputs: tuple[tuple[str, tuple[InputFile, ...]], ...]
    """(argument, files that survived), in canonical order."""
    planned_inputs: tuple[str, ...]
    """Identifiers of the planned inputs of an archive-wide run, else empty."""
    calibrations: tuple[Calibration, ...]
    outputs: tuple[tuple[str, str, str], ...]
    """(kind, fibre, path below the data root)."""
    options: tuple[tuple[str, Any], ...] = ()
    science: str = ""
    reference: str = ""
    volatile: tuple[tuple[str, str], ...] = ()
    """Header values fixed by the driver for the whole invocation: its date and process."""
    threads: int = 1
    memory_mb: int = 0
    """Memory the run is scheduled with."""
    attempt: int = 1
    force: bool = False
    """Compute even if a finished marker is there: its products were found damaged."""
    members: tuple[str, ...] = ()
    """Unused for recipes; keys of the runs an internal node gathers."""

    def to_json(self) -> dict[str, Any]:
        """Plain mapping for JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class QCTest(Travels):
    """One quality-control test."""

    name: str
    value: str
    """As text: headers hold it as it is."""
    logic: str
    """Failing condition, e.g. ``SNR[33] < 100.00``."""
    passed: bool
    informative: bool = False
    """Never a reason to fail; ``(info)`` in the header."""


@dataclass(frozen=True, slots=True)
class TaskOutcome(Travels):
    """How one run ended."""

    key: str
    identity: str
    state: State
    outputs: tuple[OutputRecord, ...] = ()
    qc: tuple[QCTest, ...] = ()
    messages: tuple[tuple[str, str], ...] = ()
    """(code, text) of run-time messages."""
    cause: str = ""
    """Why it must be looked at again: ``deferred``, ``damaged``, ``transient``, ``memory``, ``storage``."""
    damaged: tuple[str, ...] = ()
    """Inputs whose content differs from what their producer wrote."""
    error: str = ""
    """What went wrong, in one line."""
    details: str = ""
    """Traceback, for the log."""
    reused: bool = False
    """A finished marker was found; nothing was computed."""
    wall_s: float = 0.0
    cpu_s: float = 0.0
    peak_mb: float = 0.0
    host: str = ""
    pid: int = 0
    log: str = ""
    """Log file of the run, below the log tree."""
    attempt: int = field(default=1)
