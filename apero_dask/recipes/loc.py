"""cal_loc: position, width and transverse profile of every order."""

from __future__ import annotations

from apero_dask.core.declare import Group, Makes, Recipe, Resources, Select, register
from apero_dask.recipes.options import CALIBRATION, GENERAL, frames

CAL_LOC = register(
    Recipe(
        name="cal_loc",
        short="LOC",
        scripts=("apero_loc",),
        group=Group.NIGHT_AND_TYPE,
        tree_in="tmp",
        tree_out="reduced",
        takes="obs_dir",
        arguments=(frames("files", "DARK_FLAT", "FLAT_DARK", positional=True),),
        selects=(Select(("DARKM",)), Select(("BADPIX", "BKGRDMAP"))),
        makes=tuple(
            Makes(kind, (fibre,), variants=(variant,))
            for variant, fibre in (("DARK_FLAT", "C"), ("FLAT_DARK", "AB"))
            for kind in ("ORDER_PROFILE", "LOC", "LOCFWHM", "LOCWITH")
        ),
        options=(*GENERAL, *CALIBRATION),
        resources=Resources(memory_gb=3.0, seconds=120.0, per_input_s=2.0),
        stratum=2,
    )
)
