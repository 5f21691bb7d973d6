"""Bodies of the wavelength recipes: extract both lamps, solve, judge, save.

The length of the cavity is measured anew every night.  A smooth function of time through the nights would be
better (each night adds its lamp noise to every velocity of the night), but needs all of them: a run sees one
night, so the raw values are kept in the headers (WCAVDRIF, WAVEEMHC) for whoever has the series.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from apero_dask.core.errors import DataError
from apero_dask.recipes import wave_compare, wave_products
from apero_dask.recipes.context import RecipeContext
from apero_dask.recipes.wave_catalogue import Catalogue, load_catalogue
from apero_dask.recipes.wave_cavity import Cavity, cavity_of, starting_cavity
from apero_dask.recipes.wave_comb import FP_REACH, spacing_at
from apero_dask.recipes.wave_compare import CombVelocity
from apero_dask.recipes.wave_lines import HC_REACH
from apero_dask.recipes.wave_maps import wave_map
from apero_dask.recipes.wave_solution import LampSpectra, Solution, solve_night, solve_reference

if TYPE_CHECKING:
    import numpy as np

    from apero_dask.recipes.spectrum import Spectrum

LAMPS = (("hcfiles", "hc1"), ("fpfiles", "fp"))
MOST_SCATTER = 3.0
FEWEST_LINES = 50


def cal_wave_master(ctx: RecipeContext) -> None:
    """Make the reference wavelength solution, the cavity, the line lists and the map of the line spread.

    Raises
    ------
    DataError
        A frame or calibration cannot be used, the lamps are not recognised, or the peaks cannot be numbered.
    """
    from apero_dask.io.fitswriter import Image
    from apero_dask.recipes.wave_resolution import resolution_map

    catalogue, start = load_catalogue(ctx.trees.assets), _starting_cavity(ctx)
    guesses = {fibre: wave_map(ctx, "WAVE0", fibre) for fibre in ctx.instrument.fibres}
    spectra, extracted = lamp_spectra(ctx)
    solution = solve_reference(spectra, guesses, start, catalogue, ctx.instrument.localised)
    combs = _judge(ctx, solution, spectra)
    _parameters(ctx, catalogue)
    for fibre in ctx.instrument.fibres:
        _save(ctx, solution, fibre, combs[fibre], extracted[fibre], ("WAVEM", "WAVEHCL", "WAVEFPL"))
    ctx.save(
        "WAVECAV",
        wave_products.cavity_table(solution.cavity),
        header={
            "MJDMID": _time(ctx),
            **wave_products.cavity_cards(solution.cavity),
        },
    )
    for kind, fibre, _ in ctx.work.outputs:
        if kind != "WAVR_E2DS":
            continue
        found = solution.fibres[fibre]
        resolution = resolution_map(spectra[fibre].hc, found.hc, found.wave)
        ctx.save(
            kind,
            Image(kind, resolution.fwhm, unit="km/s"),
            *wave_products.resolution_extensions(resolution, found.wave),
            fibre=fibre,
            header={
                **extracted[fibre],
                "MJDMID": _time(ctx),
            },
        )


def cal_wave_night(ctx: RecipeContext) -> None:
    """Make the wavelength solution of a night: shape of the reference cavity, length of the night.

    Raises
    ------
    DataError
        As :func:`cal_wave_master`.
    """
    catalogue = load_catalogue(ctx.trees.assets)
    guesses = {fibre: wave_map(ctx, "WAVEM", fibre) for fibre in ctx.instrument.fibres}
    chosen = ctx.calibration("WAVECAV")
    table = ctx.calibration_table("WAVECAV", 1)
    anchors = ctx.instrument.localised
    tables = [ctx.calibration_table("WAVEHCL", 1, fibre) for fibre in anchors]
    if chosen is None or chosen.path is None or table is None:
        raise DataError(f"{ctx.work.recipe}: the reference cavity WAVECAV is missing; run cal_wave_master.")
    cavity = cavity_of(table, chosen.path.name)
    known = [t for t in tables if t is not None]
    reference = wave_products.anchors_of_tables(known, catalogue) if len(known) == len(anchors) else None
    spectra, extracted = lamp_spectra(ctx)
    solution = solve_night(spectra, guesses, cavity, catalogue, anchors, reference)
    combs = _judge(ctx, solution, spectra)
    _parameters(ctx, catalogue)
    for fibre in ctx.instrument.fibres:
        _save(ctx, solution, fibre, combs[fibre], extracted[fibre], ("WAVE", "WAVENHCL", "WAVENFPL"))


def lamp_spectra(ctx: RecipeContext) -> tuple[dict[str, LampSpectra], dict[str, dict[str, Any]]]:
    """Extracted lamps of all fibres, and header cards of the extraction.

    At the faint ends of orders, where the flat is not known, the spectrum is not divided by it: a peak is
    worth more than the 0.5 per cent by which columns differ.

    Raises
    ------
    DataError
        A frame or calibration cannot be used.
    """
    from apero_dask.recipes.calibrated import calibrated, calibration_cards
    from apero_dask.recipes.spectrum import extract_fibre, extraction_cards, location_cards
    from apero_dask.recipes.straight import straighten
    from apero_dask.recipes.thermal_light import remove_thermal

    planes: dict[str, dict[str, tuple[np.ndarray, np.ndarray]]] = {}
    cards: dict[str, dict[str, Any]] = {}
    for argument, seen in LAMPS:
        frame = calibrated(ctx, argument, statistic="mean", check_alike=seen == "fp")
        exposure, common = frame.exposure_s, calibration_cards(frame)
        straight = straighten(ctx, frame)
        del frame
        for fibre in ctx.instrument.fibres:
            spectrum = extract_fibre(ctx, straight, fibre)
            noise = line_variances(ctx, spectrum)
            spectrum, thermal = remove_thermal(ctx, spectrum, exposure, seen)
            planes.setdefault(fibre, {})[seen] = filled(
                (spectrum.e2ds, noise[0]), (spectrum.e2dsff, noise[1])
            )
            if seen == LAMPS[0][1]:
                cards[fibre] = {
                    **common,
                    **extraction_cards(ctx, straight, spectrum),
                    **location_cards(ctx, fibre),
                    **thermal,
                }
    return {fibre: LampSpectra(*p["fp"], *p["hc1"]) for fibre, p in planes.items()}, cards


def line_variances(ctx: RecipeContext, spectrum: Spectrum) -> tuple[np.ndarray, np.ndarray]:
    """Variances that tell the errors of lines, without and with flat, float64[order, x], electrons^2.

    An interpolated column has less noise than one of the detector because neighbours share it; a line is
    wider than what they share, and its place is as uncertain as on the detector.  To that comes the noise of
    the flat, which is as large as that of a Fabry-Perot frame where the lamps are alike.

    Raises
    ------
    DataError
        See :func:`apero_dask.recipes.order_windows.geometry`.
    """
    import numpy as np

    from apero_dask.recipes.order_windows import geometry

    shared = geometry(ctx, spectrum.fibre).noise
    plain, corrected = spectrum.variance / shared, spectrum.variance_ff / shared
    chosen = ctx.calibration("FLAT", spectrum.fibre)
    if spectrum.flat is None or chosen is None or chosen.path is None:
        return plain, corrected
    # Flats of other programs come without errors.
    path = chosen.path
    if ctx.cached(f"{chosen.key} has errors", lambda: ctx.open(path).has("VARIANCE")):
        noise = ctx.calibration_image("FLAT", spectrum.fibre, "VARIANCE")
        corrected = corrected + np.square(spectrum.e2dsff / spectrum.flat) * noise / shared
    return plain, corrected


def filled(
    plain: tuple[np.ndarray, np.ndarray], flat: tuple[np.ndarray, np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Flat-fielded flux and variance, float64[order, x]; not flat-fielded at the ends of orders.

    A gap between columns with a flat stays unknown: it is a dark spot of the detector, whose edges are steep
    enough to move peaks by a tenth of a column.
    """
    import numpy as np

    known = np.isfinite(flat[0])
    before = np.maximum.accumulate(known, axis=1)
    behind = np.maximum.accumulate(known[:, ::-1], axis=1)[:, ::-1]
    end = ~(before & behind)
    return np.where(end, plain[0], flat[0]), np.where(end, plain[1], flat[1])


def _starting_cavity(ctx: RecipeContext) -> Cavity:
    """Cavity the user named, else that of the package."""
    name = ctx.option("cavityfile")
    if not name:
        return starting_cavity()
    places = (
        Path(str(name)),
        ctx.trees.calibDB / str(name),
        ctx.trees.reduced / ctx.work.obs_dir / str(name),
    )
    for place in places:
        if place.is_absolute() and place.is_file():
            return cavity_of(ctx.open(place).table(1), place.name)
    looked = ", ".join(str(place.parent) for place in places[1:])
    raise DataError(f"cavity {name} is not there (looked in {looked}); correct --cavityfile.")


def _judge(
    ctx: RecipeContext, solution: Solution, spectra: dict[str, LampSpectra]
) -> dict[str, CombVelocity]:
    """Quality control; returns the velocities of the combs."""
    import numpy as np

    mask = wave_compare.comb_mask(solution.cavity)
    joint = ctx.instrument.fibres[0]
    combs: dict[str, CombVelocity] = {}
    limit = wave_compare.LIMIT_MS
    for fibre in ctx.instrument.fibres:
        found = solution.fibres[fibre]
        image = found.wave.image()
        combs[fibre] = wave_compare.comb_velocity(spectra[fibre].fp, image, mask)
        along, across = wave_compare.rises_along_orders(image), wave_compare.rises_across_orders(image)
        ctx.qc(f"WAVE_ALONG_{fibre}", along, "wavelengths not rising along the orders", along)
        ctx.qc(f"WAVE_ACROSS_{fibre}", across, "wavelengths not rising from order to order", across)
        if fibre == joint:
            continue
        velocity = wave_compare.fibre_velocity(solution.fibres[joint], found)
        ctx.qc(f"FP_VELO_{fibre}", velocity, f"|FP_VELO| > {limit} m/s", abs(velocity) <= limit)
        change = 1e3 * (combs[fibre].velocity - combs[joint].velocity)
        ctx.qc(f"FP_CCF_{fibre}", change, f"|FP_CCF| > {limit} m/s", abs(change) <= limit, informative=True)
    for fibre in ctx.instrument.fibres:
        scatter = float(np.nanmedian(solution.fibres[fibre].scale))
        ctx.qc(
            f"FP_SCATTER_{fibre}", scatter, f"FP_SCATTER > {MOST_SCATTER}", scatter <= MOST_SCATTER,
            informative=True,
        )  # fmt: skip
    lines = solution.zero.lines
    ctx.qc("HC_LINES", lines, f"HC_LINES < {FEWEST_LINES}", lines >= FEWEST_LINES, informative=True)
    return combs


def _parameters(ctx: RecipeContext, catalogue: Catalogue) -> None:
    from apero_dask.recipes import wave_comb, wave_lines, wave_numbers, wave_offsets, wave_solution

    ctx.parameter("CATALOGUE", catalogue.origin, description="lamp lines")
    ctx.parameter("CATALOGUE_LINES", int(catalogue.wave.size), description="lines in it")
    for module, names in (
        (wave_lines, ("EDGE", "HC_REACH", "HC_SIGNIFICANCE", "MOST_BIAS")),
        (wave_comb, ("FP_REACH", "FP_SIGNIFICANCE")),
        (wave_numbers, ("RANGE", "MOST_ERROR_MS", "LEAST_LEAD")),
        (wave_offsets, ("SEARCH", "DEGREE")),
        (wave_solution, ("CUT", "FLOOR", "FEWEST", "PASSES")),
        (wave_compare, ("CCF_STEP", "CCF_HALF", "CCF_BOX", "LIMIT_MS")),
    ):
        short = module.__name__.rpartition(".")[2]
        for name in names:
            ctx.parameter(f"{short}.{name}".upper(), getattr(module, name), source=module.__name__)


def _save(
    ctx: RecipeContext,
    solution: Solution,
    fibre: str,
    comb: CombVelocity,
    extracted: dict[str, Any],
    kinds: tuple[str, str, str],
) -> None:
    """Map and line lists of a fibre."""
    import numpy as np

    from apero_dask.io.fitswriter import Image

    found = solution.fibres[fibre]
    name = next(
        PurePosixPath(path).name for kind, f, path in ctx.work.outputs if (kind, f) == (kinds[0], fibre)
    )
    header = {
        **extracted,
        "MJDMID": _time(ctx),
        **wave_products.map_cards(found.wave, ctx.instrument, name, ctx.work.time, ctx.work.recipe),
        **wave_products.cavity_cards(solution.cavity),
        **wave_products.solution_cards(solution, found, comb, name),
    }
    table = wave_products.coefficient_table(found.wave, found, ctx.instrument)
    ctx.save(kinds[0], Image(kinds[0], found.wave.image(), unit="nm"), table, fibre=fibre, header=header)
    lamp = np.full(found.hc.order.size, HC_REACH)
    lines = wave_products.line_table("hc", found.hc, found.wave, lamp)
    ctx.save(kinds[1], lines, fibre=fibre, header=header)
    window = FP_REACH * spacing_at(solution.cavity, found.wave, found.fp.order, found.fp.x_ref)
    ctx.save(
        kinds[2], wave_products.line_table("fp", found.fp, found.wave, window), fibre=fibre, header=header
    )


def _time(ctx: RecipeContext) -> tuple[float, str]:
    return ctx.work.time, "mean mid-exposure of the planned lamps, MJD"
