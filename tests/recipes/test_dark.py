"""The reference dark against the dark current that was put in."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pytest
from astropy.io import fits

from apero_dask.core.errors import DataError
from apero_dask.io.fits import FitsFile
from apero_dask.recipes import dark, imagecal
from apero_dask.recipes.context import RecipeResult
from tests.recipes.night import SEEDS, archive, pp_names, raw_orientation, spread
from tests.recipes.runs import MINI

HOT, CLUSTER, TELEGRAPH = 1, 2, 16


def reduce(seed: int, names: list[str] | None = None, **values: object) -> RecipeResult:
    a = archive(seed)
    first = a.darks[0]
    work = a.bench.work(
        "cal_dark_master",
        "DARKM",
        {"darkfiles": pp_names(a.darks) if names is None else names},
        ["DARKM"],
        stem=first.identifier,
        obs_dir=first.obs_dir,
        tier="master",
        **values,
    )
    return a.bench.run(work)


@lru_cache
def reference(seed: int) -> FitsFile:
    """Reference dark of the archive of a seed."""
    return FitsFile(archive(seed).bench.root / reduce(seed).outputs[0].path)


def residuals(seed: int, dark_image: np.ndarray) -> np.ndarray:
    """A dark that did not enter, minus the reference and smooth light, over its noise."""
    a = archive(seed)
    one = FitsFile(a.bench.pp_path(a.tested))
    difference = one.image(1) - dark_image
    difference -= imagecal.dark_background(difference)
    return raw_orientation(difference / np.sqrt(one.image("VARIANCE")))


@pytest.mark.parametrize("seed", SEEDS)
def test_hot_pixels_leave_the_noise_of_a_frame(seed: int) -> None:
    """Residual rms of all hot pixels below 1.1 of the noise of a single frame.

    Those in clusters alone are allowed 1.2: the smooth light beside them is measured on fewer pixels, and
    the rms of 1200 values is itself uncertain by 2 per cent.
    """
    z = residuals(seed, reference(seed).image(1))
    classes = archive(seed).static.classes
    for name, limit, bit in (("hot", 1.1, HOT), ("clustered", 1.2, CLUSTER)):
        selected = classes & bit > 0
        values = z[selected & (classes & TELEGRAPH == 0)]
        rms = float(np.sqrt(np.nanmean(np.square(np.clip(values, -10, 10)))))
        print(f"seed {seed}: {name} {rms:.3f} sigma, {np.count_nonzero(np.abs(values) > 10)} beyond 10")
        assert rms < limit
        assert np.count_nonzero(np.abs(values) > 10) <= 1


def test_hot_pixels_stay_without_the_dark() -> None:
    z = residuals(1, np.zeros((MINI.raw_columns, MINI.raw_rows), np.float32))
    values = z[archive(1).static.classes & HOT > 0]
    assert np.nanmedian(np.abs(values)) > 10


@pytest.mark.parametrize("seed", SEEDS)
def test_dark_holds_no_smooth_light(seed: int) -> None:
    """Thermal light between 0.1 and 0.2 ADU/s is in the unfiltered plane and not in the dark."""
    file = reference(seed)
    filtered, plain = file.image(1), file.image("UNFILTERED")
    glow = np.median(plain.reshape(plain.shape[0], -1, 64), axis=2)
    bright = glow > np.percentile(glow, 98)
    assert np.median(glow[bright]) > 0.05
    left = np.median(filtered.reshape(filtered.shape[0], -1, 64), axis=2)
    assert np.abs(np.median(left[bright])) < 0.005


def test_clusters_are_kept_by_the_wide_background(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the filter of eight neighbours alone they are taken for smooth light."""
    monkeypatch.setattr(imagecal, "CLUSTER_LEVEL", np.inf)
    file = FitsFile(archive(1).bench.root / reduce(1).outputs[0].path)
    clustered = archive(1).static.classes & CLUSTER > 0
    narrow = raw_orientation(file.image(1))[clustered]
    monkeypatch.undo()
    full = raw_orientation(FitsFile(archive(1).bench.root / reduce(1).outputs[0].path).image(1))[clustered]
    truth = archive(1).static.dark[clustered] / MINI.gain
    lost = np.mean(narrow < 0.9 * truth), np.mean(full < 0.9 * truth)
    print(f"lost by more than a tenth: {lost[0]:.3f} narrow, {lost[1]:.3f} with the wide background")
    assert lost[0] > 0.1 and lost[1] < 0.05


@pytest.mark.parametrize("seed", SEEDS)
def test_telegraph_pixels(seed: int) -> None:
    """Nine darks show most of the pixels that jump; others are flagged in one of 5000."""
    flags = raw_orientation(reference(seed).image("TELEGRAPH")) > 0
    jumping = archive(seed).static.classes & TELEGRAPH > 0
    found, false = flags[jumping].mean(), flags[~jumping].mean()
    print(f"seed {seed}: {found:.3f} of the telegraph pixels, {false:.1e} of the others")
    assert found > 0.8 and false < 2e-4


@pytest.mark.parametrize("seed", SEEDS)
def test_variance_of_the_reference(seed: int) -> None:
    """Spread of (reference - truth)/sigma, for stable pixels that see no order."""
    file = reference(seed)
    a = archive(seed)
    dark_columns = MINI.dark_amplifiers * (MINI.raw_columns // MINI.amplifiers)
    truth = (a.static.dark + a.bench.detector.background_rate * a.static.response) / MINI.gain
    z = raw_orientation(file.image("UNFILTERED")) - truth
    z = (z / np.sqrt(raw_orientation(file.image("VARIANCE"))))[4:-4, 4:dark_columns]
    z = z[a.static.classes[4:-4, 4:dark_columns] == 0]
    print(f"seed {seed}: {spread(z):.3f} sigma")
    assert 0.9 < spread(z) < 1.35


def test_table_and_header() -> None:
    file = reference(1)
    a = archive(1)
    table = file.table("DARK_TABLE")
    assert list(table["FILENAME"]) == [f"{spec.identifier}_pp.fits" for spec in a.darks]
    np.testing.assert_allclose(table["MJDMID"], [spec.mjd_mid for spec in a.darks], atol=1e-6)
    assert list(table["GROUP"]) == sorted(table["GROUP"]) and table["GROUP"].max() == 3
    assert set(table["DPRTYPE"]) == {"DARK_DARK_INT", "DARK_DARK_TEL"}
    assert np.isfinite(table["SB_POL_T"]).all()
    with fits.open(file.path, checksum=True) as found:
        found.verify("exception")
        head = found[0].header
        names = [unit.name for unit in found[1:]]
    assert names == [
        "DARKM", "UNFILTERED", "VARIANCE", "SCATTER", "TELEGRAPH", "DARK_TABLE", "PARAM_TABLE",
    ]  # fmt: skip
    assert (head["NDARKS"], head["NGROUPS"], head["INF1008"]) == (9, 3, f"{a.darks[8].identifier}_pp.fits")
    assert head["QCC_ALL"] is True and head["QCC001L"].startswith("(info)")


def test_result_does_not_depend_on_the_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    before = reference(1).image(1)
    monkeypatch.setattr(imagecal, "BLOCK_BYTES", 400_000)
    assert imagecal.block_rows(18, MINI.raw_rows) < 10
    again = FitsFile(archive(1).bench.root / reduce(1).outputs[0].path)
    np.testing.assert_array_equal(again.image(1), before)


def test_one_kind_and_one_dark() -> None:
    a = archive(1)
    result = reduce(1, options=(("filetype", "DARK_DARK_TEL"),))
    head = fits.getheader(a.bench.root / result.outputs[0].path)
    assert head["NDARKS"] == sum(spec.dprtype == "DARK_DARK_TEL" for spec in a.darks)
    single = reduce(1, pp_names(a.darks[:1]))
    plane = fits.getdata(a.bench.root / single.outputs[0].path, "TELEGRAPH")
    assert not plane.any()
    reduce(1)


def test_no_dark_left() -> None:
    names = pp_names([spec for spec in archive(1).darks if spec.dprtype == "DARK_DARK_INT"])
    with pytest.raises(DataError, match="no dark of type DARK_DARK_TEL"):
        reduce(1, names, options=(("filetype", "DARK_DARK_TEL"),))


def test_mean_leaves_out_what_is_far_from_the_median() -> None:
    random = np.random.default_rng(3)
    values = random.normal(5.0, 1.0, (7, 20, 30)).astype(np.float32)
    values[2, 4, 5] = 500.0
    values[:, 6, 7] = np.nan
    values[:5, 8, 9] = np.nan
    values[0, 10, 10], values[1:, 10, 10] = 0.0, np.nan
    mean, variance = dark.clipped_mean(values, np.ones_like(values))
    good = values[[0, 1, 3, 4, 5, 6], 4, 5]
    assert mean[4, 5] == pytest.approx(good.mean(), rel=1e-5)
    assert np.isnan(mean[6, 7]) and np.isnan(variance[6, 7])
    assert mean[8, 9] == pytest.approx(values[5:, 8, 9].mean(), rel=1e-5)
    assert mean[10, 10] == 0.0 and variance[10, 10] == 1.0
    assert variance.shape == (20, 30) and np.nanmedian(variance) == pytest.approx(1 / 7, rel=0.2)


def test_pixels_without_a_variance_have_none() -> None:
    """Two groups far apart keep their median beside pixels of which nothing is known, without a warning."""
    values = np.array([[[0.0, 1.0, 5.0]], [[100.0, 2.0, np.nan]]], np.float32)
    variances = np.array([[[1.0, np.nan, np.nan]], [[3.0, np.nan, np.nan]]], np.float32)
    mean, variance = dark.clipped_mean(values, variances)
    np.testing.assert_array_equal(mean, [[50.0, 1.5, 5.0]])
    np.testing.assert_array_equal(variance, [[2.0, np.nan, np.nan]])


def test_groups_follow_their_first_member() -> None:
    hours = np.array([0.0, 1.0, 1.9, 2.1, 4.0, 4.2, 30.0]) / 24.0
    assert dark.group_by_time(list(hours), 2.0) == [[0, 1, 2], [3, 4], [5], [6]]
    assert dark.group_by_time(list(hours[::-1]), 2.0) == [[6, 5, 4], [3, 2], [1], [0]]
