"""Decoded rows of lattice codes equal the reference's points."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrc_kernels.backend import get_kernels
from lrc_kernels.cpu.codes.decode_rows import decode_rows_lattice

REFERENCE = get_kernels("reference")
cases = {"rows": st.integers(0, 4), "n": st.integers(1, 600), "seed": st.integers(3, 2**32)}


def points_of(codes, n):
    decode = REFERENCE.decode_e81b if codes.dtype == np.uint8 else REFERENCE.decode_e8p
    return decode(codes.reshape(-1)).reshape(codes.shape[0], 8 * codes.shape[1])[:, :n]


@given(shared=st.booleans(), **cases)
def test_equals_the_points(rows, n, shared, seed):
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, 1 << 16, (rows, -(-n // 8))).astype(np.uint16)
    scales = rng.uniform(0.5, 2, 1 if shared else rows).astype(np.float32)
    out = np.full((rows, n), np.nan, np.float32)
    decode_rows_lattice(codes, scales, n, out)
    np.testing.assert_array_equal(out, points_of(codes, n) * scales[:, None])


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
@given(**cases)
def test_two_stages(kind, rows, n, seed):
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, 1 << 16, (rows, -(-n // 8))).astype(np.uint16)
    second = rng.integers(0, 1 << 16, codes.shape).astype(kind)
    scales = rng.uniform(0.5, 2, rows).astype(np.float32)
    out = np.full((rows, n), np.nan, np.float32)
    decode_rows_lattice(codes, scales, n, out, second, 3.45)
    expected = points_of(codes, n).astype(np.float64) + points_of(second, n) / 3.45
    np.testing.assert_allclose(out, expected * scales[:, None], rtol=0, atol=4e-6)


def test_every_point():
    codes = np.arange(65536, dtype=np.uint16)[:, None]
    out = np.empty((65536, 8), np.float32)
    decode_rows_lattice(codes, np.ones(1, np.float32), 8, out)
    np.testing.assert_array_equal(out, REFERENCE.decode_e8p(codes[:, 0]))


def test_every_point_of_the_second_stage():
    second = np.arange(256, dtype=np.uint8)[:, None]
    codes = np.zeros((256, 1), np.uint16)
    out = np.empty((256, 8), np.float32)
    decode_rows_lattice(codes, np.ones(1, np.float32), 8, out, second, 2.0)
    expected = REFERENCE.decode_e8p(codes[:, 0]) + REFERENCE.decode_e81b(second[:, 0]) / 2
    np.testing.assert_array_equal(out, expected)


def test_wrong_arrays_are_refused():
    codes, one = np.zeros((2, 3), np.uint16), np.ones(1, np.float32)
    with pytest.raises(ValueError, match="for 25"):
        decode_rows_lattice(codes, one, 25, np.empty((2, 25), np.float32))
    with pytest.raises(ValueError, match="second stage"):
        decode_rows_lattice(codes, one, 24, np.empty((2, 24), np.float32), codes[:, :2])
    wide = codes.astype(np.int32)
    with pytest.raises(ValueError, match="second stage"):
        decode_rows_lattice(codes, one, 24, np.empty((2, 24), np.float32), wide)
