"""Line lists: packaged ones, those of a user, errors of the lamp catalogue."""

from __future__ import annotations

import os
from importlib import resources
from pathlib import Path

import numpy as np
import pytest

from apero_dask.simulator.lines import LinesConfig, lamp_lines, lamp_list, sky_list, star_list, telluric_list
from apero_dask.simulator.settings import ConfigError
from apero_dask.tables import derive_lines

REAL = os.environ.get("APERO_DASK_LINE_LISTS", "")
"""Folder with real lists: spirou_une_lines.csv, spirou_telluric_lines.csv, spirou_mdwarf_lines.csv."""


def test_packaged_lists_are_what_the_script_makes():
    for name, text in derive_lines.derive().items():
        assert resources.files("apero_dask.tables").joinpath(name).read_text(encoding="utf-8") == text, name


def test_built_in_lists_are_usable():
    for read in (lamp_list, telluric_list, star_list, sky_list):
        lines = read(None)
        assert lines.origin == "built-in"
        assert (np.diff(lines.wave) >= 0).all()
        assert np.isfinite(lines.strength).all()
    assert set(telluric_list(None).group) == {"h2o", "dry"}
    depth = star_list(None).strength
    assert depth.min() >= 0.02
    assert depth.max() <= 0.45


def test_statistics_of_the_built_in_lists():
    """Densities and distributions of real lists: numbers, percentiles, fractions."""
    lamp = lamp_list(None)
    assert len(lamp.wave) == pytest.approx(2197, rel=0.03)
    low, middle, high = np.percentile(lamp.strength, [1, 50, 99])
    # 1 %, median and 99 % of the real catalogue; lines beyond the range of the orders are left out.
    assert np.log10(low) == pytest.approx(np.log10(1.2e3), abs=0.15)
    assert np.log10(middle) == pytest.approx(np.log10(1.7e4), abs=0.08)
    assert np.log10(high) == pytest.approx(np.log10(6e6), abs=0.15)
    star = star_list(None)
    assert len(star.wave) == pytest.approx(12371, rel=0.02)
    assert (star.group == "1").mean() == pytest.approx(0.70, abs=0.02)
    assert np.median(star.strength) == pytest.approx(0.075, rel=0.1)
    rows = resources.files("apero_dask.tables").joinpath("lines_telluric.csv").read_text().splitlines()[2:]
    groups = [row.split(",")[0] for row in rows]
    assert groups.count("h2o") == pytest.approx(3412, rel=0.01)
    assert groups.count("dry") == pytest.approx(3136, rel=0.01)
    sky = sky_list(None)
    assert len(sky.wave) == 300
    assert sky.wave.min() > 960
    assert sky.wave.max() < 2330


@pytest.mark.skipif(not REAL, reason="real line lists: name their folder in APERO_DASK_LINE_LISTS")
def test_built_in_lists_resemble_real_ones(tmp_path):
    for source, name in (("une", "une"), ("telluric", "telluric"), ("mdwarf", "mdwarf")):
        text = (Path(REAL) / f"spirou_{source}_lines.csv").read_text()
        (tmp_path / f"lines_{name}.csv").write_text(text)
    for read in (lamp_list, star_list):
        real, ours = read(str(tmp_path)), read(None)
        assert len(ours.wave) == pytest.approx(len(real.wave), rel=0.03)
        edges = np.arange(950, 2551, 100)
        counts = np.histogram(real.wave, edges)[0]
        difference = np.histogram(ours.wave, edges)[0] - counts
        # Lines near the ends of the range are left out.
        assert np.abs(difference).max() < 0.2 * counts.max()
        quantile = np.percentile(ours.strength, [25, 50, 75]) / np.percentile(real.strength, [25, 50, 75])
        np.testing.assert_allclose(quantile, 1, atol=0.2)
    real, ours = telluric_list(str(tmp_path)), telluric_list(None)
    assert np.count_nonzero(real.group == "dry") == np.count_nonzero(ours.group == "dry")


def test_list_of_a_user_replaces_the_built_in_one(tmp_path):
    (tmp_path / "lines_une.csv").write_text("# mine\nwave_vac_nm,strength\n1500.5,2e4\n1400.25,1e4\n")
    found = lamp_list(str(tmp_path))
    np.testing.assert_array_equal(found.wave, [1400.25, 1500.5])
    np.testing.assert_array_equal(found.strength, [1e4, 2e4])
    assert found.origin.endswith("lines_une.csv")
    assert star_list(str(tmp_path)).origin == "built-in"


def test_telluric_list_without_opaque_bands_gets_the_built_in_ones(tmp_path):
    text = "group,wave_vac_nm,weight\nh2o,1100,0.01\nothers,1600,0.02\n"
    (tmp_path / "lines_telluric.csv").write_text(text)
    found = telluric_list(str(tmp_path))
    assert np.count_nonzero(found.group == "dry") == 1
    assert np.count_nonzero(found.group == "h2o") == 1 + derive_lines.OPAQUE_LINES


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("lines_une.csv", "wave,strength\n1500,1\n", "columns wave_vac_nm, strength"),
        ("lines_une.csv", "wave_vac_nm,strength\n", "at least one row"),
        ("lines_une.csv", "wave_vac_nm,strength\n1500,big\n", "big"),
        ("lines_une.csv", "wave_vac_nm,strength\n1500,-3\n", "must be positive and strength at least 0"),
        ("lines_une.csv", "wave_vac_nm,strength\n1500\n", "columns wave_vac_nm, strength"),
    ],
)
def test_broken_lists_are_refused(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(ConfigError, match=message):
        lamp_list(str(tmp_path))


def test_unknown_group_is_refused(tmp_path):
    (tmp_path / "lines_telluric.csv").write_text("group,wave_vac_nm,weight\nozone,1100,0.01\n")
    with pytest.raises(ConfigError, match="group 'ozone', expected h2o"):
        telluric_list(str(tmp_path))


def test_errors_of_the_catalogue():
    """30 m/s rms, 3 per cent wrong by up to 300 m/s, 3 per cent with a companion that the catalogue lacks."""
    lamp = lamp_lines(LinesConfig(), 3)
    listed = np.isfinite(lamp.catalogue)
    count = np.count_nonzero(listed)
    velocity = (lamp.wave[listed] / lamp.catalogue[listed] - 1) * 299792458.0
    assert np.abs(velocity).max() <= 300.0
    centre, low, high = np.percentile(velocity, [50, 15.87, 84.13])
    # 2150 lines: rms to 1.5 per cent, centre to 0.65 m/s; four times that; the wrong ones widen it slightly.
    assert abs(centre) < 2.6
    assert (high - low) / 2 == pytest.approx(30.0, rel=0.08)
    wrong = np.abs(velocity) > 130
    # Wrong lines are uniform in 90..300 m/s: 81 per cent of them beyond 130; binomial scatter 0.4 per cent.
    assert wrong.mean() == pytest.approx(0.03 * 0.81, abs=0.012)
    companions = np.count_nonzero(~listed)
    assert companions / count == pytest.approx(0.03, abs=0.012)
    assert np.count_nonzero(lamp.blended) == 2 * companions
    assert (np.diff(lamp.wave) >= 0).all()


def test_errors_depend_on_the_seed_and_can_be_off():
    a, b = lamp_lines(LinesConfig(), 1), lamp_lines(LinesConfig(), 2)
    assert len(a.wave) != len(b.wave) or (a.wave != b.wave).any()
    exact = lamp_lines(LinesConfig(catalogue_errors=False, blends=False), 1)
    np.testing.assert_array_equal(exact.wave, exact.catalogue)
    assert not exact.blended.any()
