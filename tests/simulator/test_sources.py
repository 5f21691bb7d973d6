"""Levels, spectra, line widths and line places of the calibration light."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.polynomial import chebyshev
from scipy.optimize import curve_fit

from apero_dask.simulator.paint import paint
from apero_dask.simulator.sources import SourcesConfig, planck_photons, thermal_rate
from tests.simulator import photons

MINI = "SPIROU_MINI"
CAVITY = [-519.92190, -1058.80439, -694.63498, 209.01173, 109.00010,
          -25.36266, 6.27509, 15.53371, 2.04780, -5.86439]  # fmt: skip


def spectrum(dprtype, kind, echelle=46, instrument=MINI, exptime=61.291, fibre=2, frame=None, **sections):
    """Electrons per column of one kind of light, and wavelengths."""
    config = photons.plain(instrument, geometry=photons.strip(echelle, instrument), **sections)
    truth = paint(config, photons.spec(dprtype, exptime_s=exptime, **(frame or {}))).truth
    return truth.spectra[kind][fibre, 0], truth.wave_nm[fibre, 0]


def peak_places(values, spacing):
    """Maxima by a Gaussian fitted to five columns each, and their columns."""
    found = []
    for k in np.flatnonzero((values[2:-2] > values[1:-3]) & (values[2:-2] > values[3:-1])) + 2:
        y = np.log(values[k - 1 : k + 2])
        found.append(k + 0.5 * (y[0] - y[2]) / (y[0] - 2 * y[1] + y[2]))
    return np.array(found)


def test_flat_level_and_colour():
    """1.5e5 electrons per column at 1600 nm in 27.86 s; colour of 3000 K between 1000 and 2400 nm."""
    levels = {}
    for echelle in (76, 48, 34):
        flux, wave = spectrum("DARK_FLAT", "flat", echelle, exptime=27.860)
        levels[echelle] = (wave, flux)
    wave, flux = levels[48]
    assert np.interp(1600.0, wave, flux) == pytest.approx(1.5e5, rel=1e-6)
    for echelle in (76, 34):
        wave, flux = levels[echelle]
        k = 508
        x = 1.438776877e7 / 3000.0
        ratio = (1600.0 / wave[k]) ** 4 * (np.exp(x / 1600.0) - 1) / (np.exp(x / wave[k]) - 1)
        assert flux[k] == pytest.approx(1.5e5 * ratio, rel=1e-6)


def test_flat_peak_stays_below_half_of_saturation():
    config = photons.plain("SPIROU", geometry=photons.strip(48))
    painted = paint(config, photons.spec("FLAT_FLAT", exptime_s=27.860))
    assert painted.rate.max() * 27.860 / 0.999 < 30000


@pytest.mark.parametrize("echelle", [76, 50, 31])
def test_mean_of_the_comb_is_the_square_of_the_snr(echelle):
    flux, wave = spectrum("DARK_FP", "fp", echelle, sources={"fp_step": 0.0})
    snr = float(next(r for r in photons.table(MINI, "orders") if int(r["echelle"]) == echelle)["fp_snr_c"])
    # Between peaks: whole periods only.
    spacing = 24497500.0 / wave[508] ** 2
    period = 1 / (spacing * np.gradient(wave)[508])
    first, last = 508 - 8 * period, 508 + 8 * period
    cumulative = np.interp([first, last], np.arange(len(flux) + 1) - 0.5, np.r_[0, np.cumsum(flux)])
    mean = np.diff(cumulative)[0] / (last - first)
    # The level changes linearly between orders, the period by 0.2 per cent over 8 of them.
    assert mean == pytest.approx(snr**2, rel=0.01)


def test_lamp_of_the_etalon_drops_at_1300_nm():
    with_step, wave = spectrum("DARK_FP", "fp", 61)
    without, _ = spectrum("DARK_FP", "fp", 61, sources={"fp_step": 0.0})
    np.testing.assert_allclose(with_step / without, 1.0, rtol=1e-6)
    red, _ = spectrum("DARK_FP", "fp", 56)
    red_without, _ = spectrum("DARK_FP", "fp", 56, sources={"fp_step": 0.0})
    np.testing.assert_allclose(red / red_without, 0.8, rtol=1e-6)
    assert wave.max() < 1290


@pytest.mark.parametrize(("echelle", "measured"), [(77, 2.28), (61, 2.35), (53, 2.36), (46, 2.42)])
def test_width_of_comb_lines_is_that_of_the_real_instrument(echelle, measured):
    """Real lines in C at 1.0, 1.26, 1.45 and 1.67 um have these FWHM in px with this fit function."""
    flux, _ = spectrum("DARK_FP", "fp", echelle, "SPIROU")
    peaks = np.rint(peak_places(flux, None)).astype(int)
    peaks = peaks[(peaks > 1600) & (peaks < 2500)]
    spacing = float(np.median(np.diff(peaks)))
    half = int(np.ceil(spacing / 2))

    def model(x, amplitude, centre, window, beta, zero):
        return amplitude * (0.5 * (1 + np.cos(2 * np.pi * (x - centre) / window))) ** beta + zero

    widths = []
    for k in peaks[::8]:
        x = np.arange(k - half, k + half + 1)
        low, high = (0, k - 3, 0.5 * spacing, 0.2, -np.inf), (np.inf, k + 3, 1.5 * spacing, 50, np.inf)
        best, _ = curve_fit(model, x, flux[x], p0=(flux[k], k, spacing, 1.5, 0), bounds=(low, high))
        widths.append(best[2] / np.pi * np.arccos(2 * 0.5 ** (1 / best[3]) - 1))
    # Two free numbers (finesse, line spread) reproduce four measured ones to 2.5 per cent.
    assert np.median(widths) == pytest.approx(measured, rel=0.025)


@pytest.mark.parametrize("echelle", [76, 56, 31])
def test_comb_peaks_are_at_two_d_over_n(echelle):
    flux, wave = spectrum("DARK_FP", "fp", echelle, optics={"lsf_fwhm_kms": 1.0})
    places = peak_places(flux, None)[2:-2]
    found = np.interp(places, np.arange(len(wave)), wave)
    expected = found.copy()
    number = np.rint((24498000.0 + chebyshev.chebval((2 * found - 3465) / 1535, CAVITY)) / found)
    for _ in range(10):
        expected = (24498000.0 + chebyshev.chebval((2 * expected - 3465) / 1535, CAVITY)) / number
    assert (np.diff(number) == -1).all()
    # Three-point maxima of undersampled peaks are good to 0.05 px, without bias over phases.
    velocity = (found / expected - 1) * photons.C_KMS
    assert np.abs(velocity).max() < 0.25
    assert abs(velocity.mean()) < 0.03


def test_cavity_factor_moves_the_comb_to_the_red():
    """+1 km/s: peaks appear at wavelengths longer by that factor, seen as columns."""
    still, wave = spectrum("DARK_FP", "fp", cavity={"night_drift": True})
    frame = {"cavity_ms": 1000.0}
    moved, _ = spectrum("DARK_FP", "fp", frame=frame, cavity={"night_drift": True})
    kms_per_column = photons.C_KMS * np.gradient(np.log(wave))
    a, b = peak_places(still, None)[3:-3], peak_places(moved, None)[3:-3]
    b = b[np.abs(b[:, None] - a[None, :]).argmin(axis=0)]
    velocity = (b - a) * np.interp(a, np.arange(len(wave)), kms_per_column)
    # The cavity length itself depends on wavelength: 1e-4 per nm against 1/N, a correction of 1e-3.
    assert velocity.mean() == pytest.approx(1.0, rel=0.01)
    off, _ = spectrum("DARK_FP", "fp", frame=frame)
    np.testing.assert_array_equal(off, still)


def test_displaced_cavity_is_not_the_first_guess():
    still, wave = spectrum("DARK_FP", "fp")
    moved, _ = spectrum("DARK_FP", "fp", cavity={"displacement": True, "displacement_chromatic_ms": 0.0})
    a, b = peak_places(still, None)[3:-3], peak_places(moved, None)[3:-3]
    velocity = (b - a) * np.interp(a, np.arange(len(wave)), photons.C_KMS * np.gradient(np.log(wave)))
    assert velocity.mean() == pytest.approx(0.150, rel=0.02)


def test_chromatic_drift_of_the_cavity():
    from apero_dask.simulator.cavity import CavityConfig, optical_path

    wave = np.linspace(1000, 2400, 500)
    config = CavityConfig(displacement=False, chromatic_drift=True)
    ratio = optical_path(config, 1, wave, 0.0, 200.0) / optical_path(config, 1, wave, 0.0, 0.0) - 1
    np.testing.assert_allclose(ratio, 1e-9 * np.sin(2 * np.pi * wave / 300) * 0.5 * 2, atol=1e-15)


def test_lamp_lines_have_their_flux_and_flags(tmp_path):
    waves = photons.table_wave(MINI, "C", 46, np.linspace(100, 900, 9))
    folder = tmp_path / "lists"
    photons.lamp_folder(folder, waves)
    strength = np.array([1e3, 1e4, 1e5, 1e6, 1e7, 1e3, 1e4, 1e5, 1e6])
    rows = ["wave_vac_nm,strength"] + [f"{w:.9f},{s}" for w, s in zip(waves, strength, strict=True)]
    (folder / "lines_une.csv").write_text("\n".join(rows) + "\n")
    config = photons.plain(MINI, geometry=photons.strip(46, MINI), lines={"folder": str(folder)})
    painted = paint(config, photons.spec("DARK_HCONE", exptime_s=601.767))
    lamp = painted.truth.lamp
    np.testing.assert_allclose(lamp["electrons"], 0.35 * strength, rtol=1e-12)
    flux = painted.truth.spectra["hc"][2, 0]
    sums = [flux[round(x) - 12 : round(x) + 13].sum() for x in lamp["x_px"]]
    np.testing.assert_allclose(sums, 0.35 * strength, rtol=1e-6)
    # A pixel takes at most 9 per cent (slices) times 42 per cent (line): 60000 ADU need 1.6e6 electrons.
    np.testing.assert_array_equal(lamp["saturated"], strength * 0.35 > 1.6e6)
    assert (lamp["wave_true_nm"] == lamp["wave_catalogue_nm"]).all()


def test_lamp_continuum():
    with_it, _ = spectrum("DARK_HCONE", "hc", exptime=601.767, sources={"hc_continuum": 0.02})
    without, _ = spectrum("DARK_HCONE", "hc", exptime=601.767)
    text = (photons.resources.files("apero_dask.tables") / "lines_une.csv").read_text().splitlines()[2:]
    strength = np.array([float(line.split(",")[1]) for line in text])
    np.testing.assert_allclose(with_it - without, 0.02 * 0.35 * np.percentile(strength, 90), rtol=1e-3)


def test_planck_ratios_of_thermal_light():
    """Ratios to 2450 nm at 283 K, and changes with temperature."""
    reference = planck_photons(np.array(2450.0), 283.0)
    for wave, ratio in ((2000, 0.02), (2200, 0.15), (2300, 0.33), (2400, 0.71), (2500, 1.40)):
        assert planck_photons(np.array(float(wave)), 283.0) / reference == pytest.approx(ratio, abs=0.006)
    for kelvin, change in ((278.0, -0.31), (288.0, 0.44)):
        assert planck_photons(np.array(2450.0), kelvin) / reference - 1 == pytest.approx(change, abs=0.01)
    # Against scipy's constants.
    from scipy import constants

    wave = np.array([1000.0, 2450.0])
    energy = constants.h * constants.c / (wave * 1e-9 * constants.k * 283.0)
    stated = wave**-4.0 / np.expm1(energy)
    found = planck_photons(wave, 283.0)
    np.testing.assert_allclose(found[0] / found[1], stated[0] / stated[1], rtol=1e-7)


def test_thermal_rates_of_the_fibres_in_the_image():
    """5 e-/s per column in AB at 2450 nm, 2 in C, following the traces."""
    config = photons.plain(MINI, geometry=photons.strip(31, MINI), sources={"thermal": True})
    painted = paint(config, photons.spec("DARK_DARK_INT", exptime_s=600.0, thermal_k=283.0))
    truth = painted.truth
    image = photons.cal_image(painted.rate)
    x = 508
    for fibre, rate in ((0, 2.5), (1, 2.5), (2, 2.0)):
        wave = truth.wave_nm[fibre, 0, x]
        hot = np.expm1(1.438776877e7 / (2450.0 * 283)) / np.expm1(1.438776877e7 / (wave * 283))
        expected = (2450.0 / wave) ** 4 * hot
        y = round(truth.trace_px[fibre, 0, x])
        # Half the distance of fibres, 7.5 px, holds 99 per cent of each and 1 per cent of a neighbour.
        assert image[y - 7 : y + 8, x].sum() == pytest.approx(rate * expected, rel=0.02)
        assert truth.spectra["thermal"][fibre, 0, x] == pytest.approx(rate * expected * 600.0, rel=1e-5)
    warm = thermal_rate(SourcesConfig(), 0, np.array([2450.0]), 288.0)
    assert warm / 2.5 == pytest.approx(1.44, abs=0.01)


def test_simultaneous_comb_is_dimmed():
    calibration, _ = spectrum("DARK_FP", "fp", exptime=61.291)
    science, _ = spectrum("OBJ_FP", "fp", exptime=300.884, scene={"star": False})
    np.testing.assert_allclose(science, calibration, rtol=1e-9)


@pytest.mark.parametrize(
    ("dprtype", "section", "kind"),
    [("DARK_FLAT", "flat", "flat"), ("DARK_FP", "fp", "fp"), ("DARK_HCONE", "hc", "hc")],
)
def test_sources_can_be_switched_off(dprtype, section, kind):
    config = photons.plain(MINI, geometry=photons.strip(46, MINI), sources={section: False})
    painted = paint(config, photons.spec(dprtype))
    assert kind not in painted.truth.spectra
    assert not painted.rate.any()
