"""Pictures of frames: valid PNG, and they show what is in the frame."""

from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest

from apero_dask.simulator.archive import StorageError, write_file
from apero_dask.simulator.cli import main
from apero_dask.simulator.png import GLYPHS, Canvas, png_bytes, ticks
from tests.simulator.darkroom import MINI, SMALL, only, record


def decode(data: bytes) -> np.ndarray:
    """Decoder for the one kind of PNG written here, from the specification."""
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    at, chunks = 8, {}
    while at < len(data):
        (length,) = struct.unpack(">I", data[at : at + 4])
        kind, body = data[at + 4 : at + 8], data[at + 8 : at + 8 + length]
        (crc,) = struct.unpack(">I", data[at + 8 + length : at + 12 + length])
        assert crc == zlib.crc32(kind + body)
        chunks[kind] = body
        at += 12 + length
    width, height, depth, colour, *_ = struct.unpack(">IIBBBBB", chunks[b"IHDR"])
    assert (depth, colour) == (8, 2)
    assert b"IEND" in chunks
    rows = np.frombuffer(zlib.decompress(chunks[b"IDAT"]), np.uint8).reshape(height, 1 + 3 * width)
    assert (rows[:, 0] == 0).all()
    return rows[:, 1:].reshape(height, width, 3)


def test_png_keeps_every_pixel():
    pixels = np.random.default_rng(1).integers(0, 256, (37, 53, 3)).astype(np.uint8)
    assert np.array_equal(decode(png_bytes(pixels)), pixels)


def test_text_is_drawn_where_asked():
    sheet = Canvas(60, 20)
    sheet.text(10, 5, "I1")
    dark = np.argwhere((sheet.pixels == 0).all(axis=2))
    assert dark[:, 0].min() == 5
    assert dark[:, 0].max() == 11
    assert dark[:, 1].min() >= 10
    assert dark[:, 1].max() < 22
    right = Canvas(60, 20)
    right.text(58, 5, "I1", align="right")
    assert np.argwhere((right.pixels == 0).all(axis=2))[:, 1].max() <= 58


def test_glyphs_are_all_different_and_of_one_size():
    assert {g.shape for g in GLYPHS.values()} == {(7, 5)}
    assert len({g.tobytes() for g in GLYPHS.values()}) == len(GLYPHS)
    assert set("ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+-.,:/()_ ") <= set(GLYPHS)


@pytest.mark.parametrize(("low", "high"), [(0, 1), (-3.2, 977.0), (1e-5, 3e-5), (2018, 2019)])
def test_ticks_are_round_and_inside(low, high):
    values = ticks(low, high)
    assert 2 <= len(values) <= 8
    assert min(values) >= low - 1e-9 * (high - low)
    assert max(values) <= high + 1e-9 * (high - low)
    steps = np.diff(values)
    assert steps == pytest.approx(steps[0])
    mantissa = steps[0] / 10 ** np.floor(np.log10(steps[0]) + 1e-9)
    assert min(abs(mantissa - m) for m in (1, 2, 5)) < 1e-6


def test_limits_without_extent_have_no_ticks():
    assert ticks(1.0, 1.0) == []
    assert ticks(float("nan"), 1.0) == []


def test_preview_shows_the_light(tmp_path, capsys, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    light = np.full(MINI.full_shape, 0.1)
    light[400:500, 300:600] = 100.0
    record(tmp_path, only(read_noise=True), light)
    assert main(["--preview", str(tmp_path / "2320001d.fits")]) == 0
    png = tmp_path / "here" / "2320001d.png"
    assert png.name in capsys.readouterr().out
    assert not (tmp_path / png.name).exists()
    picture = decode(png.read_bytes())
    # The whole frame, two pixels to one, starts 50 rows from the top in the middle of the sheet.
    binned = picture[50 : 50 + MINI.raw_columns // 2]
    left = (picture.shape[1] - MINI.raw_rows // 2) // 2
    row, column = MINI.raw_columns // 2 - 450 // 2, left + 450 // 2
    assert binned[row, column].min() > 200
    assert binned[row, left + 100].max() < 120
    assert binned[MINI.raw_columns // 2 - 700 // 2, column].max() < 120


def test_preview_goes_where_png_says(tmp_path):
    record(tmp_path, only(), 1.0)
    target = tmp_path / "picture.png"
    assert main(["--preview", str(tmp_path / "2320001d.fits"), "--png", str(target)]) == 0
    assert decode(target.read_bytes()).shape[2] == 3
    assert not (tmp_path / "2320001d.png").exists()


def test_frames_that_cannot_be_drawn_end_with_one_message(tmp_path, capsys):
    (tmp_path / "text.fits").write_text("this is no image\n" * 300)
    record(tmp_path, only(), 1.0, geometry=SMALL)
    cases = {
        "absent.fits": "does not exist; give the path of a raw FITS file",
        "text.fits": "cannot be read as FITS",
        "2320001d.fits": "256 x 256 pixels; only frames of SPIROU and SPIROU_MINI can be drawn",
    }
    for name, message in cases.items():
        assert main(["--preview", str(tmp_path / name)]) == 2
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1
    assert not list(tmp_path.glob("*.png"))


@pytest.mark.parametrize("kind", ["folder", "pipe", "device"])
def test_a_picture_replaces_nothing_but_files(kind, tmp_path, capsys):
    record(tmp_path, only(), 1.0)
    target = {"folder": tmp_path / "pictures", "pipe": tmp_path / "pipe", "device": Path("/dev/null")}[kind]
    if kind == "folder":
        target.mkdir()
    elif kind == "pipe":
        os.mkfifo(target)
    before = target.stat()
    assert main(["--preview", str(tmp_path / "2320001d.fits"), "--png", str(target)]) == 2
    assert f"--png {target} is" in capsys.readouterr().err
    after = target.stat()
    assert (after.st_mode, after.st_ino) == (before.st_mode, before.st_ino)
    with pytest.raises(StorageError, match="no regular file"):
        write_file(target, [b"picture"])
    assert target.stat().st_ino == before.st_ino
    assert not list(tmp_path.glob(".*"))
