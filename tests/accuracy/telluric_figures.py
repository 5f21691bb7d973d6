"""Table rows of the telluric correction."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from apero_kernels.polynomial import low_pass
from scipy.interpolate import CubicSpline

from apero_dask.core.products import KINDS, folder
from apero_dask.io.fits import FitsFile
from apero_dask.simulator.spec import FrameSpec
from apero_dask.tables.derive_tellurics import WATER_MM
from tests.accuracy.figures import Figure, below
from tests.accuracy.reduced import MissingProduct, Reduced

LIT = 0.2
"""Of the largest light of an order: fainter pixels are not judged."""
CONTINUUM_PX = 151


@dataclass(frozen=True)
class Residuals:
    """Judged pixels of a corrected spectrum: transmission above a half."""

    error: np.ndarray
    """Corrected over truth - 1, after its continuum where the air is clear has been taken out: throughput and
    flux calibration are judged elsewhere."""
    sigma: np.ndarray
    """Of the error, from the variance plane."""
    transmission: np.ndarray

    def scatter(self, most: float = 1.0) -> float:
        """Rms over sigma of pixels with less transmission than `most`."""
        pick = self.transmission < most
        return float(np.sqrt(np.mean(np.square(self.error[pick] / self.sigma[pick]))))


def residuals(night: Reduced, spec: FrameSpec, file: FitsFile) -> Residuals:
    """Corrected spectrum of AB against the star without atmosphere."""
    true = night.truth(spec)
    flux, variance = file.image(1, np.float64), file.image("VARIANCE", np.float64)
    wave = wave_of(file, *flux.shape)
    at = np.asarray(true.wave_nm)[:2].mean(axis=0)
    assert true.star_clean is not None
    clean = np.asarray(true.star_clean, float)[:2].sum(axis=0)
    star = np.asarray(true.spectra["star"], float)[:2].sum(axis=0)
    found: list[list[np.ndarray]] = [[], [], []]
    for o in range(flux.shape[0]):
        expected = CubicSpline(at[o], clean[o])(wave[o])
        lit = expected > LIT * np.max(expected)
        with np.errstate(invalid="ignore", divide="ignore"):
            transmission = CubicSpline(at[o], star[o])(wave[o]) / expected
            ratio = flux[o] / expected
            level = low_pass(np.where(lit & (transmission > 0.9), ratio, np.nan), CONTINUUM_PX)
            error, sigma = ratio / level - 1, np.sqrt(variance[o]) / expected
        good = lit & (transmission > 0.5) & np.isfinite(error) & np.isfinite(sigma)
        for values, row in zip((error, sigma, transmission), found, strict=True):
            row.append(values[good])
    return Residuals(*(np.concatenate(row) for row in found))


def wave_of(file: FitsFile, orders: int, columns: int) -> np.ndarray:
    """Wavelengths of the header of a spectrum, nm."""
    terms = int(file.number("WAVEDEGN")) + 1
    series = [[file.number(f"WAVE{o * terms + j:04d}") for j in range(terms)] for o in range(orders)]
    u = 2 * np.arange(columns) / columns - 1
    return np.asarray(np.polynomial.chebyshev.chebval(u, np.array(series).T))


def telluric_figures(night: Reduced) -> Iterator[Figure]:
    """Exponents of all stars, residuals of the science targets."""
    stars = [s for s in night.specs if s.target is not None and s.obs_dir == night.night]
    water, dry, scatter, absorbed, bias, deep = {}, {}, {}, {}, {}, {}
    for spec in stars:
        hot = spec.target is not None and spec.target.kind == "hot"
        kind = KINDS["TRANS2" if hot else "TCORR"]
        path = night.root / folder("reduced", "night", night.night, kind.life)
        path /= kind.file_name(spec.identifier, "AB")
        if not path.is_file():
            continue
        file, name = FitsFile(path), spec.identifier
        water[name] = 100 * (file.number("TLPEH2O") / (spec.airmass * spec.pwv_mm / WATER_MM) - 1)
        dry[name] = 100 * (file.number("TLPEOTR") / spec.airmass - 1)
        if hot:
            continue
        found = residuals(night, spec, file)
        scatter[name], absorbed[name] = found.scatter(), found.scatter(0.9)
        bias[name] = 100 * float(np.median(found.error))
        deep[name] = float(np.median(found.error[found.transmission < 0.9]))
    if not scatter:
        raise MissingProduct("no corrected spectrum of a science target, expected TCORR of tellu_seq")
    note = "of the column of the built-in table, whose lines are wrong by 5 per cent each"
    yield below("water exponent, error", 2.0, water, unit=" %", form=".2f", note=note)
    yield below("airmass exponent, error", 2.0, dry, unit=" %", form=".2f")
    yield below("telluric residual / sigma, T > 0.5", 1.3, scatter)
    yield below("bias of corrected / truth, T > 0.5", 0.3, bias, unit=" %")
    text = ", ".join(f"{name} {value:.2f} ({100 * deep[name]:.2f} %)" for name, value in absorbed.items())
    yield Figure("telluric residual / sigma (and bias), 0.5 < T < 0.9", "", text, None)
