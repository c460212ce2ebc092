"""Activations as int8 in groups of 64, in every order that the matvec kernels read.

A buffer of :func:`size` bytes holds, for ``N`` inputs (n rounded up to 256):

=============  =========  =====================================================================
offset         type       meaning
=============  =========  =====================================================================
0              i8 (N,)    q: nearest integers of ``x / s``, ``s = max|x| / 127`` of each group
N              i8 (N,)    in blocks of 256, spread for lattice points (AVX-512; else as above)
2 N            i8 (N,)    each group's entries 0, 2, 4, ... then 1, 3, 5, ...
3 N            i8 (N,)    each group's entries 0, 4, 8, ... then 1, 5, ... and so on
4 N            i16        sums of q over eight
4.25 N         f32        s, four times a group
4.5 N          f32        s, once a group
4.5625 N       f32        s times the group's sum of q
=============  =========  =====================================================================
"""

from __future__ import annotations

import numpy as np

from lrc_kernels._jit import njit
from lrc_kernels.simd import load_f32x16, load_i8x64, path, splat_f32x16, store_f32, store_i8x64
from lrc_kernels.simd_math import (
    absolute,
    largest,
    max_f32,
    spread_points,
    store_eights,
    store_low_bytes,
    stride_2,
    stride_4,
    sum_i32,
    to_i32,
)

#: Inputs that share a scale.
GROUP = 64
#: Inputs are padded to a multiple of this.
BLOCK = 256
#: Bits of ``orders``: which forms beyond the plain one are wanted.
LATTICE, BY_TWO, BY_FOUR = 1, 2, 4

_SPREAD = path() == "avx512vnni"


def padded(n: int) -> int:
    """``n`` rounded up to whole blocks."""
    return -(-n // BLOCK) * BLOCK


def size(n: int) -> int:
    """Bytes of the buffer for ``n`` inputs."""
    return padded(n) * 19 // 4


@njit(inline=True)
def quantize(x: int, n: int, width: int, act: int, orders: int) -> np.float32:
    """Fill the buffer ``act`` of ``width`` inputs from f32 (n,) at ``x``; return sum s q.

    Up to the next multiple of 64 ``x`` must be readable and zero.
    """
    total = np.float32(0)
    scales, sums = act + 4 * width + width // 2, act + 4 * width + width // 2 + width // 16
    for g in range((n + 255) // 256 * 4):
        scale = np.float32(0)
        weighted = np.float32(0)
        at = act + 64 * g
        if 64 * g < n:
            a, b = load_f32x16(x + 256 * g), load_f32x16(x + 256 * g + 64)
            c, d = load_f32x16(x + 256 * g + 128), load_f32x16(x + 256 * g + 192)
            top = max_f32(
                largest(largest(absolute(a), absolute(b)), largest(absolute(c), absolute(d)))
            )
            scale = top / np.float32(127)
            inverse = splat_f32x16(np.float32(127) / top if scale > 0 else np.float32(0))
            p, q, r, s = (
                to_i32(a * inverse),
                to_i32(b * inverse),
                to_i32(c * inverse),
                to_i32(d * inverse),
            )
            store_low_bytes(at, p)
            store_low_bytes(at + 16, q)
            store_low_bytes(at + 32, r)
            store_low_bytes(at + 48, s)
            weighted = scale * np.float32(sum_i32((p + q) + (r + s)))
            total += weighted
        else:
            zero = splat_f32x16(np.float32(0))
            for i in range(4):
                store_low_bytes(at + 16 * i, to_i32(zero))
        store_f32(scales + 4 * g, scale)
        store_f32(sums + 4 * g, weighted)
        if orders & BY_TWO:
            store_i8x64(at + 2 * width, stride_2(load_i8x64(at)))
        if orders & BY_FOUR:
            store_i8x64(at + 3 * width, stride_4(load_i8x64(at)))
        if orders & LATTICE:
            store_eights(act + 4 * width + 16 * g, load_i8x64(at))
            for i in range(4):
                store_f32(act + 4 * width + width // 4 + 16 * g + 4 * i, scale)
            if not _SPREAD:
                store_i8x64(at + width, load_i8x64(at))
    if _SPREAD and orders & LATTICE:
        for b in range((n + 255) // 256):
            spread_points(act + 256 * b, act + width + 256 * b)
    return total
