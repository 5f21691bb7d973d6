"""Localisation against the traces that were painted."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import numpy as np
import pytest
from astropy.io import fits
from numpy.polynomial import chebyshev

from apero_dask.core.errors import ContractError, DataError
from apero_dask.io.fits import FitsFile
from apero_dask.recipes import loc, loc_find, loc_fit
from apero_dask.recipes.calibrated import Calibrated
from apero_dask.recipes.context import RecipeResult
from apero_dask.recipes.traces import series_of, traces
from apero_dask.simulator.epochs import EpochConfig
from apero_dask.simulator.paint import PhotonTruth, paint
from apero_dask.simulator.spec import Affine
from tests.accuracy.geometry import rms, trace_errors, true_heights
from tests.recipes.calnight import LOC_KINDS, CalNight, calnight
from tests.recipes.runs import MINI

GROUPS = {"AB": "FLAT_DARK", "C": "DARK_FLAT"}
FIBRES = "ABC"
X = np.arange(MINI.nx)


@lru_cache
def product(group: str, kind: str = "LOC", seed: int = 1) -> FitsFile:
    n = calnight(seed)
    return n.file(n.loc(group), kind) if kind in ("LOC", "ORDER_PROFILE") else _other(n, group, kind)


def _other(n: CalNight, group: str, kind: str) -> FitsFile:
    n.loc(group)
    return FitsFile(n.bench.root / n.products["cal_loc", group][kind, group])


def truth(group: str, seed: int = 1) -> PhotonTruth:
    n = calnight(seed)
    return n.truth(n.frames(GROUPS[group], 3)[1])


def errors(centres: np.ndarray, true: PhotonTruth, fibre: str) -> list[np.ndarray]:
    return trace_errors(centres, true, fibre, MINI)


@pytest.mark.parametrize("group", GROUPS)
def test_traces_are_where_they_were_painted(group: str) -> None:
    """0.01 px rms over all columns with a blaze above 0.1, no order above 0.03; widths to 2 per cent."""
    check_accuracy(group, 1)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [2, 3])
@pytest.mark.parametrize("group", GROUPS)
def test_traces_are_where_they_were_painted_for_other_seeds(group: str, seed: int) -> None:
    check_accuracy(group, seed)


def check_accuracy(group: str, seed: int) -> None:
    file, true = product(group, seed=seed), truth(group, seed)
    for fibre in group:
        centres = series_of(file.table("CENTRES"), fibre, MINI.norders, "")
        wrong = errors(centres, true, fibre)
        worst = max(rms(e) for e in wrong)
        widths = chebyshev.chebval(
            2.0 * X / MINI.nx - 1, series_of(file.table("WIDTHS"), fibre, MINI.norders, "").T
        )
        lit = true.blaze[FIBRES.index(fibre)] > 0.1
        relative = (widths / true_heights(true, fibre) - 1)[lit]
        print(
            f"seed {seed} {fibre}: {rms(np.concatenate(wrong)):.4f} px, worst order {worst:.4f}, "
            f"widths {rms(relative):.4f}"
        )
        assert rms(np.concatenate(wrong)) < 0.01
        assert worst < 0.03
        assert rms(relative) < 0.02


def test_table_alone_is_not_the_answer() -> None:
    """The packaged table is off by more than a pixel: what is measured does not come from it."""
    table = loc_find.table_traces(MINI, "C")
    assert rms(table.positions - truth("C").trace_px[2][list(table.orders)]) > 0.7


def test_slices_must_be_fitted() -> None:
    """Peaks of the smoothed light alone are ten times too far off."""
    frame = painted("C")
    table = loc_find.table_traces(MINI, "C")
    guess = loc_find.find_traces(frame.image, frame.effron, table)
    true = truth("C")
    lit = true.blaze[2] > 0.1
    assert rms((guess.positions - true.trace_px[2])[lit]) > 0.03
    fitted = loc_fit.fit_slit_images(frame, guess, MINI.slices)
    assert rms(np.concatenate(errors(fitted.centres, true, "C"))) < 0.01


@lru_cache
def light(group: str, affine: Affine | None = None) -> tuple[np.ndarray, PhotonTruth]:
    """Light of one exposure, e-, and its truth, with another drift if wanted."""
    n = calnight()
    spec = n.frames(GROUPS[group], 3)[1]
    if affine is not None:
        spec = replace(spec, affine=affine)
    found = paint(n.config, spec)
    cut = found.rate[MINI.y0 : MINI.y0 + MINI.ny, MINI.x0 : MINI.x0 + MINI.nx]
    return cut * spec.exptime_s, found.truth


def painted(group: str, affine: Affine | None = None, seed: int = 1) -> Calibrated:
    """A calibrated frame made from the light and noise alone, fast."""
    clean, _ = light(group, affine)
    base = np.full(clean.shape, 80.0, np.float32)
    rng = np.random.default_rng(seed)
    noisy = clean + np.sqrt(base + 0.5 * clean) * rng.standard_normal(clean.shape)
    image = noisy.astype(np.float32)
    # Bad pixels in groups stay missing.
    image[rng.random(image.shape) < 0.005] = np.nan
    variance = (base + 0.5 * clean).astype(np.float32)
    return Calibrated(image, variance, base, 0.5, 28.0, float(np.sqrt(80.0)))


@pytest.mark.parametrize("group", GROUPS)
@pytest.mark.parametrize("drift", [(6.1, 2.3), (-6.1, -2.3), (6.1, 9.0), (-6.0, -11.0)])
def test_displaced_frames_are_numbered_right(group: str, drift: tuple[float, float]) -> None:
    """A thermal cycle, its opposite, and displacements across the orders of more than half a fibre."""
    affine = Affine(drift[0], drift[1], 1 + 4.8e-4, 4e-5, -5.7e-4, 1 - 6e-6)
    frame, true = painted(group, affine), light(group, affine)[1]
    profile = np.empty_like(frame.image)
    from apero_kernels.trace import order_profile

    order_profile(frame.image, profile)
    guess = loc_find.find_traces(profile, frame.effron, loc_find.table_traces(MINI, group))
    assert guess.seen.all()
    found = loc_fit.fit_slit_images(frame, guess, MINI.slices)
    for fibre in group:
        member = [k for k, f in enumerate(guess.fibres) if f == fibre]
        assert [guess.orders[k] for k in member] == list(range(MINI.norders))
        wrong = errors(found.centres[member], true, fibre)
        assert max(np.abs(e).max() for e in wrong) < 1.0  # far less than the distance of two fibres
        assert rms(np.concatenate(wrong)) < 0.01


def test_fibres_are_not_swapped() -> None:
    """B lies below A in every order, rows alternate, and a localisation with both exchanged fails."""
    columns = product("AB").table("CENTRES")
    assert list(columns["FIBER"]) == ["B", "A"] * MINI.norders
    assert list(columns["ORDER"]) == [o for o in range(MINI.norders) for _ in "BA"]
    series = np.stack([columns[f"COEFFS_{k}"] for k in range(5)], axis=1)
    assert loc.smallest_step(series, MINI.nx) > 10
    swapped = series.reshape(-1, 2, 5)[:, ::-1].reshape(-1, 5)
    assert loc.smallest_step(swapped, MINI.nx) < 0
    true = truth("AB")
    for fibre in "AB":
        own = errors(series_of(columns, fibre, MINI.norders, ""), true, fibre)
        other = errors(series_of(columns, fibre, MINI.norders, ""), true, "AB".replace(fibre, ""))
        assert rms(np.concatenate(own)) < 0.1 < 10 < rms(np.concatenate(other))


def dark_run(group: str, names: list[str]) -> RecipeResult:
    n = calnight()
    first = n.frames(GROUPS[group], 3)[0]
    return n.run(
        "cal_loc", "LOC", {"files": names}, [(kind, group) for kind in LOC_KINDS],
        replace(first, obs_dir="dark"), variant=GROUPS[group], calibrations=n.basic(),
    )  # fmt: skip


@pytest.mark.parametrize("count", [1, 3])
def test_frames_without_light_fail_by_the_number_of_orders(count: int) -> None:
    n = calnight()
    darks = [f"tmp/{spec.obs_dir}/{spec.identifier}_pp.fits" for spec in n.base.darks[:count]]
    result = dark_run("C", darks)
    assert not result.passed
    failed = [test for test in result.qc if not test.passed and not test.informative]
    assert [(test.name, test.logic) for test in failed] == [("NORDERS", f"NORDERS != {MINI.norders}")]
    # Thermal light of the reddest orders is light: it is found, and too little.
    assert int(failed[0].value) <= len(MINI.thermal)
    heads = [FitsFile(n.bench.root / output.path).values for output in result.outputs]
    assert [head["QCC_ALL"] for head in heads] == [False] * len(LOC_KINDS)
    assert all(head["LONBO"] == int(failed[0].value) for head in heads)


def test_noise_holds_no_trace() -> None:
    frame = painted("C")
    noise = 9.0 * np.random.default_rng(8).standard_normal(frame.image.shape).astype(np.float32)
    guess = loc_find.find_traces(noise, 9.0, loc_find.table_traces(MINI, "AB"))
    assert not guess.seen.any()
    found = loc_fit.fit_slit_images(replace(frame, image=noise), guess, MINI.slices)
    assert np.isnan(found.centres).all()
    assert np.isnan(loc.smallest_step(found.centres[:0], MINI.nx))


def test_light_of_other_fibres_fails_by_the_number_of_orders() -> None:
    """A flat of fibre C given for A and B: traces are there, but not where they belong."""
    frame = painted("C")
    guess = loc_find.find_traces(frame.image, frame.effron, loc_find.table_traces(MINI, "AB"))
    assert not guess.seen.all()


def test_one_dark_order_is_missed_and_the_others_keep_their_numbers() -> None:
    frame, true = painted("C"), light("C")[1]
    gone = 5
    image = frame.image.copy()
    y = true.trace_px[2, gone]
    rows = np.arange(MINI.ny)[:, None]
    image[np.abs(rows - y) < 12] = 0.0
    frame = replace(frame, image=image)
    guess = loc_find.find_traces(image, frame.effron, loc_find.table_traces(MINI, "C"))
    assert [guess.orders[k] for k in range(MINI.norders) if not guess.seen[k]] == [gone]
    found = loc_fit.fit_slit_images(frame, guess, MINI.slices)
    assert np.isnan(found.centres[gone]).all()
    kept = [o for o in range(MINI.norders) if o != gone]
    wrong = errors(np.nan_to_num(found.centres), true, "C")
    assert rms(np.concatenate([wrong[o] for o in kept])) < 0.01


def test_products_and_headers() -> None:
    """Layout, keywords and coefficients as users' programs read them."""
    file = product("AB")
    with fits.open(file.path, checksum=True) as found:
        found.verify("exception")
        assert [unit.name for unit in found[1:]] == ["LOC_LOCO", "CENTRES", "WIDTHS", "PARAM_TABLE"]
        head, orders, centres, widths = found[0].header, found[1].data, found[2].data, found[3].data
    assert head["FIBER"] == "AB" and head["DRSOUTID"] == "LOC_LOCO" and head["QCC_ALL"] is True
    assert (head["LONBO"], head["LOCPOLYT"]) == (2 * MINI.norders, "Chebyshev")
    assert (head["LODEGCTR"], head["LODEGFWH"]) == (4, 2)
    for n in range(2 * MINI.norders * 5):
        assert head[f"LOCE{n:04d}"] == pytest.approx(centres[f"COEFFS_{n % 5}"][n // 5], rel=1e-12)
    assert f"LOCE{2 * MINI.norders * 5:04d}" not in head
    assert head["LOFW0004"] == pytest.approx(widths["COEFFS_1"][1], rel=1e-12)
    assert head["CDBDARK"] and head["CDBBAD"] and head["CDBBACK"]
    assert (
        3 < head["EFFRON"] < 20 and head["NFILES"] == 3 and head["EXPTIME"] == pytest.approx(27.86, abs=0.1)
    )
    for keyword in ("LOBCKGRD", "LOFLXMAX", "LOCTRMAX", "LOWIDMAX", "LORMSCTR", "LORMSWID"):
        assert isinstance(head[keyword], int | float)
    assert [head[f"QCC00{k}N"] for k in (1, 2)] == ["NORDERS", "ORDER_STEP"]
    assert orders.shape == (MINI.ny, MINI.nx) and orders.dtype.kind == "i"
    middle = chebyshev.chebval(0.0, np.stack([centres[f"COEFFS_{k}"] for k in range(5)]))
    column = orders[:, MINI.nx // 2]
    for k, y in enumerate(middle):
        assert column[round(y)] == k
        assert 11 <= np.count_nonzero(column == k) <= 16
    assert loc.NO_TRACE == -1 and (column == -1).sum() > MINI.ny // 4


def test_order_profile_is_the_light_along_the_orders() -> None:
    """Same frame and unit as the light; the median of eleven columns is off by its curvature only."""
    profile = product("C", "ORDER_PROFILE").image(1)
    n = calnight()
    direct = n.light(n.frames("DARK_FLAT", 3)[1], scatter=False)
    assert profile.dtype == np.float32 and profile.shape == (MINI.ny, MINI.nx)
    bright = direct > 0.3 * np.percentile(direct, 99)
    assert np.isfinite(profile[bright]).all()
    ratio = profile[bright] / direct[bright]
    assert abs(np.median(ratio) - 1) < 0.01
    assert 0.5 * np.diff(np.percentile(ratio, [15.87, 84.13]))[0] < 0.05


def test_further_images() -> None:
    heights = product("C", "LOCFWHM").image(1)
    assert heights.shape == (MINI.norders, MINI.nx)
    assert heights.min() > 12 and heights.max() < 16.5
    drawn = product("C", "LOCWITH").image(1)
    on = np.rint(truth("C").trace_px[2]).astype(int)
    inside = (on >= 0) & (on < MINI.ny)
    columns = np.broadcast_to(X, on.shape)
    assert np.isnan(drawn[on[inside], columns[inside]]).mean() > 0.95


def test_traces_are_read_by_fibre() -> None:
    n = calnight()
    inputs: dict[str, list[str]] = {"files": []}
    ctx = n.context("cal_ff", inputs, calibrations=(*n.basic(), n.loc("AB"), n.loc("C")))
    a, b, c, both = (traces(ctx, fibre) for fibre in ("A", "B", "C", "AB"))
    np.testing.assert_allclose(both.centres, 0.5 * (a.centres + b.centres))
    np.testing.assert_allclose(both.widths, 0.5 * (a.widths + b.widths))
    middle = MINI.nx // 2
    assert (c.positions(MINI.nx)[:, middle] < b.positions(MINI.nx)[:, middle]).all()
    assert (b.positions(MINI.nx)[:, middle] < a.positions(MINI.nx)[:, middle]).all()
    assert a.heights(MINI.nx).shape == (MINI.norders, MINI.nx)
    without = n.context("cal_ff", inputs, calibrations=n.basic())
    with pytest.raises(ContractError, match="came without the calibration LOC A"):
        traces(without, "A")


def test_incomplete_localisation_is_an_error() -> None:
    columns = {"ORDER": np.arange(3), "FIBER": ["C"] * 3, "COEFFS_0": np.ones(3)}
    with pytest.raises(DataError, match=r"LOC C: 3 orders of fibre C, expected 12.*again"):
        series_of(columns, "C", 12, "LOC C")
    columns["COEFFS_0"] = np.array([1.0, np.nan, 2.0])
    with pytest.raises(DataError, match="a coefficient of fibre C is not finite"):
        series_of(columns, "C", 3, "LOC C")


def test_orders_share_their_higher_terms() -> None:
    """An order whose ends are dark bends there as its neighbours do; outliers have no say."""
    rng = np.random.default_rng(6)
    t, place = np.linspace(-1, 1, 300), np.linspace(-1, 1, 9)
    true = np.array([[60.0 * o, 30.0 - o, -20.0 + 0.3 * o, 0.5 + 0.1 * p, 0.2 - 0.1 * p**2]
                     for o, p in enumerate(place)])  # fmt: skip
    values = chebyshev.chebval(t, true.T) + 0.02 * rng.standard_normal((9, 300))
    values[4, np.abs(t) > 0.5] = np.nan
    values[:, ::17] += 3.0
    sigma = np.full(values.shape, 0.02)
    series, weights = loc_fit.coupled_fit(t, values, sigma, place, 4, 3)
    left = np.abs(chebyshev.chebval(t, (series - true).T))
    # Its own parabola, known from |t| < 0.5 to 0.02 px / sqrt(140), is carried twice as far: sigma 0.02.
    assert left[4].max() < 0.08 and np.delete(left, 4, axis=0).max() < 0.02
    assert (weights[:, ::17] < 0.01).all() and np.median(weights[2, 1::17]) > 0.9
    alone, _ = loc_fit.coupled_fit(t, values, sigma, place, 4, 5)
    assert np.abs(chebyshev.chebval(t, (alone - true).T))[4].max() > 3 * left[4].max()


def test_quiet_epochs_are_the_default_of_the_first_night() -> None:
    """Displacement and distortion are on in what is tested here."""
    config = calnight().config
    assert config.optics.displacement and config.optics.distortion and config.optics.scatter
    assert config.optics.tilt and config.optics.slice_offsets and config.optics.leak
    assert isinstance(config.epochs, EpochConfig)
