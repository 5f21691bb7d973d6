"""Draws the picture of the README from the products of the demonstration.

    python docs/draw_demo.py DATA docs/demo.svg

DATA is a data root that ``make demo`` has filled: a simulated campaign and its reduction.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

import numpy as np

from apero_dask.core.products import VELOCITY_FOLDER
from apero_dask.io.fits import FitsFile
from apero_dask.recipes.wave_basis import coefficients_of, wave_image
from apero_dask.simulator.recovered import Agreement, read_recovered

INK, GREY, RED, BLUE = "#222222", "#999999", "#c0392b", "#2471a3"
LEAST_TRANSMISSION = 0.6
"""Median transmission of the order that is drawn: one with lines, and not opaque."""


@dataclass
class Panel:
    """Axes with what is drawn in them."""

    left: float
    top: float
    width: float
    height: float
    xs: tuple[float, float]
    ys: tuple[float, float]
    parts: list[str] = field(default_factory=list)

    def place(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Points of the page."""
        px = self.left + (np.asarray(x) - self.xs[0]) / (self.xs[1] - self.xs[0]) * self.width
        py = self.top + self.height - (np.asarray(y) - self.ys[0]) / (self.ys[1] - self.ys[0]) * self.height
        return px, py

    def line(self, x: np.ndarray, y: np.ndarray, colour: str, width: float = 1.0) -> None:
        """Line, broken where a value is missing."""
        good = np.isfinite(x) & np.isfinite(y)
        edges = np.flatnonzero(np.diff(np.concatenate([[False], good, [False]]).astype(int)))
        for first, end in zip(edges[::2], edges[1::2], strict=True):
            px, py = self.place(x[first:end], y[first:end])
            points = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(px, py, strict=True))
            self.parts.append(
                f'<polyline fill="none" stroke="{colour}" stroke-width="{width}" points="{points}"/>'
            )

    def points(self, x: np.ndarray, y: np.ndarray, error: np.ndarray, colour: str) -> None:
        """Points with error bars."""
        px, low = self.place(x, y - error)
        _, high = self.place(x, y + error)
        _, py = self.place(x, y)
        for a, b, c, d in zip(px, low, high, py, strict=True):
            self.parts.append(
                f'<line x1="{a:.1f}" x2="{a:.1f}" y1="{b:.1f}" y2="{c:.1f}" stroke="{colour}"/>'
                f'<circle cx="{a:.1f}" cy="{d:.1f}" r="3" fill="{colour}"/>'
            )

    def text(self, x: float, y: float, words: str, anchor: str = "start", colour: str = INK) -> None:
        """Text at a point of the page."""
        self.parts.append(
            f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}">{escape(words)}</text>'
        )

    def drawn(self, title: str, xlabel: str, xticks: Sequence[float], yticks: Sequence[float]) -> str:
        """The panel with frame, title and ticks."""
        bottom = self.top + self.height
        self.parts.append(
            f'<rect x="{self.left}" y="{self.top}" width="{self.width}" height="{self.height}" fill="none" '
            f'stroke="{GREY}"/>'
        )
        self.text(self.left, self.top - 7, title)
        self.text(self.left + self.width / 2, bottom + 32, xlabel, "middle")
        for value in xticks:
            px = float(self.place(np.array([value]), np.array([self.ys[0]]))[0][0])
            self.text(px, bottom + 15, f"{value:g}", "middle", GREY)
        for value in yticks:
            py = float(self.place(np.array([self.xs[0]]), np.array([value]))[1][0])
            self.text(self.left - 5, py + 4, f"{value:g}", "end", GREY)
        return "".join(self.parts)


def ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Round numbers between two ends."""
    step = 10.0 ** np.floor(np.log10((high - low) / most))
    step *= next(k for k in (1, 2, 5, 10) if (high - low) / (k * step) <= most)
    return [float(v) for v in np.arange(np.ceil(low / step), np.floor(high / step) + 1) * step]


def structure(transmission: np.ndarray) -> float:
    """Scatter of the transmission of an order; -1 for one that is opaque or was not corrected."""
    known = transmission[np.isfinite(transmission)]
    if known.size < transmission.size // 2 or np.median(known) < LEAST_TRANSMISSION:
        return -1.0
    return float(np.std(known))


def spectrum(stem: Path) -> str:
    """One order before and after the correction of the atmosphere, and the transmission found."""
    night, name = stem.parent, stem.name
    corrected = FitsFile(night / f"{name}_pp_e2dsff_tcorr_AB.fits")
    before = next(
        FitsFile(path)
        for path in (night / f"{name}_pp_e2dsff_lcorr_AB.fits", night / f"{name}_pp_e2dsff_AB.fits")
        if path.is_file()
    )
    recon = FitsFile(night / f"{name}_pp_e2dsff_recon_AB.fits").image(1, np.float64)
    after, raw = corrected.image(1, np.float64), before.image(1, np.float64)
    coefficients, basis = coefficients_of(corrected.values, corrected.name)
    wave = wave_image(coefficients, basis, raw.shape[1])
    order = max(range(len(recon)), key=lambda o: structure(recon[o]))
    part = slice(raw.shape[1] // 4, raw.shape[1] * 3 // 4)
    scale = np.nanpercentile(after[order, part], 95.0)
    x = wave[order, part]
    panel = Panel(60, 40, 820, 220, (float(x[0]), float(x[-1])), (0.0, 1.75))
    panel.line(x, recon[order, part] + 0.55, BLUE)
    panel.line(x, raw[order, part] / scale, GREY)
    panel.line(x, after[order, part] / scale, RED)
    target = str(corrected.values.get("DRSOBJN", ""))
    panel.text(70, 58, "transmission found (shifted)", colour=BLUE)
    panel.text(300, 58, "extracted", colour=GREY)
    panel.text(400, 58, "corrected for the atmosphere", colour=RED)
    title = f"{target}, frame {name}: one order of the spectrum"
    return panel.drawn(title, "wavelength in vacuum, nm", ticks(*panel.xs), [0.0, 0.5, 1.0])


def profile(path: Path) -> str:
    """Mean line profile of a frame."""
    file = FitsFile(path)
    table = file.table(1)
    velocity, mean = table["RV"], table["Combined"]
    centre, width = float(file.number("RV_OBJ")), 4.0 * float(file.number("CCFMFWHM"))
    near = np.abs(velocity - centre) < width
    x, y = velocity[near], mean[near] / np.nanmax(mean[near])
    low = float(np.nanmin(y))
    panel = Panel(
        60, 330, 370, 220, (float(x[0]), float(x[-1])), (low - 0.1 * (1 - low), 1.0 + 0.1 * (1 - low))
    )
    panel.line(x, y, INK, 1.5)
    return panel.drawn(
        "Cross-correlation with a mask", "velocity, km/s", ticks(*panel.xs), ticks(*panel.ys, 4)
    )


def velocities(one: Agreement) -> str:
    """Velocities of an object beside those injected by the simulation."""
    times = np.array([frame.bjd for frame in one.frames])
    days = times - np.floor(times[0])
    order = np.argsort(days)
    injected = np.array([1e3 * frame.injected_kms for frame in one.frames])[order]
    middle = float(injected.mean())
    residual = np.array(one.residuals_ms)[order]
    error = np.array([frame.error_ms for frame in one.frames])[order]
    found = injected - middle + residual
    reach = 1.15 * float(max(np.abs(found).max() + error.max(), np.abs(injected - middle).max()))
    panel = Panel(510, 330, 370, 220, (float(days.min()) - 0.3, float(days.max()) + 0.3), (-reach, reach))
    panel.line(days[order], injected - middle, BLUE)
    panel.points(days[order], found, error, RED)
    panel.text(520, 346, "injected", colour=BLUE)
    panel.text(590, 346, "measured", colour=RED)
    title = f"Radial velocities, m/s (scatter {one.rms_ms:.0f}, errors {one.predicted_ms:.0f})"
    return panel.drawn(title, f"BJD - {np.floor(times[0]):.0f}", ticks(*panel.xs), ticks(*panel.ys, 5))


def page(parts: Iterable[str]) -> str:
    """The picture."""
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 900 600" font-family="sans-serif" '
        'font-size="13"><rect width="900" height="600" fill="white"/>' + "".join(parts) + "</svg>\n"
    )


def draw(data: Path) -> str:
    """Picture of the object with most velocities.

    Raises
    ------
    SystemExit
        The data root holds no reduced demonstration.
    """
    reduced = data / "reduced"
    if not (reduced / VELOCITY_FOLDER).is_dir():
        raise SystemExit(f"{reduced / VELOCITY_FOLDER} is not there; run make demo first.")
    best = max(read_recovered(reduced / VELOCITY_FOLDER, data), key=lambda one: len(one.frames))
    frame = best.frames[0].frame
    (corrected,) = reduced.glob(f"*/{frame}_pp_e2dsff_tcorr_AB.fits")
    found = sorted(corrected.parent.glob(f"{frame}_pp_e2dsff_tcorr_AB_ccf_*_AB.fits"))
    return page([spectrum(corrected.parent / frame), profile(found[0]), velocities(best)])


def main(argv: Sequence[str] | None = None) -> int:
    """Draw."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    options = parser.parse_args(argv)
    options.out.write_text(draw(options.data), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
