"""Telluric absorption, sky lines, thermal sky, excess emission of the telescope."""

from __future__ import annotations

import numpy as np
import pytest

from apero_dask.simulator.atmosphere import AtmosphereConfig, band_factors, optical_depths, transmission
from apero_dask.simulator.lines import LinesConfig
from apero_dask.simulator.paint import paint
from tests.simulator import photons

MINI = "SPIROU_MINI"


def depths(wave, wind=0.0, **settings):
    return optical_depths(AtmosphereConfig(**settings), LinesConfig(), wave, wind)


def fine_grid(low, high, step_kms=0.2):
    return low * np.exp(
        np.arange(0, np.log(high / low) * photons.C_KMS / step_kms) * step_kms / photons.C_KMS
    )


def atmosphere_folder(tmp_path, rows):
    folder = tmp_path / "air"
    folder.mkdir()
    (folder / "lines_telluric.csv").write_text("group,wave_vac_nm,weight\n" + "\n".join(rows) + "\n")
    return folder


def test_profile_of_one_line(tmp_path):
    """Lorentzian of 60 times the weight, half width 1.5 km/s at 1 um growing as wavelength."""
    folder = atmosphere_folder(tmp_path, ["h2o,1600.0,0.02", "others,1605.0,0.01"])
    wave = fine_grid(1598.0, 1607.0, 0.05)
    water, dry = optical_depths(AtmosphereConfig(), LinesConfig(folder=str(folder)), wave, 0.0)
    for depth, centre, scale in ((water, 1600.0, 60 * 0.02), (dry, 1605.0, 40 * 0.01)):
        v = (wave / centre - 1) * photons.C_KMS
        stated = scale / (1 + (v / (1.5 * centre / 1000)) ** 2)
        near = np.abs(v) < 60
        # The wing is lowered to end at 300 km/s: (2.4 / 300)^2 = 6.4e-5 of the centre.
        np.testing.assert_allclose(depth[near], stated[near], atol=1e-4 * scale)
        assert depth[np.abs(v) > 300].max() == 0


def test_two_exponents():
    """Transmission is a power law in both columns: water with PWV times airmass, dry with airmass."""
    wave = fine_grid(1130.0, 1140.0)
    both = depths(wave)
    config = AtmosphereConfig()
    base = transmission(config, both, 2.0, 1.0)
    water = np.exp(-both[0])
    dry = np.exp(-both[1])
    np.testing.assert_allclose(base, water * dry, rtol=1e-12)
    for pwv, airmass in ((0.5, 1.0), (8.0, 1.3), (2.0, 2.2)):
        found = transmission(config, both, pwv, airmass)
        np.testing.assert_allclose(found, water ** (airmass * pwv / 2) * dry**airmass, rtol=1e-9)
    assert not depths(wave, water=False)[0].any()
    assert not depths(wave, dry=False)[1].any()


def test_water_bands_are_opaque_and_windows_are_clear():
    for low, high in ((1360.0, 1400.0), (1840.0, 1900.0)):
        wave = fine_grid(low, high)
        assert np.median(transmission(AtmosphereConfig(), depths(wave), 2.0, 1.0)) < 0.05
    for low, high in ((1040.0, 1060.0), (1620.0, 1640.0), (2120.0, 2140.0)):
        wave = fine_grid(low, high)
        assert np.median(transmission(AtmosphereConfig(), depths(wave), 2.0, 1.0)) > 0.9


@pytest.mark.parametrize("instrument", ["SPIROU", MINI])
def test_last_order_has_opaque_pixels(instrument):
    """The thermal correction needs pixels of echelle order 31 with transmission below 0.01, below 2500 nm."""
    config = photons.plain(
        instrument, geometry=photons.strip(31, instrument), atmosphere={"water": True, "dry": True}
    )
    truth = paint(config, photons.spec("OBJ_DARK", pwv_mm=2.0, airmass=1.0)).truth
    dark = (truth.transmission[0, 0] < 0.01) & (truth.wave_nm[0, 0] < 2500)
    assert np.count_nonzero(dark) >= 50


def test_product_is_convolved_not_the_factors(tmp_path):
    """A stellar line beside a telluric one, against a direct convolution of the product."""
    x_star, x_air = 500.2, 501.1
    wave_star, wave_air = photons.table_wave(MINI, "A", 48, np.array([x_star, x_air]))
    folder = atmosphere_folder(tmp_path, [f"h2o,{wave_air:.9f},0.05"])
    (folder / "lines_mdwarf.csv").write_text(f"wave_vac_nm,depth,clean\n{wave_star:.9f},0.4,1\n")

    def painted(**sections):
        config = photons.plain(
            MINI,
            geometry=photons.strip(48, MINI),
            atmosphere={"water": True},
            lines={"folder": str(folder)},
            **sections,
        )
        return paint(config, photons.spec("OBJ_DARK", pwv_mm=2.0, airmass=1.0)).truth

    truth = painted()
    bare = painted(scene={"star_lines": False})
    found = truth.spectra["star"][0, 0] / bare.star_clean[0, 0]

    x = np.arange(440, 560, 0.01)
    ends = photons.table_wave(MINI, "A", 48, np.array([500.0, 501.0]))
    kms = np.diff(ends)[0] / ends.mean() * photons.C_KMS
    gauss = np.exp(-4 * np.log(2) * ((x - x_star) * kms / 3.5) ** 2)
    star = 1 - 0.4 * np.hypot(3.5, 4.8) / 3.5 * gauss
    air = np.exp(-60 * 0.05 / (1 + ((x - x_air) * kms / (1.5 * wave_air / 1000)) ** 2))
    offset = np.arange(-8, 8.005, 0.01)
    spread = np.exp(-4 * np.log(2) * (offset * kms / 4.8) ** 2)
    spread /= spread.sum()
    box = np.r_[0.5, np.ones(99), 0.5] / 100

    def seen(spectrum):
        return np.convolve(np.convolve(spectrum, spread, "same"), box, "same")

    at = np.searchsorted(x, np.arange(490, 512) - 1e-6)
    product, factors = seen(star * air)[at], (seen(star) * seen(air))[at]
    # Dispersion 2.28 km/s per column changes by 1e-4 per column; the band lines of the built-in list are
    # elsewhere, wings end at 300 km/s.
    np.testing.assert_allclose(found[490:512], product, atol=1e-3)
    assert np.abs(product - factors).max() > 0.02


def test_exponents_in_painted_light():
    """Unresolved continuum absorption scales with PWV and airmass when nothing is convolved."""

    def seen(pwv, airmass, echelle=48, **atmosphere):
        config = photons.plain(
            MINI,
            geometry=photons.strip(echelle, MINI),
            optics={"lsf": False},
            scene={"star_lines": False},
            atmosphere=atmosphere,
        )
        painted = paint(config, photons.spec("OBJ_DARK", pwv_mm=pwv, airmass=airmass))
        truth = painted.truth
        y = np.rint(truth.trace_px[0, 0]).astype(int)
        window = y[None, :] + np.arange(-6, 7)[:, None]
        return photons.cal_image(painted.rate)[window, np.arange(1016)].sum(axis=0)

    clear = seen(2.0, 1.0)
    weak = seen(2.0, 1.0, dry=True)
    tau = -np.log(weak / clear)
    pick = (tau > 0.02) & (tau < 0.2)
    assert pick.sum() > 20
    heavier = -np.log(seen(2.0, 2.0, dry=True) / clear)
    # Absorption inside a pixel is not uniform: the mean of exp(-2 tau) is a little above exp of the mean.
    np.testing.assert_allclose(np.median(heavier[pick] / tau[pick]), 2.0, rtol=0.03)
    # Dry absorption does not depend on water and the other way round.
    np.testing.assert_array_equal(seen(8.0, 1.0, dry=True), weak)
    clear = seen(2.0, 1.0, echelle=73)
    water = -np.log(seen(2.0, 1.0, echelle=73, water=True) / clear)
    wetter = -np.log(seen(6.0, 1.0, echelle=73, water=True) / clear)
    pick = (water > 0.01) & (water < 0.1)
    assert pick.sum() > 10
    np.testing.assert_allclose(np.median(wetter[pick] / water[pick]), 3.0, rtol=0.03)


def test_wind_moves_lines_to_the_red():
    wave = fine_grid(1130.0, 1140.0, 0.05)
    still, moved = depths(wave)[0], depths(wave, wind=1000.0)[0]
    shifted = np.interp(wave * (1 - 1.0 / photons.C_KMS), wave, still)
    inside = slice(500, -500)
    np.testing.assert_allclose(moved[inside], shifted[inside], rtol=1e-3, atol=1e-4)
    off = optical_depths(AtmosphereConfig(wind=False), LinesConfig(), wave, 1000.0)[0]
    np.testing.assert_array_equal(off, still)


def sky(dprtype="DARK_DARK_SKY", echelle=48, seed=1, frame=None, **atmosphere):
    config = photons.plain(MINI, seed=seed, geometry=photons.strip(echelle, MINI), atmosphere=atmosphere)
    return paint(config, photons.spec(dprtype, exptime_s=300.0, **(frame or {}))).truth


def test_sky_lines_have_their_flux():
    truth = sky(sky_lines=True, sky_variation=0.0)
    flux, wave = truth.spectra["sky"], truth.wave_nm
    text = (photons.resources.files("apero_dask.tables") / "lines_oh.csv").read_text().splitlines()[2:]
    table = np.array([[float(v) for v in line.split(",")[:2]] for line in text])
    edge = photons.table_wave(MINI, "A", 48, np.array([20.0, 995.0]))
    inside = table[(table[:, 0] > edge[0]) & (table[:, 0] < edge[1])]
    outside = table[(table[:, 0] > wave[0, 0, 0] - 0.5) & (table[:, 0] < wave[0, 0, -1] + 0.5)]
    assert len(inside) >= 2
    assert len(outside) == len(inside), "a line at the edge would be cut"
    expected = (inside[:, 1] / table[:, 1].max() * 500.0).sum()
    assert flux[0].sum() == pytest.approx(expected, rel=1e-5)
    assert flux[1].sum() == pytest.approx(1.02 * expected, rel=1e-5)
    assert not flux[2].any()


def test_bands_vary_from_night_to_night_and_scale_together():
    config = AtmosphereConfig()
    nights = [band_factors(config, 1, f"night {i}", ("3", "4", "7")) for i in range(200)]
    log = np.log([[n[b] for b in ("3", "4", "7")] for n in nights])
    # 600 draws of rms 0.3.
    assert log.std() == pytest.approx(0.3, rel=0.1)
    assert abs(np.corrcoef(log.T)[0, 1]) < 0.3
    assert band_factors(config, 1, "night 1", ("3", "4", "7")) == nights[1]
    a = sky(sky_lines=True, frame={"obs_dir": "2020-01-01"}).spectra["sky"][0]
    b = sky(sky_lines=True, frame={"obs_dir": "2020-01-02"}).spectra["sky"][0]
    # One factor per band: within a line the ratio of two nights is constant.
    peak = np.unravel_index(np.argmax(a), a.shape)
    line = (peak[0], slice(peak[1] - 1, peak[1] + 2))
    np.testing.assert_allclose(b[line] / a[line], b[peak] / a[peak], rtol=1e-3)
    assert abs(b[peak] / a[peak] - 1) > 0.01


def test_thermal_sky_is_emission_of_absorbing_air():
    truth = sky(echelle=31, thermal_sky=True, water=True, dry=True)
    clear = sky(echelle=31, thermal_sky=True)
    assert not clear.spectra["sky"].any(), "air that does not absorb does not emit"
    x = 1.438776877e7
    wave = truth.wave_nm[0, 0]
    black = 0.8 * 300 * (2450 / wave) ** 4 * np.expm1(x / 2450 / 283) / np.expm1(x / wave / 268)
    ratio = truth.spectra["sky"][0, 0] / black
    assert ratio.min() >= 0
    assert ratio.max() <= 1.0 + 1e-6
    assert ratio.max() > 0.95


def test_telescope_dark_has_structured_excess():
    """At most 5 per cent, only beyond 1800 nm, only in A and B."""
    settings = {"telescope_excess": True, "water": True, "dry": True, "dark_sky": False}

    def thermal(dprtype, echelle):
        config = photons.plain(
            MINI, geometry=photons.strip(echelle, MINI), atmosphere=settings, sources={"thermal": True}
        )
        return paint(config, photons.spec(dprtype, exptime_s=600.0)).truth.spectra["thermal"]

    internal, telescope = thermal("DARK_DARK_INT", 31), thermal("DARK_DARK_TEL", 31)
    ratio = telescope[:2] / internal[:2]
    assert ratio.max() == pytest.approx(1.05, abs=0.003)
    structured = (thermal("DARK_DARK_TEL", 37) / thermal("DARK_DARK_INT", 37))[:2]
    assert structured.min() >= 1 - 1e-6
    assert structured.max() > 1.01
    assert structured.std() > 0.001
    np.testing.assert_array_equal(telescope[2], internal[2])
    np.testing.assert_allclose(
        thermal("DARK_DARK_TEL", 48)[:2] / thermal("DARK_DARK_INT", 48)[:2], 1.0, rtol=1e-9
    )


def test_telescope_dark_sees_the_sky_if_asked():
    assert "sky" in sky("DARK_DARK_TEL", sky_lines=True).spectra
    assert "sky" not in sky("DARK_DARK_TEL", sky_lines=True, dark_sky=False).spectra
    assert "sky" not in sky("DARK_DARK_INT", sky_lines=True).spectra
