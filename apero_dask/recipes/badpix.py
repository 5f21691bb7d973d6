"""cal_badpix: bad pixels and the map of usable background pixels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from apero_dask.core.declare import Group, Makes, Recipe, Resources, register
from apero_dask.recipes.context import RecipeContext
from apero_dask.recipes.options import COMBINE, FRAME, GENERAL, frames

if TYPE_CHECKING:
    import numpy as np

    from apero_dask.recipes.imagecal import Combined

# The limits of the reference pipeline are 0.5 and 5 ADU/s.  A pixel at the limit receives from its
# neighbours, or loses to them, 2.4 per cent by capacitive coupling, and its noise is not zero: a tenth
# below, none is lost.
FLAT_CUT = 0.45
DARK_CUT = 4.5  # ADU/s
ENGINEERING_CUT = 0.45
SIGNIFICANCE = 5.0  # sigma; a faint pixel must also deviate by so much
FAINT = 0.05  # of the 90th percentile; above it the fixed limit alone counts, as in the reference
TELEGRAPH_FLOOR = 0.02  # ADU/s of scatter that thermal light brings into every pixel
CORE, REACH = 5, 9  # px; defects that hold the first square are enlarged by the second
TILE = 256  # px, for the coverage of the background

HOT, FLAT, NOT_FINITE, RESPONSE, GROWN, TELEGRAPH = 1, 2, 4, 8, 16, 32
"""Bits of the extension REASON; TELEGRAPH alone does not make a pixel bad."""
REASON_CARDS = (
    ("MASKBIT0", "hot in the dark", ""),
    ("MASKBIT1", "response differs from its neighbours", ""),
    ("MASKBIT2", "not finite", ""),
    ("MASKBIT3", "response under full illumination", ""),
    ("MASKBIT4", "beside a large defect", ""),
    ("MASKBIT5", "dark level jumps, not bad by itself", ""),
)


@dataclass(frozen=True, slots=True)
class Night:
    """Flat and dark of a night in the calibrated frame, float32[y, x], ADU/s."""

    flat: np.ndarray
    """Without dark."""
    flat_variance: np.ndarray
    dark: np.ndarray
    """Beyond its neighbours along the dispersion."""
    scatter: np.ndarray
    """Of the darks."""
    dark_variance: np.ndarray
    """Of one dark."""


def cal_badpix(ctx: RecipeContext) -> None:
    """Find pixels that cannot be trusted, from the flats and darks of a night.

    Raises
    ------
    DataError
        A frame is damaged, or the flats have nothing in common.
    """
    import numpy as np
    from apero_kernels.badpix import background_mask, grow_defects

    from apero_dask.io.fitswriter import Image
    from apero_dask.recipes.detector_assets import FLAT as FULL_ILLUMINATION
    from apero_dask.recipes.detector_assets import load_assets
    from apero_dask.recipes.imagecal import combine

    flats = combine(ctx, "flatfiles")
    darks = combine(ctx, "darkfiles", check_alike=False, scatter=True)
    night = _calibrated(ctx, flats, darks)
    reason = np.zeros(night.flat.shape, np.uint8)
    not_finite = _flag_night(night, len(darks.files), reason)
    assets = load_assets(ctx, (FULL_ILLUMINATION,))
    if assets.flat is not None:
        _flag_response(ctx, assets.flat, reason)
    bad = ((reason & (HOT | FLAT | NOT_FINITE | RESPONSE)) > 0).astype(np.uint8)
    whole = grow_defects(bad, CORE, REACH)
    reason[(whole == 1) & (bad == 0)] |= GROWN
    background = background_mask(night.flat)
    background[whole == 1] = 0

    total, coverage = float(whole.mean()), lowest_coverage(background)
    ctx.qc("BAD_FRACTION", total, "BAD_FRACTION not in 0.005..0.05", 0.005 <= total <= 0.05, informative=True)
    ctx.qc("BACKGROUND", coverage, "BACKGROUND < 0.05 in a tile", coverage >= 0.05, informative=True)
    for name, value, text in (
        ("FLAT_CUT", FLAT_CUT, "largest relative deviation of the flat"),
        ("DARK_CUT", DARK_CUT, "ADU/s above the neighbours"),
        ("ENGINEERING_CUT", ENGINEERING_CUT, "largest deviation under full illumination"),
        ("SIGNIFICANCE", SIGNIFICANCE, "sigma, for faint pixels"),
        ("GROW", f"{CORE}, {REACH}", "px, core and reach of large defects"),
    ):
        ctx.parameter(name, value, description=text)

    def percent(selected: np.ndarray | float) -> float:
        return round(100.0 * float(np.mean(selected)), 5)

    header = {
        "MJDMID": (ctx.work.time, "mean mid-exposure of the planned flats, MJD"),
        "BHOT": (percent((reason & HOT) > 0), "[%] hot"),
        "BBFLAT": (percent((reason & FLAT) > 0), "[%] by the flat"),
        "BNDARK": (percent(not_finite[0]), "[%] not finite in the dark"),
        "BNFLAT": (percent(not_finite[1]), "[%] not finite in the flat"),
        "BBAD": (percent(bad), "[%] before large defects were enlarged"),
        "BNILUM": (percent((reason & RESPONSE) > 0), "[%] by the flat under full illumination"),
        "BTOT": (percent(whole), "[%] all"),
        "BTELEGR": (percent((reason & TELEGRAPH) > 0), "[%] dark level jumps"),
        "BENGFLAT": (assets.flat is not None, "a flat under full illumination was there"),
        "NFLATS": (len(flats.files), "flats combined"),
        "NDARKS": (len(darks.files), "darks combined"),
        "NDROPPED": (len(flats.dropped), "flats unlike the others, left out"),
    }
    if assets.flat is None:
        ctx.log.warning("no flat under full illumination: pixels between the orders are judged by darks only")
    inherit = flats.files[0]
    ctx.save(
        "BADPIX",
        Image("", whole),
        Image("REASON", reason, cards=REASON_CARDS),
        header=header,
        inherit=inherit,
    )
    ctx.save("BKGRDMAP", Image("", background), header=header, inherit=inherit)


def _calibrated(ctx: RecipeContext, flats: Combined, darks: Combined) -> Night:
    from apero_dask.recipes.imagecal import calibrated_frame, dark_background

    assert darks.scatter is not None  # asked for
    return Night(
        flat=calibrated_frame(ctx, flats.image - darks.image),
        flat_variance=calibrated_frame(ctx, flats.variance + darks.variance),
        dark=calibrated_frame(ctx, darks.image - dark_background(darks.image)),
        scatter=calibrated_frame(ctx, darks.scatter),
        dark_variance=calibrated_frame(ctx, darks.variance * len(darks.files)),
    )


def _flag_night(night: Night, ndarks: int, reason: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Set the bits of flat and dark; return where dark and flat are not finite."""
    import numpy as np
    from apero_kernels.badpix import along_rows, flag_flat, flat_scale, unstable_pixels

    flagged = np.zeros_like(reason)
    local = along_rows(night.flat)
    scale = flat_scale(night.flat, local=local)
    if scale > 0:
        flag_flat(night.flat, flagged, scale=scale, cut=FLAT_CUT, local=local)
        # Between the orders the flat is faint: there a deviation must be significant as well.
        flag_flat(
            night.flat,
            flagged,
            scale=scale * 1e-6,
            var=night.flat_variance,
            cut=np.inf,
            significance=SIGNIFICANCE,
            least=FLAT_CUT,
            local=local,
        )
    reason |= flagged & (FLAT | NOT_FINITE)
    dark_blank, flat_blank = ~np.isfinite(night.dark), (flagged & NOT_FINITE) > 0
    with np.errstate(invalid="ignore"):
        reason[night.dark > DARK_CUT] |= HOT
    reason[dark_blank] |= NOT_FINITE
    jumping = np.zeros_like(reason)
    count = np.full(reason.shape, ndarks, np.int32)
    unstable_pixels(night.scatter, count, night.dark_variance, jumping, floor=TELEGRAPH_FLOOR)
    reason[jumping == 1] |= TELEGRAPH
    return dark_blank, flat_blank


def _flag_response(ctx: RecipeContext, flat: np.ndarray, reason: np.ndarray) -> None:
    """Set the bit of pixels whose response under full illumination is far from 1."""
    import numpy as np
    from apero_kernels.detector import rotate_to_pp

    from apero_dask.recipes.imagecal import calibrated_frame

    turned = np.empty(flat.shape[::-1], flat.dtype)
    rotate_to_pp(flat, turned)
    response = calibrated_frame(ctx, turned)
    with np.errstate(invalid="ignore"):
        reason[~(np.abs(response - 1.0) <= ENGINEERING_CUT)] |= RESPONSE


def lowest_coverage(background: np.ndarray) -> float:
    """Smallest share of background pixels in the tiles of a mask ``uint8[y, x]``."""
    rows, columns = background.shape
    return min(
        float(background[y : y + TILE, x : x + TILE].mean())
        for y in range(0, max(rows - TILE // 2, 1), TILE)
        for x in range(0, max(columns - TILE // 2, 1), TILE)
    )


CAL_BADPIX = register(
    Recipe(
        name="cal_badpix",
        short="BAD",
        scripts=("apero_badpix",),
        group=Group.NIGHT,
        tree_in="tmp",
        tree_out="reduced",
        takes="obs_dir",
        arguments=(
            frames("flatfiles", "FLAT_FLAT"),
            frames("darkfiles", "DARK_DARK_TEL", "DARK_DARK_INT", one_type=False),
        ),
        makes=(Makes("BADPIX"), Makes("BKGRDMAP")),
        options=(
            *GENERAL,
            COMBINE,
            *FRAME,
        ),
        resources=Resources(memory_gb=2.5, seconds=8.0, per_input_s=0.5),
        reads=("detector/{instrument}_detector.fits",),
        stratum=1,
        body=cal_badpix,
    )
)
