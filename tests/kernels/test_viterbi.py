"""The trellis search: exact where it can be checked, near the optimum where it cannot."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrc.testing.strategies import seeds
from lrc_kernels.cpu.encode.rings import encode_shuffle
from lrc_kernels.cpu.encode.viterbi import encode_trellis
from lrc_kernels.shuffle_code import CODES, UNIT
from lrc_kernels.trellis_code import TILE, pack_states, state_values, unpack_states
from lrc_kernels.trellis_fixed import fixed_levels, fixed_sums, nearest_rings, to_fixed
from lrc_kernels.trellis_search import nearest_path, nearest_ring

#: Largest squared error of a unit Gaussian, by (state bits, bits).
GAUSSIAN = {
    (12, 2): 0.0750, (12, 3): 0.0202, (12, 4): 0.0057, (8, 2): 0.087, (8, 4): 0.0095,
}  # fmt: skip


def follows(path, bits, state_bits):
    """Neighbours share all but the oldest bits of the one and the newest of the other."""
    low = (1 << (state_bits - bits)) - 1
    return ((path[:-1] >> bits) == (path[1:] & low)).all()


def all_paths(length, bits, state_bits):
    """Every sequence of states that follow one another."""
    paths = np.arange(1 << state_bits)[:, None]
    for _ in range(length - 1):
        new = np.arange(1 << bits) << (state_bits - bits)
        nexts = (paths[:, -1:] >> bits) | new
        paths = np.concatenate([np.repeat(paths, 1 << bits, 0), nexts.reshape(-1, 1)], axis=1)
    return paths


def gaussian_tiles(seed, count, state_bits):
    spread = state_values(state_bits).std()
    return np.random.default_rng(seed).standard_normal((count, TILE)).astype(np.float32) * spread


@given(seed=seeds(), bits=st.sampled_from([1, 2]), ring=st.booleans())
def test_the_reference_finds_the_best_of_all_paths(seed, bits, ring):
    rng = np.random.default_rng(seed)
    state_bits, length = 4, 6 // bits
    values, z = rng.standard_normal(1 << state_bits), rng.standard_normal(length)
    path, error = nearest_ring(z, values, bits) if ring else nearest_path(z, values, bits)
    assert follows(path, bits, state_bits)
    assert error == pytest.approx(np.square(values[path] - z).sum())
    every = all_paths(length, bits, state_bits)
    if ring:
        every = np.array([p for p in every if follows(np.append(p, p[0]), bits, state_bits)])
    assert error == pytest.approx(np.square(values[every] - z).sum(axis=1).min())


@pytest.mark.parametrize("bits", [2, 3, 4])
@pytest.mark.parametrize("state_bits", [8, 10, 12, 16])
def test_paths_bite_their_tails(bits, state_bits):
    states = encode_trellis(gaussian_tiles(7301, 3, state_bits), bits, state_bits)
    assert states.dtype == np.uint16
    assert states.max() < 1 << state_bits
    for path in states.astype(np.int64):
        assert follows(np.append(path, path[0]), bits, state_bits)
    words = pack_states(states, bits)
    assert words.nbytes * 8 == 3 * TILE * bits
    np.testing.assert_array_equal(unpack_states(words, bits, state_bits), states)


@pytest.mark.parametrize("bits", [2, 3, 4])
@pytest.mark.parametrize("state_bits", [8, 10])
def test_the_kernel_is_as_good_as_exact_arithmetic(bits, state_bits):
    """Sixteen bits of cost and a seam fixed beforehand lose less than 1 % of the error."""
    Z = 0.8 * gaussian_tiles(7303, 8, state_bits)
    values = state_values(state_bits)
    found = np.square(values[encode_trellis(Z, bits, state_bits)] - Z).sum()
    free = sum(nearest_path(z, values, bits)[1] for z in Z)
    assert found > free * (1 - 1e-9), "no ring can beat a path with free ends"
    best = sum(
        nearest_path(z, values, bits, int(states[-1]) >> bits)[1]
        for z, states in zip(Z, encode_trellis(Z, bits, state_bits), strict=True)
    )
    assert found <= 1.01 * best


@pytest.mark.parametrize(("state_bits", "bits"), GAUSSIAN)
def test_gaussian_error(state_bits, bits):
    Z = 0.93 * gaussian_tiles(7307, 96, state_bits)
    Z /= Z.std() / (0.93 * state_values(state_bits).std())
    Y = state_values(state_bits)[encode_trellis(Z, bits, state_bits)]
    gain = np.vdot(Y, Z) / np.vdot(Y, Y)
    assert np.square(Z - gain * Y).mean() / np.square(Z).mean() <= GAUSSIAN[state_bits, bits]


def test_more_state_bits_lose_less():
    errors = []
    for state_bits in (8, 10, 12, 14):
        Z = gaussian_tiles(7309, 48, state_bits)
        Y = state_values(state_bits)[encode_trellis(Z, 2, state_bits)]
        errors.append(np.square(Z - Y).mean() / np.square(Z).mean())
    assert errors == sorted(errors, reverse=True)


@given(seed=seeds(), bits=st.sampled_from([2, 3, 4]))
def test_each_tile_is_searched_by_itself(seed, bits):
    Z = gaussian_tiles(seed, 3, 8)
    together = encode_trellis(Z, bits, 8)
    np.testing.assert_array_equal(together[1], encode_trellis(Z[1:2], bits, 8)[0])


@pytest.mark.parametrize("value", [0.0, 50.0, -50.0, 3e38])
def test_far_and_constant_inputs_give_valid_paths(value):
    states = encode_trellis(np.full((1, TILE), value, np.float32), 2, 10)[0].astype(np.int64)
    assert follows(np.append(states, states[0]), 2, 10)
    if value:
        assert state_values(10)[states].mean() * np.sign(value) > 1.2


@pytest.mark.parametrize(("bits", "state_bits"), [(2, 8), (2, 10), (3, 9), (4, 8)])
@pytest.mark.parametrize("scale", [1.0, 30.0])
def test_the_plain_twin_finds_the_same_paths(bits, state_bits, scale):
    """Far inputs saturate differences and costs."""
    Z = scale * gaussian_tiles(7311, 3, state_bits)
    plain = nearest_rings(to_fixed(Z, bits), fixed_sums(bits, state_bits), bits)
    np.testing.assert_array_equal(plain, encode_trellis(Z, bits, state_bits))


@pytest.mark.parametrize(("bits", "state_bits"), CODES)
def test_the_plain_twin_finds_the_same_paths_of_shuffle_codes(bits, state_bits):
    """As far as costs do not saturate; rings close where they do."""
    scale = CODES[bits, state_bits].scale / UNIT
    Z = np.random.default_rng(7317).standard_normal((2, TILE)).astype(np.float32) * scale
    plain = nearest_rings(to_fixed(Z, bits), fixed_levels(bits, state_bits), bits)
    np.testing.assert_array_equal(plain, encode_shuffle(Z, bits, state_bits))
    for path in encode_shuffle(30 * Z, bits, state_bits).astype(np.int64):
        assert follows(np.append(path, path[0]), bits, state_bits)
