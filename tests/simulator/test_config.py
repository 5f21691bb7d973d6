"""One documented configuration: defaults, round trip, one clear message for every mistake."""

from __future__ import annotations

import dataclasses
import tomllib

import pytest

from apero_dask.simulator.config import SimulatorConfig, document, make_config, read_config
from apero_dask.simulator.settings import ConfigError, document_section, toml_value

PHOTON_SECTIONS = ("geometry", "optics", "cavity", "sources", "scene", "atmosphere", "lines")


def test_document_reads_back():
    config = make_config({"instrument": "SPIROU_MINI", "seed": 5, "optics": {"lsf_fwhm_kms": 5.25}})
    again = make_config(tomllib.loads(document(config)))
    assert again == config
    assert again.digest() == config.digest()
    assert config.digest() != make_config({"instrument": "SPIROU_MINI", "seed": 6}).digest()


def test_every_parameter_is_documented():
    for name, section in SimulatorConfig(instrument="SPIROU_MINI").sections().items():
        for field in dataclasses.fields(section):
            assert field.metadata.get("doc"), f"{name}.{field.name}"
            assert field.metadata.get("origin"), f"{name}.{field.name}"
    text = document(SimulatorConfig(instrument="SPIROU_MINI"))
    assert "# FWHM before pixel integration. [unit km/s; measured]\nlsf_fwhm_kms = 4.8" in text


def test_read_from_file(tmp_path):
    path = tmp_path / "simulator.toml"
    path.write_text('instrument = "SPIROU_MINI"\nseed = 9\n[cavity]\nfinesse = 15\n')
    config = read_config(path)
    assert (config.seed, config.cavity.finesse) == (9, 15.0)


def test_numbers_keep_every_bit():
    for value in (0.1, 1e-9, 1 / 47, 3.0, -0.0, 1e300):
        assert tomllib.loads(f"a = {toml_value(value)}")["a"] == value
    for value in ("plain", 'with "quotes"', "back\\slash", "new\nline"):
        assert tomllib.loads(f"a = {toml_value(value)}")["a"] == value


def test_value_not_set_is_a_comment():
    section = SimulatorConfig(instrument="SPIROU_MINI").geometry
    assert "# file = (not set)" in document_section(section, "geometry")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"optic": {}}, "Unknown key 'optic' in the top level .* did you mean 'optics'"),
        ({"optics": {"tild": True}}, r"Unknown key 'tild' in \[optics\] .* did you mean 'tilt'"),
        ({"optics": {"xyzzy": 1}}, r"Unknown key 'xyzzy' in \[optics\] .* known keys: displacement"),
        ({"optics": 3}, r"\[optics\] is 3, a table was expected"),
        ({"optics": {"tilt": 1}}, "optics.tilt = 1: expected true or false"),
        ({"optics": {"tilt": "yes"}}, "optics.tilt = 'yes': expected true or false"),
        ({"optics": {"lsf_fwhm_kms": "4.8"}}, "optics.lsf_fwhm_kms = '4.8': expected a number"),
        ({"optics": {"lsf_fwhm_kms": True}}, "optics.lsf_fwhm_kms = True: expected a number"),
        ({"optics": {"lsf_fwhm_kms": 0.1}}, "optics.lsf_fwhm_kms = 0.1: expected a number above 0.5 km/s"),
        ({"optics": {"lsf_fwhm_kms": 1e9}}, "expected at most 30 km/s"),
        ({"optics": {"lsf_fwhm_kms": float("nan")}}, "expected a finite number"),
        ({"optics": {"slice_flux": [1, 1, 1]}}, "optics.slice_flux = .* expected a list of 4 values"),
        ({"optics": {"slice_flux": [0, 0, 0, 0]}}, "expected at least one slice with light"),
        ({"optics": {"slice_flux": [1, 1, 1, -1]}}, "optics.slice_flux = -1.0: expected at least 0"),
        ({"optics": {"fibre_wave": "real"}}, "expected one of 'table', 'smooth', 'same'"),
        ({"optics": {"throughput_wave_nm": [2000.0, 1000.0]}}, "expected at least two rising wavelengths"),
        ({"optics": {"throughput_wave_nm": [1000.0, 2000.0]}}, "throughput_relative = .* expected 2 values"),
        ({"cavity": {"finesse": 0.5}}, "cavity.finesse = 0.5: expected a number above 1"),
        ({"sources": {"flat_exposure_s": 0}}, "sources.flat_exposure_s = 0.0: expected a number above 0 s"),
        ({"atmosphere": {"reference_pwv_mm": -2}}, "atmosphere.reference_pwv_mm = -2.0"),
        ({"lines": {"folder": "absent"}}, "lines.folder = 'absent': expected an existing folder"),
        ({"lines": {"blend_strength": [0.5, 0.1]}}, "expected the smaller value first"),
        ({"seed": -1}, "seed = -1: expected a whole number from 0"),
        ({"seed": 1.5}, "seed = 1.5: expected a whole number"),
        ({"instrument": 4}, "instrument = 4: expected a text in quotes"),
    ],
)
def test_one_message_per_mistake(values, message):
    with pytest.raises(ConfigError, match=message) as caught:
        make_config({"instrument": "SPIROU_MINI", **values})
    assert "\n" not in str(caught.value)


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(ConfigError, match="does not exist; give the path"):
        read_config(tmp_path / "absent.toml")
    path = tmp_path / "broken.toml"
    path.write_text("seed = = 3\n")
    with pytest.raises(ConfigError, match="is not valid TOML"):
        read_config(path)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="is not valid TOML"):
        read_config(path)
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        read_config(tmp_path)


def test_folder_without_any_list_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"expected at least one of lines_une\.csv"):
        make_config({"instrument": "SPIROU_MINI", "lines": {"folder": str(tmp_path)}})


@pytest.mark.parametrize("name", PHOTON_SECTIONS)
def test_sections_of_the_light_are_plugged_in(name):
    assert name in SimulatorConfig(instrument="SPIROU_MINI").sections()
