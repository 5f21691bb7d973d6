"""Thermal emission in extracted spectra: its smooth model, its strength in a frame, its subtraction.

What a fibre looks at decides: a fibre on the sky sees telescope and fibres (THERMALT, else THERMALI), a fibre
on a lamp the calibration unit (THERMALI), a dark fibre is left alone.  Heavy imports happen inside the
functions.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from apero_dask.core.errors import DataError
from apero_dask.recipes.context import RecipeContext

if TYPE_CHECKING:
    import numpy as np

    from apero_dask.recipes.spectrum import Spectrum

LAMP = ("fp", "hc1", "hc2", "flat", "lfc")
"""Light of the calibration unit."""
SKY = ("star", "sky")
DEGREE = 3
"""Polynomial of thermal light over blaze along an order: the ratio of two smooth spectra."""
SIGNIFICANT = 5.0
"""An order whose thermal light is known to fewer sigma holds none."""
STRUCTURE_WIDTH = 101
"""px; low-pass that follows emission the polynomial misses; reference pipeline."""
STRUCTURE_CHI = 1.5
"""Reduced chi-square of the low-passed residuals from which they are structure, not noise."""
LIT = 0.2
"""Pixels with more than this part of the strongest thermal light of the order measure the ratio."""
BACKGROUND_ERROR = 0.5
"""Electrons per pixel that the subtraction of scattered light may have left."""
FOREIGN = 1e-2
"""Density of pixels with light that is not thermal, relative to the peak of the noise (odds ratio)."""
LOWER = 20.0
"""Percentile of image over thermal spectrum from which the search for opaque pixels starts."""
EXPECTED = (0.2, 5.0)
"""Strength over that of the exposure times within which a correction is believed."""


@dataclass(frozen=True, slots=True)
class Strength:
    """How much of a thermal spectrum is in a frame: thermal light = value * spectrum."""

    value: float
    error: float
    method: str
    pixels: int
    expected: float
    """From the exposure times."""


def smooth_thermal(flux: np.ndarray, variance: np.ndarray, blaze: np.ndarray) -> np.ndarray:
    """Noise-free thermal spectrum of flat-fielded orders, float64[order, x]; 0 in orders without such light.

    Parameters
    ----------
    flux, variance : float64[order, x]
        Spectrum of a dark divided by the flat, electrons.
    blaze : float64[order, x]
        Blaze of the flat lamp; the result is NaN where it is.

    Notes
    -----
    Thermal light has the blaze of the lamp and a smooth spectrum, so that their ratio is a polynomial along
    an order, fitted with inverse variances and soft rejection.  Where the residuals, low-passed, are more
    than noise (emission lines of the air seen through the telescope) their low-pass is added.
    """
    import numpy as np
    from apero_kernels.polynomial import low_pass

    model = np.zeros(flux.shape)
    x = np.linspace(-1.0, 1.0, flux.shape[1])
    for o in range(flux.shape[0]):
        usable = np.isfinite(flux[o]) & (variance[o] > 0.0) & (blaze[o] > 0.0)
        model[o, ~np.isfinite(blaze[o])] = np.nan
        if np.count_nonzero(usable) < 20 * (DEGREE + 1):
            continue
        scale = float(np.max(blaze[o][usable]))
        shape = blaze[o] / scale
        design = np.polynomial.chebyshev.chebvander(x, DEGREE) * shape[:, None]
        a, d, s = design[usable], flux[o][usable], np.sqrt(variance[o][usable])
        weight = s**-2
        for _ in range(6):
            matrix = a.T @ (a * weight[:, None])
            solution = np.linalg.solve(
                matrix + 1e-12 * np.trace(matrix) * np.eye(DEGREE + 1), a.T @ (weight * d)
            )
            z2 = np.square((d - a @ solution) / s)
            weight = _good(z2) / np.square(s)
        fitted = design @ solution
        # The level of the whole order against its own error.
        level = float((weight * d * shape[usable]).sum() / np.sqrt((weight * shape[usable] ** 2).sum()))
        if level < SIGNIFICANT:
            continue
        model[o] = fitted
        residual = np.where(usable, flux[o] - fitted, np.nan)
        smooth = low_pass(residual, STRUCTURE_WIDTH)
        noise = 1.57 * float(np.median(variance[o][usable])) / STRUCTURE_WIDTH
        if float(np.mean(np.square(smooth[usable]))) > STRUCTURE_CHI * noise:
            model[o] += smooth
        model[o, ~np.isfinite(blaze[o])] = np.nan
    return np.asarray(np.maximum(model, 0.0))


def _good(z2: np.ndarray) -> np.ndarray:
    import numpy as np

    g = (1.0 - FOREIGN) * np.exp(-0.5 * np.minimum(z2, 700.0))
    return np.asarray(g / (g + FOREIGN))


def measured_strength(
    flux: np.ndarray,
    variance: np.ndarray,
    thermal: np.ndarray,
    rows: int,
    expected: float,
    opaque: np.ndarray | None = None,
) -> Strength | None:
    """Strength of thermal light in a frame of the sky, from an order in which the air is opaque.

    Parameters
    ----------
    flux, variance, thermal : float64[x]
        The order: frame (flat-fielded), its variance, thermal spectrum.
    rows : int
        Rows that were summed, for the error of the background.
    expected : float
        Ratio of the exposure times.
    opaque : bool[x], optional
        Pixels in which nothing but thermal light is seen.  Without it they are found: light of the target
        only adds, so they are the lower edge of image over thermal spectrum.

    Returns
    -------
    None if fewer than 20 pixels can be used.

    Notes
    -----
    Regression flux = k thermal + c with the errors of the flux alone (the thermal spectrum has none left),
    each pixel weighted with the probability that it follows (odds ratio, Artigau et al. 2022, AJ 164, 84),
    and a prior on the constant.  A median of thermal/flux would be biased by the noise in its denominator.
    """
    import numpy as np

    good = np.isfinite(flux) & (variance > 0.0) & np.isfinite(thermal)
    good &= thermal > LIT * np.max(thermal, where=good, initial=0.0)
    if opaque is not None:
        good &= opaque
    if np.count_nonzero(good) < 20:
        return None
    s, v, t = flux[good], variance[good], thermal[good]
    constant = (BACKGROUND_ERROR * rows) ** -2
    k = float(np.median(s / t)) if opaque is not None else float(np.percentile(s / t, LOWER))
    c = 0.0
    error = np.inf
    for _ in range(30):
        weight = _good(np.square(s - k * t - c) / v) / v
        matrix = np.array(
            [[(weight * t * t).sum(), (weight * t).sum()], [(weight * t).sum(), weight.sum() + constant]]
        )
        inverse = np.linalg.inv(matrix)
        before = k
        k, c = (float(q) for q in inverse @ np.array([(weight * t * s).sum(), (weight * s).sum()]))
        error = float(np.sqrt(inverse[0, 0]))
        if abs(k - before) < 0.01 * error:
            break
    return Strength(k, error, "opaque", int(np.count_nonzero(good)), expected)


def thermal_light(ctx: RecipeContext, fibre: str, seen: str) -> tuple[np.ndarray, float, str] | None:
    """Thermal spectrum (flat-fielded, float64[order, x]) for a fibre, its exposure time, its kind.

    None when the fibre is dark or the run has no such calibration.

    Raises
    ------
    DataError
        It has another shape.
    """
    import numpy as np

    if seen not in LAMP + SKY:
        return None
    kind = "THERMALI" if seen in LAMP else "THERMALT"
    chosen = ctx.calibration(kind, fibre)
    data = ctx.calibration_image(kind, fibre)
    if chosen is None or chosen.path is None or data is None:
        return None
    path, shape = chosen.path, (ctx.instrument.norders, ctx.instrument.nx)
    if data.shape != shape:
        raise DataError(f"{path}: thermal spectrum of shape {data.shape}, expected {shape}; make it again.")
    smooth = ctx.calibration_image(kind, fibre, "SMOOTH")
    assert smooth is not None
    exposure = ctx.cached(f"{chosen.key} exposure", lambda: ctx.open(path).number("EXPTIME"))
    return np.asarray(smooth), float(exposure), chosen.kind


def remove_thermal(
    ctx: RecipeContext,
    spectrum: Spectrum,
    exposure_s: float,
    seen: str,
    *,
    opaque: np.ndarray | None = None,
) -> tuple[Spectrum, dict[str, Any]]:
    """Spectrum without thermal light, and header cards that tell what was done.

    Parameters
    ----------
    spectrum
        Extracted with flat.
    exposure_s
        Of the frame.
    seen
        What the fibre looks at: ``star``, ``sky``, ``fp``, ``hc1``, ``hc2``, ``flat``, ``lfc`` or ``dark``.
    opaque : bool[order, x], optional
        Pixels without transmission, for frames of the sky.

    Raises
    ------
    DataError
        A calibration of another shape.

    Notes
    -----
    Frames of the sky: the strength is measured in the opaque order of the instrument.  Lamps fill every pixel
    with light, an envelope below a Fabry-Perot comb is far above the thermal light; there the strength is the
    ratio of the exposure times, the light being that of the same night at the same temperature.
    """
    import numpy as np

    nothing: dict[str, Any] = {
        "THRM_RAT": (float("nan"), "thermal spectrum over thermal light of the frame"),
        "THRM_RU": ("none", "how it was found"),
    }
    found = thermal_light(ctx, spectrum.fibre, seen)
    if found is None:
        return spectrum, nothing
    thermal, exposure, kind = found
    expected = exposure_s / exposure
    strength = Strength(expected, 0.0, "exposure", 0, expected)
    o = ctx.instrument.opaque
    if seen in SKY:
        below = spectrum.height - 1
        measured = measured_strength(
            spectrum.e2dsff[o], spectrum.variance_ff[o], thermal[o], below, expected,
            None if opaque is None else opaque[o],
        )  # fmt: skip
        if measured is not None and EXPECTED[0] < measured.value / expected < EXPECTED[1]:
            strength = measured
        else:
            value = float("nan") if measured is None else measured.value
            ctx.log.warning(
                "thermal light of fibre %s: strength %.3g found in the opaque order, %.3g expected from the "
                "exposure times, which is used",
                spectrum.fibre,
                value,
                expected,
            )
    light = strength.value * np.nan_to_num(thermal)
    # The plain spectrum has values where the flat has none.
    response = 1.0 if spectrum.flat is None else np.nan_to_num(spectrum.flat, nan=1.0)
    cards = {
        "THRM_RAT": (1.0 / strength.value, "thermal spectrum over thermal light of the frame"),
        "THRM_RU": (strength.method, "how it was found"),
        "THRM_ERR": (strength.error / strength.value, "relative error of the strength"),
        "THRM_EXP": (1.0 / expected, "THRM_RAT expected from the exposure times"),
        "THRM_NPX": (strength.pixels, "opaque pixels used"),
        "THRM_KND": (kind, "thermal spectrum used"),
    }
    return replace(spectrum, e2ds=spectrum.e2ds - light * response, e2dsff=spectrum.e2dsff - light), cards
