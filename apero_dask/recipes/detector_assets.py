"""What is known about the detector beyond a single frame: hot pixels, fixed patterns, response.

One file per instrument in the assets, made from the raw darks of an archive by ``apero-dask assets
detector``. Everything in it is optional for those who read it.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from apero_dask.core.errors import DataError
from apero_dask.instruments import Instrument
from apero_dask.recipes.context import RecipeContext
from apero_dask.recipes.sharing import file_key

if TYPE_CHECKING:
    import numpy as np

FOLDER = "detector"

HOT_PIXELS = "HOT_PIXELS"
"""Table: ROW, COLUMN (raw orientation), NSIG."""
SLOPE_MAP = "AMP_SLOPE"
"""float32[row, pixel of an amplifier in read order], ADU/s."""
INTERCEPT_MAP = "AMP_INTERCEPT"
"""float32[row, pixel of an amplifier in read order], ADU."""
BIAS = "BIAS"
"""float32[raw row, raw column], ADU: structure of the intercept plane."""
DARK = "DARK"
"""float32[raw row, raw column], ADU/s: dark of every pixel."""
DARK_VARIANCE = "DARK_VARIANCE"
"""float32[raw row, raw column], (ADU/s)^2: error of DARK."""
UNSTABLE = "UNSTABLE"
"""uint8[raw row, raw column]: 1 = the dark jumps between levels."""
FLAT = "FLAT"
"""float32[raw row, raw column]: response under full illumination, about 1."""
EVERYTHING = (HOT_PIXELS, SLOPE_MAP, INTERCEPT_MAP, BIAS, DARK, DARK_VARIANCE, UNSTABLE, FLAT)


@dataclass(frozen=True, slots=True)
class DetectorAssets:
    """Contents of the detector file; all of it may be missing."""

    hot_rows: np.ndarray | None = None
    """int64."""
    hot_columns: np.ndarray | None = None
    slope_map: np.ndarray | None = None
    intercept_map: np.ndarray | None = None
    bias: np.ndarray | None = None
    dark: np.ndarray | None = None
    dark_variance: np.ndarray | None = None
    unstable: np.ndarray | None = None
    flat: np.ndarray | None = None
    digest: str = field(default="")
    """Content of the file, empty without one or when only a part of it was read."""

    @property
    def nbytes(self) -> int:
        """Memory of all arrays: the cache of a process is bounded by it."""
        values = (getattr(self, name) for name in self.__slots__)
        return sum(int(getattr(value, "nbytes", 0)) for value in values)

    @property
    def has_hot_pixels(self) -> bool:
        """Whether there is a list of hot pixels."""
        return self.hot_rows is not None and len(self.hot_rows) > 0

    @property
    def has_pattern(self) -> bool:
        """Whether there is a model of the fixed pattern of an amplifier."""
        return self.slope_map is not None and self.intercept_map is not None

    @property
    def has_dark(self) -> bool:
        """Whether the dark of every pixel is known."""
        return self.dark is not None and self.unstable is not None


def assets_path(assets: Path, instrument: Instrument) -> Path:
    """Place of the detector file of an instrument below the assets."""
    return assets / FOLDER / f"{instrument.name.lower()}_detector.fits"


def load_assets(ctx: RecipeContext, wanted: Collection[str] = EVERYTHING) -> DetectorAssets:
    """Detector file of the instrument; an absent one is empty.

    Parameters
    ----------
    wanted
        Names of the extensions that are read; the others, and the digest, stay empty.

    Raises
    ------
    DataError
        The file is damaged or belongs to another detector.
    """
    path = assets_path(ctx.trees.assets, ctx.instrument)
    try:
        key = f"detector {file_key(path)} {' '.join(sorted(wanted))}"
    except FileNotFoundError:
        return DetectorAssets()
    loaded: DetectorAssets = ctx.cached(key, lambda: read_assets(path, ctx.instrument, wanted))
    return loaded


def read_assets(path: Path, instrument: Instrument, wanted: Collection[str] = EVERYTHING) -> DetectorAssets:
    """Read a detector file; see :func:`load_assets`."""
    import numpy as np

    from apero_dask.io.fits import FitsFile
    from apero_dask.io.fitswriter import content_digest

    file = FitsFile(path)
    raw = (instrument.raw_rows, instrument.raw_columns)
    amplifier = (instrument.raw_rows, instrument.raw_columns // instrument.amplifiers)
    shapes = dict.fromkeys((BIAS, DARK, DARK_VARIANCE, UNSTABLE, FLAT), raw)
    shapes |= dict.fromkeys((SLOPE_MAP, INTERCEPT_MAP), amplifier)
    planes: dict[str, np.ndarray | None] = dict.fromkeys(shapes)
    for name, shape in shapes.items():
        if name in wanted and file.has(name):
            plane = file.image(name, np.uint8 if name == UNSTABLE else np.float32)
            if plane.shape != shape:
                raise DataError(
                    f"{path}: {name} has shape {plane.shape}, {instrument.name} needs {shape}; make "
                    "the file again "
                    "with: apero-dask assets detector."
                )
            plane.flags.writeable = False
            planes[name] = plane
    rows = columns = None
    if HOT_PIXELS in wanted and file.has(HOT_PIXELS):
        table = file.table(HOT_PIXELS)
        if not {"ROW", "COLUMN"} <= set(table):
            raise DataError(
                f"{path}: {HOT_PIXELS} has columns {', '.join(table)}, expected ROW and COLUMN; make "
                "the file "
                "again with: apero-dask assets detector."
            )
        rows, columns = (np.ascontiguousarray(table[name], np.int64) for name in ("ROW", "COLUMN"))
        inside = (rows >= 0) & (rows < raw[0]) & (columns >= 0) & (columns < raw[1])
        if not inside.all():
            raise DataError(
                f"{path}: {np.count_nonzero(~inside)} hot pixel(s) outside the {raw[0]} x {raw[1]} pixels of "
                f"{instrument.name}; make the file again with: apero-dask assets detector."
            )
    return DetectorAssets(
        rows,
        columns,
        planes[SLOPE_MAP],
        planes[INTERCEPT_MAP],
        planes[BIAS],
        planes[DARK],
        planes[DARK_VARIANCE],
        planes[UNSTABLE],
        planes[FLAT],
        content_digest(path) if set(EVERYTHING) <= set(wanted) else "",
    )
