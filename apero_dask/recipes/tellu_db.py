"""obj_mk_tellu_db and obj_fit_tellu_db: whole telluric passes, expanded into their runs when planning."""

from __future__ import annotations

from apero_dask.core.declare import Group, Option, Recipe, Resources, register
from apero_dask.recipes.options import ALL_FIBRES, GENERAL

DATABASE_OPTIONS = (
    *GENERAL,
    Option(
        "cores",
        "int",
        1,
        changes_result=False,
        elsewhere="nothing: the cluster has as many workers as it was given",
        help="accepted; the engine decides",
    ),
    Option(
        "filetype",
        "choice",
        None,
        choices=("E2DS", "E2DSFF"),
        elsewhere="planner: the spectra",
        help="only these spectra",
    ),
    ALL_FIBRES,
)

OBJ_MK_TELLU_DB = register(
    Recipe(
        name="obj_mk_tellu_db",
        short="MKTELLDB",
        scripts=(),
        group=Group.MACRO,
        tree_in="reduced",
        tree_out="reduced",
        takes="",
        arguments=(),
        makes=(),
        options=DATABASE_OPTIONS,
        resources=Resources(memory_gb=0.0, seconds=0.0),
    )
)

OBJ_FIT_TELLU_DB = register(
    Recipe(
        name="obj_fit_tellu_db",
        short="FTELLDB",
        scripts=(),
        group=Group.MACRO,
        tree_in="reduced",
        tree_out="reduced",
        takes="",
        arguments=(),
        makes=(),
        options=(
            *DATABASE_OPTIONS,
            Option("objname", "str", None, elsewhere="planner: the frames", help="only this object"),
            Option("dprtype", "str", None, elsewhere="planner: the frames", help="only this frame type"),
        ),
        resources=Resources(memory_gb=0.0, seconds=0.0),
    )
)
