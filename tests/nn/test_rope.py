"""Rotary positions: laws of the rotation, of every scaling, whole heads or parts, both pairings."""

from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from lrc.nn.rope import Rope, apply_rope, rope_tables
from lrc.nn.rope_scaling import (
    Dynamic,
    Interpolation,
    Llama3,
    LongRope,
    Scaling,
    Unscaled,
    Yarn,
    longrope_attention,
    yarn_attention,
)
from lrc.testing.tolerance import assert_within, relative_difference, sum_bound

SEEDS = st.integers(0, 2**32 - 1)
#: Rotated dims of a head, and those after them.
WIDTHS, PLAIN = st.sampled_from([2, 4, 6, 12]), st.integers(0, 5)
#: Those that depend on the length change at 16 positions.
KINDS = ["default", "linear", "dynamic", "yarn", "longrope", "llama3"]
SWITCH = 16


def scaling(kind: str, dim: int) -> Scaling:
    """One scaling of each kind."""
    short = tuple(1.0 + 0.1 * j for j in range(dim // 2))
    long = tuple(2.0 + 0.5 * j for j in range(dim // 2))
    scalings: dict[str, Scaling] = {
        "default": Unscaled(),
        "linear": Interpolation(3.0),
        "dynamic": Dynamic(2.0, SWITCH),
        "yarn": Yarn(4.0, 64, 1.25, beta_fast=8.0),
        "longrope": LongRope(short, long, SWITCH, 1.5),
        "llama3": Llama3(8.0, 1.0, 4.0, 32),
    }
    return scalings[kind]


@st.composite
def ropes(draw: st.DrawFn) -> Rope:
    kind = draw(st.sampled_from(KINDS))
    dim = draw(WIDTHS.filter(lambda dim: dim > 2 or kind != "dynamic"))
    return Rope(dim, draw(st.sampled_from([50.0, 1e4])), scaling(kind, dim), draw(st.booleans()))


def normal(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def rotated(x: np.ndarray, rope: Rope, *positions: int, length: int | None = None) -> np.ndarray:
    tables = rope_tables(rope, np.array(positions), length)
    return apply_rope(x, *tables, rope.interleaved)


def reference(x: np.ndarray, rope: Rope, positions: list[int], length: int) -> np.ndarray:
    """Each pair as a complex number, times that of its angle, in float64."""
    y = x.astype(np.float64)
    for t, position in enumerate(positions):
        for j, frequency in enumerate(rope.frequencies(length)):
            one, other = (2 * j, 2 * j + 1) if rope.interleaved else (j, j + rope.head_dim // 2)
            angle = np.exp(1j * float(np.float32(position) * frequency))
            product = (x[:, t, :, one] + 1j * x[:, t, :, other]) * angle
            y[:, t, :, one] = product.real * rope.scaling.attention_factor
            y[:, t, :, other] = product.imag * rope.scaling.attention_factor
    return y


@given(ropes(), PLAIN, SEEDS, st.lists(st.integers(0, 300), min_size=1, max_size=4))
def test_the_rotation_is_a_product_of_complex_numbers(rope, plain, seed, positions):
    x = normal(seed, 2, len(positions), 3, rope.head_dim + plain)
    kept = x.copy()
    got = rotated(x, rope, *positions)
    np.testing.assert_array_equal(x, kept)
    expected = reference(x, rope, positions, max(positions) + 1)
    # The angle, rounded at so many radians, is the same in both; cosine and sine are not.
    assert_within(relative_difference(got, expected), sum_bound(2, np.float32))


@given(ropes(), PLAIN, SEEDS, st.integers(0, 5000))
def test_norms_are_kept_up_to_the_attention_factor(rope, plain, seed, position):
    x = normal(seed, 1, 1, 2, rope.head_dim + plain)
    got, dim = rotated(x, rope, position), rope.head_dim
    expected = np.linalg.norm(x[..., :dim], axis=-1) * rope.scaling.attention_factor
    found = np.linalg.norm(got[..., :dim], axis=-1)
    assert_within(relative_difference(found, expected), sum_bound(dim, np.float32))
    np.testing.assert_array_equal(got[..., dim:], x[..., dim:])


@given(ropes(), SEEDS, st.integers(0, 200), st.integers(0, 200), st.integers(0, 50))
def test_products_depend_on_the_distance_alone(rope, seed, i, j, shift):
    q, k = normal(seed, 1, 1, 1, rope.head_dim), normal(seed + 1, 1, 1, 1, rope.head_dim)

    def product(a: int, b: int) -> float:
        return float((rotated(q, rope, a, length=256) * rotated(k, rope, b, length=256)).sum())

    size = float(np.linalg.norm(q) * np.linalg.norm(k)) * rope.scaling.attention_factor**2
    bound = size * sum_bound(rope.head_dim, np.float32, magnitude=max(i, j, 1) + shift)
    assert_within(abs(product(i, j) - product(i + shift, j + shift)), bound)


@given(ropes(), PLAIN, SEEDS, st.integers(0, 300))
def test_interleaved_pairs_are_half_split_ones_in_another_order(rope, plain, seed, position):
    dim = rope.head_dim
    order = np.r_[np.arange(0, dim, 2), np.arange(1, dim, 2), np.arange(dim, dim + plain)]
    halves, pairs = (Rope(dim, rope.theta, rope.scaling, how) for how in (False, True))
    x = normal(seed, 1, 1, 2, dim + plain)
    found = rotated(x, pairs, position)[..., order]
    np.testing.assert_array_equal(found, rotated(x[..., order], halves, position))


@given(ropes(), st.integers(1, 40), st.integers(1, 40))
def test_lengths_that_are_the_same_have_the_same_frequencies(rope, a, b):
    same = rope.scaling.same_as(a) == rope.scaling.same_as(b)
    assert same == np.array_equal(rope.frequencies(a), rope.frequencies(b))
    np.testing.assert_array_equal(rope.frequencies(a), rope.frequencies(rope.scaling.same_as(a)))


@pytest.mark.parametrize("kind", KINDS)
def test_a_cache_rotates_as_the_whole_text_does(kind):
    """Token by token with the length of the cache, or all at once with the same length."""
    rope = Rope(8, 1e4, scaling(kind, 8))
    x = normal(3, 1, 3 * SWITCH, 1, 8)
    for length in (SWITCH, SWITCH + 1, 3 * SWITCH):
        whole = rotated(x[:, :length], rope, *range(length), length=length)
        np.testing.assert_array_equal(whole, rotated(x[:, :length], rope, *range(length)))
        for t in range(length):
            one = rotated(x[:, t : t + 1], rope, t, length=length)
            np.testing.assert_array_equal(one, whole[:, t : t + 1])


def test_which_scalings_depend_on_the_length():
    of = {kind: Rope(8, 1e4, scaling(kind, 8)) for kind in KINDS}
    changed = {
        kind
        for kind, rope in of.items()
        if not np.array_equal(rope.frequencies(SWITCH), rope.frequencies(SWITCH + 1))
    }
    assert changed == {"dynamic", "longrope"}


def test_dynamic_divides_the_lowest_frequency_as_it_says():
    plain, scaled = Rope(8).frequencies(), Rope(8, 1e4, Dynamic(2.0, 16)).frequencies(40)
    assert scaled[0] == plain[0]
    assert_within(abs(scaled[-1] * 4.0 / plain[-1] - 1), sum_bound(8, np.float32))


def test_yarn_keeps_high_and_divides_low_frequencies():
    plain = Rope(64).frequencies()
    for truncate in (False, True):
        scaled = Rope(64, 1e4, Yarn(8.0, 4096, truncate=truncate)).frequencies()
        rotations = 4096 * plain / (2 * np.pi)
        kept, divided = rotations > 32 * 1.4, rotations < 1 / 1.4
        np.testing.assert_array_equal(scaled[kept], plain[kept])
        np.testing.assert_allclose(scaled[divided], plain[divided] / 8, rtol=1e-6)
        between = (rotations < 32 / 1.4) & (rotations > 1.4)
        assert between.any()
        assert (scaled[between] < plain[between]).all()
        assert (scaled[between] > plain[between] / 8).all()


def test_attention_factors_are_their_formulas():
    assert yarn_attention(np.e) == pytest.approx(1.1)
    assert yarn_attention(0.5) == yarn_attention(1.0) == 1.0
    assert yarn_attention(np.e, 2.0) == pytest.approx(1.1)
    assert yarn_attention(np.e, 2.0, 1.0) == pytest.approx(1.2 / 1.1)
    assert yarn_attention(np.e, 0.7, 0.7) == 1.0
    assert longrope_attention(16.0, 4096) == pytest.approx(np.sqrt(1 + 4 / 12))
    assert longrope_attention(1.0, 4096) == 1.0
