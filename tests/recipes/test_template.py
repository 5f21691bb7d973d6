"""Templates of stars drawn from the simulator: depths, errors, outliers, and which frames count."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
from apero_kernels.polynomial import low_pass

from apero_dask.core.errors import DataError
from apero_dask.core.products import KINDS, folder
from apero_dask.core.work import Calibration, CalibrationFile
from apero_dask.io.fits import FitsFile
from apero_dask.io.fitswriter import Image, Table
from apero_dask.recipes import template_deconvolve
from apero_dask.recipes.template_stack import berv_coverage, combine
from apero_dask.recipes.wave_maps import coefficient_columns
from apero_dask.recipes.wave_products import map_cards
from tests.recipes.runs import MINI
from tests.recipes.sciencenight import NIGHT, Root, write
from tests.recipes.starlight import Star, star, wave_map_of

MADE = ("TEMPLATE", "TEMPLATE_W", "TEMPLATE_V", "BIGCUBE", "BIGCUBE0")
EPOCHS = tuple(float(b) for b in np.linspace(-25.0, 25.0, 12))


def prepare(root: Root, shown: Star) -> None:
    """Reference wavelengths and blaze."""
    place = root.path / "reduced" / NIGHT
    solution = wave_map_of(shown.wave)
    columns = Table("COEFF_TABLE", coefficient_columns(solution))
    path = write(place / "wavem_AB.fits", {}, Image("WAVEM", solution.image()), columns)
    lit = np.where(shown.blaze > 0.1 * shown.blaze.max(axis=1, keepdims=True), 3e4 * shown.blaze, np.nan)
    write(place / "blaze_AB.fits", {}, Image("BLAZE", lit))
    files = (CalibrationFile("WAVEM", "AB", path),)
    root.calibrations = (Calibration(("WAVEM",), "", "", "test WAVEM", rank=1, files=files),)


def frame(
    root: Root, number: int, shown: Star, flux: np.ndarray, variance: np.ndarray, **cards: object
) -> str:
    """Corrected spectrum of an exposure with all cards a template needs."""
    solution = map_cards(wave_map_of(shown.wave), MINI, "wave_AB.fits", 58386.0, "test")
    header: dict[str, object] = {key: value[0] for key, value in solution.items()}
    header |= {
        "FILENAME": f"{2320100 + number}o",
        "BERV": shown.spec.berv_kms,
        "BJD": 2458386.5 + number,
        "MJDMID": 58386.0 + number,
        f"EXTSN{MINI.snr_telluric:03d}": 120.0,
        "CDBBLAZE": f"{NIGHT}_blaze_AB.fits",
        "CDNBLAZE": NIGHT,
    }
    recon = np.ones(flux.shape)
    return root.spectrum(
        f"{2320100 + number}o", flux, variance, kind="TCORR1", recon=recon, **(header | cards)
    )


def made(root: Root, files: Sequence[str], name: str = "GL699", **values: object) -> dict[str, Path]:
    """Run obj_mk_template; paths of the products."""
    base = folder("reduced", "night", "", KINDS["TEMPLATE"].life)
    outputs = tuple((kind, "AB", base + KINDS[kind].file_name(name, "AB")) for kind in MADE)
    work = root.work(
        "obj_mk_template", "FTELLU2", name, {"files": list(files)}, outputs, object=name, **values
    )
    result = root.run(work)
    assert result.passed
    return {kind: root.path / path for kind, _, path in outputs}


@lru_cache
def truth() -> np.ndarray:
    """Flux over blaze with median 1 as a frame without noise would have it at BERV 0."""
    shown = star()
    lit = shown.blaze > 0.1 * np.percentile(shown.blaze, 95, axis=1, keepdims=True)
    flux = np.where(lit, shown.flux / shown.blaze, np.nan)
    return flux / np.nanmedian(flux, axis=1, keepdims=True)


@pytest.fixture(scope="module")
def twelve(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Template of twelve epochs; one pixel of the seventh is hit, and the third has a hole."""
    root = Root(tmp_path_factory.mktemp("template"))
    prepare(root, star())
    files = []
    for k, berv in enumerate(EPOCHS):
        shown = star(berv=berv)
        flux = shown.exposed(k)
        if k == 6:
            flux[6, 500] += 40 * np.sqrt(shown.variance[6, 500])
        if k == 2:
            flux[7, 300:320] = np.nan
        files.append(frame(root, k, shown, flux, shown.variance))
    return made(root, files)


def test_depths_of_lines_are_recovered(twelve: dict[str, Path]) -> None:
    """Acceptance figure: depths to 1 per cent with 12 epochs; here that of all lines of an order together."""
    found = FitsFile(twelve["TEMPLATE"]).image(1)
    slopes, weights = [], []
    for o in range(MINI.norders):
        good = np.isfinite(found[o]) & np.isfinite(truth()[o])
        if np.count_nonzero(good) < 300:
            continue
        a, b = found[o][good], truth()[o][good]
        # Noise moves the median of a window with lines: a change of the level, not of a depth.
        depth = [1 - row / low_pass(row, 127) for row in (a, b)]
        depth = [row - row.mean() for row in depth]
        slopes.append(np.sum(depth[0] * depth[1]) / np.sum(depth[1] ** 2))
        weights.append(np.sum(depth[1] ** 2) * star().flux[o].mean())
    mean = np.average(slopes, weights=weights)
    print("depth over true depth:", np.round(slopes, 4), "mean", round(float(mean), 4))
    assert len(slopes) == MINI.norders
    assert abs(mean - 1.0) < 0.01


def test_errors_are_those_of_the_noise(twelve: dict[str, Path]) -> None:
    file = FitsFile(twelve["TEMPLATE"])
    flux, error, count = file.image(1), file.image("ERROR"), file.image("N_VALID")
    assert count.max() == 12
    inside = count == 12
    off = []
    for o in range(MINI.norders):
        good = inside[o] & np.isfinite(truth()[o])
        ratio = flux[o][good] / truth()[o][good]
        off.append((ratio - low_pass(ratio, 127)) / (error[o] / truth()[o])[good])
    chi = np.concatenate(off)
    scatter = 0.5 * np.diff(np.percentile(chi, [15.8655, 84.1345]))[0]
    print("template: scatter over error", round(float(scatter), 3))
    # A spline passes less noise than a pixel has between pixels: 0.8 to 1 of its standard deviation.
    assert 0.75 < scatter < 1.15


def test_outlier_and_hole_do_no_harm(twelve: dict[str, Path]) -> None:
    file = FitsFile(twelve["TEMPLATE"])
    rejected = file.table("COMBINE_TABLE")["REJECTED"]
    assert rejected[6] >= 1
    # 5 sigma of a Gaussian: less than one value in a million, plus what follows from 12 of them.
    assert rejected.sum() < 60
    off = (file.image(1)[6] - truth()[6]) / file.image("ERROR")[6]
    assert np.nanmax(np.abs(off[480:530])) < 6.0
    assert np.isfinite(file.image(1)[7, 250:380]).all()
    assert file.image("N_VALID")[7].min() < 12


def test_products_hold_what_programs_read(twelve: dict[str, Path]) -> None:
    file = FitsFile(twelve["TEMPLATE"])
    cards = "MTPNFILO MTPNFILU MTP_HASH MTP_TIME MTPSNROD MTPSNRTH MTPBCOV MTPBCMIN MTPBCSNR MTPBCRES"
    assert not set(cards.split()) - set(file.values)
    assert (file.values["MTPNFILO"], file.values["MTPNFILU"]) == (12, 12)
    # Twelve epochs over 50 km/s, each worth 4 km/s and more.
    assert 40.0 < file.values["MTPBCOV"] < 62.0
    rows = file.table("TEMPLATE_TABLE")
    assert rows["Filename"].size == 12
    assert (np.diff(rows["MidObsMJD"]) > 0).all()
    assert rows["BLAZEFILE"][0] == f"{NIGHT}_blaze_AB.fits"
    assert set(file.table("BERV_TABLE")) == {"BERV", "ANTICOVERAGE", "COVERAGE"}
    cube = FitsFile(twelve["BIGCUBE"]).image(1)
    assert cube.shape == (12, MINI.norders, MINI.nx)
    assert FitsFile(twelve["BIGCUBE0"]).image(1).shape == cube.shape
    np.testing.assert_allclose(np.nanmedian(file.image(1), axis=1), 1.0, rtol=1e-6)
    for kind, size in (("TEMPLATE_W", 307001), ("TEMPLATE_V", 285377)):
        table = FitsFile(twelve[kind]).table(1)
        assert table["wavelength"].size == size
        assert {"flux", "eflux", "rms", "deconv", "n_valid"} <= set(table)
        lit = np.isfinite(table["flux"])
        # Merged orders show the same star: compared in the middle of an order of H.
        middle = np.abs(table["wavelength"] - star().wave[6, 508]) < 1.0
        expected = np.interp(table["wavelength"][middle], star().wave[6], file.image(1)[6])
        np.testing.assert_allclose(table["flux"][middle], expected, atol=0.02)
        assert table["n_valid"][lit].max() == 12


def test_weak_frames_are_listed_and_not_used(tmp_path: Path) -> None:
    root = Root(tmp_path)
    prepare(root, star())
    shown = star()
    snr = f"EXTSN{MINI.snr_telluric:03d}"
    files = [
        frame(root, k, shown, shown.exposed(k), shown.variance, **{snr: level})
        for k, level in enumerate((60.0, 25.0, 65.0))
    ]
    # The same exposure twice, and one without a place on the sky.
    files.append(files[0])
    files.append(frame(root, 5, shown, shown.exposed(5), shown.variance, BERV="NaN"))
    file = FitsFile(made(root, files)["TEMPLATE"])
    assert file.table("TEMPLATE_TABLE")["USED"].tolist() == [1, 0, 1]
    assert file.values["MTPNFILU"] == 2
    assert file.values["MTPNOBRV"] == 1
    assert file.values["QCC_ALL"] is True
    assert file.values["QCC002P"] == 0  # no coverage: flagged, still used


def test_one_frame_makes_a_template(tmp_path: Path) -> None:
    root = Root(tmp_path)
    prepare(root, star())
    shown = star()
    file = FitsFile(made(root, [frame(root, 0, shown, shown.flux, shown.variance)])["TEMPLATE"])
    both = np.isfinite(file.image(1)) & np.isfinite(truth())
    smooth = np.abs(file.image(1)[both] / truth()[both] - 1)
    # Same pixels, same wavelengths: only the normalisation by windows is between the two.
    assert np.median(smooth) < 0.01


def test_hot_star_keeps_no_narrow_line(tmp_path: Path) -> None:
    root = Root(tmp_path)
    prepare(root, star())
    shown = star(kind="hot")
    files = [frame(root, k, shown, shown.exposed(k), shown.variance, OBJTEMP=10000.0) for k in range(3)]
    flux = FitsFile(made(root, files)["TEMPLATE"]).image(1)[6]
    good = np.isfinite(flux)
    assert np.abs(np.diff(flux[good])).max() < 2e-3  # noise of three frames would be 6e-3


@pytest.mark.parametrize(
    ("cards", "said"),
    [
        ({"DRSOBJN": "TOI442"}, "a spectrum of TOI442, the template is of GL699"),
        ({"BERV": "NaN"}, "none of 1 spectra has a BERV; add the object to objects.csv"),
        ({"CDBBLAZE": "gone.fits"}, "its blaze gone.fits is not there"),
        ({"BLAZESUM": "12345"}, "blaze_AB.fits whose pixels sum to 12345, .* it was made anew since"),
        ({"WAVEPOLY": "power"}, "basis power, expected Chebyshev"),
        ({f"EXTSN{MINI.snr_telluric:03d}": 0.0}, "none of 1 spectra has an S/N above 0"),
    ],
)
def test_frames_that_cannot_be_used_are_named(tmp_path: Path, cards: dict[str, object], said: str) -> None:
    root = Root(tmp_path)
    prepare(root, star())
    shown = star()
    file = frame(root, 0, shown, shown.flux, shown.variance, **cards)
    with pytest.raises(DataError, match=said):
        made(root, [file])
    assert not (root.path / "reduced" / "other").exists() or not any(
        (root.path / "reduced" / "other").iterdir()
    )


def test_frame_without_a_value_is_refused(tmp_path: Path) -> None:
    root = Root(tmp_path)
    prepare(root, star())
    shown = star()
    file = frame(root, 0, shown, np.full_like(shown.flux, np.nan), shown.variance)
    with pytest.raises(DataError, match="none of 1 spectra holds a value"):
        made(root, [file])


def test_combination_is_the_weighted_mean_of_what_belongs_together() -> None:
    rng = np.random.default_rng(1)
    sigma = np.array([0.01, 0.02, 0.01, 0.04, 0.01])
    star_row = 1 + 0.1 * np.sin(np.arange(4000) / 9.0)
    flux = star_row + sigma[:, None] * rng.standard_normal((5, 4000))
    flux[1] *= 1 + np.linspace(-0.2, 0.2, 4000)  # another continuum
    flux[2, 77] = 3.0
    found = combine(flux, np.square(sigma)[:, None] * np.ones((5, 4000)), np.ones((5, 4000)))
    best = 1 / np.sqrt(np.sum(1 / sigma**2))
    inner = slice(300, 3700)
    assert np.std((found.flux / star_row)[inner]) < 1.15 * best
    assert np.median(found.error) == pytest.approx(best, rel=0.1)
    assert abs(found.flux[77] - star_row[77]) < 5 * best
    assert found.count[77] == 4


def test_deconvolved_template_is_what_the_line_spread_blurs() -> None:
    velocity = np.arange(4000.0)
    lines = np.random.default_rng(1).uniform(50, 3950, 150)
    star_row = np.ones(velocity.size)
    for line in lines:
        star_row *= 1 - 0.3 * np.exp(-0.5 * ((velocity - line) / 2.5) ** 2)
    seen = np.convolve(star_row, template_deconvolve.line_spread(1.0), mode="same")
    seen[2000:2010] = np.nan
    sharp = template_deconvolve.deconvolved(seen, 1.0)
    known = np.isfinite(seen)
    assert (np.isfinite(sharp) == known).all()
    inner = known & (velocity > 50) & (velocity < 3950) & (np.abs(velocity - 2005) > 40)
    # The smoothing of the corrections keeps the finest structure out: half of the error goes, not all.
    assert np.std((sharp - star_row)[inner]) < 0.5 * np.std((seen - star_row)[inner])
    again = np.convolve(np.where(known, sharp, 1.0), template_deconvolve.line_spread(1.0), mode="same")
    assert np.abs(again - seen)[inner].max() < 0.01


def test_coverage_is_the_product_over_frames() -> None:
    grid, anti, cover, total = berv_coverage([0.0], [100.0])
    sigma = 4.0 / 2.354820045030949
    expected = np.exp(-0.25 * (grid / sigma) ** 2)
    np.testing.assert_allclose(cover, expected, atol=1e-12)
    np.testing.assert_allclose(anti, 1 - expected, atol=1e-12)
    assert total == pytest.approx(np.sqrt(4 * np.pi) * sigma, rel=0.01)
    assert berv_coverage([0.0, 15.0], [100.0, 100.0])[3] > 1.9 * total
