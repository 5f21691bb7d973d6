"""Radial velocities of every object: read from the products, as lines of a summary.

Nothing is kept anywhere else: the tables follow from the headers of the velocity products alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from apero_dask.core.products import KINDS
from apero_dask.io.primary import HeaderError, Value, read_primary

SOURCES = ("tcorr", "tcorr_p1", "e2dsff_lcorr", "e2dsff", "e2ds")
"""Spectra a velocity can be from, by their file names; of one frame the first counts."""
MOST_ROWS = 20
"""Frames of an object in the summary; its files hold all."""
KEYWORDS = (
    "DRSOUTID", "FIBER", "DRSOBJN", "FILENAME", "BJD", "MJDMID", "BERV", "AIRMASS", "EXPTIME", "RV_CORR",
    "RV_DRIFT", "RVDRIFTK", "RVDRIFTE", "DVRMS_CC", "DVRMS_SP", "CCFMFWHM", "CCFMCONT", "CCFBIS", "CCFMASK",
    "CCFSNR", "QCC_ALL",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Velocity:
    """Velocity of one frame; NaN where something is not known."""

    object: str
    frame: str
    """Odometer and letter."""
    night: str
    bjd: float
    """TDB, mid-exposure."""
    rv_kms: float
    """Corrected for drift."""
    error_ms: float
    """Photon noise of star and drift."""
    snr: float
    drift_ms: float
    """What was subtracted; NaN if it was not measured."""
    qc: bool
    """No deciding test failed."""
    notes: str
    """Informative tests that failed, separated by blanks."""
    fwhm_kms: float
    contrast: float
    """Per cent."""
    bisector_ms: float
    berv_kms: float
    limit_ms: float
    """Photon noise of the whole spectrum."""
    mjd: float
    airmass: float
    exptime_s: float
    mask: str
    file: str

    @property
    def usable(self) -> bool:
        """Whether it is a velocity that passed."""
        return self.qc and math.isfinite(self.rv_kms) and math.isfinite(self.error_ms)


@dataclass(frozen=True, slots=True)
class Series:
    """All velocities of one object with one mask, in order of time."""

    object: str
    mask: str
    rows: tuple[Velocity, ...]

    @property
    def usable(self) -> tuple[Velocity, ...]:
        """Those that passed."""
        return tuple(row for row in self.rows if row.usable)

    @property
    def mean_kms(self) -> float:
        """Weighted mean; NaN without a usable velocity."""
        weights = [1.0 / row.error_ms**2 for row in self.usable]
        return (
            sum(w * row.rv_kms for w, row in zip(weights, self.usable, strict=True)) / sum(weights)
            if weights
            else math.nan
        )

    @property
    def rms_ms(self) -> float:
        """Scatter around the mean; NaN below two."""
        values = [1e3 * row.rv_kms for row in self.usable]
        if len(values) < 2:
            return math.nan
        mean = sum(values) / len(values)
        return math.sqrt(sum((v - mean) ** 2 for v in values) / (len(values) - 1))

    @property
    def mean_error_ms(self) -> float:
        """Root mean square of the errors."""
        errors = [row.error_ms for row in self.usable]
        return math.sqrt(sum(e * e for e in errors) / len(errors)) if errors else math.nan


def read_series(reduced: Path, only: Iterable[Path] | None = None) -> tuple[list[Series], list[str]]:
    """Velocities below the reduced tree by object and mask, and what could not be read.

    Parameters
    ----------
    reduced
        The tree.
    only
        Read these products; None = all that are there.

    Notes
    -----
    A frame whose velocity was measured on several spectra counts with the most corrected one.
    """
    problems: list[str] = []
    found: dict[tuple[str, str, str], tuple[int, Velocity]] = {}
    paths = sorted(reduced.rglob("*_ccf_*.fits")) if only is None else sorted(only)
    for path in paths:
        if path.name.startswith("."):
            continue
        try:
            values = read_primary(path, KEYWORDS).values
        except HeaderError as error:
            problems.append(f"{path}: {error}; run cal_ccf on its spectrum again.")
            continue
        if values.get("DRSOUTID") != KINDS["CCF"].outid or "CCFBIS" not in values:
            continue  # of the comb, or of another program
        row = _row(path, values, _failed_tests(path))
        key = (row.object, row.mask, row.frame)
        rank = _rank(path.name)
        if key not in found or rank < found[key][0]:
            found[key] = (rank, row)
    series: dict[tuple[str, str], list[Velocity]] = {}
    for (name, mask, _), (_, row) in found.items():
        series.setdefault((name, mask), []).append(row)
    return [
        Series(name, mask, tuple(sorted(rows, key=lambda r: (_last(r.bjd), r.frame))))
        for (name, mask), rows in sorted(series.items())
    ], problems


def velocity_lines(
    series: Sequence[Series],
    places: Mapping[tuple[str, str], Path] | None = None,
    earlier: Mapping[str, str] | None = None,
) -> Iterator[str]:
    """Table of every object: time, velocity, error, S/N, drift, quality.

    ``earlier``: by the name of a product that should have been made anew, how that run ended instead.
    """
    earlier = earlier or {}
    for one in series:
        usable = one.usable
        yield ""
        head = f"Velocities of {one.object} (mask {one.mask}): {len(usable)} of {len(one.rows)} usable"
        if usable:
            head += f", mean {one.mean_kms:.4f} km/s"
        if len(usable) > 1:
            head += f", rms {one.rms_ms:.1f} m/s, mean error {one.mean_error_ms:.1f} m/s"
        old = sum(row.file in earlier for row in one.rows)
        yield head + (f"; {old} of an earlier run" if old else "")
        yield "  frame       BJD (TDB)        RV km/s   error m/s     S/N  drift m/s  QC"
        for row in one.rows[:MOST_ROWS]:
            quality = "failed" if not row.qc else "ok" if not row.notes else row.notes
            if row.file in earlier:
                quality = f"of an earlier run ({earlier[row.file]} now)"
            yield (
                f"  {row.frame:<10s}  {_number(row.bjd, 14, 5)}  {_number(row.rv_kms, 10, 4)}"
                f"  {_number(row.error_ms, 9, 1)}  {_number(row.snr, 6, 1)}  {_number(row.drift_ms, 9, 2)}"
                f"  {quality}"
            )
        if len(one.rows) > MOST_ROWS:
            yield f"  ... and {len(one.rows) - MOST_ROWS} more"
        if places and (one.object, one.mask) in places:
            yield f"  in {places[one.object, one.mask]} (.csv, .fits)"


def _number(value: float, width: int, digits: int) -> str:
    return f"{value:{width}.{digits}f}" if math.isfinite(value) else "-".rjust(width)


def _last(value: float) -> float:
    return value if math.isfinite(value) else math.inf


def _rank(name: str) -> int:
    stem = name.partition("_ccf_")[0]
    for rank, source in enumerate(SOURCES):
        if f"_{source}_" in f"{stem}_":
            return rank
    return len(SOURCES)


def _row(path: Path, values: Mapping[str, Value], notes: str) -> Velocity:
    def number(keyword: str) -> float:
        value = values.get(keyword)
        try:
            return float(value) if value is not None and not isinstance(value, bool) else math.nan
        except ValueError:
            return math.nan

    known = values.get("RVDRIFTK") is True
    drift_error = number("RVDRIFTE") if known else 0.0
    return Velocity(
        object=str(values.get("DRSOBJN", "")).strip() or "UNKNOWN",
        frame=str(values.get("FILENAME", "")).strip() or path.name.partition("_")[0],
        night=path.parent.name,
        bjd=number("BJD"),
        rv_kms=number("RV_CORR"),
        error_ms=math.hypot(number("DVRMS_CC"), drift_error if math.isfinite(drift_error) else 0.0),
        snr=number("CCFSNR"),
        drift_ms=1e3 * number("RV_DRIFT") if known else math.nan,
        qc=values.get("QCC_ALL") is True,
        notes=notes,
        fwhm_kms=number("CCFMFWHM"),
        contrast=number("CCFMCONT"),
        bisector_ms=1e3 * number("CCFBIS"),
        berv_kms=number("BERV"),
        limit_ms=number("DVRMS_SP"),
        mjd=number("MJDMID"),
        airmass=number("AIRMASS"),
        exptime_s=number("EXPTIME"),
        mask=_stem(str(values.get("CCFMASK", ""))),
        file=path.name,
    )


def _stem(mask: str) -> str:
    for ending in (".mas", ".fits", ".csv"):
        mask = mask.removesuffix(ending)
    return mask.lower()


def _failed_tests(path: Path) -> str:
    """Names of the tests that failed; those that decide are marked by QCC_ALL."""
    values = read_primary(path).values
    names = []
    number = 1
    while f"QCC{number:03d}N" in values:
        if values.get(f"QCC{number:03d}P") == 0:
            names.append(str(values[f"QCC{number:03d}N"]))
        number += 1
    return " ".join(names)
