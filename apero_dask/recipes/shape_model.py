"""Model of the displacement along x inside the slit images, and its robust fit.

dx(h; fibre, order, x) = tilt(order, x) h + slices(h / height) + offset(fibre, order, x)

with the height h above the trace.  The tilt is a smooth surface over orders and columns; the offsets of the
slices are one curve for all orders and fibres, changing linearly with the order; only the offset of a fibre,
a difference of wavelengths, is free in every order.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

TILT_DEGREES = (3, 3)  # along x and across the orders
OFFSET_DEGREE = 3  # of the offset of a fibre along an order
NODES = tuple(0.5 * k for k in range(-18, 19))  # px, heights at which the offsets of the slices are tabulated
UNIT_HEIGHT = 14.0  # px, lit height to which these heights refer
CUT = 4.0  # sigma
REWEIGHTS = 4
OFFSET_PRIOR = 1.0  # px, expected size of the terms of an offset: what a dark end of an order leaves open


@dataclass(frozen=True, slots=True, eq=False)
class SlitModel:
    """Parameters of the displacement along x."""

    tilt: np.ndarray
    """float64[TILT_DEGREES + 1]: Chebyshev coefficients along x and across the orders, px per px."""
    slices: np.ndarray
    """float64[2, node]: offsets at `NODES`, constant and growing with the order, px."""
    offsets: np.ndarray
    """float64[fibre, order, OFFSET_DEGREE + 1]: Chebyshev series along x, px."""

    def at(
        self, fibre: np.ndarray, order: np.ndarray, u: np.ndarray, h: np.ndarray, unit: np.ndarray
    ) -> np.ndarray:
        """Displacement in px.

        Parameters
        ----------
        fibre, order : int[...]
        u : float64[...]
            Column, -1 to 1 over the order.
        h : float64[...]
            Height above the trace, px.
        unit : float64[...]
            h times 14 over the lit height.
        """
        import numpy as np

        red = self.redness(order)
        cheb = np.polynomial.chebyshev
        found: np.ndarray = self.tilt_at(u, order) * h
        found += np.interp(unit, NODES, self.slices[0]) + red * np.interp(unit, NODES, self.slices[1])
        terms = np.moveaxis(self.offsets[fibre, order], -1, 0)
        found += cheb.chebval(u, terms, tensor=False)
        return found

    def tilt_at(self, u: np.ndarray, order: np.ndarray) -> np.ndarray:
        """Tilt at columns `u` (-1 to 1) of orders, px along x per px of height."""
        import numpy as np

        found: np.ndarray = np.polynomial.chebyshev.chebval2d(u, self.redness(order), self.tilt)
        return found

    def slices_at(self, unit: np.ndarray, order: int) -> np.ndarray:
        """Offset of the slices at heights `unit` (for a lit height of 14 px) in one order, px."""
        import numpy as np

        curve = self.slices[0] + float(self.redness(np.array(order))) * self.slices[1]
        return np.asarray(np.interp(unit, NODES, curve))

    def redness(self, order: np.ndarray) -> np.ndarray:
        """Place of an order among all, -1 to 1."""
        import numpy as np

        last = self.offsets.shape[1] - 1
        return 2.0 * np.asarray(order, np.float64) / last - 1.0 if last else np.zeros(np.shape(order))


def fit_model(
    model: SlitModel,
    points: tuple[np.ndarray, ...],
    values: np.ndarray,
    error: np.ndarray,
    use: np.ndarray,
    tilt_only: bool,
) -> SlitModel:
    """Robust least squares; the offsets of the fibres are eliminated group by group.

    Notes
    -----
    Projecting the offsets of each (fibre, order) out of data and design leaves a problem of a hundred
    unknowns for any number of orders (Frisch & Waugh 1933, Econometrica 1, 387).
    """
    import numpy as np

    fibre, order, u, height, unit = (p[use] for p in points[:5])
    y, sigma = values[use], error[use]
    red = model.redness(order)
    cheb = np.polynomial.chebyshev
    terms = (model.tilt.shape[0] - 1, model.tilt.shape[1] - 1)
    design = cheb.chebvander2d(u, red, terms) * height[:, None]
    if not tilt_only:
        hats = _hats(unit)
        design = np.concatenate([design, hats, red[:, None] * hats], axis=1)
    offset = cheb.chebvander(u, model.offsets.shape[2] - 1)
    group = fibre * model.offsets.shape[1] + order
    prior = np.eye(offset.shape[1]) / OFFSET_PRIOR
    arranged = np.argsort(group, kind="stable")
    ends = np.concatenate([[0], np.flatnonzero(np.diff(group[arranged])) + 1, [group.size]])
    weight = np.ones(y.size)
    k_bad = float(np.exp(-0.5 * CUT**2))
    solution, offsets = np.zeros(design.shape[1]), model.offsets.copy()
    known = np.ones(design.shape[1], bool)
    for _ in range(REWEIGHTS):
        root = np.sqrt(weight) / sigma
        matrix, vector = np.zeros((design.shape[1],) * 2), np.zeros(design.shape[1])
        parts = []
        for a, b in itertools.pairwise(ends):
            own = arranged[a:b]
            q, r = np.linalg.qr(np.concatenate([offset[own] * root[own, None], prior]))
            top = q[: own.size]
            full = design[own] * root[own, None]
            data = y[own] * root[own]
            # Without what the offsets can take up: the product of the projected design with itself.
            taken = top.T @ full
            matrix += full.T @ full - taken.T @ taken
            vector += full.T @ data - taken.T @ (top.T @ data)
            parts.append((own, top, r))
        # Tilt and slices share a straight line, slices and offsets a constant: both belong to the former.
        if not tilt_only:
            matrix += _without_line(matrix, terms_of_tilt=model.tilt.size)
        known = np.diag(matrix) > 1e-9 * np.max(np.diag(matrix))
        scale = np.sqrt(np.diag(matrix)[known])
        solution[~known] = 0.0
        solution[known] = (
            np.linalg.lstsq(
                matrix[np.ix_(known, known)] / np.outer(scale, scale), vector[known] / scale, rcond=1e-9
            )[0]
            / scale
        )
        left = y - design @ solution
        for own, top, r in parts:
            series = np.linalg.solve(r, top.T @ (left[own] * root[own]))
            offsets[fibre[own[0]], order[own[0]]] = series
            left[own] -= offset[own] @ series
        z = left / sigma
        spread = 1.4826 * float(np.median(np.abs(z)))
        good = (1.0 - k_bad) * np.exp(-0.5 * (z / max(spread, 1e-300)) ** 2)
        weight = np.maximum(good / (k_bad + good), 1e-12)
    size = model.tilt.size
    if tilt_only:
        return SlitModel(solution[:size].reshape(model.tilt.shape), model.slices, offsets)
    # Heights that no row has: as at the nearest height that was measured.
    measured = known[size : size + len(NODES)]
    slices = np.stack(
        [
            np.interp(NODES, np.array(NODES)[measured], part[measured])
            for part in solution[size:].reshape(2, -1)
        ]
    )
    return SlitModel(solution[:size].reshape(model.tilt.shape), slices, offsets)


def _without_line(matrix: np.ndarray, terms_of_tilt: int) -> np.ndarray:
    """Equations that the offsets of the slices hold no constant and no straight line in height."""
    import numpy as np

    extra, count = np.zeros_like(matrix), len(NODES)
    for first in (terms_of_tilt, terms_of_tilt + count):
        part = slice(first, first + count)
        weight = np.diag(matrix)[part]
        for line in (np.ones(count), np.array(NODES)):
            row = weight * line
            norm = float(row @ row)
            if norm > 0:
                # As strong as all the data on one node.
                extra[part, part] += np.outer(row, row) * (weight.max() / norm)
    return extra


def _hats(unit: np.ndarray) -> np.ndarray:
    """Linear interpolation between `NODES` as a matrix [point, node], constant beyond the ends."""
    import numpy as np

    step = NODES[1] - NODES[0]
    place = np.clip((unit - NODES[0]) / step, 0.0, len(NODES) - 1.0)
    k = np.minimum(place.astype(np.int64), len(NODES) - 2)
    out = np.zeros((unit.size, len(NODES)))
    lines = np.arange(unit.size)
    out[lines, k] = 1.0 - (place - k)
    out[lines, k + 1] = place - k
    return out
