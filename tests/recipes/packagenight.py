"""Products of one frame written by hand, as the recipes before the packaging leave them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from apero_dask.core.products import KINDS, registered_name
from apero_dask.core.work import Calibration, CalibrationFile, InputFile, Work
from apero_dask.io.cards import card_text
from apero_dask.io.fitswriter import Image, Table, write_fits
from apero_dask.io.trees import Trees, find_trees
from apero_dask.recipes.context import RecipeResult, run_recipe
from apero_dask.recipes.postprocess import CAL_POSTPROCESS
from tests.recipes.runs import MINI, VOLATILE

NIGHT, FRAME = "2018-09-25", "2320031o"
FIBRES, SCIENCE = ("AB", "A", "B", "C"), ("AB", "A", "B")
SHAPE = (MINI.norders, MINI.nx)
RAW = {
    "FILENAME": FRAME,
    "OBJECT": "Gl699",
    "DATE-OBS": "2018-09-25",
    "EXPTIME": 61.285,
    "MJDATE": 58386.2,
    "AIRMASS": 1.1,
    "PI_NAME": "it's a name",
}
PREPROCESSED = {"DRSOBJN": "GL699", "DPRTYPE": "OBJ_FP", "MJDMID": 58386.201, "PVERSION": "0.1.0"}


def coefficients(fibre: str) -> np.ndarray:
    """Chebyshev coefficients of a solution, float64[order, 6]; another one for every fibre."""
    rows = [row for row in MINI.table("wave") if row["fibre"] == fibre]
    series = np.array([[float(row[f"c{j}_nm"]) for j in range(6)] for row in rows])
    return series[np.argsort(series[:, 0])]


def wavelengths(fibre: str) -> np.ndarray:
    """Wavelengths at the pixel centres by an evaluation of its own."""
    x = np.arange(MINI.nx, dtype=float)
    return np.array([np.polynomial.Chebyshev(row, domain=[0, MINI.nx])(x) for row in coefficients(fibre)])


def plane(kind: str, fibre: str) -> np.ndarray:
    """Pixels of a product, told apart by kind and fibre; with holes."""
    seed = sum(map(ord, kind + fibre))
    data = np.random.default_rng(seed).uniform(0.5, 1.5, SHAPE) * (seed % 7 + 1)
    data[:, :9] = np.nan
    return data


def column(kind: str, fibre: str, name: str) -> np.ndarray:
    """Column of a merged spectrum."""
    return np.random.default_rng(sum(map(ord, kind + fibre + name))).uniform(0.5, 1.5, 40)


@dataclass
class PackageNight:
    """A data root with the products of one frame; files may be changed before :meth:`run`."""

    root: Path
    leak: bool = True
    corrected: bool = True
    velocity: bool = True
    version: dict[str, str] = field(default_factory=dict)
    """Version by kind, where it is not 0.1.0."""
    wave_file: dict[str, str] = field(default_factory=dict)
    """Name of the solution by kind, where it is another one."""
    changed: dict[str, float] = field(default_factory=dict)
    """nm added to the constant term in the headers of a kind."""
    options: tuple[tuple[str, Any], ...] = ()

    @property
    def trees(self) -> Trees:
        return find_trees(str(self.root))

    def path(self, kind: str, fibre: str = "") -> str:
        """Place of a member below the data root."""
        if kind == "PP":
            return f"tmp/{NIGHT}/{FRAME}_pp.fits"
        if kind == "CCF":
            return f"reduced/{NIGHT}/" + KINDS["CCF"].file_name(f"{FRAME}_pp_e2dsff_tcorr_AB", fibre, "mask")
        stem = "2320004c" if kind in ("WAVE", "BLAZE") else FRAME
        return f"reduced/{NIGHT}/" + KINDS[kind].file_name(stem, fibre)

    def named(self, kind: str, fibre: str) -> str:
        """Registered name of a calibration."""
        return registered_name("night", NIGHT, self.path(kind, fibre).rpartition("/")[2])

    def members(self) -> Iterator[tuple[str, tuple[str, ...]]]:
        """Kinds that are there, and their fibres."""
        yield "E2DSFF", FIBRES
        yield "PP", ("",)
        yield from (("S1D_W", FIBRES), ("S1D_V", FIBRES))
        if self.leak:
            yield from ((kind, SCIENCE) for kind in ("LCORR", "LCORR_S1D_W", "LCORR_S1D_V"))
        if self.corrected:
            yield from ((kind, SCIENCE) for kind in ("TCORR", "TCORR_S1D_W", "TCORR_S1D_V"))
            yield from ((kind, ("AB",)) for kind in ("RECON", "RECON_S1D_W", "RECON_S1D_V", "PCLEAN"))
        if self.velocity:
            yield "CCF", ("AB",)

    def cards(self, kind: str, fibre: str) -> list[str]:
        """Header of a member."""
        values: dict[str, Any] = {**RAW, **PREPROCESSED}
        values |= {"VERSION": self.version.get(kind, "0.1.0"), "DRSPDATE": f"date of {kind}{fibre}"}
        values |= {
            "DRSOUTID": KINDS[kind].outid,
            "RUNIDENT": "0" * 32,
            "INF1000": "an input",
            "QCC_ALL": True,
        }
        if kind == "PP":
            return [card_text(*pair) for pair in values.items()]
        values |= {"FIBER": fibre, "BERV": -12.5, "CDBBLAZE": self.named("BLAZE", fibre)}
        values["CDBWAVE"] = values["WAVEFILE"] = self.wave_file.get(kind, self.named("WAVE", fibre))
        series = coefficients(fibre)
        values |= {"WAVEORDN": len(series), "WAVEDEGN": 5, "WAVEPOLY": "Chebyshev"}
        for k, value in enumerate(series.ravel()):
            shift = self.changed.get(kind, 0.0) if k == 0 else 0.0
            values[f"WAVE{k:04d}"] = float(value) + shift
        return [card_text(*pair) for pair in values.items()]

    def write(self, kind: str, fibre: str, *extensions: Image | Table) -> None:
        path = self.root / self.path(kind, fibre)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_fits(path, self.cards(kind, fibre), extensions)

    def write_all(self) -> None:
        """Write members and calibrations."""
        for kind, fibres in self.members():
            for fibre in fibres:
                self.write(kind, fibre, *self.extensions(kind, fibre))
        for fibre in FIBRES:
            self.write("WAVE", fibre, Image("WAVE_NIGHT", wavelengths(fibre), "nm"))
            self.write("BLAZE", fibre, Image("FF_BLAZE", plane("BLAZE", fibre)))

    def extensions(self, kind: str, fibre: str) -> list[Image | Table]:
        """Data of a member."""
        name = KINDS[kind].outid
        if "S1D" in kind:
            names = ("flux", "eflux", "weight")
            columns = {"wavelength": 965.0 + 0.005 * np.arange(40)}
            return [Table(name, columns | {n: column(kind, fibre, n) for n in names}, {"wavelength": "nm"})]
        if kind == "CCF":
            velocity = {"RV": np.arange(-5.0, 5.0), "ORDER00": np.ones(10), "Combined": np.ones(10)}
            return [Table(name, velocity, {"RV": "km/s"}), Table("ORDER_TABLE", {"Orders": np.arange(3)})]
        more: list[Image | Table] = [Image("VARIANCE", plane(kind, fibre) + 1.0)]
        if kind == "PCLEAN":
            more = [Image("PCA_SKY", plane("PCA_SKY", fibre))]
        return [Image(name, plane(kind, fibre), "electron"), *more]

    def calibrations(self) -> tuple[Calibration, ...]:
        """Chosen wavelength solution and blaze."""
        found = []
        for kinds, kind in ((("WAVE",), "WAVE"), (("FLAT", "BLAZE"), "BLAZE")):
            files = [
                CalibrationFile(kind, f, self.path(kind, f), "", f"{kind}{f}", self.named(kind, f))
                for f in FIBRES
            ]
            found.append(Calibration(kinds, "", "", "run", NIGHT, 58386.0, 1, False, kind, tuple(files)))
        return tuple(found)

    def work(self) -> Work:
        """Run of the packaging, as the driver would hand it to a worker."""
        by_kind = {a.kinds[0]: a.name for a in CAL_POSTPROCESS.arguments}
        outputs = tuple(
            (makes.kind, "", f"out/{NIGHT}/{FRAME[:7]}{KINDS[makes.kind].suffix}.fits")
            for makes in CAL_POSTPROCESS.makes
        )
        return Work(
            key="00001.29.00001", short="SCIPOST", recipe="cal_postprocess", tier="night", variant="",
            obs_dir=NIGHT, object="GL699", stem=FRAME, time=58386.2, identity="1" * 32, code="",
            invocation="test", instrument="SPIROU_MINI", trees=(),
            inputs=tuple(
                (by_kind[kind], tuple(InputFile(self.path(kind, fibre)) for fibre in fibres))
                for kind, fibres in self.members()
            ),
            planned_inputs=(), calibrations=self.calibrations(), outputs=outputs, options=self.options,
            science="star", reference="fp", volatile=VOLATILE,
        )  # fmt: skip

    def run(self) -> RecipeResult:
        """Package the frame."""
        return run_recipe(self.work(), self.trees, MINI)

    def out(self, letter: str) -> Path:
        """A packaged file."""
        return self.root / "out" / NIGHT / f"{FRAME[:7]}{letter}.fits"
