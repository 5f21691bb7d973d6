"""Body of cal_extract: calibrate, straighten, extract every fibre, remove what is not the target's, save.

The reference fibre comes first: its comb is what the leak follows and what tells the drift.  Light is removed
in the order in which it was added last: leak, response (flat), thermal emission.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from apero_dask.core.errors import DataError
from apero_dask.recipes import berv_cards, comb_drift
from apero_dask.recipes.astrometry import object_table
from apero_dask.recipes.calibrated import Calibrated, calibrate, calibration_cards
from apero_dask.recipes.context import RecipeContext
from apero_dask.recipes.extract_products import Extracted, Slab, save_products
from apero_dask.recipes.extract_slab import contributions, empty_weights
from apero_dask.recipes.imagecal import image_rows, open_frames, stacked, variance_rows
from apero_dask.recipes.spectrum import Spectrum, extract_fibre, extraction_cards, location_cards
from apero_dask.recipes.straight import Straight, straighten
from apero_dask.recipes.thermal_light import remove_thermal
from apero_dask.recipes.wave_maps import WaveMap, wave_map

if TYPE_CHECKING:
    import numpy as np

    from apero_dask.instruments import FrameType
    from apero_dask.io.fits import FitsFile

SATURATION_ADU = 50_000.0
"""Mean flux per pixel in mid-order above which a frame is no longer linear; reference pipeline."""
LEAST_SNR = 1.0
"""Informative: median S/N of the orders of a lit fibre."""
MOST_EMPTY = 0.5
"""Informative: share of NaN above which an order counts as empty."""
EMPTY_ORDERS = 0.2
"""Informative: share of empty orders (9 of 49 in the reference pipeline)."""
COMB = "fp"


def extract_frame(ctx: RecipeContext) -> None:
    """Make the spectra of one frame, or of several combined into one.

    Raises
    ------
    DataError
        The frame or a calibration cannot be used, or the frame is not what the options ask for.
    """
    files = open_frames(ctx, "files")
    kind = _frame_type(ctx, files)
    quick = bool(ctx.option("quicklook"))
    frame = _calibrated(ctx, files, background=not quick)
    common = calibration_cards(frame)
    straight = straighten(ctx, frame)
    exposure = frame.exposure_s
    del frame
    slabs: dict[str, Slab] = {}
    spectra, cards = _spectra(ctx, straight, kind, exposure, quick, slabs)
    waves = {fibre: wave_map(ctx, "WAVE", fibre) for fibre in spectra}
    drift, lines = comb_drift.NO_DRIFT, None
    for fibre in ctx.instrument.reference_fibres:
        if kind.reference == COMB:
            drift, lines = _drift(ctx, spectra[fibre], waves[fibre])
    times = _time_cards(files)
    if kind.science == "star" and kind.frame_class == "object":
        star = berv_cards.barycentric_cards(ctx, files[0], times["MJDMID"][0])
    else:
        star = berv_cards.empty_cards(ctx.instrument, times["MJDMID"][0])
    _judge(ctx, spectra, cards, kind, drift, len(files) if _summed(ctx, files) else 1)
    _parameters(ctx)
    extracted = {}
    for fibre, spectrum in spectra.items():
        seen = _seen(ctx, kind, fibre)
        header = {
            **common,
            **extraction_cards(ctx, straight, spectrum),
            **location_cards(ctx, fibre),
            **_geometry_cards(ctx, seen),
            **cards[fibre],
            **times,
            **star,
            **comb_drift.drift_cards(drift),
        }
        extracted[fibre] = Extracted(spectrum, waves[fibre], header, slabs.get(fibre))
    save_products(ctx, extracted, lines, files[0])


def _frame_type(ctx: RecipeContext, files: tuple[FitsFile, ...]) -> FrameType:
    """Type of the frames, checked against the options."""
    types = sorted({str(file.values.get("DPRTYPE", "")).strip() for file in files})
    if len(types) != 1:
        raise DataError(f"{ctx.work.stem}: frames of types {', '.join(types)}; name files of one type.")
    try:
        kind = ctx.instrument.frame_type(types[0])
    except KeyError:
        raise DataError(
            f"{files[0].path}: DPRTYPE {types[0]!r} is no frame type of {ctx.instrument.name}; preprocess "
            "the frame again."
        ) from None
    wanted = ctx.option("dprtype")
    if wanted and str(wanted).upper() != kind.name:
        raise DataError(f"{files[0].path}: the frame is {kind.name}, --dprtype asks for {wanted}.")
    if ctx.option("objname"):
        names = object_table(ctx).names
        asked = names.resolve(str(ctx.option("objname")))
        found = {names.resolve(str(file.values.get("DRSOBJN", ""))) for file in files}
        if found != {asked}:
            raise DataError(
                f"{files[0].path}: the frame is of {', '.join(sorted(found)) or 'no object'}, --objname asks "
                f"for {asked}."
            )
    return kind


def _time_cards(files: tuple[FitsFile, ...]) -> dict[str, tuple[float, str]]:
    """Mean mid-exposure of the frames; of several also where the first begins and the last ends.

    Raises
    ------
    DataError
        A frame has no MJDMID.
    """
    middle = [file.number("MJDMID") for file in files]
    cards = {"MJDMID": (sum(middle) / len(middle), "mid exposure, MJD (UTC), mean of the frames")}
    if len(files) > 1:
        cards["MJDATE"] = (min(file.number("MJDATE") for file in files), "[d] start of the first frame")
        cards["MJDEND"] = (max(file.number("MJDEND") for file in files), "[d] end of the last frame")
    return cards


def _summed(ctx: RecipeContext, files: tuple[FitsFile, ...]) -> bool:
    return len(files) > 1 and ctx.option("combine_method") == "sum"


def _calibrated(ctx: RecipeContext, files: tuple[FitsFile, ...], *, background: bool) -> Calibrated:
    """Calibrated frame; several frames combined before, their sum if asked for."""
    i = ctx.instrument
    if len(files) == 1:
        image, variance = image_rows(files[0], 0, i.raw_columns), variance_rows(files[0], 0, i.raw_columns, i)
        return calibrate(ctx, image, variance, files, statistic="mean", background=background)
    statistic = "median" if ctx.option("combine_method") == "median" else "mean"
    combined = stacked(files, i, statistic)
    frame = calibrate(
        ctx, combined.image, combined.variance, files, statistic=statistic, background=background
    )
    return _times(frame, len(files)) if _summed(ctx, files) else frame


def _times(frame: Calibrated, count: int) -> Calibrated:
    """Sum of `count` exposures from their mean."""
    import numpy as np

    factor, square = np.float32(count), np.float32(count * count)
    return replace(
        frame,
        image=frame.image * factor,
        variance=frame.variance * square,
        base=frame.base * square,
        photon=frame.photon * count,
        exposure_s=frame.exposure_s * count,
        effron=frame.effron * count,
        level=frame.level * count,
    )


def _seen(ctx: RecipeContext, kind: FrameType, fibre: str) -> str:
    return kind.reference if fibre in ctx.instrument.reference_fibres else kind.science


def _spectra(
    ctx: RecipeContext,
    straight: Straight,
    kind: FrameType,
    exposure_s: float,
    quick: bool,
    slabs: dict[str, Slab],
) -> tuple[dict[str, Spectrum], dict[str, dict[str, Any]]]:
    """Spectra of all fibres without leak, response and thermal light, and what was done, by fibre."""
    from apero_dask.recipes.leak_light import without_holes

    i = ctx.instrument
    method = "two_step" if quick else "optimal"
    # Flats hold no light that is off the profile, and their profile is known best.
    cosmics = not quick and not (kind.science == "flat" or kind.reference == "flat")
    remove_leak = bool(ctx.option("leakcorr")) and kind.reference == COMB
    spectra: dict[str, Spectrum] = {}
    cards: dict[str, dict[str, Any]] = {}
    comb: np.ndarray | None = None
    for fibre in _fibres(ctx, kind):
        weights = empty_weights(ctx, fibre) if ctx.option("e2dsll") else None
        spectrum = extract_fibre(ctx, straight, fibre, cosmics=cosmics, method=method, weights=weights)
        if weights is not None:
            slabs[fibre] = Slab(contributions(ctx, straight, spectrum, weights), weights)
        leak: dict[str, Any] = {"LEAKCORR": (0, "light of the reference fibre not removed")}
        if remove_leak and comb is not None:
            spectrum, leak = _without_leak(ctx, spectrum, comb)
        if ctx.option("thermal"):
            spectrum, thermal = remove_thermal(ctx, spectrum, exposure_s, _seen(ctx, kind, fibre))
        else:
            thermal = {"THRM_RAT": (float("nan"), "not corrected"), "THRM_RU": ("off", "--thermal=False")}
        if fibre in i.reference_fibres:
            comb = without_holes(spectrum.e2dsff)
        spectra[fibre], cards[fibre] = spectrum, {**leak, **thermal}
    ordered = [fibre for fibre in i.fibres if fibre in spectra]
    return {fibre: spectra[fibre] for fibre in ordered}, {fibre: cards[fibre] for fibre in ordered}


def _fibres(ctx: RecipeContext, kind: FrameType) -> tuple[str, ...]:
    """Fibres to extract, in this order: the one asked for or all, and one with a comb, for drift and leak."""
    i, only = ctx.instrument, str(ctx.option("fiber"))
    return tuple(
        fibre
        for fibre in (*i.reference_fibres, *i.science_fibres)
        if only in ("ALL", fibre) or (fibre in i.reference_fibres and kind.reference == COMB)
    )


def _without_leak(
    ctx: RecipeContext, spectrum: Spectrum, comb: np.ndarray
) -> tuple[Spectrum, dict[str, Any]]:
    """Spectrum without the light of the reference fibre, as cal_leak removes it."""
    import numpy as np

    from apero_dask.recipes.leak_light import leak_kernel

    kernel, kind = leak_kernel(ctx, spectrum.fibre)
    light = kernel.light(comb)
    # The leak was measured on flat-fielded spectra; the plain one has values where the flat has none.
    response = 1.0 if spectrum.flat is None else np.nan_to_num(spectrum.flat, nan=1.0)
    cards = {
        "LEAKCORR": (1, "light of the reference fibre removed"),
        "LEAK_KND": (kind, "leak reference"),
        "LEAK_MAX": (float(np.max(light)), "[e-] largest light removed from a pixel"),
    }
    return replace(spectrum, e2ds=spectrum.e2ds - light * response, e2dsff=spectrum.e2dsff - light), cards


def _drift(ctx: RecipeContext, spectrum: Spectrum, wave: WaveMap) -> tuple[comb_drift.CombDrift, Any]:
    """Drift of the exposure and the table of its peaks."""
    from apero_dask.recipes.wave_run import filled

    chosen, solution = ctx.calibration("WAVEFPL", spectrum.fibre), ctx.calibration("WAVE", spectrum.fibre)
    columns = ctx.calibration_table("WAVEFPL", 1, spectrum.fibre)
    if chosen is None or chosen.path is None or columns is None:
        raise DataError(f"{ctx.work.recipe}: the reference list of peaks (WAVEFPL) is missing.")
    if solution is None or solution.path is None:
        raise DataError(
            f"{ctx.work.recipe} of {ctx.work.stem}: no wavelength solution with a cavity; run "
            "cal_wave_master."
        )
    path = solution.path
    head = ctx.cached(f"{solution.key} header", lambda: ctx.open(path).values)
    cavity = comb_drift.cavity_of_header(head, path.name)
    shape = comb_drift.shape_of_header(head)
    listed = comb_drift.listed_peaks(columns, wave, chosen.path.name)
    flux, variance = filled((spectrum.e2ds, spectrum.variance), (spectrum.e2dsff, spectrum.variance_ff))
    lines, drift, table = comb_drift.measure_drift(flux, variance, listed, cavity, wave, shape)
    found, asked = int(lines.good.sum()), int(lines.order.size)
    known = drift.used > 0
    ctx.qc("FP_LINES", found, f"FP_LINES < {comb_drift.FEWEST}", known, informative=True)
    if not known:
        ctx.message("W-NO-COMB", id=ctx.work.stem, n=found, m=asked, fibre=spectrum.fibre)
    return drift, table


def _judge(
    ctx: RecipeContext,
    spectra: dict[str, Spectrum],
    cards: dict[str, dict[str, Any]],
    kind: FrameType,
    drift: comb_drift.CombDrift,
    frames: int,
) -> None:
    """Quality control: a spectrum of nothing but NaN fails, everything else informs."""
    import numpy as np

    limit = SATURATION_ADU * frames
    for fibre, spectrum in spectra.items():
        share = float(np.isfinite(spectrum.e2ds).mean())
        ctx.qc(f"FINITE_{fibre}", share, "FINITE == 0", share > 0.0)
    for fibre, spectrum in spectra.items():
        seen = _seen(ctx, kind, fibre)
        empty = int((np.isnan(spectrum.e2ds).mean(axis=1) > MOST_EMPTY).sum())
        most = int(EMPTY_ORDERS * spectrum.e2ds.shape[0])
        ctx.qc(f"EMPTY_{fibre}", empty, f"EMPTY > {most} orders", empty <= most, informative=True)
        if seen != "dark":
            snr = float(np.median(spectrum.snr))
            ctx.qc(f"SNR_{fibre}", snr, f"SNR < {LEAST_SNR:g}", snr >= LEAST_SNR, informative=True)
        ctx.qc(
            f"PEAK_{fibre}",
            spectrum.peak,
            f"PEAK > {limit:.0f} ADU",
            spectrum.peak <= limit,
            informative=True,
        )
        if spectrum.peak > limit:
            ctx.message(
                "W-SATURATED",
                id=ctx.work.stem,
                fibre=fibre,
                value=f"{spectrum.peak:.0f}",
                limit=f"{limit:.0f}",
            )
        if seen == "star" and ctx.option("thermal"):
            ratio = float(cards[fibre]["THRM_RAT"][0])
            known = bool(np.isfinite(ratio))
            ctx.qc(f"THERMAL_{fibre}", ratio, "THERMAL not known", known, informative=True)
        cards[fibre]["EXTSATQC"] = (limit, "[ADU] EXTSMAX above which a frame is saturated")


def _geometry_cards(ctx: RecipeContext, seen: str) -> dict[str, Any]:
    i = ctx.instrument
    return {
        "CAL_FTYP": (seen, "what the fibre looked at"),
        "CAL_FLIP": ("ALL", "axes turned round"),
        "CAL_TOE": (True, "ADU/s turned into electrons"),
        "CAL_SIZE": (f"x={i.x0}:{i.x0 + i.nx} y={i.y0}:{i.y0 + i.ny}", "part of the detector"),
    }


def _parameters(ctx: RecipeContext) -> None:
    from apero_dask.recipes import merged

    for name, value, text in (
        ("SATURATION_ADU", SATURATION_ADU, "limit of the mean flux per pixel"),
        ("COMB_REACH", comb_drift.REACH, "[px] peaks farther from their prediction are noise"),
        ("COMB_CUT", comb_drift.CUT, "sigma beyond which a peak does not count for the drift"),
        ("S1D_TAPER", merged.TAPER_SIGMA, "[px] taper of the orders"),
        ("S1D_BLAZE", merged.BLAZE_LIMIT, "blaze below this part of its maximum is left out"),
    ):
        ctx.parameter(name, value, description=text)
