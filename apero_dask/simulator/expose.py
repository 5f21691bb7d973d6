"""From light on the detector to the four planes of a raw frame."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from apero_dask.simulator.cosmics import Hits, cosmic_hits
from apero_dask.simulator.coupling import capacitive_patterns, couple_neighbours
from apero_dask.simulator.defects import sensitive
from apero_dask.simulator.detector import (
    StaticDetector,
    raw_from_full,
    static_detector,
    telegraph_rate,
)
from apero_dask.simulator.detector_config import DetectorConfig
from apero_dask.simulator.ramp import (
    ramp_moments,
    reads_before_saturation,
    slope_variance,
    step_response,
)
from apero_dask.simulator.ramp_reads import read_ramp
from apero_dask.simulator.readnoise import CorrelatedNoise, correlated_noise
from apero_dask.simulator.spec import FrameSpec
from apero_dask.simulator.streams import stream
from apero_dask.simulator.tables import Geometry


@dataclass(frozen=True, eq=False)
class RawFrame:
    """The four planes of a raw file and what went into them; arrays are ``[raw row, raw column]``."""

    slope: np.ndarray
    """float32 ADU/s."""
    intercept: np.ndarray
    """float32 ADU."""
    errslope: np.ndarray
    """float32 ADU/s."""
    count: np.ndarray
    """int16 reads used."""
    expected: np.ndarray
    """float32 e-/s: light times response plus dark current, before any noise, coupling or slip."""
    hits: Hits
    noise: CorrelatedNoise | None
    """Correlated noise of the slope, ADU/s; None in the mode that follows every read."""
    slip: tuple[int, int]
    """Roll of all planes along raw rows and columns."""
    static: StaticDetector

    @property
    def planes(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """The image extensions in order."""
        return self.slope, self.intercept, self.errslope, self.count


def expose(
    config: DetectorConfig,
    geometry: Geometry,
    seed: int,
    spec: FrameSpec,
    rate: np.ndarray,
    afterglow: np.ndarray | None = None,
) -> RawFrame:
    """Record one exposure.

    Parameters
    ----------
    config : section ``detector``
    geometry : detector
    seed : campaign seed
    spec : the exposure: times, number of reads, faults
    rate : float64[y, x] e-/s of light on the full flipped frame
    afterglow : float64[y, x] e-/s released by the exposure before, or None

    Notes
    -----
    In the default mode slope and intercept of a pixel are drawn from their joint distribution: photon term
    from a Poisson number of electrons, its deviation from the mean scaled to the variance of the ramp fit;
    read terms from Gaussians with the exact covariance.  Coupling between pixels acts after the
    photons are counted, before read noise, as in the detector.
    """
    static = static_detector(config, geometry, seed)
    expected = _expected(config, geometry, static, seed, spec, rate, afterglow)
    hits = cosmic_hits(config, geometry, spec.exptime_s, stream(seed, "cosmics", spec.index))
    if config.ramp == "full":
        planes, noise = read_ramp(config, geometry, static, seed, spec, expected, hits), None
    else:
        planes, noise = _direct_ramp(config, geometry, static, seed, spec, expected, hits)
    slope, intercept, errslope, count = planes
    slope = slope + capacitive_patterns(config, geometry, static, spec.exptime_s, slope)
    limit = np.float32(geometry.saturation_adu / geometry.frame_time_s)
    if config.saturation:
        slope = np.where(count < 2, limit, np.minimum(slope, limit))
    planes = [slope.astype(np.float32), intercept, errslope, count]
    if "corrupt" in spec.faults:
        planes = _corrupt(geometry, planes, stream(seed, "corrupt", spec.index))
    slip = _slip(config, spec, stream(seed, "slip", spec.index))
    if slip != (0, 0):
        planes = [np.roll(plane, slip, axis=(0, 1)) for plane in planes]
    return RawFrame(*planes, expected, hits, noise, slip, static)


def _expected(
    config: DetectorConfig,
    geometry: Geometry,
    static: StaticDetector,
    seed: int,
    spec: FrameSpec,
    rate: np.ndarray,
    afterglow: np.ndarray | None,
) -> np.ndarray:
    if rate.shape != geometry.full_shape:
        raise ValueError(
            f"light has shape {rate.shape}, the full frame of {geometry.name} is {geometry.full_shape}"
        )
    light = raw_from_full(rate).astype(np.float32)
    if config.background:
        light += np.float32(config.background_rate)
    expected = light * static.response + static.dark
    expected.ravel()[static.telegraph_index] += telegraph_rate(static, config, spec.mjd_mid, seed)
    if afterglow is not None and config.persistence:
        area = sensitive(geometry)
        expected[area] += raw_from_full(afterglow).astype(np.float32)[area]
    return expected


def _direct_ramp(
    config: DetectorConfig,
    geometry: Geometry,
    static: StaticDetector,
    seed: int,
    spec: FrameSpec,
    expected: np.ndarray,
    hits: Hits,
) -> tuple[tuple[np.ndarray, ...], CorrelatedNoise]:
    """Slope (ADU/s), intercept (ADU), slope error (ADU/s) and number of reads from their distribution."""
    n, t_f, gain = spec.nreads, geometry.frame_time_s, geometry.gain
    full_well = geometry.saturation_adu * gain
    count = np.full(expected.shape, n, np.int16)
    if config.saturation:
        count = reads_before_saturation(expected, full_well, n, t_f)
    short = np.flatnonzero(count < n)
    slope = expected.copy()
    intercept = np.zeros_like(slope)
    moments = ramp_moments(n, t_f)
    if config.photon_noise:
        photons = _photon_deviation(expected, moments.slope_photon, (n - 1) * t_f, seed, spec.index)
        used = np.maximum(count.ravel()[short].astype(np.float64), 2.0)
        # A ramp cut by saturation has fewer electrons to count: its deviation grows accordingly.
        growth = 6.0 * (used**2 + 1.0) / (5.0 * used * (used**2 - 1.0) * t_f) / moments.slope_photon
        photons.ravel()[short] *= np.sqrt(growth).astype(np.float32)
        slope += photons
        regression = moments.covariance_photon / moments.slope_photon
        rest = moments.intercept_photon - moments.covariance_photon * regression
        intercept += np.float32(regression) * photons
        loose = stream(seed, "photon intercept", spec.index).standard_normal(slope.shape, dtype=np.float32)
        intercept += loose * np.sqrt(np.float32(max(rest, 0.0)) * np.maximum(expected, 0))
    if config.nonlinearity:
        loss = np.float32(config.nonlinearity_residual * (n - 1) * t_f / (50_000.0 * gain))
        # A term -k t^2 of the signal lowers the slope by k T and raises the intercept by k T^2 / 6.
        bend = loss * expected * expected
        slope -= bend
        intercept += bend * np.float32((n - 1) * t_f / 6.0)
    step = step_response(hits.time, n, t_f)
    flat = hits.row.astype(np.int64) * geometry.raw_columns + hits.column
    _add_at(slope, flat, hits.charge * step.slope)
    _add_at(intercept, flat, hits.charge * step.intercept)
    if config.ipc:
        slope = couple_neighbours(slope, config.ipc_fraction)
        intercept = couple_neighbours(intercept, config.ipc_fraction)
    # The same formula everywhere: two constants for whole ramps, pixel by pixel for the few cut ones.
    read_noise = geometry.read_noise_e if config.read_noise else 0.0
    variance = np.maximum(expected, 0) * np.float32(moments.slope_photon)
    variance += np.float32(moments.slope_read * read_noise**2)
    variance.ravel()[short] = slope_variance(
        expected.ravel()[short], np.maximum(count.ravel()[short], 2), t_f, read_noise
    )
    if config.read_noise:
        _add_read_noise(slope, intercept, count, geometry, moments, seed, spec)
    noise = correlated_noise(config, geometry, stream(seed, "correlated noise", spec.index))
    scale = np.float32(np.sqrt(moments.slope_read) / gain)
    noise = CorrelatedNoise(noise.common * scale, noise.amplifier * scale)
    slope = slope / np.float32(gain) + noise.image()
    errors = stream(seed, "slope error", spec.index).standard_normal(slope.shape, dtype=np.float32)
    variance *= np.maximum(1.0 + config.error_scatter * errors, 0.1) ** 2
    if n > 2:
        spread = t_f**2 * n * (n**2 - 1) / 12.0
        _add_at(variance, flat, hits.charge**2 * step.residual / ((n - 2) * spread))
    errslope = (np.sqrt(variance) / gain).astype(np.float32)
    intercept = intercept / np.float32(gain) + static.bias
    if config.bias:
        reset = stream(seed, "reset", spec.index).standard_normal(slope.shape, dtype=np.float32)
        intercept += np.float32(config.reset_noise / gain) * reset
    return (slope, intercept.astype(np.float32), errslope, count), noise


def _photon_deviation(
    expected: np.ndarray, slope_photon: float, exptime_s: float, seed: int, index: int
) -> np.ndarray:
    """Deviation of the slope from its expectation in e-/s: a Poisson count, scaled to the ramp variance."""
    electrons = np.maximum(expected, 0.0).astype(np.float64) * exptime_s
    drawn = stream(seed, "photons", index).poisson(electrons)
    # Var(slope) = slope_photon * f, against f / T for a plain count.
    factor = np.sqrt(slope_photon * exptime_s) / exptime_s
    return ((drawn - electrons) * factor).astype(np.float32)


def _add_read_noise(slope, intercept, count, geometry: Geometry, moments, seed: int, spec: FrameSpec) -> None:
    """Add white read noise in place, slope and intercept with their covariance."""
    random = stream(seed, "read noise", spec.index)
    first = random.standard_normal(slope.shape, dtype=np.float32)
    sigma = np.full(slope.shape, np.sqrt(moments.slope_read), np.float32)
    short = count < spec.nreads
    used = np.maximum(count[short].astype(np.float64), 2.0)
    sigma[short] = np.sqrt(12.0 / (used * (used**2 - 1.0))) / geometry.frame_time_s
    first *= np.float32(geometry.read_noise_e)
    slope += sigma * first
    regression = moments.covariance_read / np.sqrt(moments.slope_read)
    rest = moments.intercept_read - regression**2
    intercept += np.float32(regression) * first
    second = random.standard_normal(slope.shape, dtype=np.float32)
    intercept += np.float32(geometry.read_noise_e * np.sqrt(max(rest, 0.0))) * second


def _add_at(image: np.ndarray, flat: np.ndarray, values: np.ndarray) -> None:
    """Add values to pixels that may occur repeatedly."""
    np.add.at(image.ravel(), flat, values.astype(image.dtype))


def _slip(config: DetectorConfig, spec: FrameSpec, random: np.random.Generator) -> tuple[int, int]:
    if "slip_y" in spec.faults:
        return 1, 0
    if "slip_x" in spec.faults:
        return 0, 1
    chance, axis, sign = random.random(3)
    if chance >= config.slip_probability:
        return 0, 0
    step = 1 if sign < 0.5 else -1
    return (step, 0) if axis < 0.5 else (0, step)


def _corrupt(geometry: Geometry, planes: list[np.ndarray], random: np.random.Generator) -> list[np.ndarray]:
    """Displace every amplifier along the rows by its own amount and bury the slope in noise."""
    shifts = random.integers(50, geometry.raw_rows // 2, geometry.amplifiers)
    width = geometry.raw_columns // geometry.amplifiers
    out = [plane.copy() for plane in planes]
    for a, shift in enumerate(shifts):
        window = slice(a * width, (a + 1) * width)
        for plane in out:
            plane[:, window] = np.roll(plane[:, window], int(shift), axis=0)
    out[0] += 20.0 * out[2] * random.standard_normal(out[0].shape, dtype=np.float32)
    return out


def afterglow_rate(
    config: DetectorConfig, fluence_e: np.ndarray, since_end_s: float, exptime_s: float
) -> np.ndarray:
    """Mean rate in e-/s that an earlier fluence (e-) releases during an exposure.

    The current is fraction x fluence / (t + tau), t counted from the end of the earlier exposure.
    """
    start = since_end_s + config.persistence_tau_s
    return config.persistence_fraction * fluence_e * np.log((start + exptime_s) / start) / exptime_s
