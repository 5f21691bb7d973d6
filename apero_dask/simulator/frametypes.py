"""Frame types of ``dprtypes.csv`` as the header writer and the campaigns need them."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources

from apero_dask.simulator.settings import ConfigError


@dataclass(frozen=True, slots=True)
class FrameType:
    """One row of the table: header values and exposure of a frame type."""

    name: str
    obstype: str
    sbccas: str
    """Position code of the science fibre selector."""
    sbcref: str
    """Position code of the reference fibre selector."""
    sbcali: str
    """Calibration wheel, ``*`` where it is not tested."""
    drsmode: str
    """``SPECTROSCOPY``, ``POLAR`` or ``*``."""
    trg_type: str
    """``TARGET``, ``SKY`` or ``*``."""
    letter: str
    science: str
    """What fibres A and B see: dark, flat, fp, hc1, hc2, lfc, star or sky."""
    reference: str
    """What fibre C sees."""
    nreads: int
    """Reads of a standard exposure, 0 for types without one."""

    @property
    def is_object(self) -> bool:
        """True for frames taken on the sky."""
        return self.obstype == "OBJECT"


@lru_cache(maxsize=1)
def frame_types() -> dict[str, FrameType]:
    """Return all frame types by name, in the order of the table."""
    text = resources.files("apero_dask.tables").joinpath("dprtypes.csv").read_text(encoding="utf-8")
    rows = csv.DictReader(line for line in text.splitlines() if not line.startswith("#"))
    return {
        row["dprtype"]: FrameType(
            name=row["dprtype"],
            obstype=row["obstype"],
            sbccas=row["sbccas_p"],
            sbcref=row["sbcref_p"],
            sbcali=row["sbcali_p"],
            drsmode=row["drsmode"],
            trg_type=row["trg_type"],
            letter=row["letter"],
            science=row["science_fibres"],
            reference=row["reference_fibre"],
            nreads=int(row["nreads"] or 0),
        )
        for row in rows
    }


def frame_type(name: str) -> FrameType:
    """Return one frame type.

    Raises
    ------
    ConfigError
        The table has no row of that name, or the row has no standard exposure.
    """
    found = frame_types().get(name)
    if found is None or found.nreads == 0:
        usable = ", ".join(t.name for t in frame_types().values() if t.nreads)
        raise ConfigError(f"frame type '{name}' cannot be simulated; known types: {usable}")
    return found
