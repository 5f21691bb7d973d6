"""cal_extract: spectra of every order and fibre of one frame."""

from __future__ import annotations

from typing import TYPE_CHECKING

from apero_dask.core.declare import Argument, Group, Makes, Option, Recipe, Resources, Select, register
from apero_dask.io.assets import OBJECTS_FILE
from apero_dask.recipes.options import (
    CALIBRATION,
    COMBINE,
    COMBINE_FRAMES,
    EXTRACTION,
    EXTRACTION_SET,
    FIBRES,
    NO_IN_QC,
)

if TYPE_CHECKING:
    from apero_dask.recipes.context import RecipeContext

LAMP = ("fp", "hc1", "hc2", "flat", "lfc")
"""Light of the calibration unit: thermal emission as in the internal dark."""
SKY = ("star", "sky")


def cal_extract(ctx: RecipeContext) -> None:
    """Extract a frame: spectra per order and merged, barycentric correction, peaks of the comb.

    Raises
    ------
    DataError
        The frame or a calibration cannot be used.
    """
    from apero_dask.recipes.extract_run import extract_frame

    extract_frame(ctx)


CAL_EXTRACT = register(
    Recipe(
        name="cal_extract",
        short="EXT",
        scripts=("apero_extract",),
        group=Group.FILE,
        tree_in="tmp",
        tree_out="reduced",
        takes="obs_dir",
        arguments=(Argument("files", ("PP",), one_type=False, positional=True),),
        selects=(
            *EXTRACTION_SET,
            Select(("THERMALT",), fallback=("THERMALI",), science=SKY, applies_to="science"),
            Select(("THERMALI",), science=LAMP, applies_to="science"),
            Select(("THERMALI",), reference=LAMP, applies_to="reference"),
            Select(("WAVE",), fallback=("WAVEM",)),
            Select(("WAVEFPL",), reference=("fp",), applies_to="reference"),
            Select(("LEAKM",), fallback=("LEAK0",), reference=("fp",), option="leakcorr"),
        ),
        makes=(
            Makes("E2DS", FIBRES),
            Makes("E2DSFF", FIBRES),
            Makes("E2DSLL", FIBRES, option="e2dsll"),
            Makes("S1D_W", FIBRES),
            Makes("S1D_V", FIBRES),
            Makes("EXT_FPLIST", ("C",), reference=("fp",)),
        ),
        options=(
            *(COMBINE_FRAMES if option is COMBINE else option for option in CALIBRATION),
            *EXTRACTION,
            Option("flatfile", "file", calibration="FLAT", help="flat field"),
            Option("thermalfile", "file", calibration="THERMALT", help="thermal spectrum"),
            Option("thermal", "bool", True, help="correct thermal emission"),
            Option("leakcorr", "bool", False, help="correct the leak here, not in cal_leak"),
            Option("objname", "str", None, help="only this object"),
            Option("dprtype", "str", None, help="only this frame type"),
            Option("quicklook", "bool", False, help="flux-weighted sum, no correction of the background"),
            Option(
                "combine_method",
                "choice",
                "sum",
                choices=("sum", "mean", "median"),
                help="how several files become one",
            ),
            Option("e2dsll", "bool", False, help="also keep what every pixel contributes"),
            NO_IN_QC,
        ),
        resources=Resources(memory_gb=2.0, seconds=8.0),
        stratum=6,
        reads=(OBJECTS_FILE,),
        body=cal_extract,
    )
)
