"""Keys and values in 8 or 4 bits: rotated, so that no channel is large, with a scale for each 32.

A row of ``dim`` numbers, a multiple of 32, is multiplied with the orthonormal Hadamard transform
of :mod:`lrc_kernels.rotate`. Of each 32 numbers the largest magnitude is 127 or 7 steps. With 8
bits a code is a byte; with 4 the first 16 codes are the low halves of 16 bytes, the others the
high halves. :mod:`lrc.nn.kept_codes` is the same in NumPy.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba.core import types

from lrc_kernels._jit import njit
from lrc_kernels._late import late
from lrc_kernels.cpu.engine.table import (
    CACHED_KEYS,
    CAPACITY,
    HADAMARD_BLOCK,
    HADAMARD_MATRIX,
    HADAMARD_ORDER,
    SCALES_OF_KEYS,
)
from lrc_kernels.cpu.transform.hadamard_vector import hadamard_vector
from lrc_kernels.simd.kept_values import (
    load_bytes,
    load_high,
    load_low,
    store_bytes,
    store_halves,
)
from lrc_kernels.simd.math import absolute, largest, max_f32, sum_f32, to_i32
from lrc_kernels.simd.values import (
    load_f32,
    load_f32x16,
    load_i64,
    splat_f32x16,
    store_f32,
    store_f32x16,
)

#: Numbers that share a scale.
GROUP = 32


@njit(inline=True)
def _of(cache: int, column: int) -> int:
    """What a row of the table's module has in a column."""
    found: int = load_i64(cache + 8 * column)
    return found


@njit(inner=True)
def rotate(cache: int, x: int, dim: int, back: int, work: int) -> None:
    """Replace x f32 (dim,) by its transform, or undo it; ``cache``: address of a layer's row."""
    block = _of(cache, HADAMARD_BLOCK)
    scale = np.float32(1 / math.sqrt(np.float64(block)))
    hadamard_vector(x, dim, block, _of(cache, HADAMARD_ORDER), _of(cache, HADAMARD_MATRIX), scale,
                    back, work)  # fmt: skip


@late(*(types.intp,) * 7)
def keep_codes(bits: int) -> Any:
    """Keys or values to their place in a cache of codes."""
    top = np.float32(127 if bits == 8 else 7)

    def run(x: int, dim: int, cache: int, kind: int, head: int, slot: int, work: int) -> None:
        """Key (``kind`` 0) or value (1) x f32 (dim,) of one head to its slot of a layer's cache.

        ``cache``: address of the layer's row. ``work``: 2 dim numbers.
        """
        place = _of(cache, CAPACITY) * head + slot
        codes = _of(cache, CACHED_KEYS + kind) + dim * bits // 8 * place
        scales = _of(cache, SCALES_OF_KEYS + kind) + 4 * (dim // GROUP) * place
        for j in range(0, dim, 16):
            store_f32x16(work + 4 * j, load_f32x16(x + 4 * j))
        rotate(cache, work, dim, 0, work + 4 * dim)
        for g in range(dim // GROUP):
            a, b = load_f32x16(work + 128 * g), load_f32x16(work + 128 * g + 64)
            most = max_f32(largest(absolute(a), absolute(b)))
            step = splat_f32x16(top / most if most > 0 else np.float32(0))
            low, high = to_i32(a * step), to_i32(b * step)
            store_f32(scales + 4 * g, most / top)
            if bits == 8:
                store_bytes(codes + 32 * g, low)
                store_bytes(codes + 32 * g + 16, high)
            else:
                store_halves(codes + 16 * g, low, high)

    return run


def _make_load(bits: int) -> Any:
    """32 codes of so many bits as two vectors."""

    @njit(inline=True)
    def load_pair(codes: Any) -> Any:
        if bits == 8:
            return load_bytes(codes), load_bytes(codes + 16)
        return load_low(codes), load_high(codes)

    return load_pair


@late(*(types.intp,) * 8)
def decode_codes(bits: int) -> Any:
    """Keys or values of a cache of codes, as numbers."""
    load_pair = _make_load(bits)

    def run(
        cache: int, kind: int, dim: int, head: int, start: int, stop: int, out: int, work: int
    ) -> None:
        """Those of one head, from slot ``start`` to ``stop``, to f32 rows of their own slots.

        ``cache``: address of the layer's row. ``out``: of slot 0's row; ``work``: dim numbers.
        """
        for t in range(start, stop):
            place = _of(cache, CAPACITY) * head + t
            codes = _of(cache, CACHED_KEYS + kind) + dim * bits // 8 * place
            scales = _of(cache, SCALES_OF_KEYS + kind) + 4 * (dim // GROUP) * place
            row = out + 4 * dim * t
            for g in range(dim // GROUP):
                scale = splat_f32x16(load_f32(scales + 4 * g))
                low, high = load_pair(codes + 4 * bits * g)
                store_f32x16(row + 128 * g, scale * low)
                store_f32x16(row + 128 * g + 64, scale * high)
            rotate(cache, row, dim, 1, work)

    return run


def make_score_codes(bits: int) -> Any:
    """Products of a rotated query with keys in codes."""
    load_pair = _make_load(bits)

    @njit(inner=True)
    def score_codes(
        q: int, cache: int, dim: int, head: int, first: int, count: int, scores: int
    ) -> None:
        """Those of ``count`` slots from ``first`` on; ``cache``: address of the layer's row."""
        groups, place = dim // GROUP, _of(cache, CAPACITY) * head + first
        codes = _of(cache, CACHED_KEYS) + dim * bits // 8 * place
        scales = _of(cache, SCALES_OF_KEYS) + 4 * groups * place
        for t in range(count):
            total, row = splat_f32x16(np.float32(0)), codes + dim * bits // 8 * t
            for g in range(groups):
                low, high = load_pair(row + 4 * bits * g)
                part = load_f32x16(q + 128 * g) * low + load_f32x16(q + 128 * g + 64) * high
                total = total + splat_f32x16(load_f32(scales + 4 * (groups * t + g))) * part
            store_f32(scores + 4 * t, sum_f32(total))

    return score_codes


def make_mix_codes(bits: int) -> Any:
    """Sums of rotated values in codes."""
    load_pair = _make_load(bits)

    @njit(inner=True)
    def mix_codes(
        scores: int, cache: int, dim: int, head: int, first: int, count: int, scale: np.float32,
        y: int,
    ) -> None:  # fmt: skip
        """Each times its score and ``scale``, to y (dim,); ``cache``: address of the row."""
        groups, place = dim // GROUP, _of(cache, CAPACITY) * head + first
        codes = _of(cache, CACHED_KEYS + 1) + dim * bits // 8 * place
        scales = _of(cache, SCALES_OF_KEYS + 1) + 4 * groups * place
        whole = splat_f32x16(scale)
        for g in range(groups):
            a, b = splat_f32x16(np.float32(0)), splat_f32x16(np.float32(0))
            for t in range(count):
                low, high = load_pair(codes + dim * bits // 8 * t + 4 * bits * g)
                part = load_f32(scores + 4 * t) * load_f32(scales + 4 * (groups * t + g))
                w = splat_f32x16(part)
                a, b = a + w * low, b + w * high
            store_f32x16(y + 128 * g, a * whole)
            store_f32x16(y + 128 * g + 64, b * whole)

    return mix_codes
