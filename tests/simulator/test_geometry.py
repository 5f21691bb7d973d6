"""Instruments of the package and of a user, windows of an instrument, and what is refused."""

from __future__ import annotations

import shutil
from importlib import resources
from pathlib import Path

import numpy as np
import pytest

from apero_dask.simulator.config import make_config
from apero_dask.simulator.paint import paint
from apero_dask.simulator.settings import ConfigError
from apero_dask.simulator.tables import GeometryConfig, load_instrument
from tests.simulator import photons


def user_folder(tmp_path: Path, **replace: str) -> Path:
    """A copy of the small instrument under another name, with texts of its TOML replaced."""
    source = Path(str(resources.files("apero_dask.tables")))
    for name in ("spirou_mini_wave.csv", "spirou_mini_trace.csv", "spirou_mini_orders.csv"):
        shutil.copy(source / name, tmp_path / name)
    text = (source / "spirou_mini.toml").read_text().replace('name = "SPIROU_MINI"', 'name = "BENCH"')
    for old, new in replace.items():
        assert old in text
        text = text.replace(old, new)
    path = tmp_path / "bench.toml"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("name", "shape", "orders", "lit"),
    [("SPIROU", (4096, 4096), 49, (4, 3456)), ("SPIROU_MINI", (960, 1024), 12, (4, 810))],
)
def test_packaged_instruments(name, shape, orders, lit):
    geometry, table = load_instrument(name, GeometryConfig())
    assert geometry.full_shape == shape
    assert geometry.lit_rows == lit
    assert len(table.echelle) == orders
    assert table.wave_nm.shape[:2] == (4, orders)
    assert table.trace_px.shape[:2] == (3, orders)


def test_geometry_of_a_user(tmp_path):
    path = user_folder(tmp_path)
    config = make_config({"instrument": "BENCH", "geometry": {"file": str(path), "echelle": [46]}})
    painted = paint(config, photons.spec("FLAT_FLAT"))
    assert painted.rate.shape == (960, 1024)
    assert painted.rate.max() > 0


def test_window_keeps_orders_and_rows():
    config = GeometryConfig(echelle=(48, 46), rows=(350, 520))
    geometry, table = load_instrument("SPIROU_MINI", config)
    assert geometry.echelle == (48, 46)
    assert geometry.ny == 170
    assert geometry.raw_columns % geometry.amplifiers == 0
    assert geometry.lit_rows[1] >= geometry.y0 + geometry.ny
    assert table.y_start == 350
    assert geometry.snr_telluric == 46
    assert load_instrument("SPIROU_MINI", GeometryConfig(echelle=(48, 37)))[0].snr_telluric == 48


def test_window_of_columns_keeps_wavelengths():
    narrow = GeometryConfig(echelle=(46,), columns=(300, 600))
    config = photons.plain(geometry={"echelle": [46], "columns": [300, 600]})
    geometry, _ = load_instrument("SPIROU_MINI", narrow)
    assert (geometry.nx, geometry.raw_rows) == (300, 308)
    truth = paint(config, photons.spec("DARK_FLAT")).truth
    stated = photons.table_wave("SPIROU_MINI", "C", 46, np.arange(300, 600))
    np.testing.assert_allclose(truth.wave_nm[2, 0], stated, atol=1e-9)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"instrument": "HARPS"}, "instrument = 'HARPS': expected one of SPIROU, SPIROU_MINI"),
        ({"geometry": {"file": "absent.toml"}}, "geometry.file = 'absent.toml': no such file"),
        ({"geometry": {"echelle": [12]}}, r"geometry.echelle = \[12\]: expected orders of SPIROU \(79..31\)"),
        (
            {"geometry": {"rows": [200, 100]}},
            r"geometry.rows = \[200, 100\]: expected 0 <= first < end <= 3100",
        ),
        ({"geometry": {"rows": [0, 5000]}}, r"geometry.rows = \[0, 5000\]"),
        ({"geometry": {"rows": [0, 600]}}, "leaves the detector"),
        ({"geometry": {"columns": [-5, 100]}}, "geometry.columns"),
    ],
)
def test_impossible_geometries_are_refused(values, message):
    with pytest.raises(ConfigError, match=message):
        make_config(values)


@pytest.mark.parametrize(
    ("replace", "message"),
    [
        ({"gain = 0.999": "gain = -1.0"}, "gain = -1.0, a positive number was expected"),
        ({"ny = 800": "ny = 500"}, "Echelle order 44 of BENCH leaves the detector"),
        ({"ny = 800": "ny = 1800"}, "does not fit the raw frame"),
        ({"amplifiers = 32": "amplifiers = 31"}, "no multiple of 31 amplifiers"),
        ({"frame_time_s = 5.57192": ""}, "lacks detector.frame_time_s"),
        ({'tables = "spirou_mini"': 'tables = "absent"'}, "absent_wave.csv does not exist"),
        ({"echelle = [76,": "echelle = [75, 76,"}, "no row for fibre AB, echelle order 75"),
        ({'name = "BENCH"': 'name = "OTHER"'}, "describes 'OTHER' but instrument = 'BENCH'"),
        ({'name = "BENCH"': "name = BENCH"}, "is not valid TOML"),
    ],
)
def test_broken_geometry_files_are_refused(tmp_path, replace, message):
    path = user_folder(tmp_path)
    text = path.read_text()
    for old, new in replace.items():
        assert old in text
        text = text.replace(old, new, 1)
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        make_config({"instrument": "BENCH", "geometry": {"file": str(path)}})


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("gain = 0.999", 'gain = "high"', "detector.gain = 'high', a finite number was expected"),
        ("gain = 0.999", "gain = inf", "detector.gain = inf, a finite number"),
        ("raw_rows = 1024", "raw_rows = 1024.5", "detector.raw_rows = 1024.5, a whole number"),
        ("\namplifiers = 32", "\namplifiers = 0", "detector.amplifiers = 0, a positive number"),
        ("dark_amplifiers = 5", "dark_amplifiers = 32", "leaves none of 32 amplifiers for light"),
        ("reference_border = 4", "reference_border = -4", "reference_border = -4, 0 or a positive number"),
        ("reference_border = 4", "reference_border = 480", "leaves no light-sensitive pixel"),
        ("echelle = [76,", "echelle = [76, 76,", "orders.echelle = .* a list of different orders"),
        (
            "echelle = [76,",
            "echelle = []\nother = [76,",
            r"orders.echelle = \[\], a list of",
        ),
        ("opaque = ", "opaque = 1", "orders.opaque = .* one of orders.echelle"),
        ("latitude_deg = ", "latitude_deg = 1", "site.latitude_deg = .* an angle between -90 and 90"),
        ("instrume = ", "instrume = 3 # ", "identify.instrume = 3, a text in quotes"),
        ("[detector]", "detector = 3\n[other]", "lacks detector.raw_rows"),
    ],
)
def test_values_of_a_geometry_are_checked(tmp_path, old, new, message):
    path = user_folder(tmp_path)
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(ConfigError, match=message):
        make_config({"instrument": "BENCH", "geometry": {"file": str(path)}})


@pytest.mark.parametrize(
    ("table", "old", "new", "message"),
    [
        ("wave", "c1_nm", "k1_nm", "spirou_mini_wave.csv has no column c1_nm"),
        ("wave", "c0_nm", "k0_nm", "spirou_mini_wave.csv has no column c0_nm"),
        ("trace", "fibre", "fiber", "spirou_mini_trace.csv has no column fibre"),
        ("orders", "echelle", "order", "spirou_mini_orders.csv has no column echelle"),
        ("orders", "\n76,", "\nseventy,", "spirou_mini_orders.csv: echelle = 'seventy', a finite number"),
        ("orders", "\n76,", "\n76\n", "has no column .* or a row that ends before it"),
    ],
)
def test_broken_order_tables_are_refused(tmp_path, table, old, new, message):
    path = user_folder(tmp_path)
    broken = tmp_path / f"spirou_mini_{table}.csv"
    text = broken.read_text()
    assert old in text
    broken.write_text(text.replace(old, new, 1))
    with pytest.raises(ConfigError, match=message):
        make_config({"instrument": "BENCH", "geometry": {"file": str(path)}})


def test_unreadable_geometry_files_are_refused(tmp_path):
    path = user_folder(tmp_path)
    values = {"instrument": "BENCH", "geometry": {"file": str(path)}}
    (tmp_path / "spirou_mini_wave.csv").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match=r"spirou_mini_wave.csv is not UTF-8"):
        make_config(values)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="is not valid TOML"):
        make_config(values)
