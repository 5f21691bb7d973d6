"""obj_mk_template: mean spectrum of one object in its rest frame, over all nights."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from apero_dask.core.declare import Argument, Group, Makes, Option, Recipe, Resources, Select, register
from apero_dask.recipes.options import BLAZE, FIBRE, GENERAL, WAVE, without_effect
from apero_dask.recipes.tellu_make import STAR_TYPES

if TYPE_CHECKING:
    from apero_dask.recipes.context import RecipeContext


def obj_mk_template(ctx: RecipeContext) -> None:
    """Combine all spectra of an object into one in the barycentric frame.

    Raises
    ------
    DataError
        No usable frame, one of another object, or a calibration that is not there.
    """
    from apero_dask.recipes.template_run import make_template

    make_template(ctx)


OBJ_MK_TEMPLATE = register(
    Recipe(
        name="obj_mk_template",
        short="MKTEMP",
        scripts=("apero_mk_template",),
        group=Group.OBJECT,
        tree_in="reduced",
        tree_out="reduced",
        takes="objname",
        arguments=(Argument("files", ("TCORR1", "TCORR"), STAR_TYPES, fibres=("AB",)),),
        selects=(Select(("WAVEM",)),),
        makes=tuple(
            Makes(kind, ("AB",)) for kind in ("TEMPLATE", "TEMPLATE_W", "TEMPLATE_V", "BIGCUBE", "BIGCUBE0")
        ),
        options=(
            *GENERAL,
            Option(
                "filetype",
                "choice",
                None,
                choices=("TCORR1", "TCORR"),
                elsewhere="planner: the spectra",
                help="only these spectra",
            ),
            replace(FIBRE, choices=("ALL", "AB")),
            BLAZE,
            without_effect(WAVE, "spectra bring their own wavelengths, the template has those of WAVEM"),
        ),
        resources=Resources(memory_gb=1.0, seconds=5.0, per_input_s=0.5),
        stratum=9,
        body=obj_mk_template,
    )
)
