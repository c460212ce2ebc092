"""Bitshift trellises: 2 to 4 bits a weight, 256 weights coded together (QTIP).

=============  ====  ==========================================  =============================
codebook       bits  planes of an m x n matrix                   a weight, unscaled
=============  ====  ==========================================  =============================
trellis8 ...   2-4   u16 (m/R, ceil(n/C) * 16 bits), tiles of    value of a state of 8 to 16 bits
trellis16            R rows and C columns, 16 dividing m         (the number in the name)
=============  ====  ==========================================  =============================

A row of a plane is a band of R rows, tile after tile; R, C and the tiles, of which the last may
reach past ``n``, are those of :mod:`lrc_kernels.trellis_code`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from lrc.codebooks.base import F32, Codebook, CodedRows, EngineRow, PlaneLayout, Planes, row_scales
from lrc.codebooks.tiled import Tiled
from lrc_kernels.backend import get_kernels
from lrc_kernels.trellis_code import SEGMENTS, TILE, TILE_ROWS, UNIT, tile_rows

if TYPE_CHECKING:
    from lrc_kernels.cpu.dot.matvec_i8 import Activations

PREFIX = "trellis"


@dataclass(frozen=True)
class Trellis(Tiled):
    """States of a bitshift register, hashed to values."""

    prompt_unit: ClassVar[float | None] = float(UNIT)
    prefix: ClassVar[str] = PREFIX
    least_rows: ClassVar[int] = TILE_ROWS[-1]
    tile_rows = staticmethod(tile_rows)

    def layout(self, m: int, n: int) -> PlaneLayout:
        """One plane of 16-bit words, a row a band."""
        band = self.band(m)
        words = -(-n * band // TILE) * SEGMENTS * self.bits
        return ((np.dtype(np.uint16), (m // band, words)),)

    def values(self, planes: Planes, n: int, band: int = 1) -> F32:
        """Values of the states."""
        words = np.ascontiguousarray(planes[0])
        return get_kernels().decode_trellis(words, self.bits, self.state_bits, band, n)

    def rows(self, coded: CodedRows) -> F32:
        """Decoded by a vector kernel."""
        from lrc_kernels.cpu.codes.trellis import decode_rows_trellis

        out = np.empty((coded.count, coded.columns), np.float32)
        words = np.ascontiguousarray(coded.planes[0])
        scales = coded.wide[:, 0]
        decode_rows_trellis(words, self.bits, self.state_bits, scales, out, coded.band)
        return out

    def matvec(self, coded: CodedRows, x: F32) -> F32:
        """Products with values, never stored."""
        y = get_kernels().matvec_trellis(coded.planes[0], self.bits, self.state_bits, coded.band, x)
        y *= coded.wide[:, 0]
        return y

    def matvec_integers(self, coded: CodedRows, x: Activations, out: F32) -> None:
        """Products of integer values with integers."""
        from lrc_kernels.cpu.dot.matvec_i8 import matvec_trellis

        matvec_trellis(coded.planes[0], self.bits, self.state_bits, coded.band, x, out)
        out *= coded.wide[:, 0]

    def engine_row(self, coded: CodedRows) -> EngineRow:
        """Words where they lie, and the code's constants."""
        from lrc_kernels.cpu.dot import product
        from lrc_kernels.cpu.dot.dot_trellis import FACTOR
        from lrc_kernels.cpu.transform import activations

        return EngineRow({
            product.KIND: product.TRELLIS,
            product.ORDERS: activations.TWICE | activations.SEVEN,
            product.SECOND: self.state_bits,
            product.TABLE: int(FACTOR),
            product.REPEAT: coded.band,
            **row_scales(coded),
        }, {})  # fmt: skip


def codebook(name: str, bits: int) -> Codebook:
    """The codebook ``name``, whose ``bits`` the table has checked."""
    return Trellis(name, bits)
