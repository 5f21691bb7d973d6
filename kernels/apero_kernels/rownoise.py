"""Correlated read noise: what all amplifiers share at one instant, and what is left row by row.

Two steps, both with a Wiener filter whose gain is measured on the frame itself: the cross-spectrum of
independent samples of the same noise (two amplifiers, two halves of the columns of an amplifier) holds
the common power without the white noise, so no noise model is needed and nothing is subtracted where
there is nothing in common.

1. `common_pattern`: the dark amplifiers are unfolded into read order and averaged: a time series with
   one sample per pixel time, valid for all amplifiers.
2. `row_offsets`: the rest, constant along a row: one series shared by all amplifiers (dark columns,
   reference columns and every other column without light), then one series per amplifier.

The median over dark amplifiers subtracted as it is, or the minimum over amplifiers, adds noise to
every pixel of the frame; the filter does not.  Related: IRS2 (Rauscher et al. 2017, PASP 129, 105003).
"""

from __future__ import annotations

import numpy as np

from apero_kernels._jit import kernel
from apero_kernels.contracts import check_float, check_integer, check_output, check_positive
from apero_kernels.detector import check_amplifiers
from apero_kernels.medians import column_medians
from apero_kernels.polynomial import low_pass
from apero_kernels.robust import median, median_in_place, pack_finite

CLIP = 5.0  # sigma beyond which a pixel is no noise (hot pixel, cosmic hit, light)
_BAND = 2.0**0.25  # ratio of the edges of a frequency band of the gain
_LINES = 8  # fewest frequencies in a band: cross-power of 5 amplifiers is then known to 0.1 of the auto-power
_COVERED = 0.9  # share of rows that a series must have samples for
_FEWEST = 16  # columns that an amplifier must have for a correction of its own


@kernel
def _unfold(image, width, dark, border, light, limits, out):
    rows = image.shape[0]
    scratch = np.empty(width, image.dtype)
    for a in range(dark):
        for y in range(rows):
            stripe = image[y, a * width : (a + 1) * width]
            level = median_in_place(scratch, pack_finite(stripe, scratch))
            if np.isnan(level):
                level = 0.0
            # Reference rows see no light: without its level there would be a step in the series.
            base = light if border <= y < rows - border else 0.0
            for j in range(width):
                value = np.float64(stripe[width - 1 - j] if a & 1 else stripe[j])
                # A pixel that says nothing about the noise takes the level of its row.
                if not abs(value - level) <= limits[a] or (a == 0 and j < border):
                    value = level
                out[a, y * width + j] = value - base


@kernel
def _row_sums(image, usable, block_rows, amplifiers, level, limit, total, count):
    rows, columns = image.shape
    width = columns // amplifiers
    for y in range(rows):
        block = y // block_rows
        for a in range(amplifiers):
            for x in range(a * width, (a + 1) * width):
                if usable[block, x]:
                    value = np.float64(image[y, x]) - level
                    if abs(value) <= limit:
                        total[(x >> 1) & 1, a, y] += value
                        count[(x >> 1) & 1, a, y] += 1


@kernel
def _subtract_rows(image, common, own, out):
    rows, columns = image.shape
    amplifiers = own.shape[0]
    width = columns // amplifiers
    for y in range(rows):
        for a in range(amplifiers):
            offset = common[y] + own[a, y]
            for x in range(a * width, (a + 1) * width):
                out[y, x] = image[y, x] - offset


def _bands(lines: int) -> np.ndarray:
    edges = [1]
    while edges[-1] < lines:
        edges.append(max(edges[-1] + _LINES, int(edges[-1] * _BAND)))
    return np.array(edges[:-1])


def _gain(shared: np.ndarray, total: np.ndarray, harmonics: int = 0) -> np.ndarray:
    """Gain per frequency from shared and total power, in bands; multiples of `harmonics` are pooled apart."""
    gain = np.zeros(total.size)
    apart = np.zeros(total.size, bool)
    if harmonics > 0:
        apart[harmonics::harmonics] = True
    edges = _bands(total.size)
    signal = np.add.reduceat(np.where(apart, 0.0, shared), edges)
    power = np.add.reduceat(np.where(apart, 0.0, total), edges)
    band = np.divide(signal, power, out=np.zeros_like(signal), where=power > 0)
    gain[1:] = np.repeat(band, np.diff(np.append(edges, total.size)))
    if apart.any():
        power_apart = total[apart].sum()
        gain[apart] = shared[apart].sum() / power_apart if power_apart > 0 else 0.0
    return np.clip(gain, 0.0, 1.0)


def pixel_noise(image: np.ndarray) -> float:
    """Return the white noise of a pixel from differences of horizontal neighbours (dark columns)."""
    step = np.abs(np.diff(image[::4], axis=1))
    return 1.4826 * median(step) / np.sqrt(2.0)


def _dark_series(image: np.ndarray, amplifiers: int, dark: int, border: int) -> tuple[np.ndarray, int]:
    width = check_amplifiers(image.shape[1], amplifiers)
    if not 2 <= dark <= amplifiers:
        raise ValueError(f"dark: {dark} amplifiers without light, expected 2 to {amplifiers}")
    rows = image.shape[0]
    stripes = [image[:, a * width : (a + 1) * width] for a in range(dark)]
    limits = np.nan_to_num(np.array([CLIP * pixel_noise(stripe) for stripe in stripes]))
    light = median(image[border : rows - border : 4, border : dark * width]) - side_level(image, border)
    series = np.empty((dark, rows * width), np.float32)
    _unfold(image, width, int(dark), int(border), float(np.nan_to_num(light)), limits, series)
    return series, width


def common_pattern(
    image: np.ndarray, amplifiers: int, dark: int, border: int
) -> tuple[np.ndarray, np.ndarray]:
    """Measure the noise that all amplifiers share, pixel time by pixel time.

    Parameters
    ----------
    image : floating[row, column]
        Raw slope with reference levels subtracted.
    amplifiers, dark : int
        Number of amplifiers; how many of them, the first ones, see no order (at least 2).
    border : int
        Width of the reference border.

    Returns
    -------
    pattern : float32[row, pixel]
        In read order, mean zero: subtract it with `detector.subtract_folded`.
    gain : float64[frequency]
        Gain of the filter, from one cycle per frame (index 1) to one per two pixels.

    Raises
    ------
    TypeError, ValueError
        Wrong array; amplifiers that do not divide the columns; fewer than two dark amplifiers; a border
        that does not fit.

    Notes
    -----
    With X_a the spectra of the dark amplifiers, the shared power is (|sum X_a|^2 - sum |X_a|^2) /
    (A (A - 1)), the power of their mean |sum X_a|^2 / A^2, the gain their ratio, in bands of a quarter
    octave.  Multiples of the row frequency, where a pattern fixed in the amplifier lives, form a band of
    their own.  The frequency zero is left alone: the zero point is that of the reference pixels.
    Diffuse light on the dark amplifiers, measured against the reference columns at the sides, is taken
    out first.
    """
    check_float("image", image, 2)
    series, width = _dark_series(image, amplifiers, dark, border)
    rows = image.shape[0]
    total = np.zeros(rows * width // 2 + 1, np.complex64)
    auto = np.zeros(total.size)
    for a in range(dark):
        spectrum = np.fft.rfft(series[a] - series[a].mean())
        total += spectrum
        auto += np.square(spectrum.real, dtype=np.float64) + np.square(spectrum.imag, dtype=np.float64)
    power = np.square(total.real, dtype=np.float64) + np.square(total.imag, dtype=np.float64)
    gain = _gain((power - auto) / (dark * (dark - 1)), power / dark**2, harmonics=rows)
    pattern = np.fft.irfft(total * (gain / dark).astype(np.float32), rows * width)
    return pattern.astype(np.float32, copy=False).reshape(rows, width), gain


def common_median(image: np.ndarray, amplifiers: int, dark: int, border: int) -> np.ndarray:
    """Return the median over the unfolded dark amplifiers, float32[row, pixel]: the reference method.

    It carries 0.53 of the white noise of a pixel (five amplifiers) into every amplifier.

    Raises
    ------
    TypeError, ValueError
        As `common_pattern`.
    """
    check_float("image", image, 2)
    series, width = _dark_series(image, amplifiers, dark, border)
    return np.median(series, axis=0).reshape(image.shape[0], width)


def side_level(image: np.ndarray, border: int) -> float:
    """Return the level of the reference columns at both sides: the zero point over all rows.

    The first and last rows fix the zero of each amplifier with the noise of a few rows, which all
    amplifiers share; the side columns see the same zero over the whole frame.

    Raises
    ------
    TypeError, ValueError
        Wrong array, border that does not fit.
    """
    check_float("image", image, 2)
    if border < 1 or 2 * border >= min(image.shape):
        raise ValueError(f"border: {border} pixels do not fit into an image of shape {image.shape}")
    inner = image[border:-border]
    return 0.5 * (median(inner[:, :border]) + median(inner[:, -border:]))


def unlit_columns(
    image: np.ndarray,
    amplifiers: int,
    dark: int,
    border: int,
    *,
    sigma: float,
    block_rows: int = 128,
    limit: float = 1.0,
    step: int = 8,
) -> tuple[np.ndarray, float]:
    """Find, block by block of rows, the columns that see no more light than the dark amplifiers.

    Parameters
    ----------
    image : floating[row, column]
        Raw slope, common pattern subtracted.
    amplifiers, dark, border : int
        Number of amplifiers, of dark ones (the first), width of the reference border.
    sigma : float
        White noise of a pixel.
    block_rows : int
        Rows of a block.
    limit : float
        Largest distance of the median of a column from the dark level, in units of `sigma`.
    step : int
        Every `step`-th row is used for these medians.

    Returns
    -------
    usable : uint8[block, column]
        1 for unlit columns; dark amplifiers and reference columns are always 1.
    level : float
        Median level of the dark amplifiers.

    Raises
    ------
    TypeError, ValueError
        Wrong array or geometry, sigma not positive.
    """
    check_float("image", image, 2)
    width = check_amplifiers(image.shape[1], amplifiers)
    check_positive("sigma", sigma)
    medians = column_medians(image, block_rows=block_rows, step=step)
    level = float(np.nanmedian(medians[:, border : dark * width]))
    usable = (np.abs(medians - level) <= limit * sigma).astype(np.uint8)
    usable[:, : dark * width] = 1
    usable[:, -border:] = 1
    return usable, level


def row_offsets(
    image: np.ndarray,
    usable: np.ndarray,
    amplifiers: int,
    *,
    sigma: float,
    level: float,
    block_rows: int = 128,
    highpass: int = 0,
    dark: int = 0,
    per_amplifier: bool = True,
) -> tuple[np.ndarray, np.ndarray]:
    """Measure the noise that is constant along a row: shared by all amplifiers, and of each of them.

    Parameters
    ----------
    image : floating[row, column]
        Raw slope, common pattern subtracted.
    usable : uint8[block, column]
        Columns without light, from `unlit_columns`.
    amplifiers : int
        Number of amplifiers.
    sigma, level : float
        White noise of a pixel; level of unlit pixels.
    block_rows : int
        Rows of a block of `usable`.
    highpass : int
        Window (rows) of the low-pass taken out of the series of amplifiers that are not `dark`, 0 = none:
        in a frame with light the slow part may be scattered light.
    dark : int
        Number of amplifiers, the first ones, that never see light.
    per_amplifier : bool
        Also measure each amplifier of which enough columns are unlit.

    Returns
    -------
    common : float64[row]
        Shared noise, median zero.
    own : float64[amplifier, row]
        Noise of each amplifier beyond the shared one; 0 where it could not be measured.

    Raises
    ------
    TypeError, ValueError
        Wrong dtype or shape, sigma not positive.

    Notes
    -----
    The mean over the unlit columns of an amplifier (pixels beyond 5 sigma left out) is a sample of the
    noise of that row.  Shared: weighted mean over amplifiers, weights from white noise and the scatter
    between amplifiers; gain from the cross-spectrum of odd and even amplifiers.  Own: what remains, gain
    from the cross-spectrum of two halves of the columns.
    """
    check_float("image", image, 2)
    check_amplifiers(image.shape[1], amplifiers)
    check_positive("sigma", sigma)
    rows = image.shape[0]
    check_integer("usable", usable, 2, np.uint8, (-(-rows // block_rows), image.shape[1]))
    total = np.zeros((2, amplifiers, rows))
    count = np.zeros((2, amplifiers, rows))
    _row_sums(
        image, usable, int(block_rows), int(amplifiers), float(level), CLIP * float(sigma), total, count
    )
    valid = np.all(count >= 2, axis=0)
    common, own = np.zeros(rows), np.zeros((amplifiers, rows))
    members = np.flatnonzero(valid.mean(axis=1) >= _COVERED) if rows else np.empty(0, int)
    if members.size < 2:
        return common, own
    halves = np.zeros((2, members.size, rows))
    white = np.empty(members.size)
    for i, a in enumerate(members):
        both = np.full(rows, np.nan)
        good = valid[a]
        both[good] = total[:, a, good].sum(axis=0) / count[:, a, good].sum(axis=0)
        slow = low_pass(both, highpass) if highpass > 0 and a >= dark else np.full(rows, median(both))
        for h in range(2):
            halves[h, i, good] = total[h, a, good] / count[h, a, good] - slow[good]
        white[i] = sigma**2 / np.median(count[:, a, good].sum(axis=0))
    series = halves.mean(axis=0)
    weights = 1.0 / white
    for _ in range(2):
        rest = halves - np.average(series, axis=0, weights=weights)
        scatter = np.median(np.mean(rest[0] * rest[1], axis=1))
        weights = 1.0 / (white + max(scatter, 0.0))
    mean = np.average(series, axis=0, weights=weights)
    pair = [np.fft.rfft(np.average(series[k::2], axis=0, weights=weights[k::2])) for k in range(2)]
    spectrum = np.fft.rfft(mean)
    gain = _gain((pair[0] * pair[1].conj()).real, np.abs(spectrum) ** 2)
    common = np.fft.irfft(spectrum * gain, rows)
    if per_amplifier:
        for i, a in enumerate(members):
            if np.median(count[:, a, valid[a]].sum(axis=0)) < _FEWEST:
                continue
            first, second = (np.fft.rfft(halves[h, i] - common) for h in range(2))
            spectrum = 0.5 * (first + second)
            gain = _gain((first * second.conj()).real, np.abs(spectrum) ** 2)
            own[a] = np.fft.irfft(spectrum * gain, rows)
    return common, own


def subtract_rows(image: np.ndarray, common: np.ndarray, own: np.ndarray, out: np.ndarray) -> None:
    """Subtract ``common[row] + own[amplifier, row]`` from every pixel.

    Parameters
    ----------
    image, out : floating[row, column]
        Raw slope; corrected slope (written, may be `image` itself).
    common : float64[row]
        Shared noise.
    own : float64[amplifier, row]
        Noise of each amplifier.

    Raises
    ------
    TypeError, ValueError
        Wrong dtype or shape.
    """
    check_float("image", image, 2)
    check_float("common", common, 1, image.shape[:1])
    check_float("own", own, 2)
    check_amplifiers(image.shape[1], own.shape[0])
    check_float("own", own, 2, (own.shape[0], image.shape[0]))
    check_output("out", out, image.shape)
    _subtract_rows(image, common, own, out)
