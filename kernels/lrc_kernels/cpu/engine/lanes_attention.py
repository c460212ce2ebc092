"""Causal attention of up to 32 queries of one head at a time: the queries are lanes."""

from __future__ import annotations

from typing import Any

import numpy as np

from lrc_kernels._jit import njit
from lrc_kernels.simd.lanes import (
    ABREAST,
    LANES,
    ROW_BYTES,
    ROWS,
    keep_before,
    keep_from,
    product_row,
    product_rows,
)
from lrc_kernels.simd.math import exp_f32, largest
from lrc_kernels.simd.sigmoids import tanh_f32
from lrc_kernels.simd.values import load_f32, load_f32x16, splat_f32x16, store_f32, store_f32x16

_LOW = np.float32(-3e38)


@njit(inline=True)
def _multiply(a: int, down: int, across: int, rows: int, b: int, count: int, out: int) -> None:
    """All lanes of ``rows`` rows."""
    for v in range(0, LANES // 16, ABREAST):
        left, to, i = b + 64 * v, out + 64 * v, 0
        while i + ROWS <= rows:
            product_rows(a + down * i, down, across, left, count, to + ROW_BYTES * i)
            i += ROWS
        while i < rows:
            product_row(a + down * i, down, across, left, count, to + ROW_BYTES * i)
            i += 1


@njit(inline=True)
def _seen(x: Any, j: int, seen: int, window: int, unseen: int, lane: int, other: np.float32) -> Any:
    """16 queries' numbers of key j, but ``other`` for those that do not see it."""
    if j >= seen:
        x = keep_from(x, j + 1 - seen - lane, other)
    if j < unseen:
        x = keep_before(x, j + 1 + window - seen - lane, other)
    return x


@njit(inline=True)
def _cap(scores: int, count: int, cap: np.float32) -> None:
    """Soft caps of the scores of all lanes."""
    bound, part = splat_f32x16(cap), splat_f32x16(np.float32(1) / cap)
    for at in range(scores, scores + ROW_BYTES * count, 64):
        store_f32x16(at, bound * tanh_f32(part * load_f32x16(at)))


@njit(inline=True)
def _lean(scores: int, count: int, slope: np.float32) -> None:
    """Slopes of the scores of all lanes: to each query, keys of all lanes are as far apart."""
    for j in range(count):
        lean = splat_f32x16(slope * np.float32(j + 1 - count))
        for at in range(scores + ROW_BYTES * j, scores + ROW_BYTES * (j + 1), 64):
            store_f32x16(at, load_f32x16(at) + lean)


@njit(inline=True)
def _soften(scores: int, seen: int, window: int, count: int, lane: int, totals: int) -> None:
    """Exponentials of 16 queries' scores over their largest, and one over their sums.

    Query ``l`` sees the first ``seen + l`` of the ``count`` keys, or the last ``window`` of these.
    """
    # Keys before this one are out of the window of one query or another.
    unseen = seen + LANES - 1 - window if window > 0 else 0
    low = np.float32(_LOW)
    top = splat_f32x16(low)
    for j in range(count):
        s = load_f32x16(scores + ROW_BYTES * j)
        top = largest(top, _seen(s, j, seen, window, unseen, lane, low))
    total = splat_f32x16(np.float32(0))
    for j in range(count):
        e = exp_f32(load_f32x16(scores + ROW_BYTES * j) - top)
        e = _seen(e, j, seen, window, unseen, lane, np.float32(0))
        store_f32x16(scores + ROW_BYTES * j, e)
        total = total + e
    store_f32x16(totals, splat_f32x16(np.float32(1)) / total)


@njit()
def attend_lanes(
    q: int, stride: int, queries: int, keys: int, values: int, before: int, dim: int,
    scale: np.float32, cap: np.float32, slope: np.float32, window: int, work: int, out: int,
    out_stride: int,
) -> None:  # fmt: skip
    """Attention of ``queries`` (at most 32) tokens that follow ``before`` others.

    ``q`` and ``out`` f32 (queries, dim), rows so many bytes apart; ``keys`` and ``values`` f32
    (before + queries, dim). ``window``: how many of these a token sees, itself included; 0 is all.
    ``cap``: scores are capped softly there; 0 is not. ``slope``: is taken off for each token
    between. ``work``: room for ``before + queries + dim + 1`` rows of lanes.
    """
    first = max(0, before + 1 - window) if window > 0 else 0
    seen, count = before + 1 - first, before + queries - first
    k, v = keys + 4 * dim * first, values + 4 * dim * first
    transposed, totals = work, work + ROW_BYTES * dim
    scores = totals + ROW_BYTES
    for d in range(dim):
        row = transposed + ROW_BYTES * d
        for lane in range(queries):
            store_f32(row + 4 * lane, scale * load_f32(q + stride * lane + 4 * d))
        for lane in range(queries, LANES):
            store_f32(row + 4 * lane, np.float32(0))
    _multiply(k, 4 * dim, 4, count, transposed, dim, scores)
    if cap > 0:
        _cap(scores, count, cap)
    if slope > 0:
        _lean(scores, count, slope)
    for lane in range(0, LANES, 16):
        _soften(scores + 4 * lane, seen, window, count, lane, totals + 4 * lane)
    _multiply(v, 4, 4 * dim, dim, scores, count, transposed)
    for d in range(dim):
        row = transposed + ROW_BYTES * d
        for lane in range(queries):
            value = load_f32(row + 4 * lane) * load_f32(totals + 4 * lane)
            store_f32(out + out_stride * lane + 4 * d, value)
