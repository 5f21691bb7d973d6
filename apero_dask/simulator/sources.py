"""Calibration light and thermal emission: electrons per second and column before blaze and line spread.

Levels are per column of the detector; multiplied by the blaze they are what an extraction of one fibre sees.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from apero_dask.simulator.cavity import optical_path
from apero_dask.simulator.lines import lines_near
from apero_dask.simulator.optics import throughput
from apero_dask.simulator.settings import setting, switch

if TYPE_CHECKING:
    from apero_dask.simulator.cavity import CavityConfig
    from apero_dask.simulator.lines import LampLines
    from apero_dask.simulator.optics import OpticsConfig

SECOND_RADIATION_NM_K = 1.438776877e7
"""h c / k in nm K."""
C_KMS = 299792.458
FWHM_PER_SIGMA = np.sqrt(8 * np.log(2))


@dataclass(frozen=True)
class SourcesConfig:
    """Flat lamp, Fabry-Perot light, uranium-neon lamp, thermal emission of the fibre train."""

    flat: bool = switch(True, "Flat lamp; off = its frames are dark.")
    flat_electrons: float = setting(
        1.5e5, "Flat: electrons per column and fibre in one exposure at 1600 nm.", unit="e-", minimum=0
    )
    flat_exposure_s: float = setting(27.860, "Exposure to which the level belongs.", unit="s", above=0)
    flat_temperature_k: float = setting(3000.0, "Colour temperature of the lamp.", unit="K", minimum=500)
    fp: bool = switch(True, "Fabry-Perot light; off = its frames are dark.")
    fp_level: float = setting(
        1.0, "Mean electrons per column of the comb over the square of the S/N of the order table.", minimum=0
    )
    fp_exposure_s: float = setting(61.291, "Exposure to which the level belongs.", unit="s", above=0)
    fp_simultaneous_s: float = setting(
        300.884,
        "Exposure of a science frame in which the dimmed comb collects the electrons of a calibration.",
        unit="s",
        above=0,
    )
    fp_step: float = setting(0.2, "Relative drop of the lamp spectrum.", minimum=0, maximum=0.9)
    fp_step_nm: float = setting(1300.0, "Wavelength of the drop.", unit="nm")
    hc: bool = switch(True, "Uranium-neon lamp; off = its frames are dark.")
    hc_electrons: float = setting(
        0.35, "Electrons of a line per unit of its strength.", unit="e-", origin="measured", minimum=0
    )
    hc_exposure_s: float = setting(601.767, "Exposure to which the level belongs.", unit="s", above=0)
    hc_fwhm_kms: float = setting(0.9, "Intrinsic FWHM of lamp lines.", unit="km/s", minimum=0.6, maximum=20)
    hc_continuum: float = setting(
        0.02, "Continuum per column over the 90th percentile of the line fluxes.", minimum=0
    )
    thermal: bool = switch(True, "Thermal emission of the fibre train.")
    thermal_rate: tuple[float, float, float] = setting(
        (2.5, 2.5, 2.0), "Thermal light of A, B, C at 2450 nm and 283 K.", unit="e-/s/column", minimum=0
    )
    saturated_factor: float = setting(
        40.0, "Lamp brightness of frames with the fault 'saturated'.", minimum=1, maximum=1000
    )


def planck_photons(wave_nm: np.ndarray, temperature_k: float) -> np.ndarray:
    """Photons per unit wavelength of a black body, arbitrary unit: lambda^-4 / (exp(hc/(lambda k T)) - 1)."""
    wave = np.asarray(wave_nm, dtype=float)
    return (wave / 1000.0) ** -4 / np.expm1(SECOND_RADIATION_NM_K / (wave * temperature_k))


def flat_rate(config: SourcesConfig, optics: OpticsConfig, wave: np.ndarray) -> np.ndarray:
    """Flat lamp, e-/s per column at `wave` in nm."""
    reference = np.array(1600.0)
    spectrum = planck_photons(wave, config.flat_temperature_k) * throughput(optics, wave)
    spectrum /= planck_photons(reference, config.flat_temperature_k) * throughput(optics, reference)
    return config.flat_electrons / config.flat_exposure_s * spectrum


def fp_mean_rate(
    config: SourcesConfig, wave: np.ndarray, order_wave: np.ndarray, order_snr: np.ndarray
) -> np.ndarray:
    """Fabry-Perot light averaged over the comb, e-/s per column.

    Parameters
    ----------
    wave
        Wavelengths, nm.
    order_wave, order_snr
        (order,) middle wavelength, rising, and S/N of the table; the square is interpolated between orders,
        so that the spectrum of the lamp is one function of wavelength.
    """
    level = np.interp(wave, order_wave, order_snr**2) * config.fp_level / config.fp_exposure_s
    return level * (1 - config.fp_step * 0.5 * (1 + np.tanh((wave - config.fp_step_nm) / 1.5)))


def fp_comb(
    config: CavityConfig, seed: int, wave: np.ndarray, cavity_ms: float, epoch_days: float
) -> np.ndarray:
    """Transmission of the etalon over its mean in one free spectral range, on rising wavelengths in nm.

    Mean of the Airy function ``1 / (1 + (2 F / pi)^2 sin^2(pi 2d / lambda))`` over the interval of a point.
    """
    from scipy.interpolate import CubicSpline

    from apero_dask.simulator.spectrum_kernels import airy_mean

    # The path is smooth on the scale of nm: a cubic through every 64th point keeps 1e-12 of it.
    knots = np.unique(np.r_[np.arange(0, len(wave), 64), len(wave) - 1])
    path = CubicSpline(wave[knots], optical_path(config, seed, wave[knots], cavity_ms, epoch_days))(wave)
    return airy_mean(path / wave, config.finesse)


def lamp_rate(
    config: SourcesConfig, lines: LampLines, wave: np.ndarray, kms_per_column: np.ndarray
) -> np.ndarray:
    """Uranium-neon lamp, e-/s per column: Gaussian lines on a weak continuum."""
    from apero_dask.simulator.spectrum_kernels import add_gaussians

    sigma = config.hc_fwhm_kms / FWHM_PER_SIGMA
    flux = lines.strength * config.hc_electrons / config.hc_exposure_s
    out = np.zeros_like(wave)
    near = lines_near(lines.wave, wave, 50.0)
    density = flux[near] / (np.sqrt(2 * np.pi) * sigma)
    add_gaussians(out, wave, lines.wave[near], density, np.full(len(density), sigma))
    out *= kms_per_column
    return out + config.hc_continuum * np.percentile(flux, 90)


def thermal_rate(config: SourcesConfig, fibre: int, wave: np.ndarray, temperature_k: float) -> np.ndarray:
    """Thermal light of the fibre train in fibre 0, 1, 2 (A, B, C), e-/s per column."""
    scale = planck_photons(np.array(2450.0), 283.0)
    return config.thermal_rate[fibre] * planck_photons(wave, temperature_k) / scale
