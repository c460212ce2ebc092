"""Rows of E8P codes times int8 activations, decoded in registers.

With S's entries ``u + 1/2`` (u = 0, 1, 2) and a sign that is a bitwise NOT of u, a weight is
``w / 2 - 3.75`` where ``w = ((8 + 2 u) ^ (14 if negative)) + (1 - b)`` and b is the code's
lowest bit: the dot product needs bytes 2..13 and the sum of x. The coarse second stage (E81B)
is ``w / 2 - 2`` with w in 0..8.

With AVX-512 the 256 rows lie in eight registers as eight 2-bit fields each, and 32 codes are
looked up at once; a sign bit becomes a mask. The other paths read two tables of 8-byte points.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lrc_kernels import lattice_tables
from lrc_kernels._jit import njit
from lrc_kernels.cpu.activations import LOW
from lrc_kernels.simd import (
    bytes_of_i16,
    first_i8x32,
    first_i16x32,
    load_f32,
    load_f32x16,
    load_i8x64,
    load_i16x32,
    path,
    splat_f32x16,
    splat_i8x64,
    splat_i16x32,
    splat_i32x16,
    store_f32,
    store_i16x32,
    where_i8,
    where_i16,
)
from lrc_kernels.simd_codes import (
    first_quarter,
    last_quarter,
    load_rows_i16x32,
    permute_i16,
    point_bytes,
    repeat_f32x4,
    repeat_i8x16,
    second_quarter,
    third_quarter,
    widen_u8,
)
from lrc_kernels.simd_math import dot_u8, fold_fours, popcount_i16, sum_f32, to_f32
from lrc_kernels.simd_threads import scratch_256

FIELDS = path() == "avx512vnni"


def build_tables() -> NDArray[np.uint8]:
    """Every table of this path in one array: e8p at 0, its signs at 4096, e81b at 8192."""
    table = np.zeros(12288, np.uint8)
    u = (lattice_tables.e8p_rows() - 0.5).astype(np.uint64)
    coarse = (2 * lattice_tables.e81b_points() + 4).astype(np.uint64)
    place = np.arange(8)
    if FIELDS:
        fields = (u << (2 * (place % 4) + 8 * (place // 4)).astype(np.uint64)).sum(axis=1)
        table[:512] = fields.astype(np.uint16).view(np.uint8)
        for half in (0, 1):
            chosen = coarse[:, [2 * half, 2 * half + 1, 2 * half + 4, 2 * half + 5]]
            packed = (chosen << np.array([0, 4, 8, 12], np.uint64)).sum(axis=1)
            start = 8192 + 512 * half
            table[start : start + 512] = packed.astype(np.uint16).view(np.uint8)
        return table
    negative = lattice_tables.e8p_signed_rows() < 0
    flipped = lattice_tables.e8p_signs() < 0
    table[:2048] = ((2 * u.astype(np.uint8) + 8) ^ (14 * negative).astype(np.uint8)).reshape(-1)
    even = 1 - np.arange(256)[:, None] % 2
    table[4096:6144] = (14 * flipped + even).astype(np.uint8).reshape(-1)
    table[8192:10240] = coarse.astype(np.uint8).reshape(-1)
    return table


@njit(inline=True)
def _dot_planes(w0: Any, w1: Any, w2: Any, w3: Any, x: Any, low: Any) -> Any:
    """Spread weights times the pairs at ``x`` and ``low``, in lanes of 16 inputs."""
    zero = splat_i32x16(np.int32(0))
    d = dot_u8(dot_u8(zero, w0, load_i8x64(x)), w1, load_i8x64(x + 64))
    d = dot_u8(dot_u8(d, w2, load_i8x64(x + 128)), w3, load_i8x64(x + 192))
    e = dot_u8(dot_u8(zero, w0, load_i8x64(low)), w1, load_i8x64(low + 64))
    e = dot_u8(dot_u8(e, w2, load_i8x64(low + 128)), w3, load_i8x64(low + 192))
    return (d << splat_i32x16(np.int32(7))) + e


@njit(inline=True)
def _dot_repeated(w0: Any, w1: Any, w2: Any, w3: Any, x: Any, low: Any) -> Any:
    """The same with the first quarter of each plane, four times over."""
    zero = splat_i32x16(np.int32(0))
    d = dot_u8(dot_u8(zero, w0, repeat_i8x16(x)), w1, repeat_i8x16(x + 64))
    d = dot_u8(dot_u8(d, w2, repeat_i8x16(x + 128)), w3, repeat_i8x16(x + 192))
    e = dot_u8(dot_u8(zero, w0, repeat_i8x16(low)), w1, repeat_i8x16(low + 64))
    e = dot_u8(dot_u8(e, w2, repeat_i8x16(low + 128)), w3, repeat_i8x16(low + 192))
    return (d << splat_i32x16(np.int32(7))) + e


@njit(inline=True)
def _dot_points(codes: Any, rows: Any, signs: Any, x: Any, low: Any) -> Any:
    """32 points from two tables times the pairs at ``x`` and ``low``, in lanes of 16 inputs."""
    zero = splat_i32x16(np.int32(0))
    w0, w1 = point_bytes(codes, rows, signs), point_bytes(codes + 16, rows, signs)
    w2, w3 = point_bytes(codes + 32, rows, signs), point_bytes(codes + 48, rows, signs)
    d = fold_fours(
        dot_u8(zero, w0, load_i8x64(x)),
        dot_u8(zero, w1, load_i8x64(x + 64)),
        dot_u8(zero, w2, load_i8x64(x + 128)),
        dot_u8(zero, w3, load_i8x64(x + 192)),
    )
    e = fold_fours(
        dot_u8(zero, w0, load_i8x64(low)),
        dot_u8(zero, w1, load_i8x64(low + 64)),
        dot_u8(zero, w2, load_i8x64(low + 128)),
        dot_u8(zero, w3, load_i8x64(low + 192)),
    )
    return (d << splat_i32x16(np.int32(7))) + e


@njit(inline=True)
def load_fields(tables: Any) -> Any:
    """The 256 rows as eight registers of 2-bit fields, to stay there."""
    return (
        load_i16x32(tables),
        load_i16x32(tables + 64),
        load_i16x32(tables + 128),
        load_i16x32(tables + 192),
        load_i16x32(tables + 256),
        load_i16x32(tables + 320),
        load_i16x32(tables + 384),
        load_i16x32(tables + 448),
    )


@njit(inline=True)
def field_weights(c: Any, t: Any) -> Any:
    """Bytes w of 32 codes, spread over four planes (AVX-512)."""
    four = splat_i16x32(np.int16(4))
    six = splat_i8x64(np.int8(6))
    row = c >> splat_i16x32(np.int16(8))
    third = c & splat_i16x32(np.int16(0x4000))
    fields = where_i16(
        c & splat_i16x32(np.int16(-32768)),
        where_i16(third, permute_i16(row, t[6], t[7]), permute_i16(row, t[4], t[5])),
        where_i16(third, permute_i16(row, t[2], t[3]), permute_i16(row, t[0], t[1])),
    )
    low_bits = c & splat_i16x32(np.int16(0xFE))
    odd = popcount_i16((fields & splat_i16x32(np.int16(0x5555))) ^ low_bits)
    upper = (c & splat_i16x32(np.int16(0xF0))) << four
    signs = bytes_of_i16(low_bits | (odd & splat_i16x32(np.int16(1))) | upper)
    lowest = c & splat_i16x32(np.int16(1))
    b = bytes_of_i16((lowest << splat_i16x32(np.int16(8))) | lowest)
    minus, plus = b ^ splat_i8x64(np.int8(7)), b ^ splat_i8x64(np.int8(9))
    bit = where_i8(signs & splat_i8x64(np.int8(1)), minus, plus)
    w0 = (bytes_of_i16(fields << splat_i16x32(np.int16(1))) & six) ^ bit
    bit = where_i8(signs & splat_i8x64(np.int8(2)), minus, plus)
    w1 = (bytes_of_i16(fields >> splat_i16x32(np.int16(1))) & six) ^ bit
    bit = where_i8(signs & splat_i8x64(np.int8(4)), minus, plus)
    w2 = (bytes_of_i16(fields >> splat_i16x32(np.int16(3))) & six) ^ bit
    bit = where_i8(signs & splat_i8x64(np.int8(8)), minus, plus)
    w3 = (bytes_of_i16(fields >> splat_i16x32(np.int16(5))) & six) ^ bit
    return w0, w1, w2, w3


@njit(inline=True)
def _block_fields(c: Any, x: Any, low: Any, repeated: Any, t: Any) -> Any:
    """Dot product of 32 codes with 256 activations, in lanes of two codes (AVX-512).

    ``repeated``: each 8 codes belong to another row and take the same 64 activations.
    """
    w0, w1, w2, w3 = field_weights(c, t)
    if repeated:
        return _dot_repeated(w0, w1, w2, w3, x, low)
    return _dot_planes(w0, w1, w2, w3, x, low)


@njit(inline=True)
def _block_points(c: Any, x: Any, low: Any, tables: Any) -> Any:
    """The same by tables of points, with activations in their own order."""
    codes = scratch_256()
    store_i16x32(codes, c)
    return _dot_points(codes, tables, tables + 4096, x, low)


@njit(inline=True)
def take_codes(codes: Any, left: Any) -> Any:
    """The next 32 codes, of which ``left`` exist."""
    if left >= 32:
        return load_i16x32(codes)
    return first_i16x32(codes, left)


@njit(inline=True)
def _blocks(codes: Any, k: Any, count: Any, act: Any, width: Any, tables: Any, t: Any) -> Any:
    """Sum over the first ``count`` blocks of a row of k codes of ``w`` times x, in lanes."""
    total = splat_f32x16(np.float32(0))
    low = act + LOW * width
    scales = low + LOW * width
    for b in range(count):
        c = take_codes(codes + 64 * b, k - 32 * b)
        x = width + 256 * b
        if FIELDS:
            d = _block_fields(c, act + x, low + x, False, t)
        else:
            d = _block_points(c, act + x, low + x, tables)
        total = total + to_f32(d) * load_f32x16(scales + 64 * b)
    return total


@njit(inline=True)
def _row(codes: Any, k: Any, act: Any, width: Any, tables: Any, t: Any) -> Any:
    """Sum over one row of (weight + 3.75) times x."""
    count = (k + 31) // 32
    total = _blocks(codes, k, count, act, width, tables, t)
    return np.float32(0.5) * sum_f32(total)


@njit(inline=True)
def _lookup(row: Any, upper: Any, third: Any, table: Any) -> Any:
    """256 entries of 16 bits, 32 at once (AVX-512); ``upper``, ``third``: bits 7 and 6 of row."""
    return where_i16(
        upper,
        where_i16(
            third,
            permute_i16(row, load_i16x32(table + 384), load_i16x32(table + 448)),
            permute_i16(row, load_i16x32(table + 256), load_i16x32(table + 320)),
        ),
        where_i16(
            third,
            permute_i16(row, load_i16x32(table + 128), load_i16x32(table + 192)),
            permute_i16(row, load_i16x32(table), load_i16x32(table + 64)),
        ),
    )


@njit(inline=True)
def _coarse_row(codes: Any, k: Any, act: Any, width: Any, tables: Any) -> Any:
    """Sum over one row of E81B codes of (weight + 2) times x."""
    total = splat_f32x16(np.float32(0))
    low = act + LOW * width
    scales = low + LOW * width
    nibble = splat_i8x64(np.int8(15))
    four = splat_i16x32(np.int16(4))
    table = tables + 8192
    for b in range((k + 31) // 32):
        c = widen_u8(first_i8x32(codes + 32 * b, min(k - 32 * b, 32)))
        x = width + 256 * b
        if FIELDS:
            upper, third = c & splat_i16x32(np.int16(128)), c & splat_i16x32(np.int16(64))
            near = _lookup(c, upper, third, table)
            far = _lookup(c, upper, third, table + 512)
            w0, w1 = bytes_of_i16(near) & nibble, bytes_of_i16(near >> four) & nibble
            w2, w3 = bytes_of_i16(far) & nibble, bytes_of_i16(far >> four) & nibble
            d = _dot_planes(w0, w1, w2, w3, act + x, low + x)
        else:
            # As rows of a lattice code, with a table of no signs behind them.
            stored = scratch_256()
            store_i16x32(stored, c << splat_i16x32(np.int16(8)))
            d = _dot_points(stored, table, table + 2048, act + x, low + x)
        total = total + to_f32(d) * load_f32x16(scales + 64 * b)
    return np.float32(0.5) * sum_f32(total)


@njit(inline=True)
def _four_rows(codes: Any, k: Any, act: Any, width: Any, tables: Any, t: Any) -> Any:
    """Four times `_row`, where each row ends in eight codes: they are decoded together.

    The same operations in the same order as for a row alone, so the same bits.
    """
    low = act + LOW * width
    scales = low + LOW * width
    full = k // 32
    c = load_rows_i16x32(codes + 64 * full, 2 * k)
    x = width + 256 * full
    d = _block_fields(c, act + x, low + x, True, t)
    ends = to_f32(d) * repeat_f32x4(scales + 64 * full)
    a = _blocks(codes, k, full, act, width, tables, t)
    b = _blocks(codes + 2 * k, k, full, act, width, tables, t)
    c4 = _blocks(codes + 4 * k, k, full, act, width, tables, t)
    d4 = _blocks(codes + 6 * k, k, full, act, width, tables, t)
    half = np.float32(0.5)
    return (
        half * sum_f32(a + first_quarter(ends)),
        half * sum_f32(b + second_quarter(ends)),
        half * sum_f32(c4 + third_quarter(ends)),
        half * sum_f32(d4 + last_quarter(ends)),
    )


@njit()
def e8p_rows(
    codes: int, second: int, stage: int, inverse: np.float32, n: int, act: int, width: int,
    x_sum: np.float32, tables: int, scales: int, step: int, y: int, start: int, stop: int,
) -> None:  # fmt: skip
    """Rows ``start`` to ``stop`` of a lattice matrix times the activations ``act``, to ``y``.

    ``stage``: 2 the codes alone, 3 with E81B codes ``second`` times ``inverse``, 4 with E8P
    ones. ``scales`` f32, ``step`` bytes a row. ``x_sum`` is what ``quantize`` returned.
    """
    k = (n + 7) // 8
    t = load_fields(tables)
    shift = np.float32(3.75) * x_sum
    if FIELDS and stage == 2 and k % 32 == 8:
        while start + 4 <= stop:
            four = _four_rows(codes + 2 * k * start, k, act, width, tables, t)
            for j in range(4):
                value = (four[j] - shift) * load_f32(scales + step * (start + j))
                store_f32(y + 4 * (start + j), value)
            start += 4
    for i in range(start, stop):
        value = _row(codes + 2 * k * i, k, act, width, tables, t) - shift
        if stage == 4:
            rest = _row(second + 2 * k * i, k, act, width, tables, t)
            value += inverse * (rest - shift)
        elif stage == 3:
            rest = _coarse_row(second + k * i, k, act, width, tables)
            value += inverse * (rest - np.float32(2) * x_sum)
        store_f32(y + 4 * i, value * load_f32(scales + step * i))
