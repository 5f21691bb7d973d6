"""cal_thermal: thermal emission spectra from internal or telescope darks."""

from __future__ import annotations

from apero_dask.core.declare import Group, Makes, Recipe, Resources, Select, register
from apero_dask.recipes.options import (
    CALIBRATION,
    EXTRACTION_SET,
    FIBRE,
    FIBRES,
    FORCE,
    GENERAL,
    LOCO,
    PROFILE,
    SHAPES,
    WAVE,
    frames,
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
        options=(*GENERAL, *CALIBRATION, FIBRE, LOCO, PROFILE, *SHAPES, WAVE, FORCE),
        resources=Resources(memory_gb=3.5, seconds=180.0, per_input_s=3.0),
        stratum=4,
    )
)
