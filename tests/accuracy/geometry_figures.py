"""Table rows of localisation and shape."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from apero_kernels.resample import IDENTITY

from apero_dask.recipes.shape_reference import MATCH_TIME_H
from apero_dask.recipes.traces import series_of
from apero_dask.simulator.spec import FrameSpec
from tests.accuracy import geometry as measure
from tests.accuracy.figures import Figure, below
from tests.accuracy.reduced import Reduced, mean_frame

LOCALISED = {"AB": "FLAT_DARK", "C": "DARK_FLAT"}


def geometry_figures(night: Reduced) -> Iterator[Figure]:
    """Traces, heights, motion, map of the slit image."""
    yield from _traces(night)
    yield from _tilt(night)
    yield from _motion(night)


def _traces(night: Reduced) -> Iterator[Figure]:
    i = night.instrument
    whole, worst, heights = {}, {}, {}
    for group, dprtype in LOCALISED.items():
        specs = night.of_type(dprtype)
        true = night.truth(specs[len(specs) // 2])
        file = night.file("LOC", group)
        for fibre in group:
            wrong = measure.trace_errors(
                series_of(file.table("CENTRES"), fibre, i.norders, file.name), true, fibre, i
            )
            whole[fibre] = measure.rms(np.concatenate(wrong))
            worst[fibre] = max(measure.rms(e) for e in wrong if e.size)
            found = measure.series_at_columns(series_of(file.table("WIDTHS"), fibre, i.norders, file.name), i)
            f = measure.FIBRES.index(fibre)
            lit = (true.blaze[f] > 0.1) & (true.trace_px[f] >= 0) & (true.trace_px[f] <= i.ny - 1)
            heights[fibre] = 100 * measure.rms((found / measure.true_heights(true, fibre) - 1)[lit])
    yield below("traces, rms where blaze > 0.1", 0.01, whole, unit=" px")
    yield below("traces, worst order", 0.03, worst, unit=" px")
    yield below("widths, rms relative error", 2.0, heights, unit=" %")


def reference_set(night: Reduced) -> list[FrameSpec]:
    """Frames that the reference image is registered to: those taken together with the first of the night."""
    specs = night.of_type("FP_FP")
    return [s for s in specs if 24.0 * (s.mjd_mid - specs[0].mjd_mid) <= MATCH_TIME_H]


def reference_frame(night: Reduced) -> FrameSpec:
    """Frame in the middle of these."""
    specs = reference_set(night)
    return specs[len(specs) // 2]


def _tilt(night: Reduced) -> Iterator[Figure]:
    i = night.instrument
    true = night.truth(reference_frame(night))
    rows, order, shift = measure.true_displacement(true, night.file("SHAPEY").image(1), i)
    error = night.file("SHAPEX").image(1)[rows] - shift
    parts = []
    for o in range(i.norders):
        error[order == o] -= np.nanmean(error[order == o])
        parts.append(float(np.nanstd(error[order == o])))
    yield below(
        "dx map, rms error inside the lit slit", 0.03, {"": float(np.nanstd(error))}, unit=" px",
        note=f"worst order {max(parts):.3f} px (echelle {i.echelle[int(np.argmax(parts))]}); one constant "
        f"per order free; without the map {np.nanstd(shift):.2f} px",
    )  # fmt: skip


def _motion(night: Reduced) -> Iterator[Figure]:
    i = night.instrument
    specs, before = night.of_type("FP_FP"), reference_set(night)
    found = night.file("SHAPEL").image(1)[0]
    true = measure.relative_motion(mean_frame(specs).affine, mean_frame(before).affine)
    moved = np.hypot(*(measure.rms(e) for e in measure.frame_error(np.array(IDENTITY), true, i)))
    x, y = (measure.rms(e) for e in measure.frame_error(found, true, i))
    yield below(
        "affine transform of the reference night", 2e-3, {"dx": x, "dy": y}, unit=" px",
        note=f"rms over the frame; its {len(specs)} combs lie {moved:.4f} px from the {len(before)} of the "
        "reference image; a thermal cycle is judged on the small instrument",
    )  # fmt: skip
