"""Exposures of stars behind the atmosphere as a perfect extraction would give them, on a data root.

Light is drawn from the simulator's truth in memory (no detector, no extraction); calibrations are that truth
with the errors a calibration has: the line spread is 2 per cent too wide, the wavelengths of a night are
5 m/s off.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from apero_dask.core.products import KINDS, folder
from apero_dask.core.work import Calibration, CalibrationFile, InputFile
from apero_dask.io.cards import card_text
from apero_dask.io.fits import FitsFile
from apero_dask.io.fitswriter import Image, Table, write_fits
from apero_dask.recipes.context import RecipeResult
from apero_dask.recipes.wave_maps import WaveMap, coefficient_columns
from apero_dask.simulator.config import SimulatorConfig
from apero_dask.simulator.paint import PhotonTruth, paint
from apero_dask.simulator.runner import campaign_of
from apero_dask.simulator.spec import FrameSpec
from apero_dask.tables.derive_tellurics import WATER_MM
from tests.recipes.runs import MINI, Bench

C_KMS = 299792.458
READ_ELECTRONS = 42.0
"""Noise per column of both science fibres: 33 rows at 7 e-."""
RAMP = 1.2
"""Variance of a long ramp over that of counting."""
LSF_ERROR, WAVE_ERROR_MS = 1.02, 5.0
STAR_TYPES = ("OBJ_FP", "OBJ_DARK", "POLAR_FP", "POLAR_DARK")
SHARES = {"AB": (1.0, 1.0), "A": (1.0, 0.0), "B": (0.0, 1.0)}


@dataclass
class AirNight:
    """Exposures of a seed."""

    bench: Bench
    changed: dict[str, object] = field(default_factory=dict)
    """Other settings of the atmosphere."""
    truths: dict[str, PhotonTruth] = field(default_factory=dict)

    @property
    def config(self) -> SimulatorConfig:
        config = self.bench.config
        return replace(config, atmosphere=replace(config.atmosphere, **self.changed))

    def specs(self, name: str = "") -> list[FrameSpec]:
        """Exposures of a star, or of all hot stars (``hot``), with true velocities."""
        return [s for s in _frames(self.bench.seed) if name in ("", s.target.name, s.target.kind)]

    def truth(self, spec: FrameSpec) -> PhotonTruth:
        """Arrays an exposure was made of."""
        key = repr(spec)
        if key not in self.truths:
            self.truths[key] = paint(self.config, spec).truth
        return self.truths[key]

    # What a spectrum should be

    def clean(self, spec: FrameSpec, fibre: str = "AB") -> np.ndarray:
        """Electrons of the star without atmosphere."""
        return sum(w * self.truth(spec).star_clean[f] for f, w in enumerate(SHARES[fibre]))

    def absorbed(self, spec: FrameSpec, fibre: str = "AB") -> np.ndarray:
        """The same behind the atmosphere."""
        return sum(w * self.truth(spec).spectra["star"][f] for f, w in enumerate(SHARES[fibre]))

    def exponents(self, spec: FrameSpec) -> tuple[float, float]:
        """Water exponent in the column of the built-in table, dry exponent."""
        return spec.airmass * spec.pwv_mm / WATER_MM, spec.airmass

    def sigma(self, spec: FrameSpec, fibre: str = "AB") -> np.ndarray:
        """Noise of a pixel over the star without atmosphere behind a perfect correction."""
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.sqrt(self.variance(spec, fibre)) / self.absorbed(spec, fibre)

    def variance(self, spec: FrameSpec, fibre: str = "AB") -> np.ndarray:
        """electrons^2."""
        return RAMP * self.light(spec, fibre) + sum(SHARES[fibre]) / 2 * READ_ELECTRONS**2

    def light(self, spec: FrameSpec, fibre: str = "AB") -> np.ndarray:
        """Star behind the atmosphere and sky, electrons."""
        sky = self.truth(spec).spectra.get("sky", np.zeros((3, MINI.norders, MINI.nx)))
        return self.absorbed(spec, fibre) + sum(w * sky[f] for f, w in enumerate(SHARES[fibre]))

    def blaze(self, fibre: str = "AB") -> np.ndarray:
        """Blaze of the instrument, electrons, NaN where faint."""
        truth = self.truth(self.specs()[0])
        blaze = sum(w * truth.blaze[f] for f, w in enumerate(SHARES[fibre])) * 1e5
        return np.where(blaze > 0.1 * blaze.max(axis=1, keepdims=True), blaze, np.nan)

    def wave(self, spec: FrameSpec) -> np.ndarray:
        """Vacuum nm of AB."""
        return self.truth(spec).wave_nm[:2].mean(axis=0)

    # Files

    def spectrum_file(
        self, spec: FrameSpec, fibre: str, noise: int = 1, blank: tuple[int, ...] = (), **cards: object
    ) -> str:
        """Write an E2DSFF, some orders empty, and return its path below the data root."""
        letter = "AB".find(fibre)
        rng = np.random.default_rng([self.bench.seed, spec.index, noise])
        planes = {
            f: self.light(spec, f)
            + np.sqrt(self.variance(spec, f)) * rng.standard_normal((MINI.norders, MINI.nx))
            for f in "AB"
        }
        flux = planes["A"] + planes["B"] if letter < 0 or fibre == "AB" else planes[fibre]
        lit = np.isfinite(self.blaze(fibre))
        flux = np.where(lit, flux, np.nan)
        flux[list(blank)] = np.nan
        values: dict[str, object] = {
            "FIBER": fibre,
            "DPRTYPE": spec.dprtype,
            "DRSOBJN": spec.target.name.upper(),
            "OBJECT": spec.target.name,
            "AIRMASS": spec.airmass,
            "MJDMID": spec.mjd_mid,
            "BERV": spec.berv_kms,
            "EXPTIME": spec.exptime_s,
        }
        middle = slice(MINI.nx // 2 - 50, MINI.nx // 2 + 50)
        level = np.nan_to_num(flux[:, middle]).mean(axis=1)
        snr = level / np.sqrt(np.maximum(level, 0) + READ_ELECTRONS**2)
        values |= {f"EXTSN{o:03d}": float(s) for o, s in enumerate(snr)}
        values |= cards
        kind = KINDS["E2DSFF"]
        path = folder("reduced", "night", spec.obs_dir, kind.life) + kind.file_name(spec.identifier, fibre)
        target = self.bench.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        write_fits(
            target,
            [card_text(k, v, "test") for k, v in values.items()],
            [
                Image("EXT_E2DS_FF", flux, unit="electron"),
                Image("VARIANCE", np.where(lit, self.variance(spec, fibre), np.nan)),
            ],
        )
        return path

    def calibrations(self, spec: FrameSpec) -> tuple[Calibration, ...]:
        """Wavelengths of the night, of the reference, line spread, blaze."""
        reference = self.specs()[0]
        found = []
        shift = 1 + WAVE_ERROR_MS / 1e3 / C_KMS
        for kinds, at, factor in (
            (("WAVE",), spec, shift),
            (("WAVEM", "WAVR_E2DS"), reference, 1.0),
            (("FLAT", "BLAZE"), reference, 1.0),
        ):
            files = []
            for kind in kinds:
                for fibre in ("AB",) if kind == "WAVR_E2DS" else ("AB", "A", "B"):
                    name = f"{kind}_{at.identifier}_{fibre}.fits"
                    path = self.bench.root / "calibDB" / name
                    if not path.exists():
                        path.parent.mkdir(exist_ok=True)
                        write_fits(
                            path, [card_text("DRSOUTID", kind, "")], self._content(kind, fibre, at, factor)
                        )
                    files.append(CalibrationFile(kind, fibre, f"calibDB/{name}", "", name, name))
            found.append(Calibration(kinds, "", "", f"truth {kinds[0]}", rank=1, files=tuple(files)))
        return tuple(found)

    def _content(self, kind: str, fibre: str, spec: FrameSpec, factor: float) -> list[Image | Table]:
        if kind in ("WAVE", "WAVEM"):
            wave = self.wave(spec) * factor
            u = 2 * np.arange(MINI.nx) / MINI.nx - 1
            series = WaveMap(np.polynomial.chebyshev.chebfit(u, wave.T, 7).T, MINI.nx)
            return [Image(kind, series.image()), Table("COEFF_TABLE", coefficient_columns(series))]
        if kind == "WAVR_E2DS":
            truth = self.truth(spec)
            disp = C_KMS * np.gradient(np.log(self.wave(spec)), axis=1)
            # Pixels widen the line spread: a box of one px has the variance of a Gaussian of FWHM 0.68 px.
            fwhm = np.hypot(truth.lsf_fwhm_px[:2].mean(axis=0), 0.68) * disp * LSF_ERROR
            return [
                Image(kind, fwhm),
                Image("E2DS_FWHM", fwhm),
                Image("E2DS_EXPO", np.full(fwhm.shape, 2.05)),
            ]
        return [Image(kind, self.blaze(fibre) if kind == "BLAZE" else np.ones((MINI.norders, MINI.nx)))]

    # Runs

    def run(
        self,
        recipe: str,
        spec: FrameSpec,
        *,
        variant: str = "final",
        star: str = "",
        air: str = "",
        noise: int = 1,
        cards: dict[str, object] | None = None,
        blank: tuple[int, ...] = (),
        **options: object,
    ) -> RecipeResult:
        """Run a telluric recipe on an exposure; `star`, `air`: paths of template and residual model."""
        make = recipe == "obj_mk_tellu"
        fibres = ("AB",) if make else ("AB", "A", "B")
        inputs = {"files": [self.spectrum_file(spec, f, noise, blank, **(cards or {})) for f in fibres]}
        if air:
            inputs["model"] = [air]
        if star:
            inputs["template"] = [star]
        if make:
            made = [("TRANS1" if variant == "p1" else "TRANS2", "AB")]
        else:
            number = "1" if variant == "p1" else ""
            made = (
                [(f"TCORR{number}{s}", f) for s in ("", "_S1D_W", "_S1D_V") for f in fibres]
                + [(f"RECON{number}{s}", "AB") for s in ("", "_S1D_W", "_S1D_V")]
                + [(f"PCLEAN{number}", "AB")]
            )
        outputs = tuple(
            (
                k,
                f,
                folder("reduced", "night", spec.obs_dir, KINDS[k].life)
                + KINDS[k].file_name(spec.identifier, f),
            )
            for k, f in made
        )
        work = self.bench.work(
            recipe, "TELLU", inputs, [], stem=spec.identifier, obs_dir=spec.obs_dir, time=spec.mjd_mid,
            options=tuple(options.items()), calibrations=self.calibrations(spec),
        )  # fmt: skip
        return self.bench.run(replace(work, outputs=outputs, variant=variant))

    def model(self, paths: list[str], variant: str = "final") -> tuple[str, RecipeResult]:
        """Run tellu_model on transmissions; path of the product below the data root."""
        kind = "MODEL1" if variant == "p1" else "MODEL2"
        path = f"reduced/other/{len(paths)}_{KINDS[kind].file_name('', 'AB')}"
        work = self.bench.work("tellu_model", "PCA", {}, [], stem="", obs_dir="")
        work = replace(
            work,
            variant=variant,
            inputs=(("transmissions", tuple(InputFile(p) for p in paths)),),
            outputs=((kind, "AB", path),),
        )
        return path, self.bench.run(work)

    def file(self, result: RecipeResult, kind: str, fibre: str = "AB") -> FitsFile:
        """Product of a run."""
        path = next(o.path for o in result.outputs if (o.kind, o.fibre) == (kind, fibre))
        return FitsFile(self.bench.root / path)


@lru_cache
def _frames(seed: int) -> tuple[FrameSpec, ...]:
    config = Bench(Path(), seed).config
    return tuple(
        s for s in campaign_of(config, velocities=True).frames if s.dprtype in STAR_TYPES and s.target
    )


@lru_cache
def _folder(name: str) -> TemporaryDirectory[str]:
    return TemporaryDirectory(prefix=f"apero-air-{name}-")


@lru_cache
def air_night(seed: int = 1, **changed: object) -> AirNight:
    """Exposures of a seed, with other settings of the atmosphere if wanted."""
    name = "-".join([str(seed), *changed])
    return AirNight(Bench(Path(_folder(name).name), seed), dict(changed))


@lru_cache
def transmissions(seed: int = 1) -> tuple[tuple[str, ...], tuple[RecipeResult, ...]]:
    """Transmissions of all hot stars, first pass: paths below the data root and results."""
    night = air_night(seed)
    results = tuple(night.run("obj_mk_tellu", spec, variant="p1") for spec in night.specs("hot"))
    return tuple(r.outputs[0].path for r in results), results


@lru_cache
def model(seed: int = 1) -> str:
    """Residual model of all hot stars."""
    return air_night(seed).model(list(transmissions(seed)[0]))[0]
