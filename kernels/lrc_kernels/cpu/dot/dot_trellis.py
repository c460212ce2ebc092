"""Bands of trellis tiles times a vector, decoded in registers.

Lane i of a vector is segment i of a tile: rows ``16 r + j`` at step j, with r = i modulo the
band's blocks of 16 rows, and column ``i // blocks`` of the tile. Integer activations, of 7
bits or of 15 (:mod:`lrc_kernels.cpu.transform.activations`), are multiplied exactly: sums of a
group are at most 64 * 1020 * 16256, and the mean of the code's bytes is taken from them before
they become floats.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba.core import types
from numpy.typing import NDArray

from lrc_kernels._jit import njit
from lrc_kernels._late import late
from lrc_kernels.cpu.transform.activations import GROUP, group_scales, seven, twice
from lrc_kernels.simd.threads import fetch, scratch_1k
from lrc_kernels.simd.tile_dots import (
    dot_bytes,
    dot_words,
    subtract_byte_means,
    subtract_word_means,
    transpose_16,
)
from lrc_kernels.simd.tiles import (
    add_scaled,
    add_tile,
    no_sums,
    no_totals,
    spread_f32,
    spread_i32,
    store_totals,
)
from lrc_kernels.simd.values import (
    load_f32,
    load_f32x16,
    splat_f32x16,
    splat_i32x16,
    store_f32,
    store_f32x16,
)
from lrc_kernels.trellis_code import (
    MAX_STATE_BITS,
    MIN_STATE_BITS,
    MULTIPLIER,
    SEGMENTS,
    TILE,
    TILE_ROWS,
    UNIT,
)

#: Bytes from the words that are multiplied to those that are asked for.
AHEAD = 2048
#: The code's multiplier: an argument of every kernel, so that no cache keeps one with another.
FACTOR = np.uint32(MULTIPLIER).astype(np.int32)
_UNIT = np.float32(1 / UNIT)


def check_words(words: NDArray[np.uint16], bits: int, state_bits: int, rows: int, n: int) -> None:
    """Raise ValueError unless ``words`` are bands of tiles of ``rows`` rows, n columns wide."""
    known = bits in (2, 3, 4) and MIN_STATE_BITS <= state_bits <= MAX_STATE_BITS
    if not known or rows not in TILE_ROWS:
        raise ValueError(f"no trellis of {bits} bits, {state_bits} state bits, {rows} rows a tile")
    width = -(-n * rows // TILE) * SEGMENTS * bits
    if words.dtype != np.uint16 or words.ndim != 2 or words.shape[1] != width:
        raise ValueError(f"words are {words.dtype} {words.shape}; {n} columns need {width} a band")


def _make_spread(loads: tuple[Any, ...]) -> Any:
    one, two, four, eight, sixteen = loads

    @njit(inline=True)
    def spread(x: Any, columns: Any) -> Any:
        """Activations of a tile's columns, in their lanes."""
        if columns == 1:
            return one(x)
        if columns == 4:
            return four(x)
        if columns == 2:
            return two(x)
        if columns == 8:
            return eight(x)
        return sixteen(x)

    return spread


_spread_i32, _spread_f32 = _make_spread(spread_i32), _make_spread(spread_f32)


def _make_band(bits: int, seven_bits: bool) -> Any:
    """Sums of a band times integers, in units of a byte: f32 (16 steps, 16 lanes) at ``totals``."""
    dot = (dot_bytes if seven_bits else dot_words)[bits]
    subtract = subtract_byte_means if seven_bits else subtract_word_means
    size = 32 * bits

    @njit(inner=True)
    def band(
        words: int, tiles: int, columns: int, x: int, scales: int, state_bits: int,
        factor: np.int32, totals: int,
    ) -> None:  # fmt: skip
        mask, multiplier = splat_i32x16(np.int32((1 << state_bits) - 1)), splat_i32x16(factor)
        for j in range(16):
            store_f32x16(totals + 64 * j, splat_f32x16(np.float32(0)))
        per_group = GROUP // columns
        for first in range(0, tiles, per_group):
            sums, shift = no_sums(), splat_i32x16(np.int32(0))
            for tile in range(first, min(tiles, first + per_group)):
                fetch(words + size * tile + AHEAD)
                v = _spread_i32(x + 4 * columns * tile, columns)
                shift = subtract(shift, v)
                sums = dot(sums, words + size * tile, v, mask, multiplier)
            scale = load_f32(scales + 4 * (first // per_group))
            add_scaled(totals, sums, shift, splat_f32x16(scale))

    return band


def _make_exact(bits: int) -> Any:
    """The same times floats."""
    add, size = add_tile[bits], 32 * bits

    @njit(inner=True)
    def band(
        words: int, tiles: int, columns: int, x: int, state_bits: int, factor: np.int32,
        totals: int,
    ) -> None:  # fmt: skip
        mask, multiplier = splat_i32x16(np.int32((1 << state_bits) - 1)), splat_i32x16(factor)
        sums = no_totals()
        for tile in range(tiles):
            v = _spread_f32(x + 4 * columns * tile, columns)
            sums = add(sums, words + size * tile, v, mask, multiplier)
        store_totals(totals, sums)

    return band


_exact_2, _exact_3, _exact_4 = (_make_exact(bits) for bits in (2, 3, 4))


@njit(inline=True)
def _fold(totals: int, rows: int, unit: np.float32, scales: int, step: int, y: int) -> None:
    """Rows of a band from sums f32 (16 steps, 16 lanes): lanes of a row are added in order."""
    columns, blocks = 256 // rows, rows // 16
    transpose_16(totals)
    for r in range(blocks):
        total = splat_f32x16(np.float32(0))
        for c in range(columns):
            total = total + load_f32x16(totals + 64 * (blocks * c + r))
        at = scales + 64 * r
        scale = load_f32x16(at) if step == 4 else splat_f32x16(load_f32(scales))
        store_f32x16(y + 64 * r, splat_f32x16(unit) * total * scale)


@late(*(types.intp,) * 2, types.int32, *(types.intp,) * 9)
def trellis_rows(bits: int) -> Any:
    """Rows of a matrix of trellis tiles of so many bits times integer activations."""
    with_words, with_bytes = _make_band(bits, False), _make_band(bits, True)

    def run(
        words: int, state_bits: int, factor: np.int32, rows: int, n: int, act: int, width: int,
        scales: int, step: int, y: int, start: int, stop: int,
    ) -> None:  # fmt: skip
        """Rows ``start`` to ``stop``, whole bands of ``rows``, to y.

        ``factor``: :data:`FACTOR`. ``scales`` f32, ``step`` bytes (4 or 0) a row.
        """
        columns = 256 // rows
        tiles = (n + columns - 1) // columns
        x, x_scales = twice(act, width), group_scales(act, width)
        totals, alone = scratch_1k(), seven(act, width)
        unit = np.float32(128) * _UNIT if alone else _UNIT
        for a in range(start // rows, (stop + rows - 1) // rows):
            at = words + 32 * bits * tiles * a
            if alone:
                with_bytes(at, tiles, columns, x, x_scales, state_bits, factor, totals)
            else:
                with_words(at, tiles, columns, x, x_scales, state_bits, factor, totals)
            _fold(totals, rows, unit, scales + step * rows * a, step, y + 4 * rows * a)

    return run


@njit()
def exact_rows(
    words: int, bands: int, bits: int, state_bits: int, factor: np.int32, rows: int, n: int,
    x: int, y: int,
) -> None:  # fmt: skip
    """All rows times x f32, zeros up to a multiple of 16, to y, unscaled."""
    columns = 256 // rows
    tiles = (n + columns - 1) // columns
    totals, one = scratch_1k(), scratch_1k()
    store_f32(one, np.float32(1))
    for a in range(bands):
        at = words + 32 * bits * tiles * a
        if bits == 2:
            _exact_2(at, tiles, columns, x, state_bits, factor, totals)
        elif bits == 3:
            _exact_3(at, tiles, columns, x, state_bits, factor, totals)
        else:
            _exact_4(at, tiles, columns, x, state_bits, factor, totals)
        _fold(totals, rows, _UNIT, one, 0, y + 4 * rows * a)
