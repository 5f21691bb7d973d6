"""Body of obj_fit_tellu: apply absorption and residual model to the spectra of an exposure.

Heavy imports happen inside the functions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from apero_dask.recipes.context import RecipeContext
from apero_dask.recipes.tellu_spectrum import REFERENCE, blaze_of

if TYPE_CHECKING:
    import numpy as np

    from apero_dask.recipes.tellu_steps import Prepared

SKY_SHARES = (0.45, 0.55)
"""Measured share of a beam is believed inside, else a half is taken."""
GRIDS = (("S1D_W", "wave"), ("S1D_V", "velocity"))


def obj_fit_tellu(ctx: RecipeContext) -> None:
    """Correct the spectra of one exposure for the atmosphere.

    The correction of AB is applied to A and B alike: a difference of the two would look like polarisation.

    Raises
    ------
    DataError
        Input, calibration, model or asset that cannot be used.
    """
    import numpy as np

    from apero_dask.io.fitswriter import Image, Table
    from apero_dask.recipes.merged import wave_grid
    from apero_dask.recipes.sky_absorption import load_absorption
    from apero_dask.recipes.tellu_resolution import resolution_factor
    from apero_dask.recipes.tellu_run import RECON_LIMITS, pass_card, read_model, residual_of
    from apero_dask.recipes.tellu_steps import clean_cards, judge, prepare, template_cards

    found = prepare(ctx, hot=False)
    c, kinds = found.cleaned, _kinds(ctx)
    cards: dict[str, Any] = {}
    table = Table("TRANS_TABLE", {"TRANS_FILE": ["None"]})
    log = np.zeros(found.wave.shape)
    if not ctx.option("onlypreclean"):
        model, name, rows = read_model(ctx)
        log, cards = residual_of(ctx, found, model)
        table = Table("TRANS_TABLE", rows)
        cards |= {
            "FTTMODEL": (name, "residual model"),
            "FTT_NTRS": (len(rows["TRANS_FILE"]), "transmissions in it"),
        }
    with np.errstate(invalid="ignore"):
        recon = found.absorption * np.exp(log)
        recon = np.where((recon >= RECON_LIMITS[0]) & (recon <= RECON_LIMITS[1]), recon, np.nan)
    finite = np.ones(recon.shape)
    if ctx.option("finiteres") and found.template is not None and c.converged:
        finite = resolution_factor(load_absorption(ctx), found.observed, c)
    judge(ctx, found)
    cards |= {
        **clean_cards(ctx, found),
        **template_cards(found, "FTTTEMP"),
        **gas_cards(c.water, c.dry),
        "FTTKIND": (str(ctx.option("model")), "residual or pca"),
        "FTTONLY": (bool(ctx.option("onlypreclean")), "no residual model"),
        "FTTFINRE": (bool((finite != 1).any()), "corrected for finite resolution"),
        "FTTRCLIM": ("{:g} {:g}".format(*RECON_LIMITS), "limits of the absorption corrected"),
        "TELLPASS": pass_card(ctx),
    }
    grids = {kind: wave_grid(kind) for _, kind in GRIDS}
    shares = sky_shares(found)
    with np.errstate(invalid="ignore", divide="ignore"):
        for fibre in (f for k, f, _ in ctx.work.outputs if k == kinds["corrected"]):
            flux = found.spectra.flux[fibre] - shares[fibre] * found.sky.model
            corrected = flux / (recon * finite)
            variance = found.spectra.variance[fibre] / np.square(recon * finite)
            own = {**cards, "FTTSKYSH": (shares[fibre], "share of the sky of AB")}
            source = found.spectra.files[fibre]
            ctx.save(
                kinds["corrected"],
                Image("TCORR", corrected, unit="electron"),
                *([table] if fibre == REFERENCE else []),
                Image("VARIANCE", variance, unit="electron^2"),
                Image("RECON", recon),
                fibre=fibre,
                header=own,
                inherit=source,
            )
            _save_merged(ctx, kinds["corrected"], fibre, corrected, variance, grids, own, source)
        main = found.spectra.main
        ctx.save(kinds["recon"], Image("RECON", recon), fibre=REFERENCE, header=cards, inherit=main)
        blaze = blaze_of(ctx, REFERENCE)
        error = np.square(c.water_slope * c.errors[0]) + np.square(c.dry_slope * c.errors[1]) + 1e-12
        _save_merged(
            ctx, kinds["recon"], REFERENCE, recon * blaze, error * np.square(blaze), grids, cards, main
        )
        cleaned = found.observed.flux / found.absorption
    mask = np.isfinite(found.absorption).astype(np.uint8)
    ctx.save(
        kinds["clean"],
        Image("CORRECTED", cleaned, unit="electron"),
        Image("TRANS_MASK", mask),
        Image("ABSO_E2DS", c.transmission),
        Image("PCA_SKY", found.sky.model, unit="electron"),
        Image("FINITE_RES", finite),
        fibre=REFERENCE,
        header=cards,
        inherit=main,
    )


def _kinds(ctx: RecipeContext) -> dict[str, str]:
    """Product kinds of this pass."""
    planned = {kind for kind, _, _ in ctx.work.outputs}
    pairs = {"corrected": ("TCORR1", "TCORR"), "recon": ("RECON1", "RECON"), "clean": ("PCLEAN1", "PCLEAN")}
    return {name: first if first in planned else public for name, (first, public) in pairs.items()}


def _save_merged(
    ctx: RecipeContext,
    kind: str,
    fibre: str,
    flux: np.ndarray,
    variance: np.ndarray,
    grids: dict[str, np.ndarray],
    cards: dict[str, Any],
    source: Any,
) -> None:
    from apero_dask.recipes.merged import merge_on, merged_cards, merged_table
    from apero_dask.recipes.wave_maps import wave_map

    blaze, wave = blaze_of(ctx, fibre), wave_map(ctx, "WAVE", fibre).image()
    spectra = merge_on(flux, variance, blaze, wave, [grids[grid] for _, grid in GRIDS])
    for merged, (name, grid) in zip(spectra, GRIDS, strict=True):
        product = f"{kind}_{name}"
        ctx.save(
            product,
            merged_table(merged, product),
            fibre=fibre,
            header={**cards, **merged_cards(grid)},
            inherit=source,
        )


def sky_shares(found: Prepared) -> dict[str, float]:
    """Part of the sky of AB in each fibre: that of the starlight where it is near a half."""
    import numpy as np

    whole = found.spectra.flux[REFERENCE]
    shares = {}
    for fibre, flux in found.spectra.flux.items():
        if fibre == REFERENCE:
            shares[fibre] = 1.0
            continue
        with np.errstate(invalid="ignore", divide="ignore"):
            ratio = flux / whole
        good = np.isfinite(ratio) & (found.observed.blaze > 0.3)
        middle = float(np.median(ratio[good])) if good.any() else 0.5
        shares[fibre] = middle if SKY_SHARES[0] <= middle <= SKY_SHARES[1] else 0.5
    return shares


def gas_cards(water: float, dry: float) -> dict[str, Any]:
    """Exponents under the names that programs of the field read."""
    cards: dict[str, Any] = {
        "TAU_H2O": (water, "water exponent"),
        "TAU_OTHE": (dry, "exponent of the dry gases"),
        "ABSO_H2O": (water, "water exponent"),
    }
    for gas in ("O3", "N2O", "O2", "CO2", "CH4"):
        cards[f"ABSO_{gas}"] = (dry, "exponent of the dry gases")
    return cards
