"""Bands of trellis tiles as float32, and times float32 vectors."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lrc_kernels._jit import njit
from lrc_kernels.cpu.dot.dot_trellis import FACTOR, check_words, exact_rows
from lrc_kernels.simd.threads import scratch_1k
from lrc_kernels.simd.tiles import BLOCKS
from lrc_kernels.simd.values import load_f32, splat_i32x16, store_f32

F32 = NDArray[np.float32]
U16 = NDArray[np.uint16]


def _make_row(tiles: int) -> Any:
    """Decode one step of a band of ``16 * tiles`` rows: every 16th row."""
    some, last, store = BLOCKS[tiles]
    columns = 16 // tiles

    @njit(inner=True)
    def rows_of_step(
        words: int, size: int, ends: bool, skip: int, state_bits: int, factor: np.int32, n: int,
        scales: int, step: int, out: int,
    ) -> None:  # fmt: skip
        mask, multiplier = splat_i32x16(np.int32((1 << state_bits) - 1)), splat_i32x16(factor)
        shift = splat_i32x16(np.int32(skip))
        count = (n + columns - 1) // columns
        scratch = scratch_1k()
        for start in range(0, n, 16):
            first = start // columns
            at, left = words + size * first, count - first
            if ends:
                values = last(at, size, left, shift, mask, multiplier)
            else:
                values = some(at, size, left, shift, mask, multiplier)
            if start + 16 <= n:
                store(out + 4 * start, 64 * n, scales, 16 * step, values)
                continue
            store(scratch, 64, scales, 16 * step, values)
            for r in range(tiles):
                for c in range(n - start):
                    value = load_f32(scratch + 64 * r + 4 * c)
                    store_f32(out + 4 * (16 * n * r + start + c), value)

    return rows_of_step


_rows_16, _rows_32, _rows_64, _rows_128, _rows_256 = (_make_row(1 << i) for i in range(5))


@njit()
def _decode(
    words: int, bands: int, bits: int, state_bits: int, factor: np.int32, rows: int, n: int,
    scales: int, step: int, out: int,
) -> None:  # fmt: skip
    size = 32 * bits
    # One step at a time, so that few rows are written at once.
    for a in range(bands):
        for j in range(16):
            q = bits * j // 16
            at = words + size * ((n * rows + 255) // 256) * a + 32 * q
            ends, skip = q + 1 == bits, bits * j - 16 * q
            own, to = scales + step * (rows * a + j), out + 4 * n * (rows * a + j)
            if rows == 256:
                _rows_256(at, size, ends, skip, state_bits, factor, n, own, step, to)
            elif rows == 128:
                _rows_128(at, size, ends, skip, state_bits, factor, n, own, step, to)
            elif rows == 64:
                _rows_64(at, size, ends, skip, state_bits, factor, n, own, step, to)
            elif rows == 32:
                _rows_32(at, size, ends, skip, state_bits, factor, n, own, step, to)
            else:
                _rows_16(at, size, ends, skip, state_bits, factor, n, own, step, to)


def decode_rows_trellis(
    words: U16, bits: int, state_bits: int, scales: F32, out: F32, rows: int
) -> None:
    """Write the weights of bands of tiles, times the scale of their row.

    Parameters
    ----------
    words
        u16 (a, ceil(n * rows / 256) * 16 * bits), C-contiguous.
    bits, state_bits
        2 to 4, and 8 to 16.
    scales
        f32 (a * rows,) or (1,).
    out
        f32 (a * rows, n), C-contiguous.
    rows
        Height of the tiles.

    Raises
    ------
    ValueError
        When these do not fit one another.
    """
    count, n = out.shape
    check_words(words, bits, state_bits, rows, n)
    whole = words.flags.c_contiguous and out.flags.c_contiguous and out.dtype == np.float32
    if not (whole and count == len(words) * rows and scales.shape in ((1,), (count,))):
        raise ValueError(f"words {words.shape}, scales {scales.shape} and out {out.shape}")
    scales = np.ascontiguousarray(scales, np.float32)
    _decode(
        words.ctypes.data, len(words), bits, state_bits, FACTOR, rows, n, scales.ctypes.data,
        4 if len(scales) > 1 else 0, out.ctypes.data,
    )  # fmt: skip


def decode_trellis(words: U16, bits: int, state_bits: int, rows: int, n: int) -> F32:
    """Values of bands of tiles: f32 (bands * rows, n); see :mod:`lrc_kernels.contract`."""
    out = np.empty((len(words) * rows, n), np.float32)
    decode_rows_trellis(words, bits, state_bits, np.ones(1, np.float32), out, rows)
    return out


def matvec_trellis(words: U16, bits: int, state_bits: int, rows: int, x: F32) -> F32:
    """Values of bands of tiles times x f32 (n,): f32 (bands * rows,)."""
    n = x.shape[0]
    check_words(words, bits, state_bits, rows, n)
    words = np.ascontiguousarray(words)
    padded = np.zeros(-(-n // 16) * 16, np.float32)
    padded[:n] = x
    y = np.empty(len(words) * rows, np.float32)
    exact_rows(
        words.ctypes.data, len(words), bits, state_bits, FACTOR, rows, n, padded.ctypes.data,
        y.ctypes.data,
    )  # fmt: skip
    return y
