"""What a core can do at all: int8 products and bytes read a second, the matvec kernels' roofs."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lrc_kernels._jit import njit
from lrc_kernels.simd.dot import dot_seven
from lrc_kernels.simd.math import sum_i32
from lrc_kernels.simd.paths import path
from lrc_kernels.simd.values import load_i8x64, load_i32x16, splat_i32x16

#: Products of 64 bytes that one repetition makes.
PRODUCTS = 8
_WIDE = path() == "avx512vnni"


@njit()
def _dots(repeats: int, data: int) -> int:
    # Operands are loaded, and each is used once: what does not change in a loop would be computed
    # before it, and what is used twice would take a register. Where a sum is two of these, four
    # sums are as many as fit.
    zero = splat_i32x16(np.int32(0))
    a, b, c, d, e, f, g, h = zero, zero, zero, zero, zero, zero, zero, zero
    for i in range(repeats):
        at = data + 64 * (i & 15)
        u, v, x = load_i8x64(at), load_i8x64(at + 1024), at + 2048
        a, b = dot_seven(a, u, load_i8x64(x)), dot_seven(b, u, load_i8x64(x + 64))
        c, d = dot_seven(c, u, load_i8x64(x + 128)), dot_seven(d, u, load_i8x64(x + 192))
        x += 256
        if _WIDE:
            e, f = dot_seven(e, v, load_i8x64(x)), dot_seven(f, v, load_i8x64(x + 64))
            g, h = dot_seven(g, v, load_i8x64(x + 128)), dot_seven(h, v, load_i8x64(x + 192))
        else:
            a, b = dot_seven(a, v, load_i8x64(x)), dot_seven(b, v, load_i8x64(x + 64))
            c, d = dot_seven(c, v, load_i8x64(x + 128)), dot_seven(d, v, load_i8x64(x + 192))
    total: int = sum_i32((a + b) + (c + d)) + sum_i32((e + f) + (g + h))
    return total


@njit()
def _read(data: int, size: int) -> int:
    zero = splat_i32x16(np.int32(0))
    a, b, c, d = zero, zero, zero, zero
    for at in range(data, data + size // 256 * 256, 256):
        a, b = a + load_i32x16(at), b + load_i32x16(at + 64)
        c, d = c + load_i32x16(at + 128), d + load_i32x16(at + 192)
    total: int = sum_i32((a + b) + (c + d))
    return total


def dot_loop(repeats: int) -> int:
    """``repeats`` times `PRODUCTS` products of 64 bytes, from the cache nearest to the core."""
    data = np.ones(3584, np.int8)
    return int(_dots(repeats, data.ctypes.data))


def read_loop(data: NDArray[Any]) -> int:
    """Sum of the words of an array of whole 256 bytes, modulo 2^32, in the widest loads."""
    return int(_read(data.ctypes.data, data.nbytes))
