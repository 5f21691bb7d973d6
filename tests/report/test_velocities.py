"""Tables of velocities follow from the products alone, are complete or absent, and compare with a truth."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import numpy as np
import pytest

from apero_dask.cli import tools
from apero_dask.cli.velocities import velocity_summary
from apero_dask.io.cards import card_text
from apero_dask.io.fits import FitsFile
from apero_dask.io.fitswriter import Table, write_fits
from apero_dask.report.velocities import read_series
from apero_dask.report.velocity_files import write_velocities
from apero_dask.simulator.recovered import Agreement, Recovered, compare
from apero_dask.simulator.settings import ConfigError

GOOD = {
    "DRSOUTID": "CCF_RV", "DRSOBJN": "GL699", "CCFMASK": "Mine.mas", "RV_CORR": -110.1, "RV_DRIFT": 0.002,
    "RVDRIFTK": True, "RVDRIFTE": 3.0, "DVRMS_CC": 4.0, "DVRMS_SP": 2.0, "CCFMFWHM": 5.2, "CCFMCONT": 12.0,
    "CCFBIS": 0.03, "CCFSNR": 120.0, "QCC_ALL": True, "BERV": 3.0, "MJDMID": 58386.0,
    "QCC001N": "FP_DRIFT", "QCC001P": 1,
}  # fmt: skip


def product(root: Path, frame: str, bjd: float, source: str = "e2dsff_tcorr", **cards: object) -> Path:
    """Velocity product with the cards the tables are made from."""
    path = root / "2018-09-25" / f"{frame}_pp_{source}_AB_ccf_mine_AB.fits"
    path.parent.mkdir(parents=True, exist_ok=True)
    header = GOOD | {"FILENAME": frame, "BJD": bjd} | cards
    texts = [card_text(key, value, "") for key, value in header.items()]
    write_fits(path, texts, [Table("CCF_RV", {"RV": np.zeros(1)})])
    return path


def test_rows_are_those_of_the_products(tmp_path: Path) -> None:
    product(tmp_path, "2320032o", 2458386.7, RV_CORR=-110.090)
    product(tmp_path, "2320031o", 2458386.6)
    product(tmp_path, "2320033o", 2458386.8, RV_CORR="NaN", QCC001P=0)
    product(tmp_path, "2320034o", 2458386.9, QCC_ALL=False)
    product(tmp_path, "2320035o", 2458387.0, RVDRIFTK=False, RV_DRIFT=0.0)
    product(tmp_path, "2320036o", 2458387.1, DRSOBJN="TOI442")
    (one, other), problems = read_series(tmp_path)
    assert problems == []
    assert (one.object, one.mask, other.object) == ("GL699", "mine", "TOI442")
    assert [row.frame for row in one.rows] == [f"232003{k}o" for k in range(1, 6)]
    assert [row.frame for row in one.usable] == ["2320031o", "2320032o", "2320035o"]
    assert one.rows[0].error_ms == pytest.approx(5.0)  # 4 m/s of the star, 3 m/s of the comb
    assert one.rows[0].drift_ms == pytest.approx(2.0)
    assert math.isnan(one.rows[4].drift_ms)
    assert one.rows[4].error_ms == pytest.approx(4.0)
    assert one.rows[2].notes == "FP_DRIFT"
    weights = np.array([1 / 25, 1 / 25, 1 / 16])
    assert one.mean_kms == pytest.approx(np.average([-110.1, -110.09, -110.1], weights=weights))
    assert one.rms_ms == pytest.approx(1e3 * np.std([-110.1, -110.09, -110.1], ddof=1))


def test_the_most_corrected_spectrum_of_a_frame_counts(tmp_path: Path) -> None:
    product(tmp_path, "2320031o", 2458386.6, "e2dsff", RV_CORR=1.0)
    product(tmp_path, "2320031o", 2458386.6, "e2dsff_tcorr", RV_CORR=2.0)
    product(tmp_path, "2320031o", 2458386.6, "e2dsff_lcorr", RV_CORR=3.0)
    (one,), _ = read_series(tmp_path)
    assert [row.rv_kms for row in one.rows] == [2.0]


def test_files_hold_the_rows_and_are_the_same_every_time(tmp_path: Path) -> None:
    product(tmp_path, "2320032o", 2458386.75, RV_CORR=-110.0905)
    product(tmp_path, "2320031o", 2458386.625)
    product(tmp_path, "2320033o", 2458386.8, RV_CORR="NaN")
    series, _ = read_series(tmp_path)
    places = write_velocities(tmp_path, series)
    rdb = places["GL699", "mine"]
    lines = rdb.read_text().splitlines()
    assert lines[0].split("\t")[:3] == ["rjd", "vrad", "svrad"]
    assert set(lines[1]) == {"-", "\t"}
    assert lines[2].split("\t")[:3] == ["58386.625000", "-110100.000", "5.000"]
    assert len(lines) == 4  # a frame without a velocity is not in it
    rows = list(csv.DictReader(rdb.with_suffix(".csv").read_text().splitlines()))
    assert [row["frame"] for row in rows] == ["2320031o", "2320032o", "2320033o"]
    assert float(rows[1]["rv_kms"]) == -110.0905
    assert rows[2]["rv_kms"] == ""
    table = FitsFile(rdb.with_suffix(".fits")).table(1)
    assert table["rv_kms"][1] == -110.0905
    assert np.isnan(table["rv_kms"][2])
    before = {path.name: path.read_bytes() for path in rdb.parent.iterdir()}
    write_velocities(tmp_path, read_series(tmp_path)[0])
    assert {path.name: path.read_bytes() for path in rdb.parent.iterdir()} == before


def test_full_disk_leaves_the_old_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    product(tmp_path, "2320031o", 2458386.6)
    rdb = write_velocities(tmp_path, read_series(tmp_path)[0])["GL699", "mine"]
    old = rdb.read_bytes()
    product(tmp_path, "2320032o", 2458386.7)

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device", "somewhere")

    monkeypatch.setattr("apero_dask.io.fitswriter.write_fits", full)
    lines, status = velocity_summary(tmp_path)
    assert status == 5
    assert "No space left on device; the files of velocities are not written" in lines[-1]
    assert rdb.read_bytes() == old
    assert {path.suffix for path in rdb.parent.iterdir()} == {".rdb", ".csv", ".fits"}


def test_end_of_a_reduction_shows_what_it_planned(tmp_path: Path) -> None:
    """Other objects and masks of a large archive stay out; a more corrected spectrum of the frame counts."""
    product(tmp_path, "2320031o", 2458386.6)
    product(tmp_path, "2320032o", 2458386.7)
    product(tmp_path, "2320036o", 2458387.1, DRSOBJN="TOI442")
    lines, status = velocity_summary(tmp_path, planned={"2320031o_pp_e2dsff_AB_ccf_mine_AB.fits"})
    heads = [line for line in lines if line.startswith("Velocities")]
    assert status == 0 and len(heads) == 1 and heads[0].startswith("Velocities of GL699 (mask mine): 2 of 2")
    lines, _ = velocity_summary(tmp_path, planned={"2320031o_pp_e2dsff_AB_ccf_other_AB.fits"})
    assert lines == []
    assert {path.stem for path in (tmp_path / "rv").glob("*.rdb")} == {"GL699_mine", "TOI442_mine"}


def test_velocities_that_could_not_be_made_anew_are_not_called_new(tmp_path: Path) -> None:
    """The run of the second frame failed: what is there is what an earlier run left."""
    product(tmp_path, "2320031o", 2458386.7)
    old = product(tmp_path, "2320032o", 2458386.8)
    plain, _ = velocity_summary(tmp_path)
    assert not any("earlier" in line for line in plain)
    lines, _ = velocity_summary(tmp_path, earlier={old.name: "FAILED_INPUT"})
    (head,) = [line for line in lines if line.startswith("Velocities of")]
    assert head.endswith("; 1 of an earlier run")
    rows = {line.split()[0]: line for line in lines if line.startswith("  23200")}
    assert rows["2320032o"].endswith("of an earlier run (FAILED_INPUT now)")
    assert rows["2320031o"].endswith("  ok")


def test_damaged_products_are_named(tmp_path: Path) -> None:
    path = product(tmp_path, "2320031o", 2458386.6)
    path.write_bytes(path.read_bytes()[:1000])
    series, problems = read_series(tmp_path)
    assert series == []
    assert len(problems) == 1
    assert "2320031o" in problems[0]
    assert "run cal_ccf on its spectrum again" in problems[0]


def test_command_prints_the_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    product(tmp_path / "reduced", "2320031o", 2458386.6)
    (tmp_path / "assets").mkdir()
    (tmp_path / "assets" / "objects.csv").write_text("OBJNAME,ALIASES\nGl699,Gl 699|Barnard's star\n")
    assert tools.main(["rv", "--data", str(tmp_path), "Barnard's star"]) == 0
    shown = capsys.readouterr().out
    assert "Velocities of GL699 (mask mine): 1 of 1 usable, mean -110.1000 km/s" in shown
    assert "2320031o" in shown
    assert (tmp_path / "reduced" / "rv" / "GL699_mine.rdb").is_file()
    assert tools.main(["rv", "--data", str(tmp_path), "nobody"]) == 2
    assert "No velocity of NOBODY" in capsys.readouterr().out
    assert tools.main(["rv", "--data", str(tmp_path / "empty")]) == 3


def truth(root: Path, rows: list[tuple[str, float, float]]) -> None:
    """Campaign table with the columns that matter."""
    folder = root / "truth"
    folder.mkdir(parents=True)
    lines = ["identifier,bjd,rv_kms", *(f"{frame},{bjd!r},{rv!r}" for frame, bjd, rv in rows)]
    (folder / "frames.csv").write_text("\n".join(lines) + "\n")


def test_recovered_velocities_stand_beside_the_injected_ones(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    injected = [-110.100, -110.092, -110.108, -110.096]
    noise = [2.0, -3.0, 1.0, 4.0]
    truth(tmp_path, [(f"232003{k}o", 2458386.6 + k, rv) for k, rv in enumerate(injected)])
    for k, rv in enumerate(injected):
        product(tmp_path / "reduced", f"232003{k}o", 2458386.6 + k, RV_CORR=rv + 0.03 + 1e-3 * noise[k])
    assert tools.main(["compare-rv", "--data", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    assert "zero point +31.0 m/s taken out" in shown
    assert f"rms {np.std(noise, ddof=1):.1f} m/s, predicted 5.0 m/s" in shown
    assert "agrees" in shown
    # A velocity that is wrong by many errors is found.
    product(tmp_path / "reduced", "2320033o", 2458389.6, RV_CORR=-110.0)
    assert tools.main(["compare-rv", "--data", str(tmp_path)]) == 1
    assert "does NOT agree" in capsys.readouterr().out


def test_velocities_that_failed_their_checks_are_not_compared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    truth(tmp_path, [(f"232003{k}o", 2458386.6 + k, -110.1) for k in range(3)])
    for k in range(2):
        product(tmp_path / "reduced", f"232003{k}o", 2458386.6 + k, RV_CORR=-110.1)
    product(
        *(tmp_path / "reduced", "2320032o", 2458388.6),
        **{"RV_CORR": 80.0, "QCC001N": "CCF_FWHM", "QCC001P": 0},
    )
    assert tools.main(["compare-rv", "--data", str(tmp_path)]) == 0
    assert "left out, quality control: 2320032o CCF_FWHM" in capsys.readouterr().out


def test_comparison_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="Name the output folder of the simulation with --truth"):
        compare(tmp_path, tmp_path)
    truth(tmp_path, [("2320031o", 0.0, 0.0)])
    with pytest.raises(ConfigError, match="no usable velocity of a frame of this simulation"):
        compare(tmp_path, tmp_path)


def test_limit_grows_with_the_errors() -> None:
    def agreement(error_ms: float) -> Agreement:
        return Agreement("x", tuple(Recovered(str(k), float(k), 0.0, 0.0, error_ms) for k in range(3)))

    assert agreement(10.0).limit_ms(1.3, 4.0) == pytest.approx(17.0)
    assert agreement(20.0).limit_ms(1.3, 4.0) == pytest.approx(30.0)


def test_files_that_follow_from_products_are_no_strangers(tmp_path: Path) -> None:
    from apero_dask.io.trees import find_trees
    from apero_dask.state.verify import verify

    path = product(tmp_path / "reduced", "2320031o", 2458386.6)
    write_velocities(tmp_path / "reduced", read_series(tmp_path / "reduced")[0])
    found = verify(find_trees(str(tmp_path)))
    assert found.unclaimed == [f"reduced/2018-09-25/{path.name}"]  # no marker names this one
