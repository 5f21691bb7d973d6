"""Order statistics and robust means that ignore NaN.

NaN means "no information" and never takes part; infinities are ordered like any other value.  A result
without a single value is NaN.  Percentiles interpolate linearly between neighbouring values (rank
``q/100 * (n - 1)``, the convention of numpy).
"""

from __future__ import annotations

import numpy as np

from apero_kernels._jit import kernel
from apero_kernels.contracts import check_float

LANES = 256  # columns sorted side by side: 16 values of float32 for each stay in the L1 cache
_SAMPLE = 16384  # values that bracket a rank: the bracket then holds about 3 % of the image
_FEWEST = 16  # below this many values, sorting by insertion is the fastest
_FEW = 32768  # below this many values a plain selection is as fast

SIGMA_LOW = 15.8655  # per cent of a Gaussian below -1 sigma
SIGMA_HIGH = 84.1345  # per cent of a Gaussian below +1 sigma
ODDS_RATIO_F = 2e-4  # fraction of bad values assumed by the odds-ratio mean (chosen by its authors)


@kernel
def select_rank(values, n, k):
    """Return the k-th smallest (from 0) of the first `n` values, which are reordered; no NaN among them.

    Notes
    -----
    Selection by partition (Hoare 1961, CACM 4, 321), pivot = median of three.  Afterwards nothing before
    position k is larger and nothing behind it is smaller.  Every value is swapped whether it is small or
    not, only the place to swap with moves on (partition of Lomuto): about half of the comparisons go either
    way, and a branch that cannot be predicted costs more than the swap.
    """
    low = 0
    high = n - 1
    one = np.uint64(1)
    while high - low > _FEWEST:
        a = values[low]
        b = values[(low + high) >> 1]
        c = values[high]
        pivot = max(min(a, b), min(max(a, b), c))
        # Unsigned indices: no test for negative ones.
        end = np.uint64(high) + one
        front = np.uint64(low)
        for i in range(np.uint64(low), end):
            value = values[i]
            values[i] = values[front]
            values[front] = value
            front += np.uint64(value < pivot)
        if k < np.int64(front):
            high = np.int64(front) - 1
            continue
        for i in range(front, end):
            value = values[i]
            values[i] = values[front]
            values[front] = value
            front += np.uint64(value <= pivot)
        if k < np.int64(front):
            return values[k]
        low = np.int64(front)
    for i in range(low + 1, high + 1):
        value = values[i]
        j = i
        while j > low and values[j - 1] > value:
            values[j] = values[j - 1]
            j -= 1
        values[j] = value
    return values[k]


@kernel
def percentile_in_place(values, n, q):
    """Return percentile `q` of the first `n` values (reordered; none NaN) as float64, NaN if n = 0."""
    if n == 0:
        return np.nan
    rank = 0.01 * q * (n - 1)
    k = int(rank)
    fraction = rank - k
    lower = np.float64(select_rank(values, n, k))
    if fraction == 0.0 or k + 1 >= n:
        return lower
    upper = np.float64(values[k + 1])
    for i in range(k + 2, n):
        if values[i] < upper:
            upper = np.float64(values[i])
    if upper == lower:
        return lower
    return lower + fraction * (upper - lower)


@kernel
def median_in_place(values, n):
    """Return the median of the first `n` values (reordered; none NaN) as float64, NaN if n = 0."""
    if n == 0:
        return np.nan
    k = (n - 1) >> 1
    lower = np.float64(select_rank(values, n, k))
    if n & 1:
        return lower
    upper = np.float64(values[k + 1])
    for i in range(k + 2, n):
        if values[i] < upper:
            upper = np.float64(values[i])
    return lower if upper == lower else 0.5 * (lower + upper)


@kernel
def pack_finite(values, scratch):
    """Copy what is not NaN of a 1-D array into `scratch` and return how many there are."""
    n = 0
    for i in range(values.shape[0]):
        if not np.isnan(values[i]):
            scratch[n] = values[i]
            n += 1
    return n


@kernel
def sort_lanes(buffer, n):
    """Sort each column of the first `n` rows of the contiguous ``buffer[n, lane]`` upwards; no NaN.

    Notes
    -----
    Odd-even merging network (Batcher 1968, AFIPS 32, 307; Knuth, TAOCP 3, algorithm 5.2.2M).  The order
    of comparisons does not depend on the data: no branch is ever predicted wrongly.
    """
    flat = buffer.reshape(-1)
    lanes = np.uint64(buffer.shape[1])
    first = np.empty(buffer.shape[1], buffer.dtype)
    second = np.empty(buffer.shape[1], buffer.dtype)
    p = 1
    while p < n:
        k = p
        while k >= 1:
            start = k % p
            while start + k < n:
                for i in range(start, min(start + k, n - k)):
                    if i // (2 * p) == (i + k) // (2 * p):
                        # Unsigned indices (no test for negative ones) and copies of both rows: only
                        # then do the comparisons run in vector registers.
                        upper = np.uint64(i) * lanes
                        lower = np.uint64(i + k) * lanes
                        for lane in range(lanes):
                            first[lane] = flat[upper + lane]
                        for lane in range(lanes):
                            second[lane] = flat[lower + lane]
                        for lane in range(lanes):
                            a = first[lane]
                            b = second[lane]
                            flat[upper + lane] = a if a < b else b
                        for lane in range(lanes):
                            a = first[lane]
                            b = second[lane]
                            flat[lower + lane] = b if a < b else a
                start += 2 * k
            k >>= 1
        p <<= 1


@kernel
def sorted_percentile(buffer, lane, n, q):
    """Return percentile `q` of the first `n` values of a sorted lane as float64, NaN if n = 0."""
    if n == 0:
        return np.nan
    rank = 0.01 * q * (n - 1)
    k = int(rank)
    lower = np.float64(buffer[k, lane])
    if k + 1 >= n:
        return lower
    upper = np.float64(buffer[k + 1, lane])
    return lower if upper == lower else lower + (rank - k) * (upper - lower)


@kernel
def sorted_median(buffer, lane, n):
    """Return the median of the first `n` values of a sorted lane as float64, NaN if n = 0."""
    if n == 0:
        return np.nan
    k = (n - 1) >> 1
    lower = np.float64(buffer[k, lane])
    if n & 1:
        return lower
    upper = np.float64(buffer[k + 1, lane])
    return lower if upper == lower else 0.5 * (lower + upper)


@kernel
def _percentile_image(image, q):
    rows, columns = image.shape
    size = rows * columns
    if size > _FEW:
        # Bracket the rank with a sample (stride made odd so that it visits every column), then look only
        # at the values inside the bracket: exact, one pass over the image.
        stride = (size // _SAMPLE) | 1
        sample = np.empty(size // stride + 1, image.dtype)
        m = 0
        for i in range(0, size, stride):
            value = image[i // columns, i % columns]
            if not np.isnan(value):
                sample[m] = value
                m += 1
        if m > 100:
            share = 0.01 * q
            margin = 5.0 * np.sqrt(m * share * (1.0 - share)) + 5.0
            first = int(max(0.0, share * (m - 1) - margin))
            last = int(min(m - 1.0, share * (m - 1) + margin))
            low = select_rank(sample, m, first)
            high = select_rank(sample, m, last)
            if first == 0:
                low = sample.dtype.type(-np.inf)
            if last == m - 1:
                high = sample.dtype.type(np.inf)
            room = size // 8
            inside = np.empty(room + 1, image.dtype)
            n = 0
            below = 0
            kept = 0
            for r in range(rows):
                # Sums and unconditional stores: at the median every second branch would be wrong.
                under = 0
                blank = 0
                for c in range(columns):
                    value = image[r, c]
                    under += np.int64(value < low)
                    blank += np.int64(value != value)
                below += under
                n += blank
                for c in range(columns):
                    value = image[r, c]
                    inside[min(kept, room)] = value
                    kept += np.int64(value >= low) * np.int64(value <= high)
            n = size - n
            rank = share * (n - 1)
            k = int(rank)
            k_next = min(k + 1, n - 1)
            if kept <= room and k >= below and k_next < below + kept:
                lower = np.float64(select_rank(inside, kept, k - below))
                upper = np.float64(select_rank(inside, kept, k_next - below))
                return lower if upper == lower else lower + (rank - k) * (upper - lower)
    values = np.empty(size, image.dtype)
    n = 0
    for r in range(rows):
        for c in range(columns):
            if not np.isnan(image[r, c]):
                values[n] = image[r, c]
                n += 1
    return percentile_in_place(values, n, q)


@kernel
def _odds_ratio_mean(values, sigmas, f, scratch):
    n = 0
    for i in range(values.shape[0]):
        if np.isfinite(values[i]) and sigmas[i] > 0.0 and np.isfinite(sigmas[i]):
            scratch[n] = values[i]
            n += 1
    mu = median_in_place(scratch, n)
    error = np.nan
    if n == 0:
        return mu, error
    for _ in range(10):
        weight_sum = 0.0
        value_sum = 0.0
        for i in range(values.shape[0]):
            if np.isfinite(values[i]) and sigmas[i] > 0.0 and np.isfinite(sigmas[i]):
                deviation = (values[i] - mu) / sigmas[i]
                g = (1.0 - f) * np.exp(-0.5 * deviation * deviation)
                weight = g / (g + f) / (sigmas[i] * sigmas[i])
                weight_sum += weight
                value_sum += weight * values[i]
        if not weight_sum > 0.0:
            return np.nan, np.nan  # every value is infinitely unlikely: the sigmas are not those of the data
        previous = mu
        mu = value_sum / weight_sum
        error = 1.0 / np.sqrt(weight_sum)
        if abs(mu - previous) < 0.01 * error:
            break
    return mu, error


@kernel
def _weighted_percentile(values, weights, q):
    kept = np.empty(values.shape[0], np.int64)
    packed = np.empty(values.shape[0], np.float64)
    n = 0
    total = 0.0
    for i in range(values.shape[0]):
        if not np.isnan(values[i]) and weights[i] > 0.0 and np.isfinite(weights[i]):
            kept[n] = i
            packed[n] = values[i]
            total += weights[i]
            n += 1
    if n == 0:
        return np.nan
    order = np.argsort(packed[:n], kind="mergesort")  # stable: ties keep the order of the input
    goal = 0.01 * q * total
    before = -np.inf
    middle = 0.0
    last = packed[order[0]]
    for rank in range(n):
        value = packed[order[rank]]
        weight = weights[kept[order[rank]]]
        here = middle + 0.5 * weight
        middle += weight
        if here >= goal:
            if before == -np.inf or value == last:
                return value
            return last + (goal - before) / (here - before) * (value - last)
        before = here
        last = value
    return last


def percentile(values: np.ndarray, q: float) -> float:
    """Return percentile `q` (0..100) of all values of an array, exact, whatever its size.

    Parameters
    ----------
    values : float32 or float64, any number of axes (contiguous if more than two)
        NaN takes no part.
    q : float
        Per cent.

    Raises
    ------
    TypeError
        `values` is not a native floating array.
    ValueError
        `q` outside 0..100.
    """
    values = np.asarray(values)
    check_float("values", values, values.ndim)
    if not 0.0 <= q <= 100.0:
        raise ValueError(f"q: {q}, expected a percentage between 0 and 100")
    image = values if values.ndim == 2 else values.reshape(1, -1)
    return float(_percentile_image(image, float(q)))


def median(values: np.ndarray) -> float:
    """Return the median of all values of an array; see `percentile`."""
    return percentile(values, 50.0)


def estimate_sigma(values: np.ndarray) -> float:
    """Return half the distance between the 15.87th and 84.13th percentiles: sigma for a Gaussian."""
    return 0.5 * (percentile(values, SIGMA_HIGH) - percentile(values, SIGMA_LOW))


def median_absolute(values: np.ndarray) -> float:
    """Return the median of the absolute deviations from the median (0.6745 sigma for a Gaussian)."""
    return median(np.abs(values - values.dtype.type(median(values))))


def odds_ratio_mean(values: np.ndarray, sigmas: np.ndarray, f: float = ODDS_RATIO_F) -> tuple[float, float]:
    """Return the mean of values of which a fraction is bad, and its error.

    Parameters
    ----------
    values, sigmas : float64[n]
        Values and their standard deviations.  A pair takes part if the value is finite and the sigma
        finite and positive.
    f : float
        Share of bad values assumed, 0 < f < 1.

    Returns
    -------
    mean, error : float
        NaN if no pair takes part.

    Raises
    ------
    TypeError, ValueError
        Wrong dtype or shape, or `f` outside (0, 1).

    Notes
    -----
    Artigau et al. (2022), AJ 164, 84, appendix A: each value counts with its probability of belonging to
    the Gaussian around the present mean.  Starts at the median; at most 10 passes, or until the mean
    moves by less than 0.01 of its error.
    """
    check_float("values", values, 1)
    check_float("sigmas", sigmas, 1, values.shape)
    if not 0.0 < f < 1.0:
        raise ValueError(f"f: {f}, expected a fraction between 0 and 1")
    scratch = np.empty(values.size, np.float64)
    mean, error = _odds_ratio_mean(values, sigmas, float(f), scratch)
    return float(mean), float(error)


def weighted_percentile(values: np.ndarray, weights: np.ndarray, q: float) -> float:
    """Return the value below which `q` per cent of the weight lies.

    Parameters
    ----------
    values, weights : float64[n]
        A pair takes part if the value is not NaN and the weight finite and positive.
    q : float
        Per cent.  Each value sits in the middle of its own weight; between values linear.

    Raises
    ------
    TypeError, ValueError
        Wrong dtype or shape, or `q` outside 0..100.
    """
    check_float("values", values, 1)
    check_float("weights", weights, 1, values.shape)
    if not 0.0 <= q <= 100.0:
        raise ValueError(f"q: {q}, expected a percentage between 0 and 100")
    return float(_weighted_percentile(values, weights, float(q)))


def weighted_median(values: np.ndarray, weights: np.ndarray) -> float:
    """Return the weighted median; see `weighted_percentile`."""
    return weighted_percentile(values, weights, 50.0)


def weighted_sigma(values: np.ndarray, weights: np.ndarray) -> float:
    """Return half the distance between the weighted 15.87th and 84.13th percentiles."""
    high = weighted_percentile(values, weights, SIGMA_HIGH)
    return 0.5 * (high - weighted_percentile(values, weights, SIGMA_LOW))
