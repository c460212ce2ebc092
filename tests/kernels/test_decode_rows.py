"""Decoded rows of lattice codes equal the reference's points."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrc_kernels.backend import get_kernels
from lrc_kernels.cpu.decode_rows import decode_rows_e8p

REFERENCE = get_kernels("reference")


@given(
    rows=st.integers(0, 4), n=st.integers(1, 600), shared=st.booleans(), seed=st.integers(3, 2**32)
)
def test_equals_the_points(rows, n, shared, seed):
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, 1 << 16, (rows, -(-n // 8))).astype(np.uint16)
    scales = rng.uniform(0.5, 2, 1 if shared else rows).astype(np.float32)
    out = np.full((rows, n), np.nan, np.float32)
    decode_rows_e8p(codes, scales, n, out)
    points = REFERENCE.decode_e8p(codes.reshape(-1)).reshape(rows, 8 * codes.shape[1])[:, :n]
    np.testing.assert_array_equal(out, points * scales[:, None])


def test_every_point():
    codes = np.arange(65536, dtype=np.uint16)[:, None]
    out = np.empty((65536, 8), np.float32)
    decode_rows_e8p(codes, np.ones(1, np.float32), 8, out)
    np.testing.assert_array_equal(out, REFERENCE.decode_e8p(codes[:, 0]))


def test_wrong_arrays_are_refused():
    codes = np.zeros((2, 3), np.uint16)
    with pytest.raises(ValueError, match="for 25"):
        decode_rows_e8p(codes, np.ones(1, np.float32), 25, np.empty((2, 25), np.float32))
