"""cal_badpix: bad pixels and the map of usable background pixels."""

from __future__ import annotations

from apero_dask.core.declare import Group, Makes, Option, Recipe, Resources, register
from apero_dask.recipes.options import GENERAL, frames

CAL_BADPIX = register(
    Recipe(
        name="cal_badpix",
        short="BAD",
        scripts=("apero_badpix",),
        group=Group.NIGHT,
        tree_in="tmp",
        tree_out="reduced",
        takes="obs_dir",
        arguments=(
            frames("flatfiles", "FLAT_FLAT"),
            frames("darkfiles", "DARK_DARK_TEL", "DARK_DARK_INT", one_type=False),
        ),
        makes=(Makes("BADPIX"), Makes("BKGRDMAP")),
        options=(
            *GENERAL,
            Option("combine", "bool", True, help="combine the files before reducing them"),
            Option("flipimage", "choice", "both", choices=("None", "x", "y", "both")),
            Option("fluxunits", "choice", "e-", choices=("ADU/s", "e-")),
            Option("resize", "bool", True, help="cut the image to the calibrated frame"),
        ),
        resources=Resources(memory_gb=3.0, seconds=90.0, per_input_s=2.0),
        stratum=1,
    )
)
