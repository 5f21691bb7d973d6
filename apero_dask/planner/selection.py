"""Ranking of calibration candidates: a pure function of product times and query time."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median

from apero_dask.core.frames import RawFrame
from apero_dask.core.plan import Candidate
from apero_dask.core.products import MASTER, NIGHT
from apero_dask.core.settings import Settings
from apero_dask.core.snapshot import Snapshot

TIE_DAYS = 1e-6
"""Distances equal to this are equal: 0.1 s, far below the length of an exposure."""


def local_midnight(frames: Sequence[RawFrame], longitude: float, dayfrac: float) -> float:
    """Query time of a night: the local midnight nearest to the median mid-exposure of its frames, MJD.

    ``longitude`` in degrees, east positive; ``dayfrac`` moves the reference from midnight (0) to noon (0.5).

    >>> round(nearest_reference(58386.2, -155.468876, 0.0), 6)
    58386.431858
    """
    return nearest_reference(median(frame.mjdmid for frame in frames), longitude, dayfrac)


def nearest_reference(time: float, longitude: float, dayfrac: float) -> float:
    """Value k + phi nearest to ``time``, k integer, phi the local reference as a fraction of the UT day."""
    phi = (-longitude / 360.0 + dayfrac) % 1.0
    return math.floor(time - phi + 0.5) + phi


def midnights(
    night_frames: Mapping[str, Sequence[RawFrame]], snapshot: Snapshot, longitude: float, dayfrac: float
) -> dict[str, float]:
    """Query time of every night; from stored products where the raw frames of a night are gone."""
    found = {
        night: local_midnight(frames, longitude, dayfrac) for night, frames in night_frames.items() if frames
    }
    gone: dict[str, list[float]] = {}
    for marker in snapshot.markers.values():
        if marker.obs_dir and marker.obs_dir not in found and math.isfinite(marker.time):
            gone.setdefault(marker.obs_dir, []).append(marker.time)
    found |= {night: nearest_reference(median(times), longitude, dayfrac) for night, times in gone.items()}
    return found


@dataclass(frozen=True, slots=True)
class Maker:
    """A planned run or stored product that offers a calibration."""

    time: float
    tier: str
    obs_dir: str
    source: str
    """Run key, empty when stored."""
    identity: str
    """Run identity when stored."""
    stem: str


@dataclass(slots=True)
class Shelf:
    """All makers of one kind and fibre, sorted by time for quick look-up."""

    makers: list[Maker] = field(default_factory=list)
    _times: list[float] = field(default_factory=list)
    _own: dict[str, list[Maker]] = field(default_factory=dict)

    @classmethod
    def of(cls, makers: Iterable[Maker]) -> Shelf:
        """Shelf of ``makers`` in any order."""
        ordered = sorted(makers, key=lambda m: (m.time, m.obs_dir, m.tier, m.source, m.identity))
        own: dict[str, list[Maker]] = {}
        for maker in ordered:
            if maker.tier == NIGHT:
                own.setdefault(maker.obs_dir, []).append(maker)
        return cls(ordered, [m.time for m in ordered], own)

    def ranked(self, night: str, time: float, settings: Settings) -> list[tuple[Maker, bool]]:
        """Makers in order of preference for a night, with the mark "own night".

        Own night first whatever its time; then by distance within the age limit and on the allowed side;
        ties: earlier product, night tier, planned before stored, identifier.
        A night whose time is not known (NaN) has only its own.
        """

        def preference(maker: Maker) -> tuple[int, float, bool, bool, str]:
            distance = round(abs(maker.time - time) / TIE_DAYS) if math.isfinite(time) else 0
            return (distance, maker.time, maker.tier == MASTER, not maker.source, maker.stem)

        own = sorted(self._own.get(night, ()), key=preference)
        others: list[Maker] = []
        if math.isfinite(time):
            limit = settings.max_calib_dtime if settings.do_calib_dtime_check else math.inf
            # The slice only saves time; the margin keeps rounding from deciding at its ends.
            low = bisect_left(self._times, time - limit - TIE_DAYS)
            high = bisect_right(self._times, time + limit + TIE_DAYS)
            for maker in self.makers[low:high]:
                delta = maker.time - time
                if (
                    not (maker.obs_dir == night and maker.tier == NIGHT)
                    and abs(delta) <= limit
                    and (settings.calib_db_match != "older" or delta <= 0)
                    and (settings.calib_db_match != "newer" or delta >= 0)
                ):
                    others.append(maker)
            others.sort(key=preference)
        return [(maker, True) for maker in own] + [(maker, False) for maker in others]


def candidates(
    shelf: Shelf,
    kinds: tuple[str, ...],
    night: str,
    time: float,
    settings: Settings,
    *,
    after: int,
    other: bool,
) -> list[Candidate]:
    """Ranked candidates of one kind, numbered on from ``after``.

    Rank 1 is kept for a product of the own night of the kind asked for.  ``other``: the kind is not that one,
    so every candidate is a fallback.
    """
    ranked = shelf.ranked(night, time, settings)
    is_own = bool(ranked) and ranked[0][1] and not other
    start = after + 1 if is_own else max(after + 1, 2)
    return [
        Candidate(
            source=maker.source,
            identity=maker.identity,
            tier=maker.tier,
            obs_dir=maker.obs_dir,
            rank=start + number,
            kinds=kinds,
            fallback=other or not own,
        )
        for number, (maker, own) in enumerate(ranked)
    ]
