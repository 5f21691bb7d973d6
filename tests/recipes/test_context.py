"""What a recipe body may do, and what is left when it breaks a rule or the disk."""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from apero_dask.core import declare
from apero_dask.core.declare import Argument, Group, Makes, Option, Recipe, Resources, Select, registered
from apero_dask.core.errors import ContractError, DataError
from apero_dask.core.work import Calibration, CalibrationFile, InputFile, Work
from apero_dask.io.cards import card_text
from apero_dask.io.fitswriter import Image, Table, write_fits
from apero_dask.recipes.chosen import find_calibration
from apero_dask.recipes.context import RecipeContext, run_recipe
from tests.recipes.runs import MINI, VOLATILE, Bench

RECIPE = Recipe(
    name="cal_stand_in",
    short="STAND",
    scripts=(),
    group=Group.NIGHT,
    tree_in="tmp",
    tree_out="reduced",
    takes="obs_dir",
    arguments=(Argument("files", ("PP",)), Argument("others", ("PP",), required=False)),
    makes=(Makes("FLAT", ("AB", "C")), Makes("BLAZE", ("AB",))),
    resources=Resources(1.0, 1.0),
    selects=(
        Select(("BADPIX", "BKGRDMAP")),
        Select(("LOC",), fibre="AB"),
        Select(("LOC",), fibre="C"),
        Select(("WAVE",), fallback=("WAVEM",)),
        Select(("THERMALT",), optional=True),
    ),
    options=(
        Option("cut", "float", 5.0, help="limit"),
        Option("badpixfile", "file", calibration="BADPIX"),
        Option("plot", "str", None, changes_result=False),
        Option("fast", "switch"),
    ),
)


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Callable[[RecipeContext], None]], None]]:
    def use(body: Callable[[RecipeContext], None]) -> None:
        monkeypatch.setitem(declare._REGISTRY, RECIPE.name, replace(RECIPE, body=body))

    use(lambda ctx: None)
    yield use


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    bench = Bench(tmp_path)
    for name in ("2320005f_pp.fits", "2320006f_pp.fits"):
        path = tmp_path / "tmp" / "n1" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        cards = [
            card_text("OBJECT", "Calibration", "target"),
            card_text("EXPTIME", 27.86, "s"),
            card_text("QCC001N", "OLD", "test of the input"),
            card_text("DRSOUTID", "DRS_PP", "product"),
        ]
        write_fits(path, cards, [Image("DRS_PP", np.ones((4, 4), np.float32))])
    return bench


def work(bench: Bench, **values: object) -> Work:
    made = bench.work(
        RECIPE.name,
        "STAND",
        {"files": ["tmp/n1/2320005f_pp.fits", "tmp/n1/2320006f_pp.fits"]},
        [],
        stem="2320005f",
        obs_dir="n1",
    )
    outputs = (
        ("FLAT", "AB", "reduced/n1/2320005f_pp_flat_AB.fits"),
        ("FLAT", "C", "reduced/n1/2320005f_pp_flat_C.fits"),
        ("BLAZE", "AB", "reduced/n1/2320005f_pp_blaze_AB.fits"),
    )
    return replace(made, **{"outputs": outputs, **values})


def calibration(kinds: tuple[str, ...], *files: CalibrationFile, **values: object) -> Calibration:
    base = Calibration(kinds, "", "", "run1", "n0", 58385.25, 2, True, "c0", files)
    return replace(base, **values)


def image(shape: tuple[int, ...] = (12, 20)) -> Image:
    return Image("", np.full(shape, 1.5))


def save_all(ctx: RecipeContext) -> None:
    ctx.save("FLAT", image(), fibre="AB", header={"RMS": (np.float32(0.5), "of the flat")})
    ctx.save("FLAT", image(), fibre="C")
    ctx.save("BLAZE", Table("", {"N": [1, 2]}), fibre="AB")


def visible(bench: Bench) -> list[str]:
    return sorted(p.name for p in (bench.root / "reduced").rglob("*") if p.is_file())


def test_products_appear_together_with_their_records(bench: Bench, stand_in) -> None:
    seen: list[list[str]] = []

    def body(ctx: RecipeContext) -> None:
        ctx.qc("RMS", 0.012345678, "RMS > 0.05", True)
        ctx.qc("SPREAD", 7, "SPREAD > 5", False, informative=True)
        ctx.parameter("WIDTH", 7, "paper", "pixels")
        ctx.message("W-THERMAL-FALLBACK", short="FF", id="x", days=7, night="n2")
        save_all(ctx)
        seen.append([name for name in visible(bench) if not name.startswith(".")])

    stand_in(body)
    result = run_recipe(work(bench), bench.trees, MINI)
    assert seen == [[]]
    assert [(o.kind, o.fibre, o.path) for o in result.outputs] == list(work(bench).outputs)
    assert visible(bench) == sorted(o.path.rpartition("/")[2] for o in result.outputs)
    assert result.passed and [t.value for t in result.qc] == ["0.0123457", "7"]
    assert result.messages[0][0] == "W-THERMAL-FALLBACK" and "using THERMALI of n2" in result.messages[0][1]
    path = bench.root / result.outputs[0].path
    assert path.stat().st_size == result.outputs[0].size
    with fits.open(path, checksum=True) as found:
        found.verify("exception")
        head = found[0].header
        assert [unit.name for unit in found[1:]] == ["FF_FLAT", "PARAM_TABLE"]
        assert head["OBJECT"] == "Calibration" and head["EXPTIME"] == 27.86
        assert (head["DRSOUTID"], head["FIBER"], head["RMS"]) == ("FF_FLAT", "AB", 0.5)
        assert head["DRSPDATE"] == VOLATILE[0][1]
        assert (head["INF1000"], head["INF1001"]) == ("2320005f_pp.fits", "2320006f_pp.fits")
        assert (head["QCC001N"], head["QCC001V"], head["QCC001P"]) == ("RMS", "0.0123457", 1)
        assert head["QCC002L"] == "(info) SPREAD > 5" and head["QCC002P"] == 0
        assert head["QCC_ALL"] is True
        names = dict(zip(found[-1].data["NAME"], found[-1].data["VALUE"], strict=True))
        assert names == {"cut": "5.0", "fast": "False", "badpixfile": "None", "WIDTH": "7"}
    with fits.open(bench.root / result.outputs[2].path) as found:
        assert found[1].header["OBJECT"] == "Calibration"


def test_rerun_gives_the_same_bytes(bench: Bench, stand_in) -> None:
    stand_in(save_all)
    first = run_recipe(work(bench), bench.trees, MINI).outputs
    again = run_recipe(work(bench, attempt=2, key="other"), bench.trees, MINI).outputs
    assert first == again
    later = (("DRSPDATE", "2027-01-01T00:00:00"), ("DRSPID", "PID-2"))
    third = run_recipe(work(bench, volatile=later), bench.trees, MINI).outputs
    assert [o.content for o in third] == [o.content for o in first]
    assert all(a.digest != b.digest for a, b in zip(first, third, strict=True))


def test_failed_quality_is_written_and_flagged(bench: Bench, stand_in) -> None:
    def body(ctx: RecipeContext) -> None:
        ctx.qc("RMS", 0.5, "RMS > 0.05", False)
        save_all(ctx)

    stand_in(body)
    result = run_recipe(work(bench), bench.trees, MINI)
    assert not result.passed
    assert fits.getheader(bench.root / result.outputs[0].path)["QCC_ALL"] is False


def test_no_test_is_said_so(bench: Bench, stand_in) -> None:
    stand_in(save_all)
    result = run_recipe(work(bench), bench.trees, MINI)
    head = fits.getheader(bench.root / result.outputs[0].path)
    assert [head[f"QCC001{letter}"] for letter in "NVLP"] == ["None", "None", "None", 1]
    assert head["QCC_ALL"] is True


def broken(ctx: RecipeContext) -> None:
    save_all(ctx)
    raise DataError("this frame cannot be reduced")


def saves_twice(ctx: RecipeContext) -> None:
    save_all(ctx)
    ctx.save("FLAT", image(), fibre="C")


def saves_other(ctx: RecipeContext) -> None:
    ctx.save("FLAT", image(), fibre="AB")
    ctx.save("WAVE", image())


def saves_too_little(ctx: RecipeContext) -> None:
    ctx.save("FLAT", image(), fibre="AB")


def judges_late(ctx: RecipeContext) -> None:
    ctx.save("FLAT", image(), fibre="AB")
    ctx.qc("RMS", 1, "RMS > 2", True)


def double_precision(ctx: RecipeContext) -> None:
    ctx.save("FLAT", image((MINI.ny, MINI.nx)), fibre="AB")


def card_twice(ctx: RecipeContext) -> None:
    ctx.save("FLAT", image(), fibre="AB", header={"DRSOUTID": "mine"})


def long_keyword(ctx: RecipeContext) -> None:
    ctx.save("FLAT", image(), fibre="AB", header={"VERYLONGKEY": 1})


def unknown_argument(ctx: RecipeContext) -> None:
    ctx.input("flats")


def unknown_calibration(ctx: RecipeContext) -> None:
    ctx.calibration("DARKM")


def unknown_option(ctx: RecipeContext) -> None:
    ctx.option("colour")


def missing_calibration(ctx: RecipeContext) -> None:
    ctx.calibration("BADPIX")


@pytest.mark.parametrize(
    ("body", "kind", "text"),
    [
        (broken, DataError, "cannot be reduced"),
        (saves_twice, ContractError, "FLAT C twice"),
        (saves_other, ContractError, "WAVE, which the run does not make"),
        (saves_too_little, ContractError, "without saving BLAZE AB, FLAT C"),
        (judges_late, ContractError, "after saving FLAT"),
        (double_precision, ContractError, "double precision"),
        (card_twice, ContractError, "DRSOUTID is written twice"),
        (long_keyword, ContractError, "VERYLONGKEY"),
        (unknown_argument, ContractError, "no argument flats"),
        (unknown_calibration, ContractError, "no calibration DARKM"),
        (unknown_option, ContractError, "no option colour"),
        (missing_calibration, ContractError, "came without the calibration BADPIX"),
    ],
)
def test_what_goes_wrong_leaves_nothing(
    bench: Bench, stand_in, body: Callable[[RecipeContext], None], kind: type[Exception], text: str
) -> None:
    stand_in(body)
    with pytest.raises(kind, match=text):
        run_recipe(work(bench), bench.trees, MINI)
    assert visible(bench) == []


def test_recipes_without_body_or_name(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(declare._REGISTRY, RECIPE.name, RECIPE)
    with pytest.raises(ContractError, match="no body"):
        run_recipe(work(bench), bench.trees, MINI)
    with pytest.raises(ContractError, match="cal_none is not a registered recipe"):
        run_recipe(work(bench, recipe="cal_none"), bench.trees, MINI)
    with pytest.raises(ContractError, match="volatile"):
        monkeypatch.setitem(declare._REGISTRY, RECIPE.name, replace(RECIPE, body=save_all))
        run_recipe(work(bench, volatile=(("HOSTNAME", "x"),)), bench.trees, MINI)
    assert visible(bench) == []


def test_full_disk_leaves_nothing(bench: Bench, stand_in, monkeypatch: pytest.MonkeyPatch) -> None:
    """The third product does not fit any more."""
    stand_in(save_all)
    real, calls = os.fsync, []

    def fails(handle: int) -> None:
        calls.append(handle)
        if len(calls) == 3:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(handle)

    monkeypatch.setattr(os, "fsync", fails)
    with pytest.raises(OSError) as error:
        run_recipe(work(bench), bench.trees, MINI)
    assert error.value.errno == errno.ENOSPC and "blaze_AB" in error.value.filename
    assert visible(bench) == []


def test_older_products_stay_until_the_new_ones_are_complete(bench: Bench, stand_in) -> None:
    stand_in(save_all)
    result = run_recipe(work(bench), bench.trees, MINI)
    before = {o.path: (bench.root / o.path).read_bytes() for o in result.outputs}
    stand_in(broken)
    with pytest.raises(DataError):
        run_recipe(work(bench), bench.trees, MINI)
    assert {path: (bench.root / path).read_bytes() for path in before} == before


def test_options_inputs_and_random_numbers(bench: Bench, stand_in) -> None:
    ctx = RecipeContext(work(bench, options=(("cut", 3.0),)), bench.trees, MINI)
    assert (ctx.option("cut"), ctx.option("plot"), ctx.option("fast")) == (3.0, None, False)
    assert [p.name for p in ctx.input("files")] == ["2320005f_pp.fits", "2320006f_pp.fits"]
    assert ctx.input("others") == ()
    draw = ctx.rng("noise").random(3)
    np.testing.assert_array_equal(draw, RecipeContext(work(bench), bench.trees, MINI).rng("noise").random(3))
    assert not np.array_equal(draw, ctx.rng("other").random(3))
    other = RecipeContext(work(bench, identity="other"), bench.trees, MINI)
    assert not np.array_equal(draw, other.rng("noise").random(3))


class CountingCache:
    def __init__(self) -> None:
        self.kept: dict[str, object] = {}
        self.loads = 0

    def get(self, key: str, loader: Callable[[], object]) -> object:
        if key not in self.kept:
            self.loads += 1
            self.kept[key] = loader()
        return self.kept[key]


def test_calibrations_are_found_and_shared(bench: Bench, stand_in) -> None:
    write_fits(bench.root / "cal.fits", [], [Image("BADPIX", np.eye(3)), Table("T", {"A": [1, 2]})])
    (bench.root / "reduced").mkdir()
    (bench.root / "cal.fits").rename(bench.root / "reduced" / "cal.fits")

    def file(kind: str, fibre: str, content: str) -> CalibrationFile:
        return CalibrationFile(kind, fibre, "reduced/cal.fits", "d", content, f"n0_{kind}{fibre}.fits")

    calibrations = (
        calibration(("BADPIX", "BKGRDMAP"), file("BADPIX", "", "b"), file("BKGRDMAP", "", "k")),
        calibration(("LOC",), file("LOC", "AB", "l1"), fibre="AB", time=1.5),
        calibration(("LOC",), file("LOC", "C", "l2"), fibre="C", time=2.5),
        calibration(("WAVE",), *(file("WAVEM", f, f"w{f}") for f in ("AB", "A", "B", "C"))),
        calibration(("THERMALT",), source=""),
    )
    cache = CountingCache()
    ctx = RecipeContext(work(bench, calibrations=calibrations), bench.trees, MINI, cache)
    assert ctx.calibration("LOC", "B").key == "l1" and ctx.calibration("LOC", "C").key == "l2"
    wave = ctx.calibration("WAVE", "A")
    assert (wave.kind, wave.key, wave.calibration.rank) == ("WAVEM", "wA", 2)
    assert ctx.calibration("THERMALT") is None
    shared = ctx.calibration_image("BADPIX")
    assert shared is ctx.calibration_image("BADPIX") and cache.loads == 1
    with pytest.raises(ValueError, match="read-only"):
        shared[0, 0] = 5
    assert list(ctx.calibration_table("BADPIX", "T")["A"]) == [1, 2]
    assert cache.loads == 2

    stand_in(save_all)
    result = run_recipe(work(bench, calibrations=calibrations), bench.trees, MINI)
    heads = {o.fibre: fits.getheader(bench.root / o.path) for o in result.outputs if o.kind == "FLAT"}
    assert heads["AB"]["CDBLOCO"] == "n0_LOCAB.fits" and heads["AB"]["CDTLOCO"] == 1.5
    assert heads["C"]["CDBLOCO"] == "n0_LOCC.fits" and heads["C"]["CDTLOCO"] == 2.5
    for head in heads.values():
        assert head["CDBBAD"] == "n0_BADPIX.fits" and head["CDBBACK"] == "n0_BKGRDMAP.fits"
        assert (head["CDNBAD"], head["CDRBAD"], head["CDFBAD"]) == ("n0", 2, True)
        assert "CDBTHERM" not in head
    assert heads["C"]["CDBWAVE"] == "n0_WAVEMC.fits"


def test_calibration_named_by_the_user(bench: Bench, stand_in) -> None:
    given = calibration(("BADPIX", "BKGRDMAP"), source="file:mine.fits", rank=0, fallback=False)
    values = {"calibrations": (given,), "options": (("badpixfile", "mine.fits"),)}
    ctx = RecipeContext(work(bench, **values), bench.trees, MINI)
    with pytest.raises(DataError, match=r"mine\.fits is not there"):
        ctx.calibration("BADPIX")
    path = bench.root / "calibDB" / "mine.fits"
    path.parent.mkdir()
    write_fits(path, [], [Image("BADPIX", np.eye(3))])
    assert ctx.calibration("BADPIX").path == path
    np.testing.assert_array_equal(ctx.calibration_image("BADPIX"), np.eye(3))


def test_calibration_named_for_one_of_several_fibres(bench: Bench) -> None:
    """A user names one file; the files of the other fibres lie beside it."""
    recipe = registered()["cal_extract"]
    given = calibration(("BLAZE",), source="file:mine_blaze_AB.fits", rank=0, fallback=False)
    made = work(
        bench, recipe="cal_extract", calibrations=(given,), options=(("blazefile", "mine_blaze_AB.fits"),)
    )
    folder = bench.root / "calibDB"
    folder.mkdir(exist_ok=True)
    for fibre in ("AB", "C"):
        write_fits(folder / f"mine_blaze_{fibre}.fits", [], [Image("BLAZE", np.eye(3))])

    def chosen(fibre: str) -> str:
        return find_calibration(made, recipe, bench.trees, MINI, "BLAZE", fibre).path.name

    assert [chosen(fibre) for fibre in ("AB", "C", "A")] == [
        "mine_blaze_AB.fits", "mine_blaze_C.fits", "mine_blaze_AB.fits",
    ]  # fmt: skip


def test_inputs_of_a_vanished_file(bench: Bench, stand_in) -> None:
    """An error of the disk is not an error of the data: another attempt may find the file."""

    def body(ctx: RecipeContext) -> None:
        ctx.open(ctx.input("files")[0])

    stand_in(body)
    lost = (("files", (InputFile("tmp/n1/none.fits"),)),)
    with pytest.raises(FileNotFoundError):
        run_recipe(work(bench, inputs=lost), bench.trees, MINI)


def test_log_says_what_was_judged(bench: Bench, stand_in, caplog: pytest.LogCaptureFixture) -> None:
    def body(ctx: RecipeContext) -> None:
        ctx.qc("RMS", 0.5, "RMS > 0.05", False)
        save_all(ctx)

    stand_in(body)
    with caplog.at_level(logging.INFO):
        run_recipe(work(bench), bench.trees, MINI)
    assert "QC RMS = 0.5 (fails if RMS > 0.05): FAILED" in caplog.text
