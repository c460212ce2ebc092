"""Nearest rings of the shuffle trellis, by the Viterbi algorithm.

The search is that of :mod:`lrc_kernels.cpu.encode.viterbi`, and finds the same paths; the distances
of a step are made once, and looked up (:mod:`lrc_kernels.simd.ring_steps`).
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lrc_kernels import shuffle_code
from lrc_kernels._jit import constant, njit
from lrc_kernels.cpu.encode.viterbi import FREE, best_of
from lrc_kernels.shuffle_code import CODES
from lrc_kernels.simd.ring_steps import (
    BYTES,
    LANES,
    distances_2,
    distances_3,
    distances_4,
    plain_step_2,
    plain_step_3,
    plain_step_4,
    ring_step_2,
    ring_step_3,
    ring_step_4,
)
from lrc_kernels.simd.trellis import least_word
from lrc_kernels.trellis_code import TILE, UNIT
from lrc_kernels.trellis_fixed import LOWERED, SEAM, STEPS, to_fixed

F32 = NDArray[np.float32]
U16 = NDArray[np.uint16]
I16 = NDArray[np.int16]
U8 = NDArray[np.uint8]

_SEAM_START, _SEAM_STEPS = constant(SEAM - 1), constant(2 * SEAM)


@njit(inline=True)
def _distances(values: I16, table: I16, z: Any, bits: Any, mask: Any) -> None:
    at, to = values.ctypes.data, table.ctypes.data
    for i in range(values.shape[0]):
        a, b = at + BYTES * i, to + BYTES * LANES * i
        if bits == 2:
            distances_2(a, b, z, mask)
        elif bits == 3:
            distances_3(a, b, z, mask)
        else:
            distances_4(a, b, z, mask)


@njit(inline=True)
def _step(
    costs: U16, table: I16, places: U16, fresh: U16, back: U8, numbers: I16, least: Any, bits: Any
) -> None:
    """One step; from costs that have no numbers yet where ``least`` is not negative."""
    a, b, c, d = back.shape[0] // 32, costs.ctypes.data, table.ctypes.data, places.ctypes.data
    e, f, g = fresh.ctypes.data, back.ctypes.data, numbers.ctypes.data
    less = np.int16(least)
    if least < 0:
        if bits == 2:
            ring_step_2(a, b, c, d, e, f, g, less)
        elif bits == 3:
            ring_step_3(a, b, c, d, e, f, g, less)
        else:
            ring_step_4(a, b, c, d, e, f, g, less)
    elif bits == 2:
        plain_step_2(a, b, c, d, e, f, g, less)
    elif bits == 3:
        plain_step_3(a, b, c, d, e, f, g, less)
    else:
        plain_step_4(a, b, c, d, e, f, g, less)


@njit(inner=True)
def _search(
    z: I16, start: int, count: int, costs: U16, fresh: U16, values: I16, places: U16, numbers: I16,
    table: I16, back: U8, bits: int,
) -> None:  # fmt: skip
    """``count`` steps (even) from weight ``start`` (cyclic) down; costs end in ``costs``."""
    least: Any = -1
    for i in range(count):
        t = start - i
        t = t if t >= 0 else t + z.shape[0]
        phase = t & (values.shape[0] - 1)
        # What is lowered, or compared at the end, has its lowest bits still, and no numbers.
        plain = i % 8 == LOWERED or i == count - 1
        mask, own = (np.int16(-1), numbers[1]) if plain else (np.int16(-1 << bits), numbers[0])
        _distances(values[phase], table, z[t], bits, mask)
        if i % 2 == 0:
            _step(costs, table, places[phase], fresh, back[t], own, least, bits)
        else:
            _step(fresh, table, places[phase], costs, back[t], own, least, bits)
        least = -1
        if i % 8 == LOWERED:
            least = np.int64(least_word(fresh.ctypes.data, fresh.shape[0])) & 0xFFFF


@njit(inline=True)
def _before(back: U8, state: Any, bits: Any, groups: Any) -> Any:
    """The predecessor in the search of a state."""
    group = state >> bits
    at = (group >> 5 << 5) + 2 * (group & 15) + (group >> 4 & 1)
    return (np.int64(back[at]) & ((1 << bits) - 1)) * groups + group


@njit(inline=True)
def _fill(costs: U16, cost: Any, bits: Any, groups: Any) -> None:
    """The same cost of all states, with their numbers as predecessors."""
    for way in range(1 << bits):
        for s in range(way * groups, way * groups + groups):
            costs[s] = cost + way


@njit(inner=True)
def ring_work(tables: tuple[I16, U16], bits: int, state_bits: int) -> Any:
    """What a search needs beside its input: costs twice, choices, distances, numbers."""
    states, groups = 1 << state_bits, 1 << (state_bits - bits)
    numbers = np.zeros((2, groups // LANES), np.int16)
    for i in range(numbers.shape[1]):
        numbers[0, i] = (LANES * i) >> (state_bits - 2 * bits)
    table = np.empty(tables[0].shape[1] * LANES * LANES, np.int16)
    costs, fresh = np.empty(states, np.uint16), np.empty(states, np.uint16)
    return costs, fresh, np.empty((TILE, groups), np.uint8), table, numbers


@njit(inner=True)
def nearest_ring(
    z: I16, tables: tuple[I16, U16], bits: int, shared: int, work: Any, out: U16
) -> None:
    """States u16 (256,) of the ring nearest to ``z`` in fixed point.

    ``shared`` are the bits that its last and its first state have in common; below 0 those that a
    search over the seam finds.
    """
    values, places = tables
    costs, fresh, back, table, numbers = work
    tile, groups = back.shape
    if shared < 0:
        _fill(costs, 0, bits, groups)
        _search(
            z, _SEAM_START, _SEAM_STEPS, costs, fresh, values, places, numbers, table, back, bits
        )
        state = best_of(costs, 0, 1)
        for t in range(tile - SEAM, tile - 1):
            state = _before(back[t], state, bits, groups)
        shared = state >> bits
    _fill(costs, 0x10000 - (1 << bits), bits, groups)
    for way in range(1 << bits):
        costs[way * groups + shared] = way
    _search(z, tile - 1, tile, costs, fresh, values, places, numbers, table, back, bits)
    state = best_of(costs, shared, groups)
    for t in range(tile):
        out[t] = state
        state = _before(back[t], state, bits, groups)


@njit()
def _nearest_rings(Z: I16, tables: tuple[I16, U16], bits: int, state_bits: int, out: U16) -> None:
    work = ring_work(tables, bits, state_bits)
    for i in range(Z.shape[0]):
        nearest_ring(Z[i], tables, bits, FREE, work, out[i])


@cache
def ring_tables(bits: int, state_bits: int) -> tuple[I16, U16]:
    """What steps of a phase need.

    Returns
    -------
    values : int16 array, shape (period, b, 16)
        Values in fixed point of 16 neighbouring states, as often as their indices differ by more
        than an exchange of lanes.
    places : uint16 array, shape (period, 2**state_bits / 16)
        Offset of the distances of each 16 states in the table of a step.
    """
    code = CODES[bits, state_bits]
    step = UNIT * STEPS[bits] / shuffle_code.UNIT
    levels = np.rint(code.levels() * step).astype(np.int16)
    found, places = [], []
    for columns in code.columns:
        lanes = _combined(columns[:4])
        firsts: list[int] = []
        slot = np.full(len(levels), -1)
        for index in range(len(levels)):
            if slot[index] < 0:
                slot[index ^ lanes] = LANES * len(firsts) + np.arange(LANES)
                firsts.append(index)
        found.append(levels[np.array(firsts)[:, None] ^ lanes])
        places.append(BYTES * slot[_combined(columns[4:])])
    most = max(map(len, found))
    values = np.zeros((code.period, most, LANES), np.int16)
    for all_of, some in zip(values, found, strict=True):
        all_of[: len(some)] = some
    offsets: U16 = np.array(places, np.uint16)
    for array in (values, offsets):
        array.setflags(write=False)
    return values, offsets


def _combined(columns: tuple[int, ...]) -> NDArray[np.int64]:
    """Exclusive or of the columns of the set bits of every number."""
    found = np.zeros(1, np.int64)
    for column in columns:
        found = np.concatenate([found, found ^ column])
    return found


def encode_shuffle(Z: F32, bits: int, state_bits: int) -> U16:
    """States of the ring nearest to each tile, nearly: u16 (tiles, 256).

    Parameters
    ----------
    Z : float32 array, shape (tiles, 256)
        Weights of each ring in its order, in units of the values.
    bits, state_bits : int
        One of :data:`lrc_kernels.shuffle_code.CODES`.

    Notes
    -----
    Cost 352 steps a ring of 2^L additions and minima each; memory 256 * 2^(L - bits) bytes.
    """
    out = np.empty((len(Z), TILE), np.uint16)
    _nearest_rings(to_fixed(Z, bits), ring_tables(bits, state_bits), bits, state_bits, out)
    return out
