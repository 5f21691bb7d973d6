"""Products of an extraction: spectra per order, merged spectra, peaks of the comb.

Heavy imports happen inside the functions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from apero_dask.core.errors import DataError
from apero_dask.recipes.spectrum import Spectrum
from apero_dask.recipes.wave_maps import WaveMap
from apero_dask.recipes.wave_products import map_cards

if TYPE_CHECKING:
    import numpy as np

    from apero_dask.io.fits import FitsFile
    from apero_dask.io.fitswriter import Table
    from apero_dask.recipes.context import RecipeContext

COMB_CARDS = ("WFP", "WCAVDRIF", "WCAVFINE", "WAVEEMHC", "WAVEMHC", "WAVENHC")
"""Beginnings of the keywords about comb and zero point that a spectrum takes over from its solution."""
GRIDS = (("S1D_W", "wave"), ("S1D_V", "velocity"))


@dataclass(frozen=True, slots=True)
class Slab:
    """What every pixel of the windows contributes; arrays are [order, row, x]."""

    part: np.ndarray
    """float64, electrons."""
    used: np.ndarray
    """uint8, 1 = used."""


@dataclass(frozen=True, slots=True)
class Extracted:
    """Everything about one fibre."""

    spectrum: Spectrum
    wave: WaveMap
    header: dict[str, Any]
    slab: Slab | None = None


def save_products(
    ctx: RecipeContext, extracted: Mapping[str, Extracted], lines: Table | None, frame: FitsFile
) -> None:
    """Save what the run was planned to make.

    Parameters
    ----------
    extracted
        By fibre.
    lines
        Peaks of the comb in the reference fibre; None if it saw no comb.
    frame
        First frame, whose header is carried over.

    Raises
    ------
    DataError
        The blaze of a fibre is missing or of another shape.
    """
    from apero_dask.io.fitswriter import Image
    from apero_dask.recipes.merged import merge_on, merged_cards, merged_table, wave_grid

    i = ctx.instrument
    planned = {(kind, fibre) for kind, fibre, _ in ctx.work.outputs}
    client = f"EXTSN{i.snr_client:03d}"
    for fibre, one in extracted.items():
        spectrum = one.spectrum
        header = {**one.header, **wave_cards(ctx, fibre, one.wave), **_blaze_card(ctx, fibre)}
        blaze = _blaze(ctx, fibre, spectrum.e2ds.shape)
        table = order_table(ctx, one, blaze)
        planes = (
            ("E2DS", spectrum.e2ds, spectrum.variance),
            ("E2DSFF", spectrum.e2dsff, spectrum.variance_ff),
        )
        for kind, flux, variance in planes:
            if (kind, fibre) in planned:
                ctx.save(
                    kind,
                    Image(kind, flux, unit="electron"),
                    table,
                    Image("VARIANCE", variance, unit="electron^2"),
                    fibre=fibre,
                    header={**header, "EXT_TYPE": (f"EXT_{kind.replace('FF', '_FF')}", "kind of spectrum")},
                    inherit=frame,
                )
        if one.slab is not None and ("E2DSLL", fibre) in planned:
            wide = (-1, i.nx)
            ctx.save(
                "E2DSLL",
                Image("E2DSLL", one.slab.part.reshape(wide), unit="electron"),
                Image("E2DSCC", one.slab.used.reshape(wide)),
                fibre=fibre,
                header={**header, "EXT_TYPE": ("EXT_E2DS_LL", "kind of spectrum")},
                inherit=frame,
            )
        repeated = ((client, header[client][0], "S/N in mid-order"),)
        wanted = [(kind, grid) for kind, grid in GRIDS if (kind, fibre) in planned]
        points = [wave_grid(grid) for _, grid in wanted]
        spectra = merge_on(spectrum.e2dsff, spectrum.variance_ff, blaze, one.wave.image(), points)
        for merged, (kind, grid) in zip(spectra, wanted, strict=True):
            ctx.save(
                kind,
                replace(merged_table(merged, kind), cards=repeated),
                fibre=fibre,
                header={**header, **merged_cards(grid)},
                inherit=frame,
            )
        if ("EXT_FPLIST", fibre) in planned and lines is not None:
            ctx.save("EXT_FPLIST", lines, fibre=fibre, header=header, inherit=frame)


def _blaze(ctx: RecipeContext, fibre: str, shape: tuple[int, ...]) -> np.ndarray:
    blaze = ctx.calibration_image("BLAZE", fibre)
    if blaze is None or blaze.shape != shape:
        found = "none" if blaze is None else f"shape {blaze.shape}"
        raise DataError(
            f"{ctx.work.recipe}: blaze of fibre {fibre}: {found}, expected {shape}; make it with cal_ff."
        )
    return blaze


def _blaze_card(ctx: RecipeContext, fibre: str) -> dict[str, Any]:
    """Sum of the pixels of the blaze: tells whether a file of that name is still the one in force."""
    chosen = ctx.calibration("BLAZE", fibre)
    if chosen is None or chosen.path is None:
        return {}
    path = chosen.path
    found = ctx.cached(f"{chosen.key} sum", lambda: str(ctx.open(path).unit(1).values.get("DATASUM", "")))
    return {"BLAZESUM": (found, "DATASUM of the blaze")} if found else {}


def wave_cards(ctx: RecipeContext, fibre: str, wave: WaveMap) -> dict[str, Any]:
    """Cards of the wavelength solution of a spectrum, and what its header says about the comb."""
    chosen = ctx.calibration("WAVE", fibre)
    name, time, source, more = "first guess", 0.0, "", {}
    if chosen is not None:
        name, time, source = chosen.kind, chosen.calibration.time, chosen.kind
        if chosen.path is not None:
            path = chosen.path
            cards = ctx.cached(f"{chosen.key} header", lambda: ctx.open(path).values)
            more = {key: value for key, value in cards.items() if key.startswith(COMB_CARDS)}
            source = str(cards.get("WAVESOUR", chosen.kind))
            time = float(cards.get("WAVETIME", time))
            name = path.name
            for file in chosen.calibration.files:
                if file.kind == chosen.kind and file.fibre == chosen.fibre:
                    name = file.registered or PurePosixPath(file.path).name
    return {**more, **map_cards(wave, ctx.instrument, name, time, source)}


def order_table(ctx: RecipeContext, one: Extracted, blaze: np.ndarray) -> Table:
    """ORDER_TABLE: numbers, wavelengths, row, S/N, rejected pixels and levels of every order."""
    import numpy as np

    from apero_dask.io.fitswriter import Table
    from apero_dask.recipes.traces import traces

    spectrum, lam = one.spectrum, one.wave.image()
    orders = lam.shape[0]
    columns: dict[str, Any] = {
        "order_num": np.arange(orders),
        "echelle_num": np.asarray(ctx.instrument.echelle, np.int64),
    }
    for label, function in (("MIN", np.min), ("MED", np.median), ("MEAN", np.mean), ("MAX", np.max)):
        columns[f"WAVE_{label}"] = function(lam, axis=1)
    middle = lam.shape[1] // 2
    columns |= {
        "YPIX_CENT": spectrum.rows,
        "SNR": spectrum.snr,
        "NCOSMIC": spectrum.rejected,
        "FLUXVAL": np.nan_to_num(spectrum.e2ds[:, max(middle - 50, 0) : middle + 50]).mean(axis=1),
    }
    flat = np.ones_like(lam) if spectrum.flat is None else spectrum.flat
    chosen = ctx.calibration("FLAT", spectrum.fibre)
    key = f"levels of {chosen.key if chosen else 'no flat'} {spectrum.flat is None}"
    columns |= levels("E2DS", spectrum.e2ds) | levels("E2DSFF", spectrum.e2dsff)
    columns |= ctx.cached(key, lambda: levels("FLAT", flat)) | levels("BLAZE", blaze)
    place = traces(ctx, spectrum.fibre)
    for name, series in (
        ("LOC_POS_COEFF", place.centres),
        ("LOC_WID_COEFF", place.widths),
        ("WAVE_COEFF", one.wave.coefficients),
    ):
        for k in range(series.shape[1]):
            columns[f"{name}_{k}"] = np.ascontiguousarray(series[:, k])
    units = {"YPIX_CENT": "pix", "FLUXVAL": "electron"} | {f"WAVE_{k}": "nm" for k in ("MIN", "MAX")}
    return Table("ORDER_TABLE", columns, units=units)


def levels(name: str, data: np.ndarray) -> dict[str, np.ndarray]:
    """Columns MIN, MAX, MED and MEAN of the finite values of every order, float64[order]; NaN without any."""
    import numpy as np

    ordered = np.sort(np.where(np.isfinite(data), data, np.nan), axis=1)  # NaN come last
    count = np.isfinite(ordered).sum(axis=1)
    some, row, last = count > 0, np.arange(len(ordered)), np.maximum(count - 1, 0)
    middle = 0.5 * (ordered[row, last // 2] + ordered[row, (last + 1) // 2])
    mean = np.nan_to_num(ordered).sum(axis=1) / np.maximum(count, 1)
    found = {"MIN": ordered[:, 0], "MAX": ordered[row, last], "MED": middle, "MEAN": mean}
    return {f"{name}_{label}": np.where(some, values, np.nan) for label, values in found.items()}
