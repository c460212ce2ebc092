"""Attention of one token."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba.core import types
from numpy.typing import NDArray

from lrc_kernels._jit import njit
from lrc_kernels._late import late
from lrc_kernels.cpu.engine.elementwise import cap_softly
from lrc_kernels.cpu.engine.kept_codes import make_mix_codes, make_score_codes, rotate
from lrc_kernels.cpu.engine.table import (
    ATTEND_ENTRY,
    BEGIN,
    BIAS,
    CACHED_KEYS,
    CACHED_VALUES,
    CAPACITY,
    CODE_BITS,
    COUNT,
    KV_HEADS,
    WIDTH,
    WINDOW,
)
from lrc_kernels.simd.math import exp_f32, largest, max_f32, sum_f32
from lrc_kernels.simd.values import (
    first_f32x16,
    load_f32,
    load_f32x16,
    splat_f32x16,
    store_f32,
    store_f32x16,
)


@njit(inline=True)
def _scores(q: int, keys: int, count: int, dim: int, scores: int) -> None:
    for t in range(count):
        total = splat_f32x16(np.float32(0))
        at = keys + 4 * dim * t
        for d in range(0, dim, 16):
            total = total + first_f32x16(q + 4 * d, dim - d) * first_f32x16(at + 4 * d, dim - d)
        store_f32(scores + 4 * t, sum_f32(total))


@njit(inline=True)
def _scores_64(q: int, keys: int, count: int, scores: int) -> None:
    a, b = load_f32x16(q), load_f32x16(q + 64)
    c, d = load_f32x16(q + 128), load_f32x16(q + 192)
    for t in range(count):
        at = keys + 256 * t
        total = (a * load_f32x16(at) + b * load_f32x16(at + 64)) + (
            c * load_f32x16(at + 128) + d * load_f32x16(at + 192)
        )
        store_f32(scores + 4 * t, sum_f32(total))


@njit(inline=True)
def _softmax(scores: int, count: int) -> np.float32:
    """Replace scores by their exponentials, zero behind them; return what sums them to one."""
    low = np.float32(-3e38)
    for t in range(count, (count + 15) // 16 * 16):
        store_f32(scores + 4 * t, low)
    top = splat_f32x16(low)
    for t in range(0, count, 16):
        top = largest(top, load_f32x16(scores + 4 * t))
    most = splat_f32x16(max_f32(top))
    total = splat_f32x16(np.float32(0))
    for t in range(0, count, 16):
        e = exp_f32(load_f32x16(scores + 4 * t) - most)
        store_f32x16(scores + 4 * t, e)
        total = total + first_f32x16(scores + 4 * t, count - t)
    scale: np.float32 = np.float32(1) / sum_f32(total)
    return scale


@njit(inline=True)
def _mix_64(scores: int, values: int, count: int, scale: np.float32, y: int) -> None:
    """Four sums of 16 lanes each for even positions and four for odd ones."""
    none = splat_f32x16(np.float32(0))
    a, b, c, d, e, f, g, h = none, none, none, none, none, none, none, none
    for t in range(0, count - 1, 2):
        at, w = values + 256 * t, splat_f32x16(load_f32(scores + 4 * t))
        a, b = a + w * load_f32x16(at), b + w * load_f32x16(at + 64)
        c, d = c + w * load_f32x16(at + 128), d + w * load_f32x16(at + 192)
        v = splat_f32x16(load_f32(scores + 4 * t + 4))
        e, f = e + v * load_f32x16(at + 256), f + v * load_f32x16(at + 320)
        g, h = g + v * load_f32x16(at + 384), h + v * load_f32x16(at + 448)
    if count % 2:
        at, w = values + 256 * (count - 1), splat_f32x16(load_f32(scores + 4 * (count - 1)))
        a, b = a + w * load_f32x16(at), b + w * load_f32x16(at + 64)
        c, d = c + w * load_f32x16(at + 128), d + w * load_f32x16(at + 192)
    s = splat_f32x16(scale)
    store_f32x16(y, (a + e) * s)
    store_f32x16(y + 64, (b + f) * s)
    store_f32x16(y + 128, (c + g) * s)
    store_f32x16(y + 192, (d + h) * s)


@njit(inline=True)
def _mix(scores: int, values: int, count: int, dim: int, scale: np.float32, y: int) -> None:
    for d in range(0, dim, 16):
        mixed = splat_f32x16(np.float32(0))
        for t in range(count):
            v = first_f32x16(values + 4 * (dim * t + d), dim - d)
            mixed = mixed + splat_f32x16(load_f32(scores + 4 * t)) * v
        mixed = mixed * splat_f32x16(scale)
        if d + 16 <= dim:
            store_f32x16(y + 4 * d, mixed)
        else:
            store_f32x16(scores, mixed)
            for j in range(dim - d):
                store_f32(y + 4 * (d + j), load_f32(scores + 4 * j))


@njit(inline=True)
def _bend(scores: int, count: int, cap: np.float32, slope: np.float32) -> None:
    """Cap scores softly, and take off what lies between."""
    if cap > 0:
        cap_softly(scores, count, cap)
    if slope > 0:
        for t in range(count):
            lean = slope * np.float32(t + 1 - count)
            store_f32(scores + 4 * t, load_f32(scores + 4 * t) + lean)


@late(*(types.intp,) * 6, types.float32, types.float32, types.intp, types.intp)
def attend_codes(bits: int) -> Any:
    """The same as `attend` over a cache of codes."""
    score_codes, mix_codes = make_score_codes(bits), make_mix_codes(bits)

    def run(
        q: int, cache: int, kv: int, first: int, count: int, dim: int, cap: np.float32,
        slope: np.float32, scores: int, y: int,
    ) -> None:  # fmt: skip
        """Q f32 (2 dim,) is scaled, and is overwritten; ``cache``: address of the layer's row."""
        rotate(cache, q, dim, 0, q + 4 * dim)
        score_codes(q, cache, dim, kv, first, count, scores)
        _bend(scores, count, cap, slope)
        scale = _softmax(scores, count)
        mix_codes(scores, cache, dim, kv, first, count, scale, y)
        rotate(cache, y, dim, 1, q)

    return run


_attend_codes = attend_codes.call


@njit(inline=True)
def attend(
    q: int, keys: int, values: int, count: int, dim: int, cap: np.float32, slope: np.float32,
    scores: int, y: int,
) -> None:  # fmt: skip
    """One query f32 (dim,) over keys and values f32 (count, dim), to y (dim,).

    ``scores`` is room for count, rounded up to 16, f32; q is already scaled. ``cap``: scores are
    capped softly there, 0 is not. ``slope``: is taken off for each token between.
    """
    if dim == 64:
        _scores_64(q, keys, count, scores)
    else:
        _scores(q, keys, count, dim, scores)
    _bend(scores, count, cap, slope)
    scale = _softmax(scores, count)
    if dim == 64:
        _mix_64(scores, values, count, scale, y)
    else:
        _mix(scores, values, count, dim, scale, y)


@njit(inline=True)
def attend_head(
    op: NDArray[np.int64], numbers: NDArray[np.float32], cache: NDArray[np.int64], position: int,
    head: int, q: int, work: int, scores: int, y: int,
) -> None:  # fmt: skip
    """Query f32 (dim,) at ``q`` of one head over what its layer keeps up to ``position``, to y.

    ``op``, ``numbers`` and ``cache``: rows of :mod:`~lrc_kernels.cpu.engine.table`. ``work``: two
    times dim numbers.
    """
    dim, now = op[WIDTH], position - cache[BEGIN]
    first = max(0, now + 1 - op[WINDOW]) if op[WINDOW] > 0 else 0
    kv = head // (op[COUNT] // op[KV_HEADS])
    before = 4 * dim * (cache[CAPACITY] * kv + first)
    for j in range(dim):
        store_f32(work + 4 * j, load_f32(q + 4 * j) * numbers[0])
    slope = load_f32(op[BIAS] + 4 * head) if op[BIAS] != 0 else np.float32(0)
    if cache[CODE_BITS] != 0:
        _attend_codes(cache[ATTEND_ENTRY], work, cache.ctypes.data, kv, first, now + 1 - first, dim,
                      numbers[1], slope, scores, y)  # fmt: skip
        return
    attend(work, cache[CACHED_KEYS] + before, cache[CACHED_VALUES] + before, now + 1 - first, dim,
           numbers[1], slope, scores, y)  # fmt: skip
