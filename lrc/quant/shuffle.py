"""Shuffle-trellis codebooks: 2 to 4 bits a weight, 256 weights coded together.

The code and its rings are in :mod:`lrc_kernels.shuffle_code`; they are found by the search of the
bitshift trellis (Tseng et al. 2024, arXiv:2406.11235). Tiles are as tall as the rows allow, up to
one column wide: then LDLQ's feedback and the polish see single columns.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lrc.codebooks.shuffle import PREFIX
from lrc.errors import SpecError
from lrc.quant.base import F32, Codes, Quantizer
from lrc_kernels.shuffle_code import (
    CODES,
    UNIT,
    pack_states,
    ring_values,
    tile_rows,
    unpack_states,
)
from lrc_kernels.trellis_code import TILE, rows_to_tiles, tiles_to_rows
from lrc_kernels.trellis_fixed import RingCode, shuffled_code

if TYPE_CHECKING:
    from lrc_kernels.cpu.encode.columns import ColumnSearch

#: What brings unit-RMS input to the best range of the code under feedback, over the scale that is
#: best for a Gaussian, by bits.
_UNDER_FEEDBACK = {2: 1.0, 3: 0.96, 4: 0.95}


@dataclass(frozen=True)
class Shuffle:
    """A shuffle trellis over tiles of ``block_rows`` rows; codes are states."""

    bits: int
    state_bits: int = 12
    block_rows: int = 32

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
        return CODES[self.bits, self.state_bits].scale / UNIT * _UNDER_FEEDBACK[self.bits]

    @property
    def ring_code(self) -> RingCode:
        """What a search on another device needs to know."""
        return shuffled_code(self.bits, self.state_bits)

    @property
    def columns(self) -> ColumnSearch:
        """The search within loops over the columns of a matrix."""
        from lrc_kernels.cpu.encode.columns import shuffled_columns

        return shuffled_columns(self.bits, self.state_bits)

    def encode(self, Z: F32) -> Codes:
        """States of the tiles of ``Z`` (rows, k * block_size): (u16 (rows, k, block_size),)."""
        tiles = rows_to_tiles(Z, self.block_rows)
        a, b, _ = tiles.shape
        from lrc_kernels.cpu.encode.rings import encode_shuffle

        states = encode_shuffle(tiles.reshape(a * b, TILE), self.bits, self.state_bits)
        flat = tiles_to_rows(states.reshape(a, b, TILE), self.block_rows)
        return (np.ascontiguousarray(flat).reshape(len(Z), b, self.block_size),)

    def decode(self, codes: Codes) -> F32:
        """Values of the states: f32 (rows, k * block_size)."""
        rings = self._rings(codes)
        return tiles_to_rows(ring_values(rings, self.bits, self.state_bits), self.block_rows)

    def pack(self, codes: Codes) -> Codes:
        """Bytes of each band of tiles."""
        return (pack_states(self._rings(codes), self.bits, self.block_rows),)

    def unpack(self, planes: Codes, n: int) -> Codes:
        """Undo :meth:`pack`."""
        rings = -(-n // self.block_size)
        states = unpack_states(planes[0], self.bits, self.state_bits, self.block_rows, rings)
        flat = tiles_to_rows(states, self.block_rows)
        return (np.ascontiguousarray(flat).reshape(len(flat), rings, self.block_size),)

    def _rings(self, codes: Codes) -> NDArray[Any]:
        states = codes[0].reshape(len(codes[0]), -1)
        return rows_to_tiles(states, self.block_rows)


def quantizer(name: str, bits: int, rows: int) -> Quantizer:
    """The encoding half of ``name`` in the tiles of a matrix of ``rows`` rows.

    Raises
    ------
    SpecError
        If 32 does not divide ``rows``.
    """
    if tile_rows(rows) == 0:
        raise SpecError(f"{name} needs a multiple of 32 rows, not {rows}; use a lattice")
    return Shuffle(bits, int(name.removeprefix(PREFIX)), tile_rows(rows))
