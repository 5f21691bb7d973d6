"""Bodies of the telluric recipes.

Heavy imports happen inside the functions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from apero_dask.core.errors import DataError
from apero_dask.recipes.context import RecipeContext
from apero_dask.recipes.tellu_spectrum import REFERENCE

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import numpy as np

    from apero_dask.recipes.tellu_residual import ResidualModel, Transmission
    from apero_dask.recipes.tellu_steps import Prepared

LEAST_SNR, AIRMASS_OFF, WATER_LIMITS = 100.0, 0.3, (0.2, 99.0)
"""A transmission is used with at least this S/N, airmass recovered, and water exponent inside."""
RECON_LIMITS = (0.2, 1.2)
"""Corrected spectra are NaN where the reconstructed absorption is outside."""
FIRST_PASS = "p1"
GAP_PX = 0.9


def obj_mk_tellu(ctx: RecipeContext) -> None:
    """Residual transmission of the atmosphere from the spectrum of a hot star.

    Raises
    ------
    DataError
        Input, calibration or asset that cannot be used.
    """
    import numpy as np

    from apero_dask.io.fitswriter import Image
    from apero_dask.recipes import tellu_clean
    from apero_dask.recipes.tellu_continuum import hot_continuum
    from apero_dask.recipes.tellu_steps import clean_cards, judge, prepare, template_cards
    from apero_dask.recipes.wave_maps import wave_map
    from apero_dask.recipes.wave_products import map_cards

    found = prepare(ctx, hot=True)
    cleaned, observed = found.cleaned, found.observed
    light = tellu_clean.star_light(observed)
    with np.errstate(invalid="ignore", divide="ignore"):
        scale = light / observed.flux
        continuum = hot_continuum(light, observed.variance * np.square(scale), cleaned.transmission)
        factor = scale / (found.absorption * continuum)
        planes = {
            "TRANS": observed.flux * factor,
            "VARIANCE": observed.variance * np.square(factor),
            "H2O_SLOPE": cleaned.water_slope / cleaned.transmission,
            "DRY_SLOPE": cleaned.dry_slope / cleaned.transmission,
        }
    reference = wave_map(ctx, "WAVEM", REFERENCE)
    target = reference.image()
    planes = {
        name: on_grid(plane, found.wave, target, 3 if name == "TRANS" else 1)
        for name, plane in planes.items()
    }
    judge(ctx, found)
    order = ctx.instrument.snr_telluric
    snr, airmass = float(found.spectra.snr[order]), found.spectra.airmass
    filled = float(np.isfinite(planes["TRANS"]).mean())
    ctx.qc("TRANS_FILLED", filled, "TRANS_FILLED = 0", filled > 0)
    ctx.qc(f"SNR_HOT[{order}]", snr, f"SNR_HOT[{order}] < {LEAST_SNR:.2f}", bool(snr >= LEAST_SNR))
    ctx.qc(
        "AIRMASS_OFF", abs(cleaned.dry - airmass), f"AIRMASS_OFF > {AIRMASS_OFF}",
        abs(cleaned.dry - airmass) <= AIRMASS_OFF,
    )  # fmt: skip
    ctx.qc(
        "WATER_EXPONENT", cleaned.water, "WATER_EXPONENT outside {:g} to {:g}".format(*WATER_LIMITS),
        WATER_LIMITS[0] < cleaned.water < WATER_LIMITS[1],
    )  # fmt: skip
    chosen = ctx.calibration("WAVEM", REFERENCE)
    name = chosen.path.name if chosen is not None and chosen.path is not None else "default"
    time = chosen.calibration.time if chosen is not None else 0.0
    cards = {
        **clean_cards(ctx, found),
        **template_cards(found, "MKTTEMP"),
        **map_cards(reference, ctx.instrument, name, time, "cal_wave_master"),
        "MTAUH2O": (cleaned.water, "water exponent"),
        "MTAUOTHE": (cleaned.dry, "dry exponent"),
        "TAU_H2O": (cleaned.water, "water exponent"),
        "TAU_OTHE": (cleaned.dry, "dry exponent"),
        "MKTBPRCT": (95.0, "percentile that normalises the blaze"),
        "MKTBZCUT": (0.1, "blaze below this is left out"),
        "MKTDCONV": (40.0, "[px] length of the continuum"),
        "MKT_TMED": (15, "[px] smoothing of the template"),
        "TELLPASS": pass_card(ctx),
    }
    for kind, fibre, _ in ctx.work.outputs:
        main = Image("TRANS", planes["TRANS"])
        further = [Image(n, planes[n]) for n in ("VARIANCE", "H2O_SLOPE", "DRY_SLOPE")]
        ctx.save(kind, main, *further, fibre=fibre, header=cards, inherit=found.spectra.main)


def pass_card(ctx: RecipeContext) -> tuple[int, str]:
    """Card TELLPASS."""
    return (1 if ctx.work.variant == FIRST_PASS else 2, "pass of the telluric steps, 2 = public")


def on_grid(plane: np.ndarray, wave: np.ndarray, target: np.ndarray, degree: int) -> np.ndarray:
    """Plane float64[order, x] on other wavelengths of the same orders; holes stay open.

    `degree` 3: cubic spline, else straight lines.
    """
    import numpy as np
    from scipy.interpolate import CubicSpline

    out = np.full(target.shape, np.nan)
    for o in range(len(out)):
        good = np.isfinite(plane[o])
        if np.count_nonzero(good) < 4:
            continue
        at = wave[o, good]
        near = np.interp(target[o], wave[o], good.astype(float)) > GAP_PX
        # A wavelength map that differs by part of a pixel must not cost the pixels at the ends.
        near &= (target[o] >= at[0] - (at[1] - at[0])) & (target[o] <= at[-1] + (at[-1] - at[-2]))
        if degree == 3:
            out[o, near] = CubicSpline(at, plane[o, good])(target[o, near])
        else:
            out[o, near] = np.interp(target[o, near], at, plane[o, good])
    return out


def tellu_model(ctx: RecipeContext) -> None:
    """Residual model of all transmissions that passed.

    Raises
    ------
    DataError
        No transmission, or one of another shape.
    """
    import numpy as np

    from apero_dask.io.fitswriter import Image, Table
    from apero_dask.recipes import tellu_residual

    files = ctx.input("transmissions")
    if not files:
        raise DataError(
            f"{ctx.work.recipe}: no transmission passed quality control; reduce hot stars first or look at "
            "their QC entries."
        )
    found = sorted((_transmission(ctx, path) for path in files), key=lambda t: (t.mjd, t.name))
    model = tellu_residual.fit_model(found)
    count = len(model.components)
    if len(found) < tellu_residual.FEW:
        ctx.message("W-FEW-TRANS", n=len(found), k=count)
    known = float(np.isfinite(model.zero).mean())
    ctx.qc(
        "MODEL_FILES", len(found), f"MODEL_FILES < {tellu_residual.FEW}",
        len(found) >= tellu_residual.FEW, informative=True,
    )  # fmt: skip
    ctx.qc("MODEL_KNOWN", known, "MODEL_KNOWN = 0", known > 0, informative=True)
    for name, value in (
        ("SLOPE_PRIOR", tellu_residual.SLOPE_PRIOR),
        ("ZERO_PRIOR", tellu_residual.ZERO_PRIOR),
        ("FLOOR", tellu_residual.FLOOR),
    ):
        ctx.parameter(name, value)
    table = Table(
        "TRANS_TABLE",
        {
            "TRANS_FILE": [t.name for t in found],
            "EXPO_H2O": [t.water for t in found],
            "EXPO_OTHERS": [t.dry for t in found],
            "SNR": [t.snr for t in found],
            "OBJNAME": [t.object for t in found],
            "MJDMID": [t.mjd for t in found],
        },
    )
    cards = {
        "MKMNFILE": (len(found), "transmissions used"),
        "MKMMFILE": (max(1, min(3, len(found))), "fewest values of a pixel"),
        "MKMSIGMA": (tellu_residual.CUT, "sigma beyond which a value is left out"),
        "MKMNPC": (count, "principal components"),
        "TELLPASS": pass_card(ctx),
        **{f"MKMSP{k:03d}": (float(s), "rms amplitude of a component") for k, s in enumerate(model.spread)},
    }
    for kind, fibre, _ in ctx.work.outputs:
        ctx.save(
            kind,
            Image("ZERO_RES", model.zero),
            Image("H2O_RES", model.h2o),
            Image("DRY_RES", model.dry),
            table,
            Image("PRINCIPAL", model.components),
            Image("USED", model.used),
            fibre=fibre,
            header=cards,
            inherit=ctx.open(next(path for path in files if path.name == found[0].name)),
        )


def _transmission(ctx: RecipeContext, path: Path) -> Transmission:
    """One transmission with its exponents.

    Raises
    ------
    DataError
        Of another shape, or a keyword is missing.
    """
    import numpy as np

    from apero_dask.recipes.tellu_residual import Transmission

    i = ctx.instrument
    file = ctx.open(path)
    planes = [file.image(which, np.float64) for which in (1, "VARIANCE", "H2O_SLOPE", "DRY_SLOPE")]
    if any(plane.shape != (i.norders, i.nx) for plane in planes):
        raise DataError(
            f"{path}: transmission of shape {planes[0].shape}, expected {(i.norders, i.nx)}; make it again."
        )
    return Transmission(
        file.name,
        str(file.values.get("DRSOBJN", file.values.get("OBJECT", ""))),
        file.number("TLPEH2O"),
        file.number("TLPEOTR"),
        file.number(f"EXTSN{i.snr_telluric:03d}"),
        file.number("MJDMID"),
        *planes,
    )


def read_model(ctx: RecipeContext) -> tuple[ResidualModel, str, Mapping[str, Any]]:
    """Residual model of the run, its name and its table of transmissions.

    Raises
    ------
    DataError
        There is none, or one of another shape.
    """
    import numpy as np

    from apero_dask.recipes.tellu_residual import ResidualModel

    path = next(iter(ctx.input("model")), None)
    if path is None:
        raise DataError(
            f"{ctx.work.recipe} of {ctx.work.stem}: no residual model; reduce hot stars first (tellu_seq) or "
            "use --onlypreclean."
        )
    file = ctx.open(path)

    def load() -> ResidualModel:
        planes = [file.image(which, np.float64) for which in (1, "H2O_RES", "DRY_RES")]
        components = file.image("PRINCIPAL", np.float64)
        used = file.image("USED", np.int64)
        spread = np.array([file.number(f"MKMSP{k:03d}") for k in range(len(components))])
        return ResidualModel(planes[0], planes[1], planes[2], used, components, spread)

    model = load()
    expected = (ctx.instrument.norders, ctx.instrument.nx)
    if model.zero.shape != expected:
        raise DataError(
            f"{path}: residual model of shape {model.zero.shape}, expected {expected}; make it again."
        )
    return model, path.name, file.table("TRANS_TABLE")


def residual_of(
    ctx: RecipeContext, found: Prepared, model: ResidualModel
) -> tuple[np.ndarray, dict[str, Any]]:
    """ln of what pre-cleaning leaves, on the pixels of the exposure, and header cards."""
    import numpy as np

    from apero_dask.recipes import tellu_clean
    from apero_dask.recipes.tellu_residual import moved, principal_residual
    from apero_dask.recipes.wave_maps import wave_map

    grid = wave_map(ctx, "WAVEM", REFERENCE).image()
    c, o = found.cleaned, found.observed
    if ctx.option("model") == "residual":
        return moved(model.residual(c.water, c.dry), grid, found.wave), {}
    components = np.stack([moved(plane, grid, found.wave) for plane in model.components])
    with np.errstate(invalid="ignore", divide="ignore"):
        usable = c.transmission > tellu_clean.DEEPEST
        light = np.where(usable, tellu_clean.star_light(o) / c.transmission, np.nan)
        noise = o.variance / np.square(o.flux)
    log, amplitudes = principal_residual(light, noise, components, model.spread)
    n = len(components)
    cards = {
        "FTT_NPC": (n, "principal components"),
        "FTT_ADPC": (True, "derivative of the first added"),
        "FTT_FDPC": (True, "fitted on what is narrow"),
        "FTTFKNUM": (n + 2, "vectors fitted"),
        "DV_TELL1": (float(amplitudes[n]), "amplitude of the first derivative"),
        "DV_TELL2": (float(amplitudes[n + 1]), "amplitude of the second derivative"),
        **{f"AMPPC{k:03d}": (float(a), "amplitude of a component") for k, a in enumerate(amplitudes)},
    }
    return log, cards
