"""Where the light falls: tables, displacement, distortion, drift, tilt, slices, edge orders."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from numpy.polynomial import chebyshev

from apero_dask.simulator.optics import OpticsConfig
from apero_dask.simulator.paint import paint
from apero_dask.simulator.spec import Affine
from apero_dask.simulator.tables import GeometryConfig, load_instrument
from apero_dask.simulator.traces import order_maps
from tests.simulator import photons

MINI = "SPIROU_MINI"
X = np.arange(1016)
THERMAL_CYCLE = Affine(6.1, 2.3, 1 + 4.8e-4, 4.0e-5, -5.7e-4, 1 - 6e-6)
"""Motion of the real instrument over one thermal cycle."""


def flat_of_c(**optics):
    """Flat in C on one order of the small instrument: rate in the calibrated frame, truth."""
    geometry = photons.strip(46, MINI, margin=45)
    config = photons.plain(MINI, geometry=geometry, optics=optics)
    affine = THERMAL_CYCLE if optics.get("affine") else Affine()
    painted = paint(config, photons.spec("DARK_FLAT", affine=affine))
    return photons.cal_image(painted.rate), painted.truth, geometry["rows"][0]


def row_centroid(image):
    """Centroid across the dispersion, calibrated-frame row of the cut-out."""
    image = image[:, : len(X)]
    return (image * np.arange(len(image))[:, None]).sum(axis=0) / image.sum(axis=0)


@pytest.mark.parametrize("instrument", ["SPIROU", MINI])
def test_without_effects_maps_are_the_tables(instrument):
    geometry, table = load_instrument(instrument, GeometryConfig())
    optics = OpticsConfig(displacement=False, distortion=False, edge_orders=False)
    maps = order_maps(optics, 1, geometry, table, Affine())
    inside = (maps.x >= 0) & (maps.x < geometry.nx)
    x = maps.x[inside]
    for o, m in enumerate(geometry.echelle):
        for f, fibre in enumerate("ABC"):
            # 1e-9: rounding of a series of 20 terms on values up to 4000 and 2500.
            np.testing.assert_allclose(
                maps.wave[f, o, inside], photons.table_wave(instrument, fibre, m, x), rtol=0, atol=1e-9
            )
            np.testing.assert_allclose(
                maps.y[f, o, inside], photons.table_trace(instrument, fibre, m, x), rtol=0, atol=1e-9
            )


def test_painted_trace_is_that_of_the_tables():
    image, _, first = flat_of_c()
    expected = photons.table_trace(MINI, "C", 46, X) - first
    # Slices are linear between columns; curvature of the trace over one column is below 1e-4 px.
    np.testing.assert_allclose(row_centroid(image)[5:-5], expected[5:-5], atol=2e-4)


def test_displacement_moves_light_by_the_configured_vector():
    image, truth, first = flat_of_c(displacement=True)
    expected = photons.table_trace(MINI, "C", 46, X - 2.0) + 1.0 - first
    np.testing.assert_allclose(row_centroid(image)[5:-5], expected[5:-5], atol=2e-4)
    np.testing.assert_allclose(truth.wave_nm[2, 0], photons.table_wave(MINI, "C", 46, X - 2.0), atol=1e-9)


def test_distortion_has_the_configured_rms():
    geometry, table = load_instrument("SPIROU", GeometryConfig())
    base = OpticsConfig(displacement=False, distortion=False, edge_orders=False)
    bent = OpticsConfig(displacement=False, edge_orders=False)
    for seed in (1, 2, 3):
        y0 = order_maps(base, seed, geometry, table, Affine())
        y1 = order_maps(bent, seed, geometry, table, Affine())
        shift_y = (y1.y - y0.y)[..., 24:-24]
        slope = np.gradient(y0.wave, axis=-1)
        shift_x = -((y1.wave - y0.wave) / slope)[..., 24:-24]
        for shift in (shift_x, shift_y):
            # Rms over the frame is 0.3 by construction; orders cover most, not all of it.
            assert 0.15 < np.sqrt(np.mean(shift**2)) < 0.5
            # Smooth: cubic in the frame, hence nearly a low polynomial along an order.
            along = shift.reshape(-1, shift.shape[-1])[::7].T
            u = np.linspace(-1, 1, len(along))
            left = along - chebyshev.chebval(u, chebyshev.chebfit(u, along, 7)).T
            assert np.abs(left).max() < 2e-3


def test_affine_moves_points_by_the_stated_map():
    geometry, table = load_instrument("SPIROU", GeometryConfig())
    optics = OpticsConfig(displacement=False, distortion=False, edge_orders=False)
    a = THERMAL_CYCLE
    maps = order_maps(optics, 1, geometry, table, a)
    x = np.linspace(20, 4060, 12)
    for m in (79, 55, 31):
        o = geometry.echelle.index(m)
        for f, fibre in enumerate("ABC"):
            y = photons.table_trace("SPIROU", fibre, m, x)
            moved_x = a.dx + a.a * x + a.b * y
            moved_y = a.dy + a.c * x + a.d * y
            np.testing.assert_allclose(
                maps.wavelength(f, o, moved_x), photons.table_wave("SPIROU", fibre, m, x), rtol=1e-13
            )
            np.testing.assert_allclose(np.interp(moved_x, maps.x, maps.y[f, o]), moved_y, atol=2e-5)


def test_affine_is_seen_in_the_image():
    still, _, _ = flat_of_c()
    moved, _, first = flat_of_c(affine=True)
    a = THERMAL_CYCLE
    x = np.arange(30.0, 980.0)
    y = photons.table_trace(MINI, "C", 46, x)
    new_x = a.dx + a.a * x + a.b * y
    new_y = a.dy + a.c * x + a.d * y - first
    np.testing.assert_allclose(np.interp(new_x, X, row_centroid(moved)), new_y, atol=2e-4)
    assert abs(np.median(row_centroid(moved) - row_centroid(still))) > 1.0


def restated_line(x_line, tangent, offsets, heights, trace, sigma_y, sigma_x, shape):
    """One monochromatic line as a cloud of points: naive restatement of the slit image."""
    z = np.linspace(-5, 5, 801)
    weight = np.exp(-0.5 * z**2) / np.exp(-0.5 * z**2).sum()
    x = x_line + sigma_x * z[:, None]
    image = np.zeros(shape)
    for height, offset in zip(heights, offsets, strict=True):
        above = height + sigma_y * z[None, :]
        place_x = x + offset + tangent * above
        place_y = trace(x) + above
        edges = [np.arange(n + 1) - 0.5 for n in shape]
        cloud = (weight[:, None] * weight[None, :]).ravel()
        image += np.histogram2d(place_y.ravel(), place_x.ravel(), bins=edges, weights=cloud)[0]
    return image / len(heights)


@pytest.mark.parametrize(
    ("effect", "echelle"),
    [
        ({"tilt": True}, 46),
        ({"slice_offsets": True}, 31),
        ({"tilt": True, "slice_offsets": True}, 64),
    ],
)
def test_slit_image_of_a_line(tmp_path, effect, echelle):
    """Tilt and slice offsets, row by row, against a cloud of points."""
    x_line = 303.3
    wave = photons.table_wave(MINI, "C", echelle, np.array([x_line]))
    folder = photons.lamp_folder(tmp_path / "lists", wave)
    geometry = photons.strip(echelle, MINI)
    config = photons.plain(MINI, geometry=geometry, optics=effect, lines={"folder": str(folder)})
    image = photons.cal_image(paint(config, photons.spec("DARK_HCONE")).rate)

    u = 2 * x_line / 1016 - 1
    redness = (55 - echelle) / 24
    theta = np.deg2rad(-7 + 3.5 * u - u**2 + 1.5 * redness) if "tilt" in effect else 0.0
    offsets = np.array([-0.35, 0.20, 0.30, -0.15]) * (1 + 0.1 * redness)
    offsets = offsets if "slice_offsets" in effect else np.zeros(4)
    width = photons.table_series(MINI, "trace", "C", echelle, "w{}_px", 3)
    heights = np.array([-1.5, -0.5, 0.5, 1.5]) * 3.35 * chebyshev.chebval(u, width) / 14
    around = photons.table_wave(MINI, "C", echelle, np.array([x_line - 0.5, x_line + 0.5]))
    kms_per_column = np.diff(around)[0] / wave[0] * photons.C_KMS
    sigma_x = np.hypot(4.8, 0.9) * photons.SIGMA_PER_FWHM / kms_per_column
    expected = restated_line(
        x_line,
        np.tan(theta),
        offsets,
        heights,
        lambda x: photons.table_trace(MINI, "C", echelle, x) - geometry["rows"][0],
        2.6 * photons.SIGMA_PER_FWHM,
        sigma_x,
        image.shape,
    )
    image = image / image.sum()
    column = np.arange(image.shape[1])
    bright = np.flatnonzero(expected.sum(axis=1) > 0.01)
    for row in bright:
        found = (image[row] * column).sum() / image[row].sum()
        stated = (expected[row] * column).sum() / expected[row].sum()
        # 801 points over 10 sigma in each direction: 0.01 px, averaged over 40 of them per row.
        assert found == pytest.approx(stated, abs=3e-3)
    np.testing.assert_allclose(image.sum(axis=1)[bright], expected.sum(axis=1)[bright], atol=1e-3)
    assert (image * column).sum() == pytest.approx((expected * column).sum(), abs=5e-4)
    # Inside a row all light gets the displacement of its mean height; the cloud shears it, which moves
    # at most tan(8 deg) / 12 of it.
    assert np.abs(image - expected).max() < 0.01 * expected.max()


def test_four_slices_are_seen():
    image, truth, first = flat_of_c(slice_fwhm_px=1.2)
    x = 300
    profile = image[:, x]
    peaks = np.flatnonzero((profile[1:-1] > profile[:-2]) & (profile[1:-1] > profile[2:])) + 1
    assert len(peaks) == 4
    trace = photons.table_trace(MINI, "C", 46, x) - first
    width = photons.table_series(MINI, "trace", "C", 46, "w{}_px", 3)
    size = chebyshev.chebval(2 * x / 1016 - 1, width) / 14
    np.testing.assert_allclose(peaks - trace, np.array([-1.5, -0.5, 0.5, 1.5]) * 3.35 * size, atol=0.6)
    np.testing.assert_allclose(
        truth.slice_height_px[2, 0, :, x], np.array([-1.5, -0.5, 0.5, 1.5]) * 3.35 * size
    )


def test_slice_flux_ratio():
    flux = [0.9, 1.05, 1.05, 1.0]
    image, truth, first = flat_of_c(slice_flux=flux, slice_fwhm_px=0.8)
    x = 300
    trace = photons.table_trace(MINI, "C", 46, x) - first
    centres = trace + truth.slice_height_px[2, 0, :, x]
    # Slices of 0.34 px rms are 3.4 px apart: light between the midpoints belongs to one of them but for
    # the row that a midpoint cuts, which holds less than 1e-4.
    borders = np.r_[centres[0] - 1.7, (centres[1:] + centres[:-1]) / 2, centres[-1] + 1.7]
    rows = np.arange(len(image))
    sums = [image[(rows > a) & (rows <= b), x].sum() for a, b in itertools.pairwise(borders)]
    np.testing.assert_allclose(np.array(sums) / sum(sums), np.array(flux) / 4, atol=2e-3)


def test_slice_flux_varies_along_the_order_within_the_bound():
    _, truth, _ = flat_of_c(slice_flux_variation=0.05)
    fraction = truth.slice_fraction[1, 0] * 4
    np.testing.assert_allclose(fraction.sum(axis=0), 4)
    assert 0.02 < np.ptp(fraction, axis=1).max() < 0.25
    assert np.abs(np.diff(fraction, axis=1)).max() < 1e-3


def test_slice_illumination_changes_from_star_frame_to_star_frame():
    geometry = photons.strip(46, MINI)
    config = photons.plain(MINI, geometry=geometry, optics={"slice_illumination": True})
    shares = []
    for index in range(8):
        truth = paint(config, photons.spec("OBJ_DARK", index=index)).truth
        shares.append(truth.slice_fraction[0, 0, :, 0])
        np.testing.assert_array_equal(truth.slice_fraction[1, 0, :, 0], 0.25)
    scatter = np.std(np.array(shares) * 4, axis=0)
    # 2 per cent rms; 8 frames fix it to a quarter, normalisation of the sum takes an eighth.
    assert 0.008 < scatter.mean() < 0.035


def row_variance(image):
    """Variance across the dispersion, px^2."""
    rows = np.arange(len(image))[:, None]
    image = image[:, : len(X)]
    return (image * (rows - row_centroid(image)) ** 2).sum(axis=0) / image.sum(axis=0)


def test_width_of_four_slices_and_of_one():
    four, _, _ = flat_of_c()
    one, _, _ = flat_of_c(slices=False)
    width = photons.table_series(MINI, "trace", "C", 46, "w{}_px", 3)
    size = chebyshev.chebval(2 * X / 1016 - 1, width) / 14
    inside = slice(20, 990)
    # Slice, places at -1.5, -0.5, 0.5, 1.5 pitches (mean square 1.25), pixel; a single slice does not follow
    # the width.  The slope of the trace inside a column adds its square over 12, below 5e-4.
    slit = (2.6 * photons.SIGMA_PER_FWHM) ** 2 + 1 / 12
    np.testing.assert_allclose(
        row_variance(four)[inside], (slit + 1.25 * (3.35 * size) ** 2)[inside], rtol=2e-4
    )
    np.testing.assert_allclose(row_variance(one)[inside], slit + 1.25 * 3.35**2, rtol=2e-4)


@pytest.mark.parametrize("instrument", ["SPIROU", MINI])
def test_edge_orders_are_partial(instrument):
    geometry, table = load_instrument(instrument, GeometryConfig())
    maps = order_maps(OpticsConfig(), 1, geometry, table, Affine())
    assert list(maps.echelle[[0, -1]]) == [geometry.echelle[0] + 1, geometry.echelle[-1] - 1]
    assert list(maps.echelle[maps.listed]) == list(geometry.echelle)
    for end in (0, -1):
        y = maps.y[:, end, 24:-24]
        inside = (y > -8) & (y < geometry.ny + 8)
        assert inside.any(), "an edge order must leave light in the calibrated frame"
        assert not ((y > 8) & (y < geometry.ny - 8)).all(), "an edge order must not be complete"
    # Wavelengths continue: echelle number times wavelength of neighbours agrees to one per cent.
    product = maps.echelle * maps.wave[0, :, maps.wave.shape[2] // 2]
    assert np.ptp(product) / product.mean() < 0.01


def test_smooth_fibre_wave_follows_ab():
    geometry, table = load_instrument("SPIROU", GeometryConfig())
    optics = OpticsConfig(displacement=False, distortion=False, edge_orders=False, fibre_wave="smooth")
    maps = order_maps(optics, 1, geometry, table, Affine())
    ab = photons.table_wave("SPIROU", "AB", 55, maps.x)
    velocity = (maps.wave[:, 24] / ab - 1) * photons.C_KMS * 1e3
    # Medians of the real maps: +11, -11, -19 m/s.
    np.testing.assert_allclose(np.median(velocity, axis=1), [11, -11, -19], atol=1.5)
    assert np.abs(velocity).max() < 200
    optics = OpticsConfig(displacement=False, distortion=False, edge_orders=False, fibre_wave="same")
    same = order_maps(optics, 1, geometry, table, Affine())
    np.testing.assert_allclose(same.wave[0, 24], ab, atol=1e-9)


def test_columns_of_wavelengths_invert_the_map():
    geometry, table = load_instrument(MINI, GeometryConfig())
    maps = order_maps(OpticsConfig(), 1, geometry, table, THERMAL_CYCLE)
    x = np.linspace(-10, 1020, 77)
    for f in range(3):
        wave = maps.wavelength(f, 4, x)
        # A wavelength has 1e-13 relative, a column is 8e-6 of it.
        np.testing.assert_allclose(maps.column(f, 4, wave), x, atol=1e-7)
    assert np.isnan(maps.column(0, 4, np.array([500.0]))).all()
