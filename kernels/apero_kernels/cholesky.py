"""Damped normal equations of small least-squares problems.

Levenberg-Marquardt fits solve (matrix + damping diagonal) step = vector at every step (Marquardt 1963, J.
SIAM 11, 431); a few unknowns are done by Cholesky's decomposition in memory of the caller.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from apero_kernels._jit import kernel


def damped_solver(size: int, least: float) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Return the two kernels of a problem with `size` unknowns, a constant for the compiler.

    A pivot below `least` of its diagonal element is none: the unknown depends on those before it.

    Returns
    -------
    factorise : (matrix, damping, factor) -> bool
        Lower factor of `matrix`, of which the lower triangle is read, with its diagonal raised by `damping`;
        False if it is not positive definite.
    substitute : (factor, vector, out)
        Solution for one right side.
    """

    @kernel
    def factorise(matrix, damping, factor):
        for i in range(size):
            for j in range(i + 1):
                total = matrix[i, j]
                if i == j:
                    total += damping * matrix[i, i]
                for k in range(j):
                    total -= factor[i, k] * factor[j, k]
                if i == j:
                    if not total > least * matrix[i, i]:
                        return False
                    factor[i, i] = np.sqrt(total)
                else:
                    factor[i, j] = total / factor[j, j]
        return True

    @kernel
    def substitute(factor, vector, out):
        for i in range(size):
            total = vector[i]
            for k in range(i):
                total -= factor[i, k] * out[k]
            out[i] = total / factor[i, i]
        for i in range(size - 1, -1, -1):
            total = out[i]
            for k in range(i + 1, size):
                total -= factor[k, i] * out[k]
            out[i] = total / factor[i, i]

    return factorise, substitute
