"""cal_preprocessing: corrupt ramps rejected, correlated detector noise removed, cosmic hits flagged."""

from __future__ import annotations

from typing import TYPE_CHECKING

from apero_dask.core.declare import Argument, Group, Makes, Option, Recipe, Resources, register
from apero_dask.core.errors import DataError
from apero_dask.recipes.context import RecipeContext

if TYPE_CHECKING:
    from apero_dask.io.fits import FitsFile
    from apero_dask.recipes.detector_assets import DetectorAssets
    from apero_dask.recipes.rawramp import Ramp

MIN_HOT_SNR = 10.0  # all five limits: reference pipeline, version 0.7
MAX_NOISE = 0.15
MIN_EXPTIME_FRACTION = 0.10
MAX_DARK_P90 = 0.5  # ADU/s
DARK_TYPES = ("DARK_DARK_INT", "DARK_DARK_TEL")

MASK_BITS = (
    ("MASKBIT0", "cosmic hit, variance of the ramp"),
    ("MASKBIT1", "cosmic hit, intercept of the ramp"),
    ("MASKBIT2", "ramp cut by saturation"),
    ("MASKBIT3", "edge moved in by registration"),
    ("MASKBIT4", "cosmic hit, slope above dark and neighbours"),
)


def cal_preprocessing(ctx: RecipeContext) -> None:
    """Reduce one raw frame: the steps in the order in which the detector did them, backwards.

    Raises
    ------
    DataError
        The file is damaged, of another detector, or cannot be identified.
    """
    import numpy as np
    from apero_kernels.detector import rotate_to_pp
    from apero_kernels.ramps import ramp_variance

    from apero_dask.io.fitswriter import Image
    from apero_dask.recipes.detector_assets import load_assets
    from apero_dask.recipes.rawramp import (
        HIGHPASS_ROWS,
        LARGEST_SLIP,
        correct_ramp,
        flag_jumps,
        read_ramp,
        register_frame,
    )

    (path,) = ctx.input("files")
    raw = ctx.open(path)
    frame = _identify(ctx, raw)
    ramp = read_ramp(raw, ctx.instrument)
    if not ramp.complete:
        ctx.log.warning("%s holds the slope alone: cosmic hits are not flagged by the ramp", raw.name)
    assets = load_assets(ctx)
    cards = _frame_cards(frame, ctx.work.object)
    i = ctx.instrument

    finite = np.isfinite(ramp.slope)
    blank = not finite.any()
    ctx.qc("FINITE", float(finite.mean()), "FINITE == 0", not blank)
    if blank:
        # Nothing to correct; the flagged product says so to whoever looks for the frame.
        snr, noise, offset, counts, jumps = np.nan, np.nan, (0, 0), (0, 0, 0), 0
    else:
        snr, offset = register_frame(ramp, assets, i, ctx.log)
        noise = _noise(ctx, ramp)
        correct_ramp(ramp, assets, i)
        counts = _flag(ctx, ramp, assets)
        jumps = flag_jumps(ramp, assets, i)
    # The planes of the ramp are not needed any more: their memory takes the results.
    variance = np.empty_like(ramp.slope) if ramp.error is None else ramp.error
    ramp_variance(
        ramp.slope,
        ramp.reads,
        variance,
        frame_time_s=ramp.frame_time_s,
        read_noise_e=i.read_noise_e,
        gain=i.gain,
        longest=ramp.longest,
    )
    _judge(ctx, raw, ramp, frame.dprtype, snr, noise)
    for name, value, source, text in (
        ("GAIN", i.gain, "instrument", "e-/ADU"),
        ("READ_NOISE", i.read_noise_e, "instrument", "noise of one read, e-"),
        ("FRAME_TIME", ramp.frame_time_s, "header", "time between reads, s"),
        ("NREADS", ramp.longest, "header", "reads of the exposure"),
        ("MAX_SLIP", LARGEST_SLIP, "", "largest displacement that is put right, px"),
        ("HIGHPASS_ROWS", HIGHPASS_ROWS, "", "rows; slower noise of lit amplifiers is left"),
    ):
        ctx.parameter(name, value, source, text)
    cards |= {
        "DETOFFDX": (offset[1], "px along raw columns the frame was off, put right"),
        "DETOFFDY": (offset[0], "px along raw rows the frame was off, put right"),
        "NBADINTE": (counts[0], "pixels hit, by the intercept"),
        "NBADSLOP": (counts[1], "pixels hit, by the variance of the slope"),
        "NBADBOTH": (counts[2], "pixels hit, by both"),
        "NBADJUMP": (jumps, "pixels hit, by the slope alone"),
        "PPHOTPIX": ("assets" if assets.has_hot_pixels else "frame", "where the hot-pixel list is from"),
        "PPAMPMOD": ("assets" if assets.has_pattern else "none", "model of the fixed amplifier pattern"),
        "PPASSETS": (assets.digest[:16] or "none", "digest of the detector file"),
        "PPRAMP": (ramp.complete, "intercept, error and reads were there"),
        "PPCOSMIC": (ramp.complete and not blank, "cosmic hits were flagged by the ramp"),
        "PPJUMP": (assets.has_dark and not blank, "hits were flagged against the known dark"),
    }
    shape = (i.raw_columns, i.raw_rows)
    spare = np.empty_like(ramp.slope) if ramp.intercept is None else ramp.intercept
    planes = []
    for plane, room in ((ramp.slope, spare), (variance, ramp.slope), (ramp.mask, np.empty_like(ramp.mask))):
        turned = room.reshape(shape)
        rotate_to_pp(plane, turned)
        planes.append(turned)
    bits = tuple((key, text, "") for key, text in MASK_BITS)
    ctx.save(
        "PP",
        Image("", planes[0], "ADU/s"),
        Image("VARIANCE", planes[1], "ADU2/s2"),
        Image("MASK", planes[2], cards=bits),
        header=cards,
        inherit=raw,
    )


def _noise(ctx: RecipeContext, ramp: Ramp) -> float:
    from apero_kernels.corruption import noise_figures

    from apero_dask.recipes.rawramp import dark_ribbon

    figures = noise_figures(ramp.slope, dark_ribbon(ramp.slope, ctx.instrument))
    ctx.log.info("noise figures %s", " ".join(f"{figure:.4f}" for figure in figures))
    return float(max(figures))


def _flag(ctx: RecipeContext, ramp: Ramp, assets: DetectorAssets) -> tuple[int, int, int]:
    """Flag cosmic hits where the planes of the ramp are there."""
    from apero_kernels.cosmics import flag_cosmics

    if ramp.intercept is None or ramp.error is None:
        return 0, 0, 0
    i = ctx.instrument
    return flag_cosmics(
        ramp.slope,
        ramp.intercept,
        ramp.error,
        ramp.reads,
        ramp.mask,
        frame_time_s=ramp.frame_time_s,
        read_noise_e=i.read_noise_e,
        gain=i.gain,
        longest=ramp.longest,
        border=i.reference_border,
        bias=assets.bias,
    )


def _judge(ctx: RecipeContext, raw: FitsFile, ramp: Ramp, dprtype: str, snr: float, noise: float) -> None:
    """Tests that decide whether the frame may be used; NaN passes none of them."""
    from apero_kernels.robust import percentile

    ctx.qc("SNR_HOTPIX", snr, f"SNR_HOTPIX < {MIN_HOT_SNR:g}", snr >= MIN_HOT_SNR)
    ctx.qc("MAX_RMS", noise, f"MAX_RMS > {MAX_NOISE:g}", noise <= MAX_NOISE)
    asked = raw.number("EXPREQ") if "EXPREQ" in raw.values else ramp.exptime_s
    ctx.qc(
        "EXPTIME",
        ramp.exptime_s,
        f"EXPTIME < {MIN_EXPTIME_FRACTION * asked:.2f}",
        ramp.exptime_s >= MIN_EXPTIME_FRACTION * asked,
    )
    if dprtype in DARK_TYPES:
        p90 = percentile(ramp.slope, 90.0)
        ctx.qc("DARK_P90", p90, f"DARK_P90 > {MAX_DARK_P90:g}", p90 <= MAX_DARK_P90)


def _identify(ctx: RecipeContext, raw: FitsFile):  # type: ignore[no-untyped-def]
    """The frame as the scan of the archive identified it, by the same rules."""
    from apero_dask.core.names import ObjectNames
    from apero_dask.io.identify import Identifier

    identifier = Identifier(ctx.instrument, ObjectNames(), float("inf"))
    found = identifier.identify(raw.values, obs_dir=ctx.work.obs_dir, path=raw.name)
    if found.frame is None:
        raise DataError(f"{raw.path}: {found.reason} ({found.note}); correct the header or reject the frame.")
    for remark in found.remarks:
        ctx.log.warning("%s: %s; %s", raw.name, remark.detail, remark.used)
    return found.frame


def _frame_cards(frame, name: str) -> dict[str, object]:  # type: ignore[no-untyped-def]
    """Cards every later recipe reads.

    ``name`` is the object as the plan resolved it, aliases included; without it the cleaned name counts.
    """
    from apero_dask import __version__

    kind = frame.frame_class if frame.frame_class in ("CALIB", "SKY") else "TARGET"
    return {
        "DRSOBJN": (name or frame.frame_class or "UNKNOWN", "object, CALIB or SKY"),
        "DPRTYPE": (frame.dprtype, "science fibres_reference fibre"),
        "DRSMODE": (frame.drsmode, "observing mode"),
        "TRG_TYPE": ("" if kind == "CALIB" else kind, "kind of target"),
        "MJDMID": (frame.mjdmid, "mid exposure, MJD (UTC): end - EXPTIME/2"),
        "MJDMIDMD": ("header", "how MJDMID was found"),
        "PVERSION": (__version__, "version of the preprocessing"),
    }


CAL_PREPROCESSING = register(
    Recipe(
        name="cal_preprocessing",
        short="PP",
        scripts=("cal_preprocess", "apero_preprocess"),
        group=Group.FILE,
        tree_in="raw",
        tree_out="tmp",
        takes="obs_dir",
        arguments=(Argument("files", ("RAW",), one_type=False, positional=True),),
        makes=(Makes("PP"),),
        options=(
            Option(
                "skip",
                "bool",
                False,
                changes_result=False,
                elsewhere="planner: as the key SKIP_PP does",
                help="keep a finished file",
            ),
        ),
        resources=Resources(memory_gb=1.5, seconds=5.0),
        reads=("detector/{instrument}_detector.fits",),
        body=cal_preprocessing,
    )
)
