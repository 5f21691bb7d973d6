"""cal_shape_master and cal_shape: maps that straighten the orders, and the affine transform of a night."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from apero_dask.core.declare import Argument, Group, Makes, Recipe, Resources, Select, register
from apero_dask.core.errors import DataError
from apero_dask.recipes.context import RecipeContext
from apero_dask.recipes.options import (
    CALIBRATION,
    FP_REFERENCE,
    GENERAL,
    LOCO,
    SHAPES,
    frames,
    without_effect,
)

if TYPE_CHECKING:
    from apero_dask.recipes.shape_register import Peaks, Registration
    from apero_dask.recipes.shape_slits import Slits
    from apero_dask.recipes.shape_tilt import TiltFit

AFFINE_NAMES = ("DX", "DY", "A", "B", "C", "D")
MOST_SIGMA = 0.1  # px, scatter of the peaks about the transform of a night
MOST_RMS = 0.3  # px, of the displacements left in an order
MOST_SPREAD = 5.0  # px, of the map in a column of an order


def cal_shape(ctx: RecipeContext) -> None:
    """Measure where the light of the reference Fabry-Perot image falls in a night.

    Raises
    ------
    DataError
        A frame is damaged, no frame is left, or the reference image cannot be used.
    """
    import numpy as np

    from apero_dask.io.fitswriter import Image
    from apero_dask.recipes import shape_register
    from apero_dask.recipes.calibrated import calibrated, calibration_cards

    peaks = reference_peaks(ctx)
    frame = calibrated(ctx, "files")
    found = shape_register.register(peaks, frame.image, frame.variance)
    log = "found" if found.found else "not found"
    ctx.log.info("transform %s: %d of %d peaks, %s", log, found.matched, found.peaks, found.affine)
    judge_transform(ctx, found)
    for name, value, text in (
        ("SHAPE_LEAST_SIGMA", shape_register.LEAST_SIGMA, "sigma, faintest peak used"),
        ("SHAPE_REACH", shape_register.REACH, "px, largest whole-pixel offset searched"),
        ("SHAPE_SYSTEMATIC", shape_register.SYSTEMATIC, "relative error of a pixel assumed in the weights"),
        ("SHAPE_CUT", shape_register.CUT, "sigma, at which a peak loses half its weight"),
    ):
        ctx.parameter(name, value, description=text)
    errors = np.sqrt(np.diag(found.covariance))
    header: dict[str, Any] = {
        "MJDMID": (ctx.work.time, "mean mid-exposure of the planned frames, MJD"),
        **{
            f"SHAPE_{name}": (value, f"transform of the night, {name.lower()}")
            for name, value in zip(AFFINE_NAMES, found.affine, strict=True)
        },
        **{
            f"SHERR_{name}": (value, f"standard deviation of {name.lower()}")
            for name, value in zip(AFFINE_NAMES, errors, strict=True)
        },
        "SHAPE_SX": (found.sigma[0], "[px] scatter of the peaks along x"),
        "SHAPE_SY": (found.sigma[1], "[px] scatter of the peaks along y"),
        "SHAPE_NP": (found.peaks, "peaks of the reference inside the frame"),
        "SHAPE_NM": (found.matched, "peaks that agree with the transform"),
        **calibration_cards(frame),
    }
    ctx.save(
        "SHAPEL",
        Image("", found.affine[None, :]),
        Image("COVARIANCE", found.covariance),
        header=header,
        inherit=frame.files[0],
    )


def judge_transform(ctx: RecipeContext, found: Registration) -> None:
    """Record the quality control of a transform: found, scatter along x and along y."""
    ctx.qc("SHAPE_FOUND", int(found.found), "SHAPE_FOUND < 1", found.found)
    for name, sigma in zip(("SHAPE_XRES", "SHAPE_YRES"), found.sigma, strict=True):
        ctx.qc(name, float(sigma), f"{name} > {MOST_SIGMA}", sigma <= MOST_SIGMA)


def reference_peaks(ctx: RecipeContext) -> Peaks:
    """Peaks of the reference image, shared by the runs of a process.

    Raises
    ------
    DataError
        The image has another shape or shows no peaks.
    """
    from apero_dask.recipes.shape_register import FEWEST_PEAKS, find_reference_peaks

    chosen, i = ctx.calibration("FPMASTER"), ctx.instrument
    image = ctx.calibration_image("FPMASTER")
    variance = ctx.calibration_image("FPMASTER", extension="VARIANCE")
    if chosen is None or image is None or variance is None:
        raise DataError(f"{ctx.work.recipe}: FPMASTER is missing; make it with cal_shape_master.")
    if image.shape != (i.ny, i.nx) or variance.shape != image.shape:
        raise DataError(
            f"{chosen.path}: image of shape {image.shape}, expected {(i.ny, i.nx)} for {i.name}; make it "
            "again with cal_shape_master."
        )
    peaks: Peaks = ctx.cached(f"{chosen.key} peaks", lambda: find_reference_peaks(image, variance))
    if peaks.x.size < FEWEST_PEAKS:
        raise DataError(
            f"{chosen.path}: {peaks.x.size} peaks, expected thousands; the reference image is no Fabry-Perot "
            "image, make it again with cal_shape_master."
        )
    return peaks


def cal_shape_master(ctx: RecipeContext) -> None:
    """Make the reference Fabry-Perot image and the maps that straighten the orders.

    Raises
    ------
    DataError
        A frame is damaged, the master night has no Fabry-Perot frame with light, or the localisation cannot
        be used.

    Notes
    -----
    The maps come from the Fabry-Perot image, whose lines are everywhere; the lamp lines judge them.
    """
    from apero_dask.io.fitswriter import Image
    from apero_dask.recipes import shape_model, shape_reference, shape_slits, shape_tilt

    reference = shape_reference.reference_image(ctx)
    slits = shape_slits.place_reference_fibre(science_slits(ctx), reference.image)
    fit = shape_tilt.measure_tilt(reference.image, reference.variance, slits)
    judge_maps(ctx, fit, slits)
    lamp = _lamp_residual(ctx, slits, fit)
    ctx.qc("HC_RMS", lamp, "HC_RMS > 0.3", lamp <= MOST_RMS, informative=True)
    for name, value, text in (
        ("SHAPE_MATCH_TIME", shape_reference.MATCH_TIME_H, "h, longest time from the first frame of a set"),
        ("SHAPE_FEWEST_FRAMES", shape_reference.FEWEST_FRAMES, "of a set outside the master night"),
        (
            "SHAPE_LEAST_LIGHT",
            shape_reference.LEAST_LIGHT,
            "95th percentile over noise of a frame with light",
        ),
        ("SHAPE_NORMALISE", shape_reference.NORMALISE, "percentile of a set that becomes 1"),
        ("SHAPE_SECTION", shape_tilt.SECTION, "px, in which one displacement is measured"),
        ("SHAPE_TILT_DEGREES", str(shape_model.TILT_DEGREES), "of the tilt along and across the orders"),
        ("SHAPE_OFFSET_DEGREE", shape_model.OFFSET_DEGREE, "of the offset of a fibre along an order"),
    ):
        ctx.parameter(name, value, description=text)
    used = int((reference.status == shape_reference.USED).sum())
    header: dict[str, Any] = {
        "MJDMID": (ctx.work.time, "mean mid-exposure of the planned frames, MJD"),
        "NFP": (len(reference.files), "Fabry-Perot frames given"),
        "NFPUSED": (used, "Fabry-Perot frames used"),
        "NFPSETS": (len(set(reference.group[reference.status == shape_reference.USED])), "sets used"),
        "SHAPENPT": (fit.points, "displacements measured"),
    }
    inherit = reference.night[0]
    table = reference.table()
    orders = _order_table(fit)
    ctx.save("SHAPEX", Image("", fit.dxmap, "pix"), table, orders, header=header, inherit=inherit)
    ctx.save("SHAPEY", Image("", fit.dymap, "pix"), table, header=header, inherit=inherit)
    ctx.save(
        "FPMASTER",
        Image("", reference.image),
        Image("VARIANCE", reference.variance),
        table,
        header=header,
        inherit=inherit,
    )


def science_slits(ctx: RecipeContext) -> Slits:
    """Slit images of the two science fibres of the localisation, the reference fibre as their mirror image.

    Raises
    ------
    DataError
        A localisation that cannot be used.
    """
    from apero_dask.recipes.shape_slits import slits_of
    from apero_dask.recipes.traces import traces

    i = ctx.instrument
    names = [fibre for fibre in i.traced_fibres if fibre in i.localised_group(i.science_fibres[0])]
    found = {name: traces(ctx, name) for name in names}
    lower, upper = sorted(names, key=lambda name: float(found[name].positions(i.nx)[:, i.nx // 2].mean()))
    reference = next(fibre for fibre in i.traced_fibres if fibre not in names)
    science = [found[lower], found[upper]]
    return slits_of(
        (reference, lower, upper),
        [one.centres for one in science],
        [one.heights(i.nx) for one in science],
        i.nx,
        i.ny,
    )


def judge_maps(ctx: RecipeContext, fit: TiltFit, slits: Slits) -> None:
    """Record the quality control of the maps: displacement left in an order, spread in a column."""
    import numpy as np

    from apero_dask.recipes.shape_tilt import column_spread

    measured = np.isfinite(fit.rms)
    worst = float(np.max(fit.rms[measured])) if measured.any() else float("nan")
    spread = column_spread(fit, slits)
    ctx.qc("SHAPE_DXRMS", worst, f"SHAPE_DXRMS > {MOST_RMS} in an order", worst <= MOST_RMS)
    ctx.qc("SHAPE_DXSTD", spread, f"SHAPE_DXSTD > {MOST_SPREAD} in a column", spread <= MOST_SPREAD)
    missing = int(np.count_nonzero(~measured))
    ctx.qc("SHAPE_NODX", missing, "SHAPE_NODX > 0 orders without lines", missing == 0, informative=True)


def _order_table(fit: TiltFit) -> Any:
    import numpy as np

    from apero_dask.io.fitswriter import Table

    order = np.arange(fit.rms.size)
    tilt = fit.model.tilt_at(np.zeros(order.size), order)
    return Table(
        "ORDER_TABLE",
        {"ORDER": order, "TILT": np.rad2deg(np.arctan(tilt)), "DXRMS": fit.rms},
        cards=(("TUNIT2", "deg", "in mid-order"), ("TUNIT3", "pix", "left after straightening")),
    )


def _lamp_residual(ctx: RecipeContext, slits: Slits, fit: TiltFit) -> float:
    """Rms displacement of the rows of straightened lamp lines, px; an independent look at the maps."""
    from apero_dask.recipes.calibrated import calibrated
    from apero_dask.recipes.shape_tilt import residual_displacement

    frame = calibrated(ctx, "hcfiles", background=False, check_alike=False)
    return residual_displacement(frame.image, frame.variance, slits, fit)


CAL_SHAPE_MASTER = register(
    Recipe(
        name="cal_shape_master",
        short="SHAPEM",
        scripts=("apero_shape_ref",),
        group=Group.ARCHIVE,
        tree_in="tmp",
        tree_out="reduced",
        takes="obs_dir",
        arguments=(
            frames("hcfiles", "HCONE_HCONE"),
            Argument("fpfiles", ("PP",), ("FP_FP",), archive=True),
        ),
        selects=(
            Select(("DARKM",)),
            Select(("BADPIX", "BKGRDMAP")),
            Select(("LOC", "ORDER_PROFILE"), fibre="AB"),
            Select(("WAVE0",)),
        ),
        makes=(Makes("SHAPEX"), Makes("SHAPEY"), Makes("FPMASTER")),
        leading="fpfiles",
        options=(
            *GENERAL,
            *CALIBRATION,
            LOCO,
            without_effect(FP_REFERENCE, "this recipe makes the reference image"),
        ),
        resources=Resources(memory_gb=4.0, seconds=30.0, per_input_s=1.0),
        body=cal_shape_master,
    )
)

CAL_SHAPE = register(
    Recipe(
        name="cal_shape",
        short="SHAPE",
        scripts=("apero_shape",),
        group=Group.NIGHT,
        tree_in="tmp",
        tree_out="reduced",
        takes="obs_dir",
        arguments=(frames("files", "FP_FP", positional=True),),
        selects=(
            Select(("DARKM",)),
            Select(("BADPIX", "BKGRDMAP")),
            Select(("SHAPEX", "SHAPEY", "FPMASTER")),
        ),
        makes=(Makes("SHAPEL"),),
        options=(
            *GENERAL,
            *CALIBRATION,
            FP_REFERENCE,
            *(
                without_effect(option, "the transform of a night acts before the maps")
                for option in SHAPES[:2]
            ),
        ),
        resources=Resources(memory_gb=2.5, seconds=10.0, per_input_s=0.5),
        stratum=2,
        body=cal_shape,
    )
)
