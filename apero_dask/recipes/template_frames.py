"""Frames of a template: which count, and their orders on the wavelengths of the template.

A frame brings its own wavelength solution (cards of its header) and blaze (the file its header names), since
nights differ in both.  Heavy imports happen inside the functions.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from apero_dask.core.errors import DataError
from apero_dask.core.ids import night_folder
from apero_dask.core.products import MASTER
from apero_dask.instruments import hint_of_shape
from apero_dask.recipes.science_input import RECON, VARIANCE, berv_of, number_of
from apero_dask.recipes.wave_maps import BASIS, WaveMap

if TYPE_CHECKING:
    import numpy as np

    from apero_dask.instruments import Instrument
    from apero_dask.io.fits import FitsFile
    from apero_dask.io.trees import Trees
    from apero_dask.recipes.context import RecipeContext

LEAST_SHARE = 0.5
"""Frames with less than this part of the median S/N are listed and not used (reference)."""
BLAZE_PERCENTILE, LEAST_BLAZE = 95.0, 0.1
"""Blaze over that percentile of its order; pixels with less than that of it have no value (reference)."""
C_KMS = 299792.458
VALID = 0.9
"""Share of valid pixels around a point below which it has no value."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One spectrum of the object."""

    file: FitsFile
    berv: float
    """km/s."""
    mjd: float
    snr: float
    """Of the order that gates the telluric steps."""
    snr_order: int
    used: bool
    wave: WaveMap
    blaze: np.ndarray
    """float64[order, x], normalised; NaN where there is little light."""

    @property
    def factor(self) -> float:
        """Barycentric over observed wavelength."""
        return math.sqrt((1.0 + self.berv / C_KMS) / (1.0 - self.berv / C_KMS))


def frames_of(ctx: RecipeContext) -> tuple[list[Frame], int]:
    """Frames in order of time, and the number left out because their place on the sky is not known.

    Raises
    ------
    DataError
        No frame, one of another object, none with a BERV or S/N, or a blaze that is not there or has been
        made anew since.
    """
    import numpy as np

    i = ctx.instrument
    opened: dict[str, FitsFile] = {}
    for path in ctx.input("files"):
        file = ctx.open(path)
        opened.setdefault(str(file.values.get("FILENAME", file.name)).strip(), file)
    wanted = ctx.work.object
    without: list[str] = []
    found: list[tuple[float, str, FitsFile, float, float]] = []
    for file in opened.values():
        name = str(file.values.get("DRSOBJN", "")).strip()
        if wanted and name and name != wanted:
            raise DataError(
                f"{file.path}: a spectrum of {name}, the template is of {wanted}; correct the object name."
            )
        shape = file.unit(1).shape
        if shape != (i.norders, i.nx):
            raise DataError(
                f"{file.path}: spectrum of shape {shape}, expected {(i.norders, i.nx)}."
                + hint_of_shape(shape, i)
            )
        try:
            berv = berv_of(file)
        except DataError as error:
            ctx.log.warning("left out: %s", error)
            without.append(file.name)
            continue
        snr = number_of(file, f"EXTSN{i.snr_telluric:03d}")
        found.append((file.number("MJDMID"), file.name, file, berv, math.nan if snr is None else snr))
    found.sort(key=lambda row: row[:2])
    if not found:
        raise DataError(
            f"{ctx.work.recipe} of {wanted}: none of {len(opened)} spectra has a BERV; add the object to "
            "objects.csv in the assets folder, then extract its frames again."
        )
    levels = np.array([row[4] for row in found])
    if not (levels > 0.0).any():
        raise DataError(
            f"{ctx.work.recipe} of {wanted}: none of {len(found)} spectra has an S/N above 0 in order "
            f"{i.snr_telluric} (EXTSN{i.snr_telluric:03d}); look at their extraction."
        )
    threshold = LEAST_SHARE * float(np.median(levels[levels > 0.0]))
    blazes: dict[Path, np.ndarray] = {}
    frames = []
    for mjd, _, file, berv, snr in found:
        path = blaze_path(file, ctx.trees, ctx.option("blazefile"), ctx.work.obs_dir)
        if path not in blazes:
            blazes[path] = normalised_blaze(ctx.open(path), i)
        if not ctx.option("blazefile"):
            _check_blaze(file, ctx.open(path))
        frames.append(
            Frame(file, berv, mjd, snr, i.snr_telluric, snr >= threshold, header_map(file, i), blazes[path])
        )
    return frames, len(without)


def threshold_of(frames: Sequence[Frame]) -> float:
    """S/N below which a frame is not used."""
    import numpy as np

    levels = np.array([frame.snr for frame in frames])
    return LEAST_SHARE * float(np.median(levels[levels > 0.0]))


def header_map(file: FitsFile, instrument: Instrument) -> WaveMap:
    """Wavelengths of a spectrum, from the cards of its header.

    Raises
    ------
    DataError
        Cards are missing, of another basis or another number of orders.
    """
    import numpy as np

    cards: Mapping[str, Any] = file.values
    basis = str(cards.get("WAVEPOLY", "power")).strip()
    if basis != BASIS:
        raise DataError(
            f"{file.path}: wavelength coefficients in basis {basis}, expected {BASIS}; extract it again."
        )
    orders, degree = number_of(file, "WAVEORDN"), number_of(file, "WAVEDEGN")
    if orders != instrument.norders or degree is None:
        raise DataError(
            f"{file.path}: WAVEORDN = {cards.get('WAVEORDN')}, WAVEDEGN = {cards.get('WAVEDEGN')}, expected "
            f"{instrument.norders} orders; extract the frame again."
        )
    terms = int(degree) + 1
    series = [
        [file.number(f"WAVE{o * terms + j:04d}") for j in range(terms)] for o in range(instrument.norders)
    ]
    return WaveMap(np.array(series), instrument.nx)


def blaze_path(file: FitsFile, trees: Trees, asked: object, obs_dir: str) -> Path:
    """Blaze a spectrum was extracted with: the registered file, or the product it stands for.

    Raises
    ------
    DataError
        The header names none, or it is nowhere.
    """
    if asked:
        from apero_dask.recipes.chosen import given_file

        return given_file(str(asked), "BLAZE", trees, obs_dir)
    name = str(file.values.get("CDBBLAZE", "")).strip()
    night = str(file.values.get("CDNBLAZE", "")).strip()
    if not name:
        raise DataError(f"{file.path}: the header names no blaze (CDBBLAZE); extract the frame again.")
    prefix = f"{night_folder(night)}_" if night else ""
    places = [trees.calibDB / name, trees.reduced / night / name.removeprefix(prefix)]
    if name.startswith(f"{MASTER}_"):
        stem = name.removeprefix(f"{MASTER}_").removeprefix(prefix)
        places.append(trees.reduced / MASTER / night / stem)
    for place in places:
        if place.is_file():
            return place
    looked = ", ".join(str(place) for place in places)
    raise DataError(f"{file.path}: its blaze {name} is not there (looked for {looked}); run cal_ff again.")


def _check_blaze(file: FitsFile, blaze: FitsFile) -> None:
    """Raise DataError if a blaze is not the one a spectrum was extracted with; old spectra do not tell."""
    noted, found = file.values.get("BLAZESUM"), blaze.unit(1).values.get("DATASUM")
    if noted is not None and found is not None and str(noted).strip() != str(found).strip():
        raise DataError(
            f"{file.path}: extracted with a blaze {blaze.name} whose pixels sum to {noted}, the file has "
            f"{found}: it was made anew since. Extract the frame again."
        )


def normalised_blaze(file: FitsFile, instrument: Instrument) -> np.ndarray:
    """Blaze over its 95th percentile, float64[order, x]; NaN below a tenth.

    Raises
    ------
    DataError
        Another shape.
    """
    import numpy as np

    blaze = file.image(1, np.float64)
    wanted = (instrument.norders, instrument.nx)
    if blaze.shape != wanted:
        raise DataError(f"{file.path}: blaze of shape {blaze.shape}, expected {wanted}; make it with cal_ff.")
    out = np.full(blaze.shape, np.nan)
    for o, row in enumerate(blaze):
        good = np.isfinite(row)
        level = float(np.percentile(row[good], BLAZE_PERCENTILE)) if good.any() else 0.0
        if level > 0.0:
            shape = row / level
            with np.errstate(invalid="ignore"):
                out[o] = np.where(shape >= LEAST_BLAZE, shape, np.nan)
    return out


def order_at(frame: Frame, order: int, wave: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One order of a frame at barycentric wavelengths: flux over blaze with median 1, variance, transmission.

    Parameters
    ----------
    frame : Frame
    order : int
    wave : float64[x]
        Barycentric wavelengths wanted, nm.

    Returns
    -------
    flux, variance, transmission : float64[x]
        NaN where the frame has no value; the transmission is 1 in a spectrum that was not corrected.

    Notes
    -----
    Quintic spline through the pixels; straight lines for variance, transmission and validity, which must be
    above 0.9: holes stay holes.
    """
    import numpy as np
    from scipy.interpolate import make_interp_spline

    blaze = frame.blaze[order]
    flux = frame.file.rows(1, order, order + 1, np.float64)[0] / blaze
    variance = frame.file.rows(VARIANCE, order, order + 1, np.float64)[0] / np.square(blaze)
    if frame.file.has(RECON):
        clear = frame.file.rows(RECON, order, order + 1, np.float64)[0]
    else:
        clear = np.ones(flux.size)
    nothing = np.full(wave.size, np.nan)
    good = np.isfinite(flux) & (variance > 0.0)
    if np.count_nonzero(good) < 20:
        return nothing, nothing.copy(), nothing.copy()
    column = np.arange(flux.size, dtype=np.float64)
    seen = frame.wave.wavelength(np.full(flux.size, order), column) * frame.factor
    place = np.interp(wave, seen, column, left=np.nan, right=np.nan)
    whole = np.interp(column, column[good], flux[good])
    inside = np.isfinite(place)
    at = np.where(inside, place, 0.0)
    with np.errstate(invalid="ignore"):
        valid = inside & (np.interp(at, column, good.astype(float)) > VALID)
    found = np.where(valid, make_interp_spline(column, whole, k=5)(at), np.nan)
    noise = np.interp(at, column[good], variance[good])
    through = np.interp(at, column[good], np.where(np.isfinite(clear), clear, 1.0)[good])
    level = float(np.median(found[valid])) if valid.any() else 0.0
    if not level > 0.0:
        return nothing, nothing.copy(), nothing.copy()
    return found / level, np.where(valid, noise, np.nan) / level**2, np.where(valid, through, np.nan)
