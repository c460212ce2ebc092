"""Laws of every codebook in ``lrc.codebooks.CODEBOOKS``; a new one inherits them by joining."""

from __future__ import annotations

import math

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from budget import few
from codebook_cases import EVERY, KINDS, ROWWISE
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import ndtri

from lrc.codebooks import CODEBOOKS, get_codebook
from lrc.errors import SpecError
from lrc.quant import get_quantizer
from lrc.quant import quantizer as encoder
from lrc.spec import QuantSpec

#: Mean squared error on N(0, 1) at the quantizer's own input scale. E8P and its residual forms:
#: measured; published 0.0915, 0.0296 and (with other constants) 0.0092. Scalar: Max 1960.
#: Block floating point: measured.
#: Scales of blocks are searched for: measured.
GGML = {
    key: (0.97 * error, 1.01 * error)
    for key, error in {
        ("q2_k", 2): 0.06835,
        ("q3_k", 3): 0.02061,
        ("q4_k", 4): 0.004917,
        ("q5_k", 5): 0.001301,
        ("q6_k", 6): 0.0003004,
        ("q8_0", 8): 2.737e-05,
        ("q4_0", 4): 0.006594,
        ("q4_1", 4): 0.004801,
        ("q5_0", 5): 0.001655,
        ("q5_1", 5): 0.001226,
        ("iq4_nl", 4): 0.005433,
        ("iq4_xs", 4): 0.005494,
        ("iq3_xxs", 3): 0.03140,
        ("iq2_xs", 2): 0.08124,
        ("iq2_xxs", 2): 0.1074,
    }.items()
}
GROUPED = {
    (f"gint{size}", bits): (0.97 * error, 1.01 * error)
    for size, errors in {
        128: (0.1363, 0.03469, 0.009362, 4.059e-05),
        64: (0.1266, 0.03119, 0.008100, 3.403e-05),
        32: (0.1115, 0.02640, 0.006594, 2.737e-05),
    }.items()
    for bits, error in zip((2, 3, 4, 8), errors, strict=True)
}
BANDS = {
    ("e8p", 2): (0.0900, 0.0930),
    ("e8p-rvq3", 3): (0.0290, 0.0310),
    ("e8p-rvq4", 4): (0.0081, 0.0086),
    **{("uniform", b): (e * 0.99, e * 1.01) for b, e in zip(range(2, 9), (
        0.1188, 0.03744, 0.01154, 0.003495, 0.001040, 0.0003043, 0.00008769), strict=True)},
    **{("lloyd-max", b): (e * 0.99, e * 1.01) for b, e in zip(range(2, 9), (
        0.1175, 0.03454, 0.009497, 0.002505, 0.0006442, 0.0001635, 0.00004119), strict=True)},
    **{("bfp", b): (e * 0.99, e * 1.01) for b, e in zip(range(2, 9), (
        0.1426, 0.03750, 0.01023, 0.002752, 0.0007200, 0.0001847, 0.00004677), strict=True)},
    **GGML,
    **GROUPED,
}  # fmt: skip
#: Codebooks whose encoder is a nearest-point search (a residual stage is greedy, and scales of
#: blocks are searched for).
SINGLE_STAGE = [key for key in ROWWISE if "rvq" not in key[0] and not get_codebook(*key).absolute]
every_kind = pytest.mark.parametrize("key", KINDS, ids=str)
every_codebook = pytest.mark.parametrize("key", ROWWISE, ids=str)
single_stage = pytest.mark.parametrize("key", SINGLE_STAGE, ids=str)


def has_error(key):
    return key[1] in CODEBOOKS[key[0]].gaussian_error


def gaussian(rows, columns, seed):
    return np.random.default_rng(seed).standard_normal((rows, columns)).astype(np.float32)


def stratified_gaussian(rows, columns, seed):
    """Shuffle equally likely quantiles of N(0, 1): its tails are not a matter of luck."""
    count = rows * columns
    order = np.random.default_rng(seed).permutation(count)
    return ndtri((order + 0.5) / count).astype(np.float32).reshape(rows, columns)


def blocks(quantizer, low=-4.0, high=4.0):
    size = math.lcm(8, quantizer.block_size)
    drawn = min(size, 32)  # larger blocks repeat it: Hypothesis draws no thousands of numbers
    return st.integers(1, 3).flatmap(
        lambda k: hnp.arrays(
            np.float32,
            (3, drawn * k),
            elements=st.floats(low, high, width=32).map(np.float32),
        ).map(lambda Z: np.tile(Z, (1, size // drawn)))
    )


def mean_squared_error(quantizer, z, scale):
    back = quantizer.decode(quantizer.encode(z * np.float32(scale))) / np.float32(scale)
    return float(np.square(z - back, dtype=np.float64).mean())


@pytest.mark.parametrize("key", EVERY, ids=str)
def test_table_and_spec_agree(key):
    quantizer, decoder = get_quantizer(QuantSpec(*key)), get_codebook(*key)
    assert (quantizer.id, quantizer.bits) == (decoder.name, decoder.bits) == key
    assert quantizer.block_rows == decoder.band(32)
    assert quantizer.input_scale > 0


@every_codebook
def test_gaussian_error_lies_in_its_band(key):
    quantizer = encoder(*key)
    error = mean_squared_error(quantizer, stratified_gaussian(512, 1024, 19), quantizer.input_scale)
    low, high = BANDS[key]
    assert low <= error <= high


@pytest.mark.parametrize("key", [key for key in ROWWISE if has_error(key)], ids=str)
def test_budgets_know_the_error(key):
    low, high = BANDS[key]
    assert low <= CODEBOOKS[key[0]].gaussian_error[key[1]] <= high


@every_codebook
@pytest.mark.parametrize("factor", [0.93, 1.07])
def test_input_scale_is_a_good_one(key, factor):
    quantizer = encoder(*key)
    z = stratified_gaussian(256, 512, 23)
    own = mean_squared_error(quantizer, z, quantizer.input_scale)
    assert own <= 1.005 * mean_squared_error(quantizer, z, factor * quantizer.input_scale)


@single_stage
@few(4)
@given(data=st.data())
def test_codewords_are_fixed_points(key, data):
    quantizer = encoder(*key)
    Z = data.draw(blocks(quantizer))
    codes = quantizer.encode(Z)
    again = quantizer.encode(quantizer.decode(codes))
    for first, second in zip(codes, again, strict=True):
        np.testing.assert_array_equal(first, second)


@single_stage
@few(4)
@given(data=st.data())
def test_no_other_sampled_codeword_is_nearer(key, data):
    quantizer = encoder(*key)
    Z = data.draw(blocks(quantizer))
    other = quantizer.decode(quantizer.encode(data.draw(blocks(quantizer))[:1]))
    size = quantizer.block_size
    own = quantizer.decode(quantizer.encode(Z)).reshape(-1, size).astype(np.float64)
    z = Z.reshape(-1, size).astype(np.float64)
    mine = ((own - z) ** 2).sum(axis=1)
    theirs = ((other.reshape(-1, 1, size) - z) ** 2).sum(axis=2).min(axis=0)
    assert (mine <= theirs + 1e-5 * (1 + theirs)).all()


@every_codebook
@few(4)
@given(data=st.data())
def test_rows_are_independent_and_input_is_kept(key, data):
    quantizer = encoder(*key)
    Z = data.draw(blocks(quantizer))
    before = Z.copy()
    whole = quantizer.encode(Z)
    alone = [quantizer.encode(row[None]) for row in Z]
    for stage, codes in enumerate(whole):
        assert codes.shape[:2] == (Z.shape[0], Z.shape[1] // quantizer.block_size)
        np.testing.assert_array_equal(codes, np.concatenate([a[stage] for a in alone]))
    np.testing.assert_array_equal(Z, before)


@every_kind
@pytest.mark.parametrize(("rows", "columns"), [(1, 8), (3, 24), (5, 13), (7, 65)])
def test_planes_round_trip_and_decode_alike(key, rows, columns):
    quantizer = encoder(*key)
    rows *= quantizer.block_rows
    padded = -(-columns // quantizer.block_size) * quantizer.block_size
    Z = gaussian(rows, padded, 41)
    codes = quantizer.encode(Z)
    planes = quantizer.pack(codes)
    get_codebook(*key).check(planes, rows, columns)
    for code, back in zip(codes, quantizer.unpack(planes, columns), strict=True):
        np.testing.assert_array_equal(code, back)
    decoded = get_codebook(*key).values(planes, columns, quantizer.block_rows)
    np.testing.assert_array_equal(decoded, quantizer.decode(codes)[:, :columns])


@every_codebook
def test_no_rows_are_no_rows(key):
    quantizer = encoder(*key)
    n = math.lcm(8, quantizer.block_size)
    codes = quantizer.encode(np.zeros((0, n), np.float32))
    assert get_codebook(*key).values(quantizer.pack(codes), n).shape == (0, n)


@every_kind
def test_bits_are_what_is_stored(key):
    quantizer = encoder(*key)
    m, n = 6 * quantizer.block_rows, math.lcm(128, quantizer.block_size)
    planes = quantizer.pack(quantizer.encode(gaussian(m, n, 43)))
    stored = 8 * sum(p.nbytes for p in planes)
    assert stored == (key[1] + get_codebook(*key).scale_bits) * m * n


@every_kind
def test_all_zero_and_huge_rows_are_encoded(key):
    quantizer = encoder(*key)
    Z = np.repeat(np.float32([[0], [1e6], [-1e6]]), quantizer.block_rows, axis=0)
    Z = np.repeat(Z, math.lcm(16, quantizer.block_size), axis=1)
    assert np.isfinite(quantizer.decode(quantizer.encode(Z))).all()


def test_unknown_codebook_is_refused():
    spec = QuantSpec("e8p")
    object.__setattr__(spec, "bits", 5)
    with pytest.raises(SpecError, match="'e8p' of 5 bits"):
        get_quantizer(spec)


def test_published_residual_constants_give_the_published_error():
    """Two stages at input scale 1.03 and residual scale 3.45: 0.0097 (QuIP#'s constants)."""
    e8p = encoder("e8p", 2)
    z, s, r = stratified_gaussian(512, 512, 47), np.float32(1.03), np.float32(3.45)
    rest = z * s - e8p.decode(e8p.encode(z * s))
    error = (rest - e8p.decode(e8p.encode(rest * r)) / r) / s
    assert 0.0090 <= np.square(error, dtype=np.float64).mean() <= 0.0100
