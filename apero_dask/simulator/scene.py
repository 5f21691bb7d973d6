"""Stars as the spectrograph sees them: M dwarfs with exact Doppler shift, hot telluric standards."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from apero_dask.simulator.lines import lines_near, star_list
from apero_dask.simulator.optics import throughput
from apero_dask.simulator.settings import setting, switch
from apero_dask.simulator.sources import C_KMS, FWHM_PER_SIGMA, planck_photons
from apero_dask.simulator.streams import stream

if TYPE_CHECKING:
    from apero_dask.simulator.lines import LinesConfig
    from apero_dask.simulator.optics import OpticsConfig
    from apero_dask.simulator.spec import FrameSpec, Target

RYDBERG_NM = 91.1763349
"""1 / R of hydrogen in vacuum nm: wavelength of n -> m is that over (1/m^2 - 1/n^2)."""
# Broad absorption of an M dwarf: centre nm, half width nm, depth; water, FeH, TiO and CO, freely after
# the appearance of spectral types M3 to M5.
BANDS = (
    (993.0, 9.0, 0.12), (1110.0, 25.0, 0.05), (1200.0, 20.0, 0.06), (1400.0, 55.0, 0.20),
    (1890.0, 90.0, 0.25), (2320.0, 25.0, 0.14), (2400.0, 50.0, 0.16), (2560.0, 90.0, 0.25),
)  # fmt: skip


@dataclass(frozen=True)
class SceneConfig:
    """Stellar spectra and how their light reaches the two science fibres."""

    star: bool = switch(True, "Light of the target; off = sky only.")
    star_lines: bool = switch(True, "Absorption lines of the target.")
    clean_lines_only: bool = switch(False, "Only lines flagged clean.")
    molecular_bands: bool = switch(True, "Broad molecular bands of M dwarfs.")
    doppler: bool = switch(True, "Shift the target by its velocity and the motion of the Earth.")
    line_fwhm_kms: float = setting(
        3.5, "Intrinsic FWHM of M-dwarf lines.", unit="km/s", above=0.5, maximum=50
    )
    beam_ratio: float = setting(0.95, "Mean flux of fibre A over fibre B.", above=0)
    beam_ratio_rms: float = setting(0.03, "Rms of that ratio from frame to frame.", minimum=0, maximum=0.3)
    polarimetry: bool = switch(True, "Circular polarisation in POLAR frames of M dwarfs.")
    polarisation_ms: float = setting(
        100.0,
        "The two beams are displaced by plus and minus this velocity.",
        unit="m/s",
        minimum=-20000,
        maximum=20000,
    )
    hot_depth: float = setting(
        0.25, "Depth of the deepest hydrogen line of a hot star.", minimum=0, maximum=0.95
    )
    hot_fwhm_kms: float = setting(
        500.0, "FWHM of hydrogen lines of a hot star without rotation.", unit="km/s", above=10
    )


def doppler(v_kms: float) -> float:
    """Wavelength received over emitted for a source that recedes at v: ``sqrt((1 + v/c) / (1 - v/c))``."""
    beta = v_kms / C_KMS
    return float(np.sqrt((1 + beta) / (1 - beta)))


def observed_factor(rv_kms: float, berv_kms: float) -> float:
    """Observed over rest wavelength of a star of barycentric velocity rv; berv > 0 = observer approaches."""
    return doppler(rv_kms) / doppler(berv_kms)


def beam_shares(config: SceneConfig, seed: int, index: int) -> tuple[float, float]:
    """Fractions of the light of the target in A and B for one exposure."""
    ratio = config.beam_ratio + config.beam_ratio_rms * stream(seed, "beams", index).standard_normal()
    return ratio / (1 + ratio), 1 / (1 + ratio)


def polarisation_sign(position: int, fibre: int) -> int:
    """Sense of the displacement of a beam: A plus at positions 1 and 4, minus at 2 and 3; B the opposite."""
    if position == 0:
        return 0
    return (1 if position in (1, 4) else -1) * (1 if fibre == 0 else -1)


def star_continuum(config: SceneConfig, optics: OpticsConfig, target: Target, wave: np.ndarray) -> np.ndarray:
    """Smooth spectrum of a target times the throughput, photons per column, arbitrary unit."""
    spectrum = planck_photons(wave, target.teff_k) * throughput(optics, wave)
    if target.kind == "mdwarf" and config.molecular_bands:
        for centre, width, depth in BANDS:
            spectrum = spectrum * (1 - depth * np.exp(-0.5 * ((wave - centre) / width) ** 2))
    return spectrum


def star_lines(
    config: SceneConfig, optics: OpticsConfig, lists: LinesConfig, target: Target, rest_wave: np.ndarray
) -> np.ndarray:
    """Absorption lines of a target, 1 in the continuum, on rising rest wavelengths in nm."""
    if not config.star_lines:
        return np.ones_like(rest_wave)
    if target.kind == "mdwarf":
        return _mdwarf_lines(config, optics, lists, target, rest_wave)
    return _hydrogen_lines(config, target, rest_wave)


def _mdwarf_lines(
    config: SceneConfig, optics: OpticsConfig, lists: LinesConfig, target: Target, rest_wave: np.ndarray
) -> np.ndarray:
    """Product of (1 - depth g); depths such that after the line spread they are those of the list.

    Rotation widens the Gaussian in quadrature by 1.6 v sin i (FWHM of a rotation profile with limb darkening
    0.6) at constant equivalent width.
    """
    from apero_dask.simulator.spectrum_kernels import multiply_gaussians

    lines = star_list(lists.folder)
    near = lines_near(lines.wave, rest_wave, 200.0)
    keep = np.ones(near.stop - near.start, dtype=bool)
    if config.clean_lines_only:
        keep = lines.group[near] == "1"
    fwhm = np.hypot(config.line_fwhm_kms, 1.6 * target.vsini_kms)
    seen = np.hypot(config.line_fwhm_kms, optics.lsf_fwhm_kms)
    depth = np.minimum(lines.strength[near][keep] * seen / fwhm, 0.98)
    out = np.ones_like(rest_wave)
    multiply_gaussians(out, rest_wave, lines.wave[near][keep], depth, fwhm / FWHM_PER_SIGMA)
    return out


def _hydrogen_lines(config: SceneConfig, target: Target, rest_wave: np.ndarray) -> np.ndarray:
    """Paschen and Brackett lines up to n = 20, broad, weaker towards the series limit."""
    draw = stream(target.spectrum_seed, "hot star").uniform(0.8, 1.2, (2, 32))
    fwhm = np.hypot(config.hot_fwhm_kms, 1.6 * target.vsini_kms)
    out = np.ones_like(rest_wave)
    for series, lower in enumerate((3, 4)):
        for upper in range(lower + 1, 21):
            centre = RYDBERG_NM / (lower**-2 - upper**-2)
            depth = (
                config.hot_depth * draw[series, upper] * (lower + 1) / upper * (0.8 if lower == 4 else 1.0)
            )
            v = (rest_wave / centre - 1) * C_KMS / fwhm
            # Half Gaussian core, half Lorentzian (Stark) wings.
            out *= 1 - min(depth, 0.98) * 0.5 * (np.exp(-4 * np.log(2) * v * v) + 1 / (1 + 4 * v * v))
    return out


def star_level(
    config: SceneConfig, optics: OpticsConfig, spec: FrameSpec, middle_wave: float, middle_blaze: float
) -> float:
    """Factor from `star_continuum` to e-/s per column of A plus B.

    At ``middle_wave``, where the blaze is ``middle_blaze``, the continuum collects ``target.snr`` squared
    electrons in the exposure.
    """
    assert spec.target is not None
    electrons = spec.target.snr**2
    continuum = float(star_continuum(config, optics, spec.target, np.array(middle_wave)))
    return electrons / spec.exptime_s / (continuum * middle_blaze)
