"""Solves for the wavelengths of a night: comb for the shape, lamp for the zero point, one cavity for all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from apero_dask.core.errors import DataError
from apero_dask.recipes.wave_anchor import (
    Anchors,
    Correction,
    Shift,
    fit_correction,
    mean_shift,
    merge,
    residuals,
)
from apero_dask.recipes.wave_catalogue import Catalogue
from apero_dask.recipes.wave_cavity import Cavity
from apero_dask.recipes.wave_comb import find_comb, measure_comb, predict_comb
from apero_dask.recipes.wave_lines import Lines, LineShape, measure_lamp, predict_catalogue
from apero_dask.recipes.wave_maps import WaveMap
from apero_dask.recipes.wave_numbers import Numbering, number_peaks
from apero_dask.recipes.wave_offsets import displaced_map

if TYPE_CHECKING:
    import numpy as np

CUT = 5.0  # sigma at which a peak loses half of its weight
FLOOR = 4e-4  # px (1 m/s): error of a centre beyond photons
FEWEST = 30  # peaks that carry an order (reference)
EDGE_STEP = 16  # px between points that hold a map where there is no light
EDGE_SIGMA = 0.3  # px, their error: the accuracy of the first guess
NEAR_COMB = 0.5  # px
NEAR_LAMP = 1.0  # px
PASSES = 3


@dataclass(frozen=True, slots=True)
class LampSpectra:
    """Extracted spectra of one fibre, float64[order, x], e-."""

    fp: np.ndarray
    fp_variance: np.ndarray
    hc: np.ndarray
    hc_variance: np.ndarray


@dataclass(frozen=True, slots=True)
class FibreSolution:
    """Solution of one fibre."""

    wave: WaveMap
    hc: Lines
    fp: Lines
    velocity: np.ndarray
    """Residuals of the lamp lines, c (catalogue - solution)/catalogue, m/s."""
    velocity_sigma: np.ndarray
    """Their photon errors, m/s."""
    numbering: Numbering
    offset_px: float
    """Bulk displacement of the spectrum against the starting map."""
    error_ms: np.ndarray
    """float64[order]: median formal error of the map along the order, without the zero point; m/s."""
    scale: np.ndarray
    """float64[order]: scatter of the peaks over their errors; NaN for an order without enough peaks."""
    shape: LineShape
    """Of the lines, from the peaks."""


@dataclass(frozen=True, slots=True)
class Solution:
    """Solutions of all fibres, and the cavity they share."""

    cavity: Cavity
    fibres: dict[str, FibreSolution]
    zero: Shift
    """What the lamp lines say about the final cavity: mean (near 0) and error, m/s."""
    correction: Correction | None
    """Chromatic correction of the starting cavity; None if its shape was kept."""
    cavity_ms: float
    """Achromatic change of the cavity against the starting one, m/s."""


def fit_orders(lines: Lines, start: WaveMap, cavity: Cavity) -> tuple[WaveMap, np.ndarray, np.ndarray]:
    """Map through the peaks of known number.

    Parameters
    ----------
    lines
        Measured peaks; those without number or centre take no part.
    start
        Map that is right to a few tenths of a pixel: it holds the ends of orders without light, and orders
        with fewer than 30 peaks keep it.

    Returns
    -------
    wave : WaveMap
        Same degree as `start`.
    error_ms, scale : float64[order]
        See `FibreSolution`.

    Notes
    -----
    Robust Chebyshev fit per order of the wavelength against the column, weights from the errors of the
    centres.  Orders are independent: one polynomial of degree 7 x 5 in x and 1/m for m L of all orders leaves
    600 m/s rms of the measured maps of SPIRou, one of degree 7 x 9 still 50 m/s.
    """
    import numpy as np
    from apero_kernels.polynomial import fit_chebyshev

    series = start.coefficients.copy()
    error, scale = np.full(start.norders, np.nan), np.full(start.norders, np.nan)
    grid = np.arange(0.0, start.nx, 8.0)
    basis = np.polynomial.chebyshev.chebvander(2.0 * grid / start.nx - 1.0, start.degree)
    good = lines.good & (lines.label >= 0)
    lam = np.full(lines.order.size, np.nan)
    lam[good] = cavity.wavelength(lines.label[good])
    for o in range(start.norders):
        rows = np.flatnonzero(good & (lines.order == o))
        if rows.size < FEWEST:
            continue
        x = lines.x[rows]
        slope = start.dispersion(lines.order[rows], x)
        y = lam[rows] - start.wavelength(lines.order[rows], x)
        sigma = np.hypot(lines.sigma[rows], FLOOR) * slope
        dark = np.concatenate(
            [np.arange(0.0, x[0] - EDGE_STEP, EDGE_STEP), np.arange(x[-1] + EDGE_STEP, start.nx, EDGE_STEP)]
        )
        at = np.full(dark.size, o)
        held = EDGE_SIGMA * start.dispersion(at, dark)
        found, covariance, _, scale[o] = fit_chebyshev(
            np.concatenate([x, dark]),
            np.concatenate([y, np.zeros(dark.size)]),
            start.degree,
            float(start.nx),
            sigma=np.concatenate([sigma, held]),
            cut=CUT,
        )
        if not np.isfinite(found).all():
            continue
        series[o] += found
        formal = np.sqrt(np.einsum("ij,jk,ik->i", basis, covariance, basis))
        lit = (grid >= x[0]) & (grid <= x[-1])
        places = np.full(grid.size, o)
        error[o] = float(np.median((formal / start.wavelength(places, grid))[lit])) * 299_792_458.0
    return WaveMap(series, start.nx), error, scale


@dataclass(slots=True)
class _Fibre:
    """State of one fibre while the solution is found."""

    spectra: LampSpectra
    wave: WaveMap
    start: WaveMap
    hc: Lines
    fp: Lines
    numbering: Numbering
    offset_px: float
    error_ms: np.ndarray
    scale: np.ndarray
    shape: LineShape = field(default_factory=LineShape)


def _begin(name: str, spectra: LampSpectra, guess: WaveMap, cavity: Cavity, catalogue: Catalogue) -> _Fibre:
    import numpy as np

    try:
        start, offset = displaced_map(spectra.hc, spectra.hc_variance, guess, catalogue)
        found = find_comb(spectra.fp, spectra.fp_variance, cavity, start)
        fp, numbering = number_peaks(found, start, cavity)
    except DataError as error:
        raise DataError(f"fibre {name}: {error}") from error
    nothing = np.full(guess.norders, np.nan)
    lamp = predict_catalogue(catalogue, start, blends=False)
    return _Fibre(spectra, start, start, lamp, fp, numbering, offset, nothing, nothing)


def _measure(fibre: _Fibre, cavity: Cavity, catalogue: Catalogue) -> None:
    """Measure both lamps anew at the places the present solution predicts."""
    s = fibre.spectra
    predicted = predict_comb(cavity, fibre.wave, fibre.fp)
    fibre.fp, fibre.shape = measure_comb(s.fp, s.fp_variance, predicted, cavity, fibre.wave, NEAR_COMB)
    lamp = predict_catalogue(catalogue, fibre.wave, blends=False)
    fibre.hc = measure_lamp(s.hc, s.hc_variance, lamp, NEAR_LAMP, fibre.shape)


def _fit(fibre: _Fibre, cavity: Cavity) -> None:
    fibre.wave, fibre.error_ms, fibre.scale = fit_orders(fibre.fp, fibre.start, cavity)


def _anchors(fibres: Sequence[_Fibre]) -> Anchors:
    return merge([(f.hc, *residuals(f.hc, f.wave)) for f in fibres])


def solve_reference(
    spectra: Mapping[str, LampSpectra],
    guesses: Mapping[str, WaveMap],
    cavity: Cavity,
    catalogue: Catalogue,
    anchors: Sequence[str],
) -> Solution:
    """Solution of the reference night: the shape of the cavity is free.

    Parameters
    ----------
    spectra, guesses
        By fibre.  Guesses may be displaced by up to 20 px.
    cavity
        Starting cavity, right to 3e-4.
    anchors
        Fibres whose lamp lines determine the cavity.

    Raises
    ------
    DataError
        Lamps not recognised, peaks that cannot be numbered, too few lines.
    """
    import numpy as np

    fibres = {name: _begin(name, s, guesses[name], cavity, catalogue) for name, s in spectra.items()}
    tied = [fibres[name] for name in anchors]
    _agree(fibres)
    base = cavity.moved(float(np.median([f.numbering.cavity_ms for f in tied])))
    series = np.zeros(1)
    correction: Correction | None = None
    for step in range(PASSES):
        now = base.bent(series)
        for fibre in fibres.values():
            _fit(fibre, now)
            if step == 0:
                _measure(fibre, now, catalogue)
                _fit(fibre, now)
        found = _anchors(tied)
        # Against the base, not against the last step: the number of terms is judged on the whole correction.
        whole = np.polynomial.chebyshev.chebval(_place(now, found.wave), series) + found.velocity
        correction = fit_correction(Anchors(found.label, found.wave, whole, found.sigma), base)
        series = correction.series
    final = base.bent(series)
    for fibre in fibres.values():
        _fit(fibre, final)
    return _solution(fibres, tied, final, cavity, correction, None)


def solve_night(
    spectra: Mapping[str, LampSpectra],
    guesses: Mapping[str, WaveMap],
    cavity: Cavity,
    catalogue: Catalogue,
    anchors: Sequence[str],
    reference: Anchors | None,
) -> Solution:
    """Solution of a night: the cavity keeps its shape and changes its length by one factor.

    Parameters
    ----------
    guesses
        Maps of the reference night.
    cavity
        Cavity of the reference night.
    reference
        Lamp lines of the reference solution; see `mean_shift`.

    Raises
    ------
    DataError
        As `solve_reference`.
    """
    fibres = {name: _begin(name, s, guesses[name], cavity, catalogue) for name, s in spectra.items()}
    tied = [fibres[name] for name in anchors]
    _agree(fibres)
    now = cavity
    for step in range(PASSES):
        for fibre in fibres.values():
            _fit(fibre, now)
            if step == 0:
                _measure(fibre, now, catalogue)
                _fit(fibre, now)
        now = now.moved(mean_shift(_anchors(tied), reference).velocity)
    for fibre in fibres.values():
        _fit(fibre, now)
    return _solution(fibres, tied, now, cavity, None, reference)


def _place(cavity: Cavity, wave: np.ndarray) -> np.ndarray:
    from apero_dask.recipes.wave_cavity import place

    return place(cavity, wave)


def _agree(fibres: Mapping[str, _Fibre]) -> None:
    """All fibres see one etalon: cavities that differ by a quarter of a number cannot all be right.

    Raises
    ------
    DataError
        They differ.
    """
    cavities = {name: fibre.numbering.cavity_ms for name, fibre in fibres.items()}
    if max(cavities.values()) - min(cavities.values()) > 2000.0:
        listed = ", ".join(f"{name} {value:.0f}" for name, value in cavities.items())
        raise DataError(
            f"the fibres number the Fabry-Perot peaks differently: the cavity must change by {listed} m/s, "
            "expected the same to 2000 m/s. Look at the Fabry-Perot and hollow-cathode frames."
        )


def _solution(
    fibres: Mapping[str, _Fibre],
    tied: Sequence[_Fibre],
    cavity: Cavity,
    before: Cavity,
    correction: Correction | None,
    reference: Anchors | None,
) -> Solution:
    import numpy as np

    done = {}
    for name, f in fibres.items():
        velocity, sigma = residuals(f.hc, f.wave)
        done[name] = FibreSolution(
            f.wave, f.hc, f.fp, velocity, sigma, f.numbering, f.offset_px, f.error_ms, f.scale, f.shape
        )
    middle = np.array([0.5 * sum(cavity.domain)])
    return Solution(
        cavity=cavity,
        fibres=done,
        zero=mean_shift(_anchors(tied), reference),
        correction=correction,
        cavity_ms=float(cavity.velocity_from(before, middle)[0]),
    )
