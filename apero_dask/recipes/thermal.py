"""cal_thermal: thermal emission spectra from internal or telescope darks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from apero_dask.core.declare import Group, Makes, Recipe, Resources, Select, register
from apero_dask.recipes.options import (
    ALL_FIBRES,
    CALIBRATION,
    EXTRACTION_SET,
    FIBRES,
    FORCE,
    GENERAL,
    LOCO,
    PROFILE,
    SHAPES,
    WAVE,
    frames,
    without_effect,
)

if TYPE_CHECKING:
    from apero_dask.recipes.context import RecipeContext


def cal_thermal(ctx: RecipeContext) -> None:
    """Make the thermal spectrum of every fibre from the darks of a night.

    The product holds the smooth model, times the flat like any spectrum that is not flat-fielded; the
    extensions SMOOTH and MEASURED hold the model without flat and what was extracted.

    Raises
    ------
    DataError
        No usable dark, or a calibration that does not fit.
    """
    import numpy as np

    from apero_dask.core.errors import DataError
    from apero_dask.io.fitswriter import Image
    from apero_dask.recipes.calibrated import calibrated, calibration_cards
    from apero_dask.recipes.spectrum import extract_fibre, extraction_cards, location_cards
    from apero_dask.recipes.straight import straighten
    from apero_dask.recipes.thermal_light import DEGREE, SIGNIFICANT, STRUCTURE_WIDTH, smooth_thermal

    frame = calibrated(ctx, "files", check_alike=False)
    common = calibration_cards(frame)
    straight = straighten(ctx, frame)
    del frame
    made = {}
    red = list(ctx.instrument.thermal)
    for kind, fibre, _ in ctx.work.outputs:
        spectrum = extract_fibre(ctx, straight, fibre)
        blaze = ctx.calibration_image("BLAZE", fibre)
        if blaze is None or blaze.shape != spectrum.e2ds.shape:
            raise DataError(
                f"{ctx.work.recipe}: blaze of fibre {fibre}: {'none' if blaze is None else blaze.shape}, "
                f"expected {spectrum.e2ds.shape}; make it with cal_ff."
            )
        smooth = smooth_thermal(spectrum.e2dsff, spectrum.variance_ff, blaze)
        made[kind, fibre] = spectrum, smooth
        levels = np.array(
            [np.median(row[np.isfinite(row)]) if np.isfinite(row).any() else 0.0 for row in smooth]
        )
        rising = bool(np.all(levels[red] > 0.0) and np.all(np.diff(levels[red]) > 0.0))
        ctx.qc(
            f"THERMAL_RISE_{fibre}", rising, "thermal light not positive and rising to the red", rising,
            informative=True,
        )  # fmt: skip
    ctx.parameter("DEGREE", DEGREE, description="polynomial of thermal light over blaze")
    ctx.parameter("SIGNIFICANT", SIGNIFICANT, description="sigma below which an order holds no thermal light")
    ctx.parameter(
        "STRUCTURE_WIDTH", STRUCTURE_WIDTH, description="[px] low-pass of what the polynomial misses"
    )
    ctx.parameter("EMISSIVITY", "none", description="table of excess emissivity of the telescope; none = 1")
    for (kind, fibre), (spectrum, smooth) in made.items():
        cards = {**common, **extraction_cards(ctx, straight, spectrum), **location_cards(ctx, fibre)}
        light = smooth if spectrum.flat is None else smooth * spectrum.flat
        # Beside a variance: no value where nothing was measured.  SMOOTH keeps the model there.
        light = np.where(np.isfinite(spectrum.variance), light, np.nan)
        ctx.save(
            kind,
            Image(kind, light, unit="electron"),
            Image("SMOOTH", smooth, unit="electron"),
            Image("MEASURED", spectrum.e2ds, unit="electron"),
            Image("VARIANCE", spectrum.variance, unit="electron^2"),
            fibre=fibre,
            header=cards,
        )


CAL_THERMAL = register(
    Recipe(
        name="cal_thermal",
        short="THERMAL",
        scripts=("apero_thermal",),
        group=Group.NIGHT_AND_TYPE,
        tree_in="tmp",
        tree_out="reduced",
        takes="obs_dir",
        arguments=(frames("files", "DARK_DARK_INT", "DARK_DARK_TEL", positional=True),),
        selects=(
            *EXTRACTION_SET,
            Select(("WAVE0",), tiers=("master",)),
            Select(("WAVEM",), tiers=("night",)),
        ),
        makes=(
            Makes("THERMALI", FIBRES, variants=("DARK_DARK_INT",)),
            Makes("THERMALT", FIBRES, variants=("DARK_DARK_TEL",)),
        ),
        options=(
            *GENERAL,
            *CALIBRATION,
            ALL_FIBRES,
            LOCO,
            PROFILE,
            *SHAPES,
            without_effect(WAVE, "thermal spectra are kept per column"),
            FORCE,
        ),
        resources=Resources(memory_gb=2.5, seconds=9.0, per_input_s=0.5),
        stratum=4,
        body=cal_thermal,
    )
)
