"""What codebooks share whose codes are tiles of 256 weights: bands of rows, integer products."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from lrc.codebooks.base import Codebook, CodedRows
from lrc.errors import FormatError


@dataclass(frozen=True)
class Tiled(Codebook):
    """States of a bitshift register over tiles that are as tall as the rows allow.

    Attributes
    ----------
    prefix
        Of the name; the bits of a state follow.
    least_rows
        Height of the lowest tiles: rows are multiples of it.
    """

    compiled: ClassVar[bool] = True
    prefix: ClassVar[str]
    least_rows: ClassVar[int]

    @property
    def state_bits(self) -> int:
        """Bits of a state."""
        return int(self.name.removeprefix(self.prefix))

    @staticmethod
    @abstractmethod
    def tile_rows(m: int) -> int:
        """Height of the tiles of ``m`` rows; 0 where none divides them."""

    def misfit(self, m: int) -> str | None:
        """Where no tile divides the rows."""
        if self.tile_rows(m):
            return None
        return f"needs rows in multiples of {self.least_rows}, not {m}"

    def band(self, m: int) -> int:
        """Rows of a tile."""
        why = self.misfit(m)
        if why is not None:
            raise FormatError(f"codebook {self.name} {why}")
        return self.tile_rows(m)

    def takes_integers(self, coded: CodedRows) -> bool:
        """Always."""
        return True
