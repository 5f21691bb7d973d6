"""cal_loc: position, width and transverse profile of every order."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from apero_dask.core.declare import Group, Makes, Recipe, Resources, Select, register
from apero_dask.core.errors import DataError
from apero_dask.recipes.context import RecipeContext
from apero_dask.recipes.options import CALIBRATION, GENERAL, frames

if TYPE_CHECKING:
    import numpy as np

    from apero_dask.io.fitswriter import Table
    from apero_dask.recipes.calibrated import Calibrated
    from apero_dask.recipes.loc_find import Guess
    from apero_dask.recipes.loc_fit import SlitImages

POLYNOMIAL = "Chebyshev"
NO_TRACE = -1
"""Pixels of the order image that belong to no trace."""


def cal_loc(ctx: RecipeContext) -> None:
    """Find and measure the traces of the fibres that are lit.

    Raises
    ------
    DataError
        A frame is damaged, or its background cannot be measured.
    """
    import numpy as np
    from apero_kernels.trace import order_profile

    from apero_dask.io.fitswriter import Image
    from apero_dask.recipes.calibrated import calibration_cards
    from apero_dask.recipes.loc_find import find_traces, table_traces
    from apero_dask.recipes.loc_fit import fit_slit_images

    i = ctx.instrument
    group = next(fibre for kind, fibre, _ in ctx.work.outputs if kind == "LOC")
    frame = _frame(ctx)
    profile = np.empty_like(frame.image)
    order_profile(frame.image, profile)
    noise = frame.effron if np.isfinite(frame.effron) else float(np.sqrt(np.nanmedian(frame.base)))
    guess = find_traces(profile, noise, table_traces(i, group))
    found = fit_slit_images(frame, guess, i.slices)
    keep = np.flatnonzero(np.isfinite(found.centres).all(axis=1) & np.isfinite(found.widths).all(axis=1))
    _judge(ctx, guess, found, keep)
    _parameters(ctx)

    t = 2.0 * np.arange(i.nx) / i.nx - 1.0
    positions = np.polynomial.chebyshev.chebval(t, found.centres[keep].T).reshape(len(keep), i.nx)
    heights = np.polynomial.chebyshev.chebval(t, found.widths[keep].T).reshape(len(keep), i.nx)
    header = {
        "MJDMID": (ctx.work.time, "mean mid-exposure of the planned frames, MJD"),
        **calibration_cards(frame),
        **_cards(frame, guess, found, keep),
    }
    tables = (_table("CENTRES", guess, found.centres, keep), _table("WIDTHS", guess, found.widths, keep))
    inherit = frame.files[0]
    orders = order_image(positions, heights, (i.ny, i.nx))
    with_orders = frame.image.copy()
    _draw(positions, with_orders)
    ctx.save("ORDER_PROFILE", Image("", profile, "electron"), fibre=group, header=header, inherit=inherit)
    ctx.save("LOC", Image("", orders), *tables, fibre=group, header=header, inherit=inherit)
    ctx.save("LOCFWHM", Image("", heights, "pixel"), fibre=group, header=header, inherit=inherit)
    ctx.save("LOCWITH", Image("", with_orders, "electron"), fibre=group, header=header, inherit=inherit)


def _frame(ctx: RecipeContext) -> Calibrated:
    """The calibrated frame; frames that have nothing in common are combined all the same and judged later.

    Frames without light are never alike, and quality control must be able to say so.
    """
    from apero_dask.recipes.calibrated import calibrated

    try:
        return calibrated(ctx, "files")
    except DataError as error:
        found = calibrated(ctx, "files", check_alike=False)
        ctx.log.warning("%s They are combined all the same and judged by their traces.", error)
        return found


def _judge(ctx: RecipeContext, guess: Guess, found: SlitImages, keep: np.ndarray) -> None:
    """The two tests that decide, and two that only inform."""
    import numpy as np

    wanted = len(guess.fibres)
    ctx.qc("NORDERS", len(keep), f"NORDERS != {wanted}", len(keep) == wanted)
    step = smallest_step(found.centres[keep], ctx.instrument.nx)
    # Fewer than two traces cannot cross; that they are too few is said by the first test.
    ctx.qc("ORDER_STEP", step, "ORDER_STEP <= 0", not step <= 0)
    rms = float(np.median(found.rms_centre[keep])) if keep.size else float("nan")
    ctx.qc("RMS_CENTRE", rms, "RMS_CENTRE > 0.5", not rms > 0.5, informative=True)
    ctx.qc("DISPLACED", guess.displacement[0], "|DISPLACED| > 10", abs(guess.displacement[0]) <= 10, True)


def smallest_step(centres: np.ndarray, nx: int) -> float:
    """Smallest distance of a trace to the next one in any column, px; NaN for fewer than two.

    Parameters
    ----------
    centres : float64[trace, degree + 1]
        In the sequence of fibres and orders they are meant to have; a negative step is a crossing or a swap.
    nx : int
        Columns.
    """
    import numpy as np

    if len(centres) < 2:
        return float("nan")
    t = 2.0 * np.arange(nx) / nx - 1.0
    return float(np.diff(np.polynomial.chebyshev.chebval(t, centres.T), axis=0).min())


def order_image(positions: np.ndarray, heights: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Number of the trace (row of the tables) every pixel belongs to, -1 for none.

    Parameters
    ----------
    positions, heights : float64[trace, x]
        Middle and lit height, px.
    shape
        Rows and columns of the frame.
    """
    import numpy as np

    out = np.full(shape, NO_TRACE, np.int16)
    columns = np.arange(shape[1])
    for k in range(len(positions)):
        low = np.ceil(positions[k] - 0.5 * heights[k]).astype(int)
        high = np.floor(positions[k] + 0.5 * heights[k]).astype(int)
        for offset in range(int((high - low).max()) + 1):
            rows = low + offset
            inside = (rows <= high) & (rows >= 0) & (rows < shape[0])
            out[rows[inside], columns[inside]] = k
    return out


def _draw(positions: np.ndarray, image: np.ndarray) -> None:
    """Blank the pixel under every trace."""
    import numpy as np

    columns = np.arange(image.shape[1])
    for line in positions:
        rows = np.rint(line).astype(int)
        inside = (rows >= 0) & (rows < image.shape[0])
        image[rows[inside], columns[inside]] = np.nan


def _table(name: str, guess: Guess, series: np.ndarray, keep: np.ndarray) -> Table:
    from apero_dask.io.fitswriter import Table

    return Table(
        name,
        {
            "ORDER": [guess.orders[k] for k in keep],
            "FIBER": [guess.fibres[k] for k in keep],
            **{f"COEFFS_{c}": series[keep, c] for c in range(series.shape[1])},
        },
    )


def _cards(frame: Calibrated, guess: Guess, found: SlitImages, keep: np.ndarray) -> dict[str, Any]:
    """Summary of a localisation and all its coefficients."""
    import numpy as np

    def largest(values: np.ndarray) -> float:
        return float(values[keep].max()) if keep.size else float("nan")

    cards: dict[str, Any] = {
        "LOBCKGRD": (frame.level, "[e-] smooth background subtracted"),
        "LONBO": (len(keep), "traces found"),
        "LOCPOLYT": (POLYNOMIAL, "basis of the polynomials, domain [0, columns]"),
        "LODEGCTR": (found.centres.shape[1] - 1, "degree of the centres"),
        "LODEGFWH": (found.widths.shape[1] - 1, "degree of the widths"),
        "LOFLXMAX": (largest(found.flux), "[e-] largest light of a trace in a column"),
        "LOCTRMAX": (int(largest(found.rejected)) if keep.size else 0, "most columns of a trace rejected"),
        "LOWIDMAX": (largest(found.widths[:, 0]), "[px] largest mean width"),
        "LORMSCTR": (largest(found.rms_centre), "[px] largest rms of a centre fit"),
        "LORMSWID": (largest(found.rms_width), "[px] largest rms of a width fit"),
        "LOCDISPL": (guess.displacement[0], "[px] median distance from the packaged table"),
    }
    for keyword, series, text in (("LOCE", found.centres, "centre"), ("LOFW", found.widths, "width")):
        for n, value in enumerate(np.asarray(series)[keep].ravel()):
            order, k = divmod(n, series.shape[1])
            cards[f"{keyword}{n:04d}"] = (float(value), f"{text} of trace {order}, coefficient {k}")
    return cards


def _parameters(ctx: RecipeContext) -> None:
    from apero_dask.recipes import loc_find, loc_fit

    for name, value, text in (
        ("LOC_SAMPLES", loc_find.SAMPLES, "columns in which traces are looked for"),
        ("LOC_FAINTEST", loc_find.FAINTEST, "of the brightest trace near it"),
        ("LOC_SIGNIFICANCE", loc_find.SIGNIFICANCE, "sigma of a peak"),
        ("LOC_FEWEST", loc_find.FEWEST, "part of the samples in which a trace is seen"),
        ("LOC_COLUMNS", loc_fit.COLUMNS, "columns that are fitted"),
        ("LOC_DEGREE_CENTRE", loc_fit.DEGREE_CENTRE, "along the order"),
        ("LOC_DEGREE_WIDTH", loc_fit.DEGREE_WIDTH, "along the order"),
        ("LOC_DEGREE_ACROSS", loc_fit.ACROSS, "of the higher terms, from order to order"),
        ("LOC_CUT", loc_fit.CUT, "sigma at which a column loses half of its weight"),
        ("LOC_LEVEL", loc_fit.LEVEL, "of the peak of a slice, at which the width is measured"),
    ):
        ctx.parameter(name, value, description=text)


CAL_LOC = register(
    Recipe(
        name="cal_loc",
        short="LOC",
        scripts=("apero_loc",),
        group=Group.NIGHT_AND_TYPE,
        tree_in="tmp",
        tree_out="reduced",
        takes="obs_dir",
        arguments=(frames("files", "DARK_FLAT", "FLAT_DARK", positional=True),),
        selects=(Select(("DARKM",)), Select(("BADPIX", "BKGRDMAP"))),
        makes=tuple(
            Makes(kind, (fibre,), variants=(variant,))
            for variant, fibre in (("DARK_FLAT", "C"), ("FLAT_DARK", "AB"))
            for kind in ("ORDER_PROFILE", "LOC", "LOCFWHM", "LOCWITH")
        ),
        options=(*GENERAL, *CALIBRATION),
        resources=Resources(memory_gb=2.5, seconds=10.0, per_input_s=0.5),
        stratum=2,
        body=cal_loc,
    )
)
