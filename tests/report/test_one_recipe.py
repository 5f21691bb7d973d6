"""A recipe run from the shell on a reduced archive, by stand-ins."""

from __future__ import annotations

import numpy as np

from apero_dask.cli.processing import main as processing
from apero_dask.cli.recipe import main
from apero_dask.core.declare import set_body
from apero_dask.io.fitswriter import Image
from apero_dask.recipes.context import RecipeContext
from tests.engine import standins
from tests.report.conftest import STAR
from tests.report.reduction import NIGHT, SKIPPING, Answer, Root, captured


def call(root: Root, program: str, *arguments: str) -> Answer:
    with standins.standing_in():
        return captured(lambda words: main(words, program), [NIGHT, *arguments, "--data", str(root.path)])


def test_a_velocity_with_a_mask_of_the_user(good: Root) -> None:
    folder = good.path / "assets" / "masks"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "masque_Oct19_Vrp9_Berv33.mas").write_text("1000 1000 1\n", encoding="utf-8")
    spectrum = f"{STAR}_pp_e2dsff_tcorr_AB.fits"
    options = ["--mask", "masque_Oct19_Vrp9_Berv33.mas", "--rv", "11.9", "--width", "20", "--step", "0.05"]
    answer = call(good, "cal_ccf_spirou.py", spectrum, *options)
    assert answer.status == 0, answer.err
    made = good.path / "reduced" / NIGHT / f"{STAR}_pp_e2dsff_tcorr_AB_ccf_masque_oct19_vrp9_berv33_AB.fits"
    assert made.is_file()
    why = good.ask("why", made.name)
    assert why.status == 0 and "cal_ccf" in why.out
    # Asked for once more it is done once more: nothing says SKIP.
    again = call(good, "cal_ccf_spirou.py", spectrum, *options)
    assert again.status == 0 and again.lines("CCF") and "SKIPPED" not in again.out


def test_several_frames_have_a_run_each(good: Root) -> None:
    answer = call(good, "cal_extract_spirou.py", f"{STAR}_pp.fits", "2320032o_pp.fits", "--combine", "False")
    assert answer.status == 0, answer.err
    (line,) = answer.lines("EXT ")
    assert line.split()[:2] == ["EXT", "2"]


def test_a_package_of_one_frame(good: Root) -> None:
    answer = call(good, "cal_postprocess_spirou.py", f"{STAR}_pp_e2dsff_AB.fits", "--wave-basis", "power")
    assert answer.status == 0, answer.err
    names = sorted(path.name for path in (good.path / "out" / NIGHT).glob("*.fits"))
    assert names == [f"{STAR[:7]}{letter}.fits" for letter in "estv"]


def without_correction(ctx: RecipeContext) -> None:
    """Stand-in of a packaging that has no telluric correction to package."""
    image = Image("X", np.zeros((2, 2), np.float32))
    for kind, _, path in ctx.work.outputs:
        if kind == "POST_T":
            ctx.leave_out(kind, "there is none")
        else:
            ctx.save_as_is(kind, (), [image])
            assert path.startswith("out/")


def package(root: Root, text: str) -> Answer:
    with standins.standing_in():
        set_body("cal_postprocess", without_correction)
        path = root.run_file(text)
        return captured(processing, ["--data", str(root.path), "SPIROU", str(path), "--package"])


def test_a_product_that_was_left_out_is_told_and_not_missed_later(good: Root) -> None:
    text = SKIPPING + "SKIP_SCIPOST = True\n"
    first = package(good, text)
    assert first.status == 0, first.err
    (line, *_) = first.lines("I-LEFT-OUT")
    assert "t.fits was not made: there is none" in line
    names = sorted(path.name for path in (good.path / "out" / NIGHT).glob("*.fits"))
    assert len(names) == 4 * 3 and not [name for name in names if name.endswith("t.fits")]
    # Finished is finished: the next start skips it, and nothing is found missing.
    again = package(good, text)
    assert again.status == 0
    (row,) = again.lines("SCIPOST ")
    assert row.split() == ["SCIPOST", "4", "4"]
    verified = good.ask("verify")
    assert verified.status == 0, verified.out
