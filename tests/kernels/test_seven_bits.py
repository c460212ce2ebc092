"""When 7 bits of an activation do: the rule in plain NumPy, and what it is there for."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from seven_bits import cost

from lrc_kernels.cpu.dot import matvec_i8
from lrc_kernels.cpu.transform import activations


@given(n=st.integers(1, 600), seed=st.integers(3, 2**32), power=st.integers(-20, 20))
def test_seven_bits_are_within_half_a_step(n, seed, power):
    x = (np.random.default_rng(seed).standard_normal(n) * 10.0**power).astype(np.float32)
    q, s = matvec_i8.quantize(x, True).values()
    step = 128 * np.repeat(s.astype(np.float64), 64)[:n]
    assert (q % 128 == 0).all()
    assert (np.abs(q // 128 * step - x) <= 0.51 * step).all()


def seven_bits_do(x, z=None):
    """What the kernels say of a rotation z of x, or of x itself."""
    rooms = [np.zeros(activations.padded(len(x)), np.float32) for _ in "xz"]
    rooms[0][:] = 1e9  # nobody cares what lies behind x
    for room, values in zip(rooms, (x, x if z is None else z), strict=True):
        room[: len(x)] = values
    return activations.seven_bits_do(*(room.ctypes.data for room in rooms), len(x))


@given(n=st.integers(128, 700), seed=st.integers(3, 2**32), power=st.integers(-15, 15))
def test_seven_bits_do_for_even_inputs(n, seed, power):
    x = np.random.default_rng(seed).standard_normal(n).astype(np.float32)
    assert seven_bits_do(x * np.float32(10.0**power))
    assert seven_bits_do(np.zeros(n, np.float32))


@pytest.mark.parametrize("n", [64, 128, 512])
def test_seven_bits_do_not_where_an_input_drowns_the_others(n):
    x = np.random.default_rng(n).standard_normal(n).astype(np.float32)
    rotation = hadamard(n)
    for peak, enough in ((10, True), (10 * n, False), (1e6, False)):
        spiked = x.copy()
        spiked[n // 3] = peak
        z = (rotation @ spiked).astype(np.float32)
        assert seven_bits_do(spiked, z) == enough
        q, s = matvec_i8.quantize(z, True).values()
        error = q * np.repeat(s.astype(np.float64), 64)[:n] - z
        assert (np.sqrt(np.mean(error**2)) < np.abs(x).mean() / 32) == enough


@given(n=st.sampled_from([64, 100, 256, 576]), seed=st.integers(3, 2**32), power=st.integers(-9, 9))
def test_the_rule_changes_where_it_should(n, seed, power):
    """A growing input crosses the line once: just below it 7 bits do, just above they do not."""
    x = np.random.default_rng(seed).standard_normal(n) * 10.0**power

    def spiked(peak):
        return np.concatenate([x[:-1], [peak]]).astype(np.float32)

    low, high = np.abs(x).max(), 1e6 * np.abs(x).max()
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if cost(spiked(middle)) < 1 else (low, middle)
    assert cost(spiked(0.98 * low)) < 1 < cost(spiked(1.02 * low))
    assert seven_bits_do(spiked(0.98 * low))
    assert not seven_bits_do(spiked(1.02 * low))


def hadamard(n):
    """Sylvester's orthogonal matrix."""
    matrix = np.ones((1, 1))
    while len(matrix) < n:
        matrix = np.block([[matrix, matrix], [matrix, -matrix]])
    return matrix / np.sqrt(n)
