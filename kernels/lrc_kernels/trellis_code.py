"""The bitshift trellis: its code, its tiles and its bit stream, in plain NumPy.

A tile holds 256 weights of ``rows`` x ``columns`` (rows * columns = 256), column by column: weight
t lies in row ``t % rows`` and column ``t // rows``. At k bits a weight it is a cyclic stream of
256 k bits, and the state of weight t is the L bits from bit ``k t`` on, lowest first; so
neighbours share L - k bits, and the last and the first weight too (tail-biting). The value of a
state is that of an integer hash: the sum of the four bytes of ``state * MULTIPLIER`` modulo 2^32,
less its mean 510, over 128: nearly Gaussian with variance 1.33.

The stream is stored as 16-bit words, word q of segment i holding bits ``16 (k i + q)`` to
``16 (k i + q) + 15``, in the order [q][i]: a vector of 16 segments is one load.

Source: Tseng et al. 2024, QTIP, arXiv:2406.11235 (bitshift trellis, computed codes, tail-biting).
"""

from __future__ import annotations

from functools import cache
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Entry = TypeVar("Entry", bound=np.generic)
U16 = NDArray[np.uint16]
F32 = NDArray[np.float32]

#: Weights of a tile, and segments of 16 weights in it.
TILE, SEGMENTS = 256, 16
#: The code's multiplier: of 3,900 random ones the best at 2, 3 and 4 bits on Gaussian weights.
MULTIPLIER = 0x58D31E71
#: What the sum of four bytes has as its mean, and the divisor of what is left.
BYTES_MEAN, UNIT = 510, 128
MIN_STATE_BITS, MAX_STATE_BITS = 8, 16
#: Heights of tiles; the largest that divides the rows is used, for the fewest columns.
TILE_ROWS = (256, 128, 64, 32, 16)
#: Weights that are packed at once: each of their bits takes bytes meanwhile.
AT_ONCE = 1 << 20


def tile_rows(m: int) -> int:
    """Height of the tiles of a matrix with ``m`` rows; 0 if 16 does not divide ``m``."""
    return next((rows for rows in TILE_ROWS if m % rows == 0), 0)


@cache
def byte_sums(state_bits: int) -> NDArray[np.int16]:
    """Sum of the four bytes of ``state * MULTIPLIER`` less 510: i16 (2**state_bits,)."""
    states = np.arange(1 << state_bits, dtype=np.uint64)
    hashed = (states * MULTIPLIER & 0xFFFFFFFF).astype("<u4")
    total = hashed.view(np.uint8).reshape(-1, 4).sum(axis=1, dtype=np.int16)
    sums: NDArray[np.int16] = total - np.int16(BYTES_MEAN)
    sums.setflags(write=False)
    return sums


@cache
def state_values(state_bits: int) -> F32:
    """Values of all states: f32 (2**state_bits,)."""
    values = byte_sums(state_bits).astype(np.float32) / np.float32(UNIT)
    values.setflags(write=False)
    return values


def pack_states(states: U16, bits: int) -> U16:
    """Words u16 (tiles, bits * 16) of the states u16 (tiles, 256) of each tile in its order.

    Only the lowest ``bits`` of a state are used: the others are those of the next weights.
    """
    tiles = states.shape[0]
    packed = np.empty((tiles, bits * SEGMENTS), "<u2")
    for first in range(0, tiles, AT_ONCE // TILE):
        low = states[first : first + AT_ONCE // TILE] & np.uint16((1 << bits) - 1)
        stream = (low[:, :, None] >> np.arange(bits, dtype=np.uint16)) & np.uint16(1)
        words = np.packbits(
            stream.reshape(-1, SEGMENTS, bits, 16).astype(np.uint8), axis=3, bitorder="little"
        )
        by_segment = words.view("<u2").reshape(-1, SEGMENTS, bits)
        packed[first : first + len(low)] = by_segment.transpose(0, 2, 1).reshape(len(low), -1)
    return packed


def unpack_states(words: U16, bits: int, state_bits: int) -> U16:
    """States u16 (tiles, 256) of words u16 (tiles, bits * 16); undoes :func:`pack_states`."""
    tiles = words.shape[0]
    by_segment = words.reshape(tiles, bits, SEGMENTS).transpose(0, 2, 1)
    flat = np.ascontiguousarray(by_segment, dtype="<u2").view(np.uint8).reshape(tiles, -1)
    stream = np.unpackbits(flat, axis=1, bitorder="little")
    at = (bits * np.arange(TILE)[:, None] + np.arange(state_bits)) % stream.shape[1]
    weights = (1 << np.arange(state_bits)).astype(np.uint32)
    return (stream[:, at].astype(np.uint32) @ weights).astype(np.uint16)


def tiles_to_rows(values: NDArray[Entry], rows: int) -> NDArray[Entry]:
    """(a, b, 256) values of tiles in their order as a matrix (a * rows, b * 256 // rows)."""
    a, b, _ = values.shape
    columns = TILE // rows
    return values.reshape(a, b, columns, rows).transpose(0, 3, 1, 2).reshape(a * rows, b * columns)


def rows_to_tiles(matrix: NDArray[Entry], rows: int) -> NDArray[Entry]:
    """Undo :func:`tiles_to_rows`: (a * rows, b * 256 // rows) to (a, b, 256), contiguous."""
    columns = TILE // rows
    a, b = matrix.shape[0] // rows, matrix.shape[1] // columns
    split = matrix.reshape(a, rows, b, columns).transpose(0, 2, 3, 1)
    return np.ascontiguousarray(split).reshape(a, b, TILE)
