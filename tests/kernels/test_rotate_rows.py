"""Rows rotated by the compiled kernel equal the plain transform."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrc.testing.tolerance import assert_within, factor_bound, relative_difference
from lrc_kernels.cpu.transform.rotate_rows import rotate_rows
from lrc_kernels.rotate import hadamard_transform

WIDTHS = st.one_of(
    st.integers(1, 80), st.sampled_from([96, 192, 256, 576, 577, 640, 688, 1376, 1536])
)


def case(rows, n, seed):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((rows, n)).astype(np.float32)
    bits = rng.integers(0, 256, -(-n // 8)).astype(np.uint8)
    signs = 1 - 2 * np.unpackbits(bits, count=n, bitorder="little").astype(np.float32)
    return x, bits, signs


@given(rows=st.integers(0, 4), n=WIDTHS, seed=st.integers(3, 2**32))
def test_equals_the_plain_transform(rows, n, seed):
    x, bits, signs = case(rows, n, seed)
    out = np.empty_like(x)
    rotate_rows(x, bits, out, back=False)
    bound = factor_bound(n, np.float32)
    assert_within(relative_difference(out, hadamard_transform(x * signs)), bound)
    rotate_rows(out, bits, out, back=True)
    assert_within(relative_difference(out, x), bound)


@given(rows=st.integers(0, 4), n=WIDTHS, seed=st.integers(3, 2**32))
def test_numbers_in_the_place_of_signs(rows, n, seed):
    x, _, signs = case(rows, n, seed)
    signs *= np.random.default_rng(seed + 1).uniform(0.5, 2, n).astype(np.float32)
    out = np.empty_like(x)
    rotate_rows(x, signs, out, back=False)
    bound = factor_bound(n, np.float32)
    assert_within(relative_difference(out, hadamard_transform(x * signs)), bound)
    back = hadamard_transform(out, transpose=True) * signs
    rotate_rows(out, signs, out, back=True)
    assert_within(relative_difference(out, back), bound)


def test_wrong_arrays_are_refused():
    x, bits, _ = case(2, 24, 11)
    with pytest.raises(ValueError, match="do not fit"):
        rotate_rows(x, bits[:2], np.empty_like(x), back=False)
    with pytest.raises(ValueError, match="float32 rows"):
        rotate_rows(x.astype(np.float64), bits, np.empty_like(x), back=False)
    with pytest.raises(ValueError, match="float32 rows"):
        rotate_rows(x, bits, np.empty((24, 2), np.float32).T, back=False)
