"""Rows of packed scalar codes times int8 activations, 64 codes at a time.

A codebook is a table of bytes: entry c stands for ``unit * (table[c] - centre)``. Without a
table the code is its own entry (uniform levels). Scales belong to rows, or to groups of whole
64s of a row as float16.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba.core import types

from lrc_kernels._jit import njit
from lrc_kernels._late import late
from lrc_kernels.cpu.codes.expand import expand
from lrc_kernels.cpu.dot.dot_units import make_rows
from lrc_kernels.simd.codes import (
    bytes_to_f32,
    lookup_16,
    unstride_2,
    unstride_4,
)
from lrc_kernels.simd.math import sum_f32
from lrc_kernels.simd.values import (
    first_f32x16,
    load_f32,
    load_f32x16,
    load_i8x64,
    load_u8,
    splat_f32x16,
    store_f32,
    store_f32x16,
    store_i8x64,
)


@late(
    *(types.intp,) * 4, types.float32, types.float32, *(types.intp,) * 2, types.float32,
    *(types.intp,) * 9,
)  # fmt: skip
def level_rows(bits: int, looked_up: int) -> Any:
    """Rows of an (m, n) matrix of codes of so many bits times integer activations."""
    multiply = make_rows(bits, bool(looked_up))

    def rows(
        words: int, m: int, n: int, table: int, unit: np.float32, centre: np.float32, act: int,
        width: int, x_sum: np.float32, halves: int, groups: int, repeat: int, scales: int,
        scale_step: int, work: int, y: int, start: int, stop: int,
    ) -> None:  # fmt: skip
        """Rows ``start`` to ``stop`` to y.

        ``table``: 16 bytes, stored four times over, where codes are looked up. With ``groups`` > 0
        a row has that many float16 scales at ``halves``, each for ``repeat`` 64s; ``scales``: one
        f32 a row, ``scale_step`` bytes apart. ``work``: n bytes, rounded up to 64.
        """
        multiply(words, m, n, table, centre, act, width, halves, groups, repeat, work, y, start,
                 stop)  # fmt: skip
        for i in range(start, stop):
            total, scale = load_f32(y + 4 * i), load_f32(scales + scale_step * i)
            if groups > 0:
                store_f32(y + 4 * i, unit * scale * total)
            else:
                store_f32(y + 4 * i, unit * (total - centre * x_sum) * scale)

    return rows


@njit(inline=True)
def _code(words: int, bits: int, k: int) -> int:
    """Code number k of a packed row."""
    at = (k * bits) >> 3
    shift = (k * bits) & 7
    pair = load_u8(words + at)
    if shift + bits > 8:
        pair |= load_u8(words + at + 1) << 8
    code: int = (pair >> shift) & ((1 << bits) - 1)
    return code


@njit(inner=True)
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


@njit(inner=True)
def dense_rows(weights: int, n: int, x: int, y: int, start: int, stop: int) -> None:
    """Rows of a dense f32 matrix times x f32, to y."""
    for i in range(start, stop):
        total = splat_f32x16(np.float32(0))
        row = weights + 4 * n * i
        for k in range(0, n, 16):
            total = total + first_f32x16(row + 4 * k, n - k) * first_f32x16(x + 4 * k, n - k)
        store_f32(y + 4 * i, sum_f32(total))


@njit(inner=True)
def add_components(
    words: int, bits: int, levels: int, table: int, unit: np.float32, scales: int, rank: int,
    length: int, t: int, gain: np.float32, work: int, y: int, start: int, stop: int,
) -> None:  # fmt: skip
    """Add ``gain * sum_c t[c] * scales[c] * levels[words[c]]`` to y from start to stop.

    ``table``: as in `level_rows`, around 128, or 0 where there is none; then ``levels`` f32.
    ``bits`` 32: the words are f32 values themselves, without levels or scales.
    """
    size = (length * bits + 7) // 8
    for c in range(rank):
        weight = gain * load_f32(t + 4 * c)
        row = words + size * c
        if bits == 32:
            for i in range(start, stop):
                at = y + 4 * i
                store_f32(at, load_f32(at) + weight * load_f32(row + 4 * i))
            continue
        weight *= load_f32(scales + 4 * c)
        if table != 0 and start % 8 == 0:
            _add_looked_up(row, size, bits, table, weight * unit, work, y, start, stop)
            continue
        for i in range(start, stop):
            level = load_f32(levels + 4 * _code(row, bits, i))
            store_f32(y + 4 * i, load_f32(y + 4 * i) + weight * level)


@njit(inner=True)
def _add_looked_up(
    row: int, size: int, bits: int, table: int, weight: np.float32, work: int, y: int,
    start: int, stop: int,
) -> None:  # fmt: skip
    """Add ``weight * (table[row] - 128)`` to y from start (a multiple of 8) to stop."""
    entries = load_i8x64(table)
    skipped = start * bits // 8
    units = (stop - start + 63) // 64
    expand(bits, row + skipped, size - skipped, units, work)
    centre, wide = splat_f32x16(np.float32(128)), splat_f32x16(weight)
    for u in range(units):
        codes = load_i8x64(work + 64 * u)
        if bits == 4:
            codes = unstride_2(codes)
        elif bits == 2:
            codes = unstride_4(codes)
        store_i8x64(work + 64 * u, lookup_16(entries, codes))
    whole = (stop - start) // 16 * 16
    for i in range(0, whole, 16):
        at = y + 4 * (start + i)
        store_f32x16(at, load_f32x16(at) + wide * (bytes_to_f32(work + i) - centre))
    for i in range(whole, stop - start):
        at = y + 4 * (start + i)
        value = weight * (np.float32(load_u8(work + i)) - np.float32(128))
        store_f32(at, load_f32(at) + value)
