"""One small linear problem per pixel over a stack of spectra."""

from __future__ import annotations

import numpy as np

from apero_kernels._jit import kernel
from apero_kernels.contracts import check_float, check_output, check_positive

TERMS = 3


@kernel
def _solve_three(a, b, out):
    # Cholesky of a symmetric positive matrix in its lower triangle; a is overwritten.
    for i in range(3):
        for j in range(i + 1):
            total = a[i, j]
            for k in range(j):
                total -= a[i, k] * a[j, k]
            if i == j:
                if not total > 0.0:
                    return False
                a[i, i] = np.sqrt(total)
            else:
                a[i, j] = total / a[j, j]
    for i in range(3):
        total = b[i]
        for k in range(i):
            total -= a[i, k] * out[k]
        out[i] = total / a[i, i]
    for m in range(3):
        i = 2 - m
        total = out[i]
        for k in range(i + 1, 3):
            total -= a[k, i] * out[k]
        out[i] = total / a[i, i]
    return True


@kernel
def _fit_stack(values, variances, design, prior, cut, fewest, out, used):
    files, pixels = values.shape
    matrix = np.empty((3, 3))
    right = np.empty(3)
    terms = np.zeros(3)
    kept = np.empty(files, np.bool_)
    for x in range(pixels):
        n = 0
        for i in range(files):
            good = values[i, x] == values[i, x] and variances[i, x] > 0.0
            kept[i] = good
            if good:
                n += 1
        known = prior[0, x] >= 0.0 and prior[1, x] >= 0.0 and prior[2, x] >= 0.0
        solved = False
        while n >= fewest and n > 0 and known:
            for r in range(3):
                right[r] = 0.0
                for c in range(3):
                    matrix[r, c] = 0.0
                # A prior of zero width switches the term off.
                matrix[r, r] = 1.0
            for i in range(files):
                if kept[i]:
                    weight = 1.0 / variances[i, x]
                    for r in range(3):
                        scaled = weight * design[i, r] * prior[r, x]
                        right[r] += scaled * values[i, x]
                        for c in range(r + 1):
                            matrix[r, c] += scaled * design[i, c] * prior[c, x]
            solved = _solve_three(matrix, right, terms)
            if not solved:
                break
            worst = cut
            which = -1
            for i in range(files):
                if kept[i]:
                    model = 0.0
                    for r in range(3):
                        model += design[i, r] * prior[r, x] * terms[r]
                    off = abs(values[i, x] - model) / np.sqrt(variances[i, x])
                    if off > worst:
                        worst = off
                        which = i
            if which < 0 or n - 1 < fewest:
                break
            kept[which] = False
            n -= 1
        for r in range(3):
            out[r, x] = prior[r, x] * terms[r] if solved else np.nan
        used[x] = n if solved else 0


def fit_stack(
    values: np.ndarray,
    variances: np.ndarray,
    design: np.ndarray,
    prior: np.ndarray,
    cut: float,
    fewest: int,
    out: np.ndarray,
    used: np.ndarray,
) -> None:
    """Fit three terms to the values of every pixel over files, with a Gaussian prior around zero on each.

    Parameters
    ----------
    values, variances : float64[file, pixel]
        NaN or a variance not above 0 = no datum.
    design : float64[file, 3]
        Regressors.
    prior : float64[3, pixel]
        Standard deviation of each term; 0 switches it off, NaN leaves the pixel without a fit.
    cut : float
        The worst datum beyond so many sigma is left out and the rest fitted again.
    fewest : int
        Data below which nothing is left out any more, and without which there is no fit.
    out : float64[3, pixel]
        Terms; NaN without a fit.
    used : int64[pixel]
        Data of the last fit.

    Raises
    ------
    TypeError, ValueError
        Wrong dtype or shape, `cut` not above 0.

    Notes
    -----
    Posterior mean of a linear model with Gaussian errors (ridge regression, Hoerl & Kennard 1970,
    Technometrics 12, 55, with a width per term and pixel).
    """
    check_float("values", values, 2)
    files, pixels = values.shape
    check_float("variances", variances, 2, values.shape)
    check_float("design", design, 2, (files, TERMS))
    check_float("prior", prior, 2, (TERMS, pixels))
    check_positive("cut", cut)
    check_output("out", out, (TERMS, pixels))
    check_output("used", used, (pixels,), np.int64)
    _fit_stack(values, variances, design, prior, float(cut), int(fewest), out, used)
