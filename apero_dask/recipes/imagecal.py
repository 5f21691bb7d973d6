"""From preprocessed frames to combined images: checks, combination by row blocks, the calibrated frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from apero_dask.core.errors import DataError
from apero_dask.instruments import hint_of_shape
from apero_dask.recipes.context import RecipeContext
from apero_dask.recipes.rawramp import read_time

if TYPE_CHECKING:
    import numpy as np

    from apero_dask.instruments import Instrument
    from apero_dask.io.fits import FitsFile

MIN_CORRELATION = 0.99  # of a file with the median of its group; reference pipeline
SAMPLE_STEP = 16  # every so many rows enter the correlation: 1e6 pixels at full size are plenty
BLOCK_BYTES = 64_000_000  # memory of one block of rows of all files, each of image and variance

WIDE_HALF = 32  # px; half window of the background of hot clusters, wider than any of them
CLUSTER_LEVEL = 1.0  # ADU/s; a background above the wide one by this much is a cluster, never thermal light

PP_IMAGE = 1
PP_VARIANCE = "VARIANCE"
PP_MASK = "MASK"


@dataclass(frozen=True, slots=True)
class Combined:
    """Several frames as one: "one exposure with less noise", preprocessed orientation, ADU/s."""

    image: np.ndarray
    """float32; NaN where no frame has a value."""
    variance: np.ndarray
    """float32, of the combination."""
    scatter: np.ndarray | None
    """float32, from frame to frame; NaN for fewer than two values.  None where it was not asked for."""
    files: tuple[FitsFile, ...]
    """Frames that entered, in canonical order."""
    dropped: tuple[str, ...] = ()
    """Names of frames that do not look like the others."""


def open_frames(ctx: RecipeContext, argument: str) -> tuple[FitsFile, ...]:
    """Preprocessed frames of an argument, their shape checked.

    Raises
    ------
    DataError
        A file is damaged or of another detector.
    """
    i = ctx.instrument
    shape = (i.raw_columns, i.raw_rows)
    files = tuple(ctx.open(path) for path in ctx.input(argument))
    for file in files:
        found = file.unit(PP_IMAGE).shape
        if found != shape:
            raise DataError(
                f"{file.path}: image of shape {found}, a preprocessed frame of {i.name} has {shape}; "
                "preprocess it again." + hint_of_shape(found, i)
            )
    return files


def image_rows(file: FitsFile, first: int, end: int) -> np.ndarray:
    """Rows of a preprocessed image, float32 ADU/s."""
    import numpy as np

    return file.rows(PP_IMAGE, first, end, np.float32)


def variance_rows(file: FitsFile, first: int, end: int, instrument: Instrument) -> np.ndarray:
    """Rows of the variance of a preprocessed image, float32 (ADU/s)^2.

    A file of another program has no such plane; its variance follows from the ramp, its reads as long as
    FRMTIME or, without that card, the instrument says.

    Raises
    ------
    DataError
        NREADS is missing, or FRMTIME is no positive number.
    """
    import numpy as np
    from apero_kernels.ramps import ramp_variance

    if file.has(PP_VARIANCE):
        return file.rows(PP_VARIANCE, first, end, np.float32)
    image = image_rows(file, first, end)
    reads = round(file.number("NREADS"))
    out = np.empty_like(image)
    ramp_variance(
        image,
        np.full_like(image, reads),
        out,
        frame_time_s=read_time(file, instrument),
        read_noise_e=instrument.read_noise_e,
        gain=instrument.gain,
        longest=reads,
    )
    return out


def block_rows(files: int, columns: int) -> int:
    """Rows to work on at once so that memory does not grow with the number of files."""
    return max(1, min(64, BLOCK_BYTES // (4 * columns * max(files, 1))))


def alike(ctx: RecipeContext, files: Sequence[FitsFile]) -> tuple[list[FitsFile], list[str]]:
    """Frames whose pixels follow the median of all, and the names of the others.

    Notes
    -----
    Pearson correlation over every 16th row; a frame without light or of another lamp is far below the
    limit of 0.99.  Pixels brighter than the 99.5th percentile are left out: hot ones are alike in all frames.
    """
    import numpy as np
    from apero_kernels.robust import percentile
    from apero_kernels.stack import stack

    if len(files) < 2:
        return list(files), []
    rows = (SAMPLE_STEP // 2, ctx.instrument.raw_columns)
    sample = np.stack([f.rows(PP_IMAGE, *rows, np.float32, step=SAMPLE_STEP) for f in files])
    middle = np.empty(sample.shape[1:], np.float32)
    stack(sample, middle)
    good = np.isfinite(sample).all(axis=0)
    good &= middle <= percentile(middle[good][None], 99.5) if good.any() else False
    kept, dropped = [], []
    for file, values in zip(files, sample, strict=True):
        pair = np.stack([values[good], middle[good]]).astype(np.float64)
        spread = pair.std(axis=1)
        moment = np.mean((pair[0] - pair[0].mean()) * (pair[1] - pair[1].mean())) if spread.all() else 0.0
        correlation = moment / (spread[0] * spread[1]) if spread.all() else 0.0
        if correlation >= MIN_CORRELATION:
            kept.append(file)
        else:
            dropped.append(file.name)
            ctx.log.warning(
                "%s is left out: correlation %.4f with its group, expected at least %.2f",
                file.name,
                correlation,
                MIN_CORRELATION,
            )
    return kept, dropped


def combine(
    ctx: RecipeContext,
    argument: str,
    statistic: str = "median",
    check_alike: bool = True,
    *,
    scatter: bool = False,
) -> Combined:
    """Combine the frames of an argument pixel by pixel, a block of rows at a time.

    Parameters
    ----------
    argument
        Name of the argument.
    statistic
        median or mean.
    check_alike
        Leave out frames that do not correlate with the others.
    scatter
        Also measure the scatter from frame to frame.

    Raises
    ------
    DataError
        No frame is left, or one is damaged.
    """
    files = list(open_frames(ctx, argument))
    dropped: list[str] = []
    if check_alike:
        files, dropped = alike(ctx, files)
    if not files:
        raise DataError(
            f"{ctx.work.recipe} of {ctx.work.obs_dir or ctx.work.stem}: none of the {len(dropped)} "
            "file(s) of "
            f"{argument} resembles the others ({', '.join(dropped[:5])}); look at the frames and "
            "reject the bad ones."
        )
    return stacked(files, ctx.instrument, statistic, tuple(dropped), scatter=scatter)


def stacked(
    files: Sequence[FitsFile],
    instrument: Instrument,
    statistic: str = "median",
    dropped: tuple[str, ...] = (),
    *,
    scatter: bool = False,
) -> Combined:
    """Combine preprocessed frames pixel by pixel, a block of rows at a time.

    Parameters
    ----------
    files
        At least one frame.
    statistic
        median or mean.
    dropped
        Names of frames left out before, for the record.
    scatter
        Also measure the scatter from frame to frame.

    Raises
    ------
    DataError
        A frame is damaged.

    Notes
    -----
    Rows that do not reach the calibrated frame are not read: they are NaN.
    """
    import numpy as np
    from apero_kernels.stack import stack_by_rows

    shape = (instrument.raw_columns, instrument.raw_rows)
    first = instrument.raw_columns - instrument.y0 - instrument.ny
    part = slice(first, first + instrument.ny)
    image, variance = (np.full(shape, np.nan, np.float32) for _ in range(2))
    spread = np.full(shape, np.nan, np.float32) if scatter else None
    stack_by_rows(
        lambda k, top, end: image_rows(files[k], first + top, first + end),
        len(files),
        image[part],
        statistic=statistic,
        read_var=lambda k, top, end: variance_rows(files[k], first + top, first + end, instrument),
        out_var=variance[part],
        out_scatter=None if spread is None else spread[part],
        block_rows=block_rows(len(files), shape[1]),
    )
    return Combined(image, variance, spread, tuple(files), dropped)


def calibrated_frame(ctx: RecipeContext, plane: np.ndarray, factor: float = 1.0) -> np.ndarray:
    """Calibrated frame of a preprocessed plane: both axes turned round, cut, multiplied.

    Parameters
    ----------
    plane
        ``[row, column]``, preprocessed orientation.
    factor
        Gain times exposure time for electrons, its square for a variance.
    """
    import numpy as np
    from apero_kernels.detector import cut_to_cal

    i = ctx.instrument
    out = np.empty((i.ny, i.nx), plane.dtype if plane.dtype.kind == "f" else np.float32)
    cut_to_cal(plane if plane.dtype.kind == "f" else plane.astype(np.float32), i.x0, i.y0, out, factor)
    return out


def dark_background(level: np.ndarray) -> np.ndarray:
    """Smooth part along the dispersion: median of the eight neighbours on each row.

    A cluster of hot pixels fills that window and would be taken for smooth light; where the median of the
    eight lies far above that of a wide window, the wide one counts.

    Parameters
    ----------
    level : float32[y, x]
        Preprocessed orientation, ADU/s.
    """
    import numpy as np
    from apero_kernels.dark import replace_above_wide
    from apero_kernels.running import EIGHT, running_median

    near = np.empty_like(level)
    running_median(level, np.array(EIGHT), near)
    # Every fourth column of the window: a median of 17 values is as good against clusters as one of 65.
    replace_above_wide(level, near, np.arange(-WIDE_HALF, WIDE_HALF + 1, 4), CLUSTER_LEVEL, near)
    return near
