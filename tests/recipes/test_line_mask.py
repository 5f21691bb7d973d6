"""Masks of the field are read as they are; what is no mask is refused with the reason."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from apero_dask.core.errors import DataError
from apero_dask.instruments import instrument
from apero_dask.io.cards import card_text
from apero_dask.io.fitswriter import Table, write_fits
from apero_dask.recipes import line_mask
from apero_dask.tables import derive_mask
from apero_dask.tables.derive_lines import mdwarf

ROWS = "# a mask\n1500.10 1500.12 0.5\n1600.0\t1600.0\t1.0  # a line\n\n1700.0 1700.02 0\n"


def text(tmp_path: Path, content: str, name: str = "m.mas") -> Path:
    path = tmp_path / name
    path.write_text(content, encoding="utf-8")
    return path


def test_three_columns_are_read(tmp_path: Path) -> None:
    found = line_mask.read_mask(text(tmp_path, ROWS))
    np.testing.assert_allclose(found.wave, [1500.11, 1600.0])
    np.testing.assert_allclose(found.weight, [0.5, 1.0])  # a line without weight takes no part
    table = "LL_MASK_S,w_mask,ll_mask_e\n1500.10,0.5,1500.12\n1600,1,1600\n"
    np.testing.assert_allclose(line_mask.read_mask(text(tmp_path, table, "m.csv")).wave, found.wave)


@pytest.mark.parametrize("both", [True, False])
def test_fits_tables_are_read(tmp_path: Path, both: bool) -> None:
    columns = {"ll_mask_s": np.array([1500.1, 1600.0]), "w_mask": np.array([0.5, 1.0]), "depth": np.ones(2)}
    if both:
        columns["ll_mask_e"] = np.array([1500.12, 1600.0])
    path = tmp_path / "m.fits"
    write_fits(path, [card_text("ORIGIN", "test", "")], [Table("MASK", columns, units={"ll_mask_s": "nm"})])
    np.testing.assert_allclose(line_mask.read_mask(path).wave, [1500.11 if both else 1500.1, 1600.0])


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("15001.0 15001.0 1\n", "look like Angstrom, expected vacuum nm; multiply both columns by 0.1"),
        ("1.5 1.5 1\n", "look like micrometres"),
        ("# air wavelengths\n1500 1500 1\n", "speak of air wavelengths, expected vacuum"),
        ("1600 1600 1\n1500 1500 1\n", r"line 2 \(1500.0000 nm\) lies before line 1 .*; sort the mask"),
        ("1500 1500\n", "line 1 holds 2 numbers, expected three"),
        ("1500 1500 x\n", "line 1 holds '1500 1500 x', expected three numbers"),
        ("1500 1499 1\n", "line 1 goes from 1500.0 to 1499.0 nm"),
        ("1500 nan 1\n", "line 1 holds a value that is not finite"),
        ("1500 1500 0\n", "no line has a weight above 0"),
        ("# nothing\n", "no line; expected rows"),
    ],
)
def test_what_is_no_mask_is_refused(tmp_path: Path, content: str, said: str) -> None:
    with pytest.raises(DataError, match=said):
        line_mask.read_mask(text(tmp_path, content))


def test_other_tables_and_units_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.fits"
    write_fits(path, [], [Table("OTHER", {"x": np.ones(2)})])
    with pytest.raises(
        DataError, match=r"no table with the columns ll_mask_s and w_mask \(extensions: OTHER\)"
    ):
        line_mask.read_mask(path)
    columns = {"ll_mask_s": np.array([1500.1]), "w_mask": np.array([0.5])}
    write_fits(path, [], [Table("MASK", columns, units={"ll_mask_s": "Angstrom"})])
    with pytest.raises(DataError, match="ll_mask_s in angstrom, expected nm"):
        line_mask.read_mask(path)


def test_masks_of_another_range_are_refused() -> None:
    wave = np.linspace(500.0, 600.0, 100)
    optical = line_mask.LineMask("optical.mas", wave, np.ones(100), "file")
    with pytest.raises(DataError, match=r"0 of 100 lines \(500.0 to 600.0 nm\) lie in the orders"):
        line_mask.covers(optical, instrument("SPIROU"))


def test_packaged_mask_is_derived_and_is_not_the_truth() -> None:
    packaged = Path(derive_mask.__file__).parent / derive_mask.NAME
    assert packaged.read_text(encoding="utf-8") == derive_mask.derive()
    mask = line_mask.builtin_mask()
    wave, depth, clean = np.array([row.split(",") for row in mdwarf()[1:]], dtype=float).T
    right = np.clip(np.searchsorted(wave, mask.wave), 1, wave.size - 1)
    nearest = np.where(mask.wave - wave[right - 1] < wave[right] - mask.wave, right - 1, right)
    off = 299792458.0 * (mask.wave / wave[nearest] - 1)
    true = np.abs(off) < 1500
    assert 0.95 < true.mean() < 0.995  # some lines of the mask are none
    assert 50 < np.std(off[true]) < 150
    assert 0.15 < np.std(np.log(mask.weight[true] / depth[nearest][true])) < 0.4
    missed = np.setdiff1d(np.flatnonzero((depth > 0.05) & (clean > 0)), nearest[true])
    assert missed.size > 0.05 * np.count_nonzero((depth > 0.05) & (clean > 0))
    assert line_mask.covers(mask, instrument("SPIROU_MINI")) > 500
