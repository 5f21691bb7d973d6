"""Full-size inputs for the kernel benchmark, one group of calls per subject."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from apero_dask.instruments import Instrument
    from apero_dask.recipes.calibrated import Calibrated

Case = tuple[str, Callable[[], object]]
ROWS = COLUMNS = 4096
AMPLIFIERS, DARK, BORDER = 32, 5, 4
NY, NX = 3100, 4088
RAMP = {"frame_time_s": 5.57192, "read_noise_e": 10.9, "gain": 0.999, "longest": 60}


def raw_planes() -> list[np.ndarray]:
    """Slope, intercept, error, reads, dark: noise, orders across the lit amplifiers, hot pixels, hits.

    Noise and errors are those of the ramp: with more noise than its error says, every pixel would be taken
    for a hit.  A hit adds charge as well as error.
    """
    from apero_kernels import ramps

    rng = np.random.default_rng(1)
    shape = (ROWS, COLUMNS)
    x = np.arange(COLUMNS)
    profile = 20 * np.exp(-0.5 * ((x % 60 - 30) / 6) ** 2) * (x > 650)
    flux = np.outer(1 + 0.8 * np.sin(np.arange(ROWS) / 3.0), profile).astype(np.float32)
    hot = rng.random(shape, dtype=np.float32) < 0.006
    dark = np.where(hot, np.float32(20), np.float32(0))
    slope = flux + dark
    border = np.ones(shape, bool)
    border[BORDER:-BORDER, BORDER:-BORDER] = False
    slope[border] = dark[border] = 0
    constant, linear = ramps.variance_terms(**RAMP)
    error = np.sqrt(constant[-1] + linear[-1] * slope).astype(np.float32)
    slope += error * rng.standard_normal(shape, dtype=np.float32)
    intercept = 1000 * rng.standard_normal(shape, dtype=np.float32)
    error *= 1 + 0.05 * rng.standard_normal(shape, dtype=np.float32)
    hits = rng.random(shape, dtype=np.float32) < 1e-3
    slope[hits] += 30 * error[hits]
    error[hits] *= 5
    return [slope, intercept, error, np.full(shape, 60, np.int16), dark]


def preprocessing() -> Iterator[Case]:
    from apero_kernels import corruption, cosmics, detector, jumps, ramps, rownoise

    slope, intercept, error, reads, dark = raw_planes()
    rng = np.random.default_rng(2)
    hot_rows, hot_columns = rng.integers(0, ROWS, 22_893), rng.integers(0, COLUMNS, 22_893)
    width = COLUMNS // AMPLIFIERS
    work = np.empty_like(slope)
    static = np.zeros((2, ROWS, width), np.float32)
    mask = np.zeros(slope.shape, np.uint8)
    variance = np.empty_like(slope)
    pp, pp_var, pp_mask = np.empty_like(slope), np.empty_like(slope), np.zeros(slope.shape, np.uint8)

    def corrupt() -> None:
        corruption.hot_pixel_offset(slope, hot_rows, hot_columns)
        corruption.noise_figures(slope, slope[:, : DARK * width])

    def reference() -> None:
        detector.subtract_static(slope, static[0], static[1], 328.0, work)
        detector.subtract_reference(work, detector.reference_levels(work, AMPLIFIERS, BORDER), work)

    def pattern() -> None:
        found, _ = rownoise.common_pattern(work, AMPLIFIERS, DARK, BORDER)
        detector.subtract_folded(work, found, work)
        detector.subtract_reference(work, detector.reference_levels(work, AMPLIFIERS, BORDER), work)

    def rows() -> None:
        sigma = rownoise.pixel_noise(work[:, : DARK * width])
        usable, level = rownoise.unlit_columns(work, AMPLIFIERS, DARK, BORDER, sigma=sigma)
        common, own = rownoise.row_offsets(work, usable, AMPLIFIERS, sigma=sigma, level=level, dark=DARK)
        rownoise.subtract_rows(work, common, own, work)

    def hits() -> None:
        cosmics.flag_cosmics(work, intercept, error, reads, mask, border=BORDER, **RAMP)

    dark_variance = np.zeros_like(slope)
    unstable = np.zeros(slope.shape, np.uint8)
    constant, linear = ramps.variance_terms(**RAMP)

    def spikes() -> None:
        jumps.flag_jumps(
            work, dark, dark_variance, unstable, reads, mask, constant=constant, linear=linear, border=BORDER,
            seed=5.0, extend=4.0, contrast=2.2, response=0.03,
        )  # fmt: skip

    def couple() -> None:
        detector.subtract_coupling(work, AMPLIFIERS, work)

    def variances() -> None:
        ramps.ramp_variance(work, reads, variance, **RAMP)

    def turn() -> None:
        detector.rotate_to_pp(work, pp)
        detector.rotate_to_pp(variance, pp_var)
        detector.rotate_to_pp(mask, pp_mask)

    steps = [
        ("corruption tests", corrupt), ("static pattern, reference pixels", reference),
        ("shared pattern", pattern), ("row offsets", rows), ("cosmic hits", hits),
        ("hits by the slope", spikes), ("coupling", couple), ("variance plane", variances),
        ("three planes turned", turn),
    ]  # fmt: skip
    yield from steps

    def chain() -> None:
        for _, step in steps:
            step()

    yield "whole chain", chain


def statistics() -> Iterator[Case]:
    from apero_kernels import robust, running, stack

    image = np.random.default_rng(3).standard_normal((ROWS, COLUMNS), dtype=np.float32)
    out = np.empty_like(image)
    cube = np.random.default_rng(4).standard_normal((5, ROWS, COLUMNS), dtype=np.float32)
    yield "median of 16.8 million pixels", lambda: robust.median(image)
    yield "running median of 7", lambda: running.running_median(image, np.array(running.SEVEN), out)
    yield "median of 8 neighbours", lambda: running.running_median(image, np.array(running.EIGHT), out)
    yield "median of 5 images", lambda: stack.stack(cube, out)
    yield "mean of 5 images", lambda: stack.stack(cube, out, statistic="mean")


def cal_frame() -> tuple[np.ndarray, np.ndarray]:
    """Calibrated frame with 147 traces and bad pixels, and its variance."""
    rng = np.random.default_rng(5)
    image = np.empty((NY, NX), np.float32)
    y = np.arange(NY)
    profile = 1e4 * np.exp(-0.5 * ((y % 20 - 10) / 4.0) ** 4)
    image[:] = profile[:, None]
    image += np.sqrt(image + 100) * rng.standard_normal(image.shape, dtype=np.float32)
    image[rng.random(image.shape, dtype=np.float32) < 0.015] = np.nan
    return image, np.abs(image) + 100


def straighten() -> Iterator[Case]:
    from apero_kernels import resample

    image, var = cal_frame()
    affine = (1.3, -0.7, 1.0002, 1e-4, -3e-4, 0.9999)
    x = np.arange(NX) / NX
    dxmap = np.tile((0.5 * np.sin(6 * x)).astype(np.float32), (NY, 1))
    dymap = np.tile((60 * (x - 0.5) ** 2).astype(np.float32), (NY, 1))
    out = np.empty_like(image)
    bent = np.tile((240 * (x - 0.5) ** 2).astype(np.float32), (NY, 1))
    yield (
        "affine and two maps",
        lambda: resample.resample(image, affine, out, dxmap=dxmap, dymap=dymap),
    )
    yield (
        "the same, orders bent by 60 px instead of 15",
        lambda: resample.resample(image, affine, out, dxmap=dxmap, dymap=bent),
    )
    yield (
        "the same, quadratic spline along the rows",
        lambda: resample.resample(image, affine, out, dxmap=dxmap, dymap=bent, basis="quadratic"),
    )
    window = np.empty((20, NX), np.float32)

    def windows() -> None:
        for o in range(49):
            resample.resample(image, affine, window, first_row=60 * o + 20, dxmap=dxmap, dymap=bent)

    yield "only 20 rows of each of 49 orders, bent", windows
    yield (
        "variance, linear",
        lambda: resample.resample_linear(var, affine, out, dxmap=dxmap, dymap=dymap),
    )


def comb_image(affine: tuple[float, ...]) -> np.ndarray:
    """Slit images of 147 traces under a Fabry-Perot lamp, e-, moved by an affine map, with noise."""
    from apero_kernels.resample import invert_affine

    inverse = invert_affine(affine)
    slices = np.concatenate([18.0 * f + 3.31 * np.arange(-1.5, 2.0) for f in range(3)])
    height = np.arange(0.0, 60.0, 0.05)
    profile = np.exp(-0.5 * ((height[:, None] - 12.0 - slices) / 1.14) ** 2).sum(axis=1)
    out = np.empty((NY, NX), np.float32)
    x = np.arange(float(NX))
    rng = np.random.default_rng(8)
    for y in range(NY):
        u = inverse[0] + inverse[2] * x + inverse[3] * y
        v = inverse[1] + inverse[4] * x + inverse[5] * y - 60.0
        order = np.clip(np.floor(v / 60.0), 0, 48)
        spacing = 5.1 + 8.1 * order / 48
        phase = (u - 30.0) / spacing
        line = np.exp(-0.5 * ((phase - np.rint(phase)) * spacing) ** 2)
        lit = (v >= 0) & (v < 49 * 60.0)
        light = 8000.0 * line * np.interp(v % 60.0, height, profile) * lit
        out[y] = light + np.sqrt(light + 100.0) * rng.standard_normal(NX)
    return out


def shape() -> Iterator[Case]:
    from apero_kernels import fine, tilt

    from apero_dask.recipes import shape_register

    motion = (6.1, 2.3, 1 + 4.8e-4, 4.0e-5, -5.7e-4, 1 - 6e-6)
    reference, image = comb_image((0.0, 0.0, 1.0, 0.0, 0.0, 1.0)), comb_image(motion)
    var = np.maximum(reference, 0) + 100
    noise = np.maximum(image, 0) + 100
    peaks = shape_register.find_reference_peaks(reference, var)
    found = shape_register.register(peaks, image, noise)
    error = np.abs(np.array(found.affine[:2]) - motion[:2]).max()
    out = np.empty_like(image)
    rows = np.arange(60, 3000)
    order = (rows - 60) // 60
    templates = np.stack([reference[60 + 60 * o + 5 : 60 + 60 * o + 55].mean(axis=0) for o in range(49)])
    edges = np.linspace(0, NX, 65).astype(np.int64)
    yield f"{peaks.x.size} peaks of a reference", lambda: shape_register.find_reference_peaks(reference, var)
    yield (
        f"transform of a night, {found.iterations} passes, {1e3 * error:.2f} mpx off",
        lambda: shape_register.register(peaks, image, noise),
    )
    yield "image moved without displacing slices", lambda: fine.resample_fine(image, motion, out)
    yield (
        "2940 rows in 64 sections, displacements",
        lambda: tilt.row_shifts(reference, var, rows, order, templates.astype(np.float64), edges),
    )


def scattered() -> Iterator[Case]:
    from apero_kernels import background, badpix, halo, repair

    image, var = cal_frame()
    mask = badpix.background_mask(np.nan_to_num(image), q=30.0)
    local, out, out_var = np.empty_like(image), np.empty_like(image), np.empty_like(image)

    def surface() -> None:
        halo.blur(image, 9.0, 1.0, local)
        levels = background.box_levels(image, mask, (128, 128))
        coefficients, _ = background.fit_surface(*levels, image.shape, (7, 7))
        background.subtract_background(image, coefficients, out, local=local, amplitude=1 / 47)

    inner = np.empty_like(mask)
    halo.blur(image, 6.36, 0.71, local)
    yield "background mask", lambda: badpix.background_mask(image)
    yield "background chosen by its neighbours", lambda: halo.inner_background(mask, inner)
    yield (
        "amplitude of the halo",
        lambda: halo.halo_amplitude(image, local, mask, (32, 32), start=0.02, limit=40.0),
    )
    yield "halo and surface subtracted", surface
    yield "isolated pixels filled", lambda: repair.fill_isolated(image, var, out, out_var)


def traces() -> Iterator[Case]:
    from apero_kernels import slices, trace

    image, var = cal_frame()
    image = np.nan_to_num(image, nan=100.0)
    out = np.empty_like(image)
    guess = np.tile((np.arange(147) * 20 + 30.4)[:, None], (1, NX))
    yield "order profile, median of 11 columns", lambda: trace.order_profile(image, out)
    yield "centroids of 147 traces", lambda: trace.centroids(image, var, guess, 8.0)
    few = slice(None, None, 12)  # every twelfth column is fitted
    columns, base = np.ascontiguousarray(image[:, few]), np.ascontiguousarray(var[:, few])
    count = columns.shape[1]
    heights = np.tile((3.35 * np.arange(-1.5, 2.0))[None, :, None], (98, 1, count))
    shares, sigmas = np.full(heights.shape, 0.25), np.full((98, count), 1.14)
    places = np.ascontiguousarray(guess[:98, few] + 5.0)
    flux = np.full(places.shape, 1e5)
    yield (
        "slices of 98 traces, one step",
        lambda: slices.fit_slices(columns, base, 0.5, places, heights, sigmas, shares, flux),
    )


def flat_frame(fibres: str) -> tuple[Calibrated, Instrument]:
    """Calibrated flat: slit images of the fibres named beside their tabulated places, bad pixels."""
    from apero_dask.instruments import instrument
    from apero_dask.recipes.calibrated import Calibrated
    from apero_dask.recipes.loc_find import table_traces

    spirou = instrument("SPIROU")
    table = table_traces(spirou, fibres)
    rng = np.random.default_rng(7)
    x = np.arange(spirou.nx)
    shares = np.array([0.22, 0.30, 0.28, 0.20])
    light = np.zeros((spirou.ny, spirou.nx))
    for centre, height in zip(table.positions + 2.0 + 0.3 * np.sin(x / 900.0), table.heights, strict=True):
        blaze = 3e4 * np.sinc((x / spirou.nx - 0.5) * 1.2) ** 2
        pitch = height / 4.2
        for row in range(max(0, int(centre.min()) - 12), min(spirou.ny, int(centre.max()) + 13)):
            away = (row - centre) / (0.34 * pitch)
            for part, rank in zip(shares, np.arange(-1.5, 2.0), strict=True):
                d = away - rank / 0.34
                light[row] += part * blaze * np.exp(-0.5 * d * d)
    base = np.full(light.shape, 150.0, np.float32)
    image = (light + np.sqrt(0.4 * light + base) * rng.standard_normal(light.shape)).astype(np.float32)
    # What is left when isolated bad pixels have been filled.
    image[rng.random(image.shape, dtype=np.float32) < 0.0022] = np.nan
    variance = base + np.float32(0.4) * light.astype(np.float32)
    return Calibrated(image, variance, base, 0.4, 27.9, 12.2), spirou


def localisation() -> Iterator[Case]:
    from apero_kernels import trace

    from apero_dask.recipes.loc_find import Guess, find_traces, table_traces
    from apero_dask.recipes.loc_fit import fit_slit_images

    for fibres in ("AB", "C"):
        frame, spirou = flat_frame(fibres)
        profile = np.empty_like(frame.image)
        table = table_traces(spirou, fibres)
        trace.order_profile(frame.image, profile)
        guess = find_traces(profile, frame.effron, table)
        parts = f"{fibres}, {np.count_nonzero(guess.seen)} traces"

        def find(profile: np.ndarray = profile, frame: Calibrated = frame, table: Guess = table) -> Guess:
            return find_traces(profile, frame.effron, table)

        def whole(
            frame: Calibrated = frame, fibres: str = fibres, profile: np.ndarray = profile,
            spirou: Instrument = spirou,
        ) -> None:  # fmt: skip
            trace.order_profile(frame.image, profile)
            found = find_traces(profile, frame.effron, table_traces(spirou, fibres))
            fit_slit_images(frame, found, spirou.slices)

        yield f"{parts}: found and numbered", find
        yield f"{parts}: profile, found, fitted", whole


def extraction() -> Iterator[Case]:
    from apero_kernels import extract

    image, _ = cal_frame()
    profile = np.nan_to_num(image, nan=100.0)
    var = np.full_like(image, 400.0)
    total = var + profile
    # Windows of AB, A, B and C: 33, 17, 17 and 15 rows.
    jobs = []
    for below, offset in ((16, 30), (8, 39), (8, 21), (7, 3)):
        first, height = extract.windows(np.arange(49) * 60.0 + offset + 30, below, below)
        jobs.append((first, height, np.empty((49, NX)), np.empty((49, NX))))

    def optimal() -> None:
        for first, height, flux, flux_var in jobs:
            extract.optimal(image, var, profile, first, height, flux, flux_var, photon=1.15)

    def two_step() -> None:
        for first, height, flux, flux_var in jobs:
            extract.two_step(image, total, profile, first, height, flux, flux_var)

    yield "four fibres, variance weights", optimal
    yield "four fibres, reference estimate", two_step


def line_fits() -> Iterator[Case]:
    from apero_kernels import comb, lines

    rng = np.random.default_rng(6)
    x = np.arange(NX)
    spectra = np.empty((49, NX))
    for o in range(49):
        # Spacing 5.1 px in the bluest order to 13.2 px in the reddest: 26 786 peaks on the real detector.
        spacing = 5.1 + 8.1 * o / 48
        phase = (x - 30.0) / spacing
        spectra[o] = 5e4 * np.exp(-0.5 * ((phase - np.rint(phase)) * spacing) ** 2) + 500
    var = spectra + 900
    spectra += np.sqrt(var) * rng.standard_normal(spectra.shape)
    order, start, height = comb.find_peaks(spectra, var)
    near = np.stack([np.roll(start, 1), np.roll(start, -1)], axis=1)
    ratio = np.stack([np.roll(height, 1), np.roll(height, -1)], axis=1) / height[:, None]
    reach = 0.55 * (5.1 + 8.1 * order / 48)
    yield f"{order.size} Fabry-Perot peaks, found", lambda: comb.find_peaks(spectra, var)
    yield (
        f"{order.size} Fabry-Perot peaks, fitted",
        lambda: comb.fit_comb(spectra, var, order, start, near, ratio, reach),
    )
    lamp = start[::6], order[::6]
    yield (
        f"{lamp[0].size} lamp lines",
        lambda: lines.fit_lines(spectra, lamp[1].copy(), lamp[0].copy(), np.full(lamp[0].size, 5.0), var=var),
    )


GROUPS: dict[str, Callable[[], Iterator[Case]]] = {
    "preprocessing": preprocessing,
    "statistics": statistics,
    "scattered": scattered,
    "traces": traces,
    "localisation": localisation,
    "straighten": straighten,
    "shape": shape,
    "extraction": extraction,
    "lines": line_fits,
}
