"""Encoding half of whole numbers in groups: as ggml's grids, with the group as the block."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from lrc.codebooks.ggml_layout import Layout
from lrc.codebooks.grouped import grouped_layout, whole_numbers
from lrc.quant.base import F32, Quantizer
from lrc.quant.ggml import GgmlBlocks


@dataclass(frozen=True)
class GroupedIntegers(GgmlBlocks):
    """Groups of columns, each with one float16 scale."""

    @cached_property
    def layout(self) -> Layout:
        """The bytes of a group."""
        return grouped_layout(self.id, self.bits)

    @cached_property
    def table(self) -> F32:
        """Values of the codes, f32 (2^bits,)."""
        return whole_numbers(self.bits)


def quantizer(name: str, bits: int, rows: int) -> Quantizer:
    """The encoding half of ``name``, for any number of rows."""
    return GroupedIntegers(name, bits)
