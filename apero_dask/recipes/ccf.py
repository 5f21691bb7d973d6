"""cal_ccf: cross-correlation with a line mask, per order and combined."""

from __future__ import annotations

from typing import TYPE_CHECKING

from apero_dask.core.declare import Argument, Group, Makes, Option, Recipe, Resources, Select, register
from apero_dask.recipes.options import BLAZE, GENERAL
from apero_dask.recipes.sky_absorption import READS
from apero_dask.recipes.tellu_make import STAR_TYPES

if TYPE_CHECKING:
    from apero_dask.recipes.context import RecipeContext

DEFAULT_MASK = "masque_sept18_andres_trans50.mas"
"""Mask of the run-file documents; used when the mask folder has it."""
BUILTIN_MASK = "apero_dask_mdwarf.mas"
"""Name under which the packaged mask appears in file names and headers."""
FP_MASK = "fp.mas"
"""Name of the mask of the comb: the peaks of the cavity of the wavelength solution."""


def cal_ccf(ctx: RecipeContext) -> None:
    """Measure the velocity of a star in one spectrum, and the drift of the exposure.

    Raises
    ------
    DataError
        The spectrum has no light or no BERV, or a calibration or mask does not fit.
    """
    from apero_dask.recipes.ccf_run import correlate_frame

    correlate_frame(ctx)


CAL_CCF = register(
    Recipe(
        name="cal_ccf",
        short="CCF",
        scripts=("apero_ccf",),
        group=Group.FILE,
        tree_in="reduced",
        tree_out="reduced",
        takes="obs_dir",
        arguments=(
            Argument(
                "files",
                ("TCORR", "TCORR1", "LCORR", "E2DSFF", "E2DS"),
                STAR_TYPES,
                positional=True,
                fibres=("AB",),
            ),
            Argument("fpfiles", ("E2DSFF",), STAR_TYPES, required=False, fibres=("C",), found=True),
        ),
        selects=(Select(("WAVE",), fallback=("WAVEM",)), Select(("FLAT", "BLAZE"))),
        makes=(Makes("CCF", ("AB",)), Makes("CCF_FP", ("C",), reference=("fp",))),
        options=(
            *GENERAL,
            Option("mask", "file", None, absolute_path=True, help="line mask"),
            Option("rv", "float", None, below=1000.0, unit="km/s", help="centre of the scan"),
            Option("width", "float", 300.0, above=0.0, unit="km/s", help="half width of the scan"),
            Option("step", "float", 0.5, above=0.0, unit="km/s", help="step of the scan"),
            Option(
                "masknormmode", "choice", "all", choices=("None", "all", "order"), help="norm of the weights"
            ),
            BLAZE,
        ),
        resources=Resources(memory_gb=0.5, seconds=3.0),
        reads=("masks/*", *READS),
        stratum=10,
        body=cal_ccf,
    )
)
