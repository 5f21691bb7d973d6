"""Packaged files, read as a program written for SPIRou reads them: astropy, extension names, header cards."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from apero_dask.core.errors import ContractError, DataError
from apero_dask.instruments import instrument
from apero_dask.io.fitswriter import Image, Table
from apero_dask.recipes.wave_basis import coefficients_of, to_power, wave_image
from tests.recipes.packagenight import FIBRES, SHAPE, PackageNight, column, plane, wavelengths

FULL = instrument("SPIROU")


def packed(root: Path, **values: object) -> PackageNight:
    night = PackageNight(root, **values)  # type: ignore[arg-type]
    night.write_all()
    return night


@pytest.fixture(scope="module")
def night(tmp_path_factory: pytest.TempPathFactory) -> PackageNight:
    """A frame with everything, packaged."""
    made = packed(tmp_path_factory.mktemp("package"))
    result = made.run()
    assert [record.kind for record in result.outputs] == ["POST_E", "POST_S", "POST_T", "POST_V"]
    assert not result.messages
    return made


def names(path: Path) -> list[str]:
    with fits.open(path) as hdus:
        assert hdus[0].data is None
        hdus.verify("exception")
        return [hdu.name for hdu in hdus[1:]]


def wave_of(header: fits.Header, nx: int) -> np.ndarray:
    """Wavelengths from the cards of a header, as readers of either generation work them out."""
    orders, degree = header["WAVEORDN"], header["WAVEDEGN"]
    series = np.array([header[f"WAVE{k:04d}"] for k in range(orders * (degree + 1))]).reshape(orders, -1)
    x = np.arange(nx)
    if header.get("WAVEPOLY") == "Chebyshev":
        return np.array([np.polynomial.Chebyshev(row, domain=[0, nx])(x) for row in series])
    return np.array([np.polyval(row[::-1], x) for row in series])


def test_extensions_have_the_names_and_the_order_of_the_observatory(night: PackageNight) -> None:
    assert names(night.out("e")) == [f"{kind}{f}" for kind in ("Flux", "Wave", "Blaze") for f in FIBRES]
    assert names(night.out("t")) == [
        "FluxAB", "WaveAB", "BlazeAB", "Recon", "OHLine",
        "FluxA", "WaveA", "BlazeA", "FluxB", "WaveB", "BlazeB",
    ]  # fmt: skip
    assert names(night.out("s")) == ["UniformWavelength", "UniformVelocity"]
    assert names(night.out("v")) == ["CCF"]


def test_images_are_the_members(night: PackageNight) -> None:
    with fits.open(night.out("e")) as hdus:
        for fibre in FIBRES:
            kind = "E2DSFF" if fibre == "C" else "LCORR"
            np.testing.assert_array_equal(hdus[f"Flux{fibre}"].data, plane(kind, fibre))
            np.testing.assert_array_equal(hdus[f"Wave{fibre}"].data, wavelengths(fibre))
            np.testing.assert_array_equal(hdus[f"Blaze{fibre}"].data, plane("BLAZE", fibre))
            assert hdus[f"Flux{fibre}"].header["FIBER"] == fibre
            assert hdus[f"Flux{fibre}"].header["BUNIT"] == "electron"
            assert hdus[f"Wave{fibre}"].header["BUNIT"] == "nm"
        for hdu in hdus[1:]:
            assert hdu.data.shape == SHAPE and hdu.header["BITPIX"] == -64
    with fits.open(night.out("t")) as hdus:
        for fibre in ("AB", "A", "B"):
            np.testing.assert_array_equal(hdus[f"Flux{fibre}"].data, plane("TCORR", fibre))
        np.testing.assert_array_equal(hdus["Recon"].data, plane("RECON", "AB"))
        np.testing.assert_array_equal(hdus["OHLine"].data, plane("PCA_SKY", "AB"))


def test_tables_are_the_members(night: PackageNight) -> None:
    with fits.open(night.out("s")) as hdus:
        for name, kind in (("UniformWavelength", "S1D_W"), ("UniformVelocity", "S1D_V")):
            data = hdus[name].data
            assert data.names == [
                "Wave", "FluxAB", "FluxErrAB", "FluxA", "FluxErrA", "FluxB", "FluxErrB", "FluxC", "FluxErrC",
                "FluxABTelluCorrected", "FluxErrABTelluCorrected", "FluxATelluCorrected",
                "FluxErrATelluCorrected", "FluxBTelluCorrected", "FluxErrBTelluCorrected",
                "Recon", "ReconErr",
            ]  # fmt: skip
            np.testing.assert_array_equal(data["FluxA"], column(f"LCORR_{kind}", "A", "flux"))
            np.testing.assert_array_equal(data["FluxErrC"], column(kind, "C", "eflux"))
            np.testing.assert_array_equal(
                data["FluxErrBTelluCorrected"], column(f"TCORR_{kind}", "B", "eflux")
            )
            np.testing.assert_array_equal(data["Recon"], column(f"RECON_{kind}", "AB", "flux"))
            np.testing.assert_allclose(data["Wave"], 965.0 + 0.005 * np.arange(40), rtol=0, atol=1e-12)
            assert hdus[name].columns["Wave"].unit == "nm"
    with fits.open(night.out("v")) as hdus:
        assert hdus["CCF"].data.names == ["RV", "ORDER00", "Combined"]
        assert hdus["CCF"].columns["RV"].unit == "km/s"


@pytest.mark.parametrize("letter", "estv")
def test_the_primary_header_is_that_of_the_preprocessed_frame(night: PackageNight, letter: str) -> None:
    header = fits.getheader(night.out(letter), 0)
    for key in (
        "OBJECT",
        "EXPTIME",
        "MJDATE",
        "PI_NAME",
        "DRSOBJN",
        "DPRTYPE",
        "MJDMID",
        "VERSION",
        "DRSPDATE",
    ):
        assert key in header
    assert header["PI_NAME"] == "it's a name" and header["DRSPDATE"] == "2026-01-01T00:00:00"
    internal = {"RUNIDENT", "DRSOUTID", "INF1000", "QCC_ALL", "CDBBLAZE", "FIBER", "WAVE0000"}
    assert not internal & set(header)


def test_readers_find_everything_in_the_first_two_headers(night: PackageNight) -> None:
    with fits.open(night.out("e")) as hdus:
        both = hdus[0].header + hdus[1].header
        assert both["BERV"] == -12.5 and both["CDBWAVE"] == night.named("WAVE", "AB")
        # Agreement asked of packaged files; the arithmetic is good to 1e-12 nm.
        assert np.abs(wave_of(both, SHAPE[1]) - hdus["WaveAB"].data).max() < 1e-6


def test_coefficients_as_powers_of_the_column_for_older_readers(tmp_path: Path) -> None:
    made = packed(tmp_path, options=(("wave-basis", "power"),))
    made.run()
    for letter in "estv":
        with fits.open(made.out(letter)) as hdus:
            for hdu in hdus[1:]:
                header = hdu.header
                assert header["WAVEPOLY"] == "power" and header["WAVEDEGN"] == 5
                found = wave_of(header, SHAPE[1])
                assert np.abs(found - wavelengths(header["FIBER"])).max() < 1e-6
                # The values are read, not copied: a Chebyshev series taken for powers is wrong by far.
                header["WAVEPOLY"] = "Chebyshev"
                assert np.abs(wave_of(header, SHAPE[1]) - wavelengths(header["FIBER"])).max() > 10.0


def test_powers_at_full_size_agree() -> None:
    for row in FULL.table("wave"):
        series = [float(row[f"c{j}_nm"]) for j in range(6)]
        x = np.arange(FULL.nx)
        expected = np.polynomial.Chebyshev(series, domain=[0, FULL.nx])(x)
        found = np.polyval(to_power(series, FULL.nx)[::-1], x)
        assert np.abs(found - expected).max() < 1e-9


def test_powers_of_any_degree() -> None:
    for degree in range(12):
        series = np.random.default_rng(degree).normal(size=degree + 1)
        expected = np.polynomial.Chebyshev(series, domain=[0, 64]).convert(
            kind=np.polynomial.Polynomial, domain=[-1, 1], window=[-1, 1]
        )
        np.testing.assert_allclose(to_power(series, 64), expected.coef, rtol=1e-9, atol=1e-15)


def test_both_bases_and_no_other_are_understood() -> None:
    values = {"WAVEORDN": 1, "WAVEDEGN": 2, "WAVE0000": 1.0, "WAVE0001": 2.0, "WAVE0002": 3.0}
    series, basis = coefficients_of(values, "old.fits")
    assert basis == "power"
    assert wave_image(series, basis, 3)[0].tolist() == [1.0, 6.0, 17.0]
    series, basis = coefficients_of({**values, "WAVEPOLY": "Chebyshev"}, "new.fits")
    # T_0 + 2 u + 3 (2 u^2 - 1) at u = -1, 0, 1 for two pixels over [0, 2]: x = 0 and 1.
    assert wave_image(series, basis, 2)[0].tolist() == [2.0, -2.0]
    with pytest.raises(DataError, match="WAVEPOLY = 'spline', expected Chebyshev or power"):
        coefficients_of({**values, "WAVEPOLY": "spline"}, "odd.fits")
    with pytest.raises(DataError, match="WAVE0002"):
        coefficients_of({k: v for k, v in values.items() if k != "WAVE0002"}, "cut.fits")


def test_without_leak_and_correction_e_and_s_are_made_and_the_outcome_says_why(tmp_path: Path) -> None:
    older = packed(tmp_path)
    older.run()
    assert older.out("t").exists() and older.out("v").exists()
    made = packed(tmp_path, leak=False, corrected=False, velocity=False)
    result = made.run()
    assert [record.kind for record in result.outputs] == ["POST_E", "POST_S"]
    assert sorted(path.name for path in made.out("e").parent.iterdir()) == ["2320031e.fits", "2320031s.fits"]
    told = [text for code, text in result.messages if code == "I-LEFT-OUT"]
    assert told[0].startswith("SCIPOST: 2320031t.fits was not made: no telluric correction of this frame")
    assert told[1].startswith("SCIPOST: 2320031v.fits was not made: no velocity")
    with fits.open(made.out("e")) as hdus:
        np.testing.assert_array_equal(hdus["FluxAB"].data, plane("E2DSFF", "AB"))
    with fits.open(made.out("s")) as hdus:
        assert "Recon" not in hdus[1].data.names and hdus[1].data.names[-1] == "FluxErrC"
        np.testing.assert_array_equal(hdus[1].data["FluxA"], column("S1D_W", "A", "flux"))


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"version": {"TCORR": "0.0.9"}}, "members of several versions: .*0.0.9.*make the older ones again"),
        ({"wave_file": {"TCORR": "another.fits"}}, "is on the wavelengths of another.fits"),
        ({"wave_file": {"S1D_V": ""}}, "no named solution"),
        ({"wave_file": {"E2DSFF": "old.fits"}}, "was made with old.fits .WAVEFILE., the WAVE chosen now is"),
        ({"changed": {"RECON": 1e-6}}, "differ by .*nm .rms., expected less than 1e-09"),
    ],
    ids=["version", "solution", "no solution", "chosen solution", "coefficients"],
)
def test_members_that_do_not_belong_together_are_refused(
    tmp_path: Path, values: dict[str, object], words: str
) -> None:
    made = packed(tmp_path, **values)
    with pytest.raises(DataError, match=words):
        made.run()
    assert not (tmp_path / "out").exists()


def test_a_member_of_another_shape_is_refused(tmp_path: Path) -> None:
    made = packed(tmp_path)
    made.write("TCORR", "B", Image("TELLU_OBJ", np.ones((3, 4))))
    with pytest.raises(DataError, match=r"shape \(3, 4\), expected"):
        made.run()
    assert not list(made.out("e").parent.iterdir())


def test_a_merged_spectrum_on_another_grid_is_refused(tmp_path: Path) -> None:
    made = packed(tmp_path)
    (table,) = made.extensions("TCORR_S1D_V", "A")
    columns = dict(table.columns)
    made.write("TCORR_S1D_V", "A", Table("SC1D_V_FILE", {**columns, "wavelength": columns["wavelength"] + 1}))
    with pytest.raises(DataError, match=r"is on another grid than 2320031o_pp_s1d_v_lcorr_AB\.fits"):
        made.run()
    made.write("TCORR_S1D_V", "A", Table("SC1D_V_FILE", {k: columns[k] for k in ("wavelength", "flux")}))
    with pytest.raises(DataError, match="expected one called eflux"):
        made.run()


def test_a_sky_model_that_is_not_there_is_refused(tmp_path: Path) -> None:
    made = packed(tmp_path)
    made.write("PCLEAN", "AB", Image("TELLU_PCLEAN", plane("PCLEAN", "AB")))
    with pytest.raises(DataError, match="no extension PCA_SKY"):
        made.run()


def test_what_must_be_made_cannot_be_left_out(tmp_path: Path) -> None:
    from apero_dask.recipes.context import RecipeContext
    from tests.recipes.runs import MINI

    made = PackageNight(tmp_path)
    context = RecipeContext(made.work(), made.trees, MINI)
    with pytest.raises(ContractError, match="must make POST_E"):
        context.leave_out("POST_E", "no reason")
    context.leave_out("POST_T", "a reason")
    with pytest.raises(ContractError, match="ended without saving POST_E, POST_S, POST_V"):
        context.commit()


def test_the_same_members_give_the_same_bytes(night: PackageNight, tmp_path: Path) -> None:
    again = packed(tmp_path)
    again.run()
    for letter in "estv":
        assert again.out(letter).read_bytes() == night.out(letter).read_bytes()
