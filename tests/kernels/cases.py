"""Hypothesis strategies: images as they come from a detector, and as they should not."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

SATURATION = 10768.0  # ADU/s, 60000 ADU in one frame time


@st.composite
def arrays(draw, shapes, *, dtypes=(np.float32, np.float64), empty=True):
    """Draw an array: noise, constant, all NaN, saturated, negative or with holes; any memory layout."""
    shape = tuple(draw(st.integers(0 if empty else 1, n)) for n in shapes)
    dtype = draw(st.sampled_from(dtypes))
    kind = draw(st.sampled_from(["noise", "constant", "nan", "saturated", "negative", "holes", "ties"]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    data = rng.normal(0.0, 10.0, shape)
    if kind == "constant":
        data[...] = draw(st.floats(-1e4, 1e4))
    elif kind == "nan":
        data[...] = np.nan
    elif kind == "saturated":
        data[rng.random(shape) < 0.5] = SATURATION
    elif kind == "negative":
        data = -np.abs(data) - 1.0
    elif kind == "holes":
        data[rng.random(shape) < 0.4] = np.nan
    elif kind == "ties":
        data = np.round(data / 10.0)
    data = data.astype(dtype)
    layout = draw(st.sampled_from(["plain", "strided", "reversed", "fortran"]))
    if layout == "strided":
        wide = np.full((*shape[:-1], 2 * shape[-1]), np.nan, dtype)
        wide[..., ::2] = data
        return wide[..., ::2]
    if layout == "reversed":
        return np.ascontiguousarray(data[..., ::-1])[..., ::-1]
    if layout == "fortran":
        return np.asfortranarray(data)
    return data


def assert_close(found, expected, dtype=np.float64, ulps=4, scale=None):
    """Compare with a tolerance of some units in the last place of `dtype` at the largest value involved."""
    found, expected = np.asarray(found), np.asarray(expected)
    if scale is None:
        good = np.abs(expected[np.isfinite(expected)])
        scale = good.max() if good.size else 1.0
    tolerance = ulps * np.finfo(dtype).eps * max(float(scale), np.finfo(dtype).tiny)
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance)
