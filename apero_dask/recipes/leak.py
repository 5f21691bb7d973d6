"""cal_leak_master and cal_leak: Fabry-Perot light of the reference fibre in the science fibres."""

from __future__ import annotations

from apero_dask.core.declare import (
    Argument,
    Group,
    Makes,
    Option,
    Recipe,
    Resources,
    Select,
    register,
)
from apero_dask.recipes.options import EXTRACTION_SET, FIBRES, GENERAL, SCIENCE, frames

CAL_LEAK_MASTER = register(
    Recipe(
        name="cal_leak_master",
        short="LEAKM",
        scripts=("apero_leak_ref",),
        group=Group.NIGHT,
        tree_in="tmp",
        tree_out="reduced",
        takes="obs_dir",
        arguments=(frames("files", "DARK_FP"),),
        selects=(
            *EXTRACTION_SET,
            Select(("THERMALI",), optional=True, applies_to="reference"),
            Select(("WAVE0",)),
        ),
        makes=(Makes("LEAKM", FIBRES),),
        options=(*GENERAL, Option("filetype", "choice", "DARK_FP", choices=("DARK_FP",))),
        resources=Resources(memory_gb=3.5, seconds=180.0, per_input_s=180.0),
    )
)

CAL_LEAK = register(
    Recipe(
        name="cal_leak",
        short="LEAK",
        scripts=(),
        group=Group.FILE,
        tree_in="reduced",
        tree_out="reduced",
        takes="obs_dir",
        arguments=(Argument("files", ("E2DSFF",), ("OBJ_FP", "POLAR_FP"), positional=True, fibres=FIBRES),),
        selects=(
            Select(("LEAKM",), fallback=("LEAK0",)),
            Select(("FLAT", "BLAZE")),
            Select(("WAVE",), fallback=("WAVEM",)),
        ),
        makes=(Makes("LCORR", SCIENCE), Makes("LCORR_S1D_W", SCIENCE), Makes("LCORR_S1D_V", SCIENCE)),
        options=(*GENERAL, Option("leakfile", "file", calibration="LEAKM", help="leak reference")),
        resources=Resources(memory_gb=0.5, seconds=10.0),
        stratum=6,
    )
)
