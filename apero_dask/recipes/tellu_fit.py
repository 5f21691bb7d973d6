"""obj_fit_tellu: telluric correction of one frame with the model of all transmissions."""

from __future__ import annotations

from apero_dask.core.declare import Argument, Group, Makes, Option, Recipe, Resources, register
from apero_dask.recipes.options import SCIENCE
from apero_dask.recipes.tellu_apply import obj_fit_tellu
from apero_dask.recipes.tellu_make import (
    STAR_TYPES,
    TELLURIC_OPTIONS,
    TELLURIC_READS,
    TELLURIC_SELECTS,
    TEMPLATE,
)

FIRST = ("p1",)
PUBLIC = ("final", "p1_public")
"""The last fit of a frame owns the public names; the first one does when it is also the last."""


def _makes(corrected: str, recon: str, clean: str, variants: tuple[str, ...]) -> tuple[Makes, ...]:
    return (
        Makes(corrected, SCIENCE, variants),
        Makes(f"{corrected}_S1D_W", SCIENCE, variants),
        Makes(f"{corrected}_S1D_V", SCIENCE, variants),
        Makes(recon, ("AB",), variants),
        Makes(f"{recon}_S1D_W", ("AB",), variants),
        Makes(f"{recon}_S1D_V", ("AB",), variants),
        Makes(clean, ("AB",), variants),
    )


OBJ_FIT_TELLU = register(
    Recipe(
        name="obj_fit_tellu",
        short="FTELLU",
        scripts=("apero_fit_tellu",),
        group=Group.FILE,
        tree_in="reduced",
        tree_out="reduced",
        takes="obs_dir",
        arguments=(
            Argument("files", ("LCORR", "E2DSFF", "E2DS"), STAR_TYPES, positional=True, fibres=SCIENCE),
            Argument("model", ("MODEL2", "MODEL1"), fibres=("AB",), required=False, found=True),
            TEMPLATE,
        ),
        selects=TELLURIC_SELECTS,
        makes=(*_makes("TCORR1", "RECON1", "PCLEAN1", FIRST), *_makes("TCORR", "RECON", "PCLEAN", PUBLIC)),
        options=(
            *TELLURIC_OPTIONS,
            Option("onlypreclean", "switch", help="stop after the analytic absorption model"),
            Option(
                "model", "choice", "residual", choices=("residual", "pca"), help="telluric residual model"
            ),
        ),
        resources=Resources(memory_gb=2.0, seconds=6.0),
        stratum=8,
        reads=TELLURIC_READS,
        body=obj_fit_tellu,
    )
)
