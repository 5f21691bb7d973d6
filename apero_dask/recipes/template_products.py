"""Products of obj_mk_template: two-dimensional and merged templates, cubes, tables of the frames."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from apero_dask.recipes.merged import STEP_KMS, merge_on, merged_cards, wave_grid
from apero_dask.recipes.science_input import number_of
from apero_dask.recipes.template_deconvolve import deconvolved
from apero_dask.recipes.wave_maps import wave_map
from apero_dask.recipes.wave_products import map_cards

if TYPE_CHECKING:
    import numpy as np

    from apero_dask.io.fitswriter import Table
    from apero_dask.recipes.context import RecipeContext
    from apero_dask.recipes.merged import Merged
    from apero_dask.recipes.template_frames import Frame

MADE_WITH = (
    ("DARK", "DARK"),
    ("BAD", "BAD"),
    ("BACK", "BACK"),
    ("LOCO", "LOCO"),
    ("BLAZE", "BLAZE"),
    ("FLAT", "FLAT"),
    ("SHAPEX", "SHAPX"),
    ("SHAPEY", "SHAPY"),
    ("SHAPEL", "SHAPL"),
    ("THERM", "THERM"),
    ("WAVE", "WAVE"),
)
"""Columns ...FILE and ...TIME of the table of frames, and the endings of CDB... and CDT... they are from."""
MERGED = (("TEMPLATE_W", "wave"), ("TEMPLATE_V", "velocity"))
"""Merged templates and their grids."""
MJD_EPOCH = datetime.datetime(1858, 11, 17)


@dataclass(frozen=True, slots=True)
class Template:
    """A template; planes are float64[order, x]."""

    wave: np.ndarray
    """Barycentric vacuum nm."""
    flux: np.ndarray
    error: np.ndarray
    scatter: np.ndarray
    blaze: np.ndarray
    """Mean of the normalised blazes."""
    count: np.ndarray
    """int64[order, x]."""
    cubes: tuple[np.ndarray, np.ndarray]
    """float32[frame, order, x]: frames before and after their continua were made equal."""
    rejected: np.ndarray
    """int64[order]."""
    chi: np.ndarray
    """float64[order]."""
    coverage: tuple[np.ndarray, np.ndarray, np.ndarray]


def save_products(
    ctx: RecipeContext,
    template: Template,
    frames: Sequence[Frame],
    chosen: Sequence[Frame],
    cards: Mapping[str, Any],
) -> None:
    """Write template, merged templates and cubes."""
    import numpy as np

    from apero_dask.io.fitswriter import Image, Table

    grid = wave_map(ctx, "WAVEM", "AB")
    named = ctx.calibration("WAVEM", "AB")
    name = named.path.name if named is not None and named.path is not None else "shipped first guess"
    time = named.calibration.time if named is not None else 0.0
    header = {
        **cards,
        **map_cards(grid, ctx.instrument, name[-60:], time, "WAVEM"),
        # A template belongs to no date: what the header of its first frame says about one is taken back.
        "BERV": (0.0, "[km/s] the template is in the barycentric frame"),
        "MTPFRAME": ("barycentric", "wavelengths: observed ones times doppler(BERV)"),
    }
    table = frame_table(ctx, frames)
    berv, anti, cover = template.coverage
    coverage = Table(
        "BERV_TABLE", {"BERV": berv, "ANTICOVERAGE": anti, "COVERAGE": cover}, units={"BERV": "km/s"}
    )
    orders = Table(
        "COMBINE_TABLE",
        {
            "ORDER": np.arange(template.chi.size),
            "ECHELLE": np.asarray(ctx.instrument.echelle, np.int64),
            "REJECTED": template.rejected,
            "CHI": template.chi,
        },
    )
    first = chosen[0].file
    ctx.save(
        "TEMPLATE",
        Image("TEMPLATE", template.flux),
        Image("ERROR", template.error),
        Image("RMS", template.scatter),
        Image("N_VALID", template.count.astype(np.int32)),
        table,
        coverage,
        orders,
        fibre="AB",
        header=header,
        inherit=first,
    )
    for (kind, step), merged in zip(MERGED, merged_templates(template), strict=True):
        ctx.save(kind, merged, table, fibre="AB", header={**header, **merged_cards(step)}, inherit=first)
    for kind, cube in zip(("BIGCUBE0", "BIGCUBE"), template.cubes, strict=True):
        ctx.save(kind, Image(kind, cube), table, fibre="AB", header=header, inherit=first)


def merged_templates(template: Template) -> list[Table]:
    """Orders merged into one spectrum, on the grids of :data:`MERGED`."""
    import numpy as np

    from apero_dask.io.fitswriter import Table

    grids = [wave_grid(step) for _, step in MERGED]
    blaze = template.blaze
    noise = np.square(template.error * blaze)

    def along(plane: np.ndarray) -> list[Merged]:
        return merge_on(plane * blaze, noise, blaze, template.wave, grids)

    spectra = along(template.flux)
    scatter, count = along(template.scatter), along(template.count.astype(np.float64))
    velocity = [step for _, step in MERGED].index("velocity")
    sharp = deconvolved(spectra[velocity].flux, STEP_KMS)
    known = np.isfinite(sharp)
    tables = []
    for one, spread, number in zip(spectra, scatter, count, strict=True):
        deconv = np.full(one.flux.size, np.nan)
        if known.any():
            inside = np.isfinite(one.flux)
            deconv[inside] = np.interp(one.wavelength[inside], grids[velocity][known], sharp[known])
        columns = {
            "wavelength": one.wavelength,
            "flux": one.flux,
            "eflux": one.error,
            "rms": spread.flux,
            "deconv": deconv,
            "n_valid": np.clip(np.rint(np.nan_to_num(number.flux)), 0, None).astype(np.int32),
        }
        tables.append(Table("TEMPLATE_S1D", columns, units={"wavelength": "nm"}))
    return tables


def frame_table(ctx: RecipeContext, frames: Sequence[Frame]) -> Table:
    """TEMPLATE_TABLE: a row for every spectrum of the object, used or not."""
    from apero_dask.io.fitswriter import Table

    rows: dict[str, list[Any]] = {
        "RowNum": list(range(len(frames))),
        "Filename": [frame.file.name for frame in frames],
        "OBJNAME": [_text(frame, "DRSOBJN") for frame in frames],
        "BERV": [frame.berv for frame in frames],
        "BJD": [_number(frame, "BJD") for frame in frames],
        "BERVMAX": [_number(frame, "BERVMAX") for frame in frames],
        f"SNR{ctx.instrument.snr_telluric}": [frame.snr for frame in frames],
        "MidObsHuman": [
            (MJD_EPOCH + datetime.timedelta(days=frame.mjd)).isoformat(timespec="seconds") for frame in frames
        ],
        "MidObsMJD": [frame.mjd for frame in frames],
        "VERSION": [_text(frame, "VERSION") for frame in frames],
        "DRS_Date": [_text(frame, "DRSVDATE") for frame in frames],
    }
    for column, ending in MADE_WITH:
        rows[f"{column}FILE"] = [_text(frame, f"CDB{ending}") for frame in frames]
        rows[f"{column}TIME"] = [_number(frame, f"CDT{ending}") for frame in frames]
    rows["TEMPLATE_BIN"] = [0] * len(frames)
    rows["USED"] = [int(frame.used) for frame in frames]
    return Table("TEMPLATE_TABLE", rows, units={"BERV": "km/s", "BJD": "d", "BERVMAX": "km/s"})


def _text(frame: Frame, keyword: str) -> str:
    return str(frame.file.values.get(keyword, "")).strip() or "-"


def _number(frame: Frame, keyword: str) -> float:
    value = number_of(frame.file, keyword)
    return float("nan") if value is None else value
