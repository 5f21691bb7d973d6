"""Blaze, throughput and line spread, measured in painted light."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import erf

from apero_dask.simulator.optics import OpticsConfig, throughput
from apero_dask.simulator.paint import paint
from tests.simulator import photons

MINI = "SPIROU_MINI"


def flat(echelle, instrument=MINI, **optics):
    config = photons.plain(instrument, geometry=photons.strip(echelle, instrument), optics=optics)
    painted = paint(config, photons.spec("DARK_FLAT"))
    columns = painted.truth.wave_nm.shape[-1]
    return photons.cal_image(painted.rate)[:, :columns].sum(axis=0), painted.truth


@pytest.mark.parametrize("echelle", [79, 46, 31])
def test_blaze_of_the_real_instrument(echelle):
    """sinc^2(m - K / lambda), painted over unblazed flat light."""
    shaped, truth = flat(echelle, "SPIROU", blaze=True, blaze_scatter_nm=0.0)
    level, _ = flat(echelle, "SPIROU")
    wave = photons.table_wave("SPIROU", "C", echelle, np.arange(4088))
    expected = np.sinc(echelle - 76900.0 / wave) ** 2
    # Order 79 leaves the frame at small x.
    inside = np.flatnonzero(level > 0.99 * np.median(level))[10:-10]
    assert len(inside) > 2000
    # The free spectral range of the table is rounded to 1 px of 1656 or more, and defined with AB.
    np.testing.assert_allclose(shaped[inside] / level[inside], expected[inside], atol=2e-3)
    np.testing.assert_allclose(truth.blaze[2, 0], expected, atol=2e-3)
    if echelle == 79:
        # The blaze reaches zero inside the detector, one free spectral range from its centre.
        assert (shaped[inside] / level[inside]).min() < 1e-4


def test_blaze_of_the_small_instrument_has_its_own_free_spectral_range():
    for row in photons.table(MINI, "orders")[::4]:
        echelle, fsr = int(row["echelle"]), float(row["fsr_px"])
        shaped, _ = flat(echelle, blaze=True, blaze_scatter_nm=0.0)
        level, _ = flat(echelle)
        found = (shaped / level)[5:-5]
        # Half maximum of sinc^2 is at 0.4429 free spectral ranges on each side.
        above = np.flatnonzero(found > 0.5 * found.max())
        if above[0] > 0 and above[-1] < len(found) - 1:
            assert (above[-1] - above[0]) == pytest.approx(2 * 0.44295 * fsr, rel=0.03)


def test_blaze_constant_is_scattered_between_orders():
    config = photons.plain("SPIROU", optics={"blaze": True})
    from apero_dask.simulator.spec import Affine
    from apero_dask.simulator.spectra import epoch

    found = epoch(config.optics, 1, "SPIROU", config.geometry, Affine())
    peak = np.argmax(found.blaze[0], axis=1)
    wave = found.maps.wave[0, np.arange(49), peak]
    constant = wave * found.maps.echelle
    # The maximum is read to half a column, which is 0.3 nm of echelle number times wavelength.
    assert np.abs(constant - 76900).max() < 62
    assert constant.std() > 20


def test_throughput_passes_the_configured_points():
    config = OpticsConfig()
    np.testing.assert_allclose(
        throughput(config, np.array([970.0, 1600.0, 2300.0, 2500.0])), [0.35, 1.0, 0.8, 0.4], rtol=1e-12
    )
    assert (throughput(config, np.linspace(900, 2700, 400)) > 0).all()
    assert (throughput(OpticsConfig(throughput=False), np.array([970.0])) == 1).all()
    with_it, truth = flat(34, throughput=True)
    without, _ = flat(34)
    at_1600, _ = flat(48, throughput=True)
    assert at_1600.max() > 0
    ratio = (with_it / without)[508]
    assert ratio == pytest.approx(throughput(config, truth.wave_nm[2, 0, 508]), rel=1e-4)


def lines(tmp_path, echelle, columns, **optics):
    waves = photons.table_wave(MINI, "C", echelle, columns)
    folder = photons.lamp_folder(tmp_path / f"lists{echelle}", waves)
    config = photons.plain(
        MINI, geometry=photons.strip(echelle, MINI), optics=optics, lines={"folder": str(folder)}
    )
    painted = paint(config, photons.spec("DARK_HCONE"))
    return photons.cal_image(painted.rate).sum(axis=0), painted.truth, waves


def moments(spectrum, x, half=14):
    window = np.arange(round(x) - half, round(x) + half + 1)
    flux = spectrum[window] / spectrum[window].sum()
    mean = (flux * window).sum()
    variance = (flux * (window - mean) ** 2).sum()
    return mean, variance, (flux * (window - mean) ** 3).sum() / variance**1.5


def kms_per_column(echelle, x):
    ends = photons.table_wave(MINI, "C", echelle, np.array([x - 0.5, x + 0.5]))
    return np.diff(ends)[0] / ends.mean() * photons.C_KMS


@pytest.mark.parametrize("echelle", [31, 76])
def test_variance_of_lines(tmp_path, echelle):
    columns = np.array([100.2, 500.5, 900.8])
    spectrum, _, _ = lines(tmp_path, echelle, columns)
    for x in columns:
        _, variance, skewness = moments(spectrum, x)
        stated = (4.8**2 + 0.9**2) / (8 * np.log(2)) / kms_per_column(echelle, x) ** 2 + 1 / 12
        # Wings cut at 5.7 standard deviations: 1e-6; dispersion changes by 1e-4 within the line.
        assert variance == pytest.approx(stated, rel=2e-3)
        assert abs(skewness) < 2e-3


def test_exponent_of_the_line_spread(tmp_path):
    spectrum, _, _ = lines(tmp_path, 46, np.array([500.0]), lsf_exponent=2.2, lsf_fwhm_kms=4.3)
    _, variance, _ = moments(spectrum, 500.0)
    v = np.linspace(-30, 30, 60001)
    scale = 4.3 / 2 / (2 * np.log(2)) ** (1 / 2.2)
    shape = np.exp(-0.5 * np.abs(v / scale) ** 2.2)
    stated = (shape * v**2).sum() / shape.sum() + 0.9**2 / (8 * np.log(2))
    stated = stated / kms_per_column(46, 500.0) ** 2 + 1 / 12
    assert variance == pytest.approx(stated, rel=2e-3)


def test_width_varies_smoothly_within_the_bound(tmp_path):
    columns = np.linspace(50, 960, 15)
    spectrum, truth, _ = lines(tmp_path, 46, columns, lsf_variation=True)
    plain, _, _ = lines(tmp_path, 48, columns)
    ratio = []
    for x in columns:
        _, variance, _ = moments(spectrum, x)
        ratio.append(np.sqrt(variance - 1 / 12 - 0.9**2 / (8 * np.log(2)) / kms_per_column(46, x) ** 2))
        ratio[-1] *= kms_per_column(46, x) / (4.8 * photons.SIGMA_PER_FWHM)
    ratio = np.array(ratio)
    assert np.abs(ratio - 1).max() <= 0.081
    assert np.ptp(ratio) > 0.03
    at = np.rint(columns).astype(int)
    stated = truth.lsf_fwhm_px[2, 0, at] * np.array([kms_per_column(46, x) for x in at]) / 4.8
    np.testing.assert_allclose(ratio, stated, rtol=3e-3)
    assert plain.sum() > 0


def test_skewed_line_spread(tmp_path):
    spectrum, _, _ = lines(tmp_path, 46, np.array([500.0]), lsf_skew=True, lsf_skew_amplitude=0.03)
    _, _, skewness = moments(spectrum, 500.0)
    # Third Gauss-Hermite moment h3: skewness near 4 sqrt(3) h3 (van der Marel & Franx 1993, eq. 18), diluted
    # by pixel and intrinsic width (variance 0.70 + 0.08 + 0.03: factor 0.81).
    assert skewness == pytest.approx(4 * np.sqrt(3) * 0.03 * 0.81, rel=0.15)


def test_without_line_spread_lines_are_as_narrow_as_the_lamp(tmp_path):
    spectrum, _, _ = lines(tmp_path, 46, np.array([500.0]), lsf=False)
    # The share of a Gaussian of 0.9 km/s in the column on which it is centred.
    sigma = 0.9 * photons.SIGMA_PER_FWHM / kms_per_column(46, 500.0)
    assert spectrum[500] / spectrum.sum() == pytest.approx(erf(0.5 / np.sqrt(2) / sigma), abs=1e-3)
