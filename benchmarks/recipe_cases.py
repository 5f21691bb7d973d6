"""Runs of recipes on one full-size night, each with the frames and calibrations it takes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from apero_dask.core.ids import digest
from apero_dask.core.products import KINDS, folder
from apero_dask.core.work import Calibration, CalibrationFile, InputFile, Work
from apero_dask.instruments import Instrument

SHARE = 15.0
"""The aim is this part of what the established pipeline takes."""
FIBRES = ("AB", "A", "B", "C")
MIDDLE_OF_NIGHT = 58386.3


@dataclass(frozen=True)
class Night:
    """Frames of the simulated night by type, in order."""

    root: Path
    obs_dir: str
    frames: dict[str, list[str]]


@dataclass(frozen=True)
class Taken:
    """A calibration: which case makes it, and which of its products are taken."""

    case: str
    kinds: tuple[str, ...]
    fibre: str = ""
    applies_to: str = ""


@dataclass(frozen=True)
class Case:
    """One or more runs that share a process."""

    name: str
    recipe: str
    short: str
    inputs: dict[str, tuple[tuple[str, int], ...]]
    """Type and largest number of frames, by argument."""
    outputs: tuple[tuple[str, str], ...]
    """Kind and fibre."""
    reference_s: float
    """CPU seconds of the established pipeline on this kind of machine, per run."""
    takes: tuple[Taken, ...] = ()
    tree: str = "reduced"
    tier: str = "night"
    variant: str = ""
    separate: bool = False
    """One run per frame."""
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def aim_s(self) -> float:
        """CPU seconds aimed at, per run."""
        return self.reference_s / SHARE


def _each(kind: str, fibres: tuple[str, ...] = FIBRES) -> tuple[tuple[str, str], ...]:
    return tuple((kind, fibre) for fibre in fibres)


DARK = Taken("dark master", ("DARKM",))
BAD = Taken("bad pixels", ("BADPIX", "BKGRDMAP"))
LOC_AB = Taken("localisation AB", ("LOC", "ORDER_PROFILE"), "AB")
LOC_C = Taken("localisation C", ("LOC", "ORDER_PROFILE"), "C")
MAPS = Taken("shape master", ("SHAPEX", "SHAPEY"))
IMAGE = (DARK, BAD)
BENT = (*IMAGE, LOC_AB, LOC_C, MAPS, Taken("shape night", ("SHAPEL",)))
EXTRACTION = (*BENT, Taken("flat", ("FLAT", "BLAZE")))
GUESS = Taken("", ("WAVE0",))
LAMPS = {"hcfiles": (("HCONE_HCONE", 99),), "fpfiles": (("FP_FP", 99),)}


def _localisation(group: str, variant: str) -> Case:
    kinds = ("ORDER_PROFILE", "LOC", "LOCFWHM", "LOCWITH")
    return Case(
        f"localisation {group}", "cal_loc", "LOC", {"files": ((variant, 3),)},
        tuple((kind, group) for kind in kinds), 42.0, IMAGE, variant=variant,
    )  # fmt: skip


CASES = (
    Case(
        "preprocessing, a flat", "cal_preprocessing", "PP", {"files": (("FLAT_FLAT", 1),)}, (("PP", ""),),
        8.9, tree="tmp",
    ),
    Case(
        "preprocessing, a dark", "cal_preprocessing", "PP", {"files": (("DARK_DARK_INT", 1),)},
        (("PP", ""),), 8.9, tree="tmp",
    ),
    Case(
        "preprocessing, five flats", "cal_preprocessing", "PP", {"files": (("FLAT_FLAT", 5),)},
        (("PP", ""),), 8.9, tree="tmp", separate=True,
    ),
    Case(
        "dark master", "cal_dark_master", "DARKM",
        {"darkfiles": (("DARK_DARK_INT", 2), ("DARK_DARK_TEL", 1))}, (("DARKM", ""),), 11.0, tier="master",
    ),
    Case(
        "bad pixels", "cal_badpix", "BAD",
        {"flatfiles": (("FLAT_FLAT", 3),), "darkfiles": (("DARK_DARK_INT", 2),)},
        (("BADPIX", ""), ("BKGRDMAP", "")), 24.0,
    ),
    _localisation("AB", "FLAT_DARK"),
    _localisation("C", "DARK_FLAT"),
    Case(
        "shape master", "cal_shape_master", "SHAPEM",
        {"hcfiles": (("HCONE_HCONE", 99),), "fpfiles": (("FP_FP", 99),)},
        (("SHAPEX", ""), ("SHAPEY", ""), ("FPMASTER", "")), 325.0, (*IMAGE, LOC_AB, GUESS), tier="master",
    ),
    Case(
        "shape night", "cal_shape", "SHAPE", {"files": (("FP_FP", 99),)}, (("SHAPEL", ""),), 56.0,
        (*IMAGE, Taken("shape master", ("SHAPEX", "SHAPEY", "FPMASTER"))),
    ),
    Case(
        "flat", "cal_ff", "FF", {"files": (("FLAT_FLAT", 99),)}, (*_each("FLAT"), *_each("BLAZE")), 76.0, BENT
    ),
    Case(
        "thermal", "cal_thermal", "THERMAL", {"files": (("DARK_DARK_INT", 99),)}, _each("THERMALI"), 65.0,
        (*EXTRACTION, GUESS), variant="DARK_DARK_INT", tier="master",
    ),
    Case(
        "leak master", "cal_leak_master", "LEAKM", {"files": (("DARK_FP", 99),)}, _each("LEAKM"), 68.0,
        (*EXTRACTION, Taken("thermal", ("THERMALI",), applies_to="reference"), GUESS), tier="master",
    ),
    Case(
        "wave master", "cal_wave_master", "WAVEM", LAMPS,
        (*_each("WAVEM"), ("WAVECAV", ""), *_each("WAVEHCL"), *_each("WAVEFPL"), ("WAVR_E2DS", "AB")), 403.0,
        (*EXTRACTION, Taken("thermal", ("THERMALI",)), GUESS), tier="master",
    ),
    Case(
        "wave night", "cal_wave_night", "WAVE", LAMPS,
        (*_each("WAVE"), *_each("WAVENHCL"), *_each("WAVENFPL")), 287.0,
        (
            *EXTRACTION, Taken("thermal", ("THERMALI",)),
            Taken("wave master", ("WAVEM", "WAVECAV", "WAVEHCL")),
        ),
    ),
)  # fmt: skip

BY_NAME = {case.name: case for case in CASES}


def frames(night: Night, case: Case) -> dict[str, list[str]]:
    """Identifiers by argument."""
    return {
        argument: [name for dprtype, count in wanted for name in night.frames[dprtype][:count]]
        for argument, wanted in case.inputs.items()
    }


def product(night: Night, case: Case, kind: str, fibre: str, stem: str) -> str:
    """Path of a product below the root."""
    place = folder(case.tree, case.tier, night.obs_dir, KINDS[kind].life)
    return place + KINDS[kind].file_name(stem, fibre)


def stem_of(night: Night, case: Case) -> str:
    """Name from which those of the products are made: the first frame of the leading argument."""
    leading = "fpfiles" if case.short == "SHAPEM" else next(iter(case.inputs))
    return frames(night, case)[leading][0]


def made(night: Night, case: Case) -> bool:
    """Whether all products of a case are there."""
    paths = [product(night, case, kind, fibre, stem_of(night, case)) for kind, fibre in case.outputs]
    return all((night.root / path).is_file() for path in paths)


def _calibration(night: Night, taken: Taken) -> Calibration:
    if not taken.case:
        return Calibration(taken.kinds, "", taken.applies_to, f"default:{taken.kinds[0]}")
    case = BY_NAME[taken.case]
    stem = stem_of(night, case)
    files = []
    for kind, fibre in case.outputs:
        if kind in taken.kinds:
            path = product(night, case, kind, fibre, stem)
            files.append(CalibrationFile(kind, fibre, path, registered=Path(path).name))
    return Calibration(
        taken.kinds, taken.fibre, taken.applies_to, case.name, night.obs_dir, MIDDLE_OF_NIGHT, 1,
        files=tuple(files),
    )  # fmt: skip


def works(night: Night, case: Case, instrument: Instrument) -> Iterator[Work]:
    """Runs of a case, as the driver would hand them to a worker."""
    named = frames(night, case)
    if case.separate:
        ((argument, names),) = named.items()
        groups = [{argument: [name]} for name in names]
    else:
        groups = [named]
    place = f"raw/{night.obs_dir}/{{}}.fits" if case.tree == "tmp" else f"tmp/{night.obs_dir}/{{}}_pp.fits"
    for group in groups:
        stem = stem_of(night, case) if not case.separate else next(iter(group.values()))[0]
        yield Work(
            key="00001.1.00001", short=case.short, recipe=case.recipe, tier=case.tier, variant=case.variant,
            obs_dir=night.obs_dir, object="", stem=stem, time=MIDDLE_OF_NIGHT,
            identity=digest([case.name, stem, group]), code="", invocation="benchmark",
            instrument=instrument.name, trees=(),
            inputs=tuple((k, tuple(InputFile(place.format(v)) for v in names)) for k, names in group.items()),
            planned_inputs=(), calibrations=tuple(_calibration(night, taken) for taken in case.takes),
            outputs=tuple((k, f, product(night, case, k, f, stem)) for k, f in case.outputs),
            options=tuple(case.options.items()),
            volatile=(("DRSPDATE", "2026-01-01T00:00:00"), ("DRSPID", "benchmark")),
        )  # fmt: skip
