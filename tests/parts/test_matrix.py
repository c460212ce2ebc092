"""A packed matrix means what its documentation says."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from packed_cases import (
    CODEBOOKS,
    TRELLISES,
    codes_of,
    factors_of,
    random_factor,
    random_matrix,
    rows_of_codes,
)

from lrc.codebooks import get_codebook
from lrc.codebooks.levels import levels
from lrc.errors import FormatError
from lrc.parts.codes import Codes
from lrc.parts.low_rank import Factor, LowRank
from lrc.parts.signs import unpack_signs
from lrc.testing.tolerance import assert_within, factor_bound, relative_difference
from lrc_kernels.backend import get_kernels
from lrc_kernels.rotate import hadamard_transform

every_codebook = pytest.mark.parametrize("codebook", CODEBOOKS, ids=str)


@pytest.mark.parametrize("bits", [2, 3, 5, 8])
def test_factor_decodes_level_times_component_scale(bits):
    rng = np.random.default_rng(bits)
    factor = random_factor(3, 13, bits, rng)
    codes = get_kernels("reference").unpack_bits(factor.words, bits, 13)
    expected = levels("lloyd-max", bits)[codes] * factor.scales.astype(np.float32)[:, None]
    np.testing.assert_array_equal(factor.to_dense(), expected)
    assert factor.rank == 3
    assert factor.stored_bits == 3 * (8 * -(-13 * bits // 8) + 16)


def test_plain_factor():
    factor = random_factor(2, 5, 16, np.random.default_rng(8))
    np.testing.assert_array_equal(factor.to_dense(), factor.words.astype(np.float32))
    assert factor.to_dense().dtype == np.float32
    assert factor.stored_bits == 2 * 5 * 16


@pytest.mark.parametrize(
    ("bits", "words", "scales"),
    [
        (4, np.zeros((2, 3), np.uint8), np.zeros(2, np.float16)),  # length 8 needs 4 bytes
        (4, np.zeros((2, 4), np.uint16), np.zeros(2, np.float16)),
        (4, np.zeros((2, 4), np.uint8), np.zeros(3, np.float16)),
        (4, np.zeros((2, 4), np.uint8), np.zeros(2, np.float32)),
        (16, np.zeros((2, 8), np.float32), np.zeros(0, np.float16)),
        (9, np.zeros((2, 9), np.uint8), np.zeros(2, np.float16)),
    ],
)
def test_malformed_factors_are_refused(bits, words, scales):
    with pytest.raises(FormatError):
        Factor(bits, 8, words, scales)


def test_sign_bits():
    signs = unpack_signs(np.array([0b00000101, 0b1], np.uint8), 9)
    np.testing.assert_array_equal(signs, [-1, 1, -1, 1, 1, 1, 1, 1, -1])
    assert unpack_signs(None, 9) is None


@every_codebook
@pytest.mark.parametrize("row_scales", [True, False])
def test_quantized_is_codeword_times_scale_times_gain(codebook, row_scales):
    matrix = random_matrix((5, 19), codebook, row_scales=row_scales)
    if codebook[0] == "none":
        expected = np.zeros((5, 19), np.float32)
    else:
        codes = codes_of(matrix)
        values = get_codebook(*codebook).values(codes.planes, 19)
        expected = values.astype(np.float64) * codes.scales.astype(np.float64) * matrix.gain
    np.testing.assert_allclose(rows_of_codes(matrix), expected, rtol=4e-7)


def test_groups_share_a_scale():
    matrix = random_matrix((4, 21), ("uniform", 4), group_size=8)
    codes = codes_of(matrix)
    wide = np.repeat(codes.scales.astype(np.float64), 8, axis=1)[:, :21]
    values = get_codebook("uniform", 4).values(codes.planes, 21).astype(np.float64)
    np.testing.assert_allclose(rows_of_codes(matrix), values * wide * matrix.gain, rtol=4e-7)


@every_codebook
@pytest.mark.parametrize("row_scales", [True, False])
def test_rows_are_rows_of_the_whole(codebook, row_scales):
    matrix = random_matrix((9, 24), codebook, row_scales=row_scales, rank=0)
    whole = matrix.rows(slice(0, 9))
    np.testing.assert_array_equal(matrix.rows(slice(2, 7)), whole[2:7])
    ids = np.array([8, 0, 0, 3])
    np.testing.assert_array_equal(matrix.rows(ids), whole[ids])
    assert matrix.rows(slice(3, 3)).shape == (0, 24)


@pytest.mark.parametrize("codebook", TRELLISES, ids=str)
@given(
    m=st.sampled_from([16, 48, 192, 576]),
    n=st.integers(1, 40),
    row_scales=st.booleans(),
    data=st.data(),
)
def test_rows_of_a_trellis_are_rows_of_the_whole(codebook, m, n, row_scales, data):
    matrix = random_matrix((m, n), codebook, row_scales=row_scales, rank=0)
    whole, codes = matrix.rows(slice(0, m)), codes_of(matrix)
    found = get_codebook(*codebook)
    values = found.values(codes.planes, n, found.band(m))
    expected = values.astype(np.float64) * codes.scales.astype(np.float64) * matrix.gain
    np.testing.assert_allclose(whole, expected, rtol=4e-7)
    rows = slice(*sorted(data.draw(st.tuples(st.integers(0, m), st.integers(0, m)))))
    np.testing.assert_array_equal(matrix.rows(rows), whole[rows])
    ids = np.array(data.draw(st.lists(st.integers(0, m - 1), max_size=9)), np.int64)
    np.testing.assert_array_equal(matrix.rows(ids), whole[ids])


def test_a_trellis_counts_the_pad_of_its_last_tiles():
    matrix = random_matrix((192, 6), ("trellis12", 3), rank=0, rotation="none", row_scales=False)
    assert matrix.stored_bits == 3 * 192 * 8 + 16 + 32


@pytest.mark.parametrize("factor_bits", [4, 16])
@pytest.mark.parametrize("rotation", ["hadamard", "hadamard-real-in", "hadamard-real-out"])
@pytest.mark.parametrize("shape", [(12, 20), (9, 40), (64, 7)])
def test_dense_form_follows_the_rotation_convention(shape, factor_bits, rotation):
    """W = S_out M_m^T (Q + L R) M_n S_in with dense M."""
    matrix = random_matrix(shape, factor_bits=factor_bits, rotation=rotation)
    m, n = shape
    transform_out = hadamard_transform(np.eye(m)).T
    transform_in = hadamard_transform(np.eye(n)).T
    L, R = factors_of(matrix)
    inner = (rows_of_codes(matrix) + L @ R).astype(np.float64)
    expected = (
        unpack_signs(matrix.signs_out, m)[:, None] * (transform_out.T @ inner @ transform_in)
    ) * unpack_signs(matrix.signs_in, n)
    bound = factor_bound(max(shape), np.float32)
    assert_within(relative_difference(matrix.to_dense(), expected), bound)


def test_low_rank_carries_the_gain():
    matrix = random_matrix((6, 10), rank=3, rotation="none")
    L, R = factors_of(matrix)
    stored = matrix.parts[1]
    expected = stored.left.to_dense().T * np.float32(matrix.gain)
    np.testing.assert_array_equal(L, expected)
    np.testing.assert_array_equal(R, stored.right.to_dense())
    np.testing.assert_array_equal(matrix.to_dense(), rows_of_codes(matrix) + L @ R)
    assert stored.rank == 3


@pytest.mark.parametrize("rotation", ["none", "inputs", "hadamard"])
def test_a_matrix_without_parts_is_zero(rotation):
    matrix = random_matrix((6, 10), ("none", 0), rank=0, rotation=rotation)
    assert matrix.parts == ()
    np.testing.assert_array_equal(matrix.to_dense(), np.zeros((6, 10), np.float32))


def test_every_stored_bit_counts():
    matrix = random_matrix((32, 64), ("e8p", 2), rank=2, factor_bits=4, row_scales=True)
    expected = 2 * 32 * 64 + 16 * 32 + 64 + 32 + 32 + 2 * (4 * (32 + 64) + 2 * 16)
    assert matrix.stored_bits == expected
    assert matrix.bits_per_weight == expected / (32 * 64)


MATRICES = {
    "rotation": {"rotation": "fourier"},
    "no signs": {"signs_in": None},
    "short signs": {"signs_out": np.zeros(2, np.uint8)},
    "signs without rotation": {"rotation": "none"},
    "a part of another shape": {"shape": (5, 20)},
}
CODES = {
    "planes": {"planes": (np.zeros((5, 1), np.uint16),)},
    "codebook": {"codebook": "e9p"},
    "bits": {"bits": 3},
    "scales": {"scales": np.ones((2, 1), np.float16)},
    "lattice groups": {"group_size": 8, "scales": np.ones((5, 3), np.float16)},
}
FACTORS = {
    "other rank": random_factor(3, 19, 4, np.random.default_rng(6)),
    "other bits": random_factor(2, 19, 3, np.random.default_rng(6)),
}


def test_a_trellis_has_no_groups():
    codes = codes_of(random_matrix((32, 24), ("trellis12", 2)))
    change = {"group_size": 8, "scales": np.ones((32, 3), np.float16)}
    with pytest.raises(FormatError, match="no groups"):
        dataclasses.replace(codes, **change)


@pytest.mark.parametrize("change", MATRICES.values(), ids=MATRICES.keys())
def test_parts_that_do_not_fit_are_refused(change):
    matrix = random_matrix((5, 19))
    with pytest.raises(FormatError):
        dataclasses.replace(matrix, **change)


@pytest.mark.parametrize("change", CODES.values(), ids=CODES.keys())
def test_codes_that_do_not_fit_are_refused(change):
    codes = codes_of(random_matrix((5, 19)))
    assert isinstance(dataclasses.replace(codes), Codes)
    with pytest.raises(FormatError):
        dataclasses.replace(codes, **change)


@pytest.mark.parametrize("right", FACTORS.values(), ids=FACTORS.keys())
def test_factors_that_do_not_fit_are_refused(right):
    left = random_factor(2, 5, 4, np.random.default_rng(6))
    with pytest.raises(FormatError):
        LowRank(left, right)


def test_factors_of_rank_zero_are_no_part():
    left, right = (random_factor(0, length, 4, np.random.default_rng(6)) for length in (5, 19))
    with pytest.raises(FormatError, match="rank 0"):
        LowRank(left, right)
