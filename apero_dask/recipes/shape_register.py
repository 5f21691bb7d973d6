"""Affine transform between two Fabry-Perot images, from the neighbourhoods of all their peaks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np


LEVEL = 90.0  # percentile that makes two images comparable (reference)
LEAST_SIGMA = 15.0  # of a peak; fainter ones carry no weight and may be noise
REACH = 11  # px, largest offset searched (reference); a thermal cycle moves the light by 8 px
COARSE_PEAKS = 4000  # used in the search for whole-pixel offsets
FIRST_PEAKS = 8000  # used until the transform is right to a hundredth of a pixel
MOST_PEAKS = 40000  # used at the end: more do not help, the pixel response sets the limit
TILES = 4  # the frame is cut into so many parts along either axis
TILE_REACH = 3  # px, by which a part may differ from the whole
FAR = 1.5  # px; larger shifts are beyond one step and may belong to another slice
SYSTEMATIC = 0.02  # rms of the pixel response: brighter peaks are not better than it allows
CUT = 4.0  # sigma
ITERATIONS = 10
NEAR, CONVERGED = 0.02, 5e-4  # px, largest change in the frame at which all peaks enter, and nothing more
FEWEST_PEAKS = 50
FEWEST_SHARE = 0.5  # of the peaks inside the image that must be matched (reference)
BY_AXIS = [0, 2, 3, 1, 4, 5]  # places of dx, A, B, dy, C, D in a transform
SMOOTHING = ((0.5, 0.5, 0.5), (0.5, 1.0, 0.5), (0.5, 0.5, 0.5))


@dataclass(frozen=True, slots=True, eq=False)
class Peaks:
    """A reference image and its peaks."""

    image: np.ndarray
    """float32[y, x]."""
    x: np.ndarray
    """int64[peak]."""
    y: np.ndarray
    heights: np.ndarray
    """float64[peak]."""
    level: float
    """90th percentile of the image."""


@dataclass(frozen=True, slots=True, eq=False)
class Registration:
    """Where the light of a reference falls on another image."""

    affine: np.ndarray
    """float64[6] dx, dy, A, B, C, D: light at (x, y) of the reference is at (dx + A x + B y, dy + C x + D y);
    NaN if nothing was found."""
    covariance: np.ndarray
    """float64[6, 6] of it, from the scatter of the peaks."""
    sigma: tuple[float, float]
    """Scatter of the peaks along x and y, px."""
    found: bool
    peaks: int
    """Peaks inside the image."""
    matched: int
    """Peaks that agree with the transform."""
    score: float
    """0..1, how well the peaks were found at the best whole-pixel offset."""
    iterations: int


def find_reference_peaks(image: np.ndarray, variance: np.ndarray) -> Peaks:
    """Peaks of a reference image.

    Parameters
    ----------
    image, variance : float32[y, x]
        Any unit.
    """
    import numpy as np
    from apero_kernels.peaks import find_peaks
    from apero_kernels.robust import percentile

    x, y = find_peaks(image, variance, least=LEAST_SIGMA)
    return Peaks(image, x, y, image[y, x].astype(np.float64), percentile(image, LEVEL))


def register(peaks: Peaks, image: np.ndarray, variance: np.ndarray) -> Registration:
    """Affine transform from a reference to an image.

    Parameters
    ----------
    peaks
        Of the reference.
    image, variance : float32[y, x]
        Image to be registered; unit and level may differ from the reference.  Isolated holes should have
        been filled: a hole costs the peaks beside it.

    Notes
    -----
    Whole-pixel offsets of the frame and of its parts first; then the image is brought to the frame of the
    reference, what is left is measured at every peak, fitted by an affine map and composed with the
    transform, until nothing moves.  An offset near zero at the end leaves no bias of the sub-pixel phase.
    """
    import numpy as np
    from apero_kernels.affine import fit_affine
    from apero_kernels.resample import compose_affine, invert_affine
    from apero_kernels.robust import percentile
    from apero_kernels.shifts import peak_shifts

    level = percentile(image, LEVEL)
    if peaks.x.size < FEWEST_PEAKS or not (peaks.level > 0.0 and level > 0.0):
        return _nothing(peaks.x.size, 0, np.nan, 0)
    affine, score = _coarse(peaks, image, level / peaks.level)
    covariance, sigma, matched, inside = np.full((6, 6), np.nan), np.full(2, np.nan), 0, 0
    passes, most = 0, FIRST_PEAKS
    for passes in range(1, ITERATIONS + 1):
        x, y, _ = _sample(peaks, most)
        shifts, errors, _ = peak_shifts(peaks.image, image, variance, affine, x, y, systematic=SYSTEMATIC)
        inside = int(np.isfinite(shifts[:, 0]).sum())
        shifts[(np.abs(shifts) > FAR).any(axis=1)] = np.nan
        step, own, weights, sigma, _ = fit_affine(x.astype(float), y.astype(float), shifts, errors, cut=CUT)
        matched = int((weights.min(axis=1) > 0.5).sum())
        if not np.isfinite(step).all():
            return _nothing(inside, matched, score, passes)
        # The image shows at p what the reference shows at step(p): light of p is at affine(step^-1(p)).
        affine = compose_affine(invert_affine(step), affine)
        turn = np.kron(affine[2:].reshape(2, 2), np.eye(3))
        covariance[np.ix_(BY_AXIS, BY_AXIS)] = turn @ own[np.ix_(BY_AXIS, BY_AXIS)] @ turn.T
        change = _largest(step, image.shape)
        if most == MOST_PEAKS and change < CONVERGED:
            break
        if change < NEAR:
            most = MOST_PEAKS
    if matched < max(FEWEST_PEAKS, FEWEST_SHARE * inside):
        return _nothing(inside, matched, score, passes)
    return Registration(
        affine, covariance, (float(sigma[0]), float(sigma[1])), True, inside, matched, score, passes
    )


def _sample(peaks: Peaks, most: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Column, row and height of at most so many peaks, spread over the frame."""
    import numpy as np

    step = -(-max(peaks.x.size, 1) // most)
    x, y, heights = (np.ascontiguousarray(v[::step]) for v in (peaks.x, peaks.y, peaks.heights))
    return x, y, heights


def _nothing(peaks: int, matched: int, score: float, passes: int) -> Registration:
    import numpy as np

    return Registration(
        np.full(6, np.nan), np.full((6, 6), np.nan), (np.nan, np.nan), False, peaks, matched, score, passes
    )


def _coarse(peaks: Peaks, image: np.ndarray, level: float) -> tuple[np.ndarray, float]:
    """Affine transform to about a pixel, and the score of the whole frame."""
    import numpy as np
    from apero_kernels.affine import fit_affine
    from apero_kernels.peaks import offset_scores

    x, y, heights = _sample(peaks, COARSE_PEAKS)
    scores = _smooth(offset_scores(image, level, x, y, heights, REACH))
    j, i = np.unravel_index(np.nanargmax(scores), scores.shape)
    whole = int(i) - REACH, int(j) - REACH
    start = np.array([whole[0], whole[1], 1.0, 0.0, 0.0, 1.0])
    score = float(scores[j, i])
    centres = [np.full(x.shape, offset, np.int64) for offset in whole]
    rows, columns = image.shape
    tile = (y * TILES // rows) * TILES + x * TILES // columns
    points = []
    for number in range(TILES * TILES):
        own = tile == number
        if np.count_nonzero(own) < FEWEST_PEAKS:
            continue
        part = [np.ascontiguousarray(v[own]) for v in (x, y, heights, *centres)]
        found = _smooth(
            offset_scores(
                image, level, part[0], part[1], part[2], TILE_REACH, centre_x=part[3], centre_y=part[4]
            )
        )
        if not np.isfinite(found).any():
            continue
        j, i = np.unravel_index(np.nanargmax(found), found.shape)
        along, across = _vertex(found[j], int(i)), _vertex(found[:, i], int(j))
        shift = whole[0] + along - TILE_REACH, whole[1] + across - TILE_REACH
        points.append((part[0].mean(), part[1].mean(), *shift))
    if len(points) < 6:
        return start, score
    table = np.array(points)
    shifts = np.ascontiguousarray(table[:, 2:])
    found_affine, _, _, sigma, _ = fit_affine(
        table[:, 0].copy(), table[:, 1].copy(), shifts, np.ones_like(shifts), cut=CUT
    )
    usable = np.isfinite(found_affine).all() and (sigma < 1.0).all()
    return (found_affine if usable else start), score


def _smooth(scores: np.ndarray) -> np.ndarray:
    """Scores with a part of their neighbours, so that a half-pixel motion does not win in another slice."""
    import numpy as np

    padded = np.pad(scores, 1, mode="edge")
    total: np.ndarray = np.zeros_like(scores)
    for j in range(3):
        for i in range(3):
            total += SMOOTHING[j][i] * padded[j : j + scores.shape[0], i : i + scores.shape[1]]
    total /= sum(map(sum, SMOOTHING))
    return total


def _vertex(values: np.ndarray, k: int) -> float:
    """Place of the maximum by a parabola through three points."""
    if not 0 < k < len(values) - 1:
        return float(k)
    left, middle, right = values[k - 1 : k + 2]
    curvature = left - 2.0 * middle + right
    return k + float(0.5 * (left - right) / curvature) if curvature < 0 else float(k)


def _largest(step: np.ndarray, shape: tuple[int, ...]) -> float:
    """Largest displacement in the frame, px."""
    import numpy as np

    rows, columns = shape
    corners = np.array([(x, y) for x in (0.0, columns - 1.0) for y in (0.0, rows - 1.0)])
    moved = step[:2] + corners @ step[2:].reshape(2, 2).T
    return float(np.abs(moved - corners).max())
