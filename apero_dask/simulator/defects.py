"""Bad pixels of the detector: hot, dead, in patches, or switching."""

from __future__ import annotations

import numpy as np

from apero_dask.simulator.detector_config import DetectorConfig
from apero_dask.simulator.tables import Geometry

HOT, CLUSTER, DEAD, BLOB, TELEGRAPH, REFERENCE = 1, 2, 4, 8, 16, 32
"""Bits of the defect classes; a clustered hot pixel carries HOT and CLUSTER."""


def sensitive(geometry: Geometry) -> tuple[slice, slice]:
    """Slices of the light-sensitive pixels in raw orientation."""
    b = geometry.reference_border
    return slice(b, geometry.raw_rows - b), slice(b, geometry.raw_columns - b)


def add_hot_pixels(
    config: DetectorConfig,
    geometry: Geometry,
    dark: np.ndarray,
    classes: np.ndarray,
    random: np.random.Generator,
) -> None:
    """Raise the dark current (in place, e-/s) of single pixels and clusters, and mark them."""
    rows, columns = sensitive(geometry)
    total = round(config.hot_fraction * (rows.stop - rows.start) * (columns.stop - columns.start))
    weights = np.ones(geometry.raw_columns)
    width = geometry.raw_columns // geometry.amplifiers
    if 0 <= config.hot_dense_amplifier < geometry.amplifiers:
        first = config.hot_dense_amplifier * width
        weights[first : first + width] = config.hot_dense_factor
    weights[: columns.start] = weights[columns.stop :] = 0.0
    share = np.cumsum(weights) / weights.sum()

    def positions(number: int) -> tuple[np.ndarray, np.ndarray]:
        r = random.integers(rows.start, rows.stop, size=number)
        return r, np.searchsorted(share, random.random(number), side="right")

    def levels(number: int) -> np.ndarray:
        # Pareto distribution cut at the maximum.
        low, high = config.hot_minimum, config.hot_maximum
        tail = (low / high) ** config.hot_slope
        return low * (1.0 - random.random(number) * (1.0 - tail)) ** (-1.0 / config.hot_slope)

    clustered = round(config.hot_clustered * total)
    small, large = config.hot_cluster_px
    made = 0
    while clustered - made >= small:
        size = int(np.exp(random.uniform(np.log(small), np.log(large + 1))))
        size = min(max(size, small), clustered - made)
        (r,), (k,) = positions(1)
        peak = float(levels(1)[0])
        for member in _cluster(int(r), int(k), size, rows, columns, random):
            made += not classes[member] & HOT
            classes[member] |= HOT | CLUSTER
            rate = max(config.hot_minimum, peak * random.uniform(0.3, 1.0)) * geometry.gain
            dark[member] = max(dark[member], rate)
    while made < total:
        r, k = positions(total - made)
        rate = levels(total - made) * geometry.gain
        fresh = (classes[r, k] & HOT) == 0
        r, k, rate = r[fresh], k[fresh], rate[fresh]
        _, first = np.unique(r * geometry.raw_columns + k, return_index=True)
        r, k, rate = r[first], k[first], rate[first]
        classes[r, k] |= HOT
        dark[r, k] = rate
        made += len(r)


def _cluster(
    row: int, column: int, size: int, rows: slice, columns: slice, random: np.random.Generator
) -> list[tuple[int, int]]:
    """A connected patch grown pixel by pixel from a seed, inside the sensitive area."""
    members = [(row, column)]
    taken = {(row, column)}
    steps = ((1, 0), (-1, 0), (0, 1), (0, -1))
    for _ in range(20 * size):
        if len(members) == size:
            break
        r, k = members[int(random.integers(len(members)))]
        dr, dk = steps[int(random.integers(4))]
        new = (r + dr, k + dk)
        inside = rows.start <= new[0] < rows.stop and columns.start <= new[1] < columns.stop
        if inside and new not in taken:
            members.append(new)
            taken.add(new)
    return members


def add_dead_pixels(
    config: DetectorConfig, response: np.ndarray, classes: np.ndarray, random: np.random.Generator
) -> None:
    """Lower the response of single pixels in place, and mark them."""
    candidates = np.flatnonzero(classes == 0)
    number = round(config.dead_fraction * np.count_nonzero((classes & REFERENCE) == 0))
    chosen = random.choice(candidates, size=min(number, candidates.size), replace=False, shuffle=False)
    # Half of them do not respond at all, the others are evenly spread up to one half.
    level = np.where(random.random(chosen.size) < 0.5, 0.01, random.uniform(0.05, 0.5, chosen.size))
    response.ravel()[chosen] = level
    classes.ravel()[chosen] |= DEAD


def add_blobs(
    config: DetectorConfig,
    response: np.ndarray,
    classes: np.ndarray,
    scale: float,
    random: np.random.Generator,
) -> None:
    """Lower the response in round patches in place; pixels that lose more than half are marked."""
    rows, columns = response.shape
    for _ in range(config.blob_number):
        radius = 0.5 * random.uniform(*config.blob_px) * scale
        r0, k0 = random.uniform(0, rows), random.uniform(0, columns)
        depth = random.uniform(0.5, 0.95)
        top, bottom = max(int(r0 - 2 * radius), 0), min(int(r0 + 2 * radius) + 1, rows)
        left, right = max(int(k0 - 2 * radius), 0), min(int(k0 + 2 * radius) + 1, columns)
        if top >= bottom or left >= right:
            continue
        y, x = np.mgrid[top:bottom, left:right]
        loss = depth / (1.0 + np.exp((np.hypot(y - r0, x - k0) - radius) / max(0.1 * radius, 0.5)))
        window = (slice(top, bottom), slice(left, right))
        response[window] *= (1.0 - loss).astype(np.float32)
        low = (loss > 0.5) & ((classes[window] & REFERENCE) == 0)
        classes[window][low] |= BLOB


def telegraph_pixels(
    config: DetectorConfig, classes: np.ndarray, random: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Choose and mark telegraph pixels: flat indices, heights of the upper level (e-/s), phases 0..1."""
    candidates = np.flatnonzero(classes == 0)
    number = round(config.telegraph_fraction * np.count_nonzero((classes & REFERENCE) == 0))
    if not config.telegraph:
        number = 0
    index = random.choice(candidates, size=min(number, candidates.size), replace=False, shuffle=False)
    classes.ravel()[index] |= TELEGRAPH
    height = config.telegraph_rate * np.exp(0.5 * random.standard_normal(index.size))
    return index, height.astype(np.float32), random.random(index.size)
