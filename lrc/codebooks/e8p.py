"""Lattice codebooks on E8: E8P at 2 bits, with a residual stage at 3 and 4 (QuIP#).

=============  ====  ==========================================  =============================
codebook       bits  planes of an m x n matrix                   a weight, unscaled
=============  ====  ==========================================  =============================
e8p            2     u16 (m, ceil(n/8))                          e8p point
e8p-rvq3       3     u16 (m, ceil(n/8)), u8 (m, ceil(n/8))       e8p point + e81b point / 2.04
e8p-rvq4       4     u16 (m, ceil(n/8)), u16 (m, ceil(n/8))      e8p point + e8p point / 3.75
=============  ====  ==========================================  =============================

Vectors run along a row, eight columns each; the last one may reach past ``n``, and what lies
there is ignored. The points are defined in :mod:`lrc_kernels.lattice_tables`. The residual scale
of e8p-rvq3 is that of QuIP# (Tseng et al. 2024); for e8p-rvq4, 3.75 with input scale 0.91 has a
Gaussian error of 0.0083, against 0.0097 for the published 3.45 with 1.03.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from lrc.codebooks.base import F32, Codebook, CodedRows, EngineRow, PlaneLayout, Planes, row_scales
from lrc_kernels.backend import get_kernels

if TYPE_CHECKING:
    from lrc_kernels.cpu.dot.matvec_i8 import Activations

#: The residual of the first stage is multiplied by this before the second stage is rounded.
RESIDUAL_SCALE = {3: 2.04, 4: 3.75}
_VECTOR = 8


@dataclass(frozen=True)
class E8P(Codebook):
    """E8P points, and from 3 bits on a second stage; the width tells them apart."""

    compiled: ClassVar[bool] = True

    def layout(self, m: int, n: int) -> PlaneLayout:
        """One plane of 16 bits a vector; a second of 8 or 16."""
        vectors = (m, -(-n // _VECTOR))
        first = (np.dtype(np.uint16), vectors)
        if self.bits == 2:
            return (first,)
        return first, (np.dtype(np.uint8 if self.bits == 3 else np.uint16), vectors)

    def padding(self, n: int) -> int:
        """Columns that fill the last vector."""
        return -n % _VECTOR

    def values(self, planes: Planes, n: int, band: int = 1) -> F32:
        """Points of the vectors, added where there are two stages."""
        values = get_kernels().decode_e8p(planes[0].reshape(-1))
        if self.bits > 2:
            values += self.second(planes[1].reshape(-1)) / np.float32(RESIDUAL_SCALE[self.bits])
        return np.ascontiguousarray(
            values.reshape(len(planes[0]), _VECTOR * planes[0].shape[1])[:, :n]
        )

    def second(self, codes: NDArray[Any]) -> F32:
        """Points of the second stage, as they were rounded."""
        kernels = get_kernels()
        return kernels.decode_e81b(codes) if self.bits == 3 else kernels.decode_e8p(codes)

    def rows(self, coded: CodedRows) -> F32:
        """Decoded by a vector kernel."""
        from lrc_kernels.cpu.codes.decode_rows import decode_rows_lattice

        out = np.empty((coded.count, coded.columns), np.float32)
        decode_rows_lattice(
            coded.planes[0], coded.wide[:, 0], coded.columns, out, self._residual(coded),
            RESIDUAL_SCALE.get(self.bits, 1.0),
        )  # fmt: skip
        return out

    def matvec(self, coded: CodedRows, x: F32) -> F32:
        """Products with the points, never stored."""
        kernels, first = get_kernels(), coded.planes[0]
        x = np.pad(x, (0, -coded.columns % _VECTOR))
        if self.bits == 2:
            y = kernels.matvec_e8p(first, x)
        else:
            product = kernels.matvec_e8p_rvq3 if self.bits == 3 else kernels.matvec_e8p_rvq4
            y = product(first, coded.planes[1], RESIDUAL_SCALE[self.bits], x)
        y *= coded.wide[:, 0]
        return y

    def takes_integers(self, coded: CodedRows) -> bool:
        """Always."""
        return True

    def matvec_integers(self, coded: CodedRows, x: Activations, out: F32) -> None:
        """Products of bytes with the points in halves."""
        from lrc_kernels.cpu.dot.matvec_i8 import matvec_lattice

        divisor = RESIDUAL_SCALE.get(self.bits, 1.0)
        matvec_lattice(coded.planes[0], x, self._residual(coded), divisor, out)
        out *= coded.wide[:, 0]

    def engine_row(self, coded: CodedRows) -> EngineRow:
        """Codes of both stages where they lie."""
        from lrc_kernels.cpu.dot import product
        from lrc_kernels.cpu.transform import activations

        integers: dict[int, int | NDArray[Any]] = {
            product.KIND: product.LATTICE,
            product.ORDERS: activations.LATTICE,
            **row_scales(coded),
        }
        if self.bits == 2:
            return EngineRow(integers, {})
        inverse = {product.INVERSE: 1 / RESIDUAL_SCALE[self.bits]}
        return EngineRow(integers | {product.SECOND: coded.planes[1]}, inverse)

    def _residual(self, coded: CodedRows) -> NDArray[Any] | None:
        return coded.planes[1] if len(coded.planes) > 1 else None


def codebook(name: str, bits: int) -> Codebook:
    """The codebook ``name``, whose ``bits`` the table has checked."""
    return E8P(name, bits)
