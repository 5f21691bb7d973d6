"""cal_extract on simulated frames of stars against what was painted, and how odd frames end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from scipy.interpolate import CubicSpline, make_interp_spline

from apero_dask.core.errors import DataError
from apero_dask.core.work import Calibration, InputFile, Work
from apero_dask.io.cards import split_cards
from apero_dask.io.fits import FitsFile
from apero_dask.io.fitswriter import Image, Table, write_fits
from apero_dask.recipes import comb_drift, extract_run
from apero_dask.recipes.calibrated import Calibrated
from apero_dask.recipes.context import RecipeResult, run_recipe
from apero_dask.recipes.wave_cavity import C_MS
from apero_dask.recipes.wave_maps import WaveMap, coefficient_columns
from apero_dask.simulator import ephemeris
from apero_dask.simulator.spec import FrameSpec
from tests.recipes import extractnight
from tests.recipes.extractnight import (
    FIBRES,
    SCIENCE,
    calibrations,
    extract,
    solution,
    star,
    work,
    write_frame,
)
from tests.recipes.night import spread
from tests.recipes.productchecks import check_product, resolver
from tests.recipes.runs import MINI
from tests.recipes.truthcal import truth_night

ALL_SEEDS = (1, pytest.param(2, marks=pytest.mark.slow), pytest.param(3, marks=pytest.mark.slow))
FULL_PEAKS = 26_786
"""Peaks of the comb in the full instrument, for which the figures of the drift are given."""
STRUCTURE = ("SIMPLE", "BITPIX", "NAXIS", "EXTEND", "NEXTEND", "END")


@lru_cache
def made(
    seed: int, dprtype: str = "OBJ_FP", **options: object
) -> tuple[RecipeResult, dict[tuple[str, str], Path]]:
    """Extraction of the M dwarf (OBJ_FP) or the hot star (OBJ_DARK), and its files."""
    spec = star(seed, dprtype)
    name = spec.identifier + "".join(sorted(options))[:1].replace("l", "x")
    frame = write_frame(seed, spec, name=name)
    result = extract(seed, work(seed, frame, **options), truth_night(seed).frame(spec))
    return result, paths(seed, result)


def paths(seed: int, result: RecipeResult) -> dict[tuple[str, str], Path]:
    root = truth_night(seed).bench.root
    return {(o.kind, o.fibre): root / o.path for o in result.outputs}


def painted(seed: int, dprtype: str, fibre: str, *names: str) -> np.ndarray:
    """Light of the frame in the straightened columns, e-; without names all but the thermal."""
    night = truth_night(seed)
    truth = night.truth(star(seed, dprtype))
    wanted = names or tuple(name for name in truth.spectra if name != "thermal")
    return night.spectrum(truth, fibre, *wanted)


# Spectra


@pytest.mark.parametrize("dprtype", ["OBJ_FP", "OBJ_DARK"])
@pytest.mark.parametrize("seed", ALL_SEEDS)
def test_flux_and_error_bars(seed: int, dprtype: str) -> None:
    """Targets of the project: bias below 2e-3 where S/N > 50, reduced chi-square 0.9 to 1.15.

    Peaks of the comb are as narrow as the interpolation: of them the light of an order is judged.
    """
    result, files = made(seed, dprtype)
    assert result.passed
    if dprtype == "OBJ_FP":
        flux, truth = fits.getdata(files["E2DSFF", "C"]), painted(seed, dprtype, "C")
        known = np.isfinite(flux)
        ratio = np.nansum(flux, axis=1) / np.where(known, truth, 0.0).sum(axis=1) - 1
        print(f"seed {seed} C: light of the orders off by {np.abs(ratio).max():.1e} at most")
        assert np.abs(np.median(ratio)) < 2e-3
    for fibre in SCIENCE:
        with fits.open(files["E2DSFF", fibre]) as units:
            flux, sigma = units[1].data, np.sqrt(units["VARIANCE"].data)
        truth = painted(seed, dprtype, fibre)
        good = np.isfinite(flux) & (truth > 50 * sigma)
        bias = float(np.median(flux[good] / truth[good] - 1))
        chi = float(np.mean(np.square((flux - truth)[good] / sigma[good])))
        print(
            f"seed {seed} {dprtype} {fibre}: bias {bias:.1e}, chi-square {chi:.3f}, {good.mean():.2f} of all"
        )
        assert good.mean() > 0.2
        assert abs(bias) < 2e-3
        assert 0.9 < chi < 1.15


@pytest.mark.parametrize("seed", ALL_SEEDS)
def test_thermal_light_is_gone(seed: int) -> None:
    """Target of the project: residual below 2 per cent of the thermal light, a part of it from the air."""
    _, files = made(seed, "OBJ_DARK")
    o = MINI.opaque
    for fibre in SCIENCE:
        flux, head = fits.getdata(files["E2DSFF", fibre])[o], fits.getheader(files["E2DSFF", fibre])
        thermal = painted(seed, "OBJ_DARK", fibre, "thermal", "sky")[o]
        # The median does not see the lines of the night sky, which are no thermal light.
        left = (flux - painted(seed, "OBJ_DARK", fibre, "star")[o]) / thermal
        share = float(np.nanmedian(left))
        error = float(1.2533 * spread(left) / np.isfinite(left).sum() ** 0.5)
        print(f"seed {seed} {fibre}: {100 * share:.2f} +- {100 * error:.2f} % of the thermal light left")
        assert error < 0.01
        assert abs(share) < 0.02 + 2 * error
        assert head["THRM_RU"] == "opaque" and head["CDBTHERM"].startswith("truth_thermalt")


def test_thermal_light_stays_without_its_step() -> None:
    """The step is what removes it: with --thermal False all of it is there."""
    spec = star(1, "OBJ_DARK")
    frame = write_frame(1, spec, name="9000001o")
    result = extract(1, work(1, frame, thermal=False), truth_night(1).frame(spec))
    flux = fits.getdata(paths(1, result)["E2DSFF", "AB"])
    thermal = painted(1, "OBJ_DARK", "AB", "thermal", "sky")[MINI.opaque]
    left = (flux - painted(1, "OBJ_DARK", "AB", "star"))[MINI.opaque]
    assert np.nanmedian(left / thermal) == pytest.approx(1.0, abs=0.02)


def test_leak_goes_the_same_way_here_and_later() -> None:
    """--leakcorr and cal_leak give the same spectrum; a corrected one is refused by cal_leak."""
    night = truth_night(1)
    _, plain = made(1)
    result, corrected = made(1, leakcorr=True)
    assert result.passed
    kinds = ("LCORR", "LCORR_S1D_W", "LCORR_S1D_V")
    leak = replace(
        night.context(
            "cal_leak",
            *(
                c
                for c in extractnight.calibrations(1)
                if c.kinds in (("FLAT", "BLAZE"), ("WAVE",), ("LEAKM",))
            ),
        ).work,
        outputs=tuple(
            (k, f, f"reduced/{night.night}/9_pp_{k.lower()}_{f}.fits") for k in kinds for f in SCIENCE
        ),
    )

    def run(files: Mapping[tuple[str, str], Path]) -> RecipeResult:
        root = night.bench.root
        inputs = tuple(InputFile(str(files["E2DSFF", f].relative_to(root))) for f in FIBRES)
        return run_recipe(replace(leak, inputs=(("files", inputs),)), night.bench.trees, MINI)

    later = paths(1, run(plain))
    for fibre in SCIENCE:
        with fits.open(corrected["E2DSFF", fibre]) as units:
            here, sigma, head = units[1].data, np.sqrt(units["VARIANCE"].data), units[0].header
        there, before = fits.getdata(later["LCORR", fibre]), fits.getdata(plain["E2DSFF", fibre])
        assert (head["LEAKCORR"], head["LEAK_KND"]) == (1, "LEAK0")
        assert fits.getheader(plain["E2DSFF", fibre])["LEAKCORR"] == 0
        # What is left is the strength of the thermal light, measured on a spectrum with or without comb.
        blue = slice(0, min(MINI.thermal) - 3)
        np.testing.assert_allclose(here[blue], there[blue], atol=1e-6 * np.nanmax(before))
        assert np.nanstd((here - there) / sigma) < 0.1
        assert np.nanmax(np.abs(before - there)) > 3 * np.nanmedian(sigma) or fibre == "A"
    with pytest.raises(DataError, match="has been removed already"):
        run(corrected)


@pytest.mark.parametrize("seed", ALL_SEEDS)
def test_merged_spectrum(seed: int) -> None:
    """Flux over blaze on both grids: bias below 2e-3, errors that hold.

    Interpolation by a spline of degree 5 leaves white noise 0.86 of its variance on average (computed below),
    the linear one of the variance keeps its mean.
    """
    rng = np.random.default_rng(0)
    noise = make_interp_spline(np.arange(4000.0), rng.standard_normal(4000), k=5)(
        rng.uniform(100, 3900, 40_000)
    )
    smoothed = float(np.var(noise))
    _, files = made(seed)
    night = truth_night(seed)
    flat = night.truth(night.specs("FLAT_FLAT")[0])
    for fibre in ("AB", "B"):
        wave, light = solution(seed)[fibre].image(), painted(seed, "OBJ_FP", fibre)
        ratio = light / night.spectrum(flat, fibre, "flat")
        for kind in ("S1D_W", "S1D_V"):
            table = fits.getdata(files[kind, fibre])
            expected = np.full(len(table), np.nan)
            orders = np.zeros(len(table), int)
            for o in range(MINI.norders):
                inside = (table["wavelength"] > wave[o, 60]) & (table["wavelength"] < wave[o, -60])
                expected[inside] = CubicSpline(wave[o], ratio[o])(table["wavelength"][inside])
                orders += inside
            good = np.isfinite(table["flux"]) & np.isfinite(expected) & (orders == 1)
            good &= table["flux"] > 50 * table["eflux"]
            relative = (table["flux"] / expected - 1)[good]
            chi = float(np.mean(np.square(((table["flux"] - expected) / table["eflux"])[good])))
            print(f"seed {seed} {kind} {fibre}: bias {np.median(relative):.1e}, chi-square {chi:.3f}")
            assert good.sum() > 1000
            assert abs(np.median(relative)) < 2e-3
            assert 0.9 * smoothed < chi < 1.15


# Drift of the comb


def drifted(seed: int, spec: FrameSpec, name: str) -> tuple[fits.Header, float]:
    """Header of an extraction, and the true velocity of the peaks it used against the solution."""
    night = truth_night(seed)
    frame = write_frame(seed, spec, name=name)
    chosen = work(seed, frame, thermal=False)
    if spec.target is None:
        chosen = replace(
            chosen, calibrations=tuple(c for c in chosen.calibrations if c.applies_to != "science")
        )
    files = paths(seed, extract(seed, chosen, night.frame(spec, seed=5)))
    table = fits.getdata(files["EXT_FPLIST", "C"])
    used = table["USED"].astype(bool)
    order, x = table["ORDER"][used], table["PIXEL_MEAS"][used]
    column = np.arange(MINI.nx)
    there, here = solution(seed)["C"].image(), extractnight.straight_wave(seed, night.truth(spec), "C")
    assumed, true = (
        np.array([np.interp(c, column, plane[o]) for o, c in zip(order, x, strict=True)])
        for plane in (there, here)
    )
    weight = table["VELO_ERR"][used] ** -2.0
    return fits.getheader(files["E2DSFF", "AB"]), float(
        (weight * C_MS * (assumed - true) / true).sum() / weight.sum()
    )


@pytest.mark.parametrize("seed", ALL_SEEDS)
def test_drift_of_the_comb(seed: int) -> None:
    """Drift from a lamp frame to a star frame and to one that is displaced: three errors, for the first plus
    0.3 m/s times the square root of the ratio of peaks.

    The solution used here holds the wavelengths at the traces; light of the slices lies beside them, which
    moves all peaks of all frames alike.  A displacement to larger columns is positive.
    """
    lamp, spec = truth_night(seed).specs("FP_FP")[0], star(seed)
    moved = replace(spec, affine=replace(spec.affine, dx=spec.affine.dx + 0.02), identifier="9100009o")
    found = []
    for number, one in enumerate((lamp, spec, moved)):
        head, true = drifted(seed, one, f"{9100000 + number:07d}o")
        found.append((head["FPDRIFT"], true, head["FPDRERR"]))
        print(
            f"seed {seed} {one.dprtype}: {head['FPDRIFT']:.2f} +- {head['FPDRERR']:.2f}, true {true:.2f}, "
            f"{head['FPDRNUM']} peaks, scatter {head['FPDRSCA']:.2f}"
        )
        assert head["FPDRNUM"] > 1000
    floor = 0.3 * (FULL_PEAKS / head["FPDRNUM"]) ** 0.5
    (lamp_drift, lamp_true, lamp_error), (a, true_a, error), (b, true_b, _) = found
    assert abs((a - lamp_drift) - (true_a - lamp_true)) < 3 * (error**2 + lamp_error**2) ** 0.5 + floor
    assert true_b - true_a > 30
    assert abs((b - a) - (true_b - true_a)) < 3 * 2**0.5 * error


def test_shape_of_the_lines_comes_from_the_solution() -> None:
    """All terms of the asymmetry (degree 4: 15) and a finesse, or nothing: then the frame tells."""
    head = {"WCAVFINE": 25.0, **{f"WSKEW{k}": 0.01 * k for k in range(15)}}
    shape = comb_drift.shape_of_header(head)
    assert shape is not None and shape.finesse == 25.0
    np.testing.assert_allclose(shape.skew, 0.01 * np.arange(15))
    del head["WSKEW3"]
    assert comb_drift.shape_of_header(head) is None
    assert comb_drift.shape_of_header({}) is None


# Products


def test_products_hold_what_every_product_must() -> None:
    """All files of both types, with star in the object table and without."""
    root = truth_night(1).bench.root
    for dprtype, count in (("OBJ_FP", 17), ("OBJ_DARK", 16)):
        _, files = made(1, dprtype)
        assert len(files) == count
        find = resolver(root, work(1, write_frame(1, star(1, dprtype))))
        for (kind, fibre), path in files.items():
            empty = check_product(path, MINI, find)
            if kind == "E2DSFF" and fibre == "AB":
                assert empty is not None and (empty < 0.5).all()


def test_header_of_a_spectrum() -> None:
    """Keywords that users' programs read, with the values that were put in."""
    spec = star(1)
    _, files = made(1)
    head = fits.getheader(files["E2DSFF", "AB"])
    site = ephemeris.Site(MINI.latitude, MINI.longitude, MINI.height_m)
    assert spec.target is not None
    berv, bjd = ephemeris.barycentric(spec.target, spec.mjd_mid, site)
    # The parallax of Barnard's star, which the simulator does not know, is worth 0.24 m/s.
    assert head["BERV"] == pytest.approx(float(berv[0]), abs=2.6e-4)
    assert head["BJD"] == pytest.approx(float(bjd[0]), abs=1e-8)
    assert head["MJDMID"] == pytest.approx(spec.mjd_mid, abs=1e-9)
    assert (head["EXT_TYPE"], head["CAL_FTYP"], head["PP_SRCE"]) == ("EXT_E2DS_FF", "star", "header")
    for keyword in (
        *("EFFRON", "EXTSATQC", "EXTSMAX", "EXTNREJ", "EXTCCUT", "EXTR1", "EXTR2", "LEAKCORR", "CAL_SIZE"),
        *("THRM_RAT", "THRM_RU", "SHAPE_DX", "SHAPE_D", "FPDRIFT", "PP_RA", "PP_RAS", "CDBBLAZE", "BLAZESUM"),
        *("WAVEFILE", "WAVETIME", "WAVESOUR", "WAVEDEGN", "WAVEEC00", "WFPDRIFT"),
        *("BERVMAX", "DBERV", "BERVSRCE", "BERV_EST", "BC_LAT"),
    ):
        assert keyword in head, keyword
    snr = [head[f"EXTSN{o:03d}"] for o in range(MINI.norders)]
    # With the thermal light: it is there when the S/N is worked out.
    names = truth_night(1).truth(spec).spectra
    truth = painted(1, "OBJ_FP", "AB", *names)[:, MINI.nx // 2 - 50 : MINI.nx // 2 + 50].mean(axis=1)
    noise = head["EFFRON"] ** 2 * (head["EXTR1"] + head["EXTR2"])
    np.testing.assert_allclose(snr, truth / np.sqrt(truth + noise), rtol=0.02)
    with fits.open(files["E2DS", "B"]) as units:
        assert [unit.name for unit in units[1:]] == ["EXT_E2DS", "ORDER_TABLE", "VARIANCE", "PARAM_TABLE"]
        table = units["ORDER_TABLE"].data
        assert list(table["echelle_num"]) == list(MINI.echelle)
        np.testing.assert_allclose(
            table["SNR"], [units[0].header[f"EXTSN{o:03d}"] for o in range(MINI.norders)]
        )
        names = table.columns.names
    for name in (
        "WAVE_MIN",
        "YPIX_CENT",
        "NCOSMIC",
        "FLUXVAL",
        "BLAZE_MED",
        "LOC_POS_COEFF_0",
        "WAVE_COEFF_5",
    ):
        assert name in names
    merged_head = fits.getheader(files["S1D_V", "AB"], 1)
    assert merged_head[f"EXTSN{MINI.snr_client:03d}"] == snr[MINI.snr_client]
    assert fits.getheader(files["S1D_V", "AB"])["S1DWAVEK"] == "velocity"


def test_contributions_of_pixels() -> None:
    """E2DSLL on request: every column adds up to the spectrum, as nothing else is taken off here."""
    spec = star(1, "OBJ_DARK")
    frame = write_frame(1, spec, name="9000002o")
    result = extract(1, work(1, frame, e2dsll=True, thermal=False), truth_night(1).frame(spec))
    files = paths(1, result)
    rows = {"AB": 33, "A": 17, "B": 17, "C": 15}
    for fibre in FIBRES:
        with fits.open(files["E2DSLL", fibre]) as units:
            assert units[1].data.shape == (rows[fibre] * MINI.norders, MINI.nx)
            assert [unit.name for unit in units[1:3]] == ["EXT_E2DS_LL", "E2DSCC"]
            assert set(np.unique(units[2].data)) <= {0, 1}
            summed = units[1].data.reshape(MINI.norders, rows[fibre], MINI.nx).sum(axis=1)
        flux = fits.getdata(files["E2DS", fibre])
        # The weights follow the flux of the pass before the last: equal to a few parts in a million.
        np.testing.assert_allclose(summed, flux, rtol=1e-4, atol=0.05)
    assert ("E2DSLL", "AB") not in made(1)[1]


def uncalibrated(cal: np.ndarray) -> np.ndarray:
    """Preprocessed plane, float32[row, column], of a calibrated one: in the whole frame, turned back."""
    whole = np.zeros((MINI.raw_columns, MINI.raw_rows), np.float32)
    whole[MINI.y0 : MINI.y0 + MINI.ny, MINI.x0 : MINI.x0 + MINI.nx] = cal
    return np.ascontiguousarray(whole[::-1, ::-1])


def test_frame_is_calibrated_first() -> None:
    """From ADU/s with dark and bad pixels to the spectrum of the same light calibrated perfectly.

    Both hold the same noise: what differs are the pixels made bad, 1 in 1000, each repaired or left out.  No
    light is scattered here, so none is taken off.  Without its dark the spectrum is wrong by many sigma.
    """
    spec, night = star(1), truth_night(1)
    light = night.frame(spec)
    rng = np.random.default_rng(5)
    factor = MINI.gain * spec.exptime_s
    dark = rng.uniform(0.2, 0.6, light.image.shape).astype(np.float32)
    bad = (rng.uniform(size=dark.shape) < 1e-3).astype(np.uint8)
    slope = light.image / np.float32(factor) + dark
    slope[bad == 1] += 40.0
    planes = (
        Image("PP", uncalibrated(slope)),
        Image("VARIANCE", uncalibrated(light.variance / np.float32(factor**2))),
    )
    frame = write_frame(1, spec, name="9000005o", planes=planes)
    between = (night.light(night.specs("FLAT_FLAT")[0]) < 1.0).astype(np.uint8)
    made_up = (
        night.file(
            ("DARKM",), "", [(Image("DARKM", uncalibrated(dark)), Image("VARIANCE", planes[1].data * 0))]
        ),
        night.file(("BADPIX", "BKGRDMAP"), "", [(Image("BADPIX", bad),), (Image("BKGRDMAP", between),)]),
    )

    def spectra(**options: object) -> dict[tuple[str, str], Path]:
        run = work(1, frame, **options)
        kept = tuple(c for c in run.calibrations if c.kinds[0] not in ("DARKM", "BADPIX"))
        run = replace(run, calibrations=(*kept, *made_up))
        return paths(1, run_recipe(run, night.bench.trees, MINI))

    perfect, found = made(1)[1], spectra(backsub=False)
    head = fits.getheader(found["E2DSFF", "AB"])
    assert head["CDBDARK"] == "truth_darkm_all_.fits" and head["CDBBAD"] == "truth_badpix_all_.fits"
    sigma = np.sqrt(fits.getdata(perfect["E2DSFF", "AB"], "VARIANCE"))
    expected = fits.getdata(perfect["E2DSFF", "AB"])

    def off(files: dict[tuple[str, str], Path]) -> np.ndarray:
        return np.abs(fits.getdata(files["E2DSFF", "AB"]) - expected) / sigma

    share = np.nanmean(off(found) > 1.0)
    print(f"median {np.nanmedian(off(found)):.3f} sigma, {100 * share:.2f} % of the pixels by more than one")
    # A column of AB has 33 rows: 1 in 1000 pixels touches 3 per cent of the columns, of which few matter.
    assert np.nanmedian(off(found)) < 0.1 and share < 0.03
    assert np.nanmedian(off(spectra(backsub=False, darkcorr=False, fiber="AB"))) > 3.0


def test_one_fibre() -> None:
    """--fiber AB makes the spectra of AB, the same as with all: its drift is that of the comb in C."""
    spec = star(1)
    frame = write_frame(1, spec, name="9000004o")
    result = extract(1, work(1, frame, fiber="AB"), truth_night(1).frame(spec))
    alone, whole = paths(1, result), made(1)[1]
    assert set(alone) == {(kind, "AB") for kind in ("E2DS", "E2DSFF", "S1D_W", "S1D_V")}
    for ext in (1, "VARIANCE"):
        np.testing.assert_array_equal(
            fits.getdata(alone["E2DSFF", "AB"], ext), fits.getdata(whole["E2DSFF", "AB"], ext)
        )
    heads = [fits.getheader(files["E2DSFF", "AB"]) for files in (alone, whole)]
    for key in ("FPDRIFT", "WFPDRIFT", "THRM_RAT", "BERV"):
        assert heads[0].get(key) == heads[1].get(key), key


def test_solution_named_by_the_user() -> None:
    """--wavefile: the named solution counts, for every fibre with a file beside it; the light stays.

    Moved to longer wavelengths by 400 m/s under the same cavity, the comb seems to have moved by as much.
    """
    night, spec, velocity = truth_night(1), star(1), 400.0
    folder = night.bench.root / "reduced" / night.night
    known = next(c for c in calibrations(1) if c.kinds == ("WAVE",))
    for f in FIBRES:
        wave = WaveMap(solution(1)[f].coefficients * (1.0 + velocity / C_MS), MINI.nx)
        source = FitsFile(night.bench.root / next(file.path for file in known.files if file.fibre == f))
        cards = [c for c in split_cards(source.text) if c[:8].rstrip() not in STRUCTURE]
        table = Table("COEFF_TABLE", coefficient_columns(wave))
        write_fits(folder / f"mine_wave_{f}.fits", cards, (Image("WAVE", wave.image(), unit="nm"), table))
    frame = write_frame(1, spec, name="9000006o")
    chosen = work(1, frame, wavefile="mine_wave_AB.fits")
    others = tuple(c for c in chosen.calibrations if c.kinds != ("WAVE",))
    chosen = replace(chosen, calibrations=(*others, Calibration(("WAVE",), "", "", "file:mine_wave_AB.fits")))
    files, usual = paths(1, extract(1, chosen, night.frame(spec))), made(1)[1]
    for f in ("AB", "C"):
        np.testing.assert_array_equal(*(fits.getdata(each["E2DSFF", f]) for each in (files, usual)))
        head, before = (fits.getheader(each["E2DSFF", f]) for each in (files, usual))
        assert head["WAVEFILE"] == f"mine_wave_{f}.fits" != before["WAVEFILE"]
        # 0.1 m/s of a coefficient: what is left of it in a card of 64 bits is far below.
        assert C_MS * (head["WAVE0000"] / before["WAVE0000"] - 1.0) == pytest.approx(velocity, abs=0.1)
        # A per cent: the error of a drift, 0.3 to 1 m/s in the small instrument, divided by 400 m/s.
        assert head["FPDRIFT"] - before["FPDRIFT"] == pytest.approx(velocity, rel=0.01)
    gone = replace(chosen, options=(("wavefile", "gone_AB.fits"),))
    with pytest.raises(DataError, match=r"WAVE file gone_AB\.fits is not there .*correct the option"):
        extract(1, gone, night.frame(spec))


def test_quick_look_and_lamps() -> None:
    """Equal weights, nothing rejected; a lamp has no star, its thermal light is that of the internal dark."""
    spec = star(1)
    frame = write_frame(1, spec, name="9000003o")
    result = extract(1, work(1, frame, quicklook=True), truth_night(1).frame(spec))
    head = fits.getheader(paths(1, result)["E2DSFF", "AB"])
    assert (head["EXTMETH"], head["EXTCOS"], head["EXTNREJ"]) == ("two_step", False, 0)
    lamp = truth_night(1).specs("FP_FP")[0]
    frame = write_frame(1, lamp, {"DRSOBJN": "CALIB", "TRG_TYPE": ""})
    chosen = work(1, frame)
    kept = tuple(c for c in chosen.calibrations if c.kinds != ("THERMALT",))
    internal = next(c for c in kept if c.kinds == ("THERMALI",))
    chosen = replace(chosen, calibrations=(*kept, replace(internal, applies_to="science")))
    result = extract(1, chosen, truth_night(1).frame(lamp))
    files = paths(1, result)
    head = fits.getheader(files["E2DSFF", "AB"])
    assert (head["BERV"], head["BERVSRCE"], head["CAL_FTYP"]) == ("NaN", "none", "fp")
    assert head["THRM_RU"] == "exposure"
    assert (
        result.passed
        and check_product(files["E2DSFF", "A"], MINI, resolver(truth_night(1).bench.root, chosen)) is not None
    )


# Odd frames: each ends in a named outcome


def odd(
    frame: Calibrated, cards: Mapping[str, Any] | None = None, number: int = 0, **options: object
) -> tuple[RecipeResult, fits.Header, Work]:
    """Extraction of a changed OBJ_FP frame, and the header of its AB spectrum."""
    path = write_frame(1, star(1), cards, name=f"{9200000 + number:07d}o")
    chosen = work(1, path, **options)
    result = extract(1, chosen, frame)
    return result, fits.getheader(paths(1, result)["E2DSFF", "AB"]), chosen


def frame_of(light: np.ndarray | None = None) -> Calibrated:
    return truth_night(1).frame(star(1), light=light)


def codes(result: RecipeResult) -> set[str]:
    return {code for code, _ in result.messages}


def failed(result: RecipeResult) -> set[str]:
    return {test.name for test in result.qc if not test.passed}


def test_no_light_at_all() -> None:
    """Noise alone: the S/N tests fail and say so, the comb is missing, the spectra are written."""
    night = truth_night(1)
    dark = replace(night.frame(star(1), light=np.zeros((MINI.ny, MINI.nx))))
    result, head, _ = odd(dark, number=1)
    assert {"SNR_AB", "SNR_A", "SNR_B", "SNR_C", "FP_LINES"} <= failed(result)
    assert "W-NO-COMB" in codes(result)
    assert result.passed and head["QCC_ALL"] is True and head["FPDRIFT"] == "NaN"


def test_nothing_but_nan() -> None:
    """The one deciding test fails; every product is written and flagged."""
    frame = frame_of()
    empty = replace(frame, image=np.full_like(frame.image, np.nan), base=np.full_like(frame.base, np.nan))
    result, head, _ = odd(empty, number=2)
    assert not result.passed
    assert {test.name for test in result.qc if not test.passed and not test.informative} == {
        f"FINITE_{f}" for f in FIBRES
    }
    assert head["QCC_ALL"] is False and len(result.outputs) == 17


def test_comb_switched_off() -> None:
    """The header promises a Fabry-Perot, the fibre is dark: no drift, named, the star is not touched."""
    light = truth_night(1).light(star(1)) - _comb_light()
    result, head, _ = odd(frame_of(np.maximum(light, 0.0)), number=3)
    assert "W-NO-COMB" in codes(result) and "FP_LINES" in failed(result) and result.passed
    assert (head["FPDRIFT"], head["FPDRNUM"]) == ("NaN", 0)
    assert head[f"EXTSN{MINI.snr_client:03d}"] > 50


def _comb_light() -> np.ndarray:
    """What the comb adds to the frame: everything in and around the rows of the reference fibre."""
    night = truth_night(1)
    light = night.light(star(1))
    trace = night.truth(star(1)).trace_px[2]
    y = np.arange(MINI.ny)[:, None]
    near = np.zeros(light.shape, bool)
    for row in trace:
        near |= np.abs(y - row) < 9
    return np.where(near, light, 0.0)


def test_saturated_frame() -> None:
    result, head, _ = odd(frame_of(300 * truth_night(1).light(star(1))), number=4)
    assert "W-SATURATED" in codes(result) and "PEAK_C" in failed(result)
    assert head["EXTSATQC"] == extract_run.SATURATION_ADU


def test_empty_order() -> None:
    """An order without pixels is NaN, counted, and costs nothing but itself."""
    frame = frame_of()
    o = 6
    image = frame.image.copy()
    traces = truth_night(1).truth(star(1)).trace_px[:2, o]
    image[int(traces.min()) - 10 : int(traces.max()) + 11] = np.nan
    result, head, chosen = odd(replace(frame, image=image), number=5)
    assert result.passed and not failed(result) & {"EMPTY_AB"}
    assert next(t for t in result.qc if t.name == "EMPTY_AB").value == "1"
    files = paths(1, result)
    empty = check_product(files["E2DSFF", "AB"], MINI, resolver(truth_night(1).bench.root, chosen))
    assert empty is not None and empty[o] == 1.0 and (np.delete(empty, o) < 0.5).all()
    assert head[f"EXTSN{o:03d}"] == 0.0
    plain = fits.getdata(made(1)[1]["E2DSFF", "AB"])
    np.testing.assert_allclose(
        fits.getdata(files["E2DSFF", "AB"])[: o - 1], plain[: o - 1], rtol=1e-5, atol=1e-2
    )


def test_star_not_in_the_table(tmp_path: Path) -> None:
    """Header values, flagged; with the star in the table those of the table and no message."""
    result, head, _ = odd(frame_of(), number=6)
    assert "W-STAR-HEADER" in codes(result) and head["PP_RAS"] == "header"
    (tmp_path / "objects.csv").write_text(
        "OBJNAME,RA_DEG,RA_SOURCE,DEC_DEG,EPOCH,PMRA,PMDE,PLX,RV\n"
        "GL699,269.452083,gaia,4.693391,2451545.0,-800,10360,546.98,-110.5\n"
    )
    path = write_frame(1, star(1), name="9200007o")
    known = extract(1, work(1, path), frame_of(), assets=tmp_path)
    table = fits.getheader(paths(1, known)["E2DSFF", "AB"])
    assert "W-STAR-HEADER" not in codes(known)
    assert (table["PP_SRCE"], table["PP_RAS"], table["PP_RV"]) == ("table", "gaia", -110.5)
    assert table["BERV"] == pytest.approx(head["BERV"], abs=1e-6)


def test_star_without_coordinates() -> None:
    """No correction, said so; the estimate from the pointing is there for whoever wants it."""
    result, head, _ = odd(frame_of(), {"OBJRA": "", "OBJDEC": "", "DRSOBJN": "NOBODY"}, number=8)
    assert "W-STAR-NONE" in codes(result) and result.passed
    assert (head["BERV"], head["BJD"], head["BERVSRCE"], head["PP_SRCE"]) == ("NaN", "NaN", "none", "none")
    assert float(head["BERV_EST"]) == pytest.approx(
        fits.getheader(made(1)[1]["E2DSFF", "AB"])["BERV"], abs=0.05
    )


def test_frame_of_another_object() -> None:
    """The telescope pointed elsewhere, or the options ask for another star or type."""
    result, _, _ = odd(frame_of(), {"RA_DEG": 200.0, "DEC_DEG": 10.0}, number=9)
    assert "W-POINTING" in codes(result) and "POINTING" in failed(result) and result.passed
    with pytest.raises(DataError, match="the frame is of GL699, --objname asks for TOIM442"):
        odd(frame_of(), number=10, objname="TOI-442")
    with pytest.raises(DataError, match="the frame is OBJ_FP, --dprtype asks for POLAR_FP"):
        odd(frame_of(), number=11, dprtype="POLAR_FP")
    assert odd(frame_of(), number=12, objname="gl699")[0].passed


def test_missing_calibrations_are_named() -> None:
    path = write_frame(1, star(1), name="9200013o")
    chosen = work(1, path)
    wrong = truth_night(1).several(("WAVE",), {f: _without_cavity(f) for f in FIBRES})
    with pytest.raises(DataError, match="the header lacks WCAV_DEG, the cavity of the etalon"):
        others = tuple(c for c in chosen.calibrations if c.kinds != ("WAVE",))
        extract(1, replace(chosen, calibrations=(*others, wrong)), frame_of())
    extractnight.calibrations.cache_clear()


def _without_cavity(fibre: str) -> list[tuple[Any, ...]]:
    from apero_dask.io.fitswriter import Image, Table
    from apero_dask.recipes.wave_maps import coefficient_columns

    wave = solution(1)[fibre]
    return [(Image("WAVE", wave.image()), Table("COEFF_TABLE", coefficient_columns(wave)))]


# Combination of several frames


def test_combined_frames() -> None:
    """The sum of three frames from their mean: flux, variance, exposure, noise."""
    frame = frame_of()
    three = extract_run._times(frame, 3)
    np.testing.assert_allclose(three.image, 3 * frame.image)
    np.testing.assert_allclose(three.base + three.photon * np.maximum(three.image, 0), 9 * (
        frame.base + frame.photon * np.maximum(frame.image, 0)
    ), rtol=1e-5)  # fmt: skip
    assert (three.exposure_s, three.effron) == (3 * frame.exposure_s, 3 * frame.effron)


def test_several_frames_in_one_spectrum() -> None:
    """Time and velocity are those of the middle of all frames, the exposure spans them."""
    first = star(1)
    later = replace(first, mjd_start=first.mjd_start + 0.02, mjd_end=first.mjd_end + 0.02)
    files = [write_frame(1, one, name=f"920002{k}o") for k, one in enumerate((first, later))]
    root = truth_night(1).bench.root
    both = tuple(InputFile(str(path.relative_to(root))) for path in files)
    chosen = replace(work(1, files[0]), inputs=(("files", both),))
    result = extract(1, chosen, frame_of())
    head = fits.getheader(paths(1, result)["E2DSFF", "AB"])
    alone = fits.getheader(made(1)[1]["E2DSFF", "AB"])
    assert head["MJDMID"] == pytest.approx(first.mjd_mid + 0.01, abs=1e-9)
    assert head["MJDEND"] - alone["MJDEND"] == pytest.approx(0.02, abs=1e-6)
    assert head["INF1001"] == files[1].name
    change = 0.01 * 86_400 * float(alone["DBERV"])
    assert abs(head["BERV"] - alone["BERV"]) == pytest.approx(change, rel=0.05)
    wrong = write_frame(1, star(1, "OBJ_DARK"), name="9200022o")
    mixed = replace(chosen, inputs=(("files", (*both, InputFile(str(wrong.relative_to(root))))),))
    with pytest.raises(DataError, match="frames of types OBJ_DARK, OBJ_FP"):
        extract(1, mixed, frame_of())
