"""Earth's atmosphere: telluric absorption, night-sky lines, thermal sky."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from apero_dask.simulator.lines import lines_near, sky_list, telluric_list
from apero_dask.simulator.settings import setting, switch
from apero_dask.simulator.sources import C_KMS, FWHM_PER_SIGMA, planck_photons
from apero_dask.simulator.streams import stream

if TYPE_CHECKING:
    from apero_dask.simulator.lines import LinesConfig


@dataclass(frozen=True)
class AtmosphereConfig:
    """Absorption by water and dry air, OH lines, thermal sky."""

    water: bool = switch(True, "Absorption by water vapour.")
    dry: bool = switch(True, "Absorption by all other gases.")
    reference_pwv_mm: float = setting(2.0, "Water column to which optical depths belong.", unit="mm", above=0)
    water_depth: float = setting(60.0, "Optical depth of a water line per unit of weight.", minimum=0)
    dry_depth: float = setting(40.0, "Optical depth of a dry line per unit of weight.", minimum=0)
    hwhm_kms: float = setting(
        1.5, "Half width of lines at 1000 nm, growing as wavelength.", unit="km/s", above=0.2
    )
    wing_kms: float = setting(300.0, "Wings end here at the latest.", unit="km/s", minimum=20, maximum=3000)
    wing_depth: float = setting(3e-5, "Wings end at this optical depth.", above=0, maximum=0.01)
    wind: bool = switch(True, "Shift telluric lines by the wind of the exposure.")
    sky_lines: bool = switch(True, "OH lines in frames that see the sky.")
    sky_electrons: float = setting(
        500.0, "Electrons of the brightest line in one science fibre.", unit="e-", minimum=0
    )
    sky_exposure_s: float = setting(300.0, "Exposure to which the level belongs.", unit="s", above=0)
    sky_fwhm_kms: float = setting(1.0, "Intrinsic FWHM of OH lines.", unit="km/s", minimum=0.6, maximum=20)
    sky_variation: float = setting(
        0.3, "Rms of the change of a vibrational band from night to night (log).", minimum=0, maximum=2
    )
    sky_fibre_ratio: float = setting(1.02, "Sky in B over sky in A.", above=0)
    thermal_sky: bool = switch(True, "Thermal emission of the sky.")
    thermal_sky_rate: float = setting(
        0.8,
        "Thermal sky of emissivity 1 in one science fibre at 2450 nm, 283 K.",
        unit="e-/s/column",
        minimum=0,
    )
    thermal_sky_k: float = setting(
        268.0, "Temperature of the emitting air.", unit="K", minimum=150, maximum=330
    )
    telescope_excess: bool = switch(True, "Structured excess emission when fibres see the telescope.")
    telescope_excess_maximum: float = setting(
        0.05, "Largest excess over fibre emission.", minimum=0, maximum=1
    )
    telescope_excess_nm: float = setting(1800.0, "Wavelength from which on it is seen.", unit="nm")
    dark_sky: bool = switch(True, "DARK_DARK_TEL frames see the sky.")


def optical_depths(
    config: AtmosphereConfig, lists: LinesConfig, wave: np.ndarray, wind_ms: float
) -> tuple[np.ndarray, np.ndarray]:
    """Optical depths of water (reference column) and dry air at airmass 1, on rising wavelengths in nm.

    Parameters
    ----------
    wind_ms
        Velocity of the lines, m/s; positive moves them to the red.
    """
    from apero_dask.simulator.spectrum_kernels import add_lorentzians

    lines = telluric_list(lists.folder)
    shift = 1 + (wind_ms / 1e3 / C_KMS if config.wind else 0.0)
    near = lines_near(lines.wave * shift, wave, config.wing_kms)
    depths = []
    for group, used, scale in (
        ("h2o", config.water, config.water_depth),
        ("dry", config.dry, config.dry_depth),
    ):
        depth = np.zeros_like(wave)
        if used:
            pick = lines.group[near] == group
            line = lines.wave[near][pick]
            hwhm = config.hwhm_kms * line / 1000.0
            strength = scale * lines.strength[near][pick]
            # Wings also end where the Lorentzian has fallen to the smallest depth of interest.
            wing = hwhm * np.sqrt(np.maximum(strength / config.wing_depth, 4.0))
            reach = np.minimum(wing, config.wing_kms)
            add_lorentzians(depth, wave, line * shift, strength, hwhm, reach)
        depths.append(depth)
    return depths[0], depths[1]


def transmission(
    config: AtmosphereConfig, depths: tuple[np.ndarray, np.ndarray], pwv_mm: float, airmass: float
) -> np.ndarray:
    """``exp(-airmass (PWV / PWV0 tau_h2o + tau_dry))``: a power law in both columns."""
    return np.exp(-airmass * (pwv_mm / config.reference_pwv_mm * depths[0] + depths[1]))


def sky_rate(
    config: AtmosphereConfig,
    lists: LinesConfig,
    seed: int,
    obs_dir: str,
    fibre: int,
    wave: np.ndarray,
    kms_per_column: np.ndarray,
    zenith_transmission: np.ndarray,
) -> np.ndarray:
    """Night-sky lines and thermal sky in a science fibre (0 = A, 1 = B), e-/s per column before blaze.

    Parameters
    ----------
    obs_dir
        Night: with the seed it decides the brightness of each vibrational band.
    zenith_transmission
        Transmission of the air that emits; its emissivity is one minus that.
    """
    from apero_dask.simulator.spectrum_kernels import add_gaussians

    out = np.zeros_like(wave)
    ratio = config.sky_fibre_ratio if fibre == 1 else 1.0
    if config.sky_lines:
        lines = sky_list(lists.folder)
        near = lines_near(lines.wave, wave, 50.0)
        bands = band_factors(config, seed, obs_dir, tuple(np.unique(lines.group)))
        factor = np.array([bands[g] for g in lines.group[near]])
        sigma = config.sky_fwhm_kms / FWHM_PER_SIGMA
        flux = (
            lines.strength[near]
            / lines.strength.max()
            * config.sky_electrons
            / config.sky_exposure_s
            * factor
        )
        add_gaussians(
            out, wave, lines.wave[near], flux / (np.sqrt(2 * np.pi) * sigma), np.full(len(flux), sigma)
        )
        out *= kms_per_column
    if config.thermal_sky:
        scale = planck_photons(np.array(2450.0), 283.0)
        air = planck_photons(wave, config.thermal_sky_k) / scale
        out += config.thermal_sky_rate * air * (1 - zenith_transmission)
    return out * ratio


def band_factors(
    config: AtmosphereConfig, seed: int, obs_dir: str, bands: tuple[str, ...]
) -> dict[str, float]:
    """Brightness of the vibrational bands in one night, 1 on average of the logarithm."""
    draw = stream(seed, f"sky bands {obs_dir}")
    return {band: float(np.exp(config.sky_variation * draw.standard_normal())) for band in sorted(bands)}


def telescope_emissivity(
    config: AtmosphereConfig, wave: np.ndarray, zenith_transmission: np.ndarray
) -> np.ndarray:
    """Factor on the thermal light of the fibres when they see the telescope: 1 plus molecular emission."""
    if not config.telescope_excess:
        return np.ones_like(wave)
    onset = 0.5 * (1 + np.tanh((wave - config.telescope_excess_nm) / 5.0))
    return 1 + config.telescope_excess_maximum * onset * (1 - zenith_transmission)
