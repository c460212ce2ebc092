"""Scalar codebooks: one code a weight, nearest of an ascending table."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lrc.codebooks.levels import levels
from lrc.quant.base import F32, Codes, Quantizer
from lrc_kernels.backend import get_kernels

# Best step of a uniform midrise quantizer of N(0, 1) by bits (Max 1960; above 5 bits solved
# from the same optimality condition).
_BEST_STEP = {2: 0.99569, 3: 0.58602, 4: 0.33520, 5: 0.18814, 6: 0.10406, 7: 0.05687, 8: 0.03076}


@dataclass(frozen=True)
class _Scalar:
    bits: int
    block_size: int = 1
    block_rows: int = 1
    id: str = ""

    def encode(self, Z: F32) -> Codes:
        """Nearest levels: (u8 (rows, n),)."""
        return (get_kernels().nearest_level(np.asarray(Z, np.float32), levels(self.id, self.bits)),)

    def decode(self, codes: Codes) -> F32:
        """Levels: f32 (rows, n)."""
        return levels(self.id, self.bits)[codes[0]]

    def pack(self, codes: Codes) -> Codes:
        """Rows as little-endian bit strings: (u8 (rows, ceil(n * bits / 8)),)."""
        return (get_kernels().pack_bits(codes[0], self.bits),)

    def unpack(self, planes: Codes, n: int) -> Codes:
        """Undo :meth:`pack`: (u8 (rows, n),)."""
        return (get_kernels().unpack_bits(planes[0], self.bits, n),)


@dataclass(frozen=True)
class Uniform(_Scalar):
    """Equally spaced levels, step 1, symmetric, no zero level."""

    id: str = "uniform"

    @property
    def input_scale(self) -> float:
        """One over the best step for a unit Gaussian."""
        return 1 / _BEST_STEP[self.bits]


@dataclass(frozen=True)
class LloydMax(_Scalar):
    """The levels of least squared error for a unit Gaussian."""

    id: str = "lloyd-max"

    @property
    def input_scale(self) -> float:
        """1: the table is made for unit variance."""
        return 1.0


def quantizer(name: str, bits: int, rows: int) -> Quantizer:
    """The encoding half of ``name``, for any number of rows."""
    made: Quantizer = Uniform(bits) if name == "uniform" else LloydMax(bits)
    return made
