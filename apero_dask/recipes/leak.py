"""cal_leak_master and cal_leak: Fabry-Perot light of the reference fibre in the science fibres."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from apero_dask.core.declare import (
    Argument,
    Group,
    Makes,
    Option,
    Recipe,
    Resources,
    Select,
    register,
)
from apero_dask.instruments import hint_of_shape
from apero_dask.recipes.options import EXTRACTION_SET, FIBRES, GENERAL, SCIENCE, frames

if TYPE_CHECKING:
    import numpy as np

    from apero_dask.io.fits import FitsFile
    from apero_dask.recipes.context import RecipeContext
    from apero_dask.recipes.spectrum import Spectrum
    from apero_dask.recipes.straight import Straight

PEDESTAL, AMPLITUDE = 5.0, 90.0
"""Percentiles of the reference fibre that stand for its pedestal and for the amplitude of its comb."""
FEWEST_FILES = 3
LARGEST_SCATTER = 0.2
"""Informative: scatter of the leak over the files relative to its 99th percentile."""


def cal_leak_master(ctx: RecipeContext) -> None:
    """Measure how Fabry-Perot light of the reference fibre appears in dark science fibres.

    Raises
    ------
    DataError
        No usable frame, or a calibration that does not fit.
    """
    import numpy as np

    from apero_dask.core.errors import DataError
    from apero_dask.io.fitswriter import Image
    from apero_dask.recipes.imagecal import alike, open_frames
    from apero_dask.recipes.leak_light import (
        SMOOTH_REACH,
        SMOOTH_WIDTH,
        LeakKernel,
        fit_leak,
        kernel_table,
        without_holes,
    )

    files, dropped = alike(ctx, open_frames(ctx, "files"))
    if not files:
        raise DataError(
            f"{ctx.work.recipe} of {ctx.work.obs_dir}: no frame of {len(dropped)} resembles the others; look "
            "at them and reject the bad ones."
        )
    spectra: dict[str, list[Spectrum]] = {}
    cards: dict[str, dict[str, Any]] = {}
    for file in files:
        for fibre, (spectrum, text) in _one_frame(ctx, file).items():
            spectra.setdefault(fibre, []).append(spectrum)
            cards.setdefault(fibre, text)
    (reference,) = ctx.instrument.reference_fibres
    combs = [without_holes(spectrum.e2dsff) for spectrum in spectra[reference]]
    normalised, amplitude = zip(*(_normalised(s.e2dsff) for s in spectra[reference]), strict=True)
    comb = _median(normalised)
    kernels: dict[str, LeakKernel] = {}
    measured: dict[str, np.ndarray] = {}
    for fibre in ctx.instrument.science_fibres:
        flux = [spectrum.e2dsff for spectrum in spectra[fibre]]
        noise = [spectrum.variance_ff for spectrum in spectra[fibre]]
        kernels[fibre] = fit_leak(flux, noise, combs, ctx.instrument.echelle)
        templates = [_template(f, a) for f, a in zip(flux, amplitude, strict=True)]
        measured[fibre] = _median(templates)
        scatter = _scatter(templates)
        top = float(np.nanpercentile(measured[fibre], 99.0))
        ctx.qc(
            f"LEAK_SCATTER_{fibre}", scatter / top, f"LEAK_SCATTER >= {LARGEST_SCATTER}",
            scatter / top < LARGEST_SCATTER, informative=True,
        )  # fmt: skip
    ctx.qc(
        "LEAK_FILES", len(files), f"LEAK_FILES < {FEWEST_FILES}", len(files) >= FEWEST_FILES, informative=True
    )
    for name, value in (("PEDESTAL", PEDESTAL), ("AMPLITUDE", AMPLITUDE), ("SMOOTH_WIDTH", SMOOTH_WIDTH)):
        ctx.parameter(name, value)
    for fibre in (reference, *ctx.instrument.science_fibres):
        header = {
            **cards[fibre],
            "LEAKMNFI": (len(files), "frames used"),
            "LEAKMDRO": (len(dropped), "frames unlike the others, left out"),
            "LEAKMWSM": (SMOOTH_WIDTH, "[px] width beyond which light is no comb"),
            "LEAKMKSZ": (SMOOTH_REACH, "[px] reach of that smoothing"),
            "LEAK_BPU": (PEDESTAL, "percentile of the pedestal of the comb"),
            "LEAK_NPU": (AMPLITUDE, "percentile of the amplitude of the comb"),
        }
        if fibre == reference:
            ctx.save("LEAKM", Image("LEAKM", comb), fibre=fibre, header=header)
            continue
        kernel = kernels[fibre]
        ctx.save(
            "LEAKM",
            Image("LEAKM", np.where(np.isfinite(comb), kernel.light(without_holes(comb)), np.nan)),
            Image("MEASURED", measured[fibre]),
            kernel_table(kernel, ctx.instrument.echelle),
            fibre=fibre,
            header=header,
        )


def _one_frame(ctx: RecipeContext, file: FitsFile) -> dict[str, tuple[Spectrum, dict[str, Any]]]:
    """Spectra of all fibres of one frame and their header cards; thermal light of the reference removed."""
    from apero_dask.recipes.calibrated import calibrate, calibration_cards
    from apero_dask.recipes.imagecal import image_rows, variance_rows
    from apero_dask.recipes.spectrum import extract_fibre, extraction_cards, location_cards
    from apero_dask.recipes.straight import straighten
    from apero_dask.recipes.thermal_light import remove_thermal

    i = ctx.instrument
    rows = i.raw_columns
    frame = calibrate(
        ctx, image_rows(file, 0, rows), variance_rows(file, 0, rows, i), (file,), statistic="mean"
    )
    straight = straighten(ctx, frame)
    found = {}
    for fibre in i.fibres:
        seen = fibre in i.reference_fibres
        spectrum = extract_fibre(ctx, straight, fibre) if seen else dark_spectrum(ctx, straight, fibre)
        text: dict[str, Any] = {}
        if seen:
            spectrum, text = remove_thermal(ctx, spectrum, frame.exposure_s, "fp")
        text = {
            **calibration_cards(frame),
            **extraction_cards(ctx, straight, spectrum),
            **location_cards(ctx, fibre),
            **text,
        }
        found[fibre] = spectrum, text
    return found


def dark_spectrum(ctx: RecipeContext, straight: Straight, fibre: str) -> Spectrum:
    """Spectrum of a dark fibre, every row of its window with the weight of the profile.

    Leaked light is all on the side of the reference fibre.  Weights that follow the noise, which is larger
    there, would count it too low, and the light of a dark window gives them nothing to gain.
    """
    from apero_dask.recipes.spectrum import extract_fibre

    return extract_fibre(ctx, straight, fibre, cosmics=False, method="two_step")


def _normalised(comb: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Reference spectrum minus its pedestal over its amplitude, and the amplitudes, float64[order]."""
    import numpy as np

    out, amplitude = np.full(comb.shape, np.nan), np.full(comb.shape[0], np.nan)
    for o, row in enumerate(comb):
        good = np.isfinite(row)
        if not good.any():
            continue
        above = row - np.percentile(row[good], PEDESTAL)
        amplitude[o] = np.percentile(above[good], AMPLITUDE)
        out[o] = above / amplitude[o] if amplitude[o] > 0.0 else np.nan
    return out, amplitude


def _template(flux: np.ndarray, amplitude: np.ndarray) -> np.ndarray:
    """Line-structured part of a science spectrum over the amplitude of the comb (reference pipeline)."""
    import numpy as np

    from apero_dask.recipes.leak_light import line_part

    out = np.full(flux.shape, np.nan)
    for o, row in enumerate(flux):
        good = np.isfinite(row)
        if good.any() and amplitude[o] > 0.0:
            out[o, good] = line_part(np.where(good, row, 0.0), good.astype(float))[good] / amplitude[o]
    return out


def _median(planes: Any) -> np.ndarray:
    """Median over files of planes ``[order, x]``; NaN where all are."""
    import numpy as np

    stack = np.sort(np.stack(planes), axis=0)  # NaN sort last
    count = np.isfinite(stack).sum(axis=0)
    low = np.take_along_axis(stack, np.maximum((count - 1) // 2, 0)[None], axis=0)[0]
    high = np.take_along_axis(stack, np.minimum(count // 2, len(stack) - 1)[None], axis=0)[0]
    return np.where(count > 0, 0.5 * (low + np.where(count % 2 == 1, low, high)), np.nan)


def _scatter(planes: Any) -> float:
    """Median over the pixels of the scatter over files; NaN for a single file."""
    import numpy as np

    stack = np.stack(planes)
    good = np.isfinite(stack).all(axis=0)
    if len(stack) < 2 or not good.any():
        return float("nan")
    return float(np.median(np.std(stack[:, good], axis=0, ddof=1)))


def cal_leak(ctx: RecipeContext) -> None:
    """Remove the light of the reference fibre from the extracted spectra of a frame.

    Raises
    ------
    DataError
        A fibre is missing, the reference fibre saw no Fabry-Perot, or the leak has been removed already.
    """
    import numpy as np

    from apero_dask.core.errors import DataError
    from apero_dask.io.fitswriter import Image
    from apero_dask.recipes.leak_light import leak_kernel, without_holes
    from apero_dask.recipes.merged import merge_on, merged_cards, merged_table, wave_grid
    from apero_dask.recipes.wave_maps import wave_map

    i = ctx.instrument
    files = {str(file.values.get("FIBER", "")).strip(): file for file in map(ctx.open, ctx.input("files"))}
    for fibre in i.fibres:
        if fibre not in files:
            raise DataError(
                f"{ctx.work.recipe} of {ctx.work.stem}: no spectrum of fibre {fibre} among "
                f"{', '.join(sorted(file.name for file in files.values()))}; extract the frame again."
            )
    for fibre, file in files.items():
        seen = str(file.values.get("DPRTYPE", "")).strip()
        if not seen.endswith("_FP"):
            raise DataError(
                f"{file.path}: DPRTYPE {seen!r}, expected a frame with Fabry-Perot in the reference."
            )
        if int(file.values.get("LEAKCORR", 0) or 0):
            raise DataError(
                f"{file.path}: the leak of fibre {fibre} has been removed already (LEAKCORR = 1)."
            )
        found = file.unit(1).shape
        if found != (i.norders, i.nx):
            raise DataError(
                f"{file.path}: spectrum of shape {found}, expected {(i.norders, i.nx)}."
                + hint_of_shape(found, i)
            )
    (reference,) = i.reference_fibres
    comb = without_holes(files[reference].image(1, np.float64))
    grids = {kind: wave_grid(kind) for kind in ("wave", "velocity")}
    results = {}
    for fibre in i.science_fibres:
        kernel, kind = leak_kernel(ctx, fibre)
        leak = kernel.light(comb)
        file = files[fibre]
        flux, variance = file.image(1, np.float64) - leak, file.image("VARIANCE", np.float64)
        results[fibre] = flux, variance, leak, kind
        ctx.parameter(f"LEAK_{fibre}", kind, description="leak reference")
    for fibre, (flux, variance, leak, kind) in results.items():
        blaze = ctx.calibration_image("BLAZE", fibre)
        if blaze is None or blaze.shape != flux.shape:
            raise DataError(f"{ctx.work.recipe}: blaze of fibre {fibre} is missing or of another shape.")
        wave = wave_map(ctx, "WAVE", fibre).image()
        cards = {
            "LEAKCORR": (1, "light of the reference fibre removed"),
            "LEAK_KND": (kind, "leak reference"),
            "LEAK_MAX": (float(np.max(leak)), "[e-] largest light removed from a pixel"),
        }
        ctx.save(
            "LCORR",
            Image("LCORR", flux, unit="electron"),
            Image("VARIANCE", variance, unit="electron^2"),
            fibre=fibre,
            header=cards,
            inherit=files[fibre],
        )
        spectra = dict(zip(grids, merge_on(flux, variance, blaze, wave, list(grids.values())), strict=True))
        for name, kind_of_grid in (("LCORR_S1D_W", "wave"), ("LCORR_S1D_V", "velocity")):
            merged = spectra[kind_of_grid]
            ctx.save(
                name,
                merged_table(merged, name),
                fibre=fibre,
                header={**cards, **merged_cards(kind_of_grid)},
                inherit=files[fibre],
            )


CAL_LEAK_MASTER = register(
    Recipe(
        name="cal_leak_master",
        short="LEAKM",
        scripts=("apero_leak_ref",),
        group=Group.NIGHT,
        tree_in="tmp",
        tree_out="reduced",
        takes="obs_dir",
        arguments=(frames("files", "DARK_FP"),),
        selects=(
            *EXTRACTION_SET,
            Select(("THERMALI",), optional=True, applies_to="reference"),
            Select(("WAVE0",)),
        ),
        makes=(Makes("LEAKM", FIBRES),),
        options=(
            *GENERAL,
            Option(
                "filetype",
                "choice",
                "DARK_FP",
                choices=("DARK_FP",),
                elsewhere="planner: the frames",
                help="type of the frames",
            ),
        ),
        resources=Resources(memory_gb=2.5, seconds=6.0, per_input_s=4.0),
        body=cal_leak_master,
    )
)

CAL_LEAK = register(
    Recipe(
        name="cal_leak",
        short="LEAK",
        scripts=(),
        group=Group.FILE,
        tree_in="reduced",
        tree_out="reduced",
        takes="obs_dir",
        arguments=(Argument("files", ("E2DSFF",), ("OBJ_FP", "POLAR_FP"), positional=True, fibres=FIBRES),),
        selects=(
            Select(("LEAKM",), fallback=("LEAK0",)),
            Select(("FLAT", "BLAZE")),
            Select(("WAVE",), fallback=("WAVEM",)),
        ),
        makes=(Makes("LCORR", SCIENCE), Makes("LCORR_S1D_W", SCIENCE), Makes("LCORR_S1D_V", SCIENCE)),
        options=(*GENERAL, Option("leakfile", "file", calibration="LEAKM", help="leak reference")),
        resources=Resources(memory_gb=0.5, seconds=4.0),
        stratum=6,
        body=cal_leak,
    )
)
