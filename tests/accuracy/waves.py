"""What wavelength solutions are judged by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from apero_dask.simulator.cavity import optical_path
from apero_dask.simulator.config import SimulatorConfig
from apero_dask.simulator.spec import FrameSpec

C_MS = 299792458.0
FULL_PEAKS, FULL_LINES = 26786, 4000
"""Fabry-Perot peaks and lamp lines of one fibre of the full instrument."""
GROUP = 20
"""Single peaks scatter by photons and pixels; so many of them tell the map."""


def peak_wavelengths(
    number: np.ndarray, start: np.ndarray, config: SimulatorConfig, spec: FrameSpec
) -> np.ndarray:
    """True wavelengths, nm, of peaks of given numbers."""
    lam = np.array(start, float)
    for _ in range(6):
        lam = optical_path(config.cavity, config.seed, lam, spec.cavity_ms, spec.epoch_days) / number
    return lam


def true_numbers(wave: np.ndarray, config: SimulatorConfig, spec: FrameSpec) -> np.ndarray:
    """Numbers, not rounded, of peaks at true wavelengths in nm."""
    length = optical_path(config.cavity, config.seed, wave, spec.cavity_ms, spec.epoch_days)
    return np.asarray(length / wave)


def comb_errors(
    table: Mapping[str, np.ndarray], config: SimulatorConfig, spec: FrameSpec
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Error in m/s of the map at every measured peak, sorted by order and column, with orders and columns."""
    good = np.isfinite(table["WAVE_MEAS"]) & (table["PEAK_NUMBER"] > 0)
    lam = peak_wavelengths(table["PEAK_NUMBER"][good], table["WAVE_REF"][good], config, spec)
    velocity = C_MS * (table["WAVE_MEAS"][good] - lam) / lam
    return velocity, table["ORDER"][good], table["PIXEL_MEAS"][good]


@dataclass(frozen=True)
class MapFigures:
    """Errors of a map in m/s, from medians over groups of peaks."""

    zero: float
    shape: float
    edge: float
    """Largest error of a group against the zero point."""
    groups: int


def map_figures(velocity: np.ndarray, order: np.ndarray, lit: np.ndarray | None = None) -> MapFigures:
    """Zero point and shape of a map from its errors at the peaks.

    Parameters
    ----------
    lit : bool[peak], optional
        Peaks that count for zero point and shape; all count for the edges.
    """
    groups, bright = [], []
    for o in np.unique(order):
        here = np.flatnonzero(order == o)
        for part in np.array_split(here, max(1, here.size // GROUP)):
            groups.append(np.median(velocity[part]))
            bright.append(True if lit is None else bool(lit[part].mean() > 0.5))
    values, used = np.array(groups), np.array(bright)
    zero = float(np.mean(values[used]))
    return MapFigures(zero, float(np.std(values[used])), float(np.abs(values - zero).max()), values.size)


def rms_about_curves(
    miss: np.ndarray, sigma: np.ndarray, order: np.ndarray, x: np.ndarray, used: np.ndarray
) -> float:
    """Rms over the error of places of peaks about a cubic through every 40 of them; ten sigma at most.

    Slow errors are those of the maps of the slit image, which are judged by themselves.

    Parameters
    ----------
    miss, sigma : float64[peak]
        Place minus truth and its error, px.
    """
    pulls = [
        (miss[part] - curve) / sigma[part]
        for part, curve in zip(*curves_through(miss, order, x, used), strict=True)
    ]
    return float(np.sqrt(np.mean(np.square(np.clip(np.concatenate(pulls), -10, 10)))))


def curves_through(
    miss: np.ndarray, order: np.ndarray, x: np.ndarray, used: np.ndarray
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Rows of every group of 40 peaks of an order, and the cubic through their places."""
    parts, curves = [], []
    for o in np.unique(order):
        rows = np.flatnonzero((order == o) & used)
        for part in np.array_split(rows, max(1, rows.size // (2 * GROUP))):
            if part.size > 10:
                parts.append(part)
                curves.append(np.polynomial.Polynomial.fit(x[part], miss[part], 3)(x[part]))
    return parts, curves
