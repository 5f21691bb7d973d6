"""Measures the peaks of a Fabry-Perot comb in extracted spectra, with errors."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from apero_dask.recipes.wave_evidence import mean_over_models
from apero_dask.recipes.wave_lines import EDGE, Lines, LineShape, blank, surface_degrees, surface_terms

if TYPE_CHECKING:
    import numpy as np

    from apero_dask.recipes.wave_cavity import Cavity
    from apero_dask.recipes.wave_maps import WaveMap

FP_REACH = 0.55  # half window of a peak over the distance of the peaks: the core and the feet
FP_WIDTHS = (0.5, 2.5)  # px
MOST_SLOPE = 0.1  # per px: a change of the light by more is noise
FINESSE_TRIALS = (0.01, 0.02, 0.03, 0.04, 0.05, 0.065, 0.08, 0.1)  # inverse finesses
FINESSE_PEAKS = 1500  # bright peaks that tell the finesse
SKEW_TRIAL = 0.02  # third Gauss-Hermite moments tried are this, 0 and the negative
SKEW_BINS = 6  # parts of an order that tell the skew
SKEW_SIZES = tuple(0.1 * 0.5**k for k in range(10))  # expected sizes of the mean skew that are tried
SKEW_DECAY = 0.5  # every degree of the skew over the detector is expected to be so many times the one before
FP_SIGNIFICANCE = 6.0
MOST_CHI_SQUARE = 10.0  # over the median of the order: a fit that is worse met a defect of the detector


def spacing_at(cavity: Cavity, wave: WaveMap, order: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Distance of the peaks in columns at places of the map."""
    import numpy as np

    lam = wave.wavelength(order, x)
    return np.asarray(lam / cavity.number(lam) / wave.dispersion(order, x))


def find_comb(flux: np.ndarray, var: np.ndarray, cavity: Cavity, wave: WaveMap) -> Lines:
    """All Fabry-Perot peaks, found without knowing their numbers, and fitted.

    The map and the cavity give nothing but the rough distance of the peaks.
    """
    import numpy as np
    from apero_kernels.comb import find_peaks

    every = np.repeat(np.arange(wave.norders), 2)
    ends = spacing_at(cavity, wave, every, np.tile([0.0, float(wave.nx)], wave.norders))
    valley = int(np.ceil(0.5 * ends.max())) + 1
    order, start, height = find_peaks(flux, var, least=FP_SIGNIFICANCE, valley=valley)
    inside = (start > EDGE) & (start < wave.nx - 1 - EDGE)
    order, start, height = order[inside], start[inside], height[inside]
    spacing = spacing_at(cavity, wave, order, start)
    lines = blank(order, np.full(order.size, -1, np.int64), np.full(order.size, np.nan), start)
    for _ in range(2):
        near, ratio = _neighbours(order, start, height, spacing)
        lines, fit, _ = _fit(flux, var, lines, start, near, ratio, spacing)
        found = np.isfinite(fit[:, 1])
        start = np.where(found, fit[:, 1], start)
        height = np.where(found & (fit[:, 0] > 0), fit[:, 0], height)
    return lines


@dataclass(frozen=True, slots=True)
class _Comb:
    """Peaks to be fitted, and what is known around them."""

    flux: np.ndarray
    var: np.ndarray
    order: np.ndarray
    start: np.ndarray
    near: np.ndarray
    ratio: np.ndarray
    spacing: np.ndarray
    slope: np.ndarray

    def chi_square(self, rows: np.ndarray, inverse: float, skew: np.ndarray | float) -> np.ndarray:
        """Of every peak of `rows`, for an inverse finesse and a skew; NaN without a fit."""
        import numpy as np
        from apero_kernels.comb import fit_comb

        spacing = self.spacing[rows]
        quality, used = fit_comb(
            self.flux, self.var, self.order[rows], self.start[rows], self.near[rows], self.ratio[rows],
            FP_REACH * spacing, lorentz=0.5 * inverse * spacing, slope=self.slope[rows],
            skew=np.full(rows.size, skew) if np.ndim(skew) == 0 else np.asarray(skew),
        )[2:]  # fmt: skip
        return np.asarray(quality * np.maximum(used - 4, 1))


def measure_comb(
    flux: np.ndarray,
    var: np.ndarray,
    lines: Lines,
    cavity: Cavity,
    wave: WaveMap,
    most_px: float,
    shape: LineShape | None = None,
) -> tuple[Lines, LineShape]:
    """Fit peaks of known number at their predicted columns.

    Parameters
    ----------
    lines
        Every peak of the range once per order, numbers falling with the column, as by `predict_comb`; the
        amplitudes of an earlier measurement give those of the neighbours and the slope of the light.
    most_px
        A peak farther than this from its prediction is noise.
    shape
        Known shape of the lines; without it it is measured here.

    Returns
    -------
    lines
    shape
        Of the lines of this fibre.

    Notes
    -----
    The spectrograph adds a Gaussian to the Lorentzian of the etalon, and some asymmetry.  Finesse and skew
    are those for which bright peaks have the smallest chi-square: parabolas through three trials, the skew a
    polynomial of total degree 4 over the detector, as uneven as the peaks ask for (`mean_over_models`).  With
    the skew in the model the centre means the same whatever weights and window of a fit are, hence the same
    for peaks and lamp lines.

    A peak whose chi-square is ten times the median of its order is left out: it stands on a defect of the
    detector.  Compared within an order because the model is not perfect: bright peaks show that.
    """
    import numpy as np

    spacing = spacing_at(cavity, wave, lines.order, lines.x_ref)
    height = _filled(lines.order, lines.x_ref, lines.amplitude)
    near, ratio = _neighbours(lines.order, lines.x_ref, height, spacing)
    with np.errstate(divide="ignore", invalid="ignore"):
        slope = np.log(ratio[:, 1] / ratio[:, 0]) / (near[:, 1] - near[:, 0])
    slope = np.clip(np.nan_to_num(slope), -MOST_SLOPE, MOST_SLOPE)
    comb = _Comb(flux, var, lines.order, lines.x_ref, near, ratio, spacing, slope)
    if shape is None:
        known = np.flatnonzero(np.isfinite(lines.amplitude))
        # Bright peaks of every order: which orders are bright must not decide.
        top = np.zeros(wave.norders)
        np.maximum.at(top, lines.order[known], height[known])
        bright = known[height[known] > 0.5 * top[lines.order[known]]]
        inverse = _inverse_finesse(comb, bright[:: max(1, bright.size // FINESSE_PEAKS)])
        shape = LineShape(1.0 / inverse if inverse > 0 else float("inf"), _skew(comb, bright, inverse))
    inverse = 1.0 / shape.finesse
    found, _, quality = _fit(
        flux, var, lines, lines.x_ref, near, ratio, spacing, lorentz=0.5 * inverse * spacing, slope=slope,
        skew=shape.skew_at(lines.order, lines.x_ref, *flux.shape),
    )  # fmt: skip
    with np.errstate(invalid="ignore"):
        bad = ~(np.abs(found.x - found.x_ref) < most_px)
    for o in range(wave.norders):
        rows = np.flatnonzero((found.order == o) & ~bad)
        if rows.size:
            bad[rows] = quality[rows] > MOST_CHI_SQUARE * float(np.median(quality[rows]))
    return found.spoiled(bad), shape


def _inverse_finesse(comb: _Comb, rows: np.ndarray) -> float:
    import numpy as np

    trials = np.array((0.0, *FINESSE_TRIALS))
    if rows.size < FINESSE_PEAKS // 50:
        return 0.0
    cost = np.array([comb.chi_square(rows, float(trial), 0.0) for trial in trials])
    good = np.isfinite(cost).all(axis=0)
    if not good.any():
        return 0.0
    total = cost[:, good].sum(axis=1)
    best = int(np.argmin(total))
    if best in (0, trials.size - 1):
        return float(trials[best])
    curve = np.polyfit(trials[best - 1 : best + 2], total[best - 1 : best + 2], 2)
    return float(-0.5 * curve[1] / curve[0])


def _skew(comb: _Comb, rows: np.ndarray, inverse: float) -> np.ndarray | None:
    """Coefficients of `LineShape.skew`."""
    import numpy as np

    norders, nx = comb.flux.shape
    rows = rows[:: max(1, rows.size // (4 * FINESSE_PEAKS))]
    if rows.size < FINESSE_PEAKS // 50:
        return None
    low, middle, high = (comb.chi_square(rows, inverse, h) for h in (-SKEW_TRIAL, 0.0, SKEW_TRIAL))
    good = np.isfinite(low) & np.isfinite(middle) & np.isfinite(high)
    rows = rows[good]
    part = np.clip(comb.start[rows] * SKEW_BINS / nx, 0, SKEW_BINS - 1).astype(int)
    cell = comb.order[rows] * SKEW_BINS + part
    size = norders * SKEW_BINS
    low, middle, high = (np.bincount(cell, v[good], size) for v in (low, middle, high))
    curve = (low + high - 2.0 * middle) / (2.0 * SKEW_TRIAL**2)
    slope = (high - low) / (2.0 * SKEW_TRIAL)
    told = curve > 0
    if not told.any():
        return None
    centre = np.bincount(cell, comb.start[rows], size) / np.maximum(np.bincount(cell, minlength=size), 1)
    terms = surface_terms(np.arange(size) // SKEW_BINS, centre, norders, nx)[told]
    value, weight = -0.5 * slope[told] / curve[told], curve[told]
    # A cell far from all others counts no more than its error allows, and no more than ten of the median.
    weight = np.minimum(weight, 10.0 * float(np.median(weight)))
    degrees = np.array([i + j for i, j in surface_degrees()], dtype=np.float64)
    sizes = np.array(SKEW_SIZES)[:, None] * SKEW_DECAY**degrees
    spread, found = 1.0, np.zeros(degrees.size)
    for _ in range(3):
        # Chi-square of bright peaks is larger than their photons tell: what cells scatter by counts.
        found, _ = mean_over_models(terms, value, spread**2 / weight, sizes)
        left = (value - terms @ found) * np.sqrt(weight)
        spread = max(1.0, 1.4826 * float(np.median(np.abs(left))))
    return found


def predict_comb(cavity: Cavity, wave: WaveMap, known: Lines | None = None) -> Lines:
    """Every peak that falls into an order: rows without measurement, sorted by order and column.

    Parameters
    ----------
    known
        Earlier measurement, whose amplitudes are carried over by order and number.
    """
    import numpy as np

    orders, numbers = [], []
    every = np.arange(wave.norders)
    low = cavity.number(wave.wavelength(every, np.full(wave.norders, float(EDGE))))
    high = cavity.number(wave.wavelength(every, np.full(wave.norders, float(wave.nx - 1 - EDGE))))
    for o in every:
        some = np.arange(int(np.floor(low[o])), int(np.ceil(high[o])) - 1, -1, dtype=np.int64)
        orders.append(np.full(some.size, o, np.int64))
        numbers.append(some)
    order, number = np.concatenate(orders), np.concatenate(numbers)
    lam = cavity.wavelength(number)
    x = wave.column(order, lam)
    inside = (x > EDGE) & (x < wave.nx - 1 - EDGE)
    lines = blank(order[inside], number[inside], lam[inside], x[inside])
    if known is None:
        return lines
    place = {
        (o, n): k for k, (o, n) in enumerate(zip(known.order.tolist(), known.label.tolist(), strict=True))
    }
    at = [place.get(key, -1) for key in zip(lines.order.tolist(), lines.label.tolist(), strict=True)]
    index = np.array(at, dtype=np.int64)
    amplitude = np.where(index >= 0, known.amplitude[index], np.nan)
    return replace(lines, amplitude=amplitude)


def _fit(
    flux: np.ndarray,
    var: np.ndarray,
    lines: Lines,
    start: np.ndarray,
    near: np.ndarray,
    ratio: np.ndarray,
    spacing: np.ndarray,
    **shape: np.ndarray,
) -> tuple[Lines, np.ndarray, np.ndarray]:
    """Lines, parameters of the fits and their reduced chi-squares; NaN for fits that failed."""
    import numpy as np
    from apero_kernels.comb import fit_comb

    fit, errors, quality, used = fit_comb(
        flux, var, lines.order, start, near, ratio, FP_REACH * spacing, **shape
    )
    with np.errstate(invalid="ignore", divide="ignore"):
        snr = fit[:, 0] / errors[:, 0]
        good = (used > 0) & (snr > FP_SIGNIFICANCE) & (np.abs(fit[:, 1] - lines.x_ref) < 0.5 * spacing)
        good &= (fit[:, 2] > FP_WIDTHS[0]) & (fit[:, 2] < FP_WIDTHS[1]) & (errors[:, 1] > 0)

    def kept(values: np.ndarray) -> np.ndarray:
        return np.where(good, values, np.nan)

    measured = replace(
        lines,
        x=kept(fit[:, 1]),
        sigma=kept(errors[:, 1]),
        width=kept(fit[:, 2]),
        amplitude=kept(fit[:, 0]),
        snr=kept(snr),
    )
    return measured, np.where(good[:, None], fit, np.nan), kept(quality)


def _neighbours(
    order: np.ndarray, x: np.ndarray, height: np.ndarray, spacing: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Places and relative heights of the peaks before and behind; a missing one is put where it should be."""
    import numpy as np

    near = np.stack([x - spacing, x + spacing], axis=1)
    ratio = np.ones((x.size, 2))
    for side, step in ((0, -1), (1, 1)):
        low, high = max(0, -step), x.size - max(0, step)
        if high <= low:
            continue
        here, there = slice(low, high), slice(low + step, high + step)
        distance = np.abs(x[there] - x[here])
        follows = (order[there] == order[here]) & (np.abs(distance / spacing[here] - 1.0) < 0.25)
        near[here, side] = np.where(follows, x[there], near[here, side])
        ratio[here, side] = np.where(follows, np.clip(height[there] / height[here], 0.0, 10.0), 1.0)
    return near, ratio


def _filled(order: np.ndarray, x: np.ndarray, height: np.ndarray) -> np.ndarray:
    """Amplitudes with gaps closed by straight lines along each order; 1 throughout an order without any."""
    import numpy as np

    out = np.ones(x.size)
    for o in np.unique(order):
        rows = np.flatnonzero(order == o)
        known = rows[np.isfinite(height[rows]) & (height[rows] > 0)]
        if known.size:
            out[rows] = np.interp(x[rows], x[known], height[known])
    return out
