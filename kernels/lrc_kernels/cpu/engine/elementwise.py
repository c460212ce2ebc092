"""What is done to the numbers of one token each by itself, f32 (n,), 16 at a time.

Every buffer reaches to the next multiple of 16, which may be written.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from lrc_kernels._jit import njit
from lrc_kernels.simd.math import absolute, exp_f32, largest, log1p_f32
from lrc_kernels.simd.sigmoids import logistic_f32, normal_f32, tanh_f32
from lrc_kernels.simd.values import (
    first_f32x16,
    load_f32x16,
    splat_f32x16,
    store_f32x16,
    store_first_f32x16,
)

# Kinds of activation.
SILU, GELU, GELU_TANH, RELU, RELU2 = 0, 1, 2, 3, 4

_CUBIC, _TWICE_ROOT = 0.044715, 2 * (2 / np.pi) ** 0.5


@njit(inline=True)
def _activated(kind: int, x: Any) -> Any:
    if kind == GELU:
        return x * normal_f32(x)
    if kind == GELU_TANH:
        # Half of one and the hyperbolic tangent is the logistic function of twice as much.
        inner = x * (splat_f32x16(np.float32(1)) + x * x * splat_f32x16(np.float32(_CUBIC)))
        return x * logistic_f32(inner * splat_f32x16(np.float32(_TWICE_ROOT)))
    if kind in (RELU, RELU2):
        positive = largest(splat_f32x16(np.float32(0)), x)
        return positive if kind == RELU else positive * positive
    return x / (splat_f32x16(np.float32(1)) + exp_f32(splat_f32x16(np.float32(0)) - x))


@njit(inline=True)
def activate(x: int, n: int, kind: int) -> None:
    """X = kind(x)."""
    for i in range(0, n, 16):
        store_f32x16(x + 4 * i, _activated(kind, first_f32x16(x + 4 * i, n - i)))


@njit(inline=True)
def gate_by(gate: int, up: int, n: int, kind: int) -> None:
    """Gate = kind(gate) * up."""
    for i in range(0, n, 16):
        g, u = first_f32x16(gate + 4 * i, n - i), first_f32x16(up + 4 * i, n - i)
        store_f32x16(gate + 4 * i, _activated(kind, g) * u)


@njit(inline=True)
def scale_by(x: int, n: int, factor: np.float32) -> None:
    """X = x * factor."""
    wide = splat_f32x16(factor)
    for i in range(0, n, 16):
        store_first_f32x16(x + 4 * i, first_f32x16(x + 4 * i, n - i) * wide, n - i)


@njit(inline=True)
def cap_softly(x: int, n: int, cap: np.float32) -> None:
    """X = cap * tanh(x / cap)."""
    bound, part = splat_f32x16(cap), splat_f32x16(np.float32(1) / cap)
    for i in range(0, n, 16):
        store_f32x16(x + 4 * i, bound * tanh_f32(part * load_f32x16(x + 4 * i)))


@njit(inline=True)
def soften(x: int, bias: int, n: int, least: np.float32, most: np.float32) -> None:
    """X = log(1 + exp(x + bias)), and no less or more than the limits; ``bias`` 0 is none."""
    zero, low, high = splat_f32x16(np.float32(0)), splat_f32x16(least), splat_f32x16(most)
    for i in range(0, n, 16):
        v = first_f32x16(x + 4 * i, n - i)
        if bias != 0:
            v = v + first_f32x16(bias + 4 * i, n - i)
        v = largest(zero, v) + log1p_f32(exp_f32(zero - absolute(v)))
        v = largest(low, v)
        store_f32x16(x + 4 * i, zero - largest(zero - high, zero - v))


@njit(inline=True)
def add_to(x: int, y: int, n: int) -> None:
    """X += y."""
    for i in range(0, n, 16):
        a, b = first_f32x16(x + 4 * i, n - i), first_f32x16(y + 4 * i, n - i)
        store_first_f32x16(x + 4 * i, a + b, n - i)


@njit(inline=True)
def copy_stretches(x: int, count: int, n: int, stride: int, y: int) -> None:
    """``count`` stretches of n, ``stride`` numbers apart in x, to y one after the other."""
    for j in range(count):
        a, b = x + 4 * stride * j, y + 4 * n * j
        for i in range(0, n, 16):
            store_first_f32x16(b + 4 * i, first_f32x16(a + 4 * i, n - i), n - i)
