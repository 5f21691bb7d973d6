"""status, why and verify through the command: on sound and on damaged data roots."""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import shutil
import socket
import sqlite3
import tempfile
import traceback
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from apero_dask.cli.tools import main as tools
from apero_dask.state.lock import DriverLock
from tests.report.conftest import STAR
from tests.report.reduction import MODELS, NIGHT, RUN_FILE, RUNS, Answer, Root, captured

NOBODY = 65534
LINEAGE = f"{STAR.replace('31', '32')}_pp_e2dsff_tcorr_AB.fits"
"""A product that exists although another frame failed."""
MISSING = f"{STAR}_pp_e2dsff_tcorr_AB.fits"


def picture(root: Path) -> dict[str, tuple[int, int]]:
    """Size and time of every file and folder."""
    found = {}
    for path in sorted(root.rglob("*")):
        status = path.lstat()
        found[str(path.relative_to(root))] = (status.st_size, status.st_mtime_ns)
    return found


def invocation_of(root: Root) -> str:
    (events,) = (root.path / "log").glob("*/events.jsonl")
    return events.parent.name


# -- status ----------------------------------------------------------------------------------


def test_status_tells_what_the_summary_told(failed_once: tuple[Root, Answer]) -> None:
    root, answer = failed_once
    status = root.ask("status")
    assert status.status == 0
    assert "ended with exit status 1: at least one run failed or was blocked" in status.out

    def table(text: str) -> list[str]:
        lines = text.splitlines()
        first = next(i for i, line in enumerate(lines) if line.startswith("step "))
        return lines[first : first + 35]

    assert table(status.out)[: len(table(answer.out))][:31] == table(answer.out)[:31]
    (line,) = status.lines("FAILED_ERROR EXTOBJ")
    assert line == answer.lines("FAILED_ERROR EXTOBJ")[0]


def test_status_as_json_counts_every_run(failed_once: tuple[Root, Answer]) -> None:
    record = json.loads(failed_once[0].ask("status", "--json").out)
    assert record["phase"] == "ended" and record["exit_status"] == 1
    assert record["runs"] == record["ended"] == RUNS + MODELS
    assert record["steps"]["EXTOBJ"] == {"runs": 4, "DONE": 3, "FAILED_ERROR": 1}
    (cause,) = record["causes"]
    assert cause["run"] == f"EXTOBJ {NIGHT} {STAR}"
    assert cause["stops"] == {"LEAKOBJ": 1, "FTELLU1": 1, "FTELLU3": 1, "CCF": 1}


def cut_events(root: Root, runs: int) -> None:
    """As if the driver were at this run: only the first outcomes, the last line half written."""
    path = root.path / "log" / invocation_of(root) / "events.jsonl"
    kept, ended = [], 0
    for line in path.read_text(encoding="utf-8").splitlines():
        ended += '"event":"ended"' in line
        if ended > runs:
            break
        kept.append(line)
    path.write_text("\n".join(kept) + '\n{"time":1.0,"event":"en', encoding="utf-8")


def test_status_beside_a_running_driver(good: Root) -> None:
    cut_events(good, 30)
    log = good.path / "log"
    (log / "running").mkdir(exist_ok=True)
    (log / "running" / "00001.02.00001.json").write_text(
        json.dumps({"host": "node7", "pid": 77, "attempt": 1}), encoding="utf-8"
    )
    before = picture(good.path)
    with DriverLock(log):
        status = good.ask("status")
        record = json.loads(good.ask("status", "--json").out)
    assert record["phase"] == "running" and record["ended"] == 30
    assert record["driver"] == {"host": socket.gethostname(), "pid": os.getpid(), "job": "", "alive": True}
    assert f"process {os.getpid()} on {socket.gethostname()} (running)" in status.out
    assert f"running, 30 of {RUNS + MODELS} runs ended" in status.out
    (line,) = status.lines("node7")
    assert line.startswith(f"  DARKM {NIGHT}")
    assert record["left_s"] > 0 and "Left           about" in status.out
    assert {name for name in picture(good.path) if name not in before} == set()


def test_status_after_the_driver_was_killed(good: Root) -> None:
    cut_events(good, 30)
    record = {"host": socket.gethostname(), "boot": "", "pid": 2**22 + 1, "start": "1", "beat": 3}
    (good.path / "log" / "driver.lock").write_text(json.dumps(record), encoding="utf-8")
    status = good.ask("status")
    assert "not ended and no driver: it was killed; the same command continues" in status.out
    assert "dead, its lock is taken over" in status.out
    assert "Left" not in status.out


def test_status_of_a_continued_invocation(raw: Root) -> None:
    raw.faults(LOC={"kind": "error"})
    raw.reduce()
    before = json.loads(raw.ask("status", "--json").out)
    assert before["steps"]["LOC"]["FAILED_ERROR"] == 2 and len(before["causes"]) == 2
    told = raw.ask("status")
    assert "Failures: 1 cause(s)" in told.out
    (line,) = told.lines("FAILED_ERROR LOC")
    assert " and 1 other LOC run(s) alike: " in line
    # Both together stop what each of them stops; the record names them one by one.
    assert line.endswith(
        ", ".join(
            f"{short} {number}"
            for short, number in sum((Counter(c["stops"]) for c in before["causes"]), Counter()).items()
        )
    )
    # As after a driver that was killed at the end of its work.
    with contextlib.closing(sqlite3.connect(raw.path / "log" / "state.sqlite")) as db:
        db.execute("UPDATE invocations SET finished = 0, status = NULL")
        db.commit()
    raw.faults()
    assert raw.reduce().status == 0
    after = json.loads(raw.ask("status", "--json").out)
    assert after["invocation"] == before["invocation"] and after["attempts"] == 2
    assert after["causes"] == [] and after["steps"]["LOC"] == {"runs": 2, "DONE": 2}
    assert after["ended"] == RUNS + MODELS
    assert "attempt 2" in raw.ask("status").out


def test_an_unknown_invocation_has_a_suggestion(good_once: tuple[Root, Answer]) -> None:
    root = good_once[0]
    name = invocation_of(root)
    wrong = name[:-1] + ("1" if name[-1] != "1" else "2")
    answer = root.ask("status", wrong)
    assert answer.status == 2 and f"did you mean {name}?" in answer.err


def test_a_beginning_is_enough_to_name_an_invocation(good_once: tuple[Root, Answer]) -> None:
    root = good_once[0]
    assert root.ask("status", invocation_of(root)[:10]).out.startswith("Invocation")


@pytest.mark.parametrize("command", [["status"], ["why", "a.fits"], ["verify"], ["reset", "--from-markers"]])
def test_without_any_reduction_the_answer_is_3(tmp_path: Path, command: list[str]) -> None:
    answer = Root(tmp_path).ask(*command)
    assert answer.status == 3
    assert "othing was reduced here yet" in answer.err and "--data" in answer.err
    assert list(tmp_path.iterdir()) == []


# -- why -------------------------------------------------------------------------------------


def test_a_missing_product_is_followed_to_the_first_failure(failed_once: tuple[Root, Answer]) -> None:
    root = failed_once[0]
    answer = root.ask("why", MISSING)
    assert answer.status == 0
    lines = answer.out.splitlines()
    assert lines[0].startswith(f"reduced/{NIGHT}/{MISSING} is missing: FTELLU3 {NIGHT} {STAR} ended BLOCKED")
    assert f"because EXTOBJ {NIGHT} {STAR} ended FAILED_ERROR" in answer.out
    assert lines[-2].strip() == "planned failure"
    log = Path(lines[-1].strip().removeprefix("log "))
    assert log.is_file() and "planned failure" in log.read_text(encoding="utf-8")


def test_an_existing_product_is_followed_to_the_raw_frames(failed_once: tuple[Root, Answer]) -> None:
    root = failed_once[0]
    one = root.ask("why", LINEAGE)
    assert one.status == 0 and "as written" in one.out
    assert "quality        STANDIN = 1, fails if STANDIN < 1: passed" in one.out
    assert "raw/" not in one.out
    full = root.ask("why", LINEAGE, "--depth", "0")
    # Its own raw frame, those of its calibrations, and those of the other frames of the template.
    assert f"raw/{NIGHT}/{STAR.replace('31', '32')}.fits" in full.out
    assert (
        f"raw/{NIGHT}/2320015f.fits" in full.out
        and f"raw/{NIGHT}/{STAR.replace('31', '34')}.fits" in full.out
    )
    assert f"raw/{NIGHT}/{STAR}.fits" not in full.out, "the frame that failed is in no template"


def test_a_fallback_shows_in_the_lineage(failed_once: tuple[Root, Answer]) -> None:
    root = failed_once[0]
    (line,) = root.ask("why", "2320010f_pp_loco_AB.fits").lines("BADPIX/BKGRDMAP")[:1]
    assert f"master_{NIGHT}_2320015f_pp_badpixel.fits" in line and "rank 2, FALLBACK" in line


def test_products_of_both_tiers_are_told_apart(failed_once: tuple[Root, Answer]) -> None:
    root = failed_once[0]
    both = root.ask("why", "2320015f_pp_badpixel.fits").lines("made by")
    assert [line.split()[2] for line in both] == ["BAD", "BADM"]
    assert "ended QC_FAILED: flagged, no other run uses it" in both[0] and both[1].endswith("ended DONE")
    registered = root.ask("why", f"master_{NIGHT}_2320015f_pp_badpixel.fits").lines("made by")
    assert [line.split()[2] for line in registered] == ["BADM"]
    path = root.path / "reduced" / NIGHT / "2320015f_pp_badpixel.fits"
    assert [line.split()[2] for line in root.ask("why", str(path)).lines("made by")] == ["BAD"]


def test_a_raw_frame_is_told_with_its_readers(good_once: tuple[Root, Answer]) -> None:
    root = good_once[0]
    for name in (f"{STAR}.fits", f"raw/{NIGHT}/{STAR}.fits", str(root.path / "raw" / NIGHT / f"{STAR}.fits")):
        answer = root.ask("why", name)
        assert answer.out.splitlines() == [
            f"raw/{NIGHT}/{STAR}.fits is a raw frame",
            f"  read by PP {NIGHT} {STAR}",
        ]


def test_a_deleted_product_says_who_made_it(good: Root) -> None:
    (good.path / "reduced" / NIGHT / LINEAGE).unlink()
    answer = good.ask("why", LINEAGE)
    assert answer.status == 0
    assert "is missing: FTELLU3" in answer.out and "ended DONE" in answer.out
    assert "it was removed or damaged since" in answer.out and "apero-dask retry --only 00001." in answer.out


def test_an_overwritten_product_is_seen(good: Root) -> None:
    path = good.path / "reduced" / NIGHT / LINEAGE
    data = bytearray(path.read_bytes())
    data[-3000] ^= 1
    path.unlink()
    path.write_bytes(data)
    assert "content differs from what was written" in good.ask("why", LINEAGE).out


def test_an_unknown_product_has_a_suggestion(failed_once: tuple[Root, Answer]) -> None:
    answer = failed_once[0].ask("why", "2320015f_pp_badpixl.fits")
    assert answer.status == 2 and not answer.out
    assert "is not known: no finished run made it" in answer.err
    assert "Did you mean 2320015f_pp_badpixel.fits" in answer.err


def test_a_frame_that_was_never_observed_is_suggested_by_kind(failed_once: tuple[Root, Answer]) -> None:
    answer = failed_once[0].ask("why", "2320099o_pp_e2dsff_tcorr_AB.fits")
    assert answer.status == 2
    assert "_pp_e2dsff_tcorr_AB.fits?" in answer.err


def test_a_product_not_reached_yet_says_so(good: Root) -> None:
    cut_events(good, 5)
    shutil.rmtree(good.path / "log" / "markers")
    shutil.rmtree(good.path / "reduced")
    (good.path / "log" / "state.sqlite").unlink()
    stopped = good.ask("why", LINEAGE)
    assert "was not reached" in stopped.out and "its driver was killed" in stopped.out
    with DriverLock(good.path / "log"):
        assert "has not ended yet" in good.ask("why", LINEAGE).out


# -- damage ----------------------------------------------------------------------------------


def without_database(root: Root) -> None:
    (root.path / "log" / "state.sqlite").unlink()


def with_garbage(root: Root) -> None:
    (root.path / "log" / "state.sqlite").write_bytes(b"not a database at all" * 100)


def with_half_a_database(root: Root) -> None:
    path = root.path / "log" / "state.sqlite"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 3])


@pytest.mark.parametrize("damage", [without_database, with_garbage, with_half_a_database])
def test_answers_do_not_need_the_database(failed: Root, failed_once: tuple[Root, Answer], damage) -> None:  # type: ignore[no-untyped-def]
    sound = failed_once[0]
    damage(failed)
    for question in (["why", MISSING], ["why", LINEAGE, "--depth", "0"]):
        expected = sound.ask(*question).out.replace(str(sound.path), str(failed.path))
        assert failed.ask(*question).out == expected
    record = json.loads(failed.ask("status", "--json").out)
    assert record["steps"] == json.loads(sound.ask("status", "--json").out)["steps"]


def test_markers_alone_answer_for_existing_products(good: Root) -> None:
    for entry in (good.path / "log").iterdir():
        if entry.name != "markers":
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
    assert good.ask("why", LINEAGE).status == 0
    assert good.ask("status").status == 3
    assert good.ask("verify").status == 0


def test_a_damaged_plan_is_a_note(failed: Root) -> None:
    (path,) = (failed.path / "log").glob("*/plan.jsonl.gz")
    path.write_bytes(path.read_bytes()[:500])
    status = failed.ask("status")
    assert status.status == 0 and "plan.jsonl.gz cannot be read" in status.out
    why = failed.ask("why", MISSING)
    assert why.status == 2 and "plan.jsonl.gz cannot be read" in why.err


def test_the_saved_plan_is_the_plan(good_once: tuple[Root, Answer]) -> None:
    root = good_once[0]
    (path,) = (root.path / "log").glob("*/plan.jsonl.gz")
    with gzip.open(path, "rt", encoding="utf-8") as stream:
        keys = [json.loads(line)["key"] for line in stream]
    assert len(keys) == RUNS + MODELS + 1, "and the gate"
    answer = captured(tools, ["plan", "diff", str(path), str(path)])
    assert answer.status == 0 and answer.out == "The plans are equal.\n"


@contextlib.contextmanager
def for_everybody(root: Root) -> Iterator[Root]:
    """Copy that everybody can read and nobody can write."""
    folder = Path(tempfile.mkdtemp(prefix="read_only_"))
    try:
        copied = root.copy(folder / "root", linked=False)
        folder.chmod(0o755)
        for path in [copied.path, *copied.path.rglob("*")]:
            path.chmod(0o555 if path.is_dir() else 0o444)
        yield copied
    finally:
        for path in [p for p in folder.rglob("*") if p.is_dir()]:
            path.chmod(0o755)
        shutil.rmtree(folder)


def as_nobody(root: Root, *arguments: str) -> Answer:
    """Call a command as a user who may write nothing.

    In a child of this process: that user may not even be allowed to start the interpreter.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        try:
            if os.geteuid() == 0:
                os.setgroups([])
                os.setgid(NOBODY)
                os.setuid(NOBODY)
            answer = root.ask(*arguments)
            text = json.dumps([answer.status, answer.out, answer.err])
        except BaseException:
            text = json.dumps([99, "", traceback.format_exc()])
        with os.fdopen(writing, "w", encoding="utf-8") as stream:
            stream.write(text)
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, encoding="utf-8") as stream:
        found = json.load(stream)
    os.waitpid(child, 0)
    return Answer(*found)


def timeless(answer: Answer) -> list[str]:
    """Lines of an answer without the one that counts seconds."""
    return [line for line in answer.out.splitlines() if not line.startswith("Last event")]


def test_a_read_only_data_root_can_be_asked(failed_once: tuple[Root, Answer]) -> None:
    questions = (["status"], ["why", MISSING], ["verify"])
    with for_everybody(failed_once[0]) as root:
        # What the child imports it must find loaded: the other user may not read the library.
        status, why, verified = (root.ask(*words) for words in questions)
        before = picture(root.path)
        for words, expected in zip(questions, (status, why, verified), strict=True):
            answer = as_nobody(root, *words)
            assert (answer.status, answer.err) == (expected.status, expected.err)
            assert timeless(answer) == timeless(expected)
        assert picture(root.path) == before
        assert (status.status, why.status, verified.status) == (0, 0, 0)
        assert "FAILED_ERROR EXTOBJ" in status.out and "planned failure" in why.out


def test_a_read_only_data_root_cannot_be_reset(good: Root) -> None:
    assert good.ask("reset", "--from-markers").status == 0
    with for_everybody(good) as root:
        before = picture(root.path)
        answer = as_nobody(root, "reset", "--from-markers")
        assert answer.status == 5
        assert "Cannot go on: Permission denied" in answer.err and "driver.lock" in answer.err
        assert picture(root.path) == before


def test_a_log_that_cannot_be_read_is_an_error_in_words(failed_once: tuple[Root, Answer]) -> None:
    root = failed_once[0]
    for words in (["status"], ["why", MISSING], ["verify"]):
        root.ask(*words)
    with for_everybody(root) as closed:
        (closed.path / "log").chmod(0)
        for words in (["status"], ["verify"]):
            answer = as_nobody(closed, *words)
            assert answer.status == 5 and "Permission denied; check its permissions" in answer.err


def test_looking_changes_nothing(failed: Root) -> None:
    before = picture(failed.path)
    for question in (["status"], ["why", MISSING], ["why", LINEAGE], ["verify"], ["assets", "show"]):
        failed.ask(*question)
    assert picture(failed.path) == before
    assert RUN_FILE in (failed.path / "test.ini").read_text(encoding="utf-8")
