"""Norms of one token, and its rotary positions."""

from __future__ import annotations

import math

import numpy as np

from lrc_kernels._jit import njit
from lrc_kernels.cpu.engine.elementwise import add_to
from lrc_kernels.simd.math import sum_f32
from lrc_kernels.simd.values import (
    first_f32x16,
    load_f32,
    splat_f32x16,
    store_f32,
    store_first_f32x16,
)

# Kinds of norm.
RMS, LAYER = 0, 1
# Which numbers of a head are pairs.
HALVES, NEIGHBOURS = 0, 1


@njit(inline=True)
def normalise(x: int, weight: int, bias: int, n: int, eps: np.float32, kind: int, y: int) -> None:
    """Norm of x f32 (n,) to y, which may be x; ``bias`` f32 (n,) is added, 0 is none."""
    if kind == LAYER:
        _centre(x, n, y)
        _normalise(y, weight, n, eps, y)
    else:
        _normalise(x, weight, n, eps, y)
    if bias != 0:
        add_to(y, bias, n)


@njit(inline=True)
def _centre(x: int, n: int, y: int) -> None:
    """Y = x less its mean."""
    total = splat_f32x16(np.float32(0))
    for i in range(0, n, 16):
        total = total + first_f32x16(x + 4 * i, n - i)
    mean = splat_f32x16(sum_f32(total) / np.float32(n))
    for i in range(0, n, 16):
        store_first_f32x16(y + 4 * i, first_f32x16(x + 4 * i, n - i) - mean, n - i)


@njit(inline=True)
def _normalise(x: int, weight: int, n: int, eps: np.float32, y: int) -> None:
    """RMSNorm of x f32 (n,) to y."""
    total = splat_f32x16(np.float32(0))
    for i in range(0, n, 16):
        v = first_f32x16(x + 4 * i, n - i)
        total = total + v * v
    scale = np.float32(1) / np.float32(math.sqrt(sum_f32(total) / np.float32(n) + eps))
    wide = splat_f32x16(scale)
    for i in range(0, n, 16):
        v = first_f32x16(x + 4 * i, n - i) * wide * first_f32x16(weight + 4 * i, n - i)
        store_first_f32x16(y + 4 * i, v, n - i)


@njit(inline=True)
def _rotate_pair(low: int, high: int, cos: int, sin: int) -> None:
    a, b = load_f32(low), load_f32(high)
    c, s = load_f32(cos), load_f32(sin)
    store_f32(low, a * c - b * s)
    store_f32(high, b * c + a * s)


@njit(inline=True)
def rotate_heads(x: int, heads: int, dim: int, stride: int, kind: int, cos: int, sin: int) -> None:
    """Rotary positions of the first ``dim`` numbers of heads ``stride`` numbers apart, in place.

    ``cos`` and ``sin``: f32 (dim / 2,).
    """
    half = dim // 2
    for h in range(heads):
        head = x + 4 * stride * h
        if kind == NEIGHBOURS:
            for j in range(half):
                _rotate_pair(head + 8 * j, head + 8 * j + 4, cos + 4 * j, sin + 4 * j)
        else:
            for j in range(half):
                _rotate_pair(head + 4 * j, head + 4 * (half + j), cos + 4 * j, sin + 4 * j)
