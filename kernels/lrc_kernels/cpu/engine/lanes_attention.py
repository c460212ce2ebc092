"""Causal attention of up to 32 queries of one head at a time: the queries are lanes."""

from __future__ import annotations

import math

import numpy as np

from lrc_kernels._jit import njit
from lrc_kernels.simd.lanes import (
    ABREAST,
    LANES,
    ROW_BYTES,
    ROWS,
    keep_from,
    product_row,
    product_rows,
)
from lrc_kernels.simd.math import exp_f32, largest
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
def _soften(scores: int, seen: int, count: int, lane: int, totals: int) -> None:
    """Exponentials of 16 queries' scores over their largest, and one over their sums.

    Query ``l`` sees the first ``seen + l`` of the ``count`` keys.
    """
    top = splat_f32x16(_LOW)
    for j in range(count):
        s = load_f32x16(scores + ROW_BYTES * j)
        top = largest(top, s if j < seen else keep_from(s, j + 1 - seen - lane, _LOW))
    total = splat_f32x16(np.float32(0))
    for j in range(count):
        e = exp_f32(load_f32x16(scores + ROW_BYTES * j) - top)
        if j >= seen:
            e = keep_from(e, j + 1 - seen - lane, np.float32(0))
        store_f32x16(scores + ROW_BYTES * j, e)
        total = total + e
    store_f32x16(totals, splat_f32x16(np.float32(1)) / total)


@njit()
def attend_lanes(
    q: int, stride: int, queries: int, keys: int, values: int, before: int, dim: int, work: int,
    out: int,
) -> None:  # fmt: skip
    """Attention of ``queries`` (at most 32) tokens that follow ``before`` others.

    ``q`` and ``out`` f32 (queries, dim), rows ``stride`` bytes apart; ``keys`` and ``values``
    f32 (before + queries, dim). ``work``: room for ``before + queries + dim + 1`` rows of lanes.
    """
    scale = np.float32(1 / math.sqrt(dim))
    count = before + queries
    turned, totals = work, work + ROW_BYTES * dim
    scores = totals + ROW_BYTES
    for d in range(dim):
        row = turned + ROW_BYTES * d
        for lane in range(queries):
            store_f32(row + 4 * lane, scale * load_f32(q + stride * lane + 4 * d))
        for lane in range(queries, LANES):
            store_f32(row + 4 * lane, np.float32(0))
    _multiply(keys, 4 * dim, 4, count, turned, dim, scores)
    for lane in range(0, LANES, 16):
        _soften(scores + 4 * lane, before + 1, count, lane, totals + 4 * lane)
    _multiply(values, 4, 4 * dim, dim, scores, count, turned)
    for d in range(dim):
        row = turned + ROW_BYTES * d
        for lane in range(queries):
            value = load_f32(row + 4 * lane) * load_f32(totals + 4 * lane)
            store_f32(out + stride * lane + 4 * d, value)
