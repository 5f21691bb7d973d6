"""Packaged tables: the derived ones are derived, and both instruments are what their descriptions say."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.polynomial import chebyshev

from apero_dask.instruments import INSTRUMENTS, instrument
from apero_dask.tables import derive_mini, derive_tellurics

TABLES = Path(derive_mini.__file__).parent


def test_tables_of_the_small_instrument_are_derived() -> None:
    for name, text in derive_mini.derive().items():
        assert (TABLES / name).read_text(encoding="utf-8") == text


def test_tables_of_the_atmosphere_are_derived() -> None:
    for name, text in derive_tellurics.derive().items():
        assert (TABLES / name).read_text(encoding="utf-8") == text


@pytest.mark.parametrize("name", INSTRUMENTS)
def test_wavelengths_rise_along_and_across_orders(name: str) -> None:
    described = instrument(name)
    u = 2 * np.arange(described.nx) / described.nx - 1
    for fibre in described.fibres:
        rows = [row for row in described.table("wave") if row["fibre"] == fibre]
        assert tuple(int(row["echelle"]) for row in rows) == described.echelle
        wave = np.array([chebyshev.chebval(u, [float(row[f"c{j}_nm"]) for j in range(6)]) for row in rows])
        assert np.all(np.diff(wave, axis=1) > 0)
        assert np.all(np.diff(wave, axis=0) > 0)


@pytest.mark.parametrize("name", INSTRUMENTS)
def test_fibres_lie_c_b_a_and_never_cross(name: str) -> None:
    described = instrument(name)
    u = 2 * np.arange(described.nx) / described.nx - 1
    traces = {
        (row["fibre"], int(row["echelle"])): chebyshev.chebval(u, [float(row[f"y{j}_px"]) for j in range(5)])
        for row in described.table("trace")
    }
    stacked = [traces[fibre, m] for m in described.echelle for fibre in "CBA"]
    # Lit heights are 12 to 15 px: neighbouring centres nearer than that would overlap.
    assert np.min(np.diff(np.array(stacked), axis=0)) > 12.0


def test_small_window_has_the_wavelengths_of_the_full_order() -> None:
    full, small = instrument("SPIROU"), instrument("SPIROU_MINI")
    for row in small.table("wave"):
        wide = next(
            r for r in full.table("wave") if (r["fibre"], r["echelle"]) == (row["fibre"], row["echelle"])
        )
        x = np.array([0.0, 300.0, small.nx - 1.0])
        x_full = x - small.nx / 2 + full.nx / 2
        found = chebyshev.chebval(2 * x / small.nx - 1, [float(row[f"c{j}_nm"]) for j in range(6)])
        expected = chebyshev.chebval(2 * x_full / full.nx - 1, [float(wide[f"c{j}_nm"]) for j in range(6)])
        # The table keeps 12 digits of 2500 nm.
        np.testing.assert_allclose(found, expected, atol=5e-9)


def test_roles_are_orders_of_the_instrument() -> None:
    full, small = instrument("SPIROU"), instrument("SPIROU_MINI")
    assert (full.snr_telluric, full.snr_client, full.snr_table, full.opaque) == (33, 35, 36, 48)
    assert full.flat_qc_excluded == (0, 22, 23, 24, 25, 48)
    assert full.thermal == (45, 46, 47, 48)
    assert small.echelle[small.snr_telluric] == full.echelle[33]
    assert small.echelle[small.opaque] == full.echelle[48]
    assert set(small.thermal) >= {small.opaque}
