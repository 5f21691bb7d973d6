"""The reference Fabry-Perot image: sets of frames of the whole archive, registered to the master night."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from apero_dask.core.errors import DataError
from apero_dask.recipes.context import RecipeContext
from apero_dask.recipes.dark import group_by_time
from apero_dask.recipes.imagecal import alike, image_rows, open_frames, stacked
from apero_dask.recipes.shape_register import Peaks, Registration, find_reference_peaks, register

if TYPE_CHECKING:
    import numpy as np

    from apero_dask.io.fits import FitsFile
    from apero_dask.io.fitswriter import Table
    from apero_dask.recipes.calibrated import Calibrated

ARGUMENT = "fpfiles"
MATCH_TIME_H = 2.0  # frames within this time of the first one form a set; reference pipeline
FEWEST_FRAMES = 3  # of a set outside the master night
CENTRAL = 200  # px, side of the square in which light is looked for
LIGHT_PERCENTILE = 95.0
LEAST_LIGHT = 100.0  # that percentile over the noise of the reference pixels
NORMALISE = 90.0  # percentile that becomes 1
FILL_SIDE = 5  # px, square whose mean stands for a hole while its surroundings are interpolated
LEAST_VALID = 0.5  # share of an interpolated pixel that must come from pixels with a value
MOST_SIGMA = 0.1  # px, scatter of the peaks of a set that is used

USED, NO_LIGHT, TOO_FEW, UNLIKE, NOT_FOUND, SCATTER = range(6)
"""Values of the column STATUS of FP_TABLE."""
STATUS_CARDS = (
    ("STATUS0", "used", ""),
    ("STATUS1", "no light", ""),
    ("STATUS2", "set of fewer than three frames", ""),
    ("STATUS3", "unlike the others of its set", ""),
    ("STATUS4", "transform not found", ""),
    ("STATUS5", "peaks scatter by more than 0.1 px", ""),
)


@dataclass(slots=True)
class FrameSet:
    """Frames within two hours."""

    files: list[FitsFile]
    members: list[int]
    """Their numbers among all frames."""
    number: int
    registration: Registration | None = None


@dataclass(slots=True)
class ReferenceImage:
    """What :func:`reference_image` found."""

    image: np.ndarray
    """float32[y, x], 1 = 90th percentile of a set; NaN = no set has a value."""
    variance: np.ndarray
    """float32[y, x]."""
    files: tuple[FitsFile, ...]
    status: np.ndarray
    """int16[frame]."""
    group: np.ndarray
    """int16[frame], from 1; 0 without set."""
    affine: np.ndarray
    """float64[frame, 6]; NaN for frames that were not used."""
    sigma: np.ndarray
    """float64[frame, 2], px."""
    night: list[FitsFile] = field(default_factory=list)
    """Frames of the set of the master night all others were registered to."""

    def table(self) -> Table:
        """FP_TABLE of the products."""
        import numpy as np

        from apero_dask.io.fitswriter import Table

        columns = {
            f"SHAPE_{name}": self.affine[:, k] for k, name in enumerate(("DX", "DY", "A", "B", "C", "D"))
        }
        return Table(
            "FP_TABLE",
            {
                "FILENAME": [file.name for file in self.files],
                "MJDMID": np.array([file.number("MJDMID") for file in self.files]),
                "GROUPID": self.group,
                "STATUS": self.status,
                **columns,
                "SIGMA_X": self.sigma[:, 0],
                "SIGMA_Y": self.sigma[:, 1],
            },
            cards=STATUS_CARDS,
        )


def has_light(file: FitsFile) -> bool:
    """Whether a preprocessed Fabry-Perot frame shows light.

    The 95th percentile of the central 200 x 200 px must exceed 100 times the median absolute deviation of the
    reference pixels of the four uppermost rows.
    """
    import numpy as np
    from apero_kernels.robust import median_absolute, percentile

    rows, columns = file.unit(1).shape
    first, left = max(0, (rows - CENTRAL) // 2), max(0, (columns - CENTRAL) // 2)
    centre = image_rows(file, first, min(rows, first + CENTRAL))[:, left : left + CENTRAL]
    top = image_rows(file, rows - 4, rows)
    top = top - np.nanmedian(top) if np.isfinite(top).any() else top
    noise = median_absolute(np.ascontiguousarray(top))
    light = percentile(np.ascontiguousarray(centre), LIGHT_PERCENTILE)
    return bool(light > 0.0 and light > LEAST_LIGHT * (noise if np.isfinite(noise) else 0.0))


def reference_image(ctx: RecipeContext) -> ReferenceImage:
    """Registered mean of the sets of Fabry-Perot frames.

    Raises
    ------
    DataError
        The master night has no frame with light, or a file is damaged.

    Notes
    -----
    One set is in memory at a time; medians are taken in blocks of rows.
    """
    import numpy as np
    from apero_kernels.resample import IDENTITY, resample_linear

    files = open_frames(ctx, ARGUMENT)
    count = len(files)
    status = np.full(count, NO_LIGHT, np.int16)
    lit = [k for k in range(count) if has_light(files[k])]
    for k in sorted(set(range(count)) - set(lit)):
        ctx.log.warning("%s is left out: no light", files[k].name)
    status[lit] = TOO_FEW
    sets = [
        FrameSet([files[lit[k]] for k in group], [lit[k] for k in group], number + 1)
        for number, group in enumerate(group_by_time([files[k].number("MJDMID") for k in lit], MATCH_TIME_H))
    ]
    first = _master_set(ctx, sets, count)
    result = ReferenceImage(
        np.empty(0), np.empty(0), files, status, np.zeros(count, np.int16), np.full((count, 6), np.nan),
        np.full((count, 2), np.nan),
    )  # fmt: skip
    for one in sets:
        result.group[one.members] = one.number
    frame = _frame(ctx, first, result)
    if frame is None:
        raise DataError(
            f"{ctx.work.recipe}: the {len(first.files)} FP_FP frames of the master night "
            f"({first.files[0].name} and following) are all different; look at them and reject the bad ones."
        )
    result.night = first.files
    peaks = find_reference_peaks(frame.image, frame.variance)
    weight = float(len(first.files))
    good = np.isfinite(frame.image)
    total = np.where(good, weight * frame.image, np.float32(0))
    noise = np.where(good, weight**2 * frame.variance, np.float32(0))
    weights = np.where(good, np.float32(weight), np.float32(0))
    result.affine[_used(first, result)] = IDENTITY
    result.sigma[_used(first, result)] = 0.0
    moved, moved_noise = np.empty_like(frame.image), np.empty_like(frame.variance)
    for one in sets:
        if one is first or len(one.files) < FEWEST_FRAMES:
            continue
        frame = _frame(ctx, one, result)
        if frame is None or not _accept(ctx, one, peaks, frame, result):
            continue
        assert one.registration is not None
        weight = float(len(one.files))
        _registered(frame.image, one.registration.affine, moved)
        resample_linear(frame.variance, one.registration.affine, moved_noise)
        good = np.isfinite(moved) & np.isfinite(moved_noise)
        total[good] += np.float32(weight) * moved[good]
        noise[good] += np.float32(weight**2) * moved_noise[good]
        weights[good] += np.float32(weight)
    empty = weights == 0
    weights[empty] = np.nan
    result.image, result.variance = total / weights, noise / weights**2
    return result


def _master_set(ctx: RecipeContext, sets: Sequence[FrameSet], count: int) -> FrameSet:
    """Largest set of the master night, the first one on ties."""
    night = ctx.work.obs_dir
    # A path below the data root is tree/night/name.
    nights = ["/".join(file.path.split("/")[1:-1]) for file in dict(ctx.work.inputs)[ARGUMENT]]
    own = [one for one in sets if nights[one.members[0]] == night]
    if not own:
        raise DataError(
            f"{ctx.work.recipe}: none of the {count} FP_FP frames is one of the master night {night} with "
            "light; look at its frames, or choose another night with MASTER_OBS_DIR."
        )
    return max(own, key=lambda one: (len(one.files), -one.number))


def _frame(ctx: RecipeContext, one: FrameSet, result: ReferenceImage) -> Calibrated | None:
    """Calibrated, normalised median of a set; None if its frames have nothing in common."""
    from apero_dask.recipes.calibrated import calibrate

    kept, dropped = alike(ctx, one.files)
    for k, file in zip(one.members, one.files, strict=True):
        if file.name in dropped:
            result.status[k] = UNLIKE
    if not kept:
        return None
    one.files = kept
    combined = stacked(kept, ctx.instrument)
    frame = calibrate(
        ctx,
        combined.image,
        combined.variance,
        kept,
        background=False,
        normalise=NORMALISE,
        dropped=tuple(dropped),
    )
    for k in one.members:
        if result.status[k] == TOO_FEW:
            result.status[k] = USED
    return frame


def _used(one: FrameSet, result: ReferenceImage) -> list[int]:
    return [k for k in one.members if result.status[k] == USED]


def _registered(image: np.ndarray, affine: np.ndarray, out: np.ndarray) -> None:
    """Write an image in the frame of the master night; a pixel at a hole stays a hole.

    The interpolation must not displace the light: the mean of sets would lie between them.
    """
    import numpy as np
    from apero_kernels.fine import resample_fine
    from apero_kernels.resample import resample_linear
    from scipy.ndimage import uniform_filter

    good = np.isfinite(image)
    light = np.where(good, image, np.float32(0))
    share = uniform_filter(good.astype(np.float32), FILL_SIDE)
    mean = uniform_filter(light, FILL_SIDE) / np.maximum(share, np.float32(1e-6))
    resample_fine(np.where(good, image, mean), affine, out)
    valid = np.empty_like(out)
    resample_linear(good.astype(np.float32), affine, valid)
    with np.errstate(invalid="ignore"):
        out[~(valid >= LEAST_VALID)] = np.nan


def _accept(
    ctx: RecipeContext, one: FrameSet, peaks: Peaks, frame: Calibrated, result: ReferenceImage
) -> bool:
    """Register a set and note how it went."""
    import numpy as np

    members = _used(one, result)
    found = register(peaks, frame.image, frame.variance)
    one.registration = found
    result.affine[members] = found.affine
    result.sigma[members] = found.sigma
    if not found.found:
        result.status[members] = NOT_FOUND
    elif max(found.sigma) > MOST_SIGMA:
        result.status[members] = SCATTER
    else:
        return True
    result.affine[members] = np.nan
    ctx.log.warning(
        "set %d of FP frames is left out: %d of %d peaks match, scatter %.3f and %.3f px (at most %.1f)",
        one.number, found.matched, found.peaks, *found.sigma, MOST_SIGMA,
    )  # fmt: skip
    return False
