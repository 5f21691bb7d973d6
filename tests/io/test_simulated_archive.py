"""The index of an archive written by the simulator, which shares no code with it."""

from __future__ import annotations

import csv
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from apero_dask.core.frames import FrameIndex
from apero_dask.instruments import instrument
from apero_dask.io.assets import read_objects
from apero_dask.io.indexer import scan
from apero_dask.io.trees import find_trees
from apero_dask.simulator.cli import main

# Three nights as the simulator's documentation lists them: exposures of each type.
TYPES = {
    "DARK_DARK_INT": 6,
    "DARK_DARK_TEL": 4,
    "DARK_FLAT": 25,
    "FLAT_DARK": 25,
    "FLAT_FLAT": 25,
    "FP_FP": 25,
    "DARK_FP": 6,
    "HCONE_HCONE": 10,
    "OBJ_DARK": 4,
    "OBJ_FP": 11,
    "POLAR_FP": 4,
    "DARK_FP_SKY": 1,
}
CLASSES = {"CALIB": 126, "SKY": 1, "GL699": 12, "TOIM442": 2, "59PEG": 2, "GAMSCT": 2, "ZETVIR": 1}


@pytest.fixture(scope="module", params=["SPIROU", "SPIROU_MINI"])
def archive(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    folder = tmp_path_factory.mktemp("worked")
    options = ["--campaign", "worked", "--headers-only", "--instrument", request.param, "--out", str(folder)]
    assert main(options) == 0
    return folder, request.param


def index_of(folder: Path, name: str) -> FrameIndex:
    trees = find_trees(str(folder))
    objects = read_objects(trees.assets / "objects.csv")
    assert objects.findings == ()
    return scan(trees.raw, instrument(name), now_mjd=60000.0, names=objects.names)


def test_every_exposure_is_found_as_what_it_was_simulated(archive: tuple[Path, str]) -> None:
    folder, name = archive
    index = index_of(folder, name)
    assert index.findings == ()
    with (folder / "truth" / "frames.csv").open() as table:
        truth = {row["file"]: row["dprtype"] for row in csv.DictReader(table)}
    assert {f"raw/{frame.path}": frame.dprtype for frame in index} == truth
    assert Counter(frame.dprtype for frame in index) == TYPES
    assert Counter(frame.frame_class for frame in index) == CLASSES
    assert Counter(frame.obs_dir for frame in index) == {"2018-09-25": 57, "2018-09-26": 35, "2018-09-27": 54}
    assert all(int(frame.mjdmid) == 58386 + int(frame.obs_dir[-2:]) - 25 for frame in index)


def test_canonical_order_is_the_order_of_the_odometer(archive: tuple[Path, str]) -> None:
    identifiers = [frame.identifier for frame in index_of(*archive)]
    assert identifiers == sorted(identifiers) and identifiers[0] == "2320001d"


def test_the_other_instrument_finds_only_foreign_frames(archive: tuple[Path, str]) -> None:
    folder, name = archive
    index = index_of(folder, "SPIROU_MINI" if name == "SPIROU" else "SPIROU")
    assert len(index) == 0
    assert [finding.text.partition(": ")[0] for finding in index.findings] == ["146 raw file(s) left out"]
    assert f'(SIMINST = "{name}")' in index.findings[0].text


def test_indexing_imports_no_heavy_library(archive: tuple[Path, str]) -> None:
    code = (
        "import sys; from pathlib import Path; from apero_dask.instruments import instrument\n"
        "from apero_dask.io import assets, indexer, trees\n"
        "index = indexer.scan(Path(sys.argv[1]), instrument(sys.argv[2]), now_mjd=60000.0)\n"
        "print(len(index), sorted({'numpy', 'astropy', 'numba', 'dask', 'scipy'} & set(sys.modules)))\n"
    )
    command = [sys.executable, "-c", code, str(archive[0] / "raw"), archive[1]]
    root = str(Path(__file__).resolve().parents[2])
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=root)
    assert done.stdout.strip() == "146 []"
