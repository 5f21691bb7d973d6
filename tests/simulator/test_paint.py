"""Painting: conservation of flux, place of lines, exact pixel integration, determinism, all frame types."""

from __future__ import annotations

import hashlib
import multiprocessing
import warnings

import numpy as np
import pytest
from numpy.polynomial import chebyshev
from scipy.integrate import simpson
from scipy.special import erf

from apero_dask.simulator.config import make_config
from apero_dask.simulator.frametypes import frame_types
from apero_dask.simulator.paint import paint
from apero_dask.simulator.settings import ConfigError
from apero_dask.simulator.spec import Affine, Target
from tests.simulator import photons

MINI = "SPIROU_MINI"
PAINTABLE = [
    name for name in frame_types() if not any(other in name for other in ("LFC", "HCTWO"))
]  # the lamp thorium and the laser comb are not simulated


def lamp_frame(tmp_path, echelle, columns, instrument=MINI, affine=None, **sections):
    """DARK_HCONE with lamp lines of one strength at given columns of the tables."""
    waves = photons.table_wave(instrument, "C", echelle, columns)
    folder = photons.lamp_folder(tmp_path / "lists", waves)
    geometry = photons.strip(echelle, instrument, margin=40)
    lines = {**sections.pop("lines", {}), "folder": str(folder)}
    config = photons.plain(instrument, geometry=geometry, lines=lines, **sections)
    painted = paint(config, photons.spec("DARK_HCONE", exptime_s=601.767, affine=affine or Affine()))
    return painted, waves


ALL_EFFECTS = {
    "displacement": True,
    "distortion": True,
    "affine": True,
    "tilt": True,
    "slice_offsets": True,
    "slice_flux": [0.9, 1.05, 1.05, 1.0],
    "slice_flux_variation": 0.05,
    "lsf_variation": True,
}


@pytest.mark.parametrize("echelle", [31, 46, 76])
def test_flux_is_conserved_to_a_millionth(tmp_path, echelle):
    """All geometric effects on: the image holds what the lamp sent, known without painting."""
    columns = np.linspace(60, 950, 23) + np.linspace(0, 0.9, 23)
    affine = Affine(3.1, -1.3, 1 + 4.8e-4, 4.0e-5, -5.7e-4, 1 - 6e-6)
    painted, _ = lamp_frame(tmp_path, echelle, columns, affine=affine, optics=ALL_EFFECTS)
    sent = 0.35 * 1e5 * len(columns)
    assert painted.rate.sum() * 601.767 == pytest.approx(sent, rel=1e-6)
    assert painted.truth.spectra["hc"].sum() == pytest.approx(sent, rel=1e-6)


def test_flux_is_conserved_for_a_comb():
    """Dense light: what is painted inside the frame is what the truth says, but for the ends of the order."""
    geometry = photons.strip(46, MINI, margin=40)
    optics = {**ALL_EFFECTS, "blaze": True}
    config = photons.plain(MINI, geometry=geometry, optics=optics)
    painted = paint(config, photons.spec("DARK_FP", exptime_s=61.291))
    image = photons.cal_image(painted.rate)[:, :1016] * 61.291
    # Light moves along x by at most tilt times half a slit, 1.2 px, and never further.
    total = painted.truth.spectra["fp"][2, 0].sum()
    assert image.sum() == pytest.approx(total, rel=1e-4)


@pytest.mark.parametrize("instrument", [MINI, "SPIROU"])
def test_centroid_of_a_line_is_where_the_truth_map_says(tmp_path, instrument):
    """Sub-pixel phases 0 to 1, displaced, distorted and moved; collapsed over the slit."""
    count, last = (24, 950) if instrument == MINI else (60, 3950)
    columns = np.linspace(100, last, count) + np.linspace(0, 1, count)
    affine = Affine(3.1, -1.3, 1 + 4.8e-4, 4.0e-5, -5.7e-4, 1 - 6e-6)
    optics = {"displacement": True, "distortion": True, "affine": True, "lsf_variation": True}
    painted, waves = lamp_frame(tmp_path, 46, columns, instrument, affine, optics=optics)
    truth = painted.truth
    expected = photons.column_of(truth.wave_nm[2, 0], waves)
    found = photons.centroids(photons.cal_image(painted.rate).sum(axis=0), expected)
    assert np.abs(found - expected).max() < 1e-3
    assert np.abs(expected - columns).min() > 1.0, "the truth must not be the table"
    # The list of lamp lines of the frame says the same.
    np.testing.assert_allclose(np.sort(truth.lamp["x_px"]), expected, atol=1e-6)


def test_centroid_with_tilt_and_slices_is_predicted(tmp_path):
    columns = np.linspace(60, 950, 24) + np.linspace(0, 1, 24)
    optics = {k: v for k, v in ALL_EFFECTS.items() if k not in ("distortion", "affine")}
    painted, waves = lamp_frame(tmp_path, 46, columns, optics=optics)
    truth = painted.truth
    at = photons.column_of(truth.wave_nm[2, 0], waves)
    nearest = np.rint(at).astype(int)
    fraction = truth.slice_fraction[1, 0, :, nearest]
    height = truth.slice_height_px[2, 0, :, nearest]
    shift = (fraction * (truth.tan_tilt[2, 0, nearest][:, None] * height + truth.slice_offset_px[0])).sum(
        axis=1
    )
    found = photons.centroids(photons.cal_image(painted.rate).sum(axis=0), at)
    np.testing.assert_allclose(found, at + shift, atol=1e-3)
    assert np.abs(shift).max() > 5e-3


def test_line_spread_is_integrated_over_pixels(tmp_path):
    """One line against the error function; intrinsic width and line spread in quadrature."""
    columns = np.array([200.0, 400.25, 600.5, 800.75])
    painted, waves = lamp_frame(tmp_path, 46, columns)
    spectrum = photons.cal_image(painted.rate).sum(axis=0)
    spectrum = spectrum / (spectrum.sum() / 4)
    for x, wave in zip(columns, waves, strict=True):
        ends = photons.table_wave(MINI, "C", 46, np.array([x - 0.5, x + 0.5]))
        sigma = np.hypot(4.8, 0.9) * photons.SIGMA_PER_FWHM / (np.diff(ends)[0] / wave * photons.C_KMS)
        edges = np.arange(round(x) - 6, round(x) + 8) - 0.5
        expected = np.diff(0.5 * (1 + erf((edges - x) / np.sqrt(2) / sigma)))
        # Sampling of the line spread every 0.1 px (sigma 0.9 px) is exact; the dispersion changes by 1e-4
        # per column, which skews the line by less than 1e-4 of its peak.
        np.testing.assert_allclose(spectrum[round(x) - 6 : round(x) + 7], expected, atol=1e-4)


@pytest.mark.parametrize(("finesse", "echelle"), [(12.8, 46), (25.0, 76)])
def test_comb_against_numerical_integration(finesse, echelle):
    """Airy function times Gaussian line spread, integrated over pixels by Simpson's rule."""
    geometry = photons.strip(echelle, MINI, margin=40)
    config = photons.plain(MINI, geometry=geometry, cavity={"finesse": finesse})
    painted = paint(config, photons.spec("DARK_FP", exptime_s=61.291))
    spectrum = photons.cal_image(painted.rate).sum(axis=0)[:1016]
    cavity = [-519.92190, -1058.80439, -694.63498, 209.01173, 109.00010,
              -25.36266, 6.27509, 15.53371, 2.04780, -5.86439]  # fmt: skip
    x0 = 437
    wave_0 = photons.table_wave(MINI, "C", echelle, np.array([x0 - 0.5, x0, x0 + 0.5]))
    sigma = 4.8 * photons.SIGMA_PER_FWHM / ((wave_0[2] - wave_0[0]) / wave_0[1] * photons.C_KMS)

    def transmitted(x):
        wave = photons.table_wave(MINI, "C", echelle, x)
        path = 24498000.0 + chebyshev.chebval((2 * wave - 965 - 2500) / (2500 - 965), cavity)
        return 1 / (1 + (2 * finesse / np.pi) ** 2 * np.sin(np.pi * path / wave) ** 2)

    # Spread and pixel together: the share of light at x that falls into the pixel.
    x = np.linspace(x0 - 14, x0 + 14, 28001)
    comb = transmitted(x)
    pixels = np.arange(x0 - 6, x0 + 7)
    expected = []
    for pixel in pixels:
        left, right = ((pixel + half - x) / np.sqrt(2) / sigma for half in (-0.5, 0.5))
        expected.append(simpson(comb * 0.5 * (erf(right) - erf(left)), x=x))
    expected = np.array(expected)
    found = spectrum[pixels]
    scale = (found * expected).sum() / (expected**2).sum()
    # The width of the spread changes by 7e-5 per column and the restatement keeps it.
    np.testing.assert_allclose(found / scale, expected, atol=1e-3 * expected.max())


@pytest.mark.parametrize("dprtype", PAINTABLE)
def test_every_frame_type_has_light_in_every_order(dprtype):
    config = make_config({"instrument": MINI})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        painted = paint(config, photons.spec(dprtype, exptime_s=300.0))
    assert painted.rate.shape == (960, 1024)
    assert painted.rate.dtype == np.float64
    assert np.isfinite(painted.rate).all()
    assert painted.rate.min() >= 0
    kind = frame_types()[dprtype]
    image = photons.cal_image(painted.rate, y0=6)
    for fibre, source in enumerate((kind.science, kind.science, kind.reference)):
        for order in range(12):
            x = np.argmax(painted.truth.blaze[fibre, order])
            y = round(painted.truth.trace_px[fibre, order, x])
            assert image[y - 5 : y + 6, x].sum() > 0, (source, fibre, order)
            total = sum(s[fibre, order] for s in painted.truth.spectra.values())
            assert total.max() > 0
            assert np.isfinite(total).all()
    # Reference pixels and dark amplifiers stay dark.
    assert not painted.rate[:4].any()
    assert not painted.rate[-150:].any()
    assert not painted.rate[:, :4].any()
    assert not painted.rate[:, -4:].any()


@pytest.mark.parametrize("dprtype", ["LFC_LFC", "OBJ_HCTWO"])
def test_frame_types_without_source_are_refused(dprtype):
    with pytest.raises(ConfigError, match="which is not simulated"):
        paint(photons.plain(), photons.spec(dprtype))


def test_unknown_frame_type_and_missing_target_are_refused():
    with pytest.raises(ConfigError, match="'FLAT_FLOT' is unknown"):
        paint(photons.plain(), photons.spec("FLAT_FLOT"))
    with pytest.raises(ConfigError, match="needs a star"):
        paint(photons.plain(), photons.spec("OBJ_FP", target=None))


def _digest(arguments):
    config, frame = arguments
    painted = paint(config, frame)
    parts = [painted.rate, painted.truth.wave_nm, *painted.truth.spectra.values()]
    return [hashlib.sha256(np.ascontiguousarray(a).tobytes()).hexdigest() for a in parts]


def test_bit_identical_in_every_process_and_order():
    config = make_config({"instrument": MINI, "seed": 7, "geometry": {"echelle": [46, 44, 31]}})
    frames = [photons.spec("OBJ_FP", index=4), photons.spec("HCONE_HCONE", index=5)]
    here = [_digest((config, f)) for f in frames]
    assert here[0] != here[1]
    assert [_digest((config, f)) for f in reversed(frames)] == here[::-1]
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.map(_digest, [(config, f) for f in frames]) == here


def test_seed_and_index_matter():
    geometry = photons.strip(46, MINI)

    def rate(seed, index):
        config = make_config({"instrument": MINI, "seed": seed, "geometry": geometry})
        return paint(config, photons.spec("OBJ_FP", index=index)).rate

    base = rate(1, 1)
    assert (rate(2, 1) != base).any()
    assert (rate(1, 2) != base).any()
    assert (rate(1, 1) == base).all()


def test_window_of_an_instrument_is_a_piece_of_it():
    rows = photons.strip(48, MINI)["rows"]
    optics = {**ALL_EFFECTS, "blaze": True, "leak": True}
    whole = paint(photons.plain(MINI, optics=optics), photons.spec("FP_FP"))
    piece = paint(
        photons.plain(MINI, optics=optics, geometry={"echelle": [48], "rows": rows}), photons.spec("FP_FP")
    )
    o = list(whole.truth.echelle).index(48)
    for key in ("trace_px", "wave_nm", "blaze"):
        offset = rows[0] if key == "trace_px" else 0
        np.testing.assert_allclose(
            getattr(piece.truth, key)[:, 0] + offset, getattr(whole.truth, key)[:, o], rtol=1e-12, atol=1e-10
        )
    np.testing.assert_allclose(piece.truth.spectra["fp"][:, 0], whole.truth.spectra["fp"][:, o], rtol=1e-9)
    # Between the middle of the fibres C and A no other order adds light.
    y = whole.truth.trace_px[1, o, 500]
    band = slice(round(y) - 12, round(y) + 13)
    full = photons.cal_image(whole.rate, y0=6)[band, 400:600]
    part = photons.cal_image(piece.rate)[slice(band.start - rows[0], band.stop - rows[0]), 400:600]
    np.testing.assert_allclose(part, full, rtol=1e-6, atol=1e-9 * full.max())


def test_scattered_light_is_the_configured_halo(tmp_path):
    """A lone line: total, and shape against the analytic Gaussian."""
    plain_frame, _ = lamp_frame(tmp_path, 46, np.array([503.0]))
    scattered, _ = lamp_frame(tmp_path, 46, np.array([503.0]), optics={"scatter": True})
    halo = scattered.rate - plain_frame.rate
    # Rows of the cut-out end 40 px from the order: erfc(40 / 9) = 3e-10 is lost.
    assert halo.sum() / plain_frame.rate.sum() == pytest.approx(1 / 47, rel=1e-4)
    y = np.arange(len(halo))
    profile, direct = halo.sum(axis=1), plain_frame.rate.sum(axis=1)
    kernel = np.exp(-(((y[:, None] - y[None, :]) / 9.0) ** 2))
    expected = kernel @ direct
    # scipy truncates at 4 standard deviations: 6e-5 of the kernel.
    np.testing.assert_allclose(profile / profile.sum(), expected / expected.sum(), atol=1e-5)
    width = (halo.sum(axis=0) * (np.arange(halo.shape[1]) - 507.0) ** 2).sum() / halo.sum()
    before = (
        plain_frame.rate.sum(axis=0) * (np.arange(halo.shape[1]) - 507.0) ** 2
    ).sum() / plain_frame.rate.sum()
    # exp(-x^2) has variance 0.5; truncation takes 1e-3 of it.
    assert width - before == pytest.approx(0.5, abs=5e-3)


def test_leaked_fraction_is_that_of_the_table():
    """DARK_FP: light in A and B over light in C, per order, measured in the image."""
    config = photons.plain(MINI, optics={"leak": True})
    without = photons.plain(MINI)
    frame = photons.spec("DARK_FP", exptime_s=61.291)
    leaked = photons.cal_image(paint(config, frame).rate - paint(without, frame).rate, y0=6)
    painted = paint(without, frame)
    c = painted.truth.spectra["fp"][2] / 61.291
    rows = photons.table(MINI, "orders")
    for order, row in enumerate(rows):
        for fibre, key in ((0, "leak_a_over_c"), (1, "leak_b_over_c")):
            trace = painted.truth.trace_px[fibre, order]
            window = np.zeros(1016)
            for x in range(20, 996):
                y = round(trace[x])
                window[x] = leaked[y - 7 : y + 8, x].sum()
            inside = slice(20, 996)
            fraction = window[inside].sum() / c[order, inside].sum()
            # 15 rows hold 98 to 99 per cent of a slit 13 px high.
            assert fraction == pytest.approx(max(float(row[key]), 3e-5), rel=0.02)
            # The comb is at the same columns as in C.
            shape = np.corrcoef(window[inside], c[order, inside])[0, 1]
            assert shape > 0.999


def test_no_light_and_saturated_faults():
    config = photons.plain(geometry=photons.strip(46, MINI))
    sound = paint(config, photons.spec("FLAT_FLAT")).rate
    dark = paint(config, photons.spec("FLAT_FLAT", faults=("no_light",))).rate
    bright = paint(config, photons.spec("FLAT_FLAT", faults=("saturated",))).rate
    assert not dark.any()
    np.testing.assert_allclose(bright, 40 * sound)
    half = paint(config, photons.spec("FLAT_FLAT", lamp_factor=0.5)).rate
    np.testing.assert_allclose(half, 0.5 * sound)


def test_sky_target_has_no_star():
    config = photons.plain(geometry=photons.strip(46, MINI))
    with pytest.raises(ConfigError, match="needs a star"):
        paint(config, photons.spec("OBJ_DARK", target=Target(name="sky", kind="sky")))
