"""A simulated night of the full instrument, from the command line to the detector calibrations.

The night is simulated for the test (some fifteen minutes, 10 GB), or taken from the folder that the variable
APERO_FULL_SIZE_NIGHT names: the output of

    apero-dask simulate --campaign demo --instrument SPIROU --nights 1 --frames 1 --no-truth-images --out DIR

What an earlier reduction left there is removed.  Two things the campaign has not are added: darks, because a
reference dark is made of the darks of an archive and not of four, and frames of the bare detector under even
light outside the archive, from which the static flat is made.
"""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from apero_dask.instruments import instrument
from apero_dask.io.fits import FitsFile
from apero_dask.simulator.config import read_config
from apero_dask.simulator.detector import DetectorConfig, StaticDetector
from apero_dask.simulator.expose import RawFrame
from apero_dask.simulator.ramp import slope_variance, step_response
from apero_dask.simulator.runner import campaign_of, record_frame
from apero_dask.simulator.spec import FrameSpec
from tests.accuracy.added_frames import add_frames, make_static_file
from tests.accuracy.detector import stable_dark

pytestmark = [pytest.mark.slow, pytest.mark.timeout(5400)]

FULL = instrument("SPIROU")
BORDER = FULL.reference_border
RUN_FILE = Path(__file__).resolve().parents[2] / "runfiles" / "detector.ini"
MEMORY_GB = 10.0
SIMULATE = ("simulate", "--campaign", "demo", "--instrument", "SPIROU", "--nights", "1", "--frames", "1")
TOOLS = "import sys; from apero_dask.cli.tools import main; sys.exit(main())"
HOT, DEAD, BLOB, TELEGRAPH = 1, 4, 8, 16


@dataclass(frozen=True)
class Night:
    root: Path
    specs: tuple[FrameSpec, ...]
    frames: dict[str, RawFrame]
    """Truth of the tested dark and of a frame with light, by identifier."""
    static: StaticDetector
    output: str
    status: int
    wall_s: float
    cpu_s: float
    peak_gb: float
    """Of driver, scheduler and workers together."""
    worker_gb: float
    """Largest process."""

    def one(self, dprtype: str, number: int = 0) -> FrameSpec:
        return [spec for spec in self.specs if spec.dprtype == dprtype][number]

    def preprocessed(self, spec: FrameSpec) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Slope, variance and mask in raw orientation."""
        file = FitsFile(self.root / "tmp" / spec.obs_dir / f"{spec.identifier}_pp.fits")
        return tuple(np.rot90(file.image(which), 1) for which in (1, "VARIANCE", "MASK"))

    def product(self, suffix: str) -> FitsFile:
        (path,) = self.root.glob(f"reduced/**/*_pp_{suffix}.fits")
        return FitsFile(path)


def family(process: int) -> list[int]:
    """A process and its descendants."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue  # ended meanwhile
    found = [process]
    for member in found:
        found += [child for child, parent in parents.items() if parent == member]
    return found


def resident_gb(process: int) -> float:
    try:
        return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * resource.getpagesize() / 1e9
    except OSError:
        return 0.0  # ended meanwhile


def reduce(root: Path) -> dict[str, object]:
    """Run the command and watch the memory of all its processes."""
    before, begin = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    log = root / "command.log"
    with log.open("w") as stream:
        command = [sys.executable, "-m", "apero_dask", "--data", str(root), FULL.name, str(RUN_FILE)]
        process = subprocess.Popen(command, stdout=stream, stderr=subprocess.STDOUT)
        total = largest = 0.0
        while process.poll() is None:
            sizes = [resident_gb(member) for member in family(process.pid)]
            total, largest = max(total, sum(sizes)), max(largest, max(sizes))
            time.sleep(0.2)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return {
        "output": log.read_text(),
        "status": process.returncode,
        "wall_s": time.monotonic() - begin,
        "cpu_s": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
        "peak_gb": total,
        "worker_gb": largest,
    }


@pytest.fixture(scope="module")
def night(tmp_path_factory: pytest.TempPathFactory) -> Night:
    """The reduced night; its detector file was made from darks other than the tested one."""
    given = os.environ.get("APERO_FULL_SIZE_NIGHT")
    root = Path(given) if given else tmp_path_factory.mktemp("full")
    command = [sys.executable, "-c", TOOLS, *SIMULATE, "--no-truth-images", "--out", str(root)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    for name in ("tmp", "reduced", "calibDB", "telluDB", "log", "assets/detector"):
        shutil.rmtree(root / name, ignore_errors=True)
    config = read_config(root / "truth" / "configuration.toml")
    specs = list(campaign_of(config, velocities=False).frames)
    further, even = add_frames(root, config, specs)
    specs += further
    make_static_file(root, FULL, specs, even)
    darks = [spec for spec in specs if spec.dprtype.startswith("DARK_DARK")]
    lit = next(spec for spec in specs if spec.dprtype == "HCONE_HCONE")
    figures = reduce(root)
    frames = {spec.identifier: record_frame(config, spec)[1] for spec in (darks[0], lit)}
    static = frames[darks[0].identifier].static
    return Night(root, tuple(specs), frames, static, **figures)  # type: ignore[arg-type]


def test_two_workers_reduce_the_night_within_the_memory(night: Night) -> None:
    print(
        f"{len(night.specs)} frames: wall {night.wall_s:.0f} s, CPU {night.cpu_s:.0f} s, all processes "
        f"{night.peak_gb:.2f} GB, largest {night.worker_gb:.2f} GB"
    )
    assert night.status == 0, night.output
    assert len(list(night.root.glob("tmp/**/*_pp.fits"))) == len(night.specs)
    assert night.peak_gb < MEMORY_GB


def row_noise(image: np.ndarray) -> float:
    return float(np.nanmedian(image[BORDER:-BORDER], axis=1).std())


def test_noise_and_offsets_of_a_dark(night: Night) -> None:
    """Row-correlated noise below 0.15 of the input, amplifiers off by less than 0.003 ADU/s."""
    spec = night.one("DARK_DARK_INT")
    frame = night.frames[spec.identifier]
    slope, _, _ = night.preprocessed(spec)
    truth = frame.expected / FULL.gain
    ratio = row_noise(slope - truth) / row_noise(frame.slope - truth)
    left = (slope - truth).reshape(FULL.raw_rows, FULL.amplifiers, -1)
    levels = np.nanmedian(left, axis=(0, 2))
    print(f"row noise {ratio:.3f}; amplifiers rms {levels.std():.4f}, largest {np.abs(levels).max():.4f}")
    assert ratio < 0.15
    assert np.abs(levels).max() < 0.003


@pytest.mark.parametrize("dprtype", ["DARK_DARK_INT", "HCONE_HCONE"])
def test_cosmic_hits(night: Night, dprtype: str) -> None:
    """Complete to 95 per cent for hits of ten sigma of the slope, false below 1e-4.

    Pixels whose dark jumps between two levels are left out of the false ones and printed apart: three darks
    of one night cannot tell which they are, and a dark that has jumped makes a slope as wrong as a hit does.
    """
    spec = night.one(dprtype)
    frame = night.frames[spec.identifier]
    flagged = (night.preprocessed(spec)[2] & 19) > 0
    place = (frame.hits.row, frame.hits.column)
    charge, change = np.zeros(flagged.shape), np.zeros(flagged.shape)
    np.add.at(charge, place, frame.hits.charge)
    step = step_response(frame.hits.time, spec.nreads, FULL.frame_time_s).slope
    np.add.at(change, place, frame.hits.charge * step)
    used = np.maximum(frame.count, 2)
    sigma = np.sqrt(slope_variance(frame.expected, used, FULL.frame_time_s, FULL.read_noise_e))
    strong = (change > 10 * sigma) & (frame.count == spec.nreads)
    clean = ~ndimage.binary_dilation(charge > 0, np.ones((3, 3)))
    jumping = night.static.classes & TELEGRAPH > 0
    complete, false = flagged[strong].mean(), (flagged & ~jumping)[clean].mean()
    print(
        f"{dprtype}: complete {complete:.3f} of {strong.sum()}, false {false:.1e}, "
        f"dark has jumped {(flagged & jumping)[clean].mean():.1e}"
    )
    assert complete > 0.95
    assert false < 1e-4


def cal_frame(raw: np.ndarray) -> np.ndarray:
    full = raw.T[::-1]
    return full[FULL.y0 : FULL.y0 + FULL.ny, FULL.x0 : FULL.x0 + FULL.nx]


def test_bad_pixels(night: Night) -> None:
    """Recall of hot and of dead pixels above 97 per cent, precision above 90.

    The flats of a night leave dead pixels between the orders in the dark; the static flat sees them.
    """
    bad = night.product("badpixel").image(1) > 0
    classes, response = cal_frame(night.static.classes), cal_frame(night.static.response)
    wanted = (response < 0.5) | (classes & HOT > 0)
    defect = wanted | (classes & (DEAD | BLOB | TELEGRAPH) > 0)
    hot, dead = classes & HOT > 0, (classes & DEAD > 0) & (classes & (BLOB | HOT) == 0)
    print(
        f"recall: hot {bad[hot].mean():.4f}, dead {bad[dead].mean():.4f}, all {bad[wanted].mean():.4f}; "
        f"precision {defect[bad].mean():.4f}"
    )
    assert bad[wanted].mean() > 0.97
    assert defect[bad].mean() > 0.90


def test_reference_dark(night: Night) -> None:
    """What a dark has left in its stable hot pixels after the reference: below 1.1 of its own noise.

    The reference of N darks adds 1 / N to the variance of one, the light that is measured on eight neighbours
    and taken off before 1.57 / 8 N: for N = 10 that is 1.06.
    """
    spec = night.one("DARK_DARK_INT")
    dark = np.rot90(night.product("dark_master").image(1), 1)
    _, variance, _ = night.preprocessed(spec)
    static = night.static
    truth = stable_dark(static.dark, DetectorConfig().ipc_fraction, FULL)
    selected = (static.classes & HOT > 0) & (static.classes & TELEGRAPH == 0)
    selected &= night.frames[spec.identifier].count == spec.nreads
    error = (dark - truth)[selected] / np.sqrt(variance[selected])
    rms = float(np.sqrt(np.nanmean(np.clip(error, -10, 10) ** 2)))
    print(f"hot pixels: rms {rms:.3f} of the noise of a dark, another dark differs by {np.hypot(1, rms):.3f}")
    assert np.hypot(1, rms) < 1.1
