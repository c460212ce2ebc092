"""The shuffle trellis: a bitshift trellis whose values are looked up by byte shuffles.

A ring holds 256 weights, column by column of a tile of ``rows`` x ``256 // rows`` (rows 32 to
256): weight t lies in row ``t % rows`` and column ``t // rows``. At k bits a weight it is a cyclic
stream of 256 k bits, and the state of weight t is the L bits from bit ``k t`` on, lowest first, as
in :mod:`lrc_kernels.trellis_code`. What differs is the value: bit i of the state contributes a
column, which depends on i and on ``t % period``, and the exclusive or of those of all set bits is
an index: its highest bit is the sign, the others name a magnitude. So the nibbles of the stream,
where they lie (the period is that of nibbles against weights), index tables of 16 bytes whose
entries are combined by exclusive or: byte shuffles, and no multiplication.

Bytes of eight rings lie together: byte ``32 h + 4 s + c`` of vector q is byte q of segment s (32
weights, 4 k bytes) of ring 4 h + c. Bytes of a matrix are in the order [band of rows][64 columns]
[pass][eight rings][k vectors][64]: pass p has bytes ``k p`` to ``k p + k - 1`` of all segments,
which are weights ``8 p`` to ``8 p + 7`` of each. The bits that a pass needs beyond are in the next
one, and behind the last one in the first of the next segment.

Sources: bitshift trellis and tail-biting: Tseng et al. 2024, QTIP, arXiv:2406.11235. The columns
were found by search from structured starts, the magnitudes trained on Gaussian samples.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from lrc_kernels.trellis_code import AT_ONCE, TILE

U8 = NDArray[np.uint8]
U16 = NDArray[np.uint16]
I8 = NDArray[np.int8]
F32 = NDArray[np.float32]

#: Segments of a ring, weights in each, rings whose bytes lie together, weights of a pass.
SEGMENTS, SEGMENT, RINGS, PASS = 8, 32, 8, 8
LANES, PASSES = SEGMENTS * RINGS, SEGMENT // PASS
#: Columns whose passes lie together: those that share a scale of activations.
GROUP = 64
#: Heights of tiles; the largest that divides the rows is used, for the fewest columns.
TILE_ROWS = (256, 128, 64, 32)
#: Divisor of the integer values.
UNIT = 32


@dataclass(frozen=True)
class ShuffleCode:
    """One code.

    Attributes
    ----------
    bits, state_bits : int
        k, and L.
    scale : float
        Integer values over those of a Gaussian source of unit variance.
    columns : tuple of tuples of int
        (period, L): the part of the index that each bit of the state contributes.
    magnitudes : tuple of int
        A power of two of them, 0 to 63.
    """

    bits: int
    state_bits: int
    scale: float
    columns: tuple[tuple[int, ...], ...]
    magnitudes: tuple[int, ...]

    @property
    def period(self) -> int:
        """Weights after which a weight lies in a nibble as before."""
        return len(self.columns)

    @property
    def sign(self) -> int:
        """The bit of the index that is the sign."""
        return len(self.magnitudes)

    def levels(self) -> I8:
        """Integer value of every index: i8 (2 * magnitudes,)."""
        sizes = np.array(self.magnitudes, np.int8)
        return np.concatenate([sizes, -sizes])

    def nibble_tables(self) -> U8:
        """What each nibble contributes to the index: u8 (period, nibbles of a window, 16).

        The window of weight t covers nibbles from ``k t // 4`` on; the bits of the first and last
        one that are outside contribute nothing.
        """
        offsets = [self.bits * t % 4 for t in range(self.period)]
        count = -(-(max(offsets) + self.state_bits) // 4)
        tables = np.zeros((self.period, count, 16), np.uint8)
        for t, offset in enumerate(offsets):
            for i, column in enumerate(self.columns[t]):
                nibble, bit = divmod(offset + i, 4)
                tables[t, nibble, (np.arange(16) >> bit) & 1 == 1] ^= np.uint8(column)
        return tables


_MAGNITUDES_32 = (
    1, 1, 2, 3, 5, 5, 6, 6, 9, 7, 10, 11, 13, 13, 13, 15, 16, 19, 18, 20, 22, 22, 25, 25, 28, 31,
    32, 35, 39, 43, 50, 63,
)  # fmt: skip
_MAGNITUDES_64 = (
    0, 2, 1, 1, 2, 2, 2, 3, 4, 5, 4, 4, 5, 5, 6, 7, 7, 8, 8, 8, 9, 10, 9, 10, 11, 11, 11, 12, 13,
    13, 13, 14, 15, 15, 15, 16, 17, 17, 18, 18, 20, 19, 20, 21, 22, 23, 24, 24, 25, 26, 26, 27,
    28, 30, 30, 31, 34, 34, 37, 38, 41, 45, 52, 63,
)  # fmt: skip
CODES: dict[tuple[int, int], ShuffleCode] = {
    (2, 10): ShuffleCode(
        bits=2,
        state_bits=10,
        scale=26.4369,
        columns=((8, 23, 7, 18, 11, 29, 31, 24, 21, 8), (11, 23, 14, 19, 26, 9, 2, 21, 8, 30)),
        magnitudes=(1, 4, 5, 5, 12, 14, 15, 15, 22, 22, 29, 27, 34, 42, 44, 63),
    ),
    (2, 12): ShuffleCode(
        bits=2,
        state_bits=12,
        scale=26.6730,
        columns=(
            (20, 28, 22, 3, 30, 11, 4, 28, 11, 23, 16, 25),
            (23, 30, 9, 19, 19, 22, 18, 21, 20, 2, 28, 16),
        ),
        magnitudes=(4, 5, 6, 6, 10, 13, 14, 13, 24, 26, 24, 28, 33, 42, 45, 63),
    ),
    (3, 12): ShuffleCode(
        bits=3,
        state_bits=12,
        scale=22.6680,
        columns=(
            (44, 21, 24, 6, 15, 30, 32, 30, 53, 11, 23, 35),
            (34, 10, 16, 25, 12, 39, 1, 40, 25, 16, 8, 32),
            (37, 11, 17, 39, 59, 49, 8, 50, 27, 20, 39, 8),
            (34, 14, 18, 25, 3, 14, 38, 49, 3, 16, 8, 32),
        ),
        magnitudes=_MAGNITUDES_32,
    ),
    (4, 12): ShuffleCode(
        bits=4,
        state_bits=12,
        scale=20.4068,
        columns=((32, 69, 11, 19, 125, 106, 38, 26, 64, 16, 8, 99),),
        magnitudes=_MAGNITUDES_64,
    ),
}


def tile_rows(m: int) -> int:
    """Height of the tiles of a matrix with ``m`` rows; 0 if 32 does not divide ``m``."""
    return next((rows for rows in TILE_ROWS if m % rows == 0), 0)


@cache
def state_levels(bits: int, state_bits: int) -> I8:
    """Integer value of every state in every phase: i8 (period, 2**state_bits)."""
    code = CODES[bits, state_bits]
    states = np.arange(1 << state_bits)
    found = np.empty((code.period, len(states)), np.int8)
    for phase, columns in enumerate(code.columns):
        index = np.zeros(len(states), np.int64)
        for i, column in enumerate(columns):
            index ^= ((states >> i) & 1) * column
        found[phase] = code.levels()[index]
    found.setflags(write=False)
    return found


def ring_values(states: U16, bits: int, state_bits: int) -> F32:
    """Values f32 (..., 256) of the states u16 (..., 256) of rings, in their order."""
    levels = state_levels(bits, state_bits)
    phase = np.arange(TILE) % len(levels)
    return levels[phase, states].astype(np.float32) / np.float32(UNIT)


def plane_bytes(n: int, bits: int, rows: int) -> int:
    """Bytes of a band of tiles of ``rows`` rows, ``n`` columns wide."""
    return _eights(-(-n * rows // TILE)) * PASSES * bits * LANES


def pack_states(states: U16, bits: int, rows: int) -> U8:
    """Bytes u8 (a, `plane_bytes`) of the states u16 (a, b, 256) of bands of b rings.

    Only the lowest ``bits`` of a state are used: the others are those of the next weights. Rings
    that fill up the last eight are zeros.
    """
    a, b, _ = states.shape
    eights, at_once = _eights(b), max(AT_ONCE // (b * TILE), 1)
    order = _order(eights, rows)
    packed = np.empty((a, len(order) * bits * LANES), np.uint8)
    for first in range(0, a, at_once):
        part = states[first : first + at_once]
        low = np.zeros((len(part), eights * RINGS, TILE), np.uint16)
        low[:, :b] = part & np.uint16((1 << bits) - 1)
        stream = ((low[..., None] >> np.arange(bits, dtype=np.uint16)) & np.uint16(1)).astype("u1")
        found = np.packbits(stream.reshape(len(part), -1, 8), axis=2, bitorder="little")
        split = found.reshape(-1, eights, 2, RINGS // 2, SEGMENTS, PASSES, bits)
        parts = split.transpose(0, 5, 1, 6, 2, 4, 3).reshape(-1, PASSES * eights, bits * LANES)
        packed[first : first + at_once] = parts[:, order].reshape(len(part), -1)
    return packed


def unpack_states(data: U8, bits: int, state_bits: int, rows: int, rings: int) -> U16:
    """States u16 (a, rings, 256) of bytes of bands; undoes :func:`pack_states`."""
    a, eights = len(data), _eights(rings)
    parts = data.reshape(a, PASSES * eights, bits * LANES)[:, np.argsort(_order(eights, rows))]
    split = parts.reshape(a, PASSES, eights, bits, 2, SEGMENTS, RINGS // 2)
    flat = np.ascontiguousarray(split.transpose(0, 2, 4, 6, 5, 1, 3))
    flat = flat.reshape(a, eights * RINGS, -1)[:, :rings]
    stream = np.unpackbits(flat, axis=2, bitorder="little")
    at = (bits * np.arange(TILE)[:, None] + np.arange(state_bits)) % stream.shape[2]
    found = np.zeros((a, rings, TILE), np.uint16)
    for i in range(state_bits):
        found |= stream[:, :, at[:, i]].astype(np.uint16) << np.uint16(i)
    return found


def _eights(rings: int) -> int:
    return -(-rings // RINGS)


def _order(eights: int, rows: int) -> NDArray[np.intp]:
    """Numbers ``eights * pass + eight`` in the order in which they are stored."""
    together = GROUP * rows // TILE // RINGS
    numbers = np.arange(PASSES * eights).reshape(PASSES, eights)
    groups = [numbers[:, first : first + together] for first in range(0, eights, together)]
    return np.concatenate([group.reshape(-1) for group in groups])
