"""The calibrated frame: electrons per exposure, without dark, scattered light and bad pixels.

Shared by every recipe behind the bad pixels.  Heavy imports happen inside the functions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from apero_dask.core.errors import DataError
from apero_dask.recipes.context import RecipeContext
from apero_dask.recipes.scattered_light import Background, subtract_scattered

if TYPE_CHECKING:
    import numpy as np

    from apero_dask.io.fits import FitsFile

LOWEST = 10.0  # read noises per frame time below zero, under which a slope is no measurement; reference

LARGEST_EXCESS = 2.0  # of the noise of background pixels over that of the ramp; beyond, it is not noise


@dataclass(frozen=True, slots=True)
class Calibrated:
    """One exposure with less noise, calibrated frame ``[y, x]``."""

    image: np.ndarray
    """float32, e- per exposure (per unit of the percentile when normalised); NaN = no information."""
    variance: np.ndarray
    """float32, square of that unit: whole variance of the combination."""
    base: np.ndarray
    """float32: the part of the variance that does not come from the signal, above 0 where not NaN."""
    photon: float
    """Variance per unit of signal: ``variance = base + photon * max(image, 0)``."""
    exposure_s: float
    """Of one exposure."""
    effron: float
    """Noise measured on neighbouring background pixels (standard deviation), NaN without a background map."""
    excess: float = 1.0
    """Factor by which `base` was raised to agree with `effron`."""
    files: tuple[FitsFile, ...] = ()
    """Frames that entered, in canonical order."""
    dropped: tuple[str, ...] = ()
    """Names of frames that do not look like the others."""
    halo: float = 0.0
    """Amplitude of the scattered halo that was subtracted, 0 without background correction."""
    halo_measured: float = float("nan")
    """That measured in this frame alone."""
    normalised: float = 1.0
    """Divisor applied, e-."""
    level: float = 0.0
    """Median of the smooth background that was subtracted, same unit as the image."""


def calibrated(
    ctx: RecipeContext,
    argument: str,
    *,
    statistic: str = "median",
    background: bool = True,
    normalise: float | None = None,
    check_alike: bool = True,
) -> Calibrated:
    """Combine the frames of an argument and calibrate the result.

    Parameters
    ----------
    argument
        Argument of the recipe that holds preprocessed frames.
    statistic
        median or mean.
    background
        Subtract scattered light, unless the option ``backsub`` says no.
    normalise
        Percentile of the image to divide by.
    check_alike
        Leave out frames that do not correlate with the others.

    Raises
    ------
    DataError
        No frame is left, one is damaged, or its background cannot be measured.
    """
    from apero_dask.recipes.imagecal import combine

    combined = combine(ctx, argument, statistic, check_alike)
    return calibrate(
        ctx,
        combined.image,
        combined.variance,
        combined.files,
        statistic=statistic,
        background=background,
        normalise=normalise,
        dropped=combined.dropped,
    )


def calibrate(
    ctx: RecipeContext,
    image: np.ndarray,
    variance: np.ndarray,
    files: Sequence[FitsFile],
    *,
    statistic: str = "median",
    background: bool = True,
    normalise: float | None = None,
    dropped: tuple[str, ...] = (),
) -> Calibrated:
    """Calibrate an image that has been combined already.

    Parameters
    ----------
    image, variance
        float32[row, column], preprocessed orientation, ADU/s and its square; not changed.
    files
        Frames it was made from: they give exposure time and number of reads.
    statistic
        How it was combined, for the noise.

    Raises
    ------
    DataError
        The frames lack a number in their header, or the background cannot be measured.
    """
    import numpy as np
    from apero_kernels.electrons import split_variance, to_electrons
    from apero_kernels.repair import fill_isolated

    i = ctx.instrument
    exposure = float(np.median([file.number("EXPTIME") for file in files]))
    electrons = i.gain * exposure
    highest = i.saturation_adu / i.frame_time_s
    lowest = -LOWEST * i.read_noise_e * i.gain / i.frame_time_s
    dark = dark_variance = bad = None
    if _switched_on(ctx, "darkcorr"):
        dark = ctx.calibration_image("DARKM")
        dark_variance = ctx.calibration_image("DARKM", extension="VARIANCE") if dark is not None else None
    if _switched_on(ctx, "badcorr"):
        bad = ctx.calibration_image("BADPIX")
    frame, noise = (np.empty((i.ny, i.nx), np.float32) for _ in range(2))
    to_electrons(
        image,
        variance,
        i.x0,
        i.y0,
        electrons,
        (lowest, highest),
        frame,
        noise,
        dark=dark,
        dark_var=dark_variance,
        bad=bad,
    )
    del image, variance

    mask = ctx.calibration_image("BKGRDMAP")
    found = Background(0.0, float("nan"), float("inf"), 0.0)
    photon, floor = noise_terms(ctx, files, statistic)
    if background and mask is not None and _switched_on(ctx, "backsub"):
        found = subtract_scattered(frame, mask, noise)
    scale = 1.0
    if normalise is not None:
        scale = float(np.nanpercentile(frame, normalise))
        if not scale > 0:
            raise DataError(
                f"{ctx.work.recipe} of {ctx.work.obs_dir or ctx.work.stem}: percentile {normalise:g} of "
                f"{files[0].name} is {scale:.3g} e-, expected light; look at the frames and reject dark ones."
            )
        frame /= np.float32(scale)
        noise /= np.float32(scale * scale)
    whole, whole_noise = np.empty_like(frame), np.empty_like(noise)
    fill_isolated(frame, noise, whole, whole_noise)
    photon /= scale
    base = np.empty_like(whole)
    limits = (lowest * electrons / scale, highest * electrons / scale)
    split_variance(whole, whole_noise, photon, floor / scale**2, limits, base)
    effron, excess = float("nan"), 1.0
    if mask is not None:
        effron = effective_noise(whole, mask)
        excess = noise_excess(effron, base, mask)
    if excess > 1.0:
        whole_noise += np.float32(excess - 1.0) * base
        base *= np.float32(excess)
    return Calibrated(
        image=whole,
        variance=whole_noise,
        base=base,
        photon=photon,
        exposure_s=exposure,
        effron=effron,
        excess=excess,
        files=tuple(files),
        dropped=dropped,
        halo=found.halo,
        halo_measured=found.measured,
        normalised=scale,
        level=found.level / scale,
    )


def noise_terms(ctx: RecipeContext, files: Sequence[FitsFile], statistic: str) -> tuple[float, float]:
    """Variance per electron of signal, and that of no signal (e-^2), of a combination of frames.

    Notes
    -----
    Factors of the ramp (Rauscher et al. 2007, eq. 1) over the number of frames, times that of a median.
    """
    import numpy as np
    from apero_kernels.ramps import ramp_factors
    from apero_kernels.stack import median_factor

    read, light = np.mean([ramp_factors(round(file.number("NREADS"))) for file in files], axis=0)
    share = (median_factor(len(files)) if statistic == "median" else 1.0) / len(files)
    return float(light * share), float(read * share * ctx.instrument.read_noise_e**2)


def effective_noise(image: np.ndarray, mask: np.ndarray) -> float:
    """Noise of a background pixel from differences of neighbours along the rows, in units of the image.

    Half the distance of the 15.87th and 84.13th percentiles, over the square root of 2; NaN without such
    pixels.
    """
    import numpy as np
    from apero_kernels.robust import estimate_sigma

    both = (mask[:, 1:] > 0) & (mask[:, :-1] > 0)
    difference = image[:, 1:][both] - image[:, :-1][both]
    difference = difference[np.isfinite(difference)]
    return float(estimate_sigma(difference)) / 2**0.5 if difference.size else float("nan")


def noise_excess(effron: float, base: np.ndarray, mask: np.ndarray) -> float:
    """Factor that makes the variance of background pixels that of their differences, 1 to `LARGEST_EXCESS`.

    The ramp knows read and photon noise; what is left of noise common to many pixels comes on top.
    """
    import numpy as np

    inside = base[mask > 0]
    inside = inside[np.isfinite(inside)]
    if not inside.size or not effron > 0:
        return 1.0
    return float(np.clip(effron**2 / np.median(inside), 1.0, LARGEST_EXCESS))


def calibration_cards(frame: Calibrated) -> dict[str, tuple[object, str]]:
    """Header cards about how a frame was combined and calibrated."""
    return {
        "EXPTIME": (frame.exposure_s, "[s] of one exposure"),
        "NFILES": (len(frame.files), "frames combined"),
        "NDROPPED": (len(frame.dropped), "frames unlike the others, left out"),
        "EFFRON": (frame.effron, "[e-] noise measured on background pixels"),
        "NOISEEXC": (frame.excess, "variance of background over that of the ramp"),
        "BKGHALO": (frame.halo, "amplitude of the scattered halo subtracted"),
        "BKGHALOM": (frame.halo_measured, "that measured in this frame alone"),
        "BKGLEVEL": (frame.level, "[e-] median smooth background subtracted"),
    }


def _switched_on(ctx: RecipeContext, option: str) -> bool:
    return ctx.recipe.option(option) is None or bool(ctx.option(option))
