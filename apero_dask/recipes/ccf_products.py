"""Products of cal_ccf: cross-correlations, results per order, bisector."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from apero_dask.recipes.photon_noise import combined

if TYPE_CHECKING:
    import numpy as np

    from apero_dask.io.fits import FitsFile
    from apero_dask.io.fitswriter import Table
    from apero_dask.recipes.ccf_drift import Drift
    from apero_dask.recipes.ccf_velocity import StarVelocity
    from apero_dask.recipes.context import RecipeContext
    from apero_dask.recipes.line_mask import LineMask

MASK_WIDTH = 1.7
"""km/s; carried in the header for programs that read it, the flux at the centre of a line is used."""


def velocity_products(
    ctx: RecipeContext,
    file: FitsFile,
    found: StarVelocity,
    mask: LineMask,
    noise: np.ndarray,
    cards: dict[str, Any],
) -> None:
    """Save the cross-correlation of the star; `noise` float64[order] is that of the spectrum, m/s."""
    import numpy as np

    from apero_dask.io.fitswriter import Table
    from apero_dask.recipes.ccf_fit import bisector

    used = np.flatnonzero(found.used)
    header = {
        **cards,
        "CCFMNRV": (found.rv, "[km/s] velocity of the mean profile"),
        "CCFMCONT": (float(found.fit.contrast[0]), "[%] contrast of the mean profile"),
        "CCFMFWHM": (float(found.fit.fwhm[0]), "[km/s] full width at half maximum"),
        "CCFBIS": (found.span, "[km/s] bisector span, 10-40 minus 55-85 % depth"),
        "CCFMRVNS": (1e-3 * found.noise, "[km/s] photon noise of the velocity"),
        "CCFTLINE": (int(found.lines.sum()), "lines used, all orders"),
        "CCFMASK": (mask.name[-60:], f"mask, {mask.origin}"),
        "CCFSTEP": (float(str(ctx.option("step"))), "[km/s] step"),
        "CCFWIDTH": (float(str(ctx.option("width"))), "[km/s] half width of the scan"),
        "CCFTRGRV": (found.target, "[km/s] middle of the scan"),
        "CCFWIDE": (found.wide, "middle found by a first wide scan"),
        "CCFNORD": (used.size, "orders in the mean profile"),
        "CCFORDMX": (int(used[-1]) if used.size else -1, "last order in the mean profile"),
        "CCFMSKMN": (0.0, "smallest weight, excluded"),
        "CCFMSKWD": (MASK_WIDTH, "[km/s] nominal width of a line of the mask"),
        "CCFMUNIT": ("nanometers", "unit of the wavelengths of the mask"),
        "CCFMNORM": (str(ctx.option("masknormmode")), "norm of the weights"),
        "DVRMS_SP": (combined(noise), "[m/s] photon noise of the spectrum"),
        "DVRMS_CC": (found.noise, "[m/s] photon noise of the velocity"),
    }
    orders = found.orders
    rows = {
        "Orders": np.arange(found.lines.size),
        "NLines": found.lines,
        "Contrast": orders.contrast,
        "RV": orders.centre,
        "FWHM": orders.fwhm,
        "DC": orders.offset / np.where(np.isfinite(orders.offset), _norm(found.ccf), 1.0),
        "SNR": _snr(file, found.lines.size),
        "Norm": _norm(found.ccf),
        "DVRMS_SP": noise,
        "DVRMS_CC": found.order_noise,
        "Used": found.used,
    }
    depth, middle, _ = bisector(found.velocity, found.mean, found.fit)
    ctx.save(
        "CCF",
        _profiles(found.velocity, found.ccf, found.mean),
        _order_table(rows),
        Table("BISECTOR", {"DEPTH": depth, "RV": middle}, units={"RV": "km/s"}),
        fibre=_fibre(ctx, "CCF"),
        header=header,
        inherit=file,
    )


def drift_products(
    ctx: RecipeContext, file: FitsFile, drift: Drift | None, fibre: str, cards: dict[str, Any], mask: str
) -> None:
    """Save the cross-correlation of the comb; empty if the reference spectrum was not there."""
    import numpy as np

    from apero_dask.recipes import wave_compare
    from apero_dask.recipes.ccf_fit import fit_gaussians

    norders = ctx.instrument.norders
    nothing = np.full(norders, np.nan)
    if drift is None:
        velocity = np.arange(-wave_compare.CCF_HALF, wave_compare.CCF_HALF + 0.5 * wave_compare.CCF_STEP, 0.5)
        profiles, lines = np.full((norders, velocity.size), np.nan), np.zeros(norders, np.int64)
        noise = nothing
    else:
        velocity, lines, noise = drift.velocity, drift.lines, drift.order_noise
        profiles = np.where(lines[:, None] > 0, drift.profiles, np.nan)
    # Emission: the fit is made for absorption.
    fits = fit_gaussians(velocity, -profiles, 0.0, 2.3)
    height = np.abs(fits.amplitude) - fits.offset
    mean = profiles[lines > 0].mean(axis=0) if (lines > 0).any() else np.full(velocity.size, np.nan)
    speed = drift.simultaneous if drift else math.nan
    header = {
        **{key: value for key, value in cards.items() if key.startswith("RV")},
        "CCFMNRV": (speed, "[km/s] velocity of the comb"),
        "CCFMCONT": (drift.contrast if drift else math.nan, "[%] contrast"),
        "CCFMFWHM": (drift.fwhm if drift else math.nan, "[km/s] full width at half maximum"),
        "CCFMRVNS": (1e-3 * drift.noise if drift else math.nan, "[km/s] photon noise"),
        "CCFTLINE": (int(lines.sum()), "lines used, all orders"),
        "CCFMASK": (mask, "peaks of the cavity of the wavelength solution"),
        "CCFSTEP": (wave_compare.CCF_STEP, "[km/s] step"),
        "CCFWIDTH": (wave_compare.CCF_HALF, "[km/s] half width of the scan"),
        "CCFTRGRV": (0.0, "[km/s] middle of the scan"),
        "CCFMSKWD": (wave_compare.CCF_BOX, "[km/s] width of a line of the mask"),
        "CCFMUNIT": ("nanometers", "unit of the wavelengths of the mask"),
        "DVRMS_SP": (drift.noise if drift else math.nan, "[m/s] photon noise of the spectrum"),
        "DVRMS_CC": (drift.noise if drift else math.nan, "[m/s] photon noise of the velocity"),
    }
    rows = {
        "Orders": np.arange(norders),
        "NLines": lines,
        "Contrast": 100.0 * np.abs(fits.amplitude) / np.where(height > 0.0, height, np.nan),
        "RV": fits.centre,
        "FWHM": fits.fwhm,
        "DC": -fits.offset / np.where(height > 0.0, height, np.nan),
        "SNR": _snr(file, norders),
        "Norm": height,
        "DVRMS_SP": noise,
        "DVRMS_CC": noise,
        "Used": lines > 0,
    }
    ctx.save(
        "CCF_FP",
        _profiles(velocity, profiles, mean),
        _order_table(rows),
        fibre=fibre,
        header=header,
        inherit=file,
    )


def _fibre(ctx: RecipeContext, kind: str) -> str:
    return next(fibre for made, fibre, _ in ctx.work.outputs if made == kind)


def _profiles(velocity: np.ndarray, ccf: np.ndarray, mean: np.ndarray) -> Table:
    import numpy as np

    from apero_dask.io.fitswriter import Table

    columns = {"RV": velocity}
    columns |= {f"ORDER{o:02d}": np.ascontiguousarray(row) for o, row in enumerate(ccf)}
    columns["Combined"] = mean
    return Table("CCF_RV", columns, units={"RV": "km/s"})


def _order_table(rows: dict[str, np.ndarray]) -> Table:
    import numpy as np

    from apero_dask.io.fitswriter import Table

    finite = {
        name: np.where(np.isfinite(values), values, np.nan) if values.dtype.kind == "f" else values
        for name, values in rows.items()
    }
    units = {"RV": "km/s", "FWHM": "km/s", "Contrast": "%", "DVRMS_SP": "m/s", "DVRMS_CC": "m/s"}
    return Table("ORDER_TABLE", finite, units=units)


def _norm(ccf: np.ndarray) -> np.ndarray:
    """Largest value of every order, photons per step."""
    import numpy as np

    good = np.isfinite(ccf).all(axis=1)
    return np.where(good, np.where(good[:, None], ccf, 0.0).max(axis=1), np.nan)


def _snr(file: FitsFile, norders: int) -> np.ndarray:
    import numpy as np

    from apero_dask.recipes.science_input import number_of

    found = [number_of(file, f"EXTSN{o:03d}") for o in range(norders)]
    return np.array([math.nan if value is None else value for value in found])
