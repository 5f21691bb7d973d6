"""Make the built-in line lists: lamp, atmosphere, star and night sky, none of them real.

Run ``python -m apero_dask.tables.derive_lines`` to rewrite ``lines_*.csv``; a test compares the result
with the packaged files.  Positions and strengths are random numbers of a fixed seed.  What they share with
real lists is statistics only: lines per 50 nm, distribution of strengths, distances of neighbours, bands.
Do not identify anything with them.  The night-sky list follows from the energy levels of the OH radical
in a simple approximation (Herzberg 1950, chapter IV), good to some 0.1 nm.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
SEED = 49_4088
C_KMS = 299792.458
BIN_NM = 50.0

# Lines per 50 nm from 950 nm: uranium-neon catalogue, masks of water, of dry air and of an M dwarf.
UNE_COUNT = (
    "132 155 104 98 134 148 114 100 104 119 107 100 99 91 81 54 58 42 37 38 49 51 41 27 31 21 12 14 14 15 6 1"
)
WATER_COUNT = (
    "343 21 73 381 331 107 37 257 130 213 270 95 1 1 25 47 134 85 76 108 173 75 46 19 41 16 8 28 74 86 111 0"
)
DRY_COUNT = (
    "0 0 15 0 4 80 239 48 7 99 25 36 77 130 68 147 71 19 51 54 155 230 197 88 94 199 305 274 215 164 45 0"
)
STAR_COUNT = (
    "302 467 377 473 380 359 248 419 411 602 594 578 524 418 366 421 463 361 374 409 415 360 429 402 356 302 "
    "268 308 348 339 298 0"
)
# Median weight per bin (log10) of the atmosphere lists, median depth per bin of the star.
WATER_MEDIAN = (
    "-2.58 -3.03 -2.73 -2.67 -2.64 -2.70 -2.85 -2.44 -2.35 -2.31 -2.57 -2.59 -3.1 -3.1 -3.02 -2.29 -2.66 "
    "-2.62 -2.47 -2.53 -2.91 -2.56 -2.94 -2.74 -2.80 -2.86 -2.72 -2.67 -3.01 -3.22 -2.96 -3"
)
DRY_MEDIAN = (
    "-3 -3 -3.85 -3 -3.3 -2.79 -3.93 -3.13 -3.25 -2.82 -3.14 -2.75 -2.45 -2.77 -2.81 -3.05 -3.01 -3.09 -2.87 "
    "-2.30 -3.07 -2.44 -2.79 -3.03 -3.02 -2.74 -2.70 -2.46 -2.40 -3.02 -3.11 -3"
)
STAR_MEDIAN = (
    "0.041 0.068 0.047 0.040 0.040 0.037 0.033 0.059 0.124 0.115 0.101 0.078 0.059 0.054 0.044 0.086 0.148 "
    "0.156 0.160 0.121 0.142 0.137 0.109 0.077 0.050 0.045 0.045 0.086 0.115 0.133 0.160 0.1"
)
# Quantiles of the distributions; those of the weights are relative to the median of the bin.
QUANTILE = (0.0, 0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99, 1.0)
UNE_LOG_STRENGTH = (3.0, 3.085, 3.43, 3.88, 4.22, 4.66, 5.57, 6.79, 8.5)
WATER_LOG_WEIGHT = (-3.0, -1.7, -1.07, -0.48, 0.0, 0.52, 1.02, 1.16, 1.41)
DRY_LOG_WEIGHT = (-3.7, -2.2, -1.06, -0.35, 0.0, 0.52, 1.14, 1.35, 1.55)
STAR_LOG_DEPTH = (-0.6, -0.55, -0.45, -0.25, 0.0, 0.22, 0.50, 0.70, 0.90)
WEIGHT_LIMIT = 0.058
DEPTH_LIMITS = (0.02, 0.45)
# Stellar lines in these ranges are of no use for velocities: water of the atmosphere.
NOT_CLEAN_NM = ((1320.0, 1460.0), (1785.0, 1985.0), (2380.0, 2600.0))
# Ranges filled with saturated water lines, and optical depths at 2 mm of water.
OPAQUE_NM = ((1340.0, 1450.0), (1790.0, 1960.0), (2450.0, 2520.0))
OPAQUE_LINES = 8000
OPAQUE_DEPTH = (0.5, 60.0)
DEPTH_PER_WEIGHT = 60.0

# Ground state of OH (Huber & Herzberg 1979), 1/cm.
OH_OMEGA, OH_ANHARMONIC, OH_B, OH_ALPHA, OH_SPIN_ORBIT = 3737.76, 84.88, 18.911, 0.7242, -139.2
OH_TEMPERATURE_K = 190.0
OH_DOUBLETS = 150
OH_RANGE_NM = (965.0, 2320.0)
OH_BRIGHTEST, OH_FAINTEST = 500.0, 20.0


def _positions(rng: np.random.Generator, counts: str, closest_kms: float) -> tuple[np.ndarray, np.ndarray]:
    """Wavelengths with the given counts per bin and exponential gaps above a smallest one; their bins."""
    wave, where = [], []
    for i, count in enumerate(int(c) for c in counts.split()):
        low = 950.0 + BIN_NM * i
        extent = C_KMS * np.log((low + BIN_NM) / low)
        closest = min(closest_kms, 0.5 * extent / (count + 1))
        gaps = rng.exponential(size=count + 1)
        gaps = closest + gaps / gaps.sum() * (extent - closest * (count + 1))
        wave.append(low * np.exp(np.cumsum(gaps)[:count] / C_KMS))
        where.append(np.full(count, i))
    return np.concatenate(wave), np.concatenate(where)


def _uniform(rng: np.random.Generator, count: int) -> np.ndarray:
    """Numbers from 0 to 1 in random order, one in each of `count` equal parts."""
    return (rng.permutation(count) + rng.uniform(size=count)) / count


def _median(text: str, where: np.ndarray) -> np.ndarray:
    return np.array([float(v) for v in text.split()])[where]


def une() -> list[str]:
    """Lamp lines: wavelength, strength."""
    rng = np.random.default_rng([SEED, 1])
    wave, _ = _positions(rng, UNE_COUNT, 14.0)
    strength = 10 ** np.interp(_uniform(rng, len(wave)), QUANTILE, UNE_LOG_STRENGTH)
    keep = (wave > 964.7) & (wave < 2501.0)
    return ["wave_vac_nm,strength"] + [
        f"{w:.6f},{s:.1f}" for w, s in zip(wave[keep], strength[keep], strict=True)
    ]


def telluric() -> list[str]:
    """Atmosphere: water and dry-air lines with a weight, and saturated water lines of the opaque bands."""
    rows = []
    for i, (group, counts, median, quantiles) in enumerate(
        (
            ("h2o", WATER_COUNT, WATER_MEDIAN, WATER_LOG_WEIGHT),
            ("dry", DRY_COUNT, DRY_MEDIAN, DRY_LOG_WEIGHT),
        )
    ):
        rng = np.random.default_rng([SEED, 2, i])
        wave, where = _positions(rng, counts, 0.5)
        log = _median(median, where) + np.interp(_uniform(rng, len(wave)), QUANTILE, quantiles)
        weight = np.minimum(10**log, WEIGHT_LIMIT)
        rows += [(w, group, s) for w, s in zip(wave, weight, strict=True)]
    rng = np.random.default_rng([SEED, 2, 2])
    length = np.array([np.log(b / a) for a, b in OPAQUE_NM])
    band = rng.choice(len(OPAQUE_NM), size=OPAQUE_LINES, p=length / length.sum())
    wave = np.array([a for a, _ in OPAQUE_NM])[band] * np.exp(rng.uniform(size=OPAQUE_LINES) * length[band])
    low, high = np.log(OPAQUE_DEPTH)
    depth = np.exp(rng.uniform(low, high, size=OPAQUE_LINES))
    rows += [(w, "h2o_band", d / DEPTH_PER_WEIGHT) for w, d in zip(wave, depth, strict=True)]
    return ["group,wave_vac_nm,weight"] + [f"{g},{w:.5f},{s:.5e}" for w, g, s in sorted(rows)]


def mdwarf() -> list[str]:
    """Cool star: wavelength, depth, whether useful for velocities."""
    rng = np.random.default_rng([SEED, 3])
    wave, where = _positions(rng, STAR_COUNT, 6.0)
    log = np.interp(_uniform(rng, len(wave)), QUANTILE, STAR_LOG_DEPTH)
    depth = np.clip(_median(STAR_MEDIAN, where) * 10**log, *DEPTH_LIMITS)
    keep = (wave > 965.0) & (wave < 2494.0)
    clean = ~np.any([(wave >= a) & (wave < b) for a, b in NOT_CLEAN_NM], axis=0)
    return ["wave_vac_nm,depth,clean"] + [
        f"{w:.5f},{d:.4f},{int(c)}" for w, d, c in zip(wave[keep], depth[keep], clean[keep], strict=True)
    ]


def oh() -> list[str]:
    """Night sky: wavelength, flux relative to 500 for the brightest, upper and lower vibrational level."""

    def term(v: int, j: float, spin: int) -> float:
        # Case (a): F1 (spin 1, the lower one) and F2 share the rotational ladder, split by the spin orbit.
        b = OH_B - OH_ALPHA * (v + 0.5)
        vibration = OH_OMEGA * (v + 0.5) - OH_ANHARMONIC * (v + 0.5) ** 2
        effective = b * (1 + (b if spin == 1 else -b) / OH_SPIN_ORBIT)
        return vibration + effective * (j + 0.5) ** 2 + (0.5 if spin == 1 else -0.5) * OH_SPIN_ORBIT

    rows = []
    for upper in range(2, 10):
        for lower in range(max(upper - 4, 0), upper - 1):
            band = {2: 1.0, 3: 0.35, 4: 0.10}[upper - lower] * np.exp(-((upper - 6.0) ** 2) / 40)
            for spin in (1, 2):
                for n in range(1, 8):
                    j = n + 0.5 if spin == 1 else n - 0.5
                    energy = term(upper, j, spin) - term(upper, 1.5, 1)
                    population = (2 * j + 1) * np.exp(-1.4388 * energy / OH_TEMPERATURE_K)
                    for step in (1, 0, -1):
                        # P, Q, R branch: lower level j + 1, j, j - 1.
                        if j + step < (1.5 if spin == 1 else 0.5):
                            continue
                        wave = 1e7 / (term(upper, j, spin) - term(lower, j + step, spin))
                        share = {1: 0.5, 0: 0.45 / (j + 0.5), -1: 0.35}[step]
                        doubling = (2.0 + 3.0 * j) * (1 if step else 1.5)
                        rows.append((band * population * share, wave, doubling, upper, lower))
    rows = [r for r in rows if OH_RANGE_NM[0] < r[1] < OH_RANGE_NM[1]]
    rows.sort(reverse=True)
    rows = rows[:OH_DOUBLETS]
    brightest, faintest = np.log(rows[0][0]), np.log(rows[-1][0])
    scale = np.log(OH_BRIGHTEST / OH_FAINTEST) / (brightest - faintest)
    lines = []
    for strength, wave, doubling, upper, lower in rows:
        flux = OH_BRIGHTEST * np.exp((np.log(strength) - brightest) * scale)
        for side, share in ((-0.5, 0.52), (0.5, 0.48)):
            lines.append((wave * (1 + side * doubling / C_KMS), flux * share * 2, upper, lower))
    return ["wave_vac_nm,flux,v_upper,v_lower"] + [f"{w:.5f},{f:.2f},{u},{v}" for w, f, u, v in sorted(lines)]


def derive() -> dict[str, str]:
    """Text of the four lists by file name."""
    note = "# built-in list made by derive_lines.py: {}; no real line list\n"
    kinds = {
        "une": (une, "random positions and strengths of a lamp"),
        "telluric": (telluric, "random atmosphere lines, groups h2o, dry and h2o_band (opaque bands)"),
        "mdwarf": (mdwarf, "random lines of a cool star"),
        "oh": (oh, "OH doublets of approximate energy levels"),
    }
    return {
        f"lines_{name}.csv": note.format(what) + "\n".join(make()) + "\n"
        for name, (make, what) in kinds.items()
    }


if __name__ == "__main__":
    for name, text in derive().items():
        (HERE / name).write_text(text, encoding="utf-8")
