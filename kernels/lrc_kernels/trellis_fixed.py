"""The fixed-point arithmetic of the trellis search, which every backend repeats bit for bit.

Values and inputs are 16-bit integers, costs unsigned 16-bit integers that saturate. A step of the
search goes from the costs of all states at one weight to those at the weight before: of the
``2^k`` predecessors of a group of states the best is the least of ``cost & -2^k | number``, and a
state adds to it the upper half of the square of its value's difference, doubled ``DOUBLINGS``
times before and linear where that saturates. The path is that of two searches: the first over the
seam fixes the bits that the last and the first weight have in common, the second goes around.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from lrc_kernels import shuffle_code
from lrc_kernels.shuffle_code import state_levels
from lrc_kernels.trellis_code import TILE, UNIT, byte_sums, state_values

F32 = NDArray[np.float32]
I16 = NDArray[np.int16]
U16 = NDArray[np.uint16]

#: Fixed-point steps of a byte sum, by bits a weight; values and inputs are 16-bit integers.
STEPS = {2: 45, 3: 62, 4: 62}
#: Doublings of a difference before it is squared, by bits a weight: finer where errors are small.
DOUBLINGS = {2: 0, 3: 1, 4: 2}
#: Weights on either side of the seam that the first search looks at.
SEAM = 48
#: After this one of every eight steps the least cost is subtracted from all.
LOWERED = 6
#: The largest 16-bit integer: inputs beyond it count as if there.
MOST = 32767


@cache
def fixed_sums(bits: int, state_bits: int) -> I16:
    """Values of all states of the hashed code in fixed point: i16 (1, 2**state_bits)."""
    values: I16 = (byte_sums(state_bits)[None].astype(np.int32) * STEPS[bits]).astype(np.int16)
    values.setflags(write=False)
    return values


@cache
def fixed_levels(bits: int, state_bits: int) -> I16:
    """The same of the shuffle code, by phase: i16 (period, 2**state_bits)."""
    step = UNIT * STEPS[bits] / shuffle_code.UNIT
    values: I16 = np.rint(state_levels(bits, state_bits) * step).astype(np.int16)
    values.setflags(write=False)
    return values


@dataclass(frozen=True, eq=False)
class RingCode:
    """What a search needs to know of a code.

    Attributes
    ----------
    bits, state_bits : int
        k, and L.
    values : int16 array, shape (period, 2**L)
        In fixed point, for the search.
    levels : float32 array, of the same shape
        What they decode to.
    """

    bits: int
    state_bits: int
    values: I16
    levels: F32


@cache
def hashed_code(bits: int, state_bits: int) -> RingCode:
    """That of :mod:`lrc_kernels.trellis_code`."""
    return RingCode(bits, state_bits, fixed_sums(bits, state_bits), state_values(state_bits)[None])


@cache
def shuffled_code(bits: int, state_bits: int) -> RingCode:
    """One of :mod:`lrc_kernels.shuffle_code`."""
    levels = state_levels(bits, state_bits).astype(np.float32) / np.float32(shuffle_code.UNIT)
    return RingCode(bits, state_bits, fixed_levels(bits, state_bits), levels)


def to_fixed(Z: NDArray[np.float32], bits: int) -> I16:
    """Inputs in fixed point; what lies beyond its limit counts as if there."""
    step = np.float32(UNIT * STEPS[bits])
    limit = np.float32(MOST) / step
    fixed: I16 = np.rint(np.clip(Z, -limit, limit) * step).astype(np.int16)
    return fixed


def nearest_rings(Z: I16, values: I16, bits: int) -> U16:
    """States u16 (rings, 256) of the path of each ring, in plain NumPy.

    Parameters
    ----------
    Z : int16 array, shape (rings, 256)
        From :func:`to_fixed`.
    values : int16 array, shape (period, 2**L)
        Weight t has those of row ``t % period``.
    bits : int
        k.
    """
    states = values.shape[1]
    groups, rings = states >> bits, np.arange(len(Z))
    back = np.empty((TILE, len(Z), groups), np.int64)
    free = np.zeros((len(Z), states), np.int64)
    state = _search(Z, values, bits, SEAM - 1, 2 * SEAM, free, back).argmin(axis=1)
    for t in range(TILE - SEAM, TILE - 1):
        state = back[t, rings, state >> bits] * groups + (state >> bits)
    shared = state >> bits
    costs = np.where(np.arange(states) % groups == shared[:, None], 0, 65535)
    costs = _search(Z, values, bits, TILE - 1, TILE, costs, back)
    ends = shared[:, None] + groups * np.arange(1 << bits)
    state = ends[rings, np.take_along_axis(costs, ends, axis=1).argmin(axis=1)]
    path = np.empty((len(Z), TILE), np.uint16)
    for t in range(TILE):
        path[:, t] = state
        state = back[t, rings, state >> bits] * groups + (state >> bits)
    return path


def _search(
    Z: I16,
    values: I16,
    bits: int,
    start: int,
    count: int,
    costs: NDArray[np.int64],
    back: NDArray[np.int64],
) -> NDArray[np.int64]:
    """Costs (rings, states) after ``count`` steps from weight ``start`` down; fills ``back``."""
    ways = 1 << bits
    for i in range(count):
        t = (start - i) % TILE
        predecessors = costs.reshape(len(Z), ways, -1) & -ways
        best = (predecessors | np.arange(ways)[:, None]).min(axis=1)
        back[t] = best & (ways - 1)
        costs = np.repeat(best & -ways, ways, axis=1)
        costs += _distance(values[t % len(values)].astype(np.int64) - Z[:, t, None], bits)
        costs = np.minimum(costs, 65535)
        if i % 8 == LOWERED:
            costs -= costs.min(axis=1, keepdims=True)
    return costs


def _distance(difference: NDArray[np.int64], bits: int) -> NDArray[np.int64]:
    doublings = DOUBLINGS[bits]
    first = difference = np.clip(difference, -MOST - 1, MOST)
    for _ in range(doublings):
        difference = np.clip(2 * difference, -MOST - 1, MOST)
    upper: NDArray[np.int64] = difference * difference >> 16
    if not doublings:
        return upper
    total: NDArray[np.int64] = upper + np.maximum(np.abs(first) - (MOST >> doublings), 0)
    return total
