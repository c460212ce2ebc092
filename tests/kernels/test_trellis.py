"""Trellis tiles: decoded, and multiplied with floats and with integers, as plain NumPy says."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrc.testing.tolerance import sum_bound
from lrc_kernels.backend import get_kernels
from lrc_kernels.cpu.codes.trellis import decode_rows_trellis
from lrc_kernels.cpu.dot import matvec_i8
from lrc_kernels.trellis_code import TILE, TILE_ROWS, state_values, tile_rows

CPU, REFERENCE = get_kernels("cpu"), get_kernels("reference")
cases = {
    "m": st.sampled_from([16, 32, 48, 128, 192, 256, 320, 512, 576]),
    "n": st.integers(1, 150),
    "bits": st.sampled_from([2, 3, 4]),
    "state_bits": st.sampled_from([8, 12, 16]),
    "seed": st.integers(3, 2**32),
}


def random_words(m, n, bits, seed, rows=None):
    rows = rows or tile_rows(m)
    size = m // rows, -(-n * rows // TILE) * 16 * bits
    return np.random.default_rng(seed).integers(0, 1 << 16, size).astype(np.uint16), rows


def random_vector(n, seed, mean=0.0):
    return (np.random.default_rng(seed).standard_normal(n) + mean).astype(np.float32)


def bound(x, terms=1):
    return 8 * sum_bound(terms * len(x) + 8, np.float32, 4.0 * float(np.abs(x).sum()) + 1e-30)


@given(**cases)
def test_decode_equals_the_reference(m, n, bits, state_bits, seed):
    words, rows = random_words(m, n, bits, seed)
    found = CPU.decode_trellis(words, bits, state_bits, rows, n)
    expected = REFERENCE.decode_trellis(words, bits, state_bits, rows, n)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, expected)


@given(shared=st.booleans(), **cases)
def test_decoded_rows_are_scaled(shared, m, n, bits, state_bits, seed):
    words, rows = random_words(m, n, bits, seed)
    scales = np.random.default_rng(seed).uniform(0.5, 2, 1 if shared else m).astype(np.float32)
    out = np.full((m, n), np.nan, np.float32)
    decode_rows_trellis(words, bits, state_bits, scales, out, rows)
    expected = REFERENCE.decode_trellis(words, bits, state_bits, rows, n) * scales[:, None]
    np.testing.assert_array_equal(out, expected)


@given(mean=st.sampled_from([0.0, 3.0]), **cases)
def test_products_equal_the_reference(m, n, bits, state_bits, seed, mean):
    words, rows = random_words(m, n, bits, seed)
    x = random_vector(n, seed, mean)
    found = CPU.matvec_trellis(words, bits, state_bits, rows, x)
    expected = REFERENCE.matvec_trellis(words, bits, state_bits, rows, x)
    assert found.dtype == np.float32
    assert np.abs(found - expected).max() <= bound(x)


@given(mean=st.sampled_from([0.0, 3.0]), alone=st.booleans(), **cases)
def test_integer_products_equal_the_reference(m, n, bits, state_bits, seed, mean, alone):
    words, rows = random_words(m, n, bits, seed)
    act = matvec_i8.quantize(random_vector(n, seed, mean), alone)
    q, s = act.values()
    x = q * np.repeat(s.astype(np.float64), 64)[:n]
    W = REFERENCE.decode_trellis(words, bits, state_bits, rows, n).astype(np.float64)
    found = matvec_i8.matvec_trellis(words, bits, state_bits, rows, act)
    assert found.dtype == np.float32
    assert np.abs(found - W @ x).max() <= bound(x)


@pytest.mark.parametrize("bits", [2, 3, 4])
@pytest.mark.parametrize("rows", TILE_ROWS)
def test_bands_are_independent(rows, bits):
    m, n = 5 * rows, 131
    words, _ = random_words(m, n, bits, 57, rows)
    x = random_vector(n, 58)
    act, short = matvec_i8.quantize(x), matvec_i8.quantize(x, True)
    calls = [
        lambda w: CPU.decode_trellis(w, bits, 12, rows, n),
        lambda w: CPU.matvec_trellis(w, bits, 12, rows, x),
        lambda w: matvec_i8.matvec_trellis(w, bits, 12, rows, act),
        lambda w: matvec_i8.matvec_trellis(w, bits, 12, rows, short),
    ]
    for call in calls:
        parts = [call(words[a:b]) for a, b in ((0, 1), (1, 4), (4, 5))]
        np.testing.assert_array_equal(call(words), np.concatenate(parts))


@pytest.mark.parametrize("bits", [2, 3, 4])
def test_every_state_is_decoded(bits):
    """A stream of one repeated word puts each 16-bit state at its start."""
    words = np.arange(1 << 16, dtype=np.uint16)[:, None].repeat(16 * bits, axis=1)
    found = CPU.decode_trellis(words, bits, 16, 256, 1).reshape(-1, 256)
    np.testing.assert_array_equal(found[:, 0], state_values(16))


@pytest.mark.parametrize("alone", [False, True])
@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("rows", TILE_ROWS)
def test_largest_sums_are_exact(rows, sign, alone):
    """A whole group of the largest activations and of the largest or smallest value."""
    values = state_values(16)
    for state in (int(values.argmax()), int(values.argmin())):
        words = np.full((1, -(-64 * rows // TILE) * 64), state, np.uint16)
        W = REFERENCE.decode_trellis(words, 4, 16, rows, 64).astype(np.float64)
        act = matvec_i8.quantize(np.full(64, sign * 3.0, np.float32), alone)
        found = matvec_i8.matvec_trellis(words, 4, 16, rows, act)
        np.testing.assert_allclose(found, W.sum(axis=1) * sign * 3, rtol=1e-6)


def test_zero_activations():
    words, rows = random_words(48, 70, 3, 59)
    act = matvec_i8.quantize(np.zeros(70, np.float32))
    np.testing.assert_array_equal(matvec_i8.matvec_trellis(words, 3, 12, rows, act), np.zeros(48))


def test_wrong_arrays_are_refused():
    words, rows = random_words(64, 40, 2, 60)
    with pytest.raises(ValueError, match="44 columns need"):
        CPU.decode_trellis(words, 2, 12, rows, 44)
    with pytest.raises(ValueError, match="int32"):
        CPU.matvec_trellis(words.astype(np.int32), 2, 12, rows, np.zeros(40, np.float32))
    with pytest.raises(ValueError, match="5 bits"):
        CPU.decode_trellis(words, 5, 12, rows, 40)
    with pytest.raises(ValueError, match="17 state bits"):
        matvec_i8.matvec_trellis(words, 2, 17, rows, matvec_i8.quantize(np.ones(40, np.float32)))
    with pytest.raises(ValueError, match="scales"):
        decode_rows_trellis(words, 2, 12, np.ones(2, np.float32), np.empty((64, 40), "f4"), rows)
