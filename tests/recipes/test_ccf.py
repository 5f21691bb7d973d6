"""Velocities of stars drawn from the simulator: noise, sign, scale, drift, and what happens to bad frames.

Bounds are those of a small instrument: 320 lines of its mask are used, 5 000 of the full one.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
from apero_kernels.resample import resample

from apero_dask.core.errors import DataError
from apero_dask.io.fits import FitsFile
from apero_dask.recipes import ccf_air, ccf_fit, photon_noise
from apero_dask.recipes.ccf_lines import expected_light
from apero_dask.recipes.ccf_velocity import StarVelocity, star_velocity
from apero_dask.recipes.line_mask import LineMask, builtin_mask
from apero_dask.recipes.order_windows import spline_noise
from apero_dask.simulator.lines import star_list
from apero_dask.tables.derive_tellurics import WATER_MM
from tests.recipes.sciencenight import Root, night
from tests.recipes.starlight import Star, star

CATALOGUE = -110.51
DRAWS = 60  # relative error of a scatter: 1 / sqrt(2 * 59) = 9 %


@lru_cache
def mask() -> LineMask:
    return builtin_mask()


def oracle() -> LineMask:
    """The lines as they are painted."""
    lines = star_list(None)
    clean = lines.group == "1"
    return LineMask("oracle", lines.wave[clean], lines.strength[clean], "file")


def measured(
    shown: Star,
    flux: np.ndarray,
    lines: LineMask | None = None,
    variance: np.ndarray | None = None,
    **values: object,
) -> StarVelocity:
    options = {"target": CATALOGUE, "half": 300.0, "step": 0.5, "mode": "all"} | values
    noise = shown.variance if variance is None else variance
    light = expected_light(flux, noise, shown.blaze, shown.wave)
    return star_velocity(light, lines or mask(), shown.spec.berv_kms, **options)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Root:
    return night(tmp_path_factory.mktemp("velocities"))


def header(path: Path) -> dict[str, object]:
    return FitsFile(path).values


@pytest.mark.parametrize(
    "seed", [1, pytest.param(2, marks=pytest.mark.slow), pytest.param(3, marks=pytest.mark.slow)]
)
def test_velocities_scatter_as_their_errors_say(seed: int) -> None:
    """Acceptance figure 1.2 for an oracle mask; the packaged one, whose positions err, is no worse."""
    shown = star(seed)
    for lines in (oracle(), mask()):
        found = [measured(shown, shown.exposed(noise), lines) for noise in range(DRAWS)]
        scatter = 1e3 * np.std([one.rv for one in found], ddof=1)
        predicted = float(np.mean([one.noise for one in found]))
        print(f"seed {seed}, {lines.name}: scatter {scatter:.2f} m/s, predicted {predicted:.2f} m/s")
        assert 0.8 < scatter / predicted < 1.2
    limit = photon_noise.combined(photon_noise.spectrum_noise(shown.flux, shown.variance, shown.wave))
    # A mask cannot beat the information of the spectrum, and should not be far from it on isolated lines.
    assert limit < predicted < 1.5 * limit


def test_velocity_does_not_depend_on_flux() -> None:
    shown = star()
    flux = shown.exposed(3)
    one = measured(shown, flux)
    for factor in (1e-3, 7.0):
        other = measured(shown, factor * flux, variance=factor**2 * shown.variance)
        assert abs(other.rv - one.rv) < 1e-9
        assert other.noise == pytest.approx(one.noise, rel=1e-9)


def test_shift_of_a_star_is_found_to_a_tenth_of_a_metre_per_second() -> None:
    before = measured(star(), star().flux)
    moved = star(rv=-110.1 + 0.1)
    after = measured(moved, moved.flux)
    assert abs(1e3 * (after.rv - before.rv) - 100.0) < 0.1


def test_constant_star_is_flat_against_berv() -> None:
    """Bound for the full instrument, 3 m/s peak, without the scaling that a small one would be allowed."""
    berv = np.array([-30.0, -13.0, 0.0, 13.0, 30.0])
    found = []
    for value in berv:
        shown = star(berv=float(value))
        found.append(measured(shown, shown.flux).rv)
    rv = np.array(found)
    print("m/s against BERV:", np.round(1e3 * (rv - rv.mean()), 2))
    assert 1e3 * np.abs(rv - rv.mean()).max() < 3.0
    # As seen by the observer the star moves by the motion of the Earth.
    slope = np.polyfit(berv, rv - berv, 1)[0]
    assert slope == pytest.approx(-1.0, abs=0.002)


def test_noise_does_not_depend_on_the_step() -> None:
    shown = star()
    flux = shown.exposed(5)
    whole = measured(shown, flux)
    for step in (0.25, 1.0):
        other = measured(shown, flux, step=step)
        assert other.noise == pytest.approx(whole.noise, rel=0.05)
        # Interpolation between points of the grid moves the profile by less than a tenth of the noise.
        assert abs(other.rv - whole.rv) < 1e-4 * whole.noise


def test_unknown_velocity_is_found_by_a_wide_scan() -> None:
    shown = star()
    flux = shown.exposed(1)
    known = measured(shown, flux)
    for target in (None, 1000.0):
        found = measured(shown, flux, target=target)
        assert found.wide
        assert abs(found.target - known.rv) < 3.0
        # Another middle, another set of lines: 75 m/s of error in a few per cent of 320 lines.
        assert abs(found.rv - known.rv) < 2e-3


def test_deep_telluric_lines_do_not_move_a_constant_star() -> None:
    """Lines that the atmosphere hides at some BERV of the year are left out at all of them."""
    found, lines = [], []
    for berv in (-25.0, 0.0, 25.0):
        shown = star(berv=berv)
        one = measured(shown, np.where(shown.transmission < 0.5, np.nan, shown.flux))
        found.append(one.rv)
        lines.append(one.lines)
    assert (np.array(lines) == lines[0]).all()
    assert lines[0].sum() < 0.85 * measured(star(), star().flux).lines.sum()
    print("m/s with holes:", np.round(1e3 * (np.array(found) - np.mean(found)), 2))
    assert 1e3 * np.ptp(found) < 3.0


def test_widths_and_depths_are_those_of_the_profile() -> None:
    velocity = np.arange(-100.0, 100.1, 0.5)
    sigma = np.array([2.2, 5.0, 12.0])
    centre = np.array([3.3, -8.0, 20.0])
    curves = 7.0 * (1 - 0.2 * np.exp(-0.5 * ((velocity - centre[:, None]) / sigma[:, None]) ** 2))
    fit = ccf_fit.fit_gaussians(velocity, curves, 0.0, 4.0)
    np.testing.assert_allclose(fit.fwhm, 2 * np.sqrt(2 * np.log(2)) * sigma, rtol=1e-6)
    np.testing.assert_allclose(fit.centre, centre, atol=1e-6)
    np.testing.assert_allclose(fit.contrast, 20.0, rtol=1e-6)


def test_slope_of_the_continuum_goes_and_the_line_stays() -> None:
    velocity = np.arange(-100.0, 100.1, 0.5)
    line = 1 - 0.2 * np.exp(-0.5 * ((velocity - 5.0) / 3.0) ** 2)
    rng = np.random.default_rng(1)
    tilted = 4.0 * line * (1 + 2e-3 * velocity) + 1e-3 * rng.standard_normal(velocity.size)
    flat = ccf_fit.without_slope(velocity, tilted[None], 5.0, 15.0)
    outside = np.abs(velocity - 5.0) > 15.0
    assert abs(np.polyfit(velocity[outside], flat[0][outside], 1)[0]) < 1e-5
    assert ccf_fit.fit_gaussians(velocity, flat, 0.0, 4.0).centre[0] == pytest.approx(5.0, abs=5e-3)


def test_bisector_of_a_lopsided_line_leans() -> None:
    velocity = np.arange(-50.0, 50.05, 0.1)
    straight = 1 - 0.3 * np.exp(-0.5 * (velocity / 3.0) ** 2)
    fit = ccf_fit.fit_gaussians(velocity, straight[None], 0.0, 3.0)
    assert abs(ccf_fit.bisector(velocity, straight, fit)[2]) < 1e-4
    # A second, shallow line on the red side pulls the upper part of the profile to the red.
    leaning = straight - 0.03 * np.exp(-0.5 * ((velocity - 4.0) / 3.0) ** 2)
    fit = ccf_fit.fit_gaussians(velocity, leaning[None], 0.0, 3.0)
    assert ccf_fit.bisector(velocity, leaning, fit)[2] > 0.1


def test_noise_holds_no_velocity_information() -> None:
    rng = np.random.default_rng(4)
    wave = 1600.0 + 0.012 * np.arange(4000)[None]
    variance = np.full(wave.shape, 100.0)
    flat = 1e4 + np.sqrt(variance) * rng.standard_normal(wave.shape)
    uncorrected = 299792458.0 / np.sqrt(np.sum((wave * 10.0 / np.sqrt(2) / 0.012) ** 2 / variance))
    assert photon_noise.spectrum_noise(flat, variance, wave)[0] > 3 * uncorrected


def test_photon_noise_is_that_of_a_template_fit() -> None:
    """Bouchy limit against the scatter of the best shift of a known spectrum."""
    shown = star()
    slope = np.gradient(shown.flux, axis=1) / np.gradient(np.log(shown.wave), axis=1) / 299792458.0
    weight = slope / shown.variance
    found = [-np.sum(weight * (shown.exposed(k) - shown.flux)) / np.sum(weight * slope) for k in range(DRAWS)]
    predicted = photon_noise.combined(photon_noise.spectrum_noise(shown.flux, shown.variance, shown.wave))
    # Noise-free flux: subtracting what noise would add lowers the information a little.
    assert 0.75 < np.std(found, ddof=1) / predicted < 1.2


def test_interpolation_leaves_lines_their_noise() -> None:
    """Columns are more certain than before, the centre of a line is not: to 1 per cent from 2.8 px FWHM on.

    Covariance of interpolated white noise from the answer to one pixel, projected on the slope of a line.
    """
    pixel = np.zeros((9, 81), np.float32)
    pixel[:, 40] = 1.0
    x = np.arange(-12, 13)
    for phase in (0.0, 0.2, 0.35, 0.5):
        answer = np.empty(pixel.shape)
        resample(pixel, (phase, 0.0, 1.0, 0.0, 0.0, 1.0), answer)
        seen = np.nan_to_num(answer[4])  # the last column lies beside the frame
        together = np.correlate(seen, seen, "full")
        covariance = together[80 + np.abs(x[:, None] - x)]
        assert covariance[0, 0] == pytest.approx(float(spline_noise(np.array(phase))), abs=1e-3)
        for sigma in (1.2, 1.7, 2.5):
            slope = x * np.exp(-0.5 * (x / sigma) ** 2)
            assert slope @ covariance @ slope == pytest.approx(slope @ slope, rel=0.01)


def test_errors_are_those_of_lines_not_of_columns(root: Root) -> None:
    """A spectrum whose columns share a fifth of their noise: same velocity, errors larger by the root."""
    plain = header(root.velocity(root.exposure("2320066o", star(), 1))[0])
    shared = header(root.velocity(root.exposure("2320067o", star(), 1, EXTSHARE=0.81))[0])
    for key in ("DVRMS_CC", "DVRMS_SP"):
        assert shared[key] == pytest.approx(plain[key] / 0.9, rel=1e-9), key
    assert shared["RV_OBJ"] == plain["RV_OBJ"]
    with pytest.raises(DataError, match=r"EXTSHARE = -1\.0, expected a positive number"):
        root.velocity(root.exposure("2320068o", star(), 1, EXTSHARE=-1.0))


def test_frames_share_their_lines_whatever_the_air(root: Root) -> None:
    """The same star through dry air and up to usual air: the same lines, and a velocity that stays.

    4 m/s: the 1 m/s that a campaign of the full instrument is allowed, times the root of 5000 over 320 lines.
    """
    shown, found = star(), []
    spec = shown.spec
    usual = min(ccf_air.WATER * WATER_MM / (spec.airmass * spec.pwv_mm), ccf_air.DRY / spec.airmass)
    for k, humid in enumerate((0.3 * usual, 0.6 * usual, usual)):
        files = root.exposure(f"23200{k + 50}o", shown, recon=shown.transmission**humid)
        path, _ = root.velocity(files)
        found.append((1e3 * header(path)["RV_OBJ"], FitsFile(path).table("ORDER_TABLE")["NLines"].sum()))
    rv, lines = np.array(found).T
    print("m/s:", np.round(rv - rv[0], 1), "lines:", lines)
    assert np.ptp(rv) < 4.0
    # Lines of the table are wrong by some per cent each: a few lie at the edge.
    assert lines.min() > 0.98 * lines.max()


def test_drift_of_both_fibres_goes(root: Root) -> None:
    """8 m/s to the red in both fibres: RV_OBJ moves, RV_CORR does not."""
    still, _ = root.velocity(root.exposure("2320031o", star()))
    moved, comb = root.velocity(root.exposure("2320032o", star(dx=0.0035)))
    before, after = header(still), header(moved)
    assert 1e3 * abs(before["RV_DRIFT"]) < 0.3  # no drift in, no drift out: the bound of a drift series
    assert 1e3 * (after["RV_OBJ"] - before["RV_OBJ"]) == pytest.approx(8.0, abs=1.0)
    assert 1e3 * (after["RV_DRIFT"] - before["RV_DRIFT"]) == pytest.approx(8.0, abs=1.0)
    assert 1e3 * abs(after["RV_CORR"] - before["RV_CORR"]) < 1.0
    assert after["RV_DRIFT"] == pytest.approx(after["RV_SIMFP"] - after["RV_WAVFP"], abs=1e-12)
    assert header(comb)["CCFMNRV"] == pytest.approx(after["RV_SIMFP"])


def test_products_hold_what_programs_read(root: Root) -> None:
    path, comb = root.velocity(root.exposure("2320033o", star(), 1, EXTSN003=111.0))
    file = FitsFile(path)
    keys = """CCFMNRV CCFMCONT CCFMFWHM CCFTLINE CCFMASK CCFSTEP CCFWIDTH CCFTRGRV CCFSIGDT CCFBOXSZ CCFMAXFX
    CCFORDMX CCFMSKMN CCFMSKWD CCFMUNIT CCFMRVNS DVRMS_SP DVRMS_CC RV_OBJ RV_CORR RV_DRIFT RV_WAVFP RV_SIMFP
    RV_WAVFN RV_WAVTM RV_WAVTD RV_WAVSR"""
    assert not set(keys.split()) - set(file.values)
    assert file.values["CCFMASK"] == "apero_dask_mdwarf.mas"
    assert file.values["QCC_ALL"] is True
    table = file.table(1)
    assert next(iter(table)) == "RV"
    assert list(table)[-1] == "Combined"
    assert {f"ORDER{o:02d}" for o in range(12)} <= set(table)
    assert table["RV"].size == 1201
    rows = file.table("ORDER_TABLE")
    wanted = "Orders NLines Contrast RV FWHM DC SNR Norm DVRMS_SP DVRMS_CC"
    assert " ".join(list(rows)[:10]) == wanted
    assert rows["SNR"][3] == 111.0
    used = rows["Used"]
    mean = np.mean([table[f"ORDER{o:02d}"] for o in np.flatnonzero(used)], axis=0)
    np.testing.assert_allclose(table["Combined"], mean, rtol=1e-12)
    again = ccf_fit.fit_gaussians(table["RV"], table["Combined"][None], CATALOGUE, 3.0)
    assert again.centre[0] == pytest.approx(file.values["RV_OBJ"], abs=1e-6)
    assert file.unit(1).values["DRSOBJN"] == "GL699"
    assert FitsFile(comb).table(1)["RV"].size == 31


def test_same_input_gives_the_same_bytes(root: Root) -> None:
    files = root.exposure("2320034o", star(), 2)
    one = root.velocity(files)[0].read_bytes()
    assert root.velocity(files)[0].read_bytes() == one


def test_empty_order_is_left_out(root: Root) -> None:
    shown = star()
    flux = shown.flux.copy()
    flux[9] = np.nan
    path, _ = root.velocity(root.exposure("2320035o", replace(shown, flux=flux)))
    rows = FitsFile(path).table("ORDER_TABLE")
    assert rows["NLines"][9] == 0
    assert np.isnan(rows["RV"][9])
    # The K order holds a quarter of the photons: the mean error of the lines left is another one.
    assert abs(header(path)["RV_OBJ"] - -110.07) < 0.03


@pytest.mark.parametrize(
    ("cards", "said"),
    [
        ({"BERV": "NaN"}, "the place of GL699 is not known. Add it to objects.csv"),
        ({"BERV": 22100.0}, "BERV = 22100 km/s, expected at most 40"),
    ],
)
def test_frames_without_berv_are_refused(root: Root, cards: dict[str, object], said: str) -> None:
    files = root.exposure("2320036o", star(), **cards)
    with pytest.raises(DataError, match=said):
        root.velocity(files)
    assert not list((root.path / "reduced" / "2018-09-25").glob("2320036o*ccf*"))


def test_spectrum_without_a_value_is_refused(root: Root) -> None:
    shown = star()
    files = root.exposure("2320037o", replace(shown, flux=np.full_like(shown.flux, np.nan)))
    with pytest.raises(DataError, match="no pixel holds a value"):
        root.velocity(files)


def test_star_without_lines_has_no_velocity(root: Root) -> None:
    shown = star(kind="hot")
    path, _ = root.velocity(root.exposure("2320038o", shown, 1))
    found = header(path)
    assert found["RV_OBJ"] == found["RV_CORR"] == "NaN"
    assert found["QCC001P"] == 0
    assert found["QCC_ALL"] is True  # informative: the product counts, as one without a velocity


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_dark_reference_fibre_leaves_the_velocity_uncorrected(root: Root, seed: int) -> None:
    """Peaks of the noise have no floor beneath them, so that their contrast may be that of a comb."""
    shown = star()
    dark = replace(shown, comb=30.0 * np.random.default_rng(seed).standard_normal(shown.comb.shape))
    path, comb = root.velocity(root.exposure(f"23200{50 + seed}o", dark))
    found = header(path)
    assert found["RV_SIMFP"] == "NaN"
    assert found["RVDRIFTK"] is False
    assert found["RV_CORR"] == found["RV_OBJ"]
    assert comb is not None


def test_missing_reference_spectrum_leaves_an_empty_product(root: Root) -> None:
    files = root.exposure("2320040o", star())
    work = root.path / "reduced"
    name = "reduced/2018-09-25/2320040o_pp_e2dsff_C_ccf_fp_C.fits"
    star_name = "reduced/2018-09-25/2320040o_ccf_AB.fits"
    outputs = (("CCF", "AB", star_name), ("CCF_FP", "C", name))
    root.run(root.work("cal_ccf", "CCF", "2320040o", {"files": [files[0]]}, outputs))
    found = header(root.path / star_name)
    assert found["RV_CORR"] == found["RV_OBJ"]
    assert np.isnan(FitsFile(work.parent / name).table(1)["Combined"]).all()


def test_user_mask_and_options_are_followed(root: Root) -> None:
    folder = root.path / "assets" / "masks"
    folder.mkdir(parents=True, exist_ok=True)
    lines = oracle()
    rows = [f"{w:.6f} {w:.6f} {d:.4f}" for w, d in zip(lines.wave, lines.weight, strict=True)]
    (folder / "mine.mas").write_text("\n".join(rows) + "\n")
    files = root.exposure("2320041o", star())
    options = (
        ("mask", "mine.mas"),
        ("rv", -100.0),
        ("width", 100.0),
        ("step", 0.25),
        ("masknormmode", "order"),
    )
    found = header(root.velocity(files, options=options)[0])
    assert found["CCFMASK"] == "mine.mas"
    assert (found["CCFTRGRV"], found["CCFWIDTH"], found["CCFSTEP"]) == (-100.0, 100.0, 0.25)
    # True positions: what is left are blends with lines that are not clean or too shallow.
    assert abs(found["RV_OBJ"] - -110.1) < 0.01
    with pytest.raises(DataError, match=r"Mask gone.mas is not there"):
        root.velocity(files, options=(("mask", "gone.mas"),))


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_full_instrument_reaches_its_figures(seed: int) -> None:
    """49 orders with deep telluric lines left out: scatter, and a constant star against BERV."""
    found, scattered = [], []
    for berv in (-25.0, 0.0, 25.0):
        shown = star(seed, berv=berv, instrument="SPIROU")
        clear = np.clip(shown.transmission, 0.05, 1.0)
        variance = (1.2 * shown.flux * clear + 42.0**2) / clear**2
        flux = np.where(clear < 0.5, np.nan, shown.flux)
        found.append(measured(shown, flux, variance=variance, berv_max=27.0))
    for k in range(20):
        noise = np.sqrt(variance) * np.random.default_rng([seed, k]).standard_normal(flux.shape)
        scattered.append(measured(shown, flux + noise, variance=variance, berv_max=27.0))
    rv = 1e3 * np.array([one.rv for one in found])
    scatter = 1e3 * np.std([one.rv for one in scattered], ddof=1)
    limit = photon_noise.combined(photon_noise.spectrum_noise(flux, variance, shown.wave))
    print(
        f"seed {seed}: {found[0].lines.sum()} lines, against BERV {np.round(rv - rv.mean(), 2)} m/s, scatter "
        f"{scatter:.2f}, predicted {found[0].noise:.2f}, spectrum {limit:.2f} m/s"
    )
    assert np.ptp(rv) < 1.0  # acceptance: 3 m/s peak
    # 20 draws know their scatter to 16 per cent.
    assert scatter < 1.2 * found[0].noise * (1 + 0.16)
    assert found[0].noise < 1.3 * limit
    assert abs(rv.mean() - -110100.0) < 10.0  # zero point: 75 m/s over the root of the lines that weigh
