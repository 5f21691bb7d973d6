"""Reads the traces of the orders from the localisation a run was given."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from apero_dask.core.errors import DataError
from apero_dask.recipes.context import RecipeContext

if TYPE_CHECKING:
    import numpy as np

CENTRES, WIDTHS = "CENTRES", "WIDTHS"
"""Tables of a localisation: ORDER, FIBER, COEFFS_0, COEFFS_1 and so on."""


@dataclass(frozen=True, slots=True)
class Traces:
    """Position and width of the orders of one fibre, from the bluest order to the reddest.

    Chebyshev series along x on the domain [0, nx], ascending; px of the calibrated frame, not straightened.
    """

    centres: np.ndarray
    """float64[order, degree + 1]: row of the middle of the slit image."""
    widths: np.ndarray
    """float64[order, degree + 1]: lit height of the slit image."""

    def positions(self, nx: int) -> np.ndarray:
        """Rows of the traces in every column, float64[order, x]."""
        return _evaluated(self.centres, nx)

    def heights(self, nx: int) -> np.ndarray:
        """Lit heights in every column, float64[order, x]."""
        return _evaluated(self.widths, nx)


def traces(ctx: RecipeContext, fibre: str) -> Traces:
    """Traces of a fibre from the localisation chosen for the run.

    Parameters
    ----------
    fibre
        A, B or C; a group of several fibres (AB) has the mean of theirs.

    Raises
    ------
    ContractError
        The run came without localisation.
    DataError
        The file holds other orders than the instrument, or lacks a table.
    """
    chosen = ctx.calibration("LOC", fibre)
    members = [name for name in ctx.instrument.traced_fibres if name in fibre]
    parts = {table: [_series(ctx, fibre, member, table) for member in members] for table in (CENTRES, WIDTHS)}
    if chosen is None or not members:
        raise DataError(f"no localisation of fibre {fibre}: run cal_loc, or name a file with --locofile.")
    return Traces(centres=_mean(parts[CENTRES]), widths=_mean(parts[WIDTHS]))


def _series(ctx: RecipeContext, fibre: str, member: str, table: str) -> np.ndarray:
    columns = ctx.calibration_table("LOC", table, fibre)
    if columns is None:
        raise DataError(f"no localisation of fibre {fibre}: run cal_loc, or name a file with --locofile.")
    return series_of(columns, member, ctx.instrument.norders, f"LOC {fibre}, table {table}")


def series_of(columns: dict[str, Any], fibre: str, norders: int, where: str) -> np.ndarray:
    """Series of one fibre in a table of a localisation, float64[order, degree + 1].

    Raises
    ------
    DataError
        Other orders than 0 to `norders` - 1 once each, or a coefficient that is not finite.
    """
    import numpy as np

    selected = [k for k, name in enumerate(columns["FIBER"]) if str(name).strip() == fibre]
    orders = [int(columns["ORDER"][k]) for k in selected]
    if sorted(orders) != list(range(norders)):
        raise DataError(
            f"{where}: {len(orders)} orders of fibre {fibre}, expected {norders}, numbered from 0. "
            "Make the localisation again."
        )
    names = [f"COEFFS_{k}" for k in range(sum(name.startswith("COEFFS_") for name in columns))]
    rows = np.array(selected)[np.argsort(orders)]
    found: np.ndarray = np.stack([np.asarray(columns[name], np.float64)[rows] for name in names], axis=1)
    if not np.isfinite(found).all():
        raise DataError(
            f"{where}: a coefficient of fibre {fibre} is not finite. Make the localisation again."
        )
    return found


def _mean(parts: list[np.ndarray]) -> np.ndarray:
    import numpy as np

    found: np.ndarray = np.mean(parts, axis=0)
    return found


def _evaluated(series: np.ndarray, nx: int) -> np.ndarray:
    import numpy as np

    found: np.ndarray = np.polynomial.chebyshev.chebval(2.0 * np.arange(nx) / nx - 1.0, series.T)
    return found
