"""What quantizers share whose codes are the states of a register over tiles of 256 weights.

Tiles are as tall as the rows allow, up to one column wide: then LDLQ's feedback and the polish see
single columns, where rounding in the Euclidean metric is exact.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from lrc.errors import SpecError
from lrc.quant.base import F32, Codes
from lrc_kernels.trellis_code import TILE, rows_to_tiles, tiles_to_rows

U16 = NDArray[np.uint16]


@dataclass(frozen=True)
class Tiled(ABC):
    """Tiles of ``block_rows`` rows; codes are states u16 (rows, k, block_size)."""

    prefix: ClassVar[str]

    bits: int
    state_bits: int
    block_rows: int

    @property
    def id(self) -> str:
        """Codebook name."""
        return f"{self.prefix}{self.state_bits}"

    @property
    def block_size(self) -> int:
        """Columns of a tile."""
        return TILE // self.block_rows

    @abstractmethod
    def search(self, tiles: F32) -> U16:
        """States (count, 256) of tiles f32 (count, 256) whose values are nearest."""

    def encode(self, Z: F32) -> Codes:
        """States of the tiles of ``Z`` (rows, k * block_size): (u16 (rows, k, block_size),)."""
        tiles = rows_to_tiles(Z, self.block_rows)
        states = self.search(tiles.reshape(-1, TILE))
        return self._codes(states.reshape(tiles.shape))

    def _codes(self, states: NDArray[Any]) -> Codes:
        """Codes of the states (bands, tiles, 256) of tiles."""
        flat = tiles_to_rows(states, self.block_rows)
        return (np.ascontiguousarray(flat).reshape(len(flat), states.shape[1], self.block_size),)

    def _tiles(self, codes: Codes) -> NDArray[Any]:
        """Undo `_codes`."""
        states = codes[0].reshape(len(codes[0]), -1)
        return rows_to_tiles(states, self.block_rows)


def checked_rows(name: str, tile_rows: int, rows: int, least: int) -> int:
    """``tile_rows``, unless it is 0.

    Raises
    ------
    SpecError
        If ``least`` does not divide ``rows``.
    """
    if tile_rows == 0:
        raise SpecError(f"{name} needs a multiple of {least} rows, not {rows}; use a lattice")
    return tile_rows
