"""Options shared by several recipes."""

from __future__ import annotations

from dataclasses import replace

from apero_dask.core.declare import Argument, Option, Select

FIBRES = ("AB", "A", "B", "C")
SCIENCE = ("AB", "A", "B")

NO_IN_QC = Option(
    "no_in_qc",
    "switch",
    elsewhere="planner and resolver: they hand the recipe the inputs",
    help="use inputs that failed quality control",
)

GENERAL = (
    Option(
        "database",
        "bool",
        True,
        changes_result=False,
        refused="every product that passes is registered; a data root of its own keeps products apart",
        help="register the products",
    ),
    Option(
        "plot",
        "str",
        None,
        changes_result=False,
        elsewhere="nothing: recipes draw nothing, and lines written by other programs set it",
        help="accepted and ignored",
    ),
    NO_IN_QC,
)

SHAPES = (
    Option("shapex", "file", calibration="SHAPEX", help="map of displacements along the dispersion"),
    Option("shapey", "file", calibration="SHAPEY", help="map of displacements across the dispersion"),
    Option("shapel", "file", calibration="SHAPEL", help="affine transform of the night"),
)

COMBINE = Option(
    "combine",
    "bool",
    True,
    no_effect="the frames of a calibration are always combined",
    help="combine the files before reducing them",
)
COMBINE_FRAMES = replace(COMBINE, no_effect="", elsewhere="planner: one run per frame without it")

_ONE_FRAME = "localisation, shape, wavelengths and noise are those of frames turned in both axes, cut, in e-"
FRAME = (
    Option(
        "flipimage",
        "choice",
        "both",
        choices=("None", "x", "y", "both"),
        refused=_ONE_FRAME,
        help="axes that are flipped",
    ),
    Option(
        "fluxunits",
        "choice",
        "e-",
        choices=("ADU/s", "e-"),
        refused=_ONE_FRAME,
        help="unit of the calibrated image",
    ),
    Option("resize", "bool", True, refused=_ONE_FRAME, help="cut the image to the calibrated frame"),
)
"""Options about the calibrated frame, of which there is one."""

CALIBRATION = (
    Option("badpixfile", "file", calibration="BADPIX", help="bad pixels"),
    Option("badcorr", "bool", True, help="correct bad pixels"),
    Option("backfile", "file", calibration="BKGRDMAP", help="background map"),
    Option("backsub", "bool", True, help="subtract scattered light"),
    COMBINE,
    Option("darkfile", "file", calibration="DARKM", help="reference dark"),
    Option("darkcorr", "bool", True, help="subtract the reference dark"),
    *FRAME,
)

LOCO = Option("locofile", "file", calibration="LOC", help="localisation")
PROFILE = Option("orderpfile", "file", calibration="ORDER_PROFILE", help="order profile")
BLAZE = Option("blazefile", "file", calibration="BLAZE", help="blaze")
WAVE = Option("wavefile", "file", calibration="WAVE", help="wavelength solution")
FIBRE = Option(
    "fiber",
    "choice",
    "ALL",
    choices=("ALL", *FIBRES),
    aliases=("fibre",),
    elsewhere="planner: the products of a run",
    help="fibre to make",
)
ALL_FIBRES = replace(FIBRE, elsewhere="", refused="what is made here is used for all fibres together")
FORCE = Option(
    "forceext",
    "bool",
    False,
    elsewhere="nothing: a recipe always extracts its own frames",
    help="extract again even if the spectrum exists",
)
FP_REFERENCE = Option(
    "fpmaster", "file", aliases=("fpref",), calibration="FPMASTER", help="reference Fabry-Perot image"
)

EXTRACTION = (BLAZE, LOCO, PROFILE, *SHAPES, WAVE, FIBRE)
"""Calibrations of an extraction that a line can name, and its fibre."""


def without_effect(option: Option, why: str) -> Option:
    """The option as one that is accepted and changes nothing."""
    return replace(option, no_effect=why)


EXTRACTION_SET = (
    Select(("DARKM",)),
    Select(("BADPIX", "BKGRDMAP")),
    Select(("LOC", "ORDER_PROFILE"), fibre="AB"),
    Select(("LOC", "ORDER_PROFILE"), fibre="C"),
    Select(("SHAPEX", "SHAPEY")),
    Select(("SHAPEL",)),
    Select(("FLAT", "BLAZE")),
)
"""What every extraction needs before wavelength and thermal correction."""


def frames(name: str, *types: str, one_type: bool = True, positional: bool = False) -> Argument:
    """Argument that takes preprocessed frames of the given types."""
    return Argument(name, ("PP",), types, one_type=one_type, positional=positional)
