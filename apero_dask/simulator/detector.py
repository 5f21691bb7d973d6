"""The detector as it is, whatever frame is taken: response, dark current, defects, fixed patterns."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import ndimage

from apero_dask.simulator.settings import setting, switch
from apero_dask.simulator.streams import stream
from apero_dask.simulator.tables import Geometry

HOT, CLUSTER, DEAD, BLOB, TELEGRAPH, REFERENCE = 1, 2, 4, 8, 16, 32
"""Bits of the defect classes; a clustered hot pixel carries HOT and CLUSTER."""
FULL_PIXELS = 4096 * 4096
PIXEL_CM = 15e-4
"""Pitch of the pixels, instrument documentation."""


@dataclass(frozen=True)
class DetectorConfig:
    """Detector: pixel response, defects, noise, cosmic hits, ramp."""

    ramp: str = setting(
        "direct",
        "How the four planes arise: drawn from their joint distribution, or fitted to every single read "
        "(slow, meant for windows).",
        origin="switch",
        choices=("direct", "full"),
    )
    photon_noise: bool = switch(True, "Poisson noise of light and dark current.")
    read_noise: bool = switch(True, "White noise of a read (level: geometry).")
    saturation: bool = switch(True, "Reads above saturation are left out of the ramp.")
    dark_current: bool = switch(True, "Dark current.")
    dark_median: float = setting(0.005, "Median dark current.", unit="e-/s", minimum=0.0)
    dark_spread_dex: float = setting(
        0.5, "Log-normal spread of the dark current.", unit="dex", minimum=0.0, maximum=2.0
    )
    background: bool = switch(True, "Diffuse thermal light on all sensitive pixels.")
    background_rate: float = setting(
        0.015, "Diffuse thermal light.", unit="e-/s", origin="published", minimum=0.0
    )
    hot_pixels: bool = switch(True, "Hot pixels.")
    hot_fraction: float = setting(0.006, "Fraction of hot pixels.", minimum=0.0, maximum=0.2)
    hot_minimum: float = setting(5.0, "Smallest rate of a hot pixel.", unit="ADU/s", above=0.0)
    hot_maximum: float = setting(500.0, "Largest rate of a hot pixel.", unit="ADU/s", above=0.0)
    hot_slope: float = setting(1.2, "Hot pixels above a rate r are as many as r**-slope.", above=0.0)
    hot_clustered: float = setting(
        0.2, "Fraction of the hot pixels that lie in clusters.", minimum=0.0, maximum=1.0
    )
    hot_cluster_px: tuple[int, int] = setting((2, 30), "Smallest and largest cluster.", unit="px", minimum=2)
    hot_dense_amplifier: int = setting(
        24, "Amplifier (from 0) with more hot pixels, -1 = none.", origin="measured", minimum=-1
    )
    hot_dense_factor: float = setting(
        12.0, "How many times more hot pixels it has than others.", origin="measured", above=0.0
    )
    dead_pixels: bool = switch(True, "Single pixels of low response.")
    dead_fraction: float = setting(
        0.004, "Fraction of pixels with a response below 0.5.", minimum=0.0, maximum=0.2
    )
    blobs: bool = switch(True, "Round patches of low response.")
    blob_number: int = setting(5, "Number of patches.", minimum=0, maximum=200)
    blob_px: tuple[float, float] = setting(
        (20.0, 80.0), "Diameters on 4096 x 4096 pixels; smaller on a smaller detector.", unit="px", above=0.0
    )
    telegraph: bool = switch(True, "Pixels that switch between two levels of dark current.")
    telegraph_fraction: float = setting(5e-4, "Fraction of such pixels.", minimum=0.0, maximum=0.2)
    telegraph_rate: float = setting(1.0, "Median height of the upper level.", unit="e-/s", above=0.0)
    telegraph_dwell_s: float = setting(3600.0, "Mean time in one level.", unit="s", above=0.0)
    response: bool = switch(True, "Response differs between pixels.")
    response_white: float = setting(0.02, "Rms from pixel to pixel.", minimum=0.0, maximum=0.3)
    response_smooth: float = setting(0.01, "Rms of the smooth part.", minimum=0.0, maximum=0.3)
    response_scale_px: float = setting(
        300.0,
        "Length of the smooth part on 4096 pixels; shorter on a smaller detector.",
        unit="px",
        above=0.0,
    )
    ipc: bool = switch(True, "Capacitive coupling between neighbouring pixels.")
    ipc_fraction: float = setting(
        0.006, "Part of the signal that each of four neighbours receives.", minimum=0.0, maximum=0.1
    )
    nonlinearity: bool = switch(True, "What is left of the non-linearity after its correction.")
    nonlinearity_residual: float = setting(
        0.002, "Relative loss of signal at 50 000 ADU.", minimum=-0.1, maximum=0.1
    )
    static_pattern: bool = switch(True, "Fixed pattern common to all amplifiers.")
    static_slope: float = setting(0.02, "Rms of its slope.", unit="ADU/s", minimum=0.0)
    static_intercept: float = setting(
        3.0, "Rms of the part that is divided by the exposure time.", unit="ADU", minimum=0.0
    )
    flux_pattern: bool = switch(True, "Coupling of the summed signal of all amplifiers into each of them.")
    flux_coefficients: tuple[float, float, float] = setting(
        (1.490711e-4, 8.080468e-4, -6.523985e-4),
        "Amplitudes of the sum and of its first and second derivative along the read direction.",
        origin="reference pipeline",
    )
    bias: bool = switch(True, "Structure of the intercept plane.")
    bias_columns: float = setting(300.0, "Rms of the column pattern.", unit="ADU", minimum=0.0)
    bias_rms: float = setting(
        1000.0,
        "Rms from pixel to pixel, the same in all frames.",
        unit="ADU",
        origin="published",
        minimum=0.0,
    )
    reset_noise: float = setting(35.0, "Reset noise of a frame.", unit="e-", minimum=0.0)
    common_noise: bool = switch(True, "1/f noise common to all amplifiers.")
    common_noise_e: float = setting(8.0, "Its rms in one read.", unit="e-", minimum=0.0)
    amplifier_noise: bool = switch(True, "1/f noise of each amplifier.")
    amplifier_noise_e: float = setting(3.0, "Its rms in one read.", unit="e-", minimum=0.0)
    noise_knee_hz: float = setting(
        5000.0, "Frequency above which the noise falls off faster than 1/f.", unit="Hz", above=0.0
    )
    pixel_time_us: float = setting(
        10.0, "Time between two pixels of an amplifier.", unit="us", origin="instrument", above=0.0
    )
    line_overhead: float = setting(
        0.0625,
        "Pause after a row, as a fraction of its time.",
        origin="instrument",
        minimum=0.0,
        maximum=10.0,
    )
    amplifier_offsets: bool = switch(True, "Offsets of the even and odd columns of each amplifier.")
    column_offset_e: float = setting(2.0, "Their rms in one read.", unit="e-", minimum=0.0)
    amplifier_drift: bool = switch(True, "Linear drift of each amplifier from the first row to the last.")
    amplifier_drift_e: float = setting(3.0, "Its rms in one read.", unit="e-", minimum=0.0)
    cosmics: bool = switch(True, "Cosmic-ray hits.")
    cosmic_rate: float = setting(1.5, "Hits per square centimetre and minute.", minimum=0.0)
    cosmic_charge_e: float = setting(2000.0, "Median charge of a hit.", unit="e-", above=0.0)
    cosmic_charge_spread: float = setting(
        0.8, "Spread of the charge, natural logarithm.", minimum=0.0, maximum=3.0
    )
    cosmic_track_px: tuple[int, int] = setting((1, 30), "Shortest and longest track.", unit="px", minimum=1)
    error_scatter: float = setting(
        0.05, "Relative scatter of the slope-error plane.", minimum=0.0, maximum=0.5
    )
    persistence: bool = switch(False, "Afterglow of the exposure before.")
    persistence_fraction: float = setting(1e-3, "Part of the earlier charge.", minimum=0.0, maximum=0.5)
    persistence_tau_s: float = setting(100.0, "Time at which the 1/t decay sets in.", unit="s", above=0.0)
    slip_probability: float = setting(
        0.002, "Probability that a frame is read out one pixel off.", minimum=0.0, maximum=1.0
    )

    def problems(self) -> list[tuple[str, object, str]]:
        """Ranges whose ends are in the wrong order."""
        found: list[tuple[str, object, str]] = [
            (key, getattr(self, key), "the smaller value first")
            for key in ("hot_cluster_px", "blob_px", "cosmic_track_px")
            if getattr(self, key)[0] > getattr(self, key)[1]
        ]
        if self.hot_minimum >= self.hot_maximum:
            found.append(("hot_maximum", self.hot_maximum, f"more than hot_minimum = {self.hot_minimum:g}"))
        return found


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
    """uint8 bits, see the constants of this module."""
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


def sensitive(geometry: Geometry) -> tuple[slice, slice]:
    """Slices of the light-sensitive pixels in raw orientation."""
    b = geometry.reference_border
    return slice(b, geometry.raw_rows - b), slice(b, geometry.raw_columns - b)


@lru_cache(maxsize=2)
def static_detector(config: DetectorConfig, geometry: Geometry, seed: int) -> StaticDetector:
    """Build the detector of a campaign: a function of configuration, instrument and seed alone.

    On 4096 x 4096 pixels this takes a few seconds and 0.25 GB; a process does it once.
    """
    shape = geometry.raw_rows, geometry.raw_columns
    area = sensitive(geometry)
    inner = area[0].stop - area[0].start, area[1].stop - area[1].start
    scale = np.sqrt(shape[0] * shape[1] / FULL_PIXELS)

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
        _add_hot_pixels(config, geometry, dark, classes, random("hot"))
    if config.dead_pixels:
        _add_dead_pixels(config, response, classes, random("dead"))
    if config.blobs:
        _add_blobs(config, response, classes, scale, random("blobs"))
    index, height, phase = _telegraph_pixels(config, classes, random("telegraph"))
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


def _add_hot_pixels(
    config: DetectorConfig,
    geometry: Geometry,
    dark: np.ndarray,
    classes: np.ndarray,
    random: np.random.Generator,
) -> None:
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


def _add_dead_pixels(
    config: DetectorConfig, response: np.ndarray, classes: np.ndarray, random: np.random.Generator
) -> None:
    candidates = np.flatnonzero(classes == 0)
    number = round(config.dead_fraction * np.count_nonzero((classes & REFERENCE) == 0))
    chosen = random.choice(candidates, size=min(number, candidates.size), replace=False, shuffle=False)
    # Half of them do not respond at all, the others are evenly spread up to one half.
    level = np.where(random.random(chosen.size) < 0.5, 0.01, random.uniform(0.05, 0.5, chosen.size))
    response.ravel()[chosen] = level
    classes.ravel()[chosen] |= DEAD


def _add_blobs(
    config: DetectorConfig,
    response: np.ndarray,
    classes: np.ndarray,
    scale: float,
    random: np.random.Generator,
) -> None:
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


def _telegraph_pixels(
    config: DetectorConfig, classes: np.ndarray, random: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    candidates = np.flatnonzero(classes == 0)
    number = round(config.telegraph_fraction * np.count_nonzero((classes & REFERENCE) == 0))
    if not config.telegraph:
        number = 0
    index = random.choice(candidates, size=min(number, candidates.size), replace=False, shuffle=False)
    classes.ravel()[index] |= TELEGRAPH
    height = config.telegraph_rate * np.exp(0.5 * random.standard_normal(index.size))
    return index, height.astype(np.float32), random.random(index.size)


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
