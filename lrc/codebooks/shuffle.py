"""Shuffle trellises: 2 to 4 bits a weight, 256 weights coded together, values by byte shuffles.

=============  ====  ==========================================  =============================
codebook       bits  planes of an m x n matrix                   a weight, unscaled
=============  ====  ==========================================  =============================
shuffle10      2     u8 (m/R, bytes of a band), tiles of R rows  value of a state of 10 or 12
shuffle12      2-4   and 256/R columns, 32 dividing m            bits (the number in the name)
=============  ====  ==========================================  =============================

A row of a plane is a band of R rows; R, the order of its bytes, and the codes are those of
:mod:`lrc_kernels.shuffle_code`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from lrc.codebooks.base import F32, Codebook, CodedRows, EngineRow, PlaneLayout, Planes, row_scales
from lrc.codebooks.tiled import Tiled
from lrc_kernels.shuffle_code import (
    RINGS,
    TILE_ROWS,
    UNIT,
    plane_bytes,
    state_levels,
    tile_rows,
)
from lrc_kernels.trellis_code import TILE

if TYPE_CHECKING:
    from lrc_kernels.cpu.dot.matvec_i8 import Activations

PREFIX = "shuffle"


@dataclass(frozen=True)
class Shuffle(Tiled):
    """States of a bitshift register, whose bits are combined to an index of a small table."""

    prompt_unit: ClassVar[float | None] = float(UNIT)
    prefix: ClassVar[str] = PREFIX
    least_rows: ClassVar[int] = TILE_ROWS[-1]
    tile_rows = staticmethod(tile_rows)

    def waste(self, m: int, n: int) -> str | None:
        """Where eights of rings reach far past the last column."""
        wide = RINGS * TILE // tile_rows(m)
        padded = -(-n // wide) * wide
        return f"stores {padded} columns of {n}" if padded - n > n // 16 else None

    def layout(self, m: int, n: int) -> PlaneLayout:
        """One plane of bytes, a row a band."""
        band = self.band(m)
        return ((np.dtype(np.uint8), (m // band, plane_bytes(n, self.bits, band))),)

    def values(self, planes: Planes, n: int, band: int = 1) -> F32:
        """Values of the states."""
        return self._decoded(planes, n, band, np.ones(1, np.float32))

    def rows(self, coded: CodedRows) -> F32:
        """Decoded with their scales."""
        return self._decoded(coded.planes, coded.columns, coded.band, coded.wide[:, 0])

    def _decoded(self, planes: Planes, n: int, band: int, scales: F32) -> F32:
        from lrc_kernels.cpu.codes.shuffle import decode_rows_shuffle

        data = np.ascontiguousarray(planes[0])
        out = np.empty((len(data) * band, n), np.float32)
        decode_rows_shuffle(data, self.bits, self.state_bits, scales, out, band)
        return out

    def matvec_integers(self, coded: CodedRows, x: Activations, out: F32) -> None:
        """Products of integer values with integers."""
        from lrc_kernels.cpu.dot.matvec_i8 import matvec_shuffle

        matvec_shuffle(coded.planes[0], self.bits, self.state_bits, coded.band, x, out)
        out *= coded.wide[:, 0]

    def engine_row(self, coded: CodedRows) -> EngineRow:
        """Bytes where they lie, and the levels of all states."""
        from lrc_kernels.cpu.dot import product
        from lrc_kernels.cpu.transform import activations

        return EngineRow({
            product.KIND: product.SHUFFLE,
            product.ORDERS: activations.SEVEN,
            product.SECOND: self.state_bits,
            product.TABLE: state_levels(self.bits, self.state_bits),
            product.REPEAT: coded.band,
            **row_scales(coded),
        }, {})  # fmt: skip


def codebook(name: str, bits: int) -> Codebook:
    """The codebook ``name``, whose ``bits`` the table has checked."""
    return Shuffle(name, bits)
