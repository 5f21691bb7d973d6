"""Finds the lit traces of a flat and tells which order and fibre each one is.

The light decides where traces are; the packaged table only says how they follow one another.  The table may
be several pixels off: a common displacement is looked for first, then a smooth one over the frame.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

    from apero_dask.instruments import Instrument

SAMPLES = 64  # columns in which traces are looked for
SMOOTHING = 0.22  # of the lit height: standard deviation of the filter that makes one peak of a slit image
FAINTEST = 0.02  # of the brightest trace near it; leaking light of other fibres is ten times below
SIGNIFICANCE = 8.0  # sigma of a peak
SEARCH = 0.45  # of the smallest distance of two orders: largest displacement looked for
STEPS = ((1, 5.0), (2, 3.0), (3, 2.0), (3, 1.5))  # total degree of the displacement, px a peak may be off
FEWEST = 0.15  # of the samples in which a trace must be seen


@dataclass(frozen=True, slots=True)
class Guess:
    """Traces expected in a frame, sorted by their row."""

    fibres: tuple[str, ...]
    orders: tuple[int, ...]
    positions: np.ndarray
    """float64[trace, x]."""
    heights: np.ndarray
    """float64[trace, x]: lit height."""
    seen: np.ndarray
    """bool[trace]: whether it was found; of traces that were not, the position is what the others suggest."""
    displacement: tuple[float, float]
    """Median displacement from the table (px), and rms of the peaks about the smooth one."""


def table_traces(instrument: Instrument, fibres: str) -> Guess:
    """Traces of the packaged table, for the fibres named (AB: both)."""
    import numpy as np

    index = {m: o for o, m in enumerate(instrument.echelle)}
    rows = [
        (row["fibre"], index[int(row["echelle"])], row)
        for row in instrument.table("trace")
        if row["fibre"] in fibres and int(row["echelle"]) in index
    ]
    t = 2.0 * np.arange(instrument.nx) / instrument.nx - 1.0

    def series(row: dict[str, str], letter: str) -> np.ndarray:
        names = sorted(name for name in row if name[0] == letter and name[1:].removesuffix("_px").isdigit())
        return np.polynomial.chebyshev.chebval(t, [float(row[name]) for name in names])

    positions = np.array([series(row, "y") for _, _, row in rows])
    heights = np.array([series(row, "w") for _, _, row in rows])
    rank = np.argsort(positions[:, instrument.nx // 2])
    return Guess(
        fibres=tuple(rows[k][0] for k in rank),
        orders=tuple(rows[k][1] for k in rank),
        positions=positions[rank],
        heights=heights[rank],
        seen=np.zeros(len(rows), bool),
        displacement=(0.0, float("nan")),
    )


def find_traces(profile: np.ndarray, noise: float, table: Guess) -> Guess:
    """Traces of a frame.

    Parameters
    ----------
    profile : float32[y, x]
        Order profile (running median along x) of the calibrated flat.
    noise : float
        Standard deviation of a background pixel of it.
    table : Guess
        From :func:`table_traces`.

    Returns
    -------
    Guess
        The same traces where the light is; ``seen`` is False throughout in a frame without light.
    """
    import numpy as np

    rows, columns = profile.shape
    samples = np.unique(np.linspace(0, columns - 1, min(SAMPLES, columns) + 2).astype(int)[1:-1])
    height = float(np.median(table.heights))
    order_step = _smallest_step(table)
    found = peaks(profile[:, samples], noise, height, order_step)
    expected = table.positions[:, samples]
    inside = (expected > 0.5 * height) & (expected < rows - 0.5 * height)
    few = slice(None, None, max(1, len(samples) // 16))
    offset = _common_offset(expected[:, few], inside[:, few], found[few], SEARCH * order_step)
    u = 2.0 * samples / columns - 1.0
    coefficients = np.array([[offset]])
    matched = np.full(expected.shape, np.nan)
    for degree, reach in STEPS:
        v = 2.0 * expected / rows - 1.0
        place = expected + np.polynomial.chebyshev.chebval2d(np.broadcast_to(u, v.shape), v, coefficients)
        matched = _nearest(place, inside, found, reach)
        if np.count_nonzero(np.isfinite(matched)) < 2 * (degree + 1) * (degree + 2):
            break
        coefficients = _smooth_field(np.broadcast_to(u, v.shape), v, matched - expected, degree)
    v = 2.0 * table.positions / rows - 1.0
    along = np.broadcast_to(2.0 * np.arange(columns) / columns - 1.0, v.shape)
    field = np.polynomial.chebyshev.chebval2d(along, v, coefficients)
    count = np.count_nonzero(np.isfinite(matched), axis=1)
    left = matched - (table.positions + field)[:, samples]
    rms = float(np.sqrt(np.nanmean(np.square(left)))) if np.isfinite(left).any() else float("nan")
    return Guess(
        fibres=table.fibres,
        orders=table.orders,
        positions=table.positions + field,
        heights=table.heights,
        seen=count >= max(3.0, FEWEST * len(samples)),
        displacement=(float(np.median(field)), rms),
    )


def peaks(lines: np.ndarray, noise: float, height: float, order_step: float) -> list[np.ndarray]:
    """Rows at which slit images lie, for each of several columns.

    Parameters
    ----------
    lines : float32[y, column]
        Columns of the order profile; NaN is bridged.
    noise : float
        Standard deviation of a background pixel.
    height : float
        Lit height of a slit image, px.
    order_step : float
        Smallest distance of two orders, px.
    """
    import numpy as np

    filled = np.zeros(lines.T.shape)
    rows = np.arange(lines.shape[0])
    for line, column in zip(filled, lines.T, strict=True):
        good = np.isfinite(column)
        if np.count_nonzero(good) > 2 * height:
            line[:] = np.interp(rows, rows[good], column[good])
    sigma = SMOOTHING * height
    smooth = _blurred(filled, sigma)
    threshold = np.maximum(
        SIGNIFICANCE * noise / np.sqrt(2.0 * np.sqrt(np.pi) * sigma),
        FAINTEST * _largest_near(smooth, int(order_step)),
    )
    top = smooth[:, 1:-1]
    is_peak = (top > smooth[:, :-2]) & (top >= smooth[:, 2:]) & (top > threshold[:, 1:-1])
    found = []
    for line, peak in zip(smooth, is_peak, strict=True):
        k = np.flatnonzero(peak) + 1
        curvature = line[k - 1] - 2.0 * line[k] + line[k + 1]
        found.append(k + 0.5 * (line[k - 1] - line[k + 1]) / curvature)
    return found


def _blurred(lines: np.ndarray, sigma: float) -> np.ndarray:
    """Each line convolved with a Gaussian of unit sum, zero beyond the ends."""
    import numpy as np

    reach = int(4.0 * sigma + 0.5)
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    weights /= weights.sum()
    padded = np.pad(lines, ((0, 0), (reach, reach)))
    out = np.zeros(lines.shape)
    for k, weight in enumerate(weights):
        out += weight * padded[:, k : k + lines.shape[1]]
    return out


def _largest_near(lines: np.ndarray, reach: int) -> np.ndarray:
    """Largest value of each line within `reach` of every place."""
    import numpy as np

    width = 2 * reach + 1
    largest = np.pad(lines, ((0, 0), (reach, reach)), constant_values=-np.inf)
    done = 1
    # Windows of twice the width are the larger of two neighbouring ones; the last two overlap.
    while done < width:
        step = min(done, width - done)
        largest = np.maximum(largest[:, :-step], largest[:, step:])
        done += step
    return largest


def _smallest_step(table: Guess) -> float:
    """Smallest distance of neighbouring orders of one fibre in the middle of the frame."""
    import numpy as np

    middle = table.positions[:, table.positions.shape[1] // 2]
    steps = [
        np.diff(np.sort(middle[[f == fibre for f in table.fibres]])).min()
        for fibre in set(table.fibres)
        if table.fibres.count(fibre) > 1
    ]
    return float(min(steps))


def _nearest(place: np.ndarray, inside: np.ndarray, found: list[np.ndarray], reach: float) -> np.ndarray:
    """Peak nearest to each expected place ``[..., trace, sample]``, NaN without one within `reach`."""
    import numpy as np

    matched = np.full(place.shape, np.nan)
    for k, rows in enumerate(found):
        if not rows.size:
            continue
        wanted = place[..., k]
        above = np.searchsorted(rows, wanted)
        lower, upper = rows[np.maximum(above - 1, 0)], rows[np.minimum(above, rows.size - 1)]
        nearest = np.where(np.abs(lower - wanted) <= np.abs(upper - wanted), lower, upper)
        near = (np.abs(nearest - wanted) <= reach) & inside[:, k]
        matched[..., k] = np.where(near, nearest, np.nan)
    return matched


def _common_offset(
    expected: np.ndarray, inside: np.ndarray, found: list[np.ndarray], furthest: float
) -> float:
    """Displacement at which most peaks fall on expected places.

    Fibres lie closer together than orders: a displacement by one fibre matches half of the peaks of two.
    """
    import numpy as np

    offsets = np.arange(-furthest, furthest + 0.25, 0.5)
    reach = STEPS[0][1]
    place = expected + offsets[:, None, None]
    away = np.abs(_nearest(place, inside, found, reach) - place)
    scores = np.nansum(1.0 - away / reach, axis=(1, 2))
    return float(offsets[int(np.argmax(scores))])


def _smooth_field(u: np.ndarray, v: np.ndarray, values: np.ndarray, degree: int) -> np.ndarray:
    """Chebyshev products up to a total degree, robust, as coefficients ``[i, j]`` of T_i(u) T_j(v)."""
    import numpy as np

    good = np.isfinite(values)
    basis = np.polynomial.chebyshev.chebvander2d(u[good], v[good], (degree, degree))
    terms = [i * (degree + 1) + j for i in range(degree + 1) for j in range(degree + 1 - i)]
    design, target = basis[:, terms], values[good]
    weights = np.ones(target.size)
    solution = np.zeros(len(terms))
    for _ in range(5):
        weighted = design * weights[:, None]
        solution = np.linalg.lstsq(weighted.T @ design, weighted.T @ target, rcond=None)[0]
        residual = target - design @ solution
        scale = 1.4826 * float(np.median(np.abs(residual))) + 1e-3
        weights = 1.0 / (1.0 + (residual / (3.0 * scale)) ** 2) ** 2
    coefficients = np.zeros((degree + 1) * (degree + 1))
    coefficients[terms] = solution
    return coefficients.reshape(degree + 1, degree + 1)
