"""A calibration that fails in one night of three: the others of that night take the neighbour's.

Real recipes through the command line, on frames of the small instrument.  The lamp of the science fibres did
not reach the spectrograph in the second night, so that its localisation of A and B finds no orders.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from astropy.io import fits

from apero_dask.io.fits import FitsFile
from apero_dask.simulator.campaign import CampaignConfig
from apero_dask.simulator.config import SimulatorConfig
from apero_dask.simulator.observatory import camera_of
from apero_dask.simulator.rawfile import frame_bytes
from apero_dask.simulator.runner import campaign_of, record_frame
from apero_dask.simulator.spec import FrameSpec
from tests.recipes.runs import MINI

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

ROOT = Path(__file__).resolve().parents[2]
COUNTS = {
    "DARK_DARK_INT": 2,
    "FLAT_DARK": 2,
    "DARK_FLAT": 2,
    "FLAT_FLAT": 2,
    "FP_FP": 3,
    "HCONE_HCONE": 1,
}
"""Frames of a night; lamp lines in the reference night only."""
RUN_FILE = """RUN_NAME = "One localisation fails"
MASTER_OBS_DIR = {night}
USE_ENGINEERING = True
CORES = 2
RUN_FLATM = False
RUN_LEAKM = False
RUN_THIM = False
RUN_THTM = False
RUN_WAVEM = False
RUN_THERMAL = False
RUN_WAVE = False
id00000 = pp_seq
id00001 = master_seq
id00002 = calib_seq
"""


@dataclass(frozen=True)
class Done:
    root: Path
    specs: tuple[FrameSpec, ...]
    status: int
    output: str

    @property
    def nights(self) -> list[str]:
        return sorted({spec.obs_dir for spec in self.specs})

    def ended(self) -> dict[tuple[str, str, str], dict]:
        """Events of ended runs by short name, night and identifier."""
        (path,) = self.root.glob("log/*/events.jsonl")
        events = [json.loads(line) for line in path.read_text().splitlines()]
        return {(e["short"], e["place"], e["stem"]): e for e in events if e["event"] == "ended"}

    def markers(self) -> list[dict]:
        return [json.loads(p.read_text())["marker"] for p in self.root.glob("log/markers/*/*.json")]

    def time(self, night: str, dprtype: str) -> float:
        """Mean middle of the exposures of a type."""
        times = [s.mjd_mid for s in self.specs if (s.obs_dir, s.dprtype) == (night, dprtype)]
        return sum(times) / len(times)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Done:
    root = tmp_path_factory.mktemp("fallback")
    config = SimulatorConfig(
        instrument=MINI.name, seed=1, campaign=CampaignConfig(name="worked"),
    )  # fmt: skip
    frames = campaign_of(config, velocities=False).frames
    nights = sorted({s.obs_dir for s in frames})
    chosen: list[FrameSpec] = []
    for night in nights:
        for dprtype, count in COUNTS.items():
            if dprtype == "HCONE_HCONE" and night != nights[0]:
                continue
            found = [s for s in frames if (s.obs_dir, s.dprtype) == (night, dprtype)][:count]
            if (night, dprtype) == (nights[1], "FLAT_DARK"):
                found = [replace(s, faults=("no_light",)) for s in found]
            chosen += found
    for spec in chosen:
        path = root / "raw" / spec.obs_dir / f"{spec.identifier}.fits"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"".join(frame_bytes(spec, camera_of(config), record_frame(config, spec)[1].planes)))
    run_file = root / "fallback.ini"
    run_file.write_text(RUN_FILE.format(night=nights[0]))
    path = os.pathsep.join([str(ROOT), str(ROOT / "kernels"), os.environ.get("PYTHONPATH", "")])
    ended = subprocess.run(
        [sys.executable, "-m", "apero_dask", "--data", str(root), MINI.name, str(run_file)],
        env={**os.environ, "PYTHONPATH": path}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    return Done(root, tuple(chosen), ended.returncode, ended.stdout)


def test_one_run_fails_its_quality_control_and_nothing_else(done: Done) -> None:
    """Exit status 0: a failed quality control of a night is no failure of the reduction."""
    states = {key: event["state"] for key, event in done.ended().items()}
    failed = {key: state for key, state in states.items() if state != "DONE"}
    assert [(short, night) for short, night, _ in failed] == [("LOC", done.nights[1])], done.output
    assert set(failed.values()) == {"QC_FAILED"}
    assert done.status == 0, done.output
    for short in ("BAD", "SHAPE", "FF"):
        assert sum(key[0] == short for key in states) == len(done.nights)
    assert sum(key[0] == "LOC" for key in states) == 2 * len(done.nights)


def test_failed_product_is_written_flagged_and_not_registered(done: Done) -> None:
    second = done.nights[1]
    (path,) = (done.root / "reduced" / second).glob("*_loco_AB.fits")
    head = fits.getheader(path)
    assert head["QCC_ALL"] is False
    assert (head["QCC001N"], head["QCC001P"]) == ("NORDERS", 0)
    registered = {p.name for p in (done.root / "calibDB").glob("*_loco_AB.fits")}
    assert {name for name in registered if name.startswith(second)} == set()
    for night in (done.nights[0], done.nights[2]):
        assert any(name.startswith(night) for name in registered)


def test_neighbour_is_taken_by_time_and_everything_else_is_of_the_night(done: Done) -> None:
    """The closer of both neighbours, as rank 2 of the search; the other fibre is that of the night."""
    first, second, third = done.nights
    own = done.time(second, "FLAT_FLAT")
    distance = {night: abs(done.time(night, "FLAT_DARK") - own) for night in (first, third)}
    closest = min(distance, key=distance.__getitem__)
    producers = {m["identity"]: m for m in done.markers()}
    (flat,) = [m for m in producers.values() if (m["short"], m["obs_dir"]) == ("FF", second)]
    choices = {(tuple(c["kinds"]), c["fibre"]): c for c in flat["choices"]}
    lost = next(c for (kinds, fibre), c in choices.items() if "LOC" in kinds and fibre == "AB")
    source = producers[lost["source"]]
    assert (source["short"], source["obs_dir"], source["tier"]) == ("LOC", closest, "night")
    assert (lost["rank"], lost["fallback"]) == (2, True)
    kept = next(c for (kinds, fibre), c in choices.items() if "LOC" in kinds and fibre == "C")
    assert producers[kept["source"]]["obs_dir"] == second and (kept["rank"], kept["fallback"]) == (1, False)
    for kind in ("BADPIX", "SHAPEL"):
        chosen = next(c for (kinds, _), c in choices.items() if kind in kinds)
        assert producers[chosen["source"]]["obs_dir"] == second and chosen["rank"] == 1


def test_flat_of_the_night_is_sound_and_names_its_neighbour(done: Done) -> None:
    first, second, third = done.nights
    for fibre in ("AB", "A", "B", "C"):
        (path,) = (done.root / "reduced" / second).glob(f"*_flat_{fibre}.fits")
        head = FitsFile(path).values
        assert head["QCC_ALL"] is True
        night = second if fibre == "C" else str(head["CDBLOCO"])[:10]
        assert str(head["CDBLOCO"]).startswith(night) and night in (first, second, third)
        assert (night == second) == (fibre == "C")
