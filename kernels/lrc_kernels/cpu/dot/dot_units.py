"""Rows of packed scalar codes times integer activations, 64 codes at a time, before row scales.

Codes are unpacked in registers, four rows at once: these share the loads of the activations, and
no sum waits for the one before. Most of a model's head is such a matrix, and the largest one.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from lrc_kernels._jit import constant, njit
from lrc_kernels.cpu.transform.activations import BY_WORDS, group_scales, group_sums, halves_for
from lrc_kernels.simd.codes import half_to_f32, lookup_16
from lrc_kernels.simd.dot import dot_seven, dot_small, dot_u8
from lrc_kernels.simd.math import sum_f32, to_f32
from lrc_kernels.simd.threads import fetch, scratch_256
from lrc_kernels.simd.units import WIDE
from lrc_kernels.simd.values import (
    first_f32x16,
    first_i16x16,
    load_f32,
    load_i8x64,
    load_u8,
    splat_f32x16,
    splat_i32x16,
    store_f32,
    store_f32x16,
    store_i8,
)
from lrc_kernels.simd.word_units import ADD_UNITS

#: Bytes from the codes that are multiplied to those that are asked for.
AHEAD = 16384
_ZERO = constant(0)


@njit(inline=True)
def _group_scales(halves: Any, first: Any, count: Any, repeat: Any, scratch: Any) -> Any:
    """Float16 scales of ``count`` groups of 64 from the one numbered ``first``."""
    if repeat == 1:
        return half_to_f32(first_i16x16(halves + 2 * first, count))
    for j in range(count):
        one = half_to_f32(first_i16x16(halves + 2 * ((first + j) // repeat), 1))
        store_f32(scratch + 4 * j, sum_f32(one))
    return first_f32x16(scratch, count)


@njit(inline=True)
def _weigh(
    halves: Any, first: Any, count: Any, repeat: Any, x_scales: Any, x_sums: Any, scratch: Any,
    shift: Any,
) -> Any:  # fmt: skip
    """Scales of up to 16 groups times those of x to ``scratch``; add theirs times x's sums."""
    w = _group_scales(halves, first, count, repeat, scratch)
    store_f32x16(scratch, w * x_scales)
    return shift + w * x_sums


def _make_add(bits: int, looked_up: bool) -> Any:
    if BY_WORDS:
        return ADD_UNITS[bits, looked_up]
    unit = WIDE[bits]
    # The low halves are at most 64.
    dot, dot_low = (dot_u8, dot_small) if looked_up or bits == 8 else (dot_seven, dot_seven)

    @njit(inline=True)
    def add(total: Any, codes: Any, entries: Any, x: Any, low: Any, scale: Any) -> Any:
        """Total plus the scale times 64 codes, or entries, times a group of pairs: 16 lanes."""
        values, zero = unit(codes), splat_i32x16(np.int32(0))
        if looked_up:
            values = lookup_16(entries, values)
        product = dot(zero, values, load_i8x64(x)) << splat_i32x16(np.int32(7))
        product = dot_low(product, values, load_i8x64(low))
        return total + to_f32(product) * splat_f32x16(load_f32(scale))

    @njit(inline=True)
    def add_units(
        totals: Any, entries: Any, codes: Any, size: Any, x: Any, low: Any, scale: Any, apart: Any
    ) -> Any:
        a, b, c, d = totals
        return (
            add(a, codes, entries, x, low, scale),
            add(b, codes + size, entries, x, low, scale + apart),
            add(c, codes + 2 * size, entries, x, low, scale + 2 * apart),
            add(d, codes + 3 * size, entries, x, low, scale + 3 * apart),
        )

    return add_units


def _make_four(bits: int, looked_up: bool) -> Any:
    add, step = _make_add(bits, looked_up), 8 * bits

    @njit(inner=True)
    def four_rows(
        codes: int, size: int, units: int, table: int, centre: np.float32, x: int, low: int,
        x_scales: int, x_sums: int, halves: int, groups: int, repeat: int, y: int,
    ) -> None:  # fmt: skip
        """Four rows ``size`` bytes apart to y f32 (4,); with scales of groups less ``centre``."""
        entries, scratch, none = load_i8x64(table), scratch_256(), splat_f32x16(np.float32(0))
        p, q, r, s = none, none, none, none
        totals = none, none, none, none
        for first in range(0, units, 16):
            count, scale, apart = min(16, units - first), x_scales + 4 * first, 0
            if halves != 0:
                v = first_f32x16(scale, count)
                w = first_f32x16(x_sums + 4 * first, count)
                p = _weigh(halves, first, count, repeat, v, w, scratch, p)
                q = _weigh(halves + 2 * groups, first, count, repeat, v, w, scratch + 64, q)
                r = _weigh(halves + 4 * groups, first, count, repeat, v, w, scratch + 128, r)
                s = _weigh(halves + 6 * groups, first, count, repeat, v, w, scratch + 192, s)
                scale, apart = scratch, 64
            for j in range(first, first + count):
                at, h, k = codes + step * j, x + 64 * j, low + 64 * j
                fetch(at + AHEAD)
                fetch(at + size + AHEAD)
                fetch(at + 2 * size + AHEAD)
                fetch(at + 3 * size + AHEAD)
                totals = add(totals, entries, at, size, h, k, scale, apart)
                scale += 4
        middle = splat_f32x16(centre)
        a, b, c, d = totals
        store_f32(y, sum_f32(a - middle * p))
        store_f32(y + 4, sum_f32(b - middle * q))
        store_f32(y + 8, sum_f32(c - middle * r))
        store_f32(y + 12, sum_f32(d - middle * s))

    return four_rows


def make_rows(bits: int, looked_up: bool) -> Any:
    """Rows of codes of so many bits, which are entries themselves or are looked up."""
    four, step = _make_four(bits, looked_up), 8 * bits
    # Units are read whole and more: the last ones reach past their row, where x is zero.
    read = {2: 16, 4: 32}.get(bits, 64)

    @njit(inner=True)
    def rows_of_units(
        words: int, m: int, n: int, table: int, centre: np.float32, act: int, width: int,
        halves: int, groups: int, repeat: int, work: int, y: int, start: int, stop: int,
    ) -> None:  # fmt: skip
        """Rows ``start`` to ``stop`` of an (m, n) matrix times the activations ``act``, to y.

        ``table``: 16 bytes, stored four times over, where codes are looked up. With ``groups`` > 0
        a row has that many float16 scales at ``halves``, each for ``repeat`` 64s, and ``centre`` is
        taken off every code; otherwise neither. ``work``: n bytes, rounded up to 64.
        """
        size, units = (n * bits + 7) // 8, (n + 63) // 64
        x, low = halves_for(act, width, bits)
        x_scales, x_sums = group_scales(act, width), group_sums(act, width)
        entries = table if looked_up else act
        end, reach = words + size * m, step * (units - 1) + read
        scratch, i = scratch_256(), start
        while i < stop:
            codes, scales = words + size * i, halves + 2 * groups * i
            if i + 4 <= stop and codes + 3 * size + reach <= end:
                four(codes, size, units, entries, centre, x, low, x_scales, x_sums, scales,
                     groups, repeat, y + 4 * i)  # fmt: skip
                i += 4
                continue
            if codes + reach > end:
                for b in range(size):
                    store_i8(work + b, np.int8(load_u8(codes + b)))
                codes = work
            four(codes, _ZERO, units, entries, centre, x, low, x_scales, x_sums, scales,
                 _ZERO, repeat, scratch)  # fmt: skip
            store_f32(y + 4 * i, load_f32(scratch))
            i += 1

    return rows_of_units
