"""Lines of extracted spectra: their table, the shape of the line spread, and the measurement of lamp lines.

Lamp lines and Fabry-Perot peaks (:mod:`apero_dask.recipes.wave_comb`) are fitted by a Gaussian core, so that
a centre means the same for both.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

    from apero_dask.recipes.wave_catalogue import Catalogue
    from apero_dask.recipes.wave_maps import WaveMap

EDGE = 20  # px at both ends of an order in which no line is used (reference)
HC_REACH = 5.0  # px, half window of a lamp line (reference)
HC_WIDTHS = (0.5, 2.0)  # px, standard deviations a lamp line may have (reference)
HC_SIGNIFICANCE = 10.0  # amplitude over its error
LINE_WIDTH = 1.0  # px, standard deviation assumed for blends
MOST_BIAS = 0.01  # px (23 m/s): a companion that moves a line by more spoils it
SKEW_DEGREE = 4  # total degree of the asymmetry of the lines over the detector
MOST_SHARE = 0.05  # of the flux of a line, from companions in its window


@dataclass(frozen=True, slots=True)
class Lines:
    """Lines of one kind in one fibre, a row per line and order; lines without a good fit have NaN."""

    order: np.ndarray
    """int64."""
    label: np.ndarray
    """int64: index in the catalogue, or peak number; -1 = not known."""
    wave_ref: np.ndarray
    """Vacuum nm of the catalogue or of the cavity; NaN = not known."""
    x_ref: np.ndarray
    """Predicted column."""
    x: np.ndarray
    """Measured column."""
    sigma: np.ndarray
    """Its standard deviation, px."""
    width: np.ndarray
    """Standard deviation of the fitted Gaussian, px."""
    amplitude: np.ndarray
    """e-."""
    snr: np.ndarray
    """Amplitude over its error."""

    @property
    def good(self) -> np.ndarray:
        """Rows with a measured centre."""
        import numpy as np

        return np.asarray(np.isfinite(self.x))

    def select(self, rows: np.ndarray) -> Lines:
        """Rows of a mask or an index array."""
        return Lines(*(getattr(self, name)[rows] for name in self.__slots__))

    def spoiled(self, rows: np.ndarray) -> Lines:
        """Rows of a mask turned into rows without measurement."""
        import numpy as np

        return replace(self, x=np.where(rows, np.nan, self.x), sigma=np.where(rows, np.nan, self.sigma))


@dataclass(frozen=True, slots=True)
class LineShape:
    """What the peaks tell about the shape of all lines of a fibre."""

    finesse: float = float("inf")
    """Of the etalon; infinite for Gaussian peaks."""
    skew: np.ndarray | None = None
    """Coefficients of the third Gauss-Hermite moment of the line spread over the detector, those of
    `surface_terms`; None = symmetric."""

    def skew_at(self, order: np.ndarray, x: np.ndarray, norders: int, nx: int) -> np.ndarray:
        """Third Gauss-Hermite moment at columns `x` of orders `order`."""
        import numpy as np

        if self.skew is None:
            return np.zeros(np.shape(x))
        return np.asarray(surface_terms(order, x, norders, nx) @ self.skew)


def surface_degrees() -> list[tuple[int, int]]:
    """Degrees along and across the orders of the terms of `surface_terms`, by total degree."""
    return [(k - j, j) for k in range(SKEW_DEGREE + 1) for j in range(k + 1)]


def surface_terms(order: np.ndarray, x: np.ndarray, norders: int, nx: int) -> np.ndarray:
    """Chebyshev products T_i(u) T_j(v), float64[place, term]: u along the orders and v across, -1 to 1."""
    import numpy as np
    from numpy.polynomial.chebyshev import chebvander

    along = chebvander(2.0 * np.nan_to_num(x) / nx - 1.0, SKEW_DEGREE)
    across = chebvander(2.0 * np.asarray(order) / max(norders - 1, 1) - 1.0, SKEW_DEGREE)
    return np.stack([along[:, i] * across[:, j] for i, j in surface_degrees()], axis=1)


def clean_catalogue_rows(x: np.ndarray, strength: np.ndarray) -> np.ndarray:
    """Lines of one order that no other line of the catalogue spoils, bool.

    Parameters
    ----------
    x : float64[line]
        Columns, rising.
    strength : float64[line]
        Relative fluxes.

    Notes
    -----
    A companion of relative flux r at distance d moves a least-squares centre by r d exp(-d^2 / 4 s^2) for
    Gaussians of width s (first order in r).
    """
    import numpy as np

    bias, share = np.zeros(x.size), np.zeros(x.size)
    for step in (*range(-6, 0), *range(1, 7)):
        low, high = max(0, -step), x.size - max(0, step)
        if high <= low:
            continue
        d = x[low + step : high + step] - x[low:high]
        r = strength[low + step : high + step] / strength[low:high]
        bias[low:high] += r * d * np.exp(-0.25 * (d / LINE_WIDTH) ** 2)
        outside = np.maximum(np.abs(d) - HC_REACH, 0.0)
        share[low:high] += r * np.exp(-0.5 * (outside / LINE_WIDTH) ** 2)
    return (np.abs(bias) < MOST_BIAS) & (share < MOST_SHARE)


def predict_catalogue(catalogue: Catalogue, wave: WaveMap, blends: bool = True) -> Lines:
    """Where the lines of the catalogue fall: rows without measurement, sorted by order and column.

    Parameters
    ----------
    blends
        Keep lines that others of the catalogue spoil.
    """
    import numpy as np

    every = np.arange(wave.norders)
    # Companions just beyond the ends count too.
    low = wave.wavelength(every, np.full(wave.norders, EDGE - 4 * HC_REACH))
    high = wave.wavelength(every, np.full(wave.norders, wave.nx - 1 - EDGE + 4 * HC_REACH))
    found = [
        np.flatnonzero((catalogue.wave > a) & (catalogue.wave < b)) for a, b in zip(low, high, strict=True)
    ]
    label = np.concatenate(found).astype(np.int64)
    order = np.repeat(every, [f.size for f in found]).astype(np.int64)
    x = wave.column(order, catalogue.wave[label])
    keep = (x > EDGE) & (x < wave.nx - 1 - EDGE)
    if not blends:
        for o in every:
            rows = np.flatnonzero(order == o)
            keep[rows] &= clean_catalogue_rows(x[rows], catalogue.strength[label[rows]])
    return blank(order[keep], label[keep], catalogue.wave[label[keep]], x[keep])


def blank(order: np.ndarray, label: np.ndarray, wave_ref: np.ndarray, x_ref: np.ndarray) -> Lines:
    """Rows that are not measured yet."""
    import numpy as np

    nothing = np.full(order.size, np.nan)
    return Lines(order, label, wave_ref, x_ref, nothing, nothing, nothing, nothing, nothing)


def measure_lamp(
    flux: np.ndarray, var: np.ndarray, lines: Lines, most_px: float, shape: LineShape | None = None
) -> Lines:
    """Fit lamp lines at their predicted columns.

    Parameters
    ----------
    flux, var : float64[order, x]
        Extracted spectrum (e-) and variance.
    most_px
        A line farther than this from its prediction is another one.
    shape
        Asymmetry of the lines, from the peaks; without it they are symmetric.

    Notes
    -----
    Gaussian (with the skew of the line spread) + constant + slope in +-5 px.  The slope takes up the smooth
    light beneath, not the blaze: that multiplies the line before it is spread and moves a narrow line by less
    than 1e-3 px.
    """
    import numpy as np
    from apero_kernels.lines import fit_lines

    skew = (shape or LineShape()).skew_at(lines.order, lines.x_ref, *flux.shape)
    reach = np.full(lines.order.size, HC_REACH)
    fit, errors, _, used = fit_lines(flux, lines.order, lines.x_ref, reach, var=var, skew=skew)
    with np.errstate(invalid="ignore", divide="ignore"):
        snr = fit[:, 0] / errors[:, 0]
        good = (used > 0) & (snr > HC_SIGNIFICANCE) & (errors[:, 1] > 0)
        good &= (fit[:, 2] > HC_WIDTHS[0]) & (fit[:, 2] < HC_WIDTHS[1])
        good &= np.abs(fit[:, 1] - lines.x_ref) < most_px

    def kept(values: np.ndarray) -> np.ndarray:
        return np.where(good, values, np.nan)

    return replace(
        lines,
        x=kept(fit[:, 1]),
        sigma=kept(errors[:, 1]),
        width=kept(fit[:, 2]),
        amplitude=kept(fit[:, 0]),
        snr=kept(snr),
    )
