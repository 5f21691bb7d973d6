"""Light of the reference fibre that arrives in the science fibres, as a function of the reference spectrum.

The leak follows the comb of the frame itself: per order a fraction of the spectrum of the reference fibre,
which may change along the order and may lie displaced by part of a pixel.  These few numbers are measured on
frames whose science fibres are dark; a template of pixels would add its own noise to every spectrum.  Heavy
imports happen inside the functions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from apero_dask.core.errors import DataError
from apero_dask.recipes.context import RecipeContext

if TYPE_CHECKING:
    import numpy as np

    from apero_dask.io.fitswriter import Table

SMOOTH_WIDTH = 15.0
"""px; light smoother than a Gaussian of this half width at 1/e is no comb; reference pipeline."""
SMOOTH_REACH = 45
"""px; where that Gaussian ends."""
MOST_SHIFT = 6
"""px; largest displacement of the leaked comb in the straightened frame that is looked for."""
SIGNIFICANT = 3.0
"""Sigma below which the fraction is taken as constant along an order and the comb as not displaced."""
OUTLIER = 5.0
"""Pixels off the model by more sigma lose their weight (hits that the extraction missed)."""
KERNEL_TABLE = "KERNEL"
TERMS = ("FRACTION", "SLOPE", "SHIFT")


@dataclass(frozen=True, slots=True)
class LeakKernel:
    """How the spectrum of the reference fibre appears in a science fibre."""

    displacement: int
    """Whole pixels."""
    terms: np.ndarray
    """float64[order, 3]: fraction, its change from mid-order to the end, shift in px times fraction."""
    errors: np.ndarray
    """float64[order, 3]."""

    def light(self, comb: np.ndarray) -> np.ndarray:
        """Leaked light, float64[order, x], for a reference spectrum without holes."""
        import numpy as np

        out = np.zeros(comb.shape)
        for o in range(comb.shape[0]):
            if self.terms[o].any():
                out[o] = _basis(comb[o], self.displacement) @ self.terms[o]
        return out


def without_holes(spectrum: np.ndarray) -> np.ndarray:
    """Orders with holes filled by straight lines; 0 for an order without values."""
    import numpy as np

    out = np.zeros(spectrum.shape)
    x = np.arange(spectrum.shape[1])
    for o, row in enumerate(spectrum):
        good = np.isfinite(row)
        if good.any():
            out[o] = np.interp(x, x[good], row[good])
    return out


def _basis(comb: np.ndarray, displacement: int) -> np.ndarray:
    """Comb, comb times place along the order, minus its derivative, float64[x, 3]."""
    import numpy as np

    moved = _moved(comb, displacement)
    place = 2.0 * np.arange(comb.size) / max(comb.size - 1, 1) - 1.0
    return np.stack([moved, moved * place, -np.gradient(moved)], axis=1)


def _moved(comb: np.ndarray, displacement: int) -> np.ndarray:
    import numpy as np

    moved: np.ndarray = comb[np.clip(np.arange(comb.size) - displacement, 0, comb.size - 1)]
    return moved


def line_part(values: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """What is narrower than the smoothing: values minus their weighted Gaussian mean, along the last axis.

    Linear in the values, so that a spectrum and a fraction of it stay in proportion.

    Parameters
    ----------
    values : float64[..., x]
        Any number where the weight is 0.
    weight : float64[x]
        0 = not valid.
    """
    import numpy as np
    from scipy.ndimage import convolve1d

    offset = np.arange(-SMOOTH_REACH, SMOOTH_REACH + 1)
    kernel = np.exp(-np.square(offset / SMOOTH_WIDTH))
    total = convolve1d(weight, kernel, mode="constant")
    mean = convolve1d(np.where(weight > 0.0, values, 0.0) * weight, kernel, axis=-1, mode="constant")
    return np.where(weight > 0.0, values - mean / np.maximum(total, 1e-12), 0.0)


def fit_leak(
    flux: Sequence[np.ndarray],
    variance: Sequence[np.ndarray],
    combs: Sequence[np.ndarray],
    echelle: Sequence[int],
) -> LeakKernel:
    """Measure the leak on frames whose science fibre is dark.

    Parameters
    ----------
    flux, variance : sequence of float64[order, x]
        Science fibre of every frame and its variance.
    combs : sequence of float64[order, x]
        Reference fibre of every frame, without holes.
    echelle : sequence of int
        Echelle numbers of the orders.

    Notes
    -----
    Least squares of the line-structured part of the flux on that of the comb, with the errors of the flux:
    the comb is brighter by orders of magnitude and its own noise does not matter.  All frames together.
    Slope and shift below SIGNIFICANT sigma are left out; the fractions of the orders help each other
    (`join_orders`).
    """
    import numpy as np

    from apero_dask.recipes.leak_orders import join_orders

    displacement = _displacement(flux, variance, combs)
    orders = flux[0].shape[0]
    terms, errors = np.zeros((orders, len(TERMS))), np.full((orders, len(TERMS)), np.inf)
    for o in range(orders):
        parts = []
        for f, v, c in zip(flux, variance, combs, strict=True):
            good = np.isfinite(f[o]) & (v[o] > 0.0)
            if np.count_nonzero(good) < 4 * SMOOTH_REACH:
                continue
            one = good.astype(float)
            design = line_part(_basis(c[o], displacement).T, one).T
            parts.append((design[good], line_part(np.where(good, f[o], 0.0), one)[good], v[o][good]))
        if not parts:
            continue
        a, d, v = (np.concatenate(column) for column in zip(*parts, strict=True))
        used = list(range(len(TERMS)))
        solution, error = _solve(a, d, v)
        while len(used) > 1:
            ratio = np.abs(solution[1:]) / error[1:]
            weakest = 1 + int(np.argmin(ratio))
            if ratio[weakest - 1] >= SIGNIFICANT:
                break
            del used[weakest]
            solution, error = _solve(a[:, used], d, v)
        terms[o, used], errors[o, used] = solution, error
    terms[:, 0], errors[:, 0] = join_orders(terms[:, 0], errors[:, 0], echelle)
    terms[terms[:, 0] <= 0.0] = 0.0  # no leak, no correction
    return LeakKernel(displacement, terms, errors)


def _solve(a: np.ndarray, d: np.ndarray, v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    import numpy as np

    weight = 1.0 / v
    for _ in range(4):
        matrix = a.T @ (a * weight[:, None])
        matrix[np.diag_indices(a.shape[1])] *= 1.0 + 1e-12
        inverse = np.linalg.pinv(matrix)
        solution = inverse @ (a.T @ (weight * d))
        weight = np.where(np.square(d - a @ solution) < OUTLIER**2 * v, 1.0 / v, 0.0)
    return solution, np.maximum(np.sqrt(np.maximum(np.diag(inverse), 0.0)), 1e-300)


def _displacement(
    flux: Sequence[np.ndarray], variance: Sequence[np.ndarray], combs: Sequence[np.ndarray]
) -> int:
    """Whole pixels by which the leaked comb follows the reference best, all orders together."""
    import numpy as np

    gain = np.zeros(2 * MOST_SHIFT + 1)
    for f, v, c in zip(flux, variance, combs, strict=True):
        for o in range(f.shape[0]):
            good = np.isfinite(f[o]) & (v[o] > 0.0)
            if np.count_nonzero(good) < 4 * SMOOTH_REACH:
                continue
            one = good.astype(float)
            d = line_part(np.where(good, f[o], 0.0), one)[good]
            w = 1.0 / v[o][good]
            shifted = line_part(np.stack([_moved(c[o], k - MOST_SHIFT) for k in range(gain.size)]), one)
            for k, moved in enumerate(shifted[:, good]):
                power = (w * moved * moved).sum()
                # Reduction of chi-square by a comb of positive amplitude.
                gain[k] += max((w * moved * d).sum(), 0.0) ** 2 / power if power > 0.0 else 0.0
    return int(np.argmax(gain)) - MOST_SHIFT if gain.any() else 0


def kernel_table(kernel: LeakKernel, echelle: Sequence[int]) -> Table:
    """Table of a leak."""
    import numpy as np

    from apero_dask.io.fitswriter import Table

    columns: dict[str, Any] = {
        "ORDER": np.arange(kernel.terms.shape[0]),
        "ECHELLE": np.asarray(echelle, np.int64),
        "DISPLACEMENT": np.full(kernel.terms.shape[0], kernel.displacement),
    }
    for k, name in enumerate(TERMS):
        columns[name] = kernel.terms[:, k]
        columns[f"{name}_ERR"] = np.where(np.isfinite(kernel.errors[:, k]), kernel.errors[:, k], np.nan)
    return Table(KERNEL_TABLE, columns, units={"DISPLACEMENT": "pix", "SHIFT": "pix", "SHIFT_ERR": "pix"})


def leak_kernel(ctx: RecipeContext, fibre: str) -> tuple[LeakKernel, str]:
    """Leak into a science fibre from the calibration chosen for the run, and its kind: LEAKM or LEAK0.

    Raises
    ------
    DataError
        A table that does not fit the instrument.
    """
    import numpy as np

    chosen = ctx.calibration("LEAKM", fibre)
    i = ctx.instrument
    if chosen is None or chosen.path is None:
        # Shipped default: the fraction of every order alone.
        rows = {int(row["echelle"]): row for row in i.table("orders")}
        column = f"leak_{fibre.lower()}_over_c"
        fraction = np.array([max(float(rows[m][column]), 0.0) for m in i.echelle])
        terms = np.zeros((i.norders, len(TERMS)))
        terms[:, 0] = fraction
        return LeakKernel(0, terms, np.full(terms.shape, np.nan)), "LEAK0"
    table = ctx.calibration_table("LEAKM", KERNEL_TABLE, fibre)
    assert table is not None
    if len(table["ORDER"]) != i.norders:
        raise DataError(
            f"{chosen.path}: {KERNEL_TABLE} holds {len(table['ORDER'])} orders, expected {i.norders}; make "
            "the leak reference again."
        )
    terms = np.stack([np.asarray(table[name], float) for name in TERMS], axis=1)
    errors = np.stack([np.asarray(table[f"{name}_ERR"], float) for name in TERMS], axis=1)
    if not np.isfinite(terms).all():
        raise DataError(f"{chosen.path}: {KERNEL_TABLE} holds terms that are not finite; make it again.")
    return LeakKernel(int(table["DISPLACEMENT"][0]), terms, errors), chosen.kind
