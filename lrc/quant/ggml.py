"""Encoding half of ggml's grids: scales of least squared error, and the nearest codes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from lrc.codebooks.ggml import LAYOUTS, block_values, code_values
from lrc.codebooks.ggml_grids import GridLayout
from lrc.codebooks.ggml_layout import Blocks, Layout
from lrc.quant.base import F32, Codes, Quantizer
from lrc.quant.ggml_grids import fit_grid
from lrc.quant.ggml_scales import fit_blocks


@dataclass(frozen=True)
class GgmlBlocks:
    """Blocks of 32 or 256 columns, with scales of their own.

    Unpacked codes are those of :class:`lrc.codebooks.ggml_layout.Blocks`: u8 (rows, k, block), i8
    and u8 (rows, k, stretches), and float16 (rows, k) twice.
    """

    id: str
    bits: int
    block_rows: int = 1
    input_scale: float = 1.0

    @cached_property
    def layout(self) -> Layout | GridLayout:
        """The bytes of a block."""
        return LAYOUTS[self.id]

    @cached_property
    def table(self) -> F32:
        """Values of the codes, f32 (codes,)."""
        return code_values(self.id, self.bits)

    @property
    def least(self) -> int:
        """The first code that is used: -128 of 8 bits, which has no counterpart, is not."""
        return int(len(self.table) == 256)

    @property
    def block_size(self) -> int:
        """Columns of a block."""
        return self.layout.block

    @property
    def feedback_size(self) -> int:
        """Columns that LDLQ rounds together: within a block codes follow one another."""
        return 1

    def encode(self, Z: F32) -> Codes:
        """Codes of ``Z`` under scales of least squared error."""
        return self.fit(Z, np.ones(self.block_size, np.float32))

    def fit(self, Z: F32, weights: F32) -> Blocks:
        """Scales of whole blocks ``Z`` (rows, k block) and the nearest codes under them.

        ``weights``, which broadcasts against (rows, k, block), says what the squared error of a
        weight counts.
        """
        blocks = np.asarray(Z, np.float32).reshape(
            len(Z), Z.shape[1] // self.block_size, self.block_size
        )
        if isinstance(self.layout, GridLayout):
            return fit_grid(blocks, weights, self.layout)
        return fit_blocks(blocks, weights, self.layout, self.table)

    def decode(self, codes: Codes) -> F32:
        """Values, as GGUF's readers round them: f32 (rows, k block)."""
        values = block_values(Blocks(*codes), self.layout.stretch, self.table)
        return values.reshape(len(values), values.shape[1] * self.block_size)

    def pack(self, codes: Codes) -> Codes:
        """The bytes of a GGUF tensor, one plane."""
        packed = self.layout.pack(Blocks(*codes))
        return (packed.reshape(len(packed), packed.shape[1] * self.layout.size),)

    def unpack(self, planes: Codes, n: int) -> Codes:
        """Undo :meth:`pack`."""
        (plane,) = planes
        count = -(-n // self.block_size)
        return self.layout.unpack(plane.reshape(len(plane), count, self.layout.size))


def quantizer(name: str, bits: int, rows: int) -> Quantizer:
    """The encoding half of ``name``, for any number of rows."""
    return GgmlBlocks(name, bits)
