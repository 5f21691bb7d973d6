"""Headers and tables of wavelength products."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from apero_dask.recipes import wave_compare
from apero_dask.recipes.wave_cavity import C_MS, Cavity
from apero_dask.recipes.wave_maps import BASIS, COEFF_TABLE, coefficient_columns

if TYPE_CHECKING:
    import numpy as np

    from apero_dask.instruments import Instrument
    from apero_dask.io.fitswriter import Image, Table
    from apero_dask.recipes.wave_anchor import Anchors
    from apero_dask.recipes.wave_catalogue import Catalogue
    from apero_dask.recipes.wave_compare import CombVelocity
    from apero_dask.recipes.wave_lines import Lines
    from apero_dask.recipes.wave_maps import WaveMap
    from apero_dask.recipes.wave_resolution import Resolution
    from apero_dask.recipes.wave_solution import FibreSolution, Solution

SAME_LINE_NM = 1e-7


def map_cards(wave: WaveMap, instrument: Instrument, file: str, time: float, source: str) -> dict[str, Any]:
    """Cards that hold a wavelength solution: every spectrum with wavelengths carries them.

    Parameters
    ----------
    file
        Base name of the solution.
    time
        Its MJDMID.
    source
        Recipe that made it.
    """
    cards: dict[str, Any] = {
        "WAVEFILE": (file, "wavelength solution"),
        "WAVETIME": (float(time), "its time, MJD"),
        "WAVESOUR": (source, "made by"),
        "WAVEORDN": (wave.norders, "orders"),
        "WAVEDEGN": (wave.degree, "degree"),
        "WAVEPOLY": (BASIS, "basis, on the column interval [0, nx]"),
    }
    terms = wave.degree + 1
    for o in range(wave.norders):
        for j in range(terms):
            text = f"[nm] order {o}, coefficient {j}"
            cards[f"WAVE{o * terms + j:04d}"] = (float(wave.coefficients[o, j]), text)
    for o, m in enumerate(instrument.echelle):
        cards[f"WAVEEC{o:02d}"] = (int(m), f"echelle number of order {o}")
    return cards


def cavity_cards(cavity: Cavity) -> dict[str, Any]:
    """Cards of the cavity."""
    cards: dict[str, Any] = {
        "WCAV_PED": (cavity.pedestal, "[nm] of 2d, added to the series"),
        "WCAV_DEG": (len(cavity.series) - 1, "degree of the series"),
        "WCAV_LOW": (cavity.domain[0], "[nm] the series begins"),
        "WCAV_HI": (cavity.domain[1], "[nm] the series ends"),
    }
    for j, value in enumerate(cavity.series):
        cards[f"WCAV{j:03d}"] = (float(value), f"[nm] Chebyshev coefficient {j} of 2d")
    return cards


def solution_cards(solution: Solution, fibre: FibreSolution, comb: CombVelocity, file: str) -> dict[str, Any]:
    """Cards about zero point, numbers of lines, errors and the velocity of the comb."""
    import numpy as np

    correction = solution.correction
    cards: dict[str, Any] = {
        "WAVEMHC": (solution.zero.velocity, "[m/s] mean velocity of the lamp lines"),
        "WAVEEMHC": (solution.zero.sigma, "[m/s] error of the zero point"),
        "WAVENHC": (solution.zero.lines, "lamp lines of the zero point"),
        "WAVENHCF": (int(np.count_nonzero(fibre.hc.good)), "lamp lines measured in this fibre"),
        "WAVENFP": (int(np.count_nonzero(fibre.fp.good)), "comb peaks measured in this fibre"),
        "WAVESHFT": (fibre.offset_px, "[px] bulk displacement from the start"),
        "WAVEFERR": (float(np.nanmedian(fibre.error_ms)), "[m/s] formal error of the shape"),
        "WAVEFSCA": (float(np.nanmedian(fibre.scale)), "scatter of peaks over errors"),
        "WCAVFINE": (fibre.shape.finesse, "finesse, from the shape of the peaks"),
        "WAVESKEW": (_middle_skew(fibre), "third moment of the lines in mid-frame"),
        "WCAVDRIF": (solution.cavity_ms, "[m/s] cavity against the start, c d(2d)/2d"),
        "WFP_FILE": (file, "solution the comb was measured with"),
        "WFPDRIFT": (comb.velocity, "[km/s] velocity of the comb"),
        "WFPFWHM": (comb.fwhm, "[km/s] width of the cross-correlation"),
        "WFPCONT": (comb.contrast, "[%] contrast of the cross-correlation"),
        "WFPMASK": (wave_compare.MASK, "mask: peaks of the cavity"),
        "WFPLINE": (comb.lines, "lines of the mask used"),
        "WFPTRV": (0.0, "[km/s] middle of the cross-correlation"),
        "WFPWIDTH": (wave_compare.CCF_HALF, "[km/s] half width of the cross-correlation"),
        "WFPSTEP": (wave_compare.CCF_STEP, "[km/s] step"),
    }
    if fibre.shape.skew is not None:
        for k, value in enumerate(fibre.shape.skew):
            cards[f"WSKEW{k}"] = (float(value), "third moment of the lines, T_i(x) T_j(order)")
    if correction is not None:
        cards["WCATSCAT"] = (correction.scatter, "[m/s] error of the lamp catalogue")
        cards["WCATUSED"] = (correction.used, "lamp lines believed")
        seen = fibre.wave.image()[:, ::16].ravel()
        cards["WAVEECOL"] = (
            correction.shape_error(solution.cavity, seen),
            "[m/s] error of the colour of the cavity, rms",
        )
    return cards


def coefficient_table(wave: WaveMap, fibre: FibreSolution, instrument: Instrument) -> Table:
    """COEFF_TABLE, with echelle number, formal error and scatter of every order."""
    import numpy as np

    from apero_dask.io.fitswriter import Table

    columns = coefficient_columns(wave)
    columns["ECHELLE"] = np.asarray(instrument.echelle, np.int64)
    columns["ERROR"] = fibre.error_ms
    columns["SCATTER"] = fibre.scale
    good = fibre.fp.order[fibre.fp.good]
    columns["PEAKS"] = np.bincount(good, minlength=wave.norders).astype(np.int64)
    return Table(COEFF_TABLE, columns, units={"ERROR": "m/s"})


def line_table(kind: str, lines: Lines, wave: WaveMap, reach: np.ndarray) -> Table:
    """Table of lines: a row per line and order, NaN where the line could not be measured.

    Parameters
    ----------
    kind
        ``hc`` or ``fp``.
    reach : float64[line]
        Half width of the fitted window, px.
    """
    import numpy as np

    from apero_dask.io.fitswriter import Table

    found = np.full(lines.order.size, np.nan)
    good = lines.good
    found[good] = wave.wavelength(lines.order[good], lines.x[good])
    number = lines.label.astype(np.float64)
    columns = {
        "WAVE_REF": lines.wave_ref,
        "WAVE_MEAS": found,
        "PIXEL_REF": lines.x_ref,
        "PIXEL_MEAS": lines.x,
        "ORDER": lines.order,
        "WFIT": reach,
        "EWIDTH_MEAS": lines.width,
        "AMP_MEAS": lines.amplitude,
        "NSIG": lines.snr,
        "DIFF": C_MS * (lines.wave_ref - found) / lines.wave_ref,
        "PEAK_NUMBER": number if kind == "fp" else np.full(number.size, np.nan),
        "PIXEL_ERR": lines.sigma,
        "VELO_ERR": wave.velocity_per_column(lines.order, lines.x) * lines.sigma,
    }
    units = {"WAVE_REF": "nm", "WAVE_MEAS": "nm", "PIXEL_REF": "pix", "PIXEL_MEAS": "pix", "WFIT": "pix"}
    units |= {"EWIDTH_MEAS": "pix", "AMP_MEAS": "electron", "DIFF": "m/s"}
    units |= {"PIXEL_ERR": "pix", "VELO_ERR": "m/s"}
    return Table("LINES", columns, units=units)


def anchors_of_tables(tables: Sequence[Mapping[str, Any]], catalogue: Catalogue) -> Anchors:
    """Residuals of the lamp lines of a solution, from the line tables of its products.

    Lines are recognised by their wavelength: a catalogue that has changed since costs the lines it lacks.
    """
    import numpy as np

    from apero_dask.recipes.wave_anchor import Anchors

    wave = np.concatenate([np.asarray(t["WAVE_REF"], np.float64) for t in tables])
    velocity = np.concatenate([np.asarray(t["DIFF"], np.float64) for t in tables])
    sigma = np.concatenate([np.asarray(t["VELO_ERR"], np.float64) for t in tables])
    nearest = np.clip(np.searchsorted(catalogue.wave, wave - SAME_LINE_NM), 0, catalogue.wave.size - 1)
    good = (np.abs(catalogue.wave[nearest] - wave) < SAME_LINE_NM) & np.isfinite(velocity) & (sigma > 0)
    label, row = np.unique(nearest[good], return_inverse=True)
    weight = 1.0 / sigma[good] ** 2
    total = np.bincount(row, weight, label.size)
    mean = np.bincount(row, weight * velocity[good], label.size) / np.maximum(total, 1e-300)
    return Anchors(label.astype(np.int64), catalogue.wave[label], mean, 1.0 / np.sqrt(total))


def cavity_table(cavity: Cavity) -> Table:
    """Table of the cavity product."""
    from apero_dask.io.fitswriter import Table
    from apero_dask.recipes.wave_cavity import cavity_columns

    return Table("CAVITY", cavity_columns(cavity), units={"COEFFICIENT": "nm", "PEDESTAL": "nm"})


def resolution_extensions(resolution: Resolution, wave: WaveMap) -> list[Image | Table]:
    """Extensions of the map of the line spread behind its main image, the FWHM."""
    import numpy as np

    from apero_dask.io.fitswriter import Image, Table
    from apero_dask.recipes.merged import wave_grid

    lam = wave.image()
    found: list[Image | Table] = [
        Image("E2DS_FWHM", resolution.fwhm, unit="km/s"),
        Image("E2DS_EXPO", resolution.exponent),
        Image("E2DS_AMP", resolution.amplitude),
    ]
    for name, kind in (("S1DW", "wave"), ("S1DV", "velocity")):
        grid = wave_grid(kind)
        values = {}
        for column, plane in (
            ("flux_res_fwhm", resolution.fwhm),
            ("flux_res_expo", resolution.exponent),
            ("flux_res_amp", resolution.amplitude),
        ):
            total, count = np.zeros(grid.size), np.zeros(grid.size)
            for o in range(wave.norders):
                first, end = np.searchsorted(grid, lam[o, [0, -1]])
                total[first:end] += np.interp(grid[first:end], lam[o], plane[o])
                count[first:end] += 1
            values[column] = np.where(count > 0, total / np.maximum(count, 1), np.nan)
        found.append(
            Table(name, {"wavelength": grid, **values}, units={"wavelength": "nm", "flux_res_fwhm": "km/s"})
        )
    counts = {f"COLUMNS_{j}": resolution.lines[:, j] for j in range(resolution.lines.shape[1])}
    found.append(Table("LINES", {"ORDERS": np.arange(resolution.lines.shape[0]), **counts}))
    return found


def _middle_skew(fibre: FibreSolution) -> float:
    import numpy as np

    orders, nx = fibre.wave.norders, fibre.wave.nx
    return float(fibre.shape.skew_at(np.array([(orders - 1) / 2]), np.array([nx / 2]), orders, nx)[0])
