"""One simulated archive per seed, reduced as far as several tests need it, and the truth of its detector."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest

from apero_dask.simulator.detector import StaticDetector
from apero_dask.simulator.expose import RawFrame, expose
from apero_dask.simulator.spec import FrameSpec
from apero_dask.simulator.tables import load_instrument
from tests.accuracy import detector as measure
from tests.accuracy.detector import hit_charge, raw_orientation, spread
from tests.recipes.runs import MINI, Bench, DetectorConfig

__all__ = ["hit_charge", "raw_orientation", "spread"]
SEEDS = (1, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (2, 3)))
"""One seed by default; the slow tests repeat every figure with two more."""
QUIET = DetectorConfig(slip_probability=0.0)


@dataclass(frozen=True)
class Archive:
    """Darks of three nights and the flats of the first, preprocessed with a detector file made beforehand."""

    bench: Bench
    tested: FrameSpec
    """Dark that nothing else was made from."""
    frame: RawFrame
    """Its raw planes and truth."""
    darks: tuple[FrameSpec, ...]
    flats: tuple[FrameSpec, ...]
    static: StaticDetector

    @property
    def night(self) -> str:
        return self.flats[0].obs_dir


@lru_cache
def _folder(seed: int) -> TemporaryDirectory[str]:
    return TemporaryDirectory(prefix=f"apero-test-{seed}-")


@lru_cache
def archive(seed: int) -> Archive:
    """Archive of a seed, made once; of the raw frames only the tested one stays."""
    bench = Bench(Path(_folder(seed).name), seed, QUIET)
    darks = bench.specs("DARK_DARK_INT") + bench.specs("DARK_DARK_TEL")
    darks.sort(key=lambda spec: (spec.obs_dir, spec.mjd_mid))
    tested, rest = darks[1], [*darks[:1], *darks[2:]]
    bench.make_detector(rest)
    flats = [spec for spec in bench.specs("FLAT_FLAT") if spec.obs_dir == tested.obs_dir]
    frame = bench.write(tested)
    for spec in flats:
        bench.write(spec)
    for spec in (tested, *rest, *flats):
        bench.preprocess(spec)
        if spec is not tested:
            (bench.root / "raw" / spec.obs_dir / f"{spec.identifier}.fits").unlink()
    return Archive(bench, tested, frame, tuple(rest), tuple(flats), frame.static)


def cal_orientation(raw: np.ndarray) -> np.ndarray:
    """Calibrated frame of a raw plane, element by element as it is defined."""
    return measure.cal_orientation(raw, MINI)


def pp_names(specs: list[FrameSpec] | tuple[FrameSpec, ...]) -> list[str]:
    """Preprocessed frames below the data root."""
    return [f"tmp/{spec.obs_dir}/{spec.identifier}_pp.fits" for spec in specs]


def expected_slope(frame: RawFrame) -> np.ndarray:
    """Noise-free slope in ADU/s."""
    return measure.expected_slope(frame, MINI)


def even_light(bench: Bench, specs: list[FrameSpec]) -> list[Path]:
    """Raw frames of the detector under even light, as a lamp in front of the bare detector gives them."""
    geometry, _ = load_instrument("SPIROU_MINI", bench.config.geometry)
    paths = []
    for spec in specs:
        frame = expose(bench.detector, geometry, bench.seed, spec, np.full(geometry.full_shape, 1000.0))
        bench.write(spec, frame.planes)
        paths.append(bench.root / "raw" / spec.obs_dir / f"{spec.identifier}.fits")
    return paths
