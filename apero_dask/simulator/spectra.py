"""What each fibre sees in one exposure, as densities on the fine column grid of an order."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING

import numpy as np

from apero_dask.simulator import atmosphere, scene, sources
from apero_dask.simulator.frametypes import frame_types
from apero_dask.simulator.lines import lamp_lines
from apero_dask.simulator.optics import blaze, lsf_fwhm_px
from apero_dask.simulator.settings import ConfigError
from apero_dask.simulator.tables import load_instrument
from apero_dask.simulator.traces import order_maps

if TYPE_CHECKING:
    from apero_dask.simulator.config import SimulatorConfig
    from apero_dask.simulator.lines import LampLines
    from apero_dask.simulator.optics import OpticsConfig
    from apero_dask.simulator.spec import Affine, FrameSpec
    from apero_dask.simulator.tables import Geometry, GeometryConfig, OrderTable
    from apero_dask.simulator.traces import OrderMaps

SUB = 10
"""Points of the fine grid per column."""
C_KMS = 299792.458
SEEN = ("dark", "flat", "fp", "hc1", "star", "sky")
"""Light that can be painted; frame types with another source are refused."""


@dataclass(frozen=True, eq=False)
class Epoch:
    """Optics at one position of the light: shared by all frames with the same affine motion."""

    geometry: Geometry
    table: OrderTable
    maps: OrderMaps
    blaze: np.ndarray
    """(fibre, order, column)."""
    fwhm_px: np.ndarray
    """(fibre, order, column): FWHM of the line spread, px."""


@lru_cache(maxsize=2)
def epoch(optics: OpticsConfig, seed: int, instrument: str, window: GeometryConfig, affine: Affine) -> Epoch:
    """Maps, blaze and line spread of an epoch; the last two are kept in memory."""
    geometry, table = load_instrument(instrument, window)
    maps = order_maps(optics, seed, geometry, table, affine)
    return Epoch(
        geometry=geometry,
        table=table,
        maps=maps,
        blaze=blaze(optics, seed, geometry.blaze_constant_nm, maps),
        fwhm_px=lsf_fwhm_px(optics, seed, maps),
    )


@dataclass(frozen=True, eq=False)
class Component:
    """One kind of light in one fibre and order: e-/s per column on the fine grid."""

    density: np.ndarray
    smooth: bool = False
    """Varies so slowly along the order that the line spread leaves it unchanged (to 1e-5)."""


class Exposure:
    """Light of one exposure before line spread and pixels.

    Parameters
    ----------
    config
        All sections of the simulator.
    spec
        The exposure.

    Raises
    ------
    ConfigError
        The frame type is unknown or needs a source that the simulator lacks, or a star frame has no target.
    """

    def __init__(self, config: SimulatorConfig, spec: FrameSpec) -> None:
        self.config = config
        self.spec = spec
        kind = frame_types().get(spec.dprtype)
        if kind is None:
            raise ConfigError(
                f"Frame {spec.identifier}: frame type {spec.dprtype!r} is unknown; "
                f"use one of {', '.join(frame_types())}."
            )
        self.seen = (kind.science, kind.science, kind.reference)
        for source in self.seen:
            if source not in SEEN:
                raise ConfigError(
                    f"Frame {spec.identifier}: {spec.dprtype} needs the source {source!r}, which is not "
                    f"simulated; use frame types made of {', '.join(SEEN)}."
                )
        if kind.science == "star" and (spec.target is None or spec.target.kind == "sky"):
            raise ConfigError(
                f"Frame {spec.identifier}: {spec.dprtype} needs a star; "
                "give the specification a target of kind 'mdwarf' or 'hot'."
            )
        self.on_sky = kind.is_object
        self.sees_telescope = kind.is_object or spec.dprtype == "DARK_DARK_TEL"
        self.epoch = epoch(config.optics, config.seed, config.instrument, config.geometry, spec.affine)
        self.lamp = 0.0 if "no_light" in spec.faults else spec.lamp_factor
        if "saturated" in spec.faults:
            self.lamp *= config.sources.saturated_factor
        self.beams = scene.beam_shares(config.scene, config.seed, spec.index)

    @cached_property
    def lamp_lines(self) -> LampLines:
        """Lamp lines of the campaign."""
        return lamp_lines(self.config.lines, self.config.seed)

    @cached_property
    def star_level(self) -> float:
        """Factor from the stellar continuum to e-/s per column of A plus B."""
        maps, geometry = self.epoch.maps, self.epoch.geometry
        order = list(maps.echelle).index(geometry.snr_telluric)
        middle = np.array(maps.wave_middle[order])
        blaze_middle = np.interp(middle, maps.wave[0, order], self.epoch.blaze[0, order])
        return scene.star_level(self.config.scene, self.config.optics, self.spec, middle, float(blaze_middle))

    @property
    def star_factor(self) -> float:
        """Observed over rest wavelength of the target."""
        if not self.config.scene.doppler:
            return 1.0
        return scene.observed_factor(self.spec.rv_kms, self.spec.berv_kms)

    def polarisation_kms(self, fibre: int) -> float:
        """Displacement of a beam by the magnetic field of the target, km/s."""
        section = self.config.scene
        polar = section.polarimetry and self.spec.target is not None and self.spec.target.kind == "mdwarf"
        sign = scene.polarisation_sign(self.spec.polar_position, fibre) if polar else 0
        return sign * section.polarisation_ms / 1e3

    def light(self, fibre: int, order: int) -> OrderLight:
        """Light of one fibre (0, 1, 2 = A, B, C) in one order of the maps."""
        return OrderLight(self, fibre, order)


class OrderLight:
    """Light of one fibre in one order; see `Exposure`."""

    def __init__(self, exposure: Exposure, fibre: int, order: int) -> None:
        from apero_dask.simulator.spectrum_kernels import chebyshev_on_grid

        self.exposure, self.fibre, self.order = exposure, fibre, order
        maps = exposure.epoch.maps
        self.x = maps.x
        self.points = (len(maps.x) - 1) * SUB + 1
        # Terms below 1e-13 nm are rounding.
        series = maps.wave_series[fibre, order]
        series = series[: np.flatnonzero(np.abs(series) > 1e-13)[-1] + 1]
        self.wave = chebyshev_on_grid(series, maps.x[0], maps.x[-1], maps.x[0], 1.0 / SUB, self.points)
        self.node_wave = maps.wave[fibre, order]
        self.kms_per_column = C_KMS * np.gradient(self.wave) * SUB / self.wave
        self.blaze = self.fine(exposure.epoch.blaze[fibre, order])

    def fine(self, values: np.ndarray) -> np.ndarray:
        """Smooth values at the columns brought to the fine grid (linear)."""
        return np.interp(np.arange(self.points) / SUB, np.arange(len(self.x)), values)

    def components(self) -> dict[str, Component]:
        """All light of the fibre by kind: flat, fp, hc, star, sky, thermal; e-/s per column with blaze."""
        seen = self.exposure.seen[self.fibre]
        found: dict[str, Component] = {}
        if seen in ("flat", "fp", "hc1"):
            make = {"flat": self._flat, "fp": self._fp, "hc1": self._hc}[seen]
            component = make()
            if component is not None:
                found["hc" if seen == "hc1" else seen] = component
        science = self.fibre < 2
        if seen == "star" and self.exposure.config.scene.star:
            found["star"] = Component(self.star_clean * self.transmission)
        dark_sky = self.exposure.config.atmosphere.dark_sky and self.exposure.spec.dprtype == "DARK_DARK_TEL"
        if science and (seen in ("star", "sky") or dark_sky):
            found["sky"] = Component(self._sky())
        if self.exposure.config.sources.thermal:
            found["thermal"] = self._thermal()
        return found

    def _flat(self) -> Component | None:
        config = self.exposure.config
        if not config.sources.flat:
            return None
        rate = sources.flat_rate(config.sources, config.optics, self.node_wave)
        return Component(self.exposure.lamp * self.fine(rate) * self.blaze, smooth=True)

    def _fp(self) -> Component | None:
        config, spec = self.exposure.config, self.exposure.spec
        if not config.sources.fp:
            return None
        mean = sources.fp_mean_rate(config.sources, self.node_wave, *self.exposure.epoch.table.fp_series)
        comb = sources.fp_comb(config.cavity, config.seed, self.wave, spec.cavity_ms, spec.epoch_days)
        dimmed = (
            config.sources.fp_exposure_s / config.sources.fp_simultaneous_s if self.exposure.on_sky else 1.0
        )
        return Component(self.exposure.lamp * dimmed * self.fine(mean) * comb * self.blaze)

    def _hc(self) -> Component | None:
        config = self.exposure.config
        if not config.sources.hc:
            return None
        rate = sources.lamp_rate(config.sources, self.exposure.lamp_lines, self.wave, self.kms_per_column)
        return Component(self.exposure.lamp * rate * self.blaze)

    @cached_property
    def star_clean(self) -> np.ndarray:
        """Light of the target without atmosphere, e-/s per column with blaze, line spread not applied."""
        exposure, config, target = self.exposure, self.exposure.config, self.exposure.spec.target
        factor = exposure.star_factor * scene.doppler(exposure.polarisation_kms(self.fibre))
        continuum = scene.star_continuum(config.scene, config.optics, target, self.node_wave)
        if target.kind == "mdwarf":
            lines = scene.star_lines(config.scene, config.optics, config.lines, target, self.wave / factor)
        else:
            rest = self.node_wave / factor
            lines = self.fine(scene.star_lines(config.scene, config.optics, config.lines, target, rest))
        share = exposure.star_level * exposure.beams[self.fibre]
        return share * self.fine(continuum) * lines * self.blaze

    @cached_property
    def depths(self) -> tuple[np.ndarray, np.ndarray]:
        """Optical depths of water and dry air at airmass 1."""
        config = self.exposure.config
        return atmosphere.optical_depths(
            config.atmosphere, config.lines, self.wave, self.exposure.spec.wind_ms
        )

    @cached_property
    def transmission(self) -> np.ndarray:
        """Transmission of the air along the line of sight, line spread not applied."""
        spec = self.exposure.spec
        return atmosphere.transmission(
            self.exposure.config.atmosphere, self.depths, spec.pwv_mm, spec.airmass
        )

    @cached_property
    def zenith(self) -> np.ndarray:
        """Transmission of the air at zenith."""
        return atmosphere.transmission(
            self.exposure.config.atmosphere, self.depths, self.exposure.spec.pwv_mm, 1.0
        )

    def _sky(self) -> np.ndarray:
        config = self.exposure.config
        rate = atmosphere.sky_rate(
            config.atmosphere,
            config.lines,
            config.seed,
            self.exposure.spec.obs_dir,
            self.fibre,
            self.wave,
            self.kms_per_column,
            self.zenith,
        )
        return rate * self.blaze

    def _thermal(self) -> Component:
        config, spec = self.exposure.config, self.exposure.spec
        smooth = sources.thermal_rate(config.sources, self.fibre, self.node_wave, spec.thermal_k)
        rate = self.fine(smooth) * self.blaze
        # Molecular emission matters only where thermal light and the excess exist.
        structured = (
            self.exposure.sees_telescope
            and self.fibre < 2
            and config.atmosphere.telescope_excess
            and self.wave[-1] > config.atmosphere.telescope_excess_nm - 30
        )
        if structured:
            rate = rate * atmosphere.telescope_emissivity(config.atmosphere, self.wave, self.zenith)
        return Component(rate, smooth=not structured)
