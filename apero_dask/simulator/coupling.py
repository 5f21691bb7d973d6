"""Signals that pass from pixel to pixel: neighbours, and amplifiers among each other."""

from __future__ import annotations

import numpy as np

from apero_dask.simulator.detector import StaticDetector, fold, unfold
from apero_dask.simulator.detector_config import DetectorConfig
from apero_dask.simulator.tables import Geometry


def couple_neighbours(image: np.ndarray, fraction: float) -> np.ndarray:
    """Give `fraction` of every pixel to each of its four neighbours; nothing leaves at the edges."""
    f = np.float32(fraction)
    out = image.copy()
    # Pairwise exchange keeps the sum exactly and needs no special case at the edges.
    for axis in (0, 1):
        low = tuple(slice(None, -1) if k == axis else slice(None) for k in (0, 1))
        high = tuple(slice(1, None) if k == axis else slice(None) for k in (0, 1))
        flow = f * (image[low] - image[high])
        out[low] -= flow
        out[high] += flow
    return out


def capacitive_patterns(
    config: DetectorConfig,
    geometry: Geometry,
    static: StaticDetector,
    exptime_s: float,
    slope: np.ndarray,
) -> np.ndarray:
    """Fixed and flux-driven patterns of all amplifiers, float32[raw row, raw column] ADU/s.

    Parameters
    ----------
    slope : float32[raw row, raw column] ADU/s: the signal that drives the second pattern

    Notes
    -----
    All amplifiers address the same pixel of their stripe at one instant, so the sum of the 32 signals at that
    instant couples into each of them: -(c0 S + c1 S' + c2 S''), derivatives by central differences
    along the read direction.
    """
    total = np.zeros((geometry.raw_rows, geometry.raw_columns // geometry.amplifiers), np.float32)
    if config.static_pattern:
        total += static.pattern_slope + static.pattern_intercept / np.float32(exptime_s)
    if config.flux_pattern:
        flux = unfold(slope, geometry.amplifiers).sum(axis=1, dtype=np.float64)
        first = np.gradient(flux, axis=1)
        c = config.flux_coefficients
        total -= (c[0] * flux + c[1] * first + c[2] * np.gradient(first, axis=1)).astype(np.float32)
    return fold(np.repeat(total[:, None, :], geometry.amplifiers, axis=1))
