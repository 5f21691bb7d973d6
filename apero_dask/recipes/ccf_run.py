"""Body of cal_ccf: velocity of one spectrum, drift of its exposure, products."""

from __future__ import annotations

import math
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from apero_dask.core.errors import DataError
from apero_dask.recipes import ccf_air, ccf_drift
from apero_dask.recipes.ccf import FP_MASK
from apero_dask.recipes.ccf_air import usual_transmission
from apero_dask.recipes.ccf_lines import LARGEST_BERV, LEAST_BLAZE, expected_light
from apero_dask.recipes.ccf_products import drift_products, velocity_products
from apero_dask.recipes.ccf_velocity import FAST_KMS, StarVelocity, star_velocity
from apero_dask.recipes.context import RecipeContext
from apero_dask.recipes.line_mask import check_coverage, mask_of
from apero_dask.recipes.photon_noise import spectrum_noise
from apero_dask.recipes.science_input import (
    absorption_of,
    berv_of,
    blaze_of,
    number_of,
    shared_noise,
    spectrum_of,
)
from apero_dask.recipes.wave_maps import wave_map

if TYPE_CHECKING:
    import numpy as np

    from apero_dask.io.fits import FitsFile

LEAST_TRANSMISSION = 0.5
"""Pixels the atmosphere left less of, in this frame or in usual air, hold more of it than of the star."""
UNKNOWN_RV = 999.0
"""Header velocities from here on stand for unknown: the object form writes 1000, old tables 999.9."""
FWHM_RANGE = (3.0, 100.0)
LARGEST_DRIFT_MS = 50.0
FEWEST_SIGMA = 3.0
"""Informative limits: km/s, m/s, contrast over the scatter of the continuum."""


def correlate_frame(ctx: RecipeContext) -> None:
    """Measure the velocity of one spectrum.

    Raises
    ------
    DataError
        No BERV, no light at all, or a calibration or mask that does not fit.
    """
    import numpy as np

    files = [ctx.open(path) for path in ctx.input("files")]
    if len(files) != 1:
        raise DataError(f"{ctx.work.recipe} of {ctx.work.stem}: {len(files)} spectra, expected one.")
    file, fibre = files[0], _made_for(ctx, "CCF")
    flux, variance = spectrum_of(file, ctx.instrument)
    if not np.isfinite(flux).any():
        raise DataError(f"{file.path}: no pixel holds a value; look at the extraction of the frame.")
    absorption = absorption_of(file)
    berv = berv_of(file)
    wave = wave_map(ctx, "WAVE", fibre).image()
    shown = flux
    if absorption is not None:
        with np.errstate(invalid="ignore"):
            flux = np.where(absorption < LEAST_TRANSMISSION, np.nan, flux)
        # Holes of usual air are holes of every frame, so that frames of a star share their lines.
        shown = np.where(usual_transmission(ctx, wave) < LEAST_TRANSMISSION, np.nan, flux)
        ctx.parameter("USUAL_WATER", ccf_air.WATER, description="exponent of the water of usual air")
        ctx.parameter("USUAL_DRY", ccf_air.DRY, description="exponent of its dry gases")
    mask = mask_of(ctx)
    check_coverage(mask, wave)
    shared = shared_noise(file)
    light = expected_light(shown, variance / shared, blaze_of(ctx, fibre, flux.shape), wave)
    found = star_velocity(
        light,
        mask,
        berv,
        target=_target(ctx, file),
        half=_option(ctx, "width"),
        step=_option(ctx, "step"),
        mode=str(ctx.option("masknormmode")),
        berv_max=_largest_berv(file, berv),
    )
    # Of the slopes it takes the noise of single columns, which is what they have.
    noise = spectrum_noise(flux, variance, wave) / math.sqrt(shared)
    drift = _drift(ctx)
    _judge(ctx, found, drift, "CCF_FP" in {kind for kind, _, _ in ctx.work.outputs})
    ctx.parameter("LEAST_BLAZE", LEAST_BLAZE)
    ctx.parameter("LEAST_TRANSMISSION", LEAST_TRANSMISSION)
    ctx.parameter("SHARED_NOISE", shared, description="variance of a column over that of a line")
    ctx.parameter("MASK", mask.name, mask.origin, "line mask used")
    snr = number_of(file, f"EXTSN{ctx.instrument.snr_client:03d}")
    cards = {
        **_velocity_cards(ctx, found, drift, fibre, file),
        **_column_noise(file, flux),
        "CCFSNR": (math.nan if snr is None else snr, f"S/N in order {ctx.instrument.snr_client}"),
    }
    velocity_products(ctx, file, found, mask, noise, cards)
    for kind, reference, _ in ctx.work.outputs:
        if kind == "CCF_FP":
            source = ctx.input("fpfiles")
            drift_products(ctx, ctx.open(source[0]) if source else file, drift, reference, cards, FP_MASK)


def _made_for(ctx: RecipeContext, kind: str) -> str:
    return next(fibre for made, fibre, _ in ctx.work.outputs if made == kind)


def _option(ctx: RecipeContext, name: str) -> float:
    return float(str(ctx.option(name)))


def _target(ctx: RecipeContext, file: FitsFile) -> float | None:
    """Middle of the scan: the one asked for, that of the object record or the raw header, or unknown."""
    asked = ctx.option("rv")
    if asked is not None:
        return float(str(asked))
    for keyword in ("PP_RV", "BC_RV", "OBJRV"):
        value = number_of(file, keyword)
        if value is not None and abs(value) < min(UNKNOWN_RV, FAST_KMS):
            return value
    ctx.log.info("%s: no velocity in the header; a scan over +-%g km/s finds it", file.name, FAST_KMS)
    return None


def _largest_berv(file: FitsFile, berv: float) -> float:
    """Largest BERV of the year; in whole km/s, so that all frames of a star share it."""
    year = number_of(file, "BERVMAX")
    if year is None or not abs(berv) <= abs(year) + 1.0:
        return LARGEST_BERV
    return min(float(math.ceil(abs(year) + 0.5)), LARGEST_BERV)


def _drift(ctx: RecipeContext) -> ccf_drift.Drift | None:
    """Drift from the reference fibre of the same frame; None without such a spectrum."""
    files = ctx.input("fpfiles")
    if not files:
        return None
    file = ctx.open(files[0])
    flux, variance = spectrum_of(file, ctx.instrument)
    (fibre,) = ctx.instrument.reference_fibres
    return ccf_drift.measure(ctx, flux, variance, fibre, shared_noise(file))


def _judge(ctx: RecipeContext, found: StarVelocity, drift: ccf_drift.Drift | None, wanted: bool) -> None:
    """Informative tests: none decides, a frame without a velocity is a result as well."""
    first, last = float(found.velocity[0]), float(found.velocity[-1])
    inside = first < found.rv < last
    ctx.qc("CCF_RV", found.rv, f"CCF_RV outside {first:.1f} .. {last:.1f} km/s", inside, informative=True)
    contrast, floor = float(found.fit.contrast[0]), 100.0 * found.continuum
    ctx.qc(
        "CCF_CONT", contrast, f"CCF_CONT < {FEWEST_SIGMA:g} x {floor:.2f} per cent",
        contrast >= FEWEST_SIGMA * floor, informative=True,
    )  # fmt: skip
    fwhm = float(found.fit.fwhm[0])
    low, high = FWHM_RANGE
    ctx.qc(
        "CCF_FWHM", fwhm, f"CCF_FWHM outside {low:g} .. {high:g} km/s", low < fwhm < high, informative=True
    )
    if wanted:
        value = 1e3 * drift.value if drift is not None else math.nan
        near = abs(value) < LARGEST_DRIFT_MS
        ctx.qc("FP_DRIFT", value, f"|FP_DRIFT| >= {LARGEST_DRIFT_MS:g} m/s", near, informative=True)


def _velocity_cards(
    ctx: RecipeContext, found: StarVelocity, drift: ccf_drift.Drift | None, fibre: str, file: FitsFile
) -> dict[str, Any]:
    """Velocities of star and comb; an unknown drift counts as none."""
    known = drift is not None and drift.known
    shift = drift.value if drift is not None and known else 0.0
    chosen = ctx.calibration("WAVE", fibre)
    time = chosen.calibration.time if chosen is not None else math.nan
    mjd = number_of(file, "MJDMID")
    name = chosen.path.name if chosen is not None and chosen.path is not None else "shipped first guess"
    return {
        "RV_OBJ": (found.rv, "[km/s] velocity of the object, barycentric"),
        "RV_CORR": (found.rv - shift, "[km/s] RV_OBJ - RV_DRIFT"),
        "RV_DRIFT": (shift, "[km/s] RV_SIMFP - RV_WAVFP" if known else "[km/s] not measured, taken as none"),
        "RV_SIMFP": (drift.simultaneous if drift else math.nan, "[km/s] comb of this exposure"),
        "RV_WAVFP": (drift.reference if drift else math.nan, "[km/s] comb of the wavelength solution"),
        "RVDRIFTK": (known, "the drift was measured"),
        "RVDRIFTE": (drift.noise if known and drift else math.nan, "[m/s] its photon noise"),
        "RV_WAVFN": (PurePosixPath(name).name[-60:], "wavelength solution"),
        "RV_WAVTM": (float(time), "its time, MJD"),
        "RV_WAVTD": (mjd - float(time) if mjd is not None else math.nan, "[d] exposure after solution"),
        "RV_WAVSR": (
            str(ccf_drift.wave_cards(ctx, fibre).get("WAVESOUR", chosen.kind if chosen else "")),
            "by",
        ),
    }


def _column_noise(file: FitsFile, flux: np.ndarray) -> dict[str, Any]:
    """Noise of a column without light, and the brightest one."""
    import numpy as np

    parts = [number_of(file, key) for key in ("EFFRON", "EXTR1", "EXTR2")]
    noise = math.nan
    if None not in parts:
        effron, below, above = (float(p or 0.0) for p in parts)
        noise = effron * math.sqrt(below + above)
    return {
        "CCFSIGDT": (noise, "[e-] noise of a column without light"),
        "CCFBOXSZ": (1, "[px] neighbours that must hold values for the photon noise"),
        "CCFMAXFX": (float(np.nanmax(flux)), "[e-] largest flux of a column"),
    }
