"""Block floating point: exponents of least error, exact powers of two, and what a block stores."""

from __future__ import annotations

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrc.codebooks import get_codebook
from lrc.quant import quantizer as encoder

BITS = range(2, 9)
every_width = pytest.mark.parametrize("bits", BITS)


def one_size():
    """Blocks whose weights are alike but for a few: where clipping the few may pay."""
    size = st.floats(0.0, 1.0).map(lambda x: 2.0 ** (-7 * x))
    weight = st.tuples(size, st.sampled_from([-1.0, 1.0])).map(lambda pair: pair[0] * pair[1])
    near = hnp.arrays(np.float64, 16, elements=st.floats(0.8, 1.2))
    return st.tuples(weight, near, st.lists(weight, max_size=3), st.integers(0, 65535)).map(made)


def made(parts):
    base, near, others, signs = parts
    block = base * near * np.where(signs >> np.arange(16) & 1, -1.0, 1.0)
    block[: len(others)] = others
    return block.astype(np.float32)


def plain_error(block, exponent, bits):
    """Squared error of the nearest mantissas under one stored exponent, by the definition."""
    step = 2.0 ** (exponent - 127 - bits)
    mantissas = np.clip(np.rint(block / step), -(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    return float(np.square(mantissas * step - block).sum())


def squared_error(quantizer, Z):
    return np.square(quantizer.decode(quantizer.encode(Z)).astype(np.float64) - Z).sum(axis=1)


@every_width
@given(block=one_size())
def test_no_other_exponent_loses_less(bits, block):
    quantizer = encoder("bfp", bits)
    found = squared_error(quantizer, block[None])[0]
    wide = block.astype(np.float64)
    best = min(plain_error(wide, exponent, bits) for exponent in range(100, 140))
    assert found <= best + 1e-6 * np.square(wide).sum()


@pytest.mark.parametrize(("small", "below"), [(0.1, 0), (0.7, 1), (0.4, 2), (None, 3)])
def test_at_two_bits_a_large_weight_may_be_clipped_to_an_eighth_of_its_exponent(small, below):
    """Its block decides: fifteen weights of one size, or three of 0.56 and twelve of 0.27."""
    quantizer = encoder("bfp", 2)
    others = 15 * [-small] if small else [-0.56, -0.56, -0.56, *(6 * [-0.27, 0.26])]
    block = np.array([1.52, *others], np.float32)
    errors = {e: plain_error(block.astype(np.float64), e, 2) for e in range(120, 135)}
    _, exponents = quantizer.encode(block[None])
    assert min(errors, key=lambda e: (errors[e], e)) == exponents[0, 0] == 130 - below


@every_width
@given(block=one_size(), power=st.integers(-60, 60))
def test_a_power_of_two_moves_exponents_alone(bits, block, power):
    quantizer = encoder("bfp", bits)
    mantissas, exponents = quantizer.encode(block[None])
    moved, others = quantizer.encode(np.ldexp(block[None], power))
    np.testing.assert_array_equal(moved, mantissas)
    if mantissas.any():
        np.testing.assert_array_equal(others.astype(int), exponents.astype(int) + power)
    scaled = quantizer.decode((moved, others))
    np.testing.assert_array_equal(scaled, np.ldexp(quantizer.decode((mantissas, exponents)), power))


@every_width
def test_every_code_is_a_finite_number_that_is_encoded_as_itself(bits):
    """All mantissas under all exponents, as the definition reads; of two codes, the finer."""
    quantizer, book = encoder("bfp", bits), get_codebook("bfp", bits)
    half = 2 ** (bits - 1)
    mantissas = np.resize(np.arange(2 * half), (256, max(2 * half, 16))).astype(np.uint8)
    exponents = np.repeat(np.arange(256, dtype=np.uint8)[:, None], mantissas.shape[1] // 16, 1)
    codes = mantissas.reshape(256, -1, 16), exponents
    found = book.values(quantizer.pack(codes), mantissas.shape[1])
    signed = np.where(mantissas < half, mantissas.astype(int), mantissas.astype(int) - 2 * half)
    expected = np.ldexp(signed.astype(np.float64), np.arange(256)[:, None] - 127 - bits)
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(quantizer.decode(quantizer.encode(found)), found)


@every_width
def test_zero_is_exact_and_has_the_least_exponent(bits):
    mantissas, exponents = encoder("bfp", bits).encode(np.zeros((2, 32), np.float32))
    assert not mantissas.any()
    assert not exponents.any()


def test_sixteen_columns_share_an_exponent():
    """A large weight costs its own block, and no other."""
    quantizer = encoder("bfp", 4)
    Z = np.random.default_rng(71).standard_normal((1, 48)).astype(np.float32)
    spiked = Z.copy()
    spiked[0, 20] = 1000
    (_, calm), (_, found) = quantizer.encode(Z), quantizer.encode(spiked)
    assert found[0, 1] > calm[0, 1] + 7
    np.testing.assert_array_equal(found[0, ::2], calm[0, ::2])


@every_width
def test_the_shared_exponent_costs_half_a_bit(bits):
    book = get_codebook("bfp", bits)
    (mantissas, exponents) = book.layout(5, 40)
    assert mantissas == (np.uint8, (5, 3 * 2 * bits))
    assert exponents == (np.uint8, (5, 3))
    assert book.padding(40) == 8
    assert book.scale_bits == 0.5


@pytest.mark.parametrize(("bits", "gain"), [(2, 0.66), (4, 0.9), (8, 0.9999)])
def test_choosing_exponents_pays_most_at_few_bits(bits, gain):
    """Against the exponent of the largest weight, as the formats have it; on a Gaussian."""
    quantizer = encoder("bfp", bits)
    Z = np.random.default_rng(73).standard_normal((2000, 16)).astype(np.float32)
    top = np.frexp(np.abs(Z).max(axis=1))[1]
    plain = sum(plain_error(z, 128 + e, bits) for z, e in zip(Z.astype(float), top, strict=True))
    assert squared_error(quantizer, Z).sum() < gain * plain
