"""Stars: Doppler shift, lines, flux, beams, polarisation."""

from __future__ import annotations

from decimal import Decimal, getcontext

import numpy as np
import pytest

from apero_dask.simulator.paint import paint
from apero_dask.simulator.scene import observed_factor
from apero_dask.simulator.spec import Target
from tests.simulator import photons

MINI = "SPIROU_MINI"


def star_folder(tmp_path, rest_waves, depths, clean=None):
    folder = tmp_path / "stars"
    folder.mkdir()
    clean = clean if clean is not None else [1] * len(rest_waves)
    rows = [f"{w:.9f},{d},{c}" for w, d, c in zip(rest_waves, depths, clean, strict=True)]
    (folder / "lines_mdwarf.csv").write_text("wave_vac_nm,depth,clean\n" + "\n".join(rows) + "\n")
    return folder


def star(folder=None, frame=None, echelle=46, dprtype="OBJ_DARK", **sections):
    lines = {"folder": str(folder)} if folder else {}
    config = photons.plain(MINI, geometry=photons.strip(echelle, MINI), lines=lines, **sections)
    return paint(config, photons.spec(dprtype, exptime_s=300.0, **(frame or {})))


@pytest.mark.parametrize(("rv", "berv"), [(-110.1, 0.0), (-110.1, 25.3), (0.0, -29.9), (35.0, 12.0)])
def test_doppler_factor_in_forty_digits(rv, berv):
    getcontext().prec = 40
    c = Decimal("299792.458")

    def factor(v):
        beta = Decimal(str(v)) / c
        return ((1 + beta) / (1 - beta)).sqrt()

    assert observed_factor(rv, berv) == pytest.approx(float(factor(rv) / factor(berv)), rel=1e-15)


@pytest.mark.parametrize(("rv", "berv"), [(-110.1, 0.0), (-110.1, 25.3), (20.0, -29.0)])
def test_lines_are_painted_at_the_exact_doppler_shift(tmp_path, rv, berv):
    """Centroids of stellar lines in the image; the classical 1 + v/c would be 20 m/s off at -110 km/s."""
    columns = np.linspace(80, 930, 18) + np.linspace(0, 1, 18)
    observed = photons.table_wave(MINI, "A", 46, columns)
    b, v = berv / photons.C_KMS, rv / photons.C_KMS
    factor = np.sqrt((1 + v) / (1 - v)) / np.sqrt((1 + b) / (1 - b))
    folder = star_folder(tmp_path, observed / factor, [0.3] * 18)
    frame = {"rv_kms": rv, "berv_kms": berv}
    with_lines = star(folder, frame, scene={"doppler": True})
    without = star(folder, frame, scene={"doppler": True, "star_lines": False})
    # Compared: the spectrum of A in the truth, and A's rows in the image.
    truth = with_lines.truth
    assert truth.star_factor == pytest.approx(factor, rel=1e-14)
    depth = 1 - truth.spectra["star"][0, 0] / without.truth.spectra["star"][0, 0]
    found = photons.centroids(depth, columns)
    ms_per_column = 2.28e3
    np.testing.assert_allclose(found, columns, atol=1e-3)
    assert abs((found - columns).mean()) * ms_per_column < 1.0
    rows = np.rint(truth.trace_px[0, 0]).astype(int)
    image, bare = photons.cal_image(with_lines.rate), photons.cal_image(without.rate)
    x = np.arange(1016)
    window = rows[None, :] + np.arange(-5, 6)[:, None]
    depth = 1 - image[window, x].sum(axis=0) / bare[window, x].sum(axis=0)
    np.testing.assert_allclose(photons.centroids(depth, columns), columns, atol=2e-3)


def test_depth_after_line_spread_is_that_of_the_list(tmp_path):
    columns = np.linspace(100, 900, 9)
    rest = photons.table_wave(MINI, "A", 46, columns)
    depths = np.linspace(0.02, 0.45, 9)
    folder = star_folder(tmp_path, rest, depths)
    lines = star(folder).truth.spectra["star"][0, 0]
    bare = star(folder, scene={"star_lines": False}).truth.spectra["star"][0, 0]
    found = 1 - (lines / bare)[np.rint(columns).astype(int)]
    # Integration over a pixel lowers the peak of a line 2.6 px wide by 2 to 3 per cent.
    np.testing.assert_allclose(found, depths, rtol=0.04)


def test_rotation_widens_lines_and_keeps_their_area(tmp_path):
    columns = np.array([500.0])
    folder = star_folder(tmp_path, photons.table_wave(MINI, "A", 46, columns), [0.3])
    bare = star(folder, scene={"star_lines": False}).truth.spectra["star"][0, 0]
    areas, variances = [], []
    for vsini in (0.0, 6.0):
        frame = {"target": Target(name="s", kind="mdwarf", vsini_kms=vsini)}
        depth = 1 - star(folder, frame).truth.spectra["star"][0, 0] / bare
        x = np.arange(470, 531)
        areas.append(depth[x].sum())
        variances.append((depth[x] * (x - 500) ** 2).sum() / depth[x].sum())
    assert areas[1] == pytest.approx(areas[0], rel=1e-3)
    added = (1.6 * 6.0 * photons.SIGMA_PER_FWHM / 2.28) ** 2
    assert variances[1] - variances[0] == pytest.approx(added, rel=0.03)


def test_clean_lines_only(tmp_path):
    columns = np.array([300.0, 600.0])
    folder = star_folder(tmp_path, photons.table_wave(MINI, "A", 46, columns), [0.3, 0.3], [1, 0])
    bare = star(folder, scene={"star_lines": False}).truth.spectra["star"][0, 0]
    depth = 1 - star(folder, scene={"clean_lines_only": True}).truth.spectra["star"][0, 0] / bare
    assert depth[300] > 0.25
    assert abs(depth[600]) < 1e-6


@pytest.mark.parametrize("snr", [50.0, 150.0])
def test_flux_of_a_target_is_the_square_of_its_snr(snr):
    """A plus B, continuum in the middle of the order with the telluric S/N role, blaze included."""
    frame = {"target": Target(name="s", kind="mdwarf", snr=snr)}
    truth = star(None, frame, scene={"star_lines": False}, optics={"blaze": True, "throughput": True}).truth
    ab = truth.spectra["star"][:2, 0].sum(axis=0)
    # B and A see the middle wavelength within a fraction of a pixel of column 508.
    assert ab[508] == pytest.approx(snr**2, rel=1e-3)
    assert not truth.spectra["star"][2].any()


def test_colour_of_a_target():
    """Continuum ratio between 1670 and 2270 nm is that of black bodies of both temperatures."""
    for kelvin, kind in ((3300.0, "mdwarf"), (12000.0, "hot")):
        frame = {"target": Target(name="s", kind=kind, teff_k=kelvin)}
        config = photons.plain(MINI, scene={"star_lines": False}, geometry={"echelle": [46, 34]})
        truth = paint(config, photons.spec("OBJ_DARK", **frame)).truth
        flux, wave = truth.spectra["star"][0, :, 508], truth.wave_nm[0, :, 508]
        x = 1.438776877e7 / kelvin
        stated = (wave[1] / wave[0]) ** 4 * np.expm1(x / wave[1]) / np.expm1(x / wave[0])
        assert flux[0] / flux[1] == pytest.approx(stated, rel=1e-5)


def test_molecular_bands_are_smooth_and_moderate():
    with_bands = star(None, scene={"molecular_bands": True, "star_lines": False}, echelle=50)
    without = star(None, scene={"star_lines": False}, echelle=50)
    ratio = with_bands.truth.spectra["star"][0, 0] / without.truth.spectra["star"][0, 0]
    assert 0.5 < ratio.min() < ratio.max() < 2.0
    assert np.abs(np.diff(ratio)).max() < 1e-3


def test_ratio_of_the_beams():
    config = photons.plain(
        MINI,
        geometry=photons.strip(46, MINI),
        scene={"star_lines": False, "beam_ratio": 0.95, "beam_ratio_rms": 0.03},
    )
    ratios = []
    for index in range(24):
        truth = paint(config, photons.spec("OBJ_DARK", index=index)).truth
        a, b = truth.spectra["star"][:2, 0, 508]
        assert a / b == pytest.approx(truth.beam_shares[0] / truth.beam_shares[1], rel=2e-3)
        ratios.append(a / b)
    # 24 draws: mean to 0.03 / sqrt(24) = 0.006, rms to 14 per cent; three times that.
    assert np.mean(ratios) == pytest.approx(0.95, abs=0.02)
    assert np.std(ratios) == pytest.approx(0.03, rel=0.45)


def test_polarisation_moves_the_beams_apart(tmp_path):
    """Beams at plus and minus 2 km/s; the sense alternates + - - + over the four positions."""
    columns = np.linspace(100, 900, 12)
    rest = photons.table_wave(MINI, "A", 46, columns)
    folder = star_folder(tmp_path, rest, [0.3] * 12)
    signs = []
    for position in (1, 2, 3, 4):
        velocities = []
        for fibre in (0, 1):
            frame = {"polar_position": position}
            found = star(folder, frame, dprtype="POLAR_DARK", scene={"polarisation_ms": 2000.0},
                         optics={"fibre_wave": "same"})  # fmt: skip
            bare = star(folder, frame, dprtype="POLAR_DARK", scene={"star_lines": False},
                        optics={"fibre_wave": "same"})  # fmt: skip
            depth = 1 - found.truth.spectra["star"][fibre, 0] / bare.truth.spectra["star"][fibre, 0]
            velocity = (photons.centroids(depth, columns) - columns) * 2.28
            velocities.append(velocity.mean())
            assert found.truth.polarisation_ms[fibre] == pytest.approx(
                1e3 * velocity.mean(), rel=0.02, abs=60
            )
        middle = np.mean(velocities)
        assert abs(velocities[0] - velocities[1]) == pytest.approx(4.0, rel=0.03)
        signs.append(np.sign(velocities[0] - middle))
    assert signs == [1, -1, -1, 1]
    off = star(folder, {"polar_position": 1}, dprtype="POLAR_DARK", scene={"polarimetry": False})
    assert off.truth.polarisation_ms == (0.0, 0.0)


def test_ordinary_frames_are_not_polarised():
    assert star(None, {"polar_position": 0}, dprtype="OBJ_FP").truth.polarisation_ms == (0.0, 0.0)


def test_hot_star_has_broad_hydrogen_lines_only():
    """Brackett 10 (10 to 4) at 1737 nm lies in order 44."""
    target = Target(name="h", kind="hot", teff_k=11000.0, vsini_kms=200.0, spectrum_seed=5)
    config = photons.plain("SPIROU", geometry=photons.strip(44))
    truth = paint(config, photons.spec("OBJ_DARK", target=target)).truth
    bare = paint(
        photons.plain("SPIROU", geometry=photons.strip(44), scene={"star_lines": False}),
        photons.spec("OBJ_DARK", target=target),
    ).truth
    ratio = truth.spectra["star"][0, 0] / bare.spectra["star"][0, 0]
    wave = truth.wave_nm[0, 0]
    bracket_10 = 1 / (1.0967758e-2 * (1 / 16 - 1 / 100))  # hydrogen Rydberg constant per nm
    assert wave[np.argmin(ratio)] == pytest.approx(bracket_10, abs=0.15)
    width = (ratio < 1 - 0.5 * (1 - ratio.min())).sum() * 2.28
    assert 300 < width < 900
    # Nothing sharp: neighbouring columns differ by less than a half-depth over a quarter of the width.
    assert np.abs(np.diff(ratio)).max() < 5e-3


def test_star_can_be_switched_off():
    truth = star(None, scene={"star": False}).truth
    assert "star" not in truth.spectra
    assert truth.star_clean is None
