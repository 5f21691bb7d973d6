"""Exposure times of a night: blocks of exposures laid out one after the other."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from apero_dask.simulator.frametypes import frame_type
from apero_dask.simulator.settings import ConfigError
from apero_dask.simulator.targets import Star

if TYPE_CHECKING:
    import numpy as np

EVENING_FLATS_H = 10.0 / 3.0
MORNING_FLATS_H = 49.0 / 3.0
"""UT of the middle of the flats, 17:20 and 06:20 Hawaiian time."""
MORNING_STARTS_H = 15.8
"""UT before which the exposures on the sky have to be over."""


@dataclass(frozen=True, slots=True)
class Block:
    """One exposure sequence: consecutive frames of one type on one target."""

    dprtype: str
    count: int
    star: Star | None = None
    nreads: int = 0
    """Reads per exposure, 0 for the standard number of the frame type."""
    subsequence: int = 0
    """Frames of a complete exposure sequence, 0 for all of the block."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """Blocks taken without a pause."""

    blocks: tuple[Block, ...]
    hour: float
    """UT of the start, or of the middle of the flats."""
    on_flats: bool = False
    """`hour` is the mean mid-exposure time of the flats of the stretch."""


@dataclass(frozen=True, slots=True)
class Exposure:
    """One exposure with its place in time.  Times are days of the UT date of the night."""

    dprtype: str
    star: Star | None
    nreads: int
    exptime_s: float
    start: float
    end: float
    number: int
    """Place in its exposure sequence, from 1."""
    length: int


def integration_s(nreads: int, frame_time_s: float) -> float:
    """Integration time of a ramp, rounded to the millisecond as the headers carry it."""
    return round((nreads - 1) * frame_time_s, 3)


def lay_out(
    stretches: tuple[Stretch, ...],
    frame_time_s: float,
    overhead_s: tuple[float, float],
    random: np.random.Generator,
    night: str,
) -> list[Exposure]:
    """Give every exposure of a night its start and end.

    Parameters
    ----------
    stretches : in order of time; one that is due before the last has ended starts when it has
    frame_time_s : time of one read
    overhead_s : set-up and read-out time before an integration, drawn uniformly between the two
    random : stream of this night
    night : name for messages

    Raises
    ------
    ConfigError
        The exposures on the sky leave no room for the calibrations of the morning.

    Notes
    -----
    Set-up lies between DATE-OBS and the first read, so that the mid-exposure follows from the end alone:
    end - integration / 2.  Times are rounded to 1e-7 d, the digits of the header.
    """
    night_exposures: list[Exposure] = []
    now = 0.0
    for stretch in stretches:
        placed: list[Exposure] = []
        t = 0.0
        for block in stretch.blocks:
            nreads = block.nreads or frame_type(block.dprtype).nreads
            exptime = integration_s(nreads, frame_time_s)
            full = block.subsequence or block.count
            waits = random.uniform(*overhead_s, size=block.count)
            gaps = random.uniform(1.0, 3.0, size=block.count)
            for i in range(block.count):
                end = t + (float(waits[i]) + exptime) / 86400.0
                number = i % full + 1
                # The last sequence of a block may be a short one.
                length = min(full, block.count - (i - number + 1))
                placed.append(Exposure(block.dprtype, block.star, nreads, exptime, t, end, number, length))
                t = end + float(gaps[i]) / 86400.0
        if not placed:
            continue
        start = stretch.hour / 24.0
        if stretch.on_flats:
            flats = [e.end - e.exptime_s / 172800.0 for e in placed if "FLAT" in e.dprtype]
            start -= sum(flats) / len(flats) if flats else 0.0
            if start < now:
                raise ConfigError(
                    f"night {night}: the exposures on the sky end at {now * 24:.2f} h UT but the morning "
                    f"calibrations begin at {start * 24:.2f} h; ask for fewer frames per night (--frames)."
                )
        start = max(start, now)
        placed = [replace(e, start=round(e.start + start, 7), end=round(e.end + start, 7)) for e in placed]
        night_exposures += placed
        now = placed[-1].end + 20.0 / 86400.0
    if now > 1.0:
        raise ConfigError(
            f"night {night}: its exposures end after 24 h UT; ask for fewer frames per night (--frames)."
        )
    return night_exposures
