"""Campaigns on disk: the same bits whatever the processes, resumed after anything, and clear refusals."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from importlib import resources
from pathlib import Path

import pytest
from astropy.io import fits

from apero_dask.simulator import paint, runner
from apero_dask.simulator.cli import main
from tests.simulator.tiny import TINY, contents, tiny

ROOT = Path(__file__).parents[2]


def run(*arguments: str) -> int:
    return main([str(a) for a in arguments])


@pytest.fixture(scope="module")
def night(tmp_path_factory) -> Path:
    """One night of the demo campaign, simulated by one process."""
    folder = tmp_path_factory.mktemp("night")
    out = folder / "out"
    assert run("--config", tiny(folder), "--nights", "1", "--frames", "1", "--out", out) == 0
    return out


def test_every_frame_has_four_planes_and_a_truth(night):
    raw = sorted((night / "raw").rglob("*.fits"))
    assert len(raw) == 27
    for path in raw:
        with fits.open(path) as units:
            units.verify("exception")
            assert [u.header["EXTNAME"] for u in units[1:]] == ["slope", "intercept", "errslope", "count"]
            assert units[0].header["FILENAME"] == path.stem
        assert (night / "truth" / path.parent.name / f"{path.stem}_truth.fits").exists()
    assert not [p for p in night.rglob("*") if p.name.startswith(".")]


def test_two_processes_write_the_same_bits_as_one(night, tmp_path):
    out = tmp_path / "out"
    arguments = ("--config", tiny(tmp_path), "--nights", "1", "--frames", "1", "--out", out, "--workers", "2")
    assert run(*arguments) == 0
    assert contents(out) == contents(night)


@pytest.mark.parametrize(("workers", "warm"), [(1, 0), (2, 1)])
def test_loops_are_compiled_once_before_there_are_workers(workers, warm, tmp_path, monkeypatch):
    """Else every worker of a first call compiles all of them for itself."""
    done = []
    monkeypatch.setattr(paint, "warm_up", lambda config: done.append(config.instrument))
    monkeypatch.setattr(runner, "_parallel", lambda function, tasks, count: done.append(count) or ())
    arguments = ("--nights", "1", "--frames", "1", "--out", tmp_path / "out", "--workers", workers)
    assert run("--config", tiny(tmp_path), *arguments) == 0
    assert done == ["SPIROU_MINI"] * warm + [workers]


def test_a_frame_does_not_depend_on_the_frames_around_it(night, tmp_path):
    """Frames deleted here and there come back with the same bits, and no other file is touched."""
    out = tmp_path / "out"
    shutil.copytree(night, out)
    before = contents(out)
    lost = sorted((out / "raw").rglob("*.fits"))[3::7]
    for path in lost:
        path.unlink()
    kept = {path: path.stat().st_mtime_ns for path in (out / "raw").rglob("*.fits")}
    assert run("--config", tiny(tmp_path), "--nights", "1", "--frames", "1", "--out", out) == 0
    assert contents(out) == before
    assert {path: path.stat().st_mtime_ns for path in kept} == kept


def test_killed_run_is_carried_on(night, tmp_path):
    out = tmp_path / "out"
    command = [sys.executable, "-m", "apero_dask.simulator.cli", "--config", tiny(tmp_path)]
    command += ["--nights", "1", "--frames", "1", "--out", str(out)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(command, env=environment, cwd=tmp_path, stderr=subprocess.DEVNULL)
    limit = time.monotonic() + 120
    while time.monotonic() < limit and len(list((out / "raw").rglob("*.fits"))) < 3:
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    # What a kill in mid-write leaves behind; the process it names is gone.
    (out / "raw" / "2018-09-25" / f".2320020a.fits.{process.pid}.part").write_bytes(b"half")
    assert 3 <= len(list((out / "raw").rglob("*.fits"))) < 27
    assert run("--config", tiny(tmp_path), "--nights", "1", "--frames", "1", "--out", out) == 0
    assert contents(out) == contents(night)


def test_another_configuration_is_refused_and_nothing_is_touched(night, tmp_path, capsys):
    before = contents(night)
    for more in (("--seed", "2"), ("--frames", "2"), ("--no-truth-images",)):
        arguments = ["--config", tiny(tmp_path), "--nights", "1", "--frames", "1", "--out", night, *more]
        assert run(*arguments) == 2
        error = capsys.readouterr().err
        assert "already holds a simulation" in error
        assert "choose another folder with --out" in error
    assert contents(night) == before


def test_a_campaign_can_grow(tmp_path, capsys):
    out = tmp_path / "out"
    base = ("--campaign", "worked", "--headers-only", "--out", out)
    assert run(*base) == 0
    first = contents(out / "raw")
    assert run(*base, "--extra-night") == 0
    grown = contents(out / "raw")
    assert len(first) == 146
    assert len(grown) == 178
    assert first.items() <= grown.items()
    assert "32 written, 146 already there" in capsys.readouterr().out
    # It cannot shrink: frames of the larger one would be left over.
    assert run(*base) == 2
    assert "are not part of this campaign" in capsys.readouterr().err


def test_large_planes_can_be_left_out(night, tmp_path):
    out = tmp_path / "out"
    arguments = ("--config", tiny(tmp_path), "--nights", "1", "--frames", "1", "--out", out)
    assert run(*arguments, "--no-truth-images") == 0
    name = "truth/2018-09-25/2320010f_truth.fits"
    with fits.open(night / name) as full, fits.open(out / name) as small:
        assert {u.name for u in full} - {u.name for u in small} == {"LIGHT", "EXPECTED", "NOISE_AMPLIFIER"}
    assert contents(out / "raw") == contents(night / "raw")


def test_faults_are_in_the_files(tmp_path):
    out = tmp_path / "out"
    assert run("--config", tiny(tmp_path), "--campaign", "faults", "--frames", "2", "--out", out) == 0
    import csv

    with (out / "truth" / "frames.csv").open() as stream:
        rows = {row["faults"]: out / row["file"] for row in csv.DictReader(stream) if row["faults"]}
    sound = (out / "raw" / "2018-09-25" / "2320001d.fits").stat().st_size
    assert rows["zero_bytes"].stat().st_size == 0
    assert not rows["not_fits"].read_bytes().startswith(b"SIMPLE")
    assert 0.3 * sound < rows["truncated"].stat().st_size < 0.7 * sound
    assert rows["truncated"].stat().st_size % 2880 != 0
    assert rows["no_extensions"].stat().st_size < 20_000
    with fits.open(rows["no_extensions"]) as units:
        assert len(units) == 1
        assert units[0].header["NEXTEND"] == 0
    with pytest.raises(UnicodeDecodeError):
        rows["not_utf8"].read_bytes()[:8640].decode("utf-8")
    assert rows["misnamed"].name.startswith("frame23202")
    assert fits.getheader(rows["future"])["MJDEND"] > 62000.0
    copy = rows["duplicate"]
    assert copy.read_bytes() == (out / "raw" / "2018-09-25" / copy.name).read_bytes()
    dark = fits.getdata(rows["no_light"], 1)
    lit = fits.getdata(out / "raw" / "2018-09-25" / "2320016a.fits", 1)
    import numpy as np

    assert np.percentile(lit, 95) > 5.0
    assert np.percentile(dark, 95) < 0.5
    count = fits.getdata(rows["saturated"], 4)
    assert (count < 6).mean() > 0.2
    header = fits.getheader(rows["short"])
    assert header["EXPTIME"] < 0.1 * header["EXPREQ"]


def geometry_file(folder: Path, tables: bool = True, **changes: str) -> Path:
    """The packaged small instrument under a new name, with lines of its description changed."""
    source = resources.files("apero_dask.tables")
    text = source.joinpath("spirou_mini.toml").read_text().replace('"SPIROU_MINI"', '"MINE"')
    for key, value in changes.items():
        lines = [f"{key} = {value}" if line.startswith(f"{key} =") else line for line in text.splitlines()]
        text = "\n".join(lines)
    (folder / "mine.toml").write_text(text)
    for name in ("wave", "trace", "orders"):
        if tables:
            content = source.joinpath(f"spirou_mini_{name}.csv").read_text()
            (folder / f"spirou_mini_{name}.csv").write_text(content)
    config = folder / "config.toml"
    config.write_text(f'instrument = "MINE"\n[geometry]\nfile = "{folder / "mine.toml"}"\n')
    return config


def written(folder: Path, text: str) -> tuple[str, ...]:
    (folder / "wrong.toml").write_text(text)
    return ("--config", str(folder / "wrong.toml"))


WRONG = {
    "negative gain": (
        lambda d: ("--config", geometry_file(d, gain="-0.999")),
        "gain = -0.999, a positive number was expected",
    ),
    "orders leave the detector": (
        lambda d: written(d, TINY.replace("545", "470")),
        "leaves the detector",
    ),
    "missing table": (
        lambda d: ("--config", geometry_file(d, tables=False)),
        "spirou_mini_wave.csv does not exist",
    ),
    "unknown campaign": (lambda d: ("--campaign", "wroked"), "expected one of 'demo', 'worked'"),
    "unknown instrument": (lambda d: ("--instrument", "NIRPS"), "'NIRPS': expected one of SPIROU"),
    "not TOML": (lambda d: written(d, "instrument = SPIROU"), "is not valid TOML"),
    "no such configuration": (lambda d: ("--config", d / "none.toml"), "does not exist"),
    "unknown key": (
        lambda d: written(d, "[detector]\nhot_fracton = 0.1"),
        "Unknown key 'hot_fracton' in [detector] of the simulator configuration; did you mean 'hot_fraction'",
    ),
    "fraction above one": (
        lambda d: written(d, "[detector]\nhot_fraction = 2.0"),
        "detector.hot_fraction = 2.0: expected at most 0.2",
    ),
    "negative dark current": (
        lambda d: written(d, "[detector]\ndark_median = -1.0"),
        "detector.dark_median = -1.0: expected at least 0",
    ),
    "range upside down": (
        lambda d: written(d, "[detector]\ncosmic_track_px = [30, 1]"),
        "expected the smaller value first",
    ),
    "text for a number": (
        lambda d: written(d, '[epochs]\nwalk_px = "small"'),
        "epochs.walk_px = 'small': expected a number",
    ),
    "no such day": (
        lambda d: written(d, '[campaign]\nfirst_night = "2018-02-30"'),
        "expected a date such as 2018-09-25",
    ),
    "negative seed": (lambda d: ("--seed", "-1"), "seed = -1: expected a whole number from 0"),
    "negative nights": (lambda d: ("--nights", "-3"), "campaign.nights = -3: expected at least 0"),
    "no processes": (lambda d: ("--workers", "0"), "--workers 0: expected 1 or more"),
    "too many frames": (lambda d: ("--frames", "200"), "ask for fewer frames per night"),
    "no line lists": (lambda d: ("--assets", d / "nowhere"), "expected an existing folder with line lists"),
}


@pytest.mark.parametrize("name", WRONG)
@pytest.mark.parametrize("kind", ["headers", "pixels"])
def test_wrong_configuration_gives_one_clear_message_and_writes_nothing(tmp_path, capsys, name, kind):
    make, message = WRONG[name]
    out = tmp_path / "out"
    more = ["--headers-only"] if kind == "headers" else []
    assert run(*make(tmp_path), "--out", out, *more) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.err.count("\n") == 1
    assert "Traceback" not in captured.err
    assert captured.out == ""
    assert not out.exists()


def test_folder_with_foreign_frames_is_refused(tmp_path, capsys):
    foreign = tmp_path / "raw" / "2018-09-25" / "2320001d.fits"
    foreign.parent.mkdir(parents=True)
    foreign.write_bytes(b"precious")
    assert run("--out", tmp_path, "--headers-only") == 2
    assert "already holds frames that were not simulated into this folder" in capsys.readouterr().err
    assert contents(tmp_path) == {"raw/2018-09-25/2320001d.fits": b"precious"}


def test_missing_output_folder_is_asked_for(capsys):
    assert run("--campaign", "demo") == 2
    assert "name one with --out DIR" in capsys.readouterr().err


def test_full_disk_leaves_no_half_written_frame(tmp_path, capsys):
    """The kernel itself reports a full device: the temporary file of one frame points to /dev/full."""
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    night = tmp_path / "raw" / "2018-09-25"
    night.mkdir(parents=True)
    (night / f".2320003d.fits.{os.getpid()}.part").symlink_to("/dev/full")
    assert run("--out", tmp_path, "--headers-only") == 5
    error = capsys.readouterr().err.splitlines()[-1]
    assert "2320003d.fits: No space left on device; the disk is full; free space" in error
    assert "finished frames are kept" in error
    assert sorted(p.name for p in night.iterdir()) == ["2320001d.fits", "2320002d.fits"]
    # With space again the same command finishes.
    assert run("--out", tmp_path, "--headers-only") == 0


def test_limit_on_file_size_leaves_no_half_written_frame(tmp_path):
    """A real limit of the operating system, met in the middle of a frame by a worker process."""
    resource = pytest.importorskip("resource")
    command = [sys.executable, "-m", "apero_dask.simulator.cli", "--config", tiny(tmp_path), "--nights", "1"]
    command += ["--out", str(tmp_path / "out"), "--workers", "2"]
    done = subprocess.run(
        command,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, 400_000)),
    )
    assert done.returncode == 5
    assert "a limit on the size of files is reached" in done.stderr
    assert "Traceback" not in done.stderr
    left = [p for p in (tmp_path / "out").rglob("*") if p.is_file()]
    assert not [p for p in left if p.name.startswith(".") or p.suffix == ".fits"]


def test_file_in_the_place_of_the_folder(tmp_path, capsys):
    (tmp_path / "file").write_text("a file")
    assert run("--out", tmp_path / "file", "--headers-only") == 5
    error = capsys.readouterr().err
    assert "Not a directory" in error
    assert (tmp_path / "file").read_text() == "a file"


def test_folder_without_permission(tmp_path, capsys):
    if os.geteuid() == 0:
        pytest.skip("the superuser may write everywhere")
    tmp_path.chmod(0o500)
    assert run("--out", tmp_path / "out", "--headers-only") == 5
    assert "no permission to write; choose another folder" in capsys.readouterr().err


def test_configuration_is_printed_as_it_would_be_used(tmp_path, capsys):
    from apero_dask.simulator.config import read_config

    assert run("--show-config", "--seed", "7", "--campaign", "rv", "--nights", "3") == 0
    (tmp_path / "shown.toml").write_text(capsys.readouterr().out)
    config = read_config(tmp_path / "shown.toml")
    assert (config.seed, config.instrument) == (7, "SPIROU_MINI")
    assert (config.campaign.name, config.campaign.nights) == ("rv", 3)


@pytest.mark.parametrize(
    ("more", "instrument"),
    [
        ((), "SPIROU_MINI"),
        (("--campaign", "worked"), "SPIROU"),
        (("--campaign", "rv", "--instrument", "SPIROU"), "SPIROU"),
        (("--config", "seed = 3"), "SPIROU_MINI"),
        (("--config", 'instrument = "SPIROU"'), "SPIROU"),
    ],
)
def test_instrument_follows_the_campaign_unless_it_is_named(tmp_path, capsys, more, instrument):
    if more and more[0] == "--config":
        more = written(tmp_path, more[1])
    assert run("--show-config", *more) == 0
    assert f'instrument = "{instrument}"' in capsys.readouterr().out


def test_campaigns_are_listed(capsys):
    assert run("--list") == 0
    out = capsys.readouterr().out
    for name in ("demo", "worked", "rv", "season", "faults", "survey"):
        assert f"{name} " in out


def test_object_table_is_written_once(tmp_path):
    assert run("--campaign", "worked", "--headers-only", "--out", tmp_path) == 0
    table = tmp_path / "assets" / "objects.csv"
    rows = table.read_text().splitlines()
    assert rows[0].startswith("OBJNAME,ORIGINAL_NAME,ALIASES,RA_DEG")
    assert [row.split(",")[0] for row in rows[1:]] == ["59PEG", "GAMSCT", "GL699", "TOIM442", "ZETVIR"]
    assert "Gl 699|Barnard's star|HIP 87937" in rows[3]
    table.write_text("mine")
    assert run("--campaign", "worked", "--headers-only", "--out", tmp_path) == 0
    assert table.read_text() == "mine"
