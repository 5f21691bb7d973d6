"""Paint one exposure: expected light on every pixel, and the arrays that made it.

Every order of every fibre is a spectrum on a fine grid of columns, spread by the local line spread function,
divided among four slices and integrated exactly over pixels (see ``paint_kernels``).  The result depends on
configuration, seed and specification only, bit for bit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from apero_dask.simulator.cavity import optical_path
from apero_dask.simulator.spectra import SUB, Exposure
from apero_dask.simulator.streams import stream
from apero_dask.simulator.traces import PAD

if TYPE_CHECKING:
    from apero_dask.simulator.config import SimulatorConfig
    from apero_dask.simulator.spec import FrameSpec
    from apero_dask.simulator.tables import Geometry

LAMP_COLUMNS = [
    ("fibre", "U1"),
    ("echelle", "i4"),
    ("wave_true_nm", "f8"),
    ("wave_catalogue_nm", "f8"),
    ("x_px", "f8"),
    ("electrons", "f8"),
    ("blended", "?"),
    ("saturated", "?"),
]
"""Columns of the lamp lines of a frame; the catalogue wavelength of companions it lacks is NaN."""


@dataclass(frozen=True, eq=False)
class PhotonTruth:
    """Arrays actually used for one exposure.

    Columns x and rows y are those of the calibrated frame.  Fibre axis A, B, C; order axis the orders of the
    instrument in rising y; column axis nx.  float64.
    """

    echelle: np.ndarray
    """(order,) int."""
    trace_px: np.ndarray
    """(fibre, order, column): row of the trace after displacement, distortion and drift."""
    tan_tilt: np.ndarray
    """(fibre, order, column): displacement along x per px of height above the trace."""
    slice_height_px: np.ndarray
    """(fibre, order, slice, column): centre of the slice above the trace."""
    slice_offset_px: np.ndarray
    """(order, slice): displacement along x."""
    slice_fraction: np.ndarray
    """(2, order, slice, column): fraction of the light in each slice; 0 = science fibres, 1 = fibre C."""
    slice_sigma_px: float
    """Standard deviation of a slice across the dispersion before pixel integration."""
    wave_nm: np.ndarray
    """(fibre, order, column): vacuum wavelength at the trace."""
    blaze: np.ndarray
    """(fibre, order, column)."""
    lsf_fwhm_px: np.ndarray
    """(fibre, order, column): FWHM of the line spread before pixel integration."""
    affine: tuple[float, float, float, float, float, float]
    """dx, dy, a, b, c, d used: identity when that effect is off."""
    spectra: dict[str, np.ndarray]
    """Electrons per column of the exposure, (fibre, order, column), line spread applied: flat, fp, hc, star
    (behind the atmosphere), sky, thermal and leak as far as present; their sum is all that was painted."""
    star_clean: np.ndarray | None
    """As ``spectra``: the target without atmosphere; None without a star."""
    transmission: np.ndarray | None
    """(fibre, order, column): atmosphere seen through the line spread; None without a star."""
    cavity: tuple[np.ndarray, np.ndarray]
    """Wavelengths in nm and optical path of the etalon in nm."""
    lamp: np.ndarray
    """Structured array of ``LAMP_COLUMNS``, empty without the lamp."""
    beam_shares: tuple[float, float]
    """Fractions of the target in A and B."""
    star_factor: float
    """Observed over rest wavelength of the target."""
    polarisation_ms: tuple[float, float]
    """Displacement of the beams A and B, m/s."""


@dataclass(frozen=True, eq=False)
class Painted:
    """One exposure before the detector."""

    rate: np.ndarray
    """float64[y, x] expected electrons/s on the full flipped frame, shape (raw_columns, raw_rows)."""
    truth: PhotonTruth


def paint(config: SimulatorConfig, spec: FrameSpec) -> Painted:
    """Paint one exposure.

    Raises
    ------
    ConfigError
        The frame type cannot be painted or lacks a target; a table or line list cannot be used.

    Notes
    -----
    One thread; the compiled loops release the interpreter lock.
    """
    from scipy.ndimage import gaussian_filter1d

    exposure = Exposure(config, spec)
    geometry, maps = exposure.epoch.geometry, exposure.epoch.maps
    image = np.zeros(geometry.full_shape)
    fractions = _slice_fractions(config, exposure)
    collected: dict[str, np.ndarray] = {}
    shape = (3, len(maps.echelle), geometry.nx)

    def collect(name: str, fibre: int, order: int, values: np.ndarray) -> None:
        collected.setdefault(name, np.zeros(shape))[fibre, order] = values

    for order in range(len(maps.echelle)):
        reference = None
        for fibre in (2, 0, 1):
            total = _order_light(exposure, fibre, order, collect)
            if fibre == 2:
                reference = total
            _paint_order(image, exposure, fractions, fibre, order, total)
            leak = maps.leak[fibre, order] if fibre < 2 else 0.0
            if leak > 0 and exposure.seen[2] != "dark":
                leaked = reference.scaled(leak)
                collect("leak", fibre, order, leaked.columns)
                # The leak is weak: wings of 4 standard deviations hold all but 6e-5 of it in its own rows.
                _paint_order(
                    image, exposure, fractions, fibre, order, leaked, config.optics.leak_blur_px, 4.0
                )
    if config.optics.scatter and config.optics.scatter_fraction > 0:
        halo = gaussian_filter1d(image, config.optics.scatter_y_px / np.sqrt(2), axis=0, mode="constant")
        halo = gaussian_filter1d(halo, config.optics.scatter_x_px / np.sqrt(2), axis=1, mode="constant")
        image += config.optics.scatter_fraction * _only_lit(halo, geometry)
    # Interpolation may undershoot by rounding beside unresolved lines; a rate is never negative.
    np.maximum(image, 0.0, out=image)
    return Painted(rate=image, truth=_truth(exposure, image, fractions, collected))


def warm_up(config: SimulatorConfig) -> None:
    """Compile all loops by painting a cut-out of one order, so that worker processes find them compiled."""
    from dataclasses import replace

    from apero_dask.simulator.spec import FrameSpec, Target
    from apero_dask.simulator.tables import load_instrument

    geometry, _ = load_instrument(config.instrument, config.geometry)
    window = replace(config.geometry, echelle=geometry.echelle[len(geometry.echelle) // 2 :][:1])
    small = replace(config, geometry=window)
    for dprtype in ("OBJ_FP", "HCONE_HCONE"):
        target = Target(name="none", kind="mdwarf") if dprtype == "OBJ_FP" else None
        paint(
            small,
            FrameSpec(
                identifier="0o", obs_dir="0", dprtype=dprtype, index=0, exptime_s=60.0, nreads=12,
                mjd_start=58000.0, mjd_end=58000.001, target=target,
            ),
        )  # fmt: skip


def _slice_fractions(config: SimulatorConfig, exposure: Exposure) -> np.ndarray:
    """(2, order, slice, column): science fibres and fibre C."""
    optics, maps = config.optics, exposure.epoch.maps
    science = maps.slice_fraction
    if exposure.seen[0] == "star" and optics.slices and optics.slice_illumination:
        draw = stream(config.seed, "guiding", exposure.spec.index).standard_normal(4)
        science = science * (1 + optics.slice_illumination_rms * draw)[None, :, None]
        science = science / science.sum(axis=1, keepdims=True)
    return np.stack([science, maps.slice_fraction])


@dataclass(frozen=True, eq=False)
class _Light:
    """Light of a fibre in an order on the fine grid, and its integrals (``spectrum_kernels.cumulate``)."""

    density: np.ndarray
    total: np.ndarray
    moment: np.ndarray
    full: np.ndarray

    @classmethod
    def of(cls, density: np.ndarray) -> _Light:
        from apero_dask.simulator.spectrum_kernels import cumulate

        total, moment = np.zeros(len(density)), np.zeros(len(density))
        return cls(density, total, moment, cumulate(density, SUB, total, moment))

    def scaled(self, factor: float) -> _Light:
        return _Light(factor * self.density, factor * self.total, factor * self.moment, factor * self.full)

    def plus(self, other: _Light) -> _Light:
        return _Light(
            self.density + other.density,
            self.total + other.total,
            self.moment + other.moment,
            self.full + other.full,
        )

    @property
    def columns(self) -> np.ndarray:
        """Integral over each column of the calibrated frame."""
        count = (len(self.density) - 1) // SUB - 2 * PAD
        border = PAD * SUB - SUB // 2 + SUB * np.arange(count + 1)
        return np.diff(self.total[border])


def _order_light(exposure: Exposure, fibre: int, order: int, collect: Any) -> _Light:
    """All direct light of a fibre in an order, e-/s per column, line spread applied."""
    from apero_dask.simulator.spectrum_kernels import spread

    light = exposure.light(fibre, order)
    kernels = _kernels(exposure, fibre, order)

    def blurred(density: np.ndarray) -> _Light:
        return _Light.of(density if kernels is None else spread(density, kernels, SUB))

    total = None
    for name, component in light.components().items():
        part = _Light.of(component.density) if component.smooth else blurred(component.density)
        collect(name, fibre, order, part.columns)
        total = part if total is None else total.plus(part)
        if name == "star":
            collect("star_clean", fibre, order, blurred(light.star_clean).columns)
            collect("transmission", fibre, order, blurred(light.transmission).columns)
    return _Light.of(np.zeros(light.points)) if total is None else total


def _kernels(exposure: Exposure, fibre: int, order: int) -> np.ndarray | None:
    from apero_dask.simulator.spectrum_kernels import lsf_kernels

    optics = exposure.config.optics
    if not optics.lsf:
        return None
    fwhm = exposure.epoch.fwhm_px[fibre, order]
    # Kernels end where the line spread has fallen to 1e-7 of its peak.
    scale = 0.5 / (2 * np.log(2)) ** (1 / optics.lsf_exponent)
    half = int(np.ceil(fwhm.max() * SUB * scale * (-2 * np.log(1e-7)) ** (1 / optics.lsf_exponent)))
    skew = optics.lsf_skew_amplitude if optics.lsf_skew else 0.0
    return lsf_kernels(fwhm, optics.lsf_exponent, skew, SUB, half)


def _paint_order(
    image: np.ndarray,
    exposure: Exposure,
    fractions: np.ndarray,
    fibre: int,
    order: int,
    light: _Light,
    blur_px: float = 0.0,
    wings: float = 5.2,
) -> None:
    """Add light to the image; slices are widened by `blur_px` FWHM and end `wings` sigma from the centre."""
    from apero_dask.simulator.paint_kernels import paint_slice

    if not light.density.any():
        return
    geometry, maps = exposure.epoch.geometry, exposure.epoch.maps
    sigma = float(np.hypot(maps.slice_sigma, blur_px / np.sqrt(8 * np.log(2))))
    reach = int(np.ceil(wings * sigma))
    trace = maps.y[fibre, order] + geometry.y0
    for s in range(4):
        fraction = fractions[0 if fibre < 2 else 1, order, s]
        if not fraction.any():
            continue
        height = maps.slice_height[fibre, order, s]
        paint_slice(
            image, int(maps.x[0]) + geometry.x0, *geometry.lit_columns, *geometry.lit_rows, trace + height,
            height, float(maps.slice_offset[order, s]), maps.tan_tilt[fibre, order], fraction, sigma, reach,
            light.density, light.total, light.moment, light.full, SUB,
        )  # fmt: skip


def _only_lit(image: np.ndarray, geometry: Geometry) -> np.ndarray:
    """Set pixels to 0 that no light can reach, in place."""
    (y_low, y_high), (x_low, x_high) = geometry.lit_rows, geometry.lit_columns
    image[:y_low] = 0
    image[y_high:] = 0
    image[:, :x_low] = 0
    image[:, x_high:] = 0
    return image


def _truth(
    exposure: Exposure, image: np.ndarray, fractions: np.ndarray, collected: dict[str, np.ndarray]
) -> PhotonTruth:
    config, spec = exposure.config, exposure.spec
    geometry, maps = exposure.epoch.geometry, exposure.epoch.maps
    listed, columns = maps.listed, slice(PAD, PAD + geometry.nx)
    electrons = {name: values[:, listed] * spec.exptime_s for name, values in collected.items()}
    clean = electrons.pop("star_clean", None)
    through = electrons.pop("transmission", None)
    if through is not None:
        through = through / spec.exptime_s
    wave = np.linspace(940.0, 2540.0, 801)
    a = spec.affine
    return PhotonTruth(
        echelle=maps.echelle[listed],
        trace_px=maps.y[:, listed, columns],
        tan_tilt=maps.tan_tilt[:, listed, columns],
        slice_height_px=maps.slice_height[:, listed, :, columns],
        slice_offset_px=maps.slice_offset[listed],
        slice_fraction=fractions[:, listed, :, columns],
        slice_sigma_px=maps.slice_sigma,
        wave_nm=maps.wave[:, listed, columns],
        blaze=exposure.epoch.blaze[:, listed, columns],
        lsf_fwhm_px=exposure.epoch.fwhm_px[:, listed, columns],
        affine=(a.dx, a.dy, a.a, a.b, a.c, a.d) if config.optics.affine else (0.0, 0.0, 1.0, 0.0, 0.0, 1.0),
        spectra=electrons,
        star_clean=clean,
        transmission=through,
        cavity=(wave, optical_path(config.cavity, config.seed, wave, spec.cavity_ms, spec.epoch_days)),
        lamp=_lamp_table(exposure, image),
        beam_shares=exposure.beams,
        star_factor=exposure.star_factor,
        polarisation_ms=(1e3 * exposure.polarisation_kms(0), 1e3 * exposure.polarisation_kms(1)),
    )


def _lamp_table(exposure: Exposure, image: np.ndarray) -> np.ndarray:
    """Lamp lines of all fibres and orders that fall on the calibrated frame."""
    config, spec, geometry = exposure.config, exposure.spec, exposure.epoch.geometry
    maps = exposure.epoch.maps
    parts = []
    limit = geometry.saturation_adu * geometry.gain / spec.exptime_s
    for fibre, seen in enumerate(exposure.seen):
        if seen != "hc1" or not config.sources.hc:
            continue
        lines = exposure.lamp_lines
        for order in range(len(maps.echelle))[maps.listed]:
            low, high = np.searchsorted(lines.wave, maps.wave[fibre, order, [0, -1]])
            x = maps.column(fibre, order, lines.wave[low:high])
            keep = np.flatnonzero((x > -0.5) & (x < geometry.nx - 0.5))
            part = np.zeros(len(keep), dtype=LAMP_COLUMNS)
            at = low + keep
            part["fibre"], part["echelle"] = "ABC"[fibre], maps.echelle[order]
            part["wave_true_nm"], part["wave_catalogue_nm"] = lines.wave[at], lines.catalogue[at]
            part["x_px"], part["blended"] = x[keep], lines.blended[at]
            blaze = np.interp(x[keep], maps.x, exposure.epoch.blaze[fibre, order])
            rate = exposure.lamp * config.sources.hc_electrons / config.sources.hc_exposure_s
            part["electrons"] = rate * spec.exptime_s * lines.strength[at] * blaze
            y = np.interp(x[keep], maps.x, maps.y[fibre, order])
            part["saturated"] = _peaks(image, geometry, x[keep], y) > limit
            parts.append(part)
    return np.concatenate(parts) if parts else np.zeros(0, dtype=LAMP_COLUMNS)


def _peaks(image: np.ndarray, geometry: Geometry, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Largest rate within 3 columns and half a slit of positions in the calibrated frame."""
    columns = np.rint(x).astype(int)[:, None, None] + geometry.x0 + np.arange(-3, 4)[None, None, :]
    rows = np.rint(y).astype(int)[:, None, None] + geometry.y0 + np.arange(-7, 8)[None, :, None]
    inside = (rows >= 0) & (rows < image.shape[0]) & (columns >= 0) & (columns < image.shape[1])
    values = image[np.clip(rows, 0, image.shape[0] - 1), np.clip(columns, 0, image.shape[1] - 1)]
    return np.where(inside, values, 0.0).max(axis=(1, 2), initial=0.0)
