"""Frame types, classes and times from headers."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apero_dask.core.names import ObjectNames
from apero_dask.instruments import instrument
from apero_dask.io.identify import (
    FRAME_NAME,
    FUTURE,
    NO_TIME,
    OTHER_INSTRUMENT,
    OTHER_PRODUCT,
    Identified,
    Identifier,
    target_type,
)
from tests.io.archive import NOW, Card, header

SPIROU = instrument("SPIROU")

# DPRTYPE, OBSTYPE, SBCCAS_P, SBCREF_P, letter: written down from the positions of the fibre selectors,
# not read from the packaged table.  pk dark, wl white lamp, fp Fabry-Perot, hc1/hc2 lamps, rs comb.
CALIBRATIONS = [
    line.split()
    for line in """
    DARK_FLAT FLAT pk wl f
    FLAT_DARK FLAT wl pk f
    FLAT_FLAT FLAT wl wl f
    FLAT_FP FLAT wl fp f
    DARK_FP ALIGN pk fp a
    FP_DARK ALIGN fp pk a
    FP_FLAT ALIGN fp wl a
    FP_FP ALIGN fp fp a
    LFC_LFC ALIGN rs rs a
    LFC_FP ALIGN rs fp a
    FP_LFC ALIGN fp rs a
    DARK_HCONE COMPARISON pk hc1 c
    DARK_HCTWO COMPARISON pk hc2 c
    FP_HCONE COMPARISON fp hc1 c
    FP_HCTWO COMPARISON fp hc2 c
    HCONE_FP COMPARISON hc1 fp c
    HCTWO_FP COMPARISON hc2 fp c
    HCONE_HCONE COMPARISON hc1 hc1 c
    HCTWO_HCTWO COMPARISON hc2 hc2 c
    HCONE_DARK COMPARISON hc1 pk c
    HCTWO_DARK COMPARISON hc2 pk c
    """.strip().splitlines()
]
STELLAR = {"OBSTYPE": "OBJECT", "SBCCAS_P": "pos_pk", "OBJECT": "Gl699"}
POLAR = {"SBRHB1_P": "P14", "SBRHB2_P": "P2"}
CASES: list[tuple[str, str, str, str, dict[str, Card]]] = [
    # DPRTYPE, letter, frame class, DRSMODE, header
    *(
        (
            name,
            letter,
            "CALIB",
            "UNKNOWN",
            {"OBSTYPE": kind, "SBCCAS_P": f"pos_{cas}", "SBCREF_P": f"pos_{ref}"},
        )
        for name, kind, cas, ref, letter in CALIBRATIONS
    ),
    ("DARK_DARK_INT", "d", "CALIB", "UNKNOWN", {"OBSTYPE": "DARK", "SBCREF_P": "pos_pk", "SBCALI_P": "P4"}),
    ("DARK_DARK_TEL", "d", "CALIB", "UNKNOWN", {"OBSTYPE": "DARK", "SBCREF_P": "pos_pk", "SBCALI_P": "P5"}),
    ("DARK_DARK_SKY", "o", "SKY", "SPECTROSCOPY", STELLAR | {"SBCREF_P": "pos_pk", "TRG_TYPE": "SKY"}),
    ("DARK_FP_SKY", "o", "SKY", "SPECTROSCOPY", STELLAR | {"SBCREF_P": "pos_fp", "TRG_TYPE": "SKY"}),
    ("OBJ_DARK", "o", "GL699", "SPECTROSCOPY", STELLAR | {"SBCREF_P": "pos_pk"}),
    ("OBJ_FP", "o", "GL699", "SPECTROSCOPY", STELLAR | {"SBCREF_P": "pos_fp"}),
    ("OBJ_HCONE", "o", "CALIB", "SPECTROSCOPY", STELLAR | {"SBCREF_P": "pos_hc1"}),
    ("OBJ_HCTWO", "o", "CALIB", "SPECTROSCOPY", STELLAR | {"SBCREF_P": "pos_hc2"}),
    ("POLAR_DARK", "o", "GL699", "POLAR", STELLAR | POLAR | {"SBCREF_P": "pos_pk"}),
    ("POLAR_FP", "o", "GL699", "POLAR", STELLAR | POLAR | {"SBCREF_P": "pos_fp"}),
]


def identify(
    identifier: str = "2320031o",
    names: ObjectNames | None = None,
    name: str = "SPIROU",
    path: str | None = None,
    **changes: Card | None,
) -> Identified:
    """Identify the header of an OBJ_FP exposure with keywords changed."""
    judge = Identifier(instrument(name), names or ObjectNames(), NOW)
    path = path or f"2018-09-25/{identifier}.fits"
    return judge.identify(header(identifier, **changes), obs_dir="2018-09-25", path=path, size=7, digest="d")


def as_written(text: Card) -> Card:
    return text


def disguised(text: Card) -> Card:
    """Other case and blanks around."""
    return f"  {text.swapcase()}   " if isinstance(text, str) else text


def test_every_type_is_in_the_cases() -> None:
    assert {case[0] for case in CASES} == {t.name for t in SPIROU.frame_types} - {"UNKNOWN"}
    assert len(CASES) == 31


@pytest.mark.parametrize("name", ["SPIROU", "SPIROU_MINI"])
@pytest.mark.parametrize("form", [as_written, disguised])
@pytest.mark.parametrize("case", CASES, ids=[case[0] for case in CASES])
def test_type_class_and_mode(
    case: tuple[str, str, str, str, dict[str, Card]], form: object, name: str
) -> None:
    dprtype, letter, frame_class, drsmode, values = case
    base: dict[str, Card] = {"SBCCAS_P": "pos_pk", "OBJECT": "Calibration", "OBJNAME": "zenith", **values}
    base |= {"INSTRUME": "SPIRou", "SIMINST": name}
    changes = {key: form(value) for key, value in base.items()}  # type: ignore[operator]
    found = identify(f"2320031{letter}", name=name, **changes)
    assert found.frame is not None and not found.remarks and not found.note
    assert (found.frame.dprtype, found.frame.frame_class) == (dprtype, frame_class)
    assert found.frame.drsmode == drsmode
    assert found.frame.is_object == (frame_class == "GL699")
    assert found.frame.calibration_field == (frame_class == "CALIB" and not dprtype.startswith("OBJ"))


def test_a_whole_frame() -> None:
    found = identify().frame
    assert found is not None
    assert dataclasses.asdict(found) == {
        "identifier": "2320031o",
        "obs_dir": "2018-09-25",
        "path": "2018-09-25/2320031o.fits",
        "dprtype": "OBJ_FP",
        # 150.442 s before the end; the worked example rounds it to 58386.2768222
        "mjdmid": pytest.approx(58386.2768222, abs=5e-8),
        "exptime": 300.884,
        "obstype": "OBJECT",
        "frame_class": "GL699",
        "drsmode": "SPECTROSCOPY",
        "pi_name": "PI One",
        "cmpltexp": 1,
        "calibration_field": False,
        "size": 7,
        "digest": "d",
    }


@pytest.mark.parametrize(
    "changes",
    [
        {"OBSTYPE": "DARK", "SBCREF_P": "pos_pk", "SBCALI_P": "P3"},
        {"OBSTYPE": "FLAT"},
        {"OBSTYPE": None},
        {"SBCREF_P": "pos_wl"},
        {"SBCREF_P": None},
        {"SBRHB1_P": "P16", "SBRHB2_P": "P7"},
        {"SBRHB1_P": None},
        {"TRG_TYPE": "MOON"},
        {"OBJECT": None, "OBJNAME": None},
        {"OBJECT": "None", "OBJNAME": " - "[:1]},
    ],
)
def test_what_fits_no_type_is_unknown_and_has_no_class(changes: dict[str, Card | None]) -> None:
    found = identify(**changes)
    assert found.frame is not None and found.note
    assert (found.frame.dprtype, found.frame.frame_class, found.frame.is_object) == ("UNKNOWN", "", False)


def test_note_of_an_unknown_frame_tells_what_was_found() -> None:
    assert identify(OBSTYPE="FLAT", SBCCAS_P="pos_rs", SBCALI_P=None).note == (
        "OBSTYPE FLAT, SBCCAS_P pos_rs, SBCREF_P pos_fp, SBCALI_P missing"
    )
    assert identify(SBRHB1_P="P7").note == (
        "OBSTYPE OBJECT, SBCCAS_P pos_pk, SBCREF_P pos_fp, SBCALI_P P5, TRG_TYPE TARGET, mode UNKNOWN"
    )
    assert identify(OBJECT=" ", OBJNAME=None).note == "OBJ_FP without OBJECT and OBJNAME"


@pytest.mark.parametrize(
    ("rhombs", "mode"),
    [
        (("P16", "P16"), "OBJ_FP"),
        (("P14", "P16"), "POLAR_FP"),
        (("P2", "P16"), "POLAR_FP"),
        (("P2", "P4"), "POLAR_FP"),
        (("P14", "P4"), "POLAR_FP"),
        (("P16", "P3"), "UNKNOWN"),
    ],
)
def test_rhombs_tell_spectroscopy_from_polarimetry(rhombs: tuple[str, str], mode: str) -> None:
    found = identify(SBRHB1_P=rhombs[0], SBRHB2_P=rhombs[1]).frame
    assert found is not None and found.dprtype == mode


@pytest.mark.parametrize(
    ("changes", "dprtype"),
    [
        ({}, "OBJ_FP"),
        ({"TRG_TYPE": ""}, "OBJ_FP"),
        ({"TRG_TYPE": "target"}, "OBJ_FP"),
        ({"TRG_TYPE": "Sky "}, "DARK_FP_SKY"),
        ({"OBJECT": "sky_3", "TRG_TYPE": "TARGET"}, "DARK_FP_SKY"),
        ({"OBJNAME": "Night Sky"}, "DARK_FP_SKY"),
        ({"OBJECT": None, "OBJNAME": "SKY"}, "DARK_FP_SKY"),
    ],
)
def test_sky_is_told_by_name_before_the_stated_target_type(
    changes: dict[str, Card | None], dprtype: str
) -> None:
    found = identify(**changes).frame
    assert found is not None and found.dprtype == dprtype
    assert found.frame_class == ("SKY" if dprtype.endswith("SKY") else "GL699")


def test_sky_in_the_name_left_over_from_the_telescope_does_not_touch_calibrations() -> None:
    found = identify(
        "2320031a", OBSTYPE="ALIGN", SBCCAS_P="pos_fp", OBJECT="Calibration", OBJNAME="sky"
    ).frame
    assert found is not None and (found.dprtype, found.frame_class) == ("FP_FP", "CALIB")


def test_target_type_is_empty_for_anything_but_objects() -> None:
    assert target_type("DARK", "SKY", ("SKY",)) == "" == target_type("", "TARGET", ())
    assert target_type("OBJECT", "", ("Gl699",)) == "TARGET"


def test_object_name_is_object_then_objname_then_the_alias_table() -> None:
    names = ObjectNames.from_rows([("GL699", ["Gl 699", "Barnard's star"])])

    def name(**changes: Card | None) -> str:
        found = identify(names=names, **changes).frame
        assert found is not None
        return found.frame_class

    assert name(OBJECT="Gl 699") == name(OBJECT="barnard's STAR ") == "GL699"
    assert name(OBJECT="TOI-442", OBJNAME="Gl 699") == "TOIM442"
    assert name(OBJECT="Null", OBJNAME="BD+11 2735") == "BDP11_2735"


def test_instrument_is_compared_without_case_and_blanks() -> None:
    assert identify(INSTRUME=" spIROU  ").frame is not None
    for value in ("NIRPS", None, ""):
        found = identify(INSTRUME=value)
        assert found.frame is None and found.reason == OTHER_INSTRUMENT
    assert identify(INSTRUME="NIRPS").note == 'INSTRUME = "NIRPS"'


@pytest.mark.parametrize(
    ("siminst", "name", "belongs"),
    [
        (None, "SPIROU", True),
        ("SPIROU", "SPIROU", True),
        ("spirou_mini", "SPIROU", False),
        ("SPIROU_MINI", "SPIROU_MINI", True),
        ("SPIROU", "SPIROU_MINI", False),
        (None, "SPIROU_MINI", False),
    ],
)
def test_simulated_frames_of_the_other_instrument_are_foreign(
    siminst: str | None, name: str, belongs: bool
) -> None:
    found = identify(name=name, SIMINST=siminst)
    assert (found.frame is not None) == belongs
    assert belongs or found.reason == OTHER_INSTRUMENT


@pytest.mark.parametrize("value", [None, "", "NaN", "inf", 1e999, True, "soon"])
def test_no_finite_end_time_leaves_the_frame_out(value: Card | None) -> None:
    found = identify(MJDEND=value)
    assert found.frame is None and found.reason == NO_TIME
    assert found.note.startswith("MJDEND")


def test_end_time_written_as_text_counts() -> None:
    found = identify(MJDEND=" 58386.2785634 ").frame
    assert found is not None and found.mjdmid == pytest.approx(58386.2768222, abs=5e-8)


@pytest.mark.parametrize(("mjdend", "kept"), [(NOW + 0.99, True), (NOW + 1.01, False), (NOW + 1e4, False)])
def test_frames_may_end_up_to_a_day_after_the_scan(mjdend: float, kept: bool) -> None:
    found = identify(MJDEND=mjdend)
    assert (found.frame is not None) == kept
    assert kept or (found.reason, found.note) == (FUTURE, f"MJDEND = {mjdend:.5f}")


@pytest.mark.parametrize(
    ("exptime", "remarked"),
    [(300.884, False), (300.884 + 5.57, False), (300.884 - 5.57, False), (306.46, True), (295.31, True)],
)
def test_exposure_time_is_compared_with_the_ramp(exptime: float, remarked: bool) -> None:
    found = identify(EXPTIME=exptime)
    assert found.frame is not None and found.frame.exptime == exptime
    assert bool(found.remarks) == remarked
    if remarked:
        assert found.remarks[0].detail == f"EXPTIME = {exptime:.3f} s, but (NREADS - 1) x FRMTIME = 300.884 s"
        assert found.remarks[0].used == "EXPTIME is used"


@pytest.mark.parametrize("value", [None, "", -1.0, "NaN"])
def test_missing_exposure_time_is_that_of_the_ramp(value: Card | None) -> None:
    found = identify(EXPTIME=value)
    assert found.frame is not None
    # 54 steps of 5.57192 s
    assert found.frame.exptime == pytest.approx(300.88368, abs=1e-9)
    assert found.remarks[0].used == "(NREADS - 1) x FRMTIME is used"
    lost = identify(EXPTIME=value, NREADS=None)
    assert lost.frame is None and lost.reason == NO_TIME and lost.note.startswith("EXPTIME")


def test_letter_that_contradicts_the_header_is_remarked_and_the_header_decides() -> None:
    found = identify("2320031d")
    assert found.frame is not None and found.frame.dprtype == "OBJ_FP"
    assert found.frame.identifier == "2320031d"
    assert [remark.detail for remark in found.remarks] == ["letter d, but the header says OBJ_FP (letter o)"]


@pytest.mark.parametrize("ending", [".fits", ".fits.gz"])
@pytest.mark.parametrize("filename", ["2320032o", "2320032O.fits", " 2320032o "])
def test_filename_that_contradicts_the_file_decides(filename: str, ending: str) -> None:
    found = identify(path=f"2018-09-25/2320031o{ending}", FILENAME=filename)
    assert found.frame is not None and found.frame.identifier == "2320032o"
    assert found.frame.path == f"2018-09-25/2320031o{ending}"
    assert found.remarks[0].used == "FILENAME is used"
    assert found.remarks[0].detail == f'FILENAME is "{filename.strip()}" in a file named 2320031o'


@pytest.mark.parametrize("filename", ["2320031e", "ramp", 2320031])
def test_filename_that_is_no_identifier_is_remarked_and_not_used(filename: Card) -> None:
    found = identify(FILENAME=filename)
    assert found.frame is not None and found.frame.identifier == "2320031o"
    assert found.remarks[0].used == "the name of the file is used"


@pytest.mark.parametrize("filename", [None, "", "2320031o", "2320031O", "2320031o.fits", "2320031o.fits.gz"])
def test_filename_that_agrees_or_is_absent_is_not_remarked(filename: Card | None) -> None:
    found = identify(FILENAME=filename)
    assert found.frame is not None and found.frame.identifier == "2320031o" and not found.remarks


def test_names_of_raw_frames_and_of_other_products() -> None:
    frames = ["2320031a.fits", "2320031c.fits", "2320031d.fits", "2320031f.fits", "2320031o.fits.gz"]
    others = [f"2320031{letter}.fits" for letter in "rgestvp"] + ["2320031e.fits.gz"]
    neither = [
        "232031o.fits",
        "2320031o.fit",
        "2320031O.fits",
        "2320031o_pp.fits",
        "x2320031o.fits",
        "٢320031o.fits",
    ]
    assert all(FRAME_NAME.fullmatch(name) and not OTHER_PRODUCT.fullmatch(name) for name in frames)
    assert all(OTHER_PRODUCT.fullmatch(name) and not FRAME_NAME.fullmatch(name) for name in others)
    assert not any(OTHER_PRODUCT.fullmatch(name) or FRAME_NAME.fullmatch(name) for name in neither)


values = st.none() | st.text(max_size=8) | st.integers() | st.floats() | st.booleans()


@given(st.dictionaries(st.sampled_from(sorted(header("2320031o"))), values))
def test_no_header_raises(changes: dict[str, Card | None]) -> None:
    found = identify(**changes)
    assert (found.frame is None) == bool(found.reason)


@given(st.lists(st.tuples(st.booleans(), st.sampled_from(["Gl699", "sky", 1, True, None])), max_size=8))
def test_judging_sets_once_changes_nothing(headers: list[tuple[bool, Card | None]]) -> None:
    shared = Identifier(SPIROU, ObjectNames(), NOW)
    for polar, name in headers:
        values = header("2320031o", OBJECT=name, NREADS=name, **(POLAR if polar else {}))
        alone = Identifier(SPIROU, ObjectNames(), NOW)
        path = "n/2320031o.fits"
        assert shared.identify(values, obs_dir="n", path=path) == alone.identify(
            values, obs_dir="n", path=path
        )
