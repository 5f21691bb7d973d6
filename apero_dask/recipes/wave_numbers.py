"""Gives every Fabry-Perot peak its number.

Inside an order the peaks are counted; which number the count starts at follows from all orders together.
Nothing needs neighbouring orders to overlap, and single peaks may be missing or false.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from apero_dask.core.errors import DataError
from apero_dask.recipes.wave_cavity import C_MS

if TYPE_CHECKING:
    import numpy as np

    from apero_dask.recipes.wave_cavity import Cavity
    from apero_dask.recipes.wave_lines import Lines
    from apero_dask.recipes.wave_maps import WaveMap

HALF = 20  # peaks on each side over which the fraction of the number is averaged
MOST_FRACTION = 0.25  # of a number: a peak farther from its neighbours' sequence is false
FEWEST = 15  # peaks of an order that can be counted
RANGE = 3e-4  # relative errors of the cavity that are tried, on both sides
STEP = 2e-7
TOLERANCE_MS = 2000.0  # an order that disagrees by more counts as if by so much
MOST_ERROR_MS = 800.0  # median disagreement of the orders at which the numbers are not to be trusted
LEAST_LEAD = 2.0  # the second best cavity must be so many times worse


@dataclass(frozen=True, slots=True)
class Numbering:
    """How the numbers were found."""

    cavity_ms: float
    """Velocity by which the cavity must grow so that all orders agree."""
    error_ms: float
    """Median disagreement of the orders that is left."""
    lead: float
    """Cost of the best cavity with other numbers, over that of the best."""
    orders: int
    """Orders that were counted."""


def number_peaks(lines: Lines, wave: WaveMap, cavity: Cavity) -> tuple[Lines, Numbering]:
    """Number the measured peaks.

    Parameters
    ----------
    lines
        Peaks sorted by order and column, not numbered.
    wave
        Map that is right to a small part of the distance of two peaks (from the lamp lines).
    cavity
        First guess, right to 3e-4 in length and to 1e-6 in shape.

    Returns
    -------
    lines
        With numbers; false peaks and orders that could not be counted are left without (-1).
    numbering

    Raises
    ------
    DataError
        Fewer than two orders could be counted, they do not agree, or another cavity explains them as well.

    Notes
    -----
    q = 2d(L)/L of a peak at wavelength L of the map is its number plus a fraction that changes slowly along
    the order.  The fraction is averaged on the circle over neighbouring peaks and unwrapped: rounding q minus
    the fraction counts correctly over gaps.  If the cavity is longer by 1 + e, the first number of order o is
    the integer next to q_o (1 + e), and what is left over is an error of wavelength.  The wrong e leaves
    errors of up to half a number in most orders, because N differs between orders by a factor of two: the e
    with the smallest sum over all orders is taken.
    """
    import numpy as np

    lam = wave.wavelength(lines.order, lines.x)
    with np.errstate(invalid="ignore"):
        q = cavity.number(lam)
    count = np.full(lines.order.size, -1, np.int64)
    fraction, middle, orders = [], [], []
    for o in range(wave.norders):
        rows = np.flatnonzero((lines.order == o) & np.isfinite(q))
        if rows.size < FEWEST:
            continue
        counted, offset, good = _count(q[rows])
        if np.count_nonzero(good) < FEWEST:
            continue
        count[rows[good]] = counted[good]
        orders.append(o)
        fraction.append(float(np.median(offset[good])))
        middle.append(float(np.median(q[rows][good])))
    if len(orders) < 2:
        raise DataError(
            f"the Fabry-Perot peaks of {len(orders)} order(s) could be counted, expected at least 2 of "
            f"{wave.norders}; look at the Fabry-Perot frames: is there light, and is it the comb?"
        )
    first, numbering = _first_numbers(np.array(fraction), np.array(middle))
    if numbering.error_ms > MOST_ERROR_MS or numbering.lead < LEAST_LEAD:
        raise DataError(
            f"the numbers of the Fabry-Perot peaks are not certain: {len(orders)} orders disagree by "
            f"{numbering.error_ms:.0f} m/s (expected below {MOST_ERROR_MS:.0f}), another cavity is "
            f"{numbering.lead:.1f} times worse (expected at least {LEAST_LEAD:.0f}). Check the lamp frames "
            "and the starting wavelength solution."
        )
    for o, start in zip(orders, first, strict=True):
        rows = (lines.order == o) & (count >= 0)
        count[rows] += start
    better = cavity.moved(numbering.cavity_ms)
    wave_ref = np.full(count.size, np.nan)
    wave_ref[count >= 0] = better.wavelength(count[count >= 0])
    return replace(lines, label=count, wave_ref=wave_ref), numbering


def _count(q: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Integers that follow `q` of one order, q minus them, and which peaks belong to the sequence."""
    import numpy as np

    circle = np.exp(2j * np.pi * q)
    total = np.concatenate([[0.0], np.cumsum(circle)])
    k = np.arange(q.size)
    low, high = np.maximum(k - HALF, 0), np.minimum(k + HALF + 1, q.size)
    smooth = np.unwrap(np.angle(total[high] - total[low])) / (2 * np.pi)
    counted = np.rint(q - smooth).astype(np.int64)
    offset = q - counted
    good = np.abs(offset - smooth) < MOST_FRACTION
    # Two peaks with one number: keep the one nearer to the sequence.
    miss = np.abs(offset - smooth)
    for i in np.flatnonzero(np.diff(counted) == 0):
        good[i if miss[i] > miss[i + 1] else i + 1] = False
    return counted, offset, good


def _first_numbers(fraction: np.ndarray, middle: np.ndarray) -> tuple[np.ndarray, Numbering]:
    """Integers to add to the counts of the orders, from the fractions left at middle numbers `middle`."""
    import numpy as np

    trial = np.arange(-RANGE, RANGE + 0.5 * STEP, STEP)
    left = fraction[None, :] + trial[:, None] * middle[None, :]
    left -= np.rint(left)
    cost = np.minimum((C_MS / middle * left / TOLERANCE_MS) ** 2, 1.0).sum(axis=1)
    best = int(np.argmin(cost))
    e = trial[best]
    whole = np.rint(fraction + e * middle)

    def error(e: float) -> np.ndarray:
        return np.asarray(C_MS / middle * (fraction + e * middle - whole))

    e -= float(np.median(error(e))) / C_MS
    others = np.abs(trial - e) > 0.25 / middle.max()
    numbering = Numbering(
        cavity_ms=C_MS * e,
        error_ms=float(np.median(np.abs(error(e)))),
        lead=float(cost[others].min() / max(cost[best], 0.05)),
        orders=middle.size,
    )
    return whole.astype(np.int64), numbering
