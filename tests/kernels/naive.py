"""The obvious slow version of every kernel: numpy only, no code shared with the kernels."""

from __future__ import annotations

import numpy as np


def finite(values):
    values = np.asarray(values).ravel()
    return values[~np.isnan(values)]


def percentile(values, q):
    good = np.sort(finite(values).astype(np.float64))
    if good.size == 0:
        return np.nan
    rank = q / 100 * (good.size - 1)
    low = int(np.floor(rank))
    high = min(low + 1, good.size - 1)
    if rank == low or good[low] == good[high]:
        return good[low]
    with np.errstate(invalid="ignore"):  # between -inf and +inf there is no value
        return good[low] + (rank - low) * (good[high] - good[low])


def odds_ratio_mean(values, sigmas, f):
    keep = np.isfinite(values) & np.isfinite(sigmas) & (sigmas > 0)
    v, s = values[keep], sigmas[keep]
    if v.size == 0:
        return np.nan, np.nan
    mu = np.median(v)
    for _ in range(10):
        g = (1 - f) * np.exp(-0.5 * ((v - mu) / s) ** 2)
        w = g / (g + f) / s**2
        if not w.sum() > 0:
            return np.nan, np.nan
        new = np.sum(w * v) / np.sum(w)
        error = 1 / np.sqrt(w.sum())
        done = abs(new - mu) / error < 0.01
        mu = new
        if done:
            break
    return mu, error


def weighted_percentile(values, weights, q):
    keep = ~np.isnan(values) & np.isfinite(weights) & (weights > 0)
    v, w = values[keep], weights[keep]
    if v.size == 0:
        return np.nan
    order = np.argsort(v, kind="stable")
    v, w = v[order], w[order]
    middles = np.cumsum(w) - 0.5 * w
    return np.interp(q / 100 * w.sum(), middles, v)


def running_median(image, offsets):
    out = np.full(image.shape, np.nan)
    for y in range(image.shape[0]):
        for x in range(image.shape[1]):
            inside = [x + k for k in offsets if 0 <= x + k < image.shape[1]]
            out[y, x] = percentile(image[y, inside], 50)
    return out


def stack_median(images):
    out = np.empty(images.shape[1:])
    for y, x in np.ndindex(out.shape):
        out[y, x] = percentile(images[:, y, x], 50)
    return out


def stack_mean(images):
    out = np.full(images.shape[1:], np.nan)
    for y, x in np.ndindex(out.shape):
        good = finite(images[:, y, x]).astype(np.float64)
        if good.size:
            out[y, x] = good.sum() / good.size
    return out


def stack_count(images):
    return np.sum(~np.isnan(images), axis=0)


def stack_scatter(images, statistic):
    out = np.full(images.shape[1:], np.nan)
    for y, x in np.ndindex(out.shape):
        good = finite(images[:, y, x]).astype(np.float64)
        if good.size > 1:
            if statistic == "median":
                out[y, x] = (percentile(good, 84.1345) - percentile(good, 15.8655)) / 2
            else:
                out[y, x] = np.std(good, ddof=1)
    return out


def chebyshev(coefficients, x, nx):
    return np.polynomial.Chebyshev(coefficients, domain=[0, nx])(x)


def robust_chebyshev(x, y, degree, nx, sigma, cut):
    keep = np.isfinite(x) & np.isfinite(y) & np.isfinite(sigma) & (sigma > 0)
    weights = keep.astype(float)
    basis = np.polynomial.chebyshev.chebvander(2 * x / nx - 1, degree)
    k = np.exp(-(cut**2) / 2)
    for _ in range(20 if cut > 0 else 1):
        use = weights > 0
        root = np.sqrt(weights[use]) / sigma[use]
        coefficients = np.linalg.lstsq(basis[use] * root[:, None], y[use] * root, rcond=None)[0]
        residual = (y - basis @ coefficients) / sigma
        good = np.abs(residual[keep])
        scale = 1.4826 * np.median(good) * np.sqrt(good.size / max(good.size - degree - 1, 1))
        if cut <= 0 or not scale > 0:
            break
        n = (1 - k) * np.exp(-0.5 * (residual / scale) ** 2)
        new = np.where(keep, n / (k + n), 0.0)
        change = np.max(np.abs(new - weights)[keep])
        weights = new
        if change < 1e-9:
            break
    return coefficients, weights, scale


def low_pass(y, width):
    xs, ys = [], []
    step = max(1, width // 4)
    for centre in range(0, y.size + step, step):
        first, end = max(0, centre - width // 2), min(y.size, centre - width // 2 + width)
        window = np.arange(first, end)
        window = window[~np.isnan(y[first:end])] if first < end else window[:0]
        if window.size:
            mean = window.mean()
            if xs and mean <= xs[-1]:
                continue
            xs.append(mean)
            ys.append(percentile(y[window], 50))
    if not xs:
        return np.full(y.size, np.nan)
    return np.interp(np.arange(y.size), xs, ys)
