"""Failures in the nights: what is chosen instead, what is blocked, what is left out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from apero_dask.core.outcome import Marker, State
from apero_dask.engine.dask_backend import DaskBackend
from apero_dask.engine.driver import Options
from apero_dask.io.markers import marker_path
from tests.engine import bed, standins
from tests.engine.clusters import workers

FIRST, SECOND, THIRD = bed.NIGHTS


def chosen(
    done: bed.Reduced, short: str, night: str, kind: str, stem: str = ""
) -> tuple[str, str, int, bool]:
    """(tier, night, rank, fallback) of a calibration that a run used, from its marker."""
    table = {m.identity: m for m in bed.markers(done.root)}
    mine: Marker = table[done.of(short, night, stem).identity()]
    found = [c for c in mine.choices if kind in c.kinds]
    assert len({c.source for c in found}) == 1
    source = table[found[0].source]
    return source.tier, source.obs_dir, found[0].rank, found[0].fallback


@pytest.mark.parametrize("short", ["SHAPE", "FF", "WAVE"])
def test_all_good_every_night_its_own(short: str, reference: bed.Reduced) -> None:
    for night in bed.NIGHTS:
        assert chosen(reference, short, night, "BADPIX") == ("night", night, 1, False)


def test_bad_pixels_of_the_second_night_fail(reduced: Path, reference: bed.Reduced) -> None:
    done = bed.rerun(reduced, reference, {f"BAD {SECOND}": {"kind": "qc"}})
    assert done.state("BAD", SECOND) is State.QC_FAILED
    for short in ("SHAPE", "FF", "WAVE"):
        for kind in ("BADPIX", "BKGRDMAP"):
            assert chosen(done, short, SECOND, kind) == ("night", THIRD, 2, True)
        assert chosen(done, short, FIRST, "BADPIX") == ("night", FIRST, 1, False)
    # Everything that used the product of the second night runs again, and nothing of the other nights' own.
    assert done.counts()["SKIPPED_EXISTS"] > 146 + bed.MASTERS + 2 * 7
    assert done.executed()["LOC"] == 2
    assert done.result.status == 0


def test_bad_pixels_of_two_nights_fail(reduced: Path, reference: bed.Reduced) -> None:
    done = bed.rerun(reduced, reference, {f"BAD {night}": {"kind": "qc"} for night in (SECOND, THIRD)})
    for night in (SECOND, THIRD):
        # The master product has the same time and loses the tie.
        assert chosen(done, "FF", night, "BADPIX") == ("night", FIRST, 3, True)
    assert done.result.status == 0


def test_no_telescope_darks_in_the_third_night(reference: bed.Reduced) -> None:
    frame = next(t.stem for t in reference.plan.tasks if t.step.short == "EXTOBJ" and t.obs_dir == THIRD)
    # There is no candidate of rank 1.
    assert chosen(reference, "EXTOBJ", THIRD, "THERMALT", frame)[:3] == ("night", SECOND, 2)


def test_wave_of_the_second_night_fails(reduced: Path, reference: bed.Reduced) -> None:
    done = bed.rerun(reduced, reference, {f"WAVE {SECOND}": {"kind": "error"}})
    assert chosen(done, "EXTOBJ", SECOND, "WAVE", "2320130o") == ("night", THIRD, 2, True)
    assert done.result.status == 1


def test_wave_of_all_nights_fails(reduced: Path, reference: bed.Reduced) -> None:
    done = bed.rerun(reduced, reference, {"WAVE": {"kind": "qc"}})
    for night, frame in ((FIRST, "2320031o"), (SECOND, "2320130o"), (THIRD, "2320229o")):
        tier, source, _, fallback = chosen(done, "EXTOBJ", night, "WAVE", frame)
        assert (tier, source, fallback) == ("master", FIRST, True)
    assert done.counts()["QC_FAILED"] == 3
    assert done.result.status == 0


def test_flat_of_all_nights_fails(reduced: Path, reference: bed.Reduced) -> None:
    done = bed.rerun(reduced, reference, {"FF": {"kind": "qc"}})
    for night in bed.NIGHTS:
        assert chosen(done, "WAVE", night, "FLAT")[:2] == ("master", FIRST)
        assert chosen(done, "WAVE", night, "BLAZE")[:2] == ("master", FIRST)


def test_night_far_from_all_calibrations(reduced: Path, reference: bed.Reduced) -> None:
    """Eight days later, science frames only: no bad-pixel map within the limit of seven days."""
    later = reduced / "raw" / "2018-10-05"
    later.mkdir()
    for number in (2320229, 2320230):
        content = (reduced / "raw" / THIRD / f"{number}o.fits").read_bytes()
        at = content.index(b"MJDEND  =")
        old = content[at : at + 80]
        value = float(old[10:30])
        card = f"MJDEND  = {value + 8:20.6f}".ljust(80).encode()
        # Written anew: the file is shared with other data roots.
        moved = content.replace(old, card).replace(f"{number}o".encode(), f"{number + 1000}o".encode())
        (later / f"{number + 1000}o.fits").write_bytes(moved)
    done = bed.reduce(reduced, settings=bed.with_skip(*bed.all_shorts(reference.plan)))
    new = [t for t in done.plan.tasks if t.obs_dir == "2018-10-05"]
    assert {t.step.short: done.states[t.key] for t in new if t.step.short in ("PP", "EXTOBJ", "LEAKOBJ")} == {
        "PP": State.DONE,
        "EXTOBJ": State.FAILED_CALIB,
        "LEAKOBJ": State.BLOCKED,
    }
    error = done.result.outcomes[next(t.key for t in new if t.step.short == "EXTOBJ")].error
    assert "BADPIX" in error
    assert done.result.status == 1


# -- counts -----------------------------------------------------------------------------------


def test_extraction_of_one_frame_raises(reduced: Path, reference: bed.Reduced) -> None:
    done = bed.rerun(reduced, reference, {"EXTOBJ 2320031o": {"kind": "bug"}})
    assert done.counts()["FAILED_ERROR"] == 1
    blocked = sorted(
        done.plan.by_key[key].step.short for key, state in done.states.items() if state is State.BLOCKED
    )
    assert blocked == ["CCF", "FTELLU1", "FTELLU3", "LEAKOBJ"]
    assert len(done.states) - 5 == 271
    table = {m.identity: m for m in bed.markers(reduced)}
    template = table[done.of("FTELLU2", "GL699").identity()]
    assert len(template.inputs) == 11
    assert done.result.status == 1
    assert (
        "ZeroDivisionError: planned defect"
        in done.result.outcomes[done.of("EXTOBJ", stem="2320031o").key].error
    )


def test_template_fails(reduced: Path, reference: bed.Reduced) -> None:
    done = bed.rerun(reduced, reference, {"FTELLU2 TOIM442": {"kind": "error"}})
    counts = done.counts()
    assert (counts["FAILED_ERROR"], counts["BLOCKED"]) == (1, 4)
    assert done.result.status == 1


def test_transmission_fails_quality_control(reduced: Path, reference: bed.Reduced) -> None:
    done = bed.rerun(reduced, reference, {"MKTELLU1 2320029o": {"kind": "qc"}})
    assert done.counts()["QC_FAILED"] == 1
    assert set(done.counts()) == {"QC_FAILED", "DONE", "SKIPPED_EXISTS"}
    assert done.result.status == 0
    # The set has one member less; the frame itself still gets its second pass.
    table = {m.short: m for m in bed.markers(reduced) if m.short.startswith("PCA1")}
    assert len(table["PCA1"].inputs) == 4
    assert done.state("MKTELLU4", stem="2320029o") is State.DONE


def test_no_transmission_at_all(reduced: Path, reference: bed.Reduced) -> None:
    done = bed.rerun(reduced, reference, {"MKTELLU1": {"kind": "qc"}})
    assert done.state("MKTELLU2", stem="2320029o") is State.FAILED_CALIB
    assert done.result.status == 1


# -- inputs -----------------------------------------------------------------------------------


def test_failed_frames_are_left_out_of_their_group(reduced: Path, reference: bed.Reduced) -> None:
    bad = [f"PP {SECOND} {n}f" for n in (2320115, 2320116)]
    done = bed.rerun(reduced, reference, {bad[0]: {"kind": "qc"}, bad[1]: {"kind": "error"}})
    flat = done.of("FF", SECOND)
    assert done.states[flat.key] is State.DONE
    table = {m.identity: m for m in bed.markers(reduced)}
    used = [path for path, _ in table[flat.identity()].inputs]
    assert [path.rpartition("/")[2][:8] for path in used] == ["2320117f", "2320118f", "2320119f"]
    # The name is that of the planned group, whatever survived.
    assert {o.path for o in table[flat.identity()].outputs} == {path for _, _, path in flat.outputs()}


@pytest.mark.parametrize(
    ("kinds", "state"),
    [(("qc", "qc"), State.FAILED_INPUT), (("qc", "error"), State.BLOCKED)],
    ids=["all failed quality control", "one failed otherwise"],
)
def test_no_input_left(kinds: tuple[str, str], state: State, reduced: Path, reference: bed.Reduced) -> None:
    frames = (f"PP {SECOND} 2320103d", f"PP {SECOND} 2320104d")
    done = bed.rerun(reduced, reference, {f: {"kind": k} for f, k in zip(frames, kinds, strict=True)})
    assert done.state("THERMAL", SECOND, "2320103d") is state
    assert done.result.status in (1, 4)


def test_raw_frame_vanishes(reduced: Path, reference: bed.Reduced) -> None:
    done = {}

    def vanish(plan: object) -> dict[str, int]:
        (reduced / "raw" / SECOND / "2320130o.fits").unlink(missing_ok=True)
        return {key: number for number, key in enumerate(plan.by_key)}  # type: ignore[attr-defined]

    marker_path(reduced / "log", reference.of("PP", stem="2320130o").identity()).unlink()
    done = bed.reduce(
        reduced,
        settings=bed.with_skip(*bed.all_shorts(reference.plan)),
        options=Options(order=vanish),
    )
    assert done.state("PP", stem="2320130o") is State.FAILED_INPUT
    assert "2320130o.fits" in done.result.outcomes[done.of("PP", stem="2320130o").key].error
    assert done.state("EXTOBJ", stem="2320130o") is State.BLOCKED


# -- STOP_AT_EXCEPTION ------------------------------------------------------------------------


@pytest.mark.parametrize("on_workers", [True, False], ids=["workers", "in process"])
def test_stop_at_exception(on_workers: bool, root: Path) -> None:
    bed.set_faults(root, {"PP 2018-09-25 2320005f": {"kind": "error"}})
    options = Options(stop_at_exception=True)
    if on_workers:
        with workers(2) as client:
            done = bed.reduce(root, DaskBackend(client, standins.run), options=options)
    else:
        done = bed.reduce(root, options=options)
    counts = done.counts()
    assert counts["FAILED_ERROR"] == 1
    assert set(counts) == {"FAILED_ERROR", "DONE", "BLOCKED_STOP"}
    assert sum(counts.values()) == bed.RUNS
    assert counts["BLOCKED_STOP"] > 100
    assert done.result.status == 1
    assert done.result.finished
    # Nothing was executed after the failure but what was running, or began before it could be taken back.
    assert sum(bed.executions(root).values()) <= counts["DONE"] + 1 + 4 * on_workers


def test_quality_control_is_no_exception(reduced: Path, reference: bed.Reduced) -> None:
    settings = replace(bed.with_skip(*bed.all_shorts(reference.plan)), stop_at_exception=True)
    marker_path(reduced / "log", reference.of("CCF", stem="2320031o").identity()).unlink()
    bed.set_faults(reduced, {"CCF 2320031o": {"kind": "qc"}})
    done = bed.reduce(reduced, settings=settings)
    assert done.counts() == {"QC_FAILED": 1, "SKIPPED_EXISTS": bed.RUNS - 1}
    assert done.result.status == 0
