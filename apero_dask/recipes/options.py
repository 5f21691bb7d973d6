"""Options shared by several recipes."""

from __future__ import annotations

from apero_dask.core.declare import Argument, Option, Select

FIBRES = ("AB", "A", "B", "C")
SCIENCE = ("AB", "A", "B")

GENERAL = (
    Option("database", "bool", True, changes_result=False, help="register the products"),
    Option("plot", "str", None, changes_result=False, help="accepted and ignored"),
    Option("no_in_qc", "switch", help="use inputs that failed quality control"),
)

SHAPES = (
    Option("shapex", "file", calibration="SHAPEX", help="map of displacements along the dispersion"),
    Option("shapey", "file", calibration="SHAPEY", help="map of displacements across the dispersion"),
    Option("shapel", "file", calibration="SHAPEL", help="affine transform of the night"),
)

CALIBRATION = (
    Option("badpixfile", "file", calibration="BADPIX", help="bad pixels"),
    Option("badcorr", "bool", True, help="correct bad pixels"),
    Option("backfile", "file", calibration="BKGRDMAP", help="background map"),
    Option("backsub", "bool", True, help="subtract scattered light"),
    Option("combine", "bool", True, help="combine the files before reducing them"),
    Option("darkfile", "file", calibration="DARKM", help="reference dark"),
    Option("darkcorr", "bool", True, help="subtract the reference dark"),
    Option("flipimage", "choice", "both", choices=("None", "x", "y", "both"), help="axes that are flipped"),
    Option("fluxunits", "choice", "e-", choices=("ADU/s", "e-"), help="unit of the calibrated image"),
    Option("resize", "bool", True, help="cut the image to the calibrated frame"),
)

LOCO = Option("locofile", "file", calibration="LOC", help="localisation")
PROFILE = Option("orderpfile", "file", calibration="ORDER_PROFILE", help="order profile")
BLAZE = Option("blazefile", "file", calibration="BLAZE", help="blaze")
WAVE = Option("wavefile", "file", calibration="WAVE", help="wavelength solution")
FIBRE = Option("fiber", "choice", "ALL", choices=("ALL", *FIBRES), aliases=("fibre",), help="fibre to make")
FORCE = Option("forceext", "bool", False, help="extract again even if the spectrum exists")
FP_REFERENCE = Option(
    "fpmaster", "file", aliases=("fpref",), calibration="FPMASTER", help="reference Fabry-Perot image"
)

EXTRACTION = (BLAZE, LOCO, PROFILE, *SHAPES, WAVE, FIBRE)

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
