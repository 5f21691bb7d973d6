"""Raw frames as the planner sees them, and their canonical order."""

from __future__ import annotations

import bisect
import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from apero_dask.core.errors import Finding, Findings, one_line

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
    """All usable frames of the archive in canonical order, and what was left out and why.

    An exposure that lies in several nights is listed in each: which copy counts depends on the nights that
    the filters leave, see :func:`drop_duplicates`.
    """

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


FOLD_DUPLICATES = 8
"""More copies than this shared by the same nights are reported in one message."""


def drop_duplicates(frames: Iterable[RawFrame]) -> tuple[tuple[RawFrame, ...], tuple[Finding, ...]]:
    """Keep one copy of every exposure.

    To be called with the frames of the nights that the filters leave.  The copy stays in the night whose
    other frames come nearest in mid-exposure time; frames that all the nights in question share say nothing
    and are left out of the comparison.  Equal distances: first in canonical order.  Copies inside one
    night: the file named like the identifier, then the first path.

    Returns
    -------
    frames : tuple of RawFrame
        In canonical order, each identifier once.
    findings : tuple of Finding
        ``W-DUP-FRAME`` messages.
    """
    ordered = sorted(frames, key=lambda frame: (*frame.order_key, frame.path))
    copies: dict[str, list[RawFrame]] = defaultdict(list)
    for frame in ordered:
        copies[frame.identifier].append(frame)
    repeated = {name: found for name, found in copies.items() if len(found) > 1}
    if not repeated:
        return tuple(ordered), ()

    by_night: dict[str, list[RawFrame]] = defaultdict(list)
    for frame in ordered:
        by_night[frame.obs_dir].append(frame)
    nights_of = {name: tuple(dict.fromkeys(f.obs_dir for f in found)) for name, found in copies.items()}
    unshared: dict[tuple[str, ...], dict[str, list[float]]] = {}
    dropped: set[str] = set()
    messages: dict[tuple[str, str], list[str]] = defaultdict(list)
    for name, found in repeated.items():
        in_night: dict[str, list[RawFrame]] = defaultdict(list)
        for frame in found:
            in_night[frame.obs_dir].append(frame)
        best = {night: min(same, key=_copy_rank) for night, same in in_night.items()}
        nights = nights_of[name]
        if nights not in unshared:
            unshared[nights] = {
                night: _times_unshared(by_night[night], nights, nights_of) for night in nights
            }
        times = unshared[nights]
        kept = min(best.values(), key=lambda f: (_nearest(times[f.obs_dir], f.mjdmid), f.order_key))
        others = [frame for frame in found if frame is not kept]
        dropped.update(frame.path for frame in others)
        if len(nights) == 1:
            messages[kept.path, one_line(frame.path for frame in others)].append(name)
        else:
            messages[kept.obs_dir, one_line(night for night in nights if night != kept.obs_dir)].append(name)

    report = Findings()
    for (used, other), names in messages.items():
        for name in names if len(names) <= FOLD_DUPLICATES else [one_line(names)]:
            report.add("W-DUP-FRAME", id=name, night1=used, night2=other)
    return tuple(frame for frame in ordered if frame.path not in dropped), tuple(report)


def _copy_rank(frame: RawFrame) -> tuple[bool, str]:
    return (frame.path.rpartition("/")[2].partition(".")[0] != frame.identifier, frame.path)


def _times_unshared(
    frames: Sequence[RawFrame], nights: tuple[str, ...], nights_of: dict[str, tuple[str, ...]]
) -> list[float]:
    """Sorted mid-exposure times of the frames of one night that not all of ``nights`` have."""
    wanted = set(nights)
    return sorted(frame.mjdmid for frame in frames if not wanted <= set(nights_of[frame.identifier]))


def _nearest(times: list[float], moment: float) -> float:
    """Distance from ``moment`` to the nearest of the sorted ``times``, infinite without any."""
    place = bisect.bisect_left(times, moment)
    return min((abs(time - moment) for time in times[max(place - 1, 0) : place + 1]), default=math.inf)
