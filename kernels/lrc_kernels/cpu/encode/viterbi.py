"""Nearest paths of the bitshift trellis, tail-biting, by the Viterbi algorithm.

The search runs through a tile from its last weight to its first: then the predecessors of 32
neighbouring groups of states are runs of 32. A first search over the seam between last and first
weight fixes the L - k bits they share; the second goes around once with those bits given.

Source: Tseng et al. 2024, QTIP, arXiv:2406.11235, algorithm 4 (tail-biting in two searches).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lrc_kernels._jit import constant, njit
from lrc_kernels.simd.trellis import (
    least_word,
    lower_words,
    step_2,
    step_3,
    step_4,
)
from lrc_kernels.trellis_code import TILE
from lrc_kernels.trellis_fixed import SEAM, fixed_sums, to_fixed

F32 = NDArray[np.float32]
U16 = NDArray[np.uint16]
I16 = NDArray[np.int16]
U8 = NDArray[np.uint8]

#: No bits that the ends of a path are to have in common.
FREE = constant(-1)
_SEAM_START, _SEAM_STEPS = constant(SEAM - 1), constant(2 * SEAM)


@njit(inline=True)
def _scalar_step(
    costs: U16, values: I16, fresh: U16, back: U8, z: Any, bits: Any, doublings: Any
) -> None:
    """One step for fewer than 32 groups: the same integers as the vector steps."""
    ways = 1 << bits
    groups = back.shape[0]
    for j in range(groups):
        best: Any = np.int64(1 << 20)
        for way in range(ways):
            cost = (np.int64(costs[way * groups + j]) & ~np.int64(ways - 1)) | way
            best = min(best, cost)
        back[j] = best & (ways - 1)
        best &= ~np.int64(ways - 1)
        for s in range(ways * j, ways * j + ways):
            difference: Any = min(max(np.int64(values[s]) - z, -32768), 32767)
            away = max(abs(difference) - (32767 >> doublings), 0) if doublings else 0
            for _ in range(doublings):
                difference = min(max(2 * difference, -32768), 32767)
            fresh[s] = min(best + ((difference * difference) >> 16) + away, 65535)


@njit(inline=True)
def _step(costs: U16, values: I16, fresh: U16, back: U8, z: Any, bits: Any, doublings: Any) -> None:
    groups = back.shape[0]
    if groups < 32:
        _scalar_step(costs, values, fresh, back, np.int64(z), bits, doublings)
        return
    source, target, table = costs.ctypes.data, fresh.ctypes.data, values.ctypes.data
    pointers = back.ctypes.data
    stride, run = 2 * groups, 64 << bits
    for part in range(groups // 32):
        a, b = source + 64 * part, run * part
        if bits == 2:
            step_2(a, stride, table + b, target + b, pointers + 32 * part, z)
        elif bits == 3:
            step_3(a, stride, table + b, target + b, pointers + 32 * part, z)
        else:
            step_4(a, stride, table + b, target + b, pointers + 32 * part, z)


@njit(inline=True)
def _lower(costs: U16) -> None:
    at = costs.ctypes.data
    least = least_word(at, costs.shape[0])
    for part in range(costs.shape[0] // 32):
        lower_words(at + 64 * part, least)


@njit(inline=True)
def best_of(costs: U16, first: Any, stride: Any) -> Any:
    """State of least cost among ``first`` and every ``stride`` on."""
    best = first
    for s in range(first, costs.shape[0], stride):
        if costs[s] < costs[best]:
            best = s
    return best


@njit(inner=True)
def _search(
    z: I16,
    start: int,
    count: int,
    costs: U16,
    fresh: U16,
    values: I16,
    back: U8,
    bits: int,
    doublings: int,
) -> None:
    """``count`` steps from weight ``start`` (cyclic) down; costs end in ``costs``."""
    for i in range(count):
        t = (start - i) % z.shape[0]
        of_phase = values[t % values.shape[0]]
        if i % 2 == 0:
            _step(costs, of_phase, fresh, back[t], z[t], bits, doublings)
            if i % 8 == 6:
                _lower(fresh)
        else:
            _step(fresh, of_phase, costs, back[t], z[t], bits, doublings)


@njit(inner=True)
def path_work(tables: tuple[I16], bits: int, state_bits: int) -> Any:
    """What a search needs beside its input: costs twice, choices."""
    states, groups = 1 << state_bits, 1 << (state_bits - bits)
    costs, fresh = np.empty(states, np.uint16), np.empty(states, np.uint16)
    return costs, fresh, np.empty((TILE, groups), np.uint8)


@njit(inner=True)
def nearest_path(z: I16, tables: tuple[I16], bits: int, shared: int, work: Any, out: U16) -> None:
    """States u16 (256,) of the tail-biting path nearest to ``z`` in fixed point.

    ``shared`` are the bits that its last and its first state have in common; below 0 those that a
    search over the seam finds.
    """
    values, doublings = tables[0], max(bits - 2, 0)
    costs, fresh, back = work
    tile, groups = back.shape
    if shared < 0:
        costs[:] = 0
        _search(z, _SEAM_START, _SEAM_STEPS, costs, fresh, values, back, bits, doublings)
        state = best_of(costs, 0, 1)
        for t in range(tile - SEAM, tile - 1):
            kept = state >> bits
            state = np.int64(back[t, kept]) * groups + kept
        shared = state >> bits
    costs[:] = 65535
    costs[shared::groups] = 0
    _search(z, tile - 1, tile, costs, fresh, values, back, bits, doublings)
    state = best_of(costs, shared, groups)
    for t in range(tile):
        out[t] = state
        kept = state >> bits
        state = np.int64(back[t, kept]) * groups + kept


@njit()
def _nearest_paths(Z: I16, tables: tuple[I16], bits: int, state_bits: int, out: U16) -> None:
    work = path_work(tables, bits, state_bits)
    for i in range(Z.shape[0]):
        nearest_path(Z[i], tables, bits, FREE, work, out[i])


def encode_trellis(Z: F32, bits: int, state_bits: int) -> U16:
    """States of the tail-biting path nearest to each tile, nearly: u16 (tiles, 256).

    Parameters
    ----------
    Z : float32 array, shape (tiles, 256)
        Weights of each tile in the order of :mod:`lrc_kernels.trellis_code`, in units of its
        values. What lies beyond all values counts as if at the limit of the fixed point.
    bits : int
        2, 3 or 4.
    state_bits : int
        L, 8 to 16.

    Notes
    -----
    Cost 352 steps a tile of 2^L distances and minima each; memory 256 * 2^(L - bits) bytes.
    """
    out = np.empty((len(Z), TILE), np.uint16)
    _nearest_paths(to_fixed(Z, bits), (fixed_sums(bits, state_bits),), bits, state_bits, out)
    return out
