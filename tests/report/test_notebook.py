"""Planning and running from a notebook: the calls of the command line, their tables and pages."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

import apero_dask
from apero_dask import plan, read_run_file, run
from apero_dask.cli.processing import main as processing
from apero_dask.core.errors import UserError
from apero_dask.io.cards import card_text
from apero_dask.io.fitswriter import Table, write_fits
from apero_dask.notebook.calls import Reduction
from tests.engine import standins
from tests.report.conftest import STAR
from tests.report.reduction import MODELS, NIGHT, RUN_FILE, RUNS, SKIPPING, Root, captured


class Reader(HTMLParser):
    """Cells, and every tag that was opened and not closed."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.cells: list[str] = []
        self.text = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.open.append(tag)
        self.tags.add(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data
        if self.open[-1:] == ["td"]:
            self.cells.append(data)


def reduced(root: Root, text: str = RUN_FILE) -> Reduction:
    """Run with the stand-ins."""
    with standins.standing_in():
        answers = []
        captured(
            lambda words: (
                answers.append(run(read_run_file(words[0], "SPIROU", data=root.path, text=text))) or 0
            ),
            ["notebook"],
        )
    return answers[0]


def test_the_package_offers_three_calls() -> None:
    assert set(apero_dask.__all__) == {"__version__", "plan", "read_run_file", "run"}
    with pytest.raises(AttributeError, match="no attribute 'reduce'"):
        apero_dask.reduce  # noqa: B018


def test_a_plan_is_that_of_the_command(raw: Root, tmp_path: Path) -> None:
    path = raw.run_file(RUN_FILE)
    made = plan(read_run_file(path, "SPIROU", data=raw.path, science_targets=["Gl699", "TOI-442"]))
    made.save(tmp_path / "a.jsonl")
    options = ["--science_targets", "Gl699, TOI-442", "--plan", str(tmp_path / "b.jsonl")]
    assert processing(["--data", str(raw.path), "SPIROU", str(path), *options]) == 0
    assert (tmp_path / "a.jsonl").read_bytes() == (tmp_path / "b.jsonl").read_bytes()
    runs, steps = made.runs(), made.steps()
    assert len(runs) == len(made.plan.tasks) == sum(steps["runs"])
    assert set(runs["step"]) == {step for step, n in zip(steps["step"], steps["runs"], strict=True) if n}
    assert len(runs[runs["step"] == "CCF"]) == len([k for k in runs["key"] if k in made.plan.by_key and
                                                     made.plan.by_key[k].step.short == "CCF"])  # fmt: skip


def test_pages_show_counts_and_escape_names(raw: Root) -> None:
    text = RUN_FILE.replace("small archive", "<script>alert(1)</script> & more")
    request = read_run_file("<b>.ini", "SPIROU", data=raw.path, text=text)
    made = plan(request)
    for page in (request._repr_html_(), made._repr_html_()):
        reader = Reader(page)
        assert not reader.open and "script" not in reader.tags
        assert "<script>alert(1)</script> & more" in reader.text
        # Small enough to be stored in a notebook with every cell.
        assert len(page) < 30_000
    assert f"{len(made.plan.tasks)} planned" in Reader(made._repr_html_()).text
    assert Reader(made._repr_html_()).cells.count("CCF") == 1


def test_a_reduction_is_that_of_the_command(good_once: tuple[Root, object], raw: Root) -> None:
    result = reduced(raw)
    assert result.status == 0
    assert result.summary.endswith("Exit status 0: every planned run ended or was skipped.")
    runs = result.runs()
    assert len(runs) == RUNS + MODELS and set(runs["state"]) == {"DONE"}
    command = {p.relative_to(good_once[0].path): p for p in good_once[0].path.glob("reduced/**/*.fits")}
    products = result.products()
    mine = {Path(p).relative_to(raw.path): Path(p) for p in products["path"] if "/reduced/" in p}
    assert set(command) == set(mine)
    assert all(path.is_file() for path in mine.values())
    spectra = result.products("E2DSFF")
    assert sorted(set(spectra["fibre"])) == ["A", "AB", "B", "C"] and set(spectra["night"]) == {NIGHT}
    with pytest.raises(KeyError, match="E2DSGG is no kind of product"):
        result.products("E2DSGG")
    page = Reader(result._repr_html_())
    assert not page.open and "EXTOBJ" in page.cells and "every planned run ended" in page.text
    # What an earlier run made is in the tables too.
    again = reduced(raw, SKIPPING)
    assert set(again.runs()["state"]) == {"SKIPPED_EXISTS"}
    assert set(again.products()["path"]) == set(products["path"])


def test_failures_are_told(raw: Root) -> None:
    raw.faults(**{f"EXTOBJ_2018__09__25_{STAR}": {"kind": "error"}})
    result = reduced(raw)
    assert result.status == 1
    runs = result.runs()
    (bad,) = runs[runs["state"] == "FAILED_ERROR"]
    assert (bad["step"], bad["stem"]) == ("EXTOBJ", STAR) and bad["error"]
    assert bad["error"] in Reader(result._repr_html_()).text


def test_velocities_come_from_the_headers(raw: Root) -> None:
    result = reduced(raw)
    assert len(result.velocities()) == 0  # the stand-ins measure none
    for number, path in enumerate(result.products("CCF")["path"]):
        cards = {"DRSOBJN": "GL699", "BJD": 2458387.5 - number, "RV_CORR": -110.0 - number, "DVRMS_CC": 2.5}
        cards |= {"RV_DRIFT": "NaN", "CCFMASK": "m.mas", "DRSOUTID": "CCF_RV", "CCFBIS": 1.0, "QCC_ALL": True}
        write_fits(Path(path), [card_text(*pair) for pair in cards.items()], [Table("CCF", {"RV": [0.0]})])
    table = result.velocities("Gl 699")
    assert table["rv_kms"].tolist() == [-113.0, -112.0, -111.0, -110.0]
    assert (np.diff(table["bjd"]) > 0).all() and table["rv_kms"].unit == "km/s"
    assert np.isnan(table["drift_ms"]).all() and set(table["mask"]) == {"m"}
    assert set(table["error_ms"]) == {2.5}
    assert len(result.velocities("TOI-442")) == 0


def test_what_cannot_be_used_is_an_error_with_the_text_of_the_command(raw: Root) -> None:
    with pytest.raises(UserError, match="E-SEQ-UNKNOWN"):
        read_run_file("a.ini", "SPIROU", data=raw.path, text="id1 = calb_seq")
    with pytest.raises(UserError, match="E-TYPE"):
        read_run_file("a.ini", "SPIROU", data=raw.path, text=RUN_FILE, cores="many")
    with pytest.raises(TypeError, match="coers is no key of a run file; did you mean cores"):
        read_run_file("a.ini", "SPIROU", data=raw.path, text=RUN_FILE, coers=2)
    with pytest.raises(UserError, match="E-NO-RUNFILE"):
        read_run_file("nowhere.ini", "SPIROU", data=raw.path)
    shown = read_run_file("a.ini", "SPIROU", data=raw.path, text=RUN_FILE, test_run=True)
    with pytest.raises(ValueError, match="asks for a plan only"):
        run(shown)


def test_numbers_and_keys_without_an_option(raw: Root) -> None:
    request = read_run_file(
        "a.ini", "SPIROU", data=raw.path, text=RUN_FILE, cores=2, max_calib_dtime=3.5, run_name="mine"
    )
    settings = request.prepared.settings
    assert (settings.cores, settings.max_calib_dtime, settings.run_name) == (2, 3.5, "mine")
    assert not re.search("I-ALIAS", str([*request.findings]))
