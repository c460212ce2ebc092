"""Shares of experts in one token, and what they weigh."""

from __future__ import annotations

import numpy as np

from lrc_kernels._jit import njit
from lrc_kernels.cpu.engine.elementwise import scale_by
from lrc_kernels.simd.math import exp_f32, max_f32, sum_f32
from lrc_kernels.simd.values import (
    first_f32x16,
    load_f32,
    splat_f32x16,
    store_f32,
    store_f32x16,
)

_LOW = np.float32(-3e38)


@njit(inline=True)
def _softmax(scores: int, n: int, shares: int) -> None:
    """Softmax of scores f32 (n,) to shares, which reach to the next multiple of 16."""
    most = np.float32(_LOW)
    for i in range(n):
        most = max(most, load_f32(scores + 4 * i))
    top, total = splat_f32x16(most), splat_f32x16(np.float32(0))
    for i in range(0, n, 16):
        store_f32x16(shares + 4 * i, exp_f32(first_f32x16(scores + 4 * i, n - i) - top))
        total = total + first_f32x16(shares + 4 * i, n - i)
    whole = sum_f32(total)
    for i in range(n):
        store_f32(shares + 4 * i, load_f32(shares + 4 * i) / whole)


@njit(inner=True)
def route(scores: int, n: int, top: int, normalised: int, shares: int) -> None:
    """Softmax of scores f32 (n,) to shares, but 0 for all except the ``top`` largest.

    Of equal ones the first counts. ``normalised``: those that are left are divided by their sum.
    """
    _softmax(scores, n, shares)
    kept = np.float32(0)
    for _ in range(top):
        best = 0
        for i in range(1, n):
            if load_f32(shares + 4 * i) > load_f32(shares + 4 * best):
                best = i
        # What is taken gets a sign, so that it is not the largest again.
        value = load_f32(shares + 4 * best)
        kept += value
        store_f32(shares + 4 * best, -value)
    for i in range(n):
        value = -load_f32(shares + 4 * i)
        if normalised:
            value /= kept
        store_f32(shares + 4 * i, max(value, np.float32(0)))


@njit(inline=True)
def weigh_by_sigmoid(x: int, n: int, source: int, weight: int, count: int) -> None:
    """X f32 (n,) times a sigmoid: that of weight f32 (count,) times the source."""
    total = splat_f32x16(np.float32(0))
    for i in range(0, count, 16):
        own, w = first_f32x16(source + 4 * i, count - i), first_f32x16(weight + 4 * i, count - i)
        total = total + own * w
    gate = exp_f32(splat_f32x16(-sum_f32(total)))
    scale_by(x, n, np.float32(1) / (np.float32(1) + max_f32(gate)))
