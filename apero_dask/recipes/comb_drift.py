"""Fabry-Perot peaks of the reference fibre in a frame, and the drift of the exposure they tell.

Peaks are those of the reference list, fitted at the columns where the wavelength solution of the frame
expects them.  Heavy imports happen inside the functions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from apero_dask.core.errors import DataError
from apero_dask.recipes.wave_cavity import C_MS, Cavity

if TYPE_CHECKING:
    import numpy as np

    from apero_dask.io.fitswriter import Table
    from apero_dask.recipes.wave_lines import Lines, LineShape
    from apero_dask.recipes.wave_maps import WaveMap

REACH = 2.0  # px from the prediction beyond which a peak is another one or noise
CUT = 5.0  # sigma beyond which a peak does not count for the drift
FEWEST = 50  # peaks of a drift
LEAST_SHARE = 0.2  # of the reference list, below which there is no comb
PASSES = 20


@dataclass(frozen=True, slots=True)
class CombDrift:
    """Velocity of the peaks of a frame, m/s: positive = they fall on longer wavelengths of the map."""

    against_night: float
    """Against the cavity of the wavelength solution: motion of the spectrograph since then."""
    against_reference: float
    """Against the reference list: the change of the cavity since then included."""
    error: float
    used: int
    scatter: float
    """Of the peaks over their errors."""


NO_DRIFT = CombDrift(float("nan"), float("nan"), float("nan"), 0, float("nan"))


def listed_peaks(columns: Mapping[str, Any], wave: WaveMap, name: str) -> Lines:
    """Peaks of a reference list at the columns where a map expects them, not measured yet.

    Raises
    ------
    DataError
        The list lacks a column.
    """
    import numpy as np

    from apero_dask.recipes.wave_lines import EDGE, blank

    wanted = ("ORDER", "PEAK_NUMBER", "WAVE_REF", "AMP_MEAS")
    missing = [column for column in wanted if column not in columns]
    if missing:
        raise DataError(
            f"{name}: the list of peaks lacks {', '.join(missing)}; expected {', '.join(wanted)}. Make it "
            "again with cal_wave_master."
        )
    order, number, wave_ref, amplitude = (np.asarray(columns[column]) for column in wanted)
    order = order.astype(np.int64)
    known = np.isfinite(number) & np.isfinite(wave_ref) & (order >= 0) & (order < wave.norders)
    x = np.full(order.size, np.nan)
    x[known] = wave.column(order[known], wave_ref[known])
    known &= (x > EDGE) & (x < wave.nx - 1 - EDGE)
    rows = np.flatnonzero(known)
    rows = rows[np.lexsort((x[rows], order[rows]))]
    lines = blank(order[rows], number[rows].astype(np.int64), wave_ref[rows].astype(np.float64), x[rows])
    return replace(lines, amplitude=amplitude[rows].astype(np.float64))


def cavity_of_header(cards: Mapping[str, Any], name: str) -> Cavity:
    """Cavity of the header of a wavelength solution.

    Raises
    ------
    DataError
        It holds none.
    """
    import numpy as np

    try:
        terms = int(cards["WCAV_DEG"]) + 1
        series = np.array([float(cards[f"WCAV{j:03d}"]) for j in range(terms)])
        domain = float(cards["WCAV_LOW"]), float(cards["WCAV_HI"])
        return Cavity(series, domain, float(cards["WCAV_PED"]))
    except KeyError as error:
        raise DataError(
            f"{name}: the header lacks {error.args[0]}, the cavity of the etalon; make the wavelength "
            "solution again with cal_wave_night or cal_wave_master."
        ) from error


def shape_of_header(cards: Mapping[str, Any]) -> LineShape | None:
    """Shape of the lines in the header of a wavelength solution; None if it does not tell.

    With the shape the solution was made with a centre means the same in frame and solution.
    """
    import numpy as np

    from apero_dask.recipes.wave_lines import LineShape, surface_degrees

    skew = [cards.get(f"WSKEW{k}") for k in range(len(surface_degrees()))]
    finesse = cards.get("WCAVFINE")
    if finesse is None or any(value is None for value in skew):
        return None
    return LineShape(float(finesse), np.array(skew, dtype=np.float64))


def measure_drift(
    flux: np.ndarray,
    variance: np.ndarray,
    listed: Lines,
    cavity: Cavity,
    wave: WaveMap,
    shape: LineShape | None = None,
) -> tuple[Lines, CombDrift, Table]:
    """Fit the peaks of a frame.

    Parameters
    ----------
    flux, variance : float64[order, x]
        Spectrum of the reference fibre, e- and e-^2.
    listed
        Reference list.
    cavity
        Of the wavelength solution.
    wave
        The wavelength solution.
    shape
        Of the lines, as the solution was made with; without it it is measured in the frame.

    Returns
    -------
    lines
        Rows as listed, NaN where there is no peak.
    drift
        NaN unless enough of the listed peaks are there.
    table
        Of the product.

    Notes
    -----
    Weighted mean of c (lam(x) - lam_ref) / lam_ref over the peaks, those off by more than 5 sigma (times the
    scatter, where that is above 1) left out until none is; the error is that of the weights times the
    scatter.
    """
    import numpy as np

    from apero_dask.recipes.wave_comb import FP_REACH, measure_comb, spacing_at
    from apero_dask.recipes.wave_products import line_table

    lines, _ = measure_comb(flux, variance, listed, cavity, wave, REACH, shape)
    good = lines.good
    found = np.full(lines.order.size, np.nan)
    found[good] = wave.wavelength(lines.order[good], lines.x[good])
    night = cavity.wavelength(lines.label)
    velocity = C_MS * (found - night) / night
    against_reference = C_MS * (found - lines.wave_ref) / lines.wave_ref
    error = wave.velocity_per_column(lines.order, np.nan_to_num(lines.x)) * lines.sigma
    drift, kept = NO_DRIFT, np.zeros(good.size, bool)
    if np.count_nonzero(good) >= max(FEWEST, LEAST_SHARE * np.count_nonzero(np.isfinite(listed.amplitude))):
        drift, kept = _mean(velocity, against_reference, error, good)
    window = FP_REACH * spacing_at(cavity, wave, lines.order, lines.x_ref)
    table = line_table("fp", lines, wave, window)
    columns = {**table.columns, "VELO": velocity, "USED": kept}
    return lines, drift, replace(table, columns=columns, units={**table.units, "VELO": "m/s"})


def _mean(
    velocity: np.ndarray, against_reference: np.ndarray, error: np.ndarray, good: np.ndarray
) -> tuple[CombDrift, np.ndarray]:
    import numpy as np

    kept = good & np.isfinite(velocity) & (error > 0)
    middle, scatter = float(np.median(velocity[kept])), 1.0
    for _ in range(PASSES):
        before = kept
        deviation = np.abs(velocity - middle) / error
        scatter = max(1.4826 * float(np.median(deviation[kept])), 1.0)
        kept = good & (error > 0) & (deviation < CUT * scatter)
        weight = np.where(kept, error, np.inf) ** -2
        middle = float((weight[kept] * velocity[kept]).sum() / weight.sum())
        if np.array_equal(kept, before):
            break
    reference = float((weight[kept] * against_reference[kept]).sum() / weight.sum())
    formal = float(weight.sum() ** -0.5)
    return CombDrift(middle, reference, formal * scatter, int(kept.sum()), scatter), kept


def drift_cards(drift: CombDrift) -> dict[str, Any]:
    """Header cards of a drift; NaN if there is none."""
    return {
        "FPDRIFT": (drift.against_night, "[m/s] drift of the exposure against its solution"),
        "FPDRREF": (drift.against_reference, "[m/s] peaks against the reference list"),
        "FPDRERR": (drift.error, "[m/s] error of FPDRIFT"),
        "FPDRNUM": (drift.used, "peaks used"),
        "FPDRSCA": (drift.scatter, "scatter of the peaks over their errors"),
    }
