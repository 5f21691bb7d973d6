"""Calibrations and calibrated frames made of the simulator's truth, without preprocessing.

With them the recipes behind the shape are judged on their own; chain tests use what the recipes made.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from apero_kernels.ramps import ramp_factors
from apero_kernels.repair import fill_isolated
from scipy.interpolate import CubicSpline

from apero_dask.core.work import Calibration, CalibrationFile
from apero_dask.io.cards import card_text
from apero_dask.io.fitswriter import Image, Table, write_fits
from apero_dask.recipes.calibrated import Calibrated
from apero_dask.recipes.context import RecipeContext
from apero_dask.simulator.coupling import couple_neighbours
from apero_dask.simulator.detector import static_detector
from apero_dask.simulator.paint import Painted, PhotonTruth, paint
from apero_dask.simulator.spec import FrameSpec
from apero_dask.simulator.tables import load_instrument
from tests.recipes.night import cal_orientation
from tests.recipes.runs import MINI, Bench

FIBRES = "ABC"


@dataclass(frozen=True)
class Maps:
    """True transform of a night."""

    affine: np.ndarray
    dxmap: np.ndarray
    dymap: np.ndarray
    rows: np.ndarray
    """(fibre, order): row of a trace in the straightened frame."""
    columns: np.ndarray
    """(fibre, order, x): column of the frame at which column x of the straightened trace is found."""


def true_maps(truth: PhotonTruth, affine: Sequence[float] | None = None) -> Maps:
    """Maps whose straightened orders are horizontal and whose lines are upright, from the arrays painted.

    The trace keeps its column: only the affine transform moves it.  The vertical displacement is a polynomial
    of degree 6 across the frame in every column, through all traces.

    Parameters
    ----------
    affine
        Transform to divide off; the maps take up what it leaves.
    """
    dx, dy, a, b, c, d = vector = np.array(truth.affine if affine is None else affine, float)
    inverse = np.linalg.inv(np.array([[a, b], [c, d]]))
    nx, ny = MINI.nx, MINI.ny
    x = np.arange(nx, dtype=float)
    traces = [[CubicSpline(x, truth.trace_px[f, o]) for o in range(MINI.norders)] for f in range(3)]
    middle = nx // 2
    rows = np.zeros((3, MINI.norders))
    columns = np.zeros((3, MINI.norders, nx))
    for f in range(3):
        for o in range(MINI.norders):
            row = float((inverse @ [0.0, traces[f][o](middle) - dy])[1])
            for _ in range(6):
                # Row of the straightened frame that is found on the trace in the middle column.
                row = float(traces[f][o](dx + a * middle + b * row) - dy - c * middle) / d
            rows[f, o] = row
            columns[f, o] = dx + a * x + b * row
    order = np.argsort(rows.ravel())
    sorted_rows = rows.ravel()[order]
    shift = np.array([traces[k // MINI.norders][k % MINI.norders](columns.reshape(-1, nx)[k]) for k in order])
    shift -= dy + c * x + d * sorted_rows[:, None]
    y = np.arange(ny, dtype=float)
    # A spline through fibres 18 px apart would overshoot between orders; traces are smooth across the frame.
    fit = np.polynomial.chebyshev.chebfit(2 * sorted_rows / ny - 1, shift, 6)
    dymap = np.polynomial.chebyshev.chebval(2 * y / ny - 1, fit).T
    border = 0.5 * (sorted_rows[1:] + sorted_rows[:-1])
    nearest = order[np.searchsorted(border, y)]
    dxmap = np.zeros((ny, nx))
    for row in range(ny):
        f, o = divmod(int(nearest[row]), MINI.norders)
        at = columns[f, o]
        height = dy + c * x + d * row + dymap[row] - traces[f][o](at)
        offset = np.interp(height, truth.slice_height_px[f, o, :, middle], truth.slice_offset_px[o])
        dxmap[row] = at + offset + np.interp(at, x, truth.tan_tilt[f, o]) * height - (dx + a * x + b * row)
    return Maps(vector, dxmap.astype(np.float32), dymap.astype(np.float32), rows, columns)


@dataclass
class TruthNight:
    """First night of a seed: frames as they would be after a perfect calibration, and true calibrations."""

    bench: Bench
    affine: Sequence[float] | None = None
    painted: dict[tuple[object, ...], Painted] = field(default_factory=dict)

    @cached_property
    def night(self) -> str:
        return self.bench.specs("FLAT_FLAT")[0].obs_dir

    @cached_property
    def response(self) -> np.ndarray:
        """Response of the pixels, calibrated frame."""
        geometry, _ = load_instrument("SPIROU_MINI", self.bench.config.geometry)
        return cal_orientation(static_detector(self.bench.detector, geometry, self.bench.seed).response)

    @cached_property
    def maps(self) -> Maps:
        return true_maps(self.truth(self.specs("FLAT_FLAT")[0]), self.affine)

    def specs(self, dprtype: str) -> list[FrameSpec]:
        """Exposures of a type in this night."""
        return [spec for spec in self.bench.specs(dprtype) if spec.obs_dir == self.night]

    def paint(self, spec: FrameSpec, optics: dict[str, object] | None = None, **scene: object) -> Painted:
        """Light of an exposure without scattered light, with other optics and scene if wanted."""
        changed = {"scatter": False, **(optics or {})}
        key = (spec.identifier, *sorted(changed.items()), *sorted(scene.items()))
        if key not in self.painted:
            config = self.bench.config
            config = replace(
                config, optics=replace(config.optics, **changed), scene=replace(config.scene, **scene)
            )
            self.painted[key] = paint(config, spec)
        return self.painted[key]

    def truth(self, spec: FrameSpec) -> PhotonTruth:
        """Arrays a frame was painted from."""
        return self.paint(spec).truth

    def light(self, spec: FrameSpec, optics: dict[str, object] | None = None, **scene: object) -> np.ndarray:
        """Expected light of an exposure, electrons, calibrated frame."""
        rate = self.paint(spec, optics, **scene).rate
        return rate[MINI.y0 : MINI.y0 + MINI.ny, MINI.x0 : MINI.x0 + MINI.nx] * spec.exptime_s

    def frame(
        self,
        spec: FrameSpec,
        frames: int = 1,
        *,
        seed: int = 0,
        noise: bool = True,
        response: bool = False,
        light: np.ndarray | None = None,
    ) -> Calibrated:
        """Mean of `frames` exposures after a perfect calibration: light, its noise, holes of bad pixels.

        Parameters
        ----------
        response
            Multiply by the response of the pixels; those below a half are bad.
        light
            Instead of that of the exposure.
        """
        expected = self.light(spec) if light is None else light
        if response:
            expected = expected * self.response
        expected = couple_neighbours(expected, self.bench.detector.ipc_fraction)
        read, photon = ramp_factors(spec.nreads)
        base = np.full(expected.shape, read * MINI.read_noise_e**2 / frames)
        image = expected.copy()
        if noise:
            rng = np.random.default_rng([self.bench.seed, seed, spec.index])
            image += np.sqrt(base + photon / frames * expected) * rng.standard_normal(expected.shape)
        image, base = image.astype(np.float32), base.astype(np.float32)
        if response:
            image[self.response < 0.5] = np.nan
            base[self.response < 0.5] = np.nan
        whole, whole_base = np.empty_like(image), np.empty_like(base)
        fill_isolated(image, base, whole, whole_base)
        variance = whole_base + np.float32(photon / frames) * np.maximum(whole, 0)
        effron = float(np.sqrt(read / frames) * MINI.read_noise_e)
        return Calibrated(whole, variance, whole_base, photon / frames, spec.exptime_s, effron)

    def spectrum(self, truth: PhotonTruth, fibre: str, *names: str) -> np.ndarray:
        """True spectrum in the straightened columns, electrons; all kinds of light unless some are named."""
        wanted = [values for name, values in truth.spectra.items() if not names or name in names]
        light = sum(wanted, np.zeros((3, MINI.norders, MINI.nx)))
        total = np.zeros((MINI.norders, MINI.nx))
        for letter in fibre:
            f = FIBRES.index(letter)
            for o in range(MINI.norders):
                total[o] += CubicSpline(np.arange(MINI.nx), light[f, o])(self.maps.columns[f, o])
        # The maps keep the columns of a trace, but for the scale of the affine transform.
        return total * self.maps.affine[2]

    # Calibrations

    @cached_property
    def calibrations(self) -> tuple[Calibration, ...]:
        """Localisation, order profiles and shape, as files."""
        maps = self.maps
        truth = self.truth(self.specs("FLAT_FLAT")[0])
        found = [
            self.file(("SHAPEX", "SHAPEY"), "", [(Image("X", maps.dxmap),), (Image("Y", maps.dymap),)]),
            self.file(("SHAPEL",), "", [(Image("L", maps.affine[None]),)]),
        ]
        for group, dprtype in (("AB", "FLAT_DARK"), ("C", "DARK_FLAT")):
            light = self.light(self.specs(dprtype)[0], {"leak": False})
            # What a lamp shows: a pixel also holds signal of its neighbours.
            light = couple_neighbours(light, self.bench.detector.ipc_fraction).astype(np.float32)
            tables = _trace_tables(truth, group)
            contents = [(Image("LOC", np.zeros((2, 2), np.float32)), *tables), (Image("P", light),)]
            found.append(self.file(("LOC", "ORDER_PROFILE"), group, contents))
        return tuple(found)

    def file(
        self,
        kinds: tuple[str, ...],
        fibre: str,
        contents: Sequence[tuple[Image | Table, ...]],
        *,
        applies_to: str = "",
        cards: Sequence[tuple[str, object]] = (),
    ) -> Calibration:
        """Write files and return them as the choice of a run."""
        folder = self.bench.root / "calibDB"
        folder.mkdir(parents=True, exist_ok=True)
        files = []
        for kind, extensions in zip(kinds, contents, strict=True):
            name = f"truth_{kind.lower()}_{fibre or 'all'}_{applies_to}.fits"
            head = [card_text("DRSOUTID", kind, "truth"), *(card_text(k, v, "truth") for k, v in cards)]
            written = write_fits(folder / name, head, extensions)
            files.append(
                CalibrationFile(kind, fibre, f"calibDB/{name}", written.digest, written.content, name)
            )
        return Calibration(
            kinds, fibre, applies_to, f"truth {kinds[0]} {fibre}".strip(), rank=1, files=tuple(files)
        )

    def several(
        self,
        kinds: tuple[str, ...],
        contents: dict[str, list[tuple[Image | Table, ...]]],
        *,
        applies_to: str = "",
        cards: Sequence[tuple[str, object]] = (),
    ) -> Calibration:
        """One calibration with files for several fibres."""
        parts = [self.file(kinds, f, c, applies_to=applies_to, cards=cards) for f, c in contents.items()]
        files = tuple(file for part in parts for file in part.files)
        return replace(parts[0], fibre="", files=files)

    def context(self, recipe: str, *more: Calibration, **values: object) -> RecipeContext:
        """Context of a run that makes nothing, to call the parts of a recipe."""
        work = self.bench.work(
            recipe, "TEST", {}, [], stem="1f", obs_dir=self.night,
            calibrations=(*self.calibrations, *more), **values,
        )  # fmt: skip
        return RecipeContext(work, self.bench.trees, MINI)


def _trace_tables(truth: PhotonTruth, group: str) -> tuple[Table, Table]:
    u = 2 * np.arange(MINI.nx) / MINI.nx - 1
    orders, fibres, centres = [], [], []
    for o in range(MINI.norders):
        for letter in (f for f in "BAC" if f in group):
            orders.append(o)
            fibres.append(letter)
            centres.append(np.polynomial.chebyshev.chebfit(u, truth.trace_px[FIBRES.index(letter), o], 6))
    widths = np.zeros((len(orders), 2))
    widths[:, 0] = 14.0

    def table(name: str, values: np.ndarray) -> Table:
        columns = {f"COEFFS_{k}": values[:, k] for k in range(values.shape[1])}
        return Table(name, {"ORDER": np.array(orders), "FIBER": fibres, **columns})

    return table("CENTRES", np.array(centres)), table("WIDTHS", widths)


@lru_cache
def _folder(seed: int) -> TemporaryDirectory[str]:
    return TemporaryDirectory(prefix=f"apero-truth-{seed}-")


@lru_cache
def truth_night(seed: int = 1) -> TruthNight:
    """Night of a seed, made once."""
    return TruthNight(Bench(Path(_folder(seed).name), seed))
