"""Raw ramps: reading, registration, patterns and correlated noise, hits that the ramp does not show."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from apero_dask.core.errors import DataError
from apero_dask.instruments import Instrument, hint_of_shape

if TYPE_CHECKING:
    import numpy as np

    from apero_dask.io.fits import FitsFile
    from apero_dask.recipes.detector_assets import DetectorAssets

Log = logging.Logger | logging.LoggerAdapter[Any]

LARGEST_SLIP = 1  # pixels; a frame that seems to be off by more is corrupt, not displaced
UNLIT_BLOCK = 128  # rows over which a column is called lit or not
UNLIT_FRACTION = 0.8  # of the columns: with more, the frame sees no light at all
HIGHPASS_ROWS = 101  # slower changes of an amplifier may be scattered light in a frame with light
LEVEL_STEP = 4  # every so many rows give the level of an amplifier: 1e5 pixels know it to 0.003 sigma
LEVEL_DEGREE = 2  # of diffuse light across the amplifiers
# Rows over which thermal light on a column is taken as constant: twice the longest track of a hit.
LIGHT_ROWS = 64
LIGHT_ERROR = 0.2  # of that light: change inside the block and response of the pixel
JUMP_SEED = 5.0  # sigma above the known dark and the light that the neighbours allow
JUMP_EXTEND = 4.0  # sigma; neighbours of a hit
# A line of two pixels full width at half maximum falls to 0.5 from one pixel to the next, less is left of it
# in the wings of a profile; hits are told from light above this ratio.
CONTRAST = 2.2
RESPONSE_ERROR = 0.03  # of the light of the neighbours: their response differs by 2 per cent
FEWEST_READS = 20  # with fewer, a hit of ten sigma changes the residuals by more than ten of their sigma

SHORT, ROLLED = 4, 8
"""Bits of the mask beside those of the ramp tests (1 variance, 2 intercept)."""


@dataclass(slots=True)
class Ramp:
    """Planes of one raw frame, float32 ``[raw row, raw column]``, and the constants of its ramp."""

    name: str
    """For messages."""
    slope: np.ndarray
    """ADU/s."""
    intercept: np.ndarray | None
    """ADU."""
    error: np.ndarray | None
    """ADU/s."""
    reads: np.ndarray
    """Number of reads used; int16 as stored, else float32."""
    mask: np.ndarray
    """uint8: 1, 2 hits by variance and intercept, 4 cut by saturation, 8 edge moved in, 16 hit by slope."""
    longest: int
    """Reads of the exposure."""
    frame_time_s: float
    exptime_s: float

    @property
    def complete(self) -> bool:
        """Whether the file holds more than the slope."""
        return self.intercept is not None and self.error is not None


def read_ramp(raw: FitsFile, instrument: Instrument) -> Ramp:
    """Planes of a raw frame; a file that holds the slope alone gives a ramp without the others.

    Raises
    ------
    DataError
        No extension, two or three of the four, planes of another shape, or times that make no ramp; for a
        frame without FRMTIME see :func:`read_time`.
    """
    import numpy as np

    shape = (instrument.raw_rows, instrument.raw_columns)
    found = len(raw.units) - 1
    if found not in (1, 4):
        raise DataError(
            f"{raw.path}: {found} extension(s), expected the four planes of a ramp (slope, intercept, error, "
            "reads) or the slope alone; copy the frame again or add it to the reject list."
        )
    for unit in raw.units[1:]:
        if unit.shape != shape:
            raise DataError(
                f"{raw.path}: extension {unit.number} has shape {unit.shape}, {instrument.name} has {shape}; "
                "check the instrument of the run or reject the frame." + hint_of_shape(unit.shape, instrument)
            )
    planes = [raw.image(number, np.float32) for number in range(1, min(found, 3) + 1)]
    if found == 4:
        counted = raw.image(4)
        planes.append(counted if counted.dtype == np.int16 else counted.astype(np.float32, copy=False))
    exptime, frame_time = raw.number("EXPTIME"), read_time(raw, instrument)
    if exptime <= 0:
        raise DataError(
            f"{raw.path}: EXPTIME = {exptime} s, expected a positive time; correct the header or reject the "
            "frame."
        )
    longest = round(raw.number("NREADS")) if "NREADS" in raw.values else round(exptime / frame_time) + 1
    if longest < 2:
        raise DataError(
            f"{raw.path}: NREADS = {longest}, a slope needs two reads; correct the header or reject "
            "the frame."
        )
    reads = planes[3] if found == 4 else np.full(shape, np.int16(longest))
    intercept, error = (planes[1], planes[2]) if found == 4 else (None, None)
    mask = np.zeros(shape, np.uint8)
    return Ramp(raw.name, planes[0], intercept, error, reads, mask, longest, frame_time, exptime)


def read_time(file: FitsFile, instrument: Instrument) -> float:
    """Time of one read, s: FRMTIME of the header, that of the instrument for a frame that does not tell.

    The detector has one clock, so that a header without the card is no reason to lose a frame.

    Raises
    ------
    DataError
        FRMTIME is there, but is no positive number.
    """
    if "FRMTIME" not in file.values:
        return instrument.frame_time_s
    time = file.number("FRMTIME")
    if not time > 0:
        raise DataError(
            f"{file.path}: FRMTIME = {time} s, expected a positive time; correct the header, leave the card "
            f"out ({instrument.name} reads in {instrument.frame_time_s} s) or reject the frame."
        )
    return time


def register_frame(
    ramp: Ramp, assets: DetectorAssets, instrument: Instrument, log: Log
) -> tuple[float, tuple[int, int]]:
    """Put a frame that was read out beside its place right.

    Returns
    -------
    snr : float
        Signal-to-noise ratio of the median hot pixel at its place; 0 if the hot pixels are not there.
    offset : (int, int)
        Pixels along raw rows and raw columns by which the frame was off; (0, 0) without a list of
        hot pixels, for those of the frame itself are where they are.
    """
    import numpy as np
    from apero_kernels.corruption import hot_pixel_offset, isolated_hot_pixels, roll_plane
    from apero_kernels.rownoise import pixel_noise

    if not assets.has_hot_pixels:
        ribbon = dark_ribbon(ramp.slope, instrument)
        sigma = pixel_noise(ribbon)
        if not sigma > 0:
            return np.nan, (0, 0)
        rows, columns = isolated_hot_pixels(ribbon, sigma)
        snr, _, _ = hot_pixel_offset(ramp.slope, rows, columns)
        return snr, (0, 0)
    snr, dy, dx = hot_pixel_offset(ramp.slope, assets.hot_rows, assets.hot_columns)
    if not _is_at(ramp.slope, assets, dy, dx):
        return 0.0, (0, 0)
    if (dy, dx) == (0, 0):
        return snr, (0, 0)
    log.warning("%s was read out %d rows and %d columns off", ramp.name, dy, dx)
    for field in ("slope", "intercept", "error", "reads"):
        plane = getattr(ramp, field)
        if plane is not None:
            # What comes in from outside is NaN, which integers do not have.
            plane = plane.astype(np.float32, copy=False)
            moved = np.empty_like(plane)
            roll_plane(plane, -dy, -dx, moved)
            setattr(ramp, field, moved)
    blank = np.zeros(ramp.mask.shape, bool)
    blank[slice(-dy, None) if dy > 0 else slice(0, -dy)] = True
    blank[:, slice(-dx, None) if dx > 0 else slice(0, -dx)] = True
    ramp.mask[blank] |= ROLLED
    snr, _, _ = hot_pixel_offset(ramp.slope, assets.hot_rows, assets.hot_columns)
    return snr, (dy, dx)


def _is_at(slope: np.ndarray, assets: DetectorAssets, dy: int, dx: int) -> bool:
    """Whether the hot pixels are at an offset: a corrupt frame has none, but some brightest pixel.

    Two halves of the list must agree on an offset, and what lies there must be as bright as hot pixels are.
    """
    import numpy as np
    from apero_kernels.corruption import hot_pixel_offset

    if max(abs(dy), abs(dx)) > LARGEST_SLIP or assets.hot_rows is None or assets.hot_columns is None:
        return False
    if (dy, dx) != (0, 0):
        for half in (slice(0, None, 2), slice(1, None, 2)):
            rows, columns = (np.ascontiguousarray(p[half]) for p in (assets.hot_rows, assets.hot_columns))
            if hot_pixel_offset(slope, rows, columns)[1:] != (dy, dx):
                return False
    if assets.dark is None:
        return True
    height, width = slope.shape
    place = ((assets.hot_rows + dy).clip(0, height - 1), (assets.hot_columns + dx).clip(0, width - 1))
    known = assets.dark[assets.hot_rows, assets.hot_columns]
    return bool(np.nanmedian(slope[place]) > 0.5 * np.nanmedian(known))


def correct_ramp(ramp: Ramp, assets: DetectorAssets, instrument: Instrument) -> None:
    """Take patterns and correlated noise out of the slope, in place.

    Coupling between amplifiers comes first: it is common to all amplifiers, like the noise measured
    afterwards, and would be taken out twice.

    Raises
    ------
    DataError
        The frame has no noise: it is blank or not raw.
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

    n, dark, border = instrument.amplifiers, instrument.dark_amplifiers, instrument.reference_border
    slope = ramp.slope
    subtract_coupling(slope, n, slope)
    if assets.slope_map is not None and assets.intercept_map is not None:
        subtract_static(slope, assets.slope_map, assets.intercept_map, ramp.exptime_s, slope)
    subtract_reference(slope, reference_levels(slope, n, border), slope)
    pattern, _ = common_pattern(slope, n, dark, border)
    subtract_folded(slope, pattern, slope)
    sigma = pixel_noise(dark_ribbon(slope, instrument))
    if not sigma > 0:
        raise DataError(
            f"{ramp.name}: the pixels without light have a noise of {sigma} ADU/s, expected a "
            "positive number; the "
            "frame is blank or not raw. Reject it."
        )
    # Reference rows see no light: with them the series would begin and end with a step.
    inner = slope[border:-border]
    usable, level = unlit_columns(inner, n, dark, border, sigma=sigma, block_rows=UNLIT_BLOCK)
    without_light = bool(usable.mean() > UNLIT_FRACTION)
    common, own = row_offsets(
        inner,
        usable,
        n,
        sigma=sigma,
        level=level,
        block_rows=UNLIT_BLOCK,
        highpass=0 if without_light else HIGHPASS_ROWS,
        dark=dark,
        # A comb that leaks into dark fibres is far below the noise of a pixel, its columns look unlit; in the
        # mean of an amplifier it would be taken for noise and out of itself.
        per_amplifier=without_light,
    )
    if without_light and assets.dark is not None:
        own += amplifier_levels(inner, assets.dark[border:-border], usable, n)[:, None]
    subtract_rows(inner, common, own, inner)
    slope -= slope.dtype.type(side_level(slope, border))


def amplifier_levels(slope: np.ndarray, dark: np.ndarray, usable: np.ndarray, amplifiers: int) -> np.ndarray:
    """Level of each amplifier beyond its known dark and the light that all share, float64[amplifier], ADU/s.

    The zero of an amplifier comes from the few reference rows at its ends, where its slow noise differs from
    that of the rows between.  In a frame without light the whole amplifier tells it better: what is
    left above the known dark is diffuse light, a parabola across the detector.

    Parameters
    ----------
    slope, dark : float32[row, column]
        Without the reference rows.
    usable : uint8[block, column]
        Columns without light.
    """
    import numpy as np
    from apero_kernels.robust import median

    rows = np.arange(0, slope.shape[0], LEVEL_STEP)
    excess = slope[rows] - dark[rows]
    excess[usable[rows // UNLIT_BLOCK] == 0] = np.nan
    width = slope.shape[1] // amplifiers
    levels = np.array([median(excess[:, a * width : (a + 1) * width]) for a in range(amplifiers)])
    place = np.linspace(-1.0, 1.0, amplifiers)
    known = np.isfinite(levels)
    if np.count_nonzero(known) <= LEVEL_DEGREE + 1:
        return np.zeros(amplifiers)
    light = np.polynomial.Polynomial.fit(place[known], levels[known], LEVEL_DEGREE)(place)
    return np.where(known, levels - light, 0.0)


def dark_ribbon(slope: np.ndarray, instrument: Instrument) -> np.ndarray:
    """Columns that no order reaches, a view."""
    return slope[:, : instrument.dark_amplifiers * (instrument.raw_columns // instrument.amplifiers)]


def diffuse_light(excess: np.ndarray) -> np.ndarray:
    """Smooth light in a raw plane from which the dark was subtracted, same shape.

    Median of each column in blocks of rows: dispersion runs along the columns, thermal light varies slowly
    with wavelength and quickly from column to column.
    """
    import numpy as np
    from apero_kernels.medians import box_medians

    boxes = box_medians(excess, (LIGHT_ROWS, 1)).astype(np.float32)
    return np.repeat(boxes, LIGHT_ROWS, axis=0)[: excess.shape[0]]


def flag_jumps(ramp: Ramp, assets: DetectorAssets, instrument: Instrument) -> int:
    """Flag hits that stand out of the known dark and of the light around them; return their number.

    In a ramp of many reads a hit of ten sigma of the slope adds less than a third to the variance of the
    residuals, which is less than their scatter, and its intercept drowns in the reset noise.  Where the dark
    of a pixel is known the slope itself tells, also beside the light of orders and lines.  Ramps of few reads
    show all such hits by themselves.  Pixels that are known to jump are left alone.

    Parameters
    ----------
    ramp
        Corrected, the tests of the ramp done; NaN is written to the slope and JUMP to the mask.
    """
    from apero_kernels import jumps
    from apero_kernels.ramps import variance_terms

    if (
        assets.dark is None
        or assets.unstable is None
        or assets.dark_variance is None
        or ramp.longest < FEWEST_READS
    ):
        return 0
    constant, linear = variance_terms(
        ramp.longest,
        frame_time_s=ramp.frame_time_s,
        read_noise_e=instrument.read_noise_e,
        gain=instrument.gain,
    )
    return jumps.flag_jumps(
        ramp.slope,
        assets.dark,
        assets.dark_variance,
        assets.unstable,
        ramp.reads,
        ramp.mask,
        constant=constant,
        linear=linear,
        border=instrument.reference_border,
        seed=JUMP_SEED,
        extend=JUMP_EXTEND,
        contrast=CONTRAST,
        response=RESPONSE_ERROR,
    )
