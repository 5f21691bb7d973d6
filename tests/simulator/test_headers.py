"""Primary headers: valid FITS, complete, consistent, and quickly made."""

from __future__ import annotations

import csv
import datetime
from importlib import resources

import pytest
from astropy.io import fits

from apero_dask.simulator.cards import format_card, format_value, header_bytes
from apero_dask.simulator.config import SimulatorConfig
from apero_dask.simulator.frametypes import frame_type, frame_types
from apero_dask.simulator.headers import POLAR_RHOMBS
from apero_dask.simulator.observatory import camera_of
from apero_dask.simulator.rawfile import primary_header
from apero_dask.simulator.runner import worked_campaign
from apero_dask.simulator.settings import ConfigError

# Keywords by which frames are identified, grouped and reduced.
REQUIRED = (
    "SIMPLE BITPIX NAXIS EXTEND NEXTEND FILENAME EXPNUM INSTRUME OBSTYPE SBCCAS_P SBCREF_P SBCALI_P "
    "SBRHB1_P SBRHB2_P TRG_TYPE OBJECT OBJNAME PI_NAME RUNID CMPLTEXP NEXP CMMTSEQ DATE-OBS UTC-OBS "
    "MJDATE MJDEND EXPTIME EXPREQ FRMTIME NREADS GAIN RDNOISE SATURATE NOUTPUTS RA_DEG DEC_DEG OBJRA "
    "OBJDEC OBJEQUIN OBJRAPM OBJDECPM OBJTEMP OBJRV AIRMASS LATITUDE LONGITUD TEMPERAT RELHUMID "
    "SB_POL_T SBCDEN_P SIMULATE SIMINST"
)


@pytest.fixture(scope="module")
def frames():
    """Worked campaign with its headers, read by astropy."""
    camera = camera_of(SimulatorConfig(instrument="SPIROU"))
    found = []
    for spec in worked_campaign(extra_night=True):
        text = primary_header(spec, camera, 4)
        assert len(text) % 2880 == 0
        found.append((spec, fits.Header.fromstring(text.decode("ascii"))))
    return found


def test_headers_are_valid_fits_without_a_warning(frames):
    camera = camera_of(SimulatorConfig(instrument="SPIROU"))
    for spec, header in frames:
        hdu = fits.PrimaryHDU.fromstring(primary_header(spec, camera, 0))
        hdu.verify("exception")
        for card in header.cards:
            card.verify("exception")
        # What astropy would write is what was written, card by card.
        raw = primary_header(spec, camera, 4).decode("ascii")
        for i, card in enumerate(header.cards):
            image = raw[80 * i : 80 * i + 80]
            assert fits.Card(card.keyword, card.value, card.comment).value == card.value
            assert image[:8].rstrip() == card.keyword


def test_all_keywords_are_there_once(frames):
    for _, header in frames:
        for key in REQUIRED.split():
            assert header.count(key) == 1, key


def test_headers_identify_their_frame_by_the_first_matching_row(frames):
    """The rule of the frame-type table, restated on what a reader of the header sees."""
    text = resources.files("apero_dask.tables").joinpath("dprtypes.csv").read_text()
    rows = list(csv.DictReader(line for line in text.splitlines() if not line.startswith("#")))
    for spec, header in frames:
        is_object = header["OBSTYPE"] == "OBJECT"
        rhombs = (header["SBRHB1_P"], header["SBRHB2_P"])
        mode = ""
        if is_object:
            mode = "SPECTROSCOPY" if rhombs == ("P16", "P16") else "POLAR"
        for row in rows:
            matches = [
                row["obstype"] == header["OBSTYPE"],
                row["sbccas_p"] == header["SBCCAS_P"],
                row["sbcref_p"] == header["SBCREF_P"],
                row["sbcali_p"] in ("*", header["SBCALI_P"]),
                row["drsmode"] in ("*", mode),
                row["trg_type"] in ("*", header["TRG_TYPE"]),
            ]
            if all(matches):
                assert row["dprtype"] == spec.dprtype
                assert spec.identifier[-1] == row["letter"]
                break
        else:
            pytest.fail(f"{spec.identifier} matches no row")


def test_times_in_a_header_agree_with_each_other(frames):
    zero = datetime.datetime(1858, 11, 17)
    for spec, header in frames:
        for day, clock, mjd in (("DATE-OBS", "UTC-OBS", "MJDATE"), ("DATEEND", "UTCEND", "MJDEND")):
            hours, minutes, seconds = header[clock].split(":")
            at = datetime.datetime.fromisoformat(header[day]) + datetime.timedelta(
                hours=int(hours), minutes=int(minutes), seconds=float(seconds)
            )
            # Seven digits of a day are 9 ms, the clock has 10 ms.
            assert abs((at - zero).total_seconds() - header[mjd] * 86400.0) < 0.011
        assert header["EXPTIME"] == pytest.approx((header["NREADS"] - 1) * header["FRMTIME"], abs=6e-4)
        assert 28.9 < (header["MJDEND"] - header["MJDATE"]) * 86400 - header["EXPTIME"] < 37.1
        middle = header["MJDEND"] - header["EXPTIME"] / 172800.0
        assert middle == pytest.approx(spec.mjd_mid, abs=1e-10)


def test_calibrations_and_targets_are_named_as_the_observatory_does(frames):
    for spec, header in frames:
        if spec.target is None:
            assert header["OBJECT"] == "Calibration"
            assert header["OBJNAME"] == spec.last_object
            assert header["TRG_TYPE"] == ""
            assert header["PI_NAME"] == "QSO Team"
            assert header["OBJRV"] >= 1000.0
        else:
            assert header["OBJECT"] == header["OBJNAME"] == spec.target.name
            assert header["TRG_TYPE"] == ("SKY" if spec.target.kind == "sky" else "TARGET")
    by_name = {h["OBJECT"]: h for _, h in frames}
    assert by_name["Gl699"]["PI_NAME"] == "PI One"
    assert by_name["TOI-442"]["PI_NAME"] == "PI Two"
    assert by_name["59Peg"]["PI_NAME"] == "QSO Team"
    assert (by_name["Gl699"]["OBJRA"], by_name["Gl699"]["OBJDEC"]) == ("17:57:48.50", "4:41:36.2")
    assert by_name["TOI-442"]["OBJDEC"].startswith("-12:05:")


def test_polarimetric_positions(frames):
    found = [(h["SBRHB1_P"], h["SBRHB2_P"]) for s, h in frames if s.dprtype == "POLAR_FP"]
    assert found == [POLAR_RHOMBS[i] for i in (1, 2, 3, 4)]
    assert found == [("P14", "P16"), ("P2", "P16"), ("P2", "P4"), ("P14", "P4")]


@pytest.mark.parametrize("instrument", ["SPIROU", "SPIROU_MINI"])
def test_instruments_differ_in_one_keyword_only(instrument):
    camera = camera_of(SimulatorConfig(instrument=instrument))
    header = fits.Header.fromstring(primary_header(worked_campaign()[0], camera, 4).decode())
    assert header["INSTRUME"] == "SPIRou"
    assert header["SIMINST"] == instrument
    assert header["SIMULATE"] is True


def test_exposure_times_are_those_of_the_instrument(frames):
    expected = {
        "DARK_DARK_INT": (601.767, 109),
        "FLAT_FLAT": (27.860, 6),
        "FP_FP": (61.291, 12),
        "HCONE_HCONE": (601.767, 109),
        "OBJ_FP": (300.884, 55),
    }
    for spec, header in frames:
        if spec.dprtype in expected:
            assert (header["EXPTIME"], header["NREADS"]) == expected[spec.dprtype]
            assert header["EXPREQ"] == header["EXPTIME"]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (True, "                   T"),
        (12, "                  12"),
        (58386.2746542, "       58386.2746542"),
        (1.46e-6, "            1.46E-06"),
        ("O'Neil", "'O''Neil '          "),
        ("", "'        '          "),
    ],
)
def test_values_are_written_in_fixed_format(value, text):
    assert format_value(value) == text
    card = fits.Card.fromstring(format_card("KEY", value, "words"))
    card.verify("exception")
    assert card.value == value
    assert card.comment == "words"


def test_equal_numbers_of_different_type_do_not_share_a_card():
    assert format_card("K", 1, "") != format_card("K", True, "")
    assert format_card("K", 1, "") != format_card("K", 1.0, "")


@pytest.mark.parametrize(
    ("key", "value"), [("TOOLONGKEY", 1), ("KEY", "x" * 80), ("KEY", float("nan")), ("KEY", None)]
)
def test_what_fits_cannot_store_is_refused(key, value):
    with pytest.raises(ValueError, match=r"does not fit|not finite|cannot be stored"):
        header_bytes([(key, value, "")])


def test_frame_types_without_a_standard_exposure_are_refused():
    assert len(frame_types()) == 31
    with pytest.raises(
        ConfigError, match="frame type 'LFC_LFC' cannot be simulated; known types: DARK_DARK_INT"
    ):
        frame_type("LFC_LFC")
