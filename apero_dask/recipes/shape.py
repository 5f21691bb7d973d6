"""cal_shape_master and cal_shape: maps that straighten the orders, and the affine transform of a night."""

from __future__ import annotations

from apero_dask.core.declare import Argument, Group, Makes, Recipe, Resources, Select, register
from apero_dask.recipes.options import CALIBRATION, FP_REFERENCE, GENERAL, LOCO, SHAPES, frames

CAL_SHAPE_MASTER = register(
    Recipe(
        name="cal_shape_master",
        short="SHAPEM",
        scripts=("apero_shape_ref",),
        group=Group.ARCHIVE,
        tree_in="tmp",
        tree_out="reduced",
        takes="obs_dir",
        arguments=(
            frames("hcfiles", "HCONE_HCONE"),
            Argument("fpfiles", ("PP",), ("FP_FP",), archive=True),
        ),
        selects=(
            Select(("DARKM",)),
            Select(("BADPIX", "BKGRDMAP")),
            Select(("LOC", "ORDER_PROFILE"), fibre="AB"),
            Select(("WAVE0",)),
        ),
        makes=(Makes("SHAPEX"), Makes("SHAPEY"), Makes("FPMASTER")),
        leading="fpfiles",
        options=(*GENERAL, *CALIBRATION, LOCO, FP_REFERENCE),
        resources=Resources(memory_gb=6.0, seconds=900.0, per_input_s=20.0),
    )
)

CAL_SHAPE = register(
    Recipe(
        name="cal_shape",
        short="SHAPE",
        scripts=("apero_shape",),
        group=Group.NIGHT,
        tree_in="tmp",
        tree_out="reduced",
        takes="obs_dir",
        arguments=(frames("files", "FP_FP", positional=True),),
        selects=(
            Select(("DARKM",)),
            Select(("BADPIX", "BKGRDMAP")),
            Select(("SHAPEX", "SHAPEY", "FPMASTER")),
        ),
        makes=(Makes("SHAPEL"),),
        options=(*GENERAL, *CALIBRATION, FP_REFERENCE, *SHAPES[:2]),
        resources=Resources(memory_gb=3.0, seconds=120.0, per_input_s=2.0),
        stratum=2,
    )
)
