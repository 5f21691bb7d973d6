"""Ranking of calibration candidates: a pure function of product times and query time."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from statistics import median

from apero_dask.core.frames import RawFrame
from apero_dask.core.plan import Candidate
from apero_dask.core.products import MASTER, NIGHT
from apero_dask.core.settings import Settings

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

    @classmethod
    def of(cls, makers: Iterable[Maker]) -> Shelf:
        """Shelf of ``makers`` in any order."""
        ordered = sorted(makers, key=lambda m: (m.time, m.obs_dir, m.tier, m.source, m.identity))
        return cls(ordered, [m.time for m in ordered])

    def ranked(self, night: str, time: float, settings: Settings) -> list[tuple[Maker, bool]]:
        """Makers in order of preference for a night, with the mark "own night".

        Own night first whatever its time; then by distance within the age limit and on the allowed side;
        ties: earlier product, night tier, planned before stored, identifier.
        """
        limit = settings.max_calib_dtime if settings.do_calib_dtime_check else math.inf
        low, high = bisect_left(self._times, time - limit), bisect_right(self._times, time + limit)
        own, others = [], []
        for maker in self._near(low, high, night, time):
            delta = maker.time - time
            if maker.obs_dir == night and maker.tier == NIGHT:
                own.append(maker)
            elif abs(delta) <= limit and (
                settings.calib_db_match == "closest"
                or (settings.calib_db_match == "older" and delta <= 0)
                or (settings.calib_db_match == "newer" and delta >= 0)
            ):
                others.append(maker)

        def preference(maker: Maker) -> tuple[int, float, bool, bool, str]:
            distance = round(abs(maker.time - time) / TIE_DAYS)
            return (distance, maker.time, maker.tier == MASTER, not maker.source, maker.stem)

        own.sort(key=preference)
        others.sort(key=preference)
        return [(maker, True) for maker in own] + [(maker, False) for maker in others]

    def _near(self, low: int, high: int, night: str, time: float) -> list[Maker]:
        """Makers inside the window, and those of the own night wherever they are."""
        found = self.makers[low:high]
        if math.isfinite(time):
            # A product of the own night lies within a day of it, whatever the age limit.
            first, last = bisect_left(self._times, time - 1.0), bisect_right(self._times, time + 1.0)
            found += [m for m in self.makers[first:low] + self.makers[high:last] if m.obs_dir == night]
        return found


def candidates(
    shelf: Shelf,
    kinds: tuple[str, ...],
    night: str,
    time: float,
    settings: Settings,
    *,
    first: int,
    other: bool,
) -> list[Candidate]:
    """Ranked candidates of one kind; ranks start at ``first`` (2 if the own night has none).

    ``other``: the kind is not the one asked for, so every candidate is a fallback.
    """
    ranked = shelf.ranked(night, time, settings)
    start = first if not ranked or ranked[0][1] or first > 1 else 2
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
