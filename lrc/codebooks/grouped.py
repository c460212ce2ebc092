"""Whole numbers with a float16 scale for each group of a row, as packed checkpoints have them.

========  ==========  ======  ====================================================  =============
codebook  bits        group   bytes of a group, in their order                      a weight
========  ==========  ======  ====================================================  =============
gint32    2, 3, 4, 8  32      d, codes (of 3 bits the lower two, then the upper)    d (c - 2^b/2)
gint64    2, 3, 4, 8  64      the same                                              the same
gint128   2, 3, 4, 8  128     the same                                              the same
========  ==========  ======  ====================================================  =============

d is float16 of either sign. These are the values of "pack-quantized" weights of
compressed-tensors that are symmetric, and of symmetric GPTQ checkpoints; the order of bits is ours
(:mod:`lrc.codebooks.ggml_layout`), and exports put it in theirs.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np

from lrc.codebooks.base import F32, Codebook, Planes
from lrc.codebooks.ggml import GgmlBlocks
from lrc.codebooks.ggml_layout import Blocks, Field, Layout

_PREFIX = "gint"


def group_size(name: str) -> int:
    """Weights of a group.

    Examples
    --------
    >>> group_size("gint64")
    64
    """
    return int(name.removeprefix(_PREFIX))


@cache
def grouped_layout(name: str, bits: int) -> Layout:
    """The bytes of a group."""
    size = group_size(name)
    fields = {3: (Field(2, 1, size // 4), Field(1, 1, size // 8, shift=2))}
    codes = fields.get(bits, (Field(bits, 1, size * bits // 8),))
    return Layout(size, size, (("d", None), *(("codes", field) for field in codes)))


@cache
def whole_numbers(bits: int) -> F32:
    """Values of the codes: f32 (2^bits,), ascending, read-only.

    Examples
    --------
    >>> whole_numbers(2).tolist()
    [-2.0, -1.0, 0.0, 1.0]
    """
    table = np.arange(1 << bits, dtype=np.float32) - np.float32(1 << bits - 1)
    table.flags.writeable = False
    return table


@dataclass(frozen=True)
class GroupedIntegers(GgmlBlocks):
    """Groups of whole numbers; NumPy decodes them."""

    @cached_property
    def blocks(self) -> Layout:
        """The bytes of a group."""
        return grouped_layout(self.name, self.bits)

    @cached_property
    def table(self) -> F32:
        """Values of the codes."""
        return whole_numbers(self.bits)

    def waste(self, m: int, n: int) -> str | None:
        """A row that is no whole number of groups: other programs have no such groups."""
        size = self.blocks.block
        return f"has groups of {size}, and rows have {n} weights" if n % size else None

    def groups(self, planes: Planes) -> Blocks:
        """Codes u8 (m, groups, size), and scales f16 (m, groups)."""
        (plane,) = planes
        size = self.blocks.size
        return self.blocks.unpack(plane.reshape(len(plane), plane.shape[1] // size, size))


def codebook(name: str, bits: int) -> Codebook:
    """The codebook ``name``, whose ``bits`` the table has checked."""
    return GroupedIntegers(name, bits)
