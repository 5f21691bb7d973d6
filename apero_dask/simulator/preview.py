"""A picture of one raw frame: the whole image, a piece of it pixel by pixel, a cut across, a spectrum."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.polynomial import chebyshev

from apero_dask.simulator.archive import write_file
from apero_dask.simulator.detector import full_from_raw
from apero_dask.simulator.png import BLUE, GREY, RED, Canvas, png_bytes
from apero_dask.simulator.settings import ConfigError
from apero_dask.simulator.tables import PACKAGED, Geometry, GeometryConfig, OrderTable, load_instrument

WIDTH = 1180
MARGIN = 90
"""Pixels of the picture; to the left and right of every panel."""
PIECE = (330, 110)
"""Columns and rows of the piece that is shown pixel by pixel."""
MAGNIFY = 3


@dataclass(frozen=True, eq=False)
class _Frame:
    image: np.ndarray
    """float32[y, x] ADU/s on the full flipped frame: dispersion to the right, red orders on top."""
    header: dict[str, Any]
    geometry: Geometry
    table: OrderTable


def preview(frame: str | Path, png: str | Path | None = None) -> Path:
    """Draw a raw frame and return the path of the picture.

    Parameters
    ----------
    frame : raw file of this simulator or of the instrument
    png : where to write; default: name of the frame with ``.png``, in the current folder

    Raises
    ------
    ConfigError
        The file is no raw frame, or ``png`` is a folder, a device or a pipe.
    StorageError
        The picture cannot be written.
    """
    frame = Path(frame)
    target = Path(png) if png is not None else Path(frame.name.split(".")[0] + ".png")
    if target.exists() and not target.is_file():
        what = "a folder" if target.is_dir() else "no regular file"
        raise ConfigError(f"--png {target} is {what}; give the name of a picture file, such as frame.png.")
    shown = _read(frame)
    write_file(target.absolute(), [png_bytes(draw(shown).pixels)])
    return target


def _read(path: Path) -> _Frame:
    from astropy.io import fits

    try:
        with fits.open(path, memmap=False) as units:
            header = dict(units[0].header)
            slope = units[1].data if len(units) > 1 else None
    except FileNotFoundError:
        raise ConfigError(f"frame {path} does not exist; give the path of a raw FITS file.") from None
    except (OSError, ValueError, TypeError) as error:
        raise ConfigError(
            f"frame {path} cannot be read as FITS: {error}; give the path of a raw file."
        ) from None
    if slope is None or slope.ndim != 2:
        raise ConfigError(f"frame {path} holds no image in its first extension: there is nothing to draw.")
    for name in PACKAGED:
        geometry, table = load_instrument(name, GeometryConfig())
        if (geometry.raw_rows, geometry.raw_columns) == slope.shape:
            return _Frame(full_from_raw(slope.astype(np.float32)), header, geometry, table)
    raise ConfigError(
        f"frame {path} has {slope.shape[0]} x {slope.shape[1]} pixels; "
        f"only frames of {' and '.join(PACKAGED)} can be drawn."
    )


def draw(shown: _Frame) -> Canvas:
    """Lay out the four panels."""
    panel = WIDTH - 2 * MARGIN
    image = shown.image
    factor = -(-image.shape[1] // panel)
    height = image.shape[0] // factor
    sheet = Canvas(WIDTH, height + MAGNIFY * PIECE[1] + 590)
    h = shown.header
    words = [str(h.get(k, "")) for k in ("FILENAME", "OBJECT", "DATE-OBS", "UTC-OBS")]
    lamps = f"{h.get('SBCCAS_P', '')} {h.get('SBCREF_P', '')}"
    sheet.text(MARGIN, 12, "  ".join([*words, lamps, f"{h.get('EXPTIME', 0)} s", f"{h.get('SIMINST', '')}"]))

    top = 50
    _whole(sheet, shown, factor, top)
    top += height + 60
    x0, y0 = _piece(sheet, shown, top)
    top += MAGNIFY * PIECE[1] + 60
    _cut(sheet, shown, (MARGIN, top, WIDTH - MARGIN, top + 160), x0 + PIECE[0] // 2, y0)
    _spectrum(sheet, shown, (MARGIN, top + 220, WIDTH - MARGIN, top + 380))
    return sheet


def _colours(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """Black over red and yellow to white, equal steps of the square root; no information in blue-grey."""
    bright = np.sqrt(np.clip((values - low) / max(high - low, 1e-30), 0.0, 1.0))
    stages = np.stack([3.0 * bright, 3.0 * bright - 1.0, 3.0 * bright - 2.0], axis=-1)
    colours = (255 * np.clip(stages, 0.0, 1.0)).astype(np.uint8)
    colours[~np.isfinite(values)] = (90, 100, 120)
    return colours


def _limits(values: np.ndarray) -> tuple[float, float]:
    good = values[np.isfinite(values)]
    if good.size == 0:
        return 0.0, 1.0
    low, high = np.percentile(good, [5.0, 99.7])
    return float(low), float(max(high, low + 1e-6))


def _whole(sheet: Canvas, shown: _Frame, factor: int, top: int) -> None:
    """The frame, binned by medians so that hot pixels do not hide the orders."""
    image = shown.image
    rows, columns = image.shape[0] // factor, image.shape[1] // factor
    blocks = image[: rows * factor, : columns * factor].reshape(rows, factor, columns, factor)
    binned = np.median(blocks.transpose(0, 2, 1, 3).reshape(rows, columns, -1), axis=2)
    left = (WIDTH - columns) // 2
    sheet.image(left, top, _colours(binned, *_limits(binned))[::-1])
    box = (left - 1, top - 1, left + columns, top + rows)
    sheet.frame(
        box, (0, columns * factor), (0, rows * factor), "column", "row, slope image, full flipped frame"
    )


def _middle(shown: _Frame, fibre: int, order: int) -> float:
    """Row of a trace at mid-order, full flipped frame."""
    return float(_trace(shown, fibre, order)[shown.geometry.nx // 2])


def _trace(shown: _Frame, fibre: int, order: int) -> np.ndarray:
    """Rows of a trace in all columns of the calibrated frame, full flipped frame."""
    g, t = shown.geometry, shown.table
    u = 2.0 * (np.arange(g.nx) + t.x_start) / t.length - 1.0
    return chebyshev.chebval(u, t.trace_px[fibre, order]) - t.y_start + g.y0


def _order(shown: _Frame) -> int:
    return list(shown.table.echelle).index(shown.geometry.snr_telluric)


def _piece(sheet: Canvas, shown: _Frame, top: int) -> tuple[int, int]:
    """Pixels around the middle of an H-band order, three times enlarged; returns the lower left corner."""
    image, g = shown.image, shown.geometry
    y0 = int(np.clip(_middle(shown, 1, _order(shown)) - PIECE[1] // 2, 0, image.shape[0] - PIECE[1]))
    x0 = int(np.clip(g.x0 + g.nx // 2 - PIECE[0] // 2, 0, image.shape[1] - PIECE[0]))
    part = image[y0 : y0 + PIECE[1], x0 : x0 + PIECE[0]]
    large = np.repeat(np.repeat(_colours(part, *_limits(part))[::-1], MAGNIFY, axis=0), MAGNIFY, axis=1)
    left = (WIDTH - large.shape[1]) // 2
    sheet.image(left, top, large)
    box = (left - 1, top - 1, left + large.shape[1], top + large.shape[0])
    sheet.frame(box, (x0, x0 + PIECE[0]), (y0, y0 + PIECE[1]), "column", "row, pixel by pixel")
    return x0, y0


def _range(values: np.ndarray) -> tuple[float, float]:
    good = values[np.isfinite(values)]
    if good.size == 0:
        return 0.0, 1.0
    low, high = np.percentile(good, [0.5, 99.8])
    room = 0.08 * max(high - low, 1e-6)
    return float(low - room), float(high + room)


def _cut(sheet: Canvas, shown: _Frame, box: tuple[int, int, int, int], x: int, y0: int) -> None:
    """Slope across the dispersion, median of nine columns, over about four orders."""
    rows = np.arange(max(y0 - 100, 0), min(y0 + 240, shown.image.shape[0]))
    profile = np.median(shown.image[rows, x - 4 : x + 5], axis=1)
    x_range, y_range = (float(rows[0]), float(rows[-1])), _range(profile)
    for order in range(len(shown.table.echelle)):
        for fibre, name in enumerate("ABC"):
            y = float(_trace(shown, fibre, order)[x - shown.geometry.x0])
            if x_range[0] < y < x_range[1]:
                at = box[0] + (y - x_range[0]) / (x_range[1] - x_range[0]) * (box[2] - box[0])
                sheet.line(at, box[1], at, box[3], GREY)
                sheet.text(round(at), box[1] + 3, f"{name}{shown.table.echelle[order]}", RED, "centre")
    sheet.frame(
        box, x_range, y_range, "row", f"adu/s across the orders at column {x}, tables' traces in grey"
    )
    sheet.curve(box, x_range, y_range, profile, rows.astype(float))


def _spectrum(sheet: Canvas, shown: _Frame, box: tuple[int, int, int, int]) -> None:
    """Sum of 15 rows along the trace of the tables in the middle of an H-band order: brightest fibre."""
    g, order = shown.geometry, _order(shown)
    columns = np.arange(g.nx) + g.x0
    spectra = []
    for fibre in range(3):
        rows = np.rint(_trace(shown, fibre, order)).astype(int)[:, None] + np.arange(-7, 8)
        rows = rows.clip(0, shown.image.shape[0] - 1)
        spectra.append(np.nansum(shown.image[rows, columns[:, None]], axis=1))
    best = int(np.argmax([np.percentile(s, 90) for s in spectra]))
    wave = shown.table.wave_nm[1 + best, order]
    # No more columns than the panel has pixels: lines closer together would run into one another.
    shown_columns = slice(max(0, (g.nx - 1000) // 2), (g.nx - 1000) // 2 + 1000 if g.nx > 1000 else None)
    columns, spectrum = columns[shown_columns], spectra[best][shown_columns]
    u = 2.0 * (columns[[0, -1]] - g.x0 + shown.table.x_start) / shown.table.length - 1.0
    ends = chebyshev.chebval(u, wave)
    x_range, y_range = (float(columns[0]), float(columns[-1])), _range(spectrum)
    words = (
        f"adu/s, fibre {'ABC'[best]}, order {shown.table.echelle[order]}: {ends[0]:.1f} to {ends[1]:.1f} nm"
    )
    sheet.frame(box, x_range, y_range, "column", words)
    sheet.curve(box, x_range, y_range, spectrum, columns.astype(float), BLUE)
