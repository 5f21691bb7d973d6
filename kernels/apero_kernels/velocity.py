"""Mean line profile of a spectrum: continuum-normalised flux at every line of a mask, scanned in velocity.

Each order is brought once to a grid of constant velocity step, where a shift of all lines by one step is a
shift of the grid: a scan of 1000 velocities then costs one interpolation per line and no search.
"""

from __future__ import annotations

import math

import numpy as np

from apero_kernels._jit import kernel
from apero_kernels.contracts import check_float, check_positive

C_KMS = 299792.458
POLE_1 = -0.4305753470999738  # poles of the quintic B-spline (Unser, Aldroubi & Eden 1993)
POLE_2 = -0.04309628820326465
REACH = 32  # px; POLE_1**32 = 2e-12
MARGIN = 1  # valid pixels wanted beyond the two that enclose a grid point
FINEST = 0.5  # km/s, coarsest grid: a fifth of a pixel, so that cubic interpolation between points is exact


@kernel
def _one_pole(values, pole):
    # Causal and anticausal pass with mirrored ends (Unser 1999, IEEE Sig. Proc. Mag. 16, 22, box 2).
    n = values.shape[0]
    start = values[0]
    power = pole
    for i in range(1, min(REACH, n)):
        start += power * values[i]
        power *= pole
    values[0] = start
    for i in range(1, n):
        values[i] += pole * values[i - 1]
    values[n - 1] = pole / (pole * pole - 1.0) * (values[n - 1] + pole * values[n - 2])
    for i in range(n - 2, -1, -1):
        values[i] = pole * (values[i + 1] - values[i])


@kernel
def _quintic(values):
    """Turn samples into coefficients of the quintic B-spline through them, in place."""
    gain = (1.0 - POLE_1) * (1.0 - 1.0 / POLE_1) * (1.0 - POLE_2) * (1.0 - 1.0 / POLE_2)
    for i in range(values.shape[0]):
        values[i] *= gain
    _one_pole(values, POLE_1)
    _one_pole(values, POLE_2)


@kernel
def _quintic_weights(t, w):
    # B-spline of degree 5 at t + 2, t + 1, t, 1 - t, 2 - t, 3 - t.
    s = 1.0 - t
    w[0] = s**5 / 120.0
    w[5] = t**5 / 120.0
    for k in range(2):
        p = t if k == 0 else s
        q = 1.0 + p
        middle = 0.55 + p * p * (-0.5 + p * p * (0.25 - p / 12.0))
        outer = 17.0 / 40.0 + q * (
            5.0 / 8.0 + q * (-7.0 / 4.0 + q * (5.0 / 4.0 + q * (-3.0 / 8.0 + q / 24.0)))
        )
        if k == 0:
            w[2], w[1] = middle, outer
        else:
            w[3], w[4] = middle, outer


@kernel
def _fill(row, good):
    # Straight lines across holes, so that the spline through all samples does not ring.
    n = row.shape[0]
    last = -1
    for i in range(n):
        if not good[i]:
            continue
        if last < 0:
            for k in range(i):
                row[k] = row[i]
        else:
            for k in range(last + 1, i):
                row[k] = row[last] + (row[i] - row[last]) * (k - last) / (i - last)
        last = i
    for k in range(last + 1, n):
        row[k] = row[last]
    return last >= 0


@kernel
def _to_grid(row, rate, noise, u, good, step, points, flux, level, error, valid):
    # Order on the grid u[0] + i step; `flux` is 0 where it is not valid.
    n = row.shape[0]
    w = np.empty(6)
    k = 0
    for i in range(points):
        at = u[0] + i * step
        while k < n - 2 and u[k + 1] <= at:
            k += 1
        d = u[k + 1] - u[k]
        # The dispersion changes along the order: second difference of u.
        second = (u[k + 2] - u[k + 1] - d) if k < n - 2 else (d - u[k] + u[k - 1])
        t = (at - u[k]) / d
        t += 0.5 * second / d * t * (1.0 - t)
        level[i] = rate[k] + t * (rate[k + 1] - rate[k])
        error[i] = noise[k] + t * (noise[k + 1] - noise[k])
        ok = True
        for m in range(max(k - MARGIN, 0), min(k + 2 + MARGIN, n)):
            ok = ok and good[m]
        valid[i] = 1.0 if ok else 0.0
        flux[i] = 0.0
        if not ok:
            continue
        _quintic_weights(t, w)
        value = 0.0
        for m in range(6):
            j = k - 2 + m
            if j < 0:
                j = -j
            if j > n - 1:
                j = 2 * (n - 1) - j
            value += w[m] * row[j]
        flux[i] = value


@kernel
def _scan(
    ratio, rate, noise, wave, lines, weights, first, end, start, step, every, velocities,
    core_first, core_end, whole, room_low, room_high, total, expected, variance, light, weight, used,
):  # fmt: skip
    # `step` of the grid; velocities are `every` grid points apart and the first one is `start`.
    orders, n = ratio.shape
    centre = (core_first + core_end) // 2 if core_end > core_first else velocities // 2
    u = np.empty(n)
    row = np.empty(n)
    spread = np.empty(n)
    dense = np.empty(n)
    good = np.empty(n, np.bool_)
    known = np.empty(n, np.bool_)
    size = 0
    for o in range(orders):
        span = C_KMS * math.log(wave[o, n - 1] / wave[o, 0]) if wave[o, n - 1] > wave[o, 0] > 0.0 else 0.0
        size = max(size, int(span / step) + 1)
    flux = np.empty(size)
    level = np.empty(size)
    error = np.empty(size)
    valid = np.empty(size)
    clear = np.empty(size)
    for o in range(orders):
        used[o] = 0
        light[o] = 0.0
        weight[o] = 0.0
        for j in range(velocities):
            total[o, j] = 0.0
            expected[o, j] = 0.0
            variance[o, j] = 0.0
        rising = wave[o, 0] > 0.0
        low = n
        high = -1
        for i in range(n):
            rising = rising and (i == 0 or wave[o, i] > wave[o, i - 1])
            inside = np.isfinite(rate[o, i])
            good[i] = inside and np.isfinite(ratio[o, i]) and np.isfinite(noise[o, i])
            if inside:
                low = min(low, i)
                high = i
        if not rising or high - low < 6:
            continue
        m = high - low + 1
        for i in range(m):
            u[i] = C_KMS * math.log(wave[o, low + i])
            good[i] = good[low + i]
            row[i] = ratio[o, low + i]
            dense[i] = rate[o, low + i]
            spread[i] = noise[o, low + i]
            known[i] = np.isfinite(dense[i])
        if not _fill(row[:m], good[:m]):
            continue
        _fill(dense[:m], known[:m])
        _fill(spread[:m], good[:m])
        _quintic(row[:m])
        points = int((u[m - 1] - u[0]) / step) + 1
        _to_grid(
            row[:m], dense[:m], spread[:m], u[:m], good[:m], step, points, flux, level, error, valid
        )  # fmt: skip
        for i in range(points - 3):
            clear[i] = valid[i] * valid[i + 1] * valid[i + 2] * valid[i + 3]
        for k in range(first[o], end[o]):
            place = (C_KMS * math.log(lines[k]) + start - u[0]) / step
            base = math.floor(place)
            t = place - base
            i0 = int(base) - 1
            stays = place - room_low / step >= 1.0
            stays = stays and place + every * (velocities - 1) + room_high / step < points - 2
            if (whole and not stays) or not weights[k] > 0.0:
                continue
            ok = True
            for j in range(core_first, core_end):
                i = i0 + every * j
                ok = ok and i >= 0 and i < points - 3 and clear[i] > 0.0
            if not ok:
                continue
            middle = i0 + 1 + every * centre
            if middle < 0 or middle >= points:
                continue
            photons = level[middle]
            if not photons > 0.0:
                continue
            # Cubic through the four grid points around the line (Lagrange).
            a0 = -t * (t - 1.0) * (t - 2.0) / 6.0
            a1 = (t + 1.0) * (t - 1.0) * (t - 2.0) / 2.0
            a2 = -(t + 1.0) * t * (t - 2.0) / 2.0
            a3 = (t + 1.0) * t * (t - 1.0) / 6.0
            w = weights[k] * photons
            j0 = 0
            while j0 < velocities and i0 + every * j0 < 0:
                j0 += 1
            j1 = velocities
            while j1 > j0 and i0 + every * (j1 - 1) >= points - 3:
                j1 -= 1
            for j in range(j0, j1):
                i = i0 + every * j
                g = w * clear[i]
                total[o, j] += g * (a0 * flux[i] + a1 * flux[i + 1] + a2 * flux[i + 2] + a3 * flux[i + 3])
                expected[o, j] += g
                variance[o, j] += g * w * error[i + 1]
            used[o] += 1
            light[o] += w
            weight[o] += weights[k]


def scan_lines(
    ratio: np.ndarray,
    rate: np.ndarray,
    noise: np.ndarray,
    wave: np.ndarray,
    lines: np.ndarray,
    weights: np.ndarray,
    start: float,
    step: float,
    count: int,
    *,
    core: tuple[int, int] = (0, 0),
    whole: bool = True,
    room: tuple[float, float] = (0.0, 0.0),
) -> dict[str, np.ndarray]:
    """Scan the lines of a mask over every order.

    Parameters
    ----------
    ratio : float64[order, x]
        Flux over its expected continuum; NaN = no information.
    rate : float64[order, x]
        Expected continuum, photons per km/s.  The order reaches from its first to its last finite value.
    noise : float64[order, x]
        Variance of `ratio` per pixel times the pixel in km/s; over the step it is the variance per step.
    wave : float64[order, x]
        Wavelengths, rising; an order where they do not rise takes no part.
    lines, weights : float64[line]
        Wavelengths at rest, rising, same unit; weights, lines with 0 or less take no part.
    start, step : float
        First shift and step in km/s of ``c ln(observed / rest)``.
    count : int
        Shifts, at least 1.
    core : (int, int)
        Lines that meet a pixel without information at any of these shifts (end excluded) take no part.  The
        expected photons of a line are those at their middle, or at that of the scan if there are none.
    whole : bool
        Only lines that stay inside the order over the whole scan.
    room : (float, float)
        With `whole`: and over as many km/s more before its beginning and behind its end.

    Returns
    -------
    dict
        ``total`` float64[order, shift]: sum of weight times expected photons per km/s times ratio, over the
        lines with information at this shift; ``expected``: the same with ratio 1; ``variance``: of
        ``total`` for a shift of 1 km/s, divide by the step; ``light`` float64[order]: ``expected`` if all
        lines had information; ``weight`` float64[order]: sum of the weights; ``used`` int64[order]: lines.

    Raises
    ------
    TypeError, ValueError
        Wrong dtype or shape, fewer than 8 pixels, lines not rising, step not positive, no shift.

    Notes
    -----
    Weighted mask of Pepe et al. 2002 (A&A 388, 632) with the flux at the centre of the line.  Quintic
    B-splines through the pixels (Unser 1999), cubic interpolation on a grid of at most 0.5 km/s.
    """
    check_float("ratio", ratio, 2)
    for name, plane in (("rate", rate), ("noise", noise), ("wave", wave)):
        check_float(name, plane, 2, ratio.shape)
    check_float("lines", lines, 1)
    check_float("weights", weights, 1, lines.shape)
    check_positive("step", step)
    if ratio.shape[1] < 8 or count < 1:
        raise ValueError(f"{ratio.shape[1]} pixels, {count} shifts: expected at least 8 and 1")
    if np.any(np.diff(lines) < 0):
        raise ValueError("lines: not rising, sort them by wavelength")
    if not (0 <= core[0] <= core[1] <= count):
        raise ValueError(f"core: {core}, expected first and end within 0..{count}")
    every = math.ceil(step / FINEST - 1e-9)
    # Lines an order can hold at any shift, found by the ends of the order.
    far = np.exp(-(start + np.array([0.0, (count - 1) * step])) / C_KMS)
    low = np.searchsorted(lines, wave[:, 0] * far.min())
    high = np.searchsorted(lines, wave[:, -1] * far.max(), "right")
    shape = (ratio.shape[0], count)
    found = {name: np.empty(shape) for name in ("total", "expected", "variance")}
    found |= {name: np.empty(shape[0]) for name in ("light", "weight")}
    found["used"] = np.empty(shape[0], np.int64)
    plain = [np.ascontiguousarray(a, np.float64) for a in (ratio, rate, noise, wave, lines, weights)]
    _scan(
        plain[0], plain[1], plain[2], plain[3], plain[4], plain[5],
        low.astype(np.int64), high.astype(np.int64), float(start), step / every, every, int(count),
        int(core[0]), int(core[1]), bool(whole), float(room[0]), float(room[1]),
        found["total"], found["expected"], found["variance"], found["light"], found["weight"], found["used"],
    )  # fmt: skip
    return found
