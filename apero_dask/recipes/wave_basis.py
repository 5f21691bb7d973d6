"""Wavelength coefficients of headers in the two bases that programs use.

``WAVEPOLY = 'Chebyshev'``: series in u = 2 x / nx - 1.  ``WAVEPOLY = 'power'``, or no such card in files of
older programs: sum of a_j x^j.  The same keywords hold both; taking one for the other gives wavelengths that
are wrong by tens of nm without any error.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from apero_dask.core.errors import DataError
from apero_dask.recipes.wave_maps import BASIS

if TYPE_CHECKING:
    import numpy as np

POWER = "power"


def coefficients_of(values: Mapping[str, Any], name: str) -> tuple[np.ndarray, str]:
    """Coefficients of a header, float64[order, degree + 1], and their basis.

    Raises
    ------
    DataError
        Cards are missing or no numbers, or the basis is not known; `name` is that of the file.
    """
    import numpy as np

    basis = str(values.get("WAVEPOLY", POWER)).strip()
    if basis not in (BASIS, POWER):
        raise DataError(
            f"{name}: WAVEPOLY = {basis!r}, expected {BASIS} or {POWER}; extract the frame again."
        )
    try:
        orders, degree = int(values["WAVEORDN"]), int(values["WAVEDEGN"])
        series = [float(values[f"WAVE{k:04d}"]) for k in range(orders * (degree + 1))]
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"{name}: wavelength coefficients in the header: {error!r}; extract the frame again."
        ) from None
    return np.array(series).reshape(orders, degree + 1), basis


def wave_image(coefficients: np.ndarray, basis: str, nx: int) -> np.ndarray:
    """Wavelengths at the pixel centres, float64[order, x], nm."""
    import numpy as np
    from numpy.polynomial import chebyshev, polynomial

    x = np.arange(nx, dtype=np.float64)
    if basis == BASIS:
        return np.asarray(chebyshev.chebval(2.0 * x / nx - 1.0, coefficients.T))
    return np.asarray(polynomial.polyval(x, coefficients.T))


def to_power(series: Sequence[float], nx: int) -> list[float]:
    """Coefficients of x^j of one Chebyshev series on [0, nx].

    The change of basis is done with fractions: only the last step rounds, so that the polynomial is the same
    to the last digit of its coefficients.
    """
    u = (Fraction(-1), Fraction(2, nx))
    before, now = [Fraction(1)], list(u)
    total = [Fraction(0)] * len(series)
    for j, value in enumerate(series):
        term = before if j == 0 else now
        for k, part in enumerate(term):
            total[k] += Fraction(float(value)) * part
        if j:
            # T_{j+1} = 2 u T_j - T_{j-1}
            following = [Fraction(0)] * (len(now) + 1)
            for k, part in enumerate(now):
                following[k] += 2 * u[0] * part
                following[k + 1] += 2 * u[1] * part
            for k, part in enumerate(before):
                following[k] -= part
            before, now = now, following
    return [float(value) for value in total]


def power_cards(values: Mapping[str, Any], nx: int, name: str) -> dict[str, Any]:
    """Cards that replace the Chebyshev coefficients of a header by those of powers of x.

    Raises
    ------
    DataError
        See :func:`coefficients_of`.
    """
    series, basis = coefficients_of(values, name)
    if basis == POWER:
        return {}
    terms = series.shape[1]
    cards: dict[str, Any] = {"WAVEPOLY": (POWER, "basis: powers of the column x, from 0")}
    for o, row in enumerate(series):
        for j, value in enumerate(to_power(row, nx)):
            cards[f"WAVE{o * terms + j:04d}"] = (value, f"[nm] order {o}, coefficient of x^{j}")
    return cards
