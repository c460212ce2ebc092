"""Quantized factors: one scale a component, decoded exactly as stored."""

from __future__ import annotations

import numpy as np
import pytest
from budget import few
from hypothesis import given
from hypothesis import strategies as st

from lrc.quant.factors import quantize_factor
from lrc.testing.laws import loss_rounding, quadratic_loss
from lrc.testing.strategies import problems, weights
from lrc.testing.tolerance import assert_within

F32 = np.float32
BITS = [2, 3, 4, 5, 6, 7, 8, 16]
#: Squared error of Lloyd-Max on N(0, 1), 1.3 times the published: 40 numbers a component.
NOISE = {2: 0.153, 3: 0.045, 4: 0.0124, 5: 0.0033, 6: 0.00085, 7: 0.00022, 8: 0.000054, 16: 1e-6}


@pytest.mark.parametrize("bits", BITS)
@few(8)
@given(data=st.data())
def test_components_are_independent_and_scale_free(bits, data):
    r, length = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 24))
    components = data.draw(weights(r, length, max_decades=2))
    before = components.copy()
    factor = quantize_factor(components, bits)
    assert (factor.rank, factor.length, factor.bits) == (r, length, bits)
    dense = factor.to_dense()
    assert dense.shape == (r, length)
    assert np.isfinite(dense).all()
    for i in range(r):
        alone = quantize_factor(components[i : i + 1], bits).to_dense()
        np.testing.assert_array_equal(dense[i : i + 1], alone)
    np.testing.assert_array_equal(quantize_factor(components.astype(np.float64), bits).words,
                                  factor.words)  # fmt: skip
    np.testing.assert_array_equal(components, before)


@pytest.mark.parametrize("bits", BITS)
def test_error_is_that_of_the_codebook_whatever_a_components_size(bits):
    rng = np.random.default_rng(6101)
    components = rng.standard_normal((6, 400)) * np.geomspace(1e-2, 1e2, 6)[:, None]
    dense = quantize_factor(components, bits).to_dense()
    relative = np.square(dense - components).sum(axis=1) / np.square(components).sum(axis=1)
    assert relative.max() < NOISE[bits]


def test_sixteen_bits_are_float16():
    components = np.array([[1.0, 1 / 3, -2e-5]])
    factor = quantize_factor(components, 16)
    np.testing.assert_array_equal(factor.words, components.astype(np.float16))
    assert factor.scales.shape == (0,)


@pytest.mark.parametrize("bits", BITS)
def test_what_float16_cannot_hold_is_clipped(bits):
    dense = quantize_factor(np.array([[1e7, -3e6, 1.0]]), bits).to_dense()
    assert np.isfinite(dense).all()
    assert dense[0, 0] > 6e4
    assert dense[0, 1] < 0


@pytest.mark.parametrize("bits", BITS)
def test_zero_and_no_components(bits):
    np.testing.assert_array_equal(quantize_factor(np.zeros((2, 9)), bits).to_dense(), 0.0)
    none = quantize_factor(np.zeros((0, 9)), bits)
    assert none.rank == 0
    assert none.to_dense().shape == (0, 9)


@pytest.mark.parametrize("bits", [2, 4])
@few(4)
@given(data=st.data())
def test_rounding_in_a_metric_is_never_worse_than_to_nearest(bits, data):
    W, M = data.draw(problems(max_m=20, max_n=6, degenerate=data.draw(st.booleans())))
    M = (M / max(np.abs(M).max(), 1e-30)).astype(F32)
    before = W.copy(), M.copy()
    nearest = quantize_factor(W.T, bits).to_dense().T - W
    moved = quantize_factor(W.T, bits, gram=M).to_dense().T - W
    slack = loss_rounding(nearest, W, M)
    assert_within(quadratic_loss(moved, M), quadratic_loss(nearest, M) + slack, "loss")
    np.testing.assert_array_equal(W, before[0])
    np.testing.assert_array_equal(M, before[1])


def test_rounding_in_a_metric_pays():
    """Components of falling energy that overlap, as R's under H do."""
    rng = np.random.default_rng(6113)
    R = rng.standard_normal((16, 40)) + rng.standard_normal(40)
    M = R @ np.diag(np.arange(1, 41) ** -0.7) @ R.T
    Lt = rng.standard_normal((16, 60))

    def loss(**given_gram):
        E = quantize_factor(Lt, 3, **given_gram).to_dense() - Lt
        return quadratic_loss(E.T, M)

    assert loss(gram=M) < 0.75 * loss()
