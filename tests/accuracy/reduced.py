"""A simulated night that was reduced through the command line: its products and its truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields, replace
from functools import cached_property
from pathlib import Path, PurePosixPath
from types import SimpleNamespace
from typing import Any

import numpy as np

from apero_dask.core.products import KINDS, folder
from apero_dask.core.work import Calibration, CalibrationFile, InputFile, Work
from apero_dask.instruments import Instrument, instrument
from apero_dask.io.fits import FitsFile
from apero_dask.io.trees import find_trees
from apero_dask.recipes.context import RecipeContext
from apero_dask.simulator.config import SimulatorConfig, read_config
from apero_dask.simulator.expose import RawFrame
from apero_dask.simulator.paint import Painted, PhotonTruth, paint
from apero_dask.simulator.runner import campaign_of, record_frame
from apero_dask.simulator.spec import Affine, FrameSpec
from apero_dask.simulator.truth import Truth
from tests.accuracy.light import Seen, seen_columns

MASTER = (
    "DARKM",
    "SHAPEX",
    "SHAPEY",
    "FPMASTER",
    "LEAKM",
    "WAVEM",
    "WAVECAV",
    "WAVEHCL",
    "WAVEFPL",
    "WAVR_E2DS",
)
"""Products of the reference night; all others are those of the night itself."""
SETS: tuple[tuple[tuple[str, ...], str], ...] = (
    (("DARKM",), ""),
    (("BADPIX", "BKGRDMAP"), ""),
    (("LOC", "ORDER_PROFILE"), "AB"),
    (("LOC", "ORDER_PROFILE"), "C"),
    (("SHAPEX", "SHAPEY", "FPMASTER"), ""),
    (("SHAPEL",), ""),
    (("FLAT", "BLAZE"), ""),
    (("THERMALT", "THERMALI"), "science"),
    (("THERMALI",), "reference"),
    (("LEAKM",), ""),
    (("WAVE",), ""),
    (("WAVEM", "WAVECAV", "WAVEHCL"), ""),
)
"""Calibrations as the recipes ask for them, with group of fibres or use."""


class MissingProduct(Exception):
    """The reduction has not made what is to be judged."""


@dataclass(frozen=True)
class Reduced:
    """One night below a data root."""

    root: Path

    @cached_property
    def config(self) -> SimulatorConfig:
        return read_config(self.root / "truth" / "configuration.toml")

    @cached_property
    def instrument(self) -> Instrument:
        return instrument(self.config.instrument)

    @cached_property
    def specs(self) -> tuple[FrameSpec, ...]:
        return tuple(campaign_of(self.config).frames)

    @cached_property
    def night(self) -> str:
        """The first night, which is the reference night."""
        return self.specs[0].obs_dir

    # Products

    def path(self, kind: str, fibre: str = "") -> Path:
        """A product of the night.

        Raises
        ------
        MissingProduct
            There is none, or more than one.
        """
        tier = "master" if kind in MASTER else "night"
        where = self.root / folder("reduced", tier, self.night, KINDS[kind].life)
        found = sorted(where.glob(KINDS[kind].file_name("*", fibre)))
        if len(found) != 1:
            names = ", ".join(p.name for p in found) or "none"
            raise MissingProduct(f"{kind} {fibre} below {where}: {names}, expected one")
        return found[0]

    def file(self, kind: str, fibre: str = "") -> FitsFile:
        return FitsFile(self.path(kind, fibre))

    def preprocessed(self, spec: FrameSpec) -> FitsFile:
        return FitsFile(self.root / "tmp" / spec.obs_dir / f"{spec.identifier}_pp.fits")

    def calibrations(self) -> tuple[Calibration, ...]:
        """All that exist, as a run would be given them."""
        found = []
        for kinds, group in SETS:
            parts = self.instrument.localised_group(group) if group in self.instrument.localised else ""
            files = [file for kind in kinds for file in self._files(kind, parts)]
            if files:
                uses = group if not parts else ""
                content = " ".join(file.path for file in files)
                found.append(
                    Calibration(kinds, parts, uses, f"night {kinds[0]} {group}".strip(), rank=1,
                                content=content, files=tuple(files))
                )  # fmt: skip
        return tuple(found)

    def _files(self, kind: str, group: str) -> list[CalibrationFile]:
        fibres = (group,) if group else self.instrument.fibres
        if "{F}" not in KINDS[kind].suffix:
            fibres = ("",)
        files = []
        for fibre in fibres:
            try:
                path = self.path(kind, fibre)
            except MissingProduct:
                continue
            name = PurePosixPath(path.relative_to(self.root).as_posix())
            files.append(CalibrationFile(kind, fibre, str(name), content=str(name), registered=name.name))
        return files

    def context(
        self, recipe: str, specs: Sequence[FrameSpec] = (), argument: str = "files", **values: Any
    ) -> RecipeContext:
        """Context of a run that makes nothing, with everything the night has, to call parts of a recipe."""
        names = tuple(InputFile(f"tmp/{s.obs_dir}/{s.identifier}_pp.fits") for s in specs)
        work = Work(
            key="00001.1.00001", short="TEST", recipe=recipe, tier="night", variant="", obs_dir=self.night,
            object="", stem="none", time=58386.0, identity="", code="", invocation="accuracy",
            instrument=self.instrument.name, trees=(), inputs=((argument, names),), planned_inputs=(),
            calibrations=self.calibrations(), outputs=(),
        )  # fmt: skip
        return RecipeContext(replace(work, **values), find_trees(str(self.root)), self.instrument)

    # Truth

    def of_type(self, dprtype: str) -> list[FrameSpec]:
        """Exposures of a type in the night."""
        found = [s for s in self.specs if s.dprtype == dprtype and s.obs_dir == self.night]
        if not found:
            raise MissingProduct(f"the night holds no {dprtype}")
        return found

    def truth(self, spec: FrameSpec) -> PhotonTruth:
        """Arrays an exposure was painted from, as its truth file holds them."""
        return photon_truth(Truth(self.root / "truth" / spec.obs_dir / f"{spec.identifier}_truth.fits"))

    def record(self, spec: FrameSpec) -> RawFrame:
        """Raw planes of an exposure and what they were made of."""
        return record_frame(self.config, spec)[1]

    def painted(self, spec: FrameSpec, **optics: Any) -> Painted:
        """Light of an exposure, with other optics if wanted."""
        return paint(replace(self.config, optics=replace(self.config.optics, **optics)), spec)

    def light(self, spec: FrameSpec, **optics: Any) -> np.ndarray:
        """Expected light of an exposure, electrons, calibrated frame."""
        i = self.instrument
        rate = self.painted(spec, **optics).rate
        return rate[i.y0 : i.y0 + i.ny, i.x0 : i.x0 + i.nx] * spec.exptime_s

    def seen(self, ctx: RecipeContext, true: PhotonTruth, fibre: str) -> list[Seen]:
        """Columns that the straightened spectra of the members of a fibre show."""
        from apero_dask.recipes.straight import order_rows, transform

        moved = transform(ctx)
        return [
            seen_columns(true, moved, order_rows(ctx, member), member, self.instrument) for member in fibre
        ]

    def spectrum(self, seen: Sequence[Seen], true: PhotonTruth, fibre: str, *names: str) -> np.ndarray:
        """True spectrum in the straightened columns, electrons; all kinds of light unless some are named."""
        wanted = [values for name, values in true.spectra.items() if not names or name in names]
        total = np.zeros((self.instrument.norders, self.instrument.nx))
        for place, member in zip(seen, fibre, strict=True):
            for values in wanted:
                total += place.flux(values["ABC".index(member)].astype(float))
        return total


def mean_frame(specs: Sequence[FrameSpec]) -> FrameSpec:
    """The first of some exposures, with the place of the light and the cavity of their mean."""
    place = np.mean([astuple(spec.affine) for spec in specs], axis=0)
    cavity = float(np.mean([spec.cavity_ms for spec in specs]))
    return replace(specs[0], affine=Affine(*place.tolist()), cavity_ms=cavity)


def photon_truth(truth: Truth) -> PhotonTruth:
    """Truth of the painter out of a truth file."""
    values: dict[str, Any] = {}
    for f in fields(PhotonTruth):
        if f.name == "spectra":
            values[f.name] = {k.removeprefix("spectra_"): truth[k] for k in truth if k.startswith("spectra_")}
        elif f.name in truth:
            values[f.name] = truth[f.name]
        else:
            values[f.name] = truth.scalars.get(f.name)
    return SimpleNamespace(**values)  # type: ignore[return-value]
