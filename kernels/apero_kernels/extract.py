"""Extract orders from a straightened image with a transverse profile.

Two estimates: optimal weights with the variance of every pixel (`optimal`), and the equal-weight
two-step estimate of the reference pipeline (`two_step`).  A batch of orders is extracted per call; each
order is a window of whole rows of the image.  Columns are worked on side by side.
"""

from __future__ import annotations

import numpy as np

from apero_kernels._jit import kernel
from apero_kernels.contracts import check_float, check_integer, check_output
from apero_kernels.robust import sorted_median

_CHUNK = 128  # columns side by side: five planes of 33 rows stay in the L2 cache
_MISSING = 6  # rows of a window that may be missing for the short way to a median
LEAST_WEIGHT = 0.5  # share of the profile that must be valid for a flux


@kernel
def _load(image, profile, first, height, x0, width, data, shape, weight):
    # Window of one order: data (0 where not valid), profile normalised over the window, weight 1 or 0.
    rows = image.shape[0]
    total = np.zeros(_CHUNK)
    for j in range(height):
        y = first + j
        for lane in range(_CHUNK):
            shape[j, lane] = 0.0
            data[j, lane] = 0.0
            weight[j, lane] = 0.0
        if 0 <= y < rows:
            # Views of rows: their indices need no test for the sign.
            seen, model = image[y, x0 : x0 + width], profile[y, x0 : x0 + width]
            shape_row, data_row, weight_row = shape[j], data[j], weight[j]
            for lane in range(width):
                p = np.float64(model[lane])
                d = np.float64(seen[lane])
                known = p - p == 0.0  # neither NaN nor infinite, without a call
                there = d - d == 0.0
                shape_row[lane] = p if known else 0.0
                data_row[lane] = d if there else 0.0
                weight_row[lane] = 1.0 if known and there else 0.0
            for lane in range(width):
                total[lane] += shape_row[lane]
    for j in range(height):
        shape_row = shape[j]
        for lane in range(_CHUNK):
            # Without a profile every row counts the same.
            lit = total[lane] > 0.0
            shape_row[lane] = (shape_row[lane] if lit else 1.0) / (total[lane] if lit else height)


@kernel
def _optimal(
    image, var, profile, photon, first, height, passes, cut, slack, flux, flux_var, kept, weights_out
):
    columns = image.shape[1]
    rows = image.shape[0]
    data = np.empty((height, _CHUNK))
    shape = np.empty((height, _CHUNK))
    weight = np.empty((height, _CHUNK))
    base = np.empty((height, _CHUNK))
    top = np.empty(_CHUNK)
    bottom = np.empty(_CHUNK)
    f = np.empty(_CHUNK)
    worst = np.empty(_CHUNK)
    where = np.empty(_CHUNK, np.int64)
    rejected = 0
    with_weights = weights_out.shape[0] > 0
    for x0 in range(0, columns, _CHUNK):
        width = min(_CHUNK, columns - x0)
        _load(image, profile, first, height, x0, width, data, shape, weight)
        top[:] = 0.0
        bottom[:] = 0.0
        for j in range(height):
            y = first + j
            for lane in range(_CHUNK):
                base[j, lane] = 1.0
            if 0 <= y < rows:
                for lane in range(width):
                    v = np.float64(var[y, x0 + lane])
                    base[j, lane] = v if v > 0.0 else 1.0
                    weight[j, lane] *= 1.0 if v > 0.0 else 0.0
            for lane in range(_CHUNK):
                p = weight[j, lane] * shape[j, lane]
                top[lane] += p * data[j, lane]
                bottom[lane] += p * shape[j, lane]
        for lane in range(_CHUNK):
            f[lane] = top[lane] / bottom[lane] if bottom[lane] > 0.0 else 0.0
        for step in range(passes + 1):
            if step > 0 and cut > 0.0:
                worst[:] = cut * cut
                where[:] = -1
                for j in range(height):
                    for lane in range(_CHUNK):
                        model = f[lane] * shape[j, lane]
                        r = data[j, lane] - model
                        v = base[j, lane] + photon * max(model, 0.0) + slack * slack * model * model
                        square = weight[j, lane] * r * r / v
                        larger = square > worst[lane]
                        worst[lane] = square if larger else worst[lane]
                        where[lane] = j if larger else where[lane]
                for lane in range(width):
                    if where[lane] >= 0:
                        weight[where[lane], lane] = 0.0
                        rejected += 1
            top[:] = 0.0
            bottom[:] = 0.0
            for j in range(height):
                for lane in range(_CHUNK):
                    p = shape[j, lane]
                    v = base[j, lane] + photon * max(f[lane] * p, 0.0)
                    scaled = weight[j, lane] * p / v
                    top[lane] += scaled * data[j, lane]
                    bottom[lane] += scaled * p
            for lane in range(_CHUNK):
                f[lane] = top[lane] / bottom[lane] if bottom[lane] > 0.0 else 0.0
        _store(shape, weight, f, bottom, height, x0, width, flux, flux_var)
        if with_weights:
            for j in range(height):
                for lane in range(width):
                    weights_out[j, x0 + lane] = np.uint8(weight[j, lane])
    kept[0] = rejected


@kernel
def _store(shape, weight, f, inverse, height, x0, width, flux, flux_var):
    for lane in range(width):
        share = 0.0
        for j in range(height):
            share += weight[j, lane] * shape[j, lane]
        good = share >= LEAST_WEIGHT and inverse[lane] > 0.0
        flux[x0 + lane] = f[lane] if good else np.nan
        flux_var[x0 + lane] = 1.0 / inverse[lane] if good else np.nan


@kernel
def _network(n, upper, lower):
    # Comparisons of the odd-even merging network for n rows (Batcher 1968, AFIPS 32, 307).
    count = 0
    p = 1
    while p < n:
        k = p
        while k >= 1:
            start = k % p
            while start + k < n:
                for i in range(start, min(start + k, n - k)):
                    if i // (2 * p) == (i + k) // (2 * p):
                        if count < upper.shape[0]:
                            upper[count] = i
                            lower[count] = i + k
                        count += 1
                start += 2 * k
            k >>= 1
        p <<= 1
    return count


@kernel
def _prune(n, upper, lower, lowest, highest, kept_upper, kept_lower):
    # Of a network the comparisons that decide what stands in rows lowest..highest, in order.
    needed = np.zeros(n, np.bool_)
    needed[lowest : highest + 1] = True
    count = upper.shape[0]
    place = count
    for c in range(count - 1, -1, -1):
        if needed[upper[c]] or needed[lower[c]]:
            needed[upper[c]] = True
            needed[lower[c]] = True
            place -= 1
            kept_upper[place] = upper[c]
            kept_lower[place] = lower[c]
    return place


@kernel
def _compare(buffer, upper, lower, begin, one, two):
    # Carry out comparisons begin and following on all lanes; the last two are scratch of a row each.
    flat = buffer.reshape(-1)
    lanes = np.uint64(buffer.shape[1])
    for c in range(begin, upper.shape[0]):
        # Unsigned indices need no test for the sign; with copies of both rows no loop has aliases, and all
        # run in vector registers.
        u = np.uint64(upper[c]) * lanes
        v = np.uint64(lower[c]) * lanes
        for lane in range(lanes):
            one[lane] = flat[u + lane]
        for lane in range(lanes):
            two[lane] = flat[v + lane]
        for lane in range(lanes):
            x = one[lane]
            y = two[lane]
            flat[u + lane] = x if x < y else y
        for lane in range(lanes):
            x = one[lane]
            y = two[lane]
            flat[v + lane] = y if x < y else x


@kernel
def _two_step(image, var, profile, first, height, cut, flux, flux_var, kept, weights_out):
    rows, columns = image.shape
    data = np.empty((height, _CHUNK))
    shape = np.empty((height, _CHUNK))
    weight = np.empty((height, _CHUNK))
    ordered = np.empty((height, _CHUNK))
    used = np.empty(_CHUNK, np.int64)
    a = np.empty(_CHUNK)
    typical = np.empty(_CHUNK)
    top = np.empty(_CHUNK)
    bottom = np.empty(_CHUNK)
    noise = np.empty(_CHUNK)
    share = np.empty(_CHUNK)
    spread = np.empty(_CHUNK)
    one = np.empty(_CHUNK)
    two = np.empty(_CHUNK)
    count = _network(height, np.empty(0, np.int64), np.empty(0, np.int64))
    upper = np.empty(count, np.int64)
    lower = np.empty(count, np.int64)
    _network(height, upper, lower)
    near_upper = np.empty(count, np.int64)
    near_lower = np.empty(count, np.int64)
    begin = _prune(
        height, upper, lower, max(height - _MISSING - 1, 0) >> 1, height >> 1, near_upper, near_lower
    )
    rejected = 0
    with_weights = weights_out.shape[0] > 0
    for x0 in range(0, columns, _CHUNK):
        width = min(_CHUNK, columns - x0)
        _load(image, profile, first, height, x0, width, data, shape, weight)
        if cut > 0.0:
            used[:] = 0
            for j in range(height):
                for lane in range(_CHUNK):
                    ratio = data[j, lane] / shape[j, lane]
                    good = weight[j, lane] > 0.0 and np.isfinite(ratio)
                    ordered[j, lane] = ratio if good else np.inf
                    used[lane] += good
            if np.min(used[:width]) >= height - _MISSING:
                _compare(ordered, near_upper, near_lower, begin, one, two)
            else:
                _compare(ordered, upper, lower, 0, one, two)
            for lane in range(_CHUNK):
                a[lane] = sorted_median(ordered, lane, used[lane])
            used[:] = 0
            for j in range(height):
                for lane in range(_CHUNK):
                    r = abs(data[j, lane] - a[lane] * shape[j, lane])
                    good = weight[j, lane] > 0.0 and np.isfinite(r)
                    ordered[j, lane] = r if good else np.inf
                    used[lane] += good
            if np.min(used[:width]) >= height - _MISSING:
                _compare(ordered, near_upper, near_lower, begin, one, two)
            else:
                _compare(ordered, upper, lower, 0, one, two)
            for lane in range(_CHUNK):
                typical[lane] = sorted_median(ordered, lane, used[lane]) if lane < width else np.inf
            used[:] = 0
            for j in range(height):
                for lane in range(_CHUNK):
                    r = abs(data[j, lane] - a[lane] * shape[j, lane])
                    far = weight[j, lane] > 0.0 and r > 0.0 and not r / typical[lane] < cut
                    weight[j, lane] = 0.0 if far else weight[j, lane]
                    used[lane] += far
            for lane in range(width):
                rejected += used[lane]
        top[:] = 0.0
        bottom[:] = 0.0
        noise[:] = 0.0
        share[:] = 0.0
        for j in range(height):
            y = first + j
            spread[:] = 0.0
            if 0 <= y < rows:
                noisy = var[y, x0 : x0 + width]
                for lane in range(width):
                    spread[lane] = np.float64(noisy[lane])
            for lane in range(_CHUNK):
                p = weight[j, lane] * shape[j, lane]
                top[lane] += p * data[j, lane]
                bottom[lane] += p * shape[j, lane]
                share[lane] += p
                # A pixel without weight has no say, whatever its variance.
                noise[lane] += p * p * spread[lane] if p > 0.0 else 0.0
        for lane in range(width):
            good = share[lane] >= LEAST_WEIGHT and bottom[lane] > 0.0
            flux[x0 + lane] = top[lane] / bottom[lane] if good else np.nan
            flux_var[x0 + lane] = noise[lane] / (bottom[lane] * bottom[lane]) if good else np.nan
        if with_weights:
            for j in range(height):
                for lane in range(width):
                    weights_out[j, x0 + lane] = np.uint8(weight[j, lane])
    kept[0] = rejected


def windows(centres: np.ndarray, below: int, above: int) -> tuple[np.ndarray, int]:
    """Return first row of each order's window and its height: rows round(yc - below)..round(yc + above).

    Raises
    ------
    ValueError
        A centre is not finite, or the window is empty.
    """
    if not np.isfinite(centres).all():
        raise ValueError(f"centres: order {int(np.argmin(np.isfinite(centres)))} has no finite centre")
    if below + above < 0:
        raise ValueError(f"below: {below}, above: {above}, expected a window of at least one row")
    # round(yc - R) and round(yc + R) differ by 2 R for every yc, as R is whole.
    return np.rint(np.asarray(centres) - below).astype(np.int64), below + above + 1


def _prepare(
    image: np.ndarray,
    var: np.ndarray,
    profile: np.ndarray,
    first: np.ndarray,
    height: int,
    flux: np.ndarray,
    flux_var: np.ndarray,
    weights: np.ndarray | None,
) -> np.ndarray:
    check_float("image", image, 2)
    check_float("var", var, 2, image.shape)
    check_float("profile", profile, 2, image.shape)
    check_integer("first", first, 1, np.int64)
    if height < 1:
        raise ValueError(f"height: {height}, expected at least one row")
    shape = (first.size, image.shape[1])
    check_output("flux", flux, shape)
    check_output("flux_var", flux_var, shape)
    if weights is None:
        return np.empty((first.size, 0, 0), np.uint8)
    return check_output("weights", weights, (first.size, height, image.shape[1]), np.uint8)


def optimal(
    image: np.ndarray,
    var: np.ndarray,
    profile: np.ndarray,
    first: np.ndarray,
    height: int,
    flux: np.ndarray,
    flux_var: np.ndarray,
    *,
    photon: float,
    passes: int = 3,
    cut: float = 10.0,
    profile_error: float = 0.0,
    weights: np.ndarray | None = None,
) -> np.ndarray:
    """Extract orders by weighting each pixel with profile over variance.

    Parameters
    ----------
    image : floating[y, x]
        Straightened frame, electrons.
    var : floating[y, x]
        Signal-free part of the variance, electrons^2; a pixel without a positive one takes no part.
    profile : floating[y, x]
        Straightened order profile, any scale; normalised to sum 1 over the window of each column, uniform
        where its sum is not positive.
    first : int64[order]
        First row of each window; rows beyond the frame are not valid.
    height : int
        Rows of a window.
    flux, flux_var : floating[order, x]
        Written, electrons and electrons^2; NaN where less than half of the profile is valid.
    photon : float
        Photon factor of the ramp, 1.0 to 1.2: variance = var + photon * model.
    passes : int
        Times that variance and flux are worked out from the model of the pass before.
    cut : float
        The worst pixel of a column is rejected in each pass if it is off by more than `cut` sigma; 0 = keep
        all.
    profile_error : float
        Relative error of the profile: added to the sigma of the rejection, not to the weights.  Bright
        lines of high S/N would otherwise lose pixels that only show how well the profile is known.
    weights : uint8[order, row, x], optional
        Written: 1 = used.

    Returns
    -------
    int64[order]
        Number of pixels rejected.

    Raises
    ------
    TypeError, ValueError
        Wrong dtype or shape.

    Notes
    -----
    Horne (1986), PASP 98, 609, eq. 8, with the variance from the model so that weights do not follow the
    noise; first model from equal weights.  Sums run over rows in increasing y.
    """
    planes = _prepare(image, var, profile, first, height, flux, flux_var, weights)
    rejected, one = np.zeros(first.size, np.int64), np.zeros(1, np.int64)
    for o in range(first.size):
        _optimal(
            image, var, profile, float(photon), int(first[o]), int(height), int(passes), float(cut),
            float(profile_error), flux[o], flux_var[o], one, planes[o],
        )  # fmt: skip
        rejected[o] = one[0]
    return rejected


def two_step(
    image: np.ndarray,
    var: np.ndarray,
    profile: np.ndarray,
    first: np.ndarray,
    height: int,
    flux: np.ndarray,
    flux_var: np.ndarray,
    *,
    cut: float = 10.0,
    weights: np.ndarray | None = None,
) -> np.ndarray:
    """Extract orders with equal weights after rejecting pixels that do not fit the profile.

    Amplitude a = median(S/P), residuals r = S - a P; pixels with |r| of `cut` medians of |r| or more are
    left out; flux = sum(P S) / sum(P^2).

    Parameters
    ----------
    image, var, profile, first, height, flux, flux_var, weights
        As `optimal`, but `var` is the whole variance, used for `flux_var` alone.
    cut : float
        Limit in median absolute residuals; 0 = keep every finite pixel (flats, windows of ten rows).

    Returns
    -------
    int64[order]
        Number of pixels rejected.

    Raises
    ------
    TypeError, ValueError
        Wrong dtype or shape.
    """
    planes = _prepare(image, var, profile, first, height, flux, flux_var, weights)
    rejected, one = np.zeros(first.size, np.int64), np.zeros(1, np.int64)
    for o in range(first.size):
        _two_step(
            image, var, profile, int(first[o]), int(height), float(cut), flux[o], flux_var[o], one, planes[o]
        )
        rejected[o] = one[0]
    return rejected
