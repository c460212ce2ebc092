"""How many int8 products a second a core can do at all: the roof of the matvec kernels."""

from __future__ import annotations

import numpy as np

from lrc_kernels._jit import njit
from lrc_kernels.simd import splat_i8x64, splat_i32x16
from lrc_kernels.simd_math import dot_u8, sum_i32


@njit()
def _loop(repeats: int, seed: int) -> int:
    u, x = splat_i8x64(np.int8(seed)), splat_i8x64(np.int8(3))
    zero = splat_i32x16(np.int32(0))
    a, b, c, d, e, f, g, h = zero, zero, zero, zero, zero, zero, zero, zero
    for _ in range(repeats):
        a, b, c, d = dot_u8(a, u, x), dot_u8(b, u, x), dot_u8(c, u, x), dot_u8(d, u, x)
        e, f, g, h = dot_u8(e, u, x), dot_u8(f, u, x), dot_u8(g, u, x), dot_u8(h, u, x)
        u = u ^ x
    total: int = sum_i32((a + b) + (c + d)) + sum_i32((e + f) + (g + h))
    return total


def dot_loop(repeats: int) -> int:
    """``repeats`` times eight independent products of 64 bytes, in registers."""
    return int(_loop(repeats, 5))
