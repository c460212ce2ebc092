"""Bitshift-trellis codebooks: 2 to 4 bits a weight, 256 weights coded together (QTIP).

Source: Tseng et al. 2024, arXiv:2406.11235; the code and its tiles are in
:mod:`lrc_kernels.trellis_code`. Tiles are as tall as the rows allow, up to one column wide: then
LDLQ's feedback and the polish see single columns, where rounding in the Euclidean metric is exact.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from lrc.codebooks.trellis import PREFIX
from lrc.errors import SpecError
from lrc.quant.base import F32, Codes, Quantizer
from lrc_kernels.trellis_code import (
    TILE,
    pack_states,
    rows_to_tiles,
    state_values,
    tile_rows,
    tiles_to_rows,
    unpack_states,
)
from lrc_kernels.trellis_fixed import RingCode, hashed_code

if TYPE_CHECKING:
    from lrc_kernels.cpu.encode.columns import ColumnSearch

#: What brings unit-RMS input to the best range of the code under feedback, by bits.
_INPUT_SCALE = {2: 1.107, 3: 1.04, 4: 1.03}


@dataclass(frozen=True)
class Trellis:
    """A trellis of ``state_bits`` over tiles of ``block_rows`` rows; codes are states.

    ``bits`` is 2, 3 or 4, ``block_rows`` one of :data:`lrc_kernels.trellis_code.TILE_ROWS`.
    """

    bits: int
    state_bits: int = 12
    block_rows: int = 16

    @property
    def id(self) -> str:
        """Codebook name."""
        return f"{PREFIX}{self.state_bits}"

    @property
    def block_size(self) -> int:
        """Columns of a tile."""
        return TILE // self.block_rows

    @property
    def input_scale(self) -> float:
        """Factor applied to unit-RMS input."""
        return _INPUT_SCALE[self.bits]

    @property
    def ring_code(self) -> RingCode:
        """What a search on another device needs to know."""
        return hashed_code(self.bits, self.state_bits)

    @property
    def columns(self) -> ColumnSearch:
        """The search within loops over the columns of a matrix."""
        from lrc_kernels.cpu.encode.columns import hashed_columns

        return hashed_columns(self.bits, self.state_bits)

    def encode(self, Z: F32) -> Codes:
        """States of the tiles of ``Z`` (rows, k * block_size): (u16 (rows, k, block_size),)."""
        tiles = rows_to_tiles(Z, self.block_rows)
        a, b, _ = tiles.shape
        from lrc_kernels.cpu.encode.viterbi import encode_trellis

        states = encode_trellis(tiles.reshape(a * b, TILE), self.bits, self.state_bits)
        flat = tiles_to_rows(states.reshape(a, b, TILE), self.block_rows)
        return (np.ascontiguousarray(flat).reshape(len(Z), b, self.block_size),)

    def decode(self, codes: Codes) -> F32:
        """Values of the states: f32 (rows, k * block_size)."""
        states = codes[0]
        return state_values(self.state_bits)[states].reshape(len(states), -1)

    def pack(self, codes: Codes) -> Codes:
        """Words of each band of tiles: (u16 (rows / block_rows, k * 16 bits),)."""
        states = codes[0].reshape(len(codes[0]), -1)
        tiles = rows_to_tiles(states, self.block_rows)
        a, b, _ = tiles.shape
        return (pack_states(tiles.reshape(a * b, TILE), self.bits).reshape(a, -1),)

    def unpack(self, planes: Codes, n: int) -> Codes:
        """Undo :meth:`pack`."""
        words = planes[0]
        a, b = len(words), -(-n // self.block_size)
        states = unpack_states(words.reshape(a * b, -1), self.bits, self.state_bits)
        flat = tiles_to_rows(states.reshape(a, b, TILE), self.block_rows)
        return (np.ascontiguousarray(flat).reshape(len(flat), b, self.block_size),)


def quantizer(name: str, bits: int, rows: int) -> Quantizer:
    """The encoding half of ``name`` in the tiles of a matrix of ``rows`` rows.

    Raises
    ------
    SpecError
        If 16 does not divide ``rows``.
    """
    if tile_rows(rows) == 0:
        raise SpecError(f"{name} needs a multiple of 16 rows, not {rows}; use a lattice")
    return Trellis(bits, int(name.removeprefix(PREFIX)), tile_rows(rows))
