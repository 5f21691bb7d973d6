"""Frames with one detector effect at a time, written and read back as a reduction would read them."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits

from apero_dask.simulator.archive import write_file
from apero_dask.simulator.detector_config import DetectorConfig
from apero_dask.simulator.ephemeris import Site
from apero_dask.simulator.expose import RawFrame, expose
from apero_dask.simulator.headers import Camera
from apero_dask.simulator.rawfile import frame_bytes
from apero_dask.simulator.spec import FrameSpec
from apero_dask.simulator.tables import Geometry, GeometryConfig, load_instrument

MINI, _ = load_instrument("SPIROU_MINI", GeometryConfig())
SMALL = replace(MINI, raw_rows=256, raw_columns=256, amplifiers=8, dark_amplifiers=1, nx=248, ny=200, y0=4)
"""A detector small enough to follow read by read."""
FRAME_TIME, READ_NOISE, GAIN = 5.57192, 10.9, 0.999


def only(**switched_on: Any) -> DetectorConfig:
    """Configuration with every effect off, except those given; other values as given."""
    off: dict[str, Any] = {
        f.name: False for f in fields(DetectorConfig) if f.metadata["origin"] == "switch" and f.name != "ramp"
    }
    return DetectorConfig(**{**off, "slip_probability": 0.0, **switched_on})


def spec_of(nreads: int = 109, index: int = 0, mjd: float = 58386.2, **changes: Any) -> FrameSpec:
    """A dark exposure."""
    exptime = round((nreads - 1) * FRAME_TIME, 3)
    values: dict[str, Any] = {
        "identifier": "2320001d",
        "obs_dir": "2018-09-25",
        "dprtype": "DARK_DARK_INT",
        "index": index,
        "exptime_s": exptime,
        "nreads": nreads,
        "mjd_start": mjd,
        "mjd_end": mjd + (exptime + 30.0) / 86400.0,
    }
    return FrameSpec(**{**values, **changes})


def camera(geometry: Geometry) -> Camera:
    """Header constants of a detector."""
    return Camera(
        instrument=geometry.name,
        instrume="SPIRou",
        gain=geometry.gain,
        read_noise_e=geometry.read_noise_e,
        saturation_adu=geometry.saturation_adu,
        frame_time_s=geometry.frame_time_s,
        amplifiers=geometry.amplifiers,
        site=Site(19.825252, -155.468876, 4204.0),
        airmass_max=2.5,
    )


def record(
    folder: Path,
    config: DetectorConfig,
    rate: np.ndarray | float = 0.0,
    spec: FrameSpec | None = None,
    geometry: Geometry = MINI,
    seed: int = 1,
) -> tuple[dict[str, np.ndarray], RawFrame]:
    """Expose, write, read back: planes by EXTNAME as float64, and what the simulator knows."""
    spec = spec or spec_of()
    light = np.broadcast_to(np.asarray(rate, np.float64), geometry.full_shape)
    frame = expose(config, geometry, seed, spec, light)
    path = folder / f"{spec.identifier}.fits"
    write_file(path, frame_bytes(spec, camera(geometry), frame.planes))
    with fits.open(path, memmap=False) as units:
        units.verify("exception")
        planes = {unit.name.lower(): unit.data.astype(np.float64) for unit in units[1:]}
    return planes, frame


def slope_factor(nreads: int) -> float:
    """Slope noise in ADU/s for a noise of 1 e- in every read (Rauscher et al. 2007)."""
    return float(np.sqrt(12.0 / (nreads * (nreads**2 - 1))) / FRAME_TIME / GAIN)


def inner(image: np.ndarray, border: int = 4) -> np.ndarray:
    """Sensitive pixels."""
    return image[border:-border, border:-border]


def amplifier(image: np.ndarray, number: int, amplifiers: int) -> np.ndarray:
    """Pixels of one amplifier in read order, by the rule of the raw format: odd ones run backwards."""
    width = image.shape[1] // amplifiers
    part = image[:, number * width : (number + 1) * width]
    return part[:, ::-1] if number % 2 else part
