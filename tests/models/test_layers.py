"""Layers equal their formulas in float64, and keep their laws."""

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings
from scipy.special import erf

import lrc.nn.attention
from lrc.errors import SpecError
from lrc.nn.attention import QUERY_BLOCK, attention
from lrc.nn.cache import KVCache
from lrc.nn.embedding import make_embedding
from lrc.nn.layers import ACTIVATIONS, activate, gated, layer_norm, rms_norm, silu, soft_cap
from lrc.nn.linear import make_linear
from lrc.nn.rope import Rope, apply_rope, rope_tables
from lrc.nn.rope_scaling import Llama3
from lrc.testing.tolerance import assert_within, relative_difference, sum_bound

SEEDS = st.integers(2, 2**32 - 1)


def normal(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@given(SEEDS, st.integers(1, 5), st.integers(1, 70), st.sampled_from([1e-3, 1.0, 1e3]))
def test_rms_norm_is_its_formula(seed, rows, n, scale):
    x, weight = normal(seed, rows, 2, n) * np.float32(scale), normal(seed + 1, n)
    kept = x.copy()
    got = rms_norm(x, weight, 1e-5)
    wide = x.astype(np.float64)
    expected = weight * wide / np.sqrt((wide**2).mean(-1, keepdims=True) + 1e-5)
    assert got.dtype == np.float32
    assert_within(relative_difference(got, expected), sum_bound(n, np.float32))
    np.testing.assert_array_equal(x, kept)


@given(SEEDS)
def test_silu_is_its_formula(seed):
    x = normal(seed, 60) * 6
    expected = x / (1 + np.exp(-x.astype(np.float64)))
    np.testing.assert_allclose(silu(x), expected, rtol=1e-6)
    np.testing.assert_allclose(gated("silu", x, x[::-1]), expected * x[::-1], rtol=1e-6)


def _gelu(x):
    return 0.5 * x * (1 + erf(x / np.sqrt(2)))


def _gelu_tanh(x):
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


DEFINITIONS = {
    "silu": lambda x: x / (1 + np.exp(-x)), "gelu": _gelu, "gelu_tanh": _gelu_tanh,
    "relu": lambda x: np.maximum(x, 0),
    "relu2": lambda x: np.maximum(x, 0) ** 2,
}  # fmt: skip


@pytest.mark.parametrize("kind", ACTIVATIONS)
@given(SEEDS)
def test_activations_are_their_formulas(kind, seed):
    x = normal(seed, 3, 200) * 4
    kept = x.copy()
    expected = DEFINITIONS[kind](x.astype(np.float64))
    # Near -4 a gelu is the small difference of numbers near 1.
    np.testing.assert_allclose(activate(kind, x), expected, rtol=1e-5, atol=2e-6)
    np.testing.assert_allclose(gated(kind, x, x[::-1]), expected * x[::-1], rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(x, kept)


@given(SEEDS, st.integers(1, 40))
def test_layer_norm_is_its_formula(seed, n):
    x, weight, bias = normal(seed, 2, 5, n) + 3, normal(seed + 1, n), normal(seed + 2, n)
    wide = x.astype(np.float64)
    centred = wide - wide.mean(-1, keepdims=True)
    expected = weight * centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5)
    for b, wanted in ((None, expected), (bias, expected + bias)):
        got = layer_norm(x, weight, b, 1e-5)
        assert got.dtype == np.float32
        # A deviation is as exact as the mean, which is 3 and a little.
        np.testing.assert_allclose(got, wanted, rtol=1e-3, atol=1e-3)


@given(SEEDS, st.sampled_from([0.5, 30.0]))
def test_soft_caps_are_their_formula(seed, cap):
    x = normal(seed, 50) * 20
    expected = cap * np.tanh(x.astype(np.float64) / cap)
    np.testing.assert_allclose(soft_cap(x.copy(), cap), expected, rtol=1e-5, atol=1e-6)


def test_silu_is_finite_at_the_ends_of_float32():
    ends = np.array([-3e38, -100, -88.8, 0, 88.8, 3e38], np.float32)
    got = silu(ends)
    assert np.isfinite(got).all()
    assert got[0] == 0
    assert got[-1] == ends[-1]
    assert silu(ends, out=ends) is ends


def plain_attention(q, k, v, window=0, scale=None, cap=0, slopes=None):
    """Softmax attention from its definition, one head and one query at a time, float64."""
    batch, tokens, heads, dim = q.shape
    group, before = heads // k.shape[1], k.shape[2] - tokens
    out = np.zeros((batch, tokens, heads, dim))
    for b, t, h in np.ndindex(batch, tokens, heads):
        end = before + t + 1
        seen = slice(max(0, end - window) if window else 0, end)
        keys = k[b, h // group, seen].astype(np.float64)
        scores = keys @ q[b, t, h] * (1 / np.sqrt(dim) if scale is None else scale)
        scores = cap * np.tanh(scores / cap) if cap else scores
        if slopes is not None:
            scores = scores - slopes[h] * np.arange(len(keys))[::-1]
        weights = np.exp(scores)
        out[b, t, h] = weights / weights.sum() @ v[b, h // group, seen]
    return out.reshape(batch, tokens, heads * dim)


@given(
    SEEDS,
    st.integers(1, 2),
    st.integers(1, 3),
    st.integers(1, 3),
    st.sampled_from([2, 6, 8]),
    st.integers(1, 9),
    st.integers(0, 9),
    st.integers(0, 12),
    st.sampled_from([(None, 0), (0.3, 0), (None, 2.0), (1.0, 0.5)]),
    st.booleans(),
)
def test_attention_is_its_definition(
    seed, batch, kv_heads, group, dim, tokens, before, window, scores, leans
):
    scale, cap = scores
    slopes = np.abs(normal(seed + 3, kv_heads * group)) if leans else None
    q = normal(seed, batch, tokens, kv_heads * group, dim)
    k = normal(seed + 1, batch, kv_heads, before + tokens, dim)
    v = normal(seed + 2, batch, before + tokens, kv_heads, dim).transpose(0, 2, 1, 3)
    kept = q.copy()
    got = attention(q, k, v, window, scale=scale, cap=cap, slopes=slopes)
    expected = plain_attention(q, k, v, window, scale, cap, slopes)
    assert got.dtype == np.float32
    assert_within(relative_difference(got, expected), 4 * sum_bound(dim, np.float32))
    np.testing.assert_array_equal(q, kept)


@pytest.mark.parametrize("window", [0, 1, QUERY_BLOCK, QUERY_BLOCK + 7])
@pytest.mark.parametrize("tokens", [QUERY_BLOCK - 1, QUERY_BLOCK, QUERY_BLOCK + 1, 300])
def test_attention_over_several_query_blocks(tokens, window):
    q, k = normal(5, 1, tokens, 2, 4), normal(6, 1, 1, tokens + 3, 4)
    v = normal(7, 1, 1, tokens + 3, 4)
    expected, found = plain_attention(q, k, v, window), attention(q, k, v, window)
    assert_within(relative_difference(found, expected), 4 * sum_bound(4, np.float32))


def test_attention_over_more_keys_than_scores_fit(monkeypatch):
    q, k, v = normal(5, 1, 9, 4, 4), normal(6, 1, 2, 12, 4), normal(7, 1, 2, 12, 4)
    whole = attention(q, k, v)
    for limit in (1, 4 * 12 * 2):
        monkeypatch.setattr(lrc.nn.attention, "MAX_SCORES", limit)
        assert_within(relative_difference(attention(q, k, v), whole), sum_bound(12, np.float32))


def test_attention_survives_large_scores():
    q, v = normal(8, 1, 6, 1, 4) * 1000, normal(9, 1, 1, 6, 4)
    got = attention(q, q.transpose(0, 2, 1, 3), v)
    assert np.isfinite(got).all()
    np.testing.assert_allclose(got[0, 0], v[0, 0, 0], rtol=1e-6)


@given(SEEDS, st.integers(0, 200), st.integers(0, 200), st.integers(0, 50))
def test_rope_products_depend_on_the_distance_alone(seed, i, j, shift):
    rope = Rope(8, theta=100.0)
    q, k = normal(seed, 1, 1, 1, 8), normal(seed + 1, 1, 1, 1, 8)

    def product(a, b):
        turned = [apply_rope(x, *rope_tables(rope, np.array([p]))) for x, p in ((q, a), (k, b))]
        return float((turned[0] * turned[1]).sum())

    size = float(np.linalg.norm(q) * np.linalg.norm(k))
    bound = size * sum_bound(8, np.float32, magnitude=max(i, j, 1) + shift)
    assert_within(abs(product(i, j) - product(i + shift, j + shift)), bound)


@given(SEEDS, st.integers(0, 5000))
def test_rope_keeps_norms_and_position_zero(seed, position):
    rope = Rope(12)
    x = normal(seed, 2, 2, 3, 12)
    turned = apply_rope(x, *rope_tables(rope, np.array([0, position])))
    np.testing.assert_array_equal(turned[:, 0], x[:, 0])
    assert_within(
        relative_difference(np.linalg.norm(turned, axis=-1), np.linalg.norm(x, axis=-1)),
        sum_bound(12, np.float32),
    )


def test_llama3_scaling_keeps_high_and_divides_low_frequencies():
    plain = Rope(64, 500000.0).frequencies()
    scaled = Rope(64, 500000.0, Llama3(8.0, 1.0, 4.0, 8192)).frequencies()
    wavelength = 2 * np.pi / plain
    np.testing.assert_array_equal(scaled[wavelength < 2048], plain[wavelength < 2048])
    low = wavelength > 8192
    np.testing.assert_allclose(scaled[low], plain[low] / 8, rtol=1e-6)
    between = ~low & (wavelength > 2048)
    assert between.any()
    assert (scaled[between] < plain[between]).all()
    assert (scaled[between] > plain[between] / 8).all()


def test_rope_tables_of_any_length_agree():
    rope = Rope(16)
    short = rope_tables(rope, np.arange(10, 20))
    long = rope_tables(rope, np.arange(4000))
    for a, b in zip(short, long, strict=True):
        np.testing.assert_array_equal(a, b[10:20])


@given(SEEDS, st.integers(1, 6), st.integers(1, 6), st.booleans())
def test_dense_linear_is_a_product(seed, m, n, with_bias):
    weight, x = normal(seed, m, n), normal(seed + 1, 2, 3, n)
    bias = normal(seed + 2, m) if with_bias else None
    layer = make_linear(weight, bias)
    expected = x.astype(np.float64) @ weight.T + (0 if bias is None else bias)
    assert layer.shape == (m, n)
    np.testing.assert_allclose(layer(x), expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(layer(x[0, 0]), expected[0, 0], rtol=1e-5, atol=1e-5)


def test_a_layer_gives_a_fresh_array():
    weight = normal(3, 4, 4)
    rows = make_embedding(weight).rows(np.array([[1, 1]]))
    rows += 1
    np.testing.assert_array_equal(make_embedding(weight).rows(np.array([1])), normal(3, 4, 4)[[1]])


@settings(max_examples=20)
@given(st.lists(st.integers(1, 4), min_size=1, max_size=5))
def test_cache_gives_back_everything_in_order(sizes):
    total = sum(sizes)
    cache = KVCache(layers=2, batch=2, kv_heads=3, max_length=total, head_dim=4)
    k, v = normal(11, 2, total, 3, 4), normal(12, 2, total, 3, 4)
    start = 0
    for size in sizes:
        part = slice(start, start + size)
        for layer in range(2):
            keys, values = cache.append(layer, k[:, part], v[:, part])
        cache.advance(size)
        start += size
        np.testing.assert_array_equal(keys, k[:, :start].transpose(0, 2, 1, 3))
        np.testing.assert_array_equal(values, v[:, :start].transpose(0, 2, 1, 3))
    with pytest.raises(SpecError, match=f"holds {total} tokens and {total + 1} are needed"):
        cache.append(0, k[:, :1], v[:, :1])
