"""Wavelength recipes on the lamps of a simulated night, all that comes before them being truth."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import numpy as np

from apero_dask.core.products import KINDS, folder
from apero_dask.core.work import Calibration, Work
from apero_dask.io.fitswriter import Image
from apero_dask.recipes.calibrated import Calibrated
from apero_dask.recipes.context import RecipeResult, run_recipe
from tests.recipes.runs import MINI
from tests.recipes.truthcal import truth_night

FIBRES = MINI.fibres
MASTER = [(kind, f) for kind in ("WAVEM", "WAVEHCL", "WAVEFPL") for f in FIBRES]
MASTER += [("WAVECAV", ""), ("WAVR_E2DS", "AB")]
NIGHT = [(kind, f) for kind in ("WAVE", "WAVENHCL", "WAVENFPL") for f in FIBRES]
LAMPS = {"hcfiles": "HCONE_HCONE", "fpfiles": "FP_FP"}
STEM = "2320027c"


@lru_cache
def frames(seed: int, noise: int = 0) -> dict[str, Calibrated]:
    """Calibrated lamps by argument, the mean of as many frames as the night has."""
    night = truth_night(seed)
    found = {}
    for argument, dprtype in LAMPS.items():
        specs = night.specs(dprtype)
        found[argument] = night.frame(specs[0], len(specs), seed=noise)
    return found


@lru_cache
def flat_and_thermal(seed: int) -> tuple[Calibration, ...]:
    """FLAT without response, unknown where the blaze is faint, and the true thermal light."""
    night = truth_night(seed)
    dark = next(s for s in night.specs("DARK_DARK_INT"))
    truth = night.truth(dark)
    flats: dict[str, list[tuple[Image, ...]]] = {}
    thermal: dict[str, list[tuple[Image, ...]]] = {}
    for fibre in FIBRES:
        blaze = truth.blaze["ABC".index(fibre[0])]
        flats[fibre] = [(Image("FLAT", np.where(blaze > 0.1, 1.0, np.nan)),)]
        light = night.spectrum(truth, fibre, "thermal")
        thermal[fibre] = [(Image("THERMALI", light), Image("SMOOTH", light))]
    return (
        night.several(("FLAT",), flats),
        night.several(("THERMALI",), thermal, cards=[("EXPTIME", dark.exptime_s)]),
    )


def first_guess() -> Calibration:
    """The shipped maps, displaced from the truth."""
    return Calibration(("WAVE0",), "", "", "default:WAVE0")


def work(seed: int, tier: str, *more: Calibration, **values: object) -> Work:
    """Run of the reference (tier master) or the nightly recipe."""
    night = truth_night(seed)
    recipe, kinds = ("cal_wave_master", MASTER) if tier == "master" else ("cal_wave_night", NIGHT)
    ctx = night.context(recipe, *flat_and_thermal(seed), *more, tier=tier)
    outputs = tuple(
        (k, f, folder("reduced", tier, night.night, KINDS[k].life) + KINDS[k].file_name(STEM, f))
        for k, f in kinds
    )
    return replace(ctx.work, outputs=outputs, stem=STEM, science="hc1", reference="hc1", **values)


def run(seed: int, made: Work, lamps: dict[str, Calibrated] | None = None) -> RecipeResult:
    """Run a recipe on calibrated frames."""
    from apero_dask.recipes import calibrated

    known = calibrated.calibrated
    shown = frames(seed) if lamps is None else lamps
    try:
        calibrated.calibrated = lambda ctx, argument, **keys: shown[argument]
        return run_recipe(made, truth_night(seed).bench.trees, MINI)
    finally:
        calibrated.calibrated = known


@lru_cache
def wave_master(seed: int) -> RecipeResult:
    """Reference solution of the night."""
    return run(seed, work(seed, "master", first_guess()))


def reference(seed: int) -> Calibration:
    """Its products, as the choice of a nightly run."""
    from apero_dask.core.work import CalibrationFile

    kinds = ("WAVEM", "WAVECAV", "WAVEHCL")
    files = tuple(
        CalibrationFile(o.kind, o.fibre, o.path, o.digest, o.content, f"n_{o.path.rpartition('/')[2]}")
        for o in wave_master(seed).outputs
        if o.kind in kinds
    )
    return Calibration(kinds, "", "", "test WAVEM", rank=1, files=files)


@lru_cache
def wave_night(seed: int) -> RecipeResult:
    """Solution of the same night from frames with other noise, as a nightly step."""
    return run(seed, work(seed, "night", reference(seed)), frames(seed, 1))
