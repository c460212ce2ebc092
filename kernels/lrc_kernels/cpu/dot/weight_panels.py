"""Trellis and shuffle-trellis weights times many tokens on integer activations.

Activations are those of :mod:`lrc_kernels.cpu.transform.activations`, ``x = s q`` with one scale
for 64 inputs and q of 15 bits; here q is one 16-bit integer, or where `BYTES` says so 64 bytes h
and 64 bytes l of each group. A block of 256 inputs of all tokens lies together: i16 (blocks,
tokens, 256), and the scales f32 (blocks, tokens, 4). A panel of weights is decoded a block at a
time and multiplied with all tokens. Sums of 64 products are exact.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba.core import types
from numpy.typing import NDArray

from lrc_kernels import shuffle_code
from lrc_kernels._jit import njit
from lrc_kernels._late import late
from lrc_kernels.cpu.codes.shuffle import check_bytes
from lrc_kernels.cpu.dot.dot_trellis import FACTOR, check_words
from lrc_kernels.cpu.dot.fill_weight_panels import (
    ROWS,
    TOGETHER,
    make_fill_shuffle,
    make_fill_trellis,
)
from lrc_kernels.cpu.transform.activations import GROUP
from lrc_kernels.shuffle_code import SEGMENT as RING_SEGMENT
from lrc_kernels.shuffle_code import state_levels
from lrc_kernels.simd.codes import store_low_bytes
from lrc_kernels.simd.math import absolute, largest, max_f32, to_i32
from lrc_kernels.simd.values import (
    load_f32,
    load_f32x16,
    splat_f32x16,
    splat_i32x16,
    store_f32,
    store_f32x16,
)
from lrc_kernels.simd.weight_bytes import BYTES, make_multiply
from lrc_kernels.simd.weight_panels import (
    ABREAST,
    COLUMNS,
    LAST_TOKENS,
    PAIR_BYTES,
    STORE,
    TOKENS,
    VECTORS,
    multiply_last,
    multiply_tokens,
    store_low_words,
    stored_vectors,
)
from lrc_kernels.trellis_code import UNIT

F32 = NDArray[np.float32]
U16 = NDArray[np.uint16]
U8 = NDArray[np.uint8]

#: Bytes of a decoded block of a panel, and of a token's sums.
WEIGHT_PANEL_BYTES, TOTAL_BYTES = PAIR_BYTES * COLUMNS // 2, 64 * VECTORS
_WORDS, _SCALES, _GROUPS = 2 * COLUMNS, 4 * COLUMNS // GROUP, COLUMNS // GROUP
_LARGEST = np.float32(16256)


def padded_tokens(tokens: int) -> int:
    """Tokens that activations are padded to."""
    return -(-tokens // LAST_TOKENS) * LAST_TOKENS


def weight_panels(m: int) -> int:
    """Panels of a matrix with ``m`` rows."""
    return -(-m // (16 * VECTORS))


@njit(inline=True)
def _top(x: int) -> np.float32:
    """Largest magnitude of 64 floats."""
    most = absolute(load_f32x16(x))
    for i in range(1, GROUP // 16):
        most = largest(most, absolute(load_f32x16(x + 64 * i)))
    top: np.float32 = max_f32(most)
    return top


@njit()
def split_words(z: int, n: int, t: int, capacity: int, words: int, scales: int) -> None:
    """Quantize f32 (n,) at ``z`` as token t of ``capacity``; zeros up to a multiple of 64."""
    for g in range((n + GROUP - 1) // GROUP):
        x = z + 4 * GROUP * g
        top = _top(x)
        inverse = splat_f32x16(_LARGEST / top if top > 0 else np.float32(0))
        b, q = g // _GROUPS, g % _GROUPS
        row = capacity * b + t
        store_f32(scales + _SCALES * row + 4 * q, top / _LARGEST)
        for i in range(GROUP // 16):
            value = load_f32x16(x + 64 * i) * inverse
            _store_activations(words + _WORDS * row + 2 * GROUP * q, i, value)


@njit(inline=True)
def _store_words(group: int, i: int, value: Any) -> None:
    """Number i of four vectors of a group, as 16-bit integers."""
    store_low_words(group + 32 * i, to_i32(value))


@njit(inline=True)
def _store_planes(group: int, i: int, value: Any) -> None:
    """The same as bytes h and l."""
    h = to_i32(value * splat_f32x16(np.float32(1 / 128)))
    store_low_bytes(group + 16 * i, h)
    low = to_i32(value) - (h << splat_i32x16(np.int32(7)))
    store_low_bytes(group + GROUP + 16 * i, low)


_store_activations = _store_planes if BYTES else _store_words


def _make_block(many: Any, few: Any, together: int) -> Any:
    @njit(inner=True)
    def multiply_block(
        totals: int, weight_panel: int, n: int, tokens: int, words: int, scales: int
    ) -> None:
        """Add a block of ``n`` columns times all tokens to f32 (tokens, 4, 16)."""
        for v in range(0, VECTORS, ABREAST):
            for t in range(0, tokens, TOKENS):
                for g in range((n + GROUP - 1) // GROUP):
                    count = (min(GROUP, n - GROUP * g) + together - 1) // together
                    weights = weight_panel + PAIR_BYTES * GROUP // together * g + 64 * v
                    if t + TOKENS <= tokens:
                        many(totals + TOTAL_BYTES * t + 64 * v, weights,
                             words + _WORDS * t + 2 * GROUP * g, count,
                             scales + _SCALES * t + 4 * g)  # fmt: skip
                    else:
                        for u in range(t, tokens, LAST_TOKENS):
                            few(totals + TOTAL_BYTES * u + 64 * v, weights,
                                words + _WORDS * u + 2 * GROUP * g, count,
                                scales + _SCALES * u + 4 * g)  # fmt: skip

    return multiply_block


_multiply_block = _multiply_rings = _make_block(multiply_tokens, multiply_last, 2)
if BYTES:
    _many, _few = (make_multiply(t, _WORDS, PAIR_BYTES, TOTAL_BYTES) for t in (TOKENS, LAST_TOKENS))
    _multiply_rings = _make_block(_many, _few, TOGETHER)


def _make_store_rows(segment: int, blocks: int) -> Any:
    store, vectors = STORE[segment, blocks], stored_vectors(blocks)
    # The next rows of the same segments, or the next tile.
    further = 64 * vectors if segment * blocks == 16 * vectors else 64 * vectors // blocks

    @njit(inner=True)
    def store_rows(totals: int, tokens: int, count: int, scales: int, y: int, step: int) -> None:
        for t in range(tokens):
            for i in range(count // vectors):
                store(totals + TOTAL_BYTES * t + 64 * vectors * i, scales + further * i,
                      y + step * t + further * i)  # fmt: skip

    return store_rows


def _make_store(segment: int, rows: int) -> Any:
    """Stores of panels of tiles of ``rows`` rows, in segments of so many weights."""
    blocks = rows // segment
    store_rows = _make_store_rows(segment, blocks)

    @njit(inner=True)
    def store_weight_panel(
        totals: int, tokens: int, m: int, weight_panel: int, scales: int, y: int
    ) -> None:
        """Write the rows of a panel of all tokens to f32 (tokens, m)."""
        first = ROWS * weight_panel
        # Of a tile of several panels each has some rows of every segment.
        within = first % rows
        at = 4 * (first - within + within // blocks)
        count = min(VECTORS, (m - first) // 16)
        store_rows(totals, tokens, count, scales + at, y + at, 4 * m)

    return store_weight_panel


@late(*(types.intp,) * 13)
def multiply_weight_panel(rings: int, bits: int, state_bits: int, rows: int) -> Any:
    """Panels of one code in tiles of ``rows`` rows, times all tokens.

    ``rings``: 1 of :mod:`lrc_kernels.shuffle_code`, 0 of a trellis.
    """
    make_fill = make_fill_shuffle if rings else make_fill_trellis
    fill, block = make_fill(bits, state_bits, rows), _multiply_rings if rings else _multiply_block
    store = _make_store(RING_SEGMENT if rings else 16, rows)

    def run(
        codes: int, table: int, m: int, n: int, weight_panel: int, tokens: int, capacity: int,
        words: int, scales: int, row_scales: int, work: int, totals: int, y: int,
    ) -> None:  # fmt: skip
        """Rows of one panel times all tokens, times ``row_scales`` f32 (m,), to f32 (tokens, m).

        ``table``: `FACTOR`, or the address of the states' levels of rings. ``words``, ``scales``:
        what `split_words` made, with ``capacity`` tokens a block, `padded_tokens` at least.
        ``work``: `WEIGHT_PANEL_BYTES`; ``totals``: `TOTAL_BYTES` for each of the padded tokens.
        """
        zero, padded = splat_f32x16(np.float32(0)), (tokens + 1) // 2 * 2
        for i in range(VECTORS * padded):
            store_f32x16(totals + 64 * i, zero)
        for first in range(0, n, COLUMNS):
            if rings:
                fill(codes, table, m, n, weight_panel, first, min(first + COLUMNS, n), work)
            else:
                fill(codes, np.int32(table), n, m // 16, weight_panel, first, work)
            at = capacity * (first // COLUMNS)
            block(totals, work, min(COLUMNS, n - first), padded, words + _WORDS * at,
                  scales + _SCALES * at)  # fmt: skip
        store(totals, tokens, m, weight_panel, row_scales, y)

    return run


_call_weight_panel = multiply_weight_panel.call


@njit()
def _all_weight_panels(
    entry: int, codes: int, table: int, m: int, n: int, x: int, tokens: int, capacity: int,
    words: int, scales: int, row_scales: int, z: int, work: int, totals: int, y: int,
) -> None:  # fmt: skip
    for t in range(tokens):
        for i in range(n):
            store_f32(z + 4 * i, load_f32(x + 4 * (n * t + i)))
        split_words(z, n, t, capacity, words, scales)
    for weight_panel in range((m + 16 * VECTORS - 1) // (16 * VECTORS)):
        _call_weight_panel(entry, codes, table, m, n, weight_panel, tokens, capacity, words, scales,
                           row_scales, work, totals, y)  # fmt: skip


def matmul_trellis(words: U16, bits: int, state_bits: int, rows: int, x: F32) -> F32:
    """Bands of tiles u16 (a, ceil(n * rows / 256) * 16 * bits) times x (T, n): f32 (T, a * rows).

    Raises
    ------
    ValueError
        When these do not fit one another.
    """
    check_words(words, bits, state_bits, rows, x.shape[1])
    return _matmul(words, bits, state_bits, int(FACTOR), False, rows, x, UNIT)


def matmul_shuffle(data: U8, bits: int, state_bits: int, rows: int, x: F32) -> F32:
    """Bands of rings u8 (a, `shuffle_code.plane_bytes`) times x (T, n): f32 (T, a * rows).

    Raises
    ------
    ValueError
        When these do not fit one another.
    """
    check_bytes(data, bits, state_bits, rows, x.shape[1])
    levels = state_levels(bits, state_bits)
    return _matmul(
        data, bits, state_bits, levels.ctypes.data, True, rows, x, shuffle_code.UNIT
    )  # fmt: skip


def _matmul(
    codes: NDArray[Any], bits: int, state_bits: int, table: int, rings: bool, rows: int, x: F32,
    unit: int,
) -> F32:  # fmt: skip
    tokens, n = x.shape
    codes, x = np.ascontiguousarray(codes), np.ascontiguousarray(x, np.float32)
    m, capacity, width = len(codes) * rows, padded_tokens(tokens), -(-n // COLUMNS) * COLUMNS
    y, own = np.empty((tokens, m), np.float32), np.full(m, 1 / unit, np.float32)
    sums = np.zeros(TOTAL_BYTES * capacity, np.uint8)
    q, s = np.zeros(capacity * width, np.int16), np.zeros(capacity * width // GROUP, np.float32)
    z, work = np.zeros(width, np.float32), np.zeros(WEIGHT_PANEL_BYTES, np.uint8)
    entry = multiply_weight_panel.address(int(rings), bits, state_bits, rows)
    _all_weight_panels(
        entry, codes.ctypes.data, table, m, n, x.ctypes.data, tokens, capacity, q.ctypes.data,
        s.ctypes.data, own.ctypes.data, z.ctypes.data, work.ctypes.data, sums.ctypes.data,
        y.ctypes.data,
    )  # fmt: skip
    return y
