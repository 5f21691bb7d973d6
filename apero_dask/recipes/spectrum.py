"""Spectra of every order of a fibre from a straightened frame.

Heavy imports happen inside the functions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from apero_dask.core.errors import DataError
from apero_dask.recipes.context import RecipeContext
from apero_dask.recipes.order_windows import geometry
from apero_dask.recipes.straight import AFFINE_NAMES, WINDOWS, Straight, straight_profile

if TYPE_CHECKING:
    import numpy as np


COSMIC_CUT = 10.0
"""A pixel that is off the profile by more sigma (optimal) or median residuals (two-step) is left out."""
PROFILE_ERROR = 0.02
"""Relative error of the profile in that sigma: by more than their noise, pixels differ in response, and rows
on the flanks of bright narrow lines."""
CENTRE_COLUMNS = 100
"""Columns in mid-order over which the S/N of an order is averaged."""
TWO_STEP_ROWS = 10
"""The two-step estimate rejects nothing in windows of so few rows (R1 + R2); reference pipeline."""
LOCATION = (
    "LONBO",
    "LODEG",
    "LOCPOLYT",
    "LOCE",
    "LOFW",
    "LOBCKGRD",
    "LOFLXMAX",
    "LOCTRMAX",
    "LOWIDMAX",
    "LORMS",
)
"""Beginnings of the keywords about traces that spectra take over from the localisation."""
METHODS = ("optimal", "two_step")
SHARED = "EXTSHARE"
"""Card: mean variance of the columns over what it would be without interpolation along the order."""


@dataclass(frozen=True, slots=True)
class Spectrum:
    """Extracted orders of one fibre; arrays are float64[order, x]."""

    fibre: str
    e2ds: np.ndarray
    """Electrons per column of the straightened frame; NaN = no information."""
    e2dsff: np.ndarray
    """Divided by the flat; the same as ``e2ds`` if no flat was asked for."""
    variance: np.ndarray
    """electrons^2, of ``e2ds``."""
    flat: np.ndarray | None
    snr: np.ndarray
    """float64[order]: S/N in mid-order."""
    rejected: np.ndarray
    """int64[order]: pixels left out."""
    rows: np.ndarray
    """float64[order]: row in the straightened frame."""
    height: int
    """Rows summed."""
    peak: float
    """Largest mean flux per pixel of an order, ADU."""
    method: str
    cosmics: bool

    @property
    def variance_ff(self) -> np.ndarray:
        """electrons^2, of ``e2dsff``."""
        import numpy as np

        return self.variance if self.flat is None else self.variance / np.square(self.flat)


def extract_fibre(
    ctx: RecipeContext,
    straight: Straight,
    fibre: str,
    *,
    flat: bool = True,
    cosmics: bool = True,
    method: str = "optimal",
    weights: np.ndarray | None = None,
) -> Spectrum:
    """Extract all orders of a fibre.

    Parameters
    ----------
    straight
        Straightened frame.
    fibre
        AB, A, B or C.
    flat
        Divide by the FLAT chosen for the run.
    cosmics
        Leave out pixels that do not follow the profile.
    method
        ``optimal``: inverse-variance weights (Horne 1986, PASP 98, 609); ``two_step``: the equal weights of
        the reference pipeline.
    weights : uint8[order, row, x], optional
        Written: 1 = pixel of a window that was used.

    Raises
    ------
    DataError
        A calibration is missing or of another shape.
    ValueError
        Unknown method.

    Notes
    -----
    The flux is corrected for the change of area by straightening and for light outside the window.  The
    variance is that of an interpolated column: smaller than that of a detector column, at most by a factor
    0.8, as neighbouring columns share noise.
    """
    import numpy as np
    from apero_kernels import extract

    if method not in METHODS:
        raise ValueError(f"method: {method!r}, expected one of {', '.join(METHODS)}")
    place = geometry(ctx, fibre)
    profile = straight_profile(ctx, ctx.instrument.localised_group(fibre))
    shape = (place.rows.size, straight.image.shape[1])
    flux, variance = np.empty(shape), np.empty(shape)
    if method == "optimal":
        rejected = extract.optimal(
            straight.image, straight.base, profile, place.first, place.height, flux, variance,
            photon=straight.photon, cut=COSMIC_CUT if cosmics else 0.0, profile_error=PROFILE_ERROR,
            weights=weights,
        )  # fmt: skip
    else:
        below, above = WINDOWS[fibre]
        rejects = cosmics and below + above > TWO_STEP_ROWS
        rejected = extract.two_step(
            straight.image, straight.variance, profile, place.first, place.height, flux, variance,
            cut=COSMIC_CUT if rejects else 0.0, weights=weights,
        )  # fmt: skip
    scale = place.area / place.share
    flux *= scale
    # Noise goes with the number of detector pixels, not with its square.
    variance *= place.area * place.noise / np.square(place.share)
    snr = order_snr(flux, straight.effron, place.height)
    response = _flat(ctx, fibre, shape) if flat else None
    corrected = flux if response is None else flux / response
    peak = float(np.max(np.nan_to_num(_centre(flux)).mean(axis=1))) / ctx.instrument.gain / (place.height - 1)
    return Spectrum(
        fibre,
        flux,
        corrected,
        variance,
        response,
        snr,
        rejected,
        place.rows,
        place.height,
        peak,
        method,
        cosmics,
    )


def _centre(flux: np.ndarray) -> np.ndarray:
    first = max((flux.shape[1] - CENTRE_COLUMNS) // 2, 0)
    return flux[:, first : first + CENTRE_COLUMNS]


def order_snr(flux: np.ndarray, effron: float, height: int) -> np.ndarray:
    """S/N of every order: F / sqrt(F + n^2), F the mean flux in mid-order, n the noise of the window.

    Parameters
    ----------
    flux : float64[order, x]
        Electrons; NaN counts as 0.
    effron : float
        Noise of a background pixel, electrons.
    height : int
        Rows of the window; n = effron sqrt(rows - 1), as the reference pipeline counts them.
    """
    import numpy as np

    level = np.nan_to_num(_centre(flux)).mean(axis=1)
    noise = effron * np.sqrt(max(height - 1, 1))
    return np.asarray(level / np.sqrt(np.maximum(level, 0.0) + noise**2))


def _flat(ctx: RecipeContext, fibre: str, shape: tuple[int, int]) -> np.ndarray:
    response = ctx.calibration_image("FLAT", fibre)
    if response is None or response.shape != shape:
        found = "none" if response is None else f"shape {response.shape}"
        raise DataError(
            f"{ctx.work.recipe}: flat of fibre {fibre}: {found}, expected {shape}; make it with cal_ff."
        )
    return response


def extraction_cards(ctx: RecipeContext, straight: Straight, spectrum: Spectrum) -> dict[str, Any]:
    """Header cards of an extracted spectrum: S/N, windows, transform of the night."""
    below, above = WINDOWS[spectrum.fibre]
    orders, nx = spectrum.e2ds.shape
    cards: dict[str, Any] = {
        f"EXTSN{o:03d}": (float(s), "S/N in mid-order") for o, s in enumerate(spectrum.snr)
    }
    cards |= {
        "EXT_NBO": (orders, "orders extracted"),
        "EXTSTART": (0, "first column"),
        "EXTSTOP": (nx, "column after the last; EXTEND belongs to FITS"),
        "EXTR1": (below, "[px] window below the order centre"),
        "EXTR2": (above, "[px] window above the order centre"),
        "EXTMETH": (spectrum.method, "weights of the extraction"),
        "EXTCOS": (spectrum.cosmics, "pixels off the profile left out"),
        "EXTCCUT": (COSMIC_CUT, "sigma beyond which a pixel is left out"),
        "EXTNREJ": (int(spectrum.rejected.sum()), "pixels left out"),
        "EXTSMAX": (spectrum.peak, "[ADU] largest mean flux per pixel in mid-order"),
        "EFFRON": (straight.effron, "[e-] noise of background pixels"),
        SHARED: (_shared(ctx, spectrum), "variance of a column over that of wide lines"),
    }
    for name, value in zip(AFFINE_NAMES, straight.affine, strict=True):
        cards[f"SHAPE_{name}"] = (float(value), "transform of the night")
    return cards


def _shared(ctx: RecipeContext, spectrum: Spectrum) -> float:
    """Mean over the columns with light of the variance that interpolation left."""
    import numpy as np

    lit = np.isfinite(spectrum.e2ds)
    return float(np.mean(geometry(ctx, spectrum.fibre).noise[lit])) if lit.any() else 1.0


def location_cards(ctx: RecipeContext, fibre: str) -> dict[str, Any]:
    """Cards about the traces, from the localisation the run was given; empty if it holds none."""
    chosen = ctx.calibration("LOC", fibre)
    if chosen is None or chosen.path is None:
        return {}
    path = chosen.path
    cards: dict[str, Any] = ctx.cached(f"{chosen.key} header", lambda: ctx.open(path).values)
    return {key: value for key, value in cards.items() if key.startswith(LOCATION)}
