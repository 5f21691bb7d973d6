"""Optics of the spectrograph: all parameters, blaze, throughput and line spread.

Traces and slit image are in :mod:`traces`.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from apero_dask.simulator.settings import setting, switch
from apero_dask.simulator.streams import stream

if TYPE_CHECKING:
    from scipy.interpolate import PchipInterpolator

    from apero_dask.simulator.traces import OrderMaps

C_KMS = 299792.458


@dataclass(frozen=True)
class OpticsConfig:
    """Traces, slit image, wavelengths, blaze, line spread, leaking and scattered light."""

    displacement: bool = switch(True, "Displace the campaign from the packaged tables.")
    displacement_x_px: float = setting(2.0, "Displacement along the dispersion.", unit="px")
    displacement_y_px: float = setting(1.0, "Displacement across the dispersion.", unit="px")
    distortion: bool = switch(True, "Distort the campaign smoothly against the packaged tables.")
    distortion_px: float = setting(
        0.3, "Rms of the distortion in x and in y.", unit="px", minimum=0, maximum=5
    )
    affine: bool = switch(True, "Move the light by the affine drift of the exposure.")
    edge_orders: bool = switch(True, "Paint one partial order beyond each end of the order list.")
    tilt: bool = switch(True, "Tilt the slit image.")
    tilt_deg: tuple[float, float, float, float] = setting(
        (-7.0, 3.5, -1.0, 1.5),
        "Tilt t0 + t1 u + t2 u^2 + t3 (55 - echelle)/24, u = -1..1 along the order.",
        unit="deg",
        minimum=-30,
        maximum=30,
    )
    slices: bool = switch(True, "Four slices per fibre; off = one slice of the same total width.")
    slice_pitch_px: float = setting(
        3.35, "Distance of slices where the lit width is 14 px.", unit="px", above=0
    )
    slice_fwhm_px: float = setting(2.6, "FWHM of a slice before pixel integration.", unit="px", above=0)
    slice_flux: tuple[float, float, float, float] = setting(
        (0.9, 1.05, 1.05, 1.0), "Relative flux of the slices, lowest first.", minimum=0
    )
    slice_flux_variation: float = setting(
        0.05, "Slow variation of the relative flux along the order.", minimum=0, maximum=0.5
    )
    slice_offsets: bool = switch(True, "Offset the slices along the dispersion.")
    slice_offsets_px: tuple[float, float, float, float] = setting(
        (-0.35, 0.20, 0.30, -0.15), "Offsets along the dispersion, lowest slice first.", unit="px"
    )
    slice_offset_growth: float = setting(0.1, "Relative growth of the offsets per 24 orders to the red.")
    slice_illumination: bool = switch(
        True, "Change the relative flux of slices from frame to frame of a star."
    )
    slice_illumination_rms: float = setting(0.02, "Rms of that change.", minimum=0, maximum=0.3)
    fibre_wave: str = setting(
        "table",
        "Wavelength maps of A, B, C: the tables, the map of AB with smooth offsets, or that of AB itself.",
        origin="measured",
        choices=("table", "smooth", "same"),
    )
    blaze: bool = switch(True, "Blaze function.")
    blaze_scatter_nm: float = setting(
        60.0, "Largest change of the blaze constant of an order.", unit="nm", origin="measured", minimum=0
    )
    throughput: bool = switch(True, "Chromatic throughput of the instrument.")
    throughput_wave_nm: tuple[float, ...] = setting(
        (930.0, 970.0, 1600.0, 2300.0, 2500.0, 2600.0), "Wavelengths of the throughput, rising.", unit="nm"
    )
    throughput_relative: tuple[float, ...] = setting(
        (0.30, 0.35, 1.0, 0.8, 0.4, 0.25), "Throughput at those wavelengths.", above=0
    )
    lsf: bool = switch(True, "Line spread function; off = lines as narrow as the source.")
    lsf_fwhm_kms: float = setting(
        4.8, "FWHM before pixel integration.", unit="km/s", origin="measured", above=0.5, maximum=30
    )
    lsf_exponent: float = setting(2.0, "p of exp(-0.5 |v/s|^p).", origin="published", minimum=1, maximum=6)
    lsf_variation: bool = switch(True, "Vary the width over the detector.")
    lsf_variation_amplitude: float = setting(
        0.08, "Largest relative change of the width.", minimum=0, maximum=0.4
    )
    lsf_skew: bool = switch(False, "Make the line spread asymmetric.")
    lsf_skew_amplitude: float = setting(
        0.03,
        "Third Gauss-Hermite moment h3; lines move by about 1.7 h3 sigma against the map.",
        minimum=-0.2,
        maximum=0.2,
    )
    leak: bool = switch(True, "Light of fibre C in A and B, fractions of the order table.")
    leak_minimum: float = setting(
        3e-5, "Fractions below it are noise and are raised to it.", origin="measured"
    )
    leak_factor: float = setting(1.0, "Multiplies the fractions.", minimum=0, maximum=100)
    leak_blur_px: float = setting(
        1.0, "FWHM by which leaked slices are wider than direct ones.", unit="px", minimum=0
    )
    scatter: bool = switch(True, "Smooth scattered light around the orders.")
    scatter_fraction: float = setting(
        1 / 47, "Scattered part of the local flux.", origin="reference pipeline", minimum=0, maximum=0.5
    )
    scatter_x_px: float = setting(1.0, "e-folding half width along the dispersion.", unit="px", above=0)
    scatter_y_px: float = setting(9.0, "e-folding half width across the dispersion.", unit="px", above=0)

    def problems(self) -> list[tuple[str, object, str]]:
        """Contradictions between parameters: key, value, expectation."""
        found: list[tuple[str, object, str]] = []
        wave = self.throughput_wave_nm
        if len(wave) < 2 or any(b <= a for a, b in itertools.pairwise(wave)):
            found.append(("throughput_wave_nm", wave, "at least two rising wavelengths"))
        if len(self.throughput_relative) != len(wave):
            found.append(
                ("throughput_relative", self.throughput_relative, f"{len(wave)} values, one per wavelength")
            )
        if sum(self.slice_flux) <= 0:
            found.append(("slice_flux", self.slice_flux, "at least one slice with light"))
        return found


def throughput(config: OpticsConfig, wave_nm: np.ndarray) -> np.ndarray:
    """Relative throughput of telescope, fibres and spectrograph: monotone cubic through given points.

    Constant beyond the first and last wavelength.
    """
    if not config.throughput:
        return np.ones_like(wave_nm)
    grid = config.throughput_wave_nm
    return _throughput_curve(grid, config.throughput_relative)(np.clip(wave_nm, grid[0], grid[-1]))


@lru_cache(maxsize=4)
def _throughput_curve(wave: tuple[float, ...], values: tuple[float, ...]) -> PchipInterpolator:
    from scipy.interpolate import PchipInterpolator

    return PchipInterpolator(np.array(wave), np.array(values))


def blaze(config: OpticsConfig, seed: int, constant_nm: float, maps: OrderMaps) -> np.ndarray:
    """Blaze function on the columns of `maps`, shape (fibre, order, column), 1 at its maximum.

    Notes
    -----
    ``sinc(m - K/lambda)^2``, zero one free spectral range from the maximum, with echelle number m and blaze
    constant K.  An instrument whose table gives another free spectral range than that of the wavelengths (the
    small one) has the same function compressed by the ratio about the middle of the order.  K is
    changed from order to order by up to ``blaze_scatter_nm``.
    """
    if not config.blaze:
        return np.ones_like(maps.wave)
    draw = stream(seed, "blaze")
    # One number per echelle order of any instrument, so that a window of it has the same blaze.
    scatter = draw.uniform(-1, 1, 256)[maps.echelle] * config.blaze_scatter_nm
    m = maps.echelle[None, :, None].astype(float)
    constant = (constant_nm + scatter)[None, :, None]
    middle = maps.wave_middle[None, :, None]
    natural = maps.wave_middle / maps.echelle / maps.dispersion_middle
    compression = (natural / maps.fsr_px)[None, :, None]
    phase = compression * m * (1 - middle / maps.wave) + (m * middle - constant) / maps.wave
    return np.sinc(phase) ** 2


def lsf_fwhm_px(config: OpticsConfig, seed: int, maps: OrderMaps) -> np.ndarray:
    """FWHM of the line spread before pixel integration, px, shape (fibre, order, column).

    Notes
    -----
    The configured velocity width, times a smooth map of the detector, over the local velocity per pixel.
    """
    dispersion = C_KMS * np.gradient(np.log(maps.wave), axis=-1)
    return config.lsf_fwhm_kms * lsf_variation(config, seed, maps) / dispersion


def lsf_variation(config: OpticsConfig, seed: int, maps: OrderMaps) -> np.ndarray:
    """Width of the line spread relative to the configured one, shape (1, order, column).

    Two slow waves along and across the detector with random phases; never beyond
    1 +- ``lsf_variation_amplitude``.
    """
    orders, columns = len(maps.echelle), len(maps.x)
    if not config.lsf_variation:
        return np.ones((1, orders, columns))
    phase = stream(seed, "lsf").uniform(0, 2 * np.pi, 2)
    along = maps.place[None, None, :]
    across = ((55.0 - maps.echelle) / 24.0)[None, :, None]
    wave = 0.6 * np.cos(np.pi * along + phase[0]) + 0.4 * np.cos(2.0 * across + 0.8 * along + phase[1])
    return 1 + config.lsf_variation_amplitude * wave
