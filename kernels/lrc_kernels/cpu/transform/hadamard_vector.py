"""The transform of :mod:`lrc_kernels.rotate` for one vector, in place, in f32."""

from __future__ import annotations

from typing import Any

import numpy as np

from lrc_kernels._jit import njit
from lrc_kernels.simd.codes import flip_signs
from lrc_kernels.simd.math import add_signed, hadamard_16
from lrc_kernels.simd.values import (
    load_f32,
    load_f32x16,
    load_u8,
    splat_f32x16,
    store_f32,
    store_f32x16,
)


@njit(inline=True)
def apply_signs(x: int, n: int, signs: int, y: int) -> None:
    """Y = x with entry i negated where bit i at ``signs`` is set; y may be x."""
    whole = n // 16 * 16
    for i in range(0, whole, 16):
        store_f32x16(y + 4 * i, flip_signs(load_f32x16(x + 4 * i), signs + i // 8))
    for i in range(whole, n):
        value = load_f32(x + 4 * i)
        store_f32(y + 4 * i, -value if (load_u8(signs + i // 8) >> (i % 8)) & 1 else value)


@njit(inline=True)
def apply_diagonal(x: int, n: int, diagonal: int, real: int, y: int) -> None:
    """Y = S x: S is of signs, as `apply_signs` has them, or of n f32 where ``real`` is not 0."""
    if real != 0:
        whole = n // 16 * 16
        for i in range(0, whole, 16):
            store_f32x16(y + 4 * i, load_f32x16(x + 4 * i) * load_f32x16(diagonal + 4 * i))
        for i in range(whole, n):
            store_f32(y + 4 * i, load_f32(x + 4 * i) * load_f32(diagonal + 4 * i))
    else:
        apply_signs(x, n, diagonal, y)


@njit(inline=True)
def _butterflies(x: int, n: int, length: int) -> None:
    """Walsh-Hadamard transform of each ``length`` (a power of two) entries of x."""
    half = 1
    if length >= 16:
        for i in range(0, n, 16):
            store_f32x16(x + 4 * i, hadamard_16(load_f32x16(x + 4 * i)))
        half = 16
    while half < length:
        for start in range(0, n, 2 * half):
            low, high = x + 4 * start, x + 4 * (start + half)
            if half >= 16:
                for j in range(0, 4 * half, 64):
                    a, b = load_f32x16(low + j), load_f32x16(high + j)
                    store_f32x16(low + j, a + b)
                    store_f32x16(high + j, a - b)
            else:
                for j in range(0, 4 * half, 4):
                    p, q = load_f32(low + j), load_f32(high + j)
                    store_f32(low + j, p + q)
                    store_f32(high + j, p - q)
        half *= 2


@njit(inline=True)
def _store_rows(out: Any, inner: Any, a: Any, b: Any, c: Any, d: Any) -> Any:
    store_f32x16(out, a)
    store_f32x16(out + 4 * inner, b)
    store_f32x16(out + 8 * inner, c)
    store_f32x16(out + 12 * inner, d)


@njit(inline=True)
def _mix(x: int, inner: int, order: int, matrix: int, down: int, across: int, y: int) -> None:
    """``y[i] = sum_j M[i, j] x[j]`` for rows of ``inner`` entries; M's strides in bytes.

    M is of 1.0 and -1.0, and its order a multiple of four.
    """
    if inner % 16:
        for i in range(order):
            for p in range(inner):
                total = np.float32(0)
                for j in range(order):
                    weight = load_f32(matrix + down * i + across * j)
                    total += weight * load_f32(x + 4 * (inner * j + p))
                store_f32(y + 4 * (inner * i + p), total)
        return
    zero = splat_f32x16(np.float32(0))
    for p in range(0, inner, 16):
        at = x + 4 * p
        i = 0
        while i + 8 <= order:
            row, out = matrix + down * i, y + 4 * (inner * i + p)
            a, b, c, d, e, f, g, h = zero, zero, zero, zero, zero, zero, zero, zero
            for j in range(order):
                v, w = load_f32x16(at + 4 * inner * j), row + across * j
                a = add_signed(a, v, splat_f32x16(load_f32(w)))
                b = add_signed(b, v, splat_f32x16(load_f32(w + down)))
                c = add_signed(c, v, splat_f32x16(load_f32(w + 2 * down)))
                d = add_signed(d, v, splat_f32x16(load_f32(w + 3 * down)))
                e = add_signed(e, v, splat_f32x16(load_f32(w + 4 * down)))
                f = add_signed(f, v, splat_f32x16(load_f32(w + 5 * down)))
                g = add_signed(g, v, splat_f32x16(load_f32(w + 6 * down)))
                h = add_signed(h, v, splat_f32x16(load_f32(w + 7 * down)))
            _store_rows(out, inner, a, b, c, d)
            _store_rows(out + 16 * inner, inner, e, f, g, h)
            i += 8
        if i < order:
            row, out = matrix + down * i, y + 4 * (inner * i + p)
            a, b, c, d = zero, zero, zero, zero
            for j in range(order):
                v, w = load_f32x16(at + 4 * inner * j), row + across * j
                a = add_signed(a, v, splat_f32x16(load_f32(w)))
                b = add_signed(b, v, splat_f32x16(load_f32(w + down)))
                c = add_signed(c, v, splat_f32x16(load_f32(w + 2 * down)))
                d = add_signed(d, v, splat_f32x16(load_f32(w + 3 * down)))
            _store_rows(out, inner, a, b, c, d)


@njit()
def hadamard_vector(
    x: int,
    n: int,
    block: int,
    order: int,
    matrix: int,
    scale: np.float32,
    transpose: int,
    work: int,
) -> None:
    """Replace x f32 (n,) by M x, or by its inverse.

    ``matrix``: ``H_order`` as f32 where order > 1; ``scale``: ``1 / sqrt(block)``. ``work``: n
    entries.
    """
    if block == 1:
        return
    inner = block // order
    _butterflies(x, n, inner)
    source = x
    if order > 1:
        down, across = 4 * order, 4
        if transpose:
            down, across = across, down
        for start in range(0, n, block):
            _mix(x + 4 * start, inner, order, matrix, down, across, work + 4 * start)
        source = work
    whole, wide = n // 16 * 16, splat_f32x16(scale)
    for i in range(0, whole, 16):
        store_f32x16(x + 4 * i, wide * load_f32x16(source + 4 * i))
    for i in range(whole, n):
        store_f32(x + 4 * i, scale * load_f32(source + 4 * i))
