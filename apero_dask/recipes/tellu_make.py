"""obj_mk_tellu: transmission of the atmosphere from the spectrum of a hot star."""

from __future__ import annotations

from apero_dask.core.declare import Argument, Group, Makes, Option, Recipe, Resources, Select, register
from apero_dask.recipes import sky_absorption, sky_emission
from apero_dask.recipes.options import BLAZE, GENERAL, WAVE, without_effect
from apero_dask.recipes.tellu_run import obj_mk_tellu

STAR_TYPES = ("OBJ_DARK", "OBJ_FP", "POLAR_DARK", "POLAR_FP")

TELLURIC_SELECTS = (
    Select(("WAVE",), fallback=("WAVEM",)),
    Select(("WAVEM", "WAVR_E2DS")),
    Select(("FLAT", "BLAZE")),
)

TEMPLATE = Argument("template", ("TEMPLATE",), fibres=("AB",), required=False, found=True)
TELLURIC_READS = (*sky_absorption.READS, *sky_emission.READS)

TELLURIC_OPTIONS = (
    *GENERAL,
    BLAZE,
    WAVE,
    Option("use_template", "bool", True, help="divide by the template of the object if there is one"),
    Option("template", "file", calibration="TEMPLATE", help="this template instead of the object's own"),
    Option("finiteres", "bool", True, help="correct for the finite resolution"),
)

OBJ_MK_TELLU = register(
    Recipe(
        name="obj_mk_tellu",
        short="MKTELL",
        scripts=("apero_mk_tellu",),
        group=Group.FILE,
        tree_in="reduced",
        tree_out="reduced",
        takes="obs_dir",
        arguments=(
            Argument("files", ("LCORR", "E2DSFF", "E2DS"), STAR_TYPES, positional=True, fibres=("AB",)),
            TEMPLATE,
        ),
        selects=TELLURIC_SELECTS,
        makes=(Makes("TRANS1", ("AB",), variants=("p1",)), Makes("TRANS2", ("AB",), variants=("final",))),
        options=tuple(
            without_effect(option, "lines of hot stars are broader than the resolution")
            if option.name == "finiteres"
            else option
            for option in TELLURIC_OPTIONS
        ),
        resources=Resources(memory_gb=1.5, seconds=5.0),
        stratum=7,
        reads=TELLURIC_READS,
        body=obj_mk_tellu,
    )
)
