"""cal_ff: flat field and blaze of every order and fibre.

The spectrum of the lamp stays in the blaze: it is what the lamp gives, not the grating alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from apero_dask.core.declare import Group, Makes, Recipe, Resources, register
from apero_dask.recipes.options import (
    ALL_FIBRES,
    CALIBRATION,
    EXTRACTION_SET,
    FIBRES,
    GENERAL,
    LOCO,
    PROFILE,
    SHAPES,
    frames,
)

if TYPE_CHECKING:
    import numpy as np

    from apero_dask.recipes.blaze_fit import Blaze
    from apero_dask.recipes.context import RecipeContext
    from apero_dask.recipes.spectrum import Spectrum

BLAZE_CUT = 0.1
"""No blaze and no flat where the blaze is below this part of its maximum."""
FLAT_RMS_CUT = 10.0
"""Pixels further than this many rms from 1 have no flat."""
FLAT_LIMIT = 0.2
"""Nor have those further than this."""
LOW_PASS_PARTS = 8.16
"""An order over the width of the low-pass of the flat: 501 px of 4088 in the reference pipeline."""
SMOOTH_LIMIT = 0.02
"""Rms of the low-pass about 1 from which it is no response of the detector but a blaze the model misses."""
MOST_RMS = 0.05
"""Quality control: largest rms of the flat of an order."""


@dataclass(frozen=True, slots=True)
class FlatField:
    """Flat and blaze of a fibre; arrays are float64[order, x]."""

    flat: np.ndarray
    """Response of single pixels, about 1; NaN = no information."""
    variance: np.ndarray
    """Of the flat."""
    blaze: np.ndarray
    """Electrons; NaN below BLAZE_CUT of its maximum."""
    rms: np.ndarray
    """float64[order]: scatter of the flat about 1; NaN without light."""
    high_passed: np.ndarray
    """bool[order]: the low-pass of the flat went into the blaze."""
    fit: Blaze


def flat_field(spectrum: Spectrum) -> FlatField:
    """Split the spectrum of the flat lamp into response of pixels and smooth blaze.

    Notes
    -----
    The product of both is the spectrum.  The response of a detector also varies slowly, by a per cent over
    some hundred pixels; it is part of the flat, so that the blaze is that of the light.  An order that the
    model of the blaze does not describe shows a larger slow part: there the low-pass of the flat (medians of
    windows, about an eighth of an order wide) goes into the blaze, as the reference pipeline does everywhere.
    """
    import numpy as np
    from apero_kernels.polynomial import low_pass

    from apero_dask.recipes.blaze_fit import fit_blaze

    fit = fit_blaze(spectrum.e2ds, spectrum.variance)
    orders, nx = spectrum.e2ds.shape
    width = max(round(nx / LOW_PASS_PARTS) | 1, 3)
    blaze = fit.model.copy()
    flat, variance = np.full((2, orders, nx), np.nan)
    rms = np.full(orders, np.nan)
    high_passed = np.zeros(orders, bool)
    for o in range(orders):
        if not np.isfinite(blaze[o]).any():
            continue
        blaze[o, blaze[o] < BLAZE_CUT * np.nanmax(blaze[o])] = np.nan
        response = spectrum.e2ds[o] / blaze[o]
        _leave_out(response)
        smooth = low_pass(response, width)
        slow = smooth[np.isfinite(blaze[o])]
        high_passed[o] = not np.sqrt(np.mean(np.square(slow - 1.0))) <= SMOOTH_LIMIT
        if high_passed[o]:
            blaze[o] *= smooth
        response = spectrum.e2ds[o] / blaze[o]
        rms[o] = _leave_out(response)
        flat[o] = response
        variance[o] = spectrum.variance[o] / np.square(blaze[o])
    variance[np.isnan(flat)] = np.nan
    return FlatField(flat, variance, blaze, rms, high_passed, fit)


def _leave_out(response: np.ndarray) -> float:
    """Set pixels far from 1 to NaN, in place; return the rms about 1 of the others."""
    import numpy as np

    good = np.isfinite(response)
    if not good.any():
        return float("nan")
    # From percentiles: a few bad pixels must not widen the limit that is to find them.
    low, high = np.percentile(response[good], [15.8655, 84.1345])
    limit = min(FLAT_RMS_CUT * 0.5 * (high - low), FLAT_LIMIT)
    with np.errstate(invalid="ignore"):
        response[np.abs(response - 1.0) > limit] = np.nan
    left = response[np.isfinite(response)]
    return float(np.sqrt(np.mean(np.square(left - 1.0)))) if left.size else float("nan")


def cal_ff(ctx: RecipeContext) -> None:
    """Make FLAT and BLAZE of every fibre from the flats of a night.

    Raises
    ------
    DataError
        No usable flat, or a calibration that does not fit.
    """
    import numpy as np

    from apero_dask.io.fitswriter import Image, Table
    from apero_dask.recipes.blaze_fit import NAMES
    from apero_dask.recipes.calibrated import calibrated, calibration_cards
    from apero_dask.recipes.spectrum import extract_fibre, extraction_cards, location_cards
    from apero_dask.recipes.straight import straighten

    frame = calibrated(ctx, "files", statistic="mean")
    common = calibration_cards(frame)
    straight = straighten(ctx, frame)
    del frame
    fibres = [fibre for kind, fibre, _ in ctx.work.outputs if kind == "FLAT"]
    counted = [o for o in range(ctx.instrument.norders) if o not in ctx.instrument.flat_qc_excluded]
    made = {}
    for fibre in fibres:
        spectrum = extract_fibre(ctx, straight, fibre, flat=False, cosmics=False)
        field = flat_field(spectrum)
        made[fibre] = spectrum, field
        rms = field.rms[counted]
        # An order without light has no rms: it must not pass unseen.
        worst = float(np.max(rms)) if np.isfinite(rms).all() else float("nan")
        ctx.qc(f"RMS_FLAT_{fibre}", worst, f"RMS_FLAT > {MOST_RMS}", worst <= MOST_RMS)
    for name, value, text in (
        ("BLAZE_CUT", BLAZE_CUT, "smallest blaze over its maximum"),
        ("FLAT_RMS_CUT", FLAT_RMS_CUT, "rms beyond which a pixel has no flat"),
        ("FLAT_LIMIT", FLAT_LIMIT, "distance from 1 beyond which a pixel has no flat"),
        ("SMOOTH_LIMIT", SMOOTH_LIMIT, "rms of the low-pass from which it goes into the blaze"),
        ("LOW_PASS_PARTS", LOW_PASS_PARTS, "length of an order over the low-pass of the flat"),
    ):
        ctx.parameter(name, value, description=text)
    for fibre, (spectrum, field) in made.items():
        cards = {
            **common,
            **extraction_cards(ctx, straight, spectrum),
            **location_cards(ctx, fibre),
            "BLAZSCUT": (BLAZE_CUT, "blaze below this part of its maximum is NaN"),
            "BLAZBPTL": (95.0, "percentile that stands for the maximum of the light"),
        }
        cards |= {f"FLATR{o:03d}": (float(r), "rms of the flat") for o, r in enumerate(field.rms)}
        table = Table(
            "BLAZE_FIT",
            {
                "ORDER": np.arange(field.rms.size),
                "ECHELLE": np.asarray(ctx.instrument.echelle),
                **{name: field.fit.parameters[:, k] for k, name in enumerate(NAMES)},
                "HIGH_PASSED": field.high_passed,
                "RESIDUAL": field.fit.residual,
                "BINS": field.fit.used,
            },
            units={"AMPLITUDE": "electron", "CENTRE": "pix", "PERIOD": "pix"},
        )
        ctx.save(
            "FLAT", Image("FLAT", field.flat), Image("VARIANCE", field.variance), fibre=fibre, header=cards
        )
        ctx.save("BLAZE", Image("BLAZE", field.blaze, unit="electron"), table, fibre=fibre, header=cards)


CAL_FF = register(
    Recipe(
        name="cal_ff",
        short="FF",
        scripts=("cal_flat", "apero_flat"),
        group=Group.NIGHT,
        tree_in="tmp",
        tree_out="reduced",
        takes="obs_dir",
        arguments=(frames("files", "FLAT_FLAT", positional=True),),
        selects=EXTRACTION_SET[:-1],
        makes=(Makes("FLAT", FIBRES), Makes("BLAZE", FIBRES)),
        options=(*GENERAL, *CALIBRATION, ALL_FIBRES, LOCO, PROFILE, *SHAPES),
        resources=Resources(memory_gb=2.5, seconds=14.0, per_input_s=0.5),
        stratum=3,
        body=cal_ff,
    )
)
