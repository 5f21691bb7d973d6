"""Table rows of the wavelength solutions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from apero_dask.recipes.calibrated import calibrated
from apero_dask.recipes.spectrum import extract_fibre
from apero_dask.recipes.straight import straighten
from apero_dask.recipes.wave_anchor import true_lines
from apero_dask.recipes.wave_catalogue import load_catalogue
from apero_dask.recipes.wave_cavity import cavity_of, place
from apero_dask.recipes.wave_comb import find_comb, measure_comb, predict_comb
from apero_dask.recipes.wave_maps import WaveMap, map_of
from apero_dask.recipes.wave_products import anchors_of_tables
from apero_dask.recipes.wave_solution import NEAR_COMB
from apero_dask.simulator.coupling import couple_neighbours
from tests.accuracy import waves as measure
from tests.accuracy.figures import Figure, below
from tests.accuracy.reduced import Reduced, mean_frame

TIERS = {"reference": "WAVEM", "night": "WAVE"}


def wave_figures(night: Reduced) -> Iterator[Figure]:
    """Peaks, their numbers, maps of both tiers and all fibres."""
    ctx = night.context("cal_thermal")
    spec = night.of_type("FP_FP")[0]
    true = night.truth(spec)
    seen = {f: night.seen(ctx, true, f) for f in night.instrument.fibres}
    blaze = {
        f: np.mean(
            [s.of(true.blaze["ABC".index(m)].astype(float)) for s, m in zip(seen[f], f, strict=True)], axis=0
        )
        for f in seen
    }
    waves = {
        f: np.mean([s.of(true.wave_nm["ABC".index(m)]) for s, m in zip(seen[f], f, strict=True)], axis=0)
        for f in seen
    }
    yield from _peaks(night, waves, blaze)
    peaks = clean_peaks(night, blaze)
    for tier, kind in TIERS.items():
        yield from _maps(night, tier, kind, peaks)


def _columns(wave: np.ndarray, order: np.ndarray, lam: np.ndarray) -> np.ndarray:
    """Columns at which wavelengths fall, from the true map."""
    x = np.full(lam.size, np.nan)
    for o in np.unique(order):
        rows, known = order == o, np.isfinite(wave[o])
        if known.sum() > 100:
            x[rows] = np.interp(lam[rows], wave[o][known], np.flatnonzero(known), np.nan, np.nan)
    return x


def _peaks(night: Reduced, waves: dict[str, np.ndarray], blaze: dict[str, np.ndarray]) -> Iterator[Figure]:
    spec = night.of_type("FP_FP")[0]
    i = night.instrument
    pulls, slow, right, number = {}, {}, {}, {}
    for fibre, wave in waves.items():
        table = night.file("WAVEFPL", fibre).table(1)
        good = np.isfinite(table["PIXEL_MEAS"]) & (table["PEAK_NUMBER"] > 0)
        order, x = table["ORDER"][good], table["PIXEL_MEAS"][good]
        at = np.clip(np.rint(x).astype(int), 0, i.nx - 1)
        lam = measure.peak_wavelengths(
            table["PEAK_NUMBER"][good], table["WAVE_REF"][good], night.config, spec
        )
        miss = x - _columns(wave, order, lam)
        lit = np.isfinite(miss) & (blaze[fibre][order, at] > 0.2)
        sigma = table["PIXEL_ERR"][good]
        pulls[fibre] = measure.rms_about_curves(miss, sigma, order, x, lit)
        slow[fibre] = float(np.std(np.concatenate(measure.curves_through(miss, order, x, lit)[1])))
        counted = measure.true_numbers(
            np.array([np.interp(c, np.arange(i.nx), wave[o]) for o, c in zip(order, x, strict=True)]),
            night.config,
            spec,
        )
        wrong = np.abs(counted - table["PEAK_NUMBER"][good]) > 0.2
        known = np.isfinite(counted)
        bad = np.unique(order[known & wrong])
        right[fibre] = 100.0 * (1 - bad.size / i.norders)
        number[fibre] = int(good.sum())
    yield below(
        "Fabry-Perot peaks, rms over photon error", 1.2, pulls, note="about a cubic through 40 peaks; the "
        "slow part is that of the slit maps: " + ", ".join(f"{f} {v:.4f} px" for f, v in slow.items()),
    )  # fmt: skip
    yield Figure(
        "Fabry-Perot numbering, orders that are right", "100 %",
        ", ".join(f"{f} {v:.1f}" for f, v in right.items()) + " %", all(v == 100.0 for v in right.values()),
        ", ".join(f"{f} {v} peaks" for f, v in number.items()),
    )  # fmt: skip


@dataclass(frozen=True)
class CleanPeaks:
    """Peaks of a fibre in a comb painted without noise, extracted as the real one."""

    order: np.ndarray
    x: np.ndarray
    """Columns, px."""
    wave: np.ndarray
    """True nm."""
    blaze: np.ndarray
    """Blaze where they stand."""

    def errors(self, wave: WaveMap) -> np.ndarray:
        """Errors of a map at the peaks, m/s."""
        return np.asarray(measure.C_MS * (wave.wavelength(self.order, self.x) / self.wave - 1))


def clean_peaks(night: Reduced, blaze: dict[str, np.ndarray]) -> dict[str, CleanPeaks]:
    """Which wavelength falls on which column of a spectrum: all effects of straightening, no noise."""
    i, specs = night.instrument, night.of_type("FP_FP")
    frame = calibrated(night.context("cal_loc", specs[:1]), "files", statistic="mean")
    # Combs of evening and morning are combined: the light drifts by some thousandths of a pixel between them.
    spec = mean_frame(specs)
    light = couple_neighbours(night.light(spec, scatter=False), night.config.detector.ipc_fraction)
    ctx = night.context("cal_thermal")
    straight = straighten(ctx, replace(frame, image=light.astype(np.float32)))
    cavity = cavity_of(night.file("WAVECAV").table(1), "WAVECAV")
    found = {}
    for fibre in i.fibres:
        spectrum = extract_fibre(ctx, straight, fibre, flat=False, cosmics=False)
        start = solution(night, "WAVEM", fibre)
        lines = find_comb(spectrum.e2ds, spectrum.variance, cavity, start)
        lines = lines.select(np.flatnonzero(lines.good))
        length = measure.true_numbers(start.wavelength(lines.order, lines.x), night.config, spec)
        lines = replace(lines, label=np.rint(length).astype(np.int64))
        # The centre of a line is that of the model with which the recipe measures, asymmetry included.
        predicted = predict_comb(cavity, start, lines)
        lines, _ = measure_comb(spectrum.e2ds, spectrum.variance, predicted, cavity, start, NEAR_COMB)
        lines = lines.select(np.flatnonzero(lines.good))
        order, x = lines.order, lines.x
        lam = start.wavelength(order, x)
        lam = measure.peak_wavelengths(lines.label.astype(float), lam, night.config, spec)
        at = np.clip(np.rint(x).astype(int), 0, i.nx - 1)
        found[fibre] = CleanPeaks(order, x, lam, blaze[fibre][order, at])
    return found


def solution(night: Reduced, kind: str, fibre: str) -> WaveMap:
    """Map of a product."""
    file = night.file(kind, fibre)
    return map_of(file.table("COEFF_TABLE"), night.instrument, file.name)


def ideal_colour(night: Reduced, wave: np.ndarray) -> tuple[float, float]:
    """Rms over wavelengths of the colour that the lamp lines cannot tell, and at the longest, m/s.

    Of a fit by the function the cavity was changed with (a cubic) that knows which lines are wrong and how
    large the errors of the catalogue are.
    """
    tables = [night.file("WAVEHCL", fibre).table(1) for fibre in night.instrument.localised]
    lines = anchors_of_tables(tables, load_catalogue(None))
    cavity = cavity_of(night.file("WAVECAV").table(1), "WAVECAV")
    known = true_lines(lines.velocity, lines.sigma)[1] > 0.5
    error = np.hypot(lines.sigma, night.config.lines.catalogue_rms_ms)[known]
    design = np.polynomial.chebyshev.chebvander(place(cavity, lines.wave[known]), 3) / error[:, None]
    covariance = np.linalg.inv(design.T @ design)
    terms = np.polynomial.chebyshev.chebvander(place(cavity, np.append(wave, wave.max())), 3)
    terms = terms - terms[:-1].mean(axis=0)
    sigma = np.sqrt(np.einsum("ij,jk,ik->i", terms, covariance, terms))
    return float(np.sqrt(np.mean(np.square(sigma[:-1])))), float(sigma[-1])


def _maps(night: Reduced, tier: str, kind: str, peaks: dict[str, CleanPeaks]) -> Iterator[Figure]:
    head = night.file(kind, "AB").values
    promised = float(night.file("WAVEM", "AB").number("WAVEEMHC"))
    if kind == "WAVE":
        promised = float(np.hypot(promised, head["WAVEEMHC"]))
    zero, shape, edge, grey = {}, {}, {}, {}
    for fibre, clean in peaks.items():
        velocity, used = clean.errors(solution(night, kind, fibre)), clean.blaze > 0.05
        found = measure.map_figures(velocity[used], clean.order[used], clean.blaze[used] > 0.2)
        zero[fibre], shape[fibre], edge[fibre] = found.zero, found.shape, found.edge
        lit = clean.blaze > 0.2
        colour = np.polynomial.Polynomial.fit(clean.wave[lit], velocity[lit], 3)(clean.wave[lit])
        grey[fibre] = measure.map_figures((velocity[lit] - colour), clean.order[lit]).shape
    bright = peaks["AB"].wave[peaks["AB"].blaze > 0.2]
    unknown, last = ideal_colour(night, bright)
    yield below(
        f"wave solution of the {tier}, shape (blaze > 0.2)", 2.0, shape, unit=" m/s",
        note="against a comb extracted without noise, medians of 20 peaks; without a cubic in wavelength "
        + ", ".join(f"{f} {v:.1f}" for f, v in grey.items())
        + f" m/s; an ideal fit to the lamp lines leaves {unknown:.1f} m/s of colour, {last:.0f} m/s at "
        f"{bright.max():.0f} nm",
    )  # fmt: skip
    yield below(f"wave solution of the {tier}, worst edge (blaze > 0.05)", 15.0, edge, unit=" m/s")
    yield below(
        f"wave zero point of the {tier}", min(1.5, 2 * promised), {"AB": zero["AB"]}, unit=" m/s",
        note=f"predicted error {promised:.2f} m/s, {head['WAVENHC']} lamp lines; below 2 of it and 1.5 m/s",
    )  # fmt: skip
    yield below(
        f"fibre consistency of the {tier}", 0.3, {f"AB-{f}": zero["AB"] - zero[f] for f in "ABC"}, unit=" m/s"
    )
    if kind == "WAVE":
        yield below(
            "night drift (null test: reference night)", 0.3, {"": float(head["WCAVDRIF"])}, unit=" m/s",
            note=f"error by the lamp {head['WAVEEMHC']:.2f} m/s; drifts of other nights: small instrument",
        )  # fmt: skip
