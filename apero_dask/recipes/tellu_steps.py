"""First half of both telluric recipes: sky and absorption of one exposure, and how they are recorded.

Heavy imports happen inside the functions.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from apero_dask.recipes import tellu_clean
from apero_dask.recipes.context import RecipeContext
from apero_dask.recipes.sky_absorption import Absorption, load_absorption
from apero_dask.recipes.tellu_spectrum import (
    FEWEST_SNR,
    REFERENCE,
    Spectra,
    Template,
    observe,
    read_spectra,
    read_template,
)

if TYPE_CHECKING:
    import numpy as np

    from apero_dask.recipes.sky_emission import SkyFit
    from apero_dask.recipes.tellu_clean import Cleaned, Observed

LONGEST_LIST = 40
ODD_AIRMASS = 0.2
"""A dry exponent so far from the airmass makes the table suspect."""
AIR_SHIFT_KMS = 82.0
"""Lines of a table in air must be moved by this much to the red (index of refraction 1.00027)."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """One exposure with its sky removed and its absorption known; planes are float64[order, x]."""

    spectra: Spectra
    wave: np.ndarray
    """Vacuum nm of the deciding fibre in this night."""
    observed: Observed
    """Flux without sky."""
    template: Template | None
    cleaned: Cleaned
    sky: SkyFit
    origin: str
    """Table of absorption."""

    @property
    def failed(self) -> bool:
        """The exponents are those of the start."""
        return not self.cleaned.converged

    @property
    def absorption(self) -> np.ndarray:
        """Transmission; NaN where too little light is left to correct."""
        import numpy as np

        limit = tellu_clean.DEEPEST if self.failed else tellu_clean.OPAQUE
        return np.where(self.cleaned.transmission > limit, self.cleaned.transmission, np.nan)


def prepare(ctx: RecipeContext, hot: bool) -> Prepared:
    """Read an exposure, fit sky and absorption.

    Parameters
    ----------
    hot
        The object is a hot star: its template is smoothed.

    Raises
    ------
    DataError
        Input, calibration or asset that cannot be used.
    """
    import numpy as np

    from apero_dask.recipes.sky_emission import fit_sky
    from apero_dask.recipes.wave_maps import wave_map

    spectra = read_spectra(ctx)
    wave = wave_map(ctx, "WAVE", REFERENCE).image()
    template = read_template(ctx, wave, spectra.berv, hot)
    observed = observe(ctx, spectra, wave, template)
    table = load_absorption(ctx)
    # Without light there is nothing to fit; what follows is defined all the same.
    first = tellu_clean.preclean(table, observed)
    names, planes = _sky_of_night(ctx, wave, observed)
    model = _star_and_air(observed, first)
    sky = fit_sky(
        np.where(np.isfinite(model), observed.flux - model, np.nan), observed.variance, names, planes
    )
    cleaned = first
    if sky.amplitudes.any():
        observed = replace(observed, flux=observed.flux - sky.model)
        cleaned = tellu_clean.preclean(table, observed, first if first.converged else None)
    if not cleaned.converged or abs(cleaned.dry / spectra.airmass - 1.0) > ODD_AIRMASS:
        _warn_of_air(ctx, table, observed)
    return Prepared(spectra, wave, observed, template, cleaned, sky, table.origin)


def _sky_of_night(
    ctx: RecipeContext, wave: np.ndarray, observed: Observed
) -> tuple[tuple[str, ...], np.ndarray]:
    """Components of the sky at the pixels: alike for all exposures with these calibrations."""
    from apero_dask.recipes.sky_emission import load_sky, sky_key, sky_planes
    from apero_dask.recipes.tellu_spectrum import night_key

    found: tuple[tuple[str, ...], np.ndarray] = ctx.cached(
        f"sky at the pixels {sky_key(ctx)} {night_key(ctx)}",
        lambda: sky_planes(load_sky(ctx), wave, observed.fwhm, observed.exponent, observed.blaze),
    )
    return found


def _star_and_air(observed: Observed, cleaned: Cleaned) -> np.ndarray:
    """Flux expected of continuum, template and absorption, electrons; NaN where it is not known."""
    import numpy as np
    from apero_kernels.polynomial import low_pass

    light = tellu_clean.star_light(observed)
    out = np.full(light.shape, np.nan)
    with np.errstate(invalid="ignore", divide="ignore"):
        clear = np.where(cleaned.transmission > tellu_clean.DEEPEST, light / cleaned.transmission, np.nan)
    for o in range(light.shape[0]):
        if np.count_nonzero(np.isfinite(clear[o])) < tellu_clean.CONTINUUM_PX:
            continue
        out[o] = low_pass(clear[o], tellu_clean.CONTINUUM_PX) * cleaned.transmission[o] * observed.blaze[o]
        if observed.template is not None:
            out[o] *= observed.template[o]
    return out


def _warn_of_air(ctx: RecipeContext, table: Absorption, observed: Observed) -> None:
    """Tell whether the table fits better when it is displaced as wavelengths in air are."""
    import numpy as np

    light = tellu_clean.star_light(observed)
    found = {}
    for shift in (0.0, AIR_SHIFT_KMS):
        planes = tellu_clean.transmission_planes(
            table, observed, tellu_clean.FIRST_WATER, observed.airmass, shift, observed.used
        )
        good = np.isfinite(light) & np.isfinite(planes[0]) & (planes[0] > tellu_clean.OPAQUE)
        values = np.where(good, light, 0.0)
        found[shift] = float(
            np.nansum(np.where(good, np.gradient(values, axis=1) * np.gradient(planes[0], axis=1), 0.0))
        )
    if found[AIR_SHIFT_KMS] > 3.0 * max(found[0.0], 0.0) and found[AIR_SHIFT_KMS] > 0.0:
        ctx.log.warning(
            "%s: the absorption table %s fits much better when moved by %g km/s to the red: "
            "are its wavelengths those in air?",
            ctx.work.stem,
            table.origin,
            AIR_SHIFT_KMS,
        )


def judge(ctx: RecipeContext, found: Prepared) -> None:
    """Quality control common to both recipes: S/N and convergence decide."""
    import numpy as np

    order = ctx.instrument.snr_telluric
    snr, cleaned = float(found.spectra.snr[order]), found.cleaned
    ctx.qc(f"SNR[{order}]", snr, f"SNR[{order}] < {FEWEST_SNR:.2f}", bool(snr >= FEWEST_SNR))  # False for NaN
    ctx.qc(
        "TELLU_STEPS", cleaned.steps, f"TELLU_STEPS >= {tellu_clean.MOST_STEPS} or no exponents",
        cleaned.converged,
    )  # fmt: skip
    ctx.qc(
        "EXPO_H2O", cleaned.water, "EXPO_H2O outside 0.1 to 15", 0.1 <= cleaned.water <= 15.0,
        informative=True,
    )  # fmt: skip
    ctx.qc(
        "EXPO_OTHERS", cleaned.dry, "EXPO_OTHERS outside 0.8 to 3", 0.8 <= cleaned.dry <= 3.0,
        informative=True,
    )  # fmt: skip
    ctx.qc(
        "TELLU_SCATTER", cleaned.scatter, "TELLU_SCATTER is no number",
        bool(np.isfinite(cleaned.scatter)), informative=True,
    )  # fmt: skip
    for name, value in (
        ("ABSORPTION_TABLE", found.origin),
        ("CONTINUUM_PX", tellu_clean.CONTINUUM_PX),
        ("STRENGTH_ERROR", tellu_clean.STRENGTH_ERROR),
        ("CUT", tellu_clean.CUT),
        ("DRY_PRIOR", tellu_clean.DRY_PRIOR),
        ("WIND_PRIOR_KMS", tellu_clean.WIND_PRIOR_KMS),
    ):
        ctx.parameter(name, value)


def clean_cards(ctx: RecipeContext, found: Prepared) -> dict[str, Any]:
    """Header cards of the pre-cleaning."""
    from apero_dask.recipes.sky_absorption import STEP_KMS

    c, i = found.cleaned, ctx.instrument
    left_out = [str(o) for o, used in enumerate(found.observed.used) if not used]
    orders = " ".join(left_out)
    if len(orders) > LONGEST_LIST:
        # A card holds 68 characters.
        orders = f"{len(left_out)} orders"
    return {
        "TLPEH2O": (c.water, "exponent of the water column of the table"),
        "TLPEOTR": (c.dry, "exponent of the dry gases (airmass)"),
        "TLPEH2OE": (c.errors[0], "its formal error"),
        "TLPEOTRE": (c.errors[1], "its formal error"),
        "TLPDVH2O": (c.velocity, "[km/s] velocity of the absorption"),
        "TLPDVOTR": (c.velocity, "[km/s] velocity of the absorption"),
        "TLPDVERR": (c.errors[2], "[km/s] its formal error"),
        "TLPCPH2O": (c.errors[0] / c.water, "relative error of the water exponent"),
        "TLPCPOTR": (c.errors[1] / c.dry, "relative error of the dry exponent"),
        "TLPDOCLN": (True, "pre-cleaning was done"),
        "TLPCONV": (c.converged, "exponents converged"),
        "TLPNITR": (c.steps, "steps"),
        "TLPSCAT": (c.scatter, "scatter over noise, median of orders"),
        "TLPDFH2O": (tellu_clean.FIRST_WATER, "water exponent at the start and on failure"),
        "TLPSCRNG": (0.0, "[km/s] no scan: all pixels are fitted"),
        "TLPCLORD": (orders, "orders left out of the fit"),
        "TLPRORDS": (orders, "orders left out of the fit"),
        "TLPSNRMT": (FEWEST_SNR, "smallest S/N of an order in the fit"),
        "TLPDEXCT": (tellu_clean.SMALL, "steps below this end the fit"),
        "TLPMXITR": (tellu_clean.MOST_STEPS, "most steps"),
        "TLPAEKTH": (1e-4, "end of the line spread"),
        "TLPAEKWD": (float(found.observed.fwhm.mean()), "[km/s] mean FWHM of the line spread"),
        "TLPAEKEX": (float(found.observed.exponent.mean()), "mean exponent of the line spread"),
        "TLPWAVES": (float(found.wave[0, 0]), "[nm] first wavelength"),
        "TLPWAVEF": (float(found.wave[i.norders - 1, i.nx - 1]), "[nm] last wavelength"),
        "TLPDVGRD": (STEP_KMS, "[km/s] grid of the absorption table"),
        "TLPTRSTH": (tellu_clean.DEEPEST, "least transmission in the fit"),
        "TLPTRSLM": (tellu_clean.OPAQUE, "least transmission corrected"),
        "TLPFCARM": (False, "airmass forced to that of the header"),
        "TLP_OTHB": ("0.2 8.0", "bounds of the dry exponent"),
        "TLP_H2OB": ("0.02 60.0", "bounds of the water exponent"),
        "TLPTABLE": (found.origin, "absorption table"),
        "TLPSKYN": (int((found.sky.amplitudes > 0).sum()), "components of the sky seen"),
    }


def template_cards(found: Prepared, prefix: str) -> dict[str, Any]:
    """Cards of the template used; `prefix` is FTTTEMP or MKTTEMP."""
    template = found.template
    return {
        f"{prefix}{'L' if prefix.startswith('FTT') else 'F'}": (
            template.name if template else "None",
            "template of the star",
        ),
        f"{prefix}N": (template.files if template else 0, "spectra of the template"),
        f"{prefix}H": (template.digest if template else "None", "identity of the template"),
        f"{prefix}T": (template.made if template else "None", "mean time of its spectra, MJD"),
    }
