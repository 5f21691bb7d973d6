"""Fabry-Perot etalon: optical path as a function of wavelength, night and epoch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.polynomial import chebyshev

from apero_dask.simulator.settings import setting, switch
from apero_dask.simulator.streams import stream

C_MS = 299792458.0
PEDESTAL_NM = 24498000.0
DOMAIN_NM = (965.0, 2500.0)
# Twice the cavity length of SPIRou's etalon minus the pedestal, Chebyshev series on DOMAIN_NM: measured, from
# the calibration files distributed with APERO (MIT licence, copyright 2018 Neil James Cook).
SERIES_NM = (
    -519.92190, -1058.80439, -694.63498, 209.01173, 109.00010,
    -25.36266, 6.27509, 15.53371, 2.04780, -5.86439,
)  # fmt: skip


@dataclass(frozen=True)
class CavityConfig:
    """Fabry-Perot etalon."""

    finesse: float = setting(
        25.0,
        "Finesse; 25 reproduces measured widths of the lines and contrast of their cross-correlation, the "
        "published 12.8 makes lines 4 to 7 per cent too wide beyond 1200 nm.",
        origin="measured",
        above=1,
        maximum=1000,
    )
    night_drift: bool = switch(True, "Use the cavity factor of the night.")
    displacement: bool = switch(True, "Displace the cavity of the campaign from the first guess.")
    displacement_ms: float = setting(150.0, "Achromatic displacement.", unit="m/s")
    displacement_chromatic_ms: float = setting(
        40.0, "Rms of a smooth chromatic displacement (degree 3).", unit="m/s", minimum=0
    )
    chromatic_drift: bool = switch(False, "Let the chromatic shape drift with time.")
    chromatic_drift_amplitude: float = setting(
        5e-10, "Relative amplitude of the drift in 100 days.", minimum=0
    )
    chromatic_drift_period_nm: float = setting(
        300.0, "Period of the drift in wavelength.", unit="nm", above=0
    )


def optical_path(
    config: CavityConfig, seed: int, wave_nm: np.ndarray, cavity_ms: float, epoch_days: float
) -> np.ndarray:
    """Twice the cavity length in nm at vacuum wavelengths `wave_nm`.

    Parameters
    ----------
    cavity_ms
        Factor of the night, 1 + cavity_ms / c.
    epoch_days
        Days since the reference epoch, for the chromatic drift.
    """
    u = (2 * wave_nm - DOMAIN_NM[0] - DOMAIN_NM[1]) / (DOMAIN_NM[1] - DOMAIN_NM[0])
    path = PEDESTAL_NM + chebyshev.chebval(u, SERIES_NM)
    if config.displacement:
        shape = stream(seed, "cavity").standard_normal(3)
        # Rms of the Chebyshev terms over the interval is near 1/sqrt(2) each.
        shape *= config.displacement_chromatic_ms / np.sqrt(1.5)
        path = path * (1 + chebyshev.chebval(u, [config.displacement_ms, *shape]) / C_MS)
    if config.night_drift:
        path = path * (1 + cavity_ms / C_MS)
    if config.chromatic_drift:
        wave = np.sin(2 * np.pi * wave_nm / config.chromatic_drift_period_nm)
        path = path * (1 + config.chromatic_drift_amplitude * wave * epoch_days / 100.0)
    return path
