"""What preprocessing, reference dark and bad pixels are judged by.

All planes are in raw orientation ``[row, column]``; rates in ADU/s unless said otherwise.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from apero_dask.instruments import Instrument
from apero_dask.recipes.imagecal import CLUSTER_LEVEL, WIDE_HALF
from apero_dask.simulator.coupling import couple_neighbours
from apero_dask.simulator.expose import RawFrame
from apero_dask.simulator.ramp import slope_variance, step_response
from apero_dask.simulator.spec import FrameSpec

HOT, CLUSTER, DEAD, BLOB, TELEGRAPH = 1, 2, 4, 8, 16
"""Bits of the defect classes of the simulator."""
HIT_BITS = 19
"""Bits of the mask of a preprocessed frame that mean a hit."""


def raw_orientation(pp: np.ndarray) -> np.ndarray:
    """Raw orientation of a preprocessed plane, by numpy."""
    return np.rot90(pp, 1)


def cal_orientation(raw: np.ndarray, i: Instrument) -> np.ndarray:
    """Calibrated frame of a raw plane, element by element as it is defined."""
    y, x = np.meshgrid(np.arange(i.ny), np.arange(i.nx), indexing="ij")
    return raw[x + i.x0, i.raw_columns - 1 - (y + i.y0)]


def row_noise(image: np.ndarray, i: Instrument) -> float:
    """Rms of the row medians without the reference rows."""
    border = i.reference_border
    return float(np.nanmedian(image[border:-border], axis=1).std())


def amplifier_levels(image: np.ndarray, i: Instrument) -> np.ndarray:
    """Median of every amplifier."""
    return np.asarray(np.nanmedian(image.reshape(image.shape[0], i.amplifiers, -1), axis=(0, 2)))


def expected_slope(frame: RawFrame, i: Instrument) -> np.ndarray:
    """Noise-free slope in ADU/s."""
    return frame.expected / i.gain


def hit_charge(frame: RawFrame) -> np.ndarray:
    """Charge of cosmic hits, e-."""
    charge = np.zeros(frame.slope.shape)
    np.add.at(charge, (frame.hits.row, frame.hits.column), frame.hits.charge)
    return charge


def hit_slope(frame: RawFrame, spec: FrameSpec, i: Instrument) -> np.ndarray:
    """Change of the slope by cosmic hits, e-/s."""
    response = step_response(frame.hits.time, spec.nreads, i.frame_time_s)
    change = np.zeros(frame.slope.shape)
    np.add.at(change, (frame.hits.row, frame.hits.column), frame.hits.charge * response.slope)
    return change


def slope_noise(frame: RawFrame, i: Instrument) -> np.ndarray:
    """Noise of the slope in e-/s: read noise and the photons of dark and light, no hits."""
    used = np.maximum(frame.count, 2)
    return np.sqrt(slope_variance(frame.expected, used, i.frame_time_s, i.read_noise_e))


def found_hits(
    frame: RawFrame, spec: FrameSpec, mask: np.ndarray, i: Instrument, ignored: np.ndarray | None = None
) -> tuple[float, float, int]:
    """Completeness for hits that change the slope by more than ten sigma, share of false flags, hits.

    Ten sigma of the slope of that very pixel, photon noise of its light included; ramps cut by saturation
    are left out, they are marked as such.  A flag is false where no hit left a charge.  A pixel beside a hit
    receives 0.6 per cent of it by capacitive coupling and counts as neither.

    Parameters
    ----------
    ignored : bool[row, column], optional
        Pixels whose flags are not counted as false.
    """
    flagged = (mask & HIT_BITS) > 0
    charge = hit_charge(frame)
    strong = (hit_slope(frame, spec, i) > 10 * slope_noise(frame, i)) & (frame.count == spec.nreads)
    clean = ~ndimage.binary_dilation(charge > 0, np.ones((3, 3)))
    counted = flagged if ignored is None else flagged & ~ignored
    complete = float(flagged[strong].mean()) if strong.any() else float("nan")
    return complete, float(counted[clean].mean()), int(strong.sum())


def wanted_pixels(classes: np.ndarray, response: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pixels that must be found (hot, or response below one half) and all defects."""
    wanted = (response < 0.5) | (classes & HOT > 0)
    return wanted, wanted | (classes & (DEAD | BLOB | TELEGRAPH) > 0)


def stable_dark(dark: np.ndarray, coupled: float, i: Instrument) -> np.ndarray:
    """What a reference dark should hold of a painted dark: what stands above the neighbours, ADU/s.

    Parameters
    ----------
    dark : floating[row, column]
        e-/s.
    coupled
        Part of the charge that is read in each neighbour, as it is in every frame.
    """
    truth = couple_neighbours(dark, coupled) / i.gain
    # Along the dispersion; the rest goes with the light of a dark.
    near = ndimage.median_filter(truth, footprint=np.array([[1, 1, 1, 1, 0, 1, 1, 1, 1]]).T)
    wide = ndimage.median_filter(truth, (2 * WIDE_HALF + 1, 1))
    return np.asarray(truth - np.where(near - wide > CLUSTER_LEVEL, wide, near))


def clipped_rms(z: np.ndarray) -> float:
    """Rms of what is finite, values beyond ten counted as ten."""
    return float(np.sqrt(np.nanmean(np.square(np.clip(z, -10, 10)))))


def spread(values: np.ndarray) -> float:
    """Half the distance of the 15.87th and 84.13th percentiles of what is finite."""
    low, high = np.nanpercentile(values, [15.8655, 84.1345])
    return float(0.5 * (high - low))
