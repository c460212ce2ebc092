"""Convolution over time equals its definition; attention to all tokens equals softmax."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrc.nn.attention import full_attention
from lrc.nn.convolution import convolve
from lrc.testing.tolerance import assert_within, relative_difference, sum_bound

seeds = st.integers(0, 2**32 - 1)


@given(seeds, st.integers(1, 12), st.integers(1, 5), st.integers(1, 6), st.sampled_from([1, 2, 3]))
def test_convolution_is_its_definition(seed, moments, n, m, stride):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((2, moments, n)).astype(np.float32)
    weight = rng.standard_normal((m, n, 3)).astype(np.float32)
    bias = rng.standard_normal(m).astype(np.float32)
    got = convolve(x, weight, bias, stride)
    padded = np.pad(x.astype(np.float64), ((0, 0), (1, 1), (0, 0)))
    centres = range(0, moments, stride)
    expected = np.stack(
        [np.einsum("btn,mnt->bm", padded[:, c : c + 3], weight) + bias for c in centres], axis=1
    )
    assert got.shape == (2, -(-moments // stride), m)
    assert np.abs(got - expected).max() < sum_bound(3 * n, np.float32, 3 * n + 1)


@pytest.mark.parametrize(("tokens", "others"), [(1, 7), (5, 3), (140, 300), (300, 1)])
def test_attention_to_all_is_softmax(tokens, others):
    rng = np.random.default_rng(tokens)
    q = rng.standard_normal((2, tokens, 3, 5)).astype(np.float32)
    k, v = rng.standard_normal((2, 2, others, 3, 5)).astype(np.float32)
    got = full_attention(q, k.transpose(0, 2, 1, 3), v.transpose(0, 2, 1, 3))
    scores = np.einsum("bthd,bshd->bhts", q.astype(np.float64), k) / np.sqrt(5)
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    weights /= weights.sum(axis=-1, keepdims=True)
    expected = np.einsum("bhts,bshd->bthd", weights, v).reshape(2, tokens, 15)
    assert_within(relative_difference(got, expected), 1e-6, "attention")
