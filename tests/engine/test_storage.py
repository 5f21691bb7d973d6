"""Full disks, read-only folders and damaged products."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import apero_dask.io.fitswriter
import apero_dask.state.registry
from apero_dask.core.outcome import State
from apero_dask.engine.dask_backend import DaskBackend
from apero_dask.io.markers import marker_path
from tests.engine import bed, standins
from tests.engine.clusters import workers
from tests.engine.test_invariance import assert_same


def continued(root: Path, reference: bed.Reduced, executed_before: int) -> None:
    """The same command completes what is left and nothing else."""
    last = bed.reduce(root)
    assert last.result.status == 0
    assert last.result.executed == bed.RUNS + bed.MODELS - executed_before
    assert_same(root, reference)
    assert bed.temporaries(root) == []


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS])
def test_writing_fails(
    number: int, root: Path, reference: bed.Reduced, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the middle of a file, from some run on: the reduction stops with status 5 and continues."""
    write_all = apero_dask.io.fitswriter._write_all
    calls = [0]

    def limited(stream: Any, piece: Any) -> None:
        calls[0] += 1
        if calls[0] > 2000:
            write_all(stream, piece[: len(piece) // 3])
            raise OSError(number, os.strerror(number))
        write_all(stream, piece)

    monkeypatch.setattr(apero_dask.io.fitswriter, "_write_all", limited)
    done = bed.reduce(root)
    assert done.result.status == 5
    assert not done.result.finished
    assert done.result.stopped_by.startswith(f"storage: {os.strerror(number)}")
    assert set(done.counts()) == {"DONE"}
    assert bed.temporaries(root) == []
    assert bed.unmarked(root) == []
    monkeypatch.undo()
    continued(root, reference, done.result.executed)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of a few megabytes."""
    folder = tmp_path / "small"
    folder.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if made.returncode:
        pytest.skip(f"no file system can be mounted here: {made.stderr.decode().strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def test_disk_is_really_full(archive: Path, small_disk: Path, reference: bed.Reduced) -> None:
    """Database, events, markers and lock are on the full disk as well."""
    import shutil

    root = small_disk / "data"
    shutil.copytree(archive / "raw", root / "raw")
    done = bed.reduce(root)
    assert done.result.status == 5
    assert "storage" in done.result.stopped_by
    assert bed.temporaries(root) == []
    subprocess.run(["mount", "-o", "remount,size=200m", str(small_disk)], check=True)
    finished = len(bed.markers(root))
    assert finished > 5
    last = bed.reduce(root)
    assert last.result.status == 0
    assert last.result.executed == bed.RUNS + bed.MODELS - finished
    assert_same(root, reference)


def test_products_cannot_be_registered(
    root: Path, reference: bed.Reduced, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing has to be computed again when the disk was full for the databases alone."""

    def full(book: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(apero_dask.state.registry._Book, "save", full)
        done = bed.reduce(root)
    assert done.result.status == 5
    assert done.result.stopped_by.startswith("storage: ")
    last = bed.reduce(root)
    assert (last.result.status, last.result.executed) == (0, 0)
    assert_same(root, reference)


def test_product_folder_is_read_only(root: Path, small_disk: Path, reference: bed.Reduced) -> None:
    """A mount without write access for one night: mode bits would not stop the superuser."""
    folder = root / "reduced" / "2018-09-26"
    folder.mkdir(parents=True)
    subprocess.run(["mount", "--bind", str(small_disk), str(folder)], check=True)
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", str(folder)], check=True)
        done = bed.reduce(root)
    finally:
        subprocess.run(["umount", str(folder)], check=True)
    assert done.result.status == 5
    assert "Read-only file system" in done.result.stopped_by
    continued(root, reference, done.result.executed)


# -- damage -----------------------------------------------------------------------------------


def products(task: Any) -> list[str]:
    return [path for _, _, path in task.outputs()]


def test_flipped_bits_between_invocations(reduced: Path, reference: bed.Reduced) -> None:
    """Damaged calibrations are found and made again; what was made from the sound ones stays."""
    damaged = [reference.of("BAD", "2018-09-26"), reference.of("WAVE", "2018-09-27"), reference.of("DARKM")]
    for task in damaged:
        standins.flip_bit(reduced / products(task)[0])
    (reduced / products(reference.of("FF", "2018-09-25"))[1]).unlink()
    done = bed.reduce(reduced, settings=bed.with_skip(*bed.all_shorts(reference.plan)))
    assert done.result.status == 0
    ran = [t for t in done.plan.tasks if bed.executions(reduced)[t.key]]
    again = {(t.step.short, t.obs_dir) for t in ran}
    assert again >= {
        ("BAD", "2018-09-26"),
        ("WAVE", "2018-09-27"),
        ("DARKM", "2018-09-25"),
        ("FF", "2018-09-25"),
    }
    assert bed.contents(reduced) == bed.contents(reference.root)
    bed.files(reduced)


@pytest.mark.parametrize("on_workers", [False, True], ids=["in process", "workers"])
def test_flipped_bits_in_mid_run(on_workers: bool, root: Path, reference: bed.Reduced) -> None:
    """While one run is at work a calibration made before is damaged; whoever reads it next notices."""
    maps = {night: products(reference.of("BAD", night))[0] for night in bed.NIGHTS}
    faults = {f"SHAPE {night}": {"kind": "flip", "path": path} for night, path in maps.items()}
    dark = products(reference.of("DARKM"))[0]
    faults["SHAPEM"] = {"kind": "flip", "path": dark}
    bed.set_faults(root, faults)
    if on_workers:
        with workers(2) as client:
            done = bed.reduce(root, DaskBackend(client, standins.run))
    else:
        done = bed.reduce(root)
    assert done.result.status == 0, done.counts()
    counts = bed.executions(root)
    for task in [reference.of("DARKM"), *(reference.of("BAD", night) for night in bed.NIGHTS)]:
        assert counts[task.key] == 2, "it was not made again, or more than once"
    assert_same(root, reference)


def test_product_of_an_earlier_invocation_damaged_in_mid_run(reduced: Path, reference: bed.Reduced) -> None:
    """The producer was skipped; it is computed after all, and so is what it needs."""
    bad = reference.of("BAD", "2018-09-26")
    flip = {"kind": "flip", "path": products(bad)[0]}
    done = bed.rerun(reduced, reference, {"SHAPE 2018-09-26": flip})
    assert done.result.status == 0
    assert done.states[bad.key] is State.SKIPPED_EXISTS
    assert bed.executions(reduced)[bad.key] == 1
    assert bed.contents(reduced) == bed.contents(reference.root)
    bed.files(reduced)


def test_repair_that_fails(reduced: Path, reference: bed.Reduced) -> None:
    bad = reference.of("BAD", "2018-09-26")
    faults = {
        "SHAPE 2018-09-26": {"kind": "flip", "path": products(bad)[0]},
    }
    marker_path(reduced / "log", reference.of("SHAPE", "2018-09-26").identity()).unlink()
    bed.set_faults(reduced, {**faults, "BAD 2018-09-26": {"kind": "error"}})
    bed.forget_executions(reduced)
    done = bed.reduce(reduced, settings=bed.with_skip(*bed.all_shorts(reference.plan)))
    flat = done.of("FF", "2018-09-26")
    assert done.states[flat.key] is State.FAILED_INPUT
    assert "could not make it again: planned failure" in done.result.outcomes[flat.key].error
    assert done.result.status == 1


def test_size_only_check_overlooks_flipped_bits(reduced: Path, reference: bed.Reduced) -> None:
    """What the user asked for; the worker that reads the file still notices."""
    ccf = reference.of("CCF", stem="2320031o")
    standins.flip_bit(reduced / products(ccf)[0])
    settings = replace(bed.with_skip(*bed.all_shorts(reference.plan)), skip_check="size")
    assert bed.reduce(reduced, settings=settings).result.executed == 0
    settings = replace(settings, skip_check="content")
    assert bed.reduce(reduced, settings=settings).result.executed == 1


def test_products_of_unknown_origin_are_read(reduced: Path, reference: bed.Reduced) -> None:
    """Whoever asks only for existence gets runs on files without markers, and their repetition later."""
    spectrum = reference.of("EXTOBJ", stem="2320031o")
    ccf = reference.of("CCF", stem="2320031o")
    for marker in bed.markers(reduced):
        marker_path(reduced / "log", marker.identity).unlink()
    (reduced / "log" / "state.sqlite").unlink()
    for path in products(ccf):
        (reduced / path).unlink()
    bed.forget_executions(reduced)
    everything = bed.with_skip(*bed.all_shorts(reference.plan))
    done = bed.reduce(reduced, settings=replace(everything, skip_check="exists"))
    assert done.result.status == 0
    assert done.states[spectrum.key] is State.SKIPPED_EXISTS
    assert {key for key in bed.executions(reduced) if done.states.get(key) is State.DONE} == {ccf.key}
    assert all((reduced / path).is_file() for path in products(ccf))
