"""Data root with spectra, wavelength solutions and blazes made from the simulator's truth."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from apero_dask.core.ids import digest
from apero_dask.core.products import KINDS, folder
from apero_dask.core.work import Calibration, CalibrationFile, InputFile, Work
from apero_dask.io.cards import card_text
from apero_dask.io.fitswriter import Image, Table, write_fits
from apero_dask.recipes.context import RecipeResult, run_recipe
from apero_dask.recipes.wave_cavity import Cavity
from apero_dask.recipes.wave_compare import comb_mask, comb_velocity
from apero_dask.recipes.wave_maps import coefficient_columns
from apero_dask.recipes.wave_products import cavity_cards
from apero_dask.simulator.cavity import optical_path
from tests.recipes.runs import MINI, VOLATILE
from tests.recipes.starlight import Star, configuration, star, wave_map_of

NIGHT = "2018-09-25"
C_KMS = 299792.458


def write(path: Path, cards: Mapping[str, object], *extensions: Image | Table) -> str:
    """Write a file; its path below the data root three levels up."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_fits(path, [card_text(key, value, "") for key, value in cards.items()], extensions)
    return str(path.relative_to(path.parents[2]))


def true_cavity(seed: int, spec: object) -> Cavity:
    """Series through the true cavity of an exposure."""
    config = configuration(seed)
    wave = np.linspace(950.0, 2510.0, 4000)
    path = optical_path(config.cavity, seed, wave, spec.cavity_ms, spec.epoch_days)
    u = (2.0 * wave - 3460.0) / 1560.0
    pedestal = float(path.mean())
    return Cavity(np.polynomial.chebyshev.chebfit(u, path - pedestal, 16), (950.0, 2510.0), pedestal)


@dataclass
class Root:
    """One data root."""

    path: Path
    seed: int = 1
    calibrations: tuple[Calibration, ...] = ()
    shown: dict[str, Star] = field(default_factory=dict)

    def calibrate(self, reference: Star) -> None:
        """Write wavelength solution and blaze as they were when `reference` was taken."""
        cavity = true_cavity(self.seed, reference.spec)
        files: dict[str, list[CalibrationFile]] = {"WAVE": [], "BLAZE": []}
        for fibre, wave, blaze in (
            ("AB", reference.wave, reference.blaze),
            ("C", reference.wave_c, reference.blaze_c),
        ):
            solution = wave_map_of(wave)
            found = comb_velocity(reference.comb, solution.image(), comb_mask(cavity))
            cards = {key: value[0] for key, value in cavity_cards(cavity).items()}
            cards |= {"WFPDRIFT": found.velocity, "WAVESOUR": "test"}
            place = self.path / "reduced" / NIGHT
            name = f"wave_{fibre}.fits"
            columns = Table("COEFF_TABLE", coefficient_columns(solution))
            files["WAVE"].append(
                CalibrationFile(
                    "WAVE", fibre, write(place / name, cards, Image("WAVE", solution.image()), columns)
                )
            )
            lit = np.where(blaze > 0.1 * blaze.max(axis=1, keepdims=True), 3e4 * blaze, np.nan)
            name = f"blaze_{fibre}.fits"
            files["BLAZE"].append(
                CalibrationFile("BLAZE", fibre, write(place / name, {}, Image("BLAZE", lit)))
            )
        self.calibrations = tuple(
            Calibration(
                (kind,), "", "", f"test {kind} {reference.spec.identifier}", rank=1, files=tuple(found)
            )
            for kind, found in files.items()
        )

    def spectrum(
        self,
        identifier: str,
        flux: np.ndarray,
        variance: np.ndarray,
        *,
        kind: str = "TCORR",
        fibre: str = "AB",
        recon: np.ndarray | None = None,
        **cards: object,
    ) -> str:
        """Write a spectrum; its path below the root."""
        name = KINDS[kind].file_name(identifier, fibre)
        extensions = [Image(kind, flux), Image("VARIANCE", variance)]
        if recon is not None:
            extensions.append(Image("RECON", recon))
        header = {"DRSOBJN": "GL699", "DPRTYPE": "OBJ_FP", "OBJRV": -110.51, "MJDMID": 58386.25} | cards
        return write(self.path / "reduced" / NIGHT / name, header, *extensions)

    def exposure(
        self,
        identifier: str,
        shown: Star,
        noise: int | None = None,
        recon: np.ndarray | None = None,
        **cards: object,
    ) -> tuple[str, str]:
        """Write spectra of both fibres of an exposure; with the transmission that was taken off."""
        flux = shown.flux if noise is None else shown.exposed(noise)
        variance_c = 1.2 * shown.comb + 900.0
        header = {"BERV": shown.spec.berv_kms, "BJD": 2458386.75} | cards
        return (
            self.spectrum(identifier, flux, shown.variance, recon=recon, **header),
            self.spectrum(identifier, shown.comb, variance_c, kind="E2DSFF", fibre="C", **header),
        )

    def work(
        self,
        recipe: str,
        short: str,
        stem: str,
        inputs: Mapping[str, list[str]],
        outputs: tuple[tuple[str, str, str], ...],
        **values: object,
    ) -> Work:
        """Run with everything chosen."""
        plain = Work(
            key="00001.1.00001",
            short=short,
            recipe=recipe,
            tier="night",
            variant="",
            obs_dir=NIGHT,
            object="",
            stem=stem,
            time=58386.25,
            identity=digest([recipe, stem, {k: list(v) for k, v in inputs.items()}]),
            code="",
            invocation="test",
            instrument="SPIROU_MINI",
            trees=(),
            inputs=tuple((name, tuple(InputFile(path) for path in paths)) for name, paths in inputs.items()),
            planned_inputs=(),
            calibrations=self.calibrations,
            outputs=outputs,
            volatile=VOLATILE,
        )
        return replace(plain, **values)

    def run(self, work: Work) -> RecipeResult:
        """Run a recipe."""
        from apero_dask.io.trees import find_trees

        return run_recipe(work, find_trees(str(self.path)), MINI)

    def velocity(
        self, files: tuple[str, ...], stem: str = "2320031o", **values: object
    ) -> tuple[Path, Path | None]:
        """Run cal_ccf on a spectrum (and its comb); paths of the products."""
        base = folder("reduced", "night", NIGHT, KINDS["CCF"].life)
        name = f"{base}{KINDS['CCF'].file_name(Path(files[0]).stem, 'AB', 'apero_dask_mdwarf')}"
        outputs = [("CCF", "AB", name)]
        inputs = {"files": [files[0]]}
        if len(files) > 1:
            fp = f"{base}{KINDS['CCF_FP'].file_name(Path(files[1]).stem, 'C', 'fp')}"
            outputs.append(("CCF_FP", "C", fp))
            inputs["fpfiles"] = [files[1]]
        self.run(self.work("cal_ccf", "CCF", stem, inputs, tuple(outputs), **values))
        return self.path / name, self.path / outputs[1][2] if len(files) > 1 else None


def night(path: Path, seed: int = 1) -> Root:
    """Root with the calibrations of the first exposure of a seed."""
    root = Root(path, seed)
    root.calibrate(star(seed))
    return root
