"""How many int8 products a second a core can do at all: the roof of the matvec kernels."""

from __future__ import annotations

import numpy as np

from lrc_kernels._jit import njit
from lrc_kernels.simd.dot import dot_small
from lrc_kernels.simd.math import sum_i32
from lrc_kernels.simd.values import splat_i8x64, splat_i32x16


@njit()
def _loop(repeats: int, seed: int) -> int:
    # Eight different factors: equal products would be computed only once.
    u, v, w = splat_i8x64(np.int8(seed)), splat_i8x64(np.int8(3)), splat_i8x64(np.int8(seed + 1))
    x, y, z = v ^ w, v + w, v + v
    p, q, r = y + v, y + w, z + w
    zero = splat_i32x16(np.int32(0))
    a, b, c, d, e, f, g, h = zero, zero, zero, zero, zero, zero, zero, zero
    for _ in range(repeats):
        a, b, c, d = dot_small(a, u, v), dot_small(b, u, w), dot_small(c, u, x), dot_small(d, u, y)
        e, f, g, h = dot_small(e, u, z), dot_small(f, u, p), dot_small(g, u, q), dot_small(h, u, r)
        u = u ^ v
    total: int = sum_i32((a + b) + (c + d)) + sum_i32((e + f) + (g + h))
    return total


def dot_loop(repeats: int) -> int:
    """``repeats`` times eight independent products of 64 bytes, in registers."""
    return int(_loop(repeats, 5))
