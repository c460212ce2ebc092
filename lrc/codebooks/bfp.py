"""Block floating point: 16 weights of a row share an exponent, each has a mantissa of its own.

=============  ====  ==========================================  =============================
codebook       bits  planes of an m x n matrix                   a weight, unscaled
=============  ====  ==========================================  =============================
bfp            2-8   u8 (m, ceil(n/16) * 2 bits), packed row     c * 2^(e - 127 - bits), with
                     by row; u8 (m, ceil(n/16)), exponents e     c the code in two's complement
=============  ====  ==========================================  =============================

``bits`` are those of a mantissa; the exponents are scales, and cost half a bit a weight more. As
in MSFP and the integer formats of OCP MX, a mantissa is a fraction in [-1, 1); here 2^(e - 128)
multiplies it, so that every byte is an exponent. The last block of a row may reach past ``n``,
and what lies there is ignored.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lrc.codebooks.base import F32, Codebook, PlaneLayout, Planes
from lrc_kernels.backend import get_kernels

#: Weights that share an exponent.
BLOCK = 16
_BIAS = 128


def bias(bits: int) -> int:
    """What to take from a stored exponent for that of one unit of its block's mantissas."""
    return _BIAS + bits - 1


def block_values(codes: NDArray[np.uint8], exponents: NDArray[np.uint8], bits: int) -> F32:
    """Values of ``codes`` (..., k, 16) under ``exponents`` (..., k): f32 (..., k, 16), exact."""
    sign = np.uint8(1 << (bits - 1))
    mantissas = ((codes ^ sign).astype(np.int16) - sign).astype(np.float32)
    values: F32 = np.ldexp(mantissas, exponents[..., None].astype(np.int32) - bias(bits))
    return values


def unpack_blocks(planes: Planes, bits: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Codes u8 (rows, k, 16) and exponents u8 (rows, k) of stored planes."""
    packed, exponents = planes
    codes = get_kernels().unpack_bits(packed, bits, exponents.shape[1] * BLOCK)
    return codes.reshape(*exponents.shape, BLOCK), exponents


@dataclass(frozen=True)
class BlockFloat(Codebook):
    """Mantissas under exponents; NumPy decodes them, and no kernel multiplies them as codes."""

    @property
    def scale_bits(self) -> float:
        """A byte a block."""
        return 8 / BLOCK

    def layout(self, m: int, n: int) -> PlaneLayout:
        """Mantissas of whole blocks, and a byte a block."""
        blocks, byte = -(-n // BLOCK), np.dtype(np.uint8)
        return (byte, (m, blocks * BLOCK * self.bits // 8)), (byte, (m, blocks))

    def padding(self, n: int) -> int:
        """Columns that fill the last block."""
        return -n % BLOCK

    def values(self, planes: Planes, n: int, band: int = 1) -> F32:
        """Mantissas times powers of two."""
        rows, blocks = planes[1].shape
        whole = block_values(*unpack_blocks(planes, self.bits), self.bits)
        return np.ascontiguousarray(whole.reshape(rows, blocks * BLOCK)[:, :n])


def codebook(name: str, bits: int) -> Codebook:
    """The codebook ``name``, whose ``bits`` the table has checked."""
    return BlockFloat(name, bits)
