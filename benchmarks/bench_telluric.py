"""CPU seconds of the telluric recipes at full size, once compiled and with the tables of the process loaded.

    python benchmarks/bench_telluric.py [--instrument SPIROU] [--hot N]

Spectra are made of the built-in absorption table seen through a constant line spread, with photon noise:
costs only, nothing is judged.
"""

from __future__ import annotations

import argparse
import os
import resource
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ.setdefault(name, "1")

import numpy as np  # noqa: E402

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "kernels")]

import apero_dask.recipes  # noqa: E402, F401  (declares the recipes)
from apero_dask.core.products import KINDS  # noqa: E402
from apero_dask.core.work import Calibration, CalibrationFile, InputFile, Work  # noqa: E402
from apero_dask.instruments import INSTRUMENTS, Instrument, instrument  # noqa: E402
from apero_dask.io.cards import card_text  # noqa: E402
from apero_dask.io.fitswriter import Image, Table, write_fits  # noqa: E402
from apero_dask.io.trees import find_trees  # noqa: E402
from apero_dask.recipes.context import run_recipe  # noqa: E402
from apero_dask.recipes.sky_absorption import STEP_KMS, read_absorption  # noqa: E402
from apero_dask.recipes.wave_maps import coefficient_columns, first_guess  # noqa: E402

FWHM_KMS, EXPONENT = 5.2, 2.1
FIBRES = ("AB", "A", "B")


class Kept:
    """Cache of a process."""

    def __init__(self) -> None:
        self.values: dict[str, object] = {}

    def get(self, key, loader):
        if key not in self.values:
            self.values[key] = loader()
        return self.values[key]


def spectrum(
    chosen: Instrument, water: float, airmass: float, snr: float, lines: bool, seed: int
) -> np.ndarray:
    """Star behind the atmosphere, electrons, float64[order, x]."""
    from apero_kernels.absorption import spread

    rng = np.random.default_rng(seed)
    wave = first_guess(chosen, "AB").image()
    table = read_absorption(None, float(wave[0, 0]) - 1, float(wave[-1, -1]) + 1)
    air = np.exp(-(water * table.depth[0] + airmass * table.depth[1])).astype(np.float64)
    if lines:
        # Lines of a cool star: three per nm, up to 40 per cent deep.
        star = np.ones(air.size)
        for place in rng.integers(100, air.size - 100, 4600):
            v = (np.arange(place - 60, place + 61) - place) * STEP_KMS
            star[place - 60 : place + 61] *= 1 - 0.4 * rng.random() * np.exp(-0.5 * (v / 2.0) ** 2)
        air *= star
    out = np.empty((1, *wave.shape))
    spread(
        air[None],
        table.place(wave),
        np.full(wave.shape, FWHM_KMS),
        np.full(wave.shape, EXPONENT),
        STEP_KMS,
        out,
    )
    level = snr**2 * np.nan_to_num(out[0]) * blaze(chosen)
    return level + np.sqrt(level + 1800.0) * rng.standard_normal(level.shape)


def blaze(chosen: Instrument) -> np.ndarray:
    u = np.linspace(-0.8, 0.8, chosen.nx)
    return np.tile(np.sinc(u) ** 2, (chosen.norders, 1))


def calibrations(root: Path, chosen: Instrument) -> tuple[Calibration, ...]:
    shape = (chosen.norders, chosen.nx)
    wave = first_guess(chosen, "AB")
    solution = [Image("WAVE", wave.image()), Table("COEFF_TABLE", coefficient_columns(wave))]
    widths = [Image("E2DS_FWHM", np.full(shape, FWHM_KMS)), Image("E2DS_EXPO", np.full(shape, EXPONENT))]
    contents = {
        "WAVE": solution, "WAVEM": solution, "WAVR_E2DS": [Image("W", np.ones(shape)), *widths],
        "FLAT": [Image("F", np.ones(shape))], "BLAZE": [Image("B", 1e5 * blaze(chosen))],
    }  # fmt: skip
    found = []
    for kinds in (("WAVE",), ("WAVEM", "WAVR_E2DS"), ("FLAT", "BLAZE")):
        files = []
        for kind in kinds:
            name = f"{kind.lower()}.fits"
            (root / "calibDB").mkdir(exist_ok=True)
            write_fits(root / "calibDB" / name, [card_text("DRSOUTID", kind, "")], contents[kind])
            files += [CalibrationFile(kind, f, f"calibDB/{name}", "", name, name) for f in FIBRES]
        found.append(Calibration(kinds, "", "", f"benchmark {kinds[0]}", rank=1, files=tuple(files)))
    return tuple(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--instrument", default=INSTRUMENTS[0], choices=INSTRUMENTS)
    parser.add_argument("--hot", type=int, default=5, help="transmissions of the model")
    arguments = parser.parse_args()
    chosen = instrument(arguments.instrument)
    with tempfile.TemporaryDirectory() as folder:
        root, cache = Path(folder), Kept()
        trees, chain = find_trees(folder), calibrations(root, chosen)
        (root / "reduced" / "night").mkdir(parents=True)

        def write(stem: str, fibre: str, flux: np.ndarray, airmass: float) -> str:
            values = {
                "FIBER": fibre,
                "AIRMASS": airmass,
                "MJDMID": 58386.0,
                "BERV": -20.0,
                "DPRTYPE": "OBJ_DARK",
            }
            values |= {f"EXTSN{o:03d}": 200.0 for o in range(chosen.norders)}
            path = f"reduced/night/{stem}_pp_e2dsff_{fibre}.fits"
            write_fits(
                root / path,
                [card_text(k, v, "") for k, v in values.items()],
                [Image("E", flux), Image("VARIANCE", np.maximum(flux, 0) + 1800.0)],
            )
            return path

        def work(recipe: str, stem: str, inputs: dict[str, list[str]], made: list[tuple[str, str]]) -> Work:
            return Work(
                key="1", short="T", recipe=recipe, tier="night", variant="final", obs_dir="night", object="",
                stem=stem, time=58386.0, identity=f"{recipe}{stem}", code="", invocation="b",
                instrument=chosen.name, trees=(),
                inputs=tuple((k, tuple(InputFile(p) for p in v)) for k, v in inputs.items()),
                planned_inputs=(), calibrations=chain if recipe != "tellu_model" else (),
                outputs=tuple((k, f, f"reduced/night/{KINDS[k].file_name(stem, f)}") for k, f in made),
            )  # fmt: skip

        def timed(label: str, done: Work) -> None:
            run_recipe(done, trees, chosen, cache=cache)
            start, wall = time.process_time(), time.perf_counter()
            run_recipe(done, trees, chosen, cache=cache)
            cpu, wall = time.process_time() - start, time.perf_counter() - wall
            print(f"{label:<44} {cpu:6.2f} CPU s {wall:7.2f} s", flush=True)

        paths = []
        for k in range(arguments.hot):
            water, airmass = 1.5 + k, 1.1 + 0.3 * k
            stem = f"{k}o"
            files = [write(stem, "AB", spectrum(chosen, water, airmass, 250.0, False, k), airmass)]
            task = work("obj_mk_tellu", stem, {"files": files}, [("TRANS2", "AB")])
            if k == 0:
                timed("obj_mk_tellu", task)
            else:
                run_recipe(task, trees, chosen, cache=cache)
            paths.append(task.outputs[0][2])
        task = work("tellu_model", "m", {"transmissions": paths}, [("MODEL2", "AB")])
        timed(f"tellu_model, {len(paths)} transmissions", task)
        star = spectrum(chosen, 3.0, 1.4, 150.0, True, 99)
        files = [write("9o", f, star / (1 if f == "AB" else 2), 1.4) for f in FIBRES]
        made = [(f"TCORR{s}", f) for s in ("", "_S1D_W", "_S1D_V") for f in FIBRES]
        made += [(f"RECON{s}", "AB") for s in ("", "_S1D_W", "_S1D_V")] + [("PCLEAN", "AB")]
        inputs = {"files": files, "model": [task.outputs[0][2]]}
        fit = work("obj_fit_tellu", "9o", inputs, made)
        timed("obj_fit_tellu, 13 products", fit)
        timed("obj_fit_tellu --model pca", replace(fit, options=(("model", "pca"),)))
        template = np.where(blaze(chosen) > 0.1, 1.0, np.nan) * (1 + 0.05 * np.sin(np.arange(chosen.nx)))
        write_fits(root / "template.fits", [], [Image("T", template)])
        (root / "reduced" / "other").mkdir()
        (root / "template.fits").rename(root / "reduced" / "other" / "template.fits")
        with_star = work("obj_fit_tellu", "9o", {**inputs, "template": ["reduced/other/template.fits"]}, made)
        timed("obj_fit_tellu with a template", with_star)
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6:.2f} GB")


if __name__ == "__main__":
    main()
