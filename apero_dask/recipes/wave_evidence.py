"""Linear models whose stiffness the data decide: the mean over many expectations, weighted by evidence."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np


def mean_over_models(
    design: np.ndarray,
    values: np.ndarray,
    variance: np.ndarray,
    sizes: np.ndarray,
    chance: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Coefficients of a linear model under several expectations of their sizes.

    Parameters
    ----------
    design : float64[datum, term]
    values, variance : float64[datum]
        Data and their variances.
    sizes : float64[model, term]
        Standard deviations of the coefficients before the data are seen, normal around 0; 0 = not in the
        model.
    chance : float64[model], optional
        Logarithms of the probabilities of the models before the data are seen, up to a constant; all alike
        without it.

    Returns
    -------
    mean : float64[term]
    covariance : float64[term, term]
        Of the mixture of all models.

    Notes
    -----
    Every model is linear and normal, so that its evidence, the probability of the data, has a closed form
    (MacKay 1992, equations 2.5 to 4.4); models are averaged with it (Hoeting et al. 1999, equations 1 to 4).
    A model with more or larger terms than the data ask for has less evidence: it spreads its probability over
    data that were not seen.
    """
    import numpy as np

    root = 1.0 / np.sqrt(variance)
    scaled, target = design * root[:, None], values * root
    matrix = np.eye(design.shape[1]) + sizes[:, :, None] * (scaled.T @ scaled) * sizes[:, None, :]
    right = sizes * (scaled.T @ target)
    inverse = np.linalg.inv(matrix)
    found = np.einsum("mij,mj->mi", inverse, right)
    evidence = 0.5 * np.einsum("mi,mi->m", right, found) - 0.5 * np.linalg.slogdet(matrix)[1]
    if chance is not None:
        evidence = evidence + chance
    weight = np.exp(evidence - evidence.max())
    weight /= weight.sum()
    found = found * sizes
    mean = weight @ found
    within = np.einsum("m,mij->ij", weight, sizes[:, :, None] * inverse * sizes[:, None, :])
    apart = found - mean
    return mean, within + apart.T @ (apart * weight[:, None])
