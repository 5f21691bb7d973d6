"""Reads what the telluric recipes work on: spectra, wavelengths, blaze, line spread, template.

Heavy imports happen inside the functions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from apero_dask.core.errors import DataError
from apero_dask.instruments import hint_of_shape
from apero_dask.recipes.context import RecipeContext

if TYPE_CHECKING:
    import numpy as np

    from apero_dask.io.fits import FitsFile
    from apero_dask.recipes.tellu_clean import Observed

C_KMS = 299792.458
REFERENCE = "AB"
"""Fibre whose spectrum decides; the others take over its correction."""
BLAZE_PERCENTILE, BLAZE_LIMIT = 95.0, 0.1
FEWEST_SNR = 3.0
"""Orders with less S/N take no part in the fit."""
HOT_SMOOTH_PX = 15
"""Lines of a hot star are broad: its template is smoothed."""


@dataclass(frozen=True, slots=True)
class Spectra:
    """Spectra of one exposure; planes are float64[order, x] by fibre."""

    files: dict[str, FitsFile]
    flux: dict[str, np.ndarray]
    """Electrons, with blaze."""
    variance: dict[str, np.ndarray]
    snr: np.ndarray
    """float64[order] of the deciding fibre."""
    airmass: float
    berv: float
    """km/s; NaN if the header has none."""

    @property
    def main(self) -> FitsFile:
        """File of the deciding fibre."""
        return self.files[REFERENCE]


@dataclass(frozen=True, slots=True)
class Template:
    """Star without atmosphere at the pixels of the exposure, float64[order, x], NaN where it is not known."""

    plane: np.ndarray
    name: str
    files: int
    """Spectra it was made of; 0 = not said."""
    digest: str
    """Identity of the template, ``None`` if it has none."""
    made: str
    """Mean time of its spectra (MJD), likewise."""


def doppler(velocity_kms: float) -> float:
    """Wavelength received over emitted, source receding at the velocity: sqrt((1 + v/c)/(1 - v/c))."""
    beta = velocity_kms / C_KMS
    return float(((1.0 + beta) / (1.0 - beta)) ** 0.5)


def read_spectra(ctx: RecipeContext) -> Spectra:
    """Spectra of the run by fibre, with S/N, airmass and barycentric velocity of their header.

    Raises
    ------
    DataError
        The deciding fibre is missing, a shape is wrong, or the airmass is no sensible number.
    """
    import numpy as np

    i = ctx.instrument
    files = {str(f.values.get("FIBER", "")).strip(): f for f in map(ctx.open, ctx.input("files"))}
    if REFERENCE not in files:
        raise DataError(
            f"{ctx.work.recipe} of {ctx.work.stem}: no spectrum of fibre {REFERENCE} among "
            f"{', '.join(sorted(f.name for f in files.values())) or 'no file'}; extract the frame again."
        )
    flux, variance = {}, {}
    for fibre, file in files.items():
        found = file.unit(1).shape
        if found != (i.norders, i.nx):
            raise DataError(
                f"{file.path}: spectrum of shape {found}, expected {(i.norders, i.nx)}."
                + hint_of_shape(found, i)
            )
        flux[fibre] = file.image(1, np.float64)
        variance[fibre] = file.image("VARIANCE", np.float64)
    main = files[REFERENCE]
    airmass = main.number("AIRMASS")
    if not 0.99 <= airmass <= 10.0:
        raise DataError(f"{main.path}: AIRMASS = {airmass:g}, expected 1 to 10; correct the raw header.")
    snr = np.array([_number(main, f"EXTSN{o:03d}") for o in range(i.norders)])
    return Spectra(files, flux, variance, snr, max(airmass, 1.0), _number(main, "BERV"))


def _number(file: FitsFile, keyword: str) -> float:
    """Number of a header, NaN where it is missing or said to be NaN."""
    value = file.values.get(keyword)
    try:
        return float(value) if value is not None and not isinstance(value, bool) else float("nan")
    except ValueError:
        return float("nan")


def blaze_of(ctx: RecipeContext, fibre: str) -> np.ndarray:
    """Blaze of a fibre, float64[order, x], electrons.

    Raises
    ------
    DataError
        It is missing or of another shape.
    """
    blaze = ctx.calibration_image("BLAZE", fibre)
    shape = (ctx.instrument.norders, ctx.instrument.nx)
    if blaze is None or blaze.shape != shape:
        found = "none" if blaze is None else f"shape {blaze.shape}"
        raise DataError(
            f"{ctx.work.recipe}: blaze of fibre {fibre}: {found}, expected {shape}; make it with cal_ff."
        )
    return blaze


def normalised(blaze: np.ndarray) -> np.ndarray:
    """Blaze over its 95th percentile in every order; NaN below a tenth of it."""
    import numpy as np

    out = np.full(blaze.shape, np.nan)
    for o, row in enumerate(blaze):
        good = np.isfinite(row)
        if good.any():
            level = np.percentile(row[good], BLAZE_PERCENTILE)
            shape = row / level if level > 0 else np.full(row.shape, np.nan)
            out[o] = np.where(shape >= BLAZE_LIMIT, shape, np.nan)
    return out


def line_spread(ctx: RecipeContext) -> tuple[np.ndarray, np.ndarray]:
    """FWHM (km/s) and exponent of the line spread, float64[order, x].

    Raises
    ------
    DataError
        The map is missing or of another shape.
    """
    import numpy as np

    shape = (ctx.instrument.norders, ctx.instrument.nx)
    planes = []
    for name, low, high in (("E2DS_FWHM", 1.0, 30.0), ("E2DS_EXPO", 1.0, 8.0)):
        plane = ctx.calibration_image("WAVR_E2DS", REFERENCE, name)
        if plane is None or plane.shape != shape or not np.isfinite(plane).any():
            found = "none" if plane is None else f"shape {plane.shape}, all NaN or of another instrument"
            raise DataError(
                f"{ctx.work.recipe}: {name} of the line spread: {found}; make it with cal_wave_master."
            )
        planes.append(np.clip(np.where(np.isfinite(plane), plane, np.nanmedian(plane)), low, high))
    return planes[0].astype(np.float64), planes[1].astype(np.float64)


def read_template(ctx: RecipeContext, wave: np.ndarray, berv: float, hot: bool) -> Template | None:
    """Template of the object at the pixels of an exposure; None without one or if it is not wanted.

    Parameters
    ----------
    wave : float64[order, x]
        Vacuum wavelengths of the exposure, observer's frame, nm.
    berv
        km/s: the barycentric wavelength is the observed one times doppler(berv).
    hot
        Smooth it, and take 1 where it is not known: a hot star has broad lines only.

    Raises
    ------
    DataError
        The file cannot be used, or the exposure has no barycentric velocity.
    """
    import numpy as np
    from apero_kernels.polynomial import low_pass
    from scipy.interpolate import CubicSpline

    from apero_dask.recipes.wave_maps import wave_map

    path = _template_path(ctx)
    if path is None or not ctx.option("use_template"):
        return None
    file = ctx.open(path)
    plane = file.image(1, np.float64)
    if plane.shape != wave.shape:
        raise DataError(f"{path}: template of shape {plane.shape}, expected {wave.shape}; make it again.")
    if not np.isfinite(berv):
        raise DataError(
            f"{ctx.work.recipe} of {ctx.work.stem}: no BERV in the header, the template cannot be moved to "
            "the observer; add the coordinates of the object to objects.csv and extract again, or use "
            "--use_template False."
        )
    grid = wave_map(ctx, "WAVEM", REFERENCE).image()
    at = wave * doppler(berv)
    out = np.full(wave.shape, np.nan)
    for o in range(wave.shape[0]):
        row = low_pass(plane[o], HOT_SMOOTH_PX) if hot else plane[o]
        good = np.isfinite(row) & np.isfinite(plane[o])
        if np.count_nonzero(good) >= 0.5 * row.size or (not hot and np.count_nonzero(good) > 50):
            spline = CubicSpline(grid[o, good], row[good])
            inside = (at[o] >= grid[o, good][0]) & (at[o] <= grid[o, good][-1])
            near = np.interp(at[o], grid[o], good.astype(float)) > 0.9
            out[o, inside & near] = spline(at[o, inside & near])
        if hot:
            out[o] = np.where(out[o] > 0, out[o], 1.0)
    count = file.values.get("MTPNFILU", 0)
    said = [str(file.values.get(key, "None")) for key in ("MTP_HASH", "MTP_TIME")]
    return Template(out, path.name, int(count) if isinstance(count, (int, float)) else 0, said[0], said[1])


def _template_path(ctx: RecipeContext) -> Any:
    """Template the user named, else the one that came with the run."""
    from apero_dask.recipes.chosen import given_file

    named = ctx.option("template")
    if named:
        return given_file(str(named), "TEMPLATE", ctx.trees, ctx.work.obs_dir)
    return next(iter(ctx.input("template")), None)


def night_key(ctx: RecipeContext) -> str:
    """Changes with wavelengths, line spread or blaze of the deciding fibre."""
    chosen = (ctx.calibration(kind, REFERENCE) for kind in ("WAVE", "WAVR_E2DS", "BLAZE"))
    return " ".join([ctx.instrument.name, *("none" if c is None else c.key for c in chosen)])


def observe(ctx: RecipeContext, spectra: Spectra, wave: np.ndarray, template: Template | None) -> Observed:
    """Everything pre-cleaning needs.

    Raises
    ------
    DataError
        A calibration is missing.
    """
    import numpy as np

    from apero_dask.recipes.tellu_clean import Observed

    key = night_key(ctx)
    fwhm, exponent = ctx.cached(f"line spread {key}", lambda: line_spread(ctx))
    blaze = ctx.cached(f"normalised blaze {key}", lambda: normalised(blaze_of(ctx, REFERENCE)))
    flux = spectra.flux[REFERENCE]
    used = ~(spectra.snr < FEWEST_SNR) & np.isfinite(flux).any(axis=1)
    return Observed(
        flux,
        spectra.variance[REFERENCE],
        blaze,
        wave,
        fwhm,
        exponent,
        spectra.airmass,
        used,
        None if template is None else template.plane,
    )
