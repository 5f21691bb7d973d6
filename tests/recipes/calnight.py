"""One simulated calibration night per seed, reduced by the recipes themselves, and the truth of every frame.

Everything is made when it is first asked for and kept for the whole test run: preprocessed frames, the
reference dark, bad pixels, localisation.  Darks and FLAT_FLAT are those of :mod:`tests.recipes.night`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import PurePosixPath

import numpy as np

from apero_dask.core.products import KINDS, folder
from apero_dask.core.work import Calibration, CalibrationFile, InputFile, Work
from apero_dask.io.fits import FitsFile
from apero_dask.io.trees import Trees
from apero_dask.recipes.context import RecipeContext, RecipeResult
from apero_dask.simulator.config import SimulatorConfig
from apero_dask.simulator.paint import PhotonTruth, paint
from apero_dask.simulator.runner import record_frame
from apero_dask.simulator.spec import FrameSpec
from tests.recipes.night import Archive, archive, pp_names
from tests.recipes.runs import MINI, VOLATILE, Bench

LOC_KINDS = ("ORDER_PROFILE", "LOC", "LOCFWHM", "LOCWITH")


@dataclass
class CalNight:
    """A calibration night on its data root."""

    base: Archive
    specs: dict[str, tuple[FrameSpec, ...]] = field(default_factory=dict)
    """Preprocessed frames by type."""
    truths: dict[str, PhotonTruth] = field(default_factory=dict)
    """Truth of a frame by identifier."""
    products: dict[tuple[str, ...], dict[tuple[str, str], str]] = field(default_factory=dict)
    """Paths below the data root by (kind, fibre), by run."""

    @property
    def bench(self) -> Bench:
        return self.base.bench

    @property
    def trees(self) -> Trees:
        return self.bench.trees

    @property
    def config(self) -> SimulatorConfig:
        return self.bench.config

    @property
    def night(self) -> str:
        return self.base.night

    # Frames

    def frames(self, dprtype: str, count: int | None = None) -> tuple[FrameSpec, ...]:
        """First `count` frames of a type in the evening of the night, simulated and preprocessed."""
        known = self.specs.get(dprtype, ())
        if dprtype == "FLAT_FLAT":
            return self.base.flats[:count]
        wanted = [s for s in self.bench.specs(dprtype) if s.obs_dir == self.night][: count or 5]
        for spec in wanted[len(known) :]:
            painted, frame = record_frame(self.config, spec)
            self.truths[spec.identifier] = painted.truth
            self.bench.write(spec, frame.planes)
            self.bench.preprocess(spec)
            (self.bench.root / "raw" / spec.obs_dir / f"{spec.identifier}.fits").unlink()
        self.specs[dprtype] = tuple(wanted) if len(wanted) > len(known) else known
        return tuple(wanted)

    def names(self, dprtype: str, count: int | None = None) -> list[str]:
        """Preprocessed frames of a type below the data root."""
        return pp_names(self.frames(dprtype, count))

    def truth(self, spec: FrameSpec) -> PhotonTruth:
        """Arrays a frame was painted from."""
        if spec.identifier not in self.truths:
            self.truths[spec.identifier] = paint(self.config, spec).truth
        return self.truths[spec.identifier]

    def light(self, spec: FrameSpec, **optics: object) -> np.ndarray:
        """Expected light of a frame, e- per exposure, calibrated frame, with other optics if wanted."""
        config = replace(self.config, optics=replace(self.config.optics, **optics))
        rate = paint(config, spec).rate
        return rate[MINI.y0 : MINI.y0 + MINI.ny, MINI.x0 : MINI.x0 + MINI.nx] * spec.exptime_s

    # Calibrations

    def darkm(self) -> Calibration:
        """Reference dark."""
        darks = self.base.darks
        made = self._made(
            "cal_dark_master", "DARKM", {"darkfiles": pp_names(darks)}, ["DARKM"], darks[0], tier="master"
        )
        return chosen(made, "DARKM")

    def badpix(self) -> Calibration:
        """Bad pixels and background map."""
        darks = [spec for spec in self.base.darks if spec.obs_dir == self.night]
        inputs = {"flatfiles": pp_names(self.base.flats), "darkfiles": pp_names(darks)}
        made = self._made("cal_badpix", "BAD", inputs, ["BADPIX", "BKGRDMAP"], self.base.flats[0])
        return chosen(made, "BADPIX", "BKGRDMAP")

    def loc(self, group: str) -> Calibration:
        """Localisation of a group of fibres, AB or C."""
        variant = {"AB": "FLAT_DARK", "C": "DARK_FLAT"}[group]
        made = self._made(
            "cal_loc",
            "LOC",
            {"files": self.names(variant, 3)},
            LOC_KINDS,
            self.frames(variant, 3)[0],
            fibre=group,
            variant=variant,
            calibrations=(self.darkm(), self.badpix()),
        )
        return chosen(made, "LOC", "ORDER_PROFILE", fibre=group)

    def basic(self) -> tuple[Calibration, ...]:
        """What calibrates an image: dark, bad pixels, background."""
        return self.darkm(), self.badpix()

    def _made(
        self,
        recipe: str,
        short: str,
        inputs: dict[str, list[str]],
        kinds: Sequence[str],
        first: FrameSpec,
        *,
        fibre: str = "",
        **values: object,
    ) -> dict[tuple[str, str], str]:
        key = (recipe, fibre)
        if key not in self.products:
            result = self.run(recipe, short, inputs, [(kind, fibre) for kind in kinds], first, **values)
            assert result.passed, result.qc
            self.products[key] = {(o.kind, o.fibre): o.path for o in result.outputs}
        return self.products[key]

    # Runs

    def work(
        self,
        recipe: str,
        short: str,
        inputs: dict[str, list[str]],
        outputs: Sequence[tuple[str, str]],
        first: FrameSpec,
        *,
        tier: str = "night",
        **values: object,
    ) -> Work:
        """Run with everything chosen; `first` gives name, night and time."""
        stem = first.identifier
        plain = self.bench.work(
            recipe, short, inputs, [], stem=stem, obs_dir=first.obs_dir, tier=tier, time=first.mjd_mid
        )
        made = tuple(
            (k, f, folder("reduced", tier, first.obs_dir, KINDS[k].life) + KINDS[k].file_name(stem, f))
            for k, f in outputs
        )
        return replace(plain, outputs=made, **values)

    def run(
        self,
        recipe: str,
        short: str,
        inputs: dict[str, list[str]],
        outputs: Sequence[tuple[str, str]],
        first: FrameSpec,
        **values: object,
    ) -> RecipeResult:
        """Run a recipe."""
        return self.bench.run(self.work(recipe, short, inputs, outputs, first, **values))

    def context(self, recipe: str, inputs: dict[str, list[str]], **values: object) -> RecipeContext:
        """Context of a run that makes nothing, to call the parts of a recipe."""
        files = tuple((name, tuple(InputFile(path) for path in paths)) for name, paths in inputs.items())
        work = self.work(recipe, "TEST", {}, [], self.base.flats[0], volatile=VOLATILE, **values)
        return RecipeContext(replace(work, inputs=files), self.trees, MINI)

    def file(self, calibration: Calibration, kind: str) -> FitsFile:
        """A product."""
        path = next(f.path for f in calibration.files if f.kind == kind)
        return FitsFile(self.bench.root / path)


def chosen(made: dict[tuple[str, str], str], *kinds: str, fibre: str = "") -> Calibration:
    """Products of a run as the choice of a later one."""
    files = tuple(
        CalibrationFile(kind, fibre, made[kind, fibre], registered=PurePosixPath(made[kind, fibre]).name)
        for kind in kinds
    )
    return Calibration(kinds, fibre, "", f"test {kinds[0]} {fibre}".strip(), rank=1, files=files)


@lru_cache
def calnight(seed: int = 1) -> CalNight:
    """Calibration night of a seed."""
    return CalNight(archive(seed))
