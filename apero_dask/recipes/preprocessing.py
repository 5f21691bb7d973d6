"""cal_preprocessing: corrupt ramps rejected, correlated detector noise removed, cosmic hits flagged."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from apero_dask.core.declare import Argument, Group, Makes, Option, Recipe, Resources, register
from apero_dask.core.errors import DataError
from apero_dask.recipes.context import RecipeContext

if TYPE_CHECKING:
    import numpy as np

    from apero_dask.io.fits import FitsFile
    from apero_dask.recipes.detector_assets import DetectorAssets

MIN_HOT_SNR = 10.0  # all five limits: reference pipeline, version 0.7
MAX_NOISE = 0.15
MIN_EXPTIME_FRACTION = 0.10
MAX_DARK_P90 = 0.5  # ADU/s
DARK_TYPES = ("DARK_DARK_INT", "DARK_DARK_TEL")
LARGEST_SLIP = 1  # pixels; a frame that seems to be off by more is corrupt, not displaced
UNLIT_BLOCK = 128  # rows over which a column is called lit or not
UNLIT_FRACTION = 0.8  # of the columns: with more, the frame sees no light at all
HIGHPASS_ROWS = 101  # slower changes of an amplifier may be scattered light in a frame with light

MASK_BITS = (
    ("MASKBIT0", "cosmic hit, variance of the ramp"),
    ("MASKBIT1", "cosmic hit, intercept of the ramp"),
    ("MASKBIT2", "ramp cut by saturation"),
    ("MASKBIT3", "edge moved in by registration"),
)


@dataclass(slots=True)
class Ramp:
    """Planes of one raw frame, float32 ``[raw row, raw column]``, and the constants of its ramp."""

    slope: np.ndarray
    """ADU/s."""
    intercept: np.ndarray | None
    """ADU."""
    error: np.ndarray | None
    """ADU/s."""
    reads: np.ndarray
    """Number of reads used."""
    mask: np.ndarray
    """uint8, see MASK_BITS."""
    longest: int
    """Reads of the exposure."""
    frame_time_s: float
    exptime_s: float

    @property
    def complete(self) -> bool:
        """Whether the file holds more than the slope."""
        return self.intercept is not None and self.error is not None


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

    (path,) = ctx.input("files")
    raw = ctx.open(path)
    frame = _identify(ctx, raw)
    ramp = read_ramp(ctx, raw)
    assets = load_assets(ctx)
    cards = _frame_cards(frame, ctx.work.object)
    i = ctx.instrument

    finite = np.isfinite(ramp.slope)
    blank = not finite.any()
    ctx.qc("FINITE", float(finite.mean()), "FINITE == 0", not blank)
    if blank:
        # Nothing to correct; the flagged product says so to whoever looks for the frame.
        snr, noise, offset, counts = np.nan, np.nan, (0, 0), (0, 0, 0)
    else:
        snr, offset = register_frame(ctx, ramp, assets)
        noise = _noise(ctx, ramp)
        correct_ramp(ctx, ramp, assets)
        counts = _flag(ctx, ramp, assets)
    variance = np.full_like(ramp.slope, np.nan)
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
        "PPHOTPIX": ("assets" if assets.has_hot_pixels else "frame", "where the hot-pixel list is from"),
        "PPAMPMOD": ("assets" if assets.has_pattern else "none", "model of the fixed amplifier pattern"),
        "PPASSETS": (assets.digest[:16] or "none", "digest of the detector file"),
        "PPRAMP": (ramp.complete, "intercept, error and reads were there"),
        "PPCOSMIC": (ramp.complete and not blank, "cosmic hits were flagged"),
    }
    shape = (i.raw_columns, i.raw_rows)
    planes = []
    for plane in (ramp.slope, variance, ramp.mask):
        turned = np.empty(shape, plane.dtype)
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


def read_ramp(ctx: RecipeContext, raw: FitsFile) -> Ramp:
    """Planes of a raw frame; a file that holds the slope alone gives a ramp without the others.

    Raises
    ------
    DataError
        No extension, two or three of the four, or planes of another shape.
    """
    import numpy as np

    i = ctx.instrument
    shape = (i.raw_rows, i.raw_columns)
    found = len(raw.units) - 1
    if found not in (1, 4):
        raise DataError(
            f"{raw.path}: {found} extension(s), expected the four planes of a ramp (slope, intercept, error, "
            "reads) or the slope alone; copy the frame again or add it to the reject list."
        )
    for unit in raw.units[1:]:
        if unit.shape != shape:
            raise DataError(
                f"{raw.path}: extension {unit.number} has shape {unit.shape}, {i.name} has {shape}; "
                "check the "
                "instrument of the run or reject the frame."
            )
    planes = [raw.image(number, np.float32) for number in range(1, found + 1)]
    exptime = raw.number("EXPTIME")
    frame_time = raw.number("FRMTIME") if "FRMTIME" in raw.values else i.frame_time_s
    longest = round(raw.number("NREADS")) if "NREADS" in raw.values else round(exptime / frame_time) + 1
    if longest < 2 or frame_time <= 0 or exptime <= 0:
        raise DataError(
            f"{raw.path}: NREADS = {longest}, FRMTIME = {frame_time} s, EXPTIME = {exptime} s; a "
            "slope needs two "
            "reads and positive times. Correct the header or reject the frame."
        )
    reads = planes[3] if found == 4 else np.full(shape, np.float32(longest))
    intercept, error = (planes[1], planes[2]) if found == 4 else (None, None)
    if found == 1:
        ctx.log.warning("%s holds the slope alone: cosmic hits are not flagged", raw.name)
    mask = np.zeros(shape, np.uint8)
    return Ramp(planes[0], intercept, error, reads, mask, longest, frame_time, exptime)


def register_frame(ctx: RecipeContext, ramp: Ramp, assets: DetectorAssets) -> tuple[float, tuple[int, int]]:
    """Put a frame that was read out beside its place right.

    Returns
    -------
    snr : float
        Signal-to-noise ratio of the median hot pixel at its place.
    offset : (int, int)
        Pixels along raw rows and raw columns by which the frame was off; (0, 0) without a list of
        hot pixels, for those of the frame itself are where they are.
    """
    import numpy as np
    from apero_kernels.corruption import hot_pixel_offset, isolated_hot_pixels, roll_plane
    from apero_kernels.rownoise import pixel_noise

    ribbon = _ribbon(ctx, ramp.slope)
    if not assets.has_hot_pixels:
        sigma = pixel_noise(ribbon)
        if not sigma > 0:
            return np.nan, (0, 0)
        rows, columns = isolated_hot_pixels(ribbon, sigma)
        snr, _, _ = hot_pixel_offset(ramp.slope, rows, columns)
        return snr, (0, 0)
    snr, dy, dx = hot_pixel_offset(ramp.slope, assets.hot_rows, assets.hot_columns)
    if (dy, dx) == (0, 0) or max(abs(dy), abs(dx)) > LARGEST_SLIP:
        return snr, (0, 0)
    ctx.log.warning("frame was read out %d rows and %d columns off", dy, dx)
    for name in ("slope", "intercept", "error", "reads"):
        plane = getattr(ramp, name)
        if plane is not None:
            moved = np.empty_like(plane)
            roll_plane(plane, -dy, -dx, moved)
            setattr(ramp, name, moved)
    moved_mask = np.empty_like(ramp.mask)
    roll_plane(ramp.mask, -dy, -dx, moved_mask, blank=8)
    ramp.mask = moved_mask
    snr, _, _ = hot_pixel_offset(ramp.slope, assets.hot_rows, assets.hot_columns)
    return snr, (dy, dx)


def correct_ramp(ctx: RecipeContext, ramp: Ramp, assets: DetectorAssets) -> None:
    """Take patterns and correlated noise out of the slope, in place.

    Coupling between amplifiers comes first: it is common to all amplifiers, like the noise measured
    afterwards, and would be taken out twice.
    """
    from apero_kernels.detector import (
        reference_levels,
        subtract_coupling,
        subtract_folded,
        subtract_reference,
        subtract_static,
    )
    from apero_kernels.rownoise import (
        common_pattern,
        pixel_noise,
        row_offsets,
        side_level,
        subtract_rows,
        unlit_columns,
    )

    i = ctx.instrument
    slope, n, dark, border = ramp.slope, i.amplifiers, i.dark_amplifiers, i.reference_border
    subtract_coupling(slope, n, slope)
    if assets.slope_map is not None and assets.intercept_map is not None:
        subtract_static(slope, assets.slope_map, assets.intercept_map, ramp.exptime_s, slope)
    subtract_reference(slope, reference_levels(slope, n, border), slope)
    pattern, _ = common_pattern(slope, n, dark, border)
    subtract_folded(slope, pattern, slope)
    sigma = pixel_noise(_ribbon(ctx, slope))
    if not sigma > 0:
        raise DataError(
            f"{ctx.input('files')[0]}: the pixels without light have a noise of {sigma} ADU/s, "
            "expected a positive "
            "number; the frame is blank or not raw. Reject it."
        )
    # Reference rows see no light: with them the series would begin and end with a step.
    inner = slope[border:-border]
    usable, level = unlit_columns(inner, n, dark, border, sigma=sigma, block_rows=UNLIT_BLOCK)
    common, own = row_offsets(
        inner,
        usable,
        n,
        sigma=sigma,
        level=level,
        block_rows=UNLIT_BLOCK,
        highpass=0 if usable.mean() > UNLIT_FRACTION else HIGHPASS_ROWS,
        dark=dark,
    )
    subtract_rows(inner, common, own, inner)
    slope -= slope.dtype.type(side_level(slope, border))


def _ribbon(ctx: RecipeContext, slope: np.ndarray) -> np.ndarray:
    """Columns that no order reaches."""
    i = ctx.instrument
    return slope[:, : i.dark_amplifiers * (i.raw_columns // i.amplifiers)]


def _noise(ctx: RecipeContext, ramp: Ramp) -> float:
    from apero_kernels.corruption import noise_figures

    figures = noise_figures(ramp.slope, _ribbon(ctx, ramp.slope))
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
        options=(Option("skip", "bool", False, changes_result=False, help="keep a finished file"),),
        resources=Resources(memory_gb=1.5, seconds=40.0),
        body=cal_preprocessing,
    )
)
