"""Bitshift-trellis codebooks: 2 to 4 bits a weight, 256 weights coded together (QTIP).

Source: Tseng et al. 2024, arXiv:2406.11235; the code and its tiles are in
:mod:`lrc_kernels.trellis_code`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from lrc.codebooks.trellis import PREFIX
from lrc.quant.base import F32, Codes, Quantizer
from lrc.quant.tiled import U16, Tiled, checked_rows
from lrc_kernels.trellis_code import (
    TILE,
    TILE_ROWS,
    pack_states,
    state_values,
    tile_rows,
    unpack_states,
)
from lrc_kernels.trellis_fixed import RingCode, hashed_code

if TYPE_CHECKING:
    from lrc_kernels.cpu.encode.columns import ColumnSearch

#: What brings unit-RMS input to the best range of the code under feedback, by bits.
_INPUT_SCALE = {2: 1.107, 3: 1.04, 4: 1.03}


@dataclass(frozen=True)
class Trellis(Tiled):
    """A trellis of ``state_bits`` over tiles of ``block_rows`` rows; codes are states.

    ``bits`` is 2, 3 or 4, ``block_rows`` one of :data:`lrc_kernels.trellis_code.TILE_ROWS`.
    """

    prefix: ClassVar[str] = PREFIX

    bits: int
    state_bits: int = 12
    block_rows: int = 16

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

    def search(self, tiles: F32) -> U16:
        """States of the best paths around the rings."""
        from lrc_kernels.cpu.encode.viterbi import encode_trellis

        return encode_trellis(tiles, self.bits, self.state_bits)

    def decode(self, codes: Codes) -> F32:
        """Values of the states: f32 (rows, k * block_size)."""
        states = codes[0]
        return state_values(self.state_bits)[states].reshape(len(states), -1)

    def pack(self, codes: Codes) -> Codes:
        """Words of each band of tiles: (u16 (rows / block_rows, k * 16 bits),)."""
        tiles = self._tiles(codes)
        words = pack_states(tiles.reshape(-1, TILE), self.bits)
        return (words.reshape(len(tiles), -1),)

    def unpack(self, planes: Codes, n: int) -> Codes:
        """Undo :meth:`pack`."""
        words = planes[0]
        a, b = len(words), -(-n // self.block_size)
        states = unpack_states(words.reshape(a * b, -1), self.bits, self.state_bits)
        return self._codes(states.reshape(a, b, TILE))


def quantizer(name: str, bits: int, rows: int) -> Quantizer:
    """The encoding half of ``name`` in the tiles of a matrix of ``rows`` rows.

    Raises
    ------
    SpecError
        If 16 does not divide ``rows``.
    """
    height = checked_rows(name, tile_rows(rows), rows, TILE_ROWS[-1])
    return Trellis(bits, int(name.removeprefix(PREFIX)), height)
