"""Drift of the spectrograph during an exposure, from the Fabry-Perot in the reference fibre.

The comb is measured exactly as the one of the wavelength solution was: same mask (peaks of the cavity of that
solution), same scan, same fit.  Whatever the method adds to a velocity drops out of the difference.
Heavy imports happen inside the functions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    from apero_dask.recipes.context import RecipeContext

LEAST_CONTRAST = 20.0
"""Per cent; the comb of a lit fibre has 90, even light stays below this."""
LEAST_SNR = 1.0
"""Median over the orders of the median S/N of their pixels; without light it is near 0, and as noise has no
floor beneath its peaks, the contrast tells nothing."""


@dataclass(frozen=True, slots=True)
class Drift:
    """Drift of one exposure; km/s, NaN where it could not be measured."""

    simultaneous: float
    """Comb of the exposure on the wavelength solution (RV_SIMFP)."""
    reference: float
    """Comb of the wavelength solution on itself (RV_WAVFP)."""
    velocity: np.ndarray
    """float64[v], km/s."""
    profiles: np.ndarray
    """float64[order, v]: every order over its median flux."""
    lines: np.ndarray
    """int64[order]."""
    fwhm: float
    contrast: float
    noise: float
    """m/s: photon noise of the comb."""
    order_noise: np.ndarray
    """float64[order], m/s."""

    @property
    def value(self) -> float:
        """Drift since the wavelength solution, km/s: positive = lines lie at longer wavelengths of it."""
        return self.simultaneous - self.reference

    @property
    def known(self) -> bool:
        """Whether the drift could be measured."""
        import math

        return math.isfinite(self.value)


def measure(
    ctx: RecipeContext, flux: np.ndarray, variance: np.ndarray, fibre: str, shared: float = 1.0
) -> Drift:
    """Measure the comb of a frame, where the blaze of its own fibre says that there is light.

    Parameters
    ----------
    flux, variance : float64[order, x]
        Spectrum of the reference fibre; NaN = no information.
    fibre
        The reference fibre.
    shared
        Variance of a column over that which counts for a line.

    Raises
    ------
    DataError
        Wavelength solution or blaze cannot be used.
    """
    import numpy as np

    from apero_dask.recipes.comb_drift import cavity_of_header
    from apero_dask.recipes.photon_noise import combined, spectrum_noise
    from apero_dask.recipes.science_input import blaze_of
    from apero_dask.recipes.wave_cavity import starting_cavity
    from apero_dask.recipes.wave_compare import comb_mask, comb_profiles, fit_comb
    from apero_dask.recipes.wave_maps import wave_map

    wave = wave_map(ctx, "WAVE", fibre).image()
    cards = wave_cards(ctx, fibre)
    own = "WCAV_DEG" in cards
    cavity = cavity_of_header(cards, f"wavelength solution of fibre {fibre}") if own else starting_cavity()
    if not own:
        ctx.log.warning("the wavelength solution names no cavity: the drift of the exposure is not known")
    blaze = blaze_of(ctx, fibre, flux.shape)
    shown = np.where(np.isfinite(blaze) & (blaze > 0.0), flux, np.nan)
    grid, profiles, lines = comb_profiles(shown, wave, comb_mask(cavity))
    fit = fit_comb(grid, profiles.sum(axis=0), int(lines.sum()))
    found = (
        np.isfinite(fit.velocity)
        and abs(fit.velocity) < grid[-1]
        and fit.contrast > LEAST_CONTRAST
        and light(shown, variance) >= LEAST_SNR
    )
    noise = spectrum_noise(shown, variance, wave) / np.sqrt(shared)
    return Drift(
        simultaneous=fit.velocity if found else float("nan"),
        reference=_number(cards.get("WFPDRIFT")) if own else float("nan"),
        velocity=grid,
        profiles=profiles,
        lines=lines,
        fwhm=fit.fwhm if found else float("nan"),
        contrast=fit.contrast if found else float("nan"),
        noise=combined(noise),
        order_noise=noise,
    )


def light(flux: np.ndarray, variance: np.ndarray) -> float:
    """Median over the orders of the median S/N of their pixels; 0 without a pixel.

    Parameters
    ----------
    flux, variance : float64[order, x]
        Spectrum of a fibre; NaN = no information.

    >>> import numpy as np
    >>> light(np.array([[8.0, np.nan, 12.0], [4.0, 4.0, 1.0]]), np.full((2, 3), 4.0))
    3.5
    >>> light(np.full((2, 3), np.nan), np.ones((2, 3)))
    0.0
    """
    import numpy as np

    good = np.isfinite(flux) & (variance > 0.0)
    levels = [
        float(np.median(row[ok] / np.sqrt(noise[ok])))
        for row, noise, ok in zip(flux, variance, good, strict=True)
        if ok.any()
    ]
    return float(np.median(levels)) if levels else 0.0


def wave_cards(ctx: RecipeContext, fibre: str) -> dict[str, Any]:
    """Header of the wavelength solution of a fibre; empty for the shipped first guess."""
    chosen = ctx.calibration("WAVE", fibre)
    if chosen is None or chosen.path is None:
        return {}
    path = chosen.path
    cards: dict[str, Any] = ctx.cached(f"{chosen.key} header", lambda: ctx.open(path).values)
    return cards


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return float("nan")
