"""Every sequence on three nights with pixels: numbers of runs, outcomes, products, nothing done twice.

About 15 CPU minutes and 12 GB; the simulation (2 of them) is left out where ``APERO_WORKED`` names one.
"""

from __future__ import annotations

import random
import re
from functools import lru_cache

import numpy as np
import pytest
from astropy.io import fits

from apero_dask.recipes.line_mask import builtin_mask
from tests.planner.test_counts import CALIB, MASTER, SCIENCE, SEQUENCES, TELLU
from tests.recipes.productchecks import check_product, resolver
from tests.recipes.runs import MINI
from tests.recipes.worked import MODELS, NIGHTS, RUN_FILES, Answer, Archive

pytestmark = [pytest.mark.slow, pytest.mark.timeout(5400)]

LIMITED = SEQUENCES["limited_seq"][0]
NIGHT_RUNS = sum(CALIB.values()) + sum(TELLU.values()) + sum(SCIENCE.values())
UP_TO_MASTER = ("PP", *MASTER)
"""Steps to skip where the fate of all night steps is judged."""
MASK = "masque_Oct19_Vrp9_Berv33.mas"


def rejected(archive: Archive, identifier: str) -> None:
    (archive.path / "assets").mkdir(exist_ok=True)
    (archive.path / "assets" / "reject.csv").write_text(
        f"IDENTIFIER,PP,TEL,RV,COMMENT\n{identifier},true,,,clouds\n"
    )


# -- numbers ---------------------------------------------------------------------------------


def test_limited_sequence(first: Answer) -> None:
    """Every run of the table is planned and ends with a product that passed."""
    assert first.status == 0, first.output
    assert first.counts() == LIMITED
    if first.counts("SKIPPED_EXISTS"):
        pytest.skip("APERO_WORKED names a reduced archive: nothing was executed here")
    assert first.counts("DONE") == LIMITED
    said = re.findall(r"[EWI]-[A-Z-]+", first.output)
    # No telescope darks in the third night, and five hot stars in all.
    assert set(said) == {"W-NO-RUNS", "W-CALIB-FALLBACK", "W-FEW-TRANS"}
    assert "RuntimeWarning" not in first.output


@pytest.mark.parametrize(
    "name", ["pp_seq", "pp_seq_opt", "master_seq", "calib_seq", "tellu_seq", "science_seq", "limited_seq"]
)
def test_parts_find_everything_finished(name: str, reduced: Archive) -> None:
    """Sequences share their runs: what one of them finished the others skip."""
    answer = reduced.run_file(name)
    by_short, total = SEQUENCES[name]
    assert answer.status == 0, answer.output
    assert answer.table() == {short: {"SKIPPED_EXISTS": n} for short, n in by_short.items()}
    assert sum(by_short.values()) == total


def test_velocities_are_those_of_the_truth(reduced: Archive) -> None:
    answer = reduced.tool("compare-rv")
    assert answer.status == 0, answer.output
    assert answer.output.count("agrees") == 2


def test_disk_and_databases_agree(reduced: Archive) -> None:
    answer = reduced.tool("verify")
    assert answer.status == 0, answer.output


def test_products_hold_what_every_product_must(reduced: Archive) -> None:
    """Every file of two frames and every calibration, and a sample of the others."""
    find = lru_cache(maxsize=None)(resolver(reduced.path))
    paths = sorted((reduced.path / "reduced").glob("20*/*.fits"))
    chosen = [p for p in paths if p.name[:8] in ("2320031o", "2320134o") or p.name[7] != "o"]
    chosen += random.Random(1).sample(sorted(set(paths) - set(chosen)), 30)
    assert len(chosen) > 200
    for path in chosen:
        check_product(path, MINI, find)
        assert fits.getheader(path)["QCC_ALL"] is True, path.name
    for path in sorted((reduced.path / "tmp").glob("20*/*_pp.fits")):
        assert fits.getheader(path)["QCC_ALL"] is True, path.name


def test_full_and_engineering_sequences(copied: Archive) -> None:
    """Only the velocities of the hot stars are new, and neither sequence repeats what the other made."""
    answer = copied.run_file("full_seq")
    by_short, total = SEQUENCES["full_seq"]
    assert answer.status == 0, answer.output
    assert answer.counts() == by_short and sum(by_short.values()) == total
    assert answer.counts("DONE") == {"CCF": 5}
    assert set(answer.tally()) == {"DONE", "SKIPPED_EXISTS"}
    for hot in ("2320029o", "2320030o", "2320129o", "2320227o", "2320228o"):
        assert len(list((copied.path / "reduced").glob(f"20*/{hot}_pp_e2dsff_tcorr_AB_ccf_*_AB.fits"))) == 1
    again = copied.run_file("limited_seq")
    assert again.tally() == {"SKIPPED_EXISTS": sum(LIMITED.values())}, again.output
    text = (RUN_FILES / "eng_seq.ini").read_text(encoding="utf-8")
    text = re.sub(r"(?m)^(RUN_EXT\w+).*$", r"\1 = True", re.sub(r"(?m)^NIGHT_NAME.*$", "", text))
    lamps = copied.process(text)
    assert lamps.status == 0, lamps.output
    assert lamps.table() == {short: {"DONE": n} for short, n in SEQUENCES["eng_seq"][0].items()}
    spectra = sorted((copied.path / "reduced").glob("20*/*[ac]_pp_e2dsff_AB.fits"))
    assert len(spectra) >= sum(lamps.counts().values()) - 6  # FP_FP and HCONE; DARK_FP lights C only
    check_product(spectra[0], MINI, resolver(copied.path))


# -- single recipes --------------------------------------------------------------------------


def own_mask(archive: Archive) -> None:
    """The built-in lines under the name that run files of the field use."""
    folder = archive.path / "assets" / "masks"
    folder.mkdir(parents=True, exist_ok=True)
    mask = builtin_mask()
    np.savetxt(folder / MASK, np.stack([mask.wave, mask.wave, mask.weight], axis=1), fmt="%.7f")


def test_four_lines_and_the_same_from_the_shell(copied: Archive) -> None:
    own_mask(copied)
    text = (RUN_FILES / "ccf_lines.ini").read_text(encoding="utf-8")
    text = text.replace("2018-08-05", NIGHTS[0]).replace("--rv 11.9", "--rv -110.1")
    text = re.sub(r"229565([1-4])o", r"232003\1o", text)
    answer = copied.process(text, skip=())
    assert answer.status == 0, answer.output
    assert answer.table() == {"CCF": {"DONE": 4}}
    folder = copied.path / "reduced" / NIGHTS[0]
    made = sorted(folder.glob("*_ccf_masque_oct19_vrp9_berv33_AB.fits"))
    assert [p.name[:8] for p in made] == ["2320031o", "2320032o", "2320033o", "2320034o"]
    for path in made:
        head = fits.getheader(path)
        assert (head["CCFMASK"], head["CCFTRGRV"], head["CCFWIDTH"], head["CCFSTEP"]) == (
            MASK,
            -110.1,
            20,
            0.05,
        )
        wide = fits.getheader(folder / path.name.replace("masque_oct19_vrp9_berv33", "apero_dask_mdwarf"))
        # The same lines on the same spectrum, twenty times finer.
        assert abs(head["RV_OBJ"] - wide["RV_OBJ"]) < 2 * wide["DVRMS_CC"] / 1e3
    before = fits.getdata(made[0], 1, memmap=False)
    made[0].unlink()
    spectrum = "2320031o_pp_e2dsff_tcorr_AB.fits"
    options = ["--mask", MASK, "--rv", "-110.1", "--width", "20", "--step", "0.05"]
    shell = copied.recipe("cal_ccf_spirou.py", NIGHTS[0], spectrum, *options)
    assert shell.status == 0, shell.output
    after = fits.getdata(made[0], 1, memmap=False)
    for column in before.names:
        np.testing.assert_array_equal(before[column], after[column])
    away = copied.recipe("cal_ccf_spirou.py", NIGHTS[0], spectrum, "--mask", "masque_gone.mas")
    assert away.status == 2 and "E-NO-MASK" in away.output


def test_one_extraction_from_the_shell_is_that_of_the_sequence(copied: Archive) -> None:
    path = copied.path / "reduced" / NIGHTS[1] / "2320134o_pp_e2dsff_AB.fits"
    before = fits.getdata(path)
    path.unlink()
    answer = copied.recipe("cal_extract_spirou.py", NIGHTS[1], "2320134o_pp.fits")
    assert answer.status == 0, answer.output
    assert answer.table() == {"EXT": {"DONE": 1}}
    np.testing.assert_array_equal(fits.getdata(path), before)


def test_one_file_and_one_star(reduced: Archive) -> None:
    """Filters leave their own frames, which are finished; masters stay whole."""
    one = reduced.run_file("limited_seq", "--filename", "2320031o", "--test")
    assert one.status == 0, one.output
    planned = re.findall(r"(?m)^T \S+ (\S+) ", one.output)
    for short in ("EXTOBJ", "LEAKOBJ", "FTELLU1", "FTELLU2", "FTELLU3", "CCF", "DARKM", "WAVEM"):
        assert planned.count(short) == 1, (short, planned)
    assert "EXTTELL" not in planned
    star = reduced.run_file("science_seq", SCIENCE_TARGETS="TOI-442")
    assert star.status == 0, star.output
    assert star.table() == {
        short: {"SKIPPED_EXISTS": n}
        for short, n in {"EXTOBJ": 2, "FTELLU1": 2, "FTELLU2": 1, "FTELLU3": 2, "CCF": 2}.items()
    }


# -- what follows a change -------------------------------------------------------------------


def test_a_rejected_frame_leaves_everything_that_used_it(copied: Archive) -> None:
    rejected(copied, "2320031o")
    answer = copied.run_file("limited_seq")
    assert answer.status == 0, answer.output
    assert answer.counts("DONE") == {"FTELLU2": 1, "FTELLU3": 11, "CCF": 11}
    assert answer.tally() == {"DONE": 23, "SKIPPED_EXISTS": 247}


# -- failures --------------------------------------------------------------------------------


def test_catalogue_of_another_lamp_closes_the_gate(copied: Archive) -> None:
    """A user's list without a line of the lamp: the reference wavelengths fail, by name."""
    folder = copied.path / "assets" / "lines"
    folder.mkdir(parents=True)
    # A regular comb is no lamp.
    rows = "\n".join(f"{wave:.5f},1.0" for wave in np.arange(950.0, 2500.0, 0.731))
    (folder / "lines_une.csv").write_text(f"wave_vac_nm,strength\n{rows}\n")
    answer = copied.run_file("limited_seq", skip=UP_TO_MASTER)
    assert answer.status == 4, answer.output
    tally = answer.tally()
    assert tally["BLOCKED_MASTER"] == NIGHT_RUNS
    states = {key: e["state"] for key, e in copied.ended().items()}
    failed = [key[0] for key, state in states.items() if "FAILED" in str(state) and key[0] not in MODELS]
    assert failed == ["WAVEM"]
    assert sum(answer.counts("DONE", "SKIPPED_EXISTS").values()) == 146 + sum(MASTER.values()) - 1
