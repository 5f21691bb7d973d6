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


# Detector


def unfold(image, amplifiers):
    """[amplifier, row, pixel in read order]."""
    width = image.shape[1] // amplifiers
    return np.array(
        [image[:, a * width : (a + 1) * width][:, :: -1 if a % 2 else 1] for a in range(amplifiers)]
    )


def refold(cube):
    return np.concatenate([c[:, ::-1] if a % 2 else c for a, c in enumerate(cube)], axis=1)


def reference_levels(image, amplifiers, border):
    width = image.shape[1] // amplifiers
    out = np.empty((2, amplifiers, 2))
    for a in range(amplifiers):
        stripe = image[:, a * width : (a + 1) * width]
        for parity in range(2):
            out[0, a, parity] = percentile(stripe[:border, parity::2], 50)
            out[1, a, parity] = percentile(stripe[-border:, parity::2], 50)
    return out


def subtract_reference(image, levels):
    rows, columns = image.shape
    width = columns // levels.shape[1]
    out = image.astype(np.float64)
    for x in range(columns):
        bottom, top = levels[:, x // width, (x % width) % 2]
        out[:, x] -= bottom + (top - bottom) * np.arange(rows) / max(rows - 1, 1)
    return out


def subtract_coupling(image, amplifiers, coefficients):
    cube = unfold(image.astype(np.float64), amplifiers)
    total = np.nansum(cube, axis=0)
    first = np.gradient(total, axis=1)
    second = np.gradient(first, axis=1)
    c0, c1, c2 = coefficients
    return refold(cube + (c0 * total + c1 * first + c2 * second))


def ramp_variance(slope, reads, frame_time, read_noise, gain, longest):
    out = np.full(slope.shape, np.nan)
    for y, x in np.ndindex(slope.shape):
        n, flux = float(reads[y, x]), float(slope[y, x]) * gain
        if np.isfinite(n) and 2 <= n <= longest and not np.isnan(flux):
            time = (n - 1) * frame_time
            signal = max(flux, 0.0) * time
            electrons = 12 * (n - 1) / (n * (n + 1)) * read_noise**2
            electrons += 6 * (n**2 + 1) / (5 * n * (n + 1)) * signal
            out[y, x] = electrons / (time * gain) ** 2
    return out


def hot_pixel_offset(image, rows, columns, half):
    size = 2 * half + 1
    stamps = []
    for y, x in zip(rows, columns, strict=True):
        if half < y < image.shape[0] - half - 1 and half < x < image.shape[1] - half - 1:
            stamp = image[y - half : y + half + 1, x - half : x + half + 1].astype(np.float64)
            if not np.isnan(stamp).any():
                stamps.append(stamp)
    if len(stamps) < 4:
        return np.nan, 0, 0
    stamps = sorted(stamps, key=lambda s: s[0, 0])[: len(stamps) // 4]
    middle = np.median([s - np.median(s) for s in stamps], axis=0)
    r = middle - np.median(middle)
    j, i = np.unravel_index(np.argmax(r), (size, size))
    noise = np.median(np.abs(r))
    snr = np.inf if r[half, half] > 0 else 0.0
    if noise > 0:
        snr = r[half, half] / noise
    return snr, j - half, i - half


def noise_figures(image, ribbon):
    level = max(percentile(image, 95), 10.0)

    def mad(values):
        return percentile(np.abs(values - percentile(values, 50)), 50)

    columns = np.array([percentile(ribbon[:, x], 50) for x in range(ribbon.shape[1])])
    rows = np.array([percentile(ribbon[y], 50) for y in range(ribbon.shape[0])])
    vertical = percentile(np.abs(np.diff(ribbon, axis=0)), 50)
    horizontal = percentile(np.abs(np.diff(ribbon, axis=1)), 50)
    return [v / level for v in (mad(columns), mad(rows), vertical, horizontal)]


def grow(seeds, candidates):
    """Candidates joined to a seed by a chain of 4-connected candidates."""
    found = seeds & candidates
    while True:
        wider = found.copy()
        wider[1:] |= found[:-1]
        wider[:-1] |= found[1:]
        wider[:, 1:] |= found[:, :-1]
        wider[:, :-1] |= found[:, 1:]
        wider &= candidates
        if (wider == found).all():
            return found
        found = wider


def box_medians(image, box):
    ny, nx = -(-image.shape[0] // box[0]), -(-image.shape[1] // box[1])
    out = np.empty((ny, nx))
    for j, i in np.ndindex(ny, nx):
        part = image[j * box[0] : (j + 1) * box[0], i * box[1] : (i + 1) * box[1]]
        out[j, i] = percentile(part, 50)
    return out


# Bad pixels


def square(mask, size, reduce, outside):
    half = size // 2
    padded = np.full((mask.shape[0] + 2 * half, mask.shape[1] + 2 * half), outside, bool)
    padded[half : half + mask.shape[0], half : half + mask.shape[1]] = mask > 0
    out = np.empty(mask.shape, bool)
    for y, x in np.ndindex(mask.shape):
        out[y, x] = reduce(padded[y : y + size, x : x + size])
    return out


def flag_flat(flat, scale, var, cut, significance, least):
    local = running_median(flat, range(-3, 4)).astype(flat.dtype)
    out = np.zeros(flat.shape, np.uint8)
    for y, x in np.ndindex(flat.shape):
        f, m = float(flat[y, x]), float(local[y, x])
        if not (np.isfinite(f) and np.isfinite(m)):
            out[y, x] = 4
        elif m >= 0.05 * scale:
            d = abs(f / m - 1)
            if d > cut or (d > least and d * m > significance * np.sqrt(float(var[y, x]))):
                out[y, x] = 2
    return out


def flag_dark(dark, var, cut, significance, least):
    local = running_median(dark, range(-3, 4)).astype(dark.dtype)
    out = np.zeros(dark.shape, np.uint8)
    for y, x in np.ndindex(dark.shape):
        e = float(dark[y, x]) - float(local[y, x])
        if not np.isfinite(e):
            out[y, x] = 4
        elif e > cut or (e > least and e > significance * np.sqrt(float(var[y, x]))):
            out[y, x] = 1
    return out


def background_mask(flat, ribbon, half, q, window, least):
    rows, columns = flat.shape
    raw = np.zeros(flat.shape, int)
    for first in range(0, columns, ribbon):
        part = flat[:, first : first + ribbon]
        profile = np.array([percentile(r, 50) for r in part])
        for y in range(rows):
            floor = percentile(profile[max(0, y - half) : y + half + 1], q)
            raw[y, first : first + ribbon] = part[y] < floor
    out = np.zeros(flat.shape, int)
    for y, x in np.ndindex(flat.shape):
        n = raw[y, max(0, x - window // 2) : x + window // 2 + 1].sum()
        out[y, x] = n > 1 if raw[y, x] else n >= least
    return out


# Background


def blur(image, sigma_y, sigma_x):
    filled = image.astype(np.float64)
    for row in filled:
        good = np.flatnonzero(np.isfinite(row))
        row[:] = np.interp(np.arange(row.size), good, row[good]) if good.size else 0.0

    def weights(sigma):
        half = max(1, int(np.ceil(3 * sigma)))
        w = np.exp(-0.5 * (np.arange(-half, half + 1) / sigma) ** 2)
        return w / w.sum()

    for axis, sigma in ((0, sigma_y), (1, sigma_x)):
        w = weights(sigma)
        half = w.size // 2
        pad = [(half, half) if a == axis else (0, 0) for a in range(2)]
        padded = np.pad(filled, pad, mode="edge")
        filled = sum(
            w[k] * np.take(padded, np.arange(k, k + filled.shape[axis]), axis) for k in range(w.size)
        )
    return filled


def halo_amplitude(image, local, mask, box, start, limit, guard):
    image, local = image.astype(np.float64), local.astype(np.float64)
    rest = image - start * local
    top = bottom = 0.0
    for y0 in range(0, image.shape[0], box[0]):
        for x0 in range(0, image.shape[1], box[1]):
            inside = np.zeros(image.shape, bool)
            inside[y0 : y0 + box[0], x0 : x0 + box[1]] = True
            inside &= (mask > 0) & np.isfinite(image)
            if inside.sum() < 10:
                continue
            middle = np.median(rest[inside])
            for y, x in np.argwhere(inside):
                near = rest[max(0, y - guard) : y + guard + 1, x]
                if middle - rest[y, x] > limit or (near - middle > limit).any():
                    inside[y, x] = False
            if inside.sum() < 10:
                continue
            deviation = local[inside] - local[inside].mean()
            top += (deviation * (rest[inside] - rest[inside].mean())).sum()
            bottom += (deviation**2).sum()
    return (start + top / bottom if bottom > 0 else np.nan), bottom


def inner_background(mask, reach, least):
    rows, columns = mask.shape
    enough = np.zeros(mask.shape, np.uint8)
    for y in range(rows):
        for x in range(columns):
            near = mask[y, max(0, x - reach) : x + reach + 1].sum() - mask[y, x]
            enough[y, x] = near >= least
    out = np.zeros_like(mask)
    out[1:-1] = enough[1:-1] & enough[:-2] & enough[2:]
    return out


def slice_step(image, base, photon, centres, heights, sigmas, shares, fluxes, trace, x, wings):
    rows = np.arange(image.shape[0])

    def parts(t):
        d = (rows[:, None] - centres[t, x] - heights[t, :, x]) / sigmas[t, x]
        return d, np.exp(-0.5 * d**2) / (np.sqrt(2 * np.pi) * sigmas[t, x])

    model = np.zeros(rows.size)
    for t in range(len(centres)):
        model += fluxes[t, x] * parts(t)[1] @ shares[t, :, x]
    d, g = parts(trace)
    light = fluxes[trace, x] * shares[trace, :, x] * g
    design = np.column_stack(
        [g, light * d / sigmas[trace, x], (light * (d**2 - 1)).sum(axis=1) / sigmas[trace, x]]
    )
    low, high = (f(centres[trace, x] + heights[trace, :, x]) for f in (np.min, np.max))
    use = (rows >= low - wings * sigmas[trace, x]) & (rows <= high + wings * sigmas[trace, x])
    use &= np.isfinite(image[:, x])
    root = 1 / np.sqrt(base[use, x] + photon * model[use])
    own = image[use, x] - model[use] + light[use].sum(axis=1)
    solution = np.linalg.lstsq(design[use] * root[:, None], own * root, rcond=None)[0]
    covariance = np.linalg.inv((design[use] * root[:, None]).T @ (design[use] * root[:, None]))
    n = g.shape[1]
    errors = np.sqrt(np.diag(covariance))
    return (
        solution[:n],
        np.sqrt(covariance[:n, :n].sum()),
        solution[n : 2 * n],
        errors[n : 2 * n],
        np.sqrt(covariance[n : 2 * n, n : 2 * n].sum()) / n,
        solution[2 * n],
        errors[2 * n],
    )


def surface(coefficients, shape):
    ty = 2 * np.arange(shape[0]) / shape[0] - 1
    tx = 2 * np.arange(shape[1]) / shape[1] - 1
    by = np.polynomial.chebyshev.chebvander(ty, coefficients.shape[0] - 1)
    bx = np.polynomial.chebyshev.chebvander(tx, coefficients.shape[1] - 1)
    return by @ coefficients @ bx.T


def box_levels(image, mask, box, fewest):
    out = []
    for y0 in range(0, image.shape[0], box[0]):
        for x0 in range(0, image.shape[1], box[1]):
            part = np.s_[y0 : y0 + box[0], x0 : x0 + box[1]]
            use = (mask[part] > 0) & np.isfinite(image[part])
            if use.sum() >= fewest:
                y, x = np.nonzero(use)
                v = image[part][use]
                sigma = (percentile(v, 84.1345) - percentile(v, 15.8655)) / 2
                out.append(
                    (y.mean() + y0, x.mean() + x0, percentile(v, 50), 1.2533 * sigma / np.sqrt(v.size))
                )
    return np.array(out).reshape(-1, 4).T


def fill_isolated(image, var):
    out, out_var = image.astype(float), var.astype(float)
    for y in range(1, image.shape[0] - 1):
        for x in range(1, image.shape[1] - 1):
            if np.isnan(image[y, x]):
                near = image[y - 1 : y + 2, x - 1 : x + 2].astype(float)
                weights = np.array([[-0.25, 0.5, -0.25], [0.5, 0, 0.5], [-0.25, 0.5, -0.25]])
                near[1, 1] = 0
                if np.isfinite(near).all():
                    out[y, x] = np.sum(weights * near)
                    noise = var[y - 1 : y + 2, x - 1 : x + 2].astype(float)
                    noise[1, 1] = 0
                    out_var[y, x] = np.sum(weights**2 * noise)
    return out, out_var


# Traces


def centroid(column, var, guess, half, passes):
    """Window integrals by cutting every pixel into its part inside the window."""
    centre = guess
    for _ in range(passes):
        low, high = centre - half, centre + half
        rows = np.arange(int(np.floor(low + 0.5)), int(np.floor(high + 0.5)) + 1)
        if rows[0] < 0 or rows[-1] >= column.size or not np.isfinite(column[rows]).all():
            return [np.nan] * 4
        left, right = np.maximum(low, rows - 0.5), np.minimum(high, rows + 0.5)
        share, middle = right - left, (left + right) / 2 - centre
        flux = np.sum(share * column[rows])
        if not flux > 0:
            return [np.nan] * 4
        step = np.sum(share * middle * column[rows]) / flux
        if abs(step) > half or abs(centre + step - guess) > half:
            return [np.nan] * 4
        square = np.sum(column[rows] * ((right - centre) ** 3 - (left - centre) ** 3) / 3) / flux
        noise = np.sum((share * middle) ** 2 * var[rows]) / flux**2
        centre += step
        if abs(step) < 1e-6:
            break
    return [centre, noise, flux, np.sqrt(square) if square > 0 else np.nan]


# Extraction


def _window(image, profile, first, height, x):
    rows = np.arange(first, first + height)
    inside = (rows >= 0) & (rows < image.shape[0])
    data, shape = np.full(height, np.nan), np.full(height, np.nan)
    data[inside], shape[inside] = image[rows[inside], x], profile[rows[inside], x]
    use = np.isfinite(data) & np.isfinite(shape)
    shape = np.where(np.isfinite(shape), shape, 0.0)
    total = sum(shape)
    shape = shape / total if total > 0 else np.full(height, 1.0 / height)
    return np.where(np.isfinite(data), data, 0.0), shape, use, np.where(inside, rows, 0)


def optimal(image, var, profile, first, height, photon, passes, cut, slack=0.0):
    flux, flux_var = np.full((2, image.shape[1]), np.nan)
    rejected = 0
    for x in range(image.shape[1]):
        d, p, use, rows = _window(image, profile, first, height, x)
        v0 = var[rows, x].astype(float)
        use = use & (v0 > 0)
        f = np.sum(d[use] * p[use]) / np.sum(p[use] ** 2) if np.sum(p[use] ** 2) > 0 else 0.0
        for step in range(passes + 1):
            if step and cut > 0 and use.any():
                v = v0 + photon * np.maximum(f * p, 0) + (slack * f * p) ** 2
                with np.errstate(invalid="ignore", divide="ignore"):
                    square = np.where(use, (d - f * p) ** 2 / v, 0.0)
                if square.max() > cut**2:
                    use[np.argmax(square)] = False
                    rejected += 1
            v = v0[use] + photon * np.maximum(f * p[use], 0)
            weight = np.sum(p[use] ** 2 / v)
            f = np.sum(p[use] * d[use] / v) / weight if weight > 0 else 0.0
        if p[use].sum() >= 0.5 and weight > 0:
            flux[x], flux_var[x] = f, 1 / weight
    return flux, flux_var, rejected


def two_step(image, var, profile, first, height, cut):
    flux, flux_var = np.full((2, image.shape[1]), np.nan)
    rejected = 0
    for x in range(image.shape[1]):
        d, p, use, rows = _window(image, profile, first, height, x)
        if cut > 0 and use.any():
            with np.errstate(invalid="ignore", divide="ignore"):
                ratio = d / p
            a = percentile(ratio[use & np.isfinite(ratio)], 50)
            r = np.abs(d - a * p)
            typical = percentile(r[use], 50) if np.isfinite(a) else np.nan
            for j in np.flatnonzero(use):
                if r[j] > 0 and not r[j] < cut * typical:
                    use[j] = False
                    rejected += 1
        if p[use].sum() >= 0.5 and np.sum(p[use] ** 2) > 0:
            flux[x] = np.sum(p[use] * d[use]) / np.sum(p[use] ** 2)
            flux_var[x] = np.sum(p[use] ** 2 * var[rows[use], x]) / np.sum(p[use] ** 2) ** 2
    return flux, flux_var, rejected


def pseudo_voigts(place, area, fwhm, share, reach, n):
    """Sum of pseudo-Voigt profiles on points 0..n-1; Lorentzian part lowered to 0 at the reach."""
    out = np.zeros(n)
    for x0, a, w, eta, r in zip(place, area, fwhm, share, reach, strict=True):
        for j in range(n):
            d = j - x0
            if abs(d) > r:
                continue
            lorentz = 2 / (np.pi * w) * (1 / (1 + (2 * d / w) ** 2) - 1 / (1 + (2 * r / w) ** 2))
            gauss = np.sqrt(4 * np.log(2) / np.pi) / w * np.exp(-4 * np.log(2) * (d / w) ** 2)
            if (2 * d / w) ** 2 >= 40:
                gauss = 0.0
            out[j] += max(a * (eta * lorentz + (1 - eta) * gauss), 0.0)
    return out


def spread(values, place, fwhm, exponent, step, smallest):
    """Means weighted with a super-Gaussian of the width of each pixel."""
    out = np.full((len(values), *place.shape), np.nan)
    for index in np.ndindex(place.shape):
        x, w, p = place[index], fwhm[index], exponent[index]
        if not np.isfinite([x, w, p]).all():
            continue
        scale = 0.5 * w / (2 * np.log(2)) ** (1 / p) / step
        half = (-2 * np.log(smallest)) ** (1 / p) * scale
        j = np.arange(np.ceil(x - half), np.floor(x + half) + 1).astype(int)
        if len(j) == 0 or j[0] < 0 or j[-1] >= values.shape[1]:
            continue
        weight = np.exp(-0.5 * (np.abs(j - x) / scale) ** p)
        for k, row in enumerate(values):
            out[(k, *index)] = (weight * row[j]).sum() / weight.sum()
    return out


def fit_stack(values, variances, design, prior, cut, fewest):
    """Ridge regression per pixel; the worst datum beyond the cut is left out, one after the other."""
    pixels = values.shape[1]
    out, used = np.full((3, pixels), np.nan), np.zeros(pixels, np.int64)
    for x in range(pixels):
        kept = [i for i in range(len(values)) if np.isfinite(values[i, x]) and variances[i, x] > 0]
        if not np.isfinite(prior[:, x]).all():
            continue
        while len(kept) >= max(fewest, 1):
            a = design[kept] * prior[:, x]
            w = 1 / variances[kept, x]
            terms = np.linalg.solve(np.eye(3) + a.T @ (a * w[:, None]), a.T @ (w * values[kept, x]))
            out[:, x], used[x] = prior[:, x] * terms, len(kept)
            off = np.abs(values[kept, x] - a @ terms) * np.sqrt(w)
            if off.max() <= cut or len(kept) - 1 < fewest:
                break
            kept.pop(int(np.argmax(off)))
    return out, used
