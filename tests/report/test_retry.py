"""retry: only the chosen runs, with or without what depends on them."""

from __future__ import annotations

import sqlite3

import pytest

from apero_dask.cli.retry import split_arguments
from tests.report.conftest import STAR
from tests.report.reduction import MODELS, NIGHT, RUN_FILE, RUNS, Root
from tests.report.test_summary import counts


def executed(root: Root) -> dict[str, int]:
    """Runs of the newest invocation that were really executed, by step."""
    with sqlite3.connect(root.path / "log" / "state.sqlite") as db:
        found = db.execute(
            "SELECT short, COUNT(*) FROM runs WHERE invocation = "
            "(SELECT invocation FROM invocations ORDER BY rowid DESC LIMIT 1) AND wall_s > 0 GROUP BY short"
        ).fetchall()
    db.close()
    return dict(found)


def test_what_failed_is_run_again_and_nothing_else(failed: Root) -> None:
    failed.faults()
    answer = failed.retry("--only", "failed")
    assert answer.status == 0, answer.err
    assert executed(failed) == {"EXTOBJ": 1, "LEAKOBJ": 1, "FTELLU1": 1, "FTELLU3": 1, "CCF": 1}
    assert (failed.path / "reduced" / NIGHT / f"{STAR}_pp_e2dsff_tcorr_AB.fits").exists()
    again = failed.retry("--only", "failed")
    assert again.status == 2 and "no run of this plan failed or was blocked the last time" in again.err


def test_what_still_fails_is_still_failed(failed: Root) -> None:
    answer = failed.retry("--only", "failed")
    assert answer.status == 1
    assert counts(answer.out)["EXTOBJ"]["FAILED_ERROR"] == 1
    failed.faults()
    assert failed.retry("--only", "failed").status == 0


def test_a_step_alone_leaves_the_rest_and_says_so(good: Root) -> None:
    after = good.path / "reduced" / NIGHT / "2320005f_pp_loco_C.fits"
    before = after.stat().st_mtime_ns
    answer = good.retry("--only", "BAD")
    assert answer.status == 0 and executed(good) == {"BAD": 1}
    assert after.stat().st_mtime_ns == before
    assert "finished run(s) depend on these and keep what they have" in answer.err
    table = counts(answer.out)["all"]
    assert table == {"runs": RUNS + MODELS, "DONE": 1, "SKIPPED_EXISTS": RUNS + MODELS - 1}


def test_with_descendants_everything_that_used_it_follows(good: Root) -> None:
    answer = good.retry("--only", "WAVE", "--with-descendants")
    assert answer.status == 0, answer.err
    done = executed(good)
    # Whatever uses the wavelengths of the night; not the spectra themselves, nor the localisation.
    assert not set(done) & {"PP", "DARKM", "BAD", "LOC", "SHAPE", "FF", "THERMAL", "WAVEM"}
    assert (
        done["WAVE"] == 1 and done["FTELLU3"] == 4 and done["CCF"] == 4 and done["PCA1"] == done["PCA2"] == 1
    )
    assert "keep what they have" not in answer.err


def test_one_run_is_named_by_its_key(good: Root) -> None:
    listing = good.reduce(RUN_FILE, "--test").lines(f" EXTOBJ   {NIGHT} {STAR}")
    (key,) = [line.split()[1] for line in listing]
    assert good.retry("--only", key).status == 0
    assert executed(good) == {"EXTOBJ": 1}


def test_a_run_whose_inputs_were_never_made_is_refused(raw: Root) -> None:
    answer = raw.retry("--only", "LOC")
    assert answer.status == 2
    assert "that have neither finished nor failed (first: " in answer.err and "apero_processing" in answer.err
    assert not (raw.path / "reduced").exists() and not (raw.path / "tmp").exists()


def test_an_unknown_step_has_a_suggestion(good: Root) -> None:
    answer = good.retry("--only", "FTELU3")
    assert answer.status == 2 and "did you mean FTELLU3?" in answer.err


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["SPIROU", "x.ini"], "--only is missing"),
        (["--only", "SPIROU", "x.ini"], "--only is missing"),
    ],
)
def test_what_to_run_must_be_named(good: Root, arguments: list[str], text: str) -> None:
    answer = good.ask("retry", *arguments)
    assert answer.status == 2 and text in answer.err


def test_showing_is_left_to_the_other_command(good: Root) -> None:
    answer = good.retry("--only", "FF", "--test")
    assert answer.status == 2 and "apero_processing" in answer.err


def test_words_end_at_an_option_or_an_instrument() -> None:
    assert split_arguments(["--only=FF,LOC", "BAD", "x"]) == (["FF", "LOC"], False, ["BAD", "x"])
    given = ["--only", "FF", "--with-descendants", "spirou", "a"]
    assert split_arguments(given) == (["FF"], True, ["spirou", "a"])
    given = ["SPIROU", "a", "--only", "FF", "--cores", "2"]
    assert split_arguments(given) == (["FF"], False, ["SPIROU", "a", "--cores", "2"])
