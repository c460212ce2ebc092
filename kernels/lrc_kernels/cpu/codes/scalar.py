"""Scalar codes: nearest level of an ascending table, and packing of codes into bits."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lrc_kernels._jit import njit

F32 = NDArray[np.float32]
U8 = NDArray[np.uint8]


@njit()
def _nearest(z: F32, levels: F32, codes: U8) -> None:
    """Count the midpoints below each value by bisection; the count is the code."""
    midpoints = np.empty(levels.shape[0] - 1, np.float64)
    for c in range(midpoints.shape[0]):
        midpoints[c] = (np.float64(levels[c]) + np.float64(levels[c + 1])) * 0.5
    for r in range(z.shape[0]):
        for k in range(z.shape[1]):
            value = np.float64(z[r, k])
            low = 0
            high = midpoints.shape[0]
            while low < high:
                middle = (low + high) >> 1
                if value > midpoints[middle]:
                    low = middle + 1
                else:
                    high = middle
            codes[r, k] = low


@njit()
def _pack(codes: U8, bits: int, words: U8) -> None:
    for r in range(codes.shape[0]):
        pending = np.int64(0)
        pending_bits = 0
        at = 0
        for k in range(codes.shape[1]):
            pending |= np.int64(codes[r, k]) << pending_bits
            pending_bits += bits
            if pending_bits >= 8:
                words[r, at] = pending & 255
                pending >>= 8
                pending_bits -= 8
                at += 1
        if pending_bits > 0:
            words[r, at] = pending & 255


@njit()
def _unpack(words: U8, bits: int, codes: U8) -> None:
    mask = (1 << bits) - 1
    for r in range(words.shape[0]):
        pending = np.int64(0)
        pending_bits = 0
        at = 0
        for k in range(codes.shape[1]):
            if pending_bits < bits:
                pending |= np.int64(words[r, at]) << pending_bits
                pending_bits += 8
                at += 1
            codes[r, k] = pending & mask
            pending >>= bits
            pending_bits -= bits


def _check_bits(bits: int) -> None:
    if not 1 <= bits <= 8:
        raise ValueError(f"bits={bits} must be 1 to 8")


def nearest_level(z: F32, levels: F32) -> U8:
    """Index of the level nearest to each entry of ``z`` f32 (rows, k); ties to the lower one.

    Midpoints are compared in float64, where the middle of two float32 numbers is exact.
    """
    if not 1 <= levels.shape[0] <= 256:
        raise ValueError(f"a table has 1 to 256 levels, not {levels.shape[0]}")
    codes = np.empty(z.shape, np.uint8)
    _nearest(np.ascontiguousarray(z, np.float32), np.ascontiguousarray(levels, np.float32), codes)
    return codes


def pack_bits(codes: U8, bits: int) -> U8:
    """Rows of codes u8 (rows, n) below ``2**bits`` as little-endian bit strings."""
    _check_bits(bits)
    words = np.empty((codes.shape[0], (codes.shape[1] * bits + 7) // 8), np.uint8)
    _pack(np.ascontiguousarray(codes, np.uint8), bits, words)
    return words


def unpack_bits(words: U8, bits: int, n: int) -> U8:
    """Undo :func:`pack_bits`: codes u8 (rows, n)."""
    _check_bits(bits)
    if words.shape[1] * 8 < n * bits:
        raise ValueError(f"{words.shape[1]} bytes a row hold fewer than {n} codes of {bits} bits")
    codes = np.empty((words.shape[0], n), np.uint8)
    _unpack(np.ascontiguousarray(words, np.uint8), bits, codes)
    return codes
