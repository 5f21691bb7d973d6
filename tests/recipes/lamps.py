"""Spectra of both lamps as a perfect extraction would give them, with noise, and the truth behind them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from scipy.interpolate import CubicSpline

from apero_dask.recipes.wave_solution import LampSpectra
from apero_dask.simulator.campaign import CampaignConfig
from apero_dask.simulator.cavity import CavityConfig, optical_path
from apero_dask.simulator.config import SimulatorConfig
from apero_dask.simulator.lines import LinesConfig
from apero_dask.simulator.paint import paint
from apero_dask.simulator.runner import campaign_of
from apero_dask.simulator.spec import FrameSpec

C_MS = 299792458.0
FIBRES = {"AB": (0, 1), "A": (0,), "B": (1,), "C": (2,)}
READ_ELECTRONS = 30.0  # noise per column of one fibre in one exposure: 13 rows at 8 e-
RAMP = 1.2  # variance of a long ramp over that of counting
FULL_PEAKS, FULL_LINES = 26786, 4000
"""Fabry-Perot peaks and lamp lines of one fibre of the full instrument."""


@dataclass(frozen=True)
class Night:
    """Lamps of one night."""

    spectra: dict[str, LampSpectra]
    wave: dict[str, np.ndarray]
    """True vacuum nm, float64[order, x]; of AB the mean of A and B, whose light it adds."""
    blaze: dict[str, np.ndarray]
    fwhm_px: np.ndarray
    """Line spread of fibre A."""
    lamp: np.ndarray
    """Lines of the lamp, as painted."""
    config: SimulatorConfig
    fp: FrameSpec

    def cavity_length(self, wave: np.ndarray) -> np.ndarray:
        """True 2d in nm."""
        return optical_path(self.config.cavity, self.config.seed, wave, self.fp.cavity_ms, self.fp.epoch_days)

    def error(self, fibre: str, wave: np.ndarray) -> np.ndarray:
        """Error of a map in m/s."""
        return C_MS * (wave - self.wave[fibre]) / self.wave[fibre]


def configuration(seed: int, instrument: str = "SPIROU_MINI", **sections: object) -> SimulatorConfig:
    return SimulatorConfig(
        instrument=instrument, seed=seed, campaign=CampaignConfig(name="worked"), **sections
    )


@lru_cache(maxsize=8)
def lamps(
    seed: int,
    night: int = 0,
    *,
    catalogue_errors: bool = True,
    cavity_ms: float | None = None,
    noise: int = 0,
    instrument: str = "SPIROU_MINI",
) -> Night:
    """Both lamps of a night of the campaign.

    Parameters
    ----------
    catalogue_errors
        Wrong and blended lines in the catalogue.
    cavity_ms
        Cavity of the night instead of that of the campaign.
    noise
        Another draw of the noise.
    instrument
        The full one takes minutes.
    """
    lines = LinesConfig(catalogue_errors=catalogue_errors, blends=catalogue_errors)
    config = configuration(seed, instrument, lines=lines, cavity=CavityConfig())
    frames = campaign_of(config, velocities=False).frames
    nights = sorted({spec.obs_dir for spec in frames if spec.dprtype == "FP_FP"})
    fps, hcs = (
        [s for s in frames if s.obs_dir == nights[night] and s.dprtype == kind]
        for kind in ("FP_FP", "HCONE_HCONE")
    )
    fp, hc = fps[0], hcs[0]
    if cavity_ms is not None:
        fp, hc = replace(fp, cavity_ms=cavity_ms), replace(hc, cavity_ms=cavity_ms)
    truths = {kind: paint(config, spec).truth for kind, spec in (("fp", fp), ("hc", hc))}
    rng = np.random.default_rng([seed, night, noise])

    def exposed(kind: str, fibres: tuple[int, ...], count: int) -> tuple[np.ndarray, np.ndarray]:
        light = sum(truths[kind].spectra[kind][f] for f in fibres)
        thermal = sum(truths[kind].spectra["thermal"][f] for f in fibres)
        var = (RAMP * (light + thermal) + READ_ELECTRONS**2 * len(fibres)) / count
        return light + np.sqrt(var) * rng.standard_normal(light.shape), var

    spectra = {
        name: LampSpectra(*exposed("fp", fibres, len(fps)), *exposed("hc", fibres, len(hcs)))
        for name, fibres in FIBRES.items()
    }
    truth = truths["fp"]
    return Night(
        spectra=spectra,
        wave={name: truth.wave_nm[list(f)].mean(axis=0) for name, f in FIBRES.items()},
        blaze={name: truth.blaze[list(f)].mean(axis=0) for name, f in FIBRES.items()},
        fwhm_px=truth.lsf_fwhm_px[0],
        lamp=truths["hc"].lamp,
        config=config,
        fp=fp,
    )


def true_numbers(night: Night, fibre: str, order: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Numbers of peaks at columns `x`, not rounded, from the true map and the true cavity."""
    grid = np.arange(night.wave[fibre].shape[1])
    lam = np.array([np.interp(c, grid, night.wave[fibre][o]) for o, c in zip(order, x, strict=True)])
    return night.cavity_length(lam) / lam


def true_columns(night: Night, fibre: str, order: np.ndarray, number: np.ndarray) -> np.ndarray:
    """Columns at which peaks of given numbers fall, from the true map and the true cavity."""
    lam = 24.498e6 / number
    for _ in range(8):
        lam = night.cavity_length(lam) / number
    x = np.full(number.size, np.nan)
    for o in np.unique(order):
        rows = order == o
        inverse = CubicSpline(night.wave[fibre][o], np.arange(night.wave[fibre].shape[1]))
        x[rows] = inverse(lam[rows])
    return x
