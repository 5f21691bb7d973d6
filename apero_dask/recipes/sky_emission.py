"""Emission lines of the night sky: components, checks, built-in default, and their fit to a spectrum.

The first of these files below ``sky/`` in the assets is used, else the built-in lines
(``apero_dask/tables/sky_lines.csv``, simulated OH doublets):

``sky_components.fits``
    The first binary table holds ``wavelength`` (rising; nm, or the unit of the column: nm, Angstrom, um; in
    vacuum unless the keyword MEDIUM says ``air``) and ``comp_1``, ``comp_2``, ...: spectra of the sky at the
    resolution of the instrument, blaze divided out, any unit.
``sky_PCs.fits``
    As other reductions of this instrument have it: image [pixel, 1 + K], column 0 the wavelength (nm, MEDIUM
    as above) of every pixel of every order one after the other, then K components, with the blaze.
``sky_lines.csv``
    ``wave_vac_nm,flux,band``; lines of one band brighten and fade together and make one component.

Heavy imports happen inside the functions.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from apero_dask.core.errors import DataError
from apero_dask.recipes.sharing import file_key
from apero_dask.recipes.sky_components import SkyComponents, components_of_image, components_of_table

if TYPE_CHECKING:
    import numpy as np

    from apero_dask.recipes.context import RecipeContext

FOLDER = "sky"
COMPONENTS, IMAGE, LINES = "sky_components.fits", "sky_PCs.fits", "sky_lines.csv"
READS = tuple(f"{FOLDER}/{name}" for name in (COMPONENTS, IMAGE, LINES))
"""What recipes read, for their declarations."""
C_KMS = 299792.458
LINE_KMS = 20.0
"""Half width of what is painted of a line."""
SMOOTH_PX = 12.0
"""Sigma of the Gaussian whose weighted mean is taken off spectrum and components before the fit."""
CUT = 5.0
"""Pixels off the model by more sigma lose their weight."""
SEEN = 2.5
"""Components fainter than so many errors are not subtracted."""
_COLUMNS = ("wave_vac_nm", "flux", "band")


@dataclass(frozen=True, slots=True)
class SkyLines:
    """Lines, rising."""

    wave: np.ndarray
    """Vacuum nm."""
    flux: np.ndarray
    band: np.ndarray
    """Text."""


@dataclass(frozen=True, slots=True)
class SkyFit:
    """Sky of one spectrum."""

    names: tuple[str, ...]
    amplitudes: np.ndarray
    errors: np.ndarray
    model: np.ndarray
    """float64[order, x], electrons, with blaze; 0 where no component is."""


def sky_file(assets: Path) -> Path | None:
    """File of the assets that is used; None for the built-in lines."""
    for name in (COMPONENTS, IMAGE, LINES):
        path = assets / FOLDER / name
        if path.is_file():
            return path
    return None


def load_sky(ctx: RecipeContext) -> SkyLines | SkyComponents:
    """Sky of the assets, else the built-in one; kept by the process.

    Raises
    ------
    DataError
        The file cannot be used.
    """
    path = sky_file(ctx.trees.assets)
    shape = (ctx.instrument.norders, ctx.instrument.nx)
    found: SkyLines | SkyComponents = ctx.cached(
        f"sky {ctx.instrument.name} {sky_key(ctx)}", lambda: read_sky(path, shape)
    )
    return found


def sky_key(ctx: RecipeContext) -> str:
    """Changes with the file that is used."""
    path = sky_file(ctx.trees.assets)
    return "built-in" if path is None else file_key(path)


def read_sky(path: Path | None, shape: tuple[int, int]) -> SkyLines | SkyComponents:
    """Read lines or components; None reads the built-in lines.  `shape` = (orders, columns).

    Raises
    ------
    DataError
        A column is missing, a value is not a number, wavelengths do not rise, or another number of pixels.
    """
    from importlib.resources import files

    if path is None:
        text = files("apero_dask.tables").joinpath(LINES).read_text(encoding="utf-8")
        return _lines(text, "built-in")
    if path.name == LINES:
        return _lines(path.read_text(encoding="utf-8"), str(path))
    return components_of_table(path) if path.name == COMPONENTS else components_of_image(path, shape)


def _lines(text: str, name: str) -> SkyLines:
    import numpy as np

    rows = list(
        csv.DictReader(line for line in text.splitlines() if line.strip() and not line.startswith("#"))
    )
    if not rows or any(rows[0].get(column) is None for column in _COLUMNS):
        raise DataError(
            f"sky lines {name}: columns {', '.join(_COLUMNS)} and at least one line expected, found "
            f"{', '.join(map(str, rows[0])) if rows else 'no line'}; correct the file."
        )
    try:
        values = np.array([[float(row["wave_vac_nm"]), float(row["flux"])] for row in rows])
    except (TypeError, ValueError) as error:
        raise DataError(f"sky lines {name}: {error}; every row needs numbers, correct it.") from None
    good = np.isfinite(values).all(axis=1) & (values[:, 0] > 0) & (values[:, 1] >= 0)
    if not good.all():
        bad = int(np.flatnonzero(~good)[0])
        raise DataError(
            f"sky lines {name}: line {bad + 1}: {values[bad].tolist()}, expected positive numbers; "
            "correct it."
        )
    order = np.argsort(values[:, 0], kind="stable")
    return SkyLines(values[order, 0], values[order, 1], np.array([row["band"] for row in rows])[order])


def sky_planes(
    sky: SkyLines | SkyComponents,
    wave: np.ndarray,
    fwhm: np.ndarray,
    exponent: np.ndarray,
    blaze: np.ndarray,
) -> tuple[tuple[str, ...], np.ndarray]:
    """Components at the pixels of a spectrum, float64[component, order, x], with blaze.

    Parameters
    ----------
    wave : float64[order, x]
        Vacuum nm.
    fwhm, exponent : float64[order, x]
        Line spread, FWHM in km/s.
    blaze : float64[order, x]
        About 1 at the maximum; NaN counts as 0.

    Raises
    ------
    DataError
        Components of a file lie elsewhere than the spectrum.
    """
    import numpy as np

    shape = wave.shape
    lit = np.nan_to_num(blaze)
    if isinstance(sky, SkyComponents):
        planes = sky.planes(wave)
        return sky.names, planes if sky.with_blaze else planes * lit
    names = tuple(sorted(set(sky.band.tolist())))
    planes = np.zeros((len(names), *shape))
    row = {name: k for k, name in enumerate(names)}
    for o in range(shape[0]):
        near = slice(*np.searchsorted(sky.wave, wave[o, [0, -1]]))
        for line, flux, band in zip(sky.wave[near], sky.flux[near], sky.band[near], strict=True):
            reach = LINE_KMS / C_KMS * line
            first, end = np.searchsorted(wave[o], [line - reach, line + reach])
            if end - first < 3:
                continue
            part = slice(first, end)
            v = C_KMS * (wave[o, part] / line - 1.0)
            scale = 0.5 * fwhm[o, part] / (2.0 * np.log(2.0)) ** (1.0 / exponent[o, part])
            profile = np.exp(-0.5 * np.abs(v / scale) ** exponent[o, part]) * np.gradient(v)
            total = np.nansum(profile)
            if total > 0:
                planes[row[band], o, part] += flux * np.nan_to_num(profile) / total
    return names, planes * lit


def fit_sky(residual: np.ndarray, variance: np.ndarray, names: tuple[str, ...], planes: np.ndarray) -> SkyFit:
    """Fit the components to what is left of a spectrum after star and absorption.

    Parameters
    ----------
    residual, variance : float64[order, x]
        Electrons; NaN = no datum.
    planes : float64[component, order, x]
        See :func:`sky_planes`.

    Notes
    -----
    Only what is narrower than about 12 px counts, in residual and components alike: the continuum has no say.
    Errors of an order are raised to the scatter found there, so that stellar lines which have not been taken
    out make the fit humble.  An amplitude a of error e counts with 1 - (e/a)^2, never negative: what is not
    seen is not subtracted.
    """
    import numpy as np

    from apero_dask.recipes.tellu_clean import smooth

    good = np.isfinite(residual) & (variance > 0)
    one = good.astype(float)
    norm = np.maximum(smooth(one, SMOOTH_PX), 1e-6)

    def narrow(values: np.ndarray) -> np.ndarray:
        broad = smooth(np.where(good, values, 0.0), SMOOTH_PX) / norm
        return np.where(good, values - broad, 0.0)

    data = narrow(np.where(good, residual, 0.0))
    weight = np.where(good, 1.0 / np.where(good, variance, 1.0), 0.0)
    for o in range(data.shape[0]):
        if good[o].any():
            z = np.abs(data[o, good[o]]) * np.sqrt(weight[o, good[o]])
            weight[o] /= max(1.4826 * float(np.median(z)), 1.0) ** 2
    seen = [k for k in range(len(names)) if np.any(planes[k][good] > 0)]
    amplitudes, errors = np.zeros(len(names)), np.full(len(names), np.inf)
    model = np.zeros(residual.shape)
    if seen:
        design = np.stack([narrow(planes[k])[good] for k in seen], axis=1)
        w, d = weight[good], data[good]
        robust = w
        for _ in range(4):
            matrix = design.T @ (design * robust[:, None])
            inverse = np.linalg.pinv(matrix)
            solution = inverse @ (design.T @ (robust * d))
            robust = np.where(np.square(d - design @ solution) * w < CUT**2, w, 0.0)
        error = np.sqrt(np.maximum(np.diag(inverse), 1e-300))
        known = solution > SEEN * error
        amplitudes[seen] = np.where(
            known, solution * (1.0 - np.square(error / np.where(known, solution, 1.0))), 0.0
        )
        errors[seen] = error
        model = np.tensordot(amplitudes, planes, axes=1)
    return SkyFit(names, amplitudes, errors, model)
