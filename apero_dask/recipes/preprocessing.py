"""cal_preprocessing: corrupt ramps rejected, correlated detector noise removed, cosmic hits flagged."""

from __future__ import annotations

from apero_dask.core.declare import Argument, Group, Makes, Option, Recipe, Resources, register

CAL_PREPROCESSING = register(
    Recipe(
        name="cal_preprocessing",
        short="PP",
        scripts=("cal_preprocess", "apero_preprocess"),
        group=Group.FILE,
        tree_in="raw",
        tree_out="tmp",
        takes="obs_dir",
        arguments=(Argument("files", ("RAW",), one_type=False, positional=True),),
        makes=(Makes("PP"),),
        options=(Option("skip", "bool", False, changes_result=False, help="keep a finished file"),),
        resources=Resources(memory_gb=1.5, seconds=40.0),
    )
)
