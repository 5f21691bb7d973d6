"""States of a run, and the marker a finished run leaves."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from enum import StrEnum
from typing import Any

from apero_dask.core.travel import Travels


class State(StrEnum):
    """How a run ended, or that it has not."""

    PLANNED = "PLANNED"
    DONE = "DONE"
    QC_FAILED = "QC_FAILED"
    FAILED_INPUT = "FAILED_INPUT"
    FAILED_CALIB = "FAILED_CALIB"
    FAILED_ERROR = "FAILED_ERROR"
    FAILED_WORKER = "FAILED_WORKER"
    SKIPPED_USER = "SKIPPED_USER"
    SKIPPED_EXISTS = "SKIPPED_EXISTS"
    SKIPPED_STALE = "SKIPPED_STALE"
    BLOCKED = "BLOCKED"
    BLOCKED_MASTER = "BLOCKED_MASTER"
    BLOCKED_STOP = "BLOCKED_STOP"

    @property
    def failed(self) -> bool:
        """Ended without a usable product, by its own fault."""
        return self.value.startswith("FAILED")

    @property
    def blocked(self) -> bool:
        """Never started because of another run."""
        return self.value.startswith("BLOCKED")

    @property
    def skipped(self) -> bool:
        """Not executed because it need not be."""
        return self.value.startswith("SKIPPED")

    @property
    def finished(self) -> bool:
        """Counts as finished when an invocation is continued."""
        return self in (State.DONE, State.QC_FAILED, State.SKIPPED_EXISTS, State.SKIPPED_STALE)


@dataclass(frozen=True, slots=True)
class OutputRecord(Travels):
    """One file a finished run wrote."""

    kind: str
    fibre: str
    path: str
    """Below the data root, with ``/``."""
    size: int
    digest: str
    """Of the file: is it the one that was written?"""
    content: str
    """Of data and header without volatile cards: would a rerun give the same?"""


@dataclass(frozen=True, slots=True)
class ChoiceRecord(Travels):
    """One calibration a finished run used."""

    kinds: tuple[str, ...]
    fibre: str
    source: str
    """Run identity of the producer, or ``default:<key>`` for a shipped first guess, empty for none."""
    content: str
    """Digest over the content digests of the files used."""
    rank: int
    """1 = own night, 0 = not searched."""
    fallback: bool


@dataclass(frozen=True, slots=True)
class Marker(Travels):
    """What a finished run leaves behind: enough to decide whether it must be repeated."""

    identity: str
    """Run identity: recipe, tier, pass, night or object, sorted planned inputs, options."""
    short: str
    recipe: str
    tier: str
    variant: str
    obs_dir: str
    object: str
    stem: str
    """Identifier (or object) its products are named after."""
    time: float
    """Product time, MJD."""
    state: State
    """DONE or QC_FAILED."""
    inputs: tuple[tuple[str, str], ...]
    """(path, content digest) of every planned input that was used, in canonical order."""
    planned_inputs: tuple[str, ...]
    """Identifiers of the planned inputs of an archive-wide run, else empty."""
    choices: tuple[ChoiceRecord, ...]
    outputs: tuple[OutputRecord, ...]
    code: str
    """Digest of the recipe's code, its kernels and its static tables."""
    invocation: str = ""

    def to_json(self) -> dict[str, Any]:
        """Plain mapping for JSON."""
        return asdict(self)

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> Marker:
        """Marker from :meth:`to_json`; KeyError or TypeError if the record is not one."""
        if not isinstance(record, dict) or record.keys() != _MARKER_FIELDS:
            raise TypeError("not a marker: other fields than expected")
        # Field by field: spreading mappings takes longer, and large archives have half a million.
        return cls(
            record["identity"],
            record["short"],
            record["recipe"],
            record["tier"],
            record["variant"],
            record["obs_dir"],
            record["object"],
            record["stem"],
            record["time"],
            State(record["state"]),
            tuple([(path, content) for path, content in record["inputs"]]),
            tuple(record["planned_inputs"]),
            tuple(
                [
                    ChoiceRecord(
                        tuple(c["kinds"]), c["fibre"], c["source"], c["content"], c["rank"], c["fallback"]
                    )
                    for c in record["choices"]
                ]
            ),
            tuple(
                [
                    OutputRecord(o["kind"], o["fibre"], o["path"], o["size"], o["digest"], o["content"])
                    for o in record["outputs"]
                ]
            ),
            record["code"],
            record["invocation"],
        )


_MARKER_FIELDS = {field.name for field in fields(Marker)}
