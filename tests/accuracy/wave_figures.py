"""Table rows of the wavelength solutions."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from tests.accuracy import waves as measure
from tests.accuracy.figures import Figure, below
from tests.accuracy.reduced import Reduced

TIERS = {"reference": ("WAVEM", "WAVEFPL"), "night": ("WAVE", "WAVENFPL")}


def wave_figures(night: Reduced) -> Iterator[Figure]:
    """Peaks, their numbers, maps of both tiers and all fibres."""
    ctx = night.context("cal_thermal")
    spec = night.of_type("FP_FP")[0]
    true = night.truth(spec)
    seen = {f: night.seen(ctx, true, f) for f in night.instrument.fibres}
    blaze = {
        f: np.nanmean(
            [s.of(true.blaze["ABC".index(m)].astype(float)) for s, m in zip(seen[f], f, strict=True)], axis=0
        )
        for f in seen
    }
    waves = {
        f: np.mean([s.of(true.wave_nm["ABC".index(m)]) for s, m in zip(seen[f], f, strict=True)], axis=0)
        for f in seen
    }
    yield from _peaks(night, waves, blaze)
    for tier, (kind, peaks) in TIERS.items():
        yield from _maps(night, tier, kind, peaks, waves, blaze)


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


def _maps(
    night: Reduced,
    tier: str,
    kind: str,
    peaks: str,
    waves: dict[str, np.ndarray],
    blaze: dict[str, np.ndarray],
) -> Iterator[Figure]:
    spec = night.of_type("FP_FP")[0]
    head = night.file(kind, "AB").values
    promised = float(night.file("WAVEM", "AB").number("WAVEEMHC"))
    if kind == "WAVE":
        promised = float(np.hypot(promised, head["WAVEEMHC"]))
    zero, shape, edge, pixels = {}, {}, {}, {}
    for fibre, wave in waves.items():
        velocity, order, x = measure.comb_errors(night.file(peaks, fibre).table(1), night.config, spec)
        at = np.clip(np.rint(x).astype(int), 0, night.instrument.nx - 1)
        light = blaze[fibre][order, at]
        used = light > 0.05
        found = measure.map_figures(velocity[used], order[used], (light > 0.2)[used])
        zero[fibre], shape[fibre], edge[fibre] = found.zero, found.shape, found.edge
        error = measure.C_MS * (night.file(kind, fibre).image(1) / wave - 1)
        with np.errstate(invalid="ignore"):
            lit = np.isfinite(error) & (blaze[fibre] > 0.2)
        pixels[fibre] = float(np.std(error[lit]))
    yield below(
        f"wave solution of the {tier}, shape (blaze > 0.2)", 2.0, shape, unit=" m/s",
        note="against the wavelengths of the light that is extracted, groups of 20 peaks; pixel by pixel "
        "against the traced slit image: " + ", ".join(f"{f} {v:.1f}" for f, v in pixels.items()),
    )  # fmt: skip
    yield below(f"wave solution of the {tier}, worst edge (blaze > 0.05)", 15.0, edge, unit=" m/s")
    limit = min(1.5, 2 * promised)
    yield below(
        f"wave zero point of the {tier}", limit, {f: zero[f] for f in ("AB",)}, unit=" m/s",
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
