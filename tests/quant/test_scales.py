"""Decode-side scales: stored in float16, and the best of what is tried."""

from __future__ import annotations

import numpy as np
import pytest
from budget import few
from codebook_cases import SCALED
from hypothesis import given
from hypothesis import strategies as st

from lrc.quant import quantizer as encoder
from lrc.quant.ldlq import Grid, round_to_nearest
from lrc.quant.scales import as_stored, group_scales, matrix_scale, spread
from lrc.testing.strategies import shapes, weights
from lrc.testing.tolerance import assert_within, factor_bound

F32 = np.float32
every = pytest.mark.parametrize("key", SCALED, ids=str)
scalar = pytest.mark.parametrize("key", [("uniform", 2), ("uniform", 8), ("lloyd-max", 3)], ids=str)


def squared_error(W, scale, quantizer, group_size):
    grid = Grid(quantizer, spread(scale, group_size, W.shape[1]))
    error = W.astype(np.float64) - round_to_nearest(W, grid).values
    return np.square(error).sum(axis=1)


@given(st.lists(st.floats(0, 1e9, allow_nan=False), min_size=1, max_size=8))
def test_stored_scales_survive_float16_and_never_vanish_or_overflow(values):
    scale = np.array([values])
    stored = as_stored(scale)
    assert stored.dtype == F32
    assert np.isfinite(stored).all()
    np.testing.assert_array_equal(stored.astype(np.float16).astype(F32), stored)
    np.testing.assert_array_equal(as_stored(stored), stored)
    np.testing.assert_array_equal(stored > 0, scale > 0)
    middle = (scale > 1e-4) & (scale < 6e4)
    np.testing.assert_allclose(stored[middle], scale[middle], rtol=2**-11)


def test_negative_scales_are_dropped():
    np.testing.assert_array_equal(as_stored(np.array([[-1.0, 2.0]])), [[0.0, 2.0]])


@every
def test_matrix_scale_is_the_rms_rule(key):
    quantizer = encoder(*key)
    W = np.random.default_rng(6011).standard_normal((40, 50)).astype(F32) * F32(3)
    scale = matrix_scale(W, quantizer)
    rms = np.sqrt(np.square(W, dtype=np.float64).mean())
    np.testing.assert_array_equal(scale, as_stored(np.array([[rms / quantizer.input_scale]])))
    np.testing.assert_array_equal(matrix_scale(np.zeros((2, 3), F32), quantizer), [[0.0]])


@every
@few(4)
@given(data=st.data())
def test_row_scales_are_never_worse_than_the_rms_rule(key, data):
    quantizer = encoder(*key)
    W = data.draw(shapes(6, 24).flatmap(lambda s: weights(*s)))
    before = W.copy()
    scale = group_scales(W, quantizer, 0)
    assert scale.shape == (len(W), 1)
    np.testing.assert_array_equal(as_stored(scale), scale)
    rms = np.sqrt(np.square(W, dtype=np.float64).mean(axis=1, keepdims=True))
    rule = as_stored(rms / quantizer.input_scale)
    mine, theirs = (squared_error(W, s, quantizer, 0) for s in (scale, rule))
    size = np.square(W, dtype=np.float64).sum(axis=1)
    worst = float((mine - theirs - factor_bound(W.shape[1], F32) * size).max())
    assert_within(worst, 0.0, "error above the RMS rule's")
    np.testing.assert_array_equal(W, before)


@scalar
@few(2)
@given(data=st.data(), group_size=st.integers(1, 30))
def test_each_group_is_treated_as_a_row_of_its_own(key, data, group_size):
    quantizer = encoder(*key)
    W = data.draw(shapes(4, 24).flatmap(lambda s: weights(*s)))
    scale = group_scales(W, quantizer, group_size)
    n = W.shape[1]
    assert scale.shape == (len(W), -(-n // group_size))
    for g, a in enumerate(range(0, n, group_size)):
        alone = group_scales(np.ascontiguousarray(W[:, a : a + group_size]), quantizer, 0)
        np.testing.assert_array_equal(scale[:, g : g + 1], alone)
    wide = spread(scale, group_size, n)
    for column in range(n if scale.shape[1] > 1 else 0):
        np.testing.assert_array_equal(wide[:, column], scale[:, column // group_size])


def test_spread_leaves_one_column_alone():
    scale = np.ones((3, 1), F32)
    assert spread(scale, 0, 10) is scale
    assert spread(scale, 16, 10) is scale


@scalar
def test_a_spike_in_a_group_gets_the_range_it_needs(key):
    """Eight bits reach the largest magnitude; two bits had better not."""
    quantizer = encoder(*key)
    W = np.full((1, 64), 0.01, F32)
    W[0, 5] = 10.0
    error = squared_error(W, group_scales(W, quantizer, 0), quantizer, 0)
    assert error[0] < np.square(W, dtype=np.float64).sum()


@pytest.mark.parametrize("scale", [1e-30, 1e-12, 1e12, 1e30])
@every
def test_extreme_magnitudes_stay_finite(key, scale):
    W = np.random.default_rng(6013).standard_normal((2, 16)).astype(F32) * F32(scale)
    quantizer = encoder(*key)
    for found in (group_scales(W, quantizer, 0), matrix_scale(W, quantizer)):
        assert np.isfinite(found).all()
        assert np.isfinite(round_to_nearest(W, Grid(quantizer, found)).values).all()
