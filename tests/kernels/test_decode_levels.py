"""Decoded rows of scalar codes equal plain NumPy."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrc_kernels.backend import get_kernels
from lrc_kernels.cpu.codes.decode_levels import decode_rows_scalar

REFERENCE = get_kernels("reference")
every_width = pytest.mark.parametrize("bits", range(2, 9))
cases = {
    "rows": st.integers(0, 4),
    "n": st.integers(1, 300),
    "group": st.sampled_from([0, 5, 16, 64, 128]),
    "shared": st.booleans(),
    "seed": st.integers(3, 2**32),
}


def random_case(bits, rows, n, group, shared, seed):
    """Codes, their words, scales, the scale of each column, and room for the result."""
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, 1 << bits, (rows, n)).astype(np.uint8)
    words = REFERENCE.pack_bits(codes, bits)
    groups = -(-n // group) if group else 1
    scales = rng.uniform(0.5, 2, (1 if shared else rows, groups)).astype(np.float32)
    wide = np.repeat(scales, group or n, axis=1)[:, :n]
    return codes, words, scales, wide, np.full((rows, n), np.nan, np.float32)


@every_width
@given(**cases)
def test_codes_themselves(bits, rows, n, group, shared, seed):
    codes, words, scales, wide, out = random_case(bits, rows, n, group, shared, seed)
    decode_rows_scalar(words, bits, scales, group, out, centre=1.5)
    np.testing.assert_array_equal(out, (codes - np.float32(1.5)) * wide)


@every_width
@given(**cases)
def test_levels(bits, rows, n, group, shared, seed):
    codes, words, scales, wide, out = random_case(bits, rows, n, group, shared, seed)
    levels = np.random.default_rng(bits).standard_normal(1 << bits).astype(np.float32)
    decode_rows_scalar(words, bits, scales, group, out, levels=levels)
    np.testing.assert_array_equal(out, levels[codes] * wide)


@pytest.mark.parametrize("bits", [2, 3, 4])
@given(**cases)
def test_entries(bits, rows, n, group, shared, seed):
    codes, words, scales, wide, out = random_case(bits, rows, n, group, shared, seed)
    entries = np.random.default_rng(bits).integers(0, 256, 16).astype(np.uint8)
    decode_rows_scalar(
        words, bits, scales, group, out, entries=np.tile(entries, 4), unit=0.5, centre=128
    )
    np.testing.assert_array_equal(out, (entries[codes] - np.float32(128)) * np.float32(0.5) * wide)


def test_wrong_arrays_are_refused():
    words, scales = np.zeros((2, 8), np.uint8), np.ones((2, 1), np.float32)
    out = np.zeros((2, 16), np.float32)
    for wrong in (
        {"words": words[:, :7]},
        {"bits": 3},
        {"group_size": 8},
        {"scales": scales.astype(np.float64)},
        {"out": out[:, ::2]},
        {"entries": np.zeros(16, np.uint8)},
        {"levels": np.zeros(15, np.float32)},
    ):
        right = {"words": words, "bits": 4, "scales": scales, "group_size": 0, "out": out}
        with pytest.raises(ValueError, match="not"):
            decode_rows_scalar(**(right | wrong))
