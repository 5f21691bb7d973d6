"""Moves a first-guess wavelength map onto the spectrum: lamp lines are recognised by their pattern."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from apero_dask.core.errors import DataError
from apero_dask.recipes.wave_lines import measure_lamp, predict_catalogue
from apero_dask.recipes.wave_maps import WaveMap

if TYPE_CHECKING:
    import numpy as np

    from apero_dask.recipes.wave_catalogue import Catalogue
    from apero_dask.recipes.wave_lines import Lines

SEARCH = 20.0  # px: largest displacement that is looked for
BIN = 0.25  # px
BLUR = 1.0  # px, standard deviation: displacements differ by so much over the frame
SIGNIFICANCE = 12.0  # of lamp peaks that take part
LEAST_CONTRAST = 5.0  # sigma of the best displacement above the others
NEAR = 2.5  # px: a line farther from the bulk displacement is another one
DEGREE = 3  # of the surface of displacements, total degree
FEWEST = 30  # lines that determine it


def bulk_offset(flux: np.ndarray, var: np.ndarray, lines: Lines) -> float:
    """Displacement in px of the whole spectrum against predicted columns.

    Every peak of the lamp votes for its distances from all predictions of its order within 20 px; true pairs
    agree, false ones do not.

    Raises
    ------
    DataError
        No displacement stands out.
    """
    import numpy as np
    from apero_kernels.comb import find_peaks

    order, start, _ = find_peaks(flux, var, least=SIGNIFICANCE, valley=4, share=0.0)
    distance = []
    for o in np.unique(order):
        seen, predicted = start[order == o], lines.x_ref[lines.order == o]
        pairs = (seen[:, None] - predicted[None, :]).ravel()
        distance.append(pairs[np.abs(pairs) < SEARCH + 4 * BLUR])
    pairs = np.concatenate(distance) if distance else np.zeros(0)
    grid = np.arange(-SEARCH, SEARCH + 0.5 * BIN, BIN)
    votes = np.exp(-0.5 * ((grid[:, None] - pairs[None, :]) / BLUR) ** 2).sum(axis=1)
    best = int(np.argmax(votes))
    far = np.abs(grid - grid[best]) > 4 * BLUR
    level, noise = float(votes[far].mean()), float(votes[far].std())
    if pairs.size < FEWEST or not votes[best] - level > LEAST_CONTRAST * max(noise, 1.0):
        raise DataError(
            f"the lamp lines are not recognised: {np.unique(order).size} orders with {order.size} peaks, "
            f"best displacement {grid[best]:.1f} px with {votes[best]:.0f} votes against {level:.0f} "
            f"+- {noise:.0f}. "
            "Look at the hollow-cathode frames and the starting wavelength solution."
        )
    near = pairs[np.abs(pairs - grid[best]) < 2 * BLUR]
    return float(np.median(near))


def displaced_map(
    flux: np.ndarray, var: np.ndarray, guess: WaveMap, catalogue: Catalogue
) -> tuple[WaveMap, float]:
    """First guess moved so that the lamp lines fall where they are seen, and the bulk displacement in px.

    Parameters
    ----------
    flux, var : float64[order, x]
        Lamp spectrum of the fibre.

    Notes
    -----
    The displacement is a polynomial of total degree 3 in column and order, fitted robustly (iteratively
    reweighted as in Chebyshev fits) to the isolated lines.
    """
    import numpy as np

    every = predict_catalogue(catalogue, guess)
    bulk = bulk_offset(flux, var, every)
    lines = predict_catalogue(catalogue, guess, blends=False)
    moved, reach = guess, NEAR
    shift: np.ndarray = np.full(lines.order.size, bulk)
    for _ in range(3):
        predicted = replace(lines, x_ref=lines.x_ref + shift)
        found = measure_lamp(flux, var, predicted, reach)
        good = found.good
        if np.count_nonzero(good) < FEWEST:
            raise DataError(
                f"{np.count_nonzero(good)} lamp lines could be measured, expected at least {FEWEST}; look at "
                "the hollow-cathode frames."
            )
        surface = _surface(
            guess, found.order[good], found.x[good], (found.x - lines.x_ref)[good], found.sigma[good]
        )
        shift = _evaluate(guess, surface, lines.order, lines.x_ref + shift)
        reach = 1.0
        moved = _shifted(guess, surface)
    return moved, bulk


def _terms(wave: WaveMap, order: np.ndarray, x: np.ndarray) -> np.ndarray:
    import numpy as np

    u = 2.0 * x / wave.nx - 1.0
    # Wavelength, not the index: the same place on the detector for instruments with gaps between orders.
    middle = wave.wavelength(np.arange(wave.norders), np.full(wave.norders, wave.nx / 2.0))
    v = np.interp(1.0 / middle[order], np.sort(1.0 / middle)[[0, -1]], [-1.0, 1.0])
    tu = np.polynomial.chebyshev.chebvander(u, DEGREE)
    tv = np.polynomial.chebyshev.chebvander(v, DEGREE)
    pairs = [(i, j) for i in range(DEGREE + 1) for j in range(DEGREE + 1 - i)]
    return np.stack([tu[:, i] * tv[:, j] for i, j in pairs], axis=1)


def _surface(
    wave: WaveMap, order: np.ndarray, x: np.ndarray, shift: np.ndarray, sigma: np.ndarray
) -> np.ndarray:
    """Coefficients of a robust fit; errors of the catalogue (0.02 px) are added to those of the centres."""
    import numpy as np

    terms = _terms(wave, order, x)
    error = np.hypot(sigma, 0.02)
    weight = np.ones(x.size)
    found = np.zeros(terms.shape[1])
    found[0] = np.median(shift)
    cut = np.exp(-0.5 * 4.0**2)
    for _ in range(20):
        left = (shift - terms @ found) / error
        scale = 1.4826 * float(np.median(np.abs(left)))
        near = (1 - cut) * np.exp(-0.5 * (left / max(scale, 1e-3)) ** 2)
        weight = near / (cut + near)
        root = np.sqrt(weight) / error
        # A weak prior keeps corners without lines quiet: 3 px for every term.
        matrix = np.vstack([terms * root[:, None], np.eye(terms.shape[1]) / 3.0])
        found = np.linalg.lstsq(matrix, np.concatenate([shift * root, np.zeros(terms.shape[1])]), rcond=None)[
            0
        ]
    return np.asarray(found)


def _evaluate(wave: WaveMap, surface: np.ndarray, order: np.ndarray, x: np.ndarray) -> np.ndarray:
    import numpy as np

    return np.asarray(_terms(wave, order, x) @ surface)


def _shifted(wave: WaveMap, surface: np.ndarray) -> WaveMap:
    """Map whose wavelength at x is that of `wave` at x minus the displacement."""
    import numpy as np

    count = 4 * (wave.degree + 1)
    u = np.cos(np.pi * (np.arange(count) + 0.5) / count)
    x = np.tile(0.5 * wave.nx * (1.0 + u), wave.norders)
    order = np.repeat(np.arange(wave.norders), count)
    lam = wave.wavelength(order, x - _evaluate(wave, surface, order, x)).reshape(wave.norders, count)
    return WaveMap(np.polynomial.chebyshev.chebfit(u, lam.T, wave.degree).T, wave.nx)
