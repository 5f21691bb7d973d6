"""Archives that grow, lose calibrations or fail in one place: numbers of runs and outcomes with pixels.

Every case starts from a linked copy of the reduced campaign of three nights, so that only what follows from
its change is executed: some ten CPU minutes in all.  Failures come from frames, as an observer would bring
them home.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from astropy.io import fits

from apero_dask.simulator.runner import campaign_of
from tests.planner.test_counts import CALIB, MASTER, SCIENCE, SEQUENCES, TELLU
from tests.recipes.worked import MODELS, NIGHTS, RUN_FILES, STEPS, Answer, Archive

pytestmark = [pytest.mark.slow, pytest.mark.timeout(5400)]

FOURTH = "2018-10-08"
NIGHT_RUNS = sum(CALIB.values()) + sum(TELLU.values()) + sum(SCIENCE.values())
LIMITED = SEQUENCES["limited_seq"][1]
STAR = "2320031o"
HOT = ("2320029o", "2320030o", "2320129o", "2320227o", "2320228o")


def sequence(
    archive: Archive, name: str, *options: object, skip: tuple[str, ...] = STEPS, **keys: str
) -> Answer:
    """Reduce by a run file of the program with some keys added or changed."""
    text = (RUN_FILES / f"{name}.ini").read_text(encoding="utf-8")
    kept = [line for line in text.splitlines() if line.partition("=")[0].strip() not in keys]
    added = [f"{key} = {value}" for key, value in keys.items()]
    return archive.process("\n".join([*kept, *added]), *options, skip=skip)


def states(archive: Archive) -> dict[str, list[tuple[str, str]]]:
    """Runs (step, frame or object) of the last invocation by the state they ended in; models left out."""
    found: dict[str, list[tuple[str, str]]] = {}
    for key, event in archive.ended().items():
        if key[0] not in MODELS:
            found.setdefault(str(event["state"]), []).append(key)
    return {state: sorted(keys) for state, keys in found.items()}


def errors(archive: Archive) -> dict[tuple[str, str], str]:
    """What the runs of the last invocation say that did not end well."""
    return {key: str(event["error"]) for key, event in archive.ended().items() if event["error"]}


def header(archive: Archive, night: str, name: str) -> fits.Header:
    return fits.getheader(archive.path / "reduced" / night / name)


def switch_off(archive: Archive, *identifiers: str) -> None:
    """The lamp of these exposures did not burn."""
    for identifier in identifiers:
        archive.expose(replace(archive.spec(identifier), faults=("no_light",)))


def all_of(archive: Archive, dprtype: str, night: str) -> list[str]:
    return [s.identifier for s in archive.bench.specs(dprtype) if s.obs_dir == night]


# -- the archive grows -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def fourth(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Raw frames of a fourth night, thirteen days after the first."""
    other = Archive(tmp_path_factory.mktemp("fourth"))
    config = other.bench.config
    config = replace(config, campaign=replace(config.campaign, extra_night=True))
    for spec in campaign_of(config).frames:
        if spec.obs_dir == FOURTH:
            other.bench.write(spec)
    return other.path / "raw" / FOURTH


def add_night(archive: Archive, folder: Path, letters: str) -> int:
    """Link the raw frames with these letters; their number."""
    place = archive.path / "raw" / FOURTH
    place.mkdir()
    chosen = [p for p in folder.glob("*.fits") if p.stem[-1] in letters]
    for path in chosen:
        (place / path.name).hardlink_to(path)
    return len(chosen)


def test_fourth_night(copied: Archive, fourth: Path) -> None:
    """Archive-wide calibrations are kept and say so; templates and what reads them are made anew."""
    assert add_night(copied, fourth, "dfaco") == 32
    answer = copied.run_file("limited_seq")
    assert answer.status == 0, answer.output
    assert sum(answer.counts().values()) == 336
    assert answer.counts("DONE") == {
        "PP": 32, "BAD": 1, "LOC": 2, "SHAPE": 1, "FF": 1, "THERMAL": 2, "WAVE": 1,
        "EXTOBJ": 4, "LEAKOBJ": 4, "FTELLU1": 4, "FTELLU2": 1, "FTELLU3": 16, "CCF": 16,
    }  # fmt: skip
    assert answer.tally() == {"DONE": 85, "SKIPPED_EXISTS": 251}
    grown = re.findall(r"I-ARCHIVE-GROWN\S* +(\w+)", answer.output)
    assert sorted(grown) == ["DARKM", "SHAPEM"], answer.output
    rdb = (copied.path / "reduced" / "rv" / "GL699_apero_dask_mdwarf.rdb").read_text()
    assert len(rdb.splitlines()) == 2 + 16
    assert copied.tool("compare-rv").status == 0


def test_night_far_from_all_calibrations(copied: Archive, fourth: Path) -> None:
    """Eleven days after the others and without lamps: its spectra are refused, the template goes on."""
    assert add_night(copied, fourth, "o") == 4
    answer = copied.run_file("limited_seq", "--obs_dir", FOURTH)
    assert answer.status == 1, answer.output
    ended = states(copied)
    assert [key[0] for key in ended["FAILED_CALIB"]] == ["EXTOBJ"] * 4
    assert sorted({key[0] for key in ended["BLOCKED"]}) == ["CCF", "FTELLU1", "FTELLU3", "LEAKOBJ"]
    assert answer.counts("BLOCKED") == dict.fromkeys(("LEAKOBJ", "FTELLU1", "FTELLU3", "CCF"), 4)
    assert answer.counts("DONE") == {"PP": 4, "FTELLU2": 1}
    said = {text for key, text in errors(copied).items() if key[0] == "EXTOBJ"}
    assert all(re.match("no BADPIX/BKGRDMAP, .* of a night within MAX_CALIB_DTIME$", text) for text in said)


# -- other ways through the same nights -------------------------------------------------------


def test_trigger(copied: Archive) -> None:
    """One night with the reference products of the database: no telescope darks is no obstacle."""
    answer = sequence(copied, "calib_seq", "--trigger", "--obs_dir", NIGHTS[2], skip=())
    assert answer.status == 0, answer.output
    assert answer.table() == {
        short: {"DONE": n}
        for short, n in {"BAD": 1, "LOC": 2, "SHAPE": 1, "FF": 1, "THERMAL": 1, "WAVE": 1}.items()
    }


def test_calibrations_by_exposure_sequence(copied: Archive) -> None:
    answer = sequence(copied, "calib_seq", CALIB_GROUPING="exposure_sequence")
    assert answer.status == 0, answer.output
    assert answer.counts() == {"BAD": 5, "LOC": 10, "SHAPE": 5, "FF": 5, "THERMAL": 5, "WAVE": 5}
    assert set(answer.tally()) <= {"DONE", "SKIPPED_EXISTS"}
    # Night 2 has one set of everything, and darks are taken in the evening only.
    assert answer.counts("DONE")["LOC"] == 8
    morning = header(copied, NIGHTS[0], "2320041f_pp_loco_AB.fits")
    assert morning["QCC_ALL"] is True and morning["MJDMID"] > 58386.6


def test_without_leak_steps(copied: Archive) -> None:
    """What a switched-off step made before is still used; where it made nothing, fits take the spectra."""
    off = {"RUN_LEAKTELL": "False", "RUN_LEAKOBJ": "False"}
    kept = sequence(copied, "limited_seq", **off)
    assert kept.status == 0 and kept.tally() == {"SKIPPED_EXISTS": LIMITED - 15}, kept.output
    removed = list((copied.path / "reduced").glob("20*/*_lcorr_*.fits"))
    assert len(removed) >= 15 * 3
    for path in removed:
        path.unlink()
    answer = sequence(copied, "limited_seq", **off)
    assert answer.status == 0, answer.output
    assert sum(answer.counts().values()) == LIMITED - 15
    # Two of the five hot stars had no comb beside them; all models and what follows them change.
    again = ("MKTELLU2", "MKTELLU3", "MKTELLU4", "FTELLU1", "FTELLU2", "FTELLU3", "CCF")
    numbers = TELLU | SCIENCE
    assert answer.counts("DONE") == {"MKTELLU1": 3} | {short: numbers[short] for short in again}
    for end in ("tcorr_p1_AB", "tcorr_AB"):
        assert (
            header(copied, NIGHTS[0], f"{STAR}_pp_e2dsff_{end}.fits")["INF1000"]
            == f"{STAR}_pp_e2dsff_AB.fits"
        )


# -- calibrations that fail -------------------------------------------------------------------


def test_night_borrows_what_failed(copied: Archive) -> None:
    """Flat lamp and hollow cathode of the second night did not burn: the closest night lends, a later one.

    Without flats there are neither bad pixels nor a flat field of the night, without lines no wavelengths;
    localisation and shape of the night stand, made with the bad pixels of the third night.
    """
    switch_off(copied, *all_of(copied, "FLAT_FLAT", NIGHTS[1]), *all_of(copied, "HCONE_HCONE", NIGHTS[1]))
    frames = sequence(copied, "pp_seq")
    assert frames.status == 0 and frames.counts("DONE") == {"PP": 7}, frames.output
    # A plan of the lamps and one spectrum: with the others of the night a hundred runs would follow.
    text = (RUN_FILES / "calib_seq.ini").read_text(encoding="utf-8")
    answer = copied.process(f"{text}\nid00001 = cal_extract {NIGHTS[1]} 2320134o_pp.fits\n")
    assert answer.status == 1, answer.output
    ended = states(copied)
    assert ended["FAILED_ERROR"] == [("BAD", "2320115f"), ("FF", "2320115f"), ("WAVE", "2320127c")]
    assert answer.counts("DONE") == {"LOC": 2, "SHAPE": 1, "THERMAL": 2, "EXT": 1}
    assert answer.counts("SKIPPED_EXISTS") == {k: n * 2 // 3 for k, n in CALIB.items()}
    told = errors(copied)
    assert "look at the frames" in told["BAD", "2320115f"]
    assert "lamp lines are not recognised" in told["WAVE", "2320127c"]
    lent = {"BAD": "_2320213f_pp_badpixel", "BACK": "_2320213f_pp_bmap"}
    assert borrowed(header(copied, NIGHTS[1], "2320110f_pp_loco_AB.fits")) == lent
    assert borrowed(header(copied, NIGHTS[1], "2320120a_pp_shapel.fits")) == lent
    assert borrowed(header(copied, NIGHTS[1], "2320134o_pp_e2dsff_AB.fits")) == lent | {
        "FLAT": "_2320213f_pp_flat_AB",
        "BLAZE": "_2320213f_pp_blaze_AB",
        "WAVE": "_2320225c_pp_e2dsff_AB_wave_night_AB",
    }
    assert "BADPIX/BKGRDMAP taken from 2018-09-27 (own night: FAILED_ERROR)" in answer.output


def borrowed(head: fits.Header) -> dict[str, str]:
    """Calibrations that a product has from the third night, each as the second choice."""
    keys = [k[3:] for k in head if k.startswith("CDF") and head[k] is True]
    assert all(head[f"CDN{k}"] == NIGHTS[2] and head[f"CDR{k}"] == 2 for k in keys)
    return {k: head[f"CDB{k}"].removeprefix(NIGHTS[2]).removesuffix(".fits") for k in keys}


def test_reference_calibrations_stand_in(copied: Archive) -> None:
    """No night has wavelengths or a flat field: those of the reference night are taken, and it is said.

    WAVEM and FLATM are made of the lamps of the first night, so no frame can spoil the first night alone: the
    steps of the nights are switched off and their products taken away.
    """
    for night in NIGHTS:
        folder = copied.path / "reduced" / night
        for pattern in ("*_wave_night_*", "*_pp_flat_*", "*_pp_blaze_*"):
            found = list(folder.glob(pattern))
            assert found, pattern
            for path in found:
                path.unlink()
    answer = sequence(
        copied, "limited_seq", "--filename", f"2320134o,{STAR}", RUN_WAVE="False", RUN_FF="False"
    )
    assert answer.status == 0, answer.output
    assert answer.counts("DONE") == {
        "EXTOBJ": 2, "LEAKOBJ": 1, "FTELLU1": 2, "FTELLU2": 2, "FTELLU3": 2, "CCF": 2,
    }  # fmt: skip
    for night, name in ((NIGHTS[0], STAR), (NIGHTS[1], "2320134o")):
        head = header(copied, night, f"{name}_pp_e2dsff_AB.fits")
        assert head["CDBFLAT"] == "master_2018-09-25_2320015f_pp_flat_AB.fits"
        assert head["CDBBLAZE"] == "master_2018-09-25_2320015f_pp_blaze_AB.fits"
        assert head["CDBWAVE"] == "master_2018-09-25_2320027c_pp_e2dsff_AB_wavem_fp_AB.fits"
        assert head["CDFWAVE"] is True and head["CDFFLAT"] is True and head["CDFBAD"] is False
        assert re.search(rf"W-WAVE-FALLBACK: .*of {name}: .* using the master solution", answer.output)
        assert re.search(
            rf"W-CALIB-FALLBACK: .*of {night}: FLAT/BLAZE taken from .*master tier", answer.output
        )


def test_reference_shape_fails(copied: Archive) -> None:
    """No comb in any night: six reference steps wait for the shape, and no night step starts."""
    for night in NIGHTS:
        switch_off(copied, *all_of(copied, "FP_FP", night))
    answer = copied.run_file("limited_seq", skip=("PP", *MASTER))
    assert answer.status == 4, answer.output
    ended = states(copied)
    assert answer.tally().get("BLOCKED_MASTER") == NIGHT_RUNS
    assert sorted(key[0] for key in ended["BLOCKED"]) == [
        "FLATM",
        "LEAKM",
        "SHAPELM",
        "THIM",
        "THTM",
        "WAVEM",
    ]


# -- frames that fail -------------------------------------------------------------------------


def test_one_extraction_fails(copied: Archive) -> None:
    """A frame of which little was read out: its own four runs are blocked, the template has eleven frames."""
    copied.damage(copied.spec(STAR), 20, 780)
    answer = copied.run_file("limited_seq")
    assert answer.status == 1, answer.output
    assert states(copied)["FAILED_ERROR"] == [("EXTOBJ", STAR)]
    assert states(copied)["BLOCKED"] == [(s, STAR) for s in ("CCF", "FTELLU1", "FTELLU3", "LEAKOBJ")]
    assert answer.tally()["DONE"] + answer.tally()["SKIPPED_EXISTS"] == 271
    assert answer.counts("DONE") == {"PP": 1, "FTELLU2": 1, "FTELLU3": 11, "CCF": 11}
    assert "background" in errors(copied)["EXTOBJ", STAR]
    template = fits.getheader(copied.path / "reduced" / "other" / "Template_GL699_tellu_obj_AB.fits")
    assert template["MTPNFILO"] == 11


def test_template_of_a_star_without_a_place(copied: Archive) -> None:
    """Neither table nor header tell where it is: extracted and cleaned, but no template, no velocity."""
    for identifier in ("2320134o", "2320135o"):
        copied.edit(
            copied.spec(identifier), OBJECT="HD 1", OBJNAME="HD 1", OBJRA="", OBJDEC="", OBSERVER="Second"
        )
    answer = sequence(copied, "limited_seq", SCIENCE_TARGETS="Gl699, HD 1")
    assert answer.status == 1, answer.output
    ended = states(copied)
    assert ended["FAILED_ERROR"] == [("FTELLU2", "HD_1")]
    assert sorted(key[0] for key in ended["BLOCKED"]) == ["CCF", "CCF", "FTELLU3", "FTELLU3"]
    assert answer.tally()["DONE"] + answer.tally()["SKIPPED_EXISTS"] == 271
    assert answer.counts("DONE") == {"PP": 2, "EXTOBJ": 2, "FTELLU1": 2}
    assert "W-STAR-NONE" in answer.output and "objects.csv" in errors(copied)["FTELLU2", "HD_1"]


def test_transmission_that_fails(copied: Archive) -> None:
    """A hot star behind clouds: its transmission is flagged, the model has four, everything goes on."""
    spec = copied.spec(HOT[0])
    assert spec.target is not None
    copied.expose(replace(spec, target=replace(spec.target, snr=60.0)))
    answer = copied.run_file("limited_seq")
    assert answer.status == 0, answer.output
    # Too little light in both passes; the fit of the frame itself takes what the others show.
    ended = states(copied)
    assert ended["QC_FAILED"] == [("MKTELLU1", HOT[0]), ("MKTELLU4", HOT[0])]
    assert ("MKTELLU2", HOT[0]) in ended["DONE"]
    assert answer.tally().keys() == {"DONE", "SKIPPED_EXISTS", "QC_FAILED"}
    assert sum(answer.tally().values()) == LIMITED
    model = fits.getdata(copied.path / "reduced" / "other" / "trans_model_p1_AB.fits", "TRANS_TABLE")
    assert len(model) == 4
    assert "W-FEW-TRANS" in answer.output
