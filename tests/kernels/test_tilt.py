"""Displacements of rows: against a plain fit, against light whose place is known, and on empty rows."""

from __future__ import annotations

import numpy as np
import pytest
from apero_kernels import fine, tilt
from hypothesis import given, settings

from tests.kernels.cases import arrays


def comb(x, sigma=1.0):
    """Lines of changing distance, sampled at pixel centres."""
    centres = np.cumsum(np.linspace(6.0, 11.0, 80))
    return 50.0 + 1000.0 * np.exp(-0.5 * ((x[..., None] - centres) / sigma) ** 2).sum(axis=-1)


def slit(shifts, columns=400):
    """Rows that show at x what the template shows at x + shift, and the template."""
    x = np.arange(columns, dtype=float)
    rows = np.stack([(0.2 + 0.1 * k) * comb(x + s) + 7.0 for k, s in enumerate(shifts)])
    return rows, comb(x)[None]


def naive(row, var, template, first, end):
    x = np.arange(template.size)
    slope = np.full(template.size, np.nan)
    ramp = fine.derivative_weights()
    inner = slice(4, -4)
    slope[inner] = sum(
        w * (np.roll(template, -k) - np.roll(template, k))[inner] for k, w in enumerate(ramp, 1)
    )
    good = np.isfinite(row + template + slope) & (var > 0) & (x >= first) & (x < end)
    if np.count_nonzero(good) < 12:
        return np.nan, np.nan, np.nan
    root = 1 / np.sqrt(var[good])
    design = np.stack([template[good], np.ones(good.sum()), slope[good]], axis=1) * root[:, None]
    a, _, moved = np.linalg.lstsq(design, row[good] * root, rcond=None)[0]
    error = np.sqrt(np.linalg.inv(design.T @ design)[2, 2]) / a
    weight = (slope[good] * root) ** 2
    return moved / a, error, np.sum(weight * x[good]) / weight.sum()


def test_shifts_are_those_of_a_plain_fit():
    rng = np.random.default_rng(3)
    rows, template = slit([0.0, 0.2, -0.3])
    rows += rng.normal(0, 3, rows.shape)
    rows[rng.random(rows.shape) < 0.05] = np.nan
    template[0, 200] = np.nan
    var = rng.uniform(5, 15, rows.shape)
    edges = np.array([0, 130, 250, 400])
    number = np.arange(3)
    shifts, errors, places = tilt.row_shifts(rows, var, number, np.zeros(3, np.int64), template, edges)
    for i in number:
        for s in range(3):
            expected = naive(rows[i], var[i], template[0], edges[s], edges[s + 1])
            np.testing.assert_allclose([shifts[i, s], errors[i, s], places[i, s]], expected, rtol=1e-8)


@pytest.mark.parametrize("shift", [-0.1, 0.03, 0.1])
def test_sense_and_size(shift):
    """A tenth of a pixel is found to 1 per cent of the shift and the derivative's 1 per cent."""
    rows, template = slit([shift] * 4)
    found, _, _ = tilt.row_shifts(
        rows, np.ones_like(rows), np.arange(4), np.zeros(4, np.int64), template, np.array([0, 400])
    )
    np.testing.assert_allclose(found, shift, rtol=0.03)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_errors_are_right(seed):
    rng = np.random.default_rng(seed)
    rows, template = slit([0.0] * 20)
    var = 4.0 + rows
    rows = rows + np.sqrt(var) * rng.standard_normal(rows.shape)
    found, errors, _ = tilt.row_shifts(
        rows, var, np.arange(20), np.zeros(20, np.int64), template, np.arange(0, 401, 50)
    )
    assert np.std(found / errors) == pytest.approx(1.0, abs=0.2)


def test_what_holds_nothing_is_nan():
    rows, template = slit([0.0, 0.0, 0.0])
    var = np.ones_like(rows)
    rows[0] = np.nan
    rows[1] = -rows[1]
    edges = np.array([0, 200, 400])
    found, errors, places = tilt.row_shifts(
        rows, var, np.arange(-1, 4), np.zeros(5, np.int64), template, edges
    )
    assert np.isnan(found[[0, 1, 2, 4]]).all() and np.isfinite(found[3]).all()
    assert (np.isnan(found) == np.isnan(errors)).all() and (np.isnan(found) == np.isnan(places)).all()
    flat = np.full_like(template, 5.0)
    found, _, _ = tilt.row_shifts(rows, var, np.arange(3), np.zeros(3, np.int64), flat, edges)
    assert np.isnan(found).all()


@settings(max_examples=40, deadline=None)
@given(image=arrays((6, 60), empty=False))
def test_any_image_gives_a_number_or_nan(image):
    rows = np.arange(image.shape[0])
    template = comb(np.arange(image.shape[1], dtype=float))[None]
    edges = np.array([0, image.shape[1]])
    found, errors, _ = tilt.row_shifts(
        image, np.ones_like(image), rows, np.zeros(rows.size, np.int64), template, edges
    )
    assert (np.isfinite(found) == np.isfinite(errors)).all()


def test_wrong_arguments_are_refused():
    rows, template = slit([0.0])
    good = (rows, np.ones_like(rows), np.array([0]), np.array([0]), template)
    with pytest.raises(ValueError, match="edges"):
        tilt.row_shifts(*good, np.array([10, 5]))
    with pytest.raises(ValueError, match="which: 1"):
        tilt.row_shifts(*good[:3], np.array([1]), template, np.array([0, 400]))
    with pytest.raises(ValueError, match="templates: 300 columns"):
        tilt.row_shifts(*good[:4], template[:, :300].copy(), np.array([0, 300]))
