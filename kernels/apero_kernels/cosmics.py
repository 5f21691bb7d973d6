"""Find cosmic hits from the planes of a ramp fit: slope, intercept, error of the slope, reads.

A hit of charge q at the fraction u of the ramp changes the intercept by q (1 - u)(1 - 3 u) and adds
q^2 u (1 - u) (1 - 3 u (1 - u)) to the variance of the residuals.  Both are tested as significances: how
improbable is the value among pixels of the same brightness, without a hit.  The noise of both tests is
measured on the frame, so that the planes of any ramp fit can be used.
"""

from __future__ import annotations

from collections.abc import Callable
from math import erfc, exp, gcd, log, pi, sqrt
from typing import NamedTuple

import numpy as np

from apero_kernels._jit import kernel
from apero_kernels.contracts import check_float, check_integer, check_reads
from apero_kernels.medians import box_medians, column_medians
from apero_kernels.ramps import intercept_photon, variance_terms
from apero_kernels.robust import estimate_sigma, median, percentile

VARIANCE, INTERCEPT, SHORT, ROLLED = 1, 2, 4, 8  # bits of the mask of a preprocessed frame
_EXTEND_VARIANCE, _EXTEND_INTERCEPT = 64, 128  # bits used on the way only

_PER_OCTAVE = 2  # brightness bins of the calibration, per factor two of the expected variance
_BINS = 48  # 24 octaves above the read noise: brighter than saturation
_FEWEST = 100  # pixels that a bin must hold to count
_CHUNK = 32  # pixels looked at together
_SAMPLE_ROWS = 64  # rows looked at for the calibration


class Calibration(NamedTuple):
    """How the measured variance of unhit pixels relates to the expected one."""

    centre: np.ndarray
    """float64[bin]: median of the cube root of measured over expected variance."""
    sigma: np.ndarray
    """float64[bin]: its scatter."""
    columns: np.ndarray
    """float64[column]: measured over expected variance of each column, relative to the frame."""


@kernel
def _sample(slope, error, reads, constant, linear, step, ratio, expected, column):
    n = 0
    longest = constant.shape[0] - 1
    for y in range(step // 2, slope.shape[0], step):
        for x in range(slope.shape[1]):
            k = int(reads[y, x])
            e = np.float64(error[y, x])
            flux = np.float64(slope[y, x])
            if 3 <= k <= longest and flux == flux and n < ratio.shape[0]:
                variance = constant[k] + linear[k] * max(flux, 0.0)
                # An error of nearly nothing, or without bounds, is a placeholder and no measurement.
                if not 1e-20 * variance < e * e < 1e20 * variance:
                    continue
                ratio[n] = e * e / variance
                expected[n] = variance / constant[longest]
                column[n] = x
                n += 1
    return n


@kernel
def _bin(expected):
    return min(max(_PER_OCTAVE * np.log2(expected), 0.0), _BINS - 1.001)


@kernel
def _step(ratio):
    """Eighths of an octave, counted from 1, from the bits of a number of 1 or more."""
    return (np.float64(ratio).view(np.int64) >> 49) - (1023 << 3)


@kernel
def _lower_bounds(limit, out):
    """Write the least limit over each eighth of an octave, with room for rounding."""
    for k in range(out.shape[0]):
        first = _bin(2.0 ** (k // 8) * (1.0 + (k % 8) / 8.0))
        last = _bin(2.0 ** (k // 8) * (1.0 + (k % 8 + 1) / 8.0))
        # Linear between bins: an extreme lies at an end or at a bin between.
        least = np.inf
        for place in (first, last, np.ceil(first), np.floor(last)):
            if first <= place <= last:
                b = min(int(place), _BINS - 2)
                least = min(least, limit[b] + (place - b) * (limit[b + 1] - limit[b]))
        out[k] = 0.999 * least


@kernel
def _test_variance(slope, error, reads, constant, linear, columns, seed_limit, extend_limit, mask):
    hits = 0
    longest = constant.shape[0] - 1
    full_constant = constant[longest]
    bounds = np.empty(8 * (_BINS // _PER_OCTAVE))
    _lower_bounds(extend_limit, bounds)
    scale = 1.0 / full_constant
    last = bounds.shape[0] - 1
    for y in range(slope.shape[0]):
        for x in range(slope.shape[1]):
            k = int(reads[y, x])
            if k < 3 or k > longest:
                continue  # no residuals, or no ramp of this exposure
            flux = np.float64(slope[y, x])
            e = np.float64(error[y, x])
            variance = constant[k] + linear[k] * max(flux, 0.0)
            # Nearly all pixels end here, before anything that takes time.
            expected = variance * columns[x]
            if not e * e > bounds[np.uint64(min(max(_step(variance * scale), 0), last))] * expected:
                continue
            ratio = e * e / expected
            place = _bin(variance / full_constant)
            b = int(place)
            share = place - b
            if ratio > extend_limit[b] + share * (extend_limit[b + 1] - extend_limit[b]):
                mask[y, x] |= _EXTEND_VARIANCE
                hits += 1
                if ratio > seed_limit[b] + share * (seed_limit[b + 1] - seed_limit[b]):
                    mask[y, x] |= VARIANCE
    return hits


@kernel
def _test_intercept(
    intercept, slope, reads, longest, bias, columns, boxes, box, border, noise, photon, seed, extend, mask
):
    hits = 0
    rows, width = intercept.shape
    floor = extend * extend * noise
    with_bias = bias.shape[0] > 0
    for y in range(border, rows - border):
        for i in range(boxes.shape[1]):
            level = boxes[y // box, i]
            for x in range(max(i * box, border), min((i + 1) * box, width - border)):
                value = np.float64(intercept[y, x]) - columns[x] - level
                if with_bias:
                    value -= np.float64(bias[y, x])
                # A ramp cut by saturation is bent: its intercept says nothing about hits.
                if value * value > floor and reads[y, x] >= longest:
                    # The light that arrives between the reads scatters the intercept as well.
                    flux = np.float64(slope[y, x])
                    variance = noise + photon * (max(flux, 0.0) if flux == flux else 0.0)
                    if value * value > extend * extend * variance:
                        mask[y, x] |= _EXTEND_INTERCEPT
                        hits += 1
                        if value * value > seed * seed * variance:
                            mask[y, x] |= INTERCEPT
    return hits


@kernel
def _fill(mask, y0, x0, extend, seed, stack):
    rows, columns = mask.shape
    top = 0
    stack[0] = y0 * columns + x0
    mask[y0, x0] &= ~extend
    while top >= 0:
        y = stack[top] // columns
        x = stack[top] % columns
        top -= 1
        mask[y, x] |= seed
        for step in range(4):
            j = y + (step == 0) - (step == 1)
            i = x + (step == 2) - (step == 3)
            if 0 <= j < rows and 0 <= i < columns and mask[j, i] & extend:
                mask[j, i] &= ~extend
                top += 1
                stack[top] = j * columns + i


@kernel
def _any(line, first, end):
    some = 0
    for x in range(first, end):
        some += np.int64(line[x] != 0)
    return some > 0


@kernel
def _grow(mask, stack):
    # Each seed starts a fill once: its extension bit is cleared when it is visited.
    variance = np.uint8(VARIANCE)
    intercept = np.uint8(INTERCEPT)
    extend_variance = np.uint8(_EXTEND_VARIANCE)
    extend_intercept = np.uint8(_EXTEND_INTERCEPT)
    for y in range(mask.shape[0]):
        for x0 in range(0, mask.shape[1], _CHUNK):
            x1 = min(x0 + _CHUNK, mask.shape[1])
            if _any(mask[y], x0, x1):
                for x in range(x0, x1):
                    if mask[y, x] & variance and mask[y, x] & extend_variance:
                        _fill(mask, y, x, extend_variance, variance, stack)
                    if mask[y, x] & intercept and mask[y, x] & extend_intercept:
                        _fill(mask, y, x, extend_intercept, intercept, stack)


@kernel
def _finish(mask, slope):
    keep = np.uint8(VARIANCE | INTERCEPT | SHORT | ROLLED)
    by_intercept = 0
    by_variance = 0
    both = 0
    for y in range(mask.shape[0]):
        for x0 in range(0, mask.shape[1], _CHUNK):
            x1 = min(x0 + _CHUNK, mask.shape[1])
            if _any(mask[y], x0, x1):
                for x in range(x0, x1):
                    bits = mask[y, x] & keep
                    mask[y, x] = bits
                    if bits & (VARIANCE | INTERCEPT):
                        by_intercept += (bits & INTERCEPT) != 0
                        by_variance += (bits & VARIANCE) != 0
                        both += (bits & (VARIANCE | INTERCEPT)) == (VARIANCE | INTERCEPT)
                        slope[y, x] = np.nan
    return by_intercept, by_variance, both


@kernel
def _mark_short(reads, longest, mask):
    for y in range(mask.shape[0]):
        for x in range(mask.shape[1]):
            if reads[y, x] < longest:
                mask[y, x] |= SHORT


def normal_quantile(probability: float) -> float:
    """Return the z that a unit Gaussian exceeds with `probability` (0 < probability < 0.5).

    Notes
    -----
    Newton steps on the complementary error function, to 1e-12.

    Raises
    ------
    ValueError
        Probability outside (0, 0.5).
    """
    if not 0.0 < probability < 0.5:
        raise ValueError(f"probability: {probability}, expected a value between 0 and 0.5")
    z = sqrt(-2.0 * log(2.0 * probability))
    for _ in range(50):
        excess = 0.5 * erfc(z / sqrt(2.0)) - probability
        change = excess / (exp(-0.5 * z * z) / sqrt(2.0 * pi))
        # The tail falls faster than any line: damp the first steps.
        z += max(min(change, 0.5), -0.5)
        if abs(change) < 1e-12:
            break
    return float(z)


def calibrate_variance(
    slope: np.ndarray,
    error: np.ndarray,
    reads: np.ndarray,
    constant: np.ndarray,
    linear: np.ndarray,
) -> Calibration:
    """Measure how the slope errors of unhit pixels scatter around the expected ones.

    Parameters
    ----------
    slope, error, reads : floating[row, column]
        Planes of the ramp fit: ADU/s, ADU/s, number of reads.
    constant, linear : float64[reads + 1]
        Terms of the expected variance, from `ramps.variance_terms`.

    Returns
    -------
    Calibration
        From 64 rows, evenly spread: a column is then known to 2 per cent.
        Bins without enough pixels take the values of the nearest bin that has them; without any pixel
        the centre is NaN and nothing will be flagged.

    Notes
    -----
    The cube root of a chi-square variable is nearly Gaussian (Wilson & Hilferty 1931, PNAS 17, 684), so
    median and percentile width of it give a significance far into the tail.
    """
    step = max(1, slope.shape[0] // _SAMPLE_ROWS)
    room = (slope.shape[0] // step + 1) * slope.shape[1]
    ratio, expected = np.empty(room), np.empty(room)
    column = np.empty(room, np.int64)
    n = _sample(slope, error, reads, constant, linear, int(step), ratio, expected, column)
    ratio, expected, column = ratio[:n], expected[:n], column[:n]
    columns = np.ones(slope.shape[1])
    if n == 0:
        return Calibration(np.full(_BINS, np.nan), np.full(_BINS, np.nan), columns)
    place = np.clip(_PER_OCTAVE * np.log2(expected), 0, _BINS - 1.001).astype(np.int64)
    root = np.cbrt(ratio)
    order = np.argsort(place, kind="stable")
    ends = np.searchsorted(place[order], np.arange(_BINS + 1))
    centre = _by_bin(root[order], ends, median)
    # A column may be noisier than the frame (edges of amplifiers): its variance is put in relation.
    flat = np.full((slope.shape[0] // step + 1, slope.shape[1]), np.nan)
    relative = ratio / centre[place] ** 3
    _scatter(relative, column, np.zeros(slope.shape[1], np.int64), flat)
    columns = np.nan_to_num(column_medians(flat)[0], nan=1.0)
    columns = np.where(columns > 0, columns, 1.0)
    root = (root / np.cbrt(columns)[column])[order]
    return Calibration(_by_bin(root, ends, median), _by_bin(root, ends, estimate_sigma), columns)


@kernel
def _scatter(values, column, order, out):
    for i in range(values.shape[0]):
        x = column[i]
        out[order[x], x] = values[i]
        order[x] += 1


def _by_bin(values: np.ndarray, ends: np.ndarray, statistic: Callable[[np.ndarray], float]) -> np.ndarray:
    least = min(_FEWEST, values.size)
    full = [b for b in range(_BINS) if ends[b + 1] - ends[b] >= least]
    if not full:
        return np.full(_BINS, statistic(values))
    found = [statistic(values[ends[b] : ends[b + 1]]) for b in full]
    return np.interp(np.arange(_BINS), np.array(full) + 0.0, found)


def flag_cosmics(
    slope: np.ndarray,
    intercept: np.ndarray,
    error: np.ndarray,
    reads: np.ndarray,
    mask: np.ndarray,
    *,
    frame_time_s: float,
    read_noise_e: float,
    gain: float,
    longest: int,
    border: int,
    bias: np.ndarray | None = None,
    seed_probability: float = 1e-8,
    extend_probability: float = 1e-4,
    box: int = 64,
) -> tuple[int, int, int]:
    """Flag the pixels that a cosmic ray has hit, and take their slope away.

    Parameters
    ----------
    slope : floating[row, column]
        Raw slope, ADU/s; NaN is written where a pixel is flagged.
    intercept, error : floating[row, column]
        Intercept (ADU), error of the slope (ADU/s).
    reads : floating or int16[row, column]
        Number of reads used.
    mask : uint8[row, column]
        Bits are added: 1 variance, 2 intercept, 4 fewer reads than the exposure has (such pixels keep
        their slope); bit 8 is kept.
    frame_time_s, read_noise_e, gain : float
        Time between reads (s), noise of one read (electrons), electrons per ADU.
    longest : int
        Reads of the exposure.
    border : int
        Width of the reference border: these pixels take no part in the intercept test.
    bias : floating[row, column], optional
        Fixed structure of the intercept; with it the test reaches the reset noise.
    seed_probability, extend_probability : float
        Chance of a pixel without hit to start a flagged group, and to join one it touches.
    box : int
        Rows and columns of the boxes whose median is taken out of the intercept.

    Returns
    -------
    by_intercept, by_variance, by_both : int
        Numbers of pixels flagged.

    Raises
    ------
    TypeError, ValueError
        Wrong dtype or shape, probabilities outside (0, 0.5) or in the wrong order.

    Notes
    -----
    Groups grow over 4-connected pixels beyond the second limit, each test for itself.  Ramps of fewer
    than three reads have no residuals: their variance is not tested.
    """
    check_float("slope", slope, 2)
    for name, plane in (("intercept", intercept), ("error", error)):
        check_float(name, plane, 2, slope.shape)
    check_reads("reads", reads, slope.shape)
    check_integer("mask", mask, 2, np.uint8, slope.shape)
    if not seed_probability <= extend_probability:
        raise ValueError(
            f"seed_probability: {seed_probability} above extend_probability {extend_probability}; expected "
            "the seed to be the less probable"
        )
    seed, extend = normal_quantile(seed_probability), normal_quantile(extend_probability)
    constant, linear = variance_terms(
        longest, frame_time_s=frame_time_s, read_noise_e=read_noise_e, gain=gain
    )
    if bias is None:
        bias = np.empty((0, 0), intercept.dtype)
    else:
        check_float("bias", bias, 2, slope.shape)

    mask &= np.uint8(VARIANCE | INTERCEPT | SHORT | ROLLED)
    _mark_short(reads, int(longest), mask)
    found = [0, 0]
    calibration = calibrate_variance(slope, error, reads, constant, linear)
    if np.isfinite(calibration.centre).all():
        limits = [(calibration.centre + z * calibration.sigma) ** 3 for z in (seed, extend)]
        found[0] = _test_variance(slope, error, reads, constant, linear, calibration.columns, *limits, mask)
    columns, boxes, sigma = _intercept_structure(intercept, bias, border, box)
    if sigma > 0:
        photon = intercept_photon(longest, frame_time_s=frame_time_s, gain=gain)
        found[1] = _test_intercept(
            intercept, slope, reads, int(longest), bias, columns, boxes, int(box), int(border), sigma * sigma,
            photon, seed, extend, mask,
        )  # fmt: skip
    stack = np.empty(max(found) + 1, np.int64)  # a pixel is pushed once: its bit is cleared first
    _grow(mask, stack)
    by_intercept, by_variance, both = _finish(mask, slope)
    return int(by_intercept), int(by_variance), int(both)


def _intercept_structure(
    intercept: np.ndarray, bias: np.ndarray, border: int, box: int
) -> tuple[np.ndarray, np.ndarray, float]:
    step = gcd(box, 16)  # a box must hold a whole number of steps; medians of 256 values know 0.08 sigma
    part = intercept[::step].astype(np.float32)
    if bias.size:
        part -= bias[::step]
    part[:, :border] = np.nan
    if border:
        part[:, -border:] = np.nan
    columns = np.nan_to_num(column_medians(part)[0])
    part -= columns.astype(np.float32)
    rows = box // step
    boxes = np.nan_to_num(box_medians(part, (rows, box)))
    spread = np.repeat(np.repeat(boxes.astype(np.float32), rows, 0)[: part.shape[0]], box, 1)[
        :, : part.shape[1]
    ]
    part -= spread
    return columns, boxes, percentile(np.abs(part), 68.27) if part.size else float("nan")
