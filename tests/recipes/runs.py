"""Makes simulated raw frames and runs recipes on them, without planner and engine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from apero_dask.core.ids import digest
from apero_dask.core.products import KINDS, folder
from apero_dask.core.work import Calibration, InputFile, Work
from apero_dask.instruments import instrument
from apero_dask.io.trees import Trees, find_trees
from apero_dask.recipes.context import RecipeResult, run_recipe
from apero_dask.simulator.campaign import CampaignConfig
from apero_dask.simulator.config import SimulatorConfig
from apero_dask.simulator.detector import DetectorConfig
from apero_dask.simulator.expose import RawFrame
from apero_dask.simulator.observatory import camera_of
from apero_dask.simulator.rawfile import frame_bytes
from apero_dask.simulator.runner import campaign_of, record_frame
from apero_dask.simulator.spec import FrameSpec

MINI = instrument("SPIROU_MINI")
VOLATILE = (("DRSPDATE", "2026-01-01T00:00:00"), ("DRSPID", "PID-1"))


@dataclass(frozen=True)
class Bench:
    """A data root with simulated frames of one seed."""

    root: Path
    seed: int = 1
    detector: DetectorConfig = field(default_factory=DetectorConfig)

    @property
    def trees(self) -> Trees:
        return find_trees(str(self.root))

    @property
    def config(self) -> SimulatorConfig:
        return SimulatorConfig(
            instrument="SPIROU_MINI",
            seed=self.seed,
            campaign=CampaignConfig(name="worked"),
            detector=self.detector,
        )

    def specs(self, dprtype: str) -> list[FrameSpec]:
        """Exposures of a type in the order of the archive."""
        return [spec for spec in campaign_of(self.config, velocities=False).frames if spec.dprtype == dprtype]

    def record(self, spec: FrameSpec) -> RawFrame:
        """Raw planes and truth of an exposure, in memory."""
        return record_frame(self.config, spec)[1]

    def write(self, spec: FrameSpec, planes: Sequence[object] | None = None) -> RawFrame | None:
        """Write a raw frame; return it with its truth unless the planes are given."""
        frame = self.record(spec) if planes is None else None
        path = self.root / "raw" / spec.obs_dir / f"{spec.identifier}.fits"
        path.parent.mkdir(parents=True, exist_ok=True)
        shown = planes if frame is None else frame.planes
        path.write_bytes(b"".join(frame_bytes(spec, camera_of(self.config), shown)))
        return frame

    def work(
        self,
        recipe: str,
        short: str,
        inputs: Mapping[str, Sequence[str]],
        outputs: Sequence[str],
        *,
        stem: str,
        obs_dir: str,
        tree: str = "reduced",
        tier: str = "night",
        time: float = 58386.0,
        options: tuple[tuple[str, object], ...] = (),
        calibrations: tuple[Calibration, ...] = (),
        **values: object,
    ) -> Work:
        """Run with everything chosen, as the driver would hand it to a worker."""
        made = tuple(
            (kind, "", folder(tree, tier, obs_dir, KINDS[kind].life) + KINDS[kind].file_name(stem))
            for kind in outputs
        )
        return Work(
            key="00001.1.00001",
            short=short,
            recipe=recipe,
            tier=tier,
            variant="",
            obs_dir=obs_dir,
            object="",
            stem=stem,
            time=time,
            identity=digest([recipe, tier, stem, {k: list(v) for k, v in inputs.items()}]),
            code="",
            invocation="test",
            instrument="SPIROU_MINI",
            trees=(),
            inputs=tuple((name, tuple(InputFile(path) for path in paths)) for name, paths in inputs.items()),
            planned_inputs=(),
            calibrations=calibrations,
            outputs=made,
            options=options,
            volatile=VOLATILE,
            **values,
        )

    def run(self, work: Work, **values: object) -> RecipeResult:
        """Run a recipe."""
        return run_recipe(work, self.trees, MINI, **values)

    def preprocess(self, spec: FrameSpec, **values: object) -> RecipeResult:
        """Preprocess a raw frame that has been written."""
        work = self.work(
            "cal_preprocessing",
            "PP",
            {"files": [f"raw/{spec.obs_dir}/{spec.identifier}.fits"]},
            ["PP"],
            stem=spec.identifier,
            obs_dir=spec.obs_dir,
            tree="tmp",
            time=spec.mjd_mid,
        )
        return self.run(replace(work, **values))

    def pp_path(self, spec: FrameSpec) -> Path:
        """Preprocessed frame of an exposure."""
        return self.root / "tmp" / spec.obs_dir / f"{spec.identifier}_pp.fits"

    def make_detector(self, specs: Sequence[FrameSpec], flats: Sequence[Path] = ()) -> Path:
        """Write the detector file of the assets from darks that are written now."""
        from apero_dask.recipes.detector_maker import make_detector_file

        paths = []
        for spec in specs:
            self.write(spec)
            paths.append(self.root / "raw" / spec.obs_dir / f"{spec.identifier}.fits")
        return make_detector_file(self.trees.assets, MINI, paths, flats)
