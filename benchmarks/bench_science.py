"""Time cross-correlation and templates at full size, on spectra drawn here.

    OMP_NUM_THREADS=1 python benchmarks/bench_science.py [ccf] [template] [--frames N] [--folder DIR]

``ccf``: 49 orders over +-300 km/s in steps of 0.5, expected light, slope, fits, bisector and photon noise, in
CPU seconds and in *copies*, multiples of copying one float64 array of 4096 x 4096 (134 MB) in the same run.
``template``: obj_mk_template of N frames (default 100) on files written to the folder first; CPU seconds and
the largest resident size of the process.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from apero_dask.core.products import KINDS
from apero_dask.core.work import Calibration, CalibrationFile, InputFile, Work
from apero_dask.instruments import Instrument, instrument
from apero_dask.io.cards import card_text
from apero_dask.io.fitswriter import Image, Table, write_fits
from apero_dask.io.trees import find_trees
from apero_dask.recipes.wave_maps import WaveMap, coefficient_columns, first_guess
from apero_dask.recipes.wave_products import map_cards

NIGHT = "2018-09-25"
C_KMS = 299792.458


def drawn(i: Instrument, velocity: float = 0.0) -> tuple[np.ndarray, np.ndarray, np.ndarray, WaveMap]:
    """Spectrum, blaze, wavelengths and their map: Gaussian lines at the positions of the packaged mask."""
    from apero_dask.recipes.line_mask import builtin_mask

    mask, solution = builtin_mask(), first_guess(i, "AB")
    wave = solution.image()
    flux, blaze = np.ones(wave.shape), np.empty(wave.shape)
    for o, row in enumerate(wave):
        u = np.linspace(-1.0, 1.0, row.size)
        blaze[o] = 2e4 * np.sinc(0.75 * u) ** 2
        near = (mask.wave > row[0]) & (mask.wave < row[-1])
        for line, depth in zip(mask.wave[near] * (1 + velocity / C_KMS), mask.weight[near], strict=True):
            k = slice(*np.searchsorted(row, line * (1 + np.array([-15.0, 15.0]) / C_KMS)))
            flux[o, k] *= 1 - min(depth, 0.9) * np.exp(-0.5 * (C_KMS * (row[k] / line - 1) / 2.5) ** 2)
    return flux * blaze, blaze, wave, solution


def time_ccf(repeat: int) -> None:
    from apero_dask.recipes.ccf_fit import bisector
    from apero_dask.recipes.ccf_lines import expected_light
    from apero_dask.recipes.ccf_velocity import star_velocity
    from apero_dask.recipes.line_mask import builtin_mask
    from apero_dask.recipes.photon_noise import spectrum_noise

    flux, blaze, wave, _ = drawn(instrument("SPIROU"))
    noise = flux + 900.0
    flux = flux + np.sqrt(noise) * np.random.default_rng(1).standard_normal(flux.shape)
    mask = builtin_mask()

    def correlate() -> str:
        light = expected_light(flux, noise, blaze, wave)
        found = star_velocity(light, mask, 0.0, target=0.0, half=300.0, step=0.5, mode="all")
        bisector(found.velocity, found.mean, found.fit)
        spectrum_noise(flux, noise, wave)
        return f"{found.lines.sum()} lines, {1e3 * found.rv:.2f} +- {found.noise:.2f} m/s"

    text = correlate()
    source = np.random.default_rng(0).random((4096, 4096))
    target = np.empty_like(source)
    unit = min(_cpu(lambda: np.copyto(target, source)) for _ in range(max(repeat, 5)))
    seconds = min(_cpu(correlate) for _ in range(repeat))
    print(f"one copy of 134 MB: {1e3 * unit:.1f} ms")
    print(f"cross-correlation, fits and noise: {seconds:.3f} s CPU, {seconds / unit:.1f} copies; {text}")


def time_template(frames: int, folder: Path | None) -> None:
    from apero_dask.recipes.context import run_recipe

    i = instrument("SPIROU")
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as name:
        root = Path(name)
        work = _frames(root, i, frames)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
        start, cpu = time.monotonic(), time.process_time()
        run_recipe(work, find_trees(str(root)), i)
        wall, cpu = time.monotonic() - start, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(
        f"template of {frames} frames: {cpu:.1f} s CPU, {wall:.1f} s wall, peak memory {peak:.2f} GB "
        f"({before:.2f} GB before)"
    )


def _frames(root: Path, i: Instrument, frames: int) -> Work:
    """Write the spectra, blaze and reference wavelengths; the run that combines them."""
    flux, blaze, wave, solution = drawn(i)
    place = root / "reduced" / NIGHT
    place.mkdir(parents=True)
    columns = Table("COEFF_TABLE", coefficient_columns(solution))
    write_fits(place / "wavem_AB.fits", [], [Image("WAVEM", wave), columns])
    write_fits(place / "blaze_AB.fits", [], [Image("BLAZE", blaze)])
    cards = {key: value[0] for key, value in map_cards(solution, i, "wave_AB.fits", 58386.0, "drawn").items()}
    rng = np.random.default_rng(1)
    files = []
    for k in range(frames):
        noise = flux + 900.0
        header = cards | {
            "FILENAME": f"{2400000 + k}o", "BERV": float(rng.uniform(-25, 25)), "BJD": 2458386.5 + k,
            "MJDMID": 58386.0 + k, f"EXTSN{i.snr_telluric:03d}": 140.0, "CDBBLAZE": "blaze_AB.fits",
            "CDNBLAZE": NIGHT, "DRSOBJN": "GL699", "OBJTEMP": 3300.0,
        }  # fmt: skip
        path = place / KINDS["TCORR1"].file_name(f"{2400000 + k}o", "AB")
        shown = flux + np.sqrt(noise) * rng.standard_normal(flux.shape)
        extensions = [Image("TCORR", shown), Image("VARIANCE", noise), Image("RECON", np.ones(flux.shape))]
        write_fits(path, [card_text(key, value, "") for key, value in header.items()], extensions)
        files.append(InputFile(f"reduced/{NIGHT}/{path.name}"))
    kinds = ("TEMPLATE", "TEMPLATE_W", "TEMPLATE_V", "BIGCUBE", "BIGCUBE0")
    made = tuple((kind, "AB", f"reduced/other/{KINDS[kind].file_name('GL699', 'AB')}") for kind in kinds)
    reference = CalibrationFile("WAVEM", "AB", f"reduced/{NIGHT}/wavem_AB.fits")
    return Work(
        key="00001.1.00001", short="FTELLU2", recipe="obj_mk_template", tier="night", variant="", obs_dir="",
        object="GL699", stem="GL699", time=58386.0, identity="bench", code="", invocation="bench",
        instrument=i.name, trees=(), inputs=(("files", tuple(files)),), planned_inputs=(),
        calibrations=(Calibration(("WAVEM",), "", "", "bench WAVEM", files=(reference,)),), outputs=made,
    )  # fmt: skip


def _cpu(function: Callable[[], object]) -> float:
    start = time.process_time()
    function()
    return time.process_time() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="ccf, template; default: both")
    parser.add_argument("--frames", type=int, default=100)
    parser.add_argument("--folder", type=Path, help="where the frames are written (5 MB each)")
    parser.add_argument("--repeat", type=int, default=5)
    arguments = parser.parse_args()
    names = arguments.names or ["ccf", "template"]
    unknown = set(names) - {"ccf", "template"}
    if unknown:
        parser.error(f"no benchmark {', '.join(sorted(unknown))}; there are ccf, template")
    if "ccf" in names:
        time_ccf(arguments.repeat)
    if "template" in names:
        time_template(arguments.frames, arguments.folder)


if __name__ == "__main__":
    main()
