"""Rows of packed scalar codes times int8 activations, 64 codes at a time.

A codebook is a table of bytes: entry c stands for ``unit * (table[c] - centre)``. Without a
table the code is its own entry (uniform levels). Scales belong to rows, or to groups of whole
64s of a row as float16.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from lrc_kernels._jit import njit
from lrc_kernels.cpu.activations import LOW_QUARTERS
from lrc_kernels.simd import (
    first_f32x16,
    first_i16x16,
    load_f32,
    load_i8x64,
    load_u8,
    splat_f32x16,
    splat_i32x16,
    store_f32,
    store_f32x16,
)
from lrc_kernels.simd_math import (
    UNITS,
    dot_u8,
    half_to_f32,
    lookup_16,
    scratch_256,
    sum_f32,
    to_f32,
)


def _make_row(bits: int, looked_up: bool) -> Any:
    """One row: sum of ``table[code] * x`` over groups, and the sum of scaled x."""
    unit, part_of_unit = UNITS[bits]
    plain_reads = bits in (2, 4, 8)
    order = {4: 2, 2: 3}.get(bits, 0)
    step = 8 * bits

    @njit(inline=True)
    def value(words, left, table, x, low):  # type: ignore[no-untyped-def]
        if plain_reads and left >= step:
            codes = unit(words)
        else:
            codes = part_of_unit(words, min(left, step))
        if looked_up:
            codes = lookup_16(load_i8x64(table), codes)
        zero = splat_i32x16(np.int32(0))
        high = dot_u8(zero, codes, load_i8x64(x)) << splat_i32x16(np.int32(7))
        return to_f32(dot_u8(high, codes, load_i8x64(low)))

    @njit(inline=True)
    def by_row(words, size, n, table, act, width):  # type: ignore[no-untyped-def]
        total = splat_f32x16(np.float32(0))
        low = act + width // 4 * LOW_QUARTERS
        scales = act + 8 * width + 3 * (width // 4)
        for u in range((n + 63) // 64):
            x = order * width + 64 * u
            d = value(words + step * u, size - step * u, table, act + x, low + x)
            total = total + d * splat_f32x16(load_f32(scales + 4 * u))
        return sum_f32(total)

    @njit(inline=True)
    def by_group(words, size, n, table, act, width, halves, repeat):  # type: ignore[no-untyped-def]
        """Return the sum, and the sum of weight scales times scaled x."""
        total, shift = splat_f32x16(np.float32(0)), splat_f32x16(np.float32(0))
        low = act + width // 4 * LOW_QUARTERS
        scales = act + 8 * width + 3 * (width // 4)
        sums = scales + width // 16
        scratch = scratch_256()
        units = (n + 63) // 64
        for first in range(0, units, 16):
            count = min(16, units - first)
            if repeat == 1:
                weight = half_to_f32(first_i16x16(halves + 2 * first, count))
            else:
                for j in range(count):
                    one = half_to_f32(first_i16x16(halves + 2 * ((first + j) // repeat), 1))
                    store_f32(scratch + 4 * j, sum_f32(one))
                weight = first_f32x16(scratch, count)
            shift = shift + weight * first_f32x16(sums + 4 * first, count)
            store_f32x16(scratch, weight * first_f32x16(scales + 4 * first, count))
            for j in range(count):
                u = first + j
                x = order * width + 64 * u
                d = value(words + step * u, size - step * u, table, act + x, low + x)
                total = total + d * splat_f32x16(load_f32(scratch + 4 * j))
        return sum_f32(total), sum_f32(shift)

    @njit()
    def rows(
        words: int, n: int, table: int, unit: np.float32, centre: np.float32, act: int,
        width: int, x_sum: np.float32, halves: int, groups: int, repeat: int, scales: int,
        scale_step: int, y: int, start: int, stop: int,
    ) -> None:  # fmt: skip
        size = (n * bits + 7) // 8
        for i in range(start, stop):
            if groups > 0:
                total, shift = by_group(
                    words + size * i, size, n, table, act, width, halves + 2 * groups * i, repeat
                )
            else:
                total = by_row(words + size * i, size, n, table, act, width)
                shift = x_sum
            value = unit * (total - centre * shift)
            store_f32(y + 4 * i, value * load_f32(scales + scale_step * i))

    return rows


#: ``rows(words, n, table, unit, centre, act, width, x_sum, halves, groups, repeat, scales,
#: scale_step, y, start, stop)`` of plain codes, by bits. Rows ``start`` to ``stop``; with
#: ``groups`` > 0 a row's float16 scales are ``groups`` at ``halves``, each for ``repeat`` 64s.
PLAIN_ROWS = {bits: _make_row(bits, False) for bits in range(2, 9)}
#: The same through a table of 16 bytes, stored four times over.
TABLE_ROWS = {bits: _make_row(bits, True) for bits in range(2, 5)}


@njit(inline=True)
def _code(words: int, bits: int, k: int) -> int:
    """Code number k of a packed row."""
    at = (k * bits) >> 3
    shift = (k * bits) & 7
    pair = load_u8(words + at)
    if shift + bits > 8:
        pair |= load_u8(words + at + 1) << 8
    return (pair >> shift) & ((1 << bits) - 1)


@njit()
def any_rows(
    words: int, bits: int, levels: int, n: int, group: int, groups: int, per_row: int,
    scales: int, gain: np.float32, x: int, y: int, start: int, stop: int,
) -> None:  # fmt: skip
    """Any scalar codebook and any group size, exact in x f32: the slow way.

    ``levels`` f32; ``scales`` f32, ``groups`` a row (``per_row`` 0: one row for all).
    """
    size = (n * bits + 7) // 8
    for i in range(start, stop):
        total = np.float32(0)
        for g in range(groups):
            part = np.float32(0)
            for k in range(g * group, min(n, (g + 1) * group)):
                level = load_f32(levels + 4 * _code(words + size * i, bits, k))
                part += level * load_f32(x + 4 * k)
            total += load_f32(scales + 4 * (per_row * i * groups + g)) * part
        store_f32(y + 4 * i, gain * total)


@njit()
def dense_rows(weights: int, n: int, x: int, y: int, start: int, stop: int) -> None:
    """Rows of a dense f32 matrix times x f32, to y."""
    for i in range(start, stop):
        total = splat_f32x16(np.float32(0))
        row = weights + 4 * n * i
        for k in range(0, n, 16):
            total = total + first_f32x16(row + 4 * k, n - k) * first_f32x16(x + 4 * k, n - k)
        store_f32(y + 4 * i, sum_f32(total))


@njit()
def add_components(
    words: int, bits: int, levels: int, scales: int, rank: int, length: int, t: int,
    gain: np.float32, y: int, start: int, stop: int,
) -> None:  # fmt: skip
    """Add ``gain * sum_c t[c] * scales[c] * levels[words[c]]`` to y from start to stop.

    ``bits`` 32: the words are f32 values themselves, without levels or scales.
    """
    if bits == 32:
        for c in range(rank):
            weight = gain * load_f32(t + 4 * c)
            for i in range(start, stop):
                value = load_f32(words + 4 * (length * c + i))
                store_f32(y + 4 * i, load_f32(y + 4 * i) + weight * value)
        return
    size = (length * bits + 7) // 8
    for c in range(rank):
        weight = gain * load_f32(t + 4 * c) * load_f32(scales + 4 * c)
        row = words + size * c
        for i in range(start, stop):
            level = load_f32(levels + 4 * _code(row, bits, i))
            store_f32(y + 4 * i, load_f32(y + 4 * i) + weight * level)
