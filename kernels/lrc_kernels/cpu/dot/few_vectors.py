"""Packed scalar codes times a few vectors: a row is decoded once, and lies in cache meanwhile."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lrc_kernels._jit import constant, njit
from lrc_kernels.cpu.codes.decode_levels import checked, decode
from lrc_kernels.simd.math import sum_f32
from lrc_kernels.simd.values import first_f32x16, load_f32x16, splat_f32x16, store_f32

F32 = NDArray[np.float32]
U8 = NDArray[np.uint8]

_ONE = constant(1)


@njit(inline=True)
def _one(row: int, x: int, n: int, y: int) -> None:
    """Product of a row with a vector: 16 sums, which are added up in the end."""
    whole, total = n // 16 * 16, splat_f32x16(np.float32(0))
    for k in range(0, whole, 16):
        total = total + load_f32x16(row + 4 * k) * load_f32x16(x + 4 * k)
    if whole < n:
        at, left = 4 * whole, n - whole
        total = total + first_f32x16(row + at, left) * first_f32x16(x + at, left)
    store_f32(y, sum_f32(total))


@njit(inline=True)
def _four(row: int, x: int, n: int, y: int, stride: int) -> None:
    """The same of four vectors, one after the other in memory, by the same operations."""
    whole, step, zero = n // 16 * 16, 4 * n, splat_f32x16(np.float32(0))
    a, b, c, d = zero, zero, zero, zero
    for k in range(0, whole, 16):
        w, at = load_f32x16(row + 4 * k), x + 4 * k
        a, b = a + w * load_f32x16(at), b + w * load_f32x16(at + step)
        c, d = c + w * load_f32x16(at + 2 * step), d + w * load_f32x16(at + 3 * step)
    if whole < n:
        w, at, left = first_f32x16(row + 4 * whole, n - whole), x + 4 * whole, n - whole
        a, b = a + w * first_f32x16(at, left), b + w * first_f32x16(at + step, left)
        c = c + w * first_f32x16(at + 2 * step, left)
        d = d + w * first_f32x16(at + 3 * step, left)
    store_f32(y, sum_f32(a))
    store_f32(y + stride, sum_f32(b))
    store_f32(y + 2 * stride, sum_f32(c))
    store_f32(y + 3 * stride, sum_f32(d))


@njit()
def _multiply(
    bits: int, words: int, rows: int, n: int, table: int, unit: np.float32, centre: np.float32,
    levels: int, scales: int, step: int, groups: int, group: int, work: int, row: int, x: int,
    vectors: int, y: int, stride: int,
) -> None:  # fmt: skip
    size = (n * bits + 7) // 8
    for i in range(rows):
        decode(bits, words + size * i, _ONE, n, table, unit, centre, levels, scales + step * i,
               step, groups, group, work, row)  # fmt: skip
        whole = vectors // 4 * 4
        for t in range(0, whole, 4):
            _four(row, x + 4 * n * t, n, y + 4 * i + stride * t, stride)
        for t in range(whole, vectors):
            _one(row, x + 4 * n * t, n, y + 4 * i + stride * t)


def multiply_few(
    words: U8, bits: int, scales: F32, group_size: int, x: F32, out: F32, **options: Any
) -> None:
    """Products of packed scalar codes with vectors; of each, whatever the others are.

    Parameters
    ----------
    words, bits, scales, group_size, **options
        As `decode_levels.checked` wants them.
    x : (T, n) float32
        C-contiguous.
    out : (T, rows) float32
        Its rows may lie apart.

    Raises
    ------
    ValueError
        When these do not fit one another.
    """
    (vectors, n), rows = x.shape, len(words)
    fits = out.shape == (vectors, rows) and out.dtype == x.dtype == np.float32
    if not fits or not x.flags.c_contiguous or (rows > 1 and out.strides[1] != 4):
        raise ValueError(f"x {x.shape} and out {out.shape} do not fit {rows} rows")
    known, _alive = checked(words, bits, scales, group_size, n, **options)
    work, row = np.empty(max(1, -(-n // 64)) * 64, np.uint8), np.empty(n, np.float32)
    _multiply(
        bits, words.ctypes.data, rows, n, *known, work.ctypes.data, row.ctypes.data,
        x.ctypes.data, vectors, out.ctypes.data, out.strides[0],
    )  # fmt: skip
