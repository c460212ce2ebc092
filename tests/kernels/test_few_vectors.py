"""A few vectors times packed scalar codes: what the decoded rows give, each by itself."""

import numpy as np
import pytest
from budget import few
from hypothesis import given
from hypothesis import strategies as st

from lrc.testing.tolerance import sum_bound
from lrc_kernels.backend import get_kernels
from lrc_kernels.cpu.codes.decode_levels import decode_rows_scalar
from lrc_kernels.cpu.dot.few_vectors import multiply_few

REFERENCE = get_kernels("reference")


def case(bits, rows, n, group, vectors, seed):
    rng = np.random.default_rng(seed)
    words = REFERENCE.pack_bits(rng.integers(0, 1 << bits, (rows, n)).astype(np.uint8), bits)
    groups = -(-n // group) if group else 1
    scales = rng.uniform(0.5, 2, (rows, groups)).astype(np.float32)
    return words, scales, rng.standard_normal((vectors, n)).astype(np.float32)


@pytest.mark.parametrize("bits", [2, 3, 4, 6, 8])
@pytest.mark.parametrize("is_table", [True, False])
@given(
    rows=st.integers(0, 5),
    n=st.integers(1, 200),
    group=st.sampled_from([0, 16, 64]),
    vectors=st.integers(1, 10),
    seed=st.integers(3, 2**32),
)
@few(2)
def test_products_are_those_of_the_decoded_rows(bits, is_table, rows, n, group, vectors, seed):
    words, scales, x = case(bits, rows, n, group, vectors, seed)
    levels = np.random.default_rng(bits).standard_normal(1 << bits).astype(np.float32)
    options = {"levels": levels} if is_table else {"unit": 0.25, "centre": (2**bits - 1) / 2}
    decoded = np.empty((rows, n), np.float32)
    decode_rows_scalar(words, bits, scales, group, decoded, **options)
    apart = np.full((vectors, rows + 3), np.nan, np.float32)
    out = apart[:, 1 : rows + 1]
    multiply_few(words, bits, scales, group, x, out, **options)
    exact = x.astype(np.float64) @ decoded.T.astype(np.float64)
    magnitude = np.abs(x.astype(np.float64)) @ np.abs(decoded.T.astype(np.float64))
    assert (np.abs(out - exact) <= sum_bound(n, np.float32) * magnitude).all()
    assert np.isnan(apart[:, [0, -2, -1]]).all()
    alone = np.empty((1, rows), np.float32)
    for t in range(vectors):
        multiply_few(words, bits, scales, group, x[t : t + 1], alone, **options)
        np.testing.assert_array_equal(alone[0], out[t])


def test_wrong_arrays_are_refused():
    words, scales, x = case(4, 6, 32, 0, 3, 1)
    for wrong in (np.empty((3, 5), np.float32), np.empty((3, 6)), np.empty((6, 3), np.float32).T):
        with pytest.raises(ValueError, match="do not fit"):
            multiply_few(words, 4, scales, 0, x, wrong)
    with pytest.raises(ValueError, match="do not fit"):
        multiply_few(words, 4, scales, 0, x[:, :20].copy(), np.empty((3, 6), np.float32))
