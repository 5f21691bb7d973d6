"""Table rows of preprocessing, reference dark and bad pixels."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy import ndimage

from apero_dask.simulator.detector import StaticDetector
from tests.accuracy import detector as measure
from tests.accuracy.bare_night import bare_products
from tests.accuracy.detector import BLOB, DEAD, HOT, TELEGRAPH
from tests.accuracy.figures import Figure, above, below
from tests.accuracy.reduced import Reduced


def detector_figures(night: Reduced) -> Iterator[Figure]:
    """Orientation, noise, hits, bad pixels, reference dark."""
    static = yield from _dark(night)
    yield from _hits(night, "HCONE_HCONE", static)
    yield from _bad_pixels(night, static)


def _dark(night: Reduced) -> Iterator[Figure]:
    i = night.instrument
    spec = night.of_type("DARK_DARK_INT")[0]
    frame = night.record(spec)
    file = night.preprocessed(spec)
    slope, variance, mask = (measure.raw_orientation(file.image(k)) for k in (1, "VARIANCE", "MASK"))
    truth = measure.expected_slope(frame, i)

    hot = frame.static.classes & HOT > 0
    seen = np.nan_to_num(slope) > 20 * np.nanmedian(np.abs(slope))
    place = [(seen & np.roll(hot, (a, b), (0, 1))).sum() for a in (-1, 0, 1) for b in (-1, 0, 1)]
    full = night.preprocessed(spec).image(1)[::-1, ::-1]
    row, column = np.argwhere(np.isfinite(slope))[:: max(1, slope.size // 1000)].T
    same = slope[row, column] == full[i.raw_columns - 1 - column, row]
    yield Figure(
        "raw-to-cal orientation", "exact", f"{same.mean():.4f} of pixels identical; hot pixels where painted:"
        f" {'yes' if int(np.argmax(place)) == 4 else 'no'}", bool(same.all() and np.argmax(place) == 4),
    )  # fmt: skip
    ratio = measure.row_noise(slope - truth, i) / measure.row_noise(frame.slope - truth, i)
    yield below("correlated noise after preprocessing, of the input", 0.15, {"": ratio})
    levels = measure.amplifier_levels(slope - truth, i)
    yield below(
        "amplifier offsets", 0.003, {"largest": float(np.abs(levels).max()), "rms": float(levels.std())},
        unit=" ADU/s",
    )  # fmt: skip
    jumping = frame.static.classes & TELEGRAPH > 0
    yield from _hit_rows("dark", *measure.found_hits(frame, spec, mask, i, jumping))
    known = measure.stable_dark(frame.static.dark, night.config.detector.ipc_fraction, i)
    chosen = hot & ~jumping & (frame.count == spec.nreads)
    alone, _ = bare_products(night.root)
    rms, bare = (
        measure.clipped_rms(((measure.raw_orientation(file.image(1)) - known) / np.sqrt(variance))[chosen])
        for file in (night.file("DARKM"), alone)
    )
    whole = night.file("DARKM").values
    yield below(
        "dark reference: hot pixels of another dark, over its noise", 1.1, {"": float(np.hypot(1.0, rms))},
        note=f"reference alone {rms:.3f}, {whole['NDARKS']} darks; {np.hypot(1.0, bare):.3f} from the "
        f"{alone.values['NDARKS']} darks of the night alone",
    )  # fmt: skip
    return frame.static


def _hits(night: Reduced, dprtype: str, static: StaticDetector) -> Iterator[Figure]:
    spec = night.of_type(dprtype)[0]
    frame = night.record(spec)
    mask = measure.raw_orientation(night.preprocessed(spec).image("MASK"))
    jumping = static.classes & TELEGRAPH > 0
    yield from _hit_rows(dprtype, *measure.found_hits(frame, spec, mask, night.instrument, jumping))


def _hit_rows(name: str, complete: float, false: float, hits: int) -> Iterator[Figure]:
    yield above(f"cosmic hits above 10 sigma, complete, {name}", 0.95, {"": complete}, note=f"{hits} hits")
    yield below(
        f"cosmic hits, false rate, {name}", 1e-4, {"": false}, note="pixels whose dark jumps left out"
    )


def _bad_pixels(night: Reduced, static: StaticDetector) -> Iterator[Figure]:
    i = night.instrument
    classes, response = (measure.cal_orientation(p, i) for p in (static.classes, static.response))
    wanted, defect = measure.wanted_pixels(classes, response)
    hot, dead = classes & HOT > 0, (classes & DEAD > 0) & (classes & (BLOB | HOT) == 0)
    _, alone = bare_products(night.root)
    bad, bare = (file.image(1) > 0 for file in (night.file("BADPIX"), alone))
    flat = measure.raw_orientation(night.preprocessed(night.of_type("FLAT_FLAT")[0]).image(1))
    light = measure.cal_orientation(ndimage.median_filter(np.nan_to_num(flat), (7, 1)), i)
    lit = light > 0.05 * np.percentile(light, 90)
    yield above(
        "bad pixels, recall", 0.97, {"": float(bad[wanted].mean())},
        note=f"hot {bad[hot].mean():.3f}, dead {bad[dead].mean():.3f}; without a flat under even light "
        f"{bare[wanted].mean():.3f} (dead in the light of the orders {bare[dead & lit].mean():.3f}; "
        f"{100 * (1 - lit[dead].mean()):.0f} % of the dead lie where no frame of a night has light)",
    )  # fmt: skip
    yield above(
        "bad pixels, precision", 0.90, {"": float(defect[bad].mean())},
        note=f"without a flat under even light {defect[bare].mean():.3f}",
    )  # fmt: skip
