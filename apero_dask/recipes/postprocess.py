"""cal_postprocess: packaged files of one frame for programs of other groups."""

from __future__ import annotations

from apero_dask.core.declare import Argument, Group, Makes, Option, Recipe, Resources, Select, register
from apero_dask.recipes.tellu_make import STAR_TYPES

CAL_POSTPROCESS = register(
    Recipe(
        name="cal_postprocess",
        short="SCIPOST",
        scripts=("apero_postprocess",),
        group=Group.FILE,
        tree_in="reduced",
        tree_out="out",
        takes="obs_dir",
        arguments=(
            Argument("files", ("E2DSFF",), STAR_TYPES, positional=True, fibres=("AB", "A", "B", "C")),
        ),
        selects=(Select(("WAVE",), fallback=("WAVEM",)), Select(("FLAT", "BLAZE"))),
        makes=(Makes("POST_E"), Makes("POST_S"), Makes("POST_T"), Makes("POST_V")),
        options=(
            Option(
                "wave-basis", "choice", "chebyshev", choices=("chebyshev", "power"), aliases=("wave_basis",)
            ),
            Option("clear", "bool", False, changes_result=False),
        ),
        resources=Resources(memory_gb=0.5, seconds=10.0),
        stratum=11,
        extension=True,
    )
)
