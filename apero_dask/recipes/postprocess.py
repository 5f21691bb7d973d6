"""cal_postprocess: packaged files of one frame for programs of other groups."""

from __future__ import annotations

from typing import TYPE_CHECKING

from apero_dask.core.declare import Argument, Group, Makes, Option, Recipe, Resources, Select, register
from apero_dask.recipes.options import FIBRES, SCIENCE
from apero_dask.recipes.tellu_make import STAR_TYPES

if TYPE_CHECKING:
    from apero_dask.recipes.context import RecipeContext


def cal_postprocess(ctx: RecipeContext) -> None:
    """Gather the products of one frame into files of the form that programs for SPIRou read.

    Raises
    ------
    DataError
        A member is damaged, or the members are of several versions or wavelength solutions.
    """
    from apero_dask.recipes.package_files import package

    package(ctx)


def _found(kind: str, fibres: tuple[str, ...], *, required: bool = False) -> Argument:
    """Member that the planner adds."""
    return Argument(kind.lower(), (kind,), fibres=fibres, required=required, found=True)


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
            Argument("files", ("E2DSFF",), STAR_TYPES, positional=True, fibres=FIBRES),
            _found("PP", ("",), required=True),
            _found("S1D_W", FIBRES, required=True),
            _found("S1D_V", FIBRES, required=True),
            _found("LCORR", SCIENCE),
            _found("LCORR_S1D_W", SCIENCE),
            _found("LCORR_S1D_V", SCIENCE),
            _found("TCORR", SCIENCE),
            _found("TCORR_S1D_W", SCIENCE),
            _found("TCORR_S1D_V", SCIENCE),
            _found("RECON", ("AB",)),
            _found("RECON_S1D_W", ("AB",)),
            _found("RECON_S1D_V", ("AB",)),
            _found("PCLEAN", ("AB",)),
            _found("CCF", ("AB",)),
        ),
        selects=(Select(("WAVE",), fallback=("WAVEM",)), Select(("FLAT", "BLAZE"))),
        makes=(
            Makes("POST_E"),
            Makes("POST_S"),
            Makes("POST_T", may_lack=True),
            Makes("POST_V", may_lack=True),
        ),
        options=(
            Option(
                "wave-basis",
                "choice",
                "chebyshev",
                choices=("chebyshev", "power"),
                aliases=("wave_basis",),
                help="basis of the wavelength coefficients; power for programs of 2020",
            ),
            Option(
                "clear",
                "bool",
                False,
                changes_result=False,
                no_effect="nothing is deleted",
                help="accepted and ignored",
            ),
        ),
        resources=Resources(memory_gb=0.5, seconds=4.0),
        stratum=11,
        extension=True,
        body=cal_postprocess,
    )
)
