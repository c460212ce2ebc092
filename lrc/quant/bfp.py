"""Block floating point: a shared exponent of least squared error, and the nearest mantissas.

Sources: MSFP (Darvish Rouhani et al. 2020), the integer formats of OCP MX (2023), and Zhang et
al. 2023, arXiv:2310.05079, for the weights of language models. They take the exponent of the
largest weight; a smaller one, which clips it, often loses less.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lrc.codebooks.bfp import BLOCK, bias, block_values, unpack_blocks
from lrc.quant.base import F32, Codes, Quantizer
from lrc_kernels.backend import get_kernels

#: What brings unit-RMS Gaussian input to where the error, a ripple of period 2, is least.
_INPUT_SCALE = {2: 1.883, 3: 1.699, 4: 1.593, 5: 1.524, 6: 1.487, 7: 1.470, 8: 1.457}


@dataclass(frozen=True)
class BlockFloat:
    """Blocks of 16 columns: mantissas of ``bits`` bits in two's complement, and an exponent."""

    bits: int
    id: str = "bfp"
    block_size: int = BLOCK
    block_rows: int = 1

    @property
    def input_scale(self) -> float:
        """Factor applied to unit-RMS input."""
        return _INPUT_SCALE[self.bits]

    def encode(self, Z: F32) -> Codes:
        """Nearest codewords: mantissas u8 (rows, k, 16) and exponents u8 (rows, k).

        Exponents from the least that clips nothing downwards are tried. Of equal errors the
        smaller exponent is taken, so that a codeword has one code.

        Notes
        -----
        Law: ``Z`` times a power of two has the same mantissas, under exponents that much larger.
        """
        blocks = np.asarray(Z, np.float32).reshape(len(Z), Z.shape[1] // BLOCK, BLOCK)
        tried = 4 if self.bits == 2 else 2  # one less, or more: more clipping than it saves
        largest = np.clip(self._unclipped(blocks), tried - 1, 255)
        units = np.ldexp(blocks, bias(self.bits) - largest[..., None])
        half = 1 << (self.bits - 1)
        least = np.full(largest.shape, np.inf, np.float32)
        exponents, codes = largest, np.zeros(blocks.shape, np.int16)
        for below in range(tried):
            mantissas = np.clip(np.rint(units * 2**below), -half, half - 1)
            error = np.square(mantissas / 2**below - units).sum(axis=2)
            better = error <= least
            least = np.where(better, error, least)
            exponents = np.where(better, largest - below, exponents)
            codes = np.where(better[..., None], mantissas.astype(np.int16), codes)
        return (codes & (2 * half - 1)).astype(np.uint8), exponents.astype(np.uint8)

    def _unclipped(self, blocks: F32) -> NDArray[np.int32]:
        """Least exponents, unbounded, at which every nearest integer is a mantissa: (rows, k)."""
        half = 1 << (self.bits - 1)
        reach = np.maximum(blocks.max(axis=2) / (half - 0.5), -blocks.min(axis=2) / (half + 0.5))
        fraction, power = np.frexp(reach)
        return np.where(reach > 0, bias(self.bits) + power - (fraction == 0.5), 0)

    def decode(self, codes: Codes) -> F32:
        """Unscaled values: f32 (rows, 16 k)."""
        rows, blocks = codes[1].shape
        return block_values(codes[0], codes[1], self.bits).reshape(rows, blocks * BLOCK)

    def pack(self, codes: Codes) -> Codes:
        """Mantissas as little-endian bit strings, and the exponents."""
        mantissas, exponents = codes
        rows = mantissas.reshape(len(mantissas), exponents.shape[1] * BLOCK)
        return get_kernels().pack_bits(rows, self.bits), exponents

    def unpack(self, planes: Codes, n: int) -> Codes:
        """Undo :meth:`pack`."""
        return unpack_blocks(planes, self.bits)


def quantizer(name: str, bits: int, rows: int) -> Quantizer:
    """The encoding half of ``name``, for any number of rows."""
    return BlockFloat(bits)
