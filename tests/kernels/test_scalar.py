"""Nearest levels and bit packing."""

from __future__ import annotations

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrc_kernels.backend import get_kernels

CPU = get_kernels("cpu")
REFERENCE = get_kernels("reference")
bits_and_codes = st.integers(1, 8).flatmap(
    lambda bits: st.tuples(
        st.just(bits),
        hnp.arrays(
            np.uint8,
            st.tuples(st.integers(0, 5), st.integers(1, 41)),
            elements=st.integers(0, 2**bits - 1),
        ),
    )
)


@given(bits_and_codes)
def test_packing_round_trips_and_equals_the_reference(pair):
    bits, codes = pair
    words = CPU.pack_bits(codes, bits)
    assert words.shape == (codes.shape[0], -(-codes.shape[1] * bits // 8))
    np.testing.assert_array_equal(words, REFERENCE.pack_bits(codes, bits))
    np.testing.assert_array_equal(CPU.unpack_bits(words, bits, codes.shape[1]), codes)
    np.testing.assert_array_equal(REFERENCE.unpack_bits(words, bits, codes.shape[1]), codes)


def test_packing_is_little_endian():
    codes = np.array([[1, 2, 3], [7, 0, 5]], np.uint8)
    np.testing.assert_array_equal(
        CPU.pack_bits(codes, 3), [[0b11_010_001, 0b0], [0b01_000_111, 0b1]]
    )


@pytest.mark.parametrize("bits", [0, 9])
def test_packing_refuses_other_widths(bits):
    with pytest.raises(ValueError, match=f"bits={bits}"):
        CPU.pack_bits(np.zeros((1, 4), np.uint8), bits)
    with pytest.raises(ValueError, match=f"bits={bits}"):
        CPU.unpack_bits(np.zeros((1, 4), np.uint8), bits, 2)


def test_unpacking_refuses_short_rows():
    with pytest.raises(ValueError, match="fewer than 9 codes"):
        CPU.unpack_bits(np.zeros((2, 4), np.uint8), 4, 9)


@given(
    levels=st.lists(st.integers(-64, 64), min_size=1, max_size=16, unique=True).map(sorted),
    quarters=hnp.arrays(np.int16, (3, 5), elements=st.integers(-300, 300)),
)
def test_nearest_level_equals_the_reference_also_at_ties(levels, quarters):
    table = np.array(levels, np.float32)
    z = quarters.astype(np.float32) / 4
    np.testing.assert_array_equal(CPU.nearest_level(z, table), REFERENCE.nearest_level(z, table))


@given(z=hnp.arrays(np.float32, (2, 9), elements=st.floats(-9, 9, width=32)), seed=st.integers(3))
def test_nearest_level_is_nearest(z, seed):
    table = np.sort(np.random.default_rng(seed).standard_normal(31)).astype(np.float32)
    chosen = np.abs(table[CPU.nearest_level(z, table)].astype(np.float64) - z)
    least = np.abs(table.astype(np.float64) - z[..., None]).min(axis=-1)
    np.testing.assert_array_equal(chosen, least)


def test_nearest_level_refuses_tables_that_a_byte_cannot_index():
    with pytest.raises(ValueError, match="not 257"):
        CPU.nearest_level(np.zeros((1, 1), np.float32), np.arange(257, dtype=np.float32))


def test_ties_go_to_the_lower_level():
    table = np.array([-3, -1, 0.5, 1], np.float32)
    z = np.array([[-2, -0.25, 0.75]], np.float32)
    np.testing.assert_array_equal(CPU.nearest_level(z, table), [[0, 1, 2]])
    np.testing.assert_array_equal(REFERENCE.nearest_level(z, table), [[0, 1, 2]])
