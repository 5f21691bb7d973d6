"""Find hits by the slope alone: where the dark is known, what rises out of its neighbours is no light.

A hit whose charge is a few times the noise of the signal changes the residuals of a long ramp by less than
their own scatter, and its intercept by less than the reset noise.  Its slope stands out all the same,
provided the light of that pixel can be told from its surroundings:

* an image of a slit or of a spectral line is at least two pixels wide, so that a lit pixel has a neighbour
  of comparable brightness on both axes; a hit, even as part of a long track, has none on one of them;
* along the dispersion light changes slowly apart from lines.

Ground-based spectra of this kind are cleaned with the same argument on differences of images (van Dokkum
2001, PASP 113, 1420); here the noise of every pixel is known and the dark is taken out before.
"""

from __future__ import annotations

import numpy as np

from apero_kernels._jit import kernel
from apero_kernels.contracts import check_float, check_integer, check_reads

JUMP = 16  # bit of the mask of a preprocessed frame
_EXTEND, _AGAIN = 64, 32  # used on the way only
_PROFILE = 0.6  # of the level along the slit: slices of the image and responses differ by less
_TURNS = 4
_CHUNK = 64  # pixels looked at together
_REACH = 4  # pixels on each side along an axis whose median is the smooth level


@kernel
def _excess(slope, dark, unstable, border, y, x):
    """Slope above the dark; NaN where it says nothing: on reference pixels and where the dark jumps."""
    inside = border <= y < slope.shape[0] - border and border <= x < slope.shape[1] - border
    if not inside or unstable[y, x]:
        return np.nan
    return np.float64(slope[y, x]) - np.float64(dark[y, x])


@kernel
def _beside(one, corner, other, noise):
    # A dead or unknown neighbour is replaced by the geometric mean of those next to it: profiles are
    # logarithmically concave, so that real light is never overrated.  Noise must not pass for light.
    between = max(corner - 2.0 * noise, 0.0) * max(other - 2.0 * noise, 0.0)
    if np.isnan(between):
        return one
    return np.sqrt(between) if np.isnan(one) else max(one, np.sqrt(between))


@kernel
def _axis(first, second):
    if np.isnan(first):
        first = second
    if np.isnan(second):
        second = first
    # Two unknown neighbours could be as bright as any.
    return np.inf if np.isnan(first) else max(first, second)


@kernel
def _brighter(first, second):
    # Two unknown neighbours promise no light: what stands for them may be dark.
    if np.isnan(first):
        return 0.0 if np.isnan(second) else second
    return first if np.isnan(second) else max(first, second)


@kernel
def _bound(around, level, contrast, noise):
    """Most light that the eight neighbours allow in a pixel on a smooth level."""
    a, b, c = around[0] - level, around[1] - level, around[2] - level
    d, f = around[3] - level, around[4] - level
    g, h, i = around[5] - level, around[6] - level, around[7] - level
    up, down = _beside(b, a, c, noise), _beside(h, g, i, noise)
    left, right = _beside(d, a, g, noise), _beside(f, c, i, noise)
    return level + contrast * max(min(_axis(up, down), _axis(left, right)), 0.0)


@kernel
def _sort(values, n):
    for k in range(1, n):
        value = values[k]
        j = k
        while j > 0 and values[j - 1] > value:
            values[j] = values[j - 1]
            j -= 1
        values[j] = value


@kernel
def _light(slope, dark, unstable, border, y, x, contrast, noise, around, line):
    """Most light that the surroundings allow: each of three smooth levels is a bound."""
    k = 0
    for j in range(y - 1, y + 2):
        for i in range(x - 1, x + 2):
            if j != y or i != x:
                around[k] = _excess(slope, dark, unstable, border, j, i)
                k += 1
    light = _bound(around, 0.0, contrast, noise)
    for axis in range(2):
        n = 0
        for step in range(-_REACH, _REACH + 1):
            j = y + step if axis == 0 else y
            i = x if axis == 0 else x + step
            if step != 0:
                value = _excess(slope, dark, unstable, border, j, i)
                if value == value:
                    line[n] = value
                    n += 1
        if n < 2:
            continue
        _sort(line, n)
        level = 0.5 * (line[(n - 1) // 2] + line[n // 2])
        # Where the light itself changes inside the window, half the width of its middle half is allowed for.
        change = 0.5 * max(line[n - 1 - n // 4] - line[n // 4] - 2.0 * noise, 0.0)
        if level > 0:
            structure = _PROFILE * level if axis == 1 else 0.0
            light = min(light, _bound(around, level, contrast, noise) + change + structure)
    return light


@kernel
def _touches(mask, bits, y, x):
    for j in range(y - 1, y + 2):
        for i in range(x - 1, x + 2):
            if mask[j, i] & bits:
                return True
    return False


@kernel
def _stands_out(
    slope, dark, dark_variance, unstable, base, factor, border, contrast, response, seed, extend, y, x,
    around, line,
):  # fmt: skip
    """0 = what the light around allows, 1 = beyond the limit for neighbours of a hit, 2 = for any pixel."""
    value = np.float64(slope[y, x]) - np.float64(dark[y, x])
    known = base + factor * max(np.float64(dark[y, x]), 0.0) + np.float64(dark_variance[y, x])
    b = np.float64(slope[y - 1, x]) - np.float64(dark[y - 1, x])
    h = np.float64(slope[y + 1, x]) - np.float64(dark[y + 1, x])
    d = np.float64(slope[y, x - 1]) - np.float64(dark[y, x - 1])
    f = np.float64(slope[y, x + 1]) - np.float64(dark[y, x + 1])
    # A neighbour whose dark jumps proves no light, but may hold it: here it counts as bright.
    # No bound is below the brighter neighbours, and no noise below that of their light.
    near = max(min(_brighter(b, h), _brighter(d, f)), 0.0)
    least = known + factor * near + (response * near) ** 2
    if value - near <= 0 or (value - near) ** 2 <= extend * extend * least:
        return 0
    light = _light(slope, dark, unstable, border, y, x, contrast, np.sqrt(known), around, line)
    light = max(light, near)
    sigma = np.sqrt(known + factor * light + (response * light) ** 2)
    if value - light > extend * sigma:
        return 2 if value - light > seed * sigma else 1
    return 0


@kernel
def _mark(
    slope, dark, dark_variance, unstable, reads, constant, linear, border, contrast, response, seed, extend,
    again, others, mask,
):  # fmt: skip
    """Mark what stands out, and return how many pixels do.

    With `again`, look only at pixels of that bit that touch one of the bits `others`.
    """
    longest = constant.shape[0] - 1
    base = constant[longest]
    factor = linear[longest]
    floor = extend * extend * base
    around = np.empty(8)
    line = np.empty(2 * _REACH + 1)
    rows, columns = slope.shape
    # Pixels next to the border have one neighbour less on an axis: light could hide there.
    first = border + 1
    width = max(columns - 2 * first, 0)
    chosen = np.empty(width, np.uint8)
    marked = 0
    for y in range(first, rows - first):
        if again:
            for x in range(width):
                chosen[x] = mask[y, first + x] & again
        else:
            _choose(slope, dark, y, first, 0.998 * base, 0.998 * factor, extend * extend, chosen)
        for x0 in range(0, width, _CHUNK):
            x1 = min(x0 + _CHUNK, width)
            some = 0
            for x in range(x0, x1):
                some += np.int64(chosen[x])
            if some == 0:
                continue
            for x in range(first + x0, first + x1):
                if not chosen[x - first]:
                    continue
                value = np.float64(slope[y, x]) - np.float64(dark[y, x])
                if not value * value > floor or not value > 0:  # NaN compares as false
                    continue
                if unstable[y, x] or reads[y, x] != longest or (again and not _touches(mask, others, y, x)):
                    continue
                found = _stands_out(
                    slope, dark, dark_variance, unstable, base, factor, border, contrast, response, seed,
                    extend, y, x, around, line,
                )  # fmt: skip
                if found:
                    marked += 1
                    mask[y, x] |= np.uint8(_EXTEND | JUMP) if found == 2 else np.uint8(_EXTEND)
    return marked


@kernel
def _choose(slope, dark, y, first, base, factor, limit, chosen):
    """Write 1 for the pixels of a row that may stand out of their brighter neighbours.

    Bounds from below, without branches: they run in vector registers.  What has an unknown neighbour is
    chosen.
    """
    width = chosen.shape[0]
    here, here_dark = slope[y, first : first + width], dark[y, first : first + width]
    up, up_dark = slope[y - 1, first : first + width], dark[y - 1, first : first + width]
    down, down_dark = slope[y + 1, first : first + width], dark[y + 1, first : first + width]
    left, left_dark = slope[y, first - 1 : first - 1 + width], dark[y, first - 1 : first - 1 + width]
    right, right_dark = slope[y, first + 1 : first + 1 + width], dark[y, first + 1 : first + 1 + width]
    for x in range(width):
        value = np.float64(here[x]) - np.float64(here_dark[x])
        b = np.float64(up[x]) - np.float64(up_dark[x])
        h = np.float64(down[x]) - np.float64(down_dark[x])
        d = np.float64(left[x]) - np.float64(left_dark[x])
        f = np.float64(right[x]) - np.float64(right_dark[x])
        vertical = b if b > h else h
        horizontal = d if d > f else f
        near = vertical if vertical < horizontal else horizontal
        near = near if near > 0.0 else 0.0
        away = value - near
        blank = np.uint8((b + h) + (d + f) != (b + h) + (d + f))
        above = np.uint8(away > 0.0) & np.uint8(away * away > limit * (base + factor * near))
        chosen[x] = blank | above


@kernel
def _collect(mask, bit, places):
    """Write the places of all pixels with a bit."""
    rows, columns = mask.shape
    n = 0
    for y in range(rows):
        for x0 in range(0, columns, _CHUNK):
            x1 = min(x0 + _CHUNK, columns)
            some = 0
            for x in range(x0, x1):
                some += np.int64(mask[y, x] & bit)
            if some:
                for x in range(x0, x1):
                    if mask[y, x] & bit:
                        places[n] = y * columns + x
                        n += 1


@kernel
def _join(mask, places, seeds, slope, stack):
    """Flag the marked pixels that touch a seed, or each other up to one; return how many."""
    columns = mask.shape[1]
    extend = np.uint8(_EXTEND)
    for p in range(places.shape[0]):
        y0 = places[p] // columns
        x0 = places[p] % columns
        if not mask[y0, x0] & extend or not _touches(mask, seeds, y0, x0):
            continue
        mask[y0, x0] = (mask[y0, x0] & ~extend) | np.uint8(JUMP)
        top = 0
        stack[0] = places[p]
        while top >= 0:
            y0 = stack[top] // columns
            x0 = stack[top] % columns
            top -= 1
            # Marked pixels are two pixels or more from every edge.
            for j in range(y0 - 1, y0 + 2):
                for i in range(x0 - 1, x0 + 2):
                    if mask[j, i] & extend:
                        mask[j, i] = (mask[j, i] & ~extend) | np.uint8(JUMP)
                        top += 1
                        stack[top] = j * columns + i
    found = 0
    for p in range(places.shape[0]):
        y0 = places[p] // columns
        x0 = places[p] % columns
        if mask[y0, x0] & extend:
            mask[y0, x0] = (mask[y0, x0] & ~extend) | np.uint8(_AGAIN)
        else:
            slope[y0, x0] = np.nan
            found += 1
            _surround(mask, y0, x0)
    return found


@kernel
def _surround(mask, y, x):
    """Mark all pixels whose light was judged by this one."""
    again = np.uint8(_AGAIN)
    for j in range(max(y - _REACH, 0), min(y + _REACH + 1, mask.shape[0])):
        mask[j, x] |= again
    for i in range(max(x - _REACH, 0), min(x + _REACH + 1, mask.shape[1])):
        mask[y, i] |= again
    for j in range(y - 1, y + 2):
        for i in range(x - 1, x + 2):
            mask[j, i] |= again


def flag_jumps(
    slope: np.ndarray,
    dark: np.ndarray,
    dark_variance: np.ndarray,
    unstable: np.ndarray,
    reads: np.ndarray,
    mask: np.ndarray,
    *,
    constant: np.ndarray,
    linear: np.ndarray,
    border: int,
    seed: float,
    extend: float,
    contrast: float,
    response: float,
    others: int = 3,
) -> int:
    """Flag pixels whose slope is above what their known dark and the light around them allow.

    Parameters
    ----------
    slope : floating[row, column]
        Corrected slope in raw orientation (dispersion along the columns), ADU/s.  NaN is written where a
        pixel is flagged.
    dark, dark_variance : floating[row, column]
        Known dark, ADU/s, and its variance; NaN where it is not known.
    unstable : uint8[row, column]
        1 = the dark jumps by itself: not tested, and no evidence about its neighbours.
    reads : floating or int16[row, column]
        Reads used; shorter ramps are not tested.
    mask : uint8[row, column]
        Bit 16 is added.
    constant, linear : float64[reads + 1]
        Terms of the variance, from `ramps.variance_terms`.
    border : int
        Width of the reference border, not tested; at least 1.
    seed, extend : float
        Sigma above the allowed light at which a group starts, and at which a pixel that touches it joins.
    contrast : float
        Largest ratio of a pixel in a sharp image to the brighter neighbour on either axis.
    response : float
        Relative error of the light taken from neighbours: their response differs.
    others : int
        Bits of the mask that start groups as well.

    Returns
    -------
    int
        Number of pixels flagged.

    Raises
    ------
    TypeError, ValueError
        Wrong dtype or shape, a border below 1.
    """
    check_float("slope", slope, 2)
    for name, plane in (("dark", dark), ("dark_variance", dark_variance)):
        check_float(name, plane, 2, slope.shape)
    check_reads("reads", reads, slope.shape)
    check_integer("unstable", unstable, 2, np.uint8, slope.shape)
    check_integer("mask", mask, 2, np.uint8, slope.shape)
    if border < 1:
        raise ValueError(f"border: {border}, expected at least one row and column without test")
    mask &= np.uint8(~(_EXTEND | _AGAIN | JUMP) & 255)
    started = np.uint8(JUMP | (others & 15))
    # A pixel found is no light: without it, its neighbours in the same track stand out as well.  All others
    # would be judged as before.
    found = 0
    for turn in range(_TURNS):
        again = np.uint8(_AGAIN if turn else 0)
        marked = _mark(
            slope, dark, dark_variance, unstable, reads, constant, linear, int(border), float(contrast),
            float(response), float(seed), float(extend), again, started, mask,
        )  # fmt: skip
        if marked == 0:
            break
        places = np.empty(marked, np.int64)
        _collect(mask, np.uint8(_EXTEND), places)
        joined = _join(mask, places, started, slope, np.empty(marked, np.int64))
        if joined == 0:
            break
        found += joined
    mask &= np.uint8(~_AGAIN & 255)
    return int(found)
