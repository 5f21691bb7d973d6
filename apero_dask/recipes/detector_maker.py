"""Makes the detector file of the assets from raw darks of an archive (``apero-dask assets detector``)."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from apero_dask.core.errors import DataError
from apero_dask.core.frames import RawFrame
from apero_dask.instruments import Instrument
from apero_dask.recipes.detector_assets import (
    BIAS,
    DARK,
    DARK_VARIANCE,
    FLAT,
    HOT_PIXELS,
    INTERCEPT_MAP,
    SLOPE_MAP,
    UNSTABLE,
    DetectorAssets,
    assets_path,
)
from apero_dask.recipes.rawramp import LIGHT_ERROR, Ramp, correct_ramp, diffuse_light, read_ramp

if TYPE_CHECKING:
    import numpy as np

    from apero_dask.io.fitswriter import Image, Table

LOG = logging.getLogger(__name__)

DARK_TYPES = ("DARK_DARK_INT", "DARK_DARK_TEL")
FEWEST, MOST = 3, 12  # darks; twelve full frames of one plane fill 0.8 GB
HOT_SIGMA = 10.0
HOT_CONTRAST = 5.0  # a hot pixel of the list is this much brighter than each of its neighbours
HOT_MOST = 25_000  # as long as the list that is in use at the telescope
MIN_RATIO = 1.5  # of exposure times; closer ones do not tell the two maps apart
FLAT_BOX = 256  # pixels; the largest patches of low response measure 80
UNSTABLE_SIGMA = 5.0
UNSTABLE_FRAMES = 2  # frames that must be off: one may be a cosmic hit


def choose_darks(frames: Iterable[RawFrame], most: int = MOST) -> list[RawFrame]:
    """Darks of an archive to make the file from: as many exposure times as there are, spread in time.

    Parameters
    ----------
    frames
        Frames of the index, in canonical order.
    most
        Largest number.
    """
    darks = [frame for frame in frames if frame.dprtype in DARK_TYPES]
    by_time: dict[int, list[RawFrame]] = {}
    for frame in darks:
        by_time.setdefault(round(frame.exptime), []).append(frame)
    share = max(1, most // max(len(by_time), 1))
    chosen: list[RawFrame] = []
    for _, same in sorted(by_time.items(), reverse=True):
        count = min(share, len(same))
        chosen += [same[round(k * (len(same) - 1) / max(count - 1, 1))] for k in range(count)]
    return sorted(chosen[:most], key=lambda frame: frame.order_key)


def make_detector_file(
    assets: Path, instrument: Instrument, darks: Sequence[Path], flats: Sequence[Path] = ()
) -> Path:
    """Write the detector file of an instrument and return its path; an older one is replaced.

    Parameters
    ----------
    assets
        Folder of the assets.
    instrument
        Whose detector.
    darks
        Raw darks, at least three.
    flats
        Raw frames of the detector under full illumination, if there are any: no lamp of the
        spectrograph lights the pixels between the orders.

    Raises
    ------
    DataError
        Too few darks, or a file that cannot be used.
    OSError
        The file cannot be written; nothing is left behind.
    """
    from apero_dask.io.atomic import publish, temporary_path
    from apero_dask.io.cards import card_text
    from apero_dask.io.fitswriter import write_fits

    if len(darks) < FEWEST:
        raise DataError(
            f"{len(darks)} dark(s) given, the detector file needs at least {FEWEST}; choose nights "
            "with darks."
        )
    extensions: list[Image | Table] = [*_from_darks(instrument, darks)]
    if flats:
        extensions.append(_from_flats(instrument, flats))
    cards = [
        card_text("INSTRUM", instrument.name, "instrument"),
        card_text("NDARKS", len(darks), "darks it was made from"),
        card_text("NFLATS", len(flats), "frames under full illumination"),
        *(card_text(f"DARK{k:04d}", path.name) for k, path in enumerate(darks, start=1)),
    ]
    target = assets_path(assets, instrument)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_path(target, "detector")
    try:
        write_fits(temporary, cards, extensions)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    publish([(temporary, target)])
    return target


def _read(path: Path, instrument: Instrument) -> Ramp:
    from apero_dask.io.fits import FitsFile

    return read_ramp(FitsFile(path), instrument)


def _from_darks(instrument: Instrument, darks: Sequence[Path]) -> list[Image | Table]:
    """Fixed pattern from a first pass; bias, dark, unstable and hot pixels from a second one."""
    import numpy as np
    from apero_kernels.stack import stack

    from apero_dask.io.fitswriter import Image, Table

    slope_map, intercept_map = _pattern(instrument, darks)
    known = DetectorAssets(slope_map=slope_map, intercept_map=intercept_map)
    shape = (len(darks), instrument.raw_rows, instrument.raw_columns)
    cube, noise = np.empty(shape, np.float32), np.empty(shape, np.float32)
    for k, path in enumerate(darks):
        ramp = _read(path, instrument)
        noise[k] = _variance(ramp, instrument)
        correct_ramp(ramp, known, instrument)
        cube[k] = ramp.slope
        LOG.info("corrected %s (%d of %d)", path.name, k + 1, len(darks))
    dark, variance = np.empty(shape[1:], np.float32), np.empty(shape[1:], np.float32)
    stack(cube, dark, variances=noise, out_var=variance)
    far = np.zeros(shape[1:], np.int16)
    for k in range(len(darks)):
        away = cube[k] - dark
        # Thermal light differs from dark to dark and is no property of the detector.
        light = diffuse_light(away)
        with np.errstate(invalid="ignore"):
            limit = UNSTABLE_SIGMA * np.sqrt(noise[k] + (LIGHT_ERROR * light) ** 2)
            far += np.abs(away - light) > limit
    unstable = (far >= UNSTABLE_FRAMES).astype(np.uint8)
    sigma = np.sqrt(np.median(noise, axis=0))
    del cube, noise
    result: list[Image | Table] = [
        Image(SLOPE_MAP, slope_map, "ADU/s"),
        Image(INTERCEPT_MAP, intercept_map, "ADU"),
        Image(DARK, dark, "ADU/s"),
        Image(DARK_VARIANCE, variance, "ADU2/s2"),
        Image(UNSTABLE, unstable),
        Table(HOT_PIXELS, _hot_pixels(dark, sigma, unstable, instrument)),
    ]
    bias = _bias(instrument, darks)
    if bias is not None:
        result.append(Image(BIAS, bias, "ADU"))
    return result


def _pattern(instrument: Instrument, darks: Sequence[Path]) -> tuple[np.ndarray, np.ndarray]:
    """Fixed pattern of an amplifier, ``slope_map + intercept_map / exptime``, float32[row, pixel].

    Median over the amplifiers of a dark, each in read order and free of its own level, then a straight line
    in 1/exptime through the darks.  Darks of one exposure time determine the sum alone: it is
    all written to the slope map.
    """
    import numpy as np
    from apero_kernels.detector import reference_levels, subtract_coupling, subtract_reference

    n, border = instrument.amplifiers, instrument.reference_border
    rows, width = instrument.raw_rows, instrument.raw_columns // n
    inverse, patterns = [], []
    for path in darks:
        ramp = _read(path, instrument)
        slope = ramp.slope
        subtract_coupling(slope, n, slope)
        subtract_reference(slope, reference_levels(slope, n, border), slope)
        unfolded = slope.reshape(rows, n, width).copy()
        unfolded[:, 1::2] = unfolded[:, 1::2, ::-1]
        unfolded -= np.nanmedian(unfolded, axis=(0, 2), keepdims=True)
        patterns.append(np.nanmedian(unfolded, axis=1))
        inverse.append(1.0 / ramp.exptime_s)
    x, y = np.array(inverse), np.stack(patterns).astype(np.float64)
    if x.max() < MIN_RATIO * x.min():
        return np.median(y, axis=0).astype(np.float32), np.zeros((rows, width), np.float32)
    away = x - x.mean()
    gradient = np.tensordot(away, y, axes=1) / np.sum(away**2)
    return (y.mean(axis=0) - gradient * x.mean()).astype(np.float32), gradient.astype(np.float32)


def _variance(ramp: Ramp, instrument: Instrument) -> np.ndarray:
    import numpy as np
    from apero_kernels.ramps import ramp_variance

    out = np.empty_like(ramp.slope)
    ramp_variance(
        ramp.slope,
        ramp.reads,
        out,
        frame_time_s=ramp.frame_time_s,
        read_noise_e=instrument.read_noise_e,
        gain=instrument.gain,
        longest=ramp.longest,
    )
    return out


def _bias(instrument: Instrument, darks: Sequence[Path]) -> np.ndarray | None:
    """Structure of the intercept plane: median over the darks that have one, None for fewer than three."""
    import numpy as np
    from apero_kernels.stack import stack

    planes = [ramp.intercept for ramp in (_read(path, instrument) for path in darks) if ramp.complete]
    if len(planes) < FEWEST:
        return None
    cube = np.stack([plane for plane in planes if plane is not None])
    out = np.empty(cube.shape[1:], np.float32)
    stack(cube, out)
    return out


def _hot_pixels(
    dark: np.ndarray, sigma: np.ndarray, unstable: np.ndarray, instrument: Instrument
) -> dict[str, np.ndarray]:
    """Columns of the hot-pixel list: the most significant stable ones that stand alone, by place."""
    import numpy as np
    from scipy import ndimage

    border = instrument.reference_border
    others = np.ones((3, 3), bool)
    others[1, 1] = False
    around = ndimage.maximum_filter(np.nan_to_num(dark, nan=np.inf), footprint=others)
    with np.errstate(invalid="ignore"):
        nsig = dark / sigma
        hot = (nsig > HOT_SIGMA) & (dark > HOT_CONTRAST * np.maximum(around, 0.0)) & (unstable == 0)
    inside = np.zeros_like(hot)
    inside[border:-border, border:-border] = hot[border:-border, border:-border]
    rows, columns = np.nonzero(inside)
    order = np.argsort(-nsig[rows, columns], kind="stable")[:HOT_MOST]
    order = np.sort(order)
    return {
        "ROW": rows[order].astype(np.int32),
        "COLUMN": columns[order].astype(np.int32),
        "NSIG": nsig[rows[order], columns[order]].astype(np.float32),
    }


def _from_flats(instrument: Instrument, flats: Sequence[Path]) -> Image:
    """Response of the pixels: mean of the flats over its median in boxes three times as wide as any patch."""
    import numpy as np
    from apero_kernels.medians import box_medians
    from scipy import ndimage

    from apero_dask.io.fitswriter import Image

    border = instrument.reference_border
    mean = np.zeros((instrument.raw_rows, instrument.raw_columns))
    for path in flats:
        ramp = _read(path, instrument)
        inner = ramp.slope[border:-border, border:-border]
        mean[border:-border, border:-border] += inner / np.nanmedian(inner)
    inner = np.ascontiguousarray(mean[border:-border, border:-border])
    boxes = box_medians(inner, (FLAT_BOX, FLAT_BOX))
    # Small boxes at the end count like whole ones: their centres differ by half a box at most.
    places = np.meshgrid(
        *((np.arange(n) - 0.5 * (FLAT_BOX - 1)) / FLAT_BOX for n in inner.shape), indexing="ij"
    )
    smooth = ndimage.map_coordinates(boxes, places, order=1, mode="nearest")
    response = np.full(mean.shape, np.nan, np.float32)
    with np.errstate(invalid="ignore", divide="ignore"):
        response[border:-border, border:-border] = inner / smooth
    return Image(FLAT, response)
