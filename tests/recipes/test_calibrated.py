"""The calibrated frame against the light that was painted."""

from __future__ import annotations

from functools import lru_cache

import apero_kernels.halo as kernels
import numpy as np
import pytest

from apero_dask.core.errors import DataError
from apero_dask.recipes import calibrated as subject
from apero_dask.recipes import scattered_light
from apero_dask.recipes.calibrated import Calibrated, calibrated
from apero_dask.simulator.coupling import couple_neighbours
from tests.accuracy.light import background_residual
from tests.recipes.calnight import calnight
from tests.recipes.night import SEEDS, cal_orientation
from tests.recipes.runs import MINI

FRAMES = {"FLAT_FLAT": 5, "FLAT_DARK": 3}
COMBS = ("DARK_FP", "FP_FP")
"""Judged on a single exposure each."""


def context(dprtype: str, count: int | None = None, seed: int = 1, **values: object):
    n = calnight(seed)
    values.setdefault("calibrations", n.basic())
    return n.context("cal_loc", {"files": n.names(dprtype, count or FRAMES.get(dprtype, 1))}, **values)


@lru_cache
def frame(dprtype: str, seed: int = 1) -> Calibrated:
    return calibrated(context(dprtype, seed=seed), "files")


@lru_cache
def light(dprtype: str, scatter: bool = False, seed: int = 1) -> np.ndarray:
    n = calnight(seed)
    return n.light(n.frames(dprtype, FRAMES.get(dprtype, 1))[0], scatter=scatter)


@lru_cache
def sound(seed: int = 1) -> np.ndarray:
    """Pixels whose response is that of their neighbours and whose level is stable."""
    static = calnight(seed).base.static
    return cal_orientation((static.classes == 0) & (np.abs(static.response - 1) < 0.3))


def residual(found: np.ndarray, dprtype: str, seed: int = 1) -> tuple[float, float]:
    """Mean over the bright part of the frame, between and inside the orders, over the local order flux.

    The truth is the light painted as pixels read it, with a part of the charge of their neighbours.
    """
    read = couple_neighbours(light(dprtype, seed=seed), calnight(seed).config.detector.ipc_fraction)
    return background_residual(found, read, sound(seed))


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("dprtype", (*FRAMES, *COMBS))
def test_scattered_light_is_removed(dprtype: str, seed: int) -> None:
    """Between the orders less than 3e-4 of the local order flux is left; the halo alone is 1.4 per cent.

    Inside the orders the response of pixels has a mean of its own; 2e-3 is what is asked of extracted flux.
    Between the combs of one fibre, where the light is far apart, the halo is 8e-4 of the local flux.
    """
    found = frame(dprtype, seed)
    between, inside = residual(found.image, dprtype, seed)
    plain = calibrated(context(dprtype, seed=seed), "files", background=False)
    untouched = residual(plain.image, dprtype, seed)
    print(f"seed {seed} {dprtype}: between {between:.1e} (was {untouched[0]:.1e}), inside {inside:.1e}, "
          f"halo 1/{1 / found.halo:.2f}")  # fmt: skip
    assert abs(between) < 3e-4
    assert abs(inside) < 2e-3
    assert untouched[0] > (6e-4 if dprtype == "DARK_FP" else 1.5e-3) and untouched[1] > 5e-3


def test_halo_must_be_subtracted_under_the_orders(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the local term the surface alone leaves more than ten times the residual."""
    monkeypatch.setattr(scattered_light, "combined_halo", lambda *a: 0.0)
    between, inside = residual(calibrated(context("FLAT_DARK"), "files").image, "FLAT_DARK")
    assert abs(inside) > 5e-3 and abs(between) > 1e-3


def test_background_chosen_by_its_own_noise_is_low(monkeypatch: pytest.MonkeyPatch) -> None:
    """The map of a night is made from its flats: taken as it is, their surface comes out too low."""
    mask = context("FLAT_FLAT").calibration_image("BKGRDMAP")
    inner = np.empty_like(mask)
    kernels.inner_background(mask, inner)
    image = calibrated(context("FLAT_FLAT"), "files", background=False).image
    difference = image - light("FLAT_FLAT", scatter=True)
    known = np.isfinite(difference) & sound()
    own, neighbours = (
        float(np.mean(difference[(m > 0) & known])) for m in (mask & ~inner, inner)
    )  # fmt: skip
    assert own < neighbours - 0.5


def test_another_amplitude_is_believed() -> None:
    """A halo that is not that of the instrument is found in the frame itself."""
    direct = light("FLAT_DARK")
    mask = context("FLAT_DARK").calibration_image("BKGRDMAP")
    rng = np.random.default_rng(5)
    scattered = np.empty(direct.shape, np.float32)
    kernels.blur(direct.astype(np.float32), scattered_light.HALO_Y, scattered_light.HALO_X, scattered)
    for truth in (0.010, 0.040):
        clean = direct + truth * scattered + 20.0
        variance = (0.5 * clean + 60.0).astype(np.float32)
        image = (clean + np.sqrt(variance) * rng.standard_normal(clean.shape)).astype(np.float32)
        found = scattered_light.subtract_scattered(image, mask, variance)
        assert found.halo == found.measured
        # Noise, and the wings of orders that reach between them.
        allowed = 3 * found.measured_error + scattered_light.HALO_SYSTEMATIC * scattered_light.HALO_AMPLITUDE
        assert abs(found.halo - truth) < allowed < 0.3 * truth
        assert abs(found.level - 20.0) < 2.0


def test_faint_frames_take_the_amplitude_of_the_instrument() -> None:
    assert scattered_light.combined_halo(0.5, 0.4) == scattered_light.HALO_AMPLITUDE
    assert scattered_light.combined_halo(float("nan"), float("inf")) == scattered_light.HALO_AMPLITUDE
    near = scattered_light.combined_halo(1.1 * scattered_light.HALO_AMPLITUDE, 1e-4)
    assert scattered_light.HALO_AMPLITUDE < near < 1.05 * scattered_light.HALO_AMPLITUDE


@pytest.mark.parametrize("dprtype", FRAMES)
def test_variance_is_that_of_the_difference_to_truth(dprtype: str) -> None:
    """Reduced chi-square between 0.9 and 1.15, in the dark and in the light, measured or true signal."""
    a, direct = frame(dprtype), light(dprtype)
    # The response of single pixels is not corrected here: compare with the light they record.
    response = cal_orientation(calnight().base.static.response)
    difference = a.image - direct * response
    known = sound() & np.isfinite(a.image)
    for name, selected in (("dark", direct < 1), ("bright", direct > 1000)):
        for variance in (a.variance, a.base + a.photon * np.maximum(direct, 0)):
            z = (difference / np.sqrt(variance))[known & selected]
            low, high = np.percentile(z, [15.8655, 84.1345])
            chi2 = float((0.5 * (high - low)) ** 2)
            print(f"{dprtype} {name}: {chi2:.3f}")
            assert 0.9 < chi2 < 1.15


def test_variance_has_the_parts_it_promises() -> None:
    a = frame("FLAT_DARK")
    known = np.isfinite(a.image)
    assert np.array_equal(known, np.isfinite(a.variance)) and np.array_equal(known, np.isfinite(a.base))
    assert (a.base[known] > 0).all()
    whole = a.base + a.photon * np.maximum(a.image, 0)
    np.testing.assert_allclose(whole[known], a.variance[known], rtol=1e-5)
    assert a.image.dtype == a.variance.dtype == a.base.dtype == np.float32
    assert a.image.shape == (MINI.ny, MINI.nx)


def test_effective_noise_is_that_of_the_variance() -> None:
    """EFFRON and the variance plane agree; what the ramp does not know is less than 20 per cent of it."""
    a = frame("FLAT_DARK")
    mask = context("FLAT_DARK").calibration_image("BKGRDMAP") > 0
    assert abs(a.effron / np.sqrt(np.nanmedian(a.variance[mask])) - 1) < 0.03
    assert 1.0 <= a.excess < 1.2
    assert subject.noise_excess(3.0, np.full((4, 4), 4.0), np.ones((4, 4), np.uint8)) == 2.0  # not 2.25
    assert subject.noise_excess(1.0, np.full((4, 4), 4.0), np.ones((4, 4), np.uint8)) == 1.0
    assert subject.noise_excess(2.2, np.full((4, 4), 4.0), np.ones((4, 4), np.uint8)) == pytest.approx(1.21)
    rng = np.random.default_rng(1)
    noise = 7.0 * rng.standard_normal((200, 300))
    assert subject.effective_noise(noise, np.ones(noise.shape, np.uint8)) == pytest.approx(7.0, rel=0.02)
    assert np.isnan(subject.effective_noise(noise, np.zeros(noise.shape, np.uint8)))


def test_bad_pixels_stay_missing_unless_alone() -> None:
    a = frame("FLAT_DARK")
    bad = context("FLAT_DARK").calibration_image("BADPIX") > 0
    padded = np.pad(bad, 1, constant_values=True).astype(int)
    neighbours = sum(
        np.roll(padded, (dy, dx), (0, 1))[1:-1, 1:-1] for dy in (-1, 0, 1) for dx in (-1, 0, 1)
    ) - bad.astype(int)  # fmt: skip
    assert np.isnan(a.image[bad & (neighbours > 0)]).all()
    assert np.isfinite(a.image[bad & (neighbours == 0)]).mean() > 0.9
    kept = calibrated(context("FLAT_DARK", options=(("badcorr", False),)), "files").image
    assert np.isfinite(kept[bad]).mean() > np.isfinite(a.image[bad]).mean() + 0.1


def test_statistics_and_normalisation() -> None:
    mean = calibrated(context("FLAT_DARK"), "files", statistic="mean")
    median = frame("FLAT_DARK")
    assert mean.photon < median.photon  # a mean of three is 1.346 times less noisy than their median
    assert mean.photon / median.photon == pytest.approx(1 / 1.346013, rel=1e-6)
    scaled = calibrated(context("FLAT_DARK"), "files", normalise=90.0)
    np.testing.assert_allclose(
        scaled.image * np.float32(scaled.normalised), median.image, rtol=1e-4, atol=0.01
    )
    np.testing.assert_allclose(scaled.variance * scaled.normalised**2, median.variance, rtol=1e-4)
    assert scaled.photon * scaled.normalised == pytest.approx(median.photon)


def test_slopes_out_of_range_are_missing() -> None:
    """Saturated and impossible values become NaN before anything is computed from them."""
    ctx = context("FLAT_DARK")
    shape = (MINI.raw_columns, MINI.raw_rows)
    image = np.full(shape, 5.0, np.float32)
    image[400:403, 400:403] = MINI.saturation_adu / MINI.frame_time_s + 1
    image[500:503, 500:503] = -11 * MINI.read_noise_e * MINI.gain / MINI.frame_time_s
    files = frame("FLAT_DARK").files
    found = subject.calibrate(ctx, image, np.ones_like(image), files, background=False)
    where = subject_frame(image)
    assert np.isnan(found.image[np.abs(where - 5.0) > 1]).all()
    assert (image > 1e4).sum() == 9  # the input is not changed


def subject_frame(plane: np.ndarray) -> np.ndarray:
    """Calibrated frame of a preprocessed plane, by numpy."""
    return plane[::-1, ::-1][MINI.y0 : MINI.y0 + MINI.ny, MINI.x0 : MINI.x0 + MINI.nx]


def test_frame_without_light_cannot_be_normalised() -> None:
    ctx = context("FLAT_DARK")
    image = np.full((MINI.raw_columns, MINI.raw_rows), -1.0, np.float32)
    with pytest.raises(DataError, match=r"percentile 90 of .* is -.* e-, expected light"):
        subject.calibrate(
            ctx, image, np.ones_like(image), frame("FLAT_DARK").files, background=False, normalise=90.0
        )


def test_empty_background_map_is_an_error() -> None:
    image = np.ones((MINI.ny, MINI.nx), np.float32)
    with pytest.raises(DataError, match=r"0 boxes of \d+ px .* 64 are needed.*BKGRDMAP"):
        scattered_light.subtract_scattered(image, np.zeros(image.shape, np.uint8))


def test_correction_of_background_can_be_switched_off() -> None:
    off = calibrated(context("FLAT_DARK", options=(("backsub", False),)), "files")
    plain = calibrated(context("FLAT_DARK"), "files", background=False)
    np.testing.assert_array_equal(off.image, plain.image)
    assert off.halo == 0.0
