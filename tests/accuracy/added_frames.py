"""Frames that a simulated night lacks and an observatory has.

A reference dark is made of the darks of an archive, of which one night holds four, and the static flat of
frames of the bare detector under even light.  Both are simulated here and laid beside the frames of a night.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from apero_dask.instruments import Instrument
from apero_dask.recipes.detector_assets import assets_path, read_assets
from apero_dask.recipes.detector_maker import make_detector_file
from apero_dask.simulator.config import SimulatorConfig
from apero_dask.simulator.expose import expose
from apero_dask.simulator.observatory import camera_of
from apero_dask.simulator.rawfile import frame_bytes
from apero_dask.simulator.runner import record_frame
from apero_dask.simulator.spec import FrameSpec
from apero_dask.simulator.tables import load_instrument

MORE_DARKS = 6
EVEN_FRAMES = 2
EVEN_RATE = 1000.0
"""e-/s under even light: half of full well in the short exposure of a flat."""


def added_darks(specs: Sequence[FrameSpec]) -> list[FrameSpec]:
    """Further darks of the night of `specs`, one after the other."""
    dark = next(spec for spec in specs if spec.dprtype == "DARK_DARK_INT")
    last = max(spec.index for spec in specs)
    found = []
    for k in range(MORE_DARKS):
        after = dark.exptime_s * 1.1 * (k + 1) / 86400.0
        found.append(
            replace(
                dark,
                identifier=f"{2330001 + k}d",
                index=last + 1 + k,
                mjd_start=dark.mjd_start + after,
                mjd_end=dark.mjd_end + after,
            )
        )
    return found


def raw_path(root: Path, spec: FrameSpec) -> Path:
    """Raw frame of an exposure below a data root."""
    return root / "raw" / spec.obs_dir / f"{spec.identifier}.fits"


def add_frames(
    root: Path, config: SimulatorConfig, specs: Sequence[FrameSpec]
) -> tuple[list[FrameSpec], list[Path]]:
    """Write the further darks into the night and the even flats beside the archive, unless they are there.

    Returns
    -------
    darks : list of FrameSpec
    even : list of Path
        Raw frames of the bare detector under even light.
    """
    darks = added_darks(specs)
    for spec in darks:
        path = raw_path(root, spec)
        if not path.exists():
            _write(path, frame_bytes(spec, camera_of(config), record_frame(config, spec)[1].planes))
    geometry, _ = load_instrument(config.instrument, config.geometry)
    flat = next(spec for spec in specs if spec.dprtype == "FLAT_FLAT")
    even = []
    for k in range(EVEN_FRAMES):
        spec = replace(flat, identifier=f"{2340001 + k}f", index=darks[-1].index + 1 + k)
        path = root / "even" / f"{spec.identifier}.fits"
        if not path.exists():
            rate = np.full(geometry.full_shape, EVEN_RATE)
            planes = expose(config.detector, geometry, config.seed, spec, rate).planes
            _write(path, frame_bytes(spec, camera_of(config), planes))
        even.append(path)
    return darks, even


def _write(path: Path, parts: object) -> None:
    """Whole or not at all: a frame that is there is taken for good."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".part")
    unfinished.write_bytes(b"".join(parts))  # type: ignore[call-overload]
    unfinished.rename(path)


def make_static_file(
    root: Path, instrument: Instrument, specs: Sequence[FrameSpec], even: Sequence[Path]
) -> None:
    """Detector file from all darks but the first, which is judged, and even flats, unless there is one."""
    there = assets_path(root / "assets", instrument)
    if there.exists() and read_assets(there, instrument).flat is not None:
        return
    darks = [spec for spec in specs if spec.dprtype.startswith("DARK_DARK")]
    make_detector_file(root / "assets", instrument, [raw_path(root, spec) for spec in darks[1:]], even)
