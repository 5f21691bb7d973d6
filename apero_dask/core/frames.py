"""Raw frames as the planner sees them, and their canonical order."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from apero_dask.core.errors import Finding

CALIB = "CALIB"
SKY = "SKY"
UNKNOWN = "UNKNOWN"


@dataclass(frozen=True, slots=True)
class RawFrame:
    """One identified exposure."""

    identifier: str
    """Odometer and letter, e.g. ``2320031o``."""
    obs_dir: str
    """Night: folder below ``raw``, with ``/`` when nested."""
    path: str
    """Path below ``raw``, with ``/``."""
    dprtype: str
    mjdmid: float
    """Mid-exposure, MJD (UTC)."""
    exptime: float
    """Integration time, s."""
    obstype: str = ""
    frame_class: str = ""
    """CALIB, SKY, the resolved object name, or empty for an unidentified frame."""
    drsmode: str = UNKNOWN
    pi_name: str = ""
    cmpltexp: int = 0
    """Place in its exposure sequence, from 1; 0 = not stated."""
    calibration_field: bool = False
    """OBJECT is the word that marks calibration exposures."""
    size: int = 0
    """Bytes on disk."""
    digest: str = ""
    """Digest of the primary header unit."""

    @property
    def is_object(self) -> bool:
        """A star, in spectroscopy or polarimetry, with the reference fibre dark or on the Fabry-Perot."""
        return self.frame_class not in (CALIB, SKY, "")

    @property
    def order_key(self) -> tuple[str, float, str]:
        """Canonical order of frames: night, mid-exposure, identifier."""
        return (self.obs_dir, self.mjdmid, self.identifier)

    def to_json(self) -> dict[str, Any]:
        """Plain mapping for JSON."""
        return asdict(self)

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> RawFrame:
        """Frame from :meth:`to_json`."""
        return cls(**record)


@dataclass(frozen=True, slots=True)
class FrameIndex:
    """All usable frames of the archive in canonical order, and what was left out and why."""

    frames: tuple[RawFrame, ...]
    findings: tuple[Finding, ...] = field(default=())

    @classmethod
    def of(cls, frames: Iterable[RawFrame], findings: Iterable[Finding] = ()) -> FrameIndex:
        """Index with the frames brought into canonical order."""
        return cls(tuple(sorted(frames, key=lambda frame: frame.order_key)), tuple(findings))

    def __iter__(self) -> Iterator[RawFrame]:
        return iter(self.frames)

    def __len__(self) -> int:
        return len(self.frames)

    def nights(self) -> list[str]:
        """Nights in canonical order."""
        return list(dict.fromkeys(frame.obs_dir for frame in self.frames))
