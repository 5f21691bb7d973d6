"""Configurations with one effect switched on, and restatements of the optics from the packaged files."""

from __future__ import annotations

import csv
from importlib import resources
from pathlib import Path

import numpy as np
from numpy.polynomial import chebyshev

from apero_dask.simulator.config import SimulatorConfig, make_config
from apero_dask.simulator.spec import FrameSpec, Target

C_KMS = 299792.458
FRAME_TIME = 5.57192
SIGMA_PER_FWHM = 1 / np.sqrt(8 * np.log(2))

# Every effect of the light switched off; what remains is a plain spectrograph.
PLAIN = {
    "optics": {
        "displacement": False,
        "distortion": False,
        "affine": False,
        "edge_orders": False,
        "tilt": False,
        "slice_offsets": False,
        "slice_illumination": False,
        "slice_flux": [1.0, 1.0, 1.0, 1.0],
        "slice_flux_variation": 0.0,
        "blaze": False,
        "throughput": False,
        "lsf_variation": False,
        "leak": False,
        "scatter": False,
    },
    "cavity": {"displacement": False, "night_drift": False},
    "sources": {"thermal": False, "hc_continuum": 0.0},
    "scene": {"beam_ratio": 1.0, "beam_ratio_rms": 0.0, "molecular_bands": False, "doppler": False},
    "atmosphere": {
        "water": False,
        "dry": False,
        "wind": False,
        "sky_lines": False,
        "thermal_sky": False,
        "telescope_excess": False,
    },
    "lines": {"catalogue_errors": False, "blends": False},
}


def plain(instrument: str = "SPIROU_MINI", seed: int = 1, **sections: dict) -> SimulatorConfig:
    """Configuration without effects, except what `sections` switch on."""
    values: dict = {"instrument": instrument, "seed": seed}
    for name in {**PLAIN, **sections}:
        values[name] = {**PLAIN.get(name, {}), **sections.get(name, {})}
    return make_config(values)


def strip(echelle: int, instrument: str = "SPIROU", margin: int = 30) -> dict:
    """Section ``geometry`` that keeps one order and the rows around its fibres."""
    rows = [r for r in table(instrument, "trace") if int(r["echelle"]) == echelle]
    length = 4088 if instrument == "SPIROU" else 1016
    u = np.linspace(-1, 1, 101)
    y = np.array([chebyshev.chebval(u, [float(r[f"y{j}_px"]) for j in range(5)]) for r in rows])
    height = 3100 if instrument == "SPIROU" else 800
    assert length > 0
    return {
        "echelle": [echelle],
        "rows": [int(max(y.min() - margin, 0)), int(min(y.max() + margin, height))],
    }


def spec(dprtype: str, exptime_s: float = 100.0, **values: object) -> FrameSpec:
    """One exposure; star frames get an M dwarf unless a target is given."""
    base: dict = {
        "identifier": "1o",
        "obs_dir": "2020-01-01",
        "dprtype": dprtype,
        "index": 3,
        "exptime_s": exptime_s,
        "nreads": 19,
        "mjd_start": 58000.0,
        "mjd_end": 58000.01,
    }
    if dprtype.startswith(("OBJ", "POLAR")):
        base["target"] = Target(name="star", kind="mdwarf")
    return FrameSpec(**{**base, **values})


def table(instrument: str, name: str) -> list[dict[str, str]]:
    """Rows of a packaged CSV table, read here and not by the simulator."""
    text = resources.files("apero_dask.tables").joinpath(f"{instrument.lower()}_{name}.csv").read_text()
    return list(csv.DictReader(line for line in text.splitlines() if not line.startswith("#")))


def table_series(instrument: str, name: str, fibre: str, echelle: int, key: str, count: int) -> np.ndarray:
    """Chebyshev coefficients of one row."""
    row = next(r for r in table(instrument, name) if r["fibre"] == fibre and int(r["echelle"]) == echelle)
    return np.array([float(row[key.format(j)]) for j in range(count)])


def table_wave(instrument: str, fibre: str, echelle: int, x: np.ndarray) -> np.ndarray:
    """Wavelength of the tables at columns x."""
    length = 4088 if instrument == "SPIROU" else 1016
    series = table_series(instrument, "wave", fibre, echelle, "c{}_nm", 6)
    return chebyshev.chebval(2 * np.asarray(x) / length - 1, series)


def table_trace(instrument: str, fibre: str, echelle: int, x: np.ndarray) -> np.ndarray:
    """Trace of the tables at columns x."""
    length = 4088 if instrument == "SPIROU" else 1016
    series = table_series(instrument, "trace", fibre, echelle, "y{}_px", 5)
    return chebyshev.chebval(2 * np.asarray(x) / length - 1, series)


def lamp_folder(folder: Path, waves: np.ndarray, strength: float = 1e5) -> Path:
    """Line-list folder whose lamp has exactly the given lines."""
    folder.mkdir(exist_ok=True)
    rows = ["wave_vac_nm,strength"] + [f"{w:.9f},{strength:.3f}" for w in np.sort(waves)]
    (folder / "lines_une.csv").write_text("\n".join(rows) + "\n")
    return folder


def column_of(wave_map: np.ndarray, wave: np.ndarray) -> np.ndarray:
    """Column at which a map (nx,) of wavelengths reaches given values, by inverse cubic spline."""
    from scipy.interpolate import CubicSpline

    return CubicSpline(wave_map, np.arange(len(wave_map)))(wave)


def cal_image(rate: np.ndarray, instrument_x0: int = 4, y0: int = 4) -> np.ndarray:
    """Full flipped frame from the corner of the calibrated frame on."""
    return rate[y0:, instrument_x0:]


def centroids(rows: np.ndarray, expected: np.ndarray, half: int = 9) -> np.ndarray:
    """Flux centroid of isolated lines in a spectrum (nx,), in windows of 2 half + 1 columns."""
    found = []
    for x in expected:
        window = np.arange(round(x) - half, round(x) + half + 1)
        found.append((rows[window] * window).sum() / rows[window].sum())
    return np.array(found)
