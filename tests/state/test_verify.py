"""verify and reset: every kind of disagreement is found, named and counted."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from apero_dask.io.atomic import temporary_path
from apero_dask.state.lock import DriverLock
from tests.report.reduction import NIGHT, Answer, Root

PRODUCT = "2320032o_pp_e2dsff_tcorr_AB.fits"
FLAT = f"{NIGHT}_2320015f_pp_flat_AB.fits"


def product(root: Root) -> Path:
    return root.path / "reduced" / NIGHT / PRODUCT


def rewritten(path: Path, data: bytes) -> None:
    """New content under a name, as another program would leave it; links to the old one keep theirs."""
    path.unlink()
    path.write_bytes(data)


def missing(root: Root) -> str:
    product(root).unlink()
    return f"reduced/{NIGHT}/{PRODUCT}: missing"


def shorter(root: Root) -> str:
    data = product(root).read_bytes()
    rewritten(product(root), data[:-2880])
    return f"reduced/{NIGHT}/{PRODUCT}: {len(data) - 2880} bytes instead of {len(data)}"


def one_bit(root: Root) -> str:
    data = bytearray(product(root).read_bytes())
    data[-4000] ^= 4
    rewritten(product(root), bytes(data))
    return f"reduced/{NIGHT}/{PRODUCT}: content differs from what was written"


def unclaimed(root: Root) -> str:
    (root.path / "tmp" / NIGHT / "notes.txt").write_text("mine", encoding="utf-8")
    return f"tmp/{NIGHT}/notes.txt"


def leftover(root: Root) -> str:
    path = temporary_path(product(root), "killed")
    path.write_bytes(b"half")
    return f"reduced/{NIGHT}/{path.name}"


def marker_damaged(root: Root) -> str:
    path = next((root.path / "log" / "markers").rglob("*.json"))
    path.write_text(path.read_text(encoding="utf-8")[:-40], encoding="utf-8")
    return f"log/markers/{path.parent.name}/{path.name}: its run counts as not finished"


def not_registered(root: Root) -> str:
    (root.path / "calibDB" / "calib.db").unlink()
    return f"calibDB/{FLAT}: not registered; apero-dask reset --from-markers takes it up"


def database_damaged(root: Root) -> str:
    (root.path / "telluDB" / "tellu.db").write_bytes(b"nothing" * 100)
    return "telluDB/tellu.db: cannot be read"


def other_file(root: Root) -> str:
    rewritten(root.path / "calibDB" / FLAT, b"another flat")
    return f"calibDB/{FLAT}: is not the product reduced/{NIGHT}/2320015f_pp_flat_AB.fits"


def foreign_file(root: Root) -> str:
    (root.path / "calibDB" / "my_flat.fits").write_bytes(b"mine")
    return "calibDB/my_flat.fits: a file that is not registered"


FAULTS = (
    missing,
    shorter,
    one_bit,
    unclaimed,
    leftover,
    marker_damaged,
    not_registered,
    database_damaged,
    other_file,
    foreign_file,
)


def test_a_sound_root_agrees(good_once: tuple[Root, Answer], failed_once: tuple[Root, Answer]) -> None:
    for root, _ in (good_once, failed_once):
        answer = root.ask("verify")
        assert answer.status == 0, answer.out
        assert "read and compared" in answer.out and len(answer.out.splitlines()) == 1


@pytest.mark.parametrize("fault", FAULTS)
def test_every_fault_is_found_and_named(good: Root, fault) -> None:  # type: ignore[no-untyped-def]
    expected = fault(good)
    answer = good.ask("verify", "--all")
    assert answer.status == 1
    assert any(line.strip().startswith(expected) for line in answer.out.splitlines()), answer.out


def test_sizes_alone_do_not_see_one_bit(good: Root) -> None:
    one_bit(good)
    assert not [x for x in good.ask("verify", "--size").lines(PRODUCT) if x.strip().startswith("reduced/")]
    shorter(good)
    assert good.ask("verify", "--size").status == 1


def test_one_night_is_looked_at_alone(good: Root) -> None:
    other = good.path / "reduced" / "2018-09-26"
    other.mkdir()
    (other / "strange.fits").write_bytes(b"x")
    assert good.ask("verify", "--night", NIGHT).status == 0
    assert good.ask("verify", "--night", "2018-09-26").status == 1
    one_bit(good)
    assert good.ask("verify", "--night", NIGHT).status == 1


def test_an_unknown_night_has_a_suggestion(good_once: tuple[Root, Answer]) -> None:
    answer = good_once[0].ask("verify", "--night", "2018-09-24")
    assert answer.status == 2 and f"Did you mean {NIGHT}?" in answer.err


def test_long_lists_are_cut_unless_asked_for(good: Root) -> None:
    for number in range(60):
        (good.path / "tmp" / NIGHT / f"note{number:02d}.txt").write_text("x", encoding="utf-8")
    assert "... and 10 more; --all lists them" in good.ask("verify").out
    assert len(good.ask("verify", "--all").lines("note")) == 60


def test_a_running_reduction_is_mentioned(good: Root) -> None:
    with DriverLock(good.path / "log"):
        answer = good.ask("verify")
    assert answer.status == 0 and "is reducing" in answer.err


def test_a_reset_beside_a_running_driver_is_refused(good: Root) -> None:
    before = (good.path / "log" / "state.sqlite").read_bytes()
    with DriverLock(good.path / "log"):
        answer = good.ask("reset", "--from-markers")
    assert answer.status == 5
    assert "in use by process" in answer.err and socket.gethostname() in answer.err
    assert (good.path / "log" / "state.sqlite").read_bytes() == before


@pytest.mark.parametrize("fault", [not_registered, database_damaged, other_file])
def test_a_reset_mends_the_databases(good: Root, fault) -> None:  # type: ignore[no-untyped-def]
    fault(good)
    assert good.ask("reset", "--from-markers").status == 0
    assert good.ask("verify").status == 0


def test_a_reset_keeps_the_old_state_aside(good: Root) -> None:
    old = (good.path / "log" / "state.sqlite").read_bytes()
    answer = good.ask("reset", "--from-markers")
    (kept,) = (good.path / "log").glob("state.sqlite.*.old")
    assert kept.read_bytes() == old and kept.name in answer.out
