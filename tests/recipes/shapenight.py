"""Fabry-Perot frames of a master night and of one after a thermal cycle, and the shape recipes on them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache

import numpy as np

from apero_dask.core.work import Calibration, CalibrationFile
from apero_dask.io.cards import card_text
from apero_dask.io.fits import FitsFile
from apero_dask.io.fitswriter import Image, Table, write_fits
from apero_dask.recipes.context import RecipeResult
from apero_dask.simulator.paint import PhotonTruth
from apero_dask.simulator.spec import Affine, FrameSpec
from tests.accuracy import geometry as measure
from tests.recipes.calnight import CalNight, calnight, chosen
from tests.recipes.night import pp_names
from tests.recipes.runs import MINI

CYCLE = Affine(6.1, 2.3, 1 + 4.8e-4, 4.0e-5, -5.7e-4, 1 - 6e-6)
"""Measured motion over one thermal cycle."""
CYCLE_NIGHT = "2018-10-05"
SHAPES = (("SHAPEX", ""), ("SHAPEY", ""), ("FPMASTER", ""))
FIBRES = "ABC"


def drifted(
    night: CalNight, affine: Affine, count: int = 3, first: int = 0, **changes: object
) -> list[FrameSpec]:
    """Preprocessed FP_FP frames of another night, ten days later, with a motion of their own."""
    specs = []
    for k, spec in enumerate(night.bench.specs("FP_FP")[:count]):
        moved = replace(
            spec,
            identifier=f"{2500001 + first + k}a",
            obs_dir=CYCLE_NIGHT,
            index=5000 + first + k,
            mjd_start=spec.mjd_start + 10.0,
            mjd_end=spec.mjd_end + 10.0,
            affine=affine,
            **changes,
        )
        night.bench.write(moved)
        night.bench.preprocess(moved)
        (night.bench.root / "raw" / moved.obs_dir / f"{moved.identifier}.fits").unlink()
        specs.append(moved)
    return specs


@lru_cache
def cycle_frames(seed: int) -> tuple[FrameSpec, ...]:
    """Three frames after the thermal cycle."""
    return tuple(drifted(calnight(seed), CYCLE))


@lru_cache
def true_traces(seed: int) -> Calibration:
    """Localisation of the science fibres: series of degree 6 through the painted traces, height 13.5 px."""
    night = calnight(seed)
    truth = night.truth(night.frames("FP_FP", 3)[1])
    u = 2 * np.arange(MINI.nx) / MINI.nx - 1
    orders, letters, series = [], [], []
    for o in range(MINI.norders):
        for letter in "BA":
            orders.append(o)
            letters.append(letter)
            series.append(np.polynomial.chebyshev.chebfit(u, truth.trace_px[FIBRES.index(letter), o], 6))
    heights = np.zeros((len(orders), 2))
    heights[:, 0] = 13.5
    tables = [
        Table(
            name,
            {
                "ORDER": np.array(orders),
                "FIBER": letters,
                **{f"COEFFS_{k}": np.array(values)[:, k] for k in range(np.shape(values)[1])},
            },
        )
        for name, values in (("CENTRES", series), ("WIDTHS", heights))
    ]
    folder = night.bench.root / "calibDB"
    folder.mkdir(parents=True, exist_ok=True)
    name = "painted_traces_AB.fits"
    extensions = (Image("LOC", np.zeros((2, 2), np.float32)), *tables)
    written = write_fits(folder / name, [card_text("DRSOUTID", "LOC", "painted")], extensions)
    file = CalibrationFile("LOC", "AB", f"calibDB/{name}", written.digest, written.content, name)
    return Calibration(("LOC", "ORDER_PROFILE"), "AB", "", "painted traces", rank=1, files=(file,))


def calibrations(seed: int) -> tuple[Calibration, ...]:
    """What both recipes load: dark and bad pixels as made, traces from truth, displaced first guess."""
    first_guess = Calibration(("WAVE0",), "", "", "default:WAVE0")
    return (*calnight(seed).basic(), true_traces(seed), first_guess)


def reduce_master(seed: int, fp: Sequence[str], stem: str = "", **values: object) -> RecipeResult:
    """Run cal_shape_master on the night of a seed; `stem` names the products of a run of its own."""
    night = calnight(seed)
    first = night.frames("FP_FP", 3)[0]
    if stem:
        first = replace(first, identifier=stem)
    inputs = {"hcfiles": night.names("HCONE_HCONE", 2), "fpfiles": list(fp)}
    return night.run(
        "cal_shape_master",
        "SHAPEM",
        inputs,
        SHAPES,
        first,
        tier="master",
        calibrations=calibrations(seed),
        **values,
    )


@lru_cache
def master(seed: int) -> tuple[RecipeResult, Calibration]:
    """Shape master from three frames of the master night and three after the thermal cycle."""
    night = calnight(seed)
    result = reduce_master(seed, night.names("FP_FP", 3) + pp_names(cycle_frames(seed)))
    made = {(output.kind, output.fibre): output.path for output in result.outputs}
    return result, chosen(made, "SHAPEX", "SHAPEY", "FPMASTER")


def reduce_night(seed: int, specs: Sequence[FrameSpec]) -> tuple[RecipeResult, FitsFile]:
    """Run cal_shape on frames, with the shape master of the seed."""
    night = calnight(seed)
    result = night.run(
        "cal_shape",
        "SHAPE",
        {"files": pp_names(tuple(specs))},
        [("SHAPEL", "")],
        specs[0],
        calibrations=(*night.basic(), master(seed)[1]),
    )
    return result, FitsFile(night.bench.root / result.outputs[0].path)


def frame_error(found: np.ndarray, true: np.ndarray) -> np.ndarray:
    return measure.frame_error(found, true, MINI)


def true_displacement(
    truth: PhotonTruth, dymap: np.ndarray, beyond: float = 0.0, least_blaze: float = 0.1
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return measure.true_displacement(truth, dymap, MINI, beyond, least_blaze)
