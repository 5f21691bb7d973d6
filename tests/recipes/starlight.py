"""Spectra of stars as a perfect extraction would give them, drawn in memory from the simulator."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from apero_dask.recipes.wave_maps import WaveMap
from apero_dask.simulator import paint
from apero_dask.simulator.campaign import CampaignConfig
from apero_dask.simulator.config import SimulatorConfig
from apero_dask.simulator.runner import campaign_of
from apero_dask.simulator.spec import FrameSpec
from apero_dask.simulator.spectra import SUB, Exposure
from apero_dask.simulator.targets import GL699

READ_ELECTRONS = 42.0  # noise per column of both science fibres: 33 rows at 7 e-
RAMP = 1.2  # variance of a long ramp over that of counting


def configuration(seed: int = 1, instrument: str = "SPIROU_MINI", **sections: object) -> SimulatorConfig:
    return SimulatorConfig(
        instrument=instrument, seed=seed, campaign=CampaignConfig(name="worked"), **sections
    )


@dataclass(frozen=True)
class Star:
    """Noise-free spectra of one exposure; float64[order, x]."""

    flux: np.ndarray
    """Light of A plus B, electrons per exposure and column, no atmosphere."""
    transmission: np.ndarray
    wave: np.ndarray
    """Vacuum nm, mean of A and B."""
    blaze: np.ndarray
    comb: np.ndarray
    """Fabry-Perot of fibre C, electrons."""
    wave_c: np.ndarray
    blaze_c: np.ndarray
    spec: FrameSpec

    @property
    def variance(self) -> np.ndarray:
        return RAMP * self.flux + READ_ELECTRONS**2

    def exposed(self, noise: int) -> np.ndarray:
        """One draw of the noise."""
        rng = np.random.default_rng([noise, self.spec.index])
        return self.flux + np.sqrt(self.variance) * rng.standard_normal(self.flux.shape)


@lru_cache(maxsize=64)
def star(
    seed: int = 1,
    *,
    berv: float = 0.0,
    rv: float = -110.1,
    snr: float = 150.0,
    dx: float = 0.0,
    cavity_ms: float = 0.0,
    kind: str = "mdwarf",
    instrument: str = "SPIROU_MINI",
) -> Star:
    """An exposure of Gl 699.

    Parameters
    ----------
    dx
        Displacement of all light along the dispersion, px.
    """
    config = configuration(seed, instrument)
    spec = frame(seed, instrument)
    target = replace(GL699.target, snr=snr, kind=kind, **({"teff_k": 10000.0} if kind == "hot" else {}))
    affine = replace(spec.affine, dx=spec.affine.dx + dx)
    spec = replace(
        spec, berv_kms=berv, rv_kms=rv, target=target, affine=affine, cavity_ms=spec.cavity_ms + cavity_ms
    )
    exposure = Exposure(config, spec)
    maps = exposure.epoch.maps
    known = [list(maps.echelle).index(m) for m in exposure.epoch.geometry.echelle]
    planes: dict[str, list[np.ndarray]] = {"flux": [], "transmission": [], "comb": []}
    for order in known:
        kernels = [paint._kernels(exposure, fibre, order) for fibre in range(3)]
        light = [exposure.light(fibre, order) for fibre in range(3)]
        stars = [_columns(light[f].star_clean, kernels[f]) for f in (0, 1)]
        planes["flux"].append(sum(stars) * spec.exptime_s)
        planes["transmission"].append(_columns(light[0].transmission, kernels[0]))
        planes["comb"].append(_columns(light[2].components()["fp"].density, kernels[2]) * spec.exptime_s)
    inside = slice(-np.int64(maps.x[0]), None)
    nx = planes["flux"][0].size
    wave = maps.wave[:, known, inside][:, :, :nx]
    blaze = exposure.epoch.blaze[:, known, inside][:, :, :nx]
    arrays = {name: np.array(rows) for name, rows in planes.items()}
    return Star(
        **arrays,
        wave=wave[:2].mean(axis=0),
        blaze=blaze[:2].mean(axis=0),
        wave_c=wave[2],
        blaze_c=blaze[2],
        spec=spec,
    )


@lru_cache
def frame(seed: int, instrument: str = "SPIROU_MINI") -> FrameSpec:
    """First exposure of Gl 699 with the comb in fibre C."""
    frames = campaign_of(configuration(seed, instrument), velocities=False).frames
    return next(s for s in frames if s.dprtype == "OBJ_FP" and s.target and s.target.name == "Gl699")


def _columns(density: np.ndarray, kernels: np.ndarray) -> np.ndarray:
    """Integral over every column of the calibrated frame after the line spread."""
    from apero_dask.simulator.spectrum_kernels import spread

    return paint._Light.of(spread(density, kernels, SUB)).columns


def wave_map_of(wave: np.ndarray) -> WaveMap:
    """Series of degree 7 through true wavelengths."""
    nx = wave.shape[1]
    u = 2.0 * np.arange(nx) / nx - 1.0
    return WaveMap(np.polynomial.chebyshev.chebfit(u, wave.T, 7).T, nx)
