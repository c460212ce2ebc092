"""Shuffle-trellis codebooks: 2 to 4 bits a weight, 256 weights coded together.

The code and its rings are in :mod:`lrc_kernels.shuffle_code`; they are found by the search of the
bitshift trellis (Tseng et al. 2024, arXiv:2406.11235).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from lrc.codebooks.shuffle import PREFIX
from lrc.quant.base import F32, Codes, Quantizer
from lrc.quant.tiled import U16, Tiled, checked_rows
from lrc_kernels.shuffle_code import (
    CODES,
    TILE_ROWS,
    UNIT,
    pack_states,
    ring_values,
    tile_rows,
    unpack_states,
)
from lrc_kernels.trellis_code import tiles_to_rows
from lrc_kernels.trellis_fixed import RingCode, shuffled_code

if TYPE_CHECKING:
    from lrc_kernels.cpu.encode.columns import ColumnSearch

#: What brings unit-RMS input to the best range of the code under feedback, over the scale that is
#: best for a Gaussian, by bits.
_UNDER_FEEDBACK = {2: 1.0, 3: 0.96, 4: 0.95}


@dataclass(frozen=True)
class Shuffle(Tiled):
    """A shuffle trellis over tiles of ``block_rows`` rows; codes are states."""

    prefix: ClassVar[str] = PREFIX

    bits: int
    state_bits: int = 12
    block_rows: int = 32

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

    def search(self, tiles: F32) -> U16:
        """States of the best paths around the rings."""
        from lrc_kernels.cpu.encode.rings import encode_shuffle

        return encode_shuffle(tiles, self.bits, self.state_bits)

    def decode(self, codes: Codes) -> F32:
        """Values of the states: f32 (rows, k * block_size)."""
        rings = self._tiles(codes)
        return tiles_to_rows(ring_values(rings, self.bits, self.state_bits), self.block_rows)

    def pack(self, codes: Codes) -> Codes:
        """Bytes of each band of tiles."""
        return (pack_states(self._tiles(codes), self.bits, self.block_rows),)

    def unpack(self, planes: Codes, n: int) -> Codes:
        """Undo :meth:`pack`."""
        rings = -(-n // self.block_size)
        states = unpack_states(planes[0], self.bits, self.state_bits, self.block_rows, rings)
        return self._codes(states)


def quantizer(name: str, bits: int, rows: int) -> Quantizer:
    """The encoding half of ``name`` in the tiles of a matrix of ``rows`` rows.

    Raises
    ------
    SpecError
        If 32 does not divide ``rows``.
    """
    height = checked_rows(name, tile_rows(rows), rows, TILE_ROWS[-1])
    return Shuffle(bits, int(name.removeprefix(PREFIX)), height)
