"""cal_dark_master: reference dark of the archive, only its stable small-scale structure."""

from __future__ import annotations

from apero_dask.core.declare import Argument, Group, Makes, Option, Recipe, Resources, register
from apero_dask.recipes.options import GENERAL

DARKS = ("DARK_DARK_TEL", "DARK_DARK_INT")

CAL_DARK_MASTER = register(
    Recipe(
        name="cal_dark_master",
        short="DARKM",
        scripts=("apero_dark_ref",),
        group=Group.ARCHIVE,
        tree_in="tmp",
        tree_out="reduced",
        takes="",
        arguments=(Argument("darkfiles", ("PP",), DARKS, one_type=False, archive=True),),
        makes=(Makes("DARKM"),),
        options=(Option("filetype", "choice", None, choices=DARKS, help="only this kind of dark"), *GENERAL),
        resources=Resources(memory_gb=2.5, seconds=120.0, per_input_s=5.0),
    )
)
