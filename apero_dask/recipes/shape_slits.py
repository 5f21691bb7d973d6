"""Where the slit images of all fibres lie, and the map that makes the orders horizontal.

The localisation of the master night knows the science fibres.  The reference fibre lies below them, as far
below the lower one as the upper one is above it; what is left of that guess is measured on a Fabry-Perot
image, which lights all fibres.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np


from apero_dask.core.errors import DataError

EDGE = 1.0  # px beyond the lit height in which the slit image still moves as one piece
SECTIONS = 16  # along an order, in which the reference fibre is looked for
REFERENCE_DEGREE = 2  # of its displacement along an order
PASSES = 3
FARTHEST = 3.0  # px, largest correction of its place


@dataclass(frozen=True, slots=True, eq=False)
class Slits:
    """Slit images of an instrument in one frame; fibres from the lowest to the highest."""

    fibres: tuple[str, ...]
    centres: np.ndarray
    """float64[fibre, order, degree + 1]: Chebyshev series of the trace on [0, nx], px."""
    heights: np.ndarray
    """float64[fibre, order, x]: lit height, px."""
    nx: int
    ny: int

    @property
    def positions(self) -> np.ndarray:
        """float64[fibre, order, x]: row of the trace."""
        return _values(self.centres, self.nx)

    @property
    def rows(self) -> np.ndarray:
        """float64[fibre, order]: row of the trace in the middle column, where it stays when straightened."""
        return self.positions[:, :, self.nx // 2]


def slits_of(
    fibres: Sequence[str], centres: Sequence[np.ndarray], heights: Sequence[np.ndarray], nx: int, ny: int
) -> Slits:
    """Slit images from the traces of two science fibres, the reference fibre as their mirror image.

    Parameters
    ----------
    fibres
        Reference, lower and upper science fibre.
    centres, heights
        float64[order, term] and float64[order, x] of the lower and the upper science fibre.

    Raises
    ------
    DataError
        The orders are not in the order of their rows.
    """
    import numpy as np

    lower, upper = centres
    slits = Slits(
        tuple(fibres),
        np.stack([2.0 * lower - upper, lower, upper]),
        np.stack([heights[0], heights[0], heights[1]]),
        nx,
        ny,
    )
    order = slits.rows.T.ravel()
    if not (np.diff(order) > 0).all():
        worst = int(np.argmin(np.diff(order))) // 3
        raise DataError(
            f"traces: order {worst} is not below order {worst + 1} with all fibres; the localisation is "
            "wrong, make it again."
        )
    return slits


def straightening_map(slits: Slits) -> np.ndarray:
    """Displacement across the dispersion that makes every trace horizontal, float32[y, x].

    Notes
    -----
    Inside an order it is linear in y between the fibres and on to the ends of the slit image; in the gap
    between two orders it is linear from one to the other.  A polynomial in y over all orders (reference
    pipeline) leaves traces off by tenths of a pixel: they are not smooth from order to order.
    """
    import numpy as np

    nx, middle = slits.nx, slits.nx // 2
    x = np.arange(nx, dtype=np.float64)
    basis = np.polynomial.chebyshev.chebvander(2.0 * x / nx - 1.0, slits.centres.shape[2] - 1)
    basis -= basis[middle]
    rows = slits.rows
    ends = 0.5 * slits.heights[[0, -1], :, middle] + EDGE
    places: list[float] = []
    series: list[np.ndarray] = []
    for o in range(rows.shape[1]):
        first = _extended(rows[:, o], slits.centres[:, o], 0, 1, -ends[0, o])
        last = _extended(rows[:, o], slits.centres[:, o], -1, -2, ends[1, o])
        # Slit images of neighbouring orders may touch: then the gap has no room of its own.
        if places and first[0] <= places[-1]:
            first = (0.5 * (places[-1] + rows[0, o]), 0.5 * (series[-1] + slits.centres[0, o]))
        places += [first[0], *rows[:, o], last[0]]
        series += [first[1], *slits.centres[:, o], last[1]]
    y = np.arange(slits.ny, dtype=np.float64)
    node, table = np.array(places), np.array(series)
    rising = np.concatenate([[True], np.diff(node) > 0])
    smooth = np.stack([np.interp(y, node[rising], column[rising]) for column in table.T], axis=1)
    return (smooth @ basis.T).astype(np.float32)


def place_reference_fibre(slits: Slits, image: np.ndarray) -> Slits:
    """Slit images with the reference fibre where a Fabry-Perot image shows it.

    Parameters
    ----------
    image : float32[y, x]
        All fibres lit; NaN = no information.

    Notes
    -----
    Cross sections of the reference fibre are fitted by those of the lower science fibre (amplitude, constant,
    shift) in sections along the order; the shifts by a parabola, weighted with the square of the light.
    """
    import numpy as np
    from apero_kernels.resample import IDENTITY, resample

    nx, middle = slits.nx, slits.nx // 2
    edges = np.linspace(0, nx, SECTIONS + 1).astype(int)
    places = 0.5 * (edges[1:] + edges[:-1])
    u = 2.0 * places / nx - 1.0
    correction = np.zeros((slits.centres.shape[1], REFERENCE_DEGREE + 1))
    straight = np.empty((slits.ny, nx), np.float32)
    current = slits
    for _ in range(PASSES):
        resample(image, IDENTITY, straight, dymap=straightening_map(current))
        binned = np.stack(
            [np.nanmean(_finite(straight[:, a:b]), axis=1) for a, b in itertools.pairwise(edges)],
            axis=1,
        )
        rows = current.rows
        for o in range(correction.shape[0]):
            half = 0.5 * float(slits.heights[0, o, middle]) + EDGE
            height = np.arange(-np.floor(half), np.floor(half) + 1)
            sections = [_sampled(binned, rows[f, o] + height) for f in (0, 1)]
            shift, light = _profile_shift(*sections)
            good = np.isfinite(shift) & (light > 0)
            if np.count_nonzero(good) > REFERENCE_DEGREE + 1:
                root = light[good]
                series = np.polynomial.chebyshev.chebfit(u[good], shift[good], REFERENCE_DEGREE, w=root)
                correction[o] += series
        if np.abs(correction).max() > FARTHEST:
            raise DataError(
                f"fibre {slits.fibres[0]} is {np.abs(correction).max():.1f} px from where the traces of "
                f"{slits.fibres[1]} and {slits.fibres[2]} put it; look at the localisation and the FP frames."
            )
        centres = slits.centres.copy()
        centres[0, :, : REFERENCE_DEGREE + 1] += correction
        current = Slits(slits.fibres, centres, slits.heights, nx, slits.ny)
    return current


def _finite(values: np.ndarray) -> np.ndarray:
    """Values with 0 in rows that hold none, so that their mean is defined."""
    import numpy as np

    empty = ~np.isfinite(values).any(axis=1)
    return np.where(empty[:, None], np.float32(0), values)


def _sampled(binned: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Values [row, section] at fractional rows, linear; NaN outside."""
    import numpy as np

    y = np.arange(binned.shape[0])
    return np.stack([np.interp(rows, y, column, left=np.nan, right=np.nan) for column in binned.T], axis=1)


def _profile_shift(reference: np.ndarray, science: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Displacement of cross sections [row, section] of one fibre against another, and their light."""
    import numpy as np

    slope = np.gradient(science, axis=0)
    shift, light = np.full(reference.shape[1], np.nan), np.zeros(reference.shape[1])
    for s in range(reference.shape[1]):
        design = np.stack([science[:, s], np.ones(len(science)), slope[:, s]], axis=1)
        if not (np.isfinite(design).all() and np.isfinite(reference[:, s]).all()):
            continue
        (height, _, moved), _, rank, _ = np.linalg.lstsq(design, reference[:, s], rcond=None)
        if rank == 3 and height > 0:
            # reference(y) = science(y - shift)
            shift[s] = float(np.clip(-moved / height, -1.0, 1.0))
            light[s] = max(float(reference[:, s].max() - reference[:, s].min()), 0.0)
    return shift, light


def _extended(
    rows: np.ndarray, centres: np.ndarray, near: int, far: int, distance: float
) -> tuple[float, np.ndarray]:
    """Row and series of the end of a slit image, on the line through two fibres."""
    share = distance / (rows[near] - rows[far])
    return float(rows[near] + distance), centres[near] + share * (centres[near] - centres[far])


def _values(series: np.ndarray, nx: int) -> np.ndarray:
    import numpy as np

    found: np.ndarray = np.polynomial.chebyshev.chebval(
        2.0 * np.arange(nx) / nx - 1.0, np.moveaxis(series, -1, 0)
    )
    return found
