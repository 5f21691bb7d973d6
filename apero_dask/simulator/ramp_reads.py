"""The ramp read by read: the long way, with which the drawn planes are compared."""

from __future__ import annotations

import numpy as np

from apero_dask.simulator.cosmics import Hits
from apero_dask.simulator.coupling import couple_neighbours
from apero_dask.simulator.detector import StaticDetector
from apero_dask.simulator.detector_config import DetectorConfig
from apero_dask.simulator.ramp import slope_variance
from apero_dask.simulator.readnoise import correlated_noise
from apero_dask.simulator.spec import FrameSpec
from apero_dask.simulator.streams import stream
from apero_dask.simulator.tables import Geometry


def read_ramp(
    config: DetectorConfig,
    geometry: Geometry,
    static: StaticDetector,
    seed: int,
    spec: FrameSpec,
    expected: np.ndarray,
    hits: Hits,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Collect charge read by read and fit a straight line to the unsaturated reads of every pixel.

    Parameters
    ----------
    expected : float32[row, column] e-/s
    hits : cosmic hits

    Returns
    -------
    slope : float32 ADU/s
    intercept : float32 ADU
    errslope : float32 ADU/s; the variance of the ramp for the fitted slope, plus what the residuals of the
        fit exceed their expectation by
    count : int16 reads below saturation

    Notes
    -----
    Sums are accumulated, reads are not kept: memory does not depend on their number.  Bias and reset noise
    are in every read.  Capacitive patterns are left to the caller, being linear in the slope.
    """
    n, t_f, gain = spec.nreads, geometry.frame_time_s, geometry.gain
    photons = stream(seed, "photons", spec.index)
    white = stream(seed, "read noise", spec.index)
    coloured = stream(seed, "correlated noise", spec.index)
    shape = expected.shape
    charge = np.zeros(shape, np.float64)
    offset = np.asarray(static.bias, np.float64) * gain
    if config.bias:
        reset = stream(seed, "reset", spec.index).standard_normal(shape, dtype=np.float32)
        offset = offset + config.reset_noise * reset
    read_noise = geometry.read_noise_e if config.read_noise else 0.0
    full_well = geometry.saturation_adu * gain
    arrival = np.ceil(hits.time * (n - 1)).astype(int)
    mean_step = np.maximum(expected, 0.0).astype(np.float64) * t_f
    bend = config.nonlinearity_residual / (50_000.0 * gain) if config.nonlinearity else 0.0

    open_ = np.ones(shape, bool)
    count = np.zeros(shape, np.int32)
    sums = {key: np.zeros(shape) for key in ("t", "tt", "y", "yt", "yy")}
    for i in range(n):
        if i > 0:
            charge += photons.poisson(mean_step) if config.photon_noise else mean_step
        now = arrival == i
        np.add.at(charge, (hits.row[now], hits.column[now]), hits.charge[now])
        signal = charge - bend * charge * charge if bend else charge
        if config.ipc:
            signal = couple_neighbours(signal, config.ipc_fraction)
        if config.saturation:
            # Once saturated, always saturated: charge only grows.
            open_ &= signal < full_well
        y = signal + offset
        y += correlated_noise(config, geometry, coloured).image()
        if read_noise:
            y += read_noise * white.standard_normal(shape, dtype=np.float32)
        t = i * t_f
        count += open_
        y = np.where(open_, y, 0.0)
        sums["t"] += t * open_
        sums["tt"] += t * t * open_
        sums["y"] += y
        sums["yt"] += y * t
        sums["yy"] += y * y
    return _fit(config, geometry, sums, np.maximum(count, 1), expected, read_noise)


def _fit(
    config: DetectorConfig,
    geometry: Geometry,
    sums: dict[str, np.ndarray],
    count: np.ndarray,
    expected: np.ndarray,
    read_noise: float,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    n, gain, t_f = count.astype(np.float64), geometry.gain, geometry.frame_time_s
    spread = sums["tt"] - sums["t"] ** 2 / n
    ok = count >= 2
    safe = np.where(ok, spread, 1.0)
    slope = np.where(ok, (sums["yt"] - sums["y"] * sums["t"] / n) / safe, np.maximum(expected, 0.0))
    intercept = (sums["y"] - slope * sums["t"]) / n
    residual = sums["yy"] - sums["y"] ** 2 / n - slope**2 * spread
    # Expected residuals: those of read noise have n - 2 degrees of freedom, those of a random walk with
    # unit steps sum to (n^2 - 4) / 15 about its straight-line fit.
    walk = np.maximum(slope, 0.0) * t_f if config.photon_noise else np.zeros_like(slope)
    coloured = 0.0
    if config.common_noise:
        coloured += config.common_noise_e**2
    if config.amplifier_noise:
        coloured += config.amplifier_noise_e**2
    forecast = (n - 2.0) * (read_noise**2 + coloured) + walk * (n * n - 4.0) / 15.0
    excess = np.where(count > 2, (residual - forecast) / np.maximum(n - 2.0, 1.0) / safe, 0.0)
    variance = slope_variance(slope, np.maximum(count, 2), t_f, read_noise)
    variance = np.maximum(variance + excess, 0.1 * variance)
    return (
        (slope / gain).astype(np.float32),
        (intercept / gain).astype(np.float32),
        (np.sqrt(variance) / gain).astype(np.float32),
        count.astype(np.int16),
    )
