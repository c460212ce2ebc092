"""Rows of E8P codes times int8 activations, decoded in registers.

With S's entries ``u + 1/2`` (u = 0, 1, 2) and a sign that is a bitwise NOT of u, a weight is
``w / 2 - 3.75`` where ``w = ((8 + 2 u) ^ (14 if negative)) + (1 - b)`` and b is the code's
lowest bit: the dot product needs bytes 2..13 and the sum of x. The coarse second stage (E81B)
is ``w / 2 - 2`` with w in 0..8.

With AVX-512 codes are decoded in registers (:mod:`~lrc_kernels.cpu.codes.e8p_fields`); the other
paths read two tables of 8-byte points.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba.core import types

from lrc_kernels._jit import njit
from lrc_kernels._late import late
from lrc_kernels.cpu.codes.e8p_fields import FIELDS, coarse_weights, field_weights, load_fields
from lrc_kernels.cpu.codes.e8p_tables import COARSE, NO_SIGNS, SIGNS
from lrc_kernels.cpu.transform.activations import LOW
from lrc_kernels.simd.codes import (
    first_quarter,
    last_quarter,
    load_rows_i16x32,
    repeat_f32x4,
    repeat_i8x16,
    second_quarter,
    third_quarter,
    widen_u8,
)
from lrc_kernels.simd.dot import dot_points, dot_small
from lrc_kernels.simd.math import sum_f32, to_f32
from lrc_kernels.simd.threads import scratch_256
from lrc_kernels.simd.values import (
    first_i8x32,
    first_i16x32,
    load_f32,
    load_f32x16,
    load_i8x32,
    load_i8x64,
    load_i16,
    load_i16x32,
    splat_f32x16,
    splat_i16x32,
    splat_i32x16,
    store_f32,
    store_i16,
    store_i16x32,
)


@njit(inline=True)
def _dot_planes(w0: Any, w1: Any, w2: Any, w3: Any, x: Any, low: Any) -> Any:
    """Spread weights times the pairs at ``x`` and ``low``, in lanes of 16 inputs."""
    zero = splat_i32x16(np.int32(0))
    d = dot_small(dot_small(zero, w0, load_i8x64(x)), w1, load_i8x64(x + 64))
    d = dot_small(dot_small(d, w2, load_i8x64(x + 128)), w3, load_i8x64(x + 192))
    e = dot_small(dot_small(zero, w0, load_i8x64(low)), w1, load_i8x64(low + 64))
    e = dot_small(dot_small(e, w2, load_i8x64(low + 128)), w3, load_i8x64(low + 192))
    return (d << splat_i32x16(np.int32(7))) + e


@njit(inline=True)
def _dot_repeated(w0: Any, w1: Any, w2: Any, w3: Any, x: Any, low: Any) -> Any:
    """The same with the first quarter of each plane, four times over."""
    zero = splat_i32x16(np.int32(0))
    d = dot_small(dot_small(zero, w0, repeat_i8x16(x)), w1, repeat_i8x16(x + 64))
    d = dot_small(dot_small(d, w2, repeat_i8x16(x + 128)), w3, repeat_i8x16(x + 192))
    e = dot_small(dot_small(zero, w0, repeat_i8x16(low)), w1, repeat_i8x16(low + 64))
    e = dot_small(dot_small(e, w2, repeat_i8x16(low + 128)), w3, repeat_i8x16(low + 192))
    return (d << splat_i32x16(np.int32(7))) + e


@njit(inline=True)
def _block_fields(c: Any, x: Any, low: Any, repeated: Any, t: Any) -> Any:
    """Dot product of 32 codes with 256 activations, in lanes of two codes.

    ``repeated``: each 8 codes belong to another row and take the same 64 activations.
    """
    w0, w1, w2, w3 = field_weights(c, t)
    if repeated:
        return _dot_repeated(w0, w1, w2, w3, x, low)
    return _dot_planes(w0, w1, w2, w3, x, low)


@njit(inline=True)
def take_codes(codes: Any, left: Any) -> Any:
    """The next 32 codes, of which ``left`` exist."""
    if left >= 32:
        return load_i16x32(codes)
    return first_i16x32(codes, left)


@njit(inline=True)
def take_coarse(codes: Any, left: Any) -> Any:
    """The same for codes of one byte, widened."""
    if left >= 32:
        return widen_u8(load_i8x32(codes))
    return widen_u8(first_i8x32(codes, left))


@njit(inline=True)
def _block_points(codes: Any, left: Any, x: Any, low: Any, tables: Any) -> Any:
    """The same of the next ``left`` codes, by tables of points."""
    if left < 32:
        kept = scratch_256()
        store_i16x32(kept, splat_i16x32(np.int16(0)))
        for i in range(left):
            store_i16(kept + 2 * i, load_i16(codes + 2 * i))
        codes = kept
    return dot_points(codes, tables, tables + SIGNS, x, low)


@njit(inline=True)
def _blocks(codes: Any, k: Any, count: Any, act: Any, width: Any, tables: Any, t: Any) -> Any:
    """Sum over the first ``count`` blocks of a row of k codes of ``w`` times x, in lanes."""
    total = splat_f32x16(np.float32(0))
    low = act + LOW * width
    scales = low + LOW * width
    for b in range(count):
        x, left = width + 256 * b, k - 32 * b
        if FIELDS:
            d = _block_fields(take_codes(codes + 64 * b, left), act + x, low + x, False, t)
        else:
            d = _block_points(codes + 64 * b, left, act + x, low + x, tables)
        total = total + to_f32(d) * load_f32x16(scales + 64 * b)
    return total


@njit(inline=True)
def _row(codes: Any, k: Any, act: Any, width: Any, tables: Any, t: Any) -> Any:
    """Sum over one row of (weight + 3.75) times x."""
    count = (k + 31) // 32
    total = _blocks(codes, k, count, act, width, tables, t)
    return np.float32(0.5) * sum_f32(total)


@njit(inline=True)
def _coarse_row(codes: Any, k: Any, act: Any, width: Any, tables: Any) -> Any:
    """Sum over one row of E81B codes of (weight + 2) times x."""
    total = splat_f32x16(np.float32(0))
    low = act + LOW * width
    scales = low + LOW * width
    table = tables + COARSE
    for b in range((k + 31) // 32):
        c = take_coarse(codes + 32 * b, k - 32 * b)
        x = width + 256 * b
        if FIELDS:
            w0, w1, w2, w3 = coarse_weights(c, table)
            d = _dot_planes(w0, w1, w2, w3, act + x, low + x)
        else:
            # As rows of a lattice code, with a table of no signs behind them.
            stored = scratch_256()
            store_i16x32(stored, c << splat_i16x32(np.int16(8)))
            d = dot_points(stored, table, table + NO_SIGNS, act + x, low + x)
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


@late(*(types.intp,) * 2, types.float32, *(types.intp,) * 3, types.float32, *(types.intp,) * 6)
def e8p_rows(stage: int) -> Any:
    """Rows of a lattice matrix times integer activations.

    ``stage``: 2 E8P codes alone, 3 with a second stage of E81B codes, 4 with one of E8P codes.
    """

    def run(
        codes: int, second: int, inverse: np.float32, n: int, act: int, width: int,
        x_sum: np.float32, tables: int, scales: int, step: int, y: int, start: int, stop: int,
    ) -> None:  # fmt: skip
        """Rows ``start`` to ``stop`` times the activations ``act``, to ``y``.

        ``second``: codes that count times ``inverse``. ``scales`` f32, ``step`` bytes a row.
        ``x_sum`` is what ``quantize`` returned.
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

    return run
