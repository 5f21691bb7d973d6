"""The detector as it is, whatever frame is taken: response, dark current, defects, fixed patterns."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import ndimage

from apero_dask.simulator.defects import (
    REFERENCE,
    add_blobs,
    add_dead_pixels,
    add_hot_pixels,
    sensitive,
    telegraph_pixels,
)
from apero_dask.simulator.detector_config import DetectorConfig
from apero_dask.simulator.streams import stream
from apero_dask.simulator.tables import Geometry

PIXEL_CM = 15e-4
"""Pitch of the pixels, instrument documentation."""


@dataclass(frozen=True, eq=False)
class StaticDetector:
    """Properties that do not change from frame to frame; arrays are ``[raw row, raw column]``."""

    response: np.ndarray
    """float32; 0 on reference pixels."""
    dark: np.ndarray
    """float32 e-/s, hot pixels included, telegraph pixels at their lower level."""
    bias: np.ndarray
    """float32 ADU, intercept plane of a dark frame."""
    classes: np.ndarray
    """uint8 bits, see the constants of ``defects``."""
    telegraph_index: np.ndarray
    """int64 flat indices of telegraph pixels."""
    telegraph_height: np.ndarray
    """float32 e-/s."""
    telegraph_phase: np.ndarray
    """float64 0..1: when a pixel may switch."""
    pattern_slope: np.ndarray
    """float32[row, column of an amplifier] ADU/s."""
    pattern_intercept: np.ndarray
    """float32[row, column of an amplifier] ADU."""


def raw_from_full(full: np.ndarray) -> np.ndarray:
    """Raw orientation of an image given on the full flipped frame: ``raw[r, k] = full[n - 1 - k, r]``."""
    return np.ascontiguousarray(full[::-1].T)


def full_from_raw(raw: np.ndarray) -> np.ndarray:
    """Inverse of :func:`raw_from_full`."""
    return np.ascontiguousarray(raw.T[::-1])


def unfold(image: np.ndarray, amplifiers: int) -> np.ndarray:
    """Amplifiers side by side in read order, ``[row, amplifier, pixel]``; odd ones are read in reverse."""
    rows, columns = image.shape
    cube = image.reshape(rows, amplifiers, columns // amplifiers).copy()
    cube[:, 1::2] = cube[:, 1::2, ::-1]
    return cube


def fold(cube: np.ndarray) -> np.ndarray:
    """Inverse of :func:`unfold`."""
    cube = cube.copy()
    cube[:, 1::2] = cube[:, 1::2, ::-1]
    return cube.reshape(cube.shape[0], -1)


@lru_cache(maxsize=2)
def static_detector(config: DetectorConfig, geometry: Geometry, seed: int) -> StaticDetector:
    """Build the detector of a campaign: a function of configuration, instrument and seed alone.

    On 4096 x 4096 pixels this takes a few seconds and 0.25 GB; a process does it once.
    """
    shape = geometry.raw_rows, geometry.raw_columns
    area = sensitive(geometry)
    inner = area[0].stop - area[0].start, area[1].stop - area[1].start
    scale = np.sqrt(shape[0] * shape[1]) / config.nominal_side_px

    def random(purpose: str) -> np.random.Generator:
        return stream(seed, f"detector {purpose} {geometry.name}")

    classes = np.zeros(shape, np.uint8)
    classes[:] = REFERENCE
    classes[area] = 0
    response = np.zeros(shape, np.float32)
    response[area] = _response(config, inner, scale, random("response"))
    dark = np.zeros(shape, np.float32)
    if config.dark_current:
        spread = random("dark").standard_normal(inner, dtype=np.float32)
        dark[area] = config.dark_median * np.float32(10.0) ** (np.float32(config.dark_spread_dex) * spread)
    if config.hot_pixels:
        add_hot_pixels(config, geometry, dark, classes, random("hot"))
    if config.dead_pixels:
        add_dead_pixels(config, response, classes, random("dead"))
    if config.blobs:
        add_blobs(config, response, classes, scale, random("blobs"))
    index, height, phase = telegraph_pixels(config, classes, random("telegraph"))
    pattern = _pattern(config, geometry, random("pattern"))
    return StaticDetector(
        response, dark, _bias(config, shape, random("bias")), classes, index, height, phase, *pattern
    )


def telegraph_rate(static: StaticDetector, config: DetectorConfig, mjd: float, seed: int) -> np.ndarray:
    """Extra rate (e-/s) of the telegraph pixels at a time, in the order of their indices.

    Every pixel draws its level anew, with equal chances, in each half of a dwell time; the mean time in
    a level is then the dwell time.  The level is a hash of (seed, pixel, slot), so that it can be had for
    any time without following the pixel from the start.
    """
    slot = np.floor(mjd * 86400.0 / (0.5 * config.telegraph_dwell_s) + static.telegraph_phase)
    mixed = static.telegraph_index.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    mixed ^= slot.astype(np.int64).astype(np.uint64) * np.uint64(0xBF58476D1CE4E5B9)
    mixed += np.uint64(seed * 0x94D049BB133111EB % 2**64)
    # Finaliser of splitmix64 (Steele, Lea & Flood 2014): every input bit moves every output bit.
    mixed ^= mixed >> np.uint64(30)
    mixed *= np.uint64(0xBF58476D1CE4E5B9)
    mixed ^= mixed >> np.uint64(27)
    mixed *= np.uint64(0x94D049BB133111EB)
    mixed ^= mixed >> np.uint64(31)
    return np.where(mixed >> np.uint64(63), static.telegraph_height, np.float32(0.0))


def _response(
    config: DetectorConfig, shape: tuple[int, int], scale: float, random: np.random.Generator
) -> np.ndarray | float:
    if not config.response:
        return np.float32(1.0)
    white = random.standard_normal(shape, dtype=np.float32)
    length = max(config.response_scale_px * scale, 2.0)
    # Nodes two per length, spline between them: structure of the wanted length at little cost.
    nodes = [int(np.ceil(2 * n / length)) + 3 for n in shape]
    coarse = random.standard_normal(nodes)
    grid = [np.arange(n, dtype=np.float64) * 2 / length + 1 for n in shape]
    smooth = _spline_grid(coarse, grid[0], grid[1])
    smooth = (smooth - smooth.mean()) / max(float(smooth.std()), 1e-12)
    field = 1.0 + config.response_white * white + config.response_smooth * smooth
    return np.maximum(field, 0.0).astype(np.float32)


def _spline_grid(coarse: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Cubic spline of `coarse` on a rectangular grid, float32: two one-dimensional interpolations."""
    step = ndimage.map_coordinates(
        coarse, np.meshgrid(rows, np.arange(coarse.shape[1]), indexing="ij"), order=3, mode="nearest"
    )
    # One interpolation matrix for the columns: every row uses the same abscissae.
    basis = ndimage.map_coordinates(
        np.eye(coarse.shape[1]),
        np.meshgrid(columns, np.arange(coarse.shape[1]), indexing="ij"),
        order=3,
        mode="nearest",
    )
    return (step.astype(np.float32)) @ basis.T.astype(np.float32)


def _bias(config: DetectorConfig, shape: tuple[int, int], random: np.random.Generator) -> np.ndarray:
    if not config.bias:
        return np.zeros(shape, np.float32)
    columns = config.bias_columns * random.standard_normal(shape[1], dtype=np.float32)
    return columns + np.float32(config.bias_rms) * random.standard_normal(shape, dtype=np.float32)


def _pattern(
    config: DetectorConfig, geometry: Geometry, random: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Slope and intercept map of one amplifier, smooth over a few columns and some tens of rows."""
    shape = geometry.raw_rows, geometry.raw_columns // geometry.amplifiers
    maps = []
    for rms in (config.static_slope, config.static_intercept):
        field = ndimage.gaussian_filter(
            random.standard_normal(shape), (shape[0] / 100, shape[1] / 60), mode="wrap"
        )
        # Every column has its own level on top, as the multiplexer addresses columns one by one.
        field = field / field.std() + random.standard_normal(shape[1])
        field *= rms / field.std() if config.static_pattern else 0.0
        maps.append(field.astype(np.float32))
    return maps[0], maps[1]
