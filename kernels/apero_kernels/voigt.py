"""Shape of the peaks of an etalon seen by a spectrograph.

It is a Voigt function: the etalon makes Lorentzians of half width `lorentz`, the spectrograph spreads them
by a Gaussian.  The light on the etalon changes by a share `slope` per px before it is spread; a Lorentzian
times 1 + slope u, spread by a Gaussian, is Re[(1 - i slope lorentz) w(z)], z = (u + i lorentz) / (sqrt(2)
width), w the Faddeeva function.  Left out, the slope moves the centre by about slope lorentz width.

An asymmetric line spread adds ``skew g(v) (2 v^3 - 3 v) / sqrt(3)``, v = u / width, the third term of a
Gauss-Hermite series (van der Marel & Franx 1993, ApJ 407, 525); left out, centres depend on weights and
window.
"""

from __future__ import annotations

import numpy as np

from apero_kernels._jit import kernel

_TERMS = 16  # of the rational series for w, an even number: 1.3e-7


def _series_of(terms: int) -> tuple[float, np.ndarray]:
    # Weideman 1994 (SIAM J. Numer. Anal. 31, 1497), equations 37 and 38.
    scale = float(np.sqrt(terms / np.sqrt(2.0)))
    angle = np.arange(-2 * terms + 1, 2 * terms) * np.pi / (2 * terms)
    t = scale * np.tan(0.5 * angle)
    values = np.append(0.0, np.exp(-(t**2)) * (scale**2 + t**2))
    found = np.real(np.fft.fft(np.fft.fftshift(values))) / (4 * terms)
    return scale, np.ascontiguousarray(found[1 : terms + 1][::-1])


_SCALE, _SERIES = _series_of(_TERMS)


@kernel
def faddeeva(z):
    # w(z) for Im z >= 0.
    below = _SCALE - 1j * z
    # A division of complex numbers takes as long as ten multiplications.
    inverse = below.conjugate() * (1.0 / (below.real * below.real + below.imag * below.imag))
    ratio = (_SCALE + 1j * z) * inverse
    square = ratio * ratio
    # Two sums side by side: one alone waits for every multiplication.
    even = 0.0 + 0.0j
    odd = 0.0 + 0.0j
    for k in range(0, _TERMS, 2):
        even = even * square + _SERIES[k]
        odd = odd * square + _SERIES[k + 1]
    total = even * ratio + odd
    return 2.0 * total * inverse * inverse + 0.5641895835477563 * inverse


@kernel
def profile(u, width, lorentz, slope, skew, out):
    # Profile at distance u, and its derivatives by u and by width.
    v = u / width
    odd = 0.0
    change_odd = 0.0
    if lorentz <= 0.0 or skew != 0.0:
        g = np.exp(-0.5 * v * v)
        odd = skew * 0.5773502691896258 * g * v * (2.0 * v * v - 3.0)
        change_odd = skew * 0.5773502691896258 * g * (-2.0 * v**4 + 9.0 * v * v - 3.0)
    if lorentz <= 0.0:
        out[0] = g + odd
        out[1] = (change_odd - g * v) / width
        out[2] = (g * v - change_odd) * v / width
        return
    unit = 1.0 / (1.4142135623730951 * width)
    z = (u + 1j * lorentz) * unit
    w = faddeeva(z)
    change = -2.0 * z * w + 1.1283791670955126j
    share = 1.0 - 1j * slope * lorentz
    out[0] = (share * w).real + odd
    out[1] = (share * change).real * unit + change_odd / width
    out[2] = -((share * change * z).real + change_odd * v) / width
