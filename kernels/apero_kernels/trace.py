"""Positions and widths of traces: centroids in a moving window, then shifts of a measured template.

A trace has a guessed position ``guess[trace, x]`` (px, pixel centres at integers).  Background must have
been subtracted.
"""

from __future__ import annotations

import numpy as np

from apero_kernels._jit import kernel
from apero_kernels.contracts import check_float, check_positive
from apero_kernels.robust import median_in_place
from apero_kernels.running import running_median

PROFILE_REACH = 5  # columns on either side in the median that makes an order profile (reference)


@kernel
def _window_moments(image, var, x, centre, half):
    # Pixels at the ends count with the part of them that lies in the window, so the window moves smoothly.
    rows = image.shape[0]
    low = centre - half
    high = centre + half
    first = int(np.floor(low + 0.5))
    last = int(np.floor(high + 0.5))
    flux = 0.0
    moment = 0.0
    square = 0.0
    noise = 0.0
    if first < 0 or last >= rows:
        return np.nan, np.nan, np.nan, np.nan
    for y in range(first, last + 1):
        value = np.float64(image[y, x])
        if not np.isfinite(value):
            return np.nan, np.nan, np.nan, np.nan
        left = max(low, y - 0.5)
        right = min(high, y + 0.5)
        share = right - left
        middle = 0.5 * (left + right) - centre
        flux += share * value
        moment += share * value * middle
        square += share * value * (middle * middle + share * share / 12.0)
        noise += (share * middle) ** 2 * np.float64(var[y, x])
    return flux, moment, square, noise


@kernel
def _centroids(image, var, guess, half, passes, positions, variances, fluxes, widths):
    traces, columns = guess.shape
    for t in range(traces):
        for x in range(columns):
            centre = np.float64(guess[t, x])
            flux = np.nan
            noise = np.nan
            square = np.nan
            step = np.nan
            if np.isfinite(centre):
                for _ in range(passes):
                    flux, moment, square, noise = _window_moments(image, var, x, centre, half)
                    if not flux > 0.0:
                        centre = np.nan
                        break
                    step = moment / flux
                    # A window that runs away has lost its trace.
                    if abs(step) > half or abs(centre + step - guess[t, x]) > half:
                        centre = np.nan
                        break
                    centre += step
                    if abs(step) < 1e-6:
                        break
            good = np.isfinite(centre) and flux > 0.0
            positions[t, x] = centre if good else np.nan
            variances[t, x] = noise / (flux * flux) if good else np.nan
            fluxes[t, x] = flux if good else np.nan
            width = square / flux if good else np.nan
            widths[t, x] = np.sqrt(width) if width > 0.0 else np.nan


@kernel
def _template_bins(image, positions, fluxes, trace, first, end, reach, per_px, values, place, fill):
    bins = fill.shape[0]
    fill[:] = 0
    for x in range(first, end):
        centre = positions[trace, x]
        if not np.isfinite(centre) or not fluxes[trace, x] > 0.0:
            continue
        y0 = int(np.ceil(centre - reach))
        for y in range(max(0, y0), min(image.shape[0], int(np.floor(centre + reach)) + 1)):
            value = np.float64(image[y, x])
            b = int(np.floor((y - centre + reach) * per_px))
            if np.isfinite(value) and 0 <= b < bins and fill[b] < values.shape[1]:
                values[b, fill[b]] = value / fluxes[trace, x]
                place[b, fill[b]] = y - centre
                fill[b] += 1


@kernel
def _template(image, positions, fluxes, trace, first, end, reach, per_px, values, place, fill, out):
    _template_bins(image, positions, fluxes, trace, first, end, reach, per_px, values, place, fill)
    for b in range(out.shape[0]):
        out[b] = median_in_place(values[b], fill[b])


@kernel
def _template_value(template, reach, per_px, u):
    # Parabola through three bins: value and slope at offset u.
    place = (u + reach) * per_px - 0.5
    b = int(np.floor(place + 0.5))
    if b < 1 or b > template.shape[0] - 2:
        return 0.0, 0.0
    d = place - b
    left = template[b - 1]
    middle = template[b]
    right = template[b + 1]
    first = 0.5 * (right - left)
    second = left - 2.0 * middle + right
    return middle + d * (first + 0.5 * d * second), (first + d * second) * per_px


@kernel
def _fit_template(image, var, guess, templates, section, reach, per_px, passes, positions, variances, fluxes):
    traces, columns = guess.shape
    for t in range(traces):
        for x in range(columns):
            template = templates[t, min(x // section, templates.shape[1] - 1)]
            shift = 0.0
            amplitude = np.nan
            error = np.nan
            start = np.float64(guess[t, x])
            good = np.isfinite(start)
            if good:
                first = max(0, int(np.ceil(start - reach)))
                end = min(image.shape[0], int(np.floor(start + reach)) + 1)
                for _ in range(passes):
                    pp = 0.0
                    ps = 0.0
                    ss = 0.0
                    dp = 0.0
                    ds = 0.0
                    for y in range(first, end):
                        value = np.float64(image[y, x])
                        noise = np.float64(var[y, x])
                        if np.isfinite(value) and noise > 0.0:
                            p, s = _template_value(template, reach, per_px, y - start - shift)
                            pp += p * p / noise
                            ps += p * s / noise
                            ss += s * s / noise
                            dp += value * p / noise
                            ds += value * s / noise
                    determinant = pp * ss - ps * ps
                    if not determinant > 1e-12 * pp * ss:
                        good = False
                        break
                    amplitude = (dp * ss - ds * ps) / determinant
                    if not amplitude > 0.0:
                        good = False
                        break
                    # image = A p(u - step) = A p - A step p'
                    step = -(ds * pp - dp * ps) / determinant / amplitude
                    shift += max(-0.5, min(0.5, step))
                    error = pp / determinant / (amplitude * amplitude)
                    if abs(shift) > 0.5 * reach:
                        good = False
                        break
                    if abs(step) < 1e-6:
                        break
            positions[t, x] = start + shift if good else np.nan
            variances[t, x] = error if good else np.nan
            fluxes[t, x] = amplitude if good else np.nan


def order_profile(image: np.ndarray, out: np.ndarray, reach: int = PROFILE_REACH) -> None:
    """Write the median of each pixel and its `reach` neighbours on either side along the row.

    Parameters
    ----------
    image : floating[y, x]
        Calibrated flat; NaN takes no part.
    out : floating[y, x]
        Written; may not share memory with `image`.
    reach : int
        Columns on either side.

    Raises
    ------
    TypeError, ValueError
        Wrong dtype or shape, negative `reach`.
    """
    if reach < 0:
        raise ValueError(f"reach: {reach}, expected 0 or more columns")
    running_median(image, np.arange(-reach, reach + 1), out)


def centroids(
    image: np.ndarray, var: np.ndarray, guess: np.ndarray, half: float, passes: int = 50
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Measure the flux-weighted position of each trace in each column.

    Parameters
    ----------
    image, var : floating[y, x]
        Calibrated frame without background, and its variance.
    guess : float64[trace, x]
        Guessed position; NaN = not wanted.
    half : float
        Half height of the window, px.
    passes : int
        The window is centred anew so many times, or until it moves by less than 1e-6 px.

    Returns
    -------
    positions, variances, fluxes, widths : float64[trace, x]
        Position (px), its variance, flux in the window, standard deviation of the light (px).  NaN where
        the window leaves the frame, holds a pixel that is not finite or no light, or loses its trace.

    Raises
    ------
    TypeError, ValueError
        Wrong dtype or shape, window not positive.

    Notes
    -----
    A window that is centred on its own centroid has no bias for a symmetric profile, whatever the guess.
    The variance is that of the first moment with the window held; the moving window enlarges it.
    """
    check_float("image", image, 2)
    check_float("var", var, 2, image.shape)
    check_float("guess", guess, 2)
    check_positive("half", half)
    if guess.shape[1] != image.shape[1]:
        raise ValueError(f"guess: {guess.shape[1]} columns, expected those of the image, {image.shape[1]}")
    results = tuple(np.empty(guess.shape) for _ in range(4))
    _centroids(image, var, guess, float(half), int(passes), *results)
    return results


def build_templates(
    image: np.ndarray,
    positions: np.ndarray,
    fluxes: np.ndarray,
    reach: float,
    sections: int,
    per_px: int = 4,
) -> np.ndarray:
    """Measure the transverse profile of each trace, finer than the pixels, in sections along x.

    Parameters
    ----------
    image : floating[y, x]
        Calibrated frame without background.
    positions, fluxes : float64[trace, x]
        Smooth positions (a polynomial, not the noisy centroids) and the flux of each column.
    reach : float
        Half height, px.
    sections : int
        Number of equal parts of the row.
    per_px : int
        Bins per pixel.

    Returns
    -------
    float64[trace, section, bin]
        Median of pixel over flux in each bin; NaN for a bin without pixels (a trace along a row visits
        few sub-pixel positions).

    Raises
    ------
    TypeError, ValueError
        Wrong dtype or shape, sizes not positive.
    """
    check_float("image", image, 2)
    check_float("positions", positions, 2)
    check_float("fluxes", fluxes, 2, positions.shape)
    check_positive("reach", reach)
    if sections < 1 or per_px < 1:
        raise ValueError(f"sections: {sections}, per_px: {per_px}, expected 1 or more")
    columns = positions.shape[1]
    length = -(-columns // sections)
    bins = int(np.ceil(2 * reach * per_px))
    out = np.empty((positions.shape[0], sections, bins))
    values, place = np.empty((bins, 2 * length + 2)), np.empty((bins, 2 * length + 2))
    fill = np.empty(bins, np.int64)
    for t in range(positions.shape[0]):
        for s in range(sections):
            _template(
                image, positions, fluxes, t, s * length, min((s + 1) * length, columns), float(reach),
                float(per_px), values, place, fill, out[t, s],
            )  # fmt: skip
    return out


def fit_templates(
    image: np.ndarray,
    var: np.ndarray,
    guess: np.ndarray,
    templates: np.ndarray,
    reach: float,
    per_px: int = 4,
    passes: int = 20,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Fit shift and amplitude of a template to each trace in each column, weighted with the variance.

    Parameters
    ----------
    image, var : floating[y, x]
        Calibrated frame without background, and its variance (pixels without a positive one take no part).
    guess : float64[trace, x]
        Positions to start from, within a pixel or two.
    templates : float64[trace, section, bin]
        From `build_templates` with the same `reach` and `per_px`, without NaN.
    reach, per_px : float, int
        Half height (px) and bins per pixel of the templates.
    passes : int
        At most so many Gauss-Newton steps, or until one is below 1e-6 px.

    Returns
    -------
    positions, variances, fluxes : float64[trace, x]
        NaN where the fit is not determined, the amplitude not positive or the shift beyond half of `reach`.

    Raises
    ------
    TypeError, ValueError
        Wrong dtype or shape, templates with NaN.
    """
    check_float("image", image, 2)
    check_float("var", var, 2, image.shape)
    check_float("guess", guess, 2)
    check_float("templates", templates, 3)
    if templates.shape[0] != guess.shape[0] or guess.shape[1] != image.shape[1]:
        raise ValueError(
            f"guess: shape {guess.shape}; expected {templates.shape[0]} traces (as templates) and "
            f"{image.shape[1]} columns (as the image)"
        )
    if np.isnan(templates).any():
        raise ValueError("templates: some bins are NaN; use fewer bins per pixel or fewer sections")
    section = -(-guess.shape[1] // templates.shape[1])
    results = tuple(np.empty(guess.shape) for _ in range(3))
    _fit_template(image, var, guess, templates, section, float(reach), float(per_px), int(passes), *results)
    return results
