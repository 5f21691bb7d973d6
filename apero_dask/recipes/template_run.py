"""Body of obj_mk_template: frames of one object, order by order, into one barycentric spectrum."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from apero_dask.core.errors import DataError
from apero_dask.recipes.context import RecipeContext
from apero_dask.recipes.science_input import number_of
from apero_dask.recipes.template_frames import Frame, frames_of, order_at, threshold_of
from apero_dask.recipes.template_products import Template, save_products
from apero_dask.recipes.template_stack import (
    COVERAGE_SNR,
    COVERAGE_STEP,
    LEAST_COVERAGE,
    berv_coverage,
    combine,
    smoothed,
)
from apero_dask.recipes.wave_maps import wave_map

if TYPE_CHECKING:
    import numpy as np

HOT_STEP = "MKTELLU3"
"""The step that makes templates of telluric standards."""
HOT_TEMPERATURE = 7500.0
"""K; hotter stars have no narrow lines in the near infrared that a template must keep."""
C_KMS = 299792.458


def make_template(ctx: RecipeContext) -> None:
    """Combine all spectra of an object.

    Raises
    ------
    DataError
        No usable frame, one of another object, or a calibration that is not there.
    """
    import numpy as np

    frames, without = frames_of(ctx)
    chosen = [frame for frame in frames if frame.used]
    wave = wave_map(ctx, "WAVEM", "AB").image()
    hot = is_hot(ctx, frames)
    shape = wave.shape
    planes = {name: np.full(shape, np.nan) for name in ("flux", "error", "scatter", "blaze")}
    count = np.zeros(shape, np.int64)
    # Single precision: a cube holds every pixel of every frame, known to 1e-3 at best.
    cubes = [np.full((len(chosen), *shape), np.nan, np.float32) for _ in range(2)]
    rejected, chi = np.zeros(shape[0], np.int64), np.full(shape[0], np.nan)
    for o in range(shape[0]):
        rows = [order_at(frame, o, wave[o]) for frame in chosen]
        flux, variance, clear = (np.array([row[k] for row in rows]) for k in range(3))
        found = combine(flux, variance, clear)
        if hot and np.isfinite(found.flux).any():
            kms = C_KMS * float(np.log(wave[o, -1] / wave[o, 0])) / (shape[1] - 1)
            planes["flux"][o] = smoothed(found.flux, kms)
        else:
            planes["flux"][o] = found.flux
        planes["error"][o], planes["scatter"][o], count[o] = found.error, found.scatter, found.count
        cubes[0][:, o], cubes[1][:, o] = flux, found.equalised
        rejected[o], chi[o] = found.rejected, found.chi
        planes["blaze"][o] = _mean_blaze(chosen, o)
    if not np.isfinite(planes["flux"]).any():
        raise DataError(
            f"{ctx.work.recipe} of {ctx.work.object}: none of {len(chosen)} spectra holds a value at the "
            "wavelengths of the template; look at their extraction."
        )
    grid, anti, cover, total = berv_coverage([f.berv for f in chosen], [f.snr for f in chosen])
    ctx.qc("FRAMES", len(chosen), "FRAMES < 1", len(chosen) >= 1)
    covered = total >= LEAST_COVERAGE
    ctx.qc("BERV_COV", total, f"BERV_COV < {LEAST_COVERAGE:g} km/s", covered, informative=True)
    ctx.parameter("HOT_STAR", hot, description="smoothed over 100 km/s")
    template = Template(
        wave=wave,
        **planes,
        count=count,
        cubes=(cubes[0], cubes[1]),
        rejected=rejected,
        chi=chi,
        coverage=(grid, anti, cover),
    )
    cards = {
        **_cards(frames, chosen, without, total),
        "MTPHOT": (hot, "hot star, smoothed over 100 km/s"),
    }
    save_products(ctx, template, frames, chosen, cards)


def is_hot(ctx: RecipeContext, frames: Sequence[Frame]) -> bool:
    """Whether the object is a hot star: a telluric standard of this reduction, or hot by its header."""
    if ctx.work.short == HOT_STEP:
        return True
    for keyword in ("PP_TEFF", "OBJTEMP"):
        value = number_of(frames[0].file, keyword)
        if value is not None and value > 0.0:
            return value >= HOT_TEMPERATURE
    return False


def _mean_blaze(frames: Sequence[Frame], order: int) -> np.ndarray:
    """Mean of the blazes, the weight of the order in a merged spectrum."""
    import numpy as np

    found = np.array([frame.blaze[order] for frame in frames])
    known = np.isfinite(found)
    number = known.sum(axis=0)
    total = np.where(known, found, 0.0).sum(axis=0)
    return np.where(number > 0, total / np.maximum(number, 1), np.nan)


def _cards(frames: Sequence[Frame], chosen: Sequence[Frame], without: int, coverage: float) -> dict[str, Any]:
    names = "\n".join(frame.file.name for frame in chosen)
    return {
        "MTPNFILO": (len(frames) + without, "spectra of the object"),
        "MTPNFILU": (len(chosen), "spectra used"),
        "MTPNOBRV": (without, "spectra without BERV, left out"),
        "MTP_HASH": (hashlib.sha256(names.encode()).hexdigest()[:16], "of the names of the spectra used"),
        "MTP_TIME": (sum(f.mjd for f in chosen) / len(chosen), "mean MJD of the spectra used"),
        "MTPSNROD": (_order(chosen), "order of the S/N"),
        "MTPSNRTH": (threshold_of(frames), "S/N below which a spectrum is not used"),
        "MTPBCOV": (coverage, "[km/s] BERV covered"),
        "MTPBCMIN": (LEAST_COVERAGE, "[km/s] BERV that should be covered"),
        "MTPBCSNR": (COVERAGE_SNR, "S/N that counts once in the coverage"),
        "MTPBCRES": (COVERAGE_STEP, "[km/s] step of the coverage"),
    }


def _order(frames: Sequence[Frame]) -> int:
    return frames[0].snr_order
