"""The cavity of the Fabry-Perot etalon: optical length as a function of wavelength."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from apero_dask.core.errors import DataError

if TYPE_CHECKING:
    import numpy as np

C_MS = 299_792_458.0
C_KMS = C_MS / 1e3
TABLE = "fp_cavity.csv"
_PASSES = 12  # of the fixed point: the cavity changes by 1e-4 over the range, each pass gains four digits


@dataclass(frozen=True, slots=True)
class Cavity:
    """Twice the optical length of the etalon: ``pedestal + sum_j series_j T_j(u)``, nm.

    u runs from -1 to 1 over `domain`, vacuum nm.  Peak number N lies at the wavelength L with
    ``N L = 2d(L)``.
    """

    series: np.ndarray
    """float64[degree + 1], nm, ascending."""
    domain: tuple[float, float]
    pedestal: float

    def length(self, wave: np.ndarray) -> np.ndarray:
        """2d in nm at wavelengths in nm."""
        from numpy.polynomial import chebyshev

        path: np.ndarray = self.pedestal + chebyshev.chebval(place(self, wave), self.series)
        return path

    def wavelength(self, number: np.ndarray) -> np.ndarray:
        """Vacuum nm of peaks with the given numbers, by fixed-point iteration."""
        import numpy as np

        number = np.asarray(number, dtype=np.float64)
        wave = np.full(number.shape, self.pedestal) / number
        for _ in range(_PASSES):
            wave = self.length(wave) / number
        return np.asarray(wave)

    def number(self, wave: np.ndarray) -> np.ndarray:
        """Peak number at wavelengths in nm, not rounded."""
        found: np.ndarray = self.length(wave) / wave
        return found

    def moved(self, velocity_ms: float) -> Cavity:
        """Cavity longer by the factor ``1 + velocity / c`` at all wavelengths."""
        factor = velocity_ms / C_MS
        series = self.series * (1.0 + factor)
        series[0] += self.pedestal * factor
        return replace(self, series=series)

    def bent(self, velocity_ms: np.ndarray) -> Cavity:
        """Cavity longer by ``1 + v(L) / c``, v a Chebyshev series in m/s on the same domain.

        The product of the two series is cut at the higher of the two degrees: what is lost is the product of
        a chromatic term (1e-4 of the cavity) and the correction, below 0.1 m/s for corrections of 1 km/s.
        """
        import numpy as np
        from numpy.polynomial import chebyshev

        whole = self.series.copy()
        whole[0] += self.pedestal
        product = chebyshev.chebmul(whole, np.asarray(velocity_ms, dtype=np.float64) / C_MS)
        terms = max(len(self.series), len(velocity_ms))
        series = np.zeros(terms)
        series[: len(self.series)] = self.series
        kept = product[:terms]
        series[: len(kept)] += kept
        return replace(self, series=series)

    def velocity_from(self, other: Cavity, wave: np.ndarray) -> np.ndarray:
        """``c (2d - 2d_other) / 2d_other`` in m/s at wavelengths in nm."""
        before = other.length(wave)
        change: np.ndarray = C_MS * (self.length(wave) - before) / before
        return change


def place(cavity: Cavity, wave: np.ndarray) -> np.ndarray:
    """Argument of the Chebyshev polynomials at wavelengths in nm."""
    import numpy as np

    low, high = cavity.domain
    return (2.0 * np.asarray(wave, dtype=np.float64) - low - high) / (high - low)


def starting_cavity() -> Cavity:
    """First guess of the package."""
    from importlib.resources import files

    import numpy as np

    text = files("apero_dask.tables").joinpath(TABLE).read_text(encoding="utf-8")
    names, values = (line.split(",") for line in text.splitlines() if line and not line.startswith("#"))
    row = dict(zip(names, map(float, values), strict=True))
    degree = sum(name.startswith("c") for name in names) - 1
    series = np.array([row[f"c{j}_nm"] for j in range(degree + 1)])
    return Cavity(series, (row["low_nm"], row["high_nm"]), row["pedestal_nm"])


def cavity_columns(cavity: Cavity) -> dict[str, np.ndarray]:
    """Columns of the table of a cavity product: DEGREE, COEFFICIENT, LOW, HIGH, PEDESTAL."""
    import numpy as np

    terms = len(cavity.series)
    return {
        "DEGREE": np.arange(terms, dtype=np.int64),
        "COEFFICIENT": cavity.series,
        "LOW": np.full(terms, cavity.domain[0]),
        "HIGH": np.full(terms, cavity.domain[1]),
        "PEDESTAL": np.full(terms, cavity.pedestal),
    }


def cavity_of(columns: Mapping[str, Sequence[float] | np.ndarray], name: str) -> Cavity:
    """Cavity of the table of a product; `name` is that of the file, for messages.

    Raises
    ------
    DataError
        A column is missing, a number is not finite, or the degrees are not 0, 1, 2, ...
    """
    import numpy as np

    wanted = ("DEGREE", "COEFFICIENT", "LOW", "HIGH", "PEDESTAL")
    missing = [column for column in wanted if column not in columns]
    if missing:
        raise DataError(
            f"{name}: the cavity table lacks {', '.join(missing)}; expected columns {', '.join(wanted)}. "
            "Use a cavity made by cal_wave_master."
        )
    degree, series, low, high, pedestal = (np.asarray(columns[c], dtype=np.float64) for c in wanted)
    complete = all(np.isfinite(v).all() for v in (series, low, high, pedestal)) and series.size > 0
    if not complete or not np.array_equal(degree, np.arange(series.size)) or not low[0] < high[0]:
        raise DataError(
            f"{name}: the cavity table holds degrees {degree.tolist()[:12]} and "
            f"{np.count_nonzero(~np.isfinite(series))} coefficients that are not finite; expected degrees "
            "0, 1, 2, ... with finite coefficients. Make it again with cal_wave_master."
        )
    return Cavity(series, (float(low[0]), float(high[0])), float(pedestal[0]))
