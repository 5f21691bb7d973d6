"""Cosmic-ray hits: where, when and how much charge."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from apero_dask.simulator.detector import PIXEL_CM
from apero_dask.simulator.detector_config import DetectorConfig
from apero_dask.simulator.tables import Geometry


@dataclass(frozen=True, eq=False)
class Hits:
    """Pixels hit during an exposure; a pixel can occur more than once."""

    row: np.ndarray
    """int32, raw orientation."""
    column: np.ndarray
    charge: np.ndarray
    """float64 e- left in the pixel."""
    time: np.ndarray
    """float64 fraction of the integration, 0..1."""
    track: np.ndarray
    """int32 number of the hit."""

    @property
    def size(self) -> int:
        """Number of pixels hit."""
        return self.row.size


def cosmic_hits(
    config: DetectorConfig, geometry: Geometry, exptime_s: float, random: np.random.Generator
) -> Hits:
    """Draw the hits of one exposure.

    Their number is Poisson with the mean of rate x area x time.  A track is a straight line of
    log-uniform length; the charge is spread over its pixels evenly within 20 per cent.  The parts of a track
    outside the sensitive area leave no charge.
    """
    area = geometry.raw_rows * geometry.raw_columns * PIXEL_CM**2
    number = random.poisson(config.cosmic_rate * area * exptime_s / 60.0) if config.cosmics else 0
    charge = config.cosmic_charge_e * np.exp(config.cosmic_charge_spread * random.standard_normal(number))
    time = random.random(number)
    row0 = random.uniform(0, geometry.raw_rows, number)
    column0 = random.uniform(0, geometry.raw_columns, number)
    angle = random.uniform(0, 2 * np.pi, number)
    short, long = config.cosmic_track_px
    length = np.exp(random.uniform(np.log(short), np.log(long + 1), number)).astype(int).clip(short, long)
    if number == 0:
        none = np.zeros(0, np.int32)
        return Hits(none, none, np.zeros(0), np.zeros(0), none)
    track = np.repeat(np.arange(number, dtype=np.int32), length)
    step = np.arange(track.size) - np.repeat(np.cumsum(length) - length, length)
    # Steps of one pixel along the axis of the steeper component: no pixel twice, none left out.
    reach = np.maximum(np.abs(np.cos(angle)), np.abs(np.sin(angle)))
    row = np.floor(row0[track] + step * (np.sin(angle) / reach)[track]).astype(np.int32)
    column = np.floor(column0[track] + step * (np.cos(angle) / reach)[track]).astype(np.int32)
    weight = random.uniform(0.8, 1.2, track.size)
    share = weight / np.bincount(track, weight)[track]
    border = geometry.reference_border
    inside = (row >= border) & (row < geometry.raw_rows - border)
    inside &= (column >= border) & (column < geometry.raw_columns - border)
    return Hits(
        row[inside], column[inside], (charge[track] * share)[inside], time[track][inside], track[inside]
    )
