"""Bands of shuffle-trellis rings times a vector of integer activations, decoded in registers.

A pass takes eight weights of every segment through 64 columns, so that the sums of their rows stay
in registers; four passes make a band. Sums of a group of 64 columns are at most
64 * 63 * 16256, exact, before they become floats.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba.core import types

from lrc_kernels._jit import choose, njit
from lrc_kernels._late import late
from lrc_kernels.cpu.transform.activations import LOW, group_scales, seven
from lrc_kernels.shuffle_code import (
    CODES,
    GROUP,
    LANES,
    PASS,
    PASSES,
    RINGS,
    SEGMENT,
    SEGMENTS,
    UNIT,
)
from lrc_kernels.simd.paths import path
from lrc_kernels.simd.shuffle import (
    SPREADS,
    add_scaled,
    no_sums,
    step_fifteen,
    step_seven,
)
from lrc_kernels.simd.threads import align_stack, fetch, scratch_1k
from lrc_kernels.simd.values import load_f32, load_i8, load_u8, store_f32

#: Bytes from the codes that are multiplied to those that are asked for.
AHEAD = 4096
_UNIT = np.float32(1 / UNIT)


_spread = choose(SPREADS)


def _make_pass(bits: int, state_bits: int, alone: bool) -> Any:
    """One pass over a group of columns, added to f32 (8 weights, 8 segments) at ``totals``."""
    one, both = step_seven[bits, state_bits], step_fifteen[bits, state_bits]
    size = bits * LANES

    @njit(inner=True)
    def run(
        at: int, after: int, last: bool, eights: int, columns: int, levels: int, x: int, low: int,
        scale: np.float32, totals: int,
    ) -> None:  # fmt: skip
        align_stack()
        sums = no_sums()
        for g in range(eights):
            here, following, column = at + size * g, after + size * g, RINGS * columns * g
            for line in range(bits):
                fetch(here + AHEAD + LANES * line)
            v = _spread(columns, x + column)
            if alone:
                sums = one(sums, here, following, last, v)
            else:
                sums = both(sums, here, following, last, v, _spread(columns, low + column))
        add_scaled(totals, sums, scale)

    return run


def _make_plain_pass(bits: int, state_bits: int, alone: bool) -> Any:
    """The same without vectors: states are looked up in ``levels``."""
    size, mask, phases = bits * LANES, (1 << state_bits) - 1, CODES[bits, state_bits].period

    @njit(inline=True)
    def level(levels: int, t: int, word: int) -> Any:
        state = (word >> (bits * t)) & mask
        return np.int64(load_i8(levels + ((t % phases) << state_bits) + state))

    @njit(inner=True)
    def run(
        at: int, after: int, last: bool, eights: int, columns: int, levels: int, x: int, low: int,
        scale: np.float32, totals: int,
    ) -> None:  # fmt: skip
        for s in range(SEGMENTS):
            a: Any = 0
            b, c, d, e, f, g, h = a, a, a, a, a, a, a
            next_at = 4 * ((s + 1) % SEGMENTS if last else s)
            for ring in range(RINGS * eights):
                lane = size * (ring // RINGS) + 32 * (ring % RINGS // 4) + ring % 4
                word = 0
                for q in range(bits):
                    word |= load_u8(at + lane + 4 * s + LANES * q) << (8 * q)
                for q in range(2):
                    word |= load_u8(after + lane + next_at + LANES * q) << (8 * (bits + q))
                column = columns * ring + columns * s // SEGMENTS
                v: Any = np.int64(load_i8(x + column))
                if not alone:
                    v = 128 * v + np.int64(load_i8(low + column))
                a += level(levels, 0, word) * v
                b += level(levels, 1, word) * v
                c += level(levels, 2, word) * v
                d += level(levels, 3, word) * v
                e += level(levels, 4, word) * v
                f += level(levels, 5, word) * v
                g += level(levels, 6, word) * v
                h += level(levels, 7, word) * v
            for j, total in enumerate((a, b, c, d, e, f, g, h)):
                place = totals + 4 * (SEGMENTS * j + s)
                store_f32(place, load_f32(place) + np.float32(total) * scale)

    return run


_make = _make_plain_pass if path() == "generic" else _make_pass


def _make_band(bits: int, state_bits: int) -> Any:
    one, both = _make(bits, state_bits, True), _make(bits, state_bits, False)

    @njit(inline=True)
    def band(
        data: int, levels: int, columns: int, eights: int, act: int, width: int, totals: int
    ) -> None:
        """Sums of a band: f32 (4 passes, 8 weights, 8 segments), in units of an integer."""
        for i in range(PASSES * PASS * SEGMENTS):
            store_f32(totals + 4 * i, np.float32(0))
        low, scales = act + LOW * width, group_scales(act, width)
        alone, size, together = seven(act, width), bits * LANES, GROUP // (RINGS * columns)
        for first in range(0, eights, together):
            count = min(together, eights - first)
            group, column = data + PASSES * size * first, RINGS * columns * first
            scale = load_f32(scales + 4 * (column // GROUP))
            for p in range(PASSES):
                at = group + size * count * p
                last = p == PASSES - 1
                after = group if last else at + size * count
                to = totals + 4 * PASS * SEGMENTS * p
                if alone:
                    one(at, after, last, count, columns, levels, act + column, low + column, scale,
                        to)  # fmt: skip
                else:
                    both(at, after, last, count, columns, levels, act + column, low + column,
                         scale, to)  # fmt: skip

    return band


@late(*(types.intp,) * 11)
def shuffle_rows(bits: int, state_bits: int) -> Any:
    """Rows of a matrix of shuffle-trellis rings of one code times integer activations."""
    band = _make_band(bits, state_bits)

    def run(
        data: int, levels: int, rows: int, n: int, act: int, width: int, scales: int, step: int,
        y: int, start: int, stop: int,
    ) -> None:  # fmt: skip
        """Rows ``start`` to ``stop``, whole bands of ``rows``, to y.

        ``levels``: address of `state_levels`. ``scales`` f32, ``step`` bytes (4 or 0) a row.
        """
        columns, blocks = 256 // rows, rows // SEGMENT
        eights = (n + RINGS * columns - 1) // (RINGS * columns)
        unit = np.float32(128) * _UNIT if seven(act, width) else _UNIT
        totals = scratch_1k()
        for a in range(start // rows, (stop + rows - 1) // rows):
            at = data + PASSES * bits * LANES * eights * a
            band(at, levels, columns, eights, act, width, totals)
            for j in range(rows):
                place = totals + 4 * (SEGMENTS * (j % SEGMENT) + j // SEGMENT)
                total = np.float32(0)
                for c in range(columns):
                    total += load_f32(place + 4 * blocks * c)
                row = rows * a + j
                store_f32(y + 4 * row, unit * total * load_f32(scales + step * row))

    return run
