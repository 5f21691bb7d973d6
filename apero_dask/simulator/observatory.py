"""What schedule and header need to know of an instrument."""

from __future__ import annotations

from apero_dask.simulator.config import SimulatorConfig
from apero_dask.simulator.ephemeris import Site
from apero_dask.simulator.headers import Camera
from apero_dask.simulator.tables import load_instrument


def camera_of(config: SimulatorConfig) -> Camera:
    """Return the constants of detector and site.

    Raises
    ------
    ConfigError
        The instrument is unknown or its tables cannot be used.
    """
    geometry, _ = load_instrument(config.instrument, config.geometry)
    return Camera(
        instrument=geometry.name,
        instrume=geometry.instrume,
        gain=geometry.gain,
        read_noise_e=geometry.read_noise_e,
        saturation_adu=geometry.saturation_adu,
        frame_time_s=geometry.frame_time_s,
        amplifiers=geometry.amplifiers,
        site=Site(geometry.latitude_deg, geometry.longitude_deg, geometry.height_m),
        airmass_max=config.campaign.airmass_max,
    )
