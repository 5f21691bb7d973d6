"""Recovered velocities beside the injected ones: what a reduction made of a simulated campaign.

Reads the ``.csv`` files of velocities that a reduction writes (columns ``object``, ``frame``, ``rv_kms``,
``error_ms``, ``drift_ms``, ``qc``, ``notes``) and the truth of the campaign.  The zero point of a mask is its
own: the mean difference of an object is taken out before anything is judged.  Frames whose quality control
failed are left out, deciding or not: a mask of the wrong kind of star finds peaks in noise.
"""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass
from pathlib import Path

from apero_dask.simulator.archive import StorageError
from apero_dask.simulator.settings import ConfigError

COLUMNS = ("object", "frame", "rv_kms", "error_ms", "drift_ms", "qc", "notes")


@dataclass(frozen=True, slots=True)
class Recovered:
    """One frame."""

    frame: str
    bjd: float
    injected_kms: float
    found_kms: float
    error_ms: float


@dataclass(frozen=True, slots=True)
class Agreement:
    """All frames of one object."""

    name: str
    frames: tuple[Recovered, ...]
    """Those that can be judged."""
    left_out: tuple[str, ...] = ()
    """Frames whose quality control failed, with the tests."""

    @property
    def offset_ms(self) -> float:
        """Mean of recovered minus injected: zero point of the mask."""
        return sum(1e3 * (f.found_kms - f.injected_kms) for f in self.frames) / len(self.frames)

    @property
    def residuals_ms(self) -> list[float]:
        """Recovered minus injected, offset taken out."""
        return [1e3 * (f.found_kms - f.injected_kms) - self.offset_ms for f in self.frames]

    @property
    def rms_ms(self) -> float:
        """Scatter of the residuals; NaN below two frames."""
        count = len(self.frames)
        if count < 2:
            return math.nan
        return math.sqrt(sum(r * r for r in self.residuals_ms) / (count - 1))

    @property
    def predicted_ms(self) -> float:
        """Root mean square of the errors the reduction gives."""
        return math.sqrt(sum(f.error_ms**2 for f in self.frames) / len(self.frames))

    def limit_ms(self, factor: float, floor_ms: float) -> float:
        """Largest rms of a good reduction: `factor` times the predicted error plus `floor_ms`.

        The factor leaves room for chance: twelve frames scatter by a third more than true errors predict in
        one reduction of twenty.
        """
        return factor * self.predicted_ms + floor_ms


def read_recovered(folder: Path, truth: Path) -> list[Agreement]:
    """Objects with recovered and injected velocities, by name.

    Parameters
    ----------
    folder
        Where the ``.csv`` files of velocities are.
    truth
        Output folder of the simulation, the one that holds ``truth``.

    Raises
    ------
    ConfigError
        No truth, no velocities, or a table without the columns.
    """
    from apero_dask.simulator.truth import read_campaign

    try:
        injected = {str(row["identifier"]): row for row in read_campaign(truth)}
    except StorageError as error:
        raise ConfigError(f"{error} Name the output folder of the simulation with --truth.") from error
    found: dict[str, list[Recovered]] = {}
    left_out: dict[str, list[str]] = {}
    for path in sorted(folder.glob("*.csv")):
        with path.open(encoding="utf-8", newline="") as stream:
            rows = list(csv.DictReader(stream))
        if rows and any(column not in rows[0] for column in COLUMNS):
            raise ConfigError(f"{path}: expected the columns {', '.join(COLUMNS)}; write it again.")
        for row in rows:
            true = injected.get(row["frame"])
            if true is None:
                continue
            name = f"{row['object']} ({path.stem})"
            if row["qc"] != "True" or row["notes"] or not row["rv_kms"] or not row["error_ms"]:
                left_out.setdefault(name, []).append(f"{row['frame']} {row['notes']}".rstrip())
                continue
            found.setdefault(name, []).append(
                Recovered(
                    row["frame"],
                    float(true["bjd"]),
                    float(true["rv_kms"]),
                    float(row["rv_kms"]),
                    float(row["error_ms"]),
                )
            )
    if not found:
        raise ConfigError(f"{folder}: no usable velocity of a frame of this simulation.")
    return [
        Agreement(name, tuple(sorted(rows, key=lambda r: r.bjd)), tuple(left_out.get(name, ())))
        for name, rows in sorted((name, found.get(name, [])) for name in left_out.keys() | found.keys())
    ]


def compare(folder: Path, truth: Path, factor: float = 1.3, floor_ms: float = 4.0) -> tuple[list[str], bool]:
    """Lines with recovered and injected velocities, and whether all objects agree.

    Parameters
    ----------
    folder, truth
        See :func:`read_recovered`.
    factor, floor_ms
        See :meth:`Agreement.limit_ms`.  The floor is 1 m/s of the full instrument, times 4 = sqrt(5000/320),
        the lines a mask finds in it and in the small one.

    Raises
    ------
    ConfigError
        There is nothing to compare.
    """
    lines, agree = [], True
    for one in read_recovered(folder, truth):
        lines.append("")
        if not one.frames:
            lines.append(f"{one.name}: no velocity to compare, quality control: {', '.join(one.left_out)}")
            continue
        lines.append(f"{one.name}: recovered minus injected, zero point {one.offset_ms:+.1f} m/s taken out")
        lines.append("  frame       BJD (TDB)       injected km/s  recovered km/s  difference m/s  error m/s")
        for frame, residual in zip(one.frames, one.residuals_ms, strict=True):
            lines.append(
                f"  {frame.frame:<10s}  {frame.bjd:14.5f}  {frame.injected_kms:13.4f}  "
                f"{frame.found_kms:14.4f}  {residual:14.1f}  {frame.error_ms:9.1f}"
            )
        if one.left_out:
            lines.append(f"  left out, quality control: {', '.join(one.left_out)}")
        if len(one.frames) < 2:
            lines.append("  one frame: nothing to compare beyond the zero point")
            continue
        limit = one.limit_ms(factor, floor_ms)
        good = one.rms_ms <= limit
        agree = agree and good
        verdict = "agrees" if good else "does NOT agree"
        lines.append(
            f"  rms {one.rms_ms:.1f} m/s, predicted {one.predicted_ms:.1f} m/s, ratio "
            f"{one.rms_ms / one.predicted_ms:.2f}; limit {limit:.1f} m/s: {verdict}"
        )
    return lines, agree
