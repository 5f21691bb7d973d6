"""The four planes of a ramp: photons, saturation, cosmic hits, read-out slips, and the fit read by read."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from apero_dask.simulator.detector import PIXEL_CM
from apero_dask.simulator.expose import afterglow_rate, expose
from apero_dask.simulator.ramp import ramp_moments, slope_variance, step_response
from tests.simulator.darkroom import (
    FRAME_TIME,
    GAIN,
    MINI,
    READ_NOISE,
    SMALL,
    inner,
    only,
    record,
    spec_of,
)


def signal_variance(flux: float, n: int, sigma: float) -> float:
    """Variance of the signal f (n-1) t in e-^2, as published (Rauscher et al. 2007), restated."""
    read = 12 * (n - 1) / (n * (n + 1)) * sigma**2
    return read + 6 * (n**2 + 1) / (5 * n * (n + 1)) * (n - 1) * FRAME_TIME * flux


@pytest.mark.parametrize("nreads", [2, 6, 12, 109])
def test_moments_agree_with_simulated_ramps(nreads):
    random = np.random.default_rng(nreads)
    reads = np.cumsum(random.poisson(30.0 * FRAME_TIME, (40_000, nreads)), axis=1)
    reads = reads - reads[:, :1] + random.normal(0, 11.0, reads.shape)
    fit = np.polyfit(np.arange(nreads) * FRAME_TIME, reads.T, 1)
    m = ramp_moments(nreads, FRAME_TIME)
    # 40 000 ramps: 5 / sqrt(2 N) on variances, the same of the geometric mean on the covariance.
    tolerance = 5 * np.sqrt(2 / 40_000)
    slope, intercept = (
        m.slope_read * 121 + m.slope_photon * 30,
        m.intercept_read * 121 + m.intercept_photon * 30,
    )
    assert fit[0].var() == pytest.approx(slope, rel=tolerance)
    assert fit[1].var() == pytest.approx(intercept, rel=tolerance)
    covariance = m.covariance_read * 121 + m.covariance_photon * 30
    assert np.cov(fit)[0, 1] == pytest.approx(covariance, abs=tolerance * np.sqrt(slope * intercept))


@pytest.mark.parametrize("nreads", [6, 12, 109])
def test_photon_noise_has_the_variance_of_a_ramp_fit(tmp_path, nreads):
    flux = 40.0
    planes, _ = record(tmp_path, only(photon_noise=True), flux, spec_of(nreads))
    electrons = inner(planes["slope"]) * GAIN * (nreads - 1) * FRAME_TIME
    # 967 232 pixels: 5 / sqrt(N) on the mean in units of sigma, 5 sqrt(2 / N) on the variance.
    variance = signal_variance(flux, nreads, 0.0)
    assert electrons.mean() == pytest.approx(flux * (nreads - 1) * FRAME_TIME, abs=0.005 * np.sqrt(variance))
    assert electrons.var() == pytest.approx(variance, rel=0.0072)
    # A plain Poisson count would be below by up to a fifth: the test can tell.
    assert electrons.var() > flux * (nreads - 1) * FRAME_TIME * (1.02 if nreads > 6 else 1.0)


def test_photon_terms_of_slope_and_intercept_are_correlated_as_in_a_ramp(tmp_path):
    planes, _ = record(tmp_path, only(photon_noise=True), 40.0)
    slope, intercept = inner(planes["slope"]).ravel(), inner(planes["intercept"]).ravel()
    # Independent electrons in every interval between reads: each is a step in all later reads.
    t = np.arange(109) * FRAME_TIME
    fits = np.array([np.polyfit(t, np.where(np.arange(109) >= k, 1.0, 0.0), 1) for k in range(1, 109)])
    moments = 40.0 * FRAME_TIME * fits.T @ fits
    assert intercept.var() * GAIN**2 == pytest.approx(moments[1, 1], rel=0.0072)
    correlation = moments[0, 1] / np.sqrt(moments[0, 0] * moments[1, 1])
    assert np.corrcoef(slope, intercept)[0, 1] == pytest.approx(correlation, abs=0.005)
    # The integrals for many reads: 2/15 f T and -1/4.
    assert moments[1, 1] == pytest.approx(2 / 15 * 40.0 * 108 * FRAME_TIME, rel=4 / 109)
    assert correlation == pytest.approx(-0.25, abs=1 / 109)


def test_dark_pixels_have_poisson_statistics_not_gaussian(tmp_path):
    planes, _ = record(tmp_path, only(photon_noise=True), 1.0 / 601.767)
    values = inner(planes["slope"])
    # One electron expected: exp(-1) of the pixels have none and share one value.
    share = (np.abs(values - values.min()) < 1e-9).mean()
    assert share == pytest.approx(np.exp(-1), abs=0.0025)


def test_error_plane_is_the_ramp_variance_with_scatter(tmp_path):
    config = only(read_noise=True, photon_noise=True)
    for flux in (0.0, 5.0, 200.0):
        planes, _ = record(tmp_path, config, flux)
        error = inner(planes["errslope"]) * GAIN
        expected = np.sqrt(signal_variance(flux, 109, READ_NOISE)) / (108 * FRAME_TIME)
        assert np.median(error) == pytest.approx(expected, rel=5e-4)
        assert error.std() / error.mean() == pytest.approx(0.05, rel=0.01)
        slopes = inner(planes["slope"]) * GAIN
        assert slopes.std() == pytest.approx(expected, rel=0.0036)


def test_reads_above_saturation_are_not_used(tmp_path):
    light = np.zeros(MINI.full_shape)
    rates = np.array([1.0, 90.0, 110.0, 500.0, 3000.0, 9000.0, 30000.0])
    for i, rate in enumerate(rates):
        light[100 + i, 100:900] = rate
    planes, _ = record(tmp_path, only(saturation=True, photon_noise=True), light)
    for i, rate in enumerate(rates):
        column = MINI.raw_columns - 1 - (100 + i)
        used = planes["count"][100:900, column]
        reads = rate * FRAME_TIME * np.arange(109)
        assert (used == max(1, np.count_nonzero(reads < 60000.0 * GAIN))).all()
        slope = planes["slope"][100:900, column] * GAIN
        if used[0] == 1:
            assert slope == pytest.approx(60000.0 / FRAME_TIME * GAIN, rel=1e-6)
        else:
            error = np.sqrt(slope_variance(np.array(rate), used[:1], FRAME_TIME, 0.0)[0])
            assert slope.mean() == pytest.approx(rate, abs=5 * error / np.sqrt(800))
            assert slope.std() == pytest.approx(error, rel=5 / np.sqrt(1600))
    assert planes["count"].dtype == np.float64
    assert (planes["count"][:, :100] == 109).all()


def test_count_plane_is_int16_and_others_float32(tmp_path):
    from astropy.io import fits

    record(tmp_path, only())
    with fits.open(tmp_path / "2320001d.fits") as units:
        assert [u.header["BITPIX"] for u in units[1:]] == [-32, -32, -32, 16]
        assert [u.header["EXTNAME"] for u in units[1:]] == ["slope", "intercept", "errslope", "count"]
        assert {u.data.shape for u in units[1:]} == {(MINI.raw_rows, MINI.raw_columns)}
        assert units[0].header["NEXTEND"] == 4


@pytest.mark.parametrize("nreads", [6, 12, 109])
def test_cosmic_hits_are_in_all_three_planes_as_a_fitted_step(tmp_path, nreads):
    # Enough hits in a short ramp, too.
    config = only(cosmics=True, error_scatter=0.0, cosmic_rate=1.5 * 109 / nreads)
    planes, frame = record(tmp_path, config, spec=spec_of(nreads))
    hits = frame.hits
    t = np.arange(nreads) * FRAME_TIME
    touched: dict[tuple[int, int], list[int]] = {}
    for i in range(hits.size):
        touched.setdefault((int(hits.row[i]), int(hits.column[i])), []).append(i)
    single = {pixel: rows[0] for pixel, rows in touched.items() if len(rows) == 1}
    assert len(single) > 100
    for (row, column), i in list(single.items())[:400]:
        ramp = np.where(t >= hits.time[i] * t[-1], hits.charge[i], 0.0)
        slope, intercept = np.polyfit(t, ramp, 1)
        residual = np.sum((ramp - np.polyval([slope, intercept], t)) ** 2)
        error = np.sqrt(residual / (nreads - 2) / np.sum((t - t.mean()) ** 2))
        # Float32 planes hold seven digits of the largest value.
        assert planes["slope"][row, column] * GAIN == pytest.approx(slope, rel=1e-5, abs=1e-6)
        assert planes["intercept"][row, column] * GAIN == pytest.approx(intercept, rel=1e-4, abs=1e-2)
        assert planes["errslope"][row, column] * GAIN == pytest.approx(error, rel=1e-4, abs=1e-6)
    others = np.ones(planes["slope"].shape, bool)
    others[hits.row, hits.column] = False
    for name in ("slope", "intercept", "errslope"):
        assert (planes[name][others] == 0.0).all()


def test_step_response_tends_to_the_published_integrals():
    u = np.linspace(0.05, 0.95, 19)
    n = 4001
    step = step_response(u, n, FRAME_TIME)
    length = (n - 1) * FRAME_TIME
    # Discrete sums differ from the integrals by a few times 1/n.
    assert np.allclose(step.slope * length, 6 * u * (1 - u), atol=5 / n)
    assert np.allclose(step.intercept, (1 - u) * (1 - 3 * u), atol=5 / n)
    assert np.allclose(step.residual / n, u * (1 - u) * (1 - 3 * u * (1 - u)), atol=5 / n)


def test_number_and_charge_of_cosmic_hits():
    number, charge, length, times = 0, [], [], []
    for index in range(40):
        frame = expose(only(cosmics=True), SMALL, 1, spec_of(index=index), np.zeros(SMALL.full_shape))
        hits = frame.hits
        number += len(np.unique(hits.track))
        for track in np.unique(hits.track):
            use = hits.track == track
            inside = hits.row[use].min() > 5 and hits.row[use].max() < 250
            if inside and hits.column[use].min() > 5 and hits.column[use].max() < 250:
                charge.append(hits.charge[use].sum())
                length.append(use.sum())
                times.append(hits.time[use][0])
    area = (256 * PIXEL_CM) ** 2
    expected = 40 * 1.5 * area * 601.767 / 60
    # Tracks that begin on the reference pixels and point outwards leave nothing: a few per cent.
    assert 0.92 * expected - 5 * np.sqrt(expected) < number < expected + 5 * np.sqrt(expected)
    assert np.median(charge) == pytest.approx(2000.0, rel=5 * 0.8 * 1.25 / np.sqrt(len(charge)))
    assert min(length) == 1
    assert max(length) <= 30
    assert np.mean(times) == pytest.approx(0.5, abs=5 * 0.29 / np.sqrt(len(times)))


@pytest.mark.parametrize(("fault", "roll"), [("slip_x", (0, 1)), ("slip_y", (1, 0))])
def test_slipped_frame_is_the_same_frame_rolled_by_one_pixel(tmp_path, fault, roll):
    config = only(hot_pixels=True, read_noise=True, cosmics=True, bias=True)
    straight, _ = record(tmp_path, config)
    slipped, frame = record(tmp_path, config, spec=spec_of(faults=(fault,)))
    assert frame.slip == roll
    for name in straight:
        assert np.array_equal(slipped[name], np.roll(straight[name], roll, axis=(0, 1)))


def test_slips_happen_as_often_as_configured():
    config = only(slip_probability=0.2)
    rate = np.zeros(SMALL.full_shape)
    slips = [expose(config, SMALL, 1, spec_of(index=i), rate).slip for i in range(300)]
    moved = [s for s in slips if s != (0, 0)]
    assert len(moved) / 300 == pytest.approx(0.2, abs=5 * np.sqrt(0.16 / 300))
    assert set(moved) == {(0, 1), (0, -1), (1, 0), (-1, 0)}


def test_corrupt_frame_has_displaced_amplifiers_and_noise(tmp_path):
    config = only(hot_pixels=True, read_noise=True)
    sound, _ = record(tmp_path, config)
    broken, _ = record(tmp_path, config, spec=spec_of(faults=("corrupt",)))
    hot = sound["slope"] > 5.0
    assert np.median(sound["slope"][hot]) > 5.0
    assert np.median(broken["slope"][hot]) < 1.0
    ratio = np.median(np.abs(broken["slope"])) / np.median(np.abs(sound["slope"]))
    assert ratio == pytest.approx(20.0, rel=0.05)


def test_ramp_followed_read_by_read_agrees_with_the_drawn_one(tmp_path):
    light = np.zeros(SMALL.full_shape)
    light[4:-4, 4:-4] = np.linspace(0.0, 60.0, 248)[:, None]
    effects = {"read_noise": True, "photon_noise": True, "cosmics": True, "ipc": True, "nonlinearity": True}
    spec = spec_of(30)
    drawn, first = record(tmp_path, only(**effects), light, spec, geometry=SMALL)
    fitted, second = record(tmp_path, only(ramp="full", **effects), light, spec, geometry=SMALL)
    assert np.array_equal(first.hits.charge, second.hits.charge)
    clean = np.ones(drawn["slope"].shape, bool)
    clean[first.hits.row, first.hits.column] = False
    for image in (drawn, fitted):
        for axis in (0, 1):
            for step in (-1, 1):
                # Neighbours of a hit receive a part of it.
                image["hit"] = ~clean
                clean &= ~np.roll(image["hit"], step, axis)
    variance = slope_variance(first.expected, np.full(first.expected.shape, 30), FRAME_TIME, READ_NOISE)
    # Coupling takes a little of the photon noise away: 4.7 % of its variance at most.
    for image in (drawn, fitted):
        pull = (image["slope"] * GAIN - first.expected) / np.sqrt(variance)
        pull = inner(pull)[:, 2:-2][inner(clean)[:, 2:-2]]
        assert abs(pull.mean()) < 0.06
        assert 0.94 < pull.std() < 1.01
    difference = (drawn["slope"] - fitted["slope"])[clean] * GAIN / np.sqrt(variance[clean])
    assert difference.std() == pytest.approx(np.sqrt(2) * 0.975, rel=0.03)
    # Mean of the error planes agrees; that of the fit scatters more, as residuals do.
    ratio = np.median(fitted["errslope"][clean] / drawn["errslope"][clean])
    assert ratio == pytest.approx(1.0, abs=0.05)
    assert (fitted["count"] == 30).all()


def test_hits_in_both_ramp_modes_leave_the_same_marks(tmp_path):
    spec = spec_of(30)
    config = only(cosmics=True, cosmic_rate=60.0, cosmic_charge_e=20_000.0)
    light = np.full(SMALL.full_shape, 1.0)
    drawn, frame = record(tmp_path, config, light, spec, geometry=SMALL)
    fitted, _ = record(tmp_path, replace(config, ramp="full"), light, spec, geometry=SMALL)
    hits = frame.hits
    at = (hits.row, hits.column)
    assert hits.size > 100
    assert np.allclose(drawn["slope"][at], fitted["slope"][at], rtol=1e-4, atol=1e-4)
    assert np.allclose(drawn["intercept"][at], fitted["intercept"][at], rtol=1e-3, atol=0.5)
    strong = hits.charge > 2000.0
    ratio = fitted["errslope"][at][strong] / drawn["errslope"][at][strong]
    assert np.median(ratio) == pytest.approx(1.0, abs=0.05)


def test_saturation_in_both_ramp_modes(tmp_path):
    light = np.zeros(SMALL.full_shape)
    light[100:140, 50:200] = 700.0
    config = only(saturation=True)
    spec = spec_of(30)
    drawn, _ = record(tmp_path, config, light, spec, geometry=SMALL)
    fitted, _ = record(tmp_path, replace(config, ramp="full"), light, spec, geometry=SMALL)
    assert np.array_equal(drawn["count"], fitted["count"])
    assert np.allclose(drawn["slope"], fitted["slope"], rtol=1e-6)


def test_expected_residuals_of_a_random_walk():
    """The sum that the full mode subtracts: (n^2 - 4) / 15 steps."""
    random = np.random.default_rng(2)
    for n in (3, 6, 30):
        walk = np.cumsum(random.normal(size=(n, 60_000)), axis=0)
        fit = np.polynomial.polynomial.polyfit(np.arange(n), walk, 1)
        model = fit[0] + fit[1] * np.arange(n)[:, None]
        found = np.sum((walk - model) ** 2, axis=0)
        assert found.mean() == pytest.approx((n * n - 4) / 15, abs=5 * found.std() / np.sqrt(found.size))


def test_afterglow_is_the_integral_of_its_decay(tmp_path):
    config = only(persistence=True)
    fluence = np.zeros(SMALL.full_shape)
    fluence[100:150, 100:150] = 30_000.0
    rate = afterglow_rate(config, fluence, since_end_s=50.0, exptime_s=100.0)
    t = np.linspace(50.0, 150.0, 200_001)
    current = 1e-3 * 30_000.0 / (t + 100.0)
    assert rate.max() == pytest.approx(np.trapezoid(current, t) / 100.0, rel=1e-9)
    frame = expose(config, SMALL, 1, spec_of(), np.zeros(SMALL.full_shape), rate)
    assert frame.slope.max() * GAIN == pytest.approx(rate.max(), rel=1e-6)
    without = expose(only(), SMALL, 1, spec_of(), np.zeros(SMALL.full_shape), rate)
    assert without.slope.max() == 0.0


def test_same_exposure_gives_the_same_bits_and_another_index_does_not():
    config = only(read_noise=True, photon_noise=True, cosmics=True, common_noise=True, bias=True)
    rate = np.full(SMALL.full_shape, 3.0)
    first = expose(config, SMALL, 1, spec_of(index=5), rate)
    again = expose(config, SMALL, 1, spec_of(index=5), rate)
    other = expose(config, SMALL, 1, spec_of(index=6), rate)
    for a, b in zip(first.planes, again.planes, strict=True):
        assert a.tobytes() == b.tobytes()
    assert not np.array_equal(first.slope, other.slope)


def test_light_of_the_wrong_shape_is_refused():
    with pytest.raises(ValueError, match=r"light has shape \(3, 3\), the full frame of SPIROU_MINI is"):
        expose(only(), SMALL, 1, spec_of(), np.zeros((3, 3)))
