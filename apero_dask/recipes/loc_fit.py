"""Fits the slit images of all traces of a flat: place, height, brightness of the slices.

Per column, place and light of the slices with the noise of the pixels as weights; then robust fits per fibre
that are smooth along the order and from order to order.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

    from apero_dask.recipes.calibrated import Calibrated
    from apero_dask.recipes.loc_find import Guess

DEGREE_CENTRE, DEGREE_WIDTH = 4, 2
FREE_CENTRE, FREE_WIDTH = 3, 2  # lowest terms that every order has for itself
ACROSS = 7  # degree of the higher terms from order to order
COLUMNS = 340  # that are fitted; trace and slit image change slowly
PASSES = 4
COARSE = 3  # all passes but the last take every third of these columns
LARGEST_STEP = 0.7  # px in one pass
LARGEST_WIDENING = 0.2  # px
FEWEST_SNR = 10.0  # of the light in one column
CUT = 5.0  # sigma at which a column loses half of its weight
REWEIGHTS, WEIGHT_CHANGE = 10, 1e-2  # at most so many solutions, or until no weight changes by more
SLICE_OVER_PITCH = 0.34  # standard deviation of a slice to begin with
OUTER_PITCH = 0.2  # pitches that the lit height of the table exceeds the number of slices by
SHARE_DEGREE = 5  # along the order
LEVEL = 0.25  # of a slice's peak, at which the lit height is measured


@dataclass(frozen=True, slots=True)
class SlitImages:
    """Traces of a frame in the order of the guess; Chebyshev series on [0, nx], ascending, px."""

    centres: np.ndarray
    """float64[trace, 5]; NaN for a trace that was not found."""
    widths: np.ndarray
    """float64[trace, 3]: lit height, between the outer points at a quarter of the peak of a slice."""
    rms_centre: np.ndarray
    """float64[trace]: weighted rms of the columns about the fit, px."""
    rms_width: np.ndarray
    rejected: np.ndarray
    """int[trace]: columns that lost more than half of their weight."""
    flux: np.ndarray
    """float64[trace]: largest light in a column, unit of the image."""


def fit_slit_images(frame: Calibrated, guess: Guess, slices: int) -> SlitImages:
    """Measure the traces that were seen.

    Parameters
    ----------
    frame
        Calibrated flat without background.
    guess
        Where they are to about a pixel.
    slices
        Slices of a fibre.

    Notes
    -----
    Gauss-Newton steps on light, places and width of the slices with the variance of the model, light of the
    neighbouring fibre subtracted; after each, places, widths and parts of the light are made smooth along the
    order.  The place of a trace is the mean of those of its slices: it does not move when they are lit
    unequally.
    """
    import numpy as np
    from apero_kernels.slices import fit_slices

    nx = frame.image.shape[1]
    every = np.arange(0, nx, max(1, nx // COLUMNS))
    planes = [np.ascontiguousarray(plane[:, every]) for plane in (frame.image, frame.base)]
    x = every[::COARSE]
    image, base = (np.ascontiguousarray(plane[:, ::COARSE]) for plane in planes)
    seen = np.flatnonzero(guess.seen)
    found = _empty(len(guess.fibres))
    if not seen.size:
        return found
    ranks = np.arange(slices) - 0.5 * (slices - 1)
    centre = guess.positions[np.ix_(seen, x)].copy()
    pitch = guess.heights[np.ix_(seen, x)] / (slices + OUTER_PITCH)
    heights = ranks[:, None] * pitch[:, None, :]
    sigma = SLICE_OVER_PITCH * pitch
    shares = np.full(heights.shape, 1.0 / slices)
    flux = np.full(centre.shape, np.nan)
    groups = _by_fibre(guess, seen)
    t = 2.0 * x / nx - 1.0
    place, distance, width = (_no_fit() for _ in range(3))
    slits: list[Smooth] = []
    for number in range(PASSES):
        if number == PASSES - 1:
            # The smooth curves hold between the columns as well; light only weighs the derivatives.
            flux, shares = (_between(x, values, every) for values in (flux, shares))
            x, (image, base) = every, planes
            t = 2.0 * x / nx - 1.0
            centre = np.polynomial.chebyshev.chebval(t, place.series.T)
            heights = np.stack([np.polynomial.chebyshev.chebval(t, fit.series.T) for fit in slits], axis=1)
            sigma = np.polynomial.chebyshev.chebval(t, width.series.T)
        amplitudes, flux_error, shifts, shift_error, place_error, widening, widening_error = fit_slices(
            image, base, frame.photon, centre, heights, sigma, shares, flux
        )
        flux = _positive(amplitudes.sum(axis=1))
        shares = _smooth_shares(t, amplitudes, flux, shares)
        if number == 0:
            continue
        with np.errstate(invalid="ignore"):
            known = flux > FEWEST_SNR * flux_error
            places = centre[:, None] + heights + np.clip(shifts, -LARGEST_STEP, LARGEST_STEP)
            places[~np.broadcast_to(known[:, None], places.shape)] = np.nan
            widths = np.where(known, sigma + np.clip(widening, -LARGEST_WIDENING, LARGEST_WIDENING), np.nan)
        middle = places.mean(axis=1)
        place = _fit_groups(t, middle, place_error, groups, DEGREE_CENTRE, FREE_CENTRE)
        centre = np.polynomial.chebyshev.chebval(t, place.series.T)
        slits = [
            _fit_groups(t, places[:, s] - middle, shift_error[:, s], groups, DEGREE_WIDTH, FREE_WIDTH)
            for s in range(slices)
        ]
        heights = np.stack([np.polynomial.chebyshev.chebval(t, fit.series.T) for fit in slits], axis=1)
        pitches = np.tensordot(ranks, places - middle[:, None], (0, 1)) / np.sum(ranks**2)
        distance = _fit_groups(t, pitches, place_error, groups, DEGREE_WIDTH, FREE_WIDTH)
        width = _fit_groups(t, widths, widening_error, groups, 0, 1)
        sigma = np.polynomial.chebyshev.chebval(t, width.series.T)
    found.centres[seen] = place.series
    found.widths[seen] = (slices - 1) * distance.series
    found.widths[seen, 0] += 2.0 * np.sqrt(-2.0 * np.log(LEVEL)) * width.series[:, 0]
    found.rms_centre[seen] = place.rms
    found.rms_width[seen] = (slices - 1) * distance.rms
    found.rejected[seen] = place.rejected
    found.flux[seen] = np.where(np.isfinite(flux), flux, 0.0).max(axis=1)
    return found


@dataclass(frozen=True, slots=True)
class Smooth:
    """Robust fits of all traces."""

    series: np.ndarray
    """float64[trace, degree + 1]."""
    rms: np.ndarray
    rejected: np.ndarray


def coupled_fit(
    t: np.ndarray, values: np.ndarray, sigma: np.ndarray, place: np.ndarray, degree: int, free: int
) -> tuple[np.ndarray, np.ndarray]:
    """Robust Chebyshev fits of the orders of one fibre that share their higher terms.

    Parameters
    ----------
    t : float64[x]
        Place along the order, -1 to 1.
    values, sigma : float64[order, x]
        Measured, with errors; what is not finite takes no part.
    place : float64[order]
        Place of the order in the sequence, -1 to 1.
    degree : int
        Along the order.
    free : int
        Number of lowest terms that every order has for itself; the others are polynomials of degree `ACROSS`
        in `place`, so that an order whose ends are dark takes their bend from its neighbours.

    Returns
    -------
    series : float64[order, degree + 1]
        NaN for an order without enough points.
    weights : float64[order, x]
        0 to 1; 0 for points that took no part.

    Notes
    -----
    The own terms of every order are eliminated from the normal equations before the common ones are found
    (Frisch and Waugh 1933, Econometrica 1, 387), then follow order by order.  Weights as in
    :func:`apero_kernels.polynomial.fit_chebyshev`.
    """
    import numpy as np

    orders, width = values.shape[0], degree + 1 - free
    basis = np.polynomial.chebyshev.chebvander(t, degree)
    products = (basis[:, :, None] * basis[:, None, :]).reshape(t.size, -1)
    across = np.polynomial.chebyshev.chebvander(place, min(ACROSS, max(0, orders - 1)))
    usable = np.isfinite(values) & np.isfinite(sigma) & (sigma > 0)
    usable &= (np.count_nonzero(usable, axis=1) > 2 * (degree + 1))[:, None]
    weights = usable.astype(float)
    series = np.full((orders, degree + 1), np.nan)
    listed = np.flatnonzero(usable.any(axis=1))
    if not listed.size:
        return series, weights
    known, across = usable[listed], across[listed]
    target = np.where(known, values[listed], 0.0)
    inverse = 1.0 / np.where(known, sigma[listed], np.inf) ** 2
    lost = np.exp(-0.5 * CUT**2)
    share = weights[listed]
    for _ in range(REWEIGHTS):
        weighted = share * inverse
        matrix = (weighted @ products).reshape(-1, degree + 1, degree + 1)
        right = (weighted * target) @ basis
        own = np.linalg.inv(matrix[:, :free, :free])
        common = np.zeros((across.shape[1], width))
        if width:
            mixed = own @ matrix[:, :free, free:]
            rest = matrix[:, free:, free:] - matrix[:, free:, :free] @ mixed
            rest_right = right[:, free:] - np.einsum("ofw,of->ow", mixed, right[:, :free])
            size = common.size
            whole = np.einsum("oi,oj,ovw->ivjw", across, across, rest).reshape(size, size)
            common = np.linalg.lstsq(whole, np.einsum("oi,ow->iw", across, rest_right).ravel(), rcond=None)[
                0
            ].reshape(common.shape)
        found = np.empty((len(listed), degree + 1))
        found[:, free:] = across @ common
        found[:, :free] = np.einsum(
            "ofg,og->of",
            own,
            right[:, :free] - np.einsum("ofw,ow->of", matrix[:, :free, free:], found[:, free:]),
        )
        residual = (target - found @ basis.T) * np.sqrt(inverse)
        scale = 1.4826 * float(np.median(np.abs(residual[known])))
        series[listed] = found
        if not scale > 0:
            break
        good = (1.0 - lost) * np.exp(-0.5 * np.square(residual / scale))
        fresh = np.where(known, good / (lost + good), 0.0)
        change = float(np.abs(fresh - share).max())
        share = fresh
        if change < WEIGHT_CHANGE:
            break
    weights[listed] = share
    return series, weights


def _fit_groups(
    t: np.ndarray, values: np.ndarray, sigma: np.ndarray, groups: list[tuple[np.ndarray, np.ndarray]],
    degree: int, free: int,
) -> Smooth:  # fmt: skip
    import numpy as np

    traces = len(values)
    found = Smooth(np.full((traces, degree + 1), np.nan), np.full(traces, np.nan), np.zeros(traces, int))
    for members, place in groups:
        series, weights = coupled_fit(t, values[members], sigma[members], place, degree, free)
        found.series[members] = series
        residual = values[members] - np.polynomial.chebyshev.chebval(t, series.T)
        used = weights > 0
        with np.errstate(invalid="ignore", divide="ignore"):
            square = np.where(used, weights * np.square(residual), 0.0).sum(axis=1) / weights.sum(axis=1)
        found.rms[members] = np.sqrt(square)
        found.rejected[members] = np.count_nonzero(used & (weights < 0.5), axis=1)
    return found


def _by_fibre(guess: Guess, seen: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Members (indices into `seen`) of every fibre and their place in the sequence of orders, -1 to 1."""
    import numpy as np

    last = max(max(guess.orders), 1)
    groups = []
    for fibre in dict.fromkeys(guess.fibres[k] for k in seen):
        members = np.array([n for n, k in enumerate(seen) if guess.fibres[k] == fibre])
        place = np.array([2.0 * guess.orders[seen[n]] / last - 1.0 for n in members])
        groups.append((members, place))
    return groups


def _smooth_shares(t: np.ndarray, amplitudes: np.ndarray, flux: np.ndarray, before: np.ndarray) -> np.ndarray:
    """Parts of the light of every slice, low polynomials along the order, clipped to positive ones."""
    import numpy as np

    shares = before.copy()
    basis = np.polynomial.chebyshev.chebvander(t, SHARE_DEGREE)
    total = amplitudes.sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        parts = amplitudes / total[:, None]
    good = np.isfinite(parts).all(axis=1) & (total > 0) & np.isfinite(flux)
    parts[~np.broadcast_to(good[:, None], parts.shape)] = np.nan
    with np.errstate(invalid="ignore"):
        good &= (np.abs(parts - _medians(parts)[..., None]) < 0.2).all(axis=1)
    listed = np.flatnonzero(np.count_nonzero(good, axis=1) >= 4 * (SHARE_DEGREE + 1))
    if not listed.size:
        return shares
    good = good[listed]
    # Photon noise of a part goes with the inverse root of the light.
    root = np.sqrt(np.where(good, total[listed], 0.0))
    target = np.where(good[:, None], parts[listed], 0.0) * root[:, None]
    turned, triangle = np.linalg.qr(root[..., None] * basis)
    solution = np.linalg.solve(triangle, (target @ turned).swapaxes(1, 2))
    # Beyond the lit columns a polynomial runs away: hold what the last lit ones have.
    first, last = good.argmax(axis=1), t.size - 1 - good[:, ::-1].argmax(axis=1)
    held = np.clip(np.arange(t.size), first[:, None], last[:, None])
    smooth = np.clip(basis[held] @ solution, 0.02, None).swapaxes(1, 2)
    shares[listed] = smooth / smooth.sum(axis=1, keepdims=True)
    return shares


def _between(x: np.ndarray, values: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Values ``[..., x]`` at other columns, on lines between those that are known; NaN if none is."""
    import numpy as np

    out = np.full((*values.shape[:-1], wanted.size), np.nan)
    for line, row in zip(out.reshape(-1, wanted.size), values.reshape(-1, x.size), strict=True):
        known = np.isfinite(row)
        if known.any():
            line[:] = np.interp(wanted, x[known], row[known])
    return out


def _medians(values: np.ndarray) -> np.ndarray:
    """Median along the last axis of what is not NaN, NaN where nothing is left."""
    import numpy as np

    ranked = np.sort(values, axis=-1)
    count = np.count_nonzero(np.isfinite(values), axis=-1)
    middle = np.stack([np.maximum(count - 1, 0) // 2, np.minimum(count // 2, values.shape[-1] - 1)], axis=-1)
    return np.asarray(np.take_along_axis(ranked, middle, axis=-1).mean(axis=-1))


def _no_fit() -> Smooth:
    import numpy as np

    return Smooth(np.empty((0, 0)), np.empty(0), np.empty(0, int))


def _positive(flux: np.ndarray) -> np.ndarray:
    import numpy as np

    with np.errstate(invalid="ignore"):
        found: np.ndarray = np.where(flux > 0, flux, np.nan)
    return found


def _empty(traces: int) -> SlitImages:
    import numpy as np

    def blank(*shape: int) -> np.ndarray:
        return np.full((traces, *shape), np.nan)

    return SlitImages(
        blank(DEGREE_CENTRE + 1), blank(DEGREE_WIDTH + 1), blank(), blank(), np.zeros(traces, int), blank()
    )
