"""cal_ff: flat field and blaze of every order and fibre."""

from __future__ import annotations

from apero_dask.core.declare import Group, Makes, Recipe, Resources, register
from apero_dask.recipes.options import (
    CALIBRATION,
    EXTRACTION_SET,
    FIBRE,
    FIBRES,
    GENERAL,
    LOCO,
    PROFILE,
    SHAPES,
    frames,
)

CAL_FF = register(
    Recipe(
        name="cal_ff",
        short="FF",
        scripts=("cal_flat", "apero_flat"),
        group=Group.NIGHT,
        tree_in="tmp",
        tree_out="reduced",
        takes="obs_dir",
        arguments=(frames("files", "FLAT_FLAT", positional=True),),
        selects=EXTRACTION_SET[:-1],
        makes=(Makes("FLAT", FIBRES), Makes("BLAZE", FIBRES)),
        options=(*GENERAL, *CALIBRATION, FIBRE, LOCO, PROFILE, *SHAPES),
        resources=Resources(memory_gb=3.5, seconds=240.0, per_input_s=4.0),
        stratum=3,
    )
)
