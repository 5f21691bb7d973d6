"""Make the built-in absorption and night-sky tables of the pipeline from the built-in line lists.

Run ``python -m apero_dask.tables.derive_tellurics`` to rewrite ``tellurics.csv`` and ``sky_lines.csv``;
a test compares the result with the packaged files.

The line lists (``lines_telluric.csv``, ``lines_oh.csv``) stand for nature; no real line is in them.  The
tables made here are what a spectroscopist would know of them, with the errors of molecular databases:
line strengths wrong by 5 per cent (10 in the saturated water bands), positions by 40 m/s, widths by
8 per cent, the faintest 2 per cent of the lines unknown, and profiles of another shape (Voigt).
Night-sky lines have strengths wrong by 10 per cent and positions by 60 m/s.  The errors are random
numbers of a fixed seed.  A pipeline tested with lines it knows exactly would be tested on nothing.
"""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
SEED = 1_2788
C_KMS = 299792.458

# The lists: peak optical depth per unit of weight at airmass 1 and 2 mm of water, Lorentzian half width.
DEPTH_PER_WEIGHT = {"h2o": 60.0, "h2o_band": 60.0, "dry": 40.0}
LIST_WATER_MM = 2.0
HALF_WIDTH_KMS = 1.5  # at 1000 nm, growing as the wavelength
# The table: per airmass and this water column.
WATER_MM = 1.5
STRENGTH_ERROR = {"h2o": 0.05, "h2o_band": 0.10, "dry": 0.05}
POSITION_ERROR_MS, WIDTH_ERROR, UNKNOWN = 40.0, 0.08, 0.02
# Dry gases by the range in which they absorb most; elsewhere methane.
DRY_RANGES = (
    (950.0, 1330.0, "o2"),
    (1330.0, 1480.0, "co2"),
    (1480.0, 1500.0, "o3"),
    (1560.0, 1620.0, "co2"),
    (1900.0, 2095.0, "co2"),
    (2095.0, 2140.0, "n2o"),
    (2240.0, 2290.0, "n2o"),
)
SKY_STRENGTH_ERROR, SKY_POSITION_ERROR_MS = 0.10, 60.0


def _rows(name: str) -> list[dict[str, str]]:
    text = (HERE / name).read_text(encoding="utf-8").splitlines()
    return list(csv.DictReader(line for line in text if not line.startswith("#")))


def _species(group: str, wave: float) -> str:
    if group != "dry":
        return "h2o"
    return next((name for low, high, name in DRY_RANGES if low <= wave < high), "ch4")


def tellurics() -> str:
    """Absorption lines: species, wavelength, optical depth integrated over velocity, half width (km/s)."""
    rng = np.random.default_rng([SEED, 1])
    rows = _rows("lines_telluric.csv")
    group = np.array([row["group"] for row in rows])
    wave = np.array([float(row["wave_vac_nm"]) for row in rows])
    weight = np.array([float(row["weight"]) for row in rows])
    depth = weight * np.array([DEPTH_PER_WEIGHT[g] for g in group])
    species = np.array([_species(g, w) for g, w in zip(group, wave, strict=True)])
    strength, shift, width = rng.standard_normal((3, len(rows)))
    strength *= np.array([STRENGTH_ERROR[g] for g in group])
    kind = np.char.add(group, species)
    for name in np.unique(kind):
        # The column of a gas is known much better than its single lines.
        pick = kind == name
        strength[pick] -= np.average(strength[pick], weights=depth[pick] ** 2)
    half = HALF_WIDTH_KMS * wave / 1000.0
    water = np.where(group == "dry", 1.0, WATER_MM / LIST_WATER_MM)
    area = np.pi * half * depth * water * np.exp(strength)
    half = half * np.exp(WIDTH_ERROR * width)
    place = wave * (1 + shift * POSITION_ERROR_MS / 1e3 / C_KMS)
    known = depth >= np.quantile(depth, UNKNOWN)
    found = sorted(zip(place[known], species[known], area[known], half[known], strict=True))
    head = (
        "# built-in table made by derive_tellurics.py: random lines with random errors; no real line list\n"
        f"# optical depth integrated over velocity at airmass 1, {WATER_MM} mm of water; medium: vacuum\n"
        "species,wave_vac_nm,area_kms,hwhm_kms\n"
    )
    return head + "".join(f"{s},{w:.5f},{a:.4e},{h:.3f}\n" for w, s, a, h in found)


def sky_lines() -> str:
    """Night-sky lines: wavelength, relative flux, band."""
    rng = np.random.default_rng([SEED, 2])
    found = []
    for row in _rows("lines_oh.csv"):
        strength, shift = rng.standard_normal(2)
        wave = float(row["wave_vac_nm"]) * (1 + shift * SKY_POSITION_ERROR_MS / 1e3 / C_KMS)
        flux = float(row["flux"]) * np.exp(SKY_STRENGTH_ERROR * strength)
        found.append((wave, flux, row["v_upper"]))
    head = (
        "# built-in table made by derive_tellurics.py: OH doublets of approximate energy levels with random\n"
        "# errors; no real line list; medium: vacuum; lines of one band brighten and fade together\n"
        "wave_vac_nm,flux,band\n"
    )
    return head + "".join(f"{w:.5f},{f:.2f},{b}\n" for w, f, b in sorted(found))


def derive() -> dict[str, str]:
    """Text of both tables by file name."""
    return {"tellurics.csv": tellurics(), "sky_lines.csv": sky_lines()}


if __name__ == "__main__":
    for name, text in derive().items():
        (HERE / name).write_text(text, encoding="utf-8")
