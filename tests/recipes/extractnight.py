"""cal_extract on frames of a simulated night, everything that comes before it being truth.

The frame is what a perfect calibration leaves: light, its noise, holes.  Its header is that of the simulated
raw frame as preprocessing carries it on.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from scipy.interpolate import CubicSpline

from apero_dask.core.declare import options_set, registered
from apero_dask.core.layout import layout
from apero_dask.core.products import KINDS
from apero_dask.core.work import Calibration, InputFile, Work
from apero_dask.io.cards import card_text, split_cards
from apero_dask.io.fits import FitsFile
from apero_dask.io.fitswriter import Image, Table, write_fits
from apero_dask.io.trees import find_trees
from apero_dask.recipes import extract_run
from apero_dask.recipes.calibrated import Calibrated
from apero_dask.recipes.context import RecipeResult, run_recipe
from apero_dask.recipes.wave_cavity import Cavity
from apero_dask.recipes.wave_comb import predict_comb
from apero_dask.recipes.wave_maps import WaveMap, coefficient_columns
from apero_dask.recipes.wave_products import cavity_cards, line_table
from apero_dask.simulator.observatory import camera_of
from apero_dask.simulator.paint import PhotonTruth
from apero_dask.simulator.rawfile import frame_bytes
from apero_dask.simulator.spec import FrameSpec
from tests.recipes.runs import MINI, VOLATILE
from tests.recipes.truthcal import truth_night

FIBRES = MINI.fibres
SCIENCE = MINI.science_fibres
WAVE_DEGREE = 5
CAVITY_DEGREE = 12


def star(seed: int, dprtype: str = "OBJ_FP") -> FrameSpec:
    """Exposure of the M dwarf of the first night (OBJ_FP), of a hot star (OBJ_DARK)."""
    specs = truth_night(seed).specs(dprtype)
    return next((s for s in specs if s.target is not None and s.target.kind == "mdwarf"), specs[0])


def straight_wave(seed: int, truth: PhotonTruth, fibre: str) -> np.ndarray:
    """Wavelengths in the columns of the straightened frame, float64[order, x], from what was painted."""
    columns = truth_night(seed).maps.columns
    x = np.arange(MINI.nx)
    found = []
    for letter in fibre:
        f = "ABC".index(letter)
        found.append([CubicSpline(x, truth.wave_nm[f, o])(columns[f, o]) for o in range(MINI.norders)])
    return np.mean(found, axis=0)


def true_cavity(truth: PhotonTruth) -> Cavity:
    """Series through the painted cavity."""
    wave, path = truth.cavity
    low, high, middle = float(wave[0]), float(wave[-1]), float(np.mean(path))
    u = (2 * wave - low - high) / (high - low)
    return Cavity(np.polynomial.chebyshev.chebfit(u, path - middle, CAVITY_DEGREE), (low, high), middle)


@lru_cache
def solution(seed: int) -> dict[str, WaveMap]:
    """Solution of the night in the frame to which the maps lead."""
    night = truth_night(seed)
    truth = night.truth(night.specs("FLAT_FLAT")[0])
    u = 2 * np.arange(MINI.nx) / MINI.nx - 1
    series = {
        f: np.polynomial.chebyshev.chebfit(u, straight_wave(seed, truth, f).T, WAVE_DEGREE).T for f in FIBRES
    }
    return {f: WaveMap(c, MINI.nx) for f, c in series.items()}


@lru_cache
def calibrations(seed: int) -> tuple[Calibration, ...]:
    """Everything an extraction needs behind the image: as files."""
    night = truth_night(seed)
    flat = night.truth(night.specs("FLAT_FLAT")[0])
    dark = night.specs("DARK_DARK_TEL")[0]
    lamp = night.specs("FP_FP")[0]
    cavity = true_cavity(night.truth(lamp))
    wave_head = [
        ("WAVESOUR", "truth"), ("WAVETIME", lamp.mjd_mid), ("WFPDRIFT", 0.0),
        *((key, value[0]) for key, value in cavity_cards(cavity).items()),
    ]  # fmt: skip
    flats, thermal, waves, peaks = {}, {}, {}, {}
    for f in FIBRES:
        blaze = night.spectrum(flat, f, "flat")
        known = blaze > 0.1 * blaze.max(axis=1, keepdims=True)
        # A response of the columns known to be 1: pixels of the frames respond alike.
        flats[f] = [
            (Image("FLAT", np.where(known, 1.0, np.nan)),),
            (Image("BLAZE", np.where(known, blaze, np.nan)),),
        ]
        light = night.spectrum(night.truth(dark), f, "thermal")
        thermal[f] = [(Image("THERMAL", light), Image("SMOOTH", light))]
        wave = solution(seed)[f]
        waves[f] = [(Image("WAVE", wave.image(), unit="nm"), Table("COEFF_TABLE", coefficient_columns(wave)))]
        listed = predict_comb(cavity, wave)
        bright = np.full(listed.order.size, 1e4)
        listed = replace(listed, x=listed.x_ref, sigma=np.full(listed.order.size, 1e-3), amplitude=bright)
        peaks[f] = [(line_table("fp", listed, wave, np.full(listed.order.size, 5.0)),)]
    head = [("EXPTIME", dark.exptime_s)]
    return (
        night.several(("FLAT", "BLAZE"), flats),
        night.several(("THERMALT",), thermal, applies_to="science", cards=head),
        night.several(("THERMALI",), thermal, applies_to="reference", cards=head),
        night.several(("WAVE",), waves, cards=wave_head),
        night.several(("WAVEFPL",), peaks, applies_to="reference"),
        Calibration(("LEAKM",), "", "", "default:LEAK0"),
    )


def write_frame(
    seed: int,
    spec: FrameSpec,
    cards: Mapping[str, Any] | None = None,
    name: str = "",
    planes: Sequence[Image] = (),
) -> Path:
    """Preprocessed frame: header of the raw frame and what preprocessing adds, planes if they count."""
    night = truth_night(seed)
    root = night.bench.root
    raw = root / "raw" / f"{spec.identifier}_head.fits"
    raw.parent.mkdir(parents=True, exist_ok=True)
    raw.write_bytes(b"".join(frame_bytes(spec, camera_of(night.bench.config))))
    kind = MINI.frame_type(spec.dprtype)
    head = {
        "DRSOBJN": "GL699" if spec.target is None else spec.target.name.upper(),
        "DPRTYPE": spec.dprtype, "DRSMODE": "SPECTROSCOPY", "TRG_TYPE": "TARGET",
        "MJDMID": spec.mjd_mid, "MJDMIDMD": "header", "DRSOUTID": "DRS_PP",
        **(cards or {}),
    }  # fmt: skip
    kept = [c for c in split_cards(FitsFile(raw).text) if c[:8].rstrip() not in head]
    kept = [c for c in kept if c[:8].rstrip() not in ("SIMPLE", "BITPIX", "NAXIS", "EXTEND", "NEXTEND")]
    kept += [card_text(key, value) for key, value in head.items() if value is not None]
    assert kind.name == spec.dprtype
    path = root / "tmp" / spec.obs_dir / f"{name or spec.identifier}_pp.fits"
    path.parent.mkdir(parents=True, exist_ok=True)
    empty = (Image("PP", np.zeros((MINI.raw_columns, MINI.raw_rows), np.float32)),)
    write_fits(path, kept, tuple(planes) or empty)
    raw.unlink()
    return path


def work(seed: int, frame: Path, *, name: str = "", **options: object) -> Work:
    """Run of cal_extract on a frame written by `write_frame`."""
    night = truth_night(seed)
    root = night.bench.root
    head = FitsFile(frame).values
    kind = MINI.frame_type(str(head["DPRTYPE"]).strip())
    stem = name or frame.name.removesuffix("_pp.fits")
    chosen = [c for c in calibrations(seed) if c.kinds != ("LEAKM",) or options.get("leakcorr")]
    if kind.reference == "dark":
        chosen = [c for c in chosen if c.applies_to != "reference"]
    recipe = registered()["cal_extract"]
    outputs = tuple(
        (k, f, f"reduced/{night.night}/{KINDS[k].file_name(stem, f)}")
        for k, _, fibres in layout(recipe, "", kind.reference, options_set(list(options.items())))  # type: ignore[arg-type]
        for f in fibres
    )
    plain = night.context("cal_extract", *chosen).work
    return replace(
        plain,
        short="EXT",
        stem=stem,
        time=float(head["MJDMID"]),
        inputs=(("files", (InputFile(str(frame.relative_to(root))),)),),
        outputs=outputs,
        options=tuple(options.items()),
        science=kind.science,
        reference=kind.reference,
        volatile=VOLATILE,
    )


@contextmanager
def calibrated_frame(frame: Calibrated) -> Iterator[None]:
    """The recipe gets this frame, whatever the file holds."""
    known = extract_run._calibrated
    try:
        extract_run._calibrated = lambda ctx, files, background: frame
        yield
    finally:
        extract_run._calibrated = known


def extract(seed: int, made: Work, frame: Calibrated, assets: Path | None = None) -> RecipeResult:
    """Run the recipe; objects.csv of `assets` instead of that of the data root, which has none."""
    trees = find_trees(str(truth_night(seed).bench.root))
    if assets is not None:
        trees = replace(trees, assets=assets)
    with calibrated_frame(frame):
        return run_recipe(made, trees, MINI)
