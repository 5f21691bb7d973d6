"""Wavelength solutions: one Chebyshev series of the column per order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from apero_dask.core.errors import DataError
from apero_dask.recipes.wave_cavity import C_MS

if TYPE_CHECKING:
    import numpy as np

    from apero_dask.instruments import Instrument
    from apero_dask.recipes.context import RecipeContext

BASIS = "Chebyshev"
COEFF_TABLE = "COEFF_TABLE"


@dataclass(frozen=True, slots=True)
class WaveMap:
    """Vacuum wavelengths in nm of every order of one fibre."""

    coefficients: np.ndarray
    """float64[order, degree + 1]: Chebyshev series on the column interval [0, nx], ascending."""
    nx: int

    @property
    def degree(self) -> int:
        """Degree of the series."""
        return int(self.coefficients.shape[1]) - 1

    @property
    def norders(self) -> int:
        """Number of orders."""
        return int(self.coefficients.shape[0])

    def image(self) -> np.ndarray:
        """float64[order, x]: wavelength at every pixel centre."""
        import numpy as np
        from numpy.polynomial import chebyshev

        u = 2.0 * np.arange(self.nx) / self.nx - 1.0
        return np.asarray(chebyshev.chebval(u, self.coefficients.T))

    def wavelength(self, order: np.ndarray, x: np.ndarray) -> np.ndarray:
        """nm at columns `x` of orders `order`, float64[n]."""
        import numpy as np

        return _series(self.coefficients, order, 2.0 * np.asarray(x) / self.nx - 1.0)

    def dispersion(self, order: np.ndarray, x: np.ndarray) -> np.ndarray:
        """nm per column, float64[n]."""
        import numpy as np
        from numpy.polynomial import chebyshev

        slopes = chebyshev.chebder(self.coefficients, axis=1) * (2.0 / self.nx)
        return _series(slopes, order, 2.0 * np.asarray(x) / self.nx - 1.0)

    def velocity_per_column(self, order: np.ndarray, x: np.ndarray) -> np.ndarray:
        """m/s per column, float64[n]."""
        speed: np.ndarray = C_MS * self.dispersion(order, x) / self.wavelength(order, x)
        return speed

    def column(self, order: np.ndarray, wave: np.ndarray) -> np.ndarray:
        """Columns at which wavelengths fall, float64[n]; NaN more than a quarter of the order beyond an end.

        Newton steps from a straight line.
        """
        import numpy as np
        from numpy.polynomial import chebyshev

        order, wave = np.asarray(order), np.asarray(wave, dtype=np.float64)
        every = np.arange(self.norders)
        ends = [self.wavelength(every, np.full(self.norders, x)) for x in (0.0, float(self.nx))]
        x = self.nx * (wave - ends[0][order]) / (ends[1] - ends[0])[order]
        x = np.where((x > -0.25 * self.nx) & (x < 1.25 * self.nx), x, np.nan)
        slopes = chebyshev.chebder(self.coefficients, axis=1) * (2.0 / self.nx)
        for _ in range(5):
            u = 2.0 * x / self.nx - 1.0
            x = x - (_series(self.coefficients, order, u) - wave) / _series(slopes, order, u)
        return np.asarray(x)

    def scaled(self, velocity_ms: float) -> WaveMap:
        """Map with all wavelengths longer by the factor ``1 + velocity / c``."""
        return WaveMap(self.coefficients * (1.0 + velocity_ms / C_MS), self.nx)


def _series(coefficients: np.ndarray, order: np.ndarray, u: np.ndarray) -> np.ndarray:
    """Clenshaw sum of a series per point."""
    import numpy as np

    c = coefficients[np.asarray(order)]
    b1, b2 = np.zeros(np.shape(u)), np.zeros(np.shape(u))
    for k in range(c.shape[1] - 1, 0, -1):
        b1, b2 = c[:, k] + 2.0 * u * b1 - b2, b1
    return np.asarray(c[:, 0] + u * b1 - b2)


def first_guess(instrument: Instrument, fibre: str) -> WaveMap:
    """Shipped first guess of a fibre."""
    import numpy as np

    rows = {int(r["echelle"]): r for r in instrument.table("wave") if r["fibre"] == fibre}
    terms = sum(name.startswith("c") and name.endswith("_nm") for name in next(iter(rows.values())))
    series = [[float(rows[m][f"c{j}_nm"]) for j in range(terms)] for m in instrument.echelle]
    return WaveMap(np.array(series), instrument.nx)


def coefficient_columns(wave: WaveMap) -> dict[str, np.ndarray]:
    """Columns of COEFF_TABLE: ORDER, COEFFS_0, COEFFS_1, ..."""
    import numpy as np

    found = {"ORDER": np.arange(wave.norders, dtype=np.int64)}
    for j in range(wave.degree + 1):
        found[f"COEFFS_{j}"] = np.ascontiguousarray(wave.coefficients[:, j])
    return found


def map_of(columns: Mapping[str, Any], instrument: Instrument, name: str) -> WaveMap:
    """Map of the COEFF_TABLE of a product; `name` is that of the file, for messages.

    Raises
    ------
    DataError
        No coefficients, another number of orders, or values that are not finite.
    """
    import numpy as np

    terms = 0
    while f"COEFFS_{terms}" in columns:
        terms += 1
    rows = len(columns["COEFFS_0"]) if terms else 0
    if rows != instrument.norders:
        raise DataError(
            f"{name}: {COEFF_TABLE} holds {rows} orders with {terms} coefficients, expected "
            f"{instrument.norders} orders of {instrument.name}; use a wavelength solution of this instrument."
        )
    values = np.stack([np.asarray(columns[f"COEFFS_{j}"], np.float64) for j in range(terms)], axis=1)
    if not np.isfinite(values).all():
        raise DataError(
            f"{name}: {COEFF_TABLE} holds {np.count_nonzero(~np.isfinite(values))} coefficients that are not "
            "finite; make the wavelength solution again."
        )
    return WaveMap(values, instrument.nx)


def wave_map(ctx: RecipeContext, kind: str, fibre: str) -> WaveMap:
    """Map of a fibre from the calibration chosen for `kind` (WAVE0, WAVEM, WAVE), or the shipped first guess.

    Raises
    ------
    ContractError
        The recipe does not declare the kind.
    DataError
        The file cannot be used.
    """
    chosen = ctx.calibration(kind, fibre)
    if chosen is None or chosen.path is None:
        return first_guess(ctx.instrument, fibre)
    table = ctx.calibration_table(kind, COEFF_TABLE, fibre)
    assert table is not None
    return map_of(table, ctx.instrument, chosen.path.name)
