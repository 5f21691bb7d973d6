"""Bad pixels from flats and darks, growth of defects, background mask, unstable pixels."""

from __future__ import annotations

import numpy as np

from apero_kernels._jit import kernel
from apero_kernels.contracts import check_float, check_integer, check_output
from apero_kernels.robust import percentile, percentile_in_place
from apero_kernels.running import SEVEN, running_median

HOT, FLAT, NOT_FINITE, UNLIT = 1, 2, 4, 8  # reasons, bits of the mask

_FAINT = 0.05  # local flat, relative to its 90th percentile, below which nothing can be said (reference)


@kernel
def _test_flat(flat, local, var, faint, cut, significance, least, mask):
    with_var = var.shape[0] > 0
    for y in range(flat.shape[0]):
        for x in range(flat.shape[1]):
            value = np.float64(flat[y, x])
            smooth = np.float64(local[y, x])
            if not (np.isfinite(value) and np.isfinite(smooth)):
                mask[y, x] |= NOT_FINITE
            elif smooth >= faint:
                deviation = abs(value / smooth - 1.0)
                if deviation > cut:
                    mask[y, x] |= FLAT
                elif with_var and deviation > least:
                    sigma = np.sqrt(np.float64(var[y, x])) / smooth
                    mask[y, x] |= FLAT if deviation > significance * sigma else 0


@kernel
def _test_dark(dark, local, var, cut, significance, least, mask):
    with_var = var.shape[0] > 0
    for y in range(dark.shape[0]):
        for x in range(dark.shape[1]):
            excess = np.float64(dark[y, x]) - np.float64(local[y, x])
            if not np.isfinite(excess):
                mask[y, x] |= NOT_FINITE
            elif excess > cut or (
                with_var and excess > least and excess > significance * np.sqrt(np.float64(var[y, x]))
            ):
                mask[y, x] |= HOT


@kernel
def _minimum_rows(source, half, target):
    # 1 where all of 2 half + 1 neighbours along x are set; beyond the frame counts as set.
    rows, columns = source.shape
    for y in range(rows):
        run = half
        for x in range(columns + half):
            run = run + 1 if x >= columns or source[y, x] else 0
            if x >= half:
                target[y, x - half] = run >= 2 * half + 1


@kernel
def _minimum_columns(source, half, target):
    rows, columns = source.shape
    run = np.full(columns, half, np.int64)
    for y in range(rows + half):
        for x in range(columns):
            run[x] = run[x] + 1 if y >= rows or source[y, x] else 0
            if y >= half:
                target[y - half, x] = run[x] >= 2 * half + 1


@kernel
def _maximum_rows(source, half, target):
    rows, columns = source.shape
    for y in range(rows):
        since = half + 1
        for x in range(-half, columns):
            since = 0 if x + half < columns and source[y, x + half] else since + 1
            if x >= 0:
                target[y, x] = since <= 2 * half


@kernel
def _maximum_columns(source, half, target):
    rows, columns = source.shape
    since = np.full(columns, half + 1, np.int64)
    for y in range(-half, rows):
        for x in range(columns):
            since[x] = 0 if y + half < rows and source[y + half, x] else since[x] + 1
            if y >= 0:
                target[y, x] = since[x] <= 2 * half


@kernel
def _ribbon_floor(image, ribbon, half, q, floor):
    rows, columns = image.shape
    profile = np.empty(rows, np.float64)
    scratch = np.empty(max(ribbon, 2 * half + 1), np.float64)
    for r in range(floor.shape[1]):
        first = r * ribbon
        end = min(first + ribbon, columns)
        for y in range(rows):
            n = 0
            for x in range(first, end):
                if not np.isnan(image[y, x]):
                    scratch[n] = image[y, x]
                    n += 1
            profile[y] = percentile_in_place(scratch, n, 50.0)
        for y in range(rows):
            n = 0
            for j in range(max(0, y - half), min(rows, y + half + 1)):
                if not np.isnan(profile[j]):
                    scratch[n] = profile[j]
                    n += 1
            floor[y, r] = percentile_in_place(scratch, n, q)


@kernel
def _below_floor(image, floor, ribbon, mask):
    for y in range(image.shape[0]):
        for x in range(image.shape[1]):
            mask[y, x] = image[y, x] < floor[y, x // ribbon]


@kernel
def _tidy(raw, half, least, out):
    rows, columns = raw.shape
    for y in range(rows):
        n = 0
        for x in range(min(half, columns)):
            n += raw[y, x]
        for x in range(columns):
            if x + half < columns:
                n += raw[y, x + half]
            if x - half - 1 >= 0:
                n -= raw[y, x - half - 1]
            if raw[y, x]:
                out[y, x] = n > 1
            else:
                out[y, x] = n >= least


@kernel
def _unstable(scatter, count, expected, floor, limit, out):
    found = 0
    for y in range(scatter.shape[0]):
        for x in range(scatter.shape[1]):
            n = count[y, x]
            value = np.float64(scatter[y, x])
            out[y, x] = 0
            if n >= 3 and np.isfinite(value) and np.isfinite(expected[y, x]):
                noise = np.sqrt(np.float64(expected[y, x]) + floor * floor)
                # Relative error of a scatter from n values: 1/sqrt(2 (n - 1)).
                if value > noise * (1.0 + limit / np.sqrt(2.0 * (n - 1.0))):
                    out[y, x] = 1
                    found += 1
    return found


def flag_flat(
    flat: np.ndarray,
    mask: np.ndarray,
    *,
    scale: float,
    var: np.ndarray | None = None,
    cut: float = 0.5,
    significance: float = 5.0,
    least: float = 0.1,
    local: np.ndarray | None = None,
) -> None:
    """Flag pixels whose response differs from that of their neighbours along the row.

    Parameters
    ----------
    flat : floating[y, x]
        Flat of the night.
    mask : uint8[y, x]
        Bits are added: `FLAT`, and `NOT_FINITE` where the flat or all of its neighbours are not finite.
    scale : float
        90th percentile of the running median: pixels with a local flat below 0.05 of it are not tested.
    var : floating[y, x], optional
        Variance of the flat.  With it a pixel is also flagged if it deviates by more than `least` of the
        local flat and by more than `significance` sigma.
    cut : float
        Fixed limit of ``|flat / local - 1|``.
    significance, least : float
        Limits of the second test.
    local : floating[y, x], optional
        From `along_rows`, where it is known.

    Raises
    ------
    TypeError, ValueError
        Wrong dtype or shape, scale not positive.
    """
    check_float("flat", flat, 2)
    check_integer("mask", mask, 2, np.uint8, flat.shape)
    if not scale > 0:
        raise ValueError(f"scale: {scale}, expected a flux above 0 (is there light in the flat?)")
    local = along_rows(flat) if local is None else check_float("local", local, 2, flat.shape)
    var = _optional("var", var, flat)
    faint = _FAINT * float(scale)
    _test_flat(flat, local, var, faint, float(cut), float(significance), float(least), mask)


def flag_dark(
    dark: np.ndarray,
    mask: np.ndarray,
    *,
    var: np.ndarray | None = None,
    cut: float = 5.0,
    significance: float = 5.0,
    least: float = 1.0,
) -> None:
    """Flag pixels that are brighter in the dark than their neighbours along the row.

    Parameters
    ----------
    dark : floating[y, x]
        Dark of the night, ADU/s.
    mask : uint8[y, x]
        Bits are added: `HOT`, and `NOT_FINITE` where the dark or all of its neighbours are not finite.
    var : floating[y, x], optional
        Variance of the dark.  With it a pixel is also flagged if it stands out by more than `least` and by
        more than `significance` sigma.
    cut, least : float
        ADU/s above the running median of 7 pixels.

    Raises
    ------
    TypeError, ValueError
        Wrong dtype or shape.
    """
    check_float("dark", dark, 2)
    check_integer("mask", mask, 2, np.uint8, dark.shape)
    local = along_rows(dark)
    var = _optional("var", var, dark)
    _test_dark(dark, local, var, float(cut), float(significance), float(least), mask)


def flat_scale(flat: np.ndarray, q: float = 90.0, *, local: np.ndarray | None = None) -> float:
    """Return a percentile of the running median of 7 pixels along the rows of a flat.

    Parameters
    ----------
    flat : floating[y, x]
        NaN takes no part.
    q : float
        Per cent.
    local : floating[y, x], optional
        From `along_rows`, where it is known.

    Raises
    ------
    TypeError, ValueError
        Not a native floating array with two axes, or `q` outside 0..100.
    """
    check_float("flat", flat, 2)
    local = along_rows(flat) if local is None else check_float("local", local, 2, flat.shape)
    return percentile(local, q)


def along_rows(image: np.ndarray) -> np.ndarray:
    """Return the running median of 7 pixels along the rows of ``floating[y, x]``, same dtype.

    Raises
    ------
    TypeError, ValueError
        Not a native floating array with two axes.
    """
    check_float("image", image, 2)
    local = np.empty_like(image)
    running_median(image, np.array(SEVEN), local)
    return local


def erode(mask: np.ndarray, size: int) -> np.ndarray:
    """Keep the pixels whose square of `size` (odd) pixels is set throughout; outside counts as set.

    Returns
    -------
    uint8[y, x]

    Raises
    ------
    TypeError, ValueError
        `mask` is not uint8[y, x], `size` even or below 1.
    """
    half = _half(mask, size)
    step, out = np.empty_like(mask), np.empty_like(mask)
    _minimum_rows(mask, half, step)
    _minimum_columns(step, half, out)
    return out


def dilate(mask: np.ndarray, size: int) -> np.ndarray:
    """Set the pixels whose square of `size` (odd) pixels is set anywhere; as `erode` otherwise."""
    half = _half(mask, size)
    step, out = np.empty_like(mask), np.empty_like(mask)
    _maximum_rows(mask, half, step)
    _maximum_columns(step, half, out)
    return out


def grow_defects(mask: np.ndarray, core: int = 5, reach: int = 9) -> np.ndarray:
    """Return the mask with its large defects enlarged: pixels of isolated defects stay as they are.

    Parameters
    ----------
    mask : uint8[y, x]
        1 = bad.
    core : int
        Size (odd) of the square that a defect must hold to count as large.
    reach : int
        Size (odd) of the square set around each such centre.

    Returns
    -------
    uint8[y, x]

    Raises
    ------
    TypeError, ValueError
        As `erode`.
    """
    return mask | dilate(erode(mask, core), reach)


def background_mask(
    flat: np.ndarray, *, ribbon: int = 128, half: int = 64, q: float = 5.0, window: int = 7, least: int = 3
) -> np.ndarray:
    """Find the pixels between the orders.

    Parameters
    ----------
    flat : floating[y, x]
        Flat of all fibres, cal orientation.
    ribbon : int
        Columns whose median gives one profile along y.
    half, q : int, float
        Local floor: percentile `q` of the profile within `half` rows.
    window, least : int
        In a window of so many pixels along x, a lone background pixel is dropped and a pixel with `least`
        background neighbours is added.

    Returns
    -------
    uint8[y, x]
        1 = background.

    Raises
    ------
    TypeError, ValueError
        Wrong array, a size below 1, `q` outside 0..100.
    """
    check_float("flat", flat, 2)
    if min(ribbon, half, window, least) < 1 or not 0 <= q <= 100:
        raise ValueError(
            f"ribbon: {ribbon}, half: {half}, window: {window}, least: {least}, q: {q}; expected sizes of 1 "
            "or more and a percentage"
        )
    floor = np.empty((flat.shape[0], -(-flat.shape[1] // ribbon)))
    _ribbon_floor(flat, int(ribbon), int(half), float(q), floor)
    raw, out = np.empty(flat.shape, np.uint8), np.empty(flat.shape, np.uint8)
    _below_floor(flat, floor, int(ribbon), raw)
    _tidy(raw, int(window) // 2, int(least), out)
    return out


def unstable_pixels(
    scatter: np.ndarray,
    count: np.ndarray,
    expected: np.ndarray,
    out: np.ndarray,
    *,
    floor: float = 0.0,
    limit: float = 6.0,
) -> int:
    """Flag telegraph pixels: their scatter from dark to dark exceeds that of their noise.

    Parameters
    ----------
    scatter : floating[y, x]
        Scatter over darks (or groups of them), from `stack.stack`.
    count : int32[y, x]
        Number of values; at least 3 are needed for a flag.
    expected : floating[y, x]
        Mean variance of one dark.
    out : uint8[y, x]
        Written: 1 = unstable.
    floor : float
        Scatter that every pixel may have in addition, same units.
    limit : float
        In errors of the scatter.

    Returns
    -------
    int
        Number of pixels flagged.

    Raises
    ------
    TypeError, ValueError
        Wrong dtype or shape.
    """
    check_float("scatter", scatter, 2)
    check_integer("count", count, 2, np.int32, scatter.shape)
    check_float("expected", expected, 2, scatter.shape)
    check_output("out", out, scatter.shape, np.uint8)
    return int(_unstable(scatter, count, expected, float(floor), float(limit), out))


def _half(mask: np.ndarray, size: int) -> int:
    check_integer("mask", mask, 2, np.uint8)
    if size < 1 or size % 2 == 0:
        raise ValueError(f"size: {size}, expected an odd number of pixels")
    return size // 2


def _optional(name: str, plane: np.ndarray | None, like: np.ndarray) -> np.ndarray:
    return np.empty((0, 0), like.dtype) if plane is None else check_float(name, plane, 2, like.shape)
