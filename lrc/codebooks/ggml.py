"""Grids of ggml, as GGUF files have them: codes, and scales of their own in every block.

=========  ====  ======  ===============================================  ====================
codebook   bits  block   bytes of a block, in all and in their order      a weight
=========  ====  ======  ===============================================  ====================
q4_0       4     32      18: d, codes                                     d (c - 8)
q4_1       4     32      20: d, m, codes                                  d c + m
q5_0       5     32      22: d, codes' upper bits, lower bits             d (c - 16)
q5_1       5     32      24: d, m, upper bits, lower bits                 d c + m
q8_0       8     32      34: d, codes                                     d c, c signed
iq4_nl     4     32      18: d, codes                                     d v[c]
q2_k       2     256     84: scales and mins of 4 bits, codes, d, dmin    d s c - dmin m
q3_k       3     256     110: upper bits, lower bits, scales, d           d s (c - 4)
q4_k       4     256     144: d, dmin, scales and mins of 6 bits, codes   d s c - dmin m
q5_k       5     256     176: the same, upper bits before lower ones      d s c - dmin m
q6_k       6     256     210: lower bits, upper bits, scales, d           d s (c - 32)
iq4_xs     4     256     136: d, scales' upper bits, lower bits, codes    d s v[c]
=========  ====  ======  ===============================================  ====================

Those of vectors (iq3_xxs, iq2_xs, iq2_xxs) are described in :mod:`lrc.codebooks.ggml_grids`.

d, m and dmin are float16; s and the m of larger blocks belong to stretches of 16 weights (q2_k,
q3_k, q6_k) or 32. v are the 16 values of the uneven grid. The one plane of an m x n matrix is u8
(m, bytes of a row's blocks), the bytes of a GGUF tensor; products and sums are rounded as there.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np

from lrc.codebooks.base import F32, Codebook, PlaneLayout, Planes
from lrc.codebooks.ggml_grids import GRIDS, GridLayout
from lrc.codebooks.ggml_layout import Affine4, Affine6, Blocks, Field, Layout

_D, _DMIN = ("d", None), ("dmin", None)
_HALVES = ("codes", Field(4, 1, 16))
_FIFTH = ("codes", Field(1, 4, 1, shift=4))
_NIBBLES = ("codes", Field(4, 4, 32))
_PAIRS = ("codes", Field(2, 2, 32))
_SCALES6 = ("affine", Affine6())

LAYOUTS: dict[str, Layout | GridLayout] = {
    "q4_0": Layout(32, 32, (_D, _HALVES)),
    "q4_1": Layout(32, 32, (_D, _DMIN, _HALVES), negated=True),
    "q5_0": Layout(32, 32, (_D, _FIFTH, _HALVES)),
    "q5_1": Layout(32, 32, (_D, _DMIN, _FIFTH, _HALVES), negated=True),
    "q8_0": Layout(32, 32, (_D, ("codes", Field(8, 1, 32, flip=0x80)))),
    "iq4_nl": Layout(32, 32, (_D, _HALVES)),
    "q2_k": Layout(256, 16, (("affine", Affine4()), _PAIRS, _D, _DMIN)),
    "q3_k": Layout(
        256, 16,
        (("codes", Field(1, 1, 32, shift=2)), _PAIRS,
         ("scales", Field(4, 1, 8)), ("scales", Field(2, 1, 4, shift=4)), _D),
        zero=32,
    ),
    "q4_k": Layout(256, 32, (_D, _DMIN, _SCALES6, _NIBBLES)),
    "q5_k": Layout(256, 32, (_D, _DMIN, _SCALES6, ("codes", Field(1, 1, 32, shift=4)), _NIBBLES)),
    "q6_k": Layout(
        256, 16,
        (("codes", Field(4, 2, 64)), ("codes", Field(2, 2, 32, shift=4)),
         ("scales", Field(8, 1, 16)), _D),
    ),
    "iq4_xs": Layout(
        256, 32,
        (_D, ("scales", Field(2, 2, 1, shift=4)), ("scales", Field(4, 4, 1)),
         ("codes", Field(4, 8, 16))),
        zero=32,
    ),
    **GRIDS,
}  # fmt: skip
#: The 16 values of the uneven grid, which are dense where weights are.
_UNEVEN = (-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113)
#: Values of code 0 where codes count in ones.
_FIRST = {"q4_0": -8, "q5_0": -16, "q8_0": -128, "q3_k": -4, "q6_k": -32}


def code_values(name: str, bits: int) -> F32:
    """What a code stands for before it is scaled: f32 (codes,), ascending, read-only."""
    if name in GRIDS:
        return GRIDS[name].table
    if name.startswith("iq4"):
        table = np.array(_UNEVEN, np.float32)
    else:
        table = np.arange(1 << bits, dtype=np.float32) + np.float32(_FIRST.get(name, 0))
    table.flags.writeable = False
    return table


def scaled(blocks: Blocks, stretch: int) -> tuple[F32, F32]:
    """What multiplies the value of each weight, and what is then taken off: f32 (..., block)."""
    scale = blocks.d.astype(np.float32)[..., None] * blocks.scales.astype(np.float32)
    offset = blocks.dmin.astype(np.float32)[..., None] * blocks.mins.astype(np.float32)
    return np.repeat(scale, stretch, axis=-1), np.repeat(offset, stretch, axis=-1)


def block_values(blocks: Blocks, stretch: int, table: F32) -> F32:
    """Weights of blocks, f32 (..., block), rounded as ggml rounds them."""
    scale, offset = scaled(blocks, stretch)
    values = scale * table[blocks.codes]
    values -= offset
    return values


@dataclass(frozen=True)
class GgmlBlocks(Codebook):
    """Blocks as GGUF files have them; NumPy decodes them."""

    absolute: ClassVar[bool] = True

    @cached_property
    def blocks(self) -> Layout | GridLayout:
        """The bytes of a block."""
        return LAYOUTS[self.name]

    @cached_property
    def table(self) -> F32:
        """Values of the codes before they are scaled: f32 (2^bits,)."""
        return code_values(self.name, self.bits)

    @property
    def scale_bits(self) -> float:
        """Bits a weight of scales, and of codes that no weight uses."""
        return 8 * self.blocks.size / self.blocks.block - self.bits

    def layout(self, m: int, n: int) -> PlaneLayout:
        """Bytes of whole blocks."""
        count = -(-n // self.blocks.block)
        return ((np.dtype(np.uint8), (m, count * self.blocks.size)),)

    def padding(self, n: int) -> int:
        """Columns that fill the last block."""
        return -n % self.blocks.block

    def waste(self, m: int, n: int) -> str | None:
        """A row that is no whole number of blocks: no GGUF file can have it."""
        block = self.blocks.block
        return f"has blocks of {block}, and rows have {n} weights" if n % block else None

    def values(self, planes: Planes, n: int, band: int = 1) -> F32:
        """Codes times scales, less mins."""
        (plane,) = planes
        layout = self.blocks
        count = plane.shape[1] // layout.size
        blocks = layout.unpack(plane.reshape(len(plane), count, layout.size))
        whole = block_values(blocks, layout.stretch, self.table)
        return np.ascontiguousarray(whole.reshape(len(plane), count * layout.block)[:, :n])


def codebook(name: str, bits: int) -> Codebook:
    """The codebook ``name``, whose ``bits`` the table has checked."""
    return GgmlBlocks(name, bits)
