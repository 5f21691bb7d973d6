"""Components of the night sky from files of a user: formats, checks, and what a recipe makes of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from astropy.io import fits

from apero_dask.core.errors import DataError
from apero_dask.recipes import sky_emission
from apero_dask.recipes.sky_components import SkyComponents, components_of_image, components_of_table
from apero_dask.recipes.wave_maps import first_guess
from tests.recipes.runs import MINI

C_KMS = 299792.458
LINES_NM = tuple(first_guess(MINI, "AB").image()[(2, 4, 6, 8), 400].tolist())
"""In four orders of the small instrument."""
FWHM_KMS = 4.5


def line(wave: np.ndarray, centre: float) -> np.ndarray:
    return np.exp(-4 * np.log(2) * np.square(C_KMS * (wave / centre - 1) / FWHM_KMS))


def spectra(wave: np.ndarray) -> dict[str, np.ndarray]:
    """Two components: all lines, and the last two."""
    profiles = [line(wave, centre) for centre in LINES_NM]
    return {"comp_1": np.sum(profiles, axis=0), "comp_2": np.sum(profiles[2:], axis=0)}


def table_of(
    path: Path, wave: np.ndarray, unit: str | None = "nm", medium: str = "", **columns: np.ndarray
) -> Path:
    found = {**spectra(wave), **columns}
    factor = {"Angstrom": 10.0, "um": 1e-3}.get(unit or "", 1.0)
    made = [fits.Column("wavelength", "D", unit=unit, array=wave * factor)]
    made += [fits.Column(name, "D", array=values) for name, values in found.items()]
    table = fits.BinTableHDU.from_columns(made)
    if medium:
        table.header["MEDIUM"] = medium
    path.parent.mkdir(parents=True, exist_ok=True)
    table.writeto(path, overwrite=True)
    return path


def grid(step_kms: float = 0.5) -> np.ndarray:
    return 960.0 * np.exp(np.arange(0, np.log(2520 / 960) * C_KMS, step_kms) / C_KMS)


def edlen_air(vacuum_nm: np.ndarray) -> np.ndarray:
    """Wavelengths in standard air (Ciddor 1996, as given by Morton 2000), independent of the package."""
    s2 = np.square(1e3 / vacuum_nm)
    n = 1 + 0.0000834254 + 0.02406147 / (130 - s2) + 0.00015998 / (38.9 - s2)
    return np.asarray(vacuum_nm / n)


@pytest.mark.parametrize("unit", ["nm", "Angstrom", "um", None])
def test_table_in_any_unit(tmp_path: Path, unit: str | None) -> None:
    found = components_of_table(table_of(tmp_path / "sky_components.fits", grid(), unit))
    assert found.names == ("comp_1", "comp_2") and not found.with_blaze
    np.testing.assert_allclose(found.wave, grid(), rtol=1e-14)
    np.testing.assert_array_equal(found.flux[0], spectra(grid())["comp_1"])


def test_wavelengths_in_air_are_moved_to_vacuum(tmp_path: Path) -> None:
    """Not moved they would be off by 82 km/s; both formulae of the index of refraction agree to 20 m/s."""
    air = edlen_air(grid())
    path = table_of(tmp_path / "sky_components.fits", air, medium="air", **spectra(grid()))
    found = components_of_table(path)
    assert np.abs(C_KMS * (found.wave / grid() - 1)).max() < 0.02
    plain = components_of_table(table_of(path, air, **spectra(grid())))
    assert np.abs(C_KMS * (plain.wave / grid() - 1)).min() > 75
    with pytest.raises(DataError, match="MEDIUM = 'ether', expected vacuum or air"):
        components_of_table(table_of(path, air, medium="ether"))
    wave = first_guess(MINI, "AB").image()
    image = np.stack([edlen_air(wave).ravel(), np.ones(wave.size)], axis=1)
    fits.HDUList([fits.PrimaryHDU(image, fits.Header([("MEDIUM", "air")]))]).writeto(
        tmp_path / "sky_PCs.fits"
    )
    moved = components_of_image(tmp_path / "sky_PCs.fits", wave.shape)
    assert np.abs(C_KMS * (moved.wave / wave - 1)).max() < 0.02


def test_bad_tables(tmp_path: Path) -> None:
    path, wave = tmp_path / "sky_components.fits", grid(5.0)
    for made, says in (
        (lambda: table_of(path, wave, "parsec"), "unit 'parsec' of wavelength, expected nm, Angstrom or um"),
        (lambda: table_of(path, wave[::-1].copy()), "must be finite and rise from row to row"),
        (lambda: table_of(path, np.where(np.arange(wave.size) == 7, np.nan, wave)), "must be finite"),
        (lambda: table_of(path, wave, comp_2=np.full(wave.size, np.nan)), "comp_2 holds no number"),
        (lambda: fits.HDUList([fits.PrimaryHDU(np.ones((3, 3)))]).writeto(path, overwrite=True), "no binary"),
        (
            lambda: fits.BinTableHDU.from_columns([fits.Column("wave", "D", array=wave)]).writeto(
                path, overwrite=True
            ),
            "columns wave; expected wavelength, comp_1",
        ),
    ):
        made()
        with pytest.raises(DataError, match=says) as caught:
            sky_emission.read_sky(path, (2, 10))
        assert str(path) in str(caught.value)


def test_bad_images(tmp_path: Path) -> None:
    path, wave = tmp_path / "sky_PCs.fits", first_guess(MINI, "AB").image()
    good = np.stack([wave.ravel(), np.ones(wave.size)], axis=1)
    falling, dark = good.copy(), good.copy()
    falling[5, 0] = falling[3, 0]
    dark[:, 1] = np.nan
    for data, says in (
        (good[:-1], "image of shape"),
        (good[:, :1], "expected .*1 . components"),
        (falling, "rising along an order"),
        (dark, "comp_1 holds no number"),
    ):
        fits.writeto(path, data, overwrite=True)
        with pytest.raises(DataError, match=says):
            sky_emission.read_sky(path, wave.shape)


def test_components_that_cover_nothing(tmp_path: Path) -> None:
    """Wavelengths in um without a unit are taken for nm: no pixel is covered, and that is said."""
    wave = first_guess(MINI, "AB").image()
    sky = components_of_table(table_of(tmp_path / "sky_components.fits", grid(5.0) / 1e3, None))
    one = np.ones(wave.shape)
    with pytest.raises(
        DataError, match=r"wavelengths 0\.96 to 2\.52 nm, the spectrum has 1006.*check their unit"
    ):
        sky_emission.sky_planes(sky, wave, 4 * one, 2 * one, one)
    part = grid(0.5)
    low, high = LINES_NM[2] + np.array([-5.0, 5.0])
    part = part[(part > low) & (part < high)]
    names, planes = sky_emission.sky_planes(
        components_of_table(table_of(tmp_path / "sky_components.fits", part)), wave, 4 * one, 2 * one, one
    )
    outside = (wave < low) | (wave > high)
    assert names == ("comp_1", "comp_2") and not planes[:, outside].any() and planes[0].max() > 0.9


@pytest.mark.parametrize("as_image", [False, True])
def test_planes_and_amplitudes(tmp_path: Path, as_image: bool) -> None:
    """What is drawn with known amplitudes is found; a table gets the blaze, an image has it already.

    Holes of a component are filled by straight lines and stay without weight in the fit.
    """
    wave = first_guess(MINI, "AB").image()
    blaze = np.sinc(0.7 * np.linspace(-1, 1, MINI.nx))[None] ** 2 * np.ones((MINI.norders, 1))
    own = spectra(wave)
    if as_image:
        data = np.stack([wave.ravel(), *((blaze * plane).ravel() for plane in own.values())], axis=1)
        fits.writeto(tmp_path / "sky_PCs.fits", data)
        sky = sky_emission.read_sky(tmp_path / "sky_PCs.fits", wave.shape)
    else:
        sky = sky_emission.read_sky(table_of(tmp_path / "sky_components.fits", grid()), wave.shape)
    assert isinstance(sky, SkyComponents) and sky.with_blaze == as_image
    names, planes = sky_emission.sky_planes(sky, wave, 4 * blaze, 2 * blaze, blaze)
    for plane, true in zip(planes, own.values(), strict=True):
        # Straight lines between points of step h err by h^2/8 of the curvature, at most 8 ln 2/FWHM^2.
        np.testing.assert_allclose(plane, blaze * true, atol=np.log(2) * (0.5 / FWHM_KMS) ** 2)
    drawn = 800.0 * planes[0] + 300.0 * planes[1]
    variance = 400.0 + drawn
    rng = np.random.default_rng(3)
    found = sky_emission.fit_sky(
        drawn + np.sqrt(variance) * rng.standard_normal(wave.shape), variance, names, planes
    )
    assert np.all(np.abs(found.amplitudes - (800.0, 300.0)) < 5 * found.errors)
    assert np.all(found.errors < 40)


def test_file_of_the_assets_is_used(tmp_path: Path) -> None:
    """A table before an image before the built-in lines; a changed file is read again."""
    kept: dict[str, object] = {}

    def cached(key: str, loader: Callable[[], object]) -> object:
        return kept.setdefault(key, loader())

    run = SimpleNamespace(trees=SimpleNamespace(assets=tmp_path), instrument=MINI, cached=cached)
    assert isinstance(sky_emission.load_sky(run), sky_emission.SkyLines)
    wave = first_guess(MINI, "AB").image()
    (tmp_path / "sky").mkdir()
    image = np.stack([wave.ravel(), np.ones(wave.size)], axis=1)
    fits.writeto(tmp_path / "sky" / "sky_PCs.fits", image)
    assert sky_emission.load_sky(run).with_blaze
    path = table_of(tmp_path / "sky" / "sky_components.fits", grid(5.0))
    assert sky_emission.load_sky(run).names == ("comp_1", "comp_2")
    table_of(path, grid(5.0), comp_3=np.ones(grid(5.0).size))
    assert sky_emission.load_sky(run).names == ("comp_1", "comp_2", "comp_3")
