"""Where the light of every fibre, order and slice falls: traces, slit image, wavelengths of one epoch.

Order of operations: slit image and wavelength on the tables' frame, displacement and distortion of the
campaign (so that no first guess is the truth), affine motion of the epoch, then painting.
Heights are measured across the dispersion from the trace, positive towards larger y.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.polynomial import chebyshev

from apero_dask.simulator.spec import Affine
from apero_dask.simulator.streams import stream

if TYPE_CHECKING:
    from apero_dask.simulator.optics import OpticsConfig
    from apero_dask.simulator.tables import Geometry, OrderTable

PAD = 24
"""Columns beyond each end of the calibrated frame in which light is followed (tilt, slices, line wings)."""
SERIES = 20
"""Terms of the Chebyshev series that hold the maps of an epoch; the test of the maps shows < 1e-13 left."""
C_KMS = 299792.458


@dataclass(frozen=True, eq=False)
class OrderMaps:
    """Maps of one epoch: all orders painted, on columns ``x`` of the calibrated frame.

    Fibre axis A, B, C; order axis in rising y, edge orders included; column axis ``x``.
    """

    echelle: np.ndarray
    """(order,) int."""
    listed: slice
    """The orders of the instrument, without edge orders."""
    x: np.ndarray
    """(column,) float64: -PAD .. nx + PAD in steps of 1."""
    y: np.ndarray
    """(fibre, order, column): trace, calibrated-frame row."""
    tan_tilt: np.ndarray
    """(fibre, order, column): displacement along x per px of height on the detector."""
    slice_height: np.ndarray
    """(fibre, order, slice, column): centre of a slice above the trace, px."""
    slice_offset: np.ndarray
    """(order, slice): offset along x, px."""
    slice_fraction: np.ndarray
    """(order, slice, column): fraction of the light, sum 1 over slices, before changes of a single frame."""
    slice_sigma: float
    """Standard deviation of a slice across the dispersion, px."""
    wave_series: np.ndarray
    """(fibre, order, SERIES): Chebyshev series of the wavelength in nm on [x[0], x[-1]]."""
    wave: np.ndarray
    """(fibre, order, column): vacuum nm at the trace."""
    leak: np.ndarray
    """(2, order): fraction of C in A and B."""
    fsr_px: np.ndarray
    wave_middle: np.ndarray
    """(order,): wavelength of AB in the middle of the order in the tables, nm (zero point of the blaze)."""
    dispersion_middle: np.ndarray
    """(order,): nm per px there."""
    place: np.ndarray
    """(column,): place along the order of the whole instrument, -1 to 1 (beyond in the pads)."""

    def wavelength(self, fibre: int, order: int, x: np.ndarray) -> np.ndarray:
        """Vacuum wavelength in nm at columns `x` of the calibrated frame."""
        u = (2 * np.asarray(x, dtype=float) - self.x[0] - self.x[-1]) / (self.x[-1] - self.x[0])
        return chebyshev.chebval(u, self.wave_series[fibre, order])

    def column(self, fibre: int, order: int, wave: np.ndarray) -> np.ndarray:
        """Column of the calibrated frame at which wavelengths in nm fall; NaN outside ``x``."""
        wave = np.asarray(wave, dtype=float)
        x = np.interp(wave, self.wave[fibre, order], self.x, left=np.nan, right=np.nan)
        slope_series = chebyshev.chebder(self.wave_series[fibre, order]) * 2 / (self.x[-1] - self.x[0])
        for _ in range(4):
            u = (2 * x - self.x[0] - self.x[-1]) / (self.x[-1] - self.x[0])
            x = x - (self.wavelength(fibre, order, x) - wave) / chebyshev.chebval(u, slope_series)
        return x


@dataclass(frozen=True)
class _Orders:
    """Series of the orders to paint in the tables' frame, edge orders included."""

    echelle: np.ndarray
    wave: np.ndarray
    trace: np.ndarray
    width: np.ndarray
    fsr_px: np.ndarray
    leak: np.ndarray
    listed: slice


def order_maps(
    config: OpticsConfig, seed: int, geometry: Geometry, table: OrderTable, affine: Affine
) -> OrderMaps:
    """Maps of one epoch.

    Parameters
    ----------
    affine
        Motion of the light since the reference epoch, pixels of the calibrated frame of the whole instrument.

    Notes
    -----
    Wavelength, trace and slit as functions of the column where the light arrives follow from the series of
    the tables by fixed-point iteration at Chebyshev nodes; the result is again a Chebyshev series.
    """
    orders = _orders_to_paint(config, table)
    if not config.affine:
        affine = Affine()
    x = np.arange(-PAD, geometry.nx + PAD + 1, dtype=float)
    low, high = x[0], x[-1]
    nodes = np.cos(np.pi * (np.arange(SERIES) + 0.5) / SERIES)
    target = (low + high) / 2 + (high - low) / 2 * nodes + table.x_start

    def at(series: np.ndarray, xt: np.ndarray) -> np.ndarray:
        """Series (fibre, order, c) at table columns (fibre, order, node)."""
        values = np.zeros_like(xt)
        u = 2 * xt / table.length - 1
        for j, t in enumerate(_chebyshev_values(u, series.shape[-1])):
            values += series[..., j, None] * t
        return values

    def moved(xt: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        yt = at(orders.trace, xt)
        xr, yr = _displaced(config, seed, table, xt, yt)
        return affine.dx + affine.a * xr + affine.b * yr, affine.dy + affine.c * xr + affine.d * yr

    shape = (3, len(orders.echelle), SERIES)
    xt = np.broadcast_to(target, shape).copy()
    # Motion is a small correction of x, so plain fixed-point iteration gains three digits a step.
    for _ in range(12):
        xt -= moved(xt)[0] - target
    y_node = moved(xt)[1] - table.y_start

    u_node = 2 * xt / table.length - 1
    redness = (55.0 - orders.echelle) / 24.0
    if config.tilt:
        t0, t1, t2, t3 = config.tilt_deg
        tangent = np.tan(np.deg2rad(t0 + t1 * u_node + t2 * u_node**2 + t3 * redness[None, :, None]))
    else:
        tangent = np.zeros(shape)
    # Along the slit image (tangent, 1) the affine motion gives (a tangent + b, c tangent + d).
    stretch = affine.c * tangent + affine.d
    tan_node = (affine.a * tangent + affine.b) / stretch
    size_node = at(orders.width, xt) / 14.0 * stretch
    wave_node = at(_fibre_wave(config, orders.wave), xt)
    if config.fibre_wave == "smooth":
        wave_node *= 1 + _smooth_fibre_offset(u_node, redness) / C_KMS

    basis = chebyshev.chebvander(nodes, SERIES - 1)
    inverse = np.linalg.inv(basis)
    vandermonde = chebyshev.chebvander((2 * x - low - high) / (high - low), SERIES - 1)

    def expand(values: np.ndarray) -> np.ndarray:
        return (values @ inverse.T) @ vandermonde.T

    wave_series = wave_node @ inverse.T
    offsets = np.array(config.slice_offsets_px) if config.slice_offsets and config.slices else np.zeros(4)
    offsets = offsets[None, :] * (1 + config.slice_offset_growth * redness)[:, None]
    place = np.array([-1.5, -0.5, 0.5, 1.5]) * config.slice_pitch_px
    if not config.slices:
        place = np.zeros(4)
    size = expand(size_node)
    height = place[None, None, :, None] * size[:, :, None, :] + affine.c * offsets[None, :, :, None]
    sigma = config.slice_fwhm_px / np.sqrt(8 * np.log(2))
    if not config.slices:
        # One slice with the variance of the four.
        sigma = float(np.hypot(sigma, config.slice_pitch_px * np.sqrt(1.25)))
    leak = np.maximum(orders.leak, config.leak_minimum) * config.leak_factor
    return OrderMaps(
        echelle=orders.echelle,
        listed=orders.listed,
        x=x,
        y=expand(y_node),
        tan_tilt=expand(tan_node),
        slice_height=height,
        slice_offset=affine.a * offsets,
        slice_fraction=_slice_fraction(config, seed, redness, (x + table.x_start) / table.length),
        slice_sigma=float(sigma),
        wave_series=wave_series,
        wave=wave_series @ vandermonde.T,
        leak=leak if config.leak else np.zeros_like(leak),
        fsr_px=orders.fsr_px,
        wave_middle=chebyshev.chebval(0.0, np.moveaxis(orders.wave[0], -1, 0)),
        dispersion_middle=chebyshev.chebval(0.0, chebyshev.chebder(orders.wave[0], axis=-1).T)
        * 2
        / table.length,
        place=2 * (x + table.x_start) / table.length - 1,
    )


def _chebyshev_values(u: np.ndarray, count: int) -> list[np.ndarray]:
    values = [np.ones_like(u), u]
    while len(values) < count:
        values.append(2 * u * values[-1] - values[-2])
    return values[:count]


def _displaced(
    config: OpticsConfig, seed: int, table: OrderTable, x: np.ndarray, y: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Position at the reference epoch of the campaign of light at (x, y) of the tables."""
    shifts = [0.0, 0.0]
    if config.displacement:
        shifts = [config.displacement_x_px, config.displacement_y_px]
    moved = [x + shifts[0], y + shifts[1]]
    if config.distortion and config.distortion_px > 0:
        ux, uy = 2 * x / table.length - 1, 2 * y / table.height - 1
        for axis in (0, 1):
            moved[axis] = moved[axis] + config.distortion_px * distortion(seed, axis, ux, uy)
    return moved[0], moved[1]


def distortion(seed: int, axis: int, ux: np.ndarray, uy: np.ndarray) -> np.ndarray:
    """Smooth field of unit rms over the frame: Chebyshev products of total degree 1 to 3.

    Parameters
    ----------
    axis
        0 for the displacement along x, 1 along y.
    ux, uy
        Place in the frame, -1 to 1.
    """
    weight = np.zeros((4, 4))
    draw = stream(seed, "distortion", axis).standard_normal((4, 4))
    for i in range(4):
        for j in range(4 - i):
            weight[i, j] = draw[i, j] if i + j else 0.0
    grid = np.linspace(-1, 1, 41)
    field = chebyshev.chebgrid2d(grid, grid, weight)
    weight[0, 0] -= field.mean()
    weight /= field.std()
    tx, ty = _chebyshev_values(ux, 4), _chebyshev_values(uy, 4)
    total = np.zeros_like(ux)
    for i in range(4):
        for j in range(4 - i):
            total += weight[i, j] * tx[i] * ty[j]
    return total


def _fibre_wave(config: OpticsConfig, wave: np.ndarray) -> np.ndarray:
    if config.fibre_wave == "table":
        return wave[1:]
    return np.broadcast_to(wave[:1], (3, *wave.shape[1:]))


def _smooth_fibre_offset(u: np.ndarray, redness: np.ndarray) -> np.ndarray:
    """Velocity of A, B, C against AB in km/s: measured medians, mild slopes along and across orders."""
    median = np.array([0.011, -0.011, -0.019])[:, None, None]
    slope = np.array([0.030, -0.030, -0.050])[:, None, None]
    return median + slope * u + 0.3 * slope * redness[None, :, None]


def _slice_fraction(config: OpticsConfig, seed: int, redness: np.ndarray, place: np.ndarray) -> np.ndarray:
    if not config.slices:
        fraction = np.zeros((len(redness), 4, len(place)))
        fraction[:, 0] = 1.0
        return fraction
    draw = stream(seed, "slices")
    phase = draw.uniform(0, 2 * np.pi, 4)
    drift = draw.uniform(-1.2, 1.2, 4)
    angle = phase[None, :] + drift[None, :] * redness[:, None]
    wave = np.sin(2 * np.pi * 0.7 * place[None, None, :] + angle[:, :, None])
    fraction = np.array(config.slice_flux)[None, :, None] * (1 + config.slice_flux_variation * wave)
    return fraction / fraction.sum(axis=1, keepdims=True)


def _orders_to_paint(config: OpticsConfig, table: OrderTable) -> _Orders:
    """Orders of the table and, beyond each end, one order extrapolated from its two neighbours."""
    count = len(table.echelle)
    if not (config.edge_orders and table.complete and count >= 2):
        return _Orders(
            table.echelle,
            table.wave_nm,
            table.trace_px,
            table.width_px,
            table.fsr_px,
            table.leak,
            slice(0, count),
        )
    wave, trace, echelle = [], [], []
    for end, inner, step in ((0, 1, 1), (count - 1, count - 2, -1)):
        m1, m2 = float(table.echelle[end]), float(table.echelle[inner])
        m = m1 + step
        # Echelle number times wavelength is nearly the same for all orders: linear in the number.
        w1, w2 = m1 * table.wave_nm[:, end], m2 * table.wave_nm[:, inner]
        wave.append((w1 + (w1 - w2) * (m - m1) / (m1 - m2)) / m)
        series = 2 * table.trace_px[:, end] - table.trace_px[:, inner]
        trace.append(_partly_outside(series, table, bottom=step == 1))
        echelle.append(int(m))

    def extended(values: np.ndarray, axis: int) -> np.ndarray:
        first, last = np.take(values, [0], axis=axis), np.take(values, [-1], axis=axis)
        return np.concatenate([first, values, last], axis=axis)

    def between(ends: list[np.ndarray], values: np.ndarray) -> np.ndarray:
        return np.concatenate([ends[0][:, None], values, ends[1][:, None]], axis=1)

    return _Orders(
        echelle=np.concatenate([[echelle[0]], table.echelle, [echelle[1]]]),
        wave=between(wave, table.wave_nm),
        trace=between(trace, table.trace_px),
        width=extended(table.width_px, 1),
        fsr_px=extended(table.fsr_px, 0),
        leak=extended(table.leak, 1),
        listed=slice(1, count + 1),
    )


def _partly_outside(series: np.ndarray, table: OrderTable, bottom: bool) -> np.ndarray:
    """Move an extrapolated order outwards until its innermost fibre reaches the edge of the calibrated frame.

    Only when it would lie inside over its whole length: a full extra order is no partial one.
    """
    y = chebyshev.chebval(np.linspace(-1, 1, 65), np.moveaxis(series, -1, 0))
    if y.min() <= 0 or y.max() >= table.height:
        return series
    middle = y[:, 32]
    moved = series.copy()
    moved[:, 0] += -middle.max() if bottom else table.height - middle.min()
    return moved
