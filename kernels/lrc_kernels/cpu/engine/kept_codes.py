"""Keys and values in 8 or 4 bits: rotated, so that no channel is large, with a scale for each 32.

A row of ``dim`` numbers, a multiple of 32, is multiplied with the orthonormal Hadamard transform
of :mod:`lrc_kernels.rotate`. Of each 32 numbers the largest magnitude is 127 or 7 steps. With 8
bits a code is a byte; with 4 the first 16 codes are the low halves of 16 bytes, the others the
high halves. :mod:`lrc.nn.kept_codes` is the same in NumPy.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from lrc_kernels._jit import njit
from lrc_kernels.cpu.engine.table import (
    CACHED_KEYS,
    CAPACITY,
    CODE_BITS,
    HADAMARD_BLOCK,
    HADAMARD_MATRIX,
    HADAMARD_ORDER,
    SCALES_OF_KEYS,
)
from lrc_kernels.cpu.transform.hadamard_vector import hadamard_vector
from lrc_kernels.simd.kept_values import (
    load_bytes,
    load_high,
    load_low,
    store_bytes,
    store_halves,
)
from lrc_kernels.simd.math import absolute, largest, max_f32, sum_f32, to_i32
from lrc_kernels.simd.values import (
    load_f32,
    load_f32x16,
    splat_f32x16,
    store_f32,
    store_f32x16,
)

I64 = NDArray[np.int64]

#: Numbers that share a scale.
GROUP = 32


@njit(inner=True)
def rotate(cache: I64, x: int, dim: int, back: int, work: int) -> None:
    """Replace x f32 (dim,) by its transform, or undo it; ``cache``: a row of the table's."""
    block = cache[HADAMARD_BLOCK]
    scale = np.float32(1 / math.sqrt(np.float64(block)))
    hadamard_vector(x, dim, block, cache[HADAMARD_ORDER], cache[HADAMARD_MATRIX], scale, back, work)


@njit(inner=True)
def keep_codes(x: int, dim: int, cache: I64, kind: int, head: int, slot: int, work: int) -> None:
    """Key (``kind`` 0) or value (1) x f32 (dim,) of one head to its slot of a layer's cache.

    ``work``: 2 dim numbers.
    """
    bits, place = cache[CODE_BITS], cache[CAPACITY] * head + slot
    codes = cache[CACHED_KEYS + kind] + dim * bits // 8 * place
    scales = cache[SCALES_OF_KEYS + kind] + 4 * (dim // GROUP) * place
    for j in range(0, dim, 16):
        store_f32x16(work + 4 * j, load_f32x16(x + 4 * j))
    rotate(cache, work, dim, 0, work + 4 * dim)
    top = np.float32(127 if bits == 8 else 7)
    for g in range(dim // GROUP):
        a, b = load_f32x16(work + 128 * g), load_f32x16(work + 128 * g + 64)
        most = max_f32(largest(absolute(a), absolute(b)))
        step = splat_f32x16(top / most if most > 0 else np.float32(0))
        low, high = to_i32(a * step), to_i32(b * step)
        store_f32(scales + 4 * g, most / top)
        if bits == 8:
            store_bytes(codes + 32 * g, low)
            store_bytes(codes + 32 * g + 16, high)
        else:
            store_halves(codes + 16 * g, low, high)


@njit(inner=True)
def decode_codes(
    cache: I64, kind: int, dim: int, head: int, start: int, stop: int, out: int, work: int
) -> None:
    """Keys or values of one head, from slot ``start`` to ``stop``, to f32 rows of their own slots.

    ``out``: address of slot 0's; ``work``: dim numbers.
    """
    bits = cache[CODE_BITS]
    for t in range(start, stop):
        place = cache[CAPACITY] * head + t
        codes = cache[CACHED_KEYS + kind] + dim * bits // 8 * place
        scales = cache[SCALES_OF_KEYS + kind] + 4 * (dim // GROUP) * place
        row = out + 4 * dim * t
        for g in range(dim // GROUP):
            scale = splat_f32x16(load_f32(scales + 4 * g))
            if bits == 8:
                store_f32x16(row + 128 * g, scale * load_bytes(codes + 32 * g))
                store_f32x16(row + 128 * g + 64, scale * load_bytes(codes + 32 * g + 16))
            else:
                store_f32x16(row + 128 * g, scale * load_low(codes + 16 * g))
                store_f32x16(row + 128 * g + 64, scale * load_high(codes + 16 * g))
        rotate(cache, row, dim, 1, work)


@njit(inner=True)
def score_codes(
    q: int, cache: I64, dim: int, head: int, first: int, count: int, scores: int
) -> None:
    """Products of a rotated query with the keys of ``count`` slots from ``first`` on."""
    bits, groups, place = cache[CODE_BITS], dim // GROUP, cache[CAPACITY] * head + first
    codes = cache[CACHED_KEYS] + dim * bits // 8 * place
    scales, zero = cache[SCALES_OF_KEYS] + 4 * groups * place, splat_f32x16(np.float32(0))
    if bits == 8:
        for t in range(count):
            total, row = zero, codes + dim * t
            for g in range(groups):
                part = load_f32x16(q + 128 * g) * load_bytes(row + 32 * g) + (
                    load_f32x16(q + 128 * g + 64) * load_bytes(row + 32 * g + 16)
                )
                total = total + splat_f32x16(load_f32(scales + 4 * (groups * t + g))) * part
            store_f32(scores + 4 * t, sum_f32(total))
    else:
        for t in range(count):
            total, row = zero, codes + dim // 2 * t
            for g in range(groups):
                part = load_f32x16(q + 128 * g) * load_low(row + 16 * g) + (
                    load_f32x16(q + 128 * g + 64) * load_high(row + 16 * g)
                )
                total = total + splat_f32x16(load_f32(scales + 4 * (groups * t + g))) * part
            store_f32(scores + 4 * t, sum_f32(total))


@njit(inner=True)
def mix_codes(
    scores: int, cache: I64, dim: int, head: int, first: int, count: int, scale: np.float32, y: int
) -> None:
    """Sums of rotated values, each times its score and ``scale``, to y (dim,)."""
    bits, groups, place = cache[CODE_BITS], dim // GROUP, cache[CAPACITY] * head + first
    codes = cache[CACHED_KEYS + 1] + dim * bits // 8 * place
    scales, whole = cache[SCALES_OF_KEYS + 1] + 4 * groups * place, splat_f32x16(scale)
    for g in range(groups):
        a, b = splat_f32x16(np.float32(0)), splat_f32x16(np.float32(0))
        if bits == 8:
            for t in range(count):
                at = codes + dim * t + 32 * g
                part = load_f32(scores + 4 * t) * load_f32(scales + 4 * (groups * t + g))
                w = splat_f32x16(part)
                a, b = a + w * load_bytes(at), b + w * load_bytes(at + 16)
        else:
            for t in range(count):
                at = codes + dim // 2 * t + 16 * g
                part = load_f32(scores + 4 * t) * load_f32(scales + 4 * (groups * t + g))
                w = splat_f32x16(part)
                a, b = a + w * load_low(at), b + w * load_high(at)
        store_f32x16(y + 128 * g, a * whole)
        store_f32x16(y + 128 * g + 64, b * whole)
