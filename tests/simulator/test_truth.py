"""Truth files agree with the raw frames beside them and with the campaign."""

from __future__ import annotations

import math
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from apero_dask.simulator.archive import StorageError
from apero_dask.simulator.cli import main
from apero_dask.simulator.config import read_config
from apero_dask.simulator.defects import HOT, REFERENCE
from apero_dask.simulator.detector import full_from_raw
from apero_dask.simulator.runner import campaign_of
from apero_dask.simulator.spec import FrameSpec
from apero_dask.simulator.truth import HEADER_CARDS, Truth, read_campaign, read_stars, total_velocity
from tests.simulator.darkroom import READ_NOISE, slope_factor
from tests.simulator.tiny import tiny


@pytest.fixture(scope="module")
def simulated(tmp_path_factory) -> tuple[Path, list[FrameSpec]]:
    """One night with pixels, and its exposures."""
    folder = tmp_path_factory.mktemp("truth")
    out = folder / "out"
    # Slips would have to be undone in every comparison; the pattern driven by hot pixels is tested elsewhere.
    config = tiny(folder, "[detector]\nslip_probability = 0.0\nflux_pattern = false\n")
    assert main(["--config", config, "--nights", "1", "--frames", "1", "--out", str(out)]) == 0
    return out, list(campaign_of(read_config(out / "truth" / "configuration.toml")).frames)


def truth_of(root: Path, spec: FrameSpec) -> Truth:
    return Truth(root / "truth" / spec.obs_dir / f"{spec.identifier}_truth.fits")


def test_configuration_is_stored_completely(simulated):
    root, frames = simulated
    config = read_config(root / "truth" / "configuration.toml")
    assert config.instrument == "SPIROU_MINI"
    assert config.geometry.echelle == (46, 44)
    assert config.campaign.nights == 1
    assert len(frames) == 27


def test_header_holds_the_exposure(simulated):
    root, frames = simulated
    for spec in frames:
        truth = truth_of(root, spec)
        for key, (attribute, _) in HEADER_CARDS.items():
            assert truth.header[key] == getattr(spec, attribute)
        assert truth.affine() == spec.affine
        assert truth.header["TARGET"] == (spec.target.name if spec.target else "")


def test_campaign_table_is_the_list_of_exposures_bit_by_bit(simulated):
    root, frames = simulated
    rows = read_campaign(root)
    assert len(rows) == len(frames)
    for row, spec in zip(rows, frames, strict=True):
        for f in fields(spec):
            if f.name in ("affine", "target", "faults"):
                continue
            assert row[f.name] == getattr(spec, f.name)
        assert row["affine_dx"] == spec.affine.dx
        assert row["faults"] == " ".join(spec.faults)
        assert (root / row["file"]).exists()
        assert row["digest"] == truth_of(root, spec).header["CONFIG"]


def test_star_table_gives_the_true_orbits(simulated):
    root, _ = simulated
    stars = {row["name"]: row for row in read_stars(root)}
    assert set(stars) == {"59Peg", "gamSct", "Gl699"}
    assert stars["Gl699"]["k_ms"] == 150.0
    assert stars["59Peg"]["kind"] == "hot"


def test_total_velocity_multiplies_doppler_factors():
    def doppler(v):
        return math.sqrt((1 + v / 299792.458) / (1 - v / 299792.458))

    total = total_velocity(-110.1, 20.5)
    assert doppler(total) == pytest.approx(doppler(-110.1) / doppler(20.5), rel=1e-14)
    # Plain subtraction is wrong by a fraction of 1 m/s, which a velocity test would see.
    assert abs(total - (-110.1 - 20.5)) > 1e-6


def test_truth_planes_explain_the_raw_frame(simulated):
    """Slope minus expectation, correlated noise and fixed pattern leaves white noise of the known size."""
    root, frames = simulated
    spec = frames[0]
    assert spec.dprtype == "DARK_DARK_INT"
    truth = truth_of(root, spec)
    with fits.open(root / "raw" / spec.obs_dir / f"{spec.identifier}.fits") as units:
        slope = units[1].data.astype(np.float64)
    with fits.open(root / "truth" / "detector.fits") as units:
        detector = {u.name: u.data for u in units[1:]}
    n = 32
    rows, columns = slope.shape
    cube = truth["noise_amplifier"] + truth["noise_common"][:, None, :]
    cube = cube + (detector["PATTERN_SLOPE"] + detector["PATTERN_INTERCEPT"] / spec.exptime_s)[:, None, :]
    cube = np.array([cube[:, a] if a % 2 == 0 else cube[:, a, ::-1] for a in range(n)])
    fixed = cube.transpose(1, 0, 2).reshape(rows, columns)
    residual = slope - truth["expected"] / 0.999 - fixed
    quiet = (detector["CLASSES"] & (255 - REFERENCE)) == 0
    quiet[truth["hits"]["ROW"], truth["hits"]["COLUMN"]] = False
    # Neighbours of hot pixels and hits receive 0.6 % of them.
    for axis in (0, 1):
        quiet &= np.roll(quiet, 1, axis) & np.roll(quiet, -1, axis)
    border = quiet & ((detector["CLASSES"] & REFERENCE) > 0)
    expected = READ_NOISE * slope_factor(spec.nreads)
    sigma = 1.4826 * np.median(np.abs(residual[border] - np.median(residual[border])))
    # About 2000 reference pixels: 5 x 1.17 / sqrt(N).
    assert sigma == pytest.approx(expected, rel=5 * 1.17 / np.sqrt(border.sum()))
    assert (truth["expected"][(detector["CLASSES"] & HOT) > 0] >= 5.0 * 0.999 * (1 - 1e-6)).all()


def test_light_and_expectation_agree_through_the_detector(simulated):
    root, frames = simulated
    spec = next(s for s in frames if s.dprtype == "FLAT_FLAT")
    truth = truth_of(root, spec)
    with fits.open(root / "truth" / "detector.fits") as units:
        response, dark = units["RESPONSE"].data, units["DARK"].data
        telegraph = units["TELEGRAPH"].data["INDEX"]
    expected = full_from_raw(truth["expected"])
    model = (truth["light"] + 0.015) * full_from_raw(response) + full_from_raw(dark)
    steady = np.ones(response.size, bool)
    steady[telegraph] = False
    steady = full_from_raw(steady.reshape(response.shape))
    # Products of float32 numbers.
    assert np.allclose(expected[steady], model[steady], rtol=1e-6, atol=1e-6)


def test_spectra_sum_to_the_painted_light(simulated):
    root, frames = simulated
    for kind in ("FLAT_FLAT", "FP_FP", "OBJ_FP"):
        spec = next(s for s in frames if s.dprtype == kind)
        truth = truth_of(root, spec)
        painted = sum(v.sum(dtype=np.float64) for k, v in truth.items() if k.startswith("spectra_"))
        light = truth["light"].sum(dtype=np.float64) * spec.exptime_s
        # Scattered light, the orders at the edges and tails outside the window: a few per cent.
        assert light == pytest.approx(painted, rel=0.1)
        assert truth["wave_nm"].shape[:2] == (3, 2)
        assert truth["wave_nm"].dtype == np.float64
        assert (np.diff(truth["wave_nm"], axis=2) > 0).all()


def test_missing_planes_and_files_are_named(simulated, tmp_path):
    root, frames = simulated
    truth = truth_of(root, frames[0])
    with pytest.raises(KeyError, match=r"holds no 'sun'; it holds .*expected"):
        truth["sun"]
    assert "expected" in truth
    assert len(list(truth)) == len(truth)
    with pytest.raises(StorageError, match=r"Cannot read the truth file .*nothing\.fits"):
        Truth(tmp_path / "nothing.fits")
    with pytest.raises(StorageError, match="is it the folder of a simulation"):
        read_campaign(tmp_path)
